//! Domain events end to end: real workers publish and take them.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::Context;
use serde_json::{Value, json};
use sqlx::postgres::PgListener;
use tasker_client::{Client, Definition, DomainEvent, DomainEventFilter};
use tasker_tests::following::{completed, create};
use tasker_tests::{Program, Stage, TestDatabase, eventually};
use tasker_worker_runtime::{CancellationToken, HandlerError, StepContext, Worker, WorkerBuilder};
use tokio::task::JoinHandle;
use uuid::Uuid;

const WITHIN: Duration = Duration::from_secs(20);

const ONE: &str =
    "{name: one, version: 1.0.0, steps: [{name: a, handler: {callable: t.a}, publishes_events: [
    {name: a.done}, {name: a.told, delivery_mode: fast}]}]}";

/// The events that came to a subscriber.
#[derive(Debug, Clone, Default)]
struct Taken(Arc<Mutex<Vec<DomainEvent>>>);

impl Taken {
    fn events(&self) -> Vec<DomainEvent> {
        self.0
            .lock()
            .map(|events| events.clone())
            .unwrap_or_default()
    }

    fn note(&self, event: DomainEvent) {
        if let Ok(mut events) = self.0.lock() {
            events.push(event);
        }
    }

    /// Waits until so many events of a name have come.
    async fn of(&self, name: &str, count: usize) -> anyhow::Result<Vec<DomainEvent>> {
        eventually(&format!("{count} events {name} come"), WITHIN, async || {
            let mut events = self.events();
            events.retain(|event| event.name == name);
            Ok((events.len() >= count).then_some(events))
        })
        .await
    }
}

/// Takes every event and notes it.
fn noting(
    taken: &Taken,
) -> impl Fn(DomainEvent) -> std::future::Ready<Result<(), HandlerError>> + use<> {
    let taken = taken.clone();
    move |event| {
        taken.note(event);
        std::future::ready(Ok(()))
    }
}

fn builder(database: &TestDatabase) -> WorkerBuilder {
    Worker::builder(database.client().clone())
        .namespaces(["default"])
        .lease(Duration::from_secs(1))
        .poll_interval(Duration::from_millis(100))
}

fn run(builder: WorkerBuilder) -> anyhow::Result<(CancellationToken, JoinHandle<()>)> {
    let (worker, shutdown) = (builder.build()?, CancellationToken::new());
    let token = shutdown.clone();
    let running = tokio::spawn(async move {
        if let Err(error) = worker.run(token).await {
            eprintln!("the worker ended: {error}");
        }
    });
    Ok((shutdown, running))
}

async fn a(step: StepContext) -> Result<Value, HandlerError> {
    if let Some(own) = step.optional_context_field::<Value>("own")? {
        step.publish("a.done", own.clone());
        step.publish("a.told", own);
    }
    Ok(json!({"n": 1}))
}

/// A database with the template, and a worker for its step.
async fn published_to(names: &[&str]) -> anyhow::Result<(TestDatabase, CancellationToken)> {
    let database = TestDatabase::new().await?;
    let client = database.client();
    client
        .register_template(Definition::Yaml(ONE), None)
        .await?;
    for name in names {
        client
            .subscribe_domain_events(name, &["default".to_owned()], &["a.*".to_owned()])
            .await?;
    }
    let (shutdown, _) = run(builder(&database).register("t.a", a))?;
    Ok((database, shutdown))
}

async fn publish(client: &Client, context: &Value) -> anyhow::Result<Uuid> {
    let task_uuid = create(client, "default", "one", context).await?;
    completed(client, task_uuid).await?;
    Ok(task_uuid)
}

async fn none_waits(client: &Client) -> anyhow::Result<()> {
    eventually("no event waits", WITHIN, async || {
        let subscriptions = client.list_subscriptions(None).await?;
        let waiting: i64 = subscriptions.iter().map(|one| one.waiting).sum();
        Ok((waiting == 0).then_some(()))
    })
    .await
}

#[tokio::test]
async fn an_order_that_is_shipped_is_told_to_the_worker_that_subscribes() -> anyhow::Result<()> {
    let stage = Stage::new(&[]).await?;
    let order = json!({"order_id": "A-1", "customer_email": "ada@example.org",
        "items": [{"sku": "mug", "quantity": 2, "price_cents": 1250}]});
    let subscribed = async || {
        let all = stage.client().list_subscriptions(Some("shop")).await?;
        Ok((!all.is_empty()).then_some(()))
    };
    eventually("the worker subscribes", WITHIN, subscribed).await?;
    let task_uuid = stage.run("shop", "order_fulfillment", &order).await?;
    eventually("the worker logs the event", WITHIN, async || {
        let log = stage.worker.log();
        Ok(log
            .contains("the domain event order.shipped has come")
            .then_some(()))
    })
    .await?;
    let filter = DomainEventFilter {
        task_uuid: Some(task_uuid),
        ..DomainEventFilter::default()
    };
    let listed = stage.client().list_domain_events(&filter).await?;
    let [event] = listed.as_slice() else {
        anyhow::bail!("{listed:?}");
    };
    assert_eq!(
        (event.name.as_str(), event.subscriptions),
        ("order.shipped", 1)
    );
    none_waits(stage.client()).await
}

