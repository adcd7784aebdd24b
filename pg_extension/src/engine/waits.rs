//! Steps that wait inside the engine: for a signal, until a time, for a task of their own. Such a step is in progress without a worker, a message or a lease; what it waits for is a row
//! of `tasker.timers`, one of `tasker.signals` that has not come yet, or a child task. Not here: sending signals and finding the timers that are due (`sql/608_waits.sql`), starting,
//! cancelling and settling child tasks (`sql/695_children.sql`).
//!
//! A step that becomes ready looks for its signal under its own lock, and who sends one locks the steps that wait for it: one of the two sees the other.

use std::collections::{BTreeMap, HashSet};

use pgrx::datum::TimestampWithTimeZone;
use pgrx::pg_sys::TimestampTz;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::{AnyElement, Uuid, pg_extern, pg_sys};
use serde_json::{Value as Document, json};
use tasker_rules::graph::{Details, Until, WaitedSignal};
use tasker_rules::instant;
use tasker_rules::step_state::{StepEvent, StepState};

use super::changes::{self, Change, ENQUEUED, STARTED};
use super::rows::{self, Locking, StepRow};
use super::settle::{self, Settlement};
use super::tasks::Deltas;
use super::{Call, finish, refusable};
use crate::clock;
use crate::error::Error;
use crate::keys;
use crate::statements::Statement;
use crate::values::{Json, Value};

const SIGNAL: Statement = Statement {
    name: "find_signal",
    text: "select s.payload from {} s where s.task_uuid = $1 and s.name = $2",
    rows: None,
    parameters: &[pg_sys::UUIDOID, pg_sys::TEXTOID],
};

const FORGET_SIGNAL: Statement = Statement {
    name: "forget_signal",
    text: "delete from {} s where s.task_uuid = $1 and s.name = $2",
    rows: None,
    parameters: &[pg_sys::UUIDOID, pg_sys::TEXTOID],
};

const SET_TIMERS: Statement = Statement {
    name: "set_timers",
    text: "insert into {} (due_at, step_uuid)
           select u.due_at, u.step_uuid from rows from (pg_catalog.unnest($1), pg_catalog.unnest($2)) u(step_uuid, due_at)",
    rows: None,
    parameters: &[pg_sys::UUIDARRAYOID, pg_sys::TIMESTAMPTZARRAYOID],
};

const DROP_TIMERS: Statement = Statement {
    name: "drop_timers",
    text: "delete from {} t using pg_catalog.unnest($1) u(step_uuid) where t.step_uuid = u.step_uuid",
    rows: None,
    parameters: &[pg_sys::UUIDARRAYOID],
};

const TAKE_DUE: Statement = Statement {
    name: "take_due_timers",
    text: "delete from {} t using pg_catalog.unnest($1) u(step_uuid) where t.step_uuid = u.step_uuid and t.due_at <= $2 returning t.step_uuid",
    rows: None,
    parameters: &[pg_sys::UUIDARRAYOID, pg_sys::TIMESTAMPTZOID],
};

const NOTE_STARTS: Statement = Statement {
    name: "note_starts_of_children",
    text: "insert into {} (job, key) select 'start_children', u.step_uuid from pg_catalog.unnest($1) u(step_uuid)",
    rows: None,
    parameters: &[pg_sys::UUIDARRAYOID],
};

/// Of those that have not ended.
const NOTE_CANCELLATIONS: Statement = Statement {
    name: "note_cancellations_of_children",
    text: "insert into {} (job, key)
           select 'cancel_children', t.task_uuid
           from pg_catalog.unnest($1) u(step_uuid)
           join tasker.child_tasks c on c.parent_step_uuid = u.step_uuid
           cross join lateral (select t.task_uuid from tasker.tasks t where t.task_uuid = c.task_uuid and t.finished_at is null) t",
    rows: None,
    parameters: &[pg_sys::UUIDARRAYOID],
};

const TIMERS: &str = "tasker.timers";
const SIGNALS: &str = "tasker.signals";
const FOUND: &str = "tasker.maintenance_found";

/// What becomes of a step that is ready to wait.
enum Beginning {
    /// It waits, until a time or without an end.
    Waits(Option<TimestampTz>),
    /// It is over at once.
    Ends(Box<Settlement>),
}

