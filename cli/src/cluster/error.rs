//! What can go wrong with a private cluster.

use std::path::PathBuf;

/// An error of a private cluster.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// No PostgreSQL was found.
    #[error(
        "no PostgreSQL of version 15 or newer was found in {}; install one, or name its bin folder",
        list(.searched)
    )]
    NoPostgres {
        /// The bin folders that were looked at.
        searched: Vec<PathBuf>,
    },
    /// Started as root, and no account is there that PostgreSQL can run as.
    #[error(
        "PostgreSQL refuses to run as root, and this machine has neither an account 'postgres' nor 'nobody'"
    )]
    NoAccount,
    /// The account that runs PostgreSQL can't read or write what it must.
    #[error(
        "the account '{account}', which runs PostgreSQL, can't use {}: every folder above it must be open to others (chmod o+x), \
         or take another folder",
        .path.display()
    )]
    OutOfReach {
        /// The account that runs PostgreSQL.
        account: String,
        /// What it can't use.
        path: PathBuf,
    },
    /// No free port was found.
    #[error("no free port on 127.0.0.1 from {first} to {last}")]
    NoPort {
        /// The first port tried.
        first: u16,
        /// The last port tried.
        last: u16,
    },
    /// The database server didn't start.
    #[error("PostgreSQL didn't start; its log {} ends with:\n{tail}", .log.display())]
    Start {
        /// The server's log.
        log: PathBuf,
        /// The log's last lines.
        tail: String,
    },
    /// The cluster isn't running.
    #[error("the cluster in {} isn't running", .folder.display())]
    NotRunning {
        /// The cluster's folder.
        folder: PathBuf,
    },
    /// The processes of a killed cluster are still there.
    #[error("the processes of the cluster in {} didn't end", .folder.display())]
    StillRunning {
        /// The cluster's folder.
        folder: PathBuf,
    },
    /// A program of PostgreSQL failed.
    #[error("{program} failed ({status}): {output}")]
    Program {
        /// The program's name.
        program: String,
        /// How it ended.
        status: std::process::ExitStatus,
        /// What it wrote to standard error.
        output: String,
    },
    /// The operating system refused something.
    #[error("can't {action} {}: {source}", .path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
}

impl ClusterError {
    /// For `map_err` on a file operation.
    pub(crate) fn io(
        action: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io {
            action,
            path,
            source,
        }
    }
}

fn list(paths: &[PathBuf]) -> String {
    paths
        .iter()
        .map(|path| path.display().to_string())
        .collect::<Vec<_>>()
        .join(", ")
}
