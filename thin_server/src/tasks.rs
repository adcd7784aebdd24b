//! `/v1/tasks`.

use axum::extract::{OriginalUri, State};
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::{Extension, Json};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tasker_client::{CancelOptions, CreatedTask, GraphNode, HistoryRow, NewTask, Task, TaskFilter};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

use crate::extract::{JsonBody, PathParameters, QueryParameters};
use crate::object;
use crate::openapi::Refusals;
use crate::page::{self, Page};
use crate::problem::Problem;
use crate::routes::AppState;
use crate::traces::Traced;

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct ListQuery {
    namespace: Option<String>,
    #[serde(alias = "name")]
    template_name: Option<String>,
    /// Several are separated by commas, as are the tags.
    states: Option<String>,
    tags: Option<String>,
    /// A JSON document.
    context_contains: Option<String>,
    created_after: Option<DateTime<Utc>>,
    created_before: Option<DateTime<Utc>>,
    /// The page after this task.
    after: Option<Uuid>,
    /// At most so many.
    #[param(minimum = 1, maximum = 500)]
    limit: Option<i32>,
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct CancelQuery {
    /// Why; kept in the task's history.
    reason: Option<String>,
    /// Undo the steps that are complete and name a compensation first.
    #[serde(default)]
    #[param(default = false)]
    compensate: bool,
}

/// Any number of tasks to create together.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct BatchRequest {
    /// What each is to be.
    #[serde(deserialize_with = "object::objects")]
    requests: Vec<NewTask>,
}

/// The task's row, and whether this request made it.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Created {
    #[serde(flatten)]
    task: Task,
    created: bool,
}

/// The task's row, and whether this request cancelled it.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Cancelled {
    #[serde(flatten)]
    task: Task,
    cancelled: bool,
}

pub(crate) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(list, create))
        .routes(routes!(create_batch))
        .routes(routes!(get, cancel))
        .routes(routes!(graph))
        .routes(routes!(history))
}

/// Creates a task.
#[utoipa::path(
    post,
    path = "/v1/tasks",
    operation_id = "create_task",
    tag = "tasks",
    request_body(content = NewTask),
    responses(
        (status = 201, description = "It is created", body = Created),
        (status = 200, description = "The idempotency key was used before with the same request: the task that exists", body = Created),
        Refusals
    ),
    extensions(("x-permission" = json!("tasks:create")))
)]
pub(crate) async fn create(
    State(state): State<AppState>,
    Extension(trace): Extension<Traced>,
    JsonBody(new): JsonBody<NewTask>,
) -> Result<impl IntoResponse, Problem> {
    let answers = state
        .client
        .create_tasks(std::slice::from_ref(&new))
        .await?;
    let Some(answer) = answers.first() else {
        return Err(Problem::internal(
            "create_tasks answered nothing to one request".to_owned(),
        ));
    };
    let task = state.client.get_task(answer.task_uuid).await?;
    trace.is_about(&task);
    let status = if answer.created {
        StatusCode::CREATED
    } else {
        StatusCode::OK
    };
    let location = format!("/v1/tasks/{}", task.task_uuid);
    Ok((
        status,
        [(header::LOCATION, location)],
        Json(Created {
            task,
            created: answer.created,
        }),
    ))
}

/// Creates any number of tasks in one transaction: all or none.
#[utoipa::path(
    post,
    path = "/v1/tasks/batch",
    operation_id = "create_tasks",
    tag = "tasks",
    request_body(
        content = BatchRequest,
        example = json!({"requests": [
            {"template_name": "order_fulfillment", "namespace": "shop", "context": {"order_id": "A-1"}},
            {"template_name": "order_fulfillment", "namespace": "shop", "context": {"order_id": "A-2"}}
        ]})
    ),
    responses(
        (status = 201, description = "They are created, in the order of the requests", body = Page<CreatedTask>),
        (status = 200, description = "None is new: every idempotency key was used before with the same request", body = Page<CreatedTask>),
        Refusals
    ),
    extensions(("x-permission" = json!("tasks:create")))
)]
pub(crate) async fn create_batch(
    State(state): State<AppState>,
    JsonBody(batch): JsonBody<BatchRequest>,
) -> Result<(StatusCode, Json<Page<CreatedTask>>), Problem> {
    let created = state.client.create_tasks(&batch.requests).await?;
    let status = if created.iter().any(|task| task.created) {
        StatusCode::CREATED
    } else {
        StatusCode::OK
    };
    Ok((status, Json(Page::whole(created))))
}

