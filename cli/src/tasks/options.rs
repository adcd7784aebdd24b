//! The command line of `tasker-ctl task`.

use chrono::{DateTime, Utc};
use clap::{Args, Subcommand};
use uuid::Uuid;

#[derive(Debug, Subcommand)]
pub(crate) enum TaskCommand {
    /// Create a task and print its UUID
    #[command(after_help = "Example:
  tasker-ctl task create order_fulfillment -n shop -c @order.json --watch")]
    Create(Box<CreateOptions>),
    /// Show a task and its steps
    #[command(after_help = "Example:
  tasker-ctl task get 019a8b1c-6f60-7a00-8000-000000000000 -o yaml")]
    Get(TaskName),
    /// List tasks, newest first
    #[command(after_help = "Example:
  tasker-ctl task list -n shop --state error -o wide")]
    List(ListOptions),
    /// Follow a task's steps until it ends
    #[command(after_help = "Example:
  tasker-ctl task watch 019a8b1c-6f60-7a00-8000-000000000000")]
    Watch(TaskName),
    /// List a task's steps
    #[command(after_help = "Example:
  tasker-ctl task steps 019a8b1c-6f60-7a00-8000-000000000000 -o wide")]
    Steps(TaskName),
    /// Draw a task's steps and what leads from one to the other
    #[command(after_help = "Examples:
  tasker-ctl task graph 019a8b1c-6f60-7a00-8000-000000000000
  tasker-ctl task graph 019a8b1c-6f60-7a00-8000-000000000000 --svg > task.svg")]
    Graph(GraphOptions),
    /// Show every transition of a task
    #[command(after_help = "Example:
  tasker-ctl task history 019a8b1c-6f60-7a00-8000-000000000000")]
    History(TaskName),
    /// Say why each unfinished step doesn't go on, and until when
    #[command(after_help = "Example:
  tasker-ctl task explain 019a8b1c-6f60-7a00-8000-000000000000 --watch")]
    Explain(TaskName),
    /// Cancel a task
    #[command(after_help = "Example:
  tasker-ctl task cancel 019a8b1c-6f60-7a00-8000-000000000000 --reason 'ordered twice' --compensate")]
    Cancel(CancelOptions),
    /// Pause a task: its running steps finish, all others wait
    #[command(after_help = "Example:
  tasker-ctl task pause 019a8b1c-6f60-7a00-8000-000000000000 --reason 'the provider is down'")]
    Pause {
        #[command(flatten)]
        task: TaskName,
        /// Why; shown while it is paused
        #[arg(long)]
        reason: Option<String>,
    },
    /// Resume a paused task
    #[command(after_help = "Example:
  tasker-ctl task resume 019a8b1c-6f60-7a00-8000-000000000000")]
    Resume(TaskName),
    /// Run a task anew that has ended or is blocked by failures, all of it or from a step on
    #[command(after_help = "Example:
  tasker-ctl task rerun 019a8b1c-6f60-7a00-8000-000000000000 --from-step ship_order")]
    Rerun(RerunOptions),
    /// Send a signal to a task
    #[command(after_help = "Example:
  tasker-ctl task signal 019a8b1c-6f60-7a00-8000-000000000000 approval '{\"approved\": true}'")]
    Signal {
        #[command(flatten)]
        task: TaskName,
        /// The signal's name, as the template says it
        name: String,
        /// A JSON document, @FILE to read it from a file, @- from standard input; null when left out
        #[arg(value_name = "JSON|@FILE")]
        payload: Option<String>,
    },
    /// List the signals that a task's steps wait for at some time
    #[command(after_help = "Example:
  tasker-ctl task signals 019a8b1c-6f60-7a00-8000-000000000000")]
    Signals(TaskName),
    /// List what undoes the steps of a task that failed or was cancelled
    #[command(after_help = "Example:
  tasker-ctl task compensations 019a8b1c-6f60-7a00-8000-000000000000")]
    Compensations(TaskName),
}

#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct TaskName {
    /// The task's UUID
    pub(crate) task_uuid: Uuid,
}

