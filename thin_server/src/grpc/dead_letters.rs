//! `DlqService`.

use tasker_client::{DeadLetterFilter, DeadLetterKey};
use tasker_grpc::v1::{self, dlq_service_server::DlqService};
use tonic::{Request, Response, Status};

use super::wire::{self, ToWire, message};
use super::{Door, service};
use crate::page;
use crate::problem::Problem;
use crate::routes::AppState;

message!(tasker_client::DeadLetter => DeadLetter {
    dead_letter_uuid, task_uuid, namespace, template_name, template_version, priority, task_state, reason, resolution, opened_at, opened_by, resolved_at,
    resolved_by, note, step_uuid, step_name;
    json error => error_json
});
message!(tasker_client::Investigation => Investigation {
    dead_letter_uuid, task_uuid, namespace, template_name, template_version, priority, task_state, reason, resolution, opened_at, opened_by, resolved_at,
    resolved_by, note, step_uuid, step_name;
    json error => error_json, snapshot => snapshot_json
});
message!(tasker_client::DeadLetterCount => DeadLetterCount {
    namespace, reason, resolution, dead_letters, oldest_opened_at, newest_opened_at
});
message!(tasker_client::StaleTask => StaleTask {
    task_uuid, namespace, template_name, template_version, state, clock, limit_seconds, since, stale_since, staleness_action
});

service!(DlqService {
    list_dead_letters(ListDeadLettersRequest) -> ListDeadLettersResponse,
    list_dead_letters_to_investigate(ListDeadLettersToInvestigateRequest) -> ListDeadLettersToInvestigateResponse,
    get_dead_letter(GetDeadLetterRequest) -> Investigation,
    get_dead_letter_of_task(GetDeadLetterOfTaskRequest) -> Investigation,
    open_dead_letter(OpenDeadLetterRequest) -> Investigation,
    resolve_dead_letter(ResolveDeadLetterRequest) -> DeadLetter,
    get_dead_letter_stats(GetDeadLetterStatsRequest) -> GetDeadLetterStatsResponse,
    list_stale_tasks(ListStaleTasksRequest) -> ListStaleTasksResponse,
});

async fn list_dead_letters(
    state: &AppState,
    request: v1::ListDeadLettersRequest,
) -> Result<v1::ListDeadLettersResponse, Problem> {
    let limit = page::limit(request.limit)?;
    let filter = DeadLetterFilter {
        namespace: request.namespace,
        reason: request.reason,
        resolution: request.resolution,
        after: wire::optional_uuid("after", request.after.as_deref())?,
        limit: Some(limit),
    };
    let listed = state.client.list_dead_letters(&filter).await?;
    let (items, next_after) = wire::page(listed, limit, |item| item.dead_letter_uuid);
    Ok(v1::ListDeadLettersResponse { items, next_after })
}

async fn list_dead_letters_to_investigate(
    state: &AppState,
    request: v1::ListDeadLettersToInvestigateRequest,
) -> Result<v1::ListDeadLettersToInvestigateResponse, Problem> {
    let limit = page::limit(request.limit)?;
    let filter = DeadLetterFilter {
        namespace: request.namespace,
        reason: request.reason,
        resolution: Some("pending".to_owned()),
        after: wire::optional_uuid("after", request.after.as_deref())?,
        limit: Some(limit),
    };
    let listed = state.client.list_dead_letters(&filter).await?;
    let (items, next_after) = wire::page(listed, limit, |item| item.dead_letter_uuid);
    Ok(v1::ListDeadLettersToInvestigateResponse { items, next_after })
}

async fn get_dead_letter(
    state: &AppState,
    request: v1::GetDeadLetterRequest,
) -> Result<v1::Investigation, Problem> {
    let key = DeadLetterKey::DeadLetter(wire::uuid("dead_letter_uuid", &request.dead_letter_uuid)?);
    Ok(state.client.get_dead_letter(key).await?.to_wire())
}

async fn get_dead_letter_of_task(
    state: &AppState,
    request: v1::GetDeadLetterOfTaskRequest,
) -> Result<v1::Investigation, Problem> {
    let key = DeadLetterKey::Task(wire::uuid("task_uuid", &request.task_uuid)?);
    Ok(state.client.get_dead_letter(key).await?.to_wire())
}

async fn open_dead_letter(
    state: &AppState,
    request: v1::OpenDeadLetterRequest,
) -> Result<v1::Investigation, Problem> {
    let task_uuid = wire::uuid("task_uuid", &request.task_uuid)?;
    let client = &state.client;
    let uuid = client.open_dead_letter(task_uuid, &request.reason).await?;
    let key = DeadLetterKey::DeadLetter(uuid);
    Ok(client.get_dead_letter(key).await?.to_wire())
}

async fn resolve_dead_letter(
    state: &AppState,
    request: v1::ResolveDeadLetterRequest,
) -> Result<v1::DeadLetter, Problem> {
    let uuid = wire::uuid("dead_letter_uuid", &request.dead_letter_uuid)?;
    let dead_letter = state
        .client
        .resolve_dead_letter(uuid, &request.resolution, request.note.as_deref())
        .await?;
    Ok(dead_letter.to_wire())
}

async fn get_dead_letter_stats(
    state: &AppState,
    _: v1::GetDeadLetterStatsRequest,
) -> Result<v1::GetDeadLetterStatsResponse, Problem> {
    let items = state.client.dead_letter_stats().await?.to_wire();
    Ok(v1::GetDeadLetterStatsResponse { items })
}

async fn list_stale_tasks(
    state: &AppState,
    request: v1::ListStaleTasksRequest,
) -> Result<v1::ListStaleTasksResponse, Problem> {
    let limit = page::limit(request.limit)?;
    let after = wire::optional_uuid("after", request.after.as_deref())?;
    let namespace = request.namespace.as_deref();
    let listed = state
        .client
        .stale_tasks(namespace, after, Some(limit))
        .await?;
    let (items, next_after) = wire::page(listed, limit, |item| item.task_uuid);
    Ok(v1::ListStaleTasksResponse { items, next_after })
}
