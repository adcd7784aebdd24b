//! `/v1/templates`.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use tasker_client::{Definition, Finding, RegisteredTemplate, Template, TemplateSummary};

use crate::extract::{Document, PathParameters, QueryParameters};
use crate::page::Page;
use crate::problem::Problem;
use crate::routes::AppState;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ListQuery {
    namespace: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct EnvironmentQuery {
    environment: Option<String>,
}

#[derive(Debug, Serialize)]
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
