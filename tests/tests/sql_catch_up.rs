//! What schedules do about times that were missed: by themselves, after a pause, and in a backfill.

use serde_json::json;
use tasker_tests::schedules::{
    DAY, HOUR, MINUTE, health, ran, run_at, schedule, shown, with_report,
};

#[tokio::test]
async fn what_was_missed_is_run_by_the_policy() -> anyhow::Result<()> {
    for (policy, expected) in [
        ("none", &[][..]),
        ("one", &["01-02 00:00"][..]),
        (
            "all",
            &["01-01 06:00", "01-01 12:00", "01-01 18:00", "01-02 00:00"][..],
        ),
    ] {
        let mut sql = with_report().await?;
        schedule(
            &mut sql,
            &format!("'s', '0 */6 * * *', 'report', catch_up => '{policy}'"),
        )
        .await?;
        run_at(&mut sql, DAY + HOUR).await?;
        assert_eq!(ran(&mut sql).await?, expected, "{policy}");
        let next = shown(&mut sql, "next_at").await?;
        assert_eq!(next["next_at"], "2030-01-02T06:00:00+00:00", "{policy}");
        // What comes in time runs under each of them.
        run_at(&mut sql, DAY + 6 * HOUR + 59_000).await?;
        assert_eq!(ran(&mut sql).await?.len(), expected.len() + 1, "{policy}");
        sql.verify().await?;
    }
    Ok(())
}

#[tokio::test]
async fn many_missed_times_are_run_in_bounded_batches() -> anyhow::Result<()> {
    let mut sql = with_report().await?;
    schedule(&mut sql, "'s', '* * * * *', 'report', catch_up => 'all'").await?;
    sql.clock(25 * MINUTE).await?;
    let batch = "select tasker.run_maintenance_job('run_schedules')::text";
    let count = "select count(*) from tasker.tasks";
    for (answer, tasks) in [("(1,t)", 10), ("(1,t)", 20), ("(1,f)", 25), ("(0,f)", 25)] {
        assert_eq!(sql.value::<String>(batch).await?, answer);
        assert_eq!(sql.value::<i64>(count).await?, tasks);
    }
    sql.verify().await
}

#[tokio::test]
async fn a_paused_schedule_creates_nothing_and_catches_up_when_it_is_resumed() -> anyhow::Result<()>
{
    let mut sql = with_report().await?;
    schedule(&mut sql, "'s', '@hourly', 'report'").await?;
    let pause = "select tasker.pause_schedule('s', reason => 'the bank is down')";
    assert!(sql.value::<bool>(pause).await?);
    assert!(!sql.value::<bool>(pause).await?);
    assert_eq!(run_at(&mut sql, 5 * HOUR + MINUTE).await?, 0);
    assert_eq!(
        shown(
            &mut sql,
            "paused_at, paused_by = current_user as by_me, pause_reason, next_at"
        )
        .await?,
        json!({"paused_at": "2030-01-01T00:00:00+00:00", "by_me": true, "pause_reason": "the bank is down", "next_at": "2030-01-01T01:00:00+00:00"})
    );
    assert_eq!(
        health(&mut sql).await?,
        json!([true, "every schedule that isn't paused runs"])
    );
    let resume = "select tasker.resume_schedule('s')";
    assert!(sql.value::<bool>(resume).await?);
    assert!(!sql.value::<bool>(resume).await?);
    assert_eq!(
        health(&mut sql).await?,
        json!([
            false,
            "not running as they should: s in namespace default (due since 2030-01-01 01:00:00+00); tasker.list_schedules() shows more"
        ])
    );
    assert_eq!(run_at(&mut sql, 5 * HOUR + 2 * MINUTE).await?, 1);
    assert_eq!(ran(&mut sql).await?, ["01-01 05:00"]);
    assert_eq!(
        shown(&mut sql, "paused_at, paused_by, pause_reason").await?,
        json!({"paused_at": null, "paused_by": null, "pause_reason": null})
    );
    Ok(())
}

