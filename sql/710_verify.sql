-- verify(): the invariants of the engine, recomputed from first principles. Reads everything; not for the hot path.

create type tasker.violation as (
  invariant integer,
  task_uuid uuid,
  step_uuid uuid,
  detail text
);
comment on type tasker.violation is 'An invariant that does not hold, by its number in docs/invariants.md, and where.';

create function tasker._verify_steps(p_from uuid, p_to uuid) returns setof tasker.violation
language sql stable parallel unsafe set search_path = pg_catalog, pg_temp as $function$
  select v.invariant, tasker._task_of(s.step_uuid), s.step_uuid, v.detail
  from tasker.steps s
  cross join lateral (
    select case when tasker._is_dynamic(s.template_id) then tasker._expected_counter(s.step_uuid, s.template_id)
      else (
        select count(*) filter (where p.state is null or not tasker._satisfies_dependents(p.state))::integer
        from tasker._dependencies(array[s.template_id], array[tasker._number_of(s.step_uuid)]) e
        left join tasker.steps p on p.step_uuid = tasker._step_uuid(tasker._task_of(s.step_uuid), e.dependency_number)
        where e.dependency_number is not null
      ) end as unsatisfied
  ) c
  cross join lateral tasker._step_definitions(array[s.template_id], array[tasker._number_of(s.step_uuid)]) d
  cross join lateral (
    values
      (1, s.remaining_dependencies <> c.unsatisfied, format('remaining_dependencies is %s, unsatisfied are %s', s.remaining_dependencies, c.unsatisfied)),
      (2, s.state in ('enqueued', 'in_progress', 'waiting_for_retry') and c.unsatisfied > 0, format('%s with %s unsatisfied dependencies', s.state, c.unsatisfied)),
      (2, s.state = 'pending' and c.unsatisfied = 0, 'pending with every dependency satisfied'),
      (7, s.state in ('enqueued_for_orchestration', 'enqueued_as_error_for_orchestration')
        and not exists (select from tasker.resting_outcomes r where r.step_uuid = s.step_uuid), format('%s, and nothing will evaluate it', s.state)),
      (3, s.attempts_used > d.max_attempts, format('attempts_used is %s of %s', s.attempts_used, d.max_attempts)),
      (3, s.attempts_used > s.attempt, format('attempts_used is %s with attempt %s', s.attempts_used, s.attempt))
  ) v(invariant, is_broken, detail)
  where s.step_uuid > p_from and s.step_uuid <= p_to and v.is_broken
$function$;
comment on function tasker._verify_steps(uuid, uuid) is 'Invariants 1 to 3 on the steps'' rows.';

create function tasker._verify_history(p_from uuid, p_to uuid) returns setof tasker.violation
language sql stable parallel unsafe set search_path = pg_catalog, pg_temp as $function$
  with stored as (
    select tasker._task_of(h.step_uuid) as task_uuid, h.step_uuid, h.seq, h.attempt, u.*
    from tasker.step_transitions h
    cross join lateral (
      select (array_agg(u.from_state order by u.ordinal))[1] as from_state, (array_agg(u.to_state order by u.ordinal desc))[1] as to_state,
        (array_agg(u.event order by u.ordinal desc))[1] as event
      from tasker._unroll_step(h.path) u
    ) u
    where h.step_uuid > p_from and h.step_uuid <= p_to
    union all
    select h.task_uuid, null, h.seq, null, u.*
    from tasker.task_transitions h
    cross join lateral (
      select (array_agg(u.from_state order by u.ordinal))[1] as from_state, (array_agg(u.to_state order by u.ordinal desc))[1] as to_state,
        (array_agg(u.event order by u.ordinal desc))[1] as event
      from tasker._unroll_task(h.path) u
    ) u
    where h.task_uuid >= p_from and h.task_uuid <= p_to
  ), walked as (
    select h.task_uuid, h.step_uuid, h.from_state, h.to_state, h.event, h.attempt, coalesce(lag(h.to_state) over w, 'pending') as expected_from,
      h.step_uuid is not null and h.event = 'start'
        and h.attempt <= coalesce(max(h.attempt) over (partition by h.task_uuid, h.step_uuid order by h.seq rows between unbounded preceding and 1 preceding), 0)
        as repeats_attempt,
      lead(h.seq) over w is null as is_last
    from stored h
    window w as (partition by h.task_uuid, h.step_uuid order by h.seq)
  )
  select 5, w.task_uuid, w.step_uuid, format('history goes from %s to %s by %s, which is no path of the machine', coalesce(w.from_state, '?'), coalesce(w.to_state, '?'), coalesce(w.event, '?'))
  from walked w where w.from_state is distinct from w.expected_from
  union all
  select 3, w.task_uuid, w.step_uuid, format('attempt %s was started twice', w.attempt) from walked w where w.repeats_attempt
  union all
  select 3, w.task_uuid, w.step_uuid, 'completed more than once'
  from walked w where w.step_uuid is not null
  group by w.task_uuid, w.step_uuid
  having count(*) filter (where w.to_state = 'complete') > 1 + count(*) filter (where w.from_state = 'complete')
  union all
  select 5, s.task_uuid, s.step_uuid, format('state is %s, the last history row says %s', s.state, coalesce(w.to_state, 'pending'))
  from (
    select tasker._task_of(s.step_uuid) as task_uuid, s.step_uuid, s.state from tasker.steps s where s.step_uuid > p_from and s.step_uuid <= p_to
    union all
    select t.task_uuid, null, t.state from tasker.tasks t where t.task_uuid >= p_from and t.task_uuid <= p_to
  ) s
  left join walked w on coalesce(w.step_uuid, w.task_uuid) = coalesce(s.step_uuid, s.task_uuid) and w.is_last
  where s.state <> coalesce(w.to_state, 'pending')
