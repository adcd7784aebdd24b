-- Cancelling a task. Lock order: its steps, then the task (sql/README.md); when steps have come in between, all locks are given back and it begins again.

create function tasker._lock_tasks_and_steps(p_task_uuids uuid[], out is_whole boolean, out busy_step_uuid uuid)
language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp as $function$
declare
  v_before bigint;
  v_others bigint := 0;
  v_after bigint;
  -- Of tasks whose steps are made while they run, the last that is in the template.
  v_last uuid[] := array(
    select tasker._step_uuid(t.task_uuid, x.steps_count)
    from unnest(p_task_uuids) u(task_uuid)
    cross join lateral (select t.task_uuid, t.template_id from tasker.tasks t where t.task_uuid = u.task_uuid) t
    cross join lateral (select x.steps_count from tasker.templates x where x.template_id = t.template_id and tasker._is_dynamic(t.template_id)) x
    order by t.task_uuid);
  -- Those of the template that everybody locks after its others.
  v_late uuid[] := array(
    select l.step_uuid
    from unnest(p_task_uuids) u(task_uuid)
    cross join lateral (select t.template_id from tasker.tasks t where t.task_uuid = u.task_uuid) t
    cross join lateral unnest(tasker._late_steps(t.template_id)) n(number)
    cross join lateral (select tasker._step_uuid(u.task_uuid, n.number) as step_uuid) l
    order by l.step_uuid);
  v_count bigint;
begin
  if cardinality(v_last) > 0 then
    -- Instances at work come first: whoever has one may wait for the step that stands for it.
    perform s.step_uuid
    from unnest(v_last) u(last)
    cross join lateral (
      select s.step_uuid from tasker.steps s
      where s.step_uuid > u.last and s.step_uuid <= tasker._last_step_uuid(tasker._task_of(u.last)) and s.state <> 'pending' and not tasker._is_terminal(s.state)
      order by s.step_uuid
      for no key update
    ) s;
  end if;
  -- Task after task, as a task's steps follow it in the order of keys.
  select count(*) into v_before
  from (
    select u.task_uuid, coalesce((select l.last from unnest(v_last) l(last) where tasker._task_of(l.last) = u.task_uuid), tasker._last_step_uuid(u.task_uuid)) as last
    from unnest(p_task_uuids) u(task_uuid)
    order by u.task_uuid
  ) u
  cross join lateral (
    select s.step_uuid from tasker.steps s
    where s.step_uuid > u.task_uuid and s.step_uuid <= u.last and (v_late = '{}' or not tasker._is_late(s.template_id, tasker._number_of(s.step_uuid)))
    order by s.step_uuid
    for no key update
  ) s;
  select count(*) into v_count
  from unnest(v_late) l(step_uuid)
  cross join lateral (select s.step_uuid from tasker.steps s where s.step_uuid = l.step_uuid for no key update) s;
  v_before := v_before + v_count;
  if cardinality(v_last) > 0 then
    -- No more are let go while the steps that stand for them are locked. One that was in between may be had by someone who waits for these.
    select count(*) into v_others
    from unnest(v_last) u(last)
    cross join lateral (
      select s.step_uuid from tasker.steps s
      where s.step_uuid > u.last and s.step_uuid <= tasker._last_step_uuid(tasker._task_of(u.last))
      order by s.step_uuid
      for no key update skip locked
    ) s;
  end if;
  perform t.task_uuid
  from (select u.task_uuid from unnest(p_task_uuids) u(task_uuid) order by u.task_uuid) u
  cross join lateral (select t.task_uuid from tasker.tasks t where t.task_uuid = u.task_uuid for no key update) t;
  select count(*) into v_after
  from unnest(p_task_uuids) u(task_uuid)
  cross join lateral (
    select s.step_uuid from tasker.steps s where s.step_uuid > u.task_uuid and s.step_uuid <= tasker._last_step_uuid(u.task_uuid)
  ) s;
  is_whole := v_before + v_others = v_after;
  if not is_whole and cardinality(v_last) > 0 then
    select s.step_uuid into busy_step_uuid
    from unnest(v_last) u(last)
    cross join lateral (
      select s.step_uuid from tasker.steps s
      where s.step_uuid > u.last and s.step_uuid <= tasker._last_step_uuid(tasker._task_of(u.last))
      except
      select s.step_uuid
      from (
        select s.step_uuid from tasker.steps s
        where s.step_uuid > u.last and s.step_uuid <= tasker._last_step_uuid(tasker._task_of(u.last))
        for no key update skip locked
      ) s
    ) s
    limit 1;
  end if;
