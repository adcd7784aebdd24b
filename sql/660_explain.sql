-- Why a task stands where it stands: for each of its steps that has not ended, what it waits for and until when.

create type tasker.explanation as (
  step_uuid uuid,
  step_name text,
  state text,
  reason text,
  explanation text,
  waits_for text[],
  until timestamptz,
  worker_id text,
  dead_letter_uuid uuid
);
comment on type tasker.explanation is
  'Why a step does not go on. reason is a word that programs can rely on: running, lease_ended, queued, no_worker, retry, dependency, limit, compensation, blocked, failed, evaluation, scheduled, '
  'signal, timer, child, task_paused, namespace_paused. until is the next time at which something happens by itself.';

create function tasker._time_in_words(p_at timestamptz, p_now timestamptz) returns text
language sql stable parallel safe set search_path = pg_catalog, pg_temp as $function$
  select to_char(p_at, case when p_at::date = p_now::date then 'HH24:MI:SS' else 'YYYY-MM-DD HH24:MI:SS' end)
$function$;
comment on function tasker._time_in_words(timestamptz, timestamptz) is 'A time as a person reads it: of another day, with its date.';

create function tasker._ordinal_in_words(p_number integer) returns text
language sql immutable parallel safe set search_path = pg_catalog, pg_temp as $function$
  select coalesce((array['first', 'second', 'third', 'fourth', 'fifth', 'sixth', 'seventh', 'eighth', 'ninth'])[p_number], p_number || 'th')
$function$;
comment on function tasker._ordinal_in_words(integer) is 'First, second, and so on.';

create function tasker._state_in_words(p_state text, p_attempts_used integer, p_retry_at timestamptz, p_now timestamptz) returns text
language sql stable parallel safe set search_path = pg_catalog, pg_temp as $function$
  select case p_state
    when 'pending' then 'waits itself'
    when 'enqueued' then 'is ready and not claimed yet'
    when 'in_progress' then 'is running'
    when 'waiting' then 'waits inside the engine'
    when 'waiting_for_retry' then format('is in its %s retry until %s', tasker._ordinal_in_words(p_attempts_used), tasker._time_in_words(p_retry_at, p_now))
    when 'error' then 'failed for good'
    when 'cancelled' then 'was cancelled'
    else 'is ' || p_state end
$function$;
comment on function tasker._state_in_words(text, integer, timestamptz, timestamptz) is 'How a step stands, as what follows "step x, which".';

create function tasker._pause_in_words(p_what text, p_paused_by text, p_paused_at timestamptz, p_reason text, p_now timestamptz) returns text
language sql stable parallel safe set search_path = pg_catalog, pg_temp as $function$
  select format('%s was paused by %s at %s%s', p_what, coalesce(p_paused_by, 'unknown'), tasker._time_in_words(p_paused_at, p_now), ': ' || p_reason)
$function$;
comment on function tasker._pause_in_words(text, text, timestamptz, text, timestamptz) is 'Who paused what, when and why.';

create function tasker._explain_pending(p_task_uuid uuid, p_now timestamptz) returns setof tasker.explanation
language plpgsql stable parallel unsafe set search_path = pg_catalog, pg_temp as $function$
begin
  -- The steps of a task that has not started are those of its template.
  return query
    select null::uuid, d.name, 'pending', w.reason, w.explanation, d.dependencies, w.until, null::text, null::uuid
    from tasker.tasks t
    join tasker.namespaces n on n.namespace_id = t.namespace_id
    cross join lateral (
      select
        case when t.paused_at is not null then 'task_paused' when t.run_at > p_now or n.paused_at is null then 'scheduled' else 'namespace_paused' end as reason,
        case when t.paused_at is not null then tasker._pause_in_words('the task', t.paused_by, t.paused_at, t.pause_reason, p_now)
          when t.run_at > p_now then format('the task starts at %s', tasker._time_in_words(t.run_at, p_now))
          when n.paused_at is null then 'the task starts with the next round of maintenance'
          else tasker._pause_in_words(format('namespace %s', n.name), n.paused_by, n.paused_at, n.pause_reason, p_now) end as explanation,
        case when t.paused_at is null and t.run_at > p_now then t.run_at end as until
    ) w
    cross join lateral tasker._template_nodes(t.template_id) d
    where t.task_uuid = p_task_uuid
    order by d.number;
