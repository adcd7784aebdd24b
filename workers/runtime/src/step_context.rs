//! What a handler is given: one attempt of a step, with its inputs.

mod calls;
mod dependencies;
mod draft;
mod instance;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use tasker_client::{ClaimedStep, Client, DependencyResult, Traceparent};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::HandlerError;

/// One attempt of a step: what the task was created with, what the dependencies returned, and which
/// attempt this is. Cheap to clone.
#[derive(Debug, Clone)]
pub struct StepContext {
    data: Arc<Data>,
    cancellation: CancellationToken,
    events: Arc<Mutex<Map<String, Value>>>,
    saved: Arc<Mutex<Option<Value>>>,
    trace: Option<Traceparent>,
    /// None for a draft.
    client: Option<Client>,
}

#[derive(Debug, Clone)]
struct Data {
    task_uuid: Uuid,
    step_uuid: Uuid,
    attempt: i32,
    attempts_used: i32,
    max_attempts: i32,
    namespace: String,
    template_name: String,
    template_version: String,
    step_name: String,
    callable: String,
    initialization: Value,
    batch_config: Value,
    context: Value,
    inputs: Value,
    dependency_results: Map<String, Value>,
    /// How the instances of those ended whose results are only referred to there.
    instances: HashMap<String, Vec<DependencyResult>>,
    checkpoint: Option<Value>,
    correlation_id: Option<Uuid>,
    priority: i32,
    timeout: Option<Duration>,
}

/// Why a typed read of a step's input failed. As a [`HandlerError`] it is permanent and of type
/// `input`: the input stays what it is.
#[derive(Debug, thiserror::Error)]
pub enum InputError {
    /// The task's context has no such field.
    #[error("the context has no field `{name}`")]
    NoContextField {
        /// The field asked for.
        name: String,
    },
    /// The step has no such direct dependency.
    #[error("the step has no result of a dependency `{name}`; it has: {present}")]
    NoDependency {
        /// The dependency asked for.
        name: String,
        /// The names of the dependencies that are there.
        present: String,
    },
    /// The step isn't an instance that has such an input.
    #[error("the step has no input `{name}`")]
    NoInput {
        /// The input asked for.
        name: String,
    },
    /// The results of a map or a batch are too long together to be held in memory.
    #[error(
        "the {count} results of `{name}` are too long to be given with the step; get_dependency_results reads them in pages"
    )]
    Elsewhere {
        /// The dependency asked for.
        name: String,
        /// How many results there are.
        count: u64,
    },
    /// The value is there but isn't what was asked for.
    #[error("{place} isn't what the handler reads: {source}")]
    Unfit {
        /// Where the value was read.
        place: String,
        /// What doesn't fit.
        source: serde_json::Error,
    },
}

impl From<InputError> for HandlerError {
    fn from(error: InputError) -> Self {
        Self::permanent(error.to_string()).with_type("input")
    }
}

impl StepContext {
    pub(crate) fn from_claimed(
        claimed: ClaimedStep,
        cancellation: CancellationToken,
        client: Client,
    ) -> Self {
        let trace = claimed.traceparent();
        let data = Data {
            task_uuid: claimed.task_uuid,
            step_uuid: claimed.step_uuid,
            attempt: claimed.attempt,
            attempts_used: claimed.attempts_used,
            max_attempts: claimed.max_attempts,
            namespace: claimed.namespace,
            template_name: claimed.template_name,
            template_version: claimed.template_version,
            step_name: claimed.step_name,
            callable: text_of(&claimed.handler, "callable"),
            initialization: field_of(&claimed.handler, "initialization"),
            batch_config: field_of(&claimed.handler, "batch_config"),
            context: claimed.context,
            inputs: claimed.inputs.unwrap_or(Value::Null),
            dependency_results: match claimed.dependency_results {
                Value::Object(results) => results,
                _ => Map::new(),
            },
            instances: HashMap::new(),
            checkpoint: claimed.checkpoint,
            correlation_id: claimed.correlation_id,
            priority: claimed.priority,
            timeout: claimed
                .timeout_seconds
                .and_then(|seconds| u64::try_from(seconds).ok())
                .map(Duration::from_secs),
        };
        Self {
            data: Arc::new(data),
            cancellation,
            events: Arc::default(),
            saved: Arc::default(),
            trace,
            client: Some(client),
        }
    }

    /// The task's key.
    #[must_use]
    pub fn task_uuid(&self) -> Uuid {
        self.data.task_uuid
    }

    /// The step's key: the same at every attempt, so it serves as an idempotency key for effects
    /// outside.
    #[must_use]
    pub fn step_uuid(&self) -> Uuid {
        self.data.step_uuid
    }

    /// The fencing token: rises at every claim, also at those that used no attempt up.
    #[must_use]
    pub fn attempt(&self) -> i32 {
        self.data.attempt
    }

    /// How many attempts are used up, this one included.
    #[must_use]
    pub fn attempts_used(&self) -> i32 {
        self.data.attempts_used
    }

    /// How many attempts the step has.
    #[must_use]
    pub fn max_attempts(&self) -> i32 {
        self.data.max_attempts
    }

    /// The namespace of the task.
    #[must_use]
    pub fn namespace(&self) -> &str {
        &self.data.namespace
    }

    /// The name of the task's template.
    #[must_use]
    pub fn template_name(&self) -> &str {
        &self.data.template_name
    }

