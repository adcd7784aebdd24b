//! Domain events: after which outcome a step publishes one, which subscriptions it is for, and how often a delivery is tried.

use std::str::FromStr;

use crate::named::named_enum;
use crate::retry;
use crate::step_state::{StepEvent, StepState};
use crate::template::{Backoff, EventCondition, Retry};

/// The longest name of an event, and the longest pattern, in characters.
pub const LONGEST_NAME: usize = 128;

/// How often an event is handed out for one subscription before it is set aside.
pub const MAX_DELIVERIES: u32 = 10;

named_enum! {
    /// What came of an attempt, as far as domain events go.
    StepOutcome, "step outcome" {
        /// The step is complete.
        Success = "success",
        /// The attempt failed, and the step is tried again.
        RetryableFailure = "retryable_failure",
        /// The step failed for good.
        PermanentFailure = "permanent_failure",
    }
}

impl StepOutcome {
    /// What a step's change came to; `None` for one that decides about no attempt: given back, resting until it is evaluated, cancelled, or settled without a result.
    #[must_use]
    pub fn of(to: StepState, events: &[StepEvent]) -> Option<Self> {
        match to {
            StepState::Complete => Some(Self::Success),
            StepState::Error => Some(Self::PermanentFailure),
            StepState::WaitingForRetry => Some(Self::RetryableFailure),
            StepState::Enqueued if events.contains(&StepEvent::WaitForRetry) => {
                Some(Self::RetryableFailure)
            }
            _ => None,
        }
    }

    /// Whether an event with this condition is published.
    #[must_use]
    pub const fn meets(self, condition: EventCondition) -> bool {
        match condition {
            EventCondition::Always => true,
            EventCondition::Success => matches!(self, Self::Success),
            EventCondition::Failure => !matches!(self, Self::Success),
            EventCondition::RetryableFailure => matches!(self, Self::RetryableFailure),
            EventCondition::PermanentFailure => matches!(self, Self::PermanentFailure),
        }
    }
}

/// Which events a subscription is for: a name in which `*` stands for any characters, also for none. `order.*` is for `order.shipped` and `order.line.added`, `*` for all.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EventPattern(String);

/// A text that is no pattern.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no pattern of events: it must be 1 to 128 letters, digits, _, ., - and *")]
pub struct BadPattern(pub String);

impl EventPattern {
    /// The pattern as it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether events of a name are meant.
    #[must_use]
    pub fn matches(&self, name: &str) -> bool {
        let (pattern, name) = (self.0.as_bytes(), name.as_bytes());
        let (mut at, mut read) = (0, 0);
        // Where the last star stands, and up to where it reaches so far: on a mismatch it reaches one further.
        let mut star: Option<(usize, usize)> = None;
        while read < name.len() {
            if pattern.get(at) == Some(&b'*') {
                star = Some((at, read));
                at += 1;
            } else if pattern.get(at) == Some(&name[read]) {
                at += 1;
                read += 1;
            } else if let Some((star_at, reaches)) = star {
                star = Some((star_at, reaches + 1));
                at = star_at + 1;
                read = reaches + 1;
            } else {
                return false;
            }
        }
        pattern[at..].iter().all(|&byte| byte == b'*')
    }
}

impl FromStr for EventPattern {
    type Err = BadPattern;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let is_known =
            |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-' | b'*');
        if (1..=LONGEST_NAME).contains(&text.len()) && text.bytes().all(is_known) {
            Ok(Self(text.to_owned()))
        } else {
            Err(BadPattern(text.to_owned()))
        }
    }
}

