//! Outcomes as workers report them. A bad one rejects itself, not its batch: nothing is cast before it has been looked at.

use pgrx::pg_sys;
use tasker_rules::verdict::OutcomeStatus;

use crate::error::Error;
use crate::statements::{Session, Statement};
use crate::values::{Json, Row};
use crate::{keys, payloads};

/// One outcome.
pub(super) struct Outcome {
    pub(super) step: Option<u128>,
    pub(super) attempt: Option<i32>,
    pub(super) result: Option<Json>,
    pub(super) checkpoint: Option<Json>,
    /// What it says, or the code and the words for what is wrong with it.
    pub(super) said: Result<Said, (&'static str, String)>,
}

/// What a well-formed outcome says.
pub(super) struct Said {
    pub(super) step: u128,
    pub(super) attempt: i32,
    pub(super) status: OutcomeStatus,
    pub(super) failure: Option<Failure>,
}

/// The error of a failed attempt.
pub(super) struct Failure {
    pub(super) error: Json,
    pub(super) message: String,
    pub(super) error_type: Option<String>,
    pub(super) is_retryable: bool,
    pub(super) retry_after_ms: Option<u64>,
}

const READ: Statement = Statement {
    name: "read_outcomes",
    text: "select o.value, o.value ->> 'step_uuid', pg_catalog.jsonb_typeof(o.value -> 'attempt'), o.value ->> 'attempt', o.value ->> 'status',
             o.value -> 'result', o.value -> 'checkpoint', e.error, pg_catalog.jsonb_typeof(e.error), pg_catalog.jsonb_typeof(e.error -> 'message'),
             e.error ->> 'message', e.error ->> 'type', pg_catalog.jsonb_typeof(e.error -> 'retryable'), e.error ->> 'retryable', e.error ->> 'retry_after_ms'
           from {}($1) o(value)
           cross join lateral (select o.value -> 'error' as error) e",
    rows: None,
    parameters: &[pg_sys::JSONBOID],
};

/// Reads a JSON array of outcomes.
pub(super) fn read(session: &Session, outcomes: Json) -> Result<Vec<Outcome>, Error> {
    session.rows(
        &READ,
        "pg_catalog.jsonb_array_elements",
        &[outcomes.into()],
        |row| Ok(read_one(row)),
    )
}

fn read_one(row: &Row) -> Outcome {
    let step = row.optional_text(1).and_then(keys::parse);
    let is_number = row.optional_text(2) == Some("number");
    let attempt = row
        .optional_text(3)
        .filter(|digits| is_number && is_digits(digits, 9))
        .and_then(|digits| digits.parse().ok());
    Outcome {
        step,
        attempt,
        result: row.json(5),
        checkpoint: row.json(6),
        said: read_said(row, step, attempt),
    }
}

fn read_said(
    row: &Row,
    step: Option<u128>,
    attempt: Option<i32>,
) -> Result<Said, (&'static str, String)> {
    let bad = |problem: &str| ("22023", problem.to_owned());
    let Some(whole) = row.json(0).filter(|whole| whole.is_object()) else {
        return Err(bad("an outcome must be a JSON object"));
    };
    let step = step.ok_or_else(|| bad("step_uuid must be a UUID"))?;
    let attempt = attempt.ok_or_else(|| bad("attempt must be a whole number, as claimed"))?;
    let status = row.optional_text(4).and_then(|status| status.parse().ok());
    let status = status.ok_or_else(|| bad("status must be complete, fail, release or yield"))?;
    let failure = match status {
        OutcomeStatus::Fail => Some(read_failure(row).map_err(bad)?),
        _ => None,
    };
    if let Some(problem) = limit_problem(whole, row) {
        return Err(("TK022", problem));
    }
    Ok(Said {
        step,
        attempt,
        status,
        failure,
    })
}

fn read_failure(row: &Row) -> Result<Failure, &'static str> {
    let error = row
        .json(7)
        .filter(|_| row.text(8) == "object" && row.text(9) == "string");
    let error = error.ok_or("a failure needs an error with a message")?;
    let is_retryable = match row.optional_text(12) {
        None | Some("null") => true,
        Some("boolean") => row.text(13) == "true",
        Some(_) => return Err("error.retryable must be true or false"),
    };
    let retry_after_ms = row.optional_text(14);
    if retry_after_ms.is_some_and(|text| !is_digits(text, 15)) {
        return Err("error.retry_after_ms must be a whole number of milliseconds");
    }
    Ok(Failure {
        error,
        message: row.text(10).to_owned(),
        error_type: row.optional_text(11).map(str::to_owned),
        is_retryable,
        retry_after_ms: retry_after_ms.and_then(|text| text.parse().ok()),
    })
}

fn is_digits(text: &str, most: usize) -> bool {
    (1..=most).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// Only an outcome that is too long or too deep as a whole is looked at part by part.
fn limit_problem(whole: Json, row: &Row) -> Option<String> {
    payloads::exceeded_limit(whole)?;
    [("checkpoint", 6), ("error", 7), ("result", 5)]
        .into_iter()
        .find_map(|(name, column)| {
            Some(format!(
                "the {name} {}",
                payloads::exceeded_limit(row.json(column)?)?
            ))
        })
}
