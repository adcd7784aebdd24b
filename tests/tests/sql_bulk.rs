//! Bulk jobs: one action on every task of a filter, previewed, in batches, with what refuses it counted.

use serde_json::{Value, json};
use tasker_tests::Scenario;

const ONE: &str = "{name: one, version: 1.0.0, steps: [{name: a, handler: {callable: t.a}, retry: {max_attempts: 1}}]}";

async fn with_tasks(count: u32) -> anyhow::Result<Scenario> {
    let mut sql = Scenario::new().await?;
    sql.register(ONE).await?;
    sql.run(&format!(
        "select tasker.create_task('one', tags => array[case when n % 2 = 0 then 'even' else 'odd' end]) from generate_series(1, {count}) n"
    ))
    .await?;
    Ok(sql)
}

async fn apply(sql: &mut Scenario, filter: &str, action: &str) -> anyhow::Result<Value> {
    sql.row(&format!(
        "select * from tasker.apply_to_tasks('{filter}', '{action}', dry_run => false, reason => 'flood')"
    ))
    .await
}

async fn round(sql: &mut Scenario, batch: u32) -> anyhow::Result<i64> {
    sql.value(&format!(
        "select processed from tasker.run_maintenance({batch}) where job = 'bulk_jobs'"
    ))
    .await
}

async fn job(sql: &mut Scenario) -> anyhow::Result<Value> {
    sql.row("select seen, changed, refused, last_refusal ->> 'code' as code, finished_at is not null as finished from tasker.list_bulk_jobs() limit 1")
        .await
}

async fn states(sql: &mut Scenario) -> anyhow::Result<Value> {
    sql.value("select jsonb_object_agg(state, count) from (select state, count(*) from tasker.tasks group by state) t")
        .await
}

#[tokio::test]
async fn a_dry_run_shows_what_it_finds_and_changes_nothing() -> anyhow::Result<()> {
    let mut sql = with_tasks(30).await?;
    let found = sql
        .row(r#"select job_uuid, matched, more, cardinality(sample) as sample from tasker.apply_to_tasks('{"tags": ["even"]}', 'cancel')"#)
        .await?;
    assert_eq!(
        found,
        json!({"job_uuid": null, "matched": 15, "more": false, "sample": 10})
    );
    assert_eq!(round(&mut sql, 100).await?, 0);
    assert_eq!(states(&mut sql).await?, json!({"steps_in_process": 30}));
    Ok(())
}

#[tokio::test]
async fn a_job_goes_on_from_where_it_was_until_every_task_is_seen() -> anyhow::Result<()> {
    let mut sql = with_tasks(30).await?;
    let made = apply(&mut sql, r#"{"tags": ["even"]}"#, "cancel").await?;
    assert_eq!(made["matched"], 15);
    assert_eq!(round(&mut sql, 10).await?, 10);
    assert_eq!(
        job(&mut sql).await?,
        json!({"seen": 10, "changed": 10, "refused": 0, "code": null, "finished": false})
    );
    // A task that comes while the job runs isn't its business.
    sql.clock(1_000).await?;
    sql.create("'one', tags => array['even']").await?;
    assert_eq!(round(&mut sql, 10).await?, 5);
    assert_eq!(
        job(&mut sql).await?,
        json!({"seen": 15, "changed": 15, "refused": 0, "code": null, "finished": true})
    );
    assert_eq!(round(&mut sql, 10).await?, 0);
    assert_eq!(
        states(&mut sql).await?,
        json!({"cancelled": 15, "steps_in_process": 16})
    );
    let reason: String = sql
        .value("select metadata ->> 'reason' from tasker.task_transitions where path like '%X' limit 1")
        .await?;
    assert!(
        reason.starts_with("bulk job ") && reason.ends_with(": flood"),
        "{reason}"
    );
    sql.verify().await
}

#[tokio::test]
async fn failed_steps_of_many_tasks_are_reset_or_resolved() -> anyhow::Result<()> {
    let mut sql = with_tasks(6).await?;
    let claimed = sql.claim("w", 6).await?;
    for step in &claimed[..4] {
        sql.fail(step, json!({"message": "m"})).await?;
    }
    for step in &claimed[4..] {
        sql.complete(step, json!(1)).await?;
    }
    apply(
        &mut sql,
        r#"{"states": ["error"], "tags": ["odd"]}"#,
        "reset_failed",
    )
    .await?;
    apply(
        &mut sql,
        r#"{"states": ["error"], "tags": ["even"]}"#,
        "resolve_failed",
    )
    .await?;
    assert_eq!(round(&mut sql, 10).await?, 2);
    assert_eq!(round(&mut sql, 10).await?, 2);
    assert_eq!(
        states(&mut sql).await?,
        json!({"complete": 4, "steps_in_process": 2})
    );
    sql.verify().await
}

#[tokio::test]
async fn a_task_that_refuses_the_action_is_counted_and_the_others_go_on() -> anyhow::Result<()> {
    let mut sql = with_tasks(3).await?;
    let step = &sql.claim("w", 1).await?[0].clone();
    sql.complete(step, json!(1)).await?;
    apply(&mut sql, "{}", "cancel").await?;
    round(&mut sql, 100).await?;
    assert_eq!(
        job(&mut sql).await?,
        json!({"seen": 3, "changed": 2, "refused": 1, "code": "TK010", "finished": true})
    );
    assert_eq!(
        states(&mut sql).await?,
        json!({"cancelled": 2, "complete": 1})
    );
    apply(&mut sql, r#"{"states": ["complete"]}"#, "rerun").await?;
    round(&mut sql, 100).await?;
    assert_eq!(
        states(&mut sql).await?,
        json!({"cancelled": 2, "steps_in_process": 1})
    );
    sql.verify().await
}

#[tokio::test]
async fn a_job_is_cancelled_and_bad_ones_are_refused() -> anyhow::Result<()> {
    let mut sql = with_tasks(3).await?;
    let made = apply(&mut sql, "{}", "cancel").await?;
    let cancel = format!(
        "select tasker.cancel_bulk_job('{}')",
        made["job_uuid"].as_str().unwrap_or_default()
    );
    assert!(sql.value::<bool>(&cancel).await?);
    assert!(!sql.value::<bool>(&cancel).await?);
    assert_eq!(round(&mut sql, 100).await?, 0);
    assert_eq!(states(&mut sql).await?, json!({"steps_in_process": 3}));
    for (call, code, words) in [
        (
            r#"apply_to_tasks('{"colour": "red"}', 'cancel')"#,
            "22023",
            "unknown field: colour",
        ),
        (
            r#"apply_to_tasks('{"states": "error"}', 'cancel')"#,
            "22023",
            "filter.states must be of type array",
        ),
        (
            "apply_to_tasks('[]', 'cancel')",
            "22023",
            "must be a JSON object",
        ),
        ("apply_to_tasks('{}', 'explode')", "22023", "unknown action"),
        (
            r#"apply_to_tasks('{"created_after": "soon"}', 'cancel')"#,
            "22007",
            "soon",
        ),
        (
            "cancel_bulk_job('018f0000-0000-7000-8000-000000000000')",
            "TK004",
            "not found",
        ),
        ("list_bulk_jobs(\"limit\" => 0)", "22023", "limit"),
    ] {
        let refusal = sql.refused(&format!("select * from tasker.{call}")).await?;
        assert_eq!(refusal.code, code, "{call}: {refusal:?}");
        assert!(refusal.message.contains(words), "{call}: {refusal:?}");
    }
    Ok(())
}
