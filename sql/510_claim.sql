-- Claiming, as workers call it. Not here: which messages and steps are taken (engine/claim.rs).

create function tasker.claim_steps(
  worker_id text, namespaces text[], max_steps integer default 1, lease interval default '30 seconds', handlers text[] default null)
returns setof tasker.claimed_step
language plpgsql volatile parallel unsafe security definer set search_path = pg_catalog, pg_temp as $function$
declare
  v_claimed tasker._finished;
begin
  -- The checks say themselves what is wrong; a call that is well asks none of them.
  if not coalesce(length(claim_steps.worker_id) between 1 and 200 and claim_steps.max_steps between 0 and tasker._max_batch()
    and claim_steps.lease between interval '1 second' and interval '1 day', false) then
    perform tasker._require_call(claim_steps.worker_id, 'max_steps', claim_steps.max_steps, claim_steps.lease);
  end if;
  v_claimed := tasker._claim(claim_steps.worker_id, coalesce(claim_steps.namespaces, '{}'), claim_steps.max_steps,
    (extract(epoch from claim_steps.lease) * 1000)::bigint, claim_steps.handlers, tasker._now());
  if v_claimed.refused is not null then
    perform tasker._raise_refused(v_claimed.refused);
  end if;
  return query select c.* from unnest(v_claimed.claimed) c;
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
  perform tasker._raise_refused(tasker._namespace_problem(work_due_in_ms.namespaces, 'work'));
  for v_queue in
    select n.queue_name
    from (select distinct u.name from unnest(work_due_in_ms.namespaces) u(name)) u
    cross join lateral (select n.queue_name from tasker.namespaces n where n.name = u.name and n.paused_at is null) n
  loop
    perform tasker._raise_refused(tasker._queue_problem(v_queue.queue_name));
    v_due_at := least(v_due_at, tasker._queue_due_at(v_queue.queue_name, work_due_in_ms.handlers));
    exit when v_due_at <= v_now;
  end loop;
  -- greatest() passes over nulls: without a message there is no time to wait for.
  return case when v_due_at is not null then ceil(extract(epoch from greatest(v_due_at - v_now, interval '0')) * 1000) end;
end
$function$;
comment on function tasker.work_due_in_ms(text[], text[]) is
  'Milliseconds until a message for the handlers is visible in one of the namespaces: 0 for now, null when nothing waits. For the sleep between claims. Errors: TK030.';
