//! Flags, each with its environment variable.

use std::net::SocketAddr;

/// Serves Tasker over REST. Whoever reaches the address may create and cancel tasks.
#[derive(Debug, Clone, clap::Parser)]
#[command(name = "tasker-server", version)]
pub(crate) struct Settings {
    /// Settings in TOML; flags and the environment come before it
    #[arg(long, env = "TASKER_CONFIG", value_name = "FILE")]
    pub(crate) config: Option<std::path::PathBuf>,

    /// Print each setting with where it comes from, and end
    #[arg(long)]
    pub(crate) explain_config: bool,

    /// The database, as postgres://user:password@host:port/name
    #[arg(long, env = "DATABASE_URL", hide_env_values = true)]
    pub(crate) database_url: String,

    /// The address to listen on; port 0 takes a free one, and the log says which
    #[arg(long, env = "TASKER_LISTEN", default_value = "127.0.0.1:8080")]
    pub(crate) listen: SocketAddr,

    /// Listen on an address that other machines can reach, though nobody is asked who they are
    #[arg(long, env = "TASKER_ALLOW_UNAUTHENTICATED")]
    pub(crate) allow_unauthenticated: bool,

    /// The most connections to the database held for requests
    #[arg(long, env = "TASKER_DATABASE_CONNECTIONS", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) database_connections: u32,

    /// The most requests served at once; more are answered 503
    #[arg(long, env = "TASKER_CONCURRENT_REQUESTS", default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) concurrent_requests: u32,

    /// How long a request may take, in the server and in the database
    #[arg(long, env = "TASKER_REQUEST_TIMEOUT_SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub(crate) request_timeout_seconds: u64,

    /// How long a stop waits for the requests under way
    #[arg(long, env = "TASKER_SHUTDOWN_TIMEOUT_SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u64).range(..=3600))]
    pub(crate) shutdown_timeout_seconds: u64,

    /// Don't run the maintenance; for a database that runs it itself
    #[arg(long, env = "TASKER_NO_MAINTENANCE")]
    pub(crate) no_maintenance: bool,

    /// How many SQL functions of steps are run side by side, each over a connection of its own; 0 leaves them to others. None are where the database runs them itself
    #[arg(long, env = "TASKER_SQL_RUNNERS", default_value_t = 2, value_parser = clap::value_parser!(u32).range(..=64))]
    pub(crate) sql_runners: u32,

    /// How the log is written; `RUST_LOG` says how much of it
    #[arg(long, env = "TASKER_LOG_FORMAT", value_enum, default_value_t = LogFormat::Text)]
    pub(crate) log_format: LogFormat,
}

/// How the log is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum LogFormat {
    /// Lines for people.
    Text,
    /// One JSON object a line.
    Json,
}

impl Settings {
    /// Nobody is asked who they are, so only this machine may call unless that was chosen.
    pub(crate) fn check_exposure(&self) -> anyhow::Result<()> {
        let address = self.listen.ip().to_canonical();
        if address.is_loopback() || self.allow_unauthenticated {
            return Ok(());
        }
        anyhow::bail!(
            "{} can be reached from other machines and callers aren't authenticated: \
             listen on a loopback address, or give --allow-unauthenticated",
            self.listen
        )
    }
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, Parser};

    use super::*;

    fn settings(arguments: &[&str]) -> Settings {
        let given = ["tasker-server", "--database-url", "postgres://localhost/x"];
        Settings::parse_from(given.iter().chain(arguments))
    }

    #[test]
    fn only_loopback_addresses_are_listened_on_without_being_told() {
        for listen in [
            "127.0.0.1:1",
            "[::1]:1",
            "127.9.9.9:1",
            "[::ffff:127.0.0.1]:1",
        ] {
            assert!(
                settings(&["--listen", listen]).check_exposure().is_ok(),
                "{listen}"
            );
        }
        for listen in ["0.0.0.0:1", "[::]:1", "192.168.1.1:1"] {
            assert!(
                settings(&["--listen", listen]).check_exposure().is_err(),
                "{listen}"
            );
            assert!(
                settings(&["--listen", listen, "--allow-unauthenticated"])
                    .check_exposure()
                    .is_ok()
            );
        }
    }

    #[test]
    fn the_documentation_lists_every_setting() {
        let table = tasker_settings::reference(&Settings::command());
        let page = include_str!("../../docs/configuration.md");
        assert!(
            page.contains(&table),
            "docs/configuration.md must have this table:\n{table}"
        );
    }
}
