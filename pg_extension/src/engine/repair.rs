//! What operators do to steps: let one be tried again, give its result, settle it, and run steps anew.
//!
//! The task goes on in the same call, also one that had ended in `error`.

use std::collections::HashMap;

use pgrx::datum::TimestampWithTimeZone;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::{AnyElement, Uuid, pg_extern};
use serde_json::json;
use tasker_rules::graph::CompiledStep;
use tasker_rules::key::{number_of, step_key, task_of};
use tasker_rules::step_state::{StepEvent, StepState};
use tasker_rules::task_state::{TaskEvent, TaskState};

use super::changes::{self, Change};
use super::messages::{self, Sent};
use super::rows::{self, Locking, StepRow};
use super::settle::{self, Settlement};
use super::tasks::{self, Delta, Deltas};
use super::{Call, graphs, refusable};
use crate::error::Error;
use crate::payloads;
use crate::values::Json;
use crate::{compiled::Kept, keys};

const REPAIR_HINT: &str = "tasker.step_history shows how the step came to this state; a task that has ended otherwise than by an error can be rerun.";

/// Lets an operator's event happen to a step: `reset_for_retry`, `complete_manually` with a result, or `resolve_manually`.
#[pg_extern(
    sql = r#"CREATE FUNCTION "_repair_step"("step_uuid" uuid, "event" text, "result" jsonb, "reason" text, "now" timestamptz, "actor" text) RETURNS text[]
LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', '@FUNCTION_NAME@';"#
)]
fn _repair_step(
    step_uuid: Uuid,
    event: &str,
    result: Option<AnyElement>,
    reason: Option<&str>,
    now: TimestampWithTimeZone,
    actor: &str,
) -> Result<Option<Vec<Option<String>>>, ErrorReport> {
    refusable(now, actor, |call| {
        let event: StepEvent = event.parse()?;
        let result = result.map(|result| Json::of_datum(result.datum()));
        repair(call, keys::number(&step_uuid), event, result, reason)
    })
}

fn repair(
    call: &Call,
    key: u128,
    event: StepEvent,
    result: Option<Json>,
    reason: Option<&str>,
) -> Result<(), Error> {
    let graphs = graphs::of_steps(call.session, &[key])?;
    let mut wanted = vec![key];
    if event != StepEvent::ResetForRetry
        && let Some(kept) = graphs.get(&task_of(key))
        && let Ok(step) = kept.step(keys::number_in_task(key))
    {
        // The wide ones too: the task is locked before what follows is written.
        wanted.extend(settle::dependents_of(task_of(key), step));
    }
    let locked = rows::read(call.session, wanted, Locking::Wait)?;
    let Some(row) = locked.iter().find(|row| row.key == key) else {
        let message = format!("step {} not found", keys::text(key));
        return Err(Error::refused("TK002", message, None, None));
    };
    let task = tasks::lock(call, task_of(key))?;
    let Some(to) = row.state.next(event) else {
        let message = format!("step is {}: it can't be changed by {event}", row.state);
        return Err(Error::refused("TK010", message, None, Some(REPAIR_HINT)));
    };
    if task.is_none_or(|task| task.is_terminal() && task != TaskState::Error) {
        let state = task.map_or("gone", TaskState::as_str);
        let message = format!("task is {state}: its steps can't be changed by {event}");
        return Err(Error::refused("TK010", message, None, Some(REPAIR_HINT)));
    }
    let metadata = reason.map(|reason| Json::of(&json!({ "reason": reason })));
    if event == StepEvent::ResetForRetry {
        return reset(call, row, metadata);
    }
    if let Some(problem) = result.and_then(payloads::exceeded_limit) {
        let message = format!("the result {problem}");
        let hint = "Keep large data elsewhere and give a reference to it.";
        return Err(Error::refused("TK022", message, None, Some(hint)));
    }
    if let Some(violation) = result
        .map(|result| payloads::result_violation(&row.kept, row.number(), result))
        .transpose()?
        .flatten()
    {
        let message = "the result does not satisfy the step's result_schema".to_owned();
        let hint = "tasker.get_template shows the schema.";
        return Err(Error::refused(
            "TK021",
            message,
            Some(violation),
            Some(hint),
        ));
    }
    let settlement = Settlement {
        to,
        events: match event {
            StepEvent::CompleteManually => &[StepEvent::CompleteManually],
            _ => &[StepEvent::ResolveManually],
        },
        attempt: row.attempt + 1,
        attempts_used: row.attempts_used,
        due_at: None,
        result,
        error: None,
        checkpoint: None,
        metadata,
        row: row.clone(),
    };
    let dependents: Vec<StepRow> = settle::narrow(locked)?
        .into_iter()
        .filter(|row| row.key != key)
        .collect();
    settle::settle(call, &[settlement], &dependents, None).map(|_| ())
}

