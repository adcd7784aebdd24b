//! `tasker-ctl auth`: keys, which the database keeps, and tokens, which need no database.

mod keys;
mod tokens;

use clap::Subcommand;

use self::keys::KeyCommand;
use self::tokens::TokenCommand;
use crate::connect;
use crate::failure::Failure;
use crate::output::Output;

#[derive(Debug, Subcommand)]
pub(crate) enum AuthCommand {
    /// Make, list and revoke API keys
    #[command(subcommand)]
    Key(KeyCommand),
    /// Sign JSON Web Tokens, and look at them as a server does
    #[command(subcommand)]
    Token(TokenCommand),
}

pub(crate) async fn run(
    command: AuthCommand,
    database_url: Option<String>,
    output: Output,
) -> Result<(), Failure> {
    match command {
        AuthCommand::Key(command) => {
            keys::run(command, &connect(database_url).await?, output).await
        }
        AuthCommand::Token(command) => tokens::run(command, output),
    }
}

/// Namespaces as they are given: none is all.
fn limit(namespaces: Vec<String>) -> Option<Vec<String>> {
    (!namespaces.is_empty()).then_some(namespaces)
}

/// Namespaces as they are shown.
fn reach(namespaces: Option<&[String]>) -> String {
    namespaces.map_or_else(|| "all".to_owned(), |names| names.join(", "))
}
