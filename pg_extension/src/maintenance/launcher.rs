//! The launcher: sees to it that each database named has its worker, and starts it again when it has ended.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::time::{Duration, Instant};

use pgrx::bgworkers::{
    BackgroundWorker, BackgroundWorkerBuilder, BackgroundWorkerStatus, DynamicBackgroundWorker,
};
use pgrx::pg_guard;
use pgrx::pg_sys::{self, Datum};

use tasker_rules::rounds::pause_after;

use super::{LIBRARY, process, worker};
use crate::settings;

const NAME: &str = "tasker launcher";
const FUNCTION: &str = "tasker_launcher_main";

/// After a crash of the launcher itself.
const STARTED_AGAIN_AFTER: Duration = Duration::from_secs(1);
/// How often the workers are looked at; their ends and a change of the settings are told by a signal.
const LOOKED_AT_EVERY: Duration = Duration::from_secs(1);
/// With no database named, only a signal brings something to do.
const IDLE: Duration = Duration::from_mins(1);
/// The first and the longest pause before a worker that ended is started again.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// A worker that ran this long didn't fail at starting.
const RAN_WELL: Duration = Duration::from_mins(1);
/// The longest name that a database can have, in bytes.
const NAME_MAX: usize = pg_sys::NAMEDATALEN as usize - 1;

/// Tells the postmaster of the launcher, when it is the postmaster that loads the library. A session that loads it gets its functions only.
pub(crate) fn register() {
    // SAFETY: plain variables of this process.
    let is_wanted =
        unsafe { pg_sys::process_shared_preload_libraries_in_progress && !pg_sys::IsBinaryUpgrade };
    if is_wanted {
        BackgroundWorkerBuilder::new(NAME)
            .set_library(LIBRARY)
            .set_function(FUNCTION)
            .set_restart_time(Some(STARTED_AGAIN_AFTER))
            .enable_spi_access()
            .load();
    }
}

/// The process of the launcher.
#[pg_guard]
#[unsafe(no_mangle)]
#[allow(unreachable_pub, reason = "PostgreSQL looks for this name")]
pub extern "C-unwind" fn tasker_launcher_main(_argument: Datum) {
    process::begin(NAME, None);
    let mut watched: BTreeMap<String, Watched> = BTreeMap::new();
    loop {
        let wanted = settings::databases();
        let gone: Vec<String> = watched
            .keys()
            .filter(|name| !wanted.contains(name))
            .cloned()
            .collect();
        for worker in gone.iter().filter_map(|name| watched.remove(name)?.worker) {
            worker.terminate();
        }
        for name in wanted {
            watched
                .entry(name.clone())
                .or_insert_with(Watched::new)
                .look(&name);
        }
        let pause = if watched.is_empty() {
            IDLE
        } else {
            LOOKED_AT_EVERY
        };
        if !process::wait(pause) {
            // SAFETY: ends this process. With any other code than 0 the postmaster starts it again, unless it shuts down.
            unsafe { pg_sys::proc_exit(1) };
        }
    }
}

/// What is known of one database's worker.
struct Watched {
    worker: Option<DynamicBackgroundWorker>,
    started_at: Instant,
    failures: u32,
    look_again_at: Instant,
    /// What the log has last been told of this database.
    said: Option<&'static str>,
}

impl Watched {
    fn new() -> Self {
        let now = Instant::now();
        Self {
            worker: None,
            started_at: now,
            failures: 0,
            look_again_at: now,
            said: None,
        }
    }

    /// Starts the worker when there is none and its time has come.
    fn look(&mut self, database: &str) {
        let now = Instant::now();
        if let Some(worker) = &self.worker {
            if !matches!(worker.pid(), Err(BackgroundWorkerStatus::Stopped)) {
                return;
            }
            self.worker = None;
            self.failures = if now.duration_since(self.started_at) > RAN_WELL {
                1
            } else {
                self.failures.saturating_add(1)
            };
            self.look_again_at = now + pause_after(self.failures, FIRST_PAUSE, LONGEST_PAUSE);
        }
        if now < self.look_again_at {
            return;
        }
        if database.len() > NAME_MAX || !is_there(database) {
            self.failures = 0;
            self.look_again_at = now + FIRST_PAUSE;
            self.say(database, "isn't there: its maintenance begins when it is");
            return;
        }
        if let Some(worker) = start(database) {
            self.worker = Some(worker);
            self.started_at = now;
            self.said = None;
        } else {
            self.look_again_at = now + LONGEST_PAUSE;
            self.say(
                database,
                "has no maintenance: no background worker is free, raise max_worker_processes",
            );
        }
    }

    fn say(&mut self, database: &str, what: &'static str) {
        if self.said.replace(what) != Some(what) {
            pgrx::warning!("database {database}, which tasker.databases names, {what}");
        }
    }
}

/// Whether there is a database of that name.
fn is_there(database: &str) -> bool {
    let Ok(name) = CString::new(database) else {
        return false;
    };
    let name = &name;
    BackgroundWorker::transaction(move || {
        let mut key = pg_sys::ScanKeyData::default();
        // SAFETY: reads a shared catalogue, which a process without a database can do; but it can't read of an index, which the first process of a server has to.
        unsafe {
            pg_sys::ScanKeyInit(
                &raw mut key,
                pg_sys::Anum_pg_database_datname as i16,
                pg_sys::BTEqualStrategyNumber as u16,
                pg_sys::F_NAMEEQ.into(),
                Datum::from(name.as_ptr()),
            );
            let lock = pg_sys::AccessShareLock as i32;
            let table = pg_sys::table_open(pg_sys::DatabaseRelationId, lock);
            let scan = pg_sys::systable_beginscan(
                table,
                pg_sys::InvalidOid,
                false,
                std::ptr::null_mut(),
                1,
                &raw mut key,
            );
            let is_there = !pg_sys::systable_getnext(scan).is_null();
            pg_sys::systable_endscan(scan);
            pg_sys::table_close(table, lock);
            is_there
        }
    })
}

/// Starts a database's worker. It isn't started again by the postmaster: this process does that, when the database is still there.
fn start(database: &str) -> Option<DynamicBackgroundWorker> {
    // SAFETY: a plain variable of this process.
    let this_process = unsafe { pg_sys::MyProcPid };
    BackgroundWorkerBuilder::new(&worker::name(database))
        .set_type(worker::KIND)
        .set_library(LIBRARY)
        .set_function(worker::FUNCTION)
        .set_extra(database)
        .set_notify_pid(this_process)
        .enable_spi_access()
        .load_dynamic()
        .ok()
}
