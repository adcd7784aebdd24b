//! What a handler keeps and asks while it runs: checkpoints, and the results of the steps before its own.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sqlx::FromRow;
use sqlx::types::Json;
use uuid::Uuid;

use crate::connection::Client;
use crate::error::Error;

/// The most rows that one call of [`Client::get_dependency_results`] gives.
pub const LARGEST_PAGE: u32 = 1000;

const SAVE_CHECKPOINT: &str =
    "select tasker.save_checkpoint(step_uuid => $1, attempt => $2, checkpoint => $3)";

const GET_DEPENDENCY_RESULTS: &str = "select step_uuid, name, instance, state, result, error \
    from tasker.get_dependency_results(step_uuid => $1, transitive => $2, after => $3, \"limit\" => $4)";

/// What became of a step that another depends on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, FromRow)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct DependencyResult {
    /// The step's key.
    pub step_uuid: Uuid,
    /// Its name.
    pub name: String,
    /// Its number among the instances of one step of the template, from 1.
    pub instance: Option<i32>,
    /// Its state.
    pub state: String,
    /// What it returned.
    #[sqlx(json(nullable))]
    pub result: Option<Value>,
    /// Why it failed.
    #[sqlx(json(nullable))]
    pub error: Option<Value>,
}

/// Which steps [`Client::get_dependency_results`] tells of.
#[derive(Debug, Clone, Copy)]
pub struct DependencyPage {
    /// Whether also those that the step depends on through others.
    pub transitive: bool,
    /// The page after this step.
    pub after: Option<Uuid>,
    /// At most so many, [`LARGEST_PAGE`] at the most.
    pub limit: u32,
}

impl Default for DependencyPage {
    fn default() -> Self {
        Self {
            transitive: false,
            after: None,
            limit: LARGEST_PAGE,
        }
    }
}

impl Client {
    /// Keeps how far a claimed step has come: whoever claims it next, after a failure or a crash, is given the last checkpoint.
    /// `attempt` is the one that the claim named; TK011 when another owns the step, TK012 when it was cancelled, TK022 when the
    /// checkpoint is too long.
    pub async fn save_checkpoint(
        &self,
        step_uuid: Uuid,
        attempt: i32,
        checkpoint: &Value,
    ) -> Result<(), Error> {
        sqlx::query(SAVE_CHECKPOINT)
            .bind(step_uuid)
            .bind(attempt)
            .bind(Json(checkpoint))
            .execute(self.pool())
            .await?;
        Ok(())
    }

    /// What became of the steps that a step depends on, a page at a time in the order of keys: those that have left `pending`, first
    /// the steps of the template, then the instances that were made of them.
    pub async fn get_dependency_results(
        &self,
        step_uuid: Uuid,
        page: DependencyPage,
    ) -> Result<Vec<DependencyResult>, Error> {
        let rows = sqlx::query_as(GET_DEPENDENCY_RESULTS)
            .bind(step_uuid)
            .bind(page.transitive)
            .bind(page.after)
            .bind(i32::try_from(page.limit).unwrap_or(i32::MAX))
            .fetch_all(self.pool())
            .await?;
        Ok(rows)
    }
}
