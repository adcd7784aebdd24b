//! `/v1/tasks/{task_uuid}/workflow_steps`.

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use tasker_client::{HistoryRow, Step};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

use crate::extract::{JsonBody, PathParameters};
use crate::openapi::Refusals;
use crate::page::Page;
use crate::problem::Problem;
use crate::routes::AppState;

/// What an operator does to a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ActionType {
    /// A failed step, or one that its task's failure cancelled, is tried again from its first attempt.
    ResetForRetry,
    /// A step that has not ended, or failed, is settled without a result: its dependents see null.
    ResolveManually,
    /// A step that has not ended, or failed, is completed with a result given by hand.
    CompleteManually,
}

/// What to do to a step.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RepairRequest {
    /// Which of the three.
    action_type: ActionType,
    /// Why; kept in the step's history.
    #[schema(max_length = 1000, example = "the provider confirmed it by phone")]
    #[serde(default)]
    reason: Option<String>,
    /// The result, of `complete_manually` only, and needed there; it may be null.
    #[schema(value_type = serde_json::Value)]
    #[serde(default, deserialize_with = "given")]
    result: Option<Box<RawValue>>,
}

/// A result of null is a result.
fn given<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Box<RawValue>>, D::Error> {
    Box::<RawValue>::deserialize(deserializer).map(Some)
}

pub(crate) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(list))
        .routes(routes!(get, repair))
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

/// Repairs a step, and revives its task: reset it, settle it, or complete it by hand.
#[utoipa::path(
    patch,
    path = "/v1/tasks/{task_uuid}/workflow_steps/{step_uuid}",
    operation_id = "repair_step",
    tag = "workflow_steps",
    params(("task_uuid" = Uuid, Path, description = "The task"), ("step_uuid" = Uuid, Path, description = "The step")),
    request_body(
        content = RepairRequest,
        example = json!({"action_type": "reset_for_retry", "reason": "the provider is up again"})
    ),
    responses(
        (status = 200, description = "It is done: the step as it is now", body = Step),
        Refusals
    ),
    extensions(("x-permission" = json!("steps:resolve")))
)]
pub(crate) async fn repair(
    State(state): State<AppState>,
    PathParameters((task_uuid, step_uuid)): PathParameters<(Uuid, Uuid)>,
    JsonBody(request): JsonBody<RepairRequest>,
) -> Result<Json<Step>, Problem> {
    let step_uuid = step_of(&state, task_uuid, step_uuid).await?.step_uuid;
    let client = &state.client;
    let reason = request.reason.as_deref();
    match (request.action_type, request.result.as_deref()) {
        (ActionType::ResetForRetry, None) => client.reset_step(step_uuid, reason).await?,
        (ActionType::ResolveManually, None) => client.resolve_step(step_uuid, reason).await?,
        (ActionType::CompleteManually, Some(result)) => {
            client
                .complete_step_manually(step_uuid, result, reason)
                .await?;
        }
        (ActionType::CompleteManually, None) => {
            return Err(Problem::bad_parameter(
                "complete_manually needs a result; it may be null",
            ));
        }
        (ActionType::ResetForRetry | ActionType::ResolveManually, Some(_)) => {
            return Err(Problem::bad_parameter(
                "a result is given with complete_manually only",
            ));
        }
    }
    Ok(Json(client.get_step(step_uuid).await?))
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
