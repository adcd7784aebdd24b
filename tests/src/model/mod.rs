//! The engine once more, in plain Rust and as simply as can be: what every call has to do to tasks and steps. Tests drive it beside a real database and compare.

mod chance;
mod existence;
mod instances;
mod operations;
mod templates;
mod written;

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

pub use chance::Chance;
pub use templates::{Definition, Kind, Template};
pub use written::written;

use instances::{Due, Group};

/// Milliseconds on the moved clock.
pub type Millis = i64;

/// As much of a result as the engine reads.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Payload {
    /// Nothing.
    #[default]
    Nothing,
    /// Which of its dependents a decision chooses; without, it can't be followed.
    Choice(Option<BTreeSet<usize>>),
    /// How many elements an array has; without, there is none.
    Items(Option<usize>),
}

/// Where a step stands.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Step {
    /// Its state, as it is shown.
    pub state: &'static str,
    /// The fencing token.
    pub attempt: i32,
    /// The claims it has used up.
    pub attempts_used: i32,
    /// When its retry is due or its lease ends.
    until: Millis,
    lease: Millis,
    /// Its last attempt ended with its lease.
    crashed: bool,
    /// A resting failure may be tried again.
    is_retryable: bool,
    payload: Payload,
}

/// A task.
#[derive(Debug)]
pub struct Task {
    /// What it is made of.
    pub template: Rc<Template>,
    /// Its state, as it is shown.
    pub state: &'static str,
    /// Its steps by position: those of the template in their order, behind them instances.
    pub steps: BTreeMap<usize, Step>,
    is_paused: bool,
    groups: BTreeMap<usize, Group>,
    due: BTreeMap<usize, Due>,
    /// Steps that failed with one of their instances, whose others maintenance is to cancel.
    failing: BTreeSet<usize>,
}

/// All tasks, and the time.
#[derive(Debug, Default)]
pub struct Model {
    /// The tasks in the order of their creation.
    pub tasks: Vec<Task>,
    /// The time.
    pub now: Millis,
}

/// A task by its position, and its step.
pub type Place = (usize, usize);

/// What becomes of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// It is done.
    Done,
    /// The state doesn't allow it: TK010.
    NotAllowed,
    /// There is no such step: TK002.
    NoStep,
}

const SATISFIED: [&str; 2] = ["complete", "resolved_manually"];
const RUNNING: [&str; 4] = [
    "enqueued",
    "in_progress",
    "enqueued_for_orchestration",
    "enqueued_as_error_for_orchestration",
];
const FAILED: [&str; 2] = ["error", "cancelled"];

impl Step {
    fn is_satisfied(&self) -> bool {
        SATISFIED.contains(&self.state)
    }

    fn is_terminal(&self) -> bool {
        self.is_satisfied() || FAILED.contains(&self.state)
    }

    /// Whether a claim meets its message.
    fn is_visible(&self, now: Millis) -> bool {
        match self.state {
            "enqueued" => true,
            "waiting_for_retry" | "in_progress" => self.until <= now,
            _ => false,
        }
    }

    fn moves(&mut self, state: &'static str) {
        self.state = state;
        self.crashed = false;
    }

    fn begins_anew(&mut self) {
        self.moves("pending");
        self.attempt += 1;
        self.attempts_used = 0;
    }
}

impl Task {
    fn new(template: Rc<Template>) -> Self {
        let step = Step {
            state: "pending",
            ..Step::default()
        };
        Self {
            state: "pending",
            steps: (0..template.steps.len())
                .map(|position| (position, step.clone()))
                .collect(),
            is_paused: false,
            groups: BTreeMap::new(),
            due: BTreeMap::new(),
            failing: BTreeSet::new(),
            template,
        }
    }

    fn step(&mut self, position: usize) -> Option<&mut Step> {
        self.steps.get_mut(&position)
    }

    fn state_of(&self, position: usize) -> &'static str {
        self.steps.get(&position).map_or("gone", |step| step.state)
    }

    /// The step of the template at a position, or that of an instance at it.
    #[must_use]
    pub fn definition(&self, position: usize) -> &Definition {
        &self.template.steps[self.template.place(position).0]
    }

    /// Whether it has ended.
    #[must_use]
    pub fn is_terminal(&self) -> bool {
        matches!(
            self.state,
            "complete" | "error" | "cancelled" | "resolved_manually"
        )
    }

    fn any(&self, states: &[&str]) -> bool {
        self.steps.values().any(|step| states.contains(&step.state))
    }

    /// Whether a step keeps the task from being complete though nothing moves it any more.
    fn any_failed(&self) -> bool {
        self.steps.iter().any(|(&position, step)| {
            FAILED.contains(&step.state) && !(step.state == "error" && self.tolerates(position))
        })
    }

    /// Enqueues what is ready, and finds the task's state.
    fn settle(&mut self) {
        let due = std::mem::take(&mut self.due);
        for position in 0..self.template.steps.len() {
            if self.state_of(position) != "pending" {
                continue;
            }
            let remaining = self.counters()[position];
            if matches!(self.template.steps[position].kind, Kind::Many { .. }) {
                let due = due.get(&position).copied().unwrap_or_default();
                self.go_on(position, remaining, due);
            } else if remaining == Some(0)
                && let Some(step) = self.step(position)
            {
                step.state = "enqueued";
            }
        }
        self.state = if self.any(&RUNNING) {
            "steps_in_process"
        } else if self.any(&["waiting_for_retry"]) {
            "waiting_for_retry"
        } else if self.any_failed() && self.template.blocks {
            "blocked_by_failures"
        } else if self.any_failed() {
            "error"
        } else {
            "complete"
        };
    }

    /// The same, unless it has ended or waits for an operator.
    fn settle_if_live(&mut self) {
        if !self.is_terminal() && self.state != "blocked_by_failures" {
            self.settle();
        }
        self.due.clear();
    }

    /// An attempt failed: it is tried again, or the step fails for good.
    fn fail_attempt(&mut self, position: usize, is_retryable: bool, delay: Millis, now: Millis) {
        let max_attempts = self.definition(position).max_attempts;
        let Some(step) = self.step(position) else {
            return;
        };
        if !is_retryable || step.attempts_used >= max_attempts {
            step.moves("error");
            self.ends(position, false);
        } else if delay == 0 {
            step.moves("enqueued");
        } else {
            step.moves("waiting_for_retry");
            step.until = now + delay;
        }
    }

    /// A result has come.
    fn complete(&mut self, position: usize) {
        if let Some(step) = self.step(position) {
            let is_bad = matches!(step.payload, Payload::Choice(None));
            step.moves(if is_bad { "error" } else { "complete" });
        }
        let is_batchable = self.definition(position).kind == Kind::Batchable;
        if let Some(step) = self.step(position)
            && is_batchable
            && step.payload == Payload::Items(None)
        {
            step.moves("error");
        }
        self.ends(position, false);
    }
}
