-- Claiming work from the namespaces' queues. A message is only a hint: the step's row decides. A claim never waits for a lock and hides nothing that it
-- doesn't hand out. Not here: handing over inside finish_steps (410, 520).

create function tasker._meet_messages(p_queue_name text, p_limit integer, p_handlers text[], p_now timestamptz) returns tasker._candidate[]
language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp as $function$
begin
  return (
    select array_agg(row(m.msg_id, m.step_uuid, s.template_id, s.state, s.attempt, s.attempts_used, s.error, s.worker_id, s.lease_expires_at, s.retry_at,
      s.msg_id,
      case
        when m.step_uuid is null then 'foreign'
        when s.step_uuid is null then 'unlocked'
        when s.msg_id is distinct from m.msg_id then 'orphan'
        when s.state = 'enqueued' then 'claim'
        when s.state = 'waiting_for_retry' then case when s.retry_at <= p_now then 'retry' else 'hide' end
        when s.state = 'in_progress' then case when s.lease_expires_at <= p_now then 'expired' else 'hide' end
        else 'orphan'
      end, null)::tasker._candidate order by m.ordinal)
    from tasker._queue_read(p_queue_name, p_limit, p_handlers, p_now) m
    left join lateral (
      select s.step_uuid, s.template_id, s.state, s.attempt, s.attempts_used, s.error, s.worker_id, s.lease_expires_at, s.retry_at, s.msg_id
      from tasker.steps s
      where s.step_uuid = m.step_uuid
      for no key update skip locked
    ) s on true
  );
end
$function$;
comment on function tasker._meet_messages(text, integer, text[], timestamptz) is
  'Locks visible messages and their steps without waiting, and says what each message calls for.';

create function tasker._judge_expired(p_candidates tasker._candidate[], p_now timestamptz) returns tasker._candidate[]
language plpgsql stable parallel unsafe set search_path = pg_catalog, pg_temp as $function$
begin
  -- The first crash in a row is retried at once; a later one waits for its backoff; without attempts left the step fails.
  return (
    select array_agg(row(c.msg_id, c.step_uuid, c.template_id, c.state, c.attempt, c.attempts_used, e.error, c.worker_id, c.lease_expires_at, c.retry_at,
      c.step_msg_id,
      case
        when c.decision = 'unlocked' and not exists (select from tasker.steps s where s.step_uuid = c.step_uuid) then 'orphan'
        when c.decision <> 'expired' then c.decision
        when d.delay_ms is null then 'settle'
        when c.error ->> 'type' = 'lease_expired' and d.delay_ms > 0 then 'settle'
        else 'take_over'
      end, d.delay_ms)::tasker._candidate order by c.ordinal)
    from unnest(p_candidates) with ordinality c(msg_id, step_uuid, template_id, state, attempt, attempts_used, error, worker_id, lease_expires_at, retry_at,
      step_msg_id, decision, delay_ms, ordinal)
    cross join lateral (
      select case c.decision when 'expired'
        then tasker._retry_delay_ms(c.template_id, tasker._number_of(c.step_uuid), c.attempts_used, true, null, random()) end as delay_ms
    ) d
    cross join lateral (
      select case c.decision when 'expired' then tasker._lease_expired_error(c.worker_id, c.attempt, c.lease_expires_at) else c.error end as error
    ) e
  );
end
$function$;
comment on function tasker._judge_expired(tasker._candidate[], timestamptz) is 'Decides what becomes of steps whose lease has ended.';

create function tasker._lease_expired_error(p_worker_id text, p_attempt integer, p_lease_expires_at timestamptz) returns jsonb
language plpgsql stable parallel safe set search_path = pg_catalog, pg_temp as $function$
begin
  return jsonb_build_object('type', 'lease_expired', 'retryable', true,
    'message', format('worker %s held attempt %s until its lease ended', p_worker_id, p_attempt),
    'detail', jsonb_build_object('worker_id', p_worker_id, 'attempt', p_attempt, 'lease_expires_at', p_lease_expires_at));
end
$function$;
comment on function tasker._lease_expired_error(text, integer, timestamptz) is 'The error of an attempt whose lease ended.';

create function tasker._without_busy_tasks(p_candidates tasker._candidate[]) returns tasker._candidate[]
language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp as $function$
declare
  v_locked uuid[];
