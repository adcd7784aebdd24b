//! `grpc.health.v1`, which load balancers ask: serving is what `/health/ready` calls ready.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::State;
use axum::http::StatusCode;
use tasker_client::Acting;
use tasker_grpc::OPERATIONS;
use tokio::sync::{Mutex, watch};
use tonic::codegen::BoxStream;
use tonic::{Request, Response, Status};
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_server::Health;
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};

use super::status;
use crate::health;
use crate::problem::Problem;
use crate::routes::AppState;

/// An answer counts for so long, whoever asks: any number of watchers are one question a second.
const COUNTS_FOR: Duration = Duration::from_secs(1);
/// How often one who watches is told what has changed.
const LOOKED_EVERY: Duration = Duration::from_secs(2);

/// Whether the server can serve, for who asks once and who watches.
#[derive(Clone)]
pub(super) struct StandardHealth {
    state: AppState,
    stopped: watch::Receiver<bool>,
    last: Arc<Mutex<Option<(Instant, ServingStatus)>>>,
}

impl StandardHealth {
    pub(super) fn new(state: AppState, stopped: watch::Receiver<bool>) -> Self {
        Self {
            state,
            stopped,
            last: Arc::default(),
        }
    }

    async fn serving(&self) -> ServingStatus {
        if *self.stopped.borrow() {
            return ServingStatus::NotServing;
        }
        let mut last = self.last.lock().await;
        if let Some((at, status)) = *last
            && at.elapsed() < COUNTS_FOR
        {
            return status;
        }
        // A stream is outside of its request.
        let ready = Acting::for_itself().scope(health::ready(State(self.state.clone())));
        let (code, _) = ready.await;
        let status = if code == StatusCode::OK {
            ServingStatus::Serving
        } else {
            ServingStatus::NotServing
        };
        *last = Some((Instant::now(), status));
        status
    }

    /// What is new to a watcher, once there is something; nothing more after it was told that the server stops.
    async fn next(&mut self, told: Option<ServingStatus>) -> Option<ServingStatus> {
        loop {
            let is_over = *self.stopped.borrow();
            let now = self.serving().await;
            if told != Some(now) {
                return Some(now);
            }
            if is_over {
                return None;
            }
            tokio::select! {
                () = tokio::time::sleep(LOOKED_EVERY) => {}
                _ = self.stopped.changed() => {}
            }
        }
    }
}

/// The server as a whole, and each of its services, are served or not together.
fn is_known(service: &str) -> bool {
    let services: BTreeSet<&str> = OPERATIONS
        .iter()
        .filter_map(|(path, _)| path.trim_start_matches('/').split('/').next())
        .collect();
    service.is_empty() || services.contains(service)
}

fn response(status: ServingStatus) -> HealthCheckResponse {
    HealthCheckResponse {
        status: status.into(),
    }
}

#[tonic::async_trait]
impl Health for StandardHealth {
    type WatchStream = BoxStream<HealthCheckResponse>;

    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        let service = request.into_inner().service;
        if !is_known(&service) {
            let message = format!("there is no service {service}");
            let problem = Problem::new(StatusCode::NOT_FOUND, "service_not_found", message);
            return Err(status::carrying(problem));
        }
        Ok(Response::new(response(self.serving().await)))
    }

    async fn watch(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        if !is_known(&request.into_inner().service) {
            let unknown = response(ServingStatus::ServiceUnknown);
            let once = futures_util::stream::iter([Ok(unknown)]);
            return Ok(Response::new(Box::pin(once)));
        }
        let watcher = (self.clone(), None);
        let changes = futures_util::stream::unfold(watcher, async |(mut health, told)| {
            let status = health.next(told).await?;
            Some((Ok(response(status)), (health, Some(status))))
        });
        Ok(Response::new(Box::pin(changes)))
    }
}
