-- Creating tasks: one request or many, in the caller's transaction, with every step, message and history row in a fixed number of statements.
-- Not here: what happens to a task once it runs (500, 510).

create function tasker._require_requests(p_requests tasker._request[]) returns void
language plpgsql stable parallel unsafe set search_path = pg_catalog, pg_temp as $function$
declare
  v_bad record;
begin
  select r.ordinal, r.template_name, r.priority, jsonb_typeof(r.context) as context_type, tasker._limit_problem(r.context::text) as limit_problem,
    length(r.idempotency_key) as key_length
  into v_bad
  from unnest(p_requests) r
  where r.template_name is null or r.priority not between -100 and 100 or jsonb_typeof(r.context) is distinct from 'object'
    or tasker._limit_problem(r.context::text) is not null or length(r.idempotency_key) not between 1 and 500
  order by r.ordinal
  limit 1;
  if not found then
    return;
  end if;
  if v_bad.template_name is null then
    perform tasker._raise('22023', format('request %s names no template', v_bad.ordinal), null, 'Give template_name.');
  elsif v_bad.context_type is distinct from 'object' then
    perform tasker._raise('22023', format('the context of request %s must be a JSON object, not %s', v_bad.ordinal, coalesce(v_bad.context_type, 'null')),
      null, 'Wrap the value: {"value": …}.');
  elsif v_bad.limit_problem is not null then
    perform tasker._raise('TK022', format('the context of request %s %s', v_bad.ordinal, v_bad.limit_problem), null,
      'Keep large data elsewhere and pass a reference to it, or raise tasker.max_payload_bytes or tasker.max_payload_depth.');
  elsif v_bad.key_length not between 1 and 500 then
    perform tasker._raise('22023', format('the idempotency_key of request %s must have 1 to 500 characters', v_bad.ordinal));
  else
    perform tasker._raise('22023', format('the priority of request %s must be between -100 and 100, not %s', v_bad.ordinal, v_bad.priority));
  end if;
end
$function$;
comment on function tasker._require_requests(tasker._request[]) is 'Refuses requests whose own values are out of range (22023, TK022).';

create function tasker._resolve_templates(p_requests tasker._request[]) returns integer[]
language plpgsql stable parallel unsafe set search_path = pg_catalog, pg_temp as $function$
declare
  v_template_ids integer[];
  v_missing record;
begin
  -- One look-up for each different template, whatever the number of requests.
  with wanted as materialized (
    select w.namespace, w.template_name, w.version, row_number() over () as nr, w.ordinals
    from (
      select r.namespace, r.template_name, r.version, array_agg(r.ordinal order by r.ordinal) as ordinals
      from unnest(p_requests) r
      group by r.namespace, r.template_name, r.version
    ) w
  ), found as materialized (
    select w.ordinals, t.template_id
    from wanted w
    left join lateral (
      select t.template_id
      from tasker.namespaces n
      join tasker.templates t on t.namespace_id = n.namespace_id
      where n.name = w.namespace and t.name = w.template_name
        and case when w.version is null then t.retired_at is null else t.version = w.version end
      order by t.version_key desc
      limit 1
    ) t on true
  )
  select array_agg(f.template_id order by o.ordinal) into v_template_ids
  from found f
  cross join lateral unnest(f.ordinals) o(ordinal);

  if array_position(v_template_ids, null) is not null then
    select r.namespace, r.template_name, r.version into v_missing
    from unnest(p_requests) r
    where r.ordinal = array_position(v_template_ids, null);
    perform tasker._raise_template_not_found(v_missing.namespace, v_missing.template_name, v_missing.version);
  end if;
  select t.name, t.version, t.retired_at into v_missing
  from tasker.templates t
  where t.template_id = any (v_template_ids) and t.retired_at is not null
  limit 1;
  if found then
    perform tasker._raise('TK015', format('template %s version %s is retired', v_missing.name, v_missing.version),
      format('It was retired at %s.', v_missing.retired_at), 'Create the task from another version.');
  end if;
  return v_template_ids;
end
$function$;
comment on function tasker._resolve_templates(tasker._request[]) is 'Gives the template of each request, in order (TK003, TK015).';

create function tasker._raise_context_problem(p_template_id integer, p_ordinal integer, p_problem text) returns void
language plpgsql stable parallel unsafe set search_path = pg_catalog, pg_temp as $function$
declare
  v_name text := (select t.name || ' version ' || t.version from tasker.templates t where t.template_id = p_template_id);
