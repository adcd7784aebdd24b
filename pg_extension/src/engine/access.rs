//! Whether the caller may work on steps, or see them, by their keys. Not here: what a role may do in which namespace (`namespace_grants`).

use pgrx::pg_sys::panic::ErrorReport;
use pgrx::{Uuid, pg_extern};
use tasker_rules::key::task_of;
use tasker_rules::privilege::Privilege;

use super::graphs;
use crate::error::Error;
use crate::namespace_grants::Caller;
use crate::statements::{Session, session};
use crate::{keys, settings};

/// Those of the steps that the caller may work on. One that it may not is to it as if it weren't there.
pub(super) fn workable(
    session: &Session,
    caller: &Caller,
    steps: Vec<u128>,
) -> Result<Vec<u128>, Error> {
    if !caller.is_checked() {
        return Ok(steps);
    }
    let graphs = graphs::of_steps(session, &steps)?;
    let may = |step: &u128| {
        graphs
            .get(&task_of(*step))
            .is_some_and(|kept| caller.may(&kept.template.namespace, Privilege::Work))
    };
    Ok(steps.into_iter().filter(may).collect())
}

/// The namespace of a task or a step by its key, while namespaces are checked; null otherwise, and where there is no such task.
#[pg_extern(stable, parallel_unsafe)]
fn _checked_namespace(key: Option<Uuid>) -> Result<Option<String>, ErrorReport> {
    let Some(key) = key.filter(|_| settings::asks_for_namespaces()) else {
        return Ok(None);
    };
    Ok(session(|session| {
        let graphs = graphs::of_steps(session, &[keys::number(&key)])?;
        Ok(graphs
            .into_values()
            .next()
            .map(|kept| kept.template.namespace.clone()))
    })?)
}
