//! Types in Rust, with serde.
//!
//! Some of serde's attributes are not used, since they lose numbers where `serde_json` keeps those of any size (`arbitrary_precision`, as
//! Tasker's worker library does): `untagged` and `tag` for reading, and `flatten` with anything but any JSON.

use std::fmt::Write;

use serde_json::Value;

use super::code::{Code, comment};
use super::model::{Object, Rest, Shape, Type, Width};
use crate::languages::{Case, Language, Names};

const DERIVES: &str = "#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]\n";

pub(super) fn text(code: &Code<'_>, heads: &[String]) -> String {
    let mut body = String::new();
    for (place, definition) in code.definitions() {
        let name = code.name(place);
        body.push('\n');
        body.push_str(&comment("", "///", &definition.docs));
        match &definition.shape {
            Shape::Object(object) => body.push_str(&structure(code, place, object)),
            Shape::Enum(texts) => body.push_str(&enumeration(name, texts)),
            Shape::Union(types) => body.push_str(&union(code, place, types)),
            Shape::Alias(of) if code.model.is_circular_alias(place) => {
                let of = inner(code, of);
                let _ = write!(
                    body,
                    "{DERIVES}#[serde(transparent)]\npub struct {name}(pub {of});\n"
                );
            }
            Shape::Alias(of) => {
                let _ = writeln!(body, "pub type {name} = {};", inner(code, of));
            }
        }
    }
    let mut text = comment("", "//!", heads);
    text.push_str("#![allow(dead_code, unused_imports)]\n\n");
    if body.contains("BTreeMap<") {
        text.push_str("use std::collections::BTreeMap;\n\n");
    }
    let deserializer = if body.contains("Deserializer<") {
        ", Deserializer"
    } else {
        ""
    };
    if body.contains("Serialize") {
        let _ = writeln!(text, "use serde::{{Deserialize{deserializer}, Serialize}};");
    }
    if body.contains("Value") {
        text.push_str("use serde_json::Value;\n");
    }
    text + &body
}

fn inner(code: &Code<'_>, of: &Type) -> String {
    match of {
        Type::Any => "Value".to_owned(),
        Type::Null => "()".to_owned(),
        Type::Boolean => "bool".to_owned(),
        Type::Integer(Width::Signed) => "i64".to_owned(),
        Type::Integer(Width::Unsigned) => "u64".to_owned(),
        Type::Integer(Width::Unbounded) => "serde_json::Number".to_owned(),
        Type::Number => "f64".to_owned(),
        Type::Text => "String".to_owned(),
        Type::Constants(values) => constants(values).to_owned(),
        Type::List(of) => format!("Vec<{}>", inner(code, of)),
        Type::Map(of) => format!("BTreeMap<String, {}>", inner(code, of)),
        Type::Nullable(of) => format!("Option<{}>", inner(code, of)),
        Type::Named(place) => code.name(*place).to_owned(),
    }
}

/// The type that holds all of the values.
fn constants(values: &[Value]) -> &'static str {
    let all = |is: fn(&Value) -> bool| values.iter().all(is);
    if all(Value::is_i64) {
        "i64"
    } else if all(Value::is_u64) {
        "u64"
    } else if all(Value::is_boolean) {
        "bool"
    } else {
        "Value"
    }
}

/// A type within the definition at `place`: in a box where it would hold itself otherwise.
fn within(code: &Code<'_>, place: usize, of: &Type) -> String {
    match of {
        Type::Named(part) if code.model.holds(*part, place) => format!("Box<{}>", code.name(*part)),
        Type::Nullable(of) => format!("Option<{}>", within(code, place, of)),
        of => inner(code, of),
    }
}

