-- Deliveries of durable events: claiming and finishing messages of the queues of events. A message is for one subscription; read_ct counts its deliveries and fences off late answers.
-- Not here: who gets which message in the first place (550).

create type tasker.claimed_domain_event as (
  namespace text,
  msg_id bigint,
  delivery integer,
  pattern text,
  event jsonb
);
comment on type tasker.claimed_domain_event is 'An event handed to a subscriber, for one of its patterns; delivery counts from 1.';

create function tasker._set_events_aside(p_queue_name text, p_msg_ids bigint[]) returns void
language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp as $function$
declare
  v_messages jsonb[];
begin
  if coalesce(cardinality(p_msg_ids), 0) = 0 then
    return;
  end if;
  execute format('select array_agg(m.message) from pgmq.%I m where m.msg_id = any ($1)', 'q_' || p_queue_name) into v_messages using p_msg_ids;
  perform from tasker.domain_events d
  where d.event_uuid = any (array(select (m.message ->> 'event_uuid')::uuid from unnest(v_messages) m(message)))
  order by d.event_uuid for update;
  update tasker.domain_events d
  set set_aside = coalesce(d.set_aside, '[]') || m.subscriptions
  from (
    select (m.message ->> 'event_uuid')::uuid as event_uuid,
      jsonb_agg(jsonb_build_object('subscriber', m.message -> 'subscriber', 'pattern', m.message -> 'pattern', 'error', m.message -> 'error')) as subscriptions
    from unnest(v_messages) m(message)
    group by 1
  ) m
  where d.event_uuid = m.event_uuid;
  perform pgmq.archive(p_queue_name, p_msg_ids);
end
$function$;
comment on function tasker._set_events_aside(text, bigint[]) is
  'Moves messages whose deliveries are used up to the archive of their queue, and notes with their events for which subscription, and what it failed of.';

create function tasker._event_queues(p_namespaces text[]) returns table (namespace text, queue_name text)
language sql stable parallel unsafe set search_path = pg_catalog, pg_temp as $function$
  -- One that is missing maintenance makes again.
  select n.name, n.events_queue_name
  from (select distinct u.name from unnest(p_namespaces) u(name)) u
  cross join lateral (select n.name, n.events_queue_name from tasker.namespaces n where n.name = u.name) n
  where to_regclass('pgmq.' || quote_ident('q_' || n.events_queue_name)) is not null
  order by n.name
$function$;
comment on function tasker._event_queues(text[]) is 'The queues of events of those of the namespaces that have one.';

create function tasker.claim_domain_events(
  worker_id text, subscriber text, namespaces text[], patterns text[], max_events integer default 10, lease interval default '30 seconds')
returns setof tasker.claimed_domain_event
language plpgsql volatile parallel unsafe security definer set search_path = pg_catalog, pg_temp as $function$
declare
  v_now timestamptz := tasker._now();
  v_left integer := max_events;
  v_queue record;
  v_taken record;
begin
  perform tasker._require_call(claim_domain_events.worker_id, 'max_events', claim_domain_events.max_events, claim_domain_events.lease);
  perform tasker._require_subscriptions(claim_domain_events.subscriber, claim_domain_events.namespaces, claim_domain_events.patterns);
  perform tasker._raise_refused(tasker._namespace_problem(claim_domain_events.namespaces, 'work'));
  for v_queue in select q.* from tasker._event_queues(claim_domain_events.namespaces) q loop
    exit when v_left <= 0;
    execute format(
      'with met as (
         select m.msg_id
         from unnest($2) p(pattern)
         cross join lateral (
           select m.msg_id, m.vt from pgmq.%1$I m
           where m.message ->> ''subscriber'' = $1 and m.message ->> ''pattern'' = p.pattern and m.vt <= $3
           order by m.vt limit $4 for update skip locked
         ) m
         order by m.vt
         limit $4
       ), taken as (
         update pgmq.%1$I m set vt = $5, read_ct = m.read_ct + 1
         from met where m.msg_id = met.msg_id
         returning m.msg_id, m.read_ct, m.message
       )
       select coalesce(array_agg(t.msg_id), ''{}'') as msg_ids, coalesce(array_agg(t.read_ct), ''{}'') as deliveries, coalesce(array_agg(t.message), ''{}'') as messages,
         coalesce(array_agg(t.msg_id) filter (where tasker._redelivery_delay_ms(t.read_ct - 1) is null), ''{}'') as spent
       from taken t', 'q_' || v_queue.queue_name)
    into v_taken
    using claim_domain_events.subscriber, array(select distinct u.pattern from unnest(claim_domain_events.patterns) u(pattern)), v_now, v_left,
      v_now + claim_domain_events.lease;
    -- The last delivery that there was ended with its lease.
    perform tasker._set_events_aside(v_queue.queue_name, v_taken.spent);
    return query
      select v_queue.namespace, t.msg_id, t.delivery, t.message ->> 'pattern', t.message - array['subscriber', 'pattern', 'error']
      from unnest(v_taken.msg_ids, v_taken.deliveries, v_taken.messages) t(msg_id, delivery, message)
      where t.msg_id <> all (v_taken.spent)
      order by t.msg_id;
    v_left := v_left - cardinality(v_taken.msg_ids);
  end loop;
