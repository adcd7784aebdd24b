//! Tasks: create, get, list; their history and graph.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use sqlx::types::Json;
use sqlx::{FromRow, PgExecutor};
use uuid::Uuid;

use crate::connection::Client;
use crate::error::Error;
use crate::traces;

/// `list_tasks` returns so many when the caller doesn't say.
const DEFAULT_PAGE: i32 = 50;

/// With the name of the template as `$name`.
macro_rules! create_task {
    ($name:literal) => {
        concat!(
            "select tasker.create_task(template_name => ",
            $name,
            ", namespace => $2, context => coalesce($3, '{}'::jsonb), version => $4, \
             idempotency_key => $5, priority => $6, run_at => $7, correlation_id => $8, parent_correlation_id => $9, tags => $10, \
             initiator => $11, source_system => $12, reason => $13)"
        )
    };
}

const CREATE_TASK: &str = create_task!("$1");

/// The setting holds until the transaction ends. It is set before the task is created: a function's arguments come first.
const CREATE_TASK_IN_TRACE: &str =
    create_task!("left(set_config('tasker.traceparent', $14, true), 0) || $1");

const CREATE_TASKS: &str =
    "select ordinal, task_uuid, created from tasker.create_tasks(requests => $1) order by ordinal";

const CREATE_TASKS_IN_TRACE: &str = "select ordinal, task_uuid, created from tasker.create_tasks(requests => \
    case when set_config('tasker.traceparent', $2, true) is not null then $1 end) order by ordinal";

/// Columns that version 0.1.0 of the extension has not are read as it is there: null.
macro_rules! task_columns {
    () => {
        "task_uuid, namespace, template_name, template_version, state, context, priority, tags, correlation_id, \
         parent_correlation_id, idempotency_key, initiator, source_system, reason, run_at, created_at, started_at, \
         finished_at, paused_at, steps_total, steps_done, steps_failed, error, (later ->> 'parent_task_uuid')::uuid as parent_task_uuid, (later ->> 'parent_step_uuid')::uuid as parent_step_uuid, later ->> 'traceparent' as traceparent"
    };
}

const GET_TASK: &str = concat!(
    "select ",
    task_columns!(),
    " from tasker.get_task(task_uuid => $1) r cross join lateral to_jsonb(r) later"
);

const LIST_TASKS: &str = concat!(
    "select ",
    task_columns!(),
    " from tasker.list_tasks(namespace => $1, template_name => $2, states => $3, tags => $4, context_contains => $5, \
     created_after => $6, created_before => $7, after => $8, \"limit\" => $9) r cross join lateral to_jsonb(r) later"
);

const TASK_HISTORY: &str = "select seq, from_state, to_state, event, at, attempt, actor, metadata \
    from tasker.task_history(task_uuid => $1)";

const TASK_GRAPH: &str = "select number, name, type, step_uuid, state, created, dependencies, dependents, (to_jsonb(r) ->> 'child_task_uuid')::uuid as child_task_uuid \
    from tasker.task_graph(task_uuid => $1) r";

