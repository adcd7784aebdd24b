//! `/v1/tasks/{task_uuid}/signals`.

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tasker_client::Signal;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

use crate::extract::{OptionalJsonBody, PathParameters};
use crate::openapi::Refusals;
use crate::page::Page;
use crate::problem::Problem;
use crate::routes::AppState;

/// What is sent.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct SignalRequest {
    /// The result of the steps that wait for the signal; null when left out.
    #[schema(value_type = serde_json::Value, example = json!({"approved": true}))]
    payload: Option<Box<RawValue>>,
}

/// What became of a signal.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct SignalAnswer {
    /// The task.
    task_uuid: Uuid,
    /// The signal's name.
    #[schema(example = "approval")]
    name: String,
    /// False when it had been sent before: that payload stays.
    sent: bool,
}

pub(crate) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(list))
        .routes(routes!(send))
}

/// The signals that a task's steps wait for at some time, and what was sent.
#[utoipa::path(
    get,
    path = "/v1/tasks/{task_uuid}/signals",
    operation_id = "list_signals",
    tag = "tasks",
    params(("task_uuid" = Uuid, Path, description = "The task")),
    responses(
        (status = 200, description = "The signals, in the order of the graph", body = Page<Signal>),
        Refusals
    ),
    extensions(("x-permission" = json!("tasks:read")))
)]
pub(crate) async fn list(
    State(state): State<AppState>,
    PathParameters(task_uuid): PathParameters<Uuid>,
) -> Result<Json<Page<Signal>>, Problem> {
    Ok(Json(Page::whole(
        state.client.list_signals(task_uuid).await?,
    )))
}

/// Sends a signal to a task, once: the steps that wait for its name complete with the payload; one that comes early is kept.
#[utoipa::path(
    post,
    path = "/v1/tasks/{task_uuid}/signals/{name}",
    operation_id = "send_signal",
    tag = "tasks",
    params(
        ("task_uuid" = Uuid, Path, description = "The task"),
        ("name" = String, Path, description = "The signal's name, as the template says it", example = "approval")
    ),
    request_body(content = Option<SignalRequest>, description = "May be left out: a payload of null"),
    responses(
        (status = 200, description = "It is sent, now or before", body = SignalAnswer),
        Refusals
    ),
    extensions(("x-permission" = json!("tasks:manage")))
)]
pub(crate) async fn send(
    State(state): State<AppState>,
    PathParameters((task_uuid, name)): PathParameters<(Uuid, String)>,
    OptionalJsonBody(request): OptionalJsonBody<SignalRequest>,
) -> Result<Json<SignalAnswer>, Problem> {
    let sent = state
        .client
        .send_signal(task_uuid, &name, request.payload.as_deref())
        .await?;
    Ok(Json(SignalAnswer {
        task_uuid,
        name,
        sent,
    }))
}