$function$;
comment on function tasker._verify_history(uuid, uuid) is 'Invariants 3 and 5: attempts rise, and the history is a path of the state machine that ends in the row''s state.';

create function tasker._verify_tasks(p_from uuid, p_to uuid) returns setof tasker.violation
language sql stable parallel unsafe set search_path = pg_catalog, pg_temp as $function$
  select v.invariant, t.task_uuid, null::uuid, v.detail
  from tasker.tasks t
  cross join lateral (
    select coalesce(sum(tasker._counts_running(s.state)) filter (where not tasker._waits_in_engine(s.state, s.lease_expires_at)), 0) as running,
      count(*) filter (where tasker._waits_in_engine(s.state, s.lease_expires_at)) as waiting_engine, count(*) filter (where s.state = 'waiting_for_retry') as waiting_retry,
      count(*) filter (where s.state = 'cancelled' or s.state = 'error' and not tasker._tolerates_failure(s.template_id, tasker._number_of(s.step_uuid))) as failed,
      count(*) as total,
      count(*) filter (where s.remaining_dependencies >= 0 and not tasker._satisfies_dependents(s.state)
        and not (s.state = 'error' and tasker._tolerates_failure(s.template_id, tasker._number_of(s.step_uuid)))) as unsatisfied
    from tasker.steps s
    where s.step_uuid > t.task_uuid and s.step_uuid <= tasker._last_step_uuid(t.task_uuid)
  ) c
  cross join lateral (
    values
      (1, (t.running, t.waiting_retry, t.waiting_engine, t.failed) is distinct from (c.running, c.waiting_retry, c.waiting_engine, c.failed),
        format('counters say %s running, %s waiting, %s in the engine, %s failed; the steps say %s, %s, %s, %s', t.running, t.waiting_retry, t.waiting_engine, t.failed,
          c.running, c.waiting_retry, c.waiting_engine, c.failed)),
      (6, tasker._is_terminal(t.state) and c.running + c.waiting_retry + c.waiting_engine > 0,
        format('%s with %s live steps', t.state, c.running + c.waiting_retry + c.waiting_engine)),
      (6, c.total > 0 and c.unsatisfied = 0 and not tasker._is_terminal(t.state), format('%s with every step satisfied', t.state)),
      (6, (t.finished_at is not null) <> tasker._is_terminal(t.state), format('%s with finished_at %s', t.state, coalesce(t.finished_at::text, 'null'))),
      (7, t.state = 'pending' and t.paused_at is null
          and not exists (select from tasker.scheduled_tasks s where s.run_at = t.run_at and s.task_uuid = t.task_uuid)
          and not exists (select from tasker.held_tasks h where h.namespace_id = t.namespace_id and h.task_uuid = t.task_uuid),
        'pending, and scheduled for no time'),
      (7, t.state = 'steps_in_process' and c.running = 0, 'steps_in_process with nothing running'),
      (7, t.state = 'waiting_for_retry' and c.waiting_retry = 0, 'waiting_for_retry with no retry due'),
      (7, t.state in ('initializing', 'enqueuing_steps', 'evaluating_results'), format('%s outlived its transaction', t.state)),
      (7, t.state = 'waiting_for_dependencies' and t.waiting_engine = 0, 'waiting_for_dependencies with nothing waited for')
  ) v(invariant, is_broken, detail)
  where t.task_uuid >= p_from and t.task_uuid <= p_to and v.is_broken
