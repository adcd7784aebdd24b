//! `/v1/schedules`. The namespace of a schedule that is named in the path is in the query.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use tasker_client::{NewSchedule, Schedule};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::extract::{JsonBody, PathParameters, QueryParameters};
use crate::openapi::Refusals;
use crate::page::Page;
use crate::problem::Problem;
use crate::routes::AppState;

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct ListQuery {
    /// Only those of this namespace.
    #[param(example = "data")]
    namespace: Option<String>,
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct NamespaceQuery {
    /// The namespace of the schedule; `default` when left out.
    #[param(example = "data")]
    #[serde(default = "default_namespace")]
    namespace: String,
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct PauseQuery {
    /// The namespace of the schedule; `default` when left out.
    #[param(example = "data")]
    #[serde(default = "default_namespace")]
    namespace: String,
    /// Why; shown while it is paused.
    #[param(max_length = 1000, example = "the bank is down")]
    reason: Option<String>,
}

fn default_namespace() -> String {
    "default".to_owned()
}

/// The times to run: from one on and before another.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Backfill {
    /// The first time to run.
    #[schema(example = "2026-01-01T00:00:00Z")]
    from: DateTime<Utc>,
    /// The time before which to stop.
    #[schema(example = "2026-01-08T00:00:00Z")]
    to: DateTime<Utc>,
}

/// What a backfill came to.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Backfilled {
    /// How many tasks were created; times that had theirs before get no other.
    created: i32,
}

/// A schedule that is paused.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct PausedSchedule {
    /// Its namespace.
    namespace: String,
    /// Its name.
    #[schema(example = "nightly")]
    name: String,
    /// Whether this request paused it; false when it was paused before.
    paused: bool,
}

/// A schedule that isn't paused.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ResumedSchedule {
    /// Its namespace.
    namespace: String,
    /// Its name.
    #[schema(example = "nightly")]
    name: String,
    /// Whether this request resumed it; false when it wasn't paused.
    resumed: bool,
}

pub(crate) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(list, create))
        .routes(routes!(delete))
        .routes(routes!(pause))
        .routes(routes!(resume))
        .routes(routes!(backfill))
}

/// Lists schedules: when each is due next, what came of its last time, who paused it.
#[utoipa::path(
    get,
    path = "/v1/schedules",
    operation_id = "list_schedules",
    tag = "schedules",
    params(ListQuery),
    responses(
        (status = 200, description = "The schedules, by namespace and name", body = Page<Schedule>),
        Refusals
    ),
    extensions(("x-permission" = json!("system:read")))
)]
pub(crate) async fn list(
    State(state): State<AppState>,
    QueryParameters(query): QueryParameters<ListQuery>,
) -> Result<Json<Page<Schedule>>, Problem> {
    let schedules = state
        .client
        .list_schedules(query.namespace.as_deref())
        .await?;
    Ok(Json(Page::whole(schedules)))
}

/// Creates a schedule: from now on a task of its template is created whenever it is due.
#[utoipa::path(
    post,
    path = "/v1/schedules",
    operation_id = "create_schedule",
    tag = "schedules",
    request_body(content = NewSchedule),
    responses(
        (status = 201, description = "It is created", body = Schedule),
        Refusals
    ),
    extensions(("x-permission" = json!("schedules:write")))
)]
pub(crate) async fn create(
    State(state): State<AppState>,
    JsonBody(new): JsonBody<NewSchedule>,
) -> Result<(StatusCode, Json<Schedule>), Problem> {
    let schedule = state.client.create_schedule(&new).await?;
    Ok((StatusCode::CREATED, Json(schedule)))
}

/// Deletes a schedule; the tasks that it created stay and go on.
#[utoipa::path(
    delete,
    path = "/v1/schedules/{name}",
    operation_id = "delete_schedule",
    tag = "schedules",
    params(("name" = String, Path, description = "The schedule", example = "nightly"), NamespaceQuery),
    responses(
        (status = 204, description = "It is gone"),
        Refusals
    ),
    extensions(("x-permission" = json!("schedules:write")))
)]
pub(crate) async fn delete(
    State(state): State<AppState>,
    PathParameters(name): PathParameters<String>,
    QueryParameters(query): QueryParameters<NamespaceQuery>,
) -> Result<StatusCode, Problem> {
    state
        .client
        .delete_schedule(&name, &query.namespace)
        .await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Pauses a schedule: it creates no tasks until it is resumed.
#[utoipa::path(
    post,
    path = "/v1/schedules/{name}/pause",
    operation_id = "pause_schedule",
    tag = "schedules",
    params(("name" = String, Path, description = "The schedule", example = "nightly"), PauseQuery),
    responses(
        (status = 200, description = "It is paused, now or before", body = PausedSchedule),
        Refusals
    ),
    extensions(("x-permission" = json!("schedules:write")))
)]
pub(crate) async fn pause(
    State(state): State<AppState>,
    PathParameters(name): PathParameters<String>,
    QueryParameters(query): QueryParameters<PauseQuery>,
) -> Result<Json<PausedSchedule>, Problem> {
    let paused = state
        .client
        .pause_schedule(&name, &query.namespace, query.reason.as_deref())
        .await?;
    Ok(Json(PausedSchedule {
        namespace: query.namespace,
        name,
        paused,
    }))
}

/// Resumes a paused schedule; what it does about the times missed meanwhile is its `catch_up`.
#[utoipa::path(
    post,
    path = "/v1/schedules/{name}/resume",
    operation_id = "resume_schedule",
    tag = "schedules",
    params(("name" = String, Path, description = "The schedule", example = "nightly"), NamespaceQuery),
    responses(
        (status = 200, description = "It isn't paused", body = ResumedSchedule),
        Refusals
    ),
    extensions(("x-permission" = json!("schedules:write")))
)]
pub(crate) async fn resume(
    State(state): State<AppState>,
    PathParameters(name): PathParameters<String>,
    QueryParameters(query): QueryParameters<NamespaceQuery>,
) -> Result<Json<ResumedSchedule>, Problem> {
    let resumed = state
        .client
        .resume_schedule(&name, &query.namespace)
        .await?;
    Ok(Json(ResumedSchedule {
        namespace: query.namespace,
        name,
        resumed,
    }))
}

/// Creates the tasks of a schedule for all its times from one on and before another that have had none.
#[utoipa::path(
    post,
    path = "/v1/schedules/{name}/backfill",
    operation_id = "backfill_schedule",
    tag = "schedules",
    params(("name" = String, Path, description = "The schedule", example = "nightly"), NamespaceQuery),
    request_body(content = Backfill),
    responses(
        (status = 200, description = "The tasks are created", body = Backfilled),
        Refusals
    ),
    extensions(("x-permission" = json!("schedules:write")))
)]
pub(crate) async fn backfill(
    State(state): State<AppState>,
    PathParameters(name): PathParameters<String>,
    QueryParameters(query): QueryParameters<NamespaceQuery>,
    JsonBody(times): JsonBody<Backfill>,
) -> Result<Json<Backfilled>, Problem> {
    let created = state
        .client
        .backfill_schedule(&name, &query.namespace, times.from, times.to)
        .await?;
    Ok(Json(Backfilled { created }))
}
