//! Decisions and instances finished at the same time, and while an operator does something to their task: whoever comes second waits and then sees what the first did, and nobody waits in a
//! circle.

use serde_json::{Value, json};
use sqlx::Executor;
use tasker_client::ClaimedStep;
use tasker_tests::TestDatabase;
use tasker_tests::following::{create, instance_states, is_blocked_by, step, times, verified};
use tasker_tests::races::{
    Code, Running, claim, completion, database_with, holder, second_waits, tried,
};
use uuid::Uuid;

const SHARED: &str = "{name: shared, version: 1.0.0, steps: [
  {name: one, type: decision, handler: {callable: t.a}},
  {name: two, type: decision, handler: {callable: t.a}},
  {name: left, handler: {callable: t.a}, dependencies: [one]},
  {name: right, handler: {callable: t.a}, dependencies: [two]},
  {name: join, type: deferred_convergence, handler: {callable: t.a}, dependencies: [left, right]},
  {name: after, handler: {callable: t.a}, dependencies: [join]}]}";
const MAP: &str = "{name: map, version: 1.0.0, steps: [
  {name: list, handler: {callable: t.a}},
  {name: each, type: map, over: list.items, handler: {callable: t.a}, dependencies: [list], retry: {max_attempts: 1}, failure_strategy: fail_fast},
  {name: end, handler: {callable: t.a}, dependencies: [each]}]}";
const ONE_AFTER_THE_OTHER: &str = "{name: narrow, version: 1.0.0, steps: [
  {name: list, handler: {callable: t.a}},
  {name: each, type: map, over: list.items, handler: {callable: t.a}, dependencies: [list], max_parallel: 1}]}";
const PLAIN: &str = "{name: plain, version: 1.0.0, steps: [
  {name: a, handler: {callable: t.a}, retry: {max_attempts: 1}}, {name: b, handler: {callable: t.a}}]}";

fn outcomes(steps: &[(&ClaimedStep, Value)]) -> String {
    let outcomes: Vec<Value> = steps
        .iter()
        .map(|(step, result)| {
            json!({"step_uuid": step.step_uuid, "attempt": step.attempt, "status": "complete", "result": result})
        })
        .collect();
    format!(
        "select verdicts from tasker.finish_steps('tester', '{}')",
        json!(outcomes)
    )
}

fn failure(step: &ClaimedStep) -> String {
    format!(
        "select tasker.fail_step('{}', {}, '{{\"message\": \"no\"}}', false)",
        step.step_uuid, step.attempt
    )
}

async fn database() -> anyhow::Result<TestDatabase> {
    database_with(&[SHARED, MAP, ONE_AFTER_THE_OTHER, PLAIN]).await
}

/// A task of a template whose map has made so many instances, with those of them that can be claimed.
async fn mapped_by(
    database: &TestDatabase,
    template: &str,
    count: usize,
) -> anyhow::Result<(Uuid, Vec<ClaimedStep>)> {
    let client = database.client();
    let task = create(client, "default", template, &json!({})).await?;
    let list = claim(client, 1).await?;
    let items: Vec<usize> = (0..count).collect();
    let made = completion(&list[0], &json!({"items": items}));
    database.pool().execute(made.as_str()).await?;
    Ok((task, claim(client, 100).await?))
}

/// A task whose map has made so many instances, all of them claimed.
async fn mapped(database: &TestDatabase, count: usize) -> anyhow::Result<(Uuid, Vec<ClaimedStep>)> {
    let (task, claimed) = mapped_by(database, "map", count).await?;
    assert_eq!(claimed.len(), count);
    Ok((task, claimed))
}

#[tokio::test]
async fn two_decisions_that_choose_nothing_at_once_leave_their_join_out() -> anyhow::Result<()> {
    let database = database().await?;
    let client = database.client();
    let task = create(client, "default", "shared", &json!({})).await?;
    let claimed = claim(client, 5).await?;
    let none = json!({"decision": {"steps": []}});
    let code = second_waits(
        &database,
        &completion(&claimed[0], &none),
        completion(&claimed[1], &none),
    )
    .await?;
    assert_eq!(code, None);
    assert_eq!(client.get_task(task).await?.state, "complete");
    assert!(claim(client, 5).await?.is_empty());
    verified(client).await
}

#[tokio::test]
async fn the_branches_of_two_decisions_finished_at_once_enqueue_their_join_once()
-> anyhow::Result<()> {
    let database = database().await?;
    let client = database.client();
    let task = create(client, "default", "shared", &json!({})).await?;
    let claimed = claim(client, 5).await?;
    for (decision, branch) in claimed.iter().zip(["left", "right"]) {
        let choice = json!({"decision": {"steps": [branch]}});
        let decided = completion(decision, &choice);
        database.pool().execute(decided.as_str()).await?;
    }
    let branches = claim(client, 5).await?;
    let code = second_waits(
        &database,
        &completion(&branches[0], &json!(1)),
        completion(&branches[1], &json!(1)),
    )
    .await?;
    assert_eq!(code, None);
    let join = step(client, task, "join").await?;
    assert_eq!(
        (join.state.as_str(), join.remaining_dependencies),
        ("enqueued", 0)
    );
    let history = client.step_history(join.step_uuid).await?;
    assert_eq!(times(&history, "enqueue"), 1);
    verified(client).await
}

