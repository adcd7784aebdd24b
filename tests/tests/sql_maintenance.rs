//! Maintenance: what was lost on the way comes back; and the queues as PGMQ itself sees them.

use serde_json::{Value, json};
use sqlx::Executor;
use tasker_tests::scenario::{key, refusal};
use tasker_tests::{Scenario, TestDatabase};

const CHAIN: &str = "{name: chain, version: 1.0.0, steps: [{name: a, handler: {callable: t.a}}, {name: b, handler: {callable: t.b}, dependencies: [a]}]}";

async fn with_task() -> anyhow::Result<(Scenario, String)> {
    let mut sql = Scenario::new().await?;
    sql.register(CHAIN).await?;
    let task = sql.create("'chain', priority => 7").await?;
    Ok((sql, task))
}

async fn done_by(sql: &mut Scenario, job: &str) -> anyhow::Result<i64> {
    sql.value(&format!(
        "select processed from tasker.run_maintenance() where job = '{job}'"
    ))
    .await
}

#[tokio::test]
async fn a_lost_message_is_sent_again() -> anyhow::Result<()> {
    let (mut sql, task) = with_task().await?;
    assert_eq!(done_by(&mut sql, "send_lost_messages").await?, 0);
    sql.run("delete from pgmq.q_worker_default_queue").await?;
    assert!(sql.claim("w", 1).await?.is_empty());
    let broken = sql.violations().await?;
    assert!(
        broken.iter().any(|line| line.starts_with("4: ")),
        "{broken:?}"
    );
    assert_eq!(done_by(&mut sql, "send_lost_messages").await?, 1);
    sql.verify().await?;
    assert_eq!(done_by(&mut sql, "send_lost_messages").await?, 0);
    let a = sql.claim_one().await?;
    sql.complete(&a, json!(1)).await?;
    let b = sql.claim_one().await?;
    sql.complete(&b, json!(1)).await?;
    assert_eq!(sql.task_state(&task).await?, "complete");
    sql.verify().await
}

#[tokio::test]
async fn the_lost_message_of_a_running_step_comes_back_hidden_until_its_lease_ends()
-> anyhow::Result<()> {
    let (mut sql, _) = with_task().await?;
    let a = sql.claim_one().await?;
    sql.run("select pgmq.purge_queue('worker_default_queue')")
        .await?;
    assert_eq!(done_by(&mut sql, "send_lost_messages").await?, 1);
    assert!(sql.claim("w", 1).await?.is_empty());
    sql.verify().await?;
    sql.clock(30_000).await?;
    assert_eq!(sql.claim_one().await?["attempt"], 2);
    sql.fail(
        &json!({"step_uuid": key(&a), "attempt": 2}),
        json!({"message": "m", "retry_after_ms": 50_000}),
    )
    .await?;
    sql.run("delete from pgmq.q_worker_default_queue").await?;
    assert_eq!(done_by(&mut sql, "send_lost_messages").await?, 1);
    assert_eq!(
        sql.value::<i64>("select tasker.work_due_in_ms('{default}')")
            .await?,
        50_000
    );
    sql.verify().await
}

#[tokio::test]
async fn a_step_is_finished_although_its_message_was_lost() -> anyhow::Result<()> {
    let (mut sql, _) = with_task().await?;
    let a = sql.claim_one().await?;
    sql.run("delete from pgmq.q_worker_default_queue").await?;
    sql.complete(&a, json!(1)).await?;
    assert_eq!(sql.claim_one().await?["step_name"], "b");
    sql.verify().await
}

