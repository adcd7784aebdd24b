//! Processes that run the SQL functions of steps, beside the worker of a database: a function may take long, and maintenance doesn't wait for it. The worker starts as many as
//! `tasker.sql_runners` says, when there are templates with such steps, and again when they have ended.

use std::time::{Duration, Instant};

use pgrx::bgworkers::{
    BackgroundWorker, BackgroundWorkerBuilder, BackgroundWorkerStatus, DynamicBackgroundWorker,
};
use pgrx::pg_guard;
use pgrx::pg_sys::{self, Datum};
use tasker_rules::rounds::pause_after;

use super::batch::{self, Batch};
use super::{process, worker};
use crate::settings;

const FUNCTION: &str = "tasker_sql_runner_main";
/// What `pg_stat_activity` shows as the kind of process; `tasker._live_sql_runners` looks for it.
const KIND: &str = "tasker sql runner";
/// The pause after work was found: what follows from it is often ready soon. It doubles each time nothing is found.
const SHORTEST_PAUSE: Duration = Duration::from_millis(10);
/// The first and the longest pause after failures in a row, and before a process that ended is started again.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// The process of a runner. Its worker names the database.
#[pg_guard]
#[unsafe(no_mangle)]
#[allow(unreachable_pub, reason = "PostgreSQL looks for this name")]
pub extern "C-unwind" fn tasker_sql_runner_main(_argument: Datum) {
    let database = BackgroundWorker::get_extra();
    process::begin(&format!("{KIND} of {database}"), Some(database));
    // SAFETY: the entry that this process was started with.
    let worker = unsafe { (*pg_sys::MyBgworkerEntry).bgw_notify_pid };
    let mut pause = SHORTEST_PAUSE;
    let mut failures = 0;
    let mut said = None;
    loop {
        match batch::run_sql_step() {
            Ok(done) => {
                failures = 0;
                said = None;
                pause = match done {
                    Batch::Done { more: true } => Duration::ZERO,
                    _ => (pause * 2).clamp(SHORTEST_PAUSE, settings::maintenance_interval()),
                };
            }
            Err(failure) => {
                failures += 1;
                pause = pause_after(failures, FIRST_PAUSE, LONGEST_PAUSE);
                if said.as_ref() != Some(&failure) {
                    pgrx::warning!(
                        "a SQL function of database {database} could not be run, which is tried again: {}",
                        failure.message
                    );
                    said = Some(failure);
                }
            }
        }
        if !process::wait(pause) || !worker::is_alive(worker) {
            return;
        }
    }
}

/// The runners of a database, as its worker knows them.
pub(super) struct Runners {
    running: Vec<DynamicBackgroundWorker>,
    look_again_at: Instant,
    failures: u32,
    has_told: bool,
}

impl Runners {
    pub(super) fn new() -> Self {
        Self {
            running: Vec::new(),
            look_again_at: Instant::now(),
            failures: 0,
            has_told: false,
        }
    }

    /// Sees to it that there are as many as are wanted.
    pub(super) fn look(&mut self, database: &str, are_needed: bool) {
        let wanted = if are_needed {
            settings::sql_runners()
        } else {
            0
        };
        let now = Instant::now();
        let before = self.running.len();
        self.running
            .retain(|runner| !matches!(runner.pid(), Err(BackgroundWorkerStatus::Stopped)));
        if self.running.len() < before {
            self.failures = self.failures.saturating_add(1);
            self.look_again_at = now + pause_after(self.failures, FIRST_PAUSE, LONGEST_PAUSE);
        } else if now >= self.look_again_at + LONGEST_PAUSE {
            self.failures = 0;
        }
        while self.running.len() > wanted {
            if let Some(runner) = self.running.pop() {
                runner.terminate();
            }
        }
        while self.running.len() < wanted && now >= self.look_again_at {
            if let Some(runner) = start(database) {
                self.running.push(runner);
                self.has_told = false;
                continue;
            }
            self.look_again_at = now + LONGEST_PAUSE;
            if !std::mem::replace(&mut self.has_told, true) {
                pgrx::warning!(
                    "database {database} has {} of {wanted} processes for SQL functions of steps: no background worker is free, raise max_worker_processes or lower tasker.sql_runners",
                    self.running.len()
                );
            }
        }
    }
}

fn start(database: &str) -> Option<DynamicBackgroundWorker> {
    // SAFETY: a plain variable of this process.
    let this_process = unsafe { pg_sys::MyProcPid };
    BackgroundWorkerBuilder::new(&format!("{KIND} of {database}"))
        .set_type(KIND)
        .set_library(super::LIBRARY)
        .set_function(FUNCTION)
        .set_extra(database)
        .set_notify_pid(this_process)
        .enable_spi_access()
        .load_dynamic()
        .ok()
}
