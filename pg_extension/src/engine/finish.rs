//! Finishing: outcomes in, verdicts out, and in the same transaction the dependents, their messages and the caller's next work.

use std::collections::{HashMap, HashSet};

use pgrx::datum::{Interval, TimestampWithTimeZone};
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::pg_sys::{self, Datum};
use pgrx::{AnyElement, Uuid, pg_extern};
use serde::Serialize;
use serde_json::json;
use tasker_rules::privilege::Privilege;
use tasker_rules::sql_handler;
use tasker_rules::step_state::{StepEvent, StepState};
use tasker_rules::verdict::{self, OutcomeStatus, Standing, Verdict};

use super::branches::{self, Violation};
use super::outcomes::{self, Outcome, Said};
use super::rows::{self, Locking, StepRow};
use super::settle::{self, Settlement};
use super::{
    Call, Taker, access, answers, claim, claimed, evaluate, events, fail, graphs, names, turns,
};
use crate::error::Error;
use crate::namespace_grants::Caller;
use crate::statements::{Statement, session};
use crate::values::{self, Json, Value};
use crate::{keys, payloads};

/// The verdict on one outcome, in the words that its worker is told.
#[derive(Serialize)]
struct Judgement {
    step_uuid: Option<String>,
    attempt: Option<i32>,
    verdict: Verdict,
    code: Option<&'static str>,
    message: Option<String>,
}

/// The namespaces that a worker has registered for.
const REGISTERED: Statement = Statement {
    name: "registered_namespaces",
    text: "select n.name from (select w.namespaces from {} w where w.worker_id = $1) w cross join lateral pg_catalog.unnest(w.namespaces) n(name)",
    rows: None,
    parameters: &[pg_sys::TEXTOID],
};

/// Records outcomes, hands ready steps over to the caller, and claims more, up to `claim_next` in all.
#[pg_extern(
    requires = ["030_types"],
    sql = r#"CREATE FUNCTION "_finish"("worker_id" text, "outcomes" jsonb, "claim_next" integer, "lease" interval, "namespaces" text[], "handlers" text[],
  "request_id" uuid, "now" timestamptz) RETURNS tasker._finished
LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', '@FUNCTION_NAME@';"#
)]
#[allow(clippy::too_many_arguments, reason = "what finish_steps is given")]
fn _finish(
    worker_id: &str,
    outcomes: AnyElement,
    claim_next: i32,
    lease: Interval,
    namespaces: Option<Vec<Option<String>>>,
    handlers: Option<Vec<Option<String>>>,
    request_id: Option<Uuid>,
    now: TimestampWithTimeZone,
) -> Result<Option<AnyElement>, ErrorReport> {
    let mut handlers = handlers.map(names);
    // As with the namespaces: what was done counts.
    if let Some(handlers) = &mut handlers {
        handlers.retain(|handler| !sql_handler::is_sql(handler));
    }
    let answer = session(|session| {
        let call = Call {
            session,
            now: now.into(),
            actor: worker_id,
        };
        let mut namespaces = match namespaces {
            Some(namespaces) => names(namespaces),
            None => registered(&call)?,
        };
        // What was done counts, whatever else the caller asks for: namespaces that it may not claim from are passed over.
        let caller = Caller::now(session)?;
        namespaces.retain(|namespace| caller.may(namespace, Privilege::Work));
        let taker = Taker {
            worker_id,
            limit: usize::try_from(claim_next).unwrap_or(0),
            lease_ms: i64::try_from(lease.as_micros() / 1000).unwrap_or(i64::MAX),
            namespaces: &namespaces,
            handlers: handlers.as_deref(),
        };
        let request = request_id.as_ref().map(keys::number);
        let finished = finish(
            &call,
            &caller,
            Json::of_datum(outcomes.datum()),
            &taker,
            request,
        );
        let (finished, refused) = values::or_refused(finished)?;
        let (verdicts, claimed) = finished.unwrap_or_default();
        let verdicts = verdicts.and_then(Json::field);
        let row = values::composite(c"_finished", [verdicts, claimed, refused]);
        Ok(row.map(|row| session.handed_out(row)))
    })?;
    Ok(values::answer(answer))
}

