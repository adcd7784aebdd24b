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

/// Adds what one violation of the schema means to the author.
fn push(error: &ValidationError<'_>, document: &Value, findings: &mut Vec<Finding>) {
    let pointer = error.instance_path().as_str();
    let here = path::of_pointer(pointer, document);
    let field = pointer.rsplit('/').next().unwrap_or_default();
    let given = error.instance().as_ref();
    let (code, here, message) = match error.kind() {
        Kind::AdditionalProperties { unexpected } => {
            return push_unknown(unexpected, pointer, document, &here, findings);
        }
        Kind::Required { property } => {
            let name = property.as_str().unwrap_or_default();
            let is_callable = name == "callable";
            let code = if is_callable {
                FindingCode::EmptyCallable
            } else {
                FindingCode::SchemaInvalid
            };
            (code, path::field(&here, name), format!("{name} is missing"))
        }
        Kind::Pattern { .. } if matches!(field, "callable" | "method") => (
            FindingCode::EmptyCallable,
            here,
            format!("{field} is empty"),
        ),
        Kind::Pattern { .. } => {
            let allowed = description(pointer, document);
            (
                FindingCode::NameInvalid,
                here,
                format!("{} is not allowed here. {allowed}", shown(given)),
            )
        }
        // What is no text at all is told by its type already.
        Kind::Enum { .. } if !given.is_string() => return,
        Kind::Enum { options } => {
            let code = if is_step_type(options) {
                FindingCode::UnsupportedType
            } else {
                FindingCode::SchemaInvalid
            };
            (code, here, not_one_of(given, options))
        }
        Kind::Type { .. } => {
            let wanted = schema_at(pointer, document)
                .and_then(|schema| schema.get("type"))
                .and_then(Value::as_str);
            let needs_quotes =
                wanted == Some("string") && (given.is_number() || given.is_boolean());
            let hint = if needs_quotes {
                ": put it in quotes"
            } else {
                ""
            };
            (FindingCode::SchemaInvalid, here, describe(error) + hint)
        }
        Kind::UniqueItems => (
            FindingCode::SchemaInvalid,
            here,
            "a step is named twice here".to_owned(),
        ),
        _ => (FindingCode::SchemaInvalid, here, describe(error)),
    };
    findings.push(Finding::new(code, here, message));
}

fn push_unknown(
    names: &[String],
    pointer: &str,
    document: &Value,
    here: &str,
    findings: &mut Vec<Finding>,
) {
    let known = known_fields(pointer, document);
    for name in names {
        let hint = did_you_mean(name, known.iter().copied());
        let message = format!("there is no field {name:?} here{hint}");
        findings.push(Finding::new(
            FindingCode::UnknownField,
            path::field(here, name),
            message,
        ));
    }
}

fn is_step_type(options: &Value) -> bool {
    let names = options
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str);
    names.eq(StepType::ALL.iter().map(|step_type| step_type.as_str()))
}

fn not_one_of(given: &Value, options: &Value) -> String {
    let names: Vec<&str> = options
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    let hint = did_you_mean(given.as_str().unwrap_or_default(), names.iter().copied());
    format!("{} is not one of {}{hint}", shown(given), names.join(", "))
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
