//! The calls of the database that the loop makes, each with a deadline, and the repetition of the
//! one that must be answered.

use std::sync::Arc;
use std::time::Duration;

use tasker_client::{
    ClaimRequest, ClaimedStep, Client, Error, FinishRequest, Finished, HeldStep, LeaseVerdict,
    Outcome, WorkLine, WorkerRegistration,
};
use tokio::sync::Mutex;
use uuid::Uuid;

use crate::HandlerError;
use crate::jitter::{fraction, pause};

/// A call without an answer for so long is given up: its connection may be dead without either side
/// knowing.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);

/// Why a call of the database didn't succeed. As a [`HandlerError`] it is retryable where the same call may succeed later.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// The database refused it, or can't be reached.
    #[error(transparent)]
    Refused(#[from] Error),
    /// The database didn't answer in time.
    #[error("the database didn't answer within {} ms", .0.as_millis())]
    NoAnswer(Duration),
}

impl From<CallError> for HandlerError {
    fn from(error: CallError) -> Self {
        let failure = if error.blames_the_input() {
            Self::permanent(error.to_string())
        } else {
            Self::retryable(error.to_string())
        };
        failure.with_type("call")
    }
}

impl CallError {
    /// Whether the same call may succeed later.
    pub(crate) fn is_passing(&self) -> bool {
        match self {
            // A missing queue is made again by maintenance.
            Self::NoAnswer(_)
            | Self::Refused(Error::StatementTimedOut(_) | Error::QueueMissing(_)) => true,
            Self::Refused(error) => error.is_transient(),
        }
    }

    /// Whether something in the call itself was refused, so that the call without it would pass.
    pub(crate) fn blames_the_input(&self) -> bool {
        matches!(
            self,
            Self::Refused(Error::BadParameter(_) | Error::LimitExceeded(_) | Error::Invalid(_))
        ) || self.code().starts_with("54")
    }

    /// Whether the step isn't the caller's any more: another attempt owns it, or it was cancelled or is gone.
    pub(crate) fn says_that_the_step_is_lost(&self) -> bool {
        matches!(
            self,
            Self::Refused(Error::LeaseLost(_) | Error::Cancelled(_) | Error::NotFound(_))
        )
    }

    pub(crate) fn is_unknown_worker(&self) -> bool {
        self.code() == "TK004"
    }

    /// The SQLSTATE; empty when the database gave none.
    pub(crate) fn code(&self) -> &str {
        match self {
            Self::Refused(error) => error.code().unwrap_or_default(),
            Self::NoAnswer(_) => "",
        }
    }
}

/// Who calls, and for which work.
#[derive(Debug, Clone)]
pub(crate) struct Caller {
    pub(crate) client: Client,
    /// Over which work is claimed and finished, one call at a time.
    pub(crate) line: Arc<Mutex<WorkLine>>,
    pub(crate) worker_id: String,
    pub(crate) namespaces: Vec<String>,
    pub(crate) handlers: Vec<String>,
    pub(crate) lease: Duration,
}

impl Caller {
    pub(crate) async fn claim(&self, count: usize) -> Result<Vec<ClaimedStep>, CallError> {
        let request = ClaimRequest {
            worker_id: self.worker_id.clone(),
            namespaces: self.namespaces.clone(),
            max_steps: count as u32,
            lease: self.lease,
            handlers: Some(self.handlers.clone()),
        };
        let mut line = self.line.lock().await;
        within(DEADLINE, line.claim_steps(&request)).await
    }

    /// Sends outcomes and claims up to `claim_next` steps in the same transaction. While the
    /// database is away the same request is repeated under the same id, so that it counts once,
    /// however often it arrived. Also says how many times it was repeated.
    pub(crate) async fn finish(
        &self,
        outcomes: Vec<Outcome>,
        claim_next: usize,
    ) -> (Vec<Outcome>, Result<Finished, CallError>, u32) {
        let request = FinishRequest {
            worker_id: self.worker_id.clone(),
            outcomes,
            claim_next: claim_next as u32,
            lease: self.lease,
            namespaces: Some(self.namespaces.clone()),
            handlers: Some(self.handlers.clone()),
            request_id: Some(Uuid::new_v4()),
        };
        let mut line = self.line.lock().await;
        let mut repetitions = 0;
        loop {
            let answer = within(DEADLINE, line.finish_steps(&request)).await;
            match answer {
                Err(error) if error.is_passing() => {
                    if repetitions == 0 {
                        let outcomes = request.outcomes.len();
                        tracing::warn!(%error, outcomes, "outcomes wait for the database");
                    }
                    repetitions += 1;
                    tokio::time::sleep(pause(repetitions, fraction())).await;
                }
                answer => {
                    if repetitions > 0 {
                        tracing::info!(repetitions, "the database answers again");
                    }
                    return (request.outcomes, answer, repetitions);
                }
            }
        }
    }

    pub(crate) async fn work_due_in(&self) -> Result<Option<Duration>, CallError> {
        within(
            DEADLINE,
            self.client
                .work_due_in(&self.namespaces, Some(&self.handlers)),
        )
        .await
    }

    pub(crate) async fn extend(&self, steps: &[HeldStep]) -> Result<Vec<LeaseVerdict>, CallError> {
        within(
            self.short(),
            self.client
                .extend_leases(&self.worker_id, steps, self.lease),
        )
        .await
    }

    pub(crate) async fn register(&self) -> Result<(), CallError> {
        let registration = WorkerRegistration {
            worker_id: self.worker_id.clone(),
            namespaces: self.namespaces.clone(),
            handlers: self.handlers.clone(),
            language: "rust".into(),
            version: env!("CARGO_PKG_VERSION").into(),
        };
        within(self.short(), self.client.register_worker(&registration)).await
    }

    pub(crate) async fn heartbeat(&self, running: usize, capacity: usize) -> Result<(), CallError> {
        within(
            self.short(),
            self.client
                .worker_heartbeat(&self.worker_id, running as u32, capacity as u32),
        )
        .await
    }

    /// These calls stand in line with the extension of leases, which must come round well within
    /// one.
    fn short(&self) -> Duration {
        DEADLINE.min(self.lease / 3)
    }
}

pub(crate) async fn within<T>(
    deadline: Duration,
    call: impl Future<Output = Result<T, Error>>,
) -> Result<T, CallError> {
    match tokio::time::timeout(deadline, call).await {
        Ok(answer) => answer.map_err(CallError::Refused),
        Err(_) => Err(CallError::NoAnswer(deadline)),
    }
}
