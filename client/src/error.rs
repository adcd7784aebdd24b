//! One error type, told apart by SQLSTATE; over REST also by the words of a server.

use std::error::Error as StdError;

use sqlx::postgres::PgDatabaseError;
use tasker_rules::error_code;

/// What the database, or over REST the server, said about an error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Details {
    /// The SQLSTATE, five characters; Tasker's own begin with `TK`. Of what a server refused before it asked the database, a word.
    pub code: String,
    /// What went wrong, one line.
    pub message: String,
    /// More about it; for an invalid template every finding as JSON.
    pub detail: Option<String>,
    /// What to do about it.
    pub hint: Option<String>,
}

/// What is behind an error that nobody said anything about.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Cause {
    /// On the way to the database.
    #[error(transparent)]
    Database(#[from] sqlx::Error),
    /// On the way to the server.
    #[error("{0}")]
    Server(#[source] Box<dyn StdError + Send + Sync>),
}

impl Cause {
    /// Who is at the other end.
    fn peer(&self) -> &'static str {
        match self {
            Self::Database(_) => "database",
            Self::Server(_) => "server",
        }
    }
}

/// Why a call failed. Each variant with [`Details`] stands for the codes named beside it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// TK001-TK004: the task, step, template, namespace or worker isn't there.
    #[error("{}", .0.message)]
    NotFound(Details),
    /// TK010: the transition isn't allowed from the current state.
    #[error("{}", .0.message)]
    TransitionNotAllowed(Details),
    /// TK011: another attempt owns the step.
    #[error("{}", .0.message)]
    LeaseLost(Details),
    /// TK012: the step or its task was cancelled.
    #[error("{}", .0.message)]
    Cancelled(Details),
    /// TK013, TK014, 23505: the key, the template's version or the row exists already with other content.
    #[error("{}", .0.message)]
    AlreadyExists(Details),
    /// TK015: the template is retired, or the task or namespace paused.
    #[error("{}", .0.message)]
    NotNow(Details),
    /// TK020, TK021: a template is invalid, or a context or result doesn't satisfy its schema.
    #[error("{}", .0.message)]
    Invalid(Details),
    /// TK022, 54001, and a body that is too large for a server: a limit is exceeded.
    #[error("{}", .0.message)]
    LimitExceeded(Details),
    /// Class 22: a parameter can't be what was given.
    #[error("{}", .0.message)]
    BadParameter(Details),
    /// TK030: PGMQ is missing or too old.
    #[error("{}", .0.message)]
    QueueMissing(Details),
    /// 42501, and a server's `permission_missing`: the role, or the caller, may not do this.
    #[error("{}", .0.message)]
    Denied(Details),
    /// A server's `credentials_missing` and `credentials_refused`: it doesn't know who calls.
    #[error("{}", .0.message)]
    Unauthenticated(Details),
    /// 40001, 40P01: another transaction was in the way; the same call may succeed when repeated.
    #[error("{}", .0.message)]
    Conflict(Details),
    /// 57014, and a server's `request_timed_out`: it took longer than it may, or was cancelled.
    #[error("{}", .0.message)]
    StatementTimedOut(Details),
    /// 53300, 57P0x, 08xxx: the database is starting, stopping, full or gone. Also a server that is full, or a proxy in front of one that is away.
    #[error("{}", .0.message)]
    Unavailable(Details),
    /// Any other error that the database or the server reports.
    #[error("{}", .0.message)]
    Database(Details),
    /// The connection failed, or none could be had in time.
    #[error("the {} can't be reached: {}", .0.peer(), .0)]
    Unreachable(#[source] Cause),
    /// The connection's address or settings can't be used.
    #[error("the connection's settings are wrong: {0}")]
    Configuration(#[source] Cause),
    /// A migration couldn't be run for a reason that the database didn't give.
    #[error("the migrations can't be run: {0}")]
    Migration(#[source] sqlx::migrate::MigrateError),
    /// The answer isn't what this client understands: the extension, or the server, is of another version.
    #[error("the {}'s answer isn't understood: {}", .0.peer(), .0)]
    Answer(#[source] Cause),
}

impl Error {
    /// What the database or the server said, if it was one of them that refused.
    #[must_use]
    pub fn details(&self) -> Option<&Details> {
        match self {
            Self::NotFound(details)
            | Self::TransitionNotAllowed(details)
            | Self::LeaseLost(details)
            | Self::Cancelled(details)
            | Self::AlreadyExists(details)
            | Self::NotNow(details)
            | Self::Invalid(details)
            | Self::LimitExceeded(details)
            | Self::BadParameter(details)
            | Self::QueueMissing(details)
            | Self::Denied(details)
            | Self::Unauthenticated(details)
            | Self::Conflict(details)
            | Self::StatementTimedOut(details)
            | Self::Unavailable(details)
            | Self::Database(details) => Some(details),
            Self::Unreachable(_)
            | Self::Configuration(_)
            | Self::Migration(_)
            | Self::Answer(_) => None,
        }
    }

    /// The SQLSTATE, if the database gave one; over REST the code that the server gave.
    #[must_use]
    pub fn code(&self) -> Option<&str> {
        self.details().map(|details| details.code.as_str())
    }

    /// Whether the same call may succeed later without anything being changed: a conflict of transactions, or a database
    /// that is away, starting, stopping or full.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Unreachable(_) | Self::Unavailable(_) => true,
            _ => self.code().is_some_and(error_code::retry_after),
        }
    }

    /// The HTTP status that stands for this error, from the one table of the rules.
    #[must_use]
    pub fn http_status(&self) -> u16 {
        match self {
            // 54001: nested deeper than PostgreSQL's parser goes. A limit like those of TK022, met before Tasker is asked.
            Self::LimitExceeded(_) => error_code::ErrorCode::Tk022.http_status(),
            Self::Unreachable(_) | Self::Unavailable(_) => 503,
            Self::Unauthenticated(_) => 401,
            Self::Denied(_) => 403,
            Self::StatementTimedOut(_) => 504,
            _ => self.code().map_or(500, error_code::http_status_of),
        }
    }

    /// The gRPC status code that stands for this error, by name, from the same table.
    #[must_use]
    pub fn grpc_code(&self) -> &'static str {
        match self {
            Self::LimitExceeded(_) => error_code::ErrorCode::Tk022.grpc_code(),
            Self::Unreachable(_) => "UNAVAILABLE",
            _ => self.code().map_or("INTERNAL", error_code::grpc_code_of),
        }
    }

    pub(crate) fn from_details(details: Details) -> Self {
        let code = details.code.as_str();
        match code {
            "TK001" | "TK002" | "TK003" | "TK004" => Self::NotFound(details),
            "TK010" => Self::TransitionNotAllowed(details),
            "TK011" => Self::LeaseLost(details),
            "TK012" => Self::Cancelled(details),
            "TK013" | "TK014" | "23505" => Self::AlreadyExists(details),
            "TK015" => Self::NotNow(details),
            "TK020" | "TK021" => Self::Invalid(details),
            "TK022" | "54001" | "body_too_large" => Self::LimitExceeded(details),
            "TK030" => Self::QueueMissing(details),
            "42501" | "permission_missing" => Self::Denied(details),
            "credentials_missing" | "credentials_refused" => Self::Unauthenticated(details),
            "40001" | "40P01" => Self::Conflict(details),
            "57014" | "request_timed_out" => Self::StatementTimedOut(details),
            "53300" | "server_busy" | "listeners_full" | "feed_unavailable" => {
                Self::Unavailable(details)
            }
            _ if code.starts_with("57P0") || code.starts_with("08") => Self::Unavailable(details),
            _ if code.starts_with("22") => Self::BadParameter(details),
            _ => Self::Database(details),
        }
    }
}

