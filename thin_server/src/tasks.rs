//! `/v1/tasks`.

use axum::Json;
use axum::extract::{OriginalUri, State};
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tasker_client::{GraphNode, HistoryRow, NewTask, Task, TaskFilter};
use uuid::Uuid;

use crate::extract::{JsonBody, PathParameters, QueryParameters};
use crate::page::{self, Page};
use crate::problem::Problem;
use crate::routes::AppState;

#[derive(Debug, Deserialize)]
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
    after: Option<Uuid>,
    limit: Option<i32>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct CancelQuery {
    reason: Option<String>,
}

/// The task's row, and whether this request made it.
#[derive(Debug, Serialize)]
pub(crate) struct Created {
    #[serde(flatten)]
    task: Task,
    created: bool,
}

/// The task's row, and whether this request cancelled it.
#[derive(Debug, Serialize)]
pub(crate) struct Cancelled {
    #[serde(flatten)]
    task: Task,
    cancelled: bool,
}

pub(crate) async fn create(
    State(state): State<AppState>,
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

pub(crate) async fn get(
    State(state): State<AppState>,
    PathParameters(task_uuid): PathParameters<Uuid>,
) -> Result<Json<Task>, Problem> {
    Ok(Json(state.client.get_task(task_uuid).await?))
}

pub(crate) async fn cancel(
    State(state): State<AppState>,
    PathParameters(task_uuid): PathParameters<Uuid>,
    QueryParameters(query): QueryParameters<CancelQuery>,
) -> Result<Json<Cancelled>, Problem> {
    let cancelled = state
        .client
        .cancel_task(task_uuid, query.reason.as_deref())
        .await?;
    let task = state.client.get_task(task_uuid).await?;
    Ok(Json(Cancelled { task, cancelled }))
}

pub(crate) async fn graph(
    State(state): State<AppState>,
    PathParameters(task_uuid): PathParameters<Uuid>,
) -> Result<Json<Page<GraphNode>>, Problem> {
    Ok(Json(Page::whole(state.client.task_graph(task_uuid).await?)))
}

pub(crate) async fn history(
    State(state): State<AppState>,
    PathParameters(task_uuid): PathParameters<Uuid>,
) -> Result<Json<Page<HistoryRow>>, Problem> {
    Ok(Json(Page::whole(
        state.client.task_history(task_uuid).await?,
    )))
}
