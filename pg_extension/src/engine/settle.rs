//! Settling: what a set of decided step changes causes. Whoever decides them holds the locks of the steps and of their dependents.
//!
//! Finishing, claims that meet an ended lease, extensions past the timeout and maintenance all end here.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;

use pgrx::pg_sys::TimestampTz;
use tasker_rules::graph::CompiledStep;
use tasker_rules::key::{step_key, task_of};
use tasker_rules::step_state::{StepEvent, StepState};
use tasker_rules::task_state::TaskEvent;

use super::changes::{self, Change, ENQUEUED, FINISHED};
use super::messages::{self, Released, Sent};
use super::rows::{self, Locking, StepRow};
use super::tasks::{self, Delta, Deltas};
use super::{Call, Taker, graphs};
use crate::compiled::Kept;
use crate::error::Error;
use crate::keys;
use crate::queue::{self, Queue};
use crate::statements::Session;
use crate::values::Json;

/// A decided change of one step.
pub(super) struct Settlement {
    pub(super) row: StepRow,
    pub(super) to: StepState,
    pub(super) events: &'static [StepEvent],
    /// The attempt after the change; history names it too.
    pub(super) attempt: i32,
    pub(super) attempts_used: i32,
    /// When the step runs again; its message is kept until then. Without it the message goes.
    pub(super) due_at: Option<TimestampTz>,
    pub(super) result: Option<Json>,
    pub(super) error: Option<Json>,
    pub(super) checkpoint: Option<Json>,
    /// For its row of history.
    pub(super) metadata: Option<Json>,
}

/// A dependent that has become ready.
struct Ready<'a> {
    row: &'a StepRow,
    priority: i32,
    correlation_id: u128,
    is_handed_over: bool,
}

/// The keys of the steps that wait for a step.
pub(super) fn dependents_of(row_task: u128, step: &CompiledStep) -> impl Iterator<Item = u128> {
    step.dependents
        .iter()
        .filter_map(move |&number| step_key(row_task, number))
}

/// A step with more dependencies than this is locked after all else is written: many finish at the same time what it waits for, and would wait for each other.
const WIDE: usize = 16;

/// Whether many steps are waited for.
fn is_wide(step: &CompiledStep) -> bool {
    step.dependencies.len() > WIDE
}

/// The keys of the steps that wait for a step, but for the wide ones.
fn narrow_dependents_of(
    task: u128,
    kept: &Kept,
    step: &CompiledStep,
) -> impl Iterator<Item = u128> {
    dependents_of(task, step).filter(|&key| {
        kept.step(keys::number_in_task(key))
            .is_ok_and(|step| !is_wide(step))
    })
}

/// Steps and those that wait for them, but for the wide ones.
pub(super) fn with_narrow_dependents(
    session: &Session,
    steps: &[u128],
) -> Result<Vec<u128>, Error> {
    let graphs = graphs::of_steps(session, steps)?;
    let mut wanted = steps.to_vec();
    for &step in steps {
        let task = task_of(step);
        if let Some(kept) = graphs.get(&task)
            && let Ok(definition) = kept.step(keys::number_in_task(step))
        {
            wanted.extend(narrow_dependents_of(task, kept, definition));
        }
    }
    Ok(wanted)
}

/// The rows of those that aren't wide.
pub(super) fn narrow(rows: Vec<StepRow>) -> Result<Vec<StepRow>, Error> {
    let mut narrow = Vec::with_capacity(rows.len());
    for row in rows {
        if !is_wide(row.step()?) {
            narrow.push(row);
        }
    }
    Ok(narrow)
}

