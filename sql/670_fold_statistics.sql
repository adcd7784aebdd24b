-- How statistics come about: settled rows of history are folded into buckets of figures, counts of states and lists of the slowest. Nothing is written for them on the hot path.
-- Not here: reading them (675).
--
-- A transaction has its id before it draws a number (seq) for a history row. So of a pair, the last number drawn and the transaction id given out after that, all rows up to the
-- number are of transactions before the id: when those have all ended, nothing more comes up to it. Settled rows are folded in the order of seq, each once: how far is all that is
-- stored, and it stays true after a restore. Why so: docs/decisions/0018.

create function tasker._last_drawn_seq() returns bigint
language sql stable parallel unsafe set search_path = pg_catalog, pg_temp as $function$
  select s.last_value - (not s.is_called)::integer from tasker.transitions_seq s
$function$;
comment on function tasker._last_drawn_seq() is 'The last number that was drawn for a history row; on a standby it may be up to 32 too high.';

create function tasker._transitions_read(p_after bigint, p_to bigint, p_task_uuids uuid[])
returns table (template_id integer, number integer, key uuid, attempt integer, began_at timestamptz, at timestamptz, hour timestamptz, to_state text, leaves text, enters text,
  starts bigint, retries bigint, run_us bigint, wait_us bigint)
language plpgsql stable parallel unsafe
set search_path = pg_catalog, pg_temp set enable_seqscan = off set enable_bitmapscan = on set enable_hashjoin = on set enable_material = on set jit = off
set plan_cache_mode = force_generic_plan as $function$
begin
  return query
    with steps_read as materialized (
      select h.step_uuid, h.seq, h.at, h.attempt, h.path
      from tasker.step_transitions h
      where h.seq > p_after and h.seq <= p_to and (p_task_uuids is null or tasker._task_of(h.step_uuid) = any (p_task_uuids))
    ), tasks_read as materialized (
      select h.task_uuid, h.at, h.path
      from tasker.task_transitions h
      where h.seq > p_after and h.seq <= p_to and (p_task_uuids is null or h.task_uuid = any (p_task_uuids))
    ), owners as materialized (
      select t.task_uuid, t.template_id, t.started_at
      from (select tasker._task_of(s.step_uuid) from steps_read s union select t.task_uuid from tasks_read t) k(task_uuid)
      -- The limit keeps this a look-up for each, whatever the planner thinks of the numbers.
      cross join lateral (select t.task_uuid, t.template_id, t.started_at from tasker.tasks t where t.task_uuid = k.task_uuid limit 1) t
    ), step_paths as materialized (
      -- There are a few dozen paths, whatever the number of rows.
      select p.path, u.*, tasker._gauged(u.from_state) as leaves, tasker._gauged(u.to_state) as enters
      from (select distinct s.path from steps_read s) p
      cross join lateral (
        select (array_agg(u.from_state order by u.ordinal))[1] as from_state, (array_agg(u.to_state order by u.ordinal desc))[1] as to_state,
          count(*) filter (where u.event = 'start') as starts, count(*) filter (where u.event = 'wait_for_retry') as retries,
          bool_or(u.from_state = 'in_progress' and u.event in ('enqueue_for_orchestration', 'enqueue_as_error_for_orchestration')) as ends_run
        from tasker._unroll_step(p.path) u
      ) u
    ), task_paths as materialized (
      select p.path, u.*, tasker._gauged(u.from_state) as leaves, tasker._gauged(u.to_state) as enters,
        tasker._is_terminal(u.to_state) and not tasker._is_terminal(u.from_state) as ends_run
      from (select distinct t.path from tasks_read t) p
      cross join lateral (
        select (array_agg(u.from_state order by u.ordinal))[1] as from_state, (array_agg(u.to_state order by u.ordinal desc))[1] as to_state
        from tasker._unroll_task(p.path) u
      ) u
    )
    select o.template_id, tasker._definition_number(o.template_id, tasker._number_of(s.step_uuid)) as number, s.step_uuid as key, s.attempt, s.since as began_at, s.at,
      date_bin(interval '1 hour', s.at, timestamptz 'epoch'), p.to_state, p.leaves, p.enters, p.starts,
      p.retries,
      case when p.ends_run then greatest(date_part('epoch', s.at - s.since) * 1000000, 0)::bigint end as run_us,
      case when p.starts > 0 and p.from_state = 'enqueued' then greatest(date_part('epoch', s.at - s.since) * 1000000, 0)::bigint
        when p.starts > 0 and p.from_state = 'pending' then 0 end as wait_us
    from (
      -- A row that begins in progress follows the one that started the attempt, one that begins enqueued follows the one that put it there.
      select s.*, coalesce(
        lag(s.at) over (partition by s.step_uuid order by s.seq),
        case when left(s.path, 1) <> 'p' then (
          select h.at from tasker.step_transitions h where h.step_uuid = s.step_uuid and h.seq + 0 < s.seq order by h.seq desc limit 1
        ) end) as since
      from steps_read s
    ) s
    join step_paths p on p.path = s.path
    join owners o on o.task_uuid = tasker._task_of(s.step_uuid)
    union all
    select o.template_id, 0, t.task_uuid, null, o.started_at, t.at, date_bin(interval '1 hour', t.at, timestamptz 'epoch'), p.to_state, p.leaves, p.enters, 0, 0,
      case when p.ends_run then greatest(date_part('epoch', t.at - o.started_at) * 1000000, 0)::bigint end, null
    from tasks_read t
    join task_paths p on p.path = t.path
    join owners o on o.task_uuid = t.task_uuid;
