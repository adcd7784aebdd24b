//! Creating tasks: one by one by SQL and by REST, and in bulk.

use std::time::Instant;

use anyhow::{Context, ensure};
use reqwest::StatusCode;
use serde::Serialize;
use serde_json::json;
use serde_json::value::to_raw_value;
use tasker_client::NewTask;
use uuid::Uuid;

use crate::distribution::Distribution;
use crate::options::Extent;
use crate::shapes::{CREATED_ONLY, Shape};
use crate::stage::Stage;

/// How many tasks one call creates.
const BULK: usize = 1_000;
const WARM_UP: usize = 20;

/// Creating tasks of linear 4 one by one on one connection, by turns in both ways. Times are those that the caller sees.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct OneByOne {
    pub(crate) sql: Distribution,
    pub(crate) sql_tasks_per_second: f64,
    pub(crate) rest: Distribution,
    /// The median by REST less the median by SQL.
    pub(crate) rest_adds_ms: f64,
}

/// Measures both ways, so that what else the machine does meets both.
pub(crate) async fn one_by_one(
    stage: &Stage,
    server_url: &str,
    extent: Extent,
) -> anyhow::Result<OneByOne> {
    let client = stage.client("tasker-bench create", 1).await?;
    let task = new_task(Shape::Linear, CREATED_ONLY);
    let http = reqwest::Client::new();
    let post = http.post(format!("{server_url}/v1/tasks")).json(&json!({
        "template_name": task.template_name,
        "namespace": task.namespace,
    }));
    let (mut sql, mut rest) = (Vec::new(), Vec::new());
    for round in 0..WARM_UP + extent.creations {
        let began = Instant::now();
        client.create_task(&task).await?;
        let by_sql = began.elapsed();
        let request = post.try_clone().context("the request can't be repeated")?;
        let began = Instant::now();
        let answer = request.send().await?;
        let status = answer.status();
        answer.bytes().await?;
        let by_rest = began.elapsed();
        ensure!(status == StatusCode::CREATED, "POST was answered {status}");
        if round >= WARM_UP {
            sql.push(by_sql.as_secs_f64() * 1_000.0);
            rest.push(by_rest.as_secs_f64() * 1_000.0);
        }
    }
    client.close().await;
    let sql_seconds = sql.iter().sum::<f64>() / 1_000.0;
    let sql = Distribution::of(sql).context("no tasks")?;
    let rest = Distribution::of(rest).context("no tasks")?;
    Ok(OneByOne {
        sql,
        sql_tasks_per_second: sql.count as f64 / sql_seconds,
        rest,
        rest_adds_ms: rest.p50_ms - sql.p50_ms,
    })
}

/// Tasks created in bulk.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bulk {
    pub(crate) first: Uuid,
    pub(crate) last: Uuid,
    pub(crate) seconds: f64,
}

/// Creates tasks of a shape, a thousand a call, on one connection.
pub(crate) async fn bulk(
    stage: &Stage,
    shape: Shape,
    namespace: &str,
    tasks: usize,
) -> anyhow::Result<Bulk> {
    let client = stage.client("tasker-bench backlog", 1).await?;
    let request = vec![new_task(shape, namespace); tasks.min(BULK)];
    let (mut left, mut keys) = (tasks, Vec::new());
    let began = Instant::now();
    while left > 0 {
        let created = client
            .create_tasks(&request[..left.min(request.len())])
            .await?;
        left = left.saturating_sub(created.len().max(1));
        keys.extend(created.into_iter().map(|task| task.task_uuid));
    }
    let seconds = began.elapsed().as_secs_f64();
    client.close().await;
    ensure!(
        keys.len() == tasks,
        "{} of {tasks} were created",
        keys.len()
    );
    let first = keys.iter().min().context("no tasks")?;
    let last = keys.iter().max().context("no tasks")?;
    Ok(Bulk {
        first: *first,
        last: *last,
        seconds,
    })
}

/// A task of a shape's template in a namespace.
pub(crate) fn new_task(shape: Shape, namespace: &str) -> NewTask {
    NewTask {
        template_name: shape.template().to_owned(),
        namespace: namespace.to_owned(),
        context: shape
            .context()
            .and_then(|context| to_raw_value(&context).ok()),
        ..NewTask::default()
    }
}
