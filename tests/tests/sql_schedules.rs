//! Schedules: when they create tasks and of what, and what keeps them from it. What becomes of missed times is in `sql_catch_up`; two at maintenance at once are in `schedule_races`.

use serde_json::{Value, json};
use tasker_tests::schedules::{
    DAY, HOUR, MINUTE, health, ran, run_at, schedule, shown, with_report,
};
use tasker_tests::{Scenario, TestDatabase};

#[tokio::test]
async fn a_schedule_creates_a_task_at_each_of_its_times_and_no_other() -> anyhow::Result<()> {
    let mut sql = with_report().await?;
    let made = schedule(
        &mut sql,
        r#"'nightly', '30 2 * * *', 'report', context => '{"region": "south"}', timezone => 'europe/berlin'"#,
    )
    .await?;
    assert_eq!(made["next_at"], "2030-01-01T01:30:00+00:00");
    assert_eq!(made["timezone"], "Europe/Berlin");
    assert_eq!(
        (&made["last_at"], &made["catch_up"]),
        (&json!(null), &json!("one"))
    );
    assert_eq!(run_at(&mut sql, 90 * MINUTE - 1).await?, 0);
    assert_eq!(run_at(&mut sql, 90 * MINUTE).await?, 1);
    assert_eq!(run_at(&mut sql, 90 * MINUTE + 500).await?, 0);
    assert_eq!(run_at(&mut sql, DAY + 90 * MINUTE + 700).await?, 1);
    assert_eq!(ran(&mut sql).await?, ["01-01 01:30", "01-02 01:30"]);
    let task = sql
        .row(
            "select t.state, t.context, t.tags, t.initiator = current_user as by_me, t.source_system, t.reason, t.run_at, s.last_at = t.run_at as is_last,
               s.next_at, s.last_problem
             from tasker.list_schedules() s, tasker.get_task(s.last_task_uuid) t",
        )
        .await?;
    assert_eq!(
        task,
        json!({
            "state": "steps_in_process", "context": {"region": "south"}, "tags": ["schedule:nightly"], "by_me": true, "source_system": "schedule",
            "reason": "schedule nightly for 2030-01-02 02:30 Europe/Berlin", "run_at": "2030-01-02T01:30:00+00:00", "is_last": true,
            "next_at": "2030-01-03T01:30:00+00:00", "last_problem": null
        })
    );
    sql.verify().await
}

#[tokio::test]
async fn its_times_follow_the_clocks_of_the_zone() -> anyhow::Result<()> {
    let mut sql = with_report().await?;
    let next = |cron: &str, zone: &str, after: &str| {
        format!(
            "select to_char(tasker._next_cron('{cron}', '{zone}', '{after}') at time zone 'UTC', 'YYYY-MM-DD HH24:MI')"
        )
    };
    for (cron, zone, after, expected) in [
        // Left out: when the clocks go forward.
        (
            "30 2 * * *",
            "Europe/Berlin",
            "2030-03-31 00:00+00",
            "2030-03-31 01:00",
        ),
        (
            "30 2 * * *",
            "Europe/Berlin",
            "2030-03-31 01:00+00",
            "2030-04-01 00:30",
        ),
        (
            "15 2 * * *",
            "Australia/Lord_Howe",
            "2030-10-05 14:00+00",
            "2030-10-05 15:30",
        ),
        // Twice: the first time.
        (
            "30 1 * * *",
            "America/New_York",
            "2030-11-03 00:00+00",
            "2030-11-03 05:30",
        ),
        (
            "30 1 * * *",
            "America/New_York",
            "2030-11-03 05:30+00",
            "2030-11-04 06:30",
        ),
        // By the clock: as often as it is shown.
        (
            "0 * * * *",
            "Europe/Berlin",
            "2030-10-27 00:00+00",
            "2030-10-27 01:00",
        ),
        (
            "*/20 2 * * *",
            "Europe/Berlin",
            "2030-03-30 12:00+00",
            "2030-04-01 00:00",
        ),
        (
            "0 0 29 2 *",
            "UTC",
            "2030-01-01 00:00+00",
            "2032-02-29 00:00",
        ),
    ] {
        let found: String = sql.value(&next(cron, zone, after)).await?;
        assert_eq!(found, expected, "{cron} in {zone} after {after}");
    }
    // The zones are those of PostgreSQL: what the clocks show is what the expression says.
    let wrong: i64 = sql
        .value(
            "select count(*) from pg_timezone_names z
             where (tasker._next_cron('7 5 * * *', z.name, '2030-01-10 00:00+00') at time zone z.name)::time <> '05:07'",
        )
        .await?;
    assert_eq!(wrong, 0);
    Ok(())
}