begin
  if not exists (select from unnest(p_candidates) c where c.decision in ('retry', 'settle')) then
    return p_candidates;
  end if;
  -- Retries and failures change their task's counters: its row is taken without waiting, or the step is left for the next claim.
  v_locked := array(
    select t.task_uuid
    from (
      select distinct tasker._task_of(c.step_uuid) as task_uuid from unnest(p_candidates) c where c.decision in ('retry', 'settle') order by 1
    ) u
    cross join lateral (select t.task_uuid from tasker.tasks t where t.task_uuid = u.task_uuid for no key update skip locked) t);
  return array(
    select c
    from unnest(p_candidates) c
    where c.decision not in ('retry', 'settle') or tasker._task_of(c.step_uuid) = any (v_locked));
end
$function$;
comment on function tasker._without_busy_tasks(tasker._candidate[]) is 'Drops retries and failures whose task is locked by another transaction.';

create function tasker._take(p_candidates tasker._candidate[], p_worker_id text, p_lease interval, p_now timestamptz) returns uuid[]
language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp as $function$
declare
  v_taken tasker._candidate[];
  v_deltas tasker._task_delta[];
begin
  v_taken := array(select c from unnest(p_candidates) c where c.decision in ('claim', 'retry', 'take_over'));
  if cardinality(v_taken) = 0 then
    return '{}';
  end if;
  update tasker.steps s
  set state = 'in_progress',
    attempt = s.attempt + 1,
    attempts_used = s.attempts_used + 1,
    worker_id = p_worker_id,
    started_at = p_now,
    retry_at = null,
    error = c.error,
    lease_ms = extract(epoch from p_lease) * 1000,
    lease_expires_at = p_now + p_lease
  from unnest(v_taken) c
  where s.step_uuid = c.step_uuid;
  insert into tasker.step_transitions (step_uuid, from_state, to_state, event, passed_through, at, attempt, actor, metadata)
  select c.step_uuid, c.state, 'in_progress', 'start', case c.decision when 'retry' then array['retry:enqueued'] end, p_now, c.attempt + 1, p_worker_id,
    case c.decision when 'take_over' then c.error end
  from unnest(v_taken) c;

  select array_agg(row(k.task_uuid, k.retries, -k.retries, 0, 'retry_ready')::tasker._task_delta) into v_deltas
  from (
    select tasker._task_of(c.step_uuid) as task_uuid, count(*)::integer as retries from unnest(v_taken) c where c.decision = 'retry' group by 1
  ) k;
  if v_deltas is not null then
    perform tasker._advance_tasks(v_deltas, p_now, p_worker_id);
  end if;
  return array(select c.step_uuid from unnest(v_taken) c);
end
$function$;
comment on function tasker._take(tasker._candidate[], text, interval, timestamptz) is 'Puts the claimable candidates under the worker''s lease and gives their keys.';

create function tasker._claim_from_queue(p_queue_name text, p_worker_id text, p_limit integer, p_lease interval, p_handlers text[], p_now timestamptz)
returns uuid[]
language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp as $function$
declare
  v_candidates tasker._candidate[] := tasker._meet_messages(p_queue_name, p_limit, p_handlers, p_now);
  v_taken uuid[];
  v_messages record;
begin
  if v_candidates is null then
    return '{}';
  end if;
  if exists (select from unnest(v_candidates) c where c.decision in ('expired', 'retry', 'unlocked')) then
    v_candidates := tasker._without_busy_tasks(tasker._judge_expired(v_candidates, p_now));
  end if;
  v_taken := tasker._take(v_candidates, p_worker_id, p_lease, p_now);
  perform tasker._settle(
    array(
      select tasker._fail_settlement(c.step_uuid, c.template_id, c.attempt, c.attempts_used, c.msg_id, c.error, c.delay_ms, false, p_now)
      from unnest(v_candidates) c
      where c.decision = 'settle'),
    p_now, p_worker_id, null, 0, null, null, null);

  select array_agg(c.msg_id) filter (where c.decision in ('claim', 'retry', 'take_over', 'hide')) as hidden,
    array_agg(case c.decision when 'hide' then coalesce(c.retry_at, c.lease_expires_at) else p_now + p_lease end)
      filter (where c.decision in ('claim', 'retry', 'take_over', 'hide')) as visible_at,
    array_agg(c.msg_id) filter (where c.decision = 'orphan') as orphans,
    array_agg(c.msg_id) filter (where c.decision = 'foreign') as strangers
  into v_messages
  from unnest(v_candidates) c;
  if v_messages.hidden is not null then
    perform tasker._queue_set_visible_at(p_queue_name, v_messages.hidden, v_messages.visible_at);
  end if;
  if v_messages.orphans is not null then
    perform tasker._queue_delete(p_queue_name, v_messages.orphans);
  end if;
  if v_messages.strangers is not null then
    -- Not ours: kept in the queue's archive, where whoever sent it can find it.
    perform pgmq.archive(p_queue_name, v_messages.strangers);
  end if;
  return v_taken;
