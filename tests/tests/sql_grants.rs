//! Every public function against every role, by one table; and what no role reaches. What each role is for is in `sql_roles`.

use std::collections::{BTreeMap, BTreeSet};

use tasker_tests::Scenario;

const ROLES: [&str; 5] = [
    "tasker_admin",
    "tasker_operator",
    "tasker_client",
    "tasker_worker",
    "tasker_reader",
];

/// Who may call what; columns in the order of [`ROLES`]. A public function that isn't named here fails the tests: give it its line.
const GRANTS: &str = "
    apply_to_tasks          admin operator -      -      -
    await_events            admin operator client -      reader
    backfill_schedule       admin operator -      -      -
    cancel_bulk_job         admin operator -      -      -
    cancel_task             admin operator -      -      -
    claim_domain_events     admin -        -      worker -
    claim_steps             admin -        -      worker -
    complete_step           admin -        -      worker -
    complete_step_manually  admin operator -      -      -
    create_schedule         admin operator -      -      -
    create_task             admin operator client -      -
    create_tasks            admin operator client -      -
    dead_letter_stats       admin operator -      -      reader
    delete_schedule         admin operator -      -      -
    end_of_events           admin operator client -      reader
    explain_task            admin operator client -      reader
    extend_leases           admin -        -      worker -
    get_dependency_results  admin -        -      worker -
    save_checkpoint         admin -        -      worker -
    fail_step               admin -        -      worker -
    finish_domain_events    admin -        -      worker -
    finish_steps            admin -        -      worker -
    get_dead_letter         admin operator -      -      reader
    get_step                admin operator client -      reader
    get_task                admin operator client -      reader
    get_template            admin operator client -      reader
    grant_namespace         admin -        -      -      -
    health                  admin operator client worker reader
    list_bulk_jobs          admin operator -      -      -
    list_dead_letters       admin operator -      -      reader
    list_domain_events      admin operator client -      reader
    list_events             admin operator client -      reader
    list_namespace_grants   admin -        -      -      -
    list_namespaces         admin operator -      -      reader
    list_schedules          admin operator -      -      reader
    list_signals            admin operator client -      reader
    list_steps              admin operator client -      reader
    list_subscriptions      admin operator -      -      reader
    list_tasks              admin operator client -      reader
    list_templates          admin operator client -      reader
    list_workers            admin operator -      -      reader
    open_dead_letter        admin operator -      -      -
    pause_namespace         admin operator -      -      -
    pause_schedule          admin operator -      -      -
    pause_task              admin operator -      -      -
    queue_stats             admin operator -      -      reader
    redeliver_domain_event  admin operator -      -      -
    register_template       admin -        -      -      -
    register_worker         admin -        -      worker -
    rerun_task              admin operator -      -      -
    reset_step              admin operator -      -      -
    resolve_dead_letter     admin operator -      -      -
    resolve_step            admin operator -      -      -
    resume_namespace        admin operator -      -      -
    resume_schedule         admin operator -      -      -
    resume_task             admin operator -      -      -
    retire_template         admin -        -      -      -
    retire_worker           admin operator -      -      -
    revoke_namespace        admin -        -      -      -
    check_api_key           admin operator client worker reader
    create_api_key          admin -        -      -      -
    list_api_keys           admin operator -      -      -
    revoke_api_key          admin operator -      -      -
    serve_caller            admin operator client worker reader
    run_maintenance         admin operator -      -      -
    run_maintenance_job     admin operator -      -      -
    list_due_jobs           admin operator -      -      -
    run_sql_step            admin operator -      -      -
    needs_sql_runners       admin operator -      -      -
    send_signal             admin operator client -      -
    set_namespace           admin -        -      -      -
    slowest_steps           admin operator -      -      reader
    slowest_tasks           admin operator -      -      reader
    stale_tasks             admin operator -      -      reader
    statistics              admin operator -      -      reader
    step_history            admin operator client -      reader
    subscribe_domain_events admin -        -      worker -
    task_graph              admin operator client -      reader
    list_compensations      admin operator client -      reader
    task_history            admin operator client -      reader
    unsubscribe_domain_events admin operator -    -      -
    validate_template       admin operator client -      reader
    verify                  admin operator -      -      -
    version                 admin operator client worker reader
    work_due_in_ms          admin -        -      worker -
    worker_heartbeat        admin -        -      worker -
";

