//! The worker of one database: round after round of maintenance.

use std::time::Duration;

use pgrx::bgworkers::BackgroundWorker;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::pg_sys::{self, Datum};
use pgrx::{PgLogLevel, PgSqlErrorCode};
use pgrx::{function_name, pg_guard};

use super::batch::{self, Batch, Failure};
use super::{pause_after, process};
use crate::settings;

/// How PostgreSQL finds the function that the process runs.
pub(super) const FUNCTION: &str = "tasker_maintenance_main";
/// What `pg_stat_activity` shows as the kind of process.
pub(super) const KIND: &str = "tasker maintenance";

/// The longest pause after failures in a row.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// How often a database without the extension is looked at.
const LOOKED_AT_EVERY: Duration = Duration::from_secs(2);

/// A worker's name: its application name, too.
pub(super) fn name(database: &str) -> String {
    format!("{KIND} of {database}")
}

/// The process of a worker. The launcher names its database.
#[pg_guard]
#[unsafe(no_mangle)]
#[allow(unreachable_pub, reason = "PostgreSQL looks for this name")]
pub extern "C-unwind" fn tasker_maintenance_main(_argument: Datum) {
    let database = BackgroundWorker::get_extra();
    process::begin(&name(database), Some(database));
    // SAFETY: the entry that this process was started with.
    let launcher = unsafe { (*pg_sys::MyBgworkerEntry).bgw_notify_pid };
    let mut said = Said {
        database,
        last: None,
        failures: 0,
    };
    loop {
        let pause = said.about(&batch::run());
        // A launcher that has failed is started again, and starts workers of its own.
        if !process::wait(pause) || !is_alive(launcher) {
            return;
        }
    }
}

/// Whether a process is there. Signal 0 is sent to nobody.
fn is_alive(process: pg_sys::pid_t) -> bool {
    // SAFETY: changes nothing.
    unsafe { libc::kill(process, 0) == 0 }
}

/// What the log has last been told, so that it is told each thing once and not every second.
struct Said<'a> {
    database: &'a str,
    last: Option<Trouble>,
    failures: u32,
}

#[derive(Debug, PartialEq, Eq)]
enum Trouble {
    NotInstalled,
    Failed(Failure),
}

impl Said<'_> {
    /// Tells the log what is new, and gives the pause before the next batch.
    fn about(&mut self, batch: &Result<Batch, Failure>) -> Duration {
        match batch {
            Ok(Batch::Done { more }) => {
                if self.last.take().is_some() {
                    pgrx::log!("maintenance of database {} runs again", self.database);
                }
                self.failures = 0;
                if *more {
                    Duration::ZERO
                } else {
                    settings::maintenance_interval()
                }
            }
            Ok(Batch::NotInstalled) => {
                if self.is_new(Trouble::NotInstalled) {
                    pgrx::log!(
                        "database {} has no extension tasker: its maintenance begins when it has",
                        self.database
                    );
                }
                self.failures = 0;
                LOOKED_AT_EVERY
            }
            Err(failure) => {
                if self.is_new(Trouble::Failed(failure.clone())) {
                    self.report(failure);
                }
                self.failures = self.failures.saturating_add(1);
                pause_after(
                    self.failures,
                    settings::maintenance_interval(),
                    LONGEST_PAUSE,
                )
            }
        }
    }

    fn is_new(&mut self, trouble: Trouble) -> bool {
        let is_new = self.last.as_ref() != Some(&trouble);
        self.last = Some(trouble);
        is_new
    }

    fn report(&self, failure: &Failure) {
        let message = format!(
            "maintenance of database {} failed and is tried again until it runs: {}",
            self.database, failure.message
        );
        let mut report =
            ErrorReport::new(PgSqlErrorCode::ERRCODE_WARNING, message, function_name!());
        if let Some(detail) = &failure.detail {
            report = report.set_detail(detail.clone());
        }
        if let Some(hint) = &failure.hint {
            report = report.set_hint(hint.clone());
        }
        report.report(PgLogLevel::WARNING);
    }
}
