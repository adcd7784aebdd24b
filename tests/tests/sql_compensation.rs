//! Compensation: what a task did is undone, in reverse order, before it ends otherwise than well.

use serde_json::{Value, json};
use tasker_tests::Scenario;
use tasker_tests::scenario::{done, failed, key, names};

const ORDER: &str = "
name: booking
version: 1.0.0
steps:
  - {name: flight, handler: {callable: t.flight}, compensate: {callable: t.cancel_flight, retry: {max_attempts: 2, backoff: none}}}
  - {name: hotel, handler: {callable: t.hotel}, dependencies: [flight], compensate: {callable: t.cancel_hotel}}
  - {name: notice, handler: {callable: t.notice}, dependencies: [hotel]}
  - {name: pay, handler: {callable: t.pay}, dependencies: [notice], retry: {max_attempts: 1}}
";

/// A task whose steps before `pay` are done, and its claimed last step.
async fn to_the_payment() -> anyhow::Result<(Scenario, String, Value)> {
    let mut scenario = Scenario::new().await?;
    scenario.register(ORDER).await?;
    let task = scenario.create("'booking'").await?;
    for number in 1..=3 {
        scenario.clock(number * 1000).await?;
        let step = scenario.claim_one().await?;
        let result = json!({"of": step["step_name"]});
        scenario.complete(&step, result).await?;
    }
    let pay = scenario.claim_one().await?;
    Ok((scenario, task, pay))
}

/// Completes what there is to claim until nothing is; gives the names in the order in which they ran.
async fn drain(scenario: &mut Scenario) -> anyhow::Result<Vec<String>> {
    let mut ran = Vec::new();
    while let [step, ..] = &scenario.claim("w", 1).await?[..] {
        scenario.complete(step, json!(null)).await?;
        scenario.verify().await?;
        ran.push(step["step_name"].as_str().unwrap_or_default().to_owned());
    }
    Ok(ran)
}

#[tokio::test]
async fn a_failed_task_undoes_what_it_did_in_reverse_order_before_it_ends() -> anyhow::Result<()> {
    let (mut scenario, task, pay) = to_the_payment().await?;
    scenario.fail(&pay, json!({"message": "no money"})).await?;
    scenario.verify().await?;
    assert_eq!(scenario.task_state(&task).await?, "steps_in_process");
    let undo = scenario.claim_one().await?;
    assert_eq!(undo["step_name"], "hotel_compensation");
    assert_eq!(undo["handler"]["callable"], "t.cancel_hotel");
    assert_eq!(undo["inputs"]["result"], json!({"of": "hotel"}));
    let order = scenario
        .rows(&format!(
            "select ordinal, name, undoes_name, state from tasker.list_compensations('{task}')"
        ))
        .await?;
    assert_eq!(
        order,
        [
            json!({"ordinal": 1, "name": "hotel_compensation", "undoes_name": "hotel", "state": "in_progress"}),
            json!({"ordinal": 2, "name": "flight_compensation", "undoes_name": "flight", "state": "pending"}),
        ]
    );
    let explained = scenario
        .rows(&format!("select step_name, reason from tasker.explain_task('{task}') where step_name like '%compensation'"))
        .await?;
    assert_eq!(
        explained,
        [
            json!({"step_name": "flight_compensation", "reason": "compensation"}),
            json!({"step_name": "hotel_compensation", "reason": "running"}),
        ]
    );
    let next = scenario
        .finish("w", json!([done(&undo, json!(1))]), 1)
        .await?;
    assert_eq!(next.names(), ["flight_compensation"]);
    scenario.complete(&next.claimed[0], json!(1)).await?;
    scenario.verify().await?;
    let ended = scenario
        .row(&format!(
            "select state, error ->> 'step_name' as failed from tasker.get_task('{task}')"
        ))
        .await?;
    assert_eq!(ended, json!({"state": "error", "failed": "pay"}));
    let path = scenario.path("task_history", &task).await?;
    assert!(path.contains("-compensate-> enqueuing_steps"), "{path}");
    let graph = scenario
        .row(&format!("select dependencies, dependents from tasker.task_graph('{task}') where name = 'flight_compensation'"))
        .await?;
    assert_eq!(
        graph,
        json!({"dependencies": ["hotel_compensation"], "dependents": []})
    );
    Ok(())
}

