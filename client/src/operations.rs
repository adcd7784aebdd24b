//! Queues, health, maintenance, verification.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use sqlx::FromRow;
use uuid::Uuid;

use crate::connection::Client;
use crate::error::Error;

const QUEUE_STATS: &str = "select namespace, queue_name, visible, hidden, oldest_message_age_seconds, enqueued, \
    in_progress, waiting_for_retry, as_of from tasker.queue_stats()";

const OPEN_DEAD_LETTERS: &str = "select namespace, sum(dead_letters)::bigint as dead_letters from tasker.dead_letter_stats() \
    where resolution = 'pending' group by namespace";

/// The queue of one namespace.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, FromRow)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct QueueStats {
    /// The namespace.
    pub namespace: String,
    /// Its queue in PGMQ.
    pub queue_name: String,
    /// Messages that can be claimed now.
    pub visible: i64,
    /// Messages under a lease or a delay.
    pub hidden: i64,
    /// The age of the oldest message.
    pub oldest_message_age_seconds: Option<f64>,
    /// Steps that are enqueued.
    pub enqueued: i64,
    /// Steps that are in progress.
    pub in_progress: i64,
    /// Steps that wait for a retry.
    pub waiting_for_retry: i64,
    /// The time up to which the states of steps are counted; `None` before maintenance has counted any.
    pub as_of: Option<DateTime<Utc>>,
}

/// How many dead letters of a namespace nobody has resolved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, FromRow)]
pub struct OpenDeadLetters {
    /// The namespace.
    pub namespace: String,
    /// How many.
    pub dead_letters: i64,
}

/// What one job of a maintenance run did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, FromRow)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct MaintenanceRun {
    /// The job's name.
    pub job: String,
    /// How many rows it moved.
    pub processed: i64,
    /// Whether it stopped at the batch's limit with more to do.
    pub more: bool,
}

/// What one batch of one job of maintenance came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, FromRow)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct JobRun {
    /// How many rows it moved.
    pub processed: i64,
    /// Whether it stopped at the batch's limit with more to do.
    pub more: bool,
}

/// An invariant that doesn't hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, FromRow)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Violation {
    /// The invariant's number.
    pub invariant: i32,
    /// The task concerned.
    pub task_uuid: Option<Uuid>,
    /// The step concerned.
    pub step_uuid: Option<Uuid>,
    /// What is wrong.
    pub detail: String,
}

/// One check of the engine's health.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, FromRow)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct HealthCheck {
    /// What was checked.
    #[cfg_attr(feature = "openapi", schema(example = "workers"))]
    pub name: String,
    /// Whether it is well.
    pub ok: bool,
    /// More about it.
    #[cfg_attr(
        feature = "openapi",
        schema(example = "every handler has a live worker")
    )]
    pub detail: Option<String>,
}

impl Client {
    /// The state of every queue.
    pub async fn queue_stats(&self) -> Result<Vec<QueueStats>, Error> {
        let stats = sqlx::query_as(QUEUE_STATS).fetch_all(self.pool()).await?;
        Ok(stats)
    }

    /// How many dead letters are open in each namespace, by `dead_letter_stats`; those that have none are left out.
    pub async fn open_dead_letters(&self) -> Result<Vec<OpenDeadLetters>, Error> {
        let open = sqlx::query_as(OPEN_DEAD_LETTERS)
            .fetch_all(self.pool())
            .await?;
        Ok(open)
    }

    /// Whether the extension can run one job of maintenance at a time; version 0.1.0 can't.
    pub async fn has_maintenance_jobs(&self) -> Result<bool, Error> {
        let has = sqlx::query_scalar(
            "select to_regprocedure('tasker.run_maintenance_job(text,integer)') is not null",
        )
        .fetch_one(self.pool())
        .await?;
        Ok(has)
    }

    /// The jobs of maintenance that have something to do, in the order to run them in.
    pub async fn list_due_jobs(&self) -> Result<Vec<String>, Error> {
        let jobs = sqlx::query_scalar("select job from tasker.list_due_jobs()")
            .fetch_all(self.pool())
            .await?;
        Ok(jobs)
    }

    /// Does one bounded batch of one job of maintenance, in a transaction of its own. `None` when another session is at maintenance.
    pub async fn run_maintenance_job(
        &self,
        job: &str,
        batch: u32,
    ) -> Result<Option<JobRun>, Error> {
        let run = sqlx::query_as(
            "select processed, more from tasker.run_maintenance_job(job => $1, batch => $2)",
        )
        .bind(job)
        .bind(i32::try_from(batch).unwrap_or(i32::MAX))
        .fetch_optional(self.pool())
        .await?;
        Ok(run)
    }

    /// Does one bounded batch of every job of maintenance, all in one transaction. Call again while any job says `more`. Does nothing
    /// when another session is at it. For a look by hand; what runs every second calls [`Self::list_due_jobs`] and [`Self::run_maintenance_job`].
    pub async fn run_maintenance(&self, batch: u32) -> Result<Vec<MaintenanceRun>, Error> {
        let runs =
            sqlx::query_as("select job, processed, more from tasker.run_maintenance(batch => $1)")
                .bind(i32::try_from(batch).unwrap_or(i32::MAX))
                .fetch_all(self.pool())
                .await?;
        Ok(runs)
    }

    /// Recomputes the invariants from first principles, for one task or all; empty when all hold.
    pub async fn verify(&self, task_uuid: Option<Uuid>) -> Result<Vec<Violation>, Error> {
        let violations = sqlx::query_as(
            "select invariant, task_uuid, step_uuid, detail from tasker.verify(task_uuid => $1)",
        )
        .bind(task_uuid)
        .fetch_all(self.pool())
        .await?;
        Ok(violations)
    }

    /// The version of the extension.
    pub async fn version(&self) -> Result<String, Error> {
        let version = sqlx::query_scalar("select tasker.version()")
            .fetch_one(self.pool())
            .await?;
        Ok(version)
    }

    /// The checks of the engine's health.
    pub async fn health(&self) -> Result<Vec<HealthCheck>, Error> {
        let checks = sqlx::query_as("select name, ok, detail from tasker.health()")
            .fetch_all(self.pool())
            .await?;
        Ok(checks)
    }
}
