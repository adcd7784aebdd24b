//! Instances: steps made while a task runs, one for each element of an array, and the step that stands for all of them. Its counter is that of what it waits for, then that of its instances
//! that have not ended; a limit on how many are enqueued at once is a gate that each of the others waits at.

use std::rc::Rc;

use pgrx::pg_sys;
use serde_json::json;
use tasker_rules::graph::{Details, Place};
use tasker_rules::history::{Steps, encode};
use tasker_rules::step_state::{StepEvent, StepState};

use super::changes::{self, Recorded};
use super::late::{Due, Late};
use super::messages::{self, NEVER, Sent};
use super::rows::{self, Locking, StepRow};
use super::settle::Settlement;
use super::tasks::{self, Deltas};
use super::{Call, graphs};
use crate::compiled::Kept;
use crate::error::Error;
use crate::partitions::{self, Partition};
use crate::settings;
use crate::statements::Statement;
use crate::values::{Json, Value};

/// Instances to be made when all steps are locked.
pub(super) struct Plan {
    row: StepRow,
    count: u32,
    opened: u32,
}

impl Plan {
    /// The task that they are made for.
    pub(super) fn task(&self) -> u128 {
        self.row.task()
    }
}

/// How many instances a step has, and how many of them have been let go.
#[derive(Clone, Copy)]
pub(super) struct Standing {
    pub(super) instances: i32,
    opened: i32,
}

const STANDING: Statement = Statement {
    name: "instances_standing",
    text: "select s.instances, s.opened from {} s where s.step_uuid = $1",
    rows: None,
    parameters: &[pg_sys::UUIDOID],
};

const SET_STANDING: Statement = Statement {
    name: "set_instances_standing",
    text: "update {} s set remaining_dependencies = $2, instances = $3, opened = $4, started_at = coalesce(s.started_at, $5) where s.step_uuid = $1",
    rows: None,
    parameters: &[
        pg_sys::UUIDOID,
        pg_sys::INT4OID,
        pg_sys::INT4OID,
        pg_sys::INT4OID,
        pg_sys::TIMESTAMPTZOID,
    ],
};

