//! Where the tests keep what they make.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::Context;

use crate::signals::{Signal, signal};

/// The project's root.
pub(crate) fn project() -> anyhow::Result<&'static Path> {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .context("the tests lie in no project")
}

/// A file of the project, by its path from the root.
pub fn project_file(path: &str) -> anyhow::Result<PathBuf> {
    Ok(project()?.join(path))
}

/// A folder of the tests, made when it isn't there.
pub(crate) fn test_folder(name: &str) -> anyhow::Result<PathBuf> {
    let folder = project()?.join(".build/tests").join(name);
    std::fs::create_dir_all(&folder).with_context(|| format!("can't make {}", folder.display()))?;
    Ok(folder)
}

/// A name that no other test of any process has: the process, then a number.
pub(crate) fn unique_name() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    format!(
        "{}_{}",
        std::process::id(),
        NEXT.fetch_add(1, Ordering::Relaxed)
    )
}

/// Whether the process that took a [`unique_name`] has ended.
pub(crate) fn is_left_over(name: &str) -> bool {
    let process = name
        .split('_')
        .next()
        .and_then(|process| process.parse::<u32>().ok());
    process.is_some_and(|process| !Path::new(&format!("/proc/{process}")).exists())
}

/// A folder of one test's own. It is removed when this value is dropped.
#[derive(Debug)]
pub struct ScratchFolder {
    path: PathBuf,
}

impl ScratchFolder {
    /// An empty folder.
    pub fn new() -> anyhow::Result<Self> {
        let folder = test_folder("scratch")?;
        for entry in std::fs::read_dir(&folder)? {
            let path = entry?.path();
            if is_left_over(&path.file_name().unwrap_or_default().to_string_lossy()) {
                end_what_runs_in(&path);
                // Another test process may be at it as well.
                let _ = std::fs::remove_dir_all(path);
            }
        }
        let path = folder.join(unique_name());
        std::fs::create_dir(&path).with_context(|| format!("can't make {}", path.display()))?;
        Ok(Self { path })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for ScratchFolder {
    fn drop(&mut self) {
        end_what_runs_in(&self.path);
        let _ = std::fs::remove_dir_all(&self.path);
    }
}

/// Ends the processes that a `tasker-ctl dev` in the folder has left, by their pid files.
fn end_what_runs_in(folder: &Path) {
    let programs = [
        ("dev.pid", "tasker-ctl"),
        ("worker.pid", "tasker-worker"),
        ("server.pid", "tasker-server"),
        ("postgresql/data/postmaster.pid", "postgres"),
    ];
    for (pid_file, program) in programs {
        let text = std::fs::read_to_string(folder.join(pid_file)).unwrap_or_default();
        let Some(process) = text.lines().next().map(str::trim) else {
            continue;
        };
        let name = std::fs::read_to_string(format!("/proc/{process}/comm")).unwrap_or_default();
        if name.trim_end() == program {
            // SIGQUIT ends a database server at once with all its processes, and any other program as well.
            let _ = process.parse().map(|process| signal(process, Signal::QUIT));
        }
    }
}
