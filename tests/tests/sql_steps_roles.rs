//! SQL functions of steps and roles: who may register them, as whom they run, and that they stay it.

use serde_json::{Value, json};
use sqlx::Executor;
use tasker_tests::TestDatabase;
use tasker_tests::bank::{Bank, drain};

#[tokio::test]
async fn a_function_runs_as_the_role_that_registered_its_template_and_stays_it()
-> anyhow::Result<()> {
    let attempts = [
        "reset role",
        "set role postgres",
        "set local role none",
        "reset session authorization",
        "set session authorization default",
        "perform set_config('role', 'none', false)",
        "create temporary table t (x int)",
        "perform rolpassword from pg_authid",
        "perform task_uuid from tasker.tasks",
        "commit",
        "rollback",
        "declare c cursor with hold for select 1",
        "set constraints all deferred; insert into bank.checked values (1)",
        "perform set_config('tasker.acting_for', 'postgres', false)",
        "perform set_config('tasker.check_namespaces', 'off', false)",
        "perform tasker.run_sql_step()",
    ];
    let tries: Vec<String> = attempts
        .iter()
        .map(|attempt| {
            let quoted = attempt.replace('\'', "''");
            let statement = if attempt.starts_with("declare") || attempt.starts_with("set constraints") {
                format!("execute '{quoted}'")
            } else {
                (*attempt).to_owned()
            };
            format!("begin {statement}; tried := tried || jsonb_build_object('{quoted}', current_user); exception when others then tried := tried || jsonb_build_object('{quoted}', sqlstate); end;")
        })
        .collect();
    let tries = tries.concat();
    let mut bank = Bank::new(&[]).await?;
    bank.run(
        "create table bank.checked (x int); alter table bank.checked owner to {role};
         create function bank.note() returns trigger language plpgsql as $f$ begin insert into bank.notes values ('trigger of ' || current_user); return null; end $f$;
         create constraint trigger checked after insert on bank.checked deferrable initially deferred for each row execute function bank.note();
         create table bank.hidden (x int); insert into bank.hidden values (1); alter table bank.hidden owner to {role};
         alter table bank.hidden enable row level security; alter table bank.hidden force row level security",
    )
    .await?;
    bank.function(
        "tries",
        &format!("declare tried jsonb := '{{}}'; begin {tries} return tried; end"),
    )
    .await?;
    bank.function(
        "seen",
        "begin
           insert into bank.checked values (1);
           set work_mem = '77MB';
           perform set_config('search_path', 'bank', false), set_config('bank.x', 'leaked', false), pg_advisory_lock(7);
           return jsonb_build_array(current_user, (select count(*) from bank.notes), (select count(*) from bank.hidden));
         end",
    )
    .await?;
    bank.function(
        "path",
        "begin return to_jsonb(current_setting('search_path')); end",
    )
    .await?;
    let step = |name: &str| {
        format!(
            "{{name: {name}, handler: {{callable: 'sql:bank.{name}'}}, retry: {{max_attempts: 1}}}}"
        )
    };
    bank.register(&["tries", "seen", "path"].map(step).join(", "))
        .await?;
    let steps = bank.ran().await?;
    for attempt in attempts {
        let code = &steps["tries"]["result"][attempt];
        let allowed = ["42501", "2D000", "55000", "55P02"];
        assert!(
            code.as_str().is_some_and(|code| allowed.contains(&code)),
            "{attempt}: {code}, {}",
            steps["tries"]["error"]
        );
    }
    let role = bank.role.clone();
    assert_eq!(
        steps["seen"]["result"],
        json!([role, 1, 0]),
        "{}",
        steps["seen"]["error"]
    );
    assert_eq!(steps["path"]["result"], "pg_catalog, bank, pg_temp");
    let trigger: String = bank.value("select note from bank.notes").await?;
    assert_eq!(trigger, format!("trigger of {role}"));
    let left: Value = bank
        .value(
            "select jsonb_build_array(current_user, current_setting('work_mem'), current_setting('search_path'), current_setting('bank.x', true) = 'leaked',
               (select count(*) from pg_locks where locktype = 'advisory' and pid = pg_backend_pid()))",
        )
        .await?;
    assert_eq!(
        left,
        json!(["postgres", "4MB", "\"$user\", public", false, 0])
    );
    bank.end().await
}

