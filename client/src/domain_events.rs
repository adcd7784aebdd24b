//! Domain events: subscribe, claim and finish deliveries, listen for fast ones; list what was published.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sqlx::FromRow;
use sqlx::types::Json;
use uuid::Uuid;

use crate::connection::{Client, interval};
use crate::error::Error;
use crate::listening::{Heard, Listener};

const SUBSCRIBE: &str =
    "select tasker.subscribe_domain_events(subscriber => $1, namespaces => $2, patterns => $3)";

const CLAIM: &str = "select namespace, msg_id, delivery, pattern, event from tasker.claim_domain_events(worker_id => $1, \
    subscriber => $2, namespaces => $3, patterns => $4, max_events => $5, lease => $6)";

const FINISH: &str = "select namespace, msg_id, verdict from tasker.finish_domain_events(worker_id => $1, deliveries => $2)";

const LIST: &str = "select event_uuid, name, namespace, template_name, template_version, task_uuid, step_uuid, step_name, \
    attempt, outcome, delivery_mode, correlation_id, published_at, payload, subscriptions, problem, set_aside \
    from tasker.list_domain_events(namespace => $1, name => $2, task_uuid => $3, after => $4, \"limit\" => $5)";

const LIST_SUBSCRIPTIONS: &str = "select namespace, subscriber, pattern, waiting, delivered_again, oldest_seconds, \
    created_by, created_at from tasker.list_subscriptions(namespace => $1)";

/// An event as a subscriber gets it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DomainEvent {
    /// The event's key: the same at every delivery, so it serves as an idempotency key.
    pub event_uuid: Uuid,
    /// Its name, as the template says it.
    pub name: String,
    /// The namespace of the task.
    pub namespace: String,
    /// The name of the task's template.
    pub template_name: String,
    /// The version of the task's template.
    pub template_version: String,
    /// The task.
    pub task_uuid: Uuid,
    /// The step that published it.
    pub step_uuid: Uuid,
    /// The step's name.
    pub step_name: String,
    /// The attempt of the step.
    pub attempt: i32,
    /// What came of the attempt: `success`, `retryable_failure` or `permanent_failure`.
    pub outcome: String,
    /// The correlation id of the task.
    pub correlation_id: Option<Uuid>,
    /// When it was published.
    pub at: DateTime<Utc>,
    /// What the handler gave; otherwise the step's result, or its error.
    #[serde(default)]
    pub payload: Value,
    /// Whether the payload was too long for a notification and is left out; only of fast events.
    #[serde(default)]
    pub payload_omitted: bool,
}

/// Which durable events to claim.
#[derive(Debug, Clone)]
pub struct EventClaim {
    /// Who claims.
    pub worker_id: String,
    /// The name that workers have in common which share the events.
    pub subscriber: String,
    /// The namespaces to claim from.
    pub namespaces: Vec<String>,
    /// The patterns of the subscriptions.
    pub patterns: Vec<String>,
    /// At most so many.
    pub max_events: u32,
    /// So long they are the caller's own.
    pub lease: Duration,
}

/// A durable event handed out for one subscription.
#[derive(Debug, Clone, PartialEq, FromRow)]
pub struct ClaimedEvent {
    /// The namespace whose queue it is in.
    pub namespace: String,
    /// Its message there.
    pub msg_id: i64,
    /// How often it was handed out, this time included.
    pub delivery: i32,
    /// The pattern of the subscription that it is for.
    pub pattern: String,
    /// The event.
    #[sqlx(json)]
    pub event: DomainEvent,
}

/// How a delivery ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum DeliveryStatus {
    /// The subscriber has it.
    Done,
    /// The subscriber failed: it comes again later.
    Fail,
    /// The subscriber gives it back: it comes again at once.
    Release,
}

/// What became of a delivery.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Delivery {
    /// As claimed.
    pub namespace: String,
    /// As claimed.
    pub msg_id: i64,
    /// As claimed.
    pub delivery: i32,
    /// How it ended.
    pub status: DeliveryStatus,
    /// What it failed of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// The answer to one delivery.
