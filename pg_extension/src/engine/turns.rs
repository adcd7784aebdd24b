//! Taking turns with those who want all steps of a task.
//!
//! Who cancels, pauses or repairs a task whose steps are made while it runs needs them all, while each finish lets others go. Workers that finish fast would always be ahead, so claims and
//! finishes of instances hold a lock of the task in share mode, and who wants all steps waits for it alone (`tasker._wait_for_turn`): PostgreSQL lets nobody past who waits.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::rc::Rc;
use std::time::{Duration, Instant};

use pgrx::{IntoDatum, direct_function_call, pg_sys};
use tasker_rules::key::task_of;

use crate::advisory;
use crate::compiled::Kept;
use crate::keys;

/// The first number of the advisory locks; the second is the hash of a task's key. `tasker._wait_for_turn` has the same.
const LOCK: u32 = 1_414_742_860;
const SHARED: pg_sys::LOCKMODE = pg_sys::ShareLock as pg_sys::LOCKMODE;

/// Turns shared by a call at most: all sessions' locks have their place in one table of fixed size.
const MAX_SHARED: usize = 32;
/// About as long as it takes to lock 100,000 steps, and less than PostgreSQL's `deadlock_timeout`, after which one of those that wait in a circle fails.
const TRIED_FOR: Duration = Duration::from_millis(500);
const TRIED_EVERY_US: i64 = 2000;

/// Shares the turn of each task of which a step is an instance, until this transaction ends, and waits for it. Whoever has locked something already may have what the other waits for: it
/// tries for a while, and goes on without.
pub(super) fn share(graphs: &HashMap<u128, Rc<Kept>>, steps: &[u128]) {
    let turns = turns_of(graphs, steps);
    if turns.is_empty() {
        return;
    }
    // SAFETY: reads a variable of this backend. A transaction that has locked a row has a number.
    let has_locked = unsafe { pg_sys::GetTopTransactionIdIfAny() } != pg_sys::InvalidTransactionId;
    for &hash in turns.keys().take(MAX_SHARED) {
        if has_locked {
            try_for_a_while(hash);
        } else {
            advisory::acquire(numbers(hash), SHARED);
        }
    }
}

/// The same without waiting: gives the tasks whose turn somebody else has or waits for.
pub(super) fn try_share(graphs: &HashMap<u128, Rc<Kept>>, steps: &[u128]) -> HashSet<u128> {
    let turns = turns_of(graphs, steps).into_iter().take(MAX_SHARED);
    turns
        .filter(|&(hash, _)| !advisory::try_acquire(numbers(hash), SHARED))
        .flat_map(|(_, tasks)| tasks)
        .collect()
}

/// The tasks of the steps that are instances, by their hashes: in the order in which all take turns.
fn turns_of(graphs: &HashMap<u128, Rc<Kept>>, steps: &[u128]) -> BTreeMap<i32, Vec<u128>> {
    let mut turns = BTreeMap::new();
    let mut seen = HashSet::new();
    for &step in steps {
        let task = task_of(step);
        let is_instance = graphs.get(&task).is_some_and(|kept| {
            kept.place(keys::number_in_task(step))
                .is_ok_and(|place| place.instance.is_some())
        });
        if is_instance
            && seen.insert(task)
            && let Some(hash) = hash(task)
        {
            turns.entry(hash).or_insert_with(Vec::new).push(task);
        }
    }
    turns
}

fn try_for_a_while(hash: i32) {
    let begun = Instant::now();
    while !advisory::try_acquire(numbers(hash), SHARED) && begun.elapsed() < TRIED_FOR {
        // SAFETY: sleeps; nothing of this backend is touched.
        unsafe { pg_sys::pg_usleep(TRIED_EVERY_US) };
        pgrx::check_for_interrupts!();
    }
}

/// PostgreSQL's own hash of a task's key.
fn hash(task: u128) -> Option<i32> {
    // SAFETY: takes a uuid and gives a number.
    unsafe { direct_function_call(pg_sys::uuid_hash, &[keys::uuid(task).into_datum()]) }
}

fn numbers(hash: i32) -> (u32, u32) {
    (LOCK, hash.cast_unsigned())
}
