//! Operators at tasks that are being undone, or have been: asking twice, settling compensations by hand and before their turn, running tasks anew.

use serde_json::json;
use tasker_tests::Scenario;
use tasker_tests::scenario::failed;

const TRIP: &str = "
name: trip
version: 1.0.0
steps:
  - {name: flight, handler: {callable: t.flight}, compensate: {callable: t.undo}}
  - {name: hotel, handler: {callable: t.hotel}, dependencies: [flight], compensate: {callable: t.undo}}
  - {name: car, handler: {callable: t.car}, dependencies: [hotel], compensate: {callable: t.undo}}
  - {name: pay, handler: {callable: t.pay}, dependencies: [car]}
";

/// A task of which all is done but the payment.
async fn booked() -> anyhow::Result<(Scenario, String)> {
    let mut sql = Scenario::new().await?;
    sql.register(TRIP).await?;
    let task = sql.create("'trip'").await?;
    for second in 1..=3 {
        sql.clock(second * 1000).await?;
        let step = sql.claim_one().await?;
        sql.complete(&step, json!(null)).await?;
    }
    Ok((sql, task))
}

/// The same, and the payment has failed.
async fn failing() -> anyhow::Result<(Scenario, String)> {
    let (mut sql, task) = booked().await?;
    fail_next(&mut sql).await?;
    Ok((sql, task))
}

async fn fail_next(sql: &mut Scenario) -> anyhow::Result<()> {
    let step = sql.claim_one().await?;
    let error = json!({"message": "no", "retryable": false});
    sql.finish("w", json!([failed(&step, error)]), 0).await?;
    sql.verify().await
}

/// Claims the one step there is, says its name, and completes it.
async fn do_next(sql: &mut Scenario) -> anyhow::Result<String> {
    let step = sql.claim_one().await?;
    sql.complete(&step, json!(null)).await?;
    sql.verify().await?;
    Ok(step["step_name"].as_str().unwrap_or_default().to_owned())
}

async fn compensation(sql: &mut Scenario, task: &str, name: &str) -> anyhow::Result<String> {
    sql.value(&format!(
        "select step_uuid::text from tasker.list_compensations('{task}') where name = '{name}_compensation'"
    ))
    .await
}

#[tokio::test]
async fn a_compensation_settled_before_its_turn_is_passed_over_when_that_comes()
-> anyhow::Result<()> {
    let (mut sql, task) = failing().await?;
    let hotel = compensation(&mut sql, &task, "hotel").await?;
    sql.run(&format!("select tasker.resolve_step('{hotel}')"))
        .await?;
    sql.verify().await?;
    assert_eq!(do_next(&mut sql).await?, "car_compensation");
    assert_eq!(do_next(&mut sql).await?, "flight_compensation");
    assert_eq!(sql.task_state(&task).await?, "error");
    Ok(())
}

#[tokio::test]
async fn asked_again_to_undo_a_task_goes_on_being_undone() -> anyhow::Result<()> {
    let (mut sql, task) = booked().await?;
    let cancel = format!("select tasker.cancel_task('{task}', null, true)");
    assert!(sql.value::<bool>(&cancel).await?);
    assert!(!sql.value::<bool>(&cancel).await?);
    sql.verify().await?;
    for name in ["car", "hotel", "flight"] {
        assert_eq!(do_next(&mut sql).await?, format!("{name}_compensation"));
    }
    assert_eq!(sql.task_state(&task).await?, "cancelled");
    Ok(())
}

#[tokio::test]
async fn a_failing_task_that_is_to_be_cancelled_goes_on_being_undone_and_is_cancelled()
-> anyhow::Result<()> {
    let (mut sql, task) = failing().await?;
    let cancel = format!("select tasker.cancel_task('{task}', null, true)");
    assert!(sql.value::<bool>(&cancel).await?);
    assert!(!sql.value::<bool>(&cancel).await?);
    for name in ["car", "hotel", "flight"] {
        assert_eq!(do_next(&mut sql).await?, format!("{name}_compensation"));
    }
    assert_eq!(sql.task_state(&task).await?, "cancelled");
    Ok(())
}

#[tokio::test]
async fn cancelled_while_it_is_undone_a_task_gives_the_rest_up() -> anyhow::Result<()> {
    let (mut sql, task) = failing().await?;
    sql.run(&format!("select tasker.cancel_task('{task}')"))
        .await?;
    sql.verify().await?;
    assert_eq!(sql.task_state(&task).await?, "cancelled");
    assert!(sql.claim("w", 5).await?.is_empty());
    Ok(())
}

#[tokio::test]
async fn a_rerun_leaves_out_nothing_that_is_undone() -> anyhow::Result<()> {
    let (mut sql, task) = failing().await?;
    do_next(&mut sql).await?;
    fail_next(&mut sql).await?;
    assert_eq!(sql.task_state(&task).await?, "error");
    // The car is undone, the hotel perhaps, the flight is not.
    for step in ["pay", "car"] {
        let refused = sql
            .refused(&format!("select tasker.rerun_task('{task}', '{step}')"))
            .await?;
        assert_eq!(refused.code, "TK010", "{refused:?}");
    }
    sql.run(&format!("select tasker.rerun_task('{task}', 'hotel')"))
        .await?;
    sql.verify().await?;
    for name in ["hotel", "car"] {
        assert_eq!(do_next(&mut sql).await?, name);
    }
    fail_next(&mut sql).await?;
    for name in ["car", "hotel", "flight"] {
        assert_eq!(do_next(&mut sql).await?, format!("{name}_compensation"));
    }
    assert_eq!(sql.task_state(&task).await?, "error");
    Ok(())
}

