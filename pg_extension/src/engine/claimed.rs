//! What a worker gets to see of the steps it has claimed.

use std::collections::HashMap;
use std::rc::Rc;

use pgrx::pg_sys::Datum;
use tasker_rules::graph::{Details, Place};
use tasker_rules::key::{number_of, step_key, task_of};

use super::graphs;
use crate::compiled::Kept;
use crate::edition;
use crate::error::Error;
use crate::partitions;
use crate::statements::{Session, Statement};
use crate::values::{self, Field, Json, Value, int4, text, uuid};

/// The results of a step's direct dependencies, by name.
const RESULTS: Statement = Statement {
    name: "results_of_dependencies",
    text: "select u.ordinal, pg_catalog.jsonb_object_agg(u.name, coalesce(p.result, 'null'))
           from pg_catalog.unnest($1) u
           left join lateral (select p.result from {} p where p.step_uuid = u.step_uuid) p on true
           group by u.ordinal",
    rows: Some(c"_dependency"),
    parameters: &[],
};

/// The same for a step that joins those that exist: of all that it depends on, what has been done.
const JOINED_RESULTS: Statement = Statement {
    name: "results_of_joined",
    text: "select u.ordinal, pg_catalog.jsonb_object_agg(u.name, coalesce(p.result, 'null'))
           from pg_catalog.unnest($1) u
           cross join lateral (select p.result from {} p where p.step_uuid = u.step_uuid and p.state in ('complete', 'resolved_manually')) p
           group by u.ordinal",
    rows: Some(c"_dependency"),
    parameters: &[],
};

/// `{}` is the partition's suffix: a claimed step shows columns of its own row and of its task's. The trace is with what a worker needs to call the handler: a field more of the type
/// would fail the claims that are under way while a schema is updated.
macro_rules! rows {
    ($handler:literal) => {
        concat!(
            "select u.step_uuid, row(u.step_uuid, t.task_uuid, s.attempt, s.attempts_used, u.max_attempts, u.namespace, u.template_name, u.template_version,
               u.step_name, u.step_type, ", $handler, ", t.context, s.inputs, coalesce(u.results, pg_catalog.jsonb_build_object(u.dependency, u.result)), s.checkpoint, t.correlation_id,
               t.priority::pg_catalog.int4, u.timeout_seconds, s.lease_expires_at, s.created_at, s.enqueued_at)::tasker.claimed_step, s.attempt
             from pg_catalog.unnest($1) u
             cross join lateral (select s.* from tasker.steps_{} s where s.step_uuid = u.step_uuid) s
             cross join lateral (select t.* from tasker.tasks_{} t where t.task_uuid = u.task_uuid) t"
        )
    };
}

const ROWS: Statement = Statement {
    name: "claimed_rows",
    text: rows!(
        "case when t.traceparent is null then u.handler::pg_catalog.jsonb
           else u.handler::pg_catalog.jsonb || pg_catalog.jsonb_build_object('traceparent', t.traceparent) end"
    ),
    rows: Some(c"_to_be_claimed"),
    parameters: &[],
};

/// Where tasks know of no traces.
const ROWS_UNTRACED: Statement = Statement {
    name: "claimed_rows_untraced",
    text: rows!("u.handler::pg_catalog.jsonb"),
    rows: Some(c"_to_be_claimed"),
    parameters: &[],
};

/// The results of a step's direct dependencies.
#[derive(Clone, Copy)]
enum Results<'a> {
    /// As they are shown.
    All(Option<Json>),
    /// Of the only one, by its name.
    One(&'a str, Json),
}

impl<'a> Results<'a> {
    fn all(self) -> Option<Json> {
        match self {
            Self::All(results) => results,
            Self::One(..) => None,
        }
    }

    fn one(self) -> Option<(&'a str, Json)> {
        match self {
            Self::All(_) => None,
            Self::One(name, result) => Some((name, result)),
        }
    }
}

/// A claimed step and the graph it is a part of.
struct Claimed {
    key: u128,
    kept: Rc<Kept>,
}

impl Claimed {
    fn place(&self) -> Result<Place<'_>, Error> {
        self.kept.place(number_of(self.key) as i32)
    }
}

/// Claimed steps as their worker sees them; the array is as long-lived as the session.
#[derive(Default)]
pub(super) struct Shown {
    /// Of `tasker.claimed_step`; `None` for none.
    pub(super) rows: Option<Datum>,
    /// The steps in it and the attempts they were claimed as.
    pub(super) claims: Vec<(u128, i32)>,
}

