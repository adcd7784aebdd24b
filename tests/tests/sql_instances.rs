//! Batches and maps: instances made while a task runs, and the step that stands for them. Not here: how they are explained, and what their handlers keep and ask.

use serde_json::{Value, json};
use tasker_tests::Scenario;
use tasker_tests::instances::{MAP, batch, begun, finish};
use tasker_tests::scenario::{done, failed, key, names};

#[tokio::test]
async fn each_element_is_an_instance_and_the_results_come_in_order() -> anyhow::Result<()> {
    let (mut scenario, task) = begun(MAP, json!({"images": ["a", {"b": 1}, null]})).await?;
    let claimed = scenario.claim("w", 10).await?;
    assert_eq!(
        names(&claimed),
        ["resize_000001", "resize_000002", "resize_000003"]
    );
    assert_eq!(
        claimed[1]["inputs"],
        json!({"item": {"b": 1}, "index": 1, "total": 3})
    );
    assert_eq!(claimed[1]["dependency_results"], json!({}));
    for (position, result) in [(2, "z"), (0, "x"), (1, "y")] {
        finish(&mut scenario, &[done(&claimed[position], json!(result))]).await?;
    }
    let publish = scenario.claim_one().await?;
    assert_eq!(
        publish["dependency_results"],
        json!({"resize": ["x", "y", "z"]})
    );
    scenario.complete(&publish, json!(1)).await?;
    assert_eq!(scenario.task_state(&task).await?, "complete");
    let path = scenario
        .value::<String>(&format!(
            "select step_uuid::text from tasker.list_steps('{task}') where name = 'resize'"
        ))
        .await?;
    assert_eq!(
        scenario.path("step_history", &path).await?,
        "pending -enqueue-> enqueued -start-> in_progress -enqueue_for_orchestration-> enqueued_for_orchestration -complete-> complete"
    );
    scenario.verify().await
}

#[tokio::test]
async fn an_empty_array_gives_an_empty_list_at_once() -> anyhow::Result<()> {
    let (mut scenario, _) = begun(MAP, json!({"images": []})).await?;
    let publish = scenario.claim_one().await?;
    assert_eq!(publish["dependency_results"], json!({"resize": []}));
    Ok(())
}

#[tokio::test]
async fn what_is_no_array_fails_the_map_and_a_result_by_hand_mends_it() -> anyhow::Result<()> {
    let (mut scenario, task) = begun(MAP, json!({"pictures": []})).await?;
    assert_eq!(scenario.task_state(&task).await?, "error");
    let row = scenario
        .row(&format!(
            "select step_uuid, state, error from tasker.list_steps('{task}') where name = 'resize'"
        ))
        .await?;
    assert_eq!(row["error"]["type"], "map_source");
    assert_eq!(
        row["error"]["message"],
        "images of the result of list is no array"
    );
    scenario
        .run(&format!(
            "select tasker.complete_step_manually('{}', '[1]')",
            key(&row)
        ))
        .await?;
    scenario.verify().await?;
    assert_eq!(scenario.claim_one().await?["step_name"], "publish");
    Ok(())
}

#[tokio::test]
async fn a_failed_element_fails_the_task_when_nothing_else_can_run_and_its_repair_revives_it()
-> anyhow::Result<()> {
    let (mut scenario, task) = begun(MAP, json!({"images": [1, 2]})).await?;
    let claimed = scenario.claim("w", 10).await?;
    finish(
        &mut scenario,
        &[failed(&claimed[0], json!({"message": "no"}))],
    )
    .await?;
    assert_eq!(scenario.task_state(&task).await?, "steps_in_process");
    finish(&mut scenario, &[done(&claimed[1], json!(2))]).await?;
    assert_eq!(scenario.task_state(&task).await?, "error");
    scenario
        .run(&format!("select tasker.reset_step('{}')", key(&claimed[0])))
        .await?;
    scenario.verify().await?;
    let again = scenario.claim_one().await?;
    finish(&mut scenario, &[done(&again, json!(1))]).await?;
    let publish = scenario.claim_one().await?;
    assert_eq!(publish["dependency_results"], json!({"resize": [1, 2]}));
    Ok(())
}

