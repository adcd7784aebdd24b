-- Domain events as operators see them: what was published, who subscribes and what waits for them; and what is forgotten. Not here: publishing (550) and deliveries (555).

create type tasker.domain_event as (
  event_uuid uuid,
  name text,
  namespace text,
  template_name text,
  template_version text,
  task_uuid uuid,
  step_uuid uuid,
  step_name text,
  attempt integer,
  outcome text,
  delivery_mode text,
  correlation_id uuid,
  published_at timestamptz,
  payload jsonb,
  subscriptions bigint,
  problem text,
  set_aside jsonb
);
comment on type tasker.domain_event is
  'An event as list_domain_events shows it: how many subscriptions it was sent to, why it was not published, and which subscriptions did not take it in ten deliveries.';

create type tasker.event_subscription as (
  namespace text,
  subscriber text,
  pattern text,
  waiting bigint,
  delivered_again bigint,
  oldest_seconds double precision,
  created_by text,
  created_at timestamptz
);
comment on type tasker.event_subscription is
  'A subscription as list_subscriptions shows it: how many events wait, how many of those have been delivered before, and since when the oldest does. Of more than 10,000 only so many are counted.';

create function tasker.list_domain_events(
  namespace text default null, name text default null, task_uuid uuid default null, after uuid default null, "limit" integer default 50)
returns setof tasker.domain_event
language plpgsql stable parallel unsafe security definer set search_path = pg_catalog, pg_temp as $function$
declare
  v_namespace_ids integer[] := tasker._shown_namespaces(list_domain_events.namespace);
begin
  perform tasker._require_limit(list_domain_events."limit", 'after => the last event_uuid');
  if list_domain_events.name is not null and not tasker._is_event_pattern(list_domain_events.name) then
    perform tasker._raise('22023', format('name can''t be %s', list_domain_events.name), null, 'Give the name of an event, or a pattern: order.*');
  end if;
  return query
    select d.event_uuid, d.name, s.namespace, s.template_name, s.template_version, tasker._task_of(d.step_uuid), d.step_uuid, s.name, d.attempt, d.outcome,
      d.delivery_mode, d.correlation_id, d.published_at, d.payload, d.subscriptions, d.problem, d.set_aside
    from (
      select d.*
      from tasker.domain_events d
      where (list_domain_events.after is null or d.event_uuid < list_domain_events.after)
        and (v_namespace_ids is null or d.namespace_id = any (v_namespace_ids))
        and (list_domain_events.task_uuid is null
          or d.step_uuid >= list_domain_events.task_uuid and d.step_uuid <= tasker._last_step_uuid(list_domain_events.task_uuid))
        and (list_domain_events.name is null or tasker._event_matches(list_domain_events.name, d.name))
      order by d.event_uuid desc
      limit list_domain_events."limit"
    ) d
    cross join lateral tasker._step_definitions(array[d.template_id], array[tasker._number_of(d.step_uuid)]) s
    order by d.event_uuid desc;
end
$function$;
comment on function tasker.list_domain_events(text, text, uuid, uuid, integer) is
  'Lists the domain events that steps published, newest first, with what was not published or not taken; name may be a pattern, after is the last event_uuid of the page before, limit 1 to 1000. '
  'Errors: 22023.';

create function tasker.list_subscriptions(namespace text default null) returns setof tasker.event_subscription
language plpgsql stable parallel unsafe security definer set search_path = pg_catalog, pg_temp as $function$
declare
  v_now timestamptz := tasker._now();
  v_row tasker.event_subscription;
  v_queue_name text;
