//! Leases: taking over, crashes in a row, extensions, timeouts.

use serde_json::{Value, json};
use tasker_tests::Scenario;
use tasker_tests::scenario::{done, key, quoted};

const ONE: &str = "{name: one, version: 1.0.0, steps: [{name: a, handler: {callable: t.a}, timeout_seconds: 100, \
    retry: {max_attempts: 3, backoff: linear, backoff_base_ms: 5000, jitter: 0}}]}";

async fn with(template: &str) -> anyhow::Result<Scenario> {
    let mut sql = Scenario::new().await?;
    sql.register(template).await?;
    Ok(sql)
}

/// What `extend_leases` says of the steps, in order.
async fn extend(sql: &mut Scenario, held: &Value, lease: &str) -> anyhow::Result<Vec<String>> {
    let rows = sql
        .rows(&format!(
            "select * from tasker.extend_leases('w', {}, '{lease}')",
            quoted(held)
        ))
        .await?;
    Ok(rows
        .iter()
        .filter_map(|row| row["verdict"].as_str().map(str::to_owned))
        .collect())
}

fn held(step: &Value) -> Value {
    json!([{"step_uuid": step["step_uuid"], "attempt": step["attempt"]}])
}

async fn lease_end(sql: &mut Scenario, step: &Value) -> anyhow::Result<String> {
    sql.value(&format!(
        "select lease_expires_at::text from tasker.get_step('{}')",
        key(step)
    ))
    .await
}

#[tokio::test]
async fn a_step_whose_lease_ended_is_taken_over_with_the_next_attempt() -> anyhow::Result<()> {
    let mut sql = with(ONE).await?;
    let task = sql.create("'one'").await?;
    let first = sql.claim("gone", 1).await?.remove(0);
    sql.clock(29_999).await?;
    assert!(sql.claim("w", 1).await?.is_empty());
    sql.clock(30_000).await?;
    let second = sql.claim_one().await?;
    assert_eq!(
        (&second["attempt"], &second["attempts_used"]),
        (&json!(2), &json!(2))
    );
    let shown = sql
        .row(&format!(
            "select * from tasker.get_step('{}')",
            key(&second)
        ))
        .await?;
    assert_eq!(
        (
            &shown["error"]["type"],
            &shown["error"]["detail"]["worker_id"]
        ),
        (&json!("lease_expired"), &json!("gone"))
    );
    let history = sql
        .rows(&format!(
            "select * from tasker.step_history('{}')",
            key(&first)
        ))
        .await?;
    let last = history.last().cloned().unwrap_or_default();
    assert_eq!(
        (
            &last["from_state"],
            &last["to_state"],
            &last["event"],
            &last["attempt"]
        ),
        (
            &json!("in_progress"),
            &json!("in_progress"),
            &json!("start"),
            &json!(2)
        )
    );
    sql.verify().await?;
    sql.complete(&second, json!(1)).await?;
    assert_eq!(sql.task_state(&task).await?, "complete");
    sql.verify().await
}

#[tokio::test]
async fn the_first_crash_is_retried_at_once_and_the_later_ones_with_the_backoff()
-> anyhow::Result<()> {
    let mut sql = with(ONE).await?;
    let task = sql.create("'one'").await?;
    sql.claim_one().await?;
    sql.clock(30_000).await?;
    assert_eq!(sql.claim_one().await?["attempt"], 2);
    sql.clock(60_000).await?;
    assert!(
        sql.claim("w", 1).await?.is_empty(),
        "the second crash waits for its backoff"
    );
    assert_eq!(sql.task_state(&task).await?, "waiting_for_retry");
    assert_eq!(
        sql.value::<i64>("select tasker.work_due_in_ms('{default}')")
            .await?,
        10_000
    );
    sql.verify().await?;
    sql.clock(70_000).await?;
    let last = sql.claim_one().await?;
    assert_eq!(
        (&last["attempt"], &last["attempts_used"]),
        (&json!(3), &json!(3))
    );
    sql.verify().await?;
    // No attempt is left: nothing is handed out, the task ends.
    sql.clock(100_000).await?;
    assert!(sql.claim("w", 1).await?.is_empty());
    assert_eq!(sql.task_state(&task).await?, "error");
    assert_eq!(
        sql.value::<String>("select reason from tasker.dead_letters")
            .await?,
        "worker_unavailable"
    );
    let late = sql.finish("w", json!([done(&last, json!(1))]), 0).await?;
    assert_eq!(late.words(), ["invalid"]);
    sql.verify().await
}

