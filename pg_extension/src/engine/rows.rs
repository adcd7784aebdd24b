//! Rows of steps, read under their locks.

use std::rc::Rc;

use pgrx::pg_sys::{self, TimestampTz};
use tasker_rules::graph::{CompiledStep, Place};
use tasker_rules::key::{MAX_NUMBER, number_of, step_key, task_of};
use tasker_rules::step_state::StepState;

use super::messages::NEVER;
use crate::compiled::{self, Kept};
use crate::error::Error;
use crate::partitions;
use crate::statements::{Session, Statement};
use crate::values::{Json, Row, Value};

/// A step as it stands, and its template.
#[derive(Clone)]
pub(super) struct StepRow {
    pub(super) key: u128,
    pub(super) kept: Rc<Kept>,
    pub(super) state: StepState,
    pub(super) attempt: i32,
    pub(super) attempts_used: i32,
    pub(super) remaining: i32,
    pub(super) msg_id: Option<i64>,
    pub(super) worker_id: Option<String>,
    pub(super) lease_expires_at: Option<TimestampTz>,
    /// One lease after its lease has ended.
    pub(super) left_alone_until: Option<TimestampTz>,
    pub(super) retry_at: Option<TimestampTz>,
    pub(super) result: Option<Json>,
    pub(super) error: Option<Json>,
    pub(super) checkpoint: Option<Json>,
    /// Its task is paused.
    pub(super) is_paused: bool,
}

/// How a lock is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Locking {
    /// Waits for whoever has it.
    Wait,
    /// Leaves out what another transaction has.
    Skip,
    /// The caller has it.
    Held,
}

macro_rules! step_rows {
    ($locking:literal) => {
        step_rows!("pg_catalog.unnest($1) u(step_uuid)", $locking)
    };
    ($keys:literal, $locking:literal) => {
        concat!(
            "select s.* from ",
            $keys,
            " cross join lateral (
               select s.step_uuid, s.template_id, s.state, s.attempt, s.attempts_used, s.remaining_dependencies, s.msg_id, s.worker_id,
                 s.lease_expires_at, s.retry_at, s.result, s.error, s.checkpoint, s.lease_ms, s.paused_at
               from {} s where s.step_uuid = u.step_uuid ",
            $locking,
            ") s"
        )
    };
}

const WAITING: Statement = Statement {
    name: "lock_steps",
    text: step_rows!("for no key update"),
    rows: None,
    parameters: &[pg_sys::UUIDARRAYOID],
};
/// Of some steps only if an outcome is awaited of them, or rests: a row that has another state is not locked. `StepRow::awaits_outcome` has the same states.
const WAITING_FOR_AWAITED: Statement = Statement {
    name: "lock_awaited_steps",
    text: step_rows!(
        "rows from (pg_catalog.unnest($1), pg_catalog.unnest($2)) u(step_uuid, if_awaited)",
        "and (not u.if_awaited or s.state in ('in_progress', 'enqueued_for_orchestration', 'enqueued_as_error_for_orchestration')) for no key update"
    ),
    rows: None,
    parameters: &[pg_sys::UUIDARRAYOID, pg_sys::BOOLARRAYOID],
};
const SKIPPING: Statement = Statement {
    name: "lock_steps_skipping",
    text: step_rows!("for no key update skip locked"),
    rows: None,
    parameters: &[pg_sys::UUIDARRAYOID],
};
const READING: Statement = Statement {
    name: "read_steps",
    text: step_rows!(""),
    rows: None,
    parameters: &[pg_sys::UUIDARRAYOID],
};

const OF_TASK: Statement = Statement {
    name: "lock_steps_of_task",
    text: "select s.step_uuid, s.template_id, s.state, s.attempt, s.attempts_used, s.remaining_dependencies, s.msg_id, s.worker_id,
             s.lease_expires_at, s.retry_at, s.result, s.error, s.checkpoint, s.lease_ms, s.paused_at
           from {} s where s.step_uuid > $1 and s.step_uuid <= $2 order by s.step_uuid for no key update",
    rows: None,
    parameters: &[pg_sys::UUIDOID, pg_sys::UUIDOID],
};

impl StepRow {
    pub(super) fn number(&self) -> i32 {
        number_of(self.key) as i32
    }

    pub(super) fn task(&self) -> u128 {
        task_of(self.key)
    }

    /// From when on its message is visible, if it is to run at a time: as long as its task is paused, never.
    pub(super) fn visible_at(&self, runs_at: TimestampTz) -> TimestampTz {
        if self.is_paused { NEVER } else { runs_at }
    }