#[derive(Debug, Clone, PartialEq, Eq, FromRow)]
pub struct DeliveryVerdict {
    /// As given.
    pub namespace: String,
    /// As given.
    pub msg_id: i64,
    /// `accepted`, or `lost` for one that was handed out again meanwhile.
    pub verdict: String,
}

/// Which published events to list.
#[derive(Debug, Clone, Default)]
pub struct DomainEventFilter {
    /// Of this namespace.
    pub namespace: Option<String>,
    /// With this name, which may be a pattern.
    pub name: Option<String>,
    /// Of this task.
    pub task_uuid: Option<Uuid>,
    /// The last one of the page before.
    pub after: Option<Uuid>,
    /// At most so many; 50 without.
    pub limit: Option<u32>,
}

/// An event as it was published.
#[derive(Debug, Clone, PartialEq, Serialize, FromRow)]
pub struct PublishedDomainEvent {
    /// The event's key.
    pub event_uuid: Uuid,
    /// Its name.
    pub name: String,
    /// The namespace of the task.
    pub namespace: String,
    /// The name of the task's template.
    pub template_name: String,
    /// The version of the task's template.
    pub template_version: String,
    /// The task.
    pub task_uuid: Uuid,
    /// The step that published it.
    pub step_uuid: Uuid,
    /// The step's name.
    pub step_name: String,
    /// The attempt of the step.
    pub attempt: i32,
    /// What came of the attempt.
    pub outcome: String,
    /// `durable` or `fast`; `None` for one that the step doesn't publish.
    pub delivery_mode: Option<String>,
    /// The correlation id of the task.
    pub correlation_id: Option<Uuid>,
    /// When it was published.
    pub published_at: DateTime<Utc>,
    /// Its payload.
    #[sqlx(json(nullable))]
    pub payload: Option<Value>,
    /// How many subscriptions it was sent to.
    pub subscriptions: i64,
    /// Why it was not published.
    pub problem: Option<String>,
    /// The subscriptions that did not take it: `[{subscriber, pattern, error}]`.
    #[sqlx(json(nullable))]
    pub set_aside: Option<Value>,
}

/// A subscription, and what waits for it.
#[derive(Debug, Clone, PartialEq, Serialize, FromRow)]
pub struct Subscription {
    /// The namespace.
    pub namespace: String,
    /// The name of those who share the events.
    pub subscriber: String,
    /// Which events it is for.
    pub pattern: String,
    /// How many wait, 10,000 at most.
    pub waiting: i64,
    /// How many of those were delivered before.
    pub delivered_again: i64,
    /// How long the oldest one has waited.
    pub oldest_seconds: Option<f64>,
    /// Who subscribed.
    pub created_by: String,
    /// When.
    pub created_at: DateTime<Utc>,
}

impl Client {
    /// Subscribes to durable events by patterns, and says how many of the subscriptions are new. Safe to repeat.
    pub async fn subscribe_domain_events(
        &self,
        subscriber: &str,
        namespaces: &[String],
        patterns: &[String],
    ) -> Result<i64, Error> {
        let count = sqlx::query_scalar(SUBSCRIBE)
            .bind(subscriber)
            .bind(namespaces)
            .bind(patterns)
            .fetch_one(self.pool())
            .await?;
        Ok(count)
    }

    /// Ends a subscription, with what waits for it; false when there was none.
    pub async fn unsubscribe_domain_events(
        &self,
        subscriber: &str,
        namespace: &str,
        pattern: &str,
    ) -> Result<bool, Error> {
        let was_there = sqlx::query_scalar(
            "select tasker.unsubscribe_domain_events(subscriber => $1, namespace => $2, pattern => $3)",
        )
        .bind(subscriber)
        .bind(namespace)
        .bind(pattern)
        .fetch_one(self.pool())
        .await?;
        Ok(was_there)
    }

