//! Which runs there are, and how long one is.

use uuid::Uuid;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// The seed in `TASKER_MODEL_SEED`; without it one that is always the same, and new ones.
#[must_use]
pub fn seeds() -> Vec<u64> {
    given().map_or_else(|| vec![1, fresh(), fresh()], |seed| vec![seed])
}

/// The seed of a single run: that in `TASKER_MODEL_SEED`, or a new one.
#[must_use]
pub fn seed() -> u64 {
    given().unwrap_or_else(fresh)
}

fn given() -> Option<u64> {
    number("TASKER_MODEL_SEED")
}

fn fresh() -> u64 {
    Uuid::new_v4().as_u64_pair().0
}

/// The operations in a run: those in `TASKER_MODEL_OPERATIONS`, or the given.
#[must_use]
pub fn operations(default: u64) -> u64 {
    number("TASKER_MODEL_OPERATIONS").unwrap_or(default)
}
