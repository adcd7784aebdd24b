//! Steps whose handler is a SQL function: what it is given, what becomes of its result and its errors, and how it is ended. Each call of `run_sql_step` is a transaction of its own, so rows
//! are committed here. As whom it runs is in `sql_steps_roles`, the processes that call it in `sql_steps_runners`.

use std::time::Duration;

use serde_json::{Value, json};
use sqlx::{Connection, Executor};
use tasker_tests::bank::{Bank, drain};
use tasker_tests::eventually;
use tasker_tests::scenario::refusal;

const WITHIN: Duration = Duration::from_mins(1);

#[tokio::test]
async fn a_function_gets_the_context_its_inputs_and_the_results_before_it() -> anyhow::Result<()> {
    let mut bank = Bank::new(&[]).await?;
    bank.function("price", "begin return to_jsonb(7.10); end")
        .await?;
    bank.function(
        "told",
        "begin return jsonb_build_array(context, inputs, dependency_results); end",
    )
    .await?;
    bank.function("nothing", "begin return null; end").await?;
    bank.register(
        "{name: price, handler: {callable: 'sql:bank.price'}},
         {name: told, handler: {callable: 'sql:bank.told', initialization: {to: 'me'}}, dependencies: [price]},
         {name: nothing, handler: {callable: 'sql:bank.nothing'}, dependencies: [told]}",
    )
    .await?;
    let steps = bank.ran().await?;
    assert_eq!(
        steps["told"]["result"].to_string(),
        r#"[{"amount":1.10},{"to":"me"},{"price":7.10}]"#
    );
    assert_eq!(steps["nothing"]["state"], "complete");
    assert_eq!(steps["nothing"]["result"], Value::Null);
    let worker = steps["told"]["worker_id"].as_str().unwrap_or_default();
    assert!(worker.starts_with("database:"), "{worker}");
    bank.end().await
}

#[tokio::test]
async fn an_error_takes_the_work_back_and_is_an_attempt_that_failed() -> anyhow::Result<()> {
    let mut bank = Bank::new(&[(
        "fails",
        "begin insert into bank.notes values ('x'); raise exception 'no money' using errcode = 'P0042', detail = 'd', hint = 'h'; end",
    )])
    .await?;
    let task = bank.create().await?;
    assert_eq!(bank.drain().await?, ["failed", "failed"]);
    let steps = bank.steps(&task).await?;
    let step = &steps["fails"];
    assert_eq!(
        (&step["state"], &step["attempts_used"]),
        (&json!("error"), &json!(2))
    );
    let error = &step["error"];
    for (field, value) in [
        ("type", "sql_error"),
        ("code", "P0042"),
        ("message", "no money"),
        ("detail", "d"),
        ("hint", "h"),
    ] {
        assert_eq!(error[field], value, "{error}");
    }
    assert_eq!(
        bank.value::<i64>("select count(*) from bank.notes").await?,
        0
    );
    let reason: String = bank
        .value("select reason from tasker.list_dead_letters()")
        .await?;
    assert_eq!(reason, "max_retries_exceeded");
    bank.end().await
}

#[tokio::test]
async fn a_result_that_is_no_such_takes_the_work_back() -> anyhow::Result<()> {
    let mut bank = Bank::new(&[]).await?;
    let body =
        |result: &str| format!("begin insert into bank.notes values ('x'); return {result}; end");
    bank.function("text", &body("'\"x\"'")).await?;
    bank.function("long", &body("to_jsonb(repeat('x', 2000000))"))
        .await?;
    bank.register(
        "{name: text, handler: {callable: 'sql:bank.text'}, result_schema: {type: object}}, {name: long, handler: {callable: 'sql:bank.long'}}",
    )
    .await?;
    let steps = bank.ran().await?;
    for (name, code) in [("text", "TK021"), ("long", "TK022")] {
        assert_eq!(steps[name]["state"], "error", "{}", steps[name]);
        assert_eq!(steps[name]["error"]["code"], code, "{}", steps[name]);
        assert_eq!(steps[name]["attempts_used"], 1);
    }
    assert_eq!(
        bank.value::<i64>("select count(*) from bank.notes").await?,
        0
    );
    bank.end().await
}

