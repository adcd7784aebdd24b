-- Settling: what a set of decided step changes causes, in a fixed number of statements. The callers have decided each change under the step's row lock.
-- Finishing (520), claims that meet an ended lease (510), extensions past the timeout (530) and maintenance (700) all end here.
-- Lock order: the caller holds the steps and their dependents; here the tasks follow, then the queue rows.

create function tasker._dependents_of(p_settlements tasker._settlement[]) returns tasker._dependent[]
language plpgsql stable parallel unsafe set search_path = pg_catalog, pg_temp as $function$
begin
  return (
    select array_agg(row(k.step_uuid, k.template_id, k.number, k.decrement, s.remaining_dependencies = k.decrement and s.state = 'pending', s.attempt,
      d.queue_name, d.namespace, d.callable, t.priority, t.correlation_id, false)::tasker._dependent order by t.priority desc, k.step_uuid)
    from (
      select tasker._step_uuid(tasker._task_of(x.step_uuid), e.dependent_number) as step_uuid, min(x.template_id) as template_id,
        e.dependent_number as number, count(*)::integer as decrement
      from (
        select array_agg(x.template_id) as template_ids, array_agg(x.number) as numbers, array_agg(x.step_uuid) as step_uuids
        from unnest(p_settlements) x
        where x.to_state = 'complete'
      ) a
      cross join lateral tasker._dependents(a.template_ids, a.numbers) e
      cross join lateral (select a.step_uuids[e.ordinal] as step_uuid, a.template_ids[e.ordinal] as template_id) x
      group by 1, 3
    ) k
    cross join lateral (select s.remaining_dependencies, s.state, s.attempt from tasker.steps s where s.step_uuid = k.step_uuid) s
    cross join lateral (select t.priority, t.correlation_id from tasker.tasks t where t.task_uuid = tasker._task_of(k.step_uuid)) t
    cross join lateral tasker._step_definitions(array[k.template_id], array[k.number]) d
  );
end
$function$;
comment on function tasker._dependents_of(tasker._settlement[]) is 'The steps whose counters fall by these completions, with what is needed to enqueue those that become ready.';

create function tasker._write_settled(p_settlements tasker._settlement[], p_now timestamptz, p_actor text) returns void
language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp as $function$
begin
  update tasker.steps s
  set state = x.to_state,
    attempt = s.attempt + x.raises_attempt,
    attempts_used = s.attempts_used - x.gives_back,
    result = x.result,
    error = x.error,
    checkpoint = coalesce(x.checkpoint, s.checkpoint),
    msg_id = case when x.due_at is null then null else s.msg_id end,
    retry_at = case x.to_state when 'waiting_for_retry' then x.due_at end,
    enqueued_at = case x.to_state when 'enqueued' then p_now else s.enqueued_at end,
    finished_at = case when tasker._is_terminal(x.to_state) then p_now end,
    worker_id = case when tasker._is_terminal(x.to_state) then s.worker_id end,
    lease_expires_at = null,
    lease_ms = null
  from unnest(p_settlements) x
  where s.step_uuid = x.step_uuid;

  insert into tasker.step_transitions (step_uuid, from_state, to_state, event, passed_through, at, attempt, actor)
  select x.step_uuid, x.from_state, x.to_state, x.event, x.passed_through, p_now, x.attempt, p_actor
  from unnest(p_settlements) x;
end
$function$;
comment on function tasker._write_settled(tasker._settlement[], timestamptz, text) is 'Writes the settled steps and their history.';

create function tasker._write_dependents(
  p_dependents tasker._dependent[], p_now timestamptz, p_actor text, p_worker_id text, p_lease interval) returns void
language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp as $function$
declare
  v_queue record;
  v_msg_ids bigint[];
