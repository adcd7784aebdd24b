//! Child tasks: started by a step, their result or failure, and cancellation downwards.

use serde_json::{Value, json};
use tasker_tests::Scenario;
use tasker_tests::scenario::{key, names};

const CHILD: &str = "
name: child
version: 1.0.0
input_schema: {type: object, properties: {n: {type: integer, default: 6}}}
steps:
  - {name: work, handler: {callable: t.work}, retry: {max_attempts: 1}}
  - {name: left, handler: {callable: t.left}, dependencies: [work]}
  - {name: right, handler: {callable: t.right}, dependencies: [work]}
";

const PARENT: &str = "
name: parent
version: 1.0.0
steps:
  - {name: price, handler: {callable: t.price}}
  - {name: pay, type: task, dependencies: [price], task: {template: child, context: price.order}}
  - {name: ship, handler: {callable: t.ship}, dependencies: [pay]}
";

async fn maintain(sql: &mut Scenario) -> anyhow::Result<()> {
    sql.run("select tasker.run_maintenance()").await?;
    sql.verify().await
}

/// A parent whose child has started, and that child.
async fn family(sql: &mut Scenario) -> anyhow::Result<(String, String)> {
    sql.register(CHILD).await?;
    sql.register(PARENT).await?;
    let parent = sql
        .create("'parent', context => '{\"x\": 1}', priority => 7")
        .await?;
    let price = sql.claim_one().await?;
    sql.complete(&price, json!({"order": {"n": 3}})).await?;
    sql.verify().await?;
    maintain(sql).await?;
    let child = child_of(sql, &parent).await?;
    Ok((parent, child))
}

async fn child_of(sql: &mut Scenario, parent: &str) -> anyhow::Result<String> {
    sql.value(&format!(
        "select child_task_uuid::text from tasker.list_steps('{parent}') where name = 'pay'"
    ))
    .await
}

/// Runs all there is to run, each step with its own name as result.
async fn run_all(sql: &mut Scenario) -> anyhow::Result<Vec<String>> {
    let mut ran = Vec::new();
    loop {
        maintain(sql).await?;
        let claimed = sql.claim("w", 10).await?;
        if claimed.is_empty() {
            return Ok(ran);
        }
        for step in &claimed {
            ran.extend(
                names(std::slice::from_ref(step))
                    .into_iter()
                    .map(str::to_owned),
            );
            sql.complete(step, step["step_name"].clone()).await?;
        }
    }
}

async fn pay(sql: &mut Scenario, parent: &str) -> anyhow::Result<Value> {
    sql.row(&format!(
        "select step_uuid, state, result, error, attempt from tasker.list_steps('{parent}') where name = 'pay'"
    ))
    .await
}

#[tokio::test]
async fn a_child_runs_and_its_result_is_that_of_its_last_steps() -> anyhow::Result<()> {
    let mut sql = Scenario::new().await?;
    let (parent, child) = family(&mut sql).await?;
    assert_eq!(sql.task_state(&parent).await?, "waiting_for_dependencies");
    let shown = sql
        .row(&format!(
            "select c.context, c.priority, c.parent_task_uuid = p.task_uuid as of_parent, c.parent_step_uuid, c.parent_correlation_id = p.correlation_id as correlates
             from tasker.get_task('{child}') c, tasker.get_task('{parent}') p"
        ))
        .await?;
    assert_eq!(shown["context"], json!({"n": 3}));
    assert_eq!(shown["priority"], 7);
    assert_eq!(shown["of_parent"], true);
    assert_eq!(shown["correlates"], true);
    assert_eq!(
        key(&pay(&mut sql, &parent).await?),
        shown["parent_step_uuid"]
    );
    let node: String = sql
        .value(&format!(
            "select child_task_uuid::text from tasker.task_graph('{parent}') where name = 'pay'"
        ))
        .await?;
    assert_eq!(node, child);
    let waits = sql
        .row(&format!(
            "select reason, explanation from tasker.explain_task('{parent}') where step_name = 'pay'"
        ))
        .await?;
    assert_eq!(waits["reason"], "child");
    assert_eq!(
        waits["explanation"],
        format!("waits for child task {child}, which is steps_in_process")
    );

    assert_eq!(run_all(&mut sql).await?, ["work", "left", "right", "ship"]);
    assert_eq!(
        pay(&mut sql, &parent).await?["result"],
        json!({"left": "left", "right": "right"})
    );
    assert_eq!(sql.task_state(&parent).await?, "complete");
    assert_eq!(sql.task_state(&child).await?, "complete");
    Ok(())
}

