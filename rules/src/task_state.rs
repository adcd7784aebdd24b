//! The state machine of a task.

use crate::named::named_enum;

named_enum! {
    /// Where a task stands.
    TaskState, "task state" {
        /// Accepted, not started: a `run_at` in the future, a paused namespace.
        Pending = "pending",
        /// Its first steps are being made.
        Initializing = "initializing",
        /// Ready steps are being put on queues.
        EnqueuingSteps = "enqueuing_steps",
        /// At least one step is queued or running.
        StepsInProcess = "steps_in_process",
        /// Outcomes are being turned into the next steps.
        EvaluatingResults = "evaluating_results",
        /// Nothing runs; a signal, a timer or a child task will move it.
        WaitingForDependencies = "waiting_for_dependencies",
        /// Nothing runs; a retry is due later.
        WaitingForRetry = "waiting_for_retry",
        /// A step failed for good and nothing else can run; an operator decides.
        BlockedByFailures = "blocked_by_failures",
        /// Every step is satisfied.
        Complete = "complete",
        /// It failed.
        Error = "error",
        /// It was cancelled.
        Cancelled = "cancelled",
        /// An operator settled it.
        ResolvedManually = "resolved_manually",
    }
}

named_enum! {
    /// What moves a task from one state to the next.
    TaskEvent, "task event" {
        /// The task starts.
        Start = "start",
        /// Steps without open dependencies were found.
        ReadyStepsFound = "ready_steps_found",
        /// The task has no steps.
        NoStepsFound = "no_steps_found",
        /// Steps are left, but none is ready.
        NoDependenciesReady = "no_dependencies_ready",
        /// The ready steps are on their queues.
        StepsEnqueued = "steps_enqueued",
        /// The ready steps could not be put on their queues.
        EnqueueFailed = "enqueue_failed",
        /// A step completed.
        StepCompleted = "step_completed",
        /// The last steps completed.
        AllStepsCompleted = "all_steps_completed",
        /// An attempt of a step failed.
        StepFailed = "step_failed",
        /// An operator reset, completed or resolved a step.
        StepRepaired = "step_repaired",
        /// Other steps are still queued or running.
        StepsStillRunning = "steps_still_running",
        /// Nothing runs, and a retry is due later.
        RetryScheduled = "retry_scheduled",
        /// Every step is satisfied.
        AllStepsSuccessful = "all_steps_successful",
        /// A step failed for good and nothing else can run.
        PermanentFailure = "permanent_failure",
        /// What was waited for has come.
        DependenciesReady = "dependencies_ready",
        /// A retry is due.
        RetryReady = "retry_ready",
        /// Nobody is going to repair the failure.
        GiveUp = "give_up",
        /// An operator settles the task.
        ManualResolution = "manual_resolution",
        /// A failed task is tried again.
        Reset = "reset",
        /// Chosen steps are run anew.
        Rerun = "rerun",
        /// What was done is to be undone, before the task ends.
        Compensate = "compensate",
        /// The task is cancelled.
        Cancel = "cancel",
        /// One of the task's clocks ran out.
        TimedOut = "timed_out",
    }
}

use TaskEvent as E;
use TaskState as S;

/// The states that are not the end of a task.
const NON_TERMINAL: &[TaskState] = &[
    S::Pending,
    S::Initializing,
    S::EnqueuingSteps,
    S::StepsInProcess,
    S::EvaluatingResults,
    S::WaitingForDependencies,
    S::WaitingForRetry,
    S::BlockedByFailures,
];

/// A row of [`TRANSITIONS`]: from any of these states, any of these events leads to this state.
pub type Transition = (&'static [TaskState], &'static [TaskEvent], TaskState);

/// The whole machine; what is not listed is not allowed.
pub const TRANSITIONS: &[Transition] = &[
    (&[S::Pending], &[E::Start], S::Initializing),
    (&[S::Initializing], &[E::ReadyStepsFound], S::EnqueuingSteps),
    (&[S::Initializing], &[E::NoStepsFound], S::Complete),
    (
        &[S::Initializing],
        &[E::NoDependenciesReady],
        S::WaitingForDependencies,
    ),
    (&[S::EnqueuingSteps], &[E::StepsEnqueued], S::StepsInProcess),
    (
        &[
            S::StepsInProcess,
            S::EvaluatingResults,
            S::WaitingForDependencies,
            S::WaitingForRetry,
            S::BlockedByFailures,
        ],
        &[E::Compensate],
        S::EnqueuingSteps,
    ),
    (&[S::EnqueuingSteps], &[E::EnqueueFailed], S::Error),
    (
        &[S::StepsInProcess],
        &[
            E::StepCompleted,
            E::AllStepsCompleted,
            E::StepFailed,
            E::StepRepaired,
        ],
        S::EvaluatingResults,
    ),
    (
        &[S::EvaluatingResults],
        &[E::ReadyStepsFound],
        S::EnqueuingSteps,
    ),
    (
        &[S::EvaluatingResults],
        &[E::StepsStillRunning],
        S::StepsInProcess,
    ),
    (
        &[S::EvaluatingResults],
        &[E::RetryScheduled],
        S::WaitingForRetry,
    ),
    (
        &[S::EvaluatingResults],
        &[E::NoDependenciesReady],
        S::WaitingForDependencies,
    ),
    (
        &[S::EvaluatingResults],
        &[E::AllStepsSuccessful],
        S::Complete,
    ),
    (
        &[S::EvaluatingResults],
        &[E::PermanentFailure],
        S::BlockedByFailures,
    ),
    (
        &[S::WaitingForDependencies],
        &[E::DependenciesReady, E::StepRepaired],
        S::EvaluatingResults,
    ),
    (
        &[S::WaitingForDependencies],
        &[E::RetryReady],
        S::EnqueuingSteps,
    ),
    (&[S::WaitingForRetry], &[E::RetryReady], S::EnqueuingSteps),
    (
        &[S::WaitingForRetry],
        &[E::DependenciesReady, E::StepRepaired],
        S::EvaluatingResults,
    ),
    (
        &[S::BlockedByFailures],
        &[E::StepRepaired],
        S::EvaluatingResults,
    ),
    (&[S::BlockedByFailures], &[E::GiveUp], S::Error),
    (
        &[S::BlockedByFailures, S::Error],
        &[E::ManualResolution],
        S::ResolvedManually,
    ),
    (
        &[S::Error],
        &[E::StepRepaired, E::Reset],
        S::EvaluatingResults,
    ),
    (
        &[
            S::Complete,
            S::Error,
            S::Cancelled,
            S::ResolvedManually,
            S::BlockedByFailures,
        ],
        &[E::Rerun],
        S::EvaluatingResults,
    ),
    (NON_TERMINAL, &[E::Cancel], S::Cancelled),
    (NON_TERMINAL, &[E::TimedOut], S::Error),
];

impl TaskState {
    /// The state that `event` leads to from here, or `None` where it is not allowed.
    #[must_use]
    pub fn next(self, event: TaskEvent) -> Option<Self> {
        TRANSITIONS
            .iter()
            .find(|(from, events, _)| from.contains(&self) && events.contains(&event))
            .map(|&(_, _, to)| to)
    }

    /// Whether the task has ended; only an operator moves it from here.
    #[must_use]
    pub fn is_terminal(self) -> bool {
        !NON_TERMINAL.contains(&self)
    }
}
