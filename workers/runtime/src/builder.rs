//! The settings of a worker, and what is wrong with them.

use std::sync::Arc;
use std::time::Duration;

use tasker_client::{BadPattern, Client, EventPattern};
use tokio::sync::Mutex;
use uuid::Uuid;

use crate::calls::Caller;
use crate::deliveries::EventCaller;
use crate::event_handler::{DEFAULT_SUBSCRIBER, Subscriptions, is_subscriber};
use crate::handler::Handlers;
use crate::schedule::WakeMode;
use crate::worker::Settings;
use crate::{EventHandler, Handler, Worker};

const DEFAULT_CONCURRENCY: usize = 8;
/// Above some 50 steps a call there is little to gain, and above 100 nothing.
const DEFAULT_PREFETCH: usize = 100;
const DEFAULT_LEASE: Duration = Duration::from_secs(30);
const DEFAULT_POLL_INTERVAL: Duration = Duration::from_secs(1);
const DEFAULT_SHUTDOWN_GRACE: Duration = Duration::from_secs(20);
/// A shorter lease would be lost in the pauses of an ordinary machine.
const SHORTEST_LEASE: Duration = Duration::from_secs(1);
const LONGEST_LEASE: Duration = Duration::from_hours(24);
const LONGEST_WORKER_ID: usize = 200;
const SHORTEST_POLL_INTERVAL: Duration = Duration::from_millis(10);

/// What keeps a worker from being built.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BuildError {
    /// Two handlers were registered under one name.
    #[error("the handler `{name}` is registered twice")]
    HandlerRegisteredTwice {
        /// The name.
        name: String,
    },
    /// No handler was registered and nothing subscribed to, so the worker could never claim anything.
    #[error("the worker has no handlers")]
    NoHandlers,
    /// No namespace was given, so the worker could never claim anything.
    #[error("the worker has no namespaces")]
    NoNamespaces,
    /// A pattern of events that is none.
    #[error(transparent)]
    BadPattern(#[from] BadPattern),
    /// Two handlers were given for one pattern of events.
    #[error("the pattern of events `{pattern}` is subscribed to twice")]
    SubscribedTwice {
        /// The pattern.
        pattern: String,
    },
    /// A setting is out of its range.
    #[error("{setting} must be {range}")]
    OutOfRange {
        /// The setting.
        setting: &'static str,
        /// What it must be.
        range: &'static str,
    },
}

/// Collects the settings of a worker; made by [`Worker::builder`].
#[derive(Debug)]
pub struct WorkerBuilder {
    client: Client,
    worker_id: Option<String>,
    namespaces: Vec<String>,
    concurrency: usize,
    prefetch: usize,
    lease: Duration,
    poll_interval: Duration,
    wake_mode: WakeMode,
    shutdown_grace: Duration,
    handlers: Handlers,
    registered_twice: Option<String>,
    subscriber: String,
    subscriptions: Subscriptions,
    bad_subscription: Option<BuildError>,
}

impl WorkerBuilder {
    pub(crate) fn new(client: Client) -> Self {
        Self {
            client,
            worker_id: None,
            namespaces: Vec::new(),
            concurrency: DEFAULT_CONCURRENCY,
            prefetch: DEFAULT_PREFETCH,
            lease: DEFAULT_LEASE,
            poll_interval: DEFAULT_POLL_INTERVAL,
            wake_mode: WakeMode::default(),
            shutdown_grace: DEFAULT_SHUTDOWN_GRACE,
            handlers: Handlers::default(),
            registered_twice: None,
            subscriber: DEFAULT_SUBSCRIBER.to_owned(),
            subscriptions: Subscriptions::default(),
            bad_subscription: None,
        }
    }

    /// The name under which the worker claims. By default host name, process id and chance, so that
    /// no two workers share one.
    #[must_use]
    pub fn worker_id(mut self, worker_id: impl Into<String>) -> Self {
        self.worker_id = Some(worker_id.into());
        self
    }

    /// The namespaces to claim from. There is no default.
    #[must_use]
    pub fn namespaces(mut self, namespaces: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.namespaces = namespaces.into_iter().map(Into::into).collect();
        self
    }

    /// How many steps run at once; 8 by default.
    #[must_use]
    pub fn concurrency(mut self, concurrency: usize) -> Self {
        self.concurrency = concurrency;
        self
    }

