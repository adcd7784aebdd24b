//! Attempts that failed: retried at once, retried later, or failed for good. And attempts that the engine itself fails: their lease ended, or their timeout.

use pgrx::datum::TimestampWithTimeZone;
use pgrx::pg_sys::TimestampTz;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::{JsonB, Uuid, pg_extern};
use serde_json::json;
use tasker_rules::key::task_of;
use tasker_rules::retry;
use tasker_rules::step_state::{StepEvent, StepState};

use super::rows::{self, Locking, StepRow};
use super::settle::{self, Settlement};
use super::{Call, changes, instances, messages, refusable, waits};
use crate::error::Error;
use crate::keys;
use crate::values::Json;

const AS_ERROR: StepEvent = StepEvent::EnqueueAsErrorForOrchestration;

/// The delay before the next attempt in milliseconds; `None` when there is none: its attempts are used up, or it is not to be retried.
pub(super) fn retry_delay_ms(
    row: &StepRow,
    is_retryable: bool,
    retry_after_ms: Option<u64>,
) -> Result<Option<i64>, Error> {
    let policy = &row.step()?.retry;
    let failed_attempts = u32::try_from(row.attempts_used).unwrap_or(0);
    if !is_retryable || !policy.retryable || failed_attempts >= policy.max_attempts {
        return Ok(None);
    }
    let delay = match retry_after_ms {
        Some(asked) => asked.min(retry::MAX_RETRY_AFTER_MS),
        None => retry::delay_ms(
            policy,
            failed_attempts,
            keys::random_unit().mul_add(2.0, -1.0),
        ),
    };
    Ok(Some(i64::try_from(delay).unwrap_or(i64::MAX)))
}

/// The change of a step whose attempt failed, with the delay before the next one.
pub(super) fn failed(
    call: &Call,
    row: StepRow,
    error: Option<Json>,
    delay_ms: Option<i64>,
) -> Settlement {
    let (to, events): (StepState, &'static [StepEvent]) = match delay_ms {
        None => (StepState::Error, &[AS_ERROR, StepEvent::Fail]),
        Some(0) => (
            StepState::Enqueued,
            &[AS_ERROR, StepEvent::WaitForRetry, StepEvent::Retry],
        ),
        Some(_) => (
            StepState::WaitingForRetry,
            &[AS_ERROR, StepEvent::WaitForRetry],
        ),
    };
    let rested = row.state == StepState::EnqueuedAsErrorForOrchestration;
    let events = if rested { &events[1..] } else { events };
    Settlement {
        to,
        events,
        attempt: row.attempt,
        attempts_used: row.attempts_used,
        due_at: delay_ms.map(|delay| call.after_ms(delay)),
        result: None,
        error,
        checkpoint: None,
        metadata: None,
        event_payloads: None,
        row,
    }
}

/// The error of an attempt whose lease ended.
pub(super) fn lease_expired_error(row: &StepRow) -> Json {
    let lease_expires_at = row
        .lease_expires_at
        .and_then(|at| TimestampWithTimeZone::try_from(at).ok());
    let worker_id = row.worker_id.as_deref();
    Json::of(&json!({
        "type": "lease_expired",
        "retryable": true,
        "message": format!("worker {} held attempt {} until its lease ended", worker_id.unwrap_or("?"), row.attempt),
        "detail": {"worker_id": worker_id, "attempt": row.attempt, "lease_expires_at": lease_expires_at},
    }))
}

/// Whether a step's last attempt ended with its lease.
pub(super) fn has_crashed_before(row: &StepRow) -> bool {
    row.error.and_then(|error| error.text_of("type")).as_deref() == Some("lease_expired")
}

/// Fails attempts that ran past their timeout. The caller holds the steps' locks.
#[pg_extern(volatile, parallel_unsafe)]
fn _time_out(
    step_uuids: Vec<Uuid>,
    errors: Vec<JsonB>,
    now: TimestampWithTimeZone,
    actor: &str,
) -> Result<Option<Vec<Option<String>>>, ErrorReport> {
    if step_uuids.is_empty() {
        return Ok(None);
    }
    refusable(now, actor, |call| {
        let keys: Vec<u128> = step_uuids.iter().map(keys::number).collect();
        let mut settlements = Vec::with_capacity(keys.len());
        for row in rows::read(call.session, keys.clone(), Locking::Held)? {
            let Some(error) = keys
                .iter()
                .zip(&errors)
                .find(|&(&key, _)| key == row.key)
                .map(|(_, error)| Json::of(&error.0))
            else {
                continue;
            };
            let delay = retry_delay_ms(&row, true, None)?;
            settlements.push(failed(call, row, Some(error), delay));
        }
        settle::settle(call, &settlements, &[], None).map(|_| ())
    })
}

