//! `/v1/templates`.

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tasker_client::{Definition, Finding, RegisteredTemplate, Template, TemplateSummary};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::extract::{Document, PathParameters, QueryParameters};
use crate::openapi::Refusals;
use crate::page::Page;
use crate::problem::Problem;
use crate::routes::AppState;

/// A template, for the document.
const EXAMPLE_IN_YAML: &str = "\
name: order_fulfillment
namespace: shop
version: 1.0.0
steps:
  - name: validate_order
    handler: { callable: shop.validate_order }
  - name: ship
    handler: { callable: shop.ship }
    dependencies: [validate_order]
";

/// The same in JSON.
fn example() -> Value {
    json!({"name": "order_fulfillment", "namespace": "shop", "version": "1.0.0", "steps": [
        {"name": "validate_order", "handler": {"callable": "shop.validate_order"}},
        {"name": "ship", "handler": {"callable": "shop.ship"}, "dependencies": ["validate_order"]}
    ]})
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct ListQuery {
    /// Only those of this namespace.
    #[param(example = "shop")]
    namespace: Option<String>,
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct EnvironmentQuery {
    /// The environment whose changes are applied; as the template is when left out.
    environment: Option<String>,
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Validated {
    /// Whether it could be registered: warnings don't stop that.
    valid: bool,
    findings: Vec<Finding>,
}

/// The template, and whether this request retired it.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct RetiredTemplate {
    #[serde(flatten)]
    template: Template,
    /// False when it was retired before.
    retired: bool,
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
        .routes(routes!(get, retire))
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

/// A template with its definition. It changes only by being retired: keep it with its `ETag`, and ask again with that in `If-None-Match`.
#[utoipa::path(
    get,
    path = "/v1/templates/{namespace}/{name}/{version}",
    operation_id = "get_template",
    tag = "templates",
    params(
        ("namespace" = String, Path, description = "Its namespace", example = "shop"),
        ("name" = String, Path, description = "Its name", example = "order_fulfillment"),
        ("version" = String, Path, description = "Its version", example = "1.0.0"),
        ("If-None-Match" = Option<String>, Header, description = "The ETag of what the caller has"),
    ),
    responses(
        (status = 200, description = "The template", body = Template, headers(("ETag" = String, description = "Names what is answered"))),
        (status = 304, description = "It is what the caller has"),
        Refusals
    ),
    extensions(("x-permission" = json!("templates:read")))
)]
pub(crate) async fn get(
    State(state): State<AppState>,
    PathParameters((namespace, name, version)): PathParameters<(String, String, String)>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let template = state
        .client
        .get_template(&name, &namespace, Some(&version))
        .await?;
    let tag = etag_of(&template);
    let response = if is_known(&headers, &tag) {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        Json(template).into_response()
    };
    let value =
        HeaderValue::from_str(&tag).map_err(|error| Problem::internal(error.to_string()))?;
    Ok(([(header::ETAG, value)], response).into_response())
}

/// A registered template never changes but that it is retired, once and for good.
fn etag_of(template: &Template) -> String {
    let retired = template.retired_at.map_or("", |_| "-retired");
    format!("W/\"{}{retired}\"", template.template_uuid)
}

/// Whether a tag is one of those in `If-None-Match`, where `W/` makes no difference.
fn is_known(headers: &HeaderMap, tag: &str) -> bool {
    let bare = |tag: &str| tag.trim().trim_start_matches("W/").to_owned();
    let given = headers.get_all(header::IF_NONE_MATCH).iter();
    given
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|known| known.trim() == "*" || bare(known) == bare(tag))
}

/// Retires one version of a template: no new tasks are made of it, those under way go on.
#[utoipa::path(
    delete,
    path = "/v1/templates/{namespace}/{name}/{version}",
    operation_id = "retire_template",
    tag = "templates",
    params(
        ("namespace" = String, Path, description = "Its namespace", example = "shop"),
        ("name" = String, Path, description = "Its name", example = "order_fulfillment"),
        ("version" = String, Path, description = "Its version", example = "1.0.0"),
    ),
    responses(
        (status = 200, description = "It is retired, now or before", body = RetiredTemplate),
        Refusals
    ),
    extensions(("x-permission" = json!("templates:write")))
)]
pub(crate) async fn retire(
    State(state): State<AppState>,
    PathParameters((namespace, name, version)): PathParameters<(String, String, String)>,
) -> Result<Json<RetiredTemplate>, Problem> {
    let client = &state.client;
    let retired = client
        .retire_template(&name, &namespace, Some(&version))
        .await?;
    let template = client
        .get_template(&name, &namespace, Some(&version))
        .await?;
    Ok(Json(RetiredTemplate { template, retired }))
}

/// Registers a template under its version.
#[utoipa::path(
    post,
    path = "/v1/templates",
    operation_id = "register_template",
    tag = "templates",
    params(EnvironmentQuery),
    request_body(
        content((Object = "application/json", example = json!(example())), (String = "application/yaml", example = json!(EXAMPLE_IN_YAML))),
        description = "The template, as JSON or YAML"
    ),
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
    request_body(
        content((Object = "application/json", example = json!(example())), (String = "application/yaml", example = json!(EXAMPLE_IN_YAML))),
        description = "The template, as JSON or YAML"
    ),
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

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(value: &'static str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(header::IF_NONE_MATCH, HeaderValue::from_static(value));
        headers
    }

    #[test]
    fn a_tag_is_known_in_a_list_and_weak_or_strong() {
        for known in ["W/\"a\"", "\"a\"", "\"b\", W/\"a\"", "*"] {
            assert!(is_known(&headers(known), "W/\"a\""), "{known}");
        }
        for other in ["\"b\"", "\"a-retired\"", "a", ""] {
            assert!(!is_known(&headers(other), "W/\"a\""), "{other}");
        }
        assert!(!is_known(&HeaderMap::new(), "W/\"a\""));
    }
}
