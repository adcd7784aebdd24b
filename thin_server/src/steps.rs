//! `/v1/tasks/{task_uuid}/workflow_steps`.

use axum::Json;
use axum::extract::State;
use tasker_client::{HistoryRow, Step};
use uuid::Uuid;

use crate::extract::PathParameters;
use crate::page::Page;
use crate::problem::Problem;
use crate::routes::AppState;

pub(crate) async fn list(
    State(state): State<AppState>,
    PathParameters(task_uuid): PathParameters<Uuid>,
) -> Result<Json<Page<Step>>, Problem> {
    Ok(Json(Page::whole(state.client.list_steps(task_uuid).await?)))
}

pub(crate) async fn get(
    State(state): State<AppState>,
    PathParameters((task_uuid, step_uuid)): PathParameters<(Uuid, Uuid)>,
) -> Result<Json<Step>, Problem> {
    Ok(Json(step_of(&state, task_uuid, step_uuid).await?))
}

pub(crate) async fn audit(
    State(state): State<AppState>,
    PathParameters((task_uuid, step_uuid)): PathParameters<(Uuid, Uuid)>,
) -> Result<Json<Page<HistoryRow>>, Problem> {
    let step = step_of(&state, task_uuid, step_uuid).await?;
    Ok(Json(Page::whole(
        state.client.step_history(step.step_uuid).await?,
    )))
}

/// The step, if it is one of the task that the path names.
async fn step_of(state: &AppState, task_uuid: Uuid, step_uuid: Uuid) -> Result<Step, Problem> {
    let step = state.client.get_step(step_uuid).await?;
    if step.task_uuid == task_uuid {
        return Ok(step);
    }
    Err(Problem::step_not_found(format!(
        "task {task_uuid} has no step {step_uuid}"
    )))
}
