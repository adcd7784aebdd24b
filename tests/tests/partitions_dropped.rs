//! Old work leaves by its partitions being dropped: its keys are not found from then on, also by a session that had worked there, and everything else goes on.

use serde_json::{Value, json};
use sqlx::Executor;
use tasker_tests::Scenario;
use tasker_tests::partitions::{self, Range, drop_range};
use tasker_tests::scenario::{done, key, quoted};

const TWO: &str = "{name: two, version: 1.0.0, steps: [\
    {name: a, handler: {callable: t}}, {name: b, handler: {callable: t}, dependencies: [a]}]}";
const DAY: i64 = 24 * 60 * 60 * 1000;
const LATER: i64 = 30 * DAY;

/// A session that has worked on tasks of two ranges, and goes on after those of the first have been dropped.
struct Worked {
    sql: Scenario,
    /// Done, in the first range.
    finished: String,
    /// A step of it.
    step: String,
    /// Of the second range, with its first step claimed.
    running: Value,
}

fn range(starts_on: &str, ends_on: &str) -> Range {
    Range {
        starts_on: starts_on.to_owned(),
        ends_on: ends_on.to_owned(),
    }
}

/// The range in which the clock begins.
fn first_range() -> Range {
    range("2029-12-27", "2030-01-03")
}

impl Worked {
    /// The session is in no transaction.
    async fn new() -> anyhow::Result<Self> {
        let mut sql = Scenario::new().await?;
        sql.register(TWO).await?;
        let finished = sql.create("'two', idempotency_key => 'once'").await?;
        let a = sql.claim_one().await?;
        sql.complete(&a, json!(1)).await?;
        let b = sql.claim_one().await?;
        sql.complete(&b, json!(1)).await?;
        assert_eq!(sql.task_state(&finished).await?, "complete");
        // What reads and what cancels has its plans as well.
        for (call, _) in calls(&finished, key(&b)) {
            sql.run("savepoint before_it").await?;
            let _ = sql.session().execute(sqlx::raw_sql(&call)).await;
            sql.run("rollback to before_it").await?;
        }
        sql.clock(LATER).await?;
        sql.create("'two'").await?;
        let running = sql.claim_one().await?;
        sql.run("commit").await?;
        Ok(Self {
            step: key(&b).to_owned(),
            sql,
            finished,
            running,
        })
    }

    /// Drops the first range in another session.
    async fn drop_first_range(&self) -> anyhow::Result<()> {
        let mut other = self.sql.database().session().await?;
        drop_range(&mut other, &first_range()).await
    }
}

