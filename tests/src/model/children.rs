//! Tasks that steps of other tasks start and wait for. What passes between the two is maintenance's to do.

use std::collections::BTreeMap;
use std::rc::Rc;

use super::{Kind, Model, Payload, Place, Task};

/// The step that a task was started for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parent {
    /// The step.
    pub place: Place,
    /// The step's attempt.
    pub attempt: i32,
}

impl Model {
    /// The steps that wait for a task of their own, with their attempts.
    fn waiting_parents(&self) -> BTreeMap<Place, i32> {
        let mut waiting = BTreeMap::new();
        for (number, task) in self.tasks.iter().enumerate() {
            for (position, step) in task.steps.iter().filter(|(_, step)| step.waits) {
                if matches!(task.template.steps[*position].kind, Kind::Child { .. }) {
                    waiting.insert((number, *position), step.attempt);
                }
            }
        }
        waiting
    }

    /// A step that waits no more has its children cancelled, those that have not ended: maintenance is told so.
    pub(super) fn note_ended_waits(&mut self) {
        let waiting = self.waiting_parents();
        let before = std::mem::replace(&mut self.parents, waiting);
        for (place, attempt) in before {
            if self.parents.get(&place) == Some(&attempt) {
                continue;
            }
            for (number, task) in self.tasks.iter().enumerate() {
                if task.parent.is_some_and(|parent| parent.place == place) && !task.is_terminal() {
                    self.cancellations.insert(number);
                }
            }
        }
    }

    /// Maintenance does what is to be done between parents and children, until nothing is.
    pub(super) fn tend_children(&mut self) {
        while self.cancel_a_child() || self.settle_a_parent() || self.start_a_child() {
            self.note_ended_waits();
        }
    }

    fn cancel_a_child(&mut self) -> bool {
        let Some(number) = self.cancellations.pop_first() else {
            return false;
        };
        let task = &mut self.tasks[number];
        let is_waited_for = task
            .parent
            .is_some_and(|parent| self.parents.get(&parent.place) == Some(&parent.attempt));
        if !is_waited_for && !task.is_terminal() {
            task.cancel(false);
        }
        true
    }

    fn settle_a_parent(&mut self) -> bool {
        let ended = self.tasks.iter().find_map(|task| {
            let parent = task.parent.filter(|_| task.is_terminal())?;
            let waits = self.parents.get(&parent.place) == Some(&parent.attempt);
            waits.then_some((parent.place, task.state))
        });
        let Some(((number, position), state)) = ended else {
            return false;
        };
        let end = match state {
            "complete" | "resolved_manually" => "complete",
            _ => "error",
        };
        self.tasks[number].end_wait(position, end, Payload::default(), 0);
        self.tasks[number].settle_if_live();
        true
    }

    fn start_a_child(&mut self) -> bool {
        let has_begun = |parent: Parent| self.tasks.iter().any(|task| task.parent == Some(parent));
        let mut parents = self.parents.iter();
        let Some(parent) = parents.find_map(|(&place, &attempt)| {
            let parent = Parent { place, attempt };
            (!has_begun(parent)).then_some(parent)
        }) else {
            return false;
        };
        let (number, position) = parent.place;
        let task = &mut self.tasks[number];
        let Kind::Child { template, context } = &task.template.steps[position].kind else {
            return false;
        };
        let has_context = context.is_none_or(|source| {
            let source = &task.steps[&source];
            source.state == "complete" && source.payload.has_context
        });
        let template = self.templates.iter().find(|known| known.name == *template);
        match template.map(Rc::clone) {
            Some(template) if has_context => {
                self.create(&template);
                if let Some(child) = self.tasks.last_mut() {
                    child.parent = Some(parent);
                }
            }
            _ => {
                task.end_wait(position, "error", Payload::default(), 0);
                task.settle_if_live();
            }
        }
        true
    }
}

impl Task {
    /// The step that it was started for, if it was.
    #[must_use]
    pub const fn parent(&self) -> Option<Parent> {
        self.parent
    }
}
