//! The places of a worker: which steps run in them, and which wait for one.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tasker_client::HeldStep;
use tokio::time::Instant;

use super::{Leaving, Shift};
use crate::execution::execute;
use crate::spans;
use crate::{Handler, StepContext};

/// So long a step waits for a place. Then handlers take longer than was foretold, and the step is
/// given back to whoever has a free one.
const PATIENCE: Duration = Duration::from_millis(100);

/// Steps that wait for a place, the first one longest.
pub(super) type Queue = VecDeque<Waiting>;

/// A step that waits for a place.
pub(super) struct Waiting {
    held: HeldStep,
    context: StepContext,
    handler: Arc<dyn Handler>,
    since: Instant,
}

/// A step that runs.
#[derive(Debug, Clone, Copy)]
pub(super) struct Started {
    pub(super) held: HeldStep,
    pub(super) at: Instant,
}

impl Shift {
    /// Stands a step in line.
    pub(super) fn line_up(
        &mut self,
        held: HeldStep,
        context: StepContext,
        handler: Arc<dyn Handler>,
        since: Instant,
    ) {
        self.waiting.push_back(Waiting {
            held,
            context,
            handler,
            since,
        });
    }

    /// Starts steps that wait while there are places.
    pub(super) fn fill_places(&mut self) {
        while self.attempts.len() < self.board.places() {
            let Some(step) = self.waiting.pop_front() else {
                return;
            };
            // Lost or cancelled while it waited.
            if step.context.is_cancelled() {
                continue;
            }
            let started = Started {
                held: step.held,
                at: Instant::now(),
            };
            let span = spans::process(&step.context);
            let context = step.context.traced(tasker_traces::traceparent_of(&span));
            self.spans.began(step.held, &span, &context);
            let attempt = execute(step.handler, context);
            let task = self.attempts.spawn(spans::of_attempt(span, attempt));
            self.started.insert(task.id(), started);
        }
    }

    /// When the longest wait for a place is over.
    pub(super) fn patience_ends_at(&self) -> Option<Instant> {
        self.waiting.front().map(|step| step.since + PATIENCE)
    }

    /// Gives back what has waited too long; all of it when the worker leaves.
    pub(super) fn give_back_waiting(&mut self, now: Instant) {
        while self.patience_ends_at().is_some_and(|at| at <= now) || self.leaving != Leaving::No {
            let Some(step) = self.waiting.pop_front() else {
                return;
            };
            if !step.context.is_cancelled() {
                self.board.give_back(step.held);
            }
            self.prefetch.waited_in_vain();
        }
    }
}