#[tokio::test]
async fn a_compensation_that_fails_is_tried_again_and_its_repair_goes_on() -> anyhow::Result<()> {
    let (mut scenario, task, pay) = to_the_payment().await?;
    scenario.fail(&pay, json!({"message": "no money"})).await?;
    let hotel = scenario.claim_one().await?;
    scenario.complete(&hotel, json!(1)).await?;
    for attempt in 1..=2 {
        let flight = scenario.claim_one().await?;
        assert_eq!(flight["attempt"], attempt);
        scenario
            .fail(&flight, json!({"message": "airline is closed"}))
            .await?;
        scenario.verify().await?;
    }
    assert_eq!(scenario.task_state(&task).await?, "error");
    let flight: String = scenario
        .value(&format!(
            "select step_uuid::text from tasker.list_compensations('{task}') where state = 'error'"
        ))
        .await?;
    let refused = scenario
        .refused(&format!("select tasker.reset_step('{}')", key(&pay)))
        .await?;
    assert_eq!(refused.code, "TK010");
    scenario
        .run(&format!("select tasker.reset_step('{flight}')"))
        .await?;
    assert_eq!(drain(&mut scenario).await?, ["flight_compensation"]);
    assert_eq!(scenario.task_state(&task).await?, "error");
    Ok(())
}

#[tokio::test]
async fn a_cancellation_undoes_only_when_asked_to() -> anyhow::Result<()> {
    let (mut scenario, task, _) = to_the_payment().await?;
    scenario
        .run(&format!(
            "select tasker.cancel_task('{task}', 'changed my mind', true)"
        ))
        .await?;
    scenario.verify().await?;
    assert_eq!(scenario.task_state(&task).await?, "steps_in_process");
    assert_eq!(
        drain(&mut scenario).await?,
        ["hotel_compensation", "flight_compensation"]
    );
    assert_eq!(scenario.task_state(&task).await?, "cancelled");
    let (mut scenario, task, _) = to_the_payment().await?;
    scenario
        .run(&format!("select tasker.cancel_task('{task}')"))
        .await?;
    assert_eq!(scenario.task_state(&task).await?, "cancelled");
    assert!(scenario.claim("w", 10).await?.is_empty());
    scenario.verify().await
}

#[tokio::test]
async fn a_cancellation_whose_compensation_fails_waits_for_an_operator() -> anyhow::Result<()> {
    let (mut scenario, task, _) = to_the_payment().await?;
    scenario
        .run(&format!("select tasker.cancel_task('{task}', null, true)"))
        .await?;
    let hotel = scenario.claim_one().await?;
    let error = json!({"message": "no", "retryable": false});
    scenario
        .finish("w", json!([failed(&hotel, error)]), 0)
        .await?;
    scenario.verify().await?;
    assert_eq!(scenario.task_state(&task).await?, "blocked_by_failures");
    scenario
        .run(&format!("select tasker.resolve_step('{}')", key(&hotel)))
        .await?;
    assert_eq!(drain(&mut scenario).await?, ["flight_compensation"]);
    assert_eq!(scenario.task_state(&task).await?, "cancelled");
    Ok(())
}