#[tokio::test]
async fn a_step_that_may_not_be_retried_fails_when_its_lease_ends() -> anyhow::Result<()> {
    let mut sql = with("{name: one, version: 1.0.0, steps: [{name: a, handler: {callable: t.a}, retry: {retryable: false}}]}").await?;
    let task = sql.create("'one'").await?;
    sql.claim_one().await?;
    sql.clock(30_000).await?;
    assert!(sql.claim("w", 1).await?.is_empty());
    assert_eq!(sql.task_state(&task).await?, "error");
    assert_eq!(
        sql.value::<String>("select reason from tasker.dead_letters")
            .await?,
        "worker_unavailable"
    );
    sql.verify().await
}

#[tokio::test]
async fn maintenance_ends_leases_that_no_claim_meets() -> anyhow::Result<()> {
    let mut sql = with(ONE).await?;
    let task = sql.create("'one'").await?;
    let ended = "select processed from tasker.run_maintenance() where job = 'end_leases'";
    for (claimed_at, claim_by, state) in [
        (0, 60_000, "steps_in_process"),
        (60_000, 120_000, "waiting_for_retry"),
        (130_000, 190_000, "error"),
    ] {
        sql.clock(claimed_at).await?;
        sql.claim_one().await?;
        // One more lease is left to a claim.
        sql.clock(claim_by - 1).await?;
        assert_eq!(sql.value::<i64>(ended).await?, 0);
        sql.clock(claim_by).await?;
        assert_eq!(sql.value::<i64>(ended).await?, 1, "at {claim_by}");
        assert_eq!(sql.task_state(&task).await?, state);
        sql.verify().await?;
    }
    assert_eq!(
        sql.value::<String>("select reason from tasker.dead_letters")
            .await?,
        "worker_unavailable"
    );
    Ok(())
}

#[tokio::test]
async fn an_extension_moves_the_lease_and_the_message() -> anyhow::Result<()> {
    let mut sql = with(ONE).await?;
    sql.create("'one'").await?;
    let step = sql.claim_one().await?;
    sql.clock(20_000).await?;
    assert_eq!(
        extend(&mut sql, &held(&step), "40 seconds").await?,
        ["held"]
    );
    assert_eq!(lease_end(&mut sql, &step).await?, "2030-01-01 00:01:00+00");
    let message: String = sql
        .value("select vt::text from pgmq.q_worker_default_queue")
        .await?;
    assert_eq!(message, "2030-01-01 00:01:00+00");
    sql.clock(59_000).await?;
    assert!(sql.claim("other", 1).await?.is_empty());
    sql.clock(60_000).await?;
    // Ended, but not taken over yet: the holder is still heard.
    assert_eq!(
        extend(&mut sql, &held(&step), "10 seconds").await?,
        ["held"]
    );
    sql.verify().await?;
    sql.clock(70_000).await?;
    sql.claim_one().await?;
    assert_eq!(
        extend(&mut sql, &held(&step), "10 seconds").await?,
        ["lost"]
    );
    sql.verify().await
}

/// When a lease ends, and from when on its step's message is visible.
async fn end_and_message(sql: &mut Scenario, step: &Value) -> anyhow::Result<[String; 2]> {
    let message = "select vt::text from pgmq.q_worker_default_queue";
    Ok([lease_end(sql, step).await?, sql.value(message).await?])
}

#[tokio::test]
async fn a_message_is_hidden_to_the_end_of_the_second_in_which_the_lease_ends() -> anyhow::Result<()>
{
    let mut sql =
        with("{name: two, version: 1.0.0, steps: [{name: a, handler: {callable: t}}, {name: b, handler: {callable: t}, dependencies: [a]}]}").await?;
    let task = sql.create("'two'").await?;
    let ends = |end: &str, message: &str| {
        [end, message].map(|second| format!("2030-01-01 00:00:{second}+00"))
    };
    sql.clock(1_001).await?;
    let a = sql.claim_one().await?;
    let found = end_and_message(&mut sql, &a).await?;
    assert_eq!(found, ends("31.001", "32"), "claimed");
    sql.clock(1_700).await?;
    extend(&mut sql, &held(&a), "20 seconds").await?;
    let found = end_and_message(&mut sql, &a).await?;
    assert_eq!(found, ends("21.7", "22"), "extended");
    sql.clock(2_500).await?;
    let answer = sql.finish("w", json!([done(&a, json!(1))]), 1).await?;
    let b = &answer.claimed[0];
    let found = end_and_message(&mut sql, b).await?;
    assert_eq!(found, ends("32.5", "33"), "handed over");
    sql.run(&format!(
        "select tasker.pause_task('{task}'), tasker.resume_task('{task}')"
    ))
    .await?;
    let found = end_and_message(&mut sql, b).await?;
    assert_eq!(found, ends("32.5", "33"), "paused and resumed");
    sql.run("delete from pgmq.q_worker_default_queue").await?;
    sql.run("select tasker.run_maintenance()").await?;
    let found = end_and_message(&mut sql, b).await?;
    assert_eq!(found, ends("32.5", "33"), "sent again");
    sql.clock(32_999).await?;
    assert!(sql.claim("other", 1).await?.is_empty());
    sql.clock(33_000).await?;
    assert_eq!(sql.claim_one().await?["attempt"], 2);
    sql.verify().await
}

