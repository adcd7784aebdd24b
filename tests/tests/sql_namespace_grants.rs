//! Grants of namespaces while `tasker.check_namespaces` is on: whose they are, from when to when they count, and what they mean for finishing and for bulk jobs.
//! Which function asks for which privilege is in `sql_namespace_table`.

use serde_json::{Value, json};
use sqlx::Executor;
use tasker_tests::Scenario;
use tasker_tests::scenario::{done, key, names, refusal};

fn template(namespace: &str) -> String {
    format!(
        "{{name: one, namespace_name: {namespace}, version: 1.0.0, steps: [{{name: a, handler: {{callable: t.a}}}}, \
         {{name: b, handler: {{callable: t.a}}, dependencies: [a]}}]}}"
    )
}

/// Namespaces `mine` and `theirs`, and a role that may call what a client, a worker and an operator may. Namespaces are checked from now on.
async fn prepared() -> anyhow::Result<Scenario> {
    let mut sql = Scenario::new().await?;
    for namespace in ["mine", "theirs"] {
        sql.register(&template(namespace)).await?;
    }
    sql.run(
        "create role tenant; grant tasker_client, tasker_worker, tasker_operator to tenant;
         set local tasker.check_namespaces = on",
    )
    .await?;
    Ok(sql)
}

/// Runs statements as a role.
async fn run_as(sql: &mut Scenario, role: &str, statements: &str) -> anyhow::Result<()> {
    sql.run(&format!("set local role {role}; {statements}; reset role"))
        .await
}

/// The code with which a role is refused; `-` when it isn't. Nothing of the call stays.
async fn code_as(sql: &mut Scenario, role: &str, call: &str) -> anyhow::Result<String> {
    sql.run("savepoint before_the_call").await?;
    sql.run(&format!("set local role {role}")).await?;
    let tried = sql.session().execute(sqlx::raw_sql(call)).await;
    sql.run("rollback to before_the_call").await?;
    match tried {
        Ok(_) => Ok("-".to_owned()),
        Err(error) => Ok(refusal(&error)?.code),
    }
}

async fn grant(
    sql: &mut Scenario,
    role: &str,
    namespace: &str,
    privilege: &str,
) -> anyhow::Result<bool> {
    sql.value(&format!(
        "select tasker.grant_namespace('{role}', '{namespace}', '{privilege}')"
    ))
    .await
}

const CREATE: &str = "select tasker.create_task('one', 'mine')";

#[tokio::test]
async fn a_refusal_names_role_namespace_and_privilege_and_the_call_that_helps() -> anyhow::Result<()>
{
    let mut sql = prepared().await?;
    sql.run("set local role tenant").await?;
    let refused = sql.refused(CREATE).await?;
    assert_eq!(refused.code, "42501");
    assert_eq!(
        refused.message,
        "role tenant lacks the privilege create in namespace mine"
    );
    assert_eq!(
        refused.hint,
        "An admin grants it: select tasker.grant_namespace('tenant', 'mine', 'create')."
    );
    sql.run("reset role; select tasker.grant_namespace('tenant', 'mine', 'create')")
        .await?;
    run_as(&mut sql, "tenant", CREATE).await?;
    sql.verify().await
}

#[tokio::test]
async fn a_grant_is_new_once_and_is_taken_back_alone_or_with_the_others() -> anyhow::Result<()> {
    let mut sql = prepared().await?;
    assert!(grant(&mut sql, "tenant", "mine", "read").await?);
    assert!(!grant(&mut sql, "tenant", "mine", "read").await?);
    assert!(grant(&mut sql, "tenant", "mine", "work").await?);
    assert!(grant(&mut sql, "tenant", "*", "create").await?);
    assert!(grant(&mut sql, "tenant", "theirs", "read").await?);
    let listed = "select role, namespace, privilege, granted_by = current_user as by_me, granted_at = tasker._now() as now, role_exists from tasker.list_namespace_grants('mine')";
    let row = |namespace: &str, privilege: &str| json!({"role": "tenant", "namespace": namespace, "privilege": privilege, "by_me": true, "now": true, "role_exists": true});
    assert_eq!(
        sql.rows(listed).await?,
        [row("*", "create"), row("mine", "read"), row("mine", "work")]
    );
    let revoke = async |sql: &mut Scenario, rest: &str| {
        sql.value::<i64>(&format!(
            "select tasker.revoke_namespace('tenant', 'mine'{rest})"
        ))
        .await
    };
    assert_eq!(revoke(&mut sql, ", 'work'").await?, 1);
    assert_eq!(revoke(&mut sql, ", 'work'").await?, 0);
    assert!(grant(&mut sql, "tenant", "mine", "operate").await?);
    assert_eq!(revoke(&mut sql, "").await?, 2);
    let left: i64 = sql
        .value("select count(*) from tasker.list_namespace_grants()")
        .await?;
    assert_eq!(left, 2);
    Ok(())
}

