//! The feed as Server-Sent Events under load: thousands of listeners, slow ones, writers that commit late.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, ensure};
use rustix::process::{Resource, getrlimit, setrlimit};
use serde_json::{Value, json};
use sqlx::{Connection, Executor, PgConnection};
use tasker_client::{Client, ConnectOptions, Event, EventFilter};
use tasker_tests::following::new_task;
use tasker_tests::sse::{EventStream, Message};
use tasker_tests::{OwnCluster, Server, StopMode, eventually};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

const WITHIN: Duration = Duration::from_mins(1);
const CHAIN: &str = "{name: chain, version: 1.0.0, steps: [{name: a, handler: {callable: t.a}}, {name: b, handler: {callable: t.b}, dependencies: [a]}]}";

/// A PostgreSQL where nobody else holds the feed.
struct Stage {
    own: OwnCluster,
    client: Client,
}

impl Stage {
    async fn new() -> anyhow::Result<Self> {
        let own = OwnCluster::start().await?;
        let client = Client::connect(&own.url(), ConnectOptions::default()).await?;
        sqlx::query("select tasker.register_template($1::text)")
            .bind(CHAIN)
            .execute(client.pool())
            .await?;
        Ok(Self { own, client })
    }

    async fn create(&self, count: usize) -> anyhow::Result<()> {
        let tasks = vec![new_task("default", "chain", &json!({}))?; count];
        self.client.create_tasks(&tasks).await?;
        Ok(())
    }

    /// Writers at once, whose transactions last and some of which come to nothing.
    async fn write(&self) -> anyhow::Result<()> {
        let mut writers = Vec::new();
        for writer in 0..4_u64 {
            let mut session = PgConnection::connect(&self.own.url()).await?;
            writers.push(tokio::spawn(async move {
                for round in 0..25_u64 {
                    session.execute("begin").await?;
                    for _ in 0..=(round + writer) % 3 {
                        session
                            .execute("select tasker.create_task('chain')")
                            .await?;
                        // Long enough that others commit meanwhile.
                        session.execute("select pg_sleep(0.01)").await?;
                    }
                    let end = if round % 5 == 4 { "rollback" } else { "commit" };
                    session.execute(end).await?;
                }
                anyhow::Ok(())
            }));
        }
        for writer in writers {
            writer.await??;
        }
        Ok(())
    }

    /// Everything that the histories show, as counts of `key event state`.
    async fn histories(&self) -> anyhow::Result<BTreeMap<String, Vec<String>>> {
        let query = "select t.task_uuid::text, h.event || ' ' || h.to_state, h.seq from tasker.tasks t, tasker.task_history(t.task_uuid) with ordinality h \
            union all select s.step_uuid::text, h.event || ' ' || h.to_state, h.seq from tasker.steps s, tasker.step_history(s.step_uuid) h order by 1, 3";
        let query = query.replace(" with ordinality", "");
        let rows: Vec<(String, String, i64)> =
            sqlx::query_as(&query).fetch_all(self.client.pool()).await?;
        let mut histories: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (key, event, _) in rows {
            histories.entry(key).or_default().push(event);
        }
        Ok(histories)
    }
}

fn by_key(events: &[Value]) -> BTreeMap<String, Vec<String>> {
    let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for event in events {
        let key = event["step_uuid"].as_str().or(event["task_uuid"].as_str());
        let word = |field: &str| event[field].as_str().unwrap_or_default().to_owned();
        found
            .entry(key.unwrap_or_default().to_owned())
            .or_default()
            .push(format!("{} {}", word("event"), word("to_state")));
    }
    found
}

