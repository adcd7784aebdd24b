//! `/v1/dlq`: dead letters, and tasks over their limits.

use axum::Json;
use axum::extract::{OriginalUri, State};
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use serde::Deserialize;
use tasker_client::{
    DeadLetter, DeadLetterCount, DeadLetterFilter, DeadLetterKey, Investigation, StaleTask,
};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

use crate::extract::{JsonBody, PathParameters, QueryParameters};
use crate::openapi::Refusals;
use crate::page::{self, Page};
use crate::problem::Problem;
use crate::routes::AppState;

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct ListQuery {
    /// Only those of tasks of this namespace.
    #[param(example = "shop")]
    namespace: Option<String>,
    /// Only those opened for this reason: `max_retries_exceeded`, `permanent_failure`, `staleness_timeout`,
    /// `worker_unavailable`, `dependency_cycle_detected` or `manual_dlq`.
    #[param(
        pattern = "^(max_retries_exceeded|permanent_failure|staleness_timeout|worker_unavailable|dependency_cycle_detected|manual_dlq)$",
        example = "max_retries_exceeded"
    )]
    reason: Option<String>,
    /// Only those resolved so: `pending` (the open ones), `manually_resolved`, `permanently_failed` or `cancelled`.
    #[param(
        pattern = "^(pending|manually_resolved|permanently_failed|cancelled)$",
        example = "pending"
    )]
    resolution: Option<String>,
    /// The page after this dead letter.
    after: Option<Uuid>,
    /// At most so many; 50 when left out.
    #[param(minimum = 1, maximum = 500)]
    limit: Option<i32>,
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct QueueQuery {
    /// Only those of tasks of this namespace.
    #[param(example = "shop")]
    namespace: Option<String>,
    /// Only those opened for this reason.
    #[param(
        pattern = "^(max_retries_exceeded|permanent_failure|staleness_timeout|worker_unavailable|dependency_cycle_detected|manual_dlq)$",
        example = "max_retries_exceeded"
    )]
    reason: Option<String>,
    /// The page after this dead letter.
    after: Option<Uuid>,
    /// At most so many; 50 when left out.
    #[param(minimum = 1, maximum = 500)]
    limit: Option<i32>,
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct StaleQuery {
    /// Only those of this namespace.
    #[param(example = "shop")]
    namespace: Option<String>,
    /// The page after this task.
    after: Option<Uuid>,
    /// At most so many; 50 when left out.
    #[param(minimum = 1, maximum = 500)]
    limit: Option<i32>,
}

/// Why a dead letter is opened by hand.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct OpenDeadLetter {
    /// What is to be looked into; it becomes the dead letter's note.
    #[schema(
        min_length = 1,
        max_length = 2000,
        example = "the customer says it was charged twice"
    )]
    reason: String,
}

/// How a dead letter is closed.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ResolveDeadLetter {
    /// `manually_resolved` settles the failed task or instance, `permanently_failed` ends a blocked task in error,
    /// `cancelled` cancels a task that has not ended.
    #[schema(
        pattern = "^(manually_resolved|permanently_failed|cancelled)$",
        example = "manually_resolved"
    )]
    resolution: String,
    /// What was found and done.
    #[schema(example = "refunded by hand")]
    note: Option<String>,
}

pub(crate) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(list))
        .routes(routes!(investigation_queue))
        .routes(routes!(stats))
        .routes(routes!(staleness))
        .routes(routes!(get_of_task, open))
        .routes(routes!(get, resolve))
}

/// Lists dead letters: the open ones (`resolution=pending`) in the order of investigation, otherwise newest first.
#[utoipa::path(
    get,
    path = "/v1/dlq",
    operation_id = "list_dead_letters",
    tag = "dlq",
    params(ListQuery),
    responses(
        (status = 200, description = "A page of them", body = Page<DeadLetter>),
        Refusals
    ),
    extensions(("x-permission" = json!("dlq:read")))
)]
pub(crate) async fn list(
    State(state): State<AppState>,
    OriginalUri(uri): OriginalUri,
    QueryParameters(query): QueryParameters<ListQuery>,
) -> Result<Json<Page<DeadLetter>>, Problem> {
    let limit = page::limit(query.limit)?;
    let filter = DeadLetterFilter {
        namespace: query.namespace,
        reason: query.reason,
        resolution: query.resolution,
        after: query.after,
        limit: Some(limit),
    };
    let items = state.client.list_dead_letters(&filter).await?;
    Ok(Json(Page::part(items, limit, &uri, |item| {
        item.dead_letter_uuid
    })))
}

/// The open dead letters in the order of investigation: highest priority first, then longest open.
#[utoipa::path(
    get,
    path = "/v1/dlq/investigation-queue",
    operation_id = "list_dead_letters_to_investigate",
    tag = "dlq",
    params(QueueQuery),
    responses(
        (status = 200, description = "A page of them", body = Page<DeadLetter>),
        Refusals
    ),
    extensions(("x-permission" = json!("dlq:read")))
)]
pub(crate) async fn investigation_queue(
    State(state): State<AppState>,
    OriginalUri(uri): OriginalUri,
    QueryParameters(query): QueryParameters<QueueQuery>,
) -> Result<Json<Page<DeadLetter>>, Problem> {
    let limit = page::limit(query.limit)?;
    let filter = DeadLetterFilter {
        namespace: query.namespace,
        reason: query.reason,
        resolution: Some("pending".to_owned()),
        after: query.after,
        limit: Some(limit),
    };
    let items = state.client.list_dead_letters(&filter).await?;
    Ok(Json(Page::part(items, limit, &uri, |item| {
        item.dead_letter_uuid
    })))
}

