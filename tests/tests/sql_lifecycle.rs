//! The clocks of tasks and of attempts: what is over its limit is ended by maintenance.

use serde_json::{Value, json};
use sqlx::{Executor, PgConnection};
use tasker_tests::scenario::{done, key, quoted};
use tasker_tests::{Scenario, TestDatabase};

/// A chain of two steps with a lifecycle.
async fn with_lifecycle(lifecycle: &str) -> anyhow::Result<Scenario> {
    let mut sql = Scenario::new().await?;
    sql.register(&chain(lifecycle)).await?;
    Ok(sql)
}

fn chain(lifecycle: &str) -> String {
    format!(
        "{{name: chain, version: 1.0.0, lifecycle: {{{lifecycle}}}, steps: [\
           {{name: a, handler: {{callable: t.a}}, timeout_seconds: 100, retry: {{max_attempts: 2, backoff: linear, backoff_base_ms: 50000, jitter: 0}}}}, \
           {{name: b, handler: {{callable: t.b}}, dependencies: [a]}}]}}"
    )
}

async fn done_by(sql: &mut Scenario, job: &str) -> anyhow::Result<i64> {
    sql.value(&format!(
        "select processed from tasker.run_maintenance() where job = '{job}'"
    ))
    .await
}

/// What has become of a task whose clock is looked at, at a time.
async fn timed_out_at(sql: &mut Scenario, milliseconds: i64) -> anyhow::Result<bool> {
    sql.clock(milliseconds).await?;
    let count = done_by(sql, "time_out_tasks").await?;
    sql.verify().await?;
    Ok(count > 0)
}

async fn dead_letters(sql: &mut Scenario) -> anyhow::Result<Value> {
    sql.value("select coalesce(jsonb_agg(reason), '[]') from tasker.dead_letters")
        .await
}

#[tokio::test]
async fn an_attempt_whose_worker_hangs_is_failed_at_its_timeout() -> anyhow::Result<()> {
    let mut sql = with_lifecycle("").await?;
    let task = sql.create("'chain'").await?;
    let claim = "select to_jsonb(c) from tasker.claim_steps('w', '{default}', 1, '1 hour') c";
    let first: Value = sql.value(claim).await?;
    sql.clock(99_999).await?;
    assert_eq!(done_by(&mut sql, "time_out_attempts").await?, 0);
    sql.clock(100_000).await?;
    assert_eq!(done_by(&mut sql, "time_out_attempts").await?, 1);
    assert_eq!(done_by(&mut sql, "time_out_attempts").await?, 0);
    sql.verify().await?;
    let shown = sql
        .row(&format!("select * from tasker.get_step('{}')", key(&first)))
        .await?;
    assert_eq!(
        (
            &shown["state"],
            &shown["error"]["type"],
            &shown["error"]["message"]
        ),
        (
            &json!("waiting_for_retry"),
            &json!("timed_out"),
            &json!("attempt 1 ran longer than 100 seconds")
        )
    );
    let late = sql.finish("w", json!([done(&first, json!(1))]), 0).await?;
    assert_eq!(late.words(), ["timed_out"]);
    // The next attempt has the whole time again, and is the last.
    sql.clock(150_000).await?;
    let second: Value = sql.value(claim).await?;
    assert_eq!(second["attempt"], 2);
    sql.clock(249_999).await?;
    assert_eq!(done_by(&mut sql, "time_out_attempts").await?, 0);
    sql.clock(250_000).await?;
    assert_eq!(done_by(&mut sql, "time_out_attempts").await?, 1);
    assert_eq!(sql.task_state(&task).await?, "error");
    assert_eq!(
        dead_letters(&mut sql).await?,
        json!(["max_retries_exceeded"])
    );
    sql.verify().await
}

#[tokio::test]
async fn a_step_without_a_timeout_and_one_that_is_not_running_are_left_alone() -> anyhow::Result<()>
{
    let mut sql = with_lifecycle("").await?;
    sql.create("'chain'").await?;
    sql.clock(1_000_000).await?;
    assert_eq!(done_by(&mut sql, "time_out_attempts").await?, 0, "it waits");
    let a = sql.claim_one().await?;
    sql.complete(&a, json!(1)).await?;
    sql.run("select tasker.claim_steps('w', '{default}', 1, '1 day')")
        .await?;
    sql.clock(50_000_000).await?;
    assert_eq!(
        done_by(&mut sql, "time_out_attempts").await?,
        0,
        "b has none"
    );
    sql.verify().await
}