end
$function$;
comment on function tasker._transitions_read(bigint, bigint, uuid[]) is
  'The history rows of a stretch of numbers, of all tasks or of those given, as what is counted of them. A run goes from the start of an attempt to its outcome, a wait from where a step was '
  'enqueued to its start; a task (number 0) runs from its start to its end.';

create function tasker._fold_history(
  p_after bigint, p_to bigint, p_task_uuids uuid[], out rows_count bigint, out template_ids integer[], out are_tasks boolean[], out starts_at timestamptz[])
language plpgsql volatile parallel unsafe
set search_path = pg_catalog, pg_temp set enable_seqscan = off set enable_hashjoin = on set jit = off
set plan_cache_mode = force_generic_plan as $function$
declare
  v_kept constant integer := tasker._slowest_kept();
begin
  with folded as materialized (
    select r.* from tasker._transitions_read(p_after, p_to, p_task_uuids) r
  ), counted as (
    insert into tasker.statistics_buckets as b (template_id, starts_at, number, completed, failed, cancelled, resolved, attempts, retries, runs, run_us, longest_run_us,
      run_histogram, waits, wait_us)
    select f.template_id, f.hour, f.number, count(*) filter (where f.to_state = 'complete'), count(*) filter (where f.to_state = 'error'),
      count(*) filter (where f.to_state = 'cancelled'), count(*) filter (where f.to_state = 'resolved_manually'), sum(f.starts), sum(f.retries), count(f.run_us),
      coalesce(sum(f.run_us), 0), coalesce(max(f.run_us), 0), tasker._histogram(array_agg(f.run_us)), count(f.wait_us), coalesce(sum(f.wait_us), 0)
    from folded f
    where f.run_us is not null or f.starts > 0 or f.retries > 0 or f.to_state in ('complete', 'error', 'cancelled', 'resolved_manually')
    group by f.template_id, f.hour, f.number
    on conflict on constraint statistics_buckets_pkey do update
      set completed = b.completed + excluded.completed, failed = b.failed + excluded.failed, cancelled = b.cancelled + excluded.cancelled,
        resolved = b.resolved + excluded.resolved, attempts = b.attempts + excluded.attempts, retries = b.retries + excluded.retries, runs = b.runs + excluded.runs,
        run_us = b.run_us + excluded.run_us, longest_run_us = greatest(b.longest_run_us, excluded.longest_run_us),
        run_histogram = tasker._sum_histograms(array[b.run_histogram, excluded.run_histogram]), waits = b.waits + excluded.waits,
        wait_us = b.wait_us + excluded.wait_us
    returning 1
  ), gauged as (
    insert into tasker.state_counts as c (template_id, is_task, state, count)
    select f.template_id, f.number = 0, s.state, sum(s.change)
    from folded f
    cross join lateral (values (f.leaves, -1), (f.enters, 1)) s(state, change)
    where s.state is not null
    group by f.template_id, f.number = 0, s.state
    having sum(s.change) <> 0
    on conflict on constraint state_counts_pkey do update set count = c.count + excluded.count
    returning 1
  ), slow as (
    insert into tasker.slowest_runs as r (template_id, is_task, starts_at, run_us, key, attempt, attempts_used, state, started_at, finished_at)
    select f.template_id, f.is_task, f.hour, f.run_us, f.key, f.attempt,
      (select s.attempts_used from tasker.steps s where s.step_uuid = f.key and not f.is_task), f.to_state, f.began_at, f.at
    from (
      select f.*, f.number = 0 as is_task, row_number() over (partition by f.template_id, f.number = 0, f.hour order by f.run_us desc) as place
      from folded f
      where f.run_us is not null and f.to_state not in ('waiting_for_retry', 'enqueued')
    ) f
    where f.place <= v_kept and f.run_us > coalesce((
        select k.run_us from tasker.slowest_runs k
        where k.template_id = f.template_id and k.is_task = f.is_task and k.starts_at = f.hour
        order by k.run_us desc offset v_kept - 1 limit 1), -1)
    returning r.template_id, r.is_task, r.starts_at
  )
  select (select count(*) from folded), array_agg(s.template_id), array_agg(s.is_task), array_agg(s.starts_at)
  into rows_count, template_ids, are_tasks, starts_at
  from (select distinct s.template_id, s.is_task, s.starts_at from slow s) s
  where (select count(*) from counted) + (select count(*) from gauged) >= 0;