#[tokio::test]
async fn a_child_that_fails_fails_its_step_and_a_reset_starts_another() -> anyhow::Result<()> {
    let mut sql = Scenario::new().await?;
    let (parent, child) = family(&mut sql).await?;
    let work = sql.claim_one().await?;
    sql.fail(&work, json!({"message": "no money", "retryable": false}))
        .await?;
    assert_eq!(sql.task_state(&child).await?, "error");
    // Its end waits for nobody: the parent goes on in a transaction of its own.
    assert_eq!(sql.task_state(&parent).await?, "waiting_for_dependencies");
    maintain(&mut sql).await?;
    assert_eq!(sql.task_state(&parent).await?, "error");
    let failed = pay(&mut sql, &parent).await?;
    assert_eq!(failed["state"], "error");
    assert_eq!(failed["error"]["type"], "child_failed");
    assert_eq!(failed["error"]["detail"]["task_uuid"], child);
    assert_eq!(failed["error"]["detail"]["state"], "error");

    sql.run(&format!("select tasker.reset_step('{}')", key(&failed)))
        .await?;
    sql.verify().await?;
    assert_eq!(run_all(&mut sql).await?, ["work", "left", "right", "ship"]);
    assert_ne!(child_of(&mut sql, &parent).await?, child);
    assert_eq!(sql.task_state(&parent).await?, "complete");
    Ok(())
}

#[tokio::test]
async fn a_child_that_is_mended_after_it_failed_its_parent_changes_nothing_there()
-> anyhow::Result<()> {
    let mut sql = Scenario::new().await?;
    let (parent, child) = family(&mut sql).await?;
    let work = sql.claim_one().await?;
    sql.fail(&work, json!({"message": "no", "retryable": false}))
        .await?;
    maintain(&mut sql).await?;
    sql.run(&format!("select tasker.reset_step('{}')", key(&work)))
        .await?;
    assert_eq!(run_all(&mut sql).await?, ["work", "left", "right"]);
    assert_eq!(sql.task_state(&child).await?, "complete");
    assert_eq!(sql.task_state(&parent).await?, "error");
    // Mended in time, before the parent has heard of it, it goes on as if nothing had been.
    let mut sql = Scenario::new().await?;
    let (parent, _) = family(&mut sql).await?;
    let work = sql.claim_one().await?;
    sql.fail(&work, json!({"message": "no", "retryable": false}))
        .await?;
    sql.run(&format!("select tasker.reset_step('{}')", key(&work)))
        .await?;
    assert_eq!(run_all(&mut sql).await?, ["work", "left", "right", "ship"]);
    assert_eq!(sql.task_state(&parent).await?, "complete");
    Ok(())
}

#[tokio::test]
async fn cancelling_goes_down_and_a_cancelled_child_fails_its_step() -> anyhow::Result<()> {
    let mut sql = Scenario::new().await?;
    let (parent, child) = family(&mut sql).await?;
    sql.run(&format!("select tasker.cancel_task('{parent}')"))
        .await?;
    assert_eq!(sql.task_state(&child).await?, "steps_in_process");
    maintain(&mut sql).await?;
    assert_eq!(sql.task_state(&child).await?, "cancelled");
    maintain(&mut sql).await?;
    assert_eq!(sql.task_state(&parent).await?, "cancelled");

    let mut sql = Scenario::new().await?;
    let (parent, child) = family(&mut sql).await?;
    sql.run(&format!("select tasker.cancel_task('{child}')"))
        .await?;
    maintain(&mut sql).await?;
    assert_eq!(sql.task_state(&parent).await?, "error");
    assert_eq!(
        pay(&mut sql, &parent).await?["error"]["message"],
        format!("child task {child} was cancelled")
    );

    // A parent that is cancelled before its child has started starts none.
    let mut sql = Scenario::new().await?;
    sql.register(CHILD).await?;
    sql.register(PARENT).await?;
    let parent = sql.create("'parent'").await?;
    let price = sql.claim_one().await?;
    sql.complete(&price, json!({"order": {}})).await?;
    sql.run(&format!("select tasker.cancel_task('{parent}')"))
        .await?;
    maintain(&mut sql).await?;
    assert_eq!(
        sql.value::<i64>("select count(*) from tasker.list_tasks()")
            .await?,
        1
    );
    Ok(())
}