#[tokio::test]
async fn a_task_over_its_duration_ends_and_what_is_pending_stays() -> anyhow::Result<()> {
    let mut sql = with_lifecycle("max_duration_seconds: 60").await?;
    let task = sql.create("'chain'").await?;
    sql.clock(20_000).await?;
    let a = sql.claim_one().await?;
    assert!(!timed_out_at(&mut sql, 59_999).await?);
    assert!(timed_out_at(&mut sql, 60_000).await?);
    assert_eq!(
        sql.step_states(&task).await?,
        json!({"a": "cancelled", "b": "pending"})
    );
    let shown = sql
        .row(&format!("select * from tasker.get_task('{task}')"))
        .await?;
    assert_eq!(
        (
            &shown["state"],
            &shown["error"]["type"],
            &shown["error"]["message"]
        ),
        (
            &json!("error"),
            &json!("staleness_timeout"),
            &json!("the task is over its max_duration_seconds of 60")
        )
    );
    assert!(
        sql.path("task_history", &task)
            .await?
            .ends_with("steps_in_process -timed_out-> error")
    );
    let metadata: Value = sql
        .value(&format!(
            "select metadata from tasker.task_history('{task}') order by seq desc limit 1"
        ))
        .await?;
    assert_eq!(metadata["clock"], "max_duration_seconds");
    assert_eq!(dead_letters(&mut sql).await?, json!(["staleness_timeout"]));
    // Its worker hears of it, and nothing is left in the queue.
    let held = json!([{"step_uuid": a["step_uuid"], "attempt": a["attempt"]}]);
    let said: String = sql
        .value(&format!(
            "select verdict from tasker.extend_leases('w', {})",
            quoted(&held)
        ))
        .await?;
    assert_eq!(said, "cancelled");
    assert_eq!(
        sql.value::<i64>("select count(*) from pgmq.q_worker_default_queue")
            .await?,
        0
    );
    assert!(!timed_out_at(&mut sql, 600_000).await?, "once");
    Ok(())
}

#[tokio::test]
async fn the_template_says_what_happens_to_a_stale_task() -> anyhow::Result<()> {
    for (action, state) in [("error", "error"), ("none", "steps_in_process")] {
        let mut sql = with_lifecycle(&format!(
            "max_duration_seconds: 60, staleness_action: {action}"
        ))
        .await?;
        let task = sql.create("'chain'").await?;
        assert_eq!(timed_out_at(&mut sql, 60_000).await?, state == "error");
        assert_eq!(sql.task_state(&task).await?, state);
        assert_eq!(dead_letters(&mut sql).await?, json!([]), "{action}");
    }
    Ok(())
}

#[tokio::test]
async fn each_state_has_a_clock_of_its_own() -> anyhow::Result<()> {
    let mut sql = with_lifecycle("max_waiting_for_retry_seconds: 30").await?;
    let task = sql.create("'chain'").await?;
    assert!(
        !timed_out_at(&mut sql, 40_000).await?,
        "nothing has failed yet"
    );
    let a = sql.claim_one().await?;
    sql.fail(&a, json!({"message": "m"})).await?;
    assert_eq!(sql.task_state(&task).await?, "waiting_for_retry");
    assert!(!timed_out_at(&mut sql, 69_999).await?);
    assert!(timed_out_at(&mut sql, 70_000).await?);
    assert_eq!(
        sql.step_states(&task).await?,
        json!({"a": "cancelled", "b": "pending"})
    );
    Ok(())
}

#[tokio::test]
async fn a_task_that_waits_too_long_for_its_dependencies_is_ended() -> anyhow::Result<()> {
    let mut sql = with_lifecycle("max_waiting_for_dependencies_seconds: 30").await?;
    let task = sql.create("'chain'").await?;
    // As a signal, a timer or a child would leave it: it waits since this moment, and nothing runs.
    sql.clock(5_000).await?;
    sql.run(&format!(
        "update tasker.tasks set state = 'waiting_for_dependencies', running = 0, waiting_engine = 1 where task_uuid = '{task}';
         insert into tasker.task_transitions (task_uuid, path, at, actor)
         values ('{task}', tasker._task_path('steps_in_process', array['step_completed', 'no_dependencies_ready']), tasker._now(), 'engine')"
    ))
    .await?;
    sql.clock(34_999).await?;
    assert_eq!(done_by(&mut sql, "time_out_tasks").await?, 0);
    sql.clock(35_000).await?;
    let stale = sql
        .row("select task_uuid, clock from tasker.stale_tasks()")
        .await?;
    assert_eq!(
        stale,
        json!({"task_uuid": task, "clock": "max_waiting_for_dependencies_seconds"})
    );
    assert_eq!(done_by(&mut sql, "time_out_tasks").await?, 1);
    assert_eq!(sql.task_state(&task).await?, "error");
    assert_eq!(dead_letters(&mut sql).await?, json!(["staleness_timeout"]));
    sql.verify().await
}

