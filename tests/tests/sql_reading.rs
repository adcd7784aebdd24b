//! Reading: histories as whole paths, graphs, lists with their filters and pages, queues, health.

use serde_json::{Value, json};
use tasker_tests::Scenario;
use tasker_tests::scenario::{done, given_back, key};

const CHAIN: &str = "{name: chain, version: 1.0.0, steps: [{name: a, handler: {callable: t.a}, retry: {backoff: linear, backoff_base_ms: 1000, max_attempts: 2, jitter: 0}}, \
    {name: b, handler: {callable: t.b}, dependencies: [a]}]}";
const STARTED: &str = "pending -start-> initializing -ready_steps_found-> enqueuing_steps -steps_enqueued-> steps_in_process";

async fn with_task() -> anyhow::Result<(Scenario, String)> {
    let mut sql = Scenario::new().await?;
    sql.register(CHAIN).await?;
    let task = sql.create("'chain'").await?;
    Ok((sql, task))
}

#[tokio::test]
async fn the_history_of_a_success_is_the_whole_path_of_the_machine() -> anyhow::Result<()> {
    let (mut sql, task) = with_task().await?;
    let a = sql.claim_one().await?;
    let handed = sql.finish("w", json!([done(&a, json!(1))]), 1).await?;
    assert_eq!(
        sql.path("task_history", &task).await?,
        STARTED,
        "a chain handed over does not touch its task"
    );
    sql.complete(&handed.claimed[0], json!(2)).await?;
    assert_eq!(
        sql.path("task_history", &task).await?,
        format!(
            "{STARTED} -all_steps_completed-> evaluating_results -all_steps_successful-> complete"
        )
    );
    let path = "pending -enqueue-> enqueued -start-> in_progress -enqueue_for_orchestration-> enqueued_for_orchestration -complete-> complete";
    assert_eq!(sql.path("step_history", key(&a)).await?, path);
    assert_eq!(
        sql.path("step_history", key(&handed.claimed[0])).await?,
        path,
        "also of a step handed over"
    );
    sql.verify().await
}

#[tokio::test]
async fn the_history_of_a_retry_and_a_failure_is_the_whole_path_of_the_machine()
-> anyhow::Result<()> {
    let (mut sql, task) = with_task().await?;
    let step = sql.claim_one().await?;
    sql.fail(&step, json!({"message": "m"})).await?;
    sql.clock(1000).await?;
    let again = sql.claim_one().await?;
    sql.fail(&again, json!({"message": "m"})).await?;
    assert_eq!(
        sql.path("step_history", key(&step)).await?,
        "pending -enqueue-> enqueued -start-> in_progress -enqueue_as_error_for_orchestration-> enqueued_as_error_for_orchestration -wait_for_retry-> \
         waiting_for_retry -retry-> enqueued -start-> in_progress -enqueue_as_error_for_orchestration-> enqueued_as_error_for_orchestration -fail-> error"
    );
    assert_eq!(
        sql.path("task_history", &task).await?,
        format!(
            "{STARTED} -step_failed-> evaluating_results -retry_scheduled-> waiting_for_retry -retry_ready-> enqueuing_steps -steps_enqueued-> \
             steps_in_process -step_failed-> evaluating_results -permanent_failure-> blocked_by_failures -give_up-> error"
        )
    );
    let rows = sql
        .rows(&format!(
            "select * from tasker.step_history('{}')",
            key(&step)
        ))
        .await?;
    let sequence: Vec<_> = rows.iter().map(|row| row["seq"].clone()).collect();
    assert_eq!(Value::Array(sequence), json!([1, 2, 3, 4, 5, 6, 7, 8]));
    assert_eq!(
        (&rows[1]["actor"], &rows[1]["attempt"], &rows[7]["attempt"]),
        (&json!("w"), &json!(1), &json!(2))
    );
    assert_eq!(
        (&rows[3]["at"], &rows[5]["at"]),
        (
            &json!("2030-01-01T00:00:00+00:00"),
            &json!("2030-01-01T00:00:01+00:00")
        )
    );
    sql.verify().await
}

