//! The command line.

use std::path::PathBuf;

use chrono::{DateTime, Utc};
use clap::{Args, Parser, Subcommand};
use uuid::Uuid;

use crate::completion::CompletionOptions;
use crate::config::ConfigCommand;
use crate::database::DbCommand;
use crate::dead_letters::DlqCommand;
use crate::dev::DevOptions;
use crate::namespaces::NamespaceCommand;
use crate::output::Format;
use crate::queues::QueueCommand;
use crate::schedules::ScheduleCommand;
use crate::system::SystemCommand;
use crate::templates::TemplateCommand;
use crate::workers::WorkerCommand;

const EXIT_CODES: &str = "Exit codes:
  0  it worked; a watched task is complete
  1  it failed, or a watched task ended otherwise
  2  the command line can't be understood
  3  the task, template or whatever was named isn't there
  4  it conflicts with what is there
  5  the input is invalid
  6  the database is away or too busy";

/// Works with Tasker from the command line
#[derive(Debug, Parser)]
#[command(name = "tasker-ctl", version, after_help = EXIT_CODES)]
pub(crate) struct Options {
    /// The database, as postgres://user:password@host:port/name
    #[arg(long, global = true, env = "DATABASE_URL", hide_env_values = true)]
    pub(crate) database_url: Option<String>,

    /// Settings in TOML, with servers by name [default: tasker/tasker.toml in the user's folder of settings, if it is there]
    #[arg(long, global = true, env = "TASKER_CONFIG", value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,

    /// A server by the name that the settings file gives it
    #[arg(long, global = true, env = "TASKER_PROFILE", value_name = "NAME")]
    pub(crate) profile: Option<String>,

    /// How results are written
    #[arg(short, long, global = true, value_enum, default_value_t = Format::Table)]
    pub(crate) output: Format,

    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Prepare a database, look at it, update it
    #[command(subcommand)]
    Db(DbCommand),
    /// Register templates, look at them, retire them
    #[command(subcommand)]
    Template(TemplateCommand),
    /// Create tasks, look at them, cancel them
    #[command(subcommand)]
    Task(TaskCommand),
    /// Investigate and resolve dead letters: what failed for good
    #[command(subcommand)]
    Dlq(DlqCommand),
    /// Look at the workers, and retire those that are gone
    #[command(subcommand)]
    Worker(WorkerCommand),
    /// Look at the queues
    #[command(subcommand)]
    Queue(QueueCommand),
    /// Create tasks at the times of a cron expression
    #[command(subcommand)]
    Schedule(ScheduleCommand),
    /// Set, pause and resume namespaces, and say who may do what in them
    #[command(subcommand)]
    Namespace(NamespaceCommand),
    /// Health, versions and figures
    #[command(subcommand)]
    System(SystemCommand),
    /// The settings of the programs, and where they come from
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Write the completions for a shell
    Completion(CompletionOptions),
    /// Run a private PostgreSQL, server and worker in a folder, for development
    Dev(DevOptions),
}

#[derive(Debug, Subcommand)]
pub(crate) enum TaskCommand {
    /// Create a task and print its UUID
    Create(Box<CreateOptions>),
    /// Show a task and its steps
    Get {
        /// The task's UUID
        task_uuid: Uuid,
    },
    /// List tasks, newest first
    List(ListOptions),
    /// Follow a task's steps until it ends
    Watch {
        /// The task's UUID
        task_uuid: Uuid,
    },
    /// Cancel a task
    Cancel {
        /// The task's UUID
        task_uuid: Uuid,
        /// Why; kept in the task's history
        #[arg(long)]
        reason: Option<String>,
    },
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
    /// Follow it until it ends
    #[arg(long)]
    pub(crate) watch: bool,
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

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Options::command().debug_assert();
    }

    /// The ends of the tree of commands, with the words that lead there.
    fn leaves(command: &clap::Command, words: &str) -> Vec<(String, clap::Command)> {
        let words = format!("{words} {}", command.get_name());
        let below = command.get_subcommands();
        let below: Vec<_> = below.flat_map(|below| leaves(below, &words)).collect();
        if below.is_empty() {
            return vec![(words, command.clone())];
        }
        below
    }

    #[test]
    fn the_help_of_each_command_has_an_example_that_calls_it() {
        let elsewhere = [" tasker-ctl task ", " tasker-ctl dev"];
        for (words, command) in leaves(&Options::command(), "") {
            if elsewhere.iter().any(|start| words.starts_with(start)) {
                continue;
            }
            let help = command.get_after_help().map(ToString::to_string);
            let help = help.unwrap_or_default();
            assert!(
                help.starts_with("Example:\n ") && help.contains(&words),
                "{words}: {help}"
            );
        }
    }

    #[test]
    fn global_options_may_stand_anywhere() {
        let options = Options::parse_from([
            "tasker-ctl",
            "task",
            "list",
            "-o",
            "json",
            "--database-url",
            "x",
        ]);
        assert_eq!(options.output, Format::Json);
        assert_eq!(options.database_url.as_deref(), Some("x"));
    }
}
