//! Order, parallel work, hand-over and claims: who gets what, and when.

use serde_json::{Value, json};
use tasker_tests::Scenario;
use tasker_tests::scenario::{done, names};

const CHAIN: &str = "{name: chain, version: 1.0.0, steps: [{name: a, handler: {callable: t.a, method: m, initialization: {x: 1}}, timeout_seconds: 60}, \
    {name: b, handler: {callable: t.b}, dependencies: [a]}, {name: c, handler: {callable: t.c}, dependencies: [b]}]}";
const DIAMOND: &str = "{name: diamond, version: 1.0.0, steps: [{name: start, handler: {callable: t.start}}, \
    {name: left, handler: {callable: t.left}, dependencies: [start]}, {name: right, handler: {callable: t.right}, dependencies: [start]}, \
    {name: end, handler: {callable: t.end}, dependencies: [left, right]}]}";
const ONE: &str = "{name: one, version: 1.0.0, steps: [{name: a, handler: {callable: t.a}}]}";

/// A scenario with the templates registered.
async fn with(templates: &[&str]) -> anyhow::Result<Scenario> {
    let mut sql = Scenario::new().await?;
    for template in templates {
        sql.register(template).await?;
    }
    Ok(sql)
}

#[tokio::test]
async fn a_claimed_step_carries_all_its_worker_needs() -> anyhow::Result<()> {
    let mut sql = with(&[CHAIN]).await?;
    let task = sql
        .create("'chain', context => '{\"n\": 1}', priority => 4")
        .await?;
    sql.clock(1000).await?;
    let step = sql
        .row("select * from tasker.claim_steps('w', '{default}', 5, interval '10 seconds')")
        .await?;
    let wanted = json!({"step_uuid": step["step_uuid"], "task_uuid": task, "attempt": 1, "attempts_used": 1, "max_attempts": 3, "namespace": "default",
        "template_name": "chain", "template_version": "1.0.0", "step_name": "a", "step_type": "standard",
        "handler": step["handler"], "context": {"n": 1}, "inputs": null, "dependency_results": {}, "checkpoint": null, "correlation_id": task,
        "priority": 4, "timeout_seconds": 60, "lease_expires_at": "2030-01-01T00:00:11+00:00", "created_at": "2030-01-01T00:00:00+00:00",
        "enqueued_at": "2030-01-01T00:00:00+00:00"});
    assert_eq!(step, wanted);
    assert_eq!(step["handler"]["callable"], "t.a");
    assert_eq!(
        (
            &step["handler"]["method"],
            &step["handler"]["initialization"]
        ),
        (&json!("m"), &json!({"x": 1}))
    );
    let shown = sql
        .row(&format!(
            "select * from tasker.get_step('{}')",
            step["step_uuid"].as_str().unwrap_or_default()
        ))
        .await?;
    assert_eq!(
        (
            &shown["state"],
            &shown["worker_id"],
            &shown["started_at"],
            &shown["lease_expires_at"]
        ),
        (
            &json!("in_progress"),
            &json!("w"),
            &json!("2030-01-01T00:00:01+00:00"),
            &step["lease_expires_at"]
        )
    );
    sql.verify().await
}

#[tokio::test]
async fn a_chain_runs_in_order_and_results_flow() -> anyhow::Result<()> {
    let mut sql = with(&[CHAIN]).await?;
    let task = sql.create("'chain'").await?;
    for (name, inputs) in [
        ("a", json!({})),
        ("b", json!({"a": {"of": "a"}})),
        ("c", json!({"b": {"of": "b"}})),
    ] {
        let step = sql.claim_one().await?;
        assert_eq!(
            (&step["step_name"], &step["dependency_results"]),
            (&json!(name), &inputs)
        );
        sql.complete(&step, json!({"of": name})).await?;
        sql.verify().await?;
    }
    let row = sql
        .row(&format!("select * from tasker.get_task('{task}')"))
        .await?;
    assert_eq!(
        (&row["state"], &row["steps_done"], &row["steps_total"]),
        (&json!("complete"), &json!(3), &json!(3))
    );
    assert_eq!(row["finished_at"], "2030-01-01T00:00:00+00:00");
    assert_eq!(
        sql.value::<i64>("select count(*) from pgmq.q_worker_default_queue")
            .await?,
        0
    );
    Ok(())
}

