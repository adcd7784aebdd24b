//! Traces in SQL: which tasks are part of one, and how workers learn of it.

use serde_json::{Value, json};
use tasker_tests::Scenario;
use tasker_tests::bank::Bank;
use tasker_tests::scenario::done;

const GIVEN: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

const CHAIN: &str = "{name: chain, version: 1.0.0, steps: [{name: a, handler: {callable: t.a}}, {name: b, handler: {callable: t.b}, dependencies: [a]}]}";

async fn trace_of(sql: &mut Scenario, task: &str) -> anyhow::Result<Option<String>> {
    sql.value(&format!(
        "select traceparent from tasker.get_task('{task}')"
    ))
    .await
}

async fn set(sql: &mut Scenario, traceparent: &str) -> anyhow::Result<()> {
    sql.run(&format!("set local tasker.traceparent = '{traceparent}'"))
        .await
}

#[tokio::test]
async fn tasks_carry_the_span_that_the_setting_names_to_every_worker() -> anyhow::Result<()> {
    let mut sql = Scenario::new().await?;
    sql.register(CHAIN).await?;
    set(&mut sql, GIVEN).await?;
    let task = sql.create("'chain'").await?;
    assert_eq!(trace_of(&mut sql, &task).await?.as_deref(), Some(GIVEN));
    let a = sql.claim_one().await?;
    assert_eq!(a["handler"]["traceparent"], GIVEN);
    let handed_over = sql.finish("w", json!([done(&a, json!(1))]), 1).await?;
    assert_eq!(handed_over.claimed[0]["handler"]["traceparent"], GIVEN);
    sql.verify().await
}

#[tokio::test]
async fn a_task_without_a_trace_shows_none() -> anyhow::Result<()> {
    let mut sql = Scenario::new().await?;
    sql.register(CHAIN).await?;
    set(&mut sql, GIVEN).await?;
    sql.run("reset tasker.traceparent").await?;
    let task = sql.create("'chain'").await?;
    assert_eq!(trace_of(&mut sql, &task).await?, None);
    assert_eq!(
        sql.claim_one().await?["handler"]["traceparent"],
        Value::Null
    );
    Ok(())
}

#[tokio::test]
async fn what_is_no_traceparent_is_ignored_and_a_later_version_is_read_as_far_as_it_is_known()
-> anyhow::Result<()> {
    let mut sql = Scenario::new().await?;
    sql.register(CHAIN).await?;
    for bad in [
        "nonsense",
        "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
        "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
        "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
    ] {
        set(&mut sql, bad).await?;
        let task = sql.create("'chain'").await?;
        assert_eq!(trace_of(&mut sql, &task).await?, None, "{bad}");
    }
    set(&mut sql, &format!("01{}-more", &GIVEN[2..])).await?;
    let task = sql.create("'chain'").await?;
    assert_eq!(trace_of(&mut sql, &task).await?.as_deref(), Some(GIVEN));
    Ok(())
}

#[tokio::test]
async fn all_tasks_of_a_call_are_of_the_trace_and_one_that_exists_stays_what_it_is()
-> anyhow::Result<()> {
    let mut sql = Scenario::new().await?;
    sql.register(CHAIN).await?;
    let before = sql.create("'chain', idempotency_key => 'k'").await?;
    set(&mut sql, GIVEN).await?;
    let created = sql
        .rows(
            "select task_uuid::text from tasker.create_tasks('[{\"template_name\": \"chain\"}, {\"template_name\": \"chain\", \"run_at\": \"2031-01-01\"}, {\"template_name\": \"chain\", \"idempotency_key\": \"k\"}]')
             order by ordinal",
        )
        .await?;
    let mut shown = Vec::new();
    for row in &created {
        let task = row["task_uuid"].as_str().unwrap_or_default();
        shown.push(trace_of(&mut sql, task).await?);
    }
    let given = Some(GIVEN.to_owned());
    assert_eq!(shown, [given.clone(), given, None]);
    assert_eq!(created[2]["task_uuid"], json!(before));
    let refused = sql
        .refused("select tasker.create_tasks('[{\"template_name\": \"chain\", \"traceparent\": \"x\"}]')")
        .await?;
    assert_eq!(refused.code, "22023");
    Ok(())
}

#[tokio::test]
async fn a_child_task_is_of_its_parents_trace_whoever_starts_it() -> anyhow::Result<()> {
    let mut sql = Scenario::new().await?;
    sql.register(CHAIN).await?;
    sql.register("{name: parent, version: 1.0.0, steps: [{name: child, type: task, task: {template: chain}}]}")
        .await?;
    set(&mut sql, GIVEN).await?;
    let traced = sql.create("'parent'").await?;
    sql.run("reset tasker.traceparent").await?;
    let untraced = sql.create("'parent'").await?;
    // Another trace, in which maintenance happens to be run.
    set(&mut sql, &GIVEN.replace("4bf9", "aaaa")).await?;
    // One child at a time.
    for _ in 0..2 {
        sql.run("select tasker.run_maintenance()").await?;
    }
    for (parent, expected) in [(traced, Some(GIVEN)), (untraced, None)] {
        let child: String = sql
            .value(&format!(
                "select child_task_uuid::text from tasker.list_steps('{parent}')"
            ))
            .await?;
        assert_eq!(trace_of(&mut sql, &child).await?.as_deref(), expected);
    }
    sql.verify().await
}

#[tokio::test]
async fn a_task_that_a_schedule_creates_is_of_no_trace() -> anyhow::Result<()> {
    let mut sql = Scenario::new().await?;
    sql.register(CHAIN).await?;
    set(&mut sql, GIVEN).await?;
    sql.run("select tasker.create_schedule('often', '* * * * *', 'chain')")
        .await?;
    sql.run("reset tasker.traceparent").await?;
    sql.clock(120_000).await?;
    sql.run("select tasker.run_maintenance()").await?;
    let shown = sql
        .rows("select traceparent from tasker.list_tasks()")
        .await?;
    assert!(!shown.is_empty());
    assert!(
        shown.iter().all(|task| task["traceparent"] == Value::Null),
        "{shown:?}"
    );
    Ok(())
}

#[tokio::test]
async fn what_the_function_of_a_sql_step_creates_is_of_its_tasks_trace() -> anyhow::Result<()> {
    let tells = "begin return to_jsonb(current_setting('tasker.traceparent', true)); end";
    let mut bank = Bank::new(&[("tells", tells)]).await?;
    bank.run(&format!("set tasker.traceparent = '{GIVEN}'"))
        .await?;
    let traced = bank.create().await?;
    bank.run("reset tasker.traceparent").await?;
    let untraced = bank.create().await?;
    bank.drain().await?;
    for (task, expected) in [(traced, GIVEN), (untraced, "")] {
        assert_eq!(bank.steps(&task).await?["tells"]["result"], expected);
    }
    bank.end().await
}
