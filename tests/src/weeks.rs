//! A database with the work of several weeks in it, so with several partitions.

use anyhow::ensure;
use serde_json::{Value, json};
use sqlx::{Executor, PgConnection};
use uuid::Uuid;

/// A template of two steps, one after the other.
pub const TWO: &str = "{name: two, version: 1.0.0, steps: [\
    {name: a, handler: {callable: t}}, {name: b, handler: {callable: t}, dependencies: [a]}]}";

/// The weeks, from the current one, that have tasks. The last one's are due to leave.
pub const WEEKS: [i32; 4] = [0, -2, -4, -9];

/// Moves a session's clock to so many weeks from now.
pub async fn move_clock(session: &mut PgConnection, weeks: i32) -> anyhow::Result<()> {
    let set = format!("select tasker._set_now(clock_timestamp() + {weeks} * interval '1 week')");
    session.execute(set.as_str()).await?;
    Ok(())
}

/// Creates a task of it.
pub async fn create_two(session: &mut PgConnection) -> anyhow::Result<Uuid> {
    Ok(sqlx::query_scalar("select tasker.create_task('two')")
        .fetch_one(session)
        .await?)
}

/// Claims steps and reports one and the same outcome of each, again and again until none is left; gives how many there were.
pub async fn work_off(session: &mut PgConnection, outcome: &Value) -> anyhow::Result<i64> {
    let query = "with held as (select c.* from tasker.claim_steps('w', '{default}', 100) c), \
        outcomes as (select coalesce(jsonb_agg(jsonb_build_object('step_uuid', h.step_uuid, 'attempt', h.attempt) || $1), '[]') as list from held h) \
        select (select count(*) from jsonb_array_elements(f.verdicts) v where v ->> 'verdict' = 'accepted') from outcomes o, tasker.finish_steps('w', o.list) f";
    let mut steps = 0;
    loop {
        let accepted: i64 = sqlx::query_scalar(query)
            .bind(outcome)
            .fetch_one(&mut *session)
            .await?;
        if accepted == 0 {
            return Ok(steps);
        }
        steps += accepted;
    }
}

/// In each of the weeks a task that is finished, failed, waiting for a retry, pending, running and ready. Gives those that have work before them.
pub async fn filled_over_weeks(session: &mut PgConnection) -> anyhow::Result<Vec<Uuid>> {
    sqlx::query("select tasker.register_template($1::text)")
        .bind(TWO)
        .execute(&mut *session)
        .await?;
    let done = json!({"status": "complete", "result": {"n": 1}});
    let failed = json!({"status": "fail", "error": {"message": "m", "retryable": false}});
    let again = json!({"status": "fail", "error": {"message": "m", "retry_after_ms": 60_000}});
    let mut unfinished = Vec::new();
    // Backwards, so that nothing is met again.
    for weeks in WEEKS {
        move_clock(session, weeks).await?;
        for outcome in [&done, &failed, &again] {
            let task_uuid = create_two(session).await?;
            ensure!(work_off(session, outcome).await? > 0);
            if outcome == &again {
                unfinished.push(task_uuid);
            }
        }
        let pending =
            "select tasker.create_task('two', run_at => tasker._now() + interval '1 hour')";
        unfinished.push(sqlx::query_scalar(pending).fetch_one(&mut *session).await?);
        unfinished.push(create_two(session).await?);
        let claim = "select from tasker.claim_steps('w', '{default}', 10, '1 minute')";
        ensure!(session.execute(claim).await?.rows_affected() == 1);
        unfinished.push(create_two(session).await?);
    }
    Ok(unfinished)
}

/// The states of tasks and how many are in each.
pub async fn states(session: &mut PgConnection) -> anyhow::Result<Value> {
    let query = "select jsonb_object_agg(s.state, s.tasks) from (select t.state, count(*) as tasks from tasker.tasks t group by 1) s";
    Ok(sqlx::query_scalar(query).fetch_one(session).await?)
}
