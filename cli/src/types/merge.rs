//! Schemas that consist of others: references, and `allOf` made one schema.

use serde_json::{Map, Value, json};

/// What says nothing of the values.
const ANNOTATIONS: [&str; 12] = [
    "$anchor",
    "$comment",
    "$defs",
    "$id",
    "$schema",
    "default",
    "definitions",
    "deprecated",
    "description",
    "examples",
    "readOnly",
    "title",
];
/// What tells one kind of value from another. All else narrows a kind.
const STRUCTURE: [&str; 12] = [
    "$ref",
    "additionalProperties",
    "allOf",
    "anyOf",
    "const",
    "enum",
    "items",
    "oneOf",
    "patternProperties",
    "prefixItems",
    "properties",
    "type",
];
/// Schemas that hold themselves by way of `allOf` have no end.
const DEEPEST: usize = 16;

/// What a reference inside a schema leads to: `#`, `#/path` or `#anchor`.
pub(super) fn target<'a>(document: &'a Value, reference: &str) -> Option<&'a Value> {
    let fragment = reference.strip_prefix('#')?;
    if fragment.is_empty() || fragment.starts_with('/') {
        return document.pointer(&decoded(fragment));
    }
    ["$defs", "definitions"]
        .iter()
        .filter_map(|name| document.get(name)?.as_object())
        .flat_map(Map::values)
        .find(|schema| schema.get("$anchor").and_then(Value::as_str) == Some(fragment))
}