#[tokio::test]
async fn a_template_with_a_function_is_registered_only_by_a_role_that_may_run_it()
-> anyhow::Result<()> {
    let mut bank = Bank::new(&[]).await?;
    bank.function("good", "begin return '1'; end").await?;
    bank.run(
        "create function bank.other(jsonb, jsonb, jsonb) returns text language sql as 'select 1::text';
         create function bank.rows(jsonb, jsonb, jsonb) returns setof jsonb language sql as 'select $1';
         create procedure bank.procedure(jsonb, jsonb, jsonb) language sql as 'select 1';
         create schema closed;
         create function closed.f(jsonb, jsonb, jsonb) returns jsonb language sql as 'select $1';
         create function bank.private(jsonb, jsonb, jsonb) returns jsonb language sql as 'select $1';
         revoke execute on function bank.private from public",
    )
    .await?;
    let definition = |callable: &str| {
        format!(
            "'{{name: t, version: 1.0.0, steps: [{{name: a, handler: {{callable: x}}}}, {{name: b, handler: {{callable: \"sql:{callable}\"}}}}]}}'::text"
        )
    };
    for (callable, code, words) in [
        (
            "bank.missing",
            "NAME_INVALID",
            "there is no function bank.missing",
        ),
        ("bank.other", "SQL_HANDLER_REFUSED", "doesn't return jsonb"),
        ("bank.rows", "SQL_HANDLER_REFUSED", "doesn't return jsonb"),
        (
            "bank.procedure",
            "SQL_HANDLER_REFUSED",
            "doesn't return jsonb",
        ),
        ("closed.f", "SQL_HANDLER_REFUSED", "may not execute"),
        ("bank.private", "SQL_HANDLER_REFUSED", "may not execute"),
    ] {
        let call = format!("select tasker.register_template({})", definition(callable));
        let refused = bank.refused(&format!("set role {{role}}; {call}")).await?;
        assert_eq!(refused.code, "TK020");
        assert!(refused.message.contains(words), "{refused:?}");
        let findings: Value = serde_json::from_str(&refused.detail)?;
        assert_eq!(findings[0]["path"], "steps[1].handler.callable");
        assert_eq!(findings[0]["code"], code);
        bank.run("set role {role}").await?;
        let found: Vec<(String, String)> = sqlx::query_as(&format!(
            "select code, path from tasker.validate_template({}) where severity = 'error'",
            definition(callable)
        ))
        .fetch_all(&mut bank.admin)
        .await?;
        bank.run("reset role").await?;
        assert_eq!(
            found,
            [(code.to_owned(), "steps[1].handler.callable".to_owned())]
        );
    }
    // As a superuser, as the owner.
    let good = format!(
        "select tasker.register_template({})",
        definition("bank.good")
    );
    let refused = bank.refused(&good).await?;
    assert_eq!(refused.code, "TK020");
    assert!(refused.message.contains("is a superuser"), "{refused:?}");
    let owner: String = bank.value("select pg_get_userbyid(relowner)::text from pg_class where oid = 'tasker.templates'::regclass").await?;
    bank.run("alter table tasker.templates owner to {role}")
        .await?;
    let refused = bank.refused(&format!("set role {{role}}; {good}")).await?;
    assert!(
        refused.message.contains("owns the extension"),
        "{refused:?}"
    );
    bank.run(&format!("alter table tasker.templates owner to {owner}"))
        .await?;
    bank.run(&format!("set role {{role}}; {good}; reset role"))
        .await?;
    bank.end().await
}

#[tokio::test]
async fn what_a_role_may_is_looked_at_again_when_its_function_runs() -> anyhow::Result<()> {
    let mut bank = Bank::new(&[("f", "begin return '1'; end")]).await?;
    for (change, back, code) in [
        (
            "alter role {role} superuser",
            "alter role {role} nosuperuser",
            "42501",
        ),
        (
            "alter schema bank owner to postgres",
            "alter schema bank owner to {role}",
            "42501",
        ),
        (
            "alter function bank.f rename to g",
            "alter function bank.g rename to f",
            "42883",
        ),
    ] {
        bank.run(change).await?;
        let steps = bank.ran().await?;
        assert_eq!(
            steps["f"]["error"]["code"], code,
            "{change}: {}",
            steps["f"]
        );
        bank.run(back).await?;
    }
    assert_eq!(bank.ran().await?["f"]["state"], "complete");
    bank.end().await
}

