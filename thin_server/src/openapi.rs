//! The OpenAPI document: made from the handlers, served as JSON and as a page to try it.

mod examples;

use std::collections::BTreeMap;

use utoipa::openapi::content::ContentBuilder;
use utoipa::openapi::response::{Response, ResponseBuilder};
use utoipa::openapi::{OpenApi as Document, Ref, RefOr};
use utoipa::{IntoResponses, OpenApi};
use utoipa_swagger_ui::{Config, SwaggerUi};

use crate::problem::ErrorBody;

/// Where the document is served.
pub(crate) const DOCUMENT_PATH: &str = "/api-docs/openapi.json";
/// Where the page is served.
const PAGE_PATH: &str = "/api-docs/ui";

/// What every operation shares. Each one's permission is its extension `x-permission`; one without it is open to all.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "Tasker",
        description = "A workflow engine inside PostgreSQL. Field names are those of the SQL functions. Errors are `{\"error\": {code, message, detail, hint, request_id}}`, \
            where `code` is the SQLSTATE, or a word for what never reached the database.",
        license(name = "MIT", identifier = "MIT")
    ),
    components(schemas(ErrorBody, tasker_client::Event)),
    tags(
        (name = "tasks", description = "Create tasks, look at them, steer them"),
        (name = "workflow_steps", description = "The steps of a task, and their repair"),
        (name = "events", description = "Follow what happens, as Server-Sent Events"),
        (name = "domain_events", description = "What steps published, who subscribes to it, and its deliveries"),
        (name = "templates", description = "What tasks are made of"),
        (name = "dlq", description = "Dead letters: what failed for good and is to be investigated"),
        (name = "analytics", description = "Figures of templates and steps, and the slowest of them"),
        (name = "workers", description = "Who works, and what waits for them"),
        (name = "schedules", description = "Tasks created at the times of a cron expression"),
        (name = "namespaces", description = "Settings and pauses of namespaces"),
        (name = "system", description = "The server and the engine as a whole"),
        (name = "health", description = "Whether the server lives and can serve"),
    )
)]
pub(crate) struct Shared;

/// The errors that any operation may answer.
pub(crate) struct Refusals;

const REFUSALS: [(&str, &str); 10] = [
    ("400", "A parameter, the path or the body can't be used"),
    ("403", "The role or the caller may not do this"),
    (
        "404",
        "The task, step, template or whatever was named isn't there",
    ),
    (
        "409",
        "It conflicts with what is there, or isn't allowed in its state",
    ),
    ("413", "The body is larger than 1 MiB"),
    ("415", "The body isn't of a media type that is read here"),
    (
        "422",
        "The template, context or result is invalid, or a limit is exceeded",
    ),
    (
        "500",
        "Something went wrong in the server; its log says more under this request_id",
    ),
    (
        "503",
        "The server or the database is away or too busy; Retry-After says when to try again",
    ),
    ("504", "The request took too long"),
];

impl IntoResponses for Refusals {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        let body = || {
            ContentBuilder::new()
                .schema(Some(Ref::from_schema_name("ErrorBody")))
                .build()
        };
        let response = |description: &str| {
            ResponseBuilder::new()
                .description(description)
                .content("application/json", body())
                .build()
        };
        REFUSALS
            .into_iter()
            .map(|(status, description)| (status.to_owned(), response(description).into()))
            .collect()
    }
}

/// The document, and the page that shows it; all of it comes from this program.
pub(crate) fn serve(mut document: Document) -> SwaggerUi {
    examples::add(&mut document);
    SwaggerUi::new(PAGE_PATH)
        .url(DOCUMENT_PATH, document)
        .config(Config::default().use_base_layout())
}