/// The delay in milliseconds before an event is handed out again after failed delivery number `deliveries`: a second, doubled each time, five minutes at most; `None`
/// when it isn't any more. `jitter_sample` is as for [`retry::delay_ms`].
#[must_use]
pub fn redelivery_delay_ms(deliveries: u32, jitter_sample: f64) -> Option<u64> {
    let policy = Retry {
        retryable: true,
        max_attempts: MAX_DELIVERIES,
        backoff: Backoff::Exponential,
        backoff_base_ms: 1000,
        max_backoff_ms: 300_000,
        jitter: 0.15,
    };
    (deliveries < MAX_DELIVERIES).then(|| retry::delay_ms(&policy, deliveries, jitter_sample))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(pattern: &str, name: &str) -> bool {
        pattern
            .parse::<EventPattern>()
            .is_ok_and(|pattern| pattern.matches(name))
    }

    #[test]
    fn a_star_stands_for_any_characters() {
        for (pattern, name) in [
            ("*", "order.shipped"),
            ("order.*", "order.shipped"),
            ("order.*", "order.line.added"),
            ("order*", "order"),
            ("*.shipped", "order.shipped"),
            ("*.line.*", "order.line.added"),
            ("o*d*r.*p*d", "order.shipped"),
            ("**", "x"),
            ("order.shipped", "order.shipped"),
        ] {
            assert!(matches(pattern, name), "{pattern} {name}");
        }
    }

    #[test]
    fn everything_else_stands_for_itself() {
        for (pattern, name) in [
            ("order.*", "order"),
            ("order.*", "preorder.shipped"),
            ("order.shipped", "order.shipped.twice"),
            ("order.shipped", "order-shipped"),
            ("*.shipped", "order.shipped.twice"),
            ("Order.*", "order.shipped"),
        ] {
            assert!(!matches(pattern, name), "{pattern} {name}");
        }
    }

    #[test]
    fn a_pattern_with_many_stars_takes_no_time() {
        let pattern = "a*".repeat(60);
        assert!(!matches(&pattern, &format!("{}b", "a".repeat(59))));
        assert!(matches(&pattern, &"a".repeat(128)));
    }

    #[test]
    fn texts_that_are_no_patterns_are_refused() {
        for text in ["", "order shipped", "order.?", "é", &"a".repeat(129)] {
            assert!(text.parse::<EventPattern>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn conditions_tell_the_outcomes_apart() {
        use EventCondition as Condition;
        let met = |outcome: StepOutcome| -> Vec<Condition> {
            let all = Condition::ALL.iter().copied();
            all.filter(|&condition| outcome.meets(condition)).collect()
        };
        assert_eq!(
            met(StepOutcome::Success),
            [Condition::Success, Condition::Always]
        );
        assert_eq!(
            met(StepOutcome::RetryableFailure),
            [
                Condition::Failure,
                Condition::RetryableFailure,
                Condition::Always
            ]
        );
        assert_eq!(
            met(StepOutcome::PermanentFailure),
            [
                Condition::Failure,
                Condition::PermanentFailure,
                Condition::Always
            ]
        );
    }

    #[test]
    fn what_decides_about_no_attempt_is_no_outcome() {
        let of = StepOutcome::of;
        assert_eq!(of(StepState::Enqueued, &[StepEvent::Release]), None);
        assert_eq!(of(StepState::Enqueued, &[StepEvent::Yield]), None);
        assert_eq!(of(StepState::Cancelled, &[StepEvent::Cancel]), None);
        assert_eq!(
            of(StepState::ResolvedManually, &[StepEvent::ResolveManually]),
            None
        );
        assert_eq!(
            of(
                StepState::EnqueuedForOrchestration,
                &[StepEvent::EnqueueForOrchestration]
            ),
            None
        );
        assert_eq!(
            of(
                StepState::Enqueued,
                &[StepEvent::WaitForRetry, StepEvent::Retry]
            ),
            Some(StepOutcome::RetryableFailure)
        );
    }

    #[test]
    fn deliveries_come_to_an_end() {
        assert_eq!(redelivery_delay_ms(1, 0.0), Some(1000));
        assert_eq!(redelivery_delay_ms(3, 0.0), Some(4000));
        assert_eq!(redelivery_delay_ms(9, 0.0), Some(256_000));
        assert_eq!(redelivery_delay_ms(MAX_DELIVERIES, 0.0), None);
    }
}
