//! `tasker-ctl bulk`.

use chrono::{DateTime, Utc};
use clap::{Args, Subcommand, ValueEnum};
use serde::Serialize;
use tasker_client::{BulkAction, BulkFilter, BulkJob, BulkMatches, Client};
use uuid::Uuid;

use crate::failure::Failure;
use crate::output::{self, Output};
use crate::tasks::json_of;

#[derive(Debug, Subcommand)]
pub(crate) enum BulkCommand {
    /// Show which tasks a filter finds, and change nothing
    #[command(after_help = "Example:
  tasker-ctl bulk preview reset-failed -n shop --state error")]
    Preview(BulkOptions),
    /// Do something to every task that a filter finds, in the background
    #[command(after_help = "Example:
  tasker-ctl bulk apply reset-failed -n shop --state error --reason 'the provider is up again'")]
    Apply(BulkOptions),
    /// List bulk jobs, newest first, with how far each has come
    #[command(after_help = "Example:
  tasker-ctl bulk list --watch")]
    List {
        /// The page after this job
        #[arg(long, value_name = "UUID")]
        after: Option<Uuid>,
        /// At most so many
        #[arg(short, long, default_value_t = 50, value_parser = clap::value_parser!(i32).range(1..=1000))]
        limit: i32,
    },
    /// End a bulk job where it is; what it did stays done
    #[command(after_help = "Example:
  tasker-ctl bulk cancel 019a8b1c-6f60-7a00-8000-000000000000")]
    Cancel {
        /// The job's UUID
        job_uuid: Uuid,
    },
}

#[derive(Debug, Args)]
pub(crate) struct BulkOptions {
    /// What is done to each task
    action: Action,
    #[command(flatten)]
    filter: Filter,
    /// Why; kept in the history of each task
    #[arg(long)]
    reason: Option<String>,
}

/// All that fit every filter given; at least one, or --all.
#[derive(Debug, Args)]
#[group(required = true, multiple = true)]
struct Filter {
    /// Those of this namespace
    #[arg(short, long)]
    namespace: Option<String>,
    /// Those of this template
    #[arg(short, long)]
    template: Option<String>,
    /// Those in this state; may be given several times
    #[arg(short, long = "state", value_name = "STATE")]
    states: Vec<String>,
    /// Those with this tag; given several times, those with all of them
    #[arg(long = "tag", value_name = "TAG")]
    tags: Vec<String>,
    /// Those whose context contains this JSON document
    #[arg(long, value_name = "JSON")]
    context_contains: Option<String>,
    /// Those created at this time or later
    #[arg(long, value_name = "TIME")]
    created_after: Option<DateTime<Utc>>,
    /// Those created before this time
    #[arg(long, value_name = "TIME")]
    created_before: Option<DateTime<Utc>>,
    /// All tasks, if no other filter says otherwise
    #[arg(long)]
    all: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Action {
    /// Cancel it
    Cancel,
    /// Pause it
    Pause,
    /// Resume it
    Resume,
    /// Run it anew
    Rerun,
    /// Let its failed steps be tried again
    ResetFailed,
    /// Settle its failed steps without results
    ResolveFailed,
}

impl From<Action> for BulkAction {
    fn from(action: Action) -> Self {
        match action {
            Action::Cancel => Self::Cancel,
            Action::Pause => Self::Pause,
            Action::Resume => Self::Resume,
            Action::Rerun => Self::Rerun,
            Action::ResetFailed => Self::ResetFailed,
            Action::ResolveFailed => Self::ResolveFailed,
        }
    }
}

#[derive(Serialize)]
struct Cancelled {
    job_uuid: Uuid,
    cancelled: bool,
}

pub(crate) async fn run(
    command: BulkCommand,
    client: &Client,
    output: Output,
) -> Result<(), Failure> {
    match command {
        BulkCommand::Preview(options) => apply(client, options, true, output).await,
        BulkCommand::Apply(options) => apply(client, options, false, output).await,
        BulkCommand::List { after, limit } => {
            let jobs = client.list_bulk_jobs(after, Some(limit)).await?;
            output.show(&jobs, || jobs_table(&jobs, output))
        }
        BulkCommand::Cancel { job_uuid } => {
            let cancelled = client.cancel_bulk_job(job_uuid).await?;
            let answer = Cancelled {
                job_uuid,
                cancelled,
            };
            output.show(&answer, || {
                let outcome = if cancelled {
                    "cancelled"
                } else {
                    "had ended before"
                };
                format!("{job_uuid} {outcome}")
            })
        }
    }
}

async fn apply(
    client: &Client,
    options: BulkOptions,
    dry_run: bool,
    output: Output,
) -> Result<(), Failure> {
    let filter = filter_of(options.filter)?;
    let reason = options.reason.as_deref();
    let matches = client
        .apply_to_tasks(&filter, options.action.into(), dry_run, reason)
        .await?;
    output.show(&matches, || match matches.job_uuid {
        Some(job_uuid) => format!("{job_uuid} goes on with {}", count_of(&matches)),
        None => preview(&matches),
    })
}

fn filter_of(given: Filter) -> Result<BulkFilter, Failure> {
    let some = |words: Vec<String>| (!words.is_empty()).then_some(words);
    Ok(BulkFilter {
        namespace: given.namespace,
        template_name: given.template,
        states: some(given.states),
        tags: some(given.tags),
        context_contains: given
            .context_contains
            .map(|text| json_of("--context-contains", text))
            .transpose()?,
        created_after: given.created_after,
        created_before: given.created_before,
    })
}

fn count_of(matches: &BulkMatches) -> String {
    let more = if matches.more { " or more" } else { "" };
    format!("{}{more} tasks", matches.matched)
}

fn preview(matches: &BulkMatches) -> String {
    let mut lines = vec![format!("{} found; nothing is changed", count_of(matches))];
    lines.extend(matches.sample.iter().map(Uuid::to_string));
    let shown = i32::try_from(matches.sample.len()).unwrap_or(i32::MAX);
    if matches.matched > shown {
        lines.push("…".to_owned());
    }
    lines.join("\n")
}

fn jobs_table(jobs: &[BulkJob], output: Output) -> String {
    let rows = jobs.iter().map(|job| {
        let row = [
            job.job_uuid.to_string(),
            job.action.clone(),
            job.seen.to_string(),
            job.changed.to_string(),
            job.refused.to_string(),
            output::time(job.created_at),
            job.finished_at.map(output::time).unwrap_or_default(),
        ];
        let refusal = job.last_refusal.as_ref().map(|json| json.get().to_owned());
        let more = [
            job.created_by.clone(),
            job.filter.get().to_owned(),
            job.reason.clone().unwrap_or_default(),
            refusal.unwrap_or_default(),
        ];
        (row, more)
    });
    output.table(
        [
            "JOB", "ACTION", "SEEN", "CHANGED", "REFUSED", "CREATED", "ENDED",
        ],
        ["BY", "FILTER", "REASON", "LAST REFUSAL"],
        rows,
    )
}
