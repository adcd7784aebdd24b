//! What steps cost while a transaction holds an old snapshot, so that nothing that died since can be removed; counted, not timed.

use std::time::{Duration, Instant};

use sqlx::Executor;
use tasker_tests::counting::Counting;
use tasker_tests::has_statement_statistics;

const CHAIN: &str = "{name: chain, version: 1.0.0, steps: [{name: a, handler: {callable: t}}, {name: b, handler: {callable: t}, dependencies: [a]}, \
    {name: c, handler: {callable: t}, dependencies: [b]}, {name: d, handler: {callable: t}, dependencies: [c]}]}";
const BATCH: usize = 50;

async fn with_chain() -> anyhow::Result<Counting> {
    let mut engine = Counting::start().await?;
    engine.register(CHAIN).await?;
    work(&mut engine, 100).await?;
    Ok(engine)
}

/// Creates so many chains and works them off.
async fn work(engine: &mut Counting, tasks: usize) -> anyhow::Result<()> {
    engine.create("chain", tasks).await?;
    assert_eq!(engine.drain(BATCH).await?, tasks * 4);
    Ok(())
}

/// The tables whose rows change, how often for a chain, and which share of that in percent stays on its page and changes no index when there is room. Of a queue's, a claim and three
/// hand-overs, claims never do.
const CHANGED: [(&str, i64, i64); 3] = [
    ("^q_worker_default_queue$", 4, 60),
    ("^steps_p", 8, 99),
    ("^tasks_p", 1, 99),
];

/// Works so many chains off; gives the shares of `CHANGED` in percent.
async fn shares_that_stay(engine: &mut Counting, tasks: usize) -> anyhow::Result<Vec<i64>> {
    let mut before = Vec::new();
    for (tables, ..) in CHANGED {
        before.push(engine.updates(tables).await?);
    }
    work(engine, tasks).await?;
    let mut shares = Vec::new();
    for ((tables, each, _), [all_before, stayed_before]) in CHANGED.iter().zip(before) {
        let [all, stayed] = engine.updates(tables).await?;
        let all = all - all_before;
        assert_eq!(all, i64::try_from(tasks)? * each, "{tables}");
        shares.push((stayed - stayed_before) * 100 / all);
    }
    Ok(shares)
}

fn assert_they_stay(shares: &[i64]) {
    for ((tables, _, least), share) in CHANGED.iter().zip(shares) {
        assert!(share >= least, "{tables}: {share} %");
    }
}

/// Blocks touched for a hundred chains.
async fn blocks(engine: &mut Counting) -> anyhow::Result<i64> {
    engine.forget_statements().await?;
    work(engine, 100).await?;
    engine.blocks().await
}

#[tokio::test]
async fn every_version_of_a_row_finds_room_on_its_page_also_under_a_held_snapshot()
-> anyhow::Result<()> {
    let mut engine = with_chain().await?;
    let plain = shares_that_stay(&mut engine, 500).await?;
    let mut holder = engine.another().await?;
    holder
        .execute("begin isolation level repeatable read; select count(*) from tasker.steps")
        .await?;
    let held = shares_that_stay(&mut engine, 1_000).await?;
    eprintln!("updates that stay, in percent: {plain:?}, and under a held snapshot {held:?}");
    assert_they_stay(&plain);
    assert_they_stay(&held);
    Ok(())
}

#[tokio::test]
async fn a_held_snapshot_does_not_make_steps_touch_ever_more_blocks() -> anyhow::Result<()> {
    if !has_statement_statistics()? {
        eprintln!(
            "skipped: a_held_snapshot_does_not_make_steps_touch_ever_more_blocks: this PostgreSQL has no pg_stat_statements"
        );
        return Ok(());
    }
    let mut engine = with_chain().await?;
    let plain = blocks(&mut engine).await?;
    let mut holder = engine.another().await?;
    holder
        .execute("begin isolation level repeatable read; select count(*) from tasker.steps")
        .await?;
    let mut held = Vec::new();
    for _ in 0..4 {
        work(&mut engine, 1_000).await?;
        held.push(blocks(&mut engine).await?);
    }
    eprintln!("blocks for a hundred chains: {plain}, and under a held snapshot: {held:?}");
    assert!(held.iter().all(|&held| held <= plain * 5 / 4), "{held:?}");
    Ok(())
}