fn registered(call: &Call) -> Result<Vec<String>, Error> {
    let values = [Value::text(call.actor)];
    call.session
        .rows(&REGISTERED, "tasker.workers", &values, |row| {
            Ok(row.text(0).to_owned())
        })
}

/// The verdicts, and the rows of the steps that the taker has from now on.
fn finish(
    call: &Call,
    caller: &Caller,
    outcomes: Json,
    taker: &Taker,
    request: Option<u128>,
) -> Result<(Option<Json>, Option<Datum>), Error> {
    let judged = judge_all(call, caller, outcomes::read(outcomes))?;
    let changes = !judged.settlements.is_empty();
    // A repeated call changes nothing: only one that doesn't can have been answered before.
    if let Some(request) = request.filter(|_| !changes)
        && let Some(kept) = answers::find(call, caller, request)?
    {
        let shown = claimed::show(call.session, &kept.held, &HashMap::new())?;
        return Ok((kept.verdicts, shown.rows));
    }
    let mut steps = settle::settle(call, &judged.settlements, &judged.dependents, Some(taker))?;
    evaluate::remember(call, &judged.settlements)?;
    let limit = taker.limit - steps.len();
    steps.extend(claim::claim(call, &Taker { limit, ..*taker })?);
    let shown = claimed::show(call.session, &steps, &judged.results())?;
    let verdicts = Json::of(&json!(judged.judgements));
    if let Some(request) = request {
        answers::keep(call, request, verdicts, &shown.claims, changes)?;
    }
    Ok((Some(verdicts), shown.rows))
}

/// What becomes of outcomes. The steps and their dependents are locked.
#[derive(Default)]
struct Judged {
    judgements: Vec<Judgement>,
    settlements: Vec<Settlement>,
    dependents: Vec<StepRow>,
}

impl Judged {
    /// The results that are known now.
    fn results(&self) -> HashMap<u128, Json> {
        self.settlements
            .iter()
            .filter(|settlement| settlement.to == StepState::Complete)
            .filter_map(|settlement| Some((settlement.row.key, settlement.result?)))
            .collect()
    }
}

/// Locks the steps and judges what is said of them.
fn judge_all(call: &Call, caller: &Caller, outcomes: Vec<Outcome>) -> Result<Judged, Error> {
    let steps: Vec<u128> = outcomes
        .iter()
        .filter_map(|outcome| Some(outcome.said.as_ref().ok()?.step))
        .collect();
    let steps = access::workable(call.session, caller, steps)?;
    if steps.is_empty() {
        let judgements = outcomes
            .iter()
            .map(|outcome| judge(outcome, None, true))
            .collect();
        return Ok(Judged {
            judgements,
            ..Judged::default()
        });
    }
    let graphs = graphs::of_steps(call.session, &steps)?;
    turns::share(&graphs, &steps);
    // The union of the steps and their dependents, in the order in which all lock them.
    let mut locked = settle::lock_with_narrow_dependents(call.session, &graphs, &steps)?;
    let seen = not_awaited(call, &steps, &mut locked)?;
    let by_key: HashMap<u128, &StepRow> = locked
        .iter()
        .chain(&seen)
        .map(|row| (row.key, row))
        .collect();

    let mut judgements = Vec::with_capacity(outcomes.len());
    let mut settlements = Vec::with_capacity(outcomes.len());
    let mut seen = HashSet::with_capacity(outcomes.len());
    for outcome in outcomes {
        let row = outcome
            .said
            .as_ref()
            .ok()
            .and_then(|said| by_key.get(&said.step).copied());
        let is_first = outcome
            .said
            .as_ref()
            .is_ok_and(|said| seen.insert(said.step));
        let mut judgement = judge(&outcome, row, is_first);
        if let (Verdict::Accepted, Ok(said), Some(row)) = (judgement.verdict, &outcome.said, row) {
            let (settlement, violation) = change_of(call, &outcome, said, row)?;
            if let Some(violation) = violation {
                judgement.code = Some(violation.code);
                judgement.message = Some(violation.detail);
            } else if let Some(problem) = events::problem(&settlement)? {
                judgement.code = Some("TK021");
                judgement.message = Some(problem);
            }
            settlements.push(settlement);
        }
        judgements.push(judgement);
    }
    Ok(Judged {
        judgements,
        settlements,
        dependents: locked,
    })
}

