//! Which edition of the extension's objects a database has: it may be of another version than this library, until `alter extension tasker update`.
//!
//! What a backend keeps (plans, compiled templates, names of queues) holds for one edition. `create extension` and each upgrade script make the type
//! `tasker._edition` anew, so its object id tells one edition from the next; looking it up costs no statement.

use std::ffi::CStr;

use pgrx::pg_sys::{self, Oid};

/// What stands for the edition; invalid without the extension.
pub(crate) fn edition() -> Oid {
    // Without that type, until it is upgraded, only dropping the extension changes anything.
    relation(c"_edition")
        .or_else(|| relation(c"templates"))
        .unwrap_or(pg_sys::InvalidOid)
}

/// Whether the objects are those of 0.1.0, which alone has no such type.
pub(crate) fn is_0_1_0() -> bool {
    relation(c"_edition").is_none()
}

/// The table or row type of a name in the schema `tasker`, if the database has it. To be asked before a statement names what a supported older version lacks.
pub(crate) fn relation(name: &CStr) -> Option<Oid> {
    // SAFETY: look-ups in the system's caches by names that end in a zero byte.
    let found = unsafe {
        let schema = pg_sys::get_namespace_oid(c"tasker".as_ptr(), true);
        pg_sys::get_relname_relid(name.as_ptr(), schema)
    };
    (found != pg_sys::InvalidOid).then_some(found)
}

/// Whether a table in the schema `tasker` has a column.
pub(crate) fn has_column(table: &CStr, column: &CStr) -> bool {
    // SAFETY: a look-up in the system's caches by a name that ends in a zero byte.
    relation(table).is_some_and(|table| unsafe {
        i32::from(pg_sys::get_attnum(table, column.as_ptr())) != pg_sys::InvalidAttrNumber as i32
    })
}

/// Whether tasks know of the trace that they are a part of.
pub(crate) fn has_traces() -> bool {
    has_column(c"tasks", c"traceparent")
}
