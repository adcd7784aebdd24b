//! `HealthService` and `SystemService`. What load balancers ask is in `standard_health`.

use axum::Json;
use axum::extract::State;
use tasker_grpc::v1::{
    self, health_service_server::HealthService, system_service_server::SystemService,
};
use tonic::{Request, Response, Status};

use super::wire::{ToWire, message};
use super::{Door, service};
use crate::config::Setting;
use crate::health::{self, DetailedHealth, Health};
use crate::maintenance::LastRun;
use crate::problem::Problem;
use crate::routes::AppState;

message!(tasker_client::HealthCheck => HealthCheck { name, ok, detail });
message!(LastRun => LastRun { job, at, processed, more, failed });
message!(Setting => Setting { name, value, from });

impl ToWire<v1::Health> for Health {
    fn to_wire(self) -> v1::Health {
        v1::Health {
            status: self.status.to_owned(),
            version: self.version.to_owned(),
            checks: self.checks.to_wire(),
        }
    }
}

impl ToWire<v1::DetailedHealth> for DetailedHealth {
    fn to_wire(self) -> v1::DetailedHealth {
        v1::DetailedHealth {
            status: self.status.to_owned(),
            version: self.version.to_owned(),
            extension_version: self.extension_version,
            checks: self.checks.to_wire(),
            queues: self.queues.unwrap_or_default().to_wire(),
            due_jobs: self.due_jobs.unwrap_or_default(),
            last_runs: self.last_runs.to_wire(),
        }
    }
}

service!(HealthService {
    get_liveness(GetLivenessRequest) -> GetLivenessResponse,
    get_readiness(GetReadinessRequest) -> Health,
    get_health(GetHealthRequest) -> Health,
    get_detailed_health(GetDetailedHealthRequest) -> DetailedHealth,
});

service!(SystemService {
    list_settings(ListSettingsRequest) -> ListSettingsResponse,
});

#[allow(clippy::unused_async, reason = "the other methods wait")]
async fn get_liveness(
    _: &AppState,
    _: v1::GetLivenessRequest,
) -> Result<v1::GetLivenessResponse, Problem> {
    Ok(v1::GetLivenessResponse {
        status: "ok".to_owned(),
    })
}

async fn get_readiness(
    state: &AppState,
    _: v1::GetReadinessRequest,
) -> Result<v1::Health, Problem> {
    let (_, Json(health)) = health::ready(State(state.clone())).await;
    Ok(health.to_wire())
}

async fn get_health(state: &AppState, _: v1::GetHealthRequest) -> Result<v1::Health, Problem> {
    let (_, Json(health)) = health::health(State(state.clone())).await;
    Ok(health.to_wire())
}

async fn get_detailed_health(
    state: &AppState,
    _: v1::GetDetailedHealthRequest,
) -> Result<v1::DetailedHealth, Problem> {
    let (_, Json(health)) = health::detailed(State(state.clone())).await;
    Ok(health.to_wire())
}

#[allow(clippy::unused_async, reason = "the other methods wait")]
async fn list_settings(
    state: &AppState,
    _: v1::ListSettingsRequest,
) -> Result<v1::ListSettingsResponse, Problem> {
    let settings: Vec<Setting> = state.origins.iter().map(Setting::from).collect();
    Ok(v1::ListSettingsResponse {
        items: settings.to_wire(),
    })
}
