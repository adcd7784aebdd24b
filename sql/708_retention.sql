-- Retention: finished tasks leave with their range of partitions, never row by row. What stays of a range that is due is copied to fresh tables, which take the old ones' place.
-- Not here: making partitions (050), when retention runs (700).
--
-- Copying takes long where many stay, so it holds no lock on a table: the rows of tasks with nothing running are locked instead, and such a task changes only with its row. What is left
-- (running, just being changed, or revived since) is copied when nobody can write to the range any more; the strongest locks are held for the exchange alone.

create function tasker._retention(p_now timestamptz) returns table (template_id integer, leaves_before timestamptz)
language sql stable parallel unsafe set search_path = pg_catalog, pg_temp as $function$
  select x.template_id, case when d.days = 0 then '-infinity' else p_now - d.days * interval '24 hours' end
  from tasker.templates x
  join tasker.namespaces n on n.namespace_id = x.namespace_id
  cross join lateral (
    select coalesce((x.compiled -> 'lifecycle' ->> 'retention_days')::integer,
      case when n.settings ->> 'retention_days' ~ '^[0-9]{1,5}$' then (n.settings ->> 'retention_days')::integer end, tasker._retention_days()) as days
  ) d
$function$;
comment on function tasker._retention(timestamptz) is
  'The time until which tasks of each template must have ended, and their range too, for them to leave: by the template, else its namespace, else tasker.retention_days.';

create function tasker._due_range(p_now timestamptz) returns table (suffix text, starts_on date, ends_on date)
language sql stable parallel unsafe set search_path = pg_catalog, pg_temp as $function$
  select r.suffix, r.starts_on, r.ends_on
  from tasker._partition_ranges() r
  left join tasker.kept_ranges k on k.suffix = r.suffix
  where tasker._retention_days() > 0
    and r.ends_on::timestamp at time zone 'UTC' <= p_now - tasker._retention_days() * interval '24 hours'
    and (k.look_again_at is null or k.look_again_at <= p_now)
  order by r.starts_on
  limit 1
$function$;
comment on function tasker._due_range(timestamptz) is 'The oldest range that is to be looked at: all its tasks were created longer ago than tasker.retention_days.';

create function tasker._tasks_by_retention(p_suffix text, p_ends_on date, p_now timestamptz, p_leave boolean, p_limit bigint default null)
returns table (task_uuid uuid)
language plpgsql stable parallel unsafe set search_path = pg_catalog, pg_temp as $function$
begin
  return query execute format($query$
    select t.task_uuid
    from tasker.%I t
    join tasker._retention($2) r on r.template_id = t.template_id
    left join (select distinct d.task_uuid from tasker.%I d where d.resolution = 'pending') d on d.task_uuid = t.task_uuid
    where (t.finished_at is not null and t.finished_at <= r.leaves_before and $1::timestamp at time zone 'UTC' <= r.leaves_before and d.task_uuid is null) = $3
    limit $4
    $query$, 'tasks_' || p_suffix, 'dead_letters_' || p_suffix)
  using p_ends_on, p_now, p_leave, p_limit;
end
$function$;
comment on function tasker._tasks_by_retention(text, date, timestamptz, boolean, bigint) is
  'The tasks of a range that leave, or those that stay: they have not ended, or not long enough ago, or have an open dead letter.';

create function tasker._keep_tasks(p_suffix text, p_task_uuids uuid[], p_at_rest boolean) returns void
language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp as $function$
declare
  v_copied uuid[];
  v_table record;
begin
  execute format('with copied as (
      insert into tasker.%I
      select t.*
      from unnest($1) u(task_uuid)
      cross join lateral (select t.* from tasker.%I t where t.task_uuid = u.task_uuid %s) t
      returning task_uuid
    )
    select array_agg(c.task_uuid) from copied c', 'tasks_' || p_suffix || '_kept', 'tasks_' || p_suffix,
    case when p_at_rest then 'and t.running = 0 for no key update skip locked' end)
  into v_copied using p_task_uuids;
  -- A task's own key comes before those of its steps.
  for v_table in
    values ('steps', 'step_uuid'), ('task_transitions', 'task_uuid'), ('step_transitions', 'step_uuid')
  loop
    execute format('insert into tasker.%1$I
      select o.*
      from unnest($1) u(task_uuid)
      cross join lateral (select o.* from tasker.%2$I o where o.%3$I >= u.task_uuid and o.%3$I <= tasker._last_step_uuid(u.task_uuid)) o',
      v_table.column1 || '_' || p_suffix || '_kept', v_table.column1 || '_' || p_suffix, v_table.column2)
    using v_copied;
  end loop;
