//! Ranges that are exchanged or dropped while others work in them: nobody loses a row, and nobody waits for long.

use std::time::Duration;

use anyhow::{Context, ensure};
use serde_json::{Value, json};
use sqlx::{Executor, PgConnection};
use tasker_tests::TestDatabase;
use tasker_tests::following::{is_blocked_by, process_of, verified};
use tasker_tests::partitions::{have_one_shape, ranges};
use tasker_tests::scenario::refusal;
use tokio::task::JoinHandle;

const TWO: &str = "{name: two, version: 1.0.0, steps: [\
    {name: a, handler: {callable: t}}, {name: b, handler: {callable: t}, dependencies: [a]}]}";
const SECOND_GOES_ON_WITHIN: Duration = Duration::from_secs(10);
/// The day on which the range of the first tasks is due; it begins on 2029-12-27.
const DUE: &str = "2030-02-02";

/// A session whose clock stands at the beginning of a day.
async fn session_on(database: &TestDatabase, day: &str) -> anyhow::Result<PgConnection> {
    let mut session = database.session().await?;
    move_clock(&mut session, &format!("{day} 00:00:00+00")).await?;
    Ok(session)
}

async fn move_clock(session: &mut PgConnection, at: &str) -> anyhow::Result<()> {
    session
        .execute(format!("select tasker._set_now('{at}')").as_str())
        .await?;
    Ok(())
}

async fn value<T>(session: &mut PgConnection, query: &str) -> Result<T, sqlx::Error>
where
    T: Send + Unpin,
    (T,): for<'row> sqlx::FromRow<'row, sqlx::postgres::PgRow>,
{
    sqlx::query_scalar(query).fetch_one(session).await
}

/// A round of maintenance; gives how many ranges it dropped or exchanged.
async fn round(session: &mut PgConnection) -> Result<i64, sqlx::Error> {
    value(
        session,
        "select coalesce(sum(processed), 0)::bigint from tasker.run_maintenance() where job = 'drop_partitions'",
    )
    .await
}

async fn claim(session: &mut PgConnection, count: u32) -> anyhow::Result<Vec<Value>> {
    let query = format!(
        "select jsonb_build_object('step_uuid', c.step_uuid, 'attempt', c.attempt, 'status', 'complete', 'result', 1) \
         from tasker.claim_steps('w', '{{default}}', {count}, '1 day') c"
    );
    Ok(sqlx::query_scalar(&query).fetch_all(session).await?)
}

async fn finish(session: &mut PgConnection, outcomes: &[Value]) -> Result<Value, sqlx::Error> {
    sqlx::query_scalar(
        "select jsonb_path_query_array(verdicts, '$[*].verdict') from tasker.finish_steps('w', $1)",
    )
    .bind(json!(outcomes))
    .fetch_one(session)
    .await
}

/// A finished and a running task in a range that will be due, and the claimed step of the running one. No other range is due.
struct Old {
    database: TestDatabase,
    /// Has worked in the range; its clock stands at the day on which it is due.
    worker: PgConnection,
    finished: String,
    running: String,
    held: Value,
}

impl Old {
    async fn new() -> anyhow::Result<Self> {
        let database = TestDatabase::new().await?;
        let mut worker = session_on(&database, "2030-01-02").await?;
        sqlx::query("select tasker.register_template($1::text)")
            .bind(TWO)
            .execute(&mut worker)
            .await?;
        let create = "select tasker.create_task('two')::text";
        let finished = value(&mut worker, create).await?;
        for _ in 0..2 {
            let held = claim(&mut worker, 1).await?;
            assert_eq!(finish(&mut worker, &held).await?, json!(["accepted"]));
        }
        let running = value(&mut worker, create).await?;
        move_clock(&mut worker, &format!("{DUE} 00:00:00+00")).await?;
        let held = claim(&mut worker, 1).await?.remove(0);
        // The range of the day on which the database was prepared goes now.
        let mut early = session_on(&database, "2030-02-01").await?;
        while round(&mut early).await? > 0 {}
        Ok(Self {
            database,
            worker,
            finished,
            running,
            held,
        })
    }

