//! `tasker-ctl worker`.

use chrono::Utc;
use clap::Subcommand;
use serde::Serialize;
use tasker_client::{Client, Details, Error, Worker};

use crate::failure::Failure;
use crate::output::{self, Output};

#[derive(Debug, Subcommand)]
pub(crate) enum WorkerCommand {
    /// List the workers that registered
    #[command(after_help = "Example:\n  tasker-ctl worker list --live")]
    List {
        /// Only those that live
        #[arg(long)]
        live: bool,
        /// Only those that serve this namespace
        #[arg(short, long)]
        namespace: Option<String>,
    },
    /// Show a worker with the handlers that it serves
    #[command(after_help = "Example:\n  tasker-ctl worker show worker-1")]
    Show {
        /// The worker's id
        worker_id: String,
    },
    /// Take a worker that is gone off the list of the live ones; its leases end by themselves
    #[command(after_help = "Example:\n  tasker-ctl worker retire worker-1")]
    Retire {
        /// The worker's id
        worker_id: String,
    },
}

#[derive(Serialize)]
struct Retirement {
    worker_id: String,
    retired: bool,
}

pub(crate) async fn run(
    command: WorkerCommand,
    client: &Client,
    output: Output,
) -> Result<(), Failure> {
    match command {
        WorkerCommand::List { live, namespace } => {
            list(client, live, namespace.as_ref(), output).await
        }
        WorkerCommand::Show { worker_id } => show(client, &worker_id, output).await,
        WorkerCommand::Retire { worker_id } => retire(client, worker_id, output).await,
    }
}

async fn list(
    client: &Client,
    live: bool,
    namespace: Option<&String>,
    output: Output,
) -> Result<(), Failure> {
    let mut workers = client.list_workers().await?;
    workers.retain(|worker| {
        (worker.is_live || !live) && namespace.is_none_or(|name| worker.namespaces.contains(name))
    });
    output.show(&workers, || {
        let rows = workers.iter().map(|worker| {
            [
                worker.worker_id.clone(),
                state(worker).to_owned(),
                worker.namespaces.join(", "),
                worker.handlers.len().to_string(),
                format!("{}/{}", worker.running, worker.capacity),
                format!("{} {}", worker.language, worker.version),
                output::duration(Utc::now() - worker.last_seen_at),
            ]
        });
        output::table(
            [
                "WORKER",
                "STATE",
                "NAMESPACES",
                "HANDLERS",
                "RUNNING",
                "VERSION",
                "SILENT FOR",
            ],
            rows,
        )
    })
}

fn state(worker: &Worker) -> &'static str {
    match (worker.retired_at, worker.is_live) {
        (Some(_), _) => "retired",
        (None, true) => "live",
        (None, false) => "silent",
    }
}

async fn show(client: &Client, worker_id: &str, output: Output) -> Result<(), Failure> {
    let workers = client.list_workers().await?;
    let worker = workers
        .into_iter()
        .find(|worker| worker.worker_id == worker_id)
        .ok_or_else(|| not_found(worker_id))?;
    output.show(&worker, || {
        output::fields([
            ("worker", Some(worker.worker_id.clone())),
            ("state", Some(state(&worker).to_owned())),
            ("namespaces", Some(worker.namespaces.join(", "))),
            ("handlers", Some(worker.handlers.join(", "))),
            (
                "running",
                Some(format!("{} of {}", worker.running, worker.capacity)),
            ),
            ("language", Some(worker.language.clone())),
            ("version", Some(worker.version.clone())),
            ("registered", Some(output::time(worker.registered_at))),
            ("last seen", Some(output::time(worker.last_seen_at))),
            ("retired", worker.retired_at.map(output::time)),
        ])
    })
}

/// As `retire_worker` says it.
fn not_found(worker_id: &str) -> Failure {
    Failure::Client(Error::NotFound(Details {
        code: "TK004".to_owned(),
        message: format!("worker {worker_id} not found"),
        detail: None,
        hint: Some("`tasker-ctl worker list` shows the workers there are.".to_owned()),
    }))
}

async fn retire(client: &Client, worker_id: String, output: Output) -> Result<(), Failure> {
    let retired = Retirement {
        retired: client.retire_worker(&worker_id).await?,
        worker_id,
    };
    output.show(&retired, || {
        let outcome = if retired.retired {
            "retired"
        } else {
            "retired before"
        };
        format!("{} {outcome}", retired.worker_id)
    })
}
