//! `tasker-ctl auth key`.

use chrono::{DateTime, Utc};
use clap::{Args, Subcommand};
use serde::Serialize;
use tasker_client::{ApiKey, Client, NewApiKey, permission};

use super::{limit, reach};
use crate::failure::Failure;
use crate::output::{self, Output};

#[derive(Debug, Subcommand)]
pub(crate) enum KeyCommand {
    /// Make a key and print it: it is shown this once, and only its hash is kept
    #[command(
        after_help = "Example:\n  tasker-ctl auth key create billing --permission tasks:create --permission tasks:read --namespace invoices"
    )]
    Create(KeyOptions),
    /// List the keys there are, revoked and expired ones too
    #[command(after_help = "Example:\n  tasker-ctl auth key list")]
    List,
    /// Revoke a key for good; servers refuse it within the time for which they remember a check, ten seconds unless told otherwise
    #[command(after_help = "Example:\n  tasker-ctl auth key revoke billing")]
    Revoke {
        /// The key's name
        name: String,
    },
}

#[derive(Debug, Args)]
pub(crate) struct KeyOptions {
    /// The key's name, by which history tells who called; none is given twice
    name: String,
    /// What the key allows: resource:action, resource:* or *; may be given several times
    #[arg(short, long = "permission", value_name = "PERMISSION", required = true)]
    permissions: Vec<String>,
    /// A namespace that the key reaches; may be given several times, and left out to reach all
    #[arg(short, long = "namespace", value_name = "NAMESPACE")]
    namespaces: Vec<String>,
    /// When the key expires, as 2030-01-31T12:00:00Z
    #[arg(long, value_name = "TIME")]
    expires_at: Option<DateTime<Utc>>,
}

#[derive(Serialize)]
struct Created {
    name: String,
    key: String,
}

#[derive(Serialize)]
struct Revoked {
    name: String,
    revoked: bool,
}

pub(super) async fn run(
    command: KeyCommand,
    client: &Client,
    output: Output,
) -> Result<(), Failure> {
    match command {
        KeyCommand::Create(options) => create(client, options, output).await,
        KeyCommand::List => list(client, output).await,
        KeyCommand::Revoke { name } => revoke(client, name, output).await,
    }
}

async fn create(client: &Client, options: KeyOptions, output: Output) -> Result<(), Failure> {
    permission::check_known(&options.permissions)?;
    let new = NewApiKey {
        name: options.name,
        permissions: options.permissions,
        namespaces: limit(options.namespaces),
        expires_at: options.expires_at,
    };
    let key = client.create_api_key(&new).await?;
    let created = Created {
        name: new.name,
        key,
    };
    // The bare key, so that a shell can keep it in a variable.
    output.show(&created, || created.key.clone())
}

async fn list(client: &Client, output: Output) -> Result<(), Failure> {
    let keys = client.list_api_keys().await?;
    output.show(&keys, || {
        let rows = keys.iter().map(row);
        output::table(
            [
                "NAME",
                "STATE",
                "PERMISSIONS",
                "NAMESPACES",
                "CREATED",
                "EXPIRES",
                "USED",
            ],
            rows,
        )
    })
}

fn row(key: &ApiKey) -> [String; 7] {
    let time = |at: Option<DateTime<Utc>>| at.map(output::time).unwrap_or_default();
    [
        key.name.clone(),
        key.problem.clone().unwrap_or_else(|| "good".to_owned()),
        key.permissions.join(", "),
        reach(key.namespaces.as_deref()),
        output::time(key.created_at),
        time(key.expires_at),
        time(key.used_at),
    ]
}

async fn revoke(client: &Client, name: String, output: Output) -> Result<(), Failure> {
    let revoked = client.revoke_api_key(&name).await?;
    let revoked = Revoked { name, revoked };
    output.show(&revoked, || {
        let outcome = if revoked.revoked {
            "revoked"
        } else {
            "revoked before"
        };
        format!("{} {outcome}", revoked.name)
    })
}