fn reset(call: &Call, row: &StepRow, metadata: Option<Json>) -> Result<(), Error> {
    let anew = Anew {
        row,
        event: StepEvent::ResetForRetry,
        remaining: row.remaining,
        checkpoint: row.checkpoint,
        metadata,
    };
    let started = begin_anew(call, &[anew], Vec::new())?;
    let delta = Delta {
        running: started,
        failed: -1,
        cause: Some(TaskEvent::Reset),
        ..Delta::default()
    };
    tasks::advance(call, &Deltas::from([(row.task(), delta)]))
}

/// Runs steps of a task anew: those of a number and, if wanted, all that come after them; all of them without a number. The caller holds the locks of the task and of its
/// steps and has looked at the task's state.
#[pg_extern(volatile, parallel_unsafe)]
fn _rerun_steps(
    task_uuid: Uuid,
    from_step: Option<i32>,
    with_descendants: bool,
    reason: Option<&str>,
    now: TimestampWithTimeZone,
    actor: &str,
) -> Result<Option<Vec<Option<String>>>, ErrorReport> {
    refusable(now, actor, |call| {
        rerun(
            call,
            keys::number(&task_uuid),
            from_step,
            with_descendants,
            reason,
        )
    })
}

fn rerun(
    call: &Call,
    task: u128,
    from_step: Option<i32>,
    with_descendants: bool,
    reason: Option<&str>,
) -> Result<(), Error> {
    let graphs = graphs::of_steps(call.session, &[task])?;
    let Some(kept) = graphs.get(&task) else {
        let message = format!("task {} not found", keys::text(task));
        return Err(Error::refused("TK001", message, None, None));
    };
    let steps = &kept.template.steps;
    let all: Vec<u128> = steps
        .iter()
        .filter_map(|step| step_key(task, step.number))
        .collect();
    let rows = rows::read(call.session, all, Locking::Held)?;
    let is_chosen = chosen(steps, from_step, with_descendants);
    if let Some(number) = from_step
        && let Some(row) = rows.iter().find(|row| row.number() == number)
        && row.state.next(StepEvent::Rerun).is_none()
    {
        let message = format!("step is {}: it can't be rerun", row.state);
        let hint = "Rerun from a step that it waits for.";
        return Err(Error::refused("TK010", message, None, Some(hint)));
    }
    let runs_anew = |row: &StepRow| {
        is_chosen[number_of(row.key) as usize - 1] && row.state.next(StepEvent::Rerun).is_some()
    };
    let satisfied: HashMap<u32, bool> = rows
        .iter()
        .map(|row| {
            let is_satisfied = row.state.satisfies_dependents() && !runs_anew(row);
            (number_of(row.key), is_satisfied)
        })
        .collect();
    let remaining = |row: &StepRow| -> Result<i32, Error> {
        let unsatisfied = row
            .step()?
            .dependencies
            .iter()
            .filter(|number| !satisfied.get(number).copied().unwrap_or(false));
        Ok(unsatisfied.count() as i32)
    };
    let metadata = reason.map(|reason| Json::of(&json!({ "reason": reason })));
    let mut anew = Vec::new();
    let mut recounted = Vec::new();
    for row in &rows {
        let remaining = remaining(row)?;
        if runs_anew(row) {
            anew.push(Anew {
                row,
                event: StepEvent::Rerun,
                remaining,
                checkpoint: None,
                metadata,
            });
        } else if remaining != row.remaining {
            recounted.push(Change {
                remaining,
                ..Change::as_it_is(row)
            });
        }
    }
    let failed = anew
        .iter()
        .filter(|anew| settle::counts_as_failed(anew.row.state))
        .count();
    let started = begin_anew(call, &anew, recounted)?;
    let delta = Delta {
        running: started,
        failed: -(failed as i32),
        cause: Some(TaskEvent::Rerun),
        ..Delta::default()
    };
    tasks::advance(call, &Deltas::from([(task, delta)]))
}