begin
  perform tasker._raise('TK021', format('the context of request %s does not satisfy the input_schema of template %s', p_ordinal, v_name), p_problem,
    'tasker.get_template shows the schema; nothing was created.');
end
$function$;
comment on function tasker._raise_context_problem(integer, integer, text) is 'Raises TK021 with what is wrong with a context.';

create function tasker._key_requests(
  p_requests tasker._request[], p_template_ids integer[], p_contexts jsonb[], p_task_uuids uuid[], p_now timestamptz) returns tasker._keyed[]
language plpgsql stable parallel unsafe set search_path = pg_catalog, pg_temp as $function$
declare
  v_keyed tasker._keyed[];
  v_missing text;
begin
  select
    array_agg(row(r.ordinal, t.namespace_id, t.name, k.key,
      sha256(convert_to(jsonb_build_array(p_template_ids[r.ordinal], p_contexts[r.ordinal], r.priority, r.tags, r.run_at, r.parent_correlation_id)::text,
        'UTF8')),
      p_task_uuids[r.ordinal], p_now + make_interval(secs => t.identity_window_seconds))::tasker._keyed order by r.ordinal)
      filter (where k.key is not null),
    min(t.name) filter (where k.key is null and t.identity_strategy = 'caller_provided')
  into v_keyed, v_missing
  from unnest(p_requests) r
  cross join lateral (
    select t.namespace_id, t.name, t.identity_strategy, t.identity_window_seconds
    from tasker.templates t
    where t.template_id = p_template_ids[r.ordinal]
  ) t
  cross join lateral (
    select coalesce(r.idempotency_key, case when t.identity_strategy = 'strict' then
      encode(sha256(convert_to(p_template_ids[r.ordinal]::text || ':' || p_contexts[r.ordinal]::text, 'UTF8')), 'hex') end) as key
  ) k;
  if v_missing is not null then
    perform tasker._raise('22023', format('template %s requires an idempotency_key', v_missing), 'Its identity strategy is caller_provided.',
      'Give a key that is the same whenever the same piece of work is asked for, such as an order number.');
  end if;
  return v_keyed;
end
$function$;
comment on function tasker._key_requests(tasker._request[], integer[], jsonb[], uuid[], timestamptz) is
  'Gives the requests that have an idempotency key, with the hash that tells whether it is the same request (22023).';

create function tasker._claim_keys(p_keyed tasker._keyed[], p_task_uuids uuid[], p_now timestamptz) returns uuid[]
language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp as $function$
declare
  v_result uuid[] := p_task_uuids;
  v_ordinals integer[];
  v_owners uuid[];
  v_conflict text;
begin
  if p_keyed is null then
    return v_result;
  end if;
  -- In key order, so that two calls with the same keys wait for each other instead of deadlocking. A key whose window is over is used anew.
  insert into tasker.idempotency_keys as i (namespace_id, template_name, key, request_hash, task_uuid, expires_at)
  select distinct on (k.namespace_id, k.template_name, k.key) k.namespace_id, k.template_name, k.key, k.request_hash, k.task_uuid, k.expires_at
  from unnest(p_keyed) k
  order by k.namespace_id, k.template_name, k.key, k.ordinal
  on conflict on constraint idempotency_keys_pkey do update
    set request_hash = excluded.request_hash, task_uuid = excluded.task_uuid, expires_at = excluded.expires_at
    where i.expires_at <= p_now;

  select array_agg(k.ordinal), array_agg(i.task_uuid), max(k.key) filter (where i.request_hash is distinct from k.request_hash)
  into v_ordinals, v_owners, v_conflict
  from unnest(p_keyed) k
  cross join lateral (
    select i.request_hash, i.task_uuid
    from tasker.idempotency_keys i
    where i.namespace_id = k.namespace_id and i.template_name = k.template_name and i.key = k.key
  ) i;
  if coalesce(cardinality(v_ordinals), 0) < cardinality(p_keyed) then
    perform tasker._raise('40001', 'an idempotency key was used by a concurrent transaction', null, 'Try again.');
  elsif v_conflict is not null then
    perform tasker._raise('TK013', format('idempotency key %s was already used with another request', v_conflict),
      'The same request is the same template and version, context, priority, tags, run_at and parent.',
      'Use a new key for a new request, or repeat the first request as it was.');
  end if;
  for v_index in 1 .. cardinality(v_ordinals) loop
    v_result[v_ordinals[v_index]] := v_owners[v_index];
  end loop;
  return v_result;
