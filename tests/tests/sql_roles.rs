//! Who may call what: the five roles, nothing for PUBLIC, no table for anybody.

use serde_json::json;
use sqlx::Executor;
use tasker_tests::Scenario;
use tasker_tests::scenario::key;

const ONE: &str = "{name: one, version: 1.0.0, steps: [{name: a, handler: {callable: t.a}}]}";
const REGISTER: &str = "select * from tasker.register_template('{name: two, version: 1.0.0, steps: [{name: a, handler: {callable: t.a}}]}'::text)";

const READ: [&str; 9] = [
    "select * from tasker.list_templates()",
    "select * from tasker.get_template('one')",
    "select * from tasker.validate_template('x'::text)",
    "select * from tasker.list_tasks()",
    "select * from tasker.get_task((select (tasker.list_tasks()).task_uuid limit 1))",
    "select * from tasker.list_steps((select (tasker.list_tasks()).task_uuid limit 1))",
    "select * from tasker.task_history((select (tasker.list_tasks()).task_uuid limit 1))",
    "select * from tasker.explain_task((select (tasker.list_tasks()).task_uuid limit 1))",
    "select * from tasker.health()",
];
const CREATE: [&str; 2] = [
    "select tasker.create_task('one')",
    "select * from tasker.create_tasks('[{\"template_name\": \"one\"}]')",
];
const WORK: [&str; 5] = [
    "select * from tasker.claim_steps('w', '{default}')",
    "select * from tasker.finish_steps('w', '[]')",
    "select * from tasker.extend_leases('w', '[]')",
    "select tasker.register_worker('w', '{default}', '{}', 'rust', '1'); select tasker.worker_heartbeat('w', 0, 1)",
    "select tasker.work_due_in_ms('{default}')",
];
const OPERATE: [&str; 7] = [
    "select * from tasker.run_maintenance()",
    "select * from tasker.verify()",
    "select * from tasker.queue_stats()",
    "select tasker.cancel_task(tasker.create_task('one'))",
    "select tasker.pause_task(tasker.create_task('one'))",
    "select tasker.pause_namespace('default'), tasker.resume_namespace('default')",
    "select * from tasker.resume_task((select (tasker.list_tasks()).task_uuid limit 1))",
];
const PRIVATE: [&str; 8] = [
    "select tasker._now()",
    "select tasker._set_now(now())",
    "select tasker._queue_delete('worker_default_queue', '{1}')",
    "select tasker._raise('TK001', 'x')",
    "select * from tasker.tasks",
    "delete from tasker.steps",
    "insert into tasker.namespaces (name, queue_name, created_at) values ('x', 'x', now())",
    "select * from pgmq.q_worker_default_queue",
];

/// What the role may do passes, all else of the lists is refused as 42501.
async fn holds(role: &str, allowed: &[&[&str]], forbidden: &[&[&str]]) -> anyhow::Result<()> {
    let mut sql = Scenario::new().await?;
    sql.register(ONE).await?;
    sql.create("'one'").await?;
    sql.run(&format!("set role {role}")).await?;
    for call in allowed.concat() {
        sql.run(call).await?;
    }
    for call in forbidden.concat() {
        let refusal = sql.refused(call).await?;
        assert_eq!(refusal.code, "42501", "{role}: {call}: {}", refusal.message);
    }
    sql.run("reset role").await?;
    sql.verify().await
}

#[tokio::test]
async fn a_reader_reads_and_no_more() -> anyhow::Result<()> {
    holds(
        "tasker_reader",
        &[&READ, &["select * from tasker.queue_stats()"]],
        &[&CREATE, &WORK, &PRIVATE, &OPERATE[..2], &[REGISTER]],
    )
    .await
}

#[tokio::test]
async fn a_client_creates_and_reads_and_no_more() -> anyhow::Result<()> {
    holds(
        "tasker_client",
        &[&READ, &CREATE],
        &[&WORK, &PRIVATE, &OPERATE, &[REGISTER]],
    )
    .await
}

#[tokio::test]
async fn a_worker_works_and_no_more() -> anyhow::Result<()> {
    holds(
        "tasker_worker",
        &[&WORK],
        &[&READ[..8], &CREATE, &OPERATE, &PRIVATE, &[REGISTER]],
    )
    .await
}

#[tokio::test]
async fn an_operator_reads_creates_and_mends_and_no_more() -> anyhow::Result<()> {
    holds(
        "tasker_operator",
        &[&READ, &CREATE, &OPERATE],
        &[&WORK, &PRIVATE, &[REGISTER]],
    )
    .await
}

#[tokio::test]
async fn an_admin_may_call_everything_public_and_touch_no_table() -> anyhow::Result<()> {
    holds(
        "tasker_admin",
        &[&READ, &CREATE, &WORK, &OPERATE, &[REGISTER]],
        &[&PRIVATE],
    )
    .await
}

#[tokio::test]
async fn nothing_is_granted_to_public() -> anyhow::Result<()> {
    let mut sql = Scenario::new().await?;
    let role = format!("nobody_{}", std::process::id());
    // Roles belong to the cluster, but what is not committed is nobody's.
    sql.run(&format!("create role {role}; set role {role}"))
        .await?;
    for call in READ
        .iter()
        .chain(&CREATE)
        .chain(&WORK)
        .chain(&OPERATE)
        .chain(&PRIVATE)
    {
        assert_eq!(sql.refused(call).await?.code, "42501", "{call}");
    }
    sql.run("reset role").await?;
    let reachable = sql
        .rows(
            "select c.relname, r.rolname from pg_class c, pg_roles r where c.relnamespace = 'tasker'::regnamespace and c.relkind = 'r' \
             and r.rolname like 'tasker\\_%' and has_table_privilege(r.oid, c.oid, 'select, insert, update, delete, truncate')",
        )
        .await?;
    assert!(reachable.is_empty(), "{reachable:?}");
    Ok(())
}

#[tokio::test]
async fn the_actor_is_the_caller_and_not_the_owner() -> anyhow::Result<()> {
    let mut sql = Scenario::new().await?;
    sql.register(ONE).await?;
    sql.run("set role tasker_client").await?;
    let task = sql.create("'one'").await?;
    let actor: String = sql
        .value(&format!(
            "select actor from tasker.task_history('{task}') limit 1"
        ))
        .await?;
    assert_eq!(actor, "tasker_client");
    sql.run("set role tasker_worker").await?;
    let step = sql.claim_one().await?;
    sql.run(&format!(
        "select tasker.complete_step('{}', 1, '1')",
        key(&step)
    ))
    .await?;
    sql.run("reset role").await?;
    let actor: String = sql
        .value(&format!(
            "select actor from tasker.step_history('{}') order by seq desc limit 1",
            key(&step)
        ))
        .await?;
    assert_eq!(actor, "tasker_worker");
    Ok(())
}

#[tokio::test]
async fn a_callers_own_objects_are_not_taken_for_the_engines() -> anyhow::Result<()> {
    let mut sql = Scenario::new().await?;
    sql.register(ONE).await?;
    sql.session()
        .execute(
            "create schema mine; create function mine.now() returns timestamptz language plpgsql as 'begin raise exception ''caught''; end'; \
             create function mine.count(bigint) returns bigint language plpgsql as 'begin raise exception ''caught''; end'; \
             create temporary table tasks (x int); create temporary table steps (x int); set local search_path = mine, pg_temp, pg_catalog",
        )
        .await?;
    let task = sql.create("'one'").await?;
    let step = sql.claim_one().await?;
    sql.complete(&step, json!(1)).await?;
    assert_eq!(sql.task_state(&task).await?, "complete");
    sql.verify().await
}