/// Which steps are to run anew, by their position.
fn chosen(steps: &[CompiledStep], from_step: Option<i32>, with_descendants: bool) -> Vec<bool> {
    let Some(from) = from_step.and_then(|number| u32::try_from(number).ok()) else {
        return vec![true; steps.len()];
    };
    let mut is_chosen = vec![false; steps.len()];
    // In topological order: what a step waits for is decided before it.
    for (position, step) in steps.iter().enumerate() {
        is_chosen[position] = step.number == from
            || with_descendants
                && step
                    .dependencies
                    .iter()
                    .any(|&number| is_chosen[number as usize - 1]);
    }
    is_chosen
}

/// A step that begins again from its first attempt.
struct Anew<'a> {
    row: &'a StepRow,
    event: StepEvent,
    remaining: i32,
    checkpoint: Option<Json>,
    metadata: Option<Json>,
}

/// Writes steps that begin again, with a message for each that is ready, and other changes; says how many are ready. Their attempt rises, so that whoever had them is
/// fenced off.
fn begin_anew(call: &Call, anew: &[Anew], others: Vec<Change>) -> Result<i32, Error> {
    let facts = graphs::facts(call.session, anew.iter().map(|anew| anew.row.key))?;
    let mut sent = Vec::new();
    for anew in anew.iter().filter(|anew| anew.remaining == 0) {
        let Some(facts) = facts.get(&anew.row.task()) else {
            continue;
        };
        let kept: &Kept = &anew.row.kept;
        sent.push(Sent {
            kept: anew.row.kept.clone(),
            step: anew.row.key,
            attempt: anew.row.attempt + 1,
            handler: kept.step(anew.row.number())?.callable.clone(),
            priority: facts.priority,
            correlation_id: facts.correlation_id,
            visible_at: anew.row.visible_at(call.now),
        });
    }
    messages::spread(call, &mut sent);
    let ids = messages::send(call, &sent, &vec![None; sent.len()])?;
    let ids: HashMap<u128, i64> = sent.iter().map(|sent| sent.step).zip(ids).collect();
    let mut changes = others;
    for anew in anew {
        let mut change = Change {
            attempt: anew.row.attempt + 1,
            attempts_used: 0,
            remaining: anew.remaining,
            msg_id: ids.get(&anew.row.key).copied(),
            result: None,
            error: None,
            checkpoint: anew.checkpoint,
            metadata: anew.metadata,
            ..Change::of(anew.row)
        };
        if change.msg_id.is_some() {
            change.times = changes::ENQUEUED;
            change.moves(StepState::Enqueued, &[anew.event, StepEvent::Enqueue]);
        } else {
            change.moves(StepState::Pending, &[anew.event]);
        }
        changes.push(change);
    }
    changes.sort_unstable_by_key(|change| change.key);
    changes::write(call, changes, None)?;
    for sent in sent.iter().filter(|sent| sent.visible_at <= call.now) {
        messages::wake(&sent.kept.template.namespace);
    }
    Ok(sent.len() as i32)
}
