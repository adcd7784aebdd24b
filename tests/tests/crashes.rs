//! A crash at every statement that writes: the server process is killed in the middle of a call, and the database stands as it did before it.

use std::time::Duration;

use anyhow::{Context, ensure};
use sqlx::{Connection, Executor, PgConnection};
use tasker_tests::{OwnCluster, eventually};

const RECOVERED_WITHIN: Duration = Duration::from_mins(1);

/// Two steps in a row, the first tried twice without a pause; the same evaluated later; and one with a decision and a map.
const TEMPLATES: &str = r"
select from tasker.register_template('{name: chain, version: 1.0.0, steps: [
  {name: a, handler: {callable: t.a}, retry: {max_attempts: 2, backoff: none}}, {name: b, handler: {callable: t.b}, dependencies: [a]}]}'::text);
select from tasker.register_template('{name: later, version: 1.0.0, lifecycle: {evaluation: deferred}, steps: [
  {name: a, handler: {callable: t.a}}, {name: b, handler: {callable: t.b}, dependencies: [a]}]}'::text);
select from tasker.register_template('{name: made, version: 1.0.0, steps: [
  {name: a, type: decision, handler: {callable: t.a}}, {name: b, handler: {callable: t.b}, dependencies: [a]},
  {name: c, type: map, over: b.items, handler: {callable: t.c}, dependencies: [b]}, {name: d, handler: {callable: t.d}, dependencies: [a]},
  {name: e, type: deferred_convergence, handler: {callable: t.e}, dependencies: [c, d]}]}'::text);
";

/// Kills its own server process before the n-th statement that writes, where `crash.at` is n.
const TRIGGERS: &str = r"
create schema crash;
create function crash.here() returns trigger language plpgsql set search_path = pg_catalog as $$
declare
  n constant integer := coalesce(nullif(current_setting('crash.at', true), '')::integer, 0);
begin
  if n = 1 then
    copy (select) to program 'kill -9 $PPID';
    perform pg_sleep(60);
  elsif n > 1 then
    perform set_config('crash.at', (n - 1)::text, false);
  end if;
  return null;
end $$;
do $$
declare
  v_table regclass;
begin
  for v_table in
    select c.oid::regclass from pg_class c
    where c.relkind in ('r', 'p') and (c.relnamespace = 'tasker'::regnamespace or c.relnamespace = 'pgmq'::regnamespace and c.relname like 'q\_%')
  loop
    execute format('create trigger crash before insert or update or delete on %s for each statement execute function crash.here()', v_table);
  end loop;
end $$;
";

/// All that the engine has stored.
const STORED: &str = "select jsonb_build_array(
  (select jsonb_agg(to_jsonb(t) order by t.task_uuid) from tasker.tasks t),
  (select jsonb_agg(to_jsonb(s) order by s.step_uuid) from tasker.steps s),
  (select jsonb_agg(to_jsonb(h) order by h.seq) from tasker.task_transitions h),
  (select jsonb_agg(to_jsonb(h) order by h.seq) from tasker.step_transitions h),
  (select jsonb_agg(to_jsonb(d) order by d.dead_letter_uuid) from tasker.dead_letters d),
  (select jsonb_agg(to_jsonb(r)) from tasker.resting_outcomes r),
  (select jsonb_agg(to_jsonb(r)) from tasker.scheduled_tasks r),
  (select jsonb_agg(to_jsonb(q) order by q.msg_id) from pgmq.q_worker_default_queue q))::text";

/// The calls of a task's life, in an order in which each finds something to do. `{held}` is the claimed step with its attempt, `{task}` the newest task.
const CALLS: &[(&str, &str)] = &[
    ("create", "select tasker.create_task('chain')"),
    ("claim", "select from tasker.claim_steps('w', '{default}')"),
    (
        "fail, to be retried",
        "select from tasker.finish_steps('w', jsonb_build_array({held} || '{\"status\": \"fail\", \"error\": {\"message\": \"m\"}}'), \
         request_id => 'a0000000-0000-4000-8000-000000000001')",
    ),
    (
        "claim the retry",
        "select from tasker.claim_steps('w', '{default}')",
    ),
    (
        "fail for good",
        "select from tasker.finish_steps('w', jsonb_build_array({held} || '{\"status\": \"fail\", \"error\": {\"message\": \"m\"}}'))",
    ),
    ("reset", "select tasker.reset_step({step})"),
    (
        "claim again",
        "select from tasker.claim_steps('w', '{default}')",
    ),
    (
        "complete, and hand over what follows",
        "select from tasker.finish_steps('w', jsonb_build_array({held} || '{\"status\": \"complete\"}'), 1, namespaces => '{default}', \
         request_id => 'a0000000-0000-4000-8000-000000000002')",
    ),
    (
        "complete the last",
        "select from tasker.finish_steps('w', jsonb_build_array({held} || '{\"status\": \"complete\"}'))",
    ),
    ("rerun", "select tasker.rerun_task({task}, 'b')"),
    ("cancel", "select tasker.cancel_task({task})"),
    (
        "create for later",
        "select tasker.create_task('later', run_at => clock_timestamp() + interval '1 minute')",
    ),
    (
        "start it by maintenance",
        "{later} select count(*) from tasker.run_maintenance()",
    ),
    (
        "claim it",
        "{later} select from tasker.claim_steps('w', '{default}')",
    ),
    (
        "let its outcome rest",
        "{later} select from tasker.finish_steps('w', jsonb_build_array({held} || '{\"status\": \"complete\"}'))",
    ),
    (
        "evaluate it",
        "select count(*) from tasker.run_maintenance()",
    ),
    (
        "settle by hand",
        "{later} select tasker.resolve_step({step})",
    ),
    (
        "create what is to be decided, and claim it",
        "select tasker.create_task('made'); select from tasker.claim_steps('w', '{default}')",
    ),
    (
        "decide, and hand over what was chosen",
        "select from tasker.finish_steps('w', jsonb_build_array({held} || '{\"status\": \"complete\", \"result\": {\"decision\": {\"steps\": [\"b\"]}}}'), 1, \
         namespaces => '{default}')",
    ),
    (
        "make instances, and claim one",
        "select from tasker.finish_steps('w', jsonb_build_array({held} || '{\"status\": \"complete\", \"result\": {\"items\": [1]}}'), 1, namespaces => '{default}')",
    ),
    (
        "end the last instance",
        "select from tasker.finish_steps('w', jsonb_build_array({held} || '{\"status\": \"complete\"}'))",
    ),
];

