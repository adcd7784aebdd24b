//! Many sessions at one backlog: each step goes to one of them, and none waits for another.

use std::collections::HashSet;
use std::time::Duration;

use serde_json::json;
use sqlx::{Executor, PgConnection};
use tasker_client::{ClaimRequest, Client, Definition, NewTask};
use tasker_tests::TestDatabase;
use tasker_tests::following::verified;
use uuid::Uuid;

const ONE: &str = "{name: one, version: 1.0.0, steps: [{name: a, handler: {callable: t.a}, retry: {backoff: none}}]}";
const SESSIONS: usize = 8;
const TASKS: usize = 400;

async fn backlog(tasks: usize) -> anyhow::Result<TestDatabase> {
    let database = TestDatabase::new().await?;
    let client = database.client();
    client
        .register_template(Definition::Yaml(ONE), None)
        .await?;
    let task = NewTask {
        template_name: "one".to_owned(),
        ..NewTask::default()
    };
    client.create_tasks(&vec![task; tasks]).await?;
    Ok(database)
}

/// Claims by a session of its own, where waiting for a lock is an error at once.
async fn claim(session: &mut PgConnection, max_steps: i32) -> anyhow::Result<Vec<Uuid>> {
    let query = "select step_uuid from tasker.claim_steps('tester', '{default}', $1)";
    let claimed = sqlx::query_scalar(query).bind(max_steps).fetch_all(session);
    Ok(claimed.await?)
}

async fn impatient(database: &TestDatabase) -> anyhow::Result<PgConnection> {
    let mut session = database.session().await?;
    session.execute("set lock_timeout = '1ms'").await?;
    Ok(session)
}

async fn claim_until_nothing_is_left(client: Client, worker: usize) -> anyhow::Result<Vec<Uuid>> {
    let request = ClaimRequest {
        worker_id: format!("worker-{worker}"),
        namespaces: vec!["default".to_owned()],
        max_steps: 7,
        lease: Duration::from_mins(10),
        handlers: None,
    };
    let mut claimed = Vec::new();
    loop {
        let steps = client.claim_steps(&request).await?;
        claimed.extend(steps.iter().map(|step| step.step_uuid));
        // What another session had locked a moment ago may be to be had now.
        if steps.is_empty()
            && client.work_due_in(&request.namespaces, None).await? != Some(Duration::ZERO)
        {
            return Ok(claimed);
        }
    }
}

#[tokio::test]
async fn every_step_of_a_backlog_is_claimed_by_exactly_one_of_many_sessions() -> anyhow::Result<()>
{
    let database = backlog(TASKS).await?;
    let workers: Vec<_> = (0..SESSIONS)
        .map(|worker| {
            tokio::spawn(claim_until_nothing_is_left(
                database.client().clone(),
                worker,
            ))
        })
        .collect();
    let mut all = Vec::new();
    for worker in workers {
        all.extend(worker.await??);
    }
    let different: HashSet<_> = all.iter().collect();
    assert_eq!((all.len(), different.len()), (TASKS, TASKS));
    verified(database.client()).await
}

#[tokio::test]
async fn a_claim_takes_at_once_what_an_open_claim_has_left() -> anyhow::Result<()> {
    let database = backlog(20).await?;
    let (mut first, mut second) = (impatient(&database).await?, impatient(&database).await?);
    first.execute("begin").await?;
    let of_first = claim(&mut first, 8).await?;
    let of_second = claim(&mut second, 50).await?;
    assert_eq!((of_first.len(), of_second.len()), (8, 12));
    assert!(of_first.iter().all(|step| !of_second.contains(step)));
    assert!(claim(&mut second, 50).await?.is_empty());

    first.execute("rollback").await?;
    assert_eq!(
        claim(&mut second, 50).await?.len(),
        8,
        "what was given up is to be had at once"
    );
    verified(database.client()).await
}

#[tokio::test]
async fn a_claim_passes_by_steps_that_are_locked_and_they_are_claimed_when_free()
-> anyhow::Result<()> {
    let database = backlog(10).await?;
    let (mut first, mut second) = (database.session().await?, impatient(&database).await?);
    first.execute("begin").await?;
    let locked: Vec<Uuid> = sqlx::query_scalar(
        "select step_uuid from tasker.steps order by step_uuid limit 4 for update",
    )
    .fetch_all(&mut first)
    .await?;
    let claimed = claim(&mut second, 50).await?;
    assert_eq!(claimed.len(), 6);
    assert!(locked.iter().all(|step| !claimed.contains(step)));
    first.execute("rollback").await?;
    let mut rest = claim(&mut second, 50).await?;
    rest.sort();
    assert_eq!(rest, locked);
    verified(database.client()).await
}

