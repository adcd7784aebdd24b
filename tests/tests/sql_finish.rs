//! Finishing: every verdict, repeats, result schemas.

use serde_json::{Value, json};
use tasker_tests::Scenario;
use tasker_tests::scenario::{done, failed, given_back, key, quoted};

const CHAIN: &str = "{name: chain, version: 1.0.0, steps: [{name: a, handler: {callable: t.a}, retry: {backoff: none}}, \
    {name: b, handler: {callable: t.b}, dependencies: [a]}]}";
const CHECKED: &str = "{name: checked, version: 1.0.0, steps: [{name: a, handler: {callable: t.a}, \
    result_schema: {type: object, required: [n], properties: {n: {type: integer}}}}]}";

async fn with(template: &str) -> anyhow::Result<Scenario> {
    let mut sql = Scenario::new().await?;
    sql.register(template).await?;
    Ok(sql)
}

#[tokio::test]
async fn an_accepted_outcome_again_is_repeated_and_another_is_refused() -> anyhow::Result<()> {
    let mut sql = with(CHAIN).await?;
    sql.create("'chain'").await?;
    let a = sql.claim_one().await?;
    assert_eq!(sql.verdict(done(&a, json!({"x": 1}))).await?, "accepted -");
    assert_eq!(sql.verdict(done(&a, json!({"x": 1}))).await?, "repeated -");
    assert_eq!(
        sql.verdict(done(&a, json!({"x": 2}))).await?,
        "invalid TK010"
    );
    assert_eq!(
        sql.verdict(failed(&a, json!({"message": "no"}))).await?,
        "invalid TK010"
    );
    assert_eq!(
        sql.verdict(given_back(&a, "release")).await?,
        "invalid TK010"
    );
    let b = sql.claim_one().await?;
    assert_eq!(b["dependency_results"], json!({"a": {"x": 1}}));
    sql.verify().await
}

#[tokio::test]
async fn a_result_that_is_left_out_is_null() -> anyhow::Result<()> {
    let mut sql = with(CHAIN).await?;
    sql.create("'chain'").await?;
    let a = sql.claim_one().await?;
    assert_eq!(sql.verdict(given_back(&a, "complete")).await?, "accepted -");
    assert_eq!(sql.verdict(done(&a, json!(null))).await?, "repeated -");
    assert_eq!(
        sql.claim_one().await?["dependency_results"],
        json!({"a": null})
    );
    Ok(())
}

#[tokio::test]
async fn an_old_attempt_changes_nothing_and_is_told_so() -> anyhow::Result<()> {
    let mut sql = with(CHAIN).await?;
    let task = sql.create("'chain'").await?;
    let old = sql.claim_one().await?;
    sql.clock(30_000).await?;
    let new = sql.claim_one().await?;
    assert_eq!((&old["attempt"], &new["attempt"]), (&json!(1), &json!(2)));
    assert_eq!(sql.verdict(done(&old, json!("old"))).await?, "lost TK011");
    assert_eq!(
        sql.verdict(failed(&old, json!({"message": "old"}))).await?,
        "lost TK011"
    );
    assert_eq!(sql.verdict(given_back(&old, "yield")).await?, "lost TK011");
    assert_eq!(
        sql.step_states(&task).await?,
        json!({"a": "in_progress", "b": "pending"})
    );
    assert_eq!(sql.verdict(done(&new, json!("new"))).await?, "accepted -");
    assert_eq!(sql.verdict(done(&old, json!("old"))).await?, "lost TK011");
    sql.verify().await
}

#[tokio::test]
async fn a_holder_past_its_lease_is_heard_until_another_claims() -> anyhow::Result<()> {
    let mut sql = with(CHAIN).await?;
    sql.create("'chain'").await?;
    let a = sql.claim_one().await?;
    sql.clock(59_000).await?;
    assert_eq!(sql.verdict(done(&a, json!(1))).await?, "accepted -");
    sql.verify().await
}

