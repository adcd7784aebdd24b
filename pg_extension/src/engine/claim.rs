//! Claiming work from the namespaces' queues. A message is only a hint: the step's row decides. A claim never waits for a lock and hides nothing that it doesn't hand out.
//!
//! Not here: handing over inside a finish (`settle`).

use std::collections::{HashMap, HashSet};

use pgrx::datum::TimestampWithTimeZone;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::pg_sys::{self, TimestampTz};
use pgrx::{AnyElement, pg_extern};
use tasker_rules::key::task_of;
use tasker_rules::privilege::Privilege;
use tasker_rules::sql_handler;
use tasker_rules::step_state::{StepEvent, StepState};
use tasker_rules::task_state::TaskEvent;

use super::changes::{self, Change};
use super::messages::NEVER;
use super::rows::{self, Locking, StepRow};
use super::settle::{self, Settlement};
use super::tasks::{self, Deltas};
use super::{Call, Taker, claimed, names, namespaces};
use super::{events, fail, graphs, turns};
use crate::error::Error;
use crate::namespace_grants::Caller;
use crate::queue::{self, Met, Queue};
use crate::statements::{Statement, session};
use crate::values::{self, Json, Value};

/// What a message calls for.
enum Decision {
    /// Its step is handed out.
    Take(StepRow),
    /// Its step's retry is due: handed out, and the task's counters change.
    Retry(StepRow),
    /// Its step's lease has ended: handed out as the next attempt.
    TakeOver(StepRow),
    /// Its step's lease has ended once too often: the attempt fails, with the delay before the next one.
    Settle(StepRow, Option<i64>),
    /// It came too early.
    Hide(Option<TimestampTz>),
    /// It means nothing any more.
    Orphan,
    /// It was never ours.
    Foreign,
    /// Its step, or its task, is locked by another transaction.
    Leave,
}

const ARCHIVE: Statement = Statement {
    name: "archive_messages",
    text: "select {}($1, $2)",
    rows: None,
    parameters: &[pg_sys::TEXTOID, pg_sys::INT8ARRAYOID],
};

/// Claims up to the taker's limit from the queues of its namespaces.
pub(super) fn claim(call: &Call, taker: &Taker) -> Result<Vec<u128>, Error> {
    if taker.limit == 0 {
        return Ok(Vec::new());
    }
    let mut claimed = Vec::new();
    for (namespace, queue_name) in namespaces::queues(call.session, taker.namespaces)? {
        let limit = taker.limit - claimed.len();
        if limit == 0 {
            break;
        }
        let queue = Queue {
            namespace: &namespace,
            name: &queue_name,
        };
        claimed.extend(claim_from(call, queue, &Taker { limit, ..*taker })?);
    }
    Ok(claimed)
}

/// Claims from one queue.
fn claim_from(call: &Call, queue: Queue, taker: &Taker) -> Result<Vec<u128>, Error> {
    let met = queue::read(call.session, queue, taker.limit, taker.handlers, call.now)?;
    if met.is_empty() {
        return Ok(Vec::new());
    }
    take(call, queue.name, &met, taker)
}

