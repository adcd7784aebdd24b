//! What holds for all languages.

use serde_json::{Value, json};
use tasker_rules::template::{Limits, Source, check};

use super::*;

const LANGUAGES: [Language; 4] = [
    Language::Rust,
    Language::Python,
    Language::TypeScript,
    Language::Ruby,
];

fn template(input_schema: &Value) -> Template {
    let document = json!({
        "name": "odd", "version": "1.0.0", "input_schema": input_schema,
        "steps": [{"name": "only", "handler": {"callable": "odd.only"}}],
    });
    let checked = check(Source::Json(document), None, &Limits::default());
    checked
        .template
        .unwrap_or_else(|| panic!("{:?}", checked.findings))
}

#[test]
fn the_order_of_a_schema_changes_nothing() {
    let one: Value = serde_json::from_str(
        r#"{"properties": {"b": {"type": "string"}, "a": {"enum": ["x"]}}, "type": "object"}"#,
    )
    .expect("JSON");
    let other =
        json!({"type": "object", "properties": {"a": {"enum": ["x"]}, "b": {"type": "string"}}});
    for language in LANGUAGES {
        assert_eq!(
            text(&template(&one), language),
            text(&template(&other), language)
        );
    }
}

#[test]
fn a_description_never_leaves_its_comment() {
    let escapes = "end */ \"\"\" \u{2028}let a = 1;\r\nraise\u{202e}";
    let schema = json!({"type": "object", "description": escapes, "properties": {"a": {"type": "string", "description": escapes}}});
    for language in LANGUAGES {
        let text = text(&template(&schema), language);
        let lines = text
            .lines()
            .map(str::trim)
            .filter(|line| line.contains("let a = 1;"));
        // In Python, some are in a text in quotes.
        let is_told = |line: &str| {
            ["///", "#", "*", "let a = 1;"]
                .iter()
                .any(|mark| line.starts_with(mark))
        };
        assert!(
            lines.clone().count() > 1 && lines.clone().all(is_told),
            "{text}"
        );
        if language == Language::TypeScript {
            assert_eq!(
                text.matches("*/").count(),
                text.matches("/**").count(),
                "{text}"
            );
        }
    }
}

#[test]
fn a_name_that_would_be_code_is_text() {
    let schema = json!({"type": "object", "properties": {"a\"; #{exit} ${x}\n": {"enum": ["#{exit}", "\"", "\\"]}}});
    assert!(text(&template(&schema), Language::Ruby).contains("\\#{exit}"));
    assert!(text(&template(&schema), Language::Rust).contains(r#"rename = "a\"; #{exit} ${x}\n""#));
    assert!(text(&template(&schema), Language::TypeScript).contains(r#""a\"; #{exit} ${x}\n"?: "#));
}

#[test]
fn alternatives_of_alternatives_without_number_come_to_an_end() {
    let both = json!([{"$ref": "#"}, {"$ref": "#"}, {"type": "object", "properties": {"b": {"$ref": "#"}}}]);
    let schema = json!({"type": "object", "properties": {"a": {"type": "string"}}, "oneOf": both});
    assert!(!text(&template(&schema), Language::Rust).is_empty());
}
