//! What is due, and one batch of a job: each one transaction, whose errors are caught.

use std::ffi::{CString, c_int};
use std::panic::AssertUnwindSafe;

use pgrx::datum::DatumWithOid;
use pgrx::pg_sys::panic::CaughtError;
use pgrx::pg_sys::{self, Oid, PgTryBuilder};
use pgrx::spi::{self, Spi};

use super::process;
use crate::edition;

/// What is to be done in a database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Due {
    /// The jobs, in their order.
    Jobs {
        jobs: Vec<String>,
        /// Steps may have SQL functions, which others than this process run.
        has_sql_steps: bool,
    },
    /// The extension isn't in this database.
    NotInstalled,
}

/// What a batch came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Batch {
    Done {
        /// There is more to do at once.
        more: bool,
    },
    /// Another session is at maintenance.
    Busy,
}

/// Why a batch was rolled back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Failure {
    pub(super) message: String,
    pub(super) detail: Option<String>,
    pub(super) hint: Option<String>,
}

/// The owner of the extension's own functions, nobody else's functions of these names are run; and whether it can do one job at a time. Version 0.1.0 can't.
const OWNER: &str = "select p.proowner, p.proname = 'run_maintenance_job'
  from pg_catalog.pg_proc p
  join pg_catalog.pg_depend d on d.classid = 'pg_catalog.pg_proc'::pg_catalog.regclass and d.objid = p.oid and d.deptype = 'e'
  join pg_catalog.pg_extension e on d.refclassid = 'pg_catalog.pg_extension'::pg_catalog.regclass and d.refobjid = e.oid and e.extname = 'tasker'
  where p.oid = coalesce(pg_catalog.to_regprocedure('tasker.run_maintenance_job(text,integer)'), pg_catalog.to_regprocedure('tasker.run_maintenance(integer)'))";

/// Stands for all jobs together, where the extension doesn't know them one by one.
const WHOLE_ROUND: &str = "run_maintenance";

const LIST: &str = "select pg_catalog.array_agg(d.job) from tasker.list_due_jobs() d";
const HAS_SQL_STEPS: &str = "select exists (select from tasker.sql_namespaces)";
const RUN_SQL_STEP: &str = "select r.more from tasker.run_sql_step() r";
const RUN_JOB: &str = "select pg_catalog.bool_or(m.more) from tasker.run_maintenance_job($1) m";
const RUN_ALL: &str = "select pg_catalog.bool_or(m.more) from tasker.run_maintenance() m";

/// Asks which jobs are due, in a transaction of its own.
pub(super) fn due() -> Result<Due, Failure> {
    in_transaction("select tasker.list_due_jobs()", || {
        let Some((owner, by_job)) = owner()? else {
            return Ok(Due::NotInstalled);
        };
        if !by_job {
            return Ok(Due::Jobs {
                jobs: vec![WHOLE_ROUND.to_owned()],
                has_sql_steps: false,
            });
        }
        let jobs = as_owner(owner, || first::<Vec<String>>(LIST, &[]))?;
        let has_sql_steps = edition::relation(c"sql_namespaces").is_some()
            && as_owner(owner, || first::<bool>(HAS_SQL_STEPS, &[]))? == Some(true);
        Ok(Due::Jobs {
            jobs: jobs.unwrap_or_default(),
            has_sql_steps,
        })
    })
}

/// Runs the SQL function that this process has claimed, and claims the next, in a transaction of its own. Says whether there is one to run.
pub(super) fn run_sql_step() -> Result<Batch, Failure> {
    in_transaction("select tasker.run_sql_step()", || {
        let Some((owner, _)) = owner()? else {
            return Ok(Batch::Busy);
        };
        if edition::relation(c"sql_runs").is_none() {
            return Ok(Batch::Busy);
        }
        let more = as_owner(owner, || first::<bool>(RUN_SQL_STEP, &[]))?;
        Ok(Batch::Done {
            more: more.unwrap_or(false),
        })
    })
}

/// Runs one batch of a job in a transaction of its own.
pub(super) fn run(job: &str) -> Result<Batch, Failure> {
    let shown = if job == WHOLE_ROUND {
        "select tasker.run_maintenance()".to_owned()
    } else {
        format!("select tasker.run_maintenance_job('{job}')")
    };
    in_transaction(&shown, || {
        let Some((owner, by_job)) = owner()? else {
            return Ok(Batch::Busy);
        };
        let more = as_owner(owner, || {
            if by_job && job != WHOLE_ROUND {
                first::<bool>(RUN_JOB, &[job.into()])
            } else {
                first::<bool>(RUN_ALL, &[])
            }
        })?;
        Ok(more.map_or(Batch::Busy, |more| Batch::Done { more }))
    })
}

/// Does something in a transaction, which is rolled back when it fails. `shown` is what `pg_stat_activity` shows meanwhile.
fn in_transaction<T>(shown: &str, work: impl FnOnce() -> Result<T, Failure>) -> Result<T, Failure> {
    process::show(CString::new(shown).ok().as_deref());
    let done = PgTryBuilder::new(AssertUnwindSafe(|| {
        // SAFETY: no transaction is open; an error in here aborts this one below.
        unsafe {
            pg_sys::SetCurrentStatementStartTimestamp();
            pg_sys::StartTransactionCommand();
            pg_sys::PushActiveSnapshot(pg_sys::GetTransactionSnapshot());
        }
        let done = work()?;
        // SAFETY: ends what was begun above.
        unsafe {
            pg_sys::PopActiveSnapshot();
            pg_sys::CommitTransactionCommand();
        }
        Ok(done)
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

fn owner() -> Result<Option<(Oid, bool)>, Failure> {
    let found = Spi::connect_mut(|client| {
        let rows = client.update(OWNER, Some(1), &[])?;
        if rows.is_empty() {
            return Ok(None);
        }
        let (owner, by_job) = rows.first().get_two::<Oid, bool>()?;
        Ok(owner.zip(by_job))
    });
    found.map_err(|error: spi::Error| Failure::from(error))
}

/// Calls something as the functions' owner: the superuser's rights are for nobody to borrow.
fn as_owner<T>(owner: Oid, call: impl FnOnce() -> Result<T, Failure>) -> Result<T, Failure> {
    let (mut user, mut context): (Oid, c_int) = (pg_sys::InvalidOid, 0);
    // SAFETY: plain variables of this process. An error puts them back by aborting the transaction.
    unsafe {
        pg_sys::GetUserIdAndSecContext(&raw mut user, &raw mut context);
        let local = context | pg_sys::SECURITY_LOCAL_USERID_CHANGE as c_int;
        pg_sys::SetUserIdAndSecContext(owner, local);
    }
    let answer = call()?;
    // SAFETY: as above.
    unsafe { pg_sys::SetUserIdAndSecContext(user, context) };
    Ok(answer)
}

/// The first column of the first row.
fn first<T: pgrx::datum::FromDatum + pgrx::datum::IntoDatum>(
    statement: &str,
    arguments: &[DatumWithOid],
) -> Result<Option<T>, Failure> {
    let value = Spi::connect_mut(|client| {
        let rows = client.update(statement, Some(1), arguments)?;
        if rows.is_empty() {
            return Ok(None);
        }
        rows.first().get_one::<T>()
    });
    value.map_err(|error: spi::Error| Failure::from(error))
}

impl From<spi::Error> for Failure {
    fn from(error: spi::Error) -> Self {
        Self {
            message: error.to_string(),
            detail: None,
            hint: None,
        }
    }
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
