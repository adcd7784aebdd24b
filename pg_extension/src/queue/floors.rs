//! From where on a backend reads a queue.
//!
//! Claims walk the messages by the time from which they are visible. While an old snapshot is held (a backup, a long report), the entries of messages that are gone can't be taken out of
//! the index, and they are all at its beginning. So a backend whose reads cost far more processor time than they have messages to show for remembers the oldest of those and begins there for a while.
//! Older ones can appear meanwhile: sent by a transaction that took long, or left by one that was rolled back. Reads from the very beginning find them, and come as often as a twentieth of
//! the time allows.

use std::cell::RefCell;
use std::collections::HashMap;
use std::time::{Duration, Instant};

use pgrx::pg_sys::TimestampTz;

/// A transaction that sends messages mostly commits within so many microseconds.
const USUAL_DELAY: TimestampTz = 50_000;
/// The processor time of a read that meets little that is gone: this, and this for each message.
const USUAL: Duration = Duration::from_millis(1);
const USUAL_A_MESSAGE: Duration = Duration::from_micros(20);
/// Making a plan takes less than this; a read that takes less is believed when the one before it was slow too.
const MADE_NO_PLAN: Duration = Duration::from_millis(10);
/// A read from the beginning is paid for with so many times its own duration.
const PAUSE_FACTOR: u32 = 20;
/// Queues and sets of handlers remembered at most.
const MAX_KNOWN: usize = 1_000;

#[derive(Clone, Copy)]
struct Known {
    from: TimestampTz,
    /// Before then reads begin at `from`; `None` after a single slow read.
    next_full: Option<Instant>,
}

thread_local! {
    static KNOWN: RefCell<HashMap<Reader, Known>> = RefCell::default();
}

/// What a read asks for: another set of handlers meets other messages.
type Reader = (String, Option<Vec<String>>);

/// One read of a queue.
pub(super) struct Floor {
    reader: Reader,
    now: TimestampTz,
    from: TimestampTz,
    is_full: bool,
    used_before: Duration,
}

/// Where a read of the queue for these handlers begins.
pub(super) fn of(queue_name: &str, handlers: Option<&[String]>, now: TimestampTz) -> Floor {
    let reader = (queue_name.to_owned(), handlers.map(<[String]>::to_vec));
    let known = KNOWN.with_borrow(|known| known.get(&reader).copied());
    // A clock that was set back knows nothing of what it will see again.
    let began = Instant::now();
    let known =
        known.filter(|known| known.next_full.is_some_and(|at| at > began) && known.from <= now);
    Floor {
        reader,
        now,
        from: known.map_or(TimestampTz::MIN, |known| known.from),
        is_full: known.is_none(),
        used_before: used(),
    }
}

/// The processor time that this backend has used: on a busy machine any read may take long, but it uses no more of it.
fn used() -> Duration {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: fills the value given; a clock that there isn't leaves it as it is.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    Duration::new(
        u64::try_from(time.tv_sec).unwrap_or(0),
        u32::try_from(time.tv_nsec).unwrap_or(0),
    )
}

impl Floor {
    /// The time from which on messages are read.
    pub(super) fn from(&self) -> TimestampTz {
        self.from
    }

    /// Remembers how far the queue is read, where that spares time. `oldest` is the oldest of the `count` messages met, `is_all` says that no other is visible.
    pub(super) fn raise(self, oldest: Option<TimestampTz>, count: usize, is_all: bool) {
        let took = used().saturating_sub(self.used_before);
        let messages = u32::try_from(count).unwrap_or(u32::MAX);
        let is_slow = took > USUAL + USUAL_A_MESSAGE * messages;
        let met = oldest.or(is_all.then_some(self.now));
        KNOWN.with_borrow_mut(|known| {
            let before = known.remove(&self.reader);
            let next_full = match before {
                _ if self.is_full && !is_slow => return,
                before if self.is_full => (took > MADE_NO_PLAN || before.is_some())
                    .then(|| Instant::now() + took * PAUSE_FACTOR),
                Some(before) => before.next_full,
                None => return,
            };
            if known.len() >= MAX_KNOWN {
                known.clear();
            }
            let from = met
                .unwrap_or(self.from)
                .min(self.now.saturating_sub(USUAL_DELAY));
            known.insert(self.reader, Known { from, next_full });
        });
    }
}
