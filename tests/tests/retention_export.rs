//! What leaves is given to a function of the operator's first, and doesn't leave before that has worked.

use serde_json::{Value, json};
use tasker_tests::Scenario;
use tasker_tests::scenario::done;

const TWO: &str = "{name: two, version: 1.0.0, steps: [\
    {name: a, handler: {callable: t}}, {name: b, handler: {callable: t}, dependencies: [a]}]}";
const DAY: i64 = 24 * 60 * 60 * 1000;
const HOUR: i64 = DAY / 24;
const DUE: i64 = 32 * DAY;

const ARCHIVE: &str = "create schema archive; \
    create table archive.rows (from_table text, range_from timestamptz, range_to timestamptz, row_of_it jsonb); \
    create function archive.keep(p_rows regclass, p_from timestamptz, p_to timestamptz) returns void language plpgsql as $$ begin \
      execute format('insert into archive.rows select %L, $1, $2, to_jsonb(r) from %s r', p_rows, p_rows) using p_from, p_to; end $$; \
    set local tasker.export_function = 'archive.keep'";

/// Two finished tasks and a running one. Gives the keys of those.
async fn scenario() -> anyhow::Result<(Scenario, Vec<String>, String)> {
    let mut sql = Scenario::new().await?;
    sql.register(TWO).await?;
    let mut finished = Vec::new();
    for _ in 0..2 {
        finished.push(sql.create("'two'").await?);
    }
    for _ in 0..2 {
        let held = sql.claim("w", 10).await?;
        let outcomes: Vec<Value> = held
            .iter()
            .map(|step| done(step, json!({"n": 1})))
            .collect();
        sql.finish("w", json!(outcomes), 0).await?;
    }
    finished.sort();
    let running = sql.create("'two'").await?;
    Ok((sql, finished, running))
}

async fn maintained_at(sql: &mut Scenario, milliseconds: i64) -> anyhow::Result<()> {
    sql.clock(milliseconds).await?;
    for _ in 0..6 {
        let jobs = sql.rows("select job from tasker.run_maintenance()").await?;
        assert!(jobs.len() > 3, "maintenance goes on: {jobs:?}");
    }
    Ok(())
}

async fn tasks(sql: &mut Scenario) -> anyhow::Result<i64> {
    sql.value("select count(*) from tasker.list_tasks()").await
}

#[tokio::test]
async fn the_rows_that_leave_are_exported_and_no_others() -> anyhow::Result<()> {
    let (mut sql, finished, running) = scenario().await?;
    sql.run(ARCHIVE).await?;
    maintained_at(&mut sql, DUE).await?;
    assert_eq!(tasks(&mut sql).await?, 1);
    let exported = sql
        .rows(
            "select from_table, count(*), min(range_from at time zone 'UTC')::date as starts_on, max(range_to at time zone 'UTC')::date as ends_on \
             from archive.rows group by 1 order by 1",
        )
        .await?;
    let table = |name: &str, count: i64| {
        json!({"from_table": format!("tasker.{name}_p20291227_20300103_leaving"), "count": count,
               "starts_on": "2029-12-27", "ends_on": "2030-01-03"})
    };
    assert_eq!(
        exported,
        [
            table("step_transitions", 12),
            table("steps", 4),
            table("task_transitions", 4),
            table("tasks", 2)
        ]
    );
    let keys: Value = sql
        .value("select jsonb_agg(row_of_it ->> 'task_uuid' order by 1) from (select * from archive.rows where from_table like 'tasker.tasks%' order by row_of_it ->> 'task_uuid') r")
        .await?;
    assert_eq!(keys, json!(finished));
    assert_eq!(sql.task_state(&running).await?, "steps_in_process");
    sql.verify().await
}

