//! Examples of bodies, composed of what the schemas say of their fields: what isn't said at a field is known by its name, or by its type.
//!
//! A request has what it must have and what has an example of its own; an answer has every field, null where it may be.

use serde_json::{Map, Value, json};
use utoipa::openapi::path::{Operation, PathItem};
use utoipa::openapi::{Content, OpenApi as Document, RefOr};

/// One word is one thing everywhere, so these hold whatever they are fields of.
const BY_NAME: [(&str, &str); 15] = [
    ("created_by", "tasker_server"),
    ("handler", "shop.ship"),
    ("job", "retry_due_steps"),
    ("language", "rust"),
    ("namespace", "shop"),
    ("opened_by", "tasker_worker"),
    ("queue_name", "worker_shop_queue"),
    ("registered_by", "deployer"),
    ("step_name", "ship"),
    ("step_uuid", "019cadc6-9a80-7000-8fc4-a72b81e00001"),
    ("task_uuid", "019cadc6-9a80-7000-8fc4-a72b81e00000"),
    ("template_name", "order_fulfillment"),
    ("template_version", "1.0.0"),
    ("version", "1.0.0"),
    ("worker_id", "worker-1"),
];
/// The field that holds a task's input, whose schema is its template's.
const CONTEXT: &str = "context";
const TIME: &str = "2026-03-02T09:00:00Z";
const UUID: &str = "019cadc7-84e0-7000-a1d3-894254600000";
/// Stands for a text that nothing is known of.
const UNKNOWN: &str = "…";
/// Deeper than any body is.
const MOST_DEPTH: usize = 16;

/// Gives every body that has none an example: what is sent, and what is answered when it goes well.
pub(super) fn add(document: &mut Document) {
    let components = json!(document.components);
    let schemas = Schemas(&components["schemas"]);
    for item in document.paths.paths.values_mut() {
        for operation in operations(item) {
            if let Some(RefOr::T(body)) = &mut operation.request_body {
                let contents = body.content.values_mut();
                contents.for_each(|content| schemas.illustrate(content, Side::Request));
            }
            let responses = operation.responses.responses.iter_mut();
            for (_, response) in responses.filter(|(status, _)| status.starts_with('2')) {
                if let RefOr::T(response) = response {
                    let contents = response.content.values_mut();
                    contents.for_each(|content| schemas.illustrate(content, Side::Answer));
                }
            }
        }
    }
}

fn operations(item: &mut PathItem) -> impl Iterator<Item = &mut Operation> {
    [
        &mut item.get,
        &mut item.put,
        &mut item.post,
        &mut item.delete,
        &mut item.patch,
    ]
    .into_iter()
    .flatten()
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Request,
    Answer,
}

/// The schemas that have a name.
struct Schemas<'a>(&'a Value);

impl Schemas<'_> {
    fn illustrate(&self, content: &mut RefOr<Content>, side: Side) {
        let RefOr::T(content) = content else {
            return;
        };
        if content.example.is_none() && content.examples.is_empty() {
            let schema = json!(content.schema);
            content.example = Some(self.compose(&schema, "", side, MOST_DEPTH));
        }
    }

    fn compose(&self, schema: &Value, name: &str, side: Side, depth: usize) -> Value {
        if let Some(known) = known_example(schema, name) {
            return known;
        }
        let Some(depth) = depth.checked_sub(1) else {
            return Value::Null;
        };
        if let Some(reference) = schema["$ref"].as_str() {
            let named = reference.rsplit('/').next().unwrap_or_default();
            return self.compose(&self.0[named], name, side, depth);
        }
        if let Some(choice) = choice_of(schema, side) {
            return self.compose(choice, name, side, depth);
        }
        if let Some(parts) = schema["allOf"].as_array() {
            let mut whole = Map::new();
            for part in parts {
                if let Value::Object(fields) = self.compose(part, name, side, depth) {
                    whole.extend(fields);
                }
            }
            return Value::Object(whole);
        }
        match schema["type"].as_str() {
            Some("object") => self.object(schema, side, depth),
            Some("array") => self.array(&schema["items"], name, side, depth),
            Some("string") => text(schema, name).into(),
            Some("integer") => schema["minimum"].as_i64().unwrap_or(0).max(1).into(),
            Some("number") => json!(0.5),
            Some("boolean") => true.into(),
            // Any JSON, or null besides another type.
            _ => Value::Null,
        }
    }

    fn object(&self, schema: &Value, side: Side, depth: usize) -> Value {
        let required = schema["required"].as_array();
        let is_required = |field: &String| {
            required.is_some_and(|required| required.iter().any(|one| one == field))
        };
        let fields = schema["properties"].as_object();
        let fields = fields.into_iter().flatten().filter(|(field, schema)| {
            side == Side::Answer || is_required(field) || known_example(schema, field).is_some()
        });
        let composed = fields.map(|(field, schema)| {
            let value = self.compose(schema, field, side, depth);
            (field.clone(), value)
        });
        Value::Object(composed.collect())
    }

    fn array(&self, items: &Value, name: &str, side: Side, depth: usize) -> Value {
        let item = self.compose(items, name, side, depth);
        if item == UNKNOWN || item.is_null() {
            return json!([]);
        }
        json!([item])
    }
}

