//! The compiled template of a task. A task's template never changes, so it is looked up once.

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

const TEMPLATES: Statement = Statement {
    name: "templates_of_tasks",
    text: "select t.task_uuid, t.template_id from pg_catalog.unnest($1) u(task_uuid)
           cross join lateral (select t.task_uuid, t.template_id from {} t where t.task_uuid = u.task_uuid) t",
    rows: None,
    parameters: &[pg_sys::UUIDARRAYOID],
};

thread_local! {
    static KNOWN: RefCell<HashMap<u128, i32>> = RefCell::default();
}

/// The templates of the tasks that steps belong to, by task; a task that isn't there has none.
pub(super) fn of_steps(
    session: &Session,
    steps: &[u128],
) -> Result<HashMap<u128, Rc<Kept>>, Error> {
    let mut found = HashMap::new();
    let mut unknown = Vec::new();
    KNOWN.with_borrow(|known| {
        for &step in steps {
            let task = task_of(step);
            match known.get(&task) {
                Some(&template_id) => drop(found.insert(task, template_id)),
                None => unknown.push(task),
            }
        }
    });
    unknown.sort_unstable();
    unknown.dedup();
    for (partition, tasks) in partitions::group(session, unknown, |&task| task)? {
        let rows = session.rows(
            &TEMPLATES,
            &partition.tasks,
            &[Value::uuids(&tasks)],
            |row| Ok((row.uuid(0), row.int4(1))),
        )?;
        remember(&rows);
        found.extend(rows);
    }
    found
        .into_iter()
        .map(|(task, template_id)| Ok((task, compiled::template(template_id)?)))
        .collect()
}

/// Remembers the templates of tasks.
pub(super) fn remember(tasks: &[(u128, i32)]) {
    KNOWN.with_borrow_mut(|known| {
        if known.len() + tasks.len() > MAX_KNOWN {
            known.clear();
        }
        known.extend(tasks.iter().copied());
    });
}
