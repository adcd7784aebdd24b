//! Creating tasks: one request or many, in the caller's transaction, with every step, message and history row in a fixed number of statements.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::rc::Rc;

use pgrx::datum::TimestampWithTimeZone;
use pgrx::pg_sys::TimestampTz;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::{AnyElement, pg_extern, pg_sys};
use tasker_rules::privilege::Privilege;
use tasker_rules::traceparent::Traceparent;

use super::Call;
use super::graphs::{self, Facts};
use super::requests::{self, Request};
use super::start::{self, Starting};
use crate::compiled::{self, Kept};
use crate::error::Error;
use crate::namespace_grants::Caller;
use crate::partitions::{self, Partition};
use crate::statements::{Session, Statement, session};
use crate::values::{self, Json, Value, int4, int8, text, uuid};
use crate::{edition, keys, payloads, settings};

/// What creating needs of a template.
struct Resolved {
    kept: Rc<Kept>,
    namespace_id: i32,
    context_defaults: Option<Json>,
    /// Its namespace is paused.
    is_paused: bool,
    /// Its tasks have keys that they are not given, or must be given.
    has_identity: bool,
}

/// A task to be inserted.
struct Task<'a> {
    key: u128,
    request: &'a Request,
    template: &'a Resolved,
    context: Json,
    start: Start,
    traceparent: Option<Traceparent>,
}

/// When a task starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Start {
    /// With its creation.
    Now,
    /// When its time comes.
    At(TimestampTz),
    /// When its namespace isn't paused any more.
    Resumed,
}

const TEMPLATE: Statement = Statement {
    name: "resolve_template",
    text: "select t.template_id, t.namespace_id, t.context_defaults, t.identity_strategy, t.version, t.retired_at::pg_catalog.text, n.paused_at
           from tasker.namespaces n join {} t on t.namespace_id = n.namespace_id
           where n.name = $1 and t.name = $2 and case when $3 is null then t.retired_at is null else t.version = $3 end
           order by t.version_key desc limit 1",
    rows: None,
    parameters: &[pg_sys::TEXTOID, pg_sys::TEXTOID, pg_sys::TEXTOID],
};

const NOT_FOUND: Statement = Statement {
    name: "template_not_found",
    text: "select p.problem[1], p.problem[2], p.problem[3], p.problem[4] from {}($1, $2, $3) p(problem)",
    rows: None,
    parameters: &[pg_sys::TEXTOID, pg_sys::TEXTOID, pg_sys::TEXTOID],
};

const CLAIM_KEYS: Statement = Statement {
    name: "claim_keys",
    text: "select o.task_uuids, o.refused[1], o.refused[2], o.refused[3], o.refused[4] from {}($1, $2, $3, $4, $5, $6, $7, $8, $9) o",
    rows: None,
    parameters: &[
        pg_sys::INT4ARRAYOID,
        pg_sys::JSONBARRAYOID,
        pg_sys::TEXTARRAYOID,
        pg_sys::INT4ARRAYOID,
        pg_sys::JSONBARRAYOID,
        pg_sys::TIMESTAMPTZARRAYOID,
        pg_sys::UUIDARRAYOID,
        pg_sys::UUIDARRAYOID,
        pg_sys::TIMESTAMPTZOID,
    ],
};

const SCHEDULE: Statement = Statement {
    name: "schedule_tasks",
    text: "insert into {} (run_at, task_uuid)
           select u.run_at, u.task_uuid from rows from (pg_catalog.unnest($1), pg_catalog.unnest($2)) u(task_uuid, run_at)",
    rows: None,
    parameters: &[pg_sys::UUIDARRAYOID, pg_sys::TIMESTAMPTZARRAYOID],
};

const HOLD: Statement = Statement {
    name: "hold_tasks",
    text: "insert into {} (namespace_id, task_uuid)
           select u.namespace_id, u.task_uuid from rows from (pg_catalog.unnest($1), pg_catalog.unnest($2)) u(task_uuid, namespace_id)",
    rows: None,
    parameters: &[pg_sys::UUIDARRAYOID, pg_sys::INT4ARRAYOID],
};