begin
  update tasker.steps s
  set remaining_dependencies = s.remaining_dependencies - d.decrement
  from unnest(p_dependents) d
  where s.step_uuid = d.step_uuid and not d.is_ready;

  -- One round for each queue. A step handed over has its message too, hidden until the lease ends, so that a crash is recovered the same way.
  for v_queue in
    select d.queue_name, d.namespace, bool_or(not d.is_handed_over) as leaves_some, array_agg(d.step_uuid) as step_uuids, array_agg(d.attempt) as attempts,
      array_agg(d.handler) as handlers, array_agg(d.priority) as priorities, array_agg(d.correlation_id) as correlation_ids,
      array_agg(d.decrement) as decrements, array_agg(d.is_handed_over) as handed_over,
      array_agg(case when d.is_handed_over then p_now + p_lease else p_now end) as visible_at
    from unnest(p_dependents) d
    where d.is_ready
    group by d.queue_name, d.namespace
  loop
    perform tasker._require_queue(v_queue.queue_name);
    v_msg_ids := tasker._queue_send(v_queue.queue_name, v_queue.step_uuids, v_queue.attempts, v_queue.handlers, v_queue.priorities,
      v_queue.correlation_ids, v_queue.visible_at);
    update tasker.steps s
    set remaining_dependencies = s.remaining_dependencies - d.decrement,
      msg_id = d.msg_id,
      enqueued_at = p_now,
      state = case when d.is_handed_over then 'in_progress' else 'enqueued' end,
      attempt = s.attempt + d.is_handed_over::integer,
      attempts_used = s.attempts_used + d.is_handed_over::integer,
      started_at = case when d.is_handed_over then p_now end,
      worker_id = case when d.is_handed_over then p_worker_id end,
      lease_ms = case when d.is_handed_over then extract(epoch from p_lease) * 1000 end,
      lease_expires_at = case when d.is_handed_over then p_now + p_lease end
    from unnest(v_queue.step_uuids, v_msg_ids, v_queue.handed_over, v_queue.decrements) d(step_uuid, msg_id, is_handed_over, decrement)
    where s.step_uuid = d.step_uuid;
    if v_queue.leaves_some then
      perform pg_notify('tasker_ready_' || v_queue.namespace, '');
    end if;
  end loop;

  insert into tasker.step_transitions (step_uuid, from_state, to_state, event, passed_through, at, attempt, actor)
  select d.step_uuid, 'pending', case when d.is_handed_over then 'in_progress' else 'enqueued' end,
    case when d.is_handed_over then 'start' else 'enqueue' end, case when d.is_handed_over then array['enqueue:enqueued'] end,
    p_now, d.attempt + d.is_handed_over::integer, p_actor
  from unnest(p_dependents) d
  where d.is_ready;
end
$function$;
comment on function tasker._write_dependents(tasker._dependent[], timestamptz, text, text, interval) is
  'Lowers the counters of dependents and enqueues, or hands over, those that become ready.';

create function tasker._release_messages(p_settlements tasker._settlement[]) returns void
language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp as $function$
declare
  v_queue record;
begin
  for v_queue in
    select d.queue_name, d.namespace,
      array_agg(x.msg_id order by x.msg_id) filter (where x.due_at is null) as done,
      array_agg(x.msg_id order by x.msg_id) filter (where x.due_at is not null) as kept,
      array_agg(x.due_at order by x.msg_id) filter (where x.due_at is not null) as due_at
    from (
      select array_agg(x.template_id) as template_ids, array_agg(x.number) as numbers, array_agg(x.msg_id) as msg_ids, array_agg(x.due_at) as due_at
      from unnest(p_settlements) x
      where x.msg_id is not null
    ) a
    cross join lateral tasker._step_definitions(a.template_ids, a.numbers) d
    cross join lateral (select a.msg_ids[d.ordinal] as msg_id, a.due_at[d.ordinal] as due_at) x
    group by d.queue_name, d.namespace
  loop
    perform tasker._require_queue(v_queue.queue_name);
    if v_queue.done is not null then
      perform tasker._queue_delete(v_queue.queue_name, v_queue.done);
    end if;
    if v_queue.kept is not null then
      perform tasker._queue_set_visible_at(v_queue.queue_name, v_queue.kept, v_queue.due_at);
      -- Sleepers learn of it at once: of work that is visible now, and of a retry that may be due before their next poll.
      perform pg_notify('tasker_ready_' || v_queue.namespace, '');
    end if;
  end loop;
end
$function$;
comment on function tasker._release_messages(tasker._settlement[]) is 'Deletes the messages of settled steps, and shows again, now or later, those of steps that run again.';

create function tasker._choose_for_caller(
  p_dependents tasker._dependent[], p_limit integer, p_namespaces text[], p_handlers text[], p_now timestamptz) returns tasker._dependent[]
language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp as $function$
begin
  -- What the caller can run, at most p_limit by priority; not before a visible message of higher priority, which its claim then finds.
  return array(
    with waiting as materialized (
      select q.queue_name, tasker._queue_waiting_priority(q.queue_name, q.priority, p_handlers, p_now) as priority
      from (select d.queue_name, min(d.priority) as priority from unnest(p_dependents) d where d.is_ready group by d.queue_name) q
    )
    select row(d.step_uuid, d.template_id, d.number, d.decrement, d.is_ready, d.attempt, d.queue_name, d.namespace, d.handler, d.priority,
      d.correlation_id, d.fits and count(*) filter (where d.fits) over (order by d.ordinal) <= p_limit)::tasker._dependent
    from (
      select d.*, d.is_ready and d.namespace = any (p_namespaces) and (p_handlers is null or d.handler = any (p_handlers))
        and d.priority >= coalesce(w.priority, d.priority) as fits
      from unnest(p_dependents) with ordinality d(step_uuid, template_id, number, decrement, is_ready, attempt, queue_name, namespace, handler,
        priority, correlation_id, is_handed_over, ordinal)
      left join waiting w on w.queue_name = d.queue_name
    ) d
    order by d.ordinal);
