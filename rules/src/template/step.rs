//! What a step of a template consists of.
//!
//! The doc comments here are the descriptions of the published JSON Schema: they speak to the author of a template.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::published::{alias, enum_schema, json_schema_value};
use crate::named::named_enum;

named_enum! {
    /// What kind of step it is, and who runs it.
    StepType, "step type" {
        /// One handler call, one result.
        Standard = "standard",
        /// Its result names the branches to create.
        Decision = "decision",
        /// Joins those of its dependencies that exist.
        DeferredConvergence = "deferred_convergence",
        /// Its result asks for instances of a batch worker.
        Batchable = "batchable",
        /// One instance for each cursor of a batch.
        BatchWorker = "batch_worker",
        /// One instance for each element of an array.
        Map = "map",
        /// Completes when its signal arrives.
        Signal = "signal",
        /// A durable sleep.
        Timer = "timer",
        /// A child task of another template.
        Task = "task",
    }
}
enum_schema!(StepType);

impl StepType {
    /// Whether a worker runs it, so that it needs a handler.
    #[must_use]
    pub const fn needs_handler(self) -> bool {
        !matches!(self, Self::Signal | Self::Timer | Self::Task)
    }
}

/// A step of a template.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(transform = alias("dependencies", "depends_on"))]
pub struct StepTemplate {
    /// The step's name, unique in the template: 1 to 64 letters, digits, _ and -, not starting with -.
    #[schemars(regex(pattern = r"^[A-Za-z0-9_][A-Za-z0-9_-]{0,63}$"))]
    pub name: String,
    /// What kind of step it is.
    #[serde(default = "default_type", rename = "type")]
    pub step_type: StepType,
    /// What runs it.
    #[serde(default)]
    #[schemars(with = "Handler")]
    pub handler: Option<Handler>,
    /// The names of the steps it waits for.
    #[serde(default)]
    #[schemars(extend("uniqueItems" = true))]
    pub dependencies: Vec<String>,
    /// How often it is tried, and how long it rests in between.
    #[serde(default)]
    pub retry: Retry,
    /// The longest one attempt may take.
    #[serde(default)]
    #[schemars(range(min = 1, max = 2_147_483_647))]
    pub timeout_seconds: Option<u32>,
    /// A JSON Schema for its result; a result that does not satisfy it is a permanent failure.
    #[serde(default)]
    #[schemars(schema_with = "json_schema_value")]
    pub result_schema: Option<Value>,
    /// The business events it publishes.
    #[serde(default)]
    pub publishes_events: Vec<PublishedEvent>,
    /// How a batchable step cuts its work.
    #[serde(default)]
    #[schemars(with = "BatchConfig")]
    pub batch_config: Option<BatchConfig>,
    /// What a map goes over: `step.path` to an array in a dependency's result.
    #[serde(default)]
    pub over: Option<String>,
    /// How many instances of a map may be enqueued at once.
    #[serde(default)]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub max_parallel: Option<u32>,
    /// What the failure of one instance means for the others.
    #[serde(default)]
    #[schemars(with = "FailureStrategy")]
    pub failure_strategy: Option<FailureStrategy>,
    /// The signal that a signal step waits for.
    #[serde(default)]
    #[schemars(with = "Signal")]
    pub signal: Option<Signal>,
    /// How long a timer sleeps.
    #[serde(default)]
    #[schemars(range(min = 0, max = 2_147_483_647))]
    pub delay_seconds: Option<u32>,
    /// Until when a timer sleeps: `step.path` to a time in a dependency's result, as text with an offset (`2031-05-06T07:08:09Z`) or in seconds since 1970.
    #[serde(default)]
    pub until: Option<String>,
    /// The task that the step starts.
    #[serde(default)]
    #[schemars(with = "ChildTask")]
    pub task: Option<ChildTask>,
    /// What undoes the step when its task fails.
    #[serde(default)]
    #[schemars(with = "Compensation")]
    pub compensate: Option<Compensation>,
}

fn default_type() -> StepType {
    StepType::Standard
}

