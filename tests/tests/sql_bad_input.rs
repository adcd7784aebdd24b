//! Bad input: each has its code, and the transaction goes on as if it had not been tried.

use std::io::Write;
use std::process::{Command, Stdio};

use anyhow::Context;
use serde_json::{Value, json};
use tasker_tests::{Scenario, TestDatabase};

const ONE: &str = "{name: one, version: 1.0.0, steps: [{name: a, handler: {callable: t.a}}, {name: b, handler: {callable: t.b}, dependencies: [a]}]}";
const CHECKED: &str = "{name: checked, version: 1.0.0, input_schema: {type: object, properties: {n: {type: integer}}}, \
    steps: [{name: a, handler: {callable: t.a}, result_schema: {type: object, properties: {n: {type: integer}}}}]}";

async fn with_tasks() -> anyhow::Result<Scenario> {
    let mut sql = Scenario::new().await?;
    sql.register(ONE).await?;
    sql.register(CHECKED).await?;
    Ok(sql)
}

/// Every row of the engine's tables and queues, as one number.
async fn fingerprint(sql: &mut Scenario) -> anyhow::Result<String> {
    sql.value(
        "select md5(string_agg(x.t, ' ' order by x.t)) from (select t::text from tasker.tasks t union all select s::text from tasker.steps s \
         union all select h::text from tasker.task_transitions h union all select h::text from tasker.step_transitions h \
         union all select i::text from tasker.idempotency_keys i union all select x::text from tasker.templates x \
         union all select q::text from pgmq.q_worker_default_queue q) x(t)",
    )
    .await
}

#[tokio::test]
async fn what_is_refused_leaves_the_rest_of_the_transaction_untouched() -> anyhow::Result<()> {
    let mut sql = with_tasks().await?;
    sql.create("'one', idempotency_key => 'k'").await?;
    let step = sql.claim_one().await?;
    let uuid = tasker_tests::scenario::key(&step).to_owned();
    let before = fingerprint(&mut sql).await?;
    for (call, code) in [
        ("tasker.create_task('one', context => '{\"x\": \"\\u0000\"}')".to_owned(), "22P05"),
        ("tasker.create_task('one', context => '{\"x\\u0000\": 1}')".to_owned(), "22P05"),
        ("tasker.create_task('one', context => jsonb_build_object('x', convert_from('\\xff', 'UTF8')))".to_owned(), "22021"),
        ("tasker.create_task('one', context => '{\"x\": \"\\ud800\"}')".to_owned(), "22P02"),
        ("tasker.create_task('one', context => '{\"x\": 1e999999}')".to_owned(), "22003"),
        ("tasker.create_task('one', context => '{\"x\": NaN}')".to_owned(), "22P02"),
        ("tasker.create_task('one', context => '{\"x\": 01}')".to_owned(), "22P02"),
        ("tasker.create_task('one', context => '{')".to_owned(), "22P02"),
        ("tasker.create_task('one', context => (repeat('[', 100000) || repeat(']', 100000))::jsonb)".to_owned(), "54001"),
        ("tasker.create_task('none')".to_owned(), "TK003"),
        ("tasker.create_task('one', idempotency_key => 'k', priority => 1)".to_owned(), "TK013"),
        ("tasker.create_tasks('[{\"template_name\": \"one\"}, {\"template_name\": \"none\"}]')".to_owned(), "TK003"),
        ("tasker.create_task('checked', context => '{\"n\": \"x\"}')".to_owned(), "TK021"),
        (format!("tasker.complete_step('{uuid}', 9, '1')"), "TK011"),
        (format!("tasker.complete_step('{uuid}', 1, '\"\\u0000\"')"), "22P05"),
        ("tasker.register_template('name: \"a\\0b\"'::text)".to_owned(), "TK020"),
        ("tasker.register_template('{'::text)".to_owned(), "TK020"),
    ] {
        let refusal = sql.refused(&format!("select {call}")).await?;
        assert_eq!(refusal.code, code, "{call}: {}", refusal.message);
        assert!(!refusal.code.starts_with("TK") || refusal.code == "TK011" || !refusal.hint.is_empty(), "{call} has no hint");
        assert_eq!(fingerprint(&mut sql).await?, before, "{call}");
    }
    sql.complete(&step, json!(1)).await?;
    sql.verify().await
}

