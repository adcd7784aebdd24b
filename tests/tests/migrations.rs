//! What prepares a database, on databases in every state; and PGMQ's own client on what was prepared.

use std::path::Path;

use serde_json::{Value, json};
use sqlx::migrate::Migrator;
use sqlx::{Executor, PgPool};
use tasker_client::{Client, ConnectOptions, Definition};
use tasker_tests::following::{create, verified};
use tasker_tests::{OwnCluster, Program, TestDatabase, bin_dir_with_pgmq};

const ONE: &str = "{name: one, version: 1.0.0, steps: [{name: a, handler: {callable: t.a}}]}";

async fn extensions(pool: &PgPool) -> anyhow::Result<Vec<String>> {
    let query =
        "select extname::text from pg_extension where extname in ('pgmq', 'tasker') order by 1";
    Ok(sqlx::query_scalar(query).fetch_all(pool).await?)
}

/// A task can be created and its step claimed.
async fn works(client: &Client) -> anyhow::Result<()> {
    client
        .register_template(Definition::Yaml(ONE), None)
        .await?;
    create(client, "default", "one", &json!({})).await?;
    let claimed: i64 =
        sqlx::query_scalar("select count(*) from tasker.claim_steps('tester', '{default}', 5)")
            .fetch_one(client.pool())
            .await?;
    assert_eq!(claimed, 1);
    verified(client).await
}

#[tokio::test]
async fn the_migrator_of_sqlx_prepares_a_database_and_a_second_run_changes_nothing()
-> anyhow::Result<()> {
    let database = TestDatabase::empty().await?;
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../migrations");
    let migrator = Migrator::new(folder).await?;
    for _ in 0..2 {
        migrator.run(database.pool()).await?;
        let applied: Vec<(i64, bool)> =
            sqlx::query_as("select version, success from _sqlx_migrations order by 1")
                .fetch_all(database.pool())
                .await?;
        assert_eq!(applied, [(1, true), (2, true), (3, true)]);
        assert_eq!(extensions(database.pool()).await?, ["tasker"]);
    }
    // The program keeps the same record.
    tasker_client::init(database.client()).await?;
    works(database.client()).await
}

#[tokio::test]
async fn preparing_again_keeps_what_is_there() -> anyhow::Result<()> {
    let database = TestDatabase::new().await?;
    works(database.client()).await?;
    for _ in 0..2 {
        tasker_client::init(database.client()).await?;
    }
    let tasks: i64 = sqlx::query_scalar("select count(*) from tasker.tasks")
        .fetch_one(database.pool())
        .await?;
    assert_eq!(tasks, 1);
    verified(database.client()).await
}

#[tokio::test]
async fn several_programs_may_prepare_a_database_at_once() -> anyhow::Result<()> {
    let database = TestDatabase::empty().await?;
    let client = database.client();
    let (one, two, three) = tokio::join!(
        tasker_client::init(client),
        tasker_client::init(client),
        tasker_client::init(client)
    );
    one?;
    two?;
    three?;
    works(client).await
}

#[tokio::test]
async fn the_command_line_prepares_a_database_and_may_be_repeated() -> anyhow::Result<()> {
    let database = TestDatabase::empty().await?;
    for _ in 0..2 {
        let output = Program::run("tasker-ctl", database.url(), &["db", "init"]).await?;
        assert!(output.status.success(), "{output:?}");
        let text = String::from_utf8(output.stdout)?;
        assert!(text.contains(env!("CARGO_PKG_VERSION")), "{text}");
    }
    works(database.client()).await
}

#[tokio::test]
async fn an_extension_pgmq_that_is_there_is_used_as_it_is() -> anyhow::Result<()> {
    let own = OwnCluster::start_empty(bin_dir_with_pgmq()?)?;
    for name in ["before", "absent"] {
        own.cluster.create_database(name, None)?;
        let client = Client::connect(&own.cluster.url(name), ConnectOptions::default()).await?;
        if name == "before" {
            client
                .pool()
                .execute("create extension pgmq; select pgmq.create('of_somebody_else')")
                .await?;
        }
        for _ in 0..2 {
            tasker_client::init(&client).await?;
            assert_eq!(
                extensions(client.pool()).await?,
                ["pgmq", "tasker"],
                "{name}"
            );
        }
        works(&client).await?;
        client.close().await;
    }
    Ok(())
}

#[tokio::test]
async fn the_extension_installs_without_pgmq_and_says_what_is_missing_when_it_is_needed()
-> anyhow::Result<()> {
    let database = TestDatabase::empty().await?;
    database.pool().execute("create extension tasker").await?;
    let client = database.client();
    let refused = client.register_template(Definition::Yaml(ONE), None).await;
    let error = refused.err();
    assert_eq!(error.as_ref().and_then(|error| error.code()), Some("TK030"));
    let hint = error
        .and_then(|error| error.details().and_then(|details| details.hint.clone()))
        .unwrap_or_default();
    assert!(hint.contains("tasker-ctl db init"), "{hint}");
    tasker_client::init(client).await?;
    works(client).await
}

#[tokio::test]
async fn pgmqs_own_installer_before_or_after_changes_nothing() -> anyhow::Result<()> {
    let database = TestDatabase::empty().await?;
    let queue = pgmq::PGMQueueExt::new_with_pool(database.pool().clone()).await;
    queue.install_sql_from_embedded().await?;
    tasker_client::init(database.client()).await?;
    queue.install_sql_from_embedded().await?;
    works(database.client()).await
}

#[tokio::test]
async fn pgmqs_own_client_knows_its_version_and_reads_our_messages() -> anyhow::Result<()> {
    let database = TestDatabase::new().await?;
    let client = database.client();
    client
        .register_template(Definition::Yaml(ONE), None)
        .await?;
    let task_uuid = create(client, "default", "one", &json!({})).await?;
    let queue = pgmq::PGMQueueExt::new_with_pool(database.pool().clone()).await;
    let version = queue
        .installed_version()
        .await?
        .map(|version| version.to_string());
    assert_eq!(version.as_deref(), Some("1.11.1"));
    let queues = queue.list_queues().await?.unwrap_or_default();
    assert_eq!(
        queues
            .iter()
            .map(|queue| queue.queue_name.as_str())
            .collect::<Vec<_>>(),
        ["worker_default_queue"]
    );

    let message = queue
        .read::<Value>("worker_default_queue", 0)
        .await?
        .map(|message| message.message)
        .unwrap_or_default();
    let step = &client.list_steps(task_uuid).await?[0];
    let task = client.get_task(task_uuid).await?;
    assert_eq!(
        message,
        json!({"task_uuid": task_uuid, "step_uuid": step.step_uuid, "attempt": 0, "handler": "t.a", "priority": 0, "correlation_id": task.correlation_id})
    );
    // What a stranger sends is no work: a claim puts it away where its sender can find it.
    queue
        .send("worker_default_queue", &json!({"hello": "you"}))
        .await?;
    let claimed: Vec<uuid::Uuid> =
        sqlx::query_scalar("select step_uuid from tasker.claim_steps('tester', '{default}', 5)")
            .fetch_all(database.pool())
            .await?;
    assert_eq!(claimed, [step.step_uuid]);
    let archived: Value = sqlx::query_scalar("select message from pgmq.a_worker_default_queue")
        .fetch_one(database.pool())
        .await?;
    assert_eq!(archived, json!({"hello": "you"}));
    verified(client).await
}