impl From<sqlx::Error> for Error {
    fn from(error: sqlx::Error) -> Self {
        match error {
            sqlx::Error::Database(database) => Self::from_details(details_of(database.as_ref())),
            sqlx::Error::Migrate(error) => Self::from(*error),
            sqlx::Error::Configuration(_) | sqlx::Error::InvalidArgument(_) => {
                Self::Configuration(error.into())
            }
            sqlx::Error::Io(_)
            | sqlx::Error::Tls(_)
            | sqlx::Error::Protocol(_)
            | sqlx::Error::PoolTimedOut
            | sqlx::Error::PoolClosed
            | sqlx::Error::WorkerCrashed => Self::Unreachable(error.into()),
            _ => Self::Answer(error.into()),
        }
    }
}

impl From<sqlx::migrate::MigrateError> for Error {
    fn from(error: sqlx::migrate::MigrateError) -> Self {
        match error {
            sqlx::migrate::MigrateError::Execute(inner)
            | sqlx::migrate::MigrateError::ExecuteMigration(inner, _) => Self::from(inner),
            other => Self::Migration(other),
        }
    }
}

fn details_of(error: &dyn sqlx::error::DatabaseError) -> Details {
    let postgres = error.try_downcast_ref::<PgDatabaseError>();
    let code = error
        .code()
        .map_or_else(|| "XX000".to_owned(), std::borrow::Cow::into_owned);
    // A function that raises with an empty detail or hint has none to give.
    let said = |text: &&str| !text.is_empty();
    let given = postgres.and_then(PgDatabaseError::hint).filter(said);
    Details {
        hint: hint_about_input(&code).or(given).map(str::to_owned),
        code,
        message: error.message().to_owned(),
        detail: postgres
            .and_then(PgDatabaseError::detail)
            .map(str::to_owned),
    }
}

