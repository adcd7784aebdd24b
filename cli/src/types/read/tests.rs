//! What becomes of schemas.

use serde_json::json;

use super::*;
use crate::types::model::Width;

fn read(schema: &Value) -> Model {
    let mut reader = Reader::default();
    reader.root("context", "", schema);
    reader.model
}

fn alias(schema: &Value) -> Type {
    match read(schema).definitions.swap_remove(0).shape {
        Shape::Alias(of) => of,
        other => panic!("{other:?}"),
    }
}

#[test]
fn integers_are_as_wide_as_their_bounds() {
    let of = |bounds: Value| {
        let mut schema = bounds;
        schema["type"] = json!("integer");
        alias(&schema)
    };
    assert_eq!(of(json!({})), Type::Integer(Width::Signed));
    assert_eq!(of(json!({"minimum": 0})), Type::Integer(Width::Unsigned));
    assert_eq!(
        of(json!({"minimum": -1, "maximum": 5})),
        Type::Integer(Width::Signed)
    );
    assert_eq!(
        of(json!({"maximum": u64::MAX})),
        Type::Integer(Width::Unbounded)
    );
    let large: Value = serde_json::from_str("{\"minimum\": 0, \"maximum\": 1e30}").expect("JSON");
    assert_eq!(of(large), Type::Integer(Width::Unbounded));
}

#[test]
fn null_is_told_apart_wherever_it_is_said() {
    let text = Type::Text.or_null();
    for schema in [
        json!({"type": ["string", "null"]}),
        json!({"anyOf": [{"type": "string"}, {"type": "null"}]}),
        json!({"oneOf": [{"const": null}, {"type": "string", "minLength": 1}]}),
    ] {
        assert_eq!(alias(&schema), text, "{schema}");
    }
}

#[test]
fn alternatives_that_only_narrow_are_no_union() {
    let schema = json!({"type": "string", "anyOf": [{"minLength": 3}, {"pattern": "x"}]});
    assert_eq!(alias(&schema), Type::Text);
}

#[test]
fn a_schema_of_itself_is_one_definition() {
    let model = read(
        &json!({"type": "object", "properties": {"next": {"$ref": "#"}, "all": {"type": "array", "items": {"$ref": "#"}}}}),
    );
    // The document, and what refers to it as a whole.
    assert_eq!(model.order().len(), 2);
    let mut circle = read(
        &json!({"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}}),
    );
    circle.cut_empty_circles();
    assert_eq!(circle.definitions[0].shape, Shape::Alias(Type::Any));
}

#[test]
fn what_no_type_says_is_any_json_and_says_why() {
    for schema in [
        json!({"not": {"type": "string"}}),
        json!({"$ref": "other.json"}),
        json!(false),
        json!({"oneOf": [{"type": "string"}, {"$ref": "#/none"}]}),
    ] {
        let model = read(&json!({"type": "object", "properties": {"a": schema}}));
        let Shape::Object(object) = &model.definitions[0].shape else {
            panic!("no object");
        };
        assert_eq!(object.fields[0].of, Type::Any);
        assert!(!object.fields[0].docs.is_empty(), "{schema}");
    }
}
