//! The handlers of the example templates, a family a file. Each is a function of its step's input
//! alone: no clock, no network, and no files but the one that a CSV's task names.
#![allow(
    clippy::struct_field_names,
    reason = "the fields have the names that the JSON has"
)]

mod accounts;
mod approvals;
mod data;
mod events;
mod example;
mod integer;
mod math;
mod media;
mod money;
mod payments;
mod reference;
mod shop;
mod trips;

use std::future::ready;

use serde_json::Value;
use tasker_worker_runtime::{Answer, Handler, HandlerError, StepContext, WorkerBuilder};

/// What a handler answers.
type HandlerResult = Result<Value, HandlerError>;

/// A handler that computes its answer without waiting for anything.
type Computation = fn(&StepContext) -> HandlerResult;

/// The names of the handlers, as the templates say them.
const COMPUTATIONS: &[(&str, Computation)] = &[
    ("math.square", math::square),
    ("math.multiply_and_square", math::multiply_and_square),
    ("example.echo", example::echo),
    ("trips.book_flight", trips::book_flight),
    ("trips.book_hotel", trips::book_hotel),
    ("trips.take_payment", trips::take_payment),
    ("trips.cancel_booking", trips::cancel_booking),
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
    ("approvals.validate_request", approvals::validate_request),
    ("approvals.routing_decision", approvals::routing_decision),
    ("approvals.auto_approve", approvals::auto_approve),
    ("approvals.manager_approval", approvals::manager_approval),
    ("approvals.finance_review", approvals::finance_review),
    ("approvals.finalize_approval", approvals::finalize_approval),
    ("media.list_images", media::list_images),
    ("media.make_thumbnail", media::make_thumbnail),
    ("media.publish_gallery", media::publish_gallery),
    ("data.aggregate_csv_results", data::aggregate_csv_results),
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
        .register("data.analyze_csv", reading_files(data::analyze_csv))
        .register(
            "data.process_csv_batch",
            reading_files(data::process_csv_batch),
        )
}

fn computing(compute: Computation) -> impl Handler {
    move |step: StepContext| ready(compute(&step))
}

/// A handler that waits for files, on a thread that may wait.
fn reading_files<A>(work: fn(&StepContext) -> Result<A, HandlerError>) -> impl Handler
where
    A: Into<Answer> + Send + 'static,
{
    move |step: StepContext| async move {
        match tokio::task::spawn_blocking(move || work(&step)).await {
            Ok(answer) => answer,
            Err(error) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(error) => Err(HandlerError::retryable(error.to_string())),
            },
        }
    }
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
