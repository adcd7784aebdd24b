//! Creating tasks: defaults, schemas, limits, many at once, rollback.

use serde_json::{Value, json};
use sqlx::{Connection, Executor};
use tasker_tests::scenario::quoted;
use tasker_tests::{Scenario, TestDatabase};

const ONE: &str = "{name: one, version: 1.0.0, steps: [{name: a, handler: {callable: t.a}}]}";
const STRICT_CONTEXT: &str = "{name: checked, version: 1.0.0, \
    input_schema: {type: object, required: [id], properties: {id: {type: integer}, size: {type: integer, default: 7}, tags: {default: [x]}}}, \
    steps: [{name: a, handler: {callable: t.a}}]}";

/// A scenario with the templates registered.
async fn with(templates: &[&str]) -> anyhow::Result<Scenario> {
    let mut sql = Scenario::new().await?;
    for template in templates {
        sql.register(template).await?;
    }
    Ok(sql)
}

async fn count(sql: &mut Scenario, table: &str) -> anyhow::Result<i64> {
    sql.value(&format!("select count(*) from {table}")).await
}

#[tokio::test]
async fn a_task_has_what_it_was_created_with() -> anyhow::Result<()> {
    let mut sql = with(&[ONE]).await?;
    let correlation = "018f0000-0000-7000-8000-000000000001";
    let task = sql
        .create(&format!(
            "template_name => 'one', context => '{{\"n\": 3}}', priority => -5, tags => '{{a,b}}', initiator => 'i', source_system => 's', \
             reason => 'r', idempotency_key => 'k', correlation_id => '{correlation}', parent_correlation_id => '{correlation}'"
        ))
        .await?;
    let row = sql
        .row(&format!("select * from tasker.get_task('{task}')"))
        .await?;
    let wanted = json!({"namespace": "default", "template_name": "one", "template_version": "1.0.0", "state": "steps_in_process", "context": {"n": 3},
        "priority": -5, "tags": ["a", "b"], "initiator": "i", "source_system": "s", "reason": "r", "idempotency_key": "k", "correlation_id": correlation,
        "parent_correlation_id": correlation, "steps_total": 1, "steps_done": 0, "steps_failed": 0, "run_at": null, "finished_at": null, "paused_at": null,
        "error": null, "created_at": "2030-01-01T00:00:00+00:00", "started_at": "2030-01-01T00:00:00+00:00", "task_uuid": task,
        "parent_task_uuid": null, "parent_step_uuid": null, "traceparent": null});
    assert_eq!(row, wanted);
    // UUIDv7, with room for the steps in the low 20 bits.
    assert!(
        task.ends_with("00000") && task.as_bytes().get(14) == Some(&b'7'),
        "{task}"
    );
    let other = sql.create("'one'").await?;
    let own: bool = sql
        .value(&format!(
            "select correlation_id = task_uuid from tasker.get_task('{other}')"
        ))
        .await?;
    assert!(own, "without one given, a task is its own correlation");
    sql.verify().await
}

#[tokio::test]
async fn defaults_of_the_schema_are_filled_in_and_what_is_given_wins() -> anyhow::Result<()> {
    let mut sql = with(&[STRICT_CONTEXT]).await?;
    let task = sql
        .create("'checked', context => '{\"id\": 1, \"size\": 9}'")
        .await?;
    let context: Value = sql
        .value(&format!("select context from tasker.get_task('{task}')"))
        .await?;
    assert_eq!(context, json!({"id": 1, "size": 9, "tags": ["x"]}));
    assert_eq!(sql.claim_one().await?["context"], context);
    Ok(())
}

#[tokio::test]
async fn a_context_against_the_schema_is_refused_with_every_violation() -> anyhow::Result<()> {
    let mut sql = with(&[STRICT_CONTEXT]).await?;
    let refusal = sql
        .refused("select tasker.create_task('checked', context => '{\"size\": \"big\"}')")
        .await?;
    assert_eq!(refusal.code, "TK021");
    assert!(
        refusal.detail.contains("id") && refusal.detail.contains("size"),
        "{}",
        refusal.detail
    );
    assert!(refusal.message.contains("checked") && !refusal.hint.is_empty());
    assert_eq!(count(&mut sql, "tasker.tasks").await?, 0);
    Ok(())
}

