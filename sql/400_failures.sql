-- What a failed task gets: its error and its dead letter; and the dead letters of instances that failed without their tasks. Not here: when they fail, which the library decides.

create function tasker._dead_letter_reason(p_error jsonb) returns text
language plpgsql immutable parallel safe set search_path = pg_catalog, pg_temp as $function$
begin
  return case
    when p_error ->> 'type' = 'lease_expired' then 'worker_unavailable'
    when p_error ->> 'type' = 'staleness_timeout' then 'staleness_timeout'
    when p_error ->> 'retryable' = 'false' then 'permanent_failure'
    else 'max_retries_exceeded'
  end;
end
$function$;
comment on function tasker._dead_letter_reason(jsonb) is 'The dead letter''s reason, from the error of the step that failed for good.';

create function tasker._open_dead_letter_of(p_key uuid) returns uuid
language plpgsql stable parallel unsafe set search_path = pg_catalog, pg_temp as $function$
begin
  return (
    select d.dead_letter_uuid from tasker.dead_letters d
    where d.task_uuid = tasker._task_of(p_key) and coalesce(d.step_uuid, d.task_uuid) = p_key and d.resolution = 'pending');
end
$function$;
comment on function tasker._open_dead_letter_of(uuid) is 'The open dead letter of a task itself, or of one of its steps, by its key; null without one.';

create function tasker._open_dead_letters(
  p_task_uuids uuid[], p_now timestamptz, p_actor text, p_reason text default null, p_note text default null) returns void
language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp as $function$
begin
  -- The snapshot: the task, its steps and the last 100 history rows of them as they are now. Of more than a thousand steps those that failed or were cancelled come first, then those
  -- that have not ended, then the template's own; instances that succeeded are left out: a hundred thousand would be hundreds of megabytes, and jsonb ends at 256.
  insert into tasker.dead_letters (dead_letter_uuid, task_uuid, reason, snapshot, opened_at, opened_by, note)
  select (tasker._task_uuids(1, p_now))[1], t.task_uuid, coalesce(p_reason, tasker._dead_letter_reason(t.error)),
    jsonb_build_object('task', t.snapshot, 'steps', s.snapshot, 'steps_left_out', s.left_out, 'history', h.snapshot), p_now, p_actor, p_note
  from unnest(p_task_uuids) u(task_uuid)
  cross join lateral (
    select t.task_uuid, t.template_id, t.error, to_jsonb(t) as snapshot, tasker._last_step_uuid(t.task_uuid) as last_step_uuid
    from tasker.tasks t
    where t.task_uuid = u.task_uuid
  ) t
  cross join lateral (select x.steps_count from tasker.templates x where x.template_id = t.template_id) x
  cross join lateral (select count(*) as count from tasker.steps s where s.step_uuid > t.task_uuid and s.step_uuid <= t.last_step_uuid) c
  cross join lateral (
    -- Chosen by their keys alone: their rows are read when it is known which.
    select coalesce(jsonb_agg(to_jsonb(s) || jsonb_build_object('number', tasker._number_of(s.step_uuid)) order by k.rank, k.step_uuid), '[]') as snapshot,
      c.count - count(*) as left_out
    from (
      select s.step_uuid, r.rank
      from tasker.steps s
      cross join lateral (
        select case when c.count <= 1000 or s.state in ('error', 'cancelled') then 0 when not tasker._satisfies_dependents(s.state) then 1
          when tasker._number_of(s.step_uuid) <= x.steps_count then 2 end as rank
      ) r
      where s.step_uuid > t.task_uuid and s.step_uuid <= t.last_step_uuid and r.rank is not null
      order by r.rank, s.step_uuid
      limit 1000
    ) k
    cross join lateral (select s.* from tasker.steps s where s.step_uuid = k.step_uuid) s
  ) s
  cross join lateral (
    select coalesce(jsonb_agg(to_jsonb(h) - 'path' || jsonb_build_object('transitions', u.transitions) order by h.seq), '[]') as snapshot
    from (
      select h.* from tasker.step_transitions h
      where h.step_uuid > t.task_uuid and h.step_uuid <= t.last_step_uuid
      order by h.seq desc
      limit 100
    ) h
    cross join lateral (
      select jsonb_agg(jsonb_build_object('from_state', u.from_state, 'event', u.event, 'to_state', u.to_state) order by u.ordinal) as transitions
      from tasker._unroll_step(h.path) u
    ) u
  ) h
  -- Under the tasks' locks: nobody opens one at the same time.
  where not exists (
    select from tasker.dead_letters d
    where d.task_uuid = u.task_uuid and coalesce(d.step_uuid, d.task_uuid) = u.task_uuid and d.resolution = 'pending');
