//! `tasker-ctl system`.

use chrono::{DateTime, TimeDelta, Utc};
use clap::{Args, Subcommand};
use serde::Serialize;
use tasker_client::{
    Client, Error, HealthCheck, QueueStats, SlowStep, SlowTask, StatisticsFilter, StepStatistics,
};

use crate::failure::Failure;
use crate::output::{self, Output};

#[derive(Debug, Subcommand)]
pub(crate) enum SystemCommand {
    /// Check all that Tasker needs; exit code 1 when something isn't well
    #[command(after_help = "Example:\n  tasker-ctl system health")]
    Health,
    /// Show the versions, the queues and the maintenance that is due
    #[command(after_help = "Example:\n  tasker-ctl system info -o json")]
    Info,
    /// Show the figures of templates and steps, and the slowest of them
    #[command(
        after_help = "Example:\n  tasker-ctl system stats --namespace shop --since 2026-01-31T00:00:00Z"
    )]
    Stats(StatsOptions),
}

#[derive(Debug, Args)]
pub(crate) struct StatsOptions {
    /// From this time on, rounded down to its hour, day or month; a day ago when left out
    #[arg(long, value_name = "TIME")]
    since: Option<DateTime<Utc>>,
    /// Only those of this namespace
    #[arg(short, long)]
    namespace: Option<String>,
    /// Only those of this template
    #[arg(short, long)]
    template: Option<String>,
    /// How many of the slowest steps, and of the slowest tasks
    #[arg(short, long, default_value_t = 10, value_parser = clap::value_parser!(i32).range(1..=20))]
    limit: i32,
}

#[derive(Serialize)]
struct Info {
    program_version: &'static str,
    extension_version: String,
    postgres_version: String,
    database: String,
    queues: Vec<QueueStats>,
    /// `None` for a role that may not ask.
    due_jobs: Option<Vec<String>>,
}

#[derive(Serialize)]
struct Stats {
    statistics: Vec<StepStatistics>,
    slowest_steps: Vec<SlowStep>,
    slowest_tasks: Vec<SlowTask>,
}

pub(crate) async fn run(
    command: SystemCommand,
    client: &Client,
    output: Output,
) -> Result<(), Failure> {
    match command {
        SystemCommand::Health => health(client, output).await,
        SystemCommand::Info => info(client, output).await,
        SystemCommand::Stats(options) => stats(client, options, output).await,
    }
}

async fn health(client: &Client, output: Output) -> Result<(), Failure> {
    let checks = client.health().await?;
    output.show(&checks, || {
        let rows = checks.iter().map(|HealthCheck { name, ok, detail }| {
            let state = if *ok { "ok" } else { "not ok" };
            [
                name.clone(),
                state.to_owned(),
                detail.clone().unwrap_or_default(),
            ]
        });
        output::table(["CHECK", "STATE", "DETAIL"], rows)
    })?;
    if checks.iter().all(|check| check.ok) {
        Ok(())
    } else {
        Err(Failure::Shown("something isn't well"))
    }
}

async fn info(client: &Client, output: Output) -> Result<(), Failure> {
    let status = tasker_client::database_status(client).await?;
    let info = Info {
        program_version: env!("CARGO_PKG_VERSION"),
        extension_version: status.installed_version.ok_or(Failure::NotInstalled)?,
        postgres_version: status.postgres_version,
        database: status.database,
        queues: client.queue_stats().await?,
        due_jobs: match client.list_due_jobs().await {
            Err(Error::Denied(_)) => None,
            jobs => Some(jobs?),
        },
    };
    output.show(&info, || {
        let due = match info.due_jobs.as_deref() {
            None => "not told to this role".to_owned(),
            Some([]) => "nothing".to_owned(),
            Some(jobs) => jobs.join(", "),
        };
        let head = output::fields([
            ("tasker-ctl", Some(info.program_version.to_owned())),
            ("tasker", Some(info.extension_version.clone())),
            ("postgres", Some(info.postgres_version.clone())),
            ("database", Some(info.database.clone())),
            ("maintenance due", Some(due)),
        ]);
        format!("{head}\n\n{}", crate::queues::table(&info.queues))
    })
}

async fn stats(client: &Client, options: StatsOptions, output: Output) -> Result<(), Failure> {
    let filter = StatisticsFilter {
        since: options.since,
        namespace: options.namespace,
        template_name: options.template,
    };
    let stats = Stats {
        statistics: client.statistics(&filter).await?,
        slowest_steps: client.slowest_steps(&filter, Some(options.limit)).await?,
        slowest_tasks: client.slowest_tasks(&filter, Some(options.limit)).await?,
    };
    output.show(&stats, || {
        [
            statistics_table(&stats.statistics),
            steps_table(&stats.slowest_steps),
            tasks_table(&stats.slowest_tasks),
        ]
        .join("\n\n")
    })
}

fn statistics_table(statistics: &[StepStatistics]) -> String {
    let rows = statistics.iter().map(|figures| {
        [
            format!(
                "{}/{} {}",
                figures.namespace, figures.template_name, figures.template_version
            ),
            figures.step_name.clone().unwrap_or_default(),
            figures.completed.to_string(),
            figures.failed.to_string(),
            figures
                .failure_share
                .map(|share| format!("{:.1}%", share * 100.0))
                .unwrap_or_default(),
            figures
                .retries
                .map(|count| count.to_string())
                .unwrap_or_default(),
            duration(figures.avg_wait_ms),
            duration(figures.p50_run_ms),
            duration(figures.p95_run_ms),
            duration(figures.max_run_ms),
        ]
    });
    output::table(
        [
            "TEMPLATE", "STEP", "DONE", "FAILED", "SHARE", "RETRIES", "WAIT", "P50", "P95", "MAX",
        ],
        rows,
    )
}

fn steps_table(steps: &[SlowStep]) -> String {
    let rows = steps.iter().map(|step| {
        [
            step.step_uuid.to_string(),
            format!("{}/{}", step.namespace, step.template_name),
            step.name.clone(),
            duration(Some(step.duration_ms)),
            step.state.clone(),
            output::time(step.finished_at),
        ]
    });
    output::table(
        [
            "SLOWEST STEPS",
            "TEMPLATE",
            "STEP",
            "DURATION",
            "STATE",
            "FINISHED",
        ],
        rows,
    )
}

fn tasks_table(tasks: &[SlowTask]) -> String {
    let rows = tasks.iter().map(|task| {
        [
            task.task_uuid.to_string(),
            format!("{}/{}", task.namespace, task.template_name),
            duration(Some(task.duration_ms)),
            task.state.clone(),
            output::time(task.finished_at),
        ]
    });
    output::table(
        ["SLOWEST TASKS", "TEMPLATE", "DURATION", "STATE", "FINISHED"],
        rows,
    )
}

fn duration(ms: Option<f64>) -> String {
    ms.map(|ms| output::duration(TimeDelta::milliseconds(ms as i64)))
        .unwrap_or_default()
}
