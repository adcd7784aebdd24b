//! What the server refuses: each with its status, code and hint, and nothing is changed by it.

use reqwest::Method;
use serde_json::{Value, json};
use tasker_tests::http::{Answer, answer};
use tasker_tests::{Server, TestDatabase};
use uuid::Uuid;

/// The server on a database with the examples.
async fn stage() -> anyhow::Result<(TestDatabase, Server)> {
    let database = TestDatabase::with_examples().await?;
    let server = Server::start(database.url(), &[]).await?;
    Ok((database, server))
}

fn assert_refused(answer: &Answer, status: u16, code: &str) {
    assert_eq!((answer.status, answer.code()), (status, code), "{answer:?}");
    let error = &answer.body["error"];
    assert!(
        error["message"]
            .as_str()
            .is_some_and(|message| !message.is_empty()),
        "{answer:?}"
    );
    assert!(
        error["request_id"]
            .as_str()
            .is_some_and(|id| !id.is_empty()),
        "{answer:?}"
    );
}

fn request(context: &Value) -> Value {
    json!({"template_name": "linear_workflow", "namespace": "example", "context": context})
}

async fn tasks_count(database: &TestDatabase) -> anyhow::Result<i64> {
    let count = sqlx::query_scalar("select count(*) from tasker.tasks");
    Ok(count.fetch_one(database.pool()).await?)
}

#[tokio::test]
async fn requests_for_what_is_not_there_are_answered_404() -> anyhow::Result<()> {
    let (_database, server) = stage().await?;
    let nothing = Uuid::new_v4();
    let unknown = server
        .post(
            "/v1/tasks",
            &json!({"template_name": "lineer_workflow", "namespace": "example"}),
        )
        .await?;
    assert_refused(&unknown, 404, "TK003");
    assert!(unknown.body["error"]["hint"].is_string());
    for (path, code) in [
        (format!("/v1/tasks/{nothing}"), "TK001"),
        (format!("/v1/tasks/{nothing}/workflow_steps"), "TK001"),
        (format!("/v1/tasks/{nothing}/history"), "TK001"),
        (format!("/v1/tasks/{nothing}/graph"), "TK001"),
        (
            format!("/v1/tasks/{nothing}/workflow_steps/{nothing}"),
            "TK002",
        ),
        (
            "/v1/templates/example/linear_workflow/9.9.9".to_owned(),
            "TK003",
        ),
        ("/v1/nothing".to_owned(), "path_not_found"),
    ] {
        assert_refused(&server.get(&path).await?, 404, code);
    }
    let cancelled = answer(server.request(Method::DELETE, &format!("/v1/tasks/{nothing}"))).await?;
    assert_refused(&cancelled, 404, "TK001");
    Ok(())
}

#[tokio::test]
async fn bodies_and_parameters_that_cannot_be_used_are_answered_400() -> anyhow::Result<()> {
    let (database, server) = stage().await?;
    let json_type = "application/json";
    for (body, code) in [
        (&b"{\"template_name\": "[..], "22P02"),
        (b"", "22P02"),
        (b"{\"template_name\": \"linear_workflow\", \"nmespace\": \"example\"}", "22023"),
        (b"{\"namespace\": \"example\"}", "22023"),
        (b"[\"linear_workflow\", \"example\"]", "22023"),
        (b"{\"template_name\": 7}", "22023"),
        (b"{\"template_name\": \"linear_workflow\", \"namespace\": \"example\", \"priority\": 101}", "22023"),
        (b"{\"template_name\": \"linear_workflow\", \"namespace\": \"example\", \"context\": [1]}", "22023"),
        (b"{\"template_name\": \"linear_workflow\", \"namespace\": \"example\", \"correlation_id\": \"x\"}", "22023"),
    ] {
        let refused = server.send( "/v1/tasks", json_type, body.to_vec()).await?;
        assert_refused(&refused, 400, code);
    }
    // A text without bytes that PostgreSQL can keep, and one that isn't UTF-8.
    let nul = b"{\"template_name\": \"linear_workflow\", \"namespace\": \"example\", \"context\": {\"a\": \"\\u0000\"}}";
    assert_eq!(
        server
            .send("/v1/tasks", json_type, nul.to_vec())
            .await?
            .status,
        400
    );
    let broken = b"{\"template_name\": \"linear_workflow\", \"namespace\": \"example\", \"context\": {\"a\": \"\xff\"}}";
    assert_eq!(
        server
            .send("/v1/tasks", json_type, broken.to_vec())
            .await?
            .status,
        400
    );
    for path in [
        "/v1/tasks/not-a-uuid",
        "/v1/tasks?limit=0",
        "/v1/tasks?limit=many",
        "/v1/tasks?color=red",
        "/v1/tasks?context_contains=%7B",
        "/v1/tasks?namespace=%ff",
    ] {
        assert_eq!(server.get(path).await?.status, 400, "{path}");
    }
    assert_eq!(tasks_count(&database).await?, 0);
    Ok(())
}

