-- From 0.1.0 to 0.2.0. Above the mark, by hand: types and tables, what they say to pg_dump, and rows. Below it: the functions, as pg_extension/upgrade-script writes them.

create type tasker._edition as ();
revoke all on type tasker._edition from public;

create table tasker.maintenance_found (
  job text not null,
  key uuid not null,
  constraint maintenance_found_pkey primary key (job, key)
);
comment on table tasker.maintenance_found is 'Steps and tasks that the walk of maintenance has found for its other jobs; mostly empty. A job looks at each again.';

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

alter table tasker.steps add column instances integer, add column opened integer, add column undoes uuid, add column followed_by integer;
comment on table tasker.steps is 'One row a step; its key names its task and its number within the task. paused_at is its task''s, so that whoever has locked a step knows of the pause. '
  'instances is how many were made of it, and opened how many of those were let go. '
  'undoes is the step that a compensation undoes, and followed_by the number of the compensation that is let go after it.';
alter table tasker.tasks add column compensates text;
comment on table tasker.tasks is 'One row a task; its counters (running, waiting_retry, waiting_engine, failed) decide its state when they change. '
  'compensates is how it ends when what it did is undone: error or cancelled.';

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
alter type tasker.task add attribute parent_task_uuid uuid, add attribute parent_step_uuid uuid;
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

do $registered$
declare
  v_name text;
begin
  foreach v_name in array array['maintenance_found', 'namespace_grants', 'statistics_cursors', 'statistics_buckets', 'slowest_runs', 'state_counts', 'schedules', 'domain_events',
    'event_subscriptions', 'sql_namespaces', 'sql_runs', 'timers', 'signals', 'child_tasks'] loop
    perform pg_catalog.pg_extension_config_dump(pg_catalog.format('tasker.%I', v_name)::pg_catalog.regclass, '');
    -- The row types are closed when partitions are made, as those of a fresh install are.
    execute pg_catalog.format('revoke all on table tasker.%I from public', v_name);
  end loop;
  foreach v_name in array array['step_statistics', 'slow_step', 'slow_task', 'namespace_grant', 'schedule', 'claimed_domain_event', 'domain_event', 'event_subscription', 'compensation', 'dependency_result'] loop
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
    execute pg_catalog.format('alter table pgmq.%I set (fillfactor = 30)', v_queue);
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
