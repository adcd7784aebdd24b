//! The command line.

use std::path::PathBuf;

use clap::{Parser, Subcommand};

use crate::auth::AuthCommand;
use crate::bulk::BulkCommand;
use crate::completion::CompletionOptions;
use crate::config::ConfigCommand;
use crate::database::DbCommand;
use crate::dead_letters::DlqCommand;
use crate::dev::DevOptions;
use crate::domain_events::DomainEventCommand;
use crate::events::EventCommand;
use crate::generate::GenerateCommand;
use crate::namespaces::NamespaceCommand;
use crate::output::Format;
use crate::queues::QueueCommand;
use crate::schedules::ScheduleCommand;
use crate::steps::StepCommand;
use crate::subscriptions::SubscriptionCommand;
use crate::system::SystemCommand;
use crate::tasks::TaskCommand;
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

    /// Show it again whenever it has changed, until interrupted; a task that is created, until it ends
    #[arg(long, global = true)]
    pub(crate) watch: bool,

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
    /// Create tasks, look at them, steer them
    #[command(subcommand)]
    Task(TaskCommand),
    /// Look at steps, and repair them
    #[command(subcommand)]
    Step(StepCommand),
    /// Do one thing to many tasks
    #[command(subcommand)]
    Bulk(BulkCommand),
    /// List and follow what happens to tasks and steps
    #[command(subcommand)]
    Event(EventCommand),
    /// List what steps published, subscribe to it, send it again
    #[command(subcommand)]
    DomainEvent(DomainEventCommand),
    /// Look at the subscriptions to what steps publish
    #[command(subcommand)]
    Subscription(SubscriptionCommand),
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
    /// Make keys and tokens for callers of the server
    #[command(subcommand)]
    Auth(AuthCommand),
    /// The settings of the programs, and where they come from
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Write code from what a template says
    #[command(subcommand)]
    Generate(GenerateCommand),
    /// Write the completions for a shell
    Completion(CompletionOptions),
    /// Run a private PostgreSQL, server and worker in a folder, for development
    #[command(after_help = "Example:\n  tasker-ctl dev")]
    Dev(DevOptions),
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
        for (words, command) in leaves(&Options::command(), "") {
            let help = command.get_after_help().map(ToString::to_string);
            let help = help.unwrap_or_default();
            assert!(
                help.starts_with("Example") && help.contains(&words),
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
