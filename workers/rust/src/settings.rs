//! The program's settings: flags, each with an environment variable.

use std::io::IsTerminal;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use tasker_traces::{Exporting, TraceOptions};
use tasker_worker_runtime::WakeMode;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer};

/// Runs the handlers of the example templates.
#[derive(Debug, Parser)]
#[command(name = "tasker-worker", version)]
pub(crate) struct Settings {
    /// Settings in TOML; flags and the environment come before it.
    #[arg(long, env = "TASKER_CONFIG", value_name = "FILE")]
    pub(crate) config: Option<std::path::PathBuf>,

    /// Print each setting with where it comes from, and end.
    #[arg(long)]
    pub(crate) explain_config: bool,

    /// Where the database is.
    #[arg(long, env = "DATABASE_URL", hide_env_values = true)]
    pub(crate) database_url: String,

    /// The namespaces to claim from.
    #[arg(
        long,
        env = "TASKER_WORKER_NAMESPACES",
        value_delimiter = ',',
        default_value = "example,shop,data,accounts,payments,approvals,media"
    )]
    pub(crate) namespaces: Vec<String>,

    /// How many steps run at once.
    #[arg(long, env = "TASKER_WORKER_CONCURRENCY", default_value_t = 8)]
    pub(crate) concurrency: usize,

    /// How many steps are claimed beyond the free places, at most: of a backlog whose handlers take
    /// less time than a call of the database. 0 for none.
    #[arg(long, env = "TASKER_WORKER_PREFETCH", default_value_t = 100)]
    pub(crate) prefetch: usize,

    /// How long a step waits before it is taken over when its worker died.
    #[arg(long, env = "TASKER_WORKER_LEASE_SECONDS", default_value_t = 30)]
    pub(crate) lease_seconds: u64,

    /// How the worker learns of work: notifications and polling, notifications alone, or polling
    /// alone.
    #[arg(long, env = "TASKER_WORKER_WAKE", value_enum, default_value_t = Wake::Hybrid)]
    pub(crate) wake: Wake,

    /// How long an idle worker rests between two questions for work.
    #[arg(long, env = "TASKER_WORKER_POLL_INTERVAL_MS", default_value_t = 1000)]
    pub(crate) poll_interval_ms: u64,

    /// How long a shutdown waits for running handlers before it gives their steps back.
    #[arg(
        long,
        env = "TASKER_WORKER_SHUTDOWN_GRACE_SECONDS",
        default_value_t = 20
    )]
    pub(crate) shutdown_grace_seconds: u64,

    /// The name under which the worker claims [default: host, process id and chance].
    #[arg(long, env = "TASKER_WORKER_ID")]
    pub(crate) worker_id: Option<String>,

    /// The name under which the worker subscribes to domain events: those with one name share them
    /// [default: default].
    #[arg(long, env = "TASKER_WORKER_SUBSCRIBER")]
    pub(crate) subscriber: Option<String>,

    /// The most connections of the worker; one more listens for work, and one for domain events.
    #[arg(long, env = "TASKER_WORKER_MAX_CONNECTIONS", default_value_t = 3)]
    pub(crate) max_connections: u32,

    /// How log lines are written to stderr.
    #[arg(long, env = "TASKER_LOG_FORMAT", value_enum, default_value_t = LogFormat::Text)]
    pub(crate) log_format: LogFormat,

    /// Which log lines are written: a level, or levels by module
    /// (`info,tasker_worker_runtime=debug`).
    #[arg(long, env = "TASKER_LOG", default_value = "info,sqlx=error")]
    pub(crate) log: EnvFilter,

    #[command(flatten)]
    pub(crate) traces: TraceOptions,
}

impl Settings {
    pub(crate) fn lease(&self) -> Duration {
        Duration::from_secs(self.lease_seconds)
    }

    pub(crate) fn poll_interval(&self) -> Duration {
        Duration::from_millis(self.poll_interval_ms)
    }

    pub(crate) fn shutdown_grace(&self) -> Duration {
        Duration::from_secs(self.shutdown_grace_seconds)
    }
}

/// How the worker learns of work.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum Wake {
    Hybrid,
    Event,
    Poll,
}

impl From<Wake> for WakeMode {
    fn from(wake: Wake) -> Self {
        match wake {
            Wake::Hybrid => Self::Hybrid,
            Wake::Event => Self::EventOnly,
            Wake::Poll => Self::PollOnly,
        }
    }
}

/// How log lines are written.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum LogFormat {
    Text,
    Json,
}

impl LogFormat {
    /// Begins to write log lines to stderr, and to take the spans of traces where they are recorded.
    pub(crate) fn start(self, filter: &EnvFilter, traces: Option<&Exporting>) {
        let lines = tracing_subscriber::fmt::layer()
            .with_writer(std::io::stderr)
            .with_ansi(std::io::stderr().is_terminal());
        let lines = match self {
            Self::Text => lines.boxed(),
            Self::Json => lines.json().boxed(),
        };
        let mut layers = vec![lines.with_filter(filter.clone()).boxed()];
        layers.extend(traces.map(Exporting::layer));
        tracing_subscriber::registry().with(layers).init();
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_holds_together() {
        Settings::command().debug_assert();
    }

    #[test]
    fn namespaces_are_separated_by_commas_and_default_to_those_of_the_examples() {
        let parse = |more: &[&str]| {
            let first = [
                "tasker-worker",
                "--database-url",
                "postgres://localhost/app",
            ];
            Settings::try_parse_from(first.iter().chain(more)).expect("the flags are good")
        };
        assert_eq!(parse(&["--namespaces", "a,b"]).namespaces, ["a", "b"]);
        assert_eq!(
            parse(&[]).namespaces,
            [
                "example",
                "shop",
                "data",
                "accounts",
                "payments",
                "approvals",
                "media"
            ]
        );
    }

    #[test]
    fn the_documentation_lists_every_setting() {
        let table = tasker_settings::reference(&Settings::command());
        let page = include_str!("../../../docs/configuration.md");
        assert!(
            page.contains(&table),
            "docs/configuration.md must have this table:\n{table}"
        );
    }
}
