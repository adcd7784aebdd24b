//! Queues, health, maintenance, verification.

use serde::Serialize;
use sqlx::FromRow;
use uuid::Uuid;

use crate::connection::Client;
use crate::error::Error;

const QUEUE_STATS: &str = "select namespace, queue_name, visible, hidden, oldest_message_age_seconds \
    from tasker.queue_stats()";

/// The queue of one namespace.
#[derive(Debug, Clone, PartialEq, Serialize, FromRow)]
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
}

/// What one job of a maintenance run did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, FromRow)]
pub struct MaintenanceRun {
    /// The job's name.
    pub job: String,
    /// How many rows it moved.
    pub processed: i64,
    /// Whether it stopped at the batch's limit with more to do.
    pub more: bool,
}

/// An invariant that doesn't hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, FromRow)]
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
#[derive(Debug, Clone, PartialEq, Eq, Serialize, FromRow)]
pub struct HealthCheck {
    /// What was checked.
    pub name: String,
    /// Whether it is well.
    pub ok: bool,
    /// More about it.
    pub detail: Option<String>,
}

impl Client {
    /// The state of every queue.
    pub async fn queue_stats(&self) -> Result<Vec<QueueStats>, Error> {
        let stats = sqlx::query_as(QUEUE_STATS).fetch_all(self.pool()).await?;
        Ok(stats)
    }

    /// Does what time must do, in one bounded transaction: due retries, ended leases, lost messages. Call again while any
    /// job says `more`. Does nothing when another session is at it.
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
