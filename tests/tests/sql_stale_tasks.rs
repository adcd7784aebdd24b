//! Tasks that are over a limit of their template's lifecycle: which clock ran out, since when, and where no clock runs.

use serde_json::{Value, json};
use tasker_tests::Scenario;

const LIMITED: &str = "{name: limited, version: 1.0.0, lifecycle: {max_duration_seconds: 100, max_steps_in_process_seconds: 60, max_waiting_for_retry_seconds: 10, on_failure: block}, \
    steps: [{name: a, handler: {callable: t.a}, retry: {backoff: linear, backoff_base_ms: 30000, max_backoff_ms: 30000, max_attempts: 2, jitter: 0}}, \
    {name: b, handler: {callable: t.b}, dependencies: [a]}]}";
const UNLIMITED: &str =
    "{name: unlimited, version: 1.0.0, steps: [{name: a, handler: {callable: t.other}}]}";
const SHOP: &str = "{name: limited, namespace: shop, version: 1.0.0, lifecycle: {max_duration_seconds: 5, staleness_action: none}, steps: [{name: a, handler: {callable: t.a}}]}";

async fn scenario() -> anyhow::Result<Scenario> {
    let mut sql = Scenario::new().await?;
    sql.register(LIMITED).await?;
    Ok(sql)
}

/// The clocks that ran out, each with when it did, in seconds after the beginning.
async fn stale(sql: &mut Scenario) -> anyhow::Result<Value> {
    sql.value(
        "select coalesce(jsonb_agg(jsonb_build_array(s.state, s.clock, extract(epoch from s.stale_since - timestamptz '2030-01-01 00:00:00+00')::integer)), '[]')
         from tasker.stale_tasks() s",
    )
    .await
}

#[tokio::test]
async fn a_task_is_stale_when_its_steps_have_no_outcome_for_too_long() -> anyhow::Result<()> {
    let mut sql = scenario().await?;
    sql.create("'limited'").await?;
    sql.clock(20_000).await?;
    let step = sql.claim_one().await?;
    sql.clock(59_999).await?;
    assert_eq!(stale(&mut sql).await?, json!([]));
    sql.clock(60_000).await?;
    assert_eq!(
        stale(&mut sql).await?,
        json!([["steps_in_process", "max_steps_in_process_seconds", 60]]),
        "being claimed is no outcome"
    );
    sql.complete(&step, json!(1)).await?;
    assert_eq!(
        stale(&mut sql).await?,
        json!([]),
        "an outcome gives time anew"
    );
    sql.clock(100_000).await?;
    assert_eq!(
        stale(&mut sql).await?,
        json!([["steps_in_process", "max_duration_seconds", 100]])
    );
    sql.clock(130_000).await?;
    assert_eq!(
        stale(&mut sql).await?,
        json!([["steps_in_process", "max_duration_seconds", 100]]),
        "the clock that ran out first"
    );
    sql.verify().await
}

#[tokio::test]
async fn a_task_is_stale_when_it_waits_too_long_for_a_retry() -> anyhow::Result<()> {
    let mut sql = scenario().await?;
    sql.create("'limited'").await?;
    let step = sql.claim_one().await?;
    sql.clock(1000).await?;
    sql.fail(&step, json!({"message": "m"})).await?;
    sql.clock(10_999).await?;
    assert_eq!(stale(&mut sql).await?, json!([]));
    sql.clock(11_000).await?;
    assert_eq!(
        stale(&mut sql).await?,
        json!([["waiting_for_retry", "max_waiting_for_retry_seconds", 11]])
    );
    Ok(())
}

#[tokio::test]
async fn no_clock_runs_before_the_start_while_paused_while_blocked_and_after_the_end()
-> anyhow::Result<()> {
    let mut sql = scenario().await?;
    sql.create("'limited', run_at => '2030-02-01'").await?;
    let paused = sql.create("'limited'").await?;
    sql.run(&format!(
        "update tasker.tasks set paused_at = '2030-01-01 00:00:01+00' where task_uuid = '{paused}'"
    ))
    .await?;
    let cancelled = sql.create("'limited'").await?;
    sql.run(&format!("select tasker.cancel_task('{cancelled}')"))
        .await?;
    let blocked = sql.create("'limited'").await?;
    let steps = sql.claim("w", 10).await?;
    for step in &steps {
        if step["task_uuid"] == blocked.as_str() {
            sql.fail(step, json!({"message": "m", "retryable": false}))
                .await?;
        }
    }
    assert_eq!(sql.task_state(&blocked).await?, "blocked_by_failures");
    sql.clock(86_400_000).await?;
    assert_eq!(stale(&mut sql).await?, json!([]));
    sql.run("update tasker.tasks set paused_at = null").await?;
    assert_eq!(
        stale(&mut sql).await?,
        json!([["steps_in_process", "max_steps_in_process_seconds", 60]])
    );
    Ok(())
}

#[tokio::test]
async fn stale_tasks_are_listed_oldest_first_in_pages_and_by_namespace() -> anyhow::Result<()> {
    let mut sql = scenario().await?;
    sql.register(UNLIMITED).await?;
    sql.register(SHOP).await?;
    let mut tasks = Vec::new();
    for (at, arguments) in ["'limited'", "'unlimited'", "'limited', 'shop'", "'limited'"]
        .into_iter()
        .enumerate()
    {
        sql.clock(i64::try_from(at)? * 10).await?;
        tasks.push(sql.create(arguments).await?);
    }
    sql.clock(200_000).await?;
    let row = sql
        .row("select * from tasker.stale_tasks(namespace => 'shop')")
        .await?;
    assert_eq!(
        row,
        json!({"task_uuid": tasks[2], "namespace": "shop", "template_name": "limited", "template_version": "1.0.0", "state": "steps_in_process",
            "clock": "max_duration_seconds", "limit_seconds": 5, "since": "2030-01-01T00:00:00.02+00:00", "stale_since": "2030-01-01T00:00:05.02+00:00",
            "staleness_action": "none"})
    );
    let first: Vec<String> = sql
        .value("select array_agg(task_uuid::text) from tasker.stale_tasks(\"limit\" => 2)")
        .await?;
    assert_eq!(first, [tasks[0].clone(), tasks[2].clone()]);
    let rest: Vec<String> = sql
        .value(&format!(
            "select array_agg(task_uuid::text) from tasker.stale_tasks(after => '{}')",
            tasks[2]
        ))
        .await?;
    assert_eq!(rest, [tasks[3].clone()]);
    for limit in ["0", "1001", "null"] {
        let call = format!("select tasker.stale_tasks(\"limit\" => {limit})");
        assert_eq!(sql.refused(&call).await?.code, "22023");
    }
    Ok(())
}
