//! Amounts of money in whole cents.

use tasker_worker_runtime::HandlerError;

/// `1234567` is written `12345.67`.
pub(crate) fn written(cents: u64) -> String {
    format!("{}.{:02}", cents / 100, cents % 100)
}

/// `count` times `cents`; permanent when the product leaves the range of an amount.
pub(crate) fn times(cents: u64, count: u64) -> Result<u64, HandlerError> {
    cents.checked_mul(count).ok_or_else(too_large)
}

/// The sum of `amounts`; permanent when it leaves the range of an amount.
pub(crate) fn sum(amounts: impl IntoIterator<Item = u64>) -> Result<u64, HandlerError> {
    amounts
        .into_iter()
        .try_fold(0, u64::checked_add)
        .ok_or_else(too_large)
}

fn too_large() -> HandlerError {
    HandlerError::permanent("the amount is too large").with_type("amount_too_large")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cents_are_written_with_two_digits() {
        assert_eq!(
            [0, 5, 100, 1_234_567].map(written),
            ["0.00", "0.05", "1.00", "12345.67"]
        );
    }

    #[test]
    fn an_amount_out_of_range_is_an_error() {
        assert!(times(u64::MAX, 2).is_err());
        assert!(sum([u64::MAX, 1]).is_err());
        assert_eq!(sum([1, 2, 3]), Ok(6));
    }
}
