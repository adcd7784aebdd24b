//! What a step's type adds to it in the graph: what it chooses, joins, or is made many of.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::template::{FailureStrategy, StepTemplate, StepType};

/// What a step does besides running its handler.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Details {
    /// Nothing.
    #[default]
    Plain,
    /// Its result names those of its dependents that exist.
    Decision,
    /// It joins those of its dependencies that exist.
    Convergence,
    /// Its result has a cursor for each instance of a batch worker.
    Batchable {
        /// The batch worker's number.
        worker: u32,
    },
    /// It stands for its instances, one for each cursor of a batch.
    BatchWorker {
        /// The batchable step's number.
        source: u32,
        /// How its instances run.
        instances: Instances,
    },
    /// It stands for its instances, one for each element of an array.
    Map {
        /// The number of the step whose result holds the array.
        source: u32,
        /// Where the array is in that result: the names of fields, from the outermost.
        path: Vec<String>,
        /// How its instances run.
        instances: Instances,
    },
    /// It waits for a signal.
    Signal(WaitedSignal),
    /// It waits until a time.
    Timer(Until),
    /// It waits for a task of its own.
    Child(Child),
    /// It undoes a step when its task ends otherwise than well.
    Compensation {
        /// The number of the step that it undoes.
        of: u32,
        /// That step is made many of: each instance is undone by itself.
        of_many: bool,
    },
}

/// The task that a step starts and waits for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Child {
    /// The name of its template.
    pub template: String,
    /// The namespace of its template.
    pub namespace: String,
    /// The version of its template; without it the newest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Where its context comes from.
    pub context: ChildContext,
}

/// Where the context of a child task comes from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "from", rename_all = "snake_case")]
pub enum ChildContext {
    /// From its parent: the same.
    Parent,
    /// From the template.
    Template {
        /// The context.
        value: Value,
    },
    /// From the result of another step.
    Result {
        /// That step's number.
        source: u32,
        /// Where it is in that result: the names of fields, from the outermost.
        path: Vec<String>,
    },
}

/// A signal that a step waits for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WaitedSignal {
    /// The signal's name.
    pub name: String,
    /// The longest it is waited for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_seconds: Option<u32>,
    /// The result when it has not come by then; without it the step fails.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default: Option<Value>,
    /// The JSON Schema of its payload.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schema: Option<Value>,
}

/// Until when a timer waits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "from", rename_all = "snake_case")]
pub enum Until {
    /// So long from when it begins.
    Delay {
        /// How long.
        seconds: u32,
    },
    /// A time in the result of another step.
    Result {
        /// That step's number.
        source: u32,
        /// Where the time is in that result: the names of fields, from the outermost.
        path: Vec<String>,
    },
}

/// How the instances of a step run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Instances {
    /// How many may be enqueued at once; without it all.
    pub max_parallel: Option<u32>,
    /// What the failure of one means for the others; without it they go on, and the step waits for an operator.
    pub failure_strategy: Option<FailureStrategy>,
}

impl Instances {
    /// Whether one that failed for good counts as done.
    #[must_use]
    pub fn tolerate_failures(self) -> bool {
        matches!(
            self.failure_strategy,
            Some(FailureStrategy::ContinueOnFailure | FailureStrategy::Isolate)
        )
    }

    /// Whether each one that failed for good is investigated by itself.
    #[must_use]
    pub fn isolate_failures(self) -> bool {
        self.failure_strategy == Some(FailureStrategy::Isolate)
    }
}

impl Details {
    /// How instances run; `None` for a step that is made only once.
    #[must_use]
    pub const fn instances(&self) -> Option<Instances> {
        match self {
            Self::BatchWorker { instances, .. } | Self::Map { instances, .. } => Some(*instances),
            _ => None,
        }
    }

    /// The step whose result says which instances there are.
    #[must_use]
    pub const fn source(&self) -> Option<u32> {
        match self {
            Self::BatchWorker { source, .. } | Self::Map { source, .. } => Some(*source),
            _ => None,
        }
    }

    /// Whether the engine completes the step itself, without a worker.
    #[must_use]
    pub const fn is_run_by_engine(&self) -> bool {
        matches!(self, Self::BatchWorker { .. } | Self::Map { .. }) || self.is_waited_for()
    }

    /// Whether the step, once it is ready, waits inside the engine: in progress, without a worker, a message or a lease.
    #[must_use]
    pub const fn is_waited_for(&self) -> bool {
        matches!(self, Self::Signal(_) | Self::Timer(_) | Self::Child(_))
    }
}

