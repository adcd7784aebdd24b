//! `/v1/tasks/{task_uuid}/…`: pause, resume, rerun; why a task stands where it stands, and what undoes it.

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use tasker_client::{Compensation, Explanation, RerunOptions, Task};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

use crate::extract::{OptionalJsonBody, PathParameters};
use crate::openapi::Refusals;
use crate::page::Page;
use crate::problem::Problem;
use crate::routes::AppState;

/// Why it is done.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct PauseRequest {
    /// Kept with the task until it is resumed.
    #[schema(example = "the payment provider is down")]
    reason: Option<String>,
}

/// A request without anything in it.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct EmptyRequest {}

/// The task's row, and whether this request paused it.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Paused {
    #[serde(flatten)]
    task: Task,
    /// False when it was paused before.
    paused: bool,
}

/// The task's row, and whether this request resumed it.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Resumed {
    #[serde(flatten)]
    task: Task,
    /// False when it wasn't paused.
    resumed: bool,
}

pub(crate) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(pause))
        .routes(routes!(resume))
        .routes(routes!(rerun))
        .routes(routes!(explain))
        .routes(routes!(compensations))
}

/// Pauses a task: its running steps finish, all others wait until it is resumed.
#[utoipa::path(
    post,
    path = "/v1/tasks/{task_uuid}/pause",
    operation_id = "pause_task",
    tag = "tasks",
    params(("task_uuid" = Uuid, Path, description = "The task")),
    request_body(content = Option<PauseRequest>, description = "May be left out"),
    responses(
        (status = 200, description = "It is paused, now or before", body = Paused),
        Refusals
    ),
    extensions(("x-permission" = json!("tasks:manage")))
)]
pub(crate) async fn pause(
    State(state): State<AppState>,
    PathParameters(task_uuid): PathParameters<Uuid>,
    OptionalJsonBody(request): OptionalJsonBody<PauseRequest>,
) -> Result<Json<Paused>, Problem> {
    let client = &state.client;
    let paused = client
        .pause_task(task_uuid, request.reason.as_deref())
        .await?;
    let task = client.get_task(task_uuid).await?;
    Ok(Json(Paused { task, paused }))
}

/// Resumes a paused task: what waited goes on.
#[utoipa::path(
    post,
    path = "/v1/tasks/{task_uuid}/resume",
    operation_id = "resume_task",
    tag = "tasks",
    params(("task_uuid" = Uuid, Path, description = "The task")),
    request_body(content = Option<EmptyRequest>, description = "May be left out"),
    responses(
        (status = 200, description = "It goes on, now or before", body = Resumed),
        Refusals
    ),
    extensions(("x-permission" = json!("tasks:manage")))
)]
pub(crate) async fn resume(
    State(state): State<AppState>,
    PathParameters(task_uuid): PathParameters<Uuid>,
    OptionalJsonBody(EmptyRequest {}): OptionalJsonBody<EmptyRequest>,
) -> Result<Json<Resumed>, Problem> {
    let resumed = state.client.resume_task(task_uuid).await?;
    let task = state.client.get_task(task_uuid).await?;
    Ok(Json(Resumed { task, resumed }))
}

/// Runs a task that has ended, or is blocked by failures, anew in place: all of it, or from a step on.
#[utoipa::path(
    post,
    path = "/v1/tasks/{task_uuid}/rerun",
    operation_id = "rerun_task",
    tag = "tasks",
    params(("task_uuid" = Uuid, Path, description = "The task")),
    request_body(content = Option<RerunOptions>, description = "May be left out"),
    responses(
        (status = 200, description = "It runs again", body = Task),
        Refusals
    ),
    extensions(("x-permission" = json!("tasks:manage")))
)]
pub(crate) async fn rerun(
    State(state): State<AppState>,
    PathParameters(task_uuid): PathParameters<Uuid>,
    OptionalJsonBody(options): OptionalJsonBody<RerunOptions>,
) -> Result<Json<Task>, Problem> {
    state.client.rerun_task(task_uuid, &options).await?;
    Ok(Json(state.client.get_task(task_uuid).await?))
}

/// Says of each step of a task that has neither succeeded nor been cancelled why it doesn't go on and until when, or who runs it.
#[utoipa::path(
    get,
    path = "/v1/tasks/{task_uuid}/explain",
    operation_id = "explain_task",
    tag = "tasks",
    params(("task_uuid" = Uuid, Path, description = "The task")),
    responses(
        (status = 200, description = "The explanations; none for a task that has ended well", body = Page<Explanation>),
        Refusals
    ),
    extensions(("x-permission" = json!("tasks:read")))
)]
pub(crate) async fn explain(
    State(state): State<AppState>,
    PathParameters(task_uuid): PathParameters<Uuid>,
) -> Result<Json<Page<Explanation>>, Problem> {
    let explanations = state.client.explain_task(task_uuid).await?;
    Ok(Json(Page::whole(explanations)))
}

/// What undoes the steps of a task that failed or was cancelled, in the order in which it runs.
#[utoipa::path(
    get,
    path = "/v1/tasks/{task_uuid}/compensations",
    operation_id = "list_compensations",
    tag = "tasks",
    params(("task_uuid" = Uuid, Path, description = "The task")),
    responses(
        (status = 200, description = "The compensations; none before there is something to undo", body = Page<Compensation>),
        Refusals
    ),
    extensions(("x-permission" = json!("tasks:read")))
)]
pub(crate) async fn compensations(
    State(state): State<AppState>,
    PathParameters(task_uuid): PathParameters<Uuid>,
) -> Result<Json<Page<Compensation>>, Problem> {
    let compensations = state.client.list_compensations(task_uuid).await?;
    Ok(Json(Page::whole(compensations)))
}
