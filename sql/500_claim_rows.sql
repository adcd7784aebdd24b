-- What a worker gets to see of a claimed step. Not here: which steps it gets (510).

create function tasker._claimed_rows(p_step_uuids uuid[]) returns setof tasker.claimed_step
language plpgsql stable parallel unsafe set search_path = pg_catalog, pg_temp as $function$
begin
  return query
    with claimed as materialized (
      select u.ordinal, s.*
      from unnest(p_step_uuids) with ordinality u(step_uuid, ordinal)
      cross join lateral (select s.* from tasker.steps s where s.step_uuid = u.step_uuid) s
    ), asked as materialized (
      select array_agg(c.template_id order by c.ordinal) as template_ids, array_agg(tasker._number_of(c.step_uuid) order by c.ordinal) as numbers,
        array_agg(c.step_uuid order by c.ordinal) as step_uuids
      from claimed c
    ), results as materialized (
      -- In the order of the claimed steps, so that each row finds its own by position.
      select array_agg(r.results order by r.ordinal) as results
      from (
        select e.ordinal, coalesce(jsonb_object_agg(e.name, coalesce(p.result, 'null')) filter (where e.name is not null), '{}') as results
        from asked a
        cross join lateral tasker._dependencies(a.template_ids, a.numbers) e
        left join lateral (
          select p.result
          from tasker.steps p
          where p.step_uuid = tasker._step_uuid(tasker._task_of(a.step_uuids[e.ordinal]), e.dependency_number)
        ) p on true
        group by e.ordinal
      ) r
    )
    select c.step_uuid, t.task_uuid, c.attempt, c.attempts_used, d.max_attempts, d.namespace, d.template_name, d.template_version, d.name, d.type,
      tasker._handler_of(c.template_id, d.number), t.context, c.inputs, r.results[c.ordinal], c.checkpoint, t.correlation_id, t.priority::integer,
      d.timeout_seconds, c.lease_expires_at, c.created_at, c.enqueued_at
    from claimed c
    cross join results r
    cross join lateral tasker._step_definitions(array[c.template_id], array[tasker._number_of(c.step_uuid)]) d
    cross join lateral (
      select t.task_uuid, t.context, t.correlation_id, t.priority
      from tasker.tasks t
      where t.task_uuid = tasker._task_of(c.step_uuid)
    ) t
    order by c.ordinal;
end
$function$;
comment on function tasker._claimed_rows(uuid[]) is 'The claimed steps with their context and the results of their direct dependencies, in the order given.';
