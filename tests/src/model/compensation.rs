//! What undoes steps before their task ends otherwise than well.

use super::{Row, Task};

impl Task {
    /// Where a task stands that would stand in a state: what it did may be undone first, and is then.
    pub(super) fn before_the_end(&mut self, to: &'static str) -> &'static str {
        if !["complete", "error", "blocked_by_failures"].contains(&to) {
            return to;
        }
        match self.compensates {
            None => {
                if to != "error" || !self.undo() {
                    return to;
                }
                self.compensates = Some("error");
                "steps_in_process"
            }
            Some("cancelled") if self.any_undo_failed() => "blocked_by_failures",
            Some(end) => end,
        }
    }

    fn any_undo_failed(&self) -> bool {
        self.steps.iter().any(|(&position, step)| {
            matches!(self.template.row(position), Row::Undo(..)) && step.state == "error"
        })
    }

    /// Makes what undoes the complete steps, the last one first, and lets the first go; whether there is any.
    pub(super) fn undo(&mut self) -> bool {
        let mut undone: Vec<(i64, usize, usize)> = self
            .steps
            .iter()
            .filter(|(_, step)| step.state == "complete")
            .filter_map(|(&position, step)| {
                let undo = self.template.undo_of(position)?;
                Some((step.finished_at, position, undo))
            })
            .collect();
        undone.sort_unstable();
        undone.reverse();
        let chain: Vec<usize> = undone.into_iter().map(|(_, _, undo)| undo).collect();
        for (ordinal, &undo) in chain.iter().enumerate() {
            let step = self.steps.entry(undo).or_default();
            step.state = if ordinal == 0 { "enqueued" } else { "pending" };
        }
        self.chain = chain;
        !self.chain.is_empty()
    }

    /// What undoes a step is done: the next that isn't goes on.
    pub(super) fn follow(&mut self, position: usize) {
        let place = self.chain.iter().position(|&undo| undo == position);
        let behind = self
            .chain
            .iter()
            .skip(place.map_or(usize::MAX, |place| place + 1));
        let next = behind
            .copied()
            .find(|next| !self.steps[next].is_satisfied());
        if let Some(step) = next.and_then(|next| self.step(next)) {
            step.state = "enqueued";
        }
    }
}