#[tokio::test]
async fn every_numeric_argument_out_of_range_is_refused() -> anyhow::Result<()> {
    let mut sql = with_tasks().await?;
    sql.create("'one'").await?;
    let before = fingerprint(&mut sql).await?;
    for (call, code) in [
        ("tasker.claim_steps('w', '{default}', -1)", "22023"),
        ("tasker.claim_steps('w', '{default}', null)", "22023"),
        ("tasker.claim_steps('w', '{default}', 10001)", "TK022"),
        ("tasker.claim_steps('w', '{default}', 2147483647)", "TK022"),
        (
            "tasker.claim_steps('w', '{default}', 1, interval '0')",
            "22023",
        ),
        (
            "tasker.claim_steps('w', '{default}', 1, interval '-1 hour')",
            "22023",
        ),
        (
            "tasker.claim_steps('w', '{default}', 1, interval '178000000 years')",
            "22023",
        ),
        ("tasker.claim_steps('w', '{default}', 1, null)", "22023"),
        ("tasker.claim_steps('', '{default}')", "22023"),
        ("tasker.claim_steps(null, '{default}')", "22023"),
        ("tasker.claim_steps(repeat('w', 201), '{default}')", "22023"),
        ("tasker.finish_steps('w', '[]', -1)", "22023"),
        ("tasker.finish_steps('w', '[]', 10001)", "TK022"),
        ("tasker.finish_steps('w', '[]', null)", "22023"),
        ("tasker.finish_steps('w', '[]', 0, interval '0')", "22023"),
        ("tasker.finish_steps('', '[]')", "22023"),
        ("tasker.finish_steps('w', null)", "22023"),
        ("tasker.finish_steps('w', '{}')", "22023"),
        (
            "tasker.finish_steps('w', (select jsonb_agg(1) from generate_series(1, 10001)))",
            "TK022",
        ),
        (
            "tasker.register_worker('', '{default}', '{}', 'rust', '1')",
            "22023",
        ),
        (
            "tasker.register_worker('w', '{}', '{}', 'rust', '1')",
            "22023",
        ),
        (
            "tasker.register_worker('w', null, '{}', 'rust', '1')",
            "22023",
        ),
        (
            "tasker.register_worker('w', array[null]::text[], '{}', 'rust', '1')",
            "22023",
        ),
        (
            "tasker.register_worker('w', '{default}', null, 'rust', '1')",
            "22023",
        ),
        (
            "tasker.register_worker('w', '{{a},{b}}', '{}', 'rust', '1')",
            "22023",
        ),
        ("tasker.worker_heartbeat('w', -1, 0)", "22023"),
        ("tasker.worker_heartbeat('w', 0, -1)", "22023"),
        ("tasker.worker_heartbeat('w', null, 1)", "22023"),
        ("tasker.worker_heartbeat('unknown', 0, 1)", "TK004"),
    ] {
        let refusal = sql.refused(&format!("select {call}")).await?;
        assert_eq!(refusal.code, code, "{call}: {}", refusal.message);
        assert_eq!(fingerprint(&mut sql).await?, before, "{call}");
    }
    // What asks for nothing gets nothing.
    assert!(sql.claim("w", 0).await?.is_empty());
    for call in [
        "select * from tasker.claim_steps('w', '{}')",
        "select * from tasker.claim_steps('w', null)",
        "select * from tasker.claim_steps('w', '{nowhere,NULL}')",
        "select 1 where tasker.work_due_in_ms('{default}', '{nobody,NULL}') is not null",
    ] {
        assert!(sql.rows(call).await?.is_empty(), "{call}");
    }
    assert_eq!(fingerprint(&mut sql).await?, before);
    Ok(())
}

