//! NOTIFY `tasker_events`: sent to who asked for it and for nobody else, and no wish is granted that a writer under way doesn't know of.

use sqlx::postgres::PgListener;
use sqlx::{Connection, Executor, PgConnection};
use tasker_tests::TestDatabase;

const CHAIN: &str = "{name: chain, version: 1.0.0, steps: [{name: a, handler: {callable: t.a}}, {name: b, handler: {callable: t.b}, dependencies: [a]}]}";
const CHANNEL: &str = "tasker_events";

/// A database with a template, a session that listens and may ask, and one that writes.
struct Stage {
    database: TestDatabase,
    reader: PgListener,
    writer: PgConnection,
}

impl Stage {
    async fn new() -> anyhow::Result<Self> {
        let database = TestDatabase::new().await?;
        let mut writer = database.session().await?;
        sqlx::query("select tasker.register_template($1::text)")
            .bind(CHAIN)
            .execute(&mut writer)
            .await?;
        let mut reader = PgListener::connect(database.url()).await?;
        reader.listen(CHANNEL).await?;
        Ok(Self {
            database,
            reader,
            writer,
        })
    }

    async fn ask(&mut self, awaits: bool) -> anyhow::Result<bool> {
        Ok(sqlx::query_scalar("select tasker.await_events($1)")
            .bind(awaits)
            .fetch_one(&mut self.reader)
            .await?)
    }

    async fn write(&mut self, sql: &str) -> anyhow::Result<()> {
        self.writer.execute(sql).await?;
        Ok(())
    }

    /// How many notices have been sent so far: one that comes after them all is the last.
    async fn notices(&mut self) -> anyhow::Result<usize> {
        let mut session = self.database.session().await?;
        session
            .execute("select pg_notify('tasker_events', 'last')")
            .await?;
        let mut count = 0;
        while self.reader.recv().await?.payload() != "last" {
            count += 1;
        }
        Ok(count)
    }
}

#[tokio::test]
async fn nobody_is_notified_who_hasn_t_asked() -> anyhow::Result<()> {
    let mut stage = Stage::new().await?;
    stage.write("select tasker.create_task('chain')").await?;
    assert_eq!(stage.notices().await?, 0);
    assert!(!stage.ask(false).await?, "it had not asked");
    Ok(())
}

#[tokio::test]
async fn who_has_asked_is_notified_once_a_transaction_until_it_declines() -> anyhow::Result<()> {
    let mut stage = Stage::new().await?;
    assert!(stage.ask(true).await?);
    assert!(stage.ask(true).await?, "asked twice is asked");
    stage
        .write("begin; select tasker.create_task('chain'); savepoint s; select tasker.create_task('chain'); rollback to s; select tasker.create_task('chain'); commit")
        .await?;
    assert_eq!(stage.notices().await?, 1);
    stage
        .write("begin; select tasker.create_task('chain'); rollback")
        .await?;
    assert_eq!(stage.notices().await?, 0);
    assert!(!stage.ask(false).await?, "once is enough to decline");
    stage.write("select tasker.create_task('chain')").await?;
    assert_eq!(stage.notices().await?, 0);
    Ok(())
}

#[tokio::test]
async fn every_kind_of_change_is_announced() -> anyhow::Result<()> {
    let mut stage = Stage::new().await?;
    stage
        .write("select tasker.create_task('chain', idempotency_key => 'k')")
        .await?;
    assert!(stage.ask(true).await?);
    for change in [
        "select tasker.claim_steps('w', '{default}')",
        "select tasker.finish_steps('w', (select jsonb_agg(jsonb_build_object('step_uuid', s.step_uuid, 'attempt', s.attempt, 'status', 'complete', 'result', 1)) \
         from tasker.steps s where s.state = 'in_progress'))",
        "select tasker.cancel_task(t.task_uuid, 'enough') from tasker.tasks t where t.state <> 'cancelled'",
        "select tasker.rerun_task(t.task_uuid) from tasker.tasks t",
    ] {
        stage.write(change).await?;
        assert_eq!(stage.notices().await?, 1, "{change}");
    }
    Ok(())
}

#[tokio::test]
async fn a_wish_is_granted_when_nobody_is_left_who_writes_without_knowing_of_it()
-> anyhow::Result<()> {
    let mut stage = Stage::new().await?;
    stage
        .write("begin; select tasker.create_task('chain')")
        .await?;
    assert!(!stage.ask(true).await?);
    // Another one that begins now holds it up as well, and waits for nobody.
    let mut other = stage.database.session().await?;
    other
        .execute("begin; select tasker.create_task('chain')")
        .await?;
    stage.write("commit").await?;
    assert!(!stage.ask(true).await?);
    other.execute("commit").await?;
    assert!(stage.ask(true).await?);
    assert_eq!(stage.notices().await?, 0);
    Ok(())
}

#[tokio::test]
async fn a_wish_ends_with_its_session() -> anyhow::Result<()> {
    let mut stage = Stage::new().await?;
    let mut another = stage.database.session().await?;
    another.execute("select tasker.await_events()").await?;
    stage.write("select tasker.create_task('chain')").await?;
    assert_eq!(stage.notices().await?, 1);
    another.close().await?;
    let query = "select count(*) from pg_locks l where l.locktype = 'advisory' \
        and l.database = (select d.oid from pg_database d where d.datname = current_database())";
    tasker_tests::eventually(
        "its lock is gone",
        std::time::Duration::from_secs(20),
        async || {
            let held: i64 = sqlx::query_scalar(query)
                .fetch_one(stage.database.pool())
                .await?;
            Ok((held == 0).then_some(()))
        },
    )
    .await?;
    stage.write("select tasker.create_task('chain')").await?;
    assert_eq!(stage.notices().await?, 0);
    Ok(())
}

#[tokio::test]
async fn a_session_that_keeps_silent_sends_none() -> anyhow::Result<()> {
    let mut stage = Stage::new().await?;
    assert!(stage.ask(true).await?);
    stage
        .write("set tasker.notify = off; select tasker.create_task('chain')")
        .await?;
    assert_eq!(stage.notices().await?, 0);
    Ok(())
}

#[tokio::test]
async fn a_reader_s_role_may_ask_and_a_worker_s_not() -> anyhow::Result<()> {
    let stage = Stage::new().await?;
    let mut session = stage.database.session().await?;
    session.execute("set role tasker_reader").await?;
    let is_granted: bool = sqlx::query_scalar("select tasker.await_events()")
        .fetch_one(&mut session)
        .await?;
    assert!(is_granted);
    session.execute("set role tasker_worker").await?;
    let refused = session.execute("select tasker.await_events()").await;
    assert!(refused.is_err());
    Ok(())
}
