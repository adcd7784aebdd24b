//! The processes that run SQL functions of steps: those of the extension, and those of the server. What a function is given and how it is run is in `sql_steps`.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use sqlx::{Connection, Executor, PgConnection};
use tasker_tests::{OwnCluster, Server, Signal, TestDatabase, bin_dir, eventually, signal};

const WITHIN: Duration = Duration::from_mins(2);

/// Two accounts, and a step that moves what the context says from one to the other, writing the name of each task into a journal.
const ACCOUNTS: &str = r"
create schema bank authorization {role};
grant usage on schema tasker to {role};
grant execute on all functions in schema tasker to {role};
set role {role};
create table bank.accounts (name text primary key, balance bigint not null);
insert into bank.accounts values ('a', 100000), ('b', 100000);
create table bank.journal (n bigint, pid integer default pg_backend_pid());
create function bank.transfer(context jsonb, inputs jsonb, dependency_results jsonb) returns jsonb language plpgsql as $f$
begin
  update bank.accounts set balance = balance - (context ->> 'amount')::bigint where name = 'a';
  update bank.accounts set balance = balance + (context ->> 'amount')::bigint where name = 'b';
  insert into bank.journal (n) values ((context ->> 'n')::bigint);
  perform pg_sleep((random() * 0.004));
  return jsonb_build_object('n', context -> 'n');
end $f$;
select tasker.register_template('{name: transfer, version: 1.0.0, steps: [
  {name: transfer, handler: {callable: sql:bank.transfer}, retry: {max_attempts: 1000, backoff: none, jitter: 0}}]}'::text);
reset role;
";

