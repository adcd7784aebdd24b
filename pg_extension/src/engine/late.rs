//! Steps whose rows are locked after all else is written, in the order of their keys: those that many others finish for, those that a decision may keep from existing, and those that the
//! engine completes itself, with all that waits for them. What becomes of one may make another due, which has a greater key within its task.

use std::collections::BTreeMap;
use std::rc::Rc;

use tasker_rules::graph::{CompiledStep, CompiledTemplate, Details, Place};
use tasker_rules::key::{number_of, step_key, task_of};
use tasker_rules::step_state::StepState;
use tasker_rules::template::FailureStrategy;

use super::changes::{self, Change};
use super::instances::{self, Plan};
use super::rows::{self, Locking, StepRow};
use super::settle::{self, Settlement, Work};
use super::{Call, Taker, branches, compensation, tasks, waits};
use crate::compiled::Kept;
use crate::error::Error;

/// A step with more dependencies than this is locked late: many finish at the same time what it waits for, and would wait for each other.
const WIDE: usize = 16;

/// Whether a step of a template is locked late.
pub(crate) fn is_late_step(template: &CompiledTemplate, step: &CompiledStep) -> bool {
    step.dependencies.len() > WIDE
        || step.is_conditional
        || step.details == Details::Convergence
        || step.details.is_run_by_engine()
        || step.dependencies.iter().any(|&number| {
            template
                .step(number)
                .is_some_and(|step| step.details.is_run_by_engine())
        })
}

/// Whether the step of a number is locked late; instances are, when they are let go.
pub(super) fn is_late(kept: &Kept, number: i32) -> bool {
    kept.is_late(number)
}

/// What is due to a step.
pub(super) struct Due {
    kept: Rc<Kept>,
    /// By how much its counter falls, for what it waits for.
    pub(super) decrement: i32,
    /// How many of those that it waits for never exist, and keep it from existing unless it has run.
    absent: i32,
    /// By how much its counter falls, for its instances.
    pub(super) ended: i32,
    /// How many of its instances have ended, whose places others may take.
    pub(super) places: i32,
    /// An instance has failed, and it with it.
    pub(super) fails: bool,
}

impl Due {
    /// Whether what becomes of the step may make others due, which are to be locked after it and before those of greater keys.
    fn may_lead_on(&self, key: u128) -> bool {
        self.absent > 0
            || self
                .kept
                .template
                .place(number_of(key))
                .is_some_and(|place| match place.step.details {
                    // It begins to wait, whatever comes.
                    Details::Timer(_) | Details::Child(_) => false,
                    Details::Convergence => true,
                    _ => place.is_run_by_engine(),
                })
    }
}

/// Steps that are due to be locked late.
#[derive(Default)]
pub(super) struct Late {
    due: BTreeMap<u128, Due>,
    pub(super) plans: Vec<Plan>,
    /// Compensations that are done, each of which another follows.
    followed: Vec<StepRow>,
    /// Instances that failed for good and get dead letters of their own.
    pub(super) isolated: Vec<u128>,
}

impl Late {
    /// What is due to another step of a row's task.
    pub(super) fn of(&mut self, row: &StepRow, number: u32) -> &mut Due {
        self.due.entry(row.key_of(number)).or_insert_with(|| Due {
            kept: row.kept.clone(),
            decrement: 0,
            absent: 0,
            ended: 0,
            places: 0,
            fails: false,
        })
    }

    /// What waits for a step that never exists: a convergence counts it as settled, anything else never exists either.
    pub(super) fn cut_off_behind(&mut self, row: &StepRow, place: Place<'_>) {
        for &number in place.dependents() {
            self.settle_as_absent(row, number);
        }
    }

    /// A dependency of a step never exists.
    pub(super) fn settle_as_absent(&mut self, row: &StepRow, number: u32) {
        let joins = row
            .kept
            .template
            .step(number)
            .is_some_and(|step| step.details == Details::Convergence);
        let due = self.of(row, number);
        if joins {
            due.decrement += 1;
        } else {
            due.absent += 1;
        }
    }

    /// Those to be locked next, in one statement.
    fn next(&mut self) -> BTreeMap<u128, Due> {
        let mut batch = BTreeMap::new();
        while let Some((key, due)) = self.due.pop_first() {
            let is_last = due.may_lead_on(key);
            batch.insert(key, due);
            if is_last {
                break;
            }
        }
        batch
    }
}

/// Whether a step in a state is done, as far as those that wait for it are concerned.
fn is_done(place: Place<'_>, state: StepState) -> bool {
    state.satisfies_dependents() || state == StepState::Error && place.tolerates_failure()
}

