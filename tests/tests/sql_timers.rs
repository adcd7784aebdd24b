//! Timers: durable sleeps, for so long or until a time.

use serde_json::{Value, json};
use tasker_tests::Scenario;
use tasker_tests::scenario::{done, names};

const REMINDER: &str = "
name: reminder
version: 1.0.0
steps:
  - {name: schedule, handler: {callable: t.schedule}}
  - {name: wait, type: timer, dependencies: [schedule], delay_seconds: 5}
  - {name: remind, handler: {callable: t.remind}, dependencies: [wait]}
";

const APPOINTMENT: &str = "
name: appointment
version: 1.0.0
steps:
  - {name: book, handler: {callable: t.book}}
  - {name: wait, type: timer, dependencies: [book], until: book.due.at}
  - {name: remind, handler: {callable: t.remind}, dependencies: [wait]}
";

const NAP: &str = "
name: nap
version: 1.0.0
steps:
  - {name: sleep, type: timer, delay_seconds: 60}
  - {name: rise, handler: {callable: t.rise}, dependencies: [sleep]}
";

async fn maintain(sql: &mut Scenario) -> anyhow::Result<()> {
    sql.run("select tasker.run_maintenance()").await?;
    sql.verify().await
}

async fn is_due(sql: &mut Scenario) -> anyhow::Result<bool> {
    sql.value(
        "select exists (select from tasker.list_due_jobs() d(job) where d.job = 'fire_timers')",
    )
    .await
}

#[tokio::test]
async fn a_timer_sleeps_for_so_long_and_then_its_dependents_run() -> anyhow::Result<()> {
    let mut sql = Scenario::new().await?;
    sql.register(REMINDER).await?;
    let task = sql.create("'reminder'").await?;
    let first = sql.claim_one().await?;
    sql.complete(&first, json!(1)).await?;
    assert_eq!(sql.task_state(&task).await?, "waiting_for_dependencies");
    let waits = sql
        .row(&format!(
            "select reason, explanation, until from tasker.explain_task('{task}') where step_name = 'wait'"
        ))
        .await?;
    assert_eq!(waits["reason"], "timer");
    assert_eq!(waits["explanation"], "sleeps until 00:00:05");

    sql.clock(4_999).await?;
    assert!(!is_due(&mut sql).await?);
    maintain(&mut sql).await?;
    assert!(sql.claim("w", 1).await?.is_empty());
    sql.clock(5_000).await?;
    assert!(is_due(&mut sql).await?);
    maintain(&mut sql).await?;
    let remind = sql.claim_one().await?;
    assert_eq!(names(std::slice::from_ref(&remind)), ["remind"]);
    let fired = &remind["dependency_results"]["wait"]["fired_at"];
    assert!(
        fired.as_str().is_some_and(|at| at.contains("00:00:05")),
        "{fired}"
    );
    sql.complete(&remind, json!(1)).await?;
    assert_eq!(sql.task_state(&task).await?, "complete");
    assert!(!is_due(&mut sql).await?);
    sql.verify().await
}

#[tokio::test]
async fn a_timer_sleeps_until_the_time_in_a_result() -> anyhow::Result<()> {
    for (at, milliseconds) in [
        (json!("2030-01-01T00:01:00Z"), 60_000),
        (json!("2030-01-01 02:01:00.5+02:00"), 60_500),
        (json!(1_893_456_060), 60_000),
        (json!("1999-12-31T00:00:00Z"), 1),
    ] {
        let mut sql = Scenario::new().await?;
        sql.register(APPOINTMENT).await?;
        sql.create("'appointment'").await?;
        let book = sql.claim_one().await?;
        sql.complete(&book, json!({"due": {"at": at}})).await?;
        sql.verify().await?;
        sql.clock(milliseconds - 1).await?;
        if milliseconds > 1 {
            maintain(&mut sql).await?;
            assert!(sql.claim("w", 1).await?.is_empty(), "{at}");
        }
        sql.clock(milliseconds).await?;
        maintain(&mut sql).await?;
        assert_eq!(names(&sql.claim("w", 1).await?), ["remind"], "{at}");
    }
    Ok(())
}

