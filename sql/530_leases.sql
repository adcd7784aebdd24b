-- Workers: registering, heartbeats, and the extension of leases.

create function tasker.register_worker(worker_id text, namespaces text[], handlers text[], language text, version text) returns void
language plpgsql volatile parallel unsafe security definer set search_path = pg_catalog, pg_temp as $function$
begin
  perform tasker._require_worker_id(register_worker.worker_id);
  if coalesce(array_ndims(register_worker.namespaces), 0) <> 1 or exists (select from unnest(register_worker.namespaces) u(name) where u.name is null)
    or register_worker.handlers is null then
    perform tasker._raise('22023', 'a worker needs at least one namespace, and a list of handlers', null,
      'Give the namespaces it serves and the names of the handlers it has.');
  end if;
  perform tasker._raise('22023', format('handler %s is a SQL function, which the database runs itself', u.name), null, 'Leave it out.')
  from unnest(register_worker.handlers) u(name)
  where u.name like 'sql:%';
  perform tasker._raise_refused(tasker._namespace_problem(register_worker.namespaces, 'work'));
  -- The id of another one's worker: it would be counted as ours from now on.
  perform tasker._raise('42501', format('worker_id %s is in use by a worker of other namespaces', register_worker.worker_id), null,
      'Give each worker process a name of its own, for example host, process id and a random part.')
  from tasker.workers w
  where w.worker_id = register_worker.worker_id and tasker._namespace_problem(w.namespaces, 'work') is not null;
  insert into tasker.workers as w (worker_id, namespaces, handlers, language, version, registered_at, last_seen_at)
  values (register_worker.worker_id, register_worker.namespaces, register_worker.handlers, coalesce(register_worker.language, 'unknown'),
    coalesce(register_worker.version, 'unknown'), tasker._now(), tasker._now())
  on conflict on constraint workers_pkey do update
    set namespaces = excluded.namespaces, handlers = excluded.handlers, language = excluded.language, version = excluded.version,
      last_seen_at = excluded.last_seen_at, retired_at = null;
end
$function$;
comment on function tasker.register_worker(text, text[], text[], text, text) is
  'Registers a worker with what it serves, or registers it again. Errors: 22023.';

create function tasker.worker_heartbeat(worker_id text, running integer, capacity integer) returns void
language plpgsql volatile parallel unsafe security definer set search_path = pg_catalog, pg_temp as $function$
begin
  if running is null or running < 0 or capacity is null or capacity < 0 then
    perform tasker._raise('22023', 'running and capacity must be zero or more');
  end if;
  update tasker.workers w
  set last_seen_at = tasker._now(), running = worker_heartbeat.running, capacity = worker_heartbeat.capacity
  where w.worker_id = worker_heartbeat.worker_id and w.retired_at is null and tasker._namespace_problem(w.namespaces, 'work') is null;
  if not found then
    perform tasker._raise('TK004', format('worker %s not found', worker_heartbeat.worker_id), null, 'Call tasker.register_worker first.');
  end if;
end
$function$;
comment on function tasker.worker_heartbeat(text, integer, integer) is
  'Says that a worker lives, how many steps it runs and how many it could run. Errors: TK004, 22023.';

create function tasker._read_held(p_steps jsonb) returns tasker._holding[]
language plpgsql stable parallel unsafe set search_path = pg_catalog, pg_temp as $function$
declare
  v_bad record;
begin
  if jsonb_typeof(p_steps) is distinct from 'array' then
    perform tasker._raise('22023', format('steps must be a JSON array, not %s', coalesce(jsonb_typeof(p_steps), 'null')), null,
      'Give a list of {"step_uuid", "attempt"}.');
  end if;
  perform tasker._require_batch('the number of steps', jsonb_array_length(p_steps));
  select h.ordinal, case when jsonb_typeof(h.value) <> 'object' then 'it must be a JSON object'
      when h.value ->> 'step_uuid' ~* '^[0-9a-f]{8}-([0-9a-f]{4}-){3}[0-9a-f]{12}$' then 'attempt must be a whole number, as claimed'
      else 'step_uuid must be a UUID' end as problem
  into v_bad
  from jsonb_array_elements(p_steps) with ordinality h(value, ordinal)
  where jsonb_typeof(h.value) <> 'object'
    or not coalesce(h.value ->> 'step_uuid' ~* '^[0-9a-f]{8}-([0-9a-f]{4}-){3}[0-9a-f]{12}$', false)
    or not coalesce(jsonb_typeof(h.value -> 'attempt') = 'number' and h.value ->> 'attempt' ~ '^[0-9]{1,9}$', false)
  order by h.ordinal
  limit 1;
  if found then
    perform tasker._raise('22023', format('step %s: %s', v_bad.ordinal, v_bad.problem));
  end if;
  return array(
    select row(h.ordinal, (h.value ->> 'step_uuid')::uuid, (h.value ->> 'attempt')::integer)::tasker._holding
    from jsonb_array_elements(p_steps) with ordinality h(value, ordinal)
    order by h.ordinal);
