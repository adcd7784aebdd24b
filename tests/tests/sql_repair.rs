//! Operators at work: steps tried again, completed by hand, settled; the task goes on in the same call.

use serde_json::{Value, json};
use tasker_tests::Scenario;
use tasker_tests::scenario::{done, key, names};

/// A chain with a side branch; steps fail at once for good.
const CHAIN: &str = "{name: chain, version: 1.0.0, steps: [
    {name: a, handler: {callable: t.a}, retry: {max_attempts: 1}},
    {name: b, handler: {callable: t.b}, dependencies: [a], retry: {max_attempts: 2, backoff: linear, backoff_base_ms: 1000, jitter: 0},
      result_schema: {type: object, required: [n]}},
    {name: c, handler: {callable: t.c}, dependencies: [b]},
    {name: side, handler: {callable: t.side}}]}";
const BLOCKING: &str = "{name: blocking, version: 1.0.0, lifecycle: {on_failure: block}, steps: [
    {name: a, handler: {callable: t.a}, retry: {max_attempts: 1}},
    {name: b, handler: {callable: t.b}, dependencies: [a]}]}";

/// A task of which `a` has failed for good and `side` is done, so that nothing moves it any more.
async fn with_failed(template: &str, name: &str) -> anyhow::Result<(Scenario, String)> {
    let mut sql = Scenario::new().await?;
    sql.register(template).await?;
    let task = sql.create(&format!("'{name}'")).await?;
    for step in sql.claim("w", 10).await? {
        if step["step_name"] == "a" {
            sql.fail(&step, json!({"message": "no stock"})).await?;
        } else {
            sql.complete(&step, json!({"n": 1})).await?;
        }
    }
    Ok((sql, task))
}

async fn step(sql: &mut Scenario, task: &str, name: &str) -> anyhow::Result<Value> {
    sql.row(&format!(
        "select * from tasker.list_steps('{task}') where name = '{name}'"
    ))
    .await
}

async fn dead_letter(sql: &mut Scenario, task: &str) -> anyhow::Result<Value> {
    sql.row(&format!(
        "select resolution, note, resolved_at from tasker.dead_letters where task_uuid = '{task}'"
    ))
    .await
}

#[tokio::test]
async fn a_failed_step_is_reset_and_its_task_goes_on_to_its_end() -> anyhow::Result<()> {
    let (mut sql, task) = with_failed(CHAIN, "chain").await?;
    assert_eq!(sql.task_state(&task).await?, "error");
    let a = step(&mut sql, &task, "a").await?;
    sql.run(&format!(
        "select tasker.reset_step('{}', 'stock has come')",
        key(&a)
    ))
    .await?;
    let row = sql
        .row(&format!(
            "select state, error, finished_at from tasker.get_task('{task}')"
        ))
        .await?;
    assert_eq!(
        row,
        json!({"state": "steps_in_process", "error": null, "finished_at": null})
    );
    let reset = step(&mut sql, &task, "a").await?;
    assert_eq!(
        (
            &reset["state"],
            &reset["attempts_used"],
            &reset["attempt"],
            &reset["error"]
        ),
        (&json!("enqueued"), &json!(0), &json!(2), &Value::Null)
    );
    let letter = dead_letter(&mut sql, &task).await?;
    assert_eq!(
        (&letter["resolution"], &letter["note"]),
        (&json!("manually_resolved"), &json!("stock has come"))
    );
    sql.verify().await?;

    let again = sql.claim_one().await?;
    assert_eq!(
        (&again["attempt"], &again["attempts_used"]),
        (&json!(3), &json!(1))
    );
    let finished = sql.finish("w", json!([done(&again, json!(1))]), 1).await?;
    let finished = sql
        .finish("w", json!([done(&finished.claimed[0], json!({"n": 2}))]), 1)
        .await?;
    sql.complete(&finished.claimed[0], json!(3)).await?;
    assert_eq!(sql.task_state(&task).await?, "complete");
    assert_eq!(
        sql.path("step_history", key(&a)).await?,
        "pending -enqueue-> enqueued -start-> in_progress \
         -enqueue_as_error_for_orchestration-> enqueued_as_error_for_orchestration -fail-> error \
         -reset_for_retry-> pending -enqueue-> enqueued -start-> in_progress \
         -enqueue_for_orchestration-> enqueued_for_orchestration -complete-> complete"
    );
    assert!(sql.path("task_history", &task).await?.contains(
        "give_up-> error -reset-> evaluating_results -ready_steps_found-> enqueuing_steps"
    ));
    sql.verify().await
}

