//! `tasker-ctl` for operators: dead letters, workers, queues, schedules, namespaces, the system.

use serde_json::{Value, json};
use tasker_client::WorkerRegistration;
use tasker_tests::command::{Run, ctl, ctl_on};
use tasker_tests::figures::{Figures, drain};
use tasker_tests::investigations::{failed, stale};
use tasker_tests::{Program, TestDatabase};

const NOTHING: &str = "01890000-0000-7000-8000-000000000000";

async fn done(database: &TestDatabase, arguments: &[&str]) -> anyhow::Result<Run> {
    let run = ctl(database, arguments).await?;
    assert_eq!(
        run.code,
        Some(0),
        "{arguments:?}: {}{}",
        run.stdout,
        run.stderr
    );
    Ok(run)
}

async fn json_of(database: &TestDatabase, arguments: &[&str]) -> anyhow::Result<Value> {
    done(database, &[arguments, &["-o", "json"]].concat())
        .await?
        .json()
}

async fn refused(database: &TestDatabase, arguments: &[&str], code: i32) -> anyhow::Result<Run> {
    let run = ctl(database, arguments).await?;
    assert_eq!(
        run.code,
        Some(code),
        "{arguments:?}: {}{}",
        run.stdout,
        run.stderr
    );
    Ok(run)
}

#[tokio::test]
async fn dead_letters_are_listed_shown_and_resolved() -> anyhow::Result<()> {
    let database = TestDatabase::new().await?;
    let task_uuid = failed(&database, 0).await?.to_string();
    let listed = done(&database, &["dlq", "list", "--resolution", "pending"]).await?;
    assert!(
        listed.stdout.contains("REASON") && listed.stdout.contains(&task_uuid),
        "{}",
        listed.stdout
    );
    let shown = done(&database, &["dlq", "show", "--task", &task_uuid]).await?;
    assert!(
        shown.stdout.contains("shop/payment 1.0.0") && shown.stdout.contains("card was declined"),
        "{}",
        shown.stdout
    );
    let shown = json_of(&database, &["dlq", "show", "--task", &task_uuid]).await?;
    let uuid = shown["dead_letter_uuid"].as_str().unwrap_or_default();
    assert_eq!(
        json_of(&database, &["dlq", "show", uuid]).await?["snapshot"],
        shown["snapshot"]
    );
    let stats = json_of(&database, &["dlq", "stats"]).await?;
    assert_eq!(
        (&stats[0]["dead_letters"], &stats[0]["resolution"]),
        (&json!(1), &json!("pending"))
    );

    let resolve = [
        "dlq",
        "resolve",
        uuid,
        "manually_resolved",
        "--note",
        "paid",
    ];
    let resolved = json_of(&database, &resolve).await?;
    assert_eq!(
        (&resolved["task_state"], &resolved["note"]),
        (&json!("resolved_manually"), &json!("paid"))
    );
    let again = refused(&database, &resolve, 4).await?;
    assert!(again.stderr.contains("error[TK010]"), "{}", again.stderr);
    refused(&database, &["dlq", "resolve", uuid, "wished_away"], 2).await?;
    refused(&database, &["dlq", "show"], 2).await?;
    refused(&database, &["dlq", "show", NOTHING], 3).await?;
    refused(&database, &["dlq", "list", "--reason", "boredom"], 5).await?;
    Ok(())
}

#[tokio::test]
async fn a_stale_task_is_listed_and_a_dead_letter_opened_for_it() -> anyhow::Result<()> {
    let database = TestDatabase::new().await?;
    let task_uuid = stale(&database).await?.to_string();
    let listed = done(&database, &["dlq", "stale", "-n", "shop"]).await?;
    assert!(
        listed.stdout.contains(&task_uuid) && listed.stdout.contains("max_duration_seconds = 60"),
        "{}",
        listed.stdout
    );
    let open = ["dlq", "open", task_uuid.as_str(), "--reason", "odd"];
    let opened = done(&database, &open).await?;
    let shown = json_of(&database, &["dlq", "show", opened.stdout.trim()]).await?;
    assert_eq!(shown["note"], "odd");
    refused(&database, &open, 4).await?;
    refused(&database, &["dlq", "open", NOTHING, "--reason", "x"], 3).await?;
    Ok(())
}