#[tokio::test]
async fn what_undid_a_step_before_a_rerun_is_no_step_until_it_is_made_anew() -> anyhow::Result<()> {
    let (mut sql, task) = failing().await?;
    let flight = compensation(&mut sql, &task, "flight").await?;
    fail_next(&mut sql).await?;
    sql.run(&format!("select tasker.rerun_task('{task}')"))
        .await?;
    // The flight is settled without a result this time: there is nothing to undo.
    sql.run(&format!(
        "select tasker.resolve_step(step_uuid) from tasker.list_steps('{task}') where name = 'flight'"
    ))
    .await?;
    assert_eq!(do_next(&mut sql).await?, "hotel");
    fail_next(&mut sql).await?;
    let listed: Vec<String> = sql
        .value(&format!(
            "select array_agg(name) from tasker.list_compensations('{task}')"
        ))
        .await?;
    assert_eq!(listed, ["hotel_compensation"]);
    let refused = sql
        .refused(&format!("select tasker.resolve_step('{flight}')"))
        .await?;
    assert_eq!(refused.code, "TK002");
    assert_eq!(do_next(&mut sql).await?, "hotel_compensation");
    assert_eq!(sql.task_state(&task).await?, "error");
    Ok(())
}

#[tokio::test]
async fn a_complete_task_that_fails_at_once_when_it_is_rerun_undoes_what_it_did()
-> anyhow::Result<()> {
    let mut sql = Scenario::new().await?;
    sql.register(
        "{name: late, version: 1.0.0, steps: [
          {name: book, handler: {callable: t.book}, compensate: {callable: t.undo}},
          {name: wait, type: timer, dependencies: [book], until: book.at}]}",
    )
    .await?;
    let task = sql.create("'late'").await?;
    assert_eq!(do_next(&mut sql).await?, "book");
    assert_eq!(do_next(&mut sql).await?, "book_compensation");
    sql.run(&format!("select tasker.rerun_task('{task}')"))
        .await?;
    let book = sql.claim_one().await?;
    sql.complete(&book, json!({"at": 0})).await?;
    sql.clock(10_000).await?;
    sql.run("select tasker.run_maintenance()").await?;
    assert_eq!(sql.task_state(&task).await?, "complete");
    sql.run(&format!(
        "select tasker.rerun_task('{task}', 'book', false)"
    ))
    .await?;
    let book = sql.claim_one().await?;
    sql.complete(&book, json!({"at": "never"})).await?;
    assert_eq!(sql.task_state(&task).await?, "complete");
    sql.run(&format!("select tasker.rerun_task('{task}', 'wait')"))
        .await?;
    sql.verify().await?;
    assert_eq!(sql.task_state(&task).await?, "steps_in_process");
    assert_eq!(do_next(&mut sql).await?, "book_compensation");
    assert_eq!(sql.task_state(&task).await?, "error");
    Ok(())
}

#[tokio::test]
async fn what_a_child_task_came_to_is_undone() -> anyhow::Result<()> {
    let mut sql = Scenario::new().await?;
    sql.register(
        "{name: booking, version: 1.0.0, steps: [{name: book, handler: {callable: t.book}}]}",
    )
    .await?;
    sql.register(
        "{name: journey, version: 1.0.0, steps: [
          {name: flight, type: task, task: {template: booking}, compensate: {callable: t.undo}},
          {name: pay, handler: {callable: t.pay}, dependencies: [flight]}]}",
    )
    .await?;
    let task = sql.create("'journey'").await?;
    sql.run("select tasker.run_maintenance()").await?;
    assert_eq!(do_next(&mut sql).await?, "book");
    sql.run("select tasker.run_maintenance()").await?;
    fail_next(&mut sql).await?;
    assert_eq!(do_next(&mut sql).await?, "flight_compensation");
    assert_eq!(sql.task_state(&task).await?, "error");
    Ok(())
}

#[tokio::test]
async fn a_paused_task_is_undone_when_it_is_resumed() -> anyhow::Result<()> {
    let (mut sql, task) = booked().await?;
    sql.run(&format!("select tasker.pause_task('{task}')"))
        .await?;
    sql.clock(10_000).await?;
    sql.run(&format!("select tasker.cancel_task('{task}', null, true)"))
        .await?;
    sql.verify().await?;
    assert!(sql.claim("w", 5).await?.is_empty());
    sql.run(&format!("select tasker.resume_task('{task}')"))
        .await?;
    for name in ["car", "hotel", "flight"] {
        assert_eq!(do_next(&mut sql).await?, format!("{name}_compensation"));
    }
    assert_eq!(sql.task_state(&task).await?, "cancelled");
    Ok(())
}