    /// Sends an event again to the subscriptions that didn't take it, and says how many those are;
    /// TK004 when there is no such event.
    pub async fn redeliver_domain_event(&self, event_uuid: Uuid) -> Result<i64, Error> {
        let count = sqlx::query_scalar("select tasker.redeliver_domain_event(event_uuid => $1)")
            .bind(event_uuid)
            .fetch_one(self.pool())
            .await?;
        Ok(count)
    }

    /// Claims durable events under a lease. Never waits: an empty answer means that none is there.
    pub async fn claim_domain_events(
        &self,
        claim: &EventClaim,
    ) -> Result<Vec<ClaimedEvent>, Error> {
        let events = sqlx::query_as(CLAIM)
            .bind(&claim.worker_id)
            .bind(&claim.subscriber)
            .bind(&claim.namespaces)
            .bind(&claim.patterns)
            .bind(i32::try_from(claim.max_events).unwrap_or(i32::MAX))
            .bind(interval(claim.lease))
            .fetch_all(self.pool())
            .await?;
        Ok(events)
    }

    /// Says what became of deliveries.
    pub async fn finish_domain_events(
        &self,
        worker_id: &str,
        deliveries: &[Delivery],
    ) -> Result<Vec<DeliveryVerdict>, Error> {
        let verdicts = sqlx::query_as(FINISH)
            .bind(worker_id)
            .bind(Json(deliveries))
            .fetch_all(self.pool())
            .await?;
        Ok(verdicts)
    }

    /// The events that were published, newest first.
    pub async fn list_domain_events(
        &self,
        filter: &DomainEventFilter,
    ) -> Result<Vec<PublishedDomainEvent>, Error> {
        let events = sqlx::query_as(LIST)
            .bind(filter.namespace.as_deref())
            .bind(filter.name.as_deref())
            .bind(filter.task_uuid)
            .bind(filter.after)
            .bind(i32::try_from(filter.limit.unwrap_or(50)).unwrap_or(i32::MAX))
            .fetch_all(self.pool())
            .await?;
        Ok(events)
    }

    /// The subscriptions of a namespace, or of all.
    pub async fn list_subscriptions(
        &self,
        namespace: Option<&str>,
    ) -> Result<Vec<Subscription>, Error> {
        let subscriptions = sqlx::query_as(LIST_SUBSCRIPTIONS)
            .bind(namespace)
            .fetch_all(self.pool())
            .await?;
        Ok(subscriptions)
    }

    /// Listens for the events of `namespaces` over a connection of its own, made at the first [`EventNotices::next`].
    #[must_use]
    pub fn event_notices(&self, namespaces: &[String]) -> EventNotices {
        let channels = namespaces
            .iter()
            .map(|namespace| format!("tasker_domain_events_{namespace}"))
            .collect();
        let purpose = (
            "domain events",
            "durable ones are found by polling, and fast ones missed,",
        );
        EventNotices(Listener::new(self, channels, purpose))
    }
}

/// What [`EventNotices::next`] has to say.
#[derive(Debug, Clone, PartialEq)]
pub enum EventNotice {
    /// There may be durable events to claim.
    MayClaim,
    /// A fast event.
    Fast(Box<DomainEvent>),
}

/// A listener for domain events that outlives a restart of the database. Fast ones that come meanwhile are missed.
pub struct EventNotices(Listener);

impl std::fmt::Debug for EventNotices {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EventNotices")
            .field("channels", &self.0.channels)
            .finish_non_exhaustive()
    }
}

impl EventNotices {
    /// Waits for an event. May be dropped at any time, as in `select!`.
    pub async fn next(&mut self) -> EventNotice {
        loop {
            let Heard::Notification(notification) = self.0.next().await else {
                return EventNotice::MayClaim;
            };
            if notification.payload().is_empty() {
                return EventNotice::MayClaim;
            }
            match serde_json::from_str(notification.payload()) {
                Ok(event) => return EventNotice::Fast(Box::new(event)),
                Err(error) => {
                    tracing::debug!(%error, channel = notification.channel(), "a notification is no event");
                }
            }
        }
    }
}
