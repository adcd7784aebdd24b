//! The jobs of maintenance one by one: which are due, what they look at again, and what a quiet database is spared.

use std::time::Duration;

use serde_json::json;
use sqlx::Executor;
use tasker_tests::following::create;
use tasker_tests::{Scenario, TestDatabase, eventually};

const WITHIN: Duration = Duration::from_mins(1);
const RESTING: &str = "{name: resting, version: 1.0.0, lifecycle: {evaluation: deferred}, steps: [
    {name: a, handler: {callable: t.a}}, {name: b, handler: {callable: t.b}, dependencies: [a]}]}";
const ONE: &str = "{name: one, version: 1.0.0, lifecycle: {max_duration_seconds: 60},
    steps: [{name: a, timeout_seconds: 20, handler: {callable: t.a}}]}";

async fn due(sql: &mut Scenario) -> anyhow::Result<Vec<String>> {
    let rows = sql.rows("select job from tasker.list_due_jobs()").await?;
    let jobs = rows.iter().filter_map(|row| row["job"].as_str());
    // Looking is always due.
    Ok(jobs
        .filter(|job| *job != "find_late_work")
        .map(str::to_owned)
        .collect())
}

/// Runs a job, which must have had something to do and have nothing more.
async fn did(sql: &mut Scenario, job: &str) -> anyhow::Result<()> {
    let listed = due(sql).await?;
    assert!(listed.iter().any(|due| due == job), "{job}: {listed:?}");
    let processed: i64 = sql
        .value(&format!(
            "select processed from tasker.run_maintenance_job('{job}')"
        ))
        .await?;
    assert!(processed > 0, "{job}");
    let listed = due(sql).await?;
    assert!(listed.iter().all(|due| due != job), "{job}: {listed:?}");
    Ok(())
}

async fn look(sql: &mut Scenario) -> anyhow::Result<()> {
    sql.run("select tasker.run_maintenance_job('find_late_work')")
        .await
}

