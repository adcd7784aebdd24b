//! Who may call which method of gRPC: by the same permissions as over REST.

use std::collections::BTreeMap;

use anyhow::Context;
use serde_json::json;
use tasker_client::permission::{PERMISSIONS, check_known};
use tasker_grpc::{OPERATIONS, Operation};
use tasker_tests::credentials::{TokenPair, api_key, token_flags};
use tasker_tests::grpc::code_of;
use tasker_tests::{Server, TestDatabase};
use tonic::Code;

/// The permission of each operation of REST, by its id; none for one that is open.
async fn permissions(server: &Server) -> anyhow::Result<BTreeMap<String, Option<String>>> {
    let document = server.get("/api-docs/openapi.json").await?.body;
    let paths = document["paths"].as_object().context("paths")?;
    let operations = paths
        .values()
        .filter_map(|methods| methods.as_object())
        .flat_map(|methods| methods.values());
    let by_id = operations.map(|operation| {
        let id = operation["operationId"].as_str().unwrap_or_default();
        let permission = operation["x-permission"].as_str();
        (id.to_owned(), permission.map(str::to_owned))
    });
    Ok(by_id.collect())
}

#[tokio::test]
async fn every_method_asks_for_its_permission() -> anyhow::Result<()> {
    let database = TestDatabase::with_examples().await?;
    let server = Server::start(database.url(), &["--authentication"]).await?;
    let of_rest = permissions(&server).await?;
    let grpc = server.grpc().await?;
    let mut keys = BTreeMap::new();
    for (permission, _) in PERMISSIONS {
        let others: Vec<&str> = PERMISSIONS
            .iter()
            .map(|(other, _)| *other)
            .filter(|other| *other != permission)
            .collect();
        let name = permission.replace(':', "_");
        let lacking = api_key(&database, &format!("l_{name}"), &others, None).await?;
        let having = api_key(&database, &format!("h_{name}"), &[permission], None).await?;
        keys.insert(permission, (lacking, having));
    }
    for (path, operation) in OPERATIONS {
        let needed = match operation {
            Operation::Own(permission) => Some(permission.to_owned()),
            Operation::Rest(id) => of_rest.get(id).context(id)?.clone(),
        };
        let unknown = grpc.send_bytes(path, vec![]).await?;
        let Some(needed) = needed else {
            assert!(path.contains("HealthService"), "{path} is open");
            assert!(unknown.is_ok(), "{path}: {unknown:?}");
            continue;
        };
        check_known(&[&needed])?;
        let unknown = unknown.expect_err(path);
        assert_eq!(unknown.code(), Code::Unauthenticated, "{path}");
        assert_eq!(code_of(&unknown), "credentials_missing", "{path}");

        let (lacking, having) = &keys[needed.as_str()];
        let refused = grpc
            .with("x-api-key", lacking)
            .send_bytes(path, vec![])
            .await?;
        let refused = refused.expect_err(path);
        assert_eq!(refused.code(), Code::PermissionDenied, "{path}");
        assert_eq!(code_of(&refused), "permission_missing", "{path}");

        let allowed = grpc
            .with("x-api-key", having)
            .send_bytes(path, vec![])
            .await?;
        let code = allowed.err().map(|status| status.code());
        let refusals = [
            Code::Unauthenticated,
            Code::PermissionDenied,
            Code::Internal,
            Code::Unknown,
        ];
        assert!(
            code.is_none_or(|code| !refusals.contains(&code)),
            "{path}: {code:?}"
        );
    }
    Ok(())
}

#[tokio::test]
async fn a_token_is_taken_as_over_rest_and_what_is_no_credential_refused() -> anyhow::Result<()> {
    let database = TestDatabase::with_examples().await?;
    let pair = TokenPair::elliptic("one")?;
    let key = pair.public_key.display().to_string();
    let flags = [&["--jwt-public-key", &key][..], &token_flags()].concat();
    let server = Server::start(database.url(), &flags).await?;
    let grpc = server.grpc().await?;
    let bearer = |token: &str| grpc.with("authorization", &format!("Bearer {token}"));
    let token = pair.token(&["--permission", "templates:read"]).await?;
    let templates = bearer(&token)
        .get("TemplateService/ListTemplates", json!({}))
        .await?;
    assert!(
        templates["items"]
            .as_array()
            .is_some_and(|items| !items.is_empty())
    );
    for (name, value) in [
        (
            "authorization",
            format!("Bearer {}", pair.expired_token(60)?),
        ),
        ("authorization", format!("Bearer {token}x")),
        ("authorization", "Basic YTpi".to_owned()),
        ("x-api-key", "tsk_nothing".to_owned()),
    ] {
        let refused = grpc
            .with(name, &value)
            .refused("TemplateService/ListTemplates", json!({}))
            .await?;
        assert_eq!(refused.code(), Code::Unauthenticated, "{name}: {value}");
        assert_eq!(code_of(&refused), "credentials_refused");
    }
    Ok(())
}

#[tokio::test]
async fn a_key_reaches_its_namespaces_only() -> anyhow::Result<()> {
    let database = TestDatabase::with_examples().await?;
    let server = Server::start(database.url(), &["--authentication"]).await?;
    let key = api_key(&database, "limited", &["*"], Some(&["example"])).await?;
    let grpc = server.grpc().await?.with("x-api-key", &key);
    let mine = json!({"template_name": "linear_workflow", "namespace": "example"});
    let mine = grpc.get("TaskService/CreateTask", mine).await?;
    let others = json!({"template_name": "order_fulfillment", "namespace": "shop"});
    let refused = grpc.refused("TaskService/CreateTask", others).await?;
    assert!(
        [Code::PermissionDenied, Code::NotFound].contains(&refused.code()),
        "{refused:?}"
    );
    let claim = |namespace: &str| json!({"worker_id": "w", "namespaces": [namespace]});
    let claimed = grpc.get("WorkerService/Claim", claim("example")).await?;
    assert_eq!(claimed["items"].as_array().map(Vec::len), Some(1));
    let refused = grpc.refused("WorkerService/Claim", claim("shop")).await?;
    assert!(
        [Code::PermissionDenied, Code::NotFound].contains(&refused.code()),
        "{refused:?}"
    );
    let task_uuid = mine["task"]["task_uuid"].as_str().context("a task")?;
    let history = database.client().task_history(task_uuid.parse()?).await?;
    let actor = history.first().and_then(|row| row.actor.clone());
    assert!(
        actor
            .as_ref()
            .is_some_and(|actor| actor.ends_with("for key limited")),
        "{actor:?}"
    );
    Ok(())
}
