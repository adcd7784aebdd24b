//! Idempotency keys: which request is the same, and for how long.

use serde_json::json;
use tasker_tests::Scenario;
use tasker_tests::scenario::quoted;

/// A scenario with a template of the given identity.
async fn with_identity(identity: &str) -> anyhow::Result<Scenario> {
    let mut sql = Scenario::new().await?;
    sql.register(&format!(
        "{{name: keyed, version: 1.0.0, identity: {identity}, input_schema: {{properties: {{size: {{default: 1}}}}}}, steps: [{{name: a, handler: {{callable: t.a}}}}]}}"
    ))
    .await?;
    Ok(sql)
}

#[tokio::test]
async fn the_same_key_with_the_same_request_gives_the_same_task() -> anyhow::Result<()> {
    let mut sql = with_identity("{strategy: always_unique}").await?;
    let arguments = "'keyed', idempotency_key => 'order 1', context => '{\"a\": 1, \"b\": 2}', priority => 3, tags => '{x}'";
    let first = sql.create(arguments).await?;
    // Neither the order of the keys, nor a default written out, nor who asks makes it another request.
    let again = "'keyed', idempotency_key => 'order 1', context => '{\"b\": 2, \"size\": 1, \"a\": 1}', priority => 3, tags => '{x}', initiator => 'someone'";
    assert_eq!(sql.create(again).await?, first);
    assert_ne!(
        sql.create(&arguments.replace("order 1", "order 2")).await?,
        first
    );
    assert_eq!(
        sql.value::<i64>("select count(*) from tasker.tasks")
            .await?,
        2
    );
    assert_ne!(sql.create("'keyed'").await?, sql.create("'keyed'").await?);
    sql.verify().await
}

#[tokio::test]
async fn the_same_key_with_another_request_is_refused() -> anyhow::Result<()> {
    let mut sql = with_identity("{strategy: always_unique}").await?;
    sql.create("'keyed', idempotency_key => 'k', context => '{\"a\": 1}'")
        .await?;
    for other in [
        "context => '{\"a\": 2}'",
        "context => '{\"a\": 1}', priority => 1",
        "context => '{\"a\": 1}', tags => '{x}'",
        "context => '{\"a\": 1}', run_at => '2031-01-01'",
        "context => '{\"a\": 1}', parent_correlation_id => '018f0000-0000-7000-8000-000000000001'",
    ] {
        let refusal = sql
            .refused(&format!(
                "select tasker.create_task('keyed', idempotency_key => 'k', {other})"
            ))
            .await?;
        assert_eq!(refusal.code, "TK013", "{other}");
        assert!(!refusal.detail.is_empty() && !refusal.hint.is_empty());
    }
    sql.register("{name: keyed, version: 2.0.0, input_schema: {properties: {size: {default: 1}}}, steps: [{name: a, handler: {callable: t.a}}]}").await?;
    let newer = sql
        .refused(
            "select tasker.create_task('keyed', idempotency_key => 'k', context => '{\"a\": 1}')",
        )
        .await?;
    assert_eq!(newer.code, "TK013", "another version is another request");
    Ok(())
}

#[tokio::test]
async fn a_key_is_used_anew_when_its_window_is_over() -> anyhow::Result<()> {
    let mut sql = with_identity("{window_seconds: 60}").await?;
    let first = sql.create("'keyed', idempotency_key => 'k'").await?;
    sql.clock(59_999).await?;
    assert_eq!(sql.create("'keyed', idempotency_key => 'k'").await?, first);
    sql.clock(60_000).await?;
    let second = sql
        .create("'keyed', idempotency_key => 'k', context => '{\"other\": true}'")
        .await?;
    assert_ne!(second, first);
    sql.clock(119_000).await?;
    assert_eq!(
        sql.create("'keyed', idempotency_key => 'k', context => '{\"other\": true}'")
            .await?,
        second
    );
    sql.verify().await
}

#[tokio::test]
async fn a_template_may_require_a_key() -> anyhow::Result<()> {
    let mut sql = with_identity("{strategy: caller_provided}").await?;
    let refusal = sql.refused("select tasker.create_task('keyed')").await?;
    assert_eq!(refusal.code, "22023");
    assert!(refusal.message.contains("keyed") && !refusal.hint.is_empty());
    sql.create("'keyed', idempotency_key => 'k'").await?;
    Ok(())
}

#[tokio::test]
async fn a_strict_template_takes_the_context_as_the_key() -> anyhow::Result<()> {
    let mut sql = with_identity("{strategy: strict}").await?;
    let first = sql
        .create("'keyed', context => '{\"a\": 1, \"b\": [1, 2]}'")
        .await?;
    assert_eq!(
        sql.create("'keyed', context => '{\"b\": [1, 2], \"a\": 1}'")
            .await?,
        first
    );
    assert_ne!(
        sql.create("'keyed', context => '{\"b\": [2, 1], \"a\": 1}'")
            .await?,
        first
    );
    // A key given always counts.
    assert_ne!(
        sql.create("'keyed', context => '{\"a\": 1, \"b\": [1, 2]}', idempotency_key => 'k'")
            .await?,
        first
    );
    sql.verify().await
}

#[tokio::test]
async fn a_key_repeated_inside_one_call_makes_one_task() -> anyhow::Result<()> {
    let mut sql = with_identity("{strategy: always_unique}").await?;
    let request = |key: &str, a: i32| json!({"template_name": "keyed", "idempotency_key": key, "context": {"a": a}});
    let requests = quoted(
        &json!([request("k", 1), request("l", 1), request("k", 1), {"template_name": "keyed"}]),
    );
    let rows = sql
        .rows(&format!("select * from tasker.create_tasks({requests})"))
        .await?;
    assert_eq!(
        rows.iter()
            .map(|row| row["created"].clone())
            .collect::<Vec<_>>(),
        [json!(true), json!(true), json!(false), json!(true)]
    );
    assert_eq!(rows[0]["task_uuid"], rows[2]["task_uuid"]);
    assert_eq!(
        sql.value::<i64>("select count(*) from tasker.tasks")
            .await?,
        3
    );
    let differing = quoted(&json!([request("m", 1), request("m", 2)]));
    assert_eq!(
        sql.refused(&format!("select tasker.create_tasks({differing})"))
            .await?
            .code,
        "TK013"
    );
    let repeated = sql
        .rows(&format!("select * from tasker.create_tasks({requests})"))
        .await?;
    assert_eq!(
        repeated
            .iter()
            .map(|row| row["created"].clone())
            .collect::<Vec<_>>(),
        [json!(false), json!(false), json!(false), json!(true)]
    );
    sql.verify().await
}

#[tokio::test]
async fn a_key_belongs_to_its_template_and_namespace() -> anyhow::Result<()> {
    let mut sql = with_identity("{strategy: always_unique}").await?;
    sql.register("{name: other, version: 1.0.0, steps: [{name: a, handler: {callable: t.a}}]}")
        .await?;
    sql.register("{name: keyed, namespace: shop, version: 1.0.0, steps: [{name: a, handler: {callable: t.a}}]}").await?;
    let first = sql.create("'keyed', idempotency_key => 'k'").await?;
    assert_ne!(sql.create("'other', idempotency_key => 'k'").await?, first);
    assert_ne!(
        sql.create("'keyed', namespace => 'shop', idempotency_key => 'k'")
            .await?,
        first
    );
    Ok(())
}
