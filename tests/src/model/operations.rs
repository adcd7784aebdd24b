//! What happens in the course of things: tasks are created, steps claimed and finished, maintenance done.

use std::rc::Rc;

use super::events::Outcome;
use super::{Kind, Millis, Model, Payload, Place, Row, Task, Template};

impl Model {
    /// `create_task`.
    pub fn create(&mut self, template: &Rc<Template>) {
        let mut task = Task::new(Rc::clone(template), self.now);
        task.start();
        self.tasks.push(task);
        self.note_ended_waits();
    }

    /// `create_task` with a time to start at.
    pub fn create_later(&mut self, template: &Rc<Template>, run_at: Millis) {
        let mut task = Task::new(Rc::clone(template), self.now);
        task.run_at = run_at;
        self.tasks.push(task);
    }

    /// The steps that a claim for everything hands out; those whose lease ended once too often fail, or wait.
    pub fn claim(&mut self, lease: Millis) -> Vec<Place> {
        let mut claimed = Vec::new();
        for (number, task) in self.tasks.iter_mut().enumerate() {
            for position in task.visible(false) {
                if task.claim(position, lease) {
                    claimed.push((number, position));
                }
            }
            task.settle_if_live();
        }
        self.note_ended_waits();
        claimed
    }

    /// The steps that the database may run.
    #[must_use]
    pub fn sql_steps(&self) -> Vec<Place> {
        let all = self.tasks.iter().enumerate();
        all.flat_map(|(number, task)| {
            let visible = task.visible(true).into_iter();
            visible.map(move |position| (number, position))
        })
        .collect()
    }

    /// A session claims a step that the database runs; it has it until it ends.
    pub fn claim_sql(&mut self, (number, position): Place) {
        let task = &mut self.tasks[number];
        task.claim(position, Millis::MAX / 2);
        task.settle_if_live();
    }

    /// The session ended that had claimed a step: maintenance is to end its attempt.
    pub fn lose_session(&mut self, place: Place, attempt: i32) {
        let now = self.now;
        if let Some(task) = self.held(place, attempt)
            && let Some(step) = task.step(place.1)
        {
            step.lease = now - step.until;
        }
    }

    fn held(&mut self, (number, position): Place, attempt: i32) -> Option<&mut Task> {
        let task = self.tasks.get_mut(number)?;
        let step = task.steps.get(&position)?;
        (step.state == "in_progress" && step.attempt == attempt).then_some(task)
    }

    /// An outcome `complete`; whether it is accepted.
    pub fn complete(&mut self, place: Place, attempt: i32, payload: Payload) -> bool {
        let Some(task) = self.held(place, attempt) else {
            return false;
        };
        let (now, defers) = (task.now, task.template.defers);
        if let Some(step) = task.step(place.1) {
            step.payload = payload;
            if defers {
                step.moves("enqueued_for_orchestration", now);
            }
        }
        if !defers {
            task.complete(place.1);
        }
        true
    }

    /// An outcome `fail`; whether it is accepted.
    pub fn fail(&mut self, place: Place, attempt: i32, is_retryable: bool) -> bool {
        let Some(task) = self.held(place, attempt) else {
            return false;
        };
        let now = task.now;
        if !task.template.defers {
            task.fail_attempt(place.1, is_retryable, None);
        } else if let Some(step) = task.step(place.1) {
            step.moves("enqueued_as_error_for_orchestration", now);
            step.is_retryable = is_retryable;
        }
        true
    }

    /// An outcome `release`; whether it is accepted.
    pub fn release(&mut self, place: Place, attempt: i32) -> bool {
        let now = self.now;
        let Some(step) = self
            .held(place, attempt)
            .and_then(|task| task.step(place.1))
        else {
            return false;
        };
        step.moves("enqueued", now);
        step.attempt += 1;
        step.attempts_used -= 1;
        true
    }

