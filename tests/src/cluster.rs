//! The PostgreSQL that all tests share, and those that a test has for itself.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, ensure};
use sqlx::{Connection, Executor, PgConnection};
use tasker_cli::cluster::{Cluster, ClusterOptions, StopMode, find_bin_dir};
use tasker_client::{Client, ConnectOptions};
use tokio::sync::OnceCell;

use crate::folders::{is_left_over, project, test_folder, unique_name};
use crate::stamp::{installed_folder, is_installed, stamp};

/// The prepared database that test databases are copies of.
pub(crate) const TEMPLATE: &str = "tasker_template";
/// How the names of test databases begin.
pub(crate) const TEST_DATABASE: &str = "test_";

/// The bin folder of the PostgreSQL that is tested on.
pub fn bin_dir() -> anyhow::Result<PathBuf> {
    let given = std::env::var_os("TASKER_TEST_PG_BIN").map(PathBuf::from);
    Ok(find_bin_dir(given.as_deref())?)
}

/// The bin folder of a second copy of the same PostgreSQL, where PGMQ is to be had as an extension.
pub fn bin_dir_with_pgmq() -> anyhow::Result<PathBuf> {
    bin_dir_with_pgmq_of(major_version()?)
}

/// The same of another PostgreSQL, which the extension is installed for.
pub fn bin_dir_with_pgmq_of(version: u32) -> anyhow::Result<PathBuf> {
    said_by_install("--with-pgmq", version)
}

fn said_by_install(action: &str, version: u32) -> anyhow::Result<PathBuf> {
    let output = Command::new(project()?.join("pg_extension/install"))
        .args([action, &version.to_string()])
        .output()
        .context("can't run pg_extension/install")?;
    ensure!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(PathBuf::from(String::from_utf8(output.stdout)?.trim()))
}

/// The bin folder of the private install of another PostgreSQL. Fails when the extension isn't installed there.
pub fn bin_dir_of(version: u32) -> anyhow::Result<PathBuf> {
    let bin_dir = said_by_install("--where", version)?;
    is_installed(&bin_dir)?;
    Ok(bin_dir)
}

/// The major version of the PostgreSQL that is tested on.
pub fn major_version() -> anyhow::Result<u32> {
    let output = Command::new(bin_dir()?.join("postgres"))
        .arg("--version")
        .output()?;
    let text = String::from_utf8(output.stdout)?;
    let number = text
        .split_whitespace()
        .nth(2)
        .and_then(|version| version.split('.').next());
    number
        .and_then(|number| number.parse().ok())
        .with_context(|| format!("unknown version '{}'", text.trim()))
}

/// Whether the PostgreSQL that is tested on has `pg_stat_statements`; it is loaded then, and in every test database.
pub fn has_statement_statistics() -> anyhow::Result<bool> {
    Ok(has_statements(&bin_dir()?))
}

fn has_statements(bin_dir: &Path) -> bool {
    installed_folder(bin_dir, "--pkglibdir")
        .is_ok_and(|folder| folder.join("pg_stat_statements.so").exists())
}

fn options(bin_dir: PathBuf) -> ClusterOptions {
    let mut settings = vec![
        ("max_connections", "200"),
        ("shared_buffers", "256MB"),
        ("timezone", "UTC"),
        // A call that never ends fails its test, and the server's log names it.
        ("statement_timeout", "5min"),
    ];
    if has_statements(&bin_dir) {
        settings.push(("shared_preload_libraries", "pg_stat_statements"));
        settings.push(("pg_stat_statements.track", "all"));
    }
    ClusterOptions {
        bin_dir: Some(bin_dir),
        port: None,
        without_fsync: true,
        settings: settings
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect(),
    }
}

/// The shared cluster, held by this process until it ends.
#[derive(Debug)]
pub(crate) struct SharedCluster {
    pub(crate) cluster: Cluster,
    /// While any process holds it, no other makes the cluster anew.
    _in_use: File,
}