#[tokio::test]
async fn the_branches_of_a_diamond_run_in_parallel_and_its_end_once() -> anyhow::Result<()> {
    let mut sql = with(&[DIAMOND]).await?;
    let task = sql.create("'diamond'").await?;
    let start = sql.claim_one().await?;
    sql.complete(&start, json!(1)).await?;
    let branches = sql.claim("w", 10).await?;
    assert_eq!(names(&branches), ["left", "right"]);
    sql.complete(&branches[0], json!(2)).await?;
    assert!(
        sql.claim("w", 10).await?.is_empty(),
        "the end waits for both"
    );
    sql.verify().await?;
    sql.complete(&branches[1], json!(3)).await?;
    let end = sql.claim_one().await?;
    assert_eq!(end["dependency_results"], json!({"left": 2, "right": 3}));
    sql.complete(&end, json!(null)).await?;
    assert_eq!(sql.task_state(&task).await?, "complete");
    sql.verify().await
}

#[tokio::test]
async fn both_branches_finished_in_one_call_make_the_end_ready_once() -> anyhow::Result<()> {
    let mut sql = with(&[DIAMOND]).await?;
    let task = sql.create("'diamond'").await?;
    let start = sql.claim_one().await?;
    let handed = sql.finish("w", json!([done(&start, json!(1))]), 5).await?;
    assert_eq!(handed.names(), ["left", "right"]);
    let handed = sql
        .finish(
            "w",
            json!([
                done(&handed.claimed[0], json!(2)),
                done(&handed.claimed[1], json!(3))
            ]),
            5,
        )
        .await?;
    assert_eq!(handed.names(), ["end"]);
    assert_eq!(
        handed.claimed[0]["dependency_results"],
        json!({"left": 2, "right": 3})
    );
    sql.complete(&handed.claimed[0], json!(4)).await?;
    assert_eq!(sql.task_state(&task).await?, "complete");
    sql.verify().await
}

#[tokio::test]
async fn what_is_handed_over_has_its_message_too_hidden_until_the_lease_ends() -> anyhow::Result<()>
{
    let mut sql = with(&[CHAIN]).await?;
    sql.create("'chain'").await?;
    let a = sql.claim_one().await?;
    let handed = sql.finish("w", json!([done(&a, json!(1))]), 1).await?;
    assert_eq!(handed.names(), ["b"]);
    let message = sql
        .row("select m.vt, m.message from pgmq.q_worker_default_queue m")
        .await?;
    assert_eq!(
        message["message"]["step_uuid"],
        handed.claimed[0]["step_uuid"]
    );
    assert_eq!(message["vt"], handed.claimed[0]["lease_expires_at"]);
    assert!(sql.claim("other", 1).await?.is_empty());
    sql.clock(30_000).await?;
    let taken = sql.claim("other", 1).await?;
    assert_eq!(
        (&taken[0]["step_name"], &taken[0]["attempt"]),
        (&json!("b"), &json!(2))
    );
    sql.verify().await
}

#[tokio::test]
async fn what_does_not_fit_the_callers_handlers_or_namespaces_or_limit_is_left_to_others()
-> anyhow::Result<()> {
    let mut sql = with(&[DIAMOND]).await?;
    for (arguments, handed, left) in [
        ("1, namespaces => '{default}'", 1, 1),
        (
            "5, namespaces => '{default}', handlers => '{t.right}'",
            1,
            1,
        ),
        ("5, namespaces => '{elsewhere}'", 0, 2),
        ("5", 0, 2),
        ("0, namespaces => '{default}'", 0, 2),
        ("5, namespaces => '{default}', handlers => '{}'", 0, 2),
    ] {
        sql.create("'diamond'").await?;
        let start = sql.claim_one().await?;
        let outcomes = json!([done(&start, json!(1))]).to_string();
        let answer = sql
            .finish_with(&format!("'w', '{outcomes}', {arguments}"))
            .await?;
        assert_eq!(answer.claimed.len(), handed, "{arguments}");
        let others = sql.claim("other", 10).await?;
        assert_eq!(others.len(), left, "{arguments}");
        for step in answer.claimed.iter().chain(&others) {
            sql.complete(step, json!(1)).await?;
        }
        let end = sql.claim_one().await?;
        sql.complete(&end, json!(1)).await?;
    }
    sql.verify().await
}

