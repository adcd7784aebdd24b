//! The template as YAML, with comments where someone who meets one for the first time needs them.

use super::plan::{Plan, PlannedStep, Role};
use super::texts::{Sections, filled};

const TEMPLATE: Sections = Sections(include_str!("../../scaffolds/template.in"));

const SUMMARY: &str =
    "{ type: object, required: [summary], properties: { summary: { type: string } } }";
const ROWS: &str = "{ type: object, required: [rows], properties: { rows: { type: integer } } }";

/// The text of the template. It is valid when the names are.
pub(super) fn text(plan: &Plan) -> String {
    let name = scalar(&plan.name);
    let head = filled(
        TEMPLATE.get("header"),
        &[
            ("name", &name),
            ("namespace", &scalar(&plan.namespace)),
            ("description", "What it is for, in words"),
            ("input", input(plan)),
        ],
    );
    let mut text = head + "\n";
    for (position, step) in plan.steps.iter().enumerate() {
        text.push_str(&step_text(step, position == 0));
        text.push('\n');
    }
    text
}

fn input(plan: &Plan) -> &'static str {
    if plan.has(&[Role::List]) {
        "items: { type: array, items: { type: string }, default: [one, two, three] }"
    } else if plan.has(&[Role::Choose]) {
        "amount: { type: number, minimum: 0, default: 50 }"
    } else if plan.has(&[Role::Cut]) {
        "count: { type: integer, minimum: 0, default: 10 }"
    } else {
        "subject: { type: string, default: world }"
    }
}

fn step_text(step: &PlannedStep, is_first: bool) -> String {
    let mut rest = String::new();
    if !step.dependencies.is_empty() {
        let names: Vec<String> = step.dependencies.iter().map(|name| scalar(name)).collect();
        rest.push_str("    dependencies: [");
        rest.push_str(&names.join(", "));
        rest.push_str("]\n");
    }
    rest.push_str(fields(step.role));
    if is_first {
        rest.push_str("    # A JSON Schema for what the handler returns; a result that doesn't satisfy it fails the step.\n");
    }
    let text = filled(
        TEMPLATE.get("step"),
        &[
            ("step", &scalar(&step.name)),
            ("callable", &scalar(&step.callable)),
            ("kind", kind(step.role)),
            ("rest", &rest),
            ("result_schema", result_schema(step.role)),
        ],
    );
    if is_first {
        text + "\n" + TEMPLATE.get("retry")
    } else {
        text
    }
}

fn kind(role: Role) -> &'static str {
    match role {
        Role::Choose => {
            "    # Its result names those of the steps behind it that are to exist.\n    type: decision\n"
        }
        Role::Join => {
            "    # Waits for those of its dependencies that exist.\n    type: deferred_convergence\n"
        }
        Role::Element => {
            "    # Runs once for each element of an array in the result of a dependency.\n    type: map\n"
        }
        Role::Cut => {
            "    # Its result has a cursor for each instance of the batch worker.\n    type: batchable\n"
        }
        Role::Part => "    type: batch_worker\n",
        Role::First | Role::Next | Role::List | Role::Gather | Role::Branch | Role::Total => "",
    }
}

fn fields(role: Role) -> &'static str {
    match role {
        Role::Element => "    over: list_items.items\n    max_parallel: 20\n",
        Role::Cut => "    batch_config: { batch_size: 4, parallelism: 5 }\n",
        _ => "",
    }
}

fn result_schema(role: Role) -> &'static str {
    match role {
        Role::First | Role::Next | Role::Element | Role::Branch => SUMMARY,
        Role::List => {
            "{ type: object, required: [items], properties: { items: { type: array, items: { type: string } } } }"
        }
        Role::Gather => {
            "{ type: object, required: [count], properties: { count: { type: integer } } }"
        }
        Role::Choose => "{ type: object, required: [decision] }",
        Role::Join => {
            "{ type: object, required: [branches], properties: { branches: { type: array, items: { type: string } } } }"
        }
        Role::Cut => "{ type: object, required: [batch] }",
        Role::Part | Role::Total => ROWS,
    }
}

/// A text as a YAML scalar: in quotes unless it can't be taken for anything but text.
fn scalar(text: &str) -> String {
    const NOT_TEXT: [&str; 9] = ["true", "false", "null", "yes", "no", "on", "off", "y", "n"];
    let is_plain = text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.'))
        && !NOT_TEXT.contains(&text.to_ascii_lowercase().as_str());
    if is_plain {
        text.to_owned()
    } else {
        serde_json::Value::from(text).to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_be_taken_for_something_else_is_quoted() {
        let shown = ["order", "no", "007", "-a", "a: b"].map(scalar);
        assert_eq!(shown, ["order", "\"no\"", "\"007\"", "\"-a\"", "\"a: b\""]);
    }
}
