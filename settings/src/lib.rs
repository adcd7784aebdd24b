//! Settings of a program: flags, then the environment, then one TOML file, then what is built in.
//!
//! A program says its settings once, as a [`clap::Parser`]. [`load`] reads them from all four places; what the file says becomes the default of the flag of the same name, so that it is checked by the same rules.
//! The file is named by the flag `--config` or its variable, which the parser has like any other setting:
//!
//! ```
//! #[derive(clap::Parser)]
//! struct Settings {
//!     /// Settings in TOML
//!     #[arg(long, env = "TASKER_CONFIG", value_name = "FILE")]
//!     config: Option<std::path::PathBuf>,
//!     /// Say where each setting comes from, and end
//!     #[arg(long)]
//!     explain_config: bool,
//!     #[arg(long, env = "DOC_CONNECTIONS", default_value_t = 10)]
//!     connections: u32,
//! }
//! let configured = tasker_settings::load_from::<Settings>("server", ["program", "--connections", "3"])?;
//! assert_eq!(configured.settings.connections, 3);
//! assert_eq!(configured.origins[0].from.to_string(), "flag --connections");
//! # Ok::<(), clap::Error>(())
//! ```
//!
//! One file serves several programs: what stands at its top is for all of them, a table `[server]`, `[worker]` or `[ctl]` for one.
#![warn(missing_docs)]

mod file;
mod origin;
mod reference;

use std::ffi::OsString;
use std::path::PathBuf;

use clap::error::ErrorKind;
use clap::{ArgAction, ArgMatches, Command, Parser};

use crate::file::File;
pub use crate::origin::{Origin, Source, explained, print};
pub use crate::reference::reference;

/// The setting that names the file.
const CONFIG: &str = "config";
/// The flag that a program explains its settings with, instead of running.
const EXPLAIN: &str = "explain_config";

/// Settings as they are in force, and where each comes from.
#[derive(Debug)]
pub struct Configured<T> {
    /// The settings.
    pub settings: T,
    /// Where each comes from, in the order in which the program says them; secrets are masked.
    pub origins: Vec<Origin>,
    /// Whether to show that instead of running.
    pub explain: bool,
}

/// The settings of this process; `program` is the name of its table in the file. A mistake is told on stderr and ends the process with code 2, as one on the command line does; so does `--help`, with code 0.
#[must_use]
pub fn load<T: Parser>(program: &str) -> Configured<T> {
    load_from(program, std::env::args_os()).unwrap_or_else(|error| error.exit())
}

/// The settings of a command line, with the environment of this process.
pub fn load_from<T: Parser>(
    program: &str,
    arguments: impl IntoIterator<Item = impl Into<OsString>>,
) -> Result<Configured<T>, clap::Error> {
    let arguments: Vec<OsString> = arguments.into_iter().map(Into::into).collect();
    let plain = T::command();
    let Some(path) = named_file(plain.clone(), &arguments) else {
        return parsed(plain, &arguments, None);
    };
    let file = File::read(&path, program, &plain)
        .map_err(|message| plain.clone().error(ErrorKind::ValueValidation, message))?;
    let read = parsed(with_defaults(plain.clone(), &file), &arguments, Some(&file));
    read.map_err(|error| {
        // What is right without the file is wrong in it.
        let without = without_file(plain, &file).try_get_matches_from(&arguments);
        if error.use_stderr() && without.is_ok() {
            let message = format!("in {}: {}", path.display(), error.kind_and_value());
            T::command().error(ErrorKind::ValueValidation, message)
        } else {
            error
        }
    })
}

/// What can be told of an error besides how to use the program.
trait Told {
    fn kind_and_value(&self) -> String;
}

impl Told for clap::Error {
    fn kind_and_value(&self) -> String {
        let text = self.render().to_string();
        let text = text.strip_prefix("error: ").unwrap_or(&text);
        let end = text.find("\n\nFor more information").unwrap_or(text.len());
        text[..end].to_owned()
    }
}

/// The file that the command line or the environment names. Whatever else is wrong with them is told later.
fn named_file(command: Command, arguments: &[OsString]) -> Option<PathBuf> {
    let lenient = command
        .ignore_errors(true)
        .disable_help_flag(true)
        .disable_version_flag(true);
    let matches = lenient.try_get_matches_from(arguments).ok()?;
    matches
        .try_get_one::<PathBuf>(CONFIG)
        .ok()
        .flatten()
        .cloned()
}

/// The command with what the file says as the defaults of its flags.
fn with_defaults(mut command: Command, file: &File) -> Command {
    for (id, values) in &file.values {
        command = command.mut_arg(id, |argument| {
            argument.required(false).default_values(values.clone())
        });
    }
    command
}

/// The command as it is, but that it asks for nothing the file gives.
fn without_file(mut command: Command, file: &File) -> Command {
    for id in file.values.keys() {
        command = command.mut_arg(id, |argument| argument.required(false));
    }
    command
}

