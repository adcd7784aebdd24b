//! Answers that are kept by the id of the request, so that a repeated call is given the same one.

use std::collections::HashMap;

use pgrx::pg_sys;
use tasker_rules::privilege::Privilege;
use tasker_rules::step_state::StepState;

use super::Call;
use super::rows::{self, Locking, StepRow};
use crate::error::Error;
use crate::keys;
use crate::namespace_grants::Caller;
use crate::statements::Statement;
use crate::values::{Json, Value};

const TABLE: &str = "tasker.finish_requests";

/// An answer that was given before.
pub(super) struct Kept {
    pub(super) verdicts: Option<Json>,
    /// The steps it claimed that are still held under that claim.
    pub(super) held: Vec<u128>,
}

const FIND: Statement = Statement {
    name: "find_answer",
    text: "select f.worker_id, f.verdicts, f.claimed_steps, f.claimed_attempts from {} f where f.request_id = $1",
    rows: None,
    parameters: &[pg_sys::UUIDOID],
};

const KEEP: Statement = Statement {
    name: "keep_answer",
    text: "insert into {} (request_id, worker_id, verdicts, claimed_steps, claimed_attempts, answered_at)
           values ($1, $2, $3, $4, $5, $6) on conflict on constraint finish_requests_pkey do nothing returning 1",
    rows: None,
    parameters: &[
        pg_sys::UUIDOID,
        pg_sys::TEXTOID,
        pg_sys::JSONBOID,
        pg_sys::UUIDARRAYOID,
        pg_sys::INT4ARRAYOID,
        pg_sys::TIMESTAMPTZOID,
    ],
};

/// The answer that the caller was given for a request; `None` for a new one.
pub(super) fn find(call: &Call, caller: &Caller, request: u128) -> Result<Option<Kept>, Error> {
    let found = call
        .session
        .rows(&FIND, TABLE, &[Value::uuid(request)], |row| {
            if row.text(0) != call.actor {
                return Err(used_before(request));
            }
            Ok((row.json(1), row.uuids(2), row.int4s(3)))
        })?;
    let Some((verdicts, steps, attempts)) = found.into_iter().next() else {
        return Ok(None);
    };
    let rows: HashMap<u128, StepRow> = rows::read(call.session, steps.clone(), Locking::Held)?
        .into_iter()
        .map(|row| (row.key, row))
        .collect();
    let is_held = |step: &u128, attempt: i32| {
        rows.get(step).is_some_and(|row| {
            row.state == StepState::InProgress
                && row.attempt == attempt
                && caller.may(&row.kept.template.namespace, Privilege::Work)
        })
    };
    let held = steps
        .into_iter()
        .zip(attempts)
        .filter(|&(step, attempt)| is_held(&step, attempt))
        .map(|(step, _)| step)
        .collect();
    Ok(Some(Kept { verdicts, held }))
}

/// Keeps an answer and the claims in it. `is_new` says that the call changed something, which no repetition does: then a request of this id was another one.
pub(super) fn keep(
    call: &Call,
    request: u128,
    verdicts: Json,
    claimed: &[(u128, i32)],
    is_new: bool,
) -> Result<(), Error> {
    let (steps, attempts): (Vec<u128>, Vec<i32>) = claimed.iter().copied().unzip();
    let values = [
        Value::uuid(request),
        Value::text(call.actor),
        verdicts.into(),
        Value::uuids(&steps),
        Value::int4s(&attempts),
        Value::time(call.now),
    ];
    let kept = call.session.rows(&KEEP, TABLE, &values, |_| Ok(()))?;
    match kept.first() {
        Some(()) => Ok(()),
        None if is_new => Err(used_before(request)),
        None => Err(Error::refused(
            "40001",
            format!(
                "request {} was answered by a concurrent call",
                keys::text(request)
            ),
            None,
            Some("Repeat the call: it gets the answer that was given."),
        )),
    }
}

fn used_before(request: u128) -> Error {
    Error::refused(
        "22023",
        format!(
            "request_id {} was used by another call",
            keys::text(request)
        ),
        None,
        Some(
            "Make a new UUID for each call; only the same call may be repeated with the same one.",
        ),
    )
}
