//! The partitions of the tables that grow with the work, addressed by name.
//!
//! A key says when its task was created, and so which partition it is in. A statement on the parent table would open, lock and prune every partition at each run; one on the
//! partition itself costs what it would cost on a table without partitions.
//!
//! Retention drops partitions, and puts others of the same names in their place, under the strongest lock. Whoever has found one holds a lock on it until the end of his transaction.

use std::cell::RefCell;
use std::ffi::CString;
use std::rc::Rc;

use pgrx::pg_sys::{self, TimestampTz};

use crate::edition::relation;
use crate::error::Error;
use crate::keys;
use crate::statements::{Session, Statement};
use crate::values::{Row, Value};

const MS_PER_DAY: u128 = 24 * 60 * 60 * 1000;
/// The bits of a key below its milliseconds.
const BITS_BELOW_MS: u32 = 80;

/// One range of keys, with its partition in each table.
#[derive(Debug)]
pub(crate) struct Partition {
    first: u128,
    /// The first key after it.
    end: u128,
    relation: CString,
    pub(crate) suffix: String,
    pub(crate) tasks: String,
    pub(crate) steps: String,
    pub(crate) task_transitions: String,
    pub(crate) step_transitions: String,
}

const RANGES: Statement = Statement {
    name: "partition_ranges",
    text: "select r.suffix, r.starts_on - date '1970-01-01', r.ends_on - date '1970-01-01' from {} r",
    rows: None,
    parameters: &[],
};

const MAKE: Statement = Statement {
    name: "make_partitions",
    text: "select r.suffix, r.starts_on - date '1970-01-01', r.ends_on - date '1970-01-01' from {}($1) r",
    rows: None,
    parameters: &[pg_sys::TIMESTAMPTZOID],
};

thread_local! {
    static KNOWN: RefCell<Vec<Rc<Partition>>> = RefCell::default();
}

/// The partition that a key belongs to; `None` when there is none, so no such task or step.
pub(crate) fn of(session: &Session, key: u128) -> Result<Option<Rc<Partition>>, Error> {
    if let Some(partition) = known(key) {
        return Ok(Some(partition));
    }
    let ranges = session.rows(&RANGES, "tasker._partition_ranges()", &[], |row| {
        Ok(Rc::new(Partition::new(
            row.text(0),
            days(row, 1),
            days(row, 2),
        )))
    })?;
    KNOWN.set(ranges);
    Ok(known(key))
}

/// The partition of a key whose row is there.
pub(crate) fn of_key(session: &Session, key: u128) -> Result<Rc<Partition>, Error> {
    of(session, key)?.ok_or(Error::PartitionMissing)
}

/// The partition for tasks created at a time. It is made when there is none, which maintenance does ahead of time.
pub(crate) fn of_time(session: &Session, at: TimestampTz) -> Result<Rc<Partition>, Error> {
    let key = keys::first_key(at)?;
    if let Some(partition) = of(session, key)? {
        return Ok(partition);
    }
    // Named by the answer: a transaction whose snapshot is older than the partitions can't see them listed.
    let made = session.rows(
        &MAKE,
        "tasker._make_partitions",
        &[Value::time(at)],
        |row| {
            Ok(Rc::new(Partition::new(
                row.text(0),
                days(row, 1),
                days(row, 2),
            )))
        },
    )?;
    KNOWN.with_borrow_mut(|known| known.extend(made));
    known(key).ok_or(Error::PartitionMissing)
}

/// Items by the partition of their keys, in the order of those; items of no partition are left out.
pub(crate) fn group<T>(
    session: &Session,
    items: impl IntoIterator<Item = T>,
    key: impl Fn(&T) -> u128,
) -> Result<Vec<(Rc<Partition>, Vec<T>)>, Error> {
    let mut groups: Vec<(Rc<Partition>, Vec<T>)> = Vec::new();
    for item in items {
        let key = key(&item);
        if let Some((_, members)) = groups
            .iter_mut()
            .find(|(partition, _)| partition.holds(key))
        {
            members.push(item);
        } else if let Some(partition) = of(session, key)? {
            groups.push((partition, vec![item]));
        }
    }
    groups.sort_by_key(|(partition, _)| partition.first);
    Ok(groups)
}

/// A day since 1970.
fn days(row: &Row, column: usize) -> u128 {
    u128::try_from(row.int4(column)).unwrap_or_default()
}

fn known(key: u128) -> Option<Rc<Partition>> {
    let found =
        KNOWN.with_borrow(|known| known.iter().find(|partition| partition.holds(key)).cloned());
    // One that was dropped, or made by a transaction that was rolled back, is gone.
    found.filter(|partition| partition.is_held())
}

impl Partition {
    fn new(suffix: &str, first_day: u128, end_day: u128) -> Self {
        let table = |name: &str| format!("tasker.{name}_{suffix}");
        Self {
            first: (first_day * MS_PER_DAY) << BITS_BELOW_MS,
            end: (end_day * MS_PER_DAY) << BITS_BELOW_MS,
            relation: CString::new(format!("steps_{suffix}")).unwrap_or_default(),
            suffix: suffix.to_owned(),
            tasks: table("tasks"),
            steps: table("steps"),
            task_transitions: table("task_transitions"),
            step_transitions: table("step_transitions"),
        }
    }

    fn holds(&self, key: u128) -> bool {
        (self.first..self.end).contains(&key)
    }

    /// Whether it is there; it stays then until the transaction ends.
    fn is_held(&self) -> bool {
        const MODE: pg_sys::LOCKMODE = pg_sys::AccessShareLock as pg_sys::LOCKMODE;
        let mut table = self.table();
        while let Some(found) = table {
            // SAFETY: a lock that every read of the table takes. One that was dropped in the meantime can be locked as well.
            unsafe { pg_sys::LockRelationOid(found, MODE) };
            table = self.table();
            if table == Some(found) {
                return true;
            }
            // SAFETY: gives back what was taken above.
            unsafe { pg_sys::UnlockRelationOid(found, MODE) };
        }
        false
    }

    /// Its partition of the steps, if there is one.
    fn table(&self) -> Option<pg_sys::Oid> {
        // SAFETY: a look-up in the system's caches. One that was detached is a table like any other.
        relation(&self.relation).filter(|&table| unsafe { pg_sys::get_rel_relispartition(table) })
    }
}
