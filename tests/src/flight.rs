//! Work in every state of tasks and steps, over several weeks, to be finished after something has happened to the database.

use std::time::Duration;

use anyhow::ensure;
use serde_json::{Value, json};
use sqlx::{Executor, PgConnection, PgPool};
use uuid::Uuid;

use crate::waiting::eventually;
use crate::weeks::{filled_over_weeks, work_off};

/// Of a handler of their own, so that nothing of the weeks is met when they are claimed.
const TEMPLATES: [&str; 3] = [
    "{name: flown, version: 1.0.0, steps: [{name: a, handler: {callable: f}}, {name: b, handler: {callable: f}, dependencies: [a]}]}",
    "{name: rested, version: 1.0.0, lifecycle: {evaluation: deferred}, steps: [{name: a, handler: {callable: f}}, {name: b, handler: {callable: f}, dependencies: [a]}]}",
    "{name: blocked, version: 1.0.0, lifecycle: {on_failure: block}, steps: [{name: a, handler: {callable: f}}, {name: b, handler: {callable: f}, dependencies: [a]}]}",
];

/// What the states of tasks and of steps are in a flight. Tasks pass through all others within a transaction, or no step type leads to them yet.
const STATES: [&str; 2] = [
    "blocked_by_failures cancelled complete error pending resolved_manually steps_in_process waiting_for_retry",
    "cancelled complete enqueued enqueued_as_error_for_orchestration enqueued_for_orchestration error in_progress pending resolved_manually waiting_for_retry",
];

/// The feed of events gives what is settled: nothing that an older transaction of any database could still precede.
const EVENTS_SETTLE_WITHIN: Duration = Duration::from_mins(1);

/// Work that is under way.
#[derive(Debug)]
pub struct Flight {
    held: Vec<Value>,
    unfinished: Vec<Uuid>,
    paused: Uuid,
    blocked_step: Uuid,
    keyed: Uuid,
    cursor: String,
}

/// A call of `create_task` with an idempotency key.
const KEYED: &str = "select tasker.create_task('flown', idempotency_key => 'kept')";

async fn create(session: &mut PgConnection, template: &str) -> anyhow::Result<Uuid> {
    Ok(sqlx::query_scalar("select tasker.create_task($1)")
        .bind(template)
        .fetch_one(session)
        .await?)
}

/// Claims what is ready of this flight.
async fn claim(session: &mut PgConnection, expected: usize) -> anyhow::Result<Vec<Value>> {
    let query =
        "select to_jsonb(c) from tasker.claim_steps('holder', '{default}', 10, '1 hour', '{f}') c";
    let claimed: Vec<Value> = sqlx::query_scalar(query).fetch_all(session).await?;
    ensure!(claimed.len() == expected, "claimed {claimed:?}");
    Ok(claimed)
}

async fn finish(session: &mut PgConnection, step: &Value, outcome: &Value) -> anyhow::Result<()> {
    let mut outcome = outcome.clone();
    outcome["step_uuid"] = step["step_uuid"].clone();
    outcome["attempt"] = step["attempt"].clone();
    let query = "select verdicts -> 0 ->> 'verdict' from tasker.finish_steps('holder', $1)";
    let verdict: String = sqlx::query_scalar(query)
        .bind(json!([outcome]))
        .fetch_one(session)
        .await?;
    ensure!(verdict == "accepted", "{verdict}");
    Ok(())
}

/// A task that was blocked by a failure, with the step that failed.
async fn blocked(session: &mut PgConnection) -> anyhow::Result<(Uuid, Uuid)> {
    let task = create(session, "blocked").await?;
    let step = claim(session, 1).await?.remove(0);
    let failed = json!({"status": "fail", "error": {"message": "m", "retryable": false}});
    finish(session, &step, &failed).await?;
    Ok((task, serde_json::from_value(step["step_uuid"].clone())?))
}

