//! Partitions made, met and dropped by several sessions at the same time.

use std::time::Duration;

use serde_json::{Value, json};
use sqlx::{Executor, PgConnection};
use tasker_client::tasks::create_task_in;
use tasker_client::{Definition, NewTask};
use tasker_tests::TestDatabase;
use tasker_tests::following::{is_blocked_by, new_task, process_of, verified};
use tasker_tests::partitions::{TABLES, have_one_shape};
use tokio::task::JoinHandle;
use uuid::Uuid;

const TWO: &str = "{name: two, version: 1.0.0, steps: [\
    {name: a, handler: {callable: t}}, {name: b, handler: {callable: t}, dependencies: [a]}]}";
const SECOND_GOES_ON_WITHIN: Duration = Duration::from_secs(10);

async fn database() -> anyhow::Result<TestDatabase> {
    let database = TestDatabase::new().await?;
    database
        .client()
        .register_template(Definition::Yaml(TWO), None)
        .await?;
    Ok(database)
}

fn two() -> anyhow::Result<NewTask> {
    new_task("default", "two", &json!({}))
}

/// A session whose clock is at the beginning of a day.
async fn session_on(database: &TestDatabase, day: &str) -> anyhow::Result<PgConnection> {
    let mut session = database.session().await?;
    let set = format!("select tasker._set_now('{day} 00:00:00+00')");
    session.execute(set.as_str()).await?;
    Ok(session)
}

type Creation = JoinHandle<Result<Uuid, tasker_client::Error>>;

/// Creates a task in a session of its own, which has to wait for the first one.
async fn waiting_creation(
    database: &TestDatabase,
    first: &mut PgConnection,
    mut second: PgConnection,
) -> anyhow::Result<Creation> {
    let (waiting, holding) = (process_of(&mut second).await?, process_of(first).await?);
    let task = two()?;
    let creation = tokio::spawn(async move { create_task_in(&mut second, &task).await });
    is_blocked_by(database.pool(), waiting, holding).await?;
    Ok(creation)
}

async fn rows_in(database: &TestDatabase, partition: &str) -> anyhow::Result<i64> {
    let query = format!("select count(*) from tasker.{partition}");
    Ok(sqlx::query_scalar(&query)
        .fetch_one(database.pool())
        .await?)
}

#[tokio::test]
async fn two_sessions_create_the_first_tasks_of_a_span_at_the_same_time() -> anyhow::Result<()> {
    let database = database().await?;
    let mut first = session_on(&database, "2030-01-03").await?;
    let second = session_on(&database, "2030-01-05").await?;
    first.execute("begin").await?;
    create_task_in(&mut first, &two()?).await?;
    let second = waiting_creation(&database, &mut first, second).await?;
    first.execute("commit").await?;
    tokio::time::timeout(SECOND_GOES_ON_WITHIN, second).await???;
    assert_eq!(rows_in(&database, "tasks_p20300103_20300110").await?, 2);
    assert_eq!(rows_in(&database, "steps_p20300103_20300110").await?, 4);
    verified(database.client()).await
}

#[tokio::test]
async fn the_second_makes_the_partitions_when_the_first_rolls_back() -> anyhow::Result<()> {
    let database = database().await?;
    let mut first = session_on(&database, "2030-01-03").await?;
    let second = session_on(&database, "2030-01-05").await?;
    first.execute("begin").await?;
    create_task_in(&mut first, &two()?).await?;
    let second = waiting_creation(&database, &mut first, second).await?;
    first.execute("rollback").await?;
    tokio::time::timeout(SECOND_GOES_ON_WITHIN, second).await???;
    assert_eq!(rows_in(&database, "tasks_p20300103_20300110").await?, 1);
    // The session whose partitions came to nothing has not kept them in mind.
    create_task_in(&mut first, &two()?).await?;
    assert_eq!(rows_in(&database, "tasks_p20300103_20300110").await?, 2);
    verified(database.client()).await
}

#[tokio::test]
async fn a_session_makes_partitions_again_that_a_savepoint_took_back() -> anyhow::Result<()> {
    let database = database().await?;
    let mut session = session_on(&database, "2030-01-03").await?;
    session.execute("begin; savepoint before_it").await?;
    create_task_in(&mut session, &two()?).await?;
    session.execute("rollback to before_it").await?;
    create_task_in(&mut session, &two()?).await?;
    session.execute("commit").await?;
    assert_eq!(rows_in(&database, "tasks_p20300103_20300110").await?, 1);
    verified(database.client()).await
}

