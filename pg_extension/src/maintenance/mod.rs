//! The background workers, which do what time must do job by job, each in a transaction of its own: a launcher for the whole server, and a worker for each database that the setting
//! `tasker.databases` names, which starts processes of its own for the SQL functions of steps.
//!
//! They run only where `shared_preload_libraries` names this library. What maintenance does is in `sql/700_maintenance.sql`, which jobs it has in `sql/709_rounds.sql`; that one session at a time
//! does it, its advisory lock sees to.

mod batch;
mod launcher;
mod process;
mod runner;
mod worker;

pub(crate) use launcher::register;

/// The library, as PostgreSQL looks for it when it starts a process.
const LIBRARY: &str = "tasker";
