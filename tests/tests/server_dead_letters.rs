//! `/v1/dlq`: dead letters listed in pages, in the order of investigation, opened and resolved; tasks over their limits.

use reqwest::Method;
use serde_json::{Value, json};
use tasker_tests::http::{Answer, answer};
use tasker_tests::investigations::{failed, stale};
use tasker_tests::{Server, TestDatabase};
use uuid::Uuid;

/// Without maintenance, so that nothing but the test changes a task.
async fn stage() -> anyhow::Result<(TestDatabase, Server)> {
    let database = TestDatabase::new().await?;
    let server = Server::start(database.url(), &["--no-maintenance"]).await?;
    Ok((database, server))
}

async fn patch(server: &Server, path: &str, body: &Value) -> anyhow::Result<Answer> {
    answer(server.request(Method::PATCH, path).json(body)).await
}

fn items(answer: &Answer) -> Vec<Value> {
    answer.body["items"].as_array().cloned().unwrap_or_default()
}

fn assert_refused(answer: &Answer, status: u16, code: &str) {
    assert_eq!((answer.status, answer.code()), (status, code), "{answer:?}");
}

#[tokio::test]
async fn dead_letters_are_listed_in_pages_in_the_order_of_investigation() -> anyhow::Result<()> {
    let (database, server) = stage().await?;
    let first = failed(&database, 0).await?;
    let urgent = failed(&database, 50).await?;
    let last = failed(&database, 0).await?;
    let mut seen = Vec::new();
    let mut path = Some("/v1/dlq/investigation-queue?namespace=shop&limit=2".to_owned());
    while let Some(next) = path {
        let page = server.get(&next).await?;
        assert_eq!(page.status, 200, "{page:?}");
        seen.extend(items(&page).iter().map(|item| item["task_uuid"].clone()));
        path = page.body["next"].as_str().map(str::to_owned);
    }
    assert_eq!(seen, [json!(urgent), json!(first), json!(last)]);

    let newest = server.get("/v1/dlq").await?;
    let tasks: Vec<_> = items(&newest)
        .iter()
        .map(|item| item["task_uuid"].clone())
        .collect();
    assert_eq!(tasks, [json!(last), json!(urgent), json!(first)]);
    let row = &items(&newest)[0];
    assert_eq!(
        (&row["namespace"], &row["reason"], &row["task_state"]),
        (
            &json!("shop"),
            &json!("permanent_failure"),
            &json!("blocked_by_failures")
        )
    );
    let none = server
        .get("/v1/dlq?resolution=cancelled&reason=manual_dlq")
        .await?;
    assert_eq!(none.body, json!({"items": [], "next": null}));

    let stats = server.get("/v1/dlq/stats").await?;
    assert_eq!(
        (
            &items(&stats)[0]["dead_letters"],
            &items(&stats)[0]["resolution"]
        ),
        (&json!(3), &json!("pending"))
    );
    Ok(())
}

#[tokio::test]
async fn a_dead_letter_is_read_with_its_snapshot_and_resolved_once() -> anyhow::Result<()> {
    let (database, server) = stage().await?;
    let task_uuid = failed(&database, 0).await?;
    let of_task = server.get(&format!("/v1/dlq/task/{task_uuid}")).await?;
    assert_eq!(of_task.status, 200, "{of_task:?}");
    assert_eq!(of_task.body["snapshot"]["steps"][0]["state"], "error");
    let entry = format!("/v1/dlq/entry/{}", of_task.text("dead_letter_uuid"));
    assert_eq!(
        server.get(&entry).await?.text("task_uuid"),
        task_uuid.to_string()
    );

    for body in [
        json!({}),
        json!({"resolution": "wished_away"}),
        json!({"resolution": "cancelled", "color": 1}),
    ] {
        assert_refused(&patch(&server, &entry, &body).await?, 400, "22023");
    }
    let resolved = patch(
        &server,
        &entry,
        &json!({"resolution": "manually_resolved", "note": "paid in cash"}),
    )
    .await?;
    assert_eq!(
        (
            resolved.status,
            resolved.text("resolution"),
            resolved.text("task_state"),
            resolved.text("note")
        ),
        (
            200,
            "manually_resolved",
            "resolved_manually",
            "paid in cash"
        ),
        "{resolved:?}"
    );
    let again = patch(&server, &entry, &json!({"resolution": "cancelled"})).await?;
    assert_refused(&again, 409, "TK010");
    Ok(())
}

#[tokio::test]
async fn a_dead_letter_is_opened_by_hand_once() -> anyhow::Result<()> {
    let (database, server) = stage().await?;
    let task_uuid = stale(&database).await?;
    let path = format!("/v1/dlq/task/{task_uuid}");
    assert_refused(&server.get(&path).await?, 404, "TK004");
    assert_refused(
        &server.post(&path, &json!({"reason": ""})).await?,
        400,
        "22023",
    );
    let opened = server.post(&path, &json!({"reason": "odd"})).await?;
    assert_eq!(
        (opened.status, opened.text("reason"), opened.text("note")),
        (201, "manual_dlq", "odd"),
        "{opened:?}"
    );
    let entry = opened.location.unwrap_or_default();
    assert_eq!(server.get(&entry).await?.status, 200);
    assert_refused(
        &server.post(&path, &json!({"reason": "odd"})).await?,
        409,
        "23505",
    );
    Ok(())
}

#[tokio::test]
async fn tasks_over_a_limit_are_listed_with_the_clock_that_ran_out() -> anyhow::Result<()> {
    let (database, server) = stage().await?;
    let (first, second) = (stale(&database).await?, stale(&database).await?);
    let page = server
        .get("/v1/dlq/staleness?namespace=shop&limit=1")
        .await?;
    let row = &items(&page)[0];
    assert_eq!(
        (&row["task_uuid"], &row["clock"], &row["limit_seconds"]),
        (&json!(first), &json!("max_duration_seconds"), &json!(60))
    );
    let next = server.get(page.text("next")).await?;
    assert_eq!(items(&next)[0]["task_uuid"], json!(second));
    assert_eq!(
        server.get("/v1/dlq/staleness?namespace=other").await?.body,
        json!({"items": [], "next": null})
    );
    Ok(())
}

#[tokio::test]
async fn what_is_not_there_and_what_cannot_be_used_is_refused() -> anyhow::Result<()> {
    let (_database, server) = stage().await?;
    let nothing = Uuid::nil();
    for (path, code) in [
        (format!("/v1/dlq/task/{nothing}"), "TK001"),
        (format!("/v1/dlq/entry/{nothing}"), "TK004"),
        (format!("/v1/dlq?after={nothing}"), "TK004"),
    ] {
        assert_refused(&server.get(&path).await?, 404, code);
    }
    let body = json!({"resolution": "cancelled"});
    let resolved = patch(&server, &format!("/v1/dlq/entry/{nothing}"), &body).await?;
    assert_refused(&resolved, 404, "TK004");
    let opened = server
        .post(&format!("/v1/dlq/task/{nothing}"), &json!({"reason": "x"}))
        .await?;
    assert_refused(&opened, 404, "TK001");
    for path in [
        "/v1/dlq?reason=boredom",
        "/v1/dlq?resolution=open",
        "/v1/dlq?limit=0",
        "/v1/dlq?color=red",
        "/v1/dlq/investigation-queue?resolution=pending",
        "/v1/dlq/staleness?after=x",
        "/v1/dlq/entry/x",
        "/v1/dlq/task/x",
    ] {
        assert_eq!(server.get(path).await?.status, 400, "{path}");
    }
    Ok(())
}
