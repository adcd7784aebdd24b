-- From 0.1.0 to 0.2.0. Above the mark, by hand: types and tables, what they say to pg_dump, and rows. Below it: the functions, as pg_extension/upgrade-script writes them.

-- All tables that change are locked at once, or none: sessions at work take them in different orders, and one that waited for a table here while it held another would wait for a session that waits
-- for it. Between tries nothing is held, so nobody is held up.
do $locks$
declare
  v_tables constant text := (
    select 'tasker.namespaces, tasker.resting_outcomes, tasker.tasks, tasker.steps, tasker.dead_letters' || coalesce(', ' || pg_catalog.string_agg(q.name, ', ' order by q.name), '')
    from (
      select pg_catalog.format('pgmq.%I', 'q_' || n.queue_name) as name from tasker.namespaces n
      where pg_catalog.to_regclass(pg_catalog.format('pgmq.%I', 'q_' || n.queue_name)) is not null
    ) q);
  v_until constant timestamptz := pg_catalog.clock_timestamp() + interval '20 seconds';
begin
  loop
    begin
      execute 'lock table ' || v_tables || ' in access exclusive mode nowait';
      return;
    exception
      when lock_not_available then
        if pg_catalog.clock_timestamp() > v_until then
          raise;
        end if;
        perform pg_catalog.pg_sleep(0.001 + 0.004 * pg_catalog.random());
    end;
  end loop;
end
$locks$;

create type tasker._edition as ();
revoke all on type tasker._edition from public;

create table tasker.maintenance_found (
  job text not null,
  key uuid not null,
  note_uuid uuid not null default pg_catalog.gen_random_uuid(),
  constraint maintenance_found_pkey primary key (job, key, note_uuid)
);
comment on table tasker.maintenance_found is 'Steps and tasks that the walk of maintenance, and calls of others, have found for its jobs; mostly empty. A job looks at each again. The same may be noted more than once: '
  'who notes holds locks that a job may wait for, and must not wait for the job.';

create table tasker.namespace_grants (
  role text collate "C" not null,
  namespace text not null,
  privilege text not null,
  granted_by text not null,
  granted_at timestamptz not null,
  constraint namespace_grants_pkey primary key (role, namespace, privilege),
  constraint privilege_is_known check (privilege in ('read', 'create', 'work', 'operate'))
);
comment on table tasker.namespace_grants is
  'What roles may do in which namespace, * for all of them. By name, so that the grants mean the same in another cluster, whatever the order in which roles are made there.';

-- All versions of a task and of a step find room on its page, also while an old snapshot is held.
do $room$
declare
  v_partition record;
begin
  for v_partition in
    select i.inhrelid::pg_catalog.regclass as name, case i.inhparent when 'tasker.steps'::pg_catalog.regclass then 24 else 45 end as fillfactor
    from pg_catalog.pg_inherits i where i.inhparent in ('tasker.steps'::pg_catalog.regclass, 'tasker.tasks'::pg_catalog.regclass)
  loop
    execute pg_catalog.format('alter table %s set (fillfactor = %s)', v_partition.name, v_partition.fillfactor);
  end loop;
end
$room$;
alter table tasker.steps add column instances integer, add column opened integer, add column undoes uuid, add column followed_by integer;
comment on table tasker.steps is 'One row a step; its key names its task and its number within the task. paused_at is its task''s, so that whoever has locked a step knows of the pause. '
  'instances is how many were made of it, and opened how many of those were let go. '
  'undoes is the step that a compensation undoes, and followed_by the number of the compensation that is let go after it.';
alter table tasker.tasks add column compensates text, add column traceparent text;
comment on table tasker.tasks is 'One row a task; its counters (running, waiting_retry, waiting_engine, failed) decide its state when they change. '
  'compensates is how it ends when what it did is undone: error or cancelled; traceparent is the span, as W3C writes it, that its creation belongs to.';

alter table tasker.dead_letters add column step_uuid uuid;
comment on table tasker.dead_letters is 'Dead letters: investigations of tasks that failed for good, with a snapshot of the task as it was; with step_uuid of one instance, which failed without its task.';
alter type tasker.dead_letter add attribute step_uuid uuid, add attribute step_name text;
comment on type tasker.dead_letter is
  'A dead letter as the lists show it: task_state is the task''s state now, error what the task failed of. With step_uuid it is of one instance, and error what that failed of.';
alter type tasker.investigation add attribute step_uuid uuid, add attribute step_name text;
comment on type tasker.investigation is
  'A dead letter with its snapshot: the task, its steps (of an instance''s only that) and the end of their history as they were when it was opened.';
do $indexes$
declare
  v_name text;
begin
  -- Indexes that told tasks apart tell steps apart as well. Rows are few, and narrow without their snapshots.
  for v_name in
    select c.relname
    from pg_catalog.pg_inherits i
    join pg_catalog.pg_class c on c.oid = i.inhrelid
    where i.inhparent = 'tasker.dead_letters'::pg_catalog.regclass
    order by c.relname
  loop
    execute pg_catalog.format('drop index if exists tasker.%I, tasker.%I', v_name || '_idx1', v_name || '_idx3');
    execute pg_catalog.format('create unique index %I on tasker.%I (task_uuid, coalesce(step_uuid, task_uuid)) where resolution = ''pending''', v_name || '_idx1', v_name);
    execute pg_catalog.format('create index %I on tasker.%I (task_uuid, coalesce(step_uuid, task_uuid))', v_name || '_idx3', v_name);
  end loop;
end
$indexes$;

alter type tasker._task_change add attribute waiting_engine integer;
alter type tasker.task add attribute parent_task_uuid uuid, add attribute parent_step_uuid uuid, add attribute traceparent text;
alter type tasker._new_task add attribute traceparent text;
alter type tasker.step add attribute child_task_uuid uuid;

create table tasker.timers (
  due_at timestamptz not null,
  step_uuid uuid not null,
  constraint timers_pkey primary key (due_at, step_uuid)
);
comment on table tasker.timers is 'Steps that wait for a time: timers, and signals that are not waited for without an end. A table of its own: an index on steps would make every change of one dearer.';
-- a step that doesn't wait any more; until when one waits
create unique index timers_step_idx on tasker.timers (step_uuid);

create table tasker.signals (
  task_uuid uuid not null,
  name text not null,
  payload jsonb not null,
  sent_at timestamptz not null,
  sent_by text not null,
  constraint signals_pkey primary key (task_uuid, name)
);
comment on table tasker.signals is 'Signals that were sent to tasks, whether a step has taken them or not; each once. A rerun forgets those of the steps that it runs anew.';

create table tasker.child_tasks (
  task_uuid uuid not null constraint child_tasks_pkey primary key,
  parent_step_uuid uuid not null,
  attempt integer not null,
  depth integer not null
);
comment on table tasker.child_tasks is 'Tasks that a step of another task has started, in which attempt of it, and how deep they are nested: 1 for a child of a task that has no parent.';
-- the child of a step
create index child_tasks_parent_idx on tasker.child_tasks (parent_step_uuid);

create table tasker.statistics_cursors (
  incarnation text not null constraint statistics_cursors_pkey primary key,
  folded_seq bigint not null,
  as_of timestamptz,
  rested_at timestamptz,
  rolled_up_at timestamptz,
  settled_seq bigint not null,
  settled_at timestamptz not null,
  noted_seq bigint not null,
  noted_xid bigint not null,
  noted_at timestamptz not null
);
comment on table tasker.statistics_cursors is 'One row: up to which number history rows are folded into statistics, and up to which they are settled.';

create table tasker.statistics_buckets (
  template_id integer not null,
  starts_at timestamptz not null,
  number integer not null,
  completed bigint not null,
  failed bigint not null,
  cancelled bigint not null,
  resolved bigint not null,
  attempts bigint not null,
  retries bigint not null,
  runs bigint not null,
  run_us bigint not null,
  longest_run_us bigint not null,
  run_histogram bigint[] not null,
  waits bigint not null,
  wait_us bigint not null,
  constraint statistics_buckets_pkey primary key (template_id, starts_at, number)
) with (fillfactor = 70);
comment on table tasker.statistics_buckets is
  'Figures of a span of time, for each step of a template by its number; 0 is the task itself.';

create table tasker.slowest_runs (
  template_id integer not null,
  is_task boolean not null,
  starts_at timestamptz not null,
  run_us bigint not null,
  key uuid not null,
  attempt integer,
  attempts_used integer,
  state text not null,
  started_at timestamptz,
  finished_at timestamptz not null
);
comment on table tasker.slowest_runs is 'The slowest steps and tasks of each span of time and template.';
-- the slowest of a template since a time; which of a span are too many
create index slowest_runs_idx on tasker.slowest_runs (template_id, is_task, starts_at, run_us);

create table tasker.state_counts (
  template_id integer not null,
  is_task boolean not null,
  state text not null,
  count bigint not null,
  constraint state_counts_pkey primary key (template_id, is_task, state)
) with (fillfactor = 70);
comment on table tasker.state_counts is 'How many steps and tasks of a template are in each state that is neither terminal nor pending, as of how far history is folded.';

create table tasker.schedules (
  schedule_uuid uuid not null constraint schedules_pkey primary key,
  namespace_id integer not null constraint schedule_belongs_to_a_namespace references tasker.namespaces (namespace_id),
  name text not null,
  cron text not null,
  timezone text not null,
  template_name text not null,
  template_version text,
  context jsonb not null,
  catch_up text not null,
  created_by text not null,
  created_at timestamptz not null,
  paused_at timestamptz,
  paused_by text,
  pause_reason text,
  next_at timestamptz not null,
  open_times tstzmultirange not null,
  last_at timestamptz,
  last_task_uuid uuid,
  last_problem jsonb,
  constraint schedule_name_is_unique unique (namespace_id, name),
  constraint schedule_name_is_a_word check (name ~ '^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$'),
  constraint catch_up_is_known check (catch_up in ('none', 'one', 'all'))
);
comment on table tasker.schedules is
  'What creates tasks at set times. Before next_at, the times that are in open_times have had no task; those that aren''t have had theirs.';
-- which schedules are due
create index schedules_due_idx on tasker.schedules (next_at) where paused_at is null;

create type tasker.schedule as (
  namespace text,
  name text,
  cron text,
  timezone text,
  template_name text,
  template_version text,
  context jsonb,
  catch_up text,
  next_at timestamptz,
  last_at timestamptz,
  last_task_uuid uuid,
  last_problem jsonb,
  paused_at timestamptz,
  paused_by text,
  pause_reason text,
  created_by text,
  created_at timestamptz
);
comment on type tasker.schedule is
  'A schedule as list_schedules shows it. last_problem {code, message, scheduled_at, at} is why its last due time has no task; null when that has one.';
create table tasker.domain_events (
  event_uuid uuid not null constraint domain_events_pkey primary key,
  namespace_id integer not null,
  template_id integer not null,
  step_uuid uuid not null,
  name text not null,
  attempt integer not null,
  outcome text not null,
  delivery_mode text,
  correlation_id uuid,
  published_at timestamptz not null,
  payload jsonb,
  subscriptions bigint not null,
  problem text,
  set_aside jsonb
);
comment on table tasker.domain_events is
  'Domain events that steps published: to how many subscriptions each was sent; why it was not published; which subscriptions did not take it. Kept by its own age, whatever becomes of the task.';
-- list_domain_events: those of a task
create index domain_events_step_idx on tasker.domain_events (step_uuid);
-- health: those in trouble
create index domain_events_troubled_idx on tasker.domain_events (event_uuid) where problem is not null or set_aside is not null;

create table tasker.event_subscriptions (
  namespace text not null,
  subscriber text not null,
  pattern text not null,
  created_by text not null,
  created_at timestamptz not null,
  constraint event_subscriptions_pkey primary key (namespace, subscriber, pattern)
);
comment on table tasker.event_subscriptions is
  'Who is sent which durable events. By name: a subscription may be made before its namespace.';

alter table tasker.namespaces add column events_queue_name text;
comment on table tasker.namespaces is 'Namespaces: each has one PGMQ queue, worker_{name}_queue, and one for its events, events_{name}_queue, if it publishes durable ones.';
alter table tasker.resting_outcomes add column events jsonb;

create type tasker._published as (
  event_uuid uuid,
  step_uuid uuid,
  template_id integer,
  namespace text,
  template_name text,
  template_version text,
  step_name text,
  name text,
  attempt integer,
  outcome text,
  delivery_mode text,
  correlation_id uuid,
  payload jsonb,
  problem text
);

create type tasker.claimed_domain_event as (
  namespace text,
  msg_id bigint,
  delivery integer,
  pattern text,
  event jsonb
);
comment on type tasker.claimed_domain_event is 'An event handed to a subscriber, for one of its patterns; delivery counts from 1.';

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

create type tasker.step_statistics as (
  namespace text,
  template_name text,
  template_version text,
  step_name text,
  completed bigint,
  failed bigint,
  cancelled bigint,
  resolved bigint,
  failure_share double precision,
  attempts bigint,
  retries bigint,
  avg_wait_ms double precision,
  avg_run_ms double precision,
  p50_run_ms double precision,
  p95_run_ms double precision,
  p99_run_ms double precision,
  max_run_ms double precision,
  since timestamptz,
  as_of timestamptz
);
comment on type tasker.step_statistics is 'The figures of a template''s tasks (without step_name) or of one of its steps, from since to as_of.';

create type tasker.slow_step as (
  step_uuid uuid,
  task_uuid uuid,
  namespace text,
  template_name text,
  template_version text,
  name text,
  duration_ms double precision,
  attempts_used integer,
  state text,
  started_at timestamptz,
  finished_at timestamptz
);
comment on type tasker.slow_step is 'One of the slowest steps; its duration is that of its last attempt, its state the one in which that left it.';

create type tasker.slow_task as (
  task_uuid uuid,
  namespace text,
  template_name text,
  template_version text,
  duration_ms double precision,
  state text,
  started_at timestamptz,
  finished_at timestamptz
);
comment on type tasker.slow_task is 'One of the slowest tasks, from its start to its end.';

create type tasker.namespace_grant as (
  role text,
  namespace text,
  privilege text,
  granted_by text,
  granted_at timestamptz,
  role_exists boolean
);
comment on type tasker.namespace_grant is 'A grant as list_namespace_grants shows it; one of a role that is gone allows nothing.';

create table tasker.sql_namespaces (
  namespace_id integer not null constraint sql_namespaces_pkey primary key
);
comment on table tasker.sql_namespaces is 'The namespaces that have had a template with SQL functions.';

create table tasker.sql_runs (
  step_uuid uuid not null constraint sql_runs_pkey primary key,
  attempt integer not null,
  pid integer not null,
  backend_start timestamptz not null,
  lease_expires_at timestamptz not null,
  claimed_in xid8 not null
) with (fillfactor = 70);
comment on table tasker.sql_runs is 'SQL functions of steps that are claimed or under way, and in which session of the database.';

create type tasker.dependency_result as (
  step_uuid uuid,
  name text,
  instance integer,
  state text,
  result jsonb,
  error jsonb
);
comment on type tasker.dependency_result is 'What became of a step that another depends on.';

comment on type tasker.explanation is
  'Why a step does not go on. reason is a word that programs can rely on: running, lease_ended, queued, no_worker, retry, dependency, limit, compensation, blocked, failed, evaluation, scheduled, '
  'signal, timer, child, task_paused, namespace_paused. until is the next time at which something happens by itself.';

comment on table tasker.maintenance_cursors is 'How far the job of maintenance that walks over tasks has come, and when a round of maintenance last ended.';

create type tasker.compensation as (
  ordinal bigint,
  step_uuid uuid,
  name text,
  state text,
  undoes_step_uuid uuid,
  undoes_name text,
  attempts_used integer,
  error jsonb
);
comment on type tasker.compensation is 'What undoes a step of a task; ordinal is its place in the order, which is the reverse of the order in which the steps were completed.';

create table tasker.api_keys (
  name text collate "C" not null constraint api_keys_pkey primary key,
  key_hash bytea not null constraint api_key_is_unique unique,
  permissions text[] not null,
  namespaces text[],
  created_by text not null,
  created_at timestamptz not null,
  expires_at timestamptz,
  revoked_at timestamptz,
  revoked_by text,
  used_at timestamptz,
  constraint api_key_name_is_a_word check (name ~ '^[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}$'),
  constraint api_key_is_kept_as_a_hash check (pg_catalog.octet_length(key_hash) = 32)
);
comment on table tasker.api_keys is
  'Keys of callers of the server, as SHA-256: a key is 256 bits of randomness, so there is nothing to guess that a slow hash or a salt would make harder. namespaces is null where a key reaches all.';

create type tasker.api_key as (
  name text,
  permissions text[],
  namespaces text[],
  created_by text,
  created_at timestamptz,
  expires_at timestamptz,
  revoked_at timestamptz,
  revoked_by text,
  used_at timestamptz,
  problem text
);
comment on type tasker.api_key is
  'A key as list_api_keys shows it. namespaces is null where it reaches all; used_at is exact to the hour; problem is why it does not count: revoked or expired.';

do $registered$
declare
  v_name text;
begin
  foreach v_name in array array['maintenance_found', 'namespace_grants', 'statistics_cursors', 'statistics_buckets', 'slowest_runs', 'state_counts', 'schedules', 'domain_events',
    'event_subscriptions', 'sql_namespaces', 'sql_runs', 'timers', 'signals', 'child_tasks', 'api_keys'] loop
    perform pg_catalog.pg_extension_config_dump(pg_catalog.format('tasker.%I', v_name)::pg_catalog.regclass, '');
    -- The row types are closed when partitions are made, as those of a fresh install are.
    execute pg_catalog.format('revoke all on table tasker.%I from public', v_name);
  end loop;
  foreach v_name in array array['step_statistics', 'slow_step', 'slow_task', 'namespace_grant', 'schedule', 'claimed_domain_event', 'domain_event', 'event_subscription', 'compensation', 'dependency_result', 'api_key'] loop
    execute pg_catalog.format('revoke all on type tasker.%I from public', v_name);
    execute pg_catalog.format('grant usage on type tasker.%I to tasker_admin, tasker_operator, tasker_client, tasker_worker, tasker_reader', v_name);
  end loop;
  revoke all on type tasker._published from public;
end
$registered$;

-- The index on priorities is on the messages' headers. Nobody writes into a queue until that is done: what is sent has its headers from here on.
do $queues$
declare
  v_queue text;
begin
  for v_queue in
    select 'q_' || n.queue_name from tasker.namespaces n
    where pg_catalog.to_regclass(pg_catalog.format('pgmq.%I', 'q_' || n.queue_name)) is not null
    order by 1
  loop
    execute pg_catalog.format('lock table pgmq.%I in access exclusive mode', v_queue);
    execute pg_catalog.format('alter table pgmq.%I set (fillfactor = 22)', v_queue);
    execute pg_catalog.format(
      $index$create index if not exists %I on pgmq.%I
        ((case when headers ->> 'priority' ~ '^-?[0-9]{1,9}$' then (headers ->> 'priority')::integer end) desc, vt) where headers ->> 'priority' <> '0'$index$,
      v_queue || '_headers_idx', v_queue);
    execute pg_catalog.format(
      $headers$update pgmq.%I
        set headers = coalesce(headers, '{}') || pg_catalog.jsonb_build_object('priority', message -> 'priority')
        where message ->> 'priority' <> '0' and headers ->> 'priority' is distinct from message ->> 'priority'$headers$,
      v_queue);
    execute pg_catalog.format('drop index if exists pgmq.%I', v_queue || '_priority_idx');
  end loop;
end
$queues$;

-- The functions, as pg_extension/upgrade-script writes them. What is below is not edited.

drop function if exists tasker._close_mended(uuid,text,timestamp with time zone,text);

drop function if exists tasker._event_rows(tasker._stored_event[],tasker._event_cursor,integer,uuid,integer,text);

drop function if exists tasker._lock_task_and_steps(uuid);

drop function if exists tasker.cancel_task(uuid,text);

drop function if exists tasker.list_events(text,text,uuid,integer);

drop function if exists tasker.queue_stats();

drop function if exists tasker.task_graph(uuid);

CREATE OR REPLACE FUNCTION tasker._act_for(role text)
 RETURNS void
 LANGUAGE c
AS 'MODULE_PATHNAME', $function$_act_for_wrapper$function$;
revoke all on function tasker._act_for(text) from public;

CREATE OR REPLACE FUNCTION tasker._announce_events()
 RETURNS void
 LANGUAGE c
 STRICT
AS 'MODULE_PATHNAME', $function$_announce_events_wrapper$function$;
revoke all on function tasker._announce_events() from public;

CREATE OR REPLACE FUNCTION tasker._author()
 RETURNS text
 LANGUAGE c
 STABLE STRICT
AS 'MODULE_PATHNAME', $function$_author_wrapper$function$;
revoke all on function tasker._author() from public;

CREATE OR REPLACE FUNCTION tasker._bucket_start(p_at timestamp with time zone, p_now timestamp with time zone)
 RETURNS timestamp with time zone
 LANGUAGE sql
 STABLE PARALLEL SAFE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
  select case
    when p_at >= date_trunc('day', p_now - interval '48 hours', 'UTC') then date_trunc('hour', p_at, 'UTC')
    when p_at >= date_trunc('month', p_now - interval '1488 hours', 'UTC') then date_trunc('day', p_at, 'UTC')
    else date_trunc('month', p_at, 'UTC')
  end
$function$;
comment on function tasker._bucket_start(timestamp with time zone,timestamp with time zone) is 'Where the bucket of a time begins: its hour of UTC in the last two days and what there was of the day before them, its day in the last 62 and the rest of their month, else its month.';
revoke all on function tasker._bucket_start(timestamp with time zone,timestamp with time zone) from public;

CREATE OR REPLACE FUNCTION tasker._call_confined(caller regprocedure, role oid, timeout_ms bigint, schema text, function text, context jsonb, inputs jsonb, dependency_results jsonb)
 RETURNS jsonb
 LANGUAGE c
 STRICT
AS 'MODULE_PATHNAME', $function$_call_confined_wrapper$function$;
revoke all on function tasker._call_confined(regprocedure,oid,bigint,text,text,jsonb,jsonb,jsonb) from public;

CREATE OR REPLACE FUNCTION tasker._call_registered(p_step tasker.claimed_step, p_registered_by name, p_timeout_seconds integer)
 RETURNS jsonb
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
  v_callable constant text := p_step.handler ->> 'callable';
  v_name constant text[] := string_to_array(substr(v_callable, 5), '.');
  v_problem record;
  v_called jsonb;
begin
  -- What was right at registration may have changed.
  select p.* into v_problem from tasker._sql_function_problem(v_callable, p_registered_by) p;
  if v_problem.message is not null then
    return jsonb_build_object('error', jsonb_build_object('type', 'sql_error', 'code', case v_problem.code when 'NAME_INVALID' then '42883' else '42501' end,
      'message', v_problem.message, 'hint', 'Put that right and reset the step, or register a new version of the template.', 'retryable', true));
  end if;
  -- What is checked at the end of the transaction is checked as whoever has it then: nothing is left for then.
  set constraints all immediate;
  -- The tasks that it creates are of the same trace.
  perform set_config('tasker.traceparent', coalesce(p_step.handler ->> 'traceparent', ''), true);
  -- Null would keep a strict function from being called.
  v_called := tasker._call_confined('tasker._run_function(text, text, jsonb, jsonb, jsonb)', (select r.oid from pg_roles r where r.rolname = p_registered_by),
    p_timeout_seconds * 1000::bigint, v_name[1], v_name[2], coalesce(p_step.context, '{}'), coalesce(p_step.inputs, p_step.handler -> 'initialization', '{}'),
    coalesce(p_step.dependency_results, '{}'));
  if v_called #>> '{error,code}' = '57014' and tasker._sql_step_ran_out() then
    v_called := jsonb_build_object('error', tasker._timed_out_error(p_step.attempt, p_timeout_seconds) || jsonb_build_object('code', '57014'));
  end if;
  return v_called;
end
$function$;
comment on function tasker._call_registered(tasker.claimed_step,name,integer) is 'Calls the SQL function of a claimed step as the role that registered its template, and gives its result or its error.';
revoke all on function tasker._call_registered(tasker.claimed_step,name,integer) from public;

CREATE OR REPLACE FUNCTION tasker._cancel(p_task_uuid uuid, p_reason text, p_now timestamp with time zone, p_actor text, p_compensate boolean DEFAULT false)
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
  v_task record;
  v_unreal uuid[];
  v_is_undone boolean := false;
begin
  select t.state, t.template_id, t.started_at into v_task from tasker.tasks t where t.task_uuid = p_task_uuid;
  v_unreal := tasker._unreal_steps(p_task_uuid, v_task.template_id);
  perform tasker._raise_refused(tasker._cancel_steps(
    array(
      select s.step_uuid
      from tasker.steps s
      where s.step_uuid > p_task_uuid and s.step_uuid <= tasker._last_step_uuid(p_task_uuid) and not tasker._is_terminal(s.state)
        and s.step_uuid <> all (v_unreal)),
    p_now, p_actor));
  if p_compensate and v_task.started_at is not null then
    v_is_undone := tasker._compensate(p_task_uuid, p_now, p_actor) > 0;
  end if;
  update tasker.tasks t
  set state = case when v_is_undone then 'steps_in_process' else 'cancelled' end, running = v_is_undone::integer, waiting_retry = 0, waiting_engine = 0,
    finished_at = case when not v_is_undone then p_now end, failed = tasker._count_failed(t.task_uuid),
    compensates = case when v_is_undone then 'cancelled' else t.compensates end
  where t.task_uuid = p_task_uuid;
  insert into tasker.task_transitions (task_uuid, path, at, actor, metadata)
  values (p_task_uuid, tasker._task_path(v_task.state, case when v_is_undone then array['compensate', 'steps_enqueued'] else array['cancel'] end), p_now, p_actor,
    case when p_reason is not null then jsonb_build_object('reason', p_reason) end);
  perform tasker._announce_events();
  update tasker.dead_letters d
  set resolution = 'cancelled', resolved_at = p_now, resolved_by = p_actor, note = p_reason
  where d.task_uuid = p_task_uuid and d.resolution = 'pending';
  if not v_is_undone then
    perform tasker._note_ends(array[p_task_uuid]);
  end if;
end
$function$;
comment on function tasker._cancel(uuid,text,timestamp with time zone,text,boolean) is 'Cancels a task that has not ended, or begins to undo what it did, after which it is cancelled; it is locked with every step it has.';
revoke all on function tasker._cancel(uuid,text,timestamp with time zone,text,boolean) from public;

CREATE OR REPLACE FUNCTION tasker._cancel_child(p_task_uuid uuid, p_now timestamp with time zone, p_actor text)
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
  v_link record;
begin
  select c.parent_step_uuid into v_link
  from tasker.child_tasks c
  cross join lateral (select s.state, s.lease_expires_at, s.attempt from tasker.steps s where s.step_uuid = c.parent_step_uuid) s
  where c.task_uuid = p_task_uuid and not (tasker._waits_in_engine(s.state, s.lease_expires_at) and s.attempt = c.attempt);
  if not found then
    return;
  end if;
  perform tasker._lock_whole_tasks(array[p_task_uuid]);
  if exists (select from tasker.tasks t where t.task_uuid = p_task_uuid and tasker._next_task_state(t.state, 'cancel') is not null) then
    perform tasker._cancel(p_task_uuid, format('step %s does not wait for it any more', v_link.parent_step_uuid), p_now, p_actor);
  end if;
end
$function$;
comment on function tasker._cancel_child(uuid,timestamp with time zone,text) is 'Cancels a task whose parent doesn''t wait for it any more, unless it has ended.';
revoke all on function tasker._cancel_child(uuid,timestamp with time zone,text) from public;

CREATE OR REPLACE FUNCTION tasker._cancel_found_instances(p_now timestamp with time zone, p_actor text)
 RETURNS bigint
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
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
comment on function tasker._cancel_found_instances(timestamp with time zone,text) is 'Cancels the instances that have not ended of a step that failed with one of them, and says of how many steps.';
revoke all on function tasker._cancel_found_instances(timestamp with time zone,text) from public;

CREATE OR REPLACE FUNCTION tasker._cancel_instances(step_uuid uuid, now timestamp with time zone, actor text)
 RETURNS text[]
 LANGUAGE c
 STRICT
AS 'MODULE_PATHNAME', $function$_cancel_instances_wrapper$function$;
revoke all on function tasker._cancel_instances(uuid,timestamp with time zone,text) from public;

CREATE OR REPLACE FUNCTION tasker._checked_namespace(key uuid)
 RETURNS text
 LANGUAGE c
 STABLE
AS 'MODULE_PATHNAME', $function$_checked_namespace_wrapper$function$;
revoke all on function tasker._checked_namespace(uuid) from public;

CREATE OR REPLACE FUNCTION tasker._child_context(p_step_uuid uuid, p_template_id integer, p_parent_context jsonb)
 RETURNS jsonb
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
  v_child record;
begin
  select * into v_child from tasker._child_of(p_template_id, tasker._number_of(p_step_uuid));
  if v_child.source is null then
    return coalesce(v_child.context, p_parent_context);
  end if;
  return (
    select s.result #> v_child.path from tasker.steps s where s.step_uuid = tasker._step_uuid(tasker._task_of(p_step_uuid), v_child.source));
end
$function$;
comment on function tasker._child_context(uuid,integer,jsonb) is 'The context of the task that a step starts; null where the result that it is to be in has none.';
revoke all on function tasker._child_context(uuid,integer,jsonb) from public;

CREATE OR REPLACE FUNCTION tasker._child_of(template_id integer, number integer)
 RETURNS TABLE(template_name text, namespace text, version text, context jsonb, source integer, path text[])
 LANGUAGE c
 STABLE STRICT
AS 'MODULE_PATHNAME', $function$_child_of_wrapper$function$;
revoke all on function tasker._child_of(integer,integer) from public;

CREATE OR REPLACE FUNCTION tasker._chosen_templates(p_namespace text, p_template_name text)
 RETURNS TABLE(template_id integer, namespace text, template_name text, template_version text)
 LANGUAGE sql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
  select x.template_id, n.name, x.name, x.version
  from tasker.templates x
  join tasker.namespaces n on n.namespace_id = x.namespace_id
  where (p_namespace is null or n.name = p_namespace) and (p_template_name is null or x.name = p_template_name) and tasker._may(n.name, 'read')
$function$;
comment on function tasker._chosen_templates(text,text) is 'The templates of a namespace and a name, or of all, that the caller may read.';
revoke all on function tasker._chosen_templates(text,text) from public;

CREATE OR REPLACE FUNCTION tasker._claim_sql(worker_id text, namespaces text[], now timestamp with time zone)
 RETURNS tasker._finished
 LANGUAGE c
AS 'MODULE_PATHNAME', $function$_claim_sql_wrapper$function$;
revoke all on function tasker._claim_sql(text,text[],timestamp with time zone) from public;

CREATE OR REPLACE FUNCTION tasker._claim_sql_step()
 RETURNS boolean
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
  v_claimed tasker._finished;
begin
  v_claimed := tasker._claim_sql(format('database:%s', pg_backend_pid()),
    array(
      select n.name from tasker.sql_namespaces s join tasker.namespaces n on n.namespace_id = s.namespace_id
      where n.paused_at is null and to_regclass(format('pgmq.%I', 'q_' || n.queue_name)) is not null
      order by n.name),
    tasker._now());
  perform tasker._raise_refused(v_claimed.refused);
  insert into tasker.sql_runs as r (step_uuid, attempt, pid, backend_start, lease_expires_at, claimed_in)
  select s.step_uuid, s.attempt, pg_backend_pid(), tasker._session_began_at(), s.lease_expires_at, pg_current_xact_id()
  from jsonb_array_elements_text(v_claimed.verdicts) c(step_uuid)
  cross join lateral (select s.step_uuid, s.attempt, s.lease_expires_at from tasker.steps s where s.step_uuid = c.step_uuid::uuid) s
  on conflict on constraint sql_runs_pkey do update
    set attempt = excluded.attempt, pid = excluded.pid, backend_start = excluded.backend_start,
      lease_expires_at = excluded.lease_expires_at, claimed_in = excluded.claimed_in;
  return found;
end
$function$;
comment on function tasker._claim_sql_step() is 'Claims a step with a SQL function for this session, if one is ready, and notes whose it is: when the session ends, the attempt does.';
revoke all on function tasker._claim_sql_step() from public;

CREATE OR REPLACE FUNCTION tasker._close_mended(p_task_uuid uuid, p_step_uuid uuid, p_note text, p_now timestamp with time zone, p_actor text)
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
begin
  update tasker.dead_letters d
  set resolution = 'manually_resolved', resolved_at = p_now, resolved_by = p_actor, note = p_note
  where d.task_uuid = p_task_uuid and coalesce(d.step_uuid, d.task_uuid) = p_task_uuid and d.resolution = 'pending'
    and exists (select from tasker.tasks t where t.task_uuid = p_task_uuid and t.failed = 0);
  update tasker.dead_letters d
  set resolution = 'manually_resolved', resolved_at = p_now, resolved_by = p_actor, note = p_note
  -- By the index on open ones: the task may have very many.
  where d.task_uuid = p_task_uuid and coalesce(d.step_uuid, d.task_uuid) >= coalesce(p_step_uuid, p_task_uuid)
    and coalesce(d.step_uuid, d.task_uuid) <= coalesce(p_step_uuid, tasker._last_step_uuid(p_task_uuid)) and d.resolution = 'pending' and d.step_uuid is not null
    and not exists (select from tasker.steps s where s.step_uuid = d.step_uuid and s.state = 'error');
end
$function$;
comment on function tasker._close_mended(uuid,uuid,text,timestamp with time zone,text) is 'Closes a task''s dead letter when no step of it is failed or cancelled any more, and that of an instance, or without one of all, which is not failed any more.';
revoke all on function tasker._close_mended(uuid,uuid,text,timestamp with time zone,text) from public;

CREATE OR REPLACE FUNCTION tasker._compensate(task_uuid uuid, now timestamp with time zone, actor text)
 RETURNS integer
 LANGUAGE c
 STRICT
AS 'MODULE_PATHNAME', $function$_compensate_wrapper$function$;
revoke all on function tasker._compensate(uuid,timestamp with time zone,text) from public;

CREATE OR REPLACE FUNCTION tasker._count_failed(p_task_uuid uuid)
 RETURNS integer
 LANGUAGE sql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
  select count(*)::integer from tasker.steps s
  where s.step_uuid > p_task_uuid and s.step_uuid <= tasker._last_step_uuid(p_task_uuid)
    and (s.state = 'cancelled' or s.state = 'error' and not tasker._tolerates_failure(s.template_id, tasker._number_of(s.step_uuid)))
$function$;

CREATE OR REPLACE FUNCTION tasker._create_children(requests jsonb, now timestamp with time zone, actor text)
 RETURNS tasker._created
 LANGUAGE c
 STRICT
AS 'MODULE_PATHNAME', $function$_create_children_wrapper$function$;
revoke all on function tasker._create_children(jsonb,timestamp with time zone,text) from public;

CREATE OR REPLACE FUNCTION tasker._create_scheduled(p_schedule tasker.schedules, p_times timestamp with time zone[], p_now timestamp with time zone)
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
  v_requests jsonb;
  v_created tasker._created;
begin
  -- The key is a second guard: a time runs once because the schedule's locked row says that it has not.
  select jsonb_agg(jsonb_build_object(
    'template_name', p_schedule.template_name, 'namespace', n.name, 'context', p_schedule.context, 'version', p_schedule.template_version, 'run_at', t.at,
    'idempotency_key', format('schedule %s at %s', p_schedule.schedule_uuid, to_char(t.at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"')),
    'tags', array['schedule:' || p_schedule.name], 'initiator', p_schedule.created_by, 'source_system', 'schedule',
    'reason', format('schedule %s for %s %s', p_schedule.name, to_char(t.at at time zone p_schedule.timezone, 'YYYY-MM-DD HH24:MI'), p_schedule.timezone))
    order by t.ordinal)
  into v_requests
  from tasker.namespaces n
  cross join unnest(p_times) with ordinality t(at, ordinal)
  where n.namespace_id = p_schedule.namespace_id;
  -- Whoever calls: a schedule may do what its creator may, as things are now.
  perform tasker._act_for(p_schedule.created_by);
  v_created := tasker._create_tasks(v_requests, p_now, tasker._actor());
  perform tasker._act_for(null);
  perform tasker._raise_refused(v_created.refused);
  update tasker.schedules s
  set last_at = greatest(s.last_at, p_times[cardinality(p_times)]),
    last_task_uuid = case when s.last_at > p_times[cardinality(p_times)] then s.last_task_uuid else v_created.task_uuids[cardinality(p_times)] end
  where s.schedule_uuid = p_schedule.schedule_uuid;
end
$function$;
comment on function tasker._create_scheduled(tasker.schedules,timestamp with time zone[],timestamp with time zone) is 'Creates the tasks of a schedule for some of its times, in their order, and notes the last one; refuses as create_task does.';
revoke all on function tasker._create_scheduled(tasker.schedules,timestamp with time zone[],timestamp with time zone) from public;

CREATE OR REPLACE FUNCTION tasker._cron_problem(cron text)
 RETURNS text[]
 LANGUAGE c
 IMMUTABLE PARALLEL SAFE STRICT
AS 'MODULE_PATHNAME', $function$_cron_problem_wrapper$function$;
revoke all on function tasker._cron_problem(text) from public;

CREATE OR REPLACE FUNCTION tasker._cron_times(cron text, timezone text, "from" timestamp with time zone, before timestamp with time zone, most integer)
 RETURNS timestamp with time zone[]
 LANGUAGE c
 STABLE PARALLEL SAFE STRICT
AS 'MODULE_PATHNAME', $function$_cron_times_wrapper$function$;
revoke all on function tasker._cron_times(text,text,timestamp with time zone,timestamp with time zone,integer) from public;

CREATE OR REPLACE FUNCTION tasker._dead_letter_rows(p_dead_letter_uuids uuid[], p_task_uuids uuid[])
 RETURNS SETOF tasker.dead_letter
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
begin
  return query
    select d.dead_letter_uuid, d.task_uuid, n.name, x.name, x.version, t.priority::integer, t.state, d.reason, d.resolution, d.opened_at, d.opened_by,
      d.resolved_at, d.resolved_by, d.note, case when d.step_uuid is null then t.error else s.error end, d.step_uuid, s.name
    from unnest(p_dead_letter_uuids, p_task_uuids) with ordinality u(dead_letter_uuid, task_uuid, ordinal)
    -- With the task's key the planner looks into one partition only.
    cross join lateral (
      select d.* from tasker.dead_letters d where d.task_uuid = u.task_uuid and d.dead_letter_uuid = u.dead_letter_uuid
    ) d
    cross join lateral (select t.* from tasker.tasks t where t.task_uuid = u.task_uuid) t
    cross join lateral (select x.name, x.version from tasker.templates x where x.template_id = t.template_id) x
    cross join lateral (select n.name from tasker.namespaces n where n.namespace_id = t.namespace_id) n
    left join lateral (
      select s.error, e.name
      from tasker.steps s
      cross join lateral tasker._step_definitions(array[s.template_id], array[tasker._number_of(s.step_uuid)]) e
      where s.step_uuid = d.step_uuid
    ) s on true
    order by u.ordinal;
end
$function$;

CREATE OR REPLACE FUNCTION tasker._decisions(template_id integer)
 RETURNS integer[]
 LANGUAGE c
 STABLE STRICT
AS 'MODULE_PATHNAME', $function$_decisions_wrapper$function$;
revoke all on function tasker._decisions(integer) from public;

CREATE OR REPLACE FUNCTION tasker._definition_number(template_id integer, number integer)
 RETURNS integer
 LANGUAGE c
 STABLE STRICT
AS 'MODULE_PATHNAME', $function$_definition_number_wrapper$function$;
revoke all on function tasker._definition_number(integer,integer) from public;

CREATE OR REPLACE FUNCTION tasker._domain_event_days()
 RETURNS integer
 LANGUAGE c
 STABLE PARALLEL SAFE STRICT
AS 'MODULE_PATHNAME', $function$_domain_event_days_wrapper$function$;
revoke all on function tasker._domain_event_days() from public;

CREATE OR REPLACE FUNCTION tasker._domain_events_before(p_now timestamp with time zone)
 RETURNS timestamp with time zone
 LANGUAGE sql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
  select case when tasker._domain_event_days() > 0 then p_now - tasker._domain_event_days() * interval '1 day' end
$function$;
comment on function tasker._domain_events_before(timestamp with time zone) is 'Events published before this time are forgotten; null when none is.';
revoke all on function tasker._domain_events_before(timestamp with time zone) from public;

CREATE OR REPLACE FUNCTION tasker._domain_events_health(p_now timestamp with time zone)
 RETURNS TABLE(name text, ok boolean, detail text)
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
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
comment on function tasker._domain_events_health(timestamp with time zone) is 'Whether the events of the last day were published, and whether somebody takes those that wait.';
revoke all on function tasker._domain_events_health(timestamp with time zone) from public;

CREATE OR REPLACE FUNCTION tasker._drop_partitions(p_now timestamp with time zone)
 RETURNS bigint
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
  v_most_unfolded constant bigint := 1000000;
  v_range record;
  v_done record;
  v_code text;
  v_problem text;
begin
  select r.* into v_range from tasker._due_range(p_now) r;
  -- An older snapshot would not show all that has to be copied.
  if not found or current_setting('transaction_isolation') <> 'read committed' then
    return 0;
  end if;
  -- What leaves is folded into the statistics first: in the exchange only what little has not been.
  if tasker._statistics_lag() > v_most_unfolded then
    return 0;
  end if;
  begin
    v_done := tasker._let_leave(v_range.suffix, v_range.starts_on, v_range.ends_on, p_now);
  exception
    -- Leaving the block takes everything back. Maintenance goes on, whatever is in the way of retention.
    when others then
      get stacked diagnostics v_code = returned_sqlstate, v_problem = message_text;
      if v_code in ('55P03', '40P01') then
        perform tasker._look_again(v_range.suffix, p_now + interval '1 minute', v_problem);
      else
        raise warning 'tasker: the partitions % stay for another hour: %', v_range.suffix, v_problem;
        perform tasker._look_again(v_range.suffix, p_now + interval '1 hour', v_problem);
      end if;
      return 0;
  end;
  if v_done.is_kept then
    perform tasker._look_again(v_range.suffix, p_now + interval '1 day', null);
  else
    delete from tasker.kept_ranges k where k.suffix = v_range.suffix;
  end if;
  return v_done.dropped::integer;
end
$function$;

CREATE OR REPLACE FUNCTION tasker._due_times(p_schedule tasker.schedules, p_now timestamp with time zone)
 RETURNS timestamp with time zone[]
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
  -- A time is missed when it is this old. Rounds of maintenance are a second apart.
  v_missed constant interval := interval '1 minute';
  -- So many missed times are run in one go.
  v_most constant integer := 10;
  v_last timestamptz;
begin
  -- next_at always counts, though a zone's rules may have changed since it was computed.
  if p_schedule.catch_up = 'all' then
    return p_schedule.next_at || tasker._cron_times(p_schedule.cron, p_schedule.timezone, p_schedule.next_at + interval '1 microsecond', p_now + interval '1 microsecond', v_most - 1);
  end if;
  v_last := coalesce(tasker._last_cron(p_schedule.cron, p_schedule.timezone, p_schedule.next_at, p_now), p_schedule.next_at);
  if p_schedule.catch_up = 'none' and v_last < p_now - v_missed then
    return '{}';
  end if;
  return array[v_last];
end
$function$;
comment on function tasker._due_times(tasker.schedules,timestamp with time zone) is 'The times that a schedule is to run now, of those that have come: by its catch_up.';
revoke all on function tasker._due_times(tasker.schedules,timestamp with time zone) from public;

CREATE OR REPLACE FUNCTION tasker._end_found_leases(p_limit integer, p_now timestamp with time zone, p_actor text)
 RETURNS bigint
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
  v_late uuid[] := tasker._take_found('end_leases', p_limit);
begin
  perform tasker._raise_refused(tasker._end_leases(v_late, p_now, p_actor));
  return cardinality(v_late);
end
$function$;
comment on function tasker._end_found_leases(integer,timestamp with time zone,text) is 'Ends the leases that the walk found ended and nobody took over, and says how many were looked at.';
revoke all on function tasker._end_found_leases(integer,timestamp with time zone,text) from public;

CREATE OR REPLACE FUNCTION tasker._end_round(p_now timestamp with time zone)
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
begin
  insert into tasker.maintenance_cursors as c (job, after, walked_at) values ('live_steps', '00000000-0000-0000-0000-000000000000', p_now)
  on conflict on constraint maintenance_cursors_pkey do update set walked_at = excluded.walked_at;
end
$function$;
comment on function tasker._end_round(timestamp with time zone) is 'Notes for health that a round of maintenance has ended: all that was due has been done.';
revoke all on function tasker._end_round(timestamp with time zone) from public;

CREATE OR REPLACE FUNCTION tasker._end_sql_runs(p_now timestamp with time zone, p_actor text)
 RETURNS bigint
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
  v_gone uuid[];
  v_locked uuid[];
  v_count bigint;
begin
  v_gone := array(select r.step_uuid from tasker._sql_runs_at_end(p_now) r where not r.is_alive order by r.step_uuid);
  v_locked := array(
    select s.step_uuid
    from unnest(v_gone) u(step_uuid)
    cross join lateral (select r.attempt from tasker.sql_runs r where r.step_uuid = u.step_uuid) r
    cross join lateral (
      select s.step_uuid from tasker.steps s where s.step_uuid = u.step_uuid and s.state = 'in_progress' and s.attempt = r.attempt for no key update skip locked
    ) s);
  -- Nobody will come back for it: its lease, and the one more that a worker is left, end now.
  update tasker.steps s
  set lease_expires_at = p_now - s.lease_ms * interval '1 millisecond'
  from unnest(v_locked) u(step_uuid)
  where s.step_uuid = u.step_uuid;
  perform tasker._raise_refused(tasker._end_leases(v_locked, p_now, p_actor));
  delete from tasker.sql_runs r
  using unnest(v_gone) u(step_uuid)
  where r.step_uuid = u.step_uuid
    and not exists (select from tasker.steps s where s.step_uuid = u.step_uuid and s.state = 'in_progress' and s.attempt = r.attempt);
  get diagnostics v_count = row_count;
  -- A session can't go on to another step while its row here is locked: the signal meets no other one.
  select v_count + count(*) filter (where case when l.is_over then pg_terminate_backend(l.pid) else pg_cancel_backend(l.pid) end) into v_count
  from (
    select e.pid, e.is_over
    from tasker._sql_runs_at_end(p_now) e
    cross join lateral (select r.step_uuid from tasker.sql_runs r where r.step_uuid = e.step_uuid and r.pid = e.pid for update skip locked) r
    where e.is_alive and e.pid <> pg_backend_pid()
  ) l;
  return v_count;
end
$function$;
comment on function tasker._end_sql_runs(timestamp with time zone,text) is 'Ends attempts of SQL functions whose session is gone, so that they are tried again at once; ends functions whose step is no longer theirs, and sessions that don''t let themselves be ended. Says how many.';
revoke all on function tasker._end_sql_runs(timestamp with time zone,text) from public;

CREATE OR REPLACE FUNCTION tasker._end_wait(p_step_uuid uuid, p_error_type text, p_code text, p_message text, p_detail jsonb, p_now timestamp with time zone, p_actor text)
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
begin
  perform tasker._raise_refused(tasker._end_waits(array[p_step_uuid], null,
    jsonb_build_object('type', p_error_type, 'code', p_code, 'retryable', false, 'message', p_message, 'detail', p_detail), p_now, p_actor));
end
$function$;
comment on function tasker._end_wait(uuid,text,text,text,jsonb,timestamp with time zone,text) is 'Fails a step that waits inside the engine, and is locked.';
revoke all on function tasker._end_wait(uuid,text,text,text,jsonb,timestamp with time zone,text) from public;

CREATE OR REPLACE FUNCTION tasker._end_waits(step_uuids uuid[], result jsonb, error jsonb, now timestamp with time zone, actor text)
 RETURNS text[]
 LANGUAGE c
AS 'MODULE_PATHNAME', $function$_end_waits_wrapper$function$;
revoke all on function tasker._end_waits(uuid[],jsonb,jsonb,timestamp with time zone,text) from public;

CREATE OR REPLACE FUNCTION tasker._evaluate_outcomes(step_uuids uuid[], events jsonb, now timestamp with time zone, actor text)
 RETURNS text[]
 LANGUAGE c
AS 'MODULE_PATHNAME', $function$_evaluate_outcomes_wrapper$function$;
revoke all on function tasker._evaluate_outcomes(uuid[],jsonb,timestamp with time zone,text) from public;

CREATE OR REPLACE FUNCTION tasker._evaluate_resting(p_limit integer, p_now timestamp with time zone, p_actor text)
 RETURNS bigint
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
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

CREATE OR REPLACE FUNCTION tasker._event_body(p_event tasker._published, p_now timestamp with time zone)
 RETURNS jsonb
 LANGUAGE sql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
  select jsonb_build_object('event_uuid', p_event.event_uuid, 'name', p_event.name, 'namespace', p_event.namespace, 'template_name', p_event.template_name,
    'template_version', p_event.template_version, 'task_uuid', tasker._task_of(p_event.step_uuid), 'step_uuid', p_event.step_uuid, 'step_name', p_event.step_name,
    'attempt', p_event.attempt, 'outcome', p_event.outcome, 'correlation_id', p_event.correlation_id, 'at', p_now, 'payload', p_event.payload)
$function$;
comment on function tasker._event_body(tasker._published,timestamp with time zone) is 'An event as subscribers get it.';
revoke all on function tasker._event_body(tasker._published,timestamp with time zone) from public;

CREATE OR REPLACE FUNCTION tasker._event_floor_is_due()
 RETURNS boolean
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
  v_incarnation text := tasker._incarnation();
  v_horizon bigint := pg_snapshot_xmin(pg_current_snapshot())::text::bigint;
begin
  return not exists (select from tasker.event_floors f where f.incarnation = v_incarnation)
    or exists (
      select from tasker.event_floors f
      where f.incarnation <> v_incarnation
        or (f.noted_xid <= v_horizon and (f.noted_seq < tasker._drawn_seq() or f.settled_seq < f.noted_seq)));
end
$function$;
comment on function tasker._event_floor_is_due() is 'Whether _note_event_floor has something to write.';
revoke all on function tasker._event_floor_is_due() from public;

CREATE OR REPLACE FUNCTION tasker._event_matches(pattern text, name text)
 RETURNS boolean
 LANGUAGE c
 IMMUTABLE PARALLEL SAFE STRICT
AS 'MODULE_PATHNAME', $function$_event_matches_wrapper$function$;
revoke all on function tasker._event_matches(text,text) from public;

CREATE OR REPLACE FUNCTION tasker._event_queues(p_namespaces text[])
 RETURNS TABLE(namespace text, queue_name text)
 LANGUAGE sql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
  -- One that is missing maintenance makes again.
  select n.name, n.events_queue_name
  from (select distinct u.name from unnest(p_namespaces) u(name)) u
  cross join lateral (select n.name, n.events_queue_name from tasker.namespaces n where n.name = u.name) n
  where to_regclass('pgmq.' || quote_ident('q_' || n.events_queue_name)) is not null
  order by n.name
$function$;
comment on function tasker._event_queues(text[]) is 'The queues of events of those of the namespaces that have one.';
revoke all on function tasker._event_queues(text[]) from public;

CREATE OR REPLACE FUNCTION tasker._event_rows(p_stored tasker._stored_event[], p_cursor tasker._event_cursor, p_namespace_ids integer[], p_task_uuid uuid, p_limit integer, p_incarnation text)
 RETURNS SETOF tasker.event
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
begin
  return query
    select tasker._event_cursor_text(row(p_cursor.from_xid, p_cursor.to_xid, r.seq, u.ordinal, p_cursor.passed_over, p_cursor.floor, p_cursor.noted_seq,
        p_cursor.noted_xid)::tasker._event_cursor, p_incarnation),
      r.at, r.task_uuid, case when r.number > 0 then r.key end, d.name, u.from_state, u.to_state, u.event, r.attempt, r.actor, r.metadata, n.name, x.name
    from (
      select s.*, k.task_uuid, tasker._number_of(s.key) as number, t.template_id
      from (
        select s.*
        from unnest(p_stored) s
        where s.xid < p_cursor.to_xid and (s.seq > p_cursor.seq or p_cursor.ordinal < 2147483647)
        order by s.seq
        -- Each row is one event at least; of the first, some may have been given. With a filter, more are looked at.
        limit case when p_namespace_ids is null and p_task_uuid is null then p_limit + 1 end
      ) s
      cross join lateral (select tasker._task_of(s.key) as task_uuid) k
      cross join lateral (select t.template_id, t.namespace_id from tasker.tasks t where t.task_uuid = k.task_uuid) t
      where (p_task_uuid is null or k.task_uuid = p_task_uuid) and (p_namespace_ids is null or t.namespace_id = any (p_namespace_ids))
      order by s.seq
      limit p_limit + 1
    ) r
    cross join lateral (select x.name, x.namespace_id from tasker.templates x where x.template_id = r.template_id) x
    cross join lateral (select n.name from tasker.namespaces n where n.namespace_id = x.namespace_id) n
    cross join lateral (
      select u.* from tasker._unroll_step(r.path) u where r.number > 0
      union all
      select u.* from tasker._unroll_task(r.path) u where r.number = 0
    ) u
    -- A task's own rows have no step, and ask for none.
    cross join lateral (select case when r.number > 0 then array[r.number] else '{}' end as numbers) q
    left join lateral tasker._step_definitions(array_fill(r.template_id, array[cardinality(q.numbers)]), q.numbers) d on true
    where r.seq > p_cursor.seq or u.ordinal > p_cursor.ordinal
    order by r.seq, u.ordinal
    limit p_limit;
end
$function$;
comment on function tasker._event_rows(tasker._stored_event[],tasker._event_cursor,integer[],uuid,integer,text) is 'The events of a round''s history rows after the cursor, unrolled, in the order of seq, each with its own cursor.';
revoke all on function tasker._event_rows(tasker._stored_event[],tasker._event_cursor,integer[],uuid,integer,text) from public;

CREATE OR REPLACE FUNCTION tasker._events_channel(p_namespace text)
 RETURNS text
 LANGUAGE sql
 IMMUTABLE PARALLEL SAFE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
  select 'tasker_domain_events_' || p_namespace
$function$;
comment on function tasker._events_channel(text) is 'The channel of a namespace''s events: a notification on it is a fast event, or empty, and then there are durable ones.';
revoke all on function tasker._events_channel(text) from public;

CREATE OR REPLACE FUNCTION tasker._expected_counter(p_step_uuid uuid, p_template_id integer)
 RETURNS integer
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
  v_task_uuid constant uuid := tasker._task_of(p_step_uuid);
  v_number constant integer := tasker._number_of(p_step_uuid);
  v_definition constant integer := tasker._definition_number(p_template_id, v_number);
  v_instances integer;
  v_opened integer;
  v_has_run constant boolean := (select s.state <> 'pending' from tasker.steps s where s.step_uuid = p_step_uuid);
begin
  if tasker._is_compensation(p_template_id, v_number) then
    -- Each is let go by the one before it.
    return (select (s.state = 'pending')::integer from tasker.steps s where s.step_uuid = p_step_uuid);
  end if;
  select s.instances, s.opened into v_instances, v_opened from tasker.steps s where s.step_uuid = tasker._step_uuid(v_task_uuid, v_definition);
  if v_number <> v_definition then
    return (tasker._instance_of(p_template_id, v_number) > coalesce(v_opened, 0))::integer;
  elsif v_instances is not null then
    return (
      select count(*) filter (where not tasker._satisfies_dependents(s.state) and not (s.state = 'error' and tasker._tolerates_failure(p_template_id, s.number)))
      from (
        select s.state, tasker._number_of(s.step_uuid) as number
        from tasker.steps s
        where s.step_uuid > p_step_uuid and s.step_uuid <= tasker._last_step_uuid(v_task_uuid)
      ) s
      where s.number <> tasker._definition_number(p_template_id, s.number) and tasker._definition_number(p_template_id, s.number) = v_number
        and tasker._instance_of(p_template_id, s.number) <= v_instances);
  end if;
  return (
    select tasker._expected_remaining(p_template_id, v_number, v_has_run, coalesce(array_agg(s.number), '{}'), coalesce(array_agg(s.state), '{}'),
      coalesce(array_agg(s.remaining_dependencies), '{}'), coalesce(array_agg(s.result), '{}'))
    from (
      select e.dependency_number as number, s.state, s.remaining_dependencies, s.result
      from tasker._dependencies(array[p_template_id], array[v_number]) e
      cross join lateral (
        select s.state, s.remaining_dependencies, s.result from tasker.steps s where s.step_uuid = tasker._step_uuid(v_task_uuid, e.dependency_number)
      ) s
    ) s);
end
$function$;
comment on function tasker._expected_counter(uuid,integer) is 'What remaining_dependencies of a step has to be, from first principles: -1 for one that never exists, of one that stands for instances how many of them are not done.';
revoke all on function tasker._expected_counter(uuid,integer) from public;

CREATE OR REPLACE FUNCTION tasker._expected_remaining(template_id integer, number integer, has_run boolean, dependencies integer[], states text[], counters integer[], results jsonb[])
 RETURNS integer
 LANGUAGE c
 STABLE STRICT
AS 'MODULE_PATHNAME', $function$_expected_remaining_wrapper$function$;
revoke all on function tasker._expected_remaining(integer,integer,boolean,integer[],text[],integer[],jsonb[]) from public;

CREATE OR REPLACE FUNCTION tasker._explain_instances(p_task_uuid uuid, p_template_id integer, p_dead_letter_uuid uuid)
 RETURNS SETOF tasker.explanation
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
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
comment on function tasker._explain_instances(uuid,integer,uuid) is 'What steps that stand for instances wait for, and which instances wait for their turn.';
revoke all on function tasker._explain_instances(uuid,integer,uuid) from public;

CREATE OR REPLACE FUNCTION tasker._explain_ready(p_task_uuid uuid, p_now timestamp with time zone)
 RETURNS SETOF tasker.explanation
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
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

CREATE OR REPLACE FUNCTION tasker._explain_waiting(p_task_uuid uuid, p_now timestamp with time zone)
 RETURNS SETOF tasker.explanation
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
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

CREATE OR REPLACE FUNCTION tasker._explain_waits(p_task_uuid uuid, p_now timestamp with time zone)
 RETURNS SETOF tasker.explanation
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
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
comment on function tasker._explain_waits(uuid,timestamp with time zone) is 'What the steps of a task wait for inside the engine, and until when.';
revoke all on function tasker._explain_waits(uuid,timestamp with time zone) from public;

CREATE OR REPLACE FUNCTION tasker._export_leaving(p_suffix text, p_starts_on date, p_ends_on date, p_now timestamp with time zone)
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
  v_function text;
  v_table record;
begin
  if tasker._export_function() is null then
    return;
  end if;
  select format('%I.%I', n.nspname, p.proname) into v_function
  from pg_proc p
  join pg_namespace n on n.oid = p.pronamespace
  where p.oid = to_regprocedure(tasker._export_function() || '(regclass, timestamptz, timestamptz)');
  if v_function is null then
    perform tasker._raise('55000', format('tasker.export_function names no function %s(regclass, timestamptz, timestamptz)', tasker._export_function()));
  end if;
  for v_table in
    select t.key, format('%s_%s_leaving', t.name, p_suffix) as view, t.name || case when t.is_partitioned then '_' || p_suffix else '' end as source
    from (values ('tasks', 'task_uuid', true), ('steps', 'step_uuid', true), ('task_transitions', 'task_uuid', true), ('step_transitions', 'step_uuid', true),
      ('dead_letters', 'task_uuid', true), ('signals', 'task_uuid', false), ('child_tasks', 'task_uuid', false)) t(name, key, is_partitioned)
  loop
    execute format('create view tasker.%1$I as
      select o.* from tasker.%2$I o
      where o.%3$I >= %4$L and o.%3$I < %5$L
        and exists (select from tasker._tasks_by_retention(%6$L, %7$L, %8$L, true) l where l.task_uuid = tasker._task_of(o.%3$I))',
      v_table.view, v_table.source, v_table.key, tasker._partition_bound(p_starts_on), tasker._partition_bound(p_ends_on), p_suffix, p_ends_on, p_now);
    execute format('select %s($1, $2, $3)', v_function)
    using format('tasker.%I', v_table.view)::regclass, p_starts_on::timestamp at time zone 'UTC', p_ends_on::timestamp at time zone 'UTC';
    execute format('drop view tasker.%I', v_table.view);
  end loop;
end
$function$;

CREATE OR REPLACE FUNCTION tasker._filtered_tasks(p_filter jsonb, p_after uuid, p_limit integer)
 RETURNS uuid[]
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
  v_namespaces text[];
begin
  -- A list for each namespace that the caller may operate in, where these aren't all.
  if p_filter ->> 'namespace' is not null then
    v_namespaces := case when tasker._may(p_filter ->> 'namespace', 'operate') then array[p_filter ->> 'namespace'] end;
  else
    v_namespaces := coalesce(tasker._open_namespaces('operate'), array[null]);
  end if;
  return array(
    select t.task_uuid
    from unnest(v_namespaces) n(name)
    cross join lateral tasker.list_tasks(
      namespace => n.name, template_name => p_filter ->> 'template_name',
      states => (select array_agg(s.state) from jsonb_array_elements_text(p_filter -> 'states') s(state)),
      tags => (select array_agg(g.tag) from jsonb_array_elements_text(p_filter -> 'tags') g(tag)),
      context_contains => p_filter -> 'context_contains',
      created_after => (p_filter ->> 'created_after')::timestamptz, created_before => (p_filter ->> 'created_before')::timestamptz,
      after => p_after, "limit" => p_limit) t
    order by t.task_uuid desc
    limit p_limit);
end
$function$;
comment on function tasker._filtered_tasks(jsonb,uuid,integer) is 'The next tasks of a filter, newest first, in the order of list_tasks; only those that the caller may operate on.';

CREATE OR REPLACE FUNCTION tasker._find_late_work(p_limit integer, p_now timestamp with time zone)
 RETURNS bigint
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
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
comment on function tasker._find_late_work(integer,timestamp with time zone) is 'Walks on, notes for the jobs that come after it which steps and tasks are late, hang or miss their message, and says how many. It locks none of them: the jobs look again.';
revoke all on function tasker._find_late_work(integer,timestamp with time zone) from public;

CREATE OR REPLACE FUNCTION tasker._find_template(p_namespace text, p_name text, p_version text)
 RETURNS tasker.templates
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
  v_template tasker.templates;
begin
  if p_version is null then
    select t.* into v_template
    from tasker.templates t
    join tasker.namespaces n on n.namespace_id = t.namespace_id
    where n.name = p_namespace and t.name = p_name and t.retired_at is null
    order by t.version_key desc
    limit 1;
  else
    select t.* into v_template
    from tasker.templates t
    join tasker.namespaces n on n.namespace_id = t.namespace_id
    where n.name = p_namespace and t.name = p_name and t.version = p_version;
  end if;
  if v_template.template_id is null or not tasker._may(p_namespace, 'read') then
    perform tasker._raise_refused(tasker._template_not_found(p_namespace, p_name, p_version));
  end if;
  return v_template;
end
$function$;

CREATE OR REPLACE FUNCTION tasker._finish_sql_step(p_run tasker.sql_runs, p_outcome jsonb)
 RETURNS jsonb
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
  v_finished tasker._finished;
begin
  -- The engine's own call, whoever called it: no grant is asked for.
  perform tasker._act_for(current_user::text);
  v_finished := tasker._finish(format('database:%s', p_run.pid), jsonb_build_array(jsonb_build_object('step_uuid', p_run.step_uuid, 'attempt', p_run.attempt) || p_outcome),
    0, interval '0', '{}', null, null, tasker._now());
  perform tasker._act_for(null);
  perform tasker._raise_refused(v_finished.refused);
  return v_finished.verdicts -> 0;
end
$function$;
comment on function tasker._finish_sql_step(tasker.sql_runs,jsonb) is 'Records the outcome of a claimed SQL function and gives the verdict.';
revoke all on function tasker._finish_sql_step(tasker.sql_runs,jsonb) from public;

CREATE OR REPLACE FUNCTION tasker._fire_due_timers(p_limit integer, p_now timestamp with time zone, p_actor text)
 RETURNS bigint
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
  v_due uuid[];
begin
  -- Looked at without a lock: the steps are locked first, in the order of their keys.
  v_due := array(select t.step_uuid from tasker.timers t where t.due_at <= p_now order by t.due_at, t.step_uuid limit p_limit);
  if cardinality(v_due) = 0 then
    return 0;
  end if;
  perform tasker._raise_refused(tasker._fire_timers(v_due, jsonb_build_object('fired_at', p_now), p_now, p_actor));
  -- One whose step somebody else has locked is left for the next round.
  return cardinality(v_due) - (
    select count(*) from unnest(v_due) u(step_uuid) cross join lateral (select from tasker.timers t where t.step_uuid = u.step_uuid and t.due_at <= p_now) t);
end
$function$;
comment on function tasker._fire_due_timers(integer,timestamp with time zone,text) is 'Ends the waiting of steps whose time has come: timers complete, signals that have not come fail their step or give it their default; says how many.';
revoke all on function tasker._fire_due_timers(integer,timestamp with time zone,text) from public;

CREATE OR REPLACE FUNCTION tasker._fire_timers(step_uuids uuid[], fired jsonb, now timestamp with time zone, actor text)
 RETURNS text[]
 LANGUAGE c
AS 'MODULE_PATHNAME', $function$_fire_timers_wrapper$function$;
revoke all on function tasker._fire_timers(uuid[],jsonb,timestamp with time zone,text) from public;

CREATE OR REPLACE FUNCTION tasker._fold(p_after bigint, p_to bigint, p_task_uuids uuid[])
 RETURNS bigint
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
  v_folded record;
begin
  v_folded := tasker._fold_history(p_after, p_to, p_task_uuids);
  if v_folded.template_ids is not null then
    perform tasker._trim_slowest(v_folded.template_ids, v_folded.are_tasks, v_folded.starts_at);
  end if;
  return v_folded.rows_count;
end
$function$;
comment on function tasker._fold(bigint,bigint,uuid[]) is 'Folds the history rows of a stretch of numbers, of all tasks or of those given, and says how many they were.';
revoke all on function tasker._fold(bigint,bigint,uuid[]) from public;

CREATE OR REPLACE FUNCTION tasker._fold_history(p_after bigint, p_to bigint, p_task_uuids uuid[], OUT rows_count bigint, OUT template_ids integer[], OUT are_tasks boolean[], OUT starts_at timestamp with time zone[])
 RETURNS record
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET enable_seqscan TO 'off'
 SET enable_hashjoin TO 'on'
 SET jit TO 'off'
 SET plan_cache_mode TO 'force_generic_plan'
AS $function$
declare
  v_kept constant integer := tasker._slowest_kept();
begin
  with folded as materialized (
    select r.* from tasker._transitions_read(p_after, p_to, p_task_uuids) r
  ), counted as (
    insert into tasker.statistics_buckets as b (template_id, starts_at, number, completed, failed, cancelled, resolved, attempts, retries, runs, run_us, longest_run_us,
      run_histogram, waits, wait_us)
    select f.template_id, f.hour, f.number, count(*) filter (where f.to_state = 'complete'), count(*) filter (where f.to_state = 'error'),
      count(*) filter (where f.to_state = 'cancelled'), count(*) filter (where f.to_state = 'resolved_manually'), sum(f.starts), sum(f.retries), count(f.run_us),
      coalesce(sum(f.run_us), 0), coalesce(max(f.run_us), 0), tasker._histogram(array_agg(f.run_us)), count(f.wait_us), coalesce(sum(f.wait_us), 0)
    from folded f
    where f.run_us is not null or f.starts > 0 or f.retries > 0 or f.to_state in ('complete', 'error', 'cancelled', 'resolved_manually')
    group by f.template_id, f.hour, f.number
    on conflict on constraint statistics_buckets_pkey do update
      set completed = b.completed + excluded.completed, failed = b.failed + excluded.failed, cancelled = b.cancelled + excluded.cancelled,
        resolved = b.resolved + excluded.resolved, attempts = b.attempts + excluded.attempts, retries = b.retries + excluded.retries, runs = b.runs + excluded.runs,
        run_us = b.run_us + excluded.run_us, longest_run_us = greatest(b.longest_run_us, excluded.longest_run_us),
        run_histogram = tasker._sum_histograms(array[b.run_histogram, excluded.run_histogram]), waits = b.waits + excluded.waits,
        wait_us = b.wait_us + excluded.wait_us
    returning 1
  ), gauged as (
    insert into tasker.state_counts as c (template_id, is_task, state, count)
    select f.template_id, f.number = 0, s.state, sum(s.change)
    from folded f
    cross join lateral (values (f.leaves, -1), (f.enters, 1)) s(state, change)
    where s.state is not null
    group by f.template_id, f.number = 0, s.state
    having sum(s.change) <> 0
    on conflict on constraint state_counts_pkey do update set count = c.count + excluded.count
    returning 1
  ), slow as (
    insert into tasker.slowest_runs as r (template_id, is_task, starts_at, run_us, key, attempt, attempts_used, state, started_at, finished_at)
    select f.template_id, f.is_task, f.hour, f.run_us, f.key, f.attempt,
      (select s.attempts_used from tasker.steps s where s.step_uuid = f.key and not f.is_task), f.to_state, f.began_at, f.at
    from (
      select f.*, f.number = 0 as is_task, row_number() over (partition by f.template_id, f.number = 0, f.hour order by f.run_us desc) as place
      from folded f
      where f.run_us is not null and f.to_state not in ('waiting_for_retry', 'enqueued')
    ) f
    where f.place <= v_kept and f.run_us > coalesce((
        select k.run_us from tasker.slowest_runs k
        where k.template_id = f.template_id and k.is_task = f.is_task and k.starts_at = f.hour
        order by k.run_us desc offset v_kept - 1 limit 1), -1)
    returning r.template_id, r.is_task, r.starts_at
  )
  select (select count(*) from folded), array_agg(s.template_id), array_agg(s.is_task), array_agg(s.starts_at)
  into rows_count, template_ids, are_tasks, starts_at
  from (select distinct s.template_id, s.is_task, s.starts_at from slow s) s
  where (select count(*) from counted) + (select count(*) from gauged) >= 0;
end
$function$;
comment on function tasker._fold_history(bigint,bigint,uuid[]) is 'Adds the history rows of a stretch of numbers, of all tasks or of those given, to the figures: how many they were, and which lists of the slowest were added to.';
revoke all on function tasker._fold_history(bigint,bigint,uuid[]) from public;

CREATE OR REPLACE FUNCTION tasker._fold_leaving(p_suffix text)
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
  v_folded_seq bigint;
  v_task_uuids uuid[];
begin
  -- Nobody else folds meanwhile.
  select c.folded_seq into v_folded_seq from tasker.statistics_cursors c for update;
  v_folded_seq := coalesce(v_folded_seq, 0);
  execute format('select array_agg(distinct l.task_uuid)
    from (
      select tasker._task_of(h.step_uuid) as task_uuid from tasker.%I h where h.seq > $1
      union all
      select h.task_uuid from tasker.%I h where h.seq > $1
    ) l
    where not exists (select from tasker.%I k where k.task_uuid = l.task_uuid)', 'step_transitions_' || p_suffix, 'task_transitions_' || p_suffix, 'tasks_' || p_suffix || '_kept')
  into v_task_uuids using v_folded_seq;
  if v_task_uuids is not null then
    perform tasker._fold(v_folded_seq, 9223372036854775807, v_task_uuids);
  end if;
end
$function$;
comment on function tasker._fold_leaving(text) is 'Folds what has not been folded yet of the tasks of a range that leave, when nobody can write to it any more: the rows of tasks that stay keep their numbers and are folded in their turn.';
revoke all on function tasker._fold_leaving(text) from public;

CREATE OR REPLACE FUNCTION tasker._fold_statistics(p_limit integer, p_now timestamp with time zone, OUT processed bigint, OUT more boolean)
 RETURNS record
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
  -- A row costs a fraction of what other jobs do for one; a statement that reads the youngest pages has a price of its own.
  v_most constant bigint := p_limit * 20::bigint;
  v_cursor tasker.statistics_cursors;
  v_to bigint;
begin
  processed := 0;
  more := false;
  v_cursor := tasker._settle_statistics(p_now);
  if v_cursor.settled_seq <= v_cursor.folded_seq
    or v_cursor.settled_seq - v_cursor.folded_seq < v_most and p_now >= v_cursor.rested_at and p_now < v_cursor.rested_at + tasker._statistics_pause() then
    return;
  end if;
  v_to := least(v_cursor.settled_seq, v_cursor.folded_seq + v_most);
  more := v_to < v_cursor.settled_seq;
  processed := tasker._fold(v_cursor.folded_seq, v_to, null);
  update tasker.statistics_cursors c
  set folded_seq = v_to, as_of = case when _fold_statistics.more then c.as_of else v_cursor.settled_at end, rested_at = case when not _fold_statistics.more then p_now end;
exception
  -- Leaving the block takes everything back. Figures are never worth the rest of a round.
  when others then
    raise warning 'tasker: statistics are not folded: %', sqlerrm;
    processed := 0;
    more := false;
end
$function$;
comment on function tasker._fold_statistics(integer,timestamp with time zone) is 'Folds settled history rows, at most twenty times p_limit, and says how many and whether there are more. Fewer than that wait for five seconds.';
revoke all on function tasker._fold_statistics(integer,timestamp with time zone) from public;

CREATE OR REPLACE FUNCTION tasker._forget_domain_events(p_limit integer, p_now timestamp with time zone)
 RETURNS bigint
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
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
comment on function tasker._forget_domain_events(integer,timestamp with time zone) is 'Forgets events that are older than tasker.domain_event_days, their messages and what was set aside of them, and says how much that was.';
revoke all on function tasker._forget_domain_events(integer,timestamp with time zone) from public;

CREATE OR REPLACE FUNCTION tasker._forget_workers(p_limit integer, p_now timestamp with time zone)
 RETURNS bigint
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
  v_count bigint;
begin
  delete from tasker.workers w
  where w.worker_id = any (array(
    select w.worker_id from tasker.workers w
    where greatest(w.last_seen_at, w.retired_at) < p_now - tasker._workers_are_forgotten_after()
    order by w.worker_id
    limit p_limit
    for update skip locked));
  get diagnostics v_count = row_count;
  return v_count;
end
$function$;
comment on function tasker._forget_workers(integer,timestamp with time zone) is 'Takes workers off the list that have been retired or silent for long, and says how many; one that registers again is back.';
revoke all on function tasker._forget_workers(integer,timestamp with time zone) from public;

CREATE OR REPLACE FUNCTION tasker._gauged(p_state text)
 RETURNS text
 LANGUAGE sql
 IMMUTABLE PARALLEL SAFE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
  -- History begins where a step or a task leaves pending.
  select p_state where p_state <> 'pending' and not tasker._is_terminal(p_state)
$function$;
comment on function tasker._gauged(text) is 'A state if those in it are counted: it is neither terminal nor pending.';
revoke all on function tasker._gauged(text) from public;

CREATE OR REPLACE FUNCTION tasker._has_compensations(template_id integer)
 RETURNS boolean
 LANGUAGE c
 STABLE STRICT
AS 'MODULE_PATHNAME', $function$_has_compensations_wrapper$function$;
revoke all on function tasker._has_compensations(integer) from public;

CREATE OR REPLACE FUNCTION tasker._has_sql_steps(p_namespace_id integer, p_queue_name text)
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
begin
  insert into tasker.sql_namespaces (namespace_id) values (p_namespace_id) on conflict on constraint sql_namespaces_pkey do nothing;
  perform tasker._make_sql_index(p_queue_name);
end
$function$;
comment on function tasker._has_sql_steps(integer,text) is 'Notes that a namespace has a template with SQL functions, so that they are looked for.';
revoke all on function tasker._has_sql_steps(integer,text) from public;

CREATE OR REPLACE FUNCTION tasker._hidden_until(lease_expires_at timestamp with time zone)
 RETURNS timestamp with time zone
 LANGUAGE c
 IMMUTABLE PARALLEL SAFE STRICT
AS 'MODULE_PATHNAME', $function$_hidden_until_wrapper$function$;
revoke all on function tasker._hidden_until(timestamp with time zone) from public;

CREATE OR REPLACE FUNCTION tasker._histogram(microseconds bigint[])
 RETURNS bigint[]
 LANGUAGE c
 IMMUTABLE PARALLEL SAFE STRICT
AS 'MODULE_PATHNAME', $function$_histogram_wrapper$function$;
revoke all on function tasker._histogram(bigint[]) from public;

CREATE OR REPLACE FUNCTION tasker._instance_number(template_id integer, number integer, instance integer)
 RETURNS integer
 LANGUAGE c
 STABLE STRICT
AS 'MODULE_PATHNAME', $function$_instance_number_wrapper$function$;
revoke all on function tasker._instance_number(integer,integer,integer) from public;

CREATE OR REPLACE FUNCTION tasker._instance_of(template_id integer, number integer)
 RETURNS integer
 LANGUAGE c
 STABLE STRICT
AS 'MODULE_PATHNAME', $function$_instance_of_wrapper$function$;
revoke all on function tasker._instance_of(integer,integer) from public;

CREATE OR REPLACE FUNCTION tasker._is_alone()
 RETURNS boolean
 LANGUAGE sql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
  select pg_try_advisory_xact_lock(1414742859, 1)
$function$;
comment on function tasker._is_alone() is 'Whether no other session is at maintenance in this database; none will be until this transaction ends.';
revoke all on function tasker._is_alone() from public;

CREATE OR REPLACE FUNCTION tasker._is_compensation(template_id integer, number integer)
 RETURNS boolean
 LANGUAGE c
 STABLE STRICT
AS 'MODULE_PATHNAME', $function$_is_compensation_wrapper$function$;
revoke all on function tasker._is_compensation(integer,integer) from public;

CREATE OR REPLACE FUNCTION tasker._is_due(p_job text, p_now timestamp with time zone)
 RETURNS boolean
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
  v_today constant date := (p_now at time zone 'UTC')::date;
begin
  case p_job
    when 'make_missing_queues' then
      return exists (
        select from tasker.namespaces n
        where to_regclass(format('pgmq.%I', 'q_' || n.queue_name)) is null
          or n.events_queue_name is not null and to_regclass('pgmq.' || quote_ident('q_' || n.events_queue_name)) is null);
    when 'make_partitions' then
      return exists (
        select from (values (v_today), (v_today + 1)) d(day)
        where not exists (select from tasker._partition_ranges() r where r.starts_on <= d.day and r.ends_on > d.day));
    when 'run_schedules' then
      return exists (select from tasker.schedules s where s.next_at <= p_now and s.paused_at is null);
    when 'start_due_tasks' then
      return exists (select from tasker.scheduled_tasks s where s.run_at <= p_now);
    when 'start_held_tasks' then
      return exists (
        select from tasker.namespaces n
        cross join lateral (select from tasker.held_tasks h where h.namespace_id = n.namespace_id limit 1) h
        where n.paused_at is null);
    when 'fire_timers' then
      return exists (select from tasker.timers t where t.due_at <= p_now);
    when 'evaluate' then
      return exists (select from tasker.resting_outcomes r);
    when 'end_sql_runs' then
      return exists (select from tasker._sql_runs_at_end(p_now));
    when 'find_late_work' then
      return true;
    when 'end_leases', 'time_out_attempts', 'time_out_tasks', 'cancel_instances', 'cancel_children', 'settle_parents', 'start_children', 'send_lost_messages' then
      return exists (select from tasker.maintenance_found f where f.job = p_job);
    when 'bulk_jobs' then
      return exists (select from tasker.bulk_jobs j where j.finished_at is null);
    when 'note_event_floor' then
      return tasker._event_floor_is_due();
    when 'forget_answers' then
      return exists (select from tasker.finish_requests f where f.answered_at < p_now - interval '1 hour');
    when 'forget_workers' then
      return exists (select from tasker.workers w where greatest(w.last_seen_at, w.retired_at) < p_now - tasker._workers_are_forgotten_after());
    when 'forget_domain_events' then
      return exists (select from tasker.domain_events d where d.event_uuid < tasker._first_task_uuid(tasker._domain_events_before(p_now)));
    when 'fold_statistics' then
      return tasker._statistics_are_due(p_now);
    when 'roll_up_statistics' then
      return exists (select from tasker.statistics_cursors c where c.rolled_up_at is distinct from date_trunc('hour', p_now, 'UTC'));
    when 'drop_partitions' then
      return exists (select from tasker._due_range(p_now));
    when 'end_round' then
      -- Health asks once a minute; noting each round would be a write each second of an idle database.
      return not exists (select from tasker.maintenance_cursors c where c.walked_at > p_now - interval '10 seconds');
  end case;
end
$function$;
comment on function tasker._is_due(text,timestamp with time zone) is 'Whether a job of maintenance has something to do. It reads a row or two, and locks and writes nothing.';
revoke all on function tasker._is_due(text,timestamp with time zone) from public;

CREATE OR REPLACE FUNCTION tasker._is_dynamic(template_id integer)
 RETURNS boolean
 LANGUAGE c
 STABLE STRICT
AS 'MODULE_PATHNAME', $function$_is_dynamic_wrapper$function$;
revoke all on function tasker._is_dynamic(integer) from public;

CREATE OR REPLACE FUNCTION tasker._is_event_pattern(pattern text)
 RETURNS boolean
 LANGUAGE c
 IMMUTABLE PARALLEL SAFE STRICT
AS 'MODULE_PATHNAME', $function$_is_event_pattern_wrapper$function$;
revoke all on function tasker._is_event_pattern(text) from public;

CREATE OR REPLACE FUNCTION tasker._is_in_sql_step()
 RETURNS boolean
 LANGUAGE c
 STRICT
AS 'MODULE_PATHNAME', $function$_is_in_sql_step_wrapper$function$;
revoke all on function tasker._is_in_sql_step() from public;

CREATE OR REPLACE FUNCTION tasker._is_late(template_id integer, number integer)
 RETURNS boolean
 LANGUAGE c
 STABLE STRICT
AS 'MODULE_PATHNAME', $function$_is_late_wrapper$function$;
revoke all on function tasker._is_late(integer,integer) from public;

CREATE OR REPLACE FUNCTION tasker._is_limited()
 RETURNS boolean
 LANGUAGE c
 STABLE STRICT
AS 'MODULE_PATHNAME', $function$_is_limited_wrapper$function$;
revoke all on function tasker._is_limited() from public;

CREATE OR REPLACE FUNCTION tasker._is_tolerated(p_template_id integer, p_number integer, p_steps_count integer)
 RETURNS boolean
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
begin
  -- Only instances are. Of others a session is not asked whose library is older than instances, and lacks the function.
  if p_number <= p_steps_count then
    return false;
  end if;
  return tasker._tolerates_failure(p_template_id, p_number);
end
$function$;
comment on function tasker._is_tolerated(integer,integer,integer) is 'Whether a step that failed for good, of a template with so many steps, is none that its task fails of.';
revoke all on function tasker._is_tolerated(integer,integer,integer) from public;

CREATE OR REPLACE FUNCTION tasker._key_hash(p_key text)
 RETURNS bytea
 LANGUAGE sql
 IMMUTABLE PARALLEL SAFE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
  select case when p_key ~ '^[0-9a-f]{64}$' then decode(p_key, 'hex') else sha256(convert_to(p_key, 'UTF8')) end
$function$;
comment on function tasker._key_hash(text) is 'The SHA-256 of a key, or, of 64 hexadecimal digits, what they say: a key begins with tsk_, so that is none.';
revoke all on function tasker._key_hash(text) from public;

CREATE OR REPLACE FUNCTION tasker._key_problem(p_key tasker.api_keys, p_now timestamp with time zone)
 RETURNS text
 LANGUAGE sql
 IMMUTABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
  select case when p_key.revoked_at is not null then 'revoked' when p_key.expires_at <= p_now then 'expired' end
$function$;
comment on function tasker._key_problem(tasker.api_keys,timestamp with time zone) is 'Why a key does not count at a time: revoked or expired; null when it does.';
revoke all on function tasker._key_problem(tasker.api_keys,timestamp with time zone) from public;

CREATE OR REPLACE FUNCTION tasker._key_row(p_key tasker.api_keys, p_now timestamp with time zone)
 RETURNS tasker.api_key
 LANGUAGE sql
 IMMUTABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
  select (p_key.name, p_key.permissions, p_key.namespaces, p_key.created_by, p_key.created_at, p_key.expires_at, p_key.revoked_at, p_key.revoked_by, p_key.used_at,
    tasker._key_problem(p_key, p_now))::tasker.api_key
$function$;
comment on function tasker._key_row(tasker.api_keys,timestamp with time zone) is 'A key as it is shown: without its hash.';
revoke all on function tasker._key_row(tasker.api_keys,timestamp with time zone) from public;

CREATE OR REPLACE FUNCTION tasker._known_privileges()
 RETURNS text[]
 LANGUAGE sql
 IMMUTABLE PARALLEL SAFE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
  select array['read', 'create', 'work', 'operate']
$function$;
comment on function tasker._known_privileges() is 'What can be granted in a namespace.';
revoke all on function tasker._known_privileges() from public;

CREATE OR REPLACE FUNCTION tasker._known_timezone(p_timezone text)
 RETURNS text
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
  v_timezone text;
begin
  -- The functions for times take more than names: an abbreviation, or an offset with the sign turned round. Neither says when the clocks change.
  select z.name into v_timezone from pg_timezone_names z where lower(z.name) = lower(p_timezone) order by z.name = p_timezone desc limit 1;
  if v_timezone is null then
    perform tasker._raise('22023', format('time zone %s is not known here', coalesce(p_timezone, 'null')), null,
      'Give a name such as Europe/Berlin or UTC; the view pg_timezone_names lists those of this server.');
  end if;
  return v_timezone;
end
$function$;
comment on function tasker._known_timezone(text) is 'A time zone''s name as the server writes it; refuses what is none (22023).';
revoke all on function tasker._known_timezone(text) from public;

CREATE OR REPLACE FUNCTION tasker._last_cron(cron text, timezone text, after timestamp with time zone, until timestamp with time zone)
 RETURNS timestamp with time zone
 LANGUAGE c
 STABLE PARALLEL SAFE STRICT
AS 'MODULE_PATHNAME', $function$_last_cron_wrapper$function$;
revoke all on function tasker._last_cron(text,text,timestamp with time zone,timestamp with time zone) from public;

CREATE OR REPLACE FUNCTION tasker._last_drawn_seq()
 RETURNS bigint
 LANGUAGE sql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
  select s.last_value - (not s.is_called)::integer from tasker.transitions_seq s
$function$;
comment on function tasker._last_drawn_seq() is 'The last number that was drawn for a history row; on a standby it may be up to 32 too high.';
revoke all on function tasker._last_drawn_seq() from public;

CREATE OR REPLACE FUNCTION tasker._late_steps(template_id integer)
 RETURNS integer[]
 LANGUAGE c
 STABLE STRICT
AS 'MODULE_PATHNAME', $function$_late_steps_wrapper$function$;
revoke all on function tasker._late_steps(integer) from public;

CREATE OR REPLACE FUNCTION tasker._left_over_instances(p_task_uuid uuid, p_template_id integer)
 RETURNS TABLE(step_uuid uuid)
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
begin
  return query
    with recursive found as (
      select g.number as definition_number, i.instance, s.step_uuid
      from unnest(tasker._many_steps(p_template_id)) g(number)
      cross join lateral (
        select coalesce(s.instances, 0) + 1 as instance from tasker.steps s where s.step_uuid = tasker._step_uuid(p_task_uuid, g.number)
      ) i
      cross join lateral (
        select s.step_uuid from tasker.steps s
        where s.step_uuid = tasker._step_uuid(p_task_uuid, tasker._instance_number(p_template_id, g.number, i.instance)) and s.state = 'pending'
      ) s
      union all
      select f.definition_number, f.instance + 1, s.step_uuid
      from found f
      cross join lateral (
        select s.step_uuid from tasker.steps s
        where s.step_uuid = tasker._step_uuid(p_task_uuid, tasker._instance_number(p_template_id, f.definition_number, f.instance + 1)) and s.state = 'pending'
      ) s
    )
    select f.step_uuid from found f;
end
$function$;
comment on function tasker._left_over_instances(uuid,integer) is 'The pending rows of a task that are instances a rerun did not ask for.';
revoke all on function tasker._left_over_instances(uuid,integer) from public;

CREATE OR REPLACE FUNCTION tasker._let_leave(p_suffix text, p_starts_on date, p_ends_on date, p_now timestamp with time zone, OUT dropped boolean, OUT is_kept boolean)
 RETURNS record
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET lock_timeout TO '200ms'
 SET enable_seqscan TO 'on'
 SET enable_hashjoin TO 'on'
 SET enable_material TO 'on'
AS $function$
declare
  -- More than this are too many to copy while others wait.
  v_most_running constant bigint := 10000;
  v_batch constant integer := 10000;
  v_table record;
  v_task_uuids uuid[];
begin
  dropped := exists (select from tasker._tasks_by_retention(p_suffix, p_ends_on, p_now, true, 1));
  execute format('select not $1 and exists (select from tasker.%I)', 'tasks_' || p_suffix) into is_kept using dropped;
  if is_kept then
    return;
  end if;
  dropped := true;
  perform tasker._make_partition_tables(p_suffix || '_kept');
  for v_table in
    values ('tasks', 'task_uuid'), ('steps', 'step_uuid'), ('task_transitions', 'task_uuid'), ('step_transitions', 'step_uuid'), ('dead_letters', 'task_uuid')
  loop
    -- Tells PostgreSQL that it needn't read the rows again to attach the table.
    execute format('alter table tasker.%1$I add constraint row_is_in_its_range check (%2$I >= %3$L and %2$I < %4$L)', v_table.column1 || '_' || p_suffix || '_kept',
      v_table.column2, tasker._partition_bound(p_starts_on), tasker._partition_bound(p_ends_on));
  end loop;

  for v_task_uuids in
    select array_agg(t.task_uuid)
    from (
      select s.task_uuid, (row_number() over (order by s.task_uuid) - 1) / v_batch as batch
      from tasker._tasks_by_retention(p_suffix, p_ends_on, p_now, false) s
    ) t
    group by t.batch
    order by t.batch
  loop
    perform tasker._keep_tasks(p_suffix, v_task_uuids, true);
  end loop;
  perform tasker._keep_dead_letters(p_suffix, 'for no key update of d skip locked');
  perform tasker._export_leaving(p_suffix, p_starts_on, p_ends_on, p_now);

  execute format('lock table tasker.%I, tasker.%I in share mode', 'tasks_' || p_suffix, 'dead_letters_' || p_suffix);
  execute format('select array_agg(s.task_uuid) from tasker._tasks_by_retention($1, $2, $3, false) s
    where not exists (select from tasker.%I k where k.task_uuid = s.task_uuid)', 'tasks_' || p_suffix || '_kept')
  into v_task_uuids using p_suffix, p_ends_on, p_now;
  if cardinality(v_task_uuids) > v_most_running then
    perform tasker._raise('55000', format('%s tasks of the range are running', cardinality(v_task_uuids)));
  end if;
  execute format('lock table tasker.%I, tasker.%I, tasker.%I in share mode', 'steps_' || p_suffix, 'task_transitions_' || p_suffix, 'step_transitions_' || p_suffix);
  perform tasker._keep_tasks(p_suffix, v_task_uuids, false);
  perform tasker._keep_dead_letters(p_suffix, '');
  execute format('delete from tasker.idempotency_keys i
    where i.task_uuid >= $1 and i.task_uuid < $2 and not exists (select from tasker.%I k where k.task_uuid = i.task_uuid)', 'tasks_' || p_suffix || '_kept')
  using tasker._partition_bound(p_starts_on), tasker._partition_bound(p_ends_on);
  execute format('delete from tasker.signals g
    where g.task_uuid >= $1 and g.task_uuid < $2 and not exists (select from tasker.%I k where k.task_uuid = g.task_uuid)', 'tasks_' || p_suffix || '_kept')
  using tasker._partition_bound(p_starts_on), tasker._partition_bound(p_ends_on);
  execute format('delete from tasker.child_tasks c
    where c.task_uuid >= $1 and c.task_uuid < $2 and not exists (select from tasker.%I k where k.task_uuid = c.task_uuid)', 'tasks_' || p_suffix || '_kept')
  using tasker._partition_bound(p_starts_on), tasker._partition_bound(p_ends_on);
  perform tasker._fold_leaving(p_suffix);
  is_kept := tasker._exchange_partitions(p_suffix, p_starts_on, p_ends_on);
end
$function$;

CREATE OR REPLACE FUNCTION tasker._live_sql_runners()
 RETURNS integer
 LANGUAGE sql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
  select count(*)::integer
  from pg_stat_activity a
  where a.datname = current_database() and (a.backend_type = 'tasker sql runner' or a.application_name = 'tasker-server sql steps')
$function$;
comment on function tasker._live_sql_runners() is 'How many sessions are there that run SQL functions of steps in this database, as they name themselves.';
revoke all on function tasker._live_sql_runners() from public;

CREATE OR REPLACE FUNCTION tasker._live_workers(p_namespace text, p_handler text, p_now timestamp with time zone)
 RETURNS integer
 LANGUAGE sql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
  select case
    when p_handler like 'sql:%' then tasker._live_sql_runners()
    else (
      select count(*)::integer
      from tasker.workers w
      where w.retired_at is null and w.last_seen_at >= p_now - tasker._worker_silence() and p_namespace = any (w.namespaces) and p_handler = any (w.handlers)
    ) end
$function$;
comment on function tasker._live_workers(text,text,timestamp with time zone) is 'How many live workers serve a handler in a namespace; of a SQL function, how many sessions run such.';

CREATE OR REPLACE FUNCTION tasker._lock_schedule(p_namespace text, p_name text)
 RETURNS tasker.schedules
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
  v_schedule tasker.schedules;
begin
  if tasker._may(p_namespace, 'read') then
    perform tasker._require_may(p_namespace, 'operate');
    select s.* into v_schedule
    from tasker.namespaces n
    join tasker.schedules s on s.namespace_id = n.namespace_id
    where n.name = p_namespace and s.name = p_name
    for update of s;
  end if;
  if v_schedule.schedule_uuid is null then
    perform tasker._raise('TK004', format('schedule %s not found in namespace %s', coalesce(p_name, 'null'), coalesce(p_namespace, 'null')), null,
      'tasker.list_schedules() shows the schedules there are.');
  end if;
  return v_schedule;
end
$function$;
comment on function tasker._lock_schedule(text,text) is 'Locks a schedule for a caller who may operate in its namespace (42501); to one who may not even read there it isn''t there (TK004).';
revoke all on function tasker._lock_schedule(text,text) from public;

CREATE OR REPLACE FUNCTION tasker._lock_tasks_and_steps(p_task_uuids uuid[], OUT is_whole boolean, OUT busy_step_uuid uuid)
 RETURNS record
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
  v_before bigint;
  v_others bigint := 0;
  v_after bigint;
  -- Of tasks whose steps are made while they run, the last that is in the template.
  v_last uuid[] := array(
    select tasker._step_uuid(t.task_uuid, x.steps_count)
    from unnest(p_task_uuids) u(task_uuid)
    cross join lateral (select t.task_uuid, t.template_id from tasker.tasks t where t.task_uuid = u.task_uuid) t
    cross join lateral (select x.steps_count from tasker.templates x where x.template_id = t.template_id and tasker._is_dynamic(t.template_id)) x
    order by t.task_uuid);
  -- Those of the template that everybody locks after its others.
  v_late uuid[] := array(
    select l.step_uuid
    from unnest(p_task_uuids) u(task_uuid)
    cross join lateral (select t.template_id from tasker.tasks t where t.task_uuid = u.task_uuid) t
    cross join lateral unnest(tasker._late_steps(t.template_id)) n(number)
    cross join lateral (select tasker._step_uuid(u.task_uuid, n.number) as step_uuid) l
    order by l.step_uuid);
  v_count bigint;
begin
  if cardinality(v_last) > 0 then
    -- Instances at work come first: whoever has one may wait for the step that stands for it.
    perform s.step_uuid
    from unnest(v_last) u(last)
    cross join lateral (
      select s.step_uuid from tasker.steps s
      where s.step_uuid > u.last and s.step_uuid <= tasker._last_step_uuid(tasker._task_of(u.last)) and s.state <> 'pending' and not tasker._is_terminal(s.state)
      order by s.step_uuid
      for no key update
    ) s;
  end if;
  -- Task after task, as a task's steps follow it in the order of keys.
  select count(*) into v_before
  from (
    select u.task_uuid, coalesce((select l.last from unnest(v_last) l(last) where tasker._task_of(l.last) = u.task_uuid), tasker._last_step_uuid(u.task_uuid)) as last
    from unnest(p_task_uuids) u(task_uuid)
    order by u.task_uuid
  ) u
  cross join lateral (
    select s.step_uuid from tasker.steps s
    where s.step_uuid > u.task_uuid and s.step_uuid <= u.last and (v_late = '{}' or not tasker._is_late(s.template_id, tasker._number_of(s.step_uuid)))
    order by s.step_uuid
    for no key update
  ) s;
  select count(*) into v_count
  from unnest(v_late) l(step_uuid)
  cross join lateral (select s.step_uuid from tasker.steps s where s.step_uuid = l.step_uuid for no key update) s;
  v_before := v_before + v_count;
  if cardinality(v_last) > 0 then
    -- No more are let go while the steps that stand for them are locked. One that was in between may be had by someone who waits for these.
    select count(*) into v_others
    from unnest(v_last) u(last)
    cross join lateral (
      select s.step_uuid from tasker.steps s
      where s.step_uuid > u.last and s.step_uuid <= tasker._last_step_uuid(tasker._task_of(u.last))
      order by s.step_uuid
      for no key update skip locked
    ) s;
  end if;
  perform t.task_uuid
  from (select u.task_uuid from unnest(p_task_uuids) u(task_uuid) order by u.task_uuid) u
  cross join lateral (select t.task_uuid from tasker.tasks t where t.task_uuid = u.task_uuid for no key update) t;
  select count(*) into v_after
  from unnest(p_task_uuids) u(task_uuid)
  cross join lateral (
    select s.step_uuid from tasker.steps s where s.step_uuid > u.task_uuid and s.step_uuid <= tasker._last_step_uuid(u.task_uuid)
  ) s;
  is_whole := v_before + v_others = v_after;
  if not is_whole and cardinality(v_last) > 0 then
    select s.step_uuid into busy_step_uuid
    from unnest(v_last) u(last)
    cross join lateral (
      select s.step_uuid from tasker.steps s
      where s.step_uuid > u.last and s.step_uuid <= tasker._last_step_uuid(tasker._task_of(u.last))
      except
      select s.step_uuid
      from (
        select s.step_uuid from tasker.steps s
        where s.step_uuid > u.last and s.step_uuid <= tasker._last_step_uuid(tasker._task_of(u.last))
        for no key update skip locked
      ) s
    ) s
    limit 1;
  end if;
end
$function$;
comment on function tasker._lock_tasks_and_steps(uuid[]) is 'Locks the steps of tasks, then the tasks, and says whether these are all; if they are not, one of the instances that others have, unless steps only came in between.';
revoke all on function tasker._lock_tasks_and_steps(uuid[]) from public;

CREATE OR REPLACE FUNCTION tasker._lock_to_operate(p_task_uuid uuid)
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
  v_namespace constant text := tasker._checked_namespace(p_task_uuid);
begin
  if not tasker._may(v_namespace, 'read') then
    -- As _lock_whole_task refuses the key of no task.
    perform tasker._raise('TK001', format('task %s not found', p_task_uuid), null, 'tasker.list_tasks() shows the tasks there are.');
  end if;
  perform tasker._require_may(v_namespace, 'operate');
  perform tasker._lock_whole_task(p_task_uuid);
end
$function$;
comment on function tasker._lock_to_operate(uuid) is 'Locks a task with every step it has for a caller who may operate in its namespace (42501); to one who may not even read there it isn''t there (TK001).';
revoke all on function tasker._lock_to_operate(uuid) from public;

CREATE OR REPLACE FUNCTION tasker._lock_whole_task(p_task_uuid uuid)
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
begin
  perform tasker._lock_whole_tasks(array[p_task_uuid]);
  if not exists (select from tasker.tasks t where t.task_uuid = p_task_uuid) then
    perform tasker._raise('TK001', format('task %s not found', p_task_uuid), null, 'tasker.list_tasks() shows the tasks there are.');
  end if;
end
$function$;
comment on function tasker._lock_whole_task(uuid) is 'Locks a task with every step it has (TK001).';

CREATE OR REPLACE FUNCTION tasker._lock_whole_tasks(p_task_uuids uuid[])
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
  v_locked record;
begin
  perform tasker._wait_for_turn(p_task_uuids);
  loop
    begin
      v_locked := tasker._lock_tasks_and_steps(p_task_uuids);
      if v_locked.is_whole then
        return;
      end if;
      raise exception using errcode = 'TK999', message = 'steps came in between';
    exception
      -- Leaving the block gives the locks back.
      when sqlstate 'TK999' then null;
    end;
    continue when v_locked.busy_step_uuid is null;
    begin
      -- Whoever has it may wait for what was just given back, and would never get it from callers that take it again at once.
      perform s.step_uuid from tasker.steps s where s.step_uuid = v_locked.busy_step_uuid for no key update;
      raise exception using errcode = 'TK999', message = 'the instance is free';
    exception
      when sqlstate 'TK999' then null;
    end;
  end loop;
end
$function$;
comment on function tasker._lock_whole_tasks(uuid[]) is 'Locks tasks with every step they have; when steps come in between or an instance is another''s, it gives all back, waits for that instance alone, and begins again.';
revoke all on function tasker._lock_whole_tasks(uuid[]) from public;

CREATE OR REPLACE FUNCTION tasker._maintenance_health(p_now timestamp with time zone, OUT ok boolean, OUT detail text)
 RETURNS record
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
  -- A round is noted every ten seconds; a background worker's pause is at most a third of it, a server's after failures half.
  v_longest constant interval := interval '1 minute';
  v_ended_at timestamptz;
  v_since timestamptz;
  v_due text;
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
    select string_agg(d.job, ', ') into v_due from tasker.list_due_jobs() d where d.job not in ('find_late_work', 'end_round');
    detail := detail || coalesce(format(' and these jobs are due: %s', v_due), '') ||
      ': name this database in tasker.databases of a server with shared_preload_libraries = ''tasker'', or run tasker-server; where one runs, its log says what fails';
  end if;
end
$function$;

CREATE OR REPLACE FUNCTION tasker._maintenance_jobs()
 RETURNS text[]
 LANGUAGE sql
 IMMUTABLE PARALLEL SAFE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
  -- In their order. find_late_work comes before the four that do what it found. drop_partitions may hold the strongest locks until its transaction ends.
  select array['make_missing_queues', 'make_partitions', 'run_schedules', 'start_due_tasks', 'start_held_tasks', 'fire_timers', 'evaluate', 'end_sql_runs', 'find_late_work', 'end_leases', 'time_out_attempts',
    'time_out_tasks', 'cancel_instances', 'cancel_children', 'settle_parents', 'start_children', 'send_lost_messages', 'bulk_jobs', 'note_event_floor', 'forget_answers', 'forget_workers', 'forget_domain_events', 'fold_statistics', 'roll_up_statistics', 'drop_partitions',
    'end_round']
$function$;
comment on function tasker._maintenance_jobs() is 'The jobs of maintenance, in the order in which a round does them.';
revoke all on function tasker._maintenance_jobs() from public;

CREATE OR REPLACE FUNCTION tasker._make_events_queue(p_namespace text)
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
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
revoke all on function tasker._make_events_queue(text) from public;

CREATE OR REPLACE FUNCTION tasker._make_missing_queues()
 RETURNS bigint
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
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

CREATE OR REPLACE FUNCTION tasker._make_queue(p_queue_name text)
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
begin
  perform tasker._raise_refused(tasker._pgmq_problem());
  if to_regclass(format('pgmq.%I', 'q_' || p_queue_name)) is null then
    perform pgmq.create(p_queue_name);
  end if;
  -- A message that is claimed, and replaced by those of three further steps, stays on its page, where only what changes is logged: there is room for all of them, while an old snapshot keeps
  -- the ones before.
  execute format('alter table pgmq.%I set (fillfactor = 22)', 'q_' || p_queue_name);
  -- Claims walk the messages by the time from which they are visible, by PGMQ's own index; only those of another priority than 0 are in this one. It is on the headers, so that a row
  -- that takes over another message changes nothing that is indexed.
  execute format(
    $index$create index if not exists %I on pgmq.%I
      ((case when headers ->> 'priority' ~ '^-?[0-9]{1,9}$' then (headers ->> 'priority')::integer end) desc, vt) where headers ->> 'priority' <> '0'$index$,
    'q_' || p_queue_name || '_headers_idx', 'q_' || p_queue_name);
  if exists (select from tasker.sql_namespaces s join tasker.namespaces n on n.namespace_id = s.namespace_id where n.queue_name = p_queue_name) then
    perform tasker._make_sql_index(p_queue_name);
  end if;
end
$function$;

CREATE OR REPLACE FUNCTION tasker._make_sql_index(p_queue_name text)
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
begin
  -- Sessions that run SQL functions find their messages by it, however many others wait. Looked up first: making it locks the queue.
  if to_regclass(format('pgmq.%I', 'q_' || p_queue_name || '_sql_idx')) is null then
    execute format($index$create index if not exists %I on pgmq.%I (vt) where message ->> 'handler' like 'sql:%%'$index$, 'q_' || p_queue_name || '_sql_idx', 'q_' || p_queue_name);
  end if;
end
$function$;
comment on function tasker._make_sql_index(text) is 'Makes the index of a queue by which messages of SQL functions are found, where it is missing.';
revoke all on function tasker._make_sql_index(text) from public;

CREATE OR REPLACE FUNCTION tasker._many_steps(template_id integer)
 RETURNS integer[]
 LANGUAGE c
 STABLE STRICT
AS 'MODULE_PATHNAME', $function$_many_steps_wrapper$function$;
revoke all on function tasker._many_steps(integer) from public;

CREATE OR REPLACE FUNCTION tasker._max_depth()
 RETURNS integer
 LANGUAGE c
 STABLE PARALLEL SAFE STRICT
AS 'MODULE_PATHNAME', $function$_max_depth_wrapper$function$;
revoke all on function tasker._max_depth() from public;

CREATE OR REPLACE FUNCTION tasker._may(namespace text, privilege text)
 RETURNS boolean
 LANGUAGE c
 STABLE
AS 'MODULE_PATHNAME', $function$_may_wrapper$function$;
revoke all on function tasker._may(text,text) from public;

CREATE OR REPLACE FUNCTION tasker._may_see_job(p_filter jsonb, p_created_by text)
 RETURNS boolean
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
begin
  -- Callers of a server share its role.
  return tasker._may(coalesce(p_filter ->> 'namespace', '*'), 'operate') or (p_created_by = tasker._actor() and not tasker._is_limited());
end
$function$;
comment on function tasker._may_see_job(jsonb,text) is 'Whether the caller made a bulk job, or may operate in the namespace of its filter; in all of them when it names none.';
revoke all on function tasker._may_see_job(jsonb,text) from public;

CREATE OR REPLACE FUNCTION tasker._namespace_problem(namespaces text[], privilege text)
 RETURNS text[]
 LANGUAGE c
 STABLE
AS 'MODULE_PATHNAME', $function$_namespace_problem_wrapper$function$;
revoke all on function tasker._namespace_problem(text[],text) from public;

CREATE OR REPLACE FUNCTION tasker._next_cron(cron text, timezone text, after timestamp with time zone)
 RETURNS timestamp with time zone
 LANGUAGE c
 STABLE PARALLEL SAFE STRICT
AS 'MODULE_PATHNAME', $function$_next_cron_wrapper$function$;
revoke all on function tasker._next_cron(text,text,timestamp with time zone) from public;

CREATE OR REPLACE FUNCTION tasker._note_ends(p_task_uuids uuid[])
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
begin
  insert into tasker.maintenance_found (job, key)
  select 'settle_parents', c.task_uuid
  from unnest(p_task_uuids) u(task_uuid)
  join tasker.child_tasks c on c.task_uuid = u.task_uuid;
end
$function$;
comment on function tasker._note_ends(uuid[]) is 'Notes for maintenance which of some tasks that have ended are children: their parents are other tasks, which nobody waits for here.';
revoke all on function tasker._note_ends(uuid[]) from public;

CREATE OR REPLACE FUNCTION tasker._open_dead_letter_of(p_key uuid)
 RETURNS uuid
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
begin
  return (
    select d.dead_letter_uuid from tasker.dead_letters d
    where d.task_uuid = tasker._task_of(p_key) and coalesce(d.step_uuid, d.task_uuid) = p_key and d.resolution = 'pending');
end
$function$;
comment on function tasker._open_dead_letter_of(uuid) is 'The open dead letter of a task itself, or of one of its steps, by its key; null without one.';
revoke all on function tasker._open_dead_letter_of(uuid) from public;

CREATE OR REPLACE FUNCTION tasker._open_dead_letters(p_task_uuids uuid[], p_now timestamp with time zone, p_actor text, p_reason text DEFAULT NULL::text, p_note text DEFAULT NULL::text)
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
begin
  -- The snapshot: the task, its steps and the last 100 history rows of them as they are now. Of more than a thousand steps those that failed or were cancelled come first, then those
  -- that have not ended, then the template's own; instances that succeeded are left out: a hundred thousand would be hundreds of megabytes, and jsonb ends at 256.
  insert into tasker.dead_letters (dead_letter_uuid, task_uuid, reason, snapshot, opened_at, opened_by, note)
  select (tasker._task_uuids(1, p_now))[1], t.task_uuid, coalesce(p_reason, tasker._dead_letter_reason(t.error)),
    jsonb_build_object('task', t.snapshot, 'steps', s.snapshot, 'steps_left_out', s.left_out, 'history', h.snapshot), p_now, p_actor, p_note
  from unnest(p_task_uuids) u(task_uuid)
  cross join lateral (
    select t.task_uuid, t.template_id, t.error, to_jsonb(t) as snapshot, tasker._last_step_uuid(t.task_uuid) as last_step_uuid
    from tasker.tasks t
    where t.task_uuid = u.task_uuid
  ) t
  cross join lateral (select x.steps_count from tasker.templates x where x.template_id = t.template_id) x
  cross join lateral (select count(*) as count from tasker.steps s where s.step_uuid > t.task_uuid and s.step_uuid <= t.last_step_uuid) c
  cross join lateral (
    -- Chosen by their keys alone: their rows are read when it is known which.
    select coalesce(jsonb_agg(to_jsonb(s) || jsonb_build_object('number', tasker._number_of(s.step_uuid)) order by k.rank, k.step_uuid), '[]') as snapshot,
      c.count - count(*) as left_out
    from (
      select s.step_uuid, r.rank
      from tasker.steps s
      cross join lateral (
        select case when c.count <= 1000 or s.state in ('error', 'cancelled') then 0 when not tasker._satisfies_dependents(s.state) then 1
          when tasker._number_of(s.step_uuid) <= x.steps_count then 2 end as rank
      ) r
      where s.step_uuid > t.task_uuid and s.step_uuid <= t.last_step_uuid and r.rank is not null
      order by r.rank, s.step_uuid
      limit 1000
    ) k
    cross join lateral (select s.* from tasker.steps s where s.step_uuid = k.step_uuid) s
  ) s
  cross join lateral (
    select coalesce(jsonb_agg(to_jsonb(h) - 'path' || jsonb_build_object('transitions', u.transitions) order by h.seq), '[]') as snapshot
    from (
      select h.* from tasker.step_transitions h
      where h.step_uuid > t.task_uuid and h.step_uuid <= t.last_step_uuid
      order by h.seq desc
      limit 100
    ) h
    cross join lateral (
      select jsonb_agg(jsonb_build_object('from_state', u.from_state, 'event', u.event, 'to_state', u.to_state) order by u.ordinal) as transitions
      from tasker._unroll_step(h.path) u
    ) u
  ) h
  -- Under the tasks' locks: nobody opens one at the same time.
  where not exists (
    select from tasker.dead_letters d
    where d.task_uuid = u.task_uuid and coalesce(d.step_uuid, d.task_uuid) = u.task_uuid and d.resolution = 'pending');
end
$function$;

CREATE OR REPLACE FUNCTION tasker._open_namespaces(privilege text)
 RETURNS text[]
 LANGUAGE c
 STABLE STRICT
AS 'MODULE_PATHNAME', $function$_open_namespaces_wrapper$function$;
revoke all on function tasker._open_namespaces(text) from public;

CREATE OR REPLACE FUNCTION tasker._open_step_dead_letters(p_step_uuids uuid[], p_now timestamp with time zone, p_actor text)
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET plan_cache_mode TO 'force_generic_plan'
 SET enable_seqscan TO 'off'
 SET enable_bitmapscan TO 'off'
 SET enable_hashjoin TO 'off'
 SET enable_mergejoin TO 'off'
 SET enable_material TO 'off'
 SET jit TO 'off'
AS $function$
begin
  -- The snapshot: the task, the one step and the last 100 rows of its history.
  insert into tasker.dead_letters (dead_letter_uuid, task_uuid, step_uuid, reason, snapshot, opened_at, opened_by)
  select u.dead_letter_uuid, t.task_uuid, s.step_uuid, tasker._dead_letter_reason(s.error),
    jsonb_build_object('task', t.snapshot, 'steps', jsonb_build_array(s.snapshot), 'history', h.snapshot), p_now, p_actor
  from unnest(p_step_uuids, tasker._task_uuids(cardinality(p_step_uuids), p_now)) u(step_uuid, dead_letter_uuid)
  cross join lateral (
    select s.step_uuid, s.error, tasker._task_of(s.step_uuid) as task_uuid,
      to_jsonb(s) || jsonb_build_object('number', tasker._number_of(s.step_uuid)) as snapshot
    from tasker.steps s
    where s.step_uuid = u.step_uuid
  ) s
  cross join lateral (select t.task_uuid, to_jsonb(t) as snapshot from tasker.tasks t where t.task_uuid = s.task_uuid) t
  cross join lateral (
    select coalesce(jsonb_agg(to_jsonb(h) - 'path' || jsonb_build_object('transitions', u.transitions) order by h.seq), '[]') as snapshot
    from (
      select h.* from tasker.step_transitions h
      where h.step_uuid = s.step_uuid
      order by h.seq desc
      limit 100
    ) h
    cross join lateral (
      select jsonb_agg(jsonb_build_object('from_state', u.from_state, 'event', u.event, 'to_state', u.to_state) order by u.ordinal) as transitions
      from tasker._unroll_step(h.path) u
    ) u
  ) h
  -- Under the steps' locks, for the same reason. Both conditions come from one table, so that the index is searched for both: by the task alone it leads through all of its instances.
  where not exists (
    select from tasker.dead_letters d
    where d.task_uuid = s.task_uuid and coalesce(d.step_uuid, d.task_uuid) = s.step_uuid and d.resolution = 'pending');
end
$function$;
comment on function tasker._open_step_dead_letters(uuid[],timestamp with time zone,text) is 'Opens a dead letter for each step that has none open, with the reason that its error says: for instances that failed for good, without their tasks.';
revoke all on function tasker._open_step_dead_letters(uuid[],timestamp with time zone,text) from public;

CREATE OR REPLACE FUNCTION tasker._open_times_of(p_schedule tasker.schedules, p_from timestamp with time zone, p_before timestamp with time zone, p_most integer)
 RETURNS timestamp with time zone[]
 LANGUAGE sql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
  select array(
    select t.at
    from unnest(p_schedule.open_times * tstzmultirange(tstzrange(p_from, p_before))) o(span)
    cross join lateral unnest(tasker._cron_times(p_schedule.cron, p_schedule.timezone, lower(o.span), upper(o.span), p_most)) t(at)
    order by t.at
    limit p_most)
$function$;
comment on function tasker._open_times_of(tasker.schedules,timestamp with time zone,timestamp with time zone,integer) is 'The times of a schedule from one on and before another that have had no task, the first so many of them.';
revoke all on function tasker._open_times_of(tasker.schedules,timestamp with time zone,timestamp with time zone,integer) from public;

CREATE OR REPLACE FUNCTION tasker._partitioned_tables()
 RETURNS TABLE(table_name text, key_column text, storage text, indexes text[])
 LANGUAGE sql
 IMMUTABLE PARALLEL SAFE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
  values
    -- An index on what changes in a task or a step would make each change write every index anew.
    -- Room on each page for all versions of its rows, two of a task and three of a step, each larger than the one before: an old snapshot keeps them all.
    ('tasks', 'task_uuid', 'fillfactor = 45', '{}'::text[]),
    ('steps', 'step_uuid', 'fillfactor = 24', '{}'),
    -- task_history; list_events
    ('task_transitions', null, 'fillfactor = 100', array['create index %1$I on tasker.%2$I (task_uuid)',
      'create index %1$I on tasker.%2$I using brin (seq) with (pages_per_range = 32, autosummarize = on); '
        -- An empty table's first pages count as summarized: each row on them would be written to the index.
        'select brin_desummarize_range(''tasker.%1$I''::regclass, 0)']),
    -- step_history, and a whole task's steps by range; list_events
    ('step_transitions', null, 'fillfactor = 100', array['create index %1$I on tasker.%2$I (step_uuid)',
      'create index %1$I on tasker.%2$I using brin (seq) with (pages_per_range = 32, autosummarize = on); '
        'select brin_desummarize_range(''tasker.%1$I''::regclass, 0)']),
    -- one open entry a task, and one a step; one by its key, and lists; those of a task, or of one of its steps: on the task alone it would be as good to the planner as the first one,
    -- and lead through those of all the task's instances
    ('dead_letters', null, 'fillfactor = 100', array['create unique index %1$I on tasker.%2$I (task_uuid, coalesce(step_uuid, task_uuid)) where resolution = ''pending''',
      'create unique index %1$I on tasker.%2$I (dead_letter_uuid)', 'create index %1$I on tasker.%2$I (task_uuid, coalesce(step_uuid, task_uuid))'])
$function$;

CREATE OR REPLACE FUNCTION tasker._payload_problem(name text, payload jsonb)
 RETURNS text[]
 LANGUAGE c
 STABLE
AS 'MODULE_PATHNAME', $function$_payload_problem_wrapper$function$;
revoke all on function tasker._payload_problem(text,jsonb) from public;

CREATE OR REPLACE FUNCTION tasker._percentile(counts bigint[], share double precision)
 RETURNS double precision
 LANGUAGE c
 IMMUTABLE PARALLEL SAFE STRICT
AS 'MODULE_PATHNAME', $function$_percentile_wrapper$function$;
revoke all on function tasker._percentile(bigint[],double precision) from public;

CREATE OR REPLACE FUNCTION tasker._permissions_problem(permissions text[])
 RETURNS text[]
 LANGUAGE c
 IMMUTABLE PARALLEL SAFE
AS 'MODULE_PATHNAME', $function$_permissions_problem_wrapper$function$;
revoke all on function tasker._permissions_problem(text[]) from public;

CREATE OR REPLACE FUNCTION tasker._publish_domain_events(p_events tasker._published[], p_now timestamp with time zone)
 RETURNS text[]
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
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
comment on function tasker._publish_domain_events(tasker._published[],timestamp with time zone) is 'Logs events and sends them: durable ones to the queues of their namespaces, for each subscription, fast ones by NOTIFY; with a problem, neither. Gives the refusal of a queue that is missing (TK030), which the library hands on.';
revoke all on function tasker._publish_domain_events(tasker._published[],timestamp with time zone) from public;

CREATE OR REPLACE FUNCTION tasker._publishes_durably(p_compiled jsonb)
 RETURNS boolean
 LANGUAGE sql
 IMMUTABLE PARALLEL SAFE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
  select jsonb_path_exists(p_compiled, '$.steps[*].publishes_events[*] ? (@.delivery_mode == "durable")')
$function$;
comment on function tasker._publishes_durably(jsonb) is 'Whether a compiled template has steps that publish durable events.';
revoke all on function tasker._publishes_durably(jsonb) from public;

CREATE OR REPLACE FUNCTION tasker._read_event_cursor(p_text text, p_horizon bigint)
 RETURNS tasker._event_cursor
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
  v_fields text[] := string_to_array(p_text, '.');
  v_cursor tasker._event_cursor;
begin
  v_cursor := tasker._first_event_cursor(p_horizon);
  if p_text is null then
    return v_cursor;
  end if;
  if p_text !~ '^1\.[0-9a-f]{8}(\.[0-9]{1,19}){8}$' then
    perform tasker._raise('22023', 'after or until is no cursor of list_events', null, 'Give a cursor as it was returned; without one the feed begins with the oldest event.');
  end if;
  if v_fields[2] <> tasker._incarnation() then
    -- Restored, or another server took over: all that is here is settled. Begin where the reader is certain to have missed nothing.
    v_cursor.seq := least(v_fields[5]::bigint - 1, v_fields[7]::bigint - 1, v_fields[8]::bigint);
    return v_cursor;
  end if;
  return row(v_fields[3]::bigint, v_fields[4]::bigint, v_fields[5]::bigint, v_fields[6]::integer, v_fields[7]::bigint, v_fields[8]::bigint, v_fields[9]::bigint,
    v_fields[10]::bigint)::tasker._event_cursor;
end
$function$;

CREATE OR REPLACE FUNCTION tasker._readable(p_namespaces text[])
 RETURNS text[]
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
begin
  return array(
    select u.name from unnest(p_namespaces) with ordinality u(name, ordinal) where tasker._may(u.name, 'read') order by u.ordinal);
end
$function$;
comment on function tasker._readable(text[]) is 'Those of some namespaces that the caller may read.';
revoke all on function tasker._readable(text[]) from public;

CREATE OR REPLACE FUNCTION tasker._receive_signal(p_task_uuid uuid, p_name text, p_numbers integer[], p_payload jsonb, p_now timestamp with time zone, p_actor text)
 RETURNS boolean
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
  v_count integer;
  v_waiting uuid[];
  v_state text;
begin
  -- A step that becomes ready looks for its signal under this lock.
  select count(*), array_agg(s.step_uuid order by s.step_uuid) filter (where tasker._waits_in_engine(s.state, s.lease_expires_at)) into v_count, v_waiting
  from (select u.number from unnest(p_numbers) u(number) order by u.number) u
  cross join lateral (
    select s.step_uuid, s.state, s.lease_expires_at from tasker.steps s where s.step_uuid = tasker._step_uuid(p_task_uuid, u.number) for no key update
  ) s;
  if exists (select from tasker.signals s where s.task_uuid = p_task_uuid and s.name = p_name) then
    return false;
  end if;
  -- A task of which a step waits goes on: who ends it locks its steps first.
  if v_waiting is null then
    select t.state into v_state from tasker.tasks t where t.task_uuid = p_task_uuid for no key update;
    if v_state = 'cancelled' then
      perform tasker._raise('TK012', format('task %s was cancelled: it takes no signal', p_task_uuid));
    elsif tasker._is_terminal(v_state) then
      perform tasker._raise('TK010', format('task %s is %s: it takes no signal', p_task_uuid, v_state), 'A task that has ended waits for nothing.',
        'A task that is rerun waits for its signals anew.');
    elsif v_count = 0 and v_state <> 'pending' then
      return null;
    end if;
  end if;
  insert into tasker.signals (task_uuid, name, payload, sent_at, sent_by) values (p_task_uuid, p_name, p_payload, p_now, p_actor)
  on conflict on constraint signals_pkey do nothing;
  if not found then
    return false;
  end if;
  if v_waiting is not null then
    perform tasker._raise_refused(tasker._end_waits(v_waiting, p_payload, null, p_now, p_actor));
  end if;
  return true;
end
$function$;
comment on function tasker._receive_signal(uuid,text,integer[],jsonb,timestamp with time zone,text) is 'Takes a signal in for the steps of a task that have these numbers; false when it is there already, null when the task has started meanwhile (TK010, TK012).';
revoke all on function tasker._receive_signal(uuid,text,integer[],jsonb,timestamp with time zone,text) from public;

CREATE OR REPLACE FUNCTION tasker._record_failures(p_task_uuids uuid[], p_now timestamp with time zone, p_actor text)
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET plan_cache_mode TO 'force_generic_plan'
 SET enable_seqscan TO 'off'
 SET enable_bitmapscan TO 'off'
 SET enable_hashjoin TO 'off'
 SET enable_mergejoin TO 'off'
 SET enable_material TO 'off'
 SET jit TO 'off'
AS $function$
begin
  -- What a task failed of: the error of its first step that failed and had to succeed, with the step's name.
  update tasker.tasks t
  set error = f.error
  from unnest(p_task_uuids) u(task_uuid)
  cross join lateral (
    select jsonb_build_object('message', format('step %s failed: %s', d.name, s.error ->> 'message'), 'step_uuid', s.step_uuid, 'step_name', d.name)
      || coalesce(s.error - 'message', '{}') as error
    from (
      select s.step_uuid, s.template_id, s.error
      from tasker.steps s
      cross join lateral (select x.steps_count from tasker.templates x where x.template_id = s.template_id) x
      where s.step_uuid > u.task_uuid and s.step_uuid <= tasker._last_step_uuid(u.task_uuid) and s.state = 'error'
      order by tasker._is_tolerated(s.template_id, tasker._number_of(s.step_uuid), x.steps_count), s.finished_at, s.step_uuid
      limit 1
    ) s
    cross join lateral tasker._step_definitions(array[s.template_id], array[tasker._number_of(s.step_uuid)]) d
  ) f
  where t.task_uuid = u.task_uuid and t.error is null;
  perform tasker._open_dead_letters(p_task_uuids, p_now, p_actor);
end
$function$;

CREATE OR REPLACE FUNCTION tasker._recount_states()
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET enable_seqscan TO 'on'
 SET enable_bitmapscan TO 'on'
 SET enable_hashjoin TO 'on'
AS $function$
declare
  v_folded_seq bigint := coalesce((select c.folded_seq from tasker.statistics_cursors c), 0);
begin
  delete from tasker.state_counts;
  -- What there is, less what the rows that are not folded yet will bring: in one snapshot.
  insert into tasker.state_counts (template_id, is_task, state, count)
  select c.template_id, c.is_task, c.state, sum(c.count)
  from (
    select s.template_id, false as is_task, s.state, count(*) as count from tasker.steps s where not tasker._is_terminal(s.state) group by s.template_id, s.state
    union all
    select t.template_id, true, t.state, count(*) from tasker.tasks t where t.finished_at is null group by t.template_id, t.state
    union all
    select t.template_id, false, u.state, u.change
    from tasker.step_transitions h
    cross join lateral (select t.template_id from tasker.tasks t where t.task_uuid = tasker._task_of(h.step_uuid)) t
    cross join lateral tasker._unroll_step(h.path) p
    cross join lateral (values (p.from_state, 1), (p.to_state, -1)) u(state, change)
    where h.seq > v_folded_seq
    union all
    select t.template_id, true, u.state, u.change
    from tasker.task_transitions h
    cross join lateral (select t.template_id from tasker.tasks t where t.task_uuid = h.task_uuid) t
    cross join lateral tasker._unroll_task(h.path) p
    cross join lateral (values (p.from_state, 1), (p.to_state, -1)) u(state, change)
    where h.seq > v_folded_seq
  ) c
  where tasker._gauged(c.state) is not null
  group by c.template_id, c.is_task, c.state
  having sum(c.count) <> 0;
end
$function$;
comment on function tasker._recount_states() is 'Counts the states of all steps and tasks anew, as of how far history is folded. After a restore maintenance calls it; the owner may, after dropping partitions by hand.';
revoke all on function tasker._recount_states() from public;

CREATE OR REPLACE FUNCTION tasker._redelivery_delay_ms(deliveries integer)
 RETURNS bigint
 LANGUAGE c
 STRICT
AS 'MODULE_PATHNAME', $function$_redelivery_delay_ms_wrapper$function$;
revoke all on function tasker._redelivery_delay_ms(integer) from public;

CREATE OR REPLACE FUNCTION tasker._register_template(p_source text, p_is_json boolean, p_environment text)
 RETURNS TABLE(template_uuid uuid, namespace text, name text, version text, created boolean)
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
  v_new record;
  v_old record;
  v_namespace_id integer;
  v_template_uuid uuid;
  v_has_sql_steps boolean;
begin
  if p_source is null then
    perform tasker._raise('22023', 'definition must not be null', null, 'Give the template as YAML or JSON.');
  end if;
  select c.* into v_new from tasker._compile_template(p_source, p_is_json, p_environment) c;
  if v_new.compiled is null then
    perform tasker._raise(v_new.failure_code, v_new.failure, v_new.findings::text,
      'tasker.validate_template lists every finding with its path; nothing was registered.');
  end if;

  perform tasker._require_may(v_new.namespace, 'operate');
  v_has_sql_steps := tasker._require_sql_steps(v_new.definition, v_new.compiled);
  perform tasker._require_template_in_reach(v_new.definition, v_has_sql_steps);
  v_namespace_id := tasker._make_namespace(v_new.namespace);
  if tasker._publishes_durably(v_new.compiled) then
    perform tasker._make_events_queue(v_new.namespace);
  end if;
  insert into tasker.templates as t (
    template_uuid, namespace_id, name, version, version_key, description, environment, source, definition, compiled, content_hash, steps_count,
    roots_count, context_defaults, has_input_schema, identity_strategy, identity_window_seconds, on_failure, registered_by, registered_at)
  values (
    (tasker._task_uuids(1, tasker._now()))[1], v_namespace_id, v_new.name, v_new.version, v_new.version_key, v_new.description, p_environment, p_source,
    v_new.definition, v_new.compiled, v_new.content_hash, v_new.steps_count, v_new.roots_count, v_new.context_defaults, v_new.has_input_schema,
    v_new.identity_strategy, v_new.identity_window_seconds, v_new.on_failure, tasker._actor(), tasker._now())
  on conflict on constraint template_version_is_unique do nothing
  returning t.template_uuid into v_template_uuid;
  if v_template_uuid is not null then
    if v_has_sql_steps then
      perform tasker._has_sql_steps(v_namespace_id, (select n.queue_name from tasker.namespaces n where n.namespace_id = v_namespace_id));
    end if;
    return query select v_template_uuid, v_new.namespace, v_new.name, v_new.version, true;
    return;
  end if;

  select t.template_uuid, t.content_hash, t.environment into v_old
  from tasker.templates t
  where t.namespace_id = v_namespace_id and t.name = v_new.name and t.version = v_new.version;
  if not found then
    perform tasker._raise('40001', 'the template was registered by a concurrent transaction', null, 'Try again.');
  end if;
  if v_old.content_hash is distinct from v_new.content_hash then
    perform tasker._raise('TK014',
      format('template %s version %s is already registered in namespace %s with other content', v_new.name, v_new.version, v_new.namespace),
      case when v_old.environment is distinct from p_environment then
        format('It was registered for %s, this is for %s. ', coalesce('the environment ' || v_old.environment, 'no environment'),
          coalesce('the environment ' || p_environment, 'no environment'))
      else '' end || 'A registered version never changes, because tasks under way rely on it.',
      'Give the changed template a new version.');
  end if;
  return query select v_old.template_uuid, v_new.namespace, v_new.name, v_new.version, false;
end
$function$;

CREATE OR REPLACE FUNCTION tasker._repair(p_step_uuid uuid, p_event text, p_result jsonb, p_reason text)
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
  v_now timestamptz := tasker._now();
  v_actor text := tasker._author();
  v_namespace constant text := tasker._checked_namespace(p_step_uuid);
  v_instance uuid;
begin
  perform tasker._require_reason(p_reason);
  if p_step_uuid is null then
    perform tasker._raise('22023', 'step_uuid must be given');
  elsif not tasker._may(v_namespace, 'read') then
    -- As the library refuses the key of no step.
    perform tasker._raise('TK002', format('step %s not found', p_step_uuid));
  end if;
  perform tasker._require_may(v_namespace, 'operate');
  perform tasker._raise_refused(tasker._repair_step(p_step_uuid, p_event, p_result, p_reason, v_now, v_actor));
  -- What is done to a step of the template may mend any of its instances.
  select case when tasker._number_of(p_step_uuid) > x.steps_count then p_step_uuid end into v_instance
  from tasker.tasks t
  join tasker.templates x on x.template_id = t.template_id
  where t.task_uuid = tasker._task_of(p_step_uuid);
  perform tasker._close_mended(tasker._task_of(p_step_uuid), v_instance, p_reason, v_now, v_actor);
end
$function$;
comment on function tasker._repair(uuid,text,jsonb,text) is 'Lets an operator''s event happen to a step, and closes the dead letters of what is mended by it.';

CREATE OR REPLACE FUNCTION tasker._require_dead_letter(p_dead_letter_uuid uuid)
 RETURNS uuid
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
  v_task_uuid uuid;
begin
  select d.task_uuid into v_task_uuid from tasker.dead_letters d where d.dead_letter_uuid = p_dead_letter_uuid;
  if v_task_uuid is null or not tasker._may(tasker._checked_namespace(v_task_uuid), 'read') then
    perform tasker._raise('TK004', format('dead letter %s not found', coalesce(p_dead_letter_uuid::text, 'null')), null,
      'tasker.list_dead_letters() shows the dead letters there are.');
  end if;
  return v_task_uuid;
end
$function$;
comment on function tasker._require_dead_letter(uuid) is 'The task of a dead letter; refuses the key of none, and of one that the caller may not read (TK004).';

CREATE OR REPLACE FUNCTION tasker._require_few(p_limit integer)
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
begin
  if p_limit is null or p_limit not between 1 and tasker._slowest_kept() then
    perform tasker._raise('22023', format('limit must be between 1 and %s, not %s', tasker._slowest_kept(), coalesce(p_limit::text, 'null')), null,
      'Ask for one template, or a later time: each template and hour keeps its own slowest.');
  end if;
end
$function$;
comment on function tasker._require_few(integer) is 'Refuses to list none, or more of the slowest than are kept (22023).';
revoke all on function tasker._require_few(integer) from public;

CREATE OR REPLACE FUNCTION tasker._require_grantable(p_namespace text, p_privilege text)
 RETURNS void
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
begin
  perform tasker._require_unlimited('grant or revoke');
  if p_namespace is distinct from '*' then
    perform tasker._require_namespace(p_namespace);
  end if;
  perform tasker._require_known('privilege', p_privilege, tasker._known_privileges());
end
$function$;
comment on function tasker._require_grantable(text,text) is 'Refuses a namespace that there is not (TK004), an unknown privilege (22023), and a session that is limited to namespaces (42501).';
revoke all on function tasker._require_grantable(text,text) from public;

CREATE OR REPLACE FUNCTION tasker._require_maintenance_batch(p_batch integer)
 RETURNS void
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
begin
  if p_batch is null or p_batch not between 1 and 100000 then
    perform tasker._raise('22023', format('batch must be between 1 and 100000, not %s', coalesce(p_batch::text, 'null')));
  end if;
end
$function$;
comment on function tasker._require_maintenance_batch(integer) is 'Refuses a size of a batch that is out of bounds (22023).';
revoke all on function tasker._require_maintenance_batch(integer) from public;

CREATE OR REPLACE FUNCTION tasker._require_may(p_namespace text, p_privilege text)
 RETURNS void
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
begin
  perform tasker._raise_refused(tasker._namespace_problem(array[p_namespace], p_privilege));
end
$function$;
comment on function tasker._require_may(text,text) is 'Refuses a caller without a privilege in a namespace (42501), also in one that there is not.';
revoke all on function tasker._require_may(text,text) from public;

CREATE OR REPLACE FUNCTION tasker._require_namespace_names(p_namespaces text[])
 RETURNS void
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
  v_bad text;
begin
  select coalesce(u.name, 'null') into v_bad from unnest(p_namespaces) u(name) where u.name is null or u.name !~ '^[a-z][a-z0-9_]{0,28}$' limit 1;
  if found then
    perform tasker._raise('22023', format('%s is not the name of a namespace', v_bad), null, 'Names have 1 to 29 characters: a lower-case letter, then a-z, 0-9 and _.');
  elsif cardinality(p_namespaces) > 100 then
    perform tasker._raise('22023', format('%s namespaces are more than 100', cardinality(p_namespaces)), null, 'Leave them out to reach all.');
  end if;
end
$function$;
comment on function tasker._require_namespace_names(text[]) is 'Refuses what can''t be the names of namespaces, or too many of them (22023). Whether they are there isn''t looked at.';
revoke all on function tasker._require_namespace_names(text[]) from public;

CREATE OR REPLACE FUNCTION tasker._require_same_partitions(p_key uuid DEFAULT NULL::uuid)
 RETURNS void
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
  v_table text;
begin
  -- A name leads to the table of now, a read of the catalogue to that of the caller's snapshot.
  select c.relname into v_table
  from tasker._partition_ranges() r
  cross join lateral (
    select c.oid, c.relname
    from pg_class c
    where c.relname = ('tasks_' || r.suffix)::name and c.relnamespace = 'tasker'::regnamespace
    -- A look-up for each range: the catalogue has many tables.
    offset 0
  ) c
  where (p_key is null or p_key >= tasker._partition_bound(r.starts_on) and p_key < tasker._partition_bound(r.ends_on))
    and c.oid is distinct from to_regclass(format('tasker.%I', c.relname));
  if found then
    perform tasker._raise('40001', format('partition %s was exchanged while this was being read', v_table), 'Retention took old tasks out of it.', 'Try again.');
  end if;
end
$function$;

CREATE OR REPLACE FUNCTION tasker._require_schedulable(p_namespace text, p_template_name text, p_version text, p_context jsonb)
 RETURNS void
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
  v_template tasker.templates;
begin
  select t.* into v_template
  from tasker.namespaces n
  join tasker.templates t on t.namespace_id = n.namespace_id
  where n.name = p_namespace and t.name = p_template_name and case when p_version is null then t.retired_at is null else t.version = p_version end
  order by t.version_key desc
  limit 1;
  if not found then
    perform tasker._raise_refused(tasker._template_not_found(p_namespace, p_template_name, p_version));
  elsif v_template.retired_at is not null then
    perform tasker._raise('TK015', format('template %s version %s is retired', p_template_name, p_version), format('It was retired at %s.', v_template.retired_at),
      'Name another version, or none for the newest at each time.');
  end if;
  perform tasker._raise_refused(tasker._context_problem(v_template.template_id,
    case jsonb_typeof(p_context) when 'object' then v_template.context_defaults || p_context else coalesce(p_context, 'null') end));
end
$function$;
comment on function tasker._require_schedulable(text,text,text,jsonb) is 'Refuses a template of which no task could be created now with a context (TK003, TK015, TK021, TK022, 22023).';
revoke all on function tasker._require_schedulable(text,text,text,jsonb) from public;

CREATE OR REPLACE FUNCTION tasker._require_schedule_name(p_name text)
 RETURNS void
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
begin
  if p_name is null or p_name !~ '^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$' then
    perform tasker._raise('22023', format('%s can''t be the name of a schedule', coalesce(quote_literal(left(p_name, 200)), 'null')), null,
      'Give 1 to 128 letters, digits, underscores, dots and hyphens, a letter, a digit or an underscore first.');
  end if;
end
$function$;
comment on function tasker._require_schedule_name(text) is 'Refuses what is no name of a schedule (22023).';
revoke all on function tasker._require_schedule_name(text) from public;

CREATE OR REPLACE FUNCTION tasker._require_sql_steps(p_definition jsonb, p_compiled jsonb)
 RETURNS boolean
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
  v_findings jsonb;
begin
  if not jsonb_path_exists(p_compiled, '$.steps[*].callable ? (@ starts with "sql:")') then
    return false;
  end if;
  select jsonb_agg(to_jsonb(f) order by f.ordinal) into v_findings
  from tasker._sql_step_findings(p_definition, p_compiled, tasker._actor()::name) with ordinality f(severity, code, path, message, ordinal);
  if v_findings is not null then
    perform tasker._raise('TK020', format('template is not valid: %s: %s (%s)%s', v_findings -> 0 ->> 'path', v_findings -> 0 ->> 'message', v_findings -> 0 ->> 'code',
        case when jsonb_array_length(v_findings) > 1 then format(', and %s more', jsonb_array_length(v_findings) - 1) else '' end),
      (select jsonb_agg(f.finding - 'ordinal') from jsonb_array_elements(v_findings) f(finding))::text,
      'A step''s SQL function runs as the role that registers its template: register it as a role that may do what the function does, and no more.');
  end if;
  return true;
end
$function$;
comment on function tasker._require_sql_steps(jsonb,jsonb) is 'Whether a compiled template has SQL functions; refuses it when its caller can''t register them (TK020).';
revoke all on function tasker._require_sql_steps(jsonb,jsonb) from public;

CREATE OR REPLACE FUNCTION tasker._require_subscriptions(p_subscriber text, p_namespaces text[], p_patterns text[])
 RETURNS void
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
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
comment on function tasker._require_subscriptions(text,text[],text[]) is 'Refuses names of subscribers and namespaces, and patterns, that can''t be (22023, TK022).';
revoke all on function tasker._require_subscriptions(text,text[],text[]) from public;

CREATE OR REPLACE FUNCTION tasker._require_task(p_task_uuid uuid)
 RETURNS void
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
begin
  if not exists (select from tasker.tasks t where t.task_uuid = p_task_uuid) or not tasker._may(tasker._checked_namespace(p_task_uuid), 'read') then
    perform tasker._require_same_partitions(p_task_uuid);
    perform tasker._raise('TK001', format('task %s not found', coalesce(p_task_uuid::text, 'null')), null, 'tasker.list_tasks() shows the tasks there are.');
  end if;
end
$function$;
comment on function tasker._require_task(uuid) is 'Refuses the key of no task, and of one that the caller may not read (TK001, 40001).';

CREATE OR REPLACE FUNCTION tasker._require_template_in_reach(p_definition jsonb, p_has_sql_steps boolean)
 RETURNS void
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
begin
  if not tasker._is_limited() then
    return;
  end if;
  -- A SQL function runs as the role, and a child task is started for the role, when nobody knows any more of the limit of this session.
  if p_has_sql_steps then
    perform tasker._require_unlimited('register a template with SQL steps');
  end if;
  perform tasker._require_may(c.namespace #>> '{}', 'create')
  from jsonb_path_query(p_definition, '$.steps[*].task.namespace') c(namespace)
  where jsonb_typeof(c.namespace) = 'string';
end
$function$;
comment on function tasker._require_template_in_reach(jsonb,boolean) is 'Refuses, in a session that is limited to namespaces, a template whose tasks would act beyond them: by SQL functions, or child tasks elsewhere (42501).';
revoke all on function tasker._require_template_in_reach(jsonb,boolean) from public;

CREATE OR REPLACE FUNCTION tasker._require_unlimited(p_what text)
 RETURNS void
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
begin
  if tasker._is_limited() then
    perform tasker._raise('42501', format('a session that is limited to namespaces can not %s', p_what), null,
      'Use a key or a token that reaches all namespaces.');
  end if;
end
$function$;
comment on function tasker._require_unlimited(text) is 'Refuses what reaches beyond the namespaces of a session that is limited to some (42501).';
revoke all on function tasker._require_unlimited(text) from public;

CREATE OR REPLACE FUNCTION tasker._rerun_unstarted(p_task_uuid uuid, p_now timestamp with time zone, p_actor text)
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
  v_task record;
begin
  select t.state, t.namespace_id, t.paused_at, x.steps_count, x.roots_count into v_task
  from tasker.tasks t
  join tasker.templates x on x.template_id = t.template_id
  where t.task_uuid = p_task_uuid;
  update tasker.tasks t
  set state = case when v_task.steps_count = 0 then 'complete' when v_task.roots_count = 0 then 'waiting_for_dependencies' else 'steps_in_process' end,
    running = v_task.roots_count, started_at = p_now, finished_at = case v_task.steps_count when 0 then p_now end, error = null
  where t.task_uuid = p_task_uuid;
  insert into tasker.task_transitions (task_uuid, path, at, actor)
  values (p_task_uuid, tasker._task_path(v_task.state, array['rerun'] || case when v_task.steps_count = 0 then array['all_steps_successful']
    when v_task.roots_count = 0 then array['no_dependencies_ready'] else array['ready_steps_found', 'steps_enqueued'] end), p_now, p_actor);
  perform tasker._raise_refused(tasker._start_after_all(p_task_uuid, p_now, p_actor));
  if v_task.paused_at is not null then
    perform tasker._mark_steps(p_task_uuid, v_task.namespace_id, v_task.paused_at, p_now);
  end if;
  if v_task.steps_count = 0 then
    perform tasker._note_ends(array[p_task_uuid]);
  end if;
end
$function$;
comment on function tasker._rerun_unstarted(uuid,timestamp with time zone,text) is 'Starts a task that ended before it had started: it has no steps yet.';
revoke all on function tasker._rerun_unstarted(uuid,timestamp with time zone,text) from public;

CREATE OR REPLACE FUNCTION tasker._result_of_task(p_task_uuid uuid)
 RETURNS jsonb
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
  v_result jsonb;
begin
  -- The results of its last steps: those that no other step waits for.
  select coalesce(jsonb_object_agg(n.name, s.result), '{}') into v_result
  from (select t.template_id from tasker.tasks t where t.task_uuid = p_task_uuid) t
  cross join lateral tasker._template_nodes(t.template_id) n
  cross join lateral (
    select s.result from tasker.steps s where s.step_uuid = tasker._step_uuid(p_task_uuid, n.number) and tasker._satisfies_dependents(s.state)
  ) s
  where cardinality(n.dependents) = 0;
  if tasker._payload_problem('result', v_result) is not null then
    return jsonb_build_object('reference', jsonb_build_object('task_uuid', p_task_uuid));
  end if;
  return v_result;
end
$function$;
comment on function tasker._result_of_task(uuid) is 'What a task came to: the results of its last steps by their names, or a reference to the task where that is longer than a result may be.';
revoke all on function tasker._result_of_task(uuid) from public;

CREATE OR REPLACE FUNCTION tasker._result_problem(template_id integer, number integer, result jsonb)
 RETURNS text[]
 LANGUAGE c
 STABLE
AS 'MODULE_PATHNAME', $function$_result_problem_wrapper$function$;
revoke all on function tasker._result_problem(integer,integer,jsonb) from public;

CREATE OR REPLACE FUNCTION tasker._roll_up_statistics(p_now timestamp with time zone)
 RETURNS bigint
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET enable_seqscan TO 'on'
 SET enable_hashjoin TO 'on'
AS $function$
declare
  v_hour constant timestamptz := date_trunc('hour', p_now, 'UTC');
  v_count bigint;
  v_lists record;
begin
  update tasker.statistics_cursors c set rolled_up_at = v_hour where c.rolled_up_at is distinct from v_hour;
  if not found then
    return 0;
  end if;
  if tasker._statistics_days() > 0 then
    delete from tasker.statistics_buckets b where b.starts_at < p_now - tasker._statistics_days() * interval '24 hours';
    delete from tasker.slowest_runs r where r.starts_at < p_now - tasker._statistics_days() * interval '24 hours';
  end if;
  delete from tasker.state_counts c where c.count = 0;
  with fine as (
    delete from tasker.statistics_buckets b where b.starts_at <> tasker._bucket_start(b.starts_at, p_now) returning b.*
  )
  insert into tasker.statistics_buckets as b (template_id, starts_at, number, completed, failed, cancelled, resolved, attempts, retries, runs, run_us, longest_run_us,
    run_histogram, waits, wait_us)
  select f.template_id, tasker._bucket_start(f.starts_at, p_now), f.number, sum(f.completed), sum(f.failed), sum(f.cancelled), sum(f.resolved), sum(f.attempts),
    sum(f.retries), sum(f.runs), sum(f.run_us), max(f.longest_run_us), tasker._sum_histograms(array_agg(f.run_histogram)), sum(f.waits), sum(f.wait_us)
  from fine f
  group by 1, 2, 3
  on conflict on constraint statistics_buckets_pkey do update
    set completed = b.completed + excluded.completed, failed = b.failed + excluded.failed, cancelled = b.cancelled + excluded.cancelled,
      resolved = b.resolved + excluded.resolved, attempts = b.attempts + excluded.attempts, retries = b.retries + excluded.retries, runs = b.runs + excluded.runs,
      run_us = b.run_us + excluded.run_us, longest_run_us = greatest(b.longest_run_us, excluded.longest_run_us),
        run_histogram = tasker._sum_histograms(array[b.run_histogram, excluded.run_histogram]), waits = b.waits + excluded.waits,
      wait_us = b.wait_us + excluded.wait_us;
  get diagnostics v_count = row_count;
  with moved as (
    update tasker.slowest_runs r set starts_at = tasker._bucket_start(r.starts_at, p_now)
    where r.starts_at <> tasker._bucket_start(r.starts_at, p_now)
    returning r.template_id, r.is_task, r.starts_at
  )
  select array_agg(m.template_id) as template_ids, array_agg(m.is_task) as are_tasks, array_agg(m.starts_at) as starts_at into v_lists
  from (select distinct m.template_id, m.is_task, m.starts_at from moved m) m;
  if v_lists.template_ids is not null then
    perform tasker._trim_slowest(v_lists.template_ids, v_lists.are_tasks, v_lists.starts_at);
  end if;
  return v_count;
end
$function$;
comment on function tasker._roll_up_statistics(timestamp with time zone) is 'Once an hour: folds buckets of hours into days, of days into months, forgets what is older than tasker.statistics_days, and says how many buckets it wrote.';
revoke all on function tasker._roll_up_statistics(timestamp with time zone) from public;

CREATE OR REPLACE FUNCTION tasker._run_bulk_jobs(p_limit integer, p_now timestamp with time zone)
 RETURNS bigint
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
  v_job tasker.bulk_jobs;
  v_limit constant integer := least(p_limit, 100);
  v_found uuid[];
  v_task_uuid uuid;
begin
  select j.* into v_job from tasker.bulk_jobs j where j.finished_at is null order by j.job_uuid limit 1 for update skip locked;
  if not found then
    return 0;
  end if;
  -- Whoever calls maintenance: the job may do what its creator may, as things are now.
  perform tasker._act_for(v_job.created_by);
  v_found := tasker._filtered_tasks(v_job.filter, v_job.after, v_limit);
  -- All of them at once, in the order of locks: one after the other would cross the batch of a worker that finishes steps of several of them.
  perform tasker._lock_whole_tasks(v_found);
  foreach v_task_uuid in array v_found loop
    begin
      -- The locks are held already, and a savepoint's history rows need a row written before them (sql/README.md).
      update tasker.bulk_jobs j set after = v_task_uuid where j.job_uuid = v_job.job_uuid;
      if tasker._apply_to_task(v_task_uuid, v_job.action, concat_ws(': ', format('bulk job %s by %s', v_job.job_uuid, v_job.created_by), v_job.reason)) then
        v_job.changed := v_job.changed + 1;
      end if;
    exception
      -- What can pass later is tried again with the whole round; a task that refuses the action is counted, and the others go on.
      when serialization_failure or deadlock_detected or lock_not_available then
        raise;
      when others then
        v_job.refused := v_job.refused + 1;
        v_job.last_refusal := jsonb_build_object('task_uuid', v_task_uuid, 'code', sqlstate, 'message', sqlerrm);
    end;
  end loop;
  perform tasker._act_for(null);
  update tasker.bulk_jobs j
  set seen = j.seen + cardinality(v_found), changed = v_job.changed, refused = v_job.refused, last_refusal = v_job.last_refusal,
    after = coalesce(v_found[cardinality(v_found)], j.after), finished_at = case when cardinality(v_found) < v_limit then p_now end
  where j.job_uuid = v_job.job_uuid;
  return greatest(cardinality(v_found), 1);
end
$function$;

CREATE OR REPLACE FUNCTION tasker._run_claimed(p_run tasker.sql_runs)
 RETURNS text
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
  v_step tasker.claimed_step;
  v_held record;
  v_called jsonb;
  v_result jsonb;
  v_problem text[];
  v_error jsonb;
  v_verdict jsonb;
begin
  -- Not locked while it runs, so that it can be cancelled and timed out: finishing it looks at the attempt again, under the lock.
  select s.template_id, t.registered_by::name as registered_by into v_held
  from tasker.steps s
  join tasker.templates t on t.template_id = s.template_id
  where s.step_uuid = p_run.step_uuid and s.state = 'in_progress' and s.attempt = p_run.attempt;
  if not found then
    return 'lost';
  end if;
  v_step := (tasker._show_step(p_run.step_uuid)).claimed[1];
  begin
    v_called := tasker._call_registered(v_step, v_held.registered_by, coalesce(v_step.timeout_seconds, tasker._sql_timeout()));
    v_error := v_called -> 'error';
    if v_error is null then
      v_result := coalesce(v_called -> 'result', 'null');
      v_problem := tasker._result_problem(v_held.template_id, tasker._number_of(p_run.step_uuid), v_result);
      v_error := case v_problem[1]
        when 'TK021' then jsonb_build_object('type', 'result_schema', 'code', 'TK021', 'retryable', false,
          'message', 'the result does not satisfy the step''s result_schema', 'detail', v_problem[2])
        when 'TK022' then jsonb_build_object('type', 'sql_error', 'code', 'TK022', 'retryable', false, 'message', 'the result ' || v_problem[2])
      end;
    end if;
    if v_error is null then
      v_verdict := tasker._finish_sql_step(p_run, jsonb_build_object('status', 'complete', 'result', v_result));
      if v_verdict ->> 'verdict' = 'accepted' then
        return 'complete';
      end if;
      -- Either the attempt is no longer the current one, which is found once more, or the function itself has ended it, which is taken back with the rest.
      v_error := jsonb_strip_nulls(jsonb_build_object('type', 'sql_error', 'code', v_verdict -> 'code', 'message', format('the function ended its own attempt: %s',
        coalesce(v_verdict ->> 'message', v_verdict ->> 'verdict')), 'retryable', true));
    end if;
    -- What the function did counts only together with the completion.
    perform tasker._take_back();
  exception
    when sqlstate 'TK011' then
      null;
  end;
  v_verdict := tasker._finish_sql_step(p_run, jsonb_build_object('status', 'fail', 'error', v_error));
  return case v_verdict ->> 'verdict' when 'accepted' then 'failed' else v_verdict ->> 'verdict' end;
end
$function$;
comment on function tasker._run_claimed(tasker.sql_runs) is 'Calls the function of a claimed step and finishes it, both or neither; an error, a result that can''t be taken, and an attempt that is no longer the current one take back what the function did. Says what became of the attempt: complete, failed, lost, cancelled, timed_out.';
revoke all on function tasker._run_claimed(tasker.sql_runs) from public;

CREATE OR REPLACE FUNCTION tasker._run_function(p_schema text, p_function text, p_context jsonb, p_inputs jsonb, p_dependency_results jsonb)
 RETURNS jsonb
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
  -- Longer texts would be refused as an error's; what matters is at the beginning.
  v_longest constant integer := 5000;
  v_result jsonb;
  v_code text; v_message text; v_detail text; v_hint text; v_where text;
begin
  perform pg_catalog.set_config('search_path', pg_catalog.format('pg_catalog, %I, pg_temp', p_schema), true);
  execute pg_catalog.format('select %I.%I($1, $2, $3)', p_schema, p_function) into v_result using p_context, p_inputs, p_dependency_results;
  return pg_catalog.jsonb_build_object('result', v_result);
exception
  when others or query_canceled or assert_failure then
    get stacked diagnostics v_code = returned_sqlstate, v_message = message_text, v_detail = pg_exception_detail, v_hint = pg_exception_hint, v_where = pg_exception_context;
    return jsonb_build_object('error', jsonb_strip_nulls(jsonb_build_object('type', 'sql_error', 'code', v_code, 'message', left(v_message, v_longest),
      'detail', left(nullif(v_detail, ''), v_longest), 'hint', left(nullif(v_hint, ''), v_longest), 'context', left(nullif(v_where, ''), v_longest), 'retryable', true)));
end
$function$;
comment on function tasker._run_function(text,text,jsonb,jsonb,jsonb) is 'Calls the function of a step, and gives its result or its error; an error takes back what the function did. It is run as the role that registered the template, to whom nothing of ours is granted.';
revoke all on function tasker._run_function(text,text,jsonb,jsonb,jsonb) from public;

CREATE OR REPLACE FUNCTION tasker._run_job(p_job text, p_batch integer, p_now timestamp with time zone, OUT processed bigint, OUT more boolean)
 RETURNS record
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
  v_actor text := tasker._actor();
begin
  case p_job
    when 'make_missing_queues' then processed := tasker._make_missing_queues(); more := false;
    when 'make_partitions' then processed := tasker._make_partitions_ahead(p_now); more := false;
    when 'run_schedules' then select r.processed, r.more into _run_job.processed, _run_job.more from tasker._run_schedules(p_batch, p_now) r;
    when 'start_due_tasks' then processed := tasker._start_due_tasks(p_batch, p_now, v_actor); more := processed = p_batch;
    when 'start_held_tasks' then processed := tasker._start_held_tasks(p_batch, p_now, v_actor); more := processed = p_batch;
    when 'fire_timers' then processed := tasker._fire_due_timers(p_batch, p_now, v_actor); more := processed = p_batch;
    when 'evaluate' then processed := tasker._evaluate_resting(p_batch, p_now, v_actor); more := processed = p_batch;
    when 'end_sql_runs' then processed := tasker._end_sql_runs(p_now, v_actor); more := false;
    when 'find_late_work' then processed := tasker._find_late_work(p_batch, p_now); more := false;
    when 'end_leases' then processed := tasker._end_found_leases(p_batch, p_now, v_actor); more := processed > 0;
    when 'time_out_attempts' then processed := tasker._time_out_attempts(tasker._take_found(p_job, p_batch), p_now, v_actor); more := processed > 0;
    when 'time_out_tasks' then
      processed := tasker._time_out_tasks(tasker._take_found(p_job, least(p_batch, 100)), least(p_batch, 100), p_now, v_actor);
      more := processed > 0;
    when 'cancel_instances' then processed := tasker._cancel_found_instances(p_now, v_actor); more := processed > 0;
    when 'cancel_children', 'settle_parents', 'start_children' then processed := tasker._tend_children(p_job, p_now, v_actor); more := processed > 0;
    when 'send_lost_messages' then processed := tasker._send_lost_messages(tasker._take_found(p_job, p_batch), p_now); more := processed > 0;
    when 'bulk_jobs' then processed := tasker._run_bulk_jobs(p_batch, p_now); more := processed > 0;
    when 'note_event_floor' then perform tasker._note_event_floor(); processed := 0; more := false;
    when 'forget_answers' then processed := tasker._forget_answers(p_batch, p_now); more := processed = p_batch;
    when 'forget_workers' then processed := tasker._forget_workers(p_batch, p_now); more := processed = p_batch;
    when 'forget_domain_events' then processed := tasker._forget_domain_events(p_batch, p_now); more := processed >= p_batch;
    when 'fold_statistics' then select f.processed, f.more into _run_job.processed, _run_job.more from tasker._fold_statistics(p_batch, p_now) f;
    when 'roll_up_statistics' then processed := tasker._roll_up_statistics(p_now); more := false;
    when 'drop_partitions' then processed := tasker._drop_partitions(p_now); more := processed > 0;
    when 'end_round' then perform tasker._end_round(p_now); processed := 0; more := false;
  end case;
end
$function$;
comment on function tasker._run_job(text,integer,timestamp with time zone) is 'Does one bounded batch of a job, and says how much that was and whether there is more to do at once.';
revoke all on function tasker._run_job(text,integer,timestamp with time zone) from public;

CREATE OR REPLACE FUNCTION tasker._run_schedule(p_schedule tasker.schedules, p_now timestamp with time zone)
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
  v_due timestamptz[];
  v_next timestamptz;
begin
  v_due := tasker._due_times(p_schedule, p_now);
  v_next := tasker._next_cron(p_schedule.cron, p_schedule.timezone, case p_schedule.catch_up when 'all' then v_due[cardinality(v_due)] else p_now end);
  update tasker.schedules s
  set next_at = v_next, open_times = s.open_times + tstzmultirange(tstzrange(s.next_at, coalesce(v_due[1], v_next))),
    last_problem = case when v_due = '{}' then s.last_problem end
  where s.schedule_uuid = p_schedule.schedule_uuid;
  if v_due <> '{}' then
    perform tasker._create_scheduled(p_schedule, v_due, p_now);
  end if;
exception
  when serialization_failure or deadlock_detected or lock_not_available then
    raise;
  when others then
    -- What is wrong with the server, or with PGMQ, is nothing of this schedule's: its times are due until that is mended.
    if sqlstate ~ '^(53|57|58|TK030)' then
      raise;
    end if;
    update tasker.schedules s
    set last_problem = jsonb_build_object('code', sqlstate, 'message', sqlerrm, 'scheduled_at', coalesce(v_due[cardinality(v_due)], s.next_at), 'at', p_now),
      next_at = coalesce(v_next, s.next_at), open_times = s.open_times + tstzmultirange(tstzrange(s.next_at, coalesce(v_next, s.next_at))),
      -- Without a next time it would be due for ever.
      paused_at = case when v_next is null then p_now end, paused_by = case when v_next is null then 'maintenance' end,
      pause_reason = case when v_next is null then sqlerrm end
    where s.schedule_uuid = p_schedule.schedule_uuid;
end
$function$;
comment on function tasker._run_schedule(tasker.schedules,timestamp with time zone) is 'Creates the tasks that are due of a schedule that is locked, and moves it on to its next time. What keeps them from being created is noted on it, and the time stays open for a backfill; one of which no next time can be told is paused.';
revoke all on function tasker._run_schedule(tasker.schedules,timestamp with time zone) from public;

CREATE OR REPLACE FUNCTION tasker._run_schedules(p_limit integer, p_now timestamp with time zone, OUT processed bigint, OUT more boolean)
 RETURNS record
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
  v_schedule tasker.schedules;
begin
  processed := 0;
  for v_schedule in
    select s.* from tasker.schedules s where s.next_at <= p_now and s.paused_at is null order by s.next_at limit least(p_limit, 100) for update skip locked
  loop
    perform tasker._run_schedule(v_schedule, p_now);
    processed := processed + 1;
  end loop;
  more := processed > 0 and exists (select from tasker.schedules s where s.next_at <= p_now and s.paused_at is null);
end
$function$;
comment on function tasker._run_schedules(integer,timestamp with time zone) is 'Runs the schedules that are due, longest first and at most 100, and says how many and whether more are; one that somebody else has locked is passed over.';
revoke all on function tasker._run_schedules(integer,timestamp with time zone) from public;

CREATE OR REPLACE FUNCTION tasker._schedules_health(p_now timestamp with time zone, OUT ok boolean, OUT detail text)
 RETURNS record
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
  v_troubles text[];
begin
  v_troubles := array(
    select format('%s in namespace %s (%s)', s.name, n.name,
      case when s.last_problem is null then format('due since %s', s.next_at) else format('%s: %s', s.last_problem ->> 'code', s.last_problem ->> 'message') end)
    from tasker.schedules s
    join tasker.namespaces n on n.namespace_id = s.namespace_id
    where tasker._may(n.name, 'read')
      and case when s.paused_at is null then s.last_problem is not null or s.next_at < p_now - interval '1 minute' else s.paused_by = 'maintenance' end
    order by n.name, s.name
    limit 10);
  ok := v_troubles = '{}';
  detail := case when ok then 'every schedule that isn''t paused runs'
    else 'not running as they should: ' || array_to_string(v_troubles, ', ') || '; tasker.list_schedules() shows more' end;
end
$function$;
comment on function tasker._schedules_health(timestamp with time zone) is 'Whether each schedule that isn''t paused had its task at its last time and is not overdue by a minute, and which have not; at most ten are named.';
revoke all on function tasker._schedules_health(timestamp with time zone) from public;

CREATE OR REPLACE FUNCTION tasker._send_lost_messages(p_step_uuids uuid[], p_now timestamp with time zone)
 RETURNS bigint
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
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

CREATE OR REPLACE FUNCTION tasker._serve_caller(caller text, namespaces text[])
 RETURNS void
 LANGUAGE c
AS 'MODULE_PATHNAME', $function$_serve_caller_wrapper$function$;
revoke all on function tasker._serve_caller(text,text[]) from public;

CREATE OR REPLACE FUNCTION tasker._session_began_at()
 RETURNS timestamp with time zone
 LANGUAGE c
 STRICT
AS 'MODULE_PATHNAME', $function$_session_began_at_wrapper$function$;
revoke all on function tasker._session_began_at() from public;

CREATE OR REPLACE FUNCTION tasker._set_events_aside(p_queue_name text, p_msg_ids bigint[])
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
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
comment on function tasker._set_events_aside(text,bigint[]) is 'Moves messages whose deliveries are used up to the archive of their queue, and notes with their events for which subscription, and what it failed of.';
revoke all on function tasker._set_events_aside(text,bigint[]) from public;

CREATE OR REPLACE FUNCTION tasker._settle_failed_step(p_step_uuid uuid, p_task_state text, p_reason text, p_now timestamp with time zone, p_actor text)
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
begin
  -- A task that failed of another step would be revived by it, to fail of the same again.
  if tasker._is_terminal(p_task_state) or not exists (select from tasker.steps s where s.step_uuid = p_step_uuid and s.state = 'error') then
    return;
  end if;
  perform tasker._raise_refused(tasker._repair_step(p_step_uuid, 'resolve_manually', null, p_reason, p_now, p_actor));
end
$function$;
comment on function tasker._settle_failed_step(uuid,text,text,timestamp with time zone,text) is 'Settles a step that failed for good, if its task, whose state is given and which is locked, has not ended.';
revoke all on function tasker._settle_failed_step(uuid,text,text,timestamp with time zone,text) from public;

CREATE OR REPLACE FUNCTION tasker._settle_failed_task(p_task_uuid uuid, p_state text, p_event text, p_metadata jsonb, p_now timestamp with time zone, p_actor text)
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
  v_to text := tasker._next_task_state(p_state, p_event);
begin
  -- Nothing of such a task runs or waits: only its own row changes.
  if v_to is null then
    return;
  end if;
  update tasker.tasks t set state = v_to, finished_at = coalesce(t.finished_at, p_now) where t.task_uuid = p_task_uuid;
  insert into tasker.task_transitions (task_uuid, path, at, actor, metadata)
  values (p_task_uuid, tasker._task_path(p_state, array[p_event]), p_now, p_actor, p_metadata);
  perform tasker._announce_events();
  perform tasker._note_ends(array[p_task_uuid]);
end
$function$;

CREATE OR REPLACE FUNCTION tasker._settle_parent(p_task_uuid uuid, p_now timestamp with time zone, p_actor text)
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
  v_child record;
  v_link record;
  v_step record;
begin
  select t.state, t.error into v_child from tasker.tasks t where t.task_uuid = p_task_uuid and tasker._is_terminal(t.state);
  select c.parent_step_uuid, c.attempt into v_link from tasker.child_tasks c where c.task_uuid = p_task_uuid;
  -- One that was set going again is noted anew at its next end.
  if v_child.state is null or v_link.parent_step_uuid is null then
    return;
  end if;
  select s.state, s.lease_expires_at, s.attempt into v_step from tasker.steps s where s.step_uuid = v_link.parent_step_uuid for no key update;
  if not found or not tasker._waits_in_engine(v_step.state, v_step.lease_expires_at) or v_step.attempt <> v_link.attempt then
    return;
  end if;
  if v_child.state in ('complete', 'resolved_manually') then
    perform tasker._raise_refused(tasker._end_waits(array[v_link.parent_step_uuid], tasker._result_of_task(p_task_uuid), null, p_now, p_actor));
  else
    perform tasker._end_wait(v_link.parent_step_uuid, 'child_failed', null,
      format('child task %s %s%s', p_task_uuid, case v_child.state when 'cancelled' then 'was cancelled' else 'failed' end, ': ' || (v_child.error ->> 'message')),
      jsonb_build_object('task_uuid', p_task_uuid, 'state', v_child.state, 'error', v_child.error), p_now, p_actor);
  end if;
end
$function$;
comment on function tasker._settle_parent(uuid,timestamp with time zone,text) is 'Lets the step go on that waits for a task, if it still does: with the task''s result, or failed with its error.';
revoke all on function tasker._settle_parent(uuid,timestamp with time zone,text) from public;

CREATE OR REPLACE FUNCTION tasker._settle_statistics(p_now timestamp with time zone)
 RETURNS tasker.statistics_cursors
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
  v_incarnation constant text := tasker._incarnation();
  v_horizon constant bigint := pg_snapshot_xmin(pg_current_snapshot())::text::bigint;
  -- In this order: a transaction from v_xid on began after v_seq was drawn.
  v_seq bigint := tasker._last_drawn_seq();
  v_xid bigint := tasker._next_xid();
  v_old tasker.statistics_cursors;
  v_new tasker.statistics_cursors;
begin
  select c.* into v_old from tasker.statistics_cursors c for update;
  if not found then
    insert into tasker.statistics_cursors (incarnation, folded_seq, settled_seq, settled_at, noted_seq, noted_xid, noted_at)
    values (v_incarnation, 0, 0, p_now, v_seq, v_xid, p_now)
    returning * into v_old;
  end if;
  v_new := v_old;
  if v_old.incarnation <> v_incarnation then
    -- Restored, or another server took over: ids say nothing about rows from before, and rows may have been left behind.
    perform tasker._recount_states();
    v_new.incarnation := v_incarnation;
    v_new.noted_seq := v_seq;
    v_new.noted_xid := v_xid;
    v_new.noted_at := p_now;
  elsif v_old.noted_xid <= v_horizon then
    v_new.settled_seq := v_old.noted_seq;
    v_new.settled_at := v_old.noted_at;
    if v_seq > v_old.noted_seq then
      v_new.noted_seq := v_seq;
      v_new.noted_xid := v_xid;
      v_new.noted_at := p_now;
    end if;
  end if;
  if v_new is distinct from v_old then
    update tasker.statistics_cursors c
    set incarnation = v_new.incarnation, settled_seq = v_new.settled_seq, settled_at = v_new.settled_at, noted_seq = v_new.noted_seq, noted_xid = v_new.noted_xid,
      noted_at = v_new.noted_at;
  end if;
  return v_new;
end
$function$;
comment on function tasker._settle_statistics(timestamp with time zone) is 'Notes the last number drawn with the next transaction id, and what is settled: the last such number whose transactions have all ended. Gives where the folding is.';
revoke all on function tasker._settle_statistics(timestamp with time zone) from public;

CREATE OR REPLACE FUNCTION tasker._show_step(step_uuid uuid)
 RETURNS tasker._finished
 LANGUAGE c
AS 'MODULE_PATHNAME', $function$_show_step_wrapper$function$;
revoke all on function tasker._show_step(uuid) from public;

CREATE OR REPLACE FUNCTION tasker._shown_namespaces(p_namespace text)
 RETURNS integer[]
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
  v_open constant text[] := tasker._open_namespaces('read');
begin
  if v_open is null and p_namespace is null then
    return null;
  end if;
  return array(
    select n.namespace_id from tasker.namespaces n
    where (v_open is null or n.name = any (v_open)) and (p_namespace is null or n.name = p_namespace));
end
$function$;
comment on function tasker._shown_namespaces(text) is 'The keys of the namespaces that a list shows its caller: of the one named, or of those the caller may read; null is all.';
revoke all on function tasker._shown_namespaces(text) from public;

CREATE OR REPLACE FUNCTION tasker._shown_schedule(p_schedule tasker.schedules, p_namespace text)
 RETURNS tasker.schedule
 LANGUAGE sql
 IMMUTABLE PARALLEL SAFE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
  select row(p_namespace, p_schedule.name, p_schedule.cron, p_schedule.timezone, p_schedule.template_name, p_schedule.template_version, p_schedule.context,
    p_schedule.catch_up, p_schedule.next_at, p_schedule.last_at, p_schedule.last_task_uuid, p_schedule.last_problem, p_schedule.paused_at, p_schedule.paused_by,
    p_schedule.pause_reason, p_schedule.created_by, p_schedule.created_at)::tasker.schedule
$function$;
comment on function tasker._shown_schedule(tasker.schedules,text) is 'A schedule as list_schedules shows it.';
revoke all on function tasker._shown_schedule(tasker.schedules,text) from public;

CREATE OR REPLACE FUNCTION tasker._signal_problem(template_id integer, name text, payload jsonb)
 RETURNS text[]
 LANGUAGE c
 STABLE
AS 'MODULE_PATHNAME', $function$_signal_problem_wrapper$function$;
revoke all on function tasker._signal_problem(integer,text,jsonb) from public;

CREATE OR REPLACE FUNCTION tasker._signal_steps(template_id integer)
 RETURNS TABLE(number integer, name text, signal text)
 LANGUAGE c
 STABLE STRICT
AS 'MODULE_PATHNAME', $function$_signal_steps_wrapper$function$;
revoke all on function tasker._signal_steps(integer) from public;

CREATE OR REPLACE FUNCTION tasker._since(p_since timestamp with time zone)
 RETURNS timestamp with time zone
 LANGUAGE sql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
  select tasker._bucket_start(coalesce(p_since, tasker._now() - interval '24 hours'), tasker._now())
$function$;
comment on function tasker._since(timestamp with time zone) is 'A time, or a day ago without one, at the beginning of its bucket.';
revoke all on function tasker._since(timestamp with time zone) from public;

CREATE OR REPLACE FUNCTION tasker._slowest(p_is_task boolean, p_since timestamp with time zone, p_namespace text, p_template_name text, p_limit integer)
 RETURNS TABLE(template_id integer, namespace text, template_name text, template_version text, run_us bigint, key uuid, attempts_used integer, state text, started_at timestamp with time zone, finished_at timestamp with time zone)
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET enable_seqscan TO 'off'
 SET jit TO 'off'
AS $function$
declare
  v_since constant timestamptz := tasker._since(p_since);
begin
  perform tasker._require_few(p_limit);
  return query
    select c.template_id, c.namespace, c.template_name, c.template_version, r.run_us, r.key, r.attempts_used, r.state, r.started_at, r.finished_at
    from tasker._chosen_templates(p_namespace, p_template_name) c
    cross join lateral (
      select r.* from tasker.slowest_runs r where r.template_id = c.template_id and r.is_task = p_is_task and r.starts_at >= v_since
      order by r.run_us desc, r.key
      limit p_limit
    ) r
    order by r.run_us desc, r.key
    limit p_limit;
end
$function$;
comment on function tasker._slowest(boolean,timestamp with time zone,text,text,integer) is 'The slowest steps or tasks of the chosen templates since a time (22023).';
revoke all on function tasker._slowest(boolean,timestamp with time zone,text,text,integer) from public;

CREATE OR REPLACE FUNCTION tasker._slowest_kept()
 RETURNS integer
 LANGUAGE sql
 IMMUTABLE PARALLEL SAFE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
  select 20
$function$;
comment on function tasker._slowest_kept() is 'How many of the slowest are kept for each template and span of time, of steps and of tasks.';
revoke all on function tasker._slowest_kept() from public;

CREATE OR REPLACE FUNCTION tasker._sql_function_problem(p_callable text, p_role name, OUT code text, OUT message text)
 RETURNS record
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
  v_name constant text[] := string_to_array(substr(p_callable, 5), '.');
  v_function record;
begin
  select p.oid, p.prokind, p.proretset, p.prorettype, p.pronamespace into v_function
  from pg_proc p
  where p.oid = to_regprocedure(format('%I.%I(jsonb, jsonb, jsonb)', v_name[1], v_name[2]));
  code := 'SQL_HANDLER_REFUSED';
  if not found then
    code := 'NAME_INVALID';
    message := format('there is no function %I.%I(context jsonb, inputs jsonb, dependency_results jsonb)', v_name[1], v_name[2]);
  elsif v_function.prokind <> 'f' or v_function.proretset or v_function.prorettype <> 'jsonb'::regtype then
    message := format('function %I.%I doesn''t return jsonb', v_name[1], v_name[2]);
  elsif tasker._sql_role_problem(p_role) is not null then
    message := tasker._sql_role_problem(p_role) || ': a step would run with all its rights';
  elsif not has_schema_privilege(p_role, v_function.pronamespace, 'usage') or not has_function_privilege(p_role, v_function.oid, 'execute') then
    message := format('role %s may not execute function %I.%I', p_role, v_name[1], v_name[2]);
  else
    code := null;
  end if;
end
$function$;
comment on function tasker._sql_function_problem(text,name) is 'The code and the words of what keeps a function from being the handler of a step of a role''s templates; null when nothing does.';
revoke all on function tasker._sql_function_problem(text,name) from public;

CREATE OR REPLACE FUNCTION tasker._sql_role_problem(p_role name)
 RETURNS text
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
  v_role record;
begin
  select r.oid, r.rolsuper into v_role from pg_roles r where r.rolname = p_role;
  return case
    when not found then format('role %s is gone', p_role)
    when v_role.rolsuper then format('role %s is a superuser', p_role)
    when exists (select from pg_extension e where e.extname = 'tasker' and e.extowner = v_role.oid)
      or exists (select from pg_class c where c.oid = to_regclass('tasker.templates') and c.relowner = v_role.oid) then format('role %s owns the extension', p_role)
  end;
end
$function$;
comment on function tasker._sql_role_problem(name) is 'Why no SQL function is run as a role: it could do everything; null when it may be.';
revoke all on function tasker._sql_role_problem(name) from public;

CREATE OR REPLACE FUNCTION tasker._sql_runners()
 RETURNS integer
 LANGUAGE c
 STABLE PARALLEL SAFE STRICT
AS 'MODULE_PATHNAME', $function$_sql_runners_wrapper$function$;
revoke all on function tasker._sql_runners() from public;

CREATE OR REPLACE FUNCTION tasker._sql_runs_at_end(p_now timestamp with time zone)
 RETURNS TABLE(step_uuid uuid, pid integer, is_alive boolean, is_current boolean, is_over boolean)
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
begin
  return query
    select r.step_uuid, r.pid, a.is_alive, c.is_current, r.lease_expires_at <= p_now
    from tasker.sql_runs r
    -- Whose beginning can't be seen is taken for alive.
    cross join lateral (
      select exists (select from pg_stat_get_activity(r.pid) a where coalesce(a.backend_start = r.backend_start, true)) as is_alive
    ) a
    cross join lateral (
      select exists (select from tasker.steps s where s.step_uuid = r.step_uuid and s.state = 'in_progress' and s.attempt = r.attempt) as is_current
    ) c
    where not a.is_alive or not c.is_current or r.lease_expires_at <= p_now;
end
$function$;
comment on function tasker._sql_runs_at_end(timestamp with time zone) is 'SQL functions under way whose session is gone, whose step is no longer in that attempt (it was cancelled, or timed out), or whose lease is over though their time was shorter.';
revoke all on function tasker._sql_runs_at_end(timestamp with time zone) from public;

CREATE OR REPLACE FUNCTION tasker._sql_step_findings(p_definition jsonb, p_compiled jsonb, p_role name)
 RETURNS TABLE(severity text, code text, path text, message text)
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
begin
  return query
    with sql_steps as (
      select c.step ->> 'name' as name, c.step ->> 'callable' as callable, c.step ->> 'step_type' as step_type, c.step -> 'handler' ->> 'method' as method
      from jsonb_array_elements(p_compiled -> 'steps') c(step)
      where c.step ->> 'callable' like 'sql:%'
    ), functions as (
      select h.callable, p.code, p.message from (select distinct s.callable from sql_steps s) h cross join lateral tasker._sql_function_problem(h.callable, p_role) p
    )
    select 'error', f.code, format('steps[%s].handler.%s', d.ordinal - 1, f.field), f.message
    from sql_steps s
    join jsonb_array_elements(p_definition -> 'steps') with ordinality d(step, ordinal) on d.step ->> 'name' = s.name
    join functions p on p.callable = s.callable
    cross join lateral (
      values ('callable', p.code, p.message),
        ('callable', 'UNSUPPORTED_TYPE', case when s.step_type <> 'standard' then format('the handler of a step of type %s can not be a SQL function', s.step_type) end),
        ('method', 'SQL_HANDLER_REFUSED', case when s.method <> 'call' then 'a SQL function has no methods: it is called' end)
    ) f(field, code, message)
    where f.message is not null
    order by d.ordinal, f.field, f.code;
end
$function$;
comment on function tasker._sql_step_findings(jsonb,jsonb,name) is 'What is wrong with a compiled template''s SQL functions, were it registered by a role: what only the database can tell.';
revoke all on function tasker._sql_step_findings(jsonb,jsonb,name) from public;

CREATE OR REPLACE FUNCTION tasker._sql_step_ran_out()
 RETURNS boolean
 LANGUAGE c
 STRICT
AS 'MODULE_PATHNAME', $function$_sql_step_ran_out_wrapper$function$;
revoke all on function tasker._sql_step_ran_out() from public;

CREATE OR REPLACE FUNCTION tasker._sql_timeout()
 RETURNS integer
 LANGUAGE c
 STABLE PARALLEL SAFE STRICT
AS 'MODULE_PATHNAME', $function$_sql_timeout_wrapper$function$;
revoke all on function tasker._sql_timeout() from public;

CREATE OR REPLACE FUNCTION tasker._start_after_all(task_uuid uuid, now timestamp with time zone, actor text)
 RETURNS text[]
 LANGUAGE c
 STRICT
AS 'MODULE_PATHNAME', $function$_start_after_all_wrapper$function$;
revoke all on function tasker._start_after_all(uuid,timestamp with time zone,text) from public;

CREATE OR REPLACE FUNCTION tasker._start_child(p_step_uuid uuid, p_now timestamp with time zone, p_actor text)
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
  v_step record;
  v_child record;
  v_parent record;
  v_depth integer;
  v_created tasker._created;
begin
  -- Whoever ends the wait meanwhile has to wait for this lock, and then finds the child.
  select s.template_id, s.attempt, s.state, s.lease_expires_at into v_step from tasker.steps s where s.step_uuid = p_step_uuid for no key update;
  if not found or not tasker._waits_in_engine(v_step.state, v_step.lease_expires_at)
    or exists (select from tasker.child_tasks c where c.parent_step_uuid = p_step_uuid and c.attempt = v_step.attempt) then
    return;
  end if;
  select * into v_child from tasker._child_of(v_step.template_id, tasker._number_of(p_step_uuid));
  select t.task_uuid, t.context, t.priority, t.correlation_id, t.traceparent, x.registered_by into v_parent
  from tasker.tasks t
  join tasker.templates x on x.template_id = t.template_id
  where t.task_uuid = tasker._task_of(p_step_uuid);
  v_depth := 1 + coalesce((select c.depth from tasker.child_tasks c where c.task_uuid = v_parent.task_uuid), 0);
  if v_depth > tasker._max_depth() then
    perform tasker._end_wait(p_step_uuid, 'too_deep', 'TK022', format('a child task would be nested %s deep, and %s is the most', v_depth, tasker._max_depth()), null, p_now, p_actor);
    return;
  end if;
  perform tasker._act_for(v_parent.registered_by);
  -- The key is the attempt's: a template whose tasks need one, or have one by their context, starts a task for each step all the same.
  v_created := tasker._create_children(jsonb_build_array(jsonb_build_object(
    'template_name', v_child.template_name, 'namespace', v_child.namespace, 'version', v_child.version, 'context', tasker._child_context(p_step_uuid, v_step.template_id, v_parent.context),
    'idempotency_key', format('%s/%s', p_step_uuid, v_step.attempt), 'priority', v_parent.priority, 'parent_correlation_id', v_parent.correlation_id,
    'initiator', format('step %s', p_step_uuid), 'traceparent', v_parent.traceparent)), p_now, p_actor);
  perform tasker._act_for(null);
  if v_created.refused is not null then
    perform tasker._end_wait(p_step_uuid, 'child_not_started', v_created.refused[1], v_created.refused[2], to_jsonb(v_created.refused[3]), p_now, p_actor);
    return;
  end if;
  insert into tasker.child_tasks (task_uuid, parent_step_uuid, attempt, depth) values (v_created.task_uuids[1], p_step_uuid, v_step.attempt, v_depth);
  -- A task without steps has ended already.
  perform tasker._note_ends(array(select t.task_uuid from tasker.tasks t where t.task_uuid = v_created.task_uuids[1] and t.finished_at is not null));
end
$function$;
comment on function tasker._start_child(uuid,timestamp with time zone,text) is 'Starts the task that a step waits for, on behalf of the role that registered the step''s template; a step whose task can''t be started fails.';
revoke all on function tasker._start_child(uuid,timestamp with time zone,text) from public;

CREATE OR REPLACE FUNCTION tasker._start_pending(p_task_uuids uuid[], p_now timestamp with time zone, p_actor text)
 RETURNS bigint
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
  v_starting uuid[];
  v_held uuid[];
  v_held_in integer[];
begin
  select array_agg(t.task_uuid) filter (where n.paused_at is null), array_agg(t.task_uuid) filter (where n.paused_at is not null),
    array_agg(t.namespace_id) filter (where n.paused_at is not null)
  into v_starting, v_held, v_held_in
  from unnest(p_task_uuids) u(task_uuid)
  cross join lateral (select t.task_uuid, t.namespace_id from tasker.tasks t where t.task_uuid = u.task_uuid) t
  cross join lateral (select n.paused_at from tasker.namespaces n where n.namespace_id = t.namespace_id) n;
  insert into tasker.held_tasks (namespace_id, task_uuid)
  select h.namespace_id, h.task_uuid from unnest(v_held_in, v_held) h(namespace_id, task_uuid);
  if v_starting is null then
    return 0;
  end if;
  update tasker.tasks t
  set state = case when x.steps_count = 0 then 'complete' when x.roots_count = 0 then 'waiting_for_dependencies' else 'steps_in_process' end, running = x.roots_count, started_at = p_now,
    finished_at = case x.steps_count when 0 then p_now end
  from unnest(v_starting) u(task_uuid), tasker.templates x
  where t.task_uuid = u.task_uuid and x.template_id = t.template_id;
  perform tasker._note_ends(array(
    select t.task_uuid
    from unnest(v_starting) u(task_uuid)
    cross join lateral (select t.task_uuid from tasker.tasks t where t.task_uuid = u.task_uuid and t.finished_at is not null) t));
  perform tasker._raise_refused(tasker._start_tasks(v_starting, p_now, p_actor));
  return cardinality(v_starting);
end
$function$;

CREATE OR REPLACE FUNCTION tasker._state_counts(p_namespace text, OUT enqueued bigint, OUT in_progress bigint, OUT waiting_for_retry bigint)
 RETURNS record
 LANGUAGE sql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
  select coalesce(sum(c.count) filter (where c.state = 'enqueued'), 0)::bigint, coalesce(sum(c.count) filter (where c.state = 'in_progress'), 0)::bigint,
    coalesce(sum(c.count) filter (where c.state = 'waiting_for_retry'), 0)::bigint
  from tasker._chosen_templates(p_namespace, null) x
  cross join lateral (select c.state, c.count from tasker.state_counts c where c.template_id = x.template_id and not c.is_task) c
$function$;
comment on function tasker._state_counts(text) is 'How many steps of a namespace are in each state that has a message, as of how far history is folded.';
revoke all on function tasker._state_counts(text) from public;

CREATE OR REPLACE FUNCTION tasker._state_in_words(p_state text, p_attempts_used integer, p_retry_at timestamp with time zone, p_now timestamp with time zone)
 RETURNS text
 LANGUAGE sql
 STABLE PARALLEL SAFE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
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

CREATE OR REPLACE FUNCTION tasker._statistics_are_due(p_now timestamp with time zone)
 RETURNS boolean
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
  v_cursor tasker.statistics_cursors;
  v_lag constant bigint := tasker._statistics_lag();
begin
  select c.* into v_cursor from tasker.statistics_cursors c;
  return case
    when v_cursor.incarnation is null then v_lag > 0
    when v_cursor.incarnation <> tasker._incarnation() or v_lag >= 20000 then true
    else v_lag > 0 and (v_cursor.rested_at is null or p_now < v_cursor.rested_at or p_now >= v_cursor.rested_at + tasker._statistics_pause())
  end;
end
$function$;
comment on function tasker._statistics_are_due(timestamp with time zone) is 'Whether history rows wait to be folded, many of them or for long enough.';
revoke all on function tasker._statistics_are_due(timestamp with time zone) from public;

CREATE OR REPLACE FUNCTION tasker._statistics_as_of()
 RETURNS timestamp with time zone
 LANGUAGE sql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
  select case when c.folded_seq >= tasker._last_drawn_seq() then greatest(tasker._now(), c.as_of) else c.as_of end from tasker.statistics_cursors c
$function$;
comment on function tasker._statistics_as_of() is 'The time up to which everything that was committed is in the statistics; null before maintenance has folded anything.';
revoke all on function tasker._statistics_as_of() from public;

CREATE OR REPLACE FUNCTION tasker._statistics_days()
 RETURNS integer
 LANGUAGE c
 STABLE PARALLEL SAFE STRICT
AS 'MODULE_PATHNAME', $function$_statistics_days_wrapper$function$;
revoke all on function tasker._statistics_days() from public;

CREATE OR REPLACE FUNCTION tasker._statistics_health()
 RETURNS TABLE(name text, ok boolean, detail text)
 LANGUAGE sql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
  select 'statistics', c.as_of is null or a.as_of > tasker._now() - interval '5 minutes',
    case when c.as_of is null then 'nothing has been counted yet'
      when a.as_of >= tasker._now() then 'everything is counted'
      else format('counted up to %s; what is committed later is waited for by maintenance, or by a transaction that the check events names', a.as_of) end
  from (select 1) one
  left join tasker.statistics_cursors c on true
  left join lateral tasker._statistics_as_of() a(as_of) on true
$function$;
comment on function tasker._statistics_health() is 'How far the statistics are behind.';
revoke all on function tasker._statistics_health() from public;

CREATE OR REPLACE FUNCTION tasker._statistics_lag()
 RETURNS bigint
 LANGUAGE sql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
  select tasker._last_drawn_seq() - coalesce((select c.folded_seq from tasker.statistics_cursors c), 0)
$function$;
comment on function tasker._statistics_lag() is 'How many numbers of history rows have been drawn that are not folded.';
revoke all on function tasker._statistics_lag() from public;

CREATE OR REPLACE FUNCTION tasker._statistics_pause()
 RETURNS interval
 LANGUAGE sql
 IMMUTABLE PARALLEL SAFE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
  select interval '5 seconds'
$function$;
comment on function tasker._statistics_pause() is 'How long few new history rows wait until they are folded.';
revoke all on function tasker._statistics_pause() from public;

CREATE OR REPLACE FUNCTION tasker._step_rows(p_from uuid, p_to uuid)
 RETURNS SETOF tasker.step
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
  v_task_uuid constant uuid := tasker._task_of(p_to);
  v_unreal constant uuid[] := coalesce((select tasker._unreal_steps(v_task_uuid, t.template_id) from tasker.tasks t where t.task_uuid = v_task_uuid), '{}');
begin
  return query
    select s.step_uuid, tasker._task_of(s.step_uuid), d.name, d.type, tasker._instance_of(s.template_id, d.number), s.state, s.attempt, s.attempts_used, d.max_attempts,
      tasker._handler_of(s.template_id, d.number), s.inputs, s.result, s.error, s.checkpoint, s.worker_id, s.lease_expires_at, s.retry_at,
      s.remaining_dependencies, d.dependencies, s.created_at, s.enqueued_at, s.started_at, s.finished_at, c.task_uuid
    from tasker.steps s
    cross join lateral tasker._step_definitions(array[s.template_id], array[tasker._number_of(s.step_uuid)]) d
    -- The last that it has started.
    left join lateral (
      select c.task_uuid from tasker.child_tasks c where d.type = 'task' and c.parent_step_uuid = s.step_uuid order by c.attempt desc limit 1
    ) c on true
    where s.step_uuid >= p_from and s.step_uuid <= p_to and s.step_uuid <> all (v_unreal)
    order by s.step_uuid;
end
$function$;
comment on function tasker._step_rows(uuid,uuid) is 'The rows of the steps in a range of keys of one task, in their order.';

CREATE OR REPLACE FUNCTION tasker._steps_before(template_id integer, number integer, transitive boolean)
 RETURNS integer[]
 LANGUAGE c
 STABLE STRICT
AS 'MODULE_PATHNAME', $function$_steps_before_wrapper$function$;
revoke all on function tasker._steps_before(integer,integer,boolean) from public;

CREATE OR REPLACE FUNCTION tasker._steps_by_queue(p_step_uuids uuid[])
 RETURNS TABLE(queue_name text, step_uuids uuid[], msg_ids bigint[])
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
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
revoke all on function tasker._steps_by_queue(uuid[]) from public;

CREATE OR REPLACE FUNCTION tasker._steps_without_message(p_step_uuids uuid[])
 RETURNS uuid[]
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
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
revoke all on function tasker._steps_without_message(uuid[]) from public;

CREATE OR REPLACE FUNCTION tasker._sum_histograms(histograms bigint[])
 RETURNS bigint[]
 LANGUAGE c
 IMMUTABLE PARALLEL SAFE STRICT
AS 'MODULE_PATHNAME', $function$_sum_histograms_wrapper$function$;
revoke all on function tasker._sum_histograms(bigint[]) from public;

CREATE OR REPLACE FUNCTION tasker._take_back()
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
begin
  perform tasker._raise('TK011', 'what the function of the step did is taken back');
end
$function$;
comment on function tasker._take_back() is 'Ends the savepoint around the function of a step with all that it did (TK011, for its caller to catch).';
revoke all on function tasker._take_back() from public;

CREATE OR REPLACE FUNCTION tasker._take_found(p_job text, p_limit integer)
 RETURNS uuid[]
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
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
comment on function tasker._take_found(text,integer) is 'Takes what the walk has noted for a job, in key order. What the job then finds busy the walk meets again.';
revoke all on function tasker._take_found(text,integer) from public;

CREATE OR REPLACE FUNCTION tasker._task_clocks(p_task_uuid uuid)
 RETURNS TABLE(clock text, limit_seconds integer, since timestamp with time zone)
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
begin
  return query
    select l.clock, l.limit_seconds,
      case l.clock
        when 'max_duration_seconds' then t.started_at + coalesce(t.paused_ms, 0) * interval '1 millisecond'
        else greatest(h.entered_at, o.at, t.resumed_at) end
    from (
      select t.task_uuid, t.template_id, t.namespace_id, t.state, t.started_at, t.paused_ms, t.resumed_at
      from tasker.tasks t
      where t.task_uuid = p_task_uuid and t.started_at is not null and t.finished_at is null and t.paused_at is null and t.state <> 'blocked_by_failures'
        and t.compensates is null
    ) t
    cross join lateral (select from tasker.namespaces n where n.namespace_id = t.namespace_id and n.paused_at is null) n
    cross join lateral (
      select l.clock, l.limit_seconds from tasker._clock_limits(t.template_id) l where l.clock in ('max_duration_seconds', format('max_%s_seconds', t.state))
    ) l
    -- A task's last history row is the one that brought it into its state.
    cross join lateral (
      select h.at as entered_at from tasker.task_transitions h where h.task_uuid = t.task_uuid order by h.seq desc limit 1
    ) h
    -- An outcome of one step gives the others their time anew.
    left join lateral (
      select greatest(max(s.finished_at), max(s.enqueued_at)) as at
      from tasker.steps s
      where s.step_uuid > t.task_uuid and s.step_uuid <= tasker._last_step_uuid(t.task_uuid)
    ) o on l.clock = 'max_steps_in_process_seconds';
end
$function$;

CREATE OR REPLACE FUNCTION tasker._task_rows(p_task_uuids uuid[])
 RETURNS SETOF tasker.task
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
begin
  return query
    select t.task_uuid, n.name, x.name, x.version, t.state, t.context, t.priority::integer, t.tags, t.correlation_id, t.parent_correlation_id,
      t.idempotency_key, t.initiator, t.source_system, t.reason, t.run_at, t.created_at, t.started_at, t.finished_at, t.paused_at,
      -- A task that has not started has no step rows yet.
      greatest(c.total - cardinality(tasker._unreal_steps(t.task_uuid, t.template_id)), case when t.started_at is null then x.steps_count else 0 end), c.done, c.failed, t.error, tasker._task_of(p.parent_step_uuid), p.parent_step_uuid, t.traceparent
    from unnest(p_task_uuids) with ordinality u(task_uuid, ordinal)
    cross join lateral (select t.* from tasker.tasks t where t.task_uuid = u.task_uuid) t
    cross join lateral (select x.name, x.version, x.namespace_id, x.steps_count from tasker.templates x where x.template_id = t.template_id) x
    cross join lateral (select n.name from tasker.namespaces n where n.namespace_id = t.namespace_id) n
    cross join lateral (
      select count(*)::integer as total, (count(*) filter (where tasker._satisfies_dependents(s.state)))::integer as done,
        (count(*) filter (where s.state = 'error'))::integer as failed
      from tasker.steps s
      where s.step_uuid > t.task_uuid and s.step_uuid <= tasker._last_step_uuid(t.task_uuid)
    ) c
    left join lateral (select p.parent_step_uuid from tasker.child_tasks p where p.task_uuid = t.task_uuid) p on true
    order by u.ordinal;
end
$function$;

CREATE OR REPLACE FUNCTION tasker._tasks_by_retention(p_suffix text, p_ends_on date, p_now timestamp with time zone, p_leave boolean, p_limit bigint DEFAULT NULL::bigint)
 RETURNS TABLE(task_uuid uuid)
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
begin
  return query execute format($query$
    select t.task_uuid
    from tasker.%I t
    join tasker._retention($2) r on r.template_id = t.template_id
    left join (select distinct d.task_uuid from tasker.%I d where d.resolution = 'pending') d on d.task_uuid = t.task_uuid
    where (t.finished_at is not null and t.finished_at <= r.leaves_before and $1::timestamp at time zone 'UTC' <= r.leaves_before and d.task_uuid is null) = $3
    limit $4
    $query$, 'tasks_' || p_suffix, 'dead_letters_' || p_suffix)
  using p_ends_on, p_now, p_leave, p_limit;
end
$function$;

CREATE OR REPLACE FUNCTION tasker._template_findings(p_source text, p_is_json boolean, p_environment text)
 RETURNS TABLE(severity text, code text, path text, message text)
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
begin
  return query
    select f.severity, f.code, f.path, f.message
    from (
      select c.severity, c.code, c.path, c.message, 1 as source, c.ordinal
      from tasker._check_template(p_source, p_is_json, p_environment) with ordinality c(severity, code, path, message, ordinal)
      union all
      select s.severity, s.code, s.path, s.message, 2, s.ordinal
      from tasker._compile_template(p_source, p_is_json, p_environment) t
      cross join lateral tasker._sql_step_findings(t.definition, t.compiled, tasker._actor()::name) with ordinality s(severity, code, path, message, ordinal)
      where p_source like '%sql:%' and t.compiled is not null
    ) f
    order by f.severity = 'warning', f.source, f.ordinal;
end
$function$;
comment on function tasker._template_findings(text,boolean,text) is 'All that is to be said about a template, were its caller to register it; errors first.';
revoke all on function tasker._template_findings(text,boolean,text) from public;

CREATE OR REPLACE FUNCTION tasker._template_not_found(p_namespace text, p_name text, p_version text)
 RETURNS text[]
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
  v_elsewhere text;
begin
  select string_agg(distinct n.name || '/' || t.name || ' ' || t.version, ', ')
  into v_elsewhere
  from (
    select t.*
    from tasker.templates t
    where t.name = p_name and t.retired_at is null
      and tasker._may((select n.name from tasker.namespaces n where n.namespace_id = t.namespace_id), 'read')
    order by t.registered_at desc
    limit 5
  ) t
  join tasker.namespaces n on n.namespace_id = t.namespace_id;
  return array['TK003',
    format('template %s%s not found in namespace %s', coalesce(p_name, 'null'), coalesce(' version ' || p_version, ''), coalesce(p_namespace, 'null')),
    'Registered under this name: ' || coalesce(v_elsewhere, 'nothing') || '.',
    'tasker.list_templates() shows what is registered; tasker.register_template() adds one.'];
end
$function$;

CREATE OR REPLACE FUNCTION tasker._tend_children(p_job text, p_now timestamp with time zone, p_actor text)
 RETURNS bigint
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
  v_key uuid;
  -- A task at a time: what follows for one locks more of its steps.
  v_taken constant uuid[] := tasker._take_found(p_job, 1);
begin
  foreach v_key in array v_taken loop
    case p_job
      when 'start_children' then perform tasker._start_child(v_key, p_now, p_actor);
      when 'settle_parents' then perform tasker._settle_parent(v_key, p_now, p_actor);
      when 'cancel_children' then perform tasker._cancel_child(v_key, p_now, p_actor);
    end case;
  end loop;
  return cardinality(v_taken);
end
$function$;
comment on function tasker._tend_children(text,timestamp with time zone,text) is 'Does the next that is noted of starting children, settling parents or cancelling children, and says how many: one or none.';
revoke all on function tasker._tend_children(text,timestamp with time zone,text) from public;

CREATE OR REPLACE FUNCTION tasker._time_out_tasks(p_task_uuids uuid[], p_limit integer, p_now timestamp with time zone, p_actor text)
 RETURNS bigint
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
  v_locked uuid[];
  v_stale record;
  v_dead uuid[];
  v_undone uuid[];
begin
  -- One that somebody is changing is left for the next round; the others are looked at again under their locks.
  select * into v_stale from tasker._stale_tasks(p_task_uuids, p_now);
  perform tasker._wait_for_turn(v_stale.task_uuids[:p_limit]);
  v_locked := array(
    select u.task_uuid from (select u.task_uuid from unnest(v_stale.task_uuids) u(task_uuid) limit p_limit) u where tasker._try_lock_whole_task(u.task_uuid));
  select * into v_stale from tasker._stale_tasks(v_locked, p_now);
  if v_stale.task_uuids is null then
    return 0;
  end if;
  -- What is pending stays, so that a repair can go on from there.
  perform tasker._raise_refused(tasker._cancel_steps(
    array(
      select s.step_uuid
      from unnest(v_stale.task_uuids) u(task_uuid)
      cross join lateral (
        select s.step_uuid from tasker.steps s
        where s.step_uuid > u.task_uuid and s.step_uuid <= tasker._last_step_uuid(u.task_uuid) and s.state <> 'pending' and not tasker._is_terminal(s.state)
      ) s),
    p_now, p_actor));
  v_undone := array(
    select u.task_uuid
    from unnest(v_stale.task_uuids) u(task_uuid)
    cross join lateral (select t.template_id from tasker.tasks t where t.task_uuid = u.task_uuid) t
    where tasker._has_compensations(t.template_id) and tasker._compensate(u.task_uuid, p_now, p_actor) > 0);
  insert into tasker.task_transitions (task_uuid, path, at, actor, metadata)
  select t.task_uuid, tasker._task_path(t.state, case when t.task_uuid = any (v_undone) then array['compensate', 'steps_enqueued'] else array['timed_out'] end), p_now, p_actor,
    u.error -> 'detail'
  from unnest(v_stale.task_uuids, v_stale.errors) u(task_uuid, error)
  cross join lateral (select t.task_uuid, t.state from tasker.tasks t where t.task_uuid = u.task_uuid) t;
  perform tasker._announce_events();
  update tasker.tasks t
  set state = case when u.is_undone then 'steps_in_process' else 'error' end, running = u.is_undone::integer, waiting_retry = 0, waiting_engine = 0,
    failed = tasker._count_failed(t.task_uuid), finished_at = case when not u.is_undone then p_now end, error = u.error,
    compensates = case when u.is_undone then 'error' else t.compensates end
  from (
    select u.task_uuid, u.error, u.task_uuid = any (v_undone) as is_undone from unnest(v_stale.task_uuids, v_stale.errors) u(task_uuid, error)
  ) u
  where t.task_uuid = u.task_uuid;
  perform tasker._note_ends(v_stale.task_uuids);
  v_dead := array(
    select u.task_uuid
    from unnest(v_stale.task_uuids) u(task_uuid)
    cross join lateral (select t.template_id from tasker.tasks t where t.task_uuid = u.task_uuid) t
    where exists (select from tasker._clock_limits(t.template_id) l where l.staleness_action = 'dlq'));
  perform tasker._open_dead_letters(v_dead, p_now, p_actor);
  return cardinality(v_stale.task_uuids);
end
$function$;

CREATE OR REPLACE FUNCTION tasker._timers_health(p_now timestamp with time zone, OUT ok boolean, OUT detail text)
 RETURNS record
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
  v_due_at timestamptz;
begin
  select t.due_at into v_due_at from tasker.timers t order by t.due_at limit 1;
  ok := v_due_at is null or p_now - v_due_at < interval '1 minute';
  detail := case
    when v_due_at is null then 'nothing waits for a time'
    when ok then format('the next timer is due at %s', v_due_at)
    else format('a timer has been due since %s: maintenance fires it, see there', v_due_at)
  end;
end
$function$;
comment on function tasker._timers_health(timestamp with time zone) is 'Whether timers fire in time, and when the next one is due.';
revoke all on function tasker._timers_health(timestamp with time zone) from public;

CREATE OR REPLACE FUNCTION tasker._tolerates_failure(template_id integer, number integer)
 RETURNS boolean
 LANGUAGE c
 STABLE STRICT
AS 'MODULE_PATHNAME', $function$_tolerates_failure_wrapper$function$;
revoke all on function tasker._tolerates_failure(integer,integer) from public;

CREATE OR REPLACE FUNCTION tasker._transitions_read(p_after bigint, p_to bigint, p_task_uuids uuid[])
 RETURNS TABLE(template_id integer, number integer, key uuid, attempt integer, began_at timestamp with time zone, at timestamp with time zone, hour timestamp with time zone, to_state text, leaves text, enters text, starts bigint, retries bigint, run_us bigint, wait_us bigint)
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET enable_seqscan TO 'off'
 SET enable_bitmapscan TO 'on'
 SET enable_hashjoin TO 'on'
 SET enable_material TO 'on'
 SET jit TO 'off'
 SET plan_cache_mode TO 'force_generic_plan'
AS $function$
begin
  return query
    with steps_read as materialized (
      select h.step_uuid, h.seq, h.at, h.attempt, h.path
      from tasker.step_transitions h
      where h.seq > p_after and h.seq <= p_to and (p_task_uuids is null or tasker._task_of(h.step_uuid) = any (p_task_uuids))
    ), tasks_read as materialized (
      select h.task_uuid, h.at, h.path
      from tasker.task_transitions h
      where h.seq > p_after and h.seq <= p_to and (p_task_uuids is null or h.task_uuid = any (p_task_uuids))
    ), owners as materialized (
      select t.task_uuid, t.template_id, t.started_at
      from (select tasker._task_of(s.step_uuid) from steps_read s union select t.task_uuid from tasks_read t) k(task_uuid)
      -- The limit keeps this a look-up for each, whatever the planner thinks of the numbers.
      cross join lateral (select t.task_uuid, t.template_id, t.started_at from tasker.tasks t where t.task_uuid = k.task_uuid limit 1) t
    ), step_paths as materialized (
      -- There are a few dozen paths, whatever the number of rows.
      select p.path, u.*, tasker._gauged(u.from_state) as leaves, tasker._gauged(u.to_state) as enters
      from (select distinct s.path from steps_read s) p
      cross join lateral (
        select (array_agg(u.from_state order by u.ordinal))[1] as from_state, (array_agg(u.to_state order by u.ordinal desc))[1] as to_state,
          count(*) filter (where u.event = 'start') as starts, count(*) filter (where u.event = 'wait_for_retry') as retries,
          bool_or(u.from_state = 'in_progress' and u.event in ('enqueue_for_orchestration', 'enqueue_as_error_for_orchestration')) as ends_run
        from tasker._unroll_step(p.path) u
      ) u
    ), task_paths as materialized (
      select p.path, u.*, tasker._gauged(u.from_state) as leaves, tasker._gauged(u.to_state) as enters,
        tasker._is_terminal(u.to_state) and not tasker._is_terminal(u.from_state) as ends_run
      from (select distinct t.path from tasks_read t) p
      cross join lateral (
        select (array_agg(u.from_state order by u.ordinal))[1] as from_state, (array_agg(u.to_state order by u.ordinal desc))[1] as to_state
        from tasker._unroll_task(p.path) u
      ) u
    )
    select o.template_id, tasker._definition_number(o.template_id, tasker._number_of(s.step_uuid)) as number, s.step_uuid as key, s.attempt, s.since as began_at, s.at,
      date_bin(interval '1 hour', s.at, timestamptz 'epoch'), p.to_state, p.leaves, p.enters, p.starts,
      p.retries,
      case when p.ends_run then greatest(date_part('epoch', s.at - s.since) * 1000000, 0)::bigint end as run_us,
      case when p.starts > 0 and p.from_state = 'enqueued' then greatest(date_part('epoch', s.at - s.since) * 1000000, 0)::bigint
        when p.starts > 0 and p.from_state = 'pending' then 0 end as wait_us
    from (
      -- A row that begins in progress follows the one that started the attempt, one that begins enqueued follows the one that put it there.
      select s.*, coalesce(
        lag(s.at) over (partition by s.step_uuid order by s.seq),
        case when left(s.path, 1) <> 'p' then (
          select h.at from tasker.step_transitions h where h.step_uuid = s.step_uuid and h.seq + 0 < s.seq order by h.seq desc limit 1
        ) end) as since
      from steps_read s
    ) s
    join step_paths p on p.path = s.path
    join owners o on o.task_uuid = tasker._task_of(s.step_uuid)
    union all
    select o.template_id, 0, t.task_uuid, null, o.started_at, t.at, date_bin(interval '1 hour', t.at, timestamptz 'epoch'), p.to_state, p.leaves, p.enters, 0, 0,
      case when p.ends_run then greatest(date_part('epoch', t.at - o.started_at) * 1000000, 0)::bigint end, null
    from tasks_read t
    join task_paths p on p.path = t.path
    join owners o on o.task_uuid = t.task_uuid;
end
$function$;
comment on function tasker._transitions_read(bigint,bigint,uuid[]) is 'The history rows of a stretch of numbers, of all tasks or of those given, as what is counted of them. A run goes from the start of an attempt to its outcome, a wait from where a step was enqueued to its start; a task (number 0) runs from its start to its end.';
revoke all on function tasker._transitions_read(bigint,bigint,uuid[]) from public;

CREATE OR REPLACE FUNCTION tasker._trim_slowest(p_template_ids integer[], p_are_tasks boolean[], p_starts_at timestamp with time zone[])
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
begin
  with least as materialized (
    select u.template_id, u.is_task, u.starts_at, k.run_us, k.key
    from unnest(p_template_ids, p_are_tasks, p_starts_at) u(template_id, is_task, starts_at)
    cross join lateral (
      select k.run_us, k.key from tasker.slowest_runs k
      where k.template_id = u.template_id and k.is_task = u.is_task and k.starts_at = u.starts_at
      order by k.run_us desc, k.key desc
      offset tasker._slowest_kept() - 1 limit 1
    ) k
  )
  delete from tasker.slowest_runs r
  using least l
  where r.template_id = l.template_id and r.is_task = l.is_task and r.starts_at = l.starts_at and r.run_us <= l.run_us and (r.run_us, r.key) < (l.run_us, l.key);
end
$function$;
comment on function tasker._trim_slowest(integer[],boolean[],timestamp with time zone[]) is 'Leaves the slowest few in each of the lists.';
revoke all on function tasker._trim_slowest(integer[],boolean[],timestamp with time zone[]) from public;

CREATE OR REPLACE FUNCTION tasker._uncertain_steps(template_id integer, decisions integer[], states text[], results jsonb[])
 RETURNS TABLE(number integer, is_undecided boolean)
 LANGUAGE c
 STABLE STRICT
AS 'MODULE_PATHNAME', $function$_uncertain_steps_wrapper$function$;
revoke all on function tasker._uncertain_steps(integer,integer[],text[],jsonb[]) from public;

CREATE OR REPLACE FUNCTION tasker._unreal_steps(p_task_uuid uuid, p_template_id integer)
 RETURNS uuid[]
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
begin
  -- Most templates have neither decisions nor instances.
  if not tasker._is_dynamic(p_template_id) then
    return '{}';
  end if;
  return array(
    select s.step_uuid
    from (
      select coalesce(array_agg(d.number), '{}') as numbers, coalesce(array_agg(s.state), '{}') as states, coalesce(array_agg(s.result), '{}') as results
      from unnest(tasker._decisions(p_template_id)) d(number)
      cross join lateral (select s.state, s.result from tasker.steps s where s.step_uuid = tasker._step_uuid(p_task_uuid, d.number)) s
    ) d
    cross join lateral tasker._uncertain_steps(p_template_id, d.numbers, d.states, d.results) u
    cross join lateral (
      select s.step_uuid from tasker.steps s where s.step_uuid = tasker._step_uuid(p_task_uuid, u.number) and s.state = 'pending'
    ) s
    union all
    -- What undid a step before a rerun.
    select s.step_uuid
    from tasker.steps s
    where tasker._has_compensations(p_template_id) and s.step_uuid > p_task_uuid and s.step_uuid <= tasker._last_step_uuid(p_task_uuid)
      and s.state = 'pending' and s.undoes is null and tasker._is_compensation(p_template_id, tasker._number_of(s.step_uuid))
    union all
    select l.step_uuid from tasker._left_over_instances(p_task_uuid, p_template_id) l);
end
$function$;
comment on function tasker._unreal_steps(uuid,integer) is 'The pending rows of a task that are no steps: their decision is still to be made or chose otherwise, or they are instances that a rerun did not ask for.';
revoke all on function tasker._unreal_steps(uuid,integer) from public;

CREATE OR REPLACE FUNCTION tasker._unserved_handlers(p_now timestamp with time zone)
 RETURNS text[]
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
  v_namespace record;
  v_unserved text[];
  v_found text[] := '{}';
begin
  for v_namespace in select n.name, n.queue_name from tasker.namespaces n where n.paused_at is null and tasker._may(n.name, 'read') order by n.name loop
    continue when to_regclass(format('pgmq.%I', 'q_' || v_namespace.queue_name)) is null;
    -- Served messages go, so that those which nobody serves come to the front: a bounded look there finds them, however long the queue is.
    execute format(
      'select array_agg(format(''%%s (namespace %%s)'', h.handler, $2) order by h.handler)
       from (
         select distinct m.handler
         from (select m.message ->> ''handler'' as handler from pgmq.%I m where m.vt <= $1 order by m.vt limit 1000) m
         where m.handler is not null
       ) h
       where tasker._live_workers($2, h.handler, $3) = 0', 'q_' || v_namespace.queue_name)
    into v_unserved
    using p_now - tasker._worker_silence(), v_namespace.name, p_now;
    v_found := v_found || coalesce(v_unserved, '{}');
  end loop;
  return v_found;
end
$function$;

CREATE OR REPLACE FUNCTION tasker._unserved_subscriptions(p_now timestamp with time zone)
 RETURNS text[]
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
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
comment on function tasker._unserved_subscriptions(timestamp with time zone) is 'The subscriptions for which events have been visible for longer than a worker may be silent.';
revoke all on function tasker._unserved_subscriptions(timestamp with time zone) from public;

CREATE OR REPLACE FUNCTION tasker._verify_history(p_from uuid, p_to uuid)
 RETURNS SETOF tasker.violation
 LANGUAGE sql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
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

CREATE OR REPLACE FUNCTION tasker._verify_messages(p_from uuid, p_to uuid)
 RETURNS SETOF tasker.violation
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
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
comment on function tasker._verify_messages(uuid,uuid) is 'Invariant 4: a live step has exactly one message, served by the priority that it says, any other none; and of 7, that a message is hidden for ever exactly while its task is paused.';

CREATE OR REPLACE FUNCTION tasker._verify_steps(p_from uuid, p_to uuid)
 RETURNS SETOF tasker.violation
 LANGUAGE sql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
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

CREATE OR REPLACE FUNCTION tasker._verify_tasks(p_from uuid, p_to uuid)
 RETURNS SETOF tasker.violation
 LANGUAGE sql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
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

CREATE OR REPLACE FUNCTION tasker._verify_waits(p_from uuid, p_to uuid)
 RETURNS SETOF tasker.violation
 LANGUAGE sql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
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
comment on function tasker._verify_waits(uuid,uuid) is 'Of invariant 7: what waits inside the engine has something that will move it, and nothing else has.';
revoke all on function tasker._verify_waits(uuid,uuid) from public;

CREATE OR REPLACE FUNCTION tasker._visible_at(p_state text, p_paused_at timestamp with time zone, p_retry_at timestamp with time zone, p_lease_expires_at timestamp with time zone, p_now timestamp with time zone)
 RETURNS timestamp with time zone
 LANGUAGE plpgsql
 IMMUTABLE PARALLEL SAFE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
begin
  return case when p_state = 'in_progress' then tasker._hidden_until(p_lease_expires_at) when p_paused_at is not null then 'infinity' when p_state = 'waiting_for_retry' then p_retry_at
    else p_now end;
end
$function$;
comment on function tasker._visible_at(text,timestamp with time zone,timestamp with time zone,timestamp with time zone,timestamp with time zone) is 'From when on the message of a live step is visible: when the second of its lease''s end or its delay is over, else now; infinity while its task is paused.';

CREATE OR REPLACE FUNCTION tasker._wait_for_turn(p_task_uuids uuid[])
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
begin
  perform pg_advisory_xact_lock(1414742860, h.hash)
  from (
    select distinct uuid_hash(t.task_uuid) as hash
    from unnest(p_task_uuids) u(task_uuid)
    cross join lateral (select t.task_uuid, t.template_id from tasker.tasks t where t.task_uuid = u.task_uuid) t
    where tasker._is_dynamic(t.template_id)
    order by hash
  ) h;
end
$function$;
comment on function tasker._wait_for_turn(uuid[]) is 'Waits until nobody finishes instances of tasks, and keeps all from it until the transaction ends: each finish lets others go, and who wants them all would come too late again and again (engine/turns.rs).';
revoke all on function tasker._wait_for_turn(uuid[]) from public;

CREATE OR REPLACE FUNCTION tasker._wait_of(template_id integer, number integer)
 RETURNS TABLE(kind text, signal text, has_timer boolean)
 LANGUAGE c
 STABLE STRICT
AS 'MODULE_PATHNAME', $function$_wait_of_wrapper$function$;
revoke all on function tasker._wait_of(integer,integer) from public;

CREATE OR REPLACE FUNCTION tasker._waits_in_engine(p_state text, p_lease_expires_at timestamp with time zone)
 RETURNS boolean
 LANGUAGE sql
 IMMUTABLE PARALLEL SAFE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
  -- A worker's attempt has a lease.
  select p_state = 'in_progress' and p_lease_expires_at is null
$function$;
comment on function tasker._waits_in_engine(text,timestamp with time zone) is 'Whether a step is in progress without a worker: the engine waits for something.';
revoke all on function tasker._waits_in_engine(text,timestamp with time zone) from public;

CREATE OR REPLACE FUNCTION tasker._walk_live_steps(p_limit integer, p_now timestamp with time zone, OUT step_uuids uuid[], OUT clocked_task_uuids uuid[])
 RETURNS record
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
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

CREATE OR REPLACE FUNCTION tasker._workers_are_forgotten_after()
 RETURNS interval
 LANGUAGE sql
 IMMUTABLE PARALLEL SAFE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
  select interval '7 days'
$function$;
comment on function tasker._workers_are_forgotten_after() is 'How long a worker that is retired or silent stays on the list; long enough to see after a weekend what died on it.';
revoke all on function tasker._workers_are_forgotten_after() from public;

CREATE OR REPLACE FUNCTION tasker.apply_to_tasks(filter jsonb, action text, dry_run boolean DEFAULT true, reason text DEFAULT NULL::text)
 RETURNS TABLE(job_uuid uuid, matched integer, more boolean, sample uuid[])
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
  v_now timestamptz := tasker._now();
  v_found uuid[];
begin
  perform tasker._require_filter(apply_to_tasks.filter);
  perform tasker._require_bulk_action(apply_to_tasks.action);
  perform tasker._require_reason(apply_to_tasks.reason);
  perform tasker._require_may(apply_to_tasks.filter ->> 'namespace', 'operate');
  -- Maintenance does the job, and only the role that it is for is known then, not the limit of this session: the filter has to keep to it.
  if not coalesce(apply_to_tasks.dry_run, true) and apply_to_tasks.filter ->> 'namespace' is null then
    perform tasker._require_unlimited('start a bulk job whose filter names no namespace');
  end if;
  v_found := tasker._filtered_tasks(apply_to_tasks.filter, null, 1000);
  if not coalesce(apply_to_tasks.dry_run, true) then
    insert into tasker.bulk_jobs (job_uuid, filter, action, reason, created_at, created_by)
    values ((tasker._task_uuids(1, v_now))[1], apply_to_tasks.filter, apply_to_tasks.action, apply_to_tasks.reason, v_now, tasker._actor())
    returning bulk_jobs.job_uuid into apply_to_tasks.job_uuid;
  end if;
  return query select apply_to_tasks.job_uuid, cardinality(v_found), cardinality(v_found) = 1000, v_found[1:10];
end
$function$;

CREATE OR REPLACE FUNCTION tasker.await_events(awaits boolean DEFAULT true)
 RETURNS boolean
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
  v_awaits constant boolean := exists (
    select from pg_locks l
    join pg_database d on d.oid = l.database
    where l.pid = pg_backend_pid() and l.locktype = 'advisory' and l.classid = 1414742859 and l.objid = 3 and l.objsubid = 2 and l.mode = 'ShareLock'
      and d.datname = current_database());
begin
  if await_events.awaits then
    -- Who writes meanwhile without knowing of this session holds the lock in another mode until its transaction ends (event_notices.rs).
    return v_awaits or pg_try_advisory_lock_shared(1414742859, 3);
  end if;
  if v_awaits then
    perform pg_advisory_unlock_shared(1414742859, 3);
  end if;
  return false;
end
$function$;
comment on function tasker.await_events(boolean) is 'Asks for a NOTIFY on tasker_events by each transaction that writes events, or no longer; gives whether this session has asked. It can''t while a transaction is under way that began to write unasked: try again later. A reader that has asked lists once more, then sleeps; when it is notified, it calls this with false, so that nobody pays for notices while it reads. Ends with the session.';
revoke all on function tasker.await_events(boolean) from public;
grant execute on function tasker.await_events(boolean) to tasker_admin, tasker_client, tasker_operator, tasker_reader;

CREATE OR REPLACE FUNCTION tasker.backfill_schedule(name text, "from" timestamp with time zone, "to" timestamp with time zone, namespace text DEFAULT 'default'::text)
 RETURNS integer
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
  v_now timestamptz := tasker._now();
  v_schedule tasker.schedules := tasker._lock_schedule(backfill_schedule.namespace, backfill_schedule.name);
  v_before timestamptz;
  v_times timestamptz[];
begin
  if not coalesce(isfinite(backfill_schedule."from") and isfinite(backfill_schedule."to") and backfill_schedule."from" < backfill_schedule."to", false) then
    perform tasker._raise('22023', format('"from" must be before "to", not %s and %s', coalesce(backfill_schedule."from"::text, 'null'),
      coalesce(backfill_schedule."to"::text, 'null')), null, 'Give the first time to run and the time before which to stop.');
  end if;
  if v_schedule.paused_at is not null and v_schedule.next_at < least(backfill_schedule."to", v_now) then
    -- Nobody else runs these times now, and whoever resumes the schedule begins after them.
    v_before := tasker._next_cron(v_schedule.cron, v_schedule.timezone, least(backfill_schedule."to", v_now) - interval '1 microsecond');
    v_schedule.open_times := v_schedule.open_times + tstzmultirange(tstzrange(v_schedule.next_at, v_before));
    v_schedule.next_at := v_before;
  end if;
  v_before := least(backfill_schedule."to", v_schedule.next_at);
  v_times := tasker._open_times_of(v_schedule, least(backfill_schedule."from", v_before), v_before, tasker._max_batch() + 1);
  if cardinality(v_times) > tasker._max_batch() then
    perform tasker._raise('TK022', format('more than %s times are to be run', tasker._max_batch()), format('The last one that fits is %s.', v_times[tasker._max_batch()]),
      'Split the call into several, or raise tasker.max_batch.');
  elsif cardinality(v_times) = 0 then
    return 0;
  end if;
  update tasker.schedules s
  set next_at = v_schedule.next_at, open_times = v_schedule.open_times - tstzmultirange(tstzrange(backfill_schedule."from", v_before))
  where s.schedule_uuid = v_schedule.schedule_uuid;
  perform tasker._create_scheduled(v_schedule, v_times, v_now);
  return cardinality(v_times);
end
$function$;
comment on function tasker.backfill_schedule(text,timestamp with time zone,timestamp with time zone,text) is 'Creates the tasks of a schedule for all its times from one on and before another that have had none, also those from before it was made, and says how many; a time runs once, however often this is called. Times that maintenance is still to run are left to it; a paused schedule goes on after the last one when it is resumed. Errors: TK004, TK022, 22023, and those of create_task.';
revoke all on function tasker.backfill_schedule(text,timestamp with time zone,timestamp with time zone,text) from public;
grant execute on function tasker.backfill_schedule(text,timestamp with time zone,timestamp with time zone,text) to tasker_admin, tasker_operator;

CREATE OR REPLACE FUNCTION tasker.cancel_bulk_job(job_uuid uuid)
 RETURNS boolean
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
  v_finished_at timestamptz;
begin
  select j.finished_at into v_finished_at from tasker.bulk_jobs j where j.job_uuid = cancel_bulk_job.job_uuid and tasker._may_see_job(j.filter, j.created_by)
  for update;
  if not found then
    perform tasker._raise('TK004', format('bulk job %s not found', coalesce(cancel_bulk_job.job_uuid::text, 'null')), null,
      'tasker.list_bulk_jobs() shows the jobs there are.');
  end if;
  if v_finished_at is not null then
    return false;
  end if;
  update tasker.bulk_jobs j set finished_at = tasker._now() where j.job_uuid = cancel_bulk_job.job_uuid;
  return true;
end
$function$;

CREATE OR REPLACE FUNCTION tasker.cancel_task(task_uuid uuid, reason text DEFAULT NULL::text, compensate boolean DEFAULT false)
 RETURNS boolean
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET plan_cache_mode TO 'force_generic_plan'
 SET enable_seqscan TO 'off'
 SET enable_bitmapscan TO 'off'
 SET enable_hashjoin TO 'off'
 SET enable_mergejoin TO 'off'
 SET enable_material TO 'off'
 SET jit TO 'off'
AS $function$
declare
  v_task record;
begin
  perform tasker._lock_to_operate(cancel_task.task_uuid);
  select t.state, t.compensates into v_task from tasker.tasks t where t.task_uuid = cancel_task.task_uuid;
  if v_task.state = 'cancelled' then
    return false;
  elsif tasker._next_task_state(v_task.state, 'cancel') is null then
    perform tasker._raise('TK010', format('task cannot be cancelled: it is %s', v_task.state),
      format('There is no transition from %s by the event cancel.', v_task.state), 'A task that has ended can be rerun, not cancelled.');
  elsif cancel_task.compensate and v_task.compensates is not null then
    -- It goes on being undone. A caller who lost the answer asks again.
    update tasker.tasks t set compensates = 'cancelled' where t.task_uuid = cancel_task.task_uuid and t.compensates <> 'cancelled';
    return found;
  end if;
  perform tasker._cancel(cancel_task.task_uuid, cancel_task.reason, tasker._now(), tasker._author(), coalesce(cancel_task.compensate, false));
  return true;
end
$function$;
comment on function tasker.cancel_task(uuid,text,boolean) is 'Cancels a task and every step of it that has not ended; workers learn of it when they finish or extend, child tasks are cancelled by maintenance. With compensate, the steps that are complete and name a compensation are undone first, the last one first; the task is cancelled when that is done; one that is being undone already goes on with it. True when this call cancelled it, false when it was cancelled already. Errors: TK001, TK010 for a task that ended otherwise.';
revoke all on function tasker.cancel_task(uuid,text,boolean) from public;
grant execute on function tasker.cancel_task(uuid,text,boolean) to tasker_admin, tasker_operator;

CREATE OR REPLACE FUNCTION tasker.check_api_key(key text)
 RETURNS SETOF tasker.api_key
 LANGUAGE plpgsql
 SECURITY DEFINER ROWS 1
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
  v_now constant timestamptz := tasker._now();
  v_key tasker.api_keys;
begin
  select k.* into v_key from tasker.api_keys k where k.key_hash = tasker._key_hash(check_api_key.key);
  if not found then
    return;
  end if;
  if tasker._key_problem(v_key, v_now) is null and (v_key.used_at is null or v_key.used_at < v_now - interval '1 hour') then
    -- Once an hour, and whoever is second lets it be: a key that many use is no row that they wait for.
    perform from tasker.api_keys k where k.name = v_key.name and k.used_at is not distinct from v_key.used_at for no key update skip locked;
    if found then
      update tasker.api_keys k set used_at = v_now where k.name = v_key.name;
    end if;
  end if;
  return next tasker._key_row(v_key, v_now);
end
$function$;
comment on function tasker.check_api_key(text) is 'Whose a key is and what it allows; with its problem when it is revoked or expired, no row when there is no such key. The server gives its SHA-256 in hexadecimal digits, so that no key is in a log of the database.';
revoke all on function tasker.check_api_key(text) from public;
grant execute on function tasker.check_api_key(text) to tasker_admin, tasker_client, tasker_operator, tasker_reader, tasker_worker;

CREATE OR REPLACE FUNCTION tasker.claim_domain_events(worker_id text, subscriber text, namespaces text[], patterns text[], max_events integer DEFAULT 10, lease interval DEFAULT '00:00:30'::interval)
 RETURNS SETOF tasker.claimed_domain_event
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
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
comment on function tasker.claim_domain_events(text,text,text[],text[],integer,interval) is 'Hands out up to max_events durable events of the namespaces, for the subscriptions that the subscriber has by these patterns, the oldest first; each comes again when the lease ends before finish_domain_events. Never waits for another transaction. Errors: 22023, TK022.';
revoke all on function tasker.claim_domain_events(text,text,text[],text[],integer,interval) from public;
grant execute on function tasker.claim_domain_events(text,text,text[],text[],integer,interval) to tasker_admin, tasker_worker;

CREATE OR REPLACE FUNCTION tasker.create_api_key(name text, permissions text[], namespaces text[] DEFAULT NULL::text[], expires_at timestamp with time zone DEFAULT NULL::timestamp with time zone)
 RETURNS text
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
  v_now constant timestamptz := tasker._now();
  v_key text;
begin
  perform tasker._require_unlimited('create a key');
  if create_api_key.name is null or create_api_key.name !~ '^[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}$' then
    perform tasker._raise('22023', format('%s is not the name of a key', coalesce(create_api_key.name, 'null')), null,
      'Names have 1 to 64 characters: letters, digits, _, and after the first one also . and -.');
  end if;
  perform tasker._raise_refused(tasker._permissions_problem(create_api_key.permissions));
  perform tasker._require_namespace_names(create_api_key.namespaces);
  if cardinality(create_api_key.namespaces) = 0 then
    perform tasker._raise('22023', 'namespaces is empty: such a key would reach nothing', null, 'Leave it out for a key that reaches all namespaces.');
  elsif create_api_key.expires_at <= v_now then
    perform tasker._raise('22023', format('expires_at is over already: %s', create_api_key.expires_at), null, 'Leave it out for a key that does not expire.');
  end if;
  -- Each gen_random_uuid() has 122 bits of PostgreSQL's strong randomness; three are more than the hash of them keeps.
  v_key := 'tsk_' || rtrim(translate(encode(sha256(uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid())), 'base64'), '+/', '-_'), '=');
  insert into tasker.api_keys as k (name, key_hash, permissions, namespaces, created_by, created_at, expires_at)
  values (create_api_key.name, tasker._key_hash(v_key), create_api_key.permissions, create_api_key.namespaces, tasker._actor(), v_now, create_api_key.expires_at)
  on conflict on constraint api_keys_pkey do nothing;
  if not found then
    perform tasker._raise('23505', format('there is a key of the name %s already', create_api_key.name), null,
      'Give another name, also when that key is revoked: history tells keys apart by their names.');
  end if;
  return v_key;
end
$function$;
comment on function tasker.create_api_key(text,text[],text[],timestamp with time zone) is 'Makes a key for callers of the server and gives it, this one time: only its hash is kept. permissions are resource:action, resource:* or *; namespaces those it reaches, null for all; without expires_at it does not expire. Errors: 22023, 23505.';
revoke all on function tasker.create_api_key(text,text[],text[],timestamp with time zone) from public;
grant execute on function tasker.create_api_key(text,text[],text[],timestamp with time zone) to tasker_admin;

CREATE OR REPLACE FUNCTION tasker.create_schedule(name text, cron text, template_name text, namespace text DEFAULT 'default'::text, context jsonb DEFAULT '{}'::jsonb, timezone text DEFAULT 'UTC'::text, catch_up text DEFAULT 'one'::text, version text DEFAULT NULL::text)
 RETURNS tasker.schedule
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
  v_now timestamptz := tasker._now();
  v_schedule tasker.schedules;
begin
  perform tasker._require_may(create_schedule.namespace, 'create');
  v_schedule.namespace_id := tasker._require_namespace(create_schedule.namespace);
  perform tasker._require_schedule_name(create_schedule.name);
  perform tasker._require_known('catch_up', create_schedule.catch_up, array['none', 'one', 'all']);
  perform tasker._raise_refused(tasker._cron_problem(coalesce(create_schedule.cron, '')));
  perform tasker._require_schedulable(create_schedule.namespace, create_schedule.template_name, create_schedule.version, create_schedule.context);
  -- The dearest check: the view reads every zone there is.
  v_schedule.timezone := tasker._known_timezone(create_schedule.timezone);
  v_schedule.next_at := tasker._next_cron(create_schedule.cron, v_schedule.timezone, v_now);
  insert into tasker.schedules as s (
    schedule_uuid, namespace_id, name, cron, timezone, template_name, template_version, context, catch_up, created_by, created_at, next_at, open_times)
  values (
    (tasker._task_uuids(1, v_now))[1], v_schedule.namespace_id, create_schedule.name, create_schedule.cron, v_schedule.timezone, create_schedule.template_name,
    create_schedule.version, create_schedule.context, create_schedule.catch_up, tasker._actor(), v_now, v_schedule.next_at,
    tstzmultirange(tstzrange(null, v_schedule.next_at)))
  on conflict on constraint schedule_name_is_unique do nothing
  returning s.* into v_schedule;
  if not found then
    perform tasker._raise('23505', format('there is a schedule %s in namespace %s', create_schedule.name, create_schedule.namespace), null,
      'Delete it first, or give another name; tasker.list_schedules() shows it.');
  end if;
  return tasker._shown_schedule(v_schedule, create_schedule.namespace);
end
$function$;
comment on function tasker.create_schedule(text,text,text,text,jsonb,text,text,text) is 'Creates a schedule: from now on maintenance creates a task of the template, the newest version unless one is named, whenever the cron expression is due in the time zone, with the rights that the caller has then. Of times that were missed, catch_up runs none, the last one (one), or all. Errors: TK003, TK004, TK015, TK021, TK022, 23505, 22023.';
revoke all on function tasker.create_schedule(text,text,text,text,jsonb,text,text,text) from public;
grant execute on function tasker.create_schedule(text,text,text,text,jsonb,text,text,text) to tasker_admin, tasker_operator;

CREATE OR REPLACE FUNCTION tasker.create_task(template_name text, namespace text DEFAULT 'default'::text, context jsonb DEFAULT '{}'::jsonb, version text DEFAULT NULL::text, idempotency_key text DEFAULT NULL::text, priority integer DEFAULT 0, run_at timestamp with time zone DEFAULT NULL::timestamp with time zone, correlation_id uuid DEFAULT NULL::uuid, parent_correlation_id uuid DEFAULT NULL::uuid, tags text[] DEFAULT '{}'::text[], initiator text DEFAULT NULL::text, source_system text DEFAULT NULL::text, reason text DEFAULT NULL::text)
 RETURNS uuid
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
  v_created tasker._created;
begin
  v_created := tasker._create_tasks(jsonb_build_array(jsonb_build_object(
    'template_name', create_task.template_name, 'namespace', create_task.namespace, 'context', create_task.context, 'version', create_task.version,
    'idempotency_key', create_task.idempotency_key, 'priority', create_task.priority, 'run_at', create_task.run_at,
    'correlation_id', create_task.correlation_id, 'parent_correlation_id', create_task.parent_correlation_id, 'tags', create_task.tags,
    'initiator', create_task.initiator, 'source_system', create_task.source_system, 'reason', create_task.reason)), tasker._now(), tasker._author());
  if v_created.refused is not null then
    perform tasker._raise_refused(v_created.refused);
  end if;
  return v_created.task_uuids[1];
end
$function$;
comment on function tasker.create_task(text,text,jsonb,text,text,integer,timestamp with time zone,uuid,uuid,text[],text,text,text) is 'Creates a task in the caller''s transaction and gives its key; a repeated idempotency_key gives the task that has it. priority is -100 to 100, run_at the earliest start; the task is of the trace that the setting tasker.traceparent names. Errors: TK003, TK013, TK015, TK021, TK022, TK030, 22023.';

CREATE OR REPLACE FUNCTION tasker.create_tasks(requests jsonb)
 RETURNS TABLE(ordinal integer, task_uuid uuid, created boolean)
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
  v_created tasker._created;
begin
  perform tasker._require_requests(create_tasks.requests);
  v_created := tasker._create_tasks(create_tasks.requests, tasker._now(), tasker._author());
  perform tasker._raise_refused(v_created.refused);
  return query select c.ordinal::integer, c.task_uuid, c.created from unnest(v_created.task_uuids, v_created.created) with ordinality c(task_uuid, created, ordinal);
end
$function$;

CREATE OR REPLACE FUNCTION tasker.dead_letter_stats()
 RETURNS TABLE(namespace text, reason text, resolution text, dead_letters bigint, oldest_opened_at timestamp with time zone, newest_opened_at timestamp with time zone)
 LANGUAGE plpgsql
 STABLE SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
begin
  return query
    select n.name, d.reason, d.resolution, count(*), min(d.opened_at), max(d.opened_at)
    from tasker.dead_letters d
    cross join lateral (select t.namespace_id from tasker.tasks t where t.task_uuid = d.task_uuid) t
    join tasker.namespaces n on n.namespace_id = t.namespace_id
    where tasker._may(n.name, 'read')
    group by n.name, d.reason, d.resolution
    order by n.name, d.reason, d.resolution;
end
$function$;
comment on function tasker.dead_letter_stats() is 'Counts dead letters, those of tasks and those of instances, by namespace, reason and resolution; of the open ones (pending) oldest_opened_at says how long the longest has waited. Reads every dead letter.';

CREATE OR REPLACE FUNCTION tasker.delete_schedule(name text, namespace text DEFAULT 'default'::text)
 RETURNS void
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
  v_schedule constant tasker.schedules := tasker._lock_schedule(delete_schedule.namespace, delete_schedule.name);
begin
  delete from tasker.schedules s where s.schedule_uuid = v_schedule.schedule_uuid;
end
$function$;
comment on function tasker.delete_schedule(text,text) is 'Deletes a schedule; the tasks that it created stay and go on. Errors: TK004.';
revoke all on function tasker.delete_schedule(text,text) from public;
grant execute on function tasker.delete_schedule(text,text) to tasker_admin, tasker_operator;

CREATE OR REPLACE FUNCTION tasker.explain_task(task_uuid uuid)
 RETURNS SETOF tasker.explanation
 LANGUAGE plpgsql
 STABLE SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
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

CREATE OR REPLACE FUNCTION tasker.extend_leases(worker_id text, steps jsonb, lease interval DEFAULT '00:00:30'::interval)
 RETURNS TABLE(step_uuid uuid, verdict text)
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET plan_cache_mode TO 'force_generic_plan'
 SET enable_seqscan TO 'off'
 SET enable_bitmapscan TO 'off'
 SET enable_hashjoin TO 'off'
 SET enable_mergejoin TO 'off'
 SET enable_material TO 'off'
 SET jit TO 'off'
AS $function$
declare
  v_now timestamptz := tasker._now();
  v_held tasker._holding[];
  v_late record;
  v_verdicts tasker._held[];
  v_queue record;
begin
  perform tasker._require_worker_id(extend_leases.worker_id);
  perform tasker._require_lease(extend_leases.lease);
  v_held := tasker._read_held(extend_leases.steps);
  -- Only what is in progress: whoever makes an instance anew, or lets a step go, would wait for a call that names an attempt long over.
  perform s.step_uuid
  from (
    select h.step_uuid
    from (select distinct h.step_uuid from unnest(v_held) h where tasker._may(tasker._checked_namespace(h.step_uuid), 'work')) h
    cross join lateral (select s.template_id from tasker.steps s where s.step_uuid = h.step_uuid) s
    -- What was made while the task ran comes first: whoever has an instance may wait for the step that stands for it. What others lock late comes last.
    cross join lateral (select x.steps_count from tasker.templates x where x.template_id = s.template_id) x
    order by tasker._number_of(h.step_uuid) <= x.steps_count, tasker._is_late(s.template_id, tasker._number_of(h.step_uuid)), h.step_uuid
  ) h
  cross join lateral (select s.step_uuid from tasker.steps s where s.step_uuid = h.step_uuid and s.state = 'in_progress' for no key update) s;

  v_verdicts := array(
    select row(h.step_uuid, s.template_id, s.attempt, s.attempts_used, s.msg_id, d.timeout_seconds, least(v_now + extend_leases.lease, d.ends_at),
      case
        when s.state is null or not tasker._may(d.namespace, 'work') then 'lost'
        when s.state = 'cancelled' then 'cancelled'
        when s.attempt <> h.attempt then 'lost'
        when s.state in ('waiting_for_retry', 'error', 'enqueued') and s.error ->> 'type' = 'timed_out' then 'timed_out'
        when s.state <> 'in_progress' or s.lease_expires_at is null then 'lost'
        when d.ends_at <= v_now then 'fail'
        else 'held'
      end)::tasker._held
    from unnest(v_held) h
    left join lateral (select s.* from tasker.steps s where s.step_uuid = h.step_uuid) s on true
    left join lateral (
      select d.namespace, d.timeout_seconds, s.started_at + make_interval(secs => d.timeout_seconds) as ends_at
      from tasker._step_definitions(case when s.template_id is null then '{}' else array[s.template_id] end,
        case when s.template_id is null then '{}' else array[tasker._number_of(h.step_uuid)] end) d
    ) d on true
    order by h.ordinal);

  update tasker.steps s
  set lease_expires_at = c.lease_until, lease_ms = extract(epoch from extend_leases.lease) * 1000
  from unnest(v_verdicts) c
  where s.step_uuid = c.step_uuid and c.verdict = 'held';
  select array_agg(c.step_uuid) as step_uuids, array_agg(tasker._timed_out_error(c.attempt, c.timeout_seconds)) as errors
  into v_late
  from (select distinct on (c.step_uuid) c.* from unnest(v_verdicts) c where c.verdict = 'fail' order by c.step_uuid) c;
  if v_late.step_uuids is not null then
    perform tasker._raise_refused(tasker._time_out(v_late.step_uuids, v_late.errors, v_now, extend_leases.worker_id));
  end if;
  for v_queue in
    select d.queue_name, array_agg(c.msg_id order by c.msg_id) as msg_ids, array_agg(tasker._hidden_until(c.lease_until) order by c.msg_id) as visible_at
    from unnest(v_verdicts) c
    cross join lateral tasker._step_definitions(array[c.template_id], array[tasker._number_of(c.step_uuid)]) d
    where c.verdict = 'held'
    group by d.queue_name
  loop
    perform tasker._raise_refused(tasker._queue_problem(v_queue.queue_name));
    perform tasker._queue_set_visible_at(v_queue.queue_name, v_queue.msg_ids, v_queue.visible_at);
  end loop;
  return query
    select c.step_uuid, case c.verdict when 'fail' then 'timed_out' else c.verdict end from unnest(v_verdicts) c;
end
$function$;

CREATE OR REPLACE FUNCTION tasker.finish_domain_events(worker_id text, deliveries jsonb)
 RETURNS TABLE(namespace text, msg_id bigint, verdict text)
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
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
comment on function tasker.finish_domain_events(text,jsonb) is 'Says what became of deliveries {namespace, msg_id, delivery, status: done | fail | release, error}: done ones are over, failed ones come again after a delay, and after ten deliveries are set aside; released ones come again at once. The verdict is accepted, or lost for one that was handed out again meanwhile. Errors: 22023, TK022.';
revoke all on function tasker.finish_domain_events(text,jsonb) from public;
grant execute on function tasker.finish_domain_events(text,jsonb) to tasker_admin, tasker_worker;

CREATE OR REPLACE FUNCTION tasker.get_dead_letter(dead_letter_uuid uuid DEFAULT NULL::uuid, task_uuid uuid DEFAULT NULL::uuid)
 RETURNS SETOF tasker.investigation
 LANGUAGE plpgsql
 STABLE SECURITY DEFINER ROWS 1
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
  v_dead_letter_uuid uuid := get_dead_letter.dead_letter_uuid;
  v_task_uuid uuid := get_dead_letter.task_uuid;
begin
  if (v_dead_letter_uuid is null) = (v_task_uuid is null) then
    perform tasker._raise('22023', 'give either dead_letter_uuid or task_uuid', null, 'A task''s key finds its open dead letter, or else its newest.');
  elsif v_dead_letter_uuid is not null then
    v_task_uuid := tasker._require_dead_letter(v_dead_letter_uuid);
  else
    perform tasker._require_task(v_task_uuid);
    v_dead_letter_uuid := coalesce(tasker._open_dead_letter_of(v_task_uuid), (
      select d.dead_letter_uuid
      from tasker.dead_letters d
      where d.task_uuid = v_task_uuid and coalesce(d.step_uuid, d.task_uuid) = v_task_uuid
      order by d.dead_letter_uuid desc
      limit 1));
    if v_dead_letter_uuid is null then
      perform tasker._raise('TK004', format('task %s has no dead letter', v_task_uuid), null,
        'tasker.list_dead_letters() shows the dead letters there are, tasker.explain_task() those of a task''s instances.');
    end if;
  end if;
  return query
    select r.dead_letter_uuid, r.task_uuid, r.namespace, r.template_name, r.template_version, r.priority, r.task_state, r.reason, r.resolution, r.opened_at,
      r.opened_by, r.resolved_at, r.resolved_by, r.note, r.error, d.snapshot, r.step_uuid, r.step_name
    from tasker._dead_letter_rows(array[v_dead_letter_uuid], array[v_task_uuid]) r
    cross join lateral (
      select d.snapshot from tasker.dead_letters d where d.task_uuid = r.task_uuid and d.dead_letter_uuid = r.dead_letter_uuid
    ) d;
end
$function$;
comment on function tasker.get_dead_letter(uuid,uuid) is 'Gives one dead letter with its snapshot, by its own key, or by its task''s: the task''s own that is open, or else the newest. Errors: TK001, TK004, 22023, 40001.';

CREATE OR REPLACE FUNCTION tasker.get_dependency_results(step_uuid uuid, transitive boolean DEFAULT false, after uuid DEFAULT NULL::uuid, "limit" integer DEFAULT 1000)
 RETURNS SETOF tasker.dependency_result
 LANGUAGE plpgsql
 STABLE SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
  v_task_uuid constant uuid := tasker._task_of(get_dependency_results.step_uuid);
  v_namespace constant text := tasker._checked_namespace(get_dependency_results.step_uuid);
  v_template_id integer;
  v_numbers integer[];
begin
  perform tasker._require_limit(get_dependency_results."limit", 'after => the last step_uuid');
  select s.template_id into v_template_id
  from tasker.steps s
  where s.step_uuid = get_dependency_results.step_uuid and tasker._may(v_namespace, 'work');
  if not found then
    perform tasker._require_same_partitions(get_dependency_results.step_uuid);
    perform tasker._raise('TK002', format('step %s not found', coalesce(get_dependency_results.step_uuid::text, 'null')));
  end if;
  v_numbers := tasker._steps_before(v_template_id, tasker._number_of(get_dependency_results.step_uuid), coalesce(get_dependency_results.transitive, false));
  return query
    select r.step_uuid, d.name, tasker._instance_of(v_template_id, d.number), r.state, r.result, r.error
    from (
      select s.step_uuid, s.state, s.result, s.error
      from unnest(v_numbers) u(number)
      cross join lateral (select s.* from tasker.steps s where s.step_uuid = tasker._step_uuid(v_task_uuid, u.number) and s.state <> 'pending') s
      where get_dependency_results.after is null or s.step_uuid > get_dependency_results.after
      union all
      -- Instances of the steps that were made many of.
      select s.step_uuid, s.state, s.result, s.error
      from tasker.steps s
      where tasker._is_dynamic(v_template_id)
        and s.step_uuid > greatest(get_dependency_results.after, v_task_uuid) and s.step_uuid <= tasker._last_step_uuid(v_task_uuid) and s.state <> 'pending'
        and tasker._instance_of(v_template_id, tasker._number_of(s.step_uuid)) is not null
        and tasker._definition_number(v_template_id, tasker._number_of(s.step_uuid)) = any (v_numbers)
      order by 1
      limit get_dependency_results."limit"
    ) r
    cross join lateral tasker._step_definitions(array[v_template_id], array[tasker._number_of(r.step_uuid)]) d
    order by r.step_uuid;
end
$function$;
comment on function tasker.get_dependency_results(uuid,boolean,uuid,integer) is 'Gives what became of the steps that a step depends on, directly or, with transitive, through others: those that have left pending, each followed in the order of keys by the instances that were made of it. after is the last step_uuid of the page before, limit 1 to 1000. Errors: TK002, 22023, 40001.';
revoke all on function tasker.get_dependency_results(uuid,boolean,uuid,integer) from public;
grant execute on function tasker.get_dependency_results(uuid,boolean,uuid,integer) to tasker_admin, tasker_worker;

CREATE OR REPLACE FUNCTION tasker.get_step(step_uuid uuid)
 RETURNS SETOF tasker.step
 LANGUAGE plpgsql
 STABLE SECURITY DEFINER ROWS 1
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET plan_cache_mode TO 'force_generic_plan'
 SET enable_seqscan TO 'off'
 SET enable_bitmapscan TO 'off'
 SET enable_hashjoin TO 'off'
 SET enable_mergejoin TO 'off'
 SET enable_material TO 'off'
 SET jit TO 'off'
AS $function$
begin
  return query
    select r.* from tasker._step_rows(get_step.step_uuid, get_step.step_uuid) r where tasker._may(tasker._checked_namespace(r.task_uuid), 'read');
  if not found then
    perform tasker._require_same_partitions(get_step.step_uuid);
    perform tasker._raise('TK002', format('step %s not found', coalesce(get_step.step_uuid::text, 'null')), null,
      'tasker.list_steps(task_uuid) shows the steps of a task.');
  end if;
end
$function$;

CREATE OR REPLACE FUNCTION tasker.get_task(task_uuid uuid)
 RETURNS SETOF tasker.task
 LANGUAGE plpgsql
 STABLE SECURITY DEFINER ROWS 1
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET plan_cache_mode TO 'force_generic_plan'
 SET enable_seqscan TO 'off'
 SET enable_bitmapscan TO 'off'
 SET enable_hashjoin TO 'off'
 SET enable_mergejoin TO 'off'
 SET enable_material TO 'off'
 SET jit TO 'off'
AS $function$
begin
  return query select r.* from tasker._task_rows(array[get_task.task_uuid]) r where tasker._may(r.namespace, 'read');
  if not found then
    perform tasker._require_same_partitions(get_task.task_uuid);
    perform tasker._raise('TK001', format('task %s not found', coalesce(get_task.task_uuid::text, 'null')), null,
      'tasker.list_tasks() shows the tasks there are.');
  end if;
end
$function$;

CREATE OR REPLACE FUNCTION tasker.grant_namespace(role text, namespace text, privilege text)
 RETURNS boolean
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
begin
  perform tasker._require_grantable(grant_namespace.namespace, grant_namespace.privilege);
  if not exists (select from pg_roles r where r.rolname = grant_namespace.role) then
    perform tasker._raise('22023', format('role %s does not exist', coalesce(grant_namespace.role, 'null')), null,
      'Give the name of a login, or of a role that logins are members of.');
  end if;
  insert into tasker.namespace_grants (role, namespace, privilege, granted_by, granted_at)
  values (grant_namespace.role, grant_namespace.namespace, grant_namespace.privilege, tasker._actor(), tasker._now())
  on conflict on constraint namespace_grants_pkey do nothing;
  return found;
end
$function$;
comment on function tasker.grant_namespace(text,text,text) is 'Lets a role, and its members, read, create, work or operate in a namespace, or with * in each; operate includes read, no other privilege includes another. It counts while tasker.check_namespaces is on. True when the grant is new. Errors: TK004, 22023 for an unknown privilege or role.';
revoke all on function tasker.grant_namespace(text,text,text) from public;
grant execute on function tasker.grant_namespace(text,text,text) to tasker_admin;

CREATE OR REPLACE FUNCTION tasker.health()
 RETURNS TABLE(name text, ok boolean, detail text)
 LANGUAGE plpgsql
 STABLE SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
  v_missing text;
  v_unserved text[];
begin
  return query select 'database', not pg_is_in_recovery(),
    case when pg_is_in_recovery() then 'this server is a standby: tasks can be read, not changed' else 'PostgreSQL ' || current_setting('server_version') end;
  return query
    select 'pgmq', to_regprocedure('pgmq.send(text,jsonb,jsonb)') is not null,
      case when to_regprocedure('pgmq.send(text,jsonb,jsonb)') is not null then 'PGMQ ' || coalesce(tasker._pgmq_version(), '(of unknown version)')
        else 'PGMQ 1.5 or newer is missing: run tasker-ctl db init' end;
  select string_agg(q.name, ', ' order by q.name) into v_missing
  from tasker.namespaces n
  cross join lateral (values (n.queue_name), (n.events_queue_name)) q(name)
  where q.name is not null and to_regclass('pgmq.' || quote_ident('q_' || q.name)) is null and tasker._may(n.name, 'read');
  return query select 'queues', v_missing is null, coalesce('missing: ' || v_missing || '; maintenance makes them again', 'every namespace has its queue');
  v_unserved := tasker._unserved_handlers(tasker._now());
  return query select 'workers', cardinality(v_unserved) = 0,
    case cardinality(v_unserved) when 0 then 'a live worker serves every handler that is waited for'
      else 'no live worker serves ' || array_to_string(v_unserved[1:10], ', ') || '; tasker.list_workers() shows who lives' end;
  return query select e.name, e.ok, e.detail from tasker._events_health() e;
  return query select e.name, e.ok, e.detail from tasker._domain_events_health(tasker._now()) e;
  return query select s.name, s.ok, s.detail from tasker._statistics_health() s;
  return query select 'schedules', s.ok, s.detail from tasker._schedules_health(tasker._now()) s;
  return query select 'timers', t.ok, t.detail from tasker._timers_health(tasker._now()) t;
  return query select 'maintenance', m.ok, m.detail from tasker._maintenance_health(tasker._now()) m;
end
$function$;

CREATE OR REPLACE FUNCTION tasker.list_api_keys()
 RETURNS SETOF tasker.api_key
 LANGUAGE plpgsql
 STABLE SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
  v_now constant timestamptz := tasker._now();
begin
  perform tasker._require_unlimited('list keys');
  return query select r.* from tasker.api_keys k cross join lateral tasker._key_row(k, v_now) r order by k.name;
end
$function$;
comment on function tasker.list_api_keys() is 'Lists the keys there are, revoked and expired ones too, by name; the keys themselves nobody knows.';
revoke all on function tasker.list_api_keys() from public;
grant execute on function tasker.list_api_keys() to tasker_admin, tasker_operator;

CREATE OR REPLACE FUNCTION tasker.list_bulk_jobs(after uuid DEFAULT NULL::uuid, "limit" integer DEFAULT 50)
 RETURNS SETOF tasker.bulk_job
 LANGUAGE plpgsql
 STABLE SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
begin
  if list_bulk_jobs."limit" is null or list_bulk_jobs."limit" not between 1 and 1000 then
    perform tasker._raise('22023', format('limit must be between 1 and 1000, not %s', coalesce(list_bulk_jobs."limit"::text, 'null')), null,
      'Ask for the next rows with after => the last job_uuid of the rows before.');
  end if;
  return query
    select j.job_uuid, j.action, j.filter, j.reason, j.created_at, j.created_by, j.seen, j.changed, j.refused, j.last_refusal, j.finished_at
    from tasker.bulk_jobs j
    where (list_bulk_jobs.after is null or j.job_uuid < list_bulk_jobs.after) and tasker._may_see_job(j.filter, j.created_by)
    order by j.job_uuid desc
    limit list_bulk_jobs."limit";
end
$function$;

CREATE OR REPLACE FUNCTION tasker.list_compensations(task_uuid uuid)
 RETURNS SETOF tasker.compensation
 LANGUAGE plpgsql
 STABLE SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
begin
  perform tasker._require_task(list_compensations.task_uuid);
  return query
    select row_number() over (order by u.finished_at desc, u.step_uuid desc), s.step_uuid, d.name, s.state, s.undoes, o.name, s.attempts_used, s.error
    from tasker.tasks t
    cross join lateral (
      select s.* from tasker.steps s where s.step_uuid > t.task_uuid and s.step_uuid <= tasker._last_step_uuid(t.task_uuid) and s.undoes is not null
    ) s
    cross join lateral (select u.step_uuid, u.finished_at from tasker.steps u where u.step_uuid = s.undoes) u
    cross join lateral tasker._step_definitions(array[s.template_id], array[tasker._number_of(s.step_uuid)]) d
    cross join lateral tasker._step_definitions(array[s.template_id], array[tasker._number_of(s.undoes)]) o
    where t.task_uuid = list_compensations.task_uuid and t.compensates is not null
    order by 1;
end
$function$;
comment on function tasker.list_compensations(uuid) is 'Lists what undoes the steps of a task that failed or was cancelled, in the order in which it runs; nothing before that. Errors: TK001, 40001.';
revoke all on function tasker.list_compensations(uuid) from public;
grant execute on function tasker.list_compensations(uuid) to tasker_admin, tasker_client, tasker_operator, tasker_reader;

CREATE OR REPLACE FUNCTION tasker.list_dead_letters(namespace text DEFAULT NULL::text, reason text DEFAULT NULL::text, resolution text DEFAULT NULL::text, after uuid DEFAULT NULL::uuid, "limit" integer DEFAULT 50)
 RETURNS SETOF tasker.dead_letter
 LANGUAGE plpgsql
 STABLE SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
  v_namespace_ids integer[] := tasker._shown_namespaces(list_dead_letters.namespace);
  v_after_task uuid;
  v_after_priority integer;
  v_dead_letter_uuids uuid[];
  v_task_uuids uuid[];
begin
  perform tasker._require_limit(list_dead_letters."limit", 'after => the last dead_letter_uuid');
  if list_dead_letters.reason is not null then
    perform tasker._require_known('reason', list_dead_letters.reason, array['max_retries_exceeded', 'permanent_failure', 'staleness_timeout',
      'worker_unavailable', 'dependency_cycle_detected', 'manual_dlq']);
  end if;
  if list_dead_letters.resolution is not null then
    perform tasker._require_known('resolution', list_dead_letters.resolution, array['pending', 'manually_resolved', 'permanently_failed', 'cancelled']);
  end if;
  if list_dead_letters.after is not null then
    v_after_task := tasker._require_dead_letter(list_dead_letters.after);
  end if;

  if list_dead_letters.resolution = 'pending' then
    -- The order of investigation. The partial index on open entries finds them all; neither an entry's key nor its task's priority ever changes, so pages don't shift.
    select t.priority into v_after_priority from tasker.tasks t where t.task_uuid = v_after_task;
    select array_agg(d.dead_letter_uuid order by d.ordinal), array_agg(d.task_uuid order by d.ordinal)
    into v_dead_letter_uuids, v_task_uuids
    from (
      select d.dead_letter_uuid, d.task_uuid, row_number() over (order by t.priority desc, d.dead_letter_uuid) as ordinal
      from tasker.dead_letters d
      cross join lateral (select t.priority, t.namespace_id from tasker.tasks t where t.task_uuid = d.task_uuid) t
      where d.resolution = 'pending'
        and (v_after_priority is null or t.priority < v_after_priority or (t.priority = v_after_priority and d.dead_letter_uuid > list_dead_letters.after))
        and (list_dead_letters.reason is null or d.reason = list_dead_letters.reason)
        and (v_namespace_ids is null or t.namespace_id = any (v_namespace_ids))
      order by t.priority desc, d.dead_letter_uuid
      limit list_dead_letters."limit"
    ) d;
  else
    -- Newest first, by the index on dead_letter_uuid, which begins with the time of opening.
    select array_agg(d.dead_letter_uuid order by d.dead_letter_uuid desc), array_agg(d.task_uuid order by d.dead_letter_uuid desc)
    into v_dead_letter_uuids, v_task_uuids
    from (
      select d.dead_letter_uuid, d.task_uuid
      from tasker.dead_letters d
      cross join lateral (select t.namespace_id from tasker.tasks t where t.task_uuid = d.task_uuid) t
      where d.dead_letter_uuid < coalesce(list_dead_letters.after, 'ffffffff-ffff-ffff-ffff-ffffffffffff')
        and (list_dead_letters.resolution is null or d.resolution = list_dead_letters.resolution)
        and (list_dead_letters.reason is null or d.reason = list_dead_letters.reason)
        and (v_namespace_ids is null or t.namespace_id = any (v_namespace_ids))
      order by d.dead_letter_uuid desc
      limit list_dead_letters."limit"
    ) d;
  end if;
  return query select * from tasker._dead_letter_rows(v_dead_letter_uuids, v_task_uuids);
end
$function$;

CREATE OR REPLACE FUNCTION tasker.list_domain_events(namespace text DEFAULT NULL::text, name text DEFAULT NULL::text, task_uuid uuid DEFAULT NULL::uuid, after uuid DEFAULT NULL::uuid, "limit" integer DEFAULT 50)
 RETURNS SETOF tasker.domain_event
 LANGUAGE plpgsql
 STABLE SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
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
comment on function tasker.list_domain_events(text,text,uuid,uuid,integer) is 'Lists the domain events that steps published, newest first, with what was not published or not taken; name may be a pattern, after is the last event_uuid of the page before, limit 1 to 1000. Errors: 22023.';
revoke all on function tasker.list_domain_events(text,text,uuid,uuid,integer) from public;
grant execute on function tasker.list_domain_events(text,text,uuid,uuid,integer) to tasker_admin, tasker_client, tasker_operator, tasker_reader;

CREATE OR REPLACE FUNCTION tasker.list_due_jobs()
 RETURNS TABLE(job text)
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET plan_cache_mode TO 'force_generic_plan'
 SET enable_seqscan TO 'off'
 SET enable_bitmapscan TO 'off'
 SET enable_hashjoin TO 'off'
 SET enable_mergejoin TO 'off'
 SET enable_material TO 'off'
 SET jit TO 'off'
AS $function$
declare
  v_now timestamptz := tasker._now();
begin
  foreach job in array tasker._maintenance_jobs() loop
    begin
      continue when not tasker._is_due(job, v_now);
    exception
      -- Then it is due: running it tells what is wrong.
      when others then
        null;
    end;
    return next;
  end loop;
end
$function$;
comment on function tasker.list_due_jobs() is 'Lists the jobs of maintenance that have something to do, in the order to run them in, each by a run_maintenance_job in a transaction of its own; leave end_round out when one of the others failed.';
revoke all on function tasker.list_due_jobs() from public;
grant execute on function tasker.list_due_jobs() to tasker_admin, tasker_operator;

CREATE OR REPLACE FUNCTION tasker.list_events(after text DEFAULT NULL::text, namespace text DEFAULT NULL::text, task_uuid uuid DEFAULT NULL::uuid, "limit" integer DEFAULT 100, until text DEFAULT NULL::text)
 RETURNS SETOF tasker.event
 LANGUAGE plpgsql
 STABLE SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET enable_seqscan TO 'off'
 SET jit TO 'off'
 SET plan_cache_mode TO 'force_generic_plan'
AS $function$
declare
  -- Everything is read in the one snapshot of the caller's statement.
  v_horizon constant bigint := pg_snapshot_xmin(pg_current_snapshot())::text::bigint;
  v_incarnation constant text := tasker._incarnation();
  v_last constant bigint := (select s.last_value from tasker.transitions_seq s);
  v_next_xid constant bigint := tasker._next_xid();
  v_end bigint := v_horizon;
  v_cursor tasker._event_cursor;
  v_namespace_ids constant integer[] := tasker._shown_namespaces(list_events.namespace);
  v_is_by_key boolean := false;
  v_width bigint := 2000;
  v_to bigint;
  v_stored tasker._stored_event[];
  v_left integer := list_events."limit";
  v_count integer;
begin
  perform tasker._require_limit(list_events."limit", 'after => the last cursor');
  if list_events.until is not null then
    v_end := least(v_horizon, (tasker._read_event_cursor(list_events.until, v_horizon)).to_xid);
  end if;
  v_cursor := tasker._read_event_cursor(list_events.after, v_end);
  if v_cursor.to_xid > v_horizon then
    -- A standby, or an old snapshot, that has not come as far as the reader.
    return;
  end if;
  -- The cursors given out say what was given out, so a round ends where the list does.
  v_cursor.to_xid := least(v_cursor.to_xid, v_end);
  if list_events.task_uuid is not null then
    perform tasker._require_task(list_events.task_uuid);
    -- A very large task is a large part of all history: it is read on by number like everything else.
    v_is_by_key := not exists (select from tasker.steps s where s.step_uuid = tasker._step_uuid(list_events.task_uuid, 2000));
  end if;

  loop
    -- A stretch of numbers, which has no more rows than numbers; wider while it is in vain.
    v_to := case when v_is_by_key then v_last else least(v_last, v_cursor.seq + v_width) end;
    v_stored := array(
      select s from tasker._stored_events(v_cursor, v_to, list_events.task_uuid, v_is_by_key, v_next_xid) s);
    v_cursor.passed_over := least(v_cursor.passed_over, (select min(s.seq) from unnest(v_stored) s where s.xid >= v_cursor.to_xid));
    return query
      select e.* from tasker._event_rows(v_stored, v_cursor, v_namespace_ids, list_events.task_uuid, v_left, v_incarnation) e;
    get diagnostics v_count = row_count;
    v_left := v_left - v_count;
    exit when v_left <= 0;
    if v_to < v_last then
      v_cursor.seq := v_to;
      v_cursor.ordinal := 2147483647;
      v_width := least(v_width * 4, 32000);
    else
      exit when v_cursor.to_xid >= v_end;
      v_cursor := tasker._next_event_round(v_cursor, v_end);
    end if;
  end loop;
end
$function$;
comment on function tasker.list_events(text,text,uuid,integer,text) is 'Lists state changes of tasks and steps after a cursor, passed-through states included, of everything, a namespace or a task; limit 1 to 1000. A reader that goes on from the last cursor it got misses nothing and gets nothing twice, whatever commits meanwhile; a step''s events come in their order. An event is listed once no transaction that was writing when it came about is under way. With until, the cursor of a reader that has come to the end, it lists what that reader has had and no more. After a restore into another cluster a reader may get its last events again. Errors: TK001, 22023, 40001.';
revoke all on function tasker.list_events(text,text,uuid,integer,text) from public;
grant execute on function tasker.list_events(text,text,uuid,integer,text) to tasker_admin, tasker_client, tasker_operator, tasker_reader;

CREATE OR REPLACE FUNCTION tasker.list_namespace_grants(namespace text DEFAULT NULL::text)
 RETURNS SETOF tasker.namespace_grant
 LANGUAGE plpgsql
 STABLE SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
begin
  return query
    select g.role, g.namespace, g.privilege, g.granted_by, g.granted_at, exists (select from pg_roles r where r.rolname = g.role)
    from tasker.namespace_grants g
    where list_namespace_grants.namespace is null or g.namespace in (list_namespace_grants.namespace, '*')
    order by g.namespace, g.role, g.privilege;
end
$function$;
comment on function tasker.list_namespace_grants(text) is 'Lists the grants of a namespace with those of all (*), or every grant, by namespace, role and privilege.';
revoke all on function tasker.list_namespace_grants(text) from public;
grant execute on function tasker.list_namespace_grants(text) to tasker_admin;

CREATE OR REPLACE FUNCTION tasker.list_namespaces()
 RETURNS SETOF tasker.namespace
 LANGUAGE plpgsql
 STABLE SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
begin
  return query
    select n.name, n.queue_name, n.settings, n.created_at, n.paused_at, n.paused_by, n.pause_reason
    from tasker.namespaces n
    where tasker._may(n.name, 'read')
    order by n.name;
end
$function$;

CREATE OR REPLACE FUNCTION tasker.list_schedules(namespace text DEFAULT NULL::text)
 RETURNS SETOF tasker.schedule
 LANGUAGE sql
 STABLE SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
  select r.*
  from tasker.schedules s
  join tasker.namespaces n on n.namespace_id = s.namespace_id
  cross join lateral tasker._shown_schedule(s, n.name) r
  where (list_schedules.namespace is null or n.name = list_schedules.namespace) and tasker._may(n.name, 'read')
  order by n.name, s.name
$function$;
comment on function tasker.list_schedules(text) is 'Lists the schedules of a namespace, or of all, by namespace and name: when each is due next, what came of its last time, who paused it.';
revoke all on function tasker.list_schedules(text) from public;
grant execute on function tasker.list_schedules(text) to tasker_admin, tasker_operator, tasker_reader;

CREATE OR REPLACE FUNCTION tasker.list_signals(task_uuid uuid)
 RETURNS TABLE(name text, step_names text[], waiting boolean, payload jsonb, sent_at timestamp with time zone, sent_by text)
 LANGUAGE plpgsql
 STABLE SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
begin
  perform tasker._require_task(list_signals.task_uuid);
  return query
    select n.signal, array_agg(n.name order by n.number), coalesce(bool_or(tasker._waits_in_engine(s.state, s.lease_expires_at)), false), r.payload, r.sent_at, r.sent_by
    from (select t.template_id from tasker.tasks t where t.task_uuid = list_signals.task_uuid) t
    cross join lateral tasker._signal_steps(t.template_id) n
    left join lateral (
      select s.state, s.lease_expires_at from tasker.steps s where s.step_uuid = tasker._step_uuid(list_signals.task_uuid, n.number)
    ) s on true
    left join lateral (
      select r.payload, r.sent_at, r.sent_by from tasker.signals r where r.task_uuid = list_signals.task_uuid and r.name = n.signal
    ) r on true
    group by n.signal, r.payload, r.sent_at, r.sent_by
    order by min(n.number);
end
$function$;
comment on function tasker.list_signals(uuid) is 'Lists the signals that a task''s steps wait for at some time, in the order of the graph: the steps, whether one of them waits now, and what was sent when and by whom. Errors: TK001, 40001.';
revoke all on function tasker.list_signals(uuid) from public;
grant execute on function tasker.list_signals(uuid) to tasker_admin, tasker_client, tasker_operator, tasker_reader;

CREATE OR REPLACE FUNCTION tasker.list_subscriptions(namespace text DEFAULT NULL::text)
 RETURNS SETOF tasker.event_subscription
 LANGUAGE plpgsql
 STABLE SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
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
revoke all on function tasker.list_subscriptions(text) from public;
grant execute on function tasker.list_subscriptions(text) to tasker_admin, tasker_operator, tasker_reader;

CREATE OR REPLACE FUNCTION tasker.list_tasks(namespace text DEFAULT NULL::text, template_name text DEFAULT NULL::text, states text[] DEFAULT NULL::text[], tags text[] DEFAULT NULL::text[], context_contains jsonb DEFAULT NULL::jsonb, created_after timestamp with time zone DEFAULT NULL::timestamp with time zone, created_before timestamp with time zone DEFAULT NULL::timestamp with time zone, after uuid DEFAULT NULL::uuid, "limit" integer DEFAULT 50)
 RETURNS SETOF tasker.task
 LANGUAGE plpgsql
 STABLE SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET plan_cache_mode TO 'force_generic_plan'
 SET enable_seqscan TO 'off'
 SET enable_bitmapscan TO 'off'
 SET enable_hashjoin TO 'off'
 SET enable_mergejoin TO 'off'
 SET enable_material TO 'off'
 SET jit TO 'off'
AS $function$
declare
  v_namespace_ids integer[] := tasker._shown_namespaces(list_tasks.namespace);
  v_template_ids integer[] := array(select x.template_id from tasker.templates x where x.name = list_tasks.template_name);
  -- A task's key begins with the millisecond of its creation: times are bounds of keys too. The times themselves are compared as well, to the microsecond.
  v_from uuid := coalesce(tasker._first_task_uuid(list_tasks.created_after), '00000000-0000-0000-0000-000000000000');
  v_before uuid := least(tasker._first_task_uuid(list_tasks.created_before + interval '1 millisecond'), list_tasks.after, 'ffffffff-ffff-ffff-ffff-ffffffffffff');
begin
  perform tasker._require_limit(list_tasks."limit", 'after => the last task_uuid');
  -- Served by each partition's primary key, read backwards from the bound until the page is full: newest first is the order of the keys. after, created_after and
  -- created_before bound what is read, partitions outside aren't opened. All other filters are looked at row by row on the way: an index on them would be written at each
  -- change of a task.
  return query
    select r.*
    from tasker._task_rows(array(
      select t.task_uuid
      from tasker.tasks t
      where t.task_uuid >= v_from and t.task_uuid < v_before
        and (v_namespace_ids is null or t.namespace_id = any (v_namespace_ids))
        and (list_tasks.template_name is null or t.template_id = any (v_template_ids))
        and (list_tasks.states is null or t.state = any (list_tasks.states))
        and (list_tasks.tags is null or t.tags @> list_tasks.tags)
        and (list_tasks.context_contains is null or t.context @> list_tasks.context_contains)
        and (list_tasks.created_after is null or t.created_at >= list_tasks.created_after)
        and (list_tasks.created_before is null or t.created_at < list_tasks.created_before)
      order by t.task_uuid desc
      limit list_tasks."limit")) r;
  perform tasker._require_same_partitions();
end
$function$;

CREATE OR REPLACE FUNCTION tasker.list_templates(namespace text DEFAULT NULL::text)
 RETURNS TABLE(template_uuid uuid, namespace text, name text, version text, description text, steps_count integer, registered_by text, registered_at timestamp with time zone, retired_at timestamp with time zone)
 LANGUAGE sql
 STABLE SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
  select t.template_uuid, n.name, t.name, t.version, t.description, t.steps_count, t.registered_by, t.registered_at, t.retired_at
  from tasker.templates t
  join tasker.namespaces n on n.namespace_id = t.namespace_id
  where (list_templates.namespace is null or n.name = list_templates.namespace) and tasker._may(n.name, 'read')
  order by n.name, t.name, t.version_key
$function$;

CREATE OR REPLACE FUNCTION tasker.list_workers()
 RETURNS SETOF tasker.worker
 LANGUAGE plpgsql
 STABLE SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
begin
  return query
    select w.worker_id, r.names, w.handlers, w.language, w.version, w.running, w.capacity, w.registered_at, w.last_seen_at, w.retired_at,
      w.retired_at is null and w.last_seen_at >= tasker._now() - tasker._worker_silence()
    from tasker.workers w
    cross join lateral (select tasker._readable(w.namespaces) as names) r
    where cardinality(r.names) > 0
    order by w.worker_id;
end
$function$;

CREATE OR REPLACE FUNCTION tasker.needs_sql_runners()
 RETURNS boolean
 LANGUAGE sql
 STABLE SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
  select exists (select from tasker.sql_namespaces)
    and not exists (select from pg_stat_activity a where a.datname = current_database() and a.backend_type = 'tasker sql runner')
$function$;
comment on function tasker.needs_sql_runners() is 'Whether there are templates with SQL functions and none of the extension''s own processes runs them: then others are to call run_sql_step, each in a session of its own.';
revoke all on function tasker.needs_sql_runners() from public;
grant execute on function tasker.needs_sql_runners() to tasker_admin, tasker_operator;

CREATE OR REPLACE FUNCTION tasker.open_dead_letter(task_uuid uuid, reason text)
 RETURNS uuid
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
  v_open uuid;
begin
  if coalesce(length(open_dead_letter.reason), 0) not between 1 and 2000 then
    perform tasker._raise('22023', 'reason must have 1 to 2000 characters', null, 'Say what is to be looked into.');
  end if;
  -- Steps before the task, as everybody does: the snapshot shows one moment.
  perform tasker._lock_to_operate(open_dead_letter.task_uuid);
  v_open := tasker._open_dead_letter_of(open_dead_letter.task_uuid);
  if v_open is not null then
    perform tasker._raise('23505', format('task %s has an open dead letter already', open_dead_letter.task_uuid), format('It is %s.', v_open),
      'Resolve it first, with tasker.resolve_dead_letter().');
  end if;
  perform tasker._open_dead_letters(array[open_dead_letter.task_uuid], tasker._now(), tasker._author(), 'manual_dlq', open_dead_letter.reason);
  return tasker._open_dead_letter_of(open_dead_letter.task_uuid);
end
$function$;

CREATE OR REPLACE FUNCTION tasker.pause_namespace(namespace text, reason text DEFAULT NULL::text)
 RETURNS boolean
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
begin
  perform tasker._require_may(pause_namespace.namespace, 'operate');
  perform tasker._require_namespace(pause_namespace.namespace);
  update tasker.namespaces n
  set paused_at = tasker._now(), paused_by = tasker._author(), pause_reason = pause_namespace.reason
  where n.name = pause_namespace.namespace and n.paused_at is null;
  return found;
end
$function$;

CREATE OR REPLACE FUNCTION tasker.pause_schedule(name text, namespace text DEFAULT 'default'::text, reason text DEFAULT NULL::text)
 RETURNS boolean
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
  v_schedule constant tasker.schedules := tasker._lock_schedule(pause_schedule.namespace, pause_schedule.name);
begin
  perform tasker._require_reason(pause_schedule.reason);
  update tasker.schedules s
  set paused_at = tasker._now(), paused_by = tasker._author(), pause_reason = pause_schedule.reason
  where s.schedule_uuid = v_schedule.schedule_uuid and s.paused_at is null;
  return found;
end
$function$;
comment on function tasker.pause_schedule(text,text,text) is 'Pauses a schedule: it creates no tasks until it is resumed. True when this call paused it, false when it was paused already. Errors: TK004, 22023.';
revoke all on function tasker.pause_schedule(text,text,text) from public;
grant execute on function tasker.pause_schedule(text,text,text) to tasker_admin, tasker_operator;

CREATE OR REPLACE FUNCTION tasker.pause_task(task_uuid uuid, reason text DEFAULT NULL::text)
 RETURNS boolean
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET plan_cache_mode TO 'force_generic_plan'
 SET enable_seqscan TO 'off'
 SET enable_bitmapscan TO 'off'
 SET enable_hashjoin TO 'off'
 SET enable_mergejoin TO 'off'
 SET enable_material TO 'off'
 SET jit TO 'off'
AS $function$
declare
  v_now timestamptz := tasker._now();
  v_task record;
begin
  perform tasker._lock_to_operate(pause_task.task_uuid);
  select t.state, t.namespace_id, t.run_at, t.paused_at into v_task from tasker.tasks t where t.task_uuid = pause_task.task_uuid;
  if v_task.paused_at is not null then
    return false;
  elsif tasker._is_terminal(v_task.state) then
    perform tasker._raise('TK010', format('task cannot be paused: it is %s', v_task.state), 'A task that has ended has nothing to hold back.',
      'tasker.get_task(task_uuid) shows how it ended.');
  end if;
  update tasker.tasks t
  set paused_at = v_now, paused_by = tasker._author(), pause_reason = pause_task.reason
  where t.task_uuid = pause_task.task_uuid;
  perform tasker._mark_steps(pause_task.task_uuid, v_task.namespace_id, v_now, v_now);
  -- A task that has not started isn't waited for while it is paused.
  delete from tasker.scheduled_tasks s where s.run_at = v_task.run_at and s.task_uuid = pause_task.task_uuid;
  delete from tasker.held_tasks h where h.namespace_id = v_task.namespace_id and h.task_uuid = pause_task.task_uuid;
  return true;
end
$function$;

CREATE OR REPLACE FUNCTION tasker.queue_stats()
 RETURNS TABLE(namespace text, queue_name text, visible bigint, hidden bigint, oldest_message_age_seconds double precision, enqueued bigint, in_progress bigint, waiting_for_retry bigint, as_of timestamp with time zone)
 LANGUAGE plpgsql
 STABLE SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET enable_seqscan TO 'off'
 SET enable_sort TO 'off'
 SET jit TO 'off'
AS $function$
declare
  v_now timestamptz := tasker._now();
  -- A longer queue isn't counted: its figures are those of the states.
  v_most constant integer := 10000;
  v_namespace record;
  v_seen record;
begin
  as_of := tasker._statistics_as_of();
  for v_namespace in select n.name, n.queue_name from tasker.namespaces n where tasker._may(n.name, 'read') order by n.name loop
    perform tasker._raise_refused(tasker._queue_problem(v_namespace.queue_name));
    execute format(
      'select count(*) as messages, count(*) filter (where m.vt <= $1) as visible, extract(epoch from $1 - min(m.enqueued_at))::double precision as age
       from (select m.vt, m.enqueued_at from pgmq.%I m order by m.vt limit $2) m', 'q_' || v_namespace.queue_name)
    into v_seen using v_now, v_most + 1;
    namespace := v_namespace.name;
    queue_name := v_namespace.queue_name;
    oldest_message_age_seconds := v_seen.age;
    select c.enqueued, c.in_progress, c.waiting_for_retry into queue_stats.enqueued, queue_stats.in_progress, queue_stats.waiting_for_retry
    from tasker._state_counts(v_namespace.name) c;
    if v_seen.messages <= v_most then
      visible := v_seen.visible;
      hidden := v_seen.messages - v_seen.visible;
    else
      visible := greatest(v_seen.visible, enqueued);
      hidden := greatest(v_seen.messages - v_seen.visible, in_progress + waiting_for_retry);
    end if;
    return next;
  end loop;
end
$function$;
comment on function tasker.queue_stats() is 'Gives for each namespace''s queue how many messages are visible and hidden and the age of the oldest in seconds, and how many of its steps are in the states that have one, as of the time given. Of more than 10,000 messages the counts are those of the states, and the age is that of the oldest of those visible first. Errors: TK030.';
revoke all on function tasker.queue_stats() from public;
grant execute on function tasker.queue_stats() to tasker_admin, tasker_operator, tasker_reader;

CREATE OR REPLACE FUNCTION tasker.redeliver_domain_event(event_uuid uuid)
 RETURNS bigint
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
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
comment on function tasker.redeliver_domain_event(uuid) is 'Sends an event again to the subscriptions that did not take it in ten deliveries, for ten more, and says how many those are. Errors: TK004.';
revoke all on function tasker.redeliver_domain_event(uuid) from public;
grant execute on function tasker.redeliver_domain_event(uuid) to tasker_admin, tasker_operator;

comment on function tasker.register_template(jsonb,text) is 'Registers a template given as JSON, with its changes for the environment applied: the same content again changes nothing, other content under the same version, also that of another environment, is TK014. Errors: TK020 with every finding, TK014, TK030, 22023, 40001, 55000.';

comment on function tasker.register_template(text,text) is 'Registers a template given as YAML, with its changes for the environment applied: the same content again changes nothing, other content under the same version, also that of another environment, is TK014. Errors: TK020 with every finding, TK014, TK030, 22023, 40001, 55000.';

CREATE OR REPLACE FUNCTION tasker.register_worker(worker_id text, namespaces text[], handlers text[], language text, version text)
 RETURNS void
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
begin
  perform tasker._require_worker_id(register_worker.worker_id);
  if coalesce(array_ndims(register_worker.namespaces), 0) <> 1 or exists (select from unnest(register_worker.namespaces) u(name) where u.name is null)
    or register_worker.handlers is null then
    perform tasker._raise('22023', 'a worker needs at least one namespace, and a list of handlers', null,
      'Give the namespaces it serves and the names of the handlers it has.');
  end if;
  perform tasker._raise('22023', format('handler %s is a SQL function, which the database runs itself', u.name), null, 'Leave it out.')
  from unnest(register_worker.handlers) u(name)
  where u.name like 'sql:%';
  perform tasker._raise_refused(tasker._namespace_problem(register_worker.namespaces, 'work'));
  -- The id of another one's worker: it would be counted as ours from now on.
  perform tasker._raise('42501', format('worker_id %s is in use by a worker of other namespaces', register_worker.worker_id), null,
      'Give each worker process a name of its own, for example host, process id and a random part.')
  from tasker.workers w
  where w.worker_id = register_worker.worker_id and tasker._namespace_problem(w.namespaces, 'work') is not null;
  insert into tasker.workers as w (worker_id, namespaces, handlers, language, version, registered_at, last_seen_at)
  values (register_worker.worker_id, register_worker.namespaces, register_worker.handlers, coalesce(register_worker.language, 'unknown'),
    coalesce(register_worker.version, 'unknown'), tasker._now(), tasker._now())
  on conflict on constraint workers_pkey do update
    set namespaces = excluded.namespaces, handlers = excluded.handlers, language = excluded.language, version = excluded.version,
      last_seen_at = excluded.last_seen_at, retired_at = null;
end
$function$;

CREATE OR REPLACE FUNCTION tasker.rerun_task(task_uuid uuid, from_step text DEFAULT NULL::text, with_descendants boolean DEFAULT true, context jsonb DEFAULT NULL::jsonb)
 RETURNS void
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
  v_now timestamptz := tasker._now();
  v_actor text := tasker._author();
  v_task record;
  v_number integer;
begin
  if rerun_task.with_descendants is null then
    perform tasker._raise('22023', 'with_descendants must be true or false');
  end if;
  perform tasker._lock_to_operate(rerun_task.task_uuid);
  select t.state, t.template_id, t.started_at into v_task from tasker.tasks t where t.task_uuid = rerun_task.task_uuid;
  if tasker._next_task_state(v_task.state, 'rerun') is null then
    perform tasker._raise('TK010', format('task cannot be rerun: it is %s', v_task.state),
      format('There is no transition from %s by the event rerun.', v_task.state), 'Wait for its end, or cancel it.');
  end if;
  if rerun_task.from_step is not null then
    v_number := tasker._number_of_step(rerun_task.task_uuid, v_task.template_id, rerun_task.from_step);
  end if;
  if rerun_task.context is not null then
    perform tasker._raise_refused(tasker._context_problem(v_task.template_id, rerun_task.context));
    update tasker.tasks t
    set context = x.context_defaults || rerun_task.context
    from tasker.templates x
    where t.task_uuid = rerun_task.task_uuid and x.template_id = t.template_id;
  end if;
  if v_task.started_at is null then
    if v_number is not null then
      perform tasker._raise('TK010', format('step %s can''t be rerun: its task has not started', rerun_task.from_step), null, 'Rerun the whole task.');
    end if;
    perform tasker._rerun_unstarted(rerun_task.task_uuid, v_now, v_actor);
    perform tasker._close_mended(rerun_task.task_uuid, null, 'the task was rerun', v_now, v_actor);
    return;
  end if;
  update tasker.tasks t set compensates = null where t.task_uuid = rerun_task.task_uuid and t.compensates is not null;
  if found then
    -- The rows stay, for their history; they undo nothing until they are made anew.
    update tasker.steps s set undoes = null, followed_by = null
    where s.step_uuid > rerun_task.task_uuid and s.step_uuid <= tasker._last_step_uuid(rerun_task.task_uuid) and s.undoes is not null;
  end if;
  perform tasker._raise_refused(tasker._rerun_steps(rerun_task.task_uuid, v_number, rerun_task.with_descendants, null, v_now, v_actor));
  perform tasker._close_mended(rerun_task.task_uuid, null, 'the task was rerun', v_now, v_actor);
end
$function$;
comment on function tasker.rerun_task(uuid,text,boolean,jsonb) is 'Runs a task that has ended, or is blocked by failures, anew in place: from a step on, that step alone, or all of it; the results of other steps are kept. A context given takes the place of the task''s own. A cancelled task''s other steps stay cancelled; steps whose compensation has run can''t be left out (TK010). Errors: TK001, TK002, TK010, TK021, TK022, TK030, 22023.';

CREATE OR REPLACE FUNCTION tasker.resolve_dead_letter(dead_letter_uuid uuid, resolution text, note text DEFAULT NULL::text)
 RETURNS SETOF tasker.dead_letter
 LANGUAGE plpgsql
 SECURITY DEFINER ROWS 1
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
  v_now timestamptz := tasker._now();
  v_actor text := tasker._author();
  v_task_uuid uuid := tasker._require_dead_letter(resolve_dead_letter.dead_letter_uuid);
  v_resolution text;
  v_step_uuid uuid;
  v_state text;
begin
  perform tasker._require_known('resolution', resolve_dead_letter.resolution, array['manually_resolved', 'permanently_failed', 'cancelled']);
  perform tasker._lock_to_operate(v_task_uuid);
  select d.resolution, d.step_uuid into v_resolution, v_step_uuid
  from tasker.dead_letters d
  where d.task_uuid = v_task_uuid and d.dead_letter_uuid = resolve_dead_letter.dead_letter_uuid;
  if v_resolution is distinct from 'pending' then
    perform tasker._raise('TK010', format('dead letter %s is resolved already: %s', resolve_dead_letter.dead_letter_uuid, v_resolution), null,
      'tasker.get_dead_letter() shows by whom and when.');
  end if;

  update tasker.dead_letters d
  set resolution = resolve_dead_letter.resolution, resolved_at = v_now, resolved_by = v_actor, note = nullif(concat_ws(E'\n', d.note, resolve_dead_letter.note), '')
  where d.task_uuid = v_task_uuid and d.dead_letter_uuid = resolve_dead_letter.dead_letter_uuid;
  select t.state into v_state from tasker.tasks t where t.task_uuid = v_task_uuid;
  if v_step_uuid is not null then
    if resolve_dead_letter.resolution = 'manually_resolved' then
      perform tasker._settle_failed_step(v_step_uuid, v_state, resolve_dead_letter.note, v_now, v_actor);
    end if;
  elsif resolve_dead_letter.resolution = 'cancelled' and not tasker._is_terminal(v_state) then
    perform tasker.cancel_task(v_task_uuid, resolve_dead_letter.note);
  elsif resolve_dead_letter.resolution <> 'cancelled' then
    perform tasker._settle_failed_task(v_task_uuid, v_state, case resolve_dead_letter.resolution when 'manually_resolved' then 'manual_resolution' else 'give_up' end,
      jsonb_strip_nulls(jsonb_build_object('dead_letter_uuid', resolve_dead_letter.dead_letter_uuid, 'note', resolve_dead_letter.note)), v_now, v_actor);
  end if;
  return query select * from tasker._dead_letter_rows(array[resolve_dead_letter.dead_letter_uuid], array[v_task_uuid]);
end
$function$;
comment on function tasker.resolve_dead_letter(uuid,text,text) is 'Closes an open dead letter, with a note, and gives it. manually_resolved settles a task that is blocked_by_failures or in error (resolved_manually); permanently_failed ends a blocked one in error; cancelled cancels one that has not ended. A task in another state stays as it is. An instance''s leaves the task alone: manually_resolved settles the instance while its task has not ended, and that is all that it changes. Errors: TK001, TK004, TK010 when it is resolved already, 22023.';

CREATE OR REPLACE FUNCTION tasker.resume_namespace(namespace text)
 RETURNS boolean
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET plan_cache_mode TO 'force_generic_plan'
 SET enable_seqscan TO 'off'
 SET enable_bitmapscan TO 'off'
 SET enable_hashjoin TO 'off'
 SET enable_mergejoin TO 'off'
 SET enable_material TO 'off'
 SET jit TO 'off'
AS $function$
begin
  perform tasker._require_may(resume_namespace.namespace, 'operate');
  perform tasker._require_namespace(resume_namespace.namespace);
  update tasker.namespaces n
  set paused_at = null, paused_by = null, pause_reason = null
  where n.name = resume_namespace.namespace and n.paused_at is not null;
  if not found then
    return false;
  end if;
  -- The first of those that were held back; maintenance starts the rest.
  perform tasker._start_held_tasks(1000, tasker._now(), tasker._author());
  perform pg_notify('tasker_ready_' || resume_namespace.namespace, '');
  return true;
end
$function$;

CREATE OR REPLACE FUNCTION tasker.resume_schedule(name text, namespace text DEFAULT 'default'::text)
 RETURNS boolean
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
  v_schedule constant tasker.schedules := tasker._lock_schedule(resume_schedule.namespace, resume_schedule.name);
begin
  -- What maintenance could not do, which is why it pauses a schedule, must work now.
  perform tasker._next_cron(v_schedule.cron, v_schedule.timezone, tasker._now());
  update tasker.schedules s
  set paused_at = null, paused_by = null, pause_reason = null
  where s.schedule_uuid = v_schedule.schedule_uuid and s.paused_at is not null;
  return found;
end
$function$;
comment on function tasker.resume_schedule(text,text) is 'Resumes a paused schedule; what it does about the times missed meanwhile is its catch_up. True when this call resumed it, false when it was not paused. Errors: TK004, 22023 for a time zone that the server has no more.';
revoke all on function tasker.resume_schedule(text,text) from public;
grant execute on function tasker.resume_schedule(text,text) to tasker_admin, tasker_operator;

CREATE OR REPLACE FUNCTION tasker.resume_task(task_uuid uuid)
 RETURNS boolean
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET plan_cache_mode TO 'force_generic_plan'
 SET enable_seqscan TO 'off'
 SET enable_bitmapscan TO 'off'
 SET enable_hashjoin TO 'off'
 SET enable_mergejoin TO 'off'
 SET enable_material TO 'off'
 SET jit TO 'off'
AS $function$
declare
  v_now timestamptz := tasker._now();
  v_task record;
begin
  perform tasker._lock_to_operate(resume_task.task_uuid);
  select t.state, t.namespace_id, t.run_at, t.paused_at into v_task from tasker.tasks t where t.task_uuid = resume_task.task_uuid;
  if v_task.paused_at is null then
    return false;
  end if;
  update tasker.tasks t
  set paused_at = null, paused_by = null, pause_reason = null, resumed_at = v_now,
    paused_ms = coalesce(t.paused_ms, 0) + (extract(epoch from v_now - t.paused_at) * 1000)::bigint
  where t.task_uuid = resume_task.task_uuid;
  perform tasker._mark_steps(resume_task.task_uuid, v_task.namespace_id, null, v_now);
  if v_task.state = 'pending' and v_task.run_at > v_now then
    insert into tasker.scheduled_tasks (run_at, task_uuid) values (v_task.run_at, resume_task.task_uuid);
  elsif v_task.state = 'pending' then
    perform tasker._start_pending(array[resume_task.task_uuid], v_now, tasker._author());
  end if;
  return true;
end
$function$;

CREATE OR REPLACE FUNCTION tasker.retire_template(name text, namespace text DEFAULT 'default'::text, version text DEFAULT NULL::text)
 RETURNS boolean
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
  v_template tasker.templates := tasker._find_template(retire_template.namespace, retire_template.name, retire_template.version);
begin
  perform tasker._require_may(retire_template.namespace, 'operate');
  update tasker.templates t set retired_at = tasker._now() where t.template_id = v_template.template_id and t.retired_at is null;
  return found;
end
$function$;

CREATE OR REPLACE FUNCTION tasker.retire_worker(worker_id text)
 RETURNS boolean
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
  v_namespaces text[];
begin
  select w.namespaces into v_namespaces
  from tasker.workers w
  where w.worker_id = retire_worker.worker_id and cardinality(tasker._readable(w.namespaces)) > 0;
  if not found then
    perform tasker._raise('TK004', format('worker %s not found', coalesce(retire_worker.worker_id, 'null')), null, 'tasker.list_workers() shows the workers there are.');
  end if;
  perform tasker._raise_refused(tasker._namespace_problem(v_namespaces, 'operate'));
  update tasker.workers w
  set retired_at = tasker._now()
  where w.worker_id = retire_worker.worker_id and w.retired_at is null;
  return found;
end
$function$;

CREATE OR REPLACE FUNCTION tasker.revoke_api_key(name text)
 RETURNS boolean
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
begin
  perform tasker._require_unlimited('revoke a key');
  update tasker.api_keys k set revoked_at = tasker._now(), revoked_by = tasker._actor()
  where k.name = revoke_api_key.name and k.revoked_at is null;
  if found then
    return true;
  end if;
  if not exists (select from tasker.api_keys k where k.name = revoke_api_key.name) then
    perform tasker._raise('TK004', format('api key %s not found', coalesce(revoke_api_key.name, 'null')), null, 'tasker.list_api_keys() shows the keys there are.');
  end if;
  return false;
end
$function$;
comment on function tasker.revoke_api_key(text) is 'Revokes a key for good; true when this call did. A server may take it for as long as it remembers a check (ten seconds, unless told otherwise). Errors: TK004.';
revoke all on function tasker.revoke_api_key(text) from public;
grant execute on function tasker.revoke_api_key(text) to tasker_admin, tasker_operator;

CREATE OR REPLACE FUNCTION tasker.revoke_namespace(role text, namespace text, privilege text DEFAULT NULL::text)
 RETURNS bigint
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
  v_count bigint;
begin
  perform tasker._require_grantable(revoke_namespace.namespace, coalesce(revoke_namespace.privilege, 'read'));
  delete from tasker.namespace_grants g
  where g.role = revoke_namespace.role and g.namespace = revoke_namespace.namespace
    and (revoke_namespace.privilege is null or g.privilege = revoke_namespace.privilege);
  get diagnostics v_count = row_count;
  return v_count;
end
$function$;
comment on function tasker.revoke_namespace(text,text,text) is 'Takes back one privilege of a role in a namespace, or all it was granted there, and says how many grants went; a call that begins after the commit is refused. A grant of * is taken back by *, and what a role has by membership in another one from that one. Errors: TK004, 22023 for an unknown privilege.';
revoke all on function tasker.revoke_namespace(text,text,text) from public;
grant execute on function tasker.revoke_namespace(text,text,text) to tasker_admin;

CREATE OR REPLACE FUNCTION tasker.run_maintenance(batch integer DEFAULT 1000)
 RETURNS TABLE(job text, processed bigint, more boolean)
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET plan_cache_mode TO 'force_generic_plan'
 SET enable_seqscan TO 'off'
 SET enable_bitmapscan TO 'off'
 SET enable_hashjoin TO 'off'
 SET enable_mergejoin TO 'off'
 SET enable_material TO 'off'
 SET jit TO 'off'
AS $function$
declare
  v_now timestamptz := tasker._now();
  v_leases_ended boolean := false;
begin
  perform tasker._require_maintenance_batch(run_maintenance.batch);
  if not tasker._is_alone() then
    return;
  end if;
  foreach job in array tasker._maintenance_jobs() loop
    if job = 'time_out_attempts' and v_leases_ended then
      -- Both lock tasks, in key order: one transaction does one of the two.
      processed := 0;
      more := true;
    else
      select r.processed, r.more into run_maintenance.processed, run_maintenance.more from tasker._run_job(job, batch, v_now) r;
    end if;
    v_leases_ended := v_leases_ended or (job = 'end_leases' and processed > 0);
    return next;
  end loop;
end
$function$;
comment on function tasker.run_maintenance(integer) is 'Does one bounded batch of every job of maintenance, all in this transaction, and says for each how much it did and whether there is more: for a look by hand. What runs every second calls list_due_jobs and run_maintenance_job, each in a transaction of its own. No rows: another session is at it. Errors: 22023, 40001, 40P01 when a job waits for a call that waits for what an earlier job has locked, 55000, TK030.';

CREATE OR REPLACE FUNCTION tasker.run_maintenance_job(job text, batch integer DEFAULT 1000)
 RETURNS TABLE(processed bigint, more boolean)
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET plan_cache_mode TO 'force_generic_plan'
 SET enable_seqscan TO 'off'
 SET enable_bitmapscan TO 'off'
 SET enable_hashjoin TO 'off'
 SET enable_mergejoin TO 'off'
 SET enable_material TO 'off'
 SET jit TO 'off'
AS $function$
begin
  perform tasker._require_maintenance_batch(run_maintenance_job.batch);
  if coalesce(run_maintenance_job.job, '') <> all (tasker._maintenance_jobs()) then
    perform tasker._raise('22023', format('unknown job: %s', coalesce(run_maintenance_job.job, 'null')), null,
      format('Jobs are %s.', array_to_string(tasker._maintenance_jobs(), ', ')));
  end if;
  if tasker._is_alone() then
    return query select r.processed, r.more from tasker._run_job(run_maintenance_job.job, run_maintenance_job.batch, tasker._now()) r;
  end if;
end
$function$;
comment on function tasker.run_maintenance_job(text,integer) is 'Does one bounded batch of one job of maintenance, and says how much it did and whether there is more. No rows: another session is at maintenance. Errors: 22023, 40001, 55000, TK030.';
revoke all on function tasker.run_maintenance_job(text,integer) from public;
grant execute on function tasker.run_maintenance_job(text,integer) to tasker_admin, tasker_operator;

CREATE OR REPLACE FUNCTION tasker.run_sql_step(claim_next boolean DEFAULT true)
 RETURNS TABLE(step_uuid uuid, outcome text, more boolean)
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
  v_run tasker.sql_runs;
begin
  if run_sql_step.claim_next is null then
    perform tasker._raise('22023', 'claim_next must not be null');
  end if;
  if tasker._is_in_sql_step() then
    perform tasker._raise('55000', 'a step''s function can''t run steps');
  end if;
  select r.* into v_run from tasker.sql_runs r where r.pid = pg_backend_pid() and r.backend_start = tasker._session_began_at() limit 1;
  if found then
    if v_run.claimed_in = pg_current_xact_id() then
      perform tasker._raise('55000', 'the step has been claimed in this transaction', 'An attempt is committed before it runs, so that it counts when it takes the session with it.',
        'Commit, and call again.');
    end if;
    step_uuid := v_run.step_uuid;
    outcome := tasker._run_claimed(v_run);
    delete from tasker.sql_runs r where r.step_uuid = v_run.step_uuid and r.pid = v_run.pid and r.backend_start = v_run.backend_start;
    -- Locks of the session would stay with it.
    perform pg_advisory_unlock_all();
  end if;
  more := run_sql_step.claim_next and tasker._claim_sql_step();
  return next;
end
$function$;
comment on function tasker.run_sql_step(boolean) is 'Runs the step with a SQL function that this session has claimed, if it has one, and says what became of the attempt; then claims the next, unless claim_next is false, if one is ready, which more says. Each call is to be a transaction of its own. Releases the session''s advisory locks. Errors: 22023, 55000, TK030.';
revoke all on function tasker.run_sql_step(boolean) from public;
grant execute on function tasker.run_sql_step(boolean) to tasker_admin, tasker_operator;

CREATE OR REPLACE FUNCTION tasker.save_checkpoint(step_uuid uuid, attempt integer, checkpoint jsonb)
 RETURNS void
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
  v_namespace constant text := tasker._checked_namespace(save_checkpoint.step_uuid);
  v_step record;
begin
  if save_checkpoint.step_uuid is null or save_checkpoint.attempt is null or save_checkpoint.checkpoint is null then
    perform tasker._raise('22023', 'step_uuid, attempt and checkpoint must be given');
  end if;
  perform tasker._raise_refused(tasker._payload_problem('checkpoint', save_checkpoint.checkpoint));
  select s.state, s.attempt into v_step
  from tasker.steps s
  where s.step_uuid = save_checkpoint.step_uuid and tasker._may(v_namespace, 'work')
  for no key update;
  if not found then
    perform tasker._raise('TK002', format('step %s not found', save_checkpoint.step_uuid));
  elsif v_step.state = 'cancelled' then
    perform tasker._raise('TK012', 'step was cancelled');
  elsif v_step.attempt <> save_checkpoint.attempt then
    perform tasker._raise('TK011', format('attempt %s owns the step now', v_step.attempt), null, 'Stop: another attempt goes on from the last checkpoint that was saved.');
  elsif v_step.state <> 'in_progress' then
    perform tasker._raise('TK010', format('step is %s: only a running one saves checkpoints', v_step.state));
  end if;
  update tasker.steps s set checkpoint = save_checkpoint.checkpoint where s.step_uuid = save_checkpoint.step_uuid;
end
$function$;
comment on function tasker.save_checkpoint(uuid,integer,jsonb) is 'Keeps how far a claimed step has come; attempt is the one it was claimed with. Whoever claims the step next, after a failure or a crash, is given the last checkpoint. Errors: TK002, TK010, TK011, TK012, TK022, 22023.';
revoke all on function tasker.save_checkpoint(uuid,integer,jsonb) from public;
grant execute on function tasker.save_checkpoint(uuid,integer,jsonb) to tasker_admin, tasker_worker;

CREATE OR REPLACE FUNCTION tasker.send_signal(task_uuid uuid, name text, payload jsonb DEFAULT NULL::jsonb)
 RETURNS boolean
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
  v_now timestamptz := tasker._now();
  v_actor text := tasker._author();
  v_namespace constant text := tasker._checked_namespace(send_signal.task_uuid);
  v_payload constant jsonb := coalesce(send_signal.payload, 'null');
  v_template_id integer;
  v_numbers integer[];
  v_received boolean;
begin
  -- To who may neither create nor read there, it isn't there.
  if not tasker._may(v_namespace, 'create') then
    perform tasker._require_task(send_signal.task_uuid);
    perform tasker._require_may(v_namespace, 'create');
  end if;
  select t.template_id into v_template_id from tasker.tasks t where t.task_uuid = send_signal.task_uuid;
  if not found then
    perform tasker._require_task(send_signal.task_uuid);
  end if;
  perform tasker._raise_refused(tasker._signal_problem(v_template_id, coalesce(send_signal.name, ''), v_payload));
  v_numbers := array(select n.number from tasker._signal_steps(v_template_id) n where n.signal = send_signal.name order by n.number);
  loop
    begin
      v_received := tasker._receive_signal(send_signal.task_uuid, send_signal.name, v_numbers, v_payload, v_now, v_actor);
      if v_received is not null then
        return v_received;
      end if;
      raise exception using errcode = 'TK999', message = 'the task has started';
    exception
      -- Leaving the block gives the task's lock back: steps come before it.
      when sqlstate 'TK999' then null;
    end;
  end loop;
end
$function$;
comment on function tasker.send_signal(uuid,text,jsonb) is 'Sends a signal to a task, once: the steps that wait for its name complete with the payload, and one that comes early is kept for them. True when this call sent it, false when it had been sent before, whose payload stays. Errors: TK001, TK004 for a name that no step of the task''s template waits for, TK010 for a task that has ended, TK012 for a cancelled one, TK021, TK022, 40001.';
revoke all on function tasker.send_signal(uuid,text,jsonb) from public;
grant execute on function tasker.send_signal(uuid,text,jsonb) to tasker_admin, tasker_client, tasker_operator;

CREATE OR REPLACE FUNCTION tasker.serve_caller(caller text DEFAULT NULL::text, namespaces text[] DEFAULT NULL::text[])
 RETURNS void
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
begin
  if length(serve_caller.caller) not between 1 and 200 or serve_caller.caller ~ '[[:cntrl:]]' then
    perform tasker._raise('22023', 'caller must have 1 to 200 characters, none of them a control character', null, 'Give null when the session acts for nobody but its role.');
  end if;
  perform tasker._require_namespace_names(serve_caller.namespaces);
  perform tasker._serve_caller(serve_caller.caller, serve_caller.namespaces);
end
$function$;
comment on function tasker.serve_caller(text,text[]) is 'From now on this session acts for a caller of its program: history names it beside the role, and the session reaches the given namespaces only, none of them with an empty list, on top of what the role may do. Nulls end that: the program decides whom it serves, so this narrows what it does by its own will. Errors: 22023.';
revoke all on function tasker.serve_caller(text,text[]) from public;
grant execute on function tasker.serve_caller(text,text[]) to tasker_admin, tasker_client, tasker_operator, tasker_reader, tasker_worker;

CREATE OR REPLACE FUNCTION tasker.set_namespace(name text, settings jsonb)
 RETURNS tasker.namespace
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
  v_unknown text;
  v_namespace tasker.namespace;
begin
  perform tasker._require_may(set_namespace.name, 'operate');
  perform tasker._require_namespace(set_namespace.name);
  if jsonb_typeof(set_namespace.settings) is distinct from 'object' then
    perform tasker._raise('22023', format('settings must be a JSON object, not %s', coalesce(jsonb_typeof(set_namespace.settings), 'null')), null,
      'Give all the settings that the namespace is to have; {} for none.');
  end if;
  select min(k.key) into v_unknown from jsonb_object_keys(set_namespace.settings) k(key) where k.key <> all (tasker._namespace_settings());
  if v_unknown is not null then
    perform tasker._raise('22023', format('a namespace has no setting %s', v_unknown), null,
      format('Known settings: %s.', array_to_string(tasker._namespace_settings(), ', ')));
  end if;
  if set_namespace.settings ? 'retention_days' and (jsonb_typeof(set_namespace.settings -> 'retention_days') <> 'number'
    or set_namespace.settings ->> 'retention_days' !~ '^[0-9]{1,5}$' or (set_namespace.settings ->> 'retention_days')::integer > 36500) then
    perform tasker._raise('22023', format('retention_days must be a whole number from 0 to 36500, not %s', set_namespace.settings -> 'retention_days'), null,
      '0 keeps finished tasks for ever.');
  end if;
  update tasker.namespaces n set settings = set_namespace.settings where n.name = set_namespace.name;
  select l.* into v_namespace from tasker.list_namespaces() l where l.name = set_namespace.name;
  return v_namespace;
end
$function$;

CREATE OR REPLACE FUNCTION tasker.slowest_steps(since timestamp with time zone DEFAULT NULL::timestamp with time zone, namespace text DEFAULT NULL::text, template_name text DEFAULT NULL::text, "limit" integer DEFAULT 10)
 RETURNS SETOF tasker.slow_step
 LANGUAGE plpgsql
 STABLE SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET jit TO 'off'
AS $function$
begin
  return query
    select s.key, tasker._task_of(s.key), s.namespace, s.template_name, s.template_version, d.name, s.run_us / 1000.0::double precision, s.attempts_used, s.state, s.started_at,
      s.finished_at
    from tasker._slowest(false, slowest_steps.since, slowest_steps.namespace, slowest_steps.template_name, slowest_steps."limit") s
    cross join lateral tasker._step_definitions(array[s.template_id], array[tasker._number_of(s.key)]) d
    order by s.run_us desc, s.key;
end
$function$;
comment on function tasker.slowest_steps(timestamp with time zone,text,text,integer) is 'Lists the steps whose last attempt ran longest, of those that ended since a time (by default a day ago, rounded down as by statistics), also when they have left by now; limit 1 to 20. Errors: 22023.';
revoke all on function tasker.slowest_steps(timestamp with time zone,text,text,integer) from public;
grant execute on function tasker.slowest_steps(timestamp with time zone,text,text,integer) to tasker_admin, tasker_operator, tasker_reader;

CREATE OR REPLACE FUNCTION tasker.slowest_tasks(since timestamp with time zone DEFAULT NULL::timestamp with time zone, namespace text DEFAULT NULL::text, template_name text DEFAULT NULL::text, "limit" integer DEFAULT 10)
 RETURNS SETOF tasker.slow_task
 LANGUAGE plpgsql
 STABLE SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET jit TO 'off'
AS $function$
begin
  return query
    select s.key, s.namespace, s.template_name, s.template_version, s.run_us / 1000.0::double precision, s.state, s.started_at, s.finished_at
    from tasker._slowest(true, slowest_tasks.since, slowest_tasks.namespace, slowest_tasks.template_name, slowest_tasks."limit") s
    order by s.run_us desc, s.key;
end
$function$;
comment on function tasker.slowest_tasks(timestamp with time zone,text,text,integer) is 'Lists the tasks that took longest from their start to their end, of those that ended since a time (by default a day ago, rounded down as by statistics), also when they have left by now; limit 1 to 20. Errors: 22023.';
revoke all on function tasker.slowest_tasks(timestamp with time zone,text,text,integer) from public;
grant execute on function tasker.slowest_tasks(timestamp with time zone,text,text,integer) to tasker_admin, tasker_operator, tasker_reader;

CREATE OR REPLACE FUNCTION tasker.stale_tasks(namespace text DEFAULT NULL::text, after uuid DEFAULT NULL::uuid, "limit" integer DEFAULT 50)
 RETURNS SETOF tasker.stale_task
 LANGUAGE plpgsql
 STABLE SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
  v_now timestamptz := tasker._now();
  v_namespace_ids integer[] := tasker._shown_namespaces(stale_tasks.namespace);
  v_template_ids integer[];
begin
  perform tasker._require_limit(stale_tasks."limit", 'after => the last task_uuid');
  -- Only templates that set a limit have tasks that can be over it; without one nothing is read. Their tasks are read in the order of the primary key.
  v_template_ids := array(
    select x.template_id
    from tasker.templates x
    where coalesce(x.compiled #>> '{lifecycle,max_duration_seconds}', x.compiled #>> '{lifecycle,max_waiting_for_dependencies_seconds}',
        x.compiled #>> '{lifecycle,max_waiting_for_retry_seconds}', x.compiled #>> '{lifecycle,max_steps_in_process_seconds}') is not null
      and (v_namespace_ids is null or x.namespace_id = any (v_namespace_ids)));
  if cardinality(v_template_ids) = 0 then
    return;
  end if;
  return query
    select t.task_uuid, n.name, x.name, x.version, t.state, c.clock, c.limit_seconds, c.since, c.stale_since, x.compiled #>> '{lifecycle,staleness_action}'
    from tasker.tasks t
    cross join lateral (
      select c.clock, c.limit_seconds, c.since, c.since + c.limit_seconds * interval '1 second' as stale_since
      from tasker._task_clocks(t.task_uuid) c
      where c.since + c.limit_seconds * interval '1 second' <= v_now
      order by stale_since
      limit 1
    ) c
    join tasker.templates x on x.template_id = t.template_id
    join tasker.namespaces n on n.namespace_id = x.namespace_id
    where t.task_uuid > coalesce(stale_tasks.after, '00000000-0000-0000-0000-000000000000') and t.finished_at is null and t.template_id = any (v_template_ids)
    order by t.task_uuid
    limit stale_tasks."limit";
end
$function$;

CREATE OR REPLACE FUNCTION tasker.statistics(since timestamp with time zone DEFAULT NULL::timestamp with time zone, namespace text DEFAULT NULL::text, template_name text DEFAULT NULL::text)
 RETURNS SETOF tasker.step_statistics
 LANGUAGE plpgsql
 STABLE SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET enable_seqscan TO 'off'
 SET jit TO 'off'
AS $function$
declare
  v_since constant timestamptz := tasker._since(statistics.since);
  v_as_of constant timestamptz := tasker._statistics_as_of();
begin
  return query
    select c.namespace, c.template_name, c.template_version, d.name, s.completed, s.failed, s.cancelled, s.resolved,
      (s.failed::numeric / nullif(s.completed + s.failed, 0))::double precision,
      case when s.number > 0 then s.attempts end, case when s.number > 0 then s.retries end,
      (s.wait_us / nullif(s.waits, 0) / 1000)::double precision, (s.run_us / nullif(s.runs, 0) / 1000)::double precision,
      -- No run is longer than the longest.
      least(tasker._percentile(s.run_histogram, 0.5), m.longest) / 1000, least(tasker._percentile(s.run_histogram, 0.95), m.longest) / 1000,
      least(tasker._percentile(s.run_histogram, 0.99), m.longest) / 1000, m.longest / 1000, v_since, v_as_of
    from tasker._chosen_templates(statistics.namespace, statistics.template_name) c
    cross join lateral (
      select b.number, sum(b.completed)::bigint as completed, sum(b.failed)::bigint as failed, sum(b.cancelled)::bigint as cancelled, sum(b.resolved)::bigint as resolved,
        sum(b.attempts)::bigint as attempts, sum(b.retries)::bigint as retries, sum(b.runs) as runs, sum(b.run_us) as run_us, max(b.longest_run_us) as longest_run_us,
        tasker._sum_histograms(array_agg(b.run_histogram)) as run_histogram, sum(b.waits) as waits, sum(b.wait_us) as wait_us
      from tasker.statistics_buckets b
      where b.template_id = c.template_id and b.starts_at >= v_since
      group by b.number
    ) s
    cross join lateral (select case when s.runs > 0 then s.longest_run_us::double precision end as longest) m
    left join lateral tasker._step_definitions(array_fill(c.template_id, array[(s.number > 0)::integer]), array_fill(s.number, array[(s.number > 0)::integer])) d on true
    order by c.namespace, c.template_name, c.template_version, s.number;
end
$function$;
comment on function tasker.statistics(timestamp with time zone,text,text) is 'Gives the figures of each template''s tasks (without step_name) and steps since a time, by default a day ago, rounded down to its hour, after two days to its day, after 62 to its month. Percentiles of run times are off by at most a tenth. as_of says up to when everything is counted.';
revoke all on function tasker.statistics(timestamp with time zone,text,text) from public;
grant execute on function tasker.statistics(timestamp with time zone,text,text) to tasker_admin, tasker_operator, tasker_reader;

CREATE OR REPLACE FUNCTION tasker.subscribe_domain_events(subscriber text, namespaces text[], patterns text[])
 RETURNS bigint
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
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
comment on function tasker.subscribe_domain_events(text,text[],text[]) is 'Subscribes to the durable events of namespaces, those that are yet to be made too, by patterns, and says how many of the subscriptions are new. Each one is sent what is published from then on, until unsubscribe_domain_events. Errors: 22023, TK022, TK030.';
revoke all on function tasker.subscribe_domain_events(text,text[],text[]) from public;
grant execute on function tasker.subscribe_domain_events(text,text[],text[]) to tasker_admin, tasker_worker;

CREATE OR REPLACE FUNCTION tasker.task_graph(task_uuid uuid)
 RETURNS TABLE(number integer, name text, type text, step_uuid uuid, state text, created boolean, dependencies text[], dependents text[], child_task_uuid uuid)
 LANGUAGE plpgsql
 STABLE SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
begin
  perform tasker._require_task(task_graph.task_uuid);
  return query
    with asked as materialized (
      select t.template_id, tasker._unreal_steps(t.task_uuid, t.template_id) as unreal from tasker.tasks t where t.task_uuid = task_graph.task_uuid
    ), instances as materialized (
      select i.*, tasker._definition_number(i.template_id, i.number) as definition_number
      from (
        select s.step_uuid, s.state, t.template_id, tasker._number_of(s.step_uuid) as number
        from asked t
        cross join tasker.steps s
        where tasker._is_dynamic(t.template_id) and s.step_uuid > task_graph.task_uuid and s.step_uuid <= tasker._last_step_uuid(task_graph.task_uuid)
          and s.step_uuid <> all (t.unreal)
      ) i
      where tasker._instance_of(i.template_id, i.number) is not null
    )
    select d.number, d.name, d.type, s.step_uuid, s.state, s.step_uuid is not null, d.dependencies, d.dependents, c.task_uuid
    from asked t
    cross join lateral tasker._template_nodes(t.template_id) d
    left join lateral (
      select s.step_uuid, s.state from tasker.steps s where s.step_uuid = tasker._step_uuid(task_graph.task_uuid, d.number) and s.step_uuid <> all (t.unreal)
    ) s on true
    left join lateral (
      select c.task_uuid from tasker.child_tasks c where d.type = 'task' and c.parent_step_uuid = s.step_uuid order by c.attempt desc limit 1
    ) c on true
    union all
    -- What stands for instances waits for them.
    select i.number, d.name, d.type, i.step_uuid, i.state, true, g.dependencies, array[g.name], null
    from instances i
    cross join lateral tasker._step_definitions(array[i.template_id], array[i.number]) d
    cross join lateral tasker._step_definitions(array[i.template_id], array[i.definition_number]) g
    union all
    -- What undoes steps, one after the other.
    select tasker._number_of(c.step_uuid), c.name, 'standard', c.step_uuid, c.state, true, array_remove(array[lag(c.name) over w], null), array_remove(array[lead(c.name) over w], null), null
    from tasker.list_compensations(task_graph.task_uuid) c
    window w as (order by c.ordinal)
    order by 1;
end
$function$;
comment on function tasker.task_graph(uuid) is 'Gives a task as a graph: a row for each step of its template with its state and its edges both ways, steps not created (yet) included, then one for each instance and for each compensation. Errors: TK001, 40001.';
revoke all on function tasker.task_graph(uuid) from public;
grant execute on function tasker.task_graph(uuid) to tasker_admin, tasker_client, tasker_operator, tasker_reader;

CREATE OR REPLACE FUNCTION tasker.unsubscribe_domain_events(subscriber text, namespace text, pattern text)
 RETURNS boolean
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
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
comment on function tasker.unsubscribe_domain_events(text,text,text) is 'Ends a subscription, with what waits for it. True when there was one; a worker that has it makes it anew when it starts.';
revoke all on function tasker.unsubscribe_domain_events(text,text,text) from public;
grant execute on function tasker.unsubscribe_domain_events(text,text,text) to tasker_admin, tasker_operator;

CREATE OR REPLACE FUNCTION tasker.validate_template(definition jsonb, environment text DEFAULT NULL::text)
 RETURNS TABLE(severity text, code text, path text, message text)
 LANGUAGE sql
 STABLE SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
  select f.severity, f.code, f.path, f.message from tasker._template_findings(definition::text, true, environment) f
$function$;

CREATE OR REPLACE FUNCTION tasker.validate_template(definition text, environment text DEFAULT NULL::text)
 RETURNS TABLE(severity text, code text, path text, message text)
 LANGUAGE sql
 STABLE SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
  select f.severity, f.code, f.path, f.message from tasker._template_findings(definition, false, environment) f
$function$;

CREATE OR REPLACE FUNCTION tasker.verify(task_uuid uuid DEFAULT NULL::uuid)
 RETURNS SETOF tasker.violation
 LANGUAGE plpgsql
 STABLE SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
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

CREATE OR REPLACE FUNCTION tasker.work_due_in_ms(namespaces text[], handlers text[] DEFAULT NULL::text[])
 RETURNS bigint
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
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

CREATE OR REPLACE FUNCTION tasker.worker_heartbeat(worker_id text, running integer, capacity integer)
 RETURNS void
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
begin
  if running is null or running < 0 or capacity is null or capacity < 0 then
    perform tasker._raise('22023', 'running and capacity must be zero or more');
  end if;
  update tasker.workers w
  set last_seen_at = tasker._now(), running = worker_heartbeat.running, capacity = worker_heartbeat.capacity
  where w.worker_id = worker_heartbeat.worker_id and w.retired_at is null and tasker._namespace_problem(w.namespaces, 'work') is null;
  if not found then
    perform tasker._raise('TK004', format('worker %s not found', worker_heartbeat.worker_id), null, 'Call tasker.register_worker first.');
  end if;
end
$function$;
