//! Following the feed by the client: woken by notices, never asking for them while it reads, and not missing what a notice doesn't tell.

use std::time::{Duration, Instant};

use serde_json::json;
use sqlx::{Connection, Executor, PgConnection};
use tasker_client::{Client, ConnectOptions, EventFilter, EventSpan, Events};
use tasker_tests::following::new_task;
use tasker_tests::releases::database_of;
use tasker_tests::{OwnCluster, eventually};

const WITHIN: Duration = Duration::from_secs(30);
const TEMPLATES: [&str; 2] = [
    "{name: one, version: 1.0.0, steps: [{name: a, handler: {callable: t.a}}]}",
    "{name: one, namespace: shop, version: 1.0.0, steps: [{name: a, handler: {callable: t.a}}]}",
];
/// The events of a task of one step that is created.
const EVENTS_OF_A_TASK: usize = 4;

/// A PostgreSQL where nobody writes but the test.
struct Stage {
    own: OwnCluster,
    client: Client,
}

impl Stage {
    async fn new() -> anyhow::Result<Self> {
        let own = OwnCluster::start().await?;
        let client = Client::connect(&own.url(), ConnectOptions::default()).await?;
        for template in TEMPLATES {
            sqlx::query("select tasker.register_template($1::text)")
                .bind(template)
                .execute(client.pool())
                .await?;
        }
        Ok(Self { own, client })
    }

    async fn create(&self, namespace: &str) -> anyhow::Result<()> {
        let task = new_task(namespace, "one", &json!({}))?;
        self.client.create_task(&task).await?;
        Ok(())
    }

    /// Waits until a follower has asked for notices, so that it sleeps. The follower must be polled meanwhile.
    async fn somebody_sleeps(&self) -> anyhow::Result<()> {
        let query = "select count(*) from pg_locks l join pg_stat_activity a using (pid) \
            where l.locktype = 'advisory' and l.mode = 'ShareLock' and a.state_change < clock_timestamp() - interval '0.3 seconds'";
        eventually("a follower sleeps", WITHIN, async || {
            let sleepers: i64 = sqlx::query_scalar(query)
                .fetch_one(self.client.pool())
                .await?;
            Ok((sleepers > 0).then_some(()))
        })
        .await
    }
}

async fn take(events: &mut Events, count: usize) -> anyhow::Result<Vec<String>> {
    let mut taken = Vec::new();
    while taken.len() < count {
        let event = tokio::time::timeout(WITHIN, events.next()).await??;
        taken.push(format!("{} {}", event.namespace, event.event));
    }
    Ok(taken)
}

#[tokio::test]
async fn a_follower_that_sleeps_is_woken_and_not_only_looks_now_and_then() -> anyhow::Result<()> {
    let stage = Stage::new().await?;
    let after = stage.client.end_of_events().await?;
    let mut events = stage.client.events(EventFilter::default(), Some(after));
    let mut delays = Vec::new();
    for _ in 0..7 {
        let following = async {
            take(&mut events, EVENTS_OF_A_TASK)
                .await
                .map(|_| Instant::now())
        };
        let creating = async {
            stage.somebody_sleeps().await?;
            stage.create("default").await?;
            anyhow::Ok(Instant::now())
        };
        let (seen, created) = tokio::try_join!(following, creating)?;
        delays.push(seen.saturating_duration_since(created));
    }
    delays.sort_unstable();
    eprintln!("delays: {delays:?}");
    // By looking alone the middle of them would be a second.
    assert!(delays[3] < Duration::from_millis(400), "{delays:?}");
    Ok(())
}

#[tokio::test]
async fn what_settles_after_its_notice_is_not_missed() -> anyhow::Result<()> {
    let stage = Stage::new().await?;
    let after = stage.client.end_of_events().await?;
    let mut events = stage.client.events(EventFilter::default(), Some(after));
    // Somebody else's transaction, which has nothing to do with Tasker, holds the feed.
    let mut other = PgConnection::connect(&stage.own.cluster.url("postgres")).await?;
    let following = take(&mut events, EVENTS_OF_A_TASK);
    let writing = async {
        stage.somebody_sleeps().await?;
        other.execute("begin; create table held (n int)").await?;
        stage.create("default").await?;
        let span = EventSpan::default();
        let nothing = stage
            .client
            .list_events(&EventFilter::default(), span)
            .await?;
        assert!(nothing.is_empty());
        // It gives up looking often, and sleeps again.
        stage.somebody_sleeps().await?;
        other.execute("commit").await?;
        anyhow::Ok(())
    };
    tokio::try_join!(following, writing)?;
    Ok(())
}

