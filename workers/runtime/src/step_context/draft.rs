//! Steps that no database knows, for the tests of handlers.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value};
use tasker_client::Traceparent;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{Data, StepContext};

impl StepContext {
    /// A first attempt of a step that no database knows, to call a handler with in its own tests.
    ///
    /// ```
    /// use serde_json::json;
    /// use tasker_worker_runtime::StepContext;
    ///
    /// let step = StepContext::draft("ship_order", "shop.ship_order")
    ///     .with_context(json!({"order_id": "A-1"}))
    ///     .with_dependency("validate_order", json!({"total_cents": 995}));
    /// assert_eq!(step.context_field::<String>("order_id").unwrap(), "A-1");
    /// ```
    #[must_use]
    pub fn draft(step_name: &str, callable: &str) -> Self {
        let data = Data {
            task_uuid: Uuid::nil(),
            step_uuid: Uuid::nil(),
            attempt: 1,
            attempts_used: 1,
            max_attempts: 3,
            namespace: "default".into(),
            template_name: "draft".into(),
            template_version: "1.0.0".into(),
            step_name: step_name.into(),
            callable: callable.into(),
            initialization: Value::Null,
            batch_config: Value::Null,
            context: Value::Object(Map::new()),
            inputs: Value::Null,
            dependency_results: Map::new(),
            instances: HashMap::new(),
            checkpoint: None,
            correlation_id: None,
            priority: 0,
            timeout: None,
        };
        Self {
            data: Arc::new(data),
            cancellation: CancellationToken::new(),
            events: Arc::default(),
            saved: Arc::default(),
            trace: None,
            client: None,
        }
    }

    /// The draft with this task context.
    #[must_use]
    pub fn with_context(self, context: Value) -> Self {
        self.changed(|data| data.context = context)
    }

    /// The draft with one more dependency and its result.
    #[must_use]
    pub fn with_dependency(self, name: &str, result: Value) -> Self {
        self.changed(|data| {
            data.dependency_results.insert(name.into(), result);
        })
    }

    /// The draft as its attempt number `attempts_used`, the first being 1.
    #[must_use]
    pub fn with_attempts_used(self, attempts_used: i32) -> Self {
        self.changed(|data| {
            data.attempt = attempts_used;
            data.attempts_used = attempts_used;
        })
    }

    /// The draft with the template's `handler.initialization`.
    #[must_use]
    pub fn with_initialization(self, initialization: Value) -> Self {
        self.changed(|data| data.initialization = initialization)
    }

    /// The draft with the `batch_config` of a batchable step.
    #[must_use]
    pub fn with_batch_config(self, batch_config: Value) -> Self {
        self.changed(|data| data.batch_config = batch_config)
    }

    /// The draft with the inputs of an instance: a cursor or an item, its index, the total.
    #[must_use]
    pub fn with_inputs(self, inputs: Value) -> Self {
        self.changed(|data| data.inputs = inputs)
    }

    /// The draft as it goes on from what an earlier attempt stored.
    #[must_use]
    pub fn with_checkpoint(self, checkpoint: Value) -> Self {
        self.changed(|data| data.checkpoint = Some(checkpoint))
    }

    /// The draft with a limit to how long it may take.
    #[must_use]
    pub fn with_timeout(self, timeout: Duration) -> Self {
        self.changed(|data| data.timeout = Some(timeout))
    }

    /// The draft of a task that is part of a trace.
    #[must_use]
    pub fn with_traceparent(self, traceparent: Traceparent) -> Self {
        self.traced(Some(traceparent))
    }

    /// The draft with a token that cancels it.
    #[must_use]
    pub fn with_cancellation(mut self, cancellation: CancellationToken) -> Self {
        self.cancellation = cancellation;
        self
    }

    fn changed(mut self, change: impl FnOnce(&mut Data)) -> Self {
        // A draft isn't shared before it is finished; a shared one keeps what it is.
        if let Some(data) = Arc::get_mut(&mut self.data) {
            change(data);
        }
        self
    }
}
