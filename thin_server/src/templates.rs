//! `/v1/templates`.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use tasker_client::{Definition, Finding, RegisteredTemplate, Template, TemplateSummary};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::extract::{Document, PathParameters, QueryParameters};
use crate::openapi::Refusals;
use crate::page::Page;
use crate::problem::Problem;
use crate::routes::AppState;

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct ListQuery {
    namespace: Option<String>,
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct EnvironmentQuery {
    environment: Option<String>,
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Validated {
    /// Whether it could be registered: warnings don't stop that.
    valid: bool,
    findings: Vec<Finding>,
}

impl Document {
    fn definition(&self) -> Definition<'_> {
        match self {
            Self::Json(json) => Definition::Json(json),
            Self::Yaml(text) => Definition::Yaml(text),
        }
    }
}

pub(crate) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(list, register))
        .routes(routes!(validate))
        .routes(routes!(get))
}

/// Lists the registered templates.
#[utoipa::path(
    get,
    path = "/v1/templates",
    operation_id = "list_templates",
    tag = "templates",
    params(ListQuery),
    responses(
        (status = 200, description = "The templates", body = Page<TemplateSummary>),
        Refusals
    ),
    extensions(("x-permission" = json!("templates:read")))
)]
pub(crate) async fn list(
    State(state): State<AppState>,
    QueryParameters(query): QueryParameters<ListQuery>,
) -> Result<Json<Page<TemplateSummary>>, Problem> {
    Ok(Json(Page::whole(
        state
            .client
            .list_templates(query.namespace.as_deref())
            .await?,
    )))
}

/// A template with its definition.
#[utoipa::path(
    get,
    path = "/v1/templates/{namespace}/{name}/{version}",
    operation_id = "get_template",
    tag = "templates",
    params(("namespace" = String, Path, description = "Its namespace"), ("name" = String, Path, description = "Its name"), ("version" = String, Path, description = "Its version")),
    responses(
        (status = 200, description = "The template", body = Template),
        Refusals
    ),
    extensions(("x-permission" = json!("templates:read")))
)]
pub(crate) async fn get(
    State(state): State<AppState>,
    PathParameters((namespace, name, version)): PathParameters<(String, String, String)>,
) -> Result<Json<Template>, Problem> {
    Ok(Json(
        state
            .client
            .get_template(&name, &namespace, Some(&version))
            .await?,
    ))
}

/// Registers a template under its version.
#[utoipa::path(
    post,
    path = "/v1/templates",
    operation_id = "register_template",
    tag = "templates",
    params(EnvironmentQuery),
    request_body(content((Object = "application/json"), (String = "application/yaml")), description = "The template, as JSON or YAML"),
    responses(
        (status = 201, description = "It is registered", body = RegisteredTemplate),
        (status = 200, description = "The same content was registered before", body = RegisteredTemplate),
        Refusals
    ),
    extensions(("x-permission" = json!("templates:write")))
)]
pub(crate) async fn register(
    State(state): State<AppState>,
    QueryParameters(query): QueryParameters<EnvironmentQuery>,
    document: Document,
) -> Result<(StatusCode, Json<RegisteredTemplate>), Problem> {
    let registered = state
        .client
        .register_template(document.definition(), query.environment.as_deref())
        .await?;
    let status = if registered.created {
        StatusCode::CREATED
    } else {
        StatusCode::OK
    };
    Ok((status, Json(registered)))
}

/// Checks a template without registering it.
#[utoipa::path(
    post,
    path = "/v1/templates/validate",
    operation_id = "validate_template",
    tag = "templates",
    params(EnvironmentQuery),
    request_body(content((Object = "application/json"), (String = "application/yaml")), description = "The template, as JSON or YAML"),
    responses(
        (status = 200, description = "What was found", body = Validated),
        Refusals
    ),
    extensions(("x-permission" = json!("templates:read")))
)]
pub(crate) async fn validate(
    State(state): State<AppState>,
    QueryParameters(query): QueryParameters<EnvironmentQuery>,
    document: Document,
) -> Result<Json<Validated>, Problem> {
    let findings = state
        .client
        .validate_template(document.definition(), query.environment.as_deref())
        .await?;
    let valid = findings.iter().all(|finding| finding.severity != "error");
    Ok(Json(Validated { valid, findings }))
}