/// A task that starts now is written once, in the state it has when this transaction commits. The columns that a schema of before lacks come last.
macro_rules! insert {
    ($columns:literal, $values:literal) => {
        concat!(
            "insert into {} (task_uuid, template_id, namespace_id, state, priority, running, created_at, started_at, finished_at, run_at, correlation_id,
               parent_correlation_id, idempotency_key, initiator, source_system, reason, tags, context", $columns, ")
             select u.task_uuid, u.template_id, u.namespace_id, u.state, u.priority, u.running, $2, case when u.state <> 'pending' then $2 end,
               case when u.state = 'complete' then $2 end, u.run_at, u.correlation_id, u.parent_correlation_id, u.idempotency_key, u.initiator, u.source_system,
               u.reason, case when u.tags is null then array[]::pg_catalog.text[] else array(select pg_catalog.jsonb_array_elements_text(u.tags)) end, u.context",
            $values, " from pg_catalog.unnest($1) u"
        )
    };
}

const INSERT: Statement = Statement {
    name: "insert_tasks",
    text: insert!(", traceparent", ", u.traceparent"),
    rows: Some(c"_new_task"),
    parameters: &[pg_sys::TIMESTAMPTZOID],
};

/// Where tasks know of no traces.
const INSERT_UNTRACED: Statement = Statement {
    name: "insert_tasks_untraced",
    text: insert!("", ""),
    rows: Some(c"_new_task"),
    parameters: &[pg_sys::TIMESTAMPTZOID],
};

/// Creates the tasks of a list of requests, all or none.
#[pg_extern(
    requires = ["030_types"],
    sql = r#"CREATE FUNCTION "_create_tasks"("requests" jsonb, "now" timestamptz, "actor" text) RETURNS tasker._created
LANGUAGE c STRICT VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', '@FUNCTION_NAME@';"#
)]
fn _create_tasks(
    requests: AnyElement,
    now: TimestampWithTimeZone,
    actor: &str,
) -> Result<Option<AnyElement>, ErrorReport> {
    created(requests, now, actor, false)
}

/// Creates tasks that have a parent; the caller notes which.
#[pg_extern(
    requires = ["030_types"],
    sql = r#"CREATE FUNCTION "_create_children"("requests" jsonb, "now" timestamptz, "actor" text) RETURNS tasker._created
LANGUAGE c STRICT VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', '@FUNCTION_NAME@';"#
)]
fn _create_children(
    requests: AnyElement,
    now: TimestampWithTimeZone,
    actor: &str,
) -> Result<Option<AnyElement>, ErrorReport> {
    created(requests, now, actor, true)
}

fn created(
    requests: AnyElement,
    now: TimestampWithTimeZone,
    actor: &str,
    are_children: bool,
) -> Result<Option<AnyElement>, ErrorReport> {
    let answer = session(|session| {
        let call = Call {
            session,
            now: now.into(),
            actor,
        };
        let made = create(&call, Json::of_datum(requests.datum()), are_children);
        let (made, refused) = values::or_refused(made)?;
        let (tasks, created): (Vec<u128>, Vec<bool>) = made.unwrap_or_default().into_iter().unzip();
        let fields = [
            Value::uuids(&tasks).datum(),
            Value::bools(&created).datum(),
            refused,
        ];
        Ok(values::composite(c"_created", fields).map(|row| session.handed_out(row)))
    })?;
    Ok(values::answer(answer))
}

