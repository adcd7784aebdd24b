//! `explain_task`: for each reason that a step can have for not going on, the exact row.

use serde_json::{Value, json};
use tasker_tests::Scenario;

const CHAIN: &str = "{name: chain, version: 1.0.0, steps: [{name: a, handler: {callable: t.a}, retry: {backoff: linear, backoff_base_ms: 60000, max_backoff_ms: 600000, max_attempts: 3, jitter: 0}}, \
    {name: other, handler: {callable: t.a}}, {name: b, handler: {callable: t.b}, dependencies: [a, other]}, {name: c, handler: {callable: t.b}, dependencies: [b]}]}";

/// A task whose step `other` is done; its step `a` is ready.
async fn with_task() -> anyhow::Result<(Scenario, String)> {
    let mut sql = Scenario::new().await?;
    sql.run("set timezone = 'UTC'").await?;
    sql.register(CHAIN).await?;
    let task = sql.create("'chain'").await?;
    let steps = sql.claim("w", 10).await?;
    sql.complete(&steps[1], json!(1)).await?;
    let back = json!([tasker_tests::scenario::given_back(&steps[0], "release")]);
    sql.finish("w", back, 0).await?;
    Ok((sql, task))
}

async fn explained(sql: &mut Scenario, task: &str) -> anyhow::Result<Vec<Value>> {
    sql.rows(&format!("select * from tasker.explain_task('{task}')"))
        .await
}

/// The row of a step, without its key, which is checked.
async fn row(sql: &mut Scenario, task: &str, step: &str) -> anyhow::Result<Value> {
    let key: Value = sql
        .row(&format!("select max(step_uuid::text) as key from tasker.list_steps('{task}') where name = '{step}'"))
        .await?;
    let rows = explained(sql, task).await?;
    let mut found: Vec<Value> = rows
        .into_iter()
        .filter(|row| row["step_name"] == *step)
        .collect();
    anyhow::ensure!(found.len() == 1, "{found:?}");
    assert_eq!(found[0]["step_uuid"], key["key"]);
    let mut row = found.remove(0);
    row.as_object_mut().map(|row| row.remove("step_uuid"));
    Ok(row)
}

fn expected(step: &str, state: &str, reason: &str, explanation: &str) -> Value {
    json!({"step_name": step, "state": state, "reason": reason, "explanation": explanation, "waits_for": [], "until": null, "worker_id": null, "dead_letter_uuid": null})
}

fn with(mut row: Value, name: &str, value: Value) -> Value {
    row[name] = value;
    row
}

async fn register(sql: &mut Scenario, handlers: &str) -> anyhow::Result<()> {
    sql.run(&format!(
        "select tasker.register_worker('lives', '{{default}}', '{handlers}', 'rust', '1')"
    ))
    .await
}

#[tokio::test]
async fn a_ready_step_without_a_worker_says_which_handler_is_missing() -> anyhow::Result<()> {
    let (mut sql, task) = with_task().await?;
    register(&mut sql, "{t.b}").await?;
    sql.run("select tasker.register_worker('elsewhere', '{shop}', '{t.a}', 'rust', '1'); select tasker.register_worker('retired', '{default}', '{t.a}', 'rust', '1'); \
             select tasker.retire_worker('retired')")
        .await?;
    let wanted = expected(
        "a",
        "enqueued",
        "no_worker",
        "no live worker serves handler t.a in namespace default",
    );
    assert_eq!(row(&mut sql, &task, "a").await?, wanted);
    register(&mut sql, "{t.a}").await?;
    sql.clock(60_000).await?;
    assert_eq!(row(&mut sql, &task, "a").await?["reason"], "queued");
    sql.clock(60_001).await?;
    assert_eq!(row(&mut sql, &task, "a").await?, wanted);
    Ok(())
}

#[tokio::test]
async fn a_ready_step_with_a_worker_is_queued() -> anyhow::Result<()> {
    let (mut sql, task) = with_task().await?;
    register(&mut sql, "{t.a,t.b}").await?;
    let wanted = expected(
        "a",
        "enqueued",
        "queued",
        "is ready; live workers that serve handler t.a in namespace default: 1",
    );
    assert_eq!(row(&mut sql, &task, "a").await?, wanted);
    Ok(())
}