$function$;
comment on function tasker._verify_tasks(uuid, uuid) is 'Invariants 1, 6 and 7 on the tasks'' rows.';

create function tasker._verify_waits(p_from uuid, p_to uuid) returns setof tasker.violation
language sql stable parallel unsafe set search_path = pg_catalog, pg_temp as $function$
  select 7, tasker._task_of(s.step_uuid), s.step_uuid, v.detail
  from (
    select s.step_uuid, s.template_id, s.attempt from tasker.steps s where s.step_uuid > p_from and s.step_uuid <= p_to and tasker._waits_in_engine(s.state, s.lease_expires_at)
  ) s
  cross join lateral tasker._wait_of(s.template_id, tasker._number_of(s.step_uuid)) w
  cross join lateral (
    values
      (w.kind is null, 'in progress without a lease, and of a type that workers run'),
      (w.has_timer and not exists (select from tasker.timers t where t.step_uuid = s.step_uuid), 'waits for a time that is in no list'),
      (w.signal is not null and exists (select from tasker.signals g where g.task_uuid = tasker._task_of(s.step_uuid) and g.name = w.signal),
        'waits for a signal that has come'),
      (w.kind = 'task' and not exists (select from tasker.maintenance_found f where f.job = 'start_children' and f.key = s.step_uuid) and not exists (
          select from tasker.child_tasks c
          cross join lateral (select t.finished_at from tasker.tasks t where t.task_uuid = c.task_uuid) t
          where c.parent_step_uuid = s.step_uuid and c.attempt = s.attempt
            and (t.finished_at is null or exists (select from tasker.maintenance_found f where f.job = 'settle_parents' and f.key = c.task_uuid))),
        'waits for a child task that is not there, or has ended')
  ) v(is_broken, detail)
  where v.is_broken
  union all
  select 7, tasker._task_of(t.step_uuid), t.step_uuid, 'a timer for a step that doesn''t wait'
  from tasker.timers t
  where t.step_uuid > p_from and t.step_uuid <= p_to
    and not exists (select from tasker.steps s where s.step_uuid = t.step_uuid and tasker._waits_in_engine(s.state, s.lease_expires_at))
$function$;
comment on function tasker._verify_waits(uuid, uuid) is 'Of invariant 7: what waits inside the engine has something that will move it, and nothing else has.';

create function tasker._verify_messages(p_from uuid, p_to uuid) returns setof tasker.violation
language plpgsql stable parallel unsafe set search_path = pg_catalog, pg_temp as $function$
declare
  v_namespace record;
