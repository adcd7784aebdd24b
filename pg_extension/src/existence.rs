//! What is decided, joined and made while a task runs, as rows for set-based statements: which steps exist, what they wait for, and what an instance is an instance of.

use std::collections::{BTreeMap, BTreeSet};

use pgrx::iter::TableIterator;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::{JsonB, name, pg_extern};
use serde_json::Value;
use tasker_rules::graph::branches::{self, Edge, Existence};
use tasker_rules::graph::{CompiledTemplate, Details};
use tasker_rules::step_state::StepState;

use crate::compiled;

/// Whether anything in a template is decided, joined or made while its tasks run.
#[pg_extern(stable, parallel_unsafe)]
fn _is_dynamic(template_id: i32) -> Result<bool, ErrorReport> {
    Ok(!compiled::template(template_id)?.is_static)
}

/// The number of the step of the template that a number within a task stands for: an instance's is that of its step.
#[pg_extern(stable, parallel_unsafe)]
fn _definition_number(template_id: i32, number: i32) -> Result<i32, ErrorReport> {
    Ok(compiled::template(template_id)?.step(number)?.number as i32)
}

/// Which instance of its step a number within a task stands for, from 1; null for a step of the template itself.
#[pg_extern(stable, parallel_unsafe)]
fn _instance_of(template_id: i32, number: i32) -> Result<Option<i32>, ErrorReport> {
    let kept = compiled::template(template_id)?;
    Ok(kept
        .place(number)?
        .instance
        .and_then(|instance| i32::try_from(instance).ok()))
}

/// The numbers of a template's steps that stand for instances.
#[pg_extern(stable, parallel_unsafe)]
fn _many_steps(template_id: i32) -> Result<Vec<i32>, ErrorReport> {
    let kept = compiled::template(template_id)?;
    let many = kept.template.many.iter();
    Ok(many.map(|&number| number as i32).collect())
}

/// Whether a number within a task stands for a step that is locked after all others.
#[pg_extern(stable, parallel_unsafe)]
fn _is_late(template_id: i32, number: i32) -> Result<bool, ErrorReport> {
    Ok(compiled::template(template_id)?.is_late(number))
}

/// The numbers of a template's steps that are locked after all others.
#[pg_extern(stable, parallel_unsafe)]
fn _late_steps(template_id: i32) -> Result<Vec<i32>, ErrorReport> {
    let kept = compiled::template(template_id)?;
    let numbers = kept.template.steps.iter().map(|step| step.number as i32);
    Ok(numbers.filter(|&number| kept.is_late(number)).collect())
}

/// The number within a task of an instance, from 1, of a step; null beyond what numbers can tell.
#[pg_extern(stable, parallel_unsafe)]
fn _instance_number(
    template_id: i32,
    number: i32,
    instance: i32,
) -> Result<Option<i32>, ErrorReport> {
    let kept = compiled::template(template_id)?;
    let step = kept.step(number)?.number;
    let instance = u32::try_from(instance).ok();
    Ok(instance
        .and_then(|instance| kept.template.instance_number(step, instance))
        .map(|number| number as i32))
}

/// Whether a number within a task stands for what undoes a step.
#[pg_extern(stable, parallel_unsafe)]
fn _is_compensation(template_id: i32, number: i32) -> Result<bool, ErrorReport> {
    let kept = compiled::template(template_id)?;
    Ok(kept.place(number)?.undoes.is_some())
}

/// Whether any step of a template can be undone.
#[pg_extern(stable, parallel_unsafe)]
fn _has_compensations(template_id: i32) -> Result<bool, ErrorReport> {
    let kept = compiled::template(template_id)?;
    Ok(!kept.template.compensations.is_empty())
}

/// Whether a step counts as done though it failed for good.
#[pg_extern(stable, parallel_unsafe)]
fn _tolerates_failure(template_id: i32, number: i32) -> Result<bool, ErrorReport> {
    Ok(compiled::template(template_id)?
        .place(number)?
        .tolerates_failure())
}

/// The numbers of a template's decisions.
#[pg_extern(stable, parallel_unsafe)]
fn _decisions(template_id: i32) -> Result<Vec<i32>, ErrorReport> {
    let kept = compiled::template(template_id)?;
    Ok(kept
        .template
        .steps
        .iter()
        .filter(|step| step.details == Details::Decision)
        .map(|step| step.number as i32)
        .collect())
}

