//! `TaskService`. Bulk jobs and signals are in modules of their own, the streams in `events`.

use tasker_client::{CancelOptions, NewTask, RerunOptions, TaskFilter};
use tasker_grpc::v1::{self, task_service_server::TaskService};
use tonic::{Request, Response, Status};

use super::bulk::{apply_to_tasks, cancel_bulk_job, list_bulk_jobs};
use super::events::{self, Events};
use super::signals::{list_signals, send_signal};
use super::wire::{self, ToWire, message};
use super::{Door, service};
use crate::page;
use crate::problem::Problem;
use crate::routes::AppState;

message!(tasker_client::Task => Task {
    task_uuid, namespace, template_name, template_version, state, priority, tags, correlation_id, parent_correlation_id, idempotency_key, initiator, source_system,
    reason, run_at, created_at, started_at, finished_at, paused_at, steps_total, steps_done, steps_failed, parent_task_uuid, parent_step_uuid,
    traceparent;
    json context => context_json, error => error_json
});
message!(tasker_client::CreatedTask => CreatedTask { ordinal, task_uuid, created });
message!(tasker_client::Explanation => Explanation {
    step_uuid, step_name, state, reason, explanation, waits_for, until, worker_id, dead_letter_uuid
});
message!(tasker_client::GraphNode => GraphNode {
    number, name, r#type, step_uuid, state, created, dependencies, dependents, child_task_uuid
});
message!(tasker_client::HistoryRow => HistoryRow {
    seq, from_state, to_state, event, at, attempt, actor;
    json metadata => metadata_json
});
message!(tasker_client::Compensation => Compensation {
    ordinal, step_uuid, name, state, undoes_step_uuid, undoes_name, attempts_used;
    json error => error_json
});

service!(TaskService {
    create_task(CreateTaskRequest) -> CreateTaskResponse,
    create_tasks(CreateTasksRequest) -> CreateTasksResponse,
    get_task(GetTaskRequest) -> Task,
    list_tasks(ListTasksRequest) -> ListTasksResponse,
    cancel_task(CancelTaskRequest) -> CancelTaskResponse,
    pause_task(PauseTaskRequest) -> PauseTaskResponse,
    resume_task(ResumeTaskRequest) -> ResumeTaskResponse,
    rerun_task(RerunTaskRequest) -> Task,
    explain_task(ExplainTaskRequest) -> ExplainTaskResponse,
    get_task_graph(GetTaskGraphRequest) -> GetTaskGraphResponse,
    get_task_history(GetTaskHistoryRequest) -> GetTaskHistoryResponse,
    list_compensations(ListCompensationsRequest) -> ListCompensationsResponse,
    send_signal(SendSignalRequest) -> SendSignalResponse,
    list_signals(ListSignalsRequest) -> ListSignalsResponse,
    apply_to_tasks(ApplyToTasksRequest) -> ApplyToTasksResponse,
    list_bulk_jobs(ListBulkJobsRequest) -> ListBulkJobsResponse,
    cancel_bulk_job(CancelBulkJobRequest) -> CancelBulkJobResponse,
} with {
    type StreamTaskEventsStream = Events;
    type StreamEventsStream = Events;

    async fn stream_task_events(
        &self,
        request: Request<v1::StreamTaskEventsRequest>,
    ) -> Result<Response<Events>, Status> {
        events::of_task(&self.0, request).await
    }

    async fn stream_events(
        &self,
        request: Request<v1::StreamEventsRequest>,
    ) -> Result<Response<Events>, Status> {
        events::of_all(&self.0, request).await
    }
});

fn new_task(request: v1::CreateTaskRequest) -> Result<NewTask, Problem> {
    let correlation_id = request.correlation_id.as_deref();
    let parent = request.parent_correlation_id.as_deref();
    Ok(NewTask {
        correlation_id: wire::optional_uuid("correlation_id", correlation_id)?,
        parent_correlation_id: wire::optional_uuid("parent_correlation_id", parent)?,
        template_name: request.template_name,
        namespace: wire::namespace(request.namespace),
        context: wire::optional_json("context_json", request.context_json)?,
        version: request.version,
        idempotency_key: request.idempotency_key,
        priority: request.priority,
        run_at: wire::time("run_at", request.run_at)?,
        tags: request.tags,
        initiator: request.initiator,
        source_system: request.source_system,
        reason: request.reason,
    })
}

async fn create_task(
    state: &AppState,
    request: v1::CreateTaskRequest,
) -> Result<v1::CreateTaskResponse, Problem> {
    let new = new_task(request)?;
    let created = state
        .client
        .create_tasks(std::slice::from_ref(&new))
        .await?;
    let Some(answer) = created.first() else {
        return Err(Problem::internal(
            "create_tasks answered nothing to one request".to_owned(),
        ));
    };
    let task = state.client.get_task(answer.task_uuid).await?;
    Ok(v1::CreateTaskResponse {
        task: Some(task.to_wire()),
        created: answer.created,
    })
}