const HELD: &str = "(select jsonb_build_object('step_uuid', s.step_uuid, 'attempt', s.attempt) from tasker.steps s where s.state = 'in_progress')";
const STEP: &str =
    "(select s.step_uuid from tasker.steps s where s.state in ('error', 'enqueued'))";
const LATER: &str = "select tasker._set_now(clock_timestamp() + interval '1 hour');";
const TASK: &str = "(select t.task_uuid from tasker.tasks t order by t.task_uuid desc limit 1)";

/// Whether the server went away under a session: it, or all of it, was killed.
fn is_gone(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Database(error) => error.code().is_some_and(|code| code.starts_with("57P")),
        _ => true,
    }
}

async fn session(url: &str) -> anyhow::Result<PgConnection> {
    eventually("the database is back", RECOVERED_WITHIN, async || {
        Ok(PgConnection::connect(url).await.ok())
    })
    .await
}

async fn read(url: &str) -> Result<(Vec<String>, String), sqlx::Error> {
    let mut session = PgConnection::connect(url).await?;
    let violations = sqlx::query_scalar("select detail from tasker.verify()")
        .fetch_all(&mut session)
        .await?;
    let stored = sqlx::query_scalar(STORED).fetch_one(&mut session).await?;
    Ok((violations, stored))
}

/// All that is stored, once the database is back; no invariant may be broken.
async fn stored(url: &str) -> anyhow::Result<String> {
    let (violations, stored) =
        eventually(
            "the database is back",
            RECOVERED_WITHIN,
            async || match read(url).await {
                Ok(found) => Ok(Some(found)),
                Err(error) if is_gone(&error) => Ok(None),
                Err(error) => Err(error.into()),
            },
        )
        .await?;
    ensure!(violations.is_empty(), "{violations:?}");
    Ok(stored)
}

#[tokio::test]
async fn a_crash_at_any_statement_of_any_call_leaves_what_was_before() -> anyhow::Result<()> {
    let own = OwnCluster::start().await?;
    let url = own.url();
    let mut first = session(&url).await?;
    first.execute(sqlx::raw_sql(TEMPLATES)).await?;
    // The partitions of today are there before the triggers are made.
    first
        .execute("select count(*) from tasker.run_maintenance()")
        .await?;
    first
        .execute("begin; select tasker.create_task('chain'); rollback")
        .await?;
    first.execute(sqlx::raw_sql(TRIGGERS)).await?;
    let mut crashes = 0;
    for (what, call) in CALLS {
        let call = call
            .replace("{held}", HELD)
            .replace("{step}", STEP)
            .replace("{task}", TASK)
            .replace("{later}", LATER);
        let before = stored(&url).await?;
        for at in 1.. {
            let mut caller = session(&url).await?;
            caller
                .execute(format!("select set_config('crash.at', '{at}', false)").as_str())
                .await?;
            match caller.execute(sqlx::raw_sql(&call)).await {
                Ok(_) => {
                    ensure!(at > 1, "{what}: nothing was written");
                    break;
                }
                Err(sqlx::Error::Database(error))
                    if !error.code().is_some_and(|code| code.starts_with("57P")) =>
                {
                    return Err(error).context(*what);
                }
                Err(_) => crashes += 1,
            }
            let context = || format!("{what}: after a crash at statement {at}");
            let after = stored(&url).await.with_context(context)?;
            ensure!(after == before, "{}: {before} became {after}", context());
        }
        let after = stored(&url).await.context(*what)?;
        ensure!(after != before, "{what}: nothing was changed");
    }
    // Every call has several statements that write.
    ensure!(crashes > 2 * CALLS.len(), "only {crashes} crashes");
    Ok(())
}
