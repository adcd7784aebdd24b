//! Templates read, checked and compiled for storing.

use pgrx::iter::TableIterator;
use pgrx::{JsonB, name, pg_extern};
use serde_json::Value;
use sha2::{Digest, Sha256};
use tasker_rules::error_code::ErrorCode;
use tasker_rules::finding::{Finding, FindingCode};
use tasker_rules::graph::{self, CompiledTemplate};
use tasker_rules::key::version_key;
use tasker_rules::schema::top_level_defaults;
use tasker_rules::sql_handler;
use tasker_rules::template::{self, Checked, Source, StepType, Template, canonical};

use crate::{edition, settings};

fn check(definition: &str, is_json: bool, environment: Option<&str>) -> Checked {
    let mut checked = read(definition, is_json, environment);
    let beyond = beyond_schema(checked.template.as_ref());
    if !beyond.is_empty() {
        checked.template = None;
        checked.findings.splice(0..0, beyond);
    }
    // A schema that doesn't know of SQL functions neither checks who registers them nor runs them.
    if edition::relation(c"sql_runs").is_none() && checked.template.as_ref().is_some_and(has_sql) {
        checked.template = None;
        checked.findings.insert(
            0,
            Finding::new(
                FindingCode::UnsupportedType,
                "",
                "handlers that are SQL functions need a newer version of the extension's schema: alter extension tasker update",
            ),
        );
    }
    checked
}

fn has_sql(template: &Template) -> bool {
    let mut handlers = template
        .steps
        .iter()
        .filter_map(|step| step.handler.as_ref());
    handlers.any(|handler| sql_handler::is_sql(&handler.callable))
}

/// Steps of types that the library knows and the schema can't hold: it may be of a version before them.
fn beyond_schema(template: Option<&Template>) -> Vec<Finding> {
    let steps = template
        .map(|template| &template.steps[..])
        .unwrap_or_default();
    let others = steps
        .iter()
        .enumerate()
        .filter(|(_, step)| step.step_type != StepType::Standard || step.compensate.is_some());
    let findings: Vec<Finding> = others
        .map(|(position, step)| {
            let message = format!(
                "steps of type {}, or what undoes them, need a newer schema: alter extension tasker update",
                step.step_type
            );
            let path = format!("steps[{position}].type");
            Finding::new(FindingCode::UnsupportedType, path, message)
        })
        .collect();
    if findings.is_empty() || edition::has_column(c"steps", c"instances") {
        return Vec::new();
    }
    findings
}

fn read(definition: &str, is_json: bool, environment: Option<&str>) -> Checked {
    // JSON that comes as jsonb was parsed by PostgreSQL; its text is parsed here once more, by the reader of JSON.
    match is_json.then(|| serde_json::from_str::<Value>(definition)) {
        Some(Ok(document)) => {
            template::check(Source::Json(document), environment, &settings::limits())
        }
        Some(Err(_)) | None => {
            template::check(Source::Yaml(definition), environment, &settings::limits())
        }
    }
}

/// All that is to be said about a template, errors first.
#[pg_extern(stable, parallel_unsafe)]
fn _check_template(
    definition: Option<&str>,
    is_json: bool,
    environment: Option<&str>,
) -> TableIterator<
    'static,
    (
        name!(severity, String),
        name!(code, String),
        name!(path, String),
        name!(message, String),
    ),
> {
    let findings = match definition {
        Some(definition) => check(definition, is_json, environment).findings,
        None => vec![Finding::new(
            FindingCode::SchemaInvalid,
            "",
            "there is no template: the definition is null",
        )],
    };
    TableIterator::new(findings.into_iter().map(|finding| {
        (
            finding.severity.as_str().to_owned(),
            finding.code.as_str().to_owned(),
            finding.path,
            finding.message,
        )
    }))
}

