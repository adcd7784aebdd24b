//! Every transition of both machines, reached through the public functions, in inline and in deferred evaluation; and nothing else is ever in a history.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use tasker_rules::{step_state, task_state};
use tasker_tests::Scenario;
use tasker_tests::scenario::{done, failed, given_back, key};

/// `from event to`.
type Transitions = BTreeSet<String>;

/// What no function causes yet: a start that can't go on, and an instance that fails its siblings.
const STEPS_LATER: &[&str] = &["error cancel cancelled"];
const TASKS_LATER: &[&str] = &[
    "enqueuing_steps enqueue_failed error",
    // A task of which a retry is due waits for that, whatever else it waits for.
    "waiting_for_dependencies retry_ready enqueuing_steps",
    // A template has one step at least.
    "initializing no_steps_found complete",
    // No clock runs in these.
    "blocked_by_failures timed_out error",
    "pending timed_out error",
];

/// States that a task only passes through inside a transaction: nobody meets it there.
const PASSED_THROUGH: [&str; 3] = ["initializing", "enqueuing_steps", "evaluating_results"];

const TEMPLATES: [&str; 10] = [
    "{name: one, version: 1.0.0, steps: [{name: a, handler: {callable: t.a}, result_schema: {type: object},
       retry: {max_attempts: 2, backoff: linear, backoff_base_ms: 1000, jitter: 0}}, {name: b, handler: {callable: t.b}, dependencies: [a]}]}",
    "{name: two, version: 1.0.0, steps: [{name: a, handler: {callable: t.a}, retry: {max_attempts: 1}}, {name: b, handler: {callable: t.b}}]}",
    "{name: block, version: 1.0.0, lifecycle: {on_failure: block}, steps: [{name: a, handler: {callable: t.a}, retry: {max_attempts: 1}}]}",
    "{name: rest, version: 1.0.0, lifecycle: {evaluation: deferred}, steps: [{name: a, handler: {callable: t.a}, result_schema: {type: object},
       retry: {max_attempts: 2, backoff: linear, backoff_base_ms: 1000, jitter: 0}}]}",
    "{name: brief, version: 1.0.0, lifecycle: {max_duration_seconds: 60}, steps: [{name: a, handler: {callable: t.a},
       retry: {max_attempts: 2, backoff: linear, backoff_base_ms: 100000, jitter: 0}}, {name: b, handler: {callable: t.b}, dependencies: [a]}]}",
    "{name: nap, version: 1.0.0, lifecycle: {max_waiting_for_dependencies_seconds: 600}, steps: [{name: s, type: timer, delay_seconds: 60}, {name: a, handler: {callable: t.a}, dependencies: [s]},
       {name: go, type: signal, signal: {name: go}, dependencies: [a]}]}",
    "{name: aside, version: 1.0.0, steps: [{name: a, handler: {callable: t.a}, retry: {max_attempts: 2, backoff: linear, backoff_base_ms: 100000, max_backoff_ms: 100000, jitter: 0}},
       {name: s, type: timer, delay_seconds: 60}, {name: b, handler: {callable: t.b}, dependencies: [s]}]}",
    "{name: undo, version: 1.0.0, steps: [{name: a, handler: {callable: t.a}, compensate: {callable: t.undo}},
       {name: b, handler: {callable: t.b}, dependencies: [a], retry: {max_attempts: 2, backoff: linear, backoff_base_ms: 100000, jitter: 0}}]}",
    "{name: undo_nap, version: 1.0.0, steps: [{name: a, handler: {callable: t.a}, compensate: {callable: t.undo}}, {name: s, type: timer, delay_seconds: 60, dependencies: [a]}]}",
    "{name: undo_block, version: 1.0.0, lifecycle: {on_failure: block}, steps: [{name: a, handler: {callable: t.a}, compensate: {callable: t.undo}},
       {name: b, handler: {callable: t.b}, dependencies: [a], retry: {max_attempts: 1}}]}",
];

fn machine<S: Copy + 'static, E: Copy + 'static>(
    rows: impl Iterator<Item = (&'static [S], &'static [E], S)>,
    state: fn(S) -> &'static str,
    event: fn(E) -> &'static str,
) -> Transitions {
    rows.flat_map(|(from, events, to)| {
        from.iter().flat_map(move |&from| {
            events
                .iter()
                .map(move |&name| format!("{} {} {}", state(from), event(name), state(to)))
        })
    })
    .collect()
}

