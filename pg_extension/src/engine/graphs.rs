//! What never changes of a task, looked up once: its template, its priority, its correlation id.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use pgrx::pg_sys;
use tasker_rules::key::task_of;

use crate::compiled::{self, Kept};
use crate::error::Error;
use crate::partitions;
use crate::statements::{Session, Statement};
use crate::values::Value;

/// Tasks remembered at most; then all are forgotten.
const MAX_KNOWN: usize = 20_000;

/// What never changes of a task.
#[derive(Debug, Clone, Copy)]
pub(super) struct Facts {
    pub(super) template_id: i32,
    pub(super) priority: i32,
    pub(super) correlation_id: u128,
}

const FACTS: Statement = Statement {
    name: "facts_of_tasks",
    text: "select t.* from pg_catalog.unnest($1) u(task_uuid) cross join lateral (
             select t.task_uuid, t.template_id, t.priority, t.correlation_id from {} t where t.task_uuid = u.task_uuid) t",
    rows: None,
    parameters: &[pg_sys::UUIDARRAYOID],
};

thread_local! {
    static KNOWN: RefCell<HashMap<u128, Facts>> = RefCell::default();
}

/// The facts of the tasks that steps belong to, by task; a task that isn't there has none.
pub(super) fn facts(
    session: &Session,
    steps: impl IntoIterator<Item = u128>,
) -> Result<HashMap<u128, Facts>, Error> {
    let mut found = HashMap::new();
    let mut unknown = Vec::new();
    KNOWN.with_borrow(|known| {
        for step in steps {
            let task = task_of(step);
            match known.get(&task) {
                Some(&facts) => drop(found.insert(task, facts)),
                None => unknown.push(task),
            }
        }
    });
    unknown.sort_unstable();
    unknown.dedup();
    for (partition, tasks) in partitions::group(session, unknown, |&task| task)? {
        let rows = session.rows(&FACTS, &partition.tasks, &[Value::uuids(&tasks)], |row| {
            let facts = Facts {
                template_id: row.int4(1),
                priority: i32::from(row.int2(2)),
                correlation_id: row.uuid(3),
            };
            Ok((row.uuid(0), facts))
        })?;
        remember(&rows);
        found.extend(rows);
    }
    Ok(found)
}

/// The templates of the tasks that steps belong to, by task; a task that isn't there has none.
pub(super) fn of_steps(
    session: &Session,
    steps: &[u128],
) -> Result<HashMap<u128, Rc<Kept>>, Error> {
    facts(session, steps.iter().copied())?
        .into_iter()
        .map(|(task, facts)| Ok((task, compiled::template(facts.template_id)?)))
        .collect()
}

/// Remembers the facts of tasks.
pub(super) fn remember(tasks: &[(u128, Facts)]) {
    KNOWN.with_borrow_mut(|known| {
        if known.len() + tasks.len() > MAX_KNOWN {
            known.clear();
        }
        known.extend(tasks.iter().copied());
    });
}
