//! `/v1/tasks/bulk`.

use axum::Json;
use axum::extract::{OriginalUri, State};
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use tasker_client::{BulkAction, BulkFilter, BulkJob, BulkMatches};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

use crate::extract::{JsonBody, PathParameters, QueryParameters};
use crate::object;
use crate::openapi::Refusals;
use crate::page::{self, Page};
use crate::problem::Problem;
use crate::routes::AppState;

/// What to do to which tasks.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct BulkRequest {
    /// Which tasks; an empty object for all of them.
    #[serde(deserialize_with = "object::object")]
    filter: BulkFilter,
    /// What is done to each.
    action: BulkAction,
    /// Only show what the filter finds.
    #[serde(default = "yes")]
    #[schema(default = true)]
    dry_run: bool,
    /// Why; kept in the history of each task.
    #[serde(default)]
    #[schema(max_length = 1000)]
    reason: Option<String>,
}

fn yes() -> bool {
    true
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct ListQuery {
    /// The page after this job.
    after: Option<Uuid>,
    /// At most so many.
    #[param(minimum = 1, maximum = 500)]
    limit: Option<i32>,
}

/// What became of a job.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct CancelledJob {
    /// The job.
    job_uuid: Uuid,
    /// False when it had ended before.
    cancelled: bool,
}

pub(crate) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(list, apply))
        .routes(routes!(cancel))
}

/// Does one action to every task that a filter finds, in the background. By default it only shows what the filter finds.
#[utoipa::path(
    post,
    path = "/v1/tasks/bulk",
    operation_id = "apply_to_tasks",
    tag = "tasks",
    request_body(
        content = BulkRequest,
        example = json!({"filter": {"namespace": "shop", "states": ["error"]}, "action": "reset_failed", "dry_run": true})
    ),
    responses(
        (status = 200, description = "A dry run: what the filter finds now", body = BulkMatches),
        (status = 202, description = "The job is made, and goes on in the background", body = BulkMatches),
        Refusals
    ),
    extensions(("x-permission" = json!("tasks:manage")))
)]
pub(crate) async fn apply(
    State(state): State<AppState>,
    JsonBody(request): JsonBody<BulkRequest>,
) -> Result<(StatusCode, Json<BulkMatches>), Problem> {
    let matches = state
        .client
        .apply_to_tasks(
            &request.filter,
            request.action,
            request.dry_run,
            request.reason.as_deref(),
        )
        .await?;
    let status = if matches.job_uuid.is_some() {
        StatusCode::ACCEPTED
    } else {
        StatusCode::OK
    };
    Ok((status, Json(matches)))
}

/// Lists bulk jobs, newest first, with how far each has come.
#[utoipa::path(
    get,
    path = "/v1/tasks/bulk",
    operation_id = "list_bulk_jobs",
    tag = "tasks",
    params(ListQuery),
    responses(
        (status = 200, description = "A page of them", body = Page<BulkJob>),
        Refusals
    ),
    extensions(("x-permission" = json!("tasks:manage")))
)]
pub(crate) async fn list(
    State(state): State<AppState>,
    OriginalUri(uri): OriginalUri,
    QueryParameters(query): QueryParameters<ListQuery>,
) -> Result<Json<Page<BulkJob>>, Problem> {
    let limit = page::limit(query.limit)?;
    let items = state
        .client
        .list_bulk_jobs(query.after, Some(limit))
        .await?;
    let full = i32::try_from(items.len()).is_ok_and(|count| count == limit);
    let next = items
        .last()
        .filter(|_| full)
        .map(|last| page::next_link(&uri, last.job_uuid));
    Ok(Json(Page { items, next }))
}

/// Ends a bulk job where it is; what it did stays done.
#[utoipa::path(
    delete,
    path = "/v1/tasks/bulk/{job_uuid}",
    operation_id = "cancel_bulk_job",
    tag = "tasks",
    params(("job_uuid" = Uuid, Path, description = "The job")),
    responses(
        (status = 200, description = "It has ended, now or before", body = CancelledJob),
        Refusals
    ),
    extensions(("x-permission" = json!("tasks:manage")))
)]
pub(crate) async fn cancel(
    State(state): State<AppState>,
    PathParameters(job_uuid): PathParameters<Uuid>,
) -> Result<Json<CancelledJob>, Problem> {
    let cancelled = state.client.cancel_bulk_job(job_uuid).await?;
    Ok(Json(CancelledJob {
        job_uuid,
        cancelled,
    }))
}
