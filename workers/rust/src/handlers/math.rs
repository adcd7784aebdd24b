//! `math.*`: exact arithmetic on integers of any size. Results are `{"n": "<decimal digits>"}`.

use num_bigint::BigInt;
use serde_json::{Value, json};
use tasker_worker_runtime::{HandlerError, StepContext};

use super::HandlerResult;
use super::integer::{MAX_DIGITS, integer};

/// Squares `n` of the step's one dependency, or of the context when the step has none.
pub(crate) fn square(step: &StepContext) -> HandlerResult {
    let mut dependencies = step.dependency_results().iter();
    let n = match (dependencies.next(), dependencies.next()) {
        (None, _) => integer(&step.context_field::<Value>("n")?, "the context's `n`")?,
        (Some((name, result)), None) => of_dependency(name, result)?,
        (Some(_), Some(_)) => {
            let count = step.dependency_results().len();
            return Err(HandlerError::permanent(format!(
                "one dependency can be squared, the step has {count}"
            ))
            .with_type("input"));
        }
    };
    squared(&n)
}

/// Multiplies `n` of all dependencies, then squares the product.
pub(crate) fn multiply_and_square(step: &StepContext) -> HandlerResult {
    if step.dependency_results().is_empty() {
        return Err(
            HandlerError::permanent("the step has no dependencies to multiply").with_type("input"),
        );
    }
    let mut product = BigInt::from(1);
    for (name, result) in step.dependency_results() {
        product *= of_dependency(name, result)?;
        within_bounds(&product)?;
    }
    squared(&product)
}

fn of_dependency(name: &str, result: &Value) -> Result<BigInt, HandlerError> {
    let n = result.get("n");
    let n = n.ok_or_else(|| {
        HandlerError::permanent(format!("the result of `{name}` has no `n`")).with_type("input")
    })?;
    integer(n, &format!("`n` of `{name}`"))
}

fn squared(n: &BigInt) -> HandlerResult {
    // The square has at most twice the bits: the bound is tested before the work is done.
    if n.bits().saturating_mul(2) > max_bits() {
        return Err(too_long());
    }
    Ok(json!({"n": (n * n).to_string()}))
}

fn within_bounds(n: &BigInt) -> Result<(), HandlerError> {
    if n.bits() > max_bits() {
        Err(too_long())
    } else {
        Ok(())
    }
}

fn max_bits() -> u64 {
    // A decimal digit is log2(10) bits, a little more than 3.32.
    MAX_DIGITS as u64 * 332 / 100
}

fn too_long() -> HandlerError {
    HandlerError::permanent(format!(
        "the number would have more than {MAX_DIGITS} digits"
    ))
    .with_type("number_too_long")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start(n: &Value) -> StepContext {
        StepContext::draft("start", "math.square").with_context(json!({"n": n}))
    }

    fn after(dependencies: &[(&str, Value)]) -> StepContext {
        dependencies.iter().fold(
            StepContext::draft("next", "math.square"),
            |step, (name, result)| step.with_dependency(name, result.clone()),
        )
    }

    #[test]
    fn a_diamond_of_three_ends_in_43046721() {
        let first = square(&start(&json!(3))).expect("3 squares");
        assert_eq!(first, json!({"n": "9"}));
        let branch = square(&after(&[("diamond_start", first)])).expect("9 squares");
        assert_eq!(branch, json!({"n": "81"}));
        let end = multiply_and_square(&after(&[
            ("diamond_branch_b", branch.clone()),
            ("diamond_branch_c", branch),
        ]));
        assert_eq!(end.expect("branches multiply"), json!({"n": "43046721"}));
    }

    #[test]
    fn a_chain_of_four_squares_is_the_sixteenth_power() {
        let mut result = square(&start(&json!(6))).expect("6 squares");
        for _ in 0..3 {
            result = square(&after(&[("before", result)])).expect("it squares");
        }
        assert_eq!(result, json!({"n": "2821109907456"}));
    }

    #[test]
    fn large_and_negative_numbers_stay_exact() {
        let result = square(&start(&json!("-123456789012345678901234567890"))).expect("it squares");
        assert_eq!(
            result,
            json!({"n": "15241578753238836750495351562536198787501905199875019052100"})
        );
    }

    #[test]
    fn bad_input_is_a_permanent_error_that_names_its_place() {
        let no_n = square(&StepContext::draft("start", "math.square")).expect_err("no n");
        assert_eq!(no_n.message(), "the context has no field `n`");
        let no_n = square(&after(&[("left", json!({"m": 1}))])).expect_err("no n");
        assert_eq!(no_n.message(), "the result of `left` has no `n`");
        let two = square(&after(&[
            ("left", json!({"n": 1})),
            ("right", json!({"n": 1})),
        ]))
        .expect_err("two");
        assert_eq!(
            two.message(),
            "one dependency can be squared, the step has 2"
        );
        let none = multiply_and_square(&after(&[])).expect_err("none");
        assert_eq!(none.message(), "the step has no dependencies to multiply");
        for error in [no_n, two, none] {
            assert!(!error.is_retryable());
        }
    }

    #[test]
    fn a_square_that_would_be_too_long_is_refused_before_it_is_computed() {
        let error = squared(&(BigInt::from(1) << 900_000)).expect_err("too long");
        assert_eq!(error.error_type(), Some("number_too_long"));
    }
}
