//! One batch of maintenance: one transaction, whose errors are caught.

use std::ffi::c_int;
use std::panic::AssertUnwindSafe;

use pgrx::pg_sys::panic::CaughtError;
use pgrx::pg_sys::{self, Oid, PgTryBuilder};
use pgrx::spi::{self, Spi};

use super::process;

/// What a batch came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Batch {
    Done {
        /// There is more to do at once.
        more: bool,
    },
    /// The extension isn't in this database.
    NotInstalled,
}

/// Why a batch was rolled back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Failure {
    pub(super) message: String,
    pub(super) detail: Option<String>,
    pub(super) hint: Option<String>,
}

/// The owner of the extension's own function; nobody else's function of this name is run.
const OWNER: &str = "select p.proowner
  from pg_catalog.pg_proc p
  join pg_catalog.pg_depend d on d.classid = 'pg_catalog.pg_proc'::pg_catalog.regclass and d.objid = p.oid and d.deptype = 'e'
  join pg_catalog.pg_extension e on d.refclassid = 'pg_catalog.pg_extension'::pg_catalog.regclass and d.refobjid = e.oid and e.extname = 'tasker'
  where p.oid = pg_catalog.to_regprocedure('tasker.run_maintenance(integer)')";

const RUN: &str =
    "select coalesce(pg_catalog.bool_or(m.more), false) from tasker.run_maintenance() m";

/// Runs one batch in a transaction of its own.
pub(super) fn run() -> Result<Batch, Failure> {
    process::show(Some(c"select tasker.run_maintenance()"));
    let done = PgTryBuilder::new(AssertUnwindSafe(|| {
        // SAFETY: no transaction is open; an error in here aborts this one below.
        unsafe {
            pg_sys::SetCurrentStatementStartTimestamp();
            pg_sys::StartTransactionCommand();
            pg_sys::PushActiveSnapshot(pg_sys::GetTransactionSnapshot());
        }
        let batch = work()?;
        // SAFETY: ends what was begun above.
        unsafe {
            pg_sys::PopActiveSnapshot();
            pg_sys::CommitTransactionCommand();
        }
        Ok(batch)
    }))
    .catch_others(|error| Err(Failure::from(error)))
    .execute();
    // SAFETY: between transactions, or to end the one that failed with all that it holds.
    unsafe {
        if done.is_err() {
            pg_sys::AbortCurrentTransaction();
        }
        // Without it, neither autovacuum nor a reader of the statistics would see what this process does.
        pg_sys::pgstat_report_stat(false);
    }
    process::show(None);
    done
}

/// Calls the function as its owner: the superuser's rights are for nobody to borrow.
fn work() -> Result<Batch, Failure> {
    let Some(owner) = first::<Oid>(OWNER)? else {
        return Ok(Batch::NotInstalled);
    };
    let (mut user, mut context): (Oid, c_int) = (pg_sys::InvalidOid, 0);
    // SAFETY: plain variables of this process. An error puts them back by aborting the transaction.
    unsafe {
        pg_sys::GetUserIdAndSecContext(&raw mut user, &raw mut context);
        let local = context | pg_sys::SECURITY_LOCAL_USERID_CHANGE as c_int;
        pg_sys::SetUserIdAndSecContext(owner, local);
    }
    let more = first::<bool>(RUN)?.unwrap_or(false);
    // SAFETY: as above.
    unsafe { pg_sys::SetUserIdAndSecContext(user, context) };
    Ok(Batch::Done { more })
}

/// The first column of the first row.
fn first<T: pgrx::datum::FromDatum + pgrx::datum::IntoDatum>(
    statement: &str,
) -> Result<Option<T>, Failure> {
    let value = Spi::connect_mut(|client| {
        let rows = client.update(statement, Some(1), &[])?;
        if rows.is_empty() {
            return Ok(None);
        }
        rows.first().get_one::<T>()
    });
    value.map_err(|error: spi::Error| Failure {
        message: error.to_string(),
        detail: None,
        hint: None,
    })
}

impl From<CaughtError> for Failure {
    fn from(error: CaughtError) -> Self {
        let (CaughtError::PostgresError(report)
        | CaughtError::ErrorReport(report)
        | CaughtError::RustPanic {
            ereport: report, ..
        }) = error;
        Self {
            message: report.message().to_owned(),
            detail: report.detail().map(str::to_owned),
            hint: report.hint().map(str::to_owned),
        }
    }
}
