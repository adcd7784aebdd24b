//! `/metrics`.

use std::time::{Duration, Instant};

use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use prometheus::{TEXT_FORMAT, TextEncoder};

use super::Metrics;
use crate::problem::Problem;
use crate::routes::AppState;

/// A connection that isn't had within this is said to take so long.
const ACQUIRES_WITHIN: Duration = Duration::from_secs(1);

/// The server's metrics, and figures of the engine that are some seconds old at most, in Prometheus's text format.
#[utoipa::path(
    get,
    path = "/metrics",
    operation_id = "metrics",
    tag = "health",
    responses(
        (status = 200, description = "The metrics", body = String, content_type = "text/plain", example = json!("tasker_database_up 1\n")),
    ),
)]
pub(crate) async fn metrics(State(state): State<AppState>) -> Response {
    let metrics = &state.metrics;
    show_connections(&state).await;
    let encoded = metrics.engine.with_figures(|| encode(metrics)).await;
    match encoded {
        Ok(text) => ([(CONTENT_TYPE, TEXT_FORMAT)], text).into_response(),
        Err(error) => Problem::internal(error.to_string()).into_response(),
    }
}

fn encode(metrics: &Metrics) -> prometheus::Result<String> {
    TextEncoder::new().encode_to_string(&metrics.registry.gather())
}

async fn show_connections(state: &AppState) {
    let connections = &state.metrics.connections;
    let (held, idle, most) = state.client.connection_counts();
    let show = |name: &str, count: u32| {
        let gauge = connections.connections.with_label_values(&[name]);
        gauge.set(i64::from(count));
    };
    show("idle", idle);
    show("in_use", held.saturating_sub(idle));
    connections.most.set(i64::from(most));
    let begun = Instant::now();
    // Without one in time, the time itself is told.
    let _ = tokio::time::timeout(ACQUIRES_WITHIN, state.client.wait_for_connection()).await;
    connections
        .acquire_seconds
        .set(begun.elapsed().as_secs_f64());
}
