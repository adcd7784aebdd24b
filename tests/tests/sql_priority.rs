//! Priority: who is served first through retries, repairs, hand-overs and lost messages, and that nobody waits for ever.

use serde_json::{Value, json};
use sqlx::Executor;
use tasker_tests::scenario::{done, key};
use tasker_tests::{Scenario, TestDatabase};

const ONE: &str = "{name: one, version: 1.0.0, steps: [{name: a, handler: {callable: t.a}, retry: {max_attempts: 2, backoff: linear, backoff_base_ms: 1000, jitter: 0}}]}";
const OTHER: &str = "{name: other, version: 1.0.0, steps: [{name: o, handler: {callable: t.o}}]}";
const CHAIN: &str = "{name: chain, version: 1.0.0, steps: [{name: a, handler: {callable: t.a}}, {name: b, handler: {callable: t.b}, dependencies: [a]}]}";

async fn with(templates: &[&str]) -> anyhow::Result<Scenario> {
    let mut sql = Scenario::new().await?;
    for template in templates {
        sql.register(template).await?;
    }
    Ok(sql)
}

async fn create(sql: &mut Scenario, template: &str, priorities: &[i32]) -> anyhow::Result<()> {
    for priority in priorities {
        sql.create(&format!("'{template}', priority => {priority}"))
            .await?;
    }
    Ok(())
}

/// The priorities of steps claimed one by one.
async fn served(sql: &mut Scenario, claims: usize) -> anyhow::Result<Vec<i64>> {
    let mut order = Vec::new();
    for _ in 0..claims {
        order.extend(priorities(&sql.claim("w", 1).await?));
    }
    Ok(order)
}

fn priorities(claimed: &[Value]) -> Vec<i64> {
    claimed
        .iter()
        .filter_map(|step| step["priority"].as_i64())
        .collect()
}

#[tokio::test]
async fn a_stream_of_high_priority_without_end_never_starves_the_rest() -> anyhow::Result<()> {
    let mut sql = with(&[ONE]).await?;
    create(&mut sql, "one", &[-100, 0]).await?;
    // A worker that reports each step and asks for the next in the same call, while there is always another of the highest priority.
    create(&mut sql, "one", &[100, 100]).await?;
    let mut held = sql.claim("w", 1).await?.remove(0);
    let mut served = Vec::new();
    for calls in 0..25 {
        sql.clock(calls).await?;
        create(&mut sql, "one", &[100]).await?;
        let answer = sql.finish("w", json!([done(&held, json!(1))]), 1).await?;
        served.extend(priorities(&answer.claimed));
        held = answer.claimed[0].clone();
    }
    let mut low: Vec<i64> = served.iter().copied().filter(|&p| p < 100).collect();
    low.sort_unstable();
    assert_eq!(low, [-100, 0], "{served:?}");
    assert_eq!(served.len(), 25);
    sql.verify().await
}

#[tokio::test]
async fn the_turn_of_the_oldest_comes_round_in_each_namespace_of_a_worker_that_is_always_full()
-> anyhow::Result<()> {
    let mut sql = with(&[ONE, &ONE.replace("name: one", "name: one, namespace: shop")]).await?;
    for namespace in ["default", "shop"] {
        sql.create(&format!("'one', '{namespace}', priority => -100"))
            .await?;
        for _ in 0..30 {
            sql.create(&format!("'one', '{namespace}', priority => 100"))
                .await?;
        }
    }
    let mut low = std::collections::BTreeSet::new();
    for _ in 0..20 {
        let step = sql
            .row("select * from tasker.claim_steps('w', '{default,shop}', 1)")
            .await?;
        if step["priority"] == -100 {
            low.insert(step["namespace"].to_string());
        }
    }
    assert_eq!(low.len(), 2, "{low:?}");
    sql.verify().await
}

#[tokio::test]
async fn sessions_that_claim_only_once_serve_the_oldest_too() -> anyhow::Result<()> {
    let database = TestDatabase::new().await?;
    let mut creator = database.session().await?;
    sqlx::query("select * from tasker.register_template($1::text)")
        .bind(ONE)
        .execute(&mut creator)
        .await?;
    creator
        .execute("select tasker.create_task('one', priority => case n when 1 then -100 else 100 end) from generate_series(1, 30) n")
        .await?;
    let mut low = 0;
    for microseconds in 1..=10 {
        let mut session = database.session().await?;
        session
            .execute(format!("select tasker._set_now(timestamptz '2100-01-01' + {microseconds} * interval '1 microsecond')").as_str())
            .await?;
        low += sqlx::query_scalar::<_, i64>(
            "select count(*) from tasker.claim_steps('w', '{default}', 1) where priority = -100",
        )
        .fetch_one(&mut session)
        .await?;
    }
    assert_eq!(low, 1);
    Ok(())
}

#[tokio::test]
async fn a_retry_that_is_due_goes_before_lower_priority_and_after_higher() -> anyhow::Result<()> {
    let mut sql = with(&[ONE]).await?;
    create(&mut sql, "one", &[5]).await?;
    let failing = sql.claim_one().await?;
    create(&mut sql, "one", &[0, 9]).await?;
    sql.fail(&failing, json!({"message": "busy"})).await?;
    sql.clock(999).await?;
    create(&mut sql, "one", &[-3]).await?;
    sql.clock(1_000).await?;
    assert_eq!(served(&mut sql, 4).await?, [9, 5, 0, -3]);
    sql.verify().await
}

#[tokio::test]
async fn a_lease_that_ended_is_taken_over_by_its_priority() -> anyhow::Result<()> {
    let mut sql = with(&[ONE]).await?;
    create(&mut sql, "one", &[5]).await?;
    sql.claim_one().await?;
    create(&mut sql, "one", &[0, 9]).await?;
    sql.clock(30_000).await?;
    assert_eq!(served(&mut sql, 3).await?, [9, 5, 0]);
    sql.verify().await
}

