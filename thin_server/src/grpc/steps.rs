//! `StepService`.

use tasker_grpc::v1::{self, step_service_server::StepService};
use tonic::{Request, Response, Status};
use uuid::Uuid;

use super::wire::{self, ToWire, message};
use super::{Door, service};
use crate::problem::Problem;
use crate::routes::AppState;

message!(tasker_client::Step => Step {
    step_uuid, task_uuid, name, r#type, instance, state, attempt, attempts_used, max_attempts, worker_id, lease_expires_at, retry_at, remaining_dependencies,
    dependencies, created_at, enqueued_at, started_at, finished_at, child_task_uuid;
    json handler => handler_json, inputs => inputs_json, result => result_json, error => error_json, checkpoint => checkpoint_json
});

service!(StepService {
    list_steps(ListStepsRequest) -> ListStepsResponse,
    get_step(GetStepRequest) -> Step,
    get_step_history(GetStepHistoryRequest) -> GetStepHistoryResponse,
    reset_step(ResetStepRequest) -> Step,
    resolve_step(ResolveStepRequest) -> Step,
    complete_step_manually(CompleteStepManuallyRequest) -> Step,
});

async fn list_steps(
    state: &AppState,
    request: v1::ListStepsRequest,
) -> Result<v1::ListStepsResponse, Problem> {
    let task_uuid = wire::uuid("task_uuid", &request.task_uuid)?;
    let items = state.client.list_steps(task_uuid).await?.to_wire();
    Ok(v1::ListStepsResponse { items })
}

async fn get_step(state: &AppState, request: v1::GetStepRequest) -> Result<v1::Step, Problem> {
    let step_uuid = wire::uuid("step_uuid", &request.step_uuid)?;
    now(state, step_uuid).await
}

async fn get_step_history(
    state: &AppState,
    request: v1::GetStepHistoryRequest,
) -> Result<v1::GetStepHistoryResponse, Problem> {
    let step_uuid = wire::uuid("step_uuid", &request.step_uuid)?;
    let items = state.client.step_history(step_uuid).await?.to_wire();
    Ok(v1::GetStepHistoryResponse { items })
}

async fn reset_step(state: &AppState, request: v1::ResetStepRequest) -> Result<v1::Step, Problem> {
    let step_uuid = wire::uuid("step_uuid", &request.step_uuid)?;
    let reason = request.reason.as_deref();
    state.client.reset_step(step_uuid, reason).await?;
    now(state, step_uuid).await
}

async fn resolve_step(
    state: &AppState,
    request: v1::ResolveStepRequest,
) -> Result<v1::Step, Problem> {
    let step_uuid = wire::uuid("step_uuid", &request.step_uuid)?;
    let reason = request.reason.as_deref();
    state.client.resolve_step(step_uuid, reason).await?;
    now(state, step_uuid).await
}

async fn complete_step_manually(
    state: &AppState,
    request: v1::CompleteStepManuallyRequest,
) -> Result<v1::Step, Problem> {
    let step_uuid = wire::uuid("step_uuid", &request.step_uuid)?;
    let result = wire::optional_json("result_json", request.result_json)?
        .ok_or_else(|| wire::missing("result_json"))?;
    let reason = request.reason.as_deref();
    state
        .client
        .complete_step_manually(step_uuid, &result, reason)
        .await?;
    now(state, step_uuid).await
}

async fn now(state: &AppState, step_uuid: Uuid) -> Result<v1::Step, Problem> {
    Ok(state.client.get_step(step_uuid).await?.to_wire())
}