#[tokio::test]
async fn a_blocked_task_is_revived_by_each_of_the_three_repairs() -> anyhow::Result<()> {
    for (repair, state) in [
        ("reset_step('{}')", "enqueued"),
        ("complete_step_manually('{}', '7', 'by hand')", "complete"),
        ("resolve_step('{}', 'not needed')", "resolved_manually"),
    ] {
        let (mut sql, task) = with_failed(BLOCKING, "blocking").await?;
        assert_eq!(sql.task_state(&task).await?, "blocked_by_failures");
        let a = step(&mut sql, &task, "a").await?;
        sql.run(&format!("select tasker.{}", repair.replace("{}", key(&a))))
            .await?;
        assert_eq!(step(&mut sql, &task, "a").await?["state"], state);
        assert_eq!(sql.task_state(&task).await?, "steps_in_process");
        assert_eq!(
            dead_letter(&mut sql, &task).await?["resolution"],
            "manually_resolved"
        );
        sql.verify().await?;
        let next = sql.claim_one().await?;
        let (name, results) = match state {
            "enqueued" => ("a", json!({})),
            "complete" => ("b", json!({"a": 7})),
            _ => ("b", json!({"a": null})),
        };
        assert_eq!(
            (&next["step_name"], &next["dependency_results"]),
            (&json!(name), &results)
        );
    }
    Ok(())
}

#[tokio::test]
async fn a_repair_that_leaves_another_failure_keeps_the_task_failed_and_says_of_what()
-> anyhow::Result<()> {
    let mut sql = Scenario::new().await?;
    sql.register(
        "{name: two, version: 1.0.0, steps: [{name: a, handler: {callable: t.a}, retry: {max_attempts: 1}},
          {name: b, handler: {callable: t.b}, retry: {max_attempts: 1}}]}",
    )
    .await?;
    let task = sql.create("'two'").await?;
    for step in sql.claim("w", 2).await? {
        sql.fail(&step, json!({"message": "broken"})).await?;
    }
    let a = step(&mut sql, &task, "a").await?;
    sql.run(&format!("select tasker.resolve_step('{}')", key(&a)))
        .await?;
    let row = sql
        .row(&format!(
            "select state, error ->> 'step_name' as failed, finished_at is not null as ended from tasker.get_task('{task}')"
        ))
        .await?;
    assert_eq!(row, json!({"state": "error", "failed": "b", "ended": true}));
    assert_eq!(dead_letter(&mut sql, &task).await?["resolution"], "pending");
    sql.verify().await?;
    let b = step(&mut sql, &task, "b").await?;
    sql.run(&format!("select tasker.resolve_step('{}')", key(&b)))
        .await?;
    assert_eq!(sql.task_state(&task).await?, "complete");
    assert_eq!(
        dead_letter(&mut sql, &task).await?["resolution"],
        "manually_resolved"
    );
    sql.verify().await
}

#[tokio::test]
async fn a_running_step_completed_by_hand_is_lost_to_its_worker() -> anyhow::Result<()> {
    let mut sql = Scenario::new().await?;
    sql.register(CHAIN).await?;
    let task = sql.create("'chain'").await?;
    let claimed = sql.claim("w", 10).await?;
    assert_eq!(names(&claimed), ["a", "side"]);
    sql.run(&format!(
        "select tasker.complete_step_manually('{}', '{{\"n\": 1}}')",
        key(&claimed[0])
    ))
    .await?;
    assert_eq!(
        sql.verdict(done(&claimed[0], json!(2))).await?,
        "lost TK011"
    );
    assert_eq!(step(&mut sql, &task, "b").await?["state"], "enqueued");
    let extended = sql
        .value::<String>(&format!(
            "select verdict from tasker.extend_leases('w', '[{{\"step_uuid\": \"{}\", \"attempt\": 1}}]')",
            key(&claimed[0])
        ))
        .await?;
    assert_eq!(extended, "lost");
    sql.verify().await
}

