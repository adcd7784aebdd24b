//! Workers that die, hang, leave or come back: their steps are taken over, and no attempt is lost or counted twice.

use std::time::Duration;

use serde_json::json;
use tasker_client::{Client, Definition, Step};
use tasker_tests::following::{
    completed, create, ended, new_task, step, step_in_state, times, verified,
};
use tasker_tests::{Program, TestDatabase, eventually};
use uuid::Uuid;

const ENDS_WITHIN: Duration = Duration::from_secs(20);

/// A task whose first step hangs at its first `times` attempts.
async fn hanging(client: &Client, times: i32) -> anyhow::Result<Uuid> {
    create(
        client,
        "example",
        "failures",
        &json!({"kind": "timeout", "times": times}),
    )
    .await
}

async fn running(client: &Client, task_uuid: Uuid) -> anyhow::Result<Step> {
    step_in_state(client, task_uuid, "flaky", "in_progress").await
}

fn worker(database: &TestDatabase, name: &str, more: &[&str]) -> anyhow::Result<Program> {
    let arguments = [&["--worker-id", name, "--lease-seconds", "2"], more].concat();
    Program::worker(database.url(), &arguments)
}

#[tokio::test]
async fn a_worker_killed_in_mid_step_is_succeeded_by_another() -> anyhow::Result<()> {
    let database = TestDatabase::with_examples().await?;
    let client = database.client();
    let mut first = worker(&database, "first", &[])?;
    let task_uuid = hanging(client, 1).await?;
    let held = running(client, task_uuid).await?;
    assert_eq!(
        (held.worker_id.as_deref(), held.attempt),
        (Some("first"), 1)
    );
    first.kill().await?;
    let _second = worker(&database, "second", &[])?;
    completed(client, task_uuid).await?;

    let taken_over = step(client, task_uuid, "flaky").await?;
    assert_eq!(taken_over.worker_id.as_deref(), Some("second"));
    assert_eq!((taken_over.attempt, taken_over.attempts_used), (2, 2));
    let starts: Vec<_> = client
        .step_history(taken_over.step_uuid)
        .await?
        .into_iter()
        .filter(|row| row.event == "start")
        .map(|row| {
            (
                row.actor,
                row.attempt,
                row.metadata.map(|metadata| metadata.get().to_owned()),
            )
        })
        .collect();
    assert_eq!(starts.len(), 2);
    assert_eq!(
        (starts[0].0.as_deref(), starts[0].1),
        (Some("first"), Some(1))
    );
    assert_eq!(
        (starts[1].0.as_deref(), starts[1].1),
        (Some("second"), Some(2))
    );
    assert!(
        starts[1]
            .2
            .as_deref()
            .is_some_and(|why| why.contains("lease_expired") && why.contains("first")),
        "{starts:?}"
    );
    verified(client).await
}

#[tokio::test]
async fn a_step_that_kills_every_worker_ends_as_an_error_with_a_dead_letter() -> anyhow::Result<()>
{
    let database = TestDatabase::with_examples().await?;
    let client = database.client();
    let task_uuid = create(
        client,
        "example",
        "failures",
        &json!({"kind": "exit", "times": 9}),
    )
    .await?;
    let names = ["first", "second", "third"];
    let mut workers = Vec::new();
    for (index, name) in names.iter().enumerate() {
        workers.push(worker(&database, name, &[])?);
        let attempt = index as i32 + 1;
        eventually("the worker has claimed the step", ENDS_WITHIN, async || {
            let step = step(client, task_uuid, "flaky").await?;
            Ok((step.attempt == attempt && step.worker_id.as_deref() == Some(name)).then_some(()))
        })
        .await?;
    }
    // The one that has to find that no attempt is left is given nothing.
    let _last = worker(&database, "last", &[])?;
    let task = ended(client, task_uuid).await?;
    let flaky = step(client, task_uuid, "flaky").await?;
    assert_eq!(
        (
            task.state.as_str(),
            flaky.state.as_str(),
            flaky.attempts_used
        ),
        ("error", "error", 3)
    );
    assert!(
        flaky
            .error
            .is_some_and(|error| error.get().contains("lease_expired"))
    );
    let reasons: Vec<String> = sqlx::query_scalar("select reason from tasker.dead_letters")
        .fetch_all(database.pool())
        .await?;
    assert_eq!(reasons, ["worker_unavailable"]);
    verified(client).await
}

#[tokio::test]
async fn a_worker_whose_process_ended_once_is_succeeded_and_the_step_completes()
-> anyhow::Result<()> {
    let database = TestDatabase::with_examples().await?;
    let client = database.client();
    let _first = worker(&database, "first", &[])?;
    let task_uuid = create(
        client,
        "example",
        "failures",
        &json!({"kind": "exit", "times": 1}),
    )
    .await?;
    running(client, task_uuid).await?;
    let _second = worker(&database, "second", &[])?;
    completed(client, task_uuid).await?;
    assert_eq!(step(client, task_uuid, "flaky").await?.attempts_used, 2);
    verified(client).await
}