#[tokio::test]
async fn a_running_step_says_who_runs_it_and_until_when() -> anyhow::Result<()> {
    let (mut sql, task) = with_task().await?;
    sql.claim_one().await?;
    register(&mut sql, "{t.a}").await?;
    let running = expected(
        "a",
        "in_progress",
        "running",
        "worker w runs attempt 3 under a lease until 00:00:30",
    );
    let running = with(running, "until", json!("2030-01-01T00:00:30+00:00"));
    assert_eq!(
        row(&mut sql, &task, "a").await?,
        with(running, "worker_id", json!("w"))
    );
    sql.clock(30_000).await?;
    let ended = expected(
        "a",
        "in_progress",
        "lease_ended",
        "worker w held attempt 3 until 00:00:30; the next claim takes the step over",
    );
    assert_eq!(
        row(&mut sql, &task, "a").await?,
        with(ended, "worker_id", json!("w"))
    );
    Ok(())
}

#[tokio::test]
async fn a_failed_attempt_says_when_it_is_retried_and_its_dependents_say_so_too()
-> anyhow::Result<()> {
    let (mut sql, task) = with_task().await?;
    let a = sql.claim_one().await?;
    sql.fail(&a, json!({"message": "card refused"})).await?;
    let retry = expected(
        "a",
        "waiting_for_retry",
        "retry",
        "attempt 1 of 3 failed (card refused); its first retry is due at 00:01:00",
    );
    let retry = with(retry, "until", json!("2030-01-01T00:01:00+00:00"));
    assert_eq!(row(&mut sql, &task, "a").await?, retry);

    sql.clock(60_000).await?;
    assert_eq!(row(&mut sql, &task, "a").await?["reason"], "no_worker");
    let a = sql.claim_one().await?;
    sql.fail(&a, json!({"message": "card refused"})).await?;
    let waits = expected(
        "b",
        "pending",
        "dependency",
        "waits for step a, which is in its second retry until 00:03:00",
    );
    let waits = with(waits, "waits_for", json!(["a"]));
    assert_eq!(
        row(&mut sql, &task, "b").await?,
        with(waits, "until", json!("2030-01-01T00:03:00+00:00"))
    );
    let waits = expected(
        "c",
        "pending",
        "dependency",
        "waits for step b, which waits itself",
    );
    assert_eq!(
        row(&mut sql, &task, "c").await?,
        with(waits, "waits_for", json!(["b"]))
    );
    sql.verify().await
}

#[tokio::test]
async fn a_step_that_waits_for_several_names_each() -> anyhow::Result<()> {
    let mut sql = Scenario::new().await?;
    sql.register(CHAIN).await?;
    let task = sql.create("'chain'").await?;
    sql.claim("w", 1).await?;
    let waits = expected(
        "b",
        "pending",
        "dependency",
        "waits for step a, which is running; step other, which is ready and not claimed yet",
    );
    assert_eq!(
        row(&mut sql, &task, "b").await?,
        with(waits, "waits_for", json!(["a", "other"]))
    );
    let rows = explained(&mut sql, &task).await?;
    let names: Vec<&Value> = rows.iter().map(|row| &row["step_name"]).collect();
    assert_eq!(names, ["a", "other", "b", "c"]);
    Ok(())
}

#[tokio::test]
async fn a_failed_step_waits_for_an_operator_and_what_is_behind_it_can_not_run()
-> anyhow::Result<()> {
    let (mut sql, task) = with_task().await?;
    let a = sql.claim_one().await?;
    sql.fail(&a, json!({"message": "card stolen", "retryable": false}))
        .await?;
    let letter: String = sql
        .value("select dead_letter_uuid::text from tasker.dead_letters")
        .await?;
    let failed = expected(
        "a",
        "error",
        "failed",
        "failed for good after 1 of 3 attempts: card stolen; an operator decides",
    );
    assert_eq!(
        row(&mut sql, &task, "a").await?,
        with(failed, "dead_letter_uuid", json!(letter))
    );
    for (step, waits_for) in [("b", "a"), ("c", "b")] {
        let blocked = expected(
            step,
            "pending",
            "blocked",
            "cannot run: step a, which it depends on, failed for good",
        );
        let blocked = with(blocked, "waits_for", json!([waits_for]));
        assert_eq!(
            row(&mut sql, &task, step).await?,
            with(blocked, "dead_letter_uuid", json!(letter))
        );
    }
    Ok(())
}

