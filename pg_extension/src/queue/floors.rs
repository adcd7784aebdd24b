//! From where on a backend reads a queue.
//!
//! Claims walk the messages by the time from which they are visible. While an old snapshot is held (a backup, a long report), the entries of messages that are gone can't be taken out of
//! the index, and they are all at its beginning. So a backend whose read took long for what it found remembers the oldest message that it met and begins there for a while. Older ones can appear meanwhile: sent by a transaction that took long,
//! or left by one that was rolled back. The next read from the very beginning finds them, a second later, or as much later that such reads take a twentieth of the time.

use std::cell::RefCell;
use std::collections::HashMap;
use std::time::{Duration, Instant};

use pgrx::pg_sys::TimestampTz;

/// A transaction that sends messages mostly commits within so many microseconds; one that takes longer is met by the next read from the beginning.
const USUAL_DELAY: TimestampTz = 50_000;
/// A read that finds what it walks over takes no longer than this, and this for each message.
const QUICK: Duration = Duration::from_millis(1);
const QUICK_PER_MESSAGE: Duration = Duration::from_micros(20);
const LEAST_PAUSE: Duration = Duration::from_secs(1);
/// A read from the beginning is paid for with so many times its own duration.
const PAUSE_FACTOR: u32 = 20;
/// Queues and sets of handlers remembered at most.
const MAX_KNOWN: usize = 1_000;

#[derive(Clone, Copy)]
struct Known {
    from: TimestampTz,
    /// Before then reads begin at `from`; `None` after a single slow read, which may have been slow because its plan was made.
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
    full_since: Option<Instant>,
}

/// Where a read of the queue for these handlers begins.
pub(super) fn of(queue_name: &str, handlers: Option<&[String]>, now: TimestampTz) -> Floor {
    let reader = (queue_name.to_owned(), handlers.map(<[String]>::to_vec));
    let began = Instant::now();
    let known = KNOWN.with_borrow(|known| known.get(&reader).copied());
    // A clock that was set back knows nothing of what it will see again.
    let known =
        known.filter(|known| known.next_full.is_some_and(|at| at > began) && known.from <= now);
    Floor {
        reader,
        now,
        from: known.map_or(TimestampTz::MIN, |known| known.from),
        full_since: known.is_none().then_some(began),
    }
}

impl Floor {
    /// The time from which on messages are read.
    pub(super) fn from(&self) -> TimestampTz {
        self.from
    }

    /// Remembers how far the queue is read, where it took long. `oldest` is the oldest of the `count` messages met, `is_all` says that no other is visible.
    pub(super) fn raise(self, oldest: Option<TimestampTz>, count: usize, is_all: bool) {
        let next_full = self.full_since.map(|began| {
            let took = began.elapsed();
            let messages = u32::try_from(count).unwrap_or(u32::MAX);
            let is_quick = took < QUICK + QUICK_PER_MESSAGE * messages;
            (!is_quick).then(|| Instant::now() + LEAST_PAUSE.max(took * PAUSE_FACTOR))
        });
        let met = oldest.or(is_all.then_some(self.now));
        KNOWN.with_borrow_mut(|known| {
            let before = known.remove(&self.reader);
            let next_full = match next_full {
                // From the beginning, and quick.
                Some(None) => return,
                Some(slow) => before.and(slow),
                None => before.and_then(|known| known.next_full),
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
