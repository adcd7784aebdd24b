//! Retries, exhaustion, dead letters, and what a failure leaves running.

use serde_json::{Value, json};
use tasker_tests::Scenario;
use tasker_tests::scenario::key;

/// A template of one step with the given retry policy.
fn with_retry(retry: &str) -> String {
    format!(
        "{{name: one, version: 1.0.0, steps: [{{name: a, handler: {{callable: t.a}}, retry: {retry}}}]}}"
    )
}

async fn with(template: &str) -> anyhow::Result<Scenario> {
    let mut sql = Scenario::new().await?;
    sql.register(template).await?;
    Ok(sql)
}

/// Fails attempt after attempt, each when it is due, and gives the delays in milliseconds.
async fn delays(retry: &str, attempts: usize) -> anyhow::Result<Vec<i64>> {
    let mut sql = with(&with_retry(retry)).await?;
    sql.create("'one'").await?;
    let (mut now, mut delays) = (0, Vec::new());
    for _ in 0..attempts {
        let step = sql.claim_one().await?;
        sql.fail(&step, json!({"message": "m"})).await?;
        let due: i64 = sql
            .value("select tasker.work_due_in_ms('{default}')")
            .await?;
        let state = if due > 0 {
            "waiting_for_retry"
        } else {
            "enqueued"
        };
        let shown: String = sql
            .value(&format!(
                "select state from tasker.get_step('{}')",
                key(&step)
            ))
            .await?;
        assert_eq!(shown, state);
        sql.verify().await?;
        if due > 1 {
            sql.clock(now + due - 1).await?;
            assert!(
                sql.claim("w", 1).await?.is_empty(),
                "claimed before it was due"
            );
        }
        now += due;
        sql.clock(now).await?;
        delays.push(due);
    }
    Ok(delays)
}

#[tokio::test]
async fn each_backoff_waits_as_it_says() -> anyhow::Result<()> {
    let policy = |backoff: &str| {
        format!(
            "{{backoff: {backoff}, max_attempts: 20, backoff_base_ms: 100, max_backoff_ms: 1000, jitter: 0}}"
        )
    };
    assert_eq!(delays(&policy("none"), 4).await?, [0, 0, 0, 0]);
    assert_eq!(delays(&policy("linear"), 4).await?, [100, 200, 300, 400]);
    assert_eq!(
        delays(&policy("exponential"), 6).await?,
        [100, 200, 400, 800, 1000, 1000]
    );
    assert_eq!(
        delays(&policy("fibonacci"), 8).await?,
        [100, 100, 200, 300, 500, 800, 1000, 1000]
    );
    Ok(())
}

#[tokio::test]
async fn jitter_stays_within_its_share() -> anyhow::Result<()> {
    for delay in delays("{backoff: linear, max_attempts: 20, backoff_base_ms: 100000, max_backoff_ms: 100000, jitter: 0.2}", 12).await? {
        assert!((80_000..=120_000).contains(&delay), "{delay}");
    }
    Ok(())
}

#[tokio::test]
async fn a_handler_may_say_when_to_retry_up_to_a_day() -> anyhow::Result<()> {
    let mut sql = with(&with_retry(
        "{backoff: exponential, max_attempts: 20, jitter: 0}",
    ))
    .await?;
    sql.create("'one'").await?;
    let mut now = 0;
    for (asked, waits) in [
        (5_000, 5_000),
        (0, 0),
        (999_999_999_999_999_i64, 86_400_000),
    ] {
        let step = sql.claim_one().await?;
        sql.fail(&step, json!({"message": "m", "retry_after_ms": asked}))
            .await?;
        assert_eq!(
            sql.value::<i64>("select tasker.work_due_in_ms('{default}')")
                .await?,
            waits
        );
        now += waits;
        sql.clock(now).await?;
    }
    sql.verify().await
}

