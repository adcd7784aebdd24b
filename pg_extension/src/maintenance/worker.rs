//! The worker of one database: round after round of maintenance.

use std::time::{Duration, Instant};

use pgrx::bgworkers::BackgroundWorker;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::pg_sys::{self, Datum};
use pgrx::{PgLogLevel, PgSqlErrorCode};
use pgrx::{function_name, pg_guard};

use tasker_rules::rounds::Troubles;

use super::batch::{self, Batch, Due, Failure};
use super::process;
use super::runner::Runners;
use crate::settings;

/// How PostgreSQL finds the function that the process runs.
pub(super) const FUNCTION: &str = "tasker_maintenance_main";
/// What `pg_stat_activity` shows as the kind of process.
pub(super) const KIND: &str = "tasker maintenance";

/// The longest pause after failures in a row.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// Asking what is due, which can fail like a job.
const LISTING: &str = "list_due_jobs";
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
    let mut rounds = Rounds {
        database,
        begun: Instant::now(),
        is_not_installed: false,
        troubles: Troubles::new(settings::maintenance_interval(), LONGEST_PAUSE),
        runners: Runners::new(),
    };
    // A launcher that has failed is started again, and starts workers of its own.
    while let Some(pause) = rounds.next() {
        if !process::wait(pause) || !is_alive(launcher) {
            return;
        }
    }
}

/// Whether a process is there. Signal 0 is sent to nobody.
pub(super) fn is_alive(process: pg_sys::pid_t) -> bool {
    // SAFETY: changes nothing.
    unsafe { libc::kill(process, 0) == 0 }
}

/// One round after the other, and what the log has been told of them: each thing once, not every second.
struct Rounds<'a> {
    database: &'a str,
    begun: Instant,
    is_not_installed: bool,
    troubles: Troubles<Failure>,
    runners: Runners,
}

impl Rounds<'_> {
    /// Runs what is due, and gives the pause before the next round; none when the process is told to end.
    fn next(&mut self) -> Option<Duration> {
        let jobs = match batch::due() {
            Ok(Due::Jobs {
                jobs,
                has_sql_steps,
            }) => {
                self.runners.look(self.database, has_sql_steps);
                jobs
            }
            Ok(Due::NotInstalled) => {
                if !self.is_not_installed {
                    pgrx::log!(
                        "database {} has no extension tasker: its maintenance begins when it has",
                        self.database
                    );
                }
                self.is_not_installed = true;
                return Some(LOOKED_AT_EVERY);
            }
            Err(failure) => return Some(self.failed(LISTING, failure)),
        };
        if std::mem::take(&mut self.is_not_installed) {
            self.runs_again(LISTING);
        }
        for job in self.troubles.keep(&jobs) {
            self.runs_again(&job);
        }
        let mut is_more = false;
        for job in jobs {
            if !self.troubles.lets_run(&job, self.begun.elapsed()) {
                continue;
            }
            match batch::run(&job) {
                Ok(Batch::Done { more }) => {
                    is_more |= more;
                    if self.troubles.done(&job) {
                        self.runs_again(&job);
                    }
                }
                Ok(Batch::Busy) => break,
                Err(failure) => {
                    self.failed(&job, failure);
                }
            }
            if !process::wait(Duration::ZERO) {
                return None;
            }
        }
        Some(if is_more {
            Duration::ZERO
        } else {
            settings::maintenance_interval()
        })
    }

    /// Tells the log of a failure that is new, and gives the pause after it when nothing else can be done.
    fn failed(&mut self, job: &str, failure: Failure) -> Duration {
        if self
            .troubles
            .failed(job, self.begun.elapsed(), failure.clone())
        {
            self.report(job, &failure);
        }
        self.troubles.rest_of(job, self.begun.elapsed())
    }

    fn runs_again(&self, job: &str) {
        pgrx::log!(
            "maintenance of database {} runs again: {job}",
            self.database
        );
    }

    fn report(&self, job: &str, failure: &Failure) {
        let message = format!(
            "maintenance of database {} failed at {job}, which is tried again until it runs: {}",
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