/// A task whose step `a` is in the hands of the worker.
async fn claimed(sql: &mut Scenario, template: &str) -> anyhow::Result<(String, Value)> {
    let task = sql.create(&format!("'{template}'")).await?;
    let step = sql
        .row(&format!(
            "select * from tasker.claim_steps('w', '{{default}}', 1000) where task_uuid = '{task}' and step_name = 'a'"
        ))
        .await?;
    Ok((task, step))
}

/// A new step `a` in a state, with its task.
async fn step_in(sql: &mut Scenario, state: &str) -> anyhow::Result<(String, String)> {
    let template = if state.ends_with("orchestration") {
        "rest"
    } else {
        "one"
    };
    if state == "enqueued" || state == "pending" {
        let task = sql.create("'one'").await?;
        let name = if state == "pending" { "b" } else { "a" };
        let step: String = sql
            .value(&format!(
                "select step_uuid::text from tasker.list_steps('{task}') where name = '{name}'"
            ))
            .await?;
        return Ok((task, step));
    }
    let (task, step) = claimed(sql, template).await?;
    match state {
        "in_progress" => {}
        "complete" | "enqueued_for_orchestration" => sql.complete(&step, json!({})).await?,
        "waiting_for_retry" | "enqueued_as_error_for_orchestration" => {
            sql.fail(&step, json!({"message": "m"})).await?;
        }
        "error" => {
            sql.fail(&step, json!({"message": "m", "retryable": false}))
                .await?;
        }
        "resolved_manually" => {
            sql.run(&format!("select tasker.resolve_step('{}')", key(&step)))
                .await?;
        }
        "cancelled" => {
            sql.run(&format!("select tasker.cancel_task('{task}')"))
                .await?;
        }
        other => anyhow::bail!("no way to {other}"),
    }
    Ok((task, key(&step).to_owned()))
}

const OPEN: [&str; 5] = [
    "error",
    "pending",
    "enqueued",
    "in_progress",
    "waiting_for_retry",
];

/// What operators do to steps and tasks, from every state they may.
async fn operate(sql: &mut Scenario) -> anyhow::Result<()> {
    for state in OPEN {
        for call in ["complete_step_manually('{}', '{}')", "resolve_step('{}')"] {
            let (_, step) = step_in(sql, state).await?;
            sql.run(&format!("select tasker.{}", call.replacen("{}", &step, 1)))
                .await?;
        }
    }
    for state in [
        "pending",
        "enqueued",
        "in_progress",
        "waiting_for_retry",
        "enqueued_for_orchestration",
        "enqueued_as_error_for_orchestration",
    ] {
        let (task, _) = step_in(sql, state).await?;
        sql.run(&format!("select tasker.cancel_task('{task}')"))
            .await?;
    }
    let (_, step) = step_in(sql, "error").await?;
    sql.run(&format!("select tasker.reset_step('{step}')"))
        .await?;
    for state in ["complete", "resolved_manually", "error", "cancelled"] {
        let (task, _) = step_in(sql, state).await?;
        if matches!(state, "complete" | "resolved_manually") {
            let b: String = sql
                .value(&format!(
                    "select step_uuid::text from tasker.list_steps('{task}') where name = 'b'"
                ))
                .await?;
            sql.run(&format!("select tasker.resolve_step('{b}')"))
                .await?;
        }
        sql.run(&format!("select tasker.rerun_task('{task}')"))
            .await?;
    }
    Ok(())
}

/// What workers and time do.
async fn work(sql: &mut Scenario) -> anyhow::Result<()> {
    for status in ["release", "yield"] {
        let (_, step) = claimed(sql, "one").await?;
        assert_eq!(sql.verdict(given_back(&step, status)).await?, "accepted -");
    }
    // A result against its schema, at once and later; a retry that comes due; a lease that ends.
    for template in ["one", "rest"] {
        let (_, step) = claimed(sql, template).await?;
        sql.complete(&step, json!(7)).await?;
        let (_, step) = claimed(sql, template).await?;
        sql.complete(&step, json!({})).await?;
        let (_, step) = claimed(sql, template).await?;
        sql.fail(&step, json!({"message": "m"})).await?;
        let (_, step) = claimed(sql, template).await?;
        sql.fail(&step, json!({"message": "m", "retryable": false}))
            .await?;
    }
    sql.run("select count(*) from tasker.run_maintenance(10000)")
        .await?;
    sql.create("'one', run_at => timestamptz '2030-01-01 00:00:30+00'")
        .await?;
    sql.clock(2_000).await?;
    sql.claim("w", 1000).await?;
    sql.clock(35_000).await?;
    sql.claim("w", 1000).await?;
    sql.run("select count(*) from tasker.run_maintenance(10000)")
        .await?;
    // One branch fails, the other goes on; then one is repaired while the other runs.
    for repairs in [false, true] {
        let task = sql.create("'two'").await?;
        let steps = sql
            .rows(&format!(
                "select * from tasker.claim_steps('w', '{{default}}', 1000) where task_uuid = '{task}' order by step_name"
            ))
            .await?;
        sql.finish("w", json!([failed(&steps[0], json!({"message": "m"}))]), 0)
            .await?;
        if repairs {
            sql.run(&format!("select tasker.resolve_step('{}')", key(&steps[0])))
                .await?;
        }
        sql.finish("w", json!([done(&steps[1], json!(1))]), 0)
            .await?;
    }
    Ok(())
}