#[tokio::test]
async fn the_last_two_instances_finished_at_once_complete_their_step_once() -> anyhow::Result<()> {
    let database = database().await?;
    let client = database.client();
    let (task, claimed) = mapped(&database, 2).await?;
    let code = second_waits(
        &database,
        &completion(&claimed[0], &json!("x")),
        completion(&claimed[1], &json!("y")),
    )
    .await?;
    assert_eq!(code, None);
    let each = step(client, task, "each").await?;
    assert_eq!(each.state, "complete");
    let result = each.result.map(|result| result.get().replace(' ', ""));
    assert_eq!(result.as_deref(), Some("[\"x\",\"y\"]"));
    assert_eq!(step(client, task, "end").await?.state, "enqueued");
    verified(client).await
}

/// What an operator may do to a task as a whole, and how an outcome that comes after it is answered.
fn operations(task: Uuid) -> [(String, Code); 2] {
    [
        (
            format!("select tasker.cancel_task('{task}')"),
            Some("TK012".to_owned()),
        ),
        (format!("select tasker.pause_task('{task}')"), None),
    ]
}

/// The operator waits for the step that stands for the instances, and whoever finishes one of them comes after him.
#[tokio::test]
async fn an_instance_finished_while_an_operator_waits_for_its_task_does_not_wait_in_a_circle()
-> anyhow::Result<()> {
    for number in 0..2 {
        let database = database().await?;
        let (task, claimed) = mapped(&database, 3).await?;
        let each = step(database.client(), task, "each").await?.step_uuid;
        let hold = format!("select from tasker.steps where step_uuid = '{each}' for no key update");
        let (mut holding, process) = holder(&database, &hold).await?;
        let (operation, expected) = operations(task)[number].clone();
        let operator = Running::begin(&database, operation).await?;
        is_blocked_by(database.pool(), operator.process, process).await?;
        let finish = Running::begin(&database, completion(&claimed[1], &json!(1))).await?;
        is_blocked_by(database.pool(), finish.process, operator.process).await?;
        holding.execute("commit").await?;
        assert_eq!(operator.ended().await?, None);
        assert_eq!(finish.ended().await?, expected);
        verified(database.client()).await?;
    }
    Ok(())
}

