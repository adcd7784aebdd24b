//! What each call does.

use super::{FAILED, Millis, Model, Place, Step, Task, Template};

impl Model {
    /// `create_task`.
    pub fn create(&mut self, template: &'static Template) {
        let step = Step {
            state: "pending",
            attempt: 0,
            attempts_used: 0,
            until: 0,
            lease: 0,
            crashed: false,
            is_retryable: false,
        };
        let mut task = Task {
            template,
            state: "pending",
            steps: vec![step; template.steps.len()],
        };
        task.settle();
        self.tasks.push(task);
    }

    /// The steps that a claim for everything hands out; those whose lease ended once too often fail, or wait.
    pub fn claim(&mut self, lease: Millis) -> Vec<Place> {
        let now = self.now;
        let mut claimed = Vec::new();
        for (number, task) in self.tasks.iter_mut().enumerate() {
            let visible: Vec<usize> = (0..task.steps.len())
                .filter(|&step| task.steps[step].is_visible(now))
                .collect();
            for step in visible {
                let definition = &task.template.steps[step];
                let is_expired = task.steps[step].state == "in_progress";
                let used_up = task.steps[step].attempts_used >= definition.max_attempts;
                if is_expired && (used_up || task.steps[step].crashed && definition.delay > 0) {
                    task.fail_attempt(step, true, definition.delay, now);
                    task.steps[step].crashed = true;
                    continue;
                }
                let step_row = &mut task.steps[step];
                step_row.crashed |= is_expired;
                step_row.state = "in_progress";
                step_row.attempt += 1;
                step_row.attempts_used += 1;
                step_row.until = now + lease;
                step_row.lease = lease;
                claimed.push((number, step));
            }
            if !task.is_terminal() && task.state != "blocked_by_failures" {
                task.settle();
            }
        }
        claimed
    }

    fn held(&mut self, (number, step): Place, attempt: i32) -> Option<&mut Task> {
        let task = self.tasks.get_mut(number)?;
        let row = &task.steps[step];
        (row.state == "in_progress" && row.attempt == attempt).then_some(task)
    }

    /// An outcome `complete`; whether it is accepted.
    pub fn complete(&mut self, place: Place, attempt: i32) -> bool {
        let Some(task) = self.held(place, attempt) else {
            return false;
        };
        if task.template.defers {
            task.steps[place.1].moves("enqueued_for_orchestration");
        } else {
            task.steps[place.1].moves("complete");
        }
        task.settle();
        true
    }

    /// An outcome `fail`; whether it is accepted.
    pub fn fail(&mut self, place: Place, attempt: i32, is_retryable: bool) -> bool {
        let now = self.now;
        let Some(task) = self.held(place, attempt) else {
            return false;
        };
        let delay = task.template.steps[place.1].delay;
        if task.template.defers {
            task.steps[place.1].moves("enqueued_as_error_for_orchestration");
            task.steps[place.1].is_retryable = is_retryable;
        } else {
            task.fail_attempt(place.1, is_retryable, delay, now);
        }
        task.settle();
        true
    }

    /// An outcome `release`; whether it is accepted.
    pub fn release(&mut self, place: Place, attempt: i32) -> bool {
        let Some(task) = self.held(place, attempt) else {
            return false;
        };
        let step = &mut task.steps[place.1];
        step.moves("enqueued");
        step.attempt += 1;
        step.attempts_used -= 1;
        true
    }

    /// `run_maintenance`, for everything: resting outcomes are evaluated, then leases that ended more than one lease ago.
    pub fn maintain(&mut self) {
        let now = self.now;
        for task in &mut self.tasks {
            for step in 0..task.steps.len() {
                let delay = task.template.steps[step].delay;
                let row = &mut task.steps[step];
                match row.state {
                    "enqueued_for_orchestration" => row.moves("complete"),
                    "enqueued_as_error_for_orchestration" => {
                        let is_retryable = row.is_retryable;
                        task.fail_attempt(step, is_retryable, delay, now);
                    }
                    "in_progress" if row.until + row.lease <= now => {
                        let delay = if row.crashed { delay } else { 0 };
                        task.fail_attempt(step, true, delay, now);
                        task.steps[step].crashed = true;
                    }
                    _ => {}
                }
            }
            if !task.is_terminal() && task.state != "blocked_by_failures" {
                task.settle();
            }
        }
    }

    /// `cancel_task`; whether it is allowed.
    pub fn cancel(&mut self, number: usize) -> bool {
        let Some(task) = self.tasks.get_mut(number) else {
            return false;
        };
        if task.is_terminal() {
            return task.state == "cancelled";
        }
        for step in &mut task.steps {
            if !step.is_terminal() {
                step.moves("cancelled");
            }
        }
        task.state = "cancelled";
        true
    }

    /// An operator's doing to a step; whether it is allowed.
    fn repaired(&mut self, place: Place, from: &[&str]) -> Option<&mut Task> {
        let task = self.tasks.get_mut(place.0)?;
        let is_allowed = from.contains(&task.steps[place.1].state)
            && (!task.is_terminal() || task.state == "error");
        is_allowed.then_some(task)
    }

    /// `reset_step`; whether it is allowed.
    pub fn reset(&mut self, place: Place) -> bool {
        let Some(task) = self.repaired(place, &FAILED) else {
            return false;
        };
        let step = &mut task.steps[place.1];
        step.moves("pending");
        step.attempt += 1;
        step.attempts_used = 0;
        task.settle();
        true
    }

    /// `complete_step_manually` and `resolve_step`; whether it is allowed.
    pub fn settle_by_hand(&mut self, place: Place, state: &'static str) -> bool {
        const OPEN: [&str; 5] = [
            "error",
            "pending",
            "enqueued",
            "in_progress",
            "waiting_for_retry",
        ];
        let Some(task) = self.repaired(place, &OPEN) else {
            return false;
        };
        let step = &mut task.steps[place.1];
        step.moves(state);
        step.attempt += 1;
        task.settle();
        true
    }

    /// `rerun_task`; whether it is allowed.
    pub fn rerun(&mut self, number: usize, from: Option<usize>, with_descendants: bool) -> bool {
        let Some(task) = self.tasks.get_mut(number) else {
            return false;
        };
        let starts = from.is_none_or(|from| task.steps[from].is_terminal());
        if !starts || !task.is_terminal() && task.state != "blocked_by_failures" {
            return false;
        }
        let mut chosen = vec![from.is_none(); task.steps.len()];
        for step in 0..task.steps.len() {
            let follows = task.template.steps[step]
                .dependencies
                .iter()
                .any(|&dependency| chosen[dependency]);
            chosen[step] |= from == Some(step) || with_descendants && follows;
        }
        for (step, _) in task
            .steps
            .iter_mut()
            .zip(chosen)
            .filter(|(_, is_chosen)| *is_chosen)
        {
            if step.is_terminal() {
                step.moves("pending");
                step.attempt += 1;
                step.attempts_used = 0;
            }
        }
        task.settle();
        true
    }
}
