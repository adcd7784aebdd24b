//! What a worker and a server with nothing to do cost. This one watches real time: it counts what comes within some seconds.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use serde_json::json;
use tasker_tests::{Server, Stage, TestDatabase, eventually, has_statement_statistics};

const WATCHED: Duration = Duration::from_secs(10);
/// What the last task left to do is done by then.
const RESTS_WITHIN: Duration = Duration::from_secs(2);

/// Looks at something every few milliseconds for a time.
async fn watch(
    time: Duration,
    mut look: impl AsyncFnMut() -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let until = Instant::now() + time;
    eventually("the time watched is over", time * 2, async || {
        look().await?;
        Ok((Instant::now() >= until).then_some(()))
    })
    .await
}

/// A worker that has done a task and now has nothing to do.
async fn idle_worker(arguments: &[&str]) -> anyhow::Result<Stage> {
    let stage = Stage::new(arguments).await?;
    stage.run("example", "linear_workflow", &json!({})).await?;
    watch(RESTS_WITHIN, async || Ok(())).await?;
    Ok(stage)
}

/// How many statements the worker's sessions were seen to begin, by the server's list of sessions.
async fn statements_seen(stage: &Stage) -> anyhow::Result<usize> {
    let query = "select pid::text || ' ' || query_start::text from pg_stat_activity \
        where datname = current_database() and application_name = 'tasker-worker' and query_start is not null";
    let mut begun = BTreeSet::new();
    let before: Vec<String> = sqlx::query_scalar(query)
        .fetch_all(stage.database.pool())
        .await?;
    watch(WATCHED, async || {
        let now: Vec<String> = sqlx::query_scalar(query)
            .fetch_all(stage.database.pool())
            .await?;
        begun.extend(now);
        Ok(())
    })
    .await?;
    Ok(begun
        .iter()
        .filter(|statement| !before.contains(statement))
        .count())
}

fn seconds_watched() -> usize {
    WATCHED.as_secs() as usize
}

#[tokio::test]
async fn an_idle_worker_asks_at_most_once_a_second() -> anyhow::Result<()> {
    let stage = idle_worker(&[]).await?;
    let seen = statements_seen(&stage).await?;
    assert!(
        seen <= seconds_watched(),
        "{seen} statements in {} s",
        seconds_watched()
    );
    assert!(seen >= 5, "a worker that polls asks now and then: {seen}");
    Ok(())
}

#[tokio::test]
async fn an_idle_worker_that_is_woken_by_events_alone_says_only_that_it_lives() -> anyhow::Result<()>
{
    let stage = idle_worker(&["--wake", "event"]).await?;
    let seen = statements_seen(&stage).await?;
    assert!(seen <= 1, "{seen} statements in {} s", seconds_watched());
    Ok(())
}

/// How many statements a database is asked within the time watched, by its own statistics; none where this PostgreSQL doesn't keep them.
async fn statements_counted(database: &TestDatabase) -> anyhow::Result<Option<usize>> {
    if !has_statement_statistics()? {
        eprintln!("statements aren't counted: this PostgreSQL has no pg_stat_statements");
        return Ok(None);
    }
    let mut session = database.session().await?;
    let statements = "select coalesce(sum(calls), 0)::bigint from pg_stat_statements s \
        join pg_database d on d.oid = s.dbid where d.datname = current_database() and s.toplevel";
    let before: i64 = sqlx::query_scalar(statements)
        .fetch_one(&mut session)
        .await?;
    watch(WATCHED, async || Ok(())).await?;
    let after: i64 = sqlx::query_scalar(statements)
        .fetch_one(&mut session)
        .await?;
    // One of them is the first look.
    Ok(Some(usize::try_from(after - before - 1)?))
}

#[tokio::test]
async fn the_statistics_of_statements_agree_that_an_idle_worker_asks_at_most_once_a_second()
-> anyhow::Result<()> {
    let stage = idle_worker(&[]).await?;
    let Some(ran) = statements_counted(&stage.database).await? else {
        return Ok(());
    };
    assert!(
        ran <= seconds_watched(),
        "{ran} statements in {} s",
        seconds_watched()
    );
    assert!(ran >= 5, "a worker that polls asks now and then: {ran}");
    Ok(())
}

#[tokio::test]
async fn the_maintenance_of_an_idle_server_asks_two_things_a_second() -> anyhow::Result<()> {
    let database = TestDatabase::with_examples().await?;
    let _server = Server::start(database.url(), &[]).await?;
    watch(RESTS_WITHIN, async || Ok(())).await?;
    let Some(ran) = statements_counted(&database).await? else {
        return Ok(());
    };
    // What is due, and the walk; and now and then a note that a round has ended.
    let notes = 4;
    assert!(
        ran <= 2 * seconds_watched() + notes,
        "{ran} statements in {} s",
        seconds_watched()
    );
    assert!(ran >= 5, "it asks now and then: {ran}");
    Ok(())
}
