//! The one shape of every error: `{"error": {code, message, detail, hint, request_id}}`.
//!
//! An error of the database keeps its SQLSTATE as the code. What never reaches the database has a word for a code.

use std::any::Any;
use std::time::Duration;

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use tasker_client::Error;
use utoipa::ToSchema;

/// What a caller is told to wait before the next attempt, in seconds.
const RETRY_AFTER: HeaderValue = HeaderValue::from_static("1");

/// An error on its way to the caller. It travels in the response's extensions and is written by `request_id::surround`.
#[derive(Debug, Clone)]
pub(crate) struct Problem(Box<Contents>);

#[derive(Debug, Clone)]
struct Contents {
    status: StatusCode,
    code: String,
    message: String,
    detail: Option<String>,
    hint: Option<String>,
    /// What gRPC answers by name, where the database said what is wrong.
    grpc_code: Option<&'static str>,
    /// How the caller is to show who they are: the header `WWW-Authenticate`.
    challenge: Option<String>,
    /// What only the log is told.
    cause: Option<String>,
}

/// The code of an error that was answered, for who counts them.
#[derive(Debug, Clone)]
pub(crate) struct RefusalCode(pub(crate) String);

/// The body of every error.
#[derive(Serialize, ToSchema)]
pub(crate) struct ErrorBody {
    error: Fields,
}

#[derive(Serialize, ToSchema)]
#[schema(as = Error)]
struct Fields {
    /// The SQLSTATE, or a word for what never reached the database.
    #[schema(example = "TK001")]
    code: String,
    /// What went wrong, in one line.
    message: String,
    /// More about it.
    detail: Option<String>,
    /// What to do about it.
    hint: Option<String>,
    /// What the server's log calls this request.
    request_id: String,
}

impl Problem {
    pub(crate) fn new(status: StatusCode, code: &str, message: impl Into<String>) -> Self {
        Self(Box::new(Contents {
            status,
            code: code.to_owned(),
            message: message.into(),
            detail: None,
            hint: None,
            grpc_code: None,
            challenge: None,
            cause: None,
        }))
    }

    pub(crate) fn hint(mut self, hint: &str) -> Self {
        self.0.hint = Some(hint.to_owned());
        self
    }

    pub(crate) fn challenge(mut self, challenge: &str) -> Self {
        self.0.challenge = Some(challenge.to_owned());
        self
    }

