//! Creating tasks at the same time, and creating them in a transaction that comes to nothing.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::json;
use sqlx::postgres::PgListener;
use sqlx::{Executor, PgConnection, PgPool, Row};
use tasker_client::tasks::create_task_in;
use tasker_client::{Client, Definition, NewTask};
use tasker_tests::TestDatabase;
use tasker_tests::following::{create, is_blocked_by, new_task, process_of, verified};
use tokio::task::JoinHandle;
use uuid::Uuid;

const TWO: &str = "{name: two, version: 1.0.0, steps: [
  {name: a, handler: {callable: t.a}}, {name: b, handler: {callable: t.a}, dependencies: [a]}]}";
const SECOND_GOES_ON_WITHIN: Duration = Duration::from_secs(10);

async fn database() -> anyhow::Result<TestDatabase> {
    let database = TestDatabase::new().await?;
    let client = database.client();
    client
        .register_template(Definition::Yaml(TWO), None)
        .await?;
    Ok(database)
}

fn keyed(context: &serde_json::Value) -> anyhow::Result<NewTask> {
    Ok(NewTask {
        idempotency_key: Some("order-1".to_owned()),
        ..new_task("default", "two", context)?
    })
}

type Creation = JoinHandle<Result<Uuid, tasker_client::Error>>;

/// Creates a task in a session of its own while the test goes on, and waits until it waits for the first session.
async fn second_creation(
    database: &TestDatabase,
    first: &mut PgConnection,
    task: NewTask,
) -> anyhow::Result<Creation> {
    let mut second = database.session().await?;
    let (waiting, holding) = (process_of(&mut second).await?, process_of(first).await?);
    let creation = tokio::spawn(async move { create_task_in(&mut second, &task).await });
    is_blocked_by(database.pool(), waiting, holding).await?;
    Ok(creation)
}

async fn tasks_count(client: &Client) -> anyhow::Result<i64> {
    Ok(sqlx::query_scalar("select count(*) from tasker.tasks")
        .fetch_one(client.pool())
        .await?)
}

#[tokio::test]
async fn the_second_of_two_creations_with_one_key_waits_and_gets_the_task_of_the_first()
-> anyhow::Result<()> {
    let database = database().await?;
    let mut first = database.session().await?;
    first.execute("begin").await?;
    let task_uuid = create_task_in(&mut first, &keyed(&json!({"n": 1}))?).await?;
    let second = second_creation(&database, &mut first, keyed(&json!({"n": 1}))?).await?;
    first.execute("commit").await?;
    let given = tokio::time::timeout(SECOND_GOES_ON_WITHIN, second).await???;
    assert_eq!(given, task_uuid);
    assert_eq!(tasks_count(database.client()).await?, 1);
    verified(database.client()).await
}

#[tokio::test]
async fn the_second_of_two_creations_with_one_key_creates_when_the_first_rolls_back()
-> anyhow::Result<()> {
    let database = database().await?;
    let mut first = database.session().await?;
    first.execute("begin").await?;
    let never = create_task_in(&mut first, &keyed(&json!({}))?).await?;
    let second = second_creation(&database, &mut first, keyed(&json!({}))?).await?;
    first.execute("rollback").await?;
    let created = tokio::time::timeout(SECOND_GOES_ON_WITHIN, second).await???;
    assert_ne!(created, never);
    assert_eq!(
        database.client().get_task(created).await?.state,
        "steps_in_process"
    );
    assert_eq!(tasks_count(database.client()).await?, 1);
    verified(database.client()).await
}

#[tokio::test]
async fn another_request_with_a_key_that_is_just_being_used_waits_and_is_refused()
-> anyhow::Result<()> {
    let database = database().await?;
    let mut first = database.session().await?;
    first.execute("begin").await?;
    create_task_in(&mut first, &keyed(&json!({"n": 1}))?).await?;
    let second = second_creation(&database, &mut first, keyed(&json!({"n": 2}))?).await?;
    first.execute("commit").await?;
    let refused = tokio::time::timeout(SECOND_GOES_ON_WITHIN, second).await??;
    assert_eq!(
        refused
            .err()
            .and_then(|error| error.code().map(str::to_owned))
            .as_deref(),
        Some("TK013")
    );
    verified(database.client()).await
}

#[tokio::test]
async fn a_snapshot_older_than_the_use_of_a_key_is_told_to_try_again() -> anyhow::Result<()> {
    let database = database().await?;
    let mut old = database.session().await?;
    old.execute("begin isolation level repeatable read").await?;
    old.execute("select count(*) from tasker.tasks").await?;
    database.client().create_task(&keyed(&json!({}))?).await?;
    let refused = create_task_in(&mut old, &keyed(&json!({}))?).await;
    let error = refused.err();
    assert_eq!(error.as_ref().and_then(|error| error.code()), Some("40001"));
    assert!(error.is_some_and(|error| error.is_transient()));
    Ok(())
}

#[tokio::test]
async fn many_creations_with_one_key_make_one_task() -> anyhow::Result<()> {
    let database = database().await?;
    let creations: Vec<_> = (0..16)
        .map(|_| {
            let client = database.client().clone();
            tokio::spawn(async move {
                let task = keyed(&json!({}))?;
                anyhow::Ok(client.create_task(&task).await?)
            })
        })
        .collect();
    let mut given = Vec::new();
    for creation in creations {
        given.push(creation.await??);
    }
    given.dedup();
    assert_eq!(given.len(), 1);
    assert_eq!(tasks_count(database.client()).await?, 1);
    verified(database.client()).await
}

