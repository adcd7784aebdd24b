//! The file: its values as texts, by the setting that each is for.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::Command;
use toml::{Table, Value};

/// The tables that a file may have, one for each program.
const PROGRAMS: [&str; 3] = ["server", "worker", "ctl"];
/// What may stand at the top, for all programs. One that a program hasn't got means nothing to it.
const SHARED: [&str; 2] = ["database_url", "log_format"];

/// What a file says to one program.
#[derive(Debug)]
pub(crate) struct File {
    pub(crate) path: PathBuf,
    pub(crate) values: BTreeMap<String, Vec<String>>,
}

impl File {
    /// Reads a file; a mistake is a sentence that names the file.
    pub(crate) fn read(path: &Path, program: &str, command: &Command) -> Result<Self, String> {
        let place = path.display();
        let text = std::fs::read_to_string(path)
            .map_err(|error| format!("{place} can't be read: {error}"))?;
        let table: Table = text.parse().map_err(|error: toml::de::Error| {
            format!("{place} isn't TOML: {}", located(&error, &text))
        })?;
        let mut file = Self {
            path: path.to_owned(),
            values: BTreeMap::new(),
        };
        let has = |key: &str| {
            command
                .get_arguments()
                .any(|known| known.get_id() == key && known.get_long().is_some())
        };
        for (key, value) in &table {
            match value {
                Value::Table(_) if PROGRAMS.contains(&key.as_str()) => {}
                _ if SHARED.contains(&key.as_str()) => {
                    if has(key) {
                        file.take(key, value)?;
                    }
                }
                _ => {
                    let known = PROGRAMS.into_iter().chain(SHARED);
                    return Err(file.unknown("at the top", key, known));
                }
            }
        }
        let own = table.get(program).and_then(Value::as_table);
        for (key, value) in own.into_iter().flatten() {
            if !has(key) {
                let known = command
                    .get_arguments()
                    .filter(|known| known.get_long().is_some());
                let known: Vec<&str> = known.map(|known| known.get_id().as_str()).collect();
                return Err(file.unknown(&format!("in [{program}]"), key, known));
            }
            file.take(key, value)?;
        }
        Ok(file)
    }

    fn take(&mut self, key: &str, value: &Value) -> Result<(), String> {
        let values = match value {
            Value::Array(values) => values.iter().map(scalar).collect(),
            value => scalar(value).map(|value| vec![value]),
        };
        let Some(values) = values else {
            return Err(format!(
                "{}: {key} must be a text, a number, true or false, or a list of them",
                self.path.display()
            ));
        };
        self.values.insert(key.to_owned(), values);
        Ok(())
    }

    fn unknown<'a>(
        &self,
        place: &str,
        key: &str,
        known: impl IntoIterator<Item = &'a str>,
    ) -> String {
        let mut known: Vec<(usize, &str)> = known
            .into_iter()
            .map(|known| (strsim::damerau_levenshtein(known, key), known))
            .collect();
        known.sort_unstable();
        let meant = known
            .first()
            .filter(|(distance, known)| *distance <= 1 + known.len() / 4)
            .map_or_else(String::new, |(_, known)| format!(". Did you mean {known}?"));
        format!(
            "{}: there is no setting {key} {place}{meant}",
            self.path.display()
        )
    }
}

/// A value as it would stand on the command line.
fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Integer(number) => Some(number.to_string()),
        Value::Float(number) => Some(number.to_string()),
        Value::Boolean(truth) => Some(truth.to_string()),
        Value::Datetime(time) => Some(time.to_string()),
        Value::Array(_) | Value::Table(_) => None,
    }
}

/// A mistake in TOML with its line.
fn located(error: &toml::de::Error, text: &str) -> String {
    let line = error.span().map(|span| {
        let before = text.get(..span.start).unwrap_or(text);
        before.matches('\n').count() + 1
    });
    match line {
        Some(line) => format!("line {line}: {}", error.message()),
        None => error.message().to_owned(),
    }
}
