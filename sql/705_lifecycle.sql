-- The clocks of tasks and of attempts: what is over its limit is ended by maintenance. Steps, and the tasks that are ended,
-- are locked without waiting, as maintenance holds other locks by then.
-- No clock of a task runs before it starts, while it or its namespace is paused, and while it is blocked_by_failures. Resuming a task notes in its row what its clocks leave out:
-- paused_ms of its duration; the clock of its state begins anew at resumed_at. A repair gives a task all its time anew in the same way.

create function tasker._timed_out_error(p_attempt integer, p_timeout_seconds integer) returns jsonb
language plpgsql stable parallel unsafe set search_path = pg_catalog, pg_temp as $function$
begin
  return jsonb_build_object('type', 'timed_out', 'retryable', true, 'message', format('attempt %s ran longer than %s seconds', p_attempt, p_timeout_seconds));
end
$function$;
comment on function tasker._timed_out_error(integer, integer) is 'The error of an attempt that ran past its step''s timeout.';

create function tasker._overdue_steps(p_step_uuids uuid[], p_now timestamptz, out step_uuids uuid[], out errors jsonb[])
language plpgsql stable parallel unsafe set search_path = pg_catalog, pg_temp as $function$
begin
  select array_agg(s.step_uuid order by s.step_uuid), array_agg(tasker._timed_out_error(s.attempt, d.timeout_seconds) order by s.step_uuid)
  into _overdue_steps.step_uuids, _overdue_steps.errors
  from unnest(p_step_uuids) u(step_uuid)
  cross join lateral (
    select s.step_uuid, s.template_id, s.attempt, s.started_at from tasker.steps s where s.step_uuid = u.step_uuid and s.state = 'in_progress'
  ) s
  cross join lateral tasker._step_definitions(array[s.template_id], array[tasker._number_of(s.step_uuid)]) d
  where s.started_at + d.timeout_seconds * interval '1 second' <= p_now;
end
$function$;
comment on function tasker._overdue_steps(uuid[], timestamptz) is 'Those of the steps whose attempt has run past the step''s timeout, each with the error of that.';

create function tasker._time_out_attempts(p_step_uuids uuid[], p_now timestamptz, p_actor text) returns bigint
language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp as $function$
declare
  v_locked uuid[];
  v_overdue record;
begin
  -- Looked at before it is locked: a lock makes claims go past a step. And again under the lock.
  select * into v_overdue from tasker._overdue_steps(p_step_uuids, p_now);
  v_locked := array(
    select s.step_uuid
    from unnest(v_overdue.step_uuids) u(step_uuid)
    cross join lateral (select s.step_uuid from tasker.steps s where s.step_uuid = u.step_uuid for no key update skip locked) s);
  select * into v_overdue from tasker._overdue_steps(v_locked, p_now);
  if v_overdue.step_uuids is null then
    return 0;
  end if;
  perform tasker._raise_refused(tasker._time_out(v_overdue.step_uuids, v_overdue.errors, p_now, p_actor));
  return cardinality(v_overdue.step_uuids);
end
$function$;
comment on function tasker._time_out_attempts(uuid[], timestamptz, text) is
  'Fails the attempts of steps that have run past their timeout though their worker says nothing, and says how many.';

create function tasker._task_clocks(p_task_uuid uuid) returns table (clock text, limit_seconds integer, since timestamptz)
language plpgsql stable parallel unsafe set search_path = pg_catalog, pg_temp as $function$
begin
  return query
    select l.clock, l.limit_seconds,
      case l.clock
        when 'max_duration_seconds' then t.started_at + coalesce(t.paused_ms, 0) * interval '1 millisecond'
        else greatest(h.entered_at, o.at, t.resumed_at) end
    from (
      select t.task_uuid, t.template_id, t.namespace_id, t.state, t.started_at, t.paused_ms, t.resumed_at
      from tasker.tasks t
      where t.task_uuid = p_task_uuid and t.started_at is not null and t.finished_at is null and t.paused_at is null and t.state <> 'blocked_by_failures'
        and t.compensates is null
    ) t
    cross join lateral (select from tasker.namespaces n where n.namespace_id = t.namespace_id and n.paused_at is null) n
    cross join lateral (
      select l.clock, l.limit_seconds from tasker._clock_limits(t.template_id) l where l.clock in ('max_duration_seconds', format('max_%s_seconds', t.state))
    ) l
    -- A task's last history row is the one that brought it into its state.
    cross join lateral (
      select h.at as entered_at from tasker.task_transitions h where h.task_uuid = t.task_uuid order by h.seq desc limit 1
    ) h
    -- An outcome of one step gives the others their time anew.
    left join lateral (
      select greatest(max(s.finished_at), max(s.enqueued_at)) as at
      from tasker.steps s
      where s.step_uuid > t.task_uuid and s.step_uuid <= tasker._last_step_uuid(t.task_uuid)
    ) o on l.clock = 'max_steps_in_process_seconds';
end
$function$;
comment on function tasker._task_clocks(uuid) is 'The clocks of a task''s lifecycle that run, with their limits and since when.';