/// Lets steps wait that have become ready, and gives what ends at once. The rows are locked and pending.
pub(super) fn begin(
    call: &Call,
    ready: &[StepRow],
    deltas: &mut Deltas,
) -> Result<Vec<Settlement>, Error> {
    let sources = sources(call, ready)?;
    let mut ended = Vec::new();
    let mut changes = Vec::new();
    let (mut steps, mut due_at, mut parents) = (Vec::new(), Vec::new(), Vec::new());
    for row in ready {
        let beginning = match &row.step()?.details {
            Details::Signal(signal) => listen(call, row, signal)?,
            Details::Timer(until) => sleep(call, row, until, &sources)?,
            Details::Child(_) => {
                parents.push(row.key);
                Beginning::Waits(None)
            }
            _ => continue,
        };
        match beginning {
            Beginning::Ends(settlement) => ended.push(*settlement),
            Beginning::Waits(until) => {
                let mut change = Change {
                    attempt: row.attempt + 1,
                    remaining: 0,
                    times: ENQUEUED | STARTED,
                    ..Change::of(row)
                };
                change.moves(
                    StepState::InProgress,
                    &[StepEvent::Enqueue, StepEvent::Start],
                );
                changes.push(change);
                deltas.entry(row.task()).or_default().waiting_engine += 1;
                if let Some(until) = until {
                    steps.push(row.key);
                    due_at.push(until);
                }
            }
        }
    }
    changes::write(call, changes, None)?;
    if !steps.is_empty() {
        let values = [Value::uuids(&steps), Value::times(&due_at)];
        call.session.run(&SET_TIMERS, TIMERS, &values)?;
    }
    if !parents.is_empty() {
        call.session
            .run(&NOTE_STARTS, FOUND, &[Value::uuids(&parents)])?;
    }
    Ok(ended)
}

/// The results that the times of timers are in, by step.
fn sources(call: &Call, ready: &[StepRow]) -> Result<BTreeMap<u128, Option<Json>>, Error> {
    let mut keys = Vec::new();
    for row in ready {
        if let Details::Timer(Until::Result { source, .. }) = row.step()?.details {
            keys.push(row.key_of(source));
        }
    }
    if keys.is_empty() {
        return Ok(BTreeMap::new());
    }
    let rows = rows::read(call.session, keys, Locking::Held)?;
    Ok(rows.into_iter().map(|row| (row.key, row.result)).collect())
}

fn listen(call: &Call, row: &StepRow, signal: &WaitedSignal) -> Result<Beginning, Error> {
    let values = [Value::uuid(row.task()), Value::text(&signal.name)];
    let arrived = call
        .session
        .rows(&SIGNAL, SIGNALS, &values, |row| Ok(row.json(0)))?;
    if let Some(payload) = arrived.into_iter().next() {
        let settlement = ended(row, payload.unwrap_or_else(null))?;
        return Ok(Beginning::Ends(Box::new(at_once(settlement))));
    }
    Ok(Beginning::Waits(
        signal.timeout_seconds.map(|seconds| after(call, seconds)),
    ))
}

fn sleep(
    call: &Call,
    row: &StepRow,
    until: &Until,
    sources: &BTreeMap<u128, Option<Json>>,
) -> Result<Beginning, Error> {
    let (source, path) = match until {
        Until::Delay { seconds } => return Ok(Beginning::Waits(Some(after(call, *seconds)))),
        Until::Result { source, path } => (source, path),
    };
    let result = sources.get(&row.key_of(*source)).copied().flatten();
    let found = result.and_then(|result| {
        path.iter()
            .try_fold(result, |value, name| value.field_of(name))
    });
    let time = found
        .and_then(|found| serde_json::from_str::<Document>(&found.to_text()).ok())
        .as_ref()
        .and_then(instant::read);
    if let Some(microseconds) = time {
        return Ok(Beginning::Waits(Some(clock::of_unix(microseconds))));
    }
    let name = &row.kept.step(*source as i32)?.name;
    let place = if path.is_empty() {
        String::new()
    } else {
        format!("{} of ", path.join("."))
    };
    let message = format!(
        "{place}the result of {name} is no time: text with an offset, or seconds since 1970"
    );
    let settlement = failed(row, "timer_until", Some("TK021"), message);
    Ok(Beginning::Ends(Box::new(at_once(settlement))))
}

fn after(call: &Call, seconds: u32) -> TimestampTz {
    call.after_ms(i64::from(seconds) * 1000)
}

fn null() -> Json {
    Json::parse(c"null")
}

/// The end of a step with a result, unless that is not what the step's schema asks for.
fn ended(row: &StepRow, result: Json) -> Result<Settlement, Error> {
    Ok(finish::accepted_or_not(row, result, None)?.0)
}

fn failed(row: &StepRow, error_type: &str, code: Option<&str>, message: String) -> Settlement {
    let error = json!({"type": error_type, "code": code, "retryable": false, "message": message});
    failed_of(row, Json::of(&error))
}

fn failed_of(row: &StepRow, error: Json) -> Settlement {
    Settlement {
        to: StepState::Error,
        events: &[StepEvent::EnqueueAsErrorForOrchestration, StepEvent::Fail],
        attempt: row.attempt,
        attempts_used: row.attempts_used,
        due_at: None,
        result: None,
        error: Some(error),
        checkpoint: None,
        metadata: None,
        event_payloads: None,
        row: row.clone(),
    }
}

/// The end of a step that had not begun to wait.
fn at_once(settlement: Settlement) -> Settlement {
    let events: &'static [StepEvent] = match (settlement.to, settlement.result) {
        (StepState::Complete, _) => &[
            StepEvent::Enqueue,
            StepEvent::Start,
            StepEvent::EnqueueForOrchestration,
            StepEvent::Complete,
        ],
        (_, Some(_)) => &[
            StepEvent::Enqueue,
            StepEvent::Start,
            StepEvent::EnqueueForOrchestration,
            StepEvent::Fail,
        ],
        (_, None) => &[
            StepEvent::Enqueue,
            StepEvent::Start,
            StepEvent::EnqueueAsErrorForOrchestration,
            StepEvent::Fail,
        ],
    };
    Settlement {
        events,
        attempt: settlement.attempt + 1,
        ..settlement
    }
}

