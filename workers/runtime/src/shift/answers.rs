//! What the loop makes of what happened: handlers that ended and calls that were answered.

use tasker_client::{ClaimedStep, Finished, HeldStep, Outcome};
use tokio::task::{Id, JoinError};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{Done, Leaving, Shift, Traded};
use crate::StepContext;
use crate::calls::CallError;

impl Shift {
    /// Takes over every attempt that ended by now, so that all of them go into one batch.
    pub(super) fn gather(&mut self) {
        while let Some(ended) = self.attempts.try_join_next_with_id() {
            self.ended(ended);
        }
    }

    pub(super) fn ended(&mut self, ended: Result<(Id, Option<Outcome>), JoinError>) {
        // An attempt's task turns panics of handlers into outcomes. Should it fail itself, its step
        // is left to its lease.
        let (task, outcome) = ended.unwrap_or_else(|error| (error.id(), None));
        if let Some(step) = self.started.remove(&task) {
            self.prefetch.ran(step.at.elapsed());
            self.board.ended(step.held, outcome);
        }
    }

    pub(super) fn traded(&mut self, traded: Traded) {
        let now = Instant::now();
        match traded {
            Traded::Due(Ok(due_in)) => self.schedule.told(due_in, now),
            Traded::Claimed(Ok(steps)) => self.claimed(steps, now),
            Traded::Due(Err(error)) | Traded::Claimed(Err(error)) => {
                if self.schedule.failed(now) {
                    tracing::warn!(%error, "work can't be looked for");
                }
                self.upkeep.must_register(now);
            }
            Traded::Finished {
                outcomes,
                claims,
                answer,
                repetitions,
            } => {
                if repetitions > 0 {
                    self.upkeep.must_register(now);
                }
                match answer {
                    Ok(Finished { verdicts, claimed }) => {
                        self.board.answered(outcomes, &verdicts);
                        if claims {
                            self.claimed(claimed, now);
                        }
                    }
                    Err(error) => self.not_finished(outcomes, &error, now),
                }
            }
        }
    }

    fn not_finished(&mut self, outcomes: Vec<Outcome>, error: &CallError, now: Instant) {
        if error.blames_the_input() {
            self.board
                .refused(outcomes, error.code(), &error.to_string());
            return;
        }
        self.schedule.failed(now);
        tracing::error!(
            %error, code = error.code(), outcomes = outcomes.len(),
            "outcomes can't be stored; their steps are left to their leases"
        );
    }

    fn claimed(&mut self, steps: Vec<ClaimedStep>, now: Instant) {
        self.schedule.claimed(steps.len(), now);
        let (began, asked) = self.asked;
        self.prefetch
            .claimed(asked, steps.len(), now - began, self.board.places());
        for step in steps {
            let held = HeldStep {
                step_uuid: step.step_uuid,
                attempt: step.attempt,
            };
            if self.leaving != Leaving::No {
                self.board.give_back(held);
                continue;
            }
            let stop = CancellationToken::new();
            let context = StepContext::from_claimed(step, stop.clone(), self.caller.client.clone());
            let Some(handler) = self.handlers.get(context.callable()) else {
                tracing::warn!(
                    callable = context.callable(),
                    "a step of an unknown handler is given back"
                );
                self.board.give_back(held);
                continue;
            };
            self.board.hand_out(held, stop, now);
            self.upkeep.steps_run(now);
            self.line_up(held, context, handler, now);
        }
    }

    pub(super) fn done(&mut self, done: Done) {
        let now = Instant::now();
        match done {
            Done::Registered(Ok(())) => self.upkeep.registered(now),
            Done::Registered(Err(error)) => {
                if self.upkeep.registration_failed(now) {
                    tracing::warn!(%error, "the worker can't register again");
                }
            }
            Done::Beaten(answer) => {
                self.upkeep.beaten(now);
                if let Err(error) = answer {
                    tracing::debug!(%error, "a heartbeat failed");
                    if error.is_unknown_worker() || error.is_passing() {
                        self.upkeep.must_register(now);
                    }
                }
            }
            Done::Extended {
                asked,
                answer: Ok(verdicts),
            } => {
                self.board.leases_answered(&asked, &verdicts);
                self.upkeep.extended(now, self.board.held_count() > 0);
            }
            Done::Extended {
                asked,
                answer: Err(error),
            } => {
                tracing::warn!(%error, steps = asked.len(), "leases can't be extended");
                self.upkeep.extension_failed(now);
                self.upkeep.must_register(now);
            }
        }
    }
}
