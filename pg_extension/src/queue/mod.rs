//! Statements on the tables of PGMQ's queues, prepared once a backend for each queue and kept.
//!
//! PGMQ's own functions build their statements anew at each call, and parsing and planning them is a large part of a lone step's time. These use the same
//! columns with the same meaning, so that any PGMQ client reads what is here. Making, dropping and archiving stays with PGMQ's functions.
//!
//! Most messages have priority 0. They are served by PGMQ's own index on the time from which they are visible: hidden ones come last in it and are never walked. Only the others are
//! in an index of ours, so that the rest don't pay for it.

mod floors;
pub(crate) mod message;
mod sql_steps;
mod statements;

use std::cell::RefCell;
use std::cmp::Reverse;
use std::collections::HashMap;
use std::ffi::CString;

use pgrx::datum::TimestampWithTimeZone;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::pg_sys::{self, TimestampTz};
use pgrx::{Uuid, pg_extern, spi};

use crate::error::Error;
use crate::statements::{Session, Statement, session};
use crate::values::{Value, int8, names};
use crate::{clock, edition, keys};
use floors::Floor;
use message::columns;
pub(crate) use message::{Message, hidden_until};
pub(crate) use sql_steps::read_sql;
use statements::{
    BY_HEADERS, BY_MESSAGE, ByPriority, DELETE, DUE_AT, MISSING, MISSING_QUEUE, REUSE, SEND,
    SET_VISIBLE_AT,
};

/// One claim in so many takes the oldest message first, so that a low priority never starves.
const OLDEST_FIRST_ONCE_IN: u32 = 10;

/// Queues whose claims are counted at most; then all counts begin anew.
const MAX_COUNTED: usize = 10_000;

/// Messages that are shown or hidden in one statement, whose time grows with the square of their number.
const SHOWN_AT_ONCE: usize = 200;

/// The statements that look at priorities, in this edition.
fn by_priority() -> &'static ByPriority {
    if edition::is_0_1_0() {
        &BY_MESSAGE
    } else {
        &BY_HEADERS
    }
}

/// The queue of a namespace.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Queue<'a> {
    pub(crate) namespace: &'a str,
    pub(crate) name: &'a str,
}

/// A message met by a claim; without a step it is none of the engine's.
pub(crate) struct Met {
    pub(crate) msg_id: i64,
    pub(crate) step: Option<u128>,
    priority: i32,
    visible_at: TimestampTz,
}

thread_local! {
    static CLAIMS: RefCell<HashMap<String, u32>> = RefCell::new(HashMap::new());
}

/// The queue's table: its object id, and its name, quoted. A queue that isn't there refuses the call (TK030).
fn found_table(session: &Session, queue_name: &str) -> Result<(pg_sys::Oid, String), Error> {
    let name = format!("q_{queue_name}");
    let c_name = CString::new(name.as_str()).map_err(|_| Error::NameUnusable)?;
    // SAFETY: look-ups in the system's caches by names that end in a zero byte.
    let found = unsafe {
        let schema = pg_sys::get_namespace_oid(c"pgmq".as_ptr(), true);
        if schema == pg_sys::InvalidOid {
            schema
        } else {
            pg_sys::get_relname_relid(c_name.as_ptr(), schema)
        }
    };
    if found == pg_sys::InvalidOid {
        return Err(session.refusal(
            &MISSING_QUEUE,
            "tasker._queue_problem",
            &[Value::text(queue_name)],
        ));
    }
    Ok((found, format!("pgmq.{}", spi::quote_identifier(name))))
}

fn table(session: &Session, queue_name: &str) -> Result<String, Error> {
    Ok(found_table(session, queue_name)?.1)
}

fn handlers_value(handlers: Option<&[String]>) -> Value {
    handlers.map_or(Value::NULL, |handlers| {
        Value::texts(&handlers.iter().map(String::as_str).collect::<Vec<_>>())
    })
}

/// Sends messages and gives their ids in the same order.
pub(crate) fn send(
    session: &Session,
    queue_name: &str,
    messages: &[Message],
) -> Result<Vec<i64>, Error> {
    if messages.is_empty() {
        return Ok(Vec::new());
    }
    let values = columns(&messages.iter().collect::<Vec<_>>());
    session.rows(&SEND, &table(session, queue_name)?, &values, |row| {
        Ok(row.int8(0))
    })
}

