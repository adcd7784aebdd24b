//! `/metrics`: well formed, true, bounded, and enough for the dashboard that is shipped.

use std::collections::BTreeSet;
use std::io::Write;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, ensure};
use reqwest::Method;
use serde_json::{Value, json};
use tasker_tests::exposition::Exposition;
use tasker_tests::following::create;
use tasker_tests::sse::EventStream;
use tasker_tests::{Server, TestDatabase, eventually, project_file};

const WITHIN: Duration = Duration::from_secs(30);

async fn text(server: &Server) -> anyhow::Result<String> {
    let response = server.request(Method::GET, "/metrics").send().await?;
    ensure!(response.status() == 200, "{response:?}");
    let media_type = response.headers()["content-type"].to_str()?.to_owned();
    ensure!(
        media_type.starts_with("text/plain; version=0.0.4"),
        "{media_type}"
    );
    Ok(response.text().await?)
}

async fn metrics(server: &Server) -> anyhow::Result<Exposition> {
    let text = text(server).await?;
    Exposition::read(&text).with_context(|| text)
}

/// A server that has done something of every kind.
async fn busy_server() -> anyhow::Result<(TestDatabase, Server)> {
    let database = TestDatabase::with_examples().await?;
    let server = Server::start(database.url(), &[]).await?;
    let mut stream = EventStream::follow(&server, "/v1/events", None).await?;
    let request = json!({"template_name": "linear_workflow", "namespace": "example"});
    for _ in 0..3 {
        let created = server.post("/v1/tasks", &request).await?;
        let path = format!("/v1/tasks/{}", created.text("task_uuid"));
        assert_eq!(server.get(&path).await?.status, 200);
    }
    stream.events(12).await?;
    server.get("/v1/tasks/none").await?;
    server.get("/nothing/here").await?;
    server.get("/nothing/there").await?;
    let grpc = server.grpc().await?;
    grpc.get("TaskService/ListTasks", json!({})).await?;
    grpc.refused("TaskService/GetTask", json!({"task_uuid": "none"}))
        .await?;
    Ok((database, server))
}

#[tokio::test]
async fn what_is_exposed_is_well_formed_and_true() -> anyhow::Result<()> {
    let (database, server) = busy_server().await?;
    let task = create(database.client(), "example", "linear_workflow", &json!({})).await?;
    sqlx::query("select tasker.open_dead_letter($1, 'manual_dlq')")
        .bind(task)
        .execute(database.pool())
        .await?;
    // Figures of the database are kept for some seconds.
    let found = eventually("the dead letter is counted", WITHIN, async || {
        let found = metrics(&server).await?;
        let open = found.value("tasker_dead_letters_open{namespace=\"example\"}")?;
        let counted = found
            .series
            .keys()
            .any(|series| series.starts_with("tasker_maintenance_job_runs_total"));
        Ok((open > 0.0 && counted).then_some(found))
    })
    .await?;
    for (series, value) in [
        (
            "tasker_http_requests_total{method=\"POST\",route=\"/v1/tasks\",status=\"2xx\"}",
            3.0,
        ),
        (
            "tasker_http_requests_total{method=\"GET\",route=\"/v1/tasks/{task_uuid}\",status=\"2xx\"}",
            3.0,
        ),
        (
            "tasker_http_requests_total{method=\"GET\",route=\"/v1/tasks/{task_uuid}\",status=\"4xx\"}",
            1.0,
        ),
        (
            "tasker_http_requests_total{method=\"GET\",route=\"none\",status=\"4xx\"}",
            2.0,
        ),
        (
            "tasker_http_requests_total{method=\"GET\",route=\"/v1/events\",status=\"2xx\"}",
            1.0,
        ),
        (
            "tasker_http_request_duration_seconds_count{method=\"POST\",route=\"/v1/tasks\"}",
            3.0,
        ),
        ("tasker_http_refusals_total{code=\"22P02\"}", 1.0),
        ("tasker_http_refusals_total{code=\"path_not_found\"}", 2.0),
        ("tasker_database_up", 1.0),
        ("tasker_health_check_ok{check=\"pgmq\"}", 1.0),
        (
            "tasker_queue_messages{namespace=\"example\",state=\"visible\"}",
            4.0,
        ),
        (
            "tasker_queue_messages{namespace=\"example\",state=\"hidden\"}",
            0.0,
        ),
        ("tasker_dead_letters_open{namespace=\"example\"}", 1.0),
        ("tasker_dead_letters_open{namespace=\"shop\"}", 0.0),
        ("tasker_event_listeners_ended_total{reason=\"slow\"}", 0.0),
    ] {
        assert!(
            (found.value(series)? - value).abs() < 0.001,
            "{series} {:?}",
            found.value(series)
        );
    }
    for series in [
        "tasker_queue_oldest_message_age_seconds{namespace=\"example\"}",
        "tasker_maintenance_rounds_total",
        "tasker_database_connections_max",
        "tasker_events_read_total",
    ] {
        assert!(found.value(series)? > 0.0, "{series}");
    }
    assert!(found.value("tasker_events_read_total")? >= 12.0);
    assert!(
        found.value("tasker_http_requests_in_flight")? >= 1.0,
        "this very request"
    );
    Ok(())
}

