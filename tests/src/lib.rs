//! The tests across crates: SQL behaviour, concurrency, end to end, faults. This library is what they stand on; the tests lie in `tests/`.
//!
//! - [`TestDatabase`]: a fresh database with Tasker in it, on a PostgreSQL that all tests of a run share
//! - [`OwnCluster`]: a PostgreSQL of one test's own, for tests that restart or kill it
//! - [`Program`], [`Server`]: the real programs
//! - [`Stage`]: a database with the examples and a worker on it
//! - [`ScratchFolder`]: a folder of one test's own
//! - [`Scenario`]: the SQL functions in a transaction that is rolled back, with the clock moved by hand
//! - [`eventually`]: waits for a condition, not for a time
//! - [`application`]: an application's calls over SQL and REST
//! - [`examples`]: the example templates
//! - [`exposition`]: metrics as Prometheus reads them
//! - [`figures`]: work committed with the clock moved, and its statistics
//! - [`following`]: tasks created and followed
//! - [`http`], [`grpc`]: requests to the server
//! - [`by_hand`]: tasks brought somewhere through the client
//! - [`sse`]: streams of events
//! - [`instances`]: tasks with a batch or a map
//! - [`investigations`]: tasks that failed for good or are over a limit
//! - [`collector`]: where spans are sent
//! - [`command`]: the command line
//! - [`credentials`]: keys, tokens and certificates of callers
//! - [`catalogue`]: what the catalogue says of the extension, and how two databases differ in it
//! - [`weeks`]: the work of several weeks
//! - [`flight`]: work in every state, to be finished after something has happened to the database
//! - [`contents`]: what is in the tables
//! - [`publishing`]: steps that have published domain events
//! - [`references`]: the reference pages as the code says them
//! - [`releases`]: databases of versions that were released
//! - [`mix`]: a bit of everything that callers do
//! - [`pages`]: the Markdown pages of the project
//! - [`model`], [`model_run`], [`event_run`]: the engine once more, in plain Rust, and that beside a database
//! - [`partitions`]: the partitions as the catalogue shows them
//! - [`races`]: statements in several sessions at once
//! - [`schedules`]: schedules in a scenario
//! - [`bank`]: a database whose templates have SQL functions
//! - [`tokens`]: SQL cut into tokens
//! - [`tools`]: programs of other languages, run on what is written for them
//!
//! `TASKER_TEST_PG_BIN` names the bin folder of the PostgreSQL to test on; without it, it is the project's private install.
//! The extension and the programs must be built before: `tests/run` does both.

pub mod application;
pub mod bank;
pub mod by_hand;
pub mod catalogue;
mod cluster;
pub mod collector;
pub mod command;
pub mod contents;
pub mod counting;
pub mod credentials;
mod database;
pub mod event_run;
pub mod examples;
pub mod exposition;
pub mod figures;
pub mod flight;
mod folders;
pub mod following;
pub mod grpc;
pub mod http;
pub mod instances;
pub mod investigations;
pub mod mix;
pub mod model;
pub mod model_run;
pub mod pages;
pub mod partitions;
mod program;
pub mod publishing;
pub mod races;
pub mod references;
pub mod releases;
pub mod scenario;
pub mod schedules;
mod signals;
pub mod sse;
mod stage;
mod stamp;
pub mod tokens;
pub mod tools;
mod waiting;
pub mod weeks;

pub use cluster::{
    OwnCluster, bin_dir, bin_dir_of, bin_dir_with_pgmq, bin_dir_with_pgmq_of,
    has_statement_statistics, major_version,
};
pub use database::TestDatabase;
pub use folders::{ScratchFolder, project_file};
pub use program::{Program, Server, program_path};
pub use scenario::Scenario;
pub use signals::{Signal, signal};
pub use stage::Stage;
pub use tasker_cli::cluster::{Cluster, StopMode};
pub use waiting::eventually;
