//! The partitions of the tables that grow with the work: one span of days each, made when a task needs them or a day ahead, dropped with all that is in them.

use serde_json::{Value, json};
use tasker_tests::Scenario;
use tasker_tests::partitions::{self, Range, have_one_shape};
use tasker_tests::scenario::{done, failed, names};

const TWO: &str = "{name: two, version: 1.0.0, steps: [\
    {name: a, handler: {callable: t}, retry: {max_attempts: 2}}, {name: b, handler: {callable: t}, dependencies: [a]}]}";
const DAY: i64 = 24 * 60 * 60 * 1000;

/// The clock begins on 2030-01-01; the seven days around it, counted from 1970, end on January 3.
async fn scenario() -> anyhow::Result<Scenario> {
    let mut sql = Scenario::new().await?;
    sql.register(TWO).await?;
    Ok(sql)
}

/// The ranges from the clock's beginning on: not that of the day on which the database was prepared.
async fn ranges(sql: &mut Scenario) -> anyhow::Result<Vec<Range>> {
    let mut ranges = partitions::ranges(sql.session()).await?;
    ranges.retain(|range| range.starts_on.as_str() > "2029-06");
    Ok(ranges)
}

fn range(starts_on: &str, ends_on: &str) -> Range {
    Range {
        starts_on: starts_on.to_owned(),
        ends_on: ends_on.to_owned(),
    }
}

/// The partition that a task's row is in.
async fn partition_of(sql: &mut Scenario, task: &str) -> anyhow::Result<String> {
    sql.value(&format!(
        "select tableoid::regclass::text from tasker.tasks where task_uuid = '{task}'"
    ))
    .await
}

async fn create_on(sql: &mut Scenario, day: i64) -> anyhow::Result<String> {
    sql.clock(day * DAY).await?;
    sql.create("'two'").await
}

#[tokio::test]
async fn a_task_is_in_the_partition_of_the_millisecond_of_its_creation() -> anyhow::Result<()> {
    let mut sql = scenario().await?;
    for (milliseconds, partition) in [
        (2 * DAY - 1, "tasker.tasks_p20291227_20300103"),
        (2 * DAY, "tasker.tasks_p20300103_20300110"),
        (9 * DAY - 1, "tasker.tasks_p20300103_20300110"),
        (-5 * DAY, "tasker.tasks_p20291227_20300103"),
        (-5 * DAY - 1, "tasker.tasks_p20291220_20291227"),
    ] {
        sql.clock(milliseconds).await?;
        let task = sql.create("'two'").await?;
        assert_eq!(partition_of(&mut sql, &task).await?, partition);
    }
    assert_eq!(
        ranges(&mut sql).await?,
        [
            range("2029-12-20", "2029-12-27"),
            range("2029-12-27", "2030-01-03"),
            range("2030-01-03", "2030-01-10"),
        ]
    );
    have_one_shape(sql.session()).await?;
    sql.verify().await
}

#[tokio::test]
async fn a_pending_task_starts_weeks_later_in_its_own_partition() -> anyhow::Result<()> {
    let mut sql = scenario().await?;
    sql.clock(0).await?;
    let task = sql
        .create("'two', run_at => tasker._now() + interval '3 weeks'")
        .await?;
    create_on(&mut sql, 21).await?;
    sql.run("select * from tasker.run_maintenance()").await?;
    assert_eq!(sql.task_state(&task).await?, "steps_in_process");
    let partitions: Vec<Value> = sql
        .rows("select distinct tableoid::regclass::text as name from tasker.steps order by 1")
        .await?;
    assert_eq!(
        partitions,
        [
            json!({"name": "tasker.steps_p20291227_20300103"}),
            json!({"name": "tasker.steps_p20300117_20300124"}),
        ]
    );
    sql.verify().await
}

