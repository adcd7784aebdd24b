-- What time must do: tasks whose run_at has come, messages that were lost, leases that ended where no claim met them. Each job does one bounded batch a call.
-- Not here: which jobs there are, which of them is due, and who runs them (709).

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
  for v_namespace in
    select n.name from tasker.namespaces n where to_regclass('pgmq.' || quote_ident('q_' || n.events_queue_name)) is null and n.events_queue_name is not null order by n.name
  loop
    perform tasker._make_events_queue(v_namespace.name);
    v_count := v_count + 1;
  end loop;
  return v_count;
end
$function$;
comment on function tasker._make_missing_queues() is 'Makes the queues that namespaces should have and have not, and says how many.';

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
  v_beginning constant uuid := '00000000-0000-0000-0000-000000000000';
  v_after uuid;
  v_next uuid;
  v_live uuid[];
  v_last uuid;
  v_count integer;
begin
  v_after := coalesce((select c.after from tasker.maintenance_cursors c where c.job = 'live_steps'), v_beginning);
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
        and s.state in ('enqueued', 'in_progress', 'waiting_for_retry') and not (s.state = 'in_progress' and s.lease_expires_at is null)
      order by s.step_uuid
    ) s
    limit p_limit);
  v_next := case
    when cardinality(step_uuids) = p_limit then step_uuids[p_limit]
    when v_count = v_tasks then tasker._last_step_uuid(v_last)
    else v_beginning end;
  -- A round over few tasks ends where it began, and writes nothing.
  if v_next <> v_after then
    insert into tasker.maintenance_cursors as c (job, after) values ('live_steps', v_next)
    on conflict on constraint maintenance_cursors_pkey do update set after = excluded.after;
  end if;
end
$function$;
comment on function tasker._walk_live_steps(integer, timestamptz) is
  'The next steps, in key order and round and round, that should have a message: at most p_limit of them, and of at most five times as many tasks. And those tasks among them '
  'that have not ended and whose template sets a limit.';

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

create function tasker._steps_by_queue(p_step_uuids uuid[]) returns table (queue_name text, step_uuids uuid[], msg_ids bigint[])
language plpgsql stable parallel unsafe set search_path = pg_catalog, pg_temp as $function$
begin
  return query
    select d.queue_name, array_agg(s.step_uuid order by s.step_uuid), array_agg(s.msg_id order by s.step_uuid)
    from unnest(p_step_uuids) u(step_uuid)
    cross join lateral (select s.step_uuid, s.template_id, s.msg_id from tasker.steps s where s.step_uuid = u.step_uuid) s
    cross join lateral tasker._step_definitions(array[s.template_id], array[tasker._number_of(s.step_uuid)]) d
    group by d.queue_name;
end
$function$;
comment on function tasker._steps_by_queue(uuid[]) is 'Steps and the messages they know of, for each queue.';

create function tasker._steps_without_message(p_step_uuids uuid[]) returns uuid[]
language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp as $function$
declare
  v_queue record;
  v_missing bigint[];
  v_found uuid[] := '{}';
begin
  for v_queue in select q.* from tasker._steps_by_queue(p_step_uuids) q loop
    -- Another job makes the queue; its messages are missed when it is there.
    continue when to_regclass(format('pgmq.%I', 'q_' || v_queue.queue_name)) is null;
    v_missing := tasker._queue_missing(v_queue.queue_name, v_queue.msg_ids);
    continue when cardinality(v_missing) = 0;
    v_found := v_found || array(
      select u.step_uuid from unnest(v_queue.step_uuids, v_queue.msg_ids) u(step_uuid, msg_id) where coalesce(u.msg_id, 0) = any (v_missing));
  end loop;
  return v_found;
end
$function$;
comment on function tasker._steps_without_message(uuid[]) is 'Those of the steps whose message is not in their queue.';

create function tasker._find_late_work(p_limit integer, p_now timestamptz) returns bigint
language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp as $function$
declare
  v_walked record;
  v_count bigint;
