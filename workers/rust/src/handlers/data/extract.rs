//! The three sources.

use serde::Serialize;
use serde::de::DeserializeOwned;
use tasker_worker_runtime::{HandlerError, StepContext};

use super::sample::{self, Stream};
use super::{Customer, Extracted, Sale, Stock};
use crate::handlers::HandlerResult;

const DEFAULT_SEED: u64 = 1;
const DEFAULT_RECORDS: usize = 20;
const MAX_RECORDS: usize = 5_000;

/// The lines sold.
pub(crate) fn extract_sales(step: &StepContext) -> HandlerResult {
    extracted::<Sale>(step, "sales", sample::sale)
}

/// What the warehouses hold.
pub(crate) fn extract_inventory(step: &StepContext) -> HandlerResult {
    extracted::<Stock>(step, "inventory", sample::stock)
}

/// The customers.
pub(crate) fn extract_customers(step: &StepContext) -> HandlerResult {
    extracted::<Customer>(step, "customers", sample::customer)
}

fn extracted<T>(
    step: &StepContext,
    source: &str,
    sampled: fn(&mut Stream, usize) -> T,
) -> HandlerResult
where
    T: Serialize + DeserializeOwned,
{
    let records = match step.optional_context_field::<Vec<T>>(source)? {
        Some(given) => given,
        None => samples(step, source, sampled)?,
    };
    if records.len() > MAX_RECORDS {
        let message = format!(
            "{} records of {source} are more than {MAX_RECORDS}",
            records.len()
        );
        return Err(HandlerError::permanent(message).with_type("too_many_records"));
    }
    Ok(serde_json::to_value(Extracted {
        source: source.into(),
        count: records.len(),
        records,
    })?)
}

fn samples<T>(
    step: &StepContext,
    source: &str,
    sampled: fn(&mut Stream, usize) -> T,
) -> Result<Vec<T>, HandlerError> {
    let seed = step.optional_context_field("seed")?.unwrap_or(DEFAULT_SEED);
    let count: usize = step
        .optional_context_field("records")?
        .unwrap_or(DEFAULT_RECORDS);
    let mut stream = Stream::new(seed, source);
    // One more than allowed is enough to be refused.
    Ok((0..count.min(MAX_RECORDS + 1))
        .map(|number| sampled(&mut stream, number))
        .collect())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn step(context: Value) -> StepContext {
        StepContext::draft("extract", "data").with_context(context)
    }

    #[test]
    fn samples_are_as_many_as_asked_for() {
        for extract in [extract_sales, extract_inventory, extract_customers] {
            let by_default = extract(&step(json!({}))).expect("samples need no input");
            assert_eq!(by_default["count"], 20);
            let three =
                extract(&step(json!({"records": 3, "seed": 9}))).expect("samples need no input");
            assert_eq!(three["records"].as_array().map(Vec::len), Some(3));
        }
    }

    #[test]
    fn given_records_are_used_as_they_are() {
        let sale = json!({
            "order_id": "o", "sku": "mug", "region": "north", "quantity": 1, "price_cents": 5,
        });
        let sales = json!([sale]);
        let result =
            extract_sales(&step(json!({"sales": sales.clone()}))).expect("the record is good");
        assert_eq!(
            result,
            json!({"source": "sales", "count": 1, "records": sales})
        );
    }

    #[test]
    fn records_that_do_not_fit_and_too_many_are_refused_for_good() {
        for context in [
            json!({"sales": [{"sku": "mug"}]}),
            json!({"sales": "none"}),
            json!({"records": 5001}),
        ] {
            assert!(
                !extract_sales(&step(context))
                    .expect_err("it is bad")
                    .is_retryable()
            );
        }
    }
}
