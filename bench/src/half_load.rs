//! The latency of tasks that arrive at half the rate that was sustained.

use std::time::Duration;

use anyhow::{Context, ensure};
use serde::Serialize;

use crate::arrivals::{self, Arrivals};
use crate::creation;
use crate::distribution::Distribution;
use crate::meter::Meter;
use crate::shapes::Shape;
use crate::stage::Stage;
use crate::sustained::Sustained;

const ENDS_WITHIN: Duration = Duration::from_mins(1);

/// The latency of one shape at half load.
#[derive(Debug, Serialize)]
pub(crate) struct HalfLoad {
    pub(crate) shape: &'static str,
    pub(crate) steps: usize,
    /// Half of what was sustained.
    pub(crate) tasks_per_second: f64,
    /// From the task's `created_at` to its `finished_at`.
    pub(crate) complete: Distribution,
    /// From the task's `created_at` to the first `started_at` of its steps.
    pub(crate) wake_up: Distribution,
    /// How long after its fixed time the call that creates a task was made; the caller's time. Much: the rate wasn't kept.
    pub(crate) late: Distribution,
}

/// Measures the shape that was sustained.
pub(crate) async fn half_load(
    stage: &Stage,
    meter: &mut Meter,
    shape: Shape,
    sustained: &Sustained,
    long: Duration,
) -> anyhow::Result<HalfLoad> {
    let task = creation::new_task(shape, shape.served_namespace());
    let tasks_per_second = sustained.tasks_per_second / 2.0;
    let arrivals = Arrivals::evenly(tasks_per_second, long);
    let arrived = arrivals::create(stage, &task, arrivals).await?;
    let (first, last) = (arrived.first, arrived.last);
    meter.wait_for_end(first, last, ENDS_WITHIN).await?;
    let times = meter.times_between(first, last).await?;
    ensure!(times.len() == arrived.count, "somebody else created tasks");
    let failed = times.iter().find(|task| task.state != "complete");
    ensure!(failed.is_none(), "a task didn't complete: {failed:?}");
    let complete = times.iter().map(|task| task.complete_ms).collect();
    let wake_up = times.iter().map(|task| task.wake_up_ms).collect();
    Ok(HalfLoad {
        shape: shape.name(),
        steps: shape.steps(),
        tasks_per_second,
        complete: Distribution::of(complete).context("no tasks")?,
        wake_up: Distribution::of(wake_up).context("no tasks")?,
        late: Distribution::of(arrived.late_ms).context("no tasks")?,
    })
}
