//! Signals: send one to a task, list those that its steps wait for.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use sqlx::FromRow;
use sqlx::types::Json;
use uuid::Uuid;

use crate::connection::Client;
use crate::error::Error;

const LIST_SIGNALS: &str = "select name, step_names, waiting, payload, sent_at, sent_by from tasker.list_signals(task_uuid => $1)";

/// A signal that steps of a task wait for at some time.
#[derive(Debug, Clone, Serialize, Deserialize, FromRow)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Signal {
    /// Its name.
    #[cfg_attr(feature = "openapi", schema(example = "approval"))]
    pub name: String,
    /// The names of the steps that wait for it at some time.
    pub step_names: Vec<String>,
    /// Whether one of them waits now.
    pub waiting: bool,
    /// What was sent.
    #[cfg_attr(feature = "openapi", schema(value_type = serde_json::Value))]
    #[sqlx(json(nullable))]
    pub payload: Option<Box<RawValue>>,
    /// When it was sent; `None` before.
    pub sent_at: Option<DateTime<Utc>>,
    /// Who sent it.
    pub sent_by: Option<String>,
}

impl Client {
    /// Sends a signal to a task, once: the steps that wait for its name complete with the payload, and one that comes early is kept for
    /// them. True when this call sent it, false when it had been sent before, whose payload stays.
    ///
    /// TK004 for a name that no step of the task's template waits for, TK010 and TK012 for a task that has ended, TK021 for a payload
    /// that doesn't satisfy the step's schema.
    pub async fn send_signal(
        &self,
        task_uuid: Uuid,
        name: &str,
        payload: Option<&RawValue>,
    ) -> Result<bool, Error> {
        let sent = sqlx::query_scalar(
            "select tasker.send_signal(task_uuid => $1, name => $2, payload => $3)",
        )
        .bind(task_uuid)
        .bind(name)
        .bind(payload.map(Json))
        .fetch_one(self.pool())
        .await?;
        Ok(sent)
    }

    /// The signals that a task's steps wait for at some time, in the order of the graph, and what was sent.
    pub async fn list_signals(&self, task_uuid: Uuid) -> Result<Vec<Signal>, Error> {
        let signals = sqlx::query_as(LIST_SIGNALS)
            .bind(task_uuid)
            .fetch_all(self.pool())
            .await?;
        Ok(signals)
    }
}
