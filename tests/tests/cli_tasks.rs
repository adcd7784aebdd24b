//! `tasker-ctl task`: tables for people, JSON for programs, and a watch that ends with the task.

use serde_json::{Value, json};
use sqlx::Executor;
use tasker_tests::command::ctl;
use tasker_tests::following::{create, somebody_follows, step_in_state};
use tasker_tests::{Stage, TestDatabase, eventually};
use uuid::Uuid;

const WITHIN: std::time::Duration = std::time::Duration::from_secs(20);

#[tokio::test]
async fn tasks_are_created_shown_listed_and_cancelled() -> anyhow::Result<()> {
    let database = TestDatabase::with_examples().await?;
    let create = [
        "task",
        "create",
        "linear_workflow",
        "-n",
        "example",
        "-c",
        "{\"n\": 3}",
        "--tag",
        "red",
        "--priority",
        "-5",
        "--idempotency-key",
        "k",
        "--reason",
        "a test",
    ];
    let created = ctl(&database, &create).await?;
    assert_eq!(created.code, Some(0), "{}", created.stderr);
    let task_uuid: Uuid = created.stdout.trim().parse()?;
    let again = ctl(&database, &[&create[..], &["-o", "json"]].concat()).await?;
    assert_eq!(
        again.json()?,
        json!({"task_uuid": task_uuid, "created": false})
    );
    assert!(again.stderr.contains("used before"), "{}", again.stderr);

    let uuid = task_uuid.to_string();
    let shown = ctl(&database, &["task", "get", &uuid]).await?.stdout;
    for part in [
        "example/linear_workflow 1.0.0",
        "steps_in_process",
        "red",
        "linear_step_4",
        "pending",
        "a test",
    ] {
        assert!(shown.contains(part), "{part} is not in:\n{shown}");
    }
    let task = ctl(&database, &["task", "get", &uuid, "-o", "json"])
        .await?
        .json()?;
    assert_eq!(
        (
            &task["context"],
            &task["priority"],
            &task["steps"][1]["dependencies"]
        ),
        (&json!({"n": 3}), &json!(-5), &json!(["linear_step_1"]))
    );

    ctl(
        &database,
        &["task", "create", "diamond_workflow", "-n", "example"],
    )
    .await?;
    let of_red = ctl(
        &database,
        &[
            "task",
            "list",
            "--tag",
            "red",
            "--state",
            "steps_in_process",
            "--context-contains",
            "{\"n\": 3}",
            "-o",
            "json",
        ],
    )
    .await?
    .json()?;
    assert_eq!(of_red.as_array().map(Vec::len), Some(1));
    let all = ctl(&database, &["task", "list", "-n", "example"])
        .await?
        .stdout;
    assert!(
        all.contains("STATE") && all.contains(&uuid) && all.contains("example/diamond_workflow"),
        "{all}"
    );

    let cancelled = ctl(&database, &["task", "cancel", &uuid, "--reason", "enough"]).await?;
    assert_eq!(
        (cancelled.code, cancelled.stdout.trim()),
        (Some(0), format!("{uuid} cancelled").as_str())
    );
    let again = ctl(&database, &["task", "cancel", &uuid, "-o", "json"]).await?;
    assert_eq!(again.json()?["cancelled"], false);
    Ok(())
}

#[tokio::test]
async fn a_context_comes_from_a_file() -> anyhow::Result<()> {
    let database = TestDatabase::with_examples().await?;
    let order = format!(
        "@{}/../examples/demo/order.json",
        env!("CARGO_MANIFEST_DIR")
    );
    let created = ctl(
        &database,
        &[
            "task",
            "create",
            "order_fulfillment",
            "-n",
            "shop",
            "-c",
            &order,
        ],
    )
    .await?;
    assert_eq!(created.code, Some(0), "{}", created.stderr);
    let task = ctl(
        &database,
        &["task", "get", created.stdout.trim(), "-o", "json"],
    )
    .await?
    .json()?;
    assert_eq!(task["context"]["order_id"], "A-1001");
    Ok(())
}

