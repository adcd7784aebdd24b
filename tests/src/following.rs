//! Tasks created and followed to where a test wants them.

use std::time::Duration;

use anyhow::{Context, ensure};
use serde_json::Value;
use serde_json::value::RawValue;
use sqlx::{PgConnection, PgPool};
use tasker_client::{Client, HistoryRow, NewTask, Step, Task};
use uuid::Uuid;

use crate::waiting::eventually;

/// A task ends within this, also on a machine that does much else.
const ENDS_WITHIN: Duration = Duration::from_mins(1);
const WAITS_WITHIN: Duration = Duration::from_secs(20);
const MAINTENANCE_BATCH: u32 = 1000;

/// What a task of a template with this context is to be.
pub fn new_task(namespace: &str, template: &str, context: &Value) -> anyhow::Result<NewTask> {
    Ok(NewTask {
        template_name: template.to_owned(),
        namespace: namespace.to_owned(),
        context: Some(RawValue::from_string(context.to_string())?),
        ..NewTask::default()
    })
}

/// Creates a task.
pub async fn create(
    client: &Client,
    namespace: &str,
    template: &str,
    context: &Value,
) -> anyhow::Result<Uuid> {
    Ok(client
        .create_task(&new_task(namespace, template, context)?)
        .await?)
}

/// Waits until a task has ended, whatever the end. A database that is away for a while is waited for.
pub async fn ended(client: &Client, task_uuid: Uuid) -> anyhow::Result<Task> {
    eventually(
        &format!("{task_uuid} ends"),
        ENDS_WITHIN,
        async || match client.get_task(task_uuid).await {
            Ok(task) => Ok(Some(task).filter(|task| task.finished_at.is_some())),
            Err(error) if error.is_transient() => Ok(None),
            Err(error) => Err(error.into()),
        },
    )
    .await
}

/// Waits until a task has ended, and requires that it is complete.
pub async fn completed(client: &Client, task_uuid: Uuid) -> anyhow::Result<Task> {
    let task = ended(client, task_uuid).await?;
    ensure!(task.state == "complete", "it ended otherwise: {task:?}");
    Ok(task)
}

/// One of a task's steps.
pub async fn step(client: &Client, task_uuid: Uuid, name: &str) -> anyhow::Result<Step> {
    let steps = client.list_steps(task_uuid).await?;
    steps
        .into_iter()
        .find(|step| step.name == name)
        .with_context(|| format!("{task_uuid} has no step {name}"))
}

/// The states of a task's instances, in the order of their numbers.
pub async fn instance_states(client: &Client, task_uuid: Uuid) -> anyhow::Result<Vec<String>> {
    let steps = client.list_steps(task_uuid).await?;
    let mut instances: Vec<_> = steps
        .into_iter()
        .filter_map(|step| Some((step.instance?, step.state)))
        .collect();
    instances.sort_unstable();
    Ok(instances.into_iter().map(|(_, state)| state).collect())
}

/// The result of one of a task's steps.
pub async fn result(client: &Client, task_uuid: Uuid, name: &str) -> anyhow::Result<Value> {
    let step = step(client, task_uuid, name).await?;
    let result = step
        .result
        .with_context(|| format!("{name} has no result"))?;
    Ok(serde_json::from_str(result.get())?)
}

/// Waits until a step is in a state.
pub async fn step_in_state(
    client: &Client,
    task_uuid: Uuid,
    name: &str,
    state: &str,
) -> anyhow::Result<Step> {
    let what = format!("{name} is {state}");
    eventually(&what, WAITS_WITHIN, async || {
        let step = step(client, task_uuid, name).await?;
        Ok(Some(step).filter(|step| step.state == state))
    })
    .await
}

/// How often an event is in a history.
#[must_use]
pub fn times(history: &[HistoryRow], event: &str) -> usize {
    history.iter().filter(|row| row.event == event).count()
}

/// Runs the maintenance until nothing is left to do, and requires that every invariant holds.
pub async fn verified(client: &Client) -> anyhow::Result<()> {
    // The walk over live steps goes round and round: the first quiet round may have begun in the middle.
    let mut quiet_rounds = 0;
    while quiet_rounds < 2 {
        let jobs = client.run_maintenance(MAINTENANCE_BATCH).await?;
        let is_quiet = !jobs.is_empty() && jobs.iter().all(|job| !job.more);
        quiet_rounds = if is_quiet { quiet_rounds + 1 } else { 0 };
        tokio::task::yield_now().await;
    }
    let violations = client.verify(None).await?;
    ensure!(violations.is_empty(), "{violations:#?}");
    Ok(())
}

/// The server process behind a session.
pub async fn process_of(session: &mut PgConnection) -> anyhow::Result<i32> {
    Ok(sqlx::query_scalar("select pg_backend_pid()")
        .fetch_one(session)
        .await?)
}

/// Waits until one session waits for a lock of another.
pub async fn is_blocked_by(pool: &PgPool, waiting: i32, holding: i32) -> anyhow::Result<()> {
    let query = "select count(*) > 0 from pg_stat_activity a \
        where a.pid = $1 and a.wait_event_type = 'Lock' and $2 = any (pg_blocking_pids(a.pid))";
    eventually(
        "the second session waits for the first",
        WAITS_WITHIN,
        async || {
            let is_waiting: bool = sqlx::query_scalar(query)
                .bind(waiting)
                .bind(holding)
                .fetch_one(pool)
                .await?;
            Ok(is_waiting.then_some(()))
        },
    )
    .await
}

/// Waits until somebody follows the feed of events, has read all that is there, and has asked for notices.
pub async fn somebody_follows(pool: &PgPool) -> anyhow::Result<()> {
    let query = "select count(*) > 0 from pg_locks l where l.locktype = 'advisory' and l.mode = 'ShareLock' \
        and l.database = (select d.oid from pg_database d where d.datname = current_database())";
    eventually("somebody follows", WAITS_WITHIN, async || {
        let is_followed: bool = sqlx::query_scalar(query).fetch_one(pool).await?;
        Ok(is_followed.then_some(()))
    })
    .await
}
