//! Integers of any size, as JSON carries them.

use num_bigint::BigInt;
use serde_json::Value;
use tasker_worker_runtime::HandlerError;

/// A longer number couldn't be stored as a result, and would hold its thread for seconds.
pub(crate) const MAX_DIGITS: usize = 500_000;

/// Reads an integer from a JSON number or from a string of decimal digits.
pub(crate) fn integer(value: &Value, place: &str) -> Result<BigInt, HandlerError> {
    let text = match value {
        Value::Number(number) => without_empty_fraction(number.to_string()),
        Value::String(text) => text.clone(),
        other => return Err(unfit(place, &format!("{} isn't a number", kind(other)))),
    };
    if text.len() > MAX_DIGITS {
        return Err(unfit(
            place,
            &format!("{} digits are more than {MAX_DIGITS}", text.len()),
        ));
    }
    let digits = text.strip_prefix('-').unwrap_or(&text);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(unfit(
            place,
            &format!(
                "`{}` isn't an integer",
                text.chars().take(40).collect::<String>()
            ),
        ));
    }
    text.parse()
        .map_err(|_| unfit(place, "it isn't an integer"))
}

/// JSON Schema counts 6.0 among the integers.
fn without_empty_fraction(text: String) -> String {
    match text.split_once('.') {
        Some((whole, fraction)) if fraction.bytes().all(|byte| byte == b'0') => whole.to_owned(),
        _ => text,
    }
}

fn unfit(place: &str, why: &str) -> HandlerError {
    HandlerError::permanent(format!(
        "{place} must be an integer or a string of digits: {why}"
    ))
    .with_type("input")
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn numbers_and_strings_of_any_size_are_read_exactly() {
        let large = "123456789012345678901234567890";
        let from_number: Value = serde_json::from_str(large).expect("digits are JSON");
        for value in [from_number, json!(large)] {
            assert_eq!(integer(&value, "n").expect("an integer").to_string(), large);
        }
        assert_eq!(
            integer(&json!(-7), "n").expect("an integer"),
            BigInt::from(-7)
        );
        let with_fraction: Value = serde_json::from_str("6.00").expect("a number");
        assert_eq!(
            integer(&with_fraction, "n").expect("an integer"),
            BigInt::from(6)
        );
    }

    #[test]
    fn what_is_not_an_integer_is_a_permanent_error_that_says_what_it_is() {
        for (value, said) in [
            (json!(1.5), "`1.5` isn't an integer"),
            (json!("six"), "`six` isn't an integer"),
            (json!("+6"), "`+6` isn't an integer"),
            (json!(""), "`` isn't an integer"),
            (json!([6]), "an array isn't a number"),
            (Value::Null, "null isn't a number"),
            (
                json!("1".repeat(MAX_DIGITS + 1)),
                "500001 digits are more than 500000",
            ),
        ] {
            let error = integer(&value, "the context's `n`").expect_err("not an integer");
            assert!(!error.is_retryable());
            assert!(error.message().ends_with(said), "{error}");
            assert!(
                error
                    .message()
                    .starts_with("the context's `n` must be an integer"),
                "{error}"
            );
        }
    }
}
