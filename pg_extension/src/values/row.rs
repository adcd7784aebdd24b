//! One row of a statement's answer.

use pgrx::pg_sys::{Datum, TimestampTz};
use pgrx::{FromDatum, Uuid};

use super::Json;
use crate::keys;

/// One row of a statement's answer, its columns counted from 0.
pub(crate) struct Row<'a> {
    values: &'a [Datum],
    nulls: &'a [bool],
}

impl<'a> Row<'a> {
    pub(crate) fn new(values: &'a [Datum], nulls: &'a [bool]) -> Self {
        Self { values, nulls }
    }

    pub(crate) fn datum(&self, column: usize) -> Option<Datum> {
        (!self.nulls[column]).then(|| self.values[column])
    }

    pub(crate) fn int4(&self, column: usize) -> i32 {
        self.optional_int4(column).unwrap_or_default()
    }

    pub(crate) fn optional_int4(&self, column: usize) -> Option<i32> {
        self.datum(column).map(|datum| datum.value() as i32)
    }

    pub(crate) fn bool(&self, column: usize) -> bool {
        self.datum(column).is_some_and(|datum| datum.value() != 0)
    }

    pub(crate) fn int2(&self, column: usize) -> i16 {
        self.datum(column).map_or(0, |datum| datum.value() as i16)
    }

    pub(crate) fn optional_int8(&self, column: usize) -> Option<i64> {
        self.datum(column).map(|datum| datum.value() as i64)
    }

    pub(crate) fn int8(&self, column: usize) -> i64 {
        self.optional_int8(column).unwrap_or_default()
    }

    pub(crate) fn optional_time(&self, column: usize) -> Option<TimestampTz> {
        self.optional_int8(column)
    }

    pub(crate) fn uuid(&self, column: usize) -> u128 {
        self.optional_uuid(column).unwrap_or_default()
    }

    pub(crate) fn optional_uuid(&self, column: usize) -> Option<u128> {
        // SAFETY: a uuid is a pointer to 16 bytes.
        self.datum(column)
            .map(|datum| u128::from_be_bytes(unsafe { *datum.cast_mut_ptr::<[u8; 16]>() }))
    }

    pub(crate) fn uuids(&self, column: usize) -> Vec<u128> {
        // SAFETY: an array of uuid.
        let keys = self
            .datum(column)
            .and_then(|datum| unsafe { Vec::<Uuid>::from_datum(datum, false) });
        keys.unwrap_or_default().iter().map(keys::number).collect()
    }

    pub(crate) fn int4s(&self, column: usize) -> Vec<i32> {
        // SAFETY: an array of int4.
        self.datum(column)
            .and_then(|datum| unsafe { Vec::<i32>::from_datum(datum, false) })
            .unwrap_or_default()
    }

    pub(crate) fn optional_text(&self, column: usize) -> Option<&'a str> {
        // SAFETY: a text of this row, which outlives it.
        self.datum(column)
            .and_then(|datum| unsafe { <&str>::from_datum(datum, false) })
    }

    pub(crate) fn text(&self, column: usize) -> &'a str {
        self.optional_text(column).unwrap_or_default()
    }

    pub(crate) fn json(&self, column: usize) -> Option<Json> {
        self.datum(column).map(Json::of_datum)
    }
}
