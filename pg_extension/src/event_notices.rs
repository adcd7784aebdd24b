//! Telling who follows the feed of events that there are new ones, only while somebody has asked for it.
//!
//! NOTIFY takes a lock of the whole database at commit, so it must not be sent for nobody. Who asks (`tasker.await_events`) holds an advisory lock of its session in share mode;
//! whoever writes history tries the same lock in a mode that goes with other writers' but not with that, without ever waiting. Who gets it has nobody to tell, and holds it until its
//! transaction ends, so that nobody can ask meanwhile and miss it. Who doesn't get it notifies.

use pgrx::pg_sys;
use pgrx::{IntoDatum, direct_function_call_as_datum, pg_extern};

use crate::advisory;
use crate::settings;

/// The advisory lock: `tasker.await_events` has the same numbers.
const LOCK: (u32, u32) = (1_414_742_859, 3);
const CHANNEL: &str = "tasker_events";

/// Notifies when this transaction commits, if somebody has asked and the session doesn't keep silent; once, however often it is called.
pub(crate) fn announce() {
    if !settings::wakes_workers() || is_unawaited() {
        return;
    }
    // SAFETY: takes two texts and gives nothing.
    unsafe {
        direct_function_call_as_datum(
            pg_sys::pg_notify,
            &[CHANNEL.into_datum(), String::new().into_datum()],
        );
    }
}

/// Whether nobody has asked, nor can ask until this transaction ends.
fn is_unawaited() -> bool {
    advisory::try_acquire(LOCK, pg_sys::RowExclusiveLock as pg_sys::LOCKMODE)
}

/// Does so for history that SQL has written.
#[pg_extern(volatile, parallel_unsafe)]
fn _announce_events() {
    announce();
}
