//! Keys and tokens that reach some namespaces only, over connections that serve everybody in turn.

use anyhow::Context;
use reqwest::Method;
use serde_json::{Value, json};
use tasker_tests::credentials::api_key;
use tasker_tests::http::{Answer, answer};
use tasker_tests::{Server, TestDatabase};

const OTHER: &str = "{name: one, namespace_name: other, version: 1.0.0, steps: [{name: a, handler: {callable: t.a}}]}";

/// A server with one connection, and keys that reach the namespace of the examples, another one, and all.
async fn stage() -> anyhow::Result<(TestDatabase, Server, [String; 3])> {
    let database = TestDatabase::with_examples().await?;
    sqlx::query("select tasker.register_template($1::text)")
        .bind(OTHER)
        .execute(database.pool())
        .await?;
    let flags = ["--authentication", "--database-connections", "1"];
    let server = Server::start(database.url(), &flags).await?;
    let keys = [
        api_key(&database, "of_example", &["*"], Some(&["example"])).await?,
        api_key(&database, "of_other", &["*"], Some(&["other"])).await?,
        api_key(&database, "of_all", &["*"], None).await?,
    ];
    Ok((database, server, keys))
}

async fn ask(
    server: &Server,
    key: &str,
    method: Method,
    path: &str,
    body: Option<&Value>,
) -> anyhow::Result<Answer> {
    let request = server.request(method, path).header("x-api-key", key);
    let request = match body {
        Some(body) => request.json(body),
        None => request,
    };
    answer(request).await
}

fn task(template: &str, namespace: &str) -> Value {
    json!({"template_name": template, "namespace": namespace})
}

#[tokio::test]
async fn a_key_creates_and_sees_tasks_in_its_namespaces_only() -> anyhow::Result<()> {
    let (_database, server, [of_example, of_other, of_all]) = stage().await?;
    let (mine, theirs) = (task("linear_workflow", "example"), task("one", "other"));
    let create = async |key: &str, body: &Value| {
        ask(&server, key, Method::POST, "/v1/tasks", Some(body)).await
    };
    let created = create(&of_example, &mine).await?;
    assert_eq!(created.status, 201, "{created:?}");
    let refused = create(&of_example, &theirs).await?;
    assert_eq!((refused.status, refused.code()), (403, "42501"));
    let other = create(&of_other, &theirs).await?;
    assert_eq!(other.status, 201, "{other:?}");

    let path = format!("/v1/tasks/{}", other.text("task_uuid"));
    for path in [
        path.clone(),
        format!("{path}/workflow_steps"),
        format!("{path}/history"),
        format!("{path}/graph"),
    ] {
        let get = async |key: &str| ask(&server, key, Method::GET, &path, None).await;
        let hidden = get(&of_example).await?;
        assert_eq!((hidden.status, hidden.code()), (404, "TK001"), "{path}");
        assert_eq!(get(&of_other).await?.status, 200, "{path}");
        assert_eq!(get(&of_all).await?.status, 200, "{path}");
    }
    let cancel = ask(&server, &of_example, Method::DELETE, &path, None).await?;
    assert_eq!(cancel.status, 404);
    Ok(())
}

/// One connection serves them all, so that each must find it set for itself.
#[tokio::test]
async fn callers_that_share_a_connection_see_their_own_namespaces_each() -> anyhow::Result<()> {
    let (_database, server, [of_example, of_other, of_all]) = stage().await?;
    for body in [task("linear_workflow", "example"), task("one", "other")] {
        ask(&server, &of_all, Method::POST, "/v1/tasks", Some(&body)).await?;
    }
    let seen = async |key: &str, path: &str| -> anyhow::Result<Vec<String>> {
        let listed = ask(&server, key, Method::GET, path, None).await?;
        let items = listed.body["items"].as_array().context("items")?.clone();
        let mut names: Vec<String> = items
            .iter()
            .filter_map(|item| item["namespace"].as_str().map(str::to_owned))
            .collect();
        names.sort();
        names.dedup();
        Ok(names)
    };
    for path in ["/v1/tasks", "/v1/templates"] {
        let rounds = (0..5).map(async |_| {
            assert_eq!(seen(&of_example, path).await?, ["example"], "{path}");
            assert_eq!(seen(&of_other, path).await?, ["other"], "{path}");
            assert!(seen(&of_all, path).await?.len() >= 2, "{path}");
            anyhow::Ok(())
        });
        for round in rounds {
            round.await?;
        }
        let (a, b, c) = tokio::join!(
            seen(&of_example, path),
            seen(&of_other, path),
            seen(&of_all, path)
        );
        assert_eq!(
            (a?.as_slice(), b?.as_slice()),
            (&["example".to_owned()][..], &["other".to_owned()][..])
        );
        assert!(c?.len() >= 2);
    }
    // The checks of health are the server's own.
    let health = server.get("/health").await?;
    assert!(health.body["checks"].as_array().context("checks")?.len() > 3);
    Ok(())
}

#[tokio::test]
async fn history_names_the_key() -> anyhow::Result<()> {
    let (_database, server, [of_example, ..]) = stage().await?;
    let created = ask(
        &server,
        &of_example,
        Method::POST,
        "/v1/tasks",
        Some(&task("linear_workflow", "example")),
    )
    .await?;
    let path = format!("/v1/tasks/{}/history", created.text("task_uuid"));
    let history = ask(&server, &of_example, Method::GET, &path, None).await?;
    let actor = history.body["items"][0]["actor"]
        .as_str()
        .context("actor")?;
    assert!(actor.ends_with(" for key of_example"), "{actor}");
    assert!(
        server.program.log().contains("key of_example"),
        "{}",
        server.program.log()
    );
    Ok(())
}

#[tokio::test]
async fn a_template_of_another_namespace_is_not_registered_and_not_seen() -> anyhow::Result<()> {
    let (_database, server, [of_example, of_other, _]) = stage().await?;
    let register = async |key: &str, version: &str| {
        let request = server.request(Method::POST, "/v1/templates");
        let request = request.header("content-type", "application/yaml");
        let text = OTHER.replace("1.0.0", version);
        answer(request.header("x-api-key", key).body(text)).await
    };
    let refused = register(&of_example, "2.0.0").await?;
    assert_eq!((refused.status, refused.code()), (403, "42501"));
    assert_eq!(register(&of_other, "2.0.0").await?.status, 201);
    let path = "/v1/templates/other/one/2.0.0";
    let hidden = ask(&server, &of_example, Method::GET, path, None).await?;
    assert_eq!((hidden.status, hidden.code()), (404, "TK003"));
    Ok(())
}
