//! How history becomes statistics: each row once, whatever is written meanwhile, in bounded batches, before it leaves, and on after a restore.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::json;
use sqlx::{Connection, Executor, PgConnection};
use tasker_tests::figures::{Figures, drain};
use tasker_tests::scenario::done;
use tasker_tests::{Scenario, eventually};

const CHAIN: &str = "{name: chain, version: 1.0.0, steps: [{name: a, handler: {callable: t.a}}, {name: b, handler: {callable: t.b}, dependencies: [a]}]}";
const KEPT: &str = "{name: kept, version: 1.0.0, lifecycle: {retention_days: 60}, steps: [{name: a, handler: {callable: t.a}}]}";
const COMPLETED: &str = "select coalesce(sum(completed), 0) from tasker.statistics('-infinity') where step_name is not null";
const DAY: f64 = 24.0 * 60.0 * 60.0;

#[tokio::test]
async fn what_an_open_transaction_wrote_is_waited_for_and_then_counted() -> anyhow::Result<()> {
    let mut figures = Figures::new(&[CHAIN]).await?;
    let mut first = figures.another().await?;
    first
        .execute("begin; select tasker.create_task('chain')")
        .await?;
    figures
        .run("select tasker.create_task('chain') from generate_series(1, 3)")
        .await?;
    assert_eq!(drain(&mut figures.session).await?, 6);
    for _ in 0..3 {
        figures.goes_on(6.0).await?;
        figures.run("select tasker.run_maintenance()").await?;
    }
    assert!(figures.number(COMPLETED).await? == 0);
    let behind = figures.rows("select s.as_of < tasker._now() as is_behind from (select distinct as_of from tasker.queue_stats()) s").await?;
    assert_eq!(
        behind,
        [json!({"is_behind": null})],
        "nothing has been folded yet"
    );
    first.execute("commit").await?;
    figures.folded().await?;
    assert_eq!(figures.number(COMPLETED).await?, 6);
    figures.hold().await?;
    let stats = figures.rows("select enqueued, in_progress, visible, as_of = tasker._now() as is_now from tasker.queue_stats()").await?;
    assert_eq!(
        stats,
        [json!({"enqueued": 1, "in_progress": 0, "visible": 1, "is_now": true})]
    );
    // One that is rolled back leaves a gap in the numbers, and nothing to wait for.
    first
        .execute("begin; select tasker.create_task('chain'); rollback")
        .await?;
    figures.folded().await?;
    figures.hold().await
}

/// Creates and finishes tasks in transactions of different lengths until told to stop, and gives how many steps it completed.
async fn writer(
    mut session: PgConnection,
    tasks: i64,
    ends: Arc<AtomicBool>,
) -> anyhow::Result<i64> {
    // In the time of the one who folds: figures of years before it would be forgotten when its clock strikes the hour.
    session
        .execute("select tasker._set_now(timestamptz '2030-01-01 12:00:00+00')")
        .await?;
    let mut done = 0;
    while !ends.load(Ordering::Relaxed) {
        let mut transaction = session.begin().await?;
        let create = format!("select tasker.create_task('chain') from generate_series(1, {tasks})");
        transaction.execute(create.as_str()).await?;
        for _ in 0..tasks {
            tokio::task::yield_now().await;
            let finished: i64 = sqlx::query_scalar(
                "select count(*) from (select (tasker.finish_steps('w', jsonb_agg(jsonb_build_object('step_uuid', c.step_uuid, 'attempt', c.attempt, 'status', 'complete', 'result', 1)))).verdicts
                 from tasker.claim_steps('w', '{default}', 2) c having count(*) > 0) f cross join jsonb_array_elements(f.verdicts)",
            )
            .fetch_one(&mut *transaction)
            .await?;
            done += finished;
        }
        if done % 5 == 1 {
            // Taken back, with the numbers drawn.
            let create = "savepoint s; select tasker.create_task('chain'); rollback to s";
            transaction.execute(create).await?;
        }
        transaction.commit().await?;
    }
    Ok(done)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_missed_or_counted_twice_while_others_write() -> anyhow::Result<()> {
    let mut figures = Figures::new(&[CHAIN]).await?;
    let ends = Arc::new(AtomicBool::new(false));
    let mut writers = Vec::new();
    for tasks in 1..=3 {
        let session = figures.another().await?;
        writers.push(tokio::spawn(writer(session, tasks, Arc::clone(&ends))));
    }
    let mut rounds_that_folded = 0;
    for _ in 0..150 {
        figures.goes_on(6.0).await?;
        let folded = figures
            .number(
                "select sum(processed) from tasker.run_maintenance() where job = 'fold_statistics'",
            )
            .await?;
        rounds_that_folded += i64::from(folded > 0);
        let held = figures
            .number("select count(*) from tasker.statistics_cursors where folded_seq > settled_seq")
            .await?;
        assert_eq!(held, 0);
    }
    ends.store(true, Ordering::Relaxed);
    let mut done = 0;
    for writer in writers {
        done += writer.await??;
    }
    assert!(
        rounds_that_folded > 10,
        "{rounds_that_folded} rounds folded while others wrote"
    );
    done += drain(&mut figures.session).await?;
    figures.folded().await?;
    assert_eq!(figures.number(COMPLETED).await?, done);
    let completed = figures
        .number("select count(*) from tasker.steps where state = 'complete'")
        .await?;
    assert_eq!(completed, done);
    let waits = figures
        .number("select sum(waits) from tasker.statistics_buckets")
        .await?;
    assert_eq!(waits, done);
    figures.hold().await
}

