//! The extension's background workers: maintenance that nobody calls, in each database named, through crashes, errors, and databases that come and go.

use std::time::{Duration, Instant};

use anyhow::Context;
use serde_json::Value;
use sqlx::{Connection, Executor, PgConnection};
use tasker_tests::{
    OwnCluster, Server, Signal, StopMode, TestDatabase, bin_dir, eventually, signal,
};

const WITHIN: Duration = Duration::from_mins(1);
/// Starting a server and its processes takes most of it.
const STOPPED_WITHIN: Duration = Duration::from_secs(5);

const ONE: &str = "{name: one, version: 1.0.0, steps: [{name: a, handler: {callable: t.a}, retry: {max_attempts: 2, jitter: 0}}]}";

/// A cluster that preloads the library and names databases, none of which is there yet.
fn preloaded(databases: &str) -> anyhow::Result<OwnCluster> {
    OwnCluster::start_with(
        bin_dir()?,
        &[
            ("shared_preload_libraries", "tasker"),
            ("tasker.databases", databases),
            ("tasker.maintenance_interval", "100ms"),
        ],
    )
}

/// A session in a new database with a template of one step.
async fn with_template(own: &OwnCluster, database: &str) -> anyhow::Result<PgConnection> {
    let mut session = PgConnection::connect(&own.add_database(database).await?).await?;
    sqlx::query("select tasker.register_template($1::text)")
        .bind(ONE)
        .execute(&mut session)
        .await?;
    Ok(session)
}

async fn value<T>(session: &mut PgConnection, query: &str) -> anyhow::Result<T>
where
    T: for<'r> sqlx::Decode<'r, sqlx::Postgres> + sqlx::Type<sqlx::Postgres> + Send + Unpin,
{
    sqlx::query_scalar(query)
        .fetch_one(session)
        .await
        .with_context(|| query.to_owned())
}

/// Waits until a query says true.
async fn until(session: &mut PgConnection, query: &str) -> anyhow::Result<()> {
    eventually(query, WITHIN, async || {
        Ok(value::<Option<bool>>(session, query)
            .await?
            .unwrap_or(false)
            .then_some(()))
    })
    .await
}

/// Creates a task that is due at once but can only be started by maintenance, and waits until it is.
async fn maintained(session: &mut PgConnection) -> anyhow::Result<()> {
    let task = scheduled(session).await?;
    started(session, &task).await
}

async fn scheduled(session: &mut PgConnection) -> anyhow::Result<String> {
    value(
        session,
        "select tasker.create_task('one', run_at => clock_timestamp() + interval '100 milliseconds')::text",
    )
    .await
}

async fn started(session: &mut PgConnection, task: &str) -> anyhow::Result<()> {
    until(
        session,
        &format!("select state = 'steps_in_process' from tasker.get_task('{task}')"),
    )
    .await
}

async fn verified(session: &mut PgConnection) -> anyhow::Result<()> {
    let broken: i64 = value(session, "select count(*) from tasker.verify()").await?;
    anyhow::ensure!(broken == 0, "verify() gives {broken} rows");
    Ok(())
}

/// The process of a database's background worker, once there is one.
async fn worker_of(own: &OwnCluster, database: &str) -> anyhow::Result<u32> {
    let mut session = PgConnection::connect(&own.cluster.url("postgres")).await?;
    let query = format!(
        "select pid from pg_stat_activity where backend_type = 'tasker maintenance' and datname = '{database}' \
         and application_name = 'tasker maintenance of {database}'"
    );
    eventually("the worker runs", WITHIN, async || {
        let processes: Vec<i32> = sqlx::query_scalar(&query).fetch_all(&mut session).await?;
        anyhow::ensure!(
            processes.len() <= 1,
            "workers of one database: {processes:?}"
        );
        Ok(processes.first().copied())
    })
    .await?
    .try_into()
    .context("a process has a number")
}

/// How often a text stands in the server's log.
fn logged(own: &OwnCluster, text: &str) -> anyhow::Result<usize> {
    Ok(std::fs::read_to_string(own.cluster.log())?
        .matches(text)
        .count())
}

