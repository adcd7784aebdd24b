//! Traces, from a request through the database to the handlers and back: the real server and worker, and a collector that keeps what they send.

use std::time::{Duration, Instant};

use anyhow::Context;
use reqwest::Method;
use serde_json::{Value, json};
use tasker_client::traces::within;
use tasker_client::{Traceparent, tasks::create_task_in};
use tasker_tests::collector::{Collector, Span};
use tasker_tests::following::{completed, create, ended, new_task};
use tasker_tests::http::{Answer, answer};
use tasker_tests::{Program, Server, TestDatabase};
use uuid::Uuid;

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PARENT: &str = "00f067aa0ba902b7";
const GIVEN: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
const SERVER: i32 = 2;
const CLIENT: i32 = 3;
const CONSUMER: i32 = 5;

async fn post(server: &Server, traceparent: Option<&str>) -> anyhow::Result<Answer> {
    let body = json!({"template_name": "diamond_workflow", "namespace": "example", "context": {"even_number": 6}});
    let mut request = server.request(Method::POST, "/v1/tasks").json(&body);
    if let Some(traceparent) = traceparent {
        request = request.header("traceparent", traceparent);
    }
    answer(request).await
}

/// The key of a created task.
fn key_of(created: &Answer) -> anyhow::Result<Uuid> {
    anyhow::ensure!(created.status == 201, "{created:?}");
    Ok(created.text("task_uuid").parse()?)
}

#[tokio::test]
async fn a_request_its_statements_and_all_steps_of_its_task_are_one_trace() -> anyhow::Result<()> {
    let collector = Collector::start().await?;
    let sends = ["--otlp-endpoint", &collector.url];
    let database = TestDatabase::with_examples().await?;
    let server = Server::start(database.url(), &sends).await?;
    let _worker = Program::worker(database.url(), &sends)?;
    let created = post(&server, Some(GIVEN)).await?;
    let task_uuid = key_of(&created)?;
    completed(database.client(), task_uuid).await?;

    let in_trace = |span: &Span| span.trace_id == TRACE;
    let spans = collector.picked(11, in_trace).await?;
    let named =
        |name: &str| -> Vec<&Span> { spans.iter().filter(|span| span.name == name).collect() };
    let [request] = named("POST /v1/tasks")[..] else {
        anyhow::bail!("{spans:#?}");
    };
    assert_eq!((request.kind, request.parent_id.as_str()), (SERVER, PARENT));
    assert_eq!(request.service, "tasker-server");
    assert_eq!(request.attribute("http.response.status_code"), "201");
    assert_eq!(request.attribute("http.route"), "/v1/tasks");
    assert_eq!(request.attribute("tasker.task_uuid"), task_uuid.to_string());
    assert!(!request.attribute("tasker.request_id").is_empty());
    let expected = format!("00-{TRACE}-{}-01", request.span_id);
    assert_eq!(created.text("traceparent"), expected);

    for function in ["tasker.create_tasks", "tasker.get_task"] {
        let [statement] = named(&format!("select {function}"))[..] else {
            anyhow::bail!("{function}: {spans:#?}");
        };
        assert_eq!(statement.parent_id, request.span_id);
        assert_eq!(statement.kind, CLIENT);
        assert_eq!(statement.attribute("db.system.name"), "postgresql");
    }

    let attempts: Vec<&Span> = spans.iter().filter(|span| span.kind == CONSUMER).collect();
    assert_eq!(attempts.len(), 4, "{attempts:#?}");
    for attempt in attempts {
        assert_eq!(attempt.parent_id, request.span_id);
        assert_eq!(attempt.service, "tasker-worker");
        let handler = attempt.attribute("tasker.handler");
        assert_eq!(attempt.name, format!("process {handler}"));
        assert_eq!(attempt.attribute("tasker.task_uuid"), task_uuid.to_string());
        assert_eq!(attempt.attribute("tasker.outcome"), "complete");
        let mut settled = named(&format!("settle {handler}"));
        settled.retain(|settled| settled.parent_id == attempt.span_id);
        assert_eq!(settled.len(), 1, "{spans:#?}");
        assert_eq!(settled[0].attribute("tasker.verdict"), "accepted");
    }
    let log = server.program.log();
    assert!(log.contains(&format!("trace_id=\"{TRACE}\"")), "{log}");
    Ok(())
}