/// Lists tasks, newest first.
#[utoipa::path(
    get,
    path = "/v1/tasks",
    operation_id = "list_tasks",
    tag = "tasks",
    params(ListQuery),
    responses(
        (status = 200, description = "A page of them", body = Page<Task>),
        Refusals
    ),
    extensions(("x-permission" = json!("tasks:list")))
)]
pub(crate) async fn list(
    State(state): State<AppState>,
    OriginalUri(uri): OriginalUri,
    QueryParameters(query): QueryParameters<ListQuery>,
) -> Result<Json<Page<Task>>, Problem> {
    let limit = page::limit(query.limit)?;
    let items = state.client.list_tasks(&filter_of(query, limit)?).await?;
    let full = i32::try_from(items.len()).is_ok_and(|count| count == limit);
    let next = items
        .last()
        .filter(|_| full)
        .map(|last| page::next_link(&uri, last.task_uuid));
    Ok(Json(Page { items, next }))
}

fn filter_of(query: ListQuery, limit: i32) -> Result<TaskFilter, Problem> {
    let context_contains = match query.context_contains {
        None => None,
        Some(text) => Some(RawValue::from_string(text).map_err(|error| {
            Problem::unreadable(format!("context_contains isn't JSON: {error}"))
        })?),
    };
    Ok(TaskFilter {
        namespace: query.namespace,
        template_name: query.template_name,
        states: query.states.as_deref().map(words),
        tags: query.tags.as_deref().map(words),
        context_contains,
        created_after: query.created_after,
        created_before: query.created_before,
        after: query.after,
        limit: Some(limit),
    })
}

fn words(list: &str) -> Vec<String> {
    list.split(',')
        .filter(|word| !word.is_empty())
        .map(str::to_owned)
        .collect()
}

/// A task as it is now.
#[utoipa::path(
    get,
    path = "/v1/tasks/{task_uuid}",
    operation_id = "get_task",
    tag = "tasks",
    params(("task_uuid" = Uuid, Path, description = "The task")),
    responses(
        (status = 200, description = "The task", body = Task),
        Refusals
    ),
    extensions(("x-permission" = json!("tasks:read")))
)]
pub(crate) async fn get(
    State(state): State<AppState>,
    PathParameters(task_uuid): PathParameters<Uuid>,
) -> Result<Json<Task>, Problem> {
    Ok(Json(state.client.get_task(task_uuid).await?))
}

/// Cancels a task and what it has not finished.
#[utoipa::path(
    delete,
    path = "/v1/tasks/{task_uuid}",
    operation_id = "cancel_task",
    tag = "tasks",
    params(("task_uuid" = Uuid, Path, description = "The task"), CancelQuery),
    responses(
        (status = 200, description = "It is cancelled, now or before, or will be when its steps are undone", body = Cancelled),
        Refusals
    ),
    extensions(("x-permission" = json!("tasks:cancel")))
)]
pub(crate) async fn cancel(
    State(state): State<AppState>,
    PathParameters(task_uuid): PathParameters<Uuid>,
    QueryParameters(query): QueryParameters<CancelQuery>,
) -> Result<Json<Cancelled>, Problem> {
    let cancelled = state
        .client
        .cancel_task_with(
            task_uuid,
            CancelOptions {
                reason: query.reason.as_deref(),
                compensate: query.compensate,
            },
        )
        .await?;
    let task = state.client.get_task(task_uuid).await?;
    Ok(Json(Cancelled { task, cancelled }))
}

/// The steps of a task with their edges and states, in topological order.
#[utoipa::path(
    get,
    path = "/v1/tasks/{task_uuid}/graph",
    operation_id = "task_graph",
    tag = "tasks",
    params(("task_uuid" = Uuid, Path, description = "The task")),
    responses(
        (status = 200, description = "The steps", body = Page<GraphNode>),
        Refusals
    ),
    extensions(("x-permission" = json!("tasks:read")))
)]
pub(crate) async fn graph(
    State(state): State<AppState>,
    PathParameters(task_uuid): PathParameters<Uuid>,
) -> Result<Json<Page<GraphNode>>, Problem> {
    Ok(Json(Page::whole(state.client.task_graph(task_uuid).await?)))
}

/// Every transition of a task, oldest first.
#[utoipa::path(
    get,
    path = "/v1/tasks/{task_uuid}/history",
    operation_id = "task_history",
    tag = "tasks",
    params(("task_uuid" = Uuid, Path, description = "The task")),
    responses(
        (status = 200, description = "The transitions", body = Page<HistoryRow>),
        Refusals
    ),
    extensions(("x-permission" = json!("tasks:read")))
)]
pub(crate) async fn history(
    State(state): State<AppState>,
    PathParameters(task_uuid): PathParameters<Uuid>,
) -> Result<Json<Page<HistoryRow>>, Problem> {
    Ok(Json(Page::whole(
        state.client.task_history(task_uuid).await?,
    )))
}
