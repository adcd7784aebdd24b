//! Values on their way into a statement and out of it, as PostgreSQL holds them.

mod answers;
mod fields;
mod json;
mod object;
mod row;

use pgrx::pg_sys::{self, Datum, Oid, TimestampTz};

pub(crate) use answers::{answer, or_refused, refused};
pub(crate) use fields::{Field, array_type, bool, composite, composites, int4, int8, text, uuid};
pub(crate) use json::{Json, Kind};
pub(crate) use object::{Plain, object};
pub(crate) use row::Row;

/// The names of a list that SQL gave; nulls in it name nothing.
pub(crate) fn names(list: Vec<Option<String>>) -> Vec<String> {
    list.into_iter().flatten().collect()
}

/// A value for a parameter; `None` is null.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Value(Option<Datum>);

/// What the planner of arrays wants to know of their elements.
struct Element {
    oid: Oid,
    length: i32,
    by_value: bool,
    align: u8,
}

const INT4: Element = Element {
    oid: pg_sys::INT4OID,
    length: 4,
    by_value: true,
    align: b'i',
};
const INT8: Element = Element {
    oid: pg_sys::INT8OID,
    length: 8,
    by_value: true,
    align: b'd',
};
const TIME: Element = Element {
    oid: pg_sys::TIMESTAMPTZOID,
    length: 8,
    by_value: true,
    align: b'd',
};
const UUID: Element = Element {
    oid: pg_sys::UUIDOID,
    length: 16,
    by_value: false,
    align: b'c',
};
const BOOL: Element = Element {
    oid: pg_sys::BOOLOID,
    length: 1,
    by_value: true,
    align: b'c',
};
const TEXT: Element = Element {
    oid: pg_sys::TEXTOID,
    length: -1,
    by_value: false,
    align: b'i',
};
const JSONB: Element = Element {
    oid: pg_sys::JSONBOID,
    length: -1,
    by_value: false,
    align: b'i',
};

impl Value {
    pub(crate) const NULL: Self = Self(None);

    pub(crate) fn datum(self) -> Option<Datum> {
        self.0
    }

    pub(crate) fn int4(value: i32) -> Self {
        Self(Some(Datum::from(value)))
    }

    pub(crate) fn int8(value: i64) -> Self {
        Self(Some(Datum::from(value)))
    }

    pub(crate) fn oid(value: Oid) -> Self {
        Self(Some(Datum::from(value)))
    }

    pub(crate) fn time(at: TimestampTz) -> Self {
        Self(Some(Datum::from(at)))
    }

    pub(crate) fn text(text: &str) -> Self {
        Self(Some(text_datum(text)))
    }

    pub(crate) fn optional_text(text: Option<&str>) -> Self {
        Self(text.map(text_datum))
    }

    pub(crate) fn texts(texts: &[&str]) -> Self {
        array(&TEXT, texts.iter().map(|text| Some(text_datum(text))))
    }

    pub(crate) fn optional_texts(texts: &[Option<&str>]) -> Self {
        array(&TEXT, texts.iter().map(|text| text.map(text_datum)))
    }

    pub(crate) fn int4s(values: &[i32]) -> Self {
        array(&INT4, values.iter().map(|&value| Some(Datum::from(value))))
    }

    pub(crate) fn int8s(values: &[i64]) -> Self {
        array(&INT8, values.iter().map(|&value| Some(Datum::from(value))))
    }

    pub(crate) fn bool(value: bool) -> Self {
        Self(Some(Datum::from(value)))
    }

    pub(crate) fn bools(values: &[bool]) -> Self {
        array(&BOOL, values.iter().map(|&value| Some(Datum::from(value))))
    }

    pub(crate) fn times(values: &[TimestampTz]) -> Self {
        array(&TIME, values.iter().map(|&value| Some(Datum::from(value))))
    }

    pub(crate) fn optional_times(values: &[Option<TimestampTz>]) -> Self {
        array(&TIME, values.iter().map(|value| value.map(Datum::from)))
    }

    pub(crate) fn uuid(key: u128) -> Self {
        Self(uuid(key))
    }

    pub(crate) fn uuids(keys: &[u128]) -> Self {
        let bytes: Vec<[u8; 16]> = keys.iter().map(|key| key.to_be_bytes()).collect();
        array(
            &UUID,
            bytes.iter().map(|bytes| Some(Datum::from(bytes.as_ptr()))),
        )
    }

    pub(crate) fn optional_uuids(keys: &[Option<u128>]) -> Self {
        let bytes: Vec<Option<[u8; 16]>> =
            keys.iter().map(|key| key.map(u128::to_be_bytes)).collect();
        array(
            &UUID,
            bytes
                .iter()
                .map(|bytes| bytes.as_ref().map(|bytes| Datum::from(bytes.as_ptr()))),
        )
    }

    pub(crate) fn jsons(values: &[Option<Json>]) -> Self {
        array(&JSONB, values.iter().map(|value| value.map(|json| json.0)))
    }
}

fn text_datum(text: &str) -> Datum {
    // SAFETY: copies that many bytes into the current memory context.
    unsafe {
        Datum::from(pg_sys::cstring_to_text_with_len(
            text.as_ptr().cast(),
            i32::try_from(text.len()).unwrap_or(i32::MAX),
        ))
    }
}

fn array(element: &Element, values: impl ExactSizeIterator<Item = Option<Datum>>) -> Value {
    let mut length = i32::try_from(values.len()).unwrap_or(i32::MAX);
    let (mut datums, mut nulls): (Vec<Datum>, Vec<bool>) = values
        .map(|value| (value.unwrap_or(Datum::from(0)), value.is_none()))
        .unzip();
    let mut lower_bound = 1;
    // SAFETY: as many elements as said; PostgreSQL copies what they point to.
    unsafe {
        let array = pg_sys::construct_md_array(
            datums.as_mut_ptr(),
            nulls.as_mut_ptr(),
            1,
            &raw mut length,
            &raw mut lower_bound,
            element.oid,
            element.length,
            element.by_value,
            element.align as std::ffi::c_char,
        );
        Value(Some(Datum::from(array)))
    }
}
