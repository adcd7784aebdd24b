//! What the checks of a template find, each with its code and its path.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod kinds;
mod meaning;
mod shape;

use serde_json::{Value, json};
use tasker_rules::finding::FindingCode;
use tasker_rules::template::{Checked, Limits, Source, check};

fn checked(document: Value) -> Checked {
    check(Source::Json(document), None, &Limits::default())
}

/// `CODE path` of every error, sorted.
fn errors(document: Value) -> Vec<String> {
    let findings = checked(document).findings;
    let mut errors: Vec<String> = findings
        .iter()
        .filter(|finding| finding.is_error())
        .map(|f| format!("{} {}", f.code, f.path))
        .collect();
    errors.sort();
    errors
}

fn message_of(document: Value, code: FindingCode) -> String {
    let findings = checked(document).findings;
    findings
        .into_iter()
        .find(|finding| finding.code == code)
        .expect("a finding of this code")
        .message
}

/// A template of one step that is `step`, with what a step needs filled in.
fn with_step(step: &Value) -> Value {
    let mut whole = json!({ "name": "a", "handler": { "callable": "x" }, "result_schema": {} });
    whole
        .as_object_mut()
        .unwrap()
        .extend(step.as_object().unwrap().clone());
    json!({ "name": "t", "version": "1", "steps": [whole] })
}

/// A template of steps with the given dependencies.
fn with_graph(steps: &[(&str, &[&str])]) -> Value {
    let steps: Vec<Value> = steps
        .iter()
        .map(|(name, dependencies)| {
            json!({ "name": name, "handler": { "callable": "x" }, "dependencies": dependencies, "result_schema": {} })
        })
        .collect();
    json!({ "name": "t", "version": "1", "steps": steps })
}
