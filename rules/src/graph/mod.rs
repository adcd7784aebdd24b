//! A template compiled to a graph of numbered steps.
//!
//! Steps are numbered from 1 in topological order: a step's dependencies have smaller numbers. The numbering is stable:
//! Kahn's algorithm (A. B. Kahn, "Topological sorting of large networks", 1962), and of the steps that could come next
//! the one that comes first in the document.

pub mod branches;
mod details;
pub(crate) mod edges;

use std::borrow::Cow;
use std::collections::BTreeSet;

pub(crate) use details::FAIL_ON_TIMEOUT;
pub use details::{Child, ChildContext, Details, Instances, Until, WaitedSignal, split_over};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use details::Named;

use crate::finding::Finding;
use crate::key::MAX_NUMBER;
use crate::template::{
    Compensation, DomainEvent, Handler, Identity, Lifecycle, PublishedEvent, Retry, StepTemplate,
    StepType, Template,
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
    /// The numbers of the steps that are made many of while a task runs, ascending.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub many: Vec<u32>,
    /// What undoes steps; each has the first of the numbers that rows of it can have.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub compensations: Vec<CompiledStep>,
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
    /// The handler as the worker is given it: `{callable, method, initialization}`, and `batch_config` of a batchable step; null where there is none.
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
    /// The business events it publishes, each with the schema that its payload is held against: its own, or that of the template's event.
    pub publishes_events: Vec<PublishedEvent>,
    /// What its type adds.
    #[serde(default, skip_serializing_if = "is_plain")]
    pub details: Details,
    /// Whether a decision says if it exists.
    #[serde(default, skip_serializing_if = "is_false")]
    pub is_conditional: bool,
}

fn is_plain(details: &Details) -> bool {
    *details == Details::Plain
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn is_false(flag: &bool) -> bool {
    !flag
}

/// What a number within a task stands for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Place<'a> {
    /// The step of the template.
    pub step: &'a CompiledStep,
    /// Which of its instances, from 1; `None` for the step itself.
    pub instance: Option<u32>,
    /// Of a compensation: which instance of the step it undoes, from 1; 1 for a step that is made only once.
    pub undoes: Option<u32>,
}

impl<'a> Place<'a> {
    /// Whether it is a step of the template itself: neither an instance nor a compensation.
    #[must_use]
    pub const fn is_of_template(self) -> bool {
        self.instance.is_none() && self.undoes.is_none()
    }

    /// What it waits for; an instance or a compensation waits for no step.
    #[must_use]
    pub fn dependencies(self) -> &'a [u32] {
        if self.is_of_template() {
            &self.step.dependencies
        } else {
            &[]
        }
    }

    /// What waits for it; for an instance the step that stands for all of them.
    #[must_use]
    pub fn dependents(self) -> &'a [u32] {
        match self.instance {
            Some(_) => std::slice::from_ref(&self.step.number),
            None => &self.step.dependents,
        }
    }

    /// The dependencies whose results its worker is shown. What an instance was cut from is not among them: it would be shown as often as there are instances.
    pub fn shown_dependencies(self) -> impl Iterator<Item = u32> {
        let left_out = self.instance.and(self.step.details.source());
        self.step
            .dependencies
            .iter()
            .copied()
            .filter(move |&number| Some(number) != left_out)
    }

    /// Whether the engine completes it itself, without a worker.
    #[must_use]
    pub const fn is_run_by_engine(self) -> bool {
        self.instance.is_none() && self.step.details.is_run_by_engine()
    }

    /// Its name: an instance's is its step's with its place among them, `resize_000001`.
    #[must_use]
    pub fn name(self) -> Cow<'a, str> {
        match (self.instance, self.undoes, &self.step.details) {
            (Some(instance), _, _) => Cow::Owned(format!("{}_{instance:06}", self.step.name)),
            (_, Some(undoes), Details::Compensation { of_many: true, .. }) => {
                Cow::Owned(format!("{}_{undoes:06}", self.step.name))
            }
            _ => Cow::Borrowed(&self.step.name),
        }
    }

    /// Whether it counts as done though it failed for good.
    #[must_use]
    pub fn tolerates_failure(self) -> bool {
        self.instance.is_some()
            && self
                .step
                .details
                .instances()
                .is_some_and(Instances::tolerate_failures)
    }

    /// Whether it gets a dead letter of its own when it fails for good.
    #[must_use]
    pub fn isolates_failure(self) -> bool {
        self.instance.is_some()
            && self
                .step
                .details
                .instances()
                .is_some_and(Instances::isolate_failures)
    }
}

