//! The one clock of the engine, and PostgreSQL's own: the next transaction id.

use std::cell::Cell;

use pgrx::datum::TimestampWithTimeZone;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::{pg_extern, pg_sys};

use crate::error::Error;
use crate::keys::MICROSECONDS_FROM_1970_TO_2000;

thread_local! {
    /// The time a test has set for this session, in microseconds since 2000.
    static SET_AT: Cell<Option<pg_sys::TimestampTz>> = const { Cell::new(None) };
}

/// Microseconds since 2000, as PostgreSQL counts.
pub(crate) fn now() -> pg_sys::TimestampTz {
    // SAFETY: reads the system's clock and nothing else.
    SET_AT
        .get()
        .unwrap_or_else(|| unsafe { pg_sys::GetCurrentTimestamp() })
}

/// The time, for every function of the engine.
#[pg_extern(volatile, parallel_unsafe)]
fn _now() -> Result<TimestampWithTimeZone, ErrorReport> {
    TimestampWithTimeZone::try_from(now()).map_err(|_| Error::TimeOutOfRange.into())
}

/// Sets the clock of this session, for tests; null lets it run again. Granted to nobody: for the owner and superusers.
#[pg_extern(volatile, parallel_unsafe)]
fn _set_now(at: Option<TimestampWithTimeZone>) {
    SET_AT.set(at.map(pg_sys::TimestampTz::from));
}

/// The transaction id that is given out next, whole, not its low 32 bits.
#[pg_extern(volatile, parallel_unsafe)]
fn _next_xid() -> i64 {
    // SAFETY: reads a counter under PostgreSQL's own lock.
    let next = unsafe { pg_sys::ReadNextFullTransactionId() };
    next.value.cast_signed()
}

/// A time that is counted in microseconds since 1970, as PostgreSQL counts.
pub(crate) const fn of_unix(microseconds: i64) -> pg_sys::TimestampTz {
    microseconds - MICROSECONDS_FROM_1970_TO_2000
}
