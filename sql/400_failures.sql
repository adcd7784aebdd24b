-- What a failed task gets: its error and its dead letter. Not here: when it fails, which the library decides.

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

create function tasker._open_dead_letters(
  p_task_uuids uuid[], p_now timestamptz, p_actor text, p_reason text default null, p_note text default null) returns void
language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp as $function$
begin
  -- The snapshot: the task, all its steps and the last 100 history rows of them as they are now.
  insert into tasker.dead_letters (dead_letter_uuid, task_uuid, reason, snapshot, opened_at, opened_by, note)
  select (tasker._task_uuids(1, p_now))[1], t.task_uuid, coalesce(p_reason, tasker._dead_letter_reason(t.error)),
    jsonb_build_object('task', t.snapshot, 'steps', s.snapshot, 'history', h.snapshot), p_now, p_actor, p_note
  from unnest(p_task_uuids) u(task_uuid)
  cross join lateral (
    select t.task_uuid, t.error, to_jsonb(t) as snapshot, tasker._last_step_uuid(t.task_uuid) as last_step_uuid
    from tasker.tasks t
    where t.task_uuid = u.task_uuid
  ) t
  cross join lateral (
    select coalesce(jsonb_agg(to_jsonb(s) || jsonb_build_object('number', tasker._number_of(s.step_uuid)) order by s.step_uuid), '[]') as snapshot
    from tasker.steps s
    where s.step_uuid > t.task_uuid and s.step_uuid <= t.last_step_uuid
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
  where not exists (select from tasker.dead_letters d where d.task_uuid = u.task_uuid and d.resolution = 'pending');
end
$function$;
comment on function tasker._open_dead_letters(uuid[], timestamptz, text, text, text) is
  'Opens a dead letter for each task that has none open; without a reason the task''s error says it.';

create function tasker._record_failures(p_task_uuids uuid[], p_now timestamptz, p_actor text) returns void
language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp as $function$
begin
  -- What a task failed of: its first failed step's error, with the step's name.
  update tasker.tasks t
  set error = f.error
  from unnest(p_task_uuids) u(task_uuid)
  cross join lateral (
    select jsonb_build_object('message', format('step %s failed: %s', d.name, s.error ->> 'message'), 'step_uuid', s.step_uuid, 'step_name', d.name)
      || coalesce(s.error - 'message', '{}') as error
    from (
      select s.step_uuid, s.template_id, s.error
      from tasker.steps s
      where s.step_uuid > u.task_uuid and s.step_uuid <= tasker._last_step_uuid(u.task_uuid) and s.state = 'error'
      order by s.finished_at, s.step_uuid
      limit 1
    ) s
    cross join lateral tasker._step_definitions(array[s.template_id], array[tasker._number_of(s.step_uuid)]) d
  ) f
  where t.task_uuid = u.task_uuid and t.error is null;
  perform tasker._open_dead_letters(p_task_uuids, p_now, p_actor);
end
$function$;
comment on function tasker._record_failures(uuid[], timestamptz, text) is 'Gives tasks that have just failed, and are locked, their error and their dead letter.';
