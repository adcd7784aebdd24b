//! Two sessions at the same steps: who comes second waits for the first and then sees what it did. No session waits for a time.

use std::time::Duration;

use serde_json::{Value, json};
use sqlx::{Connection, Executor, PgConnection};
use tasker_client::{ClaimedStep, Definition};
use tasker_tests::following::{create, is_blocked_by, process_of, step, times, verified};
use tasker_tests::races::claim;
use tasker_tests::{TestDatabase, eventually};
use tokio::task::JoinHandle;
use uuid::Uuid;

const DIAMOND: &str = "{name: diamond, version: 1.0.0, steps: [
  {name: a, handler: {callable: t.a}},
  {name: b, handler: {callable: t.a}, dependencies: [a]},
  {name: c, handler: {callable: t.a}, dependencies: [a]},
  {name: d, handler: {callable: t.a}, dependencies: [b, c]}]}";
const CHAIN: &str = "{name: chain, version: 1.0.0, steps: [
  {name: a, handler: {callable: t.a}}, {name: b, handler: {callable: t.a}, dependencies: [a]}]}";
const SECOND_GOES_ON_WITHIN: Duration = Duration::from_secs(10);

/// A session and the server process behind it.
struct Session {
    connection: PgConnection,
    process: i32,
}

impl Session {
    async fn new(database: &TestDatabase) -> anyhow::Result<Self> {
        let mut connection = database.session().await?;
        let process = process_of(&mut connection).await?;
        Ok(Self {
            connection,
            process,
        })
    }

    async fn run(&mut self, sql: &str) -> anyhow::Result<()> {
        self.connection.execute(sqlx::raw_sql(sql)).await?;
        Ok(())
    }

    /// Runs a statement while the test goes on; gives the SQLSTATE of its failure.
    fn begin(mut self, sql: String) -> JoinHandle<Option<String>> {
        tokio::spawn(async move {
            let ran = self.connection.execute(sqlx::raw_sql(&sql)).await;
            let code = ran.err().map(|error| {
                let code = error
                    .as_database_error()
                    .and_then(sqlx::error::DatabaseError::code);
                code.map_or_else(|| error.to_string(), std::borrow::Cow::into_owned)
            });
            let _ = self.connection.close().await;
            code
        })
    }
}

async fn ended(statement: JoinHandle<Option<String>>) -> anyhow::Result<Option<String>> {
    Ok(tokio::time::timeout(SECOND_GOES_ON_WITHIN, statement).await??)
}

fn completion(step: &ClaimedStep) -> String {
    format!(
        "select tasker.complete_step('{}', {}, '1')",
        step.step_uuid, step.attempt
    )
}

/// A database with a task of a template whose step `a` is claimed.
async fn started(template: &str, name: &str) -> anyhow::Result<(TestDatabase, Uuid, ClaimedStep)> {
    let database = TestDatabase::new().await?;
    let client = database.client();
    client
        .register_template(Definition::Yaml(template), None)
        .await?;
    let task_uuid = create(client, "default", name, &json!({})).await?;
    let mut claimed = claim(client, 1).await?;
    Ok((database, task_uuid, claimed.remove(0)))
}

/// A database with a diamond whose two branches are claimed.
async fn two_branches() -> anyhow::Result<(TestDatabase, Uuid, Vec<ClaimedStep>)> {
    let (database, task_uuid, first) = started(DIAMOND, "diamond").await?;
    database.pool().execute(completion(&first).as_str()).await?;
    let branches = claim(database.client(), 5).await?;
    assert_eq!(branches.len(), 2);
    Ok((database, task_uuid, branches))
}

async fn messages_of(database: &TestDatabase, step_uuid: Uuid) -> anyhow::Result<i64> {
    let query =
        "select count(*) from pgmq.q_worker_default_queue where message ->> 'step_uuid' = $1::text";
    let count = sqlx::query_scalar(query)
        .bind(step_uuid)
        .fetch_one(database.pool());
    Ok(count.await?)
}