#[tokio::test]
async fn an_immediate_retry_and_a_release_have_their_paths_too() -> anyhow::Result<()> {
    let (mut sql, _) = with_task().await?;
    let step = sql.claim_one().await?;
    sql.fail(&step, json!({"message": "m", "retry_after_ms": 0}))
        .await?;
    let again = sql.claim_one().await?;
    let answer = sql
        .finish("w", json!([given_back(&again, "release")]), 0)
        .await?;
    assert_eq!(answer.words(), ["accepted"]);
    let last = sql.claim_one().await?;
    sql.finish("w", json!([given_back(&last, "yield")]), 0)
        .await?;
    assert_eq!(
        sql.path("step_history", key(&step)).await?,
        "pending -enqueue-> enqueued -start-> in_progress -enqueue_as_error_for_orchestration-> enqueued_as_error_for_orchestration -wait_for_retry-> \
         waiting_for_retry -retry-> enqueued -start-> in_progress -release-> enqueued -start-> in_progress -yield-> enqueued"
    );
    sql.verify().await
}

#[tokio::test]
async fn a_graph_shows_every_step_with_its_edges_also_before_the_task_starts() -> anyhow::Result<()>
{
    let (mut sql, task) = with_task().await?;
    let graph = sql.rows(&format!("select number, name, type, state, created, dependencies, dependents from tasker.task_graph('{task}')")).await?;
    assert_eq!(
        Value::Array(graph),
        json!([
            {"number": 1, "name": "a", "type": "standard", "state": "enqueued", "created": true, "dependencies": [], "dependents": ["b"]},
            {"number": 2, "name": "b", "type": "standard", "state": "pending", "created": true, "dependencies": ["a"], "dependents": []}
        ])
    );
    let later = sql.create("'chain', run_at => '2031-01-01'").await?;
    let graph = sql
        .rows(&format!(
            "select name, state, created, step_uuid from tasker.task_graph('{later}')"
        ))
        .await?;
    assert_eq!(
        graph[0],
        json!({"name": "a", "state": null, "created": false, "step_uuid": null})
    );
    assert!(
        sql.rows(&format!("select * from tasker.list_steps('{later}')"))
            .await?
            .is_empty()
    );
    Ok(())
}

#[tokio::test]
async fn steps_are_listed_with_all_their_columns() -> anyhow::Result<()> {
    let (mut sql, task) = with_task().await?;
    let steps = sql
        .rows(&format!("select * from tasker.list_steps('{task}')"))
        .await?;
    let b = &steps[1];
    let wanted = json!({"step_uuid": b["step_uuid"], "task_uuid": task, "name": "b", "type": "standard", "instance": null, "state": "pending", "attempt": 0,
        "attempts_used": 0, "max_attempts": 3, "handler": b["handler"], "inputs": null, "result": null, "error": null, "checkpoint": null, "worker_id": null,
        "lease_expires_at": null, "retry_at": null, "remaining_dependencies": 1, "dependencies": ["a"], "created_at": "2030-01-01T00:00:00+00:00",
        "enqueued_at": null, "started_at": null, "finished_at": null, "child_task_uuid": null});
    assert_eq!(*b, wanted);
    assert_eq!(b["handler"]["callable"], "t.b");
    assert_eq!(
        sql.row(&format!("select * from tasker.get_step('{}')", key(b)))
            .await?,
        wanted
    );
    Ok(())
}

#[tokio::test]
async fn tasks_are_listed_newest_first_in_pages() -> anyhow::Result<()> {
    let mut sql = Scenario::new().await?;
    sql.register(CHAIN).await?;
    let mut created = Vec::new();
    for n in 0..7 {
        sql.clock(n * 10).await?;
        created.insert(0, sql.create("'chain'").await?);
    }
    let (mut listed, mut after) = (Vec::new(), "null".to_owned());
    loop {
        let page: Vec<String> = sql
            .value(&format!("select coalesce(array_agg(t.task_uuid::text), '{{}}') from tasker.list_tasks(after => {after}, \"limit\" => 3) t"))
            .await?;
        let Some(last) = page.last() else { break };
        after = format!("'{last}'");
        assert!(page.len() <= 3);
        listed.extend(page);
    }
    assert_eq!(listed, created);
    Ok(())
}