    async fn maintainer(&self) -> anyhow::Result<PgConnection> {
        session_on(&self.database, DUE).await
    }

    async fn tasks(&self) -> anyhow::Result<Vec<String>> {
        Ok(
            sqlx::query_scalar("select task_uuid::text from tasker.tasks order by 1")
                .fetch_all(self.database.pool())
                .await?,
        )
    }
}

/// Runs a query in a session that has to wait for another one.
async fn waiting(
    database: &TestDatabase,
    holding: &mut PgConnection,
    mut session: PgConnection,
    query: String,
) -> anyhow::Result<JoinHandle<Result<Value, sqlx::Error>>> {
    let (waits, holds) = (process_of(&mut session).await?, process_of(holding).await?);
    let answer = tokio::spawn(async move { value(&mut session, &query).await });
    is_blocked_by(database.pool(), waits, holds).await?;
    Ok(answer)
}

async fn answered(
    answer: JoinHandle<Result<Value, sqlx::Error>>,
) -> anyhow::Result<Result<Value, sqlx::Error>> {
    Ok(tokio::time::timeout(SECOND_GOES_ON_WITHIN, answer).await??)
}

fn finishing(outcome: &Value) -> String {
    format!(
        "select jsonb_path_query_array(verdicts, '$[*].verdict') from tasker.finish_steps('w', '[{outcome}]')"
    )
}

#[tokio::test]
async fn calls_that_meet_an_exchange_wait_and_find_every_row() -> anyhow::Result<()> {
    let old = Old::new().await?;
    let mut maintainer = old.maintainer().await?;
    let running = old.running.clone();
    // One that has plans for the old partitions, one that hasn't, one that reads.
    let fresh = old.maintainer().await?;
    let readers = [old.maintainer().await?, old.maintainer().await?];
    let step = old.held["step_uuid"].clone();
    maintainer.execute("begin").await?;
    assert_eq!(round(&mut maintainer).await?, 1);
    let mut calls = Vec::new();
    for (session, query) in [
        (old.worker, finishing(&old.held)),
        (
            fresh,
            format!(
                "select to_jsonb(verdict) from tasker.extend_leases('w', '[{{\"step_uuid\": {step}, \"attempt\": 1}}]', '1 day')"
            ),
        ),
    ] {
        calls.push(waiting(&old.database, &mut maintainer, session, query).await?);
    }
    let mut reads = Vec::new();
    for (session, read) in readers.into_iter().zip([
        format!("select to_jsonb(t.task_uuid) from tasker.get_task('{running}') t"),
        "select jsonb_agg(t.task_uuid) from tasker.list_tasks() t".to_owned(),
    ]) {
        reads.push(waiting(&old.database, &mut maintainer, session, read).await?);
    }
    maintainer.execute("commit").await?;
    // Their snapshots are older than the tables.
    for read in reads {
        let error = answered(read).await?.err().context("it saw the rows")?;
        assert_eq!(refusal(&error)?.code, "40001");
    }
    let mut answers = Vec::new();
    for call in calls {
        answers.push(answered(call).await??);
    }
    assert_eq!(answers[0], json!(["accepted"]));
    assert!(
        answers[1] == json!("held") || answers[1] == json!("lost"),
        "held before it was finished, lost after: {}",
        answers[1]
    );
    let held = claim(&mut maintainer, 10).await?;
    assert_eq!(finish(&mut maintainer, &held).await?, json!(["accepted"]));
    let state: String = value(
        &mut maintainer,
        &format!("select state from tasker.get_task('{running}')"),
    )
    .await?;
    assert_eq!(state, "complete");
    have_one_shape(&mut maintainer).await?;
    verified(old.database.client()).await
}

