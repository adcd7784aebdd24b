//! The command line, and how much is measured in each kind of run.

use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;

use crate::shapes::Shape;

/// Measures Tasker on a PostgreSQL of its own, beside what the machine can do.
#[derive(Debug, Parser)]
#[command(name = "tasker-bench", version)]
pub(crate) struct Options {
    /// A short run, of at most three minutes
    #[arg(long)]
    pub(crate) quick: bool,

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
    /// Rounds of one message through PGMQ; of a hundred messages a tenth as many.
    pub(crate) pgmq_rounds: usize,
    /// How long an idle worker is looked at.
    pub(crate) idle: Duration,
}

impl Extent {
    const QUICK: Self = Self {
        lone_tasks: 200,
        lone_large_tasks: 5,
        creations: 400,
        backlog_steps: 8_000,
        pgbench_seconds: 2,
        pgmq_rounds: 500,
        idle: Duration::from_secs(10),
    };
    const FULL: Self = Self {
        lone_tasks: 1_000,
        lone_large_tasks: 10,
        creations: 2_000,
        backlog_steps: 100_000,
        pgbench_seconds: 10,
        pgmq_rounds: 3_000,
        idle: Duration::from_secs(30),
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
