//! A database dumped and restored into an empty cluster, with PGMQ in both its forms: every task is kept, and the work goes on there.

use std::path::PathBuf;
use std::process::Output;
use std::time::Duration;

use anyhow::ensure;
use serde_json::{Value, json};
use sqlx::{Connection, Executor, PgConnection, PgPool};
use tasker_client::{ClaimRequest, Client, ConnectOptions, Definition, NewTask};
use tasker_tests::contents::contents;
use tasker_tests::following::{completed, create, new_task, step, verified};
use tasker_tests::partitions::{have_one_shape, ranges};
use tasker_tests::weeks::{
    TWO, WEEKS, create_two, filled_over_weeks, move_clock, states, work_off,
};
use tasker_tests::{OwnCluster, Program, ScratchFolder, bin_dir, bin_dir_with_pgmq, examples};
use tokio::process::Command;
use uuid::Uuid;

/// The tasks of the dumped database, by what they were doing.
struct Tasks {
    finished: Uuid,
    running: Uuid,
    waiting_for_retry: Uuid,
    ready: Uuid,
    pending: Uuid,
    cancelled: Uuid,
}

impl Tasks {
    fn to_complete(&self) -> [Uuid; 4] {
        [
            self.running,
            self.waiting_for_retry,
            self.ready,
            self.pending,
        ]
    }
}

async fn prepared(own: &OwnCluster) -> anyhow::Result<Client> {
    own.cluster.create_database("tasker", None)?;
    let client = Client::connect(&own.url(), ConnectOptions::default()).await?;
    tasker_client::init(&client).await?;
    Ok(client)
}

fn keyed() -> anyhow::Result<NewTask> {
    Ok(NewTask {
        idempotency_key: Some("kept".to_owned()),
        ..new_task("example", "diamond_workflow", &json!({"n": 3}))?
    })
}

async fn filled(own: &OwnCluster, client: &Client) -> anyhow::Result<Tasks> {
    examples::register(client).await?;
    let mut worker = Program::worker(&own.url(), &[])?;
    let finished = client.create_task(&keyed()?).await?;
    completed(client, finished).await?;
    worker.kill().await?;

    let claimed = |handler: &str| ClaimRequest {
        worker_id: "gone".to_owned(),
        namespaces: vec!["example".to_owned()],
        max_steps: 1,
        lease: Duration::from_secs(2),
        handlers: Some(vec![handler.to_owned()]),
    };
    let waiting_for_retry = create(client, "example", "failures", &json!({"times": 1})).await?;
    let flaky = client.claim_steps(&claimed("example.fail_times")).await?;
    sqlx::query("select tasker.fail_step($1, $2, $3, retry_after => interval '2 seconds')")
        .bind(flaky[0].step_uuid)
        .bind(flaky[0].attempt)
        .bind(json!({"message": "not yet"}))
        .execute(client.pool())
        .await?;
    let running = create(client, "example", "linear_workflow", &json!({})).await?;
    ensure!(client.claim_steps(&claimed("math.square")).await?.len() == 1);
    let ready = create(client, "example", "complex_dag", &json!({})).await?;
    let pending: Uuid = sqlx::query_scalar("select tasker.create_task('linear_workflow', 'example', run_at => now() + interval '2 seconds')")
        .fetch_one(client.pool())
        .await?;
    let cancelled = create(client, "example", "linear_workflow", &json!({})).await?;
    client.cancel_task(cancelled, None).await?;
    // Its role may not be there yet when the grant is restored.
    sqlx::query("create role tenant_of_a_dump")
        .execute(client.pool())
        .await?;
    sqlx::query("select tasker.grant_namespace('tenant_of_a_dump', 'example', 'read')")
        .execute(client.pool())
        .await?;
    sqlx::query("select tasker.create_schedule('kept', '@yearly', 'linear_workflow', 'example')")
        .execute(client.pool())
        .await?;
    Ok(Tasks {
        finished,
        running,
        waiting_for_retry,
        ready,
        pending,
        cancelled,
    })
}

fn succeeded(output: Output) -> anyhow::Result<Output> {
    ensure!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(output)
}

async fn dump_and_restore(from: &OwnCluster, to: &OwnCluster) -> anyhow::Result<()> {
    let scratch = ScratchFolder::new()?;
    let file = scratch.path().join("dump.sql");
    let dump = Command::new(from.cluster.program("pg_dump"))
        .arg("--file")
        .arg(&file)
        .arg(from.url())
        .output()
        .await?;
    succeeded(dump)?;
    to.cluster.create_database("tasker", None)?;
    let restore = Command::new(to.cluster.program("psql"))
        .args(["--no-psqlrc", "--quiet", "-v", "ON_ERROR_STOP=1", "--file"])
        .arg(&file)
        .arg(to.url())
        .output()
        .await?;
    succeeded(restore)?;
    Ok(())
}

