//! The rows and requests of the worker's functions.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use sqlx::FromRow;
use tasker_rules::traceparent::Traceparent;
use uuid::Uuid;

/// A step handed to a worker, with everything its handler needs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, FromRow)]
pub struct ClaimedStep {
    /// The step's key.
    pub step_uuid: Uuid,
    /// The key of its task.
    pub task_uuid: Uuid,
    /// The fencing token: every later call about the step names it.
    pub attempt: i32,
    /// Claims so far that weren't given back, this one included.
    pub attempts_used: i32,
    /// How many claims the step may use up.
    pub max_attempts: i32,
    /// The namespace of its template.
    pub namespace: String,
    /// The name of its template.
    pub template_name: String,
    /// The version of its template.
    pub template_version: String,
    /// The step's name within its task.
    pub step_name: String,
    /// The step's type, as the template names it.
    pub step_type: String,
    /// The handler: `{callable, method, initialization}`, `batch_config` of a batchable step, and `traceparent` of a task that is part of a trace.
    #[sqlx(json)]
    pub handler: Value,
    /// The task's context.
    #[sqlx(json)]
    pub context: Value,
    /// The inputs of an instance; `None` for a step that has none of its own.
    #[sqlx(json(nullable))]
    pub inputs: Option<Value>,
    /// The results of the step's direct dependencies, by name.
    #[sqlx(json)]
    pub dependency_results: Value,
    /// What an earlier attempt saved.
    #[sqlx(json(nullable))]
    pub checkpoint: Option<Value>,
    /// Ties the task to others and to logs.
    pub correlation_id: Option<Uuid>,
    /// -100 to 100; higher is served first.
    pub priority: i32,
    /// How long one attempt may take.
    pub timeout_seconds: Option<i32>,
    /// When the step may be handed to another worker.
    pub lease_expires_at: DateTime<Utc>,
    /// When the step was made.
    pub created_at: DateTime<Utc>,
    /// When the step became ready.
    pub enqueued_at: Option<DateTime<Utc>>,
}

impl ClaimedStep {
    /// The span that the task's creation belongs to, if it is part of a trace.
    #[must_use]
    pub fn traceparent(&self) -> Option<Traceparent> {
        self.handler.get("traceparent")?.as_str()?.parse().ok()
    }
}

/// What to claim.
#[derive(Debug, Clone)]
pub struct ClaimRequest {
    /// Who claims.
    pub worker_id: String,
    /// The namespaces to claim from.
    pub namespaces: Vec<String>,
    /// At most so many steps.
    pub max_steps: u32,
    /// How long the steps are the worker's own before another may take over.
    pub lease: Duration,
    /// Only steps with these handlers; `None` for all.
    pub handlers: Option<Vec<String>>,
}

/// How an attempt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OutcomeStatus {
    /// It is done; the result is stored.
    Complete,
    /// It failed; the error is stored.
    Fail,
    /// It is given back unfinished and no attempt is used up.
    Release,
    /// It is given back with a checkpoint to go on from.
    Yield,
}

/// What went wrong in an attempt.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct StepError {
    /// What went wrong, one line.
    pub message: String,
    /// The kind of the error.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub r#type: Option<String>,
    /// `Some(false)` ends the step at once; `None` is retryable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retryable: Option<bool>,
    /// Replaces the computed delay before the next attempt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u64>,
    /// Anything more, for a person who looks into it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<Value>,
}

/// The outcome of one attempt at a step.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Outcome {
    /// The step.
    pub step_uuid: Uuid,
    /// The attempt that the claim named.
    pub attempt: i32,
    /// How it ended.
    pub status: OutcomeStatus,
    /// The result of a completed attempt.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub result: Option<Value>,
    /// The error of a failed attempt.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<StepError>,
    /// The checkpoint of an attempt that yields.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub checkpoint: Option<Value>,
    /// Payloads of domain events by their names, in place of the result or the error.
    #[serde(skip_serializing_if = "Map::is_empty")]
    pub events: Map<String, Value>,
}

impl Outcome {
    /// The attempt is done with `result`.
    #[must_use]
    pub fn complete(step_uuid: Uuid, attempt: i32, result: Value) -> Self {
        Self {
            result: Some(result),
            ..Self::bare(step_uuid, attempt, OutcomeStatus::Complete)
        }
    }

