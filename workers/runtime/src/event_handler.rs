//! What the runtime gives domain events to: the handler trait, and the subscriptions of a worker by their patterns.

use std::collections::BTreeMap;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;

use tasker_client::{DomainEvent, EventPattern};

use crate::HandlerError;

/// The name of the subscriptions of a worker that names none.
pub(crate) const DEFAULT_SUBSCRIBER: &str = "default";

const LONGEST_SUBSCRIBER: usize = 64;

/// The future of one call.
pub type EventFuture<'a> = Pin<Box<dyn Future<Output = Result<(), HandlerError>> + Send + 'a>>;

/// Takes domain events.
///
/// Every plain `async fn(DomainEvent) -> Result<(), HandlerError>` is one; implement the trait for
/// those that hold something. A durable event comes at least once: again when its handler fails or
/// its worker dies, also when the worker dies just after the handler is done. So its effects outside
/// should bear repetition: `event_uuid` is a good idempotency key. A fast event comes once or not at
/// all, and its handler's failure is only logged.
pub trait EventHandler: Send + Sync + 'static {
    /// Takes one event, within nine tenths of the worker's lease.
    fn handle(&self, event: DomainEvent) -> EventFuture<'_>;
}

impl<F, R> EventHandler for F
where
    F: Fn(DomainEvent) -> R + Send + Sync + 'static,
    R: Future<Output = Result<(), HandlerError>> + Send + 'static,
{
    fn handle(&self, event: DomainEvent) -> EventFuture<'_> {
        Box::pin(self(event))
    }
}

/// The subscriptions of a worker.
#[derive(Default, Clone)]
pub(crate) struct Subscriptions {
    by_pattern: BTreeMap<EventPattern, Arc<dyn EventHandler>>,
}

impl Subscriptions {
    /// Adds a subscription; false, and nothing changed, when the pattern is taken.
    pub(crate) fn add(&mut self, pattern: EventPattern, handler: Arc<dyn EventHandler>) -> bool {
        let free = !self.by_pattern.contains_key(&pattern);
        if free {
            self.by_pattern.insert(pattern, handler);
        }
        free
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.by_pattern.is_empty()
    }

    pub(crate) fn patterns(&self) -> Vec<String> {
        let patterns = self.by_pattern.keys();
        patterns
            .map(|pattern| pattern.as_str().to_owned())
            .collect()
    }

    /// The handler of the subscription with this very pattern.
    pub(crate) fn of(&self, pattern: &str) -> Option<Arc<dyn EventHandler>> {
        self.by_pattern.get(&pattern.parse().ok()?).cloned()
    }

    /// The handlers of all subscriptions that are for events of a name.
    pub(crate) fn matching(&self, name: &str) -> Vec<Arc<dyn EventHandler>> {
        let subscriptions = self.by_pattern.iter();
        subscriptions
            .filter(|(pattern, _)| pattern.matches(name))
            .map(|(_, handler)| Arc::clone(handler))
            .collect()
    }
}

impl fmt::Debug for Subscriptions {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_set()
            .entries(self.by_pattern.keys())
            .finish()
    }
}

/// Whether a text can be the name of a subscriber.
pub(crate) fn is_subscriber(name: &str) -> bool {
    let is_known = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    (1..=LONGEST_SUBSCRIBER).contains(&name.len())
        && name.bytes().next().is_some_and(is_known)
        && name
            .bytes()
            .all(|byte| is_known(byte) || matches!(byte, b'.' | b'-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn take(_event: DomainEvent) -> Result<(), HandlerError> {
        Ok(())
    }

    #[test]
    fn a_pattern_is_subscribed_to_once() {
        let mut subscriptions = Subscriptions::default();
        let pattern = || "order.*".parse().expect("it is a pattern");
        assert!(subscriptions.add(pattern(), Arc::new(take)));
        assert!(!subscriptions.add(pattern(), Arc::new(take)));
        assert_eq!(subscriptions.patterns(), ["order.*"]);
    }

    #[test]
    fn a_durable_event_names_its_subscription_and_a_fast_one_finds_all_that_match() {
        let mut subscriptions = Subscriptions::default();
        for pattern in ["order.*", "*", "payment.*"] {
            let pattern = pattern.parse().expect("it is a pattern");
            subscriptions.add(pattern, Arc::new(take));
        }
        assert!(subscriptions.of("order.*").is_some());
        assert!(subscriptions.of("order.shipped").is_none());
        assert_eq!(subscriptions.matching("order.shipped").len(), 2);
    }
}