end
$function$;
comment on function tasker._keep_tasks(text, uuid[], boolean) is
  'Copies tasks with their steps and history to the fresh tables of their range; at rest only those with nothing running, whose rows it locks, and none that somebody else has locked.';

create function tasker._keep_dead_letters(p_suffix text, p_locking text) returns void
language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp as $function$
begin
  execute format('insert into tasker.%1$I
    select d.*
    from tasker.%2$I d
    where exists (select from tasker.%3$I t where t.task_uuid = d.task_uuid)
      and not exists (select from tasker.%1$I k where k.task_uuid = d.task_uuid and k.dead_letter_uuid = d.dead_letter_uuid) %4$s',
    'dead_letters_' || p_suffix || '_kept', 'dead_letters_' || p_suffix, 'tasks_' || p_suffix || '_kept', p_locking);
end
$function$;
comment on function tasker._keep_dead_letters(text, text) is 'Copies the dead letters of the copied tasks that have not been copied yet.';

create function tasker._export_leaving(p_suffix text, p_starts_on date, p_ends_on date, p_now timestamptz) returns void
language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp as $function$
declare
  v_function text;
  v_table record;
begin
  if tasker._export_function() is null then
    return;
  end if;
  select format('%I.%I', n.nspname, p.proname) into v_function
  from pg_proc p
  join pg_namespace n on n.oid = p.pronamespace
  where p.oid = to_regprocedure(tasker._export_function() || '(regclass, timestamptz, timestamptz)');
  if v_function is null then
    perform tasker._raise('55000', format('tasker.export_function names no function %s(regclass, timestamptz, timestamptz)', tasker._export_function()));
  end if;
  for v_table in
    select t.key, format('%s_%s_leaving', t.name, p_suffix) as view, t.name || case when t.is_partitioned then '_' || p_suffix else '' end as source
    from (values ('tasks', 'task_uuid', true), ('steps', 'step_uuid', true), ('task_transitions', 'task_uuid', true), ('step_transitions', 'step_uuid', true),
      ('dead_letters', 'task_uuid', true), ('signals', 'task_uuid', false), ('child_tasks', 'task_uuid', false)) t(name, key, is_partitioned)
  loop
    execute format('create view tasker.%1$I as
      select o.* from tasker.%2$I o
      where o.%3$I >= %4$L and o.%3$I < %5$L
        and exists (select from tasker._tasks_by_retention(%6$L, %7$L, %8$L, true) l where l.task_uuid = tasker._task_of(o.%3$I))',
      v_table.view, v_table.source, v_table.key, tasker._partition_bound(p_starts_on), tasker._partition_bound(p_ends_on), p_suffix, p_ends_on, p_now);
    execute format('select %s($1, $2, $3)', v_function)
    using format('tasker.%I', v_table.view)::regclass, p_starts_on::timestamp at time zone 'UTC', p_ends_on::timestamp at time zone 'UTC';
    execute format('drop view tasker.%I', v_table.view);
  end loop;
end
$function$;
comment on function tasker._export_leaving(text, date, date, timestamptz) is
  'Gives each table''s rows that leave, as a view, to the function that tasker.export_function names, with the range (55000 without such a function).';

create function tasker._exchange_partitions(p_suffix text, p_starts_on date, p_ends_on date) returns boolean
language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp as $function$
declare
  v_kept boolean;
  v_table record;
  v_index name;