    /// A parameter or field that can't be used.
    pub(crate) fn bad_parameter(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "22023", message)
    }

    /// A text that can't be read as what it should be: JSON, a UUID.
    pub(crate) fn unreadable(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "22P02", message)
    }

    pub(crate) fn step_not_found(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "TK002", message)
    }

    pub(crate) fn path_not_found() -> Self {
        Self::new(
            StatusCode::NOT_FOUND,
            "path_not_found",
            "there is nothing at this path",
        )
        .hint("The paths are in /api-docs/openapi.json, and /api-docs/ui shows them.")
    }

    pub(crate) fn method_not_allowed() -> Self {
        Self::new(
            StatusCode::METHOD_NOT_ALLOWED,
            "method_not_allowed",
            "this path doesn't take this method",
        )
    }

    pub(crate) fn body_too_large() -> Self {
        Self::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "body_too_large",
            "the body is larger than 1 MiB",
        )
        .hint("Store large inputs elsewhere and pass a reference to them.")
    }

    /// A method of gRPC, or a way to call one, that there isn't.
    pub(crate) fn method_unknown(what: &str) -> Self {
        let message = format!("this isn't there: {what}");
        Self::new(StatusCode::NOT_IMPLEMENTED, "method_unknown", message)
            .hint("Reflection lists the methods.")
    }

    pub(crate) fn busy() -> Self {
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "server_busy",
            "the server is serving all the requests it may",
        )
        .hint("Try again in a second.")
    }

    pub(crate) fn listeners_full() -> Self {
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "listeners_full",
            "as many listen to events as may",
        )
        .hint("Try again in a second.")
    }

    pub(crate) fn feed_unavailable() -> Self {
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "feed_unavailable",
            "the feed of events can't be read now",
        )
        .hint("Try again in a second.")
    }

    pub(crate) fn timed_out(after: Duration) -> Self {
        let message = format!("the request took longer than {} s", after.as_secs_f64());
        Self::new(StatusCode::GATEWAY_TIMEOUT, "request_timed_out", message)
            .hint("Its effect isn't known: look before you repeat it, or repeat it with an idempotency key.")
    }

    pub(crate) fn status(&self) -> StatusCode {
        self.0.status
    }

    pub(crate) fn code(&self) -> &str {
        &self.0.code
    }

    pub(crate) fn message(&self) -> &str {
        &self.0.message
    }

    pub(crate) fn detail(&self) -> Option<&str> {
        self.0.detail.as_deref()
    }

    pub(crate) fn hint_text(&self) -> Option<&str> {
        self.0.hint.as_deref()
    }

    /// What gRPC answers by name, where the database said what is wrong.
    pub(crate) fn grpc_code(&self) -> Option<&'static str> {
        self.0.grpc_code
    }

    fn cause(mut self, cause: String) -> Self {
        self.0.cause = Some(cause);
        self
    }

    /// What went wrong is told to the log only.
    pub(crate) fn internal(cause: String) -> Self {
        let message = "something went wrong in the server";
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal_error", message)
            .hint("The server's log says more under this request_id.")
            .cause(cause)
    }

    /// A refusal is the caller's affair; what is wrong here is told to the log.
    pub(crate) fn log(&self) {
        let Contents {
            status,
            code,
            message,
            cause,
            ..
        } = self.0.as_ref();
        let cause = cause.as_deref();
        if *status == StatusCode::INTERNAL_SERVER_ERROR {
            tracing::error!(code, cause, "{message}");
        } else if status.is_server_error() {
            tracing::warn!(code, cause, "{message}");
        } else {
            tracing::debug!(code, "{message}");
        }
    }

    pub(crate) fn render(&self, request_id: &str) -> Response {
        let contents = self.0.as_ref().clone();
        let code = RefusalCode(contents.code.clone());
        let body = ErrorBody {
            error: Fields {
                code: contents.code,
                message: contents.message,
                detail: contents.detail,
                hint: contents.hint,
                request_id: request_id.to_owned(),
            },
        };
        let mut response = (self.0.status, axum::Json(body)).into_response();
        response.extensions_mut().insert(code);
        if self.0.status == StatusCode::SERVICE_UNAVAILABLE {
            response
                .headers_mut()
                .insert(header::RETRY_AFTER, RETRY_AFTER);
        }
        let challenge = contents.challenge.map(HeaderValue::try_from);
        if let Some(Ok(challenge)) = challenge {
            response
                .headers_mut()
                .insert(header::WWW_AUTHENTICATE, challenge);
        }
        response
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = self.0.status.into_response();
        response.extensions_mut().insert(self);
        response
    }
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        let status =
            StatusCode::from_u16(error.http_status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        if status == StatusCode::INTERNAL_SERVER_ERROR {
            return Self::internal(describe(&error));
        }
        let Some(details) = error.details() else {
            return Self::new(status, "08006", "the database can't be reached")
                .hint("Try again in a second.")
                .cause(describe(&error));
        };
        let mut problem = Self::new(status, &details.code, details.message.as_str());
        problem.0.detail.clone_from(&details.detail);
        problem.0.hint.clone_from(&details.hint);
        problem.0.grpc_code = Some(error.grpc_code());
        problem
    }
}

fn describe(error: &Error) -> String {
    match error.details() {
        Some(details) => format!(
            "{} {}: {}",
            details.code,
            details.message,
            details.detail.as_deref().unwrap_or("")
        ),
        None => error.to_string(),
    }
}

/// A panic in a handler is answered like any other internal error; its place is in the log.
pub(crate) fn of_panic(panic: Box<dyn Any + Send>) -> Response {
    let cause = match panic.downcast::<String>() {
        Ok(message) => *message,
        Err(panic) => panic
            .downcast_ref::<&str>()
            .copied()
            .unwrap_or("a panic without a message")
            .to_owned(),
    };
    Problem::internal(cause).into_response()
}