/// What a new task is to be. `NewTask { template_name, ..Default::default() }` leaves the rest to the database's defaults.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct NewTask {
    /// The template's name.
    #[cfg_attr(
        feature = "openapi",
        schema(pattern = "^[a-z0-9_]{1,64}$", example = "order_fulfillment")
    )]
    #[serde(alias = "name")]
    pub template_name: String,
    /// The template's namespace.
    #[cfg_attr(
        feature = "openapi",
        schema(pattern = "^[a-z][a-z0-9_]{0,28}$", example = "shop")
    )]
    #[serde(default = "default_namespace")]
    pub namespace: String,
    /// The task's input; an empty object when left out.
    #[cfg_attr(
        feature = "openapi",
        schema(value_type = Option<Object>, example = json!({"order_id": "A-1001"}))
    )]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context: Option<Box<RawValue>>,
    /// The template's version; the newest when left out.
    #[cfg_attr(
        feature = "openapi",
        schema(min_length = 1, max_length = 16, example = "1.0.0")
    )]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// The same key with the same request returns the task that exists.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idempotency_key: Option<String>,
    /// -100 to 100; higher is served first.
    #[cfg_attr(feature = "openapi", schema(minimum = -100, maximum = 100))]
    #[serde(default)]
    pub priority: i32,
    /// Not to be started before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_at: Option<DateTime<Utc>>,
    /// Ties the task to others and to logs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub correlation_id: Option<Uuid>,
    /// The correlation id of what caused the task.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent_correlation_id: Option<Uuid>,
    /// Words to find the task by.
    #[serde(default)]
    pub tags: Vec<String>,
    /// Who asked for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub initiator: Option<String>,
    /// Which system asked for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_system: Option<String>,
    /// Why it was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

impl Default for NewTask {
    fn default() -> Self {
        Self {
            template_name: String::new(),
            namespace: default_namespace(),
            context: None,
            version: None,
            idempotency_key: None,
            priority: 0,
            run_at: None,
            correlation_id: None,
            parent_correlation_id: None,
            tags: Vec::new(),
            initiator: None,
            source_system: None,
            reason: None,
        }
    }
}

fn default_namespace() -> String {
    "default".to_owned()
}

/// One answer of [`Client::create_tasks`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, FromRow)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct CreatedTask {
    /// The place of its request, from 1.
    pub ordinal: i32,
    /// The task.
    pub task_uuid: Uuid,
    /// False when its idempotency key was used before with the same request.
    pub created: bool,
}

/// A task as it is now.
#[derive(Debug, Clone, Serialize, Deserialize, FromRow)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Task {
    /// The task's key.
    pub task_uuid: Uuid,
    /// The namespace of its template.
    pub namespace: String,
    /// The name of its template.
    pub template_name: String,
    /// The version of its template.
    pub template_version: String,
    /// One of the twelve states.
    #[cfg_attr(feature = "openapi", schema(example = "steps_in_process"))]
    pub state: String,
    /// Its input, with the schema's defaults filled in.
    #[cfg_attr(feature = "openapi", schema(value_type = Object))]
    #[sqlx(json)]
    pub context: Box<RawValue>,
    /// -100 to 100; higher is served first.
    pub priority: i32,
    /// Words to find it by.
    pub tags: Vec<String>,
    /// Ties it to others and to logs.
    pub correlation_id: Option<Uuid>,
    /// The correlation id of what caused it.
    pub parent_correlation_id: Option<Uuid>,
    /// The key given when it was created.
    pub idempotency_key: Option<String>,
    /// Who asked for it.
    pub initiator: Option<String>,
    /// Which system asked for it.
    pub source_system: Option<String>,
    /// Why it was asked for.
    pub reason: Option<String>,
    /// Not started before.
    pub run_at: Option<DateTime<Utc>>,
    /// When it was created.
    pub created_at: DateTime<Utc>,
    /// When it was started.
    pub started_at: Option<DateTime<Utc>>,
    /// When it reached its terminal state.
    pub finished_at: Option<DateTime<Utc>>,
    /// Since when it is paused.
    pub paused_at: Option<DateTime<Utc>>,
    /// How many steps it has.
    #[cfg_attr(feature = "openapi", schema(example = 4))]
    pub steps_total: i32,
    /// How many of them are satisfied.
    #[cfg_attr(feature = "openapi", schema(example = 1))]
    pub steps_done: i32,
    /// How many of them failed for good.
    #[cfg_attr(feature = "openapi", schema(example = 0))]
    pub steps_failed: i32,
    /// Why it ended in `error`.
    #[cfg_attr(feature = "openapi", schema(value_type = serde_json::Value))]
    #[sqlx(json(nullable))]
    pub error: Option<Box<RawValue>>,
    /// The task that started it, of a child task.
    pub parent_task_uuid: Option<Uuid>,
    /// The step that started it and waits for it, of a child task.
    pub parent_step_uuid: Option<Uuid>,
    /// The span that its creation belongs to, as W3C writes it in `traceparent`.
    #[cfg_attr(
        feature = "openapi",
        schema(example = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")
    )]
    pub traceparent: Option<String>,
}

