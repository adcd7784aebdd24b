//! `/v1/schedules`: created, listed, paused, resumed, backfilled and deleted.

use reqwest::Method;
use serde_json::{Value, json};
use tasker_tests::http::{Answer, answer};
use tasker_tests::{Server, TestDatabase};

/// Without maintenance, so that no schedule runs meanwhile.
async fn stage() -> anyhow::Result<(TestDatabase, Server)> {
    let database = TestDatabase::with_examples().await?;
    let server = Server::start(database.url(), &["--no-maintenance"]).await?;
    Ok((database, server))
}

fn nightly() -> Value {
    json!({"name": "nightly", "cron": "30 2 * * *", "template_name": "linear_workflow", "namespace": "example", "context": {"n": 3},
        "timezone": "europe/berlin", "catch_up": "none"})
}

fn assert_refused(answer: &Answer, status: u16, code: &str) {
    assert_eq!((answer.status, answer.code()), (status, code), "{answer:?}");
}

async fn post(server: &Server, path: &str) -> anyhow::Result<Answer> {
    answer(server.request(Method::POST, path)).await
}

#[tokio::test]
async fn a_schedule_is_created_listed_and_deleted() -> anyhow::Result<()> {
    let (_database, server) = stage().await?;
    let created = server.post("/v1/schedules", &nightly()).await?;
    assert_eq!(
        (
            created.status,
            created.text("timezone"),
            &created.body["context"],
            created.body["next_at"].is_string()
        ),
        (201, "Europe/Berlin", &json!({"n": 3}), true),
        "{created:?}"
    );
    assert_refused(
        &server.post("/v1/schedules", &nightly()).await?,
        409,
        "23505",
    );
    let listed = server.get("/v1/schedules?namespace=example").await?;
    assert_eq!(listed.body["items"], json!([created.body]));
    assert_eq!(
        server.get("/v1/schedules?namespace=shop").await?.body["items"],
        json!([])
    );

    let path = "/v1/schedules/nightly?namespace=example";
    let deleted = server.delete(path).await?;
    assert_eq!((deleted.status, deleted.body), (204, Value::Null));
    assert_refused(&server.delete(path).await?, 404, "TK004");
    Ok(())
}

#[tokio::test]
async fn a_schedule_is_paused_and_resumed() -> anyhow::Result<()> {
    let (_database, server) = stage().await?;
    server.post("/v1/schedules", &nightly()).await?;
    let pause = "/v1/schedules/nightly/pause?namespace=example&reason=closed";
    for paused in [true, false] {
        assert_eq!(
            post(&server, pause).await?.body,
            json!({"namespace": "example", "name": "nightly", "paused": paused})
        );
    }
    let listed = server.get("/v1/schedules").await?;
    assert_eq!(listed.body["items"][0]["pause_reason"], "closed");
    let resume = "/v1/schedules/nightly/resume?namespace=example";
    for resumed in [true, false] {
        assert_eq!(
            post(&server, resume).await?.body,
            json!({"namespace": "example", "name": "nightly", "resumed": resumed})
        );
    }
    let long = "x".repeat(1001);
    let refused = post(
        &server,
        &format!("/v1/schedules/nightly/pause?namespace=example&reason={long}"),
    )
    .await?;
    assert_refused(&refused, 400, "22023");
    for path in ["pause", "resume"] {
        let path = format!("/v1/schedules/nightly/{path}");
        assert_refused(&post(&server, &path).await?, 404, "TK004");
    }
    Ok(())
}

#[tokio::test]
async fn a_backfill_creates_each_task_once() -> anyhow::Result<()> {
    let (_database, server) = stage().await?;
    server.post("/v1/schedules", &nightly()).await?;
    let path = "/v1/schedules/nightly/backfill?namespace=example";
    let week = json!({"from": "2026-01-01T00:00:00Z", "to": "2026-01-08T00:00:00Z"});
    for created in [7, 0] {
        let answer = server.post(path, &week).await?;
        assert_eq!(
            (answer.status, answer.body),
            (200, json!({"created": created}))
        );
    }
    let tasks = server.get("/v1/tasks?tags=schedule:nightly").await?;
    assert_eq!(tasks.body["items"].as_array().map(Vec::len), Some(7));

    let backwards = json!({"from": "2026-01-08T00:00:00Z", "to": "2026-01-01T00:00:00Z"});
    assert_refused(&server.post(path, &backwards).await?, 400, "22023");
    let open = json!({"from": "2026-01-08T00:00:00Z"});
    assert_refused(&server.post(path, &open).await?, 400, "22023");
    let century = json!({"from": "1950-01-01T00:00:00Z", "to": "2026-01-01T00:00:00Z"});
    assert_refused(&server.post(path, &century).await?, 422, "TK022");
    let elsewhere = server.post("/v1/schedules/nightly/backfill", &week).await?;
    assert_refused(&elsewhere, 404, "TK004");
    Ok(())
}

#[tokio::test]
async fn a_schedule_that_cannot_be_is_refused() -> anyhow::Result<()> {
    let (_database, server) = stage().await?;
    for (field, value, status, code) in [
        ("name", json!("with blanks"), 400, "22023"),
        ("cron", json!("every day"), 400, "22023"),
        ("timezone", json!("Mars/Olympus"), 400, "22023"),
        ("catch_up", json!("some"), 400, "22023"),
        ("colour", json!("red"), 400, "22023"),
        ("context", json!([1]), 400, "22023"),
        ("template_name", json!("lineer_workflow"), 404, "TK003"),
        ("version", json!("9.9.9"), 404, "TK003"),
        ("namespace", json!("nowhere"), 404, "TK004"),
    ] {
        let mut body = nightly();
        body[field] = value;
        let refused = server.post("/v1/schedules", &body).await?;
        assert_eq!(
            (refused.status, refused.code()),
            (status, code),
            "{field}: {refused:?}"
        );
    }
    assert_refused(&server.get("/v1/schedules?name=x").await?, 400, "22023");
    Ok(())
}
