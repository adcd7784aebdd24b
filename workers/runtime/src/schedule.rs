//! When to look for work. Plain arithmetic on times: nothing here asks the database or waits.
//!
//! A look is one of two calls. Asking when work is due is cheap and changes nothing, so that is
//! what an idle worker repeats; claiming follows when the answer is "now" or when a notification
//! came. A worker that found nothing asks once more before it rests: what became ready between its
//! claim and its rest, without a notification because nobody was idle, is seen then.

use std::time::Duration;

use tokio::time::Instant;

use crate::jitter::{fraction, pause, stretched};

/// Something due sooner than this isn't worth a call of its own.
const SHORTEST_REST: Duration = Duration::from_millis(10);

/// After so many empty claims in a row, though there was work, the rests between them are long.
const BRIEF_RESTS: u32 = 6;

/// How a worker learns of work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum WakeMode {
    /// By notifications, and by asking now and then in case one is missed.
    #[default]
    Hybrid,
    /// By notifications and the times that the database foretold alone: an idle worker asks
    /// nothing.
    EventOnly,
    /// By asking alone, for connections that can't listen (some poolers).
    PollOnly,
}

/// What to do when a look is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Look {
    /// Claim steps.
    Claim,
    /// Ask when something may be claimed. A routine question may be left out once; any other has a
    /// reason of its own.
    AskWhenDue {
        /// Whether only the interval is over.
        routine: bool,
    },
}

/// When the next look is due, and which.
#[derive(Debug)]
pub(crate) struct Schedule {
    mode: WakeMode,
    interval: Duration,
    /// When to ask; `None` when only a notification can bring work.
    ask_at: Option<Instant>,
    /// Whether `ask_at` is only the interval's end.
    routine: bool,
    claim_now: bool,
    empty_claims: u32,
    failures: u32,
}

impl Schedule {
    /// A schedule that begins with a claim.
    pub(crate) fn new(mode: WakeMode, interval: Duration, now: Instant) -> Self {
        Self {
            mode,
            interval,
            ask_at: Some(now),
            routine: false,
            claim_now: true,
            empty_claims: 0,
            failures: 0,
        }
    }

    /// The look that is due now.
    pub(crate) fn due(&self, now: Instant) -> Option<Look> {
        if self.claim_now {
            Some(Look::Claim)
        } else if self.ask_at.is_some_and(|at| at <= now) {
            Some(Look::AskWhenDue {
                routine: self.routine,
            })
        } else {
            None
        }
    }

    /// When a look will be due, if nothing happens before.
    pub(crate) fn next_at(&self) -> Option<Instant> {
        self.ask_at
    }

    /// Whether an idle worker asks at least once in every `interval`.
    pub(crate) fn asks_more_often_than(&self, interval: Duration) -> bool {
        self.polls() && self.interval < interval
    }

    fn polls(&self) -> bool {
        self.mode != WakeMode::EventOnly
    }

    /// A notification came, or the listener connected and may have missed one.
    pub(crate) fn woken(&mut self, now: Instant) {
        if self.failures == 0 {
            self.claim_now = true;
        } else {
            // The listener found the database again. A short pause, that differs by worker: all of
            // them found it at this moment.
            let soon = now + pause(1, fraction());
            self.ask(self.ask_at.map_or(soon, |at| at.min(soon)));
        }
    }

    /// A call that claims begins: it sees everything that was notified so far.
    pub(crate) fn claiming(&mut self) {
        self.claim_now = false;
    }

    /// A call that claims was answered.
    pub(crate) fn claimed(&mut self, count: usize, now: Instant) {
        self.failures = 0;
        if count > 0 {
            self.empty_claims = 0;
            self.rest(now);
            return;
        }
        self.empty_claims = self.empty_claims.saturating_add(1);
        if self.empty_claims == 1 {
            self.ask(now);
        } else if self.empty_claims <= BRIEF_RESTS {
            // There is work, but others are faster or hold it for a moment.
            self.ask(now + pause(self.empty_claims - 1, fraction()));
        } else {
            // It can't be had for longer: a question and a claim were spent on it, so the rest is
            // twice as long.
            self.rest_for(self.interval * 2, now);
        }
    }

    /// The database said how long until something may be claimed; `None` when nothing waits.
    pub(crate) fn told(&mut self, due_in: Option<Duration>, now: Instant) {
        self.failures = 0;
        let Some(due_in) = due_in else {
            self.empty_claims = 0;
            if self.polls() {
                self.rest(now);
            } else {
                self.ask_at = None;
            }
            return;
        };
        if due_in.is_zero() {
            self.claim_now = true;
            return;
        }
        self.empty_claims = 0;
        let due_at = now + due_in.max(SHORTEST_REST);
        self.rest(now);
        if !self.polls() || self.ask_at.is_none_or(|rest| due_at < rest) {
            self.ask(due_at);
        }
    }

    /// A look failed: the next one waits, longer each time. True when it is the first failure in a
    /// row.
    pub(crate) fn failed(&mut self, now: Instant) -> bool {
        self.failures = self.failures.saturating_add(1);
        self.claim_now = false;
        self.ask(now + pause(self.failures, fraction()));
        self.failures == 1
    }

