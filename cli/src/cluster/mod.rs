//! A private PostgreSQL cluster in a folder: made, started, stopped and, for tests, killed.
//!
//! Everything lies in the one folder: `data/`, `log`, `socket/`. The cluster listens on 127.0.0.1 and on a socket in that folder and trusts
//! whoever reaches them: it is for development and tests, never for data that must be kept from other users of the machine.
//! There is no SQL here: databases are made and dropped by PostgreSQL's own programs.

mod account;
mod error;
mod port;
pub(crate) mod processes;
mod programs;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

pub use account::Account;
pub use error::ClusterError;
pub use port::free_port;
pub use programs::find_bin_dir;

/// The database's superuser; there are no others in a fresh cluster.
const USER: &str = "postgres";
/// The longest path of a Unix socket that every system takes.
const SOCKET_PATH_MAX: usize = 100;
const START_SECONDS: &str = "90";
const START_TRIES: u32 = 5;
const LOG_LINES_SHOWN: usize = 20;

/// How a cluster is to run.
#[derive(Debug, Clone, Default)]
pub struct ClusterOptions {
    /// The bin folder; None: found by [`find_bin_dir`].
    pub bin_dir: Option<PathBuf>,
    /// The wished port; the next free one is taken when something else listens there. None: the port of the last start, else any free one.
    pub port: Option<u16>,
    /// Whether commits may be lost when the machine (not just the server) crashes. Only for tests.
    pub without_fsync: bool,
    /// Further settings of `postgresql.conf`, name and plain value.
    pub settings: Vec<(String, String)>,
}

/// How to stop a cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopMode {
    /// Sessions are ended, everything is written: the next start has nothing to recover.
    Fast,
    /// Like a crash of the server: the next start recovers from the log.
    Immediate,
}

/// A private cluster. Dropping this value leaves the server as it is.
#[derive(Debug, Clone)]
pub struct Cluster {
    folder: PathBuf,
    bin_dir: PathBuf,
    account: Account,
    port: u16,
    options: ClusterOptions,
}

impl Cluster {
    /// Opens the cluster in the folder; makes it first when the folder holds none. Doesn't start it.
    pub fn open(folder: &Path, options: ClusterOptions) -> Result<Self, ClusterError> {
        let bin_dir = find_bin_dir(options.bin_dir.as_deref())?;
        let account = Account::choose()?;
        account.own_folder(folder)?;
        let folder = folder
            .canonicalize()
            .map_err(ClusterError::io("look at", folder))?;
        account.check_reach("-w", &folder)?;
        account.check_reach("-x", &bin_dir.join("postgres"))?;
        let mut cluster = Self {
            folder,
            bin_dir,
            account,
            port: 0,
            options,
        };
        cluster.port = cluster.last_port().unwrap_or(0);
        if !cluster.data().join("PG_VERSION").exists() {
            cluster.init()?;
        }
        Ok(cluster)
    }

    /// Starts the server and waits until it takes connections. Does nothing when it runs.
    /// On another port than before when something else listens on that one now.
    pub fn start(&mut self) -> Result<(), ClusterError> {
        if self.is_running() {
            return Ok(());
        }
        self.account.own_folder(&self.folder.join("socket"))?;
        let last = (self.port != 0).then_some(self.port);
        let wished = self.options.port.or(last);
        let mut started = self.start_on(free_port(wished)?);
        for _ in 1..START_TRIES {
            // Between the look at the port and the start somebody else may have taken it.
            if !matches!(started, Err(ClusterError::Start { .. })) || port::is_free(self.port) {
                break;
            }
            started = self.start_on(free_port(Some(self.port))?);
        }
        started
    }

    fn start_on(&mut self, port: u16) -> Result<(), ClusterError> {
        self.port = port;
        let settings = self.data().join("tasker.conf");
        std::fs::write(&settings, self.settings()).map_err(ClusterError::io("write", settings))?;
        let log = self.log();
        self.run("pg_ctl", |command| {
            command
                .arg("start")
                .arg("--wait")
                .args(["--timeout", START_SECONDS])
                .arg("--log")
                .arg(&log)
                .arg("--pgdata")
                .arg(self.data())
        })
        .map_err(|error| match error {
            ClusterError::Program { .. } => ClusterError::Start {
                tail: tail(&log),
                log: log.clone(),
            },
            other => other,
        })
    }

    /// Stops the server and waits until it has ended. Does nothing when it doesn't run.
    pub fn stop(&self, mode: StopMode) -> Result<(), ClusterError> {
        if !self.is_running() {
            return Ok(());
        }
        let mode = match mode {
            StopMode::Fast => "fast",
            StopMode::Immediate => "immediate",
        };
        self.run("pg_ctl", |command| {
            command
                .arg("stop")
                .arg("--wait")
                .args(["--mode", mode])
                .arg("--pgdata")
                .arg(self.data())
        })
    }

    /// Stops and starts the server.
    pub fn restart(&mut self, mode: StopMode) -> Result<(), ClusterError> {
        self.stop(mode)?;
        self.start()
    }

    /// Kills every process of the server with SIGKILL, as a failing machine would, and waits until they are gone.
    pub fn kill(&self) -> Result<(), ClusterError> {
        let server = self
            .server_process()
            .ok_or_else(|| ClusterError::NotRunning {
                folder: self.folder.clone(),
            })?;
        if !processes::kill_with_children(server) {
            return Err(ClusterError::StillRunning {
                folder: self.folder.clone(),
            });
        }
        // What a crashed server leaves behind; without the file no start can take another process of that number for it.
        let _ = std::fs::remove_file(self.lock_file());
        Ok(())
    }