#[tokio::test]
async fn workers_and_queues_are_listed_and_a_worker_is_retired() -> anyhow::Result<()> {
    let database = TestDatabase::with_examples().await?;
    database
        .client()
        .register_worker(&WorkerRegistration {
            worker_id: "one".to_owned(),
            namespaces: vec!["example".to_owned()],
            handlers: vec!["math.square".to_owned()],
            language: "rust".to_owned(),
            version: "1".to_owned(),
        })
        .await?;
    let listed = done(&database, &["worker", "list", "--live", "-n", "example"]).await?;
    assert!(
        listed.stdout.contains("one") && listed.stdout.contains("live"),
        "{}",
        listed.stdout
    );
    assert_eq!(
        json_of(&database, &["worker", "list", "-n", "shop"]).await?,
        json!([])
    );
    let shown = done(&database, &["worker", "show", "one"]).await?;
    assert!(shown.stdout.contains("math.square"), "{}", shown.stdout);
    for retired in [true, false] {
        let answer = json_of(&database, &["worker", "retire", "one"]).await?;
        assert_eq!(answer, json!({"worker_id": "one", "retired": retired}));
    }
    assert_eq!(
        json_of(&database, &["worker", "list", "--live"]).await?,
        json!([])
    );
    for command in ["show", "retire"] {
        let run = refused(&database, &["worker", command, "nobody"], 3).await?;
        assert!(run.stderr.contains("error[TK004]"), "{}", run.stderr);
    }

    let queues = json_of(&database, &["queue", "list"]).await?;
    assert!(
        queues
            .as_array()
            .is_some_and(|queues| queues.iter().any(|queue| queue["namespace"] == "example"))
    );
    let table = done(&database, &["queue", "list"]).await?.stdout;
    assert!(table.contains("worker_example_queue"), "{table}");
    Ok(())
}

#[tokio::test]
async fn a_schedule_goes_through_its_life() -> anyhow::Result<()> {
    let database = TestDatabase::with_examples().await?;
    let create = [
        "schedule",
        "create",
        "nightly",
        "30 2 * * *",
        "linear_workflow",
        "-n",
        "example",
        "-c",
        "{\"n\": 3}",
        "--timezone",
        "Europe/Berlin",
        "--catch-up",
        "none",
    ];
    let created = done(&database, &create).await?;
    assert!(
        created.stdout.starts_with("example/nightly is due next at"),
        "{}",
        created.stdout
    );
    refused(&database, &create, 4).await?;
    let of = |command: &'static str| ["schedule", command, "nightly", "-n", "example"];
    let paused = done(
        &database,
        &[&of("pause")[..], &["--reason", "closed"]].concat(),
    )
    .await?;
    assert_eq!(paused.stdout.trim(), "example/nightly paused");
    let listed = done(&database, &["schedule", "list"]).await?.stdout;
    assert!(
        listed.contains("Europe/Berlin") && listed.contains(": closed"),
        "{listed}"
    );
    assert_eq!(
        json_of(&database, &of("resume")).await?,
        json!({"namespace": "example", "name": "nightly", "resumed": true})
    );
    let times = [
        "--from",
        "2026-01-01T00:00:00Z",
        "--to",
        "2026-01-08T00:00:00Z",
    ];
    let filled = json_of(&database, &[&of("backfill")[..], &times].concat()).await?;
    assert_eq!(filled["created"], 7);
    assert_eq!(
        done(&database, &of("delete")).await?.stdout.trim(),
        "example/nightly deleted"
    );
    for command in ["pause", "resume", "delete"] {
        refused(&database, &of(command), 3).await?;
    }
    let odd = [
        "schedule",
        "create",
        "x",
        "every day",
        "linear_workflow",
        "-n",
        "example",
    ];
    refused(&database, &odd, 5).await?;
    Ok(())
}

