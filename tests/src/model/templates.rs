//! Templates, and ones as chance has it.

use super::{Chance, Millis};

/// A step of a template.
#[derive(Debug, Clone)]
pub struct Definition {
    /// Its name.
    pub name: String,
    /// What kind of step it is.
    pub kind: Kind,
    /// The positions of the steps it waits for.
    pub dependencies: Vec<usize>,
    /// How many claims it may use up.
    pub max_attempts: i32,
    /// The delay before each further attempt.
    pub delay: Millis,
}

/// What a step does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// It runs.
    Plain,
    /// It chooses among its dependents.
    Decision,
    /// It joins those of its dependencies that exist.
    Convergence,
    /// Its result asks for a batch.
    Batchable,
    /// It stands for instances.
    Many {
        /// The step whose result says how many.
        source: usize,
        /// Whether they are a batch's.
        is_batch: bool,
        /// How many may be let go at once.
        parallel: Option<usize>,
        /// `failure_strategy`.
        strategy: Option<&'static str>,
    },
}

/// A template.
#[derive(Debug)]
pub struct Template {
    /// Its name.
    pub name: String,
    /// Its steps in topological order, as the engine numbers them.
    pub steps: Vec<Definition>,
    /// Whether a failed task waits for an operator.
    pub blocks: bool,
    /// Whether outcomes rest until maintenance evaluates them.
    pub defers: bool,
}

const STRATEGIES: [Option<&str>; 4] = [
    None,
    Some("continue_on_failure"),
    Some("isolate"),
    Some("fail_fast"),
];

impl Template {
    /// The steps that are made many of.
    fn many(&self) -> Vec<usize> {
        (0..self.steps.len())
            .filter(|&position| matches!(self.steps[position].kind, Kind::Many { .. }))
            .collect()
    }

    /// What is at a position: a step, or which instance of one, from 1.
    #[must_use]
    pub fn place(&self, position: usize) -> (usize, Option<usize>) {
        let many = self.many();
        match position.checked_sub(self.steps.len()) {
            Some(beyond) => (many[beyond % many.len()], Some(beyond / many.len() + 1)),
            None => (position, None),
        }
    }

    /// The position of an instance.
    #[must_use]
    pub fn instance(&self, of: usize, number: usize) -> usize {
        let many = self.many();
        let turn = many
            .iter()
            .position(|&position| position == of)
            .unwrap_or_default();
        self.steps.len() + (number - 1) * many.len() + turn
    }

    /// The steps that wait for one.
    #[must_use]
    pub fn dependents(&self, position: usize) -> Vec<usize> {
        (0..self.steps.len())
            .filter(|&other| self.steps[other].dependencies.contains(&position))
            .collect()
    }

    /// Whether a step is another, or waits for it through others.
    #[must_use]
    pub fn leads_to(&self, from: usize, to: usize) -> bool {
        from == to
            || self.steps[to]
                .dependencies
                .iter()
                .any(|&dependency| self.leads_to(from, dependency))
    }

    /// A template of all kinds of steps.
    #[must_use]
    pub fn random(name: &str, chance: &mut Chance) -> Self {
        let mut template = Self {
            name: name.to_owned(),
            steps: Vec::new(),
            blocks: chance.once_in(2),
            defers: chance.once_in(3),
        };
        let count = 4 + chance.below(5);
        while template.steps.len() < count {
            match chance.below(10) {
                0 | 1 => template.push(Kind::Decision, None, chance),
                2 | 3 if !template.steps.is_empty() => {
                    template.push(Kind::Convergence, None, chance);
                }
                4 | 5 if !template.steps.is_empty() => {
                    let source = chance.below(template.steps.len());
                    if !matches!(
                        template.steps[source].kind,
                        Kind::Decision | Kind::Convergence
                    ) {
                        template.push_many(source, false, chance);
                    }
                }
                6 => {
                    template.push(Kind::Batchable, None, chance);
                    template.push_many(template.steps.len() - 1, true, chance);
                }
                _ => template.push(Kind::Plain, None, chance),
            }
        }
        // A decision needs something to choose.
        let idle: Vec<usize> = (0..template.steps.len())
            .filter(|&position| template.steps[position].kind == Kind::Decision)
            .filter(|&position| template.dependents(position).is_empty())
            .collect();
        for decision in idle {
            template.push(Kind::Plain, Some(decision), chance);
        }
        template
    }

    fn push_many(&mut self, source: usize, is_batch: bool, chance: &mut Chance) {
        let kind = Kind::Many {
            source,
            is_batch,
            parallel: chance.one_of(&[None, Some(1), Some(2)]).flatten(),
            strategy: chance.one_of(&STRATEGIES).flatten(),
        };
        self.push(kind, Some(source), chance);
    }

    /// A step more, which waits for some of those before it.
    fn push(&mut self, kind: Kind, needed: Option<usize>, chance: &mut Chance) {
        let is_batch = matches!(kind, Kind::Many { is_batch: true, .. });
        let mut dependencies: Vec<usize> = needed.into_iter().collect();
        let more = match needed {
            Some(_) => chance.below(2),
            None if kind == Kind::Convergence => 1 + chance.below(3),
            None => chance.below(3),
        };
        for _ in 0..more.min(self.steps.len()) {
            let other = chance.below(self.steps.len());
            let is_other_batch = is_batch && self.steps[other].kind == Kind::Batchable;
            if !dependencies.contains(&other) && !is_other_batch {
                dependencies.push(other);
            }
        }
        dependencies.sort_unstable();
        self.steps.push(Definition {
            name: format!("s{}", self.steps.len()),
            kind,
            dependencies,
            max_attempts: 1 + chance.below(3) as i32,
            delay: [0, 2_000, 10_000][chance.below(3)],
        });
    }
}
