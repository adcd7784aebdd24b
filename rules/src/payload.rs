//! The shape of a payload (context, result, error, checkpoint) as text, without parsing it.

/// How deeply JSON text is nested: 0 for a number or a string, 1 for `{}`, 2 for `{"a": []}`. The text is taken to be
/// valid JSON; brackets inside strings don't count.
#[must_use]
pub fn depth(json: &str) -> usize {
    let (mut depth, mut deepest) = (0_usize, 0_usize);
    let (mut in_string, mut escaped) = (false, false);
    for byte in json.bytes() {
        if in_string {
            match byte {
                _ if escaped => escaped = false,
                b'\\' => escaped = true,
                b'"' => in_string = false,
                _ => {}
            }
            continue;
        }
        match byte {
            b'"' => in_string = true,
            b'{' | b'[' => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b'}' | b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

#[cfg(test)]
mod tests {
    use super::depth;

    #[test]
    fn scalars_have_no_depth() {
        assert_eq!(depth("12"), 0);
        assert_eq!(depth("\"[[{{\""), 0);
    }

    #[test]
    fn objects_and_arrays_count_alike_and_siblings_once() {
        assert_eq!(depth("{}"), 1);
        assert_eq!(depth(r#"{"a": [1, {"b": []}], "c": [[]]}"#), 4);
    }

    #[test]
    fn brackets_and_quotes_inside_strings_do_not_count() {
        assert_eq!(depth(r#"["a\"[[", "\\", "{"]"#), 1);
    }

    #[test]
    fn a_very_deep_payload_is_measured_without_recursion() {
        let text = format!("{}{}", "[".repeat(1_000_000), "]".repeat(1_000_000));
        assert_eq!(depth(&text), 1_000_000);
    }
}
