//! A task's counters and what follows from them: the one place where a task's next state is decided.

use std::collections::{BTreeMap, BTreeSet};

use pgrx::pg_sys;
use tasker_rules::history::{Tasks, encode};
use tasker_rules::key;
use tasker_rules::progress::{self, Counters};
use tasker_rules::task_state::{TaskEvent, TaskState};

use super::{Call, compensation};
use crate::compiled;
use crate::edition;
use crate::error::Error;
use crate::event_notices;
use crate::partitions::{self, Partition};
use crate::statements::Statement;
use crate::values::{Value, bool, int4, text, uuid};

/// The net change of one task's counters in one call.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Delta {
    pub(super) running: i32,
    pub(super) waiting_retry: i32,
    pub(super) waiting_engine: i32,
    pub(super) failed: i32,
    /// What set the task in motion, if it isn't a step's completion.
    pub(super) cause: Option<TaskEvent>,
}

/// The changes of a call, by task.
pub(super) type Deltas = BTreeMap<u128, Delta>;

impl Delta {
    fn changes_nothing(self) -> bool {
        self.running == 0
            && self.waiting_retry == 0
            && self.waiting_engine == 0
            && self.failed == 0
            && !self.is_repair()
    }

    /// An operator's doing, which sets a task going again that had ended, and is in its history though its state stays.
    pub(super) fn is_repair(self) -> bool {
        matches!(
            self.cause,
            Some(TaskEvent::StepRepaired | TaskEvent::Reset | TaskEvent::Rerun)
        )
    }
}

/// A task as it is going to be.
pub(super) struct Advanced {
    pub(super) task: u128,
    pub(super) from: TaskState,
    pub(super) to: TaskState,
    pub(super) counters: Counters,
    pub(super) path: String,
    pub(super) is_repair: bool,
    /// What was done is undone from now on, though its state stays.
    pub(super) is_undone: bool,
}

impl Advanced {
    fn has_moved(&self) -> bool {
        self.from != self.to || self.is_repair || self.is_undone
    }
}

const LOCK: Statement = Statement {
    name: "lock_tasks",
    text: "select t.* from pg_catalog.unnest($1) u(task_uuid) cross join lateral (
             select t.task_uuid, t.template_id, t.state, t.running, t.waiting_retry, t.waiting_engine, t.failed
             from {} t where t.task_uuid = u.task_uuid for no key update) t",
    rows: None,
    parameters: &[pg_sys::UUIDARRAYOID],
};

const LOCK_SKIPPING: Statement = Statement {
    name: "lock_tasks_skipping",
    text: "select t.* from pg_catalog.unnest($1) u(task_uuid) cross join lateral (
             select t.task_uuid from {} t where t.task_uuid = u.task_uuid for no key update skip locked) t",
    rows: None,
    parameters: &[pg_sys::UUIDARRAYOID],
};

macro_rules! update_tasks {
    ($more:literal) => {
        concat!(
            "update {} t
           set state = u.state, running = u.running, waiting_retry = u.waiting_retry, failed = u.failed",
            $more,
            ",
             finished_at = case when u.ends then coalesce(t.finished_at, $2) end,
             error = case when u.is_repair then null else t.error end,
             paused_ms = case when u.is_repair then (extract(epoch from $2 - t.started_at) * 1000)::pg_catalog.int8 else t.paused_ms end,
             resumed_at = case when u.is_repair then $2 else t.resumed_at end
           from pg_catalog.unnest($1) u
           where t.task_uuid = u.task_uuid"
        )
    };
}

const UPDATE: Statement = Statement {
    name: "update_tasks",
    text: update_tasks!(""),
    rows: Some(c"_task_change"),
    parameters: &[pg_sys::TIMESTAMPTZOID],
};

/// Where nothing waits inside the engine, its counter isn't named: 0.1.0 knows nothing of it.
const UPDATE_WAITING: Statement = Statement {
    name: "update_waiting_tasks",
    text: update_tasks!(", waiting_engine = u.waiting_engine"),
    rows: Some(c"_task_change"),
    parameters: &[pg_sys::TIMESTAMPTZOID],
};

const RECORD: Statement = Statement {
    name: "record_tasks",
    text: "insert into {} (task_uuid, at, path, actor)
           select u.task_uuid, $2, u.path, $3 from pg_catalog.unnest($1) u",
    rows: Some(c"_task_record"),
    parameters: &[pg_sys::TIMESTAMPTZOID, pg_sys::TEXTOID],
};

