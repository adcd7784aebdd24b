//! Schemathesis, an API fuzzer, on the real server: whatever it sends, no answer is a 5xx and none breaks the OpenAPI document.
//!
//! It is installed into `.build/tools` by `.ci/prerequisites`. `TASKER_FUZZ_EXAMPLES=200` makes a run longer; a run that fails prints the seed, which `TASKER_FUZZ_SEED` takes.

use std::fmt::Write;
use std::process::Command;

use anyhow::ensure;
use serde_json::{Value, json};
use tasker_tests::{ScratchFolder, Server, TestDatabase, project_file};
use uuid::Uuid;

const CHECKS: &str = "not_a_server_error,status_code_conformance,content_type_conformance,response_headers_conformance,response_schema_conformance";
/// How many requests of each operation, besides those that cover each parameter.
const EXAMPLES: &str = "12";

/// Runs the fuzzer, with values that are there for some parameters.
fn fuzz(server: &Server, parameters: &[(&str, &str)]) -> anyhow::Result<()> {
    let folder = ScratchFolder::new()?;
    let mut config = String::from("[parameters]\n");
    for (name, value) in parameters {
        writeln!(config, "{name} = \"{value}\"")?;
    }
    let config_file = folder.path().join("schemathesis.toml");
    std::fs::write(&config_file, config)?;
    let tools = project_file(".build/tools/schemathesis")?;
    let variable = |name: &str| std::env::var(name).ok();
    let seed = variable("TASKER_FUZZ_SEED");
    let seed = seed.unwrap_or_else(|| (Uuid::new_v4().as_u128() % 1_000_000).to_string());
    let examples = variable("TASKER_FUZZ_EXAMPLES").unwrap_or_else(|| EXAMPLES.to_owned());
    let output = Command::new(tools.join("bin/st"))
        .env("PYTHONPATH", &tools)
        .current_dir(folder.path())
        .arg("--no-color")
        .arg("--config-file")
        .arg(&config_file)
        .arg("run")
        .arg(format!("{}/api-docs/openapi.json", server.url))
        // Streams don't end.
        .args(["--exclude-path-regex", "/events$"])
        .args(["--checks", CHECKS, "--phases", "examples,coverage,fuzzing"])
        .args(["--max-examples", &examples, "--seed", &seed])
        .args([
            "--generation-database",
            "none",
            "--suppress-health-check",
            "all",
        ])
        .output()?;
    let said = String::from_utf8_lossy(&output.stdout);
    ensure!(
        output.status.success(),
        "TASKER_FUZZ_SEED={seed}\n{said}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    ensure!(said.contains("passed"), "{said}");
    Ok(())
}

#[tokio::test]
async fn no_request_is_answered_with_a_5xx_or_against_the_document() -> anyhow::Result<()> {
    let database = TestDatabase::with_examples().await?;
    let server = Server::start(database.url(), &[]).await?;
    fuzz(&server, &[])
}

#[tokio::test]
async fn the_same_holds_for_tasks_and_templates_that_are_there() -> anyhow::Result<()> {
    let database = TestDatabase::with_examples().await?;
    let server = Server::start(database.url(), &[]).await?;
    let request = json!({"template_name": "diamond_workflow", "namespace": "example"});
    let task = server.post("/v1/tasks", &request).await?;
    let task_uuid = task.text("task_uuid");
    let steps = server
        .get(&format!("/v1/tasks/{task_uuid}/workflow_steps"))
        .await?;
    let step_uuid = steps.body["items"][0]["step_uuid"].as_str();
    let parameters = [
        ("task_uuid", task_uuid),
        ("step_uuid", step_uuid.unwrap_or_default()),
        ("namespace", "example"),
    ];
    fuzz(&server, &parameters)?;
    let violations: Vec<Value> = sqlx::query_scalar("select to_jsonb(v) from tasker.verify() v")
        .fetch_all(database.pool())
        .await?;
    ensure!(violations.is_empty(), "{violations:?}");
    Ok(())
}
