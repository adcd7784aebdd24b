//! Writing what was decided: each step's row at most once in a statement, and a row of history for each change that outlives the transaction.

use pgrx::pg_sys::{self, TimestampTz};
use tasker_rules::history::{Steps, encode};
use tasker_rules::step_state::{StepEvent, StepState};

use super::rows::StepRow;
use super::{Call, Taker};
use crate::error::Error;
use crate::event_notices;
use crate::partitions;
use crate::statements::Statement;
use crate::values::{Json, Value, int4, int8, text, uuid};

/// The columns that the call's own time goes into.
pub(super) const ENQUEUED: i32 = 1;
pub(super) const STARTED: i32 = 2;
pub(super) const FINISHED: i32 = 4;
/// The times, the worker and the lease stay.
const KEPT: i32 = 8;

/// A step's row as it is going to be.
pub(super) struct Change {
    pub(super) key: u128,
    pub(super) state: StepState,
    pub(super) attempt: i32,
    pub(super) attempts_used: i32,
    pub(super) remaining: i32,
    pub(super) msg_id: Option<i64>,
    pub(super) retry_at: Option<TimestampTz>,
    pub(super) result: Option<Json>,
    pub(super) error: Option<Json>,
    pub(super) checkpoint: Option<Json>,
    pub(super) times: i32,
    /// Its path through the state machine, when its state changes.
    pub(super) path: Option<String>,
    pub(super) metadata: Option<Json>,
}

impl Change {
    /// A row that stays as it is until something is said.
    pub(super) fn of(row: &StepRow) -> Self {
        Self {
            key: row.key,
            state: row.state,
            attempt: row.attempt,
            attempts_used: row.attempts_used,
            remaining: row.remaining,
            msg_id: row.msg_id,
            retry_at: None,
            result: row.result,
            error: row.error,
            checkpoint: row.checkpoint,
            times: 0,
            path: None,
            metadata: None,
        }
    }

    /// A row of which one counter changes.
    pub(super) fn as_it_is(row: &StepRow) -> Self {
        Self {
            times: KEPT,
            retry_at: row.retry_at,
            ..Self::of(row)
        }
    }

    /// Moves it along the events.
    pub(super) fn moves(&mut self, to: StepState, events: &[StepEvent]) {
        self.path = Some(encode::<Steps>(self.state, events));
        self.state = to;
    }

    /// Puts it under the taker's lease, as the next attempt.
    pub(super) fn starts(&mut self) {
        self.attempt += 1;
        self.attempts_used += 1;
        self.times |= STARTED;
    }
}

const UPDATE_STEPS: Statement = Statement {
    name: "update_steps",
    text: "update {} s
           set state = u.state, attempt = u.attempt, attempts_used = u.attempts_used, remaining_dependencies = u.remaining, msg_id = u.msg_id,
             retry_at = u.retry_at, result = u.result, error = u.error, checkpoint = u.checkpoint,
             enqueued_at = case when u.times & 1 <> 0 then $2 else s.enqueued_at end,
             started_at = case when u.times & 2 <> 0 then $2 else s.started_at end,
             finished_at = case when u.times & 4 <> 0 then $2 when u.times = 8 then s.finished_at end,
             worker_id = case when u.times & 2 <> 0 then $3 when u.times & 12 <> 0 then s.worker_id end,
             lease_ms = case when u.times & 2 <> 0 then $4 when u.times = 8 then s.lease_ms end,
             lease_expires_at = case when u.times & 2 <> 0 then $5 when u.times = 8 then s.lease_expires_at end
           from pg_catalog.unnest($1) u
           where s.step_uuid = u.step_uuid",
    rows: Some(c"_step_change"),
    parameters: &[pg_sys::TIMESTAMPTZOID, pg_sys::TEXTOID, pg_sys::INT4OID, pg_sys::TIMESTAMPTZOID],
};

