//! Templates under their versions: content that never changes, the newest one, retiring, listing.

use serde_json::json;
use tasker_tests::Scenario;
use tasker_tests::scenario::quoted;

const ONE: &str = "{name: one, version: 1.0.0, steps: [{name: a, handler: {callable: t.a}}]}";

#[tokio::test]
async fn the_same_content_again_changes_nothing_and_gives_the_same_key() -> anyhow::Result<()> {
    let mut sql = Scenario::new().await?;
    let register = format!("select * from tasker.register_template('{ONE}'::text)");
    let first = sql.row(&register).await?;
    let again = sql.row(&register).await?;
    assert_eq!(
        (&first["created"], &again["created"]),
        (&json!(true), &json!(false))
    );
    assert_eq!(first["template_uuid"], again["template_uuid"]);
    // Written otherwise, but the same document.
    let json = json!({"steps": [{"handler": {"callable": "t.a"}, "name": "a"}], "version": "1.0.0", "name": "one"});
    let other = sql
        .row(&format!(
            "select * from tasker.register_template({})",
            quoted(&json)
        ))
        .await?;
    assert_eq!(other["created"], json!(false));
    assert_eq!(
        sql.value::<i64>("select count(*) from tasker.templates")
            .await?,
        1
    );
    Ok(())
}

#[tokio::test]
async fn other_content_under_a_registered_version_is_refused() -> anyhow::Result<()> {
    let mut sql = Scenario::new().await?;
    sql.register(ONE).await?;
    let changed = ONE.replace("t.a", "t.b");
    let refusal = sql
        .refused(&format!(
            "select tasker.register_template('{changed}'::text)"
        ))
        .await?;
    assert_eq!(refusal.code, "TK014");
    assert!(
        refusal.message.contains("one") && refusal.message.contains("1.0.0"),
        "{}",
        refusal.message
    );
    assert!(refusal.hint.contains("new version"), "{}", refusal.hint);
    let source: String = sql
        .value("select source from tasker.get_template('one')")
        .await?;
    assert_eq!(source, ONE);
    Ok(())
}

#[tokio::test]
async fn the_newest_version_is_the_one_of_semantic_versions() -> anyhow::Result<()> {
    let mut sql = Scenario::new().await?;
    for version in ["1.9.0", "1.10.0", "1.10.0-rc.1", "0.99.0"] {
        sql.register(&ONE.replace("1.0.0", version)).await?;
    }
    let newest = "select version from tasker.get_template('one')";
    assert_eq!(sql.value::<String>(newest).await?, "1.10.0");
    let all: Vec<String> = sql
        .value("select array_agg(version) from tasker.list_templates()")
        .await?;
    assert_eq!(all, ["0.99.0", "1.9.0", "1.10.0-rc.1", "1.10.0"]);
    let task = sql.create("'one'").await?;
    let used: String = sql
        .value(&format!(
            "select template_version from tasker.get_task('{task}')"
        ))
        .await?;
    assert_eq!(used, "1.10.0");
    let old = sql.create("'one', version => '1.9.0'").await?;
    let used: String = sql
        .value(&format!(
            "select template_version from tasker.get_task('{old}')"
        ))
        .await?;
    assert_eq!(used, "1.9.0");
    sql.run("select tasker.retire_template('one')").await?;
    assert_eq!(sql.value::<String>(newest).await?, "1.10.0-rc.1");
    sql.verify().await
}

#[tokio::test]
async fn a_retired_version_takes_no_new_task_and_lets_the_old_ones_go_on() -> anyhow::Result<()> {
    let mut sql = Scenario::new().await?;
    sql.register(ONE).await?;
    let task = sql.create("'one'").await?;
    assert!(
        sql.value::<bool>("select tasker.retire_template('one', version => '1.0.0')")
            .await?
    );
    assert!(
        !sql.value::<bool>("select tasker.retire_template('one', version => '1.0.0')")
            .await?
    );
    assert_eq!(
        sql.refused("select tasker.create_task('one', version => '1.0.0')")
            .await?
            .code,
        "TK015"
    );
    assert_eq!(
        sql.refused("select tasker.create_task('one')").await?.code,
        "TK003"
    );
    let step = sql.claim_one().await?;
    sql.complete(&step, json!(1)).await?;
    assert_eq!(sql.task_state(&task).await?, "complete");
    sql.verify().await
}

#[tokio::test]
async fn a_template_that_is_not_there_is_named_with_what_is() -> anyhow::Result<()> {
    let mut sql = Scenario::new().await?;
    sql.register(ONE).await?;
    for call in [
        "select tasker.get_template('one', 'elsewhere')",
        "select tasker.retire_template('one', version => '9.9.9')",
        "select tasker.create_task('one', 'elsewhere')",
        "select tasker.create_task('one', version => '2.0.0')",
    ] {
        let refusal = sql.refused(call).await?;
        assert_eq!(refusal.code, "TK003", "{call}");
        assert!(
            refusal.detail.contains("default/one 1.0.0"),
            "{}",
            refusal.detail
        );
        assert!(!refusal.hint.is_empty());
    }
    assert_eq!(
        sql.refused("select tasker.get_template(null)").await?.code,
        "TK003"
    );
    Ok(())
}

#[tokio::test]
async fn templates_are_listed_by_namespace() -> anyhow::Result<()> {
    let mut sql = Scenario::new().await?;
    sql.register(ONE).await?;
    sql.register("{name: two, namespace: shop, version: 1.0.0, description: of the shop, steps: [{name: a, handler: {callable: t.a}}, {name: b, handler: {callable: t.a}}]}")
        .await?;
    assert_eq!(
        sql.rows("select * from tasker.list_templates()")
            .await?
            .len(),
        2
    );
    let of_shop = sql
        .row("select * from tasker.list_templates('shop')")
        .await?;
    assert_eq!(
        (
            &of_shop["name"],
            &of_shop["steps_count"],
            &of_shop["description"]
        ),
        (&json!("two"), &json!(2), &json!("of the shop"))
    );
    assert!(of_shop["registered_by"].is_string() && of_shop["retired_at"].is_null());
    assert_eq!(
        sql.rows("select * from tasker.list_templates('nowhere')")
            .await?
            .len(),
        0
    );
    Ok(())
}

#[tokio::test]
async fn an_environment_is_applied_and_makes_other_content() -> anyhow::Result<()> {
    let mut sql = Scenario::new().await?;
    let yaml = "{name: env, version: 1.0.0, environments: {production: {steps: [{name: ALL, retry: {max_attempts: 9}}]}}, steps: [{name: a, handler: {callable: t.a}}]}";
    sql.run(&format!(
        "select tasker.register_template('{yaml}'::text, 'production')"
    ))
    .await?;
    sql.create("'env'").await?;
    assert_eq!(sql.claim_one().await?["max_attempts"], 9);
    let refusal = sql
        .refused(&format!("select tasker.register_template('{yaml}'::text)"))
        .await?;
    assert_eq!(refusal.code, "TK014");
    Ok(())
}