/// Puts messages into rows whose own are done, and gives the ids of the rows that are there.
pub(crate) fn reuse(
    session: &Session,
    queue_name: &str,
    messages: &[(i64, Message)],
    now: TimestampTz,
) -> Result<Vec<i64>, Error> {
    let mut ordered: Vec<&(i64, Message)> = messages.iter().collect();
    ordered.sort_unstable_by_key(|(id, _)| *id);
    let ids: Vec<i64> = ordered.iter().map(|(id, _)| *id).collect();
    let messages: Vec<&Message> = ordered.iter().map(|(_, message)| message).collect();
    let [times, contents, headers] = columns(&messages);
    let values = [
        times,
        contents,
        headers,
        Value::int8s(&ids),
        Value::time(now),
    ];
    session.rows(&REUSE, &table(session, queue_name)?, &values, |row| {
        Ok(row.int8(0))
    })
}

/// Whether a queue has messages of another priority than 0, visible or not.
fn has_prioritised(session: &Session, table: &str) -> Result<bool, Error> {
    let found = session.rows(&by_priority().any, table, &[], |_| Ok(()))?;
    Ok(!found.is_empty())
}

/// Whether this claim of a queue takes the oldest message first. Claims are counted for each queue, or the turn of a worker that is always full would come round to the same of its
/// queues; and from a number that chance gives, or sessions that claim only once would never have it.
fn is_turn_of_the_oldest(queue_name: &str, now: TimestampTz) -> bool {
    CLAIMS.with_borrow_mut(|claims| {
        if let Some(count) = claims.get_mut(queue_name) {
            *count = count.wrapping_add(1);
            return count.is_multiple_of(OLDEST_FIRST_ONCE_IN);
        }
        if claims.len() >= MAX_COUNTED {
            claims.clear();
        }
        let microseconds = now.unsigned_abs() % u64::from(OLDEST_FIRST_ONCE_IN);
        let first = u32::try_from(microseconds).unwrap_or_default() + 1;
        claims.insert(queue_name.to_owned(), first);
        first.is_multiple_of(OLDEST_FIRST_ONCE_IN)
    })
}

/// Locks visible messages for the handlers without waiting, by priority and then by age. Gives none of a namespace that is paused.
pub(crate) fn read(
    session: &Session,
    queue: Queue,
    count: usize,
    handlers: Option<&[String]>,
    now: TimestampTz,
) -> Result<Vec<Met>, Error> {
    let (table_oid, table) = found_table(session, queue.name)?;
    // Asked for each claim, so that they all cost the same.
    let has_prioritised = has_prioritised(session, &table)?;
    let statement = if has_prioritised && !is_turn_of_the_oldest(queue.name, now) {
        &by_priority().read
    } else {
        &by_priority().read_oldest
    };
    let limit = i32::try_from(count).unwrap_or(i32::MAX);
    let read_from = |floor: &Floor| {
        let values = [
            Value::time(now),
            handlers_value(handlers),
            Value::int4(limit),
            Value::time(floor.from()),
            Value::text(queue.namespace),
        ];
        session.rows(statement, &table, &values, |row| {
            Ok(Met {
                msg_id: row.int8(0),
                step: row.optional_text(1).and_then(keys::parse),
                priority: row.int4(2),
                visible_at: row.int8(3),
            })
        })
    };
    let mut floor = floors::of_claim(queue.name, table_oid, handlers, now);
    let mut met = read_from(&floor)?;
    if floor.is_unchecked() && met.len() < count {
        floor = floors::of(queue.name, handlers, now);
        met = read_from(&floor)?;
    }
    let oldest = met
        .iter()
        .filter(|met| met.priority == 0)
        .map(|met| met.visible_at)
        .min();
    floor.raise(oldest, met.len(), met.len() < count);
    // The index leaves those of equal age in any order.
    met.sort_unstable_by_key(|met: &Met| (Reverse(met.priority), met.visible_at, met.msg_id));
    Ok(met)
}

/// Sets the times from which messages are visible.
pub(crate) fn set_visible_at(
    session: &Session,
    queue_name: &str,
    mut messages: Vec<(i64, TimestampTz)>,
) -> Result<(), Error> {
    messages.sort_unstable();
    for messages in messages.chunks(SHOWN_AT_ONCE) {
        let ids: Vec<i64> = messages.iter().map(|&(id, _)| id).collect();
        let rows = messages.iter().map(|&(id, at)| [int8(id), int8(at)]);
        let values = [Value::rows(c"_visibility", rows), Value::int8s(&ids)];
        session.run(&SET_VISIBLE_AT, &table(session, queue_name)?, &values)?;
    }
    Ok(())
}

/// Deletes messages.
pub(crate) fn delete(session: &Session, queue_name: &str, mut ids: Vec<i64>) -> Result<(), Error> {
    if ids.is_empty() {
        return Ok(());
    }
    ids.sort_unstable();
    session.run(&DELETE, &table(session, queue_name)?, &[Value::int8s(&ids)])
}

