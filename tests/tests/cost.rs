//! What the hot path costs, counted and not timed: transactions, statements, blocks, scans.

use std::fmt::Write;
use std::time::Instant;

use serde_json::{Value, json};
use sqlx::Executor;
use tasker_tests::counting::Counting;
use tasker_tests::has_statement_statistics;

const CHAIN: &str = "{name: chain, version: 1.0.0, input_schema: {properties: {n: {type: integer, default: 3}}}, steps: [\
    {name: a, handler: {callable: t}}, {name: b, handler: {callable: t}, dependencies: [a]}, \
    {name: c, handler: {callable: t}, dependencies: [b], result_schema: {type: object}}, {name: d, handler: {callable: t}, dependencies: [c]}]}";

/// Says by name what is skipped where the PostgreSQL that is tested on has no `pg_stat_statements`.
fn counts_statements(test: &str) -> anyhow::Result<bool> {
    let counts = has_statement_statistics()?;
    if !counts {
        eprintln!("skipped: {test}: this PostgreSQL has no pg_stat_statements");
    }
    Ok(counts)
}

async fn with_chain() -> anyhow::Result<Counting> {
    let mut engine = Counting::start().await?;
    engine.register(CHAIN).await?;
    Ok(engine)
}

#[tokio::test]
async fn a_lone_chain_of_four_steps_commits_at_most_seven_transactions() -> anyhow::Result<()> {
    let mut engine = with_chain().await?;
    // A busy worker has prepared its statements, which each session does once.
    engine.create("chain", 1).await?;
    engine.drain(1).await?;
    let before = engine.commits().await?;
    let idle = engine.commits().await? - before;
    let before = engine.commits().await?;
    engine.create("chain", 1).await?;
    assert_eq!(engine.drain(1).await?, 4);
    let commits = engine.commits().await? - before - idle;
    eprintln!("transactions for a lone chain: {commits}");
    assert!((1..=7).contains(&commits), "{commits}");
    Ok(())
}

#[tokio::test]
async fn a_thousand_chains_in_batches_commit_less_than_a_quarter_of_a_transaction_a_step()
-> anyhow::Result<()> {
    let mut engine = with_chain().await?;
    let before = engine.commits().await?;
    engine.create("chain", 1000).await?;
    let began = Instant::now();
    let steps = engine.drain(100).await?;
    assert_eq!(steps, 4000);
    let commits = engine.commits().await? - before;
    eprintln!(
        "transactions for {steps} steps: {commits}, in {} ms",
        began.elapsed().as_millis()
    );
    assert!(commits * 4 < steps as i64, "{commits}");
    Ok(())
}

/// The statements of creating, claiming and finishing one batch of chains.
async fn statements_of_a_batch(engine: &mut Counting, size: usize) -> anyhow::Result<[i64; 5]> {
    let mut counts = [0; 5];
    engine.forget_statements().await?;
    engine.create("chain", size).await?;
    counts[0] = engine.statements().await?;

    engine.forget_statements().await?;
    let held = engine.claim(size).await?;
    counts[1] = engine.statements().await?;
    assert_eq!(held.len(), size);

    // Handed over.
    engine.forget_statements().await?;
    let held = engine.finish(&held, size).await?;
    counts[2] = engine.statements().await?;
    assert_eq!(held.len(), size);

    // Left to the queue, then claimed from it.
    engine.forget_statements().await?;
    assert!(engine.finish(&held, 0).await?.is_empty());
    counts[3] = engine.statements().await?;
    let held = engine.claim(size).await?;
    let held = engine.finish(&held, size).await?;

    // The last steps: the tasks end.
    engine.forget_statements().await?;
    assert!(engine.finish(&held, size).await?.is_empty());
    counts[4] = engine.statements().await?;
    Ok(counts)
}

