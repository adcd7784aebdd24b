-- What time must do: tasks whose run_at has come, messages that were lost, leases that ended where no claim met them. One bounded batch of each a call.

create function tasker._make_missing_queues() returns bigint
language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp as $function$
declare
  v_namespace record;
  v_count bigint := 0;
begin
  for v_namespace in
    select n.queue_name from tasker.namespaces n where to_regclass(format('pgmq.%I', 'q_' || n.queue_name)) is null order by n.queue_name
  loop
    perform tasker._make_queue(v_namespace.queue_name);
    v_count := v_count + 1;
  end loop;
  return v_count;
end
$function$;
comment on function tasker._make_missing_queues() is 'Makes the queue of each namespace that has none, and says how many.';

create function tasker._start_due_tasks(p_limit integer, p_now timestamptz, p_actor text) returns bigint
language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp as $function$
declare
  v_scheduled uuid[];
  v_locked record;
begin
  v_scheduled := array(
    select s.task_uuid from tasker.scheduled_tasks s where s.run_at <= p_now order by s.run_at, s.task_uuid limit p_limit for update skip locked);
  if cardinality(v_scheduled) = 0 then
    return 0;
  end if;
  -- One that another session is changing is left for the next round; one that isn't pending any more was cancelled.
  select * into v_locked from tasker._lock_pending(v_scheduled);
  delete from tasker.scheduled_tasks s
  where s.run_at <= p_now and s.task_uuid = any (v_scheduled) and s.task_uuid <> all (coalesce(v_locked.busy, '{}'));
  return tasker._start_pending(v_locked.pending, p_now, p_actor);
end
$function$;
comment on function tasker._start_due_tasks(integer, timestamptz, text) is 'Starts pending tasks whose run_at has come, and says how many.';

create function tasker._walk_live_steps(p_limit integer, p_now timestamptz, out step_uuids uuid[], out clocked_task_uuids uuid[])
language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp as $function$
declare
  -- A finished task costs the walk a fraction of a live one.
  v_tasks constant integer := p_limit * 5;
  v_after uuid;
  v_live uuid[];
  v_last uuid;
  v_count integer;
begin
  insert into tasker.maintenance_cursors as c (job, after) values ('live_steps', '00000000-0000-0000-0000-000000000000')
  on conflict on constraint maintenance_cursors_pkey do nothing;
  select c.after into v_after from tasker.maintenance_cursors c where c.job = 'live_steps' for update;
  select array_agg(t.task_uuid order by t.task_uuid) filter (where t.finished_at is null), (array_agg(t.task_uuid order by t.task_uuid desc))[1], count(*),
    array_agg(t.task_uuid order by t.task_uuid) filter (where t.finished_at is null and tasker._has_clocks(t.template_id))
  into v_live, v_last, v_count, clocked_task_uuids
  from (
    select t.task_uuid, t.template_id, t.finished_at from tasker.tasks t where t.task_uuid >= tasker._task_of(v_after) order by t.task_uuid limit v_tasks
  ) t;
  step_uuids := array(
    select s.step_uuid
    from unnest(v_live) t(task_uuid)
    cross join lateral (
      select s.step_uuid
      from tasker.steps s
      where s.step_uuid > greatest(t.task_uuid, v_after) and s.step_uuid <= tasker._last_step_uuid(t.task_uuid)
        and s.state in ('enqueued', 'in_progress', 'waiting_for_retry')
      order by s.step_uuid
    ) s
    limit p_limit);
  update tasker.maintenance_cursors c
  set after = case
    when cardinality(step_uuids) = p_limit then step_uuids[p_limit]
    when v_count = v_tasks then tasker._last_step_uuid(v_last)
    else '00000000-0000-0000-0000-000000000000' end,
    walked_at = p_now
  where c.job = 'live_steps';
end
$function$;
comment on function tasker._walk_live_steps(integer, timestamptz) is
  'The next steps, in key order and round and round, that should have a message: at most p_limit of them, and of at most five times as many tasks. And those tasks among them '
  'that have not ended and whose template sets a limit.';

create function tasker._send_lost_messages(p_step_uuids uuid[], p_now timestamptz) returns bigint
language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp as $function$
declare
  v_queue record;
  v_lost record;
  v_missing bigint[];
  v_suspects uuid[];
  v_msg_ids bigint[];
  v_count bigint := 0;