end
$function$;
comment on function tasker._fold_history(bigint, bigint, uuid[]) is
  'Adds the history rows of a stretch of numbers, of all tasks or of those given, to the figures: how many they were, and which lists of the slowest were added to.';

create function tasker._slowest_kept() returns integer
language sql immutable parallel safe set search_path = pg_catalog, pg_temp as $function$
  select 20
$function$;
comment on function tasker._slowest_kept() is 'How many of the slowest are kept for each template and span of time, of steps and of tasks.';

create function tasker._gauged(p_state text) returns text
language sql immutable parallel safe set search_path = pg_catalog, pg_temp as $function$
  -- History begins where a step or a task leaves pending.
  select p_state where p_state <> 'pending' and not tasker._is_terminal(p_state)
$function$;
comment on function tasker._gauged(text) is 'A state if those in it are counted: it is neither terminal nor pending.';

create function tasker._trim_slowest(p_template_ids integer[], p_are_tasks boolean[], p_starts_at timestamptz[]) returns void
language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp as $function$
begin
  with least as materialized (
    select u.template_id, u.is_task, u.starts_at, k.run_us, k.key
    from unnest(p_template_ids, p_are_tasks, p_starts_at) u(template_id, is_task, starts_at)
    cross join lateral (
      select k.run_us, k.key from tasker.slowest_runs k
      where k.template_id = u.template_id and k.is_task = u.is_task and k.starts_at = u.starts_at
      order by k.run_us desc, k.key desc
      offset tasker._slowest_kept() - 1 limit 1
    ) k
  )
  delete from tasker.slowest_runs r
  using least l
  where r.template_id = l.template_id and r.is_task = l.is_task and r.starts_at = l.starts_at and r.run_us <= l.run_us and (r.run_us, r.key) < (l.run_us, l.key);
end
$function$;
comment on function tasker._trim_slowest(integer[], boolean[], timestamptz[]) is 'Leaves the slowest few in each of the lists.';

create function tasker._fold(p_after bigint, p_to bigint, p_task_uuids uuid[]) returns bigint
language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp as $function$
declare
  v_folded record;
begin
  v_folded := tasker._fold_history(p_after, p_to, p_task_uuids);
  if v_folded.template_ids is not null then
    perform tasker._trim_slowest(v_folded.template_ids, v_folded.are_tasks, v_folded.starts_at);
  end if;
  return v_folded.rows_count;