#[derive(Debug, Args)]
pub(crate) struct GraphOptions {
    #[command(flatten)]
    pub(crate) task: TaskName,
    /// Write a Mermaid flowchart
    #[arg(long)]
    pub(crate) mermaid: bool,
    /// Write an SVG picture
    #[arg(long, conflicts_with = "mermaid")]
    pub(crate) svg: bool,
}

#[derive(Debug, Args)]
pub(crate) struct CancelOptions {
    #[command(flatten)]
    pub(crate) task: TaskName,
    /// Why; kept in the task's history
    #[arg(long)]
    pub(crate) reason: Option<String>,
    /// Undo the steps that are complete and name a compensation first
    #[arg(long)]
    pub(crate) compensate: bool,
}

#[derive(Debug, Args)]
pub(crate) struct RerunOptions {
    #[command(flatten)]
    pub(crate) task: TaskName,
    /// The step to begin with, by its name; the whole task when left out
    #[arg(long, value_name = "NAME")]
    pub(crate) from_step: Option<String>,
    /// Run that step alone, not those that follow it
    #[arg(long, requires = "from_step")]
    pub(crate) without_descendants: bool,
    /// Takes the place of the task's context: a JSON document, @FILE or @-
    #[arg(short, long, value_name = "JSON|@FILE")]
    pub(crate) context: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct CreateOptions {
    /// The template's name
    pub(crate) template: String,
    /// The template's namespace
    #[arg(short, long, default_value = "default")]
    pub(crate) namespace: String,
    /// The task's input: a JSON document, @FILE to read it from a file, @- from standard input
    #[arg(short, long, value_name = "JSON|@FILE")]
    pub(crate) context: Option<String>,
    /// The template's version; the newest when left out
    #[arg(long)]
    pub(crate) version: Option<String>,
    /// The same key with the same request gives the task that exists
    #[arg(long)]
    pub(crate) idempotency_key: Option<String>,
    /// -100 to 100; higher is served first
    #[arg(long, default_value_t = 0, allow_negative_numbers = true)]
    pub(crate) priority: i32,
    /// A word to find the task by; may be given several times
    #[arg(long = "tag", value_name = "TAG")]
    pub(crate) tags: Vec<String>,
    /// Don't start it before this time, as 2030-01-31T12:00:00Z
    #[arg(long, value_name = "TIME")]
    pub(crate) run_at: Option<DateTime<Utc>>,
    /// Ties the task to others and to logs
    #[arg(long, value_name = "UUID")]
    pub(crate) correlation_id: Option<Uuid>,
    /// Who asks for it
    #[arg(long)]
    pub(crate) initiator: Option<String>,
    /// Which system asks for it
    #[arg(long)]
    pub(crate) source_system: Option<String>,
    /// Why it is asked for
    #[arg(long)]
    pub(crate) reason: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct ListOptions {
    /// Only those of this namespace
    #[arg(short, long)]
    pub(crate) namespace: Option<String>,
    /// Only those of this template
    #[arg(short, long)]
    pub(crate) template: Option<String>,
    /// Only those in this state; may be given several times
    #[arg(short, long = "state", value_name = "STATE")]
    pub(crate) states: Vec<String>,
    /// Only those with this tag; given several times, those with all of them
    #[arg(long = "tag", value_name = "TAG")]
    pub(crate) tags: Vec<String>,
    /// Only those whose context contains this JSON document
    #[arg(long, value_name = "JSON")]
    pub(crate) context_contains: Option<String>,
    /// Only those created at this time or later
    #[arg(long, value_name = "TIME")]
    pub(crate) created_after: Option<DateTime<Utc>>,
    /// Only those created before this time
    #[arg(long, value_name = "TIME")]
    pub(crate) created_before: Option<DateTime<Utc>>,
    /// The page after this task
    #[arg(long, value_name = "UUID")]
    pub(crate) after: Option<Uuid>,
    /// At most so many
    #[arg(short, long, default_value_t = 50, value_parser = clap::value_parser!(i32).range(1..=1000))]
    pub(crate) limit: i32,
}
