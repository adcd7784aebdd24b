//! Streams of events as an application reads them, over SQL and over REST: to a task's end, and resumed where they broke off.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::json;
use tasker_client::{Error, Event, EventFilter, EventStart, EventStream};
use tasker_tests::application::{Application, DOORS, Door, of};
use tasker_tests::by_hand::{PAYMENT, complete, register};
use tasker_tests::{Server, eventually};
use uuid::Uuid;

const WITHIN: Duration = Duration::from_mins(1);

async fn application(door: Door) -> anyhow::Result<Application> {
    let application = Application::new(door).await?;
    let of_shop = PAYMENT.replace("name: payment", "name: payment\nnamespace: shop");
    register(application.client(), &[PAYMENT, &of_shop]).await?;
    Ok(application)
}

fn of_task(task_uuid: Uuid) -> EventFilter {
    EventFilter {
        task_uuid: Some(task_uuid),
        ..EventFilter::default()
    }
}

/// What an event says, whoever reads it: its cursor is the reader's.
fn word(event: &Event) -> String {
    format!("{:?} {} {}", event.step_name, event.event, event.to_state)
}

/// What tells an event from all others.
fn identity(event: &Event) -> String {
    format!(
        "{} {} {:?} {}",
        event.task_uuid,
        event.at,
        event.step_uuid,
        word(event)
    )
}

async fn next(stream: &mut EventStream) -> anyhow::Result<Option<Event>> {
    Ok(tokio::time::timeout(WITHIN, stream.next())
        .await?
        .transpose()?)
}

async fn take(stream: &mut EventStream, count: usize) -> anyhow::Result<Vec<String>> {
    let mut seen = Vec::new();
    while seen.len() < count {
        let Some(event) = next(stream).await? else {
            anyhow::bail!("it ended after {}", seen.len());
        };
        assert_eq!(stream.cursor(), Some(event.cursor.as_str()));
        seen.push(identity(&event));
    }
    Ok(seen)
}

async fn rest(stream: &mut EventStream) -> anyhow::Result<Vec<Event>> {
    let mut events = Vec::new();
    while let Some(event) = next(stream).await? {
        events.push(event);
    }
    Ok(events)
}

async fn run(application: &Application) -> anyhow::Result<()> {
    complete(application.client(), "price", &json!(1)).await?;
    complete(application.client(), "pay", &json!(null)).await
}

#[tokio::test]
async fn a_task_is_followed_to_its_end_and_again_from_a_cursor() -> anyhow::Result<()> {
    let mut told = Vec::new();
    for door in DOORS {
        let application = application(door).await?;
        let tasker = &application.tasker;
        let task_uuid = tasker.create_task(&of("payment")).await?;
        let mut stream = tasker.events(of_task(task_uuid), EventStart::Oldest);
        let (followed, ran) = tokio::join!(rest(&mut stream), run(&application));
        let (followed, ()) = (followed?, ran?);
        let last = followed.last().expect("events");
        assert_eq!(last.task_end(), Some("complete"));
        assert_eq!(stream.cursor(), Some(last.cursor.as_str()));
        assert!(next(&mut stream).await?.is_none(), "it stays at its end");

        let middle = followed[2].cursor.clone();
        let mut later = tasker.events(of_task(task_uuid), EventStart::After(middle));
        let words = |events: &[Event]| events.iter().map(word).collect::<Vec<_>>();
        assert_eq!(words(&rest(&mut later).await?), words(&followed[3..]));

        let end = EventStart::After(last.cursor.clone());
        for start in [end, EventStart::Now] {
            let mut over = tasker.events(of_task(task_uuid), start);
            assert!(next(&mut over).await?.is_none(), "{door:?}");
        }
        told.push(words(&followed));
    }
    assert_eq!(told[0], told[1]);
    Ok(())
}

