//! The state machine of a step.

use crate::named::named_enum;

named_enum! {
    /// Where a step stands.
    StepState, "step state" {
        /// Its dependencies are not satisfied yet.
        Pending = "pending",
        /// It has a live message and may be claimed.
        Enqueued = "enqueued",
        /// Claimed under a lease, or waiting inside the engine (signal, timer, child task).
        InProgress = "in_progress",
        /// Its outcome is stored, the evaluation is still to come.
        EnqueuedForOrchestration = "enqueued_for_orchestration",
        /// Its failure is stored, the evaluation is still to come.
        EnqueuedAsErrorForOrchestration = "enqueued_as_error_for_orchestration",
        /// It failed; a retry is due.
        WaitingForRetry = "waiting_for_retry",
        /// Done.
        Complete = "complete",
        /// An operator settled it.
        ResolvedManually = "resolved_manually",
        /// It failed for good; an operator may reset, complete or resolve it.
        Error = "error",
        /// Cancelled.
        Cancelled = "cancelled",
    }
}

named_enum! {
    /// What moves a step from one state to the next.
    StepEvent, "step event" {
        /// Its dependencies hold: it is put on its queue.
        Enqueue = "enqueue",
        /// A worker claims it; also the next attempt after an ended lease.
        Start = "start",
        /// A result is stored.
        EnqueueForOrchestration = "enqueue_for_orchestration",
        /// A failure is stored: the handler's own, a timeout, or a lease that ended.
        EnqueueAsErrorForOrchestration = "enqueue_as_error_for_orchestration",
        /// The result is accepted.
        Complete = "complete",
        /// It fails for good.
        Fail = "fail",
        /// Another attempt is due later.
        WaitForRetry = "wait_for_retry",
        /// The retry is due.
        Retry = "retry",
        /// A worker gives it back without using an attempt up.
        Release = "release",
        /// A worker stores a checkpoint and gives it back without using an attempt up.
        Yield = "yield",
        /// An operator lets it be tried again from its first attempt.
        ResetForRetry = "reset_for_retry",
        /// It is run anew.
        Rerun = "rerun",
        /// An operator gives its result.
        CompleteManually = "complete_manually",
        /// An operator settles it.
        ResolveManually = "resolve_manually",
        /// It is cancelled.
        Cancel = "cancel",
    }
}

use StepEvent as E;
use StepState as S;

/// The states an operator may settle a step from.
const OPEN_TO_OPERATORS: &[StepState] = &[
    S::Error,
    S::Pending,
    S::Enqueued,
    S::InProgress,
    S::WaitingForRetry,
];

/// The states in which a step has ended; only an operator moves it from here.
const TERMINAL: &[StepState] = &[S::Complete, S::ResolvedManually, S::Error, S::Cancelled];

/// The states a step can be cancelled from: every one that is not the end, and a failure.
const CANCELLABLE: &[StepState] = &[
    S::Pending,
    S::Enqueued,
    S::InProgress,
    S::EnqueuedForOrchestration,
    S::EnqueuedAsErrorForOrchestration,
    S::WaitingForRetry,
    S::Error,
];

/// A row of [`TRANSITIONS`]: from any of these states, any of these events leads to this state.
pub type Transition = (&'static [StepState], &'static [StepEvent], StepState);

/// The whole machine; what is not listed is not allowed.
///
/// From `cancelled`, a reset is meant for steps that a timeout or another step's failure cancelled; whether one was, is
/// known to the caller.
pub const TRANSITIONS: &[Transition] = &[
    (&[S::Pending], &[E::Enqueue], S::Enqueued),
    (&[S::Enqueued], &[E::Start], S::InProgress),
    (&[S::InProgress], &[E::Start], S::InProgress),
    (
        &[S::InProgress],
        &[E::EnqueueForOrchestration],
        S::EnqueuedForOrchestration,
    ),
    (
        &[S::InProgress],
        &[E::EnqueueAsErrorForOrchestration],
        S::EnqueuedAsErrorForOrchestration,
    ),
    (&[S::EnqueuedForOrchestration], &[E::Complete], S::Complete),
    (&[S::EnqueuedForOrchestration], &[E::Fail], S::Error),
    (&[S::EnqueuedAsErrorForOrchestration], &[E::Fail], S::Error),
    (
        &[S::EnqueuedAsErrorForOrchestration],
        &[E::WaitForRetry],
        S::WaitingForRetry,
    ),
    (&[S::WaitingForRetry], &[E::Retry], S::Enqueued),
    (&[S::InProgress], &[E::Release, E::Yield], S::Enqueued),
    (&[S::Error, S::Cancelled], &[E::ResetForRetry], S::Pending),
    (TERMINAL, &[E::Rerun], S::Pending),
    (OPEN_TO_OPERATORS, &[E::CompleteManually], S::Complete),
    (
        OPEN_TO_OPERATORS,
        &[E::ResolveManually],
        S::ResolvedManually,
    ),
    (CANCELLABLE, &[E::Cancel], S::Cancelled),
];

impl StepState {
    /// The state that `event` leads to from here, or `None` where it is not allowed.
    #[must_use]
    pub fn next(self, event: StepEvent) -> Option<Self> {
        TRANSITIONS
            .iter()
            .find(|(from, events, _)| from.contains(&self) && events.contains(&event))
            .map(|&(_, _, to)| to)
    }

    /// Whether the step has ended; only an operator moves it from here.
    #[must_use]
    pub fn is_terminal(self) -> bool {
        TERMINAL.contains(&self)
    }

    /// Whether its task counts it as running.
    #[must_use]
    pub fn counts_as_running(self) -> bool {
        matches!(
            self,
            Self::Enqueued
                | Self::InProgress
                | Self::EnqueuedForOrchestration
                | Self::EnqueuedAsErrorForOrchestration
        )
    }

    /// Whether steps that depend on this one may run.
    #[must_use]
    pub fn satisfies_dependents(self) -> bool {
        matches!(self, Self::Complete | Self::ResolvedManually)
    }
}
