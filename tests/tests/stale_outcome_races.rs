//! Outcomes and extensions that name attempts long over, beside calls that make those steps anew or let them go: nobody waits in a circle.

use serde_json::{Value, json};
use sqlx::Executor;
use tasker_client::ClaimedStep;
use tasker_tests::TestDatabase;
use tasker_tests::following::{create, instance_states, is_blocked_by, step, verified};
use tasker_tests::races::{Running, claim, completion, database_with, holder};
use uuid::Uuid;

const TEMPLATES: [&str; 3] = [
    "{name: map, version: 1.0.0, steps: [
      {name: list, handler: {callable: t.a}},
      {name: each, type: map, over: list.items, handler: {callable: t.a}, dependencies: [list]}]}",
    "{name: choice, version: 1.0.0, steps: [
      {name: choose, type: decision, handler: {callable: t.a}},
      {name: left, handler: {callable: t.a}, dependencies: [choose]}]}",
    "{name: plain, version: 1.0.0, steps: [{name: a, handler: {callable: t.a}}]}",
];

/// A task that has run and is run anew: its first step, claimed again, and those behind it as they were claimed before.
struct Rerun {
    task: Uuid,
    first: ClaimedStep,
    past: Vec<ClaimedStep>,
}

async fn rerun(database: &TestDatabase, template: &str, result: &Value) -> anyhow::Result<Rerun> {
    let client = database.client();
    let task = create(client, "default", template, &json!({})).await?;
    let first = claim(client, 1).await?;
    database
        .pool()
        .execute(&*completion(&first[0], result))
        .await?;
    let past = claim(client, 10).await?;
    for step in &past {
        let completed = completion(step, &json!(1));
        database.pool().execute(completed.as_str()).await?;
    }
    assert_eq!(client.get_task(task).await?.state, "complete");
    let again = format!("select tasker.rerun_task('{task}')");
    database.pool().execute(again.as_str()).await?;
    let mut again = claim(client, 10).await?;
    assert_eq!(again.len(), 1);
    Ok(Rerun {
        task,
        first: again.remove(0),
        past,
    })
}

fn outcome(step: &ClaimedStep, result: &Value) -> Value {
    json!({"step_uuid": step.step_uuid, "attempt": step.attempt, "status": "complete", "result": result})
}

fn finish(outcomes: &[Value]) -> String {
    let outcomes = json!(outcomes);
    format!("select verdicts from tasker.finish_steps('tester', '{outcomes}')")
}

fn extend(steps: &[&ClaimedStep]) -> String {
    let steps: Vec<Value> = steps
        .iter()
        .map(|step| json!({"step_uuid": step.step_uuid, "attempt": step.attempt}))
        .collect();
    format!(
        "select tasker.extend_leases('tester', '{}', '1 minute')",
        json!(steps)
    )
}

/// The first has finished a step of another task and makes instances anew; the second names one of their past attempts, and that step.
#[tokio::test]
async fn who_makes_instances_anew_waits_for_nobody_who_names_their_past() -> anyhow::Result<()> {
    for extends in [false, true] {
        let database = database_with(&TEMPLATES).await?;
        let client = database.client();
        let plain = create(client, "default", "plain", &json!({})).await?;
        let a = claim(client, 1).await?.remove(0);
        let items = json!({"items": [1, 2]});
        let map = rerun(&database, "map", &items).await?;
        assert!(plain < map.task);
        let hold = format!(
            "select from tasker.tasks where task_uuid = '{}' for no key update",
            map.task
        );
        let (mut holding, process) = holder(&database, &hold).await?;
        let outcomes = [outcome(&a, &json!(1)), outcome(&map.first, &items)];
        let making = Running::begin(&database, finish(&outcomes)).await?;
        is_blocked_by(database.pool(), making.process, process).await?;
        let late = if extends {
            extend(&[&map.past[0], &a])
        } else {
            finish(&[outcome(&map.past[0], &json!(1)), outcome(&a, &json!(1))])
        };
        let late = Running::begin(&database, late).await?;
        is_blocked_by(database.pool(), late.process, making.process).await?;
        holding.execute("commit").await?;
        assert_eq!(making.ended().await?, None);
        assert_eq!(late.ended().await?, None);
        let states = instance_states(client, map.task).await?;
        assert_eq!(states, ["enqueued", "enqueued"]);
        verified(client).await?;
    }
    Ok(())
}

/// Two calls that each let a step go whose past attempt the other one names.
#[tokio::test]
async fn who_lets_a_step_go_waits_for_nobody_who_names_its_past() -> anyhow::Result<()> {
    let database = database_with(&TEMPLATES).await?;
    let client = database.client();
    let left = json!({"decision": {"steps": ["left"]}});
    let one = rerun(&database, "choice", &left).await?;
    let two = rerun(&database, "choice", &left).await?;
    create(client, "default", "plain", &json!({})).await?;
    let a = claim(client, 1).await?.remove(0);
    let hold = format!(
        "select from tasker.steps where step_uuid = '{}' for no key update",
        a.step_uuid
    );
    let (mut holding, process) = holder(&database, &hold).await?;
    let outcomes = [
        outcome(&two.past[0], &json!(1)),
        outcome(&one.first, &left),
        outcome(&a, &json!(1)),
    ];
    let first = Running::begin(&database, finish(&outcomes)).await?;
    is_blocked_by(database.pool(), first.process, process).await?;
    let outcomes = [outcome(&one.past[0], &json!(1)), outcome(&two.first, &left)];
    let second = Running::begin(&database, finish(&outcomes)).await?;
    second.comes_to_rest(database.pool()).await?;
    holding.execute("commit").await?;
    assert_eq!(first.ended().await?, None);
    assert_eq!(second.ended().await?, None);
    for task in [one.task, two.task] {
        assert_eq!(step(client, task, "left").await?.state, "enqueued");
    }
    verified(client).await
}

/// What is not locked is judged as ever.
#[tokio::test]
async fn outcomes_of_past_attempts_are_told_that_they_are_lost() -> anyhow::Result<()> {
    let database = database_with(&TEMPLATES).await?;
    let client = database.client();
    let map = rerun(&database, "map", &json!({"items": [1, 2]})).await?;
    let choice = rerun(
        &database,
        "choice",
        &json!({"decision": {"steps": ["left"]}}),
    )
    .await?;
    let mut outcomes = Vec::new();
    for past in [&map.past[0], &choice.past[0]] {
        outcomes.push(outcome(past, &json!(1)));
    }
    outcomes.push(outcome(
        &ClaimedStep {
            step_uuid: Uuid::nil(),
            ..map.first.clone()
        },
        &json!(1),
    ));
    let verdicts: Value = sqlx::query_scalar(&finish(&outcomes))
        .fetch_one(database.pool())
        .await?;
    let told: Vec<(&str, &str)> = verdicts
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|verdict| Some((verdict["verdict"].as_str()?, verdict["code"].as_str()?)))
        .collect();
    assert_eq!(
        told,
        [("lost", "TK011"), ("lost", "TK011"), ("invalid", "TK002")]
    );
    verified(client).await
}
