//! Dead letters and tasks over their limits: what an operator investigates, and how that is closed.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use sqlx::FromRow;
use uuid::Uuid;

use crate::connection::Client;
use crate::error::Error;

/// `list_dead_letters` and `stale_tasks` return so many when the caller doesn't say.
const DEFAULT_PAGE: i32 = 50;

macro_rules! dead_letter_columns {
    () => {
        "dead_letter_uuid, task_uuid, namespace, template_name, template_version, priority, task_state, reason, resolution, \
         opened_at, opened_by, resolved_at, resolved_by, note, error, step_uuid, step_name"
    };
}

const LIST: &str = concat!(
    "select ",
    dead_letter_columns!(),
    " from tasker.list_dead_letters(namespace => $1, reason => $2, resolution => $3, after => $4, \"limit\" => $5)"
);

const GET: &str = concat!(
    "select ",
    dead_letter_columns!(),
    ", snapshot from tasker.get_dead_letter(dead_letter_uuid => $1, task_uuid => $2)"
);

const RESOLVE: &str = concat!(
    "select ",
    dead_letter_columns!(),
    " from tasker.resolve_dead_letter(dead_letter_uuid => $1, resolution => $2, note => $3)"
);

const STATS: &str = "select namespace, reason, resolution, dead_letters, oldest_opened_at, newest_opened_at \
    from tasker.dead_letter_stats()";

const STALE_TASKS: &str = "select task_uuid, namespace, template_name, template_version, state, clock, limit_seconds, since, \
    stale_since, staleness_action from tasker.stale_tasks(namespace => $1, after => $2, \"limit\" => $3)";

/// Which dead letters to list: all that fit every field that is set. With the resolution `pending` in the order of
/// investigation, highest priority first and then longest open; otherwise newest first.
#[derive(Debug, Clone, Default)]
pub struct DeadLetterFilter {
    /// Of tasks of this namespace.
    pub namespace: Option<String>,
    /// Opened for this reason.
    pub reason: Option<String>,
    /// Resolved so; `pending` are the open ones.
    pub resolution: Option<String>,
    /// The page after this dead letter.
    pub after: Option<Uuid>,
    /// At most so many; 50 when left out.
    pub limit: Option<i32>,
}

/// How [`Client::get_dead_letter`] is told which one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeadLetterKey {
    /// By its own key.
    DeadLetter(Uuid),
    /// The task's own that is open, or else the task's newest.
    Task(Uuid),
}

/// A dead letter as lists show it.
#[derive(Debug, Clone, Serialize, Deserialize, FromRow)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct DeadLetter {
    /// Its key.
    pub dead_letter_uuid: Uuid,
    /// The task that it is about.
    pub task_uuid: Uuid,
    /// The namespace of that task.
    #[cfg_attr(feature = "openapi", schema(example = "shop"))]
    pub namespace: String,
    /// The name of its template.
    #[cfg_attr(feature = "openapi", schema(example = "order_fulfillment"))]
    pub template_name: String,
    /// The version of its template.
    #[cfg_attr(feature = "openapi", schema(example = "1.0.0"))]
    pub template_version: String,
    /// The priority of the task; higher is investigated first.
    #[cfg_attr(feature = "openapi", schema(minimum = -100, maximum = 100))]
    pub priority: i32,
    /// The state of the task now.
    #[cfg_attr(feature = "openapi", schema(example = "blocked_by_failures"))]
    pub task_state: String,
    /// Why it was opened: `max_retries_exceeded`, `permanent_failure`, `staleness_timeout`, `worker_unavailable`,
    /// `dependency_cycle_detected` or `manual_dlq`.
    #[cfg_attr(feature = "openapi", schema(example = "max_retries_exceeded"))]
    pub reason: String,
    /// `pending` while it is open; then `manually_resolved`, `permanently_failed` or `cancelled`.
    #[cfg_attr(feature = "openapi", schema(example = "pending"))]
    pub resolution: String,
    /// When it was opened.
    pub opened_at: DateTime<Utc>,
    /// Who opened it.
    pub opened_by: String,
    /// When it was resolved.
    pub resolved_at: Option<DateTime<Utc>>,
    /// Who resolved it.
    pub resolved_by: Option<String>,
    /// What was noted at its opening by hand and at its resolution.
    pub note: Option<String>,
    /// What the task, or the instance, failed of.
    #[cfg_attr(feature = "openapi", schema(value_type = serde_json::Value))]
    #[sqlx(json(nullable))]
    pub error: Option<Box<RawValue>>,
    /// The instance that it is about, if it isn't about the whole task.
    pub step_uuid: Option<Uuid>,
    /// The name of that instance's step.
    pub step_name: Option<String>,
}

