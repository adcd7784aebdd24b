//! Decisions: what a result chooses, and what becomes of the steps behind it. A step's row is there from the start; one that a decision keeps from existing is cut off.

use std::collections::BTreeSet;

use serde_json::Value;
use tasker_rules::graph::{CompiledStep, Details};
use tasker_rules::step_state::StepState;

use super::Call;
use super::late::Late;
use super::rows::{self, Locking, StepRow};
use super::settle::Settlement;
use crate::compiled::Kept;
use crate::error::Error;
use crate::values::{Json, Kind};

/// The counter of a step that never exists.
pub(super) const CUT_OFF: i32 = -1;

/// What is wrong with a result, by the step's type.
pub(super) struct Violation {
    /// Of the error: what kind it is.
    pub(super) error_type: &'static str,
    pub(super) code: &'static str,
    pub(super) message: &'static str,
    pub(super) detail: String,
}

/// What a decision's row chooses; nothing, if an operator settled it without a result.
pub(super) fn choice(
    kept: &Kept,
    decision: &CompiledStep,
    state: StepState,
    result: Option<Json>,
) -> BTreeSet<u32> {
    let result = result.filter(|_| state == StepState::Complete).map(read);
    result
        .and_then(|result| kept.template.choice(decision, &result).ok())
        .unwrap_or_default()
}

fn read(result: Json) -> Value {
    serde_json::from_str(&result.to_text()).unwrap_or_default()
}

/// Notes what a decision that has been made means for the steps that wait for it.
pub(super) fn choose(settlement: &Settlement, decision: &CompiledStep, late: &mut Late) {
    let row = &settlement.row;
    let chosen = choice(&row.kept, decision, settlement.to, settlement.result);
    for &number in &decision.dependents {
        if chosen.contains(&number) {
            late.of(row, number).decrement += 1;
        } else {
            late.settle_as_absent(row, number);
        }
    }
}

/// Whether any of the steps that a convergence depends on, all of them settled, exists.
pub(super) fn joins_any(call: &Call, row: &StepRow, step: &CompiledStep) -> Result<bool, Error> {
    let keys = step.dependencies.iter().map(|&number| row.key_of(number));
    let rows = rows::read(call.session, keys.collect(), Locking::Held)?;
    for dependency in &rows {
        let definition = dependency.step()?;
        let leads_here = definition.details != Details::Decision
            || choice(&row.kept, definition, dependency.state, dependency.result)
                .contains(&step.number);
        if dependency.remaining != CUT_OFF && leads_here {
            return Ok(true);
        }
    }
    Ok(false)
}

/// How a result is not what its step's type asks for.
pub(super) fn violation(row: &StepRow, result: Json) -> Result<Option<Violation>, Error> {
    let place = row.place()?;
    Ok(match place.step.details {
        Details::Decision => row
            .kept
            .template
            .choice(place.step, &read(result))
            .err()
            .map(|problem| Violation {
                error_type: "bad_decision",
                code: "TK021",
                message: "the result is no decision that can be followed",
                detail: problem.to_string(),
            }),
        Details::Batchable { .. } => bad_batch(row, result),
        _ => None,
    })
}

fn bad_batch(row: &StepRow, result: Json) -> Option<Violation> {
    let cursors = Some(result)
        .filter(|result| result.is_object())
        .and_then(|result| result.field_of("batch"))
        .filter(|batch| batch.is_object())
        .and_then(|batch| batch.field_of("cursors"))
        .filter(|cursors| cursors.kind() == Kind::Array);
    let Some(cursors) = cursors else {
        return Some(Violation {
            error_type: "bad_batch",
            code: "TK021",
            message: "the result asks for no batch",
            detail: "the result of a batchable step is {\"batch\": {\"cursors\": [one of any kind for each instance]}}, with an empty list for none".to_owned(),
        });
    };
    let most = super::instances::most(&row.kept);
    let count = cursors.count();
    (count > most).then(|| Violation {
        error_type: "bad_batch",
        code: "TK022",
        message: "the result asks for too many instances",
        detail: format!("there are {count} cursors, and {most} instances at most"),
    })
}
