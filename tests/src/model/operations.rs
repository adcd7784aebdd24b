//! What each call does.

use std::rc::Rc;

use super::{Answer, FAILED, Kind, Millis, Model, Payload, Place, Task, Template};

impl Model {
    /// `create_task`.
    pub fn create(&mut self, template: &Rc<Template>) {
        let mut task = Task::new(Rc::clone(template));
        task.settle();
        self.tasks.push(task);
    }

    /// The steps that a claim for everything hands out; those whose lease ended once too often fail, or wait.
    pub fn claim(&mut self, lease: Millis) -> Vec<Place> {
        let now = self.now;
        let mut claimed = Vec::new();
        for (number, task) in self.tasks.iter_mut().enumerate() {
            let visible: Vec<usize> = task
                .steps
                .iter()
                .filter(|(_, step)| !task.is_paused && step.is_visible(now))
                .map(|(&position, _)| position)
                .collect();
            for position in visible {
                let definition = task.definition(position);
                let (max_attempts, delay) = (definition.max_attempts, definition.delay);
                let is_instance = task.template.place(position).1.is_some();
                let Some(step) = task.step(position) else {
                    continue;
                };
                let is_expired = step.state == "in_progress";
                let used_up = step.attempts_used >= max_attempts;
                if is_expired && used_up && is_instance {
                    // Left to maintenance.
                    continue;
                }
                if is_expired && (used_up || step.crashed && delay > 0) {
                    task.fail_attempt(position, true, delay, now);
                    if let Some(step) = task.step(position) {
                        step.crashed = true;
                    }
                    continue;
                }
                step.crashed |= is_expired;
                step.state = "in_progress";
                step.attempt += 1;
                step.attempts_used += 1;
                step.until = now + lease;
                step.lease = lease;
                claimed.push((number, position));
            }
            task.settle_if_live();
        }
        claimed
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
        let defers = task.template.defers;
        if let Some(step) = task.step(place.1) {
            step.payload = payload;
            if defers {
                step.moves("enqueued_for_orchestration");
            }
        }
        if !defers {
            task.complete(place.1);
        }
        true
    }

    /// An outcome `fail`; whether it is accepted.
    pub fn fail(&mut self, place: Place, attempt: i32, is_retryable: bool) -> bool {
        let now = self.now;
        let Some(task) = self.held(place, attempt) else {
            return false;
        };
        let delay = task.definition(place.1).delay;
        if !task.template.defers {
            task.fail_attempt(place.1, is_retryable, delay, now);
        } else if let Some(step) = task.step(place.1) {
            step.moves("enqueued_as_error_for_orchestration");
            step.is_retryable = is_retryable;
        }
        true
    }

    /// An outcome `release`; whether it is accepted.
    pub fn release(&mut self, place: Place, attempt: i32) -> bool {
        let Some(step) = self
            .held(place, attempt)
            .and_then(|task| task.step(place.1))
        else {
            return false;
        };
        step.moves("enqueued");
        step.attempt += 1;
        step.attempts_used -= 1;
        true
    }

    /// The end of a call that reported outcomes.
    pub fn settle(&mut self) {
        for task in &mut self.tasks {
            task.settle_if_live();
        }
    }

    /// `run_maintenance`, for everything: resting outcomes are evaluated, then leases that ended more than one lease ago, then the instances of what failed fast are cancelled.
    pub fn maintain(&mut self) {
        let now = self.now;
        for task in &mut self.tasks {
            let positions: Vec<usize> = task.steps.keys().copied().collect();
            for &position in &positions {
                let delay = task.definition(position).delay;
                let is_retryable = task.steps[&position].is_retryable;
                match task.state_of(position) {
                    "enqueued_for_orchestration" => task.complete(position),
                    "enqueued_as_error_for_orchestration" => {
                        task.fail_attempt(position, is_retryable, delay, now);
                    }
                    _ => {}
                }
            }
            task.settle_if_live();
            for &position in &positions {
                let delay = task.definition(position).delay;
                let step = &task.steps[&position];
                if step.state == "in_progress" && step.until + step.lease <= now {
                    let delay = if step.crashed { delay } else { 0 };
                    task.fail_attempt(position, true, delay, now);
                    if let Some(step) = task.step(position) {
                        step.crashed = true;
                    }
                }
            }
            task.settle_if_live();
            task.cancel_instances();
            task.settle_if_live();
        }
    }

    /// `cancel_task`.
    pub fn cancel(&mut self, number: usize) -> Answer {
        let task = &mut self.tasks[number];
        if task.is_terminal() {
            return match task.state {
                "cancelled" => Answer::Done,
                _ => Answer::NotAllowed,
            };
        }
        let real: Vec<usize> = task
            .steps
            .keys()
            .copied()
            .filter(|&position| task.is_real(position))
            .collect();
        for position in real {
            if let Some(step) = task.step(position)
                && !step.is_terminal()
            {
                step.moves("cancelled");
            }
        }
        task.state = "cancelled";
        Answer::Done
    }