/// Claims what messages call for, takes over or fails steps whose lease has ended, and clears away messages that mean nothing any more.
pub(super) fn take(
    call: &Call,
    queue_name: &str,
    met: &[Met],
    taker: &Taker,
) -> Result<Vec<u128>, Error> {
    let decisions = leave_busy_tasks(call, decide(call, met)?)?;

    let hidden_until = queue::hidden_until(call.after_ms(taker.lease_ms));
    let mut steps = Vec::new();
    let mut changes = Vec::new();
    let mut deltas = Deltas::new();
    let mut settlements: Vec<Settlement> = Vec::new();
    let mut visible_at = Vec::new();
    let mut taken_over = Vec::new();
    let mut orphans = Vec::new();
    let mut foreign = Vec::new();
    for (met, decision) in met.iter().zip(decisions) {
        match decision {
            Decision::Take(row) => {
                changes.push(taken_change(&row, &[StepEvent::Start], row.error));
                visible_at.push((met.msg_id, hidden_until));
                steps.push(row.key);
            }
            Decision::Retry(row) => {
                changes.push(taken_change(
                    &row,
                    &[StepEvent::Retry, StepEvent::Start],
                    row.error,
                ));
                let delta = deltas.entry(row.task()).or_default();
                delta.running += 1;
                delta.waiting_retry -= 1;
                delta.cause = Some(TaskEvent::RetryReady);
                visible_at.push((met.msg_id, hidden_until));
                steps.push(row.key);
            }
            Decision::TakeOver(row) => {
                let error = fail::lease_expired_error(&row);
                let mut change = taken_change(&row, &[StepEvent::Start], Some(error));
                change.metadata = Some(error);
                changes.push(change);
                visible_at.push((met.msg_id, hidden_until));
                steps.push(row.key);
                taken_over.push((row, error));
            }
            Decision::Settle(row, delay_ms) => {
                let error = fail::lease_expired_error(&row);
                settlements.push(fail::failed(call, row, Some(error), delay_ms));
            }
            Decision::Hide(until) => visible_at.extend(until.map(|until| (met.msg_id, until))),
            Decision::Orphan => orphans.push(met.msg_id),
            Decision::Foreign => foreign.push(met.msg_id),
            Decision::Leave => {}
        }
    }
    events::publish_taken_over(call, &taken_over)?;
    changes::write(call, changes, Some(taker))?;
    tasks::advance(call, &deltas)?;
    settle::settle(call, &settlements, &[], None)?;
    queue::set_visible_at(call.session, queue_name, visible_at)?;
    queue::delete(call.session, queue_name, orphans)?;
    if !foreign.is_empty() {
        // Kept in the queue's archive, where whoever sent it can find it.
        let values = [Value::text(queue_name), Value::int8s(&foreign)];
        call.session.run(&ARCHIVE, "pgmq.archive", &values)?;
    }
    Ok(steps)
}

fn taken_change(row: &StepRow, events: &[StepEvent], error: Option<Json>) -> Change {
    let mut change = Change {
        error,
        ..Change::of(row)
    };
    change.moves(StepState::InProgress, events);
    change.starts();
    change
}

/// Locks the messages' steps without waiting, and says what each message calls for.
fn decide(call: &Call, met: &[Met]) -> Result<Vec<Decision>, Error> {
    let keys: Vec<u128> = met.iter().filter_map(|met| met.step).collect();
    let awaited = turns::try_share(&graphs::of_steps(call.session, &keys)?, &keys);
    let (left, keys): (Vec<u128>, Vec<u128>) = keys
        .into_iter()
        .partition(|&key| awaited.contains(&task_of(key)));
    let locked: HashMap<u128, StepRow> = rows::read(call.session, keys.clone(), Locking::Skip)?
        .into_iter()
        .map(|row| (row.key, row))
        .collect();
    let unlocked: Vec<u128> = keys
        .into_iter()
        .filter(|key| !locked.contains_key(key))
        .collect();
    let mut busy: HashSet<u128> = left.into_iter().collect();
    if !unlocked.is_empty() {
        let rows = rows::read(call.session, unlocked, Locking::Held)?;
        busy.extend(rows.into_iter().map(|row| row.key));
    }
    met.iter()
        .map(|met| {
            let Some(step) = met.step else {
                return Ok(Decision::Foreign);
            };
            match locked.get(&step) {
                Some(row) => decide_on(call, met.msg_id, row.clone()),
                None if busy.contains(&step) => Ok(Decision::Leave),
                None => Ok(Decision::Orphan),
            }
        })
        .collect()
}