/// The steps of a template while they are compiled, and the numbers of their names.
pub(super) struct Named<'a> {
    pub(super) namespace: &'a str,
    pub(super) steps: &'a [StepTemplate],
    pub(super) numbers: BTreeMap<&'a str, u32>,
}

impl Named<'_> {
    /// What a checked step's type adds to it.
    pub(super) fn details(&self, step: &StepTemplate) -> Details {
        match step.step_type {
            StepType::Decision => Details::Decision,
            StepType::DeferredConvergence => Details::Convergence,
            StepType::Batchable => Details::Batchable {
                worker: worker_of(self.steps, step)
                    .map(|worker| self.number(&worker.name))
                    .unwrap_or_default(),
            },
            StepType::BatchWorker => self.batch_worker(step),
            StepType::Map => self.map(step),
            StepType::Signal => signal(step),
            StepType::Timer => self.timer(step),
            StepType::Task => self.child(step),
            StepType::Standard => Details::Plain,
        }
    }

    fn number(&self, name: &str) -> u32 {
        self.numbers.get(name).copied().unwrap_or_default()
    }

    fn batch_worker(&self, step: &StepTemplate) -> Details {
        let batchable = self.steps.iter().find(|batchable| {
            worker_of(self.steps, batchable).is_some_and(|worker| worker.name == step.name)
        });
        let config = batchable.and_then(|batchable| batchable.batch_config.as_ref());
        Details::BatchWorker {
            source: batchable
                .map(|batchable| self.number(&batchable.name))
                .unwrap_or_default(),
            instances: Instances {
                max_parallel: config.and_then(|config| config.parallelism),
                failure_strategy: step
                    .failure_strategy
                    .or(config.and_then(|config| config.failure_strategy)),
            },
        }
    }

    fn map(&self, step: &StepTemplate) -> Details {
        let over = step.over.as_deref().unwrap_or_default();
        let (source, path) = split_over(over);
        Details::Map {
            source: self.number(source),
            path: path.into_iter().map(str::to_owned).collect(),
            instances: Instances {
                max_parallel: step.max_parallel,
                failure_strategy: step.failure_strategy,
            },
        }
    }

    fn child(&self, step: &StepTemplate) -> Details {
        let Some(task) = &step.task else {
            return Details::Plain;
        };
        Details::Child(Child {
            template: task.template.clone(),
            namespace: task
                .namespace
                .clone()
                .unwrap_or_else(|| self.namespace.to_owned()),
            version: task.version.clone(),
            context: match &task.context {
                None => ChildContext::Parent,
                Some(Value::String(reference)) => {
                    let (source, path) = split_over(reference);
                    ChildContext::Result {
                        source: self.number(source),
                        path: path.into_iter().map(str::to_owned).collect(),
                    }
                }
                Some(value) => ChildContext::Template {
                    value: value.clone(),
                },
            },
        })
    }

    fn timer(&self, step: &StepTemplate) -> Details {
        Details::Timer(match (&step.until, step.delay_seconds) {
            (Some(until), None) => {
                let (source, path) = split_over(until);
                Until::Result {
                    source: self.number(source),
                    path: path.into_iter().map(str::to_owned).collect(),
                }
            }
            (_, seconds) => Until::Delay {
                seconds: seconds.unwrap_or_default(),
            },
        })
    }
}

/// What `on_timeout` says where it is no result to go on with.
pub(crate) const FAIL_ON_TIMEOUT: &str = "error";

fn signal(step: &StepTemplate) -> Details {
    step.signal.as_ref().map_or(Details::Plain, |signal| {
        Details::Signal(WaitedSignal {
            name: signal.name.clone(),
            timeout_seconds: signal.timeout_seconds,
            default: signal
                .on_timeout
                .clone()
                .filter(|value| value != FAIL_ON_TIMEOUT),
            schema: signal.schema.clone(),
        })
    })
}

/// The parts of `step.path.to.field`: the step's name, and the names of fields. Names of steps have no dot.
#[must_use]
pub fn split_over(over: &str) -> (&str, Vec<&str>) {
    let mut parts = over.split('.');
    let source = parts.next().unwrap_or_default();
    (source, parts.collect())
}

/// The batch worker of a batchable step: the one it names, else the only one that waits for it.
fn worker_of<'a>(steps: &'a [StepTemplate], step: &StepTemplate) -> Option<&'a StepTemplate> {
    if step.step_type != StepType::Batchable {
        return None;
    }
    let named = step
        .batch_config
        .as_ref()
        .and_then(|config| config.worker_template.as_deref());
    steps.iter().find(|worker| {
        worker.step_type == StepType::BatchWorker
            && worker.dependencies.contains(&step.name)
            && named.is_none_or(|name| worker.name == name)
    })
}
