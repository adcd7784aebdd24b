//! Compensation: before a task ends otherwise than well, what its steps did is undone, in reverse order of their completion, one after the other.
//!
//! What undoes a step is a row of its own, made when the task would end. Each names the one that is let go when it is done. The task's column `compensates` says how the task ends then.

use pgrx::datum::TimestampWithTimeZone;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::pg_sys::{self, TimestampTz};
use pgrx::{Uuid, pg_extern};
use tasker_rules::history::{Steps, Tasks, encode};
use tasker_rules::key::MAX_NUMBER;
use tasker_rules::step_state::{StepEvent, StepState};
use tasker_rules::task_state::{TaskEvent, TaskState};

use super::changes::{self, Recorded};
use super::late::Late;
use super::messages::{self, NEVER, Sent};
use super::rows::{self, Locking, StepRow};
use super::tasks::Advanced;
use super::{Call, graphs, instances};
use crate::compiled::{self, Kept};
use crate::error::Error;
use crate::keys;
use crate::partitions::{self, Partition};
use crate::statements::{Statement, session};
use crate::values::Value;

const STANDING: Statement = Statement {
    name: "compensation_standing",
    text: "select t.compensates, t.paused_at from {} t where t.task_uuid = $1",
    rows: None,
    parameters: &[pg_sys::UUIDOID],
};

const SET: Statement = Statement {
    name: "set_compensates",
    text: "update {} t set compensates = $2 where t.task_uuid = $1",
    rows: None,
    parameters: &[pg_sys::UUIDOID, pg_sys::TEXTOID],
};

/// What was done last comes first.
const DONE: Statement = Statement {
    name: "done_steps",
    text: "select s.step_uuid from {} s where s.step_uuid > $1 and s.step_uuid <= $2 and s.state = 'complete' order by s.finished_at desc, s.step_uuid desc",
    rows: None,
    parameters: &[pg_sys::UUIDOID, pg_sys::UUIDOID],
};

const ANY_FAILED: Statement = Statement {
    name: "any_compensation_failed",
    text: "select 1 from {} s where s.step_uuid > $1 and s.step_uuid <= $2 and s.state = 'error' and s.undoes is not null limit 1",
    rows: None,
    parameters: &[pg_sys::UUIDOID, pg_sys::UUIDOID],
};

const WANTED: Statement = Statement {
    name: "compensation_wanted",
    text: "select 1 from {} s where s.step_uuid = $1 and s.undoes is not null",
    rows: None,
    parameters: &[pg_sys::UUIDOID],
};

const FOLLOWED_BY: Statement = Statement {
    name: "compensation_followed_by",
    text: "select s.followed_by from {} s where s.step_uuid = $1",
    rows: None,
    parameters: &[pg_sys::UUIDOID],
};

/// Rows of an earlier time are there after a rerun; they are pending then.
const MAKE: Statement = Statement {
    name: "make_compensations",
    text: "insert into {} as s (step_uuid, template_id, state, remaining_dependencies, msg_id, created_at, enqueued_at, paused_at, inputs, undoes, followed_by)
           select u.step_uuid, $4, case u.ordinal when 1 then 'enqueued' else 'pending' end, case u.ordinal when 1 then 0 else 1 end, case u.ordinal when 1 then $5 end, $6,
             case u.ordinal when 1 then $6 end, $7, pg_catalog.jsonb_build_object('step_uuid', d.step_uuid, 'inputs', d.inputs, 'result', d.result), u.undoes, nullif(u.followed_by, 0)
           from rows from (pg_catalog.unnest($1), pg_catalog.unnest($2), pg_catalog.unnest($3)) with ordinality u(step_uuid, undoes, followed_by, ordinal)
           cross join lateral (select d.step_uuid, d.inputs, d.result from {} d where d.step_uuid = u.undoes) d
           on conflict (step_uuid) do update
             set state = excluded.state, remaining_dependencies = excluded.remaining_dependencies, msg_id = excluded.msg_id, enqueued_at = excluded.enqueued_at,
               inputs = excluded.inputs, undoes = excluded.undoes, followed_by = excluded.followed_by",
    rows: None,
    parameters: &[
        pg_sys::UUIDARRAYOID,
        pg_sys::UUIDARRAYOID,
        pg_sys::INT4ARRAYOID,
        pg_sys::INT4OID,
        pg_sys::INT8OID,
        pg_sys::TIMESTAMPTZOID,
        pg_sys::TIMESTAMPTZOID,
    ],
};

