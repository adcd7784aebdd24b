//! Steps: list, get, their history.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use sqlx::FromRow;
use uuid::Uuid;

use crate::connection::Client;
use crate::error::Error;
use crate::tasks::HistoryRow;

macro_rules! step_columns {
    () => {
        "step_uuid, task_uuid, name, type, instance, state, attempt, attempts_used, max_attempts, handler, inputs, \
         result, error, checkpoint, worker_id, lease_expires_at, retry_at, remaining_dependencies, dependencies, \
         created_at, enqueued_at, started_at, finished_at, (later ->> 'child_task_uuid')::uuid as child_task_uuid"
    };
}

const LIST_STEPS: &str = concat!(
    "select ",
    step_columns!(),
    " from tasker.list_steps(task_uuid => $1) r cross join lateral to_jsonb(r) later"
);

const GET_STEP: &str = concat!(
    "select ",
    step_columns!(),
    " from tasker.get_step(step_uuid => $1) r cross join lateral to_jsonb(r) later"
);

const STEP_HISTORY: &str = "select seq, from_state, to_state, event, at, attempt, actor, metadata \
    from tasker.step_history(step_uuid => $1)";

/// A step as it is now.
#[derive(Debug, Clone, Serialize, Deserialize, FromRow)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Step {
    /// The step's key.
    pub step_uuid: Uuid,
    /// The key of its task.
    pub task_uuid: Uuid,
    /// Its name within the task.
    #[cfg_attr(feature = "openapi", schema(example = "ship"))]
    pub name: String,
    /// Its type, as the template names it.
    #[cfg_attr(feature = "openapi", schema(example = "standard"))]
    pub r#type: String,
    /// Its number among the instances of one step of the template.
    pub instance: Option<i32>,
    /// One of the ten states.
    #[cfg_attr(feature = "openapi", schema(example = "in_progress"))]
    pub state: String,
    /// The fencing token of its last claim.
    pub attempt: i32,
    /// Claims so far that weren't given back.
    pub attempts_used: i32,
    /// How many claims it may use up.
    pub max_attempts: i32,
    /// The handler: `{callable, method, initialization}`, and `batch_config` of a batchable step.
    #[cfg_attr(feature = "openapi", schema(value_type = serde_json::Value))]
    #[sqlx(json(nullable))]
    pub handler: Option<Box<RawValue>>,
    /// The inputs of an instance.
    #[cfg_attr(feature = "openapi", schema(value_type = serde_json::Value))]
    #[sqlx(json(nullable))]
    pub inputs: Option<Box<RawValue>>,
    /// What it returned.
    #[cfg_attr(feature = "openapi", schema(value_type = serde_json::Value))]
    #[sqlx(json(nullable))]
    pub result: Option<Box<RawValue>>,
    /// Why its last attempt failed.
    #[cfg_attr(feature = "openapi", schema(value_type = serde_json::Value))]
    #[sqlx(json(nullable))]
    pub error: Option<Box<RawValue>>,
    /// What an attempt saved to go on from.
    #[cfg_attr(feature = "openapi", schema(value_type = serde_json::Value))]
    #[sqlx(json(nullable))]
    pub checkpoint: Option<Box<RawValue>>,
    /// Who claimed it last.
    pub worker_id: Option<String>,
    /// Until when it is that worker's own.
    pub lease_expires_at: Option<DateTime<Utc>>,
    /// When its next attempt is due.
    pub retry_at: Option<DateTime<Utc>>,
    /// How many dependencies aren't satisfied.
    pub remaining_dependencies: i32,
    /// The names of the steps it waits for.
    pub dependencies: Vec<String>,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// When it became ready.
    pub enqueued_at: Option<DateTime<Utc>>,
    /// When it was claimed last.
    pub started_at: Option<DateTime<Utc>>,
    /// When it reached its terminal state.
    pub finished_at: Option<DateTime<Utc>>,
    /// The task that its newest attempt started, of a step that starts one.
    pub child_task_uuid: Option<Uuid>,
}

impl Client {
    /// The steps of a task, in topological order; TK001 when there is no such task.
    pub async fn list_steps(&self, task_uuid: Uuid) -> Result<Vec<Step>, Error> {
        let steps = sqlx::query_as(LIST_STEPS)
            .bind(task_uuid)
            .fetch_all(self.pool())
            .await?;
        Ok(steps)
    }

    /// A step as it is now; TK002 when there is none.
    pub async fn get_step(&self, step_uuid: Uuid) -> Result<Step, Error> {
        let step = sqlx::query_as(GET_STEP)
            .bind(step_uuid)
            .fetch_one(self.pool())
            .await?;
        Ok(step)
    }

    /// Every transition of a step, oldest first.
    pub async fn step_history(&self, step_uuid: Uuid) -> Result<Vec<HistoryRow>, Error> {
        let rows = sqlx::query_as(STEP_HISTORY)
            .bind(step_uuid)
            .fetch_all(self.pool())
            .await?;
        Ok(rows)
    }
}
