//! One task of very many steps: created by one call and drained over the same connection. What a step costs may not depend on how many there are.

use std::sync::atomic::AtomicUsize;
use std::time::Instant;

use anyhow::Context;
use serde::Serialize;
use tasker_client::tasks::create_task_in;
use tasker_client::{Client, NewTask};

use crate::drain;
use crate::meter::Meter;
use crate::options::Extent;
use crate::shapes::{UNSERVED, wide, wide_name};
use crate::stage::Stage;

const DATABASE: &str = "one_task";
/// A small task is over so soon that several are run, one after the other: about so many steps in all.
const STEPS_IN_ALL: usize = 30_000;
const TASKS_MOST: usize = 10;

/// Tasks of one size.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct OneTask {
    /// Of each task: a start, those beside each other, a join.
    pub(crate) steps: usize,
    /// How many were run, one after the other.
    pub(crate) tasks: usize,
    /// The calls that created them, together.
    pub(crate) create_seconds: f64,
    /// From the start of each one's first step to its end, together.
    pub(crate) drain_seconds: f64,
    /// Created and drained.
    pub(crate) steps_per_second: f64,
}

/// Measures each size, in a database of its own.
pub(crate) async fn sizes(stage: &Stage, extent: Extent) -> anyhow::Result<Vec<OneTask>> {
    let templates: Vec<_> = extent.one_task_steps.iter().copied().map(wide).collect();
    let stage = stage.beside(DATABASE, &templates).await?;
    let mut meter = Meter::connect(&stage).await?;
    let mut measured = Vec::new();
    for steps in extent.one_task_steps {
        measured.push(size(&stage, &mut meter, *steps).await?);
    }
    meter.close().await?;
    stage.drop_database()?;
    Ok(measured)
}

async fn size(stage: &Stage, meter: &mut Meter, steps: usize) -> anyhow::Result<OneTask> {
    let client = stage.client("tasker-bench one task", 1).await?;
    let task = NewTask {
        template_name: wide_name(steps),
        namespace: UNSERVED.to_owned(),
        ..NewTask::default()
    };
    warm_up(&client, &task).await?;
    meter.checkpoint().await?;
    let tasks = tasks_of(steps);
    let (mut create_seconds, mut drain_seconds) = (0.0, 0.0);
    for _ in 0..tasks {
        let began = Instant::now();
        let key = client.create_task(&task).await?;
        create_seconds += began.elapsed().as_secs_f64();
        drain::work_off(&client, "bench-1", &AtomicUsize::new(0), steps).await?;
        drain_seconds += meter.span_seconds(key, key).await?;
    }
    client.close().await;
    Ok(OneTask {
        steps,
        tasks,
        create_seconds,
        drain_seconds,
        steps_per_second: (tasks * steps) as f64 / (create_seconds + drain_seconds),
    })
}

/// The connection's session reads the template once, at its first task. That task is rolled back.
async fn warm_up(client: &Client, task: &NewTask) -> anyhow::Result<()> {
    let mut transaction = client.pool().begin().await?;
    create_task_in(&mut transaction, task)
        .await
        .context("the first task of its size")?;
    transaction.rollback().await?;
    Ok(())
}

fn tasks_of(steps: usize) -> usize {
    (STEPS_IN_ALL / steps).clamp(1, TASKS_MOST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_tasks_are_run_several_times_and_large_ones_once() {
        assert_eq!([1_000, 10_000, 100_000].map(tasks_of), [10, 3, 1]);
    }
}
