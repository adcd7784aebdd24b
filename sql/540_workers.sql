-- Workers as operators see them: who lives, who serves what. Not here: registering and heartbeats (530).

create type tasker.worker as (
  worker_id text,
  namespaces text[],
  handlers text[],
  language text,
  version text,
  running integer,
  capacity integer,
  registered_at timestamptz,
  last_seen_at timestamptz,
  retired_at timestamptz,
  is_live boolean
);
comment on type tasker.worker is 'A worker as list_workers shows it; a live one is not retired and was heard of within the last minute.';

create function tasker._worker_silence() returns interval
language sql immutable parallel safe set search_path = pg_catalog, pg_temp as $function$
  -- Four heartbeats of the worker library.
  select interval '60 seconds'
$function$;
comment on function tasker._worker_silence() is 'How long a worker may be silent and still counts as live; and how long a visible message may wait before health asks who serves it.';

create function tasker._live_sql_runners() returns integer
language sql stable parallel unsafe set search_path = pg_catalog, pg_temp as $function$
  select count(*)::integer
  from pg_stat_activity a
  where a.datname = current_database() and (a.backend_type = 'tasker sql runner' or a.application_name = 'tasker-server sql steps')
$function$;
comment on function tasker._live_sql_runners() is 'How many sessions are there that run SQL functions of steps in this database, as they name themselves.';

create function tasker._live_workers(p_namespace text, p_handler text, p_now timestamptz) returns integer
language sql stable parallel unsafe set search_path = pg_catalog, pg_temp as $function$
  select case
    when p_handler like 'sql:%' then tasker._live_sql_runners()
    else (
      select count(*)::integer
      from tasker.workers w
      where w.retired_at is null and w.last_seen_at >= p_now - tasker._worker_silence() and p_namespace = any (w.namespaces) and p_handler = any (w.handlers)
    ) end
$function$;
comment on function tasker._live_workers(text, text, timestamptz) is 'How many live workers serve a handler in a namespace; of a SQL function, how many sessions run such.';

create function tasker.list_workers() returns setof tasker.worker
language plpgsql stable parallel unsafe security definer set search_path = pg_catalog, pg_temp as $function$
begin
  return query
    select w.worker_id, r.names, w.handlers, w.language, w.version, w.running, w.capacity, w.registered_at, w.last_seen_at, w.retired_at,
      w.retired_at is null and w.last_seen_at >= tasker._now() - tasker._worker_silence()
    from tasker.workers w
    cross join lateral (select tasker._readable(w.namespaces) as names) r
    where cardinality(r.names) > 0
    order by w.worker_id;
end
$function$;
comment on function tasker.list_workers() is 'Lists the workers that registered, with what they serve, when each was last heard of, and whether it lives.';

create function tasker.retire_worker(worker_id text) returns boolean
language plpgsql volatile parallel unsafe security definer set search_path = pg_catalog, pg_temp as $function$
declare
  v_namespaces text[];
begin
  select w.namespaces into v_namespaces
  from tasker.workers w
  where w.worker_id = retire_worker.worker_id and cardinality(tasker._readable(w.namespaces)) > 0;
  if not found then
    perform tasker._raise('TK004', format('worker %s not found', coalesce(retire_worker.worker_id, 'null')), null, 'tasker.list_workers() shows the workers there are.');
  end if;
  perform tasker._raise_refused(tasker._namespace_problem(v_namespaces, 'operate'));
  update tasker.workers w
  set retired_at = tasker._now()
  where w.worker_id = retire_worker.worker_id and w.retired_at is null;
  return found;
end
$function$;
comment on function tasker.retire_worker(text) is
  'Takes a worker that is gone off the list of the live ones; its leases end by themselves, and one that registers again is back. True when this call retired it, false when it was '
  'retired already. Errors: TK004.';

create function tasker._workers_are_forgotten_after() returns interval
language sql immutable parallel safe set search_path = pg_catalog, pg_temp as $function$
  select interval '7 days'
$function$;
comment on function tasker._workers_are_forgotten_after() is 'How long a worker that is retired or silent stays on the list; long enough to see after a weekend what died on it.';

create function tasker._forget_workers(p_limit integer, p_now timestamptz) returns bigint
language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp as $function$
declare
  v_count bigint;
begin
  delete from tasker.workers w
  where w.worker_id = any (array(
    select w.worker_id from tasker.workers w
    where greatest(w.last_seen_at, w.retired_at) < p_now - tasker._workers_are_forgotten_after()
    order by w.worker_id
    limit p_limit
    for update skip locked));
  get diagnostics v_count = row_count;
  return v_count;
end
$function$;
comment on function tasker._forget_workers(integer, timestamptz) is 'Takes workers off the list that have been retired or silent for long, and says how many; one that registers again is back.';