#[tokio::test]
async fn values_out_of_range_are_refused_each_with_its_code() -> anyhow::Result<()> {
    let mut sql = with(&[ONE]).await?;
    for (arguments, code) in [
        ("'nothing_like_it'", "TK003"),
        ("null", "22023"),
        ("''", "TK003"),
        ("'one', priority => 101", "22023"),
        ("'one', priority => -101", "22023"),
        ("'one', priority => 2147483647", "22023"),
        ("'one', context => '[]'", "22023"),
        ("'one', context => '3'", "22023"),
        ("'one', context => null", "22023"),
        ("'one', context => 'null'", "22023"),
        ("'one', idempotency_key => ''", "22023"),
        ("'one', idempotency_key => repeat('k', 501)", "22023"),
        (
            "'one', context => jsonb_build_object('x', repeat('x', 1100000))",
            "TK022",
        ),
        ("'one', run_at => '300000-01-01'", "22008"),
    ] {
        let refusal = sql
            .refused(&format!("select tasker.create_task({arguments})"))
            .await?;
        assert_eq!(refusal.code, code, "{arguments}: {}", refusal.message);
        assert!(!refusal.message.is_empty());
    }
    for priority in [-100, 100] {
        sql.create(&format!("'one', priority => {priority}"))
            .await?;
    }
    sql.create("'one', context => jsonb_build_object('x', repeat('x', 1000000))")
        .await?;
    assert_eq!(count(&mut sql, "tasker.tasks").await?, 3);
    sql.verify().await
}

#[tokio::test]
async fn a_task_for_later_waits_until_maintenance_finds_it_due() -> anyhow::Result<()> {
    let mut sql = with(&[ONE]).await?;
    let task = sql
        .create("'one', run_at => '2030-01-01 00:01:00+00'")
        .await?;
    assert_eq!(sql.task_state(&task).await?, "pending");
    assert_eq!(
        sql.value::<i32>(&format!(
            "select steps_total from tasker.get_task('{task}')"
        ))
        .await?,
        1
    );
    let started = "select processed from tasker.run_maintenance() where job = 'start_due_tasks'";
    sql.clock(59_999).await?;
    assert_eq!(sql.value::<i64>(started).await?, 0);
    assert!(sql.claim("w", 1).await?.is_empty());
    sql.verify().await?;
    sql.clock(60_000).await?;
    assert_eq!(sql.value::<i64>(started).await?, 1);
    assert_eq!(sql.task_state(&task).await?, "steps_in_process");
    sql.claim_one().await?;
    // What is due already starts at once.
    let past = sql.create("'one', run_at => '2029-01-01'").await?;
    assert_eq!(sql.task_state(&past).await?, "steps_in_process");
    sql.verify().await
}

#[tokio::test]
async fn many_tasks_are_created_in_order_and_across_namespaces() -> anyhow::Result<()> {
    let mut sql = with(&[ONE, &ONE.replace("name: one", "name: two, namespace: shop")]).await?;
    let requests = json!([
        {"template_name": "two", "namespace": "shop", "context": {"i": 1}}, {"template_name": "one", "context": {"i": 2}, "priority": 3},
        {"template_name": "two", "namespace": "shop", "context": {"i": 3}, "run_at": "2031-01-01T00:00:00Z", "tags": ["t"]}, {"template_name": "one"}
    ]);
    let made = sql
        .rows(&format!(
            "select * from tasker.create_tasks({})",
            quoted(&requests)
        ))
        .await?;
    let mut rows = Vec::new();
    for created in &made {
        let mut row = sql
            .row(&format!(
                "select * from tasker.get_task('{}')",
                created["task_uuid"].as_str().unwrap_or_default()
            ))
            .await?;
        (row["ordinal"], row["created"]) = (created["ordinal"].clone(), created["created"].clone());
        rows.push(row);
    }
    let brief: Vec<_> = rows
        .iter()
        .map(|row| {
            json!([
                row["ordinal"],
                row["created"],
                row["context"]["i"],
                row["namespace"],
                row["state"]
            ])
        })
        .collect();
    assert_eq!(
        Value::Array(brief),
        json!([
            [1, true, 1, "shop", "steps_in_process"],
            [2, true, 2, "default", "steps_in_process"],
            [3, true, 3, "shop", "pending"],
            [4, true, null, "default", "steps_in_process"]
        ])
    );
    assert_eq!(
        (&rows[1]["priority"], &rows[2]["tags"]),
        (&json!(3), &json!(["t"]))
    );
    assert_eq!(
        sql.rows("select * from tasker.create_tasks('[]')")
            .await?
            .len(),
        0
    );
    sql.verify().await
}

