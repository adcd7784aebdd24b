//! Tasks steered and explained: cancel, pause, resume, rerun; why a task stands where it stands; what undoes it.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use sqlx::FromRow;
use sqlx::types::Json;
use uuid::Uuid;

use crate::connection::Client;
use crate::error::Error;

/// Version 0.1.0 of the extension knows no compensation.
const CANCEL_TASK: &str = "select tasker.cancel_task(task_uuid => $1, reason => $2)";
const CANCEL_AND_COMPENSATE: &str =
    "select tasker.cancel_task(task_uuid => $1, reason => $2, compensate => true)";

const RERUN_TASK: &str = "select tasker.rerun_task(task_uuid => $1, from_step => $2, with_descendants => $3, context => $4)";

const EXPLAIN_TASK: &str = "select step_uuid, step_name, state, reason, explanation, coalesce(waits_for, '{}') as waits_for, until, \
    worker_id, dead_letter_uuid from tasker.explain_task(task_uuid => $1)";

const LIST_COMPENSATIONS: &str = "select ordinal, step_uuid, name, state, undoes_step_uuid, undoes_name, attempts_used, error \
    from tasker.list_compensations(task_uuid => $1)";

/// How a task is cancelled.
#[derive(Debug, Clone, Copy, Default)]
pub struct CancelOptions<'a> {
    /// Why; kept in the task's history.
    pub reason: Option<&'a str>,
    /// Whether the steps that are complete and name a compensation are undone first, the last one first.
    pub compensate: bool,
}

/// What of a task is run anew, and with which context. The default is all of it with the context it has.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields, default)]
pub struct RerunOptions {
    /// The step to begin with, by its name; the whole task when left out.
    #[cfg_attr(feature = "openapi", schema(max_length = 64, example = "ship_order"))]
    pub from_step: Option<String>,
    /// Whether the steps that follow `from_step` are run anew as well.
    pub with_descendants: bool,
    /// Takes the place of the task's context.
    #[cfg_attr(feature = "openapi", schema(value_type = Option<Object>))]
    pub context: Option<Box<RawValue>>,
}

impl Default for RerunOptions {
    fn default() -> Self {
        Self {
            from_step: None,
            with_descendants: true,
            context: None,
        }
    }
}

/// Why a step of a task doesn't go on, or who runs it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, FromRow)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Explanation {
    /// The step's key; `None` while its task hasn't started.
    pub step_uuid: Option<Uuid>,
    /// Its name.
    pub step_name: String,
    /// Its state.
    #[cfg_attr(feature = "openapi", schema(example = "enqueued"))]
    pub state: String,
    /// A word that programs can rely on: `running`, `lease_ended`, `queued`, `no_worker`, `retry`, `dependency`, `limit`, `compensation`,
    /// `blocked`, `failed`, `evaluation`, `scheduled`, `signal`, `timer`, `child`, `task_paused`, `namespace_paused`.
    #[cfg_attr(feature = "openapi", schema(example = "no_worker"))]
    pub reason: String,
    /// The same in words, with what the word leaves open.
    #[cfg_attr(
        feature = "openapi",
        schema(example = "no live worker serves shop.ship in namespace shop")
    )]
    pub explanation: String,
    /// The names of the steps it waits for.
    pub waits_for: Vec<String>,
    /// The next time at which something happens by itself.
    pub until: Option<DateTime<Utc>>,
    /// Who runs it, or ran it last.
    pub worker_id: Option<String>,
    /// The open dead letter that says more.
    pub dead_letter_uuid: Option<Uuid>,
}

