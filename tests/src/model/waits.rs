//! Steps that wait inside the engine: for a signal, until a time, for a task of their own.

use super::{Answer, Kind, Millis, Model, Payload, Task, Until};

impl Kind {
    /// Whether a step of this kind waits inside the engine once it is ready.
    #[must_use]
    pub const fn waits(&self) -> bool {
        matches!(
            self,
            Self::Signal { .. } | Self::Timer(_) | Self::Child { .. }
        )
    }
}

impl Task {
    /// A step that is ready begins to wait, or ends at once.
    pub(super) fn begin_to_wait(&mut self, position: usize) {
        let now = self.now;
        let until = match self.template.steps[position].kind {
            Kind::Signal { name, timeout, .. } => match self.signals.get(&name).cloned() {
                Some(payload) => return self.end_wait(position, "complete", payload, 1),
                None => timeout.map(|timeout| now + timeout),
            },
            Kind::Timer(Until::Delay(delay)) => Some(now + delay),
            Kind::Timer(Until::Result(source)) => {
                let source = &self.steps[&source];
                match source.payload.at.filter(|_| source.state == "complete") {
                    Some(at) => Some(at),
                    None => return self.end_wait(position, "error", Payload::default(), 1),
                }
            }
            _ => None,
        };
        if let Some(step) = self.step(position) {
            step.moves("in_progress", now);
            step.attempt += 1;
            step.waits = true;
            step.until = until.unwrap_or(Millis::MAX);
        }
    }

    /// A step that waits, or is about to, ends.
    pub(super) fn end_wait(
        &mut self,
        position: usize,
        state: &'static str,
        payload: Payload,
        attempts: i32,
    ) {
        let now = self.now;
        if let Some(step) = self.step(position) {
            step.moves(state, now);
            step.attempt += attempts;
            step.payload = payload;
        }
    }

    /// Maintenance ends the waiting of those whose time has come. Those that begin to wait by that are left to the next time.
    pub(super) fn fire(&mut self) {
        let due: Vec<usize> = self
            .steps
            .iter()
            .filter(|(_, step)| step.waits && step.until <= self.now)
            .map(|(&position, _)| position)
            .collect();
        for position in due {
            let state = match self.template.steps[position].kind {
                Kind::Signal { goes_on: false, .. } => "error",
                _ => "complete",
            };
            self.end_wait(position, state, Payload::default(), 0);
        }
        self.settle_if_live();
    }
}

impl Model {
    /// `send_signal`; and whether it was the first of its name. Without a payload it is one that the step's schema refuses.
    pub fn signal(
        &mut self,
        number: usize,
        name: usize,
        payload: Option<Payload>,
    ) -> (Answer, bool) {
        let task = &mut self.tasks[number];
        if !task.template.waits_for(name) {
            return (Answer::Refused("TK004"), false);
        }
        let Some(payload) = payload else {
            return (Answer::Refused("TK021"), false);
        };
        if task.signals.contains_key(&name) {
            return (Answer::Done, false);
        }
        if task.is_terminal() {
            let code = if task.state == "cancelled" {
                "TK012"
            } else {
                "TK010"
            };
            return (Answer::Refused(code), false);
        }
        task.signals.insert(name, payload.clone());
        let waiting: Vec<usize> = (0..task.template.steps.len())
            .filter(|position| {
                let kind = &task.template.steps[*position].kind;
                matches!(kind, Kind::Signal { name: other, .. } if *other == name)
                    && task.steps.get(position).is_some_and(|step| step.waits)
            })
            .collect();
        for position in waiting {
            task.end_wait(position, "complete", payload.clone(), 0);
        }
        task.settle_if_live();
        self.note_ended_waits();
        (Answer::Done, true)
    }
}
