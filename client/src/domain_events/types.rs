//! What is told of domain events, subscriptions and deliveries.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sqlx::FromRow;
use uuid::Uuid;

/// An event as a subscriber gets it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct DomainEvent {
    /// The event's key: the same at every delivery, so it serves as an idempotency key.
    pub event_uuid: Uuid,
    /// Its name, as the template says it.
    #[cfg_attr(feature = "openapi", schema(example = "order.shipped"))]
    pub name: String,
    /// The namespace of the task.
    #[cfg_attr(feature = "openapi", schema(example = "shop"))]
    pub namespace: String,
    /// The name of the task's template.
    #[cfg_attr(feature = "openapi", schema(example = "order"))]
    pub template_name: String,
    /// The version of the task's template.
    #[cfg_attr(feature = "openapi", schema(example = "1.0.0"))]
    pub template_version: String,
    /// The task.
    pub task_uuid: Uuid,
    /// The step that published it.
    pub step_uuid: Uuid,
    /// The step's name.
    #[cfg_attr(feature = "openapi", schema(example = "ship"))]
    pub step_name: String,
    /// The attempt of the step.
    pub attempt: i32,
    /// What came of the attempt: `success`, `retryable_failure` or `permanent_failure`.
    #[cfg_attr(feature = "openapi", schema(example = "success"))]
    pub outcome: String,
    /// The correlation id of the task.
    pub correlation_id: Option<Uuid>,
    /// When it was published.
    pub at: DateTime<Utc>,
    /// What the handler gave; otherwise the step's result, or its error.
    #[serde(default)]
    pub payload: Value,
    /// Whether the payload was too long for a notification and is left out; only of fast events.
    #[cfg_attr(feature = "openapi", schema(example = false))]
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
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, FromRow)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ClaimedEvent {
    /// The namespace whose queue it is in.
    #[cfg_attr(feature = "openapi", schema(example = "shop"))]
    pub namespace: String,
    /// Its message there.
    pub msg_id: i64,
    /// How often it was handed out, this time included.
    pub delivery: i32,
    /// The pattern of the subscription that it is for.
    #[cfg_attr(feature = "openapi", schema(example = "order.*"))]
    pub pattern: String,
    /// The event.
    #[sqlx(json)]
    pub event: DomainEvent,
}

/// How a delivery ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
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
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Delivery {
    /// As claimed.
    #[cfg_attr(feature = "openapi", schema(example = "shop"))]
    pub namespace: String,
    /// As claimed.
    #[cfg_attr(feature = "openapi", schema(minimum = 0))]
    pub msg_id: i64,
    /// As claimed.
    #[cfg_attr(feature = "openapi", schema(minimum = 0, maximum = 999_999_999))]
    pub delivery: i32,
    /// How it ended.
    pub status: DeliveryStatus,
    /// What it failed of; a thousand characters of it are kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// The answer to one delivery.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, FromRow)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct DeliveryVerdict {
    /// As given.
    #[cfg_attr(feature = "openapi", schema(example = "shop"))]
    pub namespace: String,
    /// As given.
    pub msg_id: i64,
    /// `accepted`, or `lost` for one that was handed out again meanwhile.
    #[cfg_attr(feature = "openapi", schema(example = "accepted"))]
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
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, FromRow)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct PublishedDomainEvent {
    /// The event's key.
    pub event_uuid: Uuid,
    /// Its name.
    #[cfg_attr(feature = "openapi", schema(example = "order.shipped"))]
    pub name: String,
    /// The namespace of the task.
    #[cfg_attr(feature = "openapi", schema(example = "shop"))]
    pub namespace: String,
    /// The name of the task's template.
    #[cfg_attr(feature = "openapi", schema(example = "order"))]
    pub template_name: String,
    /// The version of the task's template.
    #[cfg_attr(feature = "openapi", schema(example = "1.0.0"))]
    pub template_version: String,
    /// The task.
    pub task_uuid: Uuid,
    /// The step that published it.
    pub step_uuid: Uuid,
    /// The step's name.
    #[cfg_attr(feature = "openapi", schema(example = "ship"))]
    pub step_name: String,
    /// The attempt of the step.
    pub attempt: i32,
    /// What came of the attempt.
    #[cfg_attr(feature = "openapi", schema(example = "success"))]
    pub outcome: String,
    /// `durable` or `fast`; `None` for one that the step doesn't publish.
    #[cfg_attr(feature = "openapi", schema(example = "durable"))]
    pub delivery_mode: Option<String>,
    /// The correlation id of the task.
    pub correlation_id: Option<Uuid>,
    /// When it was published.
    pub published_at: DateTime<Utc>,
    /// Its payload.
    #[cfg_attr(feature = "openapi", schema(value_type = serde_json::Value))]
    #[sqlx(json(nullable))]
    pub payload: Option<Value>,
    /// How many subscriptions it was sent to.
    pub subscriptions: i64,
    /// Why it was not published.
    pub problem: Option<String>,
    /// The subscriptions that did not take it: `[{subscriber, pattern, error}]`.
    #[cfg_attr(feature = "openapi", schema(value_type = Option<Vec<Object>>))]
    #[sqlx(json(nullable))]
    pub set_aside: Option<Value>,
}

/// A subscription, and what waits for it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, FromRow)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Subscription {
    /// The namespace.
    #[cfg_attr(feature = "openapi", schema(example = "shop"))]
    pub namespace: String,
    /// The name of those who share the events.
    #[cfg_attr(feature = "openapi", schema(example = "mailer"))]
    pub subscriber: String,
    /// Which events it is for.
    #[cfg_attr(feature = "openapi", schema(example = "order.*"))]
    pub pattern: String,
    /// How many wait, 10,000 at most.
    pub waiting: i64,
    /// How many of those were delivered before.
    pub delivered_again: i64,
    /// How long the oldest one has waited.
    pub oldest_seconds: Option<f64>,
    /// Who subscribed.
    #[cfg_attr(feature = "openapi", schema(example = "tasker_server"))]
    pub created_by: String,
    /// When.
    pub created_at: DateTime<Utc>,
}
