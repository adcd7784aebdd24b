//! Instances whose `failure_strategy` is `isolate`: a dead letter for each that failed for good, beside that of their task. And how much a dead letter's snapshot holds of very many steps.

use serde_json::{Value, json};
use tasker_tests::Scenario;
use tasker_tests::scenario::{done, failed, key};

const MAP: &str = "
name: thumbs
version: 1.0.0
steps:
  - {name: list, handler: {callable: t.list}}
  - {name: resize, type: map, over: list.images, failure_strategy: isolate, handler: {callable: t.resize}, dependencies: [list], timeout_seconds: 100,
     retry: {max_attempts: 1}, result_schema: {type: integer}}
  - {name: publish, handler: {callable: t.publish}, dependencies: [resize], retry: {max_attempts: 1}}
";

/// A task with so many instances, none of them claimed.
async fn begun(template: &str, images: usize) -> anyhow::Result<(Scenario, String)> {
    let mut sql = Scenario::new().await?;
    sql.register(template).await?;
    let task = sql.create("'thumbs'").await?;
    let list = sql.claim_one().await?;
    sql.complete(&list, json!({"images": vec![0; images]}))
        .await?;
    Ok((sql, task))
}

/// Claims all instances and lets those of some positions fail.
async fn with_failed(
    sql: &mut Scenario,
    positions: &[usize],
    others: bool,
) -> anyhow::Result<Vec<Value>> {
    let claimed = sql.claim("w", 100).await?;
    let outcomes: Vec<Value> = claimed
        .iter()
        .enumerate()
        .filter_map(|(position, step)| {
            if positions.contains(&position) {
                Some(failed(step, json!({"message": format!("no {position}")})))
            } else {
                others.then(|| done(step, json!(1)))
            }
        })
        .collect();
    sql.finish("w", json!(outcomes), 0).await?;
    sql.verify().await?;
    Ok(claimed)
}

/// The open dead letters: the name of each one's step, null for a task's own.
async fn open(sql: &mut Scenario) -> anyhow::Result<Value> {
    sql.value("select coalesce(jsonb_agg(step_name order by step_name nulls first), '[]') from tasker.list_dead_letters(resolution => 'pending')")
        .await
}

async fn letter_of(sql: &mut Scenario, step: &Value) -> anyhow::Result<String> {
    sql.value(&format!(
        "select dead_letter_uuid::text from tasker.list_dead_letters() where step_uuid = '{}' limit 1",
        key(step)
    ))
    .await
}

#[tokio::test]
async fn each_failed_instance_has_a_dead_letter_and_its_task_none() -> anyhow::Result<()> {
    let (mut sql, task) = begun(MAP, 4).await?;
    let claimed = with_failed(&mut sql, &[1, 3], true).await?;
    let publish = sql.claim_one().await?;
    sql.complete(&publish, json!(1)).await?;
    assert_eq!(sql.task_state(&task).await?, "complete");
    assert_eq!(
        open(&mut sql).await?,
        json!(["resize_000002", "resize_000004"])
    );
    let letter = letter_of(&mut sql, &claimed[1]).await?;
    let row = sql
        .row(&format!("select * from tasker.get_dead_letter('{letter}')"))
        .await?;
    for (name, value) in [
        ("task_uuid", json!(task)),
        ("step_uuid", claimed[1]["step_uuid"].clone()),
        ("step_name", json!("resize_000002")),
        ("task_state", json!("complete")),
        ("reason", json!("max_retries_exceeded")),
        ("resolution", json!("pending")),
        ("opened_by", json!("w")),
    ] {
        assert_eq!(row[name], value, "{name}");
    }
    assert_eq!(row["error"]["message"], "no 1");
    let of_task = format!("select * from tasker.get_dead_letter(task_uuid => '{task}')");
    assert_eq!(sql.refused(&of_task).await?.code, "TK004");
    let stats = sql
        .row("select reason, dead_letters from tasker.dead_letter_stats()")
        .await?;
    assert_eq!(
        stats,
        json!({"reason": "max_retries_exceeded", "dead_letters": 2})
    );
    Ok(())
}

