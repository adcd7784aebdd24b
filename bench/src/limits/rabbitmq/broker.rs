//! A RabbitMQ of the benchmark's own: folder, ports, node name and epmd are nobody else's.

use std::fs::File;
use std::os::unix::fs::{MetadataExt, chown};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, bail};
use lapin::{Connection, ConnectionProperties};
use tasker_cli::cluster::free_port;
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

use super::programs::Programs;
use crate::stage::Stage;

const READY_WITHIN: Duration = Duration::from_mins(1);
const ASKED_EVERY: Duration = Duration::from_millis(20);
const LOG_LINES_SHOWN: usize = 10;

/// A running broker. Both processes are killed when this value is dropped.
#[derive(Debug)]
pub(super) struct Broker {
    server: Child,
    epmd: Child,
    log: PathBuf,
    port: u16,
}

impl Broker {
    /// Makes it anew in the stage's folder.
    pub(super) async fn start(programs: &Programs, stage: &Stage) -> anyhow::Result<Self> {
        let ground = Ground::lay(stage)?;
        let ports = Ports::free()?;
        let mut epmd = ground
            .command(&programs.epmd)?
            .args(["-port", &ports.epmd.to_string()])
            .args(["-address", "127.0.0.1"])
            .spawn()
            .context("can't start epmd")?;
        // The broker would start another one, which nobody would stop.
        listens(&mut epmd, ports.epmd, &ground.log).await?;
        let server = ground
            .command(&programs.server)?
            .envs(environment(&ground.folder, ports))
            // Open as long as this program runs: at its end the broker ends too, whatever becomes of this program.
            .stdin(Stdio::piped())
            .spawn()
            .with_context(|| format!("can't start {}", programs.server.display()))?;
        Ok(Self {
            server,
            epmd,
            log: ground.log,
            port: ports.amqp,
        })
    }

    /// Connects as soon as the broker is ready.
    pub(super) async fn connect(&mut self) -> anyhow::Result<Connection> {
        listens(&mut self.server, self.port, &self.log).await?;
        let address = format!("amqp://127.0.0.1:{}/%2f", self.port);
        Ok(Connection::connect(&address, ConnectionProperties::default()).await?)
    }

    /// Ends both processes; what they leave in the folder is never read again.
    pub(super) async fn stop(mut self) -> anyhow::Result<()> {
        self.server.kill().await?;
        Ok(self.epmd.kill().await?)
    }
}

/// The broker's folder, and the account that PostgreSQL runs as too.
#[derive(Debug)]
struct Ground {
    folder: PathBuf,
    log: PathBuf,
    output: File,
    /// User and group; none when they are the caller's own.
    account: Option<(u32, u32)>,
}

impl Ground {
    fn lay(stage: &Stage) -> anyhow::Result<Self> {
        let folder = stage.scratch("rabbitmq")?;
        let own = std::fs::metadata(&folder)?;
        let cluster = std::fs::metadata(stage.cluster.folder())?;
        let account = (own.uid() != cluster.uid()).then_some((cluster.uid(), cluster.gid()));
        if let Some((user, group)) = account {
            chown(&folder, Some(user), Some(group))?;
        }
        std::fs::write(folder.join("enabled_plugins"), "[].\n")?;
        let log = folder.join("output");
        Ok(Self {
            output: File::create(&log)?,
            folder,
            log,
            account,
        })
    }

    /// Without the caller's settings for Erlang and RabbitMQ, which are about other nodes.
    fn command(&self, program: &Path) -> anyhow::Result<Command> {
        let mut command = Command::new(program);
        if let Some((user, group)) = self.account {
            command.uid(user).gid(group);
        }
        command
            .current_dir(&self.folder)
            .env_clear()
            .envs(std::env::var_os("PATH").map(|path| ("PATH", path)))
            .stdin(Stdio::null())
            .stdout(self.output.try_clone()?)
            .stderr(self.output.try_clone()?)
            .kill_on_drop(true);
        Ok(command)
    }
}

#[derive(Debug, Clone, Copy)]
struct Ports {
    amqp: u16,
    /// Between nodes; there is only one, but it listens.
    distribution: u16,
    epmd: u16,
}

impl Ports {
    fn free() -> anyhow::Result<Self> {
        let amqp = free_port(None)?;
        let distribution = free_port(Some(amqp + 1))?;
        Ok(Self {
            amqp,
            distribution,
            epmd: free_port(Some(distribution + 1))?,
        })
    }
}

/// All that would else be shared with the machine's own broker, or read from its settings.
fn environment(folder: &Path, ports: Ports) -> Vec<(&'static str, String)> {
    let path = |name: &str| folder.join(name).display().to_string();
    vec![
        ("HOME", folder.display().to_string()),
        ("ERL_EPMD_ADDRESS", "127.0.0.1".to_owned()),
        ("ERL_EPMD_PORT", ports.epmd.to_string()),
        // The script then becomes the broker, with its process id and its standard input.
        ("RABBITMQ_ALLOW_INPUT", "yes".to_owned()),
        (
            "RABBITMQ_NODENAME",
            format!("tasker_bench_{}@localhost", std::process::id()),
        ),
        ("RABBITMQ_NODE_IP_ADDRESS", "127.0.0.1".to_owned()),
        ("RABBITMQ_NODE_PORT", ports.amqp.to_string()),
        ("RABBITMQ_DIST_PORT", ports.distribution.to_string()),
        (
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS",
            "-kernel inet_dist_use_interface {127,0,0,1}".to_owned(),
        ),
        ("RABBITMQ_MNESIA_BASE", path("data")),
        ("RABBITMQ_LOG_BASE", path("log")),
        ("RABBITMQ_LOGS", "-".to_owned()),
        ("RABBITMQ_PID_FILE", path("process")),
        ("RABBITMQ_ENABLED_PLUGINS_FILE", path("enabled_plugins")),
        // None of these is there, so that everything has its default.
        ("RABBITMQ_CONF_ENV_FILE", path("environment.conf")),
        ("RABBITMQ_CONFIG_FILE", path("settings")),
        ("RABBITMQ_CONFIG_FILES", path("settings.d")),
        ("RABBITMQ_ADVANCED_CONFIG_FILE", path("advanced.config")),
    ]
}

/// Waits until the process listens on the port; fails when it ends instead.
async fn listens(process: &mut Child, port: u16, log: &Path) -> anyhow::Result<()> {
    let listening = tokio::time::timeout(READY_WITHIN, async {
        loop {
            if let Some(status) = process.try_wait()? {
                bail!("it ended ({status}); {}", tail(log));
            }
            if TcpStream::connect(("127.0.0.1", port)).await.is_ok() {
                return Ok(());
            }
            tokio::time::sleep(ASKED_EVERY).await;
        }
    });
    listening
        .await
        .with_context(|| format!("it isn't ready; {}", tail(log)))?
}

/// The last lines of the log, as a message.
fn tail(log: &Path) -> String {
    let bytes = std::fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<_> = text.lines().collect();
    let shown = &lines[lines.len().saturating_sub(LOG_LINES_SHOWN)..];
    format!("its log {} ends with:\n{}", log.display(), shown.join("\n"))
}
