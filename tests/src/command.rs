//! The command line program run to its end.

use std::process::Output;

use serde_json::Value;

use crate::database::TestDatabase;
use crate::program::Program;

/// What a command wrote, and how it ended.
#[derive(Debug)]
pub struct Run {
    /// The exit code.
    pub code: Option<i32>,
    /// What it wrote for its user.
    pub stdout: String,
    /// What it complained of.
    pub stderr: String,
}

impl Run {
    /// What it wrote, as one JSON document.
    pub fn json(&self) -> anyhow::Result<Value> {
        Ok(serde_json::from_str(&self.stdout)?)
    }

    /// The lines of a watch, each a JSON object.
    pub fn json_lines(&self) -> anyhow::Result<Vec<Value>> {
        self.stdout
            .lines()
            .map(|line| Ok(serde_json::from_str(line)?))
            .collect()
    }
}

/// Runs `tasker-ctl` on a database.
pub async fn ctl(database: &TestDatabase, arguments: &[&str]) -> anyhow::Result<Run> {
    ctl_on(database.url(), arguments).await
}

/// Runs `tasker-ctl` on the database at an address.
pub async fn ctl_on(url: &str, arguments: &[&str]) -> anyhow::Result<Run> {
    let Output {
        status,
        stdout,
        stderr,
    } = Program::run("tasker-ctl", url, arguments).await?;
    Ok(Run {
        code: status.code(),
        stdout: String::from_utf8(stdout)?,
        stderr: String::from_utf8(stderr)?,
    })
}
