//! What steps of a template wait for inside the engine, as rows for set-based statements. Not here: how they wait (`engine::waits`).

use pgrx::iter::TableIterator;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::{AnyElement, JsonB, name, pg_extern};
use tasker_rules::graph::{ChildContext, Details};

use crate::compiled;
use crate::error::Error;
use crate::payloads;
use crate::values::{self, Json};

/// The steps of a template that wait for a signal, and for which.
#[pg_extern(stable, parallel_unsafe)]
fn _signal_steps(
    template_id: i32,
) -> Result<
    TableIterator<
        'static,
        (
            name!(number, i32),
            name!(name, String),
            name!(signal, String),
        ),
    >,
    ErrorReport,
> {
    let kept = compiled::template(template_id)?;
    let rows: Vec<_> = kept
        .template
        .steps
        .iter()
        .filter_map(|step| match &step.details {
            Details::Signal(signal) => {
                Some((step.number as i32, step.name.clone(), signal.name.clone()))
            }
            _ => None,
        })
        .collect();
    Ok(TableIterator::new(rows))
}

/// What a step of a template waits for, by its number: a row of nulls where it doesn't wait inside the engine.
#[pg_extern(stable, parallel_unsafe)]
fn _wait_of(
    template_id: i32,
    number: i32,
) -> Result<
    TableIterator<
        'static,
        (
            name!(kind, Option<String>),
            name!(signal, Option<String>),
            name!(has_timer, bool),
        ),
    >,
    ErrorReport,
> {
    let kept = compiled::template(template_id)?;
    let step = kept.step(number)?;
    let kind = Some(step.step_type.as_str().to_owned());
    Ok(TableIterator::once(match &step.details {
        Details::Signal(signal) => (
            kind,
            Some(signal.name.clone()),
            signal.timeout_seconds.is_some(),
        ),
        Details::Timer(_) => (kind, None, true),
        Details::Child(_) => (kind, None, false),
        _ => (None, None, false),
    }))
}

/// The task that a step of a template starts, by its number: its template, and its context, or the step whose result that is in, and where; none of these for the context of the parent.
#[pg_extern(stable, parallel_unsafe)]
fn _child_of(
    template_id: i32,
    number: i32,
) -> Result<
    TableIterator<
        'static,
        (
            name!(template_name, String),
            name!(namespace, String),
            name!(version, Option<String>),
            name!(context, Option<JsonB>),
            name!(source, Option<i32>),
            name!(path, Option<Vec<String>>),
        ),
    >,
    ErrorReport,
> {
    let kept = compiled::template(template_id)?;
    let rows: Vec<_> = match &kept.step(number)?.details {
        Details::Child(child) => {
            let (context, source, path) = match &child.context {
                ChildContext::Parent => (None, None, None),
                ChildContext::Template { value } => (Some(JsonB(value.clone())), None, None),
                ChildContext::Result { source, path } => {
                    (None, Some(*source as i32), Some(path.clone()))
                }
            };
            vec![(
                child.template.clone(),
                child.namespace.clone(),
                child.version.clone(),
                context,
                source,
                path,
            )]
        }
        _ => Vec::new(),
    };
    Ok(TableIterator::new(rows))
}

/// How a signal for a task of a template is refused; null when it can be taken.
#[pg_extern(
    sql = r#"CREATE FUNCTION "_signal_problem"("template_id" integer, "name" text, "payload" jsonb) RETURNS text[]
LANGUAGE c STABLE PARALLEL UNSAFE AS 'MODULE_PATHNAME', '@FUNCTION_NAME@';"#
)]
fn _signal_problem(
    template_id: i32,
    name: &str,
    payload: AnyElement,
) -> Result<Option<Vec<Option<String>>>, ErrorReport> {
    Ok(values::refused(check(
        template_id,
        name,
        Json::of_datum(payload.datum()),
    ))?)
}

fn check(template_id: i32, name: &str, payload: Json) -> Result<(), Error> {
    let kept = compiled::template(template_id)?;
    let template = &kept.template;
    if template.waiting_for(name).next().is_none() {
        let message = format!(
            "no step of template {} waits for a signal {name:?}",
            template.name
        );
        let hint = "tasker.list_signals(task_uuid) shows the signals that its steps wait for.";
        return Err(Error::refused("TK004", message, None, Some(hint)));
    }
    if let Some(problem) = payloads::exceeded_limit(payload) {
        let message = format!("the payload of signal {name} {problem}");
        let hint = "Keep large data elsewhere and give a reference to it.";
        return Err(Error::refused("TK022", message, None, Some(hint)));
    }
    for (step, signal) in template.waiting_for(name) {
        let violation = match &signal.schema {
            Some(schema) => payloads::violation_of(schema, payload),
            None => None,
        };
        let violation = match violation {
            None => payloads::result_violation(&kept, step.number as i32, payload)?,
            some => some,
        };
        if let Some(violation) = violation {
            let message = format!(
                "the payload of signal {name} does not satisfy what step {} asks for",
                step.name
            );
            let hint = "tasker.get_template shows the schemas; nothing was sent.";
            return Err(Error::refused(
                "TK021",
                message,
                Some(violation),
                Some(hint),
            ));
        }
    }
    Ok(())
}