#[tokio::test]
async fn a_rerun_forgets_that_it_was_undone_and_undoes_anew() -> anyhow::Result<()> {
    let (mut scenario, task, pay) = to_the_payment().await?;
    scenario.fail(&pay, json!({"message": "no money"})).await?;
    drain(&mut scenario).await?;
    scenario
        .run(&format!("select tasker.rerun_task('{task}')"))
        .await?;
    scenario.verify().await?;
    let listed = scenario
        .rows(&format!("select name from tasker.list_steps('{task}')"))
        .await?;
    assert_eq!(listed.len(), 4);
    for _ in 1..=3 {
        let step = scenario.claim_one().await?;
        scenario.complete(&step, json!(2)).await?;
    }
    let pay = scenario.claim_one().await?;
    scenario
        .fail(&pay, json!({"message": "still no money"}))
        .await?;
    scenario.verify().await?;
    assert_eq!(
        drain(&mut scenario).await?,
        ["hotel_compensation", "flight_compensation"]
    );
    assert_eq!(scenario.task_state(&task).await?, "error");
    Ok(())
}

#[tokio::test]
async fn a_task_without_anything_to_undo_ends_at_once() -> anyhow::Result<()> {
    let mut scenario = Scenario::new().await?;
    scenario.register(ORDER).await?;
    let task = scenario.create("'booking'").await?;
    let flight = scenario.claim_one().await?;
    scenario
        .fail(&flight, json!({"message": "no", "retryable": false}))
        .await?;
    scenario.verify().await?;
    assert_eq!(scenario.task_state(&task).await?, "error");
    let task = scenario.create("'booking'").await?;
    scenario
        .run(&format!("select tasker.cancel_task('{task}', null, true)"))
        .await?;
    assert_eq!(scenario.task_state(&task).await?, "cancelled");
    Ok(())
}

#[tokio::test]
async fn a_task_over_its_time_undoes_what_it_did_and_is_not_timed_out_again() -> anyhow::Result<()>
{
    let mut scenario = Scenario::new().await?;
    scenario
        .register(&ORDER.replace("steps:", "lifecycle: {max_duration_seconds: 60}\nsteps:"))
        .await?;
    let task = scenario.create("'booking'").await?;
    let flight = scenario.claim_one().await?;
    scenario.complete(&flight, json!(1)).await?;
    scenario.clock(61_000).await?;
    scenario.run("select tasker.run_maintenance()").await?;
    scenario.verify().await?;
    assert_eq!(scenario.task_state(&task).await?, "steps_in_process");
    scenario.clock(200_000).await?;
    scenario.run("select tasker.run_maintenance()").await?;
    assert_eq!(drain(&mut scenario).await?, ["flight_compensation"]);
    let ended = scenario
        .row(&format!(
            "select state, error ->> 'type' as why from tasker.get_task('{task}')"
        ))
        .await?;
    assert_eq!(ended, json!({"state": "error", "why": "staleness_timeout"}));
    Ok(())
}

#[tokio::test]
async fn each_instance_is_undone_by_itself() -> anyhow::Result<()> {
    let mut scenario = Scenario::new().await?;
    scenario
        .register(
            "
name: many
version: 1.0.0
steps:
  - {name: list, handler: {callable: t.list}}
  - {name: book, type: map, over: list, handler: {callable: t.book}, dependencies: [list], retry: {max_attempts: 1}, compensate: {callable: t.unbook}}
",
        )
        .await?;
    let task = scenario.create("'many'").await?;
    let list = scenario.claim_one().await?;
    scenario.complete(&list, json!(["a", "b", "c"])).await?;
    let claimed = scenario.claim("w", 3).await?;
    scenario.clock(1000).await?;
    scenario.complete(&claimed[2], json!("C")).await?;
    scenario.clock(2000).await?;
    scenario.complete(&claimed[0], json!("A")).await?;
    scenario.fail(&claimed[1], json!({"message": "no"})).await?;
    scenario.verify().await?;
    let first = scenario.claim("w", 5).await?;
    assert_eq!(names(&first), ["book_compensation_000001"]);
    assert_eq!(
        first[0]["inputs"]["inputs"],
        json!({"item": "a", "index": 0, "total": 3})
    );
    scenario.complete(&first[0], json!(1)).await?;
    assert_eq!(drain(&mut scenario).await?, ["book_compensation_000003"]);
    assert_eq!(scenario.task_state(&task).await?, "error");
    Ok(())
}