    /// Whether the server runs.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.server_process().is_some()
    }

    /// Makes a database, empty or as a copy of another one that nobody is connected to.
    pub fn create_database(&self, name: &str, template: Option<&str>) -> Result<(), ClusterError> {
        let template = template.unwrap_or("template0");
        self.run_on_server("createdb", |command| {
            command.args(["--template", template, name])
        })
    }

    /// Drops a database and ends the sessions in it. Does nothing when there is none of that name.
    pub fn drop_database(&self, name: &str) -> Result<(), ClusterError> {
        self.run_on_server("dropdb", |command| {
            command.args(["--force", "--if-exists", name])
        })
    }

    /// The address of a database in it.
    #[must_use]
    pub fn url(&self, database: &str) -> String {
        format!("postgres://{USER}@127.0.0.1:{}/{database}", self.port)
    }

    /// The port that the server listens on, or did last.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Wishes for a port when neither the options nor an earlier start named one.
    pub fn prefer_port(&mut self, port: u16) {
        if self.options.port.is_none() && self.port == 0 {
            self.port = port;
        }
    }

    /// The folder that everything of it lies in.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The server's log.
    #[must_use]
    pub fn log(&self) -> PathBuf {
        self.folder.join("log")
    }

    /// The path of one of PostgreSQL's programs (`psql`, `pg_dump`, …).
    #[must_use]
    pub fn program(&self, name: &str) -> PathBuf {
        self.bin_dir.join(name)
    }

    /// The process of the server itself (the postmaster), when it runs.
    #[must_use]
    pub fn server_process(&self) -> Option<u32> {
        let file = std::fs::read_to_string(self.lock_file()).ok()?;
        let process = file.lines().next()?.trim().parse().ok()?;
        // After a crash the file stays, and its number may be another program's by now.
        let is_postgres =
            processes::is_alive(process) && processes::name_of(process)? == "postgres";
        is_postgres.then_some(process)
    }

    fn init(&self) -> Result<(), ClusterError> {
        self.run("initdb", |command| {
            command.args([
                "--username",
                USER,
                "--auth",
                "trust",
                "--encoding",
                "UTF8",
                "--locale",
                "C.UTF-8",
                "--no-instructions",
            ]);
            if self.options.without_fsync {
                command.arg("--no-sync");
            }
            command.arg("--pgdata").arg(self.data())
        })?;
        let path = self.data().join("postgresql.conf");
        let text = std::fs::read_to_string(&path).map_err(ClusterError::io("read", &path))?;
        std::fs::write(&path, text + "\ninclude 'tasker.conf'\n")
            .map_err(ClusterError::io("write", &path))
    }

    fn settings(&self) -> String {
        let socket = self.folder.join("socket");
        let fits = socket.as_os_str().len() + "/.s.PGSQL.65535".len() <= SOCKET_PATH_MAX;
        let own = [
            ("listen_addresses", "127.0.0.1".to_owned()),
            ("port", self.port.to_string()),
            (
                "unix_socket_directories",
                if fits {
                    socket.display().to_string()
                } else {
                    String::new()
                },
            ),
            (
                "fsync",
                if self.options.without_fsync {
                    "off"
                } else {
                    "on"
                }
                .to_owned(),
            ),
        ];
        let given = self
            .options
            .settings
            .iter()
            .map(|(name, value)| (name.as_str(), value.clone()));
        let mut text = String::new();
        for (name, value) in own.into_iter().chain(given) {
            text.extend([name, " = '", &value.replace('\'', "''"), "'\n"]);
        }
        text
    }

    /// The port written at the last start.
    fn last_port(&self) -> Option<u16> {
        let text = std::fs::read_to_string(self.data().join("tasker.conf")).ok()?;
        text.lines().find_map(|line| {
            line.strip_prefix("port = '")?
                .strip_suffix('\'')?
                .parse()
                .ok()
        })
    }

    fn lock_file(&self) -> PathBuf {
        self.data().join("postmaster.pid")
    }

    fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    fn command(&self, name: &str) -> Command {
        let mut command = self.account.command(&self.program(name));
        // The caller's settings for PostgreSQL's programs (PGDATA, PGOPTIONS, …) are about other servers.
        for (variable, _) in
            std::env::vars_os().filter(|(variable, _)| variable.to_string_lossy().starts_with("PG"))
        {
            command.env_remove(variable);
        }
        command.current_dir(&self.folder).stdin(Stdio::null());
        command
    }

    fn run(
        &self,
        name: &str,
        arguments: impl FnOnce(&mut Command) -> &mut Command,
    ) -> Result<(), ClusterError> {
        let mut command = self.command(name);
        let output = arguments(&mut command)
            .output()
            .map_err(ClusterError::io("run", self.program(name)))?;
        if output.status.success() {
            return Ok(());
        }
        let output_text = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        Err(ClusterError::Program {
            program: name.to_owned(),
            status: output.status,
            output: output_text,
        })
    }

    fn run_on_server(
        &self,
        name: &str,
        arguments: impl FnOnce(&mut Command) -> &mut Command,
    ) -> Result<(), ClusterError> {
        let port = self.port.to_string();
        self.run(name, |command| {
            arguments(command.args(["--host", "127.0.0.1", "--port", &port, "--username", USER]))
        })
    }
}

/// The last lines of a log.
fn tail(log: &Path) -> String {
    let bytes = std::fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(LOG_LINES_SHOWN)..].join("\n")
}
