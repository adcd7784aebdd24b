//! The domain events of steps: which ones an outcome publishes, with what payload, and handing them over to SQL, which logs and sends them in the same transaction.
//!
//! A step whose definition names no events costs a look at an empty list. Not here: which outcome an event is for, and subscriptions (`tasker_rules::domain_event`,
//! `sql/550_domain_events.sql`).

use std::collections::BTreeMap;

use pgrx::pg_sys;
use serde::de::IgnoredAny;
use tasker_rules::domain_event::{LONGEST_NAME, StepOutcome};

use super::rows::StepRow;
use super::settle::Settlement;
use super::{Call, graphs};
use crate::edition;
use crate::error::Error;
use crate::statements::{Statement, worded};
use crate::values::{Json, Value, int4, text, uuid};
use crate::{keys, payloads};

/// What came of an attempt, for the events of its step.
struct Ended<'a> {
    row: &'a StepRow,
    attempt: i32,
    outcome: StepOutcome,
    /// The step's result or error: the payload of an event that is given none of its own.
    payload: Option<Json>,
    /// The handler's own payloads, by the names of the events.
    given: Option<Json>,
}

/// An event as it is written.
struct Event<'a> {
    ended: &'a Ended<'a>,
    name: String,
    delivery_mode: Option<&'static str>,
    payload: Option<Json>,
    /// Why it isn't published after all.
    problem: Option<String>,
}

const PUBLISH: Statement = Statement {
    name: "publish_domain_events",
    text: "select p.problem[1], p.problem[2], p.problem[3], p.problem[4] from {}($1, $2) p(problem) where p.problem is not null",
    rows: Some(c"_published"),
    parameters: &[pg_sys::TIMESTAMPTZOID],
};

/// Publishes the events of steps that have come to an outcome.
pub(super) fn publish(call: &Call, settlements: &[Settlement]) -> Result<(), Error> {
    let ended: Vec<Ended> = settlements.iter().filter_map(Ended::of).collect();
    send(call, &ended)
}

/// Publishes the events of steps whose attempt failed with an error while the next one begins at once.
pub(super) fn publish_taken_over(call: &Call, failed: &[(StepRow, Json)]) -> Result<(), Error> {
    let ended: Vec<Ended> = failed
        .iter()
        .map(|(row, error)| Ended {
            row,
            attempt: row.attempt,
            outcome: StepOutcome::RetryableFailure,
            payload: Some(*error),
            given: None,
        })
        .collect();
    send(call, &ended)
}

/// Why one of the events of an outcome isn't published, if so: for the verdict on it.
pub(super) fn problem(settlement: &Settlement) -> Result<Option<String>, Error> {
    let Some(ended) = Ended::of(settlement).filter(|_| are_known()) else {
        return Ok(None);
    };
    let events = ended.events()?;
    Ok(events.into_iter().find_map(|event| {
        let problem = event.problem?;
        Some(format!(
            "the event {} is not published: {problem}",
            event.name
        ))
    }))
}

/// Whether the database has domain events: those of 0.1.0 have not.
pub(super) fn are_known() -> bool {
    edition::relation(c"domain_events").is_some()
}

impl<'a> Ended<'a> {
    fn of(settlement: &'a Settlement) -> Option<Self> {
        let publishes = settlement
            .row
            .step()
            .is_ok_and(|step| !step.publishes_events.is_empty());
        if !publishes && settlement.event_payloads.is_none() {
            return None;
        }
        let outcome = StepOutcome::of(settlement.to, settlement.events)?;
        Some(Self {
            row: &settlement.row,
            attempt: settlement.attempt,
            outcome,
            payload: match outcome {
                StepOutcome::Success => settlement.result,
                StepOutcome::RetryableFailure | StepOutcome::PermanentFailure => settlement.error,
            },
            given: settlement.event_payloads,
        })
    }

    /// The events that the outcome is for, then those that the handler gives a payload for though its step doesn't publish them.
    fn events(&self) -> Result<Vec<Event<'_>>, Error> {
        let step = self.row.step()?;
        let mut events = Vec::new();
        for (place, published) in step.publishes_events.iter().enumerate() {
            if !self.outcome.meets(published.condition) {
                continue;
            }
            let given = self.given.and_then(|given| given.field_of(&published.name));
            let payload = given.or(self.payload);
            let number = self.row.number();
            let problem = payloads::event_violation(&self.row.kept, number, place, payload)?.map(
                |violation| format!("its payload does not satisfy the event's schema: {violation}"),
            );
            events.push(Event {
                ended: self,
                name: published.name.clone(),
                delivery_mode: Some(published.delivery_mode.as_str()),
                payload,
                problem,
            });
        }
        for name in self.given.map(names).unwrap_or_default() {
            if step.publishes_events.iter().all(|event| event.name != name) {
                events.push(Event {
                    ended: self,
                    payload: self.given.and_then(|given| given.field_of(&name)),
                    name: name.chars().take(LONGEST_NAME).collect(),
                    delivery_mode: None,
                    problem: Some("its step does not publish it, by the template".to_owned()),
                });
            }
        }
        Ok(events)
    }
}

/// The names of the fields of an object.
#[allow(
    clippy::zero_sized_map_values,
    reason = "the reader of JSON reads an object into a map only"
)]
fn names(object: Json) -> Vec<String> {
    let fields: Result<BTreeMap<String, IgnoredAny>, _> = serde_json::from_str(&object.to_text());
    fields.unwrap_or_default().into_keys().collect()
}

fn send(call: &Call, ended: &[Ended]) -> Result<(), Error> {
    let mut events = Vec::new();
    for ended in ended {
        events.extend(ended.events()?);
    }
    if events.is_empty() || !are_known() {
        return Ok(());
    }
    let steps = events.iter().map(|event| event.ended.row.key);
    let facts = graphs::facts(call.session, steps)?;
    let ids = keys::new_tasks(events.len(), call.now, false)?;
    let mut rows = Vec::with_capacity(events.len());
    for (event, id) in events.iter().zip(ids) {
        let row = event.ended.row;
        let template = &row.kept.template;
        rows.push([
            uuid(id),
            uuid(row.key),
            int4(row.kept.id),
            text(&template.namespace),
            text(&template.name),
            text(&template.version),
            text(&row.step()?.name),
            text(&event.name),
            int4(event.ended.attempt),
            text(event.ended.outcome.as_str()),
            event.delivery_mode.and_then(text),
            facts
                .get(&row.task())
                .and_then(|facts| uuid(facts.correlation_id)),
            event.payload.and_then(Json::field),
            event.problem.as_deref().and_then(text),
        ]);
    }
    let values = [
        Value::rows(c"_published", rows.into_iter()),
        Value::time(call.now),
    ];
    let function = "tasker._publish_domain_events";
    let refusals = call
        .session
        .rows(&PUBLISH, function, &values, |row| Ok(worded(row)))?;
    refusals.into_iter().next().map_or(Ok(()), Err)
}
