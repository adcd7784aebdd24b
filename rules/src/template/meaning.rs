//! What a schema can not say about a template.

use std::collections::HashMap;

use serde_json::Value;

use super::environment::{self, ALL};
use super::events;
use super::kinds;
use super::outline::{Outline, StepOutline};
use super::step::StepType;
use crate::finding::{Finding, FindingCode};
use crate::graph::edges;
use crate::path;
use crate::schema::Schema;
use crate::sql_handler;

/// Everything that is wrong or worth a look beyond the document's shape. The document may be of any shape.
pub(super) fn findings(document: &Value) -> Vec<Finding> {
    let outline = Outline::of(document);
    let mut findings = Vec::new();
    nul_findings(document, &mut findings);

    let names: Vec<Option<&str>> = outline.steps.iter().map(|step| step.name).collect();
    let dependencies: Vec<&[Option<&str>]> = outline
        .steps
        .iter()
        .map(|step| step.dependencies.as_slice())
        .collect();
    let edges = edges::resolve(&names, &dependencies, &mut findings);

    for (index, step) in outline.steps.iter().enumerate() {
        step_findings(step, &format!("steps[{index}]"), &mut findings);
    }
    kinds::findings(&outline, &edges, &mut findings);
    environment::findings(document, &names, &mut findings);
    events::findings(document, &outline, &mut findings);
    schema_findings(document, &outline, &mut findings);
    orphan_findings(&outline, &edges, &mut findings);
    findings
}

/// Text that PostgreSQL can not hold.
fn nul_findings(document: &Value, findings: &mut Vec<Finding>) {
    const MESSAGE: &str = "text here contains the character NUL, which the database can not hold";
    let mut rest = vec![(String::new(), document)];
    while let Some((here, value)) = rest.pop() {
        match value {
            Value::String(text) if text.contains('\0') => {
                findings.push(Finding::new(FindingCode::SchemaInvalid, here, MESSAGE));
            }
            Value::Array(items) => {
                for (index, item) in items
                    .iter()
                    .enumerate()
                    .filter(|(_, item)| may_hold_text(item))
                {
                    let mut path = here.clone();
                    path::push_index(&mut path, index);
                    rest.push((path, item));
                }
            }
            Value::Object(map) => {
                for (key, item) in map {
                    if key.contains('\0') {
                        findings.push(Finding::new(
                            FindingCode::SchemaInvalid,
                            path::field(&here, key),
                            MESSAGE,
                        ));
                    }
                    if may_hold_text(item) {
                        rest.push((path::field(&here, key), item));
                    }
                }
            }
            _ => {}
        }
    }
}

/// Keeps paths from being built for what has nothing to say.
fn may_hold_text(value: &Value) -> bool {
    match value {
        Value::String(text) => text.contains('\0'),
        Value::Array(items) => !items.is_empty(),
        Value::Object(map) => !map.is_empty(),
        _ => false,
    }
}

fn step_findings(step: &StepOutline<'_>, here: &str, findings: &mut Vec<Finding>) {
    let mut push = |code, field: &str, message: String| {
        findings.push(Finding::new(code, path::join(here, field), message));
    };
    if step.name == Some(ALL) {
        push(
            FindingCode::NameInvalid,
            "name",
            format!("{ALL} stands for every step in an environment's changes"),
        );
    }
    let needs_handler = step.step_type.is_some_and(StepType::needs_handler);
    if needs_handler && step.value.is_object() && step.value.get("handler").is_none() {
        push(
            FindingCode::EmptyCallable,
            "handler",
            "the step names no handler".to_owned(),
        );
    }
    if let Some(callable) = step
        .callable
        .filter(|callable| sql_handler::is_sql(callable))
    {
        let finding = match step.step_type {
            Some(StepType::Standard) | None => sql_problem(callable),
            Some(other) => Some((
                FindingCode::UnsupportedType,
                format!("the handler of a step of type {other} can not be a SQL function"),
            )),
        };
        if let Some((code, message)) = finding {
            push(code, "handler.callable", message);
        }
    }
    let compensation = step.value.pointer("/compensate/callable");
    if compensation
        .and_then(Value::as_str)
        .is_some_and(sql_handler::is_sql)
    {
        push(
            FindingCode::UnsupportedType,
            "compensate.callable",
            "a compensation is run by a worker: it can't be a SQL function".to_owned(),
        );
    }
}