/// The task of each request, and whether it is new.
fn create(call: &Call, requests: Json, are_children: bool) -> Result<Vec<(u128, bool)>, Error> {
    let requests = requests::read(call.session, requests)?;
    if requests.is_empty() {
        return Ok(Vec::new());
    }
    let namespaces = requests.iter().map(|request| request.namespace.as_str());
    Caller::now(call.session)?.require(namespaces, Privilege::Create)?;
    let mut templates: HashMap<(&str, &str, Option<&str>), Resolved> = HashMap::new();
    for request in &requests {
        let wanted = (
            request.namespace.as_str(),
            request.template_name.as_str(),
            request.version.as_deref(),
        );
        if let Entry::Vacant(entry) = templates.entry(wanted) {
            entry.insert(resolve(call.session, wanted)?);
        }
    }
    let new_keys = keys::new_tasks(requests.len(), call.now, are_children)?;
    let given = if are_children {
        None
    } else {
        settings::traceparent()
    };
    let mut tasks = Vec::with_capacity(requests.len());
    for ((ordinal, request), &key) in (1..).zip(&requests).zip(&new_keys) {
        let wanted = (
            request.namespace.as_str(),
            request.template_name.as_str(),
            request.version.as_deref(),
        );
        let template = &templates[&wanted];
        let context = match template.context_defaults {
            Some(defaults) => defaults.overlaid_with(request.context),
            None => request.context,
        };
        if let Some(problem) = payloads::context_violation(&template.kept, context)? {
            let compiled = &template.kept.template;
            let message = format!(
                "the context of request {ordinal} does not satisfy the input_schema of template {} version {}",
                compiled.name, compiled.version
            );
            let hint = "tasker.get_template shows the schema; nothing was created.";
            return Err(Error::refused("TK021", message, Some(problem), Some(hint)));
        }
        tasks.push(Task {
            key,
            request,
            template,
            context,
            start: match request.run_at {
                Some(run_at) if run_at > call.now => Start::At(run_at),
                _ if template.is_paused => Start::Resumed,
                _ => Start::Now,
            },
            traceparent: given.or_else(|| request.traceparent.as_deref()?.parse().ok()),
        });
    }
    let owners = owners(call, &tasks)?;
    let made: Vec<(u128, bool)> = owners
        .iter()
        .zip(&tasks)
        .map(|(&owner, task)| (owner, owner == task.key))
        .collect();
    let mut is_new = made.iter().map(|&(_, is_new)| is_new);
    tasks.retain(|_| is_new.next().unwrap_or(false));
    if !tasks.is_empty() {
        insert(call, &tasks)?;
    }
    Ok(made)
}

fn resolve(session: &Session, wanted: (&str, &str, Option<&str>)) -> Result<Resolved, Error> {
    let (namespace, name, version) = wanted;
    let values = [
        Value::text(namespace),
        Value::text(name),
        Value::optional_text(version),
    ];
    let found = session.rows(&TEMPLATE, "tasker.templates", &values, |row| {
        if let Some(retired_at) = row.optional_text(5) {
            let message = format!("template {name} version {} is retired", row.text(4));
            let detail = format!("It was retired at {retired_at}.");
            return Err(Error::refused(
                "TK015",
                message,
                Some(detail),
                Some("Create the task from another version."),
            ));
        }
        Ok(Resolved {
            kept: compiled::template(row.int4(0))?,
            namespace_id: row.int4(1),
            context_defaults: row.json(2).filter(|defaults| !defaults.is_empty()),
            is_paused: row.optional_time(6).is_some(),
            has_identity: row.text(3) != "always_unique",
        })
    })?;
    match found.into_iter().next() {
        Some(template) => Ok(template),
        None => Err(session.refusal(&NOT_FOUND, "tasker._template_not_found", &values)),
    }
}

/// The task that each request gets: its own, or the one that has its idempotency key.
fn owners(call: &Call, tasks: &[Task]) -> Result<Vec<u128>, Error> {
    let mut owners: Vec<u128> = tasks.iter().map(|task| task.key).collect();
    let keyed: Vec<usize> = (0..tasks.len())
        .filter(|&index| {
            tasks[index].template.has_identity || tasks[index].request.idempotency_key.is_some()
        })
        .collect();
    if keyed.is_empty() {
        return Ok(owners);
    }
    let values = [
        Value::int4s(&of(tasks, &keyed, |task| task.template.kept.id)),
        Value::jsons(&of(tasks, &keyed, |task| Some(task.context))),
        Value::optional_texts(&of(tasks, &keyed, |task| {
            task.request.idempotency_key.as_deref()
        })),
        Value::int4s(&of(tasks, &keyed, |task| task.request.priority)),
        Value::jsons(&of(tasks, &keyed, |task| task.request.tags)),
        Value::optional_times(&of(tasks, &keyed, |task| task.request.run_at)),
        Value::optional_uuids(&of(tasks, &keyed, |task| {
            task.request.parent_correlation_id
        })),
        Value::uuids(&of(tasks, &keyed, |task| task.key)),
        Value::time(call.now),
    ];
    let found = call
        .session
        .rows(&CLAIM_KEYS, "tasker._claim_keys", &values, |row| {
            if let Some(code) = row.optional_text(1) {
                let detail = row.optional_text(3).map(str::to_owned);
                return Err(Error::refused(
                    code,
                    row.text(2).to_owned(),
                    detail,
                    row.optional_text(4),
                ));
            }
            Ok(row.uuids(0))
        })?;
    let found = found.into_iter().flatten();
    for (index, owner) in keyed.into_iter().zip(found) {
        owners[index] = owner;
    }
    Ok(owners)
}

