//! What PostgreSQL's `jsonb` can't hold though JSON can: a NUL in a text, and a number beyond `numeric`.
//!
//! Such a value fails the statement that carries it before any function of the database sees it. In a batch of outcomes
//! that would punish the others, so the bad one is sorted out on this side.

use serde_json::{Map, Number, Value};

use crate::workers::{Outcome, Verdict, VerdictKind};

/// `numeric` holds this many digits before the decimal point …
const MAX_INTEGER_DIGITS: i64 = 131_072;
/// … and this many after it.
const MAX_FRACTION_DIGITS: i64 = 16_383;

/// The outcomes that can be sent, and the answers to the others with their places in the batch.
pub(crate) fn split(outcomes: &[Outcome]) -> (Vec<&Outcome>, Vec<(usize, Verdict)>) {
    let mut sent = Vec::with_capacity(outcomes.len());
    let mut refused = Vec::new();
    for (place, outcome) in outcomes.iter().enumerate() {
        match fault_of(outcome) {
            None => sent.push(outcome),
            Some(fault) => refused.push((place, refusal(outcome, fault))),
        }
    }
    (sent, refused)
}

/// Puts the refused answers back in their places.
pub(crate) fn merge(mut verdicts: Vec<Verdict>, refused: Vec<(usize, Verdict)>) -> Vec<Verdict> {
    for (place, verdict) in refused {
        verdicts.insert(place.min(verdicts.len()), verdict);
    }
    verdicts
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    Nul,
    Number,
}

fn refusal(outcome: &Outcome, fault: Fault) -> Verdict {
    let (code, message) = match fault {
        Fault::Nul => (
            "22P05",
            "a text holds a NUL character, which PostgreSQL can't store",
        ),
        Fault::Number => (
            "22003",
            "a number is larger or finer than PostgreSQL can store",
        ),
    };
    Verdict {
        step_uuid: Some(outcome.step_uuid),
        attempt: Some(outcome.attempt),
        verdict: VerdictKind::Invalid,
        code: Some(code.to_owned()),
        message: Some(message.to_owned()),
    }
}

fn fault_of(outcome: &Outcome) -> Option<Fault> {
    let error = outcome.error.as_ref().and_then(|error| {
        let texts = [Some(error.message.as_str()), error.r#type.as_deref()];
        if texts.into_iter().flatten().any(|text| text.contains('\0')) {
            return Some(Fault::Nul);
        }
        error.detail.as_ref().and_then(fault_in)
    });
    error
        .or_else(|| outcome.result.as_ref().and_then(fault_in))
        .or_else(|| outcome.checkpoint.as_ref().and_then(fault_in))
        .or_else(|| fault_in_fields(&outcome.events))
}

fn fault_in(value: &Value) -> Option<Fault> {
    match value {
        Value::Null | Value::Bool(_) => None,
        Value::Number(number) => (!fits_numeric(number)).then_some(Fault::Number),
        Value::String(text) => text.contains('\0').then_some(Fault::Nul),
        Value::Array(items) => items.iter().find_map(fault_in),
        Value::Object(fields) => fault_in_fields(fields),
    }
}

fn fault_in_fields(fields: &Map<String, Value>) -> Option<Fault> {
    fields.iter().find_map(|(name, value)| {
        if name.contains('\0') {
            Some(Fault::Nul)
        } else {
            fault_in(value)
        }
    })
}

/// Counts the digits that the number would have when written out without an exponent.
fn fits_numeric(number: &Number) -> bool {
    let text = number.as_str().trim_start_matches('-');
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        None => (text, 0),
        Some((mantissa, exponent)) => match exponent.parse::<i64>() {
            Ok(exponent) => (mantissa, exponent),
            Err(_) => return false,
        },
    };
    let (integer, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let integer_digits = (integer.len() as i64).saturating_add(exponent);
    let fraction_digits = (fraction.len() as i64).saturating_sub(exponent);
    integer_digits <= MAX_INTEGER_DIGITS && fraction_digits <= MAX_FRACTION_DIGITS
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use uuid::Uuid;

    use super::*;

    fn complete(result: Value) -> Outcome {
        Outcome::complete(Uuid::nil(), 1, result)
    }

    fn number(text: &str) -> Value {
        serde_json::from_str(text).expect("a JSON number")
    }

    #[test]
    fn a_nul_is_found_in_texts_names_and_nested_values() {
        for value in [json!("a\0b"), json!({"a\0": 1}), json!([{"x": ["\0"]}])] {
            assert_eq!(fault_in(&value), Some(Fault::Nul), "{value}");
        }
    }

    #[test]
    fn numbers_within_numeric_are_kept_and_those_beyond_are_refused() {
        for text in [
            "0",
            "-12.50",
            "1e131071",
            "123456789012345678901234567890",
            "1e-16383",
        ] {
            assert_eq!(fault_in(&number(text)), None, "{text}");
        }
        for text in [
            "1e131072",
            "1e-16384",
            "1e99999999999999999999",
            "-1e400000",
        ] {
            assert_eq!(fault_in(&number(text)), Some(Fault::Number), "{text}");
        }
    }

    #[test]
    fn a_bad_outcome_is_answered_in_its_place_and_the_others_are_sent() {
        let outcomes = [
            complete(json!(1)),
            complete(json!("\0")),
            complete(json!(3)),
        ];
        let (sent, refused) = split(&outcomes);
        assert_eq!(sent, [&outcomes[0], &outcomes[2]]);
        let accepted = Verdict {
            step_uuid: Some(Uuid::nil()),
            attempt: Some(1),
            verdict: VerdictKind::Accepted,
            code: None,
            message: None,
        };
        let merged = merge(vec![accepted.clone(), accepted], refused);
        let kinds: Vec<_> = merged.iter().map(|verdict| verdict.verdict).collect();
        assert_eq!(
            kinds,
            [
                VerdictKind::Accepted,
                VerdictKind::Invalid,
                VerdictKind::Accepted
            ]
        );
        assert_eq!(merged[1].code.as_deref(), Some("22P05"));
    }

    #[test]
    fn an_error_with_a_nul_in_its_message_is_refused_too() {
        let error = crate::StepError {
            message: "\0".to_owned(),
            ..Default::default()
        };
        assert_eq!(
            fault_of(&Outcome::fail(Uuid::nil(), 1, error)),
            Some(Fault::Nul)
        );
    }
}
