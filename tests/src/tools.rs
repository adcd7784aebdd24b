//! Programs of other languages, run on what is written for them. `.ci/prerequisites` installs them; without one, the test fails.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, ensure};
use tokio::process::Command;

use crate::command::Run;
use crate::folders::project_file;

/// Runs a program in a folder to its end.
pub async fn run_in(folder: &Path, program: &str, arguments: &[&str]) -> anyhow::Result<Run> {
    let mut command = Command::new(program);
    command
        .args(arguments)
        .current_dir(folder)
        .stdin(Stdio::null());
    // What cargo tells a test of its crate is of no other crate: a cargo that finds it builds anew what asks for it.
    for (name, _) in std::env::vars_os() {
        if tells_of_crate(&name.to_string_lossy()) {
            command.env_remove(name);
        }
    }
    let output = command
        .output()
        .await
        .with_context(|| format!("can't run {program}: .ci/prerequisites installs it"))?;
    Ok(Run {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout)?,
        stderr: String::from_utf8(output.stderr)?,
    })
}

fn tells_of_crate(name: &str) -> bool {
    [
        "CARGO_PKG_",
        "CARGO_MANIFEST_",
        "CARGO_CRATE_",
        "CARGO_BIN_",
    ]
    .iter()
    .any(|start| name.starts_with(start))
}

/// The same, and requires that it ends well.
pub async fn run_well_in(folder: &Path, program: &str, arguments: &[&str]) -> anyhow::Result<Run> {
    let run = run_in(folder, program, arguments).await?;
    ensure!(
        run.code == Some(0),
        "{program} {arguments:?} in {}:\n{}{}",
        folder.display(),
        run.stdout,
        run.stderr
    );
    Ok(run)
}

/// The packages that `npm install` would bring along for TypeScript.
pub fn node_modules() -> anyhow::Result<PathBuf> {
    let folder = project_file(".build/tools/typescript/node_modules")?;
    ensure!(
        folder.is_dir(),
        "{} isn't there: .ci/prerequisites makes it",
        folder.display()
    );
    Ok(folder)
}
