//! `tasker-ctl dlq`.

use clap::{Args, Subcommand};
use tasker_client::{
    Client, DeadLetter, DeadLetterCount, DeadLetterFilter, DeadLetterKey, Investigation, StaleTask,
};
use uuid::Uuid;

use crate::failure::Failure;
use crate::output::{self, Output};

#[derive(Debug, Subcommand)]
pub(crate) enum DlqCommand {
    /// List dead letters: the open ones in the order of investigation, otherwise newest first
    #[command(after_help = "Example:\n  tasker-ctl dlq list --resolution pending --namespace shop")]
    List(ListOptions),
    /// Show a dead letter with its snapshot
    #[command(
        after_help = "Example:\n  tasker-ctl dlq show --task 01890000-0000-7000-8000-000000000000"
    )]
    Show {
        /// The dead letter's UUID
        #[arg(required_unless_present = "task")]
        dead_letter_uuid: Option<Uuid>,
        /// The task's open one, or else its newest
        #[arg(long, value_name = "UUID", conflicts_with = "dead_letter_uuid")]
        task: Option<Uuid>,
    },
    /// Open a dead letter for a task by hand; the task itself goes on
    #[command(
        after_help = "Example:\n  tasker-ctl dlq open 01890000-0000-7000-8000-000000000000 --reason 'charged twice?'"
    )]
    Open {
        /// The task's UUID
        task_uuid: Uuid,
        /// What is to be looked into
        #[arg(long)]
        reason: String,
    },
    /// Close an open dead letter, which settles, ends or cancels its task where that applies
    #[command(
        after_help = "Example:\n  tasker-ctl dlq resolve 01890000-0000-7000-8000-000000000000 manually_resolved --note 'refunded by hand'"
    )]
    Resolve {
        /// The dead letter's UUID
        dead_letter_uuid: Uuid,
        /// How
        #[arg(value_parser = ["manually_resolved", "permanently_failed", "cancelled"])]
        resolution: String,
        /// What was found and done
        #[arg(long)]
        note: Option<String>,
    },
    /// Count the dead letters by namespace, reason and resolution
    #[command(after_help = "Example:\n  tasker-ctl dlq stats -o json")]
    Stats,
    /// List the tasks that are over a limit of their template's lifecycle
    #[command(after_help = "Example:\n  tasker-ctl dlq stale --namespace shop")]
    Stale(StaleOptions),
}

#[derive(Debug, Args)]
pub(crate) struct ListOptions {
    /// Only those of tasks of this namespace
    #[arg(short, long)]
    namespace: Option<String>,
    /// Only those opened for this reason
    #[arg(long)]
    reason: Option<String>,
    /// Only those resolved so; pending are the open ones
    #[arg(long)]
    resolution: Option<String>,
    /// The page after this dead letter
    #[arg(long, value_name = "UUID")]
    after: Option<Uuid>,
    /// At most so many
    #[arg(short, long, default_value_t = 50, value_parser = clap::value_parser!(i32).range(1..=1000))]
    limit: i32,
}

#[derive(Debug, Args)]
pub(crate) struct StaleOptions {
    /// Only those of this namespace
    #[arg(short, long)]
    namespace: Option<String>,
    /// The page after this task
    #[arg(long, value_name = "UUID")]
    after: Option<Uuid>,
    /// At most so many
    #[arg(short, long, default_value_t = 50, value_parser = clap::value_parser!(i32).range(1..=1000))]
    limit: i32,
}

