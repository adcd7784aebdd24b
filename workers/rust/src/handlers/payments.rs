//! `payments.*`: a refund is checked, made by the gateway, written into the books, and the customer
//! is told.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tasker_worker_runtime::{HandlerError, StepContext};

use super::HandlerResult;
use super::money::{sum, written};
use super::reference::reference;

/// How old a payment may be when it is refunded.
const REFUND_WINDOW_DAYS: u32 = 90;

#[derive(Deserialize)]
struct Payment {
    payment_id: String,
    amount_cents: u64,
    /// The rest of the payment when left out.
    refund_cents: Option<u64>,
    #[serde(default)]
    already_refunded_cents: u64,
    #[serde(default)]
    payment_age_days: u32,
}

#[derive(Serialize, Deserialize)]
struct Refund {
    payment_id: String,
    refund_cents: u64,
    remaining_cents: u64,
}

/// Checks that the payment of the context is young enough and has enough left to refund.
pub(crate) fn validate_eligibility(step: &StepContext) -> HandlerResult {
    let payment: Payment = step.context_as()?;
    if payment.payment_id.trim().is_empty() {
        return Err(not_eligible("the payment has no id"));
    }
    if payment.payment_age_days > REFUND_WINDOW_DAYS {
        let age = payment.payment_age_days;
        return Err(not_eligible(format!(
            "the payment is {age} days old, {REFUND_WINDOW_DAYS} at most can be refunded"
        )));
    }
    let left = payment
        .amount_cents
        .checked_sub(payment.already_refunded_cents);
    let left = left.ok_or_else(|| not_eligible("more is refunded already than was paid"))?;
    let refund_cents = payment.refund_cents.unwrap_or(left);
    if refund_cents == 0 {
        return Err(not_eligible("nothing is left to refund"));
    }
    let Some(remaining_cents) = left.checked_sub(refund_cents) else {
        let (asked, left) = (written(refund_cents), written(left));
        return Err(not_eligible(format!(
            "{asked} was asked for and {left} is left"
        )));
    };
    Ok(serde_json::to_value(Refund {
        payment_id: payment.payment_id,
        refund_cents,
        remaining_cents,
    })?)
}

/// Asks the gateway for the refund. The gateway of this example is busy for as many attempts as the
/// context's `gateway_busy_attempts` says.
pub(crate) fn process_gateway_refund(step: &StepContext) -> HandlerResult {
    let refund: Refund = step.dependency("validate_eligibility")?;
    let busy_attempts: i32 = step
        .optional_context_field("gateway_busy_attempts")?
        .unwrap_or(0);
    if step.attempts_used() <= busy_attempts {
        return Err(HandlerError::retryable("the gateway is busy").with_type("gateway_busy"));
    }
    // The step's key makes the request idempotent at the gateway: a repeated attempt gets the
    // refund that was made before.
    let idempotency_key = step.step_uuid().to_string();
    let amount = refund.refund_cents.to_string();
    let parts = [refund.payment_id.as_str(), &amount, &idempotency_key];
    Ok(json!({
        "gateway_refund_id": reference("rfd", &parts),
        "idempotency_key": idempotency_key,
        "status": "succeeded",
        "payment_id": refund.payment_id,
        "refund_cents": refund.refund_cents,
        "remaining_cents": refund.remaining_cents,
    }))
}

/// Writes the refund into the books: two entries that cancel out.
pub(crate) fn update_payment_records(step: &StepContext) -> HandlerResult {
    let made: Value = step.dependency("process_gateway_refund")?;
    let refund: Refund = step.dependency("process_gateway_refund")?;
    if made["status"] != "succeeded" {
        return Err(
            HandlerError::permanent("the gateway made no refund").with_type("refund_not_made")
        );
    }
    let entries = [
        ("refunds", refund.refund_cents, 0),
        ("cash", 0, refund.refund_cents),
    ];
    let debit = sum(entries.iter().map(|entry| entry.1))?;
    let credit = sum(entries.iter().map(|entry| entry.2))?;
    let entries = entries.map(|(account, debit_cents, credit_cents)| {
        json!({
            "entry_id": reference("entry", &[&refund.payment_id, account]),
            "account": account,
            "debit_cents": debit_cents,
            "credit_cents": credit_cents,
        })
    });
    let payment_status = match refund.remaining_cents {
        0 => "refunded",
        _ => "partially_refunded",
    };
    Ok(json!({
        "payment_id": refund.payment_id,
        "payment_status": payment_status,
        "refund_cents": refund.refund_cents,
        "remaining_cents": refund.remaining_cents,
        "entries": entries,
        "balanced": debit == credit,
    }))
}

