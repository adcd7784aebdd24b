//! The command line, and how much is measured in each kind of run.

use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;

use crate::shapes::Shape;

/// Measures Tasker on a PostgreSQL of its own, beside what the machine can do.
#[derive(Debug, Parser)]
#[allow(clippy::struct_excessive_bools, reason = "each is a flag of its own")]
#[command(name = "tasker-bench", version)]
pub(crate) struct Options {
    /// A short run, of some three minutes
    #[arg(long)]
    pub(crate) quick: bool,

    /// Only the machine's limits, printed and not written to a file
    #[arg(long)]
    pub(crate) limits: bool,

    /// Only the curve of what an element of a map costs, printed and not written to a file
    #[arg(long, conflicts_with = "limits")]
    pub(crate) maps: bool,

    /// Only what a held snapshot costs, printed and not written to a file
    #[arg(long, conflicts_with_all = ["limits", "maps"])]
    pub(crate) snapshot: bool,

    /// The shapes whose latency is measured [default: all]
    #[arg(long, value_enum, value_delimiter = ',')]
    pub(crate) shapes: Vec<Shape>,

    /// The bin folder of the PostgreSQL to measure on [default: that of `pg_extension/install --where`]
    #[arg(long)]
    pub(crate) pg_bin: Option<PathBuf>,
}

impl Options {
    pub(crate) fn shapes(&self) -> Vec<Shape> {
        if self.shapes.is_empty() {
            Shape::ALL.to_vec()
        } else {
            self.shapes.clone()
        }
    }

    pub(crate) fn extent(&self) -> Extent {
        if self.quick {
            Extent::QUICK
        } else {
            Extent::FULL
        }
    }
}

/// How much of each figure is measured.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Extent {
    /// Tasks run one at a time, of small shapes.
    pub(crate) lone_tasks: usize,
    /// The same of shapes with a thousand steps.
    pub(crate) lone_large_tasks: usize,
    /// Tasks created one by one, by SQL and as many by REST.
    pub(crate) creations: usize,
    /// Steps of the backlog that is drained.
    pub(crate) backlog_steps: usize,
    /// How long pgbench runs with each number of clients, before and again after.
    pub(crate) pgbench_seconds: u32,
    /// Rounds of one message through PGMQ, and as many through RabbitMQ; of a hundred messages a tenth as many.
    pub(crate) queue_rounds: usize,
    /// How long an idle worker is looked at.
    pub(crate) idle: Duration,
    /// Tasks that are created as fast as it goes, for the worker process.
    pub(crate) sustained_tasks: usize,
    /// The shapes whose latency is measured at half load, and for how long each.
    pub(crate) half_load_shapes: &'static [Shape],
    pub(crate) half_load: Duration,
    /// The sizes of a lone task that is created and drained, rising.
    pub(crate) one_task_steps: &'static [usize],
    /// The sizes of a map that is drained, rising.
    pub(crate) one_map_elements: &'static [usize],
    /// Steps of each backlog that is drained under a condition and beside it.
    pub(crate) flat_steps: usize,
    /// The same while a snapshot is held: what comes every few seconds there, as the reads of a queue from its beginning do, must have its share in a drain.
    pub(crate) snapshot_steps: usize,
    /// How many finished steps are many.
    pub(crate) finished_steps: usize,
    /// How long the snapshot is held before the first backlog is created; at least as long as 20,000 steps take.
    pub(crate) snapshot_held: Duration,
}

impl Extent {
    const QUICK: Self = Self {
        lone_tasks: 200,
        lone_large_tasks: 5,
        creations: 400,
        backlog_steps: 8_000,
        pgbench_seconds: 2,
        queue_rounds: 500,
        idle: Duration::from_secs(10),
        sustained_tasks: 3_000,
        half_load_shapes: &[Shape::Linear],
        half_load: Duration::from_secs(8),
        one_task_steps: &[1_000, 10_000],
        one_map_elements: &[1_000, 10_000],
        flat_steps: 10_000,
        snapshot_steps: 10_000,
        finished_steps: 200_000,
        snapshot_held: Duration::ZERO,
    };
    const FULL: Self = Self {
        lone_tasks: 1_000,
        lone_large_tasks: 10,
        creations: 2_000,
        backlog_steps: 100_000,
        pgbench_seconds: 10,
        queue_rounds: 3_000,
        idle: Duration::from_secs(30),
        sustained_tasks: 30_000,
        half_load_shapes: &[Shape::Linear, Shape::Noop],
        half_load: Duration::from_secs(30),
        one_task_steps: &[1_000, 10_000, 100_000],
        one_map_elements: &[1_000, 10_000, 100_000],
        flat_steps: 30_000,
        snapshot_steps: 100_000,
        finished_steps: 5_000_000,
        snapshot_held: Duration::from_mins(10),
    };
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_holds_together() {
        Options::command().debug_assert();
    }

    #[test]
    fn shapes_are_separated_by_commas_and_default_to_all() {
        let all = Options::parse_from(["tasker-bench"]);
        assert_eq!(all.shapes(), Shape::ALL);
        let two = Options::parse_from(["tasker-bench", "--shapes", "noop,fan-out"]);
        assert_eq!(two.shapes(), [Shape::Noop, Shape::FanOut]);
    }
}
