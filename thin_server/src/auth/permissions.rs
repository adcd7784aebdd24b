//! What each operation needs, as the OpenAPI document says it.

use std::collections::HashMap;

use axum::http::Method;
use utoipa::openapi::path::{Operation, PathItem};
use utoipa::openapi::response::ResponseBuilder;
use utoipa::openapi::security::{
    ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme,
};
use utoipa::openapi::{Components, OpenApi as Document, Ref};

/// Where an operation says what it needs.
const EXTENSION: &str = "x-permission";
const KEY_SCHEME: &str = "api_key";
const TOKEN_SCHEME: &str = "token";

/// The permission of each path, as the router knows it, and method.
#[derive(Debug)]
pub(super) struct Permissions(HashMap<String, Vec<(Method, String)>>);

impl Permissions {
    pub(super) fn of(document: &Document) -> Self {
        let mut permissions: HashMap<String, Vec<(Method, String)>> = HashMap::new();
        for (path, item) in &document.paths.paths {
            let mut item = item.clone();
            for (method, operation) in operations(&mut item) {
                if let Some(permission) = permission_of(operation) {
                    let of_path = permissions.entry(path.clone()).or_default();
                    of_path.push((method, permission));
                }
            }
        }
        Self(permissions)
    }

    /// What a request needs; nothing where all may call. The router answers HEAD as GET.
    pub(super) fn needed(&self, method: &Method, path: &str) -> Option<&str> {
        let method = if method == Method::HEAD {
            &Method::GET
        } else {
            method
        };
        let of_path = self.0.get(path)?;
        let (_, permission) = of_path.iter().find(|(known, _)| known == method)?;
        Some(permission)
    }
}

/// The permission of each operation by its id; none for one that is open to all.
pub(crate) fn by_operation(document: &Document) -> HashMap<String, Option<String>> {
    let items = document.paths.paths.values().cloned();
    let mut permissions = HashMap::new();
    for mut item in items {
        for (_, operation) in operations(&mut item) {
            if let Some(id) = operation.operation_id.clone() {
                permissions.insert(id, permission_of(operation));
            }
        }
    }
    permissions
}

/// Adds the two ways to show who one is, and what is answered to who doesn't, to each operation that needs a permission.
pub(super) fn describe(document: &mut Document) {
    for item in document.paths.paths.values_mut() {
        for (_, operation) in operations(item) {
            if permission_of(operation).is_none() {
                continue;
            }
            let requirement = |scheme| SecurityRequirement::new(scheme, Vec::<String>::new());
            operation.security = Some([KEY_SCHEME, TOKEN_SCHEME].map(requirement).to_vec());
            let refusal = ResponseBuilder::new()
                .description("Nobody is known by what the request shows, or it shows nothing")
                .content(
                    "application/json",
                    utoipa::openapi::ContentBuilder::new()
                        .schema(Some(Ref::from_schema_name("ErrorBody")))
                        .build(),
                );
            let responses = &mut operation.responses.responses;
            responses.insert("401".to_owned(), refusal.build().into());
        }
    }
    let components = document.components.get_or_insert_with(Components::new);
    components.add_security_scheme(
        KEY_SCHEME,
        SecurityScheme::ApiKey(ApiKey::Header(ApiKeyValue::with_description(
            "X-API-Key",
            "A key made with tasker-ctl auth key create",
        ))),
    );
    let token = HttpBuilder::new()
        .scheme(HttpAuthScheme::Bearer)
        .bearer_format("JWT")
        .description(Some("A JSON Web Token with a claim of permissions"));
    components.add_security_scheme(TOKEN_SCHEME, SecurityScheme::Http(token.build()));
}

fn permission_of(operation: &Operation) -> Option<String> {
    let value = operation.extensions.as_ref()?.get(EXTENSION)?;
    value.as_str().map(str::to_owned)
}

fn operations(item: &mut PathItem) -> impl Iterator<Item = (Method, &mut Operation)> {
    [
        (Method::GET, &mut item.get),
        (Method::PUT, &mut item.put),
        (Method::POST, &mut item.post),
        (Method::DELETE, &mut item.delete),
        (Method::PATCH, &mut item.patch),
    ]
    .into_iter()
    .filter_map(|(method, operation)| Some((method, operation.as_mut()?)))
}