#[tokio::test]
async fn no_count_of_statements_grows_with_the_batch_or_with_what_was_done_before()
-> anyhow::Result<()> {
    if !counts_statements(
        "no_count_of_statements_grows_with_the_batch_or_with_what_was_done_before",
    )? {
        return Ok(());
    }
    let mut engine = with_chain().await?;
    // Templates are read and plans are made once a session.
    statements_of_a_batch(&mut engine, 2).await?;
    let of_one = statements_of_a_batch(&mut engine, 1).await?;
    let of_many = statements_of_a_batch(&mut engine, 200).await?;
    assert_eq!(
        of_one, of_many,
        "create, claim, finish and hand over, finish, finish the tasks: for one and for 200"
    );
    for _ in 0..5 {
        engine.create("chain", 1000).await?;
        engine.drain(500).await?;
    }
    let later = statements_of_a_batch(&mut engine, 1).await?;
    assert_eq!(of_one, later, "after 5,000 tasks");
    eprintln!(
        "statements of create, claim, finish and hand over, finish, finish the tasks: {of_one:?}"
    );
    Ok(())
}

#[tokio::test]
async fn the_blocks_touched_for_a_task_stay_the_same_over_thousands_of_finished_ones()
-> anyhow::Result<()> {
    if !counts_statements(
        "the_blocks_touched_for_a_task_stay_the_same_over_thousands_of_finished_ones",
    )? {
        return Ok(());
    }
    let mut engine = with_chain().await?;
    let mut measured = Vec::new();
    for finished in [100, 5000] {
        for _ in 0..finished / 100 {
            engine.create("chain", 100).await?;
            engine.drain(100).await?;
        }
        // The queue is emptied as it is where autovacuum runs; what is measured is the size of history.
        engine
            .worker()
            .execute("vacuum pgmq.q_worker_default_queue")
            .await?;
        engine.create("chain", 1).await?;
        engine.drain(1).await?;
        engine.forget_statements().await?;
        engine.create("chain", 1).await?;
        engine.drain(1).await?;
        measured.push(engine.blocks().await?);
    }
    eprintln!("blocks for a lone chain after 100 and after 5,000 more: {measured:?}");
    assert!(measured[1] <= measured[0] * 3 / 2, "{measured:?}");
    Ok(())
}

/// Blocks touched for a hundred chains, and statements run for them, by a session that has met the template and the queue.
async fn blocks_and_statements_of_chains(engine: &mut Counting) -> anyhow::Result<[i64; 2]> {
    engine
        .worker()
        .execute("vacuum pgmq.q_worker_default_queue")
        .await?;
    for is_measured in [false, true] {
        if is_measured {
            engine.forget_statements().await?;
        }
        engine.create("chain", 100).await?;
        engine.drain(50).await?;
    }
    Ok([engine.blocks().await?, engine.statements().await?])
}

#[tokio::test]
async fn a_step_costs_the_same_when_a_year_of_ranges_is_kept() -> anyhow::Result<()> {
    if !counts_statements("a_step_costs_the_same_when_a_year_of_ranges_is_kept")? {
        return Ok(());
    }
    let mut engine = with_chain().await?;
    let young = blocks_and_statements_of_chains(&mut engine).await?;
    for weeks_ago in (1..=52).rev() {
        let set =
            format!("select tasker._set_now(clock_timestamp() - interval '{weeks_ago} weeks')");
        engine.worker().execute(set.as_str()).await?;
        engine.create("chain", 20).await?;
        engine.drain(50).await?;
    }
    engine
        .worker()
        .execute("select tasker._set_now(null)")
        .await?;
    let ranges: i64 = sqlx::query_scalar(
        "select count(*) from pg_inherits where inhparent = 'tasker.steps'::regclass",
    )
    .fetch_one(engine.worker())
    .await?;
    assert!(ranges > 52, "{ranges}");
    let old = blocks_and_statements_of_chains(&mut engine).await?;
    eprintln!("blocks and statements for a hundred chains: {young:?}, in {ranges} ranges {old:?}");
    assert!(old[0] * 10 <= young[0] * 11, "{young:?} {old:?}");
    assert_eq!(old[1], young[1]);
    Ok(())
}