end
$function$;
comment on function tasker._explain_pending(uuid, timestamptz) is 'Why the steps of a task that has not started are not there yet.';

create function tasker._explain_ready(p_task_uuid uuid, p_now timestamptz) returns setof tasker.explanation
language plpgsql stable parallel unsafe set search_path = pg_catalog, pg_temp as $function$
begin
  return query
    with ready as materialized (
      select s.step_uuid, s.state, s.attempt, s.attempts_used, s.retry_at, s.lease_expires_at, s.worker_id, s.error, d.name, d.callable, d.max_attempts, d.namespace,
        s.state = 'in_progress' and s.lease_expires_at > p_now as is_held, s.state = 'waiting_for_retry' and s.retry_at > p_now as is_delayed
      from tasker.steps s
      cross join lateral tasker._step_definitions(array[s.template_id], array[tasker._number_of(s.step_uuid)]) d
      where s.step_uuid > p_task_uuid and s.step_uuid <= tasker._last_step_uuid(p_task_uuid) and s.state in ('enqueued', 'in_progress', 'waiting_for_retry')
        and not tasker._waits_in_engine(s.state, s.lease_expires_at)
    ), served as materialized (
      select h.namespace, h.callable, tasker._live_workers(h.namespace, h.callable, p_now) as workers from (select distinct r.namespace, r.callable from ready r) h
    )
    select r.step_uuid, r.name, r.state, w.reason,
      case w.reason
        when 'running' then format('worker %s runs attempt %s under a lease until %s', r.worker_id, r.attempt, tasker._time_in_words(r.lease_expires_at, p_now))
        when 'task_paused' then tasker._pause_in_words('the task', t.paused_by, t.paused_at, t.pause_reason, p_now)
        when 'namespace_paused' then tasker._pause_in_words(format('namespace %s', r.namespace), n.paused_by, n.paused_at, n.pause_reason, p_now)
        when 'retry' then format('attempt %s of %s failed (%s); its %s retry is due at %s', r.attempts_used, r.max_attempts, coalesce(r.error ->> 'message', 'without a message'),
          tasker._ordinal_in_words(r.attempts_used), tasker._time_in_words(r.retry_at, p_now))
        when 'no_worker' then case when r.callable like 'sql:%' then format('handler %s is run by the database itself, and no session does that: name the database in tasker.databases of a '
          'server with shared_preload_libraries = ''tasker'', or run tasker-server', r.callable) else format('no live worker serves handler %s in namespace %s', r.callable, r.namespace) end
        when 'lease_ended' then format('worker %s held attempt %s until %s; the next claim takes the step over', r.worker_id, r.attempt,
          tasker._time_in_words(r.lease_expires_at, p_now))
        else case when r.callable like 'sql:%' then format('is ready; sessions that run SQL functions: %s', v.workers)
          else format('is ready; live workers that serve handler %s in namespace %s: %s', r.callable, r.namespace, v.workers) end end,
      '{}'::text[], case w.reason when 'running' then r.lease_expires_at when 'retry' then r.retry_at end,
      case when r.state = 'in_progress' then r.worker_id end, null::uuid
    from ready r
    join served v on v.namespace = r.namespace and v.callable = r.callable
    cross join lateral (select t.* from tasker.tasks t where t.task_uuid = p_task_uuid) t
    cross join lateral (select n.* from tasker.namespaces n where n.namespace_id = t.namespace_id) n
    cross join lateral (
      select case when r.is_held then 'running' when t.paused_at is not null then 'task_paused' when n.paused_at is not null then 'namespace_paused'
        when r.is_delayed then 'retry' when v.workers = 0 then 'no_worker' when r.state = 'in_progress' then 'lease_ended' else 'queued' end as reason
    ) w;