/// Waits until a session has begun so many more statements.
async fn rounds(
    watcher: &mut PgConnection,
    application_name: &str,
    count: usize,
) -> anyhow::Result<()> {
    let query = format!(
        "select query_start::text from pg_stat_activity where application_name = '{application_name}' and datname = current_database()"
    );
    let mut seen = std::collections::BTreeSet::new();
    eventually(application_name, WITHIN, async || {
        seen.extend(
            sqlx::query_scalar::<_, Option<String>>(&query)
                .fetch_all(&mut *watcher)
                .await?,
        );
        Ok((seen.len() > count).then_some(()))
    })
    .await
}

#[tokio::test]
async fn what_time_must_do_is_done_though_nobody_calls_maintenance() -> anyhow::Result<()> {
    let own = preloaded("tasker")?;
    let mut sql = with_template(&own, "tasker").await?;
    maintained(&mut sql).await?;
    // A worker takes the step and is never heard of again; no other claims.
    let step: String = value(
        &mut sql,
        "select step_uuid::text from tasker.claim_steps('gone', '{default}', 1, '1 second')",
    )
    .await?;
    until(
        &mut sql,
        &format!("select state = 'enqueued' and error ->> 'type' = 'lease_expired' from tasker.get_step('{step}')"),
    )
    .await?;
    // A lost message is there again, and can be claimed.
    sql.execute("delete from pgmq.q_worker_default_queue")
        .await?;
    until(
        &mut sql,
        "select count(*) = 1 from pgmq.q_worker_default_queue",
    )
    .await?;
    let attempt: i32 = value(
        &mut sql,
        "select attempt from tasker.claim_steps('w', '{default}')",
    )
    .await?;
    assert_eq!(attempt, 2);
    let ok: bool = value(
        &mut sql,
        "select ok and detail like 'the last round %' from tasker.health() where name = 'maintenance'",
    )
    .await?;
    assert!(ok);
    verified(&mut sql).await
}

#[tokio::test]
async fn a_killed_worker_comes_back_and_so_does_a_terminated_one() -> anyhow::Result<()> {
    let own = preloaded("tasker")?;
    let mut sql = with_template(&own, "tasker").await?;
    maintained(&mut sql).await?;
    let first = worker_of(&own, "tasker").await?;
    // PostgreSQL takes a killed process for a crash, and starts everything anew.
    signal(first, Signal::KILL)?;
    let mut last = eventually("another worker runs", WITHIN, async || {
        let now = worker_of(&own, "tasker").await;
        Ok(now.ok().filter(|&now| now != first))
    })
    .await?;
    let mut sql = PgConnection::connect(&own.url()).await?;
    maintained(&mut sql).await?;
    // A worker ends with its launcher.
    for whose in ["tasker maintenance", "tasker launcher"] {
        let ended: bool = value(
            &mut sql,
            &format!("select bool_and(pg_terminate_backend(pid)) from pg_stat_activity where backend_type = '{whose}'"),
        )
        .await?;
        assert!(ended, "{whose}");
        last = eventually("another worker runs", WITHIN, async || {
            let now = worker_of(&own, "tasker").await?;
            Ok((now != last).then_some(now))
        })
        .await?;
        maintained(&mut sql).await?;
    }
    verified(&mut sql).await
}

#[tokio::test]
async fn each_database_named_has_one_worker_and_a_change_of_the_names_is_followed()
-> anyhow::Result<()> {
    let own = preloaded("one, Two ,one,,")?;
    let mut one = with_template(&own, "one").await?;
    let mut two = with_template(&own, "Two").await?;
    let mut three = with_template(&own, "three").await?;
    maintained(&mut one).await?;
    maintained(&mut two).await?;
    assert_ne!(worker_of(&own, "one").await?, worker_of(&own, "Two").await?);
    let workers = "select string_agg(datname, ',' order by datname) from pg_stat_activity where backend_type = 'tasker maintenance'";
    assert_eq!(value::<String>(&mut one, workers).await?, "Two,one");
    let waiting = scheduled(&mut three).await?;
    one.execute("alter system set tasker.databases = 'Two,three'")
        .await?;
    one.execute("select pg_reload_conf()").await?;
    started(&mut three, &waiting).await?;
    until(&mut one, &format!("select ({workers}) = 'Two,three'")).await?;
    maintained(&mut two).await
}

