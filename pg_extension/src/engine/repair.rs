//! What operators do to steps: let one be tried again, give its result, settle it, and run steps anew.
//!
//! The task goes on in the same call, also one that had ended in `error`.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use pgrx::datum::TimestampWithTimeZone;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::{AnyElement, Uuid, pg_extern, pg_sys};
use serde_json::json;
use tasker_rules::graph::branches::{self as graph_branches, Edge, Existence};
use tasker_rules::graph::{CompiledStep, Details, Place};
use tasker_rules::key::task_of;
use tasker_rules::step_state::{StepEvent, StepState};
use tasker_rules::task_state::{TaskEvent, TaskState};

use super::changes::{self, Change};
use super::messages::{self, Sent};
use super::rows::{self, Locking, StepRow};
use super::settle::{self, Settlement, Work};
use super::tasks::{self, Delta};
use super::{Call, branches, compensation, finish, graphs, instances, late, refusable, waits};
use crate::error::Error;
use crate::payloads;
use crate::statements::Statement;
use crate::values::{Json, Value};
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
    if !exists(call, row, &locked)? {
        let message = format!("step {} not found", keys::text(key));
        return Err(Error::refused("TK002", message, None, None));
    }
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
        row: StepRow {
            remaining: row.remaining_when_ended()?,
            ..row.clone()
        },
    };
    let dependents: Vec<StepRow> = settle::narrow(locked.clone())
        .into_iter()
        .filter(|row| row.key != key)
        .collect();
    settle::settle(call, &[settlement], &dependents, None).map(|_| ())
}

const LOCK_WHOLE: Statement = Statement {
    name: "lock_whole_tasks",
    text: "select {}($1)",
    rows: None,
    parameters: &[pg_sys::UUIDARRAYOID],
};

/// Whether a row is a step: its decisions have been made and chose it, or it is an instance that was asked for. What has run is.
fn exists(call: &Call, row: &StepRow, locked: &[StepRow]) -> Result<bool, Error> {
    if row.state != StepState::Pending || row.kept.is_static {
        return Ok(true);
    }
    let place = row.place()?;
    if place.undoes.is_some() {
        return compensation::is_wanted(call, row);
    }
    if let Some(instance) = place.instance {
        let key = row.key_of(place.step.number);
        let Some(group) = locked.iter().find(|row| row.key == key) else {
            return Ok(false);
        };
        let standing = instances::standing(call, group)?;
        return Ok(standing.is_some_and(|standing| instance as i32 <= standing.instances));
    }
    let mut choices = BTreeMap::new();
    for row in locked.iter().filter(|row| row.state.satisfies_dependents()) {
        let step = row.step()?;
        if step.details == Details::Decision {
            let chosen = branches::choice(&row.kept, step, row.state, row.result);
            choices.insert(step.number, chosen);
        }
    }
    let existence = row.kept.template.existence(&choices);
    Ok(existence.get(place.step.number as usize - 1) == Some(&Existence::Certain))
}

/// Locks all that a repair may change: the task is locked before what follows is written.
fn lock(call: &Call, key: u128, event: StepEvent) -> Result<Vec<StepRow>, Error> {
    let graphs = graphs::of_steps(call.session, &[key])?;
    let Some(kept) = graphs.get(&task_of(key)) else {
        return Ok(Vec::new());
    };
    if !kept.is_static {
        let tasks = [Value::uuids(&[task_of(key)])];
        call.session
            .run(&LOCK_WHOLE, "tasker._lock_whole_tasks", &tasks)?;
        return rows::of_task(call.session, task_of(key));
    }
    let mut wanted = vec![key];
    if event != StepEvent::ResetForRetry
        && let Ok(place) = kept.place(keys::number_in_task(key))
    {
        wanted.extend(settle::dependents_of(task_of(key), place));
    }
    let (late, narrow): (Vec<u128>, Vec<u128>) = wanted
        .into_iter()
        .partition(|&step| late::is_late(kept, keys::number_in_task(step)));
    let mut locked = rows::read(call.session, narrow, Locking::Wait)?;
    let is_refused = |row: &StepRow| row.key == key && row.state.next(event).is_none();
    // While it can be repaired, none runs of those that wait for it. Otherwise whoever finishes one that runs may come to another from there, which would be locked here already.
    if !late.is_empty() && !locked.iter().any(is_refused) {
        locked.extend(rows::read(call.session, late, Locking::Wait)?);
    }
    Ok(locked)
}

