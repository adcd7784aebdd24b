//! Many measurements as a few numbers.

use serde::Serialize;

/// How measurements in milliseconds are spread.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) struct Distribution {
    pub(crate) count: usize,
    pub(crate) p50_ms: f64,
    pub(crate) p95_ms: f64,
    pub(crate) p99_ms: f64,
    pub(crate) max_ms: f64,
}

impl Distribution {
    /// None of no measurements.
    pub(crate) fn of(mut values: Vec<f64>) -> Option<Self> {
        values.sort_by(f64::total_cmp);
        Some(Self {
            count: values.len(),
            p50_ms: percentile(&values, 50)?,
            p95_ms: percentile(&values, 95)?,
            p99_ms: percentile(&values, 99)?,
            max_ms: *values.last()?,
        })
    }
}

/// The value in the middle; of an even number the lower of the two.
pub(crate) fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    percentile(&values, 50)
}

/// The smallest value that so many in a hundred don't exceed.
fn percentile(sorted: &[f64], percent: usize) -> Option<f64> {
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted.get(rank - 1).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_percentiles_of_a_hundred_values_are_the_values_of_that_rank() {
        let values = (1..=100).rev().map(f64::from).collect();
        let expected = Distribution {
            count: 100,
            p50_ms: 50.0,
            p95_ms: 95.0,
            p99_ms: 99.0,
            max_ms: 100.0,
        };
        assert_eq!(Distribution::of(values), Some(expected));
    }

    #[test]
    fn the_median_is_the_value_in_the_middle_whatever_their_order() {
        assert_eq!(median(vec![3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(vec![4.0, 1.0, 3.0, 2.0]), Some(2.0));
        assert_eq!(median(Vec::new()), None);
    }

    #[test]
    fn one_value_is_every_percentile_and_none_has_none() {
        let expected = Distribution {
            count: 1,
            p50_ms: 7.0,
            p95_ms: 7.0,
            p99_ms: 7.0,
            max_ms: 7.0,
        };
        assert_eq!(Distribution::of(vec![7.0]), Some(expected));
        assert_eq!(Distribution::of(Vec::new()), None);
    }
}