/// Which tasks to list: all that fit every field that is set, newest first.
#[derive(Debug, Clone, Default)]
pub struct TaskFilter {
    /// Of this namespace.
    pub namespace: Option<String>,
    /// Of this template.
    pub template_name: Option<String>,
    /// In one of these states.
    pub states: Option<Vec<String>>,
    /// With all of these tags.
    pub tags: Option<Vec<String>>,
    /// Whose context contains this.
    pub context_contains: Option<Box<RawValue>>,
    /// Created at this time or later.
    pub created_after: Option<DateTime<Utc>>,
    /// Created before this time.
    pub created_before: Option<DateTime<Utc>>,
    /// The page after this task.
    pub after: Option<Uuid>,
    /// At most so many; 50 when left out.
    pub limit: Option<i32>,
}

/// One transition of a task or step.
#[derive(Debug, Clone, Serialize, Deserialize, FromRow)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct HistoryRow {
    /// Its place in the history.
    pub seq: i64,
    /// The state before; `None` for the first row.
    pub from_state: Option<String>,
    /// The state after.
    #[cfg_attr(feature = "openapi", schema(example = "in_progress"))]
    pub to_state: String,
    /// What happened.
    #[cfg_attr(feature = "openapi", schema(example = "start"))]
    pub event: String,
    /// When.
    pub at: DateTime<Utc>,
    /// The step's attempt.
    pub attempt: Option<i32>,
    /// Who did it.
    pub actor: Option<String>,
    /// More about it.
    #[cfg_attr(feature = "openapi", schema(value_type = serde_json::Value))]
    #[sqlx(json(nullable))]
    pub metadata: Option<Box<RawValue>>,
}

/// A step of a task's graph, also one that isn't created yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, FromRow)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct GraphNode {
    /// Its number in topological order, from 1.
    pub number: i32,
    /// Its name.
    #[cfg_attr(feature = "openapi", schema(example = "ship"))]
    pub name: String,
    /// Its type, as the template names it.
    #[cfg_attr(feature = "openapi", schema(example = "standard"))]
    pub r#type: String,
    /// Its key, if it is created.
    pub step_uuid: Option<Uuid>,
    /// Its state, if it is created.
    pub state: Option<String>,
    /// Whether it is created.
    pub created: bool,
    /// The names of the steps it waits for.
    pub dependencies: Vec<String>,
    /// The names of the steps that wait for it.
    pub dependents: Vec<String>,
    /// The task that its newest attempt started, of a step that starts one.
    pub child_task_uuid: Option<Uuid>,
}

/// Creates a task in the caller's own transaction: it commits or rolls back with it, and nothing is left on rollback. Within [`traces::within`] the rest of that transaction is part of the trace.
///
/// ```no_run
/// # async fn order(pool: &tasker_client::PgPool) -> Result<(), Box<dyn std::error::Error>> {
/// use tasker_client::{NewTask, tasks::create_task_in};
///
/// let mut transaction = pool.begin().await?;
/// // … the application's own rows …
/// let task = NewTask { template_name: "order_fulfillment".into(), namespace: "shop".into(), ..NewTask::default() };
/// let task_uuid = create_task_in(&mut transaction, &task).await?;
/// transaction.commit().await?;
/// # let _ = task_uuid;
/// # Ok(())
/// # }
/// ```
pub async fn create_task_in(
    connection: &mut sqlx::PgConnection,
    task: &NewTask,
) -> Result<Uuid, Error> {
    create_task(connection, task).await
}

