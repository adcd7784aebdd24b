//! The feed as streams of gRPC: to the end of a task, resumed by a cursor, limited, refused, drained.

use std::time::Duration;

use anyhow::Context;
use serde_json::{Value, json};
use tasker_client::{EventFilter, EventSpan};
use tasker_tests::credentials::api_key;
use tasker_tests::following::{completed, create};
use tasker_tests::grpc::{as_rest, code_of};
use tasker_tests::{Server, Stage, TestDatabase};
use tonic::{Code, Status};

const WITHIN: Duration = Duration::from_secs(20);
const OF_TASK: &str = "TaskService/StreamTaskEvents";
const OF_ALL: &str = "TaskService/StreamEvents";

#[tokio::test]
async fn a_task_is_followed_to_its_end_and_resumed_in_the_middle() -> anyhow::Result<()> {
    let stage = Stage::new(&[]).await?;
    let server = Server::start(stage.database.url(), &[]).await?;
    let grpc = server.grpc().await?;
    let task_uuid = create(stage.client(), "example", "diamond_workflow", &json!({})).await?;
    let mut stream = grpc
        .stream(OF_TASK, json!({"task_uuid": task_uuid}))
        .await??;
    let events = stream.rest().await?;
    let filter = EventFilter {
        task_uuid: Some(task_uuid),
        ..EventFilter::default()
    };
    let span = EventSpan {
        limit: Some(1000),
        ..EventSpan::default()
    };
    let listed = stage.client().list_events(&filter, span).await?;
    let listed: Vec<Value> = serde_json::from_value(serde_json::to_value(listed)?)?;
    let bare = |events: &[Value]| -> Vec<Value> {
        let without_cursor = |event: &Value| {
            let mut event = as_rest(event);
            event.as_object_mut().map(|fields| fields.remove("cursor"));
            event
        };
        events.iter().map(without_cursor).collect()
    };
    assert_eq!(bare(&events), bare(&listed));

    let middle = events.len() / 2;
    let after = &events[middle]["cursor"];
    let resumed = json!({"task_uuid": task_uuid, "after": after});
    let rest = grpc.stream(OF_TASK, resumed).await??.rest().await?;
    assert_eq!(bare(&rest), bare(&events[middle + 1..]));

    // Nothing is left for whoever has had all of it, or wants only what comes.
    let last = &events.last().context("events")?["cursor"];
    for request in [
        json!({"task_uuid": task_uuid, "after": last}),
        json!({"task_uuid": task_uuid, "from": "now"}),
    ] {
        let rest = grpc.stream(OF_TASK, request).await??.rest().await?;
        assert_eq!(rest, Vec::<Value>::new());
    }
    Ok(())
}

#[tokio::test]
async fn what_comes_is_followed_within_the_namespaces_of_the_caller() -> anyhow::Result<()> {
    let stage = Stage::new(&[]).await?;
    let server = Server::start(stage.database.url(), &["--authentication"]).await?;
    let database = &stage.database;
    let limited = api_key(database, "limited", &["tasks:read"], Some(&["media"])).await?;
    let free = api_key(database, "free", &["tasks:read"], None).await?;
    let grpc = server.grpc().await?;
    let mut of_limited = grpc
        .with("x-api-key", &limited)
        .stream(OF_ALL, json!({}))
        .await??;
    let mut of_free = grpc
        .with("x-api-key", &free)
        .stream(OF_ALL, json!({}))
        .await??;
    let task_uuid = create(stage.client(), "example", "linear_workflow", &json!({})).await?;
    completed(stage.client(), task_uuid).await?;
    let event = tokio::time::timeout(WITHIN, of_free.event())
        .await??
        .context("an event")?;
    assert_eq!(event["task_uuid"], json!(task_uuid));
    let nothing = tokio::time::timeout(Duration::from_millis(300), of_limited.event()).await;
    assert!(nothing.is_err(), "{nothing:?}");
    let theirs = json!({"task_uuid": task_uuid});
    let refused = refused(
        &grpc
            .with("x-api-key", &limited)
            .stream(OF_TASK, theirs)
            .await?,
    );
    assert_eq!(
        (refused.code(), code_of(&refused).as_str()),
        (Code::NotFound, "TK001")
    );
    Ok(())
}

fn refused<T>(opened: &Result<T, Status>) -> Status {
    match opened {
        Ok(_) => Status::ok("it was opened"),
        Err(status) => status.clone(),
    }
}

#[tokio::test]
async fn streams_that_cannot_be_are_refused() -> anyhow::Result<()> {
    let database = TestDatabase::with_examples().await?;
    let server = Server::start(database.url(), &["--event-listeners", "1"]).await?;
    let grpc = server.grpc().await?;
    for (method, request, code) in [
        (OF_TASK, json!({"task_uuid": "x"}), "22P02"),
        (
            OF_TASK,
            json!({"task_uuid": "01890000-0000-7000-8000-000000000000"}),
            "TK001",
        ),
        (OF_ALL, json!({"from": "yesterday"}), "22023"),
        (OF_ALL, json!({"after": "no cursor"}), "22023"),
    ] {
        let refused = refused(&grpc.stream(method, request.clone()).await?);
        assert_eq!(code_of(&refused), code, "{request}: {refused:?}");
        assert_ne!(refused.code(), Code::Internal);
    }
    let _one = grpc.stream(OF_ALL, json!({})).await??;
    let other = refused(&grpc.stream(OF_ALL, json!({})).await?);
    assert_eq!(
        (other.code(), code_of(&other).as_str()),
        (Code::Unavailable, "listeners_full")
    );
    Ok(())
}

#[tokio::test]
async fn a_server_that_stops_tells_its_listeners_to_go_on_elsewhere() -> anyhow::Result<()> {
    let database = TestDatabase::with_examples().await?;
    let mut server = Server::start(database.url(), &[]).await?;
    let grpc = server.grpc().await?;
    let mut stream = grpc.stream(OF_ALL, json!({})).await??;
    let (ended, stopped) = tokio::join!(stream.end(), server.program.terminate(WITHIN));
    assert!(stopped?.success(), "{}", server.program.log());
    let ended = ended.expect_err("it isn't the end of a task");
    assert_eq!(
        (ended.code(), code_of(&ended).as_str()),
        (Code::Unavailable, "server_stops")
    );
    assert!(!server.program.log().contains("with requests under way"));
    Ok(())
}
