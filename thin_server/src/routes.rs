//! Which path is which handler, and the layers around them.

use std::time::Duration;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware::{from_fn, from_fn_with_state};
use axum::routing::{get, post};
use tasker_client::Client;
use tower_http::catch_panic::CatchPanicLayer;

use crate::limits::{self, Limits};
use crate::problem::Problem;
use crate::{health, problem, request_id, steps, tasks, templates};

/// The largest request body, in bytes.
const MAX_BODY_BYTES: usize = 1024 * 1024;

/// What the handlers share.
#[derive(Debug, Clone)]
pub(crate) struct AppState {
    pub(crate) client: Client,
}

impl AppState {
    pub(crate) fn new(client: Client) -> Self {
        Self { client }
    }
}

/// All paths. The health checks stand outside the limits: they answer also while the server is busy.
pub(crate) fn app(
    state: AppState,
    concurrent_requests: usize,
    request_timeout: Duration,
) -> Router {
    let limits = Limits::new(concurrent_requests, request_timeout);
    let api = Router::new()
        .route("/v1/tasks", get(tasks::list).post(tasks::create))
        .route(
            "/v1/tasks/{task_uuid}",
            get(tasks::get).delete(tasks::cancel),
        )
        .route("/v1/tasks/{task_uuid}/graph", get(tasks::graph))
        .route("/v1/tasks/{task_uuid}/history", get(tasks::history))
        .route("/v1/tasks/{task_uuid}/workflow_steps", get(steps::list))
        .route(
            "/v1/tasks/{task_uuid}/workflow_steps/{step_uuid}",
            get(steps::get),
        )
        .route(
            "/v1/tasks/{task_uuid}/workflow_steps/{step_uuid}/audit",
            get(steps::audit),
        )
        .route(
            "/v1/templates",
            get(templates::list).post(templates::register),
        )
        .route("/v1/templates/validate", post(templates::validate))
        .route(
            "/v1/templates/{namespace}/{name}/{version}",
            get(templates::get),
        )
        .layer(from_fn_with_state(limits, limits::guard));
    Router::new()
        .route("/health", get(health::health))
        .route("/health/ready", get(health::ready))
        .route("/health/live", get(health::live))
        .merge(api)
        .fallback(async || Problem::path_not_found())
        .method_not_allowed_fallback(async || Problem::method_not_allowed())
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .layer(CatchPanicLayer::custom(problem::of_panic))
        .layer(from_fn(request_id::surround))
        .with_state(state)
}
