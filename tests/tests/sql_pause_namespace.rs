//! Pausing and resuming a namespace: claims and hand-overs pass over it, tasks created or due in it stay pending, and nothing else is written.

use serde_json::json;
use tasker_tests::Scenario;
use tasker_tests::scenario::{done, names};

const CHAIN: &str = "{name: chain, version: 1.0.0, steps: [{name: a, handler: {callable: t.a}}, {name: b, handler: {callable: t.b}, dependencies: [a]}]}";
const SHOP: &str =
    "{name: sale, namespace: shop, version: 1.0.0, steps: [{name: s, handler: {callable: t.a}}]}";
const EMPTY: &str = "{name: empty, version: 1.0.0, steps: []}";

async fn with_templates() -> anyhow::Result<Scenario> {
    let mut sql = Scenario::new().await?;
    for template in [CHAIN, SHOP] {
        sql.register(template).await?;
    }
    Ok(sql)
}

async fn pause(sql: &mut Scenario, namespace: &str) -> anyhow::Result<bool> {
    sql.value(&format!(
        "select tasker.pause_namespace('{namespace}', 'at night')"
    ))
    .await
}

async fn resume(sql: &mut Scenario, namespace: &str) -> anyhow::Result<bool> {
    sql.value(&format!("select tasker.resume_namespace('{namespace}')"))
        .await
}

#[tokio::test]
async fn a_paused_namespace_is_passed_over_and_resumed_as_it_was() -> anyhow::Result<()> {
    let mut sql = with_templates().await?;
    let task = sql.create("'chain'").await?;
    sql.create("'sale', 'shop'").await?;
    let message = "select to_jsonb(m) from pgmq.q_worker_default_queue m";
    let before: serde_json::Value = sql.value(message).await?;
    assert!(pause(&mut sql, "default").await?);
    let claimed = sql
        .rows("select * from tasker.claim_steps('w', '{default,shop}', 10)")
        .await?;
    assert_eq!(names(&claimed), ["s"]);
    let after: serde_json::Value = sql.value(message).await?;
    assert_eq!(before, after);
    sql.verify().await?;
    assert!(resume(&mut sql, "default").await?);
    sql.claim_one().await?;
    assert_eq!(sql.task_state(&task).await?, "steps_in_process");
    sql.verify().await
}

#[tokio::test]
async fn nothing_is_handed_over_in_a_paused_namespace() -> anyhow::Result<()> {
    let mut sql = with_templates().await?;
    sql.create("'chain'").await?;
    let a = sql.claim_one().await?;
    pause(&mut sql, "default").await?;
    let answer = sql.finish("w", json!([done(&a, json!(1))]), 10).await?;
    assert_eq!(
        (answer.words(), answer.claimed.len()),
        (vec!["accepted"], 0)
    );
    resume(&mut sql, "default").await?;
    assert_eq!(sql.claim_one().await?["step_name"], "b");
    sql.verify().await
}

#[tokio::test]
async fn a_task_created_in_a_paused_namespace_is_pending_and_starts_with_the_resumption()
-> anyhow::Result<()> {
    let mut sql = with_templates().await?;
    sql.register(EMPTY).await?;
    pause(&mut sql, "default").await?;
    let task = sql.create("'chain'").await?;
    let empty = sql.create("'empty'").await?;
    let elsewhere = sql.create("'sale', 'shop'").await?;
    let row = sql
        .row(&format!(
            "select state, started_at, steps_total from tasker.get_task('{task}')"
        ))
        .await?;
    assert_eq!(
        row,
        json!({"state": "pending", "started_at": null, "steps_total": 2})
    );
    assert_eq!(sql.task_state(&elsewhere).await?, "steps_in_process");
    sql.verify().await?;
    let started = "select processed from tasker.run_maintenance() where job = 'start_held_tasks'";
    assert_eq!(sql.value::<i64>(started).await?, 0);

    sql.clock(5000).await?;
    resume(&mut sql, "default").await?;
    assert_eq!(sql.task_state(&empty).await?, "complete");
    let row = sql
        .row(&format!(
            "select state, started_at from tasker.get_task('{task}')"
        ))
        .await?;
    assert_eq!(
        row,
        json!({"state": "steps_in_process", "started_at": "2030-01-01T00:00:05+00:00"})
    );
    assert_eq!(sql.claim_one().await?["step_name"], "a");
    assert_eq!(
        sql.value::<i64>("select count(*) from tasker.held_tasks")
            .await?,
        0
    );
    sql.verify().await
}