#[tokio::test]
async fn a_stream_of_what_comes_has_what_comes_of_its_namespace() -> anyhow::Result<()> {
    for door in DOORS {
        let application = application(door).await?;
        let tasker = &application.tasker;
        tasker.create_task(&of("payment")).await?;
        let filter = EventFilter {
            namespace: Some("shop".to_owned()),
            ..EventFilter::default()
        };
        let mut stream = tasker.events(filter, EventStart::Now);
        // Nothing comes, and it has begun.
        let nothing = tokio::time::timeout(Duration::from_secs(1), stream.next()).await;
        assert!(nothing.is_err(), "{nothing:?}");
        tasker.create_task(&of("payment")).await?;
        let mut of_shop = of("payment");
        of_shop.namespace = "shop".to_owned();
        let task_uuid = tasker.create_task(&of_shop).await?;
        let event = next(&mut stream).await?.expect("an event");
        assert_eq!(
            (event.task_uuid, event.namespace.as_str()),
            (task_uuid, "shop")
        );
    }
    Ok(())
}

#[tokio::test]
async fn what_cannot_be_followed_is_refused_alike() -> anyhow::Result<()> {
    for door in DOORS {
        let application = application(door).await?;
        let tasker = &application.tasker;
        let nothing = of_task(Uuid::from_u128(1 << 20));
        for start in [EventStart::Oldest, EventStart::Now] {
            let refused = tasker.events(nothing.clone(), start).next().await;
            assert!(
                matches!(&refused, Some(Err(Error::NotFound(_)))),
                "{door:?}: {refused:?}"
            );
        }
        for cursor in ["", "nonsense", "a\nb ü"] {
            let start = EventStart::After(cursor.to_owned());
            let refused = tasker.events(EventFilter::default(), start).next().await;
            assert!(
                matches!(&refused, Some(Err(Error::BadParameter(details))) if details.code == "22023"),
                "{door:?} {cursor:?}: {refused:?}"
            );
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_stream_outlives_its_server_and_misses_nothing_also_before_its_first_event()
-> anyhow::Result<()> {
    const EVENTS_OF_A_TASK: usize = 4;
    let mut application = application(Door::Rest).await?;
    let mut server = application.server.take().expect("a server");
    let address = server.url.trim_start_matches("http://").to_owned();
    let mut stream = application
        .tasker
        .events(EventFilter::default(), EventStart::Now);
    let begun = tokio::time::timeout(Duration::from_secs(2), stream.next()).await;
    assert!(begun.is_err() && stream.cursor().is_some(), "{begun:?}");
    let mut seen = Vec::new();
    for _ in 0..3 {
        server.program.kill().await?;
        // While nobody is there to tell of it.
        application.client().create_task(&of("payment")).await?;
        server = Server::start_at(&address, application.database.url(), &[]).await?;
        application.client().create_task(&of("payment")).await?;
        seen.extend(take(&mut stream, 2 * EVENTS_OF_A_TASK).await?);
    }
    let span = tasker_client::EventSpan {
        limit: Some(1000),
        ..Default::default()
    };
    let listed = application
        .client()
        .list_events(&EventFilter::default(), span)
        .await?;
    let listed: BTreeSet<_> = listed.into_iter().map(|event| identity(&event)).collect();
    assert_eq!(seen.len(), listed.len());
    assert_eq!(seen.into_iter().collect::<BTreeSet<_>>(), listed);
    Ok(())
}

#[tokio::test]
async fn a_stream_is_a_stream_to_others_as_well() -> anyhow::Result<()> {
    use futures_util::StreamExt;
    for door in DOORS {
        let application = application(door).await?;
        let task_uuid = application.tasker.create_task(&of("payment")).await?;
        run(&application).await?;
        let stream = application
            .tasker
            .events(of_task(task_uuid), EventStart::Oldest);
        let events: Vec<_> = tokio::time::timeout(WITHIN, stream.into_stream().collect()).await?;
        assert!(events.iter().all(Result::is_ok) && events.len() > 4);
        eventually("no listener is left", WITHIN, async || {
            let Some(server) = &application.server else {
                return Ok(Some(()));
            };
            let metrics = server
                .request(reqwest::Method::GET, "/metrics")
                .send()
                .await?
                .text()
                .await?;
            Ok(metrics.contains("tasker_event_listeners 0").then_some(()))
        })
        .await?;
    }
    Ok(())
}
