//! Pages of other hosts: which of them a browser lets call.

use reqwest::header::{HeaderMap, HeaderValue};
use reqwest::{Method, Response};
use serde_json::json;
use tasker_tests::credentials::api_key;
use tasker_tests::sse::EventStream;
use tasker_tests::{Program, Server, TestDatabase};

const WITHIN: std::time::Duration = std::time::Duration::from_secs(20);
const PAGE: &str = "https://app.example";
const OTHER: &str = "https://other.example";

async fn stage(flags: &[&str]) -> anyhow::Result<(TestDatabase, Server)> {
    let database = TestDatabase::with_examples().await?;
    let server = Server::start(database.url(), flags).await?;
    Ok((database, server))
}

/// What a browser asks before a page calls.
async fn preflight(server: &Server, origin: &str, path: &str) -> anyhow::Result<Response> {
    let request = server
        .request(Method::OPTIONS, path)
        .header("origin", origin)
        .header("access-control-request-method", "POST")
        .header("access-control-request-headers", "content-type,x-api-key");
    Ok(request.send().await?)
}

fn allowed(headers: &HeaderMap) -> Option<&HeaderValue> {
    headers.get("access-control-allow-origin")
}

fn text(headers: &HeaderMap, name: &str) -> String {
    let value = headers.get(name).and_then(|value| value.to_str().ok());
    value.unwrap_or_default().to_ascii_lowercase()
}

#[tokio::test]
async fn a_page_of_an_origin_that_is_named_may_call() -> anyhow::Result<()> {
    let named = format!("{PAGE},http://localhost:3000");
    let flags = ["--authentication", "--cors-origins", &named];
    let (database, server) = stage(&flags).await?;
    let asked = preflight(&server, PAGE, "/v1/tasks").await?;
    assert_eq!(asked.status(), 200, "nobody is asked who they are yet");
    let headers = asked.headers();
    assert_eq!(
        allowed(headers).map(HeaderValue::as_bytes),
        Some(PAGE.as_bytes())
    );
    for method in ["get", "post", "patch", "delete"] {
        assert!(text(headers, "access-control-allow-methods").contains(method));
    }
    for header in [
        "authorization",
        "content-type",
        "x-api-key",
        "last-event-id",
        "if-none-match",
    ] {
        assert!(text(headers, "access-control-allow-headers").contains(header));
    }
    assert!(!headers.contains_key("access-control-allow-credentials"));

    let key = api_key(&database, "page", &["*"], None).await?;
    let calls = server
        .request(Method::POST, "/v1/tasks")
        .header("origin", PAGE)
        .header("x-api-key", &key)
        .json(&json!({"template_name": "linear_workflow", "namespace": "example"}));
    let called = calls.send().await?;
    assert_eq!(called.status(), 201);
    assert_eq!(
        allowed(called.headers()).map(HeaderValue::as_bytes),
        Some(PAGE.as_bytes())
    );
    for header in ["etag", "x-request-id", "retry-after"] {
        assert!(text(called.headers(), "access-control-expose-headers").contains(header));
    }
    assert!(text(called.headers(), "vary").contains("origin"));
    Ok(())
}

#[tokio::test]
async fn a_page_of_another_origin_is_not_told_that_it_may() -> anyhow::Result<()> {
    let (_database, server) = stage(&["--cors-origins", PAGE]).await?;
    for origin in [
        OTHER,
        "http://app.example",
        "https://app.example.evil.example",
        "null",
    ] {
        let asked = preflight(&server, origin, "/v1/tasks").await?;
        assert_eq!(allowed(asked.headers()), None, "{origin}");
        let calls = server
            .request(Method::GET, "/v1/tasks")
            .header("origin", origin);
        assert_eq!(allowed(calls.send().await?.headers()), None, "{origin}");
    }
    Ok(())
}

#[tokio::test]
async fn an_error_is_readable_for_the_page_as_well() -> anyhow::Result<()> {
    let (_database, server) = stage(&["--authentication", "--cors-origins", PAGE]).await?;
    for (path, status) in [
        ("/v1/tasks", 401),
        ("/v1/nothing", 404),
        ("/v1/tasks/%ff", 401),
    ] {
        let calls = server.request(Method::GET, path).header("origin", PAGE);
        let called = calls.send().await?;
        assert_eq!(called.status(), status, "{path}");
        assert!(allowed(called.headers()).is_some(), "{path}");
        assert!(called.headers().contains_key("x-request-id"), "{path}");
    }
    Ok(())
}

#[tokio::test]
async fn a_page_follows_events() -> anyhow::Result<()> {
    let (_database, server) = stage(&["--cors-origins", PAGE]).await?;
    let stream = EventStream::open_with(&server, "/v1/events", &[("Origin", PAGE)]).await?;
    assert_eq!(stream.status, 200);
    let told = format!("access-control-allow-origin: {PAGE}");
    assert!(stream.headers.contains(&told), "{}", stream.headers);
    Ok(())
}

#[tokio::test]
async fn without_the_setting_no_page_may_and_with_a_star_every_page() -> anyhow::Result<()> {
    let (database, server) = stage(&[]).await?;
    let asked = preflight(&server, PAGE, "/v1/tasks").await?;
    assert_eq!(
        (asked.status().as_u16(), allowed(asked.headers())),
        (405, None)
    );
    let open = Server::start(database.url(), &["--cors-origins", "*"]).await?;
    for origin in [PAGE, OTHER] {
        let asked = preflight(&open, origin, "/v1/tasks").await?;
        assert_eq!(
            allowed(asked.headers()).map(HeaderValue::as_bytes),
            Some(&b"*"[..])
        );
        assert!(
            !asked
                .headers()
                .contains_key("access-control-allow-credentials")
        );
    }
    for wrong in [
        "app.example",
        "https://app.example/",
        "*,https://app.example",
    ] {
        let flags = ["--listen", "127.0.0.1:0", "--cors-origins", wrong];
        let mut refused = Program::start("tasker-server", database.url(), &flags)?;
        assert!(!refused.ended(WITHIN).await?.success(), "{wrong}");
        assert!(refused.log().contains("origin"), "{}", refused.log());
    }
    Ok(())
}
