//! JSON written as YAML. By hand, because a number must keep every digit and a text must come back as the text it was.

use std::fmt::Write as _;

use serde_json::Value;

/// A document in block style, which any reader of YAML 1.2 takes for the same value.
pub(super) fn yaml(value: &Value) -> String {
    let mut text = String::new();
    if is_block(value) {
        block(&mut text, value, 0, true);
    } else {
        text.push_str(&scalar(value));
        text.push('\n');
    }
    text
}

/// Whether it takes lines of its own.
fn is_block(value: &Value) -> bool {
    match value {
        Value::Object(fields) => !fields.is_empty(),
        Value::Array(items) => !items.is_empty(),
        _ => false,
    }
}

/// Writes the entries of an object or an array; the first goes on in a line that has begun, or begins one.
fn block(text: &mut String, value: &Value, indent: usize, begins_line: bool) {
    let mut begins_line = begins_line;
    let mut begin = |text: &mut String| {
        if begins_line {
            text.push_str(&" ".repeat(indent));
        }
        begins_line = true;
    };
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                begin(text);
                text.push_str(&string(name));
                text.push(':');
                if is_block(value) {
                    text.push('\n');
                    block(text, value, indent + 2, true);
                } else {
                    end_line(text, value);
                }
            }
        }
        Value::Array(items) => {
            for item in items {
                begin(text);
                text.push('-');
                if is_block(item) {
                    text.push(' ');
                    block(text, item, indent + 2, false);
                } else {
                    end_line(text, item);
                }
            }
        }
        _ => {}
    }
}

fn end_line(text: &mut String, value: &Value) {
    text.push(' ');
    text.push_str(&scalar(value));
    text.push('\n');
}

fn scalar(value: &Value) -> String {
    match value {
        Value::String(text) => string(text),
        Value::Object(_) => "{}".to_owned(),
        Value::Array(_) => "[]".to_owned(),
        other => other.to_string(),
    }
}

/// A text without quotes where nothing else can be read in it; else as JSON quotes it, which YAML understands.
fn string(text: &str) -> String {
    if is_plain(text) {
        return text.to_owned();
    }
    let mut quoted = String::with_capacity(text.len() + 2);
    for c in Value::from(text).to_string().chars() {
        // JSON lets these stand, YAML doesn't.
        if c.is_control() || matches!(c, '\u{FEFF}' | '\u{FFFE}' | '\u{FFFF}') {
            let _ = write!(quoted, "\\u{:04x}", u32::from(c));
        } else {
            quoted.push(c);
        }
    }
    quoted
}

fn is_plain(text: &str) -> bool {
    /// What a reader takes for something else than a text, of YAML 1.1 too.
    const WORDS: [&str; 9] = ["true", "false", "null", "yes", "no", "on", "off", "y", "n"];
    let begins_well = text.starts_with(|c: char| c.is_ascii_alphabetic());
    let all_plain = text
        .chars()
        .all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '/'));
    begins_well && all_plain && !WORDS.contains(&text.to_ascii_lowercase().as_str())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn objects_and_arrays_are_blocks() {
        let value = json!({"a": {"b": [1, {"c": null, "d": []}], "e": {}}, "f": [[true]]});
        assert_eq!(
            yaml(&value),
            "a:\n  b:\n    - 1\n    - c: null\n      d: []\n  e: {}\nf:\n  - - true\n"
        );
        assert_eq!(yaml(&json!([])), "[]\n");
    }

    #[test]
    fn texts_that_could_be_something_else_are_quoted() {
        for (text, written) in [
            ("steps_in_process", "steps_in_process"),
            ("shop/order", "shop/order"),
            ("yes", "\"yes\""),
            ("", "\"\""),
            ("2030-01-01", "\"2030-01-01\""),
            ("- a: b", "\"- a: b\""),
            ("two\nlines", "\"two\\nlines\""),
            ("\u{7f}\u{feff}", "\"\\u007f\\ufeff\""),
        ] {
            assert_eq!(string(text), written);
        }
    }

    #[test]
    fn what_is_written_is_read_again_as_it_was() {
        let value = json!({
            "key: with": ["", " a", "#", "~", "null", "0x1f", "1e3", ".5", "a\tb\u{0}", "é", "=", "a: b # c"],
            "numbers": [0, -1.5, 12_345_678_901_i64], "nested": [[], {}, [[1], {"a": [2]}]], "none": null,
        });
        let read: Value = serde_saphyr::from_str(&yaml(&value)).expect("it is YAML");
        assert_eq!(read, value, "{}", yaml(&value));
    }

    #[test]
    fn a_number_keeps_every_digit() {
        let value: Value =
            serde_json::from_str("[123456789012345678901234567890.10]").expect("JSON");
        assert_eq!(yaml(&value), "- 123456789012345678901234567890.10\n");
    }
}