#[tokio::test]
async fn a_dropped_queue_is_refused_by_code_and_made_again() -> anyhow::Result<()> {
    let (mut sql, _) = with_task().await?;
    let a = sql.claim_one().await?;
    sql.run("select pgmq.drop_queue('worker_default_queue')")
        .await?;
    for call in [
        "select * from tasker.claim_steps('w', '{default}')".to_owned(),
        "select tasker.create_task('chain')".to_owned(),
        format!("select tasker.complete_step('{}', 1, '1')", key(&a)),
        "select * from tasker.queue_stats()".to_owned(),
        "select tasker.work_due_in_ms('{default}')".to_owned(),
    ] {
        let refusal = sql.refused(&call).await?;
        assert_eq!(refusal.code, "TK030", "{call}");
        assert!(refusal.hint.contains("run_maintenance"), "{}", refusal.hint);
    }
    let jobs = sql.rows("select * from tasker.run_maintenance()").await?;
    let of = |name: &str| {
        jobs.iter()
            .find(|job| job["job"] == name)
            .map(|job| job["processed"].clone())
    };
    assert_eq!(
        (of("make_missing_queues"), of("send_lost_messages")),
        (Some(json!(1)), Some(json!(1)))
    );
    sql.complete(&a, json!(1)).await?;
    sql.claim_one().await?;
    sql.verify().await
}

#[tokio::test]
async fn stale_copies_and_strangers_in_the_queue_do_no_harm() -> anyhow::Result<()> {
    let (mut sql, _) = with_task().await?;
    // A copy of the message, one for a step that is not there, and what is no message of ours.
    sql.run("select pgmq.send('worker_default_queue', message) from pgmq.q_worker_default_queue")
        .await?;
    sql.run("select pgmq.send('worker_default_queue', '{\"step_uuid\": \"018f0000-0000-7000-8000-000000000001\", \"priority\": 0}')").await?;
    sql.run("select pgmq.send('worker_default_queue', '{\"hello\": \"world\"}')")
        .await?;
    sql.clock(1_000_000_000_000).await?;
    let claimed = sql.claim("w", 10).await?;
    assert_eq!(claimed.len(), 1);
    assert_eq!(
        sql.value::<i64>("select count(*) from pgmq.q_worker_default_queue")
            .await?,
        1
    );
    let kept: Value = sql
        .value("select message from pgmq.a_worker_default_queue")
        .await?;
    assert_eq!(kept, json!({"hello": "world"}));
    sql.verify().await
}

#[tokio::test]
async fn maintenance_goes_round_in_bounded_batches() -> anyhow::Result<()> {
    let (mut sql, _) = with_task().await?;
    sql.run("select tasker.create_task('chain') from generate_series(1, 9)")
        .await?;
    sql.run(
        "select tasker.create_task('chain', run_at => '2030-01-02') from generate_series(1, 5)",
    )
    .await?;
    sql.run("delete from pgmq.q_worker_default_queue").await?;
    let mut sent = 0;
    for _ in 0..5 {
        let processed: i64 = sql
            .value(
                "select processed from tasker.run_maintenance(3) where job = 'send_lost_messages'",
            )
            .await?;
        assert!(processed <= 3);
        sent += processed;
    }
    assert_eq!(sent, 10);
    sql.clock(86_400_000).await?;
    let started = "select processed || ' ' || more from tasker.run_maintenance(3) where job = 'start_due_tasks'";
    assert_eq!(sql.value::<String>(started).await?, "3 true");
    assert_eq!(sql.value::<String>(started).await?, "2 false");
    for batch in ["0", "-1", "100001", "null"] {
        assert_eq!(
            sql.refused(&format!("select tasker.run_maintenance({batch})"))
                .await?
                .code,
            "22023"
        );
    }
    sql.verify().await
}

#[tokio::test]
async fn one_session_at_a_time_does_maintenance() -> anyhow::Result<()> {
    let database = TestDatabase::new().await?;
    let (mut one, mut other) = (database.session().await?, database.session().await?);
    let jobs = "select count(*) from tasker.run_maintenance()";
    one.execute("begin").await?;
    assert!(
        sqlx::query_scalar::<_, i64>(jobs)
            .fetch_one(&mut one)
            .await?
            > 0
    );
    assert_eq!(
        sqlx::query_scalar::<_, i64>(jobs)
            .fetch_one(&mut other)
            .await?,
        0
    );
    one.execute("commit").await?;
    assert!(
        sqlx::query_scalar::<_, i64>(jobs)
            .fetch_one(&mut other)
            .await?
            > 0
    );
    Ok(())
}

