//! What each type of step needs, and which fields it has.

use serde_json::Value;

use super::outline::{Outline, StepOutline};
use super::step::StepType;
use crate::finding::{Finding, FindingCode};
use crate::graph::{FAIL_ON_TIMEOUT, split_over};
use crate::nearest::did_you_mean;
use crate::path;
use crate::schema::Schema;

/// The fields that only some types have, with those types.
const FIELDS_OF_TYPES: &[(&str, &[StepType])] = &[
    ("batch_config", &[StepType::Batchable]),
    ("over", &[StepType::Map]),
    ("max_parallel", &[StepType::Map]),
    ("failure_strategy", &[StepType::Map, StepType::BatchWorker]),
    ("signal", &[StepType::Signal]),
    ("delay_seconds", &[StepType::Timer]),
    ("until", &[StepType::Timer]),
    // What else could be undone did nothing outside.
    (
        "compensate",
        &[
            StepType::Standard,
            StepType::Decision,
            StepType::DeferredConvergence,
            StepType::Batchable,
            StepType::BatchWorker,
            StepType::Map,
            StepType::Task,
        ],
    ),
    ("task", &[StepType::Task]),
];

/// The types that are built.
const BUILT: &[StepType] = &[
    StepType::Standard,
    StepType::Decision,
    StepType::DeferredConvergence,
    StepType::Batchable,
    StepType::BatchWorker,
    StepType::Map,
    StepType::Signal,
    StepType::Timer,
    StepType::Task,
];

/// What only steps have that a worker runs.
const FIELDS_FOR_WORKERS: &[&str] = &["handler", "retry", "timeout_seconds"];

/// A step of the document, by its position, with those it depends on and those that depend on it.
struct Node<'a> {
    position: usize,
    step: &'a StepOutline<'a>,
    dependencies: Vec<&'a StepOutline<'a>>,
    dependents: Vec<&'a StepOutline<'a>>,
}

impl Node<'_> {
    fn finding(&self, code: FindingCode, field: &str, message: impl Into<String>) -> Finding {
        let here = format!("steps[{}]", self.position);
        Finding::new(code, path::join(&here, field), message.into())
    }

    fn name(&self) -> &str {
        self.step.name.unwrap_or("the step")
    }
}

/// What is wrong with steps for their type. `edges` are the positions that each depends on.
pub(super) fn findings(outline: &Outline<'_>, edges: &[Vec<usize>], findings: &mut Vec<Finding>) {
    let mut dependents = vec![Vec::new(); outline.steps.len()];
    for (position, dependencies) in edges.iter().enumerate() {
        for &dependency in dependencies {
            dependents[dependency].push(position);
        }
    }
    let steps_at = |positions: &[usize]| {
        positions
            .iter()
            .map(|&position| &outline.steps[position])
            .collect()
    };
    for (position, step) in outline.steps.iter().enumerate() {
        // Told by the shape already where there is none.
        let Some(step_type) = step.step_type else {
            continue;
        };
        let node = Node {
            position,
            step,
            dependencies: steps_at(&edges[position]),
            dependents: steps_at(&dependents[position]),
        };
        if !BUILT.contains(&step_type) {
            let message = format!("steps of type {step_type} are not supported yet");
            findings.push(node.finding(FindingCode::UnsupportedType, "type", message));
            continue;
        }
        fields(&node, step_type, findings);
        if !step_type.needs_handler() {
            fields_for_workers(&node, step_type, findings);
        }
        findings.extend(match step_type {
            StepType::Decision => decision(&node),
            StepType::DeferredConvergence => convergence(&node),
            StepType::Batchable => batchable(&node),
            StepType::BatchWorker => batch_worker(&node),
            StepType::Map => map(&node),
            StepType::Signal => signal(&node),
            StepType::Timer => timer(&node),
            StepType::Task => child(&node),
            StepType::Standard => None,
        });
    }
}

