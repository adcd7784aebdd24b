//! Templates as they are registered.

use serde_json::{Value, json};

use super::{Definition, Kind, Retry, Template, Until};

/// What `over` says of an array in the result of a step.
fn over(source: &Definition) -> String {
    let name = &source.name;
    match source.kind {
        Kind::Batchable => format!("{name}.batch.cursors"),
        Kind::Many { .. } => name.clone(),
        _ => format!("{name}.items"),
    }
}

fn written_retry(retry: Retry) -> Value {
    let backoff = if retry.delay == 0 {
        "none"
    } else {
        "exponential"
    };
    json!({"max_attempts": retry.max_attempts, "backoff": backoff, "jitter": 0,
        "backoff_base_ms": retry.delay.max(1), "max_backoff_ms": retry.delay.max(1)})
}

/// The name of a signal.
#[must_use]
pub fn signal_name(name: usize) -> String {
    format!("signal_{name}")
}

/// The result of a step whose signal has not come.
const DEFAULT: &str = "nobody";

/// The function that SQL steps call.
const SQL_CALLABLE: &str = "sql:model.step";
/// Longer than any run: the attempts of SQL steps end with their sessions.
const SQL_TIMEOUT: u32 = 100_000_000;

/// The type of a step, and what it says that others don't.
fn written_kind(template: &Template, position: usize) -> Value {
    let step = &template.steps[position];
    match &step.kind {
        Kind::Plain => json!({"type": "standard"}),
        Kind::Decision => json!({"type": "decision"}),
        Kind::Convergence => json!({"type": "deferred_convergence"}),
        Kind::Batchable => {
            let parallel = template.steps.iter().find_map(|worker| match worker.kind {
                Kind::Many {
                    source,
                    is_batch: true,
                    parallel,
                    ..
                } if source == position => parallel,
                _ => None,
            });
            let config = parallel.map(|most| json!({"parallelism": most}));
            json!({"type": "batchable", "batch_config": config})
        }
        Kind::Many {
            is_batch: true,
            strategy,
            ..
        } => json!({"type": "batch_worker", "failure_strategy": strategy}),
        Kind::Many {
            source,
            parallel,
            strategy,
            ..
        } => json!({"type": "map", "over": over(&template.steps[*source]),
            "max_parallel": parallel, "failure_strategy": strategy}),
        Kind::Signal {
            name,
            timeout,
            goes_on,
        } => {
            let default = timeout.filter(|_| *goes_on).map(|_| json!({"by": DEFAULT}));
            json!({"type": "signal", "signal": without_nulls(json!({
                "name": signal_name(*name), "timeout_seconds": timeout.map(|timeout| timeout / 1_000),
                "on_timeout": default, "schema": {"type": "object", "required": ["by"]},
            }))})
        }
        Kind::Timer(Until::Delay(delay)) => {
            json!({"type": "timer", "delay_seconds": delay / 1_000})
        }
        Kind::Timer(Until::Result(source)) => {
            json!({"type": "timer", "until": format!("{}.at", template.steps[*source].name)})
        }
        Kind::Child {
            template: child,
            context,
        } => {
            let context = context.map(|source| format!("{}.context", template.steps[source].name));
            json!({"type": "task", "task": without_nulls(json!({"template": child, "context": context}))})
        }
        Kind::Sql => json!({"type": "standard", "timeout_seconds": SQL_TIMEOUT}),
    }
}

fn without_nulls(mut written: Value) -> Value {
    if let Some(fields) = written.as_object_mut() {
        fields.retain(|_, value| !value.is_null());
    }
    written
}

/// A step as it is written in its template.
fn written_step(template: &Template, position: usize) -> Value {
    let step = &template.steps[position];
    let mut written = written_kind(template, position);
    let names = step.dependencies.iter();
    let dependencies: Vec<&str> = names
        .map(|&dependency| template.steps[dependency].name.as_str())
        .collect();
    written["name"] = json!(step.name);
    written["dependencies"] = json!(dependencies);
    if !step.kind.waits() {
        let callable = if step.kind == Kind::Sql {
            SQL_CALLABLE
        } else {
            "t.t"
        };
        written["handler"] = json!({"callable": callable});
        written["retry"] = written_retry(step.retry);
    }
    if let Some(retry) = step.undo {
        written["compensate"] = json!({"callable": "t.undo", "retry": written_retry(retry)});
    }
    without_nulls(written)
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