end
$function$;
comment on function tasker._choose_for_caller(tasker._dependent[], integer, text[], text[], timestamptz) is
  'Marks which of the ready steps are handed over to the caller.';

create function tasker._settle(
  p_settlements tasker._settlement[], p_now timestamptz, p_actor text, p_worker_id text, p_limit integer, p_lease interval, p_namespaces text[],
  p_handlers text[]) returns uuid[]
language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp as $function$
declare
  v_dependents tasker._dependent[];
  v_deltas tasker._task_delta[];
  v_handed_over uuid[];
begin
  if coalesce(cardinality(p_settlements), 0) = 0 then
    return '{}';
  end if;
  v_dependents := tasker._dependents_of(p_settlements);
  if v_dependents is not null and p_limit > 0 then
    v_dependents := tasker._choose_for_caller(v_dependents, p_limit, p_namespaces, p_handlers, p_now);
  end if;
  perform tasker._write_settled(p_settlements, p_now, p_actor);
  if v_dependents is not null then
    perform tasker._write_dependents(v_dependents, p_now, p_actor, p_worker_id, p_lease);
    v_handed_over := array(select d.step_uuid from unnest(v_dependents) d where d.is_handed_over);
  end if;

  select array_agg(row(k.task_uuid, k.running, k.waiting_retry, k.failed, k.cause)::tasker._task_delta) into v_deltas
  from (
    select c.task_uuid, sum(c.running)::integer as running, sum(c.waiting_retry)::integer as waiting_retry, sum(c.failed)::integer as failed,
      case when bool_or(c.has_failed) then 'step_failed' else 'step_completed' end as cause
    from (
      select tasker._task_of(x.step_uuid) as task_uuid, tasker._counts_running(x.to_state) - tasker._counts_running(x.from_state) as running,
        (x.to_state = 'waiting_for_retry')::integer - (x.from_state = 'waiting_for_retry')::integer as waiting_retry,
        (x.to_state = 'error')::integer - (x.from_state = 'error')::integer as failed, x.to_state in ('error', 'waiting_for_retry') as has_failed
      from unnest(p_settlements) x
      union all
      select tasker._task_of(d.step_uuid), 1, 0, 0, false
      from unnest(v_dependents) d
      where d.is_ready
    ) c
    group by c.task_uuid
  ) k
  where k.running <> 0 or k.waiting_retry <> 0 or k.failed <> 0;
  if v_deltas is not null then
    perform tasker._advance_tasks(v_deltas, p_now, p_actor);
  end if;
  perform tasker._release_messages(p_settlements);
  return coalesce(v_handed_over, '{}');
end
$function$;
comment on function tasker._settle(tasker._settlement[], timestamptz, text, text, integer, interval, text[], text[]) is
  'Writes decided changes of steps and all that follows from them, and gives the ready steps handed over to the caller, at most p_limit.';

create function tasker._fail_settlement(
  p_step_uuid uuid, p_template_id integer, p_attempt integer, p_attempts_used integer, p_msg_id bigint, p_error jsonb, p_retry_after_ms bigint,
  p_immediately boolean, p_now timestamptz) returns tasker._settlement
language plpgsql stable parallel unsafe set search_path = pg_catalog, pg_temp as $function$
declare
  v_number integer := tasker._number_of(p_step_uuid);
  v_delay_ms bigint := tasker._retry_delay_ms(p_template_id, v_number, p_attempts_used, (p_error ->> 'retryable')::boolean, p_retry_after_ms, random());
  v_to_state text;
begin
  if v_delay_ms is not null and p_immediately then
    v_delay_ms := 0;
  end if;
  v_to_state := case when v_delay_ms is null then 'error' when v_delay_ms = 0 then 'enqueued' else 'waiting_for_retry' end;
  return row(
    p_step_uuid, p_template_id, v_number, 'in_progress', v_to_state,
    case v_to_state when 'error' then 'fail' when 'enqueued' then 'retry' else 'wait_for_retry' end,
    case v_to_state when 'enqueued'
      then array['enqueue_as_error_for_orchestration:enqueued_as_error_for_orchestration', 'wait_for_retry:waiting_for_retry']
      else array['enqueue_as_error_for_orchestration:enqueued_as_error_for_orchestration'] end,
    p_attempt, 0, 0, p_msg_id, p_now + v_delay_ms * interval '1 millisecond', null, p_error, null)::tasker._settlement;
end
$function$;
comment on function tasker._fail_settlement(uuid, integer, integer, integer, bigint, jsonb, bigint, boolean, timestamptz) is
  'Decides a failed attempt: retried now, retried later, or failed for good.';