#[tokio::test]
async fn each_worker_is_served_by_priority_among_what_it_can_run() -> anyhow::Result<()> {
    let mut sql = with(&[ONE, OTHER]).await?;
    create(&mut sql, "other", &[100, 50, 0]).await?;
    create(&mut sql, "one", &[-1, 0, 7]).await?;
    let mut order = Vec::new();
    for _ in 0..3 {
        order.extend(
            sql.rows("select priority from tasker.claim_steps('w', '{default}', 1, handlers => '{t.a,t.unknown}')")
                .await?,
        );
    }
    assert_eq!(priorities(&order), [7, 0, -1]);
    assert_eq!(served(&mut sql, 3).await?, [100, 50, 0]);
    sql.verify().await
}

#[tokio::test]
async fn a_large_backlog_for_other_handlers_hides_nothing() -> anyhow::Result<()> {
    let mut sql = with(&[ONE, OTHER]).await?;
    sql.run("select tasker.create_task('other', priority => 100 - n % 200) from generate_series(1, 3000) n")
        .await?;
    create(&mut sql, "one", &[-100, 3, 0]).await?;
    let rows = sql
        .rows("select priority from tasker.claim_steps('w', '{default}', 10, handlers => '{t.a}')")
        .await?;
    assert_eq!(priorities(&rows), [3, 0, -100]);
    sql.verify().await
}

#[tokio::test]
async fn a_hand_over_yields_to_what_waits_above_it_and_to_nothing_else() -> anyhow::Result<()> {
    for (waiting, handlers, handed) in [
        ("'one', priority => 6", "null", "a"),
        ("'one', priority => 5", "null", "b"),
        ("'one', priority => 4", "null", "b"),
        // What the caller can't run, and what isn't visible yet.
        ("'other', priority => 6", "'{t.a,t.b}'", "b"),
        ("'one', priority => 6, run_at => '2030-01-02'", "null", "b"),
    ] {
        let mut sql = with(&[CHAIN, ONE, OTHER]).await?;
        sql.create("'chain', priority => 5").await?;
        let a = sql.claim_one().await?;
        sql.create(waiting).await?;
        let outcomes = json!([done(&a, json!(1))]);
        let answer = sql
            .finish_with(&format!(
                "'w', '{outcomes}', 1, namespaces => '{{default}}', handlers => {handlers}"
            ))
            .await?;
        assert_eq!(answer.names(), [handed], "{waiting}");
        sql.verify().await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_hand_over_below_zero_yields_to_what_waits_at_zero() -> anyhow::Result<()> {
    let mut sql = with(&[CHAIN, ONE]).await?;
    sql.create("'chain', priority => -5").await?;
    let a = sql.claim_one().await?;
    create(&mut sql, "one", &[0, -4, -6]).await?;
    let mut held = a;
    let mut order = Vec::new();
    for _ in 0..4 {
        let answer = sql.finish("w", json!([done(&held, json!(1))]), 1).await?;
        order.extend(priorities(&answer.claimed));
        held = answer.claimed[0].clone();
    }
    assert_eq!(order, [0, -4, -5, -6]);
    sql.verify().await
}

#[tokio::test]
async fn a_repaired_step_and_a_rerun_task_keep_their_priority() -> anyhow::Result<()> {
    let mut sql = with(&[ONE]).await?;
    let task = sql.create("'one', priority => 5").await?;
    let step = sql.claim_one().await?;
    let for_good = json!({"message": "no", "retryable": false});
    sql.fail(&step, for_good).await?;
    create(&mut sql, "one", &[0, 9]).await?;
    sql.run(&format!(
        "select tasker.reset_step('{}', 'mended')",
        key(&step)
    ))
    .await?;
    assert_eq!(served(&mut sql, 2).await?, [9, 5]);
    sql.verify().await?;
    let attempt: i32 = sql
        .value(&format!(
            "select attempt from tasker.get_step('{}')",
            key(&step)
        ))
        .await?;
    let again = json!({"step_uuid": key(&step), "attempt": attempt});
    sql.complete(&again, json!(1)).await?;
    sql.run(&format!("select tasker.rerun_task('{task}')"))
        .await?;
    assert_eq!(served(&mut sql, 2).await?, [5, 0]);
    sql.verify().await
}

#[tokio::test]
async fn messages_sent_again_into_a_queue_made_again_are_served_by_priority() -> anyhow::Result<()>
{
    let mut sql = with(&[ONE]).await?;
    create(&mut sql, "one", &[0, 5, -5, 100]).await?;
    sql.run("select pgmq.drop_queue('worker_default_queue')")
        .await?;
    sql.run("select tasker.run_maintenance()").await?;
    assert_eq!(served(&mut sql, 4).await?, [100, 5, 0, -5]);
    sql.verify().await
}

#[tokio::test]
async fn a_task_started_late_or_resumed_has_its_priority() -> anyhow::Result<()> {
    let mut sql = with(&[ONE]).await?;
    let paused = sql.create("'one', priority => 8").await?;
    sql.run(&format!("select tasker.pause_task('{paused}', 'wait')"))
        .await?;
    sql.create("'one', priority => 9, run_at => '2030-01-01 00:00:10+00'")
        .await?;
    create(&mut sql, "one", &[0]).await?;
    sql.clock(10_000).await?;
    sql.run("select tasker.run_maintenance()").await?;
    sql.run(&format!("select tasker.resume_task('{paused}')"))
        .await?;
    assert_eq!(served(&mut sql, 3).await?, [9, 8, 0]);
    sql.verify().await
}
