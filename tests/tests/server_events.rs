//! The feed as Server-Sent Events: resumed by an id, ended with its task, refused, drained.

use std::time::Duration;

use serde_json::json;
use tasker_client::{EventFilter, EventSpan};
use tasker_tests::following::{completed, create};
use tasker_tests::sse::{EventStream, Message};
use tasker_tests::{Server, Stage, TestDatabase, eventually};
use uuid::Uuid;

const WITHIN: Duration = Duration::from_secs(20);

async fn stage() -> anyhow::Result<(Stage, Server)> {
    let stage = Stage::new(&[]).await?;
    let server = Server::start(stage.database.url(), &[]).await?;
    Ok((stage, server))
}

/// What the feed has of a task, when all of it has settled.
async fn listed(stage: &Stage, task_uuid: Uuid) -> anyhow::Result<Vec<String>> {
    let filter = EventFilter {
        task_uuid: Some(task_uuid),
        ..EventFilter::default()
    };
    eventually("the task's end is listed", WITHIN, async || {
        let span = EventSpan {
            limit: Some(1000),
            ..EventSpan::default()
        };
        let events = stage.client().list_events(&filter, span).await?;
        let is_whole = events
            .last()
            .is_some_and(|event| event.task_end().is_some());
        let texts = events
            .iter()
            .map(|event| format!("{:?} {} {}", event.step_name, event.event, event.to_state));
        Ok(is_whole.then(|| texts.collect()))
    })
    .await
}

fn texts(messages: &[Message]) -> anyhow::Result<Vec<String>> {
    messages
        .iter()
        .map(|message| {
            let event = message.json()?;
            assert_eq!(event["cursor"].as_str(), message.id.as_deref());
            let step = event["step_name"].as_str();
            let word = |field: &str| event[field].as_str().unwrap_or_default().to_owned();
            Ok(format!("{step:?} {} {}", word("event"), word("to_state")))
        })
        .collect()
}

#[tokio::test]
async fn a_task_is_followed_until_it_has_ended() -> anyhow::Result<()> {
    let (stage, server) = stage().await?;
    let task_uuid = create(stage.client(), "example", "diamond_workflow", &json!({})).await?;
    let path = format!("/v1/tasks/{task_uuid}/events");
    let mut stream = EventStream::follow(&server, &path, None).await?;
    let mut events: Vec<Message> = stream.rest().await?;
    events.retain(Message::is_event);
    let end = events.pop().expect("an end");
    assert_eq!(end.event.as_deref(), Some("end"));
    assert_eq!(
        end.json()?,
        json!({"task_uuid": task_uuid, "state": "complete"})
    );
    assert_eq!(texts(&events)?, listed(&stage, task_uuid).await?);

    // Whoever comes back is told that nothing is left, wherever it reads that from.
    let last = end.id.as_deref();
    assert_eq!(EventStream::open(&server, &path, last).await?.status, 204);
    let now = format!("{path}?from=now");
    assert_eq!(EventStream::open(&server, &now, None).await?.status, 204);

    // In the middle it gets the rest, and the end again.
    let middle = events[events.len() / 2].id.clone();
    let mut rest = EventStream::follow(&server, &path, middle.as_deref())
        .await?
        .rest()
        .await?;
    rest.retain(Message::is_event);
    assert_eq!(rest.len(), events.len() - events.len() / 2);
    assert_eq!(rest.last().map(|message| &message.data), Some(&end.data));

    // A task that runs again goes on.
    sqlx::query("select tasker.rerun_task($1)")
        .bind(task_uuid)
        .execute(stage.database.pool())
        .await?;
    completed(stage.client(), task_uuid).await?;
    let mut again = EventStream::follow(&server, &path, last).await?;
    let again = again.rest().await?;
    assert!(again.iter().any(|message| message.data.contains("rerun")));
    assert_eq!(
        again.last().and_then(|message| message.event.as_deref()),
        Some("end")
    );
    Ok(())
}

#[tokio::test]
async fn all_tasks_are_followed_from_now_on_or_from_the_oldest() -> anyhow::Result<()> {
    let (stage, server) = stage().await?;
    let before = stage.run("example", "linear_workflow", &json!({})).await?;
    let old = listed(&stage, before).await?;
    let mut new = EventStream::follow(&server, "/v1/events", None).await?;
    let mut of_data = EventStream::follow(&server, "/v1/events?namespace=data", None).await?;
    let mut all = EventStream::follow(&server, "/v1/events?from=oldest", None).await?;
    let task_uuid = stage.run("example", "diamond_workflow", &json!({})).await?;
    let of_task = listed(&stage, task_uuid).await?;
    let pipeline = stage.run("data", "data_pipeline", &json!({})).await?;
    let of_pipeline = listed(&stage, pipeline).await?;

    assert_eq!(
        texts(&all.events(old.len()).await?)?,
        old,
        "what was before comes first"
    );
    let got = new.events(of_task.len() + of_pipeline.len()).await?;
    let mine = |task: Uuid| -> Vec<Message> {
        let task = task.to_string();
        got.iter()
            .filter(|message| message.data.contains(&task))
            .cloned()
            .collect()
    };
    assert_eq!(texts(&mine(task_uuid))?, of_task);
    assert_eq!(texts(&mine(pipeline))?, of_pipeline);
    assert_eq!(
        texts(&of_data.events(of_pipeline.len()).await?)?,
        of_pipeline
    );
    Ok(())
}

