//! What is said of instances that wait or failed, their checkpoints, and their results in pages.

use serde_json::json;
use tasker_tests::Scenario;
use tasker_tests::instances::{MAP, batch, begun, finish};
use tasker_tests::scenario::{done, failed, key};

#[tokio::test]
async fn explain_task_says_what_waits_for_its_turn_and_for_which_instances() -> anyhow::Result<()> {
    let (mut scenario, task) = begun(
        &batch("continue_on_failure"),
        json!({"batch": {"cursors": [1, 2, 3]}}),
    )
    .await?;
    let explained = scenario
        .rows(&format!(
            "select step_name, reason, explanation from tasker.explain_task('{task}') where reason in ('limit', 'dependency')"
        ))
        .await?;
    assert_eq!(
        explained,
        [
            json!({"step_name": "work", "reason": "dependency", "explanation": "waits for 3 of its 3 instances"}),
            json!({"step_name": "sum", "reason": "dependency", "explanation": "waits for step work, which waits itself"}),
            json!({"step_name": "work_000003", "reason": "limit",
                "explanation": "waits for its turn: 2 of 3 instances have been let go, the next when one of them ends"}),
        ]
    );
    Ok(())
}

#[tokio::test]
async fn explain_task_says_which_failed_instances_keep_a_step_from_ending() -> anyhow::Result<()> {
    let (mut scenario, task) = begun(MAP, json!({"images": [1, 2]})).await?;
    let claimed = scenario.claim("w", 10).await?;
    let outcomes = [
        done(&claimed[0], json!(1)),
        failed(&claimed[1], json!({"message": "no"})),
    ];
    finish(&mut scenario, &outcomes).await?;
    let explained = scenario
        .rows(&format!(
            "select step_name, reason, waits_for from tasker.explain_task('{task}')"
        ))
        .await?;
    assert_eq!(
        explained,
        [
            json!({"step_name": "resize", "reason": "blocked", "waits_for": ["resize_000002"]}),
            json!({"step_name": "publish", "reason": "blocked", "waits_for": ["resize"]}),
            json!({"step_name": "resize_000002", "reason": "failed", "waits_for": []}),
        ]
    );
    Ok(())
}

#[tokio::test]
async fn the_next_attempt_goes_on_from_the_last_checkpoint() -> anyhow::Result<()> {
    let template = MAP.replace("max_attempts: 1", "max_attempts: 3");
    let (mut scenario, _) = begun(&template, json!({"images": [1]})).await?;
    let step = scenario.claim_one().await?;
    let save = |attempt: i32, rows: i32| {
        format!(
            "select tasker.save_checkpoint('{}', {attempt}, '{{\"rows\": {rows}}}')",
            key(&step)
        )
    };
    scenario.run(&save(1, 10)).await?;
    scenario.run(&save(1, 20)).await?;
    // Its worker dies.
    scenario.clock(31_000).await?;
    let again = scenario.claim_one().await?;
    assert_eq!(again["checkpoint"], json!({"rows": 20}));
    assert_eq!(scenario.refused(&save(1, 30)).await?.code, "TK011");
    scenario.run(&save(2, 30)).await?;
    scenario.verify().await?;
    scenario.complete(&again, json!(1)).await?;
    assert_eq!(scenario.refused(&save(2, 40)).await?.code, "TK010");
    Ok(())
}

#[tokio::test]
async fn results_too_long_for_one_are_read_in_pages() -> anyhow::Result<()> {
    let mut scenario = Scenario::new().await?;
    scenario.run("set tasker.max_payload_bytes = 2000").await?;
    scenario.register(MAP).await?;
    scenario.create("'thumbs'").await?;
    let first = scenario.claim_one().await?;
    let images: Vec<i32> = (0..30).collect();
    scenario.complete(&first, json!({"images": images})).await?;
    for step in scenario.claim("w", 100).await? {
        scenario.complete(&step, json!("x".repeat(100))).await?;
    }
    scenario.verify().await?;
    let publish = scenario.claim_one().await?;
    let reference = &publish["dependency_results"]["resize"]["reference"];
    assert_eq!(reference["count"], 30);
    let (mut count, mut after) = (0, "null".to_owned());
    loop {
        let page = scenario
            .rows(&format!(
                "select * from tasker.get_dependency_results('{}', after => {after}, \"limit\" => 7)",
                key(&publish)
            ))
            .await?;
        let Some(last) = page.last() else { break };
        after = format!("'{}'", key(last));
        count += page.iter().filter(|row| !row["instance"].is_null()).count();
    }
    assert_eq!(count, 30);
    let all = scenario
        .rows(&format!(
            "select name from tasker.get_dependency_results('{}', true) where instance is null",
            key(&publish)
        ))
        .await?;
    assert_eq!(all, [json!({"name": "list"}), json!({"name": "resize"})]);
    Ok(())
}
