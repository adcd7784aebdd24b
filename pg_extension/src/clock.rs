//! The one clock of the engine.

use std::cell::Cell;

use pgrx::datum::TimestampWithTimeZone;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::{pg_extern, pg_sys};

use crate::error::Error;

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
