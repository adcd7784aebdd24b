//! A template's changes for an environment: whether they can be applied, and applying them.

use std::collections::{HashMap, HashSet};

use serde_json::Value;

use super::meaning::sql_problem;
use super::{HandlerOverride, Retry, RetryOverride, StepOverride, StepTemplate, Template};
use crate::finding::{Finding, FindingCode};
use crate::nearest::Hints;
use crate::path;
use crate::sql_handler;

/// The name that stands for every step.
pub(super) const ALL: &str = "ALL";

/// What is wrong with the changes for any environment, beyond their shape.
pub(super) fn findings(document: &Value, names: &[Option<&str>], findings: &mut Vec<Finding>) {
    let environments = document.get("environments").and_then(Value::as_object);
    let known: HashSet<&str> = names.iter().copied().flatten().chain([ALL]).collect();
    let mut hints = Hints::default();
    for (environment, changes) in environments.into_iter().flatten() {
        let outer = path::field("environments", environment);
        let mut seen = HashSet::new();
        let steps = changes.get("steps").and_then(Value::as_array);
        for (index, step) in steps.into_iter().flatten().enumerate() {
            let mut push = |code, field: &str, message: String| {
                findings.push(Finding::new(
                    code,
                    format!("{outer}.steps[{index}].{field}"),
                    message,
                ));
            };
            let name = step.get("name").and_then(Value::as_str);
            if let Some(name) = name.filter(|name| !known.contains(name)) {
                let hint = hints.did_you_mean(name, names);
                push(
                    FindingCode::NameInvalid,
                    "name",
                    format!("there is no step {name:?}{hint}"),
                );
            }
            if let Some(name) = name.filter(|name| !seen.insert(*name)) {
                push(
                    FindingCode::DuplicateStepName,
                    "name",
                    format!("the changes of {name:?} are given twice"),
                );
            }
            let callable = step.pointer("/handler/callable").and_then(Value::as_str);
            let sql = callable.filter(|callable| sql_handler::is_sql(callable));
            if let Some((code, message)) = sql.and_then(sql_problem) {
                push(code, "handler.callable", message);
            }
        }
    }
}

/// Applies the changes for an environment; a template that names none for it stays as it is. Those for all steps come
/// first, so that those for a named step win.
pub(super) fn apply(template: &mut Template, environment: &str) {
    let Some(changes) = template.environments.get(environment).cloned() else {
        return;
    };
    let (for_all, for_named): (Vec<_>, Vec<_>) =
        changes.steps.iter().partition(|change| change.name == ALL);
    for change in for_all {
        for step in &mut template.steps {
            change_step(step, change);
        }
    }
    let positions: HashMap<String, usize> = template
        .steps
        .iter()
        .enumerate()
        .map(|(position, step)| (step.name.clone(), position))
        .collect();
    for change in for_named {
        if let Some(step) = positions
            .get(&change.name)
            .and_then(|&position| template.steps.get_mut(position))
        {
            change_step(step, change);
        }
    }
}

fn change_step(step: &mut StepTemplate, change: &StepOverride) {
    if let (Some(handler), Some(change)) = (&mut step.handler, &change.handler) {
        let HandlerOverride {
            callable,
            method,
            initialization,
        } = change.clone();
        set(&mut handler.callable, callable);
        set(&mut handler.method, method);
        handler
            .initialization
            .extend(initialization.unwrap_or_default());
    }
    if let Some(change) = &change.retry {
        change_retry(&mut step.retry, change);
    }
    if change.timeout_seconds.is_some() {
        step.timeout_seconds = change.timeout_seconds;
    }
}

fn change_retry(retry: &mut Retry, change: &RetryOverride) {
    set(&mut retry.retryable, change.retryable);
    set(&mut retry.max_attempts, change.max_attempts);
    set(&mut retry.backoff, change.backoff);
    set(&mut retry.backoff_base_ms, change.backoff_base_ms);
    set(&mut retry.max_backoff_ms, change.max_backoff_ms);
    set(&mut retry.jitter, change.jitter);
}

fn set<T>(field: &mut T, change: Option<T>) {
    if let Some(value) = change {
        *field = value;
    }
}