/// Fails the attempts of steps whose lease ended more than one lease ago, of those given that can be locked without waiting. Until then a step is left to a claim,
/// which takes it over without a detour. The first crash in a row is retried at once.
#[pg_extern(volatile, parallel_unsafe)]
fn _end_leases(
    step_uuids: Vec<Uuid>,
    now: TimestampWithTimeZone,
    actor: &str,
) -> Result<Option<Vec<Option<String>>>, ErrorReport> {
    if step_uuids.is_empty() {
        return Ok(None);
    }
    refusable(now, actor, |call| {
        let keys: Vec<u128> = step_uuids.iter().map(keys::number).collect();
        // Looked at before it is locked: a lock makes claims go past a step.
        let ended = |row: &StepRow| {
            row.state == StepState::InProgress
                && row
                    .left_alone_until
                    .is_some_and(|until: TimestampTz| until <= call.now)
        };
        let suspects: Vec<u128> = rows::read(call.session, keys, Locking::Held)?
            .iter()
            .filter(|row| ended(row))
            .map(|row| row.key)
            .collect();
        let mut settlements = Vec::new();
        for row in rows::read(call.session, suspects, Locking::Skip)? {
            if !ended(&row) {
                continue;
            }
            let delay = retry_delay_ms(&row, true, None)?;
            let delay = if has_crashed_before(&row) {
                delay
            } else {
                delay.map(|_| 0)
            };
            let error = lease_expired_error(&row);
            settlements.push(failed(call, row, Some(error), delay));
        }
        settle::settle(call, &settlements, &[], None)?;
        Ok(())
    })
}

/// Cancels the instances that have not ended of a step that failed with one of them. The caller holds the locks of the task and all its steps.
#[pg_extern(volatile, parallel_unsafe)]
fn _cancel_instances(
    step_uuid: Uuid,
    now: TimestampWithTimeZone,
    actor: &str,
) -> Result<Option<Vec<Option<String>>>, ErrorReport> {
    refusable(now, actor, |call| {
        let key = keys::number(&step_uuid);
        let rows = rows::of_task(call.session, task_of(key))?;
        let has_failed = |row: &&StepRow| row.key == key && row.state == StepState::Error;
        let Some(group) = rows.iter().find(has_failed) else {
            return Ok(());
        };
        let asked_for = instances::standing(call, group)?.map_or(0, |standing| standing.instances);
        let mut settlements = Vec::new();
        for row in rows {
            let is_instance = row
                .place()?
                .instance
                .is_some_and(|instance| instance as i32 <= asked_for);
            if is_instance && row.key_of(row.step()?.number) == key && !row.state.is_terminal() {
                settlements.push(cancelled(row));
            }
        }
        settle::settle(call, &settlements, &[], None).map(|_| ())
    })
}

fn cancelled(row: StepRow) -> Settlement {
    Settlement {
        to: StepState::Cancelled,
        events: &[StepEvent::Cancel],
        attempt: row.attempt,
        attempts_used: row.attempts_used,
        due_at: None,
        result: None,
        error: row.error,
        checkpoint: None,
        metadata: None,
        event_payloads: None,
        row,
    }
}

/// Cancels steps that have not ended. The caller holds their locks and sees to the task.
#[pg_extern(volatile, parallel_unsafe)]
fn _cancel_steps(
    step_uuids: Vec<Uuid>,
    now: TimestampWithTimeZone,
    actor: &str,
) -> Result<Option<Vec<Option<String>>>, ErrorReport> {
    refusable(now, actor, |call| {
        let keys: Vec<u128> = step_uuids.iter().map(keys::number).collect();
        let rows: Vec<StepRow> = rows::read(call.session, keys, Locking::Held)?
            .into_iter()
            .filter(|row| !row.state.is_terminal())
            .collect();
        let released: Vec<messages::Released> = rows
            .iter()
            .filter_map(|row| {
                Some(messages::Released {
                    kept: row.kept.clone(),
                    msg_id: row.msg_id?,
                    visible_at: None,
                })
            })
            .collect();
        let changes = rows
            .iter()
            .map(|row| {
                let mut change = changes::Change {
                    msg_id: None,
                    times: changes::FINISHED,
                    remaining: row.remaining_when_ended()?,
                    ..changes::Change::of(row)
                };
                change.moves(StepState::Cancelled, &[StepEvent::Cancel]);
                Ok(change)
            })
            .collect::<Result<_, Error>>()?;
        changes::write(call, changes, None)?;
        waits::end(call, &rows)?;
        messages::release(call, &released)?;
        Ok(())
    })
}
