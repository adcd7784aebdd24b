//! Identity of tasks: each strategy with and without a window, in one call, in two sessions, and when the task has left.

use std::time::Duration;

use serde_json::json;
use sqlx::Executor;
use tasker_tests::following::{is_blocked_by, process_of};
use tasker_tests::scenario::quoted;
use tasker_tests::{Scenario, TestDatabase};

const SECOND_GOES_ON_WITHIN: Duration = Duration::from_secs(10);

fn template(identity: &str) -> String {
    format!(
        "{{name: keyed, version: 1.0.0, identity: {identity}, steps: [{{name: a, handler: {{callable: t.a}}}}]}}"
    )
}

async fn with_identity(identity: &str) -> anyhow::Result<Scenario> {
    let mut sql = Scenario::new().await?;
    sql.register(&template(identity)).await?;
    Ok(sql)
}

#[tokio::test]
async fn without_a_key_or_a_rule_every_task_is_a_new_one() -> anyhow::Result<()> {
    for identity in [
        "{}",
        "{strategy: always_unique}",
        "{strategy: always_unique, window_seconds: 60}",
    ] {
        let mut sql = with_identity(identity).await?;
        let same = "'keyed', context => '{\"n\": 1}'";
        assert_ne!(sql.create(same).await?, sql.create(same).await?);
        let keys: i64 = sql
            .value("select count(*) from tasker.idempotency_keys")
            .await?;
        assert_eq!(keys, 0, "{identity}");
        sql.verify().await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_window_ends_to_the_millisecond_under_every_strategy() -> anyhow::Result<()> {
    for (strategy, key) in [
        ("always_unique", ", idempotency_key => 'k'"),
        ("caller_provided", ", idempotency_key => 'k'"),
        ("strict", ""),
        ("strict", ", idempotency_key => 'k'"),
    ] {
        let mut sql =
            with_identity(&format!("{{strategy: {strategy}, window_seconds: 60}}")).await?;
        let request = format!("'keyed', context => '{{\"n\": 1}}'{key}");
        let first = sql.create(&request).await?;
        sql.clock(59_999).await?;
        assert_eq!(sql.create(&request).await?, first, "{strategy}");
        sql.clock(60_000).await?;
        let second = sql.create(&request).await?;
        assert_ne!(second, first, "{strategy}");
        // The second one's window begins with it, not with the first's.
        sql.clock(119_999).await?;
        assert_eq!(sql.create(&request).await?, second, "{strategy}");
        sql.clock(120_000).await?;
        assert_ne!(sql.create(&request).await?, second, "{strategy}");
        sql.verify().await?;
    }
    Ok(())
}

#[tokio::test]
async fn without_a_window_a_key_lives_as_long_as_its_task() -> anyhow::Result<()> {
    for (strategy, key) in [
        ("always_unique", ", idempotency_key => 'k'"),
        ("caller_provided", ", idempotency_key => 'k'"),
        ("strict", ""),
    ] {
        const DAY: i64 = 86_400_000;
        let mut sql = with_identity(&format!("{{strategy: {strategy}}}")).await?;
        let request = format!("'keyed', context => '{{\"n\": 1}}'{key}");
        let first = sql.create(&request).await?;
        let step = sql.claim_one().await?;
        sql.complete(&step, json!(1)).await?;
        sql.clock(20 * DAY).await?;
        assert_eq!(sql.create(&request).await?, first, "{strategy}");
        sql.clock(60 * DAY).await?;
        for _ in 0..6 {
            sql.run("select tasker.run_maintenance()").await?;
        }
        let gone = sql
            .refused(&format!("select * from tasker.get_task('{first}')"))
            .await?;
        assert_eq!(gone.code, "TK001");
        assert_ne!(sql.create(&request).await?, first, "{strategy}");
        sql.verify().await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_missing_key_is_refused_for_one_and_for_many_and_nothing_is_created() -> anyhow::Result<()>
{
    let mut sql = with_identity("{strategy: caller_provided, window_seconds: 5}").await?;
    let some = quoted(
        &json!([{"template_name": "keyed", "idempotency_key": "k"}, {"template_name": "keyed"}]),
    );
    for call in [
        "select tasker.create_task('keyed')".to_owned(),
        "select tasker.create_task('keyed', idempotency_key => null)".to_owned(),
        "select tasker.create_task('keyed', idempotency_key => '')".to_owned(),
        format!("select tasker.create_tasks({some})"),
    ] {
        let refusal = sql.refused(&call).await?;
        assert_eq!(refusal.code, "22023", "{call}");
    }
    let created: i64 = sql.value("select count(*) from tasker.tasks").await?;
    assert_eq!(created, 0);
    Ok(())
}

#[tokio::test]
async fn strict_takes_equal_content_for_the_same_task_however_it_is_written() -> anyhow::Result<()>
{
    let mut sql = with_identity("{strategy: strict}").await?;
    let first = sql
        .create(
            r#"'keyed', context => '{"a": {"x": 1, "y": [1, {"p": null, "q": "é"}]}, "b": true}'"#,
        )
        .await?;
    let again = sql
        .create(r#"'keyed', context => '{ "b" : true, "a": {"y": [1, {"q": "\u00e9", "p": null}], "x": 1}}'"#)
        .await?;
    assert_eq!(again, first);
    let others = [
        r#"{"a": {"x": 1, "y": [{"p": null, "q": "é"}, 1]}, "b": true}"#,
        r#"{"a": {"x": 1, "y": [1, {"q": "é"}]}, "b": true}"#,
        r#"{"a": {"x": "1", "y": [1, {"p": null, "q": "é"}]}, "b": true}"#,
    ];
    for other in others {
        let other = sql
            .create(&format!("'keyed', context => '{other}'"))
            .await?;
        assert_ne!(other, first);
    }
    // Another priority is another request for the same key.
    let refusal = sql
        .refused(r#"select tasker.create_task('keyed', priority => 1, context => '{"a": {"x": 1, "y": [1, {"p": null, "q": "é"}]}, "b": true}')"#)
        .await?;
    assert_eq!(refusal.code, "TK013");
    sql.verify().await
}

#[tokio::test]
async fn strict_requests_repeated_within_one_call_make_one_task() -> anyhow::Result<()> {
    let mut sql = with_identity("{strategy: strict, window_seconds: 60}").await?;
    let requests = quoted(&json!([
        {"template_name": "keyed", "context": {"a": 1, "b": 2}},
        {"template_name": "keyed", "context": {"b": 2, "a": 1}},
        {"template_name": "keyed", "context": {"a": 1, "b": 3}}]));
    let create = format!("select task_uuid, created from tasker.create_tasks({requests})");
    let first = sql.rows(&create).await?;
    assert_eq!(
        first
            .iter()
            .map(|row| row["created"] == true)
            .collect::<Vec<_>>(),
        [true, false, true]
    );
    assert_eq!(first[0]["task_uuid"], first[1]["task_uuid"]);
    // And when its window is over, the call makes one anew.
    sql.clock(60_000).await?;
    let second = sql.rows(&create).await?;
    assert_eq!(
        second
            .iter()
            .map(|row| row["created"] == true)
            .collect::<Vec<_>>(),
        [true, false, true]
    );
    assert_eq!(second[0]["task_uuid"], second[1]["task_uuid"]);
    assert_ne!(second[0]["task_uuid"], first[0]["task_uuid"]);
    let tasks: i64 = sql.value("select count(*) from tasker.tasks").await?;
    assert_eq!(tasks, 4);
    sql.verify().await
}

/// Two sessions ask for the same, the second while the first's transaction is open; gives both answers.
async fn asked_twice(
    database: &TestDatabase,
    create: &'static str,
    at: &str,
) -> anyhow::Result<(String, String)> {
    let (mut first, mut second) = (database.session().await?, database.session().await?);
    for session in [&mut first, &mut second] {
        session
            .execute(format!("select tasker._set_now('{at}')").as_str())
            .await?;
    }
    let processes = (
        process_of(&mut second).await?,
        process_of(&mut first).await?,
    );
    first.execute("begin").await?;
    let one: String = sqlx::query_scalar(create).fetch_one(&mut first).await?;
    let waiting = tokio::spawn(async move {
        sqlx::query_scalar::<_, String>(create)
            .fetch_one(&mut second)
            .await
    });
    is_blocked_by(database.pool(), processes.0, processes.1).await?;
    first.execute("commit").await?;
    let other = tokio::time::timeout(SECOND_GOES_ON_WITHIN, waiting).await???;
    Ok((one, other))
}

#[tokio::test]
async fn two_sessions_that_ask_for_the_same_at_once_get_one_task_also_when_a_window_has_just_ended()
-> anyhow::Result<()> {
    for (strategy, create) in [
        (
            "caller_provided",
            "select tasker.create_task('keyed', idempotency_key => 'k')::text",
        ),
        (
            "strict",
            "select tasker.create_task('keyed', context => '{\"n\": 1}')::text",
        ),
    ] {
        let database = TestDatabase::new().await?;
        sqlx::query("select * from tasker.register_template($1::text)")
            .bind(template(&format!(
                "{{strategy: {strategy}, window_seconds: 60}}"
            )))
            .execute(database.pool())
            .await?;
        let (one, other) = asked_twice(&database, create, "2100-01-01 00:00:00+00").await?;
        assert_eq!(one, other, "{strategy}");
        let (anew, too) = asked_twice(&database, create, "2100-01-01 00:01:00+00").await?;
        assert_eq!(anew, too, "{strategy}");
        assert_ne!(anew, one, "{strategy}");
        let broken: i64 = sqlx::query_scalar("select count(*) from tasker.verify()")
            .fetch_one(database.pool())
            .await?;
        assert_eq!(broken, 0);
    }
    Ok(())
}