#[tokio::test]
async fn a_step_that_is_settled_by_hand_cancels_its_child() -> anyhow::Result<()> {
    let mut sql = Scenario::new().await?;
    let (parent, child) = family(&mut sql).await?;
    let waits = pay(&mut sql, &parent).await?;
    sql.run(&format!(
        "select tasker.complete_step_manually('{}', '7')",
        key(&waits)
    ))
    .await?;
    maintain(&mut sql).await?;
    assert_eq!(sql.task_state(&child).await?, "cancelled");
    assert_eq!(run_all(&mut sql).await?, ["ship"]);
    assert_eq!(sql.task_state(&parent).await?, "complete");
    Ok(())
}

#[tokio::test]
async fn a_child_that_can_not_be_started_fails_its_step_visibly() -> anyhow::Result<()> {
    for (template, context, code) in [
        ("{template: nowhere}", "{}", "TK003"),
        ("{template: child, version: 9.0.0}", "{}", "TK003"),
        ("{template: child, context: {n: text}}", "{}", "TK021"),
        ("{template: child, context: price.order}", "7", "22023"),
    ] {
        let mut sql = Scenario::new().await?;
        sql.register(CHILD).await?;
        sql.register(&format!(
            "{{name: parent, version: 1.0.0, steps: [{{name: price, handler: {{callable: t.price}}}}, {{name: pay, type: task, dependencies: [price], task: {template}}}]}}"
        ))
        .await?;
        let parent = sql.create("'parent'").await?;
        let price = sql.claim_one().await?;
        let order: Value = serde_json::from_str(context)?;
        sql.complete(&price, json!({"order": order})).await?;
        maintain(&mut sql).await?;
        let failed = pay(&mut sql, &parent).await?;
        assert_eq!(failed["state"], "error", "{template}");
        assert_eq!(failed["error"]["type"], "child_not_started", "{template}");
        assert_eq!(failed["error"]["code"], code, "{failed}");
        assert_eq!(sql.task_state(&parent).await?, "error");
    }
    Ok(())
}

#[tokio::test]
async fn a_child_takes_the_context_of_its_parent_unless_told_otherwise() -> anyhow::Result<()> {
    let mut sql = Scenario::new().await?;
    sql.register(CHILD).await?;
    sql.register(
        "{name: parent, version: 1.0.0, steps: [{name: pay, type: task, task: {template: child}}]}",
    )
    .await?;
    let parent = sql.create("'parent', context => '{\"n\": 5}'").await?;
    assert_eq!(sql.task_state(&parent).await?, "waiting_for_dependencies");
    maintain(&mut sql).await?;
    let child = child_of(&mut sql, &parent).await?;
    let context: Value = sql
        .value(&format!("select context from tasker.get_task('{child}')"))
        .await?;
    assert_eq!(context, json!({"n": 5}));
    Ok(())
}

#[tokio::test]
async fn a_task_that_starts_itself_ends_at_the_deepest_that_is_allowed() -> anyhow::Result<()> {
    let mut sql = Scenario::new().await?;
    sql.run("set local tasker.max_depth = 3").await?;
    sql.register(
        "{name: again, version: 1.0.0, steps: [{name: pay, type: task, task: {template: again}}]}",
    )
    .await?;
    let first = sql.create("'again'").await?;
    for _ in 0..20 {
        maintain(&mut sql).await?;
    }
    assert_eq!(
        sql.value::<i64>("select count(*) from tasker.list_tasks()")
            .await?,
        4
    );
    assert_eq!(sql.task_state(&first).await?, "error");
    let deepest: Value = sql
        .value("select s.error from tasker.list_tasks() t, tasker.list_steps(t.task_uuid) s where s.error ->> 'code' = 'TK022'")
        .await?;
    assert_eq!(deepest["type"], "too_deep");
    Ok(())
}
