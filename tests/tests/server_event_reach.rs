//! Streams of events for keys that reach some namespaces only.

use std::time::Duration;

use anyhow::Context;
use serde_json::Value;
use tasker_tests::credentials::api_key;
use tasker_tests::sse::EventStream;
use tasker_tests::{Server, TestDatabase};

const OTHER: &str = "{name: one, namespace_name: other, version: 1.0.0, steps: [{name: a, handler: {callable: t.a}}]}";

async fn create(
    database: &TestDatabase,
    template: &str,
    namespace: &str,
) -> anyhow::Result<String> {
    let task = sqlx::query_scalar("select tasker.create_task($1, $2)::text")
        .bind(template)
        .bind(namespace)
        .fetch_one(database.pool())
        .await?;
    Ok(task)
}

/// The events of a stream up to the first of a task, that included.
async fn up_to(stream: &mut EventStream, task_uuid: &str) -> anyhow::Result<Vec<Value>> {
    let mut events = Vec::new();
    loop {
        let event = stream.event().await?.context("the stream ended")?.json()?;
        let is_last = event["task_uuid"] == task_uuid;
        events.push(event);
        if is_last {
            return Ok(events);
        }
    }
}

#[tokio::test]
async fn a_key_follows_what_happens_in_its_namespaces_only() -> anyhow::Result<()> {
    let database = TestDatabase::with_examples().await?;
    sqlx::query("select tasker.register_template($1::text)")
        .bind(OTHER)
        .execute(database.pool())
        .await?;
    let server = Server::start(database.url(), &["--authentication"]).await?;
    let limited = api_key(&database, "of_example", &["tasks:read"], Some(&["example"])).await?;
    let free = api_key(&database, "of_all", &["tasks:read"], None).await?;
    let theirs = create(&database, "one", "other").await?;
    let mine = create(&database, "linear_workflow", "example").await?;

    let open = async |key: &str, path: &str| {
        EventStream::open_with(&server, path, &[("X-API-Key", key)]).await
    };
    let mut of_limited = open(&limited, "/v1/events?from=oldest").await?;
    let mut of_free = open(&free, "/v1/events?from=oldest").await?;
    assert_eq!((of_limited.status, of_free.status), (200, 200));
    let namespaces = |events: &[Value]| {
        let mut namespaces: Vec<String> = events
            .iter()
            .map(|event| event["namespace"].as_str().unwrap_or_default().to_owned())
            .collect();
        namespaces.dedup();
        namespaces
    };
    // What it missed.
    assert_eq!(
        namespaces(&up_to(&mut of_limited, &mine).await?),
        ["example"]
    );
    assert_eq!(
        namespaces(&up_to(&mut of_free, &mine).await?),
        ["other", "example"]
    );
    // What comes.
    let theirs_later = create(&database, "one", "other").await?;
    let mine_later = create(&database, "linear_workflow", "example").await?;
    assert_eq!(
        namespaces(&up_to(&mut of_limited, &mine_later).await?),
        ["example"]
    );
    up_to(&mut of_free, &theirs_later).await?;

    let of_their_task = format!("/v1/tasks/{theirs}/events");
    assert_eq!(open(&limited, &of_their_task).await?.status, 404);
    assert_eq!(open(&free, &of_their_task).await?.status, 200);
    // As lists do: a namespace out of reach has nothing to show.
    let mut of_their_namespace = open(&limited, "/v1/events?namespace=other&from=oldest").await?;
    assert_eq!(of_their_namespace.status, 200);
    let one = of_their_namespace.event();
    let shown = tokio::time::timeout(Duration::from_secs(1), one).await;
    assert!(shown.is_err(), "{shown:?}");
    assert_eq!(
        EventStream::open(&server, "/v1/events", None).await?.status,
        401
    );
    Ok(())
}
