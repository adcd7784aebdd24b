//! Steps that the database runs itself: claiming one for this session, and showing one that it has. Not here: running its function (`sql_call`), and the transactions around that
//! (`sql/687_sql_steps.sql`).

use std::collections::HashMap;

use pgrx::datum::TimestampWithTimeZone;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::{AnyElement, Uuid, pg_extern};
use serde_json::json;
use tasker_rules::key::{number_of, task_of};
use tasker_rules::sql_handler;

use super::{Call, Taker, claim, claimed, graphs, names, namespaces};
use crate::error::Error;
use crate::queue::{self, Queue};
use crate::statements::session;
use crate::values::{self, Json};
use crate::{keys, settings};

/// How much longer than its function may run a step is leased: its session ends the function by itself, and that one's end is noticed otherwise.
const GRACE_MS: i64 = 30_000;

/// Claims a step whose handler is a SQL function from the first of the namespaces that has one ready: `verdicts` is a list of its key, or empty.
#[pg_extern(
    requires = ["030_types"],
    sql = r#"CREATE FUNCTION "_claim_sql"("worker_id" text, "namespaces" text[], "now" timestamptz) RETURNS tasker._finished
LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', '@FUNCTION_NAME@';"#
)]
fn _claim_sql(
    worker_id: &str,
    namespaces: Vec<Option<String>>,
    now: TimestampWithTimeZone,
) -> Result<Option<AnyElement>, ErrorReport> {
    let namespaces = names(namespaces);
    let answer = session(|session| {
        let call = Call {
            session,
            now: now.into(),
            actor: worker_id,
        };
        let claimed = claim_one(&call, &namespaces).map(|step| {
            let keys: Vec<String> = step.into_iter().map(keys::text).collect();
            Json::of(&json!(keys))
        });
        let (step, refused) = values::or_refused(claimed)?;
        let row = values::composite(c"_finished", [step.and_then(Json::field), None, refused]);
        Ok(row.map(|row| session.handed_out(row)))
    })?;
    Ok(values::answer(answer))
}

fn claim_one(call: &Call, namespaces: &[String]) -> Result<Option<u128>, Error> {
    for (namespace, queue_name) in namespaces::queues(call.session, namespaces)? {
        let queue = Queue {
            namespace: &namespace,
            name: &queue_name,
        };
        let Some(met) = queue::read_sql(call.session, queue, call.now)? else {
            continue;
        };
        let Some(timeout_seconds) = met.step.map(|step| timeout_of(call, step)).transpose()? else {
            continue;
        };
        let taker = Taker {
            worker_id: call.actor,
            limit: 1,
            lease_ms: timeout_seconds
                .saturating_mul(1000)
                .saturating_add(GRACE_MS),
            namespaces,
            handlers: None,
        };
        let steps = claim::take(call, &queue_name, &[met], &taker)?;
        if let Some(&step) = steps.first() {
            return Ok(Some(step));
        }
    }
    Ok(None)
}

/// How long a step's function may run.
fn timeout_of(call: &Call, step: u128) -> Result<i64, Error> {
    let graphs = graphs::of_steps(call.session, &[step])?;
    let set = graphs
        .get(&task_of(step))
        .and_then(|kept| kept.template.step(number_of(step)))
        .filter(|step| sql_handler::is_sql(&step.callable))
        .and_then(|step| step.timeout_seconds);
    Ok(set.map_or_else(settings::sql_timeout_seconds, i64::from))
}

/// A claimed step as a worker would see it.
#[pg_extern(
    requires = ["030_types"],
    sql = r#"CREATE FUNCTION "_show_step"("step_uuid" uuid) RETURNS tasker._finished
LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', '@FUNCTION_NAME@';"#
)]
fn _show_step(step_uuid: Uuid) -> Result<Option<AnyElement>, ErrorReport> {
    let answer = session(|session| {
        let shown = claimed::show(session, &[keys::number(&step_uuid)], &HashMap::new())?;
        let row = values::composite(c"_finished", [None, shown.rows, None]);
        Ok(row.map(|row| session.handed_out(row)))
    })?;
    Ok(values::answer(answer))
}