#[tokio::test]
async fn a_call_of_grpc_is_a_part_of_its_callers_trace() -> anyhow::Result<()> {
    let collector = Collector::start().await?;
    let database = TestDatabase::with_examples().await?;
    let server = Server::start(database.url(), &["--otlp-endpoint", &collector.url]).await?;
    let caller = server.grpc().await?.with("traceparent", GIVEN);
    let new = json!({"template_name": "linear_workflow", "namespace": "example", "context_json": "{\"even_number\": 6}"});
    caller.get("TaskService/CreateTask", new).await?;
    let nothing = json!({"task_uuid": Uuid::nil()});
    caller.refused("TaskService/GetTask", nothing).await?;

    let calls = collector
        .picked(2, |span| span.attribute("rpc.system.name") == "grpc")
        .await?;
    for call in &calls {
        assert_eq!((&*call.trace_id, &*call.parent_id), (TRACE, PARENT));
    }
    let code_of = |method: &str| {
        let call = calls.iter().find(|call| call.name == method);
        call.map(|call| call.attribute("rpc.response.status_code"))
    };
    let create = "tasker.v1.TaskService/CreateTask";
    assert_eq!(code_of(create), Some("OK"));
    let get = "tasker.v1.TaskService/GetTask";
    assert_eq!(code_of(get), Some("NOT_FOUND"));
    let [create] = calls
        .iter()
        .filter(|call| call.name == create)
        .collect::<Vec<_>>()[..]
    else {
        anyhow::bail!("{calls:#?}");
    };
    collector
        .picked(1, |span| {
            span.name == "select tasker.create_tasks" && span.parent_id == create.span_id
        })
        .await?;
    Ok(())
}

#[tokio::test]
async fn a_call_that_reports_several_outcomes_links_to_each() -> anyhow::Result<()> {
    let collector = Collector::start().await?;
    let database = TestDatabase::with_examples().await?;
    let client = database.client();
    let context = json!({"even_number": 6});
    let given: Traceparent = GIVEN.parse()?;
    let tasks = vec![new_task("example", "diamond_workflow", &context)?; 20];
    let created = within(Some(given), client.create_tasks(&tasks)).await?;
    let sends = ["--otlp-endpoint", &collector.url];
    let _worker = Program::worker(database.url(), &sends)?;
    for task in created {
        completed(client, task.task_uuid).await?;
    }
    collector
        .picked(80, |span| span.kind == CONSUMER && span.parent_id == PARENT)
        .await?;
    let settled = |span: &Span| span.name.starts_with("settle ");
    let settled = collector.picked(80, settled).await?;
    let calls = collector
        .picked(1, |span| {
            span.name == "select tasker.finish_steps" && !span.links.is_empty()
        })
        .await?;
    for call in calls {
        assert_eq!(call.parent_id, "");
        for link in &call.links {
            assert!(settled.iter().any(|settled| settled.span_id == *link));
        }
    }
    Ok(())
}

