//! From where on a backend reads a queue.
//!
//! Claims walk the messages by the time from which they are visible. While an old snapshot is held (a backup, a long report), the entries of messages that are gone can't be taken out of
//! the index, and they are all at its beginning. So a backend whose read touched far more pages than it has messages to show for remembers the oldest of those and begins there for a while.
//! Older ones can appear meanwhile: sent by a transaction that took long, or left by one that was rolled back. Reads from the very beginning find them, and come as often as a twentieth of
//! the time allows.

use std::cell::RefCell;
use std::collections::HashMap;
use std::time::Instant;

use pgrx::pg_sys::{self, TimestampTz};

/// A transaction that sends messages mostly commits within so many microseconds.
const USUAL_DELAY: TimestampTz = 50_000;
/// Pages of a read that meets little that is gone: some, and some for each message.
const USUAL_PAGES: i64 = 300;
const USUAL_PAGES_A_MESSAGE: i64 = 8;
/// A read from the beginning is paid for with so many times its own duration.
const PAUSE_FACTOR: u32 = 20;
/// Queues and sets of handlers remembered at most.
const MAX_KNOWN: usize = 1_000;

#[derive(Clone, Copy)]
struct Known {
    from: TimestampTz,
    /// Before then reads begin at `from`.
    next_full: Instant,
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
    began: Instant,
    pages_before: i64,
}

/// Where a read of the queue for these handlers begins.
pub(super) fn of(queue_name: &str, handlers: Option<&[String]>, now: TimestampTz) -> Floor {
    let reader = (queue_name.to_owned(), handlers.map(<[String]>::to_vec));
    let began = Instant::now();
    let known = KNOWN.with_borrow(|known| known.get(&reader).copied());
    // A clock that was set back knows nothing of what it will see again.
    let known = known.filter(|known| known.next_full > began && known.from <= now);
    Floor {
        reader,
        now,
        from: known.map_or(TimestampTz::MIN, |known| known.from),
        is_full: known.is_none(),
        began,
        pages_before: pages(),
    }
}

/// How many pages this backend has touched in all.
fn pages() -> i64 {
    // SAFETY: plain counters of this backend.
    unsafe { pg_sys::pgBufferUsage.shared_blks_hit + pg_sys::pgBufferUsage.shared_blks_read }
}

impl Floor {
    /// The time from which on messages are read.
    pub(super) fn from(&self) -> TimestampTz {
        self.from
    }

    /// Remembers how far the queue is read, where that spares pages. `oldest` is the oldest of the `count` messages met, `is_all` says that no other is visible.
    pub(super) fn raise(self, oldest: Option<TimestampTz>, count: usize, is_all: bool) {
        let messages = i64::try_from(count).unwrap_or(i64::MAX);
        let usual = USUAL_PAGES.saturating_add(USUAL_PAGES_A_MESSAGE.saturating_mul(messages));
        let spares_pages = pages() - self.pages_before > usual;
        let met = oldest.or(is_all.then_some(self.now));
        KNOWN.with_borrow_mut(|known| {
            let before = known.remove(&self.reader);
            let next_full = match before {
                _ if self.is_full && !spares_pages => return,
                _ if self.is_full => Instant::now() + self.began.elapsed() * PAUSE_FACTOR,
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
