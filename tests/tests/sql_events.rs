//! The feed of events: what a reader that remembers its cursor gets, whatever other sessions write and commit meanwhile. Rows are committed here: an event is listed when
//! nobody writes any more who could add an earlier one.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::Context;
use serde_json::{Value, json};
use sqlx::{Connection, Executor, PgConnection};
use tasker_tests::scenario::refusal;
use tasker_tests::{OwnCluster, eventually};

const TEMPLATES: [&str; 2] = [
    "{name: chain, version: 1.0.0, steps: [{name: a, handler: {callable: t.a}}, {name: b, handler: {callable: t.b}, dependencies: [a]}]}",
    "{name: other, namespace: shop, version: 1.0.0, steps: [{name: a, handler: {callable: t.a}}]}",
];
const LISTED_WITHIN: Duration = Duration::from_secs(20);

/// A PostgreSQL where nobody writes but the test.
struct Feed {
    own: OwnCluster,
    session: PgConnection,
}

impl Feed {
    async fn new() -> anyhow::Result<Self> {
        let own = OwnCluster::start().await?;
        let mut session = PgConnection::connect(&own.url()).await?;
        for template in TEMPLATES {
            sqlx::query("select * from tasker.register_template($1::text)")
                .bind(template)
                .execute(&mut session)
                .await?;
        }
        Ok(Self { own, session })
    }

    async fn another(&self) -> anyhow::Result<PgConnection> {
        Ok(PgConnection::connect(&self.own.url()).await?)
    }

    async fn rows(&mut self, sql: &str) -> anyhow::Result<Vec<Value>> {
        sqlx::query_scalar(&format!("select to_jsonb(r) from ({sql}) r"))
            .fetch_all(&mut self.session)
            .await
            .with_context(|| sql.to_owned())
    }

    /// The events of everything as the histories show them, by task or step.
    async fn histories(&mut self) -> anyhow::Result<BTreeMap<String, Vec<Value>>> {
        let columns = "h.from_state, h.to_state, h.event, h.at, h.attempt, h.actor, h.metadata";
        let sql = format!(
            "select t.task_uuid as key, h.seq, {columns} from tasker.tasks t, tasker.task_history(t.task_uuid) h
             union all select s.step_uuid, h.seq, {columns} from tasker.steps s, tasker.step_history(s.step_uuid) h
             order by 1, 2"
        );
        Ok(by_key(self.rows(&sql).await?))
    }
}

async fn create(session: &mut PgConnection, template: &str) -> anyhow::Result<String> {
    Ok(
        sqlx::query_scalar(&format!("select tasker.create_task({template})::text"))
            .fetch_one(session)
            .await?,
    )
}

/// Works on whatever is ready until nothing is.
async fn drain(session: &mut PgConnection) -> anyhow::Result<()> {
    loop {
        let outcomes: Option<Value> = sqlx::query_scalar(
            "select jsonb_agg(jsonb_build_object('step_uuid', c.step_uuid, 'attempt', c.attempt, 'status', 'complete', 'result', 1))
             from tasker.claim_steps('w', '{default,shop}', 10) c",
        )
        .fetch_one(&mut *session)
        .await?;
        let Some(outcomes) = outcomes else {
            return Ok(());
        };
        sqlx::query("select * from tasker.finish_steps('w', $1)")
            .bind(outcomes)
            .execute(&mut *session)
            .await?;
    }
}

/// The task or step that an event is of.
fn key_of(event: &Value) -> String {
    let key = event["key"].as_str().or(event["step_uuid"].as_str());
    key.or(event["task_uuid"].as_str())
        .unwrap_or_default()
        .to_owned()
}

/// Events by task or step, without what only the feed or only the history says.
fn by_key(events: Vec<Value>) -> BTreeMap<String, Vec<Value>> {
    let mut by_key: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for mut event in events {
        let key = key_of(&event);
        if let Some(fields) = event.as_object_mut() {
            let only = [
                "key",
                "seq",
                "cursor",
                "task_uuid",
                "step_uuid",
                "step_name",
                "namespace",
                "template_name",
            ];
            for name in only {
                fields.remove(name);
            }
        }
        by_key.entry(key).or_default().push(event);
    }
    by_key
}