#[tokio::test]
async fn only_so_many_instances_are_let_go_at_once() -> anyhow::Result<()> {
    let (mut scenario, task) = begun(
        &batch("continue_on_failure"),
        json!({"batch": {"cursors": [10, 20, 30, 40, 50]}}),
    )
    .await?;
    let mut ran = Vec::new();
    loop {
        let claimed = scenario.claim("w", 10).await?;
        if names(&claimed) == ["sum"] {
            let results: Vec<Value> = (0..5)
                .map(|index| json!({"index": index, "status": "complete", "result": index}))
                .collect();
            assert_eq!(claimed[0]["dependency_results"], json!({"work": results}));
            break;
        }
        assert!(claimed.len() <= 2, "{:?}", names(&claimed));
        let step = &claimed[0];
        assert_eq!(step["inputs"]["total"], 5);
        ran.push(step["inputs"]["cursor"].clone());
        finish(
            &mut scenario,
            &[done(step, step["inputs"]["index"].clone())],
        )
        .await?;
        for other in &claimed[1..] {
            let back = json!({"step_uuid": other["step_uuid"], "attempt": other["attempt"], "status": "release"});
            finish(&mut scenario, &[back]).await?;
        }
    }
    assert_eq!(ran.len(), 5);
    assert_eq!(
        scenario
            .row(&format!(
                "select steps_total, steps_done from tasker.get_task('{task}')"
            ))
            .await?,
        json!({"steps_total": 8, "steps_done": 7})
    );
    Ok(())
}

#[tokio::test]
async fn no_batches_and_a_batchable_step_settled_by_hand_have_no_instances() -> anyhow::Result<()> {
    let (mut scenario, _) = begun(&batch("isolate"), json!({"batch": {"cursors": []}})).await?;
    assert_eq!(
        scenario.claim_one().await?["dependency_results"],
        json!({"work": []})
    );
    let mut scenario = Scenario::new().await?;
    scenario.register(&batch("isolate")).await?;
    scenario.create("'csv'").await?;
    let first = scenario.claim_one().await?;
    scenario
        .run(&format!("select tasker.resolve_step('{}')", key(&first)))
        .await?;
    scenario.verify().await?;
    assert_eq!(scenario.claim_one().await?["step_name"], "sum");
    Ok(())
}

#[tokio::test]
async fn a_result_that_asks_for_no_batch_fails_the_batchable_step() -> anyhow::Result<()> {
    for result in [
        json!(null),
        json!({"batch": 3}),
        json!({"batch": {"cursors": {}}}),
        json!([{"batch": {"cursors": []}}]),
    ] {
        let (mut scenario, task) = begun(&batch("isolate"), result).await?;
        assert_eq!(scenario.task_state(&task).await?, "error");
        let error: String = scenario
            .value(&format!(
                "select error ->> 'type' from tasker.list_steps('{task}') where name = 'analyze'"
            ))
            .await?;
        assert_eq!(error, "bad_batch");
    }
    Ok(())
}

#[tokio::test]
async fn a_tolerated_failure_counts_as_done_and_the_join_sees_it() -> anyhow::Result<()> {
    let (mut scenario, task) = begun(
        &batch("continue_on_failure"),
        json!({"batch": {"cursors": [1, 2]}}),
    )
    .await?;
    let claimed = scenario.claim("w", 10).await?;
    finish(
        &mut scenario,
        &[
            failed(&claimed[0], json!({"message": "no"})),
            done(&claimed[1], json!(2)),
        ],
    )
    .await?;
    let sum = scenario.claim_one().await?;
    assert_eq!(sum["dependency_results"]["work"][0]["status"], "error");
    assert_eq!(
        sum["dependency_results"]["work"][0]["error"]["message"],
        "no"
    );
    assert_eq!(
        sum["dependency_results"]["work"][1],
        json!({"index": 1, "status": "complete", "result": 2})
    );
    finish(&mut scenario, &[done(&sum, json!(2))]).await?;
    assert_eq!(
        scenario
            .row(&format!(
                "select state, steps_failed from tasker.get_task('{task}')"
            ))
            .await?,
        json!({"state": "complete", "steps_failed": 1})
    );
    Ok(())
}

#[tokio::test]
async fn fail_fast_fails_the_batch_and_cancels_what_has_not_ended() -> anyhow::Result<()> {
    let (mut scenario, task) = begun(
        &batch("fail_fast"),
        json!({"batch": {"cursors": [1, 2, 3, 4]}}),
    )
    .await?;
    let claimed = scenario.claim("w", 10).await?;
    finish(
        &mut scenario,
        &[failed(&claimed[0], json!({"message": "no"}))],
    )
    .await?;
    scenario.run("select tasker.run_maintenance()").await?;
    scenario.verify().await?;
    assert_eq!(
        scenario.step_states(&task).await?,
        json!({"analyze": "complete", "work": "error", "work_000001": "error", "work_000002": "cancelled", "work_000003": "cancelled", "work_000004": "cancelled", "sum": "pending"})
    );
    assert_eq!(scenario.task_state(&task).await?, "error");
    let work: String = scenario
        .value(&format!(
            "select step_uuid::text from tasker.list_steps('{task}') where name = 'work'"
        ))
        .await?;
    scenario
        .run(&format!("select tasker.reset_step('{work}')"))
        .await?;
    scenario.verify().await?;
    let mut count = 0;
    loop {
        let step = scenario.claim("w", 1).await?;
        if names(&step) == ["sum"] {
            break;
        }
        count += 1;
        finish(&mut scenario, &[done(&step[0], json!(1))]).await?;
    }
    assert_eq!(count, 4);
    Ok(())
}