end
$function$;
comment on function tasker._explain_ready(uuid, timestamptz) is 'Why the steps of a task that wait for no other one don''t go on, or who runs them.';

create function tasker._explain_instances(p_task_uuid uuid, p_template_id integer, p_dead_letter_uuid uuid) returns setof tasker.explanation
language plpgsql stable parallel unsafe set search_path = pg_catalog, pg_temp as $function$
begin
  if not tasker._is_dynamic(p_template_id) then
    return;
  end if;
  return query
    with instances as materialized (
      select i.step_uuid, i.state, g.definition_number, tasker._instance_of(p_template_id, i.number) as instance, i.state = 'error' as has_failed,
        not tasker._satisfies_dependents(i.state) and not (i.state = 'error' and tasker._tolerates_failure(p_template_id, i.number)) as is_open, i.number
      from (
        select s.step_uuid, s.state, tasker._number_of(s.step_uuid) as number
        from tasker.steps s
        where s.step_uuid > p_task_uuid and s.step_uuid <= tasker._last_step_uuid(p_task_uuid)
      ) i
      cross join lateral (select tasker._definition_number(p_template_id, i.number) as definition_number) g
      where g.definition_number <> i.number
    ), groups as materialized (
      select s.step_uuid, d.number, d.name, s.instances, s.opened, c.open_count, c.failed_count, c.failed_names
      from (select distinct i.definition_number from instances i) g
      cross join lateral (select s.* from tasker.steps s where s.step_uuid = tasker._step_uuid(p_task_uuid, g.definition_number) and s.state = 'pending') s
      cross join lateral tasker._step_definitions(array[p_template_id], array[g.definition_number]) d
      cross join lateral (
        select count(*) filter (where i.is_open) as open_count, count(*) filter (where i.is_open and i.state in ('error', 'cancelled')) as failed_count,
          (array_agg(format('%s_%s', d.name, lpad(i.instance::text, 6, '0')) order by i.instance) filter (where i.is_open and i.state in ('error', 'cancelled')))[1:10] as failed_names
        from instances i
        where i.definition_number = g.definition_number and i.instance <= s.instances
      ) c
      where s.instances is not null
    )
    select g.step_uuid, g.name, 'pending', case when g.failed_count = g.open_count then 'blocked' else 'dependency' end,
      case when g.failed_count = g.open_count then format('cannot end: %s of its %s instances failed for good or were cancelled', g.failed_count, g.instances)
        else format('waits for %s of its %s instances', g.open_count, g.instances) end,
      coalesce(g.failed_names, '{}'), null::timestamptz, null::text, case when g.failed_count > 0 then p_dead_letter_uuid end
    from groups g
    union all
    select i.step_uuid, format('%s_%s', g.name, lpad(i.instance::text, 6, '0')), 'pending', 'limit',
      format('waits for its turn: %s of %s instances have been let go, the next when one of them ends', g.opened, g.instances), array[g.name], null, null, null
    from instances i
    join groups g on g.number = i.definition_number
    where i.state = 'pending' and i.instance <= g.instances;
end
$function$;
comment on function tasker._explain_instances(uuid, integer, uuid) is 'What steps that stand for instances wait for, and which instances wait for their turn.';