end
$function$;
comment on function tasker._lock_tasks_and_steps(uuid[]) is
  'Locks the steps of tasks, then the tasks, and says whether these are all; if they are not, one of the instances that others have, unless steps only came in between.';

create function tasker._wait_for_turn(p_task_uuids uuid[]) returns void
language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp as $function$
begin
  perform pg_advisory_xact_lock(1414742860, h.hash)
  from (
    select distinct uuid_hash(t.task_uuid) as hash
    from unnest(p_task_uuids) u(task_uuid)
    cross join lateral (select t.task_uuid, t.template_id from tasker.tasks t where t.task_uuid = u.task_uuid) t
    where tasker._is_dynamic(t.template_id)
    order by hash
  ) h;
end
$function$;
comment on function tasker._wait_for_turn(uuid[]) is
  'Waits until nobody finishes instances of tasks, and keeps all from it until the transaction ends: each finish lets others go, and who wants them all would come too late again and again (engine/turns.rs).';

create function tasker._lock_whole_tasks(p_task_uuids uuid[]) returns void
language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp as $function$
declare
  v_locked record;
begin
  perform tasker._wait_for_turn(p_task_uuids);
  loop
    begin
      v_locked := tasker._lock_tasks_and_steps(p_task_uuids);
      if v_locked.is_whole then
        return;
      end if;
      raise exception using errcode = 'TK999', message = 'steps came in between';
    exception
      -- Leaving the block gives the locks back.
      when sqlstate 'TK999' then null;
    end;
    continue when v_locked.busy_step_uuid is null;
    begin
      -- Whoever has it may wait for what was just given back, and would never get it from callers that take it again at once.
      perform s.step_uuid from tasker.steps s where s.step_uuid = v_locked.busy_step_uuid for no key update;
      raise exception using errcode = 'TK999', message = 'the instance is free';
    exception
      when sqlstate 'TK999' then null;
    end;
  end loop;
end
$function$;
comment on function tasker._lock_whole_tasks(uuid[]) is
  'Locks tasks with every step they have; when steps come in between or an instance is another''s, it gives all back, waits for that instance alone, and begins again.';

create function tasker._lock_whole_task(p_task_uuid uuid) returns void
language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp as $function$
begin
  perform tasker._lock_whole_tasks(array[p_task_uuid]);
  if not exists (select from tasker.tasks t where t.task_uuid = p_task_uuid) then
    perform tasker._raise('TK001', format('task %s not found', p_task_uuid), null, 'tasker.list_tasks() shows the tasks there are.');
  end if;
end
$function$;
comment on function tasker._lock_whole_task(uuid) is 'Locks a task with every step it has (TK001).';

create function tasker._count_failed(p_task_uuid uuid) returns integer
language sql stable parallel unsafe set search_path = pg_catalog, pg_temp as $function$
  select count(*)::integer from tasker.steps s
  where s.step_uuid > p_task_uuid and s.step_uuid <= tasker._last_step_uuid(p_task_uuid)
    and (s.state = 'cancelled' or s.state = 'error' and not tasker._tolerates_failure(s.template_id, tasker._number_of(s.step_uuid)))
$function$;
comment on function tasker._count_failed(uuid) is 'How many steps of a task keep it from being complete, though nothing moves them any more.';

create function tasker._note_ends(p_task_uuids uuid[]) returns void
language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp as $function$
begin
  insert into tasker.maintenance_found (job, key)
  select 'settle_parents', c.task_uuid
  from unnest(p_task_uuids) u(task_uuid)
  join tasker.child_tasks c on c.task_uuid = u.task_uuid;