    /// `pause_task`.
    pub fn pause(&mut self, number: usize) -> Answer {
        let task = &mut self.tasks[number];
        if task.is_terminal() && !task.is_paused {
            return Answer::NotAllowed;
        }
        task.is_paused = true;
        Answer::Done
    }

    /// `resume_task`.
    pub fn resume(&mut self, number: usize) {
        self.tasks[number].is_paused = false;
    }

    /// An operator's doing to a step.
    fn repaired(&mut self, (number, position): Place, from: &[&str]) -> Result<&mut Task, Answer> {
        let task = &mut self.tasks[number];
        if !task.is_real(position) {
            Err(Answer::NoStep)
        } else if !from.contains(&task.state_of(position))
            || task.is_terminal() && task.state != "error"
        {
            Err(Answer::NotAllowed)
        } else {
            Ok(task)
        }
    }

    /// `reset_step`: with a step that stands for instances those of them that failed, with an instance the step that stands for it, if it failed.
    pub fn reset(&mut self, place: Place) -> Answer {
        let task = match self.repaired(place, &FAILED) {
            Ok(task) => task,
            Err(answer) => return answer,
        };
        let (of, instance) = task.template.place(place.1);
        let is_meant = |position: usize| {
            position == place.1
                || match (instance, task.template.place(position)) {
                    (None, (other, Some(_))) | (Some(_), (other, None)) => other == of,
                    _ => false,
                }
        };
        let meant: Vec<usize> = task
            .steps
            .iter()
            .filter(|&(&position, step)| is_meant(position) && FAILED.contains(&step.state))
            .map(|(&position, _)| position)
            .collect();
        for &position in &meant {
            if let Some(step) = task.step(position) {
                step.begins_anew();
            }
        }
        for &position in &meant {
            let place = task.template.place(position);
            let is_ready = match place {
                (of, Some(number)) => number <= task.opened(of),
                (of, None) => task.open(of) == 0,
            };
            task.run_at_once(position, is_ready);
        }
        if meant.contains(&of) && task.instances(of) > 0 {
            task.fill_places(of);
        }
        task.settle();
        Answer::Done
    }

    /// `complete_step_manually` and `resolve_step`.
    pub fn settle_by_hand(
        &mut self,
        place: Place,
        state: &'static str,
        payload: Payload,
    ) -> Answer {
        const OPEN: [&str; 5] = [
            "error",
            "pending",
            "enqueued",
            "in_progress",
            "waiting_for_retry",
        ];
        let task = match self.repaired(place, &OPEN) {
            Ok(task) => task,
            Err(answer) => return answer,
        };
        let mut had_ended = false;
        if let Some(step) = task.step(place.1) {
            had_ended = step.is_terminal();
            step.moves(state);
            step.attempt += 1;
            step.payload = payload;
        }
        task.ends(place.1, had_ended);
        task.settle();
        Answer::Done
    }

    /// `rerun_task`.
    pub fn rerun(&mut self, number: usize, from: Option<usize>, with_descendants: bool) -> Answer {
        let task = &mut self.tasks[number];
        let starts = from.is_none_or(|from| task.steps[&from].is_terminal());
        if !starts || !task.is_terminal() && task.state != "blocked_by_failures" {
            return Answer::NotAllowed;
        }
        let definitions = &task.template.steps;
        let mut chosen = vec![from.is_none(); definitions.len()];
        for position in 0..definitions.len() {
            let mut dependencies = definitions[position].dependencies.iter();
            let follows = dependencies.any(|&dependency| chosen[dependency]);
            chosen[position] |= from == Some(position) || with_descendants && follows;
        }
        let positions: Vec<usize> = task.steps.keys().copied().collect();
        for position in positions {
            let (of, _) = task.template.place(position);
            if chosen[of]
                && let Some(step) = task.step(position)
                && step.is_terminal()
            {
                step.begins_anew();
            }
        }
        task.groups.retain(|&of, _| !chosen[of]);
        if let Some(from) = from {
            let is_ready = task.open(from) == 0;
            task.run_at_once(from, is_ready);
        }
        task.settle();
        Answer::Done
    }
}

impl Task {
    /// What an operator sets going exists, if it waits for nothing.
    fn run_at_once(&mut self, position: usize, is_ready: bool) {
        let (of, instance) = self.template.place(position);
        let stands_for_instances =
            instance.is_none() && matches!(self.template.steps[of].kind, Kind::Many { .. });
        if !is_ready {
            return;
        }
        if stands_for_instances {
            if !self.groups.contains_key(&of) {
                self.begin(of);
            }
        } else if let Some(step) = self.step(position) {
            step.state = "enqueued";
        }
    }
}
