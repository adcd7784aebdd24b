//! Steps that wait for a signal: early, late, twice, never.

use serde_json::{Value, json};
use tasker_tests::Scenario;
use tasker_tests::scenario::{done, key, names};

const APPROVAL: &str = "
name: approval
version: 1.0.0
steps:
  - {name: draft, handler: {callable: t.draft}}
  - {name: approve, type: signal, dependencies: [draft], signal: {name: approved, schema: {type: object, required: [by]}}}
  - {name: publish, handler: {callable: t.publish}, dependencies: [approve]}
";

const PATIENT: &str = "
name: patient
version: 1.0.0
steps:
  - {name: strict, type: signal, signal: {name: one, timeout_seconds: 60}}
  - {name: lenient, type: signal, signal: {name: two, timeout_seconds: 30, on_timeout: {by: nobody}}}
  - {name: last, handler: {callable: t.last}, dependencies: [lenient]}
";

async fn send(sql: &mut Scenario, task: &str, rest: &str) -> anyhow::Result<bool> {
    sql.value(&format!("select tasker.send_signal('{task}', {rest})"))
        .await
}

async fn maintain(sql: &mut Scenario) -> anyhow::Result<()> {
    sql.run("select tasker.run_maintenance()").await?;
    sql.verify().await
}

/// A task whose draft is done.
async fn drafted(sql: &mut Scenario) -> anyhow::Result<String> {
    sql.register(APPROVAL).await?;
    let task = sql.create("'approval'").await?;
    let draft = sql.claim_one().await?;
    sql.complete(&draft, json!("text")).await?;
    Ok(task)
}

async fn explained(sql: &mut Scenario, task: &str, step: &str) -> anyhow::Result<Value> {
    sql.row(&format!(
        "select state, reason, explanation, until from tasker.explain_task('{task}') where step_name = '{step}'"
    ))
    .await
}

