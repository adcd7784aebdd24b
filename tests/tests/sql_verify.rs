//! `verify()` sees each invariant broken: rows are tampered with as a superuser, behind the functions' back.

use serde_json::json;
use tasker_tests::Scenario;

const TEMPLATE: &str = "{name: chain, version: 1.0.0, steps: [{name: a, handler: {callable: t.a}, retry: {backoff: linear, backoff_base_ms: 1000}}, \
    {name: b, handler: {callable: t.b}, dependencies: [a]}]}";

/// Three tasks: `fresh` has not begun, `running` has its first step done and its second claimed, `ended` is complete.
async fn three_tasks() -> anyhow::Result<Scenario> {
    let mut sql = Scenario::new().await?;
    sql.register(TEMPLATE).await?;
    for reason in ["ended", "running"] {
        sql.create(&format!("'chain', reason => '{reason}'"))
            .await?;
        let a = sql.claim_one().await?;
        sql.complete(&a, json!(1)).await?;
        let b = sql.claim_one().await?;
        if reason == "ended" {
            sql.complete(&b, json!(1)).await?;
        }
    }
    sql.create("'chain', reason => 'fresh'").await?;
    // The steps with their task's reason and their name, for the statements below.
    sql.run(
        "create temporary view s as select t.reason, tasker._number_of(s.step_uuid) as number, s.step_uuid, t.task_uuid from tasker.steps s \
         join tasker.tasks t on t.task_uuid = tasker._task_of(s.step_uuid)",
    )
    .await?;
    sql.verify().await?;
    Ok(sql)
}

/// Tampers, and gives what is said; then all is as before.
async fn seen(sql: &mut Scenario, tampering: &str) -> anyhow::Result<Vec<String>> {
    sql.run(&format!("savepoint untouched; {tampering}"))
        .await?;
    let said = sql.violations().await?;
    sql.run("rollback to untouched").await?;
    Ok(said)
}

fn step(reason: &str, number: u32) -> String {
    format!("step_uuid = (select step_uuid from s where reason = '{reason}' and number = {number})")
}

async fn all_are_seen(tamperings: &[(u32, String)]) -> anyhow::Result<()> {
    let mut sql = three_tasks().await?;
    for (invariant, tampering) in tamperings {
        let said = seen(&mut sql, tampering).await?;
        assert!(
            said.iter()
                .any(|line| line.starts_with(&format!("{invariant}: "))),
            "{tampering}: {said:?}"
        );
    }
    sql.verify().await
}

#[tokio::test]
async fn a_wrong_counter_is_seen() -> anyhow::Result<()> {
    let mut tamperings = vec![
        (
            1,
            format!(
                "update tasker.steps set remaining_dependencies = 0 where {}",
                step("fresh", 2)
            ),
        ),
        (
            1,
            format!(
                "update tasker.steps set remaining_dependencies = 2 where {}",
                step("fresh", 2)
            ),
        ),
        (
            1,
            format!(
                "update tasker.steps set remaining_dependencies = 1 where {}",
                step("running", 2)
            ),
        ),
    ];
    for counter in ["running", "waiting_retry", "failed"] {
        tamperings.push((
            1,
            format!("update tasker.tasks set {counter} = {counter} + 1 where reason = 'running'"),
        ));
    }
    all_are_seen(&tamperings).await
}

#[tokio::test]
async fn a_step_that_runs_too_early_or_waits_for_nothing_is_seen() -> anyhow::Result<()> {
    all_are_seen(&[
        (
            2,
            format!(
                "update tasker.steps set state = 'enqueued' where {}",
                step("fresh", 2)
            ),
        ),
        (
            2,
            format!(
                "update tasker.steps set state = 'in_progress' where {}",
                step("fresh", 2)
            ),
        ),
        (
            2,
            format!(
                "update tasker.steps set state = 'pending' where {}",
                step("running", 2)
            ),
        ),
    ])
    .await
}

#[tokio::test]
async fn a_repeated_completion_or_attempt_is_seen() -> anyhow::Result<()> {
    let columns = "step_uuid, path, at, attempt, actor";
    all_are_seen(&[
        (3, format!("update tasker.steps set attempts_used = 4, attempt = 9 where {}", step("running", 2))),
        (3, format!("update tasker.steps set attempts_used = 2 where {}", step("running", 2))),
        (3, format!("insert into tasker.step_transitions ({columns}) select {columns} from tasker.step_transitions where path = 'rOC' and {}", step("ended", 2))),
        (3, format!("insert into tasker.step_transitions ({columns}) select {columns} from tasker.step_transitions where path like '%S' and {}", step("running", 2))),
    ])
    .await
}

