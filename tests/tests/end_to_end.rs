//! The real server, worker and command line on a real database: the example workflows from their creation to their end.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use sqlx::Executor;
use tasker_client::NewTask;
use tasker_tests::following::{completed, create, ended, new_task, result, step, times, verified};
use tasker_tests::http::answer;
use tasker_tests::{Program, Server, TestDatabase};
use tokio::process::Command;
use uuid::Uuid;

/// Six to the power of 64: too long for any machine's integer.
const SIX_TO_64: &str = "63340286662973277706162286946811886609896461828096";

/// A database with the examples, and a worker on it.
struct Stage {
    database: TestDatabase,
    worker: Program,
}

impl Stage {
    async fn new(worker_arguments: &[&str]) -> anyhow::Result<Self> {
        let database = TestDatabase::with_examples().await?;
        let worker = Program::worker(database.url(), worker_arguments)?;
        Ok(Self { database, worker })
    }

    async fn run(&self, namespace: &str, template: &str, context: &Value) -> anyhow::Result<Uuid> {
        let task_uuid = create(self.database.client(), namespace, template, context).await?;
        completed(self.database.client(), task_uuid).await?;
        Ok(task_uuid)
    }

    async fn result(&self, task_uuid: Uuid, name: &str) -> anyhow::Result<Value> {
        result(self.database.client(), task_uuid, name).await
    }
}

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

    completed(stage.database.client(), task_uuid).await?;
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
    verified(stage.database.client()).await
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
    let client = stage.database.client();
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
    completed(stage.database.client(), task_uuid).await?;
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
    verified(stage.database.client()).await
}

#[tokio::test]
async fn an_order_goes_from_its_validation_to_the_message() -> anyhow::Result<()> {
    let stage = Stage::new(&[]).await?;
    let order: Value = serde_json::from_str(include_str!("../../examples/demo/order.json"))?;
    let task_uuid = stage.run("shop", "order_fulfillment", &order).await?;
    assert_eq!(
        stage.result(task_uuid, "validate_order").await?["total_cents"],
        9400
    );
    let paid = stage.result(task_uuid, "process_payment").await?;
    assert_eq!(
        (&paid["amount_cents"], &paid["status"]),
        (&json!(9400), &json!("captured"))
    );
    let shipped = stage.result(task_uuid, "ship_order").await?;
    assert_eq!(
        (&shipped["order_id"], &shipped["pieces"]),
        (&json!("A-1001"), &json!(3))
    );
    let told = stage.result(task_uuid, "notify_customer").await?;
    assert_eq!(told["to"], "ada@example.com");
    verified(stage.database.client()).await
}

#[tokio::test]
async fn a_declined_card_blocks_the_order_for_an_operator() -> anyhow::Result<()> {
    let stage = Stage::new(&[]).await?;
    let client = stage.database.client();
    let mut order: Value = serde_json::from_str(include_str!("../../examples/demo/order.json"))?;
    order["card_declined"] = json!(true);
    let task_uuid = create(client, "shop", "order_fulfillment", &order).await?;
    tasker_tests::eventually("the task is blocked", Duration::from_secs(20), async || {
        Ok((client.get_task(task_uuid).await?.state == "blocked_by_failures").then_some(()))
    })
    .await?;
    let payment = step(client, task_uuid, "process_payment").await?;
    assert_eq!(
        (payment.state.as_str(), payment.attempts_used),
        ("error", 1)
    );
    assert!(
        payment
            .error
            .is_some_and(|error| error.get().contains("card_declined"))
    );
    assert_eq!(
        step(client, task_uuid, "ship_order").await?.state,
        "pending"
    );
    verified(client).await
}

#[tokio::test]
async fn a_pipeline_of_records_ends_in_insights() -> anyhow::Result<()> {
    let stage = Stage::new(&[]).await?;
    let task_uuid = stage
        .run("data", "data_pipeline", &json!({"seed": 7, "records": 50}))
        .await?;
    assert_eq!(stage.result(task_uuid, "extract_sales").await?["count"], 50);
    let metrics = stage.result(task_uuid, "aggregate_metrics").await?;
    assert!(
        metrics["revenue_cents"]
            .as_u64()
            .is_some_and(|cents| cents > 0),
        "{metrics}"
    );
    assert!(
        stage
            .result(task_uuid, "generate_insights")
            .await?
            .is_object()
    );
    verified(stage.database.client()).await
}