impl CompiledTemplate {
    /// The step of a number, from 1.
    #[must_use]
    pub fn step(&self, number: u32) -> Option<&CompiledStep> {
        self.steps.get((number as usize).checked_sub(1)?)
    }

    /// What a number stands for. Numbers beyond the steps are instances; steps that are made many of take turns, so that a number tells its step without a look-up.
    #[must_use]
    pub fn place(&self, number: u32) -> Option<Place<'_>> {
        if let Some(step) = self.step(number) {
            return Some(Place {
                step,
                instance: None,
                undoes: None,
            });
        }
        let beyond = number.checked_sub(self.steps.len() as u32 + 1)?;
        let turns = u32::try_from(self.turns())
            .ok()
            .filter(|&turns| turns > 0)?;
        let (turn, round) = ((beyond % turns) as usize, beyond / turns + 1);
        match turn.checked_sub(self.many.len()) {
            None => Some(Place {
                step: self.step(self.many[turn])?,
                instance: Some(round),
                undoes: None,
            }),
            Some(position) => Some(Place {
                step: self.compensations.get(position)?,
                instance: None,
                undoes: Some(round),
            }),
        }
    }

    /// How many kinds of rows share the numbers beyond the steps, and take turns.
    fn turns(&self) -> usize {
        self.many.len() + self.compensations.len()
    }

    fn number_of_turn(&self, turn: usize, round: u32) -> Option<u32> {
        let beyond = u64::from(round.checked_sub(1)?) * self.turns() as u64 + turn as u64;
        u32::try_from(self.steps.len() as u64 + 1 + beyond)
            .ok()
            .filter(|&number| number <= MAX_NUMBER)
    }

    /// The number of what undoes a step, by what it is in the template; `None` if nothing does.
    #[must_use]
    pub fn compensation_of(&self, undone: Place<'_>) -> Option<u32> {
        let position = self.compensations.iter().position(|compensation| {
            matches!(compensation.details, Details::Compensation { of, .. } if of == undone.step.number)
        })?;
        // What stands for instances was not done itself: they were.
        let stands_for_instances =
            undone.instance.is_none() && undone.step.details.instances().is_some();
        if undone.undoes.is_some() || stands_for_instances {
            return None;
        }
        self.number_of_turn(self.many.len() + position, undone.instance.unwrap_or(1))
    }

    /// The number of an instance, from 1, of a step; `None` beyond what numbers can tell, and for a step that is made only once.
    #[must_use]
    pub fn instance_number(&self, step: u32, instance: u32) -> Option<u32> {
        let turn = self.many.iter().position(|&number| number == step)?;
        self.number_of_turn(turn, instance)
    }

    /// The most instances that a step can have.
    #[must_use]
    pub fn max_instances(&self) -> u32 {
        let beyond = u64::from(MAX_NUMBER).saturating_sub(self.steps.len() as u64);
        u32::try_from(beyond / (self.turns() as u64).max(1)).unwrap_or(u32::MAX)
    }

    /// Whether anything in it is decided, joined or made while a task runs.
    #[must_use]
    pub fn is_static(&self) -> bool {
        self.compensations.is_empty()
            && self.steps.iter().all(|step| step.details == Details::Plain)
    }

    /// The steps that are ready when a task is created.
    pub fn first_steps(&self) -> impl Iterator<Item = &CompiledStep> {
        self.steps
            .iter()
            .filter(|step| step.initial_dependencies == 0)
    }

    /// How many steps workers can claim as soon as a task is created.
    #[must_use]
    pub fn first_for_workers(&self) -> usize {
        self.first_steps()
            .filter(|step| !step.details.is_run_by_engine())
            .count()
    }

    /// The steps that wait for a signal, by its name.
    pub fn waiting_for(
        &self,
        signal: &str,
    ) -> impl Iterator<Item = (&CompiledStep, &WaitedSignal)> {
        self.steps
            .iter()
            .filter_map(move |step| match &step.details {
                Details::Signal(waited) if waited.name == signal => Some((step, waited)),
                _ => None,
            })
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
                &template.domain_events,
            )
        })
        .collect();
    for index in 0..steps.len() {
        let number = steps[index].number;
        for dependency in steps[index].dependencies.clone() {
            steps[dependency as usize - 1].dependents.push(number);
        }
    }
    let numbers_of = steps.iter().map(|step| step.number);
    let by_name = Named {
        namespace: &template.namespace_name,
        steps: &template.steps,
        numbers: order
            .iter()
            .map(|&position| template.steps[position].name.as_str())
            .zip(numbers_of)
            .collect(),
    };
    for (index, &position) in order.iter().enumerate() {
        steps[index].details = by_name.details(&template.steps[position]);
        steps[index].is_conditional = steps[index].dependencies.iter().any(|&dependency| {
            let dependency = &steps[dependency as usize - 1];
            dependency.is_conditional || dependency.details == Details::Decision
        });
    }
    let many: Vec<u32> = steps
        .iter()
        .filter(|step| step.details.instances().is_some())
        .map(|step| step.number)
        .collect();
    let first = steps.len() + many.len() + 1;
    let compensations = order
        .iter()
        .zip(&steps)
        .filter_map(|(&position, step)| {
            let compensation = template.steps[position].compensate.as_ref()?;
            Some((compensation, step))
        })
        .zip(first..)
        .map(|((compensation, step), number)| {
            compile_compensation(compensation, step, number as u32)
        })
        .collect();
    Ok(CompiledTemplate {
        many,
        compensations,
        namespace: template.namespace_name.clone(),
        name: template.name.clone(),
        version: template.version.clone(),
        steps,
        input_schema: template.input_schema.clone(),
        identity: template.identity.clone(),
        lifecycle: template.lifecycle.clone(),
    })
}