end
$function$;
comment on function tasker._open_dead_letters(uuid[], timestamptz, text, text, text) is
  'Opens a dead letter for each task that has none open; without a reason the task''s error says it.';

create function tasker._open_step_dead_letters(p_step_uuids uuid[], p_now timestamptz, p_actor text) returns void
language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp as $function$
begin
  -- The snapshot: the task, the one step and the last 100 rows of its history.
  insert into tasker.dead_letters (dead_letter_uuid, task_uuid, step_uuid, reason, snapshot, opened_at, opened_by)
  select u.dead_letter_uuid, t.task_uuid, s.step_uuid, tasker._dead_letter_reason(s.error),
    jsonb_build_object('task', t.snapshot, 'steps', jsonb_build_array(s.snapshot), 'history', h.snapshot), p_now, p_actor
  from unnest(p_step_uuids, tasker._task_uuids(cardinality(p_step_uuids), p_now)) u(step_uuid, dead_letter_uuid)
  cross join lateral (
    select s.step_uuid, s.error, tasker._task_of(s.step_uuid) as task_uuid,
      to_jsonb(s) || jsonb_build_object('number', tasker._number_of(s.step_uuid)) as snapshot
    from tasker.steps s
    where s.step_uuid = u.step_uuid
  ) s
  cross join lateral (select t.task_uuid, to_jsonb(t) as snapshot from tasker.tasks t where t.task_uuid = s.task_uuid) t
  cross join lateral (
    select coalesce(jsonb_agg(to_jsonb(h) - 'path' || jsonb_build_object('transitions', u.transitions) order by h.seq), '[]') as snapshot
    from (
      select h.* from tasker.step_transitions h
      where h.step_uuid = s.step_uuid
      order by h.seq desc
      limit 100
    ) h
    cross join lateral (
      select jsonb_agg(jsonb_build_object('from_state', u.from_state, 'event', u.event, 'to_state', u.to_state) order by u.ordinal) as transitions
      from tasker._unroll_step(h.path) u
    ) u
  ) h
  -- Under the steps' locks, for the same reason. Both conditions come from one table, so that the index is searched for both: by the task alone it leads through all of its instances.
  where not exists (
    select from tasker.dead_letters d
    where d.task_uuid = s.task_uuid and coalesce(d.step_uuid, d.task_uuid) = s.step_uuid and d.resolution = 'pending');
end
$function$;
comment on function tasker._open_step_dead_letters(uuid[], timestamptz, text) is
  'Opens a dead letter for each step that has none open, with the reason that its error says: for instances that failed for good, without their tasks.';

create function tasker._is_tolerated(p_template_id integer, p_number integer, p_steps_count integer) returns boolean
language plpgsql stable parallel unsafe set search_path = pg_catalog, pg_temp as $function$
begin
  -- Only instances are. Of others a session is not asked whose library is older than instances, and lacks the function.
  if p_number <= p_steps_count then
    return false;
  end if;
  return tasker._tolerates_failure(p_template_id, p_number);
end
$function$;
comment on function tasker._is_tolerated(integer, integer, integer) is 'Whether a step that failed for good, of a template with so many steps, is none that its task fails of.';

create function tasker._record_failures(p_task_uuids uuid[], p_now timestamptz, p_actor text) returns void
language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp as $function$
begin
  -- What a task failed of: the error of its first step that failed and had to succeed, with the step's name.
  update tasker.tasks t
  set error = f.error
  from unnest(p_task_uuids) u(task_uuid)
  cross join lateral (
    select jsonb_build_object('message', format('step %s failed: %s', d.name, s.error ->> 'message'), 'step_uuid', s.step_uuid, 'step_name', d.name)
      || coalesce(s.error - 'message', '{}') as error
    from (
      select s.step_uuid, s.template_id, s.error
      from tasker.steps s
      cross join lateral (select x.steps_count from tasker.templates x where x.template_id = s.template_id) x
      where s.step_uuid > u.task_uuid and s.step_uuid <= tasker._last_step_uuid(u.task_uuid) and s.state = 'error'
      order by tasker._is_tolerated(s.template_id, tasker._number_of(s.step_uuid), x.steps_count), s.finished_at, s.step_uuid
      limit 1
    ) s
    cross join lateral tasker._step_definitions(array[s.template_id], array[tasker._number_of(s.step_uuid)]) d
  ) f
  where t.task_uuid = u.task_uuid and t.error is null;
  perform tasker._open_dead_letters(p_task_uuids, p_now, p_actor);
end
$function$;
comment on function tasker._record_failures(uuid[], timestamptz, text) is 'Gives tasks that have just failed, and are locked, their error and their dead letter.';
