//! Settling: what a set of decided step changes causes. Whoever decides them holds the locks of the steps and of their dependents.
//!
//! Finishing, claims that meet an ended lease, extensions past the timeout and maintenance all end here.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;

use pgrx::pg_sys::TimestampTz;
use tasker_rules::graph::Place;
use tasker_rules::key::{step_key, task_of};
use tasker_rules::step_state::{StepEvent, StepState};
use tasker_rules::task_state::TaskEvent;

use super::changes::{self, Change, ENQUEUED, FINISHED};
use super::events;
use super::late::{self, Late};
use super::messages::{self, Released, Sent};
use super::rows::{self, StepRow};
use super::tasks::{self, Delta, Deltas};
use super::{Call, Taker, graphs, letters, waits};
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
    /// The payloads that its handler gives to domain events, by their names.
    pub(super) event_payloads: Option<Json>,
}

/// A dependent that has become ready.
struct Ready<'a> {
    row: &'a StepRow,
    priority: i32,
    correlation_id: u128,
    is_handed_over: bool,
}

/// The keys of the steps that wait for a step, or for all instances of one.
pub(super) fn dependents_of(task: u128, place: Place<'_>) -> impl Iterator<Item = u128> {
    place
        .dependents()
        .iter()
        .filter_map(move |&number| step_key(task, number))
}

/// Locks steps of which outcomes are told and those that wait for them, but for those that are locked late. What was made while the task ran, instances and compensations, comes first: whoever
/// has an instance may wait for the step that stands for it. Steps that others lock late come last.
///
/// Steps that others lock late, and what was made, are left out if no outcome is awaited of them: whoever lets them go, or makes them anew, has locked all else by then, and would wait for who
/// tells an outcome of an attempt that is long over.
pub(super) fn lock_with_narrow_dependents(
    session: &Session,
    graphs: &HashMap<u128, Rc<Kept>>,
    steps: &[u128],
) -> Result<Vec<StepRow>, Error> {
    let (mut made, mut late) = (Vec::new(), Vec::new());
    let mut wanted = Vec::with_capacity(steps.len());
    for &step in steps {
        let task = task_of(step);
        if let Some(kept) = graphs.get(&task)
            && let Ok(place) = kept.place(keys::number_in_task(step))
        {
            if !place.is_of_template() {
                made.push(step);
                continue;
            }
            if late::is_late(kept, keys::number_in_task(step)) {
                late.push(step);
            } else {
                wanted.push(step);
            }
            wanted.extend(
                dependents_of(task, place)
                    .filter(|&key| !late::is_late(kept, keys::number_in_task(key))),
            );
        }
    }
    let mut locked = Vec::new();
    if !made.is_empty() {
        locked = rows::lock(session, Vec::new(), made)?;
    }
    if !wanted.is_empty() || !late.is_empty() {
        locked.extend(rows::lock(session, wanted, late)?);
    }
    Ok(locked)
}

/// The rows of those that aren't locked late.
pub(super) fn narrow(rows: Vec<StepRow>) -> Vec<StepRow> {
    rows.into_iter()
        .filter(|row| !late::is_late(&row.kept, row.number()))
        .collect()
}

/// What a call has changed so far, and what is still to be done.
#[derive(Default)]
pub(super) struct Work {
    pub(super) deltas: Deltas,
    pub(super) late: Late,
    pub(super) handed_over: Vec<u128>,
}

/// Writes decided changes and all that follows from them, and gives the ready steps that are handed over to the taker. `dependents` are the locked rows of steps that wait for
/// those that complete, but for those that are locked late, here.
pub(super) fn settle(
    call: &Call,
    settlements: &[Settlement],
    dependents: &[StepRow],
    taker: Option<&Taker>,
) -> Result<Vec<u128>, Error> {
    if settlements.is_empty() {
        return Ok(Vec::new());
    }
    let mut work = Work::default();
    settle_into(call, settlements, dependents, taker, &mut work)?;
    late::settle(call, &mut work, taker)?;
    tasks::advance(call, &work.deltas)?;
    letters::open(call, &work.late.isolated)?;
    Ok(work.handed_over)
}

/// Writes decided changes and what follows for dependents that are locked already; the rest is noted in the work.
pub(super) fn settle_into(
    call: &Call,
    settlements: &[Settlement],
    dependents: &[StepRow],
    taker: Option<&Taker>,
    work: &mut Work,
) -> Result<(), Error> {
    events::publish(call, settlements)?;
    let decrements = late::consequences(settlements, &mut work.late)?;
    count(settlements, &mut work.deltas);
    waits::end(call, settlements.iter().map(|settlement| &settlement.row))?;
    let handed_over = write(
        call,
        settlements,
        dependents,
        &decrements,
        &mut work.deltas,
        taker,
    )?;
    work.handed_over.extend(handed_over);
    Ok(())
}

/// Writes changes of steps, their history and their messages, and what becomes of dependents.
pub(super) fn write(
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

pub(super) fn becomes_ready(row: &StepRow, decrement: i32) -> bool {
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
                    queue::hidden_until(call.after_ms(lease_ms))
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
pub(super) fn counts_as_failed(row: &StepRow, state: StepState) -> bool {
    match state {
        StepState::Cancelled => true,
        StepState::Error => !row.place().is_ok_and(Place::tolerates_failure),
        _ => false,
    }
}

/// Counts changes for their tasks.
fn count(settlements: &[Settlement], deltas: &mut Deltas) {
    let is = |state: StepState, wanted| i32::from(state == wanted);
    for Settlement {
        row, to, events, ..
    } in settlements
    {
        let delta: &mut Delta = deltas.entry(row.task()).or_default();
        let waited = row.waits_in_engine();
        delta.running +=
            i32::from(to.counts_as_running()) - i32::from(row.state.counts_as_running() && !waited);
        delta.waiting_engine -= i32::from(waited);
        delta.waiting_retry +=
            is(*to, StepState::WaitingForRetry) - is(row.state, StepState::WaitingForRetry);
        delta.failed +=
            i32::from(counts_as_failed(row, *to)) - i32::from(counts_as_failed(row, row.state));
        if matches!(
            events,
            [StepEvent::CompleteManually | StepEvent::ResolveManually]
        ) {
            delta.cause = Some(TaskEvent::StepRepaired);
        } else if matches!(to, StepState::Error | StepState::WaitingForRetry) && !delta.is_repair()
        {
            // What an operator set going may end in a failure in the same call.
            delta.cause = Some(TaskEvent::StepFailed);
        }
    }
}