#[tokio::test]
async fn an_outcome_gives_the_other_steps_their_time_anew() -> anyhow::Result<()> {
    let mut sql = with_lifecycle("max_steps_in_process_seconds: 30").await?;
    let task = sql.create("'chain'").await?;
    assert!(!timed_out_at(&mut sql, 20_000).await?);
    let a = sql.claim_one().await?;
    sql.complete(&a, json!(1)).await?;
    assert!(!timed_out_at(&mut sql, 49_999).await?);
    assert!(timed_out_at(&mut sql, 50_000).await?);
    assert_eq!(
        sql.step_states(&task).await?,
        json!({"a": "complete", "b": "cancelled"})
    );
    Ok(())
}

#[tokio::test]
async fn no_clock_runs_before_the_start_nor_while_paused_nor_while_an_operator_decides()
-> anyhow::Result<()> {
    let mut sql = with_lifecycle("max_duration_seconds: 60, on_failure: block").await?;
    sql.create("'chain', run_at => '2031-01-01'").await?;
    assert!(!timed_out_at(&mut sql, 100_000).await?, "it hasn't started");
    let task = sql.create("'chain'").await?;
    for (paused, until) in [
        (format!("task('{task}')"), 170_000),
        ("namespace('default')".to_owned(), 300_000),
    ] {
        sql.run(&format!("select tasker.pause_{paused}")).await?;
        assert!(!timed_out_at(&mut sql, until).await?, "{paused}");
        sql.run(&format!("select tasker.resume_{paused}")).await?;
    }
    sql.clock(180_000).await?;
    let a = sql.claim_one().await?;
    sql.fail(&a, json!({"message": "m", "retryable": false}))
        .await?;
    assert_eq!(sql.task_state(&task).await?, "blocked_by_failures");
    assert!(!timed_out_at(&mut sql, 900_000).await?);
    Ok(())
}

#[tokio::test]
async fn the_time_that_a_task_was_paused_does_not_count() -> anyhow::Result<()> {
    for (limit, until) in [
        ("max_duration_seconds: 60", 160_000),
        ("max_steps_in_process_seconds: 60", 190_000),
    ] {
        let mut sql = with_lifecycle(limit).await?;
        let task = sql.create("'chain'").await?;
        sql.clock(30_000).await?;
        sql.run(&format!("select tasker.pause_task('{task}')"))
            .await?;
        sql.clock(130_000).await?;
        sql.run(&format!("select tasker.resume_task('{task}')"))
            .await?;
        assert!(!timed_out_at(&mut sql, until - 1).await?, "{limit}");
        assert!(timed_out_at(&mut sql, until).await?, "{limit}");
    }
    Ok(())
}

#[tokio::test]
async fn many_stale_tasks_are_ended_in_bounded_batches() -> anyhow::Result<()> {
    let mut sql = with_lifecycle("max_duration_seconds: 60").await?;
    sql.run("select tasker.create_task('chain') from generate_series(1, 5)")
        .await?;
    sql.clock(60_000).await?;
    let mut ended = Vec::new();
    for _ in 0..10 {
        let count: i64 = sql
            .value("select processed from tasker.run_maintenance(2) where job = 'time_out_tasks'")
            .await?;
        assert!(count <= 2);
        ended.push(count);
    }
    assert_eq!(ended.iter().sum::<i64>(), 5, "{ended:?}");
    sql.verify().await
}

#[tokio::test]
async fn what_another_session_is_changing_is_left_for_the_next_round() -> anyhow::Result<()> {
    let database = TestDatabase::new().await?;
    let (mut one, mut other) = (database.session().await?, database.session().await?);
    sqlx::query("select tasker.register_template($1::text)")
        .bind(chain("max_duration_seconds: 60"))
        .execute(&mut one)
        .await?;
    let clock = |seconds: u32| {
        format!(
            "select tasker._set_now(timestamptz '2030-01-01 00:00:00+00' + {seconds} * interval '1 second')"
        )
    };
    one.execute(clock(0).as_str()).await?;
    one.execute("select tasker.create_task('chain')").await?;
    other.execute(clock(60).as_str()).await?;
    for held in [
        "select from tasker.steps order by step_uuid limit 1 for no key update",
        "select from tasker.tasks for no key update",
    ] {
        one.execute("begin").await?;
        one.execute(held).await?;
        // It would wait for ever.
        other.execute("set lock_timeout = '5s'").await?;
        assert_eq!(timed_out(&mut other).await?, 0, "{held}");
        one.execute("rollback").await?;
    }
    assert_eq!(timed_out(&mut other).await?, 1);
    let broken: i64 = sqlx::query_scalar("select count(*) from tasker.verify()")
        .fetch_one(&mut other)
        .await?;
    assert_eq!(broken, 0);
    Ok(())
}

async fn timed_out(session: &mut PgConnection) -> anyhow::Result<i64> {
    let query = "select processed from tasker.run_maintenance() where job = 'time_out_tasks'";
    Ok(sqlx::query_scalar(query).fetch_one(session).await?)
}