#[tokio::test]
async fn the_outcome_of_a_cancelled_step_is_told_cancelled() -> anyhow::Result<()> {
    let mut sql = with(CHAIN).await?;
    let task = sql.create("'chain'").await?;
    let a = sql.claim_one().await?;
    sql.run(&format!("select tasker.cancel_task('{task}')"))
        .await?;
    assert_eq!(sql.verdict(done(&a, json!(1))).await?, "cancelled TK012");
    assert_eq!(sql.task_state(&task).await?, "cancelled");
    sql.verify().await
}

#[tokio::test]
async fn a_bad_outcome_rejects_itself_and_not_its_batch() -> anyhow::Result<()> {
    let mut sql = with(CHAIN).await?;
    let task = sql.create("'chain'").await?;
    let a = sql.claim_one().await?;
    let of = |extra: Value| {
        let mut outcome = done(&a, json!(1));
        for (name, value) in extra.as_object().cloned().unwrap_or_default() {
            outcome[name] = value;
        }
        outcome
    };
    let unknown = "018f0000-0000-7000-8000-000000000001";
    let bad = [
        (json!(3), "22023"),
        (json!(null), "22023"),
        (json!({}), "22023"),
        (of(json!({"step_uuid": "x"})), "22023"),
        (of(json!({"step_uuid": 7})), "22023"),
        (of(json!({"step_uuid": unknown})), "TK002"),
        (of(json!({"attempt": "1"})), "22023"),
        (of(json!({"attempt": -1})), "22023"),
        (of(json!({"attempt": 1.5})), "22023"),
        (of(json!({"attempt": 99_999_999_999_i64})), "22023"),
        (of(json!({"attempt": null})), "22023"),
        (of(json!({"status": "finished"})), "22023"),
        (of(json!({"status": null})), "22023"),
        (of(json!({"status": "fail"})), "22023"),
        (of(json!({"status": "fail", "error": "x"})), "22023"),
        (
            of(json!({"status": "fail", "error": {"message": 3}})),
            "22023",
        ),
        (
            of(json!({"status": "fail", "error": {"message": "m", "retryable": "no"}})),
            "22023",
        ),
        (
            of(json!({"status": "fail", "error": {"message": "m", "retry_after_ms": -5}})),
            "22023",
        ),
        (
            of(json!({"status": "fail", "error": {"message": "m", "retry_after_ms": "soon"}})),
            "22023",
        ),
        (of(json!({"result": "x".repeat(1_100_000)})), "TK022"),
        (
            of(json!({"status": "fail", "error": {"message": "x".repeat(1_100_000)}})),
            "TK022",
        ),
        (
            of(json!({"status": "yield", "checkpoint": "x".repeat(1_100_000)})),
            "TK022",
        ),
    ];
    let mut outcomes: Vec<_> = bad.iter().map(|(outcome, _)| outcome.clone()).collect();
    outcomes.push(done(&a, json!("good")));
    outcomes.push(done(&a, json!("once more")));
    let answer = sql.finish("w", Value::Array(outcomes), 5).await?;
    for (index, (_, code)) in bad.iter().enumerate() {
        let verdict = &answer.verdicts[index];
        assert_eq!(
            (&verdict["verdict"], &verdict["code"]),
            (&json!("invalid"), &json!(code)),
            "outcome {index}: {verdict}"
        );
        assert!(verdict["message"].is_string(), "outcome {index}: {verdict}");
    }
    assert_eq!(answer.words()[bad.len()..], ["accepted", "invalid"]);
    assert_eq!(answer.names(), ["b"]);
    assert_eq!(
        sql.step_states(&task).await?,
        json!({"a": "complete", "b": "in_progress"})
    );
    sql.verify().await
}