#[tokio::test]
async fn two_siblings_completed_at_once_enqueue_their_join_once_and_the_second_waits_for_the_first()
-> anyhow::Result<()> {
    let (database, task_uuid, branches) = two_branches().await?;
    let client = database.client();
    let (mut first, second) = (
        Session::new(&database).await?,
        Session::new(&database).await?,
    );
    let waiting = second.process;
    first.run("begin").await?;
    first.run(&completion(&branches[0])).await?;
    let second = second.begin(completion(&branches[1]));
    is_blocked_by(database.pool(), waiting, first.process).await?;
    assert_eq!(step(client, task_uuid, "d").await?.state, "pending");
    first.run("commit").await?;
    assert_eq!(ended(second).await?, None);

    let join = step(client, task_uuid, "d").await?;
    assert_eq!(
        (join.state.as_str(), join.remaining_dependencies),
        ("enqueued", 0)
    );
    assert_eq!(messages_of(&database, join.step_uuid).await?, 1);
    let history = client.step_history(join.step_uuid).await?;
    assert_eq!(times(&history, "enqueue"), 1);
    verified(client).await
}

#[tokio::test]
async fn a_join_is_not_enqueued_when_the_first_of_two_completions_rolls_back() -> anyhow::Result<()>
{
    let (database, task_uuid, branches) = two_branches().await?;
    let client = database.client();
    let (mut first, second) = (
        Session::new(&database).await?,
        Session::new(&database).await?,
    );
    let waiting = second.process;
    first.run("begin").await?;
    first.run(&completion(&branches[0])).await?;
    let second = second.begin(completion(&branches[1]));
    is_blocked_by(database.pool(), waiting, first.process).await?;
    first.run("rollback").await?;
    assert_eq!(ended(second).await?, None);

    let join = step(client, task_uuid, "d").await?;
    assert_eq!(
        (join.state.as_str(), join.remaining_dependencies),
        ("pending", 1)
    );
    assert_eq!(messages_of(&database, join.step_uuid).await?, 0);
    database
        .pool()
        .execute(completion(&branches[0]).as_str())
        .await?;
    assert_eq!(step(client, task_uuid, "d").await?.state, "enqueued");
    verified(client).await
}

#[tokio::test]
async fn an_outcome_given_twice_at_once_counts_once() -> anyhow::Result<()> {
    let (database, task_uuid, first_step) = started(CHAIN, "chain").await?;
    let client = database.client();
    let (mut first, second) = (
        Session::new(&database).await?,
        Session::new(&database).await?,
    );
    let waiting = second.process;
    first.run("begin").await?;
    first.run(&completion(&first_step)).await?;
    let second = second.begin(completion(&first_step));
    is_blocked_by(database.pool(), waiting, first.process).await?;
    first.run("commit").await?;
    assert_eq!(
        ended(second).await?,
        None,
        "the same outcome again is harmless"
    );
    let history = client.step_history(first_step.step_uuid).await?;
    assert_eq!(times(&history, "complete"), 1);
    assert_eq!(
        step(client, task_uuid, "b").await?.remaining_dependencies,
        0
    );
    verified(client).await
}

#[tokio::test]
async fn a_cancellation_waits_for_a_completion_and_cancels_what_it_made_ready() -> anyhow::Result<()>
{
    let (database, task_uuid, claimed) = started(CHAIN, "chain").await?;
    let client = database.client();
    let (mut first, second) = (
        Session::new(&database).await?,
        Session::new(&database).await?,
    );
    let waiting = second.process;
    first.run("begin").await?;
    first.run(&completion(&claimed)).await?;
    let second = second.begin(format!(
        "select tasker.cancel_task('{task_uuid}', 'enough')"
    ));
    is_blocked_by(database.pool(), waiting, first.process).await?;
    first.run("commit").await?;
    assert_eq!(ended(second).await?, None);
    assert_eq!(client.get_task(task_uuid).await?.state, "cancelled");
    assert_eq!(step(client, task_uuid, "a").await?.state, "complete");
    assert_eq!(step(client, task_uuid, "b").await?.state, "cancelled");
    assert_eq!(claim(client, 5).await?.len(), 0);
    verified(client).await
}