#[tokio::test]
async fn a_rerun_makes_as_many_instances_as_are_asked_for_then() -> anyhow::Result<()> {
    for asked in [1, 5] {
        let (mut scenario, task) =
            begun(&batch("isolate"), json!({"batch": {"cursors": [1, 2, 3]}})).await?;
        let mut outcomes = 0;
        while let [step, ..] = &scenario.claim("w", 1).await?[..] {
            finish(&mut scenario, &[done(step, json!(1))]).await?;
            outcomes += 1;
        }
        assert_eq!(outcomes, 4);
        scenario
            .run(&format!("select tasker.rerun_task('{task}', 'analyze')"))
            .await?;
        scenario.verify().await?;
        let first = scenario.claim_one().await?;
        let cursors: Vec<i32> = (0..asked).collect();
        finish(
            &mut scenario,
            &[done(&first, json!({"batch": {"cursors": cursors}}))],
        )
        .await?;
        let mut ran = Vec::new();
        while let [step, ..] = &scenario.claim("w", 1).await?[..] {
            finish(&mut scenario, &[done(step, json!(1))]).await?;
            ran.push(step["step_name"].as_str().unwrap_or_default().to_owned());
        }
        assert_eq!(ran.len() as i32, asked + 1, "{ran:?}");
        assert_eq!(scenario.task_state(&task).await?, "complete");
        let total: i32 = scenario
            .value(&format!(
                "select steps_total from tasker.get_task('{task}')"
            ))
            .await?;
        assert_eq!(total, asked + 3);
    }
    Ok(())
}

#[tokio::test]
async fn more_instances_than_the_limit_fail_the_step() -> anyhow::Result<()> {
    let mut scenario = Scenario::new().await?;
    scenario.run("set tasker.max_instances = 2").await?;
    scenario.register(MAP).await?;
    let task = scenario.create("'thumbs'").await?;
    let first = scenario.claim_one().await?;
    scenario
        .complete(&first, json!({"images": [1, 2, 3]}))
        .await?;
    let error: Value = scenario
        .value(&format!(
            "select error from tasker.list_steps('{task}') where name = 'resize'"
        ))
        .await?;
    assert_eq!(error["code"], "TK022");
    scenario.verify().await
}

#[tokio::test]
async fn a_pause_and_a_cancellation_reach_instances() -> anyhow::Result<()> {
    let mut scenario = Scenario::new().await?;
    scenario.register(MAP).await?;
    let task = scenario.create("'thumbs'").await?;
    let first = scenario.claim_one().await?;
    scenario
        .run(&format!("select tasker.pause_task('{task}')"))
        .await?;
    finish(&mut scenario, &[done(&first, json!({"images": [1, 2]}))]).await?;
    assert!(scenario.claim("w", 10).await?.is_empty());
    scenario
        .run(&format!("select tasker.resume_task('{task}')"))
        .await?;
    scenario.verify().await?;
    assert_eq!(scenario.claim("w", 1).await?.len(), 1);
    scenario
        .run(&format!("select tasker.cancel_task('{task}')"))
        .await?;
    scenario.verify().await?;
    assert_eq!(scenario.task_state(&task).await?, "cancelled");
    assert!(scenario.claim("w", 10).await?.is_empty());
    Ok(())
}

#[tokio::test]
async fn a_task_whose_last_retry_is_cancelled_by_a_failure_has_a_whole_history()
-> anyhow::Result<()> {
    let template = MAP.replace(
        "retry: {max_attempts: 1}",
        "failure_strategy: fail_fast, retry: {max_attempts: 2}",
    );
    let (mut scenario, task) = begun(&template, json!({"images": [1, 2]})).await?;
    let claimed = scenario.claim("w", 10).await?;
    let later = failed(&claimed[1], json!({"message": "later"}));
    finish(&mut scenario, &[later]).await?;
    let never = failed(&claimed[0], json!({"message": "no", "retryable": false}));
    finish(&mut scenario, &[never]).await?;
    assert_eq!(scenario.task_state(&task).await?, "waiting_for_retry");
    scenario.run("select tasker.run_maintenance()").await?;
    scenario.verify().await?;
    assert_eq!(scenario.task_state(&task).await?, "error");
    Ok(())
}

