//! `tasker-ctl config`, and the settings of `tasker-ctl` itself: flags, environment, and a file that may name several servers.

mod file;

use std::path::{Path, PathBuf};
use std::process::Command as Process;

use clap::parser::ValueSource;
use clap::{ArgMatches, Subcommand, ValueEnum};
use tasker_settings::{Origin, Source};

use self::file::{Ctl, File};
use crate::failure::Failure;
use crate::options::Options;
use crate::output::{self, Format, Output};

#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Show the settings in force
    #[command(after_help = "Example:\n  tasker-ctl config show")]
    Show,
    /// Check a settings file: what it says to this program, and to the server and the worker where they lie beside it
    #[command(after_help = "Example:\n  tasker-ctl config check /etc/tasker/tasker.toml")]
    Check {
        /// The file; that of this program when left out
        file: Option<PathBuf>,
    },
    /// Say where each setting comes from: a flag, a variable, the file, or what is built in
    #[command(after_help = "Example:\n  tasker-ctl config explain server")]
    Explain {
        /// Of which program
        #[arg(value_enum, default_value_t = Of::Ctl)]
        program: Of,
    },
}

/// A program that has settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Of {
    /// This one
    Ctl,
    /// tasker-server
    Server,
    /// tasker-worker
    Worker,
}

/// The settings that the file may give.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) database_url: Option<String>,
    pub(crate) output: Format,
    origins: Vec<Origin>,
    file: Option<PathBuf>,
}

impl Settings {
    /// Flags, then the environment, then the file. A profile that is named by a flag comes before the address in the environment: it was asked for.
    pub(crate) fn read(options: &Options, matches: &ArgMatches) -> Result<Self, Failure> {
        let file = file_of(options.config.clone());
        let contents = match &file {
            Some(path) => File::read(path)?,
            None => File::default(),
        };
        let ctl = contents.ctl.unwrap_or_default();
        let place = || Source::File(file.clone().unwrap_or_default());
        let source = |id: &str| source(matches, id);

        let (profile_name, profile_from) = match (&options.profile, source("profile")) {
            (Some(name), Some(from)) => (Some(name.clone()), from),
            _ => (
                ctl.profile.clone(),
                if ctl.profile.is_some() {
                    place()
                } else {
                    Source::Unset
                },
            ),
        };
        let profile = match &profile_name {
            Some(name) => ctl.named(name, file.as_deref())?,
            None => &file::Profile::default(),
        };
        let is_asked_for = matches!(profile_from, Source::Flag(_));
        let given = options.database_url.clone().zip(source("database_url"));
        let of_profile = profile.database_url.clone().map(|url| (url, place()));
        let of_file = ctl
            .database_url
            .clone()
            .or(contents.database_url)
            .map(|url| (url, place()));
        let (flag, variable) = match given {
            Some((url, from @ Source::Flag(_))) => (Some((url, from)), None),
            other => (None, other),
        };
        let (before, after) = if is_asked_for {
            (of_profile, variable)
        } else {
            (variable, of_profile)
        };
        let database_url = flag.or(before).or(after).or(of_file);
        let output = match source("output") {
            Some(from @ (Source::Flag(_) | Source::Variable(_))) => (options.output, from),
            _ => match profile.output.or(ctl.output) {
                Some(output) => (output, place()),
                None => (options.output, Source::BuiltIn),
            },
        };
        let told = |format: Format| {
            format
                .to_possible_value()
                .map(|value| value.get_name().to_owned())
        };
        let (url, url_from) =
            database_url.map_or((None, Source::Unset), |(url, from)| (Some(url), from));
        let origins = vec![
            origin("profile", profile_name, profile_from),
            Origin::of_secret("database_url", url.as_deref(), url_from),
            origin("output", told(output.0), output.1),
        ];
        Ok(Self {
            database_url: url,
            output: output.0,
            origins,
            file,
        })
    }
}

fn origin(name: &str, value: Option<String>, from: Source) -> Origin {
    Origin {
        name: name.to_owned(),
        value,
        from,
    }
}

/// Where a global option comes from, when it is given.
fn source(matches: &ArgMatches, id: &str) -> Option<Source> {
    match matches.value_source(id)? {
        ValueSource::CommandLine => Some(Source::Flag(id.replace('_', "-"))),
        ValueSource::EnvVariable => Some(Source::Variable(match id {
            "database_url" => "DATABASE_URL".to_owned(),
            other => format!("TASKER_{}", other.to_uppercase()),
        })),
        _ => None,
    }
}

/// The file that was named, else the user's own, where there is one.
fn file_of(named: Option<PathBuf>) -> Option<PathBuf> {
    named.or_else(|| {
        let home = || std::env::var_os("HOME").map(|home| Path::new(&home).join(".config"));
        let folder = std::env::var_os("XDG_CONFIG_HOME").filter(|folder| !folder.is_empty());
        let folder = folder.map(PathBuf::from).or_else(home)?;
        Some(folder.join("tasker/tasker.toml")).filter(|file| file.is_file())
    })
}

pub(crate) fn run(
    command: &ConfigCommand,
    settings: &Settings,
    output: Output,
) -> Result<(), Failure> {
    match command {
        ConfigCommand::Show => output.show(&settings.origins, || {
            let shown = settings.origins.iter();
            output::fields(shown.map(|origin| (origin.name.as_str(), origin.value.clone())))
        }),
        ConfigCommand::Explain { program: Of::Ctl } => output.show(&settings.origins, || {
            tasker_settings::explained(&settings.origins)
        }),
        ConfigCommand::Explain { program } => {
            let told = told_by(*program, settings.file.as_deref())?;
            output::line(told.trim_end())
        }
        ConfigCommand::Check { file } => check(file.as_ref().or(settings.file.as_ref())),
    }
}

fn check(file: Option<&PathBuf>) -> Result<(), Failure> {
    let Some(path) = file else {
        return Err(Failure::Settings(
            "there is no settings file; name one".to_owned(),
        ));
    };
    let contents = File::read(path)?;
    for name in contents.ctl.iter().flat_map(Ctl::profile_names) {
        output::line(&format!("profile {name}: good"))?;
    }
    for program in [Of::Server, Of::Worker] {
        // Needed by both, and perhaps given elsewhere.
        told_by(program, Some(path))?;
        output::line(&format!("[{}]: good", table(program)))?;
    }
    Ok(())
}

fn table(program: Of) -> &'static str {
    match program {
        Of::Ctl => "ctl",
        Of::Server => "server",
        Of::Worker => "worker",
    }
}

/// What a program that lies beside this one says of its settings.
fn told_by(program: Of, file: Option<&Path>) -> Result<String, Failure> {
    let name = format!("tasker-{}", table(program));
    let here = std::env::current_exe()?;
    let path = here.with_file_name(&name);
    let mut process = Process::new(&path);
    process.arg("--explain-config");
    if let Some(file) = file {
        process.arg("--config").arg(file);
    }
    if std::env::var_os("DATABASE_URL").is_none() {
        process.env("DATABASE_URL", "postgres://localhost/not-given");
    }
    let output = process
        .output()
        .map_err(|source| Failure::File { path, source })?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let said = said.trim().trim_start_matches("error: ");
    Err(Failure::Settings(said.to_owned()))
}
