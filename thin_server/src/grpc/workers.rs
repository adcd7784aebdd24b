//! `WorkerService`: what workers call that can't reach the database, and the lists of workers and queues.

use tasker_client::{
    ClaimRequest, FinishRequest, HeldStep, LeaseState, Outcome, StepError, VerdictKind,
    WorkerRegistration,
};
use tasker_client::{DependencyPage, checkpoints::LARGEST_PAGE};
use tasker_grpc::v1::{self, worker_service_server::WorkerService};
use tonic::{Request, Response, Status};

use super::wire::{self, ToWire, message};
use super::{Door, service};
use crate::problem::Problem;
use crate::routes::AppState;

message!(tasker_client::ClaimedStep => ClaimedStep {
    step_uuid, task_uuid, attempt, attempts_used, max_attempts, namespace, template_name, template_version, step_name, step_type, correlation_id, priority,
    timeout_seconds, lease_expires_at, created_at, enqueued_at;
    json handler => handler_json, context => context_json, inputs => inputs_json, dependency_results => dependency_results_json, checkpoint => checkpoint_json
});
message!(tasker_client::Verdict => Verdict { step_uuid, attempt, verdict, code, message });
message!(tasker_client::LeaseVerdict => LeaseVerdict { step_uuid, verdict });
message!(tasker_client::DependencyResult => DependencyResult {
    step_uuid, name, instance, state;
    json result => result_json, error => error_json
});
message!(tasker_client::Worker => Worker {
    worker_id, namespaces, handlers, language, version, running, capacity, registered_at, last_seen_at, retired_at, is_live
});
message!(tasker_client::QueueStats => QueueStats {
    namespace, queue_name, visible, hidden, oldest_message_age_seconds, enqueued, in_progress, waiting_for_retry, as_of
});

impl ToWire<String> for VerdictKind {
    fn to_wire(self) -> String {
        let word = match self {
            Self::Accepted => "accepted",
            Self::Repeated => "repeated",
            Self::Lost => "lost",
            Self::Cancelled => "cancelled",
            Self::TimedOut => "timed_out",
            Self::Invalid => "invalid",
        };
        word.to_owned()
    }
}

impl ToWire<String> for LeaseState {
    fn to_wire(self) -> String {
        let word = match self {
            Self::Held => "held",
            Self::Lost => "lost",
            Self::Cancelled => "cancelled",
            Self::TimedOut => "timed_out",
        };
        word.to_owned()
    }
}

service!(WorkerService {
    register(RegisterRequest) -> RegisterResponse,
    claim(ClaimRequest) -> ClaimResponse,
    finish(FinishRequest) -> FinishResponse,
    heartbeat(HeartbeatRequest) -> HeartbeatResponse,
    extend_leases(ExtendLeasesRequest) -> ExtendLeasesResponse,
    get_work_due(GetWorkDueRequest) -> GetWorkDueResponse,
    save_checkpoint(SaveCheckpointRequest) -> SaveCheckpointResponse,
    get_dependency_results(GetDependencyResultsRequest) -> GetDependencyResultsResponse,
    list_workers(ListWorkersRequest) -> ListWorkersResponse,
    retire_worker(RetireWorkerRequest) -> RetireWorkerResponse,
    get_queue_stats(GetQueueStatsRequest) -> GetQueueStatsResponse,
});

async fn register(
    state: &AppState,
    request: v1::RegisterRequest,
) -> Result<v1::RegisterResponse, Problem> {
    let worker = WorkerRegistration {
        worker_id: request.worker_id,
        namespaces: request.namespaces,
        handlers: request.handlers,
        language: request.language,
        version: request.version,
    };
    state.client.register_worker(&worker).await?;
    Ok(v1::RegisterResponse {})
}

async fn claim(state: &AppState, request: v1::ClaimRequest) -> Result<v1::ClaimResponse, Problem> {
    let claim = ClaimRequest {
        worker_id: request.worker_id,
        namespaces: request.namespaces,
        max_steps: wire::count("max_steps", request.max_steps.unwrap_or(1))?,
        lease: wire::lease(request.lease_seconds)?,
        handlers: wire::any(request.handlers),
    };
    let items = state.client.claim_steps(&claim).await?.to_wire();
    Ok(v1::ClaimResponse { items })
}

async fn finish(
    state: &AppState,
    request: v1::FinishRequest,
) -> Result<v1::FinishResponse, Problem> {
    let finish = FinishRequest {
        worker_id: request.worker_id,
        outcomes: request
            .outcomes
            .into_iter()
            .map(outcome)
            .collect::<Result<_, _>>()?,
        claim_next: wire::count("claim_next", request.claim_next)?,
        lease: wire::lease(request.lease_seconds)?,
        namespaces: wire::any(request.namespaces),
        handlers: wire::any(request.handlers),
        request_id: wire::optional_uuid("request_id", request.request_id.as_deref())?,
    };
    let finished = state.client.finish_steps(&finish).await?;
    Ok(v1::FinishResponse {
        verdicts: finished.verdicts.to_wire(),
        claimed: finished.claimed.to_wire(),
    })
}

