//! What operators ask of the server: figures, workers, queues, namespaces, and how all is; templates known by their tag and retired.

use reqwest::Method;
use reqwest::header::{ETAG, IF_NONE_MATCH};
use serde_json::{Value, json};
use tasker_client::WorkerRegistration;
use tasker_tests::figures::{Figures, drain};
use tasker_tests::http::{Answer, answer};
use tasker_tests::{Server, TestDatabase, eventually};

async fn stage() -> anyhow::Result<(TestDatabase, Server)> {
    let database = TestDatabase::with_examples().await?;
    let server = Server::start(database.url(), &[]).await?;
    Ok((database, server))
}

fn items(answer: &Answer) -> Vec<Value> {
    answer.body["items"].as_array().cloned().unwrap_or_default()
}

fn assert_refused(answer: &Answer, status: u16, code: &str) {
    assert_eq!((answer.status, answer.code()), (status, code), "{answer:?}");
}

async fn post(server: &Server, path: &str) -> anyhow::Result<Answer> {
    answer(server.request(Method::POST, path)).await
}

#[tokio::test]
async fn figures_and_the_slowest_are_given_by_template_and_step() -> anyhow::Result<()> {
    let mut figures = Figures::new(&[
        "{name: chain, version: 1.0.0, steps: [{name: a, handler: {callable: t.a}}]}",
        "{name: other, namespace: shop, version: 1.0.0, steps: [{name: b, handler: {callable: t.b}}]}",
    ])
    .await?;
    figures
        .run("select tasker.create_task('chain'), tasker.create_task('other', 'shop')")
        .await?;
    drain(&mut figures.session).await?;
    figures.folded().await?;
    let server = Server::start(&figures.own.url(), &["--no-maintenance"]).await?;
    let all = server
        .get("/v1/analytics/performance?since=2026-01-01T00:00:00Z")
        .await?;
    assert_eq!(
        items(&all).len(),
        4,
        "two templates and their steps: {all:?}"
    );
    let of_shop = server
        .get("/v1/analytics/performance?namespace=shop&template_name=other")
        .await?;
    let rows = items(&of_shop);
    assert!(
        rows.iter()
            .any(|row| row["step_name"] == "b" && row["completed"] == 1),
        "{rows:?}"
    );
    let slowest = server.get("/v1/analytics/bottlenecks?limit=1").await?;
    assert_eq!(
        (
            slowest.body["slowest_steps"].as_array().map(Vec::len),
            slowest.body["slowest_tasks"].as_array().map(Vec::len)
        ),
        (Some(1), Some(1)),
        "{slowest:?}"
    );
    for path in [
        "/v1/analytics/bottlenecks?limit=21",
        "/v1/analytics/bottlenecks?limit=0",
        "/v1/analytics/performance?since=yesterday",
        "/v1/analytics/performance?limit=3",
    ] {
        assert_refused(&server.get(path).await?, 400, "22023");
    }
    Ok(())
}

#[tokio::test]
async fn workers_are_listed_and_retired() -> anyhow::Result<()> {
    let (database, server) = stage().await?;
    database
        .client()
        .register_worker(&WorkerRegistration {
            worker_id: "one/two".to_owned(),
            namespaces: vec!["example".to_owned()],
            handlers: vec!["math.square".to_owned()],
            language: "rust".to_owned(),
            version: "1".to_owned(),
        })
        .await?;
    let listed = server.get("/v1/workers").await?;
    let worker = &items(&listed)[0];
    assert_eq!(
        (&worker["worker_id"], &worker["is_live"]),
        (&json!("one/two"), &json!(true))
    );
    let path = "/v1/workers/one%2Ftwo";
    for retired in [true, false] {
        let answer = server.delete(path).await?;
        assert_eq!(
            (answer.status, answer.body),
            (200, json!({"worker_id": "one/two", "retired": retired}))
        );
    }
    assert_eq!(
        items(&server.get("/v1/workers").await?)[0]["is_live"],
        false
    );
    assert_refused(&server.delete("/v1/workers/nobody").await?, 404, "TK004");
    assert_eq!(server.delete("/v1/workers/%ff").await?.status, 400);
    Ok(())
}

#[tokio::test]
async fn queues_are_counted() -> anyhow::Result<()> {
    let (_database, server) = stage().await?;
    let new = json!({"template_name": "linear_workflow", "namespace": "example"});
    server.post("/v1/tasks", &new).await?;
    let queues = server.get("/v1/queues").await?;
    let queue = items(&queues)
        .into_iter()
        .find(|queue| queue["namespace"] == "example");
    assert_eq!(
        queue.map(|queue| queue["visible"].clone()),
        Some(json!(1)),
        "{queues:?}"
    );
    Ok(())
}