#[tokio::test]
async fn what_can_not_be_granted_is_refused() -> anyhow::Result<()> {
    let mut sql = prepared().await?;
    for (arguments, code) in [
        ("'tenant', 'nowhere', 'read'", "TK004"),
        ("'tenant', null, 'read'", "TK004"),
        ("'tenant', 'mine', 'admin'", "22023"),
        ("'tenant', 'mine', null", "22023"),
        ("'nobody_at_all', 'mine', 'read'", "22023"),
        ("null, 'mine', 'read'", "22023"),
        ("'public', 'mine', 'read'", "22023"),
    ] {
        let refused = sql
            .refused(&format!("select tasker.grant_namespace({arguments})"))
            .await?;
        assert_eq!(refused.code, code, "{arguments}: {}", refused.message);
    }
    for (arguments, code) in [
        ("'tenant', 'nowhere'", "TK004"),
        ("'tenant', 'mine', 'admin'", "22023"),
    ] {
        let refused = sql
            .refused(&format!("select tasker.revoke_namespace({arguments})"))
            .await?;
        assert_eq!(refused.code, code, "{arguments}");
    }
    Ok(())
}

#[tokio::test]
async fn superusers_the_owner_and_admins_need_no_grant_and_nobody_else_is_spared()
-> anyhow::Result<()> {
    let mut sql = prepared().await?;
    sql.run(
        "create role boss superuser; create role deployer; grant tasker_admin to deployer; create role another; grant tasker_client to another;
         create role keeper; grant tasker_client to keeper; alter table tasker.templates owner to keeper",
    )
    .await?;
    for (role, code) in [
        ("boss", "-"),
        ("deployer", "-"),
        ("keeper", "-"),
        ("another", "42501"),
        ("tasker_client", "42501"),
    ] {
        assert_eq!(code_as(&mut sql, role, CREATE).await?, code, "{role}");
    }
    Ok(())
}

#[tokio::test]
async fn a_grant_holds_for_the_members_of_its_role_as_far_as_they_inherit() -> anyhow::Result<()> {
    let mut sql = prepared().await?;
    sql.run(
        "create role team; grant tasker_client to team;
         create role heir; grant team to heir;
         create role guest noinherit; grant team to guest; grant execute on function tasker.create_task to guest; grant usage on schema tasker to guest",
    )
    .await?;
    grant(&mut sql, "team", "mine", "create").await?;
    assert_eq!(code_as(&mut sql, "heir", CREATE).await?, "-");
    assert_eq!(code_as(&mut sql, "guest", CREATE).await?, "42501");
    assert_eq!(code_as(&mut sql, "team", CREATE).await?, "-");
    sql.run("revoke team from heir").await?;
    sql.run("grant tasker_client to heir").await?;
    assert_eq!(code_as(&mut sql, "heir", CREATE).await?, "42501");
    Ok(())
}

#[tokio::test]
async fn a_grant_of_all_namespaces_holds_for_later_ones_too() -> anyhow::Result<()> {
    let mut sql = prepared().await?;
    grant(&mut sql, "tenant", "*", "create").await?;
    sql.register(&template("later")).await?;
    let create = "select tasker.create_task('one', 'later')";
    assert_eq!(code_as(&mut sql, "tenant", create).await?, "-");
    // Only there can one tell that there is no such namespace.
    let nowhere = "select tasker.create_task('one', 'nowhere')";
    assert_eq!(code_as(&mut sql, "tenant", nowhere).await?, "TK003");
    assert_eq!(code_as(&mut sql, "tasker_client", nowhere).await?, "42501");
    Ok(())
}

#[tokio::test]
async fn a_role_that_is_gone_grants_nothing_and_breaks_nothing() -> anyhow::Result<()> {
    let mut sql = prepared().await?;
    sql.run("create role leaver; grant tasker_client to leaver")
        .await?;
    grant(&mut sql, "leaver", "mine", "create").await?;
    grant(&mut sql, "tenant", "mine", "create").await?;
    sql.run("drop role leaver").await?;
    assert_eq!(code_as(&mut sql, "tenant", CREATE).await?, "-");
    assert_eq!(code_as(&mut sql, "tasker_client", CREATE).await?, "42501");
    let gone: Value = sql
        .value("select jsonb_agg(role) from tasker.list_namespace_grants() where not role_exists")
        .await?;
    assert_eq!(gone, json!(["leaver"]));
    let revoked: i64 = sql
        .value("select tasker.revoke_namespace('leaver', 'mine')")
        .await?;
    assert_eq!(revoked, 1);
    Ok(())
}

