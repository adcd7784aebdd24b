//! Chance, in the small: so that a fleet of workers doesn't ask the database in step.

use std::time::Duration;

use uuid::Uuid;

/// A random number in `0.0..1.0`.
pub(crate) fn fraction() -> f64 {
    // The low 32 bits of a version 4 UUID are random throughout.
    let bits = Uuid::new_v4().as_u128() as u32;
    f64::from(bits) / (f64::from(u32::MAX) + 1.0)
}

/// `interval` stretched by up to a half; `sample` is in `0.0..1.0`. Never shorter, so that the
/// interval bounds the rate of asking.
pub(crate) fn stretched(interval: Duration, sample: f64) -> Duration {
    interval.mul_f64(1.0 + sample.clamp(0.0, 1.0) / 2.0)
}

/// The pause before repetition number `repetition` (1 is the first): 50 ms, doubled each time up to
/// 5 s, of which a random half is left out.
pub(crate) fn pause(repetition: u32, sample: f64) -> Duration {
    let whole = Duration::from_millis(50)
        .saturating_mul(1 << repetition.saturating_sub(1).min(7))
        .min(Duration::from_secs(5));
    whole.mul_f64(1.0 - sample.clamp(0.0, 1.0) / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stretched_second_is_between_one_and_one_and_a_half() {
        for _ in 0..1000 {
            let waited = stretched(Duration::from_secs(1), fraction());
            assert!(
                (Duration::from_secs(1)..=Duration::from_millis(1500)).contains(&waited),
                "{waited:?}"
            );
        }
    }

    #[test]
    fn pauses_grow_to_a_bound() {
        assert_eq!(pause(1, 0.0), Duration::from_millis(50));
        assert_eq!(pause(2, 1.0), Duration::from_millis(50));
        assert_eq!(pause(4, 0.0), Duration::from_millis(400));
        assert_eq!(pause(u32::MAX, 0.0), Duration::from_secs(5));
    }

    #[test]
    fn fractions_differ_and_stay_below_one() {
        let drawn: Vec<f64> = (0..100).map(|_| fraction()).collect();
        assert!(drawn.iter().all(|value| (0.0..1.0).contains(value)));
        assert!(
            drawn
                .windows(2)
                .any(|pair| (pair[0] - pair[1]).abs() > 0.01)
        );
    }
}