#[tokio::test]
async fn the_snapshot_of_an_instance_holds_its_task_and_nothing_of_the_others() -> anyhow::Result<()>
{
    let (mut sql, task) = begun(MAP, 3).await?;
    let claimed = with_failed(&mut sql, &[2], true).await?;
    let letter = letter_of(&mut sql, &claimed[2]).await?;
    let snapshot: Value = sql
        .value(&format!(
            "select snapshot from tasker.get_dead_letter('{letter}')"
        ))
        .await?;
    assert_eq!(snapshot["task"]["task_uuid"], json!(task));
    let steps = snapshot["steps"].as_array().map_or(0, Vec::len);
    assert_eq!(steps, 1);
    assert_eq!(snapshot["steps"][0]["step_uuid"], claimed[2]["step_uuid"]);
    assert_eq!(snapshot["steps"][0]["state"], "error");
    let events = snapshot["history"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|row| row["transitions"][0]["event"].clone())
        .collect::<Vec<_>>();
    assert_eq!(
        events,
        ["enqueue", "start", "enqueue_as_error_for_orchestration"]
    );
    Ok(())
}

#[tokio::test]
async fn the_strategy_decides_whether_there_is_one() -> anyhow::Result<()> {
    for (strategy, letters) in [
        ("continue_on_failure", json!([])),
        ("fail_fast", json!([null])),
    ] {
        let (mut sql, _) = begun(&MAP.replace("isolate", strategy), 2).await?;
        with_failed(&mut sql, &[0], true).await?;
        assert_eq!(open(&mut sql).await?, letters, "{strategy}");
    }
    Ok(())
}

#[tokio::test]
async fn it_is_opened_whatever_the_instance_failed_of() -> anyhow::Result<()> {
    let deferred = MAP.replace("steps:", "lifecycle: {evaluation: deferred}\nsteps:");
    let maintain = "select tasker.run_maintenance()".to_owned();
    for (how, reason) in [
        ("result", "permanent_failure"),
        ("maintenance", "worker_unavailable"),
        ("extension", "max_retries_exceeded"),
        ("deferred", "max_retries_exceeded"),
    ] {
        let template = if how == "deferred" { &deferred } else { MAP };
        let mut sql = Scenario::new().await?;
        sql.register(template).await?;
        let task = sql.create("'thumbs'").await?;
        let list = sql.claim_one().await?;
        sql.complete(&list, json!({"images": [1]})).await?;
        sql.run(&maintain).await?;
        let step = sql.claim_one().await?;
        match how {
            "result" => sql.complete(&step, json!("no integer")).await?,
            "maintenance" => {
                sql.clock(90_000).await?;
                sql.run(&maintain).await?;
            }
            "extension" => {
                let held = json!([{"step_uuid": step["step_uuid"], "attempt": 1}]);
                sql.clock(100_000).await?;
                sql.run(&format!(
                    "select tasker.extend_leases('w', '{held}', '30 seconds')"
                ))
                .await?;
            }
            _ => {
                sql.fail(&step, json!({"message": "no"})).await?;
                assert_eq!(open(&mut sql).await?, json!([]), "it rests");
                sql.run(&maintain).await?;
            }
        }
        sql.verify().await?;
        let letters = sql
            .rows("select task_uuid, step_name, reason from tasker.list_dead_letters()")
            .await?;
        assert_eq!(
            letters,
            [json!({"task_uuid": task, "step_name": "resize_000001", "reason": reason})],
            "{how}"
        );
    }
    Ok(())
}

#[tokio::test]
async fn a_retry_opens_none() -> anyhow::Result<()> {
    let template = MAP.replace(
        "retry: {max_attempts: 1}, result",
        "retry: {max_attempts: 2}, result",
    );
    let (mut sql, _) = begun(&template, 2).await?;
    with_failed(&mut sql, &[0], false).await?;
    assert_eq!(open(&mut sql).await?, json!([]));
    Ok(())
}

