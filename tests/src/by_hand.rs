//! Steps worked on by hand, through the client: a task brought to where a test of a door wants it.

use std::time::Duration;

use anyhow::ensure;
use serde_json::{Value, json};
use tasker_client::{ClaimRequest, ClaimedStep, Client, Definition, NewTask};
use uuid::Uuid;

use crate::waiting::eventually;

const LEASE: Duration = Duration::from_secs(30);
const CLAIMED_WITHIN: Duration = Duration::from_secs(10);
const MAINTENANCE_BATCH: u32 = 100;

/// Two steps, the second of which fails for good at its first failure.
pub const PAYMENT: &str = "
name: payment
version: 1.0.0
steps:
  - {name: price, handler: {callable: t.price}}
  - {name: pay, handler: {callable: t.pay}, dependencies: [price], retry: {max_attempts: 1}, result_schema: {type: [object, 'null']}}
";

/// Two steps, the first of which can be undone.
pub const BOOKING: &str = "
name: booking
version: 1.0.0
steps:
  - {name: flight, handler: {callable: t.flight}, compensate: {callable: t.undo}}
  - {name: pay, handler: {callable: t.pay}, dependencies: [flight]}
";

/// A step that waits for a signal.
pub const APPROVAL: &str = "
name: approval
version: 1.0.0
steps:
  - {name: approve, type: signal, signal: {name: approved, schema: {type: object, required: [by]}}}
  - {name: publish, handler: {callable: t.publish}, dependencies: [approve]}
";

/// A step that starts a task of [`APPROVAL`].
pub const PARENT: &str = "
name: parent
version: 1.0.0
steps:
  - {name: ask, type: task, task: {template: approval}}
";

/// Registers templates.
pub async fn register(client: &Client, templates: &[&str]) -> anyhow::Result<()> {
    for yaml in templates {
        client
            .register_template(Definition::Yaml(yaml), None)
            .await?;
    }
    Ok(())
}

/// Creates a task of a template in the namespace `default`.
pub async fn create(client: &Client, template: &str) -> anyhow::Result<Uuid> {
    let task = NewTask {
        template_name: template.to_owned(),
        ..NewTask::default()
    };
    Ok(client.create_task(&task).await?)
}

/// Claims the one step that is to be had in the namespace `default`.
pub async fn claim(client: &Client) -> anyhow::Result<ClaimedStep> {
    let request = ClaimRequest {
        worker_id: "hand".to_owned(),
        namespaces: vec!["default".to_owned()],
        max_steps: 1,
        lease: LEASE,
        handlers: None,
    };
    // A claim waits for nobody: while a server's maintenance looks at the step, it isn't to be had.
    eventually("there is something to claim", CLAIMED_WITHIN, async || {
        Ok(client.claim_steps(&request).await?.pop())
    })
    .await
}

/// Claims the one step that is to be had, which has this name, and completes it.
pub async fn complete(client: &Client, name: &str, result: &Value) -> anyhow::Result<()> {
    let step = claim(client).await?;
    ensure!(step.step_name == name, "claimed {}", step.step_name);
    client
        .complete_step(step.step_uuid, step.attempt, result)
        .await?;
    Ok(())
}

/// Claims the one step that is to be had, which has this name, and fails it for good.
pub async fn fail(client: &Client, name: &str) -> anyhow::Result<()> {
    let step = claim(client).await?;
    ensure!(step.step_name == name, "claimed {}", step.step_name);
    let error = json!({"message": "no money"});
    client
        .fail_step(step.step_uuid, step.attempt, &error, false, None)
        .await?;
    Ok(())
}

/// A task of [`PAYMENT`] that failed at its second step.
pub async fn failed_payment(client: &Client) -> anyhow::Result<Uuid> {
    let task_uuid = create(client, "payment").await?;
    complete(client, "price", &json!({"cents": 995})).await?;
    fail(client, "pay").await?;
    Ok(task_uuid)
}

/// Lets time do what it must do now.
pub async fn maintain(client: &Client) -> anyhow::Result<()> {
    client.run_maintenance(MAINTENANCE_BATCH).await?;
    Ok(())
}
