//! Payloads held against their schemas. Payloads are parsed here and nowhere else, and only where there is a schema.

use pgrx::pg_extern;
use pgrx::pg_sys::panic::ErrorReport;
use serde_json::Value;
use tasker_rules::schema::Schema;

use crate::compiled;

/// What is wrong with a payload, in words; `None` when it satisfies the schema.
fn problem(schema: &Schema, payload: &str) -> Option<String> {
    let value: Value = match serde_json::from_str(payload) {
        Ok(value) => value,
        // What PostgreSQL took as JSON can fail here only by its depth.
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

/// What is wrong with a task's context; null when it satisfies its template's `input_schema`.
#[pg_extern(stable, parallel_unsafe)]
fn _context_problem(template_id: i32, context: &str) -> Result<Option<String>, ErrorReport> {
    let kept = compiled::template(template_id)?;
    Ok(kept
        .input_schema()?
        .and_then(|schema| problem(schema, context)))
}

/// What is wrong with a step's result; null when it satisfies the step's `result_schema`.
#[pg_extern(stable, parallel_unsafe)]
fn _result_problem(
    template_id: i32,
    number: i32,
    result: &str,
) -> Result<Option<String>, ErrorReport> {
    let kept = compiled::template(template_id)?;
    Ok(kept
        .result_schema(number)?
        .and_then(|schema| problem(&schema, result)))
}