end
$function$;
comment on function tasker._claim_keys(tasker._keyed[], uuid[], timestamptz) is
  'Takes the idempotency keys and gives each request''s task: the new one, or the one that has the key (TK013, 40001).';

create function tasker._insert_tasks(
  p_requests tasker._request[], p_template_ids integer[], p_contexts jsonb[], p_task_uuids uuid[], p_owners uuid[], p_now timestamptz)
returns uuid[]
language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp as $function$
declare
  v_started uuid[];
begin
  -- A task that starts now is written once, in the state it has when this transaction commits.
  with made as (
    insert into tasker.tasks as t (
      task_uuid, template_id, namespace_id, state, priority, running, created_at, started_at, finished_at, run_at, correlation_id, parent_correlation_id,
      idempotency_key, initiator, source_system, reason, tags, context)
    select p_task_uuids[r.ordinal], x.template_id, x.namespace_id,
      case when not d.is_due then 'pending' when x.steps_count = 0 then 'complete' else 'steps_in_process' end,
      r.priority, case when d.is_due then x.roots_count else 0 end, p_now,
      case when d.is_due then p_now end, case when d.is_due and x.steps_count = 0 then p_now end, r.run_at,
      coalesce(r.correlation_id, p_task_uuids[r.ordinal]), r.parent_correlation_id, r.idempotency_key, r.initiator, r.source_system, r.reason, r.tags,
      p_contexts[r.ordinal]
    from unnest(p_requests) r
    cross join lateral (
      select x.template_id, x.namespace_id, x.steps_count, x.roots_count
      from tasker.templates x
      where x.template_id = p_template_ids[r.ordinal]
    ) x
    cross join lateral (select coalesce(r.run_at <= p_now, true) as is_due) d
    where p_owners[r.ordinal] = p_task_uuids[r.ordinal]
    order by r.ordinal
    returning t.task_uuid, t.state
  )
  select array_agg(m.task_uuid order by m.task_uuid) filter (where m.state <> 'pending') into v_started from made m;
  return v_started;
end
$function$;
comment on function tasker._insert_tasks(tasker._request[], integer[], jsonb[], uuid[], uuid[], timestamptz) is
  'Inserts the tasks that are new, and gives those that start now.';

create function tasker._insert_steps(p_task_uuids uuid[], p_now timestamptz, p_actor text) returns void
language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp as $function$
declare
  v_namespace record;
  v_steps record;
  v_msg_ids bigint[];
begin
  -- One round for each namespace among the tasks.
  for v_namespace in
    select n.name, n.queue_name, array_agg(t.task_uuid order by t.task_uuid) as task_uuids
    from unnest(p_task_uuids) u(task_uuid)
    cross join lateral (select t.task_uuid, t.namespace_id from tasker.tasks t where t.task_uuid = u.task_uuid) t
    cross join lateral (select n.name, n.queue_name from tasker.namespaces n where n.namespace_id = t.namespace_id) n
    group by n.name, n.queue_name
  loop
    perform tasker._require_queue(v_namespace.queue_name);
    select array_agg(s.step_uuid) as step_uuids, array_agg(0) as attempts, array_agg(d.callable) as handlers, array_agg(t.priority::integer) as priorities,
      array_agg(t.correlation_id) as correlation_ids, array_agg(p_now) as visible_at
    into v_steps
    from unnest(v_namespace.task_uuids) u(task_uuid)
    cross join lateral (select t.template_id, t.priority, t.correlation_id from tasker.tasks t where t.task_uuid = u.task_uuid) t
    cross join lateral tasker._template_steps(t.template_id) d
    cross join lateral (select tasker._step_uuid(u.task_uuid, d.number) as step_uuid) s
    where d.initial_dependencies = 0;
    v_msg_ids := tasker._queue_send(v_namespace.queue_name, v_steps.step_uuids, v_steps.attempts, v_steps.handlers, v_steps.priorities,
      v_steps.correlation_ids, v_steps.visible_at);

    -- The same walk in the same order: the n-th ready step has the n-th message.
    insert into tasker.steps (step_uuid, template_id, state, remaining_dependencies, msg_id, created_at, enqueued_at)
    select tasker._step_uuid(u.task_uuid, d.number), t.template_id, case d.initial_dependencies when 0 then 'enqueued' else 'pending' end,
      d.initial_dependencies,
      case d.initial_dependencies when 0 then v_msg_ids[count(*) filter (where d.initial_dependencies = 0) over (order by u.ordinal, d.number)] end,
      p_now, case d.initial_dependencies when 0 then p_now end
    from unnest(v_namespace.task_uuids) with ordinality u(task_uuid, ordinal)
    cross join lateral (select t.template_id from tasker.tasks t where t.task_uuid = u.task_uuid) t
    cross join lateral tasker._template_steps(t.template_id) d;

    insert into tasker.step_transitions (step_uuid, from_state, to_state, event, at, attempt, actor)
    select s.step_uuid, 'pending', 'enqueued', 'enqueue', p_now, 0, p_actor
    from unnest(v_steps.step_uuids) s(step_uuid);
    perform pg_notify('tasker_ready_' || v_namespace.name, '');
  end loop;