#[tokio::test]
async fn in_a_paused_namespace_its_tasks_wait_as_any_other_do() -> anyhow::Result<()> {
    let mut sql = with_report().await?;
    schedule(&mut sql, "'s', '@hourly', 'report'").await?;
    sql.run("select tasker.pause_namespace('default')").await?;
    assert_eq!(run_at(&mut sql, HOUR).await?, 1);
    let state = "select string_agg(state, ' ') from tasker.tasks";
    assert_eq!(sql.value::<String>(state).await?, "pending");
    sql.verify().await?;
    sql.run("select tasker.resume_namespace('default')").await?;
    assert_eq!(sql.value::<String>(state).await?, "steps_in_process");
    sql.verify().await
}

#[tokio::test]
async fn what_keeps_a_task_from_being_created_is_shown_and_stops_neither_it_nor_others()
-> anyhow::Result<()> {
    let mut sql = with_report().await?;
    sql.register("{name: other, version: 1.0.0, steps: [{name: a, handler: {callable: t.a}}]}")
        .await?;
    schedule(&mut sql, "'broken', '@hourly', 'other'").await?;
    schedule(&mut sql, "'well', '@hourly', 'report'").await?;
    sql.run("select tasker.retire_template('other')").await?;
    assert_eq!(run_at(&mut sql, HOUR).await?, 2);
    assert_eq!(ran(&mut sql).await?, ["01-01 01:00"]);
    assert_eq!(
        sql.row("select last_problem, next_at, last_at from tasker.list_schedules() where name = 'broken'").await?,
        json!({
            "last_problem": {"code": "TK003", "message": "template other not found in namespace default", "scheduled_at": "2030-01-01T01:00:00+00:00",
              "at": "2030-01-01T01:00:00+00:00"},
            "next_at": "2030-01-01T02:00:00+00:00", "last_at": null
        })
    );
    assert_eq!(
        health(&mut sql).await?,
        json!([
            false,
            "not running as they should: broken in namespace default (TK003: template other not found in namespace default); tasker.list_schedules() shows more"
        ])
    );
    sql.register("{name: other, version: 1.1.0, steps: [{name: a, handler: {callable: t.a}}]}")
        .await?;
    assert_eq!(run_at(&mut sql, 2 * HOUR).await?, 2);
    assert_eq!(health(&mut sql).await?[0], true);
    // The time that had no task is still to be had.
    let backfill =
        "select tasker.backfill_schedule('broken', '2030-01-01 00:00+00', '2030-01-02 00:00+00')";
    assert_eq!(sql.value::<i32>(backfill).await?, 2);
    assert_eq!(sql.value::<i32>(backfill).await?, 0);
    sql.verify().await
}

#[tokio::test]
async fn trouble_of_the_whole_server_leaves_the_time_due() -> anyhow::Result<()> {
    let mut sql = with_report().await?;
    schedule(&mut sql, "'s', '@hourly', 'report'").await?;
    sql.run("alter table pgmq.q_worker_default_queue rename to hidden")
        .await?;
    sql.clock(HOUR).await?;
    let refusal = sql
        .refused("select tasker.run_maintenance_job('run_schedules')")
        .await?;
    assert_eq!(refusal.code, "TK030");
    sql.run("alter table pgmq.hidden rename to q_worker_default_queue")
        .await?;
    assert_eq!(run_at(&mut sql, HOUR + 5_000).await?, 1);
    assert_eq!(ran(&mut sql).await?, ["01-01 01:00"]);
    Ok(())
}

