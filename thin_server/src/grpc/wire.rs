//! Rows of the client as messages, and fields of messages as the client takes them.
//!
//! UUIDs are texts, times are `google.protobuf.Timestamp`, JSON is text in a field `…_json`, a column that is null is a field that is left out.

use std::collections::HashMap;
use std::time::Duration;

use chrono::{DateTime, Utc};
use prost_types::Timestamp;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use uuid::Uuid;

use crate::problem::Problem;

/// Into what is sent.
pub(super) trait ToWire<W> {
    fn to_wire(self) -> W;
}

macro_rules! as_it_is {
    ($($kind:ty),*) => {
        $(impl ToWire<$kind> for $kind {
            fn to_wire(self) -> $kind {
                self
            }
        })*
    };
}

as_it_is!(String, bool, i32, i64, f64);

impl<W, T: ToWire<W>> ToWire<Option<W>> for Option<T> {
    fn to_wire(self) -> Option<W> {
        self.map(ToWire::to_wire)
    }
}

impl<W, T: ToWire<W>> ToWire<Vec<W>> for Vec<T> {
    fn to_wire(self) -> Vec<W> {
        self.into_iter().map(ToWire::to_wire).collect()
    }
}

impl ToWire<String> for Uuid {
    fn to_wire(self) -> String {
        self.to_string()
    }
}

impl ToWire<String> for Box<RawValue> {
    fn to_wire(self) -> String {
        Box::<str>::from(self).into_string()
    }
}

impl ToWire<String> for Value {
    fn to_wire(self) -> String {
        self.to_string()
    }
}

impl ToWire<Timestamp> for DateTime<Utc> {
    fn to_wire(self) -> Timestamp {
        Timestamp {
            seconds: self.timestamp(),
            nanos: self.timestamp_subsec_nanos() as i32,
        }
    }
}

impl ToWire<Option<Timestamp>> for DateTime<Utc> {
    fn to_wire(self) -> Option<Timestamp> {
        Some(self.to_wire())
    }
}

/// Says how a row becomes a message: which fields are named alike, and after `json` those that are JSON here and text there. The row is taken apart field by field, so that one which is new
/// in it doesn't compile until it is said.
macro_rules! message {
    ($row:path => $message:ident { $($field:ident),* $(; json $($from:ident => $to:ident),+)? }) => {
        impl $crate::grpc::wire::ToWire<tasker_grpc::v1::$message> for $row {
            fn to_wire(self) -> tasker_grpc::v1::$message {
                let Self { $($field,)* $($($from),+)? } = self;
                tasker_grpc::v1::$message {
                    $($field: $field.to_wire(),)*
                    $($($to: $from.to_wire()),+)?
                }
            }
        }
    };
}
pub(super) use message;

/// A UUID.
pub(super) fn uuid(field: &str, text: &str) -> Result<Uuid, Problem> {
    Uuid::parse_str(text).map_err(|error| Problem::unreadable(format!("{field}: {error}")))
}

/// A UUID that may be left out.
pub(super) fn optional_uuid(field: &str, text: Option<&str>) -> Result<Option<Uuid>, Problem> {
    text.map(|text| uuid(field, text)).transpose()
}

/// A JSON document, kept as it is written.
pub(super) fn json(field: &str, text: String) -> Result<Box<RawValue>, Problem> {
    RawValue::from_string(text)
        .map_err(|error| Problem::unreadable(format!("{field} isn't JSON: {error}")))
}

/// A JSON document that may be left out.
pub(super) fn optional_json(
    field: &str,
    text: Option<String>,
) -> Result<Option<Box<RawValue>>, Problem> {
    text.map(|text| json(field, text)).transpose()
}

/// A JSON document, read.
pub(super) fn value<T: DeserializeOwned>(field: &str, text: &str) -> Result<T, Problem> {
    serde_json::from_str(text)
        .map_err(|error| Problem::unreadable(format!("{field} isn't JSON: {error}")))
}

/// A JSON document that may be left out, read.
pub(super) fn optional_value(field: &str, text: Option<&str>) -> Result<Option<Value>, Problem> {
    text.map(|text| value(field, text)).transpose()
}

/// JSON documents by names, read.
pub(super) fn values(
    field: &str,
    texts: HashMap<String, String>,
) -> Result<Map<String, Value>, Problem> {
    let mut read = Map::new();
    for (name, text) in texts {
        let value = value(field, &text)?;
        read.insert(name, value);
    }
    Ok(read)
}