    /// Puts the next look off by one interval.
    pub(crate) fn rest(&mut self, now: Instant) {
        self.rest_for(self.interval, now);
    }

    fn rest_for(&mut self, interval: Duration, now: Instant) {
        self.ask_at = Some(now + stretched(interval, fraction()));
        self.routine = true;
    }

    fn ask(&mut self, at: Instant) {
        self.ask_at = Some(at);
        self.routine = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn resting(mode: WakeMode) -> (Schedule, Instant) {
        let now = Instant::now();
        let mut schedule = Schedule::new(mode, SECOND, now);
        schedule.claiming();
        schedule.claimed(0, now);
        schedule.told(None, now);
        (schedule, now)
    }

    #[test]
    fn it_begins_with_a_claim_and_asks_once_more_before_it_rests() {
        let now = Instant::now();
        let mut schedule = Schedule::new(WakeMode::Hybrid, SECOND, now);
        assert_eq!(schedule.due(now), Some(Look::Claim));
        schedule.claiming();
        schedule.claimed(0, now);
        assert_eq!(schedule.due(now), Some(Look::AskWhenDue { routine: false }));
        schedule.told(None, now);
        assert_eq!(schedule.due(now), None);
    }

    #[test]
    fn what_becomes_ready_between_an_empty_claim_and_the_rest_is_claimed() {
        let now = Instant::now();
        let mut schedule = Schedule::new(WakeMode::Hybrid, SECOND, now);
        schedule.claiming();
        schedule.claimed(0, now);
        schedule.told(Some(Duration::ZERO), now);
        assert_eq!(schedule.due(now), Some(Look::Claim));
    }

    #[test]
    fn an_idle_worker_asks_at_most_once_a_second() {
        let (mut schedule, start) = resting(WakeMode::PollOnly);
        let mut now = start;
        let mut calls = 0;
        while let Some(at) = schedule.next_at().filter(|at| *at < start + SECOND * 1000) {
            assert!(at - now >= SECOND && at - now <= SECOND * 3 / 2);
            now = at;
            assert_eq!(schedule.due(now), Some(Look::AskWhenDue { routine: true }));
            schedule.told(None, now);
            calls += 1;
        }
        assert!((666..=1000).contains(&calls), "{calls}");
    }

    #[test]
    fn work_that_cannot_be_had_costs_at_most_one_call_a_second_too() {
        let (mut schedule, start) = resting(WakeMode::Hybrid);
        let (mut now, mut calls) = (start, 0);
        while now < start + SECOND * 1000 {
            match schedule.due(now) {
                None => now = schedule.next_at().expect("it polls"),
                Some(Look::Claim) => {
                    schedule.claiming();
                    schedule.claimed(0, now);
                    calls += 1;
                }
                Some(Look::AskWhenDue { .. }) => {
                    schedule.told(Some(Duration::ZERO), now);
                    calls += 1;
                }
            }
        }
        assert!((600..=1003).contains(&calls), "{calls}");
    }

    #[test]
    fn work_that_is_held_for_a_moment_is_claimed_soon_after() {
        let (mut schedule, mut now) = resting(WakeMode::Hybrid);
        let start = now;
        schedule.woken(now);
        for _ in 0..3 {
            while schedule.due(now) != Some(Look::Claim) {
                now = schedule.next_at().map_or(now, |at| at.max(now));
                schedule.told(Some(Duration::ZERO), now);
            }
            schedule.claiming();
            schedule.claimed(0, now);
        }
        assert!(now - start < SECOND / 2, "{:?}", now - start);
    }

    #[test]
    fn a_notification_leads_to_a_claim_and_a_claim_covers_it() {
        let (mut schedule, now) = resting(WakeMode::EventOnly);
        assert_eq!((schedule.due(now), schedule.next_at()), (None, None));
        schedule.woken(now);
        assert_eq!(schedule.due(now), Some(Look::Claim));
        schedule.claiming();
        assert_eq!(schedule.due(now), None);
    }

    #[test]
    fn a_time_foretold_is_kept_and_polling_goes_on_until_then() {
        let soon = Duration::from_millis(300);
        let (mut schedule, now) = resting(WakeMode::Hybrid);
        schedule.told(Some(soon), now);
        assert_eq!(schedule.next_at(), Some(now + soon));
        schedule.told(Some(SECOND * 60), now);
        assert!(schedule.next_at().is_some_and(|at| at <= now + SECOND * 2));
        let (mut schedule, now) = resting(WakeMode::EventOnly);
        schedule.told(Some(SECOND * 60), now);
        assert_eq!(schedule.next_at(), Some(now + SECOND * 60));
    }

    #[test]
    fn after_a_failure_it_waits_longer_each_time_and_a_wake_up_shortens_the_wait() {
        let (mut schedule, now) = resting(WakeMode::EventOnly);
        for _ in 0..10 {
            schedule.failed(now);
        }
        assert!(schedule.next_at().is_some_and(|at| at >= now + SECOND * 2));
        schedule.woken(now);
        assert_eq!(schedule.due(now), None);
        assert!(schedule.next_at().is_some_and(|at| at <= now + SECOND / 10));
    }
}
