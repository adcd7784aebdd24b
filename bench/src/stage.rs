//! What is measured: a PostgreSQL of the benchmark's own, the server and the worker.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, ensure};
use serde_json::Value;
use tasker_cli::cluster::{Cluster, ClusterOptions, StopMode, free_port};
use tasker_client::{Client, ConnectOptions, Definition};
use tokio::process::{Child, Command};

use crate::shapes::{self, CREATED_ONLY, CSV_ROWS, SERVED, Shape, UNSERVED};

const DATABASE: &str = "tasker";
const READY_WITHIN: Duration = Duration::from_secs(20);
const ASKED_EVERY: Duration = Duration::from_millis(50);

/// Durable as a production server is. No checkpoint falls into a measurement: when it would, is chance.
const SETTINGS: [(&str, &str); 10] = [
    ("synchronous_commit", "on"),
    ("max_connections", "60"),
    ("shared_buffers", "1GB"),
    ("max_wal_size", "16GB"),
    ("min_wal_size", "2GB"),
    ("checkpoint_timeout", "1h"),
    ("track_wal_io_timing", "on"),
    ("log_checkpoints", "on"),
    ("timezone", "UTC"),
    // The largest of the lone tasks that are drained.
    ("tasker.max_template_steps", "100000"),
];

/// A running PostgreSQL with Tasker and the measured templates in it.
#[derive(Debug, Clone)]
pub(crate) struct Stage {
    folder: PathBuf,
    pub(crate) cluster: Cluster,
    database: String,
}

impl Stage {
    /// Makes it anew in `.build/bench/`.
    pub(crate) async fn start(pg_bin: Option<PathBuf>) -> anyhow::Result<Self> {
        let bin_dir = match pg_bin {
            Some(folder) => folder,
            None => private_install().await?,
        };
        let folder = project().join(".build/bench");
        std::fs::create_dir_all(&folder)
            .with_context(|| format!("can't make {}", folder.display()))?;
        let mut cluster = new_cluster(&folder.join("cluster"), bin_dir)?;
        cluster.start()?;
        let stage = Self {
            folder,
            cluster,
            database: DATABASE.to_owned(),
        };
        // From here on the server runs: it must not outlive a failure.
        match stage.prepare().await {
            Ok(()) => Ok(stage),
            Err(error) => {
                stage.stop()?;
                Err(error)
            }
        }
    }

    async fn prepare(&self) -> anyhow::Result<()> {
        make_csv().await?;
        let client = self.make_database().await?;
        for shape in Shape::ALL {
            if shape.is_generated() {
                for namespace in [SERVED, UNSERVED] {
                    register_json(&client, &shape.generate(namespace)).await?;
                }
            } else {
                register_example(&client, shape.template()).await?;
            }
        }
        for namespace in [UNSERVED, CREATED_ONLY] {
            register_json(&client, &shapes::linear(namespace)).await?;
        }
        client.close().await;
        Ok(())
    }

    /// The same PostgreSQL with a further database, in which Tasker and the given templates are.
    pub(crate) async fn beside(&self, database: &str, templates: &[Value]) -> anyhow::Result<Self> {
        let stage = Self {
            database: database.to_owned(),
            ..self.clone()
        };
        let client = stage.make_database().await?;
        for template in templates {
            register_json(&client, template).await?;
        }
        client.close().await;
        Ok(stage)
    }

    /// Drops a database made by `beside`, and ends what sessions are left in it.
    pub(crate) fn drop_database(self) -> anyhow::Result<()> {
        Ok(self.cluster.drop_database(&self.database)?)
    }

    async fn make_database(&self) -> anyhow::Result<Client> {
        self.cluster.create_database(&self.database, None)?;
        let client = self.client("tasker-bench prepare", 1).await?;
        tasker_client::init(&client)
            .await
            .context("the database can't be prepared; is the extension installed?")?;
        Ok(client)
    }

    /// A client with so many connections, all of them open.
    pub(crate) async fn client(&self, name: &str, connections: u32) -> anyhow::Result<Client> {
        let options = ConnectOptions {
            max_connections: connections,
            application_name: name.to_owned(),
            ..ConnectOptions::default()
        };
        Ok(Client::connect(&self.url(), options).await?)
    }

    /// The address of the database with Tasker in it.
    pub(crate) fn url(&self) -> String {
        self.cluster.url(&self.database)
    }

    /// The address of a database without anything in it.
    pub(crate) fn outside_url(&self) -> String {
        self.cluster.url("postgres")
    }

    /// A folder of the benchmark's own, empty.
    pub(crate) fn scratch(&self, name: &str) -> anyhow::Result<PathBuf> {
        let folder = self.folder.join(name);
        if folder.exists() {
            std::fs::remove_dir_all(&folder)?;
        }
        std::fs::create_dir_all(&folder)?;
        Ok(folder)
    }