#[tokio::test]
async fn a_user_is_registered_across_several_services() -> anyhow::Result<()> {
    let stage = Stage::new(&[]).await?;
    let user =
        json!({"email": "ada@example.org", "plan": "pro", "preferences": {"language": "de"}});
    let task_uuid = stage.run("accounts", "user_registration", &user).await?;
    let billing = stage.result(task_uuid, "setup_billing_profile").await?;
    assert_eq!(billing["monthly_price_cents"], 1900);
    assert_eq!(
        stage.result(task_uuid, "update_user_status").await?["status"],
        "active"
    );
    let refused = create(
        stage.database.client(),
        "accounts",
        "user_registration",
        &json!({"email": "ada"}),
    )
    .await?;
    let refused = ended(stage.database.client(), refused).await?;
    assert_eq!((refused.state.as_str(), refused.steps_failed), ("error", 1));
    verified(stage.database.client()).await
}

#[tokio::test]
async fn a_refund_waits_for_a_busy_gateway_and_is_made_once() -> anyhow::Result<()> {
    let stage = Stage::new(&[]).await?;
    let client = stage.database.client();
    let refund = NewTask {
        idempotency_key: Some("refund-1".to_owned()),
        ..new_task(
            "payments",
            "payment_refund",
            &json!({"payment_id": "pay_1", "amount_cents": 5000, "refund_cents": 1250, "gateway_busy_attempts": 1}),
        )?
    };
    let task_uuid = client.create_task(&refund).await?;
    assert_eq!(client.create_task(&refund).await?, task_uuid);
    completed(client, task_uuid).await?;
    let gateway = step(client, task_uuid, "process_gateway_refund").await?;
    assert_eq!(gateway.attempts_used, 2);
    let history = client.step_history(gateway.step_uuid).await?;
    assert_eq!(
        (times(&history, "wait_for_retry"), times(&history, "retry")),
        (1, 1)
    );
    assert_eq!(
        stage.result(task_uuid, "update_payment_records").await?["balanced"],
        true
    );
    verified(client).await
}

#[tokio::test]
async fn failures_of_every_kind_end_as_they_must() -> anyhow::Result<()> {
    let stage = Stage::new(&[]).await?;
    let client = stage.database.client();
    for (context, task_state, step_state, attempts) in [
        (json!({"kind": "retryable"}), "complete", "complete", 3),
        (
            json!({"kind": "retryable", "times": 3}),
            "error",
            "error",
            3,
        ),
        (json!({"kind": "permanent"}), "error", "error", 1),
        (json!({"kind": "panic"}), "complete", "complete", 3),
        (json!({"kind": "panic", "times": 9}), "error", "error", 3),
    ] {
        let task_uuid = create(client, "example", "failures", &context).await?;
        let task = ended(client, task_uuid).await?;
        let flaky = step(client, task_uuid, "flaky").await?;
        assert_eq!(
            (
                task.state.as_str(),
                flaky.state.as_str(),
                flaky.attempts_used
            ),
            (task_state, step_state, attempts),
            "{context}"
        );
        assert_eq!(
            step(client, task_uuid, "independent").await?.state,
            "complete",
            "a failed branch doesn't stop its siblings"
        );
        let after = step(client, task_uuid, "after").await?.state;
        assert_eq!(
            after,
            if task_state == "complete" {
                "complete"
            } else {
                "pending"
            },
            "{context}"
        );
    }
    let reasons: Vec<String> =
        sqlx::query_scalar("select reason from tasker.dead_letters order by opened_at")
            .fetch_all(stage.database.pool())
            .await?;
    assert_eq!(
        reasons,
        [
            "max_retries_exceeded",
            "permanent_failure",
            "max_retries_exceeded"
        ]
    );
    assert!(
        stage.worker.process().is_some(),
        "a panic doesn't end the worker"
    );
    verified(client).await
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
    let starts: Vec<(i32, i64)> = sqlx::query_as("select attempt, count(*) from tasker.step_transitions where event = 'start' group by 1 order by 1")
        .fetch_all(database.pool())
        .await?;
    assert_eq!(starts, [(1, 800)]);
    verified(client).await
}
