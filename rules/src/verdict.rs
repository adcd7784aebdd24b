//! The verdict on an outcome that a worker reports, under the lock of the step's row.

use crate::named::named_enum;
use crate::step_state::StepState;

named_enum! {
    /// What a worker says of an attempt.
    OutcomeStatus, "status" {
        /// It is done, here is its result.
        Complete = "complete",
        /// It failed, here is its error.
        Fail = "fail",
        /// It is given back, not done.
        Release = "release",
        /// A checkpoint is stored, and it is given back, not done.
        Yield = "yield",
    }
}

named_enum! {
    /// What became of an outcome.
    Verdict, "verdict" {
        /// It counts.
        Accepted = "accepted",
        /// It was accepted before.
        Repeated = "repeated",
        /// Another attempt owns the step.
        Lost = "lost",
        /// The step was cancelled.
        Cancelled = "cancelled",
        /// The attempt ran past its timeout and was failed.
        TimedOut = "timed_out",
        /// It can't be read, or does not fit the step.
        Invalid = "invalid",
    }
}

/// The step as it stands, as far as a verdict needs it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// Its state.
    pub state: StepState,
    /// The attempt that owns it, or owned it last.
    pub attempt: i32,
    /// Whether its result, or its error's message, is the one reported.
    pub holds_the_same: bool,
    /// Whether its last attempt ended by its timeout.
    pub has_timed_out: bool,
}

/// The verdict on an outcome of `attempt`. `is_first` says that no outcome before it in the same call is about this step.
#[must_use]
pub fn judge(standing: Standing, status: OutcomeStatus, attempt: i32, is_first: bool) -> Verdict {
    use {OutcomeStatus as O, StepState as S};
    let gives_back = matches!(status, O::Release | O::Yield);
    let failed = matches!(
        standing.state,
        S::WaitingForRetry | S::Error | S::Enqueued | S::EnqueuedAsErrorForOrchestration
    );
    match standing.state {
        S::Cancelled => Verdict::Cancelled,
        S::Enqueued if gives_back && standing.attempt == attempt + 1 => Verdict::Repeated,
        _ if standing.attempt != attempt => Verdict::Lost,
        S::InProgress if is_first => Verdict::Accepted,
        S::InProgress => Verdict::Invalid,
        S::Complete | S::EnqueuedForOrchestration
            if status == O::Complete && standing.holds_the_same =>
        {
            Verdict::Repeated
        }
        _ if failed && status == O::Fail && standing.holds_the_same => Verdict::Repeated,
        _ if failed && standing.has_timed_out => Verdict::TimedOut,
        _ => Verdict::Invalid,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use {OutcomeStatus as O, StepState as S, Verdict as V};

    fn standing(state: StepState, attempt: i32) -> Standing {
        Standing {
            state,
            attempt,
            holds_the_same: false,
            has_timed_out: false,
        }
    }

    #[test]
    fn only_the_attempt_that_owns_a_running_step_is_accepted_and_only_once() {
        assert_eq!(
            judge(standing(S::InProgress, 2), O::Complete, 2, true),
            V::Accepted
        );
        assert_eq!(
            judge(standing(S::InProgress, 2), O::Complete, 2, false),
            V::Invalid
        );
        assert_eq!(judge(standing(S::InProgress, 2), O::Fail, 1, true), V::Lost);
        assert_eq!(judge(standing(S::InProgress, 2), O::Fail, 3, true), V::Lost);
    }

    #[test]
    fn the_same_outcome_again_is_repeated_another_one_is_not() {
        let same = |state| Standing {
            holds_the_same: true,
            ..standing(state, 1)
        };
        assert_eq!(judge(same(S::Complete), O::Complete, 1, true), V::Repeated);
        assert_eq!(
            judge(standing(S::Complete, 1), O::Complete, 1, true),
            V::Invalid
        );
        assert_eq!(judge(same(S::Complete), O::Fail, 1, true), V::Invalid);
        for state in [S::WaitingForRetry, S::Error, S::Enqueued] {
            assert_eq!(judge(same(state), O::Fail, 1, true), V::Repeated);
            assert_eq!(judge(standing(state, 1), O::Fail, 1, true), V::Invalid);
        }
        assert_eq!(
            judge(standing(S::Enqueued, 2), O::Release, 1, true),
            V::Repeated
        );
        assert_eq!(
            judge(standing(S::Enqueued, 2), O::Yield, 1, true),
            V::Repeated
        );
        assert_eq!(
            judge(standing(S::Enqueued, 3), O::Release, 1, true),
            V::Lost
        );
    }

    #[test]
    fn a_cancelled_step_says_so_to_every_attempt() {
        for attempt in [1, 2] {
            assert_eq!(
                judge(standing(S::Cancelled, 1), O::Complete, attempt, true),
                V::Cancelled
            );
        }
    }

    #[test]
    fn an_attempt_past_its_timeout_learns_of_it() {
        for state in [S::WaitingForRetry, S::Error, S::Enqueued] {
            let late = Standing {
                has_timed_out: true,
                ..standing(state, 1)
            };
            assert_eq!(judge(late, O::Complete, 1, true), V::TimedOut);
        }
    }
}
