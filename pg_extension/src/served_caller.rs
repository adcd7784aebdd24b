//! The caller from outside for whom a server's session acts: who that is, and the namespaces that the session is limited to meanwhile. The limit narrows what the role may do
//! (`namespace_grants` asks for both) and never widens it.

use std::ffi::CString;

use pgrx::pg_extern;
use pgrx::pg_sys::panic::ErrorReport;
use tasker_rules::permission;
use tasker_rules::reach::Reach;

use crate::error::Error;
use crate::{actor, settings, values};

/// From now on this session acts for a caller, within some namespaces; null is for its role alone, everywhere.
#[pg_extern(volatile, parallel_unsafe)]
fn _serve_caller(caller: Option<&str>, namespaces: Option<Vec<String>>) -> Result<(), ErrorReport> {
    let reach = Reach::of(namespaces.as_deref());
    let as_setting = |text: &str| CString::new(text).map_err(|_| Error::NameUnusable);
    let caller = as_setting(caller.unwrap_or_default())?;
    let namespaces = as_setting(reach.as_setting())?;
    settings::serve(&caller, &namespaces);
    Ok(())
}

/// Whether this session is limited to some namespaces.
#[pg_extern(stable, parallel_unsafe)]
fn _is_limited() -> bool {
    settings::reach().is_limited()
}

/// Who calls, as history names them: the role, and the caller for whom its session acts.
#[pg_extern(stable, parallel_unsafe)]
fn _author() -> String {
    let role = actor::name();
    match settings::served_caller() {
        Some(caller) => format!("{role} for {}", caller.to_string_lossy()),
        None => role,
    }
}

/// The refusal of permissions that have not the form of one (22023); null when all have.
#[pg_extern(immutable, parallel_safe)]
fn _permissions_problem(
    permissions: Option<Vec<Option<String>>>,
) -> Result<Option<Vec<Option<String>>>, ErrorReport> {
    let permissions: Vec<String> = permissions
        .unwrap_or_default()
        .into_iter()
        .map(|permission| permission.unwrap_or_else(|| "null".to_owned()))
        .collect();
    let checked = permission::check_form(&permissions).map_err(|error| {
        let hint = "A permission is resource:action, such as tasks:create, resource:* for all of a resource, or * for everything.";
        Error::refused("22023", error.to_string(), None, Some(hint))
    });
    Ok(values::refused(checked)?)
}
