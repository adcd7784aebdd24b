//! Payloads held against their schemas. Payloads are parsed here and nowhere else, and only where there is a schema.

use pgrx::pg_sys::panic::ErrorReport;
use pgrx::{AnyElement, pg_extern};
use serde::Deserialize;
use serde_json::Value;
use tasker_rules::payload;
use tasker_rules::schema::Schema;

use crate::compiled::{self, Kept};
use crate::error::Error;
use crate::settings;
use crate::values::{self, Json};

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

/// What is wrong with a payload for a schema that is read for this once.
pub(crate) fn violation_of(schema: &Value, payload: Json) -> Option<String> {
    match Schema::compile(schema) {
        Ok(schema) => problem(&schema, &payload.to_text()),
        Err(error) => Some(error.to_string()),
    }
}

/// What is wrong with a task's context; `None` when it satisfies its template's `input_schema`.
pub(crate) fn context_violation(kept: &Kept, context: Json) -> Result<Option<String>, Error> {
    Ok(kept
        .input_schema()?
        .and_then(|schema| problem(schema, &context.to_text())))
}

/// How a context given for a task of a template is refused; null when it can be taken.
#[pg_extern(
    sql = r#"CREATE FUNCTION "_context_problem"("template_id" integer, "context" jsonb) RETURNS text[]
LANGUAGE c STABLE PARALLEL UNSAFE AS 'MODULE_PATHNAME', '@FUNCTION_NAME@';"#
)]
fn _context_problem(
    template_id: i32,
    context: AnyElement,
) -> Result<Option<Vec<Option<String>>>, ErrorReport> {
    Ok(values::refused(check_context(
        template_id,
        Json::of_datum(context.datum()),
    ))?)
}

/// How a payload that is too large is refused; null when it can be taken.
#[pg_extern(
    sql = r#"CREATE FUNCTION "_payload_problem"("name" text, "payload" jsonb) RETURNS text[]
LANGUAGE c STABLE PARALLEL UNSAFE AS 'MODULE_PATHNAME', '@FUNCTION_NAME@';"#
)]
fn _payload_problem(
    name: &str,
    payload: AnyElement,
) -> Result<Option<Vec<Option<String>>>, ErrorReport> {
    let problem = exceeded_limit(Json::of_datum(payload.datum()));
    Ok(values::refused(problem.map_or(Ok(()), |problem| {
        let hint = "Keep large data elsewhere and give a reference to it.";
        Err(Error::refused(
            "TK022",
            format!("the {name} {problem}"),
            None,
            Some(hint),
        ))
    }))?)
}

fn check_context(template_id: i32, context: Json) -> Result<(), Error> {
    let refused = |code, message, detail| Err(Error::refused(code, message, detail, None));
    if !context.is_object() {
        let message = "the context must be a JSON object".to_owned();
        return refused("22023", message, None);
    }
    if let Some(problem) = exceeded_limit(context) {
        return refused("TK022", format!("the context {problem}"), None);
    }
    match context_violation(compiled::template(template_id)?.as_ref(), context)? {
        Some(violation) => {
            let message = "the context does not satisfy the template's input_schema".to_owned();
            refused("TK021", message, Some(violation))
        }
        None => Ok(()),
    }
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

/// What is wrong with the payload of an event that a step publishes, by its place among them; `None` when it satisfies the event's schema.
pub(crate) fn event_violation(
    kept: &Kept,
    number: i32,
    place: usize,
    payload: Option<Json>,
) -> Result<Option<String>, Error> {
    Ok(kept.event_schema(number, place)?.and_then(|schema| {
        let text = payload.map_or_else(|| "null".to_owned(), Json::to_text);
        problem(&schema, &text)
    }))
}

/// What is wrong with a step's result, by its size or its step's `result_schema`: a code and the words for it; null when it can be taken.
#[pg_extern(
    sql = r#"CREATE FUNCTION "_result_problem"("template_id" integer, "number" integer, "result" jsonb) RETURNS text[]
LANGUAGE c STABLE PARALLEL UNSAFE AS 'MODULE_PATHNAME', '@FUNCTION_NAME@';"#
)]
fn _result_problem(
    template_id: i32,
    number: i32,
    result: AnyElement,
) -> Result<Option<Vec<String>>, ErrorReport> {
    let result = Json::of_datum(result.datum());
    if let Some(problem) = exceeded_limit(result) {
        return Ok(Some(vec!["TK022".to_owned(), problem]));
    }
    let kept = compiled::template(template_id)?;
    let violation = result_violation(&kept, number, result)?;
    Ok(violation.map(|violation| vec!["TK021".to_owned(), violation]))
}

/// Which limit a payload exceeds, in words that follow its name.
pub(crate) fn exceeded_limit(payload: Json) -> Option<String> {
    /// A level takes at least its own header and an entry for what is in it.
    const BYTES_A_LEVEL: usize = 8;
    /// A byte of text may be held as an escape of six characters.
    const TEXT_A_BYTE: usize = 6;
    let (bytes, depth) = (settings::max_payload_bytes(), settings::max_payload_depth());
    let size = payload.size();
    if size < depth * BYTES_A_LEVEL && size * TEXT_A_BYTE < bytes {
        return None;
    }
    let text = payload.to_text();
    if text.len() > bytes {
        Some(format!("is longer than {bytes} bytes"))
    } else if payload::depth(&text) > depth {
        Some(format!("is nested deeper than {depth} levels"))
    } else {
        None
    }
}