/// Blocks touched by the first claim of a session, whose clock is so many microseconds past a whole second.
async fn blocks_of_a_first_claim(engine: &mut Counting, microseconds: u32) -> anyhow::Result<i64> {
    engine.create("chain", BATCH).await?;
    engine.reconnect().await?;
    let set = format!(
        "select tasker._set_now(date_trunc('second', clock_timestamp()) + interval '1 second {microseconds} microseconds')"
    );
    engine.worker().execute(set.as_str()).await?;
    engine.forget_statements().await?;
    let held = engine.claim(BATCH).await?;
    let blocks = engine.blocks().await?;
    assert_eq!(held.len(), BATCH);
    engine
        .worker()
        .execute("select tasker._set_now(null)")
        .await?;
    engine.finish(&held, 0).await?;
    engine.drain(BATCH).await?;
    Ok(blocks)
}

#[tokio::test]
async fn a_session_that_begins_under_a_held_snapshot_reads_what_is_recent_first()
-> anyhow::Result<()> {
    if !has_statement_statistics()? {
        eprintln!(
            "skipped: a_session_that_begins_under_a_held_snapshot_reads_what_is_recent_first: this PostgreSQL has no pg_stat_statements"
        );
        return Ok(());
    }
    let mut engine = with_chain().await?;
    let mut holder = engine.another().await?;
    holder
        .execute("begin isolation level repeatable read; select count(*) from tasker.steps")
        .await?;
    engine
        .worker()
        .execute("select tasker._set_now(clock_timestamp() - interval '1 minute')")
        .await?;
    work(&mut engine, 2_000).await?;
    engine
        .worker()
        .execute("select tasker._set_now(null)")
        .await?;
    let recent = blocks_of_a_first_claim(&mut engine, 1).await?;
    // One first read in ten begins at the beginning.
    let all = blocks_of_a_first_claim(&mut engine, 10).await?;
    eprintln!(
        "blocks of a first claim: {recent} when it begins with what is recent, {all} at the beginning"
    );
    assert!(recent + 200 < all, "{recent} {all}");
    // What is older waits for a moment only: here nothing is recent.
    engine
        .worker()
        .execute("select tasker._set_now(clock_timestamp() - interval '1 hour')")
        .await?;
    engine.create("chain", 3).await?;
    engine.reconnect().await?;
    assert_eq!(engine.claim(BATCH).await?.len(), 3);
    Ok(())
}

#[tokio::test]
async fn what_a_long_transaction_sends_is_met_by_sessions_that_have_read_past_it()
-> anyhow::Result<()> {
    let mut engine = with_chain().await?;
    let mut holder = engine.another().await?;
    holder
        .execute("begin isolation level repeatable read; select count(*) from tasker.steps")
        .await?;
    let mut long = engine.another().await?;
    long.execute("begin; select tasker.create_task('chain', 'default', '{}')")
        .await?;
    // Enough is gone that reads from the beginning are slow, so that this session remembers how far it has read.
    work(&mut engine, 8_000).await?;
    assert!(engine.claim(BATCH).await?.is_empty());
    long.execute("commit").await?;
    let committed = Instant::now();
    let mut met = engine.claim(BATCH).await?;
    while met.is_empty() {
        assert!(committed.elapsed() < Duration::from_mins(1), "not met");
        tokio::time::sleep(Duration::from_millis(5)).await;
        met = engine.claim(BATCH).await?;
    }
    eprintln!("met after {} ms", committed.elapsed().as_millis());
    assert_eq!(met.len(), 1);
    Ok(())
}