#[tokio::test]
async fn numbers_of_any_size_stay_what_they_are() -> anyhow::Result<()> {
    let mut sql = with_tasks().await?;
    let digits = "7".repeat(400);
    for (template, number) in [
        ("one", digits.as_str()),
        ("checked", digits.as_str()),
        (
            "one",
            "-0.000000000000000000000000000000000000000000000000001",
        ),
        ("one", "12345678901234567890.123456789012345678901234567890"),
        ("one", "9007199254740993"),
        ("checked", "9007199254740993"),
    ] {
        let task = sql
            .create(&format!("'{template}', context => '{{\"n\": {number}}}'"))
            .await?;
        let kept: String = sql
            .value(&format!(
                "select (context -> 'n')::text from tasker.get_task('{task}')"
            ))
            .await?;
        assert_eq!(kept, number);
        let claimed = "select step_uuid::text || ' ' || (context -> 'n')::text from tasker.claim_steps('w', '{default}')";
        let answer: String = sql.value(claimed).await?;
        let (uuid, seen) = answer.split_once(' ').context("no claim")?;
        assert_eq!(seen, number);
        sql.run(&format!(
            "select tasker.complete_step('{uuid}', 1, '{{\"n\": {number}}}')"
        ))
        .await?;
        let result: String = sql
            .value(&format!(
                "select (result -> 'n')::text from tasker.get_step('{uuid}')"
            ))
            .await?;
        assert_eq!(result, number);
        if template == "one" {
            let next = "select step_uuid::text || ' ' || (dependency_results -> 'a' -> 'n')::text from tasker.claim_steps('w', '{default}')";
            let answer: String = sql.value(next).await?;
            let (uuid, seen) = answer.split_once(' ').context("no claim")?;
            assert_eq!(seen, number);
            sql.run(&format!("select tasker.complete_step('{uuid}', 1, 'null')"))
                .await?;
        }
        assert_eq!(sql.task_state(&task).await?, "complete");
    }
    // 1e400 is beyond a double, and a number all the same.
    let task = sql.create("'checked', context => '{\"n\": 1e400}'").await?;
    let kept: i32 = sql
        .value(&format!(
            "select length(context ->> 'n') from tasker.get_task('{task}')"
        ))
        .await?;
    assert_eq!(kept, 401);
    assert_eq!(
        sql.refused("select tasker.create_task('checked', context => '{\"n\": 1.5}')")
            .await?
            .code,
        "TK021"
    );
    sql.verify().await
}

#[tokio::test]
async fn absurd_numbers_in_a_template_are_findings() -> anyhow::Result<()> {
    let mut sql = Scenario::new().await?;
    let absurd = [
        "1e400",
        "-1",
        "0.5",
        "99999999999999999999999",
        ".nan",
        ".inf",
        "'3'",
        "null",
        "true",
        "0x10",
    ];
    for field in [
        "retry: {max_attempts: N}",
        "retry: {backoff_base_ms: N}",
        "timeout_seconds: N",
    ] {
        for number in absurd {
            let step = field.replace('N', number);
            let yaml = format!(
                "{{name: t, version: 1.0.0, steps: [{{name: a, handler: {{callable: x}}, {step}}}]}}"
            );
            let errors: i64 = sql
                .value(&format!("select count(*) from tasker.validate_template($y${yaml}$y$::text) where severity = 'error'"))
                .await?;
            // A null is a field that was left out; hexadecimal is a number in YAML.
            assert!(
                errors > 0 || number == "null" || number == "0x10",
                "{step} was accepted"
            );
        }
    }
    let zero = "{name: t, version: 1.0.0, steps: [{name: a, handler: {callable: x}, retry: {max_attempts: 0}}]}";
    let errors: i64 = sql
        .value(&format!(
            "select count(*) from tasker.validate_template('{zero}'::text) where severity = 'error'"
        ))
        .await?;
    assert!(errors > 0, "no attempt at all was accepted");
    Ok(())
}

#[tokio::test]
async fn deep_nesting_is_kept_or_refused_by_code() -> anyhow::Result<()> {
    let mut sql = with_tasks().await?;
    let nested = |depth: usize| format!("{}1{}", "[".repeat(depth), "]".repeat(depth));
    let task = sql
        .create(&format!("'one', context => '{{\"x\": {}}}'", nested(100)))
        .await?;
    let step = sql.claim_one().await?;
    sql.run(&format!(
        "select tasker.complete_step('{}', 1, '{}')",
        tasker_tests::scenario::key(&step),
        nested(100)
    ))
    .await?;
    let next = sql.claim_one().await?;
    assert_eq!(next["dependency_results"]["a"].to_string(), nested(100));
    sql.complete(&next, Value::Null).await?;
    assert_eq!(sql.task_state(&task).await?, "complete");
    sql.create(&format!(
        "'checked', context => '{{\"x\": {}}}'",
        nested(100)
    ))
    .await?;
    for template in ["one", "checked"] {
        sql.create(&format!(
            "'{template}', context => '{{\"x\": {}}}'",
            nested(119)
        ))
        .await?;
        let deep = format!(
            "select tasker.create_task('{template}', context => '{{\"x\": {}}}')",
            nested(120)
        );
        let refusal = sql.refused(&deep).await?;
        assert_eq!(
            (refusal.code.as_str(), refusal.message.as_str()),
            (
                "TK022",
                "the context of request 1 is nested deeper than 120 levels"
            )
        );
        let refusal = sql
            .refused(&format!(
                "select tasker.create_task('{template}', context => '{{\"x\": {}}}')",
                nested(50_000)
            ))
            .await?;
        assert!(
            ["54001", "TK022"].contains(&refusal.code.as_str()),
            "{}: {}",
            refusal.code,
            refusal.message
        );
    }
    let deep_yaml = nested(5000);
    let errors: i64 = sql.value(&format!("select count(*) from tasker.validate_template('{deep_yaml}'::text) where severity = 'error'")).await?;
    assert!(errors > 0);
    sql.verify().await
}