fn of<'a, T>(tasks: &'a [Task], indexes: &[usize], value: impl Fn(&'a Task) -> T) -> Vec<T> {
    indexes.iter().map(|&index| value(&tasks[index])).collect()
}

/// Inserts the tasks, and starts those that are due.
fn insert(call: &Call, tasks: &[Task]) -> Result<(), Error> {
    let partition = partitions::of_time(call.session, call.now)?;
    insert_rows(call, &partition, tasks)?;
    let known: Vec<(u128, Facts)> = tasks
        .iter()
        .map(|task| {
            let facts = Facts {
                template_id: task.template.kept.id,
                priority: task.request.priority,
                correlation_id: task.request.correlation_id.unwrap_or(task.key),
            };
            (task.key, facts)
        })
        .collect();
    graphs::remember(&known);
    let starting: Vec<Starting> = tasks
        .iter()
        .filter(|task| task.start == Start::Now)
        .map(|task| Starting {
            task: task.key,
            kept: task.template.kept.clone(),
            priority: task.request.priority,
            correlation_id: task.request.correlation_id.unwrap_or(task.key),
        })
        .collect();
    schedule(call, tasks)?;
    hold(call, tasks)?;
    if starting.is_empty() {
        return Ok(());
    }
    start::start(call, &partition, &starting)
}

/// Notes which tasks wait for their namespace.
fn hold(call: &Call, tasks: &[Task]) -> Result<(), Error> {
    let (keys, namespaces): (Vec<u128>, Vec<i32>) = tasks
        .iter()
        .filter(|task| task.start == Start::Resumed)
        .map(|task| (task.key, task.template.namespace_id))
        .unzip();
    if keys.is_empty() {
        return Ok(());
    }
    let values = [Value::uuids(&keys), Value::int4s(&namespaces)];
    call.session.run(&HOLD, "tasker.held_tasks", &values)
}

/// Notes when tasks are due that have a time to wait for.
fn schedule(call: &Call, tasks: &[Task]) -> Result<(), Error> {
    let (keys, times): (Vec<u128>, Vec<TimestampTz>) = tasks
        .iter()
        .filter_map(|task| match task.start {
            Start::At(run_at) => Some((task.key, run_at)),
            Start::Now | Start::Resumed => None,
        })
        .unzip();
    if keys.is_empty() {
        return Ok(());
    }
    call.session.run(
        &SCHEDULE,
        "tasker.scheduled_tasks",
        &[Value::uuids(&keys), Value::times(&times)],
    )
}

fn insert_rows(call: &Call, partition: &Partition, tasks: &[Task]) -> Result<(), Error> {
    let roots = |task: &Task| {
        i32::try_from(task.template.kept.template.first_for_workers()).unwrap_or(i32::MAX)
    };
    let rows = tasks.iter().map(|task| {
        let request = task.request;
        let starts = task.start == Start::Now;
        let state = if starts {
            start::state_of(&task.template.kept).as_str()
        } else {
            "pending"
        };
        let optional = |value: &Option<String>| value.as_deref().and_then(text);
        [
            uuid(task.key),
            int4(task.template.kept.id),
            int4(task.template.namespace_id),
            text(state),
            int4(request.priority),
            int4(if starts { roots(task) } else { 0 }),
            request.run_at.and_then(int8),
            uuid(request.correlation_id.unwrap_or(task.key)),
            request.parent_correlation_id.and_then(uuid),
            optional(&request.idempotency_key),
            optional(&request.initiator),
            optional(&request.source_system),
            optional(&request.reason),
            request.tags.and_then(Json::field),
            task.context.field(),
            task.traceparent
                .and_then(|traceparent| text(&traceparent.to_string())),
        ]
    });
    let values = [Value::rows(c"_new_task", rows), Value::time(call.now)];
    let statement = if edition::has_traces() {
        &INSERT
    } else {
        &INSERT_UNTRACED
    };
    call.session.run(statement, &partition.tasks, &values)
}