fn fields(node: &Node<'_>, step_type: StepType, findings: &mut Vec<Finding>) {
    for (field, types) in FIELDS_OF_TYPES.iter().filter(|(field, types)| {
        node.step.value.get(field).is_some() && !types.contains(&step_type)
    }) {
        let types: Vec<&str> = types.iter().map(|name| name.as_str()).collect();
        let message = format!(
            "a step of type {step_type} has no field {field}; {} has",
            types.join(" and ")
        );
        findings.push(node.finding(FindingCode::UnknownField, field, message));
    }
}

fn fields_for_workers(node: &Node<'_>, step_type: StepType, findings: &mut Vec<Finding>) {
    for field in FIELDS_FOR_WORKERS
        .iter()
        .filter(|field| node.step.value.get(field).is_some())
    {
        let message = format!("a step of type {step_type} has no field {field}: no worker runs it");
        findings.push(node.finding(FindingCode::UnknownField, field, message));
    }
}

fn decision(node: &Node<'_>) -> Option<Finding> {
    node.dependents.is_empty().then(|| {
        let message = format!(
            "nothing depends on {}: it has no branch to choose",
            node.name()
        );
        node.finding(FindingCode::UnreachableBranch, "", message)
    })
}

fn convergence(node: &Node<'_>) -> Option<Finding> {
    let names = node
        .step
        .value
        .get("dependencies")
        .and_then(Value::as_array);
    names.is_none_or(Vec::is_empty).then(|| {
        let message = format!("{} has no dependencies to join", node.name());
        node.finding(FindingCode::MissingDependency, "dependencies", message)
    })
}

/// The name under `batch_config.worker_template`.
fn worker_named<'a>(step: &StepOutline<'a>) -> Option<&'a str> {
    step.value
        .pointer("/batch_config/worker_template")
        .and_then(Value::as_str)
}

fn batchable(node: &Node<'_>) -> Option<Finding> {
    let workers = || {
        node.dependents
            .iter()
            .filter(|step| step.step_type == Some(StepType::BatchWorker))
    };
    let missing = |field: &str, message: String| {
        Some(node.finding(FindingCode::BatchWorkerMissing, field, message))
    };
    match worker_named(node.step) {
        Some(named) if workers().any(|worker| worker.name == Some(named)) => None,
        Some(named) => {
            let hint = did_you_mean(named, workers().filter_map(|worker| worker.name));
            missing(
                "batch_config.worker_template",
                format!(
                    "no step {named:?} of type batch_worker depends on {}{hint}",
                    node.name()
                ),
            )
        }
        None => match workers().count() {
            1 => None,
            0 => missing(
                "",
                format!("no step of type batch_worker depends on {}", node.name()),
            ),
            _ => missing(
                "batch_config",
                format!(
                    "several steps of type batch_worker depend on {}: worker_template says which one it is",
                    node.name()
                ),
            ),
        },
    }
}

fn batch_worker(node: &Node<'_>) -> Option<Finding> {
    let batchables: Vec<&&StepOutline<'_>> = node
        .dependencies
        .iter()
        .filter(|step| {
            step.step_type == Some(StepType::Batchable)
                && worker_named(step).is_none_or(|named| Some(named) == node.step.name)
        })
        .collect();
    let missing = |message: String| {
        Some(node.finding(FindingCode::BatchWorkerMissing, "dependencies", message))
    };
    match batchables[..] {
        [] => missing(format!(
            "{} depends on no batchable step that names it",
            node.name()
        )),
        [batchable] => {
            let given = node.step.value.get("failure_strategy");
            let of_batch = batchable.value.pointer("/batch_config/failure_strategy");
            (given.is_some() && of_batch.is_some() && given != of_batch).then(|| {
                node.finding(
                    FindingCode::SchemaInvalid,
                    "failure_strategy",
                    "batch_config of its batchable step says otherwise",
                )
            })
        }
        _ => missing(format!(
            "{} depends on several batchable steps",
            node.name()
        )),
    }
}

