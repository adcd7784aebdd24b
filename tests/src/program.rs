//! The real programs, as processes.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, ensure};
use tasker_cli::cluster::free_port;
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

use crate::folders::{test_folder, unique_name};
use crate::signals::{Signal, signal};
use crate::waiting::eventually;

const SERVER_UP_WITHIN: Duration = Duration::from_secs(20);

/// One of Tasker's programs, running. It is killed when this value is dropped.
#[derive(Debug)]
pub struct Program {
    child: Child,
    log: PathBuf,
}

impl Program {
    /// Starts a program of the workspace on a database.
    pub fn start(name: &str, database_url: &str, arguments: &[&str]) -> anyhow::Result<Self> {
        let log = test_folder("logs")?.join(format!("{}-{name}.log", unique_name()));
        let output = File::create(&log)?;
        let child = Command::new(program_path(name)?)
            .args(arguments)
            .env("DATABASE_URL", database_url)
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("can't start {name}"))?;
        Ok(Self { child, log })
    }

    /// A worker with the example handlers.
    pub fn worker(database_url: &str, arguments: &[&str]) -> anyhow::Result<Self> {
        Self::start("tasker-worker", database_url, arguments)
    }

    /// Runs a program of the workspace to its end (`tasker-ctl`).
    pub async fn run(
        name: &str,
        database_url: &str,
        arguments: &[&str],
    ) -> anyhow::Result<std::process::Output> {
        let mut command = Command::new(program_path(name)?);
        command
            .args(arguments)
            .env("DATABASE_URL", database_url)
            .stdin(Stdio::null());
        command
            .output()
            .await
            .with_context(|| format!("can't run {name}"))
    }

    /// Its process, while it runs.
    #[must_use]
    pub fn process(&self) -> Option<u32> {
        self.child.id()
    }

    /// Kills it with SIGKILL and waits until it has ended.
    pub async fn kill(&mut self) -> anyhow::Result<()> {
        Ok(self.child.kill().await?)
    }

    /// Asks it to end with SIGTERM and waits until it has.
    pub async fn terminate(&mut self, within: Duration) -> anyhow::Result<ExitStatus> {
        let process = self.process().context("it has ended already")?;
        signal(process, Signal::TERM)?;
        self.ended(within).await
    }

    /// Waits until it has ended by itself.
    pub async fn ended(&mut self, within: Duration) -> anyhow::Result<ExitStatus> {
        tokio::time::timeout(within, self.child.wait())
            .await
            .with_context(|| {
                format!(
                    "it didn't end within {} ms; its log:\n{}",
                    within.as_millis(),
                    self.log()
                )
            })?
            .context("can't wait for it")
    }

    /// What it has written so far.
    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }
}

/// The real server.
#[derive(Debug)]
pub struct Server {
    /// Its process.
    pub program: Program,
    /// Its address, without a slash at the end.
    pub url: String,
    /// Where it takes calls of gRPC: host and port.
    pub grpc: String,
}

impl Server {
    /// Starts it on a free port and waits until it takes connections.
    pub async fn start(database_url: &str, arguments: &[&str]) -> anyhow::Result<Self> {
        let address = format!("127.0.0.1:{}", free_port(None)?);
        Self::start_at(&address, database_url, arguments).await
    }

    /// Starts it at an address, where it was before, and waits until it takes connections.
    pub async fn start_at(
        address: &str,
        database_url: &str,
        arguments: &[&str],
    ) -> anyhow::Result<Self> {
        let grpc = format!("127.0.0.1:{}", free_port(None)?);
        let arguments: Vec<_> = ["--listen", address, "--grpc-listen", &grpc]
            .into_iter()
            .chain(arguments.iter().copied())
            .collect();
        let program = Program::start("tasker-server", database_url, &arguments)?;
        let connected = eventually("the server listens", SERVER_UP_WITHIN, async || {
            Ok(TcpStream::connect(address).await.ok())
        });
        connected.await.with_context(|| program.log())?;
        Ok(Self {
            program,
            url: format!("http://{address}"),
            grpc,
        })
    }
}

/// Where a program of the workspace is built: two folders above a test's own program.
pub fn program_path(name: &str) -> anyhow::Result<PathBuf> {
    let test = std::env::current_exe()?;
    let folder = test.ancestors().nth(2).unwrap_or(Path::new("."));
    let path = folder.join(name);
    ensure!(
        path.is_file(),
        "{} isn't there: run `cargo build` first",
        path.display()
    );
    Ok(path)
}
