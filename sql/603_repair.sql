-- Operators at work on steps: try again, complete by hand, settle, run anew. Not here: what follows for the task and for dependents (engine/repair.rs).

create function tasker._require_reason(p_reason text) returns void
language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp as $function$
begin
  if length(p_reason) > 1000 then
    perform tasker._raise('22023', 'reason must have at most 1000 characters', null, 'Keep a long account elsewhere and refer to it.');
  end if;
end
$function$;
comment on function tasker._require_reason(text) is 'Refuses an overlong reason (22023).';

create function tasker._close_mended(p_task_uuid uuid, p_step_uuid uuid, p_note text, p_now timestamptz, p_actor text) returns void
language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp as $function$
begin
  update tasker.dead_letters d
  set resolution = 'manually_resolved', resolved_at = p_now, resolved_by = p_actor, note = p_note
  where d.task_uuid = p_task_uuid and coalesce(d.step_uuid, d.task_uuid) = p_task_uuid and d.resolution = 'pending'
    and exists (select from tasker.tasks t where t.task_uuid = p_task_uuid and t.failed = 0);
  update tasker.dead_letters d
  set resolution = 'manually_resolved', resolved_at = p_now, resolved_by = p_actor, note = p_note
  -- By the index on open ones: the task may have very many.
  where d.task_uuid = p_task_uuid and coalesce(d.step_uuid, d.task_uuid) >= coalesce(p_step_uuid, p_task_uuid)
    and coalesce(d.step_uuid, d.task_uuid) <= coalesce(p_step_uuid, tasker._last_step_uuid(p_task_uuid)) and d.resolution = 'pending' and d.step_uuid is not null
    and not exists (select from tasker.steps s where s.step_uuid = d.step_uuid and s.state = 'error');
end
$function$;
comment on function tasker._close_mended(uuid, uuid, text, timestamptz, text) is
  'Closes a task''s dead letter when no step of it is failed or cancelled any more, and that of an instance, or without one of all, which is not failed any more.';

create function tasker._repair(p_step_uuid uuid, p_event text, p_result jsonb, p_reason text) returns void
language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp as $function$
declare
  v_now timestamptz := tasker._now();
  v_actor text := tasker._author();
  v_namespace constant text := tasker._checked_namespace(p_step_uuid);
  v_instance uuid;
begin
  perform tasker._require_reason(p_reason);
  if p_step_uuid is null then
    perform tasker._raise('22023', 'step_uuid must be given');
  elsif not tasker._may(v_namespace, 'read') then
    -- As the library refuses the key of no step.
    perform tasker._raise('TK002', format('step %s not found', p_step_uuid));
  end if;
  perform tasker._require_may(v_namespace, 'operate');
  perform tasker._raise_refused(tasker._repair_step(p_step_uuid, p_event, p_result, p_reason, v_now, v_actor));
  -- What is done to a step of the template may mend any of its instances.
  select case when tasker._number_of(p_step_uuid) > x.steps_count then p_step_uuid end into v_instance
  from tasker.tasks t
  join tasker.templates x on x.template_id = t.template_id
  where t.task_uuid = tasker._task_of(p_step_uuid);
  perform tasker._close_mended(tasker._task_of(p_step_uuid), v_instance, p_reason, v_now, v_actor);
end
$function$;
comment on function tasker._repair(uuid, text, jsonb, text) is 'Lets an operator''s event happen to a step, and closes the dead letters of what is mended by it.';

create function tasker.reset_step(step_uuid uuid, reason text default null) returns void
language plpgsql volatile parallel unsafe security definer set search_path = pg_catalog, pg_temp as $function$
begin
  perform tasker._repair(reset_step.step_uuid, 'reset_for_retry', null, reset_step.reason);
end
$function$;
comment on function tasker.reset_step(uuid, text) is
  'Lets a failed step, or one that its task''s failure cancelled, be tried again from its first attempt, and revives its task; what it saved as a checkpoint is kept. '
  'Errors: TK002, TK010, 22023.';

create function tasker.complete_step_manually(step_uuid uuid, result jsonb, reason text default null) returns void
language plpgsql volatile parallel unsafe security definer set search_path = pg_catalog, pg_temp as $function$
begin
  perform tasker._repair(complete_step_manually.step_uuid, 'complete_manually', coalesce(complete_step_manually.result, 'null'), complete_step_manually.reason);
end
$function$;
comment on function tasker.complete_step_manually(uuid, jsonb, text) is
  'Completes a step that has not ended, or failed, with a result given by hand, and revives its task; a worker that runs it loses its lease. '
  'Errors: TK002, TK010, TK021, TK022, 22023.';

create function tasker.resolve_step(step_uuid uuid, reason text default null) returns void
language plpgsql volatile parallel unsafe security definer set search_path = pg_catalog, pg_temp as $function$
begin
  perform tasker._repair(resolve_step.step_uuid, 'resolve_manually', null, resolve_step.reason);
end
$function$;
comment on function tasker.resolve_step(uuid, text) is
  'Settles a step that has not ended, or failed, without a result (its dependents see null), and revives its task; a worker that runs it loses its lease. '
  'Errors: TK002, TK010, 22023.';