/// A dead letter with its snapshot.
#[derive(Debug, Clone, Serialize, Deserialize, FromRow)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Investigation {
    /// Its key.
    pub dead_letter_uuid: Uuid,
    /// The task that it is about.
    pub task_uuid: Uuid,
    /// The namespace of that task.
    #[cfg_attr(feature = "openapi", schema(example = "shop"))]
    pub namespace: String,
    /// The name of its template.
    #[cfg_attr(feature = "openapi", schema(example = "order_fulfillment"))]
    pub template_name: String,
    /// The version of its template.
    #[cfg_attr(feature = "openapi", schema(example = "1.0.0"))]
    pub template_version: String,
    /// The priority of the task; higher is investigated first.
    #[cfg_attr(feature = "openapi", schema(minimum = -100, maximum = 100))]
    pub priority: i32,
    /// The state of the task now.
    #[cfg_attr(feature = "openapi", schema(example = "blocked_by_failures"))]
    pub task_state: String,
    /// Why it was opened; see [`DeadLetter::reason`].
    #[cfg_attr(feature = "openapi", schema(example = "max_retries_exceeded"))]
    pub reason: String,
    /// How it was closed; see [`DeadLetter::resolution`].
    #[cfg_attr(feature = "openapi", schema(example = "pending"))]
    pub resolution: String,
    /// When it was opened.
    pub opened_at: DateTime<Utc>,
    /// Who opened it.
    pub opened_by: String,
    /// When it was resolved.
    pub resolved_at: Option<DateTime<Utc>>,
    /// Who resolved it.
    pub resolved_by: Option<String>,
    /// What was noted at its opening by hand and at its resolution.
    pub note: Option<String>,
    /// What the task, or the instance, failed of.
    #[cfg_attr(feature = "openapi", schema(value_type = serde_json::Value))]
    #[sqlx(json(nullable))]
    pub error: Option<Box<RawValue>>,
    /// The instance that it is about, if it isn't about the whole task.
    pub step_uuid: Option<Uuid>,
    /// The name of that instance's step.
    pub step_name: Option<String>,
    /// The task, its steps and the end of their history as they were when it was opened.
    #[cfg_attr(feature = "openapi", schema(value_type = Object))]
    #[sqlx(json)]
    pub snapshot: Box<RawValue>,
}

/// How many dead letters there are of one kind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, FromRow)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct DeadLetterCount {
    /// The namespace of their tasks.
    #[cfg_attr(feature = "openapi", schema(example = "shop"))]
    pub namespace: String,
    /// Why they were opened.
    #[cfg_attr(feature = "openapi", schema(example = "permanent_failure"))]
    pub reason: String,
    /// How they were resolved; `pending` are the open ones.
    #[cfg_attr(feature = "openapi", schema(example = "pending"))]
    pub resolution: String,
    /// How many.
    pub dead_letters: i64,
    /// When the oldest was opened.
    pub oldest_opened_at: DateTime<Utc>,
    /// When the newest was opened.
    pub newest_opened_at: DateTime<Utc>,
}

