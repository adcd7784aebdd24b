//! Deferred evaluation: outcomes rest in their steps until maintenance evaluates them.

use serde_json::{Value, json};
use tasker_tests::Scenario;
use tasker_tests::scenario::{done, failed, given_back, key, names};

const CHAIN: &str = "{name: chain, version: 1.0.0, lifecycle: {evaluation: deferred}, steps: [
    {name: a, handler: {callable: t.a}, retry: {max_attempts: 2, backoff: linear, backoff_base_ms: 1000, jitter: 0},
      result_schema: {type: object}},
    {name: b, handler: {callable: t.b}, dependencies: [a]}]}";

async fn with(template: &str) -> anyhow::Result<(Scenario, String, Value)> {
    let mut sql = Scenario::new().await?;
    sql.register(template).await?;
    let task = sql.create("'chain'").await?;
    let step = sql.claim_one().await?;
    Ok((sql, task, step))
}

/// How many outcomes a round of maintenance evaluates, and whether there are more.
async fn evaluate(sql: &mut Scenario, batch: u32) -> anyhow::Result<(i64, bool)> {
    let row = sql
        .row(&format!(
            "select processed, more from tasker.run_maintenance({batch}) where job = 'evaluate'"
        ))
        .await?;
    Ok((
        row["processed"].as_i64().unwrap_or(-1),
        row["more"] == json!(true),
    ))
}

#[tokio::test]
async fn a_result_rests_until_maintenance_evaluates_it() -> anyhow::Result<()> {
    let (mut sql, task, a) = with(CHAIN).await?;
    let answer = sql.finish("w", json!([done(&a, json!({}))]), 5).await?;
    assert_eq!(answer.words(), ["accepted"]);
    assert!(answer.claimed.is_empty());
    assert_eq!(
        sql.step_states(&task).await?,
        json!({"a": "enqueued_for_orchestration", "b": "pending"})
    );
    assert_eq!(sql.task_state(&task).await?, "steps_in_process");
    assert_eq!(
        sql.verdict(done(&a, json!({}))).await?,
        "repeated -",
        "the same outcome again"
    );
    sql.verify().await?;

    assert_eq!(evaluate(&mut sql, 10).await?, (1, false));
    assert_eq!(
        sql.step_states(&task).await?,
        json!({"a": "complete", "b": "enqueued"})
    );
    sql.verify().await?;
    let b = sql.claim_one().await?;
    assert_eq!(b["dependency_results"], json!({"a": {}}));
    sql.complete(&b, json!(1)).await?;
    assert_eq!(evaluate(&mut sql, 10).await?, (1, false));
    assert_eq!(sql.task_state(&task).await?, "complete");
    assert_eq!(
        sql.path("step_history", key(&a)).await?,
        "pending -enqueue-> enqueued -start-> in_progress \
         -enqueue_for_orchestration-> enqueued_for_orchestration -complete-> complete"
    );
    sql.verify().await
}

#[tokio::test]
async fn a_failure_rests_and_is_retried_as_its_policy_says() -> anyhow::Result<()> {
    let (mut sql, task, a) = with(CHAIN).await?;
    sql.fail(&a, json!({"message": "busy", "retry_after_ms": 5000}))
        .await?;
    assert_eq!(
        sql.step_states(&task).await?["a"],
        "enqueued_as_error_for_orchestration"
    );
    let again = failed(&a, json!({"message": "busy"}));
    assert_eq!(sql.verdict(again).await?, "repeated -");
    sql.verify().await?;
    assert_eq!(evaluate(&mut sql, 10).await?, (1, false));
    assert_eq!(sql.task_state(&task).await?, "waiting_for_retry");
    sql.verify().await?;
    let due: i64 = sql
        .value("select tasker.work_due_in_ms('{default}')")
        .await?;
    assert_eq!(due, 5000);

    sql.clock(5000).await?;
    let a = sql.claim_one().await?;
    assert_eq!((&a["attempt"], &a["attempts_used"]), (&json!(2), &json!(2)));
    sql.fail(&a, json!({"message": "still busy"})).await?;
    assert_eq!(evaluate(&mut sql, 10).await?, (1, false));
    assert_eq!(sql.task_state(&task).await?, "error");
    let path = sql.path("step_history", key(&a)).await?;
    assert!(
        path.contains(
            "-enqueue_as_error_for_orchestration-> enqueued_as_error_for_orchestration -wait_for_retry-> waiting_for_retry"
        ),
        "{path}"
    );
    assert!(path.ends_with("-fail-> error"), "{path}");
    let reason: String = sql.value("select reason from tasker.dead_letters").await?;
    assert_eq!(reason, "max_retries_exceeded");
    sql.verify().await
}

