-- What a handler keeps and asks while it runs: checkpoints, and the results of steps before its own.

create function tasker.save_checkpoint(step_uuid uuid, attempt integer, checkpoint jsonb) returns void
language plpgsql volatile parallel unsafe security definer set search_path = pg_catalog, pg_temp as $function$
declare
  v_namespace constant text := tasker._checked_namespace(save_checkpoint.step_uuid);
  v_step record;
begin
  if save_checkpoint.step_uuid is null or save_checkpoint.attempt is null or save_checkpoint.checkpoint is null then
    perform tasker._raise('22023', 'step_uuid, attempt and checkpoint must be given');
  end if;
  perform tasker._raise_refused(tasker._payload_problem('checkpoint', save_checkpoint.checkpoint));
  select s.state, s.attempt into v_step
  from tasker.steps s
  where s.step_uuid = save_checkpoint.step_uuid and tasker._may(v_namespace, 'work')
  for no key update;
  if not found then
    perform tasker._raise('TK002', format('step %s not found', save_checkpoint.step_uuid));
  elsif v_step.state = 'cancelled' then
    perform tasker._raise('TK012', 'step was cancelled');
  elsif v_step.attempt <> save_checkpoint.attempt then
    perform tasker._raise('TK011', format('attempt %s owns the step now', v_step.attempt), null, 'Stop: another attempt goes on from the last checkpoint that was saved.');
  elsif v_step.state <> 'in_progress' then
    perform tasker._raise('TK010', format('step is %s: only a running one saves checkpoints', v_step.state));
  end if;
  update tasker.steps s set checkpoint = save_checkpoint.checkpoint where s.step_uuid = save_checkpoint.step_uuid;
end
$function$;
comment on function tasker.save_checkpoint(uuid, integer, jsonb) is
  'Keeps how far a claimed step has come; attempt is the one it was claimed with. Whoever claims the step next, after a failure or a crash, is given the last checkpoint. '
  'Errors: TK002, TK010, TK011, TK012, TK022, 22023.';

create type tasker.dependency_result as (
  step_uuid uuid,
  name text,
  instance integer,
  state text,
  result jsonb,
  error jsonb
);
comment on type tasker.dependency_result is 'What became of a step that another depends on.';

create function tasker.get_dependency_results(step_uuid uuid, transitive boolean default false, after uuid default null, "limit" integer default 1000)
returns setof tasker.dependency_result
language plpgsql stable parallel unsafe security definer set search_path = pg_catalog, pg_temp as $function$
declare
  v_task_uuid constant uuid := tasker._task_of(get_dependency_results.step_uuid);
  v_namespace constant text := tasker._checked_namespace(get_dependency_results.step_uuid);
  v_template_id integer;
  v_numbers integer[];
begin
  perform tasker._require_limit(get_dependency_results."limit", 'after => the last step_uuid');
  select s.template_id into v_template_id
  from tasker.steps s
  where s.step_uuid = get_dependency_results.step_uuid and tasker._may(v_namespace, 'work');
  if not found then
    perform tasker._require_same_partitions(get_dependency_results.step_uuid);
    perform tasker._raise('TK002', format('step %s not found', coalesce(get_dependency_results.step_uuid::text, 'null')));
  end if;
  v_numbers := tasker._steps_before(v_template_id, tasker._number_of(get_dependency_results.step_uuid), coalesce(get_dependency_results.transitive, false));
  return query
    select r.step_uuid, d.name, tasker._instance_of(v_template_id, d.number), r.state, r.result, r.error
    from (
      select s.step_uuid, s.state, s.result, s.error
      from unnest(v_numbers) u(number)
      cross join lateral (select s.* from tasker.steps s where s.step_uuid = tasker._step_uuid(v_task_uuid, u.number) and s.state <> 'pending') s
      where get_dependency_results.after is null or s.step_uuid > get_dependency_results.after
      union all
      -- Instances of the steps that were made many of.
      select s.step_uuid, s.state, s.result, s.error
      from tasker.steps s
      where tasker._is_dynamic(v_template_id)
        and s.step_uuid > greatest(get_dependency_results.after, v_task_uuid) and s.step_uuid <= tasker._last_step_uuid(v_task_uuid) and s.state <> 'pending'
        and tasker._instance_of(v_template_id, tasker._number_of(s.step_uuid)) is not null
        and tasker._definition_number(v_template_id, tasker._number_of(s.step_uuid)) = any (v_numbers)
      order by 1
      limit get_dependency_results."limit"
    ) r
    cross join lateral tasker._step_definitions(array[v_template_id], array[tasker._number_of(r.step_uuid)]) d
    order by r.step_uuid;
end
$function$;
comment on function tasker.get_dependency_results(uuid, boolean, uuid, integer) is
  'Gives what became of the steps that a step depends on, directly or, with transitive, through others: those that have left pending, each followed in the order of keys by the instances that were made of it. after is '
  'the last step_uuid of the page before, limit 1 to 1000. Errors: TK002, 22023, 40001.';
