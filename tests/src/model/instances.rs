//! Steps that are made many of.

use super::{Kind, Payload, Row, Step, Task};

/// How many instances a step has, and how many of them have been let go.
#[derive(Debug, Clone, Copy)]
pub(super) struct Group {
    pub(super) instances: usize,
    pub(super) opened: usize,
}

/// What a call has brought about for a step that stands for instances.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Due {
    pub(super) places: usize,
    pub(super) fails: bool,
}

impl Task {
    fn strategy(&self, of: usize) -> Option<&'static str> {
        match self.template.steps[of].kind {
            Kind::Many { strategy, .. } => strategy,
            _ => None,
        }
    }

    /// Whether a step counts as done though it failed.
    pub(super) fn tolerates(&self, position: usize) -> bool {
        let Row::Instance(of, _) = self.template.row(position) else {
            return false;
        };
        matches!(self.strategy(of), Some("continue_on_failure" | "isolate"))
    }

    pub(super) fn instances(&self, of: usize) -> usize {
        self.groups.get(&of).map_or(0, |group| group.instances)
    }

    pub(super) fn opened(&self, of: usize) -> usize {
        self.groups.get(&of).map_or(0, |group| group.opened)
    }

    fn positions(&self, of: usize) -> Vec<usize> {
        (1..=self.instances(of))
            .map(|number| self.template.instance(of, number))
            .collect()
    }

    /// How many instances of a step that has made them are not done.
    pub(super) fn open_instances(&self, of: usize) -> Option<i32> {
        self.groups.get(&of)?;
        let open = self.positions(of).into_iter().filter(|position| {
            let step = &self.steps[position];
            !(step.is_satisfied() || step.state == "error" && self.tolerates(*position))
        });
        Some(open.count() as i32)
    }

    /// A step has ended: of an instance, the one that stands for it hears of it; what undoes a step lets the next go.
    pub(super) fn ends(&mut self, position: usize, had_ended: bool) {
        let of = match self.template.row(position) {
            Row::Step(_) => return,
            Row::Instance(of, _) => of,
            Row::Undo(..) => {
                if self.steps[&position].is_satisfied() {
                    self.follow(position);
                }
                return;
            }
        };
        let fails = self.state_of(position) == "error" && self.strategy(of) == Some("fail_fast");
        let due = self.due.entry(of).or_default();
        due.places += usize::from(!had_ended);
        due.fails |= fails;
    }

    /// A pending step that stands for instances makes them, lets more of them go, or ends.
    pub(super) fn go_on(&mut self, of: usize, remaining: Option<i32>, due: Due) {
        if !self.groups.contains_key(&of) {
            if remaining == Some(0) {
                self.begin(of);
            }
        } else if due.fails {
            self.end(of, "error", None);
            self.failing.insert(of);
        } else if remaining == Some(0) {
            self.end(of, "complete", Some(self.instances(of)));
        } else {
            self.let_go(of, due.places);
        }
    }

    fn end(&mut self, of: usize, state: &'static str, items: Option<usize>) {
        let now = self.now;
        if let Some(step) = self.step(of) {
            step.moves(state, now);
            step.attempt += 1;
            step.payload = Payload::of_items(items);
        }
    }

    fn let_go(&mut self, of: usize, places: usize) {
        let until = self.instances(of).min(self.opened(of) + places);
        for number in self.opened(of) + 1..=until {
            let position = self.template.instance(of, number);
            if let Some(step) = self.step(position)
                && step.state == "pending"
            {
                step.state = "enqueued";
            }
        }
        if let Some(group) = self.groups.get_mut(&of) {
            group.opened = until;
        }
    }

    /// A step makes its instances.
    pub(super) fn begin(&mut self, of: usize) {
        let Kind::Many {
            source,
            is_batch,
            parallel,
            ..
        } = self.template.steps[of].kind
        else {
            return;
        };
        let count = match &self.steps[&source] {
            Step {
                state: "resolved_manually",
                ..
            } if is_batch => Some(0),
            Step {
                state: "complete",
                payload,
                ..
            } => payload.items,
            _ => None,
        };
        match count {
            None => self.end(of, "error", None),
            Some(0) => self.end(of, "complete", Some(0)),
            Some(count) => {
                let group = Group {
                    instances: count,
                    opened: parallel.map_or(count, |most| most.min(count)),
                };
                self.groups.insert(of, group);
                for number in 1..=count {
                    let position = self.template.instance(of, number);
                    let step = self.steps.entry(position).or_default();
                    step.state = if number <= group.opened {
                        "enqueued"
                    } else {
                        "pending"
                    };
                }
            }
        }
    }

    /// A step that failed with its instances goes on: as many are let go as may be at once.
    pub(super) fn fill_places(&mut self, of: usize) {
        let Kind::Many { parallel, .. } = self.template.steps[of].kind else {
            return;
        };
        let positions = self.positions(of);
        let opened = positions.iter().take(self.opened(of));
        let live = opened
            .filter(|position| !self.steps[position].is_terminal())
            .count();
        let most = parallel.unwrap_or(positions.len());
        self.due.entry(of).or_default().places += most.saturating_sub(live);
    }

    /// Maintenance cancels the instances of steps that failed with one of them.
    pub(super) fn cancel_instances(&mut self) {
        let now = self.now;
        for of in std::mem::take(&mut self.failing) {
            if self.state_of(of) != "error" {
                continue;
            }
            for position in self.positions(of) {
                if let Some(step) = self.step(position)
                    && !step.is_terminal()
                {
                    step.moves("cancelled", now);
                }
            }
        }
    }
}
