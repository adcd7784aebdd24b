//! `tasker-ctl db`, and what a role that may only read is told.

use serde_json::{Value, json};
use tasker_tests::command::{Run, ctl, ctl_on};
use tasker_tests::investigations::failed;
use tasker_tests::{TestDatabase, releases};

async fn done(database: &TestDatabase, arguments: &[&str]) -> anyhow::Result<Run> {
    let run = ctl(database, arguments).await?;
    assert_eq!(
        run.code,
        Some(0),
        "{arguments:?}: {}{}",
        run.stdout,
        run.stderr
    );
    Ok(run)
}

async fn json_of(database: &TestDatabase, arguments: &[&str]) -> anyhow::Result<Value> {
    done(database, &[arguments, &["-o", "json"]].concat())
        .await?
        .json()
}

async fn refused(database: &TestDatabase, arguments: &[&str], code: i32) -> anyhow::Result<Run> {
    let run = ctl(database, arguments).await?;
    assert_eq!(
        run.code,
        Some(code),
        "{arguments:?}: {}{}",
        run.stdout,
        run.stderr
    );
    Ok(run)
}

#[tokio::test]
async fn a_database_is_prepared_looked_at_verified_and_upgraded() -> anyhow::Result<()> {
    let database = TestDatabase::empty().await?;
    let before = json_of(&database, &["db", "status"]).await?;
    assert_eq!(
        (&before["installed_version"], &before["has_pgmq"]),
        (&Value::Null, &json!(false))
    );
    let text = done(&database, &["db", "status"]).await?.stdout;
    assert!(text.contains("tasker-ctl db init"), "{text}");
    refused(&database, &["db", "upgrade"], 3).await?;
    done(&database, &["db", "init"]).await?;
    let after = json_of(&database, &["db", "status"]).await?;
    assert_eq!(
        (
            &after["installed_version"],
            &after["has_pgmq"],
            &after["pending_migrations"]
        ),
        (&after["available_version"], &json!(true), &json!([]))
    );
    let verified = done(&database, &["db", "verify"]).await?;
    assert_eq!(verified.stdout.trim(), "every invariant holds");

    let old = releases::database_of("0.1.0").await?;
    let upgraded = json_of(&old, &["db", "upgrade"]).await?;
    assert_eq!(
        upgraded,
        json!({"from_version": "0.1.0", "version": after["installed_version"]})
    );
    let again = done(&old, &["db", "upgrade"]).await?;
    assert!(again.stdout.contains("up to date"), "{}", again.stdout);
    Ok(())
}

#[tokio::test]
async fn a_broken_invariant_is_exit_code_1() -> anyhow::Result<()> {
    let database = TestDatabase::new().await?;
    let task_uuid = failed(&database, 0).await?.to_string();
    sqlx::query("update tasker.tasks set failed = 7")
        .execute(database.pool())
        .await?;
    let run = refused(&database, &["db", "verify", "--task", &task_uuid], 1).await?;
    assert!(run.stdout.contains("INVARIANT"), "{}", run.stdout);
    Ok(())
}

#[tokio::test]
async fn a_role_that_may_only_read_is_told_what_it_may_know() -> anyhow::Result<()> {
    let database = TestDatabase::new().await?;
    let task_uuid = failed(&database, 0).await?.to_string();
    let url = format!("{}?options[role]=tasker_reader", database.url());
    let told = async |arguments: &[&str]| {
        let run = ctl_on(&url, &[arguments, &["-o", "json"]].concat()).await?;
        assert_eq!(run.code, Some(0), "{arguments:?}: {}", run.stderr);
        run.json()
    };
    let info = told(&["system", "info"]).await?;
    assert_eq!(
        (&info["due_jobs"], info["queues"].as_array().map(Vec::len)),
        (&Value::Null, Some(1)),
        "{info}"
    );
    let status = told(&["db", "status"]).await?;
    assert_eq!(
        (&status["pending_migrations"], &status["has_pgmq"]),
        (&Value::Null, &json!(true)),
        "{status}"
    );
    let dead_letter = told(&["dlq", "show", "--task", &task_uuid]).await?;
    let uuid = dead_letter["dead_letter_uuid"].as_str().unwrap_or_default();
    let denied = ctl_on(&url, &["dlq", "resolve", uuid, "cancelled"]).await?;
    assert_eq!(denied.code, Some(1), "{}", denied.stderr);
    assert!(denied.stderr.contains("error[42501]"), "{}", denied.stderr);
    Ok(())
}