#[tokio::test]
async fn without_a_usable_header_a_trace_begins() -> anyhow::Result<()> {
    let collector = Collector::start().await?;
    let database = TestDatabase::with_examples().await?;
    let server = Server::start(database.url(), &["--otlp-endpoint", &collector.url]).await?;
    for header in [
        None,
        Some("00-nonsense-01"),
        Some("ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
    ] {
        let created = post(&server, header).await?;
        key_of(&created)?;
        let own: Traceparent = created.text("traceparent").parse()?;
        assert_ne!(own.trace_id_text(), TRACE);
        assert!(own.is_sampled());
        let request = collector
            .picked(1, |span| {
                span.trace_id == own.trace_id_text() && span.kind == SERVER
            })
            .await?;
        assert_eq!(request[0].parent_id, "");
    }
    Ok(())
}

#[tokio::test]
async fn a_statement_that_the_database_refuses_shows_its_code() -> anyhow::Result<()> {
    let collector = Collector::start().await?;
    let database = TestDatabase::new().await?;
    let server = Server::start(database.url(), &["--otlp-endpoint", &collector.url]).await?;
    let path = format!("/v1/tasks/{}", Uuid::nil());
    assert_eq!(server.get(&path).await?.status, 404);
    let spans = collector.picked(2, |_| true).await?;
    let named = |name: &str| spans.iter().find(|span| span.name == name).cloned();
    let statement = named("select tasker.get_task").context("the statement")?;
    assert_eq!(
        (statement.status, statement.attribute("error.type")),
        (2, "TK001")
    );
    // What the caller did wrong is no error of the server's.
    let request = named("GET /v1/tasks/{task_uuid}").context("the request")?;
    assert_eq!(request.status, 0);
    assert_eq!(request.attribute("http.response.status_code"), "404");
    Ok(())
}

#[tokio::test]
async fn a_trace_that_is_not_recorded_elsewhere_is_not_recorded_here() -> anyhow::Result<()> {
    let collector = Collector::start().await?;
    let database = TestDatabase::with_examples().await?;
    let sends = ["--otlp-endpoint", &collector.url];
    let mut server = Server::start(database.url(), &sends).await?;
    let unrecorded = GIVEN.replace("-01", "-00");
    let created = post(&server, Some(&unrecorded)).await?;
    let kept: Traceparent = created.text("traceparent").parse()?;
    assert_eq!(kept.trace_id_text(), TRACE);
    assert!(!kept.is_sampled());
    let other = server.get("/v1/tasks").await?;
    assert_eq!(other.status, 200);
    server.program.terminate(Duration::from_secs(20)).await?;
    let names: Vec<String> = collector
        .spans()
        .into_iter()
        .map(|span| span.name)
        .collect();
    assert!(names.contains(&"GET /v1/tasks".to_owned()), "{names:?}");
    assert!(!names.contains(&"POST /v1/tasks".to_owned()), "{names:?}");
    Ok(())
}

#[tokio::test]
async fn an_application_that_creates_in_its_own_transaction_says_its_trace_by_sql_or_by_scope()
-> anyhow::Result<()> {
    let collector = Collector::start().await?;
    let database = TestDatabase::with_examples().await?;
    let client = database.client();
    let _worker = Program::worker(database.url(), &["--otlp-endpoint", &collector.url])?;
    let mut by_sql = client.pool().begin().await?;
    sqlx::query(&format!("set local tasker.traceparent = '{GIVEN}'"))
        .execute(&mut *by_sql)
        .await?;
    let context = json!({"even_number": 6});
    let task = new_task("example", "linear_workflow", &context)?;
    let first = create_task_in(&mut by_sql, &task).await?;
    by_sql.commit().await?;
    let mut by_scope = client.pool().begin().await?;
    let second = within(GIVEN.parse().ok(), create_task_in(&mut by_scope, &task)).await?;
    by_scope.commit().await?;
    // The setting has ended with the transaction.
    let third = create(client, "example", "linear_workflow", &context).await?;
    for (task_uuid, expected) in [(first, Some(GIVEN)), (second, Some(GIVEN)), (third, None)] {
        let task = completed(client, task_uuid).await?;
        assert_eq!(task.traceparent.as_deref(), expected);
    }
    let attempts = collector
        .picked(8, |span| span.kind == CONSUMER && span.trace_id == TRACE)
        .await?;
    assert!(attempts.iter().all(|attempt| attempt.parent_id == PARENT));
    Ok(())
}

#[tokio::test]
async fn an_attempt_that_failed_says_so() -> anyhow::Result<()> {
    let collector = Collector::start().await?;
    let database = TestDatabase::with_examples().await?;
    let client = database.client();
    let _worker = Program::worker(database.url(), &["--otlp-endpoint", &collector.url])?;
    let context = json!({"order_id": "A-1", "customer_email": "a@b.example", "card_declined": true,
        "items": [{"sku": "S-1", "quantity": 1, "price_cents": 995}]});
    let task = create(client, "shop", "order_fulfillment", &context).await?;
    let declined = collector
        .picked(1, |span| span.name == "process shop.process_payment")
        .await?;
    assert_eq!(
        (declined[0].status, declined[0].attribute("error.type")),
        (2, "card_declined")
    );
    assert_eq!(declined[0].attribute("tasker.outcome"), "fail");
    assert_eq!(declined[0].attribute("tasker.task_uuid"), task.to_string());
    let task = client.get_task(task).await?;
    assert_eq!(task.steps_failed, 1);
    Ok(())
}

#[tokio::test]
async fn a_collector_that_is_away_or_silent_holds_nothing_up() -> anyhow::Result<()> {
    let silent = Collector::silent().await?;
    for endpoint in [silent.url.as_str(), "http://127.0.0.1:9"] {
        let database = TestDatabase::with_examples().await?;
        let sends = ["--otlp-endpoint", endpoint];
        let mut server = Server::start(database.url(), &sends).await?;
        let mut worker = Program::worker(database.url(), &sends)?;
        let created = post(&server, Some(GIVEN)).await?;
        let task = completed(database.client(), key_of(&created)?).await?;
        assert_eq!(task.steps_done, 4);
        let begun = Instant::now();
        for program in [&mut server.program, &mut worker] {
            let ended = program.terminate(Duration::from_secs(20)).await?;
            assert!(ended.success(), "{}", program.log());
        }
        // Five seconds each at most, and what a stop takes without.
        assert!(begun.elapsed() < Duration::from_secs(15), "{endpoint}");
        assert!(
            server.program.log().contains("spans"),
            "{}",
            server.program.log()
        );
    }
    assert!(silent.connections() > 0);
    Ok(())
}

#[tokio::test]
async fn without_a_collector_nothing_is_sent_and_the_trace_is_handed_on() -> anyhow::Result<()> {
    let collector = Collector::start().await?;
    let database = TestDatabase::with_examples().await?;
    let server = Server::start(database.url(), &["--otlp-service-name", "shop"]).await?;
    let _worker = Program::worker(database.url(), &[])?;
    let created = post(&server, Some(GIVEN)).await?;
    assert_eq!(created.text("traceparent"), GIVEN);
    let task_uuid = key_of(&created)?;
    completed(database.client(), task_uuid).await?;
    let untraced = post(&server, None).await?;
    assert_eq!(untraced.body["traceparent"], Value::Null);
    ended(database.client(), key_of(&untraced)?).await?;
    assert_eq!(collector.connections(), 0);
    let log = server.program.log();
    assert!(log.contains(&format!("trace_id=\"{TRACE}\"")), "{log}");
    assert!(
        log.contains(&format!("correlation_id={task_uuid}")),
        "{log}"
    );
    Ok(())
}

#[tokio::test]
async fn a_collector_that_cannot_be_is_a_mistake_at_the_start() -> anyhow::Result<()> {
    let database = TestDatabase::new().await?;
    for name in ["tasker-server", "tasker-worker"] {
        let sends = ["--otlp-endpoint", "grpc://localhost:4317"];
        let mut program = Program::start(name, database.url(), &sends)?;
        let ended = program.ended(Duration::from_secs(20)).await?;
        assert!(!ended.success());
        assert!(
            program.log().contains("--otlp-endpoint"),
            "{}",
            program.log()
        );
    }
    Ok(())
}
