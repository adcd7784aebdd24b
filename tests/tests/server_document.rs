//! The OpenAPI document held against the server: its examples fit its schemas, what it calls an object is none but an object, and its page needs no other host.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::Context;
use reqwest::Method;
use serde_json::{Value, json};
use tasker_tests::http::answer;
use tasker_tests::{Server, TestDatabase};

/// A text in an example of which nothing is known.
const UNKNOWN: &str = "…";

async fn stage() -> anyhow::Result<(TestDatabase, Server, Value)> {
    let database = TestDatabase::with_examples().await?;
    let server = Server::start(database.url(), &["--no-maintenance"]).await?;
    let document = server.get("/api-docs/openapi.json").await?.body;
    Ok((database, server, document))
}

/// Each operation with its method and path.
fn operations(document: &Value) -> impl Iterator<Item = (Method, &str, &Value)> {
    let paths = document["paths"].as_object().into_iter().flatten();
    paths.flat_map(|(path, methods)| {
        let methods = methods.as_object().into_iter().flatten();
        methods.filter_map(move |(method, operation)| {
            let method = method.to_uppercase().parse().ok()?;
            Some((method, path.as_str(), operation))
        })
    })
}

/// Each body with what it is of: what is sent, and what is answered when it goes well.
fn bodies(document: &Value) -> Vec<(String, &Value)> {
    let mut found = Vec::new();
    for (method, path, operation) in operations(document) {
        let what = |part: &str| format!("{method} {path} {part}");
        found.extend(contents(&what("request"), &operation["requestBody"]));
        let responses = operation["responses"].as_object().into_iter().flatten();
        for (status, response) in responses.filter(|(status, _)| status.starts_with('2')) {
            found.extend(contents(&what(status), response));
        }
    }
    found
}

fn contents<'a>(what: &str, body: &'a Value) -> Vec<(String, &'a Value)> {
    let contents = body["content"].as_object().into_iter().flatten();
    contents
        .map(|(media_type, content)| (format!("{what} {media_type}"), content))
        .collect()
}

fn has_unknown(value: &Value) -> bool {
    match value {
        Value::String(text) => text == UNKNOWN,
        Value::Array(items) => items.iter().any(has_unknown),
        Value::Object(fields) => fields.values().any(has_unknown),
        _ => false,
    }
}

