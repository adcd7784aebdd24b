//! What is different in two templates: fields of the whole, steps added, removed and changed.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::Serialize;
use serde_json::{Map, Value};
use tasker_rules::template::{StepTemplate, Template};

use crate::failure::Failure;

/// From one template to another.
#[derive(Debug, Serialize)]
pub(super) struct Difference {
    from: String,
    to: String,
    changed_fields: Vec<FieldChange>,
    added_steps: Vec<String>,
    removed_steps: Vec<String>,
    changed_steps: Vec<StepChange>,
}

#[derive(Debug, Serialize)]
struct StepChange {
    name: String,
    changed_fields: Vec<FieldChange>,
}

/// A field with its default filled in, before and after.
#[derive(Debug, Serialize)]
struct FieldChange {
    field: String,
    from: Value,
    to: Value,
}

impl Difference {
    pub(super) fn between(from: &Template, to: &Template) -> Result<Self, Failure> {
        let (old_steps, new_steps) = (by_name(from), by_name(to));
        let mut changed_steps = Vec::new();
        for (name, new) in &new_steps {
            let Some(old) = old_steps.get(name) else {
                continue;
            };
            let changed_fields = changes(&object(old)?, &object(new)?);
            if !changed_fields.is_empty() {
                changed_steps.push(StepChange {
                    name: (*name).to_owned(),
                    changed_fields,
                });
            }
        }
        Ok(Self {
            from: name_of(from),
            to: name_of(to),
            changed_fields: changes(&whole(from)?, &whole(to)?),
            added_steps: only_in(&new_steps, &old_steps),
            removed_steps: only_in(&old_steps, &new_steps),
            changed_steps,
        })
    }

    /// One change a line, as `diff` marks them; `~` is what is there in both.
    pub(super) fn text(&self) -> String {
        let mut text = format!("{} → {}\n", self.from, self.to);
        for change in &self.changed_fields {
            let _ = writeln!(text, "~ {}", change.text());
        }
        for name in &self.added_steps {
            let _ = writeln!(text, "+ step {name}");
        }
        for name in &self.removed_steps {
            let _ = writeln!(text, "- step {name}");
        }
        for step in &self.changed_steps {
            let _ = writeln!(text, "~ step {}", step.name);
            for change in &step.changed_fields {
                let _ = writeln!(text, "    {}", change.text());
            }
        }
        if text.lines().count() == 1 {
            text.push_str("no difference\n");
        }
        text
    }
}

impl FieldChange {
    fn text(&self) -> String {
        let shown = |value: &Value| match value {
            Value::Null => "none".to_owned(),
            value => value.to_string(),
        };
        format!(
            "{}: {} → {}",
            self.field,
            shown(&self.from),
            shown(&self.to)
        )
    }
}

fn name_of(template: &Template) -> String {
    format!(
        "{}/{} {}",
        template.namespace_name, template.name, template.version
    )
}

fn by_name(template: &Template) -> BTreeMap<&str, &StepTemplate> {
    let steps = template.steps.iter();
    steps.map(|step| (step.name.as_str(), step)).collect()
}

fn only_in<T>(steps: &BTreeMap<&str, T>, others: &BTreeMap<&str, T>) -> Vec<String> {
    let names = steps.keys().filter(|name| !others.contains_key(*name));
    names.map(|name| (*name).to_owned()).collect()
}

/// All but the steps and what says which template it is.
fn whole(template: &Template) -> Result<Map<String, Value>, Failure> {
    let mut fields = object(template)?;
    for field in ["name", "namespace_name", "version", "steps"] {
        fields.remove(field);
    }
    Ok(fields)
}

fn object<T: Serialize>(value: &T) -> Result<Map<String, Value>, Failure> {
    Ok(match serde_json::to_value(value)? {
        Value::Object(fields) => fields,
        _ => Map::new(),
    })
}

fn changes(from: &Map<String, Value>, to: &Map<String, Value>) -> Vec<FieldChange> {
    let mut names: Vec<&String> = from.keys().chain(to.keys()).collect();
    names.sort_unstable();
    names.dedup();
    let value =
        |fields: &Map<String, Value>, name: &str| fields.get(name).cloned().unwrap_or(Value::Null);
    names
        .into_iter()
        .map(|name| FieldChange {
            field: name.clone(),
            from: value(from, name),
            to: value(to, name),
        })
        .filter(|change| change.from != change.to)
        .collect()
}

#[cfg(test)]
mod tests {
    use tasker_rules::template::{Limits, Source, check};

    use super::*;

    fn template(yaml: &str) -> Template {
        check(Source::Yaml(yaml), None, &Limits::default())
            .template
            .expect("a template")
    }

    #[test]
    fn steps_are_added_removed_and_changed() {
        let old = template(
            "{name: x, version: 1.0.0, steps: [{name: a, handler: {callable: t}}, {name: b, handler: {callable: t}, dependencies: [a]}]}",
        );
        let new = template(
            "{name: x, version: 1.1.0, description: more, steps: [{name: a, handler: {callable: t}, timeout_seconds: 5}, {name: c, handler: {callable: t}, dependencies: [a]}]}",
        );
        let text = Difference::between(&old, &new).expect("JSON").text();
        assert_eq!(
            text,
            "default/x 1.0.0 → default/x 1.1.0\n~ description: none → \"more\"\n+ step c\n- step b\n~ step a\n    timeout_seconds: none → 5\n"
        );
    }

    #[test]
    fn what_is_written_differently_and_means_the_same_is_no_difference() {
        let old = template("{name: x, version: 1.0.0, steps: [{name: a, handler: {callable: t}}]}");
        let new = template(
            "{name: x, version: 2.0.0, steps: [{name: a, type: standard, dependencies: [], handler: {callable: t, method: call}}]}",
        );
        let text = Difference::between(&old, &new).expect("JSON").text();
        assert!(text.ends_with("no difference\n"), "{text}");
    }
}
