//! Advisory locks of two numbers, of this database, held until the transaction ends.

use pgrx::pg_sys;

/// What PostgreSQL itself writes in the tag of an advisory lock of two numbers, `pg_advisory_xact_lock(integer, integer)`.
const OF_TWO_NUMBERS: u16 = 2;

/// Waits for one, as for any other of PostgreSQL's: the wait can be interrupted, and a deadlock ends it.
pub(crate) fn acquire(numbers: (u32, u32), mode: pg_sys::LOCKMODE) {
    take(numbers, mode, false);
}

/// Takes one if it can be had at once.
pub(crate) fn try_acquire(numbers: (u32, u32), mode: pg_sys::LOCKMODE) -> bool {
    take(numbers, mode, true)
}

fn take(numbers: (u32, u32), mode: pg_sys::LOCKMODE, without_waiting: bool) -> bool {
    // SAFETY: the lock manager copies the tag. An error of a wait leaves it as any other error of PostgreSQL's.
    unsafe {
        let tag = pg_sys::LOCKTAG {
            locktag_field1: pg_sys::MyDatabaseId.to_u32(),
            locktag_field2: numbers.0,
            locktag_field3: numbers.1,
            locktag_field4: OF_TWO_NUMBERS,
            locktag_type: pg_sys::LockTagType::LOCKTAG_ADVISORY as u8,
            locktag_lockmethodid: pg_sys::USER_LOCKMETHOD as u8,
        };
        let answer = pg_sys::LockAcquire(&raw const tag, mode, false, without_waiting);
        answer != pg_sys::LockAcquireResult::LOCKACQUIRE_NOT_AVAIL
    }
}