const RECORD_FAILURES: Statement = Statement {
    name: "record_failures",
    text: "select {}($1, $2, $3)",
    rows: None,
    parameters: &[
        pg_sys::UUIDARRAYOID,
        pg_sys::TIMESTAMPTZOID,
        pg_sys::TEXTOID,
    ],
};

/// Applies the net change of each task's counters, once, and decides its next state under its row lock. The steps' rows are written.
pub(super) fn advance(call: &Call, deltas: &Deltas) -> Result<(), Error> {
    let changed: Vec<u128> = deltas
        .iter()
        .filter(|(_, delta)| !delta.changes_nothing())
        .map(|(&task, _)| task)
        .collect();
    let (mut failed, mut ended) = (Vec::new(), Vec::new());
    for (partition, tasks) in partitions::group(call.session, changed, |&task| task)? {
        let advanced = decide(call, &partition, &tasks, deltas)?;
        let has_waits = tasks.iter().any(|task| {
            deltas
                .get(task)
                .is_some_and(|delta| delta.waiting_engine != 0)
        });
        let statement = if has_waits { &UPDATE_WAITING } else { &UPDATE };
        update(call, statement, &partition.tasks, &advanced)?;
        let moved: Vec<(u128, &str)> = advanced
            .iter()
            .filter(|task| task.has_moved())
            .map(|task| (task.task, task.path.as_str()))
            .collect();
        record(call, &partition.task_transitions, &moved)?;
        let ends = |task: &&Advanced| task.to.is_terminal() && task.has_moved();
        let of_parents = advanced.iter().filter(ends).map(|task| task.task);
        ended.extend(of_parents.filter(|&task| key::may_be_child(task)));
        failed.extend(
            advanced
                .iter()
                .filter(|task| {
                    task.has_moved()
                        && matches!(task.to, TaskState::Error | TaskState::BlockedByFailures)
                })
                .map(|task| task.task),
        );
    }
    note_ends(call, &ended)?;
    if failed.is_empty() {
        return Ok(());
    }
    let values = [
        Value::uuids(&failed),
        Value::time(call.now),
        Value::text(call.actor),
    ];
    call.session
        .run(&RECORD_FAILURES, "tasker._record_failures", &values)
}

/// Locks tasks of a partition and decides how they stand with their counters changed.
fn decide(
    call: &Call,
    partition: &Partition,
    tasks: &[u128],
    deltas: &Deltas,
) -> Result<Vec<Advanced>, Error> {
    let mut ending = Vec::new();
    let mut advanced =
        call.session
            .rows(&LOCK, &partition.tasks, &[Value::uuids(tasks)], |row| {
                let task = row.uuid(0);
                let delta = deltas.get(&task).copied().unwrap_or_default();
                let counters = Counters {
                    running: row.int4(3) + delta.running,
                    waiting_retry: row.int4(4) + delta.waiting_retry,
                    waiting_engine: row.int4(5) + delta.waiting_engine,
                    failed: row.int4(6) + delta.failed,
                };
                let from: TaskState = row.text(2).parse()?;
                let kept = compiled::template(row.int4(1))?;
                let on_failure = kept.template.lifecycle.on_failure;
                let is_repair = delta.is_repair();
                let to = if is_repair {
                    progress::standing(counters, on_failure)
                } else {
                    progress::next_state(from, counters, on_failure)
                };
                let cause = match delta.cause {
                    // A reset sets a task going again that had failed; to any other it is a repair.
                    Some(TaskEvent::Reset) if from != TaskState::Error => TaskEvent::StepRepaired,
                    // Nothing ran: what moved it came from inside the engine.
                    None | Some(TaskEvent::StepFailed | TaskEvent::StepCompleted)
                        if waits(from) =>
                    {
                        TaskEvent::DependenciesReady
                    }
                    Some(cause) => cause,
                    None => TaskEvent::StepCompleted,
                };
                let path = encode::<Tasks>(from, &progress::events(from, to, cause));
                if !kept.template.compensations.is_empty() {
                    ending.push((task, kept, cause));
                }
                Ok(Advanced {
                    task,
                    from,
                    to,
                    counters,
                    path,
                    is_repair,
                    is_undone: false,
                })
            })?;
    for (key, kept, cause) in ending {
        if let Some(task) = advanced.iter_mut().find(|task| task.task == key) {
            compensation::before_the_end(call, partition, &kept, task, cause)?;
        }
    }
    Ok(advanced)
}