/// What undoes a step of a task that failed or was cancelled.
#[derive(Debug, Clone, Serialize, Deserialize, FromRow)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Compensation {
    /// Its place in the order in which they run, from 1: the reverse of the order in which the steps were completed.
    pub ordinal: i64,
    /// Its key: it is a step itself.
    pub step_uuid: Uuid,
    /// Its name.
    #[cfg_attr(feature = "openapi", schema(example = "charge_compensation"))]
    pub name: String,
    /// Its state.
    #[cfg_attr(feature = "openapi", schema(example = "enqueued"))]
    pub state: String,
    /// The key of the step that it undoes.
    pub undoes_step_uuid: Uuid,
    /// The name of the step that it undoes.
    #[cfg_attr(feature = "openapi", schema(example = "charge"))]
    pub undoes_name: String,
    /// Claims so far that weren't given back.
    pub attempts_used: i32,
    /// Why its last attempt failed.
    #[cfg_attr(feature = "openapi", schema(value_type = serde_json::Value))]
    #[sqlx(json(nullable))]
    pub error: Option<Box<RawValue>>,
}

impl Client {
    /// Cancels a task and what it has not finished. True when this call did it, false when it was cancelled before; TK010 when it has
    /// ended otherwise.
    pub async fn cancel_task(&self, task_uuid: Uuid, reason: Option<&str>) -> Result<bool, Error> {
        let options = CancelOptions {
            reason,
            ..CancelOptions::default()
        };
        self.cancel_task_with(task_uuid, options).await
    }

    /// [`Client::cancel_task`] with all its options.
    pub async fn cancel_task_with(
        &self,
        task_uuid: Uuid,
        options: CancelOptions<'_>,
    ) -> Result<bool, Error> {
        let statement = if options.compensate {
            CANCEL_AND_COMPENSATE
        } else {
            CANCEL_TASK
        };
        let cancelled = sqlx::query_scalar(statement)
            .bind(task_uuid)
            .bind(options.reason)
            .fetch_one(self.pool())
            .await?;
        Ok(cancelled)
    }

    /// Pauses a task: its running steps finish, all others wait. True when this call did it, false when it was paused before; TK010
    /// when it has ended.
    pub async fn pause_task(&self, task_uuid: Uuid, reason: Option<&str>) -> Result<bool, Error> {
        let paused = sqlx::query_scalar("select tasker.pause_task(task_uuid => $1, reason => $2)")
            .bind(task_uuid)
            .bind(reason)
            .fetch_one(self.pool())
            .await?;
        Ok(paused)
    }

    /// Resumes a paused task. True when this call did it, false when it wasn't paused.
    pub async fn resume_task(&self, task_uuid: Uuid) -> Result<bool, Error> {
        let resumed = sqlx::query_scalar("select tasker.resume_task(task_uuid => $1)")
            .bind(task_uuid)
            .fetch_one(self.pool())
            .await?;
        Ok(resumed)
    }

    /// Runs a task that has ended, or is blocked by failures, anew in place; the results of other steps are kept. TK010 while it goes on.
    pub async fn rerun_task(&self, task_uuid: Uuid, options: &RerunOptions) -> Result<(), Error> {
        sqlx::query(RERUN_TASK)
            .bind(task_uuid)
            .bind(&options.from_step)
            .bind(options.with_descendants)
            .bind(options.context.as_deref().map(Json))
            .execute(self.pool())
            .await?;
        Ok(())
    }

    /// For each step of a task that has neither succeeded nor been cancelled: why it doesn't go on and until when, or who runs it.
    /// Empty for a task that has ended well.
    pub async fn explain_task(&self, task_uuid: Uuid) -> Result<Vec<Explanation>, Error> {
        let rows = sqlx::query_as(EXPLAIN_TASK)
            .bind(task_uuid)
            .fetch_all(self.pool())
            .await?;
        Ok(rows)
    }

    /// What undoes the steps of a task that failed or was cancelled, in the order in which it runs; empty before that.
    pub async fn list_compensations(&self, task_uuid: Uuid) -> Result<Vec<Compensation>, Error> {
        let rows = sqlx::query_as(LIST_COMPENSATIONS)
            .bind(task_uuid)
            .fetch_all(self.pool())
            .await?;
        Ok(rows)
    }
}
