//! Where a setting comes from.

use std::fmt;
use std::io::Write;
use std::path::PathBuf;

use clap::parser::ValueSource;
use clap::{Arg, ArgMatches};
use serde::Serialize;

use crate::file::File;

/// What a secret is shown as.
const MASK: &str = "***";

/// A setting in force.
#[derive(Debug, Clone, Serialize)]
pub struct Origin {
    /// Its name, as the file has it.
    pub name: String,
    /// Its value, with a secret masked; `None` when it isn't set.
    pub value: Option<String>,
    /// Where that comes from.
    pub from: Source,
}

/// Where a value comes from.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// The command line.
    Flag(String),
    /// A variable of the environment.
    Variable(String),
    /// The file.
    File(PathBuf),
    /// What is built in.
    BuiltIn,
    /// Nowhere: it isn't set.
    Unset,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(flag) => write!(f, "flag --{flag}"),
            Self::Variable(variable) => write!(f, "variable {variable}"),
            Self::File(file) => write!(f, "file {}", file.display()),
            Self::BuiltIn => f.write_str("built in"),
            Self::Unset => f.write_str("not set"),
        }
    }
}

impl Origin {
    /// A setting that may hold a password, which is masked.
    #[must_use]
    pub fn of_secret(name: &str, value: Option<&str>, from: Source) -> Self {
        Self {
            name: name.to_owned(),
            value: value.map(masked),
            from,
        }
    }

    pub(crate) fn of(argument: &Arg, matches: &ArgMatches, file: Option<&File>) -> Self {
        let id = argument.get_id().as_str();
        let variable = || {
            let name = argument.get_env().unwrap_or_default();
            name.to_string_lossy().into_owned()
        };
        let from = match matches.value_source(id) {
            Some(ValueSource::CommandLine) => {
                Source::Flag(argument.get_long().unwrap_or(id).to_owned())
            }
            Some(ValueSource::EnvVariable) => Source::Variable(variable()),
            Some(_) => match file.filter(|file| file.values.contains_key(id)) {
                Some(file) => Source::File(file.path.clone()),
                None => Source::BuiltIn,
            },
            None => Source::Unset,
        };
        let raw = matches.get_raw(id).map(|values| {
            let values = values.map(|value| value.to_string_lossy().into_owned());
            values.collect::<Vec<_>>().join(",")
        });
        let value = match raw {
            Some(value) if argument.is_hide_env_values_set() => Some(masked(&value)),
            other => other,
        };
        Self {
            name: id.to_owned(),
            value,
            from,
        }
    }
}

/// A secret without what makes it one: of an address the password, of anything else all.
fn masked(value: &str) -> String {
    let Some((scheme, rest)) = value.split_once("://") else {
        return MASK.to_owned();
    };
    let rest = &without_parameter(rest);
    // The last one: a password may hold an @ of its own.
    let Some((user, host)) = rest.rsplit_once('@') else {
        return format!("{scheme}://{rest}");
    };
    match user.split_once(':') {
        Some((user, _)) => format!("{scheme}://{user}:{MASK}@{host}"),
        None => format!("{scheme}://{rest}"),
    }
}

/// An address may carry its password as a parameter as well.
fn without_parameter(address: &str) -> String {
    let Some((before, parameters)) = address.split_once('?') else {
        return address.to_owned();
    };
    let shown = parameters
        .split('&')
        .map(|parameter| match parameter.split_once('=') {
            Some((name @ ("password" | "sslpassword"), _)) => format!("{name}={MASK}"),
            _ => parameter.to_owned(),
        });
    format!("{before}?{}", shown.collect::<Vec<_>>().join("&"))
}

/// The settings as a table for people: name, value, where it comes from.
#[must_use]
pub fn explained(origins: &[Origin]) -> String {
    let shown = |origin: &Origin| origin.value.clone().unwrap_or_else(|| "-".to_owned());
    let width = |length: fn(&Origin) -> usize| origins.iter().map(length).max().unwrap_or(0);
    let names = width(|origin| origin.name.len());
    let values = width(|origin| origin.value.as_deref().map_or(1, str::len));
    let lines = origins.iter().map(|origin| {
        let (value, from) = (shown(origin), origin.from.to_string());
        format!("{:names$}  {value:values$}  {from}", origin.name)
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// Writes [`explained`] to stdout.
pub fn print(origins: &[Origin]) -> std::io::Result<()> {
    let mut stdout = std::io::stdout().lock();
    writeln!(stdout, "{}", explained(origins))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_masked_wherever_they_stand() {
        assert_eq!(
            masked("postgres://a:b@c@host/db"),
            "postgres://a:***@host/db"
        );
        assert_eq!(masked("postgres://a@host/db"), "postgres://a@host/db");
        assert_eq!(masked("postgres://host/db"), "postgres://host/db");
        assert_eq!(
            masked("postgres://host/db?user=a&password=b"),
            "postgres://host/db?user=a&password=***"
        );
        assert_eq!(masked("anything"), "***");
    }
}
