//! Retention: finished tasks leave with their partitions, and what has to stay is kept with all that belongs to it.

use serde_json::{Value, json};
use tasker_tests::Scenario;
use tasker_tests::partitions::{self, Range, have_one_shape};
use tasker_tests::scenario::done;

const DAY: i64 = 24 * 60 * 60 * 1000;
/// The range in which the clock begins ends on day 2; a month later it is due.
const DUE: i64 = 32 * DAY;
const TEMPLATES: [&str; 3] = [
    "{name: two, version: 1.0.0, steps: [{name: a, handler: {callable: t}}, {name: b, handler: {callable: t}, dependencies: [a]}]}",
    "{name: blocking, version: 1.0.0, lifecycle: {on_failure: block}, steps: [{name: a, handler: {callable: t}}]}",
    "{name: kept, version: 1.0.0, lifecycle: {retention_days: 60}, steps: [{name: a, handler: {callable: t}}]}",
];

async fn scenario() -> anyhow::Result<Scenario> {
    let mut sql = Scenario::new().await?;
    for template in TEMPLATES {
        sql.register(template).await?;
    }
    Ok(sql)
}

/// Claims and completes until nothing is left.
async fn work_off(sql: &mut Scenario) -> anyhow::Result<()> {
    loop {
        let held = sql.claim("w", 100).await?;
        if held.is_empty() {
            return Ok(());
        }
        let outcomes: Vec<Value> = held
            .iter()
            .map(|step| done(step, json!({"n": 1})))
            .collect();
        sql.finish("w", json!(outcomes), 0).await?;
    }
}

async fn finished(sql: &mut Scenario, arguments: &str) -> anyhow::Result<String> {
    let task = sql.create(arguments).await?;
    work_off(sql).await?;
    assert_eq!(sql.task_state(&task).await?, "complete");
    Ok(task)
}

/// What one round of maintenance says of the ranges it dropped or exchanged.
async fn dropped(sql: &mut Scenario) -> anyhow::Result<i64> {
    sql.value("select processed from tasker.run_maintenance() where job = 'drop_partitions'")
        .await
}

/// Maintenance at a time, as many rounds as there are ranges.
async fn maintained_at(sql: &mut Scenario, milliseconds: i64) -> anyhow::Result<()> {
    sql.clock(milliseconds).await?;
    for _ in 0..6 {
        dropped(sql).await?;
    }
    Ok(())
}

async fn has_first_range(sql: &mut Scenario) -> anyhow::Result<bool> {
    let first = Range {
        starts_on: "2029-12-27".to_owned(),
        ends_on: "2030-01-03".to_owned(),
    };
    Ok(partitions::ranges(sql.session()).await?.contains(&first))
}

/// The tasks there are, by what they were created for.
async fn left(sql: &mut Scenario) -> anyhow::Result<Vec<String>> {
    let rows = sql
        .rows("select coalesce(reason, '-') as reason from tasker.list_tasks() order by 1")
        .await?;
    Ok(rows
        .iter()
        .filter_map(|row| row["reason"].as_str().map(str::to_owned))
        .collect())
}

/// All that there is of some tasks, but for where it is stored.
async fn all_of(sql: &mut Scenario, tasks: &[String]) -> anyhow::Result<Vec<Value>> {
    let mut rows = Vec::new();
    for task in tasks {
        for query in [
            format!("select * from tasker.get_task('{task}')"),
            format!("select * from tasker.list_steps('{task}')"),
            format!("select * from tasker.task_history('{task}')"),
            format!(
                "select s.name, h.* from tasker.list_steps('{task}') s, tasker.step_history(s.step_uuid) h order by s.name, h.seq"
            ),
            format!("select * from tasker.dead_letters where task_uuid = '{task}'"),
            format!("select * from tasker.idempotency_keys where task_uuid = '{task}'"),
        ] {
            rows.extend(sql.rows(&query).await?);
        }
    }
    Ok(rows)
}

#[tokio::test]
async fn a_finished_task_leaves_a_month_after_its_range_has_ended() -> anyhow::Result<()> {
    let mut sql = scenario().await?;
    let task = finished(&mut sql, "'two', idempotency_key => 'k'").await?;
    let step: String = sql
        .value(&format!(
            "select min(step_uuid::text) from tasker.list_steps('{task}')"
        ))
        .await?;
    maintained_at(&mut sql, DUE - 1).await?;
    assert_eq!(sql.create("'two', idempotency_key => 'k'").await?, task);
    maintained_at(&mut sql, DUE).await?;
    assert!(!has_first_range(&mut sql).await?);
    for (call, code) in [
        (format!("select * from tasker.get_task('{task}')"), "TK001"),
        (
            format!("select * from tasker.task_history('{task}')"),
            "TK001",
        ),
        (format!("select * from tasker.get_step('{step}')"), "TK002"),
        (
            format!("select tasker.complete_step('{step}', 1, '1')"),
            "TK002",
        ),
    ] {
        assert_eq!(sql.refused(&call).await?.code, code, "{call}");
    }
    assert_eq!(left(&mut sql).await?, Vec::<String>::new());
    assert_ne!(
        sql.create("'two', idempotency_key => 'k'").await?,
        task,
        "the key has left with its task"
    );
    work_off(&mut sql).await?;
    sql.verify().await
}