end
$function$;
comment on function tasker._fold(bigint, bigint, uuid[]) is 'Folds the history rows of a stretch of numbers, of all tasks or of those given, and says how many they were.';

create function tasker._recount_states() returns void
language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp set enable_seqscan = on set enable_bitmapscan = on set enable_hashjoin = on as $function$
declare
  v_folded_seq bigint := coalesce((select c.folded_seq from tasker.statistics_cursors c), 0);
begin
  delete from tasker.state_counts;
  -- What there is, less what the rows that are not folded yet will bring: in one snapshot.
  insert into tasker.state_counts (template_id, is_task, state, count)
  select c.template_id, c.is_task, c.state, sum(c.count)
  from (
    select s.template_id, false as is_task, s.state, count(*) as count from tasker.steps s where not tasker._is_terminal(s.state) group by s.template_id, s.state
    union all
    select t.template_id, true, t.state, count(*) from tasker.tasks t where t.finished_at is null group by t.template_id, t.state
    union all
    select t.template_id, false, u.state, u.change
    from tasker.step_transitions h
    cross join lateral (select t.template_id from tasker.tasks t where t.task_uuid = tasker._task_of(h.step_uuid)) t
    cross join lateral tasker._unroll_step(h.path) p
    cross join lateral (values (p.from_state, 1), (p.to_state, -1)) u(state, change)
    where h.seq > v_folded_seq
    union all
    select t.template_id, true, u.state, u.change
    from tasker.task_transitions h
    cross join lateral (select t.template_id from tasker.tasks t where t.task_uuid = h.task_uuid) t
    cross join lateral tasker._unroll_task(h.path) p
    cross join lateral (values (p.from_state, 1), (p.to_state, -1)) u(state, change)
    where h.seq > v_folded_seq
  ) c
  where tasker._gauged(c.state) is not null
  group by c.template_id, c.is_task, c.state
  having sum(c.count) <> 0;
end
$function$;
comment on function tasker._recount_states() is
  'Counts the states of all steps and tasks anew, as of how far history is folded. After a restore maintenance calls it; the owner may, after dropping partitions by hand.';

create function tasker._settle_statistics(p_now timestamptz) returns tasker.statistics_cursors
language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp as $function$
declare
  v_incarnation constant text := tasker._incarnation();
  v_horizon constant bigint := pg_snapshot_xmin(pg_current_snapshot())::text::bigint;
  -- In this order: a transaction from v_xid on began after v_seq was drawn.
  v_seq bigint := tasker._last_drawn_seq();
  v_xid bigint := tasker._next_xid();
  v_old tasker.statistics_cursors;
  v_new tasker.statistics_cursors;
begin
  select c.* into v_old from tasker.statistics_cursors c for update;
  if not found then
    insert into tasker.statistics_cursors (incarnation, folded_seq, settled_seq, settled_at, noted_seq, noted_xid, noted_at)
    values (v_incarnation, 0, 0, p_now, v_seq, v_xid, p_now)
    returning * into v_old;
  end if;
  v_new := v_old;
  if v_old.incarnation <> v_incarnation then
    -- Restored, or another server took over: ids say nothing about rows from before, and rows may have been left behind.
    perform tasker._recount_states();
    v_new.incarnation := v_incarnation;
    v_new.noted_seq := v_seq;
    v_new.noted_xid := v_xid;
    v_new.noted_at := p_now;
  elsif v_old.noted_xid <= v_horizon then
    v_new.settled_seq := v_old.noted_seq;
    v_new.settled_at := v_old.noted_at;
    if v_seq > v_old.noted_seq then
      v_new.noted_seq := v_seq;
      v_new.noted_xid := v_xid;
      v_new.noted_at := p_now;
    end if;
  end if;
  if v_new is distinct from v_old then
    update tasker.statistics_cursors c
    set incarnation = v_new.incarnation, settled_seq = v_new.settled_seq, settled_at = v_new.settled_at, noted_seq = v_new.noted_seq, noted_xid = v_new.noted_xid,
      noted_at = v_new.noted_at;
  end if;
  return v_new;
end
$function$;
comment on function tasker._settle_statistics(timestamptz) is
  'Notes the last number drawn with the next transaction id, and what is settled: the last such number whose transactions have all ended. Gives where the folding is.';