/// The statements of failing a batch of steps to be retried, giving it back, extending its leases, and failing it for good.
async fn statements_of_failures(engine: &mut Counting, size: usize) -> anyhow::Result<[i64; 5]> {
    let mut counts = [0; 5];
    engine.create("chain", size).await?;
    let mut held = engine.claim(size).await?;
    let outcomes = [
        json!({"status": "fail", "error": {"message": "m", "retry_after_ms": 0}}),
        json!({"status": "release"}),
        json!({"status": "yield", "checkpoint": {"page": 1}}),
        json!({"status": "fail", "error": {"message": "m", "retryable": false}}),
    ];
    for (count, outcome) in counts.iter_mut().zip(&outcomes) {
        engine.forget_statements().await?;
        engine.report(&held, outcome, 0).await?;
        *count = engine.statements().await?;
        held = engine.claim(size).await?;
    }
    assert!(held.is_empty(), "all have failed for good");
    engine.create("chain", size).await?;
    let held = engine.claim(size).await?;
    engine.forget_statements().await?;
    sqlx::query("select * from tasker.extend_leases('w', $1)")
        .bind(Value::Array(held.clone()))
        .fetch_all(engine.worker())
        .await?;
    counts[4] = engine.statements().await?;
    engine.finish(&held, 0).await?;
    engine.drain(size).await?;
    Ok(counts)
}

/// The statements of taking over a batch whose workers died, of failing it when they die again, and of sending its lost messages.
async fn statements_of_recovery(engine: &mut Counting, size: usize) -> anyhow::Result<[i64; 4]> {
    let mut counts = [0; 4];
    engine.create("chain", size).await?;
    assert_eq!(engine.claim(size).await?.len(), size);
    for (crash, claimed) in [size, 0].into_iter().enumerate() {
        let set = format!(
            "select tasker._set_now(clock_timestamp() + {} * interval '1 minute')",
            crash + 1
        );
        engine.worker().execute(set.as_str()).await?;
        engine.forget_statements().await?;
        assert_eq!(engine.claim(size).await?.len(), claimed);
        counts[crash] = engine.statements().await?;
    }
    engine
        .worker()
        .execute("delete from pgmq.q_worker_default_queue")
        .await?;
    for (count, sent) in counts[2..].iter_mut().zip([size, 0]) {
        engine.forget_statements().await?;
        let processed: i64 = sqlx::query_scalar(
            "select processed from tasker.run_maintenance() where job = 'send_lost_messages'",
        )
        .fetch_one(engine.worker())
        .await?;
        *count = engine.statements().await?;
        assert_eq!(processed, sent as i64);
    }
    engine
        .worker()
        .execute("select tasker._set_now(clock_timestamp() + interval '1 hour')")
        .await?;
    assert_eq!(engine.drain(size).await?, size * 4);
    engine
        .worker()
        .execute("select tasker._set_now(null)")
        .await?;
    Ok(counts)
}

#[tokio::test]
async fn no_count_of_statements_grows_with_a_batch_that_is_recovered() -> anyhow::Result<()> {
    if !counts_statements("no_count_of_statements_grows_with_a_batch_that_is_recovered")? {
        return Ok(());
    }
    let mut engine = with_chain().await?;
    statements_of_recovery(&mut engine, 2).await?;
    let of_one = statements_of_recovery(&mut engine, 1).await?;
    let of_many = statements_of_recovery(&mut engine, 200).await?;
    assert_eq!(
        of_one, of_many,
        "take over, fail, send lost messages, find none lost: for one and for 200"
    );
    Ok(())
}

#[tokio::test]
async fn no_count_of_statements_grows_with_a_batch_of_failures() -> anyhow::Result<()> {
    if !counts_statements("no_count_of_statements_grows_with_a_batch_of_failures")? {
        return Ok(());
    }
    let mut engine = with_chain().await?;
    statements_of_failures(&mut engine, 2).await?;
    let of_one = statements_of_failures(&mut engine, 1).await?;
    let of_many = statements_of_failures(&mut engine, 200).await?;
    assert_eq!(
        of_one, of_many,
        "retry, release, yield, fail for good, extend: for one and for 200"
    );
    Ok(())
}

/// Works and says which tables were scanned meanwhile.
async fn scans_of_work(engine: &mut Counting) -> anyhow::Result<Value> {
    engine.reconnect().await?;
    let before = engine.scans().await?;
    engine.create("chain", 500).await?;
    engine.drain(50).await?;
    engine.create("chain", 1).await?;
    engine.drain(1).await?;
    let after = engine.scans().await?;
    let mut grown = serde_json::Map::new();
    for (table, scans) in after.as_object().into_iter().flatten() {
        if before[table] != *scans {
            grown.insert(table.clone(), scans.clone());
        }
    }
    Ok(Value::Object(grown))
}