#[tokio::test]
async fn a_task_waits_for_its_retry_and_goes_on_after_it() -> anyhow::Result<()> {
    let mut sql = with(&with_retry(
        "{backoff: linear, backoff_base_ms: 1000, jitter: 0}",
    ))
    .await?;
    let task = sql.create("'one'").await?;
    let step = sql.claim_one().await?;
    sql.fail(
        &step,
        json!({"message": "m", "type": "t", "detail": {"x": 1}}),
    )
    .await?;
    assert_eq!(sql.task_state(&task).await?, "waiting_for_retry");
    let shown = sql
        .row(&format!("select * from tasker.get_step('{}')", key(&step)))
        .await?;
    assert_eq!(shown["retry_at"], "2030-01-01T00:00:01+00:00");
    assert_eq!(
        shown["error"],
        json!({"message": "m", "type": "t", "detail": {"x": 1}, "retryable": true})
    );
    sql.clock(1000).await?;
    let again = sql.claim_one().await?;
    assert_eq!(
        (&again["attempt"], &again["attempts_used"]),
        (&json!(2), &json!(2))
    );
    assert_eq!(sql.task_state(&task).await?, "steps_in_process");
    sql.complete(&again, json!(1)).await?;
    assert_eq!(sql.task_state(&task).await?, "complete");
    let shown = sql
        .row(&format!("select * from tasker.get_step('{}')", key(&step)))
        .await?;
    assert_eq!(
        (&shown["error"], &shown["retry_at"]),
        (&json!(null), &json!(null))
    );
    sql.verify().await
}

#[tokio::test]
async fn the_last_attempt_that_fails_ends_the_task_with_a_dead_letter() -> anyhow::Result<()> {
    let mut sql = with(&with_retry("{backoff: none, max_attempts: 2}")).await?;
    let task = sql.create("'one', context => '{\"n\": 1}'").await?;
    for _ in 0..2 {
        let step = sql.claim_one().await?;
        sql.fail(&step, json!({"message": "no luck"})).await?;
    }
    assert!(sql.claim("w", 1).await?.is_empty());
    let row = sql
        .row(&format!("select * from tasker.get_task('{task}')"))
        .await?;
    assert_eq!(
        (&row["state"], &row["steps_failed"], &row["steps_done"]),
        (&json!("error"), &json!(1), &json!(0))
    );
    assert_eq!(
        (&row["error"]["step_name"], &row["finished_at"]),
        (&json!("a"), &json!("2030-01-01T00:00:00+00:00"))
    );
    assert!(
        row["error"]["message"]
            .as_str()
            .is_some_and(|message| message.contains("no luck")),
        "{row}"
    );
    let letter = sql.row("select * from tasker.dead_letters").await?;
    assert_eq!(
        (
            &letter["reason"],
            &letter["resolution"],
            &letter["task_uuid"]
        ),
        (
            &json!("max_retries_exceeded"),
            &json!("pending"),
            &json!(task)
        )
    );
    let snapshot = &letter["snapshot"];
    assert_eq!(
        (&snapshot["task"]["context"], &snapshot["task"]["state"]),
        (&json!({"n": 1}), &json!("error"))
    );
    assert_eq!(
        (
            &snapshot["steps"][0]["state"],
            &snapshot["steps"][0]["attempts_used"]
        ),
        (&json!("error"), &json!(2))
    );
    assert!(
        snapshot["history"]
            .as_array()
            .is_some_and(|rows| rows.len() >= 4),
        "{snapshot}"
    );
    sql.verify().await
}

#[tokio::test]
async fn what_is_not_retryable_fails_at_once() -> anyhow::Result<()> {
    for (retry, error) in [
        (
            "{max_attempts: 5}",
            json!({"message": "m", "retryable": false}),
        ),
        (
            "{retryable: false, max_attempts: 5}",
            json!({"message": "m"}),
        ),
        (
            "{retryable: false, max_attempts: 5}",
            json!({"message": "m", "retryable": true, "retry_after_ms": 5}),
        ),
    ] {
        let mut sql = with(&with_retry(retry)).await?;
        let task = sql.create("'one'").await?;
        let step = sql.claim_one().await?;
        sql.fail(&step, error).await?;
        assert_eq!(sql.task_state(&task).await?, "error", "{retry}");
        assert_eq!(
            sql.value::<String>("select reason from tasker.dead_letters")
                .await?,
            "permanent_failure"
        );
        sql.verify().await?;
    }
    Ok(())
}

