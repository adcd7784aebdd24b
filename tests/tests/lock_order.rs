//! Calls that lock several steps take them in one order, whatever the steps are: repairs, jobs in bulk and finishes of steps that share dependents or are undone.

use std::fmt::Write;

use serde_json::{Value, json};
use sqlx::Executor;
use tasker_client::{BulkAction, BulkFilter, ClaimedStep, Client};
use tasker_tests::TestDatabase;
use tasker_tests::following::{create, is_blocked_by, step, verified};
use tasker_tests::races::{Code, Running, claim, completion, database_with, holder};
use uuid::Uuid;

/// A join of more is locked late.
const BRANCHES: usize = 18;

const TRIP: &str = "{name: trip, version: 1.0.0, steps: [
  {name: hotel, handler: {callable: t.a}, compensate: {callable: t.undo}},
  {name: pay, handler: {callable: t.a}, retry: {max_attempts: 1}}]}";

/// All branches come together in a wide join; two of them in a narrow one as well, which comes after it.
fn joined() -> String {
    let mut steps = String::new();
    let mut names = Vec::new();
    for number in 0..BRANCHES {
        let _ = write!(steps, "{{name: s{number}, handler: {{callable: t.a}}}}, ");
        names.push(format!("s{number}"));
    }
    format!(
        "{{name: joined, version: 1.0.0, steps: [{steps}{{name: wide, handler: {{callable: t.a}}, dependencies: [{}]}}, \
          {{name: narrow, handler: {{callable: t.a}}, dependencies: [s0, s1]}}]}}",
        names.join(", ")
    )
}

fn locked(step: Uuid) -> String {
    format!("select from tasker.steps where step_uuid = '{step}' for no key update")
}

fn finish(steps: &[&ClaimedStep]) -> String {
    let outcomes: Vec<Value> = steps
        .iter()
        .map(|step| json!({"step_uuid": step.step_uuid, "attempt": step.attempt, "status": "complete", "result": 1}))
        .collect();
    format!(
        "select tasker.finish_steps('tester', '{}')",
        json!(outcomes)
    )
}

fn named<'a>(claimed: &'a [ClaimedStep], name: &str) -> anyhow::Result<&'a ClaimedStep> {
    let found = claimed.iter().find(|step| step.step_name == name);
    found.ok_or_else(|| anyhow::anyhow!("{name} was not claimed"))
}

/// Both want the narrow join and the wide one, which has the smaller key and is locked after it by everybody.
#[tokio::test]
async fn a_repair_and_a_finish_take_wide_joins_after_narrow_ones() -> anyhow::Result<()> {
    let database = database_with(&[&joined()]).await?;
    let client = database.client();
    let task = create(client, "default", "joined", &json!({})).await?;
    let claimed = claim(client, 100).await?;
    let narrow = step(client, task, "narrow").await?.step_uuid;
    assert!(step(client, task, "wide").await?.step_uuid < narrow);
    let (mut holding, process) = holder(&database, &locked(narrow)).await?;
    let finish = completion(named(&claimed, "s1")?, &json!(1));
    let finishing = Running::begin(&database, finish).await?;
    is_blocked_by(database.pool(), finishing.process, process).await?;
    let repair = format!(
        "select tasker.complete_step_manually('{}', '1')",
        named(&claimed, "s0")?.step_uuid
    );
    let repairing = Running::begin(&database, repair).await?;
    is_blocked_by(database.pool(), repairing.process, finishing.process).await?;
    holding.execute("commit").await?;
    assert_eq!(finishing.ended().await?, None);
    assert_eq!(repairing.ended().await?, None);
    let narrow = step(client, task, "narrow").await?;
    assert_eq!(narrow.state, "enqueued");
    verified(client).await
}

/// A task whose two joins are claimed, and its steps.
async fn with_claimed_joins(database: &TestDatabase) -> anyhow::Result<(Uuid, Vec<ClaimedStep>)> {
    let client = database.client();
    let task = create(client, "default", "joined", &json!({})).await?;
    for step in claim(client, 100).await? {
        let completed = completion(&step, &json!(1));
        database.pool().execute(completed.as_str()).await?;
    }
    let joins = claim(client, 100).await?;
    assert_eq!(joins.len(), 2);
    Ok((task, joins))
}