#[tokio::test]
async fn a_step_waits_without_a_worker_until_its_signal_comes() -> anyhow::Result<()> {
    let mut sql = Scenario::new().await?;
    let task = drafted(&mut sql).await?;
    assert_eq!(sql.task_state(&task).await?, "waiting_for_dependencies");
    assert!(sql.claim("w", 10).await?.is_empty());
    let waits = explained(&mut sql, &task, "approve").await?;
    assert_eq!(waits["state"], "in_progress");
    assert_eq!(waits["reason"], "signal");
    assert_eq!(waits["explanation"], "waits for signal approved");
    let behind = explained(&mut sql, &task, "publish").await?;
    assert_eq!(
        behind["explanation"],
        "waits for step approve, which waits inside the engine"
    );
    maintain(&mut sql).await?;

    assert!(send(&mut sql, &task, r#"'approved', '{"by": "ada"}'"#).await?);
    sql.verify().await?;
    assert_eq!(sql.task_state(&task).await?, "steps_in_process");
    let publish = sql.claim_one().await?;
    assert_eq!(
        publish["dependency_results"],
        json!({"approve": {"by": "ada"}})
    );
    sql.complete(&publish, json!(1)).await?;
    assert_eq!(sql.task_state(&task).await?, "complete");
    sql.verify().await
}

#[tokio::test]
async fn a_signal_that_comes_early_is_kept_for_its_step() -> anyhow::Result<()> {
    let mut sql = Scenario::new().await?;
    sql.register(APPROVAL).await?;
    let task = sql.create("'approval'").await?;
    assert!(send(&mut sql, &task, r#"'approved', '{"by": "ada"}'"#).await?);
    let draft = sql.claim_one().await?;
    let next = sql.finish("w", json!([done(&draft, json!(1))]), 1).await?;
    assert_eq!(next.names(), ["publish"]);
    assert_eq!(
        next.claimed[0]["dependency_results"],
        json!({"approve": {"by": "ada"}})
    );
    sql.complete(&next.claimed[0], json!(1)).await?;
    sql.verify().await?;
    // Before the task starts it can't come too early either.
    let later = sql
        .create("'approval', run_at => tasker._now() + interval '1 minute'")
        .await?;
    assert!(send(&mut sql, &later, r#"'approved', '{"by": "bob"}'"#).await?);
    sql.clock(60_000).await?;
    maintain(&mut sql).await?;
    let draft = sql.claim_one().await?;
    let next = sql.finish("w", json!([done(&draft, json!(1))]), 1).await?;
    assert_eq!(next.names(), ["publish"]);
    sql.verify().await
}

#[tokio::test]
async fn a_signal_counts_once_and_the_first_payload_stays() -> anyhow::Result<()> {
    let mut sql = Scenario::new().await?;
    let task = drafted(&mut sql).await?;
    assert!(send(&mut sql, &task, r#"'approved', '{"by": "ada"}'"#).await?);
    assert!(!send(&mut sql, &task, r#"'approved', '{"by": "bob"}'"#).await?);
    let publish = sql.claim_one().await?;
    assert_eq!(publish["dependency_results"]["approve"]["by"], "ada");
    sql.complete(&publish, json!(1)).await?;
    // Who repeats a call that succeeded is told so, also when the task has ended since.
    assert!(!send(&mut sql, &task, r#"'approved', '{"by": "ada"}'"#).await?);
    let listed = sql
        .row(&format!("select * from tasker.list_signals('{task}')"))
        .await?;
    assert_eq!(listed["name"], "approved");
    assert_eq!(listed["step_names"], json!(["approve"]));
    assert_eq!(listed["waiting"], false);
    assert_eq!(listed["payload"], json!({"by": "ada"}));
    sql.verify().await
}

#[tokio::test]
async fn a_signal_that_nothing_can_take_is_refused() -> anyhow::Result<()> {
    let mut sql = Scenario::new().await?;
    let task = drafted(&mut sql).await?;
    let call = |rest: &str| format!("select tasker.send_signal('{task}', {rest})");
    let unknown = sql.refused(&call("'aproved'")).await?;
    assert_eq!(unknown.code, "TK004");
    let bad = sql
        .refused(&call(r#"'approved', '{"from": "ada"}'"#))
        .await?;
    assert_eq!(bad.code, "TK021");
    assert!(bad.detail.contains("by"), "{bad:?}");
    sql.run("set local tasker.max_payload_bytes = 2000").await?;
    let long = sql
        .refused(&call(
            "'approved', jsonb_build_object('by', repeat('x', 3000))",
        ))
        .await?;
    assert_eq!(long.code, "TK022");
    sql.run(&format!("select tasker.cancel_task('{task}')"))
        .await?;
    let cancelled = sql.refused(&call(r#"'approved', '{"by": "ada"}'"#)).await?;
    assert_eq!(cancelled.code, "TK012");
    let missing = sql
        .refused("select tasker.send_signal('01900000-0000-7000-8000-000000000000', 'approved')")
        .await?;
    assert_eq!(missing.code, "TK001");
    sql.verify().await?;

    let failed = drafted(&mut sql).await?;
    sql.run(&format!(
        "select tasker.resolve_step(step_uuid) from tasker.list_steps('{failed}') where name = 'approve'"
    ))
    .await?;
    let publish = sql.claim_one().await?;
    sql.complete(&publish, json!(1)).await?;
    let ended = sql
        .refused(&format!(
            r#"select tasker.send_signal('{failed}', 'approved', '{{"by": "ada"}}')"#
        ))
        .await?;
    assert_eq!(ended.code, "TK010");
    sql.verify().await
}

#[tokio::test]
async fn a_signal_that_does_not_come_fails_its_step_or_gives_it_the_default() -> anyhow::Result<()>
{
    let mut sql = Scenario::new().await?;
    sql.register(PATIENT).await?;
    let task = sql.create("'patient'").await?;
    assert_eq!(sql.task_state(&task).await?, "waiting_for_dependencies");
    sql.verify().await?;
    let waits = explained(&mut sql, &task, "lenient").await?;
    assert_eq!(waits["explanation"], "waits for signal two until 00:00:30");
    assert!(waits["until"].is_string());

    sql.clock(29_999).await?;
    maintain(&mut sql).await?;
    assert!(sql.claim("w", 10).await?.is_empty());
    sql.clock(30_000).await?;
    maintain(&mut sql).await?;
    let last = sql.claim_one().await?;
    assert_eq!(
        last["dependency_results"],
        json!({"lenient": {"by": "nobody"}})
    );
    sql.complete(&last, json!(1)).await?;
    assert_eq!(sql.task_state(&task).await?, "waiting_for_dependencies");

    sql.clock(60_000).await?;
    maintain(&mut sql).await?;
    assert_eq!(sql.task_state(&task).await?, "error");
    let strict = sql
        .row(&format!(
            "select step_uuid, state, error from tasker.list_steps('{task}') where name = 'strict'"
        ))
        .await?;
    assert_eq!(strict["state"], "error");
    assert_eq!(strict["error"]["type"], "signal_timeout");
    assert_eq!(
        strict["error"]["message"],
        "signal one has not come within 60 seconds"
    );

    // Tried again, it waits anew.
    sql.run(&format!("select tasker.reset_step('{}')", key(&strict)))
        .await?;
    sql.verify().await?;
    assert_eq!(sql.task_state(&task).await?, "waiting_for_dependencies");
    assert!(send(&mut sql, &task, "'one'").await?);
    assert_eq!(sql.task_state(&task).await?, "complete");
    sql.verify().await
}

#[tokio::test]
async fn a_rerun_waits_for_the_signal_anew_and_a_later_step_alone_does_not() -> anyhow::Result<()> {
    let mut sql = Scenario::new().await?;
    let task = drafted(&mut sql).await?;
    assert!(send(&mut sql, &task, r#"'approved', '{"by": "ada"}'"#).await?);
    let publish = sql.claim_one().await?;
    sql.complete(&publish, json!(1)).await?;

    sql.run(&format!("select tasker.rerun_task('{task}', 'publish')"))
        .await?;
    let publish = sql.claim_one().await?;
    assert_eq!(publish["dependency_results"]["approve"]["by"], "ada");
    sql.complete(&publish, json!(1)).await?;
    sql.verify().await?;

    sql.run(&format!("select tasker.rerun_task('{task}', 'approve')"))
        .await?;
    sql.verify().await?;
    assert_eq!(sql.task_state(&task).await?, "waiting_for_dependencies");
    assert!(send(&mut sql, &task, r#"'approved', '{"by": "bob"}'"#).await?);
    let publish = sql.claim_one().await?;
    assert_eq!(publish["dependency_results"]["approve"]["by"], "bob");
    sql.verify().await
}

#[tokio::test]
async fn who_waits_for_a_signal_can_be_settled_by_hand_and_cancelled() -> anyhow::Result<()> {
    let mut sql = Scenario::new().await?;
    sql.register(PATIENT).await?;
    let task = sql.create("'patient'").await?;
    sql.run(&format!(
        "select tasker.complete_step_manually(step_uuid, '7') from tasker.list_steps('{task}') where name = 'strict'"
    ))
    .await?;
    sql.verify().await?;
    sql.run(&format!("select tasker.cancel_task('{task}')"))
        .await?;
    sql.verify().await?;
    assert_eq!(
        sql.value::<i64>("select count(*) from tasker.timers")
            .await?,
        0
    );
    Ok(())
}

#[tokio::test]
async fn a_paused_task_takes_its_signal_and_what_follows_waits() -> anyhow::Result<()> {
    let mut sql = Scenario::new().await?;
    let task = drafted(&mut sql).await?;
    sql.run(&format!("select tasker.pause_task('{task}')"))
        .await?;
    assert!(send(&mut sql, &task, r#"'approved', '{"by": "ada"}'"#).await?);
    assert!(sql.claim("w", 1).await?.is_empty());
    sql.verify().await?;
    sql.run(&format!("select tasker.resume_task('{task}')"))
        .await?;
    assert_eq!(names(&sql.claim("w", 1).await?), ["publish"]);
    sql.verify().await
}

#[tokio::test]
async fn no_worker_can_end_or_hold_a_step_that_waits() -> anyhow::Result<()> {
    let mut sql = Scenario::new().await?;
    let task = drafted(&mut sql).await?;
    let waits = sql
        .row(&format!(
            "select step_uuid, attempt from tasker.list_steps('{task}') where name = 'approve'"
        ))
        .await?;
    assert_eq!(waits["attempt"], 1);
    assert_eq!(
        sql.verdict(done(&waits, json!({"by": "w"}))).await?,
        "lost TK011"
    );
    let extended: String = sql
        .value(&format!(
            "select verdict from tasker.extend_leases('w', '[{{\"step_uuid\": \"{}\", \"attempt\": 1}}]')",
            key(&waits)
        ))
        .await?;
    assert_eq!(extended, "lost");
    sql.verify().await
}