/// A handler as its worker is given it. What a batch is to be cut by is the template's to say and its batchable step's handler to follow.
fn shown_handler(step: &StepTemplate, handler: &Handler) -> Value {
    let mut shown = serde_json::json!({
        "callable": handler.callable,
        "method": handler.method,
        "initialization": handler.initialization,
    });
    if let Some(config) = &step.batch_config {
        shown["batch_config"] = serde_json::json!(config);
    }
    shown
}

fn compile_step(
    step: &StepTemplate,
    number: u32,
    dependencies: &[usize],
    numbers: &[u32],
    domain_events: &[DomainEvent],
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
        handler: handler.map_or(Value::Null, |handler| shown_handler(step, handler)),
        initial_dependencies: dependencies.len() as u32,
        dependencies,
        dependents: Vec::new(),
        retry: step.retry.clone(),
        timeout_seconds: step.timeout_seconds,
        result_schema: step.result_schema.clone(),
        publishes_events: step
            .publishes_events
            .iter()
            .map(|event| with_schema(event, domain_events))
            .collect(),
        details: Details::Plain,
        is_conditional: false,
    }
}

/// What undoes a step, as a step of its own.
fn compile_compensation(
    compensation: &Compensation,
    step: &CompiledStep,
    number: u32,
) -> CompiledStep {
    CompiledStep {
        number,
        name: format!("{}_compensation", step.name),
        step_type: StepType::Standard,
        callable: compensation.callable.clone(),
        handler: serde_json::json!({
            "callable": compensation.callable, "method": "call", "initialization": {},
        }),
        dependencies: Vec::new(),
        dependents: Vec::new(),
        initial_dependencies: 0,
        retry: compensation.retry.clone(),
        timeout_seconds: step.timeout_seconds,
        result_schema: None,
        publishes_events: Vec::new(),
        details: Details::Compensation {
            of: step.number,
            of_many: step.details.instances().is_some(),
        },
        is_conditional: false,
    }
}

fn with_schema(event: &PublishedEvent, domain_events: &[DomainEvent]) -> PublishedEvent {
    let declared = domain_events
        .iter()
        .find(|declared| declared.name == event.name);
    PublishedEvent {
        schema: event
            .schema
            .clone()
            .or_else(|| declared.and_then(|declared| declared.schema.clone())),
        ..event.clone()
    }
}