impl SharedCluster {
    /// The one of this process. The first process that needs it starts it; it stays up for the next ones.
    pub(crate) async fn get() -> anyhow::Result<&'static Self> {
        static SHARED: OnceCell<SharedCluster> = OnceCell::const_new();
        SHARED.get_or_try_init(Self::prepare).await
    }

    async fn prepare() -> anyhow::Result<Self> {
        let bin_dir = bin_dir()?;
        let folder = test_folder(&format!("shared-{}", major_version()?))?;
        let preparing = lock_file(&folder.join("preparing.lock"))?;
        preparing.lock()?;
        let in_use = lock_file(&folder.join("in_use.lock"))?;
        let wanted = stamp(&bin_dir)?;
        let stamp_path = folder.join("stamp");
        let is_current = std::fs::read_to_string(&stamp_path).is_ok_and(|found| found == wanted);
        if !is_current {
            in_use.lock()?;
            discard(&folder.join("cluster"), &bin_dir)?;
        }
        let mut cluster = Cluster::open(&folder.join("cluster"), options(bin_dir))?;
        cluster.start()?;
        if !is_current {
            cluster.create_database(TEMPLATE, None)?;
            prepare_database(&cluster.url(TEMPLATE)).await?;
            std::fs::write(stamp_path, wanted)?;
        }
        drop_leftovers(&cluster).await?;
        in_use.unlock()?;
        in_use.lock_shared()?;
        Ok(Self {
            cluster,
            _in_use: in_use,
        })
    }
}

fn lock_file(path: &Path) -> anyhow::Result<File> {
    OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(path)
        .with_context(|| format!("can't open {}", path.display()))
}

/// Stops a cluster and removes its folder.
fn discard(folder: &Path, bin_dir: &Path) -> anyhow::Result<()> {
    if folder.join("data/PG_VERSION").exists() {
        Cluster::open(folder, options(bin_dir.to_owned()))?.stop(StopMode::Immediate)?;
    }
    if folder.exists() {
        std::fs::remove_dir_all(folder)?;
    }
    Ok(())
}

/// Drops the databases of test processes that were killed.
async fn drop_leftovers(cluster: &Cluster) -> anyhow::Result<()> {
    let mut session = PgConnection::connect(&cluster.url("postgres")).await?;
    let names: Vec<String> =
        sqlx::query_scalar("select datname::text from pg_database where datname like $1")
            .bind(format!("{TEST_DATABASE}%"))
            .fetch_all(&mut session)
            .await?;
    session.close().await?;
    for name in names
        .iter()
        .filter(|name| is_left_over(name.trim_start_matches(TEST_DATABASE)))
    {
        cluster.drop_database(name)?;
    }
    Ok(())
}

/// Puts PGMQ, Tasker and, where there are, statement statistics into an empty database.
async fn prepare_database(url: &str) -> anyhow::Result<()> {
    let options = ConnectOptions {
        max_connections: 1,
        ..ConnectOptions::default()
    };
    let client = Client::connect(url, options).await?;
    tasker_client::init(&client).await?;
    if has_statement_statistics()? {
        client
            .pool()
            .execute("create extension pg_stat_statements")
            .await?;
    }
    client.close().await;
    Ok(())
}

/// A PostgreSQL of one test's own. It is stopped and removed when this value is dropped.
#[derive(Debug)]
pub struct OwnCluster {
    /// The cluster: `restart`, `kill`, `start` and `stop` it at will.
    pub cluster: Cluster,
}

impl OwnCluster {
    /// A running cluster with Tasker in the database `tasker`.
    pub async fn start() -> anyhow::Result<Self> {
        let own = Self::start_empty(bin_dir()?)?;
        own.add_database("tasker").await?;
        Ok(own)
    }