begin
  for v_row in
    select s.namespace, s.subscriber, s.pattern, 0, 0, null, s.created_by, s.created_at
    from tasker.event_subscriptions s
    where (list_subscriptions.namespace is null or s.namespace = list_subscriptions.namespace) and tasker._may(s.namespace, 'read')
    order by s.namespace, s.subscriber, s.pattern
  loop
    select q.queue_name into v_queue_name from tasker._event_queues(array[v_row.namespace]) q;
    if found then
      execute format(
        'select count(*), count(*) filter (where m.read_ct > 0), extract(epoch from $3 - min(m.enqueued_at))::double precision
         from (
           select m.read_ct, m.enqueued_at from pgmq.%I m
           where m.message ->> ''subscriber'' = $1 and m.message ->> ''pattern'' = $2
           order by m.vt limit 10000
         ) m', 'q_' || v_queue_name)
      into v_row.waiting, v_row.delivered_again, v_row.oldest_seconds
      using v_row.subscriber, v_row.pattern, v_now;
    end if;
    return next v_row;
  end loop;
end
$function$;
comment on function tasker.list_subscriptions(text) is 'Lists the subscriptions to durable events of a namespace, or of all, with what waits for each.';

create function tasker.unsubscribe_domain_events(subscriber text, namespace text, pattern text) returns boolean
language plpgsql volatile parallel unsafe security definer set search_path = pg_catalog, pg_temp as $function$
declare
  v_is_gone boolean;
  v_queue_name text;
begin
  perform tasker._require_may(unsubscribe_domain_events.namespace, 'operate');
  delete from tasker.event_subscriptions s
  where s.namespace = unsubscribe_domain_events.namespace and s.subscriber = unsubscribe_domain_events.subscriber and s.pattern = unsubscribe_domain_events.pattern;
  v_is_gone := found;
  select q.queue_name into v_queue_name from tasker._event_queues(array[unsubscribe_domain_events.namespace]) q;
  if found then
    execute format('delete from pgmq.%I m where m.message ->> ''subscriber'' = $1 and m.message ->> ''pattern'' = $2', 'q_' || v_queue_name)
    using unsubscribe_domain_events.subscriber, unsubscribe_domain_events.pattern;
  end if;
  return v_is_gone;
end
$function$;
comment on function tasker.unsubscribe_domain_events(text, text, text) is
  'Ends a subscription, with what waits for it. True when there was one; a worker that has it makes it anew when it starts.';

create function tasker.redeliver_domain_event(event_uuid uuid) returns bigint
language plpgsql volatile parallel unsafe security definer set search_path = pg_catalog, pg_temp as $function$
declare
  v_namespace text;
  v_queue_name text;
  v_count bigint := 0;
begin
  select n.name into v_namespace
  from tasker.domain_events d
  join tasker.namespaces n on n.namespace_id = d.namespace_id
  where d.event_uuid = redeliver_domain_event.event_uuid
  for update of d;
  if v_namespace is null or not tasker._may(v_namespace, 'read') then
    perform tasker._raise('TK004', format('domain event %s not found', coalesce(redeliver_domain_event.event_uuid::text, 'null')), null,
      'tasker.list_domain_events() shows the events there are.');
  end if;
  perform tasker._require_may(v_namespace, 'operate');
  select q.queue_name into v_queue_name from tasker._event_queues(array[v_namespace]) q;
  if found then
    execute format(
      'with taken as (delete from pgmq.%I m where m.message ->> ''event_uuid'' = $1 returning m.enqueued_at, m.message)
       insert into pgmq.%I (enqueued_at, vt, message)
       select t.enqueued_at, $2, t.message - ''error'' from taken t
       -- Nobody would take what is for a subscription that has ended.
       where exists (
         select from tasker.event_subscriptions s where s.namespace = $3 and s.subscriber = t.message ->> ''subscriber'' and s.pattern = t.message ->> ''pattern'')',
      'a_' || v_queue_name, 'q_' || v_queue_name)
    using redeliver_domain_event.event_uuid::text, tasker._now(), v_namespace;
    get diagnostics v_count = row_count;
    update tasker.domain_events d set set_aside = null where d.event_uuid = redeliver_domain_event.event_uuid;
    perform pg_notify(tasker._events_channel(v_namespace), '');
  end if;
  return v_count;
end
$function$;
comment on function tasker.redeliver_domain_event(uuid) is
  'Sends an event again to the subscriptions that did not take it in ten deliveries, for ten more, and says how many those are. Errors: TK004.';

create function tasker._domain_events_before(p_now timestamptz) returns timestamptz
language sql stable parallel unsafe set search_path = pg_catalog, pg_temp as $function$
  select case when tasker._domain_event_days() > 0 then p_now - tasker._domain_event_days() * interval '1 day' end
$function$;
comment on function tasker._domain_events_before(timestamptz) is 'Events published before this time are forgotten; null when none is.';

create function tasker._forget_domain_events(p_limit integer, p_now timestamptz) returns bigint
language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp as $function$
declare
  v_before constant timestamptz := tasker._domain_events_before(p_now);
  v_table text;
  v_count bigint;
  v_total bigint := 0;
  v_is_done boolean := true;
begin
  for v_table in
    select 'pgmq.' || quote_ident(p.prefix || n.events_queue_name)
    from tasker.namespaces n
    cross join (values ('q_'), ('a_')) p(prefix)
    where to_regclass('pgmq.' || quote_ident(p.prefix || n.events_queue_name)) is not null
    order by 1
  loop
    -- Numbers rise with time: the oldest come first, and no more than a batch of them is looked at.
    execute format(
      'delete from %1$s m
       where m.msg_id = any (array(
         select o.msg_id from (select m.msg_id, m.enqueued_at from %1$s m order by m.msg_id limit $2 for update skip locked) o where o.enqueued_at < $1))', v_table)
    using v_before, p_limit;
    get diagnostics v_count = row_count;
    v_total := v_total + v_count;
    v_is_done := v_is_done and v_count < p_limit;
  end loop;
  -- The log goes last: it is by its oldest row that this is due.
  if v_is_done then
    delete from tasker.domain_events d
    where d.event_uuid = any (array(
      select d.event_uuid from tasker.domain_events d where d.event_uuid < tasker._first_task_uuid(v_before) order by d.event_uuid limit p_limit));
    get diagnostics v_count = row_count;
    v_total := v_total + v_count;
  end if;
  return v_total;
end
$function$;
comment on function tasker._forget_domain_events(integer, timestamptz) is
  'Forgets events that are older than tasker.domain_event_days, their messages and what was set aside of them, and says how much that was.';

create function tasker._unserved_subscriptions(p_now timestamptz) returns text[]
language plpgsql stable parallel unsafe set search_path = pg_catalog, pg_temp as $function$
declare
  v_subscription record;
  v_queue_name text;
  v_waits boolean;
  v_found text[] := '{}';
begin
  for v_subscription in
    select s.* from tasker.event_subscriptions s where tasker._may(s.namespace, 'read') order by s.namespace, s.subscriber, s.pattern
  loop
    select q.queue_name into v_queue_name from tasker._event_queues(array[v_subscription.namespace]) q;
    continue when not found;
    execute format(
      'select exists (select from pgmq.%I m where m.message ->> ''subscriber'' = $1 and m.message ->> ''pattern'' = $2 and m.vt <= $3)',
      'q_' || v_queue_name)
    into v_waits using v_subscription.subscriber, v_subscription.pattern, p_now - tasker._worker_silence();
    if v_waits then
      v_found := v_found || format('%s %s (namespace %s)', v_subscription.subscriber, v_subscription.pattern, v_subscription.namespace);
    end if;
  end loop;
  return v_found;
end
$function$;
comment on function tasker._unserved_subscriptions(timestamptz) is 'The subscriptions for which events have been visible for longer than a worker may be silent.';

create function tasker._domain_events_health(p_now timestamptz) returns table (name text, ok boolean, detail text)
language plpgsql stable parallel unsafe set search_path = pg_catalog, pg_temp as $function$
declare
  v_unserved constant text[] := tasker._unserved_subscriptions(p_now);
  v_troubled bigint;
begin
  -- So many are counted, by the index on them.
  select count(*) into v_troubled
  from (
    select from tasker.domain_events d
    join tasker.namespaces n on n.namespace_id = d.namespace_id
    where (d.problem is not null or d.set_aside is not null) and d.event_uuid >= tasker._first_task_uuid(p_now - interval '1 day') and tasker._may(n.name, 'read')
    limit 1000
  ) t;
  name := 'domain_events';
  ok := v_troubled = 0 and cardinality(v_unserved) = 0;
  detail := case when ok then 'every event of the last day was published, and none waits for a subscriber'
    else array_to_string(array[
      case when v_troubled > 0 then format('%s events of the last day were not published, or not taken in ten deliveries: tasker.list_domain_events() says which, and why', v_troubled) end,
      case when cardinality(v_unserved) > 0 then format('events wait for %s: start a worker that subscribes so, or tasker.unsubscribe_domain_events', array_to_string(v_unserved[1:10], ', ')) end
    ], '; ') end;
  return next;
end
$function$;
comment on function tasker._domain_events_health(timestamptz) is 'Whether the events of the last day were published, and whether somebody takes those that wait.';