create function tasker._explain_waits(p_task_uuid uuid, p_now timestamptz) returns setof tasker.explanation
language plpgsql stable parallel unsafe set search_path = pg_catalog, pg_temp as $function$
begin
  return query
    select s.step_uuid, d.name, s.state, case d.type when 'task' then 'child' else d.type end,
      case d.type
        when 'signal' then format('waits for signal %s%s', g.signal, ' until ' || tasker._time_in_words(t.due_at, p_now))
        when 'timer' then format('sleeps until %s', tasker._time_in_words(t.due_at, p_now))
        when 'task' then case when c.task_uuid is null then 'its child task starts with the next round of maintenance'
          else format('waits for child task %s, which is %s', c.task_uuid, c.state) end end,
      '{}'::text[], t.due_at, null::text, null::uuid
    from (
      select s.step_uuid, s.template_id, s.state, s.attempt
      from tasker.steps s
      where s.step_uuid > p_task_uuid and s.step_uuid <= tasker._last_step_uuid(p_task_uuid) and tasker._waits_in_engine(s.state, s.lease_expires_at)
    ) s
    cross join lateral tasker._step_definitions(array[s.template_id], array[tasker._number_of(s.step_uuid)]) d
    left join lateral (select t.due_at from tasker.timers t where t.step_uuid = s.step_uuid) t on true
    left join lateral (select g.signal from tasker._signal_steps(s.template_id) g where g.number = d.number) g on true
    left join lateral (
      select c.task_uuid, k.state
      from tasker.child_tasks c
      cross join lateral (select k.state from tasker.tasks k where k.task_uuid = c.task_uuid) k
      where c.parent_step_uuid = s.step_uuid and c.attempt = s.attempt
    ) c on true;
end
$function$;
comment on function tasker._explain_waits(uuid, timestamptz) is 'What the steps of a task wait for inside the engine, and until when.';

create function tasker._explain_waiting(p_task_uuid uuid, p_now timestamptz) returns setof tasker.explanation
language plpgsql stable parallel unsafe set search_path = pg_catalog, pg_temp as $function$
declare
  v_template_id integer;
  v_ended integer[];
  v_unreal uuid[];
  v_dead_letter_uuid uuid;