#[tokio::test]
async fn a_completion_waits_for_a_cancellation_and_is_refused() -> anyhow::Result<()> {
    let (database, task_uuid, claimed) = started(CHAIN, "chain").await?;
    let client = database.client();
    let (mut first, second) = (
        Session::new(&database).await?,
        Session::new(&database).await?,
    );
    let waiting = second.process;
    first.run("begin").await?;
    first
        .run(&format!("select tasker.cancel_task('{task_uuid}')"))
        .await?;
    let second = second.begin(completion(&claimed));
    is_blocked_by(database.pool(), waiting, first.process).await?;
    first.run("commit").await?;
    assert_eq!(ended(second).await?.as_deref(), Some("TK012"));
    assert_eq!(step(client, task_uuid, "a").await?.state, "cancelled");
    assert!(step(client, task_uuid, "a").await?.result.is_none());
    verified(client).await
}

#[tokio::test]
async fn a_completion_goes_on_when_the_cancellation_before_it_rolls_back() -> anyhow::Result<()> {
    let (database, task_uuid, claimed) = started(CHAIN, "chain").await?;
    let client = database.client();
    let (mut first, second) = (
        Session::new(&database).await?,
        Session::new(&database).await?,
    );
    let waiting = second.process;
    first.run("begin").await?;
    first
        .run(&format!("select tasker.cancel_task('{task_uuid}')"))
        .await?;
    let second = second.begin(completion(&claimed));
    is_blocked_by(database.pool(), waiting, first.process).await?;
    first.run("rollback").await?;
    assert_eq!(ended(second).await?, None);
    assert_eq!(step(client, task_uuid, "b").await?.state, "enqueued");
    verified(client).await
}

#[tokio::test]
async fn a_cancellation_that_waited_for_the_last_completion_is_refused() -> anyhow::Result<()> {
    let (database, task_uuid, claimed) = started(CHAIN, "chain").await?;
    let client = database.client();
    database
        .pool()
        .execute(completion(&claimed).as_str())
        .await?;
    let last = claim(client, 1).await?.remove(0);
    let (mut first, second) = (
        Session::new(&database).await?,
        Session::new(&database).await?,
    );
    let waiting = second.process;
    first.run("begin").await?;
    first.run(&completion(&last)).await?;
    let second = second.begin(format!("select tasker.cancel_task('{task_uuid}')"));
    is_blocked_by(database.pool(), waiting, first.process).await?;
    first.run("commit").await?;
    assert_eq!(ended(second).await?.as_deref(), Some("TK010"));
    assert_eq!(client.get_task(task_uuid).await?.state, "complete");
    verified(client).await
}

#[tokio::test]
async fn of_two_cancellations_at_once_one_cancels() -> anyhow::Result<()> {
    let (database, task_uuid, _) = started(DIAMOND, "diamond").await?;
    let client = database.client();
    let (one, other) = tokio::join!(
        client.cancel_task(task_uuid, Some("one")),
        client.cancel_task(task_uuid, Some("other"))
    );
    assert!(one? ^ other?, "exactly one of them did it");
    let history = client.task_history(task_uuid).await?;
    assert_eq!(times(&history, "cancel"), 1);
    verified(client).await
}

#[tokio::test]
async fn a_second_maintenance_leaves_it_to_the_first() -> anyhow::Result<()> {
    let (database, _, _) = started(CHAIN, "chain").await?;
    let mut first = Session::new(&database).await?;
    first.run("begin").await?;
    first.run("select * from tasker.run_maintenance()").await?;
    assert_eq!(database.client().run_maintenance(10).await?, []);
    first.run("rollback").await?;
    assert!(!database.client().run_maintenance(10).await?.is_empty());
    Ok(())
}

