//! What a user writes, and its checks.
//!
//! A template comes as YAML or JSON. The types here give the published JSON Schema ([`json_schema`]), which checks the
//! document's shape; what a schema can not say is checked beyond it. [`check`] returns everything that is wrong at once.

mod canonical;
mod environment;
mod events;
mod kinds;
mod meaning;
mod outline;
mod published;
mod shape;
mod step;
mod types;
mod yaml;

use serde_json::Value;

pub use canonical::canonical;
pub use published::json_schema;
pub use step::{
    Backoff, BatchConfig, ChildTask, Compensation, DeliveryMode, EventCondition, FailureStrategy,
    Handler, HandlerOverride, PublishedEvent, Retry, RetryOverride, Signal, StepOverride,
    StepTemplate, StepType,
};
pub use types::{
    DomainEvent, Environment, Evaluation, Identity, IdentityStrategy, Lifecycle, OnFailure,
    StalenessAction, Template,
};

use crate::finding::{Finding, FindingCode};

/// A template as it was written.
#[derive(Debug, Clone)]
pub enum Source<'a> {
    /// YAML text; JSON text is YAML too.
    Yaml(&'a str),
    /// A JSON document.
    Json(Value),
}

/// The deepest nesting of lists and maps in a template. Reading one recurses: this deep takes 0.3 MB of stack, and up to
/// 4 MB where nothing is optimised.
pub const MAX_DEPTH: usize = 64;

/// How large a template may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The most steps in a template.
    pub max_steps: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { max_steps: 10_000 }
    }
}

/// What became of a template.
#[derive(Debug, Clone)]
pub struct Checked {
    /// The document as JSON, as written but for aliases, which have become the names they stand for. `None` when the
    /// text could not be read.
    pub document: Option<Value>,
    /// The template with the environment's changes applied; only when no finding is an error.
    pub template: Option<Template>,
    /// Everything that is wrong or worth a look, errors first.
    pub findings: Vec<Finding>,
}

/// Reads and checks a template, for `environment` if one is given. Never fails: what is wrong is a finding.
#[must_use]
pub fn check(source: Source<'_>, environment: Option<&str>, limits: &Limits) -> Checked {
    let document = match source {
        Source::Json(document) => Ok(document),
        Source::Yaml(text) => yaml::read(text),
    };
    match document {
        Ok(document) => check_document(document, environment, *limits),
        Err(finding) => Checked {
            document: None,
            template: None,
            findings: vec![finding],
        },
    }
}

/// What keeps the checks from looking closer.
fn too_large(document: &Value, limits: Limits) -> Option<Finding> {
    if is_deeper_than(MAX_DEPTH, document) {
        let message = format!("lists and maps are nested deeper than {MAX_DEPTH} levels");
        return Some(Finding::new(FindingCode::SchemaInvalid, "", message));
    }
    let steps = document
        .get("steps")
        .and_then(Value::as_array)
        .map_or(0, Vec::len);
    if steps > limits.max_steps {
        let message = format!(
            "a template has {} steps at most, this one has {steps}",
            limits.max_steps
        );
        return Some(Finding::new(FindingCode::LimitExceeded, "steps", message));
    }
    None
}

fn is_deeper_than(levels: usize, document: &Value) -> bool {
    let mut rest = vec![(document, 0)];
    while let Some((value, depth)) = rest.pop() {
        if depth > levels {
            return true;
        }
        match value {
            Value::Array(items) => rest.extend(items.iter().map(|item| (item, depth + 1))),
            Value::Object(map) => rest.extend(map.values().map(|item| (item, depth + 1))),
            _ => {}
        }
    }
    false
}

fn check_document(mut document: Value, environment: Option<&str>, limits: Limits) -> Checked {
    if let Some(finding) = too_large(&document, limits) {
        return Checked {
            document: Some(document),
            template: None,
            findings: vec![finding],
        };
    }
    // The shape is checked on the document as written, so that paths show the names the author used.
    let mut findings = shape::findings(&document);
    shape::resolve_aliases(&mut document, &mut findings);
    findings.extend(meaning::findings(&document));
    findings.sort_by_key(|finding| finding.severity);

    let mut template = None;
    if !findings.iter().any(Finding::is_error) {
        match serde_json::from_value::<Template>(canonical::with_plain_numbers(&document)) {
            Ok(read) => template = Some(read),
            Err(error) => findings.insert(
                0,
                Finding::new(FindingCode::SchemaInvalid, "", error.to_string()),
            ),
        }
    }
    if let (Some(template), Some(environment)) = (&mut template, environment) {
        environment::apply(template, environment);
    }
    Checked {
        document: Some(document),
        template,
        findings,
    }
}
