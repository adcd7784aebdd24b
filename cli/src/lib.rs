//! tasker-ctl: each subcommand is a call of the client; dev: a private Tasker in a folder.
//!
//! | module | holds |
//! |---|---|
//! | `options` | the command line |
//! | `auth`, `config`, `database`, `events`, `generate`, `templates`, `tasks`, `steps`, `bulk`, `dead_letters`, `domain_events`, `subscriptions`, `workers`, `queues`, `schedules`, `namespaces`, `system`, `completion` | the subcommands |
//! | `watch` | a task followed until it ends |
//! | `repeat` | `--watch`: what only looks, again and again |
//! | `drawing` | graphs of steps |
//! | `scaffold`, `types` | code that is written: a workflow to begin with, types from schemas |
//! | `languages` | the languages it is written in |
//! | `output`, `failure` | what is written to stdout and to stderr, and the exit codes |
//! | `reference` | the command line as a page of the documentation |
//! | [`dev`], [`cluster`] | a private PostgreSQL with server and worker |
#![allow(clippy::print_stdout, reason = "what a command answers goes to stdout")]

mod auth;
mod bulk;
pub mod cluster;
mod completion;
mod config;
mod database;
mod dead_letters;
pub mod dev;
mod domain_events;
mod drawing;
mod events;
mod failure;
mod generate;
mod languages;
mod namespaces;
mod options;
mod output;
mod queues;
mod reference;
mod repeat;
mod scaffold;
mod schedules;
mod steps;
mod subscriptions;
mod system;
mod tasks;
mod templates;
mod types;
mod watch;
mod workers;

pub use reference::reference;

use std::io::IsTerminal;
use std::process::ExitCode;

use clap::{ArgMatches, CommandFactory, FromArgMatches};
use tasker_client::{Client, ConnectOptions};
use tokio::sync::OnceCell;

use crate::config::Settings;
use crate::failure::Failure;
use crate::options::{Command, Options};
use crate::output::Output;
use crate::repeat::Watch;

/// Runs the command line that the program was started with; failures are told on stderr.
pub async fn run() -> ExitCode {
    match answer(&Options::command().get_matches()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            failure.report();
            failure.exit_code()
        }
    }
}

async fn answer(matches: &ArgMatches) -> Result<(), Failure> {
    let read = || Options::from_arg_matches(matches).unwrap_or_else(|error| error.exit());
    let options = read();
    let settings = Settings::read(&options, matches)?;
    if !options.watch {
        return dispatch(options, &settings).await;
    }
    match repeat::watch_of(matches) {
        Watch::Repeats => {
            let output = Output::new(settings.output);
            repeat::run(output, async || dispatch(read(), &settings).await).await
        }
        Watch::Follows => dispatch(options, &settings).await,
        Watch::Nothing => Err(Failure::Usage(
            "--watch is for commands that only look, and for task create".to_owned(),
        )),
    }
}

async fn dispatch(options: Options, settings: &Settings) -> Result<(), Failure> {
    let output = Output::new(settings.output);
    let database_url = settings.database_url.clone();
    match options.command {
        Command::Config(command) => config::run(&command, settings, output),
        Command::Db(command) => database::run(command, &connect(database_url).await?, output).await,
        Command::Template(command) => templates::run(command, database_url, output).await,
        Command::Task(command) => {
            let follow = options.watch;
            tasks::run(command, &connect(database_url).await?, output, follow).await
        }
        Command::Step(command) => steps::run(command, &connect(database_url).await?, output).await,
        Command::Bulk(command) => bulk::run(command, &connect(database_url).await?, output).await,
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
        Command::Auth(command) => auth::run(command, database_url, output).await,
        Command::Event(command) => {
            events::run(command, &connect(database_url).await?, output).await
        }
        Command::DomainEvent(command) => {
            domain_events::run(command, &connect(database_url).await?, output).await
        }
        Command::Subscription(command) => {
            subscriptions::run(command, &connect(database_url).await?, output).await
        }
        Command::Generate(command) => generate::run(command, database_url, output).await,
        Command::Dev(options) => {
            start_log();
            dev::run(options).await.map_err(Failure::Other)
        }
    }
}

/// A command that is repeated keeps its connections.
async fn connect(database_url: Option<String>) -> Result<Client, Failure> {
    static CLIENT: OnceCell<Client> = OnceCell::const_new();
    let client = CLIENT.get_or_try_init(|| new_client(database_url)).await?;
    Ok(client.clone())
}

async fn new_client(database_url: Option<String>) -> Result<Client, Failure> {
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