async fn everything_is_kept_and_the_work_goes_on(
    bin_dir: PathBuf,
    pgmq_is_an_extension: bool,
) -> anyhow::Result<()> {
    let from = OwnCluster::start_empty(bin_dir.clone())?;
    let old = prepared(&from).await?;
    let has_extension: bool =
        sqlx::query_scalar("select exists (select from pg_extension where extname = 'pgmq')")
            .fetch_one(old.pool())
            .await?;
    assert_eq!(has_extension, pgmq_is_an_extension);
    let tasks = filled(&from, &old).await?;
    let before = contents(old.pool()).await?;

    let to = OwnCluster::start_empty(bin_dir)?;
    dump_and_restore(&from, &to).await?;
    let client = Client::connect(&to.url(), ConnectOptions::default()).await?;
    assert_eq!(contents(client.pool()).await?, before);
    verified(&client).await?;

    assert_eq!(client.get_task(tasks.finished).await?.state, "complete");
    assert_eq!(client.get_task(tasks.cancelled).await?.state, "cancelled");
    assert_eq!(
        client.create_task(&keyed()?).await?,
        tasks.finished,
        "the idempotency key is kept"
    );
    let _worker = Program::worker(&to.url(), &[])?;
    // What a server would do.
    let maintenance = tokio::spawn({
        let client = client.clone();
        async move {
            while client.run_maintenance(1000).await.is_ok() {
                tokio::task::yield_now().await;
            }
        }
    });
    for task_uuid in tasks.to_complete() {
        completed(&client, task_uuid).await?;
    }
    maintenance.abort();
    let taken_over = step(&client, tasks.running, "linear_step_1").await?;
    assert_eq!(
        taken_over.attempts_used, 2,
        "the claim of the old cluster counts"
    );

    // Sequences go on where they were: nothing new meets anything old.
    let other =
        "{name: after, version: 1.0.0, steps: [{name: a, handler: {callable: example.echo}}]}";
    client
        .register_template(Definition::Yaml(other), None)
        .await?;
    let new = create(&client, "example", "linear_workflow", &json!({})).await?;
    completed(&client, new).await?;
    let same_number: i64 = sqlx::query_scalar(
        "select (select count(*) - count(distinct seq) from tasker.step_transitions) + (select count(*) - count(distinct seq) from tasker.task_transitions)",
    )
    .fetch_one(client.pool())
    .await?;
    assert_eq!(same_number, 0);
    verified(&client).await
}

#[tokio::test]
async fn a_dump_with_pgmq_as_plain_sql_restores_into_an_empty_cluster() -> anyhow::Result<()> {
    everything_is_kept_and_the_work_goes_on(bin_dir()?, false).await
}

#[tokio::test]
async fn a_dump_with_pgmq_as_an_extension_restores_into_an_empty_cluster() -> anyhow::Result<()> {
    everything_is_kept_and_the_work_goes_on(bin_dir_with_pgmq()?, true).await
}

#[tokio::test]
async fn a_dump_in_the_custom_format_restores_the_same() -> anyhow::Result<()> {
    let from = OwnCluster::start_empty(bin_dir()?)?;
    let old = prepared(&from).await?;
    let tasks = filled(&from, &old).await?;
    let to = OwnCluster::start_empty(bin_dir()?)?;
    let scratch = ScratchFolder::new()?;
    let file = scratch.path().join("dump.custom");
    let dump = Command::new(from.cluster.program("pg_dump"))
        .args(["--format", "custom", "--file"])
        .arg(&file)
        .arg(from.url())
        .output()
        .await?;
    succeeded(dump)?;
    to.cluster.create_database("tasker", None)?;
    let restore = Command::new(to.cluster.program("pg_restore"))
        .args(["--exit-on-error", "--dbname"])
        .arg(to.url())
        .arg(&file)
        .output()
        .await?;
    succeeded(restore)?;
    let client = Client::connect(&to.url(), ConnectOptions::default()).await?;
    assert_eq!(contents(old.pool()).await?, contents(client.pool()).await?);
    assert_eq!(client.get_task(tasks.finished).await?.state, "complete");
    verified(&client).await
}

/// Lets go what is over; what stays of the oldest week is in other tables then.
async fn exchanged(session: &mut PgConnection) -> anyhow::Result<()> {
    let exchange = "select tasker._drop_partitions(clock_timestamp())";
    let dropped: i64 = sqlx::query_scalar(exchange).fetch_one(session).await?;
    ensure!(dropped == 1);
    Ok(())
}

