//! The worker library: checkpoints kept while a handler goes on, and results that are too long together to be given with a step.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, ensure};
use serde_json::{Value, json};
use tasker_client::{Client, Definition};
use tasker_tests::TestDatabase;
use tasker_tests::following::{completed, create, ended, result, step};
use tasker_worker_runtime::{
    Batch, CancellationToken, HandlerError, Instance, StepContext, Worker,
};

const MAP: &str = "
name: thumbs
version: 1.0.0
steps:
  - {name: list, handler: {callable: t.list}}
  - {name: resize, type: map, over: list, handler: {callable: t.resize}, dependencies: [list], failure_strategy: continue_on_failure, retry: {max_attempts: 1}}
  - {name: count, handler: {callable: t.count}, dependencies: [resize]}
";

const BATCH: &str = "
name: csv
version: 1.0.0
steps:
  - {name: analyze, type: batchable, handler: {callable: t.analyze}, batch_config: {worker_template: work, failure_strategy: continue_on_failure}}
  - {name: work, type: batch_worker, handler: {callable: t.work}, dependencies: [analyze], retry: {max_attempts: 1}}
  - {name: sum, type: deferred_convergence, handler: {callable: t.sum}, dependencies: [work]}
";

const LONG: &str = "
name: long
version: 1.0.0
steps:
  - {name: count, handler: {callable: t.long}, retry: {max_attempts: 3, backoff: none}}
";

/// The instances of a map and of a batch, and the length of each result: together well above a result's limit.
const INSTANCES: u32 = 120;
const LENGTH: usize = 20_000;

/// A worker of this process. It ends with the test.
struct Working {
    shutdown: CancellationToken,
    worker: tokio::task::JoinHandle<Result<(), tasker_worker_runtime::RunError>>,
}

impl Working {
    async fn end(self) -> anyhow::Result<()> {
        self.shutdown.cancel();
        Ok(self.worker.await??)
    }
}

async fn register(client: &Client, template: &str) -> anyhow::Result<()> {
    client
        .register_template(Definition::Yaml(template), None)
        .await?;
    Ok(())
}

fn work(client: &Client) -> anyhow::Result<Working> {
    let calls = Arc::new(AtomicU32::new(0));
    let worker = Worker::builder(client.clone())
        .namespaces(["default"])
        .register("t.list", |_: StepContext| async move {
            Ok(json!((0..INSTANCES).collect::<Vec<_>>()))
        })
        .register("t.resize", |step: StepContext| async move { resize(&step) })
        .register("t.count", |step: StepContext| async move { count(&step) })
        .register("t.analyze", |_: StepContext| async move {
            Ok(Batch::cursors(0..INSTANCES)?)
        })
        .register("t.work", |step: StepContext| async move { part(&step) })
        .register("t.sum", |step: StepContext| async move { sum(&step) })
        .register("t.long", move |step: StepContext| {
            let calls = Arc::clone(&calls);
            async move { long(&step, &calls).await }
        })
        .build()?;
    let shutdown = CancellationToken::new();
    let until = shutdown.clone();
    let worker = tokio::spawn(async move { worker.run(until).await });
    Ok(Working { shutdown, worker })
}

fn resize(step: &StepContext) -> Result<Value, HandlerError> {
    let item: u32 = step.item()?;
    if item == 7 {
        return Err(HandlerError::permanent("no pixels"));
    }
    Ok(json!({"item": item, "text": "x".repeat(LENGTH)}))
}

/// Counts what came of the map, in its order.
fn count(step: &StepContext) -> Result<Value, HandlerError> {
    let results: Vec<Value> = step.dependency("resize")?;
    let in_order = results
        .iter()
        .enumerate()
        .all(|(place, result)| place == 7 || result["item"] == place);
    Ok(json!({
        "count": results.len(), "in_order": in_order, "failed": results[7]["error"]["message"],
        "given": step.dependency_results()["resize"]["reference"]["count"],
    }))
}