#[tokio::test]
async fn steps_of_several_partitions_are_finished_and_handed_over_in_one_call() -> anyhow::Result<()>
{
    let mut sql = scenario().await?;
    let mut tasks = Vec::new();
    for day in [0, 14, 7, 28] {
        tasks.push(create_on(&mut sql, day).await?);
    }
    let held = sql.claim("w", 10).await?;
    assert_eq!(names(&held), ["a"; 4]);
    let finished = sql
        .finish(
            "w",
            held.iter()
                .map(|step| done(step, json!({"n": 1})))
                .collect(),
            10,
        )
        .await?;
    assert_eq!(finished.words(), ["accepted"; 4]);
    assert_eq!(finished.names(), ["b"; 4]);
    assert!(
        finished
            .claimed
            .iter()
            .all(|step| step["dependency_results"] == json!({"a": {"n": 1}})),
        "{:?}",
        finished.claimed
    );
    let held: Vec<_> = tasks
        .iter()
        .filter_map(|task| {
            let mut claimed = finished.claimed.iter();
            claimed.find(|step| step["task_uuid"] == json!(task))
        })
        .collect();
    // One ends well, one in a dead letter, one is given back, one is tried again.
    let outcomes = json!([
        done(held[0], json!(1)),
        failed(held[1], json!({"message": "m", "retryable": false})),
        {"step_uuid": held[2]["step_uuid"], "attempt": 1, "status": "release"},
        failed(held[3], json!({"message": "m", "retry_after_ms": 60_000})),
    ]);
    assert_eq!(sql.finish("w", outcomes, 0).await?.words(), ["accepted"; 4]);
    let mut states = Vec::new();
    for task in &tasks {
        states.push(sql.task_state(task).await?);
    }
    assert_eq!(
        states,
        ["complete", "error", "steps_in_process", "waiting_for_retry"]
    );
    let dead_letters: Vec<Value> = sql
        .rows("select tableoid::regclass::text as name, task_uuid from tasker.dead_letters")
        .await?;
    assert_eq!(
        dead_letters,
        [json!({"name": "tasker.dead_letters_p20300110_20300117", "task_uuid": tasks[1]})]
    );
    sql.verify().await
}

#[tokio::test]
async fn ranges_of_changing_length_never_overlap_and_leave_no_day_out() -> anyhow::Result<()> {
    let mut sql = scenario().await?;
    let lengths = [7, 1, 30, 3, 365, 2, 10, 1, 90, 4];
    // Forwards and backwards over 200 days, by steps that meet each day in the end.
    let days: Vec<i64> = (0..199).map(|number| number * 137 % 199).collect();
    for (number, day) in days.iter().enumerate() {
        // Each length for a while.
        let length = lengths[number / 5 % lengths.len()];
        sql.run(&format!("set local tasker.partition_days = {length}"))
            .await?;
        let task = create_on(&mut sql, *day).await?;
        let partition = partition_of(&mut sql, &task).await?;
        let date: String = sql
            .value(&format!("select (date '2030-01-01' + {day})::text"))
            .await?;
        let ranges = ranges(&mut sql).await?;
        let holding: Vec<_> = ranges
            .iter()
            .filter(|range| range.starts_on <= date && date < range.ends_on)
            .collect();
        assert_eq!(holding.len(), 1, "{date} in {ranges:?}");
        assert_eq!(partition, format!("tasker.tasks_{}", holding[0].suffix()));
    }
    let ranges = ranges(&mut sql).await?;
    assert!(ranges.len() > 10, "lengths were mixed: {ranges:?}");
    for (one, next) in ranges.iter().zip(&ranges[1..]) {
        assert_eq!(one.ends_on, next.starts_on, "no day is left out");
    }
    have_one_shape(sql.session()).await?;
    sql.verify().await
}

