//! `tasker-ctl step`.

use clap::{Args, Subcommand};
use serde::Serialize;
use tasker_client::{Client, Details, Error, Step};
use uuid::Uuid;

use crate::failure::Failure;
use crate::output::{self, Output};
use crate::tasks::{history_table, json_given, step_duration_text};

#[derive(Debug, Subcommand)]
pub(crate) enum StepCommand {
    /// Show a step
    #[command(after_help = "Examples:
  tasker-ctl step get 019a8b1c-6f60-7a00-8000-000000000003
  tasker-ctl step get ship_order --task 019a8b1c-6f60-7a00-8000-000000000000 -o json")]
    Get(StepName),
    /// Let a failed step be tried again from its first attempt
    #[command(after_help = "Example:
  tasker-ctl step reset ship_order --task 019a8b1c-6f60-7a00-8000-000000000000 --reason 'the provider is up again'")]
    Reset(Repair),
    /// Settle a step that failed or hasn't ended, without a result
    #[command(after_help = "Example:
  tasker-ctl step resolve send_mail --task 019a8b1c-6f60-7a00-8000-000000000000 --reason 'told by phone'")]
    Resolve(Repair),
    /// Complete a step that failed or hasn't ended, with a result given by hand
    #[command(after_help = "Example:
  tasker-ctl step complete charge_card --task 019a8b1c-6f60-7a00-8000-000000000000 '{\"payment_id\": \"p-7\"}'")]
    Complete {
        #[command(flatten)]
        step: StepName,
        /// A JSON document, @FILE to read it from a file, @- from standard input
        #[arg(value_name = "JSON|@FILE")]
        result: String,
        /// Why; kept in the step's history
        #[arg(long)]
        reason: Option<String>,
    },
    /// Show every transition of a step
    #[command(after_help = "Example:
  tasker-ctl step history ship_order --task 019a8b1c-6f60-7a00-8000-000000000000")]
    History(StepName),
}

#[derive(Debug, Args)]
pub(crate) struct StepName {
    /// The step's UUID; with --task, its name
    step: String,
    /// The task of a step that is given by its name
    #[arg(long, value_name = "UUID")]
    task: Option<Uuid>,
}

#[derive(Debug, Args)]
pub(crate) struct Repair {
    #[command(flatten)]
    step: StepName,
    /// Why; kept in the step's history
    #[arg(long)]
    reason: Option<String>,
}

/// What became of a step, in brief.
#[derive(Serialize)]
struct Repaired {
    step_uuid: Uuid,
    task_uuid: Uuid,
    name: String,
    state: String,
}

pub(crate) async fn run(
    command: StepCommand,
    client: &Client,
    output: Output,
) -> Result<(), Failure> {
    match command {
        StepCommand::Get(step) => {
            let step = client.get_step(uuid_of(client, &step).await?).await?;
            output.show(&step, || step_fields(&step))
        }
        StepCommand::History(step) => {
            let rows = client.step_history(uuid_of(client, &step).await?).await?;
            output.show(&rows, || history_table(&rows, output))
        }
        StepCommand::Reset(Repair { step, reason }) => {
            let step_uuid = uuid_of(client, &step).await?;
            client.reset_step(step_uuid, reason.as_deref()).await?;
            repaired(client, step_uuid, output).await
        }
        StepCommand::Resolve(Repair { step, reason }) => {
            let step_uuid = uuid_of(client, &step).await?;
            client.resolve_step(step_uuid, reason.as_deref()).await?;
            repaired(client, step_uuid, output).await
        }
        StepCommand::Complete {
            step,
            result,
            reason,
        } => {
            let result = json_given("the result", &result)?;
            let step_uuid = uuid_of(client, &step).await?;
            client
                .complete_step_manually(step_uuid, &result, reason.as_deref())
                .await?;
            repaired(client, step_uuid, output).await
        }
    }
}

/// The key of a step that is given by its key, or by its name within a task.
async fn uuid_of(client: &Client, given: &StepName) -> Result<Uuid, Failure> {
    let name = given.step.as_str();
    let Some(task_uuid) = given.task else {
        return name.parse().map_err(|_| {
            Failure::Usage(format!(
                "{name} isn't a UUID: a step is named with --task TASK_UUID"
            ))
        });
    };
    let key = name.parse::<Uuid>().ok();
    let steps = client.list_steps(task_uuid).await?;
    let found = steps
        .iter()
        .find(|step| step.name == name || Some(step.step_uuid) == key);
    found.map(|step| step.step_uuid).ok_or_else(|| {
        Failure::Client(Error::NotFound(Details {
            code: "TK002".to_owned(),
            message: format!("task {task_uuid} has no step {name}"),
            detail: None,
            hint: Some("`tasker-ctl task steps` lists the steps that it has.".to_owned()),
        }))
    })
}

async fn repaired(client: &Client, step_uuid: Uuid, output: Output) -> Result<(), Failure> {
    let step = client.get_step(step_uuid).await?;
    let answer = Repaired {
        step_uuid,
        task_uuid: step.task_uuid,
        name: step.name,
        state: step.state,
    };
    output.show(&answer, || format!("{} {}", answer.name, answer.state))
}

fn step_fields(step: &Step) -> String {
    let json = |json: &Option<Box<serde_json::value::RawValue>>| {
        json.as_ref().map(|json| json.get().to_owned())
    };
    let after = (!step.dependencies.is_empty()).then(|| step.dependencies.join(", "));
    let attempts = format!("{} of {}", step.attempts_used, step.max_attempts);
    output::fields([
        ("step", Some(step.step_uuid.to_string())),
        ("task", Some(step.task_uuid.to_string())),
        ("name", Some(step.name.clone())),
        ("type", Some(step.r#type.clone())),
        ("instance", step.instance.map(|number| number.to_string())),
        ("state", Some(step.state.clone())),
        ("attempts", Some(attempts)),
        ("after", after),
        ("handler", json(&step.handler)),
        ("inputs", json(&step.inputs)),
        ("result", json(&step.result)),
        ("error", json(&step.error)),
        ("checkpoint", json(&step.checkpoint)),
        ("worker", step.worker_id.clone()),
        ("lease_expires", step.lease_expires_at.map(output::time)),
        ("retry", step.retry_at.map(output::time)),
        ("created", Some(output::time(step.created_at))),
        ("enqueued", step.enqueued_at.map(output::time)),
        ("started", step.started_at.map(output::time)),
        ("finished", step.finished_at.map(output::time)),
        (
            "duration",
            Some(step_duration_text(step)).filter(|text| !text.is_empty()),
        ),
        ("child_task", step.child_task_uuid.map(|id| id.to_string())),
    ])
}
