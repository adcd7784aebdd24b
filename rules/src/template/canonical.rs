//! One text for one content.

use std::fmt::Write as _;

use serde_json::{Number, Value};

/// JSON text that is the same for the same content: keys sorted, no spaces, equal numbers written alike (`1.0`, `1` and
/// `1e0` are `1`).
#[must_use]
pub fn canonical(value: &Value) -> String {
    let mut text = String::new();
    write(value, &mut text);
    text
}

fn write(value: &Value, text: &mut String) {
    match value {
        Value::Null | Value::Bool(_) | Value::String(_) => {
            let _ = write!(text, "{value}");
        }
        Value::Number(number) => text.push_str(&plain(number)),
        Value::Array(items) => {
            text.push('[');
            for (position, item) in items.iter().enumerate() {
                if position > 0 {
                    text.push(',');
                }
                write(item, text);
            }
            text.push(']');
        }
        Value::Object(map) => {
            let mut entries: Vec<_> = map.iter().collect();
            entries.sort_unstable_by_key(|&(key, _)| key);
            text.push('{');
            for (position, (key, item)) in entries.into_iter().enumerate() {
                if position > 0 {
                    text.push(',');
                }
                let _ = write!(text, "{}:", Value::String(key.clone()));
                write(item, text);
            }
            text.push('}');
        }
    }
}

/// The fields whose content is the author's own; it is passed on as it is.
const FREE_FORM: &[&str] = &[
    "initialization",
    "input_schema",
    "result_schema",
    "schema",
    "on_timeout",
];

/// The document with the template's own numbers in their one form, so that a `max_attempts` of `3.0` is read as the
/// integer it is.
pub(super) fn with_plain_numbers(value: &Value) -> Value {
    match value {
        Value::Number(number) => {
            Value::Number(serde_json::from_str(&plain(number)).unwrap_or_else(|_| number.clone()))
        }
        Value::Array(items) => items.iter().map(with_plain_numbers).collect(),
        Value::Object(map) => map
            .iter()
            .map(|(key, item)| {
                let is_free = FREE_FORM.contains(&key.as_str());
                (
                    key.clone(),
                    if is_free {
                        item.clone()
                    } else {
                        with_plain_numbers(item)
                    },
                )
            })
            .collect(),
        other => other.clone(),
    }
}

/// The most digits a number is written out with; beyond them it is written with an exponent.
const MAX_DIGITS: i64 = 40;

/// A number's one text: all its digits, no needless zeros.
fn plain(number: &Number) -> String {
    let text = number.to_string();
    let (sign, unsigned) = text
        .strip_prefix('-')
        .map_or(("", text.as_str()), |rest| ("-", rest));
    let (mantissa, exponent) = unsigned.split_once(['e', 'E']).unwrap_or((unsigned, "0"));
    let Ok(exponent) = exponent.parse::<i64>() else {
        return text;
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let all = format!("{whole}{fraction}");
    let significant = all.trim_start_matches('0');
    let digits = significant.trim_end_matches('0');
    if digits.is_empty() {
        return "0".to_owned();
    }
    // The number is `digits` times ten to the power of `scale`.
    let dropped = (significant.len() - digits.len()) as i64;
    let scale = exponent
        .saturating_sub(fraction.len() as i64)
        .saturating_add(dropped);
    let length = digits.len() as i64;
    match scale {
        0 => format!("{sign}{digits}"),
        1.. if scale <= MAX_DIGITS => format!("{sign}{digits}{}", "0".repeat(scale as usize)),
        _ if scale < 0 && -scale < length => {
            let (whole, fraction) = digits.split_at((length + scale) as usize);
            format!("{sign}{whole}.{fraction}")
        }
        _ if scale < 0 && -scale <= MAX_DIGITS => {
            format!("{sign}0.{}{digits}", "0".repeat((-scale - length) as usize))
        }
        _ => format!("{sign}{digits}e{scale}"),
    }
}
