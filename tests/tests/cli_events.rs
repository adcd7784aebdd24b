//! `tasker-ctl event`: the feed listed, and followed until a task has ended.

use serde_json::{Value, json};
use tasker_tests::command::ctl;
use tasker_tests::following::{create, somebody_follows};
use tasker_tests::{Stage, TestDatabase, eventually};
use uuid::Uuid;

const WITHIN: std::time::Duration = std::time::Duration::from_secs(20);

/// An event without its cursor, which is each reader's own.
fn told(mut event: Value) -> Value {
    let cursor = event
        .as_object_mut()
        .and_then(|fields| fields.remove("cursor"));
    assert!(cursor.is_some(), "{event}");
    event
}

fn all_told(mut events: Value) -> Vec<Value> {
    let events = events
        .as_array_mut()
        .map(std::mem::take)
        .unwrap_or_default();
    events.into_iter().map(told).collect()
}

#[tokio::test]
async fn a_task_is_followed_until_it_has_ended_and_listed_after() -> anyhow::Result<()> {
    let stage = Stage::new(&[]).await?;
    let task = create(stage.client(), "example", "linear_workflow", &json!({})).await?;
    let task = task.to_string();
    let follow = ["event", "follow", "--task", &task, "--from", "oldest"];
    let followed = ctl(&stage.database, &[&follow[..], &["-o", "json"]].concat()).await?;
    assert_eq!(followed.code, Some(0), "{}", followed.stderr);
    let events: Vec<Value> = followed.json_lines()?.into_iter().map(told).collect();
    let end = events.last().expect("events");
    assert_eq!(
        (&end["to_state"], &end["step_uuid"]),
        (&json!("complete"), &Value::Null)
    );

    let list = [
        "event", "list", "--task", &task, "-o", "json", "--limit", "1000",
    ];
    let listed = ctl(&stage.database, &list).await?.json()?;
    let middle = listed[3]["cursor"].as_str().unwrap_or_default();
    let rest = ctl(&stage.database, &[&list[..], &["--after", middle]].concat()).await?;
    assert_eq!(all_told(listed.clone()), events);
    assert_eq!(all_told(rest.json()?), events[4..]);
    let few = ctl(
        &stage.database,
        &["event", "list", "-n", "example", "-l", "2"],
    )
    .await?;
    assert_eq!(few.stdout.lines().count(), 3, "{}", few.stdout);
    assert!(few.stdout.starts_with("AT"), "{}", few.stdout);
    let text = ctl(&stage.database, &follow).await?.stdout;
    assert_eq!(text.lines().count(), events.len());
    assert!(
        text.contains("linear_step_1 start: enqueued → in_progress"),
        "{text}"
    );
    Ok(())
}

#[tokio::test]
async fn a_task_that_is_not_there_and_a_text_that_is_no_cursor_are_told_apart() -> anyhow::Result<()>
{
    let database = TestDatabase::with_examples().await?;
    let nobody = Uuid::now_v7().to_string();
    for (arguments, code) in [
        (&["event", "list", "--task", &nobody][..], 3),
        (&["event", "follow", "--task", &nobody], 3),
        (&["event", "list", "--after", "nonsense"], 5),
        (&["event", "follow", "--after", "nonsense"], 5),
        (&["event", "list", "--limit", "0"], 2),
        (&["event", "follow", "--task", "nonsense"], 2),
    ] {
        let run = ctl(&database, arguments).await?;
        assert_eq!(run.code, Some(code), "{arguments:?}: {}", run.stderr);
    }
    let empty = ctl(&database, &["event", "list", "-o", "json"]).await?;
    assert_eq!(empty.json()?, json!([]));
    Ok(())
}

#[tokio::test]
async fn what_was_before_is_not_followed_unless_asked_for() -> anyhow::Result<()> {
    let stage = Stage::new(&[]).await?;
    let task = stage.run("example", "linear_workflow", &json!({})).await?;
    eventually("its end is listed", WITHIN, async || {
        let everything = ["event", "list", "-o", "json", "--limit", "1000"];
        let listed = ctl(&stage.database, &everything).await?.json()?;
        let last = listed.as_array().and_then(|events| events.last());
        let is_end = last
            .is_some_and(|event| event["step_uuid"].is_null() && event["to_state"] == "complete");
        Ok(is_end.then_some(()))
    })
    .await?;
    // The task runs again: what came before isn't shown.
    let task = task.to_string();
    let follow = ["event", "follow", "--task", &task, "-o", "json"];
    let following = ctl(&stage.database, &follow);
    let rerun = async {
        somebody_follows(stage.database.pool()).await?;
        sqlx::query("select tasker.rerun_task($1::uuid)")
            .bind(&task)
            .execute(stage.database.pool())
            .await?;
        anyhow::Ok(())
    };
    let (followed, rerun) = tokio::join!(following, rerun);
    rerun?;
    let events = followed?.json_lines()?;
    assert_eq!(events[0]["event"], "rerun");
    assert_eq!(
        events.last().map(|event| &event["to_state"]),
        Some(&json!("complete"))
    );
    Ok(())
}
