//! Statistics: the figures of templates and steps, and the slowest of them.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use sqlx::FromRow;
use uuid::Uuid;

use crate::connection::Client;
use crate::error::Error;

/// `slowest_steps` and `slowest_tasks` return so many when the caller doesn't say.
const DEFAULT_SLOWEST: i32 = 10;

const STATISTICS: &str = "select namespace, template_name, template_version, step_name, completed, failed, cancelled, resolved, \
    failure_share, attempts, retries, avg_wait_ms, avg_run_ms, p50_run_ms, p95_run_ms, p99_run_ms, max_run_ms, since, as_of \
    from tasker.statistics(since => $1, namespace => $2, template_name => $3)";

const SLOWEST_STEPS: &str = "select step_uuid, task_uuid, namespace, template_name, template_version, name, duration_ms, \
    attempts_used, state, started_at, finished_at \
    from tasker.slowest_steps(since => $1, namespace => $2, template_name => $3, \"limit\" => $4)";

const SLOWEST_TASKS: &str = "select task_uuid, namespace, template_name, template_version, duration_ms, state, started_at, finished_at \
    from tasker.slowest_tasks(since => $1, namespace => $2, template_name => $3, \"limit\" => $4)";

/// Of what to give figures: all that fit every field that is set.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StatisticsFilter {
    /// From this time on, rounded down to its hour, after two days to its day, after 62 to its month; a day ago when left out.
    pub since: Option<DateTime<Utc>>,
    /// Of this namespace.
    pub namespace: Option<String>,
    /// Of this template.
    pub template_name: Option<String>,
}

/// The figures of a template's tasks, or of one of its steps.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, FromRow)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct StepStatistics {
    /// The namespace of the template.
    #[cfg_attr(feature = "openapi", schema(example = "shop"))]
    pub namespace: String,
    /// The template.
    #[cfg_attr(feature = "openapi", schema(example = "order_fulfillment"))]
    pub template_name: String,
    /// Its version.
    #[cfg_attr(feature = "openapi", schema(example = "1.0.0"))]
    pub template_version: String,
    /// The step; null for the tasks as a whole.
    pub step_name: Option<String>,
    /// How many were completed.
    pub completed: i64,
    /// How many failed for good.
    pub failed: i64,
    /// How many were cancelled.
    pub cancelled: i64,
    /// How many were settled by an operator.
    pub resolved: i64,
    /// The share of those that failed among those that completed or failed, from 0 to 1.
    #[cfg_attr(feature = "openapi", schema(minimum = 0, maximum = 1))]
    pub failure_share: Option<f64>,
    /// How many attempts were made; of steps.
    pub attempts: Option<i64>,
    /// How many of them were retries; of steps.
    pub retries: Option<i64>,
    /// How long they waited until they were begun, on average, in milliseconds.
    pub avg_wait_ms: Option<f64>,
    /// How long they ran on average, in milliseconds.
    pub avg_run_ms: Option<f64>,
    /// How long half of them ran at most, in milliseconds; off by at most a tenth, as are the other percentiles.
    pub p50_run_ms: Option<f64>,
    /// How long 95 of 100 ran at most, in milliseconds.
    pub p95_run_ms: Option<f64>,
    /// How long 99 of 100 ran at most, in milliseconds.
    pub p99_run_ms: Option<f64>,
    /// How long the longest ran, in milliseconds.
    pub max_run_ms: Option<f64>,
    /// From when on they are counted.
    pub since: DateTime<Utc>,
    /// Up to when everything is counted; null before maintenance has counted anything.
    pub as_of: Option<DateTime<Utc>>,
}

/// One of the slowest steps.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, FromRow)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct SlowStep {
    /// The step.
    pub step_uuid: Uuid,
    /// Its task.
    pub task_uuid: Uuid,
    /// The namespace of the template.
    #[cfg_attr(feature = "openapi", schema(example = "shop"))]
    pub namespace: String,
    /// The template.
    #[cfg_attr(feature = "openapi", schema(example = "order_fulfillment"))]
    pub template_name: String,
    /// Its version.
    #[cfg_attr(feature = "openapi", schema(example = "1.0.0"))]
    pub template_version: String,
    /// The step's name.
    #[cfg_attr(feature = "openapi", schema(example = "process_payment"))]
    pub name: String,
    /// How long its last attempt ran, in milliseconds.
    pub duration_ms: f64,
    /// How many attempts it had used.
    pub attempts_used: i32,
    /// The state in which that attempt left it.
    #[cfg_attr(feature = "openapi", schema(example = "complete"))]
    pub state: String,
    /// When that attempt began.
    pub started_at: DateTime<Utc>,
    /// When it ended.
    pub finished_at: DateTime<Utc>,
}

/// One of the slowest tasks.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, FromRow)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct SlowTask {
    /// The task.
    pub task_uuid: Uuid,
    /// The namespace of the template.
    #[cfg_attr(feature = "openapi", schema(example = "shop"))]
    pub namespace: String,
    /// The template.
    #[cfg_attr(feature = "openapi", schema(example = "order_fulfillment"))]
    pub template_name: String,
    /// Its version.
    #[cfg_attr(feature = "openapi", schema(example = "1.0.0"))]
    pub template_version: String,
    /// How long it took from its start to its end, in milliseconds.
    pub duration_ms: f64,
    /// The state in which it ended.
    #[cfg_attr(feature = "openapi", schema(example = "complete"))]
    pub state: String,
    /// When it started.
    pub started_at: DateTime<Utc>,
    /// When it ended.
    pub finished_at: DateTime<Utc>,
}

impl Client {
    /// The figures of each template's tasks and steps.
    pub async fn statistics(
        &self,
        filter: &StatisticsFilter,
    ) -> Result<Vec<StepStatistics>, Error> {
        let statistics = sqlx::query_as(STATISTICS)
            .bind(filter.since)
            .bind(filter.namespace.as_deref())
            .bind(filter.template_name.as_deref())
            .fetch_all(self.pool())
            .await?;
        Ok(statistics)
    }

    /// The steps whose last attempt ran longest, 10 unless a limit from 1 to 20 is given; 22023 for another limit.
    pub async fn slowest_steps(
        &self,
        filter: &StatisticsFilter,
        limit: Option<i32>,
    ) -> Result<Vec<SlowStep>, Error> {
        let steps = sqlx::query_as(SLOWEST_STEPS)
            .bind(filter.since)
            .bind(filter.namespace.as_deref())
            .bind(filter.template_name.as_deref())
            .bind(limit.unwrap_or(DEFAULT_SLOWEST))
            .fetch_all(self.pool())
            .await?;
        Ok(steps)
    }

    /// The tasks that took longest, 10 unless a limit from 1 to 20 is given; 22023 for another limit.
    pub async fn slowest_tasks(
        &self,
        filter: &StatisticsFilter,
        limit: Option<i32>,
    ) -> Result<Vec<SlowTask>, Error> {
        let tasks = sqlx::query_as(SLOWEST_TASKS)
            .bind(filter.since)
            .bind(filter.namespace.as_deref())
            .bind(filter.template_name.as_deref())
            .bind(limit.unwrap_or(DEFAULT_SLOWEST))
            .fetch_all(self.pool())
            .await?;
        Ok(tasks)
    }
}
