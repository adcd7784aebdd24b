-- The tables, their indexes, and their registration for pg_dump.
-- Not here: functions, grants, PGMQ's own tables (pgmq.q_worker_{namespace}_queue), which the queue functions make when a namespace is made, and the partitions of the tables
-- that grow with the work (050), which have the keys and the indexes: a parent with a key could not be restored with partitions that were made at run time.
--
-- Keys: a task's UUIDv7 keeps its low 20 bits zero and a step's key is its task's with the step's number in those bits. The steps of a task lie side by
-- side, one primary key serves both look-ups, and no table needs a task_uuid beside a step_uuid.
-- No foreign key and no check on tables that grow with the work: the functions are the only writers, verify() proves what a key would, and every statement would read a check's
-- expression anew.

create table tasker.namespaces (
  namespace_id integer generated always as identity constraint namespaces_pkey primary key,
  name text not null constraint namespace_name_is_unique unique,
  queue_name text not null,
  settings jsonb not null default '{}',
  paused_at timestamptz,
  paused_by text,
  pause_reason text,
  created_at timestamptz not null,
  events_queue_name text,
  constraint namespace_name_is_a_lower_case_word check (name ~ '^[a-z][a-z0-9_]{0,28}$')
);
comment on table tasker.namespaces is 'Namespaces: each has one PGMQ queue, worker_{name}_queue, and one for its events, events_{name}_queue, if it publishes durable ones.';

create table tasker.templates (
  template_id integer generated always as identity constraint templates_pkey primary key,
  template_uuid uuid not null,
  namespace_id integer not null constraint template_belongs_to_a_namespace references tasker.namespaces (namespace_id),
  name text not null,
  version text not null,
  version_key text collate "C" not null,
  description text,
  environment text,
  source text not null,
  definition jsonb not null,
  compiled jsonb not null,
  content_hash bytea not null,
  steps_count integer not null,
  roots_count integer not null,
  context_defaults jsonb not null,
  has_input_schema boolean not null,
  identity_strategy text not null,
  identity_window_seconds bigint,
  on_failure text not null,
  registered_by text not null,
  registered_at timestamptz not null,
  retired_at timestamptz,
  constraint template_version_is_unique unique (namespace_id, name, version)
);
comment on table tasker.templates is 'Templates as written and as compiled; immutable once registered under a version.';
-- create_task without a version: the newest version of a name.
create index templates_newest_idx on tasker.templates (namespace_id, name, version_key desc) where retired_at is null;

create table tasker.tasks (
  task_uuid uuid not null,
  template_id integer not null,
  namespace_id integer not null,
  state text not null,
  priority smallint not null,
  running integer not null,
  waiting_retry integer not null default 0,
  waiting_engine integer not null default 0,
  failed integer not null default 0,
  created_at timestamptz not null,
  started_at timestamptz,
  finished_at timestamptz,
  run_at timestamptz,
  paused_at timestamptz,
  correlation_id uuid not null,
  parent_correlation_id uuid,
  idempotency_key text,
  initiator text,
  source_system text,
  reason text,
  tags text[] not null default '{}',
  context jsonb not null,
  error jsonb,
  paused_by text,
  pause_reason text,
  paused_ms bigint,
  resumed_at timestamptz,
  compensates text,
  traceparent text
) partition by range (task_uuid);
comment on table tasker.tasks is 'One row a task; its counters (running, waiting_retry, waiting_engine, failed) decide its state when they change. '
  'compensates is how it ends when what it did is undone: error or cancelled; traceparent is the span, as W3C writes it, that its creation belongs to.';
create table tasker.scheduled_tasks (
  run_at timestamptz not null,
  task_uuid uuid not null,
  constraint scheduled_tasks_pkey primary key (run_at, task_uuid)
);
comment on table tasker.scheduled_tasks is 'Tasks that wait for their run_at. A table of its own: an index on the tasks'' state would make every change of it dearer.';

create table tasker.resting_outcomes (
  rested_at timestamptz not null,
  step_uuid uuid not null,
  events jsonb,
  constraint resting_outcomes_pkey primary key (rested_at, step_uuid)
);
comment on table tasker.resting_outcomes is 'Steps whose outcome rests until maintenance evaluates it. A table of its own, for the same reason.';

create table tasker.held_tasks (
  namespace_id integer not null,
  task_uuid uuid not null,
  constraint held_tasks_pkey primary key (namespace_id, task_uuid)
);
comment on table tasker.held_tasks is 'Pending tasks whose time has come while their namespace is paused: they start when it is resumed.';

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

create table tasker.steps (
  step_uuid uuid not null,
  template_id integer not null,
  state text not null,
  attempt integer not null default 0,
  attempts_used integer not null default 0,
  remaining_dependencies integer not null,
  lease_ms integer,
  msg_id bigint,
  created_at timestamptz not null,
  enqueued_at timestamptz,
  started_at timestamptz,
  finished_at timestamptz,
  lease_expires_at timestamptz,
  retry_at timestamptz,
  worker_id text,
  result jsonb,
  error jsonb,
  checkpoint jsonb,
  inputs jsonb,
  paused_at timestamptz,
  instances integer,
  opened integer,
  undoes uuid,
  followed_by integer
) partition by range (step_uuid);
comment on table tasker.steps is 'One row a step; its key names its task and its number within the task. paused_at is its task''s, so that whoever has locked a step knows of the pause. '
  'instances is how many were made of it, and opened how many of those were let go. '
  'undoes is the step that a compensation undoes, and followed_by the number of the compensation that is let go after it.';

create sequence tasker.transitions_seq;
comment on sequence tasker.transitions_seq is 'The order of history rows, of tasks and steps alike.';

