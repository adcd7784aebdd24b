//! Templates.

use super::Millis;

/// A step of a template.
#[derive(Debug, Clone)]
pub struct Definition {
    /// Its name.
    pub name: String,
    /// What kind of step it is.
    pub kind: Kind,
    /// The positions of the steps it waits for.
    pub dependencies: Vec<usize>,
    /// How often it is tried.
    pub retry: Retry,
    /// How often what undoes it is tried, if anything does.
    pub undo: Option<Retry>,
}

/// How often something is tried.
#[derive(Debug, Clone, Copy)]
pub struct Retry {
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
    /// It waits for a signal.
    Signal {
        /// The number of its name.
        name: usize,
        /// The longest it waits.
        timeout: Option<Millis>,
        /// Whether it goes on with a default then, rather than failing.
        goes_on: bool,
    },
    /// It waits until a time.
    Timer(Until),
    /// It waits for a task of its own.
    Child {
        /// The name of that task's template.
        template: String,
        /// The step whose result has its context, if not its parent's.
        context: Option<usize>,
    },
    /// The database runs it.
    Sql,
}

/// Until when a timer waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Until {
    /// So long from when it is ready.
    Delay(Millis),
    /// The time in a step's result.
    Result(usize),
}

/// How many names of signals there are; one more is none.
pub const SIGNALS: usize = 2;

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

impl Template {
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

    /// Whether one of its steps waits for a signal.
    #[must_use]
    pub fn waits_for(&self, signal: usize) -> bool {
        let is_it = |kind: &Kind| matches!(kind, Kind::Signal { name, .. } if *name == signal);
        self.steps.iter().any(|step| is_it(&step.kind))
    }
}