#[tokio::test]
async fn a_round_folds_a_bounded_number_and_says_whether_there_is_more() -> anyhow::Result<()> {
    let mut figures = Figures::new(&[CHAIN]).await?;
    figures
        .run("select tasker.create_task('chain') from generate_series(1, 20)")
        .await?;
    drain(&mut figures.session).await?;
    let rows = figures.number("(select count(*) from tasker.step_transitions) + (select count(*) from tasker.task_transitions)").await?;
    let round =
        "select processed, more from tasker.run_maintenance(2) where job = 'fold_statistics'";
    let (mut folded, mut rounds) = (0, 0);
    figures.run(round).await?;
    figures.goes_on(6.0).await?;
    loop {
        let done = figures.rows(round).await?.remove(0);
        let processed = done["processed"].as_i64().unwrap_or_default();
        assert!((1..=40).contains(&processed), "{done}");
        folded += processed;
        rounds += 1;
        if done["more"] == false {
            break;
        }
    }
    assert_eq!(folded, rows);
    assert!(rounds >= rows / 40, "{rounds}");
    // Idle, it does nothing and writes nothing.
    figures.run("select tasker.run_maintenance(2)").await?;
    let cursor = "select c.*, xmin::text from tasker.statistics_cursors c";
    let before = figures.rows(cursor).await?;
    figures.goes_on(60.0).await?;
    assert_eq!(
        figures.rows(round).await?,
        [json!({"processed": 0, "more": false})]
    );
    assert_eq!(figures.rows(cursor).await?, before);
    // A few rows rest for some seconds before they are folded.
    figures.run("select tasker.create_task('chain')").await?;
    figures.run(round).await?;
    assert_ne!(
        figures.rows(round).await?[0]["processed"],
        0,
        "the last were folded a minute ago"
    );
    figures.run("select tasker.create_task('chain')").await?;
    for (seconds, expected) in [(0.0, 0), (4.9, 0), (0.1, 2)] {
        figures.goes_on(seconds).await?;
        figures.run("select tasker._settle_statistics(tasker._now()), tasker._settle_statistics(tasker._now())").await?;
        assert_eq!(
            figures.rows(round).await?[0]["processed"],
            expected,
            "after {seconds}"
        );
    }
    figures.hold().await
}

#[tokio::test]
async fn what_leaves_is_counted_before_and_what_stays_is_not_counted_twice() -> anyhow::Result<()> {
    let mut figures = Figures::new(&[CHAIN, KEPT]).await?;
    figures.run("select tasker.create_task('chain'), tasker.create_task('kept') from generate_series(1, 5)").await?;
    assert_eq!(drain(&mut figures.session).await?, 15);
    figures.folded().await?;
    figures.goes_on(32.0 * DAY).await?;
    // Not folded when the exchange copies them: of a task that stays, and of one that has only just ended in a range that is over.
    figures.run("select tasker.rerun_task(t.task_uuid) from tasker.list_tasks(template_name => 'kept') t").await?;
    drain(&mut figures.session).await?;
    let dropped = figures
        .number("select sum(processed) from tasker.run_maintenance() where job = 'drop_partitions'")
        .await?;
    assert_eq!(dropped, 1);
    assert_eq!(
        figures.number("select count(*) from tasker.tasks").await?,
        5
    );
    figures.folded().await?;
    assert_eq!(figures.number(COMPLETED).await?, 20);
    figures.goes_on(62.0 * DAY).await?;
    figures.folded().await?;
    figures.run("select tasker.run_maintenance()").await?;
    assert_eq!(
        figures.number("select count(*) from tasker.tasks").await?,
        0
    );
    assert_eq!(figures.number(COMPLETED).await?, 20);
    assert_eq!(
        figures
            .number("select count(*) from tasker.slowest_steps('-infinity')")
            .await?,
        10
    );
    figures.hold().await
}

