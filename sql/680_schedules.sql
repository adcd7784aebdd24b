-- Schedules as operators see them: making, pausing, deleting and listing them, and running times that were left out. Not here: what maintenance does with them (685), and
-- which moments a cron expression names (the library's cron.rs).

create type tasker.schedule as (
  namespace text,
  name text,
  cron text,
  timezone text,
  template_name text,
  template_version text,
  context jsonb,
  catch_up text,
  next_at timestamptz,
  last_at timestamptz,
  last_task_uuid uuid,
  last_problem jsonb,
  paused_at timestamptz,
  paused_by text,
  pause_reason text,
  created_by text,
  created_at timestamptz
);
comment on type tasker.schedule is
  'A schedule as list_schedules shows it. last_problem {code, message, scheduled_at, at} is why its last due time has no task; null when that has one.';

create function tasker._shown_schedule(p_schedule tasker.schedules, p_namespace text) returns tasker.schedule
language sql immutable parallel safe set search_path = pg_catalog, pg_temp as $function$
  select row(p_namespace, p_schedule.name, p_schedule.cron, p_schedule.timezone, p_schedule.template_name, p_schedule.template_version, p_schedule.context,
    p_schedule.catch_up, p_schedule.next_at, p_schedule.last_at, p_schedule.last_task_uuid, p_schedule.last_problem, p_schedule.paused_at, p_schedule.paused_by,
    p_schedule.pause_reason, p_schedule.created_by, p_schedule.created_at)::tasker.schedule
$function$;
comment on function tasker._shown_schedule(tasker.schedules, text) is 'A schedule as list_schedules shows it.';

create function tasker._lock_schedule(p_namespace text, p_name text) returns tasker.schedules
language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp as $function$
declare
  v_schedule tasker.schedules;
begin
  if tasker._may(p_namespace, 'read') then
    perform tasker._require_may(p_namespace, 'operate');
    select s.* into v_schedule
    from tasker.namespaces n
    join tasker.schedules s on s.namespace_id = n.namespace_id
    where n.name = p_namespace and s.name = p_name
    for update of s;
  end if;
  if v_schedule.schedule_uuid is null then
    perform tasker._raise('TK004', format('schedule %s not found in namespace %s', coalesce(p_name, 'null'), coalesce(p_namespace, 'null')), null,
      'tasker.list_schedules() shows the schedules there are.');
  end if;
  return v_schedule;
end
$function$;
comment on function tasker._lock_schedule(text, text) is
  'Locks a schedule for a caller who may operate in its namespace (42501); to one who may not even read there it isn''t there (TK004).';

create function tasker._require_schedule_name(p_name text) returns void
language plpgsql stable parallel unsafe set search_path = pg_catalog, pg_temp as $function$
begin
  if p_name is null or p_name !~ '^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$' then
    perform tasker._raise('22023', format('%s can''t be the name of a schedule', coalesce(quote_literal(left(p_name, 200)), 'null')), null,
      'Give 1 to 128 letters, digits, underscores, dots and hyphens, a letter, a digit or an underscore first.');
  end if;
end
$function$;
comment on function tasker._require_schedule_name(text) is 'Refuses what is no name of a schedule (22023).';

create function tasker._known_timezone(p_timezone text) returns text
language plpgsql stable parallel unsafe set search_path = pg_catalog, pg_temp as $function$
declare
  v_timezone text;
begin
  -- The functions for times take more than names: an abbreviation, or an offset with the sign turned round. Neither says when the clocks change.
  select z.name into v_timezone from pg_timezone_names z where lower(z.name) = lower(p_timezone) order by z.name = p_timezone desc limit 1;
  if v_timezone is null then
    perform tasker._raise('22023', format('time zone %s is not known here', coalesce(p_timezone, 'null')), null,
      'Give a name such as Europe/Berlin or UTC; the view pg_timezone_names lists those of this server.');
  end if;
  return v_timezone;
end
$function$;
comment on function tasker._known_timezone(text) is 'A time zone''s name as the server writes it; refuses what is none (22023).';

create function tasker._require_schedulable(p_namespace text, p_template_name text, p_version text, p_context jsonb) returns void
language plpgsql stable parallel unsafe set search_path = pg_catalog, pg_temp as $function$
declare
  v_template tasker.templates;
begin
  select t.* into v_template
  from tasker.namespaces n
  join tasker.templates t on t.namespace_id = n.namespace_id
  where n.name = p_namespace and t.name = p_template_name and case when p_version is null then t.retired_at is null else t.version = p_version end
  order by t.version_key desc
  limit 1;
  if not found then
    perform tasker._raise_refused(tasker._template_not_found(p_namespace, p_template_name, p_version));
  elsif v_template.retired_at is not null then
    perform tasker._raise('TK015', format('template %s version %s is retired', p_template_name, p_version), format('It was retired at %s.', v_template.retired_at),
      'Name another version, or none for the newest at each time.');
  end if;
  perform tasker._raise_refused(tasker._context_problem(v_template.template_id,
    case jsonb_typeof(p_context) when 'object' then v_template.context_defaults || p_context else coalesce(p_context, 'null') end));
end
$function$;
comment on function tasker._require_schedulable(text, text, text, jsonb) is
  'Refuses a template of which no task could be created now with a context (TK003, TK015, TK021, TK022, 22023).';

create function tasker.create_schedule(
  name text, cron text, template_name text, namespace text default 'default', context jsonb default '{}', timezone text default 'UTC', catch_up text default 'one',
  version text default null) returns tasker.schedule
language plpgsql volatile parallel unsafe security definer set search_path = pg_catalog, pg_temp as $function$
declare
  v_now timestamptz := tasker._now();
  v_schedule tasker.schedules;
begin
  perform tasker._require_may(create_schedule.namespace, 'create');
  v_schedule.namespace_id := tasker._require_namespace(create_schedule.namespace);
  perform tasker._require_schedule_name(create_schedule.name);
  perform tasker._require_known('catch_up', create_schedule.catch_up, array['none', 'one', 'all']);
  perform tasker._raise_refused(tasker._cron_problem(coalesce(create_schedule.cron, '')));
  perform tasker._require_schedulable(create_schedule.namespace, create_schedule.template_name, create_schedule.version, create_schedule.context);
  -- The dearest check: the view reads every zone there is.
  v_schedule.timezone := tasker._known_timezone(create_schedule.timezone);
  v_schedule.next_at := tasker._next_cron(create_schedule.cron, v_schedule.timezone, v_now);
  insert into tasker.schedules as s (
    schedule_uuid, namespace_id, name, cron, timezone, template_name, template_version, context, catch_up, created_by, created_at, next_at, open_times)
  values (
    (tasker._task_uuids(1, v_now))[1], v_schedule.namespace_id, create_schedule.name, create_schedule.cron, v_schedule.timezone, create_schedule.template_name,
    create_schedule.version, create_schedule.context, create_schedule.catch_up, tasker._actor(), v_now, v_schedule.next_at,
    tstzmultirange(tstzrange(null, v_schedule.next_at)))
  on conflict on constraint schedule_name_is_unique do nothing
  returning s.* into v_schedule;
  if not found then
    perform tasker._raise('23505', format('there is a schedule %s in namespace %s', create_schedule.name, create_schedule.namespace), null,
      'Delete it first, or give another name; tasker.list_schedules() shows it.');
  end if;
  return tasker._shown_schedule(v_schedule, create_schedule.namespace);
end
$function$;
comment on function tasker.create_schedule(text, text, text, text, jsonb, text, text, text) is
  'Creates a schedule: from now on maintenance creates a task of the template, the newest version unless one is named, whenever the cron expression is due in the time zone, with the rights that '
  'the caller has then. Of times that were missed, catch_up runs none, the last one (one), or all. Errors: TK003, TK004, TK015, TK021, TK022, 23505, 22023.';

create function tasker.pause_schedule(name text, namespace text default 'default', reason text default null) returns boolean
language plpgsql volatile parallel unsafe security definer set search_path = pg_catalog, pg_temp as $function$
declare
  v_schedule constant tasker.schedules := tasker._lock_schedule(pause_schedule.namespace, pause_schedule.name);
begin
  perform tasker._require_reason(pause_schedule.reason);
  update tasker.schedules s
  set paused_at = tasker._now(), paused_by = tasker._author(), pause_reason = pause_schedule.reason
  where s.schedule_uuid = v_schedule.schedule_uuid and s.paused_at is null;
  return found;
end
$function$;
comment on function tasker.pause_schedule(text, text, text) is
  'Pauses a schedule: it creates no tasks until it is resumed. True when this call paused it, false when it was paused already. Errors: TK004, 22023.';

create function tasker.resume_schedule(name text, namespace text default 'default') returns boolean
language plpgsql volatile parallel unsafe security definer set search_path = pg_catalog, pg_temp as $function$
declare
  v_schedule constant tasker.schedules := tasker._lock_schedule(resume_schedule.namespace, resume_schedule.name);
begin
  -- What maintenance could not do, which is why it pauses a schedule, must work now.
  perform tasker._next_cron(v_schedule.cron, v_schedule.timezone, tasker._now());
  update tasker.schedules s
  set paused_at = null, paused_by = null, pause_reason = null
  where s.schedule_uuid = v_schedule.schedule_uuid and s.paused_at is not null;
  return found;
end
$function$;
comment on function tasker.resume_schedule(text, text) is
  'Resumes a paused schedule; what it does about the times missed meanwhile is its catch_up. True when this call resumed it, false when it was not paused. Errors: TK004, '
  '22023 for a time zone that the server has no more.';

create function tasker.delete_schedule(name text, namespace text default 'default') returns void
language plpgsql volatile parallel unsafe security definer set search_path = pg_catalog, pg_temp as $function$
declare
  v_schedule constant tasker.schedules := tasker._lock_schedule(delete_schedule.namespace, delete_schedule.name);
begin
  delete from tasker.schedules s where s.schedule_uuid = v_schedule.schedule_uuid;
end
$function$;
comment on function tasker.delete_schedule(text, text) is 'Deletes a schedule; the tasks that it created stay and go on. Errors: TK004.';

create function tasker.list_schedules(namespace text default null) returns setof tasker.schedule
language sql stable parallel unsafe security definer set search_path = pg_catalog, pg_temp as $function$
  select r.*
  from tasker.schedules s
  join tasker.namespaces n on n.namespace_id = s.namespace_id
  cross join lateral tasker._shown_schedule(s, n.name) r
  where (list_schedules.namespace is null or n.name = list_schedules.namespace) and tasker._may(n.name, 'read')
  order by n.name, s.name
$function$;
comment on function tasker.list_schedules(text) is 'Lists the schedules of a namespace, or of all, by namespace and name: when each is due next, what came of its last time, who paused it.';

create function tasker._open_times_of(p_schedule tasker.schedules, p_from timestamptz, p_before timestamptz, p_most integer) returns timestamptz[]
language sql stable parallel unsafe set search_path = pg_catalog, pg_temp as $function$
  select array(
    select t.at
    from unnest(p_schedule.open_times * tstzmultirange(tstzrange(p_from, p_before))) o(span)
    cross join lateral unnest(tasker._cron_times(p_schedule.cron, p_schedule.timezone, lower(o.span), upper(o.span), p_most)) t(at)
    order by t.at
    limit p_most)
$function$;
comment on function tasker._open_times_of(tasker.schedules, timestamptz, timestamptz, integer) is 'The times of a schedule from one on and before another that have had no task, the first so many of them.';

create function tasker.backfill_schedule(name text, "from" timestamptz, "to" timestamptz, namespace text default 'default') returns integer
language plpgsql volatile parallel unsafe security definer set search_path = pg_catalog, pg_temp as $function$
declare
  v_now timestamptz := tasker._now();
  v_schedule tasker.schedules := tasker._lock_schedule(backfill_schedule.namespace, backfill_schedule.name);
  v_before timestamptz;
  v_times timestamptz[];
begin
  if not coalesce(isfinite(backfill_schedule."from") and isfinite(backfill_schedule."to") and backfill_schedule."from" < backfill_schedule."to", false) then
    perform tasker._raise('22023', format('"from" must be before "to", not %s and %s', coalesce(backfill_schedule."from"::text, 'null'),
      coalesce(backfill_schedule."to"::text, 'null')), null, 'Give the first time to run and the time before which to stop.');
  end if;
  if v_schedule.paused_at is not null and v_schedule.next_at < least(backfill_schedule."to", v_now) then
    -- Nobody else runs these times now, and whoever resumes the schedule begins after them.
    v_before := tasker._next_cron(v_schedule.cron, v_schedule.timezone, least(backfill_schedule."to", v_now) - interval '1 microsecond');
    v_schedule.open_times := v_schedule.open_times + tstzmultirange(tstzrange(v_schedule.next_at, v_before));
    v_schedule.next_at := v_before;
  end if;
  v_before := least(backfill_schedule."to", v_schedule.next_at);
  v_times := tasker._open_times_of(v_schedule, least(backfill_schedule."from", v_before), v_before, tasker._max_batch() + 1);
  if cardinality(v_times) > tasker._max_batch() then
    perform tasker._raise('TK022', format('more than %s times are to be run', tasker._max_batch()), format('The last one that fits is %s.', v_times[tasker._max_batch()]),
      'Split the call into several, or raise tasker.max_batch.');
  elsif cardinality(v_times) = 0 then
    return 0;
  end if;
  update tasker.schedules s
  set next_at = v_schedule.next_at, open_times = v_schedule.open_times - tstzmultirange(tstzrange(backfill_schedule."from", v_before))
  where s.schedule_uuid = v_schedule.schedule_uuid;
  perform tasker._create_scheduled(v_schedule, v_times, v_now);
  return cardinality(v_times);
end
$function$;
comment on function tasker.backfill_schedule(text, timestamptz, timestamptz, text) is
  'Creates the tasks of a schedule for all its times from one on and before another that have had none, also those from before it was made, and says how many; a time runs once, '
  'however often this is called. Times that maintenance is still to run are left to it; a paused schedule goes on after the last one when it is resumed. '
  'Errors: TK004, TK022, 22023, and those of create_task.';