#[tokio::test]
async fn contexts_and_templates_that_break_the_rules_are_answered_422() -> anyhow::Result<()> {
    let (database, server) = stage().await?;
    let wrong = server
        .post("/v1/tasks", &request(&json!({"n": "six"})))
        .await?;
    assert_refused(&wrong, 422, "TK021");
    assert!(
        wrong.body["error"]["detail"]
            .as_str()
            .is_some_and(|detail| detail.contains('n')),
        "{wrong:?}"
    );
    let ring = "{name: ring, version: 1.0.0, steps: [{name: a, handler: {callable: x}, dependencies: [b]}, {name: b, handler: {callable: x}, dependencies: [a]}]}";
    let refused = server
        .send("/v1/templates", "application/yaml", ring)
        .await?;
    assert_refused(&refused, 422, "TK020");
    let findings: Value =
        serde_json::from_str(refused.body["error"]["detail"].as_str().unwrap_or_default())?;
    assert_eq!(findings[0]["code"], "CYCLE_DETECTED");
    let validated = server
        .send("/v1/templates/validate", "application/yaml", ring)
        .await?;
    assert_eq!(
        (validated.status, &validated.body["valid"]),
        (200, &json!(false))
    );
    assert_eq!(tasks_count(&database).await?, 0);
    Ok(())
}

#[tokio::test]
async fn wrong_sizes_types_and_methods_are_told_apart() -> anyhow::Result<()> {
    let (_database, server) = stage().await?;
    let large = request(&json!({"n": 1, "text": "x".repeat(1024 * 1024)}));
    assert_refused(
        &server.post("/v1/tasks", &large).await?,
        413,
        "body_too_large",
    );
    let plain = server.send("/v1/tasks", "text/plain", "{}").await?;
    assert_refused(&plain, 415, "content_type_unsupported");
    assert_refused(
        &answer(server.request(Method::PUT, "/v1/tasks")).await?,
        405,
        "method_not_allowed",
    );
    assert_refused(
        &server.delete("/v1/templates").await?,
        405,
        "method_not_allowed",
    );
    // As large as it may be.
    let fits = request(&json!({"n": 1, "text": "x".repeat(1024 * 1024 - 200)}));
    assert_eq!(server.post("/v1/tasks", &fits).await?.status, 201);
    Ok(())
}

#[tokio::test]
async fn an_idempotency_key_gives_the_same_task_and_a_conflict_is_409() -> anyhow::Result<()> {
    let (database, server) = stage().await?;
    let keyed = |context: Value| {
        let mut body = request(&context);
        body["idempotency_key"] = json!("order-1");
        body
    };
    let first = server.post("/v1/tasks", &keyed(json!({"n": 2}))).await?;
    let again = server.post("/v1/tasks", &keyed(json!({"n": 2}))).await?;
    assert_eq!((first.status, again.status), (201, 200));
    assert_eq!(
        (&first.body["created"], &again.body["created"]),
        (&json!(true), &json!(false))
    );
    assert_eq!(first.text("task_uuid"), again.text("task_uuid"));
    let other = server.post("/v1/tasks", &keyed(json!({"n": 3}))).await?;
    assert_refused(&other, 409, "TK013");
    assert_eq!(tasks_count(&database).await?, 1);
    Ok(())
}

#[tokio::test]
async fn a_request_id_is_taken_from_the_caller_and_given_back() -> anyhow::Result<()> {
    let (_database, server) = stage().await?;
    let refused = answer(
        server
            .request(Method::GET, "/v1/nothing")
            .header("X-Request-Id", "my-own-7"),
    )
    .await?;
    assert_eq!(refused.body["error"]["request_id"], "my-own-7");
    let absurd = "x".repeat(5000);
    let refused = answer(
        server
            .request(Method::GET, "/v1/nothing")
            .header("X-Request-Id", absurd.clone()),
    )
    .await?;
    assert_ne!(refused.body["error"]["request_id"], json!(absurd));
    Ok(())
}
