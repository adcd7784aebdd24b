//! A CSV summed up in batches by workers of which one after the other is killed: every row counts once.
//!
//! `TASKER_TEST_CSV_ROWS` says how many rows the file has; 100,000 without it.

use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, ensure};
use serde_json::{Value, json};
use tasker_tests::following::{create, step, verified};
use tasker_tests::{Program, ScratchFolder, Stage, TestDatabase, eventually, project_file};
use tokio::process::Command;
use uuid::Uuid;

const ROWS: u64 = 100_000;
const ROWS_A_BATCH: u64 = 200;
const WORKERS: usize = 3;
const KILLS: u64 = 12;
/// For some work between two kills, and for all that is left after the last one.
const ENDS_WITHIN: Duration = Duration::from_mins(10);

fn rows() -> anyhow::Result<u64> {
    match std::env::var("TASKER_TEST_CSV_ROWS") {
        Ok(rows) => rows.parse().context("TASKER_TEST_CSV_ROWS is no number"),
        Err(_) => Ok(ROWS),
    }
}

/// Makes the file of the example and tells its rows and their sum, as the script that made it does.
async fn make_csv(folder: &ScratchFolder, rows: u64) -> anyhow::Result<(String, Value)> {
    let path = folder.path().join("amounts.csv");
    let output = Command::new(project_file("examples/csv_batch/make_csv")?)
        .args([path.as_os_str(), rows.to_string().as_ref()])
        .output()
        .await?;
    ensure!(output.status.success(), "{output:?}");
    let known = serde_json::from_slice(&output.stdout)?;
    Ok((path.to_string_lossy().into_owned(), known))
}

/// Numbers of chance (xorshift).
struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound.max(1)
    }
}

fn worker(database: &TestDatabase) -> anyhow::Result<Program> {
    Program::worker(database.url(), &["--lease-seconds", "1"])
}

/// Waits until so many of a task's steps are complete, or it has ended; whether it has.
async fn is_over(database: &TestDatabase, task_uuid: Uuid, expected: i64) -> anyhow::Result<bool> {
    let query = "select (select count(*) from tasker.steps s where s.step_uuid > $1 and s.step_uuid <= tasker._last_step_uuid($1) and s.state = 'complete'), \
        (select t.finished_at is not null from tasker.tasks t where t.task_uuid = $1)";
    eventually("more of the batch is done", ENDS_WITHIN, async || {
        let (done, has_ended): (i64, bool) = sqlx::query_as(query)
            .bind(task_uuid)
            .fetch_one(database.pool())
            .await?;
        Ok((has_ended || done >= expected).then_some(has_ended))
    })
    .await
}

/// Kills one worker after the other while they work, each at a moment of chance, and starts another in its place.
async fn killed_at_random(
    database: &TestDatabase,
    task_uuid: Uuid,
    batches: u64,
) -> anyhow::Result<u64> {
    let seed = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)?
        .as_nanos() as u64
        | 1;
    let mut chance = Chance(seed);
    let mut workers = (0..WORKERS)
        .map(|_| worker(database))
        .collect::<anyhow::Result<Vec<_>>>()?;
    let mut kills = 0;
    while kills < KILLS {
        // Somewhere in the share of the batch that comes before the next kill.
        let done = (kills * batches + chance.below(batches)) / (KILLS + 1);
        if is_over(database, task_uuid, done as i64).await? {
            break;
        }
        let victim = chance.below(WORKERS as u64) as usize;
        workers[victim].kill().await?;
        workers[victim] = worker(database)?;
        kills += 1;
    }
    is_over(database, task_uuid, i64::MAX).await?;
    Ok(kills)
}

#[tokio::test]
async fn workers_killed_at_random_lose_no_row_of_a_csv_and_count_none_twice() -> anyhow::Result<()>
{
    let rows = rows()?;
    let folder = ScratchFolder::new()?;
    let (path, known) = make_csv(&folder, rows).await?;
    let database = TestDatabase::with_examples().await?;
    let client = database.client();
    let task_uuid = create(client, "data", "csv_batch", &json!({"csv_path": path})).await?;
    let batches = rows.div_ceil(ROWS_A_BATCH);
    let began = Instant::now();
    let kills = killed_at_random(&database, task_uuid, batches).await?;
    let seconds = began.elapsed().as_secs_f64();
    let task = client.get_task(task_uuid).await?;
    assert_eq!(
        (task.state.as_str(), task.steps_failed),
        ("complete", 0),
        "{task:?}"
    );
    let total = step(client, task_uuid, "aggregate_csv_results")
        .await?
        .result;
    let total: Value = serde_json::from_str(total.context("it has no result")?.get())?;
    assert_eq!(
        total,
        json!({"rows": known["rows"], "sum": known["sum"], "batches": batches, "failed_batches": 0})
    );
    assert_eq!(known["rows"], rows);
    let (taken_over, resumed): (i64, i64) = sqlx::query_as(
        "select count(*) filter (where s.attempts_used > 1), count(*) filter (where s.checkpoint is not null) \
         from tasker.list_steps($1) s where s.instance is not null",
    )
    .bind(task_uuid)
    .fetch_one(database.pool())
    .await?;
    assert_eq!(
        resumed, batches as i64,
        "each instance has stored how far it was"
    );
    eprintln!(
        "{rows} rows in {batches} batches: {seconds:.1} s, {kills} workers killed, {taken_over} instances taken over"
    );
    verified(client).await
}

#[tokio::test]
async fn a_csv_without_rows_adds_up_to_nothing() -> anyhow::Result<()> {
    let folder = ScratchFolder::new()?;
    let (path, _) = make_csv(&folder, 0).await?;
    let stage = Stage::new(&[]).await?;
    let task_uuid = stage
        .run("data", "csv_batch", &json!({"csv_path": path}))
        .await?;
    let total = stage.result(task_uuid, "aggregate_csv_results").await?;
    assert_eq!((&total["rows"], &total["batches"]), (&json!(0), &json!(0)));
    verified(stage.client()).await
}

#[tokio::test]
async fn rows_that_can_not_be_read_fail_their_batch_and_the_others_are_added_up()
-> anyhow::Result<()> {
    let folder = ScratchFolder::new()?;
    let (path, _) = make_csv(&folder, 1_000).await?;
    let text = std::fs::read_to_string(&path)?;
    std::fs::write(
        &path,
        text.replace("\n300,customer_300,", "\n300,customer_300,many"),
    )?;
    let stage = Stage::new(&[]).await?;
    let task_uuid = stage
        .run("data", "csv_batch", &json!({"csv_path": path}))
        .await?;
    let total = stage.result(task_uuid, "aggregate_csv_results").await?;
    assert_eq!(
        (&total["rows"], &total["failed_batches"]),
        (&json!(800), &json!(1))
    );
    let task = stage.client().get_task(task_uuid).await?;
    assert_eq!((task.state.as_str(), task.steps_failed), ("complete", 1));
    let analyze = step(stage.client(), task_uuid, "analyze_csv").await?;
    let handler: Value = serde_json::from_str(analyze.handler.context("it has a handler")?.get())?;
    assert_eq!(handler["batch_config"]["batch_size"], ROWS_A_BATCH);
    verified(stage.client()).await
}
