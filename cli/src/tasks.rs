//! `tasker-ctl task`.

use std::path::Path;

use chrono::Utc;
use serde::Serialize;
use serde_json::value::RawValue;
use tasker_client::{Client, NewTask, Step, Task, TaskFilter};
use uuid::Uuid;

use crate::failure::Failure;
use crate::options::{CreateOptions, ListOptions, TaskCommand};
use crate::output::{self, Output};
use crate::{templates, watch};

#[derive(Serialize)]
struct Created {
    task_uuid: Uuid,
    created: bool,
}

#[derive(Serialize)]
struct Cancelled {
    task_uuid: Uuid,
    cancelled: bool,
}

#[derive(Serialize)]
struct TaskWithSteps {
    #[serde(flatten)]
    task: Task,
    steps: Vec<Step>,
}

pub(crate) async fn run(
    command: TaskCommand,
    client: &Client,
    output: Output,
) -> Result<(), Failure> {
    match command {
        TaskCommand::Create(options) => create(client, *options, output).await,
        TaskCommand::Get { task_uuid } => get(client, task_uuid, output).await,
        TaskCommand::List(options) => list(client, options, output).await,
        TaskCommand::Watch { task_uuid } => watch::run(client, task_uuid, output).await,
        TaskCommand::Cancel { task_uuid, reason } => {
            cancel(client, task_uuid, reason.as_deref(), output).await
        }
    }
}

async fn create(client: &Client, options: CreateOptions, output: Output) -> Result<(), Failure> {
    let watched = options.watch;
    let new = NewTask {
        template_name: options.template,
        namespace: options.namespace,
        context: options.context.as_deref().map(context_of).transpose()?,
        version: options.version,
        idempotency_key: options.idempotency_key,
        priority: options.priority,
        run_at: options.run_at,
        correlation_id: options.correlation_id,
        parent_correlation_id: None,
        tags: options.tags,
        initiator: options.initiator,
        source_system: options.source_system,
        reason: options.reason,
    };
    for answer in client.create_tasks(&[new]).await? {
        let created = Created {
            task_uuid: answer.task_uuid,
            created: answer.created,
        };
        if !created.created {
            eprintln!("this idempotency key was used before: the task exists");
        }
        if watched {
            return watch::run(client, created.task_uuid, output).await;
        }
        // The bare UUID, so that a shell can keep it in a variable.
        output.show(&created, || created.task_uuid.to_string())?;
    }
    Ok(())
}

fn context_of(argument: &str) -> Result<Box<RawValue>, Failure> {
    json_given("the context", argument)
}

/// A JSON document, or `@file`, or `@-` for standard input.
pub(crate) fn json_argument(
    what: &str,
    argument: Option<&str>,
) -> Result<Option<Box<RawValue>>, Failure> {
    argument.map(|given| json_given(what, given)).transpose()
}

/// The same where it must be given.
pub(crate) fn json_given(what: &str, argument: &str) -> Result<Box<RawValue>, Failure> {
    let text = match argument.strip_prefix('@') {
        Some(file) => templates::read(Path::new(file))?,
        None => argument.to_owned(),
    };
    json_of(what, text)
}

/// A text that has to be a JSON document.
pub(crate) fn json_of(what: &str, text: String) -> Result<Box<RawValue>, Failure> {
    RawValue::from_string(text).map_err(|source| Failure::NotJson {
        what: what.to_owned(),
        source,
    })
}

async fn get(client: &Client, task_uuid: Uuid, output: Output) -> Result<(), Failure> {
    let task = client.get_task(task_uuid).await?;
    let steps = client.list_steps(task_uuid).await?;
    let shown = TaskWithSteps { task, steps };
    output.show(&shown, || {
        format!(
            "{}\n\n{}",
            task_fields(&shown.task),
            steps_table(&shown.steps)
        )
    })
}

