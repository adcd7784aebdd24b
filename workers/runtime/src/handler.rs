//! What the runtime runs: the handler trait, and the handlers of a worker by their names.

use std::collections::BTreeMap;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;

use serde_json::Value;

use crate::{HandlerError, StepContext};

/// What a handler that didn't fail says.
#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    /// The step is done, with this result.
    Result(Value),
    /// The step goes on later from this checkpoint. No attempt is used up; the next one, of whichever
    /// worker claims it, finds the checkpoint under [`StepContext::checkpoint`], and so does one that
    /// takes over when that worker dies.
    Yield(Value),
}

impl From<Value> for Answer {
    fn from(result: Value) -> Self {
        Self::Result(result)
    }
}

/// The future of one handler call.
pub type HandlerFuture<'a> =
    Pin<Box<dyn Future<Output = Result<Answer, HandlerError>> + Send + 'a>>;

/// Does the work of a step.
///
/// Every plain `async fn(StepContext) -> Result<Value, HandlerError>` is a handler, and so is one that
/// returns an [`Answer`]; implement the trait for handlers that hold something, a connection pool for
/// example. A handler may be called
/// for many steps at once. It may be called again for a step whose earlier attempt died on the way,
/// so its effects outside should bear repetition: `step_uuid` is a good idempotency key.
pub trait Handler: Send + Sync + 'static {
    /// Runs one attempt of a step.
    fn call(&self, step: StepContext) -> HandlerFuture<'_>;
}

impl<F, R, A> Handler for F
where
    F: Fn(StepContext) -> R + Send + Sync + 'static,
    R: Future<Output = Result<A, HandlerError>> + Send + 'static,
    A: Into<Answer>,
{
    fn call(&self, step: StepContext) -> HandlerFuture<'_> {
        let call = self(step);
        Box::pin(async move { call.await.map(Into::into) })
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
                Ok(json!(given + self.0).into())
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
            assert_eq!(
                handler.call(step.clone()).await,
                Ok(Answer::Result(expected))
            );
        }
    }
}
