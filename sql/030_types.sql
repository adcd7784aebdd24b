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

-- One request of create_task or create_tasks.
create type tasker._request as (
  ordinal integer,
  template_name text,
  namespace text,
  context jsonb,
  version text,
  idempotency_key text,
  priority integer,
  run_at timestamptz,
  correlation_id uuid,
  parent_correlation_id uuid,
  tags text[],
  initiator text,
  source_system text,
  reason text
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

-- One outcome as a worker reported it; problem is set when it can't be read.
create type tasker._outcome as (
  ordinal integer,
  step_uuid uuid,
  attempt integer,
  status text,
  result jsonb,
  error jsonb,
  checkpoint jsonb,
  code text,
  problem text
);

-- A decided change of one step under its row lock.
create type tasker._settlement as (
  step_uuid uuid,
  template_id integer,
  number integer,
  from_state text,
  to_state text,
  event text,
  passed_through text[],
  attempt integer,
  raises_attempt integer,
  gives_back integer,
  msg_id bigint,
  due_at timestamptz,
  result jsonb,
  error jsonb,
  checkpoint jsonb
);

-- The verdict on one outcome, with the change it causes when it is accepted.
create type tasker._judgement as (
  ordinal integer,
  step_uuid uuid,
  attempt integer,
  verdict text,
  code text,
  message text,
  settlement tasker._settlement
);

-- A step whose counter falls in this call.
create type tasker._dependent as (
  step_uuid uuid,
  template_id integer,
  number integer,
  decrement integer,
  is_ready boolean,
  attempt integer,
  queue_name text,
  namespace text,
  handler text,
  priority integer,
  correlation_id uuid,
  is_handed_over boolean
);

-- A queue message met by a claim, with its step as locked.
create type tasker._candidate as (
  msg_id bigint,
  step_uuid uuid,
  template_id integer,
  state text,
  attempt integer,
  attempts_used integer,
  error jsonb,
  worker_id text,
  lease_expires_at timestamptz,
  retry_at timestamptz,
  step_msg_id bigint,
  decision text,
  delay_ms bigint
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

-- The net change of a task's counters in one call, and what caused it.
create type tasker._task_delta as (
  task_uuid uuid,
  running integer,
  waiting_retry integer,
  failed integer,
  cause text
);