#[tokio::test]
async fn one_whose_zone_is_gone_is_paused_until_there_is_one() -> anyhow::Result<()> {
    let mut sql = with_report().await?;
    schedule(&mut sql, "'s', '@hourly', 'report', catch_up => 'all'").await?;
    sql.run("update tasker.schedules set timezone = 'Europe/Atlantis'")
        .await?;
    assert_eq!(run_at(&mut sql, 2 * HOUR).await?, 1);
    assert_eq!(
        shown(
            &mut sql,
            "paused_by, pause_reason, last_problem ->> 'code' as code"
        )
        .await?,
        json!({"paused_by": "maintenance", "pause_reason": "time zone Europe/Atlantis is not known here", "code": "22023"})
    );
    assert_eq!(health(&mut sql).await?[0], false);
    assert_eq!(
        sql.refused("select tasker.resume_schedule('s')")
            .await?
            .code,
        "22023"
    );
    sql.run("update tasker.schedules set timezone = 'UTC'; select tasker.resume_schedule('s')")
        .await?;
    assert_eq!(run_at(&mut sql, 2 * HOUR + MINUTE).await?, 1);
    assert_eq!(ran(&mut sql).await?, ["01-01 01:00", "01-01 02:00"]);
    assert_eq!(health(&mut sql).await?[0], true);
    Ok(())
}

/// How `create_schedule` refuses its arguments: the code, words of the message, the arguments.
const REFUSED: &str = r#"
    22023 | a cron expression has five fields, not 4 | 's', '0 0 * *', 'report'
    22023 | 61 is no minute: that is 0 to 59 | 's', '61 0 * * *', 'report'
    22023 | five fields | 's', null, 'report'
    22023 | time zone Europe/Atlantis is not known here | 's', '@daily', 'report', timezone => 'Europe/Atlantis'
    22023 | not known | 's', '@daily', 'report', timezone => 'UTC+3'
    22023 | not known | 's', '@daily', 'report', timezone => null
    22023 | catch_up can't be some | 's', '@daily', 'report', catch_up => 'some'
    22023 | 'a b' can't be the name of a schedule | 'a b', '@daily', 'report'
    TK021 | input_schema | 's', '@daily', 'report', context => '{"region": 1}'
    22023 | must be a JSON object | 's', '@daily', 'report', context => '[]'
    22023 | must be a JSON object | 's', '@daily', 'report', context => null
    TK003 | template nothing not found | 's', '@daily', 'nothing'
    TK003 | template report version 9.0.0 not found | 's', '@daily', 'report', version => '9.0.0'
    TK015 | is retired | 's', '@daily', 'old', version => '1.0.0'
    TK004 | namespace nowhere not found | 's', '@daily', 'report', 'nowhere'
    23505 | there is a schedule taken in namespace default | 'taken', '@hourly', 'report'
"#;

#[tokio::test]
async fn what_is_no_schedule_is_refused_with_what_to_do() -> anyhow::Result<()> {
    let mut sql = with_report().await?;
    sql.register("{name: old, version: 1.0.0, steps: [{name: a, handler: {callable: t.a}}]}")
        .await?;
    sql.run("select tasker.retire_template('old')").await?;
    schedule(&mut sql, "'taken', '@daily', 'report'").await?;
    for line in REFUSED.lines().filter(|line| !line.is_empty()) {
        let [code, words, arguments] = line.trim().splitn(3, " | ").collect::<Vec<_>>()[..] else {
            anyhow::bail!("a line has three parts: {line}");
        };
        let refusal = sql
            .refused(&format!("select tasker.create_schedule({arguments})"))
            .await?;
        assert_eq!(refusal.code, code, "{arguments}: {refusal:?}");
        assert!(refusal.message.contains(words), "{arguments}: {refusal:?}");
        assert!(
            !refusal.hint.is_empty() || code.starts_with("TK02") || words.contains("JSON"),
            "{arguments}: {refusal:?}"
        );
    }
    for call in [
        "pause_schedule('s')",
        "resume_schedule('s')",
        "delete_schedule('s')",
        "backfill_schedule('s', '2029-01-01', '2030-01-01')",
    ] {
        let refusal = sql.refused(&format!("select tasker.{call}")).await?;
        assert_eq!(
            (refusal.code.as_str(), refusal.message.as_str()),
            ("TK004", "schedule s not found in namespace default"),
            "{call}"
        );
    }
    Ok(())
}

