-- Namespaces and their PGMQ queues: is PGMQ there, is it new enough, does the namespace's queue exist.
-- Not here: the statements on a queue's table, which are prepared and kept by the library (queue/), and what a claim decides (500).

create function tasker._pgmq_version() returns text
language plpgsql stable parallel unsafe set search_path = pg_catalog, pg_temp as $function$
declare
  v_version text;
begin
  select e.extversion into v_version from pg_extension e where e.extname = 'pgmq';
  if v_version is null and to_regclass('pgmq.__pgmq_migrations') is not null then
    execute 'select m.version from (select to_jsonb(m) as row from pgmq.__pgmq_migrations m) x
      cross join lateral (select coalesce(x.row ->> ''to_version'', x.row ->> ''version'') as version) m
      order by string_to_array(regexp_replace(m.version, ''[^0-9.].*$'', ''''), ''.'')::int[] desc nulls last limit 1'
      into v_version;
  end if;
  return v_version;
end
$function$;
comment on function tasker._pgmq_version() is 'PGMQ''s version, as extension or as plain SQL; null when it can''t be told.';

create function tasker._pgmq_problem() returns text[]
language plpgsql stable parallel unsafe set search_path = pg_catalog, pg_temp as $function$
begin
  if to_regprocedure('pgmq.create(text)') is null or to_regclass('pgmq.meta') is null then
    return array['TK030', 'PGMQ is missing', 'There is no function pgmq.create(text) in this database.',
      'Run tasker-ctl db init, or install PGMQ 1.5 or newer: create extension pgmq, or its plain SQL in the schema pgmq.'];
  end if;
  -- 1.5 brought headers: send(text, jsonb, jsonb, …).
  if to_regprocedure('pgmq.send(text,jsonb,jsonb)') is null then
    return array['TK030', format('PGMQ %s is too old', coalesce(tasker._pgmq_version(), '(of unknown version)')),
      'Queues of this version have no headers.', 'Update PGMQ to 1.5 or newer.'];
  end if;
  return null;
end
$function$;
comment on function tasker._pgmq_problem() is 'The refusal of a database without PGMQ 1.5 or newer (TK030); null when it is there.';

create function tasker._make_queue(p_queue_name text) returns void
language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp as $function$
begin
  perform tasker._raise_refused(tasker._pgmq_problem());
  if to_regclass(format('pgmq.%I', 'q_' || p_queue_name)) is null then
    perform pgmq.create(p_queue_name);
  end if;
  -- A message that is claimed, and replaced by those of three further steps, stays on its page, where only what changes is logged: there is room for all of them, while an old snapshot keeps
  -- the ones before.
  execute format('alter table pgmq.%I set (fillfactor = 22)', 'q_' || p_queue_name);
  -- Claims walk the messages by the time from which they are visible, by PGMQ's own index; only those of another priority than 0 are in this one. It is on the headers, so that a row
  -- that takes over another message changes nothing that is indexed.
  execute format(
    $index$create index if not exists %I on pgmq.%I
      ((case when headers ->> 'priority' ~ '^-?[0-9]{1,9}$' then (headers ->> 'priority')::integer end) desc, vt) where headers ->> 'priority' <> '0'$index$,
    'q_' || p_queue_name || '_headers_idx', 'q_' || p_queue_name);
  if exists (select from tasker.sql_namespaces s join tasker.namespaces n on n.namespace_id = s.namespace_id where n.queue_name = p_queue_name) then
    perform tasker._make_sql_index(p_queue_name);
  end if;
end
$function$;
comment on function tasker._make_queue(text) is 'Makes a queue with the index that claims walk, where either is missing (TK030).';

create function tasker._make_namespace(p_name text) returns integer
language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp as $function$
declare
  v_namespace_id integer;
  v_queue_name text := 'worker_' || p_name || '_queue';
begin
  select n.namespace_id into v_namespace_id from tasker.namespaces n where n.name = p_name;
  if v_namespace_id is null then
    perform tasker._raise_refused(tasker._pgmq_problem());
    insert into tasker.namespaces as n (name, queue_name, created_at)
    values (p_name, v_queue_name, tasker._now())
    on conflict on constraint namespace_name_is_unique do nothing
    returning n.namespace_id into v_namespace_id;
    if v_namespace_id is null then
      select n.namespace_id into v_namespace_id from tasker.namespaces n where n.name = p_name;
    end if;
  end if;
  if to_regclass(format('pgmq.%I', 'q_' || v_queue_name)) is null then
    perform tasker._make_queue(v_queue_name);
  end if;
  perform tasker._make_partitions_ahead(tasker._now());
  return v_namespace_id;
end
$function$;
comment on function tasker._make_namespace(text) is 'Finds or makes a namespace and its queue (TK030 without PGMQ).';

create function tasker._queue_problem(p_queue_name text) returns text[]
language plpgsql stable parallel unsafe set search_path = pg_catalog, pg_temp as $function$
begin
  if to_regclass(format('pgmq.%I', 'q_' || p_queue_name)) is not null then
    return null;
  end if;
  return coalesce(tasker._pgmq_problem(), array['TK030', format('queue %s is missing', p_queue_name),
    'Its table is not in the schema pgmq.', 'Run select tasker.run_maintenance(), which makes it again and fills it.']);
end
$function$;
comment on function tasker._queue_problem(text) is 'The refusal to go on without the namespace''s queue (TK030); null when it is there.';