/// How a task that is being compensated ends then, and since when it is paused.
struct Standing {
    compensates: Option<TaskState>,
    paused_at: Option<TimestampTz>,
}

fn standing(call: &Call, partition: &Partition, task: u128) -> Result<Standing, Error> {
    let found = call
        .session
        .rows(&STANDING, &partition.tasks, &[Value::uuid(task)], |row| {
            Ok(Standing {
                compensates: row.optional_text(0).map(str::parse).transpose()?,
                paused_at: row.optional_time(1),
            })
        })?;
    found.into_iter().next().ok_or(Error::PartitionMissing)
}

/// Whether what was done in a task is being undone, or has been.
pub(super) fn has_begun(call: &Call, row: &StepRow) -> Result<bool, Error> {
    if row.kept.template.compensations.is_empty() {
        return Ok(false);
    }
    let partition = partitions::of_key(call.session, row.key)?;
    Ok(standing(call, &partition, row.task())?
        .compensates
        .is_some())
}

/// Whether the row of a compensation is one of those that are to run: others are left over from before a rerun.
pub(super) fn is_wanted(call: &Call, row: &StepRow) -> Result<bool, Error> {
    let partition = partitions::of_key(call.session, row.key)?;
    let key = [Value::uuid(row.key)];
    let found = call
        .session
        .rows(&WANTED, &partition.steps, &key, |_| Ok(()))?;
    Ok(!found.is_empty())
}

/// Lets the compensation go that follows one that is done. One that was settled before its turn lets none go; it is passed over when its turn comes.
pub(super) fn follow(call: &Call, row: &StepRow, late: &mut Late) -> Result<(), Error> {
    if row.state == StepState::Pending {
        return Ok(());
    }
    let partition = partitions::of_key(call.session, row.key)?;
    let mut key = row.key;
    loop {
        let found =
            call.session
                .rows(&FOLLOWED_BY, &partition.steps, &[Value::uuid(key)], |row| {
                    Ok(row.optional_int4(0))
                })?;
        let Some(number) = found.into_iter().next().flatten() else {
            return Ok(());
        };
        let number = number.unsigned_abs();
        key = row.key_of(number);
        let next = rows::read(call.session, vec![key], Locking::Held)?;
        if next.iter().all(|next| !next.state.satisfies_dependents()) {
            late.of(row, number).decrement += 1;
            return Ok(());
        }
    }
}

/// What becomes of a task whose counters say that it stands still: it may have something to undo first, and one that was to be cancelled then is.
pub(super) fn before_the_end(
    call: &Call,
    partition: &Partition,
    kept: &Kept,
    task: &mut Advanced,
    cause: TaskEvent,
) -> Result<(), Error> {
    let stands_still = matches!(
        task.to,
        TaskState::Error | TaskState::BlockedByFailures | TaskState::Complete
    );
    let has_ended = task.from.is_terminal() && !task.is_repair;
    if kept.template.compensations.is_empty() || !stands_still || has_ended {
        return Ok(());
    }
    let standing = standing(call, partition, task.task)?;
    let events: &[TaskEvent] = match standing.compensates {
        None if task.to == TaskState::Error => {
            if begin(call, partition, kept, task.task, standing.paused_at)? == 0 {
                return Ok(());
            }
            let values = [
                Value::uuid(task.task),
                Value::text(TaskState::Error.as_str()),
            ];
            call.session.run(&SET, &partition.tasks, &values)?;
            task.counters.running += 1;
            task.to = TaskState::StepsInProcess;
            task.is_undone = true;
            &[TaskEvent::Compensate, TaskEvent::StepsEnqueued]
        }
        None => return Ok(()),
        Some(TaskState::Cancelled) if any_failed(call, partition, task.task)? => {
            task.to = TaskState::BlockedByFailures;
            &[TaskEvent::PermanentFailure]
        }
        Some(TaskState::Cancelled) => {
            task.to = TaskState::Cancelled;
            &[TaskEvent::Cancel]
        }
        Some(_) => {
            task.to = TaskState::Error;
            &[TaskEvent::PermanentFailure, TaskEvent::GiveUp]
        }
    };
    let events: Vec<TaskEvent> = std::iter::once(cause)
        .chain(events.iter().copied())
        .collect();
    task.path = encode::<Tasks>(task.from, &events);
    Ok(())
}