#[tokio::test]
async fn an_extension_never_goes_past_the_timeout_and_past_it_the_attempt_fails()
-> anyhow::Result<()> {
    let mut sql = with(ONE).await?;
    let task = sql.create("'one'").await?;
    let step = sql.claim_one().await?;
    sql.clock(25_000).await?;
    assert_eq!(extend(&mut sql, &held(&step), "1 hour").await?, ["held"]);
    assert_eq!(
        lease_end(&mut sql, &step).await?,
        "2030-01-01 00:01:40+00",
        "started_at + timeout_seconds"
    );
    sql.clock(100_000).await?;
    assert_eq!(
        extend(&mut sql, &held(&step), "30 seconds").await?,
        ["timed_out"]
    );
    let shown = sql
        .row(&format!("select * from tasker.get_step('{}')", key(&step)))
        .await?;
    assert_eq!(
        (&shown["state"], &shown["error"]["type"]),
        (&json!("waiting_for_retry"), &json!("timed_out"))
    );
    assert_eq!(sql.task_state(&task).await?, "waiting_for_retry");
    assert_eq!(
        extend(&mut sql, &held(&step), "30 seconds").await?,
        ["timed_out"],
        "also when asked again"
    );
    assert_eq!(
        sql.finish("w", json!([done(&step, json!(1))]), 0)
            .await?
            .words(),
        ["timed_out"]
    );
    let refusal = sql
        .refused(&format!(
            "select tasker.complete_step('{}', 1, '1')",
            key(&step)
        ))
        .await?;
    assert_eq!(refusal.code, "TK011");
    sql.verify().await?;
    sql.clock(105_000).await?;
    let again = sql.claim_one().await?;
    assert_eq!(again["attempt"], 2);
    assert_eq!(
        extend(&mut sql, &held(&step), "30 seconds").await?,
        ["lost"]
    );
    sql.verify().await
}

#[tokio::test]
async fn each_step_of_an_extension_has_its_own_verdict() -> anyhow::Result<()> {
    let mut sql = with(ONE).await?;
    let tasks = [
        sql.create("'one'").await?,
        sql.create("'one'").await?,
        sql.create("'one'").await?,
    ];
    let steps = sql.claim("w", 3).await?;
    sql.complete(&steps[1], json!(1)).await?;
    let of_first = tasks
        .iter()
        .position(|task| steps[0]["task_uuid"] == json!(task))
        .unwrap_or_default();
    sql.run(&format!("select tasker.cancel_task('{}')", tasks[of_first]))
        .await?;
    let asked = json!([
        {"step_uuid": steps[0]["step_uuid"], "attempt": 1}, {"step_uuid": steps[1]["step_uuid"], "attempt": 1}, {"step_uuid": steps[2]["step_uuid"], "attempt": 1},
        {"step_uuid": steps[2]["step_uuid"], "attempt": 7}, {"step_uuid": "018f0000-0000-7000-8000-000000000001", "attempt": 1},
    ]);
    let rows = sql
        .rows(&format!(
            "select * from tasker.extend_leases('w', {})",
            quoted(&asked)
        ))
        .await?;
    let said: Vec<_> = rows
        .iter()
        .map(|row| row["verdict"].as_str().unwrap_or_default())
        .collect();
    assert_eq!(said, ["cancelled", "lost", "held", "lost", "lost"]);
    assert_eq!(rows[2]["step_uuid"], steps[2]["step_uuid"]);
    assert!(
        sql.rows("select * from tasker.extend_leases('w', '[]')")
            .await?
            .is_empty()
    );
    sql.verify().await
}

#[tokio::test]
async fn an_extension_that_makes_no_sense_is_refused() -> anyhow::Result<()> {
    let mut sql = with(ONE).await?;
    for (arguments, code) in [
        ("'', '[]'", "22023"),
        ("null, '[]'", "22023"),
        ("'w', null", "22023"),
        ("'w', '{}'", "22023"),
        ("'w', '[3]'", "22023"),
        ("'w', '[{}]'", "22023"),
        ("'w', '[{\"step_uuid\": \"x\", \"attempt\": 1}]'", "22023"),
        ("'w', '[]', '0'", "22023"),
        ("'w', '[]', '2 days'", "22023"),
        ("'w', '[]', null", "22023"),
        (
            "'w', (select jsonb_agg(jsonb_build_object('step_uuid', gen_random_uuid(), 'attempt', 1)) from generate_series(1, 10001))",
            "TK022",
        ),
    ] {
        let refusal = sql
            .refused(&format!("select * from tasker.extend_leases({arguments})"))
            .await?;
        assert_eq!(refusal.code, code, "{arguments}: {}", refusal.message);
    }
    Ok(())
}
