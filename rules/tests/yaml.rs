//! Templates as text: what YAML is read as, and what is said where it is malformed.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use proptest::prelude::*;
use serde_json::{Map, Value, json};
use tasker_rules::finding::{Finding, FindingCode};
use tasker_rules::template::{Checked, Limits, MAX_DEPTH, Source, canonical, check};

fn read(text: &str) -> Checked {
    check(Source::Yaml(text), None, &Limits::default())
}

/// The document that `text` is read as, whatever the checks say of it.
fn document(text: &str) -> Value {
    let checked = read(text);
    checked
        .document
        .unwrap_or_else(|| panic!("{:?}", checked.findings))
}

/// What is said of text that can not be read.
fn complaint(text: &str) -> String {
    let checked = read(text);
    assert!(
        checked.document.is_none() && checked.template.is_none(),
        "{:?}",
        checked.document
    );
    let [
        Finding {
            code: FindingCode::SchemaInvalid,
            path,
            message,
            ..
        },
    ] = &checked.findings[..]
    else {
        panic!("{:?}", checked.findings);
    };
    assert_eq!(path, "");
    message.clone()
}

#[test]
fn malformed_text_is_told_with_line_and_column() {
    for (text, start) in [
        ("name: x\nsteps: [1,\n", "line 2, column 8: "),
        ("a:\n\tb: 1\n", "line 2, column 2: "),
        ("a: {b: 1\nc: 2", "line 2, column 2: "),
        ("a: 'open", "line 1, column 4: "),
        ("a: *nope", "line 1, column 4: "),
        ("a: b: c", "line 1, column 5: "),
        ("{\"a\": 1,, }", "line 1, column 9: "),
        ("a: x\0y", "line 1, column 5: "),
    ] {
        let message = complaint(text);
        assert!(message.starts_with(start), "{text:?}: {message}");
        assert!(!message.contains("at line"), "{message}");
    }
}

#[test]
fn a_key_given_twice_is_refused() {
    assert_eq!(
        complaint("a: 1\nb: 2\na: 3\n"),
        "line 3, column 1: duplicate mapping key `a` is not allowed here"
    );
    assert!(complaint("steps:\n  - {name: a, name: b}\n").starts_with("line 2, column 15: "));
}

#[test]
fn several_documents_are_refused() {
    let message = complaint("name: a\n---\nname: b\n");
    assert_eq!(
        message,
        "line 3, column 1: a template is one YAML document, and another follows"
    );
    assert_eq!(document("---\nname: a\n...\n"), json!({ "name": "a" }));
}

#[test]
fn numbers_keep_the_digits_they_were_written_with() {
    let big = "9".repeat(400);
    let text = format!(
        "a: 123456789012345678901234567890\nb: -18446744073709551616\nc: 0.1000\nd: {big}\ne: &x 2.50\nf: *x\n"
    );
    let document = document(&text);
    let written = |field: &str| document[field].to_string();
    assert_eq!(written("a"), "123456789012345678901234567890");
    assert_eq!(written("b"), "-18446744073709551616");
    assert_eq!(written("c"), "0.1000");
    assert_eq!(written("d"), big);
    assert_eq!(
        (written("e"), written("f")),
        ("2.50".to_owned(), "2.50".to_owned())
    );
}

#[test]
fn numbers_that_json_can_not_hold_are_refused_where_they_are() {
    for text in ["a: .inf", "a: -.inf", "a: .nan", "a: 1e999"] {
        assert!(
            complaint(text).starts_with("line 1, column 4: a number that JSON can not hold"),
            "{text}"
        );
    }
}

#[test]
fn only_what_yaml_1_2_calls_a_boolean_or_a_number_is_one() {
    let document = document(
        "{a: yes, b: on, c: 0755, d: 1_000, e: 2024-01-01, f: true, g: ~, h: 1e3, i: 0x10, j: '1'}",
    );
    let expected = json!({
        "a": "yes", "b": "on", "c": "0755", "d": "1_000", "e": "2024-01-01", "f": true, "g": null,
        "h": 1000.0, "i": 16, "j": "1",
    });
    assert_eq!(document, expected);
}

#[test]
fn anchors_and_merges_stand_for_their_content() {
    let text = "a: &a {x: 1, y: [2]}\nb: *a\nc: {<<: *a, x: 3}\n";
    let expected =
        json!({ "a": { "x": 1, "y": [2] }, "b": { "x": 1, "y": [2] }, "c": { "x": 3, "y": [2] } });
    assert_eq!(document(text), expected);
    let mut shared = String::from("r: &r {max_attempts: 5}\nsteps:\n");
    shared.push_str(&"  - {retry: *r}\n".repeat(10_000));
    assert_eq!(document(&shared)["steps"].as_array().unwrap().len(), 10_000);
}

