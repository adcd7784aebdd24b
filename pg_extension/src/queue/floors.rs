//! From where on a backend reads a queue.
//!
//! Claims walk the messages by the time from which they are visible. While an old snapshot is held (a backup, a long report), the entries of messages that are gone can't be taken out of
//! the index, and they are all at its beginning. So a backend whose reads cost far more processor time than they have messages to show for remembers the oldest of those and begins there for a while.
//! Older ones can appear meanwhile: sent by a transaction that took long, or left by one that was rolled back. Mostly they are some seconds older, and reads that begin ten seconds earlier
//! find them; reads from the very beginning find all others. Each kind comes as often as a hundredth of the time allows.
//!
//! A backend that reads a queue for the first time knows of none. Where an old snapshot is held it begins with the last seconds, as long as it finds all it wants there, and at some moment of the
//! next ones reads from the beginning like the others.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use pgrx::pg_sys::{self, Oid, TimestampTz};

/// A transaction that sends messages mostly commits within so many microseconds.
const USUAL_DELAY: TimestampTz = 50_000;
/// The processor time of a read that meets little that is gone: this, and this for each message. Twice or three times what it takes; where a machine is slower than that, its reads from
/// the beginning still come every few milliseconds.
const USUAL: Duration = Duration::from_micros(200);
const USUAL_A_MESSAGE: Duration = Duration::from_micros(5);
/// Making a plan takes less than this; a read that takes less is believed when the one before it was slow too.
const MADE_NO_PLAN: Duration = Duration::from_millis(10);
/// A read from the beginning, or from earlier, is paid for with so many times its own duration.
const PAUSE_FACTOR: u32 = 100;
/// Where a first read begins while an old snapshot is held, before the present; and how much before the known bound older messages are looked for.
const RECENT: TimestampTz = 10_000_000;
/// A snapshot is old when so many transactions have begun since.
const OLD: i32 = 100;
/// Within so many milliseconds a backend that began with the last seconds reads from the beginning; one first read in so many does at once, or sessions that read only once never would.
const CHECKED_WITHIN_MS: u64 = 10_000;
const AT_ONCE_ONCE_IN: u64 = 10;
/// Queues and sets of handlers remembered at most.
const MAX_KNOWN: usize = 1_000;

#[derive(Clone, Copy)]
struct Known {
    from: TimestampTz,
    /// Before then no read is from the beginning; `None` after a single slow read.
    next_full: Option<Instant>,
    /// Before then reads begin at `from`, and the next one then earlier.
    next_earlier: Instant,
    /// Whether there was nothing older when it was last read from the beginning.
    is_checked: bool,
}

thread_local! {
    static KNOWN: RefCell<HashMap<Reader, Known>> = RefCell::default();
    /// Those that have read.
    static SEEN: RefCell<HashSet<Reader>> = RefCell::default();
}

/// What a read asks for: another set of handlers meets other messages.
type Reader = (String, Option<Vec<String>>);

#[derive(Clone, Copy, PartialEq, Eq)]
enum Start {
    Beginning,
    /// Some seconds before what is known.
    Earlier,
    Known,
    /// Older messages may be there.
    Unchecked,
}

/// One read of a queue.
pub(super) struct Floor {
    reader: Reader,
    now: TimestampTz,
    from: TimestampTz,
    start: Start,
    used_before: Duration,
}

fn reader_of(queue_name: &str, handlers: Option<&[String]>) -> Reader {
    (queue_name.to_owned(), handlers.map(<[String]>::to_vec))
}

/// What a reader knows, unless it is time to read from the beginning.
fn known(reader: &Reader, now: TimestampTz) -> Option<Known> {
    let began = Instant::now();
    // A clock that was set back knows nothing of what it will see again.
    KNOWN
        .with_borrow(|known| known.get(reader).copied())
        .filter(|known| known.next_full.is_some_and(|at| at > began) && known.from <= now)
}

/// A read by what is known, or from earlier when it is time for that.
fn by(known: Known, reader: Reader, now: TimestampTz) -> Floor {
    if known.next_earlier > Instant::now() {
        return Floor::new(reader, now, known.from, Start::Known);
    }
    let earlier = known.from.saturating_sub(RECENT);
    Floor::new(reader, now, earlier, Start::Earlier)
}

/// Where a read of the queue for these handlers begins that has to see whatever is visible.
pub(super) fn of(queue_name: &str, handlers: Option<&[String]>, now: TimestampTz) -> Floor {
    let reader = reader_of(queue_name, handlers);
    match known(&reader, now).filter(|known| known.is_checked) {
        Some(known) => by(known, reader, now),
        None => Floor::new(reader, now, TimestampTz::MIN, Start::Beginning),
    }
}