/// What a step is to be made many of.
const SOURCE: Statement = Statement {
    name: "instances_source",
    text: "select case pg_catalog.jsonb_typeof(a.items) when 'array' then pg_catalog.jsonb_array_length(a.items) end, s.result is null
           from (select s.result from {} s where s.step_uuid = $1) s
           cross join lateral (select s.result operator(pg_catalog.#>) $2) a(items)",
    rows: None,
    parameters: &[pg_sys::UUIDOID, pg_sys::TEXTARRAYOID],
};

/// Rows of an earlier time are there after a rerun; they are pending then.
const MAKE: Statement = Statement {
    name: "make_instances",
    text: "insert into {} as s (step_uuid, template_id, state, remaining_dependencies, msg_id, created_at, enqueued_at, paused_at, inputs)
           select u.step_uuid, $5, case when u.msg_id > 0 then 'enqueued' else 'pending' end, case when u.msg_id > 0 then 0 else 1 end, nullif(u.msg_id, 0), $6,
             case when u.msg_id > 0 then $6 end, $7, pg_catalog.jsonb_build_object($8, u.item, 'index', u.ordinal - 1, 'total', pg_catalog.cardinality($3))
           from (select s.result operator(pg_catalog.#>) $2 as items from {} s where s.step_uuid = $1) a
           cross join lateral rows from (pg_catalog.unnest($3), pg_catalog.unnest($4), pg_catalog.jsonb_array_elements(a.items))
             with ordinality u(step_uuid, msg_id, item, ordinal)
           on conflict (step_uuid) do update
             set state = excluded.state, remaining_dependencies = excluded.remaining_dependencies, msg_id = excluded.msg_id, enqueued_at = excluded.enqueued_at,
               inputs = excluded.inputs",
    rows: None,
    parameters: &[
        pg_sys::UUIDOID,
        pg_sys::TEXTARRAYOID,
        pg_sys::UUIDARRAYOID,
        pg_sys::INT8ARRAYOID,
        pg_sys::INT4OID,
        pg_sys::TIMESTAMPTZOID,
        pg_sys::TIMESTAMPTZOID,
        pg_sys::TEXTOID,
    ],
};

const PAUSED_AT: Statement = Statement {
    name: "task_paused_at",
    text: "select t.paused_at from {} t where t.task_uuid = $1",
    rows: None,
    parameters: &[pg_sys::UUIDOID],
};

/// How long the results of all instances are together.
const SIZE: Statement = Statement {
    name: "instances_size",
    text: "select coalesce(sum(pg_catalog.octet_length(s.result::pg_catalog.text) + coalesce(pg_catalog.octet_length(s.error::pg_catalog.text), 0)), 0)::pg_catalog.int8
           from pg_catalog.unnest($1) u(step_uuid) join {} s on s.step_uuid = u.step_uuid",
    rows: None,
    parameters: &[pg_sys::UUIDARRAYOID],
};

/// Of a map the results in order, with an error where there is none; of a batch how each instance ended.
const GATHER: Statement = Statement {
    name: "gather_instances",
    text: "select pg_catalog.jsonb_agg(
             case when $2 then pg_catalog.jsonb_build_object('index', u.ordinal - 1, 'status', s.state)
                 || case when s.state = 'error' then pg_catalog.jsonb_build_object('error', s.error) else pg_catalog.jsonb_build_object('result', s.result) end
               when s.state = 'error' then pg_catalog.jsonb_build_object('error', s.error)
               else s.result end order by u.ordinal)
           from pg_catalog.unnest($1) with ordinality u(step_uuid, ordinal) join {} s on s.step_uuid = u.step_uuid",
    rows: None,
    parameters: &[pg_sys::UUIDARRAYOID, pg_sys::BOOLOID],
};

/// The most instances that a step of a template can have.
pub(super) fn most(kept: &Kept) -> u32 {
    settings::max_instances().min(kept.template.max_instances())
}

/// What a step that stands for instances does when something is due to it: it makes them, lets more of them go, or ends. The row is locked and pending, and its
/// counter is what it is to be.
pub(super) fn go_on(
    call: &Call,
    row: &StepRow,
    place: Place<'_>,
    due: &Due,
    standing: Option<Standing>,
    late: &mut Late,
) -> Result<Option<Settlement>, Error> {
    let partition = partition(call, row.key)?;
    let Some(standing) = standing else {
        if row.remaining > 0 {
            set_standing(call, &partition, row, None)?;
            return Ok(None);
        }
        return begin(call, row, place, &partition, late);
    };
    if due.fails {
        let message = "an instance failed, and failure_strategy is fail_fast";
        note_failed(call, row)?;
        return Ok(Some(failed(
            row,
            "instance_failed",
            None,
            message.to_owned(),
        )));
    }
    if row.remaining == 0 {
        let result = gather(call, row, place, &partition, standing.instances)?;
        return Ok(Some(completed(row, result)));
    }
    let more = due.places.clamp(0, standing.instances - standing.opened);
    for instance in standing.opened + 1..=standing.opened + more {
        if let Some(number) = row
            .kept
            .template
            .instance_number(place.step.number, instance.unsigned_abs())
        {
            late.of(row, number).decrement += 1;
        }
    }
    let standing = Standing {
        opened: standing.opened + more,
        ..standing
    };
    if due.ended != 0 || more > 0 {
        set_standing(call, &partition, row, Some(standing))?;
    }
    Ok(None)
}

fn partition(call: &Call, key: u128) -> Result<Rc<Partition>, Error> {
    partitions::of_key(call.session, key)
}

/// How many instances a step has, if it has made them.
pub(super) fn standing(call: &Call, row: &StepRow) -> Result<Option<Standing>, Error> {
    let partition = partition(call, row.key)?;
    let values = [Value::uuid(row.key)];
    let found = call
        .session
        .rows(&STANDING, &partition.steps, &values, |row| {
            Ok(row.optional_int4(0).map(|instances| Standing {
                instances,
                opened: row.int4(1),
            }))
        })?;
    Ok(found.into_iter().next().flatten())
}

fn set_standing(
    call: &Call,
    partition: &Partition,
    row: &StepRow,
    standing: Option<Standing>,
) -> Result<(), Error> {
    let values = [
        Value::uuid(row.key),
        Value::int4(row.remaining),
        standing.map_or(Value::NULL, |standing| Value::int4(standing.instances)),
        standing.map_or(Value::NULL, |standing| Value::int4(standing.opened)),
        standing.map_or(Value::NULL, |_| Value::time(call.now)),
    ];
    call.session.run(&SET_STANDING, &partition.steps, &values)
}

/// How many more instances may be let go of a step that goes on after it failed, when those of some numbers are at work: what the others left was given to nobody meanwhile.
pub(super) fn free_places(
    call: &Call,
    row: &StepRow,
    place: Place<'_>,
    at_work: impl Iterator<Item = u32>,
) -> Result<i32, Error> {
    let Some(standing) = standing(call, row)? else {
        return Ok(0);
    };
    let most = place
        .step
        .details
        .instances()
        .and_then(|instances| instances.max_parallel)
        .map_or(standing.instances, |most| most as i32);
    let at_work = at_work.filter(|&instance| instance as i32 <= standing.opened);
    Ok((most - at_work.count() as i32).max(0))
}

/// Forgets the instances of a step that is to make them anew.
pub(super) fn forget(call: &Call, row: &StepRow) -> Result<(), Error> {
    let partition = partition(call, row.key)?;
    set_standing(call, &partition, row, None)
}

/// Where the array is in the result of the step that it comes from.
fn path(place: Place<'_>) -> Vec<&str> {
    match &place.step.details {
        Details::Map { path, .. } => path.iter().map(String::as_str).collect(),
        _ => vec!["batch", "cursors"],
    }
}

fn begin(
    call: &Call,
    row: &StepRow,
    place: Place<'_>,
    partition: &Partition,
    late: &mut Late,
) -> Result<Option<Settlement>, Error> {
    let Some(source) = place.step.details.source() else {
        return Ok(None);
    };
    let values = [Value::uuid(row.key_of(source)), Value::texts(&path(place))];
    let found = call
        .session
        .rows(&SOURCE, &partition.steps, &values, |row| {
            Ok((row.optional_int4(0), row.bool(1)))
        })?;
    let (count, has_no_result) = found.into_iter().next().unwrap_or((None, true));
    // A batch whose batchable step an operator settled without a result has no instances.
    let is_batch = matches!(place.step.details, Details::BatchWorker { .. });
    let count = count.or((is_batch && has_no_result).then_some(0));
    let Some(count) = count.and_then(|count| u32::try_from(count).ok()) else {
        let name = &row.kept.step(source as i32)?.name;
        let message = format!(
            "{} of the result of {name} is no array",
            path(place).join(".")
        );
        return Ok(Some(failed(row, "map_source", Some("TK021"), message)));
    };
    if count == 0 {
        return Ok(Some(completed(row, Json::parse(c"[]"))));
    }
    let most = most(&row.kept);
    if count > most {
        let message = format!("{count} instances are asked for, and {most} are the most");
        return Ok(Some(failed(
            row,
            "too_many_instances",
            Some("TK022"),
            message,
        )));
    }
    let max_parallel = place
        .step
        .details
        .instances()
        .and_then(|instances| instances.max_parallel);
    let opened = max_parallel.map_or(count, |most| most.min(count));
    let standing = Standing {
        instances: count as i32,
        opened: opened as i32,
    };
    let row = &StepRow {
        remaining: count as i32,
        ..row.clone()
    };
    set_standing(call, partition, row, Some(standing))?;
    late.plans.push(Plan {
        row: row.clone(),
        count,
        opened,
    });
    Ok(None)
}

/// The end of a step that no worker ran.
fn ended(row: &StepRow, to: StepState, events: &'static [StepEvent]) -> Settlement {
    Settlement {
        to,
        events,
        attempt: row.attempt + 1,
        attempts_used: row.attempts_used,
        due_at: None,
        result: None,
        error: None,
        checkpoint: None,
        metadata: None,
        event_payloads: None,
        row: StepRow {
            remaining: 0,
            ..row.clone()
        },
    }
}

fn completed(row: &StepRow, result: Json) -> Settlement {
    Settlement {
        result: Some(result),
        ..ended(
            row,
            StepState::Complete,
            &[
                StepEvent::Enqueue,
                StepEvent::Start,
                StepEvent::EnqueueForOrchestration,
                StepEvent::Complete,
            ],
        )
    }
}

fn failed(row: &StepRow, error_type: &str, code: Option<&str>, message: String) -> Settlement {
    let error = json!({"type": error_type, "code": code, "retryable": false, "message": message});
    let mut settlement = ended(
        row,
        StepState::Error,
        &[
            StepEvent::Enqueue,
            StepEvent::Start,
            StepEvent::EnqueueAsErrorForOrchestration,
            StepEvent::Fail,
        ],
    );
    // What it waited for stays counted: its instances.
    settlement.row.remaining = row.remaining;
    settlement.error = Some(Json::of(&error));
    settlement
}

const NOTE_FAILED: Statement = Statement {
    name: "note_failed_group",
    text: "insert into {} (job, key) values ('cancel_instances', $1)",
    rows: None,
    parameters: &[pg_sys::UUIDOID],
};

/// The other instances are cancelled by maintenance: here they would be locked in the wrong order.
fn note_failed(call: &Call, row: &StepRow) -> Result<(), Error> {
    call.session.run(
        &NOTE_FAILED,
        "tasker.maintenance_found",
        &[Value::uuid(row.key)],
    )
}

fn keys(row: &StepRow, place: Place<'_>, count: u32) -> Vec<u128> {
    (1..=count)
        .filter_map(|instance| {
            row.kept
                .template
                .instance_number(place.step.number, instance)
        })
        .map(|number| row.key_of(number))
        .collect()
}

/// What the instances came to; a reference where that is longer than a result may be.
fn gather(
    call: &Call,
    row: &StepRow,
    place: Place<'_>,
    partition: &Partition,
    count: i32,
) -> Result<Json, Error> {
    let keys = keys(row, place, count.unsigned_abs());
    let uuids = || Value::uuids(&keys);
    let sizes = call
        .session
        .rows(&SIZE, &partition.steps, &[uuids()], |row| Ok(row.int8(0)))?;
    // Commas, and the words that tell how an instance of a batch ended.
    let words = i64::from(count) * 2;
    let size = sizes.into_iter().next().unwrap_or(0) + words;
    if size > i64::try_from(settings::max_payload_bytes()).unwrap_or(i64::MAX) {
        return Ok(reference(row, count));
    }
    let is_batch = matches!(place.step.details, Details::BatchWorker { .. });
    let values = [uuids(), Value::bool(is_batch)];
    let gathered = call
        .session
        .rows(&GATHER, &partition.steps, &values, |row| Ok(row.json(0)))?;
    let gathered = gathered
        .into_iter()
        .next()
        .flatten()
        .unwrap_or_else(|| Json::parse(c"[]"));
    if crate::payloads::exceeded_limit(gathered).is_some() {
        return Ok(reference(row, count));
    }
    Ok(gathered)
}

fn reference(row: &StepRow, count: i32) -> Json {
    Json::of(&json!({"reference": {"step_uuid": crate::keys::text(row.key), "count": count}}))
}

/// Makes instances, with a message for each that is let go. All steps that the call locks are locked.
pub(super) fn make(call: &Call, plan: &Plan, deltas: &mut Deltas) -> Result<(), Error> {
    let row = &plan.row;
    let place = row.place()?;
    let Some(source) = place.step.details.source() else {
        return Ok(());
    };
    // Whoever makes steps of a task that runs has locked it: those who lock all its steps look for new ones when they have it.
    let is_repaired = deltas
        .get(&row.task())
        .is_some_and(|delta| delta.is_repair());
    if tasks::lock(call, row.task())?.is_none_or(|state| state.is_terminal() && !is_repaired) {
        return Ok(());
    }
    let partition = partition(call, row.key)?;
    let paused_at = call
        .session
        .rows(
            &PAUSED_AT,
            &partition.tasks,
            &[Value::uuid(row.task())],
            |row| Ok(row.optional_time(0)),
        )?
        .into_iter()
        .next()
        .flatten();
    let keys = keys(row, place, plan.count);
    let attempts = attempts(call, &keys)?;
    let sent = sent(call, plan, place, &keys, &attempts, paused_at.is_some())?;
    let mut ids = messages::send(call, &sent, &vec![None; sent.len()])?;
    ids.resize(keys.len(), 0);
    let name = match place.step.details {
        Details::Map { .. } => "item",
        _ => "cursor",
    };
    let values = [
        Value::uuid(row.key_of(source)),
        Value::texts(&path(place)),
        Value::uuids(&keys),
        Value::int8s(&ids),
        Value::int4(row.kept.id),
        Value::time(call.now),
        paused_at.map_or(Value::NULL, Value::time),
        Value::text(name),
    ];
    call.session.run(&MAKE, &partition.steps, &values)?;
    let path = encode::<Steps>(StepState::Pending, &[StepEvent::Enqueue]);
    let recorded: Vec<Recorded> = sent
        .iter()
        .map(|sent| Recorded {
            step: sent.step,
            attempt: sent.attempt,
            path: &path,
            metadata: None,
        })
        .collect();
    changes::record(call, &partition.step_transitions, &recorded)?;
    deltas.entry(row.task()).or_default().running += plan.opened as i32;
    if paused_at.is_none() {
        messages::wake(&row.kept.template.namespace);
    }
    Ok(())
}

/// The attempts of rows that were made before, by their position; none of them when the first wasn't.
pub(super) fn attempts(call: &Call, keys: &[u128]) -> Result<Vec<i32>, Error> {
    let mut attempts = vec![0; keys.len()];
    let first = keys.first().map(|&key| vec![key]).unwrap_or_default();
    if rows::read(call.session, first, Locking::Held)?.is_empty() {
        return Ok(attempts);
    }
    for row in rows::read(call.session, keys.to_vec(), Locking::Held)? {
        if let Ok(position) = keys.binary_search(&row.key) {
            attempts[position] = row.attempt;
        }
    }
    Ok(attempts)
}

fn sent(
    call: &Call,
    plan: &Plan,
    place: Place<'_>,
    keys: &[u128],
    attempts: &[i32],
    is_paused: bool,
) -> Result<Vec<Sent>, Error> {
    let row = &plan.row;
    let facts = graphs::facts(call.session, [row.key])?;
    let Some(facts) = facts.get(&row.task()) else {
        return Ok(Vec::new());
    };
    let mut sent: Vec<Sent> = keys
        .iter()
        .zip(attempts)
        .take(plan.opened as usize)
        .map(|(&step, &attempt)| Sent {
            kept: row.kept.clone(),
            step,
            attempt,
            handler: place.step.callable.clone(),
            priority: facts.priority,
            correlation_id: facts.correlation_id,
            visible_at: if is_paused { NEVER } else { call.now },
        })
        .collect();
    messages::spread(call, &mut sent);
    Ok(sent)
}
