//! The rules of Tasker in plain Rust: states, templates, the graph, retry delays, error codes.
//!
//! Nothing here reads a clock, a file, the environment or a database: each function is its arguments and its result.
//!
//! - [`task_state`], [`step_state`]: the two state machines; [`history`]: how a path through them is stored
//! - [`progress`]: a task's next state; [`verdict`]: what becomes of an outcome
//! - [`template`]: what a user writes, and its checks; [`finding`]: what the checks say
//! - [`graph`]: a template compiled to numbered steps
//! - [`domain_event`]: when a step publishes a domain event, and which subscriptions it is for
//! - [`retry`]: how long to wait after a failure
//! - [`cron`]: cron expressions, and the moments they name in a time zone
//! - [`rounds`]: which jobs of maintenance failed, and when each is tried again
//! - [`histogram`]: durations counted in bins, and their percentiles
//! - [`schema`]: JSON Schemas of contexts and results; [`instant`]: times in results
//! - [`key`]: the keys of tasks and steps, and the sort key of versions
//! - [`privilege`]: what a role may do in which namespace; [`permission`]: what a key or a token allows
//! - [`reach`]: the namespaces that a session is limited to
//! - [`sql_handler`]: handlers that are functions of the database
//! - [`traceparent`]: which span of which trace something belongs to
//! - [`error_code`]: the SQLSTATEs, and what the doors answer for them
#![warn(missing_docs)]

mod named;
mod nearest;
mod path;

pub mod cron;
pub mod domain_event;
pub mod error_code;
pub mod finding;
pub mod graph;
pub mod histogram;
pub mod history;
pub mod instant;
pub mod key;
pub mod payload;
pub mod permission;
pub mod privilege;
pub mod progress;
pub mod reach;
pub mod retry;
pub mod rounds;
pub mod schema;
pub mod sql_handler;
pub mod step_state;
pub mod task_state;
pub mod template;
pub mod traceparent;
pub mod verdict;

pub use named::UnknownName;