fn map(node: &Node<'_>) -> Option<Finding> {
    let invalid =
        |message: String| Some(node.finding(FindingCode::MapSourceInvalid, "over", message));
    let Some(over) = node.step.value.get("over").and_then(Value::as_str) else {
        return invalid(format!(
            "{} says nothing of what it goes over: step.path to an array",
            node.name()
        ));
    };
    let (source, path) = split_over(over);
    if path.iter().any(|field| field.is_empty()) {
        return invalid(format!(
            "{over:?} has an empty part; it is step.path to an array"
        ));
    }
    let mut names = node.dependencies.iter().filter_map(|step| step.name);
    if names.clone().any(|name| name == source) {
        return None;
    }
    let hint = did_you_mean(source, &mut names);
    invalid(format!(
        "{} does not depend on a step {source:?}{hint}",
        node.name()
    ))
}

fn signal(node: &Node<'_>) -> Option<Finding> {
    let invalid = |field: &str, message: String| {
        Some(node.finding(FindingCode::SchemaInvalid, field, message))
    };
    let Some(signal) = node.step.value.get("signal") else {
        let message = format!("{} says nothing of the signal it waits for", node.name());
        return invalid("signal", message);
    };
    let on_timeout = signal
        .get("on_timeout")
        .filter(|value| !value.is_null() && *value != FAIL_ON_TIMEOUT)?;
    if signal.get("timeout_seconds").is_none() {
        let message = "there is no timeout_seconds: the signal is waited for without an end";
        return invalid("signal.on_timeout", message.to_owned());
    }
    // What is no schema is told elsewhere.
    let schema = node.step.value.get("result_schema")?;
    let violations = Schema::compile(schema).ok()?.violations(on_timeout);
    let violation = violations.first()?;
    let message = format!(
        "it is a result to go on with, and does not satisfy the step's result_schema: {}",
        violation.message
    );
    invalid("signal.on_timeout", message)
}

fn timer(node: &Node<'_>) -> Option<Finding> {
    let until = node
        .step
        .value
        .get("until")
        .filter(|until| !until.is_null());
    let delay = node
        .step
        .value
        .get("delay_seconds")
        .filter(|delay| !delay.is_null());
    match (until, delay) {
        (None, Some(_)) => None,
        (Some(until), None) => refers_to_a_dependency(node, "until", until.as_str()?),
        (Some(_), Some(_)) => Some(node.finding(
            FindingCode::SchemaInvalid,
            "until",
            "there is a delay_seconds as well: a timer has one of the two",
        )),
        (None, None) => Some(node.finding(
            FindingCode::SchemaInvalid,
            "delay_seconds",
            format!(
                "{} says nothing of how long it sleeps: it has delay_seconds or until",
                node.name()
            ),
        )),
    }
}

fn child(node: &Node<'_>) -> Option<Finding> {
    let Some(task) = node.step.value.get("task") else {
        let message = format!("{} says nothing of the task it starts", node.name());
        return Some(node.finding(FindingCode::SchemaInvalid, "task", message));
    };
    match task.get("context") {
        None | Some(Value::Null | Value::Object(_)) => None,
        Some(Value::String(reference)) => refers_to_a_dependency(node, "task.context", reference),
        Some(_) => Some(node.finding(
            FindingCode::SchemaInvalid,
            "task.context",
            "a context is an object, or step.path to one",
        )),
    }
}

/// What is wrong with `step.path.to.field` in a field.
fn refers_to_a_dependency(node: &Node<'_>, field: &str, reference: &str) -> Option<Finding> {
    let (source, path) = split_over(reference);
    if path.iter().any(|part| part.is_empty()) {
        let message = format!("{reference:?} has an empty part; it is step.path to a value");
        return Some(node.finding(FindingCode::SchemaInvalid, field, message));
    }
    let mut names = node.dependencies.iter().filter_map(|step| step.name);
    if names.clone().any(|name| name == source) {
        return None;
    }
    let hint = did_you_mean(source, &mut names);
    let message = format!("{} does not depend on a step {source:?}{hint}", node.name());
    Some(node.finding(FindingCode::MissingDependency, field, message))
}
