//! The extension: the only crate that names pgrx.
//!
//! The rules are in `tasker_rules`, the work over rows in `sql/`; here is what joins them: functions that SQL calls, a cache of compiled templates, kept
//! statements on the queues' tables, settings, background workers. Functions whose name begins with `_` are not API and are granted to nobody.

#![allow(
    clippy::needless_pass_by_value,
    clippy::result_large_err,
    clippy::type_complexity,
    reason = "pgrx reads a function's parameters, columns and error type from its signature"
)]

mod actor;
mod advisory;
mod clock;
mod compiled;
mod cron;
mod domain_events;
mod edition;
mod engine;
mod error;
mod event_notices;
mod existence;
mod graph;
mod histogram;
mod install;
mod keys;
mod lifecycle;
mod maintenance;
mod namespace_grants;
mod partitions;
mod payloads;
mod planner;
mod queue;
mod served_caller;
mod settings;
mod sql_call;
mod statements;
mod states;
mod templates;
mod values;
mod waits;

pgrx::pg_module_magic!();

/// Called when PostgreSQL loads the library.
#[pgrx::pg_guard]
#[allow(non_snake_case, reason = "PostgreSQL looks for this name")]
pub extern "C-unwind" fn _PG_init() {
    settings::define();
    maintenance::register();
}