    /// The attempt failed with `error`.
    #[must_use]
    pub fn fail(step_uuid: Uuid, attempt: i32, error: StepError) -> Self {
        Self {
            error: Some(error),
            ..Self::bare(step_uuid, attempt, OutcomeStatus::Fail)
        }
    }

    /// The attempt is given back and not counted.
    #[must_use]
    pub fn release(step_uuid: Uuid, attempt: i32) -> Self {
        Self::bare(step_uuid, attempt, OutcomeStatus::Release)
    }

    /// The attempt is given back with a checkpoint.
    #[must_use]
    pub fn yield_with(step_uuid: Uuid, attempt: i32, checkpoint: Value) -> Self {
        Self {
            checkpoint: Some(checkpoint),
            ..Self::bare(step_uuid, attempt, OutcomeStatus::Yield)
        }
    }

    fn bare(step_uuid: Uuid, attempt: i32, status: OutcomeStatus) -> Self {
        Self {
            step_uuid,
            attempt,
            status,
            result: None,
            error: None,
            checkpoint: None,
            events: Map::new(),
        }
    }
}

/// What to finish, and what to claim in the same call.
#[derive(Debug, Clone)]
pub struct FinishRequest {
    /// Who finishes.
    pub worker_id: String,
    /// The outcomes; a bad one rejects itself, not the others.
    pub outcomes: Vec<Outcome>,
    /// Claim at most so many steps in the same transaction.
    pub claim_next: u32,
    /// The lease of what is claimed.
    pub lease: Duration,
    /// The namespaces to claim from; `None` for those that the worker has registered for.
    pub namespaces: Option<Vec<String>>,
    /// Only steps with these handlers; `None` for all.
    pub handlers: Option<Vec<String>>,
    /// A repeated call with the same id gets the same answer.
    pub request_id: Option<Uuid>,
}

/// What the database made of an outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum VerdictKind {
    /// Stored.
    Accepted,
    /// The same outcome was stored before.
    Repeated,
    /// Another attempt owns the step; nothing changed.
    Lost,
    /// The step was cancelled; nothing changed.
    Cancelled,
    /// The attempt ran longer than its `timeout_seconds` and was failed by the database.
    TimedOut,
    /// The outcome itself can't be used; code and message say why.
    Invalid,
}

/// The answer to one outcome, in the order of the outcomes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// The step, if the outcome named one that could be read.
    pub step_uuid: Option<Uuid>,
    /// The attempt, if the outcome named one that could be read.
    pub attempt: Option<i32>,
    /// What became of it.
    pub verdict: VerdictKind,
    /// The SQLSTATE that explains a verdict other than accepted.
    #[serde(default)]
    pub code: Option<String>,
    /// The explanation in words.
    #[serde(default)]
    pub message: Option<String>,
}

/// The answer of [`Client::finish_steps`](crate::Client::finish_steps).
#[derive(Debug, Clone, PartialEq)]
pub struct Finished {
    /// One for each outcome, in its order.
    pub verdicts: Vec<Verdict>,
    /// The steps claimed in the same call.
    pub claimed: Vec<ClaimedStep>,
}

/// A step that a worker holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldStep {
    /// The step.
    pub step_uuid: Uuid,
    /// The attempt that the claim named.
    pub attempt: i32,
}

/// Whether a step is still the worker's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, sqlx::Type)]
#[serde(rename_all = "snake_case")]
#[sqlx(type_name = "text", rename_all = "snake_case")]
pub enum LeaseState {
    /// Yes, and its lease is extended.
    Held,
    /// Another attempt owns it.
    Lost,
    /// It was cancelled: the handler may stop.
    Cancelled,
    /// It ran longer than its `timeout_seconds`; the database failed the attempt.
    TimedOut,
}

/// The answer about one held step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, FromRow)]
pub struct LeaseVerdict {
    /// The step.
    pub step_uuid: Uuid,
    /// Whether it is still held.
    pub verdict: LeaseState,
}

/// A worker as it presents itself.
#[derive(Debug, Clone)]
pub struct WorkerRegistration {
    /// Unique among live workers.
    pub worker_id: String,
    /// The namespaces it claims from.
    pub namespaces: Vec<String>,
    /// The handlers it has.
    pub handlers: Vec<String>,
    /// The language it is written in.
    pub language: String,
    /// Its version.
    pub version: String,
}