/// A reader that remembers where it was and all it got.
struct Reader {
    session: PgConnection,
    filter: String,
    limit: usize,
    cursor: Option<String>,
    got: Vec<Value>,
}

impl Reader {
    async fn new(feed: &Feed, filter: &str, limit: usize) -> anyhow::Result<Self> {
        Ok(Self {
            session: feed.another().await?,
            filter: filter.to_owned(),
            limit,
            cursor: None,
            got: Vec::new(),
        })
    }

    /// Reads one page and says how many events were on it.
    async fn page(&mut self) -> anyhow::Result<usize> {
        let sql = format!(
            "select to_jsonb(e) from tasker.list_events(after => $1, \"limit\" => {}{}) e",
            self.limit, self.filter
        );
        let events: Vec<Value> = sqlx::query_scalar(&sql)
            .bind(&self.cursor)
            .fetch_all(&mut self.session)
            .await?;
        assert!(events.len() <= self.limit);
        if let Some(last) = events.last() {
            self.cursor = last["cursor"].as_str().map(str::to_owned);
        }
        let count = events.len();
        self.got.extend(events);
        Ok(count)
    }

    /// Reads what there is, and gives the tasks whose events came, in that order.
    async fn read(&mut self) -> anyhow::Result<Vec<String>> {
        let before = self.got.len();
        while self.page().await? > 0 {}
        let mut tasks: Vec<String> = self.got[before..]
            .iter()
            .map(|event| event["task_uuid"].as_str().unwrap_or_default().to_owned())
            .collect();
        tasks.dedup();
        Ok(tasks)
    }

    /// Reads until all that the histories show has come, and requires that it came once and in its order.
    async fn has_everything(&mut self, feed: &mut Feed) -> anyhow::Result<()> {
        let expected = feed.histories().await?;
        let count: usize = expected.values().map(Vec::len).sum();
        // A server's own short transactions may hold the horizon for a moment.
        eventually("everything is listed", LISTED_WITHIN, async || {
            self.read().await?;
            Ok((self.got.len() >= count).then_some(()))
        })
        .await?;
        self.read().await?;
        assert_eq!(by_key(self.got.clone()), expected);
        let cursors: BTreeSet<&str> = self
            .got
            .iter()
            .filter_map(|event| event["cursor"].as_str())
            .collect();
        assert_eq!(cursors.len(), self.got.len());
        Ok(())
    }
}

#[tokio::test]
async fn the_feed_is_all_histories_whatever_the_size_of_its_pages() -> anyhow::Result<()> {
    let mut feed = Feed::new().await?;
    for template in ["'chain'", "'other', 'shop'", "'chain'"] {
        create(&mut feed.session, template).await?;
    }
    let cancelled = create(&mut feed.session, "'chain'").await?;
    feed.session
        .execute(format!("select tasker.cancel_task('{cancelled}', 'no longer wanted')").as_str())
        .await?;
    drain(&mut feed.session).await?;
    for limit in [1, 3, 1000] {
        Reader::new(&feed, "", limit)
            .await?
            .has_everything(&mut feed)
            .await?;
    }
    let events = feed
        .rows("select * from tasker.list_events(\"limit\" => 1000)")
        .await?;
    let last = events
        .iter()
        .find(|event| event["event"] == "cancel" && event["step_uuid"].is_null())
        .context("no cancellation")?;
    assert_eq!(
        (
            &last["task_uuid"],
            &last["step_name"],
            &last["metadata"],
            &last["namespace"],
            &last["template_name"]
        ),
        (
            &json!(cancelled),
            &Value::Null,
            &json!({"reason": "no longer wanted"}),
            &json!("default"),
            &json!("chain")
        )
    );
    let step = events
        .iter()
        .find(|event| event["namespace"] == "shop" && event["event"] == "complete")
        .context("no step")?;
    assert_eq!(
        (&step["step_name"], &step["actor"], &step["attempt"]),
        (&json!("a"), &json!("w"), &json!(1))
    );
    Ok(())
}