#[test]
fn aliases_that_stand_for_a_mountain_are_refused() {
    let levels = (1..20).map(|level| {
        let aliases = vec![format!("*a{}", level - 1); 10].join(", ");
        format!("a{level}: &a{level} [{aliases}]\n")
    });
    let text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned() + &levels.collect::<String>();
    assert!(complaint(&text).contains("larger, deeper or fuller of aliases"));
    assert!(complaint("a: &a [*a]").starts_with("line 1, column "));
}

/// Runs a test with the stack of a process's main thread, which a build without optimisation needs at the full depth.
fn with_a_whole_stack(test: fn()) {
    let thread = std::thread::Builder::new().stack_size(8 << 20).spawn(test);
    thread.unwrap().join().unwrap();
}

#[test]
fn nesting_without_end_is_refused() {
    with_a_whole_stack(|| {
        for opening in ["[", "- ", "{a: ", "? "] {
            assert!(complaint(&opening.repeat(100_000)).starts_with("line "));
        }
        let nested = |levels| format!("{{\"a\": {}1{}}}", "[".repeat(levels), "]".repeat(levels));
        assert!(document(&nested(MAX_DEPTH - 1)).is_object());
        assert!(complaint(&nested(MAX_DEPTH)).starts_with("line 1, column "));
        let from_json = |levels| {
            let document = serde_json::from_str(&nested(levels)).unwrap();
            check(Source::Json(document), None, &Limits::default()).findings
        };
        let too_deep = |finding: &Finding| finding.message.contains("nested deeper");
        assert!(!from_json(MAX_DEPTH - 1).iter().any(too_deep));
        assert!(from_json(MAX_DEPTH).iter().any(too_deep));
    });
}

#[test]
fn an_empty_text_is_a_document_of_the_wrong_shape() {
    for text in ["", "\n", "# only a comment\n", "---\n"] {
        let checked = read(text);
        assert_eq!(checked.findings[0].code, FindingCode::SchemaInvalid);
        assert!(checked.template.is_none());
    }
}

#[test]
fn canonical_text_is_one_for_equal_content() {
    let one = json!({ "b": [1, 2.50, null], "a": { "z": "ä\n", "y": true } });
    assert_eq!(
        canonical(&one),
        "{\"a\":{\"y\":true,\"z\":\"ä\\n\"},\"b\":[1,2.5,null]}"
    );
    for spellings in [
        &["1", "1.0", "1e0", "10e-1", "0.1e1"][..],
        &["0", "-0", "0.000", "0e5"],
        &["1200", "1.2e3", "12E+2", "1200.00"],
        &["-0.05", "-5e-2", "-0.0500"],
        &["1e60", "10e59", &format!("1{}", "0".repeat(60))],
        &["1.5e-60", "15e-61"],
    ] {
        let texts: Vec<String> = spellings
            .iter()
            .map(|text| canonical(&serde_json::from_str::<Value>(text).unwrap()))
            .collect();
        assert!(
            texts.iter().all(|text| text == &texts[0]),
            "{spellings:?}: {texts:?}"
        );
    }
    let different = [
        "1",
        "10",
        "1.1",
        "-1",
        "\"1\"",
        "123456789012345678901",
        "123456789012345678902",
    ];
    let texts: std::collections::BTreeSet<String> = different
        .iter()
        .map(|text| canonical(&serde_json::from_str::<Value>(text).unwrap()))
        .collect();
    assert_eq!(texts.len(), different.len());
}

/// Any JSON without characters that YAML does not allow in text.
fn values() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        "-?[1-9][0-9]{0,40}(\\.[0-9]{1,5})?".prop_map(|text| serde_json::from_str(&text).unwrap()),
        "[ -~äß€\n\t]{0,12}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 40, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::btree_map("[ -~]{0,8}", inner, 0..6)
                .prop_map(|map| Value::Object(map.into_iter().collect::<Map<_, _>>())),
        ]
    })
}

/// The same value with the keys of every object in another order.
fn reversed(value: &Value) -> String {
    match value {
        Value::Array(items) => format!(
            "[{}]",
            items.iter().map(reversed).collect::<Vec<_>>().join(", ")
        ),
        Value::Object(map) => {
            let entries: Vec<String> = map
                .iter()
                .rev()
                .map(|(key, item)| format!("{}: {}", json!(key), reversed(item)))
                .collect();
            format!("{{{}}}", entries.join(",\n "))
        }
        other => other.to_string(),
    }
}

proptest! {
    #[test]
    fn json_text_in_any_order_is_read_as_yaml_with_the_same_content(value in values()) {
        let wrapped = json!({ "value": value });
        let text = reversed(&wrapped);
        let read = document(&text);
        prop_assert_eq!(canonical(&read), canonical(&wrapped), "{}", text);
        let from_json: Value = serde_json::from_str(&text).unwrap();
        prop_assert_eq!(canonical(&from_json), canonical(&wrapped));
    }

    #[test]
    fn no_text_makes_the_reader_panic(text in "[ -~\n\t\0ä:\\[\\]{}&*!|>'\"#%@`-]{0,80}") {
        let checked = read(&text);
        prop_assert!(checked.template.is_none());
        prop_assert!(!checked.findings.is_empty());
    }
}
