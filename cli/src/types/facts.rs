//! What a schema says besides its structure: words about a value, its kind, its bounds.

use serde_json::{Map, Value};

use super::model::Width;

/// What a schema says of itself.
pub(super) fn docs(schema: &Value) -> Vec<String> {
    let text = |key: &str| schema.get(key).and_then(Value::as_str).map(str::to_owned);
    let docs = text("description").or_else(|| text("title"));
    docs.into_iter().collect()
}

/// What a reader should know of a value besides its type.
pub(super) fn further_docs(schema: &Value) -> Vec<String> {
    let mut docs = Vec::new();
    if let Some(format) = schema.get("format").and_then(Value::as_str) {
        docs.push(format!("Format: {format}."));
    }
    if let Some(default) = schema.get("default") {
        docs.push(format!("Default: {default}."));
    }
    docs
}

/// The kinds that a schema without `type` is for, where it has what only these have.
pub(super) fn kinds_told_by(schema: &Map<String, Value>) -> Vec<&'static str> {
    let has = |keys: &[&str]| keys.iter().any(|key| schema.contains_key(*key));
    let object = has(&[
        "properties",
        "required",
        "additionalProperties",
        "patternProperties",
    ]);
    let array = has(&["items", "prefixItems"]);
    match (object, array) {
        (true, false) => vec!["object"],
        (false, true) => vec!["array"],
        _ => Vec::new(),
    }
}

/// A word that tells an alternative from the others: what it refers to, its title, the value that marks it, its kind.
pub(super) fn name_of_branch(branch: &Value, position: usize) -> String {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let referred = branch.get("$ref").and_then(text);
    let referred = referred.and_then(|reference| reference.rsplit('/').next().map(str::to_owned));
    let properties = branch.get("properties").and_then(Value::as_object);
    let marks = properties.into_iter().flat_map(Map::values);
    let mark = marks
        .filter_map(|property| text(property.get("const")?))
        .min();
    referred
        .or_else(|| branch.get("title").and_then(text))
        .or(mark)
        .or_else(|| branch.get("type").and_then(text))
        .unwrap_or_else(|| (position + 1).to_string())
}

/// By the bounds of an integer's schema.
pub(super) fn width(schema: &Map<String, Value>) -> Width {
    let bound = |inclusive: &str, exclusive: &str| {
        let given = schema.get(inclusive).or_else(|| schema.get(exclusive))?;
        let number = given.as_number()?.to_string();
        // Beyond what a double holds exactly, it is far outside 64 bits or near enough to a whole number of them.
        number
            .parse::<i128>()
            .ok()
            .or_else(|| Some(number.parse::<f64>().ok()? as i128))
    };
    let least = bound("minimum", "exclusiveMinimum");
    let most = bound("maximum", "exclusiveMaximum");
    let is_natural = least.is_some_and(|least| least >= 0);
    let signed = i128::from(i64::MIN)..=i128::from(i64::MAX);
    let fits_signed = |bound: Option<i128>| bound.is_none_or(|bound| signed.contains(&bound));
    let fits_unsigned = most.is_none_or(|most| most <= i128::from(u64::MAX));
    match (is_natural, fits_signed(least) && fits_signed(most)) {
        (true, _) if fits_unsigned => Width::Unsigned,
        (false, true) => Width::Signed,
        _ => Width::Unbounded,
    }
}
