//! Steps repaired by an operator: tried again, completed by hand, settled. Each revives the step's task.

use serde_json::value::RawValue;
use sqlx::types::Json;
use uuid::Uuid;

use crate::connection::Client;
use crate::error::Error;

impl Client {
    /// Lets a step that failed, or that its task's failure cancelled, be tried again from its first attempt. TK002 when there is none,
    /// TK010 from any other state.
    pub async fn reset_step(&self, step_uuid: Uuid, reason: Option<&str>) -> Result<(), Error> {
        sqlx::query("select tasker.reset_step(step_uuid => $1, reason => $2)")
            .bind(step_uuid)
            .bind(reason)
            .execute(self.pool())
            .await?;
        Ok(())
    }

    /// Completes a step that has not ended, or failed, with a result given by hand; a worker that runs it loses its lease. TK021 when
    /// the result doesn't satisfy the step's schema.
    pub async fn complete_step_manually(
        &self,
        step_uuid: Uuid,
        result: &RawValue,
        reason: Option<&str>,
    ) -> Result<(), Error> {
        sqlx::query(
            "select tasker.complete_step_manually(step_uuid => $1, result => $2, reason => $3)",
        )
        .bind(step_uuid)
        .bind(Json(result))
        .bind(reason)
        .execute(self.pool())
        .await?;
        Ok(())
    }

    /// Settles a step that has not ended, or failed, without a result: its dependents see null.
    pub async fn resolve_step(&self, step_uuid: Uuid, reason: Option<&str>) -> Result<(), Error> {
        sqlx::query("select tasker.resolve_step(step_uuid => $1, reason => $2)")
            .bind(step_uuid)
            .bind(reason)
            .execute(self.pool())
            .await?;
        Ok(())
    }
}
