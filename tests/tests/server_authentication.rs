//! Who may call the server: every operation by its permission, and keys as they are made, expire and are revoked. Tokens are in `server_tokens`, namespaces in `server_namespaces`.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::Context;
use reqwest::header::WWW_AUTHENTICATE;
use reqwest::{Method, Response};
use serde_json::{Value, json};
use tasker_client::permission::{PERMISSIONS, check_known};
use tasker_tests::credentials::api_key;
use tasker_tests::http::answer;
use tasker_tests::{Program, Server, TestDatabase, eventually};

/// Long enough for a server that remembers a check for a second.
const WITHIN: Duration = Duration::from_secs(10);

/// What is open to all, also where callers are asked who they are.
const OPEN: [&str; 5] = [
    "/health",
    "/health/detailed",
    "/health/live",
    "/health/ready",
    "/metrics",
];

struct Operation {
    method: Method,
    path: String,
    permission: Option<String>,
}

impl Operation {
    /// A request for something that isn't there, or that lacks what it must have.
    async fn call(&self, server: &Server, key: Option<&str>) -> anyhow::Result<Response> {
        let mut path = String::new();
        for part in self.path.split('/').skip(1) {
            path.push('/');
            path.push_str(match part {
                "{task_uuid}" | "{step_uuid}" => "01890000-0000-7000-8000-000000000000",
                part if part.starts_with('{') && part.contains("uuid") => {
                    "01890000-0000-7000-8000-000000000000"
                }
                part if part.starts_with('{') => "nothing",
                part => part,
            });
        }
        let mut request = server.request(self.method.clone(), &path);
        if [Method::POST, Method::PUT, Method::PATCH].contains(&self.method) {
            request = request.json(&json!({}));
        }
        if let Some(key) = key {
            request = request.header("x-api-key", key);
        }
        Ok(request.send().await?)
    }
}

/// Every operation of the document.
async fn operations(server: &Server) -> anyhow::Result<Vec<Operation>> {
    let document = server.get("/api-docs/openapi.json").await?.body;
    let mut operations = Vec::new();
    for (path, methods) in document["paths"].as_object().context("paths")? {
        for (method, operation) in methods.as_object().context("methods")? {
            operations.push(Operation {
                method: method.to_uppercase().parse()?,
                path: path.clone(),
                permission: operation["x-permission"].as_str().map(str::to_owned),
            });
            let asks = operation["security"]
                .as_array()
                .is_some_and(|ways| ways.len() == 2);
            let is_open = operation["x-permission"].is_null();
            assert_eq!(asks, !is_open, "{method} {path}");
            assert_eq!(
                operation["responses"]["401"].is_null(),
                is_open,
                "{method} {path}"
            );
        }
    }
    assert!(operations.len() > 10);
    Ok(operations)
}

async fn code_of(response: Response) -> anyhow::Result<String> {
    let body: Value = response.json().await?;
    Ok(body["error"]["code"]
        .as_str()
        .unwrap_or_default()
        .to_owned())
}

#[tokio::test]
async fn every_operation_asks_for_its_permission() -> anyhow::Result<()> {
    let database = TestDatabase::with_examples().await?;
    let server = Server::start(database.url(), &["--authentication"]).await?;
    let operations = operations(&server).await?;
    for (number, operation) in operations.iter().enumerate() {
        let what = format!("{} {}", operation.method, operation.path);
        let Some(permission) = &operation.permission else {
            assert!(OPEN.contains(&operation.path.as_str()), "{what} is open");
            let open = operation.call(&server, None).await?;
            assert_ne!(open.status(), 401, "{what}");
            continue;
        };
        check_known(&[permission])?;

        let unknown = operation.call(&server, None).await?;
        assert_eq!(unknown.status(), 401, "{what}");
        assert_eq!(
            unknown.headers()[WWW_AUTHENTICATE],
            "Bearer realm=\"tasker\"",
            "{what}"
        );
        assert_eq!(code_of(unknown).await?, "credentials_missing", "{what}");

        // All that there is but what is needed, and what is needed alone.
        let others: Vec<&str> = PERMISSIONS
            .iter()
            .map(|(other, _)| *other)
            .filter(|other| other != permission)
            .collect();
        let lacking = api_key(&database, &format!("l_{number}"), &others, None).await?;
        let refused = operation.call(&server, Some(&lacking)).await?;
        assert_eq!(refused.status(), 403, "{what}");
        let challenge = refused.headers()[WWW_AUTHENTICATE].to_str()?.to_owned();
        assert!(
            challenge.contains(&format!("scope=\"{permission}\"")),
            "{what}: {challenge}"
        );
        assert_eq!(code_of(refused).await?, "permission_missing", "{what}");

        let having = api_key(&database, &format!("h_{number}"), &[permission], None).await?;
        let allowed = operation.call(&server, Some(&having)).await?;
        assert!(
            ![401, 403, 500].contains(&allowed.status().as_u16()),
            "{what}: {}",
            allowed.status()
        );
    }
    let asked: BTreeSet<&str> = operations
        .iter()
        .filter_map(|operation| operation.permission.as_deref())
        .collect();
    assert!(asked.contains("tasks:create") && asked.len() > 5);
    Ok(())
}

#[test]
fn the_page_says_what_each_permission_allows() {
    let page = include_str!("../../docs/operations/security.md");
    for (permission, allows) in PERMISSIONS {
        let row = format!("| `{permission}` | {allows} |");
        assert!(page.contains(&row), "not in the page: {row}");
    }
    let rows = page
        .lines()
        .filter(|line| line.starts_with("| `") && line.contains(':'));
    let listed = rows.filter(|row| {
        PERMISSIONS
            .iter()
            .any(|(name, _)| row.contains(&format!("`{name}`")))
    });
    assert_eq!(listed.count(), PERMISSIONS.len());
}