begin
  for v_namespace in select n.namespace_id, n.queue_name from tasker.namespaces n order by n.name loop
    perform tasker._raise_refused(tasker._queue_problem(v_namespace.queue_name));
    return query execute format($query$
      with sent as (
        select (m.message ->> 'step_uuid')::uuid as step_uuid, count(*) as messages, min(m.msg_id) as msg_id, max(m.vt) as visible_at
        from pgmq.%1$I m
        where m.message ->> 'step_uuid' ~* '^[0-9a-f]{8}-([0-9a-f]{4}-){3}[0-9a-f]{12}$'
        group by 1
      ), live as (
        select s.step_uuid, s.state, s.msg_id, s.paused_at
        from tasker.steps s
        join tasker.templates x on x.template_id = s.template_id
        where x.namespace_id = $3 and s.step_uuid > $1 and s.step_uuid <= $2 and s.state in ('enqueued', 'in_progress', 'waiting_for_retry')
          and not tasker._waits_in_engine(s.state, s.lease_expires_at)
      )
      select 4, tasker._task_of(coalesce(l.step_uuid, s.step_uuid)), coalesce(l.step_uuid, s.step_uuid),
        case when l.step_uuid is null then 'a message for a step that is not live'
          else format('%%s with %%s messages, msg_id %%s against %%s', l.state, coalesce(s.messages, 0), l.msg_id, s.msg_id) end
      from live l
      full join sent s on s.step_uuid = l.step_uuid
      where coalesce(l.step_uuid, s.step_uuid) > $1 and coalesce(l.step_uuid, s.step_uuid) <= $2
        and (l.step_uuid is null or s.messages is distinct from 1 or s.msg_id is distinct from l.msg_id)
      union all
      select 4, tasker._task_of(l.step_uuid), l.step_uuid, format('its message says priority %%s and is served by %%s', coalesce(m.priority, '0'), coalesce(m.served_by, '0'))
      from live l
      cross join lateral (
        select m.message ->> 'priority' as priority, m.headers ->> 'priority' as served_by from pgmq.%1$I m where m.msg_id = l.msg_id
      ) m
      where coalesce(m.priority, '0') <> coalesce(m.served_by, '0')
      union all
      select 7, tasker._task_of(l.step_uuid), l.step_uuid,
        case when l.paused_at is null then 'its message is hidden for ever, and its task is not paused' else 'its message is shown, and its task is paused' end
      from live l
      join sent s on s.step_uuid = l.step_uuid
      where case when l.paused_at is null then s.visible_at = 'infinity' else l.state <> 'in_progress' and s.visible_at <> 'infinity' end
      $query$, 'q_' || v_namespace.queue_name)
    using p_from, p_to, v_namespace.namespace_id;
  end loop;
end
$function$;
comment on function tasker._verify_messages(uuid, uuid) is
  'Invariant 4: a live step has exactly one message, served by the priority that it says, any other none; and of 7, that a message is hidden for ever exactly while its task is paused.';

create function tasker._verify_pauses(p_from uuid, p_to uuid) returns setof tasker.violation
language sql stable parallel unsafe set search_path = pg_catalog, pg_temp as $function$
  select 7, t.task_uuid, s.step_uuid, format('paused_at is %s, its task''s %s', coalesce(s.paused_at::text, 'null'), coalesce(t.paused_at::text, 'null'))
  from tasker.tasks t
  cross join lateral (
    select s.step_uuid, s.paused_at from tasker.steps s where s.step_uuid > t.task_uuid and s.step_uuid <= tasker._last_step_uuid(t.task_uuid)
  ) s
  where t.task_uuid >= p_from and t.task_uuid <= p_to and s.paused_at is distinct from t.paused_at
$function$;
comment on function tasker._verify_pauses(uuid, uuid) is 'Of invariant 7: a step is marked as paused exactly while its task is.';

create function tasker.verify(task_uuid uuid default null) returns setof tasker.violation
language plpgsql stable parallel unsafe security definer set search_path = pg_catalog, pg_temp as $function$
declare
  v_from uuid := coalesce(verify.task_uuid, '00000000-0000-0000-0000-000000000000');
  v_to uuid := case when verify.task_uuid is null then 'ffffffff-ffff-ffff-ffff-ffffffffffff' else tasker._last_step_uuid(verify.task_uuid) end;
begin
  if verify.task_uuid is not null then
    perform tasker._require_task(verify.task_uuid);
  end if;
  return query select v.* from tasker._verify_steps(v_from, v_to) v where tasker._may(tasker._checked_namespace(v.task_uuid), 'read');
  return query select v.* from tasker._verify_tasks(v_from, v_to) v where tasker._may(tasker._checked_namespace(v.task_uuid), 'read');
  return query select v.* from tasker._verify_waits(v_from, v_to) v where tasker._may(tasker._checked_namespace(v.task_uuid), 'read');
  return query select v.* from tasker._verify_messages(v_from, v_to) v where tasker._may(tasker._checked_namespace(v.task_uuid), 'read');
  return query select v.* from tasker._verify_pauses(v_from, v_to) v where tasker._may(tasker._checked_namespace(v.task_uuid), 'read');
  return query select v.* from tasker._verify_history(v_from, v_to) v where tasker._may(tasker._checked_namespace(v.task_uuid), 'read');
end
$function$;
comment on function tasker.verify(uuid) is
  'Checks the invariants of one task, or of everything, from first principles: no rows when all hold. Lost messages show until maintenance has sent them again. Errors: TK001, TK030, 40001.';
