-- What an operator asks first: versions, health, queues.

create function tasker.version() returns text
language sql stable parallel safe security definer set search_path = pg_catalog, pg_temp as $function$
  select e.extversion from pg_extension e where e.extname = 'tasker'
$function$;
comment on function tasker.version() is 'Gives the version of the installed extension.';

create function tasker.queue_stats()
returns table (namespace text, queue_name text, visible bigint, hidden bigint, oldest_message_age_seconds double precision)
language plpgsql stable parallel unsafe security definer set search_path = pg_catalog, pg_temp as $function$
declare
  v_now timestamptz := tasker._now();
  v_namespace record;
begin
  for v_namespace in select n.name, n.queue_name from tasker.namespaces n where tasker._may(n.name, 'read') order by n.name loop
    perform tasker._raise_refused(tasker._queue_problem(v_namespace.queue_name));
    return query execute format(
      'select $1::text, $2::text, count(*) filter (where m.vt <= $3), count(*) filter (where m.vt > $3),
         extract(epoch from $3 - min(m.enqueued_at))::double precision
       from pgmq.%I m', 'q_' || v_namespace.queue_name)
    using v_namespace.name, v_namespace.queue_name, v_now;
  end loop;
end
$function$;
comment on function tasker.queue_stats() is
  'Gives for each namespace''s queue how many messages are visible and hidden and the age of the oldest in seconds; its cost follows the queues, not the history. Errors: TK030.';

create function tasker._unserved_handlers(p_now timestamptz) returns text[]
language plpgsql stable parallel unsafe set search_path = pg_catalog, pg_temp as $function$
declare
  v_namespace record;
  v_unserved text[];
  v_found text[] := '{}';
begin
  for v_namespace in select n.name, n.queue_name from tasker.namespaces n where n.paused_at is null and tasker._may(n.name, 'read') order by n.name loop
    continue when to_regclass(format('pgmq.%I', 'q_' || v_namespace.queue_name)) is null;
    -- Served messages go, so that those which nobody serves come to the front: a bounded look there finds them, however long the queue is.
    execute format(
      'select array_agg(format(''%%s (namespace %%s)'', h.handler, $2) order by h.handler)
       from (
         select distinct m.handler
         from (select m.message ->> ''handler'' as handler from pgmq.%I m where m.vt <= $1 order by m.vt limit 1000) m
         where m.handler is not null
       ) h
       where tasker._live_workers($2, h.handler, $3) = 0', 'q_' || v_namespace.queue_name)
    into v_unserved
    using p_now - tasker._worker_silence(), v_namespace.name, p_now;
    v_found := v_found || coalesce(v_unserved, '{}');
  end loop;
  return v_found;
end
$function$;
comment on function tasker._unserved_handlers(timestamptz) is
  'The handlers for which messages have been visible for longer than a worker may be silent, and that no live worker serves; looks at the oldest thousand of each queue.';

create function tasker.health() returns table (name text, ok boolean, detail text)
language plpgsql stable parallel unsafe security definer set search_path = pg_catalog, pg_temp as $function$
declare
  v_missing text;
  v_unserved text[];
begin
  return query select 'database', not pg_is_in_recovery(),
    case when pg_is_in_recovery() then 'this server is a standby: tasks can be read, not changed' else 'PostgreSQL ' || current_setting('server_version') end;
  return query
    select 'pgmq', to_regprocedure('pgmq.send(text,jsonb,jsonb)') is not null,
      case when to_regprocedure('pgmq.send(text,jsonb,jsonb)') is not null then 'PGMQ ' || coalesce(tasker._pgmq_version(), '(of unknown version)')
        else 'PGMQ 1.5 or newer is missing: run tasker-ctl db init' end;
  select string_agg(n.queue_name, ', ' order by n.queue_name) into v_missing
  from tasker.namespaces n
  where to_regclass(format('pgmq.%I', 'q_' || n.queue_name)) is null and tasker._may(n.name, 'read');
  return query select 'queues', v_missing is null, coalesce('missing: ' || v_missing || '; maintenance makes them again', 'every namespace has its queue');
  v_unserved := tasker._unserved_handlers(tasker._now());
  return query select 'workers', cardinality(v_unserved) = 0,
    case cardinality(v_unserved) when 0 then 'a live worker serves every handler that is waited for'
      else 'no live worker serves ' || array_to_string(v_unserved[1:10], ', ') || '; tasker.list_workers() shows who lives' end;
  return query select e.name, e.ok, e.detail from tasker._events_health() e;
  return query select 'maintenance', m.ok, m.detail from tasker._maintenance_health(tasker._now()) m;
end
$function$;
comment on function tasker.health() is 'Says of each part that Tasker needs whether it is well, and if not, what to do.';