fn waits(state: TaskState) -> bool {
    matches!(
        state,
        TaskState::WaitingForDependencies | TaskState::WaitingForRetry
    )
}

const NOTE_ENDS: Statement = Statement {
    name: "note_ends_of_children",
    text: "insert into {} (job, key) select 'settle_parents', c.task_uuid from pg_catalog.unnest($1) u(task_uuid) join tasker.child_tasks c on c.task_uuid = u.task_uuid",
    rows: None,
    parameters: &[pg_sys::UUIDARRAYOID],
};

/// Notes for maintenance which child tasks have ended: their parents are other tasks, which this call doesn't wait for.
fn note_ends(call: &Call, ended: &[u128]) -> Result<(), Error> {
    if ended.is_empty() || edition::relation(c"child_tasks").is_none() {
        return Ok(());
    }
    call.session.run(
        &NOTE_ENDS,
        "tasker.maintenance_found",
        &[Value::uuids(ended)],
    )
}

/// Writes history rows of tasks into a partition of the history.
pub(super) fn record(call: &Call, table: &str, rows: &[(u128, &str)]) -> Result<(), Error> {
    if rows.is_empty() {
        return Ok(());
    }
    let records = rows.iter().map(|&(task, path)| [uuid(task), text(path)]);
    let values = [
        Value::rows(c"_task_record", records),
        Value::time(call.now),
        Value::text(call.actor),
    ];
    call.session.run(&RECORD, table, &values)?;
    event_notices::announce();
    Ok(())
}

/// Locks a task and gives its state; `None` when it isn't there.
pub(super) fn lock(call: &Call, task: u128) -> Result<Option<TaskState>, Error> {
    let groups = partitions::group(call.session, [task], |&task| task)?;
    let Some((partition, tasks)) = groups.into_iter().next() else {
        return Ok(None);
    };
    let states = call
        .session
        .rows(&LOCK, &partition.tasks, &[Value::uuids(&tasks)], |row| {
            Ok(row.text(2).parse()?)
        })?;
    Ok(states.into_iter().next())
}

/// Locks the tasks whose counters change, and others, in the order of their keys.
pub(super) fn lock_changed(
    call: &Call,
    deltas: &Deltas,
    others: impl Iterator<Item = u128>,
) -> Result<(), Error> {
    let changed = deltas
        .iter()
        .filter(|(_, delta)| !delta.changes_nothing())
        .map(|(&task, _)| task);
    let tasks: BTreeSet<u128> = changed.chain(others).collect();
    for (partition, tasks) in partitions::group(call.session, tasks, |&task| task)? {
        let values = [Value::uuids(&tasks)];
        call.session
            .rows(&LOCK, &partition.tasks, &values, |_| Ok(()))?;
    }
    Ok(())
}

/// Locks tasks without waiting and gives those that could be had.
pub(super) fn lock_without_waiting(call: &Call, mut tasks: Vec<u128>) -> Result<Vec<u128>, Error> {
    tasks.sort_unstable();
    tasks.dedup();
    let mut locked = Vec::new();
    for (partition, tasks) in partitions::group(call.session, tasks, |&task| task)? {
        let values = [Value::uuids(&tasks)];
        locked.extend(
            call.session
                .rows(&LOCK_SKIPPING, &partition.tasks, &values, |row| {
                    Ok(row.uuid(0))
                })?,
        );
    }
    Ok(locked)
}

fn update(
    call: &Call,
    statement: &'static Statement,
    table: &str,
    advanced: &[Advanced],
) -> Result<(), Error> {
    let rows = advanced.iter().map(|task| {
        [
            uuid(task.task),
            text(task.to.as_str()),
            int4(task.counters.running),
            int4(task.counters.waiting_retry),
            int4(task.counters.failed),
            bool(task.to.is_terminal()),
            bool(task.is_repair),
            int4(task.counters.waiting_engine),
        ]
    });
    let values = [Value::rows(c"_task_change", rows), Value::time(call.now)];
    call.session.run(statement, table, &values)
}