    /// Starts the worker with the example handlers.
    pub(crate) fn start_worker(&self) -> anyhow::Result<Program> {
        let namespaces = format!("example,approvals,media,data,{SERVED}");
        self.start_program("tasker-worker", &["--namespaces", &namespaces])
    }

    /// Starts the server and waits until it is ready; gives its address too.
    pub(crate) async fn start_server(&self) -> anyhow::Result<(Program, String)> {
        let address = format!("127.0.0.1:{}", free_port(None)?);
        let server = self.start_program(
            "tasker-server",
            &["--listen", &address, "--grpc-listen", "off"],
        )?;
        let url = format!("http://{address}");
        let ready = tokio::time::timeout(READY_WITHIN, async {
            while !is_ready(&url).await {
                tokio::time::sleep(ASKED_EVERY).await;
            }
        });
        ready.await.context("the server isn't ready")?;
        Ok((server, url))
    }

    fn start_program(&self, name: &str, arguments: &[&str]) -> anyhow::Result<Program> {
        let path = std::env::current_exe()?.with_file_name(name);
        ensure!(
            path.is_file(),
            "{} isn't there: start the benchmark with `make bench`",
            path.display()
        );
        let log = File::create(self.folder.join(format!("{name}.log")))?;
        let child = Command::new(&path)
            .args(arguments)
            .env("DATABASE_URL", self.url())
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("can't start {}", path.display()))?;
        Ok(Program { child })
    }

    /// Ends PostgreSQL; its folder stays until the next run.
    pub(crate) fn stop(&self) -> anyhow::Result<()> {
        Ok(self.cluster.stop(StopMode::Fast)?)
    }
}

/// The server or the worker, running. It is killed when this value is dropped.
#[derive(Debug)]
pub(crate) struct Program {
    child: Child,
}

impl Program {
    /// Its process.
    pub(crate) fn process(&self) -> anyhow::Result<u32> {
        self.child.id().context("it has ended; see its log")
    }

    /// Ends it.
    pub(crate) async fn end(mut self) -> anyhow::Result<()> {
        Ok(self.child.kill().await?)
    }
}

/// The root of the project that this program was built in.
pub(crate) fn project() -> &'static Path {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    own.parent().unwrap_or(own)
}

/// The file that the batch goes over.
pub(crate) fn csv_path() -> PathBuf {
    project().join(".build/bench/rows.csv")
}

async fn make_csv() -> anyhow::Result<()> {
    let output = Command::new(project().join("examples/csv_batch/make_csv"))
        .arg(csv_path())
        .arg(CSV_ROWS.to_string())
        .output()
        .await
        .context("can't run examples/csv_batch/make_csv")?;
    ensure!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}

/// The commit that is checked out, with a `+` when files differ from it; none outside a Git repository.
pub(crate) async fn revision() -> Option<String> {
    let output = Command::new("git")
        .args(["describe", "--always", "--dirty=+", "--exclude=*"])
        .current_dir(project())
        .output()
        .await
        .ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim().to_owned())
}

async fn private_install() -> anyhow::Result<PathBuf> {
    let output = Command::new(project().join("pg_extension/install"))
        .arg("--where")
        .output()
        .await
        .context("can't run pg_extension/install")?;
    ensure!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(PathBuf::from(String::from_utf8(output.stdout)?.trim()))
}

/// A fresh cluster in the folder, in place of the one that a run before has left there.
fn new_cluster(folder: &Path, bin_dir: PathBuf) -> anyhow::Result<Cluster> {
    let settings = SETTINGS.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let options = ClusterOptions {
        bin_dir: Some(bin_dir),
        settings: settings.to_vec(),
        ..ClusterOptions::default()
    };
    if folder.exists() {
        Cluster::open(folder, options.clone())?.stop(StopMode::Immediate)?;
        std::fs::remove_dir_all(folder)?;
    }
    Ok(Cluster::open(folder, options)?)
}

async fn register_example(client: &Client, name: &str) -> anyhow::Result<()> {
    let path = project().join(format!("examples/templates/{name}.yaml"));
    let text =
        std::fs::read_to_string(&path).with_context(|| format!("can't read {}", path.display()))?;
    let registered = client.register_template(Definition::Yaml(&text), None);
    registered
        .await
        .with_context(|| format!("registering {name}"))?;
    Ok(())
}

async fn register_json(client: &Client, document: &Value) -> anyhow::Result<()> {
    let text = serde_json::value::to_raw_value(document)?;
    let registered = client.register_template(Definition::Json(&text), None);
    registered
        .await
        .with_context(|| format!("registering {}", document["name"]))?;
    Ok(())
}

async fn is_ready(url: &str) -> bool {
    let answer = reqwest::get(format!("{url}/health/ready")).await;
    answer.is_ok_and(|answer| answer.status().is_success())
}