#[tokio::test]
async fn a_round_lets_one_range_go_the_oldest_first() -> anyhow::Result<()> {
    let mut sql = scenario().await?;
    for day in [0, 7, 14] {
        sql.clock(day * DAY).await?;
        finished(&mut sql, &format!("'two', reason => 'day {day}'")).await?;
    }
    maintained_at(&mut sql, DUE - 1).await?;
    sql.clock(100 * DAY).await?;
    assert_eq!(left(&mut sql).await?, ["day 0", "day 14", "day 7"]);
    assert_eq!(dropped(&mut sql).await?, 1);
    assert_eq!(left(&mut sql).await?, ["day 14", "day 7"]);
    assert_eq!(dropped(&mut sql).await?, 1);
    assert_eq!(left(&mut sql).await?, ["day 14"]);
    assert_eq!(dropped(&mut sql).await?, 1);
    assert_eq!(left(&mut sql).await?, Vec::<String>::new());
    // The one that maintenance had made ahead of time, and nobody has used.
    assert_eq!(dropped(&mut sql).await?, 1);
    assert_eq!(dropped(&mut sql).await?, 0);
    sql.verify().await
}

#[tokio::test]
async fn what_is_not_over_stays_with_all_that_belongs_to_it_and_goes_on() -> anyhow::Result<()> {
    let mut sql = scenario().await?;
    finished(
        &mut sql,
        "'two', idempotency_key => 'gone', reason => 'complete'",
    )
    .await?;
    let mut stay = Vec::new();
    let permanent = json!({"message": "m", "retryable": false});
    for template in ["blocking", "two"] {
        let arguments =
            format!("'{template}', idempotency_key => '{template}', reason => 'failed {template}'");
        stay.push(sql.create(&arguments).await?);
        let step = sql.claim_one().await?;
        sql.fail(&step, permanent.clone()).await?;
    }
    stay.push(sql.create("'two', reason => 'waits for a retry'").await?);
    let step = sql.claim_one().await?;
    let later = json!({"message": "m", "retry_after_ms": DAY});
    sql.fail(&step, later).await?;
    stay.push(
        sql.create("'two', run_at => tasker._now() + interval '90 days', reason => 'pending'")
            .await?,
    );
    stay.push(sql.create("'two', reason => 'running'").await?);
    let a = sql.claim_one().await?;
    sql.complete(&a, json!({"n": 1})).await?;
    let running = sql.claim_one().await?;
    let cancelled = sql.create("'two', reason => 'cancelled'").await?;
    sql.run(&format!("select tasker.cancel_task('{cancelled}')"))
        .await?;
    stay.push(sql.create("'two', reason => 'ready'").await?);

    // What is there a moment before and after; maintenance at that time leaves the leases alone.
    sql.run(&format!(
        "update tasker.steps set lease_expires_at = tasker._now() + interval '40 days' where step_uuid = {}",
        running["step_uuid"].to_string().replace('"', "'")
    ))
    .await?;
    let before = all_of(&mut sql, &stay).await?;
    maintained_at(&mut sql, DUE).await?;
    assert_eq!(
        left(&mut sql).await?,
        [
            "failed blocking",
            "failed two",
            "pending",
            "ready",
            "running",
            "waits for a retry"
        ]
    );
    assert_eq!(all_of(&mut sql, &stay).await?, before);
    assert!(has_first_range(&mut sql).await?);
    have_one_shape(sql.session()).await?;
    let keys: Value = sql
        .value("select jsonb_agg(key order by key) from tasker.idempotency_keys")
        .await?;
    assert_eq!(keys, json!(["blocking", "two"]));
    sql.verify().await?;

    sql.complete(&running, json!(1)).await?;
    work_off(&mut sql).await?;
    maintained_at(&mut sql, 95 * DAY).await?;
    work_off(&mut sql).await?;
    assert_eq!(
        left(&mut sql).await?,
        ["failed blocking", "failed two", "pending"],
        "the others were finished and have left"
    );
    assert_eq!(sql.task_state(&stay[3]).await?, "complete");
    sql.verify().await
}