/// A parameter that can't be read fails before Tasker's functions are asked, and PostgreSQL gives no hint for it, or one
/// for the administrator.
fn hint_about_input(code: &str) -> Option<&'static str> {
    match code {
        "22P05" | "22021" => Some("Texts must be UTF-8 without the NUL character."),
        "22003" => Some("Give a number that PostgreSQL can store, or pass a larger one as a text."),
        "54001" => Some("Nest the document less deeply."),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use tasker_rules::error_code::ErrorCode;

    use super::*;

    fn error(code: &str) -> Error {
        Error::from_details(Details {
            code: code.to_owned(),
            message: "it failed".to_owned(),
            detail: None,
            hint: None,
        })
    }

    #[test]
    fn every_error_of_the_database_keeps_its_code() {
        for code in [
            "TK001", "22023", "23505", "42501", "40001", "54001", "57014", "57P01", "08006",
            "XX000",
        ] {
            assert_eq!(error(code).code(), Some(code));
        }
    }

    #[test]
    fn every_code_of_tasker_has_a_variant_that_says_more_than_database() {
        for code in ErrorCode::ALL {
            assert!(
                !matches!(error(code.sqlstate()), Error::Database(_)),
                "{code:?}"
            );
            assert_eq!(error(code.sqlstate()).http_status(), code.http_status());
            assert_eq!(error(code.sqlstate()).grpc_code(), code.grpc_code());
        }
    }

    #[test]
    fn what_never_reached_the_database_has_a_status_too() {
        assert_eq!(Error::from(sqlx::Error::PoolTimedOut).http_status(), 503);
        assert_eq!(Error::from(sqlx::Error::RowNotFound).http_status(), 500);
        assert_eq!(error("54001").http_status(), 422);
        assert_eq!(
            Error::from(sqlx::Error::PoolTimedOut).grpc_code(),
            "UNAVAILABLE"
        );
        assert_eq!(error("54001").grpc_code(), "INVALID_ARGUMENT");
    }

    #[test]
    fn only_conflicts_and_an_absent_database_are_worth_a_repetition() {
        for code in ["40001", "40P01", "53300", "57P01", "57P03", "08006"] {
            assert!(error(code).is_transient(), "{code}");
        }
        for code in ["TK001", "TK011", "TK030", "22023", "57014", "XX000"] {
            assert!(!error(code).is_transient(), "{code}");
        }
        assert!(Error::from(sqlx::Error::PoolTimedOut).is_transient());
    }

    #[test]
    fn an_error_reads_as_the_database_wrote_it() {
        assert_eq!(error("TK001").to_string(), "it failed");
    }
}
