//! The paths of the server, as its OpenAPI document has them.

use std::collections::BTreeMap;
use std::fmt::Write;

use anyhow::Context;
use serde_json::{Map, Value};

use super::{MADE, cell};

const METHODS: [&str; 5] = ["get", "post", "put", "patch", "delete"];

/// The page.
pub fn rest(document: &Value) -> anyhow::Result<String> {
    let paths = document["paths"].as_object().context("no paths")?;
    let mut sections: BTreeMap<&str, String> = BTreeMap::new();
    for (path, item) in paths {
        for method in METHODS {
            let operation = &item[method];
            if operation.is_null() {
                continue;
            }
            let tag = operation["tags"][0].as_str().unwrap_or("other");
            let section = sections.entry(tag).or_default();
            write_operation(section, method, path, operation)?;
        }
    }
    let mut page = format!(
        "{MADE}\n# REST\n\nThe server's own page to try all this is at `/api-docs/ui`, the OpenAPI document at `/api-docs/openapi.json`. Any operation may also answer an [error](errors.md), \
         `{{\"error\": {{code, message, detail, hint, request_id}}}}`, with a status that is listed there.\n"
    );
    let tags = document["tags"].as_array().into_iter().flatten();
    for tag in tags {
        let name = tag["name"].as_str().unwrap_or_default();
        if let Some(section) = sections.remove(name) {
            let about = tag["description"].as_str().unwrap_or_default();
            write!(page, "\n## {name}\n\n{about}.\n{section}")?;
        }
    }
    anyhow::ensure!(
        sections.is_empty(),
        "tags without a description: {:?}",
        sections.keys()
    );
    page.push_str("\n## Bodies\n");
    let schemas = document["components"]["schemas"].as_object();
    for (name, schema) in schemas.into_iter().flatten() {
        write_schema(&mut page, name, schema)?;
    }
    Ok(page)
}

fn write_operation(
    page: &mut String,
    method: &str,
    path: &str,
    operation: &Value,
) -> anyhow::Result<()> {
    let method = method.to_uppercase();
    write!(page, "\n### {method} {path}\n\n")?;
    for part in ["summary", "description"] {
        if let Some(text) = operation[part].as_str() {
            write!(page, "{}\n\n", text.trim())?;
        }
    }
    match operation["x-permission"].as_str() {
        Some(permission) => writeln!(page, "Permission `{permission}`.")?,
        None => writeln!(page, "Open to all.")?,
    }
    let parameters = operation["parameters"].as_array();
    if let Some(parameters) = parameters.filter(|parameters| !parameters.is_empty()) {
        page.push_str("\n| parameter | in | type | |\n|---|---|---|---|\n");
        for parameter in parameters {
            let text = |field: &str| parameter[field].as_str().unwrap_or_default();
            writeln!(
                page,
                "| `{}` | {} | {} | {} |",
                text("name"),
                text("in"),
                kind(&parameter["schema"]),
                cell(text("description"))
            )?;
        }
    }
    let body = operation["requestBody"]["content"].as_object();
    for (media_type, content) in body.into_iter().flatten() {
        write!(
            page,
            "\nBody: `{media_type}`, {}\n",
            kind(&content["schema"])
        )?;
        write_example(page, media_type, &content["example"])?;
    }
    page.push_str("\n| status | body | |\n|---|---|---|\n");
    let none = Map::new();
    for (status, response) in operation["responses"].as_object().unwrap_or(&none) {
        let content = response["content"]
            .as_object()
            .and_then(|content| content.values().next());
        let shape = content.map_or_else(String::new, |content| kind(&content["schema"]));
        if shape.contains("(#errorbody)") {
            continue;
        }
        let about = response["description"].as_str().unwrap_or_default();
        writeln!(page, "| {status} | {shape} | {} |", cell(about))?;
    }
    Ok(())
}

/// What may be sent, as it is sent.
fn write_example(page: &mut String, media_type: &str, example: &Value) -> anyhow::Result<()> {
    let language = media_type.rsplit('/').next().unwrap_or_default();
    let text = match example {
        Value::String(text) => text.trim_end().to_owned(),
        example => example.to_string(),
    };
    Ok(write!(page, "\n```{language}\n{text}\n```\n")?)
}

/// A schema in a few words; one with a name as a link to it.
fn kind(schema: &Value) -> String {
    if let Some(reference) = schema["$ref"].as_str() {
        let name = reference.rsplit('/').next().unwrap_or_default();
        return format!("[{name}](#{})", name.to_lowercase());
    }
    for choice in ["oneOf", "anyOf", "allOf"] {
        if let Some(choices) = schema[choice].as_array() {
            let kinds: Vec<String> = choices.iter().map(kind).collect();
            return kinds.join(if choice == "allOf" { " and " } else { " or " });
        }
    }
    let name = |kind: &Value| kind.as_str().unwrap_or("any").to_owned();
    let mut told = match &schema["type"] {
        Value::Array(kinds) => kinds.iter().map(name).collect::<Vec<_>>().join(" or "),
        kind if kind == "array" => format!("array of {}", self::kind(&schema["items"])),
        Value::Null => "any JSON".to_owned(),
        kind => name(kind),
    };
    if let Some(format) = schema["format"].as_str() {
        let _ = write!(told, " ({format})");
    }
    if let Some(values) = schema["enum"].as_array() {
        let values: Vec<String> = values
            .iter()
            .map(|value| format!("`{}`", value.as_str().unwrap_or_default()))
            .collect();
        let _ = write!(told, ": {}", values.join(", "));
    }
    if let (Some(least), Some(most)) = (schema["minimum"].as_i64(), schema["maximum"].as_i64()) {
        let _ = write!(told, " {least} to {most}");
    }
    told
}

fn write_schema(page: &mut String, name: &str, schema: &Value) -> anyhow::Result<()> {
    write!(page, "\n### {name}\n\n")?;
    if let Some(about) = schema["description"].as_str() {
        write!(page, "{}\n\n", about.trim())?;
    }
    let parts = match schema["allOf"].as_array() {
        Some(parts) => parts.iter().collect(),
        None => vec![schema],
    };
    for part in &parts {
        if part["$ref"].is_string() {
            write!(page, "All fields of {}, and\n\n", kind(part))?;
        }
    }
    let mut is_first = true;
    for part in parts {
        let required: Vec<&str> = part["required"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect();
        for (field, schema) in part["properties"].as_object().into_iter().flatten() {
            if std::mem::take(&mut is_first) {
                page.push_str("| field | type | |\n|---|---|---|\n");
            }
            let must = if required.contains(&field.as_str()) {
                ""
            } else {
                "?"
            };
            let about = schema["description"].as_str().unwrap_or_default();
            writeln!(
                page,
                "| `{field}`{must} | {} | {} |",
                kind(schema),
                cell(about)
            )?;
        }
    }
    if is_first && !schema["type"].is_null() {
        writeln!(page, "{}", kind(schema))?;
    }
    Ok(())
}