create function tasker._number_of_step(p_task_uuid uuid, p_template_id integer, p_step_name text) returns integer
language plpgsql stable parallel unsafe set search_path = pg_catalog, pg_temp as $function$
declare
  v_number integer;
begin
  select n.number into v_number from tasker._template_nodes(p_template_id) n where n.name = p_step_name;
  if not found then
    perform tasker._raise('TK002', format('task %s has no step %s', p_task_uuid, p_step_name), null, 'tasker.list_steps shows its steps.');
  end if;
  return v_number;
end
$function$;
comment on function tasker._number_of_step(uuid, integer, text) is 'The number of a step of a task, by its name (TK002).';

create function tasker._rerun_unstarted(p_task_uuid uuid, p_now timestamptz, p_actor text) returns void
language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp as $function$
declare
  v_task record;
begin
  select t.state, t.namespace_id, t.paused_at, x.steps_count, x.roots_count into v_task
  from tasker.tasks t
  join tasker.templates x on x.template_id = t.template_id
  where t.task_uuid = p_task_uuid;
  update tasker.tasks t
  set state = case when v_task.steps_count = 0 then 'complete' when v_task.roots_count = 0 then 'waiting_for_dependencies' else 'steps_in_process' end,
    running = v_task.roots_count, started_at = p_now, finished_at = case v_task.steps_count when 0 then p_now end, error = null
  where t.task_uuid = p_task_uuid;
  insert into tasker.task_transitions (task_uuid, path, at, actor)
  values (p_task_uuid, tasker._task_path(v_task.state, array['rerun'] || case when v_task.steps_count = 0 then array['all_steps_successful']
    when v_task.roots_count = 0 then array['no_dependencies_ready'] else array['ready_steps_found', 'steps_enqueued'] end), p_now, p_actor);
  perform tasker._raise_refused(tasker._start_after_all(p_task_uuid, p_now, p_actor));
  if v_task.paused_at is not null then
    perform tasker._mark_steps(p_task_uuid, v_task.namespace_id, v_task.paused_at, p_now);
  end if;
  if v_task.steps_count = 0 then
    perform tasker._note_ends(array[p_task_uuid]);
  end if;
end
$function$;
comment on function tasker._rerun_unstarted(uuid, timestamptz, text) is 'Starts a task that ended before it had started: it has no steps yet.';

create function tasker.rerun_task(task_uuid uuid, from_step text default null, with_descendants boolean default true, context jsonb default null) returns void
language plpgsql volatile parallel unsafe security definer set search_path = pg_catalog, pg_temp as $function$
declare
  v_now timestamptz := tasker._now();
  v_actor text := tasker._author();
  v_task record;
  v_number integer;
begin
  if rerun_task.with_descendants is null then
    perform tasker._raise('22023', 'with_descendants must be true or false');
  end if;
  perform tasker._lock_to_operate(rerun_task.task_uuid);
  select t.state, t.template_id, t.started_at into v_task from tasker.tasks t where t.task_uuid = rerun_task.task_uuid;
  if tasker._next_task_state(v_task.state, 'rerun') is null then
    perform tasker._raise('TK010', format('task cannot be rerun: it is %s', v_task.state),
      format('There is no transition from %s by the event rerun.', v_task.state), 'Wait for its end, or cancel it.');
  end if;
  if rerun_task.from_step is not null then
    v_number := tasker._number_of_step(rerun_task.task_uuid, v_task.template_id, rerun_task.from_step);
  end if;
  if rerun_task.context is not null then
    perform tasker._raise_refused(tasker._context_problem(v_task.template_id, rerun_task.context));
    update tasker.tasks t
    set context = x.context_defaults || rerun_task.context
    from tasker.templates x
    where t.task_uuid = rerun_task.task_uuid and x.template_id = t.template_id;
  end if;
  if v_task.started_at is null then
    if v_number is not null then
      perform tasker._raise('TK010', format('step %s can''t be rerun: its task has not started', rerun_task.from_step), null, 'Rerun the whole task.');
    end if;
    perform tasker._rerun_unstarted(rerun_task.task_uuid, v_now, v_actor);
    perform tasker._close_mended(rerun_task.task_uuid, null, 'the task was rerun', v_now, v_actor);
    return;
  end if;
  update tasker.tasks t set compensates = null where t.task_uuid = rerun_task.task_uuid and t.compensates is not null;
  if found then
    -- The rows stay, for their history; they undo nothing until they are made anew.
    update tasker.steps s set undoes = null, followed_by = null
    where s.step_uuid > rerun_task.task_uuid and s.step_uuid <= tasker._last_step_uuid(rerun_task.task_uuid) and s.undoes is not null;
  end if;
  perform tasker._raise_refused(tasker._rerun_steps(rerun_task.task_uuid, v_number, rerun_task.with_descendants, null, v_now, v_actor));
  perform tasker._close_mended(rerun_task.task_uuid, null, 'the task was rerun', v_now, v_actor);
end
$function$;
comment on function tasker.rerun_task(uuid, text, boolean, jsonb) is
  'Runs a task that has ended, or is blocked by failures, anew in place: from a step on, that step alone, or all of it; the results of other steps are kept. A context given takes '
  'the place of the task''s own. A cancelled task''s other steps stay cancelled; steps whose compensation has run can''t be left out (TK010). Errors: TK001, TK002, TK010, TK021, TK022, TK030, 22023.';
