//! JSON Schemas of contexts, results and signals (draft 2020-12 where a schema does not name another).
//!
//! References are resolved inside the schema only: nothing is fetched.

use std::fmt;

use jsonschema::error::ValidationErrorKind;
use jsonschema::{Draft, PatternOptions, ValidationError, Validator};
use serde_json::{Map, Value};

use crate::path;

/// The most violations that are listed for one value.
pub const MAX_VIOLATIONS: usize = 20;

/// The longest message of a violation, in characters.
const MAX_MESSAGE_CHARS: usize = 300;

/// How much work one `pattern` may be for one text.
const BACKTRACK_LIMIT: usize = 100_000;

/// A schema that is ready to check values.
pub struct Schema(Validator);

impl fmt::Debug for Schema {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Schema")
    }
}

/// A place where a value does not satisfy its schema.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Violation {
    /// Where: `items[0].price`; empty for the value as a whole.
    pub path: String,
    /// What is wrong there.
    pub message: String,
}

/// What makes a schema no JSON Schema: at least one problem, with its place in the schema.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a JSON Schema: {}", self.problems.iter().map(|problem| problem.message.as_str()).collect::<Vec<_>>().join("; "))]
pub struct SchemaError {
    /// The problems, [`MAX_VIOLATIONS`] at most.
    pub problems: Vec<Violation>,
}

impl Schema {
    /// Makes a schema ready. Formats are checked (`format: email`), and a reference to another document is an error.
    pub fn compile(schema: &Value) -> Result<Self, SchemaError> {
        let Some(draft) = draft_of(schema) else {
            let message =
                "$schema names a draft that is not known: 4, 6, 7, 2019-09 and 2020-12 are"
                    .to_owned();
            return Err(SchemaError {
                problems: vec![Violation {
                    path: "$schema".to_owned(),
                    message,
                }],
            });
        };
        let rules = match draft {
            Draft::Draft4 => jsonschema::draft4::meta::validator(),
            Draft::Draft6 => jsonschema::draft6::meta::validator(),
            Draft::Draft7 => jsonschema::draft7::meta::validator(),
            Draft::Draft201909 => jsonschema::draft201909::meta::validator(),
            _ => jsonschema::draft202012::meta::validator(),
        };
        let problems = violations(rules.iter_errors(schema), schema);
        if !problems.is_empty() {
            return Err(SchemaError { problems });
        }
        jsonschema::options()
            .offline()
            .with_draft(draft)
            .should_validate_formats(true)
            .with_pattern_options(PatternOptions::fancy_regex().backtrack_limit(BACKTRACK_LIMIT))
            .build(schema)
            .map(Self)
            .map_err(|error| SchemaError {
                problems: vec![problem(&error, schema)],
            })
    }

    /// Where `value` does not satisfy the schema, [`MAX_VIOLATIONS`] places at most; empty when it does.
    #[must_use]
    pub fn violations(&self, value: &Value) -> Vec<Violation> {
        violations(self.0.iter_errors(value), value)
    }

    /// Whether `value` satisfies the schema.
    #[must_use]
    pub fn is_satisfied_by(&self, value: &Value) -> bool {
        self.0.is_valid(value)
    }
}

/// The draft a schema is written in; `None` for one that is not known.
fn draft_of(schema: &Value) -> Option<Draft> {
    let Some(name) = schema.get("$schema") else {
        return Some(Draft::Draft202012);
    };
    let address = name.as_str()?.trim_end_matches('#');
    match address
        .strip_prefix("https://")
        .or(address.strip_prefix("http://"))?
    {
        "json-schema.org/draft-04/schema" => Some(Draft::Draft4),
        "json-schema.org/draft-06/schema" => Some(Draft::Draft6),
        "json-schema.org/draft-07/schema" => Some(Draft::Draft7),
        "json-schema.org/draft/2019-09/schema" => Some(Draft::Draft201909),
        "json-schema.org/draft/2020-12/schema" => Some(Draft::Draft202012),
        _ => None,
    }
}

fn violations<'a>(
    errors: impl Iterator<Item = ValidationError<'a>>,
    value: &Value,
) -> Vec<Violation> {
    errors
        .take(MAX_VIOLATIONS)
        .map(|error| problem(&error, value))
        .collect()
}

fn problem(error: &ValidationError<'_>, value: &Value) -> Violation {
    let message = match error.kind() {
        ValidationErrorKind::Referencing(cause) => {
            format!(
                "a reference does not lead anywhere inside this schema, and nothing is fetched: {cause}"
            )
        }
        _ => describe(error),
    };
    Violation {
        path: path::of_pointer(error.instance_path().as_str(), value),
        message: bounded(message),
    }
}

/// What is wrong, in words, without the value where it is large.
pub(crate) fn describe(error: &ValidationError<'_>) -> String {
    let is_large = match error.instance().as_ref() {
        Value::String(text) => text.len() > 100,
        Value::Array(_) | Value::Object(_) => true,
        _ => false,
    };
    // Texts such as `Additional properties are not allowed ('x' was unexpected)` say enough without the value.
    bounded(if is_large {
        error.masked_with("this value").to_string()
    } else {
        error.to_string()
    })
}

/// A message cut where it is too long, free of NUL, which PostgreSQL can not hold.
fn bounded(mut message: String) -> String {
    if let Some((end, _)) = message.char_indices().nth(MAX_MESSAGE_CHARS) {
        message.truncate(end);
        message.push('…');
    }
    message.replace('\0', "\u{FFFD}")
}

/// The defaults that a schema gives to its top-level properties, by name. They are the values a context is filled up
/// with before it is checked.
#[must_use]
pub fn top_level_defaults(schema: &Value) -> Map<String, Value> {
    let properties = schema.get("properties").and_then(Value::as_object);
    properties
        .into_iter()
        .flatten()
        .filter_map(|(name, property)| Some((name.clone(), property.get("default")?.clone())))
        .collect()
}