#[tokio::test]
async fn a_step_is_settled_by_hand_before_its_turn_and_while_it_waits() -> anyhow::Result<()> {
    let mut sql = Scenario::new().await?;
    sql.register(CHAIN).await?;
    let task = sql.create("'chain'").await?;
    // `c` waits for `b`, which waits for `a`.
    let c = step(&mut sql, &task, "c").await?;
    sql.run(&format!(
        "select tasker.complete_step_manually('{}', '9')",
        key(&c)
    ))
    .await?;
    sql.verify().await?;
    let claimed = sql.claim("w", 10).await?;
    sql.complete(&claimed[1], json!(1)).await?;
    let b = sql
        .finish("w", json!([done(&claimed[0], json!(1))]), 1)
        .await?
        .claimed;
    sql.fail(&b[0], json!({"message": "try later"})).await?;
    assert_eq!(sql.task_state(&task).await?, "waiting_for_retry");
    sql.run(&format!("select tasker.resolve_step('{}')", key(&b[0])))
        .await?;
    assert_eq!(sql.task_state(&task).await?, "complete");
    let left: i64 = sql
        .value("select count(*) from pgmq.q_worker_default_queue")
        .await?;
    assert_eq!(left, 0);
    sql.verify().await
}

#[tokio::test]
async fn what_can_not_be_repaired_is_refused_with_a_code() -> anyhow::Result<()> {
    let (mut sql, task) = with_failed(CHAIN, "chain").await?;
    let (a, b, side) = (
        step(&mut sql, &task, "a").await?,
        step(&mut sql, &task, "b").await?,
        step(&mut sql, &task, "side").await?,
    );
    let cases = [
        (format!("reset_step('{}')", key(&side)), "TK010"),
        (format!("reset_step('{}')", key(&b)), "TK010"),
        (format!("resolve_step('{}')", key(&side)), "TK010"),
        (
            format!("complete_step_manually('{}', '1')", key(&b)),
            "TK021",
        ),
        (
            "reset_step('018f0000-0000-7000-8000-000000000001')".into(),
            "TK002",
        ),
        ("reset_step(null)".into(), "22023"),
        (
            format!("reset_step('{}', repeat('x', 1001))", key(&a)),
            "22023",
        ),
        (format!("rerun_task('{task}', 'nothing')"), "TK002"),
        (format!("rerun_task('{task}', 'b')"), "TK010"),
        (
            "rerun_task('018f0000-0000-7000-8000-000000000000')".into(),
            "TK001",
        ),
    ];
    for (call, code) in cases {
        let refusal = sql.refused(&format!("select tasker.{call}")).await?;
        assert_eq!(refusal.code, code, "{call}: {refusal:?}");
    }
    sql.run("set local tasker.max_payload_bytes = 1024").await?;
    let large = format!(
        "select tasker.complete_step_manually('{}', jsonb_build_object('n', repeat('x', 2000)))",
        key(&a)
    );
    assert_eq!(sql.refused(&large).await?.code, "TK022");
    sql.run(&format!("select tasker.reset_step('{}')", key(&a)))
        .await?;
    sql.run(&format!("select tasker.cancel_task('{task}')"))
        .await?;
    let refusal = sql
        .refused(&format!("select tasker.reset_step('{}')", key(&a)))
        .await?;
    assert_eq!(refusal.code, "TK010");
    assert!(refusal.message.contains("task is cancelled"), "{refusal:?}");
    sql.verify().await
}

/// A chain of which every step is done.
async fn complete() -> anyhow::Result<(Scenario, String)> {
    let mut sql = Scenario::new().await?;
    sql.register(CHAIN).await?;
    let task = sql.create("'chain', context => '{\"order\": 1}'").await?;
    let mut claimed = sql.claim("w", 10).await?;
    while !claimed.is_empty() {
        let outcomes: Vec<Value> = claimed
            .iter()
            .map(|step| done(step, json!({"n": 1})))
            .collect();
        claimed = sql.finish("w", json!(outcomes), 10).await?.claimed;
    }
    assert_eq!(sql.task_state(&task).await?, "complete");
    Ok((sql, task))
}