#[tokio::test]
async fn promtool_has_nothing_to_say() -> anyhow::Result<()> {
    let (_database, server) = busy_server().await?;
    let text = text(&server).await?;
    let promtool = project_file(".build/tools/bin/promtool")?;
    let mut child = Command::new(&promtool)
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("{}: `.ci/prerequisites` installs it", promtool.display()))?;
    child
        .stdin
        .take()
        .context("no input")?
        .write_all(text.as_bytes())?;
    let output = child.wait_with_output()?;
    ensure!(
        output.status.success() && output.stderr.is_empty(),
        "{output:?}"
    );
    Ok(())
}

#[tokio::test]
async fn metrics_answer_while_the_server_is_full_and_the_database_away() -> anyhow::Result<()> {
    let server = Server::start(
        "postgres://nobody@127.0.0.1:1/none",
        &[
            "--concurrent-requests",
            "1",
            "--no-maintenance",
            "--sql-runners",
            "0",
        ],
    )
    .await?;
    let waits = server.get("/v1/templates");
    let asks = async {
        let found = metrics(&server).await?;
        assert!(found.value("tasker_database_up")? < 0.5);
        assert!(!found.knows("tasker_steps"), "what isn't known is left out");
        assert!(found.value("tasker_database_acquire_seconds")? > 0.0);
        anyhow::Ok(())
    };
    let (waited, asked) = tokio::join!(waits, asks);
    assert_eq!(waited?.status, 503);
    asked
}

/// The names of metrics in what a panel asks for.
fn names_in(query: &str) -> impl Iterator<Item = &str> {
    query
        .split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))
        .filter(|word| word.starts_with("tasker_"))
}

fn queries_in(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                match value.as_str() {
                    Some(text) if name == "expr" => found.push(text.to_owned()),
                    _ => queries_in(value, found),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| queries_in(item, found)),
        _ => {}
    }
}

#[tokio::test]
async fn the_dashboard_and_the_page_name_the_metrics_that_there_are() -> anyhow::Result<()> {
    let (_database, server) = busy_server().await?;
    let found = eventually("every family has something", WITHIN, async || {
        let found = metrics(&server).await?;
        Ok(found
            .knows("tasker_maintenance_rows_total")
            .then_some(found))
    })
    .await?;
    let dashboard: Value = serde_json::from_str(&std::fs::read_to_string(project_file(
        "docs/operations/grafana.json",
    )?)?)?;
    let mut queries = Vec::new();
    queries_in(&dashboard, &mut queries);
    ensure!(queries.len() > 10, "{queries:?}");
    for query in &queries {
        ensure!(names_in(query).next().is_some(), "{query}");
        for name in names_in(query) {
            ensure!(found.knows(name), "{name} of {query}");
        }
    }
    let page = std::fs::read_to_string(project_file("docs/operations/observability.md")?)?;
    for name in names_in(&page) {
        ensure!(found.knows(name), "{name}");
    }
    let told: BTreeSet<&str> = page
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split(['`', '{']).next())
        .filter(|name| name.starts_with("tasker_"))
        .collect();
    let exposed: BTreeSet<&str> = found.families.keys().map(String::as_str).collect();
    assert_eq!(told, exposed);
    Ok(())
}
