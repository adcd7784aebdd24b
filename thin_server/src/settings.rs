//! Flags, each with its environment variable.

use std::net::SocketAddr;
use std::str::FromStr;

use tasker_traces::TraceOptions;

use crate::auth::AuthOptions;
use crate::cors::AllowedOrigin;
use crate::tls::TlsOptions;

/// Serves Tasker over REST and gRPC. Unless callers are asked who they are, whoever reaches the address may do all that the database lets the server do.
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

    /// The address to listen on for gRPC; `off` for none
    #[arg(
        long,
        env = "TASKER_GRPC_LISTEN",
        value_name = "ADDRESS",
        default_value = "127.0.0.1:9190"
    )]
    pub(crate) grpc_listen: GrpcListen,

    /// Listen on an address that other machines can reach, though nobody is asked who they are
    #[arg(long, env = "TASKER_ALLOW_UNAUTHENTICATED")]
    pub(crate) allow_unauthenticated: bool,

    /// The most connections to the database held for requests
    #[arg(long, env = "TASKER_DATABASE_CONNECTIONS", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) database_connections: u32,

    /// The most requests served at once; more are answered 503
    #[arg(long, env = "TASKER_CONCURRENT_REQUESTS", default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) concurrent_requests: u32,

    /// The most listeners of streams of events; more are answered 503
    #[arg(long, env = "TASKER_EVENT_LISTENERS", default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) event_listeners: u32,

    /// How often a listener of events is sent a comment while nothing happens, so that what lies between doesn't close the connection
    #[arg(long, env = "TASKER_EVENT_HEARTBEAT_SECONDS", default_value_t = 15, value_parser = clap::value_parser!(u64).range(1..=300))]
    pub(crate) event_heartbeat_seconds: u64,

    /// How long a request may take, in the server and in the database
    #[arg(long, env = "TASKER_REQUEST_TIMEOUT_SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub(crate) request_timeout_seconds: u64,

    /// How long a caller may take nothing of what it is sent before its connection is ended: a listener of events that never reads
    #[arg(long, env = "TASKER_WRITE_TIMEOUT_SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub(crate) write_timeout_seconds: u64,

    /// Let pages of these origins call from a browser, such as `https://app.example`; `*` for all
    #[arg(
        long,
        env = "TASKER_CORS_ORIGINS",
        value_name = "ORIGINS",
        value_delimiter = ','
    )]
    pub(crate) cors_origins: Vec<AllowedOrigin>,

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

    #[command(flatten)]
    pub(crate) auth: AuthOptions,

    #[command(flatten)]
    pub(crate) tls: TlsOptions,

    #[command(flatten)]
    pub(crate) traces: TraceOptions,
}

/// Where gRPC is listened for, if it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct GrpcListen(pub(crate) Option<SocketAddr>);

impl FromStr for GrpcListen {
    type Err = <SocketAddr as FromStr>::Err;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "off" {
            return Ok(Self(None));
        }
        text.parse().map(Some).map(Self)
    }
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
    /// Where nobody is asked who they are, only this machine may call unless that was chosen.
    pub(crate) fn check_exposure(&self) -> anyhow::Result<()> {
        if self.auth.is_on() || self.allow_unauthenticated {
            return Ok(());
        }
        let Some(address) = self.open_to_others().next() else {
            return Ok(());
        };
        anyhow::bail!(
            "{address} can be reached from other machines and callers aren't authenticated: \
             give --authentication, listen on a loopback address, or give --allow-unauthenticated"
        )
    }

    /// The addresses that other machines can call.
    fn open_to_others(&self) -> impl Iterator<Item = SocketAddr> {
        let listened = [Some(self.listen), self.grpc_listen.0];
        let is_local = |address: &SocketAddr| address.ip().to_canonical().is_loopback();
        listened
            .into_iter()
            .flatten()
            .filter(move |address| !is_local(address))
    }

    /// Whether keys and tokens come over the network as they are, unless a proxy in front keeps them.
    pub(crate) fn shows_credentials(&self) -> bool {
        self.auth.is_on() && !self.tls.is_on() && self.open_to_others().next().is_some()
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
            for flag in ["--listen", "--grpc-listen"] {
                assert!(
                    settings(&[flag, listen]).check_exposure().is_err(),
                    "{flag} {listen}"
                );
                for told in ["--allow-unauthenticated", "--authentication"] {
                    assert!(settings(&[flag, listen, told]).check_exposure().is_ok());
                }
            }
        }
        assert!(settings(&["--grpc-listen", "off"]).check_exposure().is_ok());
    }

    #[test]
    fn grpc_is_listened_for_unless_it_is_off() {
        assert_eq!(settings(&[]).grpc_listen.0, "127.0.0.1:9190".parse().ok());
        assert_eq!(settings(&["--grpc-listen", "off"]).grpc_listen.0, None);
        let given = [
            "tasker-server",
            "--database-url",
            "x",
            "--grpc-listen",
            "on",
        ];
        assert!(Settings::try_parse_from(given).is_err());
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

    #[test]
    fn flags_about_tokens_turn_authentication_on_and_need_each_other() {
        assert!(!settings(&[]).auth.is_on());
        let of_tokens = ["--jwt-issuer", "i", "--jwt-audience", "a"];
        assert!(!settings(&of_tokens).auth.is_on());
        let with_url = [&of_tokens[..], &["--jwks-url", "https://localhost"]].concat();
        assert!(settings(&with_url).auth.is_on());
        for given in [
            &["--jwks-url", "https://localhost"][..],
            &["--jwt-public-key", "k", "--jwt-issuer", "i"],
            &["--tls-key", "k"],
            &["--tls-certificate", "c"],
        ] {
            let given = ["tasker-server", "--database-url", "x"].iter().chain(given);
            assert!(Settings::try_parse_from(given).is_err());
        }
    }

    #[test]
    fn keys_that_come_over_the_network_as_they_are_are_noticed() {
        let outside = ["--listen", "0.0.0.0:1", "--authentication"];
        assert!(settings(&outside).shows_credentials());
        let by_grpc = ["--grpc-listen", "0.0.0.0:1", "--authentication"];
        assert!(settings(&by_grpc).shows_credentials());
        let with_tls = [&outside[..], &["--tls-key", "k", "--tls-certificate", "c"]].concat();
        assert!(!settings(&with_tls).shows_credentials());
        assert!(!settings(&["--authentication"]).shows_credentials());
    }
}
