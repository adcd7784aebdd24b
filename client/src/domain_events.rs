//! Domain events: subscribe, claim and finish deliveries, listen for fast ones; list what was published.

use sqlx::types::Json;
use uuid::Uuid;

use crate::connection::{Client, interval};
use crate::error::Error;
use crate::listening::{Heard, Listener};

mod types;

pub use types::{
    ClaimedEvent, Delivery, DeliveryStatus, DeliveryVerdict, DomainEvent, DomainEventFilter,
    EventClaim, PublishedDomainEvent, Subscription,
};

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
