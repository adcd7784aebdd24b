//! A database server lost for good, and its standby in its place: nothing that was committed is missing, and the work goes on.

use std::time::Duration;

use serde_json::json;
use sqlx::{Connection, PgConnection};
use tasker_client::{Client, ConnectOptions};
use tasker_tests::following::{completed, new_task, verified};
use tasker_tests::{OwnCluster, Program, eventually, examples};
use uuid::Uuid;

const WITHIN: Duration = Duration::from_mins(1);
const AT_ONCE: usize = 20;

/// Creates tasks until the server is gone, and gives those whose creation was answered.
async fn create_until_gone(client: Client) -> anyhow::Result<Vec<Uuid>> {
    let tasks = vec![new_task("example", "diamond_workflow", &json!({"n": 2}))?; AT_ONCE];
    let mut created = Vec::new();
    while let Ok(answer) = client.create_tasks(&tasks).await {
        created.extend(answer.into_iter().map(|created| created.task_uuid));
    }
    Ok(created)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_standby_takes_over_and_nothing_committed_is_lost() -> anyhow::Result<()> {
    let primary = OwnCluster::start().await?;
    let client = Client::connect(&primary.url(), ConnectOptions::default()).await?;
    examples::register(&client).await?;
    let standby = primary.standby().await?;
    let mut worker = Program::worker(&primary.url(), &["--lease-seconds", "2"])?;
    let creating = tokio::spawn(create_until_gone(client.clone()));
    eventually("steps are done", WITHIN, async || {
        let done: i64 =
            sqlx::query_scalar("select count(*) from tasker.steps where state = 'complete'")
                .fetch_one(client.pool())
                .await?;
        Ok((done > 200).then_some(()))
    })
    .await?;
    primary.cluster.kill()?;
    let created = creating.await??;
    worker.kill().await?;
    assert!(created.len() > AT_ONCE, "{} tasks", created.len());

    let mut session = PgConnection::connect(&standby.url()).await?;
    let refused = sqlx::query("select tasker.create_task('linear_workflow', 'example')")
        .execute(&mut session)
        .await;
    let code = refused
        .as_ref()
        .err()
        .and_then(sqlx::Error::as_database_error);
    assert_eq!(
        code.and_then(sqlx::error::DatabaseError::code).as_deref(),
        Some("25006"),
        "a standby only reads: {refused:?}"
    );
    let shown: i64 = sqlx::query_scalar("select count(*) from tasker.list_tasks()")
        .fetch_one(&mut session)
        .await?;
    assert!(shown > 0, "a standby can be read");
    let promoted: bool = sqlx::query_scalar("select pg_promote()")
        .fetch_one(&mut session)
        .await?;
    assert!(promoted);

    let client = Client::connect(&standby.url(), ConnectOptions::default()).await?;
    let mut worker = Program::worker(&standby.url(), &[])?;
    for task_uuid in created {
        completed(&client, task_uuid).await?;
    }
    // Those whose answer got lost are there as a whole or not at all.
    let half_made: i64 = sqlx::query_scalar(
        "select count(*) from tasker.tasks t where not exists (select from tasker.steps s where s.step_uuid > t.task_uuid and s.step_uuid <= tasker._last_step_uuid(t.task_uuid))",
    )
    .fetch_one(client.pool())
    .await?;
    assert_eq!(half_made, 0);
    assert!(
        worker.terminate(WITHIN).await?.success(),
        "{}",
        worker.log()
    );
    verified(&client).await
}
