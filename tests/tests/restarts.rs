//! The database restarted and queues emptied under load: nothing is lost, and everything completes.

use std::time::Duration;

use anyhow::Context;
use serde_json::json;
use sqlx::{Connection, Executor, PgConnection};
use tasker_client::{Client, ConnectOptions, NewTask, WakeUp};
use tasker_tests::following::{completed, create, new_task, verified};
use tasker_tests::{OwnCluster, Program, Server, StopMode, TestDatabase, eventually, examples};
use uuid::Uuid;

const RECOVERED_WITHIN: Duration = Duration::from_mins(1);

/// A database server of its own with the examples, a server and two workers.
struct Stage {
    own: OwnCluster,
    client: Client,
    server: Server,
    workers: [Program; 2],
}

impl Stage {
    async fn new() -> anyhow::Result<Self> {
        let own = OwnCluster::start().await?;
        let client = Client::connect(&own.url(), ConnectOptions::default()).await?;
        examples::register(&client).await?;
        let server = Server::start(&own.url(), &[]).await?;
        let arguments = ["--lease-seconds", "2"];
        let workers = [
            Program::worker(&own.url(), &arguments)?,
            Program::worker(&own.url(), &arguments)?,
        ];
        Ok(Self {
            own,
            client,
            server,
            workers,
        })
    }

    fn logs(&self) -> String {
        [&self.server.program, &self.workers[0], &self.workers[1]]
            .map(Program::log)
            .join("\n== the next one ==\n")
    }
}

async fn steps_done(client: &Client) -> anyhow::Result<i64> {
    Ok(
        sqlx::query_scalar("select count(*) from tasker.steps where state = 'complete'")
            .fetch_one(client.pool())
            .await?,
    )
}

