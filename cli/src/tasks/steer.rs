//! Tasks cancelled, paused, resumed, run anew and signalled.

use serde::Serialize;
use tasker_client::Client;
use uuid::Uuid;

use super::json_argument;
use super::options::{CancelOptions, RerunOptions};
use crate::failure::Failure;
use crate::output::Output;

#[derive(Serialize)]
struct Cancelled {
    task_uuid: Uuid,
    cancelled: bool,
}

#[derive(Serialize)]
struct Paused {
    task_uuid: Uuid,
    paused: bool,
}

#[derive(Serialize)]
struct Resumed {
    task_uuid: Uuid,
    resumed: bool,
}

#[derive(Serialize)]
struct Rerun {
    task_uuid: Uuid,
    state: String,
}

#[derive(Serialize)]
struct SignalAnswer {
    task_uuid: Uuid,
    name: String,
    sent: bool,
}

pub(super) async fn cancel(
    client: &Client,
    options: CancelOptions,
    output: Output,
) -> Result<(), Failure> {
    let task_uuid = options.task.task_uuid;
    let how = tasker_client::CancelOptions {
        reason: options.reason.as_deref(),
        compensate: options.compensate,
    };
    let cancelled = client.cancel_task_with(task_uuid, how).await?;
    // What is undone takes its time.
    let is_undone =
        options.compensate && cancelled && client.get_task(task_uuid).await?.finished_at.is_none();
    let outcome = match cancelled {
        true if is_undone => "will be cancelled: first what it did is undone",
        true => "cancelled",
        false => "cancelled before",
    };
    let answer = Cancelled {
        task_uuid,
        cancelled,
    };
    output.show(&answer, || format!("{task_uuid} {outcome}"))
}

pub(super) async fn pause(
    client: &Client,
    task_uuid: Uuid,
    reason: Option<&str>,
    output: Output,
) -> Result<(), Failure> {
    let paused = client.pause_task(task_uuid, reason).await?;
    let outcome = if paused { "paused" } else { "paused before" };
    let answer = Paused { task_uuid, paused };
    output.show(&answer, || format!("{task_uuid} {outcome}"))
}

pub(super) async fn resume(
    client: &Client,
    task_uuid: Uuid,
    output: Output,
) -> Result<(), Failure> {
    let resumed = client.resume_task(task_uuid).await?;
    let outcome = if resumed { "resumed" } else { "was not paused" };
    let answer = Resumed { task_uuid, resumed };
    output.show(&answer, || format!("{task_uuid} {outcome}"))
}

pub(super) async fn rerun(
    client: &Client,
    options: RerunOptions,
    output: Output,
) -> Result<(), Failure> {
    let task_uuid = options.task.task_uuid;
    let what = tasker_client::RerunOptions {
        from_step: options.from_step,
        with_descendants: !options.without_descendants,
        context: json_argument("the context", options.context.as_deref())?,
    };
    client.rerun_task(task_uuid, &what).await?;
    let state = client.get_task(task_uuid).await?.state;
    let answer = Rerun { task_uuid, state };
    output.show(&answer, || format!("{task_uuid} {}", answer.state))
}

pub(super) async fn signal(
    client: &Client,
    task_uuid: Uuid,
    name: String,
    payload: Option<&str>,
    output: Output,
) -> Result<(), Failure> {
    let payload = json_argument("the payload", payload)?;
    let sent = client
        .send_signal(task_uuid, &name, payload.as_deref())
        .await?;
    let answer = SignalAnswer {
        task_uuid,
        name,
        sent,
    };
    output.show(&answer, || {
        let outcome = if sent {
            "sent"
        } else {
            "sent before; that payload stays"
        };
        format!("{task_uuid} {} {outcome}", answer.name)
    })
}