#[tokio::test]
async fn every_filter_of_the_list_must_hold() -> anyhow::Result<()> {
    let mut sql = Scenario::new().await?;
    sql.register(CHAIN).await?;
    sql.register("{name: other, namespace: shop, version: 1.0.0, steps: [{name: a, handler: {callable: t.a}}]}").await?;
    sql.create("'chain', context => '{\"n\": 1, \"deep\": {\"x\": [1, 2]}}', tags => '{red,blue}'")
        .await?;
    sql.clock(1000).await?;
    sql.create("'chain', context => '{\"n\": 2}', tags => '{red}'")
        .await?;
    sql.clock(2000).await?;
    let third = sql
        .create("'other', 'shop', context => '{\"n\": 3}'")
        .await?;
    sql.run(&format!("select tasker.cancel_task('{third}')"))
        .await?;
    for (filter, found) in [
        ("", json!([3, 2, 1])),
        ("namespace => 'shop'", json!([3])),
        ("namespace => 'nowhere'", json!([])),
        ("template_name => 'chain'", json!([2, 1])),
        ("template_name => 'none'", json!([])),
        ("states => '{cancelled,error}'", json!([3])),
        ("states => '{}'", json!([])),
        ("tags => '{red}'", json!([2, 1])),
        ("tags => '{blue,red}'", json!([1])),
        ("context_contains => '{\"deep\": {\"x\": [2]}}'", json!([1])),
        ("created_after => '2030-01-01 00:00:01+00'", json!([3, 2])),
        ("created_before => '2030-01-01 00:00:01+00'", json!([1])),
        (
            "template_name => 'chain', states => '{steps_in_process}', tags => '{blue}'",
            json!([1]),
        ),
        (
            "namespace => 'shop', states => '{steps_in_process}'",
            json!([]),
        ),
    ] {
        let rows = sql
            .rows(&format!(
                "select context -> 'n' as n from tasker.list_tasks({filter})"
            ))
            .await?;
        let numbers: Vec<_> = rows.iter().map(|row| row["n"].clone()).collect();
        assert_eq!(Value::Array(numbers), found, "{filter}");
    }
    for limit in ["0", "-1", "1001", "null"] {
        assert_eq!(
            sql.refused(&format!("select tasker.list_tasks(\"limit\" => {limit})"))
                .await?
                .code,
            "22023"
        );
    }
    Ok(())
}

#[tokio::test]
async fn what_is_not_there_is_refused_by_its_code() -> anyhow::Result<()> {
    let (mut sql, _) = with_task().await?;
    for uuid in [
        "'018f0000-0000-7000-8000-000000000000'",
        "'ffffffff-ffff-ffff-ffff-ffffffffffff'",
        "'00000000-0000-0000-0000-000000000000'",
        "null",
    ] {
        for (function, code) in [
            ("get_task", "TK001"),
            ("list_steps", "TK001"),
            ("task_history", "TK001"),
            ("task_graph", "TK001"),
            ("get_step", "TK002"),
            ("step_history", "TK002"),
        ] {
            let refusal = sql
                .refused(&format!("select * from tasker.{function}({uuid})"))
                .await?;
            assert_eq!(refusal.code, code, "{function}({uuid})");
            assert!(!refusal.hint.is_empty());
        }
    }
    assert_eq!(
        sql.refused("select * from tasker.verify('018f0000-0000-7000-8000-000000000000')")
            .await?
            .code,
        "TK001"
    );
    Ok(())
}

#[tokio::test]
async fn queues_are_counted_by_what_can_be_seen_in_them() -> anyhow::Result<()> {
    let (mut sql, _) = with_task().await?;
    sql.create("'chain'").await?;
    sql.claim("w", 1).await?;
    sql.clock(5000).await?;
    let stats = sql.row("select * from tasker.queue_stats()").await?;
    assert_eq!(
        (
            &stats["namespace"],
            &stats["queue_name"],
            &stats["visible"],
            &stats["hidden"]
        ),
        (
            &json!("default"),
            &json!("worker_default_queue"),
            &json!(1),
            &json!(1)
        )
    );
    assert!(stats["oldest_message_age_seconds"].is_number());
    Ok(())
}

#[tokio::test]
async fn health_and_version_are_told() -> anyhow::Result<()> {
    let (mut sql, _) = with_task().await?;
    let ill = sql
        .rows("select * from tasker.health() where not ok")
        .await?;
    assert!(ill.is_empty(), "{ill:?}");
    sql.run("select pgmq.drop_queue('worker_default_queue')")
        .await?;
    let ill = sql
        .row("select * from tasker.health() where not ok")
        .await?;
    assert_eq!(ill["name"], "queues");
    assert!(
        ill["detail"]
            .as_str()
            .is_some_and(|detail| detail.contains("worker_default_queue"))
    );
    let version: String = sql.value("select tasker.version()").await?;
    assert_eq!(version, env!("CARGO_PKG_VERSION"));
    Ok(())
}
