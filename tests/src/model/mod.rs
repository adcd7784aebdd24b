//! The engine once more, in plain Rust and as simply as can be: what every call has to do to tasks and steps. Tests drive it beside a real database and compare.

mod operations;

/// Milliseconds on the moved clock.
pub type Millis = i64;

/// A step of a template.
#[derive(Debug, Clone)]
pub struct Definition {
    /// Its name.
    pub name: &'static str,
    /// The positions of the steps it waits for.
    pub dependencies: &'static [usize],
    /// How many claims it may use up.
    pub max_attempts: i32,
    /// The delay before each further attempt.
    pub delay: Millis,
}

/// A template.
#[derive(Debug)]
pub struct Template {
    /// Its name.
    pub name: &'static str,
    /// Its steps in topological order, as the engine numbers them.
    pub steps: &'static [Definition],
    /// Whether a failed task waits for an operator.
    pub blocks: bool,
    /// Whether outcomes rest until maintenance evaluates them.
    pub defers: bool,
}

/// Where a step stands.
#[derive(Debug, Clone, PartialEq, Eq)]
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
}

/// A task.
#[derive(Debug)]
pub struct Task {
    template: &'static Template,
    /// Its state, as it is shown.
    pub state: &'static str,
    /// Its steps, in the order of the template.
    pub steps: Vec<Step>,
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
}

impl Task {
    /// The name of a step.
    #[must_use]
    pub fn name(&self, step: usize) -> &'static str {
        self.template.steps[step].name
    }

    /// How many of the steps that a step waits for aren't satisfied.
    #[must_use]
    pub fn remaining(&self, step: usize) -> i32 {
        let dependencies = self.template.steps[step].dependencies.iter();
        dependencies
            .filter(|&&dependency| !self.steps[dependency].is_satisfied())
            .count() as i32
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
        self.steps.iter().any(|step| states.contains(&step.state))
    }

    /// Enqueues what is ready, and finds the task's state.
    fn settle(&mut self) {
        for step in 0..self.steps.len() {
            if self.steps[step].state == "pending" && self.remaining(step) == 0 {
                self.steps[step].state = "enqueued";
            }
        }
        self.state = if self.any(&RUNNING) {
            "steps_in_process"
        } else if self.any(&["waiting_for_retry"]) {
            "waiting_for_retry"
        } else if self.any(&FAILED) && self.template.blocks {
            "blocked_by_failures"
        } else if self.any(&FAILED) {
            "error"
        } else {
            "complete"
        };
    }

    /// An attempt failed: it is tried again, or the step fails for good.
    fn fail_attempt(&mut self, step: usize, is_retryable: bool, delay: Millis, now: Millis) {
        let definition = &self.template.steps[step];
        let step = &mut self.steps[step];
        if !is_retryable || step.attempts_used >= definition.max_attempts {
            step.moves("error");
        } else if delay == 0 {
            step.moves("enqueued");
        } else {
            step.moves("waiting_for_retry");
            step.until = now + delay;
        }
    }
}
