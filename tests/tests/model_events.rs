//! Domain events as chance has them: steps that publish them after outcomes, subscriptions by patterns, deliveries that fail, are lost or set aside. What is published, what is on its way
//! to whom, and what each claim gets, is what a simple model says; fast events come to who listens, each once.
//!
//! A run that fails prints its seed; `TASKER_MODEL_SEED=1 cargo test -p tasker-tests --test model_events` runs it again, and `TASKER_MODEL_OPERATIONS` sets how long a run is.

use anyhow::Context;
use tasker_tests::TestDatabase;
use tasker_tests::event_run::Run;
use tasker_tests::model::{operations, seeds};

const DEFAULT_OPERATIONS: u64 = 250;

#[tokio::test]
async fn events_are_published_and_delivered_as_the_model_says() -> anyhow::Result<()> {
    let operations = operations(DEFAULT_OPERATIONS);
    for seed in seeds() {
        let database = TestDatabase::new().await?;
        let mut run = Run::new(&database, seed).await?;
        for operation in 0..operations {
            let done = run.turn().await;
            done.with_context(|| {
                format!(
                    "TASKER_MODEL_SEED={seed}, operation {operation}; the last ones:\n{}",
                    run.last(15)
                )
            })?;
        }
    }
    Ok(())
}