#[tokio::test]
async fn a_missing_a_second_and_an_idle_message_are_seen() -> anyhow::Result<()> {
    let queue = "pgmq.q_worker_default_queue";
    let of = |reason: &str, number: u32| {
        format!(
            "(message ->> 'step_uuid')::uuid = (select step_uuid from s where reason = '{reason}' and number = {number})"
        )
    };
    all_are_seen(&[
        (4, format!("delete from {queue} where {}", of("fresh", 1))),
        (4, format!("delete from {queue} where {}", of("running", 2))),
        (4, format!("insert into {queue} (vt, message) select vt, message from {queue} where {}", of("fresh", 1))),
        (4, format!("update {queue} set message = jsonb_set(message, '{{step_uuid}}', to_jsonb((select step_uuid from s where reason = 'ended' and number = 1))) where {}", of("fresh", 1))),
        (4, format!("update {queue} set headers = '{{\"priority\": 5}}' where {}", of("fresh", 1))),
        (4, format!("update {queue} set message = jsonb_set(message, '{{priority}}', '5') where {}", of("fresh", 1))),
        (4, format!("update tasker.steps set msg_id = msg_id + 1000 where {}", step("fresh", 1))),
        (4, format!("update tasker.steps set msg_id = null where {}", step("fresh", 1))),
    ])
    .await
}

#[tokio::test]
async fn a_history_that_is_no_path_or_ends_elsewhere_is_seen() -> anyhow::Result<()> {
    all_are_seen(&[
        (
            5,
            format!(
                "delete from tasker.step_transitions where path like '%S' and {}",
                step("running", 2)
            ),
        ),
        (
            5,
            format!(
                "delete from tasker.step_transitions where path like 'p%' and {}",
                step("ended", 1)
            ),
        ),
        (
            5,
            format!(
                "update tasker.step_transitions set path = 'rOW' where path = 'rOC' and {}",
                step("ended", 1)
            ),
        ),
        (
            5,
            format!(
                "update tasker.step_transitions set path = 'rC' where path = 'rOC' and {}",
                step("ended", 1)
            ),
        ),
        (
            5,
            "delete from tasker.task_transitions where path = 'sAZ'".to_owned(),
        ),
        (5, "delete from tasker.task_transitions".to_owned()),
        (
            5,
            "update tasker.task_transitions set path = 'sSZ' where path = 'sAZ'".to_owned(),
        ),
        (
            5,
            "update tasker.tasks set state = 'error' where reason = 'ended'".to_owned(),
        ),
        (
            5,
            format!(
                "update tasker.steps set state = 'cancelled' where {}",
                step("ended", 2)
            ),
        ),
    ])
    .await
}

#[tokio::test]
async fn an_ended_task_with_live_steps_and_a_done_task_that_goes_on_are_seen() -> anyhow::Result<()>
{
    all_are_seen(&[
        (6, "update tasker.tasks set state = 'complete', finished_at = now() where reason = 'running'".to_owned()),
        (6, "update tasker.tasks set state = 'steps_in_process', finished_at = null where reason = 'ended'".to_owned()),
        (6, "update tasker.tasks set finished_at = null where reason = 'ended'".to_owned()),
        (6, "update tasker.tasks set finished_at = now() where reason = 'running'".to_owned()),
    ])
    .await
}

#[tokio::test]
async fn a_row_that_nothing_will_move_is_seen() -> anyhow::Result<()> {
    let mut tamperings = vec![
        (
            7,
            "update tasker.tasks set state = 'pending' where reason = 'fresh'".to_owned(),
        ),
        (
            7,
            "update tasker.tasks set state = 'waiting_for_retry' where reason = 'running'"
                .to_owned(),
        ),
        (
            7,
            "update tasker.tasks set state = 'waiting_for_dependencies' where reason = 'running'"
                .to_owned(),
        ),
        (
            7,
            format!(
                "update tasker.steps set state = 'pending' where {}",
                step("fresh", 1)
            ),
        ),
    ];
    for state in ["initializing", "enqueuing_steps", "evaluating_results"] {
        tamperings.push((
            7,
            format!("update tasker.tasks set state = '{state}' where reason = 'running'"),
        ));
    }
    all_are_seen(&tamperings).await
}

#[tokio::test]
async fn one_task_is_verified_alone() -> anyhow::Result<()> {
    let mut sql = three_tasks().await?;
    sql.run("update tasker.tasks set failed = 5 where reason = 'running'")
        .await?;
    for (reason, violations) in [("running", 1), ("fresh", 0), ("ended", 0)] {
        let found: i64 = sql
            .value(&format!("select count(*) from tasker.verify((select task_uuid from tasker.tasks where reason = '{reason}'))"))
            .await?;
        assert_eq!(found, violations, "{reason}");
    }
    Ok(())
}
