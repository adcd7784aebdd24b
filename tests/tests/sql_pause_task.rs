//! Pausing and resuming a task: running steps finish, all others wait with their message hidden, and nothing of it is lost.

use serde_json::{Value, json};
use tasker_tests::Scenario;
use tasker_tests::scenario::{done, given_back, key, names};

const DIAMOND: &str = "{name: diamond, version: 1.0.0, steps: [{name: a, handler: {callable: t.a}, retry: {backoff: linear, backoff_base_ms: 1000, max_attempts: 2, jitter: 0}}, \
    {name: b, handler: {callable: t.b}, dependencies: [a]}, {name: c, handler: {callable: t.c}, dependencies: [a]}, {name: d, handler: {callable: t.d}, dependencies: [b, c]}]}";

async fn with_task() -> anyhow::Result<(Scenario, String)> {
    let mut sql = Scenario::new().await?;
    sql.register(DIAMOND).await?;
    let task = sql.create("'diamond'").await?;
    Ok((sql, task))
}

async fn pause(sql: &mut Scenario, task: &str) -> anyhow::Result<bool> {
    sql.value(&format!(
        "select tasker.pause_task('{task}', 'looking into it')"
    ))
    .await
}

async fn resume(sql: &mut Scenario, task: &str) -> anyhow::Result<bool> {
    sql.value(&format!("select tasker.resume_task('{task}')"))
        .await
}

/// How many messages are visible, and how many are hidden for ever.
async fn messages(sql: &mut Scenario) -> anyhow::Result<(i64, i64)> {
    let count = sql
        .row("select count(*) filter (where vt <= tasker._now()) as visible, count(*) filter (where vt = 'infinity') as hidden from pgmq.q_worker_default_queue")
        .await?;
    Ok((
        count["visible"].as_i64().unwrap_or(-1),
        count["hidden"].as_i64().unwrap_or(-1),
    ))
}

#[tokio::test]
async fn a_ready_step_of_a_paused_task_is_hidden_until_the_task_is_resumed() -> anyhow::Result<()> {
    let (mut sql, task) = with_task().await?;
    sql.clock(1000).await?;
    assert!(pause(&mut sql, &task).await?);
    assert_eq!(messages(&mut sql).await?, (0, 1));
    assert!(sql.claim("w", 10).await?.is_empty());
    assert_eq!(
        sql.value::<Option<i64>>("select tasker.work_due_in_ms('{default}')")
            .await?,
        None
    );
    let shown = sql.row(&format!("select state, paused_at, paused_by, pause_reason, session_user as caller from tasker.tasks where task_uuid = '{task}'")).await?;
    assert_eq!(shown["state"], "steps_in_process");
    assert_eq!(shown["paused_at"], "2030-01-01T00:00:01+00:00");
    assert_eq!(shown["paused_by"], shown["caller"]);
    assert_eq!(shown["pause_reason"], "looking into it");
    sql.verify().await?;

    assert!(resume(&mut sql, &task).await?);
    assert_eq!(messages(&mut sql).await?, (1, 0));
    sql.claim_one().await?;
    let shown = sql
        .row(&format!(
            "select paused_at, paused_by, pause_reason from tasker.tasks where task_uuid = '{task}'"
        ))
        .await?;
    assert_eq!(
        shown,
        json!({"paused_at": null, "paused_by": null, "pause_reason": null})
    );
    sql.verify().await
}

#[tokio::test]
async fn pausing_or_resuming_twice_changes_nothing_and_says_so() -> anyhow::Result<()> {
    let (mut sql, task) = with_task().await?;
    assert!(!resume(&mut sql, &task).await?);
    assert!(pause(&mut sql, &task).await?);
    sql.clock(5000).await?;
    assert!(!pause(&mut sql, &task).await?);
    let paused_at: Value = sql
        .row(&format!("select paused_at from tasker.get_task('{task}')"))
        .await?;
    assert_eq!(paused_at["paused_at"], "2030-01-01T00:00:00+00:00");
    assert!(resume(&mut sql, &task).await?);
    assert!(!resume(&mut sql, &task).await?);
    sql.verify().await
}

#[tokio::test]
async fn a_running_step_of_a_paused_task_finishes_and_what_it_makes_ready_waits()
-> anyhow::Result<()> {
    let (mut sql, task) = with_task().await?;
    let a = sql.claim_one().await?;
    pause(&mut sql, &task).await?;
    let answer = sql
        .finish("w", json!([done(&a, json!({"n": 1}))]), 10)
        .await?;
    assert_eq!(answer.words(), ["accepted"]);
    assert!(answer.claimed.is_empty(), "{:?}", answer.names());
    assert_eq!(
        sql.step_states(&task).await?,
        json!({"a": "complete", "b": "enqueued", "c": "enqueued", "d": "pending"})
    );
    assert_eq!(messages(&mut sql).await?, (0, 2));
    sql.verify().await?;
    resume(&mut sql, &task).await?;
    let claimed = sql.claim("w", 10).await?;
    assert_eq!(names(&claimed), ["b", "c"]);
    let answer = sql
        .finish(
            "w",
            json!([done(&claimed[0], json!(1)), done(&claimed[1], json!(2))]),
            10,
        )
        .await?;
    assert_eq!(answer.names(), ["d"]);
    sql.complete(&answer.claimed[0], json!(3)).await?;
    assert_eq!(sql.task_state(&task).await?, "complete");
    sql.verify().await
}

