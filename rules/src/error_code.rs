//! The errors a caller can meet, by SQLSTATE, and what REST and gRPC answer for them. The one table for all doors.

use crate::named::named_enum;

named_enum! {
    /// The SQLSTATEs of class `TK`: what only Tasker knows. Everything else has a standard code.
    ErrorCode, "error code" {
        /// No such task.
        Tk001 = "TK001",
        /// No such step.
        Tk002 = "TK002",
        /// No such template.
        Tk003 = "TK003",
        /// No such namespace, worker, schedule, dead letter or signal.
        Tk004 = "TK004",
        /// The state machine does not allow it.
        Tk010 = "TK010",
        /// Another attempt owns the step.
        Tk011 = "TK011",
        /// The step or task was cancelled.
        Tk012 = "TK012",
        /// The idempotency key names another request.
        Tk013 = "TK013",
        /// The template version has other content.
        Tk014 = "TK014",
        /// Retired or paused: not now.
        Tk015 = "TK015",
        /// The template is invalid; the detail lists every finding as JSON.
        Tk020 = "TK020",
        /// A context, result or signal does not satisfy its schema.
        Tk021 = "TK021",
        /// A limit is exceeded.
        Tk022 = "TK022",
        /// PGMQ is missing or too old.
        Tk030 = "TK030",
    }
}

impl ErrorCode {
    /// The five characters PostgreSQL reports.
    #[must_use]
    pub const fn sqlstate(self) -> &'static str {
        self.as_str()
    }

    /// What the code means, in a few words.
    #[must_use]
    pub const fn meaning(self) -> &'static str {
        match self {
            Self::Tk001 => "task not found",
            Self::Tk002 => "step not found",
            Self::Tk003 => "template not found",
            Self::Tk004 => "namespace, worker, schedule, dead letter or signal not found",
            Self::Tk010 => "transition not allowed from the current state",
            Self::Tk011 => "lease lost: another attempt owns the step",
            Self::Tk012 => "step or task was cancelled",
            Self::Tk013 => "idempotency key already used with another request",
            Self::Tk014 => "template version already registered with other content",
            Self::Tk015 => "template retired, task or namespace paused: not now",
            Self::Tk020 => "template invalid",
            Self::Tk021 => "context, result or signal does not satisfy its schema",
            Self::Tk022 => "a limit is exceeded",
            Self::Tk030 => "PGMQ is missing or too old",
        }
    }

    /// The status that REST answers.
    #[must_use]
    pub const fn http_status(self) -> u16 {
        match self {
            Self::Tk001 | Self::Tk002 | Self::Tk003 | Self::Tk004 => 404,
            Self::Tk010 | Self::Tk011 | Self::Tk012 | Self::Tk013 | Self::Tk014 | Self::Tk015 => {
                409
            }
            Self::Tk020 | Self::Tk021 | Self::Tk022 => 422,
            Self::Tk030 => 503,
        }
    }

    /// The status code that gRPC answers, by name.
    #[must_use]
    pub const fn grpc_code(self) -> &'static str {
        match self {
            Self::Tk001 | Self::Tk002 | Self::Tk003 | Self::Tk004 => "NOT_FOUND",
            Self::Tk010 | Self::Tk012 | Self::Tk015 => "FAILED_PRECONDITION",
            Self::Tk011 => "ABORTED",
            Self::Tk013 | Self::Tk014 => "ALREADY_EXISTS",
            Self::Tk020 | Self::Tk021 | Self::Tk022 => "INVALID_ARGUMENT",
            Self::Tk030 => "UNAVAILABLE",
        }
    }
}

/// The HTTP status for any SQLSTATE, PostgreSQL's own included. 500 for what a caller can not be told about.
#[must_use]
pub fn http_status_of(sqlstate: &str) -> u16 {
    if let Ok(code) = sqlstate.parse::<ErrorCode>() {
        return code.http_status();
    }
    match sqlstate {
        "42501" => 403,
        "23505" => 409,
        "57014" => 504,
        _ if retry_after(sqlstate) => 503,
        _ if is_of_class(sqlstate, "22") => 400,
        _ => 500,
    }
}

/// The gRPC status code, by name, for any SQLSTATE.
#[must_use]
pub fn grpc_code_of(sqlstate: &str) -> &'static str {
    if let Ok(code) = sqlstate.parse::<ErrorCode>() {
        return code.grpc_code();
    }
    match sqlstate {
        "42501" => "PERMISSION_DENIED",
        "23505" => "ALREADY_EXISTS",
        "57014" => "DEADLINE_EXCEEDED",
        _ if retry_after(sqlstate) => "UNAVAILABLE",
        _ if is_of_class(sqlstate, "22") => "INVALID_ARGUMENT",
        _ => "INTERNAL",
    }
}

/// Whether the same call may succeed a little later, so that the answer carries `Retry-After`: a serialization failure
/// or deadlock, no connection left, a server that starts or stops, a broken connection.
#[must_use]
pub fn retry_after(sqlstate: &str) -> bool {
    matches!(sqlstate, "40001" | "40P01" | "53300")
        || sqlstate.starts_with("57P0")
        || is_of_class(sqlstate, "08")
}

fn is_of_class(sqlstate: &str, class: &str) -> bool {
    sqlstate.len() == 5 && sqlstate.starts_with(class)
}
