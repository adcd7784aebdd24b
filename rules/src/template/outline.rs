//! What the checks read of a document that may be of any shape.

use serde_json::Value;

use super::step::StepType;

/// A document's steps, as far as they can be made out.
pub(super) struct Outline<'a> {
    pub(super) steps: Vec<StepOutline<'a>>,
}

/// A step as far as it can be made out.
pub(super) struct StepOutline<'a> {
    pub(super) name: Option<&'a str>,
    /// `None` where the type is not one there is.
    pub(super) step_type: Option<StepType>,
    pub(super) callable: Option<&'a str>,
    /// With the position of each in the document.
    pub(super) dependencies: Vec<Option<&'a str>>,
    pub(super) value: &'a Value,
}

impl<'a> Outline<'a> {
    pub(super) fn of(document: &'a Value) -> Self {
        let steps = document.get("steps").and_then(Value::as_array);
        Self {
            steps: steps.into_iter().flatten().map(StepOutline::of).collect(),
        }
    }
}

impl<'a> StepOutline<'a> {
    fn of(value: &'a Value) -> Self {
        let dependencies = value.get("dependencies").and_then(Value::as_array);
        Self {
            name: value.get("name").and_then(Value::as_str),
            step_type: match value.get("type") {
                None => Some(StepType::Standard),
                Some(name) => name.as_str().and_then(|name| name.parse().ok()),
            },
            callable: value.pointer("/handler/callable").and_then(Value::as_str),
            dependencies: dependencies
                .into_iter()
                .flatten()
                .map(Value::as_str)
                .collect(),
            value,
        }
    }
}
