//! Tasks that failed for good, and tasks that are over a limit.

use std::time::Duration;

use anyhow::Context;
use serde_json::json;
use sqlx::Executor;
use tasker_client::{ClaimRequest, Definition, NewTask};
use uuid::Uuid;

use crate::database::TestDatabase;

const PAYMENT: &str = "{name: payment, namespace: shop, version: 1.0.0, lifecycle: {on_failure: block}, \
    steps: [{name: charge, handler: {callable: t.charge}}]}";

const LIMITED: &str = "{name: limited, namespace: shop, version: 1.0.0, lifecycle: {max_duration_seconds: 60, staleness_action: none}, \
    steps: [{name: a, handler: {callable: t.a}}]}";

/// A task of the template `payment` in the namespace `shop` whose one step failed for good; it is blocked, and its dead letter is open.
pub async fn failed(database: &TestDatabase, priority: i32) -> anyhow::Result<Uuid> {
    let client = database.client();
    client
        .register_template(Definition::Yaml(PAYMENT), None)
        .await?;
    let task_uuid = client
        .create_task(&NewTask {
            template_name: "payment".to_owned(),
            namespace: "shop".to_owned(),
            priority,
            ..NewTask::default()
        })
        .await?;
    let claimed = client
        .claim_steps(&ClaimRequest {
            worker_id: "w".to_owned(),
            namespaces: vec!["shop".to_owned()],
            max_steps: 1,
            lease: Duration::from_secs(30),
            handlers: Some(vec!["t.charge".to_owned()]),
        })
        .await?;
    let step = claimed.first().context("nothing was claimed")?;
    let error = json!({"message": "the card was declined"});
    client
        .fail_step(step.step_uuid, step.attempt, &error, false, None)
        .await?;
    Ok(task_uuid)
}

/// A task of the template `limited` in the namespace `shop` that was created an hour ago and may last a minute.
pub async fn stale(database: &TestDatabase) -> anyhow::Result<Uuid> {
    database
        .client()
        .register_template(Definition::Yaml(LIMITED), None)
        .await?;
    let mut session = database.session().await?;
    session
        .execute("select tasker._set_now(clock_timestamp() - interval '1 hour')")
        .await?;
    Ok(
        sqlx::query_scalar("select tasker.create_task('limited', 'shop')")
            .fetch_one(&mut session)
            .await?,
    )
}