#[tokio::test]
async fn what_mends_an_instance_closes_its_own() -> anyhow::Result<()> {
    let (mut sql, task) = begun(MAP, 5).await?;
    let claimed = with_failed(&mut sql, &[0, 1, 2], false).await?;
    for (call, position) in [
        ("reset_step('STEP', 'again')", 0),
        ("complete_step_manually('STEP', '1', 'by hand')", 1),
        ("resolve_step('STEP')", 2),
    ] {
        let step = &claimed[position];
        let call = call.replace("STEP", key(step));
        sql.run(&format!("select tasker.{call}")).await?;
        sql.verify().await?;
        let left: Vec<String> = (position + 2..=3)
            .map(|number| format!("resize_00000{number}"))
            .collect();
        assert_eq!(open(&mut sql).await?, json!(left), "after {call}");
        let letter = letter_of(&mut sql, step).await?;
        let resolution: String = sql
            .value(&format!(
                "select resolution from tasker.get_dead_letter('{letter}')"
            ))
            .await?;
        assert_eq!(resolution, "manually_resolved");
    }
    // It failed once more: another investigation.
    let again = sql.claim_one().await?;
    assert_eq!(again["step_name"], "resize_000001");
    sql.fail(&again, json!({"message": "no again"})).await?;
    assert_eq!(open(&mut sql).await?, json!(["resize_000001"]));
    let count: i64 = sql
        .value(&format!(
            "select count(*) from tasker.list_dead_letters() where task_uuid = '{task}'"
        ))
        .await?;
    assert_eq!(count, 4);
    Ok(())
}

#[tokio::test]
async fn a_rerun_closes_all() -> anyhow::Result<()> {
    let (mut sql, task) = begun(MAP, 3).await?;
    with_failed(&mut sql, &[0, 2], true).await?;
    let publish = sql.claim_one().await?;
    sql.fail(&publish, json!({"message": "no"})).await?;
    let all = json!([null, "resize_000001", "resize_000003"]);
    assert_eq!(open(&mut sql).await?, all);
    sql.run(&format!("select tasker.rerun_task('{task}')"))
        .await?;
    assert_eq!(open(&mut sql).await?, json!([]));
    sql.verify().await
}

#[tokio::test]
async fn settling_the_step_that_stands_for_them_mends_no_instance() -> anyhow::Result<()> {
    let (mut sql, task) = begun(MAP, 2).await?;
    with_failed(&mut sql, &[0], false).await?;
    let map: String = sql
        .value(&format!(
            "select step_uuid::text from tasker.list_steps('{task}') where name = 'resize'"
        ))
        .await?;
    sql.run(&format!("select tasker.resolve_step('{map}')"))
        .await?;
    assert_eq!(open(&mut sql).await?, json!(["resize_000001"]));
    sql.verify().await
}

#[tokio::test]
async fn resolving_one_settles_the_instance_of_a_task_that_goes_on() -> anyhow::Result<()> {
    for (resolution, state) in [
        ("manually_resolved", "resolved_manually"),
        ("permanently_failed", "error"),
        ("cancelled", "error"),
    ] {
        let (mut sql, task) = begun(MAP, 2).await?;
        let claimed = with_failed(&mut sql, &[0], false).await?;
        let letter = letter_of(&mut sql, &claimed[0]).await?;
        let row = sql
            .row(&format!(
                "select * from tasker.resolve_dead_letter('{letter}', '{resolution}', 'seen to')"
            ))
            .await?;
        assert_eq!(
            (&row["resolution"], &row["task_state"], &row["note"]),
            (
                &json!(resolution),
                &json!("steps_in_process"),
                &json!("seen to")
            )
        );
        let states = sql.step_states(&task).await?;
        assert_eq!(states["resize_000001"], state, "{resolution}");
        assert_eq!(states["resize_000002"], "in_progress", "{resolution}");
        sql.verify().await?;
        sql.complete(&claimed[1], json!(1)).await?;
        assert_eq!(sql.claim_one().await?["step_name"], "publish");
    }
    Ok(())
}

