//! Which steps exist: what decisions choose, and what follows from it for the steps behind them.
//!
//! A decision chooses among its dependents. Any other step exists when all it depends on exist; a convergence when one of them does. Until all decisions that bear on it have
//! been made it is undecided. What a step waits for is told by [`remaining`]: a dependency that never exists is settled for a convergence, and keeps any other step from existing.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use thiserror::Error;

use super::{CompiledStep, CompiledTemplate, Details};
use crate::nearest::did_you_mean;

/// What is wrong with a decision's result.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum BadDecision {
    /// It is not of the shape of a decision.
    #[error(
        "the result of a decision is {{\"decision\": {{\"steps\": [names]}}}}, with an empty list for no branch"
    )]
    Shape,
    /// It names a step that is not behind the decision.
    #[error("{name:?} is no step behind this decision{hint}")]
    NotBehind {
        /// The name.
        name: String,
        /// What may have been meant.
        hint: String,
    },
}

/// How a step stands for one that depends on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Edge {
    /// It is still waited for.
    Open,
    /// It is satisfied.
    Settled,
    /// It never exists.
    Absent,
}

/// Whether a step exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Existence {
    /// It does.
    Certain,
    /// A decision that is still to be made says.
    Undecided,
    /// It doesn't.
    Absent,
}

/// What a step waits for, from how its dependencies stand; `None` when it never exists.
#[must_use]
pub fn remaining(step: &CompiledStep, edges: impl IntoIterator<Item = Edge>) -> Option<u32> {
    let (mut open, mut settled, mut absent) = (0, 0, 0);
    for edge in edges {
        match edge {
            Edge::Open => open += 1,
            Edge::Settled => settled += 1,
            Edge::Absent => absent += 1,
        }
    }
    let exists = match step.details {
        Details::Convergence => absent == 0 || open + settled > 0,
        _ => absent == 0,
    };
    exists.then_some(open)
}

/// How many dependencies a step is still waiting for, whether or not it exists.
#[must_use]
pub fn open(edges: impl IntoIterator<Item = Edge>) -> u32 {
    let open = edges.into_iter().filter(|&edge| edge == Edge::Open);
    open.count() as u32
}

impl CompiledTemplate {
    /// The dependents that a decision's result chooses, by their numbers. A step further behind may be named too: then those dependents that lead to it are chosen.
    ///
    /// # Errors
    ///
    /// A result of another shape, and the name of a step that is not behind the decision.
    pub fn choice(
        &self,
        decision: &CompiledStep,
        result: &Value,
    ) -> Result<BTreeSet<u32>, BadDecision> {
        let names = result
            .pointer("/decision/steps")
            .and_then(Value::as_array)
            .ok_or(BadDecision::Shape)?;
        let mut chosen = BTreeSet::new();
        for name in names {
            let name = name.as_str().ok_or(BadDecision::Shape)?;
            let behind = self
                .steps
                .iter()
                .find(|step| step.name == name)
                .map(|step| self.leading_to(decision, step))
                .unwrap_or_default();
            if behind.is_empty() {
                let names = decision
                    .dependents
                    .iter()
                    .filter_map(|&number| Some(self.step(number)?.name.as_str()));
                return Err(BadDecision::NotBehind {
                    name: name.to_owned(),
                    hint: did_you_mean(name, names),
                });
            }
            chosen.extend(behind);
        }
        Ok(chosen)
    }

    /// The dependents of a decision through which a step is reached; the step itself, if it is one of them.
    fn leading_to(&self, decision: &CompiledStep, step: &CompiledStep) -> Vec<u32> {
        if decision.dependents.contains(&step.number) {
            return vec![step.number];
        }
        let mut seen = BTreeSet::from([step.number]);
        let mut rest = vec![step.number];
        while let Some(number) = rest.pop() {
            let dependencies = self.step(number).map(|step| &step.dependencies);
            // Numbers rise from a step to those that wait for it.
            for &dependency in dependencies
                .into_iter()
                .flatten()
                .filter(|&&dependency| dependency > decision.number)
            {
                if seen.insert(dependency) {
                    rest.push(dependency);
                }
            }
        }
        decision
            .dependents
            .iter()
            .copied()
            .filter(|number| seen.contains(number))
            .collect()
    }

    /// Whether each step exists, by position, as far as the decisions made so far say. `choices` are the dependents chosen by each decision that has been made.
    #[must_use]
    pub fn existence(&self, choices: &BTreeMap<u32, BTreeSet<u32>>) -> Vec<Existence> {
        let mut existence: Vec<Existence> = Vec::with_capacity(self.steps.len());
        for step in &self.steps {
            let (mut certain, mut undecided, mut absent) = (0, 0, 0);
            for &dependency in &step.dependencies {
                let mut stands = existence
                    .get(dependency as usize - 1)
                    .copied()
                    .unwrap_or(Existence::Certain);
                let is_decision = self
                    .step(dependency)
                    .is_some_and(|step| step.details == Details::Decision);
                if stands == Existence::Certain && is_decision {
                    stands = match choices.get(&dependency) {
                        None => Existence::Undecided,
                        Some(chosen) if chosen.contains(&step.number) => Existence::Certain,
                        Some(_) => Existence::Absent,
                    };
                }
                match stands {
                    Existence::Certain => certain += 1,
                    Existence::Undecided => undecided += 1,
                    Existence::Absent => absent += 1,
                }
            }
            existence.push(match step.details {
                Details::Convergence if certain > 0 => Existence::Certain,
                Details::Convergence if undecided > 0 => Existence::Undecided,
                _ if absent > 0 => Existence::Absent,
                _ if undecided > 0 => Existence::Undecided,
                _ => Existence::Certain,
            });
        }
        existence
    }
}