#[tokio::test]
async fn listeners_that_come_and_go_among_writers_that_commit_late_get_everything_once()
-> anyhow::Result<()> {
    let stage = Stage::new().await?;
    let server = Server::start(&stage.own.url(), &[]).await?;
    // One that stays; one that follows by the client; one that leaves after each handful and comes back with its last id.
    let mut steady = EventStream::follow(&server, "/v1/events?from=oldest", None).await?;
    let mut client = stage.client.events(EventFilter::default(), None);
    let mut restless: Vec<Message> = Vec::new();
    let writing = stage.write();
    let mut writing = std::pin::pin!(writing);
    loop {
        let last = restless.last().and_then(|message| message.id.clone());
        let mut stream =
            EventStream::follow(&server, "/v1/events?from=oldest", last.as_deref()).await?;
        let handful = async {
            for _ in 0..17 {
                restless.extend(stream.event().await?);
            }
            anyhow::Ok(())
        };
        tokio::select! {
            written = &mut writing => { written?; break; }
            read = handful => read?,
        }
    }
    let expected = stage.histories().await?;
    let count: usize = expected.values().map(Vec::len).sum();

    let had = restless.len();
    let last = restless.last().and_then(|message| message.id.clone());
    let mut stream =
        EventStream::follow(&server, "/v1/events?from=oldest", last.as_deref()).await?;
    restless.extend(stream.events(count - had).await?);
    let steady = steady.events(count).await?;
    let mut followed: Vec<Event> = Vec::new();
    while followed.len() < count {
        followed.push(tokio::time::timeout(WITHIN, client.next()).await??);
    }
    let values = |messages: &[Message]| -> anyhow::Result<Vec<Value>> {
        messages.iter().map(Message::json).collect()
    };
    assert_eq!(by_key(&values(&steady)?), expected);
    assert_eq!(by_key(&values(&restless)?), expected);
    let followed: Vec<Value> = followed
        .iter()
        .map(serde_json::to_value)
        .collect::<Result<_, _>>()?;
    assert_eq!(by_key(&followed), expected);

    // Nothing more comes.
    stage.create(1).await?;
    let next = stream.event().await?.context("it ended")?;
    assert_eq!(next.json()?["event"], "start");
    Ok(())
}

/// Both ends of each connection are files of this machine.
fn allow_files(count: u64) -> anyhow::Result<bool> {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit)?;
    Ok(limit.maximum.is_none_or(|most| most >= count))
}

#[tokio::test]
async fn two_thousand_listeners_cost_one_connection_to_the_database() -> anyhow::Result<()> {
    let count = if allow_files(4500)? { 2000 } else { 400 };
    if count < 2000 {
        eprintln!("only {count} listeners: this system allows no more open files");
    }
    let stage = Stage::new().await?;
    let server = Server::start(
        &stage.own.url(),
        &["--no-maintenance", "--sql-runners", "0"],
    )
    .await?;
    let mut streams = Vec::new();
    for number in 0..count {
        let path = if number % 2 == 0 {
            "/v1/events"
        } else {
            "/v1/events?namespace=default"
        };
        streams.push(EventStream::follow(&server, path, None).await?);
    }
    let query = "select count(*) from pg_stat_activity where application_name = 'tasker-server' and (state <> 'idle' or query_start > now() - interval '1 second')";
    let busy: i64 = sqlx::query_scalar(query)
        .fetch_one(stage.client.pool())
        .await?;
    ensure!(busy <= 2, "{busy} connections");

    stage.create(3).await?;
    let expected = streams[0].events(1).await?;
    let mut all = Vec::new();
    for stream in &mut streams {
        let events = if all.is_empty() { 11 } else { 12 };
        all.push(stream.events(events).await?);
    }
    all[0].splice(0..0, expected);
    ensure!(all.iter().all(|events| *events == all[0]));
    Ok(())
}

/// An event's data without its cursor, which comes first and is each reader's own.
fn told(message: &Message) -> &str {
    let begin = message.data.find("\"at\"").unwrap_or_default();
    &message.data[begin..]
}

/// So many events, with as many streams as that takes: on a busy machine nobody is quick enough for certain.
async fn all_of(
    server: &Server,
    mut stream: EventStream,
    count: usize,
) -> anyhow::Result<Vec<Message>> {
    let mut events: Vec<Message> = Vec::new();
    while events.len() < count {
        if let Some(event) = stream.event().await? {
            events.push(event);
        } else {
            let last = events.last().and_then(|event| event.id.as_deref());
            stream = EventStream::follow(server, "/v1/events", last).await?;
        }
    }
    Ok(events)
}

