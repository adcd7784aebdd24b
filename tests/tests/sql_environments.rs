//! A template's changes for an environment: what they change and what they don't, what is wrong in them, and what a version means when there are several environments.

use serde_json::{Value, json};
use tasker_tests::Scenario;
use tasker_tests::scenario::quoted;

/// A template of two steps with the given changes.
fn template(environments: &Value) -> Value {
    let step = |name: &str| {
        json!({"name": name, "timeout_seconds": 10,
            "handler": {"callable": format!("t.{name}"), "method": "run", "initialization": {"url": "local", "size": 1}},
            "retry": {"retryable": true, "max_attempts": 2, "backoff": "linear", "backoff_base_ms": 1000, "max_backoff_ms": 5000, "jitter": 0}})
    };
    json!({"name": "env", "version": "1.0.0", "environments": environments, "steps": [step("a"), step("b")]})
}

async fn register(
    sql: &mut Scenario,
    document: &Value,
    environment: &str,
) -> anyhow::Result<Value> {
    sql.row(&format!(
        "select * from tasker.register_template({}, {environment})",
        quoted(document)
    ))
    .await
}

/// The steps of a task, claimed, by their names.
async fn steps(sql: &mut Scenario) -> anyhow::Result<(Value, Value)> {
    sql.create("'env'").await?;
    let mut claimed = sql.claim("w", 10).await?;
    claimed.sort_by_key(|step| step["step_name"].to_string());
    Ok((claimed[0].clone(), claimed[1].clone()))
}

/// How long a failed attempt of a step waits for the next.
async fn delay_after_failure(sql: &mut Scenario, step: &Value) -> anyhow::Result<i64> {
    sql.fail(step, json!({"message": "busy"})).await?;
    sql.value(&format!(
        "select (extract(epoch from retry_at - tasker._now()) * 1000)::bigint from tasker.get_step('{}')",
        step["step_uuid"].as_str().unwrap_or_default()
    ))
    .await
}

#[tokio::test]
async fn every_field_that_may_be_changed_is() -> anyhow::Result<()> {
    let changes = json!({"production": {"steps": [{"name": "a", "timeout_seconds": 77,
        "handler": {"callable": "t.live", "method": "call", "initialization": {"url": "far", "more": true}},
        "retry": {"max_attempts": 9, "backoff": "exponential", "backoff_base_ms": 3000}}]}});
    let mut sql = Scenario::new().await?;
    register(&mut sql, &template(&changes), "'production'").await?;
    let (a, b) = steps(&mut sql).await?;
    assert_eq!(
        a["handler"],
        json!({"callable": "t.live", "method": "call", "initialization": {"url": "far", "size": 1, "more": true}})
    );
    assert_eq!(
        (&a["max_attempts"], &a["timeout_seconds"]),
        (&json!(9), &json!(77))
    );
    assert_eq!(delay_after_failure(&mut sql, &a).await?, 3000);
    // The other step is as it was written.
    assert_eq!(
        b["handler"],
        json!({"callable": "t.b", "method": "run", "initialization": {"url": "local", "size": 1}})
    );
    assert_eq!(
        (&b["max_attempts"], &b["timeout_seconds"]),
        (&json!(2), &json!(10))
    );
    assert_eq!(delay_after_failure(&mut sql, &b).await?, 1000);
    sql.verify().await
}

