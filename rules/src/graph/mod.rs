//! A template compiled to a graph of numbered steps.
//!
//! Steps are numbered from 1 in topological order: a step's dependencies have smaller numbers. The numbering is stable:
//! Kahn's algorithm (A. B. Kahn, "Topological sorting of large networks", 1962), and of the steps that could come next
//! the one that comes first in the document.

pub(crate) mod edges;

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::finding::Finding;
use crate::template::{
    Identity, Lifecycle, PublishedEvent, Retry, StepTemplate, StepType, Template,
};

/// A template's graph, with all that the engine needs of it to run a task.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CompiledTemplate {
    /// The namespace.
    pub namespace: String,
    /// The template's name.
    pub name: String,
    /// The template's version.
    pub version: String,
    /// The steps; step number n is at position n-1.
    pub steps: Vec<CompiledStep>,
    /// The JSON Schema of contexts.
    pub input_schema: Option<Value>,
    /// When two requests mean the same task.
    pub identity: Identity,
    /// How long a task may take, and what happens at the end.
    pub lifecycle: Lifecycle,
}

/// A step of the graph.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CompiledStep {
    /// From 1, in topological order.
    pub number: u32,
    /// The step's name.
    pub name: String,
    /// What kind of step it is.
    pub step_type: StepType,
    /// The handler's name; empty where no handler runs the step.
    pub callable: String,
    /// The handler as the worker is given it: `{callable, method, initialization}`; null where there is none.
    pub handler: Value,
    /// The numbers of the steps it waits for, ascending.
    pub dependencies: Vec<u32>,
    /// The numbers of the steps that wait for it, ascending.
    pub dependents: Vec<u32>,
    /// How many steps it waits for when a task is created.
    pub initial_dependencies: u32,
    /// How often it is tried.
    pub retry: Retry,
    /// The longest one attempt may take.
    pub timeout_seconds: Option<u32>,
    /// The JSON Schema of its result.
    pub result_schema: Option<Value>,
    /// The business events it publishes.
    pub publishes_events: Vec<PublishedEvent>,
}

impl CompiledTemplate {
    /// The step of a number, from 1.
    #[must_use]
    pub fn step(&self, number: u32) -> Option<&CompiledStep> {
        self.steps.get((number as usize).checked_sub(1)?)
    }

    /// The steps that are ready when a task is created.
    pub fn first_steps(&self) -> impl Iterator<Item = &CompiledStep> {
        self.steps
            .iter()
            .filter(|step| step.initial_dependencies == 0)
    }

    /// The steps that wait, directly or through others, for one of those that have ended: pairs of such a step and the
    /// first, by number, that it waits for. Those that have ended are not among them.
    #[must_use]
    pub fn behind(&self, ended: &BTreeSet<u32>) -> Vec<(u32, u32)> {
        let mut behind = Vec::new();
        let mut causes: Vec<Option<u32>> = vec![None; self.steps.len() + 1];
        // A step's dependencies have smaller numbers than itself.
        for step in &self.steps {
            let waits_for = step.dependencies.iter();
            let cause = waits_for
                .filter_map(|&number| causes[number as usize])
                .min();
            causes[step.number as usize] = if ended.contains(&step.number) {
                cause.or(Some(step.number))
            } else {
                behind.extend(cause.map(|cause| (step.number, cause)));
                cause
            };
        }
        behind
    }
}

/// Compiles a checked template. A template that was not checked may have a graph that is none; what is wrong with it is
/// the error.
pub fn compile(template: &Template) -> Result<CompiledTemplate, Vec<Finding>> {
    let names: Vec<Option<&str>> = template
        .steps
        .iter()
        .map(|step| Some(step.name.as_str()))
        .collect();
    let dependencies: Vec<Vec<Option<&str>>> = template
        .steps
        .iter()
        .map(|step| {
            step.dependencies
                .iter()
                .map(|name| Some(name.as_str()))
                .collect()
        })
        .collect();
    let dependencies: Vec<&[Option<&str>]> = dependencies.iter().map(Vec::as_slice).collect();
    let mut findings = Vec::new();
    let edges = edges::resolve(&names, &dependencies, &mut findings);
    if !findings.is_empty() {
        return Err(findings);
    }

    let order = edges::topological_order(&edges);
    let mut numbers = vec![0_u32; order.len()];
    for (number, &position) in (1..).zip(&order) {
        numbers[position] = number;
    }
    let mut steps: Vec<CompiledStep> = order
        .iter()
        .map(|&position| {
            compile_step(
                &template.steps[position],
                numbers[position],
                &edges[position],
                &numbers,
            )
        })
        .collect();
    for index in 0..steps.len() {
        let number = steps[index].number;
        for dependency in steps[index].dependencies.clone() {
            steps[dependency as usize - 1].dependents.push(number);
        }
    }
    Ok(CompiledTemplate {
        namespace: template.namespace_name.clone(),
        name: template.name.clone(),
        version: template.version.clone(),
        steps,
        input_schema: template.input_schema.clone(),
        identity: template.identity.clone(),
        lifecycle: template.lifecycle.clone(),
    })
}

fn compile_step(
    step: &StepTemplate,
    number: u32,
    dependencies: &[usize],
    numbers: &[u32],
) -> CompiledStep {
    let mut dependencies: Vec<u32> = dependencies
        .iter()
        .map(|&position| numbers[position])
        .collect();
    dependencies.sort_unstable();
    let handler = step.handler.as_ref();
    CompiledStep {
        number,
        name: step.name.clone(),
        step_type: step.step_type,
        callable: handler
            .map(|handler| handler.callable.clone())
            .unwrap_or_default(),
        handler: handler.map_or(Value::Null, |handler| {
            serde_json::json!({
                "callable": handler.callable,
                "method": handler.method,
                "initialization": handler.initialization,
            })
        }),
        initial_dependencies: dependencies.len() as u32,
        dependencies,
        dependents: Vec::new(),
        retry: step.retry.clone(),
        timeout_seconds: step.timeout_seconds,
        result_schema: step.result_schema.clone(),
        publishes_events: step.publishes_events.clone(),
    }
}
