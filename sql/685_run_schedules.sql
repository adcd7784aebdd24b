-- What maintenance does with schedules: it creates the tasks of those that are due, each time once, and remembers what went wrong. Not here: the functions that operators call (680).

create function tasker._create_scheduled(p_schedule tasker.schedules, p_times timestamptz[], p_now timestamptz) returns void
language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp as $function$
declare
  v_requests jsonb;
  v_created tasker._created;
begin
  -- The key is a second guard: a time runs once because the schedule's locked row says that it has not.
  select jsonb_agg(jsonb_build_object(
    'template_name', p_schedule.template_name, 'namespace', n.name, 'context', p_schedule.context, 'version', p_schedule.template_version, 'run_at', t.at,
    'idempotency_key', format('schedule %s at %s', p_schedule.schedule_uuid, to_char(t.at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"')),
    'tags', array['schedule:' || p_schedule.name], 'initiator', p_schedule.created_by, 'source_system', 'schedule',
    'reason', format('schedule %s for %s %s', p_schedule.name, to_char(t.at at time zone p_schedule.timezone, 'YYYY-MM-DD HH24:MI'), p_schedule.timezone))
    order by t.ordinal)
  into v_requests
  from tasker.namespaces n
  cross join unnest(p_times) with ordinality t(at, ordinal)
  where n.namespace_id = p_schedule.namespace_id;
  -- Whoever calls: a schedule may do what its creator may, as things are now.
  perform tasker._act_for(p_schedule.created_by);
  v_created := tasker._create_tasks(v_requests, p_now, tasker._actor());
  perform tasker._act_for(null);
  perform tasker._raise_refused(v_created.refused);
  update tasker.schedules s
  set last_at = greatest(s.last_at, p_times[cardinality(p_times)]),
    last_task_uuid = case when s.last_at > p_times[cardinality(p_times)] then s.last_task_uuid else v_created.task_uuids[cardinality(p_times)] end
  where s.schedule_uuid = p_schedule.schedule_uuid;
end
$function$;
comment on function tasker._create_scheduled(tasker.schedules, timestamptz[], timestamptz) is
  'Creates the tasks of a schedule for some of its times, in their order, and notes the last one; refuses as create_task does.';

create function tasker._due_times(p_schedule tasker.schedules, p_now timestamptz) returns timestamptz[]
language plpgsql stable parallel unsafe set search_path = pg_catalog, pg_temp as $function$
declare
  -- A time is missed when it is this old. Rounds of maintenance are a second apart.
  v_missed constant interval := interval '1 minute';
  -- So many missed times are run in one go.
  v_most constant integer := 10;
  v_last timestamptz;
begin
  -- next_at always counts, though a zone's rules may have changed since it was computed.
  if p_schedule.catch_up = 'all' then
    return p_schedule.next_at || tasker._cron_times(p_schedule.cron, p_schedule.timezone, p_schedule.next_at + interval '1 microsecond', p_now + interval '1 microsecond', v_most - 1);
  end if;
  v_last := coalesce(tasker._last_cron(p_schedule.cron, p_schedule.timezone, p_schedule.next_at, p_now), p_schedule.next_at);
  if p_schedule.catch_up = 'none' and v_last < p_now - v_missed then
    return '{}';
  end if;
  return array[v_last];
end
$function$;
comment on function tasker._due_times(tasker.schedules, timestamptz) is 'The times that a schedule is to run now, of those that have come: by its catch_up.';

create function tasker._run_schedule(p_schedule tasker.schedules, p_now timestamptz) returns void
language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp as $function$
declare
  v_due timestamptz[];
  v_next timestamptz;
begin
  v_due := tasker._due_times(p_schedule, p_now);
  v_next := tasker._next_cron(p_schedule.cron, p_schedule.timezone, case p_schedule.catch_up when 'all' then v_due[cardinality(v_due)] else p_now end);
  update tasker.schedules s
  set next_at = v_next, open_times = s.open_times + tstzmultirange(tstzrange(s.next_at, coalesce(v_due[1], v_next))),
    last_problem = case when v_due = '{}' then s.last_problem end
  where s.schedule_uuid = p_schedule.schedule_uuid;
  if v_due <> '{}' then
    perform tasker._create_scheduled(p_schedule, v_due, p_now);
  end if;
exception
  when serialization_failure or deadlock_detected or lock_not_available then
    raise;
  when others then
    -- What is wrong with the server, or with PGMQ, is nothing of this schedule's: its times are due until that is mended.
    if sqlstate ~ '^(53|57|58|TK030)' then
      raise;
    end if;
    update tasker.schedules s
    set last_problem = jsonb_build_object('code', sqlstate, 'message', sqlerrm, 'scheduled_at', coalesce(v_due[cardinality(v_due)], s.next_at), 'at', p_now),
      next_at = coalesce(v_next, s.next_at), open_times = s.open_times + tstzmultirange(tstzrange(s.next_at, coalesce(v_next, s.next_at))),
      -- Without a next time it would be due for ever.
      paused_at = case when v_next is null then p_now end, paused_by = case when v_next is null then 'maintenance' end,
      pause_reason = case when v_next is null then sqlerrm end
    where s.schedule_uuid = p_schedule.schedule_uuid;
end
$function$;
comment on function tasker._run_schedule(tasker.schedules, timestamptz) is
  'Creates the tasks that are due of a schedule that is locked, and moves it on to its next time. What keeps them from being created is noted on it, and the time stays open for a '
  'backfill; one of which no next time can be told is paused.';

create function tasker._run_schedules(p_limit integer, p_now timestamptz, out processed bigint, out more boolean)
language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp as $function$
declare
  v_schedule tasker.schedules;
begin
  processed := 0;
  for v_schedule in
    select s.* from tasker.schedules s where s.next_at <= p_now and s.paused_at is null order by s.next_at limit least(p_limit, 100) for update skip locked
  loop
    perform tasker._run_schedule(v_schedule, p_now);
    processed := processed + 1;
  end loop;
  more := processed > 0 and exists (select from tasker.schedules s where s.next_at <= p_now and s.paused_at is null);
end
$function$;
comment on function tasker._run_schedules(integer, timestamptz) is
  'Runs the schedules that are due, longest first and at most 100, and says how many and whether more are; one that somebody else has locked is passed over.';

create function tasker._schedules_health(p_now timestamptz, out ok boolean, out detail text)
language plpgsql stable parallel unsafe set search_path = pg_catalog, pg_temp as $function$
declare
  v_troubles text[];
begin
  v_troubles := array(
    select format('%s in namespace %s (%s)', s.name, n.name,
      case when s.last_problem is null then format('due since %s', s.next_at) else format('%s: %s', s.last_problem ->> 'code', s.last_problem ->> 'message') end)
    from tasker.schedules s
    join tasker.namespaces n on n.namespace_id = s.namespace_id
    where tasker._may(n.name, 'read')
      and case when s.paused_at is null then s.last_problem is not null or s.next_at < p_now - interval '1 minute' else s.paused_by = 'maintenance' end
    order by n.name, s.name
    limit 10);
  ok := v_troubles = '{}';
  detail := case when ok then 'every schedule that isn''t paused runs'
    else 'not running as they should: ' || array_to_string(v_troubles, ', ') || '; tasker.list_schedules() shows more' end;
end
$function$;
comment on function tasker._schedules_health(timestamptz) is
  'Whether each schedule that isn''t paused had its task at its last time and is not overdue by a minute, and which have not; at most ten are named.';
