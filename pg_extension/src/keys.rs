//! The keys of tasks and steps as PostgreSQL's uuid.

use pgrx::datum::TimestampWithTimeZone;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::{Uuid, pg_extern, pg_sys};
use tasker_rules::key;

use crate::error::Error;

/// PostgreSQL counts from 2000, UUIDv7 from 1970.
pub(crate) const MICROSECONDS_FROM_1970_TO_2000: i64 = 946_684_800_000_000;
/// 7,999 years; 48 bits of milliseconds reach further.
const MICROSECONDS_FROM_2000_TO_9999: i64 = 252_423_993_600_000_000;

/// A key as a number.
pub(crate) fn number(uuid: &Uuid) -> u128 {
    u128::from_be_bytes(*uuid.as_bytes())
}

/// A number as a key.
pub(crate) fn uuid(number: u128) -> Uuid {
    Uuid::from_bytes(number.to_be_bytes())
}

fn unix_microseconds(at: pg_sys::TimestampTz) -> Result<u64, Error> {
    u64::try_from(at.saturating_add(MICROSECONDS_FROM_1970_TO_2000))
        .map_err(|_| Error::TimeOutOfRange)
}

/// The least key of tasks created at a time.
pub(crate) fn first_key(at: pg_sys::TimestampTz) -> Result<u128, Error> {
    Ok(u128::from(unix_microseconds(at)? / 1000) << 80)
}

/// A key from its text: 8, 4, 4, 4 and 12 hexadecimal digits.
pub(crate) fn parse(text: &str) -> Option<u128> {
    let mut key = 0_u128;
    for (position, byte) in text.bytes().enumerate() {
        match position {
            8 | 13 | 18 | 23 if byte == b'-' => {}
            8 | 13 | 18 | 23 => return None,
            _ => key = key << 4 | u128::from(char::from(byte).to_digit(16)?),
        }
    }
    (text.len() == 36).then_some(key)
}

/// A key as text.
pub(crate) fn text(key: u128) -> String {
    let digits = format!("{key:032x}");
    [0..8, 8..12, 12..16, 16..20, 20..32]
        .map(|range| &digits[range])
        .join("-")
}

/// The number of the step that a key names.
pub(crate) fn number_in_task(step: u128) -> i32 {
    key::number_of(step) as i32
}

/// A random number from 0 to 1.
pub(crate) fn random_unit() -> f64 {
    let bits = (random_bits() >> 32) as u32;
    f64::from(bits) / f64::from(u32::MAX)
}

/// Random bits from PostgreSQL's strong source.
fn random_bits() -> u64 {
    let mut bytes = [0_u8; 8];
    // SAFETY: fills exactly the buffer given.
    let is_strong = unsafe { pg_sys::pg_strong_random(bytes.as_mut_ptr().cast(), bytes.len()) };
    assert!(is_strong, "the system gives no random numbers");
    u64::from_ne_bytes(bytes)
}

/// Keys for new tasks, made at one time and in rising order. Those of child tasks are marked.
pub(crate) fn new_tasks(
    count: usize,
    at: pg_sys::TimestampTz,
    are_children: bool,
) -> Result<Vec<u128>, Error> {
    let microseconds = unix_microseconds(at)?;
    // RFC 9562, section 6.2, method 3: the fraction of the millisecond in 12 bits.
    let fraction = ((microseconds % 1000) * 4096 / 1000) as u16;
    let mut keys: Vec<u128> = (0..count)
        .map(|_| key::task_key(microseconds / 1000, fraction, random_bits()))
        .map(|task| key::marked(task, are_children))
        .collect();
    keys.sort_unstable();
    Ok(keys)
}

/// Keys for new tasks, made at one time and in rising order.
#[pg_extern(volatile, parallel_unsafe)]
fn _task_uuids(count: i32, at: TimestampWithTimeZone) -> Result<Vec<Uuid>, ErrorReport> {
    let keys = new_tasks(usize::try_from(count).unwrap_or(0), at.into(), false)?;
    Ok(keys.into_iter().map(uuid).collect())
}

/// The least key of tasks created at a time, which is put between 1970 and 9999; no time, no key.
#[pg_extern(immutable, parallel_safe)]
fn _first_task_uuid(at: Option<TimestampWithTimeZone>) -> Result<Option<Uuid>, ErrorReport> {
    let Some(at) = at else { return Ok(None) };
    let at = pg_sys::TimestampTz::from(at).clamp(
        -MICROSECONDS_FROM_1970_TO_2000,
        MICROSECONDS_FROM_2000_TO_9999,
    );
    Ok(Some(uuid(first_key(at)?)))
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
    number_in_task(number(&step_uuid))
}
