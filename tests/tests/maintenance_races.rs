//! Maintenance beside workers: evaluation, bulk jobs and batches of outcomes lock the same steps and tasks at the same time, and none waits in a circle.

use std::time::Duration;

use anyhow::ensure;
use serde_json::json;
use sqlx::{Connection, Executor, PgConnection};
use tasker_client::Definition;
use tasker_tests::following::{create, is_blocked_by, process_of, verified};
use tasker_tests::scenario::{done, quoted};
use tasker_tests::{Server, TestDatabase, eventually};
use uuid::Uuid;

const WITHIN: Duration = Duration::from_mins(2);
const WORKERS: usize = 3;
const TASKS: i32 = 120;
const STEPS: &str = "steps: [
    {name: a, handler: {callable: t.a}},
    {name: b, handler: {callable: t.a}, dependencies: [a]}, {name: c, handler: {callable: t.a}, dependencies: [a]}, {name: d, handler: {callable: t.a}, dependencies: [a]},
    {name: e, handler: {callable: t.a}, dependencies: [b, c, d]}]";

async fn with_templates() -> anyhow::Result<TestDatabase> {
    let database = TestDatabase::new().await?;
    for (name, evaluation) in [("now", "inline"), ("later", "deferred")] {
        let yaml = format!(
            "{{name: {name}, version: 1.0.0, lifecycle: {{evaluation: {evaluation}}}, {STEPS}}}"
        );
        database
            .client()
            .register_template(Definition::Yaml(&yaml), None)
            .await?;
    }
    Ok(database)
}

/// Claims and completes steps in batches until no task is under way. Any error, a deadlock's too, ends it.
async fn work(mut session: PgConnection, worker: String) -> anyhow::Result<()> {
    loop {
        let claimed: Vec<serde_json::Value> =
            sqlx::query_scalar("select to_jsonb(c) from tasker.claim_steps($1, '{default}', 20) c")
                .bind(&worker)
                .fetch_all(&mut session)
                .await?;
        if claimed.is_empty() {
            let under_way: bool = sqlx::query_scalar(
                "select exists (select from tasker.tasks where finished_at is null)",
            )
            .fetch_one(&mut session)
            .await?;
            if !under_way {
                return Ok(());
            }
            tokio::task::yield_now().await;
            continue;
        }
        // Without an order: the engine sees to that.
        let outcomes: Vec<_> = claimed
            .iter()
            .rev()
            .map(|step| done(step, json!(1)))
            .collect();
        let finish = format!(
            "select from tasker.finish_steps('{worker}', {}, 0)",
            quoted(&json!(outcomes))
        );
        session.execute(finish.as_str()).await?;
    }
}

/// Gives maintenance one bulk job after the other, the last of which resumes what the others paused.
async fn bulk_jobs(mut session: PgConnection) -> anyhow::Result<()> {
    let filter = r#"{"states": ["steps_in_process"]}"#;
    for action in ["pause", "resume", "pause", "cancel", "pause", "resume"] {
        let filter = if action == "cancel" {
            r#"{"states": ["steps_in_process"], "tags": ["doomed"]}"#
        } else {
            filter
        };
        session
            .execute(
                format!(
                    "select * from tasker.apply_to_tasks('{filter}', '{action}', dry_run => false)"
                )
                .as_str(),
            )
            .await?;
        eventually("the bulk job has ended", WITHIN, async || {
            let ended: bool = sqlx::query_scalar(
                "select not exists (select from tasker.bulk_jobs where finished_at is null)",
            )
            .fetch_one(&mut session)
            .await?;
            Ok(ended.then_some(()))
        })
        .await?;
    }
    session.close().await?;
    Ok(())
}

#[tokio::test]
async fn workers_evaluation_and_bulk_jobs_on_the_same_tasks_never_wait_in_a_circle()
-> anyhow::Result<()> {
    let database = with_templates().await?;
    database
        .pool()
        .execute(
            format!(
                "select tasker.create_task(case n % 2 when 0 then 'now' else 'later' end, tags => array[case n % 5 when 0 then 'doomed' else 'kept' end])
                 from generate_series(1, {TASKS}) n"
            )
            .as_str(),
        )
        .await?;
    let server = Server::start(database.url(), &[]).await?;
    let mut running = Vec::new();
    for number in 0..WORKERS {
        let session = database.session().await?;
        running.push(tokio::spawn(work(session, format!("w{number}"))));
    }
    bulk_jobs(database.session().await?).await?;
    for each in running {
        tokio::time::timeout(WITHIN, each).await???;
    }
    let log = server.program.log();
    ensure!(!log.contains("maintenance failed"), "{log}");
    let states: serde_json::Value = sqlx::query_scalar(
        "select jsonb_object_agg(state, count) from (select state, count(*) from tasker.tasks group by state) t",
    )
    .fetch_one(database.pool())
    .await?;
    assert_eq!(
        states["complete"].as_i64().unwrap_or(0) + states["cancelled"].as_i64().unwrap_or(0),
        i64::from(TASKS),
        "{states}"
    );
    drop(server);
    verified(database.client()).await
}

#[tokio::test]
async fn a_bulk_job_that_waits_for_the_oldest_of_its_tasks_holds_no_newer_one() -> anyhow::Result<()>
{
    let database = with_templates().await?;
    let client = database.client();
    let old = create(client, "default", "now", &json!({})).await?;
    let new = create(client, "default", "now", &json!({})).await?;
    let (mut worker, mut maintenance, mut third) = (
        database.session().await?,
        database.session().await?,
        database.session().await?,
    );
    third
        .execute("select * from tasker.apply_to_tasks('{}', 'cancel', dry_run => false)")
        .await?;
    worker.execute("begin").await?;
    lock_steps(&mut worker, old).await?;
    let processes = (
        process_of(&mut maintenance).await?,
        process_of(&mut worker).await?,
    );
    let job = tokio::spawn(async move {
        maintenance
            .execute("select * from tasker.run_maintenance_job('bulk_jobs')")
            .await
            .map(|_| ())
    });
    is_blocked_by(database.pool(), processes.0, processes.1).await?;
    // A worker with steps of both tasks in its batch goes on.
    lock_steps(&mut third, new).await?;
    worker.execute("commit").await?;
    tokio::time::timeout(WITHIN, job).await???;
    let cancelled: i64 =
        sqlx::query_scalar("select count(*) from tasker.tasks where state = 'cancelled'")
            .fetch_one(&mut third)
            .await?;
    assert_eq!(cancelled, 2);
    verified(client).await
}

async fn lock_steps(session: &mut PgConnection, task: Uuid) -> anyhow::Result<()> {
    let locked = sqlx::query(
        "select from tasker.steps where step_uuid > $1 and step_uuid <= tasker._last_step_uuid($1) order by step_uuid for no key update nowait",
    )
    .bind(task)
    .execute(session)
    .await?;
    ensure!(locked.rows_affected() == 5, "{locked:?}");
    Ok(())
}
