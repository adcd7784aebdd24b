//! Whether a document has the shape of the published schema.

use std::sync::LazyLock;

use jsonschema::error::ValidationErrorKind as Kind;
use jsonschema::{ValidationError, Validator};
use serde_json::{Map, Value};

use super::published::published;
use super::step::StepType;
use crate::finding::{Finding, FindingCode};
use crate::nearest::did_you_mean;
use crate::path;
use crate::schema::describe;

/// `None` only if the published schema were no schema, which a test rules out.
static VALIDATOR: LazyLock<Option<Validator>> =
    LazyLock::new(|| jsonschema::options().offline().build(published()).ok());

/// Everything about the document that is not of the required shape.
pub(super) fn findings(document: &Value) -> Vec<Finding> {
    let Some(validator) = VALIDATOR.as_ref() else {
        return vec![Finding::new(
            FindingCode::SchemaInvalid,
            "",
            "the published schema is not a schema",
        )];
    };
    let mut findings = Vec::new();
    for error in validator.iter_errors(document) {
        push(&error, document, &mut findings);
    }
    findings
}

fn push(error: &ValidationError<'_>, document: &Value, findings: &mut Vec<Finding>) {
    let pointer = error.instance_path().as_str();
    let here = path::of_pointer(pointer, document);
    let last = pointer.rsplit('/').next().unwrap_or_default();
    match error.kind() {
        Kind::AdditionalProperties { unexpected } => {
            let known = known_fields(pointer, document);
            for name in unexpected {
                let hint = did_you_mean(name, known.iter().copied());
                let message = format!("there is no field {name:?} here{hint}");
                findings.push(Finding::new(
                    FindingCode::UnknownField,
                    path::field(&here, name),
                    message,
                ));
            }
        }
        Kind::Required { property } => {
            let name = property.as_str().unwrap_or_default();
            let code = if name == "callable" {
                FindingCode::EmptyCallable
            } else {
                FindingCode::SchemaInvalid
            };
            findings.push(Finding::new(
                code,
                path::field(&here, name),
                format!("{name} is missing"),
            ));
        }
        Kind::Pattern { .. } if matches!(last, "callable" | "method") => {
            findings.push(Finding::new(
                FindingCode::EmptyCallable,
                here,
                format!("{last} is empty"),
            ));
        }
        Kind::Pattern { .. } => {
            let allowed = description(pointer, document);
            let message = format!("{} is not allowed here. {allowed}", shown(error.instance()));
            findings.push(Finding::new(FindingCode::NameInvalid, here, message));
        }
        Kind::Enum { options } => {
            let names = || {
                options
                    .as_array()
                    .into_iter()
                    .flatten()
                    .filter_map(Value::as_str)
            };
            let given = error.instance();
            let hint = given
                .as_str()
                .map(|given| did_you_mean(given, names()))
                .unwrap_or_default();
            let message = format!(
                "{} is not one of {}{hint}",
                shown(given),
                names().collect::<Vec<_>>().join(", ")
            );
            let is_type = last == "type"
                && options
                    .as_array()
                    .is_some_and(|names| names.len() == StepType::ALL.len());
            let code = if is_type && given.is_string() {
                FindingCode::UnsupportedType
            } else {
                FindingCode::SchemaInvalid
            };
            // What is no text at all is told by its type already.
            if given.is_string() {
                findings.push(Finding::new(code, here, message));
            }
        }
        Kind::Type { .. } => {
            let given = error.instance();
            let wants_text = schema_at(pointer, document)
                .is_some_and(|schema| schema.get("type") == Some(&"string".into()));
            let hint = if wants_text && (given.is_number() || given.is_boolean()) {
                ": put it in quotes"
            } else {
                ""
            };
            findings.push(Finding::new(
                FindingCode::SchemaInvalid,
                here,
                describe(error) + hint,
            ));
        }
        Kind::UniqueItems => {
            let message = "a step is named twice here".to_owned();
            findings.push(Finding::new(FindingCode::SchemaInvalid, here, message));
        }
        _ => findings.push(Finding::new(
            FindingCode::SchemaInvalid,
            here,
            describe(error),
        )),
    }
}

fn shown(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(80) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

/// The part of the published schema that a place in a document is checked against.
fn schema_at(pointer: &str, document: &Value) -> Option<&'static Value> {
    let root = published();
    let mut schema = root;
    let mut here = Some(document);
    for segment in pointer.split('/').skip(1) {
        let name = segment.replace("~1", "/").replace("~0", "~");
        schema = match here {
            Some(Value::Array(_)) => schema.get("items")?,
            _ => schema
                .get("properties")
                .and_then(|fields| fields.get(&name))
                .or(schema.get("additionalProperties"))?,
        };
        here = match here {
            Some(Value::Array(items)) => items.get(name.parse::<usize>().ok()?),
            other => other.and_then(|value| value.get(&name)),
        };
        if let Some(reference) = schema.get("$ref").and_then(Value::as_str) {
            schema = root.pointer(reference.strip_prefix('#')?)?;
        }
    }
    Some(schema)
}

fn known_fields(pointer: &str, document: &Value) -> Vec<&'static str> {
    let fields = schema_at(pointer, document)
        .and_then(|schema| schema.get("properties"))
        .and_then(Value::as_object);
    fields
        .map(|fields| fields.keys().map(String::as_str).collect())
        .unwrap_or_default()
}

fn description(pointer: &str, document: &Value) -> &'static str {
    schema_at(pointer, document)
        .and_then(|schema| schema.get("description"))
        .and_then(Value::as_str)
        .unwrap_or_default()
}

/// Gives fields that go by a second name their first one; both at once is a finding.
pub(super) fn resolve_aliases(document: &mut Value, findings: &mut Vec<Finding>) {
    let Value::Object(template) = document else {
        return;
    };
    rename(template, "namespace", "namespace_name", "", findings);
    let Some(Value::Array(steps)) = template.get_mut("steps") else {
        return;
    };
    for (index, step) in steps.iter_mut().enumerate() {
        if let Value::Object(step) = step {
            rename(
                step,
                "depends_on",
                "dependencies",
                &format!("steps[{index}]"),
                findings,
            );
        }
    }
}

fn rename(
    map: &mut Map<String, Value>,
    alias: &str,
    name: &str,
    path: &str,
    findings: &mut Vec<Finding>,
) {
    if map.contains_key(alias) && map.contains_key(name) {
        let message = format!("{alias} is another name of {name}: give one of them");
        findings.push(Finding::new(
            FindingCode::SchemaInvalid,
            path::field(path, alias),
            message,
        ));
    } else if let Some(value) = map.remove(alias) {
        map.insert(name.to_owned(), value);
    }
}