    /// A running cluster of the given PostgreSQL, without any database but PostgreSQL's own.
    pub fn start_empty(bin_dir: PathBuf) -> anyhow::Result<Self> {
        Self::start_with(bin_dir, &[])
    }

    /// The same with further settings.
    pub fn start_with(bin_dir: PathBuf, settings: &[(&str, &str)]) -> anyhow::Result<Self> {
        let folder = test_folder("own")?;
        remove_leftovers(&folder, &bin_dir)?;
        let mut options = options(bin_dir);
        let further = settings
            .iter()
            .map(|&(name, value)| (name.to_owned(), value.to_owned()));
        // What comes last counts.
        options.settings.extend(further);
        let mut cluster = Cluster::open(&folder.join(unique_name()), options)?;
        cluster.start()?;
        Ok(Self { cluster })
    }

    /// Makes a database with Tasker in it, and gives its address.
    pub async fn add_database(&self, name: &str) -> anyhow::Result<String> {
        self.cluster.create_database(name, None)?;
        let url = self.cluster.url(name);
        prepare_database(&url).await?;
        Ok(url)
    }

    /// A standby that follows this cluster by streaming replication. This one waits with each commit until the standby has it.
    pub async fn standby(&self) -> anyhow::Result<Self> {
        let folder = test_folder("own")?.join(unique_name());
        let data = folder.join("data");
        std::fs::create_dir_all(&folder)?;
        let copied = Command::new(self.cluster.program("pg_basebackup"))
            .args([
                "--write-recovery-conf",
                "--checkpoint=fast",
                "--wal-method=stream",
                "--pgdata",
            ])
            .arg(&data)
            .args(["--dbname", &self.cluster.url("postgres")])
            .output()?;
        ensure!(
            copied.status.success(),
            "{}",
            String::from_utf8_lossy(&copied.stderr)
        );
        let owner = std::fs::metadata(self.cluster.folder().join("data"))?;
        give_to(&folder, owner.uid(), owner.gid())?;
        let mut cluster = Cluster::open(&folder, options(bin_dir()?))?;
        cluster.start()?;
        let mut session = PgConnection::connect(&self.url()).await?;
        session
            .execute("alter system set synchronous_standby_names = '*'")
            .await?;
        session.execute("select pg_reload_conf()").await?;
        session.close().await?;
        Ok(Self { cluster })
    }

    /// A command in the cluster's folder, as the account that owns its data.
    pub fn command(&self, program: &str) -> anyhow::Result<Command> {
        let owner = std::fs::metadata(self.cluster.folder().join("data"))?;
        let mut command = Command::new(self.cluster.program(program));
        command
            .uid(owner.uid())
            .gid(owner.gid())
            .current_dir(self.cluster.folder());
        Ok(command)
    }

    /// The address of the database `tasker`. It changes only when something else takes the port while the server is down.
    #[must_use]
    pub fn url(&self) -> String {
        self.cluster.url("tasker")
    }
}

impl Drop for OwnCluster {
    fn drop(&mut self) {
        // What stays is removed by the next test that needs a cluster of its own.
        let _ = self.cluster.stop(StopMode::Immediate);
        let _ = std::fs::remove_dir_all(self.cluster.folder());
    }
}

/// Gives a folder and all in it to an account.
fn give_to(path: &Path, user: u32, group: u32) -> std::io::Result<()> {
    std::os::unix::fs::chown(path, Some(user), Some(group))?;
    if path.is_dir() && !path.is_symlink() {
        for entry in std::fs::read_dir(path)? {
            give_to(&entry?.path(), user, group)?;
        }
    }
    Ok(())
}

fn remove_leftovers(folder: &Path, bin_dir: &Path) -> anyhow::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if is_left_over(&path.file_name().unwrap_or_default().to_string_lossy()) {
            // Another test process may be at it as well; what fails here is tried again by the next.
            let _ = discard(&path, bin_dir);
        }
    }
    Ok(())
}
