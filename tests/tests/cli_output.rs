//! `tasker-ctl`: graphs drawn, the forms of output, and `--watch`.

use std::time::Duration;

use serde_json::{Value, json};
use tasker_tests::by_hand::{self, PAYMENT};
use tasker_tests::command::{Run, ctl};
use tasker_tests::following::create;
use tasker_tests::{Program, Stage, TestDatabase, eventually};

const SHOWN_WITHIN: Duration = Duration::from_secs(20);

async fn good(database: &TestDatabase, words: &[&str]) -> anyhow::Result<Run> {
    let run = ctl(database, words).await?;
    anyhow::ensure!(run.code == Some(0), "{words:?}: {run:?}");
    Ok(run)
}

#[tokio::test]
async fn a_graph_is_drawn_in_the_terminal_as_mermaid_and_as_svg() -> anyhow::Result<()> {
    let database = TestDatabase::with_examples().await?;
    let task = create(
        database.client(),
        "example",
        "diamond_workflow",
        &json!({"n": 2}),
    )
    .await?
    .to_string();
    let drawn = good(&database, &["task", "graph", &task]).await?.stdout;
    let lines: Vec<&str> = drawn.lines().collect();
    assert_eq!(lines.len(), 4, "{drawn}");
    assert!(
        lines[0].starts_with("1  ┌── • diamond_start")
            && lines[3].starts_with("3   └┴ · diamond_end"),
        "{drawn}"
    );
    assert!(!drawn.contains('\u{1b}'), "it is no terminal");
    let mermaid = good(&database, &["task", "graph", &task, "--mermaid"])
        .await?
        .stdout;
    assert!(
        mermaid.starts_with("flowchart TD\n") && mermaid.contains("s0 --> s1"),
        "{mermaid}"
    );
    let svg = good(&database, &["task", "graph", &task, "--svg"])
        .await?
        .stdout;
    assert!(
        svg.starts_with("<svg ")
            && svg.contains(">diamond_end</text>")
            && svg.ends_with("</svg>\n"),
        "{svg}"
    );
    let nodes = good(&database, &["task", "graph", &task, "-o", "json"])
        .await?
        .json()?;
    assert_eq!(nodes[3]["dependencies"].as_array().map(Vec::len), Some(2));
    let both = ctl(&database, &["task", "graph", &task, "--svg", "--mermaid"]).await?;
    assert_eq!(both.code, Some(2));
    Ok(())
}

#[tokio::test]
async fn many_instances_are_one_row_of_the_drawing() -> anyhow::Result<()> {
    let stage = Stage::new(&[]).await?;
    let task = stage
        .run("media", "thumbnail_map", &json!({"count": 30}))
        .await?
        .to_string();
    let drawn = good(&stage.database, &["task", "graph", &task])
        .await?
        .stdout;
    assert_eq!(drawn.lines().count(), 3, "{drawn}");
    assert!(drawn.contains("30 instances: 30 complete"), "{drawn}");
    Ok(())
}

#[tokio::test]
async fn the_same_answer_comes_as_a_table_a_wide_one_json_or_yaml() -> anyhow::Result<()> {
    let database = TestDatabase::with_examples().await?;
    let context = json!({"n": 3, "text": "yes: no"});
    let task = create(database.client(), "example", "linear_workflow", &context)
        .await?
        .to_string();
    let json = good(&database, &["task", "get", &task, "-o", "json"])
        .await?
        .json()?;
    let yaml = good(&database, &["task", "get", &task, "-o", "yaml"])
        .await?
        .stdout;
    assert!(yaml.contains("\nstate: steps_in_process\n"), "{yaml}");
    assert!(yaml.contains("\n  text: \"yes: no\"\n"), "{yaml}");
    assert!(yaml.contains("steps:\n  - attempt: 0\n"), "{yaml}");
    assert_eq!(json["context"], context);

    let narrow = good(&database, &["task", "list"]).await?.stdout;
    let wide = good(&database, &["task", "list", "-o", "wide"])
        .await?
        .stdout;
    assert!(
        !narrow.contains("PRIORITY") && wide.contains("PRIORITY"),
        "{wide}"
    );
    let steps = good(&database, &["task", "steps", &task, "-o", "wide"])
        .await?
        .stdout;
    assert!(
        steps.contains("TYPE") && steps.contains("standard"),
        "{steps}"
    );
    let listed = good(&database, &["template", "list", "-o", "yaml"])
        .await?
        .stdout;
    assert!(listed.starts_with("- "), "{listed}");
    Ok(())
}

/// The documents that a program has written so far, each a JSON document.
fn documents(log: &str) -> Vec<Value> {
    serde_json::Deserializer::from_str(log)
        .into_iter::<Value>()
        .map_while(Result::ok)
        .collect()
}

#[tokio::test]
async fn a_watched_answer_is_shown_again_when_it_has_changed() -> anyhow::Result<()> {
    let database = TestDatabase::new().await?;
    by_hand::register(database.client(), &[PAYMENT]).await?;
    let task_uuid = by_hand::create(database.client(), "payment").await?;
    let task = task_uuid.to_string();
    let words = ["task", "get", &task, "--watch", "-o", "json"];
    let watching = Program::start("tasker-ctl", database.url(), &words)?;
    eventually("the task is shown", SHOWN_WITHIN, async || {
        Ok((documents(&watching.log()).len() == 1).then_some(()))
    })
    .await?;
    database.client().cancel_task(task_uuid, None).await?;
    let shown = eventually("its end is shown", SHOWN_WITHIN, async || {
        let shown = documents(&watching.log());
        Ok((shown.len() == 2).then_some(shown))
    })
    .await?;
    assert_eq!(
        (&shown[0]["state"], &shown[1]["state"]),
        (&json!("steps_in_process"), &json!("cancelled"))
    );
    Ok(())
}

#[tokio::test]
async fn what_would_change_something_each_time_is_not_watched() -> anyhow::Result<()> {
    let database = TestDatabase::new().await?;
    by_hand::register(database.client(), &[PAYMENT]).await?;
    let task_uuid = by_hand::create(database.client(), "payment").await?;
    let refused = ctl(
        &database,
        &["task", "cancel", &task_uuid.to_string(), "--watch"],
    )
    .await?;
    assert_eq!(refused.code, Some(2), "{refused:?}");
    assert_ne!(
        database.client().get_task(task_uuid).await?.state,
        "cancelled"
    );
    Ok(())
}
