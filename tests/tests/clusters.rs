//! Private clusters: what the demo and the other tests stand on.

use sqlx::{Connection, Executor, PgConnection};
use tasker_tests::{OwnCluster, StopMode, TestDatabase, bin_dir, bin_dir_with_pgmq};

async fn count(url: &str, query: &str) -> anyhow::Result<i64> {
    let mut session = PgConnection::connect(url).await?;
    Ok(sqlx::query_scalar(query).fetch_one(&mut session).await?)
}

#[tokio::test]
async fn a_killed_cluster_starts_again_with_all_that_was_committed() -> anyhow::Result<()> {
    let mut own = OwnCluster::start_empty(bin_dir()?)?;
    own.cluster.create_database("kept", None)?;
    let url = own.cluster.url("kept");
    let mut session = PgConnection::connect(&url).await?;
    session.execute("create table t as select 1 as n").await?;
    own.cluster.kill()?;
    assert!(!own.cluster.is_running());
    own.cluster.start()?;
    assert_eq!(own.cluster.url("kept"), url);
    assert_eq!(count(&url, "select count(*) from t").await?, 1);
    Ok(())
}

#[tokio::test]
async fn a_restarted_cluster_keeps_its_address() -> anyhow::Result<()> {
    let mut own = OwnCluster::start_empty(bin_dir()?)?;
    let url = own.cluster.url("postgres");
    own.cluster.restart(StopMode::Fast)?;
    own.cluster.restart(StopMode::Immediate)?;
    assert_eq!(own.cluster.url("postgres"), url);
    assert_eq!(count(&url, "select 1::bigint").await?, 1);
    Ok(())
}

#[tokio::test]
async fn a_cluster_that_runs_is_not_started_twice_and_stops_once() -> anyhow::Result<()> {
    let mut own = OwnCluster::start_empty(bin_dir()?)?;
    let process = own.cluster.server_process();
    own.cluster.start()?;
    assert_eq!(own.cluster.server_process(), process);
    own.cluster.stop(StopMode::Fast)?;
    own.cluster.stop(StopMode::Fast)?;
    assert!(own.cluster.kill().is_err());
    Ok(())
}

#[tokio::test]
async fn test_databases_hold_pgmq_and_tasker_and_do_not_meet() -> anyhow::Result<()> {
    let (one, other) = (TestDatabase::new().await?, TestDatabase::new().await?);
    one.pool().execute("create table only_here ()").await?;
    for database in [&one, &other] {
        let query = "select count(*) from pg_extension where extname in ('tasker', 'pgmq')";
        assert_eq!(
            count(database.url(), query).await?,
            1,
            "PGMQ is its plain SQL here"
        );
        assert_eq!(
            count(database.url(), "select count(*) from pgmq.meta").await?,
            0
        );
    }
    let there = "select count(*) from pg_class where relname = 'only_here'";
    assert_eq!(
        (
            count(one.url(), there).await?,
            count(other.url(), there).await?
        ),
        (1, 0)
    );
    Ok(())
}

#[tokio::test]
async fn the_second_copy_of_postgresql_has_pgmq_as_an_extension() -> anyhow::Result<()> {
    let own = OwnCluster::start_empty(bin_dir_with_pgmq()?)?;
    own.cluster.create_database("both", None)?;
    let url = own.cluster.url("both");
    let mut session = PgConnection::connect(&url).await?;
    session.execute("create extension pgmq").await?;
    session.execute("create extension tasker").await?;
    let query = "select count(*) from pg_extension where extname in ('tasker', 'pgmq')";
    assert_eq!(count(&url, query).await?, 2);
    Ok(())
}