#[tokio::test]
async fn an_exchange_that_is_rolled_back_leaves_everything_as_it_was() -> anyhow::Result<()> {
    let mut old = Old::new().await?;
    let mut maintainer = old.maintainer().await?;
    let before = (old.tasks().await?, ranges(&mut maintainer).await?);
    maintainer.execute("begin").await?;
    assert_eq!(round(&mut maintainer).await?, 1);
    let call = waiting(
        &old.database,
        &mut maintainer,
        old.maintainer().await?,
        finishing(&old.held),
    )
    .await?;
    maintainer.execute("rollback").await?;
    assert_eq!(answered(call).await??, json!(["accepted"]));
    assert_eq!((old.tasks().await?, ranges(&mut maintainer).await?), before);
    // The session that was rolled back has nothing of it in mind.
    assert_eq!(claim(&mut maintainer, 1).await?.len(), 1);
    assert_eq!(
        finish(&mut old.worker, &[old.held]).await?,
        json!(["repeated"])
    );
    have_one_shape(&mut maintainer).await?;
    verified(old.database.client()).await
}

#[tokio::test]
async fn who_asks_for_a_step_of_a_range_that_is_just_dropped_is_told_that_there_is_none()
-> anyhow::Result<()> {
    let mut old = Old::new().await?;
    let mut maintainer = old.maintainer().await?;
    assert_eq!(
        finish(&mut old.worker, std::slice::from_ref(&old.held)).await?,
        json!(["accepted"])
    );
    let b = claim(&mut old.worker, 1).await?;
    assert_eq!(finish(&mut old.worker, &b).await?, json!(["accepted"]));
    move_clock(&mut maintainer, "2030-03-10 00:00:00+00").await?;
    maintainer.execute("begin").await?;
    assert_eq!(round(&mut maintainer).await?, 1);
    let calls = [
        waiting(
            &old.database,
            &mut maintainer,
            old.worker,
            finishing(&old.held),
        )
        .await?,
        waiting(
            &old.database,
            &mut maintainer,
            session_on(&old.database, DUE).await?,
            finishing(&old.held),
        )
        .await?,
    ];
    maintainer.execute("commit").await?;
    for call in calls {
        assert_eq!(answered(call).await??, json!(["invalid"]));
    }
    Ok(())
}

/// What a session does in a transaction that it leaves open, and whether the range can go in the meantime.
#[tokio::test]
async fn a_range_that_somebody_uses_waits_for_a_minute_and_the_rest_of_maintenance_goes_on()
-> anyhow::Result<()> {
    let old = Old::new().await?;
    let mut maintainer = old.maintainer().await?;
    let mut user = old.maintainer().await?;
    for (minute, statement) in [
        // Such as a dump.
        "lock table tasker.tasks in access share mode".to_owned(),
        format!("select from tasker.get_task('{}')", old.finished),
        // Such as a repair.
        format!(
            "update tasker.tasks set finished_at = null where task_uuid = '{}'",
            old.finished
        ),
        format!(
            "select from tasker.steps_p20291227_20300103 where tasker._task_of(step_uuid) = '{}' for update",
            old.running
        ),
    ]
    .into_iter()
    .enumerate()
    {
        move_clock(&mut maintainer, &format!("{DUE} 00:0{minute}:00+00")).await?;
        user.execute("begin").await?;
        user.execute(statement.as_str()).await?;
        let jobs: i64 = value(&mut maintainer, "select count(*) from tasker.run_maintenance()").await?;
        assert!(jobs > 3, "{statement}");
        let problem: String = value(&mut maintainer, "select problem from tasker.kept_ranges").await?;
        assert_eq!(problem, "canceling statement due to lock timeout", "{statement}");
        user.execute("rollback").await?;
        assert_eq!(round(&mut maintainer).await?, 0, "within the minute: {statement}");
        assert_eq!(old.tasks().await?.len(), 2, "{statement}");
    }
    move_clock(&mut maintainer, &format!("{DUE} 00:05:00+00")).await?;
    assert_eq!(round(&mut maintainer).await?, 1);
    assert_eq!(old.tasks().await?, [old.running]);
    verified(old.database.client()).await
}

#[tokio::test]
async fn a_transaction_with_an_older_snapshot_lets_nothing_leave() -> anyhow::Result<()> {
    let old = Old::new().await?;
    let mut maintainer = old.maintainer().await?;
    maintainer
        .execute("begin isolation level repeatable read")
        .await?;
    assert_eq!(round(&mut maintainer).await?, 0);
    maintainer.execute("commit").await?;
    assert_eq!(old.tasks().await?.len(), 2);
    assert_eq!(round(&mut maintainer).await?, 1);
    Ok(())
}