/// The rows of those steps that were not locked, as no outcome of them is awaited.
fn not_awaited(
    call: &Call,
    steps: &[u128],
    locked: &mut Vec<StepRow>,
) -> Result<Vec<StepRow>, Error> {
    let known: HashSet<u128> = locked.iter().map(|row| row.key).collect();
    let others = steps.iter().copied().filter(|step| !known.contains(step));
    let others: Vec<u128> = others.collect();
    if others.is_empty() {
        return Ok(Vec::new());
    }
    let (awaited, seen): (Vec<StepRow>, Vec<StepRow>) =
        rows::read(call.session, others, Locking::Held)?
            .into_iter()
            .partition(StepRow::awaits_outcome);
    if !awaited.is_empty() {
        // Claimed since.
        let awaited = awaited.iter().map(|row| row.key).collect();
        locked.extend(rows::read(call.session, awaited, Locking::Wait)?);
    }
    Ok(seen)
}

fn standing(said: &Said, row: &StepRow, result: Option<Json>) -> Standing {
    let holds_the_same = match said.status {
        OutcomeStatus::Complete => {
            matches!(
                row.state,
                StepState::Complete | StepState::EnqueuedForOrchestration
            ) && row
                .result
                .is_some_and(|held| held.equals(result.unwrap_or_else(null)))
        }
        OutcomeStatus::Fail => {
            let message = said
                .failure
                .as_ref()
                .map(|failure| failure.message.as_str());
            row.error
                .is_some_and(|error| error.text_of("message").as_deref() == message)
        }
        OutcomeStatus::Release | OutcomeStatus::Yield => false,
    };
    Standing {
        state: row.state,
        attempt: row.attempt,
        holds_the_same,
        has_timed_out: row.state != StepState::InProgress
            && row.error.and_then(|error| error.text_of("type")).as_deref() == Some("timed_out"),
    }
}

/// The change that an accepted outcome causes, and how its result is not what it should be.
fn change_of(
    call: &Call,
    outcome: &Outcome,
    said: &Said,
    row: &StepRow,
) -> Result<(Settlement, Option<Violation>), Error> {
    let mut settlement = match said.status {
        OutcomeStatus::Complete => {
            let result = outcome.result.unwrap_or_else(null);
            let (mut settlement, violation) = accepted_or_not(row, result, outcome.checkpoint)?;
            settlement.event_payloads = outcome.events;
            if !evaluate::is_deferred(row) {
                return Ok((settlement, violation));
            }
            settlement
        }
        OutcomeStatus::Fail => {
            let Some(failure) = &said.failure else {
                return Err(Error::OutcomeUnreadable);
            };
            let is_retryable = failure.is_retryable && row.step()?.retry.retryable;
            let error_type = failure.error_type.as_deref().unwrap_or("handler_error");
            let error = failure.error.overlaid_with(Json::of(
                &json!({"type": error_type, "retryable": is_retryable}),
            ));
            let delay = fail::retry_delay_ms(row, is_retryable, failure.retry_after_ms)?;
            fail::failed(call, row.clone(), Some(error), delay)
        }
        OutcomeStatus::Release => given_back(call, outcome, row, &[StepEvent::Release]),
        OutcomeStatus::Yield => given_back(call, outcome, row, &[StepEvent::Yield]),
    };
    settlement.event_payloads = outcome.events;
    if evaluate::is_deferred(row) {
        return Ok((evaluate::resting(settlement, outcome.result), None));
    }
    Ok((settlement, None))
}

/// How a result violates the step's schema, or what its type asks for.
pub(super) fn violation(row: &StepRow, result: Json) -> Result<Option<Violation>, Error> {
    let of_schema = payloads::result_violation(&row.kept, row.number(), result)?;
    match of_schema {
        Some(detail) => Ok(Some(Violation {
            error_type: "result_schema",
            code: "TK021",
            message: "the result does not satisfy the step's result_schema",
            detail,
        })),
        None => branches::violation(row, result),
    }
}