/// What is wrong with a callable that is meant to be a function of the database, as far as its form tells.
pub(super) fn sql_problem(callable: &str) -> Option<(FindingCode, String)> {
    if sql_handler::function_of(callable).is_some() {
        return None;
    }
    let message = format!(
        "{callable:?} names no SQL function: it is sql:schema.function, each name of letters, digits and _, as the catalogue has it"
    );
    Some((FindingCode::NameInvalid, message))
}

/// JSON Schemas that are none, and steps without one.
fn schema_findings(document: &Value, outline: &Outline<'_>, findings: &mut Vec<Finding>) {
    let mut schemas = Schemas::default();
    schemas.check(
        document.get("input_schema"),
        || "input_schema".to_owned(),
        findings,
    );
    let events = document.get("domain_events").and_then(Value::as_array);
    for (index, event) in events.into_iter().flatten().enumerate() {
        schemas.check(
            event.get("schema"),
            || format!("domain_events[{index}].schema"),
            findings,
        );
    }
    for (index, step) in outline.steps.iter().enumerate() {
        let result_schema = step
            .value
            .get("result_schema")
            .filter(|schema| !schema.is_null());
        match result_schema {
            Some(_) => schemas.check(
                result_schema,
                || format!("steps[{index}].result_schema"),
                findings,
            ),
            None => findings.push(Finding::new(
                FindingCode::NoResultSchema,
                format!("steps[{index}]"),
                format!(
                    "nothing checks the result of {}: it has no result_schema",
                    step.name.unwrap_or("the step")
                ),
            )),
        }
        schemas.check(
            step.value.pointer("/signal/schema"),
            || format!("steps[{index}].signal.schema"),
            findings,
        );
        let events = step.value.get("publishes_events").and_then(Value::as_array);
        for (event_index, event) in events.into_iter().flatten().enumerate() {
            let here = || format!("steps[{index}].publishes_events[{event_index}].schema");
            schemas.check(event.get("schema"), here, findings);
        }
    }
}

/// What was found about schemas so far: templates tend to have the same one many times.
#[derive(Default)]
struct Schemas {
    errors: HashMap<String, Vec<(String, String)>>,
}

impl Schemas {
    fn check(
        &mut self,
        schema: Option<&Value>,
        here: impl FnOnce() -> String,
        findings: &mut Vec<Finding>,
    ) {
        // Anything but an object or a boolean is told by the shape already.
        let Some(schema) = schema.filter(|schema| schema.is_object() || schema.is_boolean()) else {
            return;
        };
        let errors =
            self.errors.entry(schema.to_string()).or_insert_with(|| {
                match Schema::compile(schema) {
                    Ok(_) => Vec::new(),
                    Err(error) => error
                        .problems
                        .into_iter()
                        .map(|problem| (problem.path, problem.message))
                        .collect(),
                }
            });
        if errors.is_empty() {
            return;
        }
        let here = here();
        for (inner, message) in errors {
            findings.push(Finding::new(
                FindingCode::SchemaInvalid,
                path::join(&here, inner),
                message.as_str(),
            ));
        }
    }
}

fn orphan_findings(outline: &Outline<'_>, edges: &[Vec<usize>], findings: &mut Vec<Finding>) {
    if outline.steps.len() < 2 {
        return;
    }
    let mut has_dependents = vec![false; outline.steps.len()];
    for &dependency in edges.iter().flatten() {
        has_dependents[dependency] = true;
    }
    for (index, step) in outline.steps.iter().enumerate() {
        if step.dependencies.is_empty() && !has_dependents[index] {
            let message = format!(
                "{} neither waits for a step nor is waited for",
                step.name.unwrap_or("the step")
            );
            findings.push(Finding::new(
                FindingCode::OrphanStep,
                format!("steps[{index}]"),
                message,
            ));
        }
    }
}
