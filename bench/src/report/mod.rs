//! What a run found, and the forms it is told in: a table, a file, charts.

pub(crate) mod charts;
pub(crate) mod reading;
mod svg;
pub(crate) mod table;
pub(crate) mod targets;

use serde::Serialize;

use crate::creation::OneByOne;
use crate::drain::Drain;
use crate::latency::Lone;
use crate::limits::Limits;
use crate::machine::{Memory, Others};
use targets::Target;

/// A whole run.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) date: String,
    pub(crate) quick: bool,
    pub(crate) machine: Machine,
    pub(crate) limits: Limits,
    pub(crate) figures: Figures,
    pub(crate) targets: Vec<Target>,
    pub(crate) reading: Vec<String>,
}

/// Where it ran.
#[derive(Debug, Serialize)]
pub(crate) struct Machine {
    /// The commit of the project that was checked out, where it can be told; `+` when files differ from it.
    pub(crate) revision: Option<String>,
    pub(crate) cores: usize,
    pub(crate) postgresql: String,
    pub(crate) others_before: Others,
    pub(crate) others_after: Others,
    pub(crate) run_seconds: f64,
}

/// What Tasker did.
#[derive(Debug, Serialize)]
pub(crate) struct Figures {
    /// One task at a time, run by the worker process.
    pub(crate) latency: Vec<Lone>,
    pub(crate) creation: OneByOne,
    pub(crate) idle_worker_transactions_per_second: f64,
    pub(crate) worker_memory: Memory,
    pub(crate) server_memory: Memory,
    /// Backlogs of linear 4, by the number of connections.
    pub(crate) drains: Vec<Drain>,
    /// Single steps that have nothing to do with each other, to hold the fan-out against.
    pub(crate) independent: Drain,
    pub(crate) fan_out: Drain,
}

impl Figures {
    /// The drain with the most steps a second.
    pub(crate) fn best_drain(&self) -> &Drain {
        let best = self
            .drains
            .iter()
            .max_by(|a, b| a.steps_per_second.total_cmp(&b.steps_per_second));
        best.unwrap_or(&self.independent)
    }

    /// The latency of a shape, when it was measured.
    pub(crate) fn latency_of(&self, shape: &str) -> Option<&Lone> {
        self.latency.iter().find(|lone| lone.shape == shape)
    }
}