/// What runs a step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Handler {
    /// The name under which a worker registered it, or `sql:schema.function` for a function of the database.
    #[schemars(regex(pattern = r"\S"))]
    pub callable: String,
    /// Which of the handler's methods is called.
    #[serde(default = "default_method")]
    #[schemars(regex(pattern = r"\S"))]
    pub method: String,
    /// Settings that the handler is given.
    #[serde(default)]
    pub initialization: Map<String, Value>,
}

fn default_method() -> String {
    "call".to_owned()
}

named_enum! {
    /// How the delay between attempts grows.
    Backoff, "backoff" {
        /// No delay.
        None = "none",
        /// By the base each time.
        Linear = "linear",
        /// Doubling.
        Exponential = "exponential",
        /// As the Fibonacci numbers do.
        Fibonacci = "fibonacci",
    }
}
enum_schema!(Backoff);

/// How often a step is tried, and how long it rests in between.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Retry {
    /// Whether a failure is tried again at all.
    pub retryable: bool,
    /// The most attempts, the first included.
    #[schemars(range(min = 1, max = 2_147_483_647))]
    pub max_attempts: u32,
    /// How the delay grows.
    pub backoff: Backoff,
    /// The delay it grows from, in milliseconds.
    #[schemars(range(min = 0, max = 2_147_483_647))]
    pub backoff_base_ms: u64,
    /// The longest delay, in milliseconds.
    #[schemars(range(min = 0, max = 2_147_483_647))]
    pub max_backoff_ms: u64,
    /// By which share a delay is made longer or shorter at random; 0 turns it off.
    #[schemars(range(min = 0, max = 1))]
    pub jitter: f64,
}

impl Default for Retry {
    fn default() -> Self {
        Self {
            retryable: true,
            max_attempts: 3,
            backoff: Backoff::Exponential,
            backoff_base_ms: 1000,
            max_backoff_ms: 30_000,
            jitter: 0.15,
        }
    }
}

named_enum! {
    /// After which outcome an event is published.
    EventCondition, "event condition" {
        /// After a success.
        Success = "success",
        /// After a failure.
        Failure = "failure",
        /// After a failure that is tried again.
        RetryableFailure = "retryable_failure",
        /// After a failure for good.
        PermanentFailure = "permanent_failure",
        /// After every outcome.
        Always = "always",
    }
}
enum_schema!(EventCondition);

named_enum! {
    /// How an event is delivered.
    DeliveryMode, "delivery mode" {
        /// Through a queue: each subscription gets it, whatever crashes.
        Durable = "durable",
        /// By a notification: who listens at that moment gets it.
        Fast = "fast",
    }
}
enum_schema!(DeliveryMode);

/// A business event that a step publishes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PublishedEvent {
    /// The event's name.
    #[schemars(regex(pattern = r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$"))]
    pub name: String,
    /// After which outcome it is published.
    #[serde(default = "default_condition")]
    pub condition: EventCondition,
    /// How it is delivered.
    #[serde(default = "default_delivery_mode")]
    pub delivery_mode: DeliveryMode,
    /// A JSON Schema for its payload.
    #[serde(default)]
    #[schemars(schema_with = "json_schema_value")]
    pub schema: Option<Value>,
}

fn default_condition() -> EventCondition {
    EventCondition::Success
}

fn default_delivery_mode() -> DeliveryMode {
    DeliveryMode::Durable
}

named_enum! {
    /// What the failure of one instance means for the others.
    FailureStrategy, "failure strategy" {
        /// The others go on; the join sees the failure.
        ContinueOnFailure = "continue_on_failure",
        /// The others are cancelled and the whole fails.
        FailFast = "fail_fast",
        /// The others go on, and each failure gets a dead letter.
        Isolate = "isolate",
    }
}
enum_schema!(FailureStrategy);

