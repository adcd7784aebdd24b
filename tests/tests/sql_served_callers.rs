//! A session that serves a caller within some namespaces: what it reaches, what history says, and what it can't leave to maintenance.
//! Which function asks for a namespace at all is in `sql_namespace_table`.

use serde_json::json;
use tasker_tests::Scenario;

fn template(name: &str, namespace: &str, steps: &str) -> String {
    format!("{{name: {name}, namespace_name: {namespace}, version: 1.0.0, steps: [{steps}]}}")
}

const STEP: &str = "{name: a, handler: {callable: t.a}}";

/// Namespaces `mine` and `theirs` with a task each; the session serves a caller of `mine` from now on.
async fn prepared() -> anyhow::Result<(Scenario, String, String)> {
    let mut sql = Scenario::new().await?;
    for namespace in ["mine", "theirs"] {
        sql.register(&template("one", namespace, STEP)).await?;
    }
    let mine = sql.create("'one', 'mine'").await?;
    let theirs = sql.create("'one', 'theirs'").await?;
    serve(&mut sql, "'key k', '{mine}'").await?;
    Ok((sql, mine, theirs))
}

async fn serve(sql: &mut Scenario, arguments: &str) -> anyhow::Result<()> {
    sql.run(&format!("select tasker.serve_caller({arguments})"))
        .await
}

#[tokio::test]
async fn a_limited_session_reaches_its_namespaces_only() -> anyhow::Result<()> {
    let (mut sql, mine, theirs) = prepared().await?;
    let listed = "select array_agg(task_uuid::text) from tasker.list_tasks()";
    assert_eq!(
        sql.value::<Vec<String>>(listed).await?,
        std::slice::from_ref(&mine)
    );
    let refused = sql
        .refused("select tasker.create_task('one', 'theirs')")
        .await?;
    assert_eq!(
        (refused.code.as_str(), refused.message.as_str()),
        ("42501", "key k can not reach namespace theirs")
    );
    let hidden = sql
        .refused(&format!("select tasker.cancel_task('{theirs}')"))
        .await?;
    assert_eq!(hidden.code, "TK001");
    sql.run(&format!("select tasker.cancel_task('{mine}')"))
        .await?;
    serve(&mut sql, "").await?;
    assert_eq!(sql.value::<Vec<String>>(listed).await?.len(), 2);
    sql.verify().await
}

#[tokio::test]
async fn a_limit_to_nothing_reaches_nothing() -> anyhow::Result<()> {
    let (mut sql, ..) = prepared().await?;
    serve(&mut sql, "namespaces => '{}'").await?;
    for list in ["list_tasks", "list_namespaces", "list_templates"] {
        let found = sql.rows(&format!("select * from tasker.{list}()")).await?;
        assert!(found.is_empty(), "{list}");
    }
    let refused = sql
        .refused("select tasker.create_task('one', 'mine')")
        .await?;
    assert_eq!(refused.code, "42501");
    Ok(())
}

#[tokio::test]
async fn a_limit_narrows_what_the_role_is_granted_and_never_widens_it() -> anyhow::Result<()> {
    let (mut sql, ..) = prepared().await?;
    serve(&mut sql, "").await?;
    sql.run(
        "create role tenant; grant tasker_client to tenant;
         select tasker.grant_namespace('tenant', 'mine', p) from unnest('{create,read}'::text[]) p;
         set local tasker.check_namespaces = on; set local role tenant",
    )
    .await?;
    let both = "'key k', '{mine,theirs}'";
    for (limit, mine, theirs) in [
        ("", "-", "42501"),
        (both, "-", "42501"),
        ("'key k', '{theirs}'", "42501", "42501"),
    ] {
        serve(&mut sql, limit).await?;
        for (namespace, expected) in [("mine", mine), ("theirs", theirs)] {
            sql.run("savepoint before_it").await?;
            let call = format!("select tasker.create_task('one', '{namespace}')");
            let code = if expected == "-" {
                sql.run(&call).await?;
                "-".to_owned()
            } else {
                sql.refused(&call).await?.code
            };
            sql.run("rollback to before_it").await?;
            assert_eq!(code, expected, "{limit} {namespace}");
        }
        let seen: i64 = sql
            .value("select count(*) from tasker.list_tasks()")
            .await?;
        assert_eq!(seen, i64::from(mine == "-"), "{limit}");
    }
    Ok(())
}

#[tokio::test]
async fn history_names_the_caller_beside_the_role() -> anyhow::Result<()> {
    let (mut sql, ..) = prepared().await?;
    let task = sql.create("'one', 'mine'").await?;
    let actor = format!(
        "select distinct replace(actor, current_user, 'role') from tasker.task_history('{task}')"
    );
    assert_eq!(sql.value::<String>(&actor).await?, "role for key k");
    sql.run(&format!("select tasker.pause_task('{task}', 'r')"))
        .await?;
    let paused_by: String = sql
        .value(&format!("select replace(paused_by, current_user, 'role') from tasker.tasks where task_uuid = '{task}'"))
        .await?;
    assert_eq!(paused_by, "role for key k");
    // Whose rights count later is the role's affair.
    sql.register(&template("two", "mine", STEP)).await?;
    let registered_by: bool = sql
        .value("select registered_by = current_user from tasker.get_template('two', 'mine')")
        .await?;
    assert!(registered_by);
    Ok(())
}