async fn create_tasks(
    state: &AppState,
    request: v1::CreateTasksRequest,
) -> Result<v1::CreateTasksResponse, Problem> {
    let new: Vec<NewTask> = request
        .requests
        .into_iter()
        .map(new_task)
        .collect::<Result<_, _>>()?;
    let items = state.client.create_tasks(&new).await?.to_wire();
    Ok(v1::CreateTasksResponse { items })
}

async fn get_task(state: &AppState, request: v1::GetTaskRequest) -> Result<v1::Task, Problem> {
    let task_uuid = wire::uuid("task_uuid", &request.task_uuid)?;
    Ok(state.client.get_task(task_uuid).await?.to_wire())
}

async fn list_tasks(
    state: &AppState,
    request: v1::ListTasksRequest,
) -> Result<v1::ListTasksResponse, Problem> {
    let limit = page::limit(request.limit)?;
    let filter = TaskFilter {
        namespace: request.namespace,
        template_name: request.template_name,
        states: wire::any(request.states),
        tags: wire::any(request.tags),
        context_contains: wire::optional_json(
            "context_contains_json",
            request.context_contains_json,
        )?,
        created_after: wire::time("created_after", request.created_after)?,
        created_before: wire::time("created_before", request.created_before)?,
        after: wire::optional_uuid("after", request.after.as_deref())?,
        limit: Some(limit),
    };
    let tasks = state.client.list_tasks(&filter).await?;
    let (items, next_after) = wire::page(tasks, limit, |task| task.task_uuid);
    Ok(v1::ListTasksResponse { items, next_after })
}

async fn cancel_task(
    state: &AppState,
    request: v1::CancelTaskRequest,
) -> Result<v1::CancelTaskResponse, Problem> {
    let task_uuid = wire::uuid("task_uuid", &request.task_uuid)?;
    let options = CancelOptions {
        reason: request.reason.as_deref(),
        compensate: request.compensate,
    };
    let cancelled = state.client.cancel_task_with(task_uuid, options).await?;
    let task = state.client.get_task(task_uuid).await?;
    Ok(v1::CancelTaskResponse {
        task: Some(task.to_wire()),
        cancelled,
    })
}

async fn pause_task(
    state: &AppState,
    request: v1::PauseTaskRequest,
) -> Result<v1::PauseTaskResponse, Problem> {
    let task_uuid = wire::uuid("task_uuid", &request.task_uuid)?;
    let reason = request.reason.as_deref();
    let paused = state.client.pause_task(task_uuid, reason).await?;
    let task = state.client.get_task(task_uuid).await?;
    Ok(v1::PauseTaskResponse {
        task: Some(task.to_wire()),
        paused,
    })
}

async fn resume_task(
    state: &AppState,
    request: v1::ResumeTaskRequest,
) -> Result<v1::ResumeTaskResponse, Problem> {
    let task_uuid = wire::uuid("task_uuid", &request.task_uuid)?;
    let resumed = state.client.resume_task(task_uuid).await?;
    let task = state.client.get_task(task_uuid).await?;
    Ok(v1::ResumeTaskResponse {
        task: Some(task.to_wire()),
        resumed,
    })
}

async fn rerun_task(state: &AppState, request: v1::RerunTaskRequest) -> Result<v1::Task, Problem> {
    let task_uuid = wire::uuid("task_uuid", &request.task_uuid)?;
    let options = RerunOptions {
        from_step: request.from_step,
        with_descendants: request.with_descendants.unwrap_or(true),
        context: wire::optional_json("context_json", request.context_json)?,
    };
    state.client.rerun_task(task_uuid, &options).await?;
    Ok(state.client.get_task(task_uuid).await?.to_wire())
}

async fn explain_task(
    state: &AppState,
    request: v1::ExplainTaskRequest,
) -> Result<v1::ExplainTaskResponse, Problem> {
    let task_uuid = wire::uuid("task_uuid", &request.task_uuid)?;
    let items = state.client.explain_task(task_uuid).await?.to_wire();
    Ok(v1::ExplainTaskResponse { items })
}

async fn get_task_graph(
    state: &AppState,
    request: v1::GetTaskGraphRequest,
) -> Result<v1::GetTaskGraphResponse, Problem> {
    let task_uuid = wire::uuid("task_uuid", &request.task_uuid)?;
    let items = state.client.task_graph(task_uuid).await?.to_wire();
    Ok(v1::GetTaskGraphResponse { items })
}

async fn get_task_history(
    state: &AppState,
    request: v1::GetTaskHistoryRequest,
) -> Result<v1::GetTaskHistoryResponse, Problem> {
    let task_uuid = wire::uuid("task_uuid", &request.task_uuid)?;
    let items = state.client.task_history(task_uuid).await?.to_wire();
    Ok(v1::GetTaskHistoryResponse { items })
}

async fn list_compensations(
    state: &AppState,
    request: v1::ListCompensationsRequest,
) -> Result<v1::ListCompensationsResponse, Problem> {
    let task_uuid = wire::uuid("task_uuid", &request.task_uuid)?;
    let items = state.client.list_compensations(task_uuid).await?.to_wire();
    Ok(v1::ListCompensationsResponse { items })
}
