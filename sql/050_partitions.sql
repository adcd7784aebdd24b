-- The partitions of the tables that grow with the work: one range of keys, so one span of time, has one partition in each of them, and leaves by being dropped.
-- A partition's name says its range: steps_p20260105_20260112 holds the steps of tasks created from January 5 to 11, UTC. The library addresses partitions by that name.
-- Not here: retention, which drops them (708).

create function tasker._partitioned_tables()
returns table (table_name text, key_column text, storage text, indexes text[])
language sql immutable parallel safe set search_path = pg_catalog, pg_temp as $function$
  values
    -- An index on what changes in a task or a step would make each change write every index anew.
    -- Room on each page for all versions of its rows, two of a task and three of a step, each larger than the one before: an old snapshot keeps them all.
    ('tasks', 'task_uuid', 'fillfactor = 45', '{}'::text[]),
    ('steps', 'step_uuid', 'fillfactor = 24', '{}'),
    -- task_history; list_events
    ('task_transitions', null, 'fillfactor = 100', array['create index %1$I on tasker.%2$I (task_uuid)',
      'create index %1$I on tasker.%2$I using brin (seq) with (pages_per_range = 32, autosummarize = on); '
        -- An empty table's first pages count as summarized: each row on them would be written to the index.
        'select brin_desummarize_range(''tasker.%1$I''::regclass, 0)']),
    -- step_history, and a whole task's steps by range; list_events
    ('step_transitions', null, 'fillfactor = 100', array['create index %1$I on tasker.%2$I (step_uuid)',
      'create index %1$I on tasker.%2$I using brin (seq) with (pages_per_range = 32, autosummarize = on); '
        'select brin_desummarize_range(''tasker.%1$I''::regclass, 0)']),
    -- one open entry a task, and one a step; one by its key, and lists; those of a task, or of one of its steps: on the task alone it would be as good to the planner as the first one,
    -- and lead through those of all the task's instances
    ('dead_letters', null, 'fillfactor = 100', array['create unique index %1$I on tasker.%2$I (task_uuid, coalesce(step_uuid, task_uuid)) where resolution = ''pending''',
      'create unique index %1$I on tasker.%2$I (dead_letter_uuid)', 'create index %1$I on tasker.%2$I (task_uuid, coalesce(step_uuid, task_uuid))'])
$function$;
comment on function tasker._partitioned_tables() is 'The tables that are partitioned by key, with the primary key and the indexes that each partition has.';

create function tasker._partition_bound(p_day date) returns uuid
language sql immutable parallel safe set search_path = pg_catalog, pg_temp as $function$
  -- The first 48 bits of a UUIDv7 are milliseconds since 1970 (RFC 9562, section 5.7).
  select (lpad(to_hex((p_day - date '1970-01-01')::bigint * 86400000), 12, '0') || repeat('0', 20))::uuid
$function$;
comment on function tasker._partition_bound(date) is 'The least key of tasks created on a day (UTC) or later.';

create function tasker._partition_ranges() returns table (suffix text, starts_on date, ends_on date)
language sql stable parallel unsafe set search_path = pg_catalog, pg_temp as $function$
  select p.suffix, to_date(substr(p.suffix, 2, 8), 'YYYYMMDD'), to_date(substr(p.suffix, 11, 8), 'YYYYMMDD')
  from pg_inherits i
  join pg_class c on c.oid = i.inhrelid
  cross join lateral (select substring(c.relname from '^steps_(p\d{8}_\d{8})$') as suffix) p
  where i.inhparent = 'tasker.steps'::regclass and p.suffix is not null
$function$;
comment on function tasker._partition_ranges() is 'The ranges of keys that have partitions, by the names of those.';

create function tasker._close_row_types() returns void
language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp as $function$
declare
  v_type text;
begin
  for v_type in
    select t.typname
    from pg_type t
    join pg_class c on c.oid = t.typrelid
    where t.typnamespace = 'tasker'::regnamespace and c.relkind in ('r', 'p') and t.typacl is null
    order by t.oid
  loop
    execute format('revoke all on type tasker.%I from public', v_type);
  end loop;
end
$function$;
comment on function tasker._close_row_types() is
  'Takes the row types of all tables from PUBLIC: a stranger''s column of such a type would keep a partition from being dropped and a table from being changed. Not done by the '
  'install script: pg_dump warns of rights on row types that an extension gave.';

create function tasker._require_same_partitions(p_key uuid default null) returns void
language plpgsql stable parallel unsafe set search_path = pg_catalog, pg_temp as $function$
declare
  v_table text;
begin
  -- A name leads to the table of now, a read of the catalogue to that of the caller's snapshot.
  select c.relname into v_table
  from tasker._partition_ranges() r
  cross join lateral (
    select c.oid, c.relname
    from pg_class c
    where c.relname = ('tasks_' || r.suffix)::name and c.relnamespace = 'tasker'::regnamespace
    -- A look-up for each range: the catalogue has many tables.
    offset 0
  ) c
  where (p_key is null or p_key >= tasker._partition_bound(r.starts_on) and p_key < tasker._partition_bound(r.ends_on))
    and c.oid is distinct from to_regclass(format('tasker.%I', c.relname));
  if found then
    perform tasker._raise('40001', format('partition %s was exchanged while this was being read', v_table), 'Retention took old tasks out of it.', 'Try again.');
  end if;
