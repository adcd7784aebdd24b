//! `tasker-ctl task`.

mod graph;
mod options;
mod shown;
mod steer;

use std::path::Path;

use serde::Serialize;
use serde_json::value::RawValue;
use tasker_client::{Client, NewTask, Step, Task, TaskFilter};
use uuid::Uuid;

use crate::failure::Failure;
use crate::output::Output;
use crate::{templates, watch};

pub(crate) use options::TaskCommand;
use options::{CreateOptions, ListOptions};
pub(crate) use shown::{history_table, step_duration_text};

#[derive(Serialize)]
struct Created {
    task_uuid: Uuid,
    created: bool,
}

#[derive(Serialize)]
struct TaskWithSteps {
    #[serde(flatten)]
    task: Task,
    steps: Vec<Step>,
}

/// Runs a command; with `follow`, a task that is created is followed until it ends.
pub(crate) async fn run(
    command: TaskCommand,
    client: &Client,
    output: Output,
    follow: bool,
) -> Result<(), Failure> {
    match command {
        TaskCommand::Create(options) => create(client, *options, output, follow).await,
        TaskCommand::Get(task) => get(client, task.task_uuid, output).await,
        TaskCommand::List(options) => list(client, options, output).await,
        TaskCommand::Watch(task) => Box::pin(watch::run(client, task.task_uuid, output)).await,
        TaskCommand::Steps(task) => {
            let steps = client.list_steps(task.task_uuid).await?;
            output.show(&steps, || shown::steps_table(&steps, output))
        }
        TaskCommand::Graph(options) => graph::run(client, &options, output).await,
        TaskCommand::History(task) => {
            let rows = client.task_history(task.task_uuid).await?;
            output.show(&rows, || history_table(&rows, output))
        }
        TaskCommand::Explain(task) => {
            let rows = client.explain_task(task.task_uuid).await?;
            output.show(&rows, || shown::explanations(&rows, output))
        }
        TaskCommand::Signals(task) => {
            let signals = client.list_signals(task.task_uuid).await?;
            output.show(&signals, || shown::signals_table(&signals))
        }
        TaskCommand::Compensations(task) => {
            let rows = client.list_compensations(task.task_uuid).await?;
            output.show(&rows, || shown::compensations_table(&rows, output))
        }
        TaskCommand::Cancel(options) => steer::cancel(client, options, output).await,
        TaskCommand::Pause { task, reason } => {
            steer::pause(client, task.task_uuid, reason.as_deref(), output).await
        }
        TaskCommand::Resume(task) => steer::resume(client, task.task_uuid, output).await,
        TaskCommand::Rerun(options) => steer::rerun(client, options, output).await,
        TaskCommand::Signal {
            task,
            name,
            payload,
        } => steer::signal(client, task.task_uuid, name, payload.as_deref(), output).await,
    }
}

async fn create(
    client: &Client,
    options: CreateOptions,
    output: Output,
    follow: bool,
) -> Result<(), Failure> {
    let new = NewTask {
        template_name: options.template,
        namespace: options.namespace,
        context: json_argument("the context", options.context.as_deref())?,
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
        if follow {
            return Box::pin(watch::run(client, created.task_uuid, output)).await;
        }
        // The bare UUID, so that a shell can keep it in a variable.
        output.show(&created, || created.task_uuid.to_string())?;
    }
    Ok(())
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
            shown::task_fields(&shown.task),
            shown::steps_table(&shown.steps, output)
        )
    })
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
    output.show(&tasks, || shown::tasks_table(&tasks, output))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_context_that_is_not_json_is_an_invalid_input() {
        let argument = |text| json_argument("the context", Some(text));
        assert!(matches!(argument("{n: 3"), Err(Failure::NotJson { .. })));
        assert!(matches!(
            argument("@/no/such/file"),
            Err(Failure::File { .. })
        ));
        assert!(matches!(json_argument("the context", None), Ok(None)));
    }

    #[test]
    fn numbers_in_a_context_keep_every_digit() {
        let text = r#"{"n":123456789012345678901234567890.10}"#;
        let context = json_argument("the context", Some(text)).expect("JSON");
        assert_eq!(
            context.map(|json| json.get().to_owned()).as_deref(),
            Some(text)
        );
    }
}