/// What befalls tasks as a whole.
async fn end_tasks(sql: &mut Scenario) -> anyhow::Result<()> {
    sql.create("'one', run_at => timestamptz '2040-01-01 00:00:00+00'")
        .await?;
    for task in sql
        .rows("select task_uuid from tasker.list_tasks(states => '{pending}')")
        .await?
    {
        let task = task["task_uuid"].as_str().unwrap_or_default().to_owned();
        sql.run(&format!("select tasker.cancel_task('{task}')"))
            .await?;
    }
    for call in [
        "cancel_task('{}')",
        "rerun_task('{}')",
        "resolve_step('{step}')",
    ] {
        let (task, step) = claimed(sql, "block").await?;
        sql.fail(&step, json!({"message": "m"})).await?;
        assert_eq!(sql.task_state(&task).await?, "blocked_by_failures");
        let call = call.replace("{step}", key(&step)).replace("{}", &task);
        sql.run(&format!("select tasker.{call}")).await?;
    }
    Ok(())
}

/// A task that is over its time is ended from where it is, and repaired; a dead letter settles a failed one.
async fn time_out(sql: &mut Scenario) -> anyhow::Result<()> {
    let mut timed_out = Vec::new();
    for fails in [false, true] {
        let (task, step) = claimed(sql, "brief").await?;
        if fails {
            sql.fail(&step, json!({"message": "m"})).await?;
            assert_eq!(sql.task_state(&task).await?, "waiting_for_retry");
        }
        timed_out.push((task, step));
    }
    let now: f64 = sql
        .value("select extract(epoch from tasker._now() - timestamptz '2030-01-01 00:00:00+00')::float8 * 1000")
        .await?;
    sql.clock(now as i64 + 61_000).await?;
    sql.run("select count(*) from tasker.run_maintenance(10000)")
        .await?;
    for (task, step) in timed_out {
        assert_eq!(sql.task_state(&task).await?, "error");
        sql.run(&format!("select tasker.reset_step('{}')", key(&step)))
            .await?;
        assert_eq!(sql.task_state(&task).await?, "steps_in_process");
    }
    // Repaired, they have their whole time again.
    let ended: i64 = sql
        .value("select processed from tasker.run_maintenance(10000) where job = 'time_out_tasks'")
        .await?;
    assert_eq!(ended, 0);
    for template in ["two", "block"] {
        let (task, step) = claimed(sql, template).await?;
        sql.fail(&step, json!({"message": "m"})).await?;
        if template == "two" {
            let b: String = sql
                .value(&format!(
                    "select step_uuid::text from tasker.list_steps('{task}') where name = 'b'"
                ))
                .await?;
            sql.run(&format!("select tasker.resolve_step('{b}')"))
                .await?;
        }
        sql.run(&format!(
            "select tasker.resolve_dead_letter((select dead_letter_uuid from tasker.get_dead_letter(task_uuid => '{task}')), 'manually_resolved')"
        ))
        .await?;
        assert_eq!(sql.task_state(&task).await?, "resolved_manually");
        sql.run(&format!("select tasker.rerun_task('{task}')"))
            .await?;
    }
    Ok(())
}

/// What becomes of tasks that wait inside the engine.
async fn wait(sql: &mut Scenario) -> anyhow::Result<()> {
    let now: i64 = sql
        .value("select (extract(epoch from tasker._now() - timestamptz '2030-01-01 00:00:00+00') * 1000)::bigint")
        .await?;
    let going_on = sql.create("'nap'").await?;
    let cancelled = sql.create("'nap'").await?;
    let (aside, step) = claimed(sql, "aside").await?;
    sql.fail(&step, json!({"message": "m"})).await?;
    let repaired = sql.create("'nap'").await?;
    sql.run(&format!("select tasker.cancel_task('{cancelled}')"))
        .await?;
    sql.run(&format!(
        "select tasker.resolve_step(step_uuid) from tasker.list_steps('{repaired}') where name = 's'"
    ))
    .await?;
    sql.clock(now + 60_000).await?;
    sql.run("select count(*) from tasker.run_maintenance(10000)")
        .await?;
    assert_eq!(sql.task_state(&aside).await?, "steps_in_process");
    for step in sql.claim("w", 1000).await? {
        if step["task_uuid"] == going_on.as_str() {
            sql.complete(&step, json!({})).await?;
        }
    }
    assert_eq!(sql.task_state(&going_on).await?, "waiting_for_dependencies");
    sql.clock(now + 700_000).await?;
    sql.run("select count(*) from tasker.run_maintenance(10000)")
        .await?;
    assert_eq!(sql.task_state(&going_on).await?, "error");
    Ok(())
}