#[tokio::test]
async fn a_grant_that_is_rolled_back_does_not_count_any_more() -> anyhow::Result<()> {
    let mut sql = prepared().await?;
    sql.run("savepoint before_the_grant").await?;
    grant(&mut sql, "tenant", "mine", "create").await?;
    run_as(&mut sql, "tenant", CREATE).await?;
    sql.run("rollback to before_the_grant").await?;
    assert_eq!(code_as(&mut sql, "tenant", CREATE).await?, "42501");
    Ok(())
}

#[tokio::test]
async fn a_finish_counts_in_open_namespaces_and_takes_nothing_from_closed_ones()
-> anyhow::Result<()> {
    let mut sql = prepared().await?;
    for namespace in ["mine", "theirs", "theirs"] {
        sql.create(&format!("'one', '{namespace}'")).await?;
    }
    grant(&mut sql, "tenant", "mine", "work").await?;
    grant(&mut sql, "tenant", "theirs", "work").await?;
    let claim =
        |namespace: &str| format!("select * from tasker.claim_steps('w', '{{{namespace}}}')");
    sql.run("set local role tenant").await?;
    let mine = sql.row(&claim("mine")).await?;
    let theirs = sql.row(&claim("theirs")).await?;
    sql.run(
        "reset role; select tasker.revoke_namespace('tenant', 'theirs'); set local role tenant",
    )
    .await?;
    let outcomes = json!([done(&mine, json!(1)), done(&theirs, json!(2))]);
    let finished = sql
        .finish_with(&format!(
            "'w', '{outcomes}', 10, namespaces => '{{mine,theirs}}'"
        ))
        .await?;
    assert_eq!(finished.words(), ["accepted", "invalid"]);
    assert_eq!(finished.verdicts[1]["code"], "TK002");
    assert_eq!(names(&finished.claimed), ["b"]);
    assert_eq!(finished.claimed[0]["namespace"], "mine");

    sql.run("reset role").await?;
    let state: String = sql
        .value(&format!(
            "select state from tasker.get_step('{}')",
            key(&theirs)
        ))
        .await?;
    assert_eq!(state, "in_progress");
    grant(&mut sql, "tenant", "theirs", "work").await?;
    sql.run("set local role tenant").await?;
    let finished = sql
        .finish_with(&format!(
            "'w', '{}', 10, namespaces => '{{mine,theirs}}'",
            json!([done(&theirs, json!(2))])
        ))
        .await?;
    assert_eq!(finished.words(), ["accepted"]);
    assert_eq!(finished.claimed.len(), 2, "what is ready in theirs");
    sql.run("reset role").await?;
    sql.verify().await
}

#[tokio::test]
async fn a_repeated_finish_shows_no_claims_of_a_namespace_that_was_closed_meanwhile()
-> anyhow::Result<()> {
    let mut sql = prepared().await?;
    sql.create("'one', 'mine'").await?;
    grant(&mut sql, "tenant", "mine", "work").await?;
    let finish = "'w', '[]', 1, namespaces => '{mine}', request_id => '00000000-0000-0000-0000-000000000001'";
    sql.run("set local role tenant").await?;
    assert_eq!(sql.finish_with(finish).await?.names(), ["a"]);
    assert_eq!(sql.finish_with(finish).await?.names(), ["a"]);
    sql.run("reset role; select tasker.revoke_namespace('tenant', 'mine'); set local role tenant")
        .await?;
    assert!(sql.finish_with(finish).await?.claimed.is_empty());
    sql.run("reset role").await?;
    sql.verify().await
}

#[tokio::test]
async fn the_id_of_a_worker_of_other_namespaces_can_not_be_taken() -> anyhow::Result<()> {
    let mut sql = prepared().await?;
    sql.run("select tasker.register_worker('w', '{theirs}', '{t.a}', 'rust', '1')")
        .await?;
    grant(&mut sql, "tenant", "mine", "work").await?;
    let register = "select tasker.register_worker('w', '{mine}', '{t.a}', 'rust', '1')";
    assert_eq!(code_as(&mut sql, "tenant", register).await?, "42501");
    grant(&mut sql, "tenant", "theirs", "work").await?;
    assert_eq!(code_as(&mut sql, "tenant", register).await?, "-");
    Ok(())
}

