//! The start of tasks: their steps, a message for each that is ready, the first rows of history.

use std::rc::Rc;

use pgrx::datum::TimestampWithTimeZone;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::{Uuid, pg_extern, pg_sys};
use tasker_rules::history::{Steps, Tasks, encode};
use tasker_rules::key::{number_of, step_key};
use tasker_rules::step_state::{StepEvent, StepState};
use tasker_rules::task_state::{TaskEvent, TaskState};

use super::changes::{self, Recorded};
use super::messages::{self, Sent};
use super::rows::{self, Locking};
use super::settle::Work;
use super::{Call, graphs, late, refusable, tasks};
use crate::compiled::{self, Kept};
use crate::error::Error;
use crate::keys;
use crate::partitions::{self, Partition};
use crate::statements::Statement;
use crate::values::{Value, int4, int8, uuid};

/// A task that starts; its row says so already.
pub(super) struct Starting {
    pub(super) task: u128,
    pub(super) kept: Rc<Kept>,
    pub(super) priority: i32,
    pub(super) correlation_id: u128,
}

const INSERT_STEPS: Statement = Statement {
    name: "insert_steps",
    text: "insert into {} (step_uuid, template_id, state, remaining_dependencies, msg_id, created_at, enqueued_at)
           select u.step_uuid, u.template_id, case when u.msg_id is null then 'pending' else 'enqueued' end, u.remaining, u.msg_id, $2,
             case when u.msg_id is not null then $2 end
           from pg_catalog.unnest($1) u",
    rows: Some(c"_new_step"),
    parameters: &[pg_sys::TIMESTAMPTZOID],
};

/// Makes the steps of tasks in one partition, sends a message for each that is ready, and wakes the workers. A task without steps is complete as it starts.
pub(super) fn start(
    call: &Call,
    partition: &Partition,
    starting: &[Starting],
) -> Result<(), Error> {
    record_starts(call, partition, starting)?;
    make_steps(call, partition, starting)
}

fn make_steps(call: &Call, partition: &Partition, starting: &[Starting]) -> Result<(), Error> {
    let mut sent = Vec::new();
    let mut waiting = Vec::new();
    for task in starting {
        for step in task.kept.template.first_steps() {
            let step_key = step_key(task.task, step.number).unwrap_or_default();
            if step.details.is_run_by_engine() {
                waiting.push(step_key);
                continue;
            }
            sent.push(Sent {
                kept: task.kept.clone(),
                step: step_key,
                attempt: 0,
                handler: step.callable.clone(),
                priority: task.priority,
                correlation_id: task.correlation_id,
                visible_at: call.now,
            });
        }
    }
    messages::spread(call, &mut sent);
    let ids = messages::send(call, &sent, &vec![None; sent.len()])?;
    insert_steps(call, partition, starting, &ids)?;

    let path = encode::<Steps>(StepState::Pending, &[StepEvent::Enqueue]);
    let recorded: Vec<Recorded> = sent
        .iter()
        .map(|sent| Recorded {
            step: sent.step,
            attempt: 0,
            path: &path,
            metadata: None,
        })
        .collect();
    changes::record(call, &partition.step_transitions, &recorded)?;
    let mut namespaces: Vec<&str> = sent
        .iter()
        .map(|sent| sent.kept.template.namespace.as_str())
        .collect();
    namespaces.dedup();
    namespaces.into_iter().for_each(messages::wake);
    if waiting.is_empty() {
        return Ok(());
    }
    begin_to_wait(call, waiting)
}

