//! Keys of tasks and steps, and the sort key of template versions.
//!
//! A task's key is a `UUIDv7` (RFC 9562, section 5.7) whose low [`STEP_BITS`] bits are zero. A step's key is its task's
//! with the step's number in those bits: a step's key names its task, and all steps of a task lie side by side.

/// How many low bits of a key hold the step's number.
pub const STEP_BITS: u32 = 20;

const NUMBER_MASK: u128 = (1 << STEP_BITS) - 1;

/// The greatest number of a step within its task.
pub const MAX_NUMBER: u32 = (1 << STEP_BITS) - 1;

/// The key of step `number` of a task; `None` when the number is 0 or does not fit, or `task` is not a task's key.
#[must_use]
pub fn step_key(task: u128, number: u32) -> Option<u128> {
    let number = u128::from(number);
    let fits = (1..=NUMBER_MASK).contains(&number) && task & NUMBER_MASK == 0;
    fits.then_some(task | number)
}

/// The key of the task that a step's key names.
#[must_use]
pub fn task_of(step: u128) -> u128 {
    step & !NUMBER_MASK
}

/// The number of the step that a step's key names; 0 for a task's key.
#[must_use]
pub fn number_of(step: u128) -> u32 {
    (step & NUMBER_MASK) as u32
}

/// A task's key from the time in milliseconds since 1970 (48 bits of it), the fraction of that millisecond in 4096ths
/// (12 bits, RFC 9562 section 6.2 method 3), and random bits (the low 42 are used).
#[must_use]
pub fn task_key(unix_ms: u64, sub_ms_fraction: u16, random: u64) -> u128 {
    const VERSION: u128 = 7 << 76;
    const VARIANT: u128 = 0b10 << 62;
    let time = u128::from(unix_ms & 0xFFFF_FFFF_FFFF) << 80;
    let fraction = u128::from(sub_ms_fraction & 0xFFF) << 64;
    let random = u128::from(random & ((1 << 42) - 1)) << STEP_BITS;
    time | VERSION | fraction | VARIANT | random
}

/// The bit of a key that tells a child task from any other. Keys made before there were child tasks have it by chance.
const CHILD: u128 = 1 << 61;

/// The key of a task that has a parent, or of one that has none.
#[must_use]
pub fn marked(task: u128, is_child: bool) -> u128 {
    if is_child {
        task | CHILD
    } else {
        task & !CHILD
    }
}

/// Whether a task may have a parent; most that have none are told by their key.
#[must_use]
pub fn may_be_child(task: u128) -> bool {
    task & CHILD != 0
}

/// Text that sorts, byte by byte (collation "C"), as versions do by semver.org 2.0.0, section 11: by number where parts
/// are numbers, pre-releases before their release. Versions of equal rank (`1.0` and `1.0.0`, or other build metadata)
/// sort by their text, so that the order is total.
#[must_use]
pub fn version_key(version: &str) -> String {
    let ranked = version
        .split_once('+')
        .map_or(version, |(ranked, _build)| ranked);
    let ranked = ranked
        .strip_prefix('v')
        .filter(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
        .unwrap_or(ranked);
    let (release, pre_release) = match ranked.split_once('-') {
        Some((release, pre_release)) => (release, Some(pre_release)),
        None => (ranked, None),
    };
    let mut parts: Vec<&str> = release.split('.').collect();
    while parts.len() > 1
        && parts
            .last()
            .is_some_and(|part| part.bytes().all(|b| b == b'0'))
    {
        parts.pop();
    }
    let mut key = String::with_capacity(80);
    // `-` before `.` before `:`, so that after the same parts a pre-release comes first, then the release, then a
    // release with further parts.
    for (position, part) in parts.iter().enumerate() {
        if position > 0 {
            key.push(':');
        }
        push_rank(&mut key, part);
    }
    match pre_release {
        Some(pre_release) => {
            key.push('-');
            // `!` before `,`: of two pre-releases, one that is the start of the other comes first.
            for identifier in pre_release.split('.') {
                push_rank(&mut key, identifier);
                key.push(',');
            }
            key.pop();
            key.push('!');
        }
        None => key.push('.'),
    }
    key.push_str(version);
    key
}

/// Numbers by value, before text.
fn push_rank(key: &mut String, part: &str) {
    const WIDTH: usize = 16;
    if !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit()) {
        let digits = part.trim_start_matches('0');
        key.push('0');
        key.extend(std::iter::repeat_n('0', WIDTH.saturating_sub(digits.len())));
        key.push_str(digits);
    } else {
        key.push('1');
        key.push_str(part);
    }
}