async fn with_accounts(url: &str, role: &str) -> anyhow::Result<PgConnection> {
    let mut session = PgConnection::connect(url).await?;
    let statements = format!("create role {{role}}; {ACCOUNTS}").replace("{role}", role);
    session.execute(sqlx::raw_sql(&statements)).await?;
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

/// Creates so many transfers more, after those there are.
async fn create(session: &mut PgConnection, before: i64, count: i64) -> anyhow::Result<()> {
    let created: i64 = value(
        session,
        &format!(
            "select count(tasker.create_task('transfer', context => jsonb_build_object('n', n, 'amount', 1 + n % 7))) from generate_series({before} + 1, {before} + {count}) n"
        ),
    )
    .await?;
    ensure!(created == count);
    Ok(())
}

/// All is done, each once: nothing lost, nothing doubled.
async fn settled(session: &mut PgConnection, count: i64) -> anyhow::Result<()> {
    let done: i64 = value(
        session,
        "select count(*) from tasker.tasks where state = 'complete'",
    )
    .await?;
    ensure!(done == count, "{done} of {count} tasks are complete");
    let twice: i64 = value(
        session,
        "select count(*) - count(distinct n) from bank.journal",
    )
    .await?;
    let noted: i64 = value(session, "select count(*) from bank.journal").await?;
    ensure!(
        (noted, twice) == (count, 0),
        "{noted} transfers for {count} tasks, {twice} twice"
    );
    let moved: i64 = (1..=count).map(|n| 1 + n % 7).sum();
    let balances: Vec<i64> = sqlx::query_scalar("select balance from bank.accounts order by name")
        .fetch_all(&mut *session)
        .await?;
    ensure!(
        balances == [100_000 - moved, 100_000 + moved],
        "{balances:?}, {moved} were to be moved"
    );
    let broken: Vec<String> = sqlx::query_scalar("select detail from tasker.verify()")
        .fetch_all(&mut *session)
        .await?;
    ensure!(broken.is_empty(), "{broken:?}");
    let left: i64 = value(session, "select count(*) from tasker.sql_runs").await?;
    ensure!(left == 0, "{left} functions are still noted as under way");
    Ok(())
}

fn preloaded(runners: &str) -> anyhow::Result<OwnCluster> {
    OwnCluster::start_with(
        bin_dir()?,
        &[
            ("shared_preload_libraries", "tasker"),
            ("tasker.databases", "tasker"),
            ("tasker.maintenance_interval", "20ms"),
            ("tasker.sql_runners", runners),
        ],
    )
}

const RUNNERS: &str = "select pid from pg_stat_activity where backend_type = 'tasker sql runner' and datname = 'tasker'";

async fn runners(session: &mut PgConnection) -> anyhow::Result<Vec<i32>> {
    Ok(sqlx::query_scalar(RUNNERS).fetch_all(session).await?)
}

#[tokio::test]
async fn a_database_runs_functions_itself_from_the_first_template_that_has_one()
-> anyhow::Result<()> {
    let own = preloaded("2")?;
    let url = own.add_database("tasker").await?;
    let mut watcher = PgConnection::connect(&url).await?;
    eventually("maintenance runs", WITHIN, async || {
        let runs: bool = value(
            &mut watcher,
            "select exists (select from tasker.maintenance_cursors)",
        )
        .await?;
        Ok(runs.then_some(()))
    })
    .await?;
    ensure!(runners(&mut watcher).await?.is_empty());
    let mut session = with_accounts(&url, "teller").await?;
    eventually("both runners are there", WITHIN, async || {
        Ok((runners(&mut watcher).await?.len() == 2).then_some(()))
    })
    .await?;
    create(&mut session, 0, 40).await?;
    eventually("all is done", WITHIN, async || {
        let left: i64 = value(
            &mut session,
            "select count(*) from tasker.tasks where finished_at is null",
        )
        .await?;
        Ok((left == 0).then_some(()))
    })
    .await?;
    settled(&mut session, 40).await?;
    let by: i64 = value(&mut session, "select count(distinct pid) from bank.journal").await?;
    assert_eq!(by, 2, "both took part");
    assert!(!value::<bool>(&mut session, "select tasker.needs_sql_runners()").await?);
    // A change of their number counts after a reload.
    session
        .execute("alter system set tasker.sql_runners = 1")
        .await?;
    session.execute("select pg_reload_conf()").await?;
    eventually("one of them ends", WITHIN, async || {
        Ok((runners(&mut watcher).await?.len() == 1).then_some(()))
    })
    .await
}

#[tokio::test]
async fn transfers_killed_at_random_a_thousand_times_lose_and_double_nothing() -> anyhow::Result<()>
{
    const KILLS: usize = 1000;
    const AT_ONCE: i64 = 500;
    let mut transfers = 0;
    let own = preloaded("2")?;
    let url = own.add_database("tasker").await?;
    let mut session = with_accounts(&url, "teller").await?;
    // Their own pauses are not what is tried here: sessions like theirs are killed, one after the other.
    session
        .execute("alter system set tasker.sql_runners = 0")
        .await?;
    session.execute("select pg_reload_conf()").await?;
    let mut kills = 0;
    let begun = Instant::now();
    let mut delay = 0_u64;
    loop {
        let left: i64 = value(
            &mut session,
            "select count(*) from tasker.tasks where finished_at is null",
        )
        .await?;
        if left == 0 && kills == KILLS {
            break;
        }
        if left == 0 {
            create(&mut session, transfers, AT_ONCE).await?;
            transfers += AT_ONCE;
        }
        ensure!(
            begun.elapsed() < Duration::from_mins(8),
            "{left} are left after {kills} kills"
        );
        let mut runner = PgConnection::connect(&url).await?;
        let pid: i32 = value(&mut runner, "select pg_backend_pid()").await?;
        let working = async {
            while sqlx::query_scalar::<_, bool>("select more from tasker.run_sql_step()")
                .fetch_one(&mut runner)
                .await?
            {}
            Ok::<_, sqlx::Error>(())
        };
        // From before the claim to long after several steps.
        delay = (delay * 31 + 7) % 41;
        let killing = async {
            if kills < KILLS {
                session
                    .execute(format!("select pg_sleep({delay} / 1000.0)").as_str())
                    .await?;
                if value::<bool>(&mut session, &format!("select pg_terminate_backend({pid})"))
                    .await?
                {
                    kills += 1;
                }
            }
            anyhow::Ok(())
        };
        let (worked, killed) = tokio::join!(working, killing);
        killed?;
        drop(worked);
    }
    let met: i64 = value(
        &mut session,
        "select sum(attempt - 1)::bigint from tasker.steps",
    )
    .await?;
    ensure!(met > 100, "only {met} kills met a step");
    settled(&mut session, transfers).await?;
    Ok(())
}

#[tokio::test]
async fn runners_and_servers_that_die_lose_and_double_nothing() -> anyhow::Result<()> {
    const TRANSFERS: i64 = 400;
    let own = preloaded("3")?;
    let url = own.add_database("tasker").await?;
    let mut session = with_accounts(&url, "teller").await?;
    create(&mut session, 0, TRANSFERS).await?;
    let mut crashes = 0;
    let mut ended = 0;
    eventually("all is done", Duration::from_mins(5), async || {
        // A process that is killed takes all sessions with it.
        let Ok(mut session) = PgConnection::connect(&url).await else {
            return Ok(None);
        };
        let Ok(left) = value::<i64>(
            &mut session,
            "select count(*) from tasker.tasks where finished_at is null",
        )
        .await
        else {
            return Ok(None);
        };
        let Ok(pids) = runners(&mut session).await else {
            return Ok(None);
        };
        if let Some(&pid) = pids.first() {
            if crashes < 4 && ended % 3 == 2 {
                signal(u32::try_from(pid)?, Signal::KILL)?;
                crashes += 1;
                ended += 1;
            } else if ended < 20
                && value::<bool>(&mut session, &format!("select pg_terminate_backend({pid})"))
                    .await
                    .is_ok()
            {
                ended += 1;
            }
        }
        Ok((left == 0).then_some(()))
    })
    .await?;
    ensure!(
        crashes > 0 && ended > crashes,
        "{crashes} crashes, {ended} ends"
    );
    let mut session = eventually("the database is back", WITHIN, async || {
        Ok(PgConnection::connect(&url).await.ok())
    })
    .await?;
    settled(&mut session, TRANSFERS).await
}

#[tokio::test]
async fn a_server_runs_functions_where_the_database_does_not() -> anyhow::Result<()> {
    let database = TestDatabase::new().await?;
    let role = format!("teller_of_{}", database.name());
    let mut session = with_accounts(database.url(), &role).await?;
    let server = Server::start(database.url(), &[]).await?;
    create(&mut session, 0, 20).await?;
    eventually("all is done", WITHIN, async || {
        let left: i64 = value(
            &mut session,
            "select count(*) from tasker.tasks where finished_at is null",
        )
        .await?;
        Ok((left == 0).then_some(()))
    })
    .await?;
    drop(server);
    settled(&mut session, 20).await?;
    session
        .execute(sqlx::raw_sql(&format!(
            "drop owned by {role} cascade; drop role {role}"
        )))
        .await?;
    Ok(())
}