#[tokio::test]
async fn nothing_beyond_the_limit_is_left_to_maintenance() -> anyhow::Result<()> {
    let (mut sql, ..) = prepared().await?;
    let everywhere = "select tasker.apply_to_tasks('{}', 'cancel', dry_run => false)";
    assert_eq!(sql.refused(everywhere).await?.code, "42501");
    let seen: i32 = sql
        .value("select matched from tasker.apply_to_tasks('{}', 'cancel')")
        .await?;
    assert_eq!(seen, 1);
    sql.run(r#"select tasker.apply_to_tasks('{"namespace": "mine"}', 'cancel', dry_run => false)"#)
        .await?;
    let child = |namespace: &str| {
        let step =
            format!("{{name: c, type: task, task: {{template: one, namespace: {namespace}}}}}");
        format!(
            "select tasker.register_template('{}'::text)",
            template("parent", "mine", &step)
        )
    };
    assert_eq!(sql.refused(&child("theirs")).await?.code, "42501");
    sql.run(&child("mine")).await?;
    // Jobs of other callers of the same role.
    serve(&mut sql, "'key other', '{theirs}'").await?;
    assert!(
        sql.rows("select * from tasker.list_bulk_jobs()")
            .await?
            .is_empty()
    );
    Ok(())
}

/// A SQL function runs as the role, in a session that knows of no limit.
#[tokio::test]
async fn a_limited_session_registers_no_sql_steps() -> anyhow::Result<()> {
    let (mut sql, ..) = prepared().await?;
    sql.run(
        "create function public.f(context jsonb, inputs jsonb, dependency_results jsonb) returns jsonb language sql as 'select context';
         create role tenant; grant tasker_admin to tenant; set local role tenant",
    )
    .await?;
    let step = "{name: a, handler: {callable: sql:public.f}}";
    let register = format!(
        "select tasker.register_template('{}'::text)",
        template("calls", "mine", step)
    );
    let refused = sql.refused(&register).await?;
    assert_eq!(refused.code, "42501", "{}", refused.message);
    serve(&mut sql, "'key k'").await?;
    sql.run(&register).await
}

#[tokio::test]
async fn a_limited_session_has_nothing_to_do_with_keys_and_grants() -> anyhow::Result<()> {
    let (mut sql, ..) = prepared().await?;
    for call in [
        "create_api_key('k', '{*}', '{mine}')",
        "list_api_keys()",
        "revoke_api_key('k')",
        "grant_namespace(current_user, 'mine', 'read')",
        "revoke_namespace(current_user, 'mine')",
    ] {
        let refused = sql.refused(&format!("select tasker.{call}")).await?;
        assert_eq!(refused.code, "42501", "{call}");
    }
    Ok(())
}

#[tokio::test]
async fn maintenance_is_not_limited_by_the_session_it_runs_in() -> anyhow::Result<()> {
    let (mut sql, ..) = prepared().await?;
    serve(&mut sql, "").await?;
    sql.run(
        r#"select tasker.apply_to_tasks('{"namespace": "theirs"}', 'cancel', dry_run => false)"#,
    )
    .await?;
    serve(&mut sql, "'key k', '{mine}'").await?;
    sql.run("select tasker.run_maintenance_job('bulk_jobs')")
        .await?;
    serve(&mut sql, "").await?;
    let job = sql
        .row("select changed, refused from tasker.list_bulk_jobs()")
        .await?;
    assert_eq!(job, json!({"changed": 1, "refused": 0}));
    Ok(())
}

#[tokio::test]
async fn what_is_no_caller_and_no_namespace_is_refused() -> anyhow::Result<()> {
    let (mut sql, ..) = prepared().await?;
    for arguments in [
        "''",
        "repeat('a', 201)",
        "E'a\\nb'",
        "'c', '{a,B}'",
        "'c', '{*}'",
        "'c', '{-}'",
        "'c', '{NULL}'",
        "'c', '{\"a,b\"}'",
        "'c', array_fill('a'::text, array[101])",
    ] {
        let refused = sql
            .refused(&format!("select tasker.serve_caller({arguments})"))
            .await?;
        assert_eq!(refused.code, "22023", "{arguments}");
    }
    Ok(())
}

#[tokio::test]
async fn no_statement_changes_the_limit_but_the_function() -> anyhow::Result<()> {
    let (mut sql, ..) = prepared().await?;
    for statement in [
        "set tasker.only_namespaces = ''",
        "set local tasker.served_caller = 'x'",
        "select set_config('tasker.only_namespaces', '', false)",
    ] {
        assert_eq!(sql.refused(statement).await?.code, "55P02", "{statement}");
    }
    sql.run("reset all").await?;
    let refused = sql
        .refused("select tasker.create_task('one', 'theirs')")
        .await?;
    assert_eq!(refused.code, "42501");
    Ok(())
}