#[tokio::test]
async fn databases_without_the_extension_and_databases_that_go_are_looked_for_quietly()
-> anyhow::Result<()> {
    let own = preloaded("postgres,bare,gone")?;
    let mut gone = with_template(&own, "gone").await?;
    maintained(&mut gone).await?;
    own.cluster.create_database("bare", None)?;
    let mut bare = PgConnection::connect(&own.cluster.url("bare")).await?;
    // Somebody's function of the same name is not run with a superuser's rights, nor at all.
    bare.execute(
        "create schema tasker;
         create table public.ran ();
         create function tasker.run_maintenance(batch integer default 1000) returns table (job text, processed bigint, more boolean)
           language sql as 'insert into public.ran default values; select ''x'', 1, true'",
    )
    .await?;
    rounds(&mut bare, "tasker maintenance of bare", 3).await?;
    assert_eq!(
        value::<i64>(&mut bare, "select count(*) from public.ran").await?,
        0
    );
    assert_eq!(logged(&own, "database bare has no extension tasker")?, 1);

    bare.execute("drop schema tasker cascade; create extension tasker")
        .await?;
    until(
        &mut bare,
        "select count(*) = 1 from tasker.maintenance_cursors",
    )
    .await?;

    // A worker is no obstacle to dropping its database by force, and isn't started for one that isn't there.
    let missing = "database gone, which tasker.databases names, isn't there";
    let before = logged(&own, missing)?;
    gone.close().await?;
    own.cluster.drop_database("gone")?;
    eventually("the log says that it is gone", WITHIN, async || {
        Ok((logged(&own, missing)? > before).then_some(()))
    })
    .await?;
    rounds(&mut bare, "tasker maintenance of bare", 10).await?;
    assert_eq!(logged(&own, missing)?, before + 1);
    assert_eq!(
        logged(&own, "without having selected a database")?,
        0,
        "the launcher looks before any session has"
    );
    let mut again = with_template(&own, "gone").await?;
    maintained(&mut again).await
}

#[tokio::test]
async fn an_error_is_logged_once_and_maintenance_goes_on_when_its_cause_is_gone()
-> anyhow::Result<()> {
    let own = preloaded("tasker")?;
    let mut sql = with_template(&own, "tasker").await?;
    maintained(&mut sql).await?;
    let worker = worker_of(&own, "tasker").await?;
    sql.execute("alter table tasker.scheduled_tasks rename to hidden")
        .await?;
    let failed = "maintenance of database tasker failed at start_due_tasks, which is tried again";
    eventually("the log says so", WITHIN, async || {
        Ok((logged(&own, failed)? > 0).then_some(()))
    })
    .await?;
    rounds(&mut sql, "tasker maintenance of tasker", 3).await?;
    assert_eq!(logged(&own, failed)?, 1);
    sql.execute("alter table tasker.hidden rename to scheduled_tasks")
        .await?;
    maintained(&mut sql).await?;
    assert_eq!(
        worker_of(&own, "tasker").await?,
        worker,
        "the process has lived through it"
    );
    assert_eq!(
        logged(
            &own,
            "maintenance of database tasker runs again: start_due_tasks"
        )?,
        1
    );
    verified(&mut sql).await
}

#[tokio::test]
async fn where_the_schema_knows_no_single_jobs_whole_rounds_are_run() -> anyhow::Result<()> {
    let own = preloaded("tasker")?;
    let mut sql = with_template(&own, "tasker").await?;
    sql.execute(
        "alter extension tasker drop function tasker.run_maintenance_job(text, integer);
         drop function tasker.run_maintenance_job(text, integer)",
    )
    .await?;
    maintained(&mut sql).await?;
    assert_eq!(logged(&own, "maintenance of database tasker failed")?, 0);
    verified(&mut sql).await
}

#[tokio::test]
async fn a_job_that_fails_keeps_no_other_from_running() -> anyhow::Result<()> {
    let own = preloaded("tasker")?;
    let mut sql = with_template(&own, "tasker").await?;
    maintained(&mut sql).await?;
    // The first of the jobs can't be done, and one that comes long after it is.
    sql.execute("create function public.fail() returns trigger language plpgsql as 'begin raise ''broken''; end'")
        .await?;
    sql.execute("create trigger broken before delete on tasker.scheduled_tasks execute function public.fail()")
        .await?;
    let waiting = scheduled(&mut sql).await?;
    eventually("the log says so", WITHIN, async || {
        Ok((logged(&own, "failed at start_due_tasks")? > 0).then_some(()))
    })
    .await?;
    sql.execute("delete from pgmq.q_worker_default_queue")
        .await?;
    until(
        &mut sql,
        "select count(*) = 1 from pgmq.q_worker_default_queue",
    )
    .await?;
    let state: String = value(
        &mut sql,
        &format!("select state from tasker.get_task('{waiting}')"),
    )
    .await?;
    assert_eq!(state, "pending");
    sql.execute("drop trigger broken on tasker.scheduled_tasks")
        .await?;
    started(&mut sql, &waiting).await?;
    verified(&mut sql).await
}

