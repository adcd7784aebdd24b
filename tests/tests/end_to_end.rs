//! The real server, worker and command line on a real database: the example workflows from their creation to their end.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use sqlx::Executor;
use tasker_client::NewTask;
use tasker_tests::following::{completed, verified};
use tasker_tests::http::answer;
use tasker_tests::{Program, Server, Stage, TestDatabase};
use tokio::process::Command;
use uuid::Uuid;

/// Six to the power of 64: too long for any machine's integer.
const SIX_TO_64: &str = "63340286662973277706162286946811886609896461828096";

#[tokio::test]
async fn the_call_of_the_documentation_creates_a_task_that_completes() -> anyhow::Result<()> {
    let stage = Stage::new(&[]).await?;
    let server = Server::start(stage.database.url(), &[]).await?;
    let request = server
        .request(reqwest::Method::POST, "/v1/tasks")
        .header("Content-Type", "application/json")
        .body(r#"{"template_name": "linear_workflow", "namespace": "example"}"#);
    let created = answer(request).await?;
    assert_eq!(created.status, 201, "{created:?}");
    assert_eq!(
        created.body["context"],
        json!({"n": 6}),
        "the schema's default is filled in"
    );
    let task_uuid: Uuid = created.text("task_uuid").parse()?;
    assert_eq!(created.location, Some(format!("/v1/tasks/{task_uuid}")));

    completed(stage.client(), task_uuid).await?;
    let task = server.get(&format!("/v1/tasks/{task_uuid}")).await?;
    assert_eq!((task.status, task.text("state")), (200, "complete"));
    assert_eq!(
        (&task.body["steps_total"], &task.body["steps_done"]),
        (&json!(4), &json!(4))
    );
    let steps = server
        .get(&format!("/v1/tasks/{task_uuid}/workflow_steps"))
        .await?;
    let results: Vec<_> = steps.body["items"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|step| step["result"]["n"].clone())
        .collect();
    assert_eq!(results, ["36", "1296", "1679616", "2821109907456"]);
    verified(stage.client()).await
}

#[tokio::test]
async fn curl_itself_gets_a_task() -> anyhow::Result<()> {
    let database = TestDatabase::with_examples().await?;
    let server = Server::start(database.url(), &[]).await?;
    let body = r#"{"template_name": "linear_workflow", "namespace": "example"}"#;
    let output = Command::new("curl")
        .args([
            "-sS",
            "-X",
            "POST",
            &format!("{}/v1/tasks", server.url),
            "-H",
            "Content-Type: application/json",
            "-d",
            body,
        ])
        .output()
        .await?;
    let task: Value = serde_json::from_slice(&output.stdout)?;
    let task_uuid: Uuid = task["task_uuid"].as_str().unwrap_or_default().parse()?;
    assert_eq!(
        database.client().get_task(task_uuid).await?.template_name,
        "linear_workflow"
    );
    Ok(())
}

#[tokio::test]
async fn a_task_created_by_an_application_in_its_own_transaction_runs_once_that_commits()
-> anyhow::Result<()> {
    let stage = Stage::new(&[]).await?;
    let client = stage.client();
    let mut transaction = stage.database.pool().begin().await?;
    transaction
        .execute("create table orders as select 1 as order_id")
        .await?;
    let task_uuid: Uuid = sqlx::query_scalar(
        "select tasker.create_task('diamond_workflow', 'example', '{\"n\": 3}')",
    )
    .fetch_one(&mut *transaction)
    .await?;
    assert_eq!(
        client
            .get_task(task_uuid)
            .await
            .err()
            .and_then(|error| error.code().map(str::to_owned))
            .as_deref(),
        Some("TK001")
    );
    transaction.commit().await?;
    completed(client, task_uuid).await?;
    assert_eq!(
        stage.result(task_uuid, "diamond_end").await?,
        json!({"n": "43046721"})
    );
    verified(client).await
}

#[tokio::test]
async fn a_task_created_on_the_command_line_runs() -> anyhow::Result<()> {
    let stage = Stage::new(&[]).await?;
    let arguments = [
        "task",
        "create",
        "diamond_workflow",
        "-n",
        "example",
        "-c",
        "{\"n\": \"-3\"}",
    ];
    // The schema wants a whole number; a text that holds one is refused before anything is made.
    let refused = Program::run("tasker-ctl", stage.database.url(), &arguments).await?;
    assert_eq!(refused.status.code(), Some(5));
    let arguments = [
        "task",
        "create",
        "diamond_workflow",
        "-n",
        "example",
        "-c",
        "{\"n\": -3}",
    ];
    let output = Program::run("tasker-ctl", stage.database.url(), &arguments).await?;
    assert!(output.status.success(), "{output:?}");
    let task_uuid: Uuid = String::from_utf8(output.stdout)?.trim().parse()?;
    completed(stage.client(), task_uuid).await?;
    assert_eq!(
        stage.result(task_uuid, "diamond_start").await?,
        json!({"n": "9"})
    );
    assert_eq!(
        stage.result(task_uuid, "diamond_end").await?,
        json!({"n": "43046721"})
    );
    Ok(())
}

#[tokio::test]
async fn graphs_of_every_shape_give_the_exact_number() -> anyhow::Result<()> {
    let stage = Stage::new(&[]).await?;
    for (template, last, number) in [
        ("linear_workflow", "linear_step_4", "2821109907456"),
        ("complex_dag", "dag_finalize", SIX_TO_64),
        ("hierarchical_tree", "tree_final_convergence", SIX_TO_64),
    ] {
        let task_uuid = stage.run("example", template, &json!({})).await?;
        assert_eq!(
            stage.result(task_uuid, last).await?,
            json!({"n": number}),
            "{template}"
        );
    }
    // An integer that no machine's integer holds passes through the context and every result with each of its digits.
    let long: Value = serde_json::from_str("{\"n\": 123456789012345678901234567890}")?;
    let task_uuid = stage.run("example", "linear_workflow", &long).await?;
    let square = json!({"n": "15241578753238836750495351562536198787501905199875019052100"});
    assert_eq!(stage.result(task_uuid, "linear_step_1").await?, square);
    verified(stage.client()).await
}

#[tokio::test]
async fn an_idle_worker_is_woken_by_a_notification_long_before_it_would_ask() -> anyhow::Result<()>
{
    for mode in ["event", "hybrid"] {
        let stage = Stage::new(&["--wake", mode, "--poll-interval-ms", "600000"]).await?;
        // The first task finds a worker that may still be starting; after it the worker is idle.
        stage.run("example", "linear_workflow", &json!({})).await?;
        for _ in 0..3 {
            let begun = Instant::now();
            stage.run("example", "diamond_workflow", &json!({})).await?;
            let took = begun.elapsed();
            assert!(
                took < Duration::from_secs(10),
                "{mode}: it took {} ms",
                took.as_millis()
            );
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_worker_that_cannot_listen_finds_work_by_asking() -> anyhow::Result<()> {
    let stage = Stage::new(&["--wake", "poll", "--poll-interval-ms", "50"]).await?;
    for _ in 0..3 {
        stage.run("example", "diamond_workflow", &json!({})).await?;
    }
    let listening: i64 = sqlx::query_scalar("select count(*) from pg_stat_activity where datname = current_database() and query ilike 'listen%'")
        .fetch_one(stage.database.pool())
        .await?;
    assert_eq!(listening, 0);
    Ok(())
}

#[tokio::test]
async fn several_workers_share_the_work_and_each_step_runs_once() -> anyhow::Result<()> {
    let database = TestDatabase::with_examples().await?;
    let client = database.client();
    let _workers = [
        Program::worker(database.url(), &["--worker-id", "one"])?,
        Program::worker(
            database.url(),
            &["--worker-id", "two", "--concurrency", "2"],
        )?,
    ];
    let task = NewTask {
        template_name: "hierarchical_tree".to_owned(),
        namespace: "example".to_owned(),
        ..NewTask::default()
    };
    for created in client.create_tasks(&vec![task; 100]).await? {
        completed(client, created.task_uuid).await?;
    }
    // One that a busy worker gave back unrun is claimed anew: that isn't counted as an attempt.
    let runs: Vec<(i32, i64)> =
        sqlx::query_as("select attempts_used, count(*) from tasker.steps group by 1 order by 1")
            .fetch_all(database.pool())
            .await?;
    assert_eq!(runs, [(1, 800)]);
    verified(client).await
}