#[tokio::test]
async fn a_repeated_request_id_gives_the_same_verdicts_and_the_claims_still_held()
-> anyhow::Result<()> {
    let mut sql = with(CHAIN).await?;
    for _ in 0..3 {
        sql.create("'chain'").await?;
    }
    let steps = sql.claim("w", 2).await?;
    let request = "018f0000-0000-7000-8000-000000000009";
    let arguments = format!(
        "'w', {}, 3, namespaces => '{{default}}', request_id => '{request}'",
        quoted(&json!([done(&steps[0], json!(1)), done(&steps[1], json!(2)), {"step_uuid": "x"}]))
    );
    let first = sql.finish_with(&arguments).await?;
    assert_eq!(first.words(), ["accepted", "accepted", "invalid"]);
    assert_eq!(first.claimed.len(), 3);
    let again = sql.finish_with(&arguments).await?;
    assert_eq!(
        (&again.verdicts, &again.claimed),
        (&first.verdicts, &first.claimed)
    );
    sql.complete(&first.claimed[0], json!(3)).await?;
    let later = sql.finish_with(&arguments).await?;
    assert_eq!(
        (&later.verdicts, &later.claimed[..]),
        (&first.verdicts, &first.claimed[1..])
    );
    let refusal = sql
        .refused(&format!(
            "select * from tasker.finish_steps('someone else', '[]', request_id => '{request}')"
        ))
        .await?;
    assert_eq!(refusal.code, "22023");
    let other_work = format!(
        "select * from tasker.finish_steps('w', {}, request_id => '{request}')",
        quoted(&json!([done(&first.claimed[1], json!(4))]))
    );
    let refusal = sql.refused(&other_work).await?;
    assert_eq!(refusal.code, "22023");
    assert!(
        refusal.message.contains("used by another call"),
        "{refusal:?}"
    );
    // An hour later the answer is forgotten.
    sql.clock(3_700_000).await?;
    let forgotten: i64 = sql
        .value("select processed from tasker.run_maintenance() where job = 'forget_answers'")
        .await?;
    assert_eq!(forgotten, 1);
    sql.verify().await
}

#[tokio::test]
async fn a_result_against_its_schema_fails_the_step_for_good() -> anyhow::Result<()> {
    let mut sql = with(CHECKED).await?;
    let good = sql.create("'checked'").await?;
    let step = sql.claim_one().await?;
    sql.complete(&step, json!({"n": 4})).await?;
    assert_eq!(sql.task_state(&good).await?, "complete");

    let bad = sql.create("'checked'").await?;
    let step = sql.claim_one().await?;
    let answer = sql
        .finish("w", json!([done(&step, json!({"n": "four"}))]), 0)
        .await?;
    let verdict = &answer.verdicts[0];
    assert_eq!(
        (&verdict["verdict"], &verdict["code"]),
        (&json!("accepted"), &json!("TK021"))
    );
    assert!(
        verdict["message"]
            .as_str()
            .is_some_and(|message| message.contains('n')),
        "{verdict}"
    );
    let shown = sql
        .row(&format!("select * from tasker.get_step('{}')", key(&step)))
        .await?;
    assert_eq!(
        (
            &shown["state"],
            &shown["error"]["type"],
            &shown["attempts_used"]
        ),
        (&json!("error"), &json!("result_schema"), &json!(1))
    );
    assert_eq!(sql.task_state(&bad).await?, "error");
    let reason: String = sql.value("select reason from tasker.dead_letters").await?;
    assert_eq!(reason, "permanent_failure");
    sql.verify().await
}

