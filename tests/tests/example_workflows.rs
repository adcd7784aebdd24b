//! The example workflows on the real worker: what each of them comes to, and how failures end.

use std::time::Duration;

use serde_json::{Value, json};
use tasker_client::NewTask;
use tasker_tests::following::{completed, create, ended, new_task, step, times, verified};
use tasker_tests::{Stage, eventually};

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
    verified(stage.client()).await
}

#[tokio::test]
async fn a_declined_card_blocks_the_order_for_an_operator() -> anyhow::Result<()> {
    let stage = Stage::new(&[]).await?;
    let client = stage.client();
    let mut order: Value = serde_json::from_str(include_str!("../../examples/demo/order.json"))?;
    order["card_declined"] = json!(true);
    let task_uuid = create(client, "shop", "order_fulfillment", &order).await?;
    eventually("the task is blocked", Duration::from_secs(20), async || {
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
    verified(stage.client()).await
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
        stage.client(),
        "accounts",
        "user_registration",
        &json!({"email": "ada"}),
    )
    .await?;
    let refused = ended(stage.client(), refused).await?;
    assert_eq!((refused.state.as_str(), refused.steps_failed), ("error", 1));
    verified(stage.client()).await
}

#[tokio::test]
async fn a_refund_waits_for_a_busy_gateway_and_is_made_once() -> anyhow::Result<()> {
    let stage = Stage::new(&[]).await?;
    let client = stage.client();
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
    let client = stage.client();
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