#[tokio::test]
async fn a_worker_that_is_told_to_end_gives_its_steps_back_with_their_attempts()
-> anyhow::Result<()> {
    let database = TestDatabase::with_examples().await?;
    let client = database.client();
    // A lease so long that nothing but giving back frees the step.
    let mut leaving = Program::worker(
        database.url(),
        &[
            "--worker-id",
            "leaving",
            "--lease-seconds",
            "3000",
            "--shutdown-grace-seconds",
            "0",
        ],
    )?;
    let tasks = [hanging(client, 1).await?, hanging(client, 1).await?];
    for task_uuid in tasks {
        running(client, task_uuid).await?;
    }
    let status = leaving.terminate(ENDS_WITHIN).await?;
    assert!(status.success(), "{}", leaving.log());
    for task_uuid in tasks {
        let given_back = step(client, task_uuid, "flaky").await?;
        assert_eq!(
            (given_back.state.as_str(), given_back.attempts_used),
            ("enqueued", 0)
        );
        assert_eq!(
            given_back.attempt, 2,
            "the number rises, so that the old holder is fenced off"
        );
        let history = client.step_history(given_back.step_uuid).await?;
        assert_eq!(times(&history, "release"), 1);
    }
    verified(client).await
}

#[tokio::test]
async fn a_worker_that_is_told_to_end_lets_running_steps_finish_first() -> anyhow::Result<()> {
    let database = TestDatabase::with_examples().await?;
    let client = database.client();
    let mut leaving = worker(&database, "leaving", &[])?;
    let mut tasks = Vec::new();
    for _ in 0..20 {
        tasks.push(create(client, "example", "complex_dag", &json!({})).await?);
    }
    step_in_state(client, tasks[0], "dag_init", "complete").await?;
    assert!(leaving.terminate(ENDS_WITHIN).await?.success());
    let claimed: i64 =
        sqlx::query_scalar("select count(*) from tasker.steps where state = 'in_progress'")
            .fetch_one(database.pool())
            .await?;
    assert_eq!(claimed, 0, "it left nothing under a lease");
    verified(client).await?;
    let _next = worker(&database, "next", &[])?;
    for task_uuid in tasks {
        completed(client, task_uuid).await?;
    }
    verified(client).await
}

#[tokio::test]
async fn a_cancelled_task_frees_the_worker_that_runs_its_step() -> anyhow::Result<()> {
    let database = TestDatabase::with_examples().await?;
    let client = database.client();
    let _worker = worker(&database, "only", &["--concurrency", "1"])?;
    let task_uuid = hanging(client, 9).await?;
    running(client, task_uuid).await?;
    let next = create(client, "example", "diamond_workflow", &json!({})).await?;
    assert!(client.cancel_task(task_uuid, Some("it hangs")).await?);
    completed(client, next).await?;
    assert_eq!(step(client, task_uuid, "flaky").await?.state, "cancelled");
    verified(client).await
}

#[tokio::test]
async fn a_worker_on_a_database_without_tasker_ends_and_says_so() -> anyhow::Result<()> {
    let database = TestDatabase::empty().await?;
    let mut worker = Program::worker(database.url(), &[])?;
    assert!(!worker.ended(ENDS_WITHIN).await?.success());
    assert!(worker.log().contains("tasker"), "{}", worker.log());
    Ok(())
}

#[tokio::test]
async fn an_attempt_that_runs_past_its_timeout_is_failed_and_tried_again() -> anyhow::Result<()> {
    let database = TestDatabase::with_examples().await?;
    let client = database.client();
    let yaml = "{name: slow, namespace: example, version: 1.0.0, steps: [
      {name: flaky, handler: {callable: example.fail_times}, timeout_seconds: 1, retry: {max_attempts: 2, backoff: none}}]}";
    client
        .register_template(Definition::Yaml(yaml), None)
        .await?;
    let _worker = worker(&database, "only", &[])?;
    for (times, state) in [(1, "complete"), (9, "error")] {
        let task_uuid = create(
            client,
            "example",
            "slow",
            &json!({"kind": "timeout", "times": times}),
        )
        .await?;
        assert_eq!(ended(client, task_uuid).await?.state, state);
        let flaky = step(client, task_uuid, "flaky").await?;
        assert_eq!((flaky.state.as_str(), flaky.attempts_used), (state, 2));
        if state == "error" {
            let error = flaky
                .error
                .map(|error| error.get().to_owned())
                .unwrap_or_default();
            assert!(error.contains("timed_out"), "{error}");
        }
    }
    verified(client).await
}

#[tokio::test]
async fn steps_behind_a_handler_that_takes_long_go_to_a_worker_with_a_free_place()
-> anyhow::Result<()> {
    let database = TestDatabase::with_examples().await?;
    let client = database.client();
    // Short handlers first, so that the worker learns to claim ahead of its place.
    let short = vec![new_task("example", "linear_workflow", &json!({}))?; 200];
    let mut tasks = client.create_tasks(&short).await?;
    let long = hanging(client, 1).await?;
    tasks.extend(client.create_tasks(&short).await?);
    let arguments = [
        "--worker-id",
        "first",
        "--concurrency",
        "1",
        "--lease-seconds",
        "3000",
    ];
    let _first = Program::worker(database.url(), &arguments)?;
    running(client, long).await?;
    let given_back = async || {
        let count: i64 = sqlx::query_scalar(
            "select count(*) from tasker.steps where attempt > 1 and attempts_used < attempt",
        )
        .fetch_one(database.pool())
        .await?;
        Ok((count > 0).then_some(count))
    };
    eventually("steps are given back", ENDS_WITHIN, given_back).await?;
    let _second = worker(&database, "second", &[])?;
    for task in tasks {
        completed(client, task.task_uuid).await?;
    }
    let held = running(client, long).await?;
    assert_eq!(
        (held.worker_id.as_deref(), held.attempts_used),
        (Some("first"), 1)
    );
    verified(client).await
}
