-- Child tasks: starting them, what their end does to the step that waits for it, and what the end of that wait does to them. Each is noted in maintenance_found by whoever causes it, and
-- done here in a transaction of its own: nobody's call waits for another task.
-- Not here: when a step begins to wait for a child (engine/waits.rs).

create function tasker._end_wait(p_step_uuid uuid, p_error_type text, p_code text, p_message text, p_detail jsonb, p_now timestamptz, p_actor text) returns void
language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp as $function$
begin
  perform tasker._raise_refused(tasker._end_waits(array[p_step_uuid], null,
    jsonb_build_object('type', p_error_type, 'code', p_code, 'retryable', false, 'message', p_message, 'detail', p_detail), p_now, p_actor));
end
$function$;
comment on function tasker._end_wait(uuid, text, text, text, jsonb, timestamptz, text) is 'Fails a step that waits inside the engine, and is locked.';

create function tasker._child_context(p_step_uuid uuid, p_template_id integer, p_parent_context jsonb) returns jsonb
language plpgsql stable parallel unsafe set search_path = pg_catalog, pg_temp as $function$
declare
  v_child record;
begin
  select * into v_child from tasker._child_of(p_template_id, tasker._number_of(p_step_uuid));
  if v_child.source is null then
    return coalesce(v_child.context, p_parent_context);
  end if;
  return (
    select s.result #> v_child.path from tasker.steps s where s.step_uuid = tasker._step_uuid(tasker._task_of(p_step_uuid), v_child.source));
end
$function$;
comment on function tasker._child_context(uuid, integer, jsonb) is 'The context of the task that a step starts; null where the result that it is to be in has none.';

create function tasker._start_child(p_step_uuid uuid, p_now timestamptz, p_actor text) returns void
language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp as $function$
declare
  v_step record;
  v_child record;
  v_parent record;
  v_depth integer;
  v_created tasker._created;
begin
  -- Whoever ends the wait meanwhile has to wait for this lock, and then finds the child.
  select s.template_id, s.attempt, s.state, s.lease_expires_at into v_step from tasker.steps s where s.step_uuid = p_step_uuid for no key update;
  if not found or not tasker._waits_in_engine(v_step.state, v_step.lease_expires_at)
    or exists (select from tasker.child_tasks c where c.parent_step_uuid = p_step_uuid and c.attempt = v_step.attempt) then
    return;
  end if;
  select * into v_child from tasker._child_of(v_step.template_id, tasker._number_of(p_step_uuid));
  select t.task_uuid, t.context, t.priority, t.correlation_id, t.traceparent, x.registered_by into v_parent
  from tasker.tasks t
  join tasker.templates x on x.template_id = t.template_id
  where t.task_uuid = tasker._task_of(p_step_uuid);
  v_depth := 1 + coalesce((select c.depth from tasker.child_tasks c where c.task_uuid = v_parent.task_uuid), 0);
  if v_depth > tasker._max_depth() then
    perform tasker._end_wait(p_step_uuid, 'too_deep', 'TK022', format('a child task would be nested %s deep, and %s is the most', v_depth, tasker._max_depth()), null, p_now, p_actor);
    return;
  end if;
  perform tasker._act_for(v_parent.registered_by);
  -- The key is the attempt's: a template whose tasks need one, or have one by their context, starts a task for each step all the same.
  v_created := tasker._create_children(jsonb_build_array(jsonb_build_object(
    'template_name', v_child.template_name, 'namespace', v_child.namespace, 'version', v_child.version, 'context', tasker._child_context(p_step_uuid, v_step.template_id, v_parent.context),
    'idempotency_key', format('%s/%s', p_step_uuid, v_step.attempt), 'priority', v_parent.priority, 'parent_correlation_id', v_parent.correlation_id,
    'initiator', format('step %s', p_step_uuid), 'traceparent', v_parent.traceparent)), p_now, p_actor);
  perform tasker._act_for(null);
  if v_created.refused is not null then
    perform tasker._end_wait(p_step_uuid, 'child_not_started', v_created.refused[1], v_created.refused[2], to_jsonb(v_created.refused[3]), p_now, p_actor);
    return;
  end if;
  insert into tasker.child_tasks (task_uuid, parent_step_uuid, attempt, depth) values (v_created.task_uuids[1], p_step_uuid, v_step.attempt, v_depth);
  -- A task without steps has ended already.
  perform tasker._note_ends(array(select t.task_uuid from tasker.tasks t where t.task_uuid = v_created.task_uuids[1] and t.finished_at is not null));
end
$function$;
comment on function tasker._start_child(uuid, timestamptz, text) is
  'Starts the task that a step waits for, on behalf of the role that registered the step''s template; a step whose task can''t be started fails.';

create function tasker._result_of_task(p_task_uuid uuid) returns jsonb
language plpgsql stable parallel unsafe set search_path = pg_catalog, pg_temp as $function$
declare
  v_result jsonb;
begin
  -- The results of its last steps: those that no other step waits for.
  select coalesce(jsonb_object_agg(n.name, s.result), '{}') into v_result
  from (select t.template_id from tasker.tasks t where t.task_uuid = p_task_uuid) t
  cross join lateral tasker._template_nodes(t.template_id) n
  cross join lateral (
    select s.result from tasker.steps s where s.step_uuid = tasker._step_uuid(p_task_uuid, n.number) and tasker._satisfies_dependents(s.state)
  ) s
  where cardinality(n.dependents) = 0;
  if tasker._payload_problem('result', v_result) is not null then
    return jsonb_build_object('reference', jsonb_build_object('task_uuid', p_task_uuid));
  end if;
  return v_result;
end
$function$;
comment on function tasker._result_of_task(uuid) is 'What a task came to: the results of its last steps by their names, or a reference to the task where that is longer than a result may be.';

create function tasker._settle_parent(p_task_uuid uuid, p_now timestamptz, p_actor text) returns void
language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp as $function$
declare
  v_child record;
  v_link record;
  v_step record;
begin
  select t.state, t.error into v_child from tasker.tasks t where t.task_uuid = p_task_uuid and tasker._is_terminal(t.state);
  select c.parent_step_uuid, c.attempt into v_link from tasker.child_tasks c where c.task_uuid = p_task_uuid;
  -- One that was set going again is noted anew at its next end.
  if v_child.state is null or v_link.parent_step_uuid is null then
    return;
  end if;
  select s.state, s.lease_expires_at, s.attempt into v_step from tasker.steps s where s.step_uuid = v_link.parent_step_uuid for no key update;
  if not found or not tasker._waits_in_engine(v_step.state, v_step.lease_expires_at) or v_step.attempt <> v_link.attempt then
    return;
  end if;
  if v_child.state in ('complete', 'resolved_manually') then
    perform tasker._raise_refused(tasker._end_waits(array[v_link.parent_step_uuid], tasker._result_of_task(p_task_uuid), null, p_now, p_actor));
  else
    perform tasker._end_wait(v_link.parent_step_uuid, 'child_failed', null,
      format('child task %s %s%s', p_task_uuid, case v_child.state when 'cancelled' then 'was cancelled' else 'failed' end, ': ' || (v_child.error ->> 'message')),
      jsonb_build_object('task_uuid', p_task_uuid, 'state', v_child.state, 'error', v_child.error), p_now, p_actor);
  end if;
end
$function$;
comment on function tasker._settle_parent(uuid, timestamptz, text) is 'Lets the step go on that waits for a task, if it still does: with the task''s result, or failed with its error.';

create function tasker._cancel_child(p_task_uuid uuid, p_now timestamptz, p_actor text) returns void
language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp as $function$
declare
  v_link record;
begin
  select c.parent_step_uuid into v_link
  from tasker.child_tasks c
  cross join lateral (select s.state, s.lease_expires_at, s.attempt from tasker.steps s where s.step_uuid = c.parent_step_uuid) s
  where c.task_uuid = p_task_uuid and not (tasker._waits_in_engine(s.state, s.lease_expires_at) and s.attempt = c.attempt);
  if not found then
    return;
  end if;
  perform tasker._lock_whole_tasks(array[p_task_uuid]);
  if exists (select from tasker.tasks t where t.task_uuid = p_task_uuid and tasker._next_task_state(t.state, 'cancel') is not null) then
    perform tasker._cancel(p_task_uuid, format('step %s does not wait for it any more', v_link.parent_step_uuid), p_now, p_actor);
  end if;
end
$function$;
comment on function tasker._cancel_child(uuid, timestamptz, text) is 'Cancels a task whose parent doesn''t wait for it any more, unless it has ended.';

create function tasker._tend_children(p_job text, p_now timestamptz, p_actor text) returns bigint
language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp as $function$
declare
  v_key uuid;
  -- A task at a time: what follows for one locks more of its steps.
  v_taken constant uuid[] := tasker._take_found(p_job, 1);
begin
  foreach v_key in array v_taken loop
    case p_job
      when 'start_children' then perform tasker._start_child(v_key, p_now, p_actor);
      when 'settle_parents' then perform tasker._settle_parent(v_key, p_now, p_actor);
      when 'cancel_children' then perform tasker._cancel_child(v_key, p_now, p_actor);
    end case;
  end loop;
  return cardinality(v_taken);
end
$function$;
comment on function tasker._tend_children(text, timestamptz, text) is 'Does the next that is noted of starting children, settling parents or cancelling children, and says how many: one or none.';
