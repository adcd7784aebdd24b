-- History and graph: the stored rows unrolled to the whole path, and the task as nodes and edges.

create type tasker.history_row as (
  seq bigint,
  from_state text,
  to_state text,
  event text,
  at timestamptz,
  attempt integer,
  actor text,
  metadata jsonb
);
comment on type tasker.history_row is 'One transition of a task or a step; seq counts from 1 within its history.';

create function tasker.task_history(task_uuid uuid) returns setof tasker.history_row
language plpgsql stable parallel unsafe security definer set search_path = pg_catalog, pg_temp as $function$
begin
  perform tasker._require_task(task_history.task_uuid);
  return query
    select row_number() over (order by h.seq, u.ordinal), u.from_state, u.to_state, u.event, h.at, null::integer, h.actor, h.metadata
    from tasker.task_transitions h
    cross join lateral tasker._unroll_task(h.path) u
    where h.task_uuid = task_history.task_uuid
    order by 1;
end
$function$;
comment on function tasker.task_history(uuid) is 'Gives every transition of a task from pending on, those passed through inside a transaction included. Errors: TK001, 40001.';

create function tasker.step_history(step_uuid uuid) returns setof tasker.history_row
language plpgsql stable parallel unsafe security definer set search_path = pg_catalog, pg_temp as $function$
begin
  perform from tasker.get_step(step_history.step_uuid);
  return query
    select row_number() over (order by h.seq, u.ordinal), u.from_state, u.to_state, u.event, h.at, h.attempt, h.actor, h.metadata
    from tasker.step_transitions h
    cross join lateral tasker._unroll_step(h.path) u
    where h.step_uuid = step_history.step_uuid
    order by 1;
end
$function$;
comment on function tasker.step_history(uuid) is 'Gives every transition of a step from pending on, those passed through inside a transaction included. Errors: TK002, 40001.';

create type tasker.compensation as (
  ordinal bigint,
  step_uuid uuid,
  name text,
  state text,
  undoes_step_uuid uuid,
  undoes_name text,
  attempts_used integer,
  error jsonb
);
comment on type tasker.compensation is 'What undoes a step of a task; ordinal is its place in the order, which is the reverse of the order in which the steps were completed.';

create function tasker.list_compensations(task_uuid uuid) returns setof tasker.compensation
language plpgsql stable parallel unsafe security definer set search_path = pg_catalog, pg_temp as $function$
begin
  perform tasker._require_task(list_compensations.task_uuid);
  return query
    select row_number() over (order by u.finished_at desc, u.step_uuid desc), s.step_uuid, d.name, s.state, s.undoes, o.name, s.attempts_used, s.error
    from tasker.tasks t
    cross join lateral (
      select s.* from tasker.steps s where s.step_uuid > t.task_uuid and s.step_uuid <= tasker._last_step_uuid(t.task_uuid) and s.undoes is not null
    ) s
    cross join lateral (select u.step_uuid, u.finished_at from tasker.steps u where u.step_uuid = s.undoes) u
    cross join lateral tasker._step_definitions(array[s.template_id], array[tasker._number_of(s.step_uuid)]) d
    cross join lateral tasker._step_definitions(array[s.template_id], array[tasker._number_of(s.undoes)]) o
    where t.task_uuid = list_compensations.task_uuid and t.compensates is not null
    order by 1;
end
$function$;
comment on function tasker.list_compensations(uuid) is
  'Lists what undoes the steps of a task that failed or was cancelled, in the order in which it runs; nothing before that. Errors: TK001, 40001.';

create function tasker.task_graph(task_uuid uuid)
returns table (number integer, name text, type text, step_uuid uuid, state text, created boolean, dependencies text[], dependents text[], child_task_uuid uuid)
language plpgsql stable parallel unsafe security definer set search_path = pg_catalog, pg_temp as $function$
begin
  perform tasker._require_task(task_graph.task_uuid);
  return query
    with asked as materialized (
      select t.template_id, tasker._unreal_steps(t.task_uuid, t.template_id) as unreal from tasker.tasks t where t.task_uuid = task_graph.task_uuid
    ), instances as materialized (
      select i.*, tasker._definition_number(i.template_id, i.number) as definition_number
      from (
        select s.step_uuid, s.state, t.template_id, tasker._number_of(s.step_uuid) as number
        from asked t
        cross join tasker.steps s
        where tasker._is_dynamic(t.template_id) and s.step_uuid > task_graph.task_uuid and s.step_uuid <= tasker._last_step_uuid(task_graph.task_uuid)
          and s.step_uuid <> all (t.unreal)
      ) i
      where tasker._instance_of(i.template_id, i.number) is not null
    )
    select d.number, d.name, d.type, s.step_uuid, s.state, s.step_uuid is not null, d.dependencies, d.dependents, c.task_uuid
    from asked t
    cross join lateral tasker._template_nodes(t.template_id) d
    left join lateral (
      select s.step_uuid, s.state from tasker.steps s where s.step_uuid = tasker._step_uuid(task_graph.task_uuid, d.number) and s.step_uuid <> all (t.unreal)
    ) s on true
    left join lateral (
      select c.task_uuid from tasker.child_tasks c where d.type = 'task' and c.parent_step_uuid = s.step_uuid order by c.attempt desc limit 1
    ) c on true
    union all
    -- What stands for instances waits for them.
    select i.number, d.name, d.type, i.step_uuid, i.state, true, g.dependencies, array[g.name], null
    from instances i
    cross join lateral tasker._step_definitions(array[i.template_id], array[i.number]) d
    cross join lateral tasker._step_definitions(array[i.template_id], array[i.definition_number]) g
    union all
    -- What undoes steps, one after the other.
    select tasker._number_of(c.step_uuid), c.name, 'standard', c.step_uuid, c.state, true, array_remove(array[lag(c.name) over w], null), array_remove(array[lead(c.name) over w], null), null
    from tasker.list_compensations(task_graph.task_uuid) c
    window w as (order by c.ordinal)
    order by 1;
end
$function$;
comment on function tasker.task_graph(uuid) is
  'Gives a task as a graph: a row for each step of its template with its state and its edges both ways, steps not created (yet) included, then one for each instance and for each compensation. Errors: TK001, 40001.';