#[tokio::test]
async fn no_worker_gets_a_sql_function() -> anyhow::Result<()> {
    let mut bank = Bank::new(&[("f", "begin return '1'; end")]).await?;
    bank.run("set role {role}; select tasker.register_template($t${name: u, version: 1.0.0, steps: [{name: a, handler: {callable: x}}, {name: b, handler: {callable: 'sql:bank.f'}, dependencies: [a]}]}$t$::text); reset role").await?;
    bank.create().await?;
    bank.value::<String>("select tasker.create_task('u')::text")
        .await?;
    let due: Option<i64> = bank
        .value("select tasker.work_due_in_ms('{default}', '{sql:bank.f}')")
        .await?;
    let claimed: Vec<(String, i32)> = sqlx::query_as(
        "select step_uuid::text, attempt from tasker.claim_steps('w', '{default}', 10)",
    )
    .fetch_all(&mut bank.admin)
    .await?;
    assert_eq!(
        claimed.len(),
        1,
        "the function of the first task is left, {due:?}"
    );
    for call in [
        "select tasker.claim_steps('w', '{default}', 10, handlers => '{x,sql:bank.f}')",
        "select tasker.register_worker('w', '{default}', '{x,sql:bank.f}', 'rust', '1')",
    ] {
        assert_eq!(bank.refused(call).await?.code, "22023", "{call}");
    }
    // Neither is it handed over.
    for handlers in ["null", "'{sql:bank.f}'"] {
        let answer: Value = bank
            .value(&format!(
                "select jsonb_build_array(verdicts -> 0 -> 'verdict', cardinality(claimed)) from tasker.finish_steps('w',
                   jsonb_build_array(jsonb_build_object('step_uuid', '{}', 'attempt', 1, 'status', 'complete')), 5, namespaces => '{{default}}', handlers => {handlers})",
                claimed[0].0
            ))
            .await?;
        assert_eq!(answer[1], 0, "{answer}");
    }
    assert_eq!(bank.drain().await?, ["complete", "complete"]);
    bank.end().await
}

#[tokio::test]
async fn a_function_that_runs_too_long_is_ended() -> anyhow::Result<()> {
    let mut bank = Bank::new(&[]).await?;
    bank.function(
        "slow",
        "begin insert into bank.notes values ('x'); perform pg_sleep(100); return '1'; end",
    )
    .await?;
    bank.register("{name: slow, handler: {callable: 'sql:bank.slow'}, timeout_seconds: 1, retry: {max_attempts: 1}}")
        .await?;
    let steps = bank.ran().await?;
    let error = &steps["slow"]["error"];
    assert_eq!(
        (&error["type"], &error["code"]),
        (&json!("timed_out"), &json!("57014")),
        "{error}"
    );
    assert_eq!(
        bank.value::<i64>("select count(*) from bank.notes").await?,
        0
    );
    // The session's own timeout is in force again.
    bank.run("set statement_timeout = '100ms'").await?;
    assert_eq!(bank.refused("select pg_sleep(100)").await?.code, "57014");
    bank.run("reset statement_timeout").await?;
    bank.end().await
}

#[tokio::test]
async fn a_cancelled_step_takes_back_what_its_function_did_and_ends_it() -> anyhow::Result<()> {
    let mut bank = Bank::new(&[(
        "waits",
        "begin insert into bank.notes values ('x'); perform pg_advisory_xact_lock(1); return '1'; end",
    )])
    .await?;
    let mut runner = bank.database.session().await?;
    for is_ended in [false, true] {
        bank.run("select pg_advisory_lock(1)").await?;
        let task = bank.create().await?;
        let running = async { drain(&mut runner).await };
        let meanwhile = async {
            eventually("the function waits", WITHIN, async || {
                let waits: bool = bank
                    .value("select exists (select from pg_locks where locktype = 'advisory' and not granted)")
                    .await?;
                Ok(waits.then_some(()))
            })
            .await?;
            // Nobody waits for the function.
            bank.run(&format!("select tasker.cancel_task('{task}', 'test')"))
                .await?;
            if is_ended {
                bank.run("select from tasker.run_maintenance_job('end_sql_runs')")
                    .await
            } else {
                bank.run("select pg_advisory_unlock(1)").await
            }
        };
        let (outcomes, done) = tokio::join!(running, meanwhile);
        done?;
        assert_eq!(outcomes?, ["cancelled"]);
        bank.run("select pg_advisory_unlock_all()").await?;
    }
    assert_eq!(
        bank.value::<i64>("select count(*) from bank.notes").await?,
        0
    );
    bank.end().await
}

#[tokio::test]
async fn an_attempt_whose_session_is_gone_is_tried_again_at_once() -> anyhow::Result<()> {
    let mut bank = Bank::new(&[("f", "begin return '1'; end")]).await?;
    let task = bank.create().await?;
    let mut gone = bank.database.session().await?;
    let claimed: bool = sqlx::query_scalar("select more from tasker.run_sql_step()")
        .fetch_one(&mut gone)
        .await?;
    assert!(claimed);
    let due = "select count(*) from tasker.list_due_jobs() where job = 'end_sql_runs'";
    assert_eq!(bank.value::<i64>(due).await?, 0);
    gone.close().await?;
    eventually("its end is noticed", WITHIN, async || {
        Ok((bank.value::<i64>(due).await? == 1).then_some(()))
    })
    .await?;
    bank.run("select from tasker.run_maintenance_job('end_sql_runs')")
        .await?;
    let steps = bank.steps(&task).await?;
    assert_eq!(steps["f"]["state"], "enqueued");
    assert_eq!(steps["f"]["error"]["type"], "lease_expired");
    assert_eq!(bank.drain().await?, ["complete"]);
    let steps = bank.steps(&task).await?;
    assert_eq!(steps["f"]["attempt"], 2);
    assert_eq!(bank.value::<i64>(due).await?, 0);
    assert_eq!(
        bank.value::<i64>("select count(*) from tasker.sql_runs")
            .await?,
        0
    );
    bank.end().await
}

