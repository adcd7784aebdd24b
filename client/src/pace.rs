//! When a follower of the feed looks, and when it asks for notices and sleeps. No I/O here.

use std::time::Duration;

use tokio::time::Instant;

/// Between two looks while events come, and for a while after.
const ACTIVE: Duration = Duration::from_millis(50);
/// Between two looks while it can't be had that nobody writes.
const SLOWEST: Duration = Duration::from_millis(500);
/// So long nothing must have come before it asks for notices.
const QUIET: Duration = Duration::from_millis(500);
/// Between two looks while it sleeps: a notice may be lost with its connection, or not sent.
const NET: Duration = Duration::from_secs(2);

/// What is to be done next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// Look for events.
    Look,
    /// Ask for notices.
    Ask,
    /// Ask for no more notices.
    Decline,
    /// Wait for a notice, until then at most.
    Wait(Instant),
}

/// The pace of one follower.
#[derive(Debug)]
pub(crate) struct Pace {
    look_at: Instant,
    /// When an event or a notice came last.
    active_at: Instant,
    period: Duration,
    /// Notices are sent to it.
    is_awaiting: bool,
    /// Notices are sent to it and aren't wanted any more.
    is_declining: bool,
    /// It was quiet at the last look, so notices may be asked for.
    may_ask: bool,
}

impl Pace {
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            look_at: now,
            active_at: now,
            period: ACTIVE,
            is_awaiting: false,
            is_declining: false,
            may_ask: false,
        }
    }

    pub(crate) fn step(&self, now: Instant) -> Step {
        if self.is_declining {
            Step::Decline
        } else if self.may_ask && !self.is_awaiting {
            Step::Ask
        } else if self.look_at <= now {
            Step::Look
        } else {
            Step::Wait(self.look_at)
        }
    }

    /// It has looked, found something or not, and seen all that is settled or not.
    pub(crate) fn looked(&mut self, now: Instant, has_found: bool, is_end: bool) {
        if has_found {
            self.active_at = now;
            self.period = ACTIVE;
            self.is_declining = self.is_awaiting;
        }
        let is_quiet = !has_found && now.duration_since(self.active_at) >= QUIET;
        self.may_ask = is_quiet && !self.is_awaiting;
        self.look_at = match (is_end, self.is_awaiting && !has_found) {
            (false, _) => now,
            (true, true) => now + NET,
            (true, false) => now + self.period,
        };
    }

    /// It has asked for notices. When they are granted it looks once more: what committed before isn't notified.
    pub(crate) fn asked(&mut self, now: Instant, is_granted: bool) {
        self.may_ask = false;
        self.is_awaiting = is_granted;
        if is_granted {
            self.look_at = now;
        } else {
            self.period = (self.period * 2).min(SLOWEST);
            self.look_at = now + self.period;
        }
    }

    pub(crate) fn declined(&mut self) {
        self.is_awaiting = false;
        self.is_declining = false;
    }

    /// A notice came. What it tells of may settle later, so it looks often for a while.
    pub(crate) fn notified(&mut self, now: Instant) {
        if self.is_awaiting {
            self.is_declining = true;
            self.active_at = now;
            self.period = ACTIVE;
            self.look_at = now;
        }
    }

    /// A connection is new: nothing was asked of it.
    pub(crate) fn connected(&mut self, now: Instant) {
        self.declined();
        self.look_at = now;
    }

    /// It couldn't look.
    pub(crate) fn failed(&mut self, now: Instant) {
        self.declined();
        self.may_ask = false;
        self.period = (self.period * 2).min(SLOWEST);
        self.look_at = now + self.period;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A follower that found nothing for long enough and was granted notices, and the time then.
    fn asleep() -> (Pace, Instant) {
        let begun = Instant::now();
        let mut pace = Pace::new(begun);
        pace.looked(begun, false, true);
        assert_eq!(pace.step(begun), Step::Wait(begun + ACTIVE));
        let quiet = begun + QUIET;
        pace.looked(quiet, false, true);
        assert_eq!(pace.step(quiet), Step::Ask);
        pace.asked(quiet, true);
        assert_eq!(pace.step(quiet), Step::Look, "once more before it sleeps");
        pace.looked(quiet, false, true);
        assert_eq!(pace.step(quiet), Step::Wait(quiet + NET));
        (pace, quiet)
    }

    #[test]
    fn a_notice_ends_the_asking_and_begins_a_time_of_looking_often() {
        let (mut pace, now) = asleep();
        pace.notified(now);
        assert_eq!(pace.step(now), Step::Decline);
        pace.declined();
        assert_eq!(pace.step(now), Step::Look);
        pace.looked(now, false, true);
        assert_eq!(
            pace.step(now),
            Step::Wait(now + ACTIVE),
            "it hadn't settled yet"
        );
        // Another notice of the same moment changes nothing.
        pace.notified(now);
        assert_eq!(pace.step(now), Step::Wait(now + ACTIVE));
    }

    #[test]
    fn an_event_found_by_the_slow_look_ends_the_asking_too() {
        let (mut pace, now) = asleep();
        pace.looked(now + NET, true, true);
        assert_eq!(pace.step(now + NET), Step::Decline);
    }

    #[test]
    fn what_is_left_after_a_full_page_is_looked_for_at_once() {
        let now = Instant::now();
        let mut pace = Pace::new(now);
        pace.looked(now, true, false);
        assert_eq!(pace.step(now), Step::Look);
    }

    #[test]
    fn while_notices_are_not_granted_it_looks_ever_less_often() {
        let mut now = Instant::now();
        let mut pace = Pace::new(now);
        let mut waits = Vec::new();
        now += QUIET;
        for _ in 0..6 {
            pace.looked(now, false, true);
            assert_eq!(pace.step(now), Step::Ask);
            pace.asked(now, false);
            let Step::Wait(until) = pace.step(now) else {
                panic!("it waits");
            };
            waits.push(until - now);
            now = until;
        }
        assert_eq!(waits[0], ACTIVE * 2);
        assert_eq!(waits[5], SLOWEST);
    }

    #[test]
    fn a_new_connection_has_asked_for_nothing() {
        let (mut pace, now) = asleep();
        pace.connected(now);
        assert_eq!(pace.step(now), Step::Look);
        pace.looked(now, false, true);
        assert_eq!(pace.step(now), Step::Ask);
    }
}
