//! Which path is which handler, and the layers around them.

use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware::{from_fn, from_fn_with_state};
use tasker_client::Client;
use tasker_settings::Origin;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::cors::CorsLayer;
use utoipa::OpenApi;
use utoipa::openapi::OpenApi as Document;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::auth::{self, Authentication, Gate};
use crate::events::Feed;
use crate::limits::{self, Limits};
use crate::maintenance::LastRuns;
use crate::metrics::Metrics;
use crate::openapi::{self, Shared};
use crate::problem::Problem;
use crate::{
    analytics, bulk, config, dead_letters, domain_events, events, health, metrics, namespaces,
    problem, request_id, schedules, signals, steering, steps, tasks, templates, traces, workers,
};

/// The largest request body, in bytes.
pub(crate) const MAX_BODY_BYTES: usize = 1024 * 1024;

/// What the handlers share.
#[derive(Debug, Clone)]
pub(crate) struct AppState {
    pub(crate) client: Client,
    pub(crate) feed: Feed,
    pub(crate) last_runs: LastRuns,
    pub(crate) metrics: Metrics,
    /// The settings in force, for those who may see them.
    pub(crate) origins: Arc<[Origin]>,
}

/// What callers may do; each module of handlers says its paths, their permissions and their answers.
fn api() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .merge(tasks::routes())
        .merge(steering::routes())
        .merge(signals::routes())
        .merge(bulk::routes())
        .merge(steps::routes())
        .merge(templates::routes())
        .merge(dead_letters::routes())
        .merge(domain_events::routes())
        .merge(analytics::routes())
        .merge(workers::routes())
        .merge(schedules::routes())
        .merge(namespaces::routes())
        .merge(config::routes())
}

/// What stands outside the limits.
fn open() -> OpenApiRouter<AppState> {
    OpenApiRouter::with_openapi(Shared::openapi())
        .routes(routes!(health::health))
        .routes(routes!(health::ready))
        .routes(routes!(health::live))
        .routes(routes!(health::detailed))
        .routes(routes!(metrics::metrics))
        .merge(events::routes())
}

/// What the handlers say of themselves, for the other door.
pub(crate) fn document() -> Document {
    open().merge(api()).split_for_parts().1
}

/// All paths. The health checks and the metrics stand outside the limits: they answer also while the server is busy. So do streams of events, which have a bound of their own.
pub(crate) fn app(
    state: AppState,
    authentication: Option<Arc<Authentication>>,
    limits: Limits,
    cors: Option<CorsLayer>,
) -> Router {
    let (mut router, mut document) = open()
        .merge(api().layer(from_fn_with_state(limits, limits::guard)))
        .split_for_parts();
    // Around all that is in the document, so that no path is forgotten.
    if let Some(authentication) = authentication {
        let gate = Gate::new(authentication, &document);
        router = router.layer(from_fn_with_state(gate, auth::guard));
        auth::describe(&mut document);
    }
    env!("CARGO_PKG_VERSION").clone_into(&mut document.info.version);
    let router = router
        .merge(openapi::serve(document))
        .fallback(async || Problem::path_not_found())
        .method_not_allowed_fallback(async || Problem::method_not_allowed())
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .layer(CatchPanicLayer::custom(problem::of_panic))
        .layer(from_fn(request_id::surround))
        .layer(from_fn(traces::surround));
    // Around what asks who calls, which a browser's question whether it may call doesn't say, and around what writes errors.
    let router = match cors {
        Some(cors) => router.layer(cors),
        None => router,
    };
    router
        .layer(from_fn_with_state(state.metrics.clone(), metrics::observe))
        .with_state(state)
}
