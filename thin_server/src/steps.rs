//! `/v1/tasks/{task_uuid}/workflow_steps`.

use axum::Json;
use axum::extract::State;
use tasker_client::{HistoryRow, Step};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

use crate::extract::PathParameters;
use crate::openapi::Refusals;
use crate::page::Page;
use crate::problem::Problem;
use crate::routes::AppState;

pub(crate) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(list))
        .routes(routes!(get))
        .routes(routes!(audit))
}

/// The steps of a task, in topological order.
#[utoipa::path(
    get,
    path = "/v1/tasks/{task_uuid}/workflow_steps",
    operation_id = "list_steps",
    tag = "workflow_steps",
    params(("task_uuid" = Uuid, Path, description = "The task")),
    responses(
        (status = 200, description = "The steps", body = Page<Step>),
        Refusals
    ),
    extensions(("x-permission" = json!("steps:read")))
)]
pub(crate) async fn list(
    State(state): State<AppState>,
    PathParameters(task_uuid): PathParameters<Uuid>,
) -> Result<Json<Page<Step>>, Problem> {
    Ok(Json(Page::whole(state.client.list_steps(task_uuid).await?)))
}

/// A step as it is now.
#[utoipa::path(
    get,
    path = "/v1/tasks/{task_uuid}/workflow_steps/{step_uuid}",
    operation_id = "get_step",
    tag = "workflow_steps",
    params(("task_uuid" = Uuid, Path, description = "The task"), ("step_uuid" = Uuid, Path, description = "The step")),
    responses(
        (status = 200, description = "The step", body = Step),
        Refusals
    ),
    extensions(("x-permission" = json!("steps:read")))
)]
pub(crate) async fn get(
    State(state): State<AppState>,
    PathParameters((task_uuid, step_uuid)): PathParameters<(Uuid, Uuid)>,
) -> Result<Json<Step>, Problem> {
    Ok(Json(step_of(&state, task_uuid, step_uuid).await?))
}

/// Every transition of a step, oldest first.
#[utoipa::path(
    get,
    path = "/v1/tasks/{task_uuid}/workflow_steps/{step_uuid}/audit",
    operation_id = "step_history",
    tag = "workflow_steps",
    params(("task_uuid" = Uuid, Path, description = "The task"), ("step_uuid" = Uuid, Path, description = "The step")),
    responses(
        (status = 200, description = "The transitions", body = Page<HistoryRow>),
        Refusals
    ),
    extensions(("x-permission" = json!("steps:read")))
)]
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