#[tokio::test]
async fn every_body_has_an_example_that_fits_its_schema() -> anyhow::Result<()> {
    let (_database, _server, document) = stage().await?;
    let bodies = bodies(&document);
    assert!(bodies.len() > 40, "{}", bodies.len());
    let mut wrong = Vec::new();
    for (what, content) in bodies {
        let Some(example) = content.get("example") else {
            wrong.push(format!("{what}: no example"));
            continue;
        };
        if has_unknown(example) {
            wrong.push(format!("{what}: {example}"));
        }
        let mut schema = content["schema"].clone();
        schema["components"] = document["components"].clone();
        let schema = jsonschema::validator_for(&schema).context(what.clone())?;
        wrong.extend(
            schema
                .iter_errors(example)
                .map(|error| format!("{what}: {error} at {}", error.instance_path())),
        );
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}

/// The places in an example where its schema wants an object of known fields, the whole among them.
fn objects(
    schema: &Value,
    example: &Value,
    place: &str,
    document: &Value,
    found: &mut BTreeSet<String>,
) {
    if let Some(reference) = schema["$ref"].as_str() {
        let named = document
            .pointer(reference.trim_start_matches('#'))
            .unwrap_or(&Value::Null);
        return objects(named, example, place, document, found);
    }
    for word in ["allOf", "oneOf", "anyOf"] {
        for part in schema[word].as_array().into_iter().flatten() {
            objects(part, example, place, document, found);
        }
    }
    if example.is_object() && schema["properties"].is_object() {
        found.insert(place.to_owned());
    }
    for (field, value) in example.as_object().into_iter().flatten() {
        objects(
            &schema["properties"][field],
            value,
            &format!("{place}/{field}"),
            document,
            found,
        );
    }
    for (index, value) in example.as_array().into_iter().flatten().enumerate() {
        objects(
            &schema["items"],
            value,
            &format!("{place}/{index}"),
            document,
            found,
        );
    }
}

#[tokio::test]
async fn an_array_is_refused_wherever_an_object_belongs() -> anyhow::Result<()> {
    let (_database, server, document) = stage().await?;
    let nothing = "01890000-0000-7000-8000-000000000000";
    let mut places = 0;
    for (method, path, operation) in operations(&document) {
        let content = &operation["requestBody"]["content"]["application/json"];
        let example = &content["example"];
        if example.is_null() {
            continue;
        }
        let parts = path.split('/').map(|part| match part {
            part if part.starts_with('{') && part.contains("uuid") => nothing,
            part if part.starts_with('{') => "example",
            part => part,
        });
        let concrete = parts.collect::<Vec<_>>().join("/");
        let mut found = BTreeSet::from([String::new()]);
        objects(&content["schema"], example, "", &document, &mut found);
        for place in found {
            let inside = example.pointer(&place).and_then(Value::as_object);
            let fields: Vec<Value> = inside
                .into_iter()
                .flatten()
                .map(|(_, value)| value.clone())
                .collect();
            for array in [json!([]), Value::Array(fields)] {
                let mut body = example.clone();
                *body.pointer_mut(&place).context("a place")? = array;
                let refused = answer(server.request(method.clone(), &concrete).json(&body)).await?;
                let is_refused =
                    [400, 422].contains(&refused.status) || refused.body["valid"] == false;
                assert!(is_refused, "{method} {path} {body}: {refused:?}");
                places += 1;
            }
        }
    }
    assert!(places > 20, "{places}");
    Ok(())
}

/// Where a template is sent as JSON, its own structures are objects too.
#[tokio::test]
async fn a_template_is_made_of_objects() -> anyhow::Result<()> {
    let (_database, server, _document) = stage().await?;
    let template = json!({"name": "odd", "version": "1.0.0", "lifecycle": {"max_duration_seconds": 60},
        "steps": [{"name": "a", "handler": {"callable": "x"}, "retry": {"max_attempts": 2}}]});
    assert_eq!(
        server.post("/v1/templates/validate", &template).await?.body["valid"],
        true
    );
    for place in [
        "/lifecycle",
        "/steps/0",
        "/steps/0/handler",
        "/steps/0/retry",
    ] {
        let mut wrong = template.clone();
        let part = wrong.pointer_mut(place).context("a place")?;
        let fields = part.as_object().into_iter().flatten();
        *part = fields.map(|(_, value)| value.clone()).collect();
        let refused = server.post("/v1/templates", &wrong).await?;
        assert_eq!((refused.status, refused.code()), (422, "TK020"), "{place}");
    }
    Ok(())
}

/// What a page loads: the addresses in its attributes, and in scripts that are its own.
fn loaded(html: &str) -> Vec<String> {
    ["src=\"", "href=\""]
        .iter()
        .flat_map(|word| html.split(word).skip(1))
        .filter_map(|rest| rest.split('"').next().map(str::to_owned))
        .collect()
}

#[tokio::test]
async fn the_page_to_try_it_loads_nothing_from_another_host() -> anyhow::Result<()> {
    let (_database, server, _document) = stage().await?;
    let fetch = async |path: &str| {
        let response = server.request(Method::GET, path).send().await?;
        let status = response.status().as_u16();
        anyhow::Ok((status, response.text().await?))
    };
    let (status, html) = fetch("/api-docs/ui/").await?;
    assert_eq!(status, 200);
    let files = loaded(&html);
    assert!(files.len() >= 4, "{html}");
    for file in files {
        let name = file.trim_start_matches("./");
        assert!(!name.contains("//"), "{file}");
        let (status, text) = fetch(&format!("/api-docs/ui/{name}")).await?;
        assert_eq!(status, 200, "{file}");
        if Path::new(&file)
            .extension()
            .is_some_and(|kind| kind == "css")
        {
            let other = text
                .split("url(")
                .skip(1)
                .find(|rest| rest.starts_with("http") || rest.starts_with("//"));
            assert_eq!(other, None, "{file}");
        }
    }
    let (_, script) = fetch("/api-docs/ui/swagger-initializer.js").await?;
    assert!(
        script.contains("/api-docs/openapi.json") && !script.contains("http"),
        "{script}"
    );
    Ok(())
}