#[tokio::test]
async fn a_job_is_due_when_it_has_something_to_do_and_not_after() -> anyhow::Result<()> {
    let mut sql = Scenario::new().await?;
    sql.register(RESTING).await?;
    sql.register(ONE).await?;
    sql.run("select tasker.run_maintenance()").await?;
    sql.run("select tasker.run_maintenance()").await?;
    assert_eq!(due(&mut sql).await?, Vec::<String>::new());

    sql.create("'one', run_at => '2030-01-01 00:00:05+00'")
        .await?;
    sql.clock(5_000).await?;
    did(&mut sql, "start_due_tasks").await?;

    sql.run("delete from pgmq.q_worker_default_queue").await?;
    look(&mut sql).await?;
    did(&mut sql, "send_lost_messages").await?;

    // A lease that ended, an attempt and a task over their time, one after the other.
    assert_eq!(sql.claim("gone", 1).await?.len(), 1);
    sql.clock(25_000).await?;
    look(&mut sql).await?;
    did(&mut sql, "time_out_attempts").await?;
    sql.clock(50_000).await?;
    let claimed: i64 = sql
        .value("select count(*) from tasker.claim_steps('gone', '{default}', 1, '1 second')")
        .await?;
    assert_eq!(claimed, 1);
    sql.clock(52_000).await?;
    look(&mut sql).await?;
    did(&mut sql, "end_leases").await?;
    sql.clock(65_000).await?;
    look(&mut sql).await?;
    did(&mut sql, "time_out_tasks").await?;

    sql.create("'resting'").await?;
    let a = sql.claim_one().await?;
    sql.complete(&a, json!(1)).await?;
    did(&mut sql, "evaluate").await?;
    sql.run(r#"select * from tasker.apply_to_tasks('{"template_name": "resting"}', 'pause', dry_run => false)"#)
        .await?;
    did(&mut sql, "bulk_jobs").await?;

    sql.run("select tasker.pause_namespace('default', 'flood')")
        .await?;
    sql.create("'one', run_at => '2030-01-01 00:01:10+00'")
        .await?;
    sql.clock(70_000).await?;
    sql.run("select tasker.run_maintenance_job('start_due_tasks')")
        .await?;
    let listed = due(&mut sql).await?;
    assert!(
        !listed.contains(&"start_held_tasks".to_owned()),
        "{listed:?}"
    );
    sql.run("update tasker.namespaces set paused_at = null")
        .await?;
    did(&mut sql, "start_held_tasks").await?;

    sql.run("alter table pgmq.q_worker_default_queue rename to hidden")
        .await?;
    assert!(
        due(&mut sql)
            .await?
            .contains(&"make_missing_queues".to_owned())
    );
    sql.run("alter table pgmq.hidden rename to q_worker_default_queue")
        .await?;
    assert!(due(&mut sql).await?.contains(&"end_round".to_owned()));
    sql.run("select tasker.run_maintenance_job('end_round')")
        .await?;
    assert!(!due(&mut sql).await?.contains(&"end_round".to_owned()));
    sql.verify().await
}

#[tokio::test]
async fn what_is_noted_for_a_job_is_looked_at_again_when_it_runs() -> anyhow::Result<()> {
    let mut sql = Scenario::new().await?;
    sql.register(ONE).await?;
    let task = sql.create("'one'").await?;
    let step = sql.claim_one().await?;
    sql.clock(20_000).await?;
    look(&mut sql).await?;
    assert!(
        due(&mut sql)
            .await?
            .contains(&"time_out_attempts".to_owned())
    );
    // The worker is heard of after all.
    sql.complete(&step, json!(1)).await?;
    let processed: i64 = sql
        .value("select processed from tasker.run_maintenance_job('time_out_attempts')")
        .await?;
    assert_eq!(processed, 0);
    assert_eq!(sql.task_state(&task).await?, "complete");
    assert!(
        !due(&mut sql)
            .await?
            .contains(&"time_out_attempts".to_owned())
    );
    sql.verify().await
}

#[tokio::test]
async fn what_was_noted_and_has_left_with_its_partition_is_passed_over() -> anyhow::Result<()> {
    let mut sql = Scenario::new().await?;
    sql.register(ONE).await?;
    let jobs = [
        "end_leases",
        "time_out_attempts",
        "time_out_tasks",
        "send_lost_messages",
    ];
    for job in jobs {
        sql.run(&format!(
            "insert into tasker.maintenance_found (job, key) values ('{job}', '018f0000-0000-7000-8000-000000000000'), ('{job}', '018f0000-0000-7000-8000-000000000001')"
        ))
        .await?;
        sql.run(&format!("select tasker.run_maintenance_job('{job}')"))
            .await?;
    }
    let left: i64 = sql
        .value("select count(*) from tasker.maintenance_found")
        .await?;
    assert_eq!(left, 0);
    sql.verify().await
}

#[tokio::test]
async fn a_round_in_a_quiet_database_writes_nothing() -> anyhow::Result<()> {
    let database = TestDatabase::with_examples().await?;
    let client = database.client();
    create(client, "example", "linear_workflow", &json!({})).await?;
    // Transactions of other databases of the server hold the statistics back for a while.
    eventually("all is counted", WITHIN, async || {
        client.run_maintenance(1000).await?;
        let due = client.list_due_jobs().await?;
        let is_counted = !due.iter().any(|job| job == "fold_statistics");
        Ok(is_counted.then_some(()))
    })
    .await?;
    let mut session = database.session().await?;
    session.execute("begin").await?;
    // Other databases of the server write meanwhile, which the note about events follows.
    let jobs: Vec<String> = sqlx::query_scalar(
        "select job from tasker.list_due_jobs() where job <> 'note_event_floor'",
    )
    .fetch_all(&mut session)
    .await?;
    assert_eq!(jobs, ["find_late_work"]);
    session
        .execute("select tasker.run_maintenance_job('find_late_work')")
        .await?;
    let wrote: bool = sqlx::query_scalar("select pg_current_xact_id_if_assigned() is not null")
        .fetch_one(&mut session)
        .await?;
    assert!(!wrote, "a transaction that wrote has a number");
    Ok(())
}

#[tokio::test]
async fn an_unknown_job_or_a_batch_out_of_bounds_is_refused() -> anyhow::Result<()> {
    let mut sql = Scenario::new().await?;
    for call in ["'no_job'", "null", "'evaluate', 0", "'evaluate', null"] {
        let refusal = sql
            .refused(&format!("select tasker.run_maintenance_job({call})"))
            .await?;
        assert_eq!(refusal.code, "22023", "{call}");
    }
    let refusal = sql
        .refused("select tasker.run_maintenance_job('no_job')")
        .await?;
    assert!(refusal.hint.contains("evaluate"), "{}", refusal.hint);
    Ok(())
}
