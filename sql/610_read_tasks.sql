-- Reading tasks and steps: rows with typed columns, lists by key. The rows' columns are the contract with every front door.

create type tasker.task as (
  task_uuid uuid,
  namespace text,
  template_name text,
  template_version text,
  state text,
  context jsonb,
  priority integer,
  tags text[],
  correlation_id uuid,
  parent_correlation_id uuid,
  idempotency_key text,
  initiator text,
  source_system text,
  reason text,
  run_at timestamptz,
  created_at timestamptz,
  started_at timestamptz,
  finished_at timestamptz,
  paused_at timestamptz,
  steps_total integer,
  steps_done integer,
  steps_failed integer,
  error jsonb,
  parent_task_uuid uuid,
  parent_step_uuid uuid,
  traceparent text
);
comment on type tasker.task is 'A task as get_task and list_tasks show it; the steps are counted on reading.';

create type tasker.step as (
  step_uuid uuid,
  task_uuid uuid,
  name text,
  type text,
  instance integer,
  state text,
  attempt integer,
  attempts_used integer,
  max_attempts integer,
  handler jsonb,
  inputs jsonb,
  result jsonb,
  error jsonb,
  checkpoint jsonb,
  worker_id text,
  lease_expires_at timestamptz,
  retry_at timestamptz,
  remaining_dependencies integer,
  dependencies text[],
  created_at timestamptz,
  enqueued_at timestamptz,
  started_at timestamptz,
  finished_at timestamptz,
  child_task_uuid uuid
);
comment on type tasker.step is 'A step as get_step and list_steps show it.';

create function tasker._task_rows(p_task_uuids uuid[]) returns setof tasker.task
language plpgsql stable parallel unsafe set search_path = pg_catalog, pg_temp as $function$
begin
  return query
    select t.task_uuid, n.name, x.name, x.version, t.state, t.context, t.priority::integer, t.tags, t.correlation_id, t.parent_correlation_id,
      t.idempotency_key, t.initiator, t.source_system, t.reason, t.run_at, t.created_at, t.started_at, t.finished_at, t.paused_at,
      -- A task that has not started has no step rows yet.
      greatest(c.total - cardinality(tasker._unreal_steps(t.task_uuid, t.template_id)), case when t.started_at is null then x.steps_count else 0 end), c.done, c.failed, t.error, tasker._task_of(p.parent_step_uuid), p.parent_step_uuid, t.traceparent
    from unnest(p_task_uuids) with ordinality u(task_uuid, ordinal)
    cross join lateral (select t.* from tasker.tasks t where t.task_uuid = u.task_uuid) t
    cross join lateral (select x.name, x.version, x.namespace_id, x.steps_count from tasker.templates x where x.template_id = t.template_id) x
    cross join lateral (select n.name from tasker.namespaces n where n.namespace_id = t.namespace_id) n
    cross join lateral (
      select count(*)::integer as total, (count(*) filter (where tasker._satisfies_dependents(s.state)))::integer as done,
        (count(*) filter (where s.state = 'error'))::integer as failed
      from tasker.steps s
      where s.step_uuid > t.task_uuid and s.step_uuid <= tasker._last_step_uuid(t.task_uuid)
    ) c
    left join lateral (select p.parent_step_uuid from tasker.child_tasks p where p.task_uuid = t.task_uuid) p on true
    order by u.ordinal;
end
$function$;
comment on function tasker._task_rows(uuid[]) is 'The rows of tasks, in the order given.';

create function tasker.get_task(task_uuid uuid) returns setof tasker.task
language plpgsql stable parallel unsafe security definer rows 1 set search_path = pg_catalog, pg_temp as $function$
begin
  return query select r.* from tasker._task_rows(array[get_task.task_uuid]) r where tasker._may(r.namespace, 'read');
  if not found then
    perform tasker._require_same_partitions(get_task.task_uuid);
    perform tasker._raise('TK001', format('task %s not found', coalesce(get_task.task_uuid::text, 'null')), null,
      'tasker.list_tasks() shows the tasks there are.');
  end if;
end
$function$;
comment on function tasker.get_task(uuid) is 'Gives one task. Errors: TK001, 40001.';

create function tasker.list_tasks(
  namespace text default null, template_name text default null, states text[] default null, tags text[] default null, context_contains jsonb default null,
  created_after timestamptz default null, created_before timestamptz default null, after uuid default null, "limit" integer default 50)
returns setof tasker.task
language plpgsql stable parallel unsafe security definer set search_path = pg_catalog, pg_temp as $function$
declare
  v_namespace_ids integer[] := tasker._shown_namespaces(list_tasks.namespace);
  v_template_ids integer[] := array(select x.template_id from tasker.templates x where x.name = list_tasks.template_name);
  -- A task's key begins with the millisecond of its creation: times are bounds of keys too. The times themselves are compared as well, to the microsecond.
  v_from uuid := coalesce(tasker._first_task_uuid(list_tasks.created_after), '00000000-0000-0000-0000-000000000000');
  v_before uuid := least(tasker._first_task_uuid(list_tasks.created_before + interval '1 millisecond'), list_tasks.after, 'ffffffff-ffff-ffff-ffff-ffffffffffff');