/// Sends bytes as they are through psql, and gives what it says.
fn through_psql(database: &TestDatabase, bytes: &[u8]) -> anyhow::Result<String> {
    let mut psql = Command::new(database.program("psql"))
        .args(["-X", "-q", "-v", "VERBOSITY=verbose", "-d", database.url()])
        .env("PGCLIENTENCODING", "UTF8")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()?;
    psql.stdin
        .take()
        .context("psql has no input")?
        .write_all(bytes)?;
    let output = psql.wait_with_output()?;
    Ok(String::from_utf8_lossy(&output.stderr).into_owned())
}

#[tokio::test]
async fn broken_utf_8_on_the_wire_is_refused_and_the_session_goes_on() -> anyhow::Result<()> {
    let database = TestDatabase::new().await?;
    sqlx::query("select tasker.register_template($1::text)")
        .bind(ONE)
        .execute(database.pool())
        .await?;
    let said = through_psql(
        &database,
        b"begin;\nselect tasker.create_task('one');\nsavepoint s;\nselect tasker.create_task('one', context => '{\"x\": \"\xff\xfe\"}');\n\
          rollback to s;\nselect tasker.register_template('name: \xc3\x28'::text);\nrollback to s;\nselect tasker.create_task('one');\ncommit;\n",
    )?;
    assert_eq!(said.matches("22021").count(), 2, "{said}");
    let kept: i64 = sqlx::query_scalar("select count(*) from tasker.tasks")
        .fetch_one(database.pool())
        .await?;
    assert_eq!(kept, 2);
    Ok(())
}

#[tokio::test]
async fn names_and_values_with_quotes_are_only_names_and_values() -> anyhow::Result<()> {
    let mut sql = with_tasks().await?;
    let nasty = "'; drop table tasker.tasks; --\" \\ % {} $1 \u{1F980} \u{202e}";
    let literal = format!("'{}'", nasty.replace('\'', "''"));
    let task = sql
        .create(&format!("'one', idempotency_key => {literal}, tags => array[{literal}], reason => {literal}, initiator => {literal}"))
        .await?;
    let row = sql
        .row(&format!("select * from tasker.get_task('{task}')"))
        .await?;
    assert_eq!(
        (&row["reason"], &row["tags"], &row["idempotency_key"]),
        (&json!(nasty), &json!([nasty]), &json!(nasty))
    );
    let found = sql
        .rows(&format!(
            "select * from tasker.list_tasks(tags => array[{literal}])"
        ))
        .await?;
    assert_eq!(found.len(), 1);
    for call in [
        format!("tasker.create_task({literal})"),
        format!("tasker.create_task('one', {literal})"),
        format!("tasker.create_task('one', version => {literal})"),
    ] {
        assert_eq!(
            sql.refused(&format!("select {call}")).await?.code,
            "TK003",
            "{call}"
        );
    }
    assert!(
        sql.rows(&format!(
            "select * from tasker.claim_steps('w', array[{literal}])"
        ))
        .await?
        .is_empty()
    );
    assert!(
        sql.rows(&format!(
            "select * from tasker.claim_steps('w', '{{default}}', handlers => array[{literal}])"
        ))
        .await?
        .is_empty()
    );
    let claimed = sql
        .rows(&format!(
            "select * from tasker.claim_steps({literal}, '{{default}}')"
        ))
        .await?;
    assert_eq!(claimed.len(), 1);
    sql.verify().await
}