create function tasker._statistics_pause() returns interval
language sql immutable parallel safe set search_path = pg_catalog, pg_temp as $function$
  select interval '5 seconds'
$function$;
comment on function tasker._statistics_pause() is 'How long few new history rows wait until they are folded.';

create function tasker._statistics_are_due(p_now timestamptz) returns boolean
language plpgsql stable parallel unsafe set search_path = pg_catalog, pg_temp as $function$
declare
  v_cursor tasker.statistics_cursors;
  v_lag constant bigint := tasker._statistics_lag();
begin
  select c.* into v_cursor from tasker.statistics_cursors c;
  return case
    when v_cursor.incarnation is null then v_lag > 0
    when v_cursor.incarnation <> tasker._incarnation() or v_lag >= 20000 then true
    else v_lag > 0 and (v_cursor.rested_at is null or p_now < v_cursor.rested_at or p_now >= v_cursor.rested_at + tasker._statistics_pause())
  end;
end
$function$;
comment on function tasker._statistics_are_due(timestamptz) is 'Whether history rows wait to be folded, many of them or for long enough.';

create function tasker._fold_statistics(p_limit integer, p_now timestamptz, out processed bigint, out more boolean)
language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp as $function$
declare
  -- A row costs a fraction of what other jobs do for one; a statement that reads the youngest pages has a price of its own.
  v_most constant bigint := p_limit * 20::bigint;
  v_cursor tasker.statistics_cursors;
  v_to bigint;
begin
  processed := 0;
  more := false;
  v_cursor := tasker._settle_statistics(p_now);
  if v_cursor.settled_seq <= v_cursor.folded_seq
    or v_cursor.settled_seq - v_cursor.folded_seq < v_most and p_now >= v_cursor.rested_at and p_now < v_cursor.rested_at + tasker._statistics_pause() then
    return;
  end if;
  v_to := least(v_cursor.settled_seq, v_cursor.folded_seq + v_most);
  more := v_to < v_cursor.settled_seq;
  processed := tasker._fold(v_cursor.folded_seq, v_to, null);
  update tasker.statistics_cursors c
  set folded_seq = v_to, as_of = case when _fold_statistics.more then c.as_of else v_cursor.settled_at end, rested_at = case when not _fold_statistics.more then p_now end;
exception
  -- Leaving the block takes everything back. Figures are never worth the rest of a round.
  when others then
    raise warning 'tasker: statistics are not folded: %', sqlerrm;
    processed := 0;
    more := false;
end
$function$;
comment on function tasker._fold_statistics(integer, timestamptz) is
  'Folds settled history rows, at most twenty times p_limit, and says how many and whether there are more. Fewer than that wait for five seconds.';

create function tasker._statistics_lag() returns bigint
language sql stable parallel unsafe set search_path = pg_catalog, pg_temp as $function$
  select tasker._last_drawn_seq() - coalesce((select c.folded_seq from tasker.statistics_cursors c), 0)
$function$;
comment on function tasker._statistics_lag() is 'How many numbers of history rows have been drawn that are not folded.';

create function tasker._fold_leaving(p_suffix text) returns void
language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp as $function$
declare
  v_folded_seq bigint;
  v_task_uuids uuid[];