end
$function$;
comment on function tasker._insert_steps(uuid[], timestamptz, text) is
  'Inserts the steps of tasks that start, sends a message for each that is ready, and wakes the workers.';

create function tasker._record_start(p_task_uuids uuid[], p_now timestamptz, p_actor text) returns void
language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp as $function$
declare
  v_with_steps uuid[];
begin
  -- A task without steps is complete as it starts.
  with recorded as (
    insert into tasker.task_transitions (task_uuid, from_state, to_state, event, passed_through, at, actor)
    select t.task_uuid, 'pending', t.state, case t.state when 'complete' then 'no_steps_found' else 'steps_enqueued' end,
      case t.state when 'complete' then array['start:initializing'] else array['start:initializing', 'ready_steps_found:enqueuing_steps'] end,
      p_now, p_actor
    from unnest(p_task_uuids) u(task_uuid)
    cross join lateral (select t.task_uuid, t.state from tasker.tasks t where t.task_uuid = u.task_uuid) t
    returning task_uuid, to_state
  )
  select array_agg(r.task_uuid order by r.task_uuid) filter (where r.to_state <> 'complete') into v_with_steps from recorded r;
  if v_with_steps is not null then
    perform tasker._insert_steps(v_with_steps, p_now, p_actor);
  end if;
end
$function$;
comment on function tasker._record_start(uuid[], timestamptz, text) is 'Writes the first history row of tasks whose rows say that they start, and makes their steps.';

create function tasker._create_tasks(p_requests tasker._request[]) returns table (ordinal integer, task_uuid uuid, created boolean)
language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp as $function$
declare
  v_now timestamptz := tasker._now();
  v_actor text := tasker._actor();
  v_template_ids integer[];
  v_contexts jsonb[];
  v_problem record;
  v_task_uuids uuid[];
  v_owners uuid[];
  v_started uuid[];
begin
  if cardinality(p_requests) = 0 then
    return;
  end if;
  perform tasker._require_requests(p_requests);
  v_template_ids := tasker._resolve_templates(p_requests);

  select array_agg(x.context order by x.ordinal) into v_contexts
  from (
    select r.ordinal, case t.context_defaults when '{}' then r.context else t.context_defaults || r.context end as context
    from unnest(p_requests) r
    cross join lateral (select t.context_defaults from tasker.templates t where t.template_id = v_template_ids[r.ordinal]) t
  ) x;
  select x.ordinal, x.template_id, x.problem into v_problem
  from (
    select r.ordinal, t.template_id, tasker._context_problem(t.template_id, v_contexts[r.ordinal]::text) as problem
    from unnest(p_requests) r
    cross join lateral (select t.template_id, t.has_input_schema from tasker.templates t where t.template_id = v_template_ids[r.ordinal]) t
    where t.has_input_schema
  ) x
  where x.problem is not null
  order by x.ordinal
  limit 1;
  if found then
    perform tasker._raise_context_problem(v_problem.template_id, v_problem.ordinal, v_problem.problem);
  end if;

  v_task_uuids := tasker._task_uuids(cardinality(p_requests), v_now);
  v_owners := tasker._claim_keys(tasker._key_requests(p_requests, v_template_ids, v_contexts, v_task_uuids, v_now), v_task_uuids, v_now);
  v_started := tasker._insert_tasks(p_requests, v_template_ids, v_contexts, v_task_uuids, v_owners, v_now);
  if v_started is not null then
    perform tasker._record_start(v_started, v_now, v_actor);
  end if;
  return query
    select r.ordinal, v_owners[r.ordinal], v_owners[r.ordinal] = v_task_uuids[r.ordinal] from unnest(p_requests) r order by r.ordinal;
