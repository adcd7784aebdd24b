//! What can go wrong inside the library, and how PostgreSQL is told.
//!
//! Codes of class TK are not here: they are raised from SQL. An error of SQL that passes through the library keeps its message; a SQLSTATE that pgrx doesn't know becomes XX000, so that
//! functions whose SQLSTATE matters are called through PL/pgSQL, which catches their errors.

use pgrx::pg_sys::panic::ErrorReport;
use pgrx::{PgSqlErrorCode, function_name};

/// A failure inside the library.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// PostgreSQL's server programming interface refused a call.
    #[error("a statement of the engine could not be run: {0}")]
    Statement(#[from] pgrx::spi::SpiError),
    /// A row names a template that is not there.
    #[error("template {0} is not stored")]
    TemplateGone(i32),
    /// A stored template can't be read.
    #[error("the compiled form of template {id} can not be read: {source}")]
    TemplateUnreadable {
        /// The template's key.
        id: i32,
        /// Why.
        source: serde_json::Error,
    },
    /// A row names a step that its template has not.
    #[error("template {template_id} has no step {number}")]
    StepGone {
        /// The template's key.
        template_id: i32,
        /// The step's number.
        number: i32,
    },
    /// A stored schema can't be compiled.
    #[error("a schema of template {id} can not be compiled: {message}")]
    SchemaUnusable {
        /// The template's key.
        id: i32,
        /// Why.
        message: String,
    },
    /// Arrays that belong together differ in length.
    #[error("the arrays given differ in length: {0} and {1}")]
    UnequalArrays(usize, usize),
    /// A table's name holds a zero byte.
    #[error("a table has a name that can not be used")]
    NameUnusable,
    /// The call is refused; SQL raises it.
    #[error("{}", .0.message)]
    Refused(Box<Refusal>),
    /// A failure that was read carries no error.
    #[error("a failure carries no error")]
    OutcomeUnreadable,
    /// The partitions for a time are not there, though they have just been made.
    #[error("the partitions for new tasks are missing")]
    PartitionMissing,
    /// A row holds a name that the state machines don't know.
    #[error(transparent)]
    UnknownName(#[from] tasker_rules::UnknownName),
    /// A stored cron expression can't be read.
    #[error(transparent)]
    CronUnreadable(#[from] tasker_rules::cron::CronError),
    /// The server has no time zone of this name.
    #[error("time zone {0} is not known here")]
    ZoneUnknown(String),
    /// A time that PostgreSQL can't hold, or that lies before 1970.
    #[error("the time is out of range")]
    TimeOutOfRange,
    /// A step number beyond what a key holds.
    #[error("step number {0} is out of range")]
    NumberOutOfRange(i32),
}

/// An error with a code of our own. pgrx knows PostgreSQL's codes only, so it is handed to SQL, which raises it.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) code: String,
    pub(crate) message: String,
    pub(crate) detail: Option<String>,
    pub(crate) hint: Option<String>,
}

impl Error {
    /// Refuses the call with a code, a message, a detail and a hint.
    pub(crate) fn refused(
        code: &str,
        message: String,
        detail: Option<String>,
        hint: Option<&str>,
    ) -> Self {
        Self::Refused(Box::new(Refusal {
            code: code.to_owned(),
            message,
            detail,
            hint: hint.map(str::to_owned),
        }))
    }
}

impl From<Error> for ErrorReport {
    fn from(error: Error) -> Self {
        let (code, hint) = match error {
            Error::TimeOutOfRange => (
                PgSqlErrorCode::ERRCODE_DATETIME_FIELD_OVERFLOW,
                "Times from 1970 on can be used.",
            ),
            Error::NumberOutOfRange(_) => (
                PgSqlErrorCode::ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE,
                "Step numbers run from 1 to 1048575.",
            ),
            Error::ZoneUnknown(_) => (
                PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE,
                "The view pg_timezone_names lists the time zones of this server.",
            ),
            Error::TemplateGone(_)
            | Error::TemplateUnreadable { .. }
            | Error::StepGone { .. }
            | Error::UnknownName(_)
            | Error::CronUnreadable(_)
            | Error::SchemaUnusable { .. } => (
                PgSqlErrorCode::ERRCODE_DATA_CORRUPTED,
                "The tables of the schema tasker are written by its functions only.",
            ),
            Error::Statement(_)
            | Error::UnequalArrays(..)
            | Error::NameUnusable
            | Error::OutcomeUnreadable
            | Error::Refused(_)
            | Error::PartitionMissing => (
                PgSqlErrorCode::ERRCODE_INTERNAL_ERROR,
                "This is a mistake in the engine; please report it.",
            ),
        };
        ErrorReport::new(code, error.to_string(), function_name!()).set_hint(hint)
    }
}