/// A template ready for storing: one row, with `compiled` null and the `failure` told when it is not valid.
#[pg_extern(stable, parallel_unsafe)]
fn _compile_template(
    definition: &str,
    is_json: bool,
    environment: Option<&str>,
) -> TableIterator<
    'static,
    (
        name!(failure_code, Option<String>),
        name!(failure, Option<String>),
        name!(findings, JsonB),
        name!(namespace, Option<String>),
        name!(name, Option<String>),
        name!(version, Option<String>),
        name!(version_key, Option<String>),
        name!(description, Option<String>),
        name!(definition, Option<JsonB>),
        name!(compiled, Option<JsonB>),
        name!(content_hash, Option<Vec<u8>>),
        name!(steps_count, Option<i32>),
        name!(roots_count, Option<i32>),
        name!(context_defaults, Option<JsonB>),
        name!(has_input_schema, Option<bool>),
        name!(identity_strategy, Option<String>),
        name!(identity_window_seconds, Option<i64>),
        name!(on_failure, Option<String>),
    ),
> {
    let checked = check(definition, is_json, environment);
    let (Some(document), Some(template)) = (checked.document, checked.template) else {
        return TableIterator::once(refused(&checked.findings));
    };
    let compiled = match graph::compile(&template) {
        Ok(compiled) => compiled,
        Err(findings) => return TableIterator::once(refused(&findings)),
    };
    TableIterator::once(accepted(
        &checked.findings,
        document,
        template,
        &compiled,
        environment,
    ))
}

type Row = (
    Option<String>,
    Option<String>,
    JsonB,
    Option<String>,
    Option<String>,
    Option<String>,
    Option<String>,
    Option<String>,
    Option<JsonB>,
    Option<JsonB>,
    Option<Vec<u8>>,
    Option<i32>,
    Option<i32>,
    Option<JsonB>,
    Option<bool>,
    Option<String>,
    Option<i64>,
    Option<String>,
);

fn accepted(
    findings: &[Finding],
    document: Value,
    template: Template,
    compiled: &CompiledTemplate,
    environment: Option<&str>,
) -> Row {
    let mut content = Sha256::new();
    content.update(canonical(&document));
    // The same document is other content for an environment that it has changes for.
    content.update([0]);
    let changed_for =
        environment.filter(|&environment| template.environments.contains_key(environment));
    content.update(changed_for.unwrap_or_default());
    let defaults = template
        .input_schema
        .as_ref()
        .map(top_level_defaults)
        .unwrap_or_default();
    (
        None,
        None,
        told(findings),
        Some(template.namespace_name),
        Some(template.name),
        Some(template.version.clone()),
        Some(version_key(&template.version)),
        template.description,
        Some(JsonB(document)),
        serde_json::to_value(compiled).ok().map(JsonB),
        Some(content.finalize().to_vec()),
        Some(compiled.steps.len() as i32),
        Some(compiled.first_for_workers() as i32),
        Some(JsonB(Value::Object(defaults))),
        Some(template.input_schema.is_some()),
        Some(template.identity.strategy.as_str().to_owned()),
        template.identity.window_seconds.map(i64::from),
        Some(template.lifecycle.on_failure.as_str().to_owned()),
    )
}

fn refused(findings: &[Finding]) -> Row {
    let errors: Vec<&Finding> = findings
        .iter()
        .filter(|finding| finding.is_error())
        .collect();
    let is_limit = errors
        .iter()
        .all(|finding| finding.code == FindingCode::LimitExceeded);
    let code = if is_limit {
        ErrorCode::Tk022
    } else {
        ErrorCode::Tk020
    };
    let first = errors
        .first()
        .map(|finding| {
            format!(
                ": {}{} ({})",
                at(&finding.path),
                finding.message,
                finding.code.as_str()
            )
        })
        .unwrap_or_default();
    let more = if errors.len() > 1 {
        format!(", and {} more", errors.len() - 1)
    } else {
        String::new()
    };
    let failure = format!("template is not valid{first}{more}");
    (
        Some(code.sqlstate().to_owned()),
        Some(failure),
        told(findings),
        None,
        None,
        None,
        None,
        None,
        None,
        None,
        None,
        None,
        None,
        None,
        None,
        None,
        None,
        None,
    )
}

fn at(path: &str) -> String {
    if path.is_empty() {
        String::new()
    } else {
        format!("{path}: ")
    }
}

fn told(findings: &[Finding]) -> JsonB {
    JsonB(serde_json::to_value(findings).unwrap_or_default())
}
