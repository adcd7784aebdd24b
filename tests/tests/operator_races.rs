//! Operators at the same task at the same time: a dead letter resolved while a step of its task is repaired. Who comes second sees what the first did, and nobody waits in a circle.

use std::time::Duration;

use serde_json::json;
use sqlx::Executor;
use tasker_client::Definition;
use tasker_tests::TestDatabase;
use tasker_tests::following::{create, step, verified};
use tasker_tests::races::{second_waits, tried};
use uuid::Uuid;

const PAIR: &str = "{name: pair, version: 1.0.0, lifecycle: {on_failure: block}, steps: [
    {name: a, handler: {callable: t.a}}, {name: b, handler: {callable: t.a}}, {name: c, handler: {callable: t.a}, dependencies: [a, b]}]}";
const TASKS: usize = 30;
const ENDS_WITHIN: Duration = Duration::from_mins(1);

/// A task whose steps `a` and `b` have failed for good, and its dead letter.
struct Failed {
    task: Uuid,
    dead_letter: Uuid,
    a: Uuid,
    b: Uuid,
}

async fn database() -> anyhow::Result<TestDatabase> {
    let database = TestDatabase::new().await?;
    database
        .client()
        .register_template(Definition::Yaml(PAIR), None)
        .await?;
    Ok(database)
}

async fn failed(database: &TestDatabase) -> anyhow::Result<Failed> {
    let client = database.client();
    let task = create(client, "default", "pair", &json!({})).await?;
    sqlx::query(
        r#"select tasker.fail_step(step_uuid, attempt, '{"message": "no"}', false) from tasker.claim_steps('w', '{default}', 2)"#,
    )
    .execute(database.pool())
    .await?;
    let dead_letter: Uuid = sqlx::query_scalar(
        "select dead_letter_uuid from tasker.dead_letters where task_uuid = $1 and resolution = 'pending'",
    )
    .bind(task)
    .fetch_one(database.pool())
    .await?;
    Ok(Failed {
        task,
        dead_letter,
        a: step(client, task, "a").await?.step_uuid,
        b: step(client, task, "b").await?.step_uuid,
    })
}

fn reset(step: Uuid) -> String {
    format!("select tasker.reset_step('{step}', 'mended')")
}

fn resolve(dead_letter: Uuid, resolution: &str) -> String {
    format!("select from tasker.resolve_dead_letter('{dead_letter}', '{resolution}', 'seen')")
}

async fn state_and_resolution(
    database: &TestDatabase,
    failed: &Failed,
) -> anyhow::Result<(String, String)> {
    Ok(sqlx::query_as(
        "select t.state, d.resolution from tasker.tasks t join tasker.dead_letters d on d.task_uuid = t.task_uuid and d.dead_letter_uuid = $2 where t.task_uuid = $1",
    )
    .bind(failed.task)
    .bind(failed.dead_letter)
    .fetch_one(database.pool())
    .await?)
}

#[tokio::test]
async fn a_resolution_that_waits_for_the_last_repair_finds_the_dead_letter_closed()
-> anyhow::Result<()> {
    for resolution in ["manually_resolved", "permanently_failed", "cancelled"] {
        let database = database().await?;
        let failed = failed(&database).await?;
        database.pool().execute(reset(failed.a).as_str()).await?;
        let code = second_waits(
            &database,
            &reset(failed.b),
            resolve(failed.dead_letter, resolution),
        )
        .await?;
        assert_eq!(code.as_deref(), Some("TK010"), "{resolution}");
        assert_eq!(
            state_and_resolution(&database, &failed).await?,
            (
                "steps_in_process".to_owned(),
                "manually_resolved".to_owned()
            )
        );
        verified(database.client()).await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_repair_that_waits_for_a_resolution_revives_what_it_ended_unless_it_was_settled()
-> anyhow::Result<()> {
    for (resolution, code, state) in [
        // A task in error is revived by a repair, one that an operator has settled or cancelled is not.
        ("permanently_failed", None, "steps_in_process"),
        ("manually_resolved", Some("TK010"), "resolved_manually"),
        ("cancelled", Some("TK010"), "cancelled"),
    ] {
        let database = database().await?;
        let failed = failed(&database).await?;
        let answer = second_waits(
            &database,
            &resolve(failed.dead_letter, resolution),
            reset(failed.a),
        )
        .await?;
        assert_eq!(answer.as_deref(), code, "{resolution}");
        assert_eq!(
            state_and_resolution(&database, &failed).await?,
            (state.to_owned(), resolution.to_owned())
        );
        verified(database.client()).await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_dead_letter_resolved_twice_at_once_is_resolved_by_the_first() -> anyhow::Result<()> {
    let database = database().await?;
    let failed = failed(&database).await?;
    let code = second_waits(
        &database,
        &resolve(failed.dead_letter, "permanently_failed"),
        resolve(failed.dead_letter, "manually_resolved"),
    )
    .await?;
    assert_eq!(code.as_deref(), Some("TK010"));
    assert_eq!(
        state_and_resolution(&database, &failed).await?,
        ("error".to_owned(), "permanently_failed".to_owned())
    );
    verified(database.client()).await
}

#[tokio::test]
async fn many_repairs_and_resolutions_at_once_never_wait_in_a_circle() -> anyhow::Result<()> {
    let database = database().await?;
    let mut all = Vec::new();
    for _ in 0..TASKS {
        all.push(failed(&database).await?);
    }
    let mut sessions = Vec::new();
    // Each session goes through the tasks, repairing from either end of a task, or resolving; every call is a transaction.
    for calls in [
        all.iter()
            .flat_map(|failed| [reset(failed.a), reset(failed.b)])
            .collect::<Vec<_>>(),
        all.iter()
            .flat_map(|failed| [reset(failed.b), reset(failed.a)])
            .collect(),
        all.iter()
            .map(|failed| resolve(failed.dead_letter, "permanently_failed"))
            .collect(),
        all.iter()
            .map(|failed| resolve(failed.dead_letter, "manually_resolved"))
            .collect(),
    ] {
        let mut session = database.session().await?;
        sessions.push(tokio::spawn(async move {
            let mut codes = Vec::new();
            for call in calls {
                codes.extend(tried(&mut session, &call).await);
            }
            codes
        }));
    }
    for session in sessions {
        let codes = tokio::time::timeout(ENDS_WITHIN, session).await??;
        assert!(codes.iter().all(|code| code == "TK010"), "{codes:?}");
    }
    let open: i64 =
        sqlx::query_scalar("select count(*) from tasker.dead_letters where resolution = 'pending'")
            .fetch_one(database.pool())
            .await?;
    assert_eq!(open, 0);
    verified(database.client()).await
}
