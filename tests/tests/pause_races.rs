//! A pause beside other calls on the same task, in two sessions: whoever comes second sees what the first did, and no step slips through.

use std::time::Duration;

use serde_json::json;
use sqlx::{Executor, PgConnection};
use tasker_client::Definition;
use tasker_tests::TestDatabase;
use tasker_tests::following::{create, is_blocked_by, process_of, step, verified};
use uuid::Uuid;

const CHAIN: &str = "{name: chain, version: 1.0.0, steps: [{name: a, handler: {callable: t.a}}, {name: b, handler: {callable: t.a}, dependencies: [a]}]}";
const SECOND_GOES_ON_WITHIN: Duration = Duration::from_secs(10);
const CLAIM: &str = "select count(*) from tasker.claim_steps('w', '{default}', 10)";

/// A database with a task, and two sessions.
async fn stage() -> anyhow::Result<(TestDatabase, Uuid, PgConnection, PgConnection)> {
    let database = TestDatabase::new().await?;
    let client = database.client();
    client
        .register_template(Definition::Yaml(CHAIN), None)
        .await?;
    let task = create(client, "default", "chain", &json!({})).await?;
    let (first, second) = (database.session().await?, database.session().await?);
    Ok((database, task, first, second))
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

async fn claimed(session: &mut PgConnection) -> anyhow::Result<i64> {
    Ok(sqlx::query_scalar(CLAIM).fetch_one(session).await?)
}

#[tokio::test]
async fn a_completion_that_waits_for_a_pause_hands_nothing_over() -> anyhow::Result<()> {
    let (database, task, mut first, second) = stage().await?;
    assert_eq!(claimed(&mut first).await?, 1);
    let a = step(database.client(), task, "a").await?;
    let outcome =
        json!([{"step_uuid": a.step_uuid, "attempt": 1, "status": "complete", "result": 1}]);
    let finish =
        format!("select tasker.finish_steps('w', '{outcome}', 10, namespaces => '{{default}}')");
    let pause = format!("select tasker.pause_task('{task}')");
    second_waits_for_first(&database, &mut first, &pause, second, finish).await?;
    assert_eq!(step(database.client(), task, "a").await?.state, "complete");
    assert_eq!(step(database.client(), task, "b").await?.state, "enqueued");
    assert_eq!(claimed(&mut first).await?, 0);
    verified(database.client()).await?;
    first
        .execute(format!("select tasker.resume_task('{task}')").as_str())
        .await?;
    assert_eq!(claimed(&mut first).await?, 1);
    verified(database.client()).await
}

#[tokio::test]
async fn a_pause_that_waits_for_a_completion_hides_what_that_made_ready() -> anyhow::Result<()> {
    let (database, task, mut first, second) = stage().await?;
    assert_eq!(claimed(&mut first).await?, 1);
    let a = step(database.client(), task, "a").await?;
    let complete = format!("select tasker.complete_step('{}', 1, '1')", a.step_uuid);
    let pause = format!("select tasker.pause_task('{task}')");
    second_waits_for_first(&database, &mut first, &complete, second, pause).await?;
    assert_eq!(step(database.client(), task, "b").await?.state, "enqueued");
    assert_eq!(claimed(&mut first).await?, 0);
    verified(database.client()).await
}

#[tokio::test]
async fn a_claim_beside_a_pause_neither_waits_nor_takes_the_step() -> anyhow::Result<()> {
    let (database, task, mut first, mut second) = stage().await?;
    first.execute("begin").await?;
    first
        .execute(format!("select tasker.pause_task('{task}')").as_str())
        .await?;
    assert_eq!(claimed(&mut second).await?, 0);
    first.execute("commit").await?;
    assert_eq!(claimed(&mut second).await?, 0);
    verified(database.client()).await
}

#[tokio::test]
async fn a_pause_that_waits_for_a_claim_lets_the_claimed_step_run() -> anyhow::Result<()> {
    let (database, task, mut first, second) = stage().await?;
    let pause = format!("select tasker.pause_task('{task}')");
    second_waits_for_first(&database, &mut first, CLAIM, second, pause).await?;
    let a = step(database.client(), task, "a").await?;
    assert_eq!(a.state, "in_progress");
    first
        .execute(format!("select tasker.complete_step('{}', 1, '1')", a.step_uuid).as_str())
        .await?;
    assert_eq!(claimed(&mut first).await?, 0);
    verified(database.client()).await
}

#[tokio::test]
async fn a_task_that_starts_beside_its_pause_is_paused_with_all_its_steps() -> anyhow::Result<()> {
    let (database, _, mut first, second) = stage().await?;
    let task: Uuid = sqlx::query_scalar(
        "select tasker.create_task('chain', run_at => clock_timestamp() + interval '1 hour')",
    )
    .fetch_one(&mut first)
    .await?;
    first
        .execute("select tasker._set_now(clock_timestamp() + interval '2 hours')")
        .await?;
    let pause = format!("select tasker.pause_task('{task}')");
    let start = "select * from tasker.run_maintenance()";
    second_waits_for_first(&database, &mut first, start, second, pause).await?;
    let paused: i64 = sqlx::query_scalar(
        "select count(*) from tasker.steps where tasker._task_of(step_uuid) = $1 and paused_at is not null",
    )
    .bind(task)
    .fetch_one(&mut first)
    .await?;
    assert_eq!(paused, 2);
    verified(database.client()).await
}