#[tokio::test]
async fn the_queue_is_one_that_pgmq_itself_knows_and_reads() -> anyhow::Result<()> {
    let (mut sql, task) = with_task().await?;
    // PGMQ asks the database's clock.
    sql.run("select tasker._set_now(null)").await?;
    let second = sql.create("'chain', priority => 1").await?;
    let listed: i64 = sql
        .value("select count(*) from pgmq.list_queues() where queue_name = 'worker_default_queue'")
        .await?;
    assert_eq!(listed, 1);
    let length: i64 = sql
        .value("select queue_length from pgmq.metrics('worker_default_queue')")
        .await?;
    assert_eq!(length, 2);
    let read = sql.row("select message, headers from pgmq.read('worker_default_queue', 0, 10) where message ->> 'priority' = '1'").await?;
    let step: String = sql
        .value(&format!(
            "select step_uuid::text from tasker.list_steps('{second}') where name = 'a'"
        ))
        .await?;
    assert_eq!(
        read["message"],
        json!({"task_uuid": second, "step_uuid": step, "attempt": 0, "handler": "t.a", "priority": 1, "correlation_id": second})
    );
    assert_eq!(read["headers"], json!({"priority": 1}));
    let first: Value = sql.value(&format!("select message from pgmq.q_worker_default_queue where message ->> 'task_uuid' = '{task}'")).await?;
    assert_eq!(first["priority"], 7);
    // What PGMQ hides or archives is out of a claim's sight, and maintenance brings it back.
    sql.run("select pgmq.set_vt('worker_default_queue', msg_id, 600) from pgmq.q_worker_default_queue where message ->> 'priority' = '1'").await?;
    assert!(sql.claim("w", 10).await?.is_empty());
    sql.run("select pgmq.archive('worker_default_queue', msg_id) from pgmq.q_worker_default_queue")
        .await?;
    assert_eq!(done_by(&mut sql, "send_lost_messages").await?, 2);
    assert_eq!(
        sql.claim("w", 10)
            .await?
            .iter()
            .map(|step| step["priority"].clone())
            .collect::<Vec<_>>(),
        [json!(7), json!(1)]
    );
    sql.verify().await
}

#[tokio::test]
async fn without_pgmq_every_call_that_needs_it_says_so() -> anyhow::Result<()> {
    let database = TestDatabase::empty().await?;
    let mut session = database.session().await?;
    session.execute("create extension tasker").await?;
    let error = sqlx::query("select tasker.register_template($1::text)")
        .bind(CHAIN)
        .execute(&mut session)
        .await
        .err()
        .map(|error| refusal(&error))
        .transpose()?;
    let refusal = error.unwrap_or_else(|| panic!("a template was registered without PGMQ"));
    assert_eq!(refusal.code, "TK030");
    assert!(
        refusal.hint.contains("tasker-ctl db init"),
        "{}",
        refusal.hint
    );
    let ok: bool = sqlx::query_scalar("select ok from tasker.health() where name = 'pgmq'")
        .fetch_one(&mut session)
        .await?;
    assert!(!ok);
    let valid: i64 = sqlx::query_scalar(
        "select count(*) from tasker.validate_template($1::text) where severity = 'error'",
    )
    .bind(CHAIN)
    .fetch_one(&mut session)
    .await?;
    assert_eq!(valid, 0, "checking a template needs no queue");
    Ok(())
}

#[tokio::test]
async fn an_old_pgmq_is_told_apart_from_a_missing_one() -> anyhow::Result<()> {
    let database = TestDatabase::empty().await?;
    let mut session = database.session().await?;
    session.execute("create extension tasker").await?;
    // What PGMQ 1.4 had of the functions that are asked for: queues, but no headers.
    session.execute("create schema pgmq; create table pgmq.meta (queue_name text); create function pgmq.create(queue_name text) returns void language sql as ''").await?;
    let error = sqlx::query("select tasker.register_template($1::text)")
        .bind(CHAIN)
        .execute(&mut session)
        .await
        .err();
    let refusal = error
        .map(|error| refusal(&error))
        .transpose()?
        .unwrap_or_else(|| panic!("an old PGMQ was taken"));
    assert_eq!(refusal.code, "TK030");
    assert!(
        refusal.message.contains("too old") && refusal.hint.contains("1.5"),
        "{refusal:?}"
    );
    Ok(())
}
