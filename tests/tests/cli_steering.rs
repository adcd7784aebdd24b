//! `tasker-ctl`: tasks explained, steered and repaired, one by one and many at once.

use serde_json::{Value, json};
use tasker_tests::TestDatabase;
use tasker_tests::by_hand::{self, APPROVAL, BOOKING, PAYMENT};
use tasker_tests::command::{Run, ctl};
use tasker_tests::following::step;
use uuid::Uuid;

async fn stage(templates: &[&str]) -> anyhow::Result<TestDatabase> {
    let database = TestDatabase::new().await?;
    by_hand::register(database.client(), templates).await?;
    Ok(database)
}

async fn good(database: &TestDatabase, words: &[&str]) -> anyhow::Result<Run> {
    let run = ctl(database, words).await?;
    anyhow::ensure!(run.code == Some(0), "{words:?}: {run:?}");
    Ok(run)
}

#[tokio::test]
async fn a_task_is_paused_explained_and_resumed() -> anyhow::Result<()> {
    let database = stage(&[PAYMENT]).await?;
    let task = by_hand::create(database.client(), "payment")
        .await?
        .to_string();
    let paused = good(&database, &["task", "pause", &task, "--reason", "no power"]).await?;
    assert_eq!(paused.stdout.trim(), format!("{task} paused"));
    let again = good(&database, &["task", "pause", &task, "-o", "json"]).await?;
    assert_eq!(again.json()?, json!({"task_uuid": task, "paused": false}));
    let why = good(&database, &["task", "explain", &task]).await?.stdout;
    assert!(why.contains("WHY") && why.contains("no power"), "{why}");
    let wide = good(&database, &["task", "explain", &task, "-o", "wide"]).await?;
    assert!(wide.stdout.contains("task_paused"), "{}", wide.stdout);
    let resumed = good(&database, &["task", "resume", &task]).await?;
    assert_eq!(resumed.stdout.trim(), format!("{task} resumed"));
    good(&database, &["task", "cancel", &task]).await?;
    let refused = ctl(&database, &["task", "pause", &task]).await?;
    assert_eq!(refused.code, Some(4));
    assert!(
        refused.stderr.contains("error[TK010]"),
        "{}",
        refused.stderr
    );
    let ended = good(&database, &["task", "explain", &task]).await?.stdout;
    assert!(ended.contains("nothing is left"), "{ended}");
    Ok(())
}

#[tokio::test]
async fn a_signal_is_sent_and_listed() -> anyhow::Result<()> {
    let database = stage(&[APPROVAL]).await?;
    let task = by_hand::create(database.client(), "approval")
        .await?
        .to_string();
    let awaited = good(&database, &["task", "signals", &task]).await?.stdout;
    assert!(
        awaited.contains("approved") && awaited.contains("yes"),
        "{awaited}"
    );
    let unfit = ctl(&database, &["task", "signal", &task, "approved", "{}"]).await?;
    assert_eq!(unfit.code, Some(5), "{unfit:?}");
    let no_json = ctl(&database, &["task", "signal", &task, "approved", "{by"]).await?;
    assert_eq!(no_json.code, Some(5), "{no_json:?}");
    let words = ["task", "signal", &task, "approved", "{\"by\": \"ada\"}"];
    let sent = good(&database, &words).await?;
    assert_eq!(sent.stdout.trim(), format!("{task} approved sent"));
    let again = good(&database, &[&words[..], &["-o", "json"]].concat()).await?;
    assert_eq!(again.json()?["sent"], false);
    let nowhere = ctl(&database, &["task", "signal", &task, "rejected"]).await?;
    assert_eq!(nowhere.code, Some(3), "{nowhere:?}");
    Ok(())
}

#[tokio::test]
async fn a_failed_task_is_run_anew_and_its_history_tells_it() -> anyhow::Result<()> {
    let database = stage(&[PAYMENT]).await?;
    let client = database.client();
    let task_uuid = by_hand::failed_payment(client).await?;
    let task = task_uuid.to_string();
    let rerun = [
        "task",
        "rerun",
        &task,
        "--from-step",
        "pay",
        "-c",
        "{\"n\": 2}",
    ];
    let again = good(&database, &rerun).await?;
    assert_eq!(again.stdout.trim(), format!("{task} steps_in_process"));
    assert_eq!(
        client.get_task(task_uuid).await?.context.get(),
        "{\"n\": 2}"
    );
    assert_eq!(ctl(&database, &rerun).await?.code, Some(4));
    let alone = ctl(
        &database,
        &["task", "rerun", &task, "--without-descendants"],
    )
    .await?;
    assert_eq!(alone.code, Some(2), "it says of no step which");
    let history = good(&database, &["task", "history", &task]).await?.stdout;
    assert!(
        history.contains("EVENT") && history.contains("rerun"),
        "{history}"
    );
    let rows = good(&database, &["task", "history", &task, "-o", "json"]).await?;
    assert!(rows.json()?.as_array().is_some_and(|rows| rows.len() > 5));
    Ok(())
}

