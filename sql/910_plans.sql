-- Plans don't depend on statistics: a queue's tables are fresh, truncated or bulk-loaded more often than they are analysed.
-- The statements of the hot path are pinned by the library (planner.rs); here are the functions in SQL that look rows up by key.
-- These settings leave each statement one way only, an index look-up for each key given, and one generic plan that is kept.

do $plans$
declare
  v_function record;
begin
  for v_function in
    select p.oid::regprocedure as function
    from pg_catalog.pg_proc p
    join pg_catalog.pg_namespace n on n.oid = p.pronamespace and n.nspname = 'tasker'
    where p.proname in ('extend_leases', 'cancel_task', 'run_maintenance', 'get_task', 'list_tasks', 'list_steps', 'get_step', '_claim_keys', '_record_failures', '_open_step_dead_letters',
      'run_maintenance_job', 'list_due_jobs', 'pause_task', 'resume_task', 'resume_namespace', '_keep_tasks')
  loop
    execute pg_catalog.format('alter function %s set plan_cache_mode = force_generic_plan', v_function.function);
    execute pg_catalog.format('alter function %s set enable_seqscan = off', v_function.function);
    execute pg_catalog.format('alter function %s set enable_bitmapscan = off', v_function.function);
    execute pg_catalog.format('alter function %s set enable_hashjoin = off', v_function.function);
    execute pg_catalog.format('alter function %s set enable_mergejoin = off', v_function.function);
    execute pg_catalog.format('alter function %s set enable_material = off', v_function.function);
    execute pg_catalog.format('alter function %s set jit = off', v_function.function);
  end loop;
end
$plans$;