begin
  for v_queue in
    select d.queue_name, array_agg(s.step_uuid order by s.step_uuid) as step_uuids, array_agg(s.msg_id order by s.step_uuid) as msg_ids
    from unnest(p_step_uuids) u(step_uuid)
    cross join lateral (select s.step_uuid, s.template_id, s.msg_id from tasker.steps s where s.step_uuid = u.step_uuid) s
    cross join lateral tasker._step_definitions(array[s.template_id], array[tasker._number_of(s.step_uuid)]) d
    group by d.queue_name
  loop
    v_missing := tasker._queue_missing(v_queue.queue_name, v_queue.msg_ids);
    continue when cardinality(v_missing) = 0;
    -- Looked at again under the step's lock: a step that changes at this moment has its message changed in the same transaction. No other step is
    -- locked: claims would go past it.
    v_suspects := array(
      select s.step_uuid
      from (
        select u.step_uuid from unnest(v_queue.step_uuids, v_queue.msg_ids) u(step_uuid, msg_id) where coalesce(u.msg_id, 0) = any (v_missing)
      ) u
      cross join lateral (select s.step_uuid from tasker.steps s where s.step_uuid = u.step_uuid for no key update skip locked) s);
    v_missing := tasker._queue_missing(v_queue.queue_name, array(
      select s.msg_id
      from unnest(v_suspects) u(step_uuid)
      cross join lateral (select s.msg_id from tasker.steps s where s.step_uuid = u.step_uuid) s));
    select array_agg(s.step_uuid order by s.step_uuid) as step_uuids, array_agg(s.attempt order by s.step_uuid) as attempts,
      array_agg(d.callable order by s.step_uuid) as handlers, array_agg(t.priority::integer order by s.step_uuid) as priorities,
      array_agg(t.correlation_id order by s.step_uuid) as correlation_ids,
      array_agg(tasker._visible_at(s.state, s.paused_at, s.retry_at, s.lease_expires_at, p_now) order by s.step_uuid) as visible_at
    into v_lost
    from unnest(v_suspects) u(step_uuid)
    cross join lateral (
      select s.* from tasker.steps s where s.step_uuid = u.step_uuid and s.state in ('enqueued', 'in_progress', 'waiting_for_retry')
    ) s
    cross join lateral (select t.priority, t.correlation_id from tasker.tasks t where t.task_uuid = tasker._task_of(s.step_uuid)) t
    cross join lateral tasker._step_definitions(array[s.template_id], array[tasker._number_of(s.step_uuid)]) d
    where coalesce(s.msg_id, 0) = any (v_missing);
    continue when v_lost.step_uuids is null;

    v_msg_ids := tasker._queue_send(v_queue.queue_name, v_lost.step_uuids, v_lost.attempts, v_lost.handlers, v_lost.priorities, v_lost.correlation_ids,
      v_lost.visible_at);
    update tasker.steps s
    set msg_id = m.msg_id
    from unnest(v_lost.step_uuids, v_msg_ids) m(step_uuid, msg_id)
    where s.step_uuid = m.step_uuid;
    perform pg_notify('tasker_ready_' || n.name, '') from tasker.namespaces n where n.queue_name = v_queue.queue_name;
    v_count := v_count + cardinality(v_msg_ids);
  end loop;
  return v_count;
end
$function$;
comment on function tasker._send_lost_messages(uuid[], timestamptz) is 'Sends again the message of each step that should have one and has not, and says how many.';

create function tasker._late_steps(p_step_uuids uuid[], p_now timestamptz) returns uuid[]
language plpgsql stable parallel unsafe set search_path = pg_catalog, pg_temp as $function$
begin
  -- Until one more lease has passed, a step is left to a claim, which takes it over without a detour.
  return array(
    select s.step_uuid
    from unnest(p_step_uuids) u(step_uuid)
    cross join lateral (
      select s.step_uuid from tasker.steps s
      where s.step_uuid = u.step_uuid and s.state = 'in_progress' and s.lease_expires_at + s.lease_ms * interval '1 millisecond' <= p_now
    ) s);
end
$function$;
comment on function tasker._late_steps(uuid[], timestamptz) is 'Those of the steps whose lease ended more than one lease ago.';

create function tasker._forget_answers(p_limit integer, p_now timestamptz) returns bigint
language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp as $function$
declare
  v_count bigint;
begin
  delete from tasker.finish_requests f
  where f.request_id = any (array(
    select f.request_id from tasker.finish_requests f where f.answered_at < p_now - interval '1 hour' order by f.answered_at limit p_limit));
  get diagnostics v_count = row_count;
  return v_count;
end
$function$;
comment on function tasker._forget_answers(integer, timestamptz) is 'Forgets answers to request_ids that are more than an hour old, and says how many.';

create function tasker._evaluate_resting(p_limit integer, p_now timestamptz, p_actor text) returns bigint
language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp as $function$
declare
  v_resting record;