/// By how much the counters of dependents fall that are not locked late; what is due to the others is noted.
pub(super) fn consequences(
    settlements: &[Settlement],
    late: &mut Late,
) -> Result<BTreeMap<u128, i32>, Error> {
    let mut decrements = BTreeMap::new();
    for settlement in settlements {
        let row = &settlement.row;
        let place = row.place()?;
        if place.instance.is_some() && settlement.to.is_terminal() {
            note_end_of_instance(settlement, place, late);
        }
        if !is_done(place, settlement.to) || is_done(place, row.state) {
            continue;
        }
        if place.undoes.is_some() {
            late.followed.push(row.clone());
            continue;
        }
        if place.step.details == Details::Decision {
            branches::choose(settlement, place.step, late);
            continue;
        }
        for &number in place.dependents() {
            if place.instance.is_some() {
                late.of(row, number).ended += 1;
            } else if row.kept.is_late(number as i32) {
                late.of(row, number).decrement += 1;
            } else if let Some(key) = step_key(task_of(row.key), number) {
                *decrements.entry(key).or_insert(0) += 1;
            }
        }
    }
    Ok(decrements)
}

fn note_end_of_instance(settlement: &Settlement, place: Place<'_>, late: &mut Late) {
    let row = &settlement.row;
    if settlement.to == StepState::Error && place.isolates_failure() {
        late.isolated.push(row.key);
    }
    let due = late.of(row, place.step.number);
    if !row.state.is_terminal() {
        due.places += 1;
    }
    let strategy = place
        .step
        .details
        .instances()
        .and_then(|instances| instances.failure_strategy);
    if settlement.to == StepState::Error && strategy == Some(FailureStrategy::FailFast) {
        due.fails = true;
    }
}

/// Locks what is due and writes what becomes of it, until nothing is; then makes the instances that have come up.
pub(super) fn settle(call: &Call, work: &mut Work, taker: Option<&Taker>) -> Result<(), Error> {
    for row in std::mem::take(&mut work.late.followed) {
        compensation::follow(call, &row, &mut work.late)?;
    }
    loop {
        let batch = work.late.next();
        if batch.is_empty() {
            break;
        }
        settle_batch(call, batch, work, taker)?;
    }
    let plans = std::mem::take(&mut work.late.plans);
    if !plans.is_empty() {
        // In one order with those whose counters change.
        tasks::lock_changed(call, &work.deltas, plans.iter().map(Plan::task))?;
    }
    for plan in plans {
        instances::make(call, &plan, &mut work.deltas)?;
    }
    Ok(())
}

fn settle_batch(
    call: &Call,
    batch: BTreeMap<u128, Due>,
    work: &mut Work,
    taker: Option<&Taker>,
) -> Result<(), Error> {
    let rows = rows::read(call.session, batch.keys().copied().collect(), Locking::Wait)?;
    let mut cut_off = Vec::new();
    let mut settlements = Vec::new();
    let mut waiting = Vec::new();
    let mut decrements = BTreeMap::new();
    for row in &rows {
        // What is cut off already stays so.
        let Some(due) = batch.get(&row.key).filter(|_| row.remaining >= 0) else {
            continue;
        };
        let place = row.place()?;
        let is_pending = row.state == StepState::Pending;
        let standing = if place.is_run_by_engine() {
            instances::standing(call, row)?
        } else {
            None
        };
        let decrement = match standing {
            Some(_) => due.ended,
            None if is_pending => due.decrement,
            // What has run exists, whatever has been decided since.
            None => due.decrement + due.absent,
        };
        let is_cut_off = due.absent > 0 && is_pending && standing.is_none();
        let is_joined =
            place.step.details == Details::Convergence && settle::becomes_ready(row, decrement);
        if is_cut_off || is_joined && !branches::joins_any(call, row, place.step)? {
            cut_off.push(Change {
                remaining: branches::CUT_OFF,
                ..Change::as_it_is(row)
            });
            work.late.cut_off_behind(row, place);
        } else if place.step.details.is_waited_for() && settle::becomes_ready(row, decrement) {
            waiting.push(StepRow {
                remaining: 0,
                ..row.clone()
            });
        } else if place.step.details.instances().is_some() && place.instance.is_none() && is_pending
        {
            let row = &StepRow {
                remaining: row.remaining - decrement,
                ..row.clone()
            };
            let settlement = instances::go_on(call, row, place, due, standing, &mut work.late)?;
            settlements.extend(settlement);
        } else if decrement != 0 || settle::becomes_ready(row, 0) {
            decrements.insert(row.key, decrement);
        }
    }
    changes::write(call, cut_off, None)?;
    if !waiting.is_empty() {
        settlements.extend(waits::begin(call, &waiting, &mut work.deltas)?);
    }
    let rest = taker.map(|taker| Taker {
        limit: taker.limit - work.handed_over.len(),
        ..*taker
    });
    let handed_over = settle::write(
        call,
        &[],
        &rows,
        &decrements,
        &mut work.deltas,
        rest.as_ref(),
    )?;
    work.handed_over.extend(handed_over);
    if settlements.is_empty() {
        return Ok(());
    }
    settle::settle_into(call, &settlements, &[], None, work)
}