/// What a decision chose; `None` while it is open.
fn choice(
    template: &CompiledTemplate,
    number: i32,
    state: &str,
    result: Option<&Value>,
) -> Option<BTreeSet<u32>> {
    let state: StepState = state.parse().ok()?;
    if !state.satisfies_dependents() {
        return None;
    }
    let step = template.step(u32::try_from(number).ok()?)?;
    let chosen = result
        .filter(|_| state == StepState::Complete)
        .and_then(|result| template.choice(step, result).ok());
    Some(chosen.unwrap_or_default())
}

/// The steps of a template that don't exist, or of which a decision is still to say it, from how its decisions stand.
#[pg_extern(stable, parallel_unsafe)]
fn _uncertain_steps(
    template_id: i32,
    decisions: Vec<i32>,
    states: Vec<String>,
    results: Vec<Option<JsonB>>,
) -> Result<TableIterator<'static, (name!(number, i32), name!(is_undecided, bool))>, ErrorReport> {
    let kept = compiled::template(template_id)?;
    let made: BTreeMap<u32, BTreeSet<u32>> = decisions
        .iter()
        .zip(&states)
        .zip(&results)
        .filter_map(|((&number, state), result)| {
            let result = result.as_ref().map(|result| &result.0);
            let chosen = choice(&kept.template, number, state, result)?;
            Some((u32::try_from(number).ok()?, chosen))
        })
        .collect();
    let rows: Vec<_> = (1..)
        .zip(kept.template.existence(&made))
        .filter(|&(_, existence)| existence != Existence::Certain)
        .map(|(number, existence)| (number, existence == Existence::Undecided))
        .collect();
    Ok(TableIterator::new(rows))
}

/// What the counter of a step of a template has to be, from the rows of those that it depends on: their numbers, states, counters and results. -1: it never exists. One that has
/// run exists, whatever has been decided since.
#[pg_extern(stable, parallel_unsafe)]
fn _expected_remaining(
    template_id: i32,
    number: i32,
    has_run: bool,
    dependencies: Vec<i32>,
    states: Vec<String>,
    counters: Vec<i32>,
    results: Vec<Option<JsonB>>,
) -> Result<i32, ErrorReport> {
    let kept = compiled::template(template_id)?;
    let step = kept.step(number)?;
    let stands = |position: usize| {
        let dependency = dependencies[position];
        let is_satisfied = states[position]
            .parse()
            .is_ok_and(StepState::satisfies_dependents);
        let is_decision = kept
            .step(dependency)
            .is_ok_and(|step| step.details == Details::Decision);
        if counters[position] < 0 {
            Edge::Absent
        } else if !is_satisfied {
            Edge::Open
        } else if !is_decision {
            Edge::Settled
        } else {
            let result = results[position].as_ref().map(|result| &result.0);
            match choice(&kept.template, dependency, &states[position], result) {
                Some(chosen) if chosen.contains(&step.number) => Edge::Settled,
                _ => Edge::Absent,
            }
        }
    };
    let found = dependencies
        .len()
        .min(states.len())
        .min(counters.len())
        .min(results.len());
    let missing = step.dependencies.len().saturating_sub(found);
    let edges = || {
        (0..found)
            .map(stands)
            .chain(std::iter::repeat_n(Edge::Open, missing))
    };
    let remaining = branches::remaining(step, edges());
    let remaining = remaining.or_else(|| has_run.then(|| branches::open(edges())));
    Ok(remaining.map_or(-1, |remaining| remaining as i32))
}

/// The numbers of the steps that a step depends on, directly or also through others, ascending.
#[pg_extern(stable, parallel_unsafe)]
fn _steps_before(template_id: i32, number: i32, transitive: bool) -> Result<Vec<i32>, ErrorReport> {
    let kept = compiled::template(template_id)?;
    let step = kept.step(number)?;
    let mut before: BTreeSet<u32> = step.dependencies.iter().copied().collect();
    let mut rest: Vec<u32> = step.dependencies.clone();
    while transitive && let Some(number) = rest.pop() {
        let further = kept.template.step(number).map(|step| &step.dependencies);
        for &number in further.into_iter().flatten() {
            if before.insert(number) {
                rest.push(number);
            }
        }
    }
    Ok(before.into_iter().map(|number| number as i32).collect())
}
