//! What a template consists of, apart from its steps.
//!
//! The doc comments here are the descriptions of the published JSON Schema: they speak to the author of a template.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::published::{alias, enum_schema, json_schema_value};
use super::step::{StepOverride, StepTemplate};
use crate::named::named_enum;

/// A workflow: its steps, what they depend on, and how its tasks behave.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "Tasker template", transform = alias("namespace_name", "namespace"))]
pub struct Template {
    /// The template's name: 1 to 64 of a-z, 0-9 and _.
    #[schemars(regex(pattern = r"^[a-z0-9_]{1,64}$"))]
    pub name: String,
    /// The namespace whose workers run it: 1 to 29 of a-z, 0-9 and _, a letter first.
    #[serde(default = "default_namespace")]
    #[schemars(regex(pattern = r"^[a-z][a-z0-9_]{0,28}$"))]
    pub namespace_name: String,
    /// The version: 1 to 16 letters, digits and . + - _, a letter or digit first. A version's content never changes.
    #[schemars(regex(pattern = r"^[0-9A-Za-z][0-9A-Za-z.+_-]{0,15}$"))]
    pub version: String,
    /// What the workflow does, in words.
    #[serde(default)]
    pub description: Option<String>,
    /// A JSON Schema for the context of its tasks. Defaults of top-level properties are filled in before the check.
    #[serde(default)]
    #[schemars(schema_with = "json_schema_value")]
    pub input_schema: Option<Value>,
    /// When two requests mean the same task.
    #[serde(default)]
    pub identity: Identity,
    /// How long its tasks may take, and what happens at the end.
    #[serde(default)]
    pub lifecycle: Lifecycle,
    /// The business events that its steps publish.
    #[serde(default)]
    pub domain_events: Vec<DomainEvent>,
    /// Changes for an environment, applied when the template is registered for it.
    #[serde(default)]
    pub environments: BTreeMap<String, Environment>,
    /// The steps.
    pub steps: Vec<StepTemplate>,
}

fn default_namespace() -> String {
    "default".to_owned()
}

named_enum! {
    /// How a task's idempotency key comes about.
    IdentityStrategy, "identity strategy" {
        /// Each request is a task of its own, unless it carries a key.
        AlwaysUnique = "always_unique",
        /// Each request must carry a key.
        CallerProvided = "caller_provided",
        /// The key is made from the template and the context.
        Strict = "strict",
    }
}
enum_schema!(IdentityStrategy);

/// When two requests mean the same task.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Identity {
    /// How a task's idempotency key comes about.
    pub strategy: IdentityStrategy,
    /// After so many seconds a key may be used anew; without it a key lives as long as its task.
    #[schemars(range(min = 1, max = 2_147_483_647))]
    pub window_seconds: Option<u32>,
}

impl Default for Identity {
    fn default() -> Self {
        Self {
            strategy: IdentityStrategy::AlwaysUnique,
            window_seconds: None,
        }
    }
}

named_enum! {
    /// What happens to a task that one of its clocks ran out for.
    StalenessAction, "staleness action" {
        /// A dead letter, and the task ends in error.
        Dlq = "dlq",
        /// The task ends in error.
        Error = "error",
        /// Nothing.
        None = "none",
    }
}
enum_schema!(StalenessAction);

named_enum! {
    /// Where a task ends up when a step failed for good and nothing else can run.
    OnFailure, "failure action" {
        /// It ends in error at once.
        Error = "error",
        /// It waits for an operator.
        Block = "block",
    }
}
enum_schema!(OnFailure);

named_enum! {
    /// When outcomes are turned into the next steps.
    Evaluation, "evaluation mode" {
        /// In the transaction that stores them.
        Inline = "inline",
        /// By maintenance, in batches.
        Deferred = "deferred",
    }
}
enum_schema!(Evaluation);

/// How long a task may take, and what happens at the end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Lifecycle {
    /// The longest a task may take in all.
    #[schemars(range(min = 1, max = 2_147_483_647))]
    pub max_duration_seconds: Option<u32>,
    /// The longest it may wait for a signal, a timer or a child task.
    #[schemars(range(min = 1, max = 2_147_483_647))]
    pub max_waiting_for_dependencies_seconds: Option<u32>,
    /// The longest it may wait for a retry.
    #[schemars(range(min = 1, max = 2_147_483_647))]
    pub max_waiting_for_retry_seconds: Option<u32>,
    /// The longest its steps may be queued or running without an outcome.
    #[schemars(range(min = 1, max = 2_147_483_647))]
    pub max_steps_in_process_seconds: Option<u32>,
    /// What happens when one of these clocks runs out.
    pub staleness_action: StalenessAction,
    /// Where the task ends up when a step failed for good.
    pub on_failure: OnFailure,
    /// When outcomes are turned into the next steps.
    pub evaluation: Evaluation,
    /// How many days a finished task is kept; without it the namespace says.
    #[schemars(range(min = 1, max = 36_500))]
    pub retention_days: Option<u32>,
}

impl Default for Lifecycle {
    fn default() -> Self {
        Self {
            max_duration_seconds: None,
            max_waiting_for_dependencies_seconds: None,
            max_waiting_for_retry_seconds: None,
            max_steps_in_process_seconds: None,
            staleness_action: StalenessAction::Dlq,
            on_failure: OnFailure::Error,
            evaluation: Evaluation::Inline,
            retention_days: None,
        }
    }
}

/// A business event.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DomainEvent {
    /// The event's name, as in `order.shipped`.
    #[schemars(regex(pattern = r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$"))]
    pub name: String,
    /// A JSON Schema for its payload.
    #[serde(default)]
    #[schemars(schema_with = "json_schema_value")]
    pub schema: Option<Value>,
}

/// Changes for one environment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Environment {
    /// Changes of steps: those for `ALL` first, then those for a named step.
    #[serde(default)]
    pub steps: Vec<StepOverride>,
}
