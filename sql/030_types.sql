-- The composite types: claimed_step is the contract with workers, the rest carry rows between the private functions.
-- Not here: what a client sees of tasks and steps (60x), which are the reading functions' own column lists.

create type tasker.claimed_step as (
  step_uuid uuid,
  task_uuid uuid,
  attempt integer,
  attempts_used integer,
  max_attempts integer,
  namespace text,
  template_name text,
  template_version text,
  step_name text,
  step_type text,
  handler jsonb,
  context jsonb,
  inputs jsonb,
  dependency_results jsonb,
  checkpoint jsonb,
  correlation_id uuid,
  priority integer,
  timeout_seconds integer,
  lease_expires_at timestamptz,
  created_at timestamptz,
  enqueued_at timestamptz
);
comment on type tasker.claimed_step is 'A step handed to a worker: what to run, on what, and until when.';

-- A domain event that an outcome publishes, or with a problem doesn't.
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

-- A request that has an idempotency key, with the hash of what makes it the same request.
create type tasker._keyed as (
  ordinal integer,
  namespace_id integer,
  template_name text,
  key text,
  request_hash bytea,
  task_uuid uuid,
  expires_at timestamptz
);

-- A step whose lease a worker asks to extend, as locked.
create type tasker._held as (
  step_uuid uuid,
  template_id integer,
  attempt integer,
  attempts_used integer,
  msg_id bigint,
  timeout_seconds integer,
  lease_until timestamptz,
  verdict text
);

-- A step that a worker says it holds.
create type tasker._holding as (
  ordinal integer,
  step_uuid uuid,
  attempt integer
);

-- What the library's functions answer; refused holds the code, message, detail and hint of a refusal, which SQL raises.
create type tasker._created as (
  task_uuids uuid[],
  created boolean[],
  refused text[]
);

create type tasker.bulk_job as (
  job_uuid uuid,
  action text,
  filter jsonb,
  reason text,
  created_at timestamptz,
  created_by text,
  seen bigint,
  changed bigint,
  refused bigint,
  last_refusal jsonb,
  finished_at timestamptz
);
comment on type tasker.bulk_job is 'A job that does one action to many tasks; finished_at is null while it goes on.';

create type tasker._finished as (
  verdicts jsonb,
  claimed tasker.claimed_step[],
  refused text[]
);

-- Rows that the library hands to its statements.
create type tasker._step_change as (
  step_uuid uuid,
  state text,
  attempt integer,
  attempts_used integer,
  remaining integer,
  msg_id bigint,
  retry_at timestamptz,
  result jsonb,
  error jsonb,
  checkpoint jsonb,
  times integer
);

create type tasker._step_record as (
  step_uuid uuid,
  attempt integer,
  path text,
  metadata jsonb
);

create type tasker._task_change as (
  task_uuid uuid,
  state text,
  running integer,
  waiting_retry integer,
  failed integer,
  ends boolean,
  is_repair boolean,
  waiting_engine integer
);

create type tasker._task_record as (
  task_uuid uuid,
  path text
);

create type tasker._new_task as (
  task_uuid uuid,
  template_id integer,
  namespace_id integer,
  state text,
  priority integer,
  running integer,
  run_at timestamptz,
  correlation_id uuid,
  parent_correlation_id uuid,
  idempotency_key text,
  initiator text,
  source_system text,
  reason text,
  tags jsonb,
  context jsonb,
  traceparent text
);

create type tasker._new_step as (
  step_uuid uuid,
  template_id integer,
  remaining integer,
  msg_id bigint
);

-- The library of 0.1.0 sends messages with it, in sessions that began before an update.
create type tasker._message as (
  task_uuid uuid,
  step_uuid uuid,
  attempt integer,
  handler text,
  priority integer,
  correlation_id uuid,
  vt timestamptz,
  msg_id bigint
);

create type tasker._step_message as (
  step_uuid uuid,
  msg_id bigint
);

create type tasker._visibility as (
  msg_id bigint,
  vt timestamptz
);

create type tasker._to_be_claimed as (
  step_uuid uuid,
  task_uuid uuid,
  max_attempts integer,
  namespace text,
  template_name text,
  template_version text,
  step_name text,
  step_type text,
  handler text,
  results jsonb,
  timeout_seconds integer,
  dependency text,
  result jsonb
);

create type tasker._dependency as (
  ordinal integer,
  step_uuid uuid,
  name text
);

-- Where a reader of events is: in the round of transactions from from_xid to before to_xid, behind the ordinal-th event of the row seq. The rest is for the rounds after it: the
-- least number passed over in this one, the number that no row of a transaction from to_xid on is below, and a pair to take the next such number from.
create type tasker._event_cursor as (
  from_xid bigint,
  to_xid bigint,
  seq bigint,
  ordinal integer,
  passed_over bigint,
  floor bigint,
  noted_seq bigint,
  noted_xid bigint
);

-- A history row of a task or a step, with its transaction id.
create type tasker._stored_event as (
  key uuid,
  seq bigint,
  xid bigint,
  at timestamptz,
  attempt integer,
  path text,
  actor text,
  metadata jsonb
);

create type tasker.event as (
  cursor text,
  at timestamptz,
  task_uuid uuid,
  step_uuid uuid,
  step_name text,
  from_state text,
  to_state text,
  event text,
  attempt integer,
  actor text,
  metadata jsonb,
  namespace text,
  template_name text
);
comment on type tasker.event is 'A state change as list_events shows it; without step_uuid it is the task''s.';

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
-- Made anew by each upgrade script too: its object id tells the library which edition of all this it meets (pg_extension/src/edition.rs).
create type tasker._edition as ();