    /// The version of the task's template.
    #[must_use]
    pub fn template_version(&self) -> &str {
        &self.data.template_version
    }

    /// The step's name.
    #[must_use]
    pub fn step_name(&self) -> &str {
        &self.data.step_name
    }

    /// The name of the handler, as the template says it.
    #[must_use]
    pub fn callable(&self) -> &str {
        &self.data.callable
    }

    /// The template's `handler.initialization`; null when there is none.
    #[must_use]
    pub fn initialization(&self) -> &Value {
        &self.data.initialization
    }

    /// What the task was created with.
    #[must_use]
    pub fn context(&self) -> &Value {
        &self.data.context
    }

    /// What the engine gives to this instance of the step (a batch's cursor, a map's item); null
    /// for a standard step.
    #[must_use]
    pub fn inputs(&self) -> &Value {
        &self.data.inputs
    }

    /// What an earlier attempt stored to go on from.
    #[must_use]
    pub fn checkpoint(&self) -> Option<&Value> {
        self.data.checkpoint.as_ref()
    }

    /// The correlation id of the task.
    #[must_use]
    pub fn correlation_id(&self) -> Option<Uuid> {
        self.data.correlation_id
    }

    /// The span that what the handler calls belongs to: its own where the worker records traces, else that of the task's
    /// creation, if that was part of a trace. Its text is the header `traceparent` of a request. What is called through a
    /// [`Client`] in the handler itself belongs to it anyway.
    #[must_use]
    pub fn traceparent(&self) -> Option<Traceparent> {
        self.trace
    }

    /// The same attempt, as a span of its own.
    pub(crate) fn traced(mut self, trace: Option<Traceparent>) -> Self {
        self.trace = trace.or(self.trace);
        self
    }

    /// The task's priority, -100 to 100.
    #[must_use]
    pub fn priority(&self) -> i32 {
        self.data.priority
    }

    /// How long this attempt may take.
    #[must_use]
    pub fn timeout(&self) -> Option<Duration> {
        self.data.timeout
    }

    /// One field of the task's context.
    pub fn context_field<T: DeserializeOwned>(&self, name: &str) -> Result<T, InputError> {
        let value = self.data.context.get(name);
        let value = value.ok_or_else(|| InputError::NoContextField { name: name.into() })?;
        read(value, || format!("the context's field `{name}`"))
    }

    /// One field of the task's context; `None` where it is missing or null.
    pub fn optional_context_field<T: DeserializeOwned>(
        &self,
        name: &str,
    ) -> Result<Option<T>, InputError> {
        match self.data.context.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => read(value, || format!("the context's field `{name}`")).map(Some),
        }
    }

    /// The whole context as one type.
    pub fn context_as<T: DeserializeOwned>(&self) -> Result<T, InputError> {
        read(&self.data.context, || "the context".into())
    }

    /// Whether nobody wants this attempt's result any more: its task was cancelled, another attempt
    /// owns the step, its time is up, or the worker is going away. A handler is dropped at its next
    /// `await` then; one that computes for long should ask now and then.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.cancellation.is_cancelled()
    }

    /// Waits until [`StepContext::is_cancelled`] would say so.
    pub async fn cancelled(&self) {
        self.cancellation.cancelled().await;
    }

    /// Gives a payload of its own to a domain event that the step publishes by its template, in
    /// place of the step's result or error. It is published with the attempt's outcome, if the
    /// event's condition is met then. A second payload for the same event replaces the first.
    pub fn publish(&self, event: impl Into<String>, payload: impl Into<Value>) {
        self.events().insert(event.into(), payload.into());
    }

    /// The payloads given so far by [`StepContext::publish`], by the names of the events.
    #[must_use]
    pub fn published(&self) -> Map<String, Value> {
        self.events().clone()
    }

    fn events(&self) -> MutexGuard<'_, Map<String, Value>> {
        // A handler that panicked while it held the lock left a whole map.
        self.events.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn cancellation(&self) -> &CancellationToken {
        &self.cancellation
    }
}

fn read<T: DeserializeOwned>(
    value: &Value,
    place: impl FnOnce() -> String,
) -> Result<T, InputError> {
    T::deserialize(value).map_err(|source| InputError::Unfit {
        place: place(),
        source,
    })
}

fn field_of(object: &Value, field: &str) -> Value {
    object.get(field).cloned().unwrap_or(Value::Null)
}

fn text_of(object: &Value, field: &str) -> String {
    object
        .get(field)
        .and_then(Value::as_str)
        .unwrap_or_default()
        .to_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn step() -> StepContext {
        StepContext::draft("join", "math.join").with_context(json!({"n": 3}))
    }

    #[test]
    fn typed_reads_give_what_is_there() {
        assert_eq!(step().context_field::<u8>("n").expect("n is 3"), 3);
    }

    #[test]
    fn errors_name_what_was_asked_for() {
        let error = step().context_field::<u8>("m").expect_err("there is no m");
        assert_eq!(error.to_string(), "the context has no field `m`");
        let error = step()
            .context_field::<String>("n")
            .expect_err("n is a number");
        assert!(
            error
                .to_string()
                .starts_with("the context's field `n` isn't what the handler reads: "),
            "{error}"
        );
    }

    #[test]
    fn an_input_error_is_permanent() {
        let error = HandlerError::from(step().context_field::<u8>("m").expect_err("there is no m"));
        assert!(!error.is_retryable());
        assert_eq!(error.error_type(), Some("input"));
    }
}
