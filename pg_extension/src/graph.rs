//! A compiled template's graph as rows, for set-based statements. Arrays that belong together are read side by side; `ordinal` counts them from 1.

use std::collections::BTreeSet;
use std::rc::Rc;

use pgrx::iter::TableIterator;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::{JsonB, name, pg_extern};
use tasker_rules::step_state;

use crate::compiled::{self, Kept};
use crate::error::Error;

/// Pairs of template and step number, with their position from 1.
fn asked(template_ids: &[i32], numbers: &[i32]) -> Result<Vec<(i32, Rc<Kept>, i32)>, Error> {
    if template_ids.len() != numbers.len() {
        return Err(Error::UnequalArrays(template_ids.len(), numbers.len()));
    }
    (1..)
        .zip(template_ids.iter().zip(numbers))
        .map(|(ordinal, (&template_id, &number))| {
            Ok((ordinal, compiled::template(template_id)?, number))
        })
        .collect()
}

/// A template's steps with their edges both ways.
#[pg_extern(stable, parallel_unsafe)]
fn _template_nodes(
    template_id: i32,
) -> Result<
    TableIterator<
        'static,
        (
            name!(number, i32),
            name!(name, String),
            name!(type, String),
            name!(dependencies, Vec<String>),
            name!(dependents, Vec<String>),
        ),
    >,
    ErrorReport,
> {
    let kept = compiled::template(template_id)?;
    let rows: Vec<_> = kept
        .template
        .steps
        .iter()
        .map(|step| {
            (
                step.number as i32,
                step.name.clone(),
                step.step_type.as_str().to_owned(),
                kept.names(&step.dependencies),
                kept.names(&step.dependents),
            )
        })
        .collect();
    Ok(TableIterator::new(rows))
}

/// What is known of steps from their template.
#[pg_extern(stable, parallel_unsafe)]
fn _step_definitions(
    template_ids: Vec<i32>,
    numbers: Vec<i32>,
) -> Result<
    TableIterator<
        'static,
        (
            name!(ordinal, i32),
            name!(number, i32),
            name!(name, String),
            name!(type, String),
            name!(callable, String),
            name!(max_attempts, i32),
            name!(is_retryable, bool),
            name!(timeout_seconds, Option<i32>),
            name!(has_result_schema, bool),
            name!(dependencies, Vec<String>),
            name!(queue_name, String),
            name!(namespace, String),
            name!(template_name, String),
            name!(template_version, String),
        ),
    >,
    ErrorReport,
> {
    let mut rows = Vec::with_capacity(numbers.len());
    for (ordinal, kept, number) in asked(&template_ids, &numbers)? {
        let place = kept.place(number)?;
        let step = place.step;
        rows.push((
            ordinal,
            number,
            place.name().into_owned(),
            step.step_type.as_str().to_owned(),
            step.callable.clone(),
            i32::try_from(step.retry.max_attempts).unwrap_or(i32::MAX),
            step.retry.retryable,
            step.timeout_seconds
                .map(|seconds| i32::try_from(seconds).unwrap_or(i32::MAX)),
            step.result_schema.is_some(),
            kept.names(&step.dependencies),
            kept.queue_name.clone(),
            kept.template.namespace.clone(),
            kept.template.name.clone(),
            kept.template.version.clone(),
        ));
    }
    Ok(TableIterator::new(rows))
}

/// A step's handler as its worker is given it.
#[pg_extern(stable, parallel_unsafe)]
fn _handler_of(template_id: i32, number: i32) -> Result<JsonB, ErrorReport> {
    Ok(JsonB(
        compiled::template(template_id)?
            .step(number)?
            .handler
            .clone(),
    ))
}

/// The steps that the steps given wait for: a row for each edge, and one without a dependency for a step that waits for none.
#[pg_extern(stable, parallel_unsafe)]
fn _dependencies(
    template_ids: Vec<i32>,
    numbers: Vec<i32>,
) -> Result<
    TableIterator<
        'static,
        (
            name!(ordinal, i32),
            name!(dependency_number, Option<i32>),
            name!(name, Option<String>),
        ),
    >,
    ErrorReport,
> {
    let mut rows = Vec::new();
    for (ordinal, kept, number) in asked(&template_ids, &numbers)? {
        let dependencies = kept.place(number)?.dependencies();
        if dependencies.is_empty() {
            rows.push((ordinal, None, None));
        }
        for &dependency in dependencies {
            rows.push((
                ordinal,
                Some(dependency as i32),
                Some(kept.step(dependency as i32)?.name.clone()),
            ));
        }
    }
    Ok(TableIterator::new(rows))
}

/// The steps of a template that wait, directly or through others, for one of those that have ended, and the first of these that each waits for.
#[pg_extern(stable, parallel_unsafe)]
fn _steps_behind(
    template_id: i32,
    ended: Vec<i32>,
) -> Result<
    TableIterator<
        'static,
        (
            name!(number, i32),
            name!(ended_number, i32),
            name!(ended_name, String),
        ),
    >,
    ErrorReport,
> {
    let kept = compiled::template(template_id)?;
    let ended: BTreeSet<u32> = ended
        .into_iter()
        .filter_map(|number| u32::try_from(number).ok())
        .collect();
    let rows = kept
        .template
        .behind(&ended)
        .into_iter()
        .map(|(number, ended)| {
            let name = kept.step(ended as i32)?.name.clone();
            Ok((number as i32, ended as i32, name))
        })
        .collect::<Result<Vec<_>, Error>>()?;
    Ok(TableIterator::new(rows))
}

/// Whether a step's state satisfies those that wait for it.
#[pg_extern(immutable, parallel_safe)]
fn _satisfies_dependents(state: &str) -> bool {
    state
        .parse::<step_state::StepState>()
        .is_ok_and(step_state::StepState::satisfies_dependents)
}
