//! What keeps a worker known and its steps its own: leases extended, heartbeats, and registering
//! anew after trouble. Plain arithmetic on times: nothing here asks the database or waits.

use std::time::Duration;

use tokio::time::Instant;

use crate::jitter::{fraction, pause};

/// How often a worker says that it lives. An idle worker's heartbeat takes the turn of a question
/// for work.
pub(crate) const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(15);

/// A call of the upkeep.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Chore {
    /// Extend the leases of what runs.
    Extend,
    /// Register again.
    Register,
    /// Say that the worker lives.
    Beat,
}

/// When each chore is due.
#[derive(Debug)]
pub(crate) struct Upkeep {
    lease: Duration,
    extend_at: Option<Instant>,
    register_at: Option<Instant>,
    beat_at: Instant,
    failures: u32,
}

impl Upkeep {
    /// The upkeep of a worker that registered just now.
    pub(crate) fn new(lease: Duration, now: Instant) -> Self {
        Self {
            lease,
            extend_at: None,
            register_at: None,
            beat_at: now,
            failures: 0,
        }
    }

    /// The chore that is due, the most pressing first.
    pub(crate) fn due(&self, now: Instant) -> Option<Chore> {
        let is_due = |at: Option<Instant>| at.is_some_and(|at| at <= now);
        if is_due(self.extend_at) {
            Some(Chore::Extend)
        } else if is_due(self.register_at) {
            Some(Chore::Register)
        } else if self.beat_at <= now {
            Some(Chore::Beat)
        } else {
            None
        }
    }

    /// When a chore will be due.
    pub(crate) fn next_at(&self) -> Instant {
        let others = [self.extend_at, self.register_at];
        others
            .into_iter()
            .flatten()
            .fold(self.beat_at, Instant::min)
    }

    /// Steps run: the first extension is due a third of a lease after the first of them was
    /// claimed.
    pub(crate) fn steps_run(&mut self, now: Instant) {
        self.extend_at.get_or_insert(now + self.lease / 3);
    }

    /// Leases are extended, or nothing runs any more.
    pub(crate) fn extended(&mut self, now: Instant, steps_run: bool) {
        self.extend_at = steps_run.then_some(now + self.lease / 3);
    }

    /// Leases couldn't be extended: try again soon, there are two thirds of one left.
    pub(crate) fn extension_failed(&mut self, now: Instant) {
        self.extend_at = Some(now + (self.lease / 10).min(Duration::from_secs(2)));
    }

    /// The worker said that it lives, or tried to.
    pub(crate) fn beaten(&mut self, now: Instant) {
        self.beat_at = now + HEARTBEAT_INTERVAL;
    }

    /// The database was away or doesn't know the worker: it may have been restored from a time
    /// before.
    pub(crate) fn must_register(&mut self, now: Instant) {
        self.register_at.get_or_insert(now + pause(1, fraction()));
    }

    /// The worker is known again.
    pub(crate) fn registered(&mut self, now: Instant) {
        self.failures = 0;
        self.register_at = None;
        // A registration doesn't say how many steps the worker could run.
        self.beat_at = now;
    }

    /// It couldn't register; first when it fails the first time.
    pub(crate) fn registration_failed(&mut self, now: Instant) -> bool {
        self.failures = self.failures.saturating_add(1);
        self.register_at = Some(now + pause(self.failures, fraction()));
        self.failures == 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEASE: Duration = Duration::from_secs(30);

    #[test]
    fn leases_are_extended_every_third_of_one_while_steps_run() {
        let now = Instant::now();
        let mut upkeep = Upkeep::new(LEASE, now);
        upkeep.beaten(now);
        upkeep.steps_run(now);
        upkeep.steps_run(now + LEASE / 6);
        assert_eq!(upkeep.due(now + LEASE / 3), Some(Chore::Extend));
        upkeep.extended(now + LEASE / 3, true);
        assert_eq!(upkeep.next_at(), now + HEARTBEAT_INTERVAL);
        assert_eq!(upkeep.due(now + LEASE * 2 / 3), Some(Chore::Extend));
        upkeep.extended(now + LEASE * 2 / 3, false);
        upkeep.beaten(now + LEASE);
        assert_eq!(upkeep.due(now + LEASE), None);
    }

    #[test]
    fn a_failed_extension_is_tried_several_times_within_the_lease() {
        let now = Instant::now();
        let mut upkeep = Upkeep::new(Duration::from_secs(3), now);
        upkeep.beaten(now);
        upkeep.steps_run(now);
        upkeep.extension_failed(now + Duration::from_secs(1));
        assert_eq!(upkeep.next_at(), now + Duration::from_millis(1300));
    }

    #[test]
    fn extending_comes_before_registering_and_both_before_the_heartbeat() {
        let now = Instant::now();
        let mut upkeep = Upkeep::new(LEASE, now);
        upkeep.steps_run(now);
        upkeep.must_register(now);
        let later = now + LEASE;
        assert_eq!(upkeep.due(later), Some(Chore::Extend));
        upkeep.extended(later, false);
        assert_eq!(upkeep.due(later), Some(Chore::Register));
        assert!(upkeep.registration_failed(later));
        assert_eq!(upkeep.due(later), Some(Chore::Beat));
        upkeep.registered(later);
        assert_eq!(upkeep.due(later), Some(Chore::Beat));
        upkeep.beaten(later);
        assert_eq!(upkeep.due(later), None);
    }
}