#[tokio::test]
async fn a_listener_goes_on_where_it_was_at_another_server() -> anyhow::Result<()> {
    let (stage, mut server) = stage().await?;
    let mut stream = EventStream::follow(&server, "/v1/events", None).await?;
    let first = stage.run("example", "linear_workflow", &json!({})).await?;
    let first = listed(&stage, first).await?;
    let had = stream.events(first.len() / 2).await?;
    let cursor = had.last().and_then(|message| message.id.clone());

    server.program.terminate(WITHIN).await?;
    let left = stream.rest().await?;
    let said = left.last().expect("a word at the end");
    assert!(said.comments[0].contains("the server stops"), "{said:?}");

    let second = stage.run("example", "linear_workflow", &json!({})).await?;
    let second = listed(&stage, second).await?;
    let server = Server::start(stage.database.url(), &[]).await?;
    for path in [
        "/v1/events".to_owned(),
        format!("/v1/events?after={}", cursor.as_deref().unwrap_or_default()),
    ] {
        let header = (!path.contains("after"))
            .then_some(cursor.as_deref())
            .flatten();
        let mut stream = EventStream::follow(&server, &path, header).await?;
        let rest = stream
            .events(first.len() - had.len() + second.len())
            .await?;
        let wanted: Vec<String> = first[had.len()..].iter().chain(&second).cloned().collect();
        assert_eq!(texts(&rest)?, wanted);
    }
    Ok(())
}

#[tokio::test]
async fn a_stream_that_cannot_be_is_refused_with_its_reason() -> anyhow::Result<()> {
    let database = TestDatabase::with_examples().await?;
    let server = Server::start(database.url(), &["--event-listeners", "2"]).await?;
    let missing = format!("/v1/tasks/{}/events", Uuid::now_v7());
    for (path, id, status, code) in [
        ("/v1/events", Some("nonsense"), 400, "22023"),
        ("/v1/events?after=nonsense", None, 400, "22023"),
        ("/v1/events?form=oldest", None, 400, "22023"),
        ("/v1/events?from=yesterday", None, 400, "22023"),
        ("/v1/tasks/none/events", None, 400, "22P02"),
        (&missing, None, 404, "TK001"),
    ] {
        let mut stream = EventStream::open(&server, path, id).await?;
        let body = stream.rest().await;
        assert_eq!(stream.status, status, "{path} {body:?}");
        let refused = server.request(reqwest::Method::GET, path);
        let refused = match id {
            Some(id) => refused.header("Last-Event-ID", id),
            None => refused,
        };
        let answer = tasker_tests::http::answer(refused).await?;
        assert_eq!(answer.code(), code, "{path}");
    }
    // Refused ones keep no seat.
    let first = EventStream::follow(&server, "/v1/events", None).await?;
    let _second = EventStream::follow(&server, "/v1/events", None).await?;
    let third = server.get("/v1/events").await?;
    assert_eq!((third.status, third.code()), (503, "listeners_full"));
    assert_eq!(third.retry_after.as_deref(), Some("1"));
    drop(first);
    eventually("a seat is free again", WITHIN, async || {
        let stream = EventStream::open(&server, "/v1/events", None).await?;
        Ok((stream.status == 200).then_some(()))
    })
    .await
}

#[tokio::test]
async fn a_quiet_stream_says_something_now_and_then_and_ends_when_the_server_stops()
-> anyhow::Result<()> {
    let database = TestDatabase::with_examples().await?;
    let arguments = [
        "--event-heartbeat-seconds",
        "1",
        "--concurrent-requests",
        "1",
        "--request-timeout-seconds",
        "1",
    ];
    let mut server = Server::start(database.url(), &arguments).await?;
    // Neither the bound on requests nor their timeout is for streams.
    let mut streams = Vec::new();
    for _ in 0..3 {
        streams.push(EventStream::follow(&server, "/v1/events", None).await?);
    }
    for stream in &mut streams {
        for _ in 0..2 {
            let message = stream.message().await?.expect("a heartbeat");
            assert!(!message.is_event() && !message.comments.is_empty());
        }
    }
    assert_eq!(server.get("/v1/templates").await?.status, 200);
    server.program.terminate(WITHIN).await?;
    for mut stream in streams {
        assert!(stream.rest().await?.iter().any(|message| {
            message
                .comments
                .iter()
                .any(|comment| comment.contains("the server stops"))
        }));
    }
    Ok(())
}
