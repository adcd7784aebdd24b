-- Reading statistics: figures by template and step, the slowest, how current they are. The cost follows the number of templates and of buckets, not the history.
-- Not here: how they come about (670).

create function tasker._statistics_as_of() returns timestamptz
language sql stable parallel unsafe set search_path = pg_catalog, pg_temp as $function$
  select case when c.folded_seq >= tasker._last_drawn_seq() then greatest(tasker._now(), c.as_of) else c.as_of end from tasker.statistics_cursors c
$function$;
comment on function tasker._statistics_as_of() is 'The time up to which everything that was committed is in the statistics; null before maintenance has folded anything.';

create function tasker._chosen_templates(p_namespace text, p_template_name text)
returns table (template_id integer, namespace text, template_name text, template_version text)
language sql stable parallel unsafe set search_path = pg_catalog, pg_temp as $function$
  select x.template_id, n.name, x.name, x.version
  from tasker.templates x
  join tasker.namespaces n on n.namespace_id = x.namespace_id
  where (p_namespace is null or n.name = p_namespace) and (p_template_name is null or x.name = p_template_name) and tasker._may(n.name, 'read')
$function$;
comment on function tasker._chosen_templates(text, text) is 'The templates of a namespace and a name, or of all, that the caller may read.';

create function tasker._since(p_since timestamptz) returns timestamptz
language sql stable parallel unsafe set search_path = pg_catalog, pg_temp as $function$
  select tasker._bucket_start(coalesce(p_since, tasker._now() - interval '24 hours'), tasker._now())
$function$;
comment on function tasker._since(timestamptz) is 'A time, or a day ago without one, at the beginning of its bucket.';

create function tasker.statistics(since timestamptz default null, namespace text default null, template_name text default null) returns setof tasker.step_statistics
language plpgsql stable parallel unsafe security definer set search_path = pg_catalog, pg_temp set enable_seqscan = off set jit = off as $function$
declare
  v_since constant timestamptz := tasker._since(statistics.since);
  v_as_of constant timestamptz := tasker._statistics_as_of();
begin
  return query
    select c.namespace, c.template_name, c.template_version, d.name, s.completed, s.failed, s.cancelled, s.resolved,
      (s.failed::numeric / nullif(s.completed + s.failed, 0))::double precision,
      case when s.number > 0 then s.attempts end, case when s.number > 0 then s.retries end,
      (s.wait_us / nullif(s.waits, 0) / 1000)::double precision, (s.run_us / nullif(s.runs, 0) / 1000)::double precision,
      -- No run is longer than the longest.
      least(tasker._percentile(s.run_histogram, 0.5), m.longest) / 1000, least(tasker._percentile(s.run_histogram, 0.95), m.longest) / 1000,
      least(tasker._percentile(s.run_histogram, 0.99), m.longest) / 1000, m.longest / 1000, v_since, v_as_of
    from tasker._chosen_templates(statistics.namespace, statistics.template_name) c
    cross join lateral (
      select b.number, sum(b.completed)::bigint as completed, sum(b.failed)::bigint as failed, sum(b.cancelled)::bigint as cancelled, sum(b.resolved)::bigint as resolved,
        sum(b.attempts)::bigint as attempts, sum(b.retries)::bigint as retries, sum(b.runs) as runs, sum(b.run_us) as run_us, max(b.longest_run_us) as longest_run_us,
        tasker._sum_histograms(array_agg(b.run_histogram)) as run_histogram, sum(b.waits) as waits, sum(b.wait_us) as wait_us
      from tasker.statistics_buckets b
      where b.template_id = c.template_id and b.starts_at >= v_since
      group by b.number
    ) s
    cross join lateral (select case when s.runs > 0 then s.longest_run_us::double precision end as longest) m
    left join lateral tasker._step_definitions(array_fill(c.template_id, array[(s.number > 0)::integer]), array_fill(s.number, array[(s.number > 0)::integer])) d on true
    order by c.namespace, c.template_name, c.template_version, s.number;
end
$function$;
comment on function tasker.statistics(timestamptz, text, text) is
  'Gives the figures of each template''s tasks (without step_name) and steps since a time, by default a day ago, rounded down to its hour, after two days to its day, after 62 to its month. '
  'Percentiles of run times are off by at most a tenth. as_of says up to when everything is counted.';

create function tasker._require_few(p_limit integer) returns void
language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp as $function$
begin
  if p_limit is null or p_limit not between 1 and tasker._slowest_kept() then
    perform tasker._raise('22023', format('limit must be between 1 and %s, not %s', tasker._slowest_kept(), coalesce(p_limit::text, 'null')), null,
      'Ask for one template, or a later time: each template and hour keeps its own slowest.');
  end if;
end
$function$;
comment on function tasker._require_few(integer) is 'Refuses to list none, or more of the slowest than are kept (22023).';