#[tokio::test]
async fn a_worker_of_several_namespaces_is_shown_with_those_that_may_be_read() -> anyhow::Result<()>
{
    let mut sql = prepared().await?;
    sql.run("select tasker.register_worker('w', '{theirs,mine}', '{t.a}', 'rust', '1')")
        .await?;
    grant(&mut sql, "tenant", "mine", "operate").await?;
    sql.run("set local role tenant").await?;
    let listed = sql
        .row("select namespaces from tasker.list_workers()")
        .await?;
    assert_eq!(listed, json!({"namespaces": ["mine"]}));
    let refused = sql.refused("select tasker.retire_worker('w')").await?;
    assert_eq!(refused.code, "42501");
    Ok(())
}

const TASKS: &str = "select jsonb_object_agg(name, states) from (
    select n.name, jsonb_agg(t.state order by t.task_uuid) as states from tasker.tasks t join tasker.namespaces n using (namespace_id) group by n.name) x";

/// A bulk job of the tenant, who may operate in `mine`, on tasks of both namespaces.
async fn with_a_bulk_job() -> anyhow::Result<Scenario> {
    let mut sql = prepared().await?;
    for namespace in ["mine", "theirs", "mine", "theirs"] {
        sql.create(&format!("'one', '{namespace}'")).await?;
    }
    grant(&mut sql, "tenant", "mine", "operate").await?;
    grant(&mut sql, "tenant", "theirs", "read").await?;
    sql.run("set local role tenant").await?;
    let made = sql
        .row("select matched, more from tasker.apply_to_tasks('{}', 'cancel', dry_run => false)")
        .await?;
    assert_eq!(made, json!({"matched": 2, "more": false}));
    sql.run("reset role").await?;
    Ok(sql)
}

async fn maintain(sql: &mut Scenario) -> anyhow::Result<Value> {
    sql.run("select tasker.run_maintenance(); select tasker.run_maintenance()")
        .await?;
    sql.value("select jsonb_build_array(seen, changed, refused, finished_at is not null) from tasker.bulk_jobs")
        .await
}

#[tokio::test]
async fn a_bulk_job_does_only_what_its_creator_may_whoever_calls_maintenance() -> anyhow::Result<()>
{
    let mut sql = with_a_bulk_job().await?;
    let only_mine = json!({"mine": ["cancelled", "cancelled"], "theirs": ["steps_in_process", "steps_in_process"]});
    sql.run("savepoint before_it").await?;
    assert_eq!(maintain(&mut sql).await?, json!([2, 2, 0, true]));
    assert_eq!(sql.value::<Value>(TASKS).await?, only_mine);
    sql.run("rollback to before_it").await?;

    // By an operator who may do nothing anywhere.
    sql.run("create role caretaker; grant tasker_operator to caretaker; set local role caretaker")
        .await?;
    sql.run("select tasker.run_maintenance(); select tasker.run_maintenance()")
        .await?;
    let seen: i64 = sql
        .value("select count(*) from tasker.list_tasks()")
        .await?;
    assert_eq!(seen, 0, "its own rights are in force again");
    sql.run("reset role").await?;
    assert_eq!(sql.value::<Value>(TASKS).await?, only_mine);
    sql.verify().await
}

#[tokio::test]
async fn a_bulk_job_ends_where_its_creator_may_not_go_on() -> anyhow::Result<()> {
    let nothing = json!({"mine": ["steps_in_process", "steps_in_process"], "theirs": ["steps_in_process", "steps_in_process"]});
    for after in [
        "select tasker.revoke_namespace('tenant', 'mine')",
        "drop role tenant",
    ] {
        let mut sql = with_a_bulk_job().await?;
        sql.run(after).await?;
        assert_eq!(maintain(&mut sql).await?, json!([0, 0, 0, true]), "{after}");
        assert_eq!(sql.value::<Value>(TASKS).await?, nothing, "{after}");
        sql.verify().await?;
    }
    Ok(())
}

#[tokio::test]
async fn an_operator_sees_its_own_bulk_jobs_and_those_of_its_namespaces() -> anyhow::Result<()> {
    let mut sql = with_a_bulk_job().await?;
    sql.run(
        r#"select tasker.apply_to_tasks('{"namespace": "mine"}', 'pause', dry_run => false);
           select tasker.apply_to_tasks('{"namespace": "theirs"}', 'pause', dry_run => false);
           select tasker.apply_to_tasks('{}', 'resume', dry_run => false);
           set local role tenant"#,
    )
    .await?;
    let actions: Value = sql
        .value("select jsonb_agg(action order by action) from tasker.list_bulk_jobs()")
        .await?;
    assert_eq!(actions, json!(["cancel", "pause"]));
    Ok(())
}
