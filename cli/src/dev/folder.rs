//! The folder of a private Tasker: the lock that keeps a second one out, pid files, the address file.

use std::fs::{File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use rustix::process::Signal;

use crate::cluster::processes;

const ADDRESS: &str = "address";
const LEFTOVERS_END_WITHIN: Duration = Duration::from_secs(10);

/// The folder, held for this process alone.
#[derive(Debug)]
pub(crate) struct Folder {
    root: PathBuf,
    /// Held open: the lock ends with the process, however that ends.
    _lock: File,
}

impl Folder {
    /// Makes the folder and takes it; ends what a killed predecessor left running.
    pub(crate) fn take(root: &Path) -> anyhow::Result<Self> {
        std::fs::create_dir_all(root)
            .with_context(|| format!("can't make the folder {}", root.display()))?;
        let root = root.canonicalize()?;
        let lock_path = root.join("lock");
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&lock_path)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let holder = std::fs::read_to_string(root.join("dev.pid")).unwrap_or_default();
                bail!(
                    "a Tasker runs in {} already (process {})",
                    root.display(),
                    holder.trim()
                );
            }
            Err(TryLockError::Error(error)) => {
                return Err(error).with_context(|| format!("can't lock {}", lock_path.display()));
            }
        }
        let folder = Self { root, _lock: lock };
        folder.forget_address();
        for name in ["worker", "server"] {
            folder.end_leftover(name)?;
        }
        folder.write_pid("dev", std::process::id())?;
        Ok(folder)
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// Remembers a process, so that it is found also when this program was killed.
    pub(crate) fn write_pid(&self, name: &str, process: u32) -> anyhow::Result<()> {
        let path = self.pid_path(name);
        std::fs::write(&path, format!("{process}\n"))
            .with_context(|| format!("can't write {}", path.display()))
    }

    pub(crate) fn pid_path(&self, name: &str) -> PathBuf {
        self.root.join(format!("{name}.pid"))
    }

    /// The addresses as lines that a shell can evaluate. Written in one step: a reader finds all of it or none.
    pub(crate) fn write_address(&self, database_url: &str, server_url: &str) -> anyhow::Result<()> {
        let text = format!(
            "DATABASE_URL={}\nSERVER_URL={}\n",
            quoted(database_url),
            quoted(server_url)
        );
        let fresh = self.path("address.fresh");
        std::fs::write(&fresh, text).with_context(|| format!("can't write {}", fresh.display()))?;
        Ok(std::fs::rename(fresh, self.path(ADDRESS))?)
    }

    /// Nobody is to be sent to an address where nothing answers.
    fn forget_address(&self) {
        let _ = std::fs::remove_file(self.path(ADDRESS));
    }

    /// Everything has ended: nothing says any longer that something runs here.
    pub(crate) fn leave(&self) {
        self.forget_address();
        let _ = std::fs::remove_file(self.pid_path("dev"));
    }

    fn end_leftover(&self, name: &str) -> anyhow::Result<()> {
        let Ok(text) = std::fs::read_to_string(self.pid_path(name)) else {
            return Ok(());
        };
        let program = format!("tasker-{name}");
        if let Ok(process) = text.trim().parse()
            && processes::name_of(process).is_some_and(|found| found == program)
        {
            println!("stopping the {program} of an earlier run (process {process})");
            end(process);
        }
        Ok(std::fs::remove_file(self.pid_path(name))?)
    }
}

fn end(process: u32) {
    processes::send(process, Signal::TERM);
    let deadline = Instant::now() + LEFTOVERS_END_WITHIN;
    while processes::is_alive(process) {
        if Instant::now() > deadline {
            processes::send(process, Signal::KILL);
            return;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// A word for a POSIX shell.
fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::quoted;

    #[test]
    fn a_shell_reads_a_quoted_word_as_it_was() {
        assert_eq!(
            quoted("postgres://a:b@c/d?e=f&g"),
            "'postgres://a:b@c/d?e=f&g'"
        );
        assert_eq!(quoted("it's"), r"'it'\''s'");
    }
}
