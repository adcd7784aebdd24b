//! A program that is kept running: started again when it ends by itself, stopped when told.

use std::fs::OpenOptions;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use rustix::process::Signal;
use tokio::process::{Child, Command};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::folder::Folder;
use crate::cluster::processes;

const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(15);
/// A program that ran for so long was well: its next start is not delayed more than the first.
const WELL_AFTER: Duration = Duration::from_secs(30);
/// Longer than a worker's own grace for its running steps.
const ENDS_WITHIN: Duration = Duration::from_secs(40);

/// How to start one of Tasker's programs.
#[derive(Debug)]
pub(crate) struct Program {
    path: PathBuf,
    name: &'static str,
    arguments: Vec<String>,
    variables: Vec<(&'static str, String)>,
    log: PathBuf,
    pid_file: PathBuf,
}

impl Program {
    /// The program of that name in the folder of this one; `role` names its log and pid file.
    pub(crate) fn beside_this_one(
        name: &'static str,
        folder: &Folder,
        role: &str,
    ) -> anyhow::Result<Self> {
        let this = std::env::current_exe().context("can't tell where this program lies")?;
        let path = this.with_file_name(name);
        if !path.is_file() {
            bail!(
                "{} isn't there: it must lie beside tasker-ctl",
                path.display()
            );
        }
        Ok(Self {
            path,
            name,
            arguments: Vec::new(),
            variables: Vec::new(),
            log: folder.path(&format!("{role}.log")),
            pid_file: folder.pid_path(role),
        })
    }

    pub(crate) fn argument(mut self, argument: impl Into<String>) -> Self {
        self.arguments.push(argument.into());
        self
    }

    pub(crate) fn variable(mut self, name: &'static str, value: String) -> Self {
        self.variables.push((name, value));
        self
    }

    pub(crate) fn name(&self) -> &'static str {
        self.name
    }

    /// Starts it and keeps it running until [`Supervised::stop`].
    pub(crate) fn supervise(self) -> Supervised {
        let (stop, stopped) = watch::channel(false);
        Supervised {
            stop,
            task: tokio::spawn(keep_running(self, stopped)),
        }
    }

    fn spawn(&self) -> anyhow::Result<Child> {
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&self.log)
            .with_context(|| format!("can't write {}", self.log.display()))?;
        let child = Command::new(&self.path)
            .args(&self.arguments)
            .envs(self.variables.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            // A group of its own: the terminal's Ctrl-C reaches this program only, which stops the others in their order.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("can't start {}", self.path.display()))?;
        if let Some(process) = child.id() {
            std::fs::write(&self.pid_file, format!("{process}\n"))?;
        }
        Ok(child)
    }
}

/// A program that is being kept running.
#[derive(Debug)]
pub(crate) struct Supervised {
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Supervised {
    /// Asks it to end and waits until it has.
    pub(crate) async fn stop(self) {
        self.stop.send_replace(true);
        // An error here is a panic of the task, which dropped the child and so killed it.
        let _ = self.task.await;
    }
}

async fn keep_running(program: Program, mut stopped: watch::Receiver<bool>) {
    let mut pause = FIRST_PAUSE;
    loop {
        let started = Instant::now();
        let Some(reason) = run_once(&program, &mut stopped).await else {
            return;
        };
        if started.elapsed() > WELL_AFTER {
            pause = FIRST_PAUSE;
        }
        println!(
            "{reason}; starting it again in {} ms, see {}",
            pause.as_millis(),
            program.log.display()
        );
        tokio::select! {
            () = told_to_stop(&mut stopped) => return,
            () = tokio::time::sleep(pause) => {}
        }
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// Runs it until it ends, and says why; none when it was stopped as told.
async fn run_once(program: &Program, stopped: &mut watch::Receiver<bool>) -> Option<String> {
    let mut child = match program.spawn() {
        Ok(child) => child,
        Err(error) => return Some(format!("{error:#}")),
    };
    tokio::select! {
        () = told_to_stop(stopped) => {
            end(program, child).await;
            None
        }
        status = child.wait() => match status {
            Ok(status) => Some(format!("{} has ended ({status})", program.name)),
            Err(error) => Some(format!("{} can't be waited for: {error}", program.name)),
        },
    }
}

async fn told_to_stop(stopped: &mut watch::Receiver<bool>) {
    // An error says that nobody is left who could tell: that is the end as well.
    let _ = stopped.wait_for(|stopped| *stopped).await;
}

async fn end(program: &Program, mut child: Child) {
    if let Some(process) = child.id() {
        processes::send(process, Signal::TERM);
    }
    if tokio::time::timeout(ENDS_WITHIN, child.wait())
        .await
        .is_err()
    {
        println!(
            "{} didn't end within {} s: killed",
            program.name,
            ENDS_WITHIN.as_secs()
        );
        let _ = child.kill().await;
    }
    let _ = std::fs::remove_file(&program.pid_file);
}
