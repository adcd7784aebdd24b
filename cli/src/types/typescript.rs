//! Types in TypeScript: interfaces, and aliases of what isn't an object.

use std::fmt::Write;

use serde_json::Value;

use super::code::{Code, comment, lines, quoted};
use super::model::{Field, Object, Rest, Shape, Type, Width};

pub(super) fn text(code: &Code<'_>, heads: &[String]) -> String {
    let mut text = comment("", "//", heads);
    for (place, definition) in code.definitions() {
        let name = code.name(place);
        text.push('\n');
        text.push_str(&docs("", &definition.docs));
        match &definition.shape {
            Shape::Object(object) => text.push_str(&interface(code, name, object)),
            Shape::Enum(texts) => {
                let texts: Vec<String> = texts.iter().map(|text| quoted(text)).collect();
                let _ = writeln!(text, "export type {name} = {};", texts.join(" | "));
            }
            Shape::Union(types) => {
                let types: Vec<String> = types.iter().map(|of| shown(code, of)).collect();
                let _ = writeln!(text, "export type {name} = {};", types.join(" | "));
            }
            Shape::Alias(of) => {
                let _ = writeln!(text, "export type {name} = {};", shown(code, of));
            }
        }
    }
    text
}

fn shown(code: &Code<'_>, of: &Type) -> String {
    match of {
        Type::Any => "unknown".to_owned(),
        Type::Null => "null".to_owned(),
        Type::Boolean => "boolean".to_owned(),
        Type::Integer(_) | Type::Number => "number".to_owned(),
        Type::Text => "string".to_owned(),
        Type::Constants(values) => constants(values),
        Type::List(of) => format!("Array<{}>", shown(code, of)),
        // Not `Record`, which can't be a part of itself.
        Type::Map(of) => format!("{{ [key: string]: {} }}", shown(code, of)),
        Type::Nullable(of) => format!("{} | null", shown(code, of)),
        Type::Named(place) => code.name(*place).to_owned(),
    }
}

fn constants(values: &[Value]) -> String {
    let are_plain = values
        .iter()
        .all(|value| !value.is_array() && !value.is_object());
    if !are_plain {
        return "unknown".to_owned();
    }
    let values: Vec<String> = values.iter().map(ToString::to_string).collect();
    values.join(" | ")
}

fn interface(code: &Code<'_>, name: &str, object: &Object) -> String {
    if object.fields.is_empty() {
        return format!("export type {name} = {{ [key: string]: never }};\n");
    }
    let mut text = format!("export interface {name} {{\n");
    for field in &object.fields {
        text.push_str(&docs("  ", &told(field)));
        let optional = if field.is_required { "" } else { "?" };
        let _ = writeln!(
            text,
            "  {}{optional}: {};",
            key(&field.name),
            shown(code, &field.of)
        );
    }
    if object.rest == Rest::Kept {
        text.push_str("  /** What else there is. */\n  [key: string]: unknown;\n");
    }
    text + "}\n"
}

fn told(field: &Field) -> Vec<String> {
    let is_large = matches!(field.of, Type::Integer(Width::Unbounded));
    let more = is_large.then(|| "Beyond 2^53, JSON.parse rounds it.".to_owned());
    field.docs.iter().cloned().chain(more).collect()
}

fn key(name: &str) -> String {
    let is_identifier = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_' || c == '$')
        && name
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '$');
    if is_identifier {
        name.to_owned()
    } else {
        quoted(name)
    }
}

fn docs(indent: &str, docs: &[String]) -> String {
    let lines: Vec<String> = lines(docs).map(|line| line.replace("*/", "* /")).collect();
    match &lines[..] {
        [] => String::new(),
        [line] => format!("{indent}/** {line} */\n"),
        lines => {
            let told = comment(indent, " *", lines);
            format!("{indent}/**\n{told}{indent} */\n")
        }
    }
}