begin
  for v_table in select t.table_name from tasker._partitioned_tables() t loop
    execute format('lock table only tasker.%I, tasker.%I in access exclusive mode', v_table.table_name, v_table.table_name || '_' || p_suffix);
  end loop;
  execute format('select exists (select from tasker.%I)', 'tasks_' || p_suffix || '_kept') into v_kept;
  for v_table in select t.table_name || '_' || p_suffix as name from tasker._partitioned_tables() t loop
    execute format('drop table tasker.%I', v_table.name);
    if not v_kept then
      execute format('drop table tasker.%I', v_table.name || '_kept');
      continue;
    end if;
    execute format('alter table tasker.%I rename to %I', v_table.name || '_kept', v_table.name);
    for v_index in
      select c.relname from pg_index x join pg_class c on c.oid = x.indexrelid where x.indrelid = format('tasker.%I', v_table.name)::regclass
    loop
      execute format('alter index tasker.%I rename to %I', v_index, replace(v_index, p_suffix || '_kept', p_suffix));
    end loop;
  end loop;
  if v_kept then
    perform tasker._attach_partitions(p_suffix, p_starts_on, p_ends_on);
    for v_table in select t.table_name || '_' || p_suffix as name from tasker._partitioned_tables() t loop
      execute format('alter table tasker.%I drop constraint row_is_in_its_range', v_table.name);
    end loop;
  end if;
  return v_kept;
end
$function$;
comment on function tasker._exchange_partitions(text, date, date) is
  'Drops the partitions of a range and puts the fresh tables in their place, under the strongest locks; true when there is something in them, else they go too.';

create function tasker._let_leave(p_suffix text, p_starts_on date, p_ends_on date, p_now timestamptz, out dropped boolean, out is_kept boolean)
language plpgsql volatile parallel unsafe
set search_path = pg_catalog, pg_temp set lock_timeout = '200ms' set enable_seqscan = on set enable_hashjoin = on set enable_material = on as $function$
declare
  -- More than this are too many to copy while others wait.
  v_most_running constant bigint := 10000;
  v_batch constant integer := 10000;
  v_table record;
  v_task_uuids uuid[];