begin
  perform tasker._require_limit(list_tasks."limit", 'after => the last task_uuid');
  -- Served by each partition's primary key, read backwards from the bound until the page is full: newest first is the order of the keys. after, created_after and
  -- created_before bound what is read, partitions outside aren't opened. All other filters are looked at row by row on the way: an index on them would be written at each
  -- change of a task.
  return query
    select r.*
    from tasker._task_rows(array(
      select t.task_uuid
      from tasker.tasks t
      where t.task_uuid >= v_from and t.task_uuid < v_before
        and (v_namespace_ids is null or t.namespace_id = any (v_namespace_ids))
        and (list_tasks.template_name is null or t.template_id = any (v_template_ids))
        and (list_tasks.states is null or t.state = any (list_tasks.states))
        and (list_tasks.tags is null or t.tags @> list_tasks.tags)
        and (list_tasks.context_contains is null or t.context @> list_tasks.context_contains)
        and (list_tasks.created_after is null or t.created_at >= list_tasks.created_after)
        and (list_tasks.created_before is null or t.created_at < list_tasks.created_before)
      order by t.task_uuid desc
      limit list_tasks."limit")) r;
  perform tasker._require_same_partitions();
end
$function$;
comment on function tasker.list_tasks(text, text, text[], text[], jsonb, timestamptz, timestamptz, uuid, integer) is
  'Lists tasks, newest first; every filter given must hold, after is the last task_uuid of the page before, limit 1 to 1000. Errors: 22023, 40001.';

create function tasker._step_rows(p_from uuid, p_to uuid) returns setof tasker.step
language plpgsql stable parallel unsafe set search_path = pg_catalog, pg_temp as $function$
declare
  v_task_uuid constant uuid := tasker._task_of(p_to);
  v_unreal constant uuid[] := coalesce((select tasker._unreal_steps(v_task_uuid, t.template_id) from tasker.tasks t where t.task_uuid = v_task_uuid), '{}');
begin
  return query
    select s.step_uuid, tasker._task_of(s.step_uuid), d.name, d.type, tasker._instance_of(s.template_id, d.number), s.state, s.attempt, s.attempts_used, d.max_attempts,
      tasker._handler_of(s.template_id, d.number), s.inputs, s.result, s.error, s.checkpoint, s.worker_id, s.lease_expires_at, s.retry_at,
      s.remaining_dependencies, d.dependencies, s.created_at, s.enqueued_at, s.started_at, s.finished_at, c.task_uuid
    from tasker.steps s
    cross join lateral tasker._step_definitions(array[s.template_id], array[tasker._number_of(s.step_uuid)]) d
    -- The last that it has started.
    left join lateral (
      select c.task_uuid from tasker.child_tasks c where d.type = 'task' and c.parent_step_uuid = s.step_uuid order by c.attempt desc limit 1
    ) c on true
    where s.step_uuid >= p_from and s.step_uuid <= p_to and s.step_uuid <> all (v_unreal)
    order by s.step_uuid;
end
$function$;
comment on function tasker._step_rows(uuid, uuid) is 'The rows of the steps in a range of keys of one task, in their order.';

create function tasker.list_steps(task_uuid uuid) returns setof tasker.step
language plpgsql stable parallel unsafe security definer set search_path = pg_catalog, pg_temp as $function$
begin
  perform tasker._require_task(list_steps.task_uuid);
  return query select * from tasker._step_rows(tasker._step_uuid(list_steps.task_uuid, 1), tasker._last_step_uuid(list_steps.task_uuid));
end
$function$;
comment on function tasker.list_steps(uuid) is 'Lists a task''s steps in topological order. Errors: TK001, 40001.';

create function tasker.get_step(step_uuid uuid) returns setof tasker.step
language plpgsql stable parallel unsafe security definer rows 1 set search_path = pg_catalog, pg_temp as $function$
begin
  return query
    select r.* from tasker._step_rows(get_step.step_uuid, get_step.step_uuid) r where tasker._may(tasker._checked_namespace(r.task_uuid), 'read');
  if not found then
    perform tasker._require_same_partitions(get_step.step_uuid);
    perform tasker._raise('TK002', format('step %s not found', coalesce(get_step.step_uuid::text, 'null')), null,
      'tasker.list_steps(task_uuid) shows the steps of a task.');
  end if;
end
$function$;
comment on function tasker.get_step(uuid) is 'Gives one step. Errors: TK002, 40001.';

create function tasker._require_task(p_task_uuid uuid) returns void
language plpgsql stable parallel unsafe set search_path = pg_catalog, pg_temp as $function$
begin
  if not exists (select from tasker.tasks t where t.task_uuid = p_task_uuid) or not tasker._may(tasker._checked_namespace(p_task_uuid), 'read') then
    perform tasker._require_same_partitions(p_task_uuid);
    perform tasker._raise('TK001', format('task %s not found', coalesce(p_task_uuid::text, 'null')), null, 'tasker.list_tasks() shows the tasks there are.');
  end if;
end
$function$;
comment on function tasker._require_task(uuid) is 'Refuses the key of no task, and of one that the caller may not read (TK001, 40001).';
