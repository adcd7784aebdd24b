//! How many steps are claimed beyond the free places. Plain arithmetic: nothing here asks the
//! database or waits.
//!
//! Places would stand empty while a call is away when their handlers take less time than the call.
//! So a worker claims as many more as its places can run in that time, by the means of both times:
//! places × call ÷ handler. A step then waits in the worker about as long as one call takes. The
//! number grows from one, doubling with each claim that got all it asked for: only a backlog is
//! claimed ahead of. It falls by half with each that got less, since others may have nothing to do.

use std::time::Duration;

/// What a new time weighs in its mean.
const WEIGHT: f64 = 0.125;

/// How many steps may wait for a place, and what that is learned from.
#[derive(Debug)]
pub(crate) struct Prefetch {
    most: usize,
    ahead: usize,
    call: Mean,
    handler: Mean,
}

/// An exponentially weighted moving average, in seconds.
#[derive(Debug, Default)]
struct Mean(Option<f64>);

impl Mean {
    fn add(&mut self, time: Duration) {
        let time = time.as_secs_f64();
        let mean = self.0.map_or(time, |mean| mean + (time - mean) * WEIGHT);
        self.0 = Some(mean);
    }
}

impl Prefetch {
    /// Claims `most` steps ahead at most; 0 for none.
    pub(crate) fn new(most: usize) -> Self {
        Self {
            most,
            ahead: 0,
            call: Mean::default(),
            handler: Mean::default(),
        }
    }

    /// How many steps may be claimed beyond the free places.
    pub(crate) fn ahead(&self) -> usize {
        self.ahead
    }

    /// A handler took so long.
    pub(crate) fn ran(&mut self, time: Duration) {
        self.handler.add(time);
    }

    /// A call that asked for `asked` steps took `time` and got `got`, for a worker of `places`.
    pub(crate) fn claimed(&mut self, asked: usize, got: usize, time: Duration, places: usize) {
        if got > 0 {
            self.call.add(time);
        }
        self.ahead = if got < asked {
            self.ahead.min(got) / 2
        } else {
            (self.ahead * 2).max(1).min(self.wanted(places))
        };
    }

    /// Steps waited too long for a place: it begins anew.
    pub(crate) fn waited_in_vain(&mut self) {
        self.ahead = 0;
    }

    fn wanted(&self, places: usize) -> usize {
        let (Some(call), Some(handler)) = (self.call.0, self.handler.0) else {
            return 0;
        };
        let places = f64::from(u32::try_from(places).unwrap_or(u32::MAX));
        let in_a_call = places * call / handler;
        // A float that is too large, or no number, is the most.
        (in_a_call.ceil() as usize).min(self.most)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CALL: Duration = Duration::from_millis(4);

    fn after(claims: usize, handler: Duration) -> Prefetch {
        let mut prefetch = Prefetch::new(100);
        for _ in 0..claims {
            prefetch.ran(handler);
            prefetch.claimed(8, 8, CALL, 8);
        }
        prefetch
    }

    #[test]
    fn nothing_is_claimed_ahead_before_a_handler_has_ended() {
        let mut prefetch = Prefetch::new(100);
        prefetch.claimed(8, 8, CALL, 8);
        assert_eq!(prefetch.ahead(), 0);
    }

    #[test]
    fn it_grows_to_what_the_places_run_while_a_call_is_away() {
        assert_eq!(after(3, CALL).ahead(), 4);
        assert_eq!(after(20, CALL).ahead(), 8);
        assert_eq!(after(20, CALL * 4).ahead(), 2);
        assert_eq!(after(20, CALL * 1000).ahead(), 1);
    }

    #[test]
    fn it_stays_within_its_limit_however_short_handlers_are() {
        assert_eq!(after(20, Duration::ZERO).ahead(), 100);
        let mut none = Prefetch::new(0);
        none.ran(Duration::ZERO);
        none.claimed(8, 8, CALL, 8);
        assert_eq!(none.ahead(), 0);
    }

    #[test]
    fn it_falls_when_claims_get_less_than_they_asked_for() {
        let mut prefetch = after(20, Duration::ZERO);
        prefetch.claimed(108, 107, CALL, 8);
        assert_eq!(prefetch.ahead(), 50);
        prefetch.claimed(58, 6, CALL, 8);
        assert_eq!(prefetch.ahead(), 3);
        prefetch.claimed(11, 0, CALL, 8);
        assert_eq!(prefetch.ahead(), 0);
    }

    #[test]
    fn it_begins_anew_when_steps_waited_in_vain() {
        let mut prefetch = after(20, CALL);
        prefetch.waited_in_vain();
        prefetch.claimed(8, 8, CALL, 8);
        assert_eq!(prefetch.ahead(), 1);
    }
}
