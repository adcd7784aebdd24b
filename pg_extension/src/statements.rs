//! Statements that a backend prepares once and keeps, run inside one session with the server programming interface.
//!
//! Arrays go in, rows come out; payloads pass through as PostgreSQL holds them and are never turned into text here.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::ffi::{CStr, CString};
use std::ptr::NonNull;

use pgrx::pg_sys::{self, Datum, Oid};
use pgrx::{Spi, spi};

use crate::edition::edition;
use crate::error::Error;
use crate::planner::Pinned;
use crate::values::{Row, Value, array_type};

/// A statement: its name tells it from others on the same table, `{}` in its text is the table it runs on.
pub(crate) struct Statement {
    pub(crate) name: &'static str,
    pub(crate) text: &'static str,
    /// The type in the schema `tasker` of the rows that `$1` is an array of, where it is one. Rows of one array are read in a fraction of the time of as many arrays side by side.
    pub(crate) rows: Option<&'static CStr>,
    /// The types of the parameters that follow.
    pub(crate) parameters: &'static [Oid],
}

/// A session: whatever its statements give stays valid until it ends.
pub(crate) struct Session {
    _pinned: Pinned,
}

type Kept = HashMap<(&'static str, String), NonNull<pg_sys::_SPI_plan>>;

thread_local! {
    static KEPT: RefCell<Kept> = RefCell::default();
}

/// Runs `work` in a session.
pub(crate) fn session<T>(work: impl FnOnce(&Session) -> Result<T, Error>) -> Result<T, Error> {
    let _open = Open::another();
    Spi::connect_mut(|_| {
        let session = Session {
            _pinned: Pinned::new(),
        };
        work(&session)
    })
}

impl Session {
    /// Runs a statement on a table, whose name is quoted where it has to be, and gives what `read` makes of each row.
    #[allow(clippy::unused_self, reason = "it needs one that is open")]
    pub(crate) fn rows<T>(
        &self,
        statement: &Statement,
        table: &str,
        values: &[Value],
        mut read: impl FnMut(&Row) -> Result<T, Error>,
    ) -> Result<Vec<T>, Error> {
        execute(plan(statement, table)?, values)?;
        // SAFETY: set by the statement that has just run; its rows live as long as the session.
        unsafe {
            let Some(table) = pg_sys::SPI_tuptable.as_mut() else {
                return Ok(Vec::new());
            };
            let count = usize::try_from(pg_sys::SPI_processed).unwrap_or(0);
            let columns = usize::try_from((*table.tupdesc).natts).unwrap_or(0);
            let mut row_values = vec![Datum::from(0); columns];
            let mut row_nulls = vec![false; columns];
            let mut result = Vec::with_capacity(count);
            for index in 0..count {
                pg_sys::heap_deform_tuple(
                    *table.vals.add(index),
                    table.tupdesc,
                    row_values.as_mut_ptr(),
                    row_nulls.as_mut_ptr(),
                );
                result.push(read(&Row::new(&row_values, &row_nulls))?);
            }
            Ok(result)
        }
    }

    /// The refusal that a statement words: its code, message, detail and hint.
    pub(crate) fn refusal(&self, statement: &Statement, table: &str, values: &[Value]) -> Error {
        let worded = self.rows(statement, table, values, |row| Ok(worded(row)));
        match worded.map(|mut refusals| refusals.pop()) {
            Ok(Some(refusal)) => refusal,
            Ok(None) => Error::refused("XX000", format!("{table} gave no reason"), None, None),
            Err(error) => error,
        }
    }

    /// A value of variable length as it is after the session has ended.
    #[allow(clippy::unused_self, reason = "it needs one that is open")]
    pub(crate) fn handed_out(&self, datum: Datum) -> Datum {
        // SAFETY: copies it into the memory of whoever began the session.
        unsafe { pg_sys::SPI_datumTransfer(datum, false, -1) }
    }

    /// Runs a statement whose rows, if it gives any, don't matter.
    #[allow(clippy::unused_self, reason = "it needs one that is open")]
    pub(crate) fn run(
        &self,
        statement: &Statement,
        table: &str,
        values: &[Value],
    ) -> Result<(), Error> {
        execute(plan(statement, table)?, values)
    }
}

/// The refusal in a row: its code, message, detail and hint.
pub(crate) fn worded(row: &Row) -> Error {
    let owned = |column| row.optional_text(column).map(str::to_owned);
    Error::refused(
        row.text(0),
        row.text(1).to_owned(),
        owned(2),
        row.optional_text(3),
    )
}

/// A session that is open; there may be one within another, when a statement calls a function that calls the library.
struct Open;

thread_local! {
    static OPEN: Cell<u32> = const { Cell::new(0) };
}

impl Open {
    fn another() -> Self {
        // A plan of a session around this one is being run: it can't be forgotten now.
        if OPEN.get() == 0 {
            forget_other_editions();
        }
        OPEN.set(OPEN.get() + 1);
        Self
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        OPEN.set(OPEN.get() - 1);
    }
}

/// In another edition of the extension, the types that plans were made with may be others.
fn forget_other_editions() {
    thread_local! {
        static KNOWN: Cell<Oid> = const { Cell::new(pg_sys::InvalidOid) };
    }
    let edition = edition();
    if KNOWN.replace(edition) != edition {
        for (_, plan) in KEPT.take() {
            // SAFETY: kept by this module, and nobody else knows of it.
            unsafe { pg_sys::SPI_freeplan(plan.as_ptr()) };
        }
    }
}

fn plan(statement: &Statement, table: &str) -> Result<NonNull<pg_sys::_SPI_plan>, Error> {
    let key = (statement.name, table.to_owned());
    if let Some(plan) = KEPT.with_borrow(|kept| kept.get(&key).copied()) {
        return Ok(plan);
    }
    let text =
        CString::new(statement.text.replace("{}", table)).map_err(|_| Error::NameUnusable)?;
    let mut types: Vec<Oid> = statement.rows.iter().map(|name| array_type(name)).collect();
    types.extend_from_slice(statement.parameters);
    // SAFETY: text and types live through the call; the plan is kept for good.
    let plan = unsafe {
        let plan = pg_sys::SPI_prepare_cursor(
            text.as_ptr(),
            types.len() as i32,
            types.as_mut_ptr(),
            pg_sys::CURSOR_OPT_GENERIC_PLAN as i32,
        );
        let Some(plan) = NonNull::new(plan) else {
            return Err(refused(pg_sys::SPI_result));
        };
        pg_sys::SPI_keepplan(plan.as_ptr());
        plan
    };
    KEPT.with_borrow_mut(|kept| kept.insert(key, plan));
    Ok(plan)
}

fn execute(plan: NonNull<pg_sys::_SPI_plan>, values: &[Value]) -> Result<(), Error> {
    let mut datums: Vec<Datum> = values
        .iter()
        .map(|value| value.datum().unwrap_or(Datum::from(0)))
        .collect();
    let nulls: Vec<std::ffi::c_char> = values
        .iter()
        .map(|value| if value.datum().is_some() { b' ' } else { b'n' } as std::ffi::c_char)
        .collect();
    // SAFETY: as many values as the statement has parameters: both are written side by side in this crate.
    let code = unsafe {
        debug_assert_eq!(pg_sys::SPI_getargcount(plan.as_ptr()), values.len() as i32);
        pg_sys::SPI_tuptable = std::ptr::null_mut();
        pg_sys::SPI_execute_plan(plan.as_ptr(), datums.as_mut_ptr(), nulls.as_ptr(), false, 0)
    };
    Spi::check_status(code).map(|_| ()).map_err(Error::from)
}

fn refused(code: i32) -> Error {
    match Spi::check_status(code) {
        Ok(_) => Error::from(spi::SpiError::NoTupleTable),
        Err(error) => Error::from(error),
    }
}