#[tokio::test]
async fn signals_and_the_links_to_child_tasks_are_exported_too() -> anyhow::Result<()> {
    let mut sql = Scenario::new().await?;
    sql.register(
        "{name: hope, version: 1.0.0, steps: [{name: go, type: signal, signal: {name: go}}]}",
    )
    .await?;
    sql.register(
        "{name: parent, version: 1.0.0, steps: [{name: c, type: task, task: {template: hope}}]}",
    )
    .await?;
    let parent = sql.create("'parent'").await?;
    sql.run("select tasker.run_maintenance()").await?;
    let child: String = sql
        .value("select task_uuid::text from tasker.child_tasks")
        .await?;
    sql.run(&format!("select tasker.send_signal('{child}', 'go', '7')"))
        .await?;
    sql.run("select tasker.run_maintenance()").await?;
    assert_eq!(sql.task_state(&parent).await?, "complete");
    sql.create("'hope'").await?;
    sql.run(ARCHIVE).await?;
    maintained_at(&mut sql, DUE).await?;
    assert_eq!(tasks(&mut sql).await?, 1);
    let exported = sql
        .rows(
            "select split_part(from_table, '_p2', 1) as from_table, row_of_it ->> 'task_uuid' as task_uuid from archive.rows \
             where from_table ~ 'signals|child_tasks' order by 1",
        )
        .await?;
    let row = |table: &str| json!({"from_table": format!("tasker.{table}"), "task_uuid": child});
    assert_eq!(exported, [row("child_tasks"), row("signals")]);
    sql.verify().await
}

#[tokio::test]
async fn nothing_leaves_while_the_export_fails_and_maintenance_goes_on() -> anyhow::Result<()> {
    let (mut sql, _, _) = scenario().await?;
    sql.run(ARCHIVE).await?;
    for (broken, problem) in [
        (
            "set local tasker.export_function = 'archive.missing'",
            "tasker.export_function names no function archive.missing(regclass, timestamptz, timestamptz)",
        ),
        (
            "set local tasker.export_function = 'archive.keep; drop schema archive'",
            "tasker.export_function names no function",
        ),
        (
            "set local tasker.export_function = 'archive.keep'; alter table archive.rows rename to away",
            "relation \"archive.rows\" does not exist",
        ),
    ] {
        sql.run(broken).await?;
        sql.run("delete from tasker.kept_ranges").await?;
        maintained_at(&mut sql, DUE).await?;
        assert_eq!(tasks(&mut sql).await?, 3, "{broken}");
        let noted: String = sql
            .value("select problem from tasker.kept_ranges where suffix = 'p20291227_20300103'")
            .await?;
        assert!(
            noted.contains(problem) || broken.contains("drop schema"),
            "{noted}"
        );
    }
    sql.run("alter table archive.away rename to rows").await?;
    maintained_at(&mut sql, DUE + HOUR - 1).await?;
    assert_eq!(tasks(&mut sql).await?, 3, "it is tried again after an hour");
    maintained_at(&mut sql, DUE + HOUR).await?;
    assert_eq!(tasks(&mut sql).await?, 1);
    sql.verify().await
}

#[tokio::test]
async fn a_task_that_may_no_longer_leave_when_the_others_are_copied_stays() -> anyhow::Result<()> {
    let (mut sql, finished, running) = scenario().await?;
    // The function runs when what stays has been copied and nobody is locked out yet.
    sql.run(&format!(
        "create schema archive; \
         create function archive.keep(p_rows regclass, p_from timestamptz, p_to timestamptz) returns void language plpgsql as $$ begin \
           perform tasker._open_dead_letters(array['{}'::uuid], tasker._now(), 'operator'); end $$; \
         set local tasker.export_function = 'archive.keep'",
        finished[0]
    ))
    .await?;
    maintained_at(&mut sql, DUE).await?;
    let mut stayed = [finished[0].clone(), running];
    stayed.sort();
    let left: Value = sql
        .value("select jsonb_agg(task_uuid order by task_uuid) from tasker.list_tasks()")
        .await?;
    assert_eq!(left, json!(stayed));
    let steps: i64 = sql
        .value(&format!(
            "select count(*) from tasker.list_steps('{}') s, tasker.step_history(s.step_uuid)",
            finished[0]
        ))
        .await?;
    assert_eq!(steps, 8);
    let dead_letters: i64 = sql
        .value("select count(*) from tasker.dead_letters")
        .await?;
    assert_eq!(dead_letters, 1);
    sql.verify().await
}

#[tokio::test]
async fn only_a_superuser_names_the_function_that_runs_with_the_owners_rights() -> anyhow::Result<()>
{
    let (mut sql, _, _) = scenario().await?;
    sql.run("set local role tasker_admin").await?;
    let refusal = sql
        .refused("set local tasker.export_function = 'archive.keep'")
        .await?;
    assert_eq!(refusal.code, "42501");
    Ok(())
}
