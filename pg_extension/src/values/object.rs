//! A `jsonb` object made of its fields, without its text in between.

use std::ptr::null_mut;

use pgrx::pg_sys::{self, Datum, JsonbIteratorToken, JsonbParseState, JsonbValue};

use super::json::Json;

/// A value of a field.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Plain<'a> {
    Text(&'a str),
    Number(i32),
}

/// The object of these fields, each of another name.
pub(crate) fn object(fields: &[(&str, Plain)]) -> Json {
    let mut state: *mut JsonbParseState = null_mut();
    // SAFETY: as PostgreSQL's own builders do it: an object is begun, keys and values are pushed in turn, and it is ended. What is pushed is copied when the
    // whole is made, within this call.
    unsafe {
        pg_sys::pushJsonbValue(
            &raw mut state,
            JsonbIteratorToken::WJB_BEGIN_OBJECT,
            null_mut(),
        );
        for (name, value) in fields {
            let mut key = string(name);
            let mut value = match value {
                Plain::Text(text) => string(text),
                Plain::Number(number) => numeric(*number),
            };
            pg_sys::pushJsonbValue(&raw mut state, JsonbIteratorToken::WJB_KEY, &raw mut key);
            pg_sys::pushJsonbValue(
                &raw mut state,
                JsonbIteratorToken::WJB_VALUE,
                &raw mut value,
            );
        }
        let whole = pg_sys::pushJsonbValue(
            &raw mut state,
            JsonbIteratorToken::WJB_END_OBJECT,
            null_mut(),
        );
        Json(Datum::from(pg_sys::JsonbValueToJsonb(whole)))
    }
}

fn string(text: &str) -> JsonbValue {
    let mut value = JsonbValue {
        type_: pg_sys::jbvType::jbvString,
        ..JsonbValue::default()
    };
    value.val.string = pg_sys::JsonbValue__bindgen_ty_1__bindgen_ty_1 {
        len: i32::try_from(text.len()).unwrap_or(i32::MAX),
        val: text.as_ptr().cast_mut().cast(),
    };
    value
}

fn numeric(number: i32) -> JsonbValue {
    let mut value = JsonbValue {
        type_: pg_sys::jbvType::jbvNumeric,
        ..JsonbValue::default()
    };
    // SAFETY: gives a numeric of its own.
    value.val.numeric = unsafe { pg_sys::int64_to_numeric(i64::from(number)) };
    value
}