create function tasker._stale_tasks(p_task_uuids uuid[], p_now timestamptz, out task_uuids uuid[], out errors jsonb[])
language plpgsql stable parallel unsafe set search_path = pg_catalog, pg_temp as $function$
begin
  select array_agg(u.task_uuid order by u.task_uuid),
    array_agg(jsonb_build_object('type', 'staleness_timeout', 'message', format('the task is over its %s of %s', c.clock, c.limit_seconds),
      'detail', jsonb_build_object('clock', c.clock, 'limit_seconds', c.limit_seconds, 'since', c.since)) order by u.task_uuid)
  into _stale_tasks.task_uuids, _stale_tasks.errors
  from unnest(p_task_uuids) u(task_uuid)
  cross join lateral (
    select c.* from tasker._task_clocks(u.task_uuid) c
    where c.since + c.limit_seconds * interval '1 second' <= p_now
    order by c.since + c.limit_seconds * interval '1 second'
    limit 1
  ) c;
end
$function$;
comment on function tasker._stale_tasks(uuid[], timestamptz) is 'Those of the tasks that are over a limit of their lifecycle, each with the error that names the clock that ran out first.';

create function tasker._try_lock_whole_task(p_task_uuid uuid) returns boolean
language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp as $function$
declare
  v_locked bigint;
begin
  select count(*) into v_locked
  from (
    select s.step_uuid from tasker.steps s
    where s.step_uuid > p_task_uuid and s.step_uuid <= tasker._last_step_uuid(p_task_uuid)
    order by s.step_uuid
    for no key update skip locked
  ) s;
  perform t.task_uuid from tasker.tasks t where t.task_uuid = p_task_uuid for no key update skip locked;
  return found and v_locked = (
    select count(*) from tasker.steps s where s.step_uuid > p_task_uuid and s.step_uuid <= tasker._last_step_uuid(p_task_uuid));
end
$function$;
comment on function tasker._try_lock_whole_task(uuid) is 'Locks a task''s steps, then the task, all without waiting; false when somebody else has one of them.';

create function tasker._time_out_tasks(p_task_uuids uuid[], p_limit integer, p_now timestamptz, p_actor text) returns bigint
language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp as $function$
declare
  v_locked uuid[];
  v_stale record;
  v_dead uuid[];
  v_undone uuid[];
begin
  -- One that somebody is changing is left for the next round; the others are looked at again under their locks.
  select * into v_stale from tasker._stale_tasks(p_task_uuids, p_now);
  perform tasker._wait_for_turn(v_stale.task_uuids[:p_limit]);
  v_locked := array(
    select u.task_uuid from (select u.task_uuid from unnest(v_stale.task_uuids) u(task_uuid) limit p_limit) u where tasker._try_lock_whole_task(u.task_uuid));
  select * into v_stale from tasker._stale_tasks(v_locked, p_now);
  if v_stale.task_uuids is null then
    return 0;
  end if;
  -- What is pending stays, so that a repair can go on from there.
  perform tasker._raise_refused(tasker._cancel_steps(
    array(
      select s.step_uuid
      from unnest(v_stale.task_uuids) u(task_uuid)
      cross join lateral (
        select s.step_uuid from tasker.steps s
        where s.step_uuid > u.task_uuid and s.step_uuid <= tasker._last_step_uuid(u.task_uuid) and s.state <> 'pending' and not tasker._is_terminal(s.state)
      ) s),
    p_now, p_actor));
  v_undone := array(
    select u.task_uuid
    from unnest(v_stale.task_uuids) u(task_uuid)
    cross join lateral (select t.template_id from tasker.tasks t where t.task_uuid = u.task_uuid) t
    where tasker._has_compensations(t.template_id) and tasker._compensate(u.task_uuid, p_now, p_actor) > 0);
  insert into tasker.task_transitions (task_uuid, path, at, actor, metadata)
  select t.task_uuid, tasker._task_path(t.state, case when t.task_uuid = any (v_undone) then array['compensate', 'steps_enqueued'] else array['timed_out'] end), p_now, p_actor,
    u.error -> 'detail'
  from unnest(v_stale.task_uuids, v_stale.errors) u(task_uuid, error)
  cross join lateral (select t.task_uuid, t.state from tasker.tasks t where t.task_uuid = u.task_uuid) t;
  perform tasker._announce_events();
  update tasker.tasks t
  set state = case when u.is_undone then 'steps_in_process' else 'error' end, running = u.is_undone::integer, waiting_retry = 0, waiting_engine = 0,
    failed = tasker._count_failed(t.task_uuid), finished_at = case when not u.is_undone then p_now end, error = u.error,
    compensates = case when u.is_undone then 'error' else t.compensates end
  from (
    select u.task_uuid, u.error, u.task_uuid = any (v_undone) as is_undone from unnest(v_stale.task_uuids, v_stale.errors) u(task_uuid, error)
  ) u
  where t.task_uuid = u.task_uuid;
  perform tasker._note_ends(v_stale.task_uuids);
  v_dead := array(
    select u.task_uuid
    from unnest(v_stale.task_uuids) u(task_uuid)
    cross join lateral (select t.template_id from tasker.tasks t where t.task_uuid = u.task_uuid) t
    where exists (select from tasker._clock_limits(t.template_id) l where l.staleness_action = 'dlq'));
  perform tasker._open_dead_letters(v_dead, p_now, p_actor);
  return cardinality(v_stale.task_uuids);
end
$function$;
comment on function tasker._time_out_tasks(uuid[], integer, timestamptz, text) is
  'Ends tasks that are over a limit of their lifecycle, at most p_limit of them: what is enqueued, running or waiting is cancelled, the task is in error, with a dead letter where '
  'the template wants one; says how many.';
