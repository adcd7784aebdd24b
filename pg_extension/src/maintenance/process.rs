//! What every background worker needs: its signals, its session's settings, and how it waits. It waits nowhere else, so that it always hears when it is told to end.

use std::ffi::{CStr, CString, c_int};
use std::time::Duration;

use pgrx::bgworkers::{BackgroundWorker, SignalWakeFlags};
use pgrx::pg_sys;

unsafe extern "C-unwind" {
    /// PostgreSQL's own handler of SIGTERM: the statement that runs is ended, its transaction rolled back, and the process exits.
    fn die(signal: c_int);
}

/// What a database or a role may have set otherwise. Waiting for a lock is bounded, as somebody else's may be held for hours; the round is tried again.
const SETTINGS: [(&CStr, &CStr); 7] = [
    (c"search_path", c"pg_catalog, pg_temp"),
    (c"lock_timeout", c"10s"),
    (c"statement_timeout", c"0"),
    (c"idle_in_transaction_session_timeout", c"0"),
    (c"default_transaction_isolation", c"read committed"),
    (c"default_transaction_read_only", c"off"),
    (c"row_security", c"off"),
];

/// Takes the signals and connects to a database, or to none in particular, as the superuser that the cluster was made with.
pub(super) fn begin(name: &str, database: Option<&str>) {
    // SAFETY: `die` is a handler of signals.
    unsafe {
        #[cfg(not(feature = "pg18"))]
        pg_sys::pqsignal(pg_sys::SIGTERM as c_int, Some(die));
        #[cfg(feature = "pg18")]
        pg_sys::pqsignal_be(pg_sys::SIGTERM as c_int, Some(die));
    }
    BackgroundWorker::attach_signal_handlers(SignalWakeFlags::SIGHUP);
    BackgroundWorker::connect_worker_to_spi(database, None);
    for (setting, value) in SETTINGS {
        set(setting, value);
    }
    if let Ok(name) = CString::new(name) {
        set(c"application_name", &name);
    }
}

fn set(setting: &CStr, value: &CStr) {
    // SAFETY: both texts are copied.
    unsafe {
        pg_sys::SetConfigOption(
            setting.as_ptr(),
            value.as_ptr(),
            pg_sys::GucContext::PGC_SUSET,
            pg_sys::GucSource::PGC_S_OVERRIDE,
        );
    }
}

/// Waits until the time has passed or a signal comes, and reads the configuration anew when asked to. False when the process is told to end.
pub(super) fn wait(time: Duration) -> bool {
    // SAFETY: this process' own latch. With the postmaster, the process ends in here.
    unsafe {
        let events = pg_sys::WL_LATCH_SET | pg_sys::WL_TIMEOUT | pg_sys::WL_EXIT_ON_PM_DEATH;
        let milliseconds = i64::try_from(time.as_millis()).unwrap_or(i64::MAX);
        pg_sys::WaitLatch(
            pg_sys::MyLatch,
            events as c_int,
            milliseconds,
            pg_sys::PG_WAIT_EXTENSION,
        );
        pg_sys::ResetLatch(pg_sys::MyLatch);
        if pg_sys::ProcDiePending != 0 {
            return false;
        }
    }
    // Others wait for this process to take note of what they did, to drop a database for one.
    pg_sys::check_for_interrupts!();
    if BackgroundWorker::sighup_received() {
        // SAFETY: outside any transaction, as it has to be.
        unsafe {
            pg_sys::ConfigReloadPending = 0;
            pg_sys::ProcessConfigFile(pg_sys::GucContext::PGC_SIGHUP);
        }
    }
    true
}

/// Shows in `pg_stat_activity` what is run, or that nothing is.
pub(super) fn show(statement: Option<&CStr>) {
    let (state, text) = match statement {
        Some(text) => (pg_sys::BackendState::STATE_RUNNING, text.as_ptr()),
        None => (pg_sys::BackendState::STATE_IDLE, std::ptr::null()),
    };
    // SAFETY: the text is copied.
    unsafe { pg_sys::pgstat_report_activity(state, text) };
}