#[tokio::test]
async fn the_worker_and_a_server_never_maintain_at_once() -> anyhow::Result<()> {
    let own = preloaded("tasker")?;
    let mut sql = with_template(&own, "tasker").await?;
    let mut other = PgConnection::connect(&own.url()).await?;
    let _server = Server::start(&own.url(), &[]).await?;
    maintained(&mut sql).await?;
    // While one session is at it, neither of the two does anything.
    other.execute("begin").await?;
    let jobs: i64 = eventually("this session is the one", WITHIN, async || {
        let jobs =
            value::<i64>(&mut other, "select count(*) from tasker.run_maintenance()").await?;
        Ok((jobs > 0).then_some(jobs))
    })
    .await?;
    assert!(jobs > 0);
    let task = scheduled(&mut sql).await?;
    rounds(&mut sql, "tasker maintenance of tasker", 5).await?;
    rounds(&mut sql, "tasker-server maintenance", 2).await?;
    let state: String = value(
        &mut sql,
        &format!("select state from tasker.get_task('{task}')"),
    )
    .await?;
    assert_eq!(state, "pending");
    other.execute("commit").await?;
    started(&mut sql, &task).await?;
    // And with both at it, each of many tasks is started once.
    sql.execute("select tasker.create_task('one', run_at => clock_timestamp() + n * interval '10 milliseconds') from generate_series(1, 300) n")
        .await?;
    until(
        &mut sql,
        "select not exists (select from tasker.tasks where state = 'pending')",
    )
    .await?;
    let most: i64 = value(
        &mut sql,
        "select max(n) from (select count(*) as n from tasker.task_transitions group by task_uuid) h",
    )
    .await?;
    assert_eq!(most, 1);
    verified(&mut sql).await
}

#[tokio::test]
async fn a_stop_of_the_server_ends_a_worker_in_the_middle_of_a_batch_at_once() -> anyhow::Result<()>
{
    let mut own = preloaded("tasker")?;
    let mut sql = with_template(&own, "tasker").await?;
    maintained(&mut sql).await?;
    let task = scheduled(&mut sql).await?;
    // The batch waits for a lock.
    sql.execute("begin; lock table tasker.scheduled_tasks in access exclusive mode")
        .await?;
    until(
        &mut sql,
        "select count(*) = 1 from pg_stat_activity where backend_type = 'tasker maintenance' and wait_event_type = 'Lock'",
    )
    .await?;
    let begun = Instant::now();
    own.cluster.stop(StopMode::Fast)?;
    assert!(begun.elapsed() < STOPPED_WITHIN, "{:?}", begun.elapsed());
    own.cluster.start()?;
    let mut sql = PgConnection::connect(&own.url()).await?;
    started(&mut sql, &task).await?;
    verified(&mut sql).await?;
    // And at rest.
    let begun = Instant::now();
    own.cluster.stop(StopMode::Fast)?;
    assert!(begun.elapsed() < STOPPED_WITHIN, "{:?}", begun.elapsed());
    Ok(())
}

#[tokio::test]
async fn a_session_that_loads_the_library_starts_nothing() -> anyhow::Result<()> {
    let database = TestDatabase::new().await?;
    let mut session = database.session().await?;
    session.execute("load 'tasker'").await?;
    let settings: Value = value(
        &mut session,
        "select jsonb_build_array(current_setting('tasker.databases'), current_setting('tasker.maintenance_interval'))",
    )
    .await?;
    assert_eq!(settings, serde_json::json!(["", "1s"]));
    let processes: i64 = value(
        &mut session,
        "select count(*) from pg_stat_activity where backend_type like 'tasker%'",
    )
    .await?;
    assert_eq!(processes, 0);
    Ok(())
}