const FORK: &str = "steps: [{name: bad, handler: {callable: t.bad}, retry: {max_attempts: 1}}, {name: after, handler: {callable: t.after}, dependencies: [bad]}, \
    {name: good, handler: {callable: t.good}}, {name: last, handler: {callable: t.last}, dependencies: [good]}]";

#[tokio::test]
async fn a_failed_branch_does_not_stop_its_siblings() -> anyhow::Result<()> {
    let mut sql = with(&format!("{{name: fork, version: 1.0.0, {FORK}}}")).await?;
    let task = sql.create("'fork'").await?;
    let steps = sql.claim("w", 2).await?;
    sql.fail(&steps[0], json!({"message": "m"})).await?;
    assert_eq!(sql.task_state(&task).await?, "steps_in_process");
    assert_eq!(
        sql.value::<i64>("select count(*) from tasker.dead_letters")
            .await?,
        0
    );
    sql.complete(&steps[1], json!(1)).await?;
    let last = sql.claim_one().await?;
    assert_eq!(last["step_name"], "last");
    sql.verify().await?;
    sql.complete(&last, json!(1)).await?;
    assert_eq!(sql.task_state(&task).await?, "error");
    assert_eq!(
        sql.step_states(&task).await?,
        json!({"bad": "error", "after": "pending", "good": "complete", "last": "complete"})
    );
    assert_eq!(
        sql.value::<i64>("select count(*) from tasker.dead_letters")
            .await?,
        1
    );
    sql.verify().await
}

#[tokio::test]
async fn a_template_may_leave_its_failed_tasks_to_an_operator() -> anyhow::Result<()> {
    let mut sql = with(&format!(
        "{{name: fork, version: 1.0.0, lifecycle: {{on_failure: block}}, {FORK}}}"
    ))
    .await?;
    let task = sql.create("'fork'").await?;
    let steps = sql.claim("w", 2).await?;
    sql.complete(&steps[1], json!(1)).await?;
    let last = sql.claim_one().await?;
    sql.complete(&last, json!(1)).await?;
    sql.fail(&steps[0], json!({"message": "m"})).await?;
    let row = sql
        .row(&format!("select * from tasker.get_task('{task}')"))
        .await?;
    assert_eq!(
        (
            &row["state"],
            &row["finished_at"],
            &row["error"]["step_name"]
        ),
        (&json!("blocked_by_failures"), &json!(null), &json!("bad"))
    );
    assert_eq!(
        sql.value::<String>("select resolution from tasker.dead_letters")
            .await?,
        "pending"
    );
    let path = sql.path("task_history", &task).await?;
    assert!(path.ends_with("steps_in_process -step_failed-> evaluating_results -permanent_failure-> blocked_by_failures"), "{path}");
    sql.verify().await?;
    assert!(
        sql.value::<bool>(&format!("select tasker.cancel_task('{task}')"))
            .await?
    );
    assert_eq!(
        sql.value::<String>("select resolution from tasker.dead_letters")
            .await?,
        "cancelled"
    );
    sql.verify().await
}

#[tokio::test]
async fn several_failures_in_one_call_make_one_dead_letter() -> anyhow::Result<()> {
    let mut sql = with("{name: two, version: 1.0.0, steps: [{name: a, handler: {callable: t}, retry: {max_attempts: 1}}, {name: b, handler: {callable: t}, retry: {max_attempts: 1}}]}").await?;
    let tasks = [sql.create("'two'").await?, sql.create("'two'").await?];
    let steps = sql.claim("w", 10).await?;
    let outcomes: Vec<Value> = steps
        .iter()
        .map(|step| tasker_tests::scenario::failed(step, json!({"message": "m"})))
        .collect();
    sql.finish("w", Value::Array(outcomes), 0).await?;
    for task in &tasks {
        assert_eq!(sql.task_state(task).await?, "error");
    }
    assert_eq!(
        sql.value::<i64>("select count(*) from tasker.dead_letters")
            .await?,
        2
    );
    sql.verify().await
}