end
$function$;
comment on function tasker.claim_domain_events(text, text, text[], text[], integer, interval) is
  'Hands out up to max_events durable events of the namespaces, for the subscriptions that the subscriber has by these patterns, the oldest first; each comes again when the lease ends before '
  'finish_domain_events. Never waits for another transaction. Errors: 22023, TK022.';

create function tasker.finish_domain_events(worker_id text, deliveries jsonb) returns table (namespace text, msg_id bigint, verdict text)
language plpgsql volatile parallel unsafe security definer set search_path = pg_catalog, pg_temp as $function$
declare
  v_now timestamptz := tasker._now();
  v_queue record;
  v_held bigint[];
begin
  perform tasker._require_worker_id(finish_domain_events.worker_id);
  if jsonb_typeof(finish_domain_events.deliveries) is distinct from 'array' or exists (
    select from jsonb_array_elements(finish_domain_events.deliveries) d(value)
    where not coalesce(jsonb_typeof(d.value) = 'object' and jsonb_typeof(d.value -> 'namespace') = 'string' and d.value ->> 'msg_id' ~ '^[0-9]{1,18}$'
      and d.value ->> 'delivery' ~ '^[0-9]{1,9}$' and d.value ->> 'status' in ('done', 'fail', 'release'), false)
  ) then
    perform tasker._raise('22023', 'deliveries must be a list of {"namespace", "msg_id", "delivery", "status": "done" | "fail" | "release", "error"}', null,
      'Give the first three as claimed.');
  end if;
  perform tasker._require_batch('the number of deliveries', jsonb_array_length(finish_domain_events.deliveries));

  for v_queue in
    select q.namespace, q.queue_name, d.msg_ids, d.deliveries, d.statuses, d.errors
    from (
      select d.value ->> 'namespace' as namespace, array_agg((d.value ->> 'msg_id')::bigint) as msg_ids, array_agg((d.value ->> 'delivery')::integer) as deliveries,
        array_agg(d.value ->> 'status') as statuses, array_agg(left(d.value ->> 'error', 1000)) as errors
      from jsonb_array_elements(finish_domain_events.deliveries) d(value)
      group by 1
    ) d
    cross join lateral tasker._event_queues(array[d.namespace]) q
    where tasker._may(d.namespace, 'work')
    order by q.namespace
  loop
    execute format('select array(
        select m.msg_id from pgmq.%I m join unnest($1, $2) u(msg_id, delivery) on u.msg_id = m.msg_id and u.delivery = m.read_ct order by m.msg_id for update of m)',
      'q_' || v_queue.queue_name)
    into v_held using v_queue.msg_ids, v_queue.deliveries;
    execute format('delete from pgmq.%I m using unnest($1, $2) u(msg_id, status) where m.msg_id = u.msg_id and m.msg_id = any ($3) and u.status = ''done''',
      'q_' || v_queue.queue_name)
    using v_queue.msg_ids, v_queue.statuses, v_held;
    execute format(
      'update pgmq.%I m
       set vt = case when u.status = ''release'' then $5 else $5 + coalesce(tasker._redelivery_delay_ms(m.read_ct), 0) * interval ''1 millisecond'' end,
         message = case when u.status = ''release'' then m.message else m.message || jsonb_build_object(''error'',
           jsonb_build_object(''message'', coalesce(u.error, ''the subscriber gave no error''), ''worker_id'', $6, ''at'', $5, ''delivery'', m.read_ct)) end
       from unnest($1, $2, $3) u(msg_id, status, error)
       where m.msg_id = u.msg_id and m.msg_id = any ($4) and u.status <> ''done''', 'q_' || v_queue.queue_name)
    using v_queue.msg_ids, v_queue.statuses, v_queue.errors, v_held, v_now, finish_domain_events.worker_id;
    perform tasker._set_events_aside(v_queue.queue_name, array(
      select u.msg_id from unnest(v_queue.msg_ids, v_queue.deliveries, v_queue.statuses) u(msg_id, delivery, status)
      where u.msg_id = any (v_held) and u.status = 'fail' and tasker._redelivery_delay_ms(u.delivery) is null));
    return query
      select v_queue.namespace, u.msg_id, case when u.msg_id = any (v_held) then 'accepted' else 'lost' end from unnest(v_queue.msg_ids) u(msg_id);
  end loop;

  -- A queue that is gone, or closed to the caller, holds nothing of it.
  return query
    select d.value ->> 'namespace', (d.value ->> 'msg_id')::bigint, 'lost'
    from jsonb_array_elements(finish_domain_events.deliveries) d(value)
    where not exists (select from tasker._event_queues(array[d.value ->> 'namespace'])) or not tasker._may(d.value ->> 'namespace', 'work');
end
$function$;
comment on function tasker.finish_domain_events(text, jsonb) is
  'Says what became of deliveries {namespace, msg_id, delivery, status: done | fail | release, error}: done ones are over, failed ones come again after a delay, and after ten deliveries are set aside; released '
  'ones come again at once. The verdict is accepted, or lost for one that was handed out again meanwhile. Errors: 22023, TK022.';