end
$function$;
comment on function tasker._note_ends(uuid[]) is 'Notes for maintenance which of some tasks that have ended are children: their parents are other tasks, which nobody waits for here.';

create function tasker._cancel(p_task_uuid uuid, p_reason text, p_now timestamptz, p_actor text, p_compensate boolean default false) returns void
language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp as $function$
declare
  v_task record;
  v_unreal uuid[];
  v_is_undone boolean := false;
begin
  select t.state, t.template_id, t.started_at into v_task from tasker.tasks t where t.task_uuid = p_task_uuid;
  v_unreal := tasker._unreal_steps(p_task_uuid, v_task.template_id);
  perform tasker._raise_refused(tasker._cancel_steps(
    array(
      select s.step_uuid
      from tasker.steps s
      where s.step_uuid > p_task_uuid and s.step_uuid <= tasker._last_step_uuid(p_task_uuid) and not tasker._is_terminal(s.state)
        and s.step_uuid <> all (v_unreal)),
    p_now, p_actor));
  if p_compensate and v_task.started_at is not null then
    v_is_undone := tasker._compensate(p_task_uuid, p_now, p_actor) > 0;
  end if;
  update tasker.tasks t
  set state = case when v_is_undone then 'steps_in_process' else 'cancelled' end, running = v_is_undone::integer, waiting_retry = 0, waiting_engine = 0,
    finished_at = case when not v_is_undone then p_now end, failed = tasker._count_failed(t.task_uuid),
    compensates = case when v_is_undone then 'cancelled' else t.compensates end
  where t.task_uuid = p_task_uuid;
  insert into tasker.task_transitions (task_uuid, path, at, actor, metadata)
  values (p_task_uuid, tasker._task_path(v_task.state, case when v_is_undone then array['compensate', 'steps_enqueued'] else array['cancel'] end), p_now, p_actor,
    case when p_reason is not null then jsonb_build_object('reason', p_reason) end);
  perform tasker._announce_events();
  update tasker.dead_letters d
  set resolution = 'cancelled', resolved_at = p_now, resolved_by = p_actor, note = p_reason
  where d.task_uuid = p_task_uuid and d.resolution = 'pending';
  if not v_is_undone then
    perform tasker._note_ends(array[p_task_uuid]);
  end if;
end
$function$;
comment on function tasker._cancel(uuid, text, timestamptz, text, boolean) is
  'Cancels a task that has not ended, or begins to undo what it did, after which it is cancelled; it is locked with every step it has.';

create function tasker.cancel_task(task_uuid uuid, reason text default null, compensate boolean default false) returns boolean
language plpgsql volatile parallel unsafe security definer set search_path = pg_catalog, pg_temp as $function$
declare
  v_task record;
begin
  perform tasker._lock_to_operate(cancel_task.task_uuid);
  select t.state, t.compensates into v_task from tasker.tasks t where t.task_uuid = cancel_task.task_uuid;
  if v_task.state = 'cancelled' then
    return false;
  elsif tasker._next_task_state(v_task.state, 'cancel') is null then
    perform tasker._raise('TK010', format('task cannot be cancelled: it is %s', v_task.state),
      format('There is no transition from %s by the event cancel.', v_task.state), 'A task that has ended can be rerun, not cancelled.');
  elsif cancel_task.compensate and v_task.compensates is not null then
    -- It goes on being undone. A caller who lost the answer asks again.
    update tasker.tasks t set compensates = 'cancelled' where t.task_uuid = cancel_task.task_uuid and t.compensates <> 'cancelled';
    return found;
  end if;
  perform tasker._cancel(cancel_task.task_uuid, cancel_task.reason, tasker._now(), tasker._author(), coalesce(cancel_task.compensate, false));
  return true;
end
$function$;
comment on function tasker.cancel_task(uuid, text, boolean) is
  'Cancels a task and every step of it that has not ended; workers learn of it when they finish or extend, child tasks are cancelled by maintenance. With compensate, the steps '
  'that are complete and name a compensation are undone first, the last one first; the task is cancelled when that is done; one that is being undone already goes on with it. True when this call cancelled it, false when it was cancelled '
  'already. Errors: TK001, TK010 for a task that ended otherwise.';
