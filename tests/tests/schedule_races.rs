//! Schedules with several at maintenance, and with operators at them at the same time: each time runs once, and nobody waits for another.

use std::time::Duration;

use anyhow::ensure;
use sqlx::{Executor, PgConnection};
use tasker_client::Definition;
use tasker_tests::following::verified;
use tasker_tests::{Server, TestDatabase, eventually};

const WITHIN: Duration = Duration::from_mins(1);
const ONE: &str = "{name: one, version: 1.0.0, steps: [{name: a, handler: {callable: t.a}}]}";
const SCHEDULES: i64 = 20;
const MINUTES: i64 = 15;
const RACERS: usize = 4;

async fn database() -> anyhow::Result<TestDatabase> {
    let database = TestDatabase::new().await?;
    database
        .client()
        .register_template(Definition::Yaml(ONE), None)
        .await?;
    Ok(database)
}

/// Runs whatever is due in each of the minutes, without the lock that lets one session at maintenance.
async fn run_minutes(mut session: PgConnection) -> anyhow::Result<()> {
    for minute in 0..=MINUTES {
        session
            .execute(
                format!("select tasker._set_now(timestamptz '2030-01-01 00:00+00' + {minute} * interval '1 minute')")
                    .as_str(),
            )
            .await?;
        for _ in 0..3 {
            session
                .execute("select tasker._run_schedules(7, tasker._now())")
                .await?;
        }
    }
    Ok(())
}

#[tokio::test]
async fn each_time_runs_once_however_many_run_the_schedules_at_once() -> anyhow::Result<()> {
    let database = database().await?;
    let mut first = database.session().await?;
    first
        .execute("select tasker._set_now('2030-01-01 00:00+00')")
        .await?;
    first
        .execute(
            format!("select tasker.create_schedule('s' || n, '* * * * *', 'one', catch_up => 'all') from generate_series(1, {SCHEDULES}) n").as_str(),
        )
        .await?;
    let mut running = Vec::new();
    for _ in 0..RACERS {
        running.push(tokio::spawn(run_minutes(database.session().await?)));
    }
    for each in running {
        tokio::time::timeout(WITHIN, each).await???;
    }
    // What the last minute left, as a racer may have come to it when the others held the rows.
    run_minutes(database.session().await?).await?;
    let (tasks, times): (i64, i64) =
        sqlx::query_as("select count(*), count(distinct (tags, run_at)) from tasker.tasks")
            .fetch_one(database.pool())
            .await?;
    assert_eq!((tasks, times), (SCHEDULES * MINUTES, SCHEDULES * MINUTES));
    let troubled: i64 =
        sqlx::query_scalar("select count(*) from tasker.schedules where last_problem is not null")
            .fetch_one(database.pool())
            .await?;
    assert_eq!(troubled, 0);
    verified(database.client()).await
}

#[tokio::test]
async fn a_schedule_that_an_operator_has_in_hand_holds_up_no_other() -> anyhow::Result<()> {
    let database = database().await?;
    let (mut operator, mut maintenance) = (database.session().await?, database.session().await?);
    for session in [&mut operator, &mut maintenance] {
        session
            .execute("select tasker._set_now('2030-01-01 00:00+00')")
            .await?;
    }
    maintenance
        .execute("select tasker.create_schedule(name, '@hourly', 'one') from unnest('{a,b}'::text[]) name")
        .await?;
    operator.execute("begin").await?;
    operator
        .execute("select tasker.pause_schedule('a')")
        .await?;
    maintenance
        .execute("select tasker._set_now('2030-01-01 01:00+00')")
        .await?;
    let run = "select processed || ' ' || more from tasker.run_maintenance_job('run_schedules')";
    let ran: String =
        tokio::time::timeout(WITHIN, sqlx::query_scalar(run).fetch_one(&mut maintenance)).await??;
    assert_eq!(ran, "1 true");
    // It is due still, but nobody can have it: no reason to hurry.
    let ran: String = sqlx::query_scalar(run).fetch_one(&mut maintenance).await?;
    assert_eq!(ran, "0 false");
    operator.execute("rollback").await?;
    let ran: String = sqlx::query_scalar(run).fetch_one(&mut maintenance).await?;
    assert_eq!(ran, "1 false");
    Ok(())
}

#[tokio::test]
async fn with_two_servers_a_schedule_runs_within_seconds_of_its_time_and_once() -> anyhow::Result<()>
{
    let database = database().await?;
    let servers = [
        Server::start(database.url(), &[]).await?,
        Server::start(database.url(), &[]).await?,
    ];
    database
        .pool()
        .execute("select tasker.create_schedule('s', '@yearly', 'one')")
        .await?;
    database
        .pool()
        .execute("update tasker.schedules set next_at = now() + interval '1 second'")
        .await?;
    let late: f64 = eventually("the schedule has run", WITHIN, async || {
        Ok(sqlx::query_scalar(
            "select extract(epoch from t.created_at - t.run_at)::float8 from tasker.tasks t",
        )
        .fetch_optional(database.pool())
        .await?)
    })
    .await?;
    // A second between two rounds; the rest is for a machine that does much else.
    ensure!((0.0..10.0).contains(&late), "{late} s late");
    let (tasks, is_next): (i64, bool) = sqlx::query_as(
        "select (select count(*) from tasker.tasks), next_at > now() + interval '1 hour' or extract(month from next_at) = 1 from tasker.schedules",
    )
    .fetch_one(database.pool())
    .await?;
    assert_eq!((tasks, is_next), (1, true));
    drop(servers);
    verified(database.client()).await
}
