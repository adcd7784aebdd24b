//! The queues of namespaces, looked up once: a namespace keeps its queue.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;

use pgrx::pg_sys;

use crate::edition::edition;
use crate::error::Error;
use crate::statements::{Session, Statement};
use crate::values::Value;

/// Namespaces remembered at most; then all are forgotten.
const MAX_KNOWN: usize = 10_000;

const QUEUES: Statement = Statement {
    name: "queues_of_namespaces",
    text: "select n.name, n.queue_name from pg_catalog.unnest($1) u(name)
           cross join lateral (select n.name, n.queue_name from {} n where n.name = u.name) n",
    rows: None,
    parameters: &[pg_sys::TEXTARRAYOID],
};

/// A namespace and its queue.
type Named = (Rc<str>, Rc<str>);

struct Known {
    edition: pg_sys::Oid,
    queues: HashMap<Rc<str>, Rc<str>>,
}

thread_local! {
    static KNOWN: RefCell<Known> = RefCell::new(Known { edition: pg_sys::InvalidOid, queues: HashMap::new() });
    static TURN: Cell<usize> = const { Cell::new(0) };
}

/// The queues of those of the namespaces that are there, each once, beginning with another one each time, so that a worker which is always full serves them all.
pub(super) fn queues(session: &Session, namespaces: &[String]) -> Result<Vec<Named>, Error> {
    let edition = edition();
    let (mut found, unknown) = KNOWN.with_borrow_mut(|known| {
        if known.edition != edition || known.queues.len() > MAX_KNOWN {
            *known = Known {
                edition,
                queues: HashMap::new(),
            };
        }
        let mut found: Vec<Named> = Vec::with_capacity(namespaces.len());
        let mut unknown: Vec<&str> = Vec::new();
        for namespace in namespaces {
            match known.queues.get_key_value(namespace.as_str()) {
                Some((name, queue)) => found.push((Rc::clone(name), Rc::clone(queue))),
                None => unknown.push(namespace),
            }
        }
        (found, unknown)
    });
    if !unknown.is_empty() {
        let values = [Value::texts(&unknown)];
        let looked_up: Vec<Named> = session.rows(&QUEUES, "tasker.namespaces", &values, |row| {
            Ok((Rc::from(row.text(0)), Rc::from(row.text(1))))
        })?;
        if !has_written() {
            KNOWN.with_borrow_mut(|known| known.queues.extend(looked_up.iter().cloned()));
        }
        found.extend(looked_up);
    }
    found.sort_unstable();
    found.dedup();
    if found.len() > 1 {
        let turn = TURN.get().wrapping_add(1);
        TURN.set(turn);
        let first = turn % found.len();
        found.rotate_left(first);
    }
    Ok(found)
}

/// Whether this transaction may have made a namespace itself; one that is rolled back must not be remembered.
fn has_written() -> bool {
    // SAFETY: reads the state of the transaction.
    unsafe { pg_sys::GetTopTransactionIdIfAny() != pg_sys::InvalidTransactionId }
}