begin
  -- Nobody else folds meanwhile.
  select c.folded_seq into v_folded_seq from tasker.statistics_cursors c for update;
  v_folded_seq := coalesce(v_folded_seq, 0);
  execute format('select array_agg(distinct l.task_uuid)
    from (
      select tasker._task_of(h.step_uuid) as task_uuid from tasker.%I h where h.seq > $1
      union all
      select h.task_uuid from tasker.%I h where h.seq > $1
    ) l
    where not exists (select from tasker.%I k where k.task_uuid = l.task_uuid)', 'step_transitions_' || p_suffix, 'task_transitions_' || p_suffix, 'tasks_' || p_suffix || '_kept')
  into v_task_uuids using v_folded_seq;
  if v_task_uuids is not null then
    perform tasker._fold(v_folded_seq, 9223372036854775807, v_task_uuids);
  end if;
end
$function$;
comment on function tasker._fold_leaving(text) is
  'Folds what has not been folded yet of the tasks of a range that leave, when nobody can write to it any more: the rows of tasks that stay keep their numbers and are folded in their turn.';

create function tasker._bucket_start(p_at timestamptz, p_now timestamptz) returns timestamptz
language sql stable parallel safe set search_path = pg_catalog, pg_temp as $function$
  select case
    when p_at >= date_trunc('day', p_now - interval '48 hours', 'UTC') then date_trunc('hour', p_at, 'UTC')
    when p_at >= date_trunc('month', p_now - interval '1488 hours', 'UTC') then date_trunc('day', p_at, 'UTC')
    else date_trunc('month', p_at, 'UTC')
  end
$function$;
comment on function tasker._bucket_start(timestamptz, timestamptz) is
  'Where the bucket of a time begins: its hour of UTC in the last two days and what there was of the day before them, its day in the last 62 and the rest of their month, else its month.';

create function tasker._roll_up_statistics(p_now timestamptz) returns bigint
language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp set enable_seqscan = on set enable_hashjoin = on as $function$
declare
  v_hour constant timestamptz := date_trunc('hour', p_now, 'UTC');
  v_count bigint;
  v_lists record;
begin
  update tasker.statistics_cursors c set rolled_up_at = v_hour where c.rolled_up_at is distinct from v_hour;
  if not found then
    return 0;
  end if;
  if tasker._statistics_days() > 0 then
    delete from tasker.statistics_buckets b where b.starts_at < p_now - tasker._statistics_days() * interval '24 hours';
    delete from tasker.slowest_runs r where r.starts_at < p_now - tasker._statistics_days() * interval '24 hours';
  end if;
  delete from tasker.state_counts c where c.count = 0;
  with fine as (
    delete from tasker.statistics_buckets b where b.starts_at <> tasker._bucket_start(b.starts_at, p_now) returning b.*
  )
  insert into tasker.statistics_buckets as b (template_id, starts_at, number, completed, failed, cancelled, resolved, attempts, retries, runs, run_us, longest_run_us,
    run_histogram, waits, wait_us)
  select f.template_id, tasker._bucket_start(f.starts_at, p_now), f.number, sum(f.completed), sum(f.failed), sum(f.cancelled), sum(f.resolved), sum(f.attempts),
    sum(f.retries), sum(f.runs), sum(f.run_us), max(f.longest_run_us), tasker._sum_histograms(array_agg(f.run_histogram)), sum(f.waits), sum(f.wait_us)
  from fine f
  group by 1, 2, 3
  on conflict on constraint statistics_buckets_pkey do update
    set completed = b.completed + excluded.completed, failed = b.failed + excluded.failed, cancelled = b.cancelled + excluded.cancelled,
      resolved = b.resolved + excluded.resolved, attempts = b.attempts + excluded.attempts, retries = b.retries + excluded.retries, runs = b.runs + excluded.runs,
      run_us = b.run_us + excluded.run_us, longest_run_us = greatest(b.longest_run_us, excluded.longest_run_us),
        run_histogram = tasker._sum_histograms(array[b.run_histogram, excluded.run_histogram]), waits = b.waits + excluded.waits,
      wait_us = b.wait_us + excluded.wait_us;
  get diagnostics v_count = row_count;
  with moved as (
    update tasker.slowest_runs r set starts_at = tasker._bucket_start(r.starts_at, p_now)
    where r.starts_at <> tasker._bucket_start(r.starts_at, p_now)
    returning r.template_id, r.is_task, r.starts_at
  )
  select array_agg(m.template_id) as template_ids, array_agg(m.is_task) as are_tasks, array_agg(m.starts_at) as starts_at into v_lists
  from (select distinct m.template_id, m.is_task, m.starts_at from moved m) m;
  if v_lists.template_ids is not null then
    perform tasker._trim_slowest(v_lists.template_ids, v_lists.are_tasks, v_lists.starts_at);
  end if;
  return v_count;
end
$function$;
comment on function tasker._roll_up_statistics(timestamptz) is
  'Once an hour: folds buckets of hours into days, of days into months, forgets what is older than tasker.statistics_days, and says how many buckets it wrote.';
