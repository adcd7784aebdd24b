//! `tasker-ctl auth token`.

use std::path::{Path, PathBuf};

use chrono::{TimeDelta, Utc};
use clap::{Args, Subcommand};
use serde::Serialize;
use tasker_client::permission;
use tasker_client::tokens::{Claims, Expected, NewToken, SigningKey, TokenKeys, jwks_of};

use super::{limit, reach};
use crate::failure::Failure;
use crate::output::{self, Output};
use crate::templates;

#[derive(Debug, Subcommand)]
pub(crate) enum TokenCommand {
    /// Sign a token and print it: for tests, and where nothing else gives tokens
    #[command(
        after_help = "Example:\n  tasker-ctl auth token create --private-key key.pem --issuer me --audience tasker --subject alice --permission 'tasks:*'"
    )]
    Create(Box<CreateOptions>),
    /// Show what a server with the same flags reads from a token
    #[command(
        after_help = "Example:\n  tasker-ctl auth token check \"$TOKEN\" --public-key key.pub.pem --issuer me --audience tasker"
    )]
    Check(Box<CheckOptions>),
    /// Print the key set (JWKS) of a public key, to be served where --jwks-url looks
    #[command(
        after_help = "Example:\n  tasker-ctl auth token jwks --public-key key.pub.pem --key-id 2030-01 > keys.json"
    )]
    Jwks {
        /// The public key: a PEM file, RSA or elliptic on the curve P-256
        #[arg(long, value_name = "FILE")]
        public_key: PathBuf,
        /// What tokens call the key
        #[arg(long, value_name = "NAME")]
        key_id: String,
    },
}

#[derive(Debug, Args)]
pub(crate) struct ExpectedOptions {
    /// Who signs the tokens: their claim `iss`
    #[arg(long, env = "TASKER_JWT_ISSUER")]
    issuer: String,
    /// Whom the tokens are for: their claim `aud`
    #[arg(long, env = "TASKER_JWT_AUDIENCE")]
    audience: String,
    /// The claim with the permissions
    #[arg(
        long,
        env = "TASKER_JWT_PERMISSIONS_CLAIM",
        value_name = "CLAIM",
        default_value = "permissions"
    )]
    permissions_claim: String,
    /// The claim with the namespaces that are reached
    #[arg(
        long,
        env = "TASKER_JWT_NAMESPACES_CLAIM",
        value_name = "CLAIM",
        default_value = "namespaces"
    )]
    namespaces_claim: String,
}

#[derive(Debug, Args)]
pub(crate) struct CreateOptions {
    /// The private key: a PEM file, RSA (RS256) or elliptic on the curve P-256 (ES256)
    #[arg(long, value_name = "FILE")]
    private_key: PathBuf,
    /// What the key set calls the key, where there is one
    #[arg(long, value_name = "NAME")]
    key_id: Option<String>,
    /// Who is to hold the token
    #[arg(long)]
    subject: String,
    /// What the token allows: resource:action, resource:* or *; may be given several times
    #[arg(short, long = "permission", value_name = "PERMISSION", required = true)]
    permissions: Vec<String>,
    /// A namespace that the token reaches; may be given several times, and left out to reach all
    #[arg(short, long = "namespace", value_name = "NAMESPACE")]
    namespaces: Vec<String>,
    /// How long the token counts
    #[arg(long, default_value_t = 3600, value_parser = clap::value_parser!(i64).range(1..=31_622_400))]
    lifetime_seconds: i64,
    #[command(flatten)]
    expected: ExpectedOptions,
}

#[derive(Debug, Args)]
pub(crate) struct CheckOptions {
    /// The token; - reads it from standard input
    token: String,
    /// The public key: a PEM file, RSA or elliptic on the curve P-256
    #[arg(
        long,
        env = "TASKER_JWT_PUBLIC_KEY",
        value_name = "FILE",
        required_unless_present = "jwks"
    )]
    public_key: Option<PathBuf>,
    /// A file with the key set (JWKS), in place of a public key
    #[arg(long, value_name = "FILE")]
    jwks: Option<PathBuf>,
    #[command(flatten)]
    expected: ExpectedOptions,
}

#[derive(Serialize)]
struct Created {
    token: String,
}

impl ExpectedOptions {
    fn expected(self) -> Expected {
        Expected {
            issuer: self.issuer,
            audience: self.audience,
            permissions_claim: self.permissions_claim,
            namespaces_claim: self.namespaces_claim,
        }
    }
}

pub(super) fn run(command: TokenCommand, output: Output) -> Result<(), Failure> {
    match command {
        TokenCommand::Create(options) => create(*options, output),
        TokenCommand::Check(options) => check(*options, output),
        TokenCommand::Jwks { public_key, key_id } => {
            let set = jwks_of(templates::read(&public_key)?.as_bytes(), &key_id)?;
            output.show(&set, || set.to_string())
        }
    }
}

fn create(options: CreateOptions, output: Output) -> Result<(), Failure> {
    permission::check_known(&options.permissions)?;
    let pem = templates::read(&options.private_key)?;
    let key = SigningKey::from_pem(pem.as_bytes(), options.key_id)?;
    let issued_at = Utc::now();
    let new = NewToken {
        subject: options.subject,
        permissions: options.permissions,
        namespaces: limit(options.namespaces),
        issued_at,
        expires_at: issued_at + TimeDelta::seconds(options.lifetime_seconds),
    };
    let token = key.sign(&new, &options.expected.expected())?;
    let created = Created { token };
    output.show(&created, || created.token.clone())
}

fn check(options: CheckOptions, output: Output) -> Result<(), Failure> {
    let token = match options.token.as_str() {
        "-" => templates::read(Path::new("-"))?,
        token => token.to_owned(),
    };
    let keys = match (&options.jwks, &options.public_key) {
        (Some(file), _) => TokenKeys::from_jwks(templates::read(file)?.as_bytes())?,
        (None, Some(file)) => TokenKeys::from_pem(templates::read(file)?.as_bytes())?,
        (None, None) => return Err(Failure::Other(anyhow::anyhow!("no key is named"))),
    };
    let claims = keys.read(token.trim(), &options.expected.expected(), Utc::now())?;
    output.show(&claims, || shown(&claims))
}

fn shown(claims: &Claims) -> String {
    output::fields([
        ("subject", Some(claims.subject.clone())),
        ("permissions", Some(claims.permissions.join(", "))),
        ("namespaces", Some(reach(claims.namespaces.as_deref()))),
        ("expires", Some(output::time(claims.expires_at))),
    ])
}
