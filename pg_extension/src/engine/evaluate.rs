//! Deferred evaluation: outcomes that rest in their steps until maintenance turns them into what follows, a batch at a time.
//!
//! For very wide joins, whose row every finish would hold until its commit, and for outcomes that come by another way than a worker's call.

use pgrx::datum::TimestampWithTimeZone;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::{AnyElement, Uuid, pg_extern, pg_sys};
use tasker_rules::step_state::{StepEvent, StepState};
use tasker_rules::template::Evaluation;

use super::rows::StepRow;
use super::settle::{self, Settlement};
use super::{Call, events, fail, finish, graphs, refusable};
use crate::error::Error;
use crate::keys;
use crate::settings;
use crate::statements::Statement;
use crate::values::{Json, Kind, Value};

const REST: Statement = Statement {
    name: "rest",
    text: "insert into {} (rested_at, step_uuid) select $2, u.step_uuid from pg_catalog.unnest($1) u(step_uuid)
           on conflict on constraint resting_outcomes_pkey do nothing",
    rows: None,
    parameters: &[pg_sys::UUIDARRAYOID, pg_sys::TIMESTAMPTZOID],
};

const REST_WITH_EVENTS: Statement = Statement {
    name: "rest_with_events",
    text: "insert into {} (rested_at, step_uuid, events)
           select $2, u.step_uuid, u.events from rows from (pg_catalog.unnest($1), pg_catalog.unnest($3)) u(step_uuid, events)
           on conflict on constraint resting_outcomes_pkey do nothing",
    rows: None,
    parameters: &[
        pg_sys::UUIDARRAYOID,
        pg_sys::TIMESTAMPTZOID,
        pg_sys::JSONBARRAYOID,
    ],
};

/// Whether the outcomes of a step rest.
pub(super) fn is_deferred(row: &StepRow) -> bool {
    settings::defers_evaluation() || row.kept.template.lifecycle.evaluation == Evaluation::Deferred
}

/// The outcome as it rests in its step, with the result as it was reported.
pub(super) fn resting(settlement: Settlement, result: Option<Json>) -> Settlement {
    let (to, events): (StepState, &'static [StepEvent]) = match settlement.events.first().copied() {
        Some(StepEvent::EnqueueForOrchestration) => (
            StepState::EnqueuedForOrchestration,
            &[StepEvent::EnqueueForOrchestration],
        ),
        Some(StepEvent::EnqueueAsErrorForOrchestration) => (
            StepState::EnqueuedAsErrorForOrchestration,
            &[StepEvent::EnqueueAsErrorForOrchestration],
        ),
        // Given back: there is nothing to evaluate.
        _ => return settlement,
    };
    Settlement {
        to,
        events,
        due_at: None,
        result,
        error: settlement
            .error
            .filter(|_| to == StepState::EnqueuedAsErrorForOrchestration),
        ..settlement
    }
}

/// Remembers steps whose outcomes rest, for maintenance.
pub(super) fn remember(call: &Call, settlements: &[Settlement]) -> Result<(), Error> {
    let (resting, payloads): (Vec<u128>, Vec<Option<Json>>) = settlements
        .iter()
        .filter(|settlement| is_resting(settlement.to))
        .map(|settlement| (settlement.row.key, settlement.event_payloads))
        .unzip();
    if resting.is_empty() {
        return Ok(());
    }
    let (keys, now) = (Value::uuids(&resting), Value::time(call.now));
    if payloads.iter().any(Option::is_some) && events::are_known() {
        let values = [keys, now, Value::jsons(&payloads)];
        return call
            .session
            .run(&REST_WITH_EVENTS, "tasker.resting_outcomes", &values);
    }
    call.session
        .run(&REST, "tasker.resting_outcomes", &[keys, now])
}

fn is_resting(state: StepState) -> bool {
    matches!(
        state,
        StepState::EnqueuedForOrchestration | StepState::EnqueuedAsErrorForOrchestration
    )
}

/// Evaluates the resting outcomes of steps; one that doesn't rest any more is left as it is.
#[pg_extern(volatile, parallel_unsafe)]
fn _evaluate(
    step_uuids: Vec<Uuid>,
    now: TimestampWithTimeZone,
    actor: &str,
) -> Result<Option<Vec<Option<String>>>, ErrorReport> {
    evaluate(&step_uuids, None, now, actor)
}

/// The same, with the payloads of domain events that rest with the outcomes: an object, by the keys of the steps.
#[pg_extern(
    sql = r#"CREATE FUNCTION "_evaluate_outcomes"("step_uuids" uuid[], "events" jsonb, "now" timestamptz, "actor" text) RETURNS text[]
LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', '@FUNCTION_NAME@';"#
)]
fn _evaluate_outcomes(
    step_uuids: Vec<Uuid>,
    events: Option<AnyElement>,
    now: TimestampWithTimeZone,
    actor: &str,
) -> Result<Option<Vec<Option<String>>>, ErrorReport> {
    let events = events.map(|events| Json::of_datum(events.datum()));
    evaluate(&step_uuids, events, now, actor)
}

fn evaluate(
    step_uuids: &[Uuid],
    events: Option<Json>,
    now: TimestampWithTimeZone,
    actor: &str,
) -> Result<Option<Vec<Option<String>>>, ErrorReport> {
    if step_uuids.is_empty() {
        return Ok(None);
    }
    refusable(now, actor, |call| {
        let keys: Vec<u128> = step_uuids.iter().map(keys::number).collect();
        let graphs = graphs::of_steps(call.session, &keys)?;
        let locked = settle::lock_with_narrow_dependents(call.session, &graphs, &keys)?;
        let settlements = locked
            .iter()
            .filter(|row| is_resting(row.state) && keys.contains(&row.key))
            .map(|row| {
                let payloads = events.and_then(|events| events.field_of(&keys::text(row.key)));
                Ok(Settlement {
                    event_payloads: payloads,
                    ..evaluated(call, row)?
                })
            })
            .collect::<Result<Vec<_>, Error>>()?;
        settle::settle(call, &settlements, &locked, None).map(|_| ())
    })
}

fn evaluated(call: &Call, row: &StepRow) -> Result<Settlement, Error> {
    if row.state == StepState::EnqueuedForOrchestration {
        let result = row.result.unwrap_or_else(|| Json::parse(c"null"));
        return Ok(finish::accepted_or_not(row, result, row.checkpoint)?.0);
    }
    let error = row.error.unwrap_or_else(|| Json::parse(c"{}"));
    let is_retryable = error.field_of("retryable").map(Json::kind) != Some(Kind::False);
    let retry_after_ms = error
        .text_of("retry_after_ms")
        .and_then(|text| text.parse().ok());
    let delay = fail::retry_delay_ms(row, is_retryable, retry_after_ms)?;
    Ok(fail::failed(call, row.clone(), row.error, delay))
}