/// What becomes of tasks that undo what they did, begun from each state in which a task lasts, and by a failure.
async fn undo(sql: &mut Scenario) -> anyhow::Result<()> {
    let undo = |task: &str| format!("select tasker.cancel_task('{task}', 'no', true)");
    let mut tasks = Vec::new();
    for (template, error) in [
        ("undo", None),
        ("undo", Some(json!({"message": "m"}))),
        ("undo", Some(json!({"message": "m", "retryable": false}))),
        ("undo_nap", None),
        ("undo_block", Some(json!({"message": "m"}))),
    ] {
        let (task, step) = claimed(sql, template).await?;
        let finished = sql.finish("w", json!([done(&step, json!({}))]), 1).await?;
        let for_good = error
            .as_ref()
            .is_some_and(|error| error["retryable"] == false);
        if let (Some(error), [next]) = (error, &finished.claimed[..]) {
            sql.fail(next, error).await?;
        }
        if !for_good {
            sql.run(&undo(&task)).await?;
        }
        tasks.push(task);
    }
    sql.claim("w", 1000).await?;
    for task in &tasks {
        let undone = sql
            .row(&format!(
                "select step_uuid, attempt from tasker.list_steps('{task}') where name = 'a_compensation'"
            ))
            .await?;
        sql.complete(&undone, json!({})).await?;
    }
    let ends = ["cancelled", "cancelled", "error", "cancelled", "cancelled"];
    for (task, end) in tasks.iter().zip(ends) {
        assert_eq!(sql.task_state(task).await?, end);
    }
    Ok(())
}

/// The transitions in the histories of all tasks.
async fn reached(sql: &mut Scenario, histories: &str) -> anyhow::Result<Transitions> {
    let found: Vec<String> = sql
        .value(&format!(
            "select array_agg(distinct concat_ws(' ', h.from_state, h.event, h.to_state)) from tasker.tasks t, {histories}"
        ))
        .await?;
    Ok(found.into_iter().collect())
}

#[tokio::test]
async fn every_transition_of_both_machines_is_reached_and_no_other() -> anyhow::Result<()> {
    let mut sql = Scenario::new().await?;
    for template in TEMPLATES {
        sql.register(template).await?;
    }
    operate(&mut sql).await?;
    work(&mut sql).await?;
    end_tasks(&mut sql).await?;
    time_out(&mut sql).await?;
    wait(&mut sql).await?;
    undo(&mut sql).await?;
    sql.verify().await?;

    let steps = reached(
        &mut sql,
        "tasker.list_steps(t.task_uuid) s, tasker.step_history(s.step_uuid) h",
    )
    .await?;
    let all = machine(
        step_state::TRANSITIONS.iter().copied(),
        step_state::StepState::as_str,
        step_state::StepEvent::as_str,
    );
    assert_eq!(
        steps.difference(&all).collect::<Vec<_>>(),
        Vec::<&String>::new()
    );
    let missing: Vec<&str> = all.difference(&steps).map(String::as_str).collect();
    assert_eq!(missing, STEPS_LATER);

    let tasks = reached(&mut sql, "tasker.task_history(t.task_uuid) h").await?;
    let all = machine(
        task_state::TRANSITIONS.iter().copied(),
        task_state::TaskState::as_str,
        task_state::TaskEvent::as_str,
    );
    assert_eq!(
        tasks.difference(&all).collect::<Vec<_>>(),
        Vec::<&String>::new()
    );
    let missing: Vec<&str> = all
        .difference(&tasks)
        .map(String::as_str)
        .filter(|transition| {
            let (from, rest) = transition.split_once(' ').unwrap_or_default();
            // Cancelling and timing out meet a task in a state that lasts.
            !(PASSED_THROUGH.contains(&from)
                && (rest.starts_with("cancel ") || rest.starts_with("timed_out ")))
        })
        .filter(|transition| !TASKS_LATER.contains(transition))
        .collect();
    assert_eq!(missing, Vec::<&str>::new());
    Ok(())
}