/// Others that want both joins of a task, and how they end when both have been finished.
async fn others(database: &TestDatabase, task: Uuid) -> anyhow::Result<[(String, Code); 3]> {
    let client = database.client();
    let s0 = step(client, task, "s0").await?.step_uuid;
    let mut held = Vec::new();
    for name in ["narrow", "wide"] {
        let step_uuid = step(client, task, name).await?.step_uuid;
        held.push(json!({"step_uuid": step_uuid, "attempt": 1}));
    }
    let refused = Some("TK010".to_owned());
    Ok([
        (
            format!("select tasker.complete_step_manually('{s0}', '1')"),
            refused.clone(),
        ),
        (format!("select tasker.cancel_task('{task}')"), refused),
        (
            format!("select tasker.extend_leases('tester', '{}')", json!(held)),
            None,
        ),
    ])
}

/// Whoever comes first, and whatever the other one wants of the joins.
#[tokio::test]
async fn who_finishes_both_joins_and_who_wants_both_take_the_wide_one_last() -> anyhow::Result<()> {
    for (number, finishes_first) in (0..3).flat_map(|number| [(number, true), (number, false)]) {
        let database = database_with(&[&joined()]).await?;
        let client = database.client();
        let (task, joins) = with_claimed_joins(&database).await?;
        let narrow = step(client, task, "narrow").await?.step_uuid;
        let (other, expected) = others(&database, task).await?[number].clone();
        let finish = finish(&[named(&joins, "narrow")?, named(&joins, "wide")?]);
        let (mut holding, process) = holder(&database, &locked(narrow)).await?;
        let both = if finishes_first {
            [finish, other]
        } else {
            [other, finish]
        };
        let [first, second] = both;
        let first = Running::begin(&database, first).await?;
        is_blocked_by(database.pool(), first.process, process).await?;
        let second = Running::begin(&database, second).await?;
        is_blocked_by(database.pool(), second.process, first.process).await?;
        holding.execute("commit").await?;
        let [finished, other] = {
            let codes = [first.ended().await?, second.ended().await?];
            let [first, second] = codes;
            if finishes_first {
                [first, second]
            } else {
                [second, first]
            }
        };
        assert_eq!(finished, None);
        if finishes_first {
            assert_eq!(other, expected, "{number}");
        } else {
            assert_ne!(other.as_deref(), Some("40P01"), "{number}");
        }
        verified(client).await?;
    }
    Ok(())
}

async fn fail(client: &Client, step: &ClaimedStep) -> anyhow::Result<()> {
    let fail = format!(
        "select tasker.fail_step('{}', {}, '{{\"message\": \"no\"}}', false)",
        step.step_uuid, step.attempt
    );
    client.pool().execute(fail.as_str()).await?;
    Ok(())
}

/// The job wants all steps of both tasks; the worker has a step of the first and a compensation of the second.
#[tokio::test]
async fn compensations_are_taken_before_the_steps_of_templates() -> anyhow::Result<()> {
    let database = database_with(&[TRIP]).await?;
    let client = database.client();
    let first = create(client, "default", "trip", &json!({})).await?;
    let of_first = claim(client, 2).await?;
    create(client, "default", "trip", &json!({})).await?;
    let of_second = claim(client, 2).await?;
    let hotel = completion(named(&of_second, "hotel")?, &json!(1));
    database.pool().execute(hotel.as_str()).await?;
    fail(client, named(&of_second, "pay")?).await?;
    let undo = claim(client, 1).await?.remove(0);
    let filter = BulkFilter {
        template_name: Some("trip".to_owned()),
        ..BulkFilter::default()
    };
    client
        .apply_to_tasks(&filter, BulkAction::Pause, false, None)
        .await?;

    let hotel = step(client, first, "hotel").await?.step_uuid;
    let (mut holding, process) = holder(&database, &locked(hotel)).await?;
    let job = "select tasker.run_maintenance_job('bulk_jobs')".to_owned();
    let pausing = Running::begin(&database, job).await?;
    is_blocked_by(database.pool(), pausing.process, process).await?;
    let finish = finish(&[named(&of_first, "pay")?, &undo]);
    let finishing = Running::begin(&database, finish).await?;
    is_blocked_by(database.pool(), finishing.process, pausing.process).await?;
    holding.execute("commit").await?;
    assert_eq!(pausing.ended().await?, None);
    assert_eq!(finishing.ended().await?, None);
    assert_eq!(step(client, first, "pay").await?.state, "complete");
    verified(client).await
}