#[tokio::test]
async fn namespaces_are_set_paused_and_granted() -> anyhow::Result<()> {
    let database = TestDatabase::with_examples().await?;
    let set = ["namespace", "set", "example", "{\"retention_days\": 30}"];
    assert_eq!(
        json_of(&database, &set).await?["settings"],
        json!({"retention_days": 30})
    );
    refused(
        &database,
        &["namespace", "set", "example", "{\"color\": 1}"],
        5,
    )
    .await?;
    refused(&database, &["namespace", "set", "example", "thirty"], 5).await?;
    refused(&database, &["namespace", "set", "nowhere", "{}"], 3).await?;

    let pause = ["namespace", "pause", "example", "--reason", "closed"];
    assert_eq!(
        done(&database, &pause).await?.stdout.trim(),
        "example paused"
    );
    let listed = done(&database, &["namespace", "list"]).await?.stdout;
    assert!(listed.contains("closed"), "{listed}");
    let resumed = json_of(&database, &["namespace", "resume", "example"]).await?;
    assert_eq!(resumed, json!({"name": "example", "resumed": true}));
    refused(&database, &["namespace", "pause", "nowhere"], 3).await?;

    let grant = ["namespace", "grant", "example", "tasker_client", "create"];
    for granted in [true, false] {
        assert_eq!(json_of(&database, &grant).await?["granted"], granted);
    }
    let grants = done(&database, &["namespace", "grants", "example"]).await?;
    assert!(grants.stdout.contains("tasker_client"), "{}", grants.stdout);
    let revoke = ["namespace", "revoke", "example", "tasker_client"];
    assert_eq!(json_of(&database, &revoke).await?["revoked"], 1);
    refused(
        &database,
        &["namespace", "grant", "example", "no_such_role", "read"],
        5,
    )
    .await?;
    refused(
        &database,
        &["namespace", "grant", "example", "tasker_client", "fly"],
        2,
    )
    .await?;
    Ok(())
}

#[tokio::test]
async fn the_system_tells_its_health_its_versions_and_its_figures() -> anyhow::Result<()> {
    let mut figures = Figures::new(&[
        "{name: one, version: 1.0.0, steps: [{name: a, handler: {callable: t.a}}]}",
    ])
    .await?;
    figures.run("select tasker.create_task('one')").await?;
    drain(&mut figures.session).await?;
    figures.folded().await?;
    let url = figures.own.url();
    let stats = ctl_on(&url, &["system", "stats", "-o", "json"])
        .await?
        .json()?;
    assert!(
        stats["statistics"]
            .as_array()
            .is_some_and(|rows| rows.iter().any(|row| row["step_name"] == "a")),
        "{stats}"
    );
    assert_eq!(stats["slowest_steps"].as_array().map(Vec::len), Some(1));
    let table = ctl_on(&url, &["system", "stats"]).await?;
    assert!(
        table.stdout.contains("SLOWEST TASKS") && table.stdout.contains("default/one"),
        "{}{}",
        table.stdout,
        table.stderr
    );
    let info = ctl_on(&url, &["system", "info", "-o", "json"])
        .await?
        .json()?;
    assert_eq!(info["extension_version"], info["program_version"]);

    // The clock of that maintenance was ahead of the real one, which goes for well.
    let health = ctl_on(&url, &["system", "health"]).await?;
    assert!(
        health.stdout.contains("CHECK") && health.stdout.contains("PostgreSQL"),
        "{}{}",
        health.stdout,
        health.stderr
    );
    Ok(())
}

#[tokio::test]
async fn a_system_that_is_not_well_is_exit_code_1() -> anyhow::Result<()> {
    let database = TestDatabase::with_examples().await?;
    sqlx::query("drop table pgmq.q_worker_example_queue")
        .execute(database.pool())
        .await?;
    let run = refused(&database, &["system", "health", "-o", "json"], 1).await?;
    let checks = run.json()?;
    assert!(
        checks.as_array().is_some_and(|checks| checks
            .iter()
            .any(|check| check["name"] == "queues" && check["ok"] == false)),
        "{checks}"
    );
    Ok(())
}

#[tokio::test]
async fn completions_are_written_for_every_shell() -> anyhow::Result<()> {
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let run = Program::run("tasker-ctl", "", &["completion", shell]).await?;
        let script = String::from_utf8(run.stdout)?;
        assert!(
            script.contains("tasker-ctl") && script.contains("backfill"),
            "{shell}: {script}"
        );
    }
    Ok(())
}