    /// The end of a call that reported outcomes.
    pub fn settle(&mut self) {
        for task in &mut self.tasks {
            task.settle_if_live();
        }
        self.note_ended_waits();
    }

    /// What came of attempts since it was asked last.
    pub fn take_outcomes(&mut self) -> Vec<Outcome> {
        let all = self.tasks.iter_mut().enumerate();
        all.flat_map(|(number, task)| {
            let outcomes = std::mem::take(&mut task.outcomes).into_iter();
            outcomes.map(move |(position, attempt, outcome)| Outcome {
                place: (number, position),
                attempt,
                outcome,
            })
        })
        .collect()
    }

    /// The time passes.
    pub fn pass(&mut self, milliseconds: Millis) {
        self.now += milliseconds;
        for task in &mut self.tasks {
            task.now = self.now;
        }
    }

    /// `run_maintenance`, for everything: what waits until now begins or goes on, resting outcomes are evaluated, then leases that ended more than one lease ago, then the instances of what failed
    /// fast are cancelled; then parents and children hear of each other.
    pub fn maintain(&mut self) {
        for task in &mut self.tasks {
            task.start_if_due();
            task.fire();
            task.evaluate();
            task.end_leases();
            task.cancel_instances();
            task.settle_if_live();
        }
        self.note_ended_waits();
        self.tend_children();
    }
}

impl Task {
    /// What is ready for workers, or for the database.
    fn visible(&self, is_sql: bool) -> Vec<usize> {
        let steps = self.steps.iter().filter(|_| !self.is_paused);
        steps
            .filter(|(_, step)| step.is_visible(self.now))
            .filter(|&(&position, _)| match self.template.row(position) {
                Row::Step(of) => (self.template.steps[of].kind == Kind::Sql) == is_sql,
                _ => !is_sql,
            })
            .map(|(&position, _)| position)
            .collect()
    }

    /// A claim meets a step that is visible; whether it has it.
    fn claim(&mut self, position: usize, lease: Millis) -> bool {
        let now = self.now;
        let retry = self.template.retry(position);
        let is_instance = matches!(self.template.row(position), Row::Instance(..));
        let Some(step) = self.step(position) else {
            return false;
        };
        let is_expired = step.state == "in_progress";
        let used_up = step.attempts_used >= retry.max_attempts;
        if is_expired && used_up && is_instance {
            // Left to maintenance.
            return false;
        }
        if is_expired && (used_up || step.crashed && retry.delay > 0) {
            self.fail_attempt(position, true, None);
            if let Some(step) = self.step(position) {
                step.crashed = true;
            }
            return false;
        }
        if is_expired {
            self.comes_to(position, "retryable_failure");
        }
        let Some(step) = self.step(position) else {
            return false;
        };
        step.crashed |= is_expired;
        step.state = "in_progress";
        step.attempt += 1;
        step.attempts_used += 1;
        step.until = now + lease;
        step.lease = lease;
        true
    }

    fn evaluate(&mut self) {
        let positions: Vec<usize> = self.steps.keys().copied().collect();
        for position in positions {
            let is_retryable = self.steps[&position].is_retryable;
            match self.state_of(position) {
                "enqueued_for_orchestration" => self.complete(position),
                "enqueued_as_error_for_orchestration" => {
                    self.fail_attempt(position, is_retryable, None);
                }
                _ => {}
            }
        }
        self.settle_if_live();
    }

    fn end_leases(&mut self) {
        let positions: Vec<usize> = self.steps.keys().copied().collect();
        for position in positions {
            let step = &self.steps[&position];
            if step.state == "in_progress"
                && !step.waits
                && step.until.saturating_add(step.lease) <= self.now
            {
                // The first crash is retried at once.
                let delay = (!step.crashed).then_some(0);
                self.fail_attempt(position, true, delay);
                if let Some(step) = self.step(position) {
                    step.crashed = true;
                }
            }
        }
        self.settle_if_live();
    }
}
