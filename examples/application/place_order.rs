//! An application that places an order: its own row and Tasker's task in one transaction, then the task's result.
//!
//! `DATABASE_URL` names the database. With `SERVER_URL` the result is waited for over REST, as somebody would who doesn't reach the database.
#![allow(clippy::print_stdout, reason = "it is a program to look at")]

use anyhow::Context;
use serde_json::json;
use serde_json::value::to_raw_value;
use tasker_client::tasks::create_task_in;
use tasker_client::{Client, ConnectOptions, NewTask, Tasker, WaitError, WaitOptions};
use uuid::Uuid;

/// The order's row and its task: both, or neither.
async fn place_order(client: &Client, order_id: &str) -> anyhow::Result<Uuid> {
    let mut transaction = client.pool().begin().await?;
    sqlx::query("insert into orders (order_id) values ($1)")
        .bind(order_id)
        .execute(&mut *transaction)
        .await?;
    let task = NewTask {
        template_name: "order_fulfillment".to_owned(),
        namespace: "shop".to_owned(),
        context: Some(to_raw_value(&json!({
            "order_id": order_id,
            "customer_email": "ada@example.com",
            "items": [{"sku": "TEA-EARL-GREY-100", "quantity": 2, "price_cents": 1250}],
        }))?),
        // Should the answer to the commit be lost: the same order again is the same task.
        idempotency_key: Some(order_id.to_owned()),
        ..NewTask::default()
    };
    let task_uuid = create_task_in(&mut transaction, &task).await?;
    transaction.commit().await?;
    Ok(task_uuid)
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let url = std::env::var("DATABASE_URL").context("DATABASE_URL isn't set")?;
    let client = Client::connect(&url, ConnectOptions::default()).await?;
    sqlx::query("create table if not exists orders (order_id text primary key, placed_at timestamptz not null default now())")
        .execute(client.pool())
        .await?;
    let order_id = format!("A-{}", Uuid::now_v7().simple());
    let task_uuid = place_order(&client, &order_id).await?;
    println!("order {order_id} is task {task_uuid}");

    // The one line that differs.
    let tasker = match std::env::var("SERVER_URL") {
        Ok(url) => Tasker::connect(&url).await?,
        Err(_) => Tasker::from(client),
    };
    match tasker
        .wait_for_task(task_uuid, WaitOptions::default())
        .await
    {
        Ok(finished) => {
            for (step, result) in &finished.results {
                println!("{step}: {result}");
            }
        }
        Err(WaitError::Failed(failed) | WaitError::Blocked(failed)) => {
            println!(
                "it failed at {:?}: {}",
                failed.error.step_name, failed.error.message
            );
        }
        Err(other) => return Err(other.into()),
    }
    Ok(())
}