end
$function$;
comment on function tasker._require_same_partitions(uuid) is
  'For reads that found nothing, or not all: refuses a snapshot older than an exchange of the partitions of a key, or of any (40001). Rows that stayed are in other tables then, where it can''t see them.';

create function tasker._make_partition_tables(p_suffix text) returns void
language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp as $function$
declare
  v_table record;
  v_index text;
  v_count integer;
begin
  for v_table in select t.*, t.table_name || '_' || p_suffix as name from tasker._partitioned_tables() t loop
    execute format('create table tasker.%I (like tasker.%I including defaults including constraints) with (%s)', v_table.name, v_table.table_name,
      v_table.storage);
    if v_table.key_column is not null then
      execute format('alter table tasker.%I add constraint %I primary key (%I)', v_table.name, v_table.name || '_pkey', v_table.key_column);
    end if;
    v_count := 0;
    foreach v_index in array v_table.indexes loop
      v_count := v_count + 1;
      execute format(v_index, v_table.name || '_idx' || v_count, v_table.name);
    end loop;
  end loop;
  perform tasker._close_row_types();
end
$function$;
comment on function tasker._make_partition_tables(text) is 'Makes the tables of one range with their keys and indexes, attached to nothing yet.';

create function tasker._attach_partitions(p_suffix text, p_starts_on date, p_ends_on date) returns void
language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp as $function$
declare
  v_table record;
begin
  for v_table in select t.table_name from tasker._partitioned_tables() t loop
    execute format('alter table tasker.%I attach partition tasker.%I for values from (%L) to (%L)', v_table.table_name,
      v_table.table_name || '_' || p_suffix, tasker._partition_bound(p_starts_on), tasker._partition_bound(p_ends_on));
  end loop;
end
$function$;
comment on function tasker._attach_partitions(text, date, date) is 'Makes the tables of one range partitions of it.';

create function tasker._make_partitions(p_at timestamptz, out suffix text, out starts_on date, out ends_on date)
language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp as $function$
declare
  v_day date := (p_at at time zone 'UTC')::date;
  v_days integer := tasker._partition_days();
begin
  -- One session makes them; who comes second waits and finds them made.
  perform pg_advisory_xact_lock(1414742859, 2);
  select r.suffix, r.starts_on, r.ends_on into suffix, starts_on, ends_on
  from tasker._partition_ranges() r where r.starts_on <= v_day and r.ends_on > v_day;
  if found then
    return;
  end if;
  -- Whole spans since 1970, cut where a neighbour of another length is in the way.
  starts_on := date '1970-01-01' + (v_day - date '1970-01-01') / v_days * v_days;
  ends_on := starts_on + v_days;
  select greatest(_make_partitions.starts_on, max(r.ends_on) filter (where r.ends_on <= v_day)),
    least(_make_partitions.ends_on, min(r.starts_on) filter (where r.starts_on > v_day))
  into starts_on, ends_on
  from tasker._partition_ranges() r;
  suffix := format('p%s_%s', to_char(starts_on, 'YYYYMMDD'), to_char(ends_on, 'YYYYMMDD'));
  -- Made since this transaction's snapshot was taken, so that the list of ranges doesn't show it; or detached and kept.
  if to_regclass(format('tasker.%I', 'steps_' || suffix)) is not null then
    if not exists (select from pg_partition_ancestors(to_regclass(format('tasker.%I', 'steps_' || suffix))) a where a.relid = 'tasker.steps'::regclass) then
      perform tasker._raise('55000', format('the partitions %s were detached and are still there', suffix), null, 'Drop those tables, or attach them again.');
    end if;
    return;
  end if;

  perform tasker._make_partition_tables(suffix);
  perform tasker._attach_partitions(suffix, starts_on, ends_on);
end
$function$;
comment on function tasker._make_partitions(timestamptz) is
  'Makes the partitions for tasks created at a time where there are none, tasker.partition_days long, and gives their range and the suffix of their names.';

create function tasker._make_partitions_ahead(p_now timestamptz) returns bigint
language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp as $function$
declare
  v_today date := (p_now at time zone 'UTC')::date;
  v_ends_on date;
begin
  select r.ends_on into v_ends_on from tasker._partition_ranges() r where r.starts_on <= v_today and r.ends_on > v_today;
  if v_ends_on is null then
    perform tasker._make_partitions(p_now);
    return 1;
  elsif v_today >= v_ends_on - 1 and not exists (select from tasker._partition_ranges() r where r.starts_on = v_ends_on) then
    perform tasker._make_partitions(v_ends_on::timestamp at time zone 'UTC');
    return 1;
  end if;
  return 0;
end
$function$;
comment on function tasker._make_partitions_ahead(timestamptz) is
  'Makes the partitions for tasks created now, and on the last day of a range those of the next, where there are none, and says how many ranges it made.';
