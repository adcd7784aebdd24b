//! Outcomes as workers report them. A bad one rejects itself, not its batch: nothing is cast before it has been looked at.

use tasker_rules::verdict::OutcomeStatus;

use crate::values::{Json, Kind};
use crate::{keys, payloads};

/// One outcome.
pub(super) struct Outcome {
    pub(super) step: Option<u128>,
    pub(super) attempt: Option<i32>,
    pub(super) result: Option<Json>,
    pub(super) checkpoint: Option<Json>,
    /// The payloads of domain events, by their names.
    pub(super) events: Option<Json>,
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

/// Reads a JSON array of outcomes.
pub(super) fn read(outcomes: Json) -> Vec<Outcome> {
    outcomes.elements().map(read_one).collect()
}

fn read_one(whole: Json) -> Outcome {
    let is_object = whole.is_object();
    let field = |name| whole.field_of(name).filter(|_| is_object);
    let text = |name| whole.text_of(name).filter(|_| is_object);
    let step = text("step_uuid").and_then(|text| keys::parse(&text));
    let attempt = field("attempt")
        .filter(|attempt| attempt.kind() == Kind::Number)
        .map(Json::to_text)
        .filter(|digits| is_digits(digits, 9))
        .and_then(|digits| digits.parse().ok());
    let status = text("status").and_then(|status| status.parse().ok());
    let mut outcome = Outcome {
        step,
        attempt,
        result: field("result"),
        checkpoint: field("checkpoint"),
        events: field("events").filter(|events| events.kind() != Kind::Null),
        said: Err(bad("an outcome must be a JSON object")),
    };
    if is_object {
        outcome.said = read_said(whole, &outcome, status);
    }
    outcome
}

fn bad(problem: &str) -> (&'static str, String) {
    ("22023", problem.to_owned())
}

fn read_said(
    whole: Json,
    outcome: &Outcome,
    status: Option<OutcomeStatus>,
) -> Result<Said, (&'static str, String)> {
    let step = outcome
        .step
        .ok_or_else(|| bad("step_uuid must be a UUID"))?;
    let attempt = outcome
        .attempt
        .ok_or_else(|| bad("attempt must be a whole number, as claimed"))?;
    let status = status.ok_or_else(|| bad("status must be complete, fail, release or yield"))?;
    if outcome.events.is_some_and(|events| !events.is_object()) {
        return Err(bad(
            "events must be an object of payloads, by the names of events",
        ));
    }
    let error = whole.field_of("error");
    let failure = match status {
        OutcomeStatus::Fail => Some(read_failure(error).map_err(bad)?),
        _ => None,
    };
    if let Some(problem) = limit_problem(whole, outcome, error) {
        return Err(("TK022", problem));
    }
    Ok(Said {
        step,
        attempt,
        status,
        failure,
    })
}

fn read_failure(error: Option<Json>) -> Result<Failure, &'static str> {
    const NEEDS_MESSAGE: &str = "a failure needs an error with a message";
    let error = error
        .filter(|error| error.is_object())
        .ok_or(NEEDS_MESSAGE)?;
    let message = error
        .field_of("message")
        .filter(|message| message.kind() == Kind::String)
        .and_then(|_| error.text_of("message"))
        .ok_or(NEEDS_MESSAGE)?;
    let is_retryable = match error.field_of("retryable").map(Json::kind) {
        None | Some(Kind::Null | Kind::True) => true,
        Some(Kind::False) => false,
        Some(_) => return Err("error.retryable must be true or false"),
    };
    let retry_after_ms = error.text_of("retry_after_ms");
    if retry_after_ms
        .as_deref()
        .is_some_and(|text| !is_digits(text, 15))
    {
        return Err("error.retry_after_ms must be a whole number of milliseconds");
    }
    Ok(Failure {
        error,
        message,
        error_type: error.text_of("type"),
        is_retryable,
        retry_after_ms: retry_after_ms.and_then(|text| text.parse().ok()),
    })
}

fn is_digits(text: &str, most: usize) -> bool {
    (1..=most).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// Only an outcome that is too long or too deep as a whole is looked at part by part.
fn limit_problem(whole: Json, outcome: &Outcome, error: Option<Json>) -> Option<String> {
    payloads::exceeded_limit(whole)?;
    [
        ("checkpoint", outcome.checkpoint),
        ("error", error),
        ("object of events", outcome.events),
        ("result", outcome.result),
    ]
    .into_iter()
    .find_map(|(name, part)| Some(format!("the {name} {}", payloads::exceeded_limit(part?)?)))
}