#[tokio::test]
async fn other_tasks_are_handed_over_while_one_is_paused() -> anyhow::Result<()> {
    let (mut sql, paused) = with_task().await?;
    let other = sql.create("'diamond'").await?;
    let both = sql.claim("w", 10).await?;
    pause(&mut sql, &paused).await?;
    let outcomes = json!([done(&both[0], json!(1)), done(&both[1], json!(1))]);
    let answer = sql.finish("w", outcomes, 10).await?;
    assert_eq!(answer.names(), ["b", "c"]);
    assert!(
        answer
            .claimed
            .iter()
            .all(|step| step["task_uuid"] == *other)
    );
    sql.verify().await
}

#[tokio::test]
async fn a_step_given_back_to_a_paused_task_waits() -> anyhow::Result<()> {
    for status in ["release", "yield"] {
        let (mut sql, task) = with_task().await?;
        let a = sql.claim_one().await?;
        pause(&mut sql, &task).await?;
        let answer = sql.finish("w", json!([given_back(&a, status)]), 10).await?;
        assert_eq!(
            (answer.words(), answer.claimed.len()),
            (vec!["accepted"], 0)
        );
        assert_eq!(messages(&mut sql).await?, (0, 1));
        sql.verify().await?;
        resume(&mut sql, &task).await?;
        assert_eq!(sql.claim_one().await?["attempt"], 3);
        sql.verify().await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_retry_that_comes_due_while_its_task_is_paused_waits_for_the_resumption()
-> anyhow::Result<()> {
    for pauses_first in [true, false] {
        let (mut sql, task) = with_task().await?;
        let a = sql.claim_one().await?;
        if pauses_first {
            pause(&mut sql, &task).await?;
        }
        sql.fail(&a, json!({"message": "m"})).await?;
        if !pauses_first {
            pause(&mut sql, &task).await?;
        }
        assert_eq!(messages(&mut sql).await?, (0, 1));
        sql.clock(60_000).await?;
        assert!(sql.claim("w", 10).await?.is_empty());
        assert_eq!(sql.task_state(&task).await?, "waiting_for_retry");
        sql.verify().await?;
        resume(&mut sql, &task).await?;
        assert_eq!(sql.claim_one().await?["attempt"], 2);
        sql.verify().await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_retry_resumed_before_its_time_keeps_its_delay() -> anyhow::Result<()> {
    let (mut sql, task) = with_task().await?;
    let a = sql.claim_one().await?;
    sql.fail(&a, json!({"message": "m"})).await?;
    pause(&mut sql, &task).await?;
    resume(&mut sql, &task).await?;
    sql.clock(999).await?;
    assert!(sql.claim("w", 10).await?.is_empty());
    sql.clock(1000).await?;
    sql.claim_one().await?;
    sql.verify().await
}

#[tokio::test]
async fn a_crashed_attempt_of_a_paused_task_is_taken_over_after_the_resumption()
-> anyhow::Result<()> {
    let (mut sql, task) = with_task().await?;
    let a = sql.claim_one().await?;
    pause(&mut sql, &task).await?;
    // A claim that meets the ended lease hides the message; the holder may still finish.
    sql.clock(31_000).await?;
    assert!(sql.claim("w", 10).await?.is_empty());
    assert_eq!(messages(&mut sql).await?, (0, 1));
    sql.verify().await?;
    sql.run("savepoint late").await?;
    sql.complete(&a, json!(1)).await?;
    sql.run("rollback to late").await?;
    // One lease later maintenance enqueues the step again, and it waits.
    sql.clock(61_000).await?;
    sql.run("select * from tasker.run_maintenance()").await?;
    assert_eq!(sql.step_states(&task).await?["a"], "enqueued");
    assert!(sql.claim("w", 10).await?.is_empty());
    sql.verify().await?;
    resume(&mut sql, &task).await?;
    assert_eq!(sql.claim_one().await?["attempt"], 2);
    sql.verify().await
}

#[tokio::test]
async fn a_resumed_attempt_keeps_its_lease() -> anyhow::Result<()> {
    let (mut sql, task) = with_task().await?;
    let a = sql.claim_one().await?;
    pause(&mut sql, &task).await?;
    sql.run(&format!(
        "select * from tasker.extend_leases('w', '[{{\"step_uuid\": \"{}\", \"attempt\": 1}}]', '1 minute')",
        key(&a)
    ))
    .await?;
    resume(&mut sql, &task).await?;
    assert!(sql.claim("v", 10).await?.is_empty());
    sql.clock(60_000).await?;
    assert_eq!(sql.claim_one().await?["attempt"], 2);
    sql.verify().await
}

#[tokio::test]
async fn a_lost_message_of_a_paused_task_is_sent_again_hidden() -> anyhow::Result<()> {
    let (mut sql, task) = with_task().await?;
    pause(&mut sql, &task).await?;
    sql.run("delete from pgmq.q_worker_default_queue").await?;
    sql.run("select * from tasker.run_maintenance()").await?;
    assert_eq!(messages(&mut sql).await?, (0, 1));
    sql.verify().await?;
    resume(&mut sql, &task).await?;
    sql.claim_one().await?;
    sql.verify().await
}

#[tokio::test]
async fn a_paused_task_that_has_not_started_does_not_start_before_it_is_resumed()
-> anyhow::Result<()> {
    let mut sql = Scenario::new().await?;
    sql.register(DIAMOND).await?;
    let start = "select processed from tasker.run_maintenance() where job = 'start_due_tasks'";
    for resumed_at in [30_000, 90_000] {
        sql.clock(0).await?;
        let task = sql
            .create("'diamond', run_at => '2030-01-01 00:01:00+00'")
            .await?;
        assert!(pause(&mut sql, &task).await?);
        sql.verify().await?;
        sql.clock(resumed_at).await?;
        assert_eq!(sql.value::<i64>(start).await?, 0);
        assert_eq!(sql.task_state(&task).await?, "pending");
        assert!(resume(&mut sql, &task).await?);
        sql.verify().await?;
        sql.clock(90_000).await?;
        sql.run("select * from tasker.run_maintenance()").await?;
        assert_eq!(sql.task_state(&task).await?, "steps_in_process");
        sql.verify().await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_paused_task_is_cancelled_like_any_other() -> anyhow::Result<()> {
    let (mut sql, task) = with_task().await?;
    let later = sql.create("'diamond', run_at => '2030-02-01'").await?;
    for task in [&task, &later] {
        pause(&mut sql, task).await?;
        sql.run(&format!("select tasker.cancel_task('{task}')"))
            .await?;
        assert_eq!(sql.task_state(task).await?, "cancelled");
        assert!(resume(&mut sql, task).await?);
        assert_eq!(sql.task_state(task).await?, "cancelled");
    }
    assert_eq!(messages(&mut sql).await?, (0, 0));
    assert_eq!(
        sql.value::<i64>("select count(*) from tasker.scheduled_tasks")
            .await?,
        0
    );
    sql.verify().await
}

#[tokio::test]
async fn a_task_that_has_ended_or_is_unknown_is_not_paused() -> anyhow::Result<()> {
    let (mut sql, task) = with_task().await?;
    sql.run(&format!("select tasker.cancel_task('{task}')"))
        .await?;
    let refusal = sql
        .refused(&format!("select tasker.pause_task('{task}')"))
        .await?;
    assert_eq!(refusal.code, "TK010");
    assert!(refusal.message.contains("cancelled") && !refusal.hint.is_empty());
    for function in ["pause_task", "resume_task"] {
        for unknown in ["'018f0000-0000-7000-8000-000000000000'", "null"] {
            let refusal = sql
                .refused(&format!("select tasker.{function}({unknown})"))
                .await?;
            assert_eq!(refusal.code, "TK001");
        }
    }
    Ok(())
}

#[tokio::test]
async fn verify_sees_a_pause_that_is_not_whole() -> anyhow::Result<()> {
    let (mut sql, task) = with_task().await?;
    let queue = "pgmq.q_worker_default_queue";
    for (is_paused, tampering) in [
        (false, format!("update {queue} set vt = 'infinity'")),
        (
            false,
            "update tasker.steps set paused_at = tasker._now()".to_owned(),
        ),
        (true, format!("update {queue} set vt = tasker._now()")),
        (
            true,
            "update tasker.steps set paused_at = null where remaining_dependencies = 1".to_owned(),
        ),
        (true, "update tasker.tasks set paused_at = null".to_owned()),
    ] {
        sql.run("savepoint untouched").await?;
        if is_paused {
            pause(&mut sql, &task).await?;
        }
        sql.verify().await?;
        sql.run(&tampering).await?;
        let said = sql.violations().await?;
        assert!(
            said.iter().any(|line| line.starts_with("7: ")),
            "{tampering}: {said:?}"
        );
        sql.run("rollback to untouched").await?;
    }
    Ok(())
}