create table tasker.task_transitions (
  task_uuid uuid not null,
  seq bigint not null default nextval('tasker.transitions_seq'),
  at timestamptz not null,
  path text not null,
  actor text not null,
  metadata jsonb
) partition by range (task_uuid);
comment on table tasker.task_transitions is 'Append-only history of tasks; path is what a transaction took through the state machine, one letter for each event.';

create table tasker.step_transitions (
  step_uuid uuid not null,
  seq bigint not null default nextval('tasker.transitions_seq'),
  at timestamptz not null,
  attempt integer not null,
  path text not null,
  actor text not null,
  metadata jsonb
) partition by range (step_uuid);
comment on table tasker.step_transitions is 'Append-only history of steps; path is what a transaction took through the state machine, one letter for each event.';

create table tasker.idempotency_keys (
  namespace_id integer not null,
  template_name text not null,
  key text not null,
  request_hash bytea not null,
  task_uuid uuid not null,
  expires_at timestamptz,
  constraint idempotency_keys_pkey primary key (namespace_id, template_name, key)
);
comment on table tasker.idempotency_keys is 'Idempotency keys in use; without expires_at a key lives as long as its task.';

create table tasker.dead_letters (
  task_uuid uuid not null,
  dead_letter_uuid uuid not null,
  reason text not null,
  resolution text not null default 'pending',
  snapshot jsonb not null,
  opened_at timestamptz not null,
  opened_by text not null,
  resolved_at timestamptz,
  resolved_by text,
  note text,
  step_uuid uuid,
  constraint dead_letter_reason_is_known check (reason in (
    'max_retries_exceeded', 'permanent_failure', 'staleness_timeout', 'worker_unavailable', 'dependency_cycle_detected', 'manual_dlq')),
  constraint dead_letter_resolution_is_known check (resolution in ('pending', 'manually_resolved', 'permanently_failed', 'cancelled'))
) partition by range (task_uuid);
comment on table tasker.dead_letters is 'Dead letters: investigations of tasks that failed for good, with a snapshot of the task as it was; with step_uuid of one instance, which failed without its task.';

create table tasker.workers (
  worker_id text not null constraint workers_pkey primary key,
  namespaces text[] not null,
  handlers text[] not null,
  language text not null,
  version text not null,
  running integer not null default 0,
  capacity integer not null default 0,
  registered_at timestamptz not null,
  last_seen_at timestamptz not null,
  retired_at timestamptz
) with (fillfactor = 50);
comment on table tasker.workers is 'Workers that registered, and when each was last heard of.';

create table tasker.finish_requests (
  request_id uuid not null constraint finish_requests_pkey primary key,
  worker_id text not null,
  verdicts jsonb not null,
  claimed_steps uuid[] not null,
  claimed_attempts integer[] not null,
  answered_at timestamptz not null
);
comment on table tasker.finish_requests is 'Answers given to finish_steps by request_id, for an hour, so that a repeated call gets the same one.';
-- run_maintenance: answers that are old enough to go
create index finish_requests_answered_idx on tasker.finish_requests (answered_at);

create table tasker.bulk_jobs (
  job_uuid uuid not null constraint bulk_jobs_pkey primary key,
  filter jsonb not null,
  action text not null,
  reason text,
  created_at timestamptz not null,
  created_by text not null,
  after uuid,
  seen bigint not null default 0,
  changed bigint not null default 0,
  refused bigint not null default 0,
  last_refusal jsonb,
  finished_at timestamptz
);
comment on table tasker.bulk_jobs is 'Jobs that do one action to many tasks, and how far they have come: after is the last task seen.';
-- run_maintenance: the oldest job that goes on
create index bulk_jobs_open_idx on tasker.bulk_jobs (job_uuid) where finished_at is null;

create table tasker.maintenance_cursors (
  job text not null constraint maintenance_cursors_pkey primary key,
  after uuid not null,
  walked_at timestamptz
);
comment on table tasker.maintenance_cursors is 'How far the job of maintenance that walks over tasks has come, and when a round of maintenance last ended.';

create table tasker.maintenance_found (
  job text not null,
  key uuid not null,
  note_uuid uuid not null default gen_random_uuid(),
  constraint maintenance_found_pkey primary key (job, key, note_uuid)
);
comment on table tasker.maintenance_found is 'Steps and tasks that the walk of maintenance, and calls of others, have found for its jobs; mostly empty. A job looks at each again. The same may be noted more than once: '
  'who notes holds locks that a job may wait for, and must not wait for the job.';

create table tasker.event_floors (
  incarnation text not null constraint event_floors_pkey primary key,
  settled_seq bigint not null,
  settled_xid bigint not null,
  noted_seq bigint not null,
  noted_xid bigint not null
);
comment on table tasker.event_floors is 'One row: numbers of history rows, each with the transaction id from which on all have greater ones; it spares readers of events what is long settled.';

create table tasker.kept_ranges (
  suffix text not null constraint kept_ranges_pkey primary key,
  look_again_at timestamptz not null,
  problem text
);
comment on table tasker.kept_ranges is 'Ranges of partitions that were due to leave and are still there: when retention looks at them again, and what was in its way.';

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

-- Tables of an extension are dumped only if registered for it.
do $dump$
declare
  v_table record;
begin
  for v_table in
    select c.oid::pg_catalog.regclass as name
    from pg_catalog.pg_class c
    join pg_catalog.pg_namespace n on n.oid = c.relnamespace
    where n.nspname = 'tasker' and c.relkind in ('r', 'p', 'S')
    order by c.oid
  loop
    perform pg_catalog.pg_extension_config_dump(v_table.name, '');
  end loop;
end
$dump$;
