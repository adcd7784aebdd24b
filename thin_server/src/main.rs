//! REST for Tasker: each handler is a call of one function of the client.
//!
//! | module | holds |
//! |---|---|
//! | `settings` | flags and environment |
//! | `server` | start, serve, drain, stop |
//! | `routes` | which path is which handler, and the layers around them |
//! | `tasks`, `steering`, `signals`, `bulk`, `steps`, `templates`, `dead_letters`, `domain_events`, `analytics`, `workers`, `schedules`, `namespaces`, `health`, `config` | the handlers |
//! | `events` | the feed of events for thousands of listeners |
//! | `metrics` | what is counted and measured |
//! | `extract`, `object`, `problem` | requests read, errors answered, in one shape |
//! | `auth` | who calls, and what they may do |
//! | `cors` | which pages of other hosts may call |
//! | `tls`, `patience` | certificates; connections to callers that take nothing |
//! | `openapi` | the document made from the handlers, and the page to try it |
//! | `request_id`, `limits` | what surrounds every request |
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
mod workers;

use std::io::IsTerminal;
use std::process::ExitCode;

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
    start_log(configured.settings.log_format);
    match server::run(configured.settings, configured.origins).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn start_log(format: LogFormat) {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info,sqlx=warn"));
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr);
    match format {
        LogFormat::Text => log.init(),
        LogFormat::Json => log.json().init(),
    }
}
