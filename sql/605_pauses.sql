-- Pausing and resuming tasks and namespaces, and starting the tasks that a pause held back. Running steps finish, ready ones wait.
-- A paused task's steps carry its mark: whoever has locked a step knows of the pause without reading the task, and hides what becomes ready (engine/rows.rs).
-- A paused namespace is a mark in its own row: claims and hand-overs pass over it, and nothing else is written.
-- Not here: lists and settings of namespaces (630).

create function tasker._visible_at(p_state text, p_paused_at timestamptz, p_retry_at timestamptz, p_lease_expires_at timestamptz, p_now timestamptz) returns timestamptz
language plpgsql immutable parallel safe set search_path = pg_catalog, pg_temp as $function$
begin
  return case when p_state = 'in_progress' then tasker._hidden_until(p_lease_expires_at) when p_paused_at is not null then 'infinity' when p_state = 'waiting_for_retry' then p_retry_at
    else p_now end;
end
$function$;
comment on function tasker._visible_at(text, timestamptz, timestamptz, timestamptz, timestamptz) is
  'From when on the message of a live step is visible: when the second of its lease''s end or its delay is over, else now; infinity while its task is paused.';

create function tasker._mark_steps(p_task_uuid uuid, p_namespace_id integer, p_paused_at timestamptz, p_now timestamptz) returns void
language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp as $function$
declare
  v_namespace record;
  v_messages record;
begin
  update tasker.steps s
  set paused_at = p_paused_at
  where s.step_uuid > p_task_uuid and s.step_uuid <= tasker._last_step_uuid(p_task_uuid);
  select array_agg(s.msg_id order by s.step_uuid) as ids,
    array_agg(tasker._visible_at(s.state, s.paused_at, s.retry_at, s.lease_expires_at, p_now) order by s.step_uuid) as visible_at
  into v_messages
  from tasker.steps s
  where s.step_uuid > p_task_uuid and s.step_uuid <= tasker._last_step_uuid(p_task_uuid) and s.msg_id is not null;
  if v_messages.ids is null then
    return;
  end if;
  select n.name, n.queue_name into v_namespace from tasker.namespaces n where n.namespace_id = p_namespace_id;
  perform tasker._raise_refused(tasker._queue_problem(v_namespace.queue_name));
  perform tasker._queue_set_visible_at(v_namespace.queue_name, v_messages.ids, v_messages.visible_at);
  if p_paused_at is null then
    perform pg_notify('tasker_ready_' || v_namespace.name, '');
  end if;
end
$function$;
comment on function tasker._mark_steps(uuid, integer, timestamptz, timestamptz) is
  'Marks the steps of a task, all of them locked, as paused or not, and hides or shows their messages (TK030).';

create function tasker.pause_task(task_uuid uuid, reason text default null) returns boolean
language plpgsql volatile parallel unsafe security definer set search_path = pg_catalog, pg_temp as $function$
declare
  v_now timestamptz := tasker._now();
  v_task record;
begin
  perform tasker._lock_to_operate(pause_task.task_uuid);
  select t.state, t.namespace_id, t.run_at, t.paused_at into v_task from tasker.tasks t where t.task_uuid = pause_task.task_uuid;
  if v_task.paused_at is not null then
    return false;
  elsif tasker._is_terminal(v_task.state) then
    perform tasker._raise('TK010', format('task cannot be paused: it is %s', v_task.state), 'A task that has ended has nothing to hold back.',
      'tasker.get_task(task_uuid) shows how it ended.');
  end if;
  update tasker.tasks t
  set paused_at = v_now, paused_by = tasker._author(), pause_reason = pause_task.reason
  where t.task_uuid = pause_task.task_uuid;
  perform tasker._mark_steps(pause_task.task_uuid, v_task.namespace_id, v_now, v_now);
  -- A task that has not started isn't waited for while it is paused.
  delete from tasker.scheduled_tasks s where s.run_at = v_task.run_at and s.task_uuid = pause_task.task_uuid;
  delete from tasker.held_tasks h where h.namespace_id = v_task.namespace_id and h.task_uuid = pause_task.task_uuid;
  return true;
