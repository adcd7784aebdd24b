//! A task's next state, from its counters, and the way there.

use crate::task_state::{TaskEvent, TaskState};
use crate::template::OnFailure;

/// How many of a task's steps are in the states that keep it going.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counters {
    /// Enqueued, in progress, or resting for evaluation.
    pub running: i32,
    /// Waiting for a retry.
    pub waiting_retry: i32,
    /// Waiting inside the engine: a signal, a timer, a child task.
    pub waiting_engine: i32,
    /// Failed for good.
    pub failed: i32,
}

/// Where a task that was in `state` stands with these counters. A task that has ended stays as it is.
#[must_use]
pub fn next_state(state: TaskState, counters: Counters, on_failure: OnFailure) -> TaskState {
    if state.is_terminal() {
        state
    } else {
        standing(counters, on_failure)
    }
}

/// Where a task stands with these counters, also one that had ended and is set going again.
#[must_use]
pub fn standing(counters: Counters, on_failure: OnFailure) -> TaskState {
    if counters.running > 0 {
        TaskState::StepsInProcess
    } else if counters.waiting_retry > 0 {
        TaskState::WaitingForRetry
    } else if counters.waiting_engine > 0 {
        TaskState::WaitingForDependencies
    } else if counters.failed > 0 {
        match on_failure {
            OnFailure::Block => TaskState::BlockedByFailures,
            OnFailure::Error => TaskState::Error,
        }
    } else {
        TaskState::Complete
    }
}

/// The events on a task's way from one durable state to another; `cause` is what set it in motion.
#[must_use]
pub fn events(from: TaskState, to: TaskState, cause: TaskEvent) -> Vec<TaskEvent> {
    use {TaskEvent as E, TaskState as S};
    match to {
        S::StepsInProcess if cause == E::RetryReady => vec![E::RetryReady, E::StepsEnqueued],
        S::StepsInProcess if from == S::StepsInProcess => vec![cause, E::StepsStillRunning],
        S::StepsInProcess => vec![cause, E::ReadyStepsFound, E::StepsEnqueued],
        S::WaitingForRetry => vec![cause, E::RetryScheduled],
        S::WaitingForDependencies => vec![cause, E::NoDependenciesReady],
        S::BlockedByFailures => vec![cause, E::PermanentFailure],
        S::Error => vec![cause, E::PermanentFailure, E::GiveUp],
        S::Cancelled => vec![cause, E::Cancel],
        // What came last completed the task, however it came about.
        _ if cause == E::StepCompleted => vec![E::AllStepsCompleted, E::AllStepsSuccessful],
        _ => vec![cause, E::AllStepsSuccessful],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::{Tasks, decode, encode};

    const NOTHING: Counters = Counters {
        running: 0,
        waiting_retry: 0,
        waiting_engine: 0,
        failed: 0,
    };

    #[test]
    fn what_runs_comes_before_what_waits_and_that_before_what_failed() {
        let all = Counters {
            running: 1,
            waiting_retry: 1,
            waiting_engine: 1,
            failed: 1,
        };
        let next = |counters| next_state(TaskState::StepsInProcess, counters, OnFailure::Error);
        assert_eq!(next(all), TaskState::StepsInProcess);
        assert_eq!(
            next(Counters { running: 0, ..all }),
            TaskState::WaitingForRetry
        );
        assert_eq!(
            next(Counters {
                running: 0,
                waiting_retry: 0,
                ..all
            }),
            TaskState::WaitingForDependencies
        );
        assert_eq!(
            next(Counters {
                failed: 1,
                ..NOTHING
            }),
            TaskState::Error
        );
        assert_eq!(next(NOTHING), TaskState::Complete);
    }

    #[test]
    fn a_failed_task_waits_for_an_operator_where_its_template_says_so() {
        let failed = Counters {
            failed: 2,
            ..NOTHING
        };
        assert_eq!(
            next_state(TaskState::StepsInProcess, failed, OnFailure::Block),
            TaskState::BlockedByFailures
        );
    }

    #[test]
    fn a_task_that_has_ended_stays_ended() {
        let running = Counters {
            running: 1,
            ..NOTHING
        };
        assert_eq!(
            next_state(TaskState::Cancelled, running, OnFailure::Error),
            TaskState::Cancelled
        );
    }

    #[test]
    fn each_way_is_a_path_of_the_machine_that_ends_where_it_should() {
        use {TaskEvent as E, TaskState as S};
        let ways = [
            (S::WaitingForRetry, S::StepsInProcess, E::RetryReady),
            (S::StepsInProcess, S::WaitingForRetry, E::StepFailed),
            (
                S::StepsInProcess,
                S::WaitingForDependencies,
                E::StepCompleted,
            ),
            (S::StepsInProcess, S::BlockedByFailures, E::StepFailed),
            (S::StepsInProcess, S::Error, E::StepFailed),
            (S::StepsInProcess, S::Error, E::StepCompleted),
            (S::StepsInProcess, S::Complete, E::StepCompleted),
            (S::StepsInProcess, S::StepsInProcess, E::StepCompleted),
            (
                S::WaitingForDependencies,
                S::StepsInProcess,
                E::DependenciesReady,
            ),
            (S::Error, S::StepsInProcess, E::StepRepaired),
            (S::Error, S::Complete, E::StepRepaired),
            (S::Error, S::Error, E::StepRepaired),
            (S::BlockedByFailures, S::BlockedByFailures, E::StepRepaired),
            (S::StepsInProcess, S::StepsInProcess, E::StepRepaired),
            (S::WaitingForRetry, S::WaitingForRetry, E::StepRepaired),
            (S::Complete, S::StepsInProcess, E::Rerun),
            (S::Cancelled, S::Error, E::Rerun),
        ];
        for (from, to, cause) in ways {
            let path = encode::<Tasks>(from, &events(from, to, cause));
            let last = decode::<Tasks>(&path).and_then(|path| path.last().copied());
            assert_eq!(last.map(|last| last.to), Some(to), "{path}");
        }
    }
}