#[tokio::test]
async fn what_a_later_transaction_wrote_waits_for_an_earlier_one() -> anyhow::Result<()> {
    let mut feed = Feed::new().await?;
    let mut reader = Reader::new(&feed, "", 100).await?;
    let mut first = feed.another().await?;
    first.execute("begin").await?;
    let earlier = create(&mut first, "'chain'").await?;
    let later = create(&mut feed.session, "'chain'").await?;
    assert_eq!(reader.read().await?, Vec::<String>::new());
    first.execute("commit").await?;
    reader.has_everything(&mut feed).await?;
    let order: Vec<&str> = reader
        .got
        .iter()
        .filter_map(|event| event["task_uuid"].as_str())
        .collect();
    let boundary = order
        .iter()
        .position(|&task| task == later)
        .context("nothing")?;
    assert!(order[..boundary].iter().all(|&task| task == earlier));
    assert!(order[boundary..].iter().all(|&task| task == later));
    Ok(())
}

/// The rows that commit last have the lower numbers, and the reader has passed them.
#[tokio::test]
async fn rows_that_commit_behind_a_readers_back_are_not_missed() -> anyhow::Result<()> {
    for savepoint in [false, true] {
        let mut feed = Feed::new().await?;
        let mut reader = Reader::new(&feed, "", 100).await?;
        let (mut first, mut second) = (feed.another().await?, feed.another().await?);
        first.execute("begin").await?;
        let one = create(&mut first, "'chain'").await?;
        second.execute("begin").await?;
        if savepoint {
            second.execute("savepoint undone").await?;
            create(&mut second, "'chain'").await?;
            second.execute("rollback to undone; savepoint kept").await?;
        }
        let behind = create(&mut second, "'chain'").await?;
        if savepoint {
            second.execute("release kept").await?;
        }
        let ahead = create(&mut first, "'chain'").await?;
        first.execute("commit").await?;

        let first_read = eventually("the first is listed", LISTED_WITHIN, async || {
            let tasks = reader.read().await?;
            Ok(Some(tasks).filter(|tasks| !tasks.is_empty()))
        })
        .await?;
        assert_eq!(first_read, [one, ahead]);
        assert_eq!(reader.read().await?, Vec::<String>::new());
        second.execute("commit").await?;
        reader.has_everything(&mut feed).await?;
        assert_eq!(
            reader.got.last().map(|event| &event["task_uuid"]),
            Some(&json!(behind))
        );
    }
    Ok(())
}

#[tokio::test]
async fn a_reader_among_many_writers_gets_everything_once() -> anyhow::Result<()> {
    let mut feed = Feed::new().await?;
    let mut writers = Vec::new();
    for writer in 0..4_u64 {
        let mut session = feed.another().await?;
        writers.push(tokio::spawn(async move {
            for round in 0..30_u64 {
                session.execute("begin").await?;
                for part in 0..=(round + writer) % 3 {
                    let kept = (round * 7 + writer * 3 + part) % 4;
                    session.execute("savepoint a").await?;
                    create(&mut session, "'chain'").await?;
                    tokio::task::yield_now().await;
                    let end = ["release a", "rollback to a", "savepoint b", "release a"];
                    session.execute(end[kept as usize]).await?;
                }
                let end = if round % 5 == 4 { "rollback" } else { "commit" };
                session.execute(end).await?;
                drain(&mut session).await?;
            }
            anyhow::Ok(())
        }));
    }
    let mut reader = Reader::new(&feed, "", 7).await?;
    while writers.iter().any(|writer| !writer.is_finished()) {
        reader.page().await?;
        feed.session
            .execute("select * from tasker.run_maintenance()")
            .await?;
    }
    for writer in writers {
        writer.await??;
    }
    reader.has_everything(&mut feed).await
}