/// Writes the message that tells the customer of the refund.
pub(crate) fn notify_customer(step: &StepContext) -> HandlerResult {
    let refund: Refund = step.dependency("update_payment_records")?;
    let to: Option<String> = step.optional_context_field("customer_email")?;
    let rest = match refund.remaining_cents {
        0 => "That is the whole payment.".into(),
        cents => format!("{} of the payment remains.", written(cents)),
    };
    let (payment_id, amount) = (refund.payment_id, written(refund.refund_cents));
    Ok(json!({
        "to": to,
        "subject": format!("Your refund of {amount}"),
        "message": format!("Payment {payment_id}: {amount} is on its way back. {rest}"),
    }))
}

fn not_eligible(message: impl Into<String>) -> HandlerError {
    HandlerError::permanent(message).with_type("not_eligible")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(context: Value) -> StepContext {
        StepContext::draft("step", "payments").with_context(context)
    }

    #[test]
    fn a_refund_goes_from_its_check_to_the_message() {
        let context = json!({
            "payment_id": "pay_1",
            "amount_cents": 5000,
            "refund_cents": 1250,
            "customer_email": "ada@example.org",
        });
        let eligible = validate_eligibility(&step(context.clone())).expect("there is enough left");
        assert_eq!(eligible["remaining_cents"], 3750);
        let made = process_gateway_refund(
            &step(context.clone()).with_dependency("validate_eligibility", eligible),
        );
        let made = made.expect("the gateway isn't busy");
        let books = update_payment_records(
            &step(context.clone()).with_dependency("process_gateway_refund", made),
        );
        let books = books.expect("the refund was made");
        assert_eq!(
            (&books["payment_status"], &books["balanced"]),
            (&json!("partially_refunded"), &json!(true))
        );
        let told = notify_customer(&step(context).with_dependency("update_payment_records", books));
        let told = told.expect("the books are written");
        assert_eq!(
            told["message"],
            "Payment pay_1: 12.50 is on its way back. 37.50 of the payment remains."
        );
    }

    #[test]
    fn what_cannot_be_refunded_is_refused_for_good() {
        for (context, said) in [
            (
                json!({"payment_id": "p", "amount_cents": 10, "refund_cents": 11}),
                "0.11 was asked for and 0.10 is left",
            ),
            (
                json!({"payment_id": "p", "amount_cents": 10, "already_refunded_cents": 10}),
                "nothing is left to refund",
            ),
            (
                json!({"payment_id": "p", "amount_cents": 10, "already_refunded_cents": 11}),
                "more is refunded already than was paid",
            ),
            (
                json!({"payment_id": "p", "amount_cents": 10, "payment_age_days": 91}),
                "the payment is 91 days old, 90 at most can be refunded",
            ),
            (
                json!({"payment_id": "", "amount_cents": 10}),
                "the payment has no id",
            ),
        ] {
            let error = validate_eligibility(&step(context)).expect_err("it can't be refunded");
            assert_eq!((error.message(), error.is_retryable()), (said, false));
        }
    }

    #[test]
    fn a_busy_gateway_is_asked_again() {
        let eligible = json!({"payment_id": "p", "refund_cents": 10, "remaining_cents": 0});
        let context = json!({"gateway_busy_attempts": 2});
        let attempt = |number| {
            let step = step(context.clone()).with_attempts_used(number);
            process_gateway_refund(&step.with_dependency("validate_eligibility", eligible.clone()))
        };
        assert!(attempt(2).expect_err("still busy").is_retryable());
        assert_eq!(attempt(3).expect("free again")["status"], "succeeded");
    }
}
