//! tasker-ctl: each subcommand is a call of the client; dev: a private Tasker in a folder.
//!
//! | module | holds |
//! |---|---|
//! | `options` | the command line |
//! | `config`, `database`, `templates`, `tasks`, `dead_letters`, `workers`, `queues`, `schedules`, `namespaces`, `system`, `completion` | the subcommands |
//! | `watch` | a task followed until it ends |
//! | `drawing` | graphs of steps |
//! | `output`, `failure` | what is written to stdout and to stderr, and the exit codes |
//! | `reference` | the command line as a page of the documentation |
//! | [`dev`], [`cluster`] | a private PostgreSQL with server and worker |
#![allow(clippy::print_stdout, reason = "what a command answers goes to stdout")]

pub mod cluster;
mod completion;
mod config;
mod database;
mod dead_letters;
pub mod dev;
mod drawing;
mod failure;
mod namespaces;
mod options;
mod output;
mod queues;
mod reference;
mod schedules;
mod system;
mod tasks;
mod templates;
mod watch;
mod workers;

pub use reference::reference;

use std::io::IsTerminal;
use std::process::ExitCode;

use clap::{ArgMatches, CommandFactory, FromArgMatches};
use tasker_client::{Client, ConnectOptions};

use crate::config::Settings;
use crate::failure::Failure;
use crate::options::{Command, Options};
use crate::output::Output;

/// Runs the command line that the program was started with; failures are told on stderr.
pub async fn run() -> ExitCode {
    let matches = Options::command().get_matches();
    match answer(&matches).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            failure.report();
            failure.exit_code()
        }
    }
}

async fn answer(matches: &ArgMatches) -> Result<(), Failure> {
    let options = Options::from_arg_matches(matches).unwrap_or_else(|error| error.exit());
    let settings = Settings::read(&options, matches)?;
    dispatch(options, settings).await
}

async fn dispatch(options: Options, settings: Settings) -> Result<(), Failure> {
    let output = Output::new(settings.output);
    if let Command::Config(command) = &options.command {
        return config::run(command, &settings, output);
    }
    let database_url = settings.database_url;
    match options.command {
        Command::Db(command) => database::run(command, &connect(database_url).await?, output).await,
        Command::Template(command) => templates::run(command, database_url, output).await,
        Command::Task(command) => tasks::run(command, &connect(database_url).await?, output).await,
        Command::Config(_) => Ok(()),
        Command::Dlq(command) => {
            dead_letters::run(command, &connect(database_url).await?, output).await
        }
        Command::Worker(command) => {
            workers::run(command, &connect(database_url).await?, output).await
        }
        Command::Queue(command) => {
            queues::run(command, &connect(database_url).await?, output).await
        }
        Command::Schedule(command) => {
            schedules::run(command, &connect(database_url).await?, output).await
        }
        Command::Namespace(command) => {
            namespaces::run(command, &connect(database_url).await?, output).await
        }
        Command::System(command) => {
            system::run(command, &connect(database_url).await?, output).await
        }
        Command::Completion(options) => completion::run(&options),
        Command::Dev(options) => {
            start_log();
            dev::run(options).await.map_err(Failure::Other)
        }
    }
}

async fn connect(database_url: Option<String>) -> Result<Client, Failure> {
    let url = database_url.ok_or(Failure::NoDatabase)?;
    let options = ConnectOptions {
        max_connections: 2,
        application_name: "tasker-ctl".to_owned(),
        acquire_timeout: std::time::Duration::from_secs(5),
        statement_timeout: None,
    };
    Ok(Client::connect(&url, options).await?)
}

/// Only for the programs that run long; a short command says everything itself.
fn start_log() {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info,sqlx=warn"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr)
        .init();
}
