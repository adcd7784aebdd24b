//! Messages of steps that the database itself runs. They lie among those of their namespace and are found by an index of their own, which a queue gets with the first template of its
//! namespace that has such a step (`sql/687_sql_steps.sql`).

use pgrx::pg_sys::{self, TimestampTz};

use super::{Met, Queue, is_turn_of_the_oldest, table};
use crate::error::Error;
use crate::keys;
use crate::statements::{Session, Statement};
use crate::values::Value;

/// Of the oldest hundred that are visible, the first by priority and age that nobody has: a bounded read, whatever else is in the queue.
const READ: Statement = Statement {
    name: "queue_read_sql",
    text: "select m.msg_id, m.message ->> 'step_uuid', m.vt
           from pg_catalog.unnest(array(
             select c.msg_id
             from (
               select m.msg_id, m.vt, case when m.message ->> 'priority' ~ '^-?[0-9]{1,9}$' then (m.message ->> 'priority')::pg_catalog.int4 end as priority
               from {} m
               where m.message ->> 'handler' like 'sql:%' and m.vt <= $1 and (select n.paused_at is null from tasker.namespaces n where n.name = $2)
               order by m.vt
               limit 100
             ) c
             order by case when $3 then 0 else coalesce(c.priority, 0) end desc, c.vt, c.msg_id
           )) u(msg_id)
           cross join lateral (select m.msg_id, m.vt, m.message from {} m where m.msg_id = u.msg_id and m.vt <= $1 for update skip locked) m
           limit 1",
    rows: None,
    parameters: &[pg_sys::TIMESTAMPTZOID, pg_sys::TEXTOID, pg_sys::BOOLOID],
};

/// Locks a visible message of a SQL function without waiting. Gives none of a namespace that is paused.
pub(crate) fn read_sql(
    session: &Session,
    queue: Queue,
    now: TimestampTz,
) -> Result<Option<Met>, Error> {
    let table = table(session, queue.name)?;
    let values = [
        Value::time(now),
        Value::text(queue.namespace),
        Value::bool(is_turn_of_the_oldest(queue.name, now)),
    ];
    let met = session.rows(&READ, &table, &values, |row| {
        Ok(Met {
            msg_id: row.int8(0),
            step: row.optional_text(1).and_then(keys::parse),
            priority: 0,
            visible_at: row.int8(2),
        })
    })?;
    Ok(met.into_iter().next())
}