fn part(step: &StepContext) -> Result<Value, HandlerError> {
    let cursor: u32 = step.cursor()?;
    if cursor == 3 {
        return Err(HandlerError::permanent("a bad row"));
    }
    Ok(json!({"rows": cursor, "text": "x".repeat(LENGTH)}))
}

fn sum(step: &StepContext) -> Result<Value, HandlerError> {
    let instances: Vec<Instance<Value>> = step.instances("work")?;
    let rows: u64 = instances
        .iter()
        .filter_map(|instance| instance.result.as_ref()?["rows"].as_u64())
        .sum();
    let failed = instances.iter().filter(|instance| instance.error.is_some());
    Ok(json!({"rows": rows, "failed": failed.count(), "count": instances.len()}))
}

/// Counts to four, keeping each; fails half way at the first attempt.
async fn long(step: &StepContext, calls: &AtomicU32) -> Result<Value, HandlerError> {
    calls.fetch_add(1, Ordering::SeqCst);
    let begun: u32 = step.checkpoint_as()?.unwrap_or(0);
    for done in begun + 1..=4 {
        step.save_checkpoint(&done).await?;
        if done == 2 && begun == 0 {
            return Err(HandlerError::retryable("a hiccup"));
        }
    }
    if step.context_field::<bool>("spoilt")? {
        // Longer than a checkpoint may be.
        step.save_checkpoint(&"x".repeat(2 * 1024 * 1024)).await?;
    }
    Ok(json!({"begun_at": begun, "calls": calls.load(Ordering::SeqCst)}))
}

#[tokio::test]
async fn the_results_of_a_large_map_are_read_as_those_of_a_small_one() -> anyhow::Result<()> {
    let database = TestDatabase::new().await?;
    let client = database.client();
    register(client, MAP).await?;
    let working = work(client)?;
    let task_uuid = create(client, "default", "thumbs", &json!({})).await?;
    completed(client, task_uuid).await?;
    assert_eq!(
        result(client, task_uuid, "count").await?,
        json!({"count": INSTANCES, "in_order": true, "failed": "no pixels", "given": INSTANCES})
    );
    working.end().await
}

#[tokio::test]
async fn the_ends_of_a_large_batch_are_read_as_those_of_a_small_one() -> anyhow::Result<()> {
    let database = TestDatabase::new().await?;
    let client = database.client();
    register(client, BATCH).await?;
    let working = work(client)?;
    let task_uuid = create(client, "default", "csv", &json!({})).await?;
    completed(client, task_uuid).await?;
    let rows = u64::from(INSTANCES * (INSTANCES - 1) / 2 - 3);
    assert_eq!(
        result(client, task_uuid, "sum").await?,
        json!({"rows": rows, "failed": 1, "count": INSTANCES})
    );
    working.end().await
}

#[tokio::test]
async fn an_attempt_goes_on_from_the_last_checkpoint_of_the_one_before() -> anyhow::Result<()> {
    let database = TestDatabase::new().await?;
    let client = database.client();
    register(client, LONG).await?;
    let working = work(client)?;
    let task_uuid = create(client, "default", "long", &json!({"spoilt": false})).await?;
    completed(client, task_uuid).await?;
    assert_eq!(
        result(client, task_uuid, "count").await?,
        json!({"begun_at": 2, "calls": 2})
    );
    let kept = step(client, task_uuid, "count").await?.checkpoint;
    let kept = kept.context("the checkpoint is gone")?;
    ensure!(kept.get() == "4", "{kept}");
    working.end().await
}

#[tokio::test]
async fn a_checkpoint_that_is_too_long_fails_the_step_for_good() -> anyhow::Result<()> {
    let database = TestDatabase::new().await?;
    let client = database.client();
    register(client, LONG).await?;
    let working = work(client)?;
    let task_uuid = create(client, "default", "long", &json!({"spoilt": true})).await?;
    let task = ended(client, task_uuid).await?;
    assert_eq!(task.state, "error");
    let failed = step(client, task_uuid, "count").await?;
    let error = failed.error.context("it has no error")?;
    ensure!(error.get().contains("\"retryable\": false"), "{error}");
    working.end().await
}