/// Lets a step be tried again; with one that stands for instances, those that failed or were cancelled, and with an instance the step that stands for it, if it failed of it.
fn reset(
    call: &Call,
    row: &StepRow,
    locked: &[StepRow],
    metadata: Option<Json>,
) -> Result<(), Error> {
    let place = row.place()?;
    let mut work = Work::default();
    let anew = to_reset(call, row, locked, metadata, &mut work)?;
    if row.state == StepState::Error && place.tolerates_failure() {
        // It counted as done.
        work.late.of(row, place.step.number).ended -= 1;
    }
    for group in anew.iter().map(|anew| anew.row) {
        let group_place = group.place()?;
        if group_place.is_run_by_engine() {
            let at_work = at_work(locked, group_place.step.number, &anew)?;
            let places = instances::free_places(call, group, group_place, at_work.into_iter())?;
            work.late.of(group, group_place.step.number).places += places;
        }
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

/// Which steps are tried again with one. A step that no decision chooses any more, and that waits for others, never exists from now on.
fn to_reset<'a>(
    call: &Call,
    row: &StepRow,
    locked: &'a [StepRow],
    metadata: Option<Json>,
    work: &mut Work,
) -> Result<Vec<Anew<'a>>, Error> {
    let place = row.place()?;
    let mut anew = Vec::new();
    let mut stands = HashMap::new();
    for other in locked {
        let other_place = other.place()?;
        let is_step = other_place.is_of_template();
        if is_step {
            let standing = Stands::of(other, other_place, false, other.remaining);
            stands.insert(other_place.step.number, standing);
        }
        let is_of_it = other_place.step.number == place.step.number;
        let is_meant = other.key == row.key || is_of_it && place.instance.is_some() == is_step;
        if !is_meant || other.state.next(StepEvent::ResetForRetry).is_none() {
            continue;
        }
        let is_cut_off = is_step
            && other.remaining > 0
            && !instances_count(call, other, other_place)?
            && graph_branches::remaining(other_place.step, edges(other_place.step, &stands))
                .is_none();
        if is_cut_off {
            work.late.cut_off_behind(other, other_place);
        }
        anew.push(Anew {
            row: other,
            event: StepEvent::ResetForRetry,
            remaining: if is_cut_off {
                branches::CUT_OFF
            } else {
                other.remaining
            },
            checkpoint: other.checkpoint,
            metadata,
        });
    }
    Ok(anew)
}

/// The numbers of a step's instances that have not ended when some begin anew.
fn at_work(locked: &[StepRow], of: u32, anew: &[Anew]) -> Result<Vec<u32>, Error> {
    let begin: HashSet<u128> = anew.iter().map(|anew| anew.row.key).collect();
    let mut at_work = Vec::new();
    for row in locked {
        let place = row.place()?;
        if place.step.number == of && (!row.state.is_terminal() || begin.contains(&row.key)) {
            at_work.extend(place.instance);
        }
    }
    Ok(at_work)
}

/// Whether a step's counter is that of its instances.
fn instances_count(call: &Call, row: &StepRow, place: Place<'_>) -> Result<bool, Error> {
    Ok(place.is_run_by_engine() && instances::standing(call, row)?.is_some())
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
        if place.undoes.is_some() && !is_chosen && row.state != StepState::Pending {
            return Err(stands_on_nothing(&kept.step(number as i32)?.name));
        }
        let runs_anew = is_chosen && row.state.next(StepEvent::Rerun).is_some();
        let remaining = if !place.is_of_template() {
            // It is let go when it is made anew.
            if is_chosen { 1 } else { row.remaining }
        } else if !is_chosen && instances_count(call, row, place)? {
            row.remaining
        } else {
            let is_first = from_step == Some(row.number());
            remaining(row, place.step, &stands, runs_anew, is_first)
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
        if is_chosen && place.is_of_template() && place.step.details.instances().is_some() {
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

/// What would be left as done has been undone.
fn stands_on_nothing(step: &str) -> Error {
    let message = format!("what step {step} did is undone: it has to be rerun as well");
    let hint = "Rerun the whole task.";
    Error::refused("TK010", message, None, Some(hint))
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

/// How those stand that a step depends on.
fn edges<'a>(
    step: &'a CompiledStep,
    stands: &'a HashMap<u32, Stands>,
) -> impl Iterator<Item = Edge> + 'a {
    step.dependencies.iter().map(|number| {
        stands
            .get(number)
            .map_or(Edge::Open, |stands| stands.edge(step.number))
    })
}

/// What a step's counter is to be, from how those stand that it depends on.
fn remaining(
    row: &StepRow,
    step: &CompiledStep,
    stands: &HashMap<u32, Stands>,
    runs_anew: bool,
    is_first: bool,
) -> i32 {
    let remaining = graph_branches::remaining(step, edges(step, stands));
    let open = graph_branches::open(edges(step, stands)) as i32;
    let begins = runs_anew || row.state == StepState::Pending;
    match remaining {
        Some(remaining) => remaining as i32,
        // What has run exists, whatever was decided since; and what an operator runs anew, if it waits for nothing.
        None if begins && !(runs_anew && is_first && open == 0) => branches::CUT_OFF,
        None => open,
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
