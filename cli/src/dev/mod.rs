//! `tasker-ctl dev`: a whole Tasker in a folder, for development and for a first look.
//!
//! It starts a private PostgreSQL, prepares a database in it, registers the example templates, and keeps a server and a worker running
//! until it is told to stop. Nothing is kept outside the folder; the next start in the same folder goes on where the last one ended.
//! What lives elsewhere: the cluster itself (`cluster`), and all SQL (the client).

mod folder;
mod program;
mod ready;
mod templates;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use tasker_client::{Client, ConnectOptions, Error};
use tokio::signal::unix::{SignalKind, signal};

use crate::cluster::{Cluster, ClusterOptions, StopMode, free_port};
use folder::Folder;
use program::{Program, Supervised};

const DATABASE: &str = "tasker";
const FIRST_DATABASE_PORT: u16 = 5433;
/// PostgreSQL's code for a database that doesn't exist.
const NO_SUCH_DATABASE: &str = "3D000";
const READY_WITHIN: Duration = Duration::from_mins(1);
const DATABASE_LOOKED_AT_EVERY: Duration = Duration::from_secs(1);

/// Starts a private PostgreSQL, the extension, a server and a worker with the example handlers, and stops them together
#[derive(Debug, Clone, clap::Args)]
pub struct DevOptions {
    /// Where everything is kept
    #[arg(long, default_value = ".tasker")]
    folder: PathBuf,
    /// The database's port [default: the last one of this folder, else the next free one from 5433]
    #[arg(long)]
    port: Option<u16>,
    /// The server's port; the next free one is taken when something else listens there
    #[arg(long, default_value_t = 8080)]
    server_port: u16,
    /// The server's port for gRPC; the next free one is taken when something else listens there
    #[arg(long, default_value_t = 9190)]
    grpc_port: u16,
    /// The bin folder of a PostgreSQL with the extension installed [default: the newest that is found]
    #[arg(long, value_name = "FOLDER")]
    pg_bin: Option<PathBuf>,
}

/// Runs until SIGINT or SIGTERM, then stops the worker, the server and the database, in this order.
pub async fn run(options: DevOptions) -> anyhow::Result<()> {
    let folder = Folder::take(&options.folder)?;
    let mut running = Running::new(open_cluster(&folder, &options)?);
    let outcome = tokio::select! {
        ended = running.start_and_watch(&folder, &options) => ended,
        asked = stop_asked() => asked,
    };
    println!("stopping");
    let stopped = running.stop(&folder).await;
    outcome.and(stopped)
}

fn open_cluster(folder: &Folder, options: &DevOptions) -> anyhow::Result<Cluster> {
    let cluster_options = ClusterOptions {
        bin_dir: options.pg_bin.clone(),
        port: options.port,
        ..ClusterOptions::default()
    };
    let mut cluster = Cluster::open(&folder.path("postgresql"), cluster_options)?;
    cluster.prefer_port(FIRST_DATABASE_PORT);
    Ok(cluster)
}

async fn stop_asked() -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! {
        _ = terminate.recv() => Ok(()),
        _ = interrupt.recv() => Ok(()),
    }
}

/// What has been started so far.
#[derive(Debug)]
struct Running {
    cluster: Cluster,
    /// In the order of starting.
    programs: Vec<Supervised>,
}

impl Running {
    fn new(cluster: Cluster) -> Self {
        Self {
            cluster,
            programs: Vec::new(),
        }
    }

    async fn start_and_watch(
        &mut self,
        folder: &Folder,
        options: &DevOptions,
    ) -> anyhow::Result<()> {
        self.start_database().await?;
        self.prepare_database().await?;
        let server_port = free_port(Some(options.server_port))?;
        let grpc_port = free_port(Some(options.grpc_port))?;
        self.start_programs(folder, server_port, grpc_port)?;
        ready::wait_for_server(server_port, READY_WITHIN)
            .await
            .with_context(|| format!("see {}", folder.path("server.log").display()))?;
        let server_url = format!("http://127.0.0.1:{server_port}");
        let database_url = self.cluster.url(DATABASE);
        folder.write_address(&database_url, &server_url)?;
        println!(
            "database  {database_url}\nserver    {server_url}\ngRPC      127.0.0.1:{grpc_port}\nready; logs and pid files are in {}",
            folder.root().display()
        );
        self.watch_database().await
    }

    async fn start_database(&mut self) -> anyhow::Result<()> {
        println!("starting PostgreSQL in {}", self.cluster.folder().display());
        self.cluster = blocking(self.cluster.clone(), |mut cluster| {
            cluster.start()?;
            Ok(cluster)
        })
        .await?;
        Ok(())
    }

    async fn prepare_database(&self) -> anyhow::Result<()> {
        let client = match self.connect().await {
            Err(error) if error.code() == Some(NO_SUCH_DATABASE) => {
                blocking(self.cluster.clone(), |cluster| {
                    cluster.create_database(DATABASE, None)?;
                    Ok(())
                })
                .await?;
                self.connect().await?
            }
            other => other?,
        };
        tasker_client::init(&client)
            .await
            .context("preparing the database")?;
        templates::register(&client).await?;
        client.close().await;
        Ok(())
    }

    async fn connect(&self) -> Result<Client, Error> {
        let options = ConnectOptions {
            application_name: "tasker-ctl dev".to_owned(),
            ..ConnectOptions::default()
        };
        Client::connect(&self.cluster.url(DATABASE), options).await
    }

    fn start_programs(
        &mut self,
        folder: &Folder,
        server_port: u16,
        grpc_port: u16,
    ) -> anyhow::Result<()> {
        let server = Program::beside_this_one("tasker-server", folder, "server")?
            .argument("--listen")
            .argument(format!("127.0.0.1:{server_port}"))
            .argument("--grpc-listen")
            .argument(format!("127.0.0.1:{grpc_port}"))
            .variable("DATABASE_URL", self.cluster.url(DATABASE));
        let worker = Program::beside_this_one("tasker-worker", folder, "worker")?
            .variable("DATABASE_URL", self.cluster.url(DATABASE));
        for program in [server, worker] {
            println!("starting {}", program.name());
            self.programs.push(program.supervise());
        }
        Ok(())
    }

    /// Starts the database again when it has ended; the server and the worker connect anew by themselves.
    async fn watch_database(&mut self) -> anyhow::Result<()> {
        loop {
            tokio::time::sleep(DATABASE_LOOKED_AT_EVERY).await;
            if !self.cluster.is_running() {
                println!("PostgreSQL has ended; starting it again");
                self.start_database().await?;
            }
        }
    }

    async fn stop(self, folder: &Folder) -> anyhow::Result<()> {
        for program in self.programs.into_iter().rev() {
            program.stop().await;
        }
        blocking(self.cluster, |cluster| Ok(cluster.stop(StopMode::Fast)?)).await?;
        folder.leave();
        Ok(())
    }
}

/// Runs work on a cluster, which waits for processes, off the async threads.
async fn blocking<T: Send + 'static>(
    cluster: Cluster,
    work: impl FnOnce(Cluster) -> anyhow::Result<T> + Send + 'static,
) -> anyhow::Result<T> {
    tokio::task::spawn_blocking(move || work(cluster)).await?
}