#[tokio::test]
async fn a_claim_passes_by_messages_and_tasks_that_are_locked() -> anyhow::Result<()> {
    let database = backlog(10).await?;
    let (mut first, mut second) = (database.session().await?, impatient(&database).await?);
    first.execute("begin").await?;
    first
        .execute("select from pgmq.q_worker_default_queue order by msg_id limit 3 for update")
        .await?;
    first
        .execute("select from tasker.tasks for no key update")
        .await?;
    assert_eq!(
        claim(&mut second, 50).await?.len(),
        7,
        "the tasks' rows aren't needed for a first claim"
    );
    first.execute("rollback").await?;
    assert_eq!(claim(&mut second, 50).await?.len(), 3);
    verified(database.client()).await
}

#[tokio::test]
async fn a_retry_whose_task_is_locked_is_left_for_the_next_claim() -> anyhow::Result<()> {
    let database = TestDatabase::new().await?;
    let client = database.client();
    let retried = "{name: one, version: 1.0.0, steps: [{name: a, handler: {callable: t.a}, retry: {backoff: linear, backoff_base_ms: 1000, jitter: 0}}]}";
    client
        .register_template(Definition::Yaml(retried), None)
        .await?;
    let mut second = impatient(&database).await?;
    second.execute("select tasker.create_task('one')").await?;
    let step = claim(&mut second, 1).await?[0];
    let fail = sqlx::query("select tasker.fail_step($1, 1, $2)")
        .bind(step)
        .bind(json!({"message": "no"}));
    fail.execute(&mut second).await?;
    second
        .execute("select tasker._set_now(now() + interval '1 minute')")
        .await?;

    let mut first = database.session().await?;
    first.execute("begin").await?;
    first
        .execute("select from tasker.tasks for no key update")
        .await?;
    assert!(claim(&mut second, 5).await?.is_empty());
    first.execute("rollback").await?;
    assert_eq!(claim(&mut second, 5).await?, [step]);
    verified(client).await
}

#[tokio::test]
async fn two_claims_that_meet_an_ended_lease_take_it_over_once() -> anyhow::Result<()> {
    let database = backlog(50).await?;
    let mut dead = database.session().await?;
    assert_eq!(claim(&mut dead, 50).await?.len(), 50);
    let (mut first, mut second) = (impatient(&database).await?, impatient(&database).await?);
    for session in [&mut first, &mut second] {
        session
            .execute("select tasker._set_now(now() + interval '1 minute')")
            .await?;
    }
    let (one, other) = tokio::join!(claim(&mut first, 50), claim(&mut second, 50));
    let mut all = [one?, other?].concat();
    all.extend(claim(&mut first, 50).await?);
    let different: HashSet<_> = all.iter().collect();
    assert_eq!((all.len(), different.len()), (50, 50));
    let attempts: Vec<i32> = sqlx::query_scalar("select distinct attempt from tasker.steps")
        .fetch_all(&mut first)
        .await?;
    assert_eq!(attempts, [2]);
    Ok(())
}

/// Maintenance that sends a lost message again is still in its transaction: the steps whose messages are there can be claimed meanwhile.
#[tokio::test]
async fn maintenance_holds_no_step_but_the_one_whose_message_was_lost() -> anyhow::Result<()> {
    let database = backlog(5).await?;
    let (mut keeper, mut session) = (database.session().await?, impatient(&database).await?);
    database
        .pool()
        .execute("delete from pgmq.q_worker_default_queue where msg_id = 3")
        .await?;
    keeper.execute("begin").await?;
    let sent_again: i64 = sqlx::query_scalar(
        "select processed from tasker.run_maintenance() where job = 'send_lost_messages'",
    )
    .fetch_one(&mut keeper)
    .await?;
    assert_eq!(sent_again, 1);
    assert_eq!(claim(&mut session, 5).await?.len(), 4);
    keeper.execute("commit").await?;
    assert_eq!(claim(&mut session, 5).await?.len(), 1);
    verified(database.client()).await
}
