//! REST and gRPC are the same operations, from one list, and answer the same.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Context;
use serde_json::{Value, json};
use tasker_client::{NewSchedule, NewTask, WorkerRegistration};
use tasker_grpc::{ONLY_REST, OPERATIONS, Operation};
use tasker_tests::by_hand::{
    APPROVAL, BOOKING, PAYMENT, create, failed_payment, maintain, register,
};
use tasker_tests::grpc::as_rest;
use tasker_tests::investigations::{failed, stale};
use tasker_tests::publishing::shipped;
use tasker_tests::{Server, TestDatabase};

/// Reading methods that another test compares, or that answer in another way by their nature.
const COMPARED_ELSEWHERE: [(&str, &str); 5] = [
    ("TaskService/StreamTaskEvents", "a stream"),
    ("TaskService/StreamEvents", "a stream"),
    (
        "HealthService/GetHealth",
        "GetDetailedHealth has the same checks",
    ),
    (
        "HealthService/GetReadiness",
        "GetDetailedHealth has the same checks",
    ),
    (
        "HealthService/GetDetailedHealth",
        "the health of two moments differs",
    ),
];

/// The method of HTTP of each operation, by its id.
async fn methods(server: &Server) -> anyhow::Result<BTreeMap<String, String>> {
    let document = server.get("/api-docs/openapi.json").await?.body;
    let mut methods = BTreeMap::new();
    for item in document["paths"].as_object().context("paths")?.values() {
        for (method, operation) in item.as_object().context("operations")? {
            let id = operation["operationId"].as_str().context("operationId")?;
            methods.insert(id.to_owned(), method.clone());
        }
    }
    Ok(methods)
}

#[tokio::test]
async fn every_operation_of_rest_is_a_method() -> anyhow::Result<()> {
    let database = TestDatabase::new().await?;
    let server = Server::start(database.url(), &[]).await?;
    let of_rest: BTreeSet<String> = methods(&server).await?.into_keys().collect();
    let named = OPERATIONS
        .iter()
        .filter_map(|(_, operation)| match operation {
            Operation::Rest(id) => Some(*id),
            Operation::Own(_) => None,
        });
    let of_grpc: BTreeSet<String> = named
        .chain(ONLY_REST.iter().map(|(id, _)| *id))
        .map(str::to_owned)
        .collect();
    assert_eq!(of_rest, of_grpc);
    Ok(())
}

/// What there is to read.
struct Seen {
    failed: String,
    failed_step: String,
    booked: String,
    waiting: String,
    blocked: String,
    dead_letter: String,
}

/// A bit of everything.
async fn prepare(database: &TestDatabase) -> anyhow::Result<Seen> {
    let client = database.client();
    register(client, &[PAYMENT, BOOKING, APPROVAL]).await?;
    let failed_task = failed_payment(client).await?;
    let booked = create(client, "booking").await?;
    let context = r#"{"n": 123456789012345678901234567890, "f": 1.50, "deep": {"a": [null, {"b": "2026-01-01T00:00:00Z"}]}}"#;
    let tagged = NewTask {
        template_name: "booking".to_owned(),
        context: Some(serde_json::from_str(context)?),
        tags: vec!["a".to_owned(), "b".to_owned()],
        priority: 7,
        initiator: Some("me".to_owned()),
        ..NewTask::default()
    };
    client.create_task(&tagged).await?;
    let waiting = create(client, "approval").await?;
    let blocked = failed(database, 3).await?;
    stale(database).await?;
    let schedule = NewSchedule {
        name: "nightly".to_owned(),
        cron: "30 2 * * *".to_owned(),
        template_name: "booking".to_owned(),
        ..NewSchedule::default()
    };
    client.create_schedule(&schedule).await?;
    client
        .register_worker(&WorkerRegistration {
            worker_id: "w".to_owned(),
            namespaces: vec!["default".to_owned()],
            handlers: vec!["t.pay".to_owned()],
            language: "rust".to_owned(),
            version: "1".to_owned(),
        })
        .await?;
    shipped(database, &json!({"parcels": 2})).await?;
    let (shop, all) = (["shop".to_owned()], ["order.*".to_owned()]);
    client
        .subscribe_domain_events("mailer", &shop, &all)
        .await?;
    let filter = serde_json::from_value(json!({"namespace": "default", "states": ["error"]}))?;
    let action = serde_json::from_value(json!("reset_failed"))?;
    client
        .apply_to_tasks(&filter, action, false, Some("try"))
        .await?;
    for _ in 0..3 {
        maintain(client).await?;
    }
    let steps = client.list_steps(failed_task).await?;
    let letter: String = sqlx::query_scalar(
        "select dead_letter_uuid::text from tasker.list_dead_letters(namespace => 'shop') limit 1",
    )
    .fetch_one(database.pool())
    .await?;
    Ok(Seen {
        failed: failed_task.to_string(),
        failed_step: steps.last().context("steps")?.step_uuid.to_string(),
        booked: booked.to_string(),
        waiting: waiting.to_string(),
        blocked: blocked.to_string(),
        dead_letter: letter,
    })
}