#[tokio::test]
async fn a_function_that_ends_its_own_attempt_has_failed() -> anyhow::Result<()> {
    let mut bank = Bank::new(&[]).await?;
    let own = "(select s.step_uuid from tasker.list_tasks() t cross join lateral tasker.list_steps(t.task_uuid) s where s.state = 'in_progress')";
    for (name, call) in [
        (
            "completes",
            format!("perform tasker.complete_step({own}, 1, '1')"),
        ),
        (
            "cancels",
            format!("perform tasker.cancel_task(tasker._task_of({own}), 'x')"),
        ),
        (
            "resolves",
            format!("perform tasker.resolve_step({own}, 'x')"),
        ),
    ] {
        bank.function(name, &format!("begin {call}; return '2'; end"))
            .await?;
        bank.run(&format!("set role {{role}}; select tasker.register_template('{{name: {name}, version: 1.0.0, steps: [{{name: a, handler: {{callable: \"sql:bank.{name}\"}}, retry: {{max_attempts: 1}}}}]}}'::text); reset role")).await?;
        let task: String = bank
            .value(&format!("select tasker.create_task('{name}')::text"))
            .await?;
        assert_eq!(bank.drain().await?, ["failed"], "{name}");
        assert_eq!(bank.steps(&task).await?["a"]["state"], "error");
    }
    bank.end().await
}

#[tokio::test]
async fn what_a_function_does_with_tasker_it_does_as_its_role() -> anyhow::Result<()> {
    let mut bank = Bank::new(&[(
        "creates",
        "declare v_code text := 'allowed';
         begin
           perform tasker.create_task('t', 'mine');
           begin perform tasker.create_task('t', 'theirs'); exception when others then v_code := sqlstate; end;
           return to_jsonb(v_code);
         end",
    )])
    .await?;
    for namespace in ["mine", "theirs"] {
        bank.run(&format!(
            "select tasker.register_template('{{name: t, namespace_name: {namespace}, version: 1.0.0, steps: [{{name: a, handler: {{callable: x}}}}]}}'::text)"
        ))
        .await?;
    }
    bank.run("select tasker.grant_namespace('{role}', 'mine', 'create'), tasker.grant_namespace('{role}', 'mine', 'read')").await?;
    let task = bank.create().await?;
    bank.run("set tasker.check_namespaces = on").await?;
    assert_eq!(bank.drain().await?, ["complete"]);
    bank.run("set tasker.check_namespaces = off").await?;
    let steps = bank.steps(&task).await?;
    assert_eq!(steps["creates"]["result"], "42501");
    let actor: String = bank
        .value("select h.actor from tasker.list_tasks('mine') t cross join lateral tasker.task_history(t.task_uuid) h order by h.seq limit 1")
        .await?;
    assert_eq!(actor, bank.role);
    bank.end().await
}

#[tokio::test]
async fn the_example_moves_money_once() -> anyhow::Result<()> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/sql_steps");
    let database = TestDatabase::new().await?;
    let role = format!("bank_owner_of_{}", database.name());
    let accounts = std::fs::read_to_string(format!("{folder}/accounts.sql"))?;
    let definition = std::fs::read_to_string(format!("{folder}/transfer.yaml"))?;
    let mut session = database.session().await?;
    session
        .execute(sqlx::raw_sql(&accounts.replace("bank_owner", &role)))
        .await?;
    session
        .execute(sqlx::raw_sql(&format!("set role {role}")))
        .await?;
    sqlx::query("select tasker.register_template($1::text)")
        .bind(definition)
        .execute(&mut session)
        .await?;
    session.execute("reset role").await?;
    for cents in [2_500, 1_000_000] {
        session
            .execute(sqlx::raw_sql(&format!("select tasker.create_task('save_money', 'bank', '{{\"account\": \"alice\", \"cents\": {cents}}}')")))
            .await?;
    }
    let mut outcomes = drain(&mut session).await?;
    outcomes.sort();
    assert_eq!(outcomes, ["complete", "failed"]);
    let balances: (i64, i64) =
        sqlx::query_as("select c.cents, s.cents from bank.checking c, bank.savings s")
            .fetch_one(&mut session)
            .await?;
    assert_eq!(balances, (97_500, 2_500));
    session
        .execute(sqlx::raw_sql(&format!(
            "drop owned by {role} cascade; drop role {role}"
        )))
        .await?;
    Ok(())
}