#[tokio::test]
async fn resolving_one_leaves_a_task_alone_that_has_ended() -> anyhow::Result<()> {
    for (ends, state) in [("complete", "complete"), ("fail", "error")] {
        let (mut sql, task) = begun(MAP, 2).await?;
        let claimed = with_failed(&mut sql, &[0], true).await?;
        let publish = sql.claim_one().await?;
        let outcome = match ends {
            "complete" => done(&publish, json!(1)),
            _ => failed(&publish, json!({"message": "no"})),
        };
        sql.finish("w", json!([outcome]), 0).await?;
        let letter = letter_of(&mut sql, &claimed[0]).await?;
        let row = sql
            .row(&format!(
                "select * from tasker.resolve_dead_letter('{letter}', 'manually_resolved')"
            ))
            .await?;
        assert_eq!(row["task_state"], state);
        assert_eq!(
            sql.step_states(&task).await?["resize_000001"],
            "error",
            "{state}"
        );
        sql.verify().await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_task_and_its_instances_have_one_each() -> anyhow::Result<()> {
    let (mut sql, task) = begun(MAP, 3).await?;
    let claimed = with_failed(&mut sql, &[0, 1], false).await?;
    let by_hand: String = sql
        .value(&format!(
            "select tasker.open_dead_letter('{task}', 'odd')::text"
        ))
        .await?;
    let own = format!("select * from tasker.get_dead_letter(task_uuid => '{task}')");
    let row = sql.row(&own).await?;
    assert_eq!(
        (&row["dead_letter_uuid"], &row["step_uuid"]),
        (&json!(by_hand), &Value::Null)
    );
    let explained = sql
        .rows(&format!(
            "select step_name, dead_letter_uuid from tasker.explain_task('{task}') where reason = 'failed'"
        ))
        .await?;
    let mut expected = Vec::new();
    for step in &claimed[..2] {
        let letter = letter_of(&mut sql, step).await?;
        expected.push(json!({"step_name": step["step_name"], "dead_letter_uuid": letter}));
    }
    assert_eq!(explained, expected);
    // The task's own is closed by itself.
    sql.run(&format!(
        "select tasker.resolve_dead_letter('{by_hand}', 'manually_resolved')"
    ))
    .await?;
    assert_eq!(
        open(&mut sql).await?,
        json!(["resize_000001", "resize_000002"])
    );
    assert_eq!(sql.row(&own).await?["dead_letter_uuid"], json!(by_hand));
    sql.run(&format!("select tasker.cancel_task('{task}', 'enough')"))
        .await?;
    let resolutions: Value = sql
        .value("select jsonb_agg(resolution order by step_name nulls first) from tasker.list_dead_letters()")
        .await?;
    assert_eq!(
        resolutions,
        json!(["manually_resolved", "cancelled", "cancelled"])
    );
    sql.verify().await
}

#[tokio::test]
async fn a_task_fails_of_what_had_to_succeed() -> anyhow::Result<()> {
    let (mut sql, task) = begun(MAP, 2).await?;
    with_failed(&mut sql, &[0], true).await?;
    sql.clock(1000).await?;
    let publish = sql.claim_one().await?;
    sql.fail(&publish, json!({"message": "no paper", "retryable": false}))
        .await?;
    assert_eq!(
        sql.row(&format!(
            "select reason, error ->> 'message' as message, step_uuid from tasker.get_dead_letter(task_uuid => '{task}')"
        ))
        .await?,
        json!({"reason": "permanent_failure", "message": "step publish failed: no paper", "step_uuid": null})
    );
    Ok(())
}

#[tokio::test]
async fn a_task_stays_while_one_of_its_instances_is_looked_into() -> anyhow::Result<()> {
    let (mut sql, task) = begun(MAP, 3).await?;
    let claimed = with_failed(&mut sql, &[0, 1], true).await?;
    let publish = sql.claim_one().await?;
    sql.complete(&publish, json!(1)).await?;
    sql.run("select tasker.create_task('thumbs')").await?;
    let list = sql.claim_one().await?;
    sql.complete(&list, json!({"images": []})).await?;
    let publish = sql.claim_one().await?;
    sql.complete(&publish, json!(1)).await?;
    let leave = "select tasker.run_maintenance()";
    let day = 24 * 60 * 60 * 1000;
    // The other task of the range leaves.
    sql.clock(40 * day).await?;
    for _ in 0..6 {
        sql.run(leave).await?;
    }
    let left: Value = sql
        .value("select jsonb_agg(task_uuid) from tasker.list_tasks()")
        .await?;
    assert_eq!(left, json!([task]));
    assert_eq!(
        open(&mut sql).await?,
        json!(["resize_000001", "resize_000002"])
    );
    for step in &claimed[..2] {
        let letter = letter_of(&mut sql, step).await?;
        sql.run(&format!(
            "select tasker.resolve_dead_letter('{letter}', 'permanently_failed')"
        ))
        .await?;
    }
    sql.clock(42 * day).await?;
    for _ in 0..6 {
        sql.run(leave).await?;
    }
    let left: i64 = sql
        .value("select count(*) from tasker.list_dead_letters()")
        .await?;
    assert_eq!(left, 0);
    Ok(())
}

#[tokio::test]
async fn a_snapshot_leaves_out_successful_instances_of_more_than_a_thousand_steps()
-> anyhow::Result<()> {
    let template = MAP.replace("failure_strategy: isolate, ", "");
    for (images, steps, left_out) in [(997, 1000, 0), (998, 4, 997)] {
        let (mut sql, task) = begun(&template, images).await?;
        let mut fails = true;
        loop {
            let claimed = sql.claim("w", 500).await?;
            if claimed.is_empty() {
                break;
            }
            let outcomes: Vec<Value> = claimed
                .iter()
                .map(|step| {
                    if std::mem::take(&mut fails) {
                        failed(step, json!({"message": "no"}))
                    } else {
                        done(step, json!(1))
                    }
                })
                .collect();
            sql.finish("w", json!(outcomes), 0).await?;
        }
        let row = sql
            .row(&format!(
                "select d.task_state, jsonb_array_length(d.snapshot -> 'steps') as steps, d.snapshot -> 'steps_left_out' as left_out,
                   (select jsonb_agg(s.step -> 'state') from (select s.step from jsonb_array_elements(d.snapshot -> 'steps') s(step) limit 4) s) as first
                 from tasker.get_dead_letter(task_uuid => '{task}') d"
            ))
            .await?;
        let first = match left_out {
            0 => json!(["complete", "pending", "pending", "error"]),
            _ => json!(["error", "pending", "pending", "complete"]),
        };
        assert_eq!(
            row,
            json!({"task_state": "error", "steps": steps, "left_out": left_out, "first": first})
        );
    }
    Ok(())
}

#[tokio::test]
async fn a_snapshot_holds_no_more_than_a_thousand_steps_whatever_their_states() -> anyhow::Result<()>
{
    let (mut sql, task) = begun(MAP, 1200).await?;
    with_failed(&mut sql, &[99], false).await?;
    let letter: String = sql
        .value(&format!(
            "select tasker.open_dead_letter('{task}', 'slow')::text"
        ))
        .await?;
    let row = sql
        .row(&format!(
            "select jsonb_array_length(d.snapshot -> 'steps') as steps, d.snapshot -> 'steps_left_out' as left_out, d.snapshot #> '{{steps,0,number}}' as first
             from tasker.get_dead_letter('{letter}') d"
        ))
        .await?;
    assert_eq!(row, json!({"steps": 1000, "left_out": 203, "first": 103}));
    Ok(())
}
