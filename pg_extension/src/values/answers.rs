//! What a function of the library answers: what it has made, or how it refuses.

use pgrx::pg_sys::{self, Datum};
use pgrx::{AnyElement, FromDatum};

use super::{Field, Value};
use crate::error::Error;

/// A value as the answer of a function.
pub(crate) fn answer(datum: Option<Datum>) -> Option<AnyElement> {
    // SAFETY: its exact type is said where the function is declared.
    datum.and_then(|datum| unsafe {
        AnyElement::from_polymorphic_datum(datum, false, pg_sys::ANYELEMENTOID)
    })
}

/// How a function refuses, for one that gives nothing else.
pub(crate) fn refused(result: Result<(), Error>) -> Result<Option<Vec<Option<String>>>, Error> {
    match result {
        Ok(()) => Ok(None),
        Err(Error::Refused(refusal)) => Ok(Some(vec![
            Some(refusal.code),
            Some(refusal.message),
            refusal.detail,
            refusal.hint,
        ])),
        Err(error) => Err(error),
    }
}

/// What a function has made, or how it refuses, as the array that `tasker._raise_refused` raises.
pub(crate) fn or_refused<T>(result: Result<T, Error>) -> Result<(Option<T>, Field), Error> {
    match result {
        Ok(made) => Ok((Some(made), None)),
        Err(Error::Refused(refusal)) => {
            let texts = [
                Some(&refusal.code),
                Some(&refusal.message),
                refusal.detail.as_ref(),
                refusal.hint.as_ref(),
            ];
            let refused = Value::optional_texts(&texts.map(|text| text.map(String::as_str)));
            Ok((None, refused.datum()))
        }
        Err(error) => Err(error),
    }
}