end
$function$;
comment on function tasker._claim_from_queue(text, text, integer, interval, text[], timestamptz) is
  'Claims up to p_limit steps from one queue, takes over or fails those whose lease has ended, and clears away messages that mean nothing any more.';

create function tasker._claim(p_worker_id text, p_namespaces text[], p_limit integer, p_lease interval, p_handlers text[], p_now timestamptz) returns uuid[]
language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp as $function$
declare
  v_queue record;
  v_claimed uuid[] := '{}';
begin
  -- In random order, so that a worker which is always full serves every namespace.
  for v_queue in
    select n.queue_name
    from (select distinct u.name from unnest(p_namespaces) u(name)) u
    cross join lateral (select n.queue_name from tasker.namespaces n where n.name = u.name and n.paused_at is null) n
    order by random()
  loop
    exit when cardinality(v_claimed) >= p_limit;
    perform tasker._require_queue(v_queue.queue_name);
    v_claimed := v_claimed || tasker._claim_from_queue(v_queue.queue_name, p_worker_id, p_limit - cardinality(v_claimed), p_lease, p_handlers, p_now);
  end loop;
  return v_claimed;
end
$function$;
comment on function tasker._claim(text, text[], integer, interval, text[], timestamptz) is 'Claims up to p_limit steps from the queues of several namespaces.';

create function tasker.claim_steps(
  worker_id text, namespaces text[], max_steps integer default 1, lease interval default '30 seconds', handlers text[] default null)
returns setof tasker.claimed_step
language plpgsql volatile parallel unsafe security definer set search_path = pg_catalog, pg_temp as $function$
declare
  v_claimed uuid[];
begin
  perform tasker._require_worker_id(claim_steps.worker_id);
  perform tasker._require_batch('max_steps', claim_steps.max_steps);
  perform tasker._require_lease(claim_steps.lease);
  v_claimed := tasker._claim(claim_steps.worker_id, claim_steps.namespaces, claim_steps.max_steps, claim_steps.lease, claim_steps.handlers, tasker._now());
  if cardinality(v_claimed) > 0 then
    return query select * from tasker._claimed_rows(v_claimed);
  end if;
end
$function$;
comment on function tasker.claim_steps(text, text[], integer, interval, text[]) is
  'Claims up to max_steps ready steps of the namespaces, by priority, for the named handlers (all without), each under a lease; no rows: nothing is ready. '
  'Never waits for another transaction. Errors: 22023, TK022, TK030.';

create function tasker.work_due_in_ms(namespaces text[], handlers text[] default null) returns bigint
language plpgsql volatile parallel unsafe security definer set search_path = pg_catalog, pg_temp as $function$
declare
  v_now timestamptz := tasker._now();
  v_queue record;
  v_due_at timestamptz;
begin
  for v_queue in
    select n.queue_name
    from (select distinct u.name from unnest(work_due_in_ms.namespaces) u(name)) u
    cross join lateral (select n.queue_name from tasker.namespaces n where n.name = u.name and n.paused_at is null) n
  loop
    perform tasker._require_queue(v_queue.queue_name);
    v_due_at := least(v_due_at, tasker._queue_due_at(v_queue.queue_name, work_due_in_ms.handlers));
    exit when v_due_at <= v_now;
  end loop;
  -- greatest() passes over nulls: without a message there is no time to wait for.
  return case when v_due_at is not null then ceil(extract(epoch from greatest(v_due_at - v_now, interval '0')) * 1000) end;
end
$function$;
comment on function tasker.work_due_in_ms(text[], text[]) is
  'Milliseconds until a message for the handlers is visible in one of the namespaces: 0 for now, null when nothing waits. For the sleep between claims. Errors: TK030.';
