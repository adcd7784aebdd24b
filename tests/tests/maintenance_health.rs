//! Health says whether maintenance runs, and a server is ready without it.

use serde_json::Value;
use sqlx::Executor;
use tasker_tests::{Scenario, Server, TestDatabase};

const ONE: &str = "{name: one, version: 1.0.0, steps: [{name: a, handler: {callable: t.a}}]}";
const CHECK: &str = "select * from tasker.health() where name = 'maintenance'";

/// Whether the check is well, and what it says.
async fn check(sql: &mut Scenario) -> anyhow::Result<(bool, String)> {
    let row = sql.row(CHECK).await?;
    let detail = row["detail"].as_str().unwrap_or_default().to_owned();
    Ok((row["ok"] == true, detail))
}

#[tokio::test]
async fn maintenance_that_has_not_ended_a_round_for_a_minute_is_told() -> anyhow::Result<()> {
    let mut sql = Scenario::new().await?;
    let (ok, detail) = check(&mut sql).await?;
    assert!(
        ok && detail == "no round of maintenance has ended yet",
        "{detail}"
    );
    sql.register(ONE).await?;
    sql.clock(59_999).await?;
    assert!(check(&mut sql).await?.0);
    sql.clock(60_000).await?;
    let (ok, detail) = check(&mut sql).await?;
    assert!(!ok && detail.contains("tasker.databases"), "{detail}");
    sql.run("select tasker.run_maintenance()").await?;
    let (ok, detail) = check(&mut sql).await?;
    assert!(ok, "{detail}");
    assert_eq!(
        detail,
        "the last round of maintenance ended at 2030-01-01 00:01:00+00"
    );
    sql.clock(120_000).await?;
    let (ok, detail) = check(&mut sql).await?;
    assert!(!ok && detail.contains("00:01:00"), "{detail}");
    sql.verify().await
}

#[tokio::test]
async fn a_server_without_maintenance_is_ready_but_not_healthy() -> anyhow::Result<()> {
    let database = TestDatabase::with_examples().await?;
    database
        .pool()
        .execute("update tasker.namespaces set created_at = created_at - interval '1 hour'")
        .await?;
    let server = Server::start(database.url(), &["--no-maintenance"]).await?;
    assert_eq!(server.get("/health/ready").await?.status, 200);
    let health = server.get("/health").await?;
    assert_eq!(health.status, 503);
    let ill: Vec<&Value> = health.body["checks"]
        .as_array()
        .into_iter()
        .flatten()
        .filter(|check| check["ok"] == false)
        .map(|check| &check["name"])
        .collect();
    assert_eq!(ill, ["maintenance"]);
    Ok(())
}
