//! Templates as they are registered.

use serde_json::{Value, json};

use super::{Definition, Kind, Template};

/// What `over` says of an array in the result of a step.
fn over(source: &Definition) -> String {
    let name = &source.name;
    match source.kind {
        Kind::Batchable => format!("{name}.batch.cursors"),
        Kind::Many { .. } => name.clone(),
        _ => format!("{name}.items"),
    }
}

/// A step as it is written in its template.
fn written_step(template: &Template, position: usize) -> Value {
    let step = &template.steps[position];
    let names = step.dependencies.iter();
    let dependencies: Vec<&str> = names
        .map(|&dependency| template.steps[dependency].name.as_str())
        .collect();
    let backoff = if step.delay == 0 {
        "none"
    } else {
        "exponential"
    };
    let mut written = json!({
        "name": step.name, "handler": {"callable": "t.t"}, "dependencies": dependencies,
        "retry": {"max_attempts": step.max_attempts, "backoff": backoff, "jitter": 0,
            "backoff_base_ms": step.delay.max(1), "max_backoff_ms": step.delay.max(1)},
    });
    written["type"] = json!(match step.kind {
        Kind::Plain => "standard",
        Kind::Decision => "decision",
        Kind::Convergence => "deferred_convergence",
        Kind::Batchable => "batchable",
        Kind::Many { is_batch: true, .. } => "batch_worker",
        Kind::Many { .. } => "map",
    });
    let mut set = |field: &str, value: Option<Value>| {
        if let Some(value) = value {
            written[field] = value;
        }
    };
    if let Kind::Many {
        source,
        is_batch,
        parallel,
        strategy,
    } = step.kind
    {
        set("failure_strategy", strategy.map(|strategy| json!(strategy)));
        if !is_batch {
            set("over", Some(json!(over(&template.steps[source]))));
            set("max_parallel", parallel.map(|most| json!(most)));
        }
    } else if step.kind == Kind::Batchable {
        let parallel = template.steps.iter().find_map(|worker| match worker.kind {
            Kind::Many {
                source,
                is_batch: true,
                parallel,
                ..
            } if source == position => parallel,
            _ => None,
        });
        set(
            "batch_config",
            parallel.map(|most| json!({"parallelism": most})),
        );
    }
    written
}

/// The template as it is registered.
#[must_use]
pub fn written(template: &Template) -> String {
    let steps: Vec<Value> = (0..template.steps.len())
        .map(|position| written_step(template, position))
        .collect();
    json!({
        "name": template.name, "version": "1.0.0", "steps": steps,
        "lifecycle": {
            "on_failure": if template.blocks { "block" } else { "error" },
            "evaluation": if template.defers { "deferred" } else { "inline" },
        },
    })
    .to_string()
}