end
$function$;
comment on function tasker.pause_task(uuid, text) is
  'Pauses a task: its running steps finish, all others wait until resume_task, also those that become ready meanwhile; one that has not started doesn''t start. The mark outlives the '
  'end of the task. True when this call paused it, false when it was paused already. Errors: TK001, TK010 for a task that has ended, TK030.';

create function tasker.resume_task(task_uuid uuid) returns boolean
language plpgsql volatile parallel unsafe security definer set search_path = pg_catalog, pg_temp as $function$
declare
  v_now timestamptz := tasker._now();
  v_task record;
begin
  perform tasker._lock_to_operate(resume_task.task_uuid);
  select t.state, t.namespace_id, t.run_at, t.paused_at into v_task from tasker.tasks t where t.task_uuid = resume_task.task_uuid;
  if v_task.paused_at is null then
    return false;
  end if;
  update tasker.tasks t
  set paused_at = null, paused_by = null, pause_reason = null, resumed_at = v_now,
    paused_ms = coalesce(t.paused_ms, 0) + (extract(epoch from v_now - t.paused_at) * 1000)::bigint
  where t.task_uuid = resume_task.task_uuid;
  perform tasker._mark_steps(resume_task.task_uuid, v_task.namespace_id, null, v_now);
  if v_task.state = 'pending' and v_task.run_at > v_now then
    insert into tasker.scheduled_tasks (run_at, task_uuid) values (v_task.run_at, resume_task.task_uuid);
  elsif v_task.state = 'pending' then
    perform tasker._start_pending(array[resume_task.task_uuid], v_now, tasker._author());
  end if;
  return true;
end
$function$;
comment on function tasker.resume_task(uuid) is
  'Resumes a paused task: what is ready is visible to workers at once, what waits for a retry when that is due; one whose run_at has passed starts. True when this call resumed it, '
  'false when it was not paused. Errors: TK001, TK030.';

create function tasker._require_namespace(p_namespace text) returns integer
language plpgsql stable parallel unsafe set search_path = pg_catalog, pg_temp as $function$
declare
  v_namespace_id integer;
begin
  select n.namespace_id into v_namespace_id from tasker.namespaces n where n.name = p_namespace;
  if not found then
    perform tasker._raise('TK004', format('namespace %s not found', coalesce(p_namespace, 'null')), null, 'tasker.list_namespaces() shows the namespaces there are.');
  end if;
  return v_namespace_id;
end
$function$;
comment on function tasker._require_namespace(text) is 'The key of a namespace; refuses the name of none (TK004).';

create function tasker.pause_namespace(namespace text, reason text default null) returns boolean
language plpgsql volatile parallel unsafe security definer set search_path = pg_catalog, pg_temp as $function$
begin
  perform tasker._require_may(pause_namespace.namespace, 'operate');
  perform tasker._require_namespace(pause_namespace.namespace);
  update tasker.namespaces n
  set paused_at = tasker._now(), paused_by = tasker._author(), pause_reason = pause_namespace.reason
  where n.name = pause_namespace.namespace and n.paused_at is null;
  return found;
end
$function$;
comment on function tasker.pause_namespace(text, text) is
  'Pauses a namespace: claims pass over it and nothing is handed over in it, its running steps finish, and tasks created or due in it stay pending until resume_namespace. True when '
  'this call paused it, false when it was paused already. Errors: TK004.';

create function tasker.resume_namespace(namespace text) returns boolean
language plpgsql volatile parallel unsafe security definer set search_path = pg_catalog, pg_temp as $function$
begin
  perform tasker._require_may(resume_namespace.namespace, 'operate');
  perform tasker._require_namespace(resume_namespace.namespace);
  update tasker.namespaces n
  set paused_at = null, paused_by = null, pause_reason = null
  where n.name = resume_namespace.namespace and n.paused_at is not null;
  if not found then
    return false;
  end if;
  -- The first of those that were held back; maintenance starts the rest.
  perform tasker._start_held_tasks(1000, tasker._now(), tasker._author());
  perform pg_notify('tasker_ready_' || resume_namespace.namespace, '');
  return true;
