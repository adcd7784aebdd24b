//! The handlers of the example templates, a family a file. Each is a function of its step's input
//! alone: no clock, no files, no network.
#![allow(
    clippy::struct_field_names,
    reason = "the fields have the names that the JSON has"
)]

mod accounts;
mod data;
mod events;
mod example;
mod integer;
mod math;
mod money;
mod payments;
mod reference;
mod shop;

use std::future::ready;

use serde_json::Value;
use tasker_worker_runtime::{Handler, HandlerError, StepContext, WorkerBuilder};

/// What a handler answers.
type HandlerResult = Result<Value, HandlerError>;

/// A handler that computes its answer without waiting for anything.
type Computation = fn(&StepContext) -> HandlerResult;

/// The names of the handlers, as the templates say them.
const COMPUTATIONS: &[(&str, Computation)] = &[
    ("math.square", math::square),
    ("math.multiply_and_square", math::multiply_and_square),
    ("example.echo", example::echo),
    ("shop.validate_order", shop::validate_order),
    ("shop.reserve_inventory", shop::reserve_inventory),
    ("shop.process_payment", shop::process_payment),
    ("shop.ship_order", shop::ship_order),
    ("shop.notify_customer", shop::notify_customer),
    ("data.extract_sales", data::extract_sales),
    ("data.extract_inventory", data::extract_inventory),
    ("data.extract_customers", data::extract_customers),
    ("data.transform_sales", data::transform_sales),
    ("data.transform_inventory", data::transform_inventory),
    ("data.transform_customers", data::transform_customers),
    ("data.aggregate_metrics", data::aggregate_metrics),
    ("data.generate_insights", data::generate_insights),
    (
        "accounts.create_user_account",
        accounts::create_user_account,
    ),
    (
        "accounts.setup_billing_profile",
        accounts::setup_billing_profile,
    ),
    (
        "accounts.initialize_preferences",
        accounts::initialize_preferences,
    ),
    (
        "accounts.send_welcome_sequence",
        accounts::send_welcome_sequence,
    ),
    ("accounts.update_user_status", accounts::update_user_status),
    (
        "payments.validate_eligibility",
        payments::validate_eligibility,
    ),
    (
        "payments.process_gateway_refund",
        payments::process_gateway_refund,
    ),
    (
        "payments.update_payment_records",
        payments::update_payment_records,
    ),
    ("payments.notify_customer", payments::notify_customer),
];

/// Registers every handler of this program, and subscribes to events.
pub(crate) fn register_all(builder: WorkerBuilder) -> WorkerBuilder {
    let builder = events::subscribe(builder);
    COMPUTATIONS
        .iter()
        .fold(builder, |builder, (name, compute)| {
            builder.register(*name, computing(*compute))
        })
        .register("example.fail_times", example::fail_times)
}

fn computing(compute: Computation) -> impl Handler {
    move |step: StepContext| ready(compute(&step))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_is_given_twice() {
        let mut names: Vec<_> = COMPUTATIONS.iter().map(|(name, _)| *name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), COMPUTATIONS.len());
    }

    #[test]
    fn every_handler_answers_an_empty_input_without_a_panic() {
        for (name, compute) in COMPUTATIONS {
            if let Err(error) = compute(&StepContext::draft("step", name)) {
                assert!(
                    !error.is_retryable(),
                    "{name}: missing input stays missing: {error}"
                );
            }
        }
    }
}