#[tokio::test]
async fn a_paused_task_or_namespace_says_who_paused_it_and_why() -> anyhow::Result<()> {
    let (mut sql, task) = with_task().await?;
    let me: String = sql.value("select session_user::text").await?;
    sql.run("select tasker.pause_namespace('default', 'at night')")
        .await?;
    let wanted = expected(
        "a",
        "enqueued",
        "namespace_paused",
        &format!("namespace default was paused by {me} at 00:00:00: at night"),
    );
    assert_eq!(row(&mut sql, &task, "a").await?, wanted);
    sql.clock(1000).await?;
    sql.run(&format!("select tasker.pause_task('{task}')"))
        .await?;
    // What the pause of a task is waited for comes before what that of its namespace is.
    let wanted = expected(
        "a",
        "enqueued",
        "task_paused",
        &format!("the task was paused by {me} at 00:00:01"),
    );
    assert_eq!(row(&mut sql, &task, "a").await?, wanted);
    assert_eq!(row(&mut sql, &task, "b").await?["reason"], "dependency");
    Ok(())
}

#[tokio::test]
async fn the_steps_of_a_task_that_has_not_started_say_what_it_waits_for() -> anyhow::Result<()> {
    let mut sql = Scenario::new().await?;
    sql.run("set timezone = 'UTC'").await?;
    sql.register(CHAIN).await?;
    let me: String = sql.value("select session_user::text").await?;
    let task = sql
        .create("'chain', run_at => '2030-01-02 12:00:00+00'")
        .await?;
    let scheduled = expected(
        "a",
        "pending",
        "scheduled",
        "the task starts at 2030-01-02 12:00:00",
    );
    let scheduled = with(scheduled, "until", json!("2030-01-02T12:00:00+00:00"));
    assert_eq!(row(&mut sql, &task, "a").await?, scheduled);
    assert_eq!(
        row(&mut sql, &task, "b").await?["waits_for"],
        json!(["a", "other"])
    );
    assert_eq!(explained(&mut sql, &task).await?.len(), 4);

    sql.clock(2 * 86_400_000).await?;
    let due = expected(
        "a",
        "pending",
        "scheduled",
        "the task starts with the next round of maintenance",
    );
    assert_eq!(row(&mut sql, &task, "a").await?, due);
    sql.run("select tasker.pause_namespace('default')").await?;
    let held = expected(
        "a",
        "pending",
        "namespace_paused",
        &format!("namespace default was paused by {me} at 00:00:00"),
    );
    assert_eq!(row(&mut sql, &task, "a").await?, held);
    sql.run(&format!("select tasker.pause_task('{task}', 'too early')"))
        .await?;
    let paused = expected(
        "a",
        "pending",
        "task_paused",
        &format!("the task was paused by {me} at 00:00:00: too early"),
    );
    assert_eq!(row(&mut sql, &task, "a").await?, paused);
    Ok(())
}

#[tokio::test]
async fn a_task_that_ended_well_has_nothing_to_explain_and_an_unknown_one_is_refused()
-> anyhow::Result<()> {
    let (mut sql, task) = with_task().await?;
    sql.run(&format!("select tasker.cancel_task('{task}')"))
        .await?;
    assert!(explained(&mut sql, &task).await?.is_empty());
    let refusal = sql
        .refused("select * from tasker.explain_task('018f0000-0000-7000-8000-000000000000')")
        .await?;
    assert_eq!(refusal.code, "TK001");
    Ok(())
}

#[tokio::test]
async fn a_task_of_ten_thousand_steps_is_explained() -> anyhow::Result<()> {
    let mut sql = Scenario::new().await?;
    let steps: Vec<String> = (0..10_000)
        .map(|number: u32| match number {
            0 => "{name: s0, handler: {callable: t.a}}".to_owned(),
            _ => format!(
                "{{name: s{number}, handler: {{callable: t.a}}, dependencies: [s{}]}}",
                number - 1
            ),
        })
        .collect();
    sql.register(&format!(
        "{{name: long, version: 1.0.0, steps: [{}]}}",
        steps.join(", ")
    ))
    .await?;
    let task = sql.create("'long'").await?;
    let step = sql.claim_one().await?;
    sql.fail(&step, json!({"message": "m", "retryable": false}))
        .await?;
    let blocked: i64 = sql
        .value(&format!(
            "select count(*) from tasker.explain_task('{task}') where reason = 'blocked'"
        ))
        .await?;
    assert_eq!(blocked, 9999);
    Ok(())
}