#[tokio::test]
async fn the_bounds_of_retries_may_be_changed() -> anyhow::Result<()> {
    for (retry, delay) in [
        (json!({"max_backoff_ms": 400}), 400),
        (json!({"backoff": "none"}), 0),
        (json!({"backoff": "fibonacci", "backoff_base_ms": 700}), 700),
    ] {
        let mut sql = Scenario::new().await?;
        let changes = json!({"test": {"steps": [{"name": "a", "retry": retry}]}});
        register(&mut sql, &template(&changes), "'test'").await?;
        let (a, _) = steps(&mut sql).await?;
        sql.fail(&a, json!({"message": "busy"})).await?;
        let due: i64 = sql
            .value("select tasker.work_due_in_ms('{default}', '{t.a}')")
            .await?;
        assert_eq!(due, delay, "{retry}");
    }
    let mut sql = Scenario::new().await?;
    let changes = json!({"test": {"steps": [{"name": "a", "retry": {"jitter": 1}}, {"name": "b", "retry": {"retryable": false}}]}});
    register(&mut sql, &template(&changes), "'test'").await?;
    let (mut least, mut most) = (i64::MAX, 0);
    for _ in 0..30 {
        let (a, b) = steps(&mut sql).await?;
        let delay = delay_after_failure(&mut sql, &a).await?;
        (least, most) = (least.min(delay), most.max(delay));
        sql.fail(&b, json!({"message": "busy"})).await?;
        let state: String = sql
            .value(&format!(
                "select state from tasker.get_step('{}')",
                b["step_uuid"].as_str().unwrap_or_default()
            ))
            .await?;
        assert_eq!(state, "error", "it may not be retried");
    }
    assert!(least < 800 && most > 1200, "{least} to {most}");
    Ok(())
}

#[tokio::test]
async fn changes_for_all_come_first_and_those_for_a_step_win_wherever_they_stand()
-> anyhow::Result<()> {
    let changes = json!({"production": {"steps": [
        {"name": "b", "retry": {"max_attempts": 4}},
        {"name": "ALL", "timeout_seconds": 60, "retry": {"max_attempts": 7}}]}});
    let mut sql = Scenario::new().await?;
    register(&mut sql, &template(&changes), "'production'").await?;
    let (a, b) = steps(&mut sql).await?;
    assert_eq!(
        (&a["max_attempts"], &a["timeout_seconds"]),
        (&json!(7), &json!(60))
    );
    assert_eq!(
        (&b["max_attempts"], &b["timeout_seconds"]),
        (&json!(4), &json!(60))
    );
    Ok(())
}

#[tokio::test]
async fn no_environment_or_one_that_the_template_does_not_name_changes_nothing()
-> anyhow::Result<()> {
    for environment in ["null", "'staging'"] {
        let changes = json!({"production": {"steps": [{"name": "ALL", "timeout_seconds": 60}]}});
        let mut sql = Scenario::new().await?;
        register(&mut sql, &template(&changes), environment).await?;
        let (a, _) = steps(&mut sql).await?;
        assert_eq!(a["timeout_seconds"], 10, "{environment}");
    }
    Ok(())
}

#[tokio::test]
async fn what_is_wrong_in_changes_is_found_at_its_path_for_every_environment() -> anyhow::Result<()>
{
    let mut sql = Scenario::new().await?;
    let at = "environments.production.steps[0]";
    for (change, code, path) in [
        (json!({"name": "aa"}), "NAME_INVALID", format!("{at}.name")),
        (
            json!({"name": "a", "timeout": 1}),
            "UNKNOWN_FIELD",
            format!("{at}.timeout"),
        ),
        (
            json!({"name": "a", "dependencies": ["b"]}),
            "UNKNOWN_FIELD",
            format!("{at}.dependencies"),
        ),
        (
            json!({"name": "a", "retry": {"attempts": 1}}),
            "UNKNOWN_FIELD",
            format!("{at}.retry.attempts"),
        ),
        (
            json!({"name": "a", "retry": {"max_attempts": 0}}),
            "SCHEMA_INVALID",
            format!("{at}.retry.max_attempts"),
        ),
        (
            json!({"name": "a", "timeout_seconds": -1}),
            "SCHEMA_INVALID",
            format!("{at}.timeout_seconds"),
        ),
        (
            json!({"name": "a", "handler": {"callable": " "}}),
            "EMPTY_CALLABLE",
            format!("{at}.handler.callable"),
        ),
    ] {
        let document = template(&json!({"production": {"steps": [change]}}));
        for environment in ["null", "'production'", "'staging'"] {
            let found = sql
                .rows(&format!(
                    "select code, path from tasker.validate_template({}, {environment}) where severity = 'error'",
                    quoted(&document)
                ))
                .await?;
            assert_eq!(found, [json!({"code": code, "path": path})], "{change}");
        }
        let refusal = sql
            .refused(&format!(
                "select tasker.register_template({}, 'staging')",
                quoted(&document)
            ))
            .await?;
        assert_eq!(refusal.code, "TK020");
    }
    let twice = template(&json!({"production": {"steps": [{"name": "a"}, {"name": "a"}]}}));
    let codes = sql
        .rows(&format!(
            "select code from tasker.validate_template({}) where severity = 'error'",
            quoted(&twice)
        ))
        .await?;
    assert_eq!(codes, [json!({"code": "DUPLICATE_STEP_NAME"})]);
    Ok(())
}

