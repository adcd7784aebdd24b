-- What an operator asks first: versions, health, queues.

create function tasker.version() returns text
language sql stable parallel safe security definer set search_path = pg_catalog, pg_temp as $function$
  select e.extversion from pg_extension e where e.extname = 'tasker'
$function$;
comment on function tasker.version() is 'Gives the version of the installed extension.';

create function tasker.queue_stats()
returns table (namespace text, queue_name text, visible bigint, hidden bigint, oldest_message_age_seconds double precision, enqueued bigint, in_progress bigint,
  waiting_for_retry bigint, as_of timestamptz)
language plpgsql stable parallel unsafe security definer set search_path = pg_catalog, pg_temp set enable_seqscan = off set enable_sort = off set jit = off as $function$
declare
  v_now timestamptz := tasker._now();
  -- A longer queue isn't counted: its figures are those of the states.
  v_most constant integer := 10000;
  v_namespace record;
  v_seen record;
begin
  as_of := tasker._statistics_as_of();
  for v_namespace in select n.name, n.queue_name from tasker.namespaces n where tasker._may(n.name, 'read') order by n.name loop
    perform tasker._raise_refused(tasker._queue_problem(v_namespace.queue_name));
    execute format(
      'select count(*) as messages, count(*) filter (where m.vt <= $1) as visible, extract(epoch from $1 - min(m.enqueued_at))::double precision as age
       from (select m.vt, m.enqueued_at from pgmq.%I m order by m.vt limit $2) m', 'q_' || v_namespace.queue_name)
    into v_seen using v_now, v_most + 1;
    namespace := v_namespace.name;
    queue_name := v_namespace.queue_name;
    oldest_message_age_seconds := v_seen.age;
    select c.enqueued, c.in_progress, c.waiting_for_retry into queue_stats.enqueued, queue_stats.in_progress, queue_stats.waiting_for_retry
    from tasker._state_counts(v_namespace.name) c;
    if v_seen.messages <= v_most then
      visible := v_seen.visible;
      hidden := v_seen.messages - v_seen.visible;
    else
      visible := greatest(v_seen.visible, enqueued);
      hidden := greatest(v_seen.messages - v_seen.visible, in_progress + waiting_for_retry);
    end if;
    return next;
  end loop;
end
$function$;
comment on function tasker.queue_stats() is
  'Gives for each namespace''s queue how many messages are visible and hidden and the age of the oldest in seconds, and how many of its steps are in the states that have one, as of the time given. '
  'Of more than 10,000 messages the counts are those of the states, and the age is that of the oldest of those visible first. Errors: TK030.';

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
  select string_agg(q.name, ', ' order by q.name) into v_missing
  from tasker.namespaces n
  cross join lateral (values (n.queue_name), (n.events_queue_name)) q(name)
  where q.name is not null and to_regclass('pgmq.' || quote_ident('q_' || q.name)) is null and tasker._may(n.name, 'read');
  return query select 'queues', v_missing is null, coalesce('missing: ' || v_missing || '; maintenance makes them again', 'every namespace has its queue');
  v_unserved := tasker._unserved_handlers(tasker._now());
  return query select 'workers', cardinality(v_unserved) = 0,
    case cardinality(v_unserved) when 0 then 'a live worker serves every handler that is waited for'
      else 'no live worker serves ' || array_to_string(v_unserved[1:10], ', ') || '; tasker.list_workers() shows who lives' end;
  return query select e.name, e.ok, e.detail from tasker._events_health() e;
  return query select e.name, e.ok, e.detail from tasker._domain_events_health(tasker._now()) e;
  return query select s.name, s.ok, s.detail from tasker._statistics_health() s;
  return query select 'schedules', s.ok, s.detail from tasker._schedules_health(tasker._now()) s;
  return query select 'timers', t.ok, t.detail from tasker._timers_health(tasker._now()) t;
  return query select 'maintenance', m.ok, m.detail from tasker._maintenance_health(tasker._now()) m;
end
$function$;
comment on function tasker.health() is 'Says of each part that Tasker needs whether it is well, and if not, what to do.';