end
$function$;
comment on function tasker._create_tasks(tasker._request[]) is 'Creates the tasks of a list of requests, all or none.';

create function tasker.create_task(
  template_name text, namespace text default 'default', context jsonb default '{}', version text default null, idempotency_key text default null,
  priority integer default 0, run_at timestamptz default null, correlation_id uuid default null, parent_correlation_id uuid default null,
  tags text[] default '{}', initiator text default null, source_system text default null, reason text default null) returns uuid
language plpgsql volatile parallel unsafe security definer set search_path = pg_catalog, pg_temp as $function$
begin
  return (
    select c.task_uuid
    from tasker._create_tasks(array[row(
      1, create_task.template_name, coalesce(create_task.namespace, 'default'), create_task.context, create_task.version, create_task.idempotency_key,
      coalesce(create_task.priority, 0), create_task.run_at, create_task.correlation_id, create_task.parent_correlation_id,
      coalesce(create_task.tags, '{}'), create_task.initiator, create_task.source_system, create_task.reason)::tasker._request]) c
  );
end
$function$;
comment on function tasker.create_task(text, text, jsonb, text, text, integer, timestamptz, uuid, uuid, text[], text, text, text) is
  'Creates a task in the caller''s transaction and gives its key; a repeated idempotency_key gives the task that has it. '
  'priority is -100 to 100, run_at the earliest start. Errors: TK003, TK013, TK015, TK021, TK022, TK030, 22023.';

create function tasker._read_requests(p_requests jsonb) returns tasker._request[]
language plpgsql stable parallel unsafe set search_path = pg_catalog, pg_temp as $function$
declare
  v_known constant text[] := array['template_name', 'namespace', 'context', 'version', 'idempotency_key', 'priority', 'run_at', 'correlation_id',
    'parent_correlation_id', 'tags', 'initiator', 'source_system', 'reason'];
  v_bad record;
begin
  if jsonb_typeof(p_requests) is distinct from 'array' then
    perform tasker._raise('22023', format('requests must be a JSON array, not %s', coalesce(jsonb_typeof(p_requests), 'null')), null,
      'Give a list of objects whose keys are the parameters of create_task.');
  end if;
  perform tasker._require_batch('the number of requests', jsonb_array_length(p_requests));
  select r.ordinal, k.key into v_bad
  from jsonb_array_elements(p_requests) with ordinality r(value, ordinal)
  left join lateral jsonb_object_keys(case jsonb_typeof(r.value) when 'object' then r.value else '{}' end) k(key) on true
  where jsonb_typeof(r.value) <> 'object' or k.key <> all (v_known)
  order by r.ordinal
  limit 1;
  if found then
    perform tasker._raise('22023',
      case when v_bad.key is null then format('request %s is not an object', v_bad.ordinal)
        else format('request %s has an unknown field %s', v_bad.ordinal, v_bad.key) end,
      'Known fields: ' || array_to_string(v_known, ', ') || '.');
  end if;
  return array(
    select row(e.ordinal, r.template_name, coalesce(r.namespace, 'default'),
      case when jsonb_exists(e.value, 'context') then e.value -> 'context' else '{}' end, r.version,
      r.idempotency_key, coalesce(r.priority, 0), r.run_at, r.correlation_id, r.parent_correlation_id, coalesce(r.tags, '{}'), r.initiator,
      r.source_system, r.reason)::tasker._request
    from jsonb_array_elements(p_requests) with ordinality e(value, ordinal)
    cross join lateral jsonb_to_record(e.value - 'context') r(
      template_name text, namespace text, version text, idempotency_key text, priority integer, run_at timestamptz, correlation_id uuid,
      parent_correlation_id uuid, tags text[], initiator text, source_system text, reason text)
    order by e.ordinal);
end
$function$;
comment on function tasker._read_requests(jsonb) is 'Reads the requests of create_tasks, refusing what isn''t one (22023, TK022).';

create function tasker.create_tasks(requests jsonb) returns table (ordinal integer, task_uuid uuid, created boolean)
language plpgsql volatile parallel unsafe security definer set search_path = pg_catalog, pg_temp as $function$
begin
  return query
    select c.ordinal, c.task_uuid, c.created from tasker._create_tasks(tasker._read_requests(create_tasks.requests)) c;
end
$function$;
comment on function tasker.create_tasks(jsonb) is
  'Creates any number of tasks in one statement, all or none: a JSON array of objects with the parameters of create_task as keys. '
  'created is false where a repeated idempotency key gave an existing task. Errors: as create_task.';
