//! Templates: registering and checking.

use serde_json::{Value, json};
use tasker_tests::Scenario;
use tasker_tests::scenario::quoted;

const ONE: &str = "{name: one, version: 1.0.0, steps: [{name: a, handler: {callable: t.a}}]}";

/// A template with the steps given in YAML's short form.
fn with_steps(steps: &str) -> String {
    format!("{{name: bad, version: 1.0.0, steps: [{steps}]}}")
}

async fn findings(sql: &mut Scenario, yaml: &str) -> anyhow::Result<Vec<Value>> {
    sql.rows(&format!(
        "select severity, code, path, message from tasker.validate_template($yaml${yaml}$yaml$::text)"
    ))
    .await
}

/// Registers what must be refused, and gives the code and the findings in its detail.
async fn refused_findings(sql: &mut Scenario, yaml: &str) -> anyhow::Result<(String, Value)> {
    let refusal = sql
        .refused(&format!(
            "select tasker.register_template($yaml${yaml}$yaml$::text)"
        ))
        .await?;
    assert!(!refusal.hint.is_empty());
    Ok((refusal.code, serde_json::from_str(&refusal.detail)?))
}

fn codes(findings: &[Value]) -> Vec<&str> {
    findings
        .iter()
        .filter_map(|finding| finding["code"].as_str())
        .collect()
}

#[tokio::test]
async fn a_template_is_registered_from_yaml_and_from_json() -> anyhow::Result<()> {
    let mut sql = Scenario::new().await?;
    let yaml = sql
        .row(&format!(
            "select * from tasker.register_template('{ONE}'::text)"
        ))
        .await?;
    assert_eq!(
        (
            &yaml["namespace"],
            &yaml["name"],
            &yaml["version"],
            &yaml["created"]
        ),
        (
            &json!("default"),
            &json!("one"),
            &json!("1.0.0"),
            &json!(true)
        )
    );
    let document = json!({"name": "two", "namespace_name": "shop", "version": "1.0.0", "steps": [{"name": "a", "handler": {"callable": "t.a"}}]});
    let row = sql
        .row(&format!(
            "select * from tasker.register_template({})",
            quoted(&document)
        ))
        .await?;
    assert_eq!(
        (&row["namespace"], &row["created"]),
        (&json!("shop"), &json!(true))
    );
    let stored = sql
        .row("select * from tasker.get_template('two', 'shop')")
        .await?;
    assert_eq!(stored["definition"], document);
    let source: String = sql
        .value("select source from tasker.get_template('one')")
        .await?;
    assert_eq!(source, ONE);
    sql.verify().await
}

#[tokio::test]
async fn every_finding_about_a_bad_template_is_told_at_once_with_its_path() -> anyhow::Result<()> {
    let mut sql = Scenario::new().await?;
    let bad = with_steps(
        "{name: a, handler: {callable: ''}, dependencies: [nowhere]}, {name: a, handler: {callable: x}, dependencies: [a]}, \
         {name: c, handler: {callable: x}, retrys: {max_attempts: 2}}",
    );
    let told = findings(&mut sql, &bad).await?;
    let (code, detail) = refused_findings(&mut sql, &bad).await?;
    assert_eq!(code, "TK020");
    assert_eq!(detail, Value::Array(told.clone()));
    for wanted in [
        "EMPTY_CALLABLE",
        "MISSING_DEPENDENCY",
        "DUPLICATE_STEP_NAME",
        "UNKNOWN_FIELD",
    ] {
        assert!(
            codes(&told).contains(&wanted),
            "{wanted} is not in {told:?}"
        );
    }
    let unknown = told
        .iter()
        .find(|finding| finding["code"] == "UNKNOWN_FIELD");
    let unknown = unknown.map(|finding| (finding["path"].clone(), finding["message"].to_string()));
    let (path, message) = unknown.unwrap_or_default();
    assert!(
        path.as_str()
            .is_some_and(|path| path.starts_with("steps[2]")),
        "{path}"
    );
    assert!(
        message.contains("retry"),
        "the nearest known name is not in {message}"
    );
    assert_eq!(
        sql.value::<i64>("select count(*) from tasker.templates")
            .await?,
        0
    );
    assert_eq!(
        sql.value::<i64>("select count(*) from tasker.namespaces")
            .await?,
        0
    );
    Ok(())
}

#[tokio::test]
async fn a_cycle_is_refused_and_its_path_named() -> anyhow::Result<()> {
    let mut sql = Scenario::new().await?;
    let ring = with_steps(
        "{name: free, handler: {callable: x}}, {name: a, handler: {callable: x}, dependencies: [c, free]}, \
         {name: b, handler: {callable: x}, dependencies: [a]}, {name: c, handler: {callable: x}, dependencies: [b]}",
    );
    let (code, detail) = refused_findings(&mut sql, &ring).await?;
    assert_eq!(code, "TK020");
    let message = detail
        .as_array()
        .into_iter()
        .flatten()
        .find(|finding| finding["code"] == "CYCLE_DETECTED")
        .and_then(|finding| finding["message"].as_str().map(str::to_owned))
        .unwrap_or_default();
    let turns = [
        "a -> b -> c -> a",
        "b -> c -> a -> b",
        "c -> a -> b -> c",
        "a → b → c → a",
        "b → c → a → b",
        "c → a → b → c",
        "a -> c -> b -> a",
        "c -> b -> a -> c",
        "b -> a -> c -> b",
        "a → c → b → a",
        "c → b → a → c",
        "b → a → c → b",
    ];
    assert!(
        turns.iter().any(|turn| message.contains(turn)),
        "no ring in: {message}"
    );
    assert!(!message.contains("free"), "{message}");
    Ok(())
}