fn parsed<T: Parser>(
    mut command: Command,
    arguments: &[OsString],
    file: Option<&File>,
) -> Result<Configured<T>, clap::Error> {
    let mut matches = command.try_get_matches_from_mut(arguments)?;
    // Of the command as it is said: one that was changed has another order.
    let origins = origins(&T::command(), &matches, file);
    let explain = matches.try_get_one::<bool>(EXPLAIN).ok().flatten() == Some(&true);
    let settings =
        T::from_arg_matches_mut(&mut matches).map_err(|error| error.format(&mut command))?;
    Ok(Configured {
        settings,
        origins,
        explain,
    })
}

fn origins(command: &Command, matches: &ArgMatches, file: Option<&File>) -> Vec<Origin> {
    command
        .get_arguments()
        .filter(|argument| {
            let id = argument.get_id().as_str();
            let is_about_settings = id == CONFIG || id == EXPLAIN;
            let says_something = !matches!(
                argument.get_action(),
                ArgAction::Help | ArgAction::HelpShort | ArgAction::HelpLong | ArgAction::Version
            );
            says_something && !is_about_settings && argument.get_long().is_some()
        })
        .map(|argument| Origin::of(argument, matches, file))
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[derive(Debug, Parser)]
    struct Settings {
        #[arg(long)]
        config: Option<PathBuf>,
        #[arg(long)]
        explain_config: bool,
        #[arg(long, hide_env_values = true)]
        database_url: String,
        #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..))]
        connections: u32,
        #[arg(long, value_delimiter = ',')]
        namespaces: Vec<String>,
        #[arg(long)]
        quiet: bool,
    }

    fn load(text: &str, more: &[&str]) -> Result<Configured<Settings>, String> {
        let folder = std::env::temp_dir().join(format!("tasker-settings-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let number = std::thread::current().id();
        let file = folder.join(format!("{number:?}.toml"));
        std::fs::write(&file, text).unwrap();
        let named = ["program", "--config", file.to_str().unwrap()];
        let loaded = load_from("server", named.iter().chain(more));
        loaded.map_err(|error| error.to_string())
    }

    const GOOD: &str = "database_url = 'postgres://a:secret@host/db'\n[server]\nconnections = 3\nnamespaces = ['a', 'b']\nquiet = true\n[worker]\nwhatever = 1\n";

    #[test]
    fn a_file_gives_what_the_command_line_does_not() {
        let settings = load(GOOD, &[]).unwrap().settings;
        assert_eq!((settings.connections, settings.quiet), (3, true));
        assert_eq!(settings.namespaces, ["a", "b"]);
        let settings = load(GOOD, &["--connections", "5", "--namespaces", "c,d"])
            .unwrap()
            .settings;
        assert_eq!(settings.connections, 5);
        assert_eq!(settings.namespaces, ["c", "d"]);
    }

    #[test]
    fn each_value_is_told_with_where_it_comes_from_and_without_its_password() {
        let origins = load(GOOD, &["--connections", "5"]).unwrap().origins;
        let told: Vec<String> = origins
            .iter()
            .map(|origin| {
                let value = origin.value.as_deref().unwrap_or("-");
                let from = origin.from.to_string();
                format!(
                    "{} {value} {}",
                    origin.name,
                    from.split(' ').next().unwrap()
                )
            })
            .collect();
        assert_eq!(
            told,
            [
                "database_url postgres://a:***@host/db file",
                "connections 5 flag",
                "namespaces a,b file",
                "quiet true file"
            ]
        );
    }

    #[test]
    fn unknown_keys_are_refused_with_the_one_that_was_meant() {
        let refused = load("[server]\nconections = 3", &[]).unwrap_err();
        assert!(
            refused.contains("conections") && refused.contains("connections?"),
            "{refused}"
        );
        let refused = load("[sever]\nconnections = 3", &[]).unwrap_err();
        assert!(
            refused.contains("sever") && refused.contains("server"),
            "{refused}"
        );
        let refused = load("colour = 'red'", &[]).unwrap_err();
        assert!(refused.contains("colour"), "{refused}");
    }

    #[test]
    fn a_value_that_cannot_be_is_told_with_its_file() {
        let url = "database_url = 'x'\n[server]\n";
        for bad in [
            "connections = 0",
            "connections = 'many'",
            "connections = {a = 1}",
        ] {
            let refused = load(&format!("{url}{bad}"), &[]).unwrap_err();
            assert!(refused.contains(".toml"), "{refused}");
        }
        let refused = load(url, &["--connections", "0"]).unwrap_err();
        assert!(!refused.contains(".toml"), "{refused}");
        let refused = load("[server", &[]).unwrap_err();
        assert!(
            refused.contains(".toml") && refused.contains("line 1"),
            "{refused}"
        );
    }

    #[test]
    fn what_is_missing_everywhere_is_still_missing() {
        let refused = load("[server]\nconnections = 3", &[]).unwrap_err();
        assert!(refused.contains("--database-url"), "{refused}");
    }
}
