//! How long a step rests after a failed attempt.

use crate::template::{Backoff, Retry};

/// The longest rest a handler may ask for with `retry_after`: one day, in milliseconds.
pub const MAX_RETRY_AFTER_MS: u64 = 24 * 60 * 60 * 1000;

/// The delay in milliseconds after failed attempt number `failed_attempts` (the first is 1; 0 gives no delay).
///
/// With n failed attempts and base b: `none` 0; `linear` b·n; `exponential` b·2^(n-1); `fibonacci` b·F(n), with
/// F(1) = F(2) = 1. Capped at `max_backoff_ms`, then spread by ± `jitter`: `jitter_sample` says where in that range, from
/// -1 to 1 (values outside count as the nearest end). The caller draws it, so that this stays a function of its
/// arguments.
#[must_use]
pub fn delay_ms(retry: &Retry, failed_attempts: u32, jitter_sample: f64) -> u64 {
    if failed_attempts == 0 {
        return 0;
    }
    let factor = match retry.backoff {
        Backoff::None => return 0,
        Backoff::Linear => u64::from(failed_attempts),
        Backoff::Exponential => 1_u64.checked_shl(failed_attempts - 1).unwrap_or(u64::MAX),
        Backoff::Fibonacci => fibonacci(failed_attempts),
    };
    let capped = retry
        .backoff_base_ms
        .saturating_mul(factor)
        .min(retry.max_backoff_ms);
    spread(capped, retry.jitter, jitter_sample)
}

/// F(n), or the greatest number there is where F(n) does not fit.
fn fibonacci(n: u32) -> u64 {
    let (mut current, mut following) = (0_u64, 1_u64);
    for _ in 0..n {
        let Some(sum) = current.checked_add(following) else {
            return u64::MAX;
        };
        (current, following) = (following, sum);
    }
    current
}

#[expect(
    clippy::cast_precision_loss,
    reason = "delays beyond 2^53 ms are 285,000 years; a rounded one does as well"
)]
fn spread(delay: u64, jitter: f64, sample: f64) -> u64 {
    let share = jitter.clamp(0.0, 1.0) * sample.clamp(-1.0, 1.0);
    if share.is_nan() || share == 0.0 {
        return delay;
    }
    (delay as f64 * (1.0 + share)).round() as u64
}
