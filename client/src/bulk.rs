//! Bulk jobs: one action on every task that a filter finds, done by maintenance in batches.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use sqlx::FromRow;
use sqlx::types::Json;
use uuid::Uuid;

use crate::connection::Client;
use crate::error::Error;

/// `list_bulk_jobs` returns so many when the caller doesn't say.
const DEFAULT_PAGE: i32 = 50;

const APPLY_TO_TASKS: &str = "select job_uuid, matched, more, sample \
    from tasker.apply_to_tasks(filter => $1, action => $2, dry_run => $3, reason => $4)";

const LIST_BULK_JOBS: &str = "select job_uuid, action, filter, reason, created_at, created_by, seen, changed, refused, last_refusal, \
    finished_at from tasker.list_bulk_jobs(after => $1, \"limit\" => $2)";

/// What is done to each task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum BulkAction {
    /// Cancel it.
    Cancel,
    /// Pause it.
    Pause,
    /// Resume it.
    Resume,
    /// Run it anew.
    Rerun,
    /// Let its failed steps be tried again.
    ResetFailed,
    /// Settle its failed steps without results.
    ResolveFailed,
}

impl BulkAction {
    /// The word that the database knows it by.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Cancel => "cancel",
            Self::Pause => "pause",
            Self::Resume => "resume",
            Self::Rerun => "rerun",
            Self::ResetFailed => "reset_failed",
            Self::ResolveFailed => "resolve_failed",
        }
    }
}

/// Which tasks: all that fit every field that is set. Without any, every task.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct BulkFilter {
    /// Of this namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(example = "shop"))]
    pub namespace: Option<String>,
    /// Of this template.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(example = "order_fulfillment"))]
    pub template_name: Option<String>,
    /// In one of these states.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(example = json!(["error"])))]
    pub states: Option<Vec<String>>,
    /// With all of these tags.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tags: Option<Vec<String>>,
    /// Whose context contains this.
    #[cfg_attr(feature = "openapi", schema(value_type = Option<Object>))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context_contains: Option<Box<RawValue>>,
    /// Created at this time or later.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_after: Option<DateTime<Utc>>,
    /// Created before this time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_before: Option<DateTime<Utc>>,
}

/// What a filter finds now, and the job that was made of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, FromRow)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct BulkMatches {
    /// The job; `None` for a dry run.
    pub job_uuid: Option<Uuid>,
    /// How many tasks are found, up to 1000.
    pub matched: i32,
    /// Whether there may be more.
    pub more: bool,
    /// The ten newest of them.
    pub sample: Vec<Uuid>,
}

/// A job that does one action to many tasks.
#[derive(Debug, Clone, Serialize, Deserialize, FromRow)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct BulkJob {
    /// The job's key.
    pub job_uuid: Uuid,
    /// What it does to each task.
    #[cfg_attr(feature = "openapi", schema(example = "reset_failed"))]
    pub action: String,
    /// Which tasks it does it to.
    #[cfg_attr(feature = "openapi", schema(value_type = BulkFilter))]
    #[sqlx(json)]
    pub filter: Box<RawValue>,
    /// Why.
    pub reason: Option<String>,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// The role that made it.
    pub created_by: String,
    /// How many tasks it has come by.
    pub seen: i64,
    /// How many of them it changed.
    pub changed: i64,
    /// How many of them refused the action.
    pub refused: i64,
    /// The last refusal: `{task_uuid, code, message}`.
    #[cfg_attr(feature = "openapi", schema(value_type = serde_json::Value))]
    #[sqlx(json(nullable))]
    pub last_refusal: Option<Box<RawValue>>,
    /// When it was done or cancelled; `None` while it goes on.
    pub finished_at: Option<DateTime<Utc>>,
}

impl Client {
    /// Does an action to every task that a filter finds. A dry run only shows what it finds; otherwise maintenance does it in batches,
    /// as a job that survives restarts.
    pub async fn apply_to_tasks(
        &self,
        filter: &BulkFilter,
        action: BulkAction,
        dry_run: bool,
        reason: Option<&str>,
    ) -> Result<BulkMatches, Error> {
        let matches = sqlx::query_as(APPLY_TO_TASKS)
            .bind(Json(filter))
            .bind(action.as_str())
            .bind(dry_run)
            .bind(reason)
            .fetch_one(self.pool())
            .await?;
        Ok(matches)
    }

    /// Bulk jobs, newest first, a page at a time: `after` is the last key of the page before.
    pub async fn list_bulk_jobs(
        &self,
        after: Option<Uuid>,
        limit: Option<i32>,
    ) -> Result<Vec<BulkJob>, Error> {
        let jobs = sqlx::query_as(LIST_BULK_JOBS)
            .bind(after)
            .bind(limit.unwrap_or(DEFAULT_PAGE))
            .fetch_all(self.pool())
            .await?;
        Ok(jobs)
    }

    /// Ends a bulk job where it is; what it did stays done. True when this call ended it; TK004 when there is none.
    pub async fn cancel_bulk_job(&self, job_uuid: Uuid) -> Result<bool, Error> {
        let cancelled = sqlx::query_scalar("select tasker.cancel_bulk_job(job_uuid => $1)")
            .bind(job_uuid)
            .fetch_one(self.pool())
            .await?;
        Ok(cancelled)
    }
}
