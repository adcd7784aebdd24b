//! Which steps are held and which outcomes wait. Plain bookkeeping: nothing here asks the database or
//! waits.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use tasker_client::{
    HeldStep, LeaseState, LeaseVerdict, Outcome, OutcomeStatus, StepError, Verdict, VerdictKind,
};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// Steps handed out together often end together. So long after the latest hand-out outcomes wait,
/// while any of its steps runs, so that they share one call and one commit.
const GATHERING: Duration = Duration::from_millis(2);

/// The most outcomes in one call.
const LARGEST_BATCH: usize = 500;

/// The most characters of a database's message that go into a step's error.
const LONGEST_MESSAGE: usize = 1000;

/// The type of the error that takes the place of an outcome which the database refuses.
const REFUSED: &str = "outcome_refused";

/// The steps and outcomes of one worker.
#[derive(Debug)]
pub(crate) struct Board {
    concurrency: usize,
    /// What was handed out: it runs, or waits for a place.
    held: HashMap<Uuid, Held>,
    outbox: Vec<Outcome>,
    /// Outcomes whose batch was refused as a whole: each goes alone, so that a bad one is found and
    /// the others pass.
    alone: VecDeque<Outcome>,
    /// When the latest steps were handed out, and how many of those still run.
    latest: Option<Instant>,
    latest_held: usize,
}

#[derive(Debug)]
struct Held {
    attempt: i32,
    stop: CancellationToken,
    handed_out_at: Instant,
}

impl Board {
    pub(crate) fn new(concurrency: usize) -> Self {
        Self {
            concurrency,
            held: HashMap::new(),
            outbox: Vec::new(),
            alone: VecDeque::new(),
            latest: None,
            latest_held: 0,
        }
    }

    /// How many steps may still be claimed, with `ahead` of them waiting for a place.
    pub(crate) fn free(&self, ahead: usize) -> usize {
        (self.concurrency + ahead).saturating_sub(self.held.len())
    }

    /// How many steps may run at once.
    pub(crate) fn places(&self) -> usize {
        self.concurrency
    }

    pub(crate) fn held_count(&self) -> usize {
        self.held.len()
    }

    /// Whether nothing runs and no outcome waits.
    pub(crate) fn is_clear(&self) -> bool {
        self.held.is_empty() && self.waiting_count() == 0
    }

    /// How many outcomes wait to be sent.
    pub(crate) fn waiting_count(&self) -> usize {
        self.outbox.len() + self.alone.len()
    }

    /// A step is handed out. An older attempt of the same step, which this worker lost without
    /// noticing, is stopped.
    pub(crate) fn hand_out(&mut self, step: HeldStep, token: CancellationToken, now: Instant) {
        if self.latest != Some(now) {
            self.latest = Some(now);
            self.latest_held = 0;
        }
        self.remove(step.step_uuid);
        self.latest_held += 1;
        let held = Held {
            attempt: step.attempt,
            stop: token,
            handed_out_at: now,
        };
        self.held.insert(step.step_uuid, held);
    }

    /// An attempt ended. Its outcome is kept for the next call, unless nobody waits for it any
    /// more.
    pub(crate) fn ended(&mut self, step: HeldStep, outcome: Option<Outcome>) {
        if self.holds(step) {
            self.remove(step.step_uuid);
            self.outbox.extend(outcome);
        }
    }

    fn holds(&self, step: HeldStep) -> bool {
        let held = self.held.get(&step.step_uuid);
        held.is_some_and(|held| held.attempt == step.attempt)
    }

    /// Takes a step off the board and stops it, if it still runs.
    fn remove(&mut self, step_uuid: Uuid) {
        if let Some(held) = self.held.remove(&step_uuid) {
            held.stop.cancel();
            if self.latest == Some(held.handed_out_at) {
                self.latest_held -= 1;
            }
        }
    }

    /// A step is given back without being run, whether it was handed out or not.
    pub(crate) fn give_back(&mut self, step: HeldStep) {
        if self.holds(step) {
            self.remove(step.step_uuid);
        }
        self.outbox
            .push(Outcome::release(step.step_uuid, step.attempt));
    }

    /// Stops what runs and gives it back.
    pub(crate) fn give_all_back(&mut self) {
        self.latest_held = 0;
        for (step_uuid, held) in self.held.drain() {
            held.stop.cancel();
            self.outbox.push(Outcome::release(step_uuid, held.attempt));
        }
    }

