//! Tasks run one at a time by the worker process, and what an idle worker costs.

use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use serde::Serialize;
use tasker_client::{Client, NewTask};
use uuid::Uuid;

use crate::creation;
use crate::distribution::Distribution;
use crate::meter::{Meter, TaskTimes};
use crate::options::Extent;
use crate::shapes::Shape;
use crate::stage::Stage;

/// Within this most small tasks have ended; nothing is asked before, so that the question doesn't disturb the answer.
const FIRST_LOOK: Duration = Duration::from_millis(15);
const FIRST_LOOK_LARGE: Duration = Duration::from_millis(250);
const ENDS_WITHIN: Duration = Duration::from_mins(2);
/// The worker has gone idle again by then.
const PAUSE: Duration = Duration::from_millis(10);
const WARM_UP_TASKS: usize = 5;
/// A session that has gone idle reports what it did before within ten seconds.
const COUNTERS_SETTLE: Duration = Duration::from_secs(12);

/// The latency of one shape.
#[derive(Debug, Serialize)]
pub(crate) struct Lone {
    pub(crate) shape: &'static str,
    pub(crate) steps: usize,
    /// From the task's `created_at` to its `finished_at`.
    pub(crate) complete: Distribution,
    /// From the task's `created_at` to the first `started_at` of its steps.
    pub(crate) wake_up: Distribution,
}

/// Runs tasks of a shape one after the other.
pub(crate) async fn lone(
    stage: &Stage,
    meter: &mut Meter,
    shape: Shape,
    extent: Extent,
) -> anyhow::Result<Lone> {
    let client = stage.client("tasker-bench lone", 1).await?;
    let task = creation::new_task(shape, shape.served_namespace());
    let (warm_up, tasks) = if shape.is_large() {
        (1, extent.lone_large_tasks)
    } else {
        (WARM_UP_TASKS, extent.lone_tasks)
    };
    for _ in 0..warm_up {
        run_one(&client, meter, &task, shape).await?;
    }
    let (mut complete, mut wake_up) = (Vec::new(), Vec::new());
    for _ in 0..tasks {
        let times = run_one(&client, meter, &task, shape).await?;
        complete.push(times.complete_ms);
        wake_up.push(times.wake_up_ms);
        tokio::time::sleep(PAUSE).await;
    }
    client.close().await;
    Ok(Lone {
        shape: shape.name(),
        steps: shape.steps(),
        complete: Distribution::of(complete).context("no tasks")?,
        wake_up: Distribution::of(wake_up).context("no tasks")?,
    })
}

async fn run_one(
    client: &Client,
    meter: &mut Meter,
    task: &NewTask,
    shape: Shape,
) -> anyhow::Result<TaskTimes> {
    let task_uuid = client.create_task(task).await?;
    let pause = if shape.is_large() {
        FIRST_LOOK_LARGE
    } else {
        FIRST_LOOK
    };
    let times = ended(meter, task_uuid, pause).await?;
    ensure!(
        times.state == "complete",
        "a task of {} ended as {}",
        shape.name(),
        times.state
    );
    Ok(times)
}

/// Waits until a task has ended. How long that took is told by the database, not by this wait.
async fn ended(meter: &mut Meter, task_uuid: Uuid, pause: Duration) -> anyhow::Result<TaskTimes> {
    let deadline = Instant::now() + ENDS_WITHIN;
    loop {
        tokio::time::sleep(pause).await;
        if let Some(times) = meter.task_times(task_uuid).await? {
            return Ok(times);
        }
        if Instant::now() > deadline {
            bail!(
                "task {task_uuid} didn't end within {} s",
                ENDS_WITHIN.as_secs()
            );
        }
    }
}

/// The transactions a second of a worker that has nothing to do.
pub(crate) async fn idle(meter: &mut Meter, extent: Extent) -> anyhow::Result<f64> {
    tokio::time::sleep(COUNTERS_SETTLE).await;
    let (before, began) = (meter.transactions().await?, Instant::now());
    tokio::time::sleep(extent.idle).await;
    let after = meter.transactions().await?;
    Ok((after - before) / began.elapsed().as_secs_f64())
}
