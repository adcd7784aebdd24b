-- Who may call what. Nothing is granted to PUBLIC, no role reaches a table; tasker_admin has every role, and the owner of the extension needs none.

revoke all on all tables in schema tasker from public;
revoke all on all functions in schema tasker from public;

-- The row types of tables are closed when partitions are made (050).
do $types$
declare
  v_type record;
begin
  for v_type in
    select t.oid::pg_catalog.regtype as type, c.relname !~ '^_' as is_public
    from pg_catalog.pg_type t
    join pg_catalog.pg_namespace n on n.oid = t.typnamespace and n.nspname = 'tasker'
    join pg_catalog.pg_class c on c.oid = t.typrelid and c.relkind = 'c'
  loop
    execute pg_catalog.format('revoke all on type %s from public', v_type.type);
    if v_type.is_public then
      execute pg_catalog.format('grant usage on type %s to tasker_admin, tasker_operator, tasker_client, tasker_worker, tasker_reader', v_type.type);
    end if;
  end loop;
end
$types$;

grant usage on schema tasker to tasker_admin, tasker_operator, tasker_client, tasker_worker, tasker_reader;

do $grants$
declare
  v_reader constant text[] := array['list_templates', 'get_template', 'validate_template', 'get_task', 'list_tasks', 'list_steps', 'get_step',
    'task_history', 'step_history', 'task_graph', 'list_compensations', 'queue_stats', 'health', 'version',
    'explain_task', 'list_workers', 'list_namespaces', 'statistics', 'slowest_steps', 'slowest_tasks', 'list_schedules', 'list_subscriptions', 'list_signals'];
  -- What a server calls for its callers, whatever else its role may do.
  v_servers constant text[] := array['check_api_key', 'serve_caller'];
  v_client constant text[] := array['create_task', 'create_tasks', 'get_task', 'list_tasks', 'list_steps', 'get_step', 'task_history', 'step_history',
    'task_graph', 'list_compensations', 'list_templates', 'get_template', 'validate_template', 'health', 'version', 'explain_task',
    'send_signal', 'list_signals'];
  v_worker constant text[] := array['claim_steps', 'finish_steps', 'complete_step', 'fail_step', 'extend_leases', 'save_checkpoint', 'get_dependency_results', 'register_worker', 'worker_heartbeat',
    'work_due_in_ms', 'health', 'version', 'subscribe_domain_events', 'claim_domain_events', 'finish_domain_events'];
  v_followers constant text[] := array['list_events', 'end_of_events', 'await_events', 'list_domain_events'];
  v_investigators constant text[] := array['list_dead_letters', 'get_dead_letter', 'dead_letter_stats', 'stale_tasks'];
  v_operator constant text[] := v_followers || v_investigators || array['open_dead_letter', 'resolve_dead_letter'] || v_reader ||
    array['create_task', 'create_tasks', 'send_signal', 'cancel_task', 'reset_step', 'complete_step_manually',
    'resolve_step', 'rerun_task', 'apply_to_tasks', 'list_bulk_jobs', 'cancel_bulk_job', 'run_maintenance', 'verify',
    'list_due_jobs', 'run_maintenance_job', 'create_schedule', 'pause_schedule', 'resume_schedule', 'delete_schedule', 'backfill_schedule', 'run_sql_step', 'needs_sql_runners',
    'pause_task', 'resume_task', 'pause_namespace', 'resume_namespace', 'retire_worker', 'unsubscribe_domain_events', 'redeliver_domain_event',
    'list_api_keys', 'revoke_api_key'] || v_servers;
  v_admin constant text[] := v_operator || v_worker || array['register_template', 'retire_template',
    'set_namespace', 'grant_namespace', 'revoke_namespace', 'list_namespace_grants',
    -- An operator who made keys would be given through a server what only an admin may do.
    'create_api_key'];
  v_grant record;
begin
  for v_grant in
    select distinct g.role, p.oid::regprocedure as function
    from (
      select 'tasker_reader' as role, unnest(v_reader || v_followers || v_investigators || v_servers) as name
      union all select 'tasker_client', unnest(v_client || v_followers || v_servers)
      union all select 'tasker_worker', unnest(v_worker || v_servers)
      union all select 'tasker_operator', unnest(v_operator)
      union all select 'tasker_admin', unnest(v_admin)
    ) g
    join pg_catalog.pg_proc p on p.proname = g.name
    join pg_catalog.pg_namespace n on n.oid = p.pronamespace and n.nspname = 'tasker'
  loop
    execute pg_catalog.format('grant execute on function %s to %I', v_grant.function, v_grant.role);
  end loop;
end
$grants$;