#[tokio::test]
async fn a_task_that_comes_due_in_a_paused_namespace_waits_for_its_resumption() -> anyhow::Result<()>
{
    let mut sql = with_templates().await?;
    let task = sql
        .create("'chain', run_at => '2030-01-01 00:01:00+00'")
        .await?;
    pause(&mut sql, "default").await?;
    let later = sql
        .create("'chain', run_at => '2030-01-01 00:10:00+00'")
        .await?;
    sql.clock(60_000).await?;
    sql.run("select * from tasker.run_maintenance()").await?;
    assert_eq!(sql.task_state(&task).await?, "pending");
    sql.verify().await?;
    resume(&mut sql, "default").await?;
    assert_eq!(sql.task_state(&task).await?, "steps_in_process");
    assert_eq!(sql.task_state(&later).await?, "pending");
    sql.clock(600_000).await?;
    sql.run("select * from tasker.run_maintenance()").await?;
    assert_eq!(sql.task_state(&later).await?, "steps_in_process");
    sql.verify().await
}

#[tokio::test]
async fn a_resumption_starts_the_first_thousand_and_maintenance_the_rest() -> anyhow::Result<()> {
    let mut sql = with_templates().await?;
    pause(&mut sql, "default").await?;
    sql.run("select count(*) from tasker.create_tasks((select jsonb_agg('{\"template_name\": \"chain\"}'::jsonb) from generate_series(1, 1500)))")
        .await?;
    resume(&mut sql, "default").await?;
    let pending = "select count(*) from tasker.tasks where state = 'pending'";
    assert_eq!(sql.value::<i64>(pending).await?, 500);
    sql.verify().await?;
    let job = sql
        .row("select processed, more from tasker.run_maintenance(400) where job = 'start_held_tasks'")
        .await?;
    assert_eq!(job, json!({"processed": 400, "more": true}));
    sql.run("select * from tasker.run_maintenance(400)").await?;
    assert_eq!(sql.value::<i64>(pending).await?, 0);
    sql.verify().await
}

#[tokio::test]
async fn a_held_task_may_be_paused_resumed_and_cancelled() -> anyhow::Result<()> {
    let mut sql = with_templates().await?;
    pause(&mut sql, "default").await?;
    let cancelled = sql.create("'chain'").await?;
    let paused = sql.create("'chain'").await?;
    let resumed = sql.create("'chain'").await?;
    sql.run(&format!("select tasker.cancel_task('{cancelled}')"))
        .await?;
    for task in [&paused, &resumed] {
        sql.run(&format!("select tasker.pause_task('{task}')"))
            .await?;
    }
    sql.verify().await?;
    sql.run(&format!("select tasker.resume_task('{resumed}')"))
        .await?;
    assert_eq!(sql.task_state(&resumed).await?, "pending");
    sql.verify().await?;
    resume(&mut sql, "default").await?;
    assert_eq!(sql.task_state(&cancelled).await?, "cancelled");
    assert_eq!(sql.task_state(&paused).await?, "pending");
    assert_eq!(sql.task_state(&resumed).await?, "steps_in_process");
    sql.run(&format!("select tasker.resume_task('{paused}')"))
        .await?;
    assert_eq!(sql.task_state(&paused).await?, "steps_in_process");
    sql.verify().await
}

#[tokio::test]
async fn pausing_or_resuming_twice_changes_nothing_and_says_so() -> anyhow::Result<()> {
    let mut sql = with_templates().await?;
    assert!(!resume(&mut sql, "shop").await?);
    assert!(pause(&mut sql, "shop").await?);
    sql.clock(1000).await?;
    assert!(!pause(&mut sql, "shop").await?);
    let row = sql
        .row("select paused_at, paused_by = session_user as is_mine, pause_reason from tasker.list_namespaces() where name = 'shop'")
        .await?;
    assert_eq!(
        row,
        json!({"paused_at": "2030-01-01T00:00:00+00:00", "is_mine": true, "pause_reason": "at night"})
    );
    assert!(resume(&mut sql, "shop").await?);
    assert!(!resume(&mut sql, "shop").await?);
    for call in [
        "pause_namespace('none')",
        "resume_namespace('none')",
        "pause_namespace(null)",
    ] {
        let refusal = sql.refused(&format!("select tasker.{call}")).await?;
        assert_eq!(refusal.code, "TK004", "{call}");
    }
    Ok(())
}
