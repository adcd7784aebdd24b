//! What a run found, and the forms it is told in: a table, a file, charts.

pub(crate) mod charts;
pub(crate) mod reading;
mod svg;
pub(crate) mod table;
pub(crate) mod targets;

use serde::Serialize;

use crate::creation::OneByOne;
use crate::drain::Drain;
use crate::flat::Flat;
use crate::half_load::HalfLoad;
use crate::latency::Lone;
use crate::limits::Limits;
use crate::machine::{Memory, Others};
use crate::one_map::OneMap;
use crate::one_task::OneTask;
use crate::sustained::Sustained;
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
    /// What the worker process sustains, and its memory meanwhile.
    pub(crate) sustained: Vec<Sustained>,
    /// Tasks that arrive at half the rate of these.
    pub(crate) half_load: Vec<HalfLoad>,
    pub(crate) creation: OneByOne,
    pub(crate) idle_worker_transactions_per_second: f64,
    pub(crate) worker_memory: Memory,
    pub(crate) server_memory: Memory,
    /// Backlogs of linear 4, by the number of connections.
    pub(crate) drains: Vec<Drain>,
    /// Single steps that have nothing to do with each other, to hold the fan-out against.
    pub(crate) independent: Drain,
    pub(crate) fan_out: Drain,
    /// One task of many steps, by its size.
    pub(crate) one_task: Vec<OneTask>,
    /// One map, by the number of its elements.
    pub(crate) one_map: Vec<OneMap>,
    /// Linear 4 drained under conditions that spoil plans and tables.
    pub(crate) flat: Vec<Flat>,
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

    /// The condition under which least is left of the drain's rate.
    pub(crate) fn worst_condition(&self) -> Option<&Flat> {
        self.flat.iter().min_by(|a, b| a.ratio.total_cmp(&b.ratio))
    }

    /// The rate of the largest lone task by that of the smallest.
    pub(crate) fn growth(&self) -> Option<f64> {
        let (smallest, largest) = (self.one_task.first()?, self.one_task.last()?);
        Some(largest.steps_per_second / smallest.steps_per_second)
    }

    /// What an element of the largest map costs by what one of the smallest does.
    pub(crate) fn growth_of_maps(&self) -> Option<f64> {
        let (smallest, largest) = (self.one_map.first()?, self.one_map.last()?);
        Some(largest.microseconds_per_element / smallest.microseconds_per_element)
    }

    /// The latency of a shape, when it was measured.
    pub(crate) fn latency_of(&self, shape: &str) -> Option<&Lone> {
        self.latency.iter().find(|lone| lone.shape == shape)
    }
}
