//! `tasker-ctl schedule`.

use chrono::{DateTime, Utc};
use clap::{Args, Subcommand};
use serde::Serialize;
use serde_json::Value;
use tasker_client::{Client, NewSchedule, Schedule};

use crate::failure::Failure;
use crate::output::{self, Output};
use crate::tasks;

#[derive(Debug, Subcommand)]
pub(crate) enum ScheduleCommand {
    /// Create a schedule
    #[command(
        after_help = "Example:\n  tasker-ctl schedule create nightly '30 2 * * *' data_pipeline --namespace data --timezone Europe/Berlin"
    )]
    Create(Box<CreateOptions>),
    /// List schedules: when each is due next, and what came of its last time
    #[command(after_help = "Example:\n  tasker-ctl schedule list --namespace data")]
    List {
        /// Only those of this namespace
        #[arg(short, long)]
        namespace: Option<String>,
    },
    /// Pause a schedule: it creates no tasks until it is resumed
    #[command(
        after_help = "Example:\n  tasker-ctl schedule pause nightly --namespace data --reason 'the bank is down'"
    )]
    Pause {
        #[command(flatten)]
        schedule: Name,
        /// Why; shown while it is paused
        #[arg(long)]
        reason: Option<String>,
    },
    /// Resume a paused schedule
    #[command(after_help = "Example:\n  tasker-ctl schedule resume nightly --namespace data")]
    Resume(Name),
    /// Delete a schedule; the tasks that it created stay
    #[command(after_help = "Example:\n  tasker-ctl schedule delete nightly --namespace data")]
    Delete(Name),
    /// Create the tasks of all its times from one on and before another that have had none
    #[command(
        after_help = "Example:\n  tasker-ctl schedule backfill nightly --namespace data --from 2026-01-01T00:00:00Z --to 2026-01-08T00:00:00Z"
    )]
    Backfill {
        #[command(flatten)]
        schedule: Name,
        /// The first time to run
        #[arg(long, value_name = "TIME")]
        from: DateTime<Utc>,
        /// The time before which to stop
        #[arg(long, value_name = "TIME")]
        to: DateTime<Utc>,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Name {
    /// The schedule's name
    name: String,
    /// The schedule's namespace
    #[arg(short, long, default_value = "default")]
    namespace: String,
}

#[derive(Debug, Args)]
pub(crate) struct CreateOptions {
    /// Its name
    name: String,
    /// When it is due: minute, hour, day, month, day of the week; or @daily and the like
    cron: String,
    /// The template of its tasks
    template: String,
    /// The namespace of the template and of the schedule
    #[arg(short, long, default_value = "default")]
    namespace: String,
    /// The input of its tasks: a JSON document, @FILE to read it from a file, @- from standard input
    #[arg(short, long, value_name = "JSON|@FILE")]
    context: Option<String>,
    /// The time zone of the cron expression; UTC when left out
    #[arg(long)]
    timezone: Option<String>,
    /// Which missed times are run later; one (the last) when left out
    #[arg(long, value_parser = ["none", "one", "all"])]
    catch_up: Option<String>,
    /// The template's version; the newest at each time when left out
    #[arg(long)]
    version: Option<String>,
}

/// What was done to a schedule.
#[derive(Serialize)]
struct Changed {
    namespace: String,
    name: String,
    #[serde(flatten)]
    change: Change,
}

#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
enum Change {
    Paused(bool),
    Resumed(bool),
    Deleted(bool),
    Created(i32),
}

pub(crate) async fn run(
    command: ScheduleCommand,
    client: &Client,
    output: Output,
) -> Result<(), Failure> {
    let (of, change) = match command {
        ScheduleCommand::Create(options) => return create(client, *options, output).await,
        ScheduleCommand::List { namespace } => {
            let schedules = client.list_schedules(namespace.as_deref()).await?;
            return output.show(&schedules, || table(&schedules));
        }
        ScheduleCommand::Pause { schedule, reason } => {
            let paused = client
                .pause_schedule(&schedule.name, &schedule.namespace, reason.as_deref())
                .await?;
            (schedule, Change::Paused(paused))
        }
        ScheduleCommand::Resume(schedule) => {
            let resumed = client
                .resume_schedule(&schedule.name, &schedule.namespace)
                .await?;
            (schedule, Change::Resumed(resumed))
        }
        ScheduleCommand::Delete(schedule) => {
            client
                .delete_schedule(&schedule.name, &schedule.namespace)
                .await?;
            (schedule, Change::Deleted(true))
        }
        ScheduleCommand::Backfill { schedule, from, to } => {
            let created = client
                .backfill_schedule(&schedule.name, &schedule.namespace, from, to)
                .await?;
            (schedule, Change::Created(created))
        }
    };
    let changed = Changed {
        namespace: of.namespace,
        name: of.name,
        change,
    };
    output.show(&changed, || {
        let outcome = match changed.change {
            Change::Paused(true) => "paused".to_owned(),
            Change::Paused(false) => "paused before".to_owned(),
            Change::Resumed(true) => "resumed".to_owned(),
            Change::Resumed(false) => "was not paused".to_owned(),
            Change::Deleted(_) => "deleted".to_owned(),
            Change::Created(count) => format!("created {count} tasks"),
        };
        format!("{}/{} {outcome}", changed.namespace, changed.name)
    })
}

async fn create(client: &Client, options: CreateOptions, output: Output) -> Result<(), Failure> {
    let context = options.context.as_deref();
    let new = NewSchedule {
        name: options.name,
        cron: options.cron,
        template_name: options.template,
        namespace: options.namespace,
        context: tasks::json_argument("the context", context)?,
        timezone: options.timezone,
        catch_up: options.catch_up,
        version: options.version,
    };
    let schedule = client.create_schedule(&new).await?;
    output.show(&schedule, || {
        format!(
            "{}/{} is due next at {}",
            schedule.namespace,
            schedule.name,
            output::time(schedule.next_at)
        )
    })
}

fn table(schedules: &[Schedule]) -> String {
    let rows = schedules.iter().map(|schedule| {
        let version = schedule.template_version.as_deref().unwrap_or("newest");
        [
            format!("{}/{}", schedule.namespace, schedule.name),
            schedule.cron.clone(),
            schedule.timezone.clone(),
            format!("{} {version}", schedule.template_name),
            output::time(schedule.next_at),
            schedule.last_at.map(output::time).unwrap_or_default(),
            state(schedule),
        ]
    });
    output::table(
        [
            "SCHEDULE", "CRON", "TIMEZONE", "TEMPLATE", "NEXT", "LAST", "STATE",
        ],
        rows,
    )
}

/// Paused, by whom and why; else what its last due time has no task for.
fn state(schedule: &Schedule) -> String {
    if schedule.paused_at.is_some() {
        let by = schedule.paused_by.as_deref().unwrap_or_default();
        let why = schedule
            .pause_reason
            .as_deref()
            .map_or_else(String::new, |reason| format!(": {reason}"));
        return format!("paused by {by}{why}");
    }
    let problem = schedule
        .last_problem
        .as_ref()
        .and_then(|problem| serde_json::from_str::<Value>(problem.get()).ok());
    match problem {
        Some(problem) => format!(
            "{}: {}",
            problem["code"].as_str().unwrap_or_default(),
            problem["message"].as_str().unwrap_or_default()
        ),
        None => "active".to_owned(),
    }
}
