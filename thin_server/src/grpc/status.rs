//! Problems as the status of a call: the code by one table, and the rest in a form that programs read.
//!
//! A handler answers with a status that only carries its problem; `surround` writes it, which needs the request's id. Details are those of `google.rpc`: `ErrorInfo` with the code of REST as its reason,
//! `RequestInfo`, and `RetryInfo` where the same call may succeed a little later.

use std::collections::HashMap;
use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use axum::http::StatusCode;
use tonic::metadata::MetadataMap;
use tonic::{Code, Response, Status};
use tonic_types::{ErrorDetails, StatusExt};

use crate::problem::Problem;

/// Whose codes they are, in `ErrorInfo`.
const DOMAIN: &str = "tasker";
/// What a caller is told to wait before the next attempt, as `Retry-After` says over REST.
const RETRY_AFTER: Duration = Duration::from_secs(1);
/// The longest text of one kind, in bytes: all of them travel in headers, of which callers take eight kilobytes or so.
const LONGEST_TEXT: usize = 1024;

/// A problem inside of a status.
#[derive(Debug)]
struct Carried(Problem);

impl fmt::Display for Carried {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.0.message())
    }
}

impl Error for Carried {}

/// The answer of a handler.
pub(super) fn answer<T>(answer: Result<T, Problem>) -> Result<Response<T>, Status> {
    answer.map(Response::new).map_err(carrying)
}

/// A status that carries a problem to where it is written.
pub(super) fn carrying(problem: Problem) -> Status {
    let mut status = Status::new(code_of(&problem), problem.message());
    status.set_source(Arc::new(Carried(problem)));
    status
}

/// The problem that a status is about. Those that carry none come from reading the request, before any handler.
pub(super) fn problem_of(status: &Status) -> Option<Problem> {
    if let Some(Carried(problem)) = status.source().and_then(|source| source.downcast_ref()) {
        return Some(problem.clone());
    }
    let message = status.message();
    match status.code() {
        // What can't be decoded is the caller's mistake.
        Code::Internal => Some(Problem::unreadable(format!(
            "the message can't be read: {message}"
        ))),
        Code::OutOfRange => Some(Problem::body_too_large()),
        Code::Unimplemented if message.is_empty() => Some(Problem::method_unknown("the method")),
        Code::Unimplemented => Some(Problem::method_unknown(message)),
        _ => None,
    }
}

/// The status as it is sent.
pub(super) fn written(problem: &Problem, request_id: &str) -> Status {
    let text = |given: Option<&str>| given.map(|given| shortened(given).to_owned());
    let metadata: HashMap<String, String> = [
        ("detail", text(problem.detail())),
        ("hint", text(problem.hint_text())),
    ]
    .into_iter()
    .filter_map(|(name, text)| Some((name.to_owned(), text?)))
    .collect();
    let mut details = ErrorDetails::with_error_info(problem.code(), DOMAIN, metadata);
    details.set_request_info(request_id, "");
    if problem.status() == StatusCode::SERVICE_UNAVAILABLE {
        details.set_retry_info(Some(RETRY_AFTER));
    }
    Status::with_error_details_and_metadata(
        code_of(problem),
        shortened(problem.message()),
        details,
        MetadataMap::new(),
    )
}

fn shortened(text: &str) -> &str {
    &text[..text.floor_char_boundary(LONGEST_TEXT)]
}

/// The code of a problem: by the rules' table for what the database said, by its HTTP status for what never reached it.
fn code_of(problem: &Problem) -> Code {
    problem
        .grpc_code()
        .map_or_else(|| by_http_status(problem.status()), named)
}

fn by_http_status(status: StatusCode) -> Code {
    match status.as_u16() {
        400 | 422 => Code::InvalidArgument,
        401 => Code::Unauthenticated,
        403 => Code::PermissionDenied,
        404 => Code::NotFound,
        413 => Code::ResourceExhausted,
        501 => Code::Unimplemented,
        503 => Code::Unavailable,
        504 => Code::DeadlineExceeded,
        _ => Code::Internal,
    }
}

const NAMES: [(Code, &str); 17] = [
    (Code::Ok, "OK"),
    (Code::Cancelled, "CANCELLED"),
    (Code::Unknown, "UNKNOWN"),
    (Code::InvalidArgument, "INVALID_ARGUMENT"),
    (Code::DeadlineExceeded, "DEADLINE_EXCEEDED"),
    (Code::NotFound, "NOT_FOUND"),
    (Code::AlreadyExists, "ALREADY_EXISTS"),
    (Code::PermissionDenied, "PERMISSION_DENIED"),
    (Code::ResourceExhausted, "RESOURCE_EXHAUSTED"),
    (Code::FailedPrecondition, "FAILED_PRECONDITION"),
    (Code::Aborted, "ABORTED"),
    (Code::OutOfRange, "OUT_OF_RANGE"),
    (Code::Unimplemented, "UNIMPLEMENTED"),
    (Code::Internal, "INTERNAL"),
    (Code::Unavailable, "UNAVAILABLE"),
    (Code::DataLoss, "DATA_LOSS"),
    (Code::Unauthenticated, "UNAUTHENTICATED"),
];

fn named(name: &str) -> Code {
    let found = NAMES.iter().find(|(_, known)| *known == name);
    found.map_or(Code::Internal, |(code, _)| *code)
}

/// The name of a code, as the contract writes it.
pub(crate) fn name_of(code: Code) -> &'static str {
    let found = NAMES.iter().find(|(known, _)| *known == code);
    found.map_or("UNKNOWN", |(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_read_is_never_an_error_of_the_server() {
        let problem = problem_of(&Status::internal("failed to decode")).expect("a problem");
        assert_eq!(code_of(&problem), Code::InvalidArgument);
        let problem = problem_of(&Status::out_of_range("too large")).expect("a problem");
        assert_eq!(code_of(&problem), Code::ResourceExhausted);
        assert!(problem_of(&Status::cancelled("gone")).is_none());
    }

    #[test]
    fn a_problem_comes_through_a_status() {
        let status = carrying(Problem::unreadable("x"));
        assert_eq!(status.code(), Code::InvalidArgument);
        let problem = problem_of(&status).expect("a problem");
        let written = written(&problem, "id");
        let info = written.get_details_error_info().expect("details");
        assert_eq!(
            (info.reason.as_str(), info.domain.as_str()),
            ("22P02", DOMAIN)
        );
        let request = written.get_details_request_info().expect("details");
        assert_eq!(request.request_id, "id");
        assert!(written.get_details_retry_info().is_none());
    }

    #[test]
    fn what_is_away_is_to_be_tried_again() {
        let status = written(&Problem::busy(), "id");
        assert_eq!(status.code(), Code::Unavailable);
        let retry = status.get_details_retry_info().expect("details");
        assert_eq!(retry.retry_delay, Some(RETRY_AFTER));
    }

    #[test]
    fn long_texts_are_cut_between_characters() {
        let long = "é".repeat(LONGEST_TEXT);
        assert!(shortened(&long).len() <= LONGEST_TEXT && shortened("short") == "short");
        let status = written(&Problem::bad_parameter(long), "id");
        assert!(status.message().len() <= LONGEST_TEXT);
    }
}