/// What is done with the keys of a task and a step that are no more, and what is answered.
fn calls(task: &str, step: &str) -> [(String, &'static str); 11] {
    let error = "'{\"message\": \"m\"}'";
    [
        (format!("select * from tasker.get_task('{task}')"), "TK001"),
        (
            format!("select * from tasker.list_steps('{task}')"),
            "TK001",
        ),
        (
            format!("select * from tasker.task_history('{task}')"),
            "TK001",
        ),
        (
            format!("select * from tasker.task_graph('{task}')"),
            "TK001",
        ),
        (format!("select * from tasker.verify('{task}')"), "TK001"),
        (format!("select tasker.cancel_task('{task}')"), "TK001"),
        (format!("select * from tasker.get_step('{step}')"), "TK002"),
        (
            format!("select * from tasker.step_history('{step}')"),
            "TK002",
        ),
        (
            format!("select tasker.complete_step('{step}', 1, '1')"),
            "TK002",
        ),
        (
            format!("select tasker.fail_step('{step}', 1, {error})"),
            "TK002",
        ),
        (
            format!("select tasker.fail_step('{step}', 1, {error}, retryable => false)"),
            "TK002",
        ),
    ]
}

/// The session answers as if there had never been such a task, and the rest goes on.
async fn the_rest_works(worked: &mut Worked) -> anyhow::Result<()> {
    let Worked {
        sql,
        finished,
        step,
        running,
    } = worked;
    sql.run("begin").await?;
    for (call, code) in calls(finished, step) {
        assert_eq!(sql.refused(&call).await?.code, code, "{call}");
    }
    let gone = json!({"step_uuid": step, "attempt": 1});
    let extended: Vec<Value> = sql
        .rows(&format!(
            "select step_uuid, verdict from tasker.extend_leases('w', {})",
            quoted(&json!([gone, running]))
        ))
        .await?;
    assert_eq!(
        extended,
        [
            json!({"step_uuid": step, "verdict": "lost"}),
            json!({"step_uuid": running["step_uuid"], "verdict": "held"})
        ]
    );
    let answer = sql
        .finish(
            "w",
            json!([done(&gone, json!(1)), done(running, json!(1))]),
            10,
        )
        .await?;
    assert_eq!(answer.words(), ["invalid", "accepted"]);
    assert_eq!(answer.verdicts[0]["code"], "TK002");
    assert_eq!(answer.names(), ["b"]);
    sql.complete(&answer.claimed[0], json!(1)).await?;
    let states: Vec<Value> = sql.rows("select state from tasker.list_tasks()").await?;
    assert_eq!(states, [json!({"state": "complete"})]);
    sql.run("select * from tasker.run_maintenance()").await?;
    sql.verify().await?;
    sql.run("commit").await
}

#[tokio::test]
async fn a_session_that_had_worked_in_dropped_partitions_finds_nothing_there() -> anyhow::Result<()>
{
    let mut worked = Worked::new().await?;
    worked.drop_first_range().await?;
    the_rest_works(&mut worked).await
}

#[tokio::test]
async fn a_session_that_never_worked_in_dropped_partitions_finds_nothing_there()
-> anyhow::Result<()> {
    let mut worked = Worked::new().await?;
    worked.drop_first_range().await?;
    let new = worked.sql.database().session().await?;
    *worked.sql.session() = new;
    worked.sql.clock(LATER).await?;
    the_rest_works(&mut worked).await
}

#[tokio::test]
async fn a_span_whose_partitions_were_dropped_gets_new_ones_for_new_tasks() -> anyhow::Result<()> {
    let mut worked = Worked::new().await?;
    let second = worked.running.clone();
    // By the name that the session has plans for, then by another.
    for (range, days) in [
        (first_range(), 7),
        (range("2030-01-01", "2030-01-02"), 1),
        (first_range(), 7),
    ] {
        let mut other = worked.sql.database().session().await?;
        for existing in partitions::ranges(&mut other).await? {
            if existing.starts_on.as_str() < "2030-01-03" && existing.ends_on.as_str() > "2030" {
                drop_range(&mut other, &existing).await?;
            }
        }
        let sql = &mut worked.sql;
        sql.run(&format!("begin; set local tasker.partition_days = {days}"))
            .await?;
        sql.clock(0).await?;
        let task = sql.create("'two'").await?;
        let partition: String = sql
            .value("select tableoid::regclass::text from tasker.steps order by step_uuid limit 1")
            .await?;
        assert_eq!(partition, format!("tasker.steps_{}", range.suffix()));
        for _ in 0..2 {
            let step = sql.claim_one().await?;
            assert_eq!(step["task_uuid"], json!(task));
            sql.complete(&step, json!(1)).await?;
        }
        assert_eq!(sql.task_state(&task).await?, "complete");
        sql.verify().await?;
        sql.run("commit").await?;
    }
    worked.sql.run("begin").await?;
    worked.sql.complete(&second, json!(1)).await
}

#[tokio::test]
async fn messages_of_steps_in_dropped_partitions_are_cleared_away_by_claims() -> anyhow::Result<()>
{
    let mut worked = Worked::new().await?;
    let sql = &mut worked.sql;
    sql.run("begin").await?;
    sql.clock(DAY).await?;
    for _ in 0..3 {
        sql.create("'two'").await?;
    }
    sql.clock(LATER).await?;
    let held = sql.claim("w", 1).await?;
    assert_eq!(held.len(), 1);
    sql.create("'two'").await?;
    sql.run("commit").await?;
    worked.drop_first_range().await?;

    let sql = &mut worked.sql;
    sql.run("begin").await?;
    let answer = sql
        .finish("w", json!([done(&held[0], json!(1))]), 1)
        .await?;
    assert_eq!(answer.words(), ["invalid"]);
    let mut claimed = answer.claimed;
    // A minute on, the leases of what was held have ended: its message is met as well.
    sql.clock(LATER + 60_000).await?;
    for _ in 0..3 {
        claimed.extend(sql.claim("w", 10).await?);
    }
    // What was created later, and what was running, of which the lease has ended.
    let mut of_tasks: Vec<Value> = claimed
        .iter()
        .map(|step| json!({"task_uuid": step["task_uuid"]}))
        .collect();
    of_tasks.sort_by_key(ToString::to_string);
    let left = sql.rows("select task_uuid from tasker.tasks order by 1");
    assert_eq!(of_tasks, left.await?);
    assert_eq!(of_tasks.len(), 2);
    let messages: i64 = sql
        .value("select count(*) from pgmq.q_worker_default_queue")
        .await?;
    assert_eq!(messages, 2);
    sql.run("select * from tasker.run_maintenance()").await?;
    sql.verify().await
}
