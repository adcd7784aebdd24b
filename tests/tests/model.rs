//! Thousands of operations as chance has it, against a database and against the model in plain Rust: after each, every task and every step must be where the model says.
//!
//! A run that fails prints its seed; `TASKER_MODEL_SEED=1 cargo test -p tasker-tests --test model` runs it again, and `TASKER_MODEL_OPERATIONS` sets how long a run is.

use std::collections::BTreeSet;

use anyhow::{Context, ensure};
use tasker_tests::TestDatabase;
use tasker_tests::model::{operations, seeds};
use tasker_tests::model_run::Run;

const DEFAULT_OPERATIONS: u64 = 1000;

#[tokio::test]
async fn the_database_does_what_the_model_does() -> anyhow::Result<()> {
    let operations = operations(DEFAULT_OPERATIONS);
    for seed in seeds() {
        let database = TestDatabase::new().await?;
        let mut run = Run::new(&database, seed).await?;
        let (mut states, mut kinds) = (BTreeSet::new(), BTreeSet::new());
        for operation in 0..operations {
            let done = async {
                run.turn(&database).await?;
                run.compare().await?;
                if operation % 50 == 0 {
                    run.verify().await?;
                }
                anyhow::Ok(())
            }
            .await;
            done.with_context(|| {
                format!(
                    "TASKER_MODEL_SEED={seed}, operation {operation}; the last ones:\n{}",
                    run.last(12)
                )
            })?;
            states.extend(run.states());
            kinds.extend(run.kinds_done());
        }
        run.verify().await?;
        if seed == 1 && operations >= DEFAULT_OPERATIONS {
            for state in ["complete", "error", "cancelled", "blocked_by_failures"] {
                ensure!(
                    states.contains(state),
                    "seed {seed} made no task {state}: {states:?}"
                );
            }
            ensure!(
                kinds.len() == 7,
                "seed {seed} has completed nothing but {kinds:?}"
            );
        }
    }
    Ok(())
}