/// The change of a step whose result has come, and how the result is not what it should be.
pub(super) fn accepted_or_not(
    row: &StepRow,
    result: Json,
    checkpoint: Option<Json>,
) -> Result<(Settlement, Option<Violation>), Error> {
    let violation = violation(row, result)?;
    let rested = row.state == StepState::EnqueuedForOrchestration;
    let (to, events): (StepState, &'static [StepEvent]) = match (violation.is_none(), rested) {
        (true, false) => (
            StepState::Complete,
            &[StepEvent::EnqueueForOrchestration, StepEvent::Complete],
        ),
        (true, true) => (StepState::Complete, &[StepEvent::Complete]),
        (false, false) => (
            StepState::Error,
            &[StepEvent::EnqueueForOrchestration, StepEvent::Fail],
        ),
        (false, true) => (StepState::Error, &[StepEvent::Fail]),
    };
    let error = violation.as_ref().map(|violation| {
        Json::of(&json!({
            "type": violation.error_type, "code": violation.code, "retryable": false,
            "message": violation.message, "detail": violation.detail,
        }))
    });
    let settlement = Settlement {
        to,
        events,
        attempt: row.attempt,
        attempts_used: row.attempts_used,
        due_at: None,
        result: Some(result),
        error,
        checkpoint: checkpoint.filter(|_| violation.is_none()),
        metadata: None,
        event_payloads: None,
        row: row.clone(),
    };
    Ok((settlement, violation))
}

/// No attempt is used up, and the number rises so that the old holder is fenced off.
fn given_back(
    call: &Call,
    outcome: &Outcome,
    row: &StepRow,
    events: &'static [StepEvent],
) -> Settlement {
    Settlement {
        to: StepState::Enqueued,
        events,
        attempt: row.attempt + 1,
        attempts_used: row.attempts_used - 1,
        due_at: Some(call.now),
        result: None,
        error: None,
        checkpoint: outcome.checkpoint,
        metadata: None,
        event_payloads: None,
        row: row.clone(),
    }
}

fn null() -> Json {
    Json::parse(c"null")
}

fn judge(outcome: &Outcome, row: Option<&StepRow>, is_first: bool) -> Judgement {
    let (verdict, code, message) = match (&outcome.said, row) {
        (Err((code, problem)), _) => (Verdict::Invalid, Some(*code), Some(problem.clone())),
        (Ok(_), None) => (
            Verdict::Invalid,
            Some("TK002"),
            Some("step not found".to_owned()),
        ),
        (Ok(_), Some(row)) if row.waits_in_engine() => (
            Verdict::Lost,
            Some("TK011"),
            Some("no worker runs the step: it waits inside the engine".to_owned()),
        ),
        (Ok(said), Some(row)) => {
            let verdict = verdict::judge(
                standing(said, row, outcome.result),
                said.status,
                said.attempt,
                is_first,
            );
            let (code, message) = explained(verdict, said.status, row);
            (verdict, code, message)
        }
    };
    Judgement {
        step_uuid: outcome.step.map(keys::text),
        attempt: outcome.attempt,
        verdict,
        code,
        message,
    }
}

fn explained(
    verdict: Verdict,
    status: OutcomeStatus,
    row: &StepRow,
) -> (Option<&'static str>, Option<String>) {
    match verdict {
        Verdict::Accepted | Verdict::Repeated => (None, None),
        Verdict::Lost => (
            Some("TK011"),
            Some(format!("attempt {} owns the step now", row.attempt)),
        ),
        Verdict::Cancelled => (Some("TK012"), Some("step was cancelled".to_owned())),
        Verdict::TimedOut => (
            None,
            Some("the attempt ran past its timeout and was failed".to_owned()),
        ),
        Verdict::Invalid => (
            Some("TK010"),
            Some(format!(
                "step is {}: its outcome can't be changed by {status}",
                row.state
            )),
        ),
    }
}
