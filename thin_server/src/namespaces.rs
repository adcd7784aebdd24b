//! `/v1/namespaces`.

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tasker_client::Namespace;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::extract::{JsonBody, PathParameters, QueryParameters};
use crate::openapi::Refusals;
use crate::page::Page;
use crate::problem::Problem;
use crate::routes::AppState;

/// What is changed of a namespace.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ChangeNamespace {
    /// All the settings that it is to have, in place of those it had.
    #[schema(value_type = NamespaceSettings)]
    settings: Box<RawValue>,
}

/// The settings of a namespace, for the document; the database reads them.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NamespaceSettings {
    /// For how many days finished tasks are kept; 0 for ever.
    #[schema(minimum = 0, maximum = 36500, example = 30, required = false)]
    #[allow(dead_code, reason = "only its schema is used")]
    retention_days: i32,
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct PauseQuery {
    /// Why; shown while it is paused.
    #[param(example = "the warehouse is closed")]
    reason: Option<String>,
}

/// A namespace that is paused.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct PausedNamespace {
    /// Its name.
    #[schema(example = "shop")]
    name: String,
    /// Whether this request paused it; false when it was paused before.
    paused: bool,
}

/// A namespace that isn't paused.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ResumedNamespace {
    /// Its name.
    #[schema(example = "shop")]
    name: String,
    /// Whether this request resumed it; false when it wasn't paused.
    resumed: bool,
}

pub(crate) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(list))
        .routes(routes!(set))
        .routes(routes!(pause))
        .routes(routes!(resume))
}

/// Lists the namespaces, with their settings and who paused them.
#[utoipa::path(
    get,
    path = "/v1/namespaces",
    operation_id = "list_namespaces",
    tag = "namespaces",
    responses(
        (status = 200, description = "The namespaces", body = Page<Namespace>),
        Refusals
    ),
    extensions(("x-permission" = json!("system:manage")))
)]
pub(crate) async fn list(State(state): State<AppState>) -> Result<Json<Page<Namespace>>, Problem> {
    Ok(Json(Page::whole(state.client.list_namespaces().await?)))
}

/// Sets the settings of a namespace.
#[utoipa::path(
    patch,
    path = "/v1/namespaces/{name}",
    operation_id = "set_namespace",
    tag = "namespaces",
    params(("name" = String, Path, description = "The namespace", example = "shop")),
    request_body(content = ChangeNamespace),
    responses(
        (status = 200, description = "The namespace as it is now", body = Namespace),
        Refusals
    ),
    extensions(("x-permission" = json!("system:manage")))
)]
pub(crate) async fn set(
    State(state): State<AppState>,
    PathParameters(name): PathParameters<String>,
    JsonBody(change): JsonBody<ChangeNamespace>,
) -> Result<Json<Namespace>, Problem> {
    Ok(Json(
        state.client.set_namespace(&name, &change.settings).await?,
    ))
}

/// Pauses a namespace: its running steps finish, nothing else begins in it.
#[utoipa::path(
    post,
    path = "/v1/namespaces/{name}/pause",
    operation_id = "pause_namespace",
    tag = "namespaces",
    params(("name" = String, Path, description = "The namespace", example = "shop"), PauseQuery),
    responses(
        (status = 200, description = "It is paused, now or before", body = PausedNamespace),
        Refusals
    ),
    extensions(("x-permission" = json!("system:manage")))
)]
pub(crate) async fn pause(
    State(state): State<AppState>,
    PathParameters(name): PathParameters<String>,
    QueryParameters(query): QueryParameters<PauseQuery>,
) -> Result<Json<PausedNamespace>, Problem> {
    let paused = state
        .client
        .pause_namespace(&name, query.reason.as_deref())
        .await?;
    Ok(Json(PausedNamespace { name, paused }))
}

/// Resumes a paused namespace: workers are woken, and the tasks that were held back start.
#[utoipa::path(
    post,
    path = "/v1/namespaces/{name}/resume",
    operation_id = "resume_namespace",
    tag = "namespaces",
    params(("name" = String, Path, description = "The namespace", example = "shop")),
    responses(
        (status = 200, description = "It isn't paused", body = ResumedNamespace),
        Refusals
    ),
    extensions(("x-permission" = json!("system:manage")))
)]
pub(crate) async fn resume(
    State(state): State<AppState>,
    PathParameters(name): PathParameters<String>,
) -> Result<Json<ResumedNamespace>, Problem> {
    let resumed = state.client.resume_namespace(&name).await?;
    Ok(Json(ResumedNamespace { name, resumed }))
}
