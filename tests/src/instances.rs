//! Tasks with a batch or a map, whose first step is done.

use serde_json::{Value, json};

use crate::Scenario;
use crate::scenario::Finished;

/// A batch whose failure strategy is still to be put in.
const BATCH: &str = "
name: csv
version: 1.0.0
steps:
  - {name: analyze, type: batchable, handler: {callable: t.analyze}, batch_config: {worker_template: work, parallelism: 2, failure_strategy: STRATEGY}}
  - {name: work, type: batch_worker, handler: {callable: t.work}, dependencies: [analyze], retry: {max_attempts: 1}}
  - {name: sum, type: deferred_convergence, handler: {callable: t.sum}, dependencies: [work]}
";

/// A map over the result of its first step.
pub const MAP: &str = "
name: thumbs
version: 1.0.0
steps:
  - {name: list, handler: {callable: t.list}}
  - {name: resize, type: map, over: list.images, handler: {callable: t.resize}, dependencies: [list], retry: {max_attempts: 1}}
  - {name: publish, handler: {callable: t.publish}, dependencies: [resize]}
";

/// A batch of one failure strategy, two instances at once.
#[must_use]
pub fn batch(strategy: &str) -> String {
    BATCH.replace("STRATEGY", strategy)
}

/// A task whose first step is done with a result.
pub async fn begun(template: &str, result: Value) -> anyhow::Result<(Scenario, String)> {
    let mut scenario = Scenario::new().await?;
    scenario.register(template).await?;
    let name = template
        .split(['\n', ':'])
        .nth(2)
        .unwrap_or_default()
        .trim();
    let task = scenario.create(&format!("'{name}'")).await?;
    let first = scenario.claim_one().await?;
    scenario.complete(&first, result).await?;
    scenario.verify().await?;
    Ok((scenario, task))
}

/// Reports outcomes; every invariant holds then.
pub async fn finish(scenario: &mut Scenario, outcomes: &[Value]) -> anyhow::Result<Finished> {
    let finished = scenario.finish("w", json!(outcomes), 0).await?;
    scenario.verify().await?;
    Ok(finished)
}
