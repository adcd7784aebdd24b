//! Who calls.

use std::ffi::CStr;

use pgrx::{pg_extern, pg_sys};

use crate::sql_call;

/// The caller's role: the one as which a step's SQL function is run, else the outer user.
pub(crate) fn role() -> pg_sys::Oid {
    // SAFETY: reads the state of this backend.
    sql_call::role().unwrap_or_else(|| unsafe { pg_sys::GetOuterUserId() })
}

/// The caller's role: the outer user, not the owner whose rights a function borrows.
#[pg_extern(stable, parallel_unsafe)]
fn _actor() -> String {
    name()
}

/// The name of the caller's role.
pub(crate) fn name() -> String {
    // SAFETY: the name of an existing role, allocated in the current memory context; copied before it can go.
    unsafe {
        let name = pg_sys::GetUserNameFromId(role(), true);
        if name.is_null() {
            "unknown".to_owned()
        } else {
            CStr::from_ptr(name).to_string_lossy().into_owned()
        }
    }
}
