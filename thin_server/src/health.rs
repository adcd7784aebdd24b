//! `/health`: whether the server lives, and whether it can serve.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Serialize;
use tasker_client::{Error, HealthCheck, QueueStats};
use utoipa::ToSchema;

use crate::maintenance::LastRun;
use crate::routes::AppState;

/// A check that takes longer has failed: who asks has a timeout too.
const CHECK_TIMEOUT: Duration = Duration::from_secs(2);

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Health {
    #[schema(example = "healthy")]
    pub(crate) status: &'static str,
    pub(crate) version: &'static str,
    pub(crate) checks: Vec<HealthCheck>,
}

/// All that can be told of the server and the database.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct DetailedHealth {
    /// `healthy` or `unhealthy`.
    #[schema(example = "healthy")]
    pub(crate) status: &'static str,
    /// The version of the server.
    pub(crate) version: &'static str,
    /// The version of the extension; null when the database can't be asked.
    pub(crate) extension_version: Option<String>,
    /// What was checked, each with a reason.
    pub(crate) checks: Vec<HealthCheck>,
    /// The queue of each namespace; null when they can't be counted.
    pub(crate) queues: Option<Vec<QueueStats>>,
    /// The jobs of maintenance that are due; null when the database can't be asked.
    pub(crate) due_jobs: Option<Vec<String>>,
    /// What this server's last run of each job of maintenance came to; another session may have run them since.
    pub(crate) last_runs: Vec<LastRun>,
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Status {
    #[schema(example = "ok")]
    status: &'static str,
}

/// The process runs; it says nothing of the database.
#[utoipa::path(
    get,
    path = "/health/live",
    operation_id = "live",
    tag = "health",
    responses(
        (status = 200, description = "It runs", body = Status),
    ),
)]
pub(crate) async fn live() -> Json<Status> {
    Json(Status { status: "ok" })
}

/// Requests can be served: the database answers and everything it needs is there.
#[utoipa::path(
    get,
    path = "/health/ready",
    operation_id = "ready",
    tag = "health",
    responses(
        (status = 200, description = "It can serve", body = Health),
        (status = 503, description = "It can not", body = Health),
    ),
)]
pub(crate) async fn ready(State(state): State<AppState>) -> (StatusCode, Json<Health>) {
    // A server can take requests while nobody serves the tasks, does the maintenance or reads the feed, and while a schedule is in trouble.
    answer(&state, "ready", "not_ready", |check| {
        !["workers", "maintenance", "events", "schedules"].contains(&check.name.as_str())
    })
    .await
}

/// The same checks, for people and monitors.
#[utoipa::path(
    get,
    path = "/health",
    operation_id = "health",
    tag = "health",
    responses(
        (status = 200, description = "All is well", body = Health),
        (status = 503, description = "Something is not", body = Health),
    ),
)]
pub(crate) async fn health(State(state): State<AppState>) -> (StatusCode, Json<Health>) {
    answer(&state, "healthy", "unhealthy", |_| true).await
}

/// The same checks with the versions, the queues and the last runs of maintenance.
#[utoipa::path(
    get,
    path = "/health/detailed",
    operation_id = "health_detailed",
    tag = "health",
    responses(
        (status = 200, description = "All is well", body = DetailedHealth),
        (status = 503, description = "Something is not", body = DetailedHealth),
    ),
)]
pub(crate) async fn detailed(State(state): State<AppState>) -> (StatusCode, Json<DetailedHealth>) {
    let (code, Json(health)) = health(State(state.clone())).await;
    let client = &state.client;
    let (extension_version, queues, due_jobs) = tokio::join!(
        told(client.version()),
        told(client.queue_stats()),
        told(client.list_due_jobs()),
    );
    let detailed = DetailedHealth {
        status: health.status,
        version: health.version,
        extension_version,
        checks: health.checks,
        queues,
        due_jobs,
        last_runs: state.last_runs.all(),
    };
    (code, Json(detailed))
}

/// What the database answers in time; why it doesn't is among the checks.
async fn told<T>(question: impl Future<Output = Result<T, Error>>) -> Option<T> {
    tokio::time::timeout(CHECK_TIMEOUT, question)
        .await
        .ok()?
        .inspect_err(|error| tracing::debug!(code = error.code(), error = %error, "the health check has a gap"))
        .ok()
}

async fn answer(
    state: &AppState,
    good: &'static str,
    bad: &'static str,
    counts: impl Fn(&HealthCheck) -> bool,
) -> (StatusCode, Json<Health>) {
    let checks = checks(state).await;
    let well = checks.iter().all(|check| check.ok || !counts(check));
    let (code, status) = if well {
        (StatusCode::OK, good)
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, bad)
    };
    (
        code,
        Json(Health {
            status,
            version: env!("CARGO_PKG_VERSION"),
            checks,
        }),
    )
}

async fn checks(state: &AppState) -> Vec<HealthCheck> {
    let detail = match tokio::time::timeout(CHECK_TIMEOUT, state.client.health()).await {
        Ok(Ok(checks)) => return checks,
        Ok(Err(error)) => {
            tracing::warn!(code = error.code(), error = %error, "the health check failed");
            // The rest could tell a stranger about the database.
            match error.code() {
                Some("3F000" | "42883") => "the extension tasker isn't installed in this database",
                _ => "the database can't be asked",
            }
        }
        Err(_) => "the database doesn't answer",
    };
    vec![HealthCheck {
        name: "database".to_owned(),
        ok: false,
        detail: Some(detail.to_owned()),
    }]
}
