//! Eight sessions that create, claim, finish, fail, give back, extend, cancel, pause, signal, repair and rerun as chance has it, alone and in bulk, inline and deferred, and tell again of
//! attempts that are over: no deadlock, no error that isn't a verdict, and every invariant at the end.
//!
//! A run that fails prints its seed; `TASKER_MODEL_SEED=1 cargo test -p tasker-tests --test random_mix` takes the same chances again, though not in the same order, and `TASKER_MODEL_OPERATIONS` sets
//! how many turns each session has.

mod session;
mod templates;

use std::time::Instant;

use anyhow::Context;
use serde_json::json;
use tasker_client::Definition;
use tasker_tests::TestDatabase;
use tasker_tests::following::{create, verified};
use tasker_tests::model::{operations, seed};

use session::Session;
use templates::{NAMES, templates};

const SESSIONS: u64 = 8;
const TURNS: u64 = 400;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_random_mix_of_eight_sessions_has_no_deadlock_and_keeps_every_invariant()
-> anyhow::Result<()> {
    let seed = seed();
    let database = TestDatabase::new().await?;
    run(&database, seed)
        .await
        .with_context(|| format!("TASKER_MODEL_SEED={seed}; {}", database.said_of_deadlocks()))
}

async fn run(database: &TestDatabase, seed: u64) -> anyhow::Result<()> {
    let client = database.client();
    for template in templates() {
        client
            .register_template(Definition::Yaml(&template), None)
            .await?;
    }
    for name in NAMES {
        for _ in 0..3 {
            create(client, "default", name, &json!({})).await?;
        }
    }
    let begun = Instant::now();
    let turns = operations(TURNS);
    let mut sessions = Vec::new();
    for number in 1..=SESSIONS {
        let mut session = Session::new(database, seed, number, begun).await?;
        sessions.push(tokio::spawn(async move {
            for turn in 0..turns {
                let context = || format!("session {number}, turn {turn}");
                session.turn().await.with_context(context)?;
            }
            anyhow::Ok(())
        }));
    }
    for session in sessions {
        session.await??;
    }
    if turns >= TURNS {
        chance_did_all(database).await?;
    }
    verified(client).await
}

async fn chance_did_all(database: &TestDatabase) -> anyhow::Result<()> {
    let states: Vec<String> = sqlx::query_scalar("select distinct state from tasker.tasks")
        .fetch_all(database.pool())
        .await?;
    for state in [
        "complete",
        "cancelled",
        "error",
        "blocked_by_failures",
        "steps_in_process",
    ] {
        assert!(
            states.iter().any(|seen| seen == state),
            "chance made no task {state}: {states:?}"
        );
    }
    let taken_over: i64 =
        sqlx::query_scalar("select count(*) from tasker.step_transitions where path = 'rS'")
            .fetch_one(database.pool())
            .await?;
    assert!(taken_over > 0, "chance let no lease end");
    Ok(())
}
