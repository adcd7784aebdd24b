//! Pages of tasks: by key under every filter, bounds in time to the microsecond, and only what lies within them is read.

use serde_json::{Value, json};
use tasker_tests::Scenario;

const ONE: &str = "{name: one, version: 1.0.0, steps: [{name: a, handler: {callable: t.a}}]}";
const ELSEWHERE: &str =
    "{name: one, namespace: shop, version: 1.0.0, steps: [{name: a, handler: {callable: t.a}}]}";
const WEEK: i64 = 7 * 24 * 60 * 60 * 1000;

/// Ten tasks, alternately of two kinds in everything that a filter looks at.
async fn ten_tasks() -> anyhow::Result<(Scenario, Vec<String>)> {
    let mut sql = Scenario::new().await?;
    sql.register(ONE).await?;
    sql.register(ELSEWHERE).await?;
    sql.register(&ONE.replace("name: one", "name: two")).await?;
    let mut tasks = Vec::new();
    for n in 0..10 {
        sql.clock(n * 1000).await?;
        let task = sql
            .create(if n % 2 == 0 {
                "'one', 'shop', context => '{\"order\": {\"kind\": \"big\"}, \"n\": 1}', tags => '{red,blue}'"
            } else {
                "'two', context => '{\"order\": {\"kind\": \"small\"}, \"n\": 1}', tags => '{red}'"
            })
            .await?;
        if n % 2 == 0 {
            sql.run(&format!("select tasker.cancel_task('{task}')"))
                .await?;
        }
        tasks.insert(0, task);
    }
    Ok((sql, tasks))
}

async fn listed(sql: &mut Scenario, arguments: &str) -> anyhow::Result<Vec<String>> {
    sql.value(&format!(
        "select coalesce(array_agg(t.task_uuid::text), '{{}}') from tasker.list_tasks({arguments}) t"
    ))
    .await
}

#[tokio::test]
async fn under_every_filter_pages_follow_each_other_without_gap_or_repetition() -> anyhow::Result<()>
{
    let (mut sql, tasks) = ten_tasks().await?;
    let even: Vec<&String> = tasks.iter().skip(1).step_by(2).collect();
    for filter in [
        "namespace => 'shop'",
        "template_name => 'one'",
        "states => '{cancelled,complete}'",
        "tags => '{blue}'",
        "context_contains => '{\"order\": {\"kind\": \"big\"}}'",
        "namespace => 'shop', template_name => 'one', states => '{cancelled}', tags => '{blue,red}', context_contains => '{\"n\": 1}', \
         created_after => '2030-01-01 00:00:00+00', created_before => '2030-01-01 00:00:10+00'",
    ] {
        let (mut found, mut after) = (Vec::new(), "null".to_owned());
        loop {
            let arguments = format!("{filter}, after => {after}, \"limit\" => 2");
            let page = listed(&mut sql, &arguments).await?;
            assert!(page.len() <= 2);
            let Some(last) = page.last() else { break };
            after = format!("'{last}'");
            found.extend(page);
        }
        assert_eq!(found.iter().collect::<Vec<_>>(), even, "{filter}");
    }
    Ok(())
}

#[tokio::test]
async fn what_was_created_in_between_comes_on_no_later_page() -> anyhow::Result<()> {
    let (mut sql, tasks) = ten_tasks().await?;
    let first = listed(&mut sql, "\"limit\" => 4").await?;
    assert_eq!(first, tasks[..4]);
    sql.clock(60_000).await?;
    sql.create("'two'").await?;
    let second = listed(&mut sql, &format!("after => '{}'", first[3])).await?;
    assert_eq!(second, tasks[4..]);
    Ok(())
}

#[tokio::test]
async fn bounds_in_time_hold_to_the_microsecond() -> anyhow::Result<()> {
    let mut sql = Scenario::new().await?;
    sql.register(ONE).await?;
    let mut tasks = Vec::new();
    for microseconds in [0, 400, 999, 1000, 1001] {
        sql.run(&format!(
            "select tasker._set_now(timestamptz '2030-01-01 00:00:00+00' + {microseconds} * interval '1 microsecond')"
        ))
        .await?;
        tasks.push(sql.create("'one'").await?);
    }
    for (arguments, found) in [
        (
            "created_after => '2030-01-01 00:00:00.0004+00'",
            vec![4, 3, 2, 1],
        ),
        (
            "created_after => '2030-01-01 00:00:00.000401+00'",
            vec![4, 3, 2],
        ),
        ("created_before => '2030-01-01 00:00:00.0004+00'", vec![0]),
        (
            "created_before => '2030-01-01 00:00:00.000401+00'",
            vec![1, 0],
        ),
        (
            "created_before => '2030-01-01 00:00:00.001+00'",
            vec![2, 1, 0],
        ),
        (
            "created_after => '2030-01-01 00:00:00.001+00', created_before => '2030-01-01 00:00:00.001001+00'",
            vec![3],
        ),
        (
            "created_after => '-infinity', created_before => 'infinity'",
            vec![4, 3, 2, 1, 0],
        ),
        ("created_after => '1950-01-01'", vec![4, 3, 2, 1, 0]),
        ("created_before => '1950-01-01'", vec![]),
        ("created_after => 'infinity'", vec![]),
        ("created_before => '20000-01-01'", vec![4, 3, 2, 1, 0]),
    ] {
        let order: Vec<usize> = listed(&mut sql, arguments)
            .await?
            .iter()
            .filter_map(|task| tasks.iter().position(|other| other == task))
            .collect();
        // Within a millisecond keys are in the order of the microseconds.
        assert_eq!(order, found, "{arguments}");
    }
    Ok(())
}

/// The blocks that a call touches, with its plans made.
async fn blocks(sql: &mut Scenario, arguments: &str) -> anyhow::Result<i64> {
    let call = format!(
        "explain (analyze, buffers, format json) select * from tasker.list_tasks({arguments})"
    );
    let mut touched = 0;
    for _ in 0..2 {
        let plan: Value = sql.value(&call).await?;
        let count = |name: &str| plan[0]["Plan"][name].as_i64().unwrap_or_default();
        touched = count("Shared Hit Blocks") + count("Shared Read Blocks");
    }
    Ok(touched)
}

#[tokio::test]
async fn a_bound_in_time_keeps_other_tasks_from_being_read() -> anyhow::Result<()> {
    let mut sql = Scenario::new().await?;
    sql.register(ONE).await?;
    for week in 0..3 {
        sql.clock(week * WEEK).await?;
        sql.run("select count(*) from tasker.create_tasks((select jsonb_agg(jsonb_build_object('template_name', 'one')) from generate_series(1, 3000)))")
            .await?;
    }
    // Nothing matches: all that is within the bounds is looked at.
    let nothing = "states => '{error}'";
    let all = blocks(&mut sql, nothing).await?;
    let week = blocks(
        &mut sql,
        &format!("{nothing}, created_after => '2030-01-08', created_before => '2030-01-09'"),
    )
    .await?;
    let day = blocks(
        &mut sql,
        &format!("{nothing}, created_after => '2030-02-01'"),
    )
    .await?;
    eprintln!("blocks: {all} of all, {week} of a week, {day} of a day without tasks");
    assert!(week * 2 < all, "{week} of {all}");
    assert!(day * 10 < all, "{day} of {all}");
    let page = blocks(&mut sql, "\"limit\" => 1").await?;
    assert!(page * 5 < all, "a page of one: {page} of {all}");
    let ids = json!(listed(&mut sql, "created_after => '2030-02-01'").await?);
    assert_eq!(ids, json!([]));
    Ok(())
}
