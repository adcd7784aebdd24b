//! The engine once more, in plain Rust and as simply as can be: what every call has to do to tasks and steps. Tests drive it beside a real database and compare.

mod chance;
mod children;
mod compensation;
pub mod cron;
pub mod events;
mod existence;
mod instances;
mod operations;
mod operators;
mod random;
mod rows;
pub mod schedules;
mod seeds;
mod templates;
mod waits;
mod written;

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

pub use chance::Chance;
pub use children::Parent;
pub use rows::Row;
pub use seeds::{operations, seed, seeds};
pub use templates::{Definition, Kind, Retry, SIGNALS, Template, Until};
pub use written::{signal_name, written};

use instances::{Due, Group};

/// Milliseconds on the moved clock.
pub type Millis = i64;

/// As much of a result as the engine reads.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Payload {
    /// Which of its dependents a decision chooses; without, it can't be followed.
    pub chosen: Option<BTreeSet<usize>>,
    /// How many elements an array has; without, there is none.
    pub items: Option<usize>,
    /// The time that is in it; without, there is none.
    pub at: Option<Millis>,
    /// Whether the context of a child task is in it.
    pub has_context: bool,
}

impl Payload {
    /// One with an array, if there is any.
    #[must_use]
    pub fn of_items(items: Option<usize>) -> Self {
        Self {
            items,
            ..Self::default()
        }
    }
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
    /// When its retry is due, its lease ends or its waiting does.
    until: Millis,
    lease: Millis,
    /// It waits inside the engine.
    waits: bool,
    finished_at: Millis,
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
    now: Millis,
    run_at: Millis,
    parent: Option<Parent>,
    is_paused: bool,
    /// The signals that have come, by the numbers of their names.
    signals: BTreeMap<usize, Payload>,
    /// How it ends when what it did is undone.
    compensates: Option<&'static str>,
    /// What undoes its steps, in its order.
    chain: Vec<usize>,
    groups: BTreeMap<usize, Group>,
    due: BTreeMap<usize, Due>,
    /// Steps that failed with one of their instances, whose others maintenance is to cancel.
    failing: BTreeSet<usize>,
    /// What came of attempts: steps, attempts, and what.
    outcomes: Vec<(usize, i32, &'static str)>,
}

/// All tasks, and the time.
#[derive(Debug, Default)]
pub struct Model {
    /// The tasks in the order of their creation.
    pub tasks: Vec<Task>,
    /// The time.
    pub now: Millis,
    /// The templates there are.
    pub templates: Vec<Rc<Template>>,
    /// The steps that wait for a task of their own, with their attempts.
    parents: BTreeMap<Place, i32>,
    /// The child tasks that maintenance is to cancel.
    cancellations: BTreeSet<usize>,
}

/// A task by its position, and its step.
pub type Place = (usize, usize);

/// What becomes of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// It is done.
    Done,
    /// It is refused, with this code.
    Refused(&'static str),
}

/// The state doesn't allow it.
const NOT_ALLOWED: Answer = Answer::Refused("TK010");

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
            "waiting_for_retry" | "in_progress" => !self.waits && self.until <= now,
            _ => false,
        }
    }

    /// Until when it waits inside the engine, if it does, and not without an end.
    #[must_use]
    pub fn waits_until(&self) -> Option<Millis> {
        (self.waits && self.until != Millis::MAX).then_some(self.until)
    }

    fn runs(&self) -> bool {
        RUNNING.contains(&self.state) && !self.waits
    }

    fn moves(&mut self, state: &'static str, now: Millis) {
        self.state = state;
        self.crashed = false;
        self.waits = false;
        self.finished_at = now;
    }

    fn begins_anew(&mut self, now: Millis) {
        self.moves("pending", now);
        self.attempt += 1;
        self.attempts_used = 0;
    }
}

impl Model {
    /// Without tasks, with these templates.
    #[must_use]
    pub fn new(templates: Vec<Rc<Template>>) -> Self {
        Self {
            templates,
            ..Self::default()
        }
    }
}

impl Task {
    fn new(template: Rc<Template>, now: Millis) -> Self {
        Self {
            state: "pending",
            steps: BTreeMap::new(),
            now,
            run_at: now,
            parent: None,
            is_paused: false,
            signals: BTreeMap::new(),
            compensates: None,
            chain: Vec::new(),
            groups: BTreeMap::new(),
            due: BTreeMap::new(),
            failing: BTreeSet::new(),
            outcomes: Vec::new(),
            template,
        }
    }