#[tokio::test]
async fn rows_that_leave_unsettled_are_counted_in_the_exchange() -> anyhow::Result<()> {
    let mut sql = Scenario::new().await?;
    sql.register(CHAIN).await?;
    sql.create("'chain'").await?;
    for _ in 0..2 {
        let step = sql.claim_one().await?;
        sql.finish("w", json!([done(&step, json!(1))]), 0).await?;
    }
    sql.clock(32 * 24 * 60 * 60 * 1000).await?;
    let dropped: i64 = sql.value("select sum(processed)::bigint from tasker.run_maintenance() where job = 'drop_partitions'").await?;
    let completed: i64 = sql.value(&format!("select ({COMPLETED})::bigint")).await?;
    assert_eq!((dropped, completed), (1, 2));
    sql.verify().await
}

#[tokio::test]
async fn elsewhere_the_folding_goes_on_and_the_states_are_counted_anew() -> anyhow::Result<()> {
    let mut figures = Figures::new(&[CHAIN]).await?;
    figures
        .run("select tasker.create_task('chain') from generate_series(1, 4)")
        .await?;
    drain(&mut figures.session).await?;
    figures
        .run("select tasker.create_task('chain') from generate_series(1, 3)")
        .await?;
    figures.folded().await?;
    // Written since, and not folded when the other cluster takes over, whose ids are far lower; some counts are wrong there.
    figures
        .run("select tasker.claim_steps('w', '{default}', 2)")
        .await?;
    figures.run("update tasker.statistics_cursors set incarnation = 'elsewhere', noted_xid = 4000000000; delete from tasker.state_counts where not is_task; update tasker.state_counts set count = 9").await?;
    figures.goes_on(6.0).await?;
    figures.folded().await?;
    assert_eq!(figures.number(COMPLETED).await?, 8);
    assert_eq!(
        figures
            .number("select sum(attempts) from tasker.statistics_buckets")
            .await?,
        10
    );
    figures.hold().await
}

#[tokio::test]
async fn a_long_queue_is_told_by_the_states_of_its_steps() -> anyhow::Result<()> {
    let mut figures = Figures::new(&[CHAIN]).await?;
    let requests = "select tasker.create_tasks((select jsonb_agg(jsonb_build_object('template_name', 'chain')) from generate_series(1, 5001)))";
    figures.run(requests).await?;
    figures.goes_on(10.0).await?;
    figures.run(requests).await?;
    figures
        .run("select tasker.claim_steps('w', '{default}', 7)")
        .await?;
    let stats = "select visible, hidden, enqueued, in_progress, round(oldest_message_age_seconds) as age from tasker.queue_stats()";
    let seen = figures.rows(stats).await?.remove(0);
    assert!(
        seen["visible"].as_i64() > Some(9_000) && seen["enqueued"] == 0,
        "{seen}"
    );
    figures.folded().await?;
    let seen = figures.rows(stats).await?.remove(0);
    assert_eq!(
        (
            &seen["visible"],
            &seen["hidden"],
            &seen["enqueued"],
            &seen["in_progress"]
        ),
        (&json!(9995), &json!(7), &json!(9995), &json!(7))
    );
    assert!(seen["age"].as_i64() >= Some(10), "{seen}");
    figures.hold().await
}

#[tokio::test]
async fn health_says_how_far_the_statistics_are_behind() -> anyhow::Result<()> {
    let mut figures = Figures::new(&[CHAIN]).await?;
    let check = "select ok, detail from tasker.health() where name = 'statistics'";
    assert_eq!(
        figures.rows(check).await?[0]["detail"],
        "nothing has been counted yet"
    );
    figures.run("select tasker.create_task('chain')").await?;
    figures.folded().await?;
    assert_eq!(
        figures.rows(check).await?,
        [json!({"ok": true, "detail": "everything is counted"})]
    );
    figures.run("select tasker.create_task('chain')").await?;
    figures.goes_on(299.0).await?;
    let late = figures.rows(check).await?.remove(0);
    assert!(
        late["detail"]
            .as_str()
            .is_some_and(|detail| detail.starts_with("counted up to 2030-01-01 12:0")),
        "{late}"
    );
    figures.goes_on(60.0).await?;
    assert_eq!(figures.rows(check).await?[0]["ok"], false);
    eventually(
        "all is counted",
        std::time::Duration::from_secs(20),
        async || {
            figures.goes_on(6.0).await?;
            figures.run("select tasker.run_maintenance()").await?;
            Ok((figures.rows(check).await?[0]["ok"] == true).then_some(()))
        },
    )
    .await
}