/// The table: each function with the roles that may call it.
fn grants() -> BTreeMap<&'static str, BTreeSet<String>> {
    GRANTS
        .lines()
        .filter_map(|line| line.trim().split_once(' '))
        .map(|(function, roles)| {
            let roles = roles.split_whitespace().filter(|role| *role != "-");
            (
                function,
                roles.map(|role| format!("tasker_{role}")).collect(),
            )
        })
        .collect()
}

/// Functions of the schema with a call of each. Its arguments are nulls that the planner can't see: it would leave a strict function out, and with it the check of the caller's rights.
async fn calls(sql: &mut Scenario, which: &str) -> anyhow::Result<Vec<(String, String)>> {
    let functions = sql
        .rows(&format!(
            "select p.proname::text as name, format('select tasker.%I(%s) from (select null::text offset 0) x(v)', p.proname,
               (select coalesce(string_agg('x.v::' || format_type(a.type, null), ', ' order by a.ordinal), '')
                from unnest(p.proargtypes::oid[]) with ordinality a(type, ordinal))) as call
             from pg_proc p where p.pronamespace = 'tasker'::regnamespace and {which} order by p.oid"
        ))
        .await?;
    let text =
        |row: &serde_json::Value, name: &str| row[name].as_str().unwrap_or_default().to_owned();
    Ok(functions
        .iter()
        .map(|row| (text(row, "name"), text(row, "call")))
        .collect())
}

/// The code with which a call is refused as a role; none when it isn't. Nothing of it stays.
async fn code_of(sql: &mut Scenario, role: &str, call: &str) -> anyhow::Result<Option<String>> {
    sql.run("savepoint before_the_call").await?;
    sql.run(&format!("set local role {role}")).await?;
    let code = match sqlx::Executor::execute(sql.session(), sqlx::raw_sql(call)).await {
        Ok(_) => None,
        Err(sqlx::Error::Database(error)) => Some(error.code().unwrap_or_default().into_owned()),
        Err(error) => return Err(error.into()),
    };
    sql.run("rollback to before_the_call").await?;
    Ok(code)
}

/// With a task, so that a queue and partitions are there.
async fn with_partitions() -> anyhow::Result<Scenario> {
    let mut sql = Scenario::new().await?;
    sql.register("{name: one, version: 1.0.0, steps: [{name: a, handler: {callable: t.a}}]}")
        .await?;
    sql.create("'one'").await?;
    Ok(sql)
}

#[tokio::test]
async fn every_public_function_is_in_the_table_and_nothing_else() -> anyhow::Result<()> {
    let mut sql = Scenario::new().await?;
    let calls = calls(&mut sql, "p.proname !~ '^_'").await?;
    let found: BTreeSet<&str> = calls.iter().map(|(name, _)| name.as_str()).collect();
    let named: BTreeSet<&str> = grants().into_keys().collect();
    assert_eq!(found, named);
    Ok(())
}

#[tokio::test]
async fn every_role_may_call_what_the_table_says_and_is_refused_all_else() -> anyhow::Result<()> {
    let mut sql = Scenario::new().await?;
    let grants = grants();
    for (name, call) in calls(&mut sql, "p.proname !~ '^_'").await? {
        for role in ROLES {
            let is_granted = grants
                .get(name.as_str())
                .is_some_and(|roles| roles.contains(role));
            let code = code_of(&mut sql, role, &call).await?;
            let is_refused = code.as_deref() == Some("42501");
            assert_eq!(is_refused, !is_granted, "{role}: {call}: {code:?}");
        }
    }
    sql.verify().await
}