    /// Makes its steps, and lets those go that wait for nothing.
    fn start(&mut self) {
        let step = Step {
            state: "pending",
            ..Step::default()
        };
        let positions = 0..self.template.steps.len();
        self.steps = positions.map(|position| (position, step.clone())).collect();
        self.settle();
    }

    /// Whether it has steps.
    #[must_use]
    pub fn has_started(&self) -> bool {
        !self.steps.is_empty()
    }

    fn start_if_due(&mut self) {
        if self.state == "pending" && !self.is_paused && self.run_at <= self.now {
            self.start();
        }
    }

    fn step(&mut self, position: usize) -> Option<&mut Step> {
        self.steps.get_mut(&position)
    }

    fn state_of(&self, position: usize) -> &'static str {
        self.steps.get(&position).map_or("gone", |step| step.state)
    }

    /// Whether it has ended.
    #[must_use]
    pub fn is_terminal(&self) -> bool {
        matches!(
            self.state,
            "complete" | "error" | "cancelled" | "resolved_manually"
        )
    }

    fn any(&self, is_wanted: impl Fn(&Step) -> bool) -> bool {
        self.steps.values().any(is_wanted)
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
            let kind = &self.template.steps[position].kind;
            if matches!(kind, Kind::Many { .. }) {
                let due = due.get(&position).copied().unwrap_or_default();
                self.go_on(position, remaining, due);
            } else if remaining == Some(0) && kind.waits() {
                self.begin_to_wait(position);
            } else if remaining == Some(0)
                && let Some(step) = self.step(position)
            {
                step.state = "enqueued";
            }
        }
        self.state = self.before_the_end(self.standing());
    }

    /// The state of a task whose steps stand as they do.
    fn standing(&self) -> &'static str {
        if self.any(Step::runs) {
            "steps_in_process"
        } else if self.any(|step| step.state == "waiting_for_retry") {
            "waiting_for_retry"
        } else if self.any(|step| step.waits) {
            "waiting_for_dependencies"
        } else if self.any_failed() && self.template.blocks {
            "blocked_by_failures"
        } else if self.any_failed() {
            "error"
        } else {
            "complete"
        }
    }

    /// The same, unless it has ended or waits for an operator.
    fn settle_if_live(&mut self) {
        if self.has_started() && !self.is_terminal() && self.state != "blocked_by_failures" {
            self.settle();
        }
        self.due.clear();
    }

    /// An attempt failed: it is tried again, after its delay or the one given, or the step fails for good.
    fn fail_attempt(&mut self, position: usize, is_retryable: bool, delay: Option<Millis>) {
        let now = self.now;
        let retry = self.template.retry(position);
        let delay = delay.unwrap_or(retry.delay);
        let Some(step) = self.step(position) else {
            return;
        };
        if !is_retryable || step.attempts_used >= retry.max_attempts {
            step.moves("error", now);
            self.comes_to(position, "permanent_failure");
            self.ends(position, false);
            return;
        } else if delay == 0 {
            step.moves("enqueued", now);
        } else {
            step.moves("waiting_for_retry", now);
            step.until = now + delay;
        }
        self.comes_to(position, "retryable_failure");
    }

    /// An attempt has come to an outcome.
    fn comes_to(&mut self, position: usize, outcome: &'static str) {
        let attempt = self.steps[&position].attempt;
        self.outcomes.push((position, attempt, outcome));
    }

    /// A result has come.
    fn complete(&mut self, position: usize) {
        let now = self.now;
        let row = self.template.row(position);
        let kind = self.template.steps[row.of()].kind.clone();
        if let Some(step) = self.step(position) {
            let is_bad = match (row, kind) {
                (Row::Step(_), Kind::Decision) => step.payload.chosen.is_none(),
                (Row::Step(_), Kind::Batchable) => step.payload.items.is_none(),
                _ => false,
            };
            step.moves(if is_bad { "error" } else { "complete" }, now);
        }
        let is_done = self.state_of(position) == "complete";
        self.comes_to(
            position,
            if is_done {
                "success"
            } else {
                "permanent_failure"
            },
        );
        self.ends(position, false);
    }
}