fn outcome(given: v1::Outcome) -> Result<Outcome, Problem> {
    let checkpoint = given.checkpoint_json.as_deref();
    Ok(Outcome {
        step_uuid: wire::uuid("step_uuid", &given.step_uuid)?,
        attempt: given.attempt,
        status: wire::word("status", &given.status)?,
        result: wire::optional_value("result_json", given.result_json.as_deref())?,
        error: given.error.map(step_error).transpose()?,
        checkpoint: wire::optional_value("checkpoint_json", checkpoint)?,
        events: wire::values("events_json", given.events_json)?,
    })
}

fn step_error(given: v1::StepError) -> Result<StepError, Problem> {
    Ok(StepError {
        message: given.message,
        r#type: given.r#type,
        retryable: given.retryable,
        retry_after_ms: given.retry_after_ms,
        detail: wire::optional_value("detail_json", given.detail_json.as_deref())?,
    })
}

async fn heartbeat(
    state: &AppState,
    request: v1::HeartbeatRequest,
) -> Result<v1::HeartbeatResponse, Problem> {
    let running = wire::count("running", request.running)?;
    let capacity = wire::count("capacity", request.capacity)?;
    state
        .client
        .worker_heartbeat(&request.worker_id, running, capacity)
        .await?;
    Ok(v1::HeartbeatResponse {})
}

async fn extend_leases(
    state: &AppState,
    request: v1::ExtendLeasesRequest,
) -> Result<v1::ExtendLeasesResponse, Problem> {
    let held = |step: &v1::HeldStep| -> Result<HeldStep, Problem> {
        Ok(HeldStep {
            step_uuid: wire::uuid("step_uuid", &step.step_uuid)?,
            attempt: step.attempt,
        })
    };
    let steps: Vec<HeldStep> = request.steps.iter().map(held).collect::<Result<_, _>>()?;
    let lease = wire::lease(request.lease_seconds)?;
    let verdicts = state
        .client
        .extend_leases(&request.worker_id, &steps, lease)
        .await?;
    Ok(v1::ExtendLeasesResponse {
        items: verdicts.to_wire(),
    })
}

async fn get_work_due(
    state: &AppState,
    request: v1::GetWorkDueRequest,
) -> Result<v1::GetWorkDueResponse, Problem> {
    let handlers = wire::any(request.handlers);
    let due = state
        .client
        .work_due_in(&request.namespaces, handlers.as_deref())
        .await?;
    Ok(v1::GetWorkDueResponse {
        due_in_ms: due.map(|due| i64::try_from(due.as_millis()).unwrap_or(i64::MAX)),
    })
}

async fn save_checkpoint(
    state: &AppState,
    request: v1::SaveCheckpointRequest,
) -> Result<v1::SaveCheckpointResponse, Problem> {
    let step_uuid = wire::uuid("step_uuid", &request.step_uuid)?;
    let checkpoint = wire::value("checkpoint_json", &request.checkpoint_json)?;
    state
        .client
        .save_checkpoint(step_uuid, request.attempt, &checkpoint)
        .await?;
    Ok(v1::SaveCheckpointResponse {})
}

async fn get_dependency_results(
    state: &AppState,
    request: v1::GetDependencyResultsRequest,
) -> Result<v1::GetDependencyResultsResponse, Problem> {
    let step_uuid = wire::uuid("step_uuid", &request.step_uuid)?;
    let limit = request.limit.unwrap_or(LARGEST_PAGE as i32);
    let page = DependencyPage {
        transitive: request.transitive,
        after: wire::optional_uuid("after", request.after.as_deref())?,
        limit: wire::count("limit", limit)?,
    };
    let results = state.client.get_dependency_results(step_uuid, page).await?;
    let (items, next_after) = wire::page(results, limit, |result| result.step_uuid);
    Ok(v1::GetDependencyResultsResponse { items, next_after })
}

async fn list_workers(
    state: &AppState,
    _: v1::ListWorkersRequest,
) -> Result<v1::ListWorkersResponse, Problem> {
    let items = state.client.list_workers().await?.to_wire();
    Ok(v1::ListWorkersResponse { items })
}

async fn retire_worker(
    state: &AppState,
    request: v1::RetireWorkerRequest,
) -> Result<v1::RetireWorkerResponse, Problem> {
    let worker_id = request.worker_id;
    let retired = state.client.retire_worker(&worker_id).await?;
    Ok(v1::RetireWorkerResponse { worker_id, retired })
}

async fn get_queue_stats(
    state: &AppState,
    _: v1::GetQueueStatsRequest,
) -> Result<v1::GetQueueStatsResponse, Problem> {
    let items = state.client.queue_stats().await?.to_wire();
    Ok(v1::GetQueueStatsResponse { items })
}