/// A fragment without its percent signs.
fn decoded(fragment: &str) -> String {
    let mut bytes = Vec::with_capacity(fragment.len());
    let mut rest = fragment.as_bytes();
    while let [first, after @ ..] = rest {
        let code = after.first_chunk::<2>().filter(|_| *first == b'%');
        let code = code.and_then(|code| std::str::from_utf8(code).ok());
        if let Some(byte) = code.and_then(|code| u8::from_str_radix(code, 16).ok()) {
            bytes.push(byte);
            rest = &after[2..];
        } else {
            bytes.push(*first);
            rest = after;
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The reference, where a schema is nothing but one.
pub(super) fn reference(schema: &Map<String, Value>) -> Option<&str> {
    let mut says = schema
        .keys()
        .filter(|key| !ANNOTATIONS.contains(&key.as_str()));
    match (says.next()?.as_str(), says.next()) {
        ("$ref", None) => schema.get("$ref")?.as_str(),
        ("allOf", None) => match schema.get("allOf")?.as_array()?.as_slice() {
            [only] => reference(only.as_object()?),
            _ => None,
        },
        _ => None,
    }
}

/// Whether a schema says what kind of value it is for.
pub(super) fn has_structure(schema: &Value) -> bool {
    schema
        .as_object()
        .is_some_and(|schema| STRUCTURE.iter().any(|key| schema.contains_key(*key)))
}

/// The schema without annotations and without its alternatives.
pub(super) fn base(schema: &Map<String, Value>) -> Map<String, Value> {
    let is_left_out = |key: &str| ANNOTATIONS.contains(&key) || matches!(key, "anyOf" | "oneOf");
    let kept = schema.iter().filter(|(key, _)| !is_left_out(key));
    kept.map(|(key, value)| (key.clone(), value.clone()))
        .collect()
}

/// The schema with what it refers to and all of `allOf` put into it; none where that has no end.
pub(super) fn flattened(
    document: &Value,
    schema: &Map<String, Value>,
) -> Option<Map<String, Value>> {
    flattened_within(document, schema, DEEPEST)
}

fn flattened_within(
    document: &Value,
    schema: &Map<String, Value>,
    depth: usize,
) -> Option<Map<String, Value>> {
    let mut all = schema.clone();
    let referred = all.remove("$ref");
    let parts = all.remove("allOf");
    let referred = referred.as_ref().and_then(Value::as_str);
    let referred = referred.map(|reference| target(document, reference));
    if referred == Some(None) {
        return None;
    }
    let parts = parts.iter().filter_map(Value::as_array).flatten();
    for part in referred.flatten().into_iter().chain(parts) {
        // `true` adds nothing.
        if let Value::Object(part) = part {
            let part = flattened_within(document, part, depth.checked_sub(1)?)?;
            merge(&mut all, part);
        }
    }
    Some(all)
}

fn merge(all: &mut Map<String, Value>, part: Map<String, Value>) {
    for (key, value) in part {
        if matches!(
            key.as_str(),
            "$defs" | "definitions" | "$id" | "$schema" | "$anchor"
        ) {
            continue;
        }
        let Some(before) = all.get_mut(&key) else {
            all.insert(key, value);
            continue;
        };
        match (key.as_str(), before, value) {
            ("properties", Value::Object(before), Value::Object(properties)) => {
                for (name, property) in properties {
                    let both = match before.get(&name) {
                        Some(other) if *other != property => json!({"allOf": [other, property]}),
                        _ => property,
                    };
                    before.insert(name, both);
                }
            }
            ("required", Value::Array(before), Value::Array(names)) => {
                let further: Vec<Value> = names
                    .into_iter()
                    .filter(|name| !before.contains(name))
                    .collect();
                before.extend(further);
            }
            ("enum", Value::Array(before), Value::Array(values)) => {
                before.retain(|value| values.contains(value));
            }
            ("type", before, other) => narrow(before, &other),
            ("additionalProperties", before, other @ Value::Bool(false)) => *before = other,
            // The first one counts: annotations, and what no language has types for.
            _ => {}
        }
    }
}

/// The types that both allow; what was there where that is none.
fn narrow(types: &mut Value, other: &Value) {
    let list = |types: &Value| match types {
        Value::Array(types) => types.clone(),
        one => vec![one.clone()],
    };
    let others = list(other);
    let allows = |given: &Value| {
        others.contains(given) || (given == "integer" && others.contains(&json!("number")))
    };
    let is_narrower = *types == "number" && others.contains(&json!("integer"));
    let both: Vec<Value> = list(types).into_iter().filter(allows).collect();
    if is_narrower {
        *types = json!("integer");
    } else if !both.is_empty() {
        *types = Value::Array(both);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flat(document: &Value) -> Value {
        let schema = document.as_object().expect("an object");
        flattened(document, schema).map_or(Value::Null, Value::Object)
    }

    #[test]
    fn all_of_is_one_schema() {
        let document = json!({
            "allOf": [
                {"$ref": "#/$defs/named"},
                {"properties": {"name": {"maxLength": 9}, "age": {"type": "integer"}}, "required": ["age", "name"]},
            ],
            "$defs": {"named": {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}},
        });
        let mut flat = flat(&document);
        flat.as_object_mut().map(|flat| flat.remove("$defs"));
        assert_eq!(
            flat,
            json!({
                "type": "object",
                "properties": {"name": {"allOf": [{"type": "string"}, {"maxLength": 9}]}, "age": {"type": "integer"}},
                "required": ["name", "age"],
            })
        );
    }

    #[test]
    fn what_has_no_end_or_leads_nowhere_isnt_made_one() {
        assert_eq!(flat(&json!({"allOf": [{"$ref": "#"}]})), Value::Null);
        assert_eq!(
            flat(&json!({"type": "object", "$ref": "#/$defs/none"})),
            Value::Null
        );
    }

    #[test]
    fn references_lead_to_pointers_and_anchors() {
        let document =
            json!({"$defs": {"a b": {"type": "null"}, "c": {"$anchor": "here", "type": "string"}}});
        let found = |reference| {
            target(&document, reference)
                .and_then(|schema| schema.get("type"))
                .cloned()
        };
        assert_eq!(found("#/$defs/a%20b"), Some(json!("null")));
        assert_eq!(found("#here"), Some(json!("string")));
        assert_eq!(found("other.json#/a"), None);
    }
}
