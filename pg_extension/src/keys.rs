//! The keys of tasks and steps as PostgreSQL's uuid.

use pgrx::datum::TimestampWithTimeZone;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::{Uuid, pg_extern, pg_sys};
use tasker_rules::key;

use crate::error::Error;

/// PostgreSQL counts from 2000, UUIDv7 from 1970.
const MICROSECONDS_FROM_1970_TO_2000: i64 = 946_684_800_000_000;

fn number(uuid: &Uuid) -> u128 {
    u128::from_be_bytes(*uuid.as_bytes())
}

fn uuid(number: u128) -> Uuid {
    Uuid::from_bytes(number.to_be_bytes())
}

/// The key of a task's step, for Rust callers.
pub(crate) fn number_of(step: &Uuid) -> i32 {
    key::number_of(number(step)) as i32
}

/// Random bits from PostgreSQL's strong source.
fn random_bits() -> u64 {
    let mut bytes = [0_u8; 8];
    // SAFETY: fills exactly the buffer given.
    let is_strong = unsafe { pg_sys::pg_strong_random(bytes.as_mut_ptr().cast(), bytes.len()) };
    assert!(is_strong, "the system gives no random numbers");
    u64::from_ne_bytes(bytes)
}

/// Keys for new tasks, made at one time and in rising order.
#[pg_extern(volatile, parallel_unsafe)]
fn _task_uuids(count: i32, at: TimestampWithTimeZone) -> Result<Vec<Uuid>, ErrorReport> {
    let microseconds = pg_sys::TimestampTz::from(at).saturating_add(MICROSECONDS_FROM_1970_TO_2000);
    let microseconds = u64::try_from(microseconds).map_err(|_| Error::TimeOutOfRange)?;
    // RFC 9562, section 6.2, method 3: the fraction of the millisecond in 12 bits.
    let fraction = ((microseconds % 1000) * 4096 / 1000) as u16;
    let mut keys: Vec<u128> = (0..count.max(0))
        .map(|_| key::task_key(microseconds / 1000, fraction, random_bits()))
        .collect();
    keys.sort_unstable();
    Ok(keys.into_iter().map(uuid).collect())
}

/// The key of a task's step by its number.
#[pg_extern(immutable, parallel_safe)]
fn _step_uuid(task_uuid: Uuid, number_in_task: i32) -> Result<Uuid, ErrorReport> {
    u32::try_from(number_in_task)
        .ok()
        .and_then(|step| key::step_key(number(&task_uuid), step))
        .map(uuid)
        .ok_or_else(|| Error::NumberOutOfRange(number_in_task).into())
}

/// The greatest key that a step of the task can have.
#[pg_extern(immutable, parallel_safe)]
fn _last_step_uuid(task_uuid: Uuid) -> Uuid {
    uuid(key::task_of(number(&task_uuid)) | ((1 << key::STEP_BITS) - 1))
}

/// The key of a step's task.
#[pg_extern(immutable, parallel_safe)]
fn _task_of(step_uuid: Uuid) -> Uuid {
    uuid(key::task_of(number(&step_uuid)))
}

/// A step's number within its task.
#[pg_extern(immutable, parallel_safe)]
fn _number_of(step_uuid: Uuid) -> i32 {
    number_of(&step_uuid)
}
