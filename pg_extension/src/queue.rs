//! Statements on the tables of PGMQ's queues, prepared once a backend for each queue and kept.
//!
//! PGMQ's own functions build their statements anew at each call, and parsing and planning them is a large part of a lone step's time. These use the same
//! columns with the same meaning, so that any PGMQ client reads what is here. Making, dropping and archiving stays with PGMQ's functions.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;

use pgrx::datum::{DatumWithOid, TimestampWithTimeZone};
use pgrx::iter::TableIterator;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::spi::OwnedPreparedStatement;
use pgrx::{IntoDatum, PgOid, Spi, Uuid, name, pg_extern, spi};

use crate::error::Error;

/// One claim in so many takes the oldest message first, so that a low priority never starves.
const OLDEST_FIRST_ONCE_IN: u32 = 10;

const STEP_UUID: &str = "case when m.message ->> 'step_uuid' ~* '^[0-9a-f]{8}-([0-9a-f]{4}-){3}[0-9a-f]{12}$' \
                         then (m.message ->> 'step_uuid')::pg_catalog.uuid end";

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Statement {
    Send,
    ReadByPriority,
    ReadOldest,
    SetVisibleAt,
    Delete,
    Missing,
    DueAt,
    WaitingPriority,
}

thread_local! {
    static KEPT: RefCell<HashMap<(String, Statement), Rc<OwnedPreparedStatement>>> = RefCell::default();
    static CLAIMS: Cell<u32> = const { Cell::new(0) };
}

impl Statement {
    /// The statement's text for a queue's table, already quoted.
    fn text(self, table: &str) -> String {
        match self {
            Self::Send => format!(
                "insert into {table} (vt, message)
                 select s.vt, pg_catalog.jsonb_build_object('task_uuid', tasker._task_of(s.step_uuid), 'step_uuid', s.step_uuid, 'attempt', s.attempt,
                   'handler', s.handler, 'priority', s.priority, 'correlation_id', s.correlation_id)
                 from rows from (pg_catalog.unnest($1), pg_catalog.unnest($2), pg_catalog.unnest($3), pg_catalog.unnest($4), pg_catalog.unnest($5),
                   pg_catalog.unnest($6)) with ordinality s(step_uuid, attempt, handler, priority, correlation_id, vt, ordinal)
                 order by s.ordinal
                 returning msg_id"
            ),
            Self::ReadByPriority => Self::read(table, "(m.message ->> 'priority')::pg_catalog.int4 desc, m.msg_id"),
            Self::ReadOldest => Self::read(table, "m.msg_id"),
            Self::SetVisibleAt => format!(
                "update {table} m set vt = s.vt, read_ct = m.read_ct + 1
                 from rows from (pg_catalog.unnest($1), pg_catalog.unnest($2)) s(msg_id, vt) where m.msg_id = s.msg_id"
            ),
            Self::Delete => format!("delete from {table} m using pg_catalog.unnest($1) s(msg_id) where m.msg_id = s.msg_id"),
            Self::Missing => format!(
                "select s.msg_id from pg_catalog.unnest($1) s(msg_id)
                 where not exists (select from {table} m where m.msg_id = s.msg_id)"
            ),
            Self::DueAt => format!(
                "select m.vt from {table} m where $1 is null or m.message ->> 'handler' = any ($1) order by m.vt limit 1"
            ),
            Self::WaitingPriority => format!(
                "select (m.message ->> 'priority')::pg_catalog.int4 from {table} m
                 where (m.message ->> 'priority')::pg_catalog.int4 > $1 and m.vt <= $3 and ($2 is null or m.message ->> 'handler' = any ($2))
                 order by (m.message ->> 'priority')::pg_catalog.int4 desc limit 1"
            ),
        }
    }

    fn read(table: &str, order: &str) -> String {
        format!(
            "select m.msg_id, {STEP_UUID} from {table} m
             where m.vt <= $1 and ($2 is null or m.message ->> 'handler' = any ($2))
             order by {order} limit $3 for update skip locked"
        )
    }

    /// The types of the statement's parameters.
    fn parameters(self) -> Vec<PgOid> {
        match self {
            Self::Send => pgrx::oids_of![
                Vec<Uuid>,
                Vec<i32>,
                Vec<String>,
                Vec<i32>,
                Vec<Uuid>,
                Vec<TimestampWithTimeZone>
            ]
            .to_vec(),
            Self::ReadByPriority | Self::ReadOldest => {
                pgrx::oids_of![TimestampWithTimeZone, Vec<String>, i32].to_vec()
            }
            Self::SetVisibleAt => pgrx::oids_of![Vec<i64>, Vec<TimestampWithTimeZone>].to_vec(),
            Self::Delete | Self::Missing => pgrx::oids_of![Vec<i64>].to_vec(),
            Self::DueAt => pgrx::oids_of![Vec<String>].to_vec(),
            Self::WaitingPriority => {
                pgrx::oids_of![i32, Vec<String>, TimestampWithTimeZone].to_vec()
            }
        }
    }
}

