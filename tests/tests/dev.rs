//! `tasker-ctl dev`: a whole Tasker in a folder.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, ensure};
use tasker_client::{Client, ConnectOptions, NewTask, TaskFilter};
use tasker_tests::{ScratchFolder, Signal, bin_dir, eventually, program_path, signal};
use tokio::process::{Child, Command};

const READY_WITHIN: Duration = Duration::from_secs(90);
const ENDED_WITHIN: Duration = Duration::from_mins(1);

/// A running `tasker-ctl dev`.
struct Dev {
    folder: PathBuf,
    child: Child,
}

impl Dev {
    async fn start(folder: &Path) -> anyhow::Result<Self> {
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(folder.join("dev.log"))?;
        let child = Command::new(program_path("tasker-ctl")?)
            .args(["dev", "--server-port", "18080", "--folder"])
            .arg(folder)
            .arg("--pg-bin")
            .arg(bin_dir()?)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .kill_on_drop(true)
            .spawn()?;
        let mut dev = Self {
            folder: folder.to_owned(),
            child,
        };
        eventually("the address is written", READY_WITHIN, async || {
            ensure!(dev.child.try_wait()?.is_none(), "dev has ended");
            // An earlier run that was killed has left both files.
            let is_this = dev.pid("dev") == dev.child.id();
            Ok((is_this && dev.folder.join("address").exists()).then_some(()))
        })
        .await
        .with_context(|| dev_log(folder))?;
        Ok(dev)
    }

    fn address(&self) -> anyhow::Result<BTreeMap<String, String>> {
        let text = std::fs::read_to_string(self.folder.join("address"))?;
        let pairs = text.lines().filter_map(|line| line.split_once('='));
        Ok(pairs
            .map(|(name, value)| (name.to_owned(), value.trim_matches('\'').to_owned()))
            .collect())
    }

    fn pid(&self, name: &str) -> Option<u32> {
        std::fs::read_to_string(self.folder.join(format!("{name}.pid")))
            .ok()?
            .trim()
            .parse()
            .ok()
    }

    /// The process of the database.
    fn server_process(&self) -> Option<u32> {
        let text =
            std::fs::read_to_string(self.folder.join("postgresql/data/postmaster.pid")).ok()?;
        text.lines().next()?.trim().parse().ok()
    }

    async fn client(&self) -> anyhow::Result<Client> {
        let url = &self.address()?["DATABASE_URL"];
        Ok(Client::connect(url, ConnectOptions::default()).await?)
    }

    async fn stop(mut self) -> anyhow::Result<()> {
        signal(
            self.child.id().context("dev has ended already")?,
            Signal::TERM,
        )?;
        let status = tokio::time::timeout(ENDED_WITHIN, self.child.wait())
            .await
            .with_context(|| dev_log(&self.folder))??;
        ensure!(
            status.success(),
            "dev ended with {status}: {}",
            dev_log(&self.folder)
        );
        Ok(())
    }
}

fn dev_log(folder: &Path) -> String {
    std::fs::read_to_string(folder.join("dev.log")).unwrap_or_default()
}

fn is_running(process: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{process}/stat")).is_ok_and(|stat| {
        !stat
            .rsplit(')')
            .next()
            .unwrap_or_default()
            .trim_start()
            .starts_with('Z')
    })
}

async fn complete_a_task(dev: &Dev) -> anyhow::Result<()> {
    let client = dev.client().await?;
    let task = NewTask {
        template_name: "diamond_workflow".to_owned(),
        namespace: "example".to_owned(),
        ..NewTask::default()
    };
    let task_uuid = client.create_task(&task).await?;
    eventually(
        "the task is complete",
        Duration::from_secs(20),
        async || Ok((client.get_task(task_uuid).await?.state == "complete").then_some(())),
    )
    .await
}

#[tokio::test]
async fn dev_runs_tasks_mends_what_dies_and_stops_together() -> anyhow::Result<()> {
    let scratch = ScratchFolder::new()?;
    let folder = scratch.path();
    let dev = Dev::start(folder).await?;
    complete_a_task(&dev).await?;

    let second = Command::new(program_path("tasker-ctl")?)
        .args(["dev", "--folder"])
        .arg(folder)
        .output()
        .await?;
    assert!(
        !second.status.success(),
        "a second dev in the same folder is refused"
    );

    let worker = dev.pid("worker").context("no worker.pid")?;
    signal(worker, Signal::KILL)?;
    eventually("another worker runs", Duration::from_secs(20), async || {
        Ok(dev
            .pid("worker")
            .filter(|process| *process != worker && is_running(*process)))
    })
    .await?;
    complete_a_task(&dev).await?;

    let database = dev.server_process().context("no postmaster.pid")?;
    signal(database, Signal::QUIT)?;
    eventually(
        "the database runs again",
        Duration::from_secs(20),
        async || {
            Ok(dev
                .server_process()
                .filter(|process| *process != database && is_running(*process)))
        },
    )
    .await?;
    eventually(
        "a task completes again",
        Duration::from_secs(30),
        async || Ok(complete_a_task(&dev).await.ok()),
    )
    .await?;

    let all = [dev.pid("worker"), dev.pid("server"), dev.server_process()];
    dev.stop().await?;
    for process in all.into_iter().flatten() {
        assert!(!is_running(process), "process {process} still runs");
    }
    assert!(!folder.join("address").exists());
    Ok(())
}

#[tokio::test]
async fn dev_started_again_after_a_kill_ends_the_leftovers_and_keeps_the_tasks()
-> anyhow::Result<()> {
    let scratch = ScratchFolder::new()?;
    let mut dev = Dev::start(scratch.path()).await?;
    complete_a_task(&dev).await?;
    let leftovers = [dev.pid("worker"), dev.pid("server")];
    dev.child.kill().await?;

    let dev = Dev::start(scratch.path()).await?;
    for process in leftovers.into_iter().flatten() {
        assert!(!is_running(process), "the leftover {process} still runs");
    }
    let kept = dev
        .client()
        .await?
        .list_tasks(&TaskFilter::default())
        .await?;
    assert_eq!(kept.len(), 1);
    dev.stop().await
}
