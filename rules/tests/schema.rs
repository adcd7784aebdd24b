//! JSON Schemas of contexts and results.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use serde_json::{Value, json};
use tasker_rules::schema::{MAX_VIOLATIONS, Schema, top_level_defaults};

fn paths(schema: &Value, value: &Value) -> Vec<String> {
    Schema::compile(schema)
        .unwrap()
        .violations(value)
        .into_iter()
        .map(|violation| violation.path)
        .collect()
}

fn problems(schema: &Value) -> Vec<(String, String)> {
    let error = Schema::compile(schema).unwrap_err();
    assert!(error.to_string().starts_with("not a JSON Schema: "));
    error
        .problems
        .into_iter()
        .map(|problem| (problem.path, problem.message))
        .collect()
}

#[test]
fn each_violation_is_told_with_its_path() {
    let schema = json!({
        "type": "object", "required": ["id"],
        "properties": {
            "mail": { "type": "string", "format": "email" },
            "items": { "type": "array", "items": { "properties": { "n": { "type": "integer", "minimum": 1 } } } },
        },
    });
    let value = json!({ "mail": "nobody", "items": [{ "n": 1 }, { "n": 0 }, { "n": "x" }] });
    let mut found = paths(&schema, &value);
    found.sort();
    assert_eq!(found, ["", "items[1].n", "items[2].n", "mail"]);
    let whole = json!({ "id": 1, "mail": "a@example.com", "items": [] });
    let schema = Schema::compile(&schema).unwrap();
    assert!(schema.is_satisfied_by(&whole) && schema.violations(&whole).is_empty());
    assert!(!schema.is_satisfied_by(&value));
}

#[test]
fn formats_are_checked_in_every_draft() {
    for draft in [
        "http://json-schema.org/draft-07/schema#",
        "https://json-schema.org/draft/2020-12/schema",
    ] {
        for (format, good, bad) in [
            ("date-time", "2026-11-24T08:00:00Z", "yesterday"),
            ("uuid", "0190163d-8694-739b-aea5-966c26f8ad91", "1234"),
            ("uri", "https://example.com/a", "no uri"),
            ("ipv4", "10.0.0.1", "10.0.0.256"),
        ] {
            let schema = json!({ "$schema": draft, "format": format });
            assert!(paths(&schema, &json!(good)).is_empty(), "{draft} {format}");
            // Draft 7 does not know uuid; what a draft does not know is not checked.
            if format != "uuid" || draft.contains("2020") {
                assert_eq!(paths(&schema, &json!(bad)), [""], "{draft} {format}");
            }
        }
    }
}

#[test]
fn large_numbers_are_compared_exactly() {
    let schema: Value =
        serde_json::from_str(r#"{"type": "integer", "maximum": 123456789012345678901234567890}"#)
            .unwrap();
    let schema = Schema::compile(&schema).unwrap();
    let number = |text: &str| serde_json::from_str::<Value>(text).unwrap();
    assert!(
        schema
            .violations(&number("123456789012345678901234567890"))
            .is_empty()
    );
    assert_eq!(
        schema
            .violations(&number("123456789012345678901234567891"))
            .len(),
        1
    );
    assert_eq!(schema.violations(&number("0.5")).len(), 1);
}

#[test]
fn the_list_of_violations_and_their_messages_are_bounded() {
    let schema = json!({ "items": { "type": "integer", "maximum": 0 } });
    let value = Value::from(vec![json!(1); 1000]);
    assert_eq!(paths(&schema, &value).len(), MAX_VIOLATIONS);
    let long = json!("x".repeat(1_000_000));
    let violations = Schema::compile(&json!({ "enum": [1, 2] }))
        .unwrap()
        .violations(&long);
    assert!(
        violations[0].message.chars().count() < 400,
        "{}",
        violations[0].message
    );
    let long_enum = json!({ "enum": (0..10_000).collect::<Vec<_>>() });
    let violations = Schema::compile(&long_enum).unwrap().violations(&json!("x"));
    assert!(violations[0].message.chars().count() < 400);
    let nul = Schema::compile(&json!({ "additionalProperties": false }))
        .unwrap()
        .violations(&json!({ "a\0b": 1 }));
    assert!(!nul[0].message.contains('\0'));
}

#[test]
fn what_is_no_schema_is_told_with_the_place_in_it() {
    assert_eq!(problems(&json!({ "type": "nonsense" }))[0].0, "type");
    assert_eq!(
        problems(&json!({ "properties": { "a": { "minLength": -1 } } }))[0].0,
        "properties.a.minLength"
    );
    assert_eq!(problems(&json!({ "pattern": "(" }))[0].0, "pattern");
    assert_eq!(problems(&json!(5))[0].0, "");
    assert_eq!(
        problems(&json!({ "$schema": "https://example.com/mine" }))[0].0,
        "$schema"
    );
    assert_eq!(problems(&json!({ "$schema": 5 }))[0].0, "$schema");
    let two = problems(&json!({ "type": 5, "required": "a" }));
    assert_eq!(two.len(), 2);
}

#[test]
fn references_lead_inside_the_schema_only() {
    let inner = json!({ "$defs": { "n": { "type": "integer" } }, "properties": { "n": { "$ref": "#/$defs/n" } } });
    assert_eq!(paths(&inner, &json!({ "n": "x" })), ["n"]);
    for reference in [
        "https://example.com/s.json",
        "file:///etc/passwd",
        "other.json",
        "#/$defs/missing",
    ] {
        let found = problems(&json!({ "$ref": reference }));
        assert!(
            found[0].1.contains("nothing is fetched"),
            "{reference}: {found:?}"
        );
    }
    // A schema that refers to itself describes trees.
    let tree =
        json!({ "properties": { "children": { "items": { "$ref": "#" } } }, "required": ["name"] });
    assert_eq!(
        paths(
            &tree,
            &json!({ "name": 1, "children": [{ "name": 2 }, {}] })
        ),
        ["children[1]"]
    );
}

#[test]
fn a_pattern_that_never_ends_is_given_up() {
    let schema = Schema::compile(&json!({ "pattern": "^(?=(a+)+$)(a|aa)+\\1b$" })).unwrap();
    assert_eq!(schema.violations(&json!("a".repeat(5_000))).len(), 1);
}

#[test]
fn defaults_of_the_top_level_are_listed_by_name() {
    let schema = json!({ "properties": {
        "n": { "type": "integer", "default": 6 },
        "kind": { "default": null },
        "inner": { "properties": { "deep": { "default": 1 } } },
        "odd": true,
    } });
    assert_eq!(
        Value::Object(top_level_defaults(&schema)),
        json!({ "n": 6, "kind": null })
    );
    assert!(top_level_defaults(&json!(true)).is_empty());
    assert!(top_level_defaults(&json!({ "properties": [] })).is_empty());
}