#[tokio::test]
async fn an_operator_waits_for_an_instance_that_is_being_finished() -> anyhow::Result<()> {
    for number in 0..2 {
        let database = database().await?;
        let (task, claimed) = mapped(&database, 2).await?;
        let operation = operations(task)[number].0.clone();
        let finish = completion(&claimed[1], &json!(1));
        assert_eq!(second_waits(&database, &finish, operation).await?, None);
        verified(database.client()).await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_cancellation_waits_for_an_expansion_and_cancels_what_it_made() -> anyhow::Result<()> {
    let database = database().await?;
    let client = database.client();
    let task = create(client, "default", "map", &json!({})).await?;
    let list = claim(client, 1).await?;
    let code = second_waits(
        &database,
        &completion(&list[0], &json!({"items": [1, 2, 3]})),
        format!("select tasker.cancel_task('{task}')"),
    )
    .await?;
    assert_eq!(code, None);
    assert_eq!(client.get_task(task).await?.state, "cancelled");
    let cancelled: i64 = sqlx::query_scalar(
        "select count(*) from tasker.list_steps($1) where state = 'cancelled' and instance > 0",
    )
    .bind(task)
    .fetch_one(database.pool())
    .await?;
    assert_eq!(cancelled, 3);
    assert!(claim(client, 10).await?.is_empty());
    verified(client).await
}

#[tokio::test]
async fn siblings_of_an_instance_that_failed_fast_may_finish_meanwhile() -> anyhow::Result<()> {
    let database = database().await?;
    let client = database.client();
    let (task, claimed) = mapped(&database, 3).await?;
    let code = second_waits(
        &database,
        &failure(&claimed[0]),
        completion(&claimed[1], &json!(1)),
    )
    .await?;
    assert_eq!(code, None);
    verified(client).await?;
    client.run_maintenance(100).await?;
    assert_eq!(step(client, task, "each").await?.state, "error");
    let mut session = database.session().await?;
    let late = tried(&mut session, &completion(&claimed[2], &json!(1))).await;
    assert_eq!(late.as_deref(), Some("TK012"));
    assert_eq!(client.get_task(task).await?.state, "error");
    verified(client).await
}

/// A call that makes instances for one task changes the counters of another: it takes both tasks in the order in which everybody does.
#[tokio::test]
async fn tasks_are_locked_in_their_order_also_by_who_makes_instances() -> anyhow::Result<()> {
    let database = database().await?;
    let client = database.client();
    let plain = create(client, "default", "plain", &json!({})).await?;
    let map = create(client, "default", "map", &json!({})).await?;
    let mut claimed = claim(client, 10).await?;
    claimed.sort_by_key(|step| step.step_uuid);
    assert!(plain < map);
    let [a, b, list] = &claimed[..] else {
        anyhow::bail!("{} steps", claimed.len());
    };
    // The first has the plain task and comes to the other; the second finishes a step of each.
    let hold = format!("select from tasker.tasks where task_uuid = '{plain}' for no key update");
    let (mut holding, process) = holder(&database, &hold).await?;
    let first = Running::begin(
        &database,
        format!("begin; {}; select from tasker.tasks where task_uuid = '{map}' for no key update; commit", completion(a, &json!(1))),
    )
    .await?;
    is_blocked_by(database.pool(), first.process, process).await?;
    let second = Running::begin(
        &database,
        outcomes(&[(b, json!(1)), (list, json!({"items": [1, 2]}))]),
    )
    .await?;
    is_blocked_by(database.pool(), second.process, first.process).await?;
    holding.execute("commit").await?;
    assert_eq!(first.ended().await?, None);
    assert_eq!(second.ended().await?, None);
    assert_eq!(client.get_task(plain).await?.state, "complete");
    verified(client).await
}

/// Who has an instance comes to the step that stands for it, however many callers want all steps of the task meanwhile.
#[tokio::test]
async fn who_has_an_instance_gets_its_step_from_many_who_want_all() -> anyhow::Result<()> {
    let database = database().await?;
    let client = database.client();
    let (task, _) = mapped_by(&database, "narrow", 3).await?;
    let waiting: Uuid = sqlx::query_scalar(
        "select s.step_uuid from tasker.steps s where s.state = 'pending' order by s.step_uuid desc limit 1",
    )
    .fetch_one(database.pool())
    .await?;
    let locked = |step: Uuid| {
        format!("select from tasker.steps where step_uuid = '{step}' for no key update")
    };
    let (mut holding, process) = holder(&database, &locked(waiting)).await?;
    let mut callers: Vec<Running> = Vec::new();
    for _ in 0..4 {
        let cancel = format!("select tasker.cancel_task('{task}')");
        let caller = Running::begin(&database, cancel).await?;
        // The first waits for the holder, and the others for their turn behind the first.
        let before = callers.first().map_or(process, |first| first.process);
        is_blocked_by(database.pool(), caller.process, before).await?;
        callers.push(caller);
    }
    let each = step(client, task, "each").await?;
    let get = format!("set local lock_timeout = '10s'; {}", locked(each.step_uuid));
    holding.execute(sqlx::raw_sql(&get)).await?;
    holding.execute("commit").await?;
    for caller in callers {
        // One that finds it cancelled has nothing to do.
        assert_eq!(caller.ended().await?, None);
    }
    assert_eq!(client.get_task(task).await?.state, "cancelled");
    verified(client).await
}

/// Maintenance that cancels the instances of a step waits for whoever finishes one of them; if that lets the step fail once more, it is noted without waiting for maintenance.
#[tokio::test]
async fn a_step_that_fails_once_more_while_its_instances_are_cancelled_waits_for_nobody()
-> anyhow::Result<()> {
    let database = database().await?;
    let client = database.client();
    let (task, claimed) = mapped(&database, 2).await?;
    database.pool().execute(&*failure(&claimed[0])).await?;
    let reset = format!("select tasker.reset_step('{}')", claimed[0].step_uuid);
    database.pool().execute(reset.as_str()).await?;
    let again = claim(client, 1).await?;
    let each = step(client, task, "each").await?.step_uuid;
    let hold = format!("select from tasker.steps where step_uuid = '{each}' for no key update");
    let (mut holding, process) = holder(&database, &hold).await?;
    let failing = Running::begin(&database, failure(&again[0])).await?;
    is_blocked_by(database.pool(), failing.process, process).await?;
    let job = "select tasker.run_maintenance_job('cancel_instances')";
    let maintenance = Running::begin(&database, job.to_owned()).await?;
    is_blocked_by(database.pool(), maintenance.process, failing.process).await?;
    holding.execute("commit").await?;
    assert_eq!(failing.ended().await?, None);
    assert_eq!(maintenance.ended().await?, None);
    client.run_maintenance(100).await?;
    let states = instance_states(client, task).await?;
    assert_eq!(states, ["error", "cancelled"]);
    verified(client).await
}