/// Writes decided changes and all that follows from them, and gives the ready steps that are handed over to the taker. `dependents` are the locked rows of steps that wait for
/// those that complete, but for the wide ones, which are locked here.
pub(super) fn settle(
    call: &Call,
    settlements: &[Settlement],
    dependents: &[StepRow],
    taker: Option<&Taker>,
) -> Result<Vec<u128>, Error> {
    if settlements.is_empty() {
        return Ok(Vec::new());
    }
    let decrements = decrements(settlements)?;
    let mut deltas = deltas(settlements);
    let mut handed_over = write(
        call,
        settlements,
        dependents,
        &decrements,
        &mut deltas,
        taker,
    )?;
    let wide = wide(settlements, &decrements)?;
    if !wide.is_empty() {
        let rows = rows::read(call.session, wide, Locking::Wait)?;
        let rest = taker.map(|taker| Taker {
            limit: taker.limit - handed_over.len(),
            ..*taker
        });
        handed_over.extend(write(
            call,
            &[],
            &rows,
            &decrements,
            &mut deltas,
            rest.as_ref(),
        )?);
    }
    tasks::advance(call, &deltas)?;
    Ok(handed_over)
}

/// The wide steps among those whose counters fall.
fn wide(settlements: &[Settlement], decrements: &BTreeMap<u128, i32>) -> Result<Vec<u128>, Error> {
    let kept: HashMap<u128, &Kept> = settlements
        .iter()
        .map(|settlement| (settlement.row.task(), settlement.row.kept.as_ref()))
        .collect();
    let mut wide = Vec::new();
    for &key in decrements.keys() {
        if let Some(kept) = kept.get(&task_of(key))
            && is_wide(kept.step(keys::number_in_task(key))?)
        {
            wide.push(key);
        }
    }
    Ok(wide)
}

/// Writes changes of steps, their history and their messages, and what becomes of dependents.
fn write(
    call: &Call,
    settlements: &[Settlement],
    dependents: &[StepRow],
    decrements: &BTreeMap<u128, i32>,
    deltas: &mut Deltas,
    taker: Option<&Taker>,
) -> Result<Vec<u128>, Error> {
    let waiting: Vec<(&StepRow, i32)> = dependents
        .iter()
        .filter_map(|row| Some((row, *decrements.get(&row.key)?)))
        .collect();
    let mut ready = ready(call.session, &waiting)?;
    if let Some(taker) = taker {
        choose(call, &mut ready, taker)?;
    }
    for ready in &ready {
        deltas.entry(ready.row.task()).or_default().running += 1;
    }

    let mut changes: Vec<Change> = Vec::with_capacity(settlements.len() + waiting.len());
    changes.extend(
        waiting
            .iter()
            .filter(|&&(row, decrement)| !becomes_ready(row, decrement))
            .map(|&(row, decrement)| Change {
                remaining: row.remaining - decrement,
                ..Change::as_it_is(row)
            }),
    );
    let mut released: Vec<Released> = settlements
        .iter()
        .filter_map(|settlement| {
            Some(Released {
                kept: settlement.row.kept.clone(),
                msg_id: settlement.row.msg_id?,
                visible_at: settlement.due_at.map(|at| settlement.row.visible_at(at)),
            })
        })
        .collect();
    let mut sent = sent(call, &ready, taker)?;
    sent.extend(sent_again(call, settlements)?);
    messages::spread(call, &mut sent);
    let reused = messages::pair(&sent, &mut released);
    let ids = messages::send(call, &sent, &reused)?;
    let (of_ready, of_settled) = ids.split_at(ready.len());
    changes.extend(
        ready
            .iter()
            .zip(of_ready)
            .map(|(ready, &msg_id)| enqueued(ready, msg_id)),
    );
    let mut of_settled = of_settled.iter().copied();
    changes.extend(settlements.iter().map(|settlement| {
        let mut change = settled(settlement);
        if needs_message(settlement) {
            change.msg_id = of_settled.next();
        }
        change
    }));
    changes.sort_unstable_by_key(|change| change.key);
    changes::write(call, changes, taker)?;
    let lost = messages::reuse(call, &sent, &reused)?;
    changes::write_messages(call, lost)?;
    messages::release(call, &released)?;
    let enqueued = ready
        .iter()
        .filter(|ready| !ready.is_handed_over)
        .map(|ready| ready.row);
    let again = settlements
        .iter()
        .filter(|settlement| needs_message(settlement))
        .map(|settlement| &settlement.row);
    for row in enqueued.chain(again).filter(|row| !row.is_paused) {
        messages::wake(&row.kept.template.namespace);
    }
    Ok(ready
        .iter()
        .filter(|ready| ready.is_handed_over)
        .map(|ready| ready.row.key)
        .collect())
}

