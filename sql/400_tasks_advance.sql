-- A task's counters and what follows from them: the one place where a task's next state is decided, and where a failed task gets its dead letter.
-- Not here: steps (410), and cancelling (600).

create function tasker._lock_tasks(p_task_uuids uuid[]) returns void
language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp as $function$
begin
  -- In key order, after the step locks.
  perform t.task_uuid
  from (select distinct u.task_uuid from unnest(p_task_uuids) u(task_uuid) order by u.task_uuid) u
  cross join lateral (select t.task_uuid from tasker.tasks t where t.task_uuid = u.task_uuid for no key update) t;
end
$function$;
comment on function tasker._lock_tasks(uuid[]) is 'Locks tasks in key order.';

create function tasker._dead_letter_reason(p_error jsonb) returns text
language plpgsql immutable parallel safe set search_path = pg_catalog, pg_temp as $function$
begin
  return case
    when p_error ->> 'type' = 'lease_expired' then 'worker_unavailable'
    when p_error ->> 'retryable' = 'false' then 'permanent_failure'
    else 'max_retries_exceeded'
  end;
end
$function$;
comment on function tasker._dead_letter_reason(jsonb) is 'The dead letter''s reason, from the error of the step that failed for good.';

create function tasker._open_dead_letters(p_task_uuids uuid[], p_now timestamptz, p_actor text) returns void
language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp as $function$
begin
  -- The snapshot: the task, all its steps and the last 100 history rows of them as they are now.
  insert into tasker.dead_letters (dead_letter_uuid, task_uuid, reason, snapshot, opened_at, opened_by)
  select (tasker._task_uuids(1, p_now))[1], t.task_uuid, tasker._dead_letter_reason(t.error),
    jsonb_build_object('task', t.snapshot, 'steps', s.snapshot, 'history', h.snapshot), p_now, p_actor
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
    select coalesce(jsonb_agg(to_jsonb(h) order by h.seq), '[]') as snapshot
    from (
      select h.* from tasker.step_transitions h
      where h.step_uuid > t.task_uuid and h.step_uuid <= t.last_step_uuid
      order by h.seq desc
      limit 100
    ) h
  ) h
  on conflict (task_uuid) where resolution = 'pending' do nothing;
end
$function$;
comment on function tasker._open_dead_letters(uuid[], timestamptz, text) is 'Opens a dead letter for each task that has none open.';

create function tasker._advance_tasks(p_deltas tasker._task_delta[], p_now timestamptz, p_actor text) returns void
language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp as $function$
declare
  v_failed uuid[];
begin
  perform tasker._lock_tasks(array(select d.task_uuid from unnest(p_deltas) d));
  with decided as materialized (
    select t.task_uuid, t.state as from_state, d.cause,
      t.running + d.running as running, t.waiting_retry + d.waiting_retry as waiting_retry, t.failed + d.failed as failed,
      case
        when tasker._is_terminal(t.state) then t.state
        when t.running + d.running > 0 then 'steps_in_process'
        when t.waiting_retry + d.waiting_retry > 0 then 'waiting_for_retry'
        when t.waiting_engine > 0 then 'waiting_for_dependencies'
        when t.failed + d.failed > 0 then case x.on_failure when 'block' then 'blocked_by_failures' else 'error' end
        else 'complete'
      end as to_state
    from unnest(p_deltas) d
    cross join lateral (select t.* from tasker.tasks t where t.task_uuid = d.task_uuid) t
    cross join lateral (select x.on_failure from tasker.templates x where x.template_id = t.template_id) x
  ), changed as (
    update tasker.tasks t
    set running = d.running, waiting_retry = d.waiting_retry, failed = d.failed, state = d.to_state,
      finished_at = case when tasker._is_terminal(d.to_state) then coalesce(t.finished_at, p_now) end,
      error = case when d.to_state in ('error', 'blocked_by_failures') then coalesce(t.error, (
        -- What the task failed of: its first failed step's error, with the step's name.
        select jsonb_build_object('message', format('step %s failed: %s', f.name, s.error ->> 'message'), 'step_uuid', s.step_uuid, 'step_name', f.name)
          || coalesce(s.error - 'message', '{}')
        from (
          select s.step_uuid, s.template_id, s.error
          from tasker.steps s
          where s.step_uuid > t.task_uuid and s.step_uuid <= tasker._last_step_uuid(t.task_uuid) and s.state = 'error'
          order by s.finished_at, s.step_uuid
          limit 1
        ) s
        cross join lateral tasker._step_definitions(array[s.template_id], array[tasker._number_of(s.step_uuid)]) f
      )) else t.error end
    from decided d
    where t.task_uuid = d.task_uuid
    returning t.task_uuid, d.from_state, d.to_state, d.cause
  ), recorded as (
    insert into tasker.task_transitions (task_uuid, from_state, to_state, event, passed_through, at, actor)
    select c.task_uuid, c.from_state, c.to_state, p.event, p.passed_through, p_now, p_actor
    from changed c
    cross join lateral tasker._task_path(c.from_state, c.to_state, c.cause) p
    where c.from_state <> c.to_state
    returning task_uuid, to_state
  )
  select array_agg(r.task_uuid order by r.task_uuid) into v_failed from recorded r where r.to_state in ('error', 'blocked_by_failures');
  if v_failed is not null then
    perform tasker._open_dead_letters(v_failed, p_now, p_actor);
  end if;
end
$function$;
comment on function tasker._advance_tasks(tasker._task_delta[], timestamptz, text) is
  'Applies the net change of each task''s counters, once, and decides its next state under its row lock.';

create function tasker._task_path(p_from text, p_to text, p_cause text, out event text, out passed_through text[])
language plpgsql immutable parallel safe set search_path = pg_catalog, pg_temp as $function$
begin
  event := case p_to
    when 'steps_in_process' then 'steps_enqueued'
    when 'waiting_for_retry' then 'retry_scheduled'
    when 'waiting_for_dependencies' then 'no_dependencies_ready'
    when 'blocked_by_failures' then 'permanent_failure'
    when 'error' then 'give_up'
    when 'complete' then 'all_steps_successful'
  end;
  passed_through := case
    when p_from = 'waiting_for_retry' and p_to = 'steps_in_process' then array['retry_ready:enqueuing_steps']
    when p_to = 'error' then array[p_cause || ':evaluating_results', 'permanent_failure:blocked_by_failures']
    when p_to = 'complete' then array['all_steps_completed:evaluating_results']
    else array[p_cause || ':evaluating_results']
  end;
end
$function$;
comment on function tasker._task_path(text, text, text) is
  'The last event and the states passed through on a task''s way from one durable state to another; verify() holds it against the state machine.';
