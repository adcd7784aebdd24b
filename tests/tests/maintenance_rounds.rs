//! Rounds of maintenance as a server runs them: what a job that fails, waits or is killed does to the others.

use std::time::Duration;

use serde_json::{Value, json};
use sqlx::{Connection, Executor, PgConnection};
use tasker_client::Definition;
use tasker_tests::following::{create, verified};
use tasker_tests::{Server, TestDatabase, eventually};
use uuid::Uuid;

const WITHIN: Duration = Duration::from_secs(30);
const RESTING: &str = "{name: resting, version: 1.0.0, lifecycle: {evaluation: deferred}, steps: [
    {name: a, handler: {callable: t.a}}, {name: b, handler: {callable: t.b}, dependencies: [a]}]}";
const ONE: &str = "{name: one, version: 1.0.0, steps: [{name: a, handler: {callable: t.a}}]}";

/// A resting outcome of one task, a bulk job that cancels another, and a session that holds the lock of the other's step, for which the job has to wait.
struct Stage {
    database: TestDatabase,
    resting: Uuid,
    holder: PgConnection,
}

async fn bulk_job_that_waits() -> anyhow::Result<Stage> {
    let database = TestDatabase::new().await?;
    let client = database.client();
    for template in [RESTING, ONE] {
        client
            .register_template(Definition::Yaml(template), None)
            .await?;
    }
    let resting = create(client, "default", "resting", &json!({})).await?;
    let mut holder = database.session().await?;
    let step: Uuid =
        sqlx::query_scalar("select step_uuid from tasker.claim_steps('w', '{default}')")
            .fetch_one(&mut holder)
            .await?;
    sqlx::query("select tasker.complete_step($1, 1, '1')")
        .bind(step)
        .execute(&mut holder)
        .await?;
    let other = create(client, "default", "one", &json!({})).await?;
    holder
        .execute(r#"select * from tasker.apply_to_tasks('{"template_name": "one"}', 'cancel', dry_run => false)"#)
        .await?;
    holder.execute("begin").await?;
    sqlx::query("select from tasker.steps where step_uuid > $1 and step_uuid <= tasker._last_step_uuid($1) for no key update")
        .bind(other)
        .execute(&mut holder)
        .await?;
    Ok(Stage {
        database,
        resting,
        holder,
    })
}

/// Waits until maintenance waits for the holder, and says in what statement.
async fn waiting_statement(database: &TestDatabase) -> anyhow::Result<String> {
    eventually("maintenance waits for a lock", WITHIN, async || {
        Ok(sqlx::query_scalar(
            "select query from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock' and query like '%run_maintenance%'",
        )
        .fetch_optional(database.pool())
        .await?)
    })
    .await
}

/// Whether another session may lock the steps of the task whose outcome rested.
async fn may_lock(session: &mut PgConnection, task: Uuid) -> anyhow::Result<bool> {
    let locked =
        sqlx::query("select from tasker.steps where step_uuid > $1 and step_uuid <= tasker._last_step_uuid($1) for no key update nowait")
            .bind(task)
            .execute(session)
            .await;
    match locked {
        Ok(done) => Ok(done.rows_affected() == 2),
        Err(error)
            if error
                .as_database_error()
                .and_then(sqlx::error::DatabaseError::code)
                .as_deref()
                == Some("55P03") =>
        {
            Ok(false)
        }
        Err(error) => Err(error.into()),
    }
}

#[tokio::test]
async fn a_jobs_locks_are_gone_before_the_next_job_begins() -> anyhow::Result<()> {
    let mut stage = bulk_job_that_waits().await?;
    let mut other = stage.database.session().await?;
    // In one transaction a job waits with the locks of those before it.
    let mut by_hand = stage.database.session().await?;
    by_hand.execute("begin").await?;
    let all = tokio::spawn(async move {
        let done = by_hand.execute("select tasker.run_maintenance()").await;
        (by_hand, done.is_ok())
    });
    waiting_statement(&stage.database).await?;
    assert!(!may_lock(&mut other, stage.resting).await?);
    sqlx::query("select pg_cancel_backend(pid) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'")
        .execute(&mut other)
        .await?;
    let (by_hand, done) = all.await?;
    assert!(!done, "it was cancelled");
    by_hand.close().await?;

    // Job by job it waits with none.
    let server = Server::start(stage.database.url(), &[]).await?;
    let statement = waiting_statement(&stage.database).await?;
    assert!(statement.contains("run_maintenance_job"), "{statement}");
    assert!(may_lock(&mut other, stage.resting).await?);
    stage.holder.execute("commit").await?;
    all_done(&stage.database).await?;
    drop(server);
    verified(stage.database.client()).await
}

/// Waits until the bulk job has ended, and the outcome was evaluated.
async fn all_done(database: &TestDatabase) -> anyhow::Result<()> {
    eventually("the bulk job has ended", WITHIN, async || {
        let done: bool = sqlx::query_scalar(
            "select not exists (select from tasker.list_bulk_jobs() where finished_at is null)
               and not exists (select from tasker.resting_outcomes)",
        )
        .fetch_one(database.pool())
        .await?;
        Ok(done.then_some(()))
    })
    .await
}

#[tokio::test]
async fn a_server_killed_between_two_jobs_keeps_the_first_and_another_does_the_second()
-> anyhow::Result<()> {
    let mut stage = bulk_job_that_waits().await?;
    let mut server = Server::start(stage.database.url(), &[]).await?;
    waiting_statement(&stage.database).await?;
    server.program.kill().await?;
    sqlx::query("select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and application_name = 'tasker-server maintenance'")
        .execute(&mut stage.holder)
        .await?;
    let resting: i64 = sqlx::query_scalar("select count(*) from tasker.resting_outcomes")
        .fetch_one(stage.database.pool())
        .await?;
    assert_eq!(resting, 0);
    stage.holder.execute("commit").await?;
    let _other = Server::start(stage.database.url(), &[]).await?;
    all_done(&stage.database).await?;
    verified(stage.database.client()).await
}

#[tokio::test]
async fn a_job_that_fails_keeps_no_other_from_running_and_health_tells_of_it() -> anyhow::Result<()>
{
    let mut stage = bulk_job_that_waits().await?;
    stage.holder.execute("commit").await?;
    let database = &stage.database;
    database
        .pool()
        .execute("alter table tasker.scheduled_tasks rename to hidden")
        .await?;
    let server = Server::start(database.url(), &[]).await?;
    all_done(database).await?;
    eventually("the log tells of it", WITHIN, async || {
        Ok(server
            .program
            .log()
            .contains("start_due_tasks")
            .then_some(()))
    })
    .await?;
    // No round has ended, as one of its jobs can't be done.
    let ended: i64 = sqlx::query_scalar(
        "select count(*) from tasker.maintenance_cursors where walked_at is not null",
    )
    .fetch_one(database.pool())
    .await?;
    assert_eq!(ended, 0);
    let mut session = database.session().await?;
    session
        .execute("select tasker._set_now(clock_timestamp() + interval '2 minutes')")
        .await?;
    let health: Value = sqlx::query_scalar(
        "select jsonb_build_array(ok, detail) from tasker.health() where name = 'maintenance'",
    )
    .fetch_one(&mut session)
    .await?;
    assert_eq!(health[0], false);
    let detail = health[1].as_str().unwrap_or_default();
    assert!(
        detail.contains("these jobs are due: start_due_tasks"),
        "{detail}"
    );

    database
        .pool()
        .execute("alter table tasker.hidden rename to scheduled_tasks")
        .await?;
    eventually("a round ends", WITHIN, async || {
        let ended: bool = sqlx::query_scalar(
            "select exists (select from tasker.maintenance_cursors where walked_at is not null)",
        )
        .fetch_one(database.pool())
        .await?;
        Ok(ended.then_some(()))
    })
    .await?;
    let log = server.program.log();
    assert_eq!(
        log.matches("is tried again until it runs").count(),
        1,
        "{log}"
    );
    assert_eq!(log.matches("maintenance runs again").count(), 1, "{log}");
    verified(database.client()).await
}

#[tokio::test]
async fn a_server_on_a_schema_without_single_jobs_runs_whole_rounds() -> anyhow::Result<()> {
    let database = TestDatabase::new().await?;
    let client = database.client();
    client
        .register_template(Definition::Yaml(ONE), None)
        .await?;
    for function in ["run_maintenance_job(text, integer)"] {
        let removed = format!(
            "alter extension tasker drop function tasker.{function}; drop function tasker.{function}"
        );
        database.pool().execute(removed.as_str()).await?;
    }
    let task: Uuid = sqlx::query_scalar(
        "select tasker.create_task('one', run_at => clock_timestamp() + interval '100 milliseconds')",
    )
    .fetch_one(database.pool())
    .await?;
    let server = Server::start(database.url(), &[]).await?;
    eventually("the task is started", WITHIN, async || {
        let state: String = sqlx::query_scalar("select state from tasker.get_task($1)")
            .bind(task)
            .fetch_one(database.pool())
            .await?;
        Ok((state == "steps_in_process").then_some(()))
    })
    .await?;
    let log = server.program.log();
    assert!(!log.contains("maintenance failed"), "{log}");
    verified(client).await
}