#[tokio::test]
async fn a_listener_that_reads_too_slowly_is_told_and_goes_on_by_its_id() -> anyhow::Result<()> {
    let stage = Stage::new().await?;
    let server = Server::start(&stage.own.url(), &[]).await?;
    let quick = EventStream::follow(&server, "/v1/events", None).await?;
    let mut slow = EventStream::follow(&server, "/v1/events", None).await?;
    // Far more than the ring and what lies between hold.
    let tasks = 15_000;
    let creating = async {
        for _ in 0..tasks / 500 {
            stage.create(500).await?;
        }
        anyhow::Ok(())
    };
    let (events, ()) = tokio::try_join!(all_of(&server, quick, tasks * 4), creating)?;
    let had = slow.rest().await?;
    let said = had.last().context("nothing")?;
    assert!(said.comments[0].contains("doesn't keep up"), "{said:?}");
    let had: Vec<&Message> = had.iter().filter(|message| message.is_event()).collect();
    assert!(had.len() < events.len());
    assert!(
        had.iter()
            .zip(&events)
            .all(|(had, event)| told(had) == told(event))
    );

    let last = had.last().context("nothing")?.id.as_deref();
    let mut again = EventStream::follow(&server, "/v1/events", last).await?;
    let rest = again.events(events.len() - had.len()).await?;
    assert!(
        rest.iter()
            .map(told)
            .eq(events[had.len()..].iter().map(told))
    );
    Ok(())
}

/// A listener that asks for everything, is answered and reads no further, with as little room for what comes as the system gives.
async fn deaf(server: &Server) -> anyhow::Result<TcpStream> {
    let address = server.url.trim_start_matches("http://");
    let socket = TcpSocket::new_v4()?;
    socket.set_recv_buffer_size(4096)?;
    let mut connection = socket.connect(address.parse()?).await?;
    let request = format!("GET /v1/events?from=oldest HTTP/1.1\r\nHost: {address}\r\n\r\n");
    connection.write_all(request.as_bytes()).await?;
    let mut answered = [0; 12];
    connection.read_exact(&mut answered).await?;
    ensure!(answered == *b"HTTP/1.1 200", "{answered:?}");
    Ok(connection)
}

#[tokio::test]
async fn a_listener_that_never_reads_loses_its_seat() -> anyhow::Result<()> {
    let stage = Stage::new().await?;
    let flags = ["--event-listeners", "1", "--write-timeout-seconds", "1"];
    let server = Server::start(&stage.own.url(), &flags).await?;
    // More than the system takes for a connection that stands still.
    for _ in 0..12 {
        stage.create(500).await?;
    }
    let deaf = deaf(&server).await?;
    eventually("its seat is free", WITHIN, async || {
        let other = EventStream::open(&server, "/v1/events", None).await?;
        Ok((other.status == 200).then_some(()))
    })
    .await?;
    drop(deaf);
    Ok(())
}

#[tokio::test]
async fn listeners_outlive_a_restart_of_the_database() -> anyhow::Result<()> {
    let mut stage = Stage::new().await?;
    let server = Server::start(&stage.own.url(), &[]).await?;
    let mut stream = EventStream::follow(&server, "/v1/events", None).await?;
    stage.create(1).await?;
    stream.events(4).await?;
    stage.own.cluster.restart(StopMode::Fast)?;
    eventually("the database is back", WITHIN, async || {
        match stage.create(1).await {
            Ok(()) => Ok(Some(())),
            Err(error) => match error.downcast_ref::<tasker_client::Error>() {
                Some(client) if client.is_transient() => Ok(None),
                _ => Err(error),
            },
        }
    })
    .await?;
    let events = stream.events(4).await?;
    assert_eq!(events[0].json()?["event"], "start");
    Ok(())
}