impl Flight {
    /// Brings tasks and steps into every state that outlives a transaction, in a database without any.
    pub async fn take_off(session: &mut PgConnection) -> anyhow::Result<Self> {
        let mut unfinished = filled_over_weeks(session).await?;
        session.execute("select tasker._set_now(null)").await?;
        for template in TEMPLATES {
            sqlx::query("select tasker.register_template($1::text)")
                .bind(template)
                .execute(&mut *session)
                .await?;
        }
        let (_, blocked_step) = blocked(session).await?;
        let (repaired, step) = blocked(session).await?;
        sqlx::query("select tasker.resolve_step($1)")
            .bind(step)
            .execute(&mut *session)
            .await?;
        // The step behind the one that was resolved.
        let mut claimed = claim(session, 1).await?;
        let (given_up, _) = blocked(session).await?;
        let resolve = "select tasker.resolve_dead_letter((select d.dead_letter_uuid from tasker.get_dead_letter(task_uuid => $1) d), 'manually_resolved')";
        sqlx::query(resolve)
            .bind(given_up)
            .execute(&mut *session)
            .await?;
        for outcome in [
            json!({"status": "complete", "result": 1}),
            json!({"status": "fail", "error": {"message": "m", "retry_after_ms": 1000}}),
        ] {
            unfinished.push(create(session, "rested").await?);
            let step = claim(session, 1).await?.remove(0);
            finish(session, &step, &outcome).await?;
        }
        unfinished.extend([repaired, create(session, "flown").await?]);
        claimed.extend(claim(session, 1).await?);
        let cancelled = create(session, "flown").await?;
        sqlx::query("select tasker.cancel_task($1)")
            .bind(cancelled)
            .execute(&mut *session)
            .await?;
        let paused = create(session, "flown").await?;
        sqlx::query("select tasker.pause_task($1)")
            .bind(paused)
            .execute(&mut *session)
            .await?;
        unfinished.push(paused);
        let keyed = sqlx::query_scalar(KEYED).fetch_one(&mut *session).await?;
        unfinished.push(keyed);
        for (table, expected) in ["tasks", "steps"].into_iter().zip(STATES) {
            let query = format!(
                "select string_agg(distinct state, ' ' order by state) from tasker.{table}"
            );
            let states: String = sqlx::query_scalar(&query).fetch_one(&mut *session).await?;
            ensure!(states == expected, "the states of {table}: {states}");
        }
        Ok(Self {
            held: claimed,
            unfinished,
            paused,
            blocked_step,
            keyed,
            cursor: sqlx::query_scalar("select tasker.end_of_events()")
                .fetch_one(session)
                .await?,
        })
    }

    /// Goes on with all of it, in a session that may be the same, and brings it to its end.
    pub async fn land(self, session: &mut PgConnection) -> anyhow::Result<()> {
        let done = json!({"status": "complete", "result": {"n": 2}});
        for step in &self.held {
            finish(session, step, &done).await?;
        }
        let keyed: Uuid = sqlx::query_scalar(KEYED).fetch_one(&mut *session).await?;
        ensure!(keyed == self.keyed, "the idempotency key is kept");
        sqlx::query("select tasker.resume_task($1)")
            .bind(self.paused)
            .execute(&mut *session)
            .await?;
        sqlx::query("select tasker.reset_step($1)")
            .bind(self.blocked_step)
            .execute(&mut *session)
            .await?;
        let maintain = "select count(*) filter (where more or processed > 0 and job = 'evaluate') from tasker.run_maintenance()";
        // Retries and the takeover of ended leases are due; then the retries of what is evaluated by that.
        for hours in [2, 3] {
            let later =
                format!("select tasker._set_now(clock_timestamp() + interval '{hours} hours')");
            session.execute(later.as_str()).await?;
            loop {
                let more: i64 = sqlx::query_scalar(maintain)
                    .fetch_one(&mut *session)
                    .await?;
                if more + work_off(session, &done).await? == 0 {
                    break;
                }
            }
        }
        let open: Vec<String> = sqlx::query_scalar(
            "select t.task_uuid || ' ' || t.state from unnest($1) u(task_uuid) cross join lateral tasker.get_task(u.task_uuid) t where t.state <> 'complete'",
        )
        .bind(&self.unfinished)
        .fetch_all(&mut *session)
        .await?;
        ensure!(open.is_empty(), "not complete: {open:?}");
        session.execute("select tasker._set_now(null)").await?;
        Ok(())
    }

    /// Requires that a reader of events who stopped where the flight took off is given all that a task went through since.
    pub async fn is_followed(cursor: &str, pool: &PgPool, task: Uuid) -> anyhow::Result<()> {
        let query = "select (select count(*) from tasker.list_events(after => $1, \"limit\" => 1000) e where e.task_uuid = $2), \
            (select count(*) from tasker.task_history($2)) + (select count(*) from tasker.list_steps($2) s cross join lateral tasker.step_history(s.step_uuid) h)";
        eventually(
            "the feed gives every event",
            EVENTS_SETTLE_WITHIN,
            async || {
                let (given, expected): (i64, i64) = sqlx::query_as(query)
                    .bind(cursor)
                    .bind(task)
                    .fetch_one(pool)
                    .await?;
                Ok((given == expected && given > 0).then_some(()))
            },
        )
        .await
    }

    /// Where the feed of events was at the take-off.
    #[must_use]
    pub fn cursor(&self) -> &str {
        &self.cursor
    }
}