#[tokio::test]
async fn a_change_of_the_length_leaves_the_ranges_there_are_as_they_are() -> anyhow::Result<()> {
    let mut sql = scenario().await?;
    create_on(&mut sql, 0).await?;
    create_on(&mut sql, 30).await?;
    // The day between them is in spans of 30 days that would reach into both.
    sql.run("set local tasker.partition_days = 30").await?;
    create_on(&mut sql, 15).await?;
    let found = ranges(&mut sql).await?;
    assert_eq!(found[0], range("2029-12-27", "2030-01-03"));
    assert_eq!(found.last(), Some(&range("2030-01-31", "2030-02-07")));
    for (one, next) in found.iter().zip(&found[1..]) {
        assert!(one.ends_on <= next.starts_on, "{found:?}");
    }
    assert_eq!(found.len(), 3);
    sql.verify().await
}

/// How many ranges the maintenance says it made.
async fn made_by_maintenance(sql: &mut Scenario) -> anyhow::Result<i64> {
    sql.value("select processed from tasker.run_maintenance() where job = 'make_partitions'")
        .await
}

#[tokio::test]
async fn maintenance_makes_the_next_range_on_the_last_day_of_one() -> anyhow::Result<()> {
    let mut sql = scenario().await?;
    let first = range("2029-12-27", "2030-01-03");
    let next = range("2030-01-03", "2030-01-10");
    assert_eq!(ranges(&mut sql).await?, std::slice::from_ref(&first));
    sql.clock(DAY - 1).await?;
    assert_eq!(made_by_maintenance(&mut sql).await?, 0);
    assert_eq!(ranges(&mut sql).await?, std::slice::from_ref(&first));
    sql.clock(DAY).await?;
    assert_eq!(made_by_maintenance(&mut sql).await?, 1);
    let both = [first, next];
    assert_eq!(ranges(&mut sql).await?, both);
    assert_eq!(made_by_maintenance(&mut sql).await?, 0, "it is there");
    let task = create_on(&mut sql, 2).await?;
    assert_eq!(
        partition_of(&mut sql, &task).await?,
        "tasker.tasks_p20300103_20300110"
    );
    assert_eq!(ranges(&mut sql).await?, both);
    sql.verify().await
}

#[tokio::test]
async fn maintenance_after_a_long_rest_makes_the_range_of_its_day() -> anyhow::Result<()> {
    let mut sql = scenario().await?;
    sql.run("set local tasker.retention_days = 0").await?;
    sql.clock(100 * DAY).await?;
    assert_eq!(made_by_maintenance(&mut sql).await?, 1);
    assert_eq!(
        ranges(&mut sql).await?,
        [
            range("2029-12-27", "2030-01-03"),
            range("2030-04-11", "2030-04-18")
        ]
    );
    Ok(())
}

#[tokio::test]
async fn with_a_range_a_day_maintenance_is_always_a_range_ahead() -> anyhow::Result<()> {
    let mut sql = scenario().await?;
    sql.run("set local tasker.partition_days = 1").await?;
    for day in 2..6 {
        sql.clock(day * DAY).await?;
        // The day's own range, then the next one.
        for _ in 0..2 {
            made_by_maintenance(&mut sql).await?;
        }
        let before = ranges(&mut sql).await?;
        create_on(&mut sql, day + 1).await?;
        assert_eq!(ranges(&mut sql).await?, before, "day {day}");
    }
    Ok(())
}

#[tokio::test]
async fn who_may_only_create_tasks_makes_the_partitions_of_a_new_span() -> anyhow::Result<()> {
    let mut sql = scenario().await?;
    sql.clock(50 * DAY).await?;
    let before = ranges(&mut sql).await?;
    sql.run("set local role tasker_client").await?;
    sql.create("'two'").await?;
    let refusal = sql
        .refused("select from tasker.tasks_p20300214_20300221")
        .await?;
    assert_eq!(refusal.code, "42501");
    sql.run("reset role").await?;
    assert_eq!(ranges(&mut sql).await?.len(), before.len() + 1);
    have_one_shape(sql.session()).await
}
