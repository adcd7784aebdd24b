//! Steps that have published domain events.

use std::time::Duration;

use anyhow::Context;
use serde_json::Value;
use tasker_client::{ClaimRequest, Definition};
use uuid::Uuid;

use crate::database::TestDatabase;
use crate::following::create;

const ORDER: &str = "{name: order, namespace: shop, version: 1.0.0, \
    steps: [{name: ship, handler: {callable: t.ship}, publishes_events: [{name: order.shipped}]}]}";

/// A task of the template `order` in the namespace `shop` whose step `ship` is complete with this result, and has published `order.shipped`.
pub async fn shipped(database: &TestDatabase, result: &Value) -> anyhow::Result<Uuid> {
    let client = database.client();
    client
        .register_template(Definition::Yaml(ORDER), None)
        .await?;
    let task_uuid = create(client, "shop", "order", &serde_json::json!({})).await?;
    let claimed = client
        .claim_steps(&ClaimRequest {
            worker_id: "w".to_owned(),
            namespaces: vec!["shop".to_owned()],
            max_steps: 1,
            lease: Duration::from_secs(30),
            handlers: Some(vec!["t.ship".to_owned()]),
        })
        .await?;
    let step = claimed.first().context("nothing was claimed")?;
    client
        .complete_step(step.step_uuid, step.attempt, result)
        .await?;
    Ok(task_uuid)
}

/// Uses up the deliveries of all that waits in the namespace `shop`: whoever claims next has it set aside.
pub async fn use_up_deliveries(database: &TestDatabase) -> anyhow::Result<()> {
    sqlx::query(
        "update pgmq.q_events_shop_queue set read_ct = 10, vt = now() - interval '1 second'",
    )
    .execute(database.pool())
    .await?;
    Ok(())
}