/// What is said at the field; of a task's input its name says enough.
fn known_example(schema: &Value, name: &str) -> Option<Value> {
    let example = schema.get("example");
    let first = || schema["examples"].get(0);
    let constant = || schema.get("const");
    example
        .or_else(first)
        .or_else(constant)
        .or_else(|| schema["enum"].get(0))
        .cloned()
        .or_else(|| (name == CONTEXT).then(|| json!({"order_id": "A-1001"})))
}

/// Which of several it is: in an answer null where that will do, else the first that isn't.
fn choice_of(schema: &Value, side: Side) -> Option<&Value> {
    let choices = ["oneOf", "anyOf"]
        .iter()
        .find_map(|word| schema[word].as_array())?;
    let prefers_null = side == Side::Answer;
    choices
        .iter()
        .find(|choice| (choice["type"] == "null") == prefers_null)
        .or_else(|| choices.first())
}

fn text(schema: &Value, name: &str) -> &'static str {
    let known = BY_NAME.iter().find(|(known, _)| *known == name);
    match (known, schema["format"].as_str()) {
        (Some((_, example)), _) => example,
        (None, Some("uuid")) => UUID,
        (None, Some("date-time")) => TIME,
        (None, _) => UNKNOWN,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn composed(schema: &Value, side: Side) -> Value {
        let schemas = json!({"Inner": {"type": "object", "required": ["namespace"], "properties": {
            "namespace": {"type": "string"}, "more": {"type": ["string", "null"]}}}});
        Schemas(&schemas).compose(schema, "", side, MOST_DEPTH)
    }

    #[test]
    fn an_answer_has_all_its_fields_and_a_request_what_it_must_have() {
        let schema = json!({"type": "object", "required": ["inner"], "properties": {
            "inner": {"$ref": "#/components/schemas/Inner"},
            "count": {"type": "integer", "minimum": 3},
            "at": {"type": "string", "format": "date-time"},
            "many": {"type": "array", "items": {"type": "string"}},
            "told": {"type": "string", "example": "so"}}});
        assert_eq!(
            composed(&schema, Side::Answer),
            json!({"inner": {"namespace": "shop", "more": null}, "count": 3, "at": TIME, "many": [], "told": "so"})
        );
        assert_eq!(
            composed(&schema, Side::Request),
            json!({"inner": {"namespace": "shop"}, "told": "so"})
        );
    }

    #[test]
    fn a_choice_is_null_where_it_may_be_and_the_first_otherwise() {
        let inner = json!({"$ref": "#/components/schemas/Inner"});
        let nullable = json!({"oneOf": [{"type": "null"}, inner.clone()]});
        assert_eq!(composed(&nullable, Side::Answer), Value::Null);
        assert_eq!(
            composed(&nullable, Side::Request),
            json!({"namespace": "shop"})
        );
        let choice = json!({"anyOf": [{"type": "string", "enum": ["now", "later"]}, inner]});
        assert_eq!(composed(&choice, Side::Answer), "now");
    }

    #[test]
    fn a_schema_that_holds_itself_comes_to_an_end() {
        let schemas = json!({"Ring": {"type": "object", "properties": {"ring": {"$ref": "#/components/schemas/Ring"}}}});
        let ring = json!({"$ref": "#/components/schemas/Ring"});
        assert!(
            Schemas(&schemas)
                .compose(&ring, "", Side::Answer, MOST_DEPTH)
                .is_object()
        );
    }
}