/// A task that is over a limit of its template's lifecycle.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, FromRow)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct StaleTask {
    /// The task.
    pub task_uuid: Uuid,
    /// The namespace of its template.
    #[cfg_attr(feature = "openapi", schema(example = "shop"))]
    pub namespace: String,
    /// The name of its template.
    #[cfg_attr(feature = "openapi", schema(example = "order_fulfillment"))]
    pub template_name: String,
    /// The version of its template.
    #[cfg_attr(feature = "openapi", schema(example = "1.0.0"))]
    pub template_version: String,
    /// Its state.
    #[cfg_attr(feature = "openapi", schema(example = "waiting_for_dependencies"))]
    pub state: String,
    /// The limit that it is over, as the template calls it.
    #[cfg_attr(feature = "openapi", schema(example = "max_duration_seconds"))]
    pub clock: String,
    /// That limit.
    pub limit_seconds: i32,
    /// When the clock began.
    pub since: DateTime<Utc>,
    /// When it ran out.
    pub stale_since: DateTime<Utc>,
    /// What maintenance does about it.
    pub staleness_action: Option<String>,
}

impl Client {
    /// Dead letters in pages; TK004 for an unknown `after`, 22023 for an unknown reason or resolution.
    pub async fn list_dead_letters(
        &self,
        filter: &DeadLetterFilter,
    ) -> Result<Vec<DeadLetter>, Error> {
        let dead_letters = sqlx::query_as(LIST)
            .bind(filter.namespace.as_deref())
            .bind(filter.reason.as_deref())
            .bind(filter.resolution.as_deref())
            .bind(filter.after)
            .bind(filter.limit.unwrap_or(DEFAULT_PAGE))
            .fetch_all(self.pool())
            .await?;
        Ok(dead_letters)
    }

    /// A dead letter with its snapshot; TK001 for an unknown task, TK004 when there is none.
    pub async fn get_dead_letter(&self, key: DeadLetterKey) -> Result<Investigation, Error> {
        let (dead_letter_uuid, task_uuid) = match key {
            DeadLetterKey::DeadLetter(uuid) => (Some(uuid), None),
            DeadLetterKey::Task(uuid) => (None, Some(uuid)),
        };
        let investigation = sqlx::query_as(GET)
            .bind(dead_letter_uuid)
            .bind(task_uuid)
            .fetch_one(self.pool())
            .await?;
        Ok(investigation)
    }

    /// Opens a dead letter for a task by hand and gives its key; the task itself goes on. TK001, 22023 without a reason,
    /// 23505 when one is open.
    pub async fn open_dead_letter(&self, task_uuid: Uuid, reason: &str) -> Result<Uuid, Error> {
        let dead_letter_uuid =
            sqlx::query_scalar("select tasker.open_dead_letter(task_uuid => $1, reason => $2)")
                .bind(task_uuid)
                .bind(reason)
                .fetch_one(self.pool())
                .await?;
        Ok(dead_letter_uuid)
    }

    /// Closes an open dead letter as `manually_resolved`, `permanently_failed` or `cancelled`, which settles, ends or
    /// cancels its task where that applies. TK004, TK010 when it is resolved already, 22023.
    pub async fn resolve_dead_letter(
        &self,
        dead_letter_uuid: Uuid,
        resolution: &str,
        note: Option<&str>,
    ) -> Result<DeadLetter, Error> {
        let dead_letter = sqlx::query_as(RESOLVE)
            .bind(dead_letter_uuid)
            .bind(resolution)
            .bind(note)
            .fetch_one(self.pool())
            .await?;
        Ok(dead_letter)
    }

    /// The dead letters counted by namespace, reason and resolution. Reads every dead letter.
    pub async fn dead_letter_stats(&self) -> Result<Vec<DeadLetterCount>, Error> {
        let counts = sqlx::query_as(STATS).fetch_all(self.pool()).await?;
        Ok(counts)
    }

    /// The tasks that are over a limit of their template's lifecycle, oldest first. `after` is the last of the page before;
    /// 50 when no limit is given.
    pub async fn stale_tasks(
        &self,
        namespace: Option<&str>,
        after: Option<Uuid>,
        limit: Option<i32>,
    ) -> Result<Vec<StaleTask>, Error> {
        let tasks = sqlx::query_as(STALE_TASKS)
            .bind(namespace)
            .bind(after)
            .bind(limit.unwrap_or(DEFAULT_PAGE))
            .fetch_all(self.pool())
            .await?;
        Ok(tasks)
    }
}
