//! Repair through the server: one step by PATCH, many tasks by a bulk job.

use reqwest::Method;
use serde_json::{Value, json};
use tasker_client::Client;
use tasker_tests::by_hand::{self, PAYMENT};
use tasker_tests::following::step;
use tasker_tests::http::{Answer, answer};
use tasker_tests::{Server, TestDatabase};
use uuid::Uuid;

async fn stage() -> anyhow::Result<(TestDatabase, Server)> {
    let database = TestDatabase::new().await?;
    by_hand::register(database.client(), &[PAYMENT]).await?;
    let server = Server::start(database.url(), &[]).await?;
    Ok((database, server))
}

async fn patch(server: &Server, path: &str, body: &Value) -> anyhow::Result<Answer> {
    answer(server.request(Method::PATCH, path).json(body)).await
}

fn said(answer: &Answer) -> (u16, &str) {
    (answer.status, answer.code())
}

/// The path of a step of a task.
async fn path_of(client: &Client, task_uuid: Uuid, name: &str) -> anyhow::Result<String> {
    let step_uuid = step(client, task_uuid, name).await?.step_uuid;
    Ok(format!("/v1/tasks/{task_uuid}/workflow_steps/{step_uuid}"))
}

#[tokio::test]
async fn a_failed_step_is_reset_settled_or_completed_by_hand() -> anyhow::Result<()> {
    let (database, server) = stage().await?;
    let client = database.client();
    for (body, state, task_state) in [
        (
            json!({"action_type": "reset_for_retry", "reason": "up again"}),
            "enqueued",
            "steps_in_process",
        ),
        (
            json!({"action_type": "resolve_manually"}),
            "resolved_manually",
            "complete",
        ),
        (
            json!({"action_type": "complete_manually", "result": {"id": 7}}),
            "complete",
            "complete",
        ),
        (
            json!({"action_type": "complete_manually", "result": null}),
            "complete",
            "complete",
        ),
    ] {
        let task_uuid = by_hand::failed_payment(client).await?;
        let path = path_of(client, task_uuid, "pay").await?;
        let mended = patch(&server, &path, &body).await?;
        assert_eq!(
            (mended.status, mended.text("state")),
            (200, state),
            "{body} {mended:?}"
        );
        assert_eq!(
            client.get_task(task_uuid).await?.state,
            task_state,
            "{body}"
        );
        // A step that is to be claimed again would be claimed by the next round.
        let _ = client.cancel_task(task_uuid, None).await;
    }
    Ok(())
}

#[tokio::test]
async fn a_repair_that_cannot_be_is_refused() -> anyhow::Result<()> {
    let (database, server) = stage().await?;
    let client = database.client();
    let task_uuid = by_hand::failed_payment(client).await?;
    let path = path_of(client, task_uuid, "pay").await?;
    for bad in [
        json!({}),
        json!({"action_type": "reset"}),
        json!({"action_type": "reset_for_retry", "result": 1}),
        json!({"action_type": "complete_manually"}),
        json!({"action_type": "resolve_manually", "because": "x"}),
        json!({"action_type": "resolve_manually", "reason": "x".repeat(1001)}),
        json!(["resolve_manually"]),
    ] {
        let refused = patch(&server, &path, &bad).await?;
        assert_eq!(said(&refused), (400, "22023"), "{bad}");
    }
    let reset = json!({"action_type": "reset_for_retry"});
    let unfit = json!({"action_type": "complete_manually", "result": 7});
    assert_eq!(said(&patch(&server, &path, &unfit).await?), (422, "TK021"));
    let done = path_of(client, task_uuid, "price").await?;
    assert_eq!(said(&patch(&server, &done, &reset).await?), (409, "TK010"));
    let nothing = format!("/v1/tasks/{task_uuid}/workflow_steps/{}", Uuid::new_v4());
    assert_eq!(
        said(&patch(&server, &nothing, &reset).await?),
        (404, "TK002")
    );
    // A step is found under its own task only.
    let elsewhere = path.replace(&task_uuid.to_string(), &Uuid::new_v4().to_string());
    assert_eq!(
        said(&patch(&server, &elsewhere, &reset).await?),
        (404, "TK002")
    );
    assert_eq!(step(client, task_uuid, "pay").await?.state, "error");
    Ok(())
}