pub(crate) async fn run(
    command: DlqCommand,
    client: &Client,
    output: Output,
) -> Result<(), Failure> {
    match command {
        DlqCommand::List(options) => {
            let filter = DeadLetterFilter {
                namespace: options.namespace,
                reason: options.reason,
                resolution: options.resolution,
                after: options.after,
                limit: Some(options.limit),
            };
            let dead_letters = client.list_dead_letters(&filter).await?;
            output.show(&dead_letters, || table(&dead_letters))
        }
        DlqCommand::Show {
            dead_letter_uuid,
            task,
        } => {
            let by_task = task.map(DeadLetterKey::Task);
            let key = dead_letter_uuid.map(DeadLetterKey::DeadLetter).or(by_task);
            // One of them is there, or the command line would have been refused.
            let key = key.unwrap_or(DeadLetterKey::DeadLetter(Uuid::nil()));
            let dead_letter = client.get_dead_letter(key).await?;
            let snapshot: serde_json::Value = serde_json::from_str(dead_letter.snapshot.get())?;
            let snapshot = serde_json::to_string_pretty(&snapshot)?;
            output.show(&dead_letter, || {
                let snapshot = output::plain(&snapshot);
                format!("{}\n\n{snapshot}", fields(&dead_letter))
            })
        }
        DlqCommand::Open { task_uuid, reason } => {
            let uuid = client.open_dead_letter(task_uuid, &reason).await?;
            // The bare UUID, so that a shell can keep it in a variable.
            output.show(&serde_json::json!({"dead_letter_uuid": uuid}), || {
                uuid.to_string()
            })
        }
        DlqCommand::Resolve {
            dead_letter_uuid,
            resolution,
            note,
        } => {
            let dead_letter = client
                .resolve_dead_letter(dead_letter_uuid, &resolution, note.as_deref())
                .await?;
            output.show(&dead_letter, || table(std::slice::from_ref(&dead_letter)))
        }
        DlqCommand::Stats => {
            let counts = client.dead_letter_stats().await?;
            output.show(&counts, || counts_table(&counts))
        }
        DlqCommand::Stale(options) => {
            let tasks = client
                .stale_tasks(
                    options.namespace.as_deref(),
                    options.after,
                    Some(options.limit),
                )
                .await?;
            output.show(&tasks, || stale_table(&tasks))
        }
    }
}

fn table(dead_letters: &[DeadLetter]) -> String {
    let rows = dead_letters.iter().map(|dead_letter| {
        [
            dead_letter.dead_letter_uuid.to_string(),
            dead_letter.task_uuid.to_string(),
            format!("{}/{}", dead_letter.namespace, dead_letter.template_name),
            dead_letter.step_name.clone().unwrap_or_default(),
            dead_letter.task_state.clone(),
            dead_letter.reason.clone(),
            dead_letter.resolution.clone(),
            output::time(dead_letter.opened_at),
        ]
    });
    output::table(
        [
            "DEAD LETTER",
            "TASK",
            "TEMPLATE",
            "INSTANCE",
            "TASK STATE",
            "REASON",
            "RESOLUTION",
            "OPENED",
        ],
        rows,
    )
}

fn fields(dead_letter: &Investigation) -> String {
    output::fields([
        (
            "dead letter",
            Some(dead_letter.dead_letter_uuid.to_string()),
        ),
        ("task", Some(dead_letter.task_uuid.to_string())),
        (
            "template",
            Some(format!(
                "{}/{} {}",
                dead_letter.namespace, dead_letter.template_name, dead_letter.template_version
            )),
        ),
        ("instance", dead_letter.step_name.clone()),
        (
            "instance_uuid",
            dead_letter.step_uuid.map(|uuid| uuid.to_string()),
        ),
        ("task state", Some(dead_letter.task_state.clone())),
        ("priority", Some(dead_letter.priority.to_string())),
        ("reason", Some(dead_letter.reason.clone())),
        ("resolution", Some(dead_letter.resolution.clone())),
        (
            "opened",
            Some(format!(
                "{} by {}",
                output::time(dead_letter.opened_at),
                dead_letter.opened_by
            )),
        ),
        (
            "resolved",
            dead_letter.resolved_at.map(|at| {
                let by = dead_letter.resolved_by.as_deref().unwrap_or_default();
                format!("{} by {by}", output::time(at))
            }),
        ),
        ("note", dead_letter.note.clone()),
        (
            "error",
            dead_letter
                .error
                .as_ref()
                .map(|error| error.get().to_owned()),
        ),
    ])
}

fn counts_table(counts: &[DeadLetterCount]) -> String {
    let rows = counts.iter().map(|count| {
        [
            count.namespace.clone(),
            count.reason.clone(),
            count.resolution.clone(),
            count.dead_letters.to_string(),
            output::time(count.oldest_opened_at),
            output::time(count.newest_opened_at),
        ]
    });
    output::table(
        [
            "NAMESPACE",
            "REASON",
            "RESOLUTION",
            "COUNT",
            "OLDEST",
            "NEWEST",
        ],
        rows,
    )
}

fn stale_table(tasks: &[StaleTask]) -> String {
    let rows = tasks.iter().map(|task| {
        [
            task.task_uuid.to_string(),
            format!("{}/{}", task.namespace, task.template_name),
            task.state.clone(),
            format!("{} = {}", task.clock, task.limit_seconds),
            output::time(task.since),
            output::time(task.stale_since),
            task.staleness_action.clone().unwrap_or_default(),
        ]
    });
    output::table(
        [
            "TASK",
            "TEMPLATE",
            "STATE",
            "LIMIT",
            "SINCE",
            "STALE SINCE",
            "ACTION",
        ],
        rows,
    )
}
