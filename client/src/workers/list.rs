//! Workers as operators see them: who lives, who serves what.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use sqlx::FromRow;

use crate::connection::Client;
use crate::error::Error;

const LIST_WORKERS: &str = "select worker_id, namespaces, handlers, language, version, running, capacity, registered_at, \
    last_seen_at, retired_at, is_live from tasker.list_workers()";

/// A worker that registered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, FromRow)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Worker {
    /// Its id, as it chose it.
    #[cfg_attr(feature = "openapi", schema(example = "worker-1"))]
    pub worker_id: String,
    /// The namespaces that it serves, as far as the caller may read them.
    pub namespaces: Vec<String>,
    /// The handlers that it has.
    pub handlers: Vec<String>,
    /// The language that it is written in.
    #[cfg_attr(feature = "openapi", schema(example = "rust"))]
    pub language: String,
    /// Its version.
    pub version: String,
    /// How many steps it ran at its last heartbeat.
    pub running: i32,
    /// How many it could run.
    pub capacity: i32,
    /// When it registered.
    pub registered_at: DateTime<Utc>,
    /// When it was heard of last.
    pub last_seen_at: DateTime<Utc>,
    /// Since when it is retired.
    pub retired_at: Option<DateTime<Utc>>,
    /// Whether it isn't retired and was heard of within the last minute.
    pub is_live: bool,
}

impl Client {
    /// The workers that registered, also those that are gone for less than seven days.
    pub async fn list_workers(&self) -> Result<Vec<Worker>, Error> {
        let workers = sqlx::query_as(LIST_WORKERS).fetch_all(self.pool()).await?;
        Ok(workers)
    }

    /// Takes a worker that is gone off the list of the live ones; its leases end by themselves. False when it was retired
    /// already; TK004.
    pub async fn retire_worker(&self, worker_id: &str) -> Result<bool, Error> {
        let retired = sqlx::query_scalar("select tasker.retire_worker(worker_id => $1)")
            .bind(worker_id)
            .fetch_one(self.pool())
            .await?;
        Ok(retired)
    }
}