#[tokio::test]
async fn what_is_no_time_fails_the_timer_visibly_and_can_be_mended() -> anyhow::Result<()> {
    for result in [
        json!({"due": {"at": "tomorrow"}}),
        json!({"due": {"at": "2030-01-01T00:01:00"}}),
        json!({"due": {}}),
        json!(null),
    ] {
        let mut sql = Scenario::new().await?;
        sql.register(APPOINTMENT).await?;
        let task = sql.create("'appointment'").await?;
        let book = sql.claim_one().await?;
        sql.complete(&book, result).await?;
        sql.verify().await?;
        assert_eq!(sql.task_state(&task).await?, "error");
        let error: Value = sql
            .value(&format!(
                "select error from tasker.list_steps('{task}') where name = 'wait'"
            ))
            .await?;
        assert_eq!(error["type"], "timer_until");
        sql.run(&format!(
            "select tasker.resolve_step(step_uuid) from tasker.list_steps('{task}') where name = 'wait'"
        ))
        .await?;
        assert_eq!(names(&sql.claim("w", 1).await?), ["remind"]);
        sql.verify().await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_timer_can_be_the_first_step_also_of_a_task_that_starts_later() -> anyhow::Result<()> {
    let mut sql = Scenario::new().await?;
    sql.register(NAP).await?;
    let now = sql.create("'nap'").await?;
    let later = sql
        .create("'nap', run_at => tasker._now() + interval '30 seconds'")
        .await?;
    sql.verify().await?;
    assert_eq!(sql.task_state(&now).await?, "waiting_for_dependencies");
    assert_eq!(
        sql.path("task_history", &now).await?,
        "pending -start-> initializing -no_dependencies_ready-> waiting_for_dependencies"
    );
    sql.clock(30_000).await?;
    maintain(&mut sql).await?;
    assert_eq!(sql.task_state(&later).await?, "waiting_for_dependencies");
    sql.clock(60_000).await?;
    maintain(&mut sql).await?;
    assert_eq!(sql.task_state(&now).await?, "steps_in_process");
    assert_eq!(sql.task_state(&later).await?, "waiting_for_dependencies");
    sql.clock(90_000).await?;
    maintain(&mut sql).await?;
    assert_eq!(sql.claim("w", 5).await?.len(), 2);
    sql.verify().await
}

#[tokio::test]
async fn a_cancelled_timer_never_fires_and_a_rerun_sleeps_anew() -> anyhow::Result<()> {
    let mut sql = Scenario::new().await?;
    sql.register(NAP).await?;
    let task = sql.create("'nap'").await?;
    sql.clock(30_000).await?;
    sql.run(&format!("select tasker.cancel_task('{task}')"))
        .await?;
    sql.verify().await?;
    sql.run(&format!("select tasker.rerun_task('{task}')"))
        .await?;
    sql.verify().await?;
    sql.clock(89_999).await?;
    maintain(&mut sql).await?;
    assert!(sql.claim("w", 1).await?.is_empty());
    sql.clock(90_000).await?;
    maintain(&mut sql).await?;
    assert_eq!(names(&sql.claim("w", 1).await?), ["rise"]);
    sql.verify().await
}

#[tokio::test]
async fn a_timer_fires_in_a_paused_task_and_in_one_that_waits_for_a_retry() -> anyhow::Result<()> {
    let mut sql = Scenario::new().await?;
    sql.register(
        "{name: both, version: 1.0.0, steps: [
          {name: work, handler: {callable: t.work}, retry: {backoff: linear, backoff_base_ms: 90000, max_backoff_ms: 90000, jitter: 0}},
          {name: sleep, type: timer, delay_seconds: 60}, {name: rise, handler: {callable: t.rise}, dependencies: [sleep]}]}",
    )
    .await?;
    let task = sql.create("'both'").await?;
    let work = sql.claim_one().await?;
    sql.fail(&work, json!({"message": "later"})).await?;
    sql.verify().await?;
    assert_eq!(sql.task_state(&task).await?, "waiting_for_retry");
    sql.run(&format!("select tasker.pause_task('{task}')"))
        .await?;
    sql.clock(60_000).await?;
    maintain(&mut sql).await?;
    assert_eq!(sql.task_state(&task).await?, "steps_in_process");
    assert!(sql.claim("w", 5).await?.is_empty());
    sql.run(&format!("select tasker.resume_task('{task}')"))
        .await?;
    let rise = sql.claim_one().await?;
    assert_eq!(names(std::slice::from_ref(&rise)), ["rise"]);
    let finished = sql.finish("w", json!([done(&rise, json!(1))]), 0).await?;
    assert_eq!(finished.words(), ["accepted"]);
    assert_eq!(sql.task_state(&task).await?, "waiting_for_retry");
    sql.verify().await
}

#[tokio::test]
async fn a_task_over_its_time_drops_its_timers() -> anyhow::Result<()> {
    let mut sql = Scenario::new().await?;
    sql.register(
        "{name: brief, version: 1.0.0, lifecycle: {max_waiting_for_dependencies_seconds: 10}, steps: [{name: sleep, type: timer, delay_seconds: 60}]}",
    )
    .await?;
    let task = sql.create("'brief'").await?;
    sql.clock(10_000).await?;
    maintain(&mut sql).await?;
    assert_eq!(sql.task_state(&task).await?, "error");
    assert_eq!(
        sql.value::<i64>("select count(*) from tasker.timers")
            .await?,
        0
    );
    Ok(())
}

#[tokio::test]
async fn many_timers_fire_in_bounded_batches_and_health_tells_when_they_are_late()
-> anyhow::Result<()> {
    let mut sql = Scenario::new().await?;
    sql.register(NAP).await?;
    sql.run(
        r#"select tasker.create_tasks((select jsonb_agg('{"template_name": "nap"}'::jsonb) from generate_series(1, 250)))"#,
    )
    .await?;
    sql.verify().await?;
    sql.clock(121_000).await?;
    let health = sql
        .row("select ok, detail from tasker.health() where name = 'timers'")
        .await?;
    assert_eq!(health["ok"], false, "{health}");
    for left in [150, 50, 0] {
        sql.run("select tasker.run_maintenance_job('fire_timers', 100)")
            .await?;
        assert_eq!(
            sql.value::<i64>("select count(*) from tasker.timers")
                .await?,
            left
        );
    }
    sql.verify().await?;
    let health = sql
        .row("select ok, detail from tasker.health() where name = 'timers'")
        .await?;
    assert_eq!(health["ok"], true, "{health}");
    Ok(())
}