/// Runs a kept statement on a queue and gives what `read` makes of its rows.
fn run<T>(
    queue_name: &str,
    statement: Statement,
    args: &[DatumWithOid],
    read: impl Fn(&spi::SpiHeapTupleData) -> Result<T, spi::Error>,
) -> Result<Vec<T>, Error> {
    Spi::connect_mut(|client| {
        let key = (queue_name.to_owned(), statement);
        let kept = KEPT.with_borrow(|kept| kept.get(&key).cloned());
        let prepared = if let Some(prepared) = kept {
            prepared
        } else {
            let table = format!("pgmq.{}", spi::quote_identifier(format!("q_{queue_name}")));
            let text = statement.text(&table);
            let prepared = client.prepare_mut(text.as_str(), &statement.parameters())?;
            let prepared = Rc::new(prepared.keep());
            KEPT.with_borrow_mut(|kept| kept.insert(key, Rc::clone(&prepared)));
            prepared
        };
        let rows = client.update(&*prepared, None, args)?;
        let mut result = Vec::with_capacity(rows.len());
        for row in rows {
            result.push(read(&row)?);
        }
        Ok(result)
    })
}

fn optional<T: IntoDatum>(value: Option<T>) -> DatumWithOid<'static> {
    match value {
        Some(value) => value.into(),
        None => DatumWithOid::null::<T>(),
    }
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
    let args = [
        step_uuids.into(),
        attempts.into(),
        handlers.into(),
        priorities.into(),
        correlation_ids.into(),
        visible_at.into(),
    ];
    Ok(run(queue_name, Statement::Send, &args, |row| {
        Ok(row.get::<i64>(1)?.unwrap_or_default())
    })?)
}

/// Locks visible messages for the handlers without waiting, by priority and then by age.
#[pg_extern(volatile, parallel_unsafe)]
fn _queue_read(
    queue_name: &str,
    count: i32,
    handlers: Option<Vec<String>>,
    now: TimestampWithTimeZone,
) -> Result<
    TableIterator<
        'static,
        (
            name!(ordinal, i32),
            name!(msg_id, i64),
            name!(step_uuid, Option<Uuid>),
        ),
    >,
    ErrorReport,
> {
    let claims = CLAIMS.get().wrapping_add(1);
    CLAIMS.set(claims);
    let statement = if claims.is_multiple_of(OLDEST_FIRST_ONCE_IN) {
        Statement::ReadOldest
    } else {
        Statement::ReadByPriority
    };
    let args = [now.into(), optional(handlers), count.into()];
    let rows = run(queue_name, statement, &args, |row| {
        Ok((row.get::<i64>(1)?.unwrap_or_default(), row.get::<Uuid>(2)?))
    })?;
    Ok(TableIterator::new((1..).zip(rows).map(
        |(ordinal, (msg_id, step_uuid))| (ordinal, msg_id, step_uuid),
    )))
}

/// Sets the times from which messages are visible.
#[pg_extern(volatile, parallel_unsafe)]
fn _queue_set_visible_at(
    queue_name: &str,
    msg_ids: Vec<i64>,
    visible_at: Vec<TimestampWithTimeZone>,
) -> Result<(), ErrorReport> {
    run(
        queue_name,
        Statement::SetVisibleAt,
        &[msg_ids.into(), visible_at.into()],
        |_| Ok(()),
    )?;
    Ok(())
}

/// Deletes messages.
#[pg_extern(volatile, parallel_unsafe)]
fn _queue_delete(queue_name: &str, msg_ids: Vec<i64>) -> Result<(), ErrorReport> {
    run(queue_name, Statement::Delete, &[msg_ids.into()], |_| Ok(()))?;
    Ok(())
}

/// Those of the messages that are not in the queue.
#[pg_extern(volatile, parallel_unsafe)]
fn _queue_missing(queue_name: &str, msg_ids: Vec<Option<i64>>) -> Result<Vec<i64>, ErrorReport> {
    // A step that should have a message and knows of none misses it too.
    let msg_ids: Vec<i64> = msg_ids.into_iter().map(Option::unwrap_or_default).collect();
    Ok(run(
        queue_name,
        Statement::Missing,
        &[msg_ids.into()],
        |row| Ok(row.get::<i64>(1)?.unwrap_or_default()),
    )?)
}

/// The earliest time from which a message for the handlers is visible; null when there is none.
#[pg_extern(volatile, parallel_unsafe)]
fn _queue_due_at(
    queue_name: &str,
    handlers: Option<Vec<String>>,
) -> Result<Option<TimestampWithTimeZone>, ErrorReport> {
    let rows = run(queue_name, Statement::DueAt, &[optional(handlers)], |row| {
        row.get::<TimestampWithTimeZone>(1)
    })?;
    Ok(rows.into_iter().next().flatten())
}

/// The highest priority above the one given among the visible messages for the handlers; null when there is none.
#[pg_extern(volatile, parallel_unsafe)]
fn _queue_waiting_priority(
    queue_name: &str,
    above: i32,
    handlers: Option<Vec<String>>,
    now: TimestampWithTimeZone,
) -> Result<Option<i32>, ErrorReport> {
    let args = [above.into(), optional(handlers), now.into()];
    let rows = run(queue_name, Statement::WaitingPriority, &args, |row| {
        row.get::<i32>(1)
    })?;
    Ok(rows.into_iter().next().flatten())
}