#[tokio::test]
async fn a_watch_tells_each_change_in_a_line_and_ends_with_the_task() -> anyhow::Result<()> {
    let stage = Stage::new(&[]).await?;
    let watched = ctl(
        &stage.database,
        &[
            "task",
            "create",
            "diamond_workflow",
            "-n",
            "example",
            "-c",
            "{\"n\": 3}",
            "--watch",
        ],
    )
    .await?;
    assert_eq!(watched.code, Some(0), "{}", watched.stderr);
    let lines: Vec<_> = watched.stdout.lines().collect();
    assert!(
        lines
            .iter()
            .any(|line| line.contains("diamond_end") && line.contains("complete")),
        "{lines:?}"
    );
    assert!(
        lines
            .last()
            .is_some_and(|line| line.contains("task ") && line.contains("complete")),
        "{lines:?}"
    );

    let task_uuid = create(
        stage.client(),
        "example",
        "failures",
        &json!({"kind": "permanent"}),
    )
    .await?
    .to_string();
    let watched = ctl(
        &stage.database,
        &["task", "watch", &task_uuid, "-o", "json"],
    )
    .await?;
    assert_eq!(watched.code, Some(1), "the task ended otherwise");
    let changes = watched.json_lines()?;
    let last = &changes[changes.len() - 1];
    assert_eq!(
        (&last["task_uuid"], &last["step"], &last["state"]),
        (&json!(task_uuid), &Value::Null, &json!("error"))
    );
    let flaky = changes.iter().rfind(|change| change["step"] == "flaky");
    assert!(
        flaky.is_some_and(
            |change| change["state"] == "error" && change["error"]["type"] == "example"
        ),
        "{changes:?}"
    );
    Ok(())
}

#[tokio::test]
async fn a_watch_goes_on_while_the_steps_run_and_sees_the_cancellation() -> anyhow::Result<()> {
    let stage = Stage::new(&[]).await?;
    let task_uuid = create(
        stage.client(),
        "example",
        "failures",
        &json!({"kind": "timeout", "times": 9}),
    )
    .await?;
    step_in_state(stage.client(), task_uuid, "flaky", "in_progress").await?;
    let uuid = task_uuid.to_string();
    let arguments = ["task", "watch", &uuid];
    let (watched, cancelled) = tokio::join!(ctl(&stage.database, &arguments), async {
        step_in_state(stage.client(), task_uuid, "independent", "complete").await?;
        anyhow::Ok(stage.client().cancel_task(task_uuid, None).await?)
    });
    let watched = watched?;
    assert!(cancelled?);
    assert_eq!(watched.code, Some(1));
    assert!(
        watched
            .stdout
            .lines()
            .last()
            .is_some_and(|line| line.contains("cancelled")),
        "{}",
        watched.stdout
    );
    Ok(())
}

#[tokio::test]
async fn a_watch_is_told_of_a_change_by_the_feed() -> anyhow::Result<()> {
    let stage = Stage::new(&[]).await?;
    let task_uuid = create(
        stage.client(),
        "example",
        "failures",
        &json!({"kind": "timeout", "times": 9}),
    )
    .await?;
    let uuid = task_uuid.to_string();
    let arguments = ["task", "watch", &uuid, "-o", "json"];
    let changes = async {
        somebody_follows(stage.database.pool()).await?;
        anyhow::Ok(stage.client().cancel_task(task_uuid, None).await?)
    };
    let (watched, cancelled) = tokio::join!(ctl(&stage.database, &arguments), changes);
    assert!(cancelled?);
    let seen = watched?.json_lines()?;
    let last = seen.last().expect("changes");
    assert_eq!(
        (&last["step"], &last["state"]),
        (&Value::Null, &json!("cancelled"))
    );
    Ok(())
}

#[tokio::test]
async fn a_watch_sees_a_change_while_a_long_transaction_holds_the_feed() -> anyhow::Result<()> {
    let database = TestDatabase::with_examples().await?;
    let context = json!({"n": 3});
    let task_uuid = create(database.client(), "example", "linear_workflow", &context).await?;
    let mut holder = database.session().await?;
    holder.execute("begin").await?;
    holder
        .execute("select tasker.create_task('linear_workflow', 'example')")
        .await?;
    let uuid = task_uuid.to_string();
    let arguments = ["task", "watch", &uuid, "-o", "json"];
    let changes = async {
        let query = "select count(*) > 0 from pg_stat_activity a where a.datname = current_database() \
            and a.application_name = 'tasker-ctl' and a.query like '%tasker.list_steps%' and a.state = 'idle'";
        eventually("it has looked", WITHIN, async || {
            let has_looked: bool = sqlx::query_scalar(query).fetch_one(database.pool()).await?;
            Ok(has_looked.then_some(()))
        })
        .await?;
        anyhow::Ok(database.client().cancel_task(task_uuid, None).await?)
    };
    let (watched, cancelled) = tokio::join!(ctl(&database, &arguments), changes);
    assert!(cancelled?);
    let seen = watched?.json_lines()?;
    assert_eq!(
        seen.last().map(|change| &change["state"]),
        Some(&json!("cancelled"))
    );
    holder.execute("rollback").await?;
    Ok(())
}
