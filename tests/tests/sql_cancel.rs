//! Cancelling tasks in every state they can be in.

use serde_json::json;
use tasker_tests::Scenario;

const CHAIN: &str = "{name: chain, version: 1.0.0, steps: [{name: a, handler: {callable: t.a}, retry: {backoff: linear, backoff_base_ms: 1000, max_attempts: 2, jitter: 0}}, \
    {name: other, handler: {callable: t.other}}, {name: b, handler: {callable: t.b}, dependencies: [a]}]}";

async fn with_task() -> anyhow::Result<(Scenario, String)> {
    let mut sql = Scenario::new().await?;
    sql.register(CHAIN).await?;
    let task = sql.create("'chain'").await?;
    Ok((sql, task))
}

async fn cancel(sql: &mut Scenario, task: &str) -> anyhow::Result<bool> {
    sql.value(&format!(
        "select tasker.cancel_task('{task}', 'no longer wanted')"
    ))
    .await
}

#[tokio::test]
async fn a_cancelled_task_leaves_no_step_alive_and_no_message() -> anyhow::Result<()> {
    let (mut sql, task) = with_task().await?;
    sql.claim("w", 1).await?;
    sql.clock(5000).await?;
    assert!(cancel(&mut sql, &task).await?);
    assert_eq!(
        sql.step_states(&task).await?,
        json!({"a": "cancelled", "b": "cancelled", "other": "cancelled"})
    );
    assert_eq!(
        sql.value::<i64>("select count(*) from pgmq.q_worker_default_queue")
            .await?,
        0
    );
    let row = sql
        .row(&format!("select * from tasker.get_task('{task}')"))
        .await?;
    assert_eq!(
        (&row["state"], &row["finished_at"]),
        (&json!("cancelled"), &json!("2030-01-01T00:00:05+00:00"))
    );
    let history = sql
        .rows(&format!("select * from tasker.task_history('{task}')"))
        .await?;
    let last = history.last().cloned().unwrap_or_default();
    assert_eq!(
        (&last["event"], &last["metadata"]),
        (&json!("cancel"), &json!({"reason": "no longer wanted"}))
    );
    sql.clock(1_000_000).await?;
    assert!(sql.claim("w", 10).await?.is_empty());
    sql.verify().await
}

#[tokio::test]
async fn cancelling_again_changes_nothing_and_succeeds() -> anyhow::Result<()> {
    let (mut sql, task) = with_task().await?;
    assert!(cancel(&mut sql, &task).await?);
    sql.clock(1000).await?;
    let before = sql
        .rows(&format!("select * from tasker.task_history('{task}')"))
        .await?;
    assert!(!cancel(&mut sql, &task).await?);
    assert_eq!(
        sql.rows(&format!("select * from tasker.task_history('{task}')"))
            .await?,
        before
    );
    let row = sql
        .row(&format!("select * from tasker.get_task('{task}')"))
        .await?;
    assert_eq!(row["finished_at"], "2030-01-01T00:00:00+00:00");
    Ok(())
}

#[tokio::test]
async fn a_task_that_ended_otherwise_can_not_be_cancelled() -> anyhow::Result<()> {
    let mut sql = Scenario::new().await?;
    sql.register("{name: one, version: 1.0.0, steps: [{name: a, handler: {callable: t.a}, retry: {max_attempts: 1}}]}").await?;
    for state in ["complete", "error"] {
        let task = sql.create("'one'").await?;
        let step = sql.claim_one().await?;
        if state == "complete" {
            sql.complete(&step, json!(1)).await?;
        } else {
            sql.fail(&step, json!({"message": "m"})).await?;
        }
        let refusal = sql
            .refused(&format!("select tasker.cancel_task('{task}')"))
            .await?;
        assert_eq!(refusal.code, "TK010");
        assert!(
            refusal.message.contains(state) && refusal.detail.contains("cancel"),
            "{refusal:?}"
        );
        assert_eq!(sql.task_state(&task).await?, state);
    }
    for unknown in ["'018f0000-0000-7000-8000-000000000000'", "null"] {
        let refusal = sql
            .refused(&format!("select tasker.cancel_task({unknown})"))
            .await?;
        assert_eq!(refusal.code, "TK001");
    }
    sql.verify().await
}

#[tokio::test]
async fn a_task_is_cancelled_while_it_waits_for_its_time_or_a_retry() -> anyhow::Result<()> {
    let (mut sql, task) = with_task().await?;
    let steps = sql.claim("w", 2).await?;
    sql.complete(&steps[1], json!(1)).await?;
    sql.fail(&steps[0], json!({"message": "m"})).await?;
    assert_eq!(sql.task_state(&task).await?, "waiting_for_retry");
    assert!(cancel(&mut sql, &task).await?);
    assert_eq!(
        sql.step_states(&task).await?,
        json!({"a": "cancelled", "b": "cancelled", "other": "complete"})
    );

    let later = sql.create("'chain', run_at => '2030-02-01'").await?;
    assert!(cancel(&mut sql, &later).await?);
    sql.run("set local tasker.retention_days = 0").await?;
    sql.clock(40 * 86_400_000).await?;
    assert_eq!(
        sql.value::<i64>(
            "select processed from tasker.run_maintenance() where job = 'start_due_tasks'"
        )
        .await?,
        0
    );
    assert_eq!(sql.task_state(&later).await?, "cancelled");
    sql.verify().await
}

#[tokio::test]
async fn a_task_whose_step_failed_is_cancelled_and_keeps_the_failure() -> anyhow::Result<()> {
    let (mut sql, task) = with_task().await?;
    let steps = sql.claim("w", 2).await?;
    sql.fail(&steps[0], json!({"message": "m", "retryable": false}))
        .await?;
    assert!(cancel(&mut sql, &task).await?);
    assert_eq!(
        sql.step_states(&task).await?,
        json!({"a": "error", "b": "cancelled", "other": "cancelled"})
    );
    let shown: Option<i32> = sql
        .value(&format!(
            "select steps_failed from tasker.get_task('{task}')"
        ))
        .await?;
    assert_eq!(shown, Some(1));
    sql.verify().await
}