#[tokio::test]
async fn a_reader_of_one_namespace_or_one_task_gets_theirs() -> anyhow::Result<()> {
    let mut feed = Feed::new().await?;
    let mut tasks = Vec::new();
    for template in ["'chain'", "'other', 'shop'", "'chain'", "'other', 'shop'"] {
        tasks.push(create(&mut feed.session, template).await?);
    }
    drain(&mut feed.session).await?;
    let everything = feed.histories().await?;
    let of = |task: &str| {
        everything
            .iter()
            .filter(|(key, _)| key[..30] == task[..30])
            .map(|(_, events)| events.len())
            .sum::<usize>()
    };
    for (filter, wanted) in [
        (
            ", namespace => 'shop'".to_owned(),
            vec![&tasks[1], &tasks[3]],
        ),
        (format!(", task_uuid => '{}'", tasks[2]), vec![&tasks[2]]),
        (
            format!(", namespace => 'shop', task_uuid => '{}'", tasks[2]),
            vec![],
        ),
        (", namespace => 'nowhere'".to_owned(), vec![]),
    ] {
        let mut reader = Reader::new(&feed, &filter, 2).await?;
        let count: usize = wanted.iter().map(|task| of(task)).sum();
        eventually("its events are listed", LISTED_WITHIN, async || {
            reader.read().await?;
            Ok((reader.got.len() >= count).then_some(()))
        })
        .await?;
        assert_eq!(reader.got.len(), count, "{filter}");
        let found: BTreeSet<&str> = reader
            .got
            .iter()
            .filter_map(|event| event["task_uuid"].as_str())
            .collect();
        assert_eq!(found, wanted.into_iter().map(String::as_str).collect());
    }
    Ok(())
}

#[tokio::test]
async fn a_reader_from_the_end_gets_what_comes_and_not_what_was() -> anyhow::Result<()> {
    let mut feed = Feed::new().await?;
    create(&mut feed.session, "'chain'").await?;
    drain(&mut feed.session).await?;
    let mut first = feed.another().await?;
    first.execute("begin").await?;
    let under_way = create(&mut first, "'chain'").await?;
    let mut reader = Reader::new(&feed, "", 100).await?;
    reader.cursor = Some(
        sqlx::query_scalar("select tasker.end_of_events()")
            .fetch_one(&mut feed.session)
            .await?,
    );
    assert_eq!(reader.read().await?, Vec::<String>::new());
    first.execute("commit").await?;
    let new = create(&mut feed.session, "'chain'").await?;
    let mut tasks = Vec::new();
    eventually("both are listed", LISTED_WITHIN, async || {
        tasks.extend(reader.read().await?);
        Ok((tasks.len() >= 2).then_some(()))
    })
    .await?;
    assert_eq!(tasks, [under_way, new]);
    Ok(())
}

/// Such as a standby that lags: what it doesn't see yet comes later.
#[tokio::test]
async fn a_snapshot_older_than_the_cursor_lists_nothing_and_misses_nothing() -> anyhow::Result<()> {
    let mut feed = Feed::new().await?;
    let mut reader = Reader::new(&feed, "", 3).await?;
    let mut old = Reader::new(&feed, "", 3).await?;
    old.session
        .execute("begin isolation level repeatable read")
        .await?;
    old.page().await?;
    create(&mut feed.session, "'chain'").await?;
    drain(&mut feed.session).await?;
    eventually("something is listed", LISTED_WITHIN, async || {
        Ok((reader.page().await? > 0).then_some(()))
    })
    .await?;
    old.cursor = reader.cursor.clone();
    assert_eq!(old.page().await?, 0);
    old.session.execute("commit").await?;
    old.got = reader.got.clone();
    old.has_everything(&mut feed).await
}