#[tokio::test]
async fn the_plans_of_the_hot_path_need_no_statistics_and_stand_wrong_ones() -> anyhow::Result<()> {
    let none = Value::Object(serde_json::Map::new());
    let mut engine = with_chain().await?;
    let tables = engine.scans().await?;
    assert_eq!(
        tables.as_object().map(serde_json::Map::len),
        Some(7),
        "{tables}"
    );
    assert_eq!(scans_of_work(&mut engine).await?, none, "never analysed");
    let names = "tasker.tasks, tasker.steps, tasker.step_transitions, tasker.task_transitions, pgmq.q_worker_default_queue";
    engine
        .worker()
        .execute(format!("truncate {names}").as_str())
        .await?;
    engine
        .worker()
        .execute(format!("analyze {names}").as_str())
        .await?;
    assert_eq!(
        scans_of_work(&mut engine).await?,
        none,
        "analysed while empty"
    );
    engine
        .worker()
        .execute(format!("analyze {names}").as_str())
        .await?;
    assert_eq!(
        scans_of_work(&mut engine).await?,
        none,
        "analysed when full of finished work"
    );
    engine
        .worker()
        .execute("update pg_class set relpages = 1, reltuples = 1 where relname ~ '^(tasks|steps|step_transitions|q_worker_default_queue)'")
        .await?;
    assert_eq!(
        scans_of_work(&mut engine).await?,
        none,
        "a lie about the size"
    );
    Ok(())
}

#[tokio::test]
async fn ten_thousand_steps_are_registered_created_and_done() -> anyhow::Result<()> {
    let mut engine = Counting::start().await?;
    let mut yaml = String::from(
        "name: huge\nversion: 1.0.0\nsteps:\n  - {name: s0, handler: {callable: t}}\n",
    );
    for number in 1..10_000_usize {
        let parent = (number - 1) / 10;
        writeln!(
            yaml,
            "  - {{name: s{number}, handler: {{callable: t}}, dependencies: [s{parent}]}}"
        )?;
    }
    let began = Instant::now();
    engine.register(&yaml).await?;
    let registered = began.elapsed();
    let began = Instant::now();
    engine.create("huge", 1).await?;
    let created = began.elapsed();
    eprintln!(
        "10,000 steps: registered in {} ms, created in {} ms",
        registered.as_millis(),
        created.as_millis()
    );
    assert!(
        registered.as_secs() < 20 && created.as_secs() < 20,
        "{registered:?}, {created:?}"
    );
    let began = Instant::now();
    assert_eq!(engine.drain(1000).await?, 10_000);
    eprintln!("done in {} ms", began.elapsed().as_millis());
    let states: Vec<String> = sqlx::query_scalar("select state from tasker.list_tasks()")
        .fetch_all(engine.worker())
        .await?;
    assert_eq!(states, ["complete"]);
    Ok(())
}

#[tokio::test]
async fn a_join_over_a_thousand_parents_completes() -> anyhow::Result<()> {
    let mut engine = Counting::start().await?;
    let names: Vec<_> = (0..1000).map(|number| format!("p{number}")).collect();
    let parents: Vec<_> = names
        .iter()
        .map(|name| format!("{{name: {name}, handler: {{callable: t}}}}"))
        .collect();
    engine
        .register(&format!(
            "{{name: wide, version: 1.0.0, steps: [{}, {{name: join, handler: {{callable: t}}, dependencies: [{}]}}]}}",
            parents.join(", "),
            names.join(", ")
        ))
        .await?;
    engine.create("wide", 1).await?;
    let began = Instant::now();
    assert_eq!(engine.drain(37).await?, 1001);
    eprintln!(
        "a join over 1,000 parents: {} ms",
        began.elapsed().as_millis()
    );
    let results: i64 = sqlx::query_scalar("select count(*) from tasker.verify()")
        .fetch_one(engine.worker())
        .await?;
    assert_eq!(results, 0);
    let done: i64 =
        sqlx::query_scalar("select count(*) from tasker.list_tasks(states => '{complete}')")
            .fetch_one(engine.worker())
            .await?;
    assert_eq!(done, 1);
    Ok(())
}