async fn the_partitions_are_kept_and_new_ones_are_made(bin_dir: PathBuf) -> anyhow::Result<()> {
    let from = OwnCluster::start_empty(bin_dir.clone())?;
    let old = prepared(&from).await?;
    let mut session = PgConnection::connect(&from.url()).await?;
    let unfinished = filled_over_weeks(&mut session).await?;
    exchanged(&mut session).await?;
    let (before, ranges_before) = (contents(old.pool()).await?, ranges(&mut session).await?);
    assert!(ranges_before.len() >= WEEKS.len(), "{ranges_before:?}");
    assert_eq!(
        states(&mut session).await?,
        json!({"complete": 3, "error": 4, "waiting_for_retry": 4, "pending": 4, "steps_in_process": 8}),
        "one has left"
    );

    let to = OwnCluster::start_empty(bin_dir)?;
    dump_and_restore(&from, &to).await?;
    let client = Client::connect(&to.url(), ConnectOptions::default()).await?;
    let mut session = PgConnection::connect(&to.url()).await?;
    assert_eq!(contents(client.pool()).await?, before);
    assert_eq!(ranges(&mut session).await?, ranges_before);
    have_one_shape(&mut session).await?;
    verified(&client).await?;

    // Everything goes on: retries and takeovers are due an hour later, and new work comes in between.
    let done = json!({"status": "complete", "result": {"n": 2}});
    let set = "select tasker._set_now(clock_timestamp() + interval '1 hour')";
    session.execute(set).await?;
    create_two(&mut session).await?;
    session
        .execute("select * from tasker.run_maintenance()")
        .await?;
    work_off(&mut session, &done).await?;
    for task_uuid in &unfinished {
        let state = client.get_task(*task_uuid).await?.state;
        assert_eq!(state, "complete", "{task_uuid}");
    }
    assert_eq!(
        states(&mut session).await?,
        json!({"complete": 3 + unfinished.len() + 1, "error": 4})
    );

    // New partitions: for a week to come, for one between the old ones, and ahead of time.
    for weeks in [3, -7] {
        let before = ranges(&mut session).await?;
        move_clock(&mut session, weeks).await?;
        let task_uuid = create_two(&mut session).await?;
        assert_eq!(work_off(&mut session, &done).await?, 2);
        assert_eq!(client.get_task(task_uuid).await?.state, "complete");
        assert_eq!(ranges(&mut session).await?.len(), before.len() + 1);
    }
    let ahead = "select tasker._make_partitions_ahead(now() + interval '20 weeks')";
    let made: i64 = sqlx::query_scalar(ahead).fetch_one(&mut session).await?;
    assert_eq!(made, 1);
    have_one_shape(&mut session).await?;
    verified(&client).await
}

#[tokio::test]
async fn weeks_of_tasks_are_restored_with_pgmq_as_plain_sql() -> anyhow::Result<()> {
    the_partitions_are_kept_and_new_ones_are_made(bin_dir()?).await
}

#[tokio::test]
async fn weeks_of_tasks_are_restored_with_pgmq_as_an_extension() -> anyhow::Result<()> {
    the_partitions_are_kept_and_new_ones_are_made(bin_dir_with_pgmq()?).await
}

/// Reads events on from a cursor until there are no more; gives what tells each from the others, and the cursor of the last.
async fn events_after(
    pool: &PgPool,
    mut cursor: Option<String>,
    limit: i32,
    pages: usize,
) -> anyhow::Result<(Vec<Value>, Option<String>)> {
    let mut events = Vec::new();
    for _ in 0..pages {
        let page: Vec<(String, Value)> = sqlx::query_as(
            "select cursor, jsonb_build_array(task_uuid, step_uuid, event, at) from tasker.list_events(after => $1, \"limit\" => $2)",
        )
        .bind(&cursor)
        .bind(limit)
        .fetch_all(pool)
        .await?;
        let Some((last, _)) = page.last() else { break };
        cursor = Some(last.clone());
        events.extend(page.into_iter().map(|(_, event)| event));
    }
    Ok((events, cursor))
}

/// Transaction ids of the old cluster say nothing in the new one.
#[tokio::test]
async fn a_reader_of_events_goes_on_in_the_restored_cluster() -> anyhow::Result<()> {
    let from = OwnCluster::start_empty(bin_dir()?)?;
    let old = prepared(&from).await?;
    old.register_template(Definition::Yaml(TWO), None).await?;
    let mut session = PgConnection::connect(&from.url()).await?;
    for _ in 0..6 {
        create_two(&mut session).await?;
        // Ids are given out quickly here, slowly there.
        for _ in 0..50 {
            session.execute("select pg_current_xact_id()").await?;
        }
    }
    old.run_maintenance(100).await?;
    let (all, _) = events_after(old.pool(), None, 1000, 10).await?;
    let (read, cursor) = events_after(old.pool(), None, 5, 3).await?;
    assert_eq!((all.len(), read.as_slice()), (6 * 4, &all[..15]));

    let to = OwnCluster::start_empty(bin_dir()?)?;
    dump_and_restore(&from, &to).await?;
    let client = Client::connect(&to.url(), ConnectOptions::default()).await?;
    let (rest, cursor) = events_after(client.pool(), cursor, 5, 100).await?;
    let again = all.len() - 15;
    assert_eq!(
        rest[rest.len() - again..],
        all[15..],
        "nothing is missed, in the old order"
    );
    assert!(
        rest[..rest.len() - again]
            .iter()
            .all(|event| read.contains(event))
    );

    let mut session = PgConnection::connect(&to.url()).await?;
    let new = create_two(&mut session).await?;
    let (events, _) = events_after(client.pool(), cursor, 5, 100).await?;
    let tasks: Vec<&Value> = events.iter().map(|event| &event[0]).collect();
    assert_eq!(tasks, vec![&json!(new); 4]);
    Ok(())
}
