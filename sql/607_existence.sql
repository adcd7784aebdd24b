-- Which of a task's step rows are steps: a row that a decision has not chosen, or that a rerun left over, is none, and is shown nowhere.
-- Not here: what decisions choose and what follows (engine/late.rs), and what an instance is an instance of (existence.rs).

-- All instances of a step are made at once, and stay: what a rerun left over lies right behind those that it asked for.
create function tasker._left_over_instances(p_task_uuid uuid, p_template_id integer) returns table (step_uuid uuid)
language plpgsql stable parallel unsafe set search_path = pg_catalog, pg_temp as $function$
begin
  return query
    with recursive found as (
      select g.number as definition_number, i.instance, s.step_uuid
      from unnest(tasker._many_steps(p_template_id)) g(number)
      cross join lateral (
        select coalesce(s.instances, 0) + 1 as instance from tasker.steps s where s.step_uuid = tasker._step_uuid(p_task_uuid, g.number)
      ) i
      cross join lateral (
        select s.step_uuid from tasker.steps s
        where s.step_uuid = tasker._step_uuid(p_task_uuid, tasker._instance_number(p_template_id, g.number, i.instance)) and s.state = 'pending'
      ) s
      union all
      select f.definition_number, f.instance + 1, s.step_uuid
      from found f
      cross join lateral (
        select s.step_uuid from tasker.steps s
        where s.step_uuid = tasker._step_uuid(p_task_uuid, tasker._instance_number(p_template_id, f.definition_number, f.instance + 1)) and s.state = 'pending'
      ) s
    )
    select f.step_uuid from found f;
end
$function$;
comment on function tasker._left_over_instances(uuid, integer) is 'The pending rows of a task that are instances a rerun did not ask for.';

create function tasker._unreal_steps(p_task_uuid uuid, p_template_id integer) returns uuid[]
language plpgsql stable parallel unsafe set search_path = pg_catalog, pg_temp as $function$
begin
  -- Most templates have neither decisions nor instances.
  if not tasker._is_dynamic(p_template_id) then
    return '{}';
  end if;
  return array(
    select s.step_uuid
    from (
      select coalesce(array_agg(d.number), '{}') as numbers, coalesce(array_agg(s.state), '{}') as states, coalesce(array_agg(s.result), '{}') as results
      from unnest(tasker._decisions(p_template_id)) d(number)
      cross join lateral (select s.state, s.result from tasker.steps s where s.step_uuid = tasker._step_uuid(p_task_uuid, d.number)) s
    ) d
    cross join lateral tasker._uncertain_steps(p_template_id, d.numbers, d.states, d.results) u
    cross join lateral (
      select s.step_uuid from tasker.steps s where s.step_uuid = tasker._step_uuid(p_task_uuid, u.number) and s.state = 'pending'
    ) s
    union all
    -- What undid a step before a rerun.
    select s.step_uuid
    from tasker.steps s
    where tasker._has_compensations(p_template_id) and s.step_uuid > p_task_uuid and s.step_uuid <= tasker._last_step_uuid(p_task_uuid)
      and s.state = 'pending' and s.undoes is null and tasker._is_compensation(p_template_id, tasker._number_of(s.step_uuid))
    union all
    select l.step_uuid from tasker._left_over_instances(p_task_uuid, p_template_id) l);
end
$function$;
comment on function tasker._unreal_steps(uuid, integer) is
  'The pending rows of a task that are no steps: their decision is still to be made or chose otherwise, or they are instances that a rerun did not ask for.';

create function tasker._expected_counter(p_step_uuid uuid, p_template_id integer) returns integer
language plpgsql stable parallel unsafe set search_path = pg_catalog, pg_temp as $function$
declare
  v_task_uuid constant uuid := tasker._task_of(p_step_uuid);
  v_number constant integer := tasker._number_of(p_step_uuid);
  v_definition constant integer := tasker._definition_number(p_template_id, v_number);
  v_instances integer;
  v_opened integer;
  v_has_run constant boolean := (select s.state <> 'pending' from tasker.steps s where s.step_uuid = p_step_uuid);
begin
  if tasker._is_compensation(p_template_id, v_number) then
    -- Each is let go by the one before it.
    return (select (s.state = 'pending')::integer from tasker.steps s where s.step_uuid = p_step_uuid);
  end if;
  select s.instances, s.opened into v_instances, v_opened from tasker.steps s where s.step_uuid = tasker._step_uuid(v_task_uuid, v_definition);
  if v_number <> v_definition then
    return (tasker._instance_of(p_template_id, v_number) > coalesce(v_opened, 0))::integer;
  elsif v_instances is not null then
    return (
      select count(*) filter (where not tasker._satisfies_dependents(s.state) and not (s.state = 'error' and tasker._tolerates_failure(p_template_id, s.number)))
      from (
        select s.state, tasker._number_of(s.step_uuid) as number
        from tasker.steps s
        where s.step_uuid > p_step_uuid and s.step_uuid <= tasker._last_step_uuid(v_task_uuid)
      ) s
      where s.number <> tasker._definition_number(p_template_id, s.number) and tasker._definition_number(p_template_id, s.number) = v_number
        and tasker._instance_of(p_template_id, s.number) <= v_instances);
  end if;
  return (
    select tasker._expected_remaining(p_template_id, v_number, v_has_run, coalesce(array_agg(s.number), '{}'), coalesce(array_agg(s.state), '{}'),
      coalesce(array_agg(s.remaining_dependencies), '{}'), coalesce(array_agg(s.result), '{}'))
    from (
      select e.dependency_number as number, s.state, s.remaining_dependencies, s.result
      from tasker._dependencies(array[p_template_id], array[v_number]) e
      cross join lateral (
        select s.state, s.remaining_dependencies, s.result from tasker.steps s where s.step_uuid = tasker._step_uuid(v_task_uuid, e.dependency_number)
      ) s
    ) s);
end
$function$;
comment on function tasker._expected_counter(uuid, integer) is
  'What remaining_dependencies of a step has to be, from first principles: -1 for one that never exists, of one that stands for instances how many of them are not done.';