#[tokio::test]
async fn no_role_may_call_a_private_function() -> anyhow::Result<()> {
    let mut sql = Scenario::new().await?;
    let private = calls(&mut sql, "p.proname ~ '^_'").await?;
    assert!(private.len() > 50, "{}", private.len());
    for (_, call) in private {
        for role in ROLES {
            let code = code_of(&mut sql, role, &call).await?;
            assert_eq!(code.as_deref(), Some("42501"), "{role}: {call}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn no_role_reads_or_writes_a_table_or_a_sequence() -> anyhow::Result<()> {
    let mut sql = with_partitions().await?;
    let relations = sql
        .rows(
            "select format('%I.%I', n.nspname, c.relname) as name, c.relkind::text as kind from pg_class c join pg_namespace n on n.oid = c.relnamespace
             where (n.nspname = 'tasker' or n.nspname = 'pgmq' and c.relname ~ '_worker_default_queue') and c.relkind in ('r', 'p', 'v', 'm', 'S', 'f')",
        )
        .await?;
    assert!(relations.len() > 15, "{relations:?}");
    for relation in &relations {
        let name = relation["name"].as_str().unwrap_or_default();
        let tries = if relation["kind"] == "S" {
            vec![
                format!("select * from {name}"),
                format!("select nextval('{name}')"),
                format!("select setval('{name}', 1)"),
            ]
        } else {
            vec![
                format!("select count(*) from {name}"),
                format!("insert into {name} default values"),
                format!("delete from {name}"),
                format!("truncate {name}"),
                format!("lock table {name}"),
            ]
        };
        for role in ROLES {
            for call in &tries {
                let code = code_of(&mut sql, role, call).await?;
                assert_eq!(code.as_deref(), Some("42501"), "{role}: {call}");
            }
        }
    }
    sql.verify().await
}

#[tokio::test]
async fn no_role_makes_anything_in_the_schema() -> anyhow::Result<()> {
    let mut sql = Scenario::new().await?;
    for role in ROLES {
        for call in [
            "create table tasker.mine (x int)",
            "create function tasker._now(int) returns int language sql as 'select 1'",
            "create view tasker.mine as select 1",
            "alter table tasker.tasks add column mine int",
            "alter function tasker.version() reset all",
            "drop table tasker.tasks",
            "drop function tasker.version()",
            "grant select on tasker.tasks to public",
            "alter extension tasker update",
        ] {
            let code = code_of(&mut sql, role, call).await?;
            assert_eq!(code.as_deref(), Some("42501"), "{role}: {call}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn nothing_of_any_kind_is_granted_to_public() -> anyhow::Result<()> {
    let mut sql = with_partitions().await?;
    let open = sql
        .rows(
            "select x.kind, x.name, a.privilege_type
             from (
               select 'schema' as kind, n.nspname::text as name, coalesce(n.nspacl, acldefault('n', n.nspowner)) as acl
               from pg_namespace n where n.nspname = 'tasker'
               union all
               select c.relkind::text, c.oid::regclass::text, coalesce(c.relacl, acldefault(case c.relkind when 'S' then 's' else 'r' end::\"char\", c.relowner))
               from pg_class c where c.relnamespace = 'tasker'::regnamespace and c.relkind <> 'c'
               union all
               select 'column', c.oid::regclass::text || '.' || a.attname, a.attacl
               from pg_class c join pg_attribute a on a.attrelid = c.oid
               where c.relnamespace = 'tasker'::regnamespace and a.attacl is not null
               union all
               select 'function', p.oid::regprocedure::text, coalesce(p.proacl, acldefault('f', p.proowner))
               from pg_proc p where p.pronamespace = 'tasker'::regnamespace
               union all
               select 'type', t.oid::regtype::text, coalesce(t.typacl, acldefault('T', t.typowner))
               from pg_type t where t.typnamespace = 'tasker'::regnamespace and t.typelem = 0
             ) x
             cross join lateral aclexplode(x.acl) a
             where a.grantee = 0",
        )
        .await?;
    assert!(open.is_empty(), "{open:?}");
    Ok(())
}

/// A stranger's column of such a type would keep a partition from being dropped and a table from being changed.
#[tokio::test]
async fn nobody_hangs_objects_on_the_rows_of_tables() -> anyhow::Result<()> {
    let mut sql = with_partitions().await?;
    sql.run("create schema open; grant all on schema open to public")
        .await?;
    let types = sql
        .rows("select c.oid::regclass::text as name from pg_class c where c.relnamespace = 'tasker'::regnamespace and c.relkind in ('r', 'p')")
        .await?;
    for row in &types {
        let create = format!(
            "create table open.mine (x {})",
            row["name"].as_str().unwrap_or_default()
        );
        for role in ROLES {
            let code = code_of(&mut sql, role, &create).await?;
            assert_eq!(code.as_deref(), Some("42501"), "{role}: {create}");
        }
    }
    for name in ["task", "step", "claimed_step", "history_row", "violation"] {
        let create = format!("create table open.mine (x tasker.{name})");
        assert_eq!(code_of(&mut sql, "tasker_reader", &create).await?, None);
    }
    Ok(())
}