/// A time that may be left out.
pub(super) fn time(field: &str, at: Option<Timestamp>) -> Result<Option<DateTime<Utc>>, Problem> {
    let Some(Timestamp { seconds, nanos }) = at else {
        return Ok(None);
    };
    let read = u32::try_from(nanos)
        .ok()
        .and_then(|nanos| DateTime::from_timestamp(seconds, nanos));
    read.map(Some)
        .ok_or_else(|| Problem::bad_parameter(format!("{field} is no time that there is")))
}

/// A time that must be there.
pub(super) fn needed_time(field: &str, at: Option<Timestamp>) -> Result<DateTime<Utc>, Problem> {
    time(field, at)?.ok_or_else(|| missing(field))
}

/// A word of a set, as serde reads it.
pub(super) fn word<T: DeserializeOwned>(field: &str, text: &str) -> Result<T, Problem> {
    serde_json::from_value(Value::from(text))
        .map_err(|error| Problem::bad_parameter(format!("{field}: {error}")))
}

/// A list that stands for "any" when there is nothing in it.
pub(super) fn any(list: Vec<String>) -> Option<Vec<String>> {
    (!list.is_empty()).then_some(list)
}

/// A count that the database takes as unsigned.
pub(super) fn count(field: &str, number: i32) -> Result<u32, Problem> {
    u32::try_from(number).map_err(|_| {
        Problem::bad_parameter(format!("{field} is {number}, and must not be negative"))
    })
}

/// A lease; the database says how long it may be.
pub(super) fn lease(seconds: Option<f64>) -> Result<Duration, Problem> {
    const DEFAULT_SECONDS: f64 = 30.0;
    // Beyond what the database takes, and within what it can be told.
    const LONGEST: Duration = Duration::from_hours(24 * 365);
    let seconds = seconds.unwrap_or(DEFAULT_SECONDS);
    Duration::try_from_secs_f64(seconds)
        .map(|lease| lease.min(LONGEST))
        .map_err(|_| {
            Problem::bad_parameter(format!(
                "lease_seconds is {seconds}, and must be a length of time"
            ))
        })
}

/// The namespace, where one is left out.
pub(super) fn namespace(given: Option<String>) -> String {
    given.unwrap_or_else(|| "default".to_owned())
}

/// A field that must be there isn't.
pub(super) fn missing(field: &str) -> Problem {
    Problem::bad_parameter(format!("{field} is needed"))
}

/// A page and the key after which the next one begins, when there may be one.
pub(super) fn page<T: ToWire<W>, W>(
    items: Vec<T>,
    limit: i32,
    key: impl Fn(&T) -> Uuid,
) -> (Vec<W>, Option<String>) {
    let is_full = i32::try_from(items.len()).is_ok_and(|count| count == limit);
    let next = items.last().filter(|_| is_full).map(key);
    (items.to_wire(), next.to_wire())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_comes_back_as_it_was() {
        for text in [
            "2026-01-31T01:02:03.000004Z",
            "1969-12-31T23:59:59.999999Z",
            "0001-01-01T00:00:00Z",
        ] {
            let at: DateTime<Utc> = text.parse().expect("a time");
            assert_eq!(time("at", at.to_wire()).expect("a time"), Some(at));
        }
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let at = |seconds, nanos| time("at", Some(Timestamp { seconds, nanos }));
        assert!(at(i64::MAX, 0).is_err() && at(0, -1).is_err() && at(0, i32::MAX).is_err());
        assert!(uuid("task_uuid", "").is_err() && uuid("task_uuid", "x").is_err());
        assert!(json("context_json", "{".to_owned()).is_err());
        for seconds in [-1.0, f64::NAN, f64::INFINITY] {
            assert!(lease(Some(seconds)).is_err());
        }
        assert_eq!(lease(None).ok(), Some(Duration::from_secs(30)));
        assert!(count("running", -1).is_err());
    }

    #[test]
    fn numbers_stay_what_they_are() {
        let digits = "123456789012345678901234567890";
        let read: Value = value("result_json", digits).expect("JSON");
        let written: String = read.to_wire();
        assert_eq!(written, digits);
        let kept: String = json("context_json", "{\"n\": 1.10}".to_owned())
            .expect("JSON")
            .to_wire();
        assert_eq!(kept, "{\"n\": 1.10}");
    }
}
