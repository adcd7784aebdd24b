//! An application's calls over SQL and over REST, and what they come to, so that it can be compared.

use std::collections::HashMap;
use std::fmt::Write;

use anyhow::ensure;
use serde::Serialize;
use serde_json::Value;
use serde_json::value::{RawValue, to_raw_value};
use tasker_client::{Client, Error, NewTask, Tasker};
use uuid::Uuid;

use crate::by_hand::register;
use crate::database::TestDatabase;
use crate::program::Server;

/// Over what an application calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Door {
    /// The database.
    Sql,
    /// A server.
    Rest,
}

/// Both.
pub const DOORS: [Door; 2] = [Door::Sql, Door::Rest];

/// A database of a test's own, and the application's door to it.
#[derive(Debug)]
pub struct Application {
    /// The application's.
    pub tasker: Tasker,
    /// The server, where it is called.
    pub server: Option<Server>,
    /// The database.
    pub database: TestDatabase,
}

impl Application {
    /// A database with nothing but Tasker in it.
    pub async fn new(door: Door) -> anyhow::Result<Self> {
        Self::within(TestDatabase::new().await?, door).await
    }

    /// The door to a database.
    pub async fn within(database: TestDatabase, door: Door) -> anyhow::Result<Self> {
        let (server, tasker) = match door {
            Door::Sql => (None, Tasker::from(database.client().clone())),
            Door::Rest => {
                let server = Server::start(database.url(), &[]).await?;
                let tasker = Tasker::connect(&server.url).await?;
                (Some(server), tasker)
            }
        };
        Ok(Self {
            tasker,
            server,
            database,
        })
    }

    /// The client of the database, for what isn't the application's.
    #[must_use]
    pub fn client(&self) -> &Client {
        self.database.client()
    }
}

/// Makes the same calls over both doors, each in a database of its own with some templates, requires the same answers, and gives them.
pub async fn alike(
    templates: &[&str],
    calls: impl AsyncFn(&Application, &mut Transcript) -> anyhow::Result<()>,
) -> anyhow::Result<Vec<String>> {
    let mut transcripts = Vec::new();
    for door in DOORS {
        let application = Application::new(door).await?;
        register(application.client(), templates).await?;
        let mut transcript = Transcript::default();
        calls(&application, &mut transcript).await?;
        transcripts.push(transcript.lines);
    }
    let rest = transcripts.pop().unwrap_or_default();
    let sql = transcripts.pop().unwrap_or_default();
    ensure!(
        !sql.is_empty() && sql.len() == rest.len(),
        "{sql:#?} {rest:#?}"
    );
    for (sql, rest) in sql.iter().zip(&rest) {
        ensure!(sql == rest, "over SQL {sql}\nover REST {rest}");
    }
    Ok(sql)
}

/// Requires that a call was answered with something that has this text in it.
pub fn has(lines: &[String], call: &str, text: &str) -> anyhow::Result<()> {
    let mut answers = lines
        .iter()
        .filter(|line| line.starts_with(&format!("{call}: ")));
    ensure!(
        answers.any(|line| line.contains(text)),
        "{call} has no {text}: {lines:#?}"
    );
    Ok(())
}

/// What an application was answered, written so that it is the same for the same calls in another database.
#[derive(Debug, Default)]
pub struct Transcript {
    /// A line for each answer.
    pub lines: Vec<String>,
    names: HashMap<Uuid, usize>,
}

impl Transcript {
    /// Notes an answer, or what was refused in full.
    pub fn note<T: Serialize>(&mut self, call: &str, answer: &Result<T, Error>) {
        let said = match answer {
            Ok(answer) => match serde_json::to_value(answer) {
                Ok(mut value) => {
                    without_times(&mut value);
                    value.to_string()
                }
                Err(error) => error.to_string(),
            },
            Err(error) => match error.details() {
                Some(details) => format!("{} {details:?}", kind(error)),
                None => format!("{error:?}"),
            },
        };
        self.write(call, &said);
    }

    /// Notes the kind and the code of a refusal only, where the two doors refuse in their own words.
    pub fn note_code<T: std::fmt::Debug>(&mut self, call: &str, answer: &Result<T, Error>) {
        let said = match answer {
            Ok(answer) => format!("{answer:?}"),
            Err(error) => format!("{} {:?}", kind(error), error.code()),
        };
        self.write(call, &said);
    }

    fn write(&mut self, call: &str, said: &str) {
        let said = self.without_keys(said);
        self.lines.push(format!("{call}: {said}"));
    }

    /// With each key told by its place among those that were met.
    fn without_keys(&mut self, text: &str) -> String {
        const LENGTH: usize = 36;
        let mut written = String::with_capacity(text.len());
        let mut rest = text;
        while !rest.is_empty() {
            let key = rest.get(..LENGTH).and_then(|key| Uuid::try_parse(key).ok());
            if let Some(key) = key {
                let next = self.names.len() + 1;
                let name = self.names.entry(key).or_insert(next);
                let _ = write!(written, "#{name}");
                rest = &rest[LENGTH..];
            } else {
                let length = rest.chars().next().map_or(1, char::len_utf8);
                written.push_str(&rest[..length]);
                rest = &rest[length..];
            }
        }
        written
    }
}

/// The variant's name.
fn kind(error: &Error) -> String {
    let debug = format!("{error:?}");
    debug
        .split(['(', ' '])
        .next()
        .unwrap_or_default()
        .to_owned()
}

fn without_times(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                if (name == "at" || name.ends_with("_at")) && value.is_string() {
                    *value = Value::from("a time");
                }
                without_times(value);
            }
        }
        Value::Array(items) => items.iter_mut().for_each(without_times),
        _ => {}
    }
}

/// A document as it is sent.
pub fn json(document: &Value) -> anyhow::Result<Box<RawValue>> {
    Ok(to_raw_value(document)?)
}

/// A task of a template in the namespace `default`.
#[must_use]
pub fn of(template: &str) -> NewTask {
    NewTask {
        template_name: template.to_owned(),
        ..NewTask::default()
    }
}
