//! The hot path: creating, claiming, finishing, and all that follows from a step's change.
//!
//! Every call is a fixed number of statements for each partition and each queue it touches, whatever the number of steps: rows are read and locked in one statement, what becomes of
//! them is decided here in memory, by the rules of `tasker_rules` and the compiled graph, and is written in one statement. Errors of our own are raised by SQL.
//!
//! Lock order: steps by key, then tasks by key, then queue rows; see `sql/README.md`.

mod access;
mod answers;
mod branches;
mod changes;
mod claim;
mod claimed;
mod compensation;
mod create;
mod evaluate;
mod events;
mod fail;
mod finish;
mod graphs;
mod instances;
mod late;
mod letters;
mod messages;
mod namespaces;
mod outcomes;
mod repair;
mod requests;
mod rows;
mod settle;
mod sql_steps;
mod start;
mod tasks;
mod turns;
mod waits;

use pgrx::datum::TimestampWithTimeZone;
use pgrx::pg_sys::TimestampTz;
use pgrx::pg_sys::panic::ErrorReport;
use tasker_rules::sql_handler;

pub(crate) use late::is_late_step;

use crate::error::Error;
use crate::statements::{Session, session};
use crate::values::{self, names};

/// What all parts of one call share.
pub(crate) struct Call<'a> {
    session: &'a Session,
    /// The one time of the call.
    now: TimestampTz,
    /// Who calls, for history.
    actor: &'a str,
}

/// A worker that asks for steps.
struct Taker<'a> {
    worker_id: &'a str,
    /// How many steps it takes at most.
    limit: usize,
    lease_ms: i64,
    namespaces: &'a [String],
    /// The handlers it has; all without, but for SQL functions, which no worker has.
    handlers: Option<&'a [String]>,
}

impl Call<'_> {
    fn after_ms(&self, milliseconds: i64) -> TimestampTz {
        self.now.saturating_add(milliseconds.saturating_mul(1000))
    }
}

impl Taker<'_> {
    fn has(&self, handler: &str) -> bool {
        self.handlers.map_or_else(
            || !sql_handler::is_sql(handler),
            |handlers| handlers.iter().any(|name| name == handler),
        )
    }

    fn serves(&self, namespace: &str) -> bool {
        self.namespaces.iter().any(|name| name == namespace)
    }
}

/// Does the work of a function that answers only how it refuses, if it does.
fn refusable(
    now: TimestampWithTimeZone,
    actor: &str,
    work: impl FnOnce(&Call) -> Result<(), Error>,
) -> Result<Option<Vec<Option<String>>>, ErrorReport> {
    let done = session(|session| {
        work(&Call {
            session,
            now: now.into(),
            actor,
        })
    });
    Ok(values::refused(done)?)
}