#[tokio::test]
async fn a_template_is_kept_as_it_was_written() -> anyhow::Result<()> {
    let mut sql = Scenario::new().await?;
    let yaml = "# what runs where
name: env
version: 1.0.0
environments:
  production:
    steps: [{name: ALL, timeout_seconds: 60}]
steps:
  - {name: a, timeout_seconds: 10, handler: {callable: t.a}}
";
    sqlx::query("select * from tasker.register_template($1::text, 'production')")
        .bind(yaml)
        .execute(sql.session())
        .await?;
    let kept = sql
        .row("select definition, source from tasker.get_template('env')")
        .await?;
    assert_eq!(kept["source"], yaml);
    assert_eq!(kept["definition"]["steps"][0]["timeout_seconds"], 10);
    assert_eq!(
        kept["definition"]["environments"]["production"]["steps"][0]["timeout_seconds"],
        60
    );
    // As JSON it is the same template for the same environment.
    let document = json!({"name": "env", "version": "1.0.0", "environments": {"production": {"steps": [{"name": "ALL", "timeout_seconds": 60}]}},
        "steps": [{"name": "a", "timeout_seconds": 10, "handler": {"callable": "t.a"}}]});
    let again = register(&mut sql, &document, "'production'").await?;
    assert_eq!(again["created"], false);
    sql.create("'env'").await?;
    assert_eq!(sql.claim_one().await?["timeout_seconds"], 60);
    Ok(())
}

#[tokio::test]
async fn a_version_means_one_thing_in_a_database_whatever_the_environments() -> anyhow::Result<()> {
    let changes = json!({"production": {"steps": [{"name": "ALL", "timeout_seconds": 60}]},
        "staging": {"steps": [{"name": "ALL", "timeout_seconds": 30}]}});
    let mut sql = Scenario::new().await?;
    let mut document = template(&changes);
    register(&mut sql, &document, "'production'").await?;
    for (environment, told) in [
        ("null", "this is for no environment"),
        ("'staging'", "this is for the environment staging"),
        ("'elsewhere'", "this is for the environment elsewhere"),
    ] {
        let refusal = sql
            .refused(&format!(
                "select tasker.register_template({}, {environment})",
                quoted(&document)
            ))
            .await?;
        assert_eq!(refusal.code, "TK014", "{environment}");
        assert!(
            refusal
                .detail
                .contains("registered for the environment production")
                && refusal.detail.contains(told),
            "{}",
            refusal.detail
        );
    }
    document["version"] = json!("1.0.1");
    let other = register(&mut sql, &document, "'staging'").await?;
    assert_eq!(other["created"], true);
    // Where the template says nothing about either, it is the same content for both.
    document["version"] = json!("1.0.2");
    register(&mut sql, &document, "null").await?;
    let again = register(&mut sql, &document, "'elsewhere'").await?;
    assert_eq!(again["created"], false);
    Ok(())
}
