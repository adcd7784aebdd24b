//! `trips.*`: bookings, and what undoes them. Nothing is booked anywhere.

use serde_json::{Value, json};
use tasker_worker_runtime::{HandlerError, StepContext};

use super::HandlerResult;

fn booking(step: &StepContext, of: &str) -> HandlerResult {
    let traveller: String = step.context_field("traveller")?;
    Ok(json!({"booking": format!("{of} for {traveller}"), "task_uuid": step.task_uuid()}))
}

/// Books a flight.
pub(crate) fn book_flight(step: &StepContext) -> HandlerResult {
    booking(step, "flight")
}

/// Books a hotel.
pub(crate) fn book_hotel(step: &StepContext) -> HandlerResult {
    booking(step, "hotel")
}

/// Takes the payment, unless the context says that it is declined.
pub(crate) fn take_payment(step: &StepContext) -> HandlerResult {
    if step.optional_context_field("declined")? == Some(true) {
        return Err(HandlerError::permanent("the payment was declined").with_type("declined"));
    }
    Ok(json!({"paid": true}))
}

/// Cancels the booking that the step undone has made.
pub(crate) fn cancel_booking(step: &StepContext) -> HandlerResult {
    let undone: Value = step.input("result")?;
    Ok(json!({"cancelled": undone["booking"]}))
}