/// How many dead letters there are, by namespace, reason and resolution.
#[utoipa::path(
    get,
    path = "/v1/dlq/stats",
    operation_id = "dead_letter_stats",
    tag = "dlq",
    responses(
        (status = 200, description = "The counts", body = Page<DeadLetterCount>),
        Refusals
    ),
    extensions(("x-permission" = json!("dlq:read")))
)]
pub(crate) async fn stats(
    State(state): State<AppState>,
) -> Result<Json<Page<DeadLetterCount>>, Problem> {
    Ok(Json(Page::whole(state.client.dead_letter_stats().await?)))
}

/// The tasks that are over a limit of their template's lifecycle, oldest first.
#[utoipa::path(
    get,
    path = "/v1/dlq/staleness",
    operation_id = "stale_tasks",
    tag = "dlq",
    params(StaleQuery),
    responses(
        (status = 200, description = "A page of them", body = Page<StaleTask>),
        Refusals
    ),
    extensions(("x-permission" = json!("dlq:read")))
)]
pub(crate) async fn staleness(
    State(state): State<AppState>,
    OriginalUri(uri): OriginalUri,
    QueryParameters(query): QueryParameters<StaleQuery>,
) -> Result<Json<Page<StaleTask>>, Problem> {
    let limit = page::limit(query.limit)?;
    let items = state
        .client
        .stale_tasks(query.namespace.as_deref(), query.after, Some(limit))
        .await?;
    Ok(Json(Page::part(items, limit, &uri, |item| item.task_uuid)))
}

/// The dead letter of a task with its snapshot: the one that is open, or else the newest.
#[utoipa::path(
    get,
    path = "/v1/dlq/task/{task_uuid}",
    operation_id = "get_dead_letter_of_task",
    tag = "dlq",
    params(("task_uuid" = Uuid, Path, description = "The task")),
    responses(
        (status = 200, description = "The dead letter", body = Investigation),
        Refusals
    ),
    extensions(("x-permission" = json!("dlq:read")))
)]
pub(crate) async fn get_of_task(
    State(state): State<AppState>,
    PathParameters(task_uuid): PathParameters<Uuid>,
) -> Result<Json<Investigation>, Problem> {
    let key = DeadLetterKey::Task(task_uuid);
    Ok(Json(state.client.get_dead_letter(key).await?))
}

/// Opens a dead letter for a task by hand; the task itself goes on.
#[utoipa::path(
    post,
    path = "/v1/dlq/task/{task_uuid}",
    operation_id = "open_dead_letter",
    tag = "dlq",
    params(("task_uuid" = Uuid, Path, description = "The task")),
    request_body(content = OpenDeadLetter),
    responses(
        (status = 201, description = "It is open", body = Investigation),
        Refusals
    ),
    extensions(("x-permission" = json!("dlq:update")))
)]
pub(crate) async fn open(
    State(state): State<AppState>,
    PathParameters(task_uuid): PathParameters<Uuid>,
    JsonBody(body): JsonBody<OpenDeadLetter>,
) -> Result<impl IntoResponse, Problem> {
    let uuid = state
        .client
        .open_dead_letter(task_uuid, &body.reason)
        .await?;
    let key = DeadLetterKey::DeadLetter(uuid);
    let dead_letter = state.client.get_dead_letter(key).await?;
    let location = format!("/v1/dlq/entry/{uuid}");
    Ok((
        StatusCode::CREATED,
        [(header::LOCATION, location)],
        Json(dead_letter),
    ))
}

/// A dead letter with its snapshot.
#[utoipa::path(
    get,
    path = "/v1/dlq/entry/{dead_letter_uuid}",
    operation_id = "get_dead_letter",
    tag = "dlq",
    params(("dead_letter_uuid" = Uuid, Path, description = "The dead letter")),
    responses(
        (status = 200, description = "The dead letter", body = Investigation),
        Refusals
    ),
    extensions(("x-permission" = json!("dlq:read")))
)]
pub(crate) async fn get(
    State(state): State<AppState>,
    PathParameters(dead_letter_uuid): PathParameters<Uuid>,
) -> Result<Json<Investigation>, Problem> {
    let key = DeadLetterKey::DeadLetter(dead_letter_uuid);
    Ok(Json(state.client.get_dead_letter(key).await?))
}

/// Closes an open dead letter, which settles, ends or cancels its task where that applies.
#[utoipa::path(
    patch,
    path = "/v1/dlq/entry/{dead_letter_uuid}",
    operation_id = "resolve_dead_letter",
    tag = "dlq",
    params(("dead_letter_uuid" = Uuid, Path, description = "The dead letter")),
    request_body(content = ResolveDeadLetter),
    responses(
        (status = 200, description = "It is closed", body = DeadLetter),
        Refusals
    ),
    extensions(("x-permission" = json!("dlq:update")))
)]
pub(crate) async fn resolve(
    State(state): State<AppState>,
    PathParameters(dead_letter_uuid): PathParameters<Uuid>,
    JsonBody(body): JsonBody<ResolveDeadLetter>,
) -> Result<Json<DeadLetter>, Problem> {
    let dead_letter = state
        .client
        .resolve_dead_letter(dead_letter_uuid, &body.resolution, body.note.as_deref())
        .await?;
    Ok(Json(dead_letter))
}