/// The least priority, of those from the one given on, with which a step goes before all visible messages for the handlers; `None` in a paused namespace, where none goes.
pub(crate) fn front(
    session: &Session,
    queue: Queue,
    above: i32,
    handlers: Option<&[String]>,
    now: TimestampTz,
) -> Result<Option<i32>, Error> {
    let table = table(session, queue.name)?;
    let by_priority = by_priority();
    let namespace = [Value::text(queue.namespace)];
    let standing = session.rows(&by_priority.standing, &table, &namespace, |row| {
        Ok((row.optional_int4(0).is_some(), row.optional_time(1)))
    })?;
    let Some(&(has_prioritised, None)) = standing.first() else {
        return Ok(None);
    };
    let values = [
        Value::int4(above),
        handlers_value(handlers),
        Value::time(now),
    ];
    let statements: &[&Statement] = match (above < 0, has_prioritised) {
        (true, true) => &[
            &by_priority.waiting_above_zero,
            &by_priority.waiting_at_zero,
            &by_priority.waiting_below_zero,
        ],
        (true, false) => &[&by_priority.waiting_at_zero],
        (false, true) => &[&by_priority.waiting_above_zero],
        (false, false) => &[],
    };
    for statement in statements {
        let found = session.rows(statement, &table, &values, |row| Ok(row.int4(0)))?;
        if let Some(&priority) = found.first() {
            return Ok(Some(priority));
        }
    }
    Ok(Some(above))
}

/// Sends a message for each step and gives the messages' ids in the same order.
#[pg_extern(volatile, parallel_unsafe)]
#[allow(clippy::too_many_arguments, reason = "the columns of a message")]
fn _queue_send(
    queue_name: &str,
    step_uuids: Vec<Uuid>,
    attempts: Vec<i32>,
    handlers: Vec<String>,
    priorities: Vec<i32>,
    correlation_ids: Vec<Uuid>,
    visible_at: Vec<TimestampWithTimeZone>,
) -> Result<Vec<i64>, ErrorReport> {
    let messages: Vec<Message> = (0..step_uuids.len())
        .map(|index| Message {
            task: tasker_rules::key::task_of(keys::number(&step_uuids[index])),
            step: keys::number(&step_uuids[index]),
            attempt: attempts[index],
            handler: &handlers[index],
            priority: priorities[index],
            correlation_id: keys::number(&correlation_ids[index]),
            visible_at: visible_at[index].into(),
        })
        .collect();
    Ok(session(|session| send(session, queue_name, &messages))?)
}

/// Sets the times from which messages are visible.
#[pg_extern(volatile, parallel_unsafe)]
fn _queue_set_visible_at(
    queue_name: &str,
    msg_ids: Vec<i64>,
    visible_at: Vec<TimestampWithTimeZone>,
) -> Result<(), ErrorReport> {
    let messages = msg_ids
        .into_iter()
        .zip(visible_at.into_iter().map(TimestampTz::from))
        .collect();
    Ok(session(|session| {
        set_visible_at(session, queue_name, messages)
    })?)
}

/// Deletes messages.
#[pg_extern(volatile, parallel_unsafe)]
fn _queue_delete(queue_name: &str, msg_ids: Vec<i64>) -> Result<(), ErrorReport> {
    Ok(session(|session| delete(session, queue_name, msg_ids))?)
}

/// Those of the messages that are not in the queue.
#[pg_extern(volatile, parallel_unsafe)]
fn _queue_missing(queue_name: &str, msg_ids: Vec<Option<i64>>) -> Result<Vec<i64>, ErrorReport> {
    // A step that should have a message and knows of none misses it too.
    let ids: Vec<i64> = msg_ids.into_iter().map(Option::unwrap_or_default).collect();
    Ok(session(|session| {
        session.rows(
            &MISSING,
            &table(session, queue_name)?,
            &[Value::int8s(&ids)],
            |row| Ok(row.int8(0)),
        )
    })?)
}

/// The earliest time from which a message for the handlers is visible; null when there is none.
#[pg_extern(volatile, parallel_unsafe)]
fn _queue_due_at(
    queue_name: &str,
    handlers: Option<Vec<Option<String>>>,
) -> Result<Option<TimestampWithTimeZone>, ErrorReport> {
    let handlers = handlers.map(names);
    let due: Vec<Option<TimestampTz>> = session(|session| {
        let floor = floors::of(queue_name, handlers.as_deref(), clock::now());
        let values = [
            handlers_value(handlers.as_deref()),
            Value::time(floor.from()),
        ];
        session.rows(&DUE_AT, &table(session, queue_name)?, &values, |row| {
            Ok(row.optional_time(0))
        })
    })?;
    Ok(due
        .into_iter()
        .next()
        .flatten()
        .and_then(|at| TimestampWithTimeZone::try_from(at).ok()))
}