#[tokio::test]
async fn an_event_outlives_the_worker_that_dies_between_its_delivery_and_its_answer()
-> anyhow::Result<()> {
    let (database, _steps) = published_to(&["mailer"]).await?;
    let (taken, seen) = (Taken::default(), Taken::default());
    let hanging = {
        let seen = seen.clone();
        move |event| {
            seen.note(event);
            std::future::pending::<Result<(), HandlerError>>()
        }
    };
    let (_, first) = run(builder(&database)
        .subscriber("mailer")
        .subscribe("a.*", hanging))?;
    let task_uuid = publish(database.client(), &json!({})).await?;
    let delivered = seen.of("a.done", 1).await?;
    first.abort();
    let _second = run(builder(&database)
        .subscriber("mailer")
        .subscribe("a.*", noting(&taken)))?;
    let again = taken.of("a.done", 1).await?;
    assert_eq!(again[0], delivered[0]);
    assert_eq!(
        (again[0].task_uuid, &again[0].payload),
        (task_uuid, &json!({"n": 1}))
    );
    none_waits(database.client()).await
}

#[tokio::test]
async fn an_event_comes_again_until_its_handler_succeeds() -> anyhow::Result<()> {
    let (database, _steps) = published_to(&["mailer"]).await?;
    let taken = Taken::default();
    let failing_once = {
        let taken = taken.clone();
        move |event: DomainEvent| {
            let is_first = taken.events().is_empty();
            taken.note(event);
            std::future::ready(if is_first {
                Err(HandlerError::retryable("not yet"))
            } else {
                Ok(())
            })
        }
    };
    let _worker = run(builder(&database)
        .subscriber("mailer")
        .subscribe("a.d*", failing_once))?;
    eventually("the worker subscribes", WITHIN, async || {
        let all = database.client().list_subscriptions(None).await?;
        Ok((all.len() == 2).then_some(()))
    })
    .await?;
    publish(database.client(), &json!({"own": {"mine": true}})).await?;
    let events = taken.of("a.done", 2).await?;
    assert_eq!(events[0], events[1]);
    assert_eq!(events[0].payload, json!({"mine": true}));
    Ok(())
}

#[tokio::test]
async fn a_fast_event_comes_to_every_worker_that_listens() -> anyhow::Result<()> {
    let (database, _steps) = published_to(&[]).await?;
    let (one, other) = (Taken::default(), Taken::default());
    let _one = run(builder(&database).subscribe("a.told", noting(&one)))?;
    let _other = run(builder(&database).subscribe("*.told", noting(&other)))?;
    // They miss what is told before they listen.
    eventually("both hear of an event", WITHIN, async || {
        publish(database.client(), &json!({})).await?;
        let heard = |taken: &Taken| !taken.events().is_empty();
        Ok((heard(&one) && heard(&other)).then_some(()))
    })
    .await?;
    let event = one.of("a.told", 1).await?.remove(0);
    assert_eq!(
        (event.outcome.as_str(), &event.payload),
        ("success", &json!({"n": 1}))
    );
    Ok(())
}

#[tokio::test]
async fn a_payload_too_long_for_a_notification_is_left_out() -> anyhow::Result<()> {
    let (database, _steps) = published_to(&[]).await?;
    let mut listener = PgListener::connect_with(database.pool()).await?;
    listener.listen("tasker_domain_events_default").await?;
    publish(database.client(), &json!({"own": "x".repeat(9000)})).await?;
    let heard = tokio::time::timeout(WITHIN, listener.recv()).await??;
    let event: DomainEvent = serde_json::from_str(heard.payload()).context("an event")?;
    assert_eq!(
        (event.name.as_str(), event.payload_omitted),
        ("a.told", true)
    );
    assert_eq!(event.payload, Value::Null);
    Ok(())
}

#[tokio::test]
async fn a_worker_that_leaves_gives_its_events_back() -> anyhow::Result<()> {
    let (database, _steps) = published_to(&["mailer"]).await?;
    let seen = Taken::default();
    let hanging = {
        let seen = seen.clone();
        move |event| {
            seen.note(event);
            std::future::pending::<Result<(), HandlerError>>()
        }
    };
    let leaving = builder(&database)
        .subscriber("mailer")
        .lease(Duration::from_mins(10))
        .shutdown_grace(Duration::from_millis(10))
        .subscribe("a.*", hanging);
    let (shutdown, running) = run(leaving)?;
    publish(database.client(), &json!({})).await?;
    seen.of("a.done", 1).await?;
    shutdown.cancel();
    running.await?;
    let taken = Taken::default();
    let _next = run(builder(&database)
        .subscriber("mailer")
        .subscribe("a.*", noting(&taken)))?;
    taken.of("a.done", 1).await?;
    Ok(())
}

#[tokio::test]
async fn a_killed_worker_process_loses_no_event() -> anyhow::Result<()> {
    let database = TestDatabase::with_examples().await?;
    let client = database.client();
    let arguments = ["--lease-seconds", "2", "--poll-interval-ms", "100"];
    let mut worker = Program::worker(database.url(), &arguments)?;
    eventually("the worker subscribes", WITHIN, async || {
        let all = client.list_subscriptions(Some("shop")).await?;
        Ok((!all.is_empty()).then_some(()))
    })
    .await?;
    let order = json!({"order_id": "A-2", "customer_email": "ada@example.org",
        "items": [{"sku": "tea", "quantity": 1, "price_cents": 100}]});
    let task_uuid = create(client, "shop", "order_fulfillment", &order).await?;
    completed(client, task_uuid).await?;
    worker.kill().await?;
    let next = Program::worker(database.url(), &arguments)?;
    none_waits(client).await?;
    let logs = format!("{}{}", worker.log(), next.log());
    assert!(
        logs.contains("the domain event order.shipped has come"),
        "{logs}"
    );
    Ok(())
}