#[tokio::test]
async fn a_task_reruns_from_a_step_with_all_that_comes_after_it() -> anyhow::Result<()> {
    let (mut sql, task) = complete().await?;
    sql.run(&format!("select tasker.rerun_task('{task}', 'b')"))
        .await?;
    assert_eq!(
        sql.step_states(&task).await?,
        json!({"a": "complete", "b": "enqueued", "c": "pending", "side": "complete"})
    );
    assert_eq!(sql.task_state(&task).await?, "steps_in_process");
    sql.verify().await?;
    let b = sql.claim_one().await?;
    assert_eq!(
        (
            &b["step_name"],
            &b["attempt"],
            &b["attempts_used"],
            &b["dependency_results"]
        ),
        (&json!("b"), &json!(3), &json!(1), &json!({"a": {"n": 1}}))
    );
    let c = sql
        .finish("w", json!([done(&b, json!({"n": 2}))]), 1)
        .await?
        .claimed;
    assert_eq!(c[0]["dependency_results"], json!({"b": {"n": 2}}));
    sql.complete(&c[0], json!(1)).await?;
    assert_eq!(sql.task_state(&task).await?, "complete");
    sql.verify().await
}

#[tokio::test]
async fn one_step_reruns_alone_and_the_results_after_it_are_kept() -> anyhow::Result<()> {
    let (mut sql, task) = complete().await?;
    sql.run(&format!(
        "select tasker.rerun_task('{task}', 'a', with_descendants => false)"
    ))
    .await?;
    assert_eq!(
        sql.step_states(&task).await?,
        json!({"a": "enqueued", "b": "complete", "c": "complete", "side": "complete"})
    );
    sql.verify().await?;
    let a = sql.claim_one().await?;
    let finished = sql.finish("w", json!([done(&a, json!(5))]), 10).await?;
    assert!(finished.claimed.is_empty());
    assert_eq!(sql.task_state(&task).await?, "complete");
    let b = step(&mut sql, &task, "b").await?;
    assert_eq!(
        (
            &b["result"],
            &b["remaining_dependencies"],
            &b["finished_at"]
        ),
        (
            &json!({"n": 1}),
            &json!(0),
            &json!("2030-01-01T00:00:00+00:00")
        )
    );
    sql.verify().await
}

#[tokio::test]
async fn a_whole_task_reruns_with_another_context() -> anyhow::Result<()> {
    let (mut sql, task) = complete().await?;
    sql.run(&format!(
        "select tasker.rerun_task('{task}', context => '{{\"order\": 2}}')"
    ))
    .await?;
    let claimed = sql.claim("w", 10).await?;
    assert_eq!(names(&claimed), ["a", "side"]);
    assert_eq!(claimed[0]["context"], json!({"order": 2}));
    assert_eq!(
        sql.path("task_history", &task)
            .await?
            .rsplit(" complete ")
            .next(),
        Some(
            "-rerun-> evaluating_results -ready_steps_found-> enqueuing_steps -steps_enqueued-> steps_in_process"
        )
    );
    sql.verify().await
}

#[tokio::test]
async fn a_cancelled_task_reruns_and_a_running_one_does_not() -> anyhow::Result<()> {
    let mut sql = Scenario::new().await?;
    sql.register(CHAIN).await?;
    let task = sql.create("'chain'").await?;
    let refusal = sql
        .refused(&format!("select tasker.rerun_task('{task}')"))
        .await?;
    assert_eq!(refusal.code, "TK010");
    sql.run(&format!("select tasker.cancel_task('{task}')"))
        .await?;
    sql.verify().await?;
    // The rest stays cancelled, so that the task fails again when `a` is done.
    sql.run(&format!(
        "select tasker.rerun_task('{task}', 'a', with_descendants => false)"
    ))
    .await?;
    sql.verify().await?;
    let a = sql.claim_one().await?;
    sql.complete(&a, json!(1)).await?;
    assert_eq!(sql.task_state(&task).await?, "error");
    sql.verify().await?;
    sql.run(&format!("select tasker.rerun_task('{task}')"))
        .await?;
    assert_eq!(names(&sql.claim("w", 10).await?), ["a", "side"]);
    sql.verify().await
}