/// The first rows of the history of tasks.
fn record_starts(call: &Call, partition: &Partition, starting: &[Starting]) -> Result<(), Error> {
    let with_steps = encode::<Tasks>(
        TaskState::Pending,
        &[
            TaskEvent::Start,
            TaskEvent::ReadyStepsFound,
            TaskEvent::StepsEnqueued,
        ],
    );
    let without = encode::<Tasks>(
        TaskState::Pending,
        &[TaskEvent::Start, TaskEvent::NoStepsFound],
    );
    let with_waits = encode::<Tasks>(
        TaskState::Pending,
        &[TaskEvent::Start, TaskEvent::NoDependenciesReady],
    );
    let paths: Vec<(u128, &str)> = starting
        .iter()
        .map(|task| {
            let path = match state_of(&task.kept) {
                TaskState::Complete => &without,
                TaskState::WaitingForDependencies => &with_waits,
                _ => &with_steps,
            };
            (task.task, path.as_str())
        })
        .collect();
    tasks::record(call, &partition.task_transitions, &paths)
}

/// How a task stands when it has started.
pub(super) fn state_of(kept: &Kept) -> TaskState {
    if kept.template.steps.is_empty() {
        TaskState::Complete
    } else if kept
        .template
        .first_steps()
        .all(|step| step.details.is_run_by_engine())
    {
        TaskState::WaitingForDependencies
    } else {
        TaskState::StepsInProcess
    }
}

/// First steps that the engine runs itself; their rows are pending.
fn begin_to_wait(call: &Call, steps: Vec<u128>) -> Result<(), Error> {
    let mut work = Work::default();
    for row in rows::read(call.session, steps, Locking::Held)? {
        work.late.of(&row, number_of(row.key));
    }
    late::settle(call, &mut work, None)?;
    tasks::advance(call, &work.deltas)
}

/// The ids of messages are in the order of the ready steps.
fn insert_steps(
    call: &Call,
    partition: &Partition,
    starting: &[Starting],
    ids: &[i64],
) -> Result<(), Error> {
    let mut ids = ids.iter().copied();
    let mut rows = Vec::new();
    for task in starting {
        for step in &task.kept.template.steps {
            let id = if step.initial_dependencies == 0 && !step.details.is_run_by_engine() {
                ids.next()
            } else {
                None
            };
            rows.push([
                uuid(step_key(task.task, step.number).unwrap_or_default()),
                int4(task.kept.id),
                int4(step.initial_dependencies as i32),
                id.and_then(int8),
            ]);
        }
    }
    if rows.is_empty() {
        return Ok(());
    }
    let values = [
        Value::rows(c"_new_step", rows.into_iter()),
        Value::time(call.now),
    ];
    call.session.run(&INSERT_STEPS, &partition.steps, &values)
}

/// Starts tasks whose rows say that they have started; gives how it refuses, if it does.
#[pg_extern(volatile, parallel_unsafe)]
fn _start_tasks(
    task_uuids: Vec<Uuid>,
    now: TimestampWithTimeZone,
    actor: &str,
) -> Result<Option<Vec<Option<String>>>, ErrorReport> {
    refusable(now, actor, |call| each_partition(call, &task_uuids, start))
}

/// Starts a task that ended before it had started, and is rerun; its row and its history say so. Gives how it refuses, if it does.
#[pg_extern(volatile, parallel_unsafe)]
fn _start_after_all(
    task_uuid: Uuid,
    now: TimestampWithTimeZone,
    actor: &str,
) -> Result<Option<Vec<Option<String>>>, ErrorReport> {
    refusable(now, actor, |call| {
        each_partition(call, &[task_uuid], make_steps)
    })
}

fn each_partition(
    call: &Call,
    task_uuids: &[Uuid],
    start: fn(&Call, &Partition, &[Starting]) -> Result<(), Error>,
) -> Result<(), Error> {
    let tasks: Vec<u128> = task_uuids.iter().map(keys::number).collect();
    let facts = graphs::facts(call.session, tasks.iter().copied())?;
    let starting = facts
        .into_iter()
        .map(|(task, facts)| {
            Ok(Starting {
                task,
                kept: compiled::template(facts.template_id)?,
                priority: facts.priority,
                correlation_id: facts.correlation_id,
            })
        })
        .collect::<Result<Vec<_>, Error>>()?;
    for (partition, starting) in
        partitions::group(call.session, starting, |starting| starting.task)?
    {
        start(call, &partition, &starting)?;
    }
    Ok(())
}
