//! What operators do to steps: let one be tried again, give its result, settle it, and run steps anew.
//!
//! The task goes on in the same call, also one that had ended in `error`.

use std::collections::{BTreeSet, HashMap};

use pgrx::datum::TimestampWithTimeZone;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::{AnyElement, Uuid, pg_extern};
use serde_json::json;
use tasker_rules::graph::branches::{self as graph_branches, Edge};
use tasker_rules::graph::{CompiledStep, Details, Place};
use tasker_rules::key::task_of;
use tasker_rules::step_state::{StepEvent, StepState};
use tasker_rules::task_state::{TaskEvent, TaskState};

use super::changes::{self, Change};
use super::messages::{self, Sent};
use super::rows::{self, Locking, StepRow};
use super::settle::{self, Settlement, Work};
use super::tasks::{self, Delta};
use super::{
    Call, branches, compensation, finish, graphs, instances, late, refusable, waits,
};
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
    let locked = lock(call, key, event)?;
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
    if row.place()?.undoes.is_none() && compensation::has_begun(call, row)? {
        let message = format!("what the task did is undone: its steps can't be changed by {event}");
        let hint = "tasker.rerun_task runs a task that has ended anew.";
        return Err(Error::refused("TK010", message, None, Some(hint)));
    }
    let metadata = reason.map(|reason| Json::of(&json!({ "reason": reason })));
    if event == StepEvent::ResetForRetry {
        return reset(call, row, &locked, metadata);
    }
    if let Some(problem) = result.and_then(payloads::exceeded_limit) {
        let message = format!("the result {problem}");
        let hint = "Keep large data elsewhere and give a reference to it.";
        return Err(Error::refused("TK022", message, None, Some(hint)));
    }
    if let Some(violation) = result
        .map(|result| finish::violation(row, result))
        .transpose()?
        .flatten()
    {
        let hint = "tasker.get_template shows what the step's result has to be.";
        return Err(Error::refused(
            violation.code,
            violation.message.to_owned(),
            Some(violation.detail),
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
        event_payloads: None,
        row: row.clone(),
    };
    let dependents: Vec<StepRow> = settle::narrow(locked.clone())
        .into_iter()
        .filter(|row| row.key != key)
        .collect();
    settle::settle(call, &[settlement], &dependents, None).map(|_| ())
}

/// Locks all that a repair may change: the task is locked before what follows is written.
fn lock(call: &Call, key: u128, event: StepEvent) -> Result<Vec<StepRow>, Error> {
    let graphs = graphs::of_steps(call.session, &[key])?;
    let Some(kept) = graphs.get(&task_of(key)) else {
        return Ok(Vec::new());
    };
    if !kept.template.is_static() {
        return rows::of_task(call.session, task_of(key));
    }
    let mut wanted = vec![key];
    if event != StepEvent::ResetForRetry
        && let Ok(place) = kept.place(keys::number_in_task(key))
    {
        wanted.extend(settle::dependents_of(task_of(key), place));
    }
    rows::read(call.session, wanted, Locking::Wait)
}

/// Lets a step be tried again; with one that stands for instances, those that failed or were cancelled, and with an instance the step that stands for it, if it failed of it.
fn reset(
    call: &Call,
    row: &StepRow,
    locked: &[StepRow],
    metadata: Option<Json>,
) -> Result<(), Error> {
    let place = row.place()?;
    let may_reset = |row: &StepRow| row.state.next(StepEvent::ResetForRetry).is_some();
    let mut anew = Vec::new();
    for other in locked {
        let stands_for = match (place.instance, other.place()?.instance) {
            _ if other.key == row.key => true,
            (None, Some(_)) => {
                stands_for_instances(place) && other.step()?.number == place.step.number
            }
            (Some(_), None) => other.step()?.number == place.step.number,
            _ => false,
        };
        if stands_for && may_reset(other) {
            anew.push(Anew {
                row: other,
                event: StepEvent::ResetForRetry,
                remaining: other.remaining,
                checkpoint: other.checkpoint,
                metadata,
            });
        }
    }
    let mut work = Work::default();
    if row.state == StepState::Error && place.tolerates_failure() {
        // It counted as done.
        work.late.of(row, place.step.number).decrement -= 1;
    }
    let delta = Delta {
        failed: -failed_among(&anew),
        cause: Some(TaskEvent::Reset),
        ..Delta::default()
    };
    work.deltas.insert(row.task(), delta);
    begin_anew(call, &anew, Vec::new(), &mut work)?;
    late::settle(call, &mut work, None)?;
    tasks::advance(call, &work.deltas)
}

fn stands_for_instances(place: Place<'_>) -> bool {
    place.instance.is_none() && place.step.details.instances().is_some()
}

fn failed_among(anew: &[Anew]) -> i32 {
    let failed = anew
        .iter()
        .filter(|anew| settle::counts_as_failed(anew.row, anew.row.state));
    failed.count() as i32
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
    let rows = rows::of_task(call.session, task)?;
    let is_chosen = chosen(&kept.template.steps, from_step, with_descendants);
    if let Some(number) = from_step
        && let Some(row) = rows.iter().find(|row| row.number() == number)
        && row.state.next(StepEvent::Rerun).is_none()
    {
        let message = format!("step is {}: it can't be rerun", row.state);
        let hint = "Rerun from a step that it waits for.";
        return Err(Error::refused("TK010", message, None, Some(hint)));
    }
    let metadata = reason.map(|reason| Json::of(&json!({ "reason": reason })));
    let mut anew = Vec::new();
    let mut recounted = Vec::new();
    let mut stands = HashMap::new();
    for row in &rows {
        let place = row.place()?;
        let number = match place.step.details {
            Details::Compensation { of, .. } => of,
            _ => place.step.number,
        };
        let is_chosen = is_chosen[number as usize - 1];
        let runs_anew = is_chosen && row.state.next(StepEvent::Rerun).is_some();
        let remaining = match place.instance {
            // It is let go when it is made anew.
            _ if !place.is_of_template() && is_chosen => 1,
            _ if !place.is_of_template() => row.remaining,
            None if stands_for_instances(place) && !is_chosen && instances::has_any(call, row)? => {
                row.remaining
            }
            _ => remaining(row, place.step, &stands),
        };
        if place.is_of_template() {
            stands.insert(
                place.step.number,
                Stands::of(row, place, runs_anew, remaining),
            );
        }
        if runs_anew {
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
        if is_chosen && stands_for_instances(place) {
            instances::forget(call, row)?;
        } else if runs_anew && place.is_run_by_engine() {
            waits::forget(call, row)?;
        }
    }
    let mut work = Work::default();
    let delta = Delta {
        failed: -failed_among(&anew),
        cause: Some(TaskEvent::Rerun),
        ..Delta::default()
    };
    work.deltas.insert(task, delta);
    begin_anew(call, &anew, recounted, &mut work)?;
    late::settle(call, &mut work, None)?;
    tasks::advance(call, &work.deltas)
}

/// How a step stands for those that depend on it.
enum Stands {
    Open,
    Absent,
    /// With what it chose, if it is a decision.
    Satisfied(Option<BTreeSet<u32>>),
}

impl Stands {
    fn of(row: &StepRow, place: Place<'_>, runs_anew: bool, remaining: i32) -> Self {
        if remaining == branches::CUT_OFF {
            Self::Absent
        } else if runs_anew || !row.state.satisfies_dependents() {
            Self::Open
        } else {
            Self::Satisfied(
                (place.step.details == Details::Decision)
                    .then(|| branches::choice(&row.kept, place.step, row.state, row.result)),
            )
        }
    }

    fn edge(&self, to: u32) -> Edge {
        match self {
            Self::Open => Edge::Open,
            Self::Absent => Edge::Absent,
            Self::Satisfied(Some(chosen)) if !chosen.contains(&to) => Edge::Absent,
            Self::Satisfied(_) => Edge::Settled,
        }
    }
}

/// What a step's counter is to be, from how those stand that it depends on.
fn remaining(row: &StepRow, step: &CompiledStep, stands: &HashMap<u32, Stands>) -> i32 {
    let edges = step.dependencies.iter().map(|number| {
        stands
            .get(number)
            .map_or(Edge::Open, |stands| stands.edge(step.number))
    });
    let remaining = graph_branches::remaining(step, edges);
    // One that has run exists, whatever was decided since.
    match remaining {
        Some(remaining) => remaining as i32,
        None if row.state == StepState::Pending => branches::CUT_OFF,
        None => 0,
    }
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

/// Writes steps that begin again, with a message for each that is ready, and other changes. Their attempt rises, so that whoever had them is fenced off.
fn begin_anew(
    call: &Call,
    anew: &[Anew],
    others: Vec<Change>,
    work: &mut Work,
) -> Result<(), Error> {
    let facts = graphs::facts(call.session, anew.iter().map(|anew| anew.row.key))?;
    let mut sent = Vec::new();
    for anew in anew.iter().filter(|anew| anew.remaining == 0) {
        let place = anew.row.place()?;
        if place.is_run_by_engine() {
            work.late.of(anew.row, place.step.number);
            continue;
        }
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
    for sent in &sent {
        work.deltas.entry(task_of(sent.step)).or_default().running += 1;
        if sent.visible_at <= call.now {
            messages::wake(&sent.kept.template.namespace);
        }
    }
    Ok(())
}