fn task_fields(task: &Task) -> String {
    output::fields([
        ("task", Some(task.task_uuid.to_string())),
        (
            "template",
            Some(format!(
                "{}/{} {}",
                task.namespace, task.template_name, task.template_version
            )),
        ),
        ("state", Some(task.state.clone())),
        ("steps", Some(steps_count(task))),
        ("context", Some(task.context.get().to_owned())),
        (
            "priority",
            (task.priority != 0).then(|| task.priority.to_string()),
        ),
        (
            "tags",
            (!task.tags.is_empty()).then(|| task.tags.join(", ")),
        ),
        (
            "correlation_id",
            task.correlation_id.map(|id| id.to_string()),
        ),
        (
            "parent_correlation_id",
            task.parent_correlation_id.map(|id| id.to_string()),
        ),
        ("idempotency_key", task.idempotency_key.clone()),
        ("initiator", task.initiator.clone()),
        ("source_system", task.source_system.clone()),
        ("reason", task.reason.clone()),
        ("run_at", task.run_at.map(output::time)),
        ("created", Some(output::time(task.created_at))),
        ("finished", task.finished_at.map(output::time)),
        ("duration", Some(task_duration(task))),
        (
            "error",
            task.error.as_ref().map(|error| error.get().to_owned()),
        ),
    ])
}

fn steps_count(task: &Task) -> String {
    let failed = if task.steps_failed > 0 {
        format!(", {} failed", task.steps_failed)
    } else {
        String::new()
    };
    format!("{}/{}{failed}", task.steps_done, task.steps_total)
}

fn task_duration(task: &Task) -> String {
    output::duration(task.finished_at.unwrap_or_else(Utc::now) - task.created_at)
}

fn steps_table(steps: &[Step]) -> String {
    let rows = steps.iter().map(|step| {
        let outcome = step
            .error
            .as_ref()
            .or(step.result.as_ref())
            .map(|json| json.get().to_owned());
        [
            step.name.clone(),
            step.state.clone(),
            format!("{}/{}", step.attempts_used, step.max_attempts),
            watch::step_duration(step, Utc::now())
                .map(output::duration)
                .unwrap_or_default(),
            step.dependencies.join(", "),
            outcome.map(|text| shortened(&text)).unwrap_or_default(),
        ]
    });
    output::table(
        [
            "STEP",
            "STATE",
            "ATTEMPTS",
            "DURATION",
            "AFTER",
            "RESULT OR ERROR",
        ],
        rows,
    )
}

/// A long result would push the table apart; `--output json` has it whole.
fn shortened(text: &str) -> String {
    const LONGEST: usize = 80;
    if text.chars().count() <= LONGEST {
        return text.to_owned();
    }
    text.chars().take(LONGEST - 1).chain(['…']).collect()
}

async fn list(client: &Client, options: ListOptions, output: Output) -> Result<(), Failure> {
    let some = |words: Vec<String>| (!words.is_empty()).then_some(words);
    let filter = TaskFilter {
        namespace: options.namespace,
        template_name: options.template,
        states: some(options.states),
        tags: some(options.tags),
        context_contains: options
            .context_contains
            .map(|text| json_of("--context-contains", text))
            .transpose()?,
        created_after: options.created_after,
        created_before: options.created_before,
        after: options.after,
        limit: Some(options.limit),
    };
    let tasks = client.list_tasks(&filter).await?;
    output.show(&tasks, || {
        let rows = tasks.iter().map(|task| {
            [
                task.task_uuid.to_string(),
                format!("{}/{}", task.namespace, task.template_name),
                task.template_version.clone(),
                task.state.clone(),
                steps_count(task),
                output::time(task.created_at),
                task_duration(task),
            ]
        });
        output::table(
            [
                "TASK", "TEMPLATE", "VERSION", "STATE", "STEPS", "CREATED", "DURATION",
            ],
            rows,
        )
    })
}

async fn cancel(
    client: &Client,
    task_uuid: Uuid,
    reason: Option<&str>,
    output: Output,
) -> Result<(), Failure> {
    let cancelled = Cancelled {
        task_uuid,
        cancelled: client.cancel_task(task_uuid, reason).await?,
    };
    output.show(&cancelled, || {
        let outcome = if cancelled.cancelled {
            "cancelled"
        } else {
            "cancelled before"
        };
        format!("{task_uuid} {outcome}")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_context_that_is_not_json_is_an_invalid_input() {
        assert!(matches!(context_of("{n: 3"), Err(Failure::NotJson { .. })));
        assert!(matches!(
            context_of("@/no/such/file"),
            Err(Failure::File { .. })
        ));
    }

    #[test]
    fn numbers_in_a_context_keep_every_digit() {
        let context = context_of(r#"{"n":123456789012345678901234567890.10}"#).expect("JSON");
        assert_eq!(context.get(), r#"{"n":123456789012345678901234567890.10}"#);
    }

    #[test]
    fn a_long_result_is_cut_by_characters_and_not_by_bytes() {
        let cut = shortened(&"é".repeat(100));
        assert_eq!(cut.chars().count(), 80);
    }
}
