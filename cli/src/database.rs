//! `tasker-ctl db`.

use clap::Subcommand;
use serde::Serialize;
use tasker_client::{Client, DatabaseStatus};
use uuid::Uuid;

use crate::failure::Failure;
use crate::output::{self, Output};

#[derive(Debug, Subcommand)]
pub(crate) enum DbCommand {
    /// Install PGMQ and the extension where they are missing, update an older extension; safe to repeat
    #[command(
        after_help = "Example:\n  tasker-ctl db init --database-url postgres://localhost/shop"
    )]
    Init,
    /// Say which versions are installed, and what init or upgrade would do
    #[command(after_help = "Example:\n  tasker-ctl db status")]
    Status,
    /// Recompute the engine's invariants from first principles; exit code 1 when one doesn't hold
    #[command(
        after_help = "Example:\n  tasker-ctl db verify --task 01890000-0000-7000-8000-000000000000"
    )]
    Verify {
        /// Only those of this task
        #[arg(long, value_name = "UUID")]
        task: Option<Uuid>,
    },
    /// Update the extension to this program's version, with work in flight; safe to repeat
    #[command(after_help = "Example:\n  tasker-ctl db upgrade")]
    Upgrade,
}

#[derive(Serialize)]
struct Prepared {
    version: String,
}

#[derive(Serialize)]
struct Upgraded {
    from_version: String,
    version: String,
}

pub(crate) async fn run(
    command: DbCommand,
    client: &Client,
    output: Output,
) -> Result<(), Failure> {
    match command {
        DbCommand::Init => init(client, output).await,
        DbCommand::Status => status(client, output).await,
        DbCommand::Verify { task } => verify(client, task, output).await,
        DbCommand::Upgrade => upgrade(client, output).await,
    }
}

async fn init(client: &Client, output: Output) -> Result<(), Failure> {
    tasker_client::init(client).await?;
    let prepared = Prepared {
        version: client.version().await?,
    };
    output.show(&prepared, || {
        format!("the database is ready: tasker {}", prepared.version)
    })
}

async fn status(client: &Client, output: Output) -> Result<(), Failure> {
    let status = tasker_client::database_status(client).await?;
    output.show(&status, || status_text(&status))
}

fn status_text(status: &DatabaseStatus) -> String {
    let absent = || "not installed".to_owned();
    let pending = match status.pending_migrations.as_deref() {
        None => "not readable by this role".to_owned(),
        Some([]) => "none".to_owned(),
        Some(pending) => pending.join(", "),
    };
    let advice = match (&status.installed_version, &status.pending_migrations) {
        (None, _) => Some("tasker-ctl db init prepares this database".to_owned()),
        (Some(_), Some(pending)) if !pending.is_empty() => {
            Some("tasker-ctl db upgrade runs the pending migrations".to_owned())
        }
        _ => None,
    };
    output::fields([
        ("database", Some(status.database.clone())),
        ("postgres", Some(status.postgres_version.clone())),
        (
            "pgmq",
            Some(if status.has_pgmq {
                "installed".to_owned()
            } else {
                absent()
            }),
        ),
        (
            "tasker",
            Some(status.installed_version.clone().unwrap_or_else(absent)),
        ),
        (
            "available",
            Some(
                status
                    .available_version
                    .clone()
                    .unwrap_or_else(|| "the server has no files of it".to_owned()),
            ),
        ),
        ("program", Some(env!("CARGO_PKG_VERSION").to_owned())),
        ("pending", Some(pending)),
        ("next", advice),
    ])
}

async fn verify(client: &Client, task: Option<Uuid>, output: Output) -> Result<(), Failure> {
    let violations = client.verify(task).await?;
    output.show(&violations, || {
        if violations.is_empty() {
            return "every invariant holds".to_owned();
        }
        let rows = violations.iter().map(|violation| {
            [
                violation.invariant.to_string(),
                violation
                    .task_uuid
                    .map(|uuid| uuid.to_string())
                    .unwrap_or_default(),
                violation
                    .step_uuid
                    .map(|uuid| uuid.to_string())
                    .unwrap_or_default(),
                violation.detail.clone(),
            ]
        });
        output::table(["INVARIANT", "TASK", "STEP", "DETAIL"], rows)
    })?;
    if violations.is_empty() {
        Ok(())
    } else {
        Err(Failure::Shown("some invariants don't hold"))
    }
}

/// The same migrations as `init`; only where there is something to update.
async fn upgrade(client: &Client, output: Output) -> Result<(), Failure> {
    let status = tasker_client::database_status(client).await?;
    let from_version = status.installed_version.ok_or(Failure::NotInstalled)?;
    tasker_client::init(client).await?;
    let upgraded = Upgraded {
        from_version,
        version: client.version().await?,
    };
    output.show(&upgraded, || {
        if upgraded.from_version == upgraded.version {
            format!("tasker {} is up to date", upgraded.version)
        } else {
            format!(
                "tasker {} is now {}",
                upgraded.from_version, upgraded.version
            )
        }
    })
}