fn structure(code: &Code<'_>, place: usize, object: &Object) -> String {
    let mut text = DERIVES.to_owned();
    if object.rest == Rest::Refused {
        text.push_str("#[serde(deny_unknown_fields)]\n");
    }
    let name = code.name(place);
    if object.fields.is_empty() && object.rest != Rest::Kept {
        return text + &format!("pub struct {name} {{}}\n");
    }
    let _ = writeln!(text, "pub struct {name} {{");
    for (name, field) in code.fields(object) {
        text.push_str(&comment("    ", "///", &field.docs));
        let mut attributes = Vec::new();
        if name != field.name {
            attributes.push(format!("rename = {:?}", field.name));
        }
        let mut of = within(code, place, &field.of);
        if !field.is_required {
            attributes.push("default".to_owned());
            attributes.push("skip_serializing_if = \"Option::is_none\"".to_owned());
            if !matches!(field.of, Type::Nullable(_)) {
                of = format!("Option<{of}>");
            }
        }
        if !attributes.is_empty() {
            let _ = writeln!(text, "    #[serde({})]", attributes.join(", "));
        }
        let _ = writeln!(text, "    pub {name}: {of},");
    }
    if object.rest == Rest::Kept {
        text.push_str("    /// What else there is.\n    #[serde(flatten)]\n    pub extra: BTreeMap<String, Value>,\n");
    }
    text + "}\n"
}

fn enumeration(name: &str, texts: &[String]) -> String {
    let mut text = DERIVES.replace("PartialEq", "Copy, PartialEq, Eq");
    let _ = writeln!(text, "pub enum {name} {{");
    let mut names = Names::default();
    for value in texts {
        let variant = names.give(Language::Rust, value, Case::Pascal, "Empty");
        if variant != *value {
            let _ = writeln!(text, "    #[serde(rename = {value:?})]");
        }
        let _ = writeln!(text, "    {variant},");
    }
    text + "}\n"
}

fn union(code: &Code<'_>, place: usize, types: &[Type]) -> String {
    let name = code.name(place);
    let mut names = Names::default();
    let variants: Vec<(String, &Type)> = types
        .iter()
        .map(|of| {
            let words = variant_words(code, place, of);
            (
                names.give(Language::Rust, &words, Case::Pascal, "Variant"),
                of,
            )
        })
        .collect();
    let mut text = "#[derive(Debug, Clone, PartialEq, Serialize)]\n#[serde(untagged)]\n".to_owned();
    let _ = writeln!(text, "pub enum {name} {{");
    for (variant, of) in &variants {
        let _ = writeln!(text, "    {variant}({}),", within(code, place, of));
    }
    let _ = write!(
        text,
        "}}\n\nimpl<'de> Deserialize<'de> for {name} {{\n    \
         fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {{\n        \
         let value = Value::deserialize(deserializer)?;\n"
    );
    // The first that fits counts: those that ask for more come first.
    let mut tried = variants;
    tried.sort_by_key(|(_, of)| std::cmp::Reverse(demands(code, of)));
    for (variant, _) in &tried {
        let _ = write!(
            text,
            "        if let Ok(value) = Deserialize::deserialize(&value) {{\n            return Ok(Self::{variant}(value));\n        }}\n"
        );
    }
    let _ = write!(
        text,
        "        Err(serde::de::Error::custom(\"it is none of the alternatives of {name}\"))\n    }}\n}}\n"
    );
    text
}

/// The words of a variant's name: those of the type without those of the union.
fn variant_words(code: &Code<'_>, place: usize, of: &Type) -> String {
    match of {
        Type::Named(part) => {
            let definitions = &code.model.definitions;
            let words = &definitions[*part].words;
            let own = words
                .strip_prefix(definitions[place].words.as_str())
                .unwrap_or(words);
            own.to_owned()
        }
        Type::Any => "any".to_owned(),
        Type::Null => "null".to_owned(),
        Type::Boolean => "boolean".to_owned(),
        Type::Integer(_) => "integer".to_owned(),
        Type::Number => "number".to_owned(),
        Type::Text => "text".to_owned(),
        Type::Constants(_) => "constant".to_owned(),
        Type::List(_) => "list".to_owned(),
        Type::Map(_) => "map".to_owned(),
        Type::Nullable(of) => variant_words(code, place, of),
    }
}

/// How much a type asks of a value.
fn demands(code: &Code<'_>, of: &Type) -> usize {
    match of {
        Type::Named(place) => match &code.model.definitions[*place].shape {
            Shape::Object(object) => {
                let required = object.fields.iter().filter(|field| field.is_required);
                3 + 2 * required.count() + usize::from(object.rest == Rest::Refused)
            }
            Shape::Enum(_) => 3,
            Shape::Union(_) | Shape::Alias(Type::Named(_)) => 2,
            Shape::Alias(of) => demands(code, of),
        },
        Type::Integer(_) => 2,
        Type::Any => 0,
        _ => 1,
    }
}
