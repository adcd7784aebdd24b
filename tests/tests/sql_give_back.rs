//! Giving back: a worker that ends or rests hands its steps to the next one, without using an attempt up.

use serde_json::json;
use tasker_tests::Scenario;
use tasker_tests::scenario::{done, given_back};

const ONE: &str = "{name: one, version: 1.0.0, steps: [{name: a, handler: {callable: t.a}, retry: {backoff: none}}]}";

/// A scenario with a task of one step.
async fn with_task() -> anyhow::Result<Scenario> {
    let mut sql = Scenario::new().await?;
    sql.register(ONE).await?;
    sql.create("'one'").await?;
    Ok(sql)
}

#[tokio::test]
async fn a_released_step_uses_no_attempt_up() -> anyhow::Result<()> {
    let mut sql = with_task().await?;
    let first = sql.claim_one().await?;
    assert_eq!(
        sql.verdict(given_back(&first, "release")).await?,
        "accepted -"
    );
    assert_eq!(
        sql.verdict(given_back(&first, "release")).await?,
        "repeated -"
    );
    assert_eq!(sql.verdict(done(&first, json!(1))).await?, "lost TK011");
    sql.verify().await?;
    let again = sql.claim_one().await?;
    assert_eq!(
        (&again["attempts_used"], &again["checkpoint"]),
        (&json!(1), &json!(null))
    );
    assert!(again["attempt"].as_i64() > first["attempt"].as_i64());
    sql.complete(&again, json!(1)).await?;
    sql.verify().await
}

#[tokio::test]
async fn a_released_step_may_come_back_with_the_same_call() -> anyhow::Result<()> {
    let mut sql = with_task().await?;
    let first = sql.claim_one().await?;
    let answer = sql
        .finish("w", json!([given_back(&first, "release")]), 1)
        .await?;
    assert_eq!(answer.names(), ["a"]);
    assert_eq!(answer.claimed[0]["attempts_used"], 1);
    sql.verify().await
}

#[tokio::test]
async fn a_yield_saves_the_checkpoint_for_the_next_attempt() -> anyhow::Result<()> {
    let mut sql = with_task().await?;
    let mut step = sql.claim_one().await?;
    for page in 1..=5 {
        let mut outcome = given_back(&step, "yield");
        outcome["checkpoint"] = json!({"page": page});
        assert_eq!(sql.verdict(outcome.clone()).await?, "accepted -");
        assert_eq!(sql.verdict(outcome).await?, "repeated -");
        step = sql.claim_one().await?;
        assert_eq!(
            (&step["checkpoint"], &step["attempts_used"]),
            (&json!({"page": page}), &json!(1))
        );
    }
    // A release without one keeps it, and so does a failure.
    assert_eq!(
        sql.verdict(given_back(&step, "release")).await?,
        "accepted -"
    );
    let step = sql.claim_one().await?;
    sql.fail(&step, json!({"message": "m"})).await?;
    let step = sql.claim_one().await?;
    assert_eq!(
        (&step["checkpoint"], &step["attempts_used"]),
        (&json!({"page": 5}), &json!(2))
    );
    sql.verify().await
}
