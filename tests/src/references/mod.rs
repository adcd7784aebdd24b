//! The reference pages under `docs/reference/`, made from the code: from the catalogue, the OpenAPI document, the .proto files and the command line.

mod errors;
mod grpc;
mod rest;
mod sql;

use anyhow::Context;

use crate::folders::project_file;

pub use errors::errors;
pub use grpc::grpc;
pub use rest::rest;
pub use sql::sql;

/// What the first line of each page says.
pub(crate) const MADE: &str = "<!-- Made from the code: TASKER_WRITE_REFERENCES=1 cargo test -p tasker-tests --test references -->";

/// Fails when a page isn't what the code says; writes it instead where `TASKER_WRITE_REFERENCES` is set.
pub fn compare(name: &str, expected: &str) -> anyhow::Result<()> {
    let path = project_file(&format!("docs/reference/{name}.md"))?;
    if std::env::var_os("TASKER_WRITE_REFERENCES").is_some() {
        return std::fs::write(&path, expected)
            .with_context(|| format!("can't write {}", path.display()));
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    let differs = found
        .lines()
        .zip(expected.lines())
        .position(|(a, b)| a != b);
    anyhow::ensure!(
        found == expected,
        "docs/reference/{name}.md isn't what the code says, from line {}: \
         TASKER_WRITE_REFERENCES=1 cargo test -p tasker-tests --test references",
        differs.unwrap_or_else(|| found.lines().count().min(expected.lines().count())) + 1
    );
    Ok(())
}

/// The command line's page.
#[must_use]
pub fn cli() -> String {
    format!("{MADE}\n{}", tasker_cli::reference())
}

/// A text as it can stand in a cell of a table.
pub(crate) fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('\n', " ")
}