fn range(task: u128) -> [Value; 2] {
    [
        Value::uuid(task),
        Value::uuid(task | u128::from(MAX_NUMBER)),
    ]
}

fn any_failed(call: &Call, partition: &Partition, task: u128) -> Result<bool, Error> {
    let found = call
        .session
        .rows(&ANY_FAILED, &partition.steps, &range(task), |_| Ok(()))?;
    Ok(!found.is_empty())
}

/// Makes what undoes the steps of a task that are complete, lets the first go, and says how many there are. The task is locked, and nothing of it runs.
fn begin(
    call: &Call,
    partition: &Partition,
    kept: &Kept,
    task: u128,
    paused_at: Option<TimestampTz>,
) -> Result<usize, Error> {
    let done = call
        .session
        .rows(&DONE, &partition.steps, &range(task), |row| Ok(row.uuid(0)))?;
    let mut rows: Vec<(u128, u128)> = Vec::new();
    for undone in done {
        let place = kept.place(keys::number_in_task(undone))?;
        if let Some(number) = kept.template.compensation_of(place) {
            rows.push((task | u128::from(number), undone));
        }
    }
    let Some(&(first, _)) = rows.first() else {
        return Ok(0);
    };
    let facts = graphs::facts(call.session, [first])?;
    let kept = compiled::template(kept.id)?;
    let Some(facts) = facts.get(&task) else {
        return Ok(0);
    };
    let attempt = instances::attempts(call, &[first])?
        .first()
        .copied()
        .unwrap_or(0);
    let sent = Sent {
        step: first,
        attempt,
        handler: kept.step(keys::number_in_task(first))?.callable.clone(),
        priority: facts.priority,
        correlation_id: facts.correlation_id,
        visible_at: if paused_at.is_some() { NEVER } else { call.now },
        kept: kept.clone(),
    };
    let ids = messages::send(call, &[sent], &[None])?;
    let (made, undone): (Vec<u128>, Vec<u128>) = rows.into_iter().unzip();
    let mut followed: Vec<i32> = made
        .iter()
        .skip(1)
        .map(|&key| keys::number_in_task(key))
        .collect();
    followed.push(0);
    let values = [
        Value::uuids(&made),
        Value::uuids(&undone),
        Value::int4s(&followed),
        Value::int4(kept.id),
        Value::int8(ids.first().copied().unwrap_or_default()),
        Value::time(call.now),
        paused_at.map_or(Value::NULL, Value::time),
    ];
    call.session.run(&MAKE, &partition.steps, &values)?;
    let path = encode::<Steps>(StepState::Pending, &[StepEvent::Enqueue]);
    let recorded = Recorded {
        step: first,
        attempt,
        path: &path,
        metadata: None,
    };
    changes::record(call, &partition.step_transitions, &[recorded])?;
    if paused_at.is_none() {
        messages::wake(&kept.template.namespace);
    }
    Ok(made.len())
}

/// Begins to undo what a task has done, and says how many steps that are. The caller holds the locks of the task and its steps, of which none is live any more, and sees to the task.
#[pg_extern(volatile, parallel_unsafe)]
fn _compensate(
    task_uuid: Uuid,
    now: TimestampWithTimeZone,
    actor: &str,
) -> Result<i32, ErrorReport> {
    let begun = session(|session| {
        let call = Call {
            session,
            now: now.into(),
            actor,
        };
        let task = keys::number(&task_uuid);
        let facts = graphs::facts(session, [task])?;
        let Some(facts) = facts.get(&task) else {
            return Ok(0);
        };
        let kept = compiled::template(facts.template_id)?;
        let partition = partitions::of_key(session, task)?;
        let standing = standing(&call, &partition, task)?;
        if kept.template.compensations.is_empty() || standing.compensates.is_some() {
            return Ok(0);
        }
        begin(&call, &partition, &kept, task, standing.paused_at)
    })?;
    Ok(i32::try_from(begun).unwrap_or(i32::MAX))
}
