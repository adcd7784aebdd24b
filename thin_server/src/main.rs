//! REST and gRPC for Tasker: each handler is a call of one function of the client.
//!
//! | module | holds |
//! |---|---|
//! | `settings` | flags and environment |
//! | `server` | start, serve, drain, stop |
//! | `routes` | which path is which handler, and the layers around them |
//! | `tasks`, `steering`, `signals`, `bulk`, `steps`, `templates`, `dead_letters`, `domain_events`, `analytics`, `workers`, `schedules`, `namespaces`, `health`, `config` | the handlers |
//! | `grpc` | the same over gRPC |
//! | `events` | the feed of events for thousands of listeners |
//! | `metrics` | what is counted and measured |
//! | `extract`, `object`, `problem` | requests read, errors answered, in one shape |
//! | `auth` | who calls, and what they may do |
//! | `cors` | which pages of other hosts may call |
//! | `tls`, `patience` | certificates; connections to callers that take nothing |
//! | `openapi` | the document made from the handlers, and the page to try it |
//! | `traces`, `request_id`, `limits` | what surrounds every request |
//! | `maintenance` | what time must do, where the extension's own worker doesn't run |
//! | `sql_steps` | steps that are SQL functions, where the extension's own processes don't run them |

mod analytics;
mod auth;
mod bulk;
mod config;
mod cors;
mod dead_letters;
mod domain_events;
mod events;
mod extract;
mod grpc;
mod health;
mod limits;
mod maintenance;
mod metrics;
mod namespaces;
mod object;
mod openapi;
mod page;
mod patience;
mod problem;
mod request_id;
mod routes;
mod schedules;
mod server;
mod settings;
mod signals;
mod sql_steps;
mod steering;
mod steps;
mod tasks;
mod templates;
mod tls;
mod traces;
mod workers;

use std::io::IsTerminal;
use std::process::ExitCode;

use tasker_traces::Exporting;
use tracing_subscriber::Layer;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::settings::{LogFormat, Settings};

#[tokio::main]
async fn main() -> ExitCode {
    let configured = tasker_settings::load::<Settings>("server");
    if configured.explain {
        return match tasker_settings::print(&configured.origins) {
            Ok(()) => ExitCode::SUCCESS,
            Err(_) => ExitCode::FAILURE,
        };
    }
    let options = &configured.settings.traces;
    let started = Exporting::start(options, "tasker-server", env!("CARGO_PKG_VERSION"));
    let (traces, refused) = match started {
        Ok(traces) => (traces, None),
        Err(error) => (None, Some(error)),
    };
    start_log(configured.settings.log_format, traces.as_ref());
    let ended = match refused {
        Some(error) => Err(error.into()),
        None => server::run(configured.settings, configured.origins).await,
    };
    if let Err(error) = &ended {
        tracing::error!("{error:#}");
    }
    if let Some(traces) = traces {
        traces.stop().await;
    }
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

/// Begins to write the log, and to take the spans of traces where they are recorded.
fn start_log(format: LogFormat, traces: Option<&Exporting>) {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info,sqlx=warn"));
    let log = tracing_subscriber::fmt::layer()
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr);
    let log = match format {
        LogFormat::Text => log.boxed(),
        LogFormat::Json => log.json().boxed(),
    };
    let mut layers = vec![log.with_filter(filter).boxed()];
    layers.extend(traces.map(Exporting::layer));
    tracing_subscriber::registry().with(layers).init();
}