begin
  select t.template_id into v_template_id from tasker.tasks t where t.task_uuid = p_task_uuid;
  v_unreal := tasker._unreal_steps(p_task_uuid, v_template_id);
  v_dead_letter_uuid := tasker._open_dead_letter_of(p_task_uuid);
  v_ended := array(
    select distinct tasker._definition_number(s.template_id, tasker._number_of(s.step_uuid)) from tasker.steps s
    where s.step_uuid > p_task_uuid and s.step_uuid <= tasker._last_step_uuid(p_task_uuid)
      and (s.state = 'cancelled' or s.state = 'error' and not tasker._tolerates_failure(s.template_id, tasker._number_of(s.step_uuid))));
  return query
    with waiting as materialized (
      select array_agg(v_template_id) as templates, array_agg(tasker._number_of(s.step_uuid) order by s.step_uuid) as numbers
      from tasker.steps s
      where s.step_uuid > p_task_uuid and s.step_uuid <= tasker._last_step_uuid(p_task_uuid) and s.state = 'pending' and s.instances is null
        and s.step_uuid <> all (v_unreal) and tasker._instance_of(s.template_id, tasker._number_of(s.step_uuid)) is null
    ), dependencies as materialized (
      select w.numbers[e.ordinal] as number, array_agg(e.name order by e.dependency_number) as names, max(s.retry_at) as retry_at,
        string_agg(format('step %s, which %s', e.name, case when s.is_unreal then 'a decision may still create'
          else tasker._state_in_words(case when tasker._waits_in_engine(s.state, s.lease_expires_at) then 'waiting' else s.state end, s.attempts_used, s.retry_at, p_now) end), '; '
          order by e.dependency_number) as in_words
      from waiting w
      cross join lateral tasker._dependencies(w.templates, w.numbers) e
      cross join lateral (
        select s.state, s.lease_expires_at, s.attempts_used, s.retry_at, s.step_uuid = any (v_unreal) as is_unreal, s.remaining_dependencies
        from tasker.steps s where s.step_uuid = tasker._step_uuid(p_task_uuid, e.dependency_number)
      ) s
      where not tasker._satisfies_dependents(s.state) and s.remaining_dependencies >= 0
      group by 1
    )
    select tasker._step_uuid(p_task_uuid, d.number), n.name, 'pending', case when b.number is null then 'dependency' else 'blocked' end,
      case when b.number is null then 'waits for ' || d.in_words
        else format('cannot run: step %s, which it depends on, %s', b.ended_name, tasker._state_in_words(s.state, null, null, p_now)) end,
      d.names, case when b.number is null then d.retry_at end, null::text, case when b.number is not null then v_dead_letter_uuid end
    from dependencies d
    cross join lateral tasker._step_definitions(array[v_template_id], array[d.number]) n
    left join tasker._steps_behind(v_template_id, v_ended) b on b.number = d.number
    left join lateral (select s.state from tasker.steps s where s.step_uuid = tasker._step_uuid(p_task_uuid, b.ended_number)) s on true
    union all
    select * from tasker._explain_instances(p_task_uuid, v_template_id, v_dead_letter_uuid)
    union all
    select c.step_uuid, c.name, c.state, case when f.name is null then 'compensation' else 'blocked' end,
      format('undoes step %s when its turn comes: it is number %s of %s%s', c.undoes_name, c.ordinal, count(*) over (), '; ' || f.name || ' before it failed for good'),
      array_remove(array[lag(c.name) over (order by c.ordinal)], null), null, null, case when f.name is not null then v_dead_letter_uuid end
    from tasker.list_compensations(p_task_uuid) c
    left join lateral (select b.name from tasker.list_compensations(p_task_uuid) b where b.state = 'error' limit 1) f on true
    where c.state = 'pending'
    union all
    select s.step_uuid, n.name, s.state, 'failed',
      format('failed for good after %s of %s attempts: %s; %s', s.attempts_used, n.max_attempts, coalesce(s.error ->> 'message', 'without a message'),
        case when tasker._tolerates_failure(s.template_id, tasker._number_of(s.step_uuid)) then 'its step goes on without it' else 'an operator decides' end),
      '{}'::text[], null, null, coalesce(tasker._open_dead_letter_of(s.step_uuid), v_dead_letter_uuid)
    from tasker.steps s
    cross join lateral tasker._step_definitions(array[s.template_id], array[tasker._number_of(s.step_uuid)]) n
    where s.step_uuid > p_task_uuid and s.step_uuid <= tasker._last_step_uuid(p_task_uuid) and s.state = 'error'
    union all
    select s.step_uuid, n.name, s.state, 'evaluation', 'its outcome is stored and is evaluated with the next round of maintenance', '{}'::text[], null, null, null
    from tasker.steps s
    cross join lateral tasker._step_definitions(array[s.template_id], array[tasker._number_of(s.step_uuid)]) n
    where s.step_uuid > p_task_uuid and s.step_uuid <= tasker._last_step_uuid(p_task_uuid)
      and s.state in ('enqueued_for_orchestration', 'enqueued_as_error_for_orchestration');
end
$function$;
comment on function tasker._explain_waiting(uuid, timestamptz) is
  'What the pending steps of a task wait for, which can''t run any more because a step before them failed for good, and which did.';

create function tasker.explain_task(task_uuid uuid) returns setof tasker.explanation
language plpgsql stable parallel unsafe security definer set search_path = pg_catalog, pg_temp as $function$
declare
  v_now timestamptz := tasker._now();
  v_has_started boolean;
begin
  perform tasker._require_task(explain_task.task_uuid);
  select t.state <> 'pending' into v_has_started from tasker.tasks t where t.task_uuid = explain_task.task_uuid;
  if v_has_started then
    return query
      select e.*
      from (
        select * from tasker._explain_ready(explain_task.task_uuid, v_now)
        union all
        select * from tasker._explain_waits(explain_task.task_uuid, v_now)
        union all
        select * from tasker._explain_waiting(explain_task.task_uuid, v_now)
      ) e
      order by e.step_uuid;
  else
    return query select * from tasker._explain_pending(explain_task.task_uuid, v_now);
  end if;
end
$function$;
comment on function tasker.explain_task(uuid) is
  'Says of each step of a task that has neither succeeded nor been cancelled why it doesn''t go on, what it waits for and until when, or who runs it; in the order of the graph. '
  'A task that has ended well has no rows. Errors: TK001, 40001.';