#[tokio::test]
async fn the_source_of_a_map_completed_by_hand_revives_a_failed_task_and_its_instances_are_made()
-> anyhow::Result<()> {
    let mut scenario = Scenario::new().await?;
    scenario.register(MAP).await?;
    let task = scenario.create("'thumbs'").await?;
    let list = scenario.claim_one().await?;
    let no = json!({"message": "no", "retryable": false});
    scenario.fail(&list, no).await?;
    assert_eq!(scenario.task_state(&task).await?, "error");
    scenario
        .run(&format!(
            "select tasker.complete_step_manually('{}', '{{\"images\": [1, 2]}}')",
            key(&list)
        ))
        .await?;
    scenario.verify().await?;
    assert_eq!(scenario.task_state(&task).await?, "steps_in_process");
    assert_eq!(scenario.claim("w", 10).await?.len(), 2);
    Ok(())
}

#[tokio::test]
async fn a_source_rerun_alone_leaves_the_count_of_instances_as_it_is() -> anyhow::Result<()> {
    let (mut scenario, task) = begun(MAP, json!({"images": [1, 2]})).await?;
    let claimed = scenario.claim("w", 10).await?;
    let no = failed(&claimed[0], json!({"message": "no"}));
    finish(&mut scenario, &[no, done(&claimed[1], json!(2))]).await?;
    scenario
        .run(&format!(
            "select tasker.rerun_task('{task}', 'list', false)"
        ))
        .await?;
    let list = scenario.claim_one().await?;
    finish(&mut scenario, &[done(&list, json!({"images": [3]}))]).await?;
    assert_eq!(scenario.task_state(&task).await?, "error");
    scenario
        .run(&format!("select tasker.reset_step('{}')", key(&claimed[0])))
        .await?;
    let again = scenario.claim_one().await?;
    finish(&mut scenario, &[done(&again, json!(1))]).await?;
    assert_eq!(scenario.claim_one().await?["step_name"], "publish");
    Ok(())
}

#[tokio::test]
async fn a_batch_that_failed_fast_goes_on_when_what_failed_is_completed_by_hand()
-> anyhow::Result<()> {
    let template = batch("fail_fast").replace("parallelism: 2", "parallelism: 1");
    let cursors = json!({"batch": {"cursors": [1, 2, 3]}});
    let (mut scenario, task) = begun(&template, cursors).await?;
    let first = scenario.claim_one().await?;
    finish(&mut scenario, &[failed(&first, json!({"message": "no"}))]).await?;
    scenario.run("select tasker.run_maintenance()").await?;
    let by_hand = format!(
        "select tasker.complete_step_manually('{}', '1')",
        key(&first)
    );
    scenario.run(&by_hand).await?;
    let work: String = scenario
        .value(&format!(
            "select step_uuid::text from tasker.list_steps('{task}') where name = 'work'"
        ))
        .await?;
    scenario
        .run(&format!("select tasker.reset_step('{work}')"))
        .await?;
    scenario.verify().await?;
    for cursor in [2, 3] {
        let step = scenario.claim_one().await?;
        assert_eq!(step["inputs"]["cursor"], cursor);
        finish(&mut scenario, &[done(&step, json!(1))]).await?;
    }
    assert_eq!(scenario.claim_one().await?["step_name"], "sum");
    Ok(())
}

#[tokio::test]
async fn a_repair_that_leads_to_a_failure_in_the_same_call_is_a_repair_all_the_same()
-> anyhow::Result<()> {
    for blocks in ["error", "block"] {
        let template = MAP.replace(
            "steps:",
            &format!("lifecycle: {{on_failure: {blocks}}}\nsteps:\n  - {{name: other, handler: {{callable: t.other}}, dependencies: [list]}}"),
        );
        let mut scenario = Scenario::new().await?;
        scenario.register(&template).await?;
        let task = scenario.create("'thumbs'").await?;
        let list = scenario.claim_one().await?;
        let no = json!({"message": "no", "retryable": false});
        scenario.fail(&list, no).await?;
        // Nothing to make instances of: the map fails at once, and what else waits for the step goes on.
        scenario
            .run(&format!("select tasker.resolve_step('{}')", key(&list)))
            .await?;
        scenario.verify().await?;
        assert_eq!(scenario.task_state(&task).await?, "steps_in_process");
        let other = scenario.claim_one().await?;
        scenario.complete(&other, json!(1)).await?;
        let map: String = scenario
            .value(&format!(
                "select step_uuid::text from tasker.list_steps('{task}') where name = 'resize'"
            ))
            .await?;
        scenario
            .run(&format!("select tasker.reset_step('{map}')"))
            .await?;
        scenario.verify().await?;
        scenario
            .run(&format!(
                "select tasker.rerun_task('{task}', 'resize', false)"
            ))
            .await?;
        scenario.verify().await?;
    }
    Ok(())
}