#[tokio::test]
async fn without_namespaces_those_that_the_worker_registered_count() -> anyhow::Result<()> {
    let mut sql = with(&[CHAIN]).await?;
    sql.run("select tasker.register_worker('w', '{default}', '{t.a,t.b}', 'rust', '1')")
        .await?;
    sql.create("'chain'").await?;
    let a = sql.claim_one().await?;
    let outcomes = json!([done(&a, json!(1))]).to_string();
    let answer = sql.finish_with(&format!("'w', '{outcomes}', 3")).await?;
    assert_eq!(answer.names(), ["b"]);
    Ok(())
}

#[tokio::test]
async fn claims_with_handlers_hide_nothing_from_others() -> anyhow::Result<()> {
    let mut sql = with(&[DIAMOND]).await?;
    sql.create("'diamond'").await?;
    let start = sql.claim_one().await?;
    sql.complete(&start, json!(1)).await?;
    assert!(
        sql.rows(
            "select * from tasker.claim_steps('w', '{default}', 10, handlers => '{t.unknown}')"
        )
        .await?
        .is_empty()
    );
    assert!(
        sql.rows("select * from tasker.claim_steps('w', '{default}', 10, handlers => '{}')")
            .await?
            .is_empty()
    );
    let right = sql.rows("select * from tasker.claim_steps('w', '{default}', 10, handlers => '{t.right,t.unknown}')").await?;
    assert_eq!(names(&right), ["right"]);
    let left = sql
        .rows("select * from tasker.claim_steps('x', '{default}', 10, handlers => '{t.left}')")
        .await?;
    assert_eq!(names(&left), ["left"]);
    sql.verify().await
}

#[tokio::test]
async fn work_is_served_by_priority_then_by_age() -> anyhow::Result<()> {
    let mut sql = with(&[ONE]).await?;
    for (n, priority) in [0, 5, -100, 100, 5].into_iter().enumerate() {
        sql.create(&format!(
            "'one', context => '{{\"n\": {n}}}', priority => {priority}"
        ))
        .await?;
    }
    let claimed = sql.claim("w", 5).await?;
    let order: Vec<_> = claimed
        .iter()
        .map(|step| step["context"]["n"].clone())
        .collect();
    assert_eq!(Value::Array(order), json!([3, 1, 4, 0, 2]));
    sql.verify().await
}

#[tokio::test]
async fn a_hand_over_yields_to_a_waiting_message_of_higher_priority() -> anyhow::Result<()> {
    let mut sql = with(&[CHAIN, ONE]).await?;
    sql.create("'chain', priority => 1").await?;
    let first = sql.claim_one().await?;
    sql.create("'one', priority => 2").await?;
    let finished = sql.finish("w", json!([done(&first, json!(1))]), 1).await?;
    assert_eq!(finished.claimed[0]["priority"], 2);
    let rest = sql.claim("w", 5).await?;
    assert_eq!(names(&rest), ["b"]);
    sql.verify().await
}

#[tokio::test]
async fn the_oldest_is_taken_within_ten_claims_however_low_its_priority() -> anyhow::Result<()> {
    let mut sql = with(&[ONE]).await?;
    sql.create("'one', priority => -100").await?;
    for _ in 0..20 {
        sql.create("'one', priority => 100").await?;
    }
    for claims in 1..=10 {
        if sql.claim("w", 1).await?[0]["priority"] == -100 {
            return sql.verify().await;
        }
        assert!(claims < 10, "ten claims, and the oldest still waits");
    }
    Ok(())
}

