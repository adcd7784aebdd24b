-- Domain events: the queue of a namespace's events, subscriptions, and publishing. An event is logged in domain_events; a durable one is sent as a message to the queue, one for each
-- subscription it is for, a fast one by NOTIFY. Not here: which events an outcome publishes (the library's engine/events.rs), deliveries (555), and reading and forgetting them (655).

create function tasker._make_events_queue(p_namespace text) returns void
language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp as $function$
declare
  v_queue_name constant text := 'events_' || p_namespace || '_queue';
begin
  perform tasker._raise_refused(tasker._pgmq_problem());
  if to_regclass(format('pgmq.%I', 'q_' || v_queue_name)) is null then
    perform pgmq.create(v_queue_name);
  end if;
  -- Claims look up the oldest messages of a subscription.
  execute format('create index if not exists %I on pgmq.%I ((message ->> ''subscriber''), (message ->> ''pattern''), vt)',
    'q_' || v_queue_name || '_subscription_idx', 'q_' || v_queue_name);
  update tasker.namespaces n set events_queue_name = v_queue_name where n.name = p_namespace and n.events_queue_name is null;
end
$function$;
comment on function tasker._make_events_queue(text) is 'Makes the queue of a namespace''s events, with the index that claims walk, where either is missing (TK030).';

create function tasker._publishes_durably(p_compiled jsonb) returns boolean
language sql immutable parallel safe set search_path = pg_catalog, pg_temp as $function$
  select jsonb_path_exists(p_compiled, '$.steps[*].publishes_events[*] ? (@.delivery_mode == "durable")')
$function$;
comment on function tasker._publishes_durably(jsonb) is 'Whether a compiled template has steps that publish durable events.';

create function tasker._require_subscriptions(p_subscriber text, p_namespaces text[], p_patterns text[]) returns void
language plpgsql stable parallel unsafe set search_path = pg_catalog, pg_temp as $function$
declare
  v_bad text;
begin
  if p_subscriber is null or p_subscriber !~ '^[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}$' then
    perform tasker._raise('22023', format('subscriber can''t be %s', coalesce(quote_literal(p_subscriber), 'null')), null,
      'Give the name that all workers have in common that share the events among them: 1 to 64 letters, digits, _, . and -.');
  end if;
  if p_namespaces is null or p_patterns is null then
    perform tasker._raise('22023', 'namespaces and patterns must be lists');
  end if;
  perform tasker._require_batch('the number of patterns', cardinality(p_patterns));
  perform tasker._require_batch('the number of namespaces', cardinality(p_namespaces));
  select coalesce(u.name, 'null') into v_bad from unnest(p_namespaces) u(name) where u.name !~ '^[a-z][a-z0-9_]{0,28}$' or u.name is null limit 1;
  if found then
    perform tasker._raise('22023', format('no namespace can be called %s', v_bad), null, 'A namespace has 1 to 29 of a-z, 0-9 and _, a letter first.');
  end if;
  select coalesce(u.pattern, 'null') into v_bad from unnest(p_patterns) u(pattern) where not coalesce(tasker._is_event_pattern(u.pattern), false) limit 1;
  if found then
    perform tasker._raise('22023', format('%s is no pattern of events', v_bad), null,
      'A pattern has 1 to 128 letters, digits, _, ., - and *, which stands for any characters: order.*');
  end if;
end
$function$;
comment on function tasker._require_subscriptions(text, text[], text[]) is 'Refuses names of subscribers and namespaces, and patterns, that can''t be (22023, TK022).';

create function tasker.subscribe_domain_events(subscriber text, namespaces text[], patterns text[]) returns bigint
language plpgsql volatile parallel unsafe security definer set search_path = pg_catalog, pg_temp as $function$
declare
  v_count bigint;
begin
  perform tasker._require_subscriptions(subscribe_domain_events.subscriber, subscribe_domain_events.namespaces, subscribe_domain_events.patterns);
  perform tasker._raise_refused(tasker._namespace_problem(subscribe_domain_events.namespaces, 'work'));
  insert into tasker.event_subscriptions (namespace, subscriber, pattern, created_by, created_at)
  select distinct n.name, subscribe_domain_events.subscriber, p.pattern, tasker._actor(), tasker._now()
  from unnest(subscribe_domain_events.namespaces) n(name)
  cross join unnest(subscribe_domain_events.patterns) p(pattern)
  order by n.name, p.pattern
  on conflict on constraint event_subscriptions_pkey do nothing;
  get diagnostics v_count = row_count;
  -- A template registered by a version that knew no events has made no queue for them.
  perform tasker._make_events_queue(n.name)
  from (
    select n.name
    from tasker.namespaces n
    where n.name = any (subscribe_domain_events.namespaces) and n.events_queue_name is null
      and exists (select from tasker.templates t where t.namespace_id = n.namespace_id and tasker._publishes_durably(t.compiled))
    order by n.name
  ) n;
  return v_count;
end
$function$;
comment on function tasker.subscribe_domain_events(text, text[], text[]) is
  'Subscribes to the durable events of namespaces, those that are yet to be made too, by patterns, and says how many of the subscriptions are new. Each one is sent what is published from then on, until '
  'unsubscribe_domain_events. Errors: 22023, TK022, TK030.';

create function tasker._event_body(p_event tasker._published, p_now timestamptz) returns jsonb
language sql stable parallel unsafe set search_path = pg_catalog, pg_temp as $function$
  select jsonb_build_object('event_uuid', p_event.event_uuid, 'name', p_event.name, 'namespace', p_event.namespace, 'template_name', p_event.template_name,
    'template_version', p_event.template_version, 'task_uuid', tasker._task_of(p_event.step_uuid), 'step_uuid', p_event.step_uuid, 'step_name', p_event.step_name,
    'attempt', p_event.attempt, 'outcome', p_event.outcome, 'correlation_id', p_event.correlation_id, 'at', p_now, 'payload', p_event.payload)
$function$;
comment on function tasker._event_body(tasker._published, timestamptz) is 'An event as subscribers get it.';

create function tasker._events_channel(p_namespace text) returns text
language sql immutable parallel safe set search_path = pg_catalog, pg_temp as $function$
  select 'tasker_domain_events_' || p_namespace
$function$;
comment on function tasker._events_channel(text) is 'The channel of a namespace''s events: a notification on it is a fast event, or empty, and then there are durable ones.';

create function tasker._publish_domain_events(p_events tasker._published[], p_now timestamptz) returns text[]
language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp as $function$
declare
  v_queue record;
  v_problem text[];
begin
  insert into tasker.domain_events (event_uuid, namespace_id, template_id, step_uuid, name, attempt, outcome, delivery_mode, correlation_id, published_at, payload,
    subscriptions, problem)
  select e.event_uuid, n.namespace_id, e.template_id, e.step_uuid, e.name, e.attempt, e.outcome, e.delivery_mode, e.correlation_id, p_now, e.payload,
    case when e.delivery_mode = 'durable' and e.problem is null and n.events_queue_name is not null then (
      select count(*) from tasker.event_subscriptions s where s.namespace = e.namespace and tasker._event_matches(s.pattern, e.name))
    else 0 end, e.problem
  from unnest(p_events) e
  cross join lateral (select n.namespace_id, n.events_queue_name from tasker.namespaces n where n.name = e.namespace) n;

  for v_queue in
    select n.name as namespace, n.events_queue_name as name,
      array_agg(tasker._event_body(e, p_now) || jsonb_build_object('subscriber', s.subscriber, 'pattern', s.pattern) order by e.event_uuid, s.subscriber, s.pattern) as messages
    from unnest(p_events) e
    cross join lateral (select n.name, n.events_queue_name from tasker.namespaces n where n.name = e.namespace) n
    cross join lateral (
      select s.subscriber, s.pattern from tasker.event_subscriptions s where s.namespace = e.namespace and tasker._event_matches(s.pattern, e.name)
    ) s
    where e.delivery_mode = 'durable' and e.problem is null and n.events_queue_name is not null
    group by n.name, n.events_queue_name
    order by n.name
  loop
    v_problem := tasker._queue_problem(v_queue.name);
    if v_problem is not null then
      return v_problem;
    end if;
    execute format('insert into pgmq.%I (enqueued_at, vt, message) select $1, $1, m.message from unnest($2) m(message)', 'q_' || v_queue.name)
    using p_now, v_queue.messages;
    if current_setting('tasker.notify', true)::boolean then
      perform pg_notify(tasker._events_channel(v_queue.namespace), '');
    end if;
  end loop;

  -- A notification holds less than 8000 bytes.
  perform pg_notify(tasker._events_channel(f.namespace),
    case when octet_length(f.body::text) < 8000 then f.body else f.body - 'payload' || '{"payload_omitted": true}' end::text)
  from (
    select e.namespace, tasker._event_body(e, p_now) as body from unnest(p_events) e where e.delivery_mode = 'fast' and e.problem is null order by e.event_uuid
  ) f;
  return null;
end
$function$;
comment on function tasker._publish_domain_events(tasker._published[], timestamptz) is
  'Logs events and sends them: durable ones to the queues of their namespaces, for each subscription, fast ones by NOTIFY; with a problem, neither. Gives the '
  'refusal of a queue that is missing (TK030), which the library hands on.';