#[tokio::test]
async fn a_failure_without_a_delay_runs_again_at_once() -> anyhow::Result<()> {
    let (mut sql, _, a) = with(&CHAIN.replace("backoff: linear", "backoff: none")).await?;
    sql.fail(&a, json!({"message": "busy"})).await?;
    evaluate(&mut sql, 10).await?;
    sql.verify().await?;
    assert_eq!(sql.claim_one().await?["attempt"], 2);
    sql.verify().await
}

#[tokio::test]
async fn a_result_against_its_schema_fails_when_it_is_evaluated() -> anyhow::Result<()> {
    let (mut sql, task, a) = with(CHAIN).await?;
    sql.complete(&a, json!(7)).await?;
    evaluate(&mut sql, 10).await?;
    let row = sql
        .row(&format!(
            "select state, error ->> 'code' as code from tasker.get_step('{}')",
            key(&a)
        ))
        .await?;
    assert_eq!(row, json!({"state": "error", "code": "TK021"}));
    assert_eq!(sql.task_state(&task).await?, "error");
    sql.verify().await
}

#[tokio::test]
async fn the_setting_defers_every_template_and_nothing_given_back_rests() -> anyhow::Result<()> {
    let mut sql = Scenario::new().await?;
    sql.register(&CHAIN.replace("lifecycle: {evaluation: deferred}, ", ""))
        .await?;
    let task = sql.create("'chain'").await?;
    sql.run("set local tasker.evaluation = 'deferred'").await?;
    let a = sql.claim_one().await?;
    assert_eq!(sql.verdict(given_back(&a, "release")).await?, "accepted -");
    let a = sql.claim_one().await?;
    sql.complete(&a, json!({})).await?;
    assert_eq!(
        sql.step_states(&task).await?["a"],
        "enqueued_for_orchestration"
    );
    sql.run("set local tasker.evaluation = 'inline'").await?;
    evaluate(&mut sql, 10).await?;
    let b = sql.claim_one().await?;
    sql.complete(&b, json!(1)).await?;
    assert_eq!(sql.task_state(&task).await?, "complete");
    sql.verify().await
}

#[tokio::test]
async fn a_step_cancelled_while_its_outcome_rests_stays_cancelled() -> anyhow::Result<()> {
    let (mut sql, task, a) = with(CHAIN).await?;
    sql.complete(&a, json!({})).await?;
    sql.run(&format!("select tasker.cancel_task('{task}')"))
        .await?;
    assert_eq!(evaluate(&mut sql, 10).await?, (1, false));
    assert_eq!(
        sql.step_states(&task).await?,
        json!({"a": "cancelled", "b": "cancelled"})
    );
    assert_eq!(evaluate(&mut sql, 10).await?, (0, false));
    sql.verify().await
}

#[tokio::test]
async fn a_wide_join_is_counted_down_a_batch_at_a_time() -> anyhow::Result<()> {
    let branches: Vec<String> = (0..100)
        .map(|number| format!("{{name: s{number}, handler: {{callable: t.s}}}}"))
        .collect();
    let all: Vec<String> = (0..100).map(|number| format!("s{number}")).collect();
    let wide = format!(
        "{{name: wide, version: 1.0.0, lifecycle: {{evaluation: deferred}}, steps: [{}, {{name: join, handler: {{callable: t.join}}, dependencies: [{}]}}]}}",
        branches.join(", "),
        all.join(", ")
    );
    let mut sql = Scenario::new().await?;
    sql.register(&wide).await?;
    let task = sql.create("'wide'").await?;
    let outcomes: Vec<Value> = sql
        .claim("w", 100)
        .await?
        .iter()
        .map(|step| done(step, json!(1)))
        .collect();
    sql.finish("w", json!(outcomes), 0).await?;
    assert_eq!(evaluate(&mut sql, 40).await?, (40, true));
    sql.verify().await?;
    assert_eq!(evaluate(&mut sql, 40).await?, (40, true));
    assert!(sql.claim("w", 10).await?.is_empty());
    assert_eq!(evaluate(&mut sql, 40).await?, (20, false));
    assert_eq!(names(&sql.claim("w", 10).await?), ["join"]);
    assert_eq!(sql.task_state(&task).await?, "steps_in_process");
    sql.verify().await
}
