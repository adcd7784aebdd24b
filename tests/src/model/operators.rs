//! What operators do.

use super::{Answer, FAILED, Kind, Model, NOT_ALLOWED, Payload, Place, Row, Step, Task};

impl Model {
    /// `cancel_task`. A task that is being undone goes on with that, if it is to be undone.
    pub fn cancel(&mut self, number: usize, compensate: bool) -> Answer {
        let task = &mut self.tasks[number];
        if task.state == "cancelled" {
            return Answer::Done;
        } else if task.is_terminal() {
            return NOT_ALLOWED;
        }
        task.cancel(compensate);
        self.note_ended_waits();
        Answer::Done
    }

    /// `pause_task`.
    pub fn pause(&mut self, number: usize) -> Answer {
        let task = &mut self.tasks[number];
        if task.is_terminal() && !task.is_paused {
            return NOT_ALLOWED;
        }
        task.is_paused = true;
        Answer::Done
    }

    /// `resume_task`.
    pub fn resume(&mut self, number: usize) {
        let task = &mut self.tasks[number];
        if std::mem::take(&mut task.is_paused) {
            task.start_if_due();
            self.note_ended_waits();
        }
    }

    /// An operator's doing to a step.
    fn repaired(&mut self, (number, position): Place, from: &[&str]) -> Result<&mut Task, Answer> {
        let task = &mut self.tasks[number];
        if !task.is_real(position) {
            Err(Answer::Refused("TK002"))
        } else if !from.contains(&task.state_of(position))
            || task.is_terminal() && task.state != "error"
            || task.compensates.is_some() && !matches!(task.template.row(position), Row::Undo(..))
        {
            // What the task's other steps stood on is gone once it is undone.
            Err(NOT_ALLOWED)
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
        let row = task.template.row(place.1);
        let is_meant = |position: usize| {
            position == place.1
                || match (row, task.template.row(position)) {
                    (Row::Step(of), Row::Instance(other, _))
                    | (Row::Instance(of, _), Row::Step(other)) => of == other,
                    _ => false,
                }
        };
        let meant: Vec<usize> = task
            .steps
            .iter()
            .filter(|&(&position, step)| is_meant(position) && FAILED.contains(&step.state))
            .map(|(&position, _)| position)
            .collect();
        let now = task.now;
        for &position in &meant {
            if let Some(step) = task.step(position) {
                step.begins_anew(now);
            }
        }
        for &position in &meant {
            let is_ready = match task.template.row(position) {
                Row::Step(of) => task.open(of) == 0,
                Row::Instance(of, number) => number <= task.opened(of),
                Row::Undo(..) => true,
            };
            task.run_at_once(position, is_ready);
        }
        let of = row.of();
        if meant.contains(&of) && task.instances(of) > 0 {
            task.fill_places(of);
        }
        task.settle();
        self.note_ended_waits();
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
        let now = task.now;
        let (mut had_ended, mut had_begun) = (false, false);
        if let Some(step) = task.step(place.1) {
            had_ended = step.is_terminal();
            had_begun = step.state != "pending";
            step.moves(state, now);
            step.attempt += 1;
            step.payload = payload;
        }
        if state == "complete" {
            task.comes_to(place.1, "success");
        }
        // What undoes a step, settled before its turn, is passed over when that comes.
        if had_begun || !matches!(task.template.row(place.1), Row::Undo(..)) {
            task.ends(place.1, had_ended);
        }
        task.settle();
        self.note_ended_waits();
        Answer::Done
    }

    /// `rerun_task`.
    pub fn rerun(&mut self, number: usize, from: Option<usize>, with_descendants: bool) -> Answer {
        let task = &mut self.tasks[number];
        let is_terminal = |from: usize| task.steps.get(&from).is_some_and(Step::is_terminal);
        if !from.is_none_or(is_terminal)
            || !task.is_terminal() && task.state != "blocked_by_failures"
        {
            return NOT_ALLOWED;
        }
        if !task.has_started() {
            task.start();
            self.note_ended_waits();
            return Answer::Done;
        }
        let definitions = &task.template.steps;
        let mut chosen = vec![from.is_none(); definitions.len()];
        for position in 0..definitions.len() {
            let mut dependencies = definitions[position].dependencies.iter();
            let follows = dependencies.any(|&dependency| chosen[dependency]);
            chosen[position] |= from == Some(position) || with_descendants && follows;
        }
        // What stays must not have been undone.
        let is_left_undone = |(&position, step): (&usize, &Step)| {
            matches!(task.template.row(position), Row::Undo(of, _) if !chosen[of])
                && step.state != "pending"
        };
        if task.steps.iter().any(is_left_undone) {
            return NOT_ALLOWED;
        }
        task.compensates = None;
        task.chain.clear();
        let positions: Vec<usize> = task.steps.keys().copied().collect();
        for position in positions {
            if chosen[task.template.row(position).of()] {
                task.begin_anew(position);
            }
        }
        task.groups.retain(|&of, _| !chosen[of]);
        if let Some(from) = from {
            let is_ready = task.open(from) == 0;
            task.run_at_once(from, is_ready);
        }
        task.settle();
        self.note_ended_waits();
        Answer::Done
    }
}

impl Task {
    /// Cancels what has not ended, and undoes what has, if that is wanted.
    pub(super) fn cancel(&mut self, compensate: bool) {
        if compensate && self.compensates.is_some() {
            self.compensates = Some("cancelled");
            return;
        }
        let positions: Vec<usize> = self.steps.keys().copied().collect();
        let now = self.now;
        for position in positions {
            let is_real = self.is_real(position);
            if let Some(step) = self.step(position)
                && is_real
                && !step.is_terminal()
            {
                step.moves("cancelled", now);
            }
        }
        self.state = "cancelled";
        if compensate && self.undo() {
            self.compensates = Some("cancelled");
            self.state = "steps_in_process";
        }
    }

    /// A step that has ended is run anew, and forgets the signal that it waited for.
    fn begin_anew(&mut self, position: usize) {
        let now = self.now;
        let Some(step) = self.step(position) else {
            return;
        };
        if !step.is_terminal() {
            return;
        }
        step.begins_anew(now);
        if let Row::Step(of) = self.template.row(position)
            && let Kind::Signal { name, .. } = self.template.steps[of].kind
        {
            self.signals.remove(&name);
        }
    }

    /// What an operator sets going exists, if it waits for nothing.
    fn run_at_once(&mut self, position: usize, is_ready: bool) {
        if !is_ready {
            return;
        }
        if let Row::Step(of) = self.template.row(position) {
            let kind = &self.template.steps[of].kind;
            if kind.waits() {
                return self.begin_to_wait(of);
            } else if matches!(kind, Kind::Many { .. }) {
                if !self.groups.contains_key(&of) {
                    self.begin(of);
                }
                return;
            }
        }
        if let Some(step) = self.step(position) {
            step.state = "enqueued";
        }
    }
}