/// Drops what steps have waited for that don't wait any more. The rows are as they were while they waited; of other steps nothing is dropped.
pub(super) fn end<'a>(
    call: &Call,
    rows: impl IntoIterator<Item = &'a StepRow>,
) -> Result<(), Error> {
    let (mut timed, mut parents) = (Vec::new(), Vec::new());
    for row in rows.into_iter().filter(|row| row.waits_in_engine()) {
        match &row.step()?.details {
            Details::Timer(_) => timed.push(row.key),
            Details::Signal(signal) if signal.timeout_seconds.is_some() => timed.push(row.key),
            Details::Child(_) => parents.push(row.key),
            _ => {}
        }
    }
    if !timed.is_empty() {
        call.session
            .run(&DROP_TIMERS, TIMERS, &[Value::uuids(&timed)])?;
    }
    if !parents.is_empty() {
        call.session
            .run(&NOTE_CANCELLATIONS, FOUND, &[Value::uuids(&parents)])?;
    }
    Ok(())
}

/// Forgets what has come for a step that is to wait for it anew.
pub(super) fn forget(call: &Call, row: &StepRow) -> Result<(), Error> {
    if let Details::Signal(signal) = &row.step()?.details {
        let values = [Value::uuid(row.task()), Value::text(&signal.name)];
        call.session.run(&FORGET_SIGNAL, SIGNALS, &values)?;
    }
    Ok(())
}

/// Ends the waiting of steps whose time has come, of those given that can be locked without waiting. `fired` is the result of a timer.
#[pg_extern(
    sql = r#"CREATE FUNCTION "_fire_timers"("step_uuids" uuid[], "fired" jsonb, "now" timestamptz, "actor" text) RETURNS text[]
LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', '@FUNCTION_NAME@';"#
)]
fn _fire_timers(
    step_uuids: Vec<Uuid>,
    fired: AnyElement,
    now: TimestampWithTimeZone,
    actor: &str,
) -> Result<Option<Vec<Option<String>>>, ErrorReport> {
    refusable(now, actor, |call| {
        let keys = step_uuids.iter().map(keys::number).collect();
        let rows = rows::read(call.session, keys, Locking::Skip)?;
        let locked: Vec<u128> = rows.iter().map(|row| row.key).collect();
        let values = [Value::uuids(&locked), Value::time(call.now)];
        let due = call
            .session
            .rows(&TAKE_DUE, TIMERS, &values, |row| Ok(row.uuid(0)))?;
        let due: HashSet<u128> = due.into_iter().collect();
        let fired = Json::of_datum(fired.datum());
        let settlements = rows
            .iter()
            .filter(|row| due.contains(&row.key) && row.waits_in_engine())
            .map(|row| at_its_time(row, fired))
            .collect::<Result<Vec<_>, _>>()?;
        settle::settle(call, &settlements, &[], None).map(|_| ())
    })
}

fn at_its_time(row: &StepRow, fired: Json) -> Result<Settlement, Error> {
    let Details::Signal(signal) = &row.step()?.details else {
        return ended(row, fired);
    };
    if let Some(default) = &signal.default {
        return ended(row, Json::of(default));
    }
    let seconds = signal.timeout_seconds.unwrap_or_default();
    let message = format!(
        "signal {} has not come within {seconds} seconds",
        signal.name
    );
    Ok(failed(row, "signal_timeout", None, message))
}

/// Ends the waiting of steps with a result, or with an error in its place. The caller holds their locks.
#[pg_extern(
    sql = r#"CREATE FUNCTION "_end_waits"("step_uuids" uuid[], "result" jsonb, "error" jsonb, "now" timestamptz, "actor" text) RETURNS text[]
LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', '@FUNCTION_NAME@';"#
)]
fn _end_waits(
    step_uuids: Vec<Uuid>,
    result: Option<AnyElement>,
    error: Option<AnyElement>,
    now: TimestampWithTimeZone,
    actor: &str,
) -> Result<Option<Vec<Option<String>>>, ErrorReport> {
    refusable(now, actor, |call| {
        let keys = step_uuids.iter().map(keys::number).collect();
        let result = result.map_or_else(null, |result| Json::of_datum(result.datum()));
        let error = error.map(|error| Json::of_datum(error.datum()));
        let settlements = rows::read(call.session, keys, Locking::Held)?
            .iter()
            .filter(|row| row.waits_in_engine())
            .map(|row| match error {
                Some(error) => Ok(failed_of(row, error)),
                None => ended(row, result),
            })
            .collect::<Result<Vec<_>, _>>()?;
        settle::settle(call, &settlements, &[], None).map(|_| ())
    })
}