#[tokio::test]
async fn steps_are_named_by_key_or_within_their_task() -> anyhow::Result<()> {
    let database = stage(&[PAYMENT]).await?;
    let client = database.client();
    let task_uuid = by_hand::failed_payment(client).await?;
    let task = task_uuid.to_string();
    let key = step(client, task_uuid, "pay").await?.step_uuid.to_string();
    let by_key = good(&database, &["step", "get", &key, "-o", "json"]).await?;
    let by_name = good(
        &database,
        &["step", "get", "pay", "--task", &task, "-o", "json"],
    )
    .await?;
    assert_eq!(by_key.json()?, by_name.json()?);
    assert_eq!(by_key.json()?["error"]["message"], "no money");
    let shown = good(&database, &["step", "get", &key, "--task", &task])
        .await?
        .stdout;
    assert!(
        shown.contains("1 of 1") && shown.contains("no money"),
        "{shown}"
    );
    let history = good(&database, &["step", "history", &key]).await?.stdout;
    assert!(
        history.contains("in_progress") && history.contains("hand"),
        "{history}"
    );

    let bare = ctl(&database, &["step", "get", "pay"]).await?;
    assert_eq!(bare.code, Some(2));
    assert!(bare.stderr.contains("--task"), "{}", bare.stderr);
    let unknown = ctl(&database, &["step", "get", "payy", "--task", &task]).await?;
    assert_eq!(unknown.code, Some(3));
    assert!(
        unknown.stderr.contains("error[TK002]"),
        "{}",
        unknown.stderr
    );
    Ok(())
}

#[tokio::test]
async fn steps_are_reset_settled_and_completed_by_hand() -> anyhow::Result<()> {
    let database = stage(&[PAYMENT]).await?;
    let client = database.client();
    for (words, state) in [
        (&["reset", "pay", "--reason", "up again"][..], "enqueued"),
        (&["resolve", "pay"], "resolved_manually"),
        (&["complete", "pay", "{\"id\": 7}"], "complete"),
    ] {
        let task_uuid = by_hand::failed_payment(client).await?;
        let task = task_uuid.to_string();
        let line = [&["step"], words, &["--task", &task]].concat();
        let mended = good(&database, &line).await?;
        assert_eq!(mended.stdout.trim(), format!("pay {state}"));
        let conflict = ctl(&database, &["step", "reset", "price", "--task", &task]).await?;
        assert_eq!(conflict.code, Some(4), "{conflict:?}");
        // A step that is to be claimed again would be claimed by the next round.
        let _ = client.cancel_task(task_uuid, None).await;
    }
    Ok(())
}

#[tokio::test]
async fn a_cancelled_task_is_undone_when_asked_for() -> anyhow::Result<()> {
    let database = stage(&[BOOKING]).await?;
    let client = database.client();
    let task = by_hand::create(client, "booking").await?.to_string();
    by_hand::complete(client, "flight", &json!({"seat": "1A"})).await?;
    let line = ["task", "cancel", &task, "--compensate", "--reason", "ill"];
    let cancelled = good(&database, &line).await?;
    assert!(
        cancelled.stdout.contains("is undone"),
        "{}",
        cancelled.stdout
    );
    let undone = good(&database, &["task", "compensations", &task])
        .await?
        .stdout;
    assert!(
        undone.contains("UNDOES") && undone.contains("flight_compensation"),
        "{undone}"
    );
    Ok(())
}

#[tokio::test]
async fn many_tasks_are_mended_by_a_bulk_job() -> anyhow::Result<()> {
    let database = stage(&[PAYMENT]).await?;
    let client = database.client();
    for _ in 0..12 {
        by_hand::failed_payment(client).await?;
    }
    let filters = ["resolve-failed", "-t", "payment", "--state", "error"];
    let preview = good(&database, &[&["bulk", "preview"], &filters[..]].concat()).await?;
    assert!(
        preview.stdout.starts_with("12 tasks found"),
        "{}",
        preview.stdout
    );
    assert_eq!(preview.stdout.lines().count(), 12, "{}", preview.stdout);
    let line = [
        &["bulk", "apply"],
        &filters[..],
        &["--reason", "a flood", "-o", "json"],
    ]
    .concat();
    let made = good(&database, &line).await?.json()?;
    assert_eq!(made["matched"], 12);
    by_hand::maintain(client).await?;
    let jobs = good(&database, &["bulk", "list", "-o", "json"])
        .await?
        .json()?;
    assert_eq!(
        (&jobs[0]["job_uuid"], &jobs[0]["changed"]),
        (&made["job_uuid"], &json!(12))
    );
    let table = good(&database, &["bulk", "list", "-o", "wide"])
        .await?
        .stdout;
    assert!(
        table.contains("resolve_failed") && table.contains("a flood"),
        "{table}"
    );
    let job = made["job_uuid"].as_str().unwrap_or_default();
    let late = good(&database, &["bulk", "cancel", job]).await?.stdout;
    assert!(
        late.contains("had ended before") || late.contains("cancelled"),
        "{late}"
    );
    let nothing = Uuid::new_v4().to_string();
    assert_eq!(
        ctl(&database, &["bulk", "cancel", &nothing]).await?.code,
        Some(3)
    );

    let all = ctl(&database, &["bulk", "apply", "cancel"]).await?;
    assert_eq!(
        all.code,
        Some(2),
        "without a filter it needs --all: {all:?}"
    );
    let all = good(
        &database,
        &["bulk", "preview", "cancel", "--all", "-o", "json"],
    )
    .await?;
    assert_eq!(
        (&all.json()?["matched"], &all.json()?["job_uuid"]),
        (&json!(12), &Value::Null)
    );
    Ok(())
}