/// Creates any number of tasks in the caller's own transaction, as [`create_task_in`] does one.
pub async fn create_tasks_in(
    connection: &mut sqlx::PgConnection,
    tasks: &[NewTask],
) -> Result<Vec<CreatedTask>, Error> {
    create_tasks(connection, tasks).await
}

async fn create_task(executor: impl PgExecutor<'_>, task: &NewTask) -> Result<Uuid, Error> {
    let trace = traces::current().map(|trace| trace.to_string());
    let statement = match &trace {
        Some(_) => CREATE_TASK_IN_TRACE,
        None => CREATE_TASK,
    };
    let query = sqlx::query_scalar(statement)
        .bind(&task.template_name)
        .bind(&task.namespace)
        .bind(task.context.as_deref().map(Json))
        .bind(&task.version)
        .bind(&task.idempotency_key)
        .bind(task.priority)
        .bind(task.run_at)
        .bind(task.correlation_id)
        .bind(task.parent_correlation_id)
        .bind(&task.tags)
        .bind(&task.initiator)
        .bind(&task.source_system)
        .bind(&task.reason);
    let query = match trace {
        Some(trace) => query.bind(trace),
        None => query,
    };
    Ok(query.fetch_one(executor).await?)
}

async fn create_tasks(
    executor: impl PgExecutor<'_>,
    tasks: &[NewTask],
) -> Result<Vec<CreatedTask>, Error> {
    let query = match traces::current() {
        Some(trace) => sqlx::query_as(CREATE_TASKS_IN_TRACE)
            .bind(Json(tasks))
            .bind(trace.to_string()),
        None => sqlx::query_as(CREATE_TASKS).bind(Json(tasks)),
    };
    Ok(query.fetch_all(executor).await?)
}

impl Client {
    /// Creates a task and returns its key; with an idempotency key that was used for the same request, the key of the task
    /// that exists.
    pub async fn create_task(&self, task: &NewTask) -> Result<Uuid, Error> {
        create_task(self.pool(), task).await
    }

    /// Creates any number of tasks in one statement: all or none.
    pub async fn create_tasks(&self, tasks: &[NewTask]) -> Result<Vec<CreatedTask>, Error> {
        create_tasks(self.pool(), tasks).await
    }

    /// A task as it is now; TK001 when there is none.
    pub async fn get_task(&self, task_uuid: Uuid) -> Result<Task, Error> {
        let task = sqlx::query_as(GET_TASK)
            .bind(task_uuid)
            .fetch_one(self.pool())
            .await?;
        Ok(task)
    }

    /// Tasks, newest first, a page at a time.
    pub async fn list_tasks(&self, filter: &TaskFilter) -> Result<Vec<Task>, Error> {
        let tasks = sqlx::query_as(LIST_TASKS)
            .bind(&filter.namespace)
            .bind(&filter.template_name)
            .bind(&filter.states)
            .bind(&filter.tags)
            .bind(filter.context_contains.as_deref().map(Json))
            .bind(filter.created_after)
            .bind(filter.created_before)
            .bind(filter.after)
            .bind(filter.limit.unwrap_or(DEFAULT_PAGE))
            .fetch_all(self.pool())
            .await?;
        Ok(tasks)
    }

    /// Every transition of a task, oldest first.
    pub async fn task_history(&self, task_uuid: Uuid) -> Result<Vec<HistoryRow>, Error> {
        let rows = sqlx::query_as(TASK_HISTORY)
            .bind(task_uuid)
            .fetch_all(self.pool())
            .await?;
        Ok(rows)
    }

    /// The steps of a task with their edges and states, in topological order.
    pub async fn task_graph(&self, task_uuid: Uuid) -> Result<Vec<GraphNode>, Error> {
        let nodes = sqlx::query_as(TASK_GRAPH)
            .bind(task_uuid)
            .fetch_all(self.pool())
            .await?;
        Ok(nodes)
    }
}
