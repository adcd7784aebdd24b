//! Fields and rows of composite types, which statements read an array of in a fraction of the time that as many arrays side by side take.
#![allow(
    clippy::unnecessary_wraps,
    reason = "a field may be null, and is written the same either way"
)]

use std::ffi::CStr;

use pgrx::pg_sys::{self, Datum, Oid};

use super::{Element, Value, array, text_datum};

/// A field of a row; `None` is null.
pub(crate) type Field = Option<Datum>;

pub(crate) fn uuid(key: u128) -> Field {
    // SAFETY: copied into memory of the session.
    unsafe {
        let bytes = pg_sys::palloc(16).cast::<[u8; 16]>();
        *bytes = key.to_be_bytes();
        Some(Datum::from(bytes))
    }
}

pub(crate) fn text(text: &str) -> Field {
    Some(text_datum(text))
}

pub(crate) fn int4(value: i32) -> Field {
    Some(Datum::from(value))
}

pub(crate) fn int8(value: i64) -> Field {
    Some(Datum::from(value))
}

pub(crate) fn bool(value: bool) -> Field {
    Some(Datum::from(value))
}

/// The type of a name in the schema `tasker`.
fn named_type(name: &CStr) -> Oid {
    // SAFETY: look-ups in the system's caches by names that end in a zero byte.
    unsafe {
        let schema = pg_sys::get_namespace_oid(c"tasker".as_ptr(), true);
        pg_sys::GetSysCacheOid(
            pg_sys::SysCacheIdentifier::TYPENAMENSP as _,
            pg_sys::Anum_pg_type_oid as _,
            Datum::from(name.as_ptr()),
            Datum::from(schema),
            Datum::from(0),
            Datum::from(0),
        )
    }
}

/// The type of arrays of rows of a type in the schema `tasker`.
pub(crate) fn array_type(name: &CStr) -> Oid {
    // SAFETY: a look-up in the system's caches.
    unsafe { pg_sys::get_array_type(named_type(name)) }
}

/// A row of a type in the schema `tasker`. An edition of the extension other than the library's own may have more fields, which are null, or fewer: what is new comes last.
pub(crate) fn composite<const N: usize>(name: &CStr, fields: [Field; N]) -> Option<Datum> {
    let mut row = None;
    form(named_type(name), [fields].into_iter(), |datum| {
        row = Some(datum);
    });
    row
}

fn form<const N: usize>(
    oid: Oid,
    rows: impl Iterator<Item = [Field; N]>,
    mut each: impl FnMut(Datum),
) {
    // SAFETY: the description is held until all rows are made; there are at least as many values as it has fields.
    unsafe {
        let description = pg_sys::lookup_rowtype_tupdesc(oid, -1);
        let count = usize::try_from((*description).natts).unwrap_or(0).max(N);
        let mut values = vec![Datum::from(0); count];
        let mut nulls = vec![true; count];
        for row in rows {
            for (index, field) in row.into_iter().enumerate() {
                values[index] = field.unwrap_or(Datum::from(0));
                nulls[index] = field.is_none();
            }
            let tuple =
                pg_sys::heap_form_tuple(description, values.as_mut_ptr(), nulls.as_mut_ptr());
            each(pg_sys::HeapTupleHeaderGetDatum((*tuple).t_data));
        }
        if (*description).tdrefcount >= 0 {
            pg_sys::DecrTupleDescRefCount(description);
        }
    }
}

/// Composite values of one type as an array; `None` for none.
pub(crate) fn composites(rows: &[Datum]) -> Option<Datum> {
    let first = rows.first()?;
    // SAFETY: a composite value names its type in its header.
    let oid = unsafe {
        (*first.cast_mut_ptr::<pg_sys::HeapTupleHeaderData>())
            .t_choice
            .t_datum
            .datum_typeid
    };
    let element = Element {
        oid,
        length: -1,
        by_value: false,
        align: b'd',
    };
    array(&element, rows.iter().map(|&row| Some(row))).0
}

impl Value {
    /// Rows of a type in the schema `tasker`.
    pub(crate) fn rows<const N: usize>(
        name: &CStr,
        rows: impl Iterator<Item = [Field; N]>,
    ) -> Self {
        let oid = named_type(name);
        let mut datums = Vec::with_capacity(rows.size_hint().0);
        form(oid, rows, |datum| datums.push(Some(datum)));
        let element = Element {
            oid,
            length: -1,
            by_value: false,
            align: b'd',
        };
        array(&element, datums.into_iter())
    }
}