#[tokio::test]
async fn a_deleted_schedule_leaves_its_tasks_and_its_name() -> anyhow::Result<()> {
    let mut sql = with_report().await?;
    schedule(&mut sql, "'s', '@hourly', 'report', version => '1.0.0'").await?;
    run_at(&mut sql, HOUR).await?;
    sql.run("select tasker.delete_schedule('s')").await?;
    assert_eq!(run_at(&mut sql, 2 * HOUR).await?, 0);
    assert_eq!(ran(&mut sql).await?, ["01-01 01:00"]);
    schedule(&mut sql, "'s', '@daily', 'report'").await?;
    assert_eq!(
        sql.rows("select * from tasker.list_schedules('default')")
            .await?
            .len(),
        1
    );
    assert_eq!(
        sql.rows("select * from tasker.list_schedules('other')")
            .await?
            .len(),
        0
    );
    sql.verify().await
}

#[tokio::test]
async fn templates_with_keys_of_their_own_have_a_task_at_each_time() -> anyhow::Result<()> {
    for strategy in ["strict", "caller_provided"] {
        let mut sql = Scenario::new().await?;
        sql.register(&format!("{{name: keyed, version: 1.0.0, identity: {{strategy: {strategy}}}, steps: [{{name: a, handler: {{callable: t.a}}}}]}}"))
            .await?;
        schedule(&mut sql, "'s', '@hourly', 'keyed', catch_up => 'all'").await?;
        run_at(&mut sql, 3 * HOUR).await?;
        assert_eq!(ran(&mut sql).await?.len(), 3, "{strategy}");
    }
    Ok(())
}

#[tokio::test]
async fn a_schedule_has_the_rights_that_its_creator_has_when_it_runs() -> anyhow::Result<()> {
    let mut sql = with_report().await?;
    sql.run(
        "create role tenant; grant tasker_operator to tenant; set local tasker.check_namespaces = on;
         select tasker.grant_namespace('tenant', 'default', 'create'), tasker.grant_namespace('tenant', 'default', 'operate');
         set local role tenant",
    )
    .await?;
    schedule(&mut sql, "'s', '@hourly', 'report'").await?;
    sql.run("reset role").await?;
    assert_eq!(run_at(&mut sql, HOUR).await?, 1);
    assert_eq!(
        sql.value::<String>("select initiator from tasker.tasks")
            .await?,
        "tenant"
    );
    sql.run("select tasker.revoke_namespace('tenant', 'default', 'create')")
        .await?;
    assert_eq!(run_at(&mut sql, 2 * HOUR).await?, 1);
    let problem = shown(
        &mut sql,
        "last_problem ->> 'code' as code, last_problem ->> 'message' as message",
    )
    .await?;
    assert_eq!(
        problem,
        json!({"code": "42501", "message": "role tenant lacks the privilege create in namespace default"})
    );
    // Nor has a backfill the rights of who calls it.
    let refusal = sql
        .refused(
            "select tasker.backfill_schedule('s', '2030-01-01 00:00+00', '2030-01-01 03:00+00')",
        )
        .await?;
    assert_eq!(refusal.code, "42501");
    // What comes after it in the transaction is the caller's again.
    sql.create("'report'").await?;
    Ok(())
}

#[tokio::test]
async fn the_examples_are_schedules_of_example_templates() -> anyhow::Result<()> {
    let mut sql = Scenario::within(TestDatabase::with_examples().await?).await?;
    sql.run(include_str!("../../examples/schedules.sql"))
        .await?;
    let times = sql
        .value::<Value>("select jsonb_object_agg(name, next_at at time zone 'UTC') from tasker.list_schedules('data')")
        .await?;
    assert_eq!(
        times,
        json!({"nightly_report": "2030-01-01T01:30:00", "market_watch": "2030-01-01T14:00:00", "monthly_figures": "2030-02-01T00:00:00"})
    );
    assert_eq!(run_at(&mut sql, 90 * MINUTE).await?, 1);
    sql.verify().await
}