#[tokio::test]
async fn batches_with_the_same_keys_in_opposite_order_do_not_deadlock() -> anyhow::Result<()> {
    let database = database().await?;
    let batch = |from_the_end: bool| -> anyhow::Result<Vec<NewTask>> {
        let mut numbers: Vec<usize> = (0..200).collect();
        if from_the_end {
            numbers.reverse();
        }
        let task = |number| {
            anyhow::Ok(NewTask {
                idempotency_key: Some(format!("key-{number}")),
                ..new_task("default", "two", &json!({}))?
            })
        };
        numbers.into_iter().map(task).collect()
    };
    for _ in 0..5 {
        let (one, other) = (batch(false)?, batch(true)?);
        let (one, other) = tokio::join!(
            database.client().create_tasks(&one),
            database.client().create_tasks(&other)
        );
        assert_eq!((one?.len(), other?.len()), (200, 200));
    }
    assert_eq!(tasks_count(database.client()).await?, 200);
    verified(database.client()).await
}

/// How many rows each table of Tasker and PGMQ has.
async fn rows_of_every_table(pool: &PgPool) -> anyhow::Result<BTreeMap<String, i64>> {
    let tables: Vec<String> = sqlx::query_scalar(
        "select c.oid::regclass::text from pg_class c where c.relkind in ('r', 'p') and c.relnamespace::regnamespace::text in ('tasker', 'pgmq')",
    )
    .fetch_all(pool)
    .await?;
    let mut counts = BTreeMap::new();
    for table in tables {
        let row = pool
            .fetch_one(format!("select count(*) from {table}").as_str())
            .await?;
        counts.insert(table, row.try_get(0)?);
    }
    Ok(counts)
}

#[tokio::test]
async fn a_creation_that_is_rolled_back_leaves_nothing_anywhere() -> anyhow::Result<()> {
    let database = database().await?;
    let pool = database.pool();
    let mut listener = PgListener::connect(database.url()).await?;
    listener.listen("tasker_ready_default").await?;
    let before = rows_of_every_table(pool).await?;
    assert!(
        before.contains_key("tasker.tasks") && before.contains_key("pgmq.q_worker_default_queue")
    );

    let mut transaction = pool.begin().await?;
    create_task_in(&mut transaction, &keyed(&json!({"n": 1}))?).await?;
    transaction.execute("select * from tasker.create_tasks('[{\"template_name\": \"two\"}, {\"template_name\": \"two\", \"run_at\": \"2100-01-01\"}]')").await?;
    let within: i64 = sqlx::query_scalar("select count(*) from tasker.steps")
        .fetch_one(&mut *transaction)
        .await?;
    assert_eq!(within, 4);
    transaction.rollback().await?;

    assert_eq!(rows_of_every_table(pool).await?, before);
    // Notifications come in the order of their commits: the first to come is the one sent now.
    pool.execute("select pg_notify('tasker_ready_default', 'sent afterwards')")
        .await?;
    let heard = tokio::time::timeout(SECOND_GOES_ON_WITHIN, listener.recv()).await??;
    assert_eq!(heard.payload(), "sent afterwards");
    create(database.client(), "default", "two", &json!({})).await?;
    let heard = tokio::time::timeout(SECOND_GOES_ON_WITHIN, listener.recv()).await??;
    assert_eq!(heard.payload(), "", "a creation that commits does notify");
    verified(database.client()).await
}

#[tokio::test]
async fn one_template_registered_by_many_at_once_is_registered_once() -> anyhow::Result<()> {
    let database = TestDatabase::new().await?;
    for round in 0..5 {
        let yaml = TWO.replace("name: two,", &format!("name: two, namespace: new_{round},"));
        let registrations: Vec<_> = (0..8)
            .map(|_| {
                let (client, yaml) = (database.client().clone(), yaml.clone());
                tokio::spawn(async move {
                    client
                        .register_template(Definition::Yaml(&yaml), None)
                        .await
                })
            })
            .collect();
        let mut created = 0;
        for registration in registrations {
            created += i32::from(registration.await??.created);
        }
        assert_eq!(created, 1);
    }
    let queues: i64 = sqlx::query_scalar("select count(*) from pgmq.meta")
        .fetch_one(database.pool())
        .await?;
    assert_eq!(queues, 5);
    verified(database.client()).await
}

#[tokio::test]
async fn two_templates_of_one_version_registered_at_once_are_told_apart() -> anyhow::Result<()> {
    let database = TestDatabase::new().await?;
    let other = TWO.replace("t.a", "t.b");
    let (one, two) = tokio::join!(
        database
            .client()
            .register_template(Definition::Yaml(TWO), None),
        database
            .client()
            .register_template(Definition::Yaml(&other), None)
    );
    let refused: Vec<_> = [one, two].into_iter().filter_map(Result::err).collect();
    assert_eq!(refused.len(), 1);
    assert_eq!(refused[0].code(), Some("TK014"));
    Ok(())
}
