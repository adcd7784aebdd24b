//! What steps that wait inside the engine cost others: nothing, however many they are. Counted in blocks, not timed.
//!
//! `TASKER_TEST_WAITS=1000000` makes it a million timers and as many signals.

use serde_json::Value;
use sqlx::{Executor, PgConnection};
use tasker_client::Definition;
use tasker_tests::TestDatabase;
use tasker_tests::following::verified;

const TEMPLATES: [&str; 3] = [
    "{name: nap, version: 1.0.0, steps: [{name: sleep, type: timer, delay_seconds: 1000000}]}",
    "{name: hope, version: 1.0.0, steps: [{name: go, type: signal, signal: {name: go}}]}",
    "{name: one, version: 1.0.0, steps: [{name: a, handler: {callable: t.a}}]}",
];
/// An index of many may have some levels more than one of few.
const LEVELS: i64 = 16;
/// How many are created in one call.
const BATCH: u32 = 10_000;

/// How many blocks a query touches when it is run again.
async fn blocks(session: &mut PgConnection, query: &str) -> anyhow::Result<i64> {
    let mut touched = 0;
    for _ in 0..3 {
        let plan: Value =
            sqlx::query_scalar(&format!("explain (analyze, buffers, format json) {query}"))
                .fetch_one(&mut *session)
                .await?;
        let blocks = |name: &str| plan[0]["Plan"][name].as_i64().unwrap_or_default();
        touched = blocks("Shared Hit Blocks") + blocks("Shared Read Blocks");
    }
    Ok(touched)
}

async fn create(session: &mut PgConnection, template: &str, count: u32) -> anyhow::Result<()> {
    for from in (0..count).step_by(BATCH as usize) {
        let batch = BATCH.min(count - from);
        let create = format!(
            "select count(*) from tasker.create_tasks((select jsonb_agg(jsonb_build_object('template_name', '{template}')) from generate_series(1, {batch})))"
        );
        session.execute(sqlx::raw_sql(&create)).await?;
    }
    Ok(())
}

/// How many wait when many do.
fn many() -> u32 {
    let asked = std::env::var("TASKER_TEST_WAITS").ok();
    asked.and_then(|asked| asked.parse().ok()).unwrap_or(BATCH)
}

#[tokio::test]
async fn what_waits_costs_neither_a_round_of_maintenance_nor_a_claim() -> anyhow::Result<()> {
    let database = TestDatabase::new().await?;
    for template in TEMPLATES {
        database
            .client()
            .register_template(Definition::Yaml(template), None)
            .await?;
    }
    let mut session = database.session().await?;
    let round = "select * from tasker.list_due_jobs()";
    let fire = "select * from tasker.run_maintenance_job('fire_timers')";
    let claim = "select * from tasker.claim_steps('w', '{default}', 1)";
    let mut figures = Vec::new();
    for more in [50, many()] {
        create(&mut session, "nap", more).await?;
        create(&mut session, "hope", more).await?;
        create(&mut session, "one", 3).await?;
        session
            .execute("vacuum analyze tasker.timers, pgmq.q_worker_default_queue")
            .await?;
        let mut blocks_of = Vec::new();
        for query in [round, fire, claim] {
            blocks_of.push(blocks(&mut session, query).await?);
        }
        figures.push(blocks_of);
    }
    eprintln!("blocks of a round, a look for timers, a claim: {figures:?}");
    for (few, many) in figures[0].iter().zip(&figures[1]) {
        assert!(many <= &(few + LEVELS), "{figures:?}");
    }
    if many() > BATCH {
        // By hand: the invariants of millions of rows take minutes.
        return Ok(());
    }
    verified(database.client()).await
}