    /// How many steps the worker may claim beyond its free places, at most; 100 by default, 0 for
    /// none. It claims as many of them as its places run while a call is away, so only of a
    /// backlog and only when handlers are short; what has waited 100 ms for a place is given back.
    #[must_use]
    pub fn prefetch(mut self, prefetch: usize) -> Self {
        self.prefetch = prefetch;
        self
    }

    /// How long a dead worker's step waits before it is taken over; 30 s by default, 1 s to 1 day.
    /// A living worker extends its leases every third of it, however long a handler takes.
    #[must_use]
    pub fn lease(mut self, lease: Duration) -> Self {
        self.lease = lease;
        self
    }

    /// How long an idle worker rests between two questions; 1 s by default. Chance makes it up to a
    /// half longer.
    #[must_use]
    pub fn poll_interval(mut self, poll_interval: Duration) -> Self {
        self.poll_interval = poll_interval;
        self
    }

    /// How the worker learns of work.
    #[must_use]
    pub fn wake_mode(mut self, wake_mode: WakeMode) -> Self {
        self.wake_mode = wake_mode;
        self
    }

    /// How long a shutdown waits for running handlers before it gives their steps back; 20 s by
    /// default.
    #[must_use]
    pub fn shutdown_grace(mut self, shutdown_grace: Duration) -> Self {
        self.shutdown_grace = shutdown_grace;
        self
    }

    /// Registers a handler under the name that templates call it by. A name given twice is an error
    /// of [`WorkerBuilder::build`].
    #[must_use]
    pub fn register(mut self, name: impl Into<String>, handler: impl Handler) -> Self {
        let name = name.into();
        if !self.handlers.add(name.clone(), Arc::new(handler)) {
            self.registered_twice.get_or_insert(name);
        }
        self
    }

    /// Subscribes to the domain events of the worker's namespaces by a pattern: `order.*`, or `*`
    /// for all of them. Each durable event comes to one of the workers that have the same subscriber
    /// and the same pattern, and comes again until its handler succeeds; each fast one comes at once
    /// to every worker that listens at that moment.
    #[must_use]
    pub fn subscribe(mut self, pattern: &str, handler: impl EventHandler) -> Self {
        let bad = match pattern.parse::<EventPattern>() {
            Err(error) => Some(error.into()),
            Ok(parsed) => {
                let is_new = self.subscriptions.add(parsed, Arc::new(handler));
                (!is_new).then(|| BuildError::SubscribedTwice {
                    pattern: pattern.to_owned(),
                })
            }
        };
        if let Some(bad) = bad {
            self.bad_subscription.get_or_insert(bad);
        }
        self
    }

    /// The name of the worker's subscriptions, `default` by default. Workers with one name share
    /// the events of each pattern among them; with different names each gets all of them.
    #[must_use]
    pub fn subscriber(mut self, subscriber: impl Into<String>) -> Self {
        self.subscriber = subscriber.into();
        self
    }

    /// The worker, if its settings hold together.
    pub fn build(mut self) -> Result<Worker, BuildError> {
        if let Some(bad) = self.bad_subscription.take() {
            return Err(bad);
        }
        self.check()?;
        let caller = Caller {
            line: Arc::new(Mutex::new(self.client.work_line())),
            client: self.client,
            worker_id: self.worker_id.unwrap_or_else(own_name),
            namespaces: self.namespaces,
            handlers: self.handlers.names(),
            lease: self.lease,
        };
        let events = (!self.subscriptions.is_empty()).then(|| EventCaller {
            client: caller.client.clone(),
            worker_id: caller.worker_id.clone(),
            subscriber: self.subscriber,
            namespaces: caller.namespaces.clone(),
            lease: self.lease,
            wake_mode: self.wake_mode,
            poll_interval: self.poll_interval,
            subscriptions: self.subscriptions,
        });
        let settings = Settings {
            concurrency: self.concurrency,
            prefetch: self.prefetch,
            poll_interval: self.poll_interval,
            wake_mode: self.wake_mode,
            shutdown_grace: self.shutdown_grace,
        };
        Ok(Worker::new(caller, settings, self.handlers, events))
    }