#[tokio::test]
async fn a_backfill_runs_the_times_that_had_no_task_each_once() -> anyhow::Result<()> {
    let mut sql = with_report().await?;
    schedule(
        &mut sql,
        "'s', '0 6,18 * * *', 'report', catch_up => 'none'",
    )
    .await?;
    run_at(&mut sql, 6 * HOUR).await?;
    // The evening's time and those of a day are missed.
    run_at(&mut sql, 2 * DAY).await?;
    assert_eq!(ran(&mut sql).await?, ["01-01 06:00"]);
    let backfill = |from: &str, to: &str| {
        format!(
            "select tasker.backfill_schedule('s', '2030-{from}+00'::timestamptz, '2030-{to}+00')"
        )
    };
    // From its first to before its last, and what was run is passed over.
    assert_eq!(
        sql.value::<i32>(&backfill("01-01 06:00", "01-02 18:00"))
            .await?,
        2
    );
    assert_eq!(
        sql.value::<i32>(&backfill("01-01 06:00", "01-02 18:00"))
            .await?,
        0
    );
    assert_eq!(
        ran(&mut sql).await?,
        ["01-01 06:00", "01-01 18:00", "01-02 06:00"]
    );
    // Neither what is to come, nor a time twice when the spans overlap; the last task is that of the latest time.
    assert_eq!(
        sql.value::<i32>(&backfill("01-01 00:00", "02-01 00:00"))
            .await?,
        1
    );
    assert_eq!(
        shown(&mut sql, "last_at").await?["last_at"],
        "2030-01-02T18:00:00+00:00"
    );
    // Before it was made.
    let before =
        "select tasker.backfill_schedule('s', '2029-12-30 12:00+00', '2030-01-01 12:00+00')";
    assert_eq!(sql.value::<i32>(before).await?, 3);
    assert_eq!(
        shown(&mut sql, "last_at").await?["last_at"],
        "2030-01-02T18:00:00+00:00"
    );
    run_at(&mut sql, 2 * DAY + 6 * HOUR).await?;
    assert_eq!(ran(&mut sql).await?.len(), 8);
    sql.verify().await
}

#[tokio::test]
async fn a_backfill_of_a_paused_schedule_takes_the_times_that_it_would_catch_up_on()
-> anyhow::Result<()> {
    let mut sql = with_report().await?;
    schedule(&mut sql, "'s', '@hourly', 'report', catch_up => 'all'").await?;
    sql.run("select tasker.pause_schedule('s')").await?;
    sql.clock(4 * HOUR + MINUTE).await?;
    let backfill =
        "select tasker.backfill_schedule('s', '2030-01-01 01:00+00', '2030-01-01 03:00+00')";
    assert_eq!(sql.value::<i32>(backfill).await?, 2);
    sql.run("select tasker.resume_schedule('s')").await?;
    run_at(&mut sql, 4 * HOUR + 2 * MINUTE).await?;
    assert_eq!(
        ran(&mut sql).await?,
        ["01-01 01:00", "01-01 02:00", "01-01 03:00", "01-01 04:00"]
    );
    Ok(())
}

#[tokio::test]
async fn a_backfill_is_bounded_and_refuses_as_creating_does() -> anyhow::Result<()> {
    let mut sql = with_report().await?;
    schedule(&mut sql, "'s', '* * * * *', 'report'").await?;
    sql.run("set local tasker.max_batch = 100").await?;
    let refusal = sql
        .refused(
            "select tasker.backfill_schedule('s', '2029-12-31 22:00+00', '2030-01-01 00:00+00')",
        )
        .await?;
    assert_eq!(refusal.code, "TK022");
    assert!(refusal.detail.contains("23:39"), "{refusal:?}");
    let fits = "select tasker.backfill_schedule('s', '2029-12-31 22:00+00', '2029-12-31 23:40+00')";
    assert_eq!(sql.value::<i32>(fits).await?, 100);
    for bounds in [
        "null, '2030-01-01'",
        "'2030-01-01', '2030-01-01'",
        "'-infinity', '2030-01-01'",
        "'2029-12-31', 'infinity'",
    ] {
        let refusal = sql
            .refused(&format!("select tasker.backfill_schedule('s', {bounds})"))
            .await?;
        assert_eq!(refusal.code, "22023", "{bounds}");
    }
    sql.run("select tasker.retire_template('report')").await?;
    let refusal = sql
        .refused(
            "select tasker.backfill_schedule('s', '2029-12-31 21:00+00', '2029-12-31 22:00+00')",
        )
        .await?;
    assert_eq!(refusal.code, "TK003");
    Ok(())
}