#[tokio::test]
async fn a_task_that_ended_late_stays_for_its_own_month_and_is_looked_for_once_a_day()
-> anyhow::Result<()> {
    let mut sql = scenario().await?;
    finished(&mut sql, "'two', reason => 'early'").await?;
    let late = sql.create("'two', reason => 'late'").await?;
    sql.clock(30 * DAY).await?;
    work_off(&mut sql).await?;
    maintained_at(&mut sql, DUE).await?;
    assert_eq!(left(&mut sql).await?, ["late"]);
    let table = format!("select tableoid::bigint from tasker.tasks where task_uuid = '{late}'");
    let before: i64 = sql.value(&table).await?;
    // Over by the hour in which nobody looks, and by the day on which somebody does.
    maintained_at(&mut sql, 59 * DAY + DAY / 2).await?;
    assert_eq!(
        sql.value::<i64>(&table).await?,
        before,
        "nothing left, so nothing was copied"
    );
    maintained_at(&mut sql, 60 * DAY).await?;
    assert_eq!(left(&mut sql).await?, ["late"]);
    maintained_at(&mut sql, 60 * DAY + DAY / 2).await?;
    assert_eq!(left(&mut sql).await?, Vec::<String>::new());
    assert!(!has_first_range(&mut sql).await?);
    sql.verify().await
}

#[tokio::test]
async fn a_template_and_a_namespace_keep_their_own_for_longer() -> anyhow::Result<()> {
    let mut sql = scenario().await?;
    for namespace in ["audit", "archive"] {
        for (name, lifecycle) in [("plain", "{}"), ("kept", "{retention_days: 60}")] {
            sql.register(&format!(
                "{{name: {name}, namespace: {namespace}, version: 1.0.0, lifecycle: {lifecycle}, steps: []}}"
            ))
            .await?;
            sql.create(&format!(
                "'{name}', '{namespace}', reason => '{namespace} {name}'"
            ))
            .await?;
        }
    }
    sql.run("update tasker.namespaces set settings = '{\"retention_days\": 90}' where name = 'audit'; \
             update tasker.namespaces set settings = '{\"retention_days\": 0}' where name = 'archive'")
        .await?;
    for template in ["two", "kept"] {
        finished(
            &mut sql,
            &format!("'{template}', reason => 'default {template}'"),
        )
        .await?;
    }
    let own = [
        "archive kept",
        "archive plain",
        "audit kept",
        "audit plain",
        "default kept",
    ];
    maintained_at(&mut sql, DUE).await?;
    assert_eq!(left(&mut sql).await?, own);
    maintained_at(&mut sql, 62 * DAY - 1).await?;
    assert_eq!(left(&mut sql).await?, own);
    maintained_at(&mut sql, 63 * DAY).await?;
    assert_eq!(left(&mut sql).await?, ["archive plain", "audit plain"]);
    maintained_at(&mut sql, 93 * DAY).await?;
    assert_eq!(left(&mut sql).await?, ["archive plain"]);
    maintained_at(&mut sql, 30_000 * DAY).await?;
    assert_eq!(left(&mut sql).await?, ["archive plain"]);
    have_one_shape(sql.session()).await?;
    sql.verify().await
}

#[tokio::test]
async fn nothing_leaves_where_the_setting_says_so() -> anyhow::Result<()> {
    let mut sql = scenario().await?;
    finished(&mut sql, "'two', reason => 'kept'").await?;
    sql.run("set local tasker.retention_days = 0").await?;
    maintained_at(&mut sql, 30_000 * DAY).await?;
    assert_eq!(left(&mut sql).await?, ["kept"]);
    sql.run("set local tasker.retention_days = 1000").await?;
    maintained_at(&mut sql, 1001 * DAY).await?;
    assert_eq!(left(&mut sql).await?, ["kept"]);
    maintained_at(&mut sql, 1002 * DAY).await?;
    assert_eq!(left(&mut sql).await?, Vec::<String>::new());
    let refusal = {
        sql.run("set local role tasker_admin").await?;
        sql.refused("set local tasker.retention_days = 1").await?
    };
    assert_eq!(refusal.code, "42501");
    Ok(())
}

#[tokio::test]
async fn a_range_with_too_many_running_tasks_is_left_whole() -> anyhow::Result<()> {
    let mut sql = scenario().await?;
    finished(&mut sql, "'two', reason => 'finished'").await?;
    sql.run("set local tasker.max_batch = 20000; select count(*) from tasker.create_tasks( \
             (select jsonb_agg(jsonb_build_object('template_name', 'kept')) from generate_series(1, 10001)))")
        .await?;
    maintained_at(&mut sql, DUE).await?;
    let there: i64 = sql.value("select count(*) from tasker.tasks").await?;
    assert_eq!(there, 10_002);
    let problem: String = sql
        .value("select problem from tasker.kept_ranges where suffix = 'p20291227_20300103'")
        .await?;
    assert_eq!(problem, "10001 tasks of the range are running");
    // One is cancelled; what is at rest is copied in any number.
    sql.run("select tasker.cancel_task((select max(task_uuid::text)::uuid from tasker.tasks))")
        .await?;
    maintained_at(&mut sql, DUE + DAY / 24).await?;
    let there: i64 = sql.value("select count(*) from tasker.tasks").await?;
    assert_eq!(
        there, 10_001,
        "that one was finished now, the first one has left"
    );
    sql.verify().await
}