/// By how much the counters of dependents fall.
fn decrements(settlements: &[Settlement]) -> Result<BTreeMap<u128, i32>, Error> {
    let mut decrements = BTreeMap::new();
    for settlement in settlements {
        if settlement.to.satisfies_dependents() {
            for dependent in dependents_of(settlement.row.task(), settlement.row.step()?) {
                *decrements.entry(dependent).or_insert(0) += 1;
            }
        }
    }
    Ok(decrements)
}

fn becomes_ready(row: &StepRow, decrement: i32) -> bool {
    row.state == StepState::Pending && row.remaining == decrement
}

/// Those that become ready, in the order in which they are served.
fn ready<'a>(session: &Session, waiting: &[(&'a StepRow, i32)]) -> Result<Vec<Ready<'a>>, Error> {
    let rows: Vec<&StepRow> = waiting
        .iter()
        .filter(|&&(row, decrement)| becomes_ready(row, decrement))
        .map(|&(row, _)| row)
        .collect();
    let facts = graphs::facts(session, rows.iter().map(|row| row.key))?;
    let mut ready: Vec<Ready> = rows
        .into_iter()
        .filter_map(|row| {
            let facts = facts.get(&row.task())?;
            Some(Ready {
                row,
                priority: facts.priority,
                correlation_id: facts.correlation_id,
                is_handed_over: false,
            })
        })
        .collect();
    ready.sort_by_key(|ready| (Reverse(ready.priority), ready.row.key));
    Ok(ready)
}

/// Marks which of the ready steps are handed over: what the taker can run and isn't paused, at most its limit, and not before a visible message of higher priority, which its claim
/// then finds.
fn choose(call: &Call, ready: &mut [Ready], taker: &Taker) -> Result<(), Error> {
    if taker.limit == 0 || ready.is_empty() {
        return Ok(());
    }
    let mut least: BTreeMap<String, (Rc<Kept>, i32)> = BTreeMap::new();
    for ready in ready.iter().filter(|ready| !ready.row.is_paused) {
        let kept = &ready.row.kept;
        let (_, least) = least
            .entry(kept.queue_name.clone())
            .or_insert((Rc::clone(kept), ready.priority));
        *least = ready.priority.min(*least);
    }
    let mut fronts = HashMap::new();
    for (queue_name, (kept, least)) in least {
        let queue = Queue {
            namespace: &kept.template.namespace,
            name: &queue_name,
        };
        let front = queue::front(call.session, queue, least, taker.handlers, call.now)?;
        fronts.extend(front.map(|front| (queue_name, front)));
    }
    let mut left = taker.limit;
    for ready in ready {
        let kept = &ready.row.kept;
        let is_first = fronts
            .get(&kept.queue_name)
            .is_some_and(|&front| ready.priority >= front);
        if left > 0
            && is_first
            && !ready.row.is_paused
            && taker.serves(&kept.template.namespace)
            && taker.has(&ready.row.step()?.callable)
        {
            ready.is_handed_over = true;
            left -= 1;
        }
    }
    Ok(())
}

fn settled(settlement: &Settlement) -> Change {
    let ends = settlement.to.is_terminal();
    let mut change = Change {
        attempt: settlement.attempt,
        attempts_used: settlement.attempts_used,
        msg_id: settlement
            .row
            .msg_id
            .filter(|_| settlement.due_at.is_some()),
        retry_at: settlement
            .due_at
            .filter(|_| settlement.to == StepState::WaitingForRetry),
        result: settlement.result,
        error: settlement.error,
        checkpoint: settlement.checkpoint.or(settlement.row.checkpoint),
        metadata: settlement.metadata,
        times: if ends {
            FINISHED
        } else if settlement.to == StepState::Enqueued {
            ENQUEUED
        } else {
            0
        },
        ..Change::of(&settlement.row)
    };
    change.moves(settlement.to, settlement.events);
    change
}

