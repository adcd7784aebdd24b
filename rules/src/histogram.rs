//! Durations counted in bins, so that their percentiles can be told without keeping them.
//!
//! The bins grow by a constant factor γ: bin i holds the durations from above γ^(i-1) to γ^i microseconds, and stands for 2γ^i / (γ+1). With γ = (1+α) / (1-α) that is
//! off by at most the share α of any duration in the bin. Formula and proof: Masson, Rim and Lee, "`DDSketch`: A Fast and Fully-Mergeable Quantile Sketch with
//! Relative-Error Guarantees", VLDB 2019, section 2. A histogram is a count for each bin; the last one also has all that is longer.

#![allow(
    clippy::cast_precision_loss,
    reason = "a bin is wider than what a number of microseconds or runs can lose"
)]

/// α: by which share of it a duration may be off.
pub const RELATIVE_ERROR: f64 = 0.1;

const GAMMA: f64 = (1.0 + RELATIVE_ERROR) / (1.0 - RELATIVE_ERROR);

/// How many bins a histogram has: for durations of up to two years.
pub const BINS: usize = 160;

/// The bin of a duration in microseconds; 0 for up to one. A day is in bin 126.
fn bin_of(microseconds: i64) -> usize {
    if microseconds <= 1 {
        return 0;
    }
    let bin = ((microseconds as f64).ln() / GAMMA.ln()).ceil() as usize;
    bin.min(BINS - 1)
}

/// The duration in microseconds that a bin stands for.
fn duration_of(bin: usize) -> f64 {
    2.0 * GAMMA.powf(bin as f64) / (GAMMA + 1.0)
}

/// Counts durations, given in microseconds, into a histogram.
#[must_use]
pub fn count(microseconds: impl IntoIterator<Item = i64>) -> Vec<i64> {
    let mut histogram = vec![0; BINS];
    for microseconds in microseconds {
        histogram[bin_of(microseconds)] += 1;
    }
    histogram
}

/// The sum of histograms, one after the other.
#[must_use]
pub fn sum(histograms: &[i64]) -> Vec<i64> {
    let mut sum = vec![0i64; BINS];
    for histogram in histograms.chunks(BINS) {
        for (all, count) in sum.iter_mut().zip(histogram) {
            *all = all.saturating_add(*count);
        }
    }
    sum
}

/// The duration in microseconds that the given share of all doesn't exceed, by nearest rank: the one at place share × number, rounded up. `None` for an empty histogram.
#[must_use]
pub fn percentile(histogram: &[i64], share: f64) -> Option<f64> {
    let all: i64 = histogram.iter().sum();
    let place = (share * all as f64).ceil().max(1.0) as i64;
    let mut upto = 0;
    let bin = histogram.iter().position(|count| {
        upto += count;
        upto >= place
    })?;
    Some(duration_of(bin))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn counted(microseconds: &[i64]) -> Vec<i64> {
        count(microseconds.iter().copied())
    }

    #[test]
    fn durations_of_up_to_a_microsecond_share_the_first_bin() {
        assert_eq!([-5, 0, 1].map(bin_of), [0, 0, 0]);
        assert_eq!(bin_of(2), 4);
        assert_eq!(bin_of(86_400_000_000), 126);
        assert_eq!(bin_of(2 * 365 * 86_400_000_000), 159);
        assert_eq!(bin_of(i64::MAX), 159);
    }

    #[test]
    fn of_none_there_is_no_percentile() {
        assert_eq!(percentile(&[], 0.5), None);
        assert_eq!(percentile(&counted(&[]), 0.5), None);
    }

    proptest! {
        #[test]
        fn a_percentile_is_off_by_the_error_at_most(
            mut durations in prop::collection::vec(1i64..1_000_000_000_000, 1..200), share in 0.01..1.0f64
        ) {
            let told = percentile(&counted(&durations), share).expect("a percentile");
            durations.sort_unstable();
            let place = (share * durations.len() as f64).ceil() as usize;
            let real = durations[place - 1] as f64;
            prop_assert!((told - real).abs() <= real * (RELATIVE_ERROR + 1e-9), "{told} for {real}");
        }

        #[test]
        fn a_sum_counts_what_each_did(
            a in prop::collection::vec(0i64..1_000_000, 0..50), b in prop::collection::vec(0i64..1_000_000_000, 0..50)
        ) {
            let both = [counted(&a), counted(&b)].concat();
            prop_assert_eq!(sum(&both), counted(&[a, b].concat()));
            prop_assert_eq!(sum(&[]), counted(&[]));
        }
    }
}