#[tokio::test]
async fn a_snapshot_older_than_an_exchange_is_told_to_begin_anew() -> anyhow::Result<()> {
    let old = Old::new().await?;
    let mut maintainer = old.maintainer().await?;
    let mut reader = old.maintainer().await?;
    reader
        .execute("begin isolation level repeatable read; select count(*) from tasker.templates")
        .await?;
    assert_eq!(round(&mut maintainer).await?, 1);
    let read = format!("select state from tasker.get_task('{}')", old.running);
    let error = value::<String>(&mut reader, &read).await.err();
    assert_eq!(refusal(&error.context("it saw the row")?)?.code, "40001");
    reader.execute("rollback").await?;
    assert_eq!(
        value::<String>(&mut reader, &read).await?,
        "steps_in_process"
    );
    Ok(())
}

/// Finishes and claims until it is told that the work is over.
async fn works(
    mut session: PgConnection,
    mut over: tokio::sync::watch::Receiver<bool>,
) -> anyhow::Result<usize> {
    let mut steps = 0;
    loop {
        let is_over = *over.borrow_and_update();
        let held = claim(&mut session, 3).await?;
        // One after the other, so that others have their turn in between.
        for outcome in &held {
            let verdicts = finish(&mut session, std::slice::from_ref(outcome)).await?;
            ensure!(verdicts == json!(["accepted"]), "{verdicts} on {outcome}");
            steps += 1;
        }
        if held.is_empty() && is_over {
            return Ok(steps);
        }
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn no_step_is_lost_while_ranges_are_exchanged_under_workers() -> anyhow::Result<()> {
    const DAYS: [&str; 6] = ["01-01", "01-08", "01-15", "01-22", "01-29", "02-05"];
    const TASKS: usize = 40;
    let database = TestDatabase::new().await?;
    let mut creator = session_on(&database, "2030-01-01").await?;
    sqlx::query("select tasker.register_template($1::text)")
        .bind(TWO)
        .execute(&mut creator)
        .await?;
    for day in DAYS {
        move_clock(&mut creator, &format!("2030-{day} 00:00:00+00")).await?;
        // Some of each week are over at once, so that there is something to let go.
        for _ in 0..3 {
            value::<String>(&mut creator, "select tasker.create_task('two')::text").await?;
            for _ in 0..2 {
                let held = claim(&mut creator, 10).await?;
                finish(&mut creator, &held).await?;
            }
        }
    }
    for day in DAYS {
        move_clock(&mut creator, &format!("2030-{day} 00:00:00+00")).await?;
        let create = format!(
            "select count(*) from tasker.create_tasks((select jsonb_agg('{{\"template_name\": \"two\"}}'::jsonb) from generate_series(1, {TASKS})))"
        );
        value::<i64>(&mut creator, &create).await?;
    }
    // What the workers do now is done long after all ranges have become due.
    let day = "2031-01-01";
    let (say, over) = tokio::sync::watch::channel(false);
    let mut workers = Vec::new();
    for _ in 0..4 {
        workers.push(tokio::spawn(works(
            session_on(&database, day).await?,
            over.clone(),
        )));
    }
    let mut maintainer = session_on(&database, day).await?;
    let mut exchanged = 0;
    // A minute later at each round, so that a range whose locks could not be had is tried again.
    for minute in 0..200 {
        move_clock(
            &mut maintainer,
            &format!("{day} {:02}:{:02}:00+00", minute / 60, minute % 60),
        )
        .await?;
        exchanged += round(&mut maintainer).await?;
    }
    say.send(true)?;
    let mut steps = 0;
    for worker in workers {
        steps += worker.await??;
    }
    assert_eq!(steps, DAYS.len() * TASKS * 2);
    assert!(exchanged >= DAYS.len() as i64, "{exchanged} ranges");
    let states: Value = value(
        &mut maintainer,
        "select jsonb_object_agg(s.state, s.tasks) from (select state, count(*) as tasks from tasker.tasks group by 1) s",
    )
    .await?;
    assert_eq!(states, json!({"complete": DAYS.len() * TASKS}));
    have_one_shape(&mut maintainer).await?;
    verified(database.client()).await
}
