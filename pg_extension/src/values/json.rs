//! JSON as PostgreSQL holds it. Payloads pass through the engine in this form.

use std::ffi::{CStr, CString};

use pgrx::pg_sys::{self, Datum};
use pgrx::{direct_function_call, direct_function_call_as_datum};

use super::{Field, Value, text_datum};

/// A `jsonb` as PostgreSQL holds it. It is only as long-lived as the session, or the call, that it comes from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Json(pub(super) Datum);

/// What a JSON value is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Object,
    Array,
    String,
    Number,
    True,
    False,
    Null,
}

/// Bits in the header of a `jsonb` that say what its root is (PostgreSQL's `utils/jsonb.h`).
const COUNT: u32 = 0x0FFF_FFFF;
const ROOT_IS_SCALAR: u32 = 0x1000_0000;
const ROOT_IS_OBJECT: u32 = 0x2000_0000;
/// Bits in the entry of a value that say what it is.
const ENTRY_KIND: u32 = 0x7000_0000;
const ENTRY_IS_STRING: u32 = 0x0000_0000;
const ENTRY_IS_NUMBER: u32 = 0x1000_0000;
const ENTRY_IS_FALSE: u32 = 0x2000_0000;
const ENTRY_IS_TRUE: u32 = 0x3000_0000;

impl From<Json> for Value {
    fn from(json: Json) -> Self {
        Self(Some(json.0))
    }
}

impl Json {
    /// Reads JSON; it must be valid.
    pub(crate) fn parse(text: &CStr) -> Self {
        // SAFETY: the input function of jsonb.
        let datum = unsafe {
            direct_function_call_as_datum(pg_sys::jsonb_in, &[Some(Datum::from(text.as_ptr()))])
        };
        Self(datum.unwrap_or_else(|| unreachable!("jsonb_in gives no null")))
    }

    /// The value as PostgreSQL holds it.
    pub(crate) fn of(value: &serde_json::Value) -> Self {
        Self::parse_text(value.to_string())
    }

    /// Reads JSON text; it must be valid.
    pub(crate) fn parse_text(text: String) -> Self {
        // JSON text holds no zero byte: it is written as an escape.
        Self::parse(&CString::new(text).unwrap_or_default())
    }

    /// A field of an object, as text; `None` when it isn't there, or null.
    pub(crate) fn text_of(self, name: &str) -> Option<String> {
        // SAFETY: a jsonb and a text; gives a text, or null.
        unsafe {
            direct_function_call(
                pg_sys::jsonb_object_field_text,
                &[Some(self.0), Some(text_datum(name))],
            )
        }
    }

    /// A field of an object; `None` when it isn't there.
    pub(crate) fn field_of(self, name: &str) -> Option<Self> {
        // SAFETY: a jsonb and a text; gives a jsonb, or null.
        unsafe {
            direct_function_call_as_datum(
                pg_sys::jsonb_object_field,
                &[Some(self.0), Some(text_datum(name))],
            )
        }
        .map(Self)
    }

    /// How many elements an array has; anything else has none.
    pub(crate) fn count(self) -> u32 {
        match self.kind() {
            Kind::Array => self.header() & COUNT,
            _ => 0,
        }
    }

    /// The elements of an array; of anything else none.
    pub(crate) fn elements(self) -> impl Iterator<Item = Self> {
        (0..self.count()).filter_map(move |index| {
            // SAFETY: a jsonb and an int4; gives a jsonb, or null.
            unsafe {
                direct_function_call_as_datum(
                    pg_sys::jsonb_array_element,
                    &[Some(self.0), Some(Datum::from(index))],
                )
            }
            .map(Self)
        })
    }

    /// What it is.
    pub(crate) fn kind(self) -> Kind {
        let header = self.header();
        if header & ROOT_IS_OBJECT != 0 {
            return Kind::Object;
        }
        if header & ROOT_IS_SCALAR == 0 {
            return Kind::Array;
        }
        match self.word(1) & ENTRY_KIND {
            ENTRY_IS_STRING => Kind::String,
            ENTRY_IS_NUMBER => Kind::Number,
            ENTRY_IS_TRUE => Kind::True,
            ENTRY_IS_FALSE => Kind::False,
            _ => Kind::Null,
        }
    }

    /// As a field of a row.
    #[allow(
        clippy::unnecessary_wraps,
        reason = "a field may be null, and is written the same either way"
    )]
    pub(crate) fn field(self) -> Field {
        Some(self.0)
    }

    /// A value of type `jsonb` that PostgreSQL gave.
    pub(crate) fn of_datum(datum: Datum) -> Self {
        Self(datum)
    }

    /// As JSON text.
    pub(crate) fn to_text(self) -> String {
        // SAFETY: the output function of jsonb gives a string that ends in a zero byte.
        unsafe {
            direct_function_call::<&CStr>(pg_sys::jsonb_out, &[Some(self.0)])
                .map(|text| text.to_string_lossy().into_owned())
                .unwrap_or_default()
        }
    }

    /// Whether both are the same value, however they are written.
    pub(crate) fn equals(self, other: Self) -> bool {
        // SAFETY: two values of type jsonb.
        unsafe {
            direct_function_call(pg_sys::jsonb_eq, &[Some(self.0), Some(other.0)]).unwrap_or(false)
        }
    }

    /// This object with the other's fields put over it.
    pub(crate) fn overlaid_with(self, other: Self) -> Self {
        // SAFETY: two values of type jsonb.
        let datum = unsafe {
            direct_function_call_as_datum(pg_sys::jsonb_concat, &[Some(self.0), Some(other.0)])
        };
        datum.map_or(self, Self)
    }

    /// Whether its root is an object.
    pub(crate) fn is_object(self) -> bool {
        self.header() & ROOT_IS_OBJECT != 0
    }

    /// An object or array without anything in it.
    pub(crate) fn is_empty(self) -> bool {
        self.header() & COUNT == 0 && self.header() & ROOT_IS_SCALAR == 0
    }

    /// How many bytes PostgreSQL holds it in. The text is at most a few times as long.
    pub(crate) fn size(self) -> usize {
        // SAFETY: a datum of variable length.
        unsafe { pg_sys::toast_raw_datum_size(self.0) }
    }

    /// The first four bytes after the length are the header of the root.
    fn header(self) -> u32 {
        self.word(0)
    }

    /// Four bytes of the root: its header, then an entry for each value in it.
    #[allow(clippy::cast_ptr_alignment, reason = "it is read as it lies")]
    fn word(self, index: usize) -> u32 {
        // SAFETY: every root has a header; whoever asks for an entry knows from it that it is there.
        unsafe {
            let plain = pg_sys::pg_detoast_datum(self.0.cast_mut_ptr());
            plain
                .cast::<u8>()
                .add(4 + 4 * index)
                .cast::<u32>()
                .read_unaligned()
        }
    }
}