#[tokio::test]
async fn one_step_at_a_time_raises_what_a_batch_says_as_a_verdict() -> anyhow::Result<()> {
    let mut sql = with(CHAIN).await?;
    let task = sql.create("'chain'").await?;
    let a = sql.claim_one().await?;
    let (uuid, unknown) = (key(&a), "018f0000-0000-7000-8000-000000000001");
    let huge = "to_jsonb(repeat('x', 1100000))";
    for (call, code) in [
        (format!("complete_step('{unknown}', 1, '1')"), "TK002"),
        (format!("complete_step('{uuid}', 2, '1')"), "TK011"),
        (format!("complete_step('{uuid}', -2, '1')"), "22023"),
        (format!("complete_step('{uuid}', null, '1')"), "22023"),
        ("complete_step(null, 1, '1')".to_owned(), "22023"),
        (format!("complete_step('{uuid}', 1, {huge})"), "TK022"),
        (format!("fail_step('{uuid}', 1, '{{}}')"), "22023"),
        (format!("fail_step('{uuid}', 1, '3')"), "22023"),
        (format!("fail_step('{uuid}', 1, null)"), "22023"),
        (
            format!("fail_step('{uuid}', 1, '{{\"message\": \"m\"}}', true, interval '-1 second')"),
            "22023",
        ),
        (
            format!("fail_step('{unknown}', 1, '{{\"message\": \"m\"}}')"),
            "TK002",
        ),
    ] {
        let refusal = sql.refused(&format!("select tasker.{call}")).await?;
        assert_eq!(refusal.code, code, "{call}: {}", refusal.message);
    }
    sql.run(&format!(
        "select tasker.complete_step('{uuid}', 1, '{{\"x\": 1}}')"
    ))
    .await?;
    sql.run(&format!(
        "select tasker.complete_step('{uuid}', 1, '{{\"x\": 1}}')"
    ))
    .await?;
    assert_eq!(
        sql.refused(&format!("select tasker.complete_step('{uuid}', 1, '2')"))
            .await?
            .code,
        "TK010"
    );
    let b = sql.claim_one().await?;
    let fail = format!(
        "select tasker.fail_step('{}', 1, '{{\"message\": \"m\"}}', retry_after => '10 seconds')",
        key(&b)
    );
    sql.run(&fail).await?;
    sql.run(&fail).await?;
    let retry_at: String = sql
        .value(&format!(
            "select retry_at::text from tasker.get_step('{}')",
            key(&b)
        ))
        .await?;
    assert_eq!(retry_at, "2030-01-01 00:00:10+00");
    sql.run(&format!("select tasker.cancel_task('{task}')"))
        .await?;
    assert_eq!(
        sql.refused(&format!(
            "select tasker.complete_step('{}', 1, '1')",
            key(&b)
        ))
        .await?
        .code,
        "TK012"
    );
    sql.verify().await
}

#[tokio::test]
async fn messages_of_two_queues_with_the_same_number_are_not_taken_for_each_other()
-> anyhow::Result<()> {
    let mut sql = Scenario::new().await?;
    let steps = "steps: [{name: a, handler: {callable: t}}, {name: b, handler: {callable: t}, dependencies: [a]}]";
    for namespace in ["left", "right"] {
        sql.register(&format!(
            "{{name: chain, namespace_name: {namespace}, version: 1.0.0, {steps}}}"
        ))
        .await?;
    }
    sql.register("{name: single, namespace_name: right, version: 1.0.0, steps: [{name: a, handler: {callable: t}}]}")
        .await?;
    // Message 1 of the left queue is taken over; of the right queue message 2 is, and message 1 is deleted.
    sql.create("'chain', 'left'").await?;
    sql.create("'single', 'right'").await?;
    sql.create("'chain', 'right'").await?;
    let claimed = sql
        .rows("select * from tasker.claim_steps('w', '{left,right}', 10)")
        .await?;
    assert_eq!(claimed.len(), 3);
    let outcomes: Vec<Value> = claimed.iter().map(|step| done(step, json!(1))).collect();
    let outcomes = quoted(&Value::Array(outcomes));
    let finished = sql
        .finish_with(&format!(
            "'w', {outcomes}, claim_next => 10, namespaces => '{{left,right}}'"
        ))
        .await?;
    assert_eq!(finished.names(), ["b", "b"]);
    let messages = "select (select count(*) from pgmq.q_worker_left_queue) + 10 * (select count(*) from pgmq.q_worker_right_queue)";
    assert_eq!(sql.value::<i64>(messages).await?, 11);
    sql.verify().await
}