    /// What it is in its template.
    pub(super) fn place(&self) -> Result<Place<'_>, Error> {
        self.kept.place(self.number())
    }

    /// Whether it is in progress without a worker: the engine waits for something.
    pub(super) fn waits_in_engine(&self) -> bool {
        self.state == StepState::InProgress
            && self
                .place()
                .is_ok_and(|place| place.step.details.is_waited_for())
    }

    /// Whether an outcome may be accepted of it, or rests in it.
    pub(super) fn awaits_outcome(&self) -> bool {
        matches!(
            self.state,
            StepState::InProgress
                | StepState::EnqueuedForOrchestration
                | StepState::EnqueuedAsErrorForOrchestration
        )
    }

    /// Its counter when it is ended from outside: a compensation that has ended waits for none any more.
    pub(super) fn remaining_when_ended(&self) -> Result<i32, Error> {
        let is_compensation = self.place()?.undoes.is_some();
        Ok(if is_compensation { 0 } else { self.remaining })
    }

    /// The key of another step of its task, by its number.
    pub(super) fn key_of(&self, number: u32) -> u128 {
        step_key(self.task(), number).unwrap_or_default()
    }

    /// Its definition.
    pub(super) fn step(&self) -> Result<&CompiledStep, Error> {
        self.kept.step(self.number())
    }
}

/// The rows of steps in the order of their keys; steps that aren't there, or can't be locked without waiting, are left out.
pub(super) fn read(
    session: &Session,
    mut keys: Vec<u128>,
    locking: Locking,
) -> Result<Vec<StepRow>, Error> {
    let statement = match locking {
        Locking::Wait => &WAITING,
        Locking::Skip => &SKIPPING,
        Locking::Held => &READING,
    };
    keys.sort_unstable();
    keys.dedup();
    let mut rows = Vec::with_capacity(keys.len());
    for (partition, keys) in partitions::group(session, keys, |&key| key)? {
        rows.extend(session.rows(statement, &partition.steps, &[Value::uuids(&keys)], row)?);
    }
    Ok(rows)
}

/// Locks steps, waiting for whoever has them, in the order of their keys: some, then others only if they await an outcome.
pub(super) fn lock(
    session: &Session,
    mut keys: Vec<u128>,
    mut awaited: Vec<u128>,
) -> Result<Vec<StepRow>, Error> {
    if awaited.is_empty() {
        return read(session, keys, Locking::Wait);
    }
    for keys in [&mut keys, &mut awaited] {
        keys.sort_unstable();
        keys.dedup();
    }
    let mut parts: Vec<_> = partitions::group(session, keys, |&key| key)?
        .into_iter()
        .map(|(partition, keys)| (partition, keys, Vec::new()))
        .collect();
    for (partition, awaited) in partitions::group(session, awaited, |&key| key)? {
        match &mut parts[..] {
            // All of them lie in one partition: one statement locks them, in this order.
            [(only, _, also)] if Rc::ptr_eq(only, &partition) && also.is_empty() => *also = awaited,
            _ => parts.push((partition, Vec::new(), awaited)),
        }
    }
    let mut rows = Vec::new();
    for (partition, keys, awaited) in parts {
        let only_if_awaited: Vec<bool> = std::iter::repeat_n(false, keys.len())
            .chain(std::iter::repeat_n(true, awaited.len()))
            .collect();
        let all: Vec<u128> = keys.into_iter().chain(awaited).collect();
        let values = [Value::uuids(&all), Value::bools(&only_if_awaited)];
        rows.extend(session.rows(&WAITING_FOR_AWAITED, &partition.steps, &values, row)?);
    }
    Ok(rows)
}

/// The rows of all steps of a task, locked, in the order of their keys.
pub(super) fn of_task(session: &Session, task: u128) -> Result<Vec<StepRow>, Error> {
    let Some(partition) = partitions::of(session, task)? else {
        return Ok(Vec::new());
    };
    let values = [
        Value::uuid(task),
        Value::uuid(task | u128::from(MAX_NUMBER)),
    ];
    session.rows(&OF_TASK, &partition.steps, &values, row)
}

fn row(row: &Row) -> Result<StepRow, Error> {
    let lease_expires_at = row.optional_time(8);
    let lease_ms = i64::from(row.int4(13));
    Ok(StepRow {
        key: row.uuid(0),
        kept: compiled::template(row.int4(1))?,
        state: row.text(2).parse()?,
        attempt: row.int4(3),
        attempts_used: row.int4(4),
        remaining: row.int4(5),
        msg_id: row.optional_int8(6),
        worker_id: row.optional_text(7).map(str::to_owned),
        lease_expires_at,
        left_alone_until: lease_expires_at.map(|at| at.saturating_add(lease_ms * 1000)),
        retry_at: row.optional_time(9),
        result: row.json(10),
        error: row.json(11),
        checkpoint: row.json(12),
        is_paused: row.optional_time(14).is_some(),
    })
}