    /// When a batch may be sent: at once, at a time, or not before something ends.
    pub(crate) fn batch_due_at(&self, now: Instant) -> Option<Instant> {
        if !self.alone.is_empty() {
            return Some(now);
        }
        if self.outbox.is_empty() {
            return None;
        }
        let others_may_end = self.latest_held > 0 && self.outbox.len() < LARGEST_BATCH;
        let gathered_at = self
            .latest
            .filter(|_| others_may_end)
            .map(|at| at + GATHERING);
        Some(gathered_at.map_or(now, |at| at.max(now)))
    }

    /// The outcomes of the next call.
    pub(crate) fn take_batch(&mut self) -> Vec<Outcome> {
        match self.alone.pop_front() {
            Some(outcome) => vec![outcome],
            None => self
                .outbox
                .drain(..self.outbox.len().min(LARGEST_BATCH))
                .collect(),
        }
    }

    /// The database answered a batch: verdicts in the order of the outcomes.
    pub(crate) fn answered(&mut self, batch: Vec<Outcome>, verdicts: &[Verdict]) {
        for (outcome, verdict) in batch.into_iter().zip(verdicts) {
            let Verdict { code, message, .. } = verdict;
            let (code, message) = (
                code.as_deref().unwrap_or_default(),
                message.as_deref().unwrap_or_default(),
            );
            match verdict.verdict {
                VerdictKind::Accepted if verdict.message.is_some() => {
                    tracing::warn!(
                        step_uuid = %outcome.step_uuid, attempt = outcome.attempt, code,
                        "the outcome counts, but {message}"
                    );
                }
                VerdictKind::Accepted | VerdictKind::Repeated => {}
                VerdictKind::Lost | VerdictKind::Cancelled | VerdictKind::TimedOut => {
                    tracing::info!(
                        step_uuid = %outcome.step_uuid, attempt = outcome.attempt,
                        verdict = ?verdict.verdict, code,
                        "the outcome came too late: {message}"
                    );
                }
                VerdictKind::Invalid => self.replace(outcome, code, message),
            }
        }
    }

    /// The database refused a batch because of something in it.
    pub(crate) fn refused(&mut self, batch: Vec<Outcome>, code: &str, message: &str) {
        if batch.len() > 1 {
            self.alone.extend(batch);
        } else {
            for outcome in batch {
                self.replace(outcome, code, message);
            }
        }
    }

    /// An outcome that can't be stored becomes a failure that can, so that the step doesn't run for
    /// ever from lease to lease.
    fn replace(&mut self, outcome: Outcome, code: &str, message: &str) {
        let Outcome {
            step_uuid,
            attempt,
            status,
            error,
            ..
        } = outcome;
        let replaced_before = error.is_some_and(|error| error.r#type.as_deref() == Some(REFUSED));
        tracing::warn!(
            %step_uuid, attempt, ?status, code, replaced_before,
            "the database refused an outcome: {message}"
        );
        if replaced_before || status == OutcomeStatus::Release {
            return;
        }
        let reason: String = message
            .replace('\0', "\u{fffd}")
            .chars()
            .take(LONGEST_MESSAGE)
            .collect();
        let error = StepError {
            message: format!("the outcome can't be stored ({code}): {reason}"),
            r#type: Some(REFUSED.into()),
            retryable: Some(false),
            retry_after_ms: None,
            detail: None,
        };
        self.alone
            .push_back(Outcome::fail(step_uuid, attempt, error));
    }

    /// The steps whose leases need extending.
    pub(crate) fn held(&self) -> Vec<HeldStep> {
        let held = self.held.iter();
        held.map(|(step_uuid, held)| HeldStep {
            step_uuid: *step_uuid,
            attempt: held.attempt,
        })
        .collect()
    }

    /// The database answered an extension for the steps in `asked`: what isn't held any more is
    /// stopped and its outcome dropped.
    pub(crate) fn leases_answered(&mut self, asked: &[HeldStep], verdicts: &[LeaseVerdict]) {
        let gone: HashMap<Uuid, LeaseState> = verdicts
            .iter()
            .filter(|verdict| verdict.verdict != LeaseState::Held)
            .map(|verdict| (verdict.step_uuid, verdict.verdict))
            .collect();
        for step in asked {
            let Some(state) = gone.get(&step.step_uuid) else {
                continue;
            };
            // By now another attempt of the step may run here: the answer is about the one that was
            // asked for.
            if self.holds(*step) {
                let HeldStep { step_uuid, attempt } = step;
                tracing::info!(%step_uuid, attempt, ?state, "the step isn't held any more");
                self.remove(step.step_uuid);
            }
            self.outbox.retain(|outcome| {
                (outcome.step_uuid, outcome.attempt) != (step.step_uuid, step.attempt)
            });
        }
    }
}

#[cfg(test)]
mod tests;
