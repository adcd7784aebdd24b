//! What a schema can not say about the events of a template.

use std::collections::HashSet;

use serde_json::Value;

use super::outline::Outline;
use crate::finding::{Finding, FindingCode};
use crate::nearest::Hints;
use crate::path;

/// Events that are declared or published twice, and those that are published without being declared where a declaration is.
pub(super) fn findings(document: &Value, outline: &Outline<'_>, findings: &mut Vec<Finding>) {
    let mut push = |here: String, message: String| {
        findings.push(Finding::new(FindingCode::NameInvalid, here, message));
    };
    let declared: Vec<Option<&str>> = list(document.get("domain_events"))
        .map(|event| text(event, "name"))
        .collect();
    let mut known: HashSet<&str> = HashSet::new();
    for (index, name) in declared.iter().enumerate() {
        if let Some(name) = name
            && !known.insert(name)
        {
            push(
                format!("domain_events[{index}].name"),
                format!("the event {name:?} is declared twice"),
            );
        }
    }

    let mut hints = Hints::default();
    for (step_index, step) in outline.steps.iter().enumerate() {
        let mut seen = HashSet::new();
        for (index, event) in list(step.value.get("publishes_events")).enumerate() {
            let Some(name) = text(event, "name") else {
                continue;
            };
            let here = || {
                path::join(
                    &format!("steps[{step_index}].publishes_events[{index}]"),
                    "name",
                )
            };
            let way = (
                name,
                text(event, "condition").unwrap_or("success"),
                text(event, "delivery_mode").unwrap_or("durable"),
            );
            if !seen.insert(way) {
                push(
                    here(),
                    format!("the step publishes the event {name:?} twice in the same way"),
                );
            }
            if !declared.is_empty() && !known.contains(name) {
                let hint = hints.did_you_mean(name, &declared);
                push(
                    here(),
                    format!("the event {name:?} is not among the template's domain_events{hint}"),
                );
            }
        }
    }
}

fn list(value: Option<&Value>) -> impl Iterator<Item = &Value> {
    value.and_then(Value::as_array).into_iter().flatten()
}

fn text<'a>(event: &'a Value, field: &str) -> Option<&'a str> {
    event.get(field).and_then(Value::as_str)
}