#[tokio::test]
async fn a_follower_of_a_namespace_gets_its_events_and_reads_the_others_once() -> anyhow::Result<()>
{
    let stage = Stage::new().await?;
    let filter = EventFilter {
        namespace: Some("shop".to_owned()),
        ..EventFilter::default()
    };
    let mut events = stage.client.events(filter, None);
    for namespace in ["default", "shop", "default", "default", "shop"] {
        stage.create(namespace).await?;
    }
    let taken = take(&mut events, 2 * EVENTS_OF_A_TASK).await?;
    assert!(taken.iter().all(|event| event.starts_with("shop")));
    let following = take(&mut events, EVENTS_OF_A_TASK);
    let creating = async {
        stage.somebody_sleeps().await?;
        stage.create("default").await?;
        stage.create("shop").await
    };
    let (taken, ()) = tokio::try_join!(following, creating)?;
    assert!(taken.iter().all(|event| event.starts_with("shop")));
    Ok(())
}

/// What a reader has had who has come to its end, and what it hasn't, are all there is, and nothing is in both.
#[tokio::test]
async fn one_reader_takes_over_where_another_is() -> anyhow::Result<()> {
    let stage = Stage::new().await?;
    let everything = EventFilter::default();
    let all = async |after: Option<&str>, until: Option<&str>| {
        let span = EventSpan {
            after,
            until,
            limit: Some(1000),
        };
        stage.client.list_events(&everything, span).await
    };
    // Writers side by side, some of which end after the first reader has looked.
    let mut sessions = Vec::new();
    for _ in 0..3 {
        let mut session = PgConnection::connect(&stage.own.url()).await?;
        session
            .execute("begin; select tasker.create_task('one')")
            .await?;
        sessions.push(session);
        stage.create("shop").await?;
    }
    let mut cursor: Option<String> = None;
    let mut had = 0;
    for mut session in sessions {
        session
            .execute("select tasker.create_task('one'); commit")
            .await?;
        stage.create("default").await?;
        let page = all(cursor.as_deref(), None).await?;
        had += page.len();
        let Some(end) = page.last().map(|event| event.cursor.clone()) else {
            continue;
        };
        // Another one begins, reads as far as the first has, in its own order, and goes on with the first one's cursor.
        let same = all(None, Some(&end)).await?;
        assert_eq!(same.len(), had);
        let own = same.last().map(|event| event.cursor.clone());
        assert!(all(own.as_deref(), Some(&end)).await?.is_empty());
        assert!(all(Some(&end), own.as_deref()).await?.is_empty());
        let in_pages = EventSpan {
            until: Some(&end),
            limit: Some(3),
            ..EventSpan::default()
        };
        let first = stage.client.list_events(&everything, in_pages).await?;
        let rest = all(first.last().map(|event| event.cursor.as_str()), Some(&end)).await?;
        assert_eq!(first.len() + rest.len(), had);
        cursor = Some(end);
    }
    let total = eventually("everything has settled", WITHIN, async || {
        let all = all(None, None).await?.len();
        Ok((all == 12 * EVENTS_OF_A_TASK).then_some(all))
    })
    .await?;
    let rest = all(cursor.as_deref(), None).await?;
    assert_eq!(had + rest.len(), total);
    Ok(())
}

#[tokio::test]
async fn a_standby_is_followed_though_nobody_can_listen_there() -> anyhow::Result<()> {
    let stage = Stage::new().await?;
    let standby = stage.own.standby().await?;
    let reader = Client::connect(&standby.url(), ConnectOptions::default()).await?;
    let mut events = reader.events(EventFilter::default(), None);
    stage.create("default").await?;
    take(&mut events, EVENTS_OF_A_TASK).await?;
    stage.create("shop").await?;
    let taken = take(&mut events, EVENTS_OF_A_TASK).await?;
    assert!(taken.iter().all(|event| event.starts_with("shop")));
    Ok(())
}

#[tokio::test]
async fn a_database_of_a_version_without_notices_is_followed_by_looking() -> anyhow::Result<()> {
    let database = database_of("0.1.0").await?;
    let client = database.client();
    sqlx::query("select tasker.register_template($1::text)")
        .bind(TEMPLATES[0])
        .execute(client.pool())
        .await?;
    let mut events = client.events(EventFilter::default(), None);
    let task = new_task("default", "one", &json!({}))?;
    for _ in 0..2 {
        client.create_task(&task).await?;
        take(&mut events, EVENTS_OF_A_TASK).await?;
    }
    Ok(())
}