#[tokio::test]
async fn namespaces_are_set_paused_and_resumed() -> anyhow::Result<()> {
    let (_database, server) = stage().await?;
    let path = "/v1/namespaces/example";
    let set = |body: Value| answer(server.request(Method::PATCH, path).json(&body));
    let changed = set(json!({"settings": {"retention_days": 30}})).await?;
    assert_eq!(
        (changed.status, &changed.body["settings"]),
        (200, &json!({"retention_days": 30}))
    );
    for body in [
        json!({"settings": {"retention_days": -1}}),
        json!({"settings": {"colour": "red"}}),
        json!({"settings": []}),
        json!({"settings": null}),
        json!({}),
        json!({"name": "other", "settings": {}}),
    ] {
        let refused = set(body.clone()).await?;
        assert_refused(&refused, 400, "22023");
    }

    let paused = post(&server, &format!("{path}/pause?reason=closed")).await?;
    assert_eq!(
        paused.body,
        json!({"name": "example", "paused": true}),
        "{paused:?}"
    );
    assert_eq!(
        post(&server, &format!("{path}/pause")).await?.body["paused"],
        false
    );
    let listed = items(&server.get("/v1/namespaces").await?);
    let example = listed.iter().find(|row| row["name"] == "example");
    assert_eq!(
        example.map(|row| &row["pause_reason"]),
        Some(&json!("closed"))
    );
    for resumed in [true, false] {
        let answer = post(&server, &format!("{path}/resume")).await?;
        assert_eq!(answer.body, json!({"name": "example", "resumed": resumed}));
    }

    let nowhere = "/v1/namespaces/nowhere";
    let body = json!({"settings": {}});
    let unknown = answer(server.request(Method::PATCH, nowhere).json(&body)).await?;
    assert_refused(&unknown, 404, "TK004");
    assert_refused(
        &post(&server, &format!("{nowhere}/pause")).await?,
        404,
        "TK004",
    );
    assert_refused(
        &post(&server, &format!("{nowhere}/resume")).await?,
        404,
        "TK004",
    );
    assert_refused(
        &post(&server, &format!("{path}/pause?why=x")).await?,
        400,
        "22023",
    );
    Ok(())
}

#[tokio::test]
async fn a_template_is_known_by_its_tag_until_it_is_retired() -> anyhow::Result<()> {
    let (_database, server) = stage().await?;
    let path = "/v1/templates/example/linear_workflow/1.0.0";
    let get = |tag: String| server.request(Method::GET, path).header(IF_NONE_MATCH, tag);
    let first = server.request(Method::GET, path).send().await?;
    let tag = first.headers()[ETAG].to_str()?.to_owned();
    assert_eq!(first.status(), 200);
    let again = get(format!("\"x\", {tag}")).send().await?;
    assert_eq!(
        (again.status().as_u16(), again.headers()[ETAG].to_str()?),
        (304, tag.as_str())
    );
    assert_eq!(again.text().await?, "");
    assert_eq!(get("\"x\"".to_owned()).send().await?.status(), 200);

    let retired = server.delete(path).await?;
    assert_eq!(
        (
            retired.status,
            &retired.body["retired"],
            retired.text("name")
        ),
        (200, &json!(true), "linear_workflow"),
        "{retired:?}"
    );
    assert_eq!(server.delete(path).await?.body["retired"], false);
    let after = get(tag.clone()).send().await?;
    assert_eq!(after.status(), 200, "what is answered has changed");
    assert_ne!(after.headers()[ETAG].to_str()?, tag);

    let new =
        json!({"template_name": "linear_workflow", "namespace": "example", "version": "1.0.0"});
    assert_refused(&server.post("/v1/tasks", &new).await?, 409, "TK015");
    assert_refused(
        &server
            .delete("/v1/templates/example/linear_workflow/9.9.9")
            .await?,
        404,
        "TK003",
    );
    Ok(())
}

#[tokio::test]
async fn the_detailed_health_names_versions_queues_and_what_maintenance_did() -> anyhow::Result<()>
{
    let (database, server) = stage().await?;
    let health = eventually(
        "maintenance has run",
        std::time::Duration::from_secs(30),
        async || {
            let answer = server.get("/health/detailed").await?;
            let ran = answer.body["last_runs"]
                .as_array()
                .is_some_and(|runs| !runs.is_empty());
            Ok(ran.then_some(answer))
        },
    )
    .await?;
    assert_eq!(
        (
            health.body["extension_version"].as_str(),
            &health.body["version"]
        ),
        (
            Some(database.client().version().await?.as_str()),
            &json!(env!("CARGO_PKG_VERSION"))
        )
    );
    let run = &health.body["last_runs"][0];
    assert!(
        run["job"].is_string() && run["at"].is_string() && run["failed"].is_null(),
        "{run}"
    );
    assert!(
        health.body["checks"]
            .as_array()
            .is_some_and(|checks| checks.iter().all(|check| check["detail"].is_string())),
        "each with its reason: {health:?}"
    );
    assert!(
        health.body["queues"]
            .as_array()
            .is_some_and(|queues| { queues.iter().any(|queue| queue["namespace"] == "example") })
    );
    Ok(())
}

#[tokio::test]
async fn the_detailed_health_of_an_unprepared_database_says_what_it_can() -> anyhow::Result<()> {
    let database = TestDatabase::empty().await?;
    let server = Server::start(database.url(), &[]).await?;
    let health = server.get("/health/detailed").await?;
    assert_eq!(
        (
            health.status,
            &health.body["extension_version"],
            &health.body["queues"]
        ),
        (503, &Value::Null, &Value::Null),
        "{health:?}"
    );
    Ok(())
}