begin
  dropped := exists (select from tasker._tasks_by_retention(p_suffix, p_ends_on, p_now, true, 1));
  execute format('select not $1 and exists (select from tasker.%I)', 'tasks_' || p_suffix) into is_kept using dropped;
  if is_kept then
    return;
  end if;
  dropped := true;
  perform tasker._make_partition_tables(p_suffix || '_kept');
  for v_table in
    values ('tasks', 'task_uuid'), ('steps', 'step_uuid'), ('task_transitions', 'task_uuid'), ('step_transitions', 'step_uuid'), ('dead_letters', 'task_uuid')
  loop
    -- Tells PostgreSQL that it needn't read the rows again to attach the table.
    execute format('alter table tasker.%1$I add constraint row_is_in_its_range check (%2$I >= %3$L and %2$I < %4$L)', v_table.column1 || '_' || p_suffix || '_kept',
      v_table.column2, tasker._partition_bound(p_starts_on), tasker._partition_bound(p_ends_on));
  end loop;

  for v_task_uuids in
    select array_agg(t.task_uuid)
    from (
      select s.task_uuid, (row_number() over (order by s.task_uuid) - 1) / v_batch as batch
      from tasker._tasks_by_retention(p_suffix, p_ends_on, p_now, false) s
    ) t
    group by t.batch
    order by t.batch
  loop
    perform tasker._keep_tasks(p_suffix, v_task_uuids, true);
  end loop;
  perform tasker._keep_dead_letters(p_suffix, 'for no key update of d skip locked');
  perform tasker._export_leaving(p_suffix, p_starts_on, p_ends_on, p_now);

  execute format('lock table tasker.%I, tasker.%I in share mode', 'tasks_' || p_suffix, 'dead_letters_' || p_suffix);
  execute format('select array_agg(s.task_uuid) from tasker._tasks_by_retention($1, $2, $3, false) s
    where not exists (select from tasker.%I k where k.task_uuid = s.task_uuid)', 'tasks_' || p_suffix || '_kept')
  into v_task_uuids using p_suffix, p_ends_on, p_now;
  if cardinality(v_task_uuids) > v_most_running then
    perform tasker._raise('55000', format('%s tasks of the range are running', cardinality(v_task_uuids)));
  end if;
  execute format('lock table tasker.%I, tasker.%I, tasker.%I in share mode', 'steps_' || p_suffix, 'task_transitions_' || p_suffix, 'step_transitions_' || p_suffix);
  perform tasker._keep_tasks(p_suffix, v_task_uuids, false);
  perform tasker._keep_dead_letters(p_suffix, '');
  execute format('delete from tasker.idempotency_keys i
    where i.task_uuid >= $1 and i.task_uuid < $2 and not exists (select from tasker.%I k where k.task_uuid = i.task_uuid)', 'tasks_' || p_suffix || '_kept')
  using tasker._partition_bound(p_starts_on), tasker._partition_bound(p_ends_on);
  execute format('delete from tasker.signals g
    where g.task_uuid >= $1 and g.task_uuid < $2 and not exists (select from tasker.%I k where k.task_uuid = g.task_uuid)', 'tasks_' || p_suffix || '_kept')
  using tasker._partition_bound(p_starts_on), tasker._partition_bound(p_ends_on);
  execute format('delete from tasker.child_tasks c
    where c.task_uuid >= $1 and c.task_uuid < $2 and not exists (select from tasker.%I k where k.task_uuid = c.task_uuid)', 'tasks_' || p_suffix || '_kept')
  using tasker._partition_bound(p_starts_on), tasker._partition_bound(p_ends_on);
  perform tasker._fold_leaving(p_suffix);
  is_kept := tasker._exchange_partitions(p_suffix, p_starts_on, p_ends_on);
end
$function$;
comment on function tasker._let_leave(text, date, date, timestamptz) is
  'Lets the tasks of a range leave that may, with all that is theirs: dropped says whether there were any, is_kept whether others stay (55P03 when a lock can''t be had, 55000).';

create function tasker._look_again(p_suffix text, p_at timestamptz, p_problem text) returns void
language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp as $function$
begin
  insert into tasker.kept_ranges as k (suffix, look_again_at, problem) values (p_suffix, p_at, p_problem)
  on conflict on constraint kept_ranges_pkey do update set look_again_at = excluded.look_again_at, problem = excluded.problem;
end
$function$;
comment on function tasker._look_again(text, timestamptz, text) is 'Notes when a range that is still there is to be looked at again.';

create function tasker._drop_partitions(p_now timestamptz) returns bigint
language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp as $function$
declare
  v_most_unfolded constant bigint := 1000000;
  v_range record;
  v_done record;
  v_code text;
  v_problem text;
begin
  select r.* into v_range from tasker._due_range(p_now) r;
  -- An older snapshot would not show all that has to be copied.
  if not found or current_setting('transaction_isolation') <> 'read committed' then
    return 0;
  end if;
  -- What leaves is folded into the statistics first: in the exchange only what little has not been.
  if tasker._statistics_lag() > v_most_unfolded then
    return 0;
  end if;
  begin
    v_done := tasker._let_leave(v_range.suffix, v_range.starts_on, v_range.ends_on, p_now);
  exception
    -- Leaving the block takes everything back. Maintenance goes on, whatever is in the way of retention.
    when others then
      get stacked diagnostics v_code = returned_sqlstate, v_problem = message_text;
      if v_code in ('55P03', '40P01') then
        perform tasker._look_again(v_range.suffix, p_now + interval '1 minute', v_problem);
      else
        raise warning 'tasker: the partitions % stay for another hour: %', v_range.suffix, v_problem;
        perform tasker._look_again(v_range.suffix, p_now + interval '1 hour', v_problem);
      end if;
      return 0;
  end;
  if v_done.is_kept then
    perform tasker._look_again(v_range.suffix, p_now + interval '1 day', null);
  else
    delete from tasker.kept_ranges k where k.suffix = v_range.suffix;
  end if;
  return v_done.dropped::integer;
end
$function$;
comment on function tasker._drop_partitions(timestamptz) is
  'Drops the partitions of the oldest range that is due, or exchanges them for ones that hold only what stays; says how many ranges that were, none or one. A range of which something stays is '
  'looked at once a day, one whose locks could not be had a minute later, one that met another problem an hour later.';
