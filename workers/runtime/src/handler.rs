//! What the runtime runs: the handler trait, and the handlers of a worker by their names.

use std::collections::BTreeMap;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;

use serde_json::Value;

use crate::{HandlerError, StepContext};

/// The future of one handler call.
pub type HandlerFuture<'a> = Pin<Box<dyn Future<Output = Result<Value, HandlerError>> + Send + 'a>>;

/// Does the work of a step.
///
/// Every plain `async fn(StepContext) -> Result<Value, HandlerError>` is a handler; implement the
/// trait for handlers that hold something, a connection pool for example. A handler may be called
/// for many steps at once. It may be called again for a step whose earlier attempt died on the way,
/// so its effects outside should bear repetition: `step_uuid` is a good idempotency key.
pub trait Handler: Send + Sync + 'static {
    /// Runs one attempt of a step. The result is stored as the step's result.
    fn call(&self, step: StepContext) -> HandlerFuture<'_>;
}

impl<F, R> Handler for F
where
    F: Fn(StepContext) -> R + Send + Sync + 'static,
    R: Future<Output = Result<Value, HandlerError>> + Send + 'static,
{
    fn call(&self, step: StepContext) -> HandlerFuture<'_> {
        Box::pin(self(step))
    }
}

/// The handlers of a worker by their names.
#[derive(Default, Clone)]
pub(crate) struct Handlers {
    by_name: BTreeMap<String, Arc<dyn Handler>>,
}

impl Handlers {
    /// Adds a handler; false, and nothing changed, when the name is taken.
    pub(crate) fn add(&mut self, name: String, handler: Arc<dyn Handler>) -> bool {
        let free = !self.by_name.contains_key(&name);
        if free {
            self.by_name.insert(name, handler);
        }
        free
    }

    pub(crate) fn get(&self, name: &str) -> Option<Arc<dyn Handler>> {
        self.by_name.get(name).cloned()
    }

    pub(crate) fn names(&self) -> Vec<String> {
        self.by_name.keys().cloned().collect()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.by_name.is_empty()
    }
}

impl fmt::Debug for Handlers {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_set().entries(self.by_name.keys()).finish()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    async fn one(_step: StepContext) -> Result<Value, HandlerError> {
        Ok(json!(1))
    }

    struct Adds(i64);

    impl Handler for Adds {
        fn call(&self, step: StepContext) -> HandlerFuture<'_> {
            Box::pin(async move {
                let given: i64 = step.context_field("given")?;
                Ok(json!(given + self.0))
            })
        }
    }

    #[test]
    fn a_name_is_given_once() {
        let mut handlers = Handlers::default();
        assert!(handlers.add("math.one".into(), Arc::new(one)));
        assert!(!handlers.add("math.one".into(), Arc::new(one)));
        assert_eq!(handlers.names(), ["math.one"]);
    }

    #[tokio::test]
    async fn functions_and_types_are_handlers() {
        let mut handlers = Handlers::default();
        handlers.add("one".into(), Arc::new(one));
        handlers.add("adds".into(), Arc::new(Adds(2)));
        let step = StepContext::draft("s", "adds").with_context(json!({"given": 40}));
        for (name, expected) in [("one", json!(1)), ("adds", json!(42))] {
            let handler = handlers.get(name).expect("the handler was added");
            assert_eq!(handler.call(step.clone()).await, Ok(expected));
        }
    }
}