    fn check(&self) -> Result<(), BuildError> {
        if let Some(name) = &self.registered_twice {
            return Err(BuildError::HandlerRegisteredTwice { name: name.clone() });
        }
        if self.handlers.is_empty() && self.subscriptions.is_empty() {
            return Err(BuildError::NoHandlers);
        }
        if self.namespaces.is_empty() {
            return Err(BuildError::NoNamespaces);
        }
        let ranges = [
            (
                (1..=10_000).contains(&self.concurrency),
                "concurrency",
                "1 to 10,000",
            ),
            (
                (0..=10_000).contains(&self.prefetch),
                "prefetch",
                "0 to 10,000",
            ),
            (
                (SHORTEST_LEASE..=LONGEST_LEASE).contains(&self.lease),
                "lease",
                "1 s to 1 day",
            ),
            (
                self.poll_interval >= SHORTEST_POLL_INTERVAL,
                "poll_interval",
                "10 ms at least",
            ),
            (
                self.worker_id.as_ref().is_none_or(|id| is_name(id)),
                "worker_id",
                "1 to 200 characters",
            ),
            (
                is_subscriber(&self.subscriber),
                "subscriber",
                "1 to 64 letters, digits, _, . and -",
            ),
        ];
        match ranges.into_iter().find(|(holds, ..)| !holds) {
            Some((_, setting, range)) => Err(BuildError::OutOfRange { setting, range }),
            None => Ok(()),
        }
    }
}

fn is_name(worker_id: &str) -> bool {
    (1..=LONGEST_WORKER_ID).contains(&worker_id.chars().count())
}

fn own_name() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let host = match host.trim() {
        "" => "worker",
        name => name,
    };
    let chance = Uuid::new_v4().simple().to_string();
    format!("{host}/{}/{}", std::process::id(), &chance[..8])
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use tasker_client::ConnectOptions;

    use super::*;
    use crate::{HandlerError, StepContext};

    async fn one(_step: StepContext) -> Result<Value, HandlerError> {
        Ok(json!(1))
    }

    /// A client connects at its first call, and none is made here.
    fn builder() -> WorkerBuilder {
        let client = Client::connect_lazy("postgres://localhost/none", &ConnectOptions::default());
        Worker::builder(client.expect("the address can be read")).namespaces(["example"])
    }

    #[tokio::test]
    async fn a_handler_registered_twice_is_an_error_that_names_it() {
        let error = builder()
            .register("a.one", one)
            .register("a.one", one)
            .build()
            .expect_err("twice");
        assert_eq!(error.to_string(), "the handler `a.one` is registered twice");
    }

    #[tokio::test]
    async fn a_worker_that_could_never_work_is_not_built() {
        assert_eq!(
            builder().build().expect_err("no handlers"),
            BuildError::NoHandlers
        );
        let no_namespaces = builder()
            .register("a.one", one)
            .namespaces(Vec::<String>::new());
        assert_eq!(
            no_namespaces.build().expect_err("no namespaces"),
            BuildError::NoNamespaces
        );
    }

    async fn take(_event: crate::DomainEvent) -> Result<(), HandlerError> {
        Ok(())
    }

    #[tokio::test]
    async fn a_worker_may_subscribe_alone_and_to_each_pattern_once() {
        assert!(builder().subscribe("order.*", take).build().is_ok());
        let twice = builder().subscribe("*", take).subscribe("*", take);
        assert_eq!(
            twice.build().expect_err("twice").to_string(),
            "the pattern of events `*` is subscribed to twice"
        );
        let bad = builder().subscribe("order shipped", take).build();
        assert!(matches!(bad, Err(BuildError::BadPattern(_))));
    }

    #[tokio::test]
    async fn settings_out_of_range_are_named() {
        let working = || builder().register("a.one", one);
        for (builder, said) in [
            (working().concurrency(0), "concurrency must be 1 to 10,000"),
            (working().prefetch(10_001), "prefetch must be 0 to 10,000"),
            (
                working().lease(Duration::from_millis(999)),
                "lease must be 1 s to 1 day",
            ),
            (
                working().poll_interval(Duration::ZERO),
                "poll_interval must be 10 ms at least",
            ),
            (
                working().worker_id(""),
                "worker_id must be 1 to 200 characters",
            ),
            (
                working().subscriber("a b"),
                "subscriber must be 1 to 64 letters, digits, _, . and -",
            ),
        ] {
            assert_eq!(builder.build().expect_err("out of range").to_string(), said);
        }
    }

    #[tokio::test]
    async fn two_workers_of_one_process_have_different_names() {
        let name = || {
            builder()
                .register("a.one", one)
                .build()
                .expect("it is built")
                .id()
                .to_owned()
        };
        assert_ne!(name(), name());
    }
}