/// Where a read begins that, when it doesn't find all it wants, is repeated from where `of` says.
pub(super) fn of_claim(
    queue_name: &str,
    table: Oid,
    handlers: Option<&[String]>,
    now: TimestampTz,
) -> Floor {
    let reader = reader_of(queue_name, handlers);
    match known(&reader, now) {
        Some(known) if known.is_checked => by(known, reader, now),
        Some(known) => Floor::new(reader, now, known.from, Start::Unchecked),
        None if is_first(&reader)
            && !now.unsigned_abs().is_multiple_of(AT_ONCE_ONCE_IN)
            && is_old_snapshot_held(table) =>
        {
            Floor::new(reader, now, now.saturating_sub(RECENT), Start::Unchecked)
        }
        None => Floor::new(reader, now, TimestampTz::MIN, Start::Beginning),
    }
}

fn is_first(reader: &Reader) -> bool {
    SEEN.with_borrow_mut(|seen| {
        if seen.contains(reader) {
            return false;
        }
        if seen.len() >= MAX_KNOWN {
            seen.clear();
        }
        seen.insert(reader.clone())
    })
}

/// Whether somebody's snapshot is much older than this one, so that what has died since can't be removed from the table.
fn is_old_snapshot_held(table: Oid) -> bool {
    let lock = pg_sys::AccessShareLock as pg_sys::LOCKMODE;
    // SAFETY: opens a table that was just found and closes it again; a transaction that reads a queue has a snapshot.
    let (oldest, own) = unsafe {
        let relation = pg_sys::relation_open(table, lock);
        let oldest = pg_sys::GetOldestNonRemovableTransactionId(relation);
        pg_sys::relation_close(relation, lock);
        (oldest, pg_sys::TransactionXmin)
    };
    // Transaction ids are counted round and round.
    let behind = own.into_inner().wrapping_sub(oldest.into_inner());
    behind.cast_signed() > OLD
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
    fn new(reader: Reader, now: TimestampTz, from: TimestampTz, start: Start) -> Self {
        Self {
            reader,
            now,
            from,
            start,
            used_before: used(),
        }
    }

    /// Whether older messages may be there.
    pub(super) fn is_unchecked(&self) -> bool {
        self.start == Start::Unchecked
    }

    /// The time from which on messages are read.
    pub(super) fn from(&self) -> TimestampTz {
        self.from
    }

    /// Left to chance, so that backends that begin together don't read from the beginning together.
    fn until_checked(&self) -> Duration {
        Duration::from_millis(self.now.unsigned_abs() % CHECKED_WITHIN_MS)
    }

    /// Remembers how far the queue is read, where that spares time. `oldest` is the oldest of the `count` messages met, `is_all` says that no other is visible.
    pub(super) fn raise(self, oldest: Option<TimestampTz>, count: usize, is_all: bool) {
        let took = used().saturating_sub(self.used_before);
        let messages = u32::try_from(count).unwrap_or(u32::MAX);
        let is_slow = took > USUAL + USUAL_A_MESSAGE * messages;
        let met = oldest.or(is_all.then_some(self.now));
        KNOWN.with_borrow_mut(|known| {
            let before = known.remove(&self.reader);
            let ended = Instant::now();
            let paid = ended + took * PAUSE_FACTOR;
            let earlier_before = before.map_or(ended, |before| before.next_earlier);
            let (next_full, next_earlier) = match (self.start, before) {
                (Start::Beginning, _) if !is_slow => return,
                (Start::Beginning, before) => {
                    let is_believed = took > MADE_NO_PLAN || before.is_some();
                    (is_believed.then_some(paid), earlier_before)
                }
                (Start::Earlier, Some(before)) => (before.next_full, paid),
                (_, Some(before)) => (before.next_full, before.next_earlier),
                (Start::Unchecked, None) => (Some(ended + self.until_checked()), ended),
                (Start::Earlier | Start::Known, None) => return,
            };
            if known.len() >= MAX_KNOWN {
                known.clear();
            }
            let from = met
                .unwrap_or(self.from)
                .min(self.now.saturating_sub(USUAL_DELAY));
            let is_checked = self.start != Start::Unchecked;
            let known_now = Known {
                from,
                next_full,
                next_earlier,
                is_checked,
            };
            known.insert(self.reader, known_now);
        });
    }
}
