//! Payloads held against their schemas. Payloads are parsed here and nowhere else, and only where there is a schema.

use pgrx::pg_extern;
use serde::Deserialize;
use serde_json::Value;
use tasker_rules::payload;
use tasker_rules::schema::Schema;

use crate::compiled::Kept;
use crate::error::Error;
use crate::settings;
use crate::values::Json;

/// What is wrong with a payload, in words; `None` when it satisfies the schema.
fn problem(schema: &Schema, payload: &str) -> Option<String> {
    let mut reader = serde_json::Deserializer::from_str(payload);
    // Its depth was looked at before.
    reader.disable_recursion_limit();
    let value = match Value::deserialize(&mut reader) {
        Ok(value) => value,
        Err(error) => return Some(format!("the payload can not be checked: {error}")),
    };
    let violations = schema.violations(&value);
    if violations.is_empty() {
        return None;
    }
    Some(
        violations
            .iter()
            .map(|violation| format!("{}: {}", violation.path, violation.message))
            .collect::<Vec<_>>()
            .join("; "),
    )
}

/// What is wrong with a task's context; `None` when it satisfies its template's `input_schema`.
pub(crate) fn context_violation(kept: &Kept, context: Json) -> Result<Option<String>, Error> {
    Ok(kept
        .input_schema()?
        .and_then(|schema| problem(schema, &context.to_text())))
}

/// What is wrong with a step's result; `None` when it satisfies the step's `result_schema`.
pub(crate) fn result_violation(
    kept: &Kept,
    number: i32,
    result: Json,
) -> Result<Option<String>, Error> {
    Ok(kept
        .result_schema(number)?
        .and_then(|schema| problem(&schema, &result.to_text())))
}

/// Which limit a payload's text exceeds, in words that follow its name; null when it keeps to all.
#[pg_extern(stable, parallel_safe)]
fn _limit_problem(payload: &str) -> Option<String> {
    let (bytes, depth) = (settings::max_payload_bytes(), settings::max_payload_depth());
    if payload.len() > bytes {
        Some(format!("is longer than {bytes} bytes"))
    } else if payload::depth(payload) > depth {
        Some(format!("is nested deeper than {depth} levels"))
    } else {
        None
    }
}