#[tokio::test]
async fn maintenance_does_not_wait_for_a_step_that_another_session_holds() -> anyhow::Result<()> {
    let (database, _, claimed) = started(CHAIN, "chain").await?;
    let client = database.client();
    let mut first = Session::new(&database).await?;
    first.run("begin").await?;
    first.run(&completion(&claimed)).await?;
    let mut second = Session::new(&database).await?;
    let impatient = "set lock_timeout = '1ms'; select tasker._set_now(now() + interval '1 day'); \
         select * from tasker.run_maintenance()";
    second.run(impatient).await?;
    first.run("commit").await?;
    let state: Value = eventually("the step is complete", SECOND_GOES_ON_WITHIN, async || {
        let step = client.get_step(claimed.step_uuid).await?;
        Ok((step.state == "complete").then(|| json!(step.state)))
    })
    .await?;
    assert_eq!(state, json!("complete"));
    verified(client).await
}

/// Makes a call, and makes it again before the first one has committed; gives the code that the second ends with.
async fn repeated_meanwhile(database: &TestDatabase, call: &str) -> anyhow::Result<Option<String>> {
    let (mut first, second) = (Session::new(database).await?, Session::new(database).await?);
    let waiting = second.process;
    first.run("begin").await?;
    first.run(call).await?;
    let second = second.begin(call.to_owned());
    is_blocked_by(database.pool(), waiting, first.process).await?;
    first.run("commit").await?;
    ended(second).await
}

/// A worker that gave up waiting asks again with the same `request_id` while its first call is still under way.
#[tokio::test]
async fn a_request_repeated_while_it_is_answered_waits_and_gets_the_answer() -> anyhow::Result<()> {
    let (database, task_uuid, first_step) = started(CHAIN, "chain").await?;
    let client = database.client();
    let outcome = json!([{"step_uuid": first_step.step_uuid, "attempt": first_step.attempt, "status": "complete", "result": 1}]);
    let call = format!(
        "select verdicts, to_jsonb(claimed) from tasker.finish_steps('tester', '{outcome}', 1, namespaces => '{{default}}', request_id => '{}')",
        Uuid::from_u128(7)
    );
    assert_eq!(repeated_meanwhile(&database, &call).await?, None);

    let (verdicts, claimed): (Value, Value) =
        sqlx::query_as(&call).fetch_one(database.pool()).await?;
    assert_eq!(verdicts[0]["verdict"], "accepted");
    assert_eq!(claimed[0]["step_name"], "b");
    assert_eq!(step(client, task_uuid, "b").await?.attempt, 1);
    verified(client).await
}

/// Without an outcome nothing tells the second call that it is a repetition, until it comes to keep its answer.
#[tokio::test]
async fn a_claim_repeated_while_it_is_answered_is_told_to_come_again_and_gets_the_answer()
-> anyhow::Result<()> {
    let (database, task_uuid, first_step) = started(CHAIN, "chain").await?;
    let client = database.client();
    sqlx::query("select tasker.create_task('chain', 'default') from generate_series(1, 2)")
        .execute(database.pool())
        .await?;
    let call = format!(
        "select verdicts, to_jsonb(claimed) from tasker.finish_steps('tester', '[]', 1, namespaces => '{{default}}', request_id => '{}')",
        Uuid::from_u128(8)
    );
    let repeated = repeated_meanwhile(&database, &call).await?;
    assert_eq!(repeated.as_deref(), Some("40001"));

    let (verdicts, claimed): (Value, Value) =
        sqlx::query_as(&call).fetch_one(database.pool()).await?;
    assert_eq!(verdicts, json!([]));
    assert_eq!(claimed[0]["step_name"], first_step.step_name.as_str());
    assert_ne!(claimed[0]["task_uuid"], json!(task_uuid));
    verified(client).await
}
