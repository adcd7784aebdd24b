//! A backlog worked off over several connections, by the benchmark itself: what the engine gives when handlers cost nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{bail, ensure};
use serde::Serialize;
use serde_json::json;
use tasker_client::{ClaimRequest, ClaimedStep, Client, FinishRequest, Outcome, VerdictKind};
use tokio::task::JoinSet;

use crate::creation::{self, Bulk};
use crate::meter::{Costs, Meter};
use crate::shapes::{Shape, UNSERVED};
use crate::stage::Stage;

/// How many steps a call finishes and claims.
const BATCH: u32 = 50;
const LEASE: Duration = Duration::from_mins(1);
/// A connection that finds nothing rests so long: others hold what is left.
const REST: Duration = Duration::from_millis(1);
const DONE_WITHIN: Duration = Duration::from_mins(15);

/// A backlog worked off.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Drain {
    pub(crate) shape: &'static str,
    pub(crate) connections: u32,
    pub(crate) tasks: usize,
    pub(crate) steps: usize,
    /// From the start of the first step to the end of the last task.
    pub(crate) seconds: f64,
    pub(crate) tasks_per_second: f64,
    pub(crate) steps_per_second: f64,
    /// Creating the backlog, a thousand tasks a call on one connection.
    pub(crate) created_steps_per_second: f64,
    pub(crate) per_step: Costs,
}

/// Creates a backlog of about so many steps, and works it off.
pub(crate) async fn drain(
    stage: &Stage,
    meter: &mut Meter,
    shape: Shape,
    steps: usize,
    connections: u32,
) -> anyhow::Result<Drain> {
    let (backlog, tasks) = lay_up(stage, meter, shape, steps).await?;
    let steps = tasks * shape.steps();
    let before = meter.counters().await?;
    let clients = open(stage, connections).await?;
    work_off_over(&clients, steps).await?;
    for client in clients {
        client.close().await;
    }
    let after = meter.counters().await?;
    let seconds = meter.span_seconds(backlog.first, backlog.last).await?;
    Ok(Drain {
        shape: shape.name(),
        connections,
        tasks,
        steps,
        seconds,
        tasks_per_second: tasks as f64 / seconds,
        steps_per_second: steps as f64 / seconds,
        created_steps_per_second: steps as f64 / backlog.seconds,
        per_step: after.per_step_since(before, steps),
    })
}

/// Creates a backlog of about so many steps in tables that have just been vacuumed; gives the number of its tasks too.
pub(crate) async fn lay_up(
    stage: &Stage,
    meter: &mut Meter,
    shape: Shape,
    steps: usize,
) -> anyhow::Result<(Bulk, usize)> {
    let tasks = (steps / shape.steps()).max(1);
    meter.vacuum().await?;
    meter.checkpoint().await?;
    let backlog = creation::bulk(stage, shape, UNSERVED, tasks).await?;
    Ok((backlog, tasks))
}

/// Opens so many connections to work backlogs off over.
pub(crate) async fn open(stage: &Stage, connections: u32) -> anyhow::Result<Vec<Client>> {
    let mut clients = Vec::new();
    for _ in 0..connections {
        clients.push(stage.client("tasker-bench drain", 1).await?);
    }
    Ok(clients)
}

/// Works a backlog of so many steps off, over all the connections at once.
pub(crate) async fn work_off_over(clients: &[Client], steps: usize) -> anyhow::Result<()> {
    let done = Arc::new(AtomicUsize::new(0));
    let mut workers = JoinSet::new();
    for (number, client) in clients.iter().enumerate() {
        let (client, done) = (client.clone(), done.clone());
        workers.spawn(async move {
            work_off(&client, &format!("bench-{}", number + 1), &done, steps).await
        });
    }
    while let Some(ended) = workers.join_next().await {
        ended??;
    }
    Ok(())
}

/// Claims and finishes until all steps are done, by this call or by others that count in `done` as well.
pub(crate) async fn work_off(
    client: &Client,
    worker_id: &str,
    done: &AtomicUsize,
    steps: usize,
) -> anyhow::Result<()> {
    let deadline = Instant::now() + DONE_WITHIN;
    let namespaces = vec![UNSERVED.to_owned()];
    let claim = ClaimRequest {
        worker_id: worker_id.to_owned(),
        namespaces: namespaces.clone(),
        max_steps: BATCH,
        lease: LEASE,
        handlers: None,
    };
    let mut held = client.claim_steps(&claim).await?;
    while done.load(Ordering::Relaxed) < steps {
        if held.is_empty() {
            if Instant::now() > deadline {
                bail!("{} of {steps} steps done", done.load(Ordering::Relaxed));
            }
            tokio::time::sleep(REST).await;
            held = client.claim_steps(&claim).await?;
            continue;
        }
        let request = FinishRequest {
            worker_id: worker_id.to_owned(),
            outcomes: held.iter().map(complete).collect(),
            claim_next: BATCH,
            lease: LEASE,
            namespaces: Some(namespaces.clone()),
            handlers: None,
            request_id: None,
        };
        let finished = client.finish_steps(&request).await?;
        let refused = finished
            .verdicts
            .iter()
            .find(|verdict| verdict.verdict != VerdictKind::Accepted);
        ensure!(refused.is_none(), "an outcome was refused: {refused:?}");
        done.fetch_add(held.len(), Ordering::Relaxed);
        held = finished.claimed;
    }
    Ok(())
}

fn complete(step: &ClaimedStep) -> Outcome {
    Outcome::complete(step.step_uuid, step.attempt, json!({"n": "1"}))
}
