//! Signals, timers and child tasks beside other calls, in two sessions: whoever comes second sees what the first did, and nothing is lost.

use std::time::Duration;

use serde_json::json;
use sqlx::{Executor, PgConnection};
use tasker_client::Definition;
use tasker_tests::TestDatabase;
use tasker_tests::following::{create, is_blocked_by, process_of, step, verified};
use uuid::Uuid;

const WAITS: &str = "{name: waits, version: 1.0.0, steps: [{name: a, handler: {callable: t.a}},
  {name: go, type: signal, signal: {name: go, timeout_seconds: 60}, dependencies: [a]}, {name: b, handler: {callable: t.b}, dependencies: [go]}]}";
const SECOND_GOES_ON_WITHIN: Duration = Duration::from_secs(10);

/// A database with a task whose first step is claimed, and two sessions.
async fn stage() -> anyhow::Result<(TestDatabase, Uuid, PgConnection, PgConnection)> {
    let database = TestDatabase::new().await?;
    let client = database.client();
    client
        .register_template(Definition::Yaml(WAITS), None)
        .await?;
    let task = create(client, "default", "waits", &json!({})).await?;
    let (mut first, second) = (database.session().await?, database.session().await?);
    first
        .execute("select tasker.claim_steps('w', '{default}', 1)")
        .await?;
    Ok((database, task, first, second))
}

async fn finish_of_a(database: &TestDatabase, task: Uuid) -> anyhow::Result<String> {
    let a = step(database.client(), task, "a").await?;
    let outcome =
        json!([{"step_uuid": a.step_uuid, "attempt": 1, "status": "complete", "result": 1}]);
    Ok(format!("select tasker.finish_steps('w', '{outcome}')"))
}

/// Runs a statement in the first session and leaves its transaction open, begins another one in the second, which must wait for it, and commits.
async fn second_waits_for_first(
    database: &TestDatabase,
    first: &mut PgConnection,
    statement: &str,
    mut second: PgConnection,
    waiting: String,
) -> anyhow::Result<()> {
    let processes = (process_of(&mut second).await?, process_of(first).await?);
    first.execute("begin").await?;
    first.execute(sqlx::raw_sql(statement)).await?;
    let second = tokio::spawn(async move {
        second
            .execute(sqlx::raw_sql(&waiting))
            .await
            .map(|done| done.rows_affected())
    });
    is_blocked_by(database.pool(), processes.0, processes.1).await?;
    first.execute("commit").await?;
    tokio::time::timeout(SECOND_GOES_ON_WITHIN, second).await???;
    Ok(())
}

async fn went_on(database: &TestDatabase, task: Uuid) -> anyhow::Result<()> {
    assert_eq!(step(database.client(), task, "go").await?.state, "complete");
    assert_eq!(step(database.client(), task, "b").await?.state, "enqueued");
    verified(database.client()).await
}

#[tokio::test]
async fn a_signal_that_waits_for_the_call_that_makes_its_step_ready_completes_it()
-> anyhow::Result<()> {
    let (database, task, mut first, second) = stage().await?;
    let finish = finish_of_a(&database, task).await?;
    let send = format!("select tasker.send_signal('{task}', 'go', '7')");
    second_waits_for_first(&database, &mut first, &finish, second, send).await?;
    went_on(&database, task).await
}

#[tokio::test]
async fn a_step_that_becomes_ready_waits_for_a_signal_under_way_and_takes_it() -> anyhow::Result<()>
{
    let (database, task, mut first, second) = stage().await?;
    let finish = finish_of_a(&database, task).await?;
    let send = format!("select tasker.send_signal('{task}', 'go', '7')");
    second_waits_for_first(&database, &mut first, &send, second, finish).await?;
    went_on(&database, task).await
}

#[tokio::test]
async fn of_two_senders_at_once_one_sends_it() -> anyhow::Result<()> {
    let (database, task, mut first, second) = stage().await?;
    first
        .execute(sqlx::raw_sql(&finish_of_a(&database, task).await?))
        .await?;
    let send = |payload: u8| format!("select tasker.send_signal('{task}', 'go', '{payload}')");
    second_waits_for_first(&database, &mut first, &send(1), second, send(2)).await?;
    let go = step(database.client(), task, "go").await?;
    assert_eq!(
        go.result.map(|result| result.get().to_owned()),
        Some("1".to_owned())
    );
    went_on(&database, task).await
}

#[tokio::test]
async fn a_cancellation_that_waits_for_a_signal_cancels_what_it_set_going() -> anyhow::Result<()> {
    let (database, task, mut first, second) = stage().await?;
    first
        .execute(sqlx::raw_sql(&finish_of_a(&database, task).await?))
        .await?;
    let send = format!("select tasker.send_signal('{task}', 'go', '7')");
    let cancel = format!("select tasker.cancel_task('{task}')");
    second_waits_for_first(&database, &mut first, &send, second, cancel).await?;
    assert_eq!(step(database.client(), task, "b").await?.state, "cancelled");
    verified(database.client()).await
}

#[tokio::test]
async fn a_signal_for_a_task_that_starts_meanwhile_is_kept() -> anyhow::Result<()> {
    let (database, _, mut first, second) = stage().await?;
    let task: Uuid = sqlx::query_scalar(
        "select tasker.create_task('waits', run_at => tasker._now() + interval '1 hour')",
    )
    .fetch_one(&mut first)
    .await?;
    let start = "select tasker._set_now(clock_timestamp() + interval '2 hours'); select tasker.run_maintenance_job('start_due_tasks')";
    let send = format!("select tasker.send_signal('{task}', 'go', '7')");
    second_waits_for_first(&database, &mut first, start, second, send).await?;
    let signals: i64 = sqlx::query_scalar(
        "select count(*) from tasker.list_signals($1) s where s.payload is not null",
    )
    .bind(task)
    .fetch_one(&mut first)
    .await?;
    assert_eq!(signals, 1);
    verified(database.client()).await
}

#[tokio::test]
async fn a_timer_whose_step_is_locked_is_left_for_the_next_round() -> anyhow::Result<()> {
    let (database, task, mut first, mut second) = stage().await?;
    first
        .execute(sqlx::raw_sql(&finish_of_a(&database, task).await?))
        .await?;
    first.execute("begin").await?;
    first
        .execute("select from tasker.steps for no key update")
        .await?;
    let fire = "select processed from tasker.run_maintenance_job('fire_timers')";
    second
        .execute("select tasker._set_now(clock_timestamp() + interval '2 minutes')")
        .await?;
    let fired: i64 = sqlx::query_scalar(fire).fetch_one(&mut second).await?;
    assert_eq!(fired, 0);
    first.execute("rollback").await?;
    let fired: i64 = sqlx::query_scalar(fire).fetch_one(&mut second).await?;
    assert_eq!(fired, 1);
    assert_eq!(step(database.client(), task, "go").await?.state, "error");
    verified(database.client()).await
}