#[tokio::test]
async fn one_bad_request_refuses_all_and_is_named_by_its_number() -> anyhow::Result<()> {
    let mut sql = with(&[ONE, STRICT_CONTEXT]).await?;
    let good = json!({"template_name": "one"});
    for (bad, code, named) in [
        (json!({"template_name": "none"}), "TK003", "none"),
        (json!({}), "22023", "request 2"),
        (
            json!({"template_name": "one", "priority": 200}),
            "22023",
            "request 2",
        ),
        (
            json!({"template_name": "one", "context": 1}),
            "22023",
            "request 2",
        ),
        (
            json!({"template_name": "one", "context": null}),
            "22023",
            "request 2",
        ),
        (
            json!({"template_name": "one", "colour": "red"}),
            "22023",
            "colour",
        ),
        (json!({"template_name": "checked"}), "TK021", "request 2"),
        (
            json!({"template_name": "one", "context": {"x": "x".repeat(1_100_000)}}),
            "TK022",
            "request 2",
        ),
        (json!("one"), "22023", "request 2"),
        (json!(null), "22023", "request 2"),
        (
            json!({"template_name": "one", "priority": "high"}),
            "22P02",
            "",
        ),
        (
            json!({"template_name": "one", "priority": 1.5}),
            "22P02",
            "",
        ),
        (
            json!({"template_name": "one", "run_at": "soon"}),
            "22007",
            "",
        ),
        (
            json!({"template_name": "one", "correlation_id": "x"}),
            "22P02",
            "",
        ),
        (
            json!({"template_name": "one", "tags": "x"}),
            "22023",
            "tags",
        ),
    ] {
        let requests = json!([good, bad, good]);
        let refusal = sql
            .refused(&format!(
                "select tasker.create_tasks({})",
                quoted(&requests)
            ))
            .await?;
        let asked = bad.to_string().chars().take(80).collect::<String>();
        assert_eq!(refusal.code, code, "{asked}: {}", refusal.message);
        assert!(
            refusal.message.contains(named),
            "{asked}: {}",
            refusal.message
        );
    }
    for (whole, code) in [
        ("'{}'", "22023"),
        ("null", "22023"),
        ("'3'", "22023"),
        (
            "(select jsonb_agg('{}'::jsonb) from generate_series(1, 10001))",
            "TK022",
        ),
    ] {
        assert_eq!(
            sql.refused(&format!("select tasker.create_tasks({whole})"))
                .await?
                .code,
            code,
            "{whole}"
        );
    }
    assert_eq!(count(&mut sql, "tasker.tasks").await?, 0);
    sql.verify().await
}

#[tokio::test]
async fn what_is_rolled_back_leaves_nothing_anywhere() -> anyhow::Result<()> {
    let database = TestDatabase::new().await?;
    let mut setting_up = database.session().await?;
    sqlx::query("select tasker.register_template($1::text)")
        .bind(ONE)
        .execute(&mut setting_up)
        .await?;
    let mut ears = sqlx::postgres::PgListener::connect(database.url()).await?;
    ears.listen("tasker_ready_default").await?;
    let before = everything(&mut setting_up).await?;

    let mut session = database.session().await?;
    session.execute("begin").await?;
    session.execute("select tasker.create_task('one', idempotency_key => 'k'), tasker.create_task('one', run_at => '2099-01-01')").await?;
    assert_ne!(everything(&mut session).await?, before);
    session.execute("rollback").await?;
    assert_eq!(everything(&mut setting_up).await?, before);

    // Only the notification of what is committed afterwards arrives.
    session.execute("begin; savepoint s").await?;
    session.execute("select tasker.create_task('one')").await?;
    session
        .execute("rollback to s; notify tasker_ready_default, 'a mark of the test'; commit")
        .await?;
    assert_eq!(everything(&mut setting_up).await?, before);
    assert_eq!(ears.recv().await?.payload(), "a mark of the test");
    session.execute("select tasker.create_task('one')").await?;
    assert_eq!(ears.recv().await?.payload(), "");
    session.close().await?;
    Ok(())
}

#[tokio::test]
async fn a_session_may_let_workers_find_its_work_by_themselves() -> anyhow::Result<()> {
    let database = TestDatabase::new().await?;
    let mut session = database.session().await?;
    sqlx::query("select tasker.register_template($1::text)")
        .bind(ONE)
        .execute(&mut session)
        .await?;
    let mut ears = sqlx::postgres::PgListener::connect(database.url()).await?;
    ears.listen("tasker_ready_default").await?;

    session.execute("set tasker.notify = off").await?;
    session.execute("select tasker.create_task('one')").await?;
    session
        .execute("notify tasker_ready_default, 'a mark of the test'")
        .await?;
    assert_eq!(ears.recv().await?.payload(), "a mark of the test");
    let due: Option<i64> = sqlx::query_scalar("select tasker.work_due_in_ms('{default}')")
        .fetch_one(&mut session)
        .await?;
    assert_eq!(due, Some(0), "who asks hears of it");
    session
        .execute("reset tasker.notify; select tasker.create_task('one')")
        .await?;
    assert_eq!(ears.recv().await?.payload(), "");
    session.close().await?;
    Ok(())
}

/// The number of rows in each table of Tasker and of its queues.
async fn everything(session: &mut sqlx::PgConnection) -> anyhow::Result<Vec<(String, i64)>> {
    let tables: Vec<String> = sqlx::query_scalar(
        "select c.oid::regclass::text from pg_class c where c.relkind = 'r' and c.relnamespace in ('tasker'::regnamespace, 'pgmq'::regnamespace) order by 1",
    )
    .fetch_all(&mut *session)
    .await?;
    let mut counts = Vec::new();
    for table in tables {
        let rows = sqlx::query_scalar(&format!("select count(*) from {table}"))
            .fetch_one(&mut *session)
            .await?;
        counts.push((table, rows));
    }
    assert!(
        counts
            .iter()
            .any(|(table, _)| table == "pgmq.q_worker_default_queue")
    );
    Ok(counts)
}
