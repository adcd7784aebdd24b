//! Telling who follows the feed of events that there are new ones, only while somebody has asked for it.
//!
//! NOTIFY takes a lock of the whole database at commit, so it must not be sent for nobody. Who asks (`tasker.await_events`) holds an advisory lock of its session in share mode;
//! whoever writes history tries the same lock in a mode that goes with other writers' but not with that, without ever waiting. Who gets it has nobody to tell, and holds it until its
//! transaction ends, so that nobody can ask meanwhile and miss it. Who doesn't get it notifies.

use pgrx::pg_sys;
use pgrx::{IntoDatum, direct_function_call_as_datum, pg_extern};

use crate::settings;

/// The advisory lock: `tasker.await_events` has the same numbers. What follows stands for a lock of two numbers.
const LOCK: (u32, u32, u16) = (1_414_742_859, 3, 2);
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
    // SAFETY: the lock manager copies the tag, and takes the lock or refuses it at once.
    unsafe {
        let tag = pg_sys::LOCKTAG {
            locktag_field1: pg_sys::MyDatabaseId.to_u32(),
            locktag_field2: LOCK.0,
            locktag_field3: LOCK.1,
            locktag_field4: LOCK.2,
            locktag_type: pg_sys::LockTagType::LOCKTAG_ADVISORY as u8,
            locktag_lockmethodid: pg_sys::USER_LOCKMETHOD as u8,
        };
        let mode = pg_sys::RowExclusiveLock as pg_sys::LOCKMODE;
        let answer = pg_sys::LockAcquire(&raw const tag, mode, false, true);
        answer != pg_sys::LockAcquireResult::LOCKACQUIRE_NOT_AVAIL
    }
}

/// Does so for history that SQL has written.
#[pg_extern(volatile, parallel_unsafe)]
fn _announce_events() {
    announce();
}