#[tokio::test]
async fn many_sessions_meet_at_every_new_span() -> anyhow::Result<()> {
    let database = database().await?;
    for day in [
        "2030-02-01",
        "2030-02-08",
        "2030-02-15",
        "2030-02-22",
        "2030-03-01",
    ] {
        let mut creations = Vec::new();
        for _ in 0..8 {
            let mut session = session_on(&database, day).await?;
            let task = two()?;
            creations.push(tokio::spawn(async move {
                create_task_in(&mut session, &task).await
            }));
        }
        // Maintenance is at it as well.
        let mut maintenance = session_on(&database, day).await?;
        let maintained = tokio::spawn(async move {
            sqlx::query("select * from tasker.run_maintenance()")
                .execute(&mut maintenance)
                .await
        });
        for creation in creations {
            creation.await??;
        }
        maintained.await??;
    }
    let mut session = database.session().await?;
    let created: i64 = sqlx::query_scalar("select count(*) from tasker.tasks")
        .fetch_one(&mut session)
        .await?;
    assert_eq!(created, 40);
    have_one_shape(&mut session).await?;
    verified(database.client()).await
}

/// The keys and attempts of what a session claims.
async fn claim(session: &mut PgConnection) -> anyhow::Result<Vec<Value>> {
    Ok(sqlx::query_scalar("select jsonb_build_object('step_uuid', c.step_uuid, 'attempt', c.attempt, 'status', 'complete', 'result', 1) \
         from tasker.claim_steps('w', '{default}', 10, '1 day') c")
        .fetch_all(session)
        .await?)
}

async fn finish(session: &mut PgConnection, outcomes: &[Value]) -> Result<Value, sqlx::Error> {
    sqlx::query_scalar(
        "select jsonb_path_query_array(verdicts, '$[*].verdict') from tasker.finish_steps('w', $1)",
    )
    .bind(json!(outcomes))
    .fetch_one(session)
    .await
}

#[tokio::test]
async fn a_session_works_in_partitions_that_others_have_made_since() -> anyhow::Result<()> {
    let database = database().await?;
    let mut worker = session_on(&database, "2030-03-01").await?;
    for day in ["2030-01-03", "2030-01-10", "2030-02-10"] {
        let mut creator = session_on(&database, day).await?;
        create_task_in(&mut creator, &two()?).await?;
        for _ in 0..2 {
            let held = claim(&mut worker).await?;
            assert_eq!(held.len(), 1, "{day}");
            assert_eq!(finish(&mut worker, &held).await?, json!(["accepted"]));
        }
    }
    verified(database.client()).await
}

#[tokio::test]
async fn a_transaction_whose_snapshot_is_older_than_the_partitions_creates_a_task_in_them()
-> anyhow::Result<()> {
    let database = database().await?;
    let mut first = session_on(&database, "2030-01-03").await?;
    let mut second = session_on(&database, "2030-01-05").await?;
    second
        .execute("begin isolation level repeatable read; select count(*) from tasker.templates")
        .await?;
    create_task_in(&mut first, &two()?).await?;
    create_task_in(&mut second, &two()?).await?;
    second.execute("commit").await?;
    assert_eq!(rows_in(&database, "tasks").await?, 2);
    verified(database.client()).await
}

#[tokio::test]
async fn partitions_that_were_detached_and_not_dropped_are_neither_read_nor_written()
-> anyhow::Result<()> {
    let database = database().await?;
    let mut session = session_on(&database, "2030-01-03").await?;
    create_task_in(&mut session, &two()?).await?;
    let held = claim(&mut session).await?;
    let mut other = database.session().await?;
    for table in TABLES {
        let detach = format!(
            "alter table tasker.{table} detach partition tasker.{table}_p20300103_20300110"
        );
        other.execute(detach.as_str()).await?;
    }
    assert_eq!(finish(&mut session, &held).await?, json!(["invalid"]));
    let refused = create_task_in(&mut session, &two()?).await;
    let code = refused.as_ref().err().and_then(tasker_client::Error::code);
    assert_eq!(code, Some("55000"), "{refused:?}");
    Ok(())
}
