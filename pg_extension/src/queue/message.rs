//! A message as PGMQ's table holds it.

use pgrx::datum::TimestampWithTimeZone;
use pgrx::pg_extern;
use pgrx::pg_sys::TimestampTz;
use pgrx::pg_sys::panic::ErrorReport;

use crate::error::Error;
use crate::keys;
use crate::values::{Json, Plain, Value, object};

/// A message as the engine sends it.
pub(crate) struct Message<'a> {
    pub(crate) task: u128,
    pub(crate) step: u128,
    pub(crate) attempt: i32,
    pub(crate) handler: &'a str,
    pub(crate) priority: i32,
    pub(crate) correlation_id: u128,
    pub(crate) visible_at: TimestampTz,
}

impl Message<'_> {
    fn content(&self) -> Json {
        object(&[
            ("task_uuid", Plain::Text(&keys::text(self.task))),
            ("step_uuid", Plain::Text(&keys::text(self.step))),
            ("attempt", Plain::Number(self.attempt)),
            ("handler", Plain::Text(self.handler)),
            ("priority", Plain::Number(self.priority)),
            (
                "correlation_id",
                Plain::Text(&keys::text(self.correlation_id)),
            ),
        ])
    }

    /// What claims serve it by; most have none.
    fn headers(&self) -> Option<Json> {
        (self.priority != 0).then(|| object(&[("priority", Plain::Number(self.priority))]))
    }
}

/// The times from which messages are visible, what is in them, and their headers.
pub(super) fn columns(messages: &[&Message]) -> [Value; 3] {
    let times: Vec<TimestampTz> = messages.iter().map(|message| message.visible_at).collect();
    let contents: Vec<Option<Json>> = messages
        .iter()
        .map(|message| Some(message.content()))
        .collect();
    let headers: Vec<Option<Json>> = messages.iter().map(|message| message.headers()).collect();
    [
        Value::times(&times),
        Value::jsons(&contents),
        Value::jsons(&headers),
    ]
}

/// Until when the message of a step under a lease is hidden: the end of the second in which the lease ends. So a message that is hidden again within a second, and a row that takes over
/// another's message, mostly keep their time, and no index on it changes.
pub(crate) fn hidden_until(lease_expires_at: TimestampTz) -> TimestampTz {
    const SECOND: TimestampTz = 1_000_000;
    let begun = lease_expires_at.rem_euclid(SECOND);
    if begun == 0 {
        lease_expires_at
    } else {
        lease_expires_at.saturating_add(SECOND - begun)
    }
}

/// Until when the message of a step under a lease is hidden.
#[pg_extern(immutable, strict, parallel_safe)]
fn _hidden_until(
    lease_expires_at: TimestampWithTimeZone,
) -> Result<TimestampWithTimeZone, ErrorReport> {
    TimestampWithTimeZone::try_from(hidden_until(lease_expires_at.into()))
        .map_err(|_| Error::TimeOutOfRange.into())
}