/// The messages of ready steps. A step handed over has its message too, hidden until the lease ends, so that a crash is recovered the same way.
fn sent(call: &Call, ready: &[Ready], taker: Option<&Taker>) -> Result<Vec<Sent>, Error> {
    let lease_ms = taker.map_or(0, |taker| taker.lease_ms);
    ready
        .iter()
        .map(|ready| {
            Ok(Sent {
                kept: ready.row.kept.clone(),
                step: ready.row.key,
                attempt: ready.row.attempt,
                handler: ready.row.step()?.callable.clone(),
                priority: ready.priority,
                correlation_id: ready.correlation_id,
                visible_at: if ready.is_handed_over {
                    call.after_ms(lease_ms)
                } else {
                    ready.row.visible_at(call.now)
                },
            })
        })
        .collect()
}

/// Whether a step is to run again whose message is gone, as after an outcome that rested.
fn needs_message(settlement: &Settlement) -> bool {
    settlement.due_at.is_some() && settlement.row.msg_id.is_none()
}

fn sent_again(call: &Call, settlements: &[Settlement]) -> Result<Vec<Sent>, Error> {
    let again = || {
        settlements
            .iter()
            .filter(|settlement| needs_message(settlement))
    };
    let facts = graphs::facts(call.session, again().map(|settlement| settlement.row.key))?;
    again()
        .filter_map(|settlement| Some((settlement, facts.get(&settlement.row.task())?)))
        .map(|(settlement, facts)| {
            Ok(Sent {
                kept: settlement.row.kept.clone(),
                step: settlement.row.key,
                attempt: settlement.attempt,
                handler: settlement.row.step()?.callable.clone(),
                priority: facts.priority,
                correlation_id: facts.correlation_id,
                visible_at: settlement
                    .row
                    .visible_at(settlement.due_at.unwrap_or(call.now)),
            })
        })
        .collect()
}

fn enqueued(ready: &Ready, msg_id: i64) -> Change {
    let mut change = Change {
        remaining: 0,
        msg_id: Some(msg_id),
        times: ENQUEUED,
        ..Change::of(ready.row)
    };
    if ready.is_handed_over {
        change.moves(
            StepState::InProgress,
            &[StepEvent::Enqueue, StepEvent::Start],
        );
        change.starts();
    } else {
        change.moves(StepState::Enqueued, &[StepEvent::Enqueue]);
    }
    change
}

/// Whether a step keeps its task from being complete though nothing moves it any more.
pub(super) fn counts_as_failed(state: StepState) -> bool {
    matches!(state, StepState::Error | StepState::Cancelled)
}

fn deltas(settlements: &[Settlement]) -> Deltas {
    let mut deltas = Deltas::new();
    let is = |state: StepState, wanted| i32::from(state == wanted);
    for Settlement {
        row, to, events, ..
    } in settlements
    {
        let delta: &mut Delta = deltas.entry(row.task()).or_default();
        delta.running +=
            i32::from(to.counts_as_running()) - i32::from(row.state.counts_as_running());
        delta.waiting_retry +=
            is(*to, StepState::WaitingForRetry) - is(row.state, StepState::WaitingForRetry);
        delta.failed += i32::from(counts_as_failed(*to)) - i32::from(counts_as_failed(row.state));
        if matches!(
            events,
            [StepEvent::CompleteManually | StepEvent::ResolveManually]
        ) {
            delta.cause = Some(TaskEvent::StepRepaired);
        } else if matches!(to, StepState::Error | StepState::WaitingForRetry) {
            delta.cause = Some(TaskEvent::StepFailed);
        }
    }
    deltas
}
