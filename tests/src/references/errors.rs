//! The errors that a caller can meet, as the one table of the rules has them.

use std::fmt::Write;

use tasker_rules::error_code::{self, ErrorCode};

use super::MADE;

/// What PostgreSQL itself reports, with what it means here.
const STANDARD: [(&str, &str); 10] = [
    (
        "22023",
        "a parameter can't be what was given (any code of class 22)",
    ),
    (
        "22P02",
        "a text can't be read as what it should be: JSON, a UUID",
    ),
    ("23505", "it exists already"),
    ("40001", "another transaction was in the way: try again"),
    ("40P01", "another transaction was in the way: try again"),
    ("42501", "the role, the key or the token may not do this"),
    ("53300", "the database has no connection left: try again"),
    ("57014", "it took longer than it may, or was cancelled"),
    (
        "57P01",
        "the database is stopping: try again (57P02 and 57P03 too)",
    ),
    (
        "XX000",
        "something went wrong inside; the server's log says more",
    ),
];

/// The page.
pub fn errors() -> anyhow::Result<String> {
    let mut page = format!(
        "{MADE}\n# Errors\n\nEvery error has a SQLSTATE, a message, and where there is something to do about it a hint. SQL reports it as it is; REST answers its status with the SQLSTATE as `code`; \
         the command line prints it as `error[CODE]` and ends with an exit code of its own (`tasker-ctl --help`).\n\n| SQLSTATE | means | REST | gRPC |\n|---|---|---|---|\n"
    );
    for &code in ErrorCode::ALL {
        let sqlstate = code.sqlstate();
        writeln!(
            page,
            "| {sqlstate} | {} | {} | {} |",
            code.meaning(),
            code.http_status(),
            code.grpc_code()
        )?;
    }
    for (sqlstate, means) in STANDARD {
        let (rest, grpc) = (
            error_code::http_status_of(sqlstate),
            error_code::grpc_code_of(sqlstate),
        );
        writeln!(page, "| {sqlstate} | {means} | {rest} | {grpc} |")?;
    }
    page.push_str("\nWhat never reaches the database has a word for a code in REST: `path_not_found`, `method_not_allowed`, `content_type_unsupported`, `body_too_large`, `body_unreadable`, `server_busy`, `request_timed_out`, `internal_error`.\n");
    Ok(page)
}