async fn create_many(client: &Client, count: usize) -> anyhow::Result<Vec<Uuid>> {
    let mut tasks = vec![new_task("example", "hierarchical_tree", &json!({"n": 2}))?; count / 2];
    tasks.extend(vec![
        new_task("example", "failures", &json!({"times": 1}))?;
        count - count / 2
    ]);
    let created = client.create_tasks(&tasks).await?;
    Ok(created
        .into_iter()
        .map(|created| created.task_uuid)
        .collect())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_restarted_under_load_loses_nothing() -> anyhow::Result<()> {
    let mut stage = Stage::new().await?;
    let client = stage.client.clone();
    let mut tasks = Vec::new();
    for mode in [StopMode::Immediate, StopMode::Fast, StopMode::Immediate] {
        let before = steps_done(&client).await?;
        tasks.extend(create_many(&client, 400).await?);
        eventually("the work is under way", RECOVERED_WITHIN, async || {
            Ok((steps_done(&client).await? > before + 20).then_some(()))
        })
        .await?;
        stage.own.cluster.restart(mode)?;
        eventually(
            "the database can be asked again",
            RECOVERED_WITHIN,
            async || Ok(steps_done(&client).await.ok()),
        )
        .await?;
    }
    for task_uuid in &tasks {
        completed(&client, *task_uuid)
            .await
            .with_context(|| stage.logs())?;
    }
    let [one, other] = &mut stage.workers;
    for process in [&mut stage.server.program, one, other] {
        assert!(process.process().is_some());
        assert!(
            process.terminate(RECOVERED_WITHIN).await?.success(),
            "{}",
            process.log()
        );
    }
    verified(&client).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_lost_in_a_crash_is_never_a_step_done_twice() -> anyhow::Result<()> {
    let mut stage = Stage::new().await?;
    let client = stage.client.clone();
    let tasks = create_many(&client, 200).await?;
    stage.own.cluster.restart(StopMode::Immediate)?;
    for task_uuid in &tasks {
        completed(&client, *task_uuid)
            .await
            .with_context(|| stage.logs())?;
    }
    let twice: i64 = sqlx::query_scalar(
        "select count(*) from (select from tasker.step_transitions where path = 'rOC' group by step_uuid having count(*) > 1) s",
    )
    .fetch_one(client.pool())
    .await?;
    assert_eq!(twice, 0);
    verified(&client).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn queues_purged_and_truncated_under_load_are_filled_again() -> anyhow::Result<()> {
    let database = TestDatabase::with_examples().await?;
    let client = database.client();
    let server = Server::start(database.url(), &[]).await?;
    let worker = Program::worker(
        database.url(),
        &["--concurrency", "2", "--lease-seconds", "2"],
    )?;
    let mut tasks = Vec::new();
    for emptying in [
        "select pgmq.purge_queue('worker_example_queue')",
        "truncate pgmq.q_worker_example_queue",
        "delete from pgmq.q_worker_example_queue where msg_id % 2 = 0",
    ] {
        let before = steps_done(client).await?;
        tasks.extend(create_many(client, 200).await?);
        eventually("the work is under way", RECOVERED_WITHIN, async || {
            Ok((steps_done(client).await? > before + 20).then_some(()))
        })
        .await?;
        database.pool().execute(emptying).await.context(emptying)?;
    }
    for task_uuid in &tasks {
        completed(client, *task_uuid)
            .await
            .with_context(|| format!("{}\n{}", server.program.log(), worker.log()))?;
    }
    verified(client).await
}

#[tokio::test]
async fn a_queue_that_was_dropped_is_made_again_with_its_messages() -> anyhow::Result<()> {
    let database = TestDatabase::with_examples().await?;
    let client = database.client();
    let task_uuid = create(client, "example", "diamond_workflow", &json!({"n": 3})).await?;
    database
        .pool()
        .execute("select pgmq.drop_queue('worker_example_queue')")
        .await?;
    assert_eq!(
        client
            .create_task(&NewTask {
                template_name: "diamond_workflow".to_owned(),
                namespace: "example".to_owned(),
                ..NewTask::default()
            })
            .await
            .err()
            .and_then(|error| error.code().map(str::to_owned))
            .as_deref(),
        Some("TK030")
    );
    let _server = Server::start(database.url(), &[]).await?;
    let _worker = Program::worker(database.url(), &[])?;
    completed(client, task_uuid).await?;
    verified(client).await
}

#[tokio::test]
async fn readiness_follows_the_database_away_and_back() -> anyhow::Result<()> {
    let mut own = OwnCluster::start().await?;
    let server = Server::start(&own.url(), &[]).await?;
    for path in ["/health", "/health/ready", "/health/live"] {
        assert_eq!(server.get(path).await?.status, 200, "{path}");
    }
    own.cluster.stop(StopMode::Immediate)?;
    for path in ["/health", "/health/ready"] {
        let away = server.get(path).await?;
        assert_eq!(away.status, 503, "{path}");
        assert_eq!(away.body["checks"][0]["ok"], false);
    }
    assert_eq!(
        server.get("/health/live").await?.status,
        200,
        "the process itself is well"
    );
    let refused = server
        .post("/v1/tasks", &json!({"template_name": "x"}))
        .await?;
    assert_eq!(
        (refused.status, refused.retry_after.as_deref()),
        (503, Some("1"))
    );
    own.cluster.start()?;
    eventually(
        "the server is ready again by itself",
        RECOVERED_WITHIN,
        async || Ok((server.get("/health/ready").await?.status == 200).then_some(())),
    )
    .await
}

#[tokio::test]
async fn a_server_that_starts_before_the_database_becomes_ready_with_it() -> anyhow::Result<()> {
    let mut own = OwnCluster::start().await?;
    own.cluster.stop(StopMode::Fast)?;
    let server = Server::start(&own.url(), &[]).await?;
    assert_eq!(server.get("/health/ready").await?.status, 503);
    own.cluster.start()?;
    eventually("the server is ready", RECOVERED_WITHIN, async || {
        Ok((server.get("/health/ready").await?.status == 200).then_some(()))
    })
    .await
}

#[tokio::test]
async fn a_worker_that_starts_before_the_database_begins_with_it() -> anyhow::Result<()> {
    let mut own = OwnCluster::start().await?;
    let client = Client::connect(&own.url(), ConnectOptions::default()).await?;
    examples::register(&client).await?;
    let task_uuid = create(&client, "example", "diamond_workflow", &json!({})).await?;
    own.cluster.stop(StopMode::Fast)?;
    let mut early = Program::worker(&own.url(), &[])?;
    eventually(
        "the worker says that it waits",
        RECOVERED_WITHIN,
        async || Ok(early.log().contains("waits for the database").then_some(())),
    )
    .await?;
    own.cluster.start()?;
    completed(&client, task_uuid)
        .await
        .with_context(|| early.log())?;
    assert!(early.terminate(RECOVERED_WITHIN).await?.success());
    Ok(())
}

#[tokio::test]
async fn a_listener_for_wake_ups_outlives_a_restart_and_tells_of_it() -> anyhow::Result<()> {
    let mut own = OwnCluster::start().await?;
    let client = Client::connect(&own.url(), ConnectOptions::default()).await?;
    let mut wake_ups = client.wake_ups(&["example".to_owned(), "shop".to_owned()]);
    let notify = "select pg_notify('tasker_ready_shop', '')";
    let url = own.url();
    let notified = async |url: &str| PgConnection::connect(url).await?.execute(notify).await;
    assert_eq!(
        tokio::time::timeout(RECOVERED_WITHIN, wake_ups.next()).await?,
        WakeUp::Connected
    );
    notified(&url).await?;
    assert_eq!(
        tokio::time::timeout(RECOVERED_WITHIN, wake_ups.next()).await?,
        WakeUp::Notified
    );

    own.cluster.restart(StopMode::Immediate)?;
    let again = tokio::time::timeout(RECOVERED_WITHIN, wake_ups.next()).await?;
    assert_eq!(
        again,
        WakeUp::Connected,
        "notifications may have been missed"
    );
    notified(&url).await?;
    assert_eq!(
        tokio::time::timeout(RECOVERED_WITHIN, wake_ups.next()).await?,
        WakeUp::Notified
    );
    Ok(())
}

#[tokio::test]
async fn a_listener_whose_session_is_ended_connects_again() -> anyhow::Result<()> {
    let database = TestDatabase::new().await?;
    let mut wake_ups = database.client().wake_ups(&["example".to_owned()]);
    assert_eq!(wake_ups.next().await, WakeUp::Connected);
    let ended: bool = sqlx::query_scalar("select bool_and(pg_terminate_backend(pid)) from pg_stat_activity where datname = current_database() and query ilike 'listen%'")
        .fetch_one(database.pool())
        .await?;
    assert!(ended);
    assert_eq!(
        tokio::time::timeout(RECOVERED_WITHIN, wake_ups.next()).await?,
        WakeUp::Connected
    );
    Ok(())
}
