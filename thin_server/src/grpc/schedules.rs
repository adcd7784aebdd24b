//! `ScheduleService`.

use tasker_client::NewSchedule;
use tasker_grpc::v1::{self, schedule_service_server::ScheduleService};
use tonic::{Request, Response, Status};

use super::wire::{self, ToWire, message};
use super::{Door, service};
use crate::problem::Problem;
use crate::routes::AppState;

message!(tasker_client::Schedule => Schedule {
    namespace, name, cron, timezone, template_name, template_version, catch_up, next_at, last_at, last_task_uuid, paused_at, paused_by, pause_reason, created_by,
    created_at;
    json context => context_json, last_problem => last_problem_json
});

service!(ScheduleService {
    list_schedules(ListSchedulesRequest) -> ListSchedulesResponse,
    create_schedule(CreateScheduleRequest) -> Schedule,
    pause_schedule(PauseScheduleRequest) -> PauseScheduleResponse,
    resume_schedule(ResumeScheduleRequest) -> ResumeScheduleResponse,
    delete_schedule(DeleteScheduleRequest) -> DeleteScheduleResponse,
    backfill_schedule(BackfillScheduleRequest) -> BackfillScheduleResponse,
});

async fn list_schedules(
    state: &AppState,
    request: v1::ListSchedulesRequest,
) -> Result<v1::ListSchedulesResponse, Problem> {
    let namespace = request.namespace.as_deref();
    let items = state.client.list_schedules(namespace).await?.to_wire();
    Ok(v1::ListSchedulesResponse { items })
}

async fn create_schedule(
    state: &AppState,
    request: v1::CreateScheduleRequest,
) -> Result<v1::Schedule, Problem> {
    let new = NewSchedule {
        name: request.name,
        cron: request.cron,
        template_name: request.template_name,
        namespace: wire::namespace(request.namespace),
        context: wire::optional_json("context_json", request.context_json)?,
        timezone: request.timezone,
        catch_up: request.catch_up,
        version: request.version,
    };
    Ok(state.client.create_schedule(&new).await?.to_wire())
}

async fn pause_schedule(
    state: &AppState,
    request: v1::PauseScheduleRequest,
) -> Result<v1::PauseScheduleResponse, Problem> {
    let (name, namespace) = (request.name, wire::namespace(request.namespace));
    let reason = request.reason.as_deref();
    let paused = state
        .client
        .pause_schedule(&name, &namespace, reason)
        .await?;
    Ok(v1::PauseScheduleResponse {
        namespace,
        name,
        paused,
    })
}

async fn resume_schedule(
    state: &AppState,
    request: v1::ResumeScheduleRequest,
) -> Result<v1::ResumeScheduleResponse, Problem> {
    let (name, namespace) = (request.name, wire::namespace(request.namespace));
    let resumed = state.client.resume_schedule(&name, &namespace).await?;
    Ok(v1::ResumeScheduleResponse {
        namespace,
        name,
        resumed,
    })
}

async fn delete_schedule(
    state: &AppState,
    request: v1::DeleteScheduleRequest,
) -> Result<v1::DeleteScheduleResponse, Problem> {
    let namespace = wire::namespace(request.namespace);
    state
        .client
        .delete_schedule(&request.name, &namespace)
        .await?;
    Ok(v1::DeleteScheduleResponse {})
}

async fn backfill_schedule(
    state: &AppState,
    request: v1::BackfillScheduleRequest,
) -> Result<v1::BackfillScheduleResponse, Problem> {
    let namespace = wire::namespace(request.namespace);
    let from = wire::needed_time("from", request.from)?;
    let to = wire::needed_time("to", request.to)?;
    let created = state
        .client
        .backfill_schedule(&request.name, &namespace, from, to)
        .await?;
    Ok(v1::BackfillScheduleResponse { created })
}
