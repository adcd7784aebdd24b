//! The background workers, which do what time must do by calling `tasker.run_maintenance`: a launcher for the whole server, and a worker for each database that the setting
//! `tasker.databases` names.
//!
//! They run only where `shared_preload_libraries` names this library. What maintenance does is in `sql/700_maintenance.sql`; that one session at a time does it, its advisory
//! lock sees to.

mod batch;
mod launcher;
mod process;
mod worker;

use std::time::Duration;

pub(crate) use launcher::register;

/// The pause after so many failures in a row: it doubles from `first` up to `longest`.
fn pause_after(failures: u32, first: Duration, longest: Duration) -> Duration {
    first
        .saturating_mul(1 << failures.saturating_sub(1).min(10))
        .min(longest)
}