create function tasker._slowest(p_is_task boolean, p_since timestamptz, p_namespace text, p_template_name text, p_limit integer)
returns table (template_id integer, namespace text, template_name text, template_version text, run_us bigint, key uuid, attempts_used integer, state text, started_at timestamptz,
  finished_at timestamptz)
language plpgsql stable parallel unsafe set search_path = pg_catalog, pg_temp set enable_seqscan = off set jit = off as $function$
declare
  v_since constant timestamptz := tasker._since(p_since);
begin
  perform tasker._require_few(p_limit);
  return query
    select c.template_id, c.namespace, c.template_name, c.template_version, r.run_us, r.key, r.attempts_used, r.state, r.started_at, r.finished_at
    from tasker._chosen_templates(p_namespace, p_template_name) c
    cross join lateral (
      select r.* from tasker.slowest_runs r where r.template_id = c.template_id and r.is_task = p_is_task and r.starts_at >= v_since
      order by r.run_us desc, r.key
      limit p_limit
    ) r
    order by r.run_us desc, r.key
    limit p_limit;
end
$function$;
comment on function tasker._slowest(boolean, timestamptz, text, text, integer) is 'The slowest steps or tasks of the chosen templates since a time (22023).';

create function tasker.slowest_steps(since timestamptz default null, namespace text default null, template_name text default null, "limit" integer default 10)
returns setof tasker.slow_step
language plpgsql stable parallel unsafe security definer set search_path = pg_catalog, pg_temp set jit = off as $function$
begin
  return query
    select s.key, tasker._task_of(s.key), s.namespace, s.template_name, s.template_version, d.name, s.run_us / 1000.0::double precision, s.attempts_used, s.state, s.started_at,
      s.finished_at
    from tasker._slowest(false, slowest_steps.since, slowest_steps.namespace, slowest_steps.template_name, slowest_steps."limit") s
    cross join lateral tasker._step_definitions(array[s.template_id], array[tasker._number_of(s.key)]) d
    order by s.run_us desc, s.key;
end
$function$;
comment on function tasker.slowest_steps(timestamptz, text, text, integer) is
  'Lists the steps whose last attempt ran longest, of those that ended since a time (by default a day ago, rounded down as by statistics), also when they have left by now; limit 1 to 20. Errors: 22023.';

create function tasker.slowest_tasks(since timestamptz default null, namespace text default null, template_name text default null, "limit" integer default 10)
returns setof tasker.slow_task
language plpgsql stable parallel unsafe security definer set search_path = pg_catalog, pg_temp set jit = off as $function$
begin
  return query
    select s.key, s.namespace, s.template_name, s.template_version, s.run_us / 1000.0::double precision, s.state, s.started_at, s.finished_at
    from tasker._slowest(true, slowest_tasks.since, slowest_tasks.namespace, slowest_tasks.template_name, slowest_tasks."limit") s
    order by s.run_us desc, s.key;
end
$function$;
comment on function tasker.slowest_tasks(timestamptz, text, text, integer) is
  'Lists the tasks that took longest from their start to their end, of those that ended since a time (by default a day ago, rounded down as by statistics), also when they have left by now; limit 1 '
  'to 20. Errors: 22023.';

create function tasker._statistics_health() returns table (name text, ok boolean, detail text)
language sql stable parallel unsafe set search_path = pg_catalog, pg_temp as $function$
  select 'statistics', c.as_of is null or a.as_of > tasker._now() - interval '5 minutes',
    case when c.as_of is null then 'nothing has been counted yet'
      when a.as_of >= tasker._now() then 'everything is counted'
      else format('counted up to %s; what is committed later is waited for by maintenance, or by a transaction that the check events names', a.as_of) end
  from (select 1) one
  left join tasker.statistics_cursors c on true
  left join lateral tasker._statistics_as_of() a(as_of) on true
$function$;
comment on function tasker._statistics_health() is 'How far the statistics are behind.';

create function tasker._state_counts(p_namespace text, out enqueued bigint, out in_progress bigint, out waiting_for_retry bigint)
language sql stable parallel unsafe set search_path = pg_catalog, pg_temp as $function$
  select coalesce(sum(c.count) filter (where c.state = 'enqueued'), 0)::bigint, coalesce(sum(c.count) filter (where c.state = 'in_progress'), 0)::bigint,
    coalesce(sum(c.count) filter (where c.state = 'waiting_for_retry'), 0)::bigint
  from tasker._chosen_templates(p_namespace, null) x
  cross join lateral (select c.state, c.count from tasker.state_counts c where c.template_id = x.template_id and not c.is_task) c
$function$;
comment on function tasker._state_counts(text) is 'How many steps of a namespace are in each state that has a message, as of how far history is folded.';