end
$function$;
comment on function tasker._read_held(jsonb) is 'Reads a list of {step_uuid, attempt} (22023, TK022).';

create function tasker.extend_leases(worker_id text, steps jsonb, lease interval default '30 seconds') returns table (step_uuid uuid, verdict text)
language plpgsql volatile parallel unsafe security definer set search_path = pg_catalog, pg_temp as $function$
declare
  v_now timestamptz := tasker._now();
  v_held tasker._holding[];
  v_late record;
  v_verdicts tasker._held[];
  v_queue record;
begin
  perform tasker._require_worker_id(extend_leases.worker_id);
  perform tasker._require_lease(extend_leases.lease);
  v_held := tasker._read_held(extend_leases.steps);
  -- Only what is in progress: whoever makes an instance anew, or lets a step go, would wait for a call that names an attempt long over.
  perform s.step_uuid
  from (
    select h.step_uuid
    from (select distinct h.step_uuid from unnest(v_held) h where tasker._may(tasker._checked_namespace(h.step_uuid), 'work')) h
    cross join lateral (select s.template_id from tasker.steps s where s.step_uuid = h.step_uuid) s
    -- What was made while the task ran comes first: whoever has an instance may wait for the step that stands for it. What others lock late comes last.
    cross join lateral (select x.steps_count from tasker.templates x where x.template_id = s.template_id) x
    order by tasker._number_of(h.step_uuid) <= x.steps_count, tasker._is_late(s.template_id, tasker._number_of(h.step_uuid)), h.step_uuid
  ) h
  cross join lateral (select s.step_uuid from tasker.steps s where s.step_uuid = h.step_uuid and s.state = 'in_progress' for no key update) s;

  v_verdicts := array(
    select row(h.step_uuid, s.template_id, s.attempt, s.attempts_used, s.msg_id, d.timeout_seconds, least(v_now + extend_leases.lease, d.ends_at),
      case
        when s.state is null or not tasker._may(d.namespace, 'work') then 'lost'
        when s.state = 'cancelled' then 'cancelled'
        when s.attempt <> h.attempt then 'lost'
        when s.state in ('waiting_for_retry', 'error', 'enqueued') and s.error ->> 'type' = 'timed_out' then 'timed_out'
        when s.state <> 'in_progress' or s.lease_expires_at is null then 'lost'
        when d.ends_at <= v_now then 'fail'
        else 'held'
      end)::tasker._held
    from unnest(v_held) h
    left join lateral (select s.* from tasker.steps s where s.step_uuid = h.step_uuid) s on true
    left join lateral (
      select d.namespace, d.timeout_seconds, s.started_at + make_interval(secs => d.timeout_seconds) as ends_at
      from tasker._step_definitions(case when s.template_id is null then '{}' else array[s.template_id] end,
        case when s.template_id is null then '{}' else array[tasker._number_of(h.step_uuid)] end) d
    ) d on true
    order by h.ordinal);

  update tasker.steps s
  set lease_expires_at = c.lease_until, lease_ms = extract(epoch from extend_leases.lease) * 1000
  from unnest(v_verdicts) c
  where s.step_uuid = c.step_uuid and c.verdict = 'held';
  select array_agg(c.step_uuid) as step_uuids, array_agg(tasker._timed_out_error(c.attempt, c.timeout_seconds)) as errors
  into v_late
  from (select distinct on (c.step_uuid) c.* from unnest(v_verdicts) c where c.verdict = 'fail' order by c.step_uuid) c;
  if v_late.step_uuids is not null then
    perform tasker._raise_refused(tasker._time_out(v_late.step_uuids, v_late.errors, v_now, extend_leases.worker_id));
  end if;
  for v_queue in
    select d.queue_name, array_agg(c.msg_id order by c.msg_id) as msg_ids, array_agg(tasker._hidden_until(c.lease_until) order by c.msg_id) as visible_at
    from unnest(v_verdicts) c
    cross join lateral tasker._step_definitions(array[c.template_id], array[tasker._number_of(c.step_uuid)]) d
    where c.verdict = 'held'
    group by d.queue_name
  loop
    perform tasker._raise_refused(tasker._queue_problem(v_queue.queue_name));
    perform tasker._queue_set_visible_at(v_queue.queue_name, v_queue.msg_ids, v_queue.visible_at);
  end loop;
  return query
    select c.step_uuid, case c.verdict when 'fail' then 'timed_out' else c.verdict end from unnest(v_verdicts) c;
end
$function$;
comment on function tasker.extend_leases(text, jsonb, interval) is
  'Extends the leases of steps, given as [{step_uuid, attempt}], to lease from now, never past the step''s timeout; says for each whether it is held, lost, '
  'cancelled or timed_out. An attempt past its timeout is failed here. Errors: 22023, TK022, TK030.';