#[tokio::test]
async fn a_function_that_does_not_let_itself_be_ended_loses_its_session() -> anyhow::Result<()> {
    let mut bank = Bank::new(&[]).await?;
    bank.function(
        "stubborn",
        "begin
           if exists (select from bank.notes) then return '1'; end if;
           loop begin perform pg_advisory_xact_lock(2); exception when query_canceled then null; end; end loop;
         end",
    )
    .await?;
    bank.register("{name: stubborn, handler: {callable: 'sql:bank.stubborn'}, timeout_seconds: 1}")
        .await?;
    bank.run("select pg_advisory_lock(2)").await?;
    let task = bank.create().await?;
    let mut runner = bank.database.session().await?;
    let meanwhile = async {
        eventually("it has been told to end", WITHIN, async || {
            let overdue: bool = bank
                .value("select exists (select from pg_stat_activity where query like '%run_sql_step%' and wait_event_type = 'Lock' and clock_timestamp() - query_start > interval '1.5 seconds')")
                .await?;
            Ok(overdue.then_some(()))
        })
        .await?;
        bank.run("select from tasker.run_maintenance(); select tasker._set_now(clock_timestamp() + interval '1 minute'); select from tasker.run_maintenance_job('end_sql_runs')").await
    };
    let (gone, done) = tokio::join!(drain(&mut runner), meanwhile);
    done?;
    assert!(gone.is_err(), "{gone:?}");
    bank.run("insert into bank.notes values ('x')").await?;
    eventually(
        "its end is noticed, and another session runs it",
        WITHIN,
        async || {
            bank.run("select from tasker.run_maintenance_job('end_sql_runs')")
                .await?;
            drain(&mut bank.admin).await?;
            Ok((bank.steps(&task).await?["stubborn"]["state"] == "complete").then_some(()))
        },
    )
    .await?;
    bank.run("select pg_advisory_unlock_all()").await?;
    bank.end().await
}

#[tokio::test]
async fn an_attempt_is_committed_before_it_runs() -> anyhow::Result<()> {
    let mut bank = Bank::new(&[("f", "begin return '1'; end")]).await?;
    bank.create().await?;
    bank.run("begin; select from tasker.run_sql_step()").await?;
    let again = bank
        .admin
        .execute("select from tasker.run_sql_step()")
        .await;
    bank.run("rollback").await?;
    let Err(error) = again else {
        anyhow::bail!("an attempt ran that wasn't committed");
    };
    assert_eq!(refusal(&error)?.code, "55000");
    assert_eq!(bank.drain().await?, ["complete"]);
    bank.end().await
}

#[tokio::test]
async fn two_sessions_run_two_functions_at_the_same_time() -> anyhow::Result<()> {
    let mut bank = Bank::new(&[(
        "meets",
        "begin
           perform pg_advisory_xact_lock_shared(1);
           for i in 1..1000 loop
             exit when (select count(*) from pg_locks where locktype = 'advisory' and granted) >= 2;
             perform pg_sleep(0.02);
           end loop;
           return to_jsonb((select count(*) from pg_locks where locktype = 'advisory' and granted));
         end",
    )])
    .await?;
    bank.create().await?;
    bank.create().await?;
    let (mut one, mut other) = (
        bank.database.session().await?,
        bank.database.session().await?,
    );
    let (one, other) = tokio::join!(drain(&mut one), drain(&mut other));
    assert_eq!(
        (one?, other?),
        (vec!["complete".to_owned()], vec!["complete".to_owned()])
    );
    bank.end().await
}

#[tokio::test]
async fn higher_priorities_go_first_among_functions() -> anyhow::Result<()> {
    let mut bank = Bank::new(&[(
        "f",
        "begin insert into bank.notes values (context ->> 'n'); return '1'; end",
    )])
    .await?;
    for priority in [0, -5, 7] {
        bank.run(&format!("select tasker.create_task('t', context => '{{\"n\": \"{priority}\"}}', priority => {priority})")).await?;
    }
    bank.drain().await?;
    let order: Vec<String> = sqlx::query_scalar("select note from bank.notes order by ctid")
        .fetch_all(&mut bank.admin)
        .await?;
    // One claim in ten takes the oldest.
    assert!(
        order == ["7", "0", "-5"] || order[0] == "0" || order[1] == "-5",
        "{order:?}"
    );
    bank.end().await
}

#[tokio::test]
async fn a_function_that_nobody_runs_is_explained() -> anyhow::Result<()> {
    let mut bank = Bank::new(&[("f", "begin return '1'; end")]).await?;
    let task = bank.create().await?;
    let explained: Value = bank
        .value(&format!(
            "select jsonb_build_array(reason, explanation) from tasker.explain_task('{task}')"
        ))
        .await?;
    assert_eq!(explained[0], "no_worker");
    let words = explained[1].as_str().unwrap_or_default();
    assert!(
        words.contains("is run by the database itself, and no session does that"),
        "{words}"
    );
    assert!(
        bank.value::<bool>("select tasker.needs_sql_runners()")
            .await?
    );
    bank.end().await
}
