//! What the server serves: templates and tasks as they are, in pages, with every digit of a number.

use reqwest::Method;
use serde_json::{Value, json};
use tasker_tests::http::{Answer, answer};
use tasker_tests::{Server, TestDatabase, examples};

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

#[tokio::test]
async fn templates_are_registered_listed_and_shown() -> anyhow::Result<()> {
    let (_database, server) = stage().await?;
    let yaml =
        "{name: new, namespace: web, version: 1.0.0, steps: [{name: a, handler: {callable: x}}]}";
    let created = server
        .send("/v1/templates", "application/yaml", yaml)
        .await?;
    assert_eq!(
        (created.status, &created.body["created"]),
        (201, &json!(true)),
        "{created:?}"
    );
    let document = json!({"name": "new", "namespace": "web", "version": "1.0.0", "steps": [{"name": "a", "handler": {"callable": "x"}}]});
    let again = server.post("/v1/templates", &document).await?;
    assert_eq!((again.status, &again.body["created"]), (200, &json!(false)));
    let changed = yaml.replace("callable: x", "callable: y");
    assert_refused(
        &server
            .send("/v1/templates", "application/yaml", changed)
            .await?,
        409,
        "TK014",
    );

    let of_web = server.get("/v1/templates?namespace=web").await?;
    assert_eq!(of_web.body["items"].as_array().map(Vec::len), Some(1));
    let all = server.get("/v1/templates").await?;
    let registered = examples::names()?.len();
    assert!(
        all.body["items"]
            .as_array()
            .is_some_and(|items| items.len() > 5 && items.len() <= registered + 1)
    );
    let shown = server.get("/v1/templates/web/new/1.0.0").await?;
    assert_eq!((shown.status, shown.text("source")), (200, yaml));
    assert_eq!(shown.body["definition"]["steps"][0]["name"], "a");
    Ok(())
}

#[tokio::test]
async fn tasks_are_read_in_pages_and_cancelled() -> anyhow::Result<()> {
    let (_database, server) = stage().await?;
    let mut created = Vec::new();
    for n in 0..5 {
        let answer = server.post("/v1/tasks", &request(&json!({"n": n}))).await?;
        created.push(answer.text("task_uuid").to_owned());
    }
    let mut seen = Vec::new();
    let mut path = Some("/v1/tasks?namespace=example&limit=2".to_owned());
    while let Some(next) = path {
        let page = server.get(&next).await?;
        assert_eq!(page.status, 200, "{page:?}");
        seen.extend(
            page.body["items"]
                .as_array()
                .into_iter()
                .flatten()
                .map(|task| task["task_uuid"].as_str().unwrap_or_default().to_owned()),
        );
        path = page.body["next"].as_str().map(str::to_owned);
    }
    created.reverse();
    assert_eq!(seen, created, "newest first, each once");

    let task = format!("/v1/tasks/{}", created[0]);
    let cancelled =
        answer(server.request(Method::DELETE, &format!("{task}?reason=enough"))).await?;
    assert_eq!(
        (
            cancelled.status,
            &cancelled.body["cancelled"],
            cancelled.text("state")
        ),
        (200, &json!(true), "cancelled")
    );
    let again = server.delete(&task).await?;
    assert_eq!(
        (again.status, &again.body["cancelled"]),
        (200, &json!(false))
    );
    let listed = server.get("/v1/tasks?states=cancelled,complete").await?;
    assert_eq!(listed.body["items"].as_array().map(Vec::len), Some(1));

    let graph = server.get(&format!("{task}/graph")).await?;
    assert_eq!(
        graph.body["items"][1]["dependencies"],
        json!(["linear_step_1"])
    );
    let history = server.get(&format!("{task}/history")).await?;
    assert!(history.body["items"].as_array().is_some_and(|rows| {
        rows.iter()
            .any(|row| row["event"] == "cancel" && row["metadata"]["reason"] == "enough")
    }));
    let steps = server.get(&format!("{task}/workflow_steps")).await?;
    let step = format!(
        "{task}/workflow_steps/{}",
        steps.body["items"][0]["step_uuid"]
            .as_str()
            .unwrap_or_default()
    );
    assert_eq!(server.get(&step).await?.text("state"), "cancelled");
    let audit = server.get(&format!("{step}/audit")).await?;
    assert_eq!(audit.body["items"][0]["event"], "enqueue");
    // A step is found under its own task only.
    let elsewhere = step.replace(&created[0], &created[1]);
    assert_refused(&server.get(&elsewhere).await?, 404, "TK002");
    Ok(())
}

#[tokio::test]
async fn a_number_keeps_every_digit_on_its_way_in_and_out() -> anyhow::Result<()> {
    let (_database, server) = stage().await?;
    let body = r#"{"template_name": "data_pipeline", "namespace": "data", "context": {"a": 123456789012345678901234567890.10, "b": 1e2}}"#;
    let created = server.send("/v1/tasks", "application/json", body).await?;
    assert_eq!(
        created.body["context"]["a"].to_string(),
        "123456789012345678901234567890.10"
    );
    Ok(())
}

#[tokio::test]
async fn a_server_on_a_database_without_tasker_is_not_ready_and_says_why() -> anyhow::Result<()> {
    let database = TestDatabase::empty().await?;
    let server = Server::start(database.url(), &[]).await?;
    let answer = server.get("/health/ready").await?;
    assert_eq!(answer.status, 503);
    assert!(
        answer.body.to_string().contains("extension tasker"),
        "{answer:?}"
    );
    assert!(
        server
            .post("/v1/tasks", &json!({"template_name": "x"}))
            .await?
            .status
            >= 500
    );
    tasker_client::init(database.client()).await?;
    assert_eq!(server.get("/health/ready").await?.status, 200);
    Ok(())
}

#[tokio::test]
async fn a_server_is_ready_without_a_worker_and_its_health_names_the_handler() -> anyhow::Result<()>
{
    let (database, server) = stage().await?;
    server.post("/v1/tasks", &request(&json!({}))).await?;
    sqlx::query("update pgmq.q_worker_example_queue set vt = vt - interval '2 minutes'")
        .execute(database.pool())
        .await?;
    assert_eq!(server.get("/health/ready").await?.status, 200);
    let health = server.get("/health").await?;
    assert_eq!(health.status, 503);
    assert!(
        health.body.to_string().contains("no live worker serves"),
        "{health:?}"
    );
    Ok(())
}

#[tokio::test]
async fn a_server_told_to_stop_ends_in_good_order() -> anyhow::Result<()> {
    let (_database, mut server) = stage().await?;
    assert_eq!(server.get("/health").await?.status, 200);
    let status = server
        .program
        .terminate(std::time::Duration::from_secs(20))
        .await?;
    assert!(status.success(), "{}", server.program.log());
    Ok(())
}

#[tokio::test]
async fn a_server_is_ready_while_a_schedule_is_in_trouble_and_its_health_names_it()
-> anyhow::Result<()> {
    let (database, server) = stage().await?;
    for change in [
        "select tasker.create_schedule('nightly', '@daily', 'linear_workflow', 'example')",
        "update tasker.schedules set last_problem = '{\"code\": \"TK003\", \"message\": \"m\"}'",
    ] {
        sqlx::query(change).execute(database.pool()).await?;
    }
    assert_eq!(server.get("/health/ready").await?.status, 200);
    let health = server.get("/health").await?;
    assert_eq!(health.status, 503);
    assert!(
        health.body.to_string().contains("nightly in namespace"),
        "{health:?}"
    );
    Ok(())
}