/// Shows claimed steps in the order given, each with its context and the results of its direct dependencies. `known` are results that need not be read.
pub(super) fn show(
    session: &Session,
    keys: &[u128],
    known: &HashMap<u128, Json>,
) -> Result<Shown, Error> {
    if keys.is_empty() {
        return Ok(Shown::default());
    }
    let graphs = graphs::of_steps(session, keys)?;
    let claimed = keys.iter().filter_map(|&key| {
        let kept = graphs.get(&task_of(key))?.clone();
        Some(Claimed { key, kept })
    });
    let statement = if edition::has_traces() {
        &ROWS
    } else {
        &ROWS_UNTRACED
    };
    let mut found: HashMap<u128, (Datum, i32)> = HashMap::with_capacity(keys.len());
    for (partition, steps) in partitions::group(session, claimed, |claimed| claimed.key)? {
        let results = results(session, &partition.steps, &steps, known)?;
        let asked: Vec<[Field; 13]> = steps
            .iter()
            .zip(results)
            .map(|(claimed, results)| to_be_claimed(claimed, results))
            .collect::<Result<_, _>>()?;
        let values = [Value::rows(c"_to_be_claimed", asked.into_iter())];
        let rows = session.rows(statement, &partition.suffix, &values, |row| {
            Ok((row.uuid(0), row.datum(1), row.int4(2)))
        })?;
        found.extend(
            rows.into_iter()
                .filter_map(|(key, row, attempt)| Some((key, (row?, attempt)))),
        );
    }
    let (rows, claims): (Vec<Datum>, Vec<(u128, i32)>) = keys
        .iter()
        .filter_map(|key| {
            let &(row, attempt) = found.get(key)?;
            Some((row, (*key, attempt)))
        })
        .unzip();
    Ok(Shown {
        rows: values::composites(&rows),
        claims,
    })
}

fn results<'a>(
    session: &Session,
    table: &str,
    steps: &'a [Claimed],
    known: &HashMap<u128, Json>,
) -> Result<Vec<Results<'a>>, Error> {
    let none = Json::parse(c"{}");
    let mut results = vec![Results::All(Some(none)); steps.len()];
    let (mut dependencies, mut joined) = (Vec::new(), Vec::new());
    for (ordinal, claimed) in (0..).zip(steps) {
        let place = claimed.place()?;
        if place.instance.is_none()
            && let [number] = place.step.dependencies[..]
        {
            let key = step_key(task_of(claimed.key), number).unwrap_or_default();
            if let Some(&result) = known.get(&key) {
                let name = claimed.kept.step(number as i32)?.name.as_str();
                results[ordinal as usize] = Results::One(name, result);
                continue;
            }
        }
        for number in place.shown_dependencies() {
            let key = step_key(task_of(claimed.key), number).unwrap_or_default();
            let name = claimed.kept.step(number as i32)?.name.as_str();
            let rows = match place.step.details {
                Details::Convergence => &mut joined,
                _ => &mut dependencies,
            };
            rows.push([int4(ordinal), uuid(key), text(name)]);
        }
    }
    for (statement, rows) in [(&RESULTS, dependencies), (&JOINED_RESULTS, joined)] {
        if rows.is_empty() {
            continue;
        }
        let values = [Value::rows(c"_dependency", rows.into_iter())];
        for (ordinal, found) in session.rows(statement, table, &values, |row| {
            Ok((row.int4(0), row.json(1)))
        })? {
            results[ordinal as usize] = Results::All(found);
        }
    }
    Ok(results)
}

fn to_be_claimed(claimed: &Claimed, results: Results) -> Result<[Field; 13], Error> {
    let place = claimed.place()?;
    let step = place.step;
    let name = place.name();
    let template = &claimed.kept.template;
    let bounded = |number: u32| i32::try_from(number).unwrap_or(i32::MAX);
    Ok([
        uuid(claimed.key),
        uuid(task_of(claimed.key)),
        int4(bounded(step.retry.max_attempts)),
        text(&template.namespace),
        text(&template.name),
        text(&template.version),
        text(&name),
        text(step.step_type.as_str()),
        text(claimed.kept.handler_text(claimed.key)),
        results.all().and_then(Json::field),
        step.timeout_seconds.map(bounded).and_then(int4),
        results.one().and_then(|(name, _)| text(name)),
        results.one().and_then(|(_, result)| result.field()),
    ])
}