#[tokio::test]
async fn health_says_which_transaction_holds_the_feed() -> anyhow::Result<()> {
    let mut feed = Feed::new().await?;
    let mut first = feed.another().await?;
    first.execute("begin").await?;
    create(&mut first, "'chain'").await?;
    let process: i32 = sqlx::query_scalar("select pg_backend_pid()")
        .fetch_one(&mut first)
        .await?;
    let health = feed
        .rows("select * from tasker.health() where name = 'events'")
        .await?;
    assert_eq!(health[0]["ok"], true);
    let detail = health[0]["detail"].as_str().unwrap_or_default();
    assert!(detail.contains(&format!("process {process}")), "{detail}");
    Ok(())
}

#[tokio::test]
async fn what_is_no_cursor_no_task_or_no_limit_is_refused() -> anyhow::Result<()> {
    let mut feed = Feed::new().await?;
    for (arguments, code) in [
        ("after => ''", "22023"),
        ("after => '1.abc'", "22023"),
        ("after => '2.00000000.1.1.1.1.1.1.1.1'", "22023"),
        ("after => '1.00000000.1.1.1.1.1.1.1.1; drop'", "22023"),
        ("\"limit\" => 0", "22023"),
        ("\"limit\" => 1001", "22023"),
        ("\"limit\" => null", "22023"),
        (
            "task_uuid => '018f0000-0000-7000-8000-000000000000'",
            "TK001",
        ),
    ] {
        let sql = format!("select * from tasker.list_events({arguments})");
        let error = feed.session.execute(sql.as_str()).await.err();
        let refusal = refusal(&error.context(arguments)?)?;
        assert_eq!(refusal.code, code, "{arguments}");
        assert!(!refusal.hint.is_empty(), "{arguments}");
    }
    Ok(())
}

/// At the end of a long history a reader touches what is new, not what was.
#[tokio::test]
async fn reading_on_at_the_end_of_a_long_history_reads_little_of_it() -> anyhow::Result<()> {
    let mut feed = Feed::new().await?;
    feed.session
        .execute("select count(*) from tasker.create_tasks((select jsonb_agg(jsonb_build_object('template_name', 'chain')) from generate_series(1, 1000)))")
        .await?;
    for _ in 0..40 {
        feed.session
            .execute("select count(*) from tasker.create_tasks((select jsonb_agg(jsonb_build_object('template_name', 'chain')) from generate_series(1, 1000)))")
            .await?;
    }
    // What autovacuum does by itself.
    feed.session
        .execute("vacuum analyze tasker.step_transitions, tasker.task_transitions")
        .await?;
    let mut reader = Reader::new(&feed, "", 10).await?;
    for _ in 0..2 {
        feed.session
            .execute("select * from tasker.run_maintenance()")
            .await?;
    }
    reader.cursor = Some(
        sqlx::query_scalar("select tasker.end_of_events()")
            .fetch_one(&mut feed.session)
            .await?,
    );
    create(&mut feed.session, "'chain'").await?;
    eventually("it is listed", LISTED_WITHIN, async || {
        Ok((reader.page().await? > 0).then_some(()))
    })
    .await?;
    let cursor = reader.cursor.clone().context("no cursor")?;
    let sql = format!("select * from tasker.list_events('{cursor}')");
    let all: i64 = sqlx::query_scalar(
        "select sum(pg_relation_size(relid))::bigint / 8192 from pg_partition_tree('tasker.step_transitions')",
    )
    .fetch_one(&mut feed.session)
    .await?;
    // The first call reads the catalogues and makes the plans.
    let mut touched = 0;
    for _ in 0..2 {
        let plan: Value =
            sqlx::query_scalar(&format!("explain (analyze, buffers, format json) {sql}"))
                .fetch_one(&mut feed.session)
                .await?;
        let blocks = |name: &str| plan[0]["Plan"][name].as_i64().unwrap_or_default();
        touched = blocks("Shared Hit Blocks") + blocks("Shared Read Blocks");
    }
    eprintln!("{touched} blocks touched, the steps' history has {all}");
    assert!(all > 300 && touched < 100, "{touched} of {all}");
    Ok(())
}
