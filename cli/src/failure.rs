//! Why a command failed: what is said on stderr, and the exit code.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use tasker_client::Error;
use tasker_client::permission::BadPermissions;
use tasker_client::tokens::TokenError;

use crate::output::plain;

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error(transparent)]
    Client(#[from] Error),
    #[error("no database is named: give --database-url or --profile, or set DATABASE_URL")]
    NoDatabase,
    /// The options don't fit the command.
    #[error("{0}")]
    Usage(String),
    #[error("can't read {}: {source}", .path.display())]
    File {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("can't write {}: {source}", .path.display())]
    Unwritable {
        path: PathBuf,
        source: std::io::Error,
    },
    /// Nothing that is there is written over.
    #[error("{} is there already", .path.display())]
    Exists { path: PathBuf },
    #[error("{what} isn't JSON: {source}")]
    NotJson {
        what: String,
        source: serde_json::Error,
    },
    #[error(transparent)]
    Permissions(#[from] BadPermissions),
    #[error(transparent)]
    Token(#[from] TokenError),
    #[error("can't write the result: {0}")]
    Output(#[from] std::io::Error),
    #[error("can't write the result: {0}")]
    Json(#[from] serde_json::Error),
    /// Everything was said already.
    #[error("some templates are invalid")]
    InvalidTemplates,
    /// Some files couldn't be registered; each was reported, and the first of them decides the exit code.
    #[error("{0}")]
    Reported(Box<Failure>),
    /// What was asked for was shown, and isn't as it should be.
    #[error("{0}")]
    Shown(&'static str),
    #[error(
        "the extension tasker isn't installed in this database; `tasker-ctl db init` installs it"
    )]
    NotInstalled,
    /// The watch showed it already.
    #[error("the task ended in state {0}")]
    TaskEnded(String),
    /// A settings file, or what it names, can't be used.
    #[error("{0}")]
    Settings(String),
    #[error("{0:#}")]
    Other(anyhow::Error),
}

impl Failure {
    /// The codes of `tasker-ctl --help`.
    fn code(&self) -> u8 {
        match self {
            Self::Client(Error::Configuration(_))
            | Self::NoDatabase
            | Self::Settings(_)
            | Self::Usage(_) => 2,
            Self::Client(error) => match error.http_status() {
                404 => 3,
                409 => 4,
                400 | 413 | 422 => 5,
                503 | 504 => 6,
                _ => 1,
            },
            Self::NotInstalled => 3,
            Self::Exists { .. } => 4,
            Self::NotJson { .. }
            | Self::InvalidTemplates
            | Self::Permissions(_)
            | Self::Token(_) => 5,
            Self::Reported(first) => first.code(),
            Self::File { .. }
            | Self::Unwritable { .. }
            | Self::Output(_)
            | Self::Json(_)
            | Self::Shown(_)
            | Self::TaskEnded(_)
            | Self::Other(_) => 1,
        }
    }

    pub(crate) fn exit_code(&self) -> ExitCode {
        match self {
            // Whoever reads the output has seen enough: `tasker-ctl task list | head`.
            Self::Output(error) if error.kind() == std::io::ErrorKind::BrokenPipe => {
                ExitCode::SUCCESS
            }
            _ => ExitCode::from(self.code()),
        }
    }

    /// Says on stderr what went wrong, and what to do about it.
    pub(crate) fn report(&self) {
        match self {
            Self::InvalidTemplates | Self::Reported(_) | Self::Shown(_) | Self::TaskEnded(_) => {}
            Self::Output(error) if error.kind() == std::io::ErrorKind::BrokenPipe => {}
            _ => eprintln!("{}", self.text()),
        }
    }

    /// `error[TK003]: …`, then the detail and the hint on lines of their own.
    pub(crate) fn text(&self) -> String {
        let Self::Client(error) = self else {
            let text = plain(&self.to_string());
            return match self {
                Self::Exists { .. } => format!(
                    "error[ALREADY_EXISTS]: {text}\n  hint: Nothing is written over: name another place, or move away what is there."
                ),
                _ => format!("error: {text}"),
            };
        };
        let Some(details) = error.details() else {
            return format!("error: {}", plain(&error.to_string()));
        };
        let mut text = format!("error[{}]: {}", details.code, plain(&details.message));
        if let Some(detail) = &details.detail {
            let _ = write!(text, "\n  detail: {}", plain(detail));
        }
        let hint = details.hint.as_deref().or_else(|| hint_for(&details.code));
        if let Some(hint) = hint {
            let _ = write!(text, "\n  hint: {}", plain(hint));
        }
        text
    }
}

/// What PostgreSQL can't know when the schema tasker or one of its functions is missing.
fn hint_for(code: &str) -> Option<&'static str> {
    matches!(code, "3F000" | "42883" | "42P01").then_some(
        "Is this database prepared, and as new as this program? `tasker-ctl db init` prepares it.",
    )
}

#[cfg(test)]
mod tests {
    use tasker_client::Details;

    use super::*;

    fn details(code: &str) -> Details {
        Details {
            code: code.to_owned(),
            message: "no such thing".to_owned(),
            detail: None,
            hint: Some("look".to_owned()),
        }
    }

    #[test]
    fn exit_codes_follow_what_the_database_said() {
        assert_eq!(Failure::from(Error::NotFound(details("TK001"))).code(), 3);
        assert_eq!(
            Failure::from(Error::AlreadyExists(details("TK014"))).code(),
            4
        );
        assert_eq!(Failure::from(Error::Invalid(details("TK020"))).code(), 5);
        assert_eq!(
            Failure::from(Error::Unavailable(details("57P03"))).code(),
            6
        );
        assert_eq!(Failure::from(Error::Database(details("XX000"))).code(), 1);
    }

    #[test]
    fn an_error_is_told_with_its_code_and_hint() {
        let text = Failure::from(Error::NotFound(details("TK003"))).text();
        assert_eq!(text, "error[TK003]: no such thing\n  hint: look");
    }
}