const RECORD_STEPS: Statement = Statement {
    name: "record_steps",
    text: "insert into {} (step_uuid, at, attempt, path, actor, metadata)
           select u.step_uuid, $2, u.attempt, u.path, $3, u.metadata
           from pg_catalog.unnest($1) u",
    rows: Some(c"_step_record"),
    parameters: &[pg_sys::TIMESTAMPTZOID, pg_sys::TEXTOID],
};

/// Writes the changes and their history. The rows are locked; each step comes once.
pub(super) fn write(call: &Call, changes: Vec<Change>, taker: Option<&Taker>) -> Result<(), Error> {
    for (partition, changes) in partitions::group(call.session, changes, |change| change.key)? {
        update(call, &partition.steps, &changes, taker)?;
        let moved: Vec<Recorded> = changes
            .iter()
            .filter_map(|change| {
                Some(Recorded {
                    step: change.key,
                    attempt: change.attempt,
                    path: change.path.as_deref()?,
                    metadata: change.metadata,
                })
            })
            .collect();
        record(call, &partition.step_transitions, &moved)?;
    }
    Ok(())
}

const UPDATE_MESSAGES: Statement = Statement {
    name: "update_messages",
    text: "update {} s set msg_id = u.msg_id from pg_catalog.unnest($1) u where s.step_uuid = u.step_uuid",
    rows: Some(c"_step_message"),
    parameters: &[],
};

/// Writes the ids of messages that have been sent anew.
pub(super) fn write_messages(call: &Call, messages: Vec<(u128, i64)>) -> Result<(), Error> {
    for (partition, messages) in partitions::group(call.session, messages, |&(step, _)| step)? {
        let rows = messages.iter().map(|&(step, id)| [uuid(step), int8(id)]);
        let values = [Value::rows(c"_step_message", rows)];
        call.session
            .run(&UPDATE_MESSAGES, &partition.steps, &values)?;
    }
    Ok(())
}

/// A row of history to be written.
pub(super) struct Recorded<'a> {
    pub(super) step: u128,
    pub(super) attempt: i32,
    pub(super) path: &'a str,
    pub(super) metadata: Option<Json>,
}

/// Writes history rows of steps into a partition of the history.
pub(super) fn record(call: &Call, table: &str, rows: &[Recorded]) -> Result<(), Error> {
    if rows.is_empty() {
        return Ok(());
    }
    let records = rows.iter().map(|row| {
        [
            uuid(row.step),
            int4(row.attempt),
            text(row.path),
            row.metadata.and_then(Json::field),
        ]
    });
    let values = [
        Value::rows(c"_step_record", records),
        Value::time(call.now),
        Value::text(call.actor),
    ];
    call.session.run(&RECORD_STEPS, table, &values)?;
    event_notices::announce();
    Ok(())
}

fn update(
    call: &Call,
    table: &str,
    changes: &[Change],
    taker: Option<&Taker>,
) -> Result<(), Error> {
    let lease_ms = taker.map(|taker| taker.lease_ms);
    let rows = changes.iter().map(|change| {
        [
            uuid(change.key),
            text(change.state.as_str()),
            int4(change.attempt),
            int4(change.attempts_used),
            int4(change.remaining),
            change.msg_id.and_then(int8),
            change.retry_at.and_then(int8),
            change.result.and_then(Json::field),
            change.error.and_then(Json::field),
            change.checkpoint.and_then(Json::field),
            int4(change.times),
        ]
    });
    let values = [
        Value::rows(c"_step_change", rows),
        Value::time(call.now),
        Value::optional_text(taker.map(|taker| taker.worker_id)),
        lease_ms.map_or(Value::NULL, |ms| {
            Value::int4(i32::try_from(ms).unwrap_or(i32::MAX))
        }),
        lease_ms.map_or(Value::NULL, |ms| Value::time(call.after_ms(ms))),
    ];
    call.session.run(&UPDATE_STEPS, table, &values)
}
