//! Histograms of durations, asked by SQL. They live in `tasker_rules`.

use pgrx::datum::ArraySliceError;
use pgrx::{Array, pg_extern};
use tasker_rules::histogram;

/// A histogram of durations in microseconds; those that are null aren't counted.
#[pg_extern(immutable, parallel_safe)]
fn _histogram(microseconds: Array<i64>) -> Vec<i64> {
    histogram::count(microseconds.iter().flatten())
}

/// The sum of an array of histograms.
#[pg_extern(immutable, parallel_safe)]
fn _sum_histograms(histograms: Array<i64>) -> Result<Vec<i64>, ArraySliceError> {
    Ok(histogram::sum(histograms.as_slice()?))
}

/// The duration in microseconds that a share of all doesn't exceed; null for an empty histogram.
#[pg_extern(immutable, parallel_safe)]
fn _percentile(counts: Array<i64>, share: f64) -> Result<Option<f64>, ArraySliceError> {
    Ok(histogram::percentile(counts.as_slice()?, share))
}