#[tokio::test]
async fn malformed_yaml_is_told_with_line_and_column() -> anyhow::Result<()> {
    let mut sql = Scenario::new().await?;
    let (code, detail) = refused_findings(
        &mut sql,
        "name: x\nversion: 1.0.0\nsteps:\n  - name: [a\n  b: }\n",
    )
    .await?;
    assert_eq!(code, "TK020");
    assert_eq!(detail[0]["code"], "SCHEMA_INVALID");
    assert_eq!(detail[0]["path"], "");
    let message = detail[0]["message"].as_str().unwrap_or_default();
    assert!(
        message.starts_with("line 5, column ") || message.starts_with("line 4, column "),
        "{message}"
    );
    Ok(())
}

#[tokio::test]
async fn handlers_that_are_not_built_are_refused_by_name() -> anyhow::Result<()> {
    let mut sql = Scenario::new().await?;
    let told = findings(
        &mut sql,
        &with_steps("{name: a, type: decision, handler: {callable: 'sql:s.f'}}"),
    )
    .await?;
    let refused = told
        .iter()
        .filter(|finding| finding["path"] == "steps[0].handler.callable")
        .count();
    assert_eq!(refused, 1, "{told:?}");
    Ok(())
}

#[tokio::test]
async fn more_steps_than_the_limit_are_refused_by_their_own_code() -> anyhow::Result<()> {
    let mut sql = Scenario::new().await?;
    let steps = |count: u32| {
        let steps: Vec<_> = (0..count)
            .map(|n| json!({"name": format!("s{n}"), "handler": {"callable": "x"}}))
            .collect();
        quoted(&json!({"name": "wide", "version": "1.0.0", "steps": steps}))
    };
    let refusal = sql
        .refused(&format!(
            "select tasker.register_template({})",
            steps(10_001)
        ))
        .await?;
    assert_eq!(refusal.code, "TK022");
    sql.run("set local tasker.max_template_steps = 2").await?;
    let refusal = sql
        .refused(&format!("select tasker.register_template({})", steps(3)))
        .await?;
    assert_eq!(refusal.code, "TK022");
    sql.run(&format!("select tasker.register_template({})", steps(2)))
        .await
}

#[tokio::test]
async fn validating_never_raises() -> anyhow::Result<()> {
    let mut sql = Scenario::new().await?;
    let texts = [
        "",
        " ",
        "null",
        "42",
        "- a\n- b",
        "{",
        "\t",
        "name: &a [*a]",
        "&a [*a, *a]",
        "!!binary x",
        "%YAML 9.9\n---\n",
        "---\na: 1\n---\nb: 2\n",
        "{name: 1, steps: {}}",
        "{name: x, version: 1.0.0, steps: [null]}",
        "{name: x, version: 1.0.0, steps: [{name: a, handler: 3}]}",
        "{a: 1, a: 2}",
        "\u{feff}name: x",
        "name: \"\\ud800\"",
    ];
    for text in texts {
        let told = findings(&mut sql, text).await?;
        assert!(
            told.iter().any(|finding| finding["severity"] == "error"),
            "nothing said of {text:?}"
        );
    }
    for document in [
        "null",
        "[]",
        "1e400",
        "\"x\"",
        "{\"name\": null, \"steps\": [[]]}",
    ] {
        let count: i64 = sql
            .value(&format!("select count(*) from tasker.validate_template('{document}'::jsonb) where severity = 'error'"))
            .await?;
        assert!(count > 0, "nothing said of {document}");
    }
    for null in ["null::text", "null::jsonb"] {
        let count: i64 = sql
            .value(&format!(
                "select count(*) from tasker.validate_template({null})"
            ))
            .await?;
        assert_eq!(count, 1);
        let refusal = sql
            .refused(&format!("select tasker.register_template({null})"))
            .await?;
        assert_eq!(refusal.code, "22023");
    }
    Ok(())
}

#[tokio::test]
async fn warnings_do_not_stop_a_registration() -> anyhow::Result<()> {
    let mut sql = Scenario::new().await?;
    let loose = with_steps(
        "{name: a, handler: {callable: x}}, {name: b, handler: {callable: x}, dependencies: [a]}, {name: alone, handler: {callable: x}}",
    );
    let told = findings(&mut sql, &loose).await?;
    assert!(
        codes(&told).contains(&"ORPHAN_STEP") && codes(&told).contains(&"NO_RESULT_SCHEMA"),
        "{told:?}"
    );
    assert!(
        told.iter().all(|finding| finding["severity"] == "warning"),
        "{told:?}"
    );
    sql.register(&loose).await
}