#[tokio::test]
async fn a_bulk_job_is_previewed_made_listed_and_ended() -> anyhow::Result<()> {
    let (database, server) = stage().await?;
    let client = database.client();
    for _ in 0..3 {
        by_hand::failed_payment(client).await?;
    }
    let mut body = json!({"filter": {"states": ["error"], "template_name": "payment"}, "action": "resolve_failed"});
    let preview = server.post("/v1/tasks/bulk", &body).await?;
    assert_eq!(
        (
            preview.status,
            &preview.body["matched"],
            &preview.body["job_uuid"]
        ),
        (200, &json!(3), &Value::Null),
        "{preview:?}"
    );
    assert_eq!(preview.body["sample"].as_array().map(Vec::len), Some(3));
    body["dry_run"] = json!(false);
    body["reason"] = json!("a flood");
    let made = server.post("/v1/tasks/bulk", &body).await?;
    assert_eq!((made.status, &made.body["matched"]), (202, &json!(3)));
    by_hand::maintain(client).await?;
    let jobs = server.get("/v1/tasks/bulk").await?;
    let job = &jobs.body["items"][0];
    assert_eq!(
        (&job["changed"], &job["refused"], &job["reason"]),
        (&json!(3), &json!(0), &json!("a flood")),
        "{jobs:?}"
    );
    assert_eq!(job["filter"]["states"], json!(["error"]));

    let other = server.post("/v1/tasks/bulk", &body).await?;
    let path = format!("/v1/tasks/bulk/{}", other.text("job_uuid"));
    let ended = server.delete(&path).await?;
    assert_eq!(
        (ended.status, &ended.body["cancelled"]),
        (200, &json!(true))
    );
    assert_eq!(server.delete(&path).await?.body["cancelled"], false);
    let first_page = server.get("/v1/tasks/bulk?limit=1").await?;
    let next = first_page.body["next"].as_str().unwrap_or_default();
    let second_page = server.get(next).await?;
    assert_eq!(second_page.body["items"][0]["job_uuid"], job["job_uuid"]);
    Ok(())
}

#[tokio::test]
async fn a_bulk_job_that_cannot_be_is_refused() -> anyhow::Result<()> {
    let (_database, server) = stage().await?;
    for bad in [
        json!({"action": "cancel"}),
        json!({"filter": {}, "action": "explode"}),
        json!({"filter": [], "action": "cancel"}),
        json!({"filter": [null, "payment"], "action": "cancel"}),
        json!({"filter": {"colour": "red"}, "action": "cancel"}),
        json!({"filter": {"context_contains": [1]}, "action": "cancel"}),
        json!({"filter": {"created_after": "yesterday"}, "action": "cancel"}),
        json!({"filter": {}, "action": "cancel", "dry_run": "no"}),
        json!({"filter": {}, "action": "cancel", "reason": "x".repeat(1001)}),
    ] {
        let refused = server.post("/v1/tasks/bulk", &bad).await?;
        assert_eq!(said(&refused), (400, "22023"), "{bad}");
    }
    let nothing = format!("/v1/tasks/bulk/{}", Uuid::new_v4());
    assert_eq!(said(&server.delete(&nothing).await?), (404, "TK004"));
    for path in [
        "/v1/tasks/bulk?limit=0",
        "/v1/tasks/bulk?after=x",
        "/v1/tasks/bulk?colour=red",
    ] {
        assert_eq!(server.get(path).await?.status, 400, "{path}");
    }
    assert_eq!(server.delete("/v1/tasks/bulk/x").await?.status, 400);
    Ok(())
}
