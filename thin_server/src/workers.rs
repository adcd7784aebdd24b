//! `/v1/workers` and `/v1/queues`: who works, and what waits for them.

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use tasker_client::{QueueStats, Worker};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::extract::PathParameters;
use crate::openapi::Refusals;
use crate::page::Page;
use crate::problem::Problem;
use crate::routes::AppState;

/// A worker that is off the list of the live ones.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct RetiredWorker {
    /// Its id.
    worker_id: String,
    /// Whether this request retired it; false when it was retired before.
    retired: bool,
}

pub(crate) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(list))
        .routes(routes!(retire))
        .routes(routes!(queues))
}

/// Lists the workers that registered: what they serve, when each was last heard of, whether it lives.
#[utoipa::path(
    get,
    path = "/v1/workers",
    operation_id = "list_workers",
    tag = "workers",
    responses(
        (status = 200, description = "The workers", body = Page<Worker>),
        Refusals
    ),
    extensions(("x-permission" = json!("system:read")))
)]
pub(crate) async fn list(State(state): State<AppState>) -> Result<Json<Page<Worker>>, Problem> {
    Ok(Json(Page::whole(state.client.list_workers().await?)))
}

/// Takes a worker that is gone off the list of the live ones; its leases end by themselves, and one that registers again is back.
#[utoipa::path(
    delete,
    path = "/v1/workers/{worker_id}",
    operation_id = "retire_worker",
    tag = "workers",
    params(("worker_id" = String, Path, description = "The worker", example = "worker-1")),
    responses(
        (status = 200, description = "It is retired, now or before", body = RetiredWorker),
        Refusals
    ),
    extensions(("x-permission" = json!("system:manage")))
)]
pub(crate) async fn retire(
    State(state): State<AppState>,
    PathParameters(worker_id): PathParameters<String>,
) -> Result<Json<RetiredWorker>, Problem> {
    let retired = state.client.retire_worker(&worker_id).await?;
    Ok(Json(RetiredWorker { worker_id, retired }))
}

/// The queue of each namespace: what can be claimed, what is hidden, how old the oldest message is.
#[utoipa::path(
    get,
    path = "/v1/queues",
    operation_id = "queue_stats",
    tag = "workers",
    responses(
        (status = 200, description = "The queues", body = Page<QueueStats>),
        Refusals
    ),
    extensions(("x-permission" = json!("system:read")))
)]
pub(crate) async fn queues(
    State(state): State<AppState>,
) -> Result<Json<Page<QueueStats>>, Problem> {
    Ok(Json(Page::whole(state.client.queue_stats().await?)))
}
