//! `tasker-ctl namespace`.

use clap::{Args, Subcommand};
use serde::Serialize;
use tasker_client::{Client, Namespace, NamespaceGrant};

use crate::failure::Failure;
use crate::output::{self, Output};
use crate::tasks;

#[derive(Debug, Subcommand)]
pub(crate) enum NamespaceCommand {
    /// List the namespaces, with their settings and who paused them
    #[command(after_help = "Example:\n  tasker-ctl namespace list")]
    List,
    /// Pause a namespace: its running steps finish, nothing else begins in it
    #[command(
        after_help = "Example:\n  tasker-ctl namespace pause shop --reason 'the warehouse is closed'"
    )]
    Pause {
        /// The namespace
        name: String,
        /// Why; shown while it is paused
        #[arg(long)]
        reason: Option<String>,
    },
    /// Resume a paused namespace
    #[command(after_help = "Example:\n  tasker-ctl namespace resume shop")]
    Resume {
        /// The namespace
        name: String,
    },
    /// Set the settings of a namespace, in place of those it has
    #[command(after_help = "Example:\n  tasker-ctl namespace set shop '{\"retention_days\": 30}'")]
    Set {
        /// The namespace
        name: String,
        /// All its settings: a JSON object, @FILE to read it from a file, @- from standard input
        #[arg(value_name = "JSON|@FILE")]
        settings: String,
    },
    /// Let a role do something in a namespace; it counts while the check of namespaces is on
    #[command(after_help = "Example:\n  tasker-ctl namespace grant shop billing create")]
    Grant {
        #[command(flatten)]
        holder: Holder,
        /// What; operate includes read, no other includes another
        #[arg(value_parser = ["read", "create", "work", "operate"])]
        privilege: String,
    },
    /// Take back a privilege of a role in a namespace, or all that it was granted there
    #[command(after_help = "Example:\n  tasker-ctl namespace revoke shop billing create")]
    Revoke {
        #[command(flatten)]
        holder: Holder,
        /// Which; all when left out
        #[arg(value_parser = ["read", "create", "work", "operate"])]
        privilege: Option<String>,
    },
    /// List the grants of a namespace with those of all, or every grant
    #[command(after_help = "Example:\n  tasker-ctl namespace grants shop")]
    Grants {
        /// The namespace; all when left out
        name: Option<String>,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Holder {
    /// The namespace; * for all
    name: String,
    /// The role; its members have the grant too
    role: String,
}

/// What was done to a namespace.
#[derive(Serialize)]
struct Changed {
    name: String,
    #[serde(flatten)]
    change: Change,
}

#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
enum Change {
    Paused(bool),
    Resumed(bool),
    Granted(bool),
    Revoked(i64),
}

pub(crate) async fn run(
    command: NamespaceCommand,
    client: &Client,
    output: Output,
) -> Result<(), Failure> {
    let (name, change) = match command {
        NamespaceCommand::List => {
            let namespaces = client.list_namespaces().await?;
            return output.show(&namespaces, || table(&namespaces));
        }
        NamespaceCommand::Grants { name } => {
            let grants = client.list_namespace_grants(name.as_deref()).await?;
            return output.show(&grants, || grants_table(&grants));
        }
        NamespaceCommand::Set { name, settings } => {
            let settings = tasks::json_given("the settings", &settings)?;
            let namespace = client.set_namespace(&name, &settings).await?;
            return output.show(&namespace, || table(std::slice::from_ref(&namespace)));
        }
        NamespaceCommand::Pause { name, reason } => {
            let paused = client.pause_namespace(&name, reason.as_deref()).await?;
            (name, Change::Paused(paused))
        }
        NamespaceCommand::Resume { name } => {
            let resumed = client.resume_namespace(&name).await?;
            (name, Change::Resumed(resumed))
        }
        NamespaceCommand::Grant { holder, privilege } => {
            let granted = client
                .grant_namespace(&holder.role, &holder.name, &privilege)
                .await?;
            (holder.name, Change::Granted(granted))
        }
        NamespaceCommand::Revoke { holder, privilege } => {
            let count = client
                .revoke_namespace(&holder.role, &holder.name, privilege.as_deref())
                .await?;
            (holder.name, Change::Revoked(count))
        }
    };
    let changed = Changed { name, change };
    output.show(&changed, || {
        let outcome = match changed.change {
            Change::Paused(true) => "paused".to_owned(),
            Change::Paused(false) => "paused before".to_owned(),
            Change::Resumed(true) => "resumed".to_owned(),
            Change::Resumed(false) => "was not paused".to_owned(),
            Change::Granted(true) => "granted".to_owned(),
            Change::Granted(false) => "granted before".to_owned(),
            Change::Revoked(count) => format!("revoked {count} grants"),
        };
        format!("{} {outcome}", changed.name)
    })
}

fn table(namespaces: &[Namespace]) -> String {
    let rows = namespaces.iter().map(|namespace| {
        [
            namespace.name.clone(),
            namespace.queue_name.clone(),
            namespace.settings.get().to_owned(),
            output::time(namespace.created_at),
            namespace.paused_at.map(output::time).unwrap_or_default(),
            namespace.paused_by.clone().unwrap_or_default(),
            namespace.pause_reason.clone().unwrap_or_default(),
        ]
    });
    output::table(
        [
            "NAMESPACE",
            "QUEUE",
            "SETTINGS",
            "CREATED",
            "PAUSED",
            "BY",
            "REASON",
        ],
        rows,
    )
}

fn grants_table(grants: &[NamespaceGrant]) -> String {
    let rows = grants.iter().map(|grant| {
        let role = if grant.role_exists {
            grant.role.clone()
        } else {
            format!("{} (gone)", grant.role)
        };
        [
            grant.namespace.clone(),
            role,
            grant.privilege.clone(),
            grant.granted_by.clone(),
            output::time(grant.granted_at),
        ]
    });
    output::table(["NAMESPACE", "ROLE", "PRIVILEGE", "BY", "GRANTED"], rows)
}
