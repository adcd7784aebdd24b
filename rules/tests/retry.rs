//! Delays between attempts.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use proptest::prelude::*;
use tasker_rules::retry::{MAX_RETRY_AFTER_MS, delay_ms};
use tasker_rules::template::{Backoff, Retry};

fn retry(backoff: Backoff, base: u64, cap: u64, jitter: f64) -> Retry {
    Retry {
        backoff,
        backoff_base_ms: base,
        max_backoff_ms: cap,
        jitter,
        ..Retry::default()
    }
}

fn delays(backoff: Backoff) -> Vec<u64> {
    let retry = retry(backoff, 100, 1_000_000, 0.15);
    (0..=7)
        .map(|failed| delay_ms(&retry, failed, 0.0))
        .collect()
}

#[test]
fn each_backoff_grows_as_its_formula_says() {
    assert_eq!(delays(Backoff::None), [0; 8]);
    assert_eq!(
        delays(Backoff::Linear),
        [0, 100, 200, 300, 400, 500, 600, 700]
    );
    assert_eq!(
        delays(Backoff::Exponential),
        [0, 100, 200, 400, 800, 1600, 3200, 6400]
    );
    assert_eq!(
        delays(Backoff::Fibonacci),
        [0, 100, 100, 200, 300, 500, 800, 1300]
    );
}

#[test]
fn the_defaults_are_those_of_the_design() {
    let retry = Retry::default();
    assert!(retry.retryable);
    assert_eq!(
        (retry.max_attempts, retry.backoff),
        (3, Backoff::Exponential)
    );
    assert_eq!(
        (retry.backoff_base_ms, retry.max_backoff_ms),
        (1000, 30_000)
    );
    assert!((retry.jitter - 0.15).abs() < f64::EPSILON);
    assert_eq!(MAX_RETRY_AFTER_MS, 86_400_000);
}

#[test]
fn jitter_is_added_to_the_capped_delay() {
    let retry = retry(Backoff::Exponential, 1000, 4000, 0.25);
    assert_eq!(delay_ms(&retry, 10, 1.0), 5000);
    assert_eq!(delay_ms(&retry, 10, -1.0), 3000);
    assert_eq!(delay_ms(&retry, 10, 17.0), 5000);
    assert_eq!(delay_ms(&retry, 10, f64::NAN), 4000);
}

#[test]
fn absurd_numbers_end_at_the_cap() {
    for &backoff in &[Backoff::Linear, Backoff::Exponential, Backoff::Fibonacci] {
        for failed in [64, 65, 93, 94, 95, 1000, u32::MAX] {
            let retry = retry(backoff, 1_000_000_000, 30_000, 0.0);
            assert_eq!(delay_ms(&retry, failed, 0.5), 30_000);
        }
        let unbounded = retry(backoff, u64::MAX, u64::MAX, 1.0);
        assert_eq!(delay_ms(&unbounded, u32::MAX, 1.0), u64::MAX);
    }
}

fn backoffs() -> impl Strategy<Value = Backoff> {
    prop::sample::select(Backoff::ALL)
}

proptest! {
    #[test]
    #[expect(clippy::cast_precision_loss, reason = "the bound is a float, too")]
    fn a_delay_is_never_above_the_cap_and_its_jitter(
        backoff in backoffs(), base in 0_u64..=2_147_483_647, cap in 0_u64..=2_147_483_647,
        jitter in 0.0..=1.0, failed in any::<u32>(), sample in -1.0..=1.0,
    ) {
        let delay = delay_ms(&retry(backoff, base, cap, jitter), failed, sample);
        prop_assert!(delay as f64 <= (cap as f64 * (1.0 + jitter)).round());
    }

    #[test]
    fn without_jitter_a_later_attempt_never_waits_less(
        backoff in backoffs(), base in 0_u64..=2_147_483_647, cap in 0_u64..=2_147_483_647,
        failed in 0_u32..=200, further in 0_u32..=1000, sample in -1.0..=1.0,
    ) {
        let retry = retry(backoff, base, cap, 0.0);
        prop_assert!(delay_ms(&retry, failed, sample) <= delay_ms(&retry, failed + further, sample));
    }
}