#[tokio::test]
async fn head_needs_what_get_needs_and_what_is_no_operation_tells_nothing() -> anyhow::Result<()> {
    let database = TestDatabase::new().await?;
    let server = Server::start(database.url(), &["--authentication"]).await?;
    let head = server.request(Method::HEAD, "/v1/tasks").send().await?;
    assert_eq!(head.status(), 401);
    for path in ["/v1/tasks/", "//v1/tasks", "/v1/Tasks", "/v1/%74asks"] {
        let status = server.get(path).await?.status;
        assert!([401, 404].contains(&status), "{path}: {status}");
    }
    Ok(())
}

#[tokio::test]
async fn keys_that_do_not_count_are_refused() -> anyhow::Result<()> {
    let database = TestDatabase::new().await?;
    let server = Server::start(database.url(), &["--authentication"]).await?;
    let good = api_key(&database, "good", &["*"], None).await?;
    let expired = api_key(&database, "expired", &["*"], None).await?;
    let revoked = api_key(&database, "revoked", &["*"], None).await?;
    sqlx::query("update tasker.api_keys set expires_at = now() - interval '1 second' where name = 'expired'")
        .execute(database.pool())
        .await?;
    database.client().revoke_api_key("revoked").await?;
    let ask = async |header: &str, value: &str| {
        let request = server.request(Method::GET, "/v1/tasks");
        answer(request.header(header, value)).await
    };
    assert_eq!(ask("x-api-key", &good).await?.status, 200);
    let hash: String = sqlx::query_scalar("select encode(sha256(convert_to($1, 'UTF8')), 'hex')")
        .bind(&good)
        .fetch_one(database.pool())
        .await?;
    for (header, value) in [
        ("x-api-key", expired.as_str()),
        ("x-api-key", &revoked),
        ("x-api-key", ""),
        ("x-api-key", "tsk_"),
        ("x-api-key", &good[..good.len() - 1]),
        ("x-api-key", &format!("{good}x")),
        // What is kept of a key is no key.
        ("x-api-key", &hash),
        ("x-api-key", &format!("tsk_{hash}")),
        ("authorization", &format!("Bearer {good}")),
        ("authorization", &good),
        ("authorization", "Basic YTpi"),
    ] {
        let refused = ask(header, value).await?;
        assert_eq!(
            (refused.status, refused.code()),
            (401, "credentials_refused"),
            "{header}: {value}"
        );
        assert!(!refused.body.to_string().contains(&good), "{refused:?}");
    }
    let twice = server.request(Method::GET, "/v1/tasks");
    let twice = twice.header("x-api-key", &good).bearer_auth("x");
    assert_eq!(answer(twice).await?.status, 401);
    assert!(!server.program.log().contains(&good));
    Ok(())
}

#[tokio::test]
async fn a_revoke_counts_when_the_check_is_forgotten() -> anyhow::Result<()> {
    let database = TestDatabase::new().await?;
    let flags = ["--authentication", "--key-cache-seconds", "1"];
    let server = Server::start(database.url(), &flags).await?;
    let key = api_key(&database, "k", &["tasks:*"], None).await?;
    let status = async || {
        let request = server.request(Method::GET, "/v1/tasks");
        Ok::<u16, anyhow::Error>(answer(request.header("x-api-key", &key)).await?.status)
    };
    assert_eq!(status().await?, 200);
    database.client().revoke_api_key("k").await?;
    eventually("the key is refused", WITHIN, async || {
        Ok((status().await? == 401).then_some(()))
    })
    .await?;
    let used: bool = sqlx::query_scalar("select used_at is not null from tasker.list_api_keys()")
        .fetch_one(database.pool())
        .await?;
    assert!(used);
    Ok(())
}

#[tokio::test]
async fn nothing_is_listened_on_beyond_loopback_without_being_told() -> anyhow::Result<()> {
    let database = TestDatabase::new().await?;
    let start = |flags: &[&str]| {
        let flags = [
            &["--listen", "0.0.0.0:0", "--grpc-listen", "127.0.0.1:0"],
            flags,
        ]
        .concat();
        Program::start("tasker-server", database.url(), &flags)
    };
    let mut refused = start(&[])?;
    assert!(!refused.ended(WITHIN).await?.success());
    assert!(
        refused.log().contains("--authentication"),
        "{}",
        refused.log()
    );
    for told in ["--authentication", "--allow-unauthenticated"] {
        let server = start(&[told])?;
        eventually("it listens", WITHIN, async || {
            Ok(server.log().contains("listening").then_some(()))
        })
        .await?;
        let warns = server.log().contains("over the network as they are");
        assert_eq!(warns, told == "--authentication", "{}", server.log());
    }
    Ok(())
}

#[tokio::test]
async fn without_authentication_nobody_is_asked_and_the_document_asks_for_nothing()
-> anyhow::Result<()> {
    let database = TestDatabase::new().await?;
    let server = Server::start(database.url(), &[]).await?;
    assert_eq!(server.get("/v1/tasks").await?.status, 200);
    let document = server.get("/api-docs/openapi.json").await?.body;
    let list = &document["paths"]["/v1/tasks"]["get"];
    assert_eq!(list["x-permission"], "tasks:list");
    assert!(list["security"].is_null() && list["responses"]["401"].is_null());
    Ok(())
}
