//! What the worker process sustains when tasks are created one by one as fast as it goes, and whether its memory stays what it was.

use std::time::Duration;

use anyhow::ensure;
use serde::Serialize;

use crate::arrivals::{self, Arrivals, Arrived};
use crate::creation;
use crate::machine::Memory;
use crate::meter::Meter;
use crate::shapes::Shape;
use crate::stage::{Program, Stage};

const ENDS_WITHIN: Duration = Duration::from_mins(15);

/// A run of one worker process.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Sustained {
    pub(crate) shape: &'static str,
    pub(crate) tasks: usize,
    pub(crate) steps: usize,
    /// Of all but the first tenth: tasks by the seconds from the first one's creation to the last one's end.
    pub(crate) tasks_per_second: f64,
    pub(crate) steps_per_second: f64,
    /// The worker's, when the first tenth of the tasks had ended.
    pub(crate) memory_after_a_tenth: Memory,
    /// The worker's, when all had ended.
    pub(crate) memory_at_the_end: Memory,
}

impl Sustained {
    /// The worker's resident memory at the end by that after the first tenth.
    pub(crate) fn memory_growth(&self) -> f64 {
        self.memory_at_the_end.resident_mb / self.memory_after_a_tenth.resident_mb
    }
}

/// Creates so many tasks for the worker and waits until all have ended.
pub(crate) async fn sustained(
    stage: &Stage,
    meter: &mut Meter,
    worker: &Program,
    shape: Shape,
    tasks: usize,
) -> anyhow::Result<Sustained> {
    let tenth = tasks.div_ceil(10);
    run(stage, meter, shape, tenth).await?;
    let memory_after_a_tenth = Memory::of(worker.process()?)?;
    let rest = run(stage, meter, shape, tasks - tenth).await?;
    let memory_at_the_end = Memory::of(worker.process()?)?;
    let seconds = meter.lifetime_seconds(rest.first, rest.last).await?;
    ensure!(seconds > 0.0, "the worker took no time");
    let tasks_per_second = rest.count as f64 / seconds;
    Ok(Sustained {
        shape: shape.name(),
        tasks,
        steps: tasks * shape.steps(),
        tasks_per_second,
        steps_per_second: tasks_per_second * shape.steps() as f64,
        memory_after_a_tenth,
        memory_at_the_end,
    })
}

async fn run(
    stage: &Stage,
    meter: &mut Meter,
    shape: Shape,
    tasks: usize,
) -> anyhow::Result<Arrived> {
    let task = creation::new_task(shape, shape.served_namespace());
    let arrived = arrivals::create(stage, &task, Arrivals::at_once(tasks)).await?;
    let (first, last) = (arrived.first, arrived.last);
    meter.wait_for_end(first, last, ENDS_WITHIN).await?;
    Ok(arrived)
}