begin
  select array_agg(r.rested_at) as rested_at, coalesce(array_agg(r.step_uuid), '{}') as step_uuids
  into v_resting
  from (select r.rested_at, r.step_uuid from tasker.resting_outcomes r order by r.rested_at, r.step_uuid limit p_limit for update skip locked) r;
  -- One whose step has been cancelled meanwhile goes with the others.
  delete from tasker.resting_outcomes r
  using unnest(v_resting.rested_at, v_resting.step_uuids) u(rested_at, step_uuid)
  where r.rested_at = u.rested_at and r.step_uuid = u.step_uuid;
  perform tasker._raise_refused(tasker._evaluate(v_resting.step_uuids, p_now, p_actor));
  return cardinality(v_resting.step_uuids);
end
$function$;
comment on function tasker._evaluate_resting(integer, timestamptz, text) is 'Evaluates outcomes that rest, the oldest first, and says how many.';

create function tasker._maintenance_health(p_now timestamptz, out ok boolean, out detail text)
language plpgsql stable parallel unsafe set search_path = pg_catalog, pg_temp as $function$
declare
  -- A background worker's pause is at most a third of it, a server's after failures half.
  v_longest constant interval := interval '1 minute';
  v_ended_at timestamptz;
  v_since timestamptz;
begin
  select max(c.walked_at) into v_ended_at from tasker.maintenance_cursors c;
  -- Before the first round there was something to maintain since the first namespace.
  v_since := coalesce(v_ended_at, (select min(n.created_at) from tasker.namespaces n), p_now);
  ok := p_now - v_since < v_longest;
  detail := case
    when v_ended_at is null then 'no round of maintenance has ended yet'
    else format('the last round of maintenance ended at %s', v_ended_at)
  end;
  if not ok then
    detail := detail || ': name this database in tasker.databases of a server with shared_preload_libraries = ''tasker'', or run tasker-server';
  end if;
end
$function$;
comment on function tasker._maintenance_health(timestamptz) is 'Whether a round of maintenance has ended within the last minute, and when the last one did.';

create function tasker.run_maintenance(batch integer default 1000) returns table (job text, processed bigint, more boolean)
language plpgsql volatile parallel unsafe security definer set search_path = pg_catalog, pg_temp as $function$
declare
  v_now timestamptz := tasker._now();
  v_actor text := tasker._actor();
  v_walked record;
  v_late uuid[];
  v_count bigint;
begin
  if batch is null or batch not between 1 and 100000 then
    perform tasker._raise('22023', format('batch must be between 1 and 100000, not %s', coalesce(batch::text, 'null')));
  end if;
  -- One at a time in this database; who comes second has nothing to do.
  if not pg_try_advisory_xact_lock(1414742859, 1) then
    return;
  end if;
  return query select 'make_missing_queues', tasker._make_missing_queues(), false;
  return query select 'make_partitions', tasker._make_partitions_ahead(v_now), false;
  v_count := tasker._start_due_tasks(batch, v_now, v_actor);
  return query select 'start_due_tasks', v_count, v_count = batch;
  v_count := tasker._start_held_tasks(batch, v_now, v_actor);
  return query select 'start_held_tasks', v_count, v_count = batch;
  v_count := tasker._evaluate_resting(batch, v_now, v_actor);
  return query select 'evaluate', v_count, v_count = batch;
  select * into v_walked from tasker._walk_live_steps(batch, v_now);
  v_late := tasker._late_steps(v_walked.step_uuids, v_now);
  perform tasker._raise_refused(tasker._end_leases(v_late, v_now, v_actor));
  v_count := cardinality(v_late);
  return query select 'end_leases', v_count, v_count > 0;
  -- Both lock tasks, in key order: one transaction does one of the two.
  v_count := case when v_count = 0 then tasker._time_out_attempts(v_walked.step_uuids, v_now, v_actor) else 0 end;
  return query select 'time_out_attempts', v_count, v_count > 0;
  v_count := tasker._time_out_tasks(v_walked.clocked_task_uuids, least(batch, 100), v_now, v_actor);
  return query select 'time_out_tasks', v_count, v_count > 0;
  v_count := tasker._send_lost_messages(v_walked.step_uuids, v_now);
  return query select 'send_lost_messages', v_count, v_count > 0;
  v_count := tasker._run_bulk_jobs(batch, v_now);
  return query select 'bulk_jobs', v_count, v_count > 0;
  perform tasker._note_event_floor();
  v_count := tasker._forget_answers(batch, v_now);
  return query select 'forget_answers', v_count, v_count = batch;
  -- Last: it may hold the strongest locks until this transaction ends.
  v_count := tasker._drop_partitions(v_now);
  return query select 'drop_partitions', v_count, v_count > 0;
end
$function$;
comment on function tasker.run_maintenance(integer) is
  'Does one bounded batch of what time must do, in this transaction, and says for each job how much it did and whether there is more; call it every second, and again '
  'at once while more. No rows: another session is at it. Errors: 22023, 40001, 55000, TK030.';