begin
  select * into v_walked from tasker._walk_live_steps(p_limit, p_now);
  insert into tasker.maintenance_found (job, key)
  select f.job, f.key
  from (
    select 'end_leases' as job, u.key from unnest(tasker._late_steps(v_walked.step_uuids, p_now)) u(key)
    union all select 'time_out_attempts', u.key from unnest((tasker._overdue_steps(v_walked.step_uuids, p_now)).step_uuids) u(key)
    union all select 'time_out_tasks', u.key from unnest((tasker._stale_tasks(v_walked.clocked_task_uuids, p_now)).task_uuids) u(key)
    union all select 'send_lost_messages', u.key from unnest(tasker._steps_without_message(v_walked.step_uuids)) u(key)
  ) f
  where not exists (select from tasker.maintenance_found n where n.job = f.job and n.key = f.key);
  get diagnostics v_count = row_count;
  return v_count;
end
$function$;
comment on function tasker._find_late_work(integer, timestamptz) is
  'Walks on, notes for the jobs that come after it which steps and tasks are late, hang or miss their message, and says how many. It locks none of them: the jobs look again.';

create function tasker._take_found(p_job text, p_limit integer) returns uuid[]
language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp as $function$
declare
  v_taken uuid[];
begin
  with taken as (
    delete from tasker.maintenance_found f
    where f.job = p_job and f.key = any (array(select n.key from tasker.maintenance_found n where n.job = p_job order by n.key limit p_limit))
    returning f.key
  )
  select coalesce(array_agg(distinct t.key order by t.key), '{}') into v_taken from taken t;
  return v_taken;
end
$function$;
comment on function tasker._take_found(text, integer) is 'Takes what the walk has noted for a job, in key order. What the job then finds busy the walk meets again.';

create function tasker._end_found_leases(p_limit integer, p_now timestamptz, p_actor text) returns bigint
language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp as $function$
declare
  v_late uuid[] := tasker._take_found('end_leases', p_limit);
begin
  perform tasker._raise_refused(tasker._end_leases(v_late, p_now, p_actor));
  return cardinality(v_late);
end
$function$;
comment on function tasker._end_found_leases(integer, timestamptz, text) is 'Ends the leases that the walk found ended and nobody took over, and says how many were looked at.';

create function tasker._cancel_found_instances(p_now timestamptz, p_actor text) returns bigint
language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp as $function$
declare
  v_step_uuid uuid;
  v_taken uuid[] := tasker._take_found('cancel_instances', 1);
begin
  -- A task at a time: all its steps are locked.
  foreach v_step_uuid in array v_taken loop
    perform tasker._lock_whole_tasks(array[tasker._task_of(v_step_uuid)]);
    perform tasker._raise_refused(tasker._cancel_instances(v_step_uuid, p_now, p_actor));
  end loop;
  return cardinality(v_taken);
end
$function$;
comment on function tasker._cancel_found_instances(timestamptz, text) is 'Cancels the instances that have not ended of a step that failed with one of them, and says of how many steps.';

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
  for v_queue in select q.* from tasker._steps_by_queue(p_step_uuids) q loop
    -- Looked at again under the step's lock: a step that changes at this moment has its message changed in the same transaction. No other step is
    -- locked: claims would go past it.
    v_suspects := array(
      select s.step_uuid
      from unnest(v_queue.step_uuids) u(step_uuid)
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
      select s.* from tasker.steps s
      where s.step_uuid = u.step_uuid and s.state in ('enqueued', 'in_progress', 'waiting_for_retry') and not (s.state = 'in_progress' and s.lease_expires_at is null)
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
  select array_agg(r.rested_at) as rested_at, coalesce(array_agg(r.step_uuid), '{}') as step_uuids,
    jsonb_object_agg(r.step_uuid, r.events) filter (where r.events is not null) as events
  into v_resting
  from (select r.rested_at, r.step_uuid, r.events from tasker.resting_outcomes r order by r.rested_at, r.step_uuid limit p_limit for update skip locked) r;
  -- One whose step has been cancelled meanwhile goes with the others.
  delete from tasker.resting_outcomes r
  using unnest(v_resting.rested_at, v_resting.step_uuids) u(rested_at, step_uuid)
  where r.rested_at = u.rested_at and r.step_uuid = u.step_uuid;
  perform tasker._raise_refused(tasker._evaluate_outcomes(v_resting.step_uuids, v_resting.events, p_now, p_actor));
  return cardinality(v_resting.step_uuids);
end
$function$;
comment on function tasker._evaluate_resting(integer, timestamptz, text) is 'Evaluates outcomes that rest, the oldest first, and says how many.';
