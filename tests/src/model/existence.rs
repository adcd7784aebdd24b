//! Which steps exist, and what they wait for.

use super::{Kind, Row, Task};

/// How a step stands for one that depends on it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Edge {
    Open,
    Settled,
    Absent,
}

impl Task {
    fn chooses(&self, decision: usize, dependent: usize) -> bool {
        let step = &self.steps[&decision];
        let chosen = step.payload.chosen.as_ref();
        step.state == "complete" && chosen.is_some_and(|chosen| chosen.contains(&dependent))
    }

    fn edge(&self, from: usize, to: usize, counters: &[Option<i32>]) -> Edge {
        let step = &self.steps[&from];
        if step.state == "pending" && counters[from].is_none() {
            Edge::Absent
        } else if !step.is_satisfied() {
            Edge::Open
        } else if self.template.steps[from].kind == Kind::Decision && !self.chooses(from, to) {
            Edge::Absent
        } else {
            Edge::Settled
        }
    }

    /// What each step of the template waits for: that of one that stands for instances, once they are made, is how many of them are not done. None: it never exists. One that has run
    /// exists, whatever was decided since.
    #[must_use]
    pub fn counters(&self) -> Vec<Option<i32>> {
        let mut counters = Vec::with_capacity(self.template.steps.len());
        for (position, definition) in self.template.steps.iter().enumerate() {
            if let Some(open) = self.open_instances(position) {
                counters.push(Some(open));
                continue;
            }
            let edges = definition.dependencies.iter();
            let edges: Vec<Edge> = edges
                .map(|&dependency| self.edge(dependency, position, &counters))
                .collect();
            let count = |wanted| edges.iter().filter(|&&edge| edge == wanted).count();
            let exists = match definition.kind {
                Kind::Convergence => count(Edge::Absent) < edges.len(),
                _ => count(Edge::Absent) == 0,
            };
            let has_run = self.state_of(position) != "pending";
            counters.push((exists || has_run).then_some(count(Edge::Open) as i32));
        }
        counters
    }

    /// The counter of a step as its row has it.
    #[must_use]
    pub fn remaining(&self, position: usize, counters: &[Option<i32>]) -> i32 {
        match self.template.row(position) {
            Row::Step(of) => counters[of].unwrap_or(-1),
            Row::Instance(of, instance) => i32::from(instance > self.opened(of)),
            // Each is let go by the one before it.
            Row::Undo(..) => i32::from(self.state_of(position) == "pending"),
        }
    }

    /// How many of the steps that a step waits for are still open, whether or not it exists.
    pub(super) fn open(&self, position: usize) -> usize {
        let counters = self.counters();
        let dependencies = self.template.steps[position].dependencies.iter();
        dependencies
            .filter(|&&dependency| self.edge(dependency, position, &counters) == Edge::Open)
            .count()
    }

    /// Whether the row at a position is a step: its decisions have been made and chose it, or it is an instance that was asked for, or undoes what has been done.
    pub(super) fn is_real(&self, position: usize) -> bool {
        if self.state_of(position) != "pending" {
            return true;
        }
        match self.template.row(position) {
            Row::Step(of) => self.exists(of) == Some(true),
            Row::Instance(of, instance) => instance <= self.instances(of),
            Row::Undo(..) => self.chain.contains(&position),
        }
    }

    /// Whether a step exists as far as the decisions say; None while they don't.
    fn exists(&self, position: usize) -> Option<bool> {
        let definition = &self.template.steps[position];
        let edges: Vec<Option<bool>> = definition
            .dependencies
            .iter()
            .map(|&dependency| match self.exists(dependency) {
                Some(true) if self.template.steps[dependency].kind == Kind::Decision => {
                    let is_made = self.steps[&dependency].is_satisfied();
                    is_made.then(|| self.chooses(dependency, position))
                }
                other => other,
            })
            .collect();
        let (wins, loses) = match definition.kind {
            Kind::Convergence => (true, false),
            _ => (false, true),
        };
        if edges.contains(&Some(wins)) {
            Some(wins)
        } else if edges.contains(&None) {
            None
        } else if edges.is_empty() {
            Some(true)
        } else {
            Some(loses)
        }
    }
}