fn decide_on(call: &Call, msg_id: i64, row: StepRow) -> Result<Decision, Error> {
    let has_come = |at: Option<TimestampTz>| at.is_some_and(|at| at <= call.now);
    if row.msg_id != Some(msg_id) {
        return Ok(Decision::Orphan);
    }
    Ok(match row.state {
        StepState::InProgress if !has_come(row.lease_expires_at) => {
            Decision::Hide(row.lease_expires_at.map(queue::hidden_until))
        }
        // An attempt that outlived its lease is left to maintenance, which fails or enqueues it without starting it.
        StepState::Enqueued | StepState::WaitingForRetry | StepState::InProgress
            if row.is_paused =>
        {
            Decision::Hide(Some(NEVER))
        }
        StepState::Enqueued => Decision::Take(row),
        StepState::WaitingForRetry if has_come(row.retry_at) => Decision::Retry(row),
        StepState::WaitingForRetry => Decision::Hide(row.retry_at),
        StepState::InProgress => {
            // The first crash in a row is retried at once; a later one waits for its backoff; without attempts left the step fails.
            match fail::retry_delay_ms(&row, true, None)? {
                // What stands for it would have to be waited for: left to maintenance.
                None if row.place()?.instance.is_some() => Decision::Leave,
                None => Decision::Settle(row, None),
                Some(delay) if delay > 0 && fail::has_crashed_before(&row) => {
                    Decision::Settle(row, Some(delay))
                }
                Some(_) => Decision::TakeOver(row),
            }
        }
        _ => Decision::Orphan,
    })
}

/// Retries and failures change their task's counters: its row is taken without waiting, or the step is left for the next claim.
fn leave_busy_tasks(call: &Call, decisions: Vec<Decision>) -> Result<Vec<Decision>, Error> {
    let tasks: Vec<u128> = decisions
        .iter()
        .filter_map(|decision| match decision {
            Decision::Retry(row) | Decision::Settle(row, _) => Some(row.task()),
            _ => None,
        })
        .collect();
    if tasks.is_empty() {
        return Ok(decisions);
    }
    let locked = tasks::lock_without_waiting(call, tasks)?;
    Ok(decisions
        .into_iter()
        .map(|decision| match decision {
            Decision::Retry(row) | Decision::Settle(row, _) if !locked.contains(&row.task()) => {
                Decision::Leave
            }
            other => other,
        })
        .collect())
}

/// SQL functions are run by the database only, as the role that registered them: no worker gets them, whatever it asks for.
fn refuse_sql(handlers: Option<&[String]>) -> Result<(), Error> {
    let mut handlers = handlers.unwrap_or_default().iter();
    match handlers.find(|handler| sql_handler::is_sql(handler)) {
        None => Ok(()),
        Some(handler) => Err(Error::refused(
            "22023",
            format!("handler {handler} is a SQL function, which the database runs itself"),
            None,
            Some("Leave it out."),
        )),
    }
}

/// Claims up to `max_steps` ready steps.
#[pg_extern(
    requires = ["030_types"],
    sql = r#"CREATE FUNCTION "_claim"("worker_id" text, "namespaces" text[], "max_steps" integer, "lease_ms" bigint, "handlers" text[], "now" timestamptz)
  RETURNS tasker._finished
LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', '@FUNCTION_NAME@';"#
)]
fn _claim(
    worker_id: &str,
    namespaces: Vec<Option<String>>,
    max_steps: i32,
    lease_ms: i64,
    handlers: Option<Vec<Option<String>>>,
    now: TimestampWithTimeZone,
) -> Result<Option<AnyElement>, ErrorReport> {
    let (namespaces, handlers) = (names(namespaces), handlers.map(names));
    let answer = session(|session| {
        let call = Call {
            session,
            now: now.into(),
            actor: worker_id,
        };
        let taker = Taker {
            worker_id,
            limit: usize::try_from(max_steps).unwrap_or(0),
            lease_ms,
            namespaces: &namespaces,
            handlers: handlers.as_deref(),
        };
        let claimed = refuse_sql(taker.handlers)
            .and_then(|()| {
                let namespaces = namespaces.iter().map(String::as_str);
                Caller::now(session)?.require(namespaces, Privilege::Work)
            })
            .and_then(|()| claim(&call, &taker))
            .and_then(|steps| claimed::show(session, &steps, &HashMap::new()));
        let (shown, refused) = values::or_refused(claimed)?;
        let claimed = shown.and_then(|shown| shown.rows);
        let row = values::composite(c"_finished", [None, claimed, refused]);
        Ok(row.map(|row| session.handed_out(row)))
    })?;
    Ok(values::answer(answer))
}