/// How a batchable step cuts its work.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BatchConfig {
    /// How many items an instance works on. The handler is told and cuts accordingly.
    #[serde(default)]
    #[schemars(range(min = 1, max = 2_147_483_647))]
    pub batch_size: Option<u32>,
    /// How many instances are enqueued at once.
    #[serde(default)]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub parallelism: Option<u32>,
    /// The field that cursors count. The handler is told.
    #[serde(default)]
    pub cursor_field: Option<String>,
    /// The step whose instances do the work.
    #[serde(default)]
    pub worker_template: Option<String>,
    /// What the failure of one instance means for the others.
    #[serde(default)]
    #[schemars(with = "FailureStrategy")]
    pub failure_strategy: Option<FailureStrategy>,
}

/// The signal that a signal step waits for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Signal {
    /// The signal's name.
    #[schemars(regex(pattern = r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$"))]
    pub name: String,
    /// The longest it is waited for.
    #[serde(default)]
    #[schemars(range(min = 1, max = 2_147_483_647))]
    pub timeout_seconds: Option<u32>,
    /// What happens then: `error`, or the result to go on with.
    #[serde(default)]
    pub on_timeout: Option<Value>,
    /// A JSON Schema for its payload; a payload that does not satisfy it is refused.
    #[serde(default)]
    #[schemars(schema_with = "json_schema_value")]
    pub schema: Option<Value>,
}

/// The task that a step of type `task` starts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ChildTask {
    /// The name of its template.
    #[schemars(regex(pattern = r"^[a-z0-9_]{1,64}$"))]
    pub template: String,
    /// Its template's namespace; without it that of the template here.
    #[serde(default)]
    #[schemars(regex(pattern = r"^[a-z][a-z0-9_]{0,28}$"))]
    pub namespace: Option<String>,
    /// Its template's version; without it the newest when the task is started.
    #[serde(default)]
    #[schemars(regex(pattern = r"^[0-9A-Za-z][0-9A-Za-z.+_-]{0,15}$"))]
    pub version: Option<String>,
    /// Its context: an object, or `step.path` to one in a dependency's result; without it the context of the task here.
    #[serde(default)]
    pub context: Option<Value>,
}

/// What undoes a step when its task fails.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Compensation {
    /// The handler that undoes it.
    #[schemars(regex(pattern = r"\S"))]
    pub callable: String,
    /// How often that is tried.
    #[serde(default)]
    pub retry: Retry,
}

/// Changes of a step for one environment; what is not given stays as it is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StepOverride {
    /// The step's name, or `ALL`.
    pub name: String,
    /// Changes of its handler.
    #[serde(default)]
    #[schemars(with = "HandlerOverride")]
    pub handler: Option<HandlerOverride>,
    /// Changes of its retries.
    #[serde(default)]
    #[schemars(with = "RetryOverride")]
    pub retry: Option<RetryOverride>,
    /// The longest one attempt may take.
    #[serde(default)]
    #[schemars(range(min = 1, max = 2_147_483_647))]
    pub timeout_seconds: Option<u32>,
}

/// Changes of a handler; what is not given stays as it is.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct HandlerOverride {
    /// Another handler.
    #[schemars(regex(pattern = r"\S"))]
    pub callable: Option<String>,
    /// Another method.
    #[schemars(regex(pattern = r"\S"))]
    pub method: Option<String>,
    /// Settings to add or replace, by name.
    #[schemars(with = "Map<String, Value>")]
    pub initialization: Option<Map<String, Value>>,
}

/// Changes of retries; what is not given stays as it is.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RetryOverride {
    /// Whether a failure is tried again at all.
    pub retryable: Option<bool>,
    /// The most attempts, the first included.
    #[schemars(range(min = 1, max = 2_147_483_647))]
    pub max_attempts: Option<u32>,
    /// How the delay grows.
    #[schemars(with = "Backoff")]
    pub backoff: Option<Backoff>,
    /// The delay it grows from, in milliseconds.
    #[schemars(range(min = 0, max = 2_147_483_647))]
    pub backoff_base_ms: Option<u64>,
    /// The longest delay, in milliseconds.
    #[schemars(range(min = 0, max = 2_147_483_647))]
    pub max_backoff_ms: Option<u64>,
    /// By which share a delay is made longer or shorter at random.
    #[schemars(range(min = 0, max = 1))]
    pub jitter: Option<f64>,
}