#[tokio::test]
async fn a_worker_of_several_namespaces_serves_them_all() -> anyhow::Result<()> {
    let mut sql = with(&[
        ONE,
        &ONE.replace("name: one", "name: one, namespace: shop"),
        &ONE.replace("name: one", "name: one, namespace: idle"),
    ])
    .await?;
    for namespace in ["default", "shop"] {
        for _ in 0..30 {
            sql.create(&format!("'one', '{namespace}'")).await?;
        }
    }
    let mut served = std::collections::BTreeSet::new();
    for _ in 0..30 {
        let step = sql
            .row("select * from tasker.claim_steps('w', '{default,shop,idle,nowhere,shop}', 1)")
            .await?;
        served.insert(step["namespace"].to_string());
    }
    assert_eq!(served.len(), 2, "thirty claims served one namespace only");
    let rest = sql
        .rows("select * from tasker.claim_steps('w', '{default,shop,idle}', 100)")
        .await?;
    assert_eq!(rest.len(), 30);
    sql.verify().await
}

#[tokio::test]
async fn a_paused_namespace_is_skipped_and_nothing_in_it_changes() -> anyhow::Result<()> {
    let mut sql = with(&[ONE]).await?;
    sql.create("'one'").await?;
    sql.run("update tasker.namespaces set paused_at = now()")
        .await?;
    assert!(sql.claim("w", 1).await?.is_empty());
    assert_eq!(
        sql.value::<Option<i64>>("select tasker.work_due_in_ms('{default}')")
            .await?,
        None
    );
    sql.run("update tasker.namespaces set paused_at = null")
        .await?;
    sql.claim_one().await?;
    Ok(())
}

#[tokio::test]
async fn the_next_due_time_is_told_to_the_sleeper() -> anyhow::Result<()> {
    let mut sql = with(&[ONE]).await?;
    let due = "select tasker.work_due_in_ms('{default}')";
    assert_eq!(sql.value::<Option<i64>>(due).await?, None);
    assert_eq!(
        sql.value::<Option<i64>>("select tasker.work_due_in_ms('{nowhere}')")
            .await?,
        None
    );
    sql.create("'one'").await?;
    assert_eq!(sql.value::<Option<i64>>(due).await?, Some(0));
    assert_eq!(
        sql.value::<Option<i64>>("select tasker.work_due_in_ms('{default}', '{t.b}')")
            .await?,
        None
    );
    let step = sql.claim_one().await?;
    assert_eq!(
        sql.value::<Option<i64>>(due).await?,
        Some(30_000),
        "a lease that ends may bring work"
    );
    sql.fail(&step, json!({"message": "later", "retry_after_ms": 90_000}))
        .await?;
    assert_eq!(sql.value::<Option<i64>>(due).await?, Some(90_000));
    sql.clock(100_000).await?;
    assert_eq!(sql.value::<Option<i64>>(due).await?, Some(0));
    Ok(())
}

#[tokio::test]
async fn a_template_without_dependencies_starts_all_its_steps_at_once() -> anyhow::Result<()> {
    let mut sql = Scenario::new().await?;
    let steps: Vec<_> = (0..50)
        .map(|n| format!("{{name: s{n}, handler: {{callable: t.s}}}}"))
        .collect();
    sql.register(&format!(
        "{{name: wide, version: 1.0.0, steps: [{}]}}",
        steps.join(", ")
    ))
    .await?;
    let task = sql.create("'wide'").await?;
    let claimed = sql.claim("w", 100).await?;
    assert_eq!(claimed.len(), 50);
    let outcomes: Vec<_> = claimed.iter().map(|step| done(step, json!(1))).collect();
    let answer = sql.finish("w", Value::Array(outcomes), 10).await?;
    assert!(answer.words().iter().all(|word| *word == "accepted"));
    assert_eq!(sql.task_state(&task).await?, "complete");
    sql.verify().await
}