end
$function$;
comment on function tasker.resume_namespace(text) is
  'Resumes a paused namespace: workers are woken, and the tasks that were held back start, the first thousand at once and the others by maintenance. True when this call resumed it, '
  'false when it was not paused. Errors: TK004, TK030.';

create function tasker._lock_pending(p_task_uuids uuid[], out pending uuid[], out busy uuid[])
language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp as $function$
begin
  select array_agg(t.task_uuid) filter (where t.state = 'pending' and t.paused_at is null),
    array_agg(u.task_uuid) filter (where t.task_uuid is null and b.task_uuid is not null)
  into pending, busy
  from unnest(p_task_uuids) u(task_uuid)
  left join lateral (
    select t.task_uuid, t.state, t.paused_at from tasker.tasks t where t.task_uuid = u.task_uuid for no key update skip locked
  ) t on true
  left join lateral (select b.task_uuid from tasker.tasks b where b.task_uuid = u.task_uuid) b on true;
end
$function$;
comment on function tasker._lock_pending(uuid[]) is
  'Locks tasks without waiting, and says which of them may start; another session changes the busy ones.';

create function tasker._start_pending(p_task_uuids uuid[], p_now timestamptz, p_actor text) returns bigint
language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp as $function$
declare
  v_starting uuid[];
  v_held uuid[];
  v_held_in integer[];
begin
  select array_agg(t.task_uuid) filter (where n.paused_at is null), array_agg(t.task_uuid) filter (where n.paused_at is not null),
    array_agg(t.namespace_id) filter (where n.paused_at is not null)
  into v_starting, v_held, v_held_in
  from unnest(p_task_uuids) u(task_uuid)
  cross join lateral (select t.task_uuid, t.namespace_id from tasker.tasks t where t.task_uuid = u.task_uuid) t
  cross join lateral (select n.paused_at from tasker.namespaces n where n.namespace_id = t.namespace_id) n;
  insert into tasker.held_tasks (namespace_id, task_uuid)
  select h.namespace_id, h.task_uuid from unnest(v_held_in, v_held) h(namespace_id, task_uuid);
  if v_starting is null then
    return 0;
  end if;
  update tasker.tasks t
  set state = case when x.steps_count = 0 then 'complete' when x.roots_count = 0 then 'waiting_for_dependencies' else 'steps_in_process' end, running = x.roots_count, started_at = p_now,
    finished_at = case x.steps_count when 0 then p_now end
  from unnest(v_starting) u(task_uuid), tasker.templates x
  where t.task_uuid = u.task_uuid and x.template_id = t.template_id;
  perform tasker._note_ends(array(
    select t.task_uuid
    from unnest(v_starting) u(task_uuid)
    cross join lateral (select t.task_uuid from tasker.tasks t where t.task_uuid = u.task_uuid and t.finished_at is not null) t));
  perform tasker._raise_refused(tasker._start_tasks(v_starting, p_now, p_actor));
  return cardinality(v_starting);
end
$function$;
comment on function tasker._start_pending(uuid[], timestamptz, text) is
  'Starts pending tasks, locked and in no list of those that wait, and says how many; those of a paused namespace are held back until it is resumed.';

create function tasker._start_held_tasks(p_limit integer, p_now timestamptz, p_actor text) returns bigint
language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp as $function$
declare
  v_held uuid[];
  v_locked record;
begin
  v_held := array(
    select h.task_uuid
    from (select n.namespace_id from tasker.namespaces n where n.paused_at is null order by n.namespace_id) n
    cross join lateral (
      select h.task_uuid from tasker.held_tasks h where h.namespace_id = n.namespace_id order by h.task_uuid limit p_limit for update skip locked
    ) h
    limit p_limit);
  if cardinality(v_held) = 0 then
    return 0;
  end if;
  select * into v_locked from tasker._lock_pending(v_held);
  delete from tasker.held_tasks h
  using tasker.namespaces n
  where h.namespace_id = n.namespace_id and h.task_uuid = any (v_held) and h.task_uuid <> all (coalesce(v_locked.busy, '{}'));
  return tasker._start_pending(v_locked.pending, p_now, p_actor);
end
$function$;
comment on function tasker._start_held_tasks(integer, timestamptz, text) is 'Starts tasks that were held back by a pause of their namespace which is over, and says how many.';
