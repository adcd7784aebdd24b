-- Creating tasks: the functions that are called, and the idempotency keys. Not here: the rows of tasks and steps, which the library writes (engine/create.rs).

create function tasker._claim_keys(
  p_template_ids integer[], p_contexts jsonb[], p_keys text[], p_priorities integer[], p_tags jsonb[], p_run_at timestamptz[], p_parents uuid[],
  p_task_uuids uuid[], p_now timestamptz, out task_uuids uuid[], out refused text[])
language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp as $function$
declare
  v_keyed tasker._keyed[];
  v_ordinals integer[];
  v_owners uuid[];
  v_missing text;
  v_conflict text;
begin
  select
    array_agg(row(r.ordinal, t.namespace_id, t.name, k.key,
      sha256(convert_to(jsonb_build_array(r.template_id, r.context, r.priority, coalesce(r.tags, '[]'), r.run_at, r.parent_correlation_id)::text, 'UTF8')),
      r.task_uuid, p_now + make_interval(secs => t.identity_window_seconds))::tasker._keyed order by r.ordinal)
      filter (where k.key is not null),
    min(t.name) filter (where k.key is null)
  into v_keyed, v_missing
  from unnest(p_template_ids, p_contexts, p_keys, p_priorities, p_tags, p_run_at, p_parents, p_task_uuids)
    with ordinality r(template_id, context, key, priority, tags, run_at, parent_correlation_id, task_uuid, ordinal)
  cross join lateral (
    select t.namespace_id, t.name, t.identity_strategy, t.identity_window_seconds
    from tasker.templates t
    where t.template_id = r.template_id
  ) t
  cross join lateral (
    select coalesce(r.key, case when t.identity_strategy = 'strict' then
      encode(sha256(convert_to(r.template_id::text || ':' || r.context::text, 'UTF8')), 'hex') end) as key
  ) k;
  if v_missing is not null then
    refused := array['22023', format('template %s requires an idempotency_key', v_missing), 'Its identity strategy is caller_provided.',
      'Give a key that is the same whenever the same piece of work is asked for, such as an order number.'];
    return;
  end if;
  -- In key order, so that two calls with the same keys wait for each other instead of deadlocking. A key whose window is over is used anew.
  insert into tasker.idempotency_keys as i (namespace_id, template_name, key, request_hash, task_uuid, expires_at)
  select distinct on (k.namespace_id, k.template_name, k.key) k.namespace_id, k.template_name, k.key, k.request_hash, k.task_uuid, k.expires_at
  from unnest(v_keyed) k
  order by k.namespace_id, k.template_name, k.key, k.ordinal
  on conflict on constraint idempotency_keys_pkey do update
    set request_hash = excluded.request_hash, task_uuid = excluded.task_uuid, expires_at = excluded.expires_at
    where i.expires_at <= p_now;

  select array_agg(k.ordinal), array_agg(i.task_uuid), max(k.key) filter (where i.request_hash is distinct from k.request_hash)
  into v_ordinals, v_owners, v_conflict
  from unnest(v_keyed) k
  cross join lateral (
    select i.request_hash, i.task_uuid
    from tasker.idempotency_keys i
    where i.namespace_id = k.namespace_id and i.template_name = k.template_name and i.key = k.key
  ) i;
  if coalesce(cardinality(v_ordinals), 0) < cardinality(v_keyed) then
    refused := array['40001', 'an idempotency key was used by a concurrent transaction', null, 'Try again.'];
  elsif v_conflict is not null then
    refused := array['TK013', format('idempotency key %s was already used with another request', v_conflict),
      'The same request is the same template and version, context, priority, tags, run_at and parent.',
      'Use a new key for a new request, or repeat the first request as it was.'];
  end if;
  task_uuids := p_task_uuids;
  for v_index in 1 .. cardinality(v_ordinals) loop
    task_uuids[v_ordinals[v_index]] := v_owners[v_index];
  end loop;
end
$function$;
comment on function tasker._claim_keys(integer[], jsonb[], text[], integer[], jsonb[], timestamptz[], uuid[], uuid[], timestamptz) is
  'Takes the idempotency keys of requests that have one, given or made from their context, and gives each request''s task: the new one, or the one that has the '
  'key (22023, TK013, 40001).';

create function tasker.create_task(
  template_name text, namespace text default 'default', context jsonb default '{}', version text default null, idempotency_key text default null,
  priority integer default 0, run_at timestamptz default null, correlation_id uuid default null, parent_correlation_id uuid default null,
  tags text[] default '{}', initiator text default null, source_system text default null, reason text default null) returns uuid
language plpgsql volatile parallel unsafe security definer set search_path = pg_catalog, pg_temp as $function$
declare
  v_created tasker._created;
begin
  v_created := tasker._create_tasks(jsonb_build_array(jsonb_build_object(
    'template_name', create_task.template_name, 'namespace', create_task.namespace, 'context', create_task.context, 'version', create_task.version,
    'idempotency_key', create_task.idempotency_key, 'priority', create_task.priority, 'run_at', create_task.run_at,
    'correlation_id', create_task.correlation_id, 'parent_correlation_id', create_task.parent_correlation_id, 'tags', create_task.tags,
    'initiator', create_task.initiator, 'source_system', create_task.source_system, 'reason', create_task.reason)), tasker._now(), tasker._author());
  if v_created.refused is not null then
    perform tasker._raise_refused(v_created.refused);
  end if;
  return v_created.task_uuids[1];
end
$function$;
comment on function tasker.create_task(text, text, jsonb, text, text, integer, timestamptz, uuid, uuid, text[], text, text, text) is
  'Creates a task in the caller''s transaction and gives its key; a repeated idempotency_key gives the task that has it. '
  'priority is -100 to 100, run_at the earliest start; the task is of the trace that the setting tasker.traceparent names. Errors: TK003, TK013, TK015, TK021, TK022, TK030, 22023.';

create function tasker._require_requests(p_requests jsonb) returns void
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
end
$function$;
comment on function tasker._require_requests(jsonb) is 'Refuses what is no list of requests (22023, TK022); the values of each are looked at as it is read.';

create function tasker.create_tasks(requests jsonb) returns table (ordinal integer, task_uuid uuid, created boolean)
language plpgsql volatile parallel unsafe security definer set search_path = pg_catalog, pg_temp as $function$
declare
  v_created tasker._created;
begin
  perform tasker._require_requests(create_tasks.requests);
  v_created := tasker._create_tasks(create_tasks.requests, tasker._now(), tasker._author());
  perform tasker._raise_refused(v_created.refused);
  return query select c.ordinal::integer, c.task_uuid, c.created from unnest(v_created.task_uuids, v_created.created) with ordinality c(task_uuid, created, ordinal);
end
$function$;
comment on function tasker.create_tasks(jsonb) is
  'Creates any number of tasks in one statement, all or none: a JSON array of objects with the parameters of create_task as keys. '
  'created is false where a repeated idempotency key gave an existing task. Errors: as create_task.';