/// A reading method, a request, and the same over REST.
type Reading = (&'static str, Value, String);

const SINCE: &str = "2020-01-01T00:00:00Z";

fn of(task: &str) -> Value {
    json!({"task_uuid": task})
}

fn readings_of_tasks(seen: &Seen) -> Vec<Reading> {
    let Seen {
        failed,
        booked,
        waiting,
        blocked,
        ..
    } = seen;
    let some = json!({"namespace": "default", "states": ["steps_in_process", "error"], "limit": 2});
    let tagged = json!({"tags": ["a", "b"], "context_contains_json": "{\"f\": 1.5}", "created_after": SINCE});
    let path = |task: &str, what: &str| format!("/v1/tasks/{task}{what}");
    let query = |query: String| format!("/v1/tasks?{query}");
    vec![
        ("TaskService/GetTask", of(failed), path(failed, "")),
        ("TaskService/ListTasks", json!({}), query(String::new())),
        (
            "TaskService/ListTasks",
            some,
            query("namespace=default&states=steps_in_process,error&limit=2".to_owned()),
        ),
        (
            "TaskService/ListTasks",
            tagged,
            query(format!(
                "tags=a,b&context_contains=%7B%22f%22:1.5%7D&created_after={SINCE}"
            )),
        ),
        (
            "TaskService/GetTaskGraph",
            of(booked),
            path(booked, "/graph"),
        ),
        (
            "TaskService/GetTaskHistory",
            of(failed),
            path(failed, "/history"),
        ),
        (
            "TaskService/ExplainTask",
            of(blocked),
            path(blocked, "/explain"),
        ),
        (
            "TaskService/ListCompensations",
            of(booked),
            path(booked, "/compensations"),
        ),
        (
            "TaskService/ListSignals",
            of(waiting),
            path(waiting, "/signals"),
        ),
        (
            "TaskService/ListBulkJobs",
            json!({}),
            "/v1/tasks/bulk".to_owned(),
        ),
    ]
}

fn readings_of_operators(seen: &Seen) -> Vec<Reading> {
    let Seen {
        failed,
        failed_step,
        blocked,
        dead_letter,
        ..
    } = seen;
    let step = json!({"step_uuid": failed_step});
    let shop = json!({"namespace": "shop"});
    let letter = json!({"dead_letter_uuid": dead_letter});
    let steps = format!("/v1/tasks/{failed}/workflow_steps");
    let path = |what: &str| what.to_owned();
    vec![
        ("StepService/ListSteps", of(failed), steps.clone()),
        (
            "StepService/GetStep",
            step.clone(),
            format!("{steps}/{failed_step}"),
        ),
        (
            "StepService/GetStepHistory",
            step,
            format!("{steps}/{failed_step}/audit"),
        ),
        (
            "TemplateService/ListTemplates",
            json!({}),
            path("/v1/templates"),
        ),
        (
            "TemplateService/GetTemplate",
            json!({"name": "payment"}),
            path("/v1/templates/default/payment/1.0.0"),
        ),
        (
            "DlqService/ListDeadLetters",
            json!({"limit": 1}),
            path("/v1/dlq?limit=1"),
        ),
        (
            "DlqService/ListDeadLettersToInvestigate",
            shop.clone(),
            path("/v1/dlq/investigation-queue?namespace=shop"),
        ),
        (
            "DlqService/GetDeadLetter",
            letter,
            format!("/v1/dlq/entry/{dead_letter}"),
        ),
        (
            "DlqService/GetDeadLetterOfTask",
            of(blocked),
            format!("/v1/dlq/task/{blocked}"),
        ),
        (
            "DlqService/GetDeadLetterStats",
            json!({}),
            path("/v1/dlq/stats"),
        ),
        (
            "DlqService/ListStaleTasks",
            shop,
            path("/v1/dlq/staleness?namespace=shop"),
        ),
    ]
}

fn readings_of_the_whole() -> Vec<Reading> {
    let since = json!({"since": SINCE});
    let slowest = json!({"since": SINCE, "limit": 3});
    let path = |what: &str| what.to_owned();
    vec![
        (
            "AnalyticsService/GetStatistics",
            since,
            format!("/v1/analytics/performance?since={SINCE}"),
        ),
        (
            "AnalyticsService/GetSlowestStepsAndTasks",
            slowest,
            format!("/v1/analytics/bottlenecks?since={SINCE}&limit=3"),
        ),
        (
            "DomainEventService/ListDomainEvents",
            json!({"name": "order.*"}),
            path("/v1/domain-events?name=order.*"),
        ),
        (
            "DomainEventService/ListSubscriptions",
            json!({}),
            path("/v1/domain-events/subscriptions"),
        ),
        ("WorkerService/ListWorkers", json!({}), path("/v1/workers")),
        ("WorkerService/GetQueueStats", json!({}), path("/v1/queues")),
        (
            "ScheduleService/ListSchedules",
            json!({"namespace": "default"}),
            path("/v1/schedules?namespace=default"),
        ),
        (
            "NamespaceService/ListNamespaces",
            json!({}),
            path("/v1/namespaces"),
        ),
        ("SystemService/ListSettings", json!({}), path("/config")),
        ("HealthService/GetLiveness", json!({}), path("/health/live")),
    ]
}

/// An answer without the way to the next page and what tells the time; whether there is a next page, and how often the time is told.
fn page(answer: &Value) -> (Value, bool, usize) {
    let mut answer = as_rest(answer);
    let mut has_next = false;
    if let Some(fields) = answer.as_object_mut() {
        for name in ["next", "next_after"] {
            has_next |= fields.remove(name).is_some();
        }
    }
    let mut times = 0;
    let items = answer.get_mut("items").and_then(Value::as_array_mut);
    for item in items.into_iter().flatten() {
        for name in ["as_of", "oldest_message_age_seconds"] {
            let told = item.as_object_mut().and_then(|item| item.remove(name));
            times += usize::from(told.is_some());
        }
    }
    (answer, has_next, times)
}

#[tokio::test]
async fn what_is_read_is_the_same_over_both() -> anyhow::Result<()> {
    let database = TestDatabase::new().await?;
    let seen = prepare(&database).await?;
    let server = Server::start(database.url(), &["--no-maintenance"]).await?;
    let grpc = server.grpc().await?;
    let readings = [
        readings_of_tasks(&seen),
        readings_of_operators(&seen),
        readings_of_the_whole(),
    ]
    .concat();
    for (method, request, path) in &readings {
        let of_grpc = page(&grpc.get(method, request.clone()).await?);
        let of_rest = server.get(path).await?;
        assert_eq!(of_rest.status, 200, "{path}: {}", of_rest.body);
        let of_rest = page(&of_rest.body);
        assert_eq!(of_grpc, of_rest, "{method} {path}");
        let is_bare = of_rest.0["items"] == json!([]);
        assert!(
            !is_bare || path.ends_with("/compensations"),
            "{path} shows nothing"
        );
    }

    let read: BTreeSet<String> = readings
        .iter()
        .map(|(method, _, _)| (*method).to_owned())
        .chain(
            COMPARED_ELSEWHERE
                .iter()
                .map(|(method, _)| (*method).to_owned()),
        )
        .collect();
    let methods = methods(&server).await?;
    let reading = OPERATIONS
        .iter()
        .filter_map(|(path, operation)| match operation {
            Operation::Rest(id) if methods.get(*id).is_some_and(|method| method == "get") => {
                path.strip_prefix("/tasker.v1.").map(str::to_owned)
            }
            _ => None,
        });
    assert_eq!(reading.collect::<BTreeSet<_>>(), read);
    Ok(())
}

#[tokio::test]
async fn the_next_page_is_had_with_next_after() -> anyhow::Result<()> {
    let database = TestDatabase::new().await?;
    register(database.client(), &[BOOKING]).await?;
    for _ in 0..5 {
        create(database.client(), "booking").await?;
    }
    let server = Server::start(database.url(), &[]).await?;
    let grpc = server.grpc().await?;
    let mut found = BTreeSet::new();
    let mut request = json!({"limit": 2});
    loop {
        let page = grpc.get("TaskService/ListTasks", request.clone()).await?;
        for task in page["items"].as_array().context("items")? {
            found.insert(task["task_uuid"].to_string());
        }
        let Some(next) = page.get("next_after") else {
            break;
        };
        request["after"] = next.clone();
    }
    assert_eq!(found.len(), 5);
    Ok(())
}
