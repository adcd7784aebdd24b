//! What is shown of tasks, for people.

use chrono::Utc;
use serde_json::value::RawValue;
use tasker_client::{Compensation, Explanation, HistoryRow, Signal, Step, Task};

use crate::output::{self, Output};
use crate::watch;

pub(super) fn task_fields(task: &Task) -> String {
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
            "parent_task",
            task.parent_task_uuid.map(|id| id.to_string()),
        ),
        (
            "parent_step",
            task.parent_step_uuid.map(|id| id.to_string()),
        ),
        ("traceparent", task.traceparent.clone()),
        ("paused", task.paused_at.map(output::time)),
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

pub(super) fn steps_table(steps: &[Step], output: Output) -> String {
    let rows = steps.iter().map(|step| {
        let outcome = step
            .error
            .as_ref()
            .or(step.result.as_ref())
            .map(|json| json.get().to_owned());
        let row = [
            step.name.clone(),
            step.state.clone(),
            format!("{}/{}", step.attempts_used, step.max_attempts),
            step_duration_text(step),
            step.dependencies.join(", "),
            outcome.map(|text| shortened(&text)).unwrap_or_default(),
        ];
        let child = step.child_task_uuid.map(|id| id.to_string());
        let more = [
            step.r#type.clone(),
            step.step_uuid.to_string(),
            step.worker_id.clone().unwrap_or_default(),
            child.unwrap_or_default(),
        ];
        (row, more)
    });
    output.table(
        [
            "STEP",
            "STATE",
            "ATTEMPTS",
            "DURATION",
            "AFTER",
            "RESULT OR ERROR",
        ],
        ["TYPE", "UUID", "WORKER", "CHILD TASK"],
        rows,
    )
}

/// How long a step's last attempt took or takes, or nothing.
pub(crate) fn step_duration_text(step: &Step) -> String {
    watch::step_duration(step, Utc::now())
        .map(output::duration)
        .unwrap_or_default()
}

/// A long result would push the table apart; `--output json` has it whole.
fn shortened(text: &str) -> String {
    const LONGEST: usize = 80;
    if text.chars().count() <= LONGEST {
        return text.to_owned();
    }
    text.chars().take(LONGEST - 1).chain(['…']).collect()
}

pub(super) fn tasks_table(tasks: &[Task], output: Output) -> String {
    let rows = tasks.iter().map(|task| {
        let row = [
            task.task_uuid.to_string(),
            format!("{}/{}", task.namespace, task.template_name),
            task.template_version.clone(),
            task.state.clone(),
            steps_count(task),
            output::time(task.created_at),
            task_duration(task),
        ];
        let id = |id: Option<uuid::Uuid>| id.map(|id| id.to_string()).unwrap_or_default();
        let more = [
            task.priority.to_string(),
            task.tags.join(", "),
            task.paused_at.map(output::time).unwrap_or_default(),
            id(task.correlation_id),
            id(task.parent_task_uuid),
        ];
        (row, more)
    });
    output.table(
        [
            "TASK", "TEMPLATE", "VERSION", "STATE", "STEPS", "CREATED", "DURATION",
        ],
        ["PRIORITY", "TAGS", "PAUSED", "CORRELATION", "PARENT TASK"],
        rows,
    )
}

/// The history of a task or a step.
pub(crate) fn history_table(rows: &[HistoryRow], output: Output) -> String {
    let rows = rows.iter().map(|row| {
        let attempt = row.attempt.map(|attempt| attempt.to_string());
        let shown = [
            output::time(row.at),
            row.from_state.clone().unwrap_or_default(),
            row.event.clone(),
            row.to_state.clone(),
            attempt.unwrap_or_default(),
            row.actor.clone().unwrap_or_default(),
        ];
        (shown, [json_text(row.metadata.as_deref())])
    });
    output.table(
        ["AT", "FROM", "EVENT", "TO", "ATTEMPT", "BY"],
        ["METADATA"],
        rows,
    )
}

pub(super) fn explanations(rows: &[Explanation], output: Output) -> String {
    if rows.is_empty() {
        return "nothing is left to do, and nothing went wrong".to_owned();
    }
    let rows = rows.iter().map(|row| {
        let shown = [
            row.step_name.clone(),
            row.state.clone(),
            row.explanation.clone(),
        ];
        let id = |id: Option<uuid::Uuid>| id.map(|id| id.to_string()).unwrap_or_default();
        let more = [
            row.reason.clone(),
            row.until.map(output::time).unwrap_or_default(),
            row.worker_id.clone().unwrap_or_default(),
            id(row.step_uuid),
            id(row.dead_letter_uuid),
        ];
        (shown, more)
    });
    output.table(
        ["STEP", "STATE", "WHY"],
        ["REASON", "UNTIL", "WORKER", "UUID", "DEAD LETTER"],
        rows,
    )
}

pub(super) fn signals_table(signals: &[Signal]) -> String {
    let rows = signals.iter().map(|signal| {
        let waiting = if signal.waiting { "yes" } else { "no" };
        [
            signal.name.clone(),
            signal.step_names.join(", "),
            waiting.to_owned(),
            signal.sent_at.map(output::time).unwrap_or_default(),
            signal.sent_by.clone().unwrap_or_default(),
            shortened(&json_text(signal.payload.as_deref())),
        ]
    });
    output::table(
        ["SIGNAL", "STEPS", "AWAITED", "SENT", "BY", "PAYLOAD"],
        rows,
    )
}

pub(super) fn compensations_table(rows: &[Compensation], output: Output) -> String {
    let rows = rows.iter().map(|row| {
        let shown = [
            row.ordinal.to_string(),
            row.name.clone(),
            row.undoes_name.clone(),
            row.state.clone(),
            row.attempts_used.to_string(),
            shortened(&json_text(row.error.as_deref())),
        ];
        let more = [row.step_uuid.to_string(), row.undoes_step_uuid.to_string()];
        (shown, more)
    });
    output.table(
        ["NUMBER", "STEP", "UNDOES", "STATE", "ATTEMPTS", "ERROR"],
        ["UUID", "UNDOES UUID"],
        rows,
    )
}

fn json_text(json: Option<&RawValue>) -> String {
    json.map(|json| json.get().to_owned()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_result_is_cut_by_characters_and_not_by_bytes() {
        let cut = shortened(&"é".repeat(100));
        assert_eq!(cut.chars().count(), 80);
    }
}
