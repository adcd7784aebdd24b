-- Finishing: outcomes in, verdicts out, and in the same transaction the dependents, their messages and the caller's next work.

create function tasker._read_outcomes(p_outcomes jsonb) returns tasker._outcome[]
language plpgsql stable parallel unsafe set search_path = pg_catalog, pg_temp as $function$
begin
  if jsonb_typeof(p_outcomes) is distinct from 'array' then
    perform tasker._raise('22023', format('outcomes must be a JSON array, not %s', coalesce(jsonb_typeof(p_outcomes), 'null')), null,
      'Give a list of {"step_uuid", "attempt", "status", "result" | "error" | "checkpoint"}.');
  end if;
  perform tasker._require_batch('the number of outcomes', jsonb_array_length(p_outcomes));
  -- A bad outcome rejects itself, not its batch: nothing here is cast before its text has been looked at.
  return array(
    select row(o.ordinal, r.step_uuid, r.attempt, r.status, o.value -> 'result', r.error, o.value -> 'checkpoint', p.code, p.problem)::tasker._outcome
    from jsonb_array_elements(p_outcomes) with ordinality o(value, ordinal)
    cross join lateral (
      select
        case when o.value ->> 'step_uuid' ~* '^[0-9a-f]{8}-([0-9a-f]{4}-){3}[0-9a-f]{12}$' then (o.value ->> 'step_uuid')::uuid end as step_uuid,
        case when jsonb_typeof(o.value -> 'attempt') = 'number' and o.value ->> 'attempt' ~ '^[0-9]{1,9}$' then (o.value ->> 'attempt')::integer end as attempt,
        o.value ->> 'status' as status,
        o.value -> 'error' as error
    ) r
    cross join lateral (
      -- Only an outcome that is too long or too deep as a whole is looked at part by part.
      select case when tasker._limit_problem(o.value::text) is not null then (
        select min('the ' || part.name || ' ' || l.problem)
        from unnest(array['result', 'checkpoint', 'error']) part(name)
        cross join lateral (select tasker._limit_problem((o.value -> part.name)::text) as problem) l
        where l.problem is not null
      ) end as limit_problem
    ) z
    cross join lateral (
      select
        case when z.limit_problem is not null then 'TK022' else '22023' end as code,
        case
          when jsonb_typeof(o.value) <> 'object' then 'an outcome must be a JSON object'
          when r.step_uuid is null then 'step_uuid must be a UUID'
          when r.attempt is null then 'attempt must be a whole number, as claimed'
          when r.status is null or r.status not in ('complete', 'fail', 'release', 'yield') then 'status must be complete, fail, release or yield'
          when r.status = 'fail' and (jsonb_typeof(r.error) is distinct from 'object' or jsonb_typeof(r.error -> 'message') is distinct from 'string')
            then 'a failure needs an error with a message'
          when r.status = 'fail' and coalesce(jsonb_typeof(r.error -> 'retryable'), 'null') not in ('boolean', 'null')
            then 'error.retryable must be true or false'
          when r.status = 'fail' and r.error ->> 'retry_after_ms' !~ '^[0-9]{1,15}$' then 'error.retry_after_ms must be a whole number of milliseconds'
          when z.limit_problem is not null then z.limit_problem
        end as problem
    ) p
    order by o.ordinal);
end
$function$;
comment on function tasker._read_outcomes(jsonb) is 'Reads outcomes; one that can''t be read carries its problem with it (22023, TK022 for the batch as a whole).';

create function tasker._lock_outcomes(p_outcomes tasker._outcome[]) returns void
language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp as $function$
declare
  v_step_uuids uuid[];
  v_template_ids integer[];
  v_numbers integer[];
begin
  select array_agg(s.step_uuid), array_agg(s.template_id), array_agg(tasker._number_of(s.step_uuid)) into v_step_uuids, v_template_ids, v_numbers
  from unnest(p_outcomes) o
  cross join lateral (select s.step_uuid, s.template_id from tasker.steps s where s.step_uuid = o.step_uuid) s
  where o.problem is null;
  -- The union of the steps and their dependents, in one ordered walk.
  perform s.step_uuid
  from (
    select u.step_uuid from unnest(v_step_uuids) u(step_uuid)
    union
    select tasker._step_uuid(tasker._task_of(v_step_uuids[e.ordinal]), e.dependent_number) from tasker._dependents(v_template_ids, v_numbers) e
    order by 1
  ) k
  cross join lateral (select s.step_uuid from tasker.steps s where s.step_uuid = k.step_uuid for no key update) s;
end
$function$;
comment on function tasker._lock_outcomes(tasker._outcome[]) is 'Locks the steps of the outcomes and their dependents in key order.';

create function tasker._judge(p_outcomes tasker._outcome[], p_now timestamptz) returns tasker._judgement[]
language plpgsql stable parallel unsafe set search_path = pg_catalog, pg_temp as $function$
begin
  return (
    select array_agg(row(j.ordinal, j.step_uuid, j.attempt, v.verdict,
      case v.verdict
        when 'invalid' then case when j.problem is not null then j.code when j.state is null then 'TK002' else 'TK010' end
        when 'lost' then 'TK011' when 'cancelled' then 'TK012' when 'accepted' then case when j.violation is not null then 'TK021' end end,
      case v.verdict
        when 'invalid' then coalesce(j.problem, case when j.state is null then 'step not found' else format('step is %s: its outcome can''t be changed by %s', j.state, j.status) end)
        when 'lost' then format('attempt %s owns the step now', j.row_attempt)
        when 'cancelled' then 'step was cancelled'
        when 'timed_out' then 'the attempt ran past its timeout and was failed'
        when 'accepted' then j.violation end,
      case when v.verdict = 'accepted' then tasker._settlement_of(j.step_uuid, j.template_id, j.attempt, j.attempts_used, j.msg_id, j.status, j.result,
        j.error, j.checkpoint, j.violation, j.is_retryable, p_now) end)::tasker._judgement order by j.ordinal)
    from (
      select o.ordinal, o.step_uuid, o.attempt, o.status, o.result, o.error, o.checkpoint, o.code, o.problem, s.state, s.template_id, s.attempts_used,
        s.msg_id, s.attempt as row_attempt, s.result as row_result, s.error as row_error, d.is_retryable,
        row_number() over (partition by o.step_uuid order by o.problem is not null, o.ordinal) as rank,
        case when o.problem is null and o.status = 'complete' and s.state = 'in_progress' and s.attempt = o.attempt and d.has_result_schema
          then tasker._result_problem(s.template_id, d.number, coalesce(o.result, 'null')::text) end as violation
      from unnest(p_outcomes) o
      left join lateral (
        select s.state, s.template_id, s.attempt, s.attempts_used, s.msg_id, s.result, s.error from tasker.steps s where s.step_uuid = o.step_uuid
      ) s on true
      -- Nothing is asked for a step that isn't there: a condition of the join alone would come after the call.
      left join lateral tasker._step_definitions(case when s.template_id is null then '{}' else array[s.template_id] end,
        case when s.template_id is null then '{}' else array[tasker._number_of(o.step_uuid)] end) d on true
    ) j
    cross join lateral (
      select case
        when j.problem is not null or j.state is null then 'invalid'
        when j.state = 'cancelled' then 'cancelled'
        when j.status in ('release', 'yield') and j.state = 'enqueued' and j.row_attempt = j.attempt + 1 then 'repeated'
        when j.row_attempt <> j.attempt then 'lost'
        when j.state = 'in_progress' then case when j.rank = 1 then 'accepted' else 'invalid' end
        when j.status = 'complete' and j.state = 'complete' and j.row_result is not distinct from coalesce(j.result, 'null') then 'repeated'
        when j.status = 'fail' and j.state in ('waiting_for_retry', 'error', 'enqueued') and j.row_error ->> 'message' = j.error ->> 'message' then 'repeated'
        when j.state in ('waiting_for_retry', 'error', 'enqueued') and j.row_error ->> 'type' = 'timed_out' then 'timed_out'
        else 'invalid'
      end as verdict
    ) v
  );
end
$function$;
comment on function tasker._judge(tasker._outcome[], timestamptz) is 'Gives each outcome its verdict under the step locks, and decides the change that an accepted one causes.';

create function tasker._settlement_of(
  p_step_uuid uuid, p_template_id integer, p_attempt integer, p_attempts_used integer, p_msg_id bigint, p_status text, p_result jsonb, p_error jsonb,
  p_checkpoint jsonb, p_violation text, p_is_retryable boolean, p_now timestamptz) returns tasker._settlement
language plpgsql stable parallel unsafe set search_path = pg_catalog, pg_temp as $function$
declare
  v_error jsonb;
begin
  if p_status = 'complete' and p_violation is null then
    return row(p_step_uuid, p_template_id, tasker._number_of(p_step_uuid), 'in_progress', 'complete', 'complete',
      array['enqueue_for_orchestration:enqueued_for_orchestration'], p_attempt, 0, 0, p_msg_id, null, coalesce(p_result, 'null'), null,
      p_checkpoint)::tasker._settlement;
  elsif p_status = 'complete' then
    v_error := jsonb_build_object('type', 'result_schema', 'code', 'TK021', 'retryable', false,
      'message', 'the result does not satisfy the step''s result_schema', 'detail', p_violation);
    return row(p_step_uuid, p_template_id, tasker._number_of(p_step_uuid), 'in_progress', 'error', 'fail',
      array['enqueue_for_orchestration:enqueued_for_orchestration'], p_attempt, 0, 0, p_msg_id, null, p_result, v_error, null)::tasker._settlement;
  elsif p_status = 'fail' then
    v_error := p_error || jsonb_build_object('type', coalesce(p_error ->> 'type', 'handler_error'),
      'retryable', p_is_retryable and coalesce((p_error ->> 'retryable')::boolean, true));
    return tasker._fail_settlement(p_step_uuid, p_template_id, p_attempt, p_attempts_used, p_msg_id, v_error,
      (p_error ->> 'retry_after_ms')::bigint, false, p_now);
  end if;
  -- Given back or yielded: no attempt is used up, and the number rises so that the old holder is fenced off.
  return row(p_step_uuid, p_template_id, tasker._number_of(p_step_uuid), 'in_progress', 'enqueued', p_status, null, p_attempt + 1, 1, 1, p_msg_id, p_now,
    null, null, p_checkpoint)::tasker._settlement;
end
$function$;
comment on function tasker._settlement_of(uuid, integer, integer, integer, bigint, text, jsonb, jsonb, jsonb, text, boolean, timestamptz) is
  'The change of a step that an accepted outcome causes.';

create function tasker._finish(
  p_worker_id text, p_outcomes tasker._outcome[], p_limit integer, p_lease interval, p_namespaces text[], p_handlers text[], p_now timestamptz,
  out judgements tasker._judgement[], out claimed uuid[])
language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp as $function$
begin
  claimed := '{}';
  if cardinality(p_outcomes) > 0 then
    perform tasker._lock_outcomes(p_outcomes);
    judgements := tasker._judge(p_outcomes, p_now);
    claimed := tasker._settle(
      array(select j.settlement from unnest(judgements) j where j.verdict = 'accepted'),
      p_now, p_worker_id, p_worker_id, p_limit, p_lease, p_namespaces, p_handlers);
  end if;
  if cardinality(claimed) < p_limit then
    claimed := claimed || tasker._claim(p_worker_id, p_namespaces, p_limit - cardinality(claimed), p_lease, p_handlers, p_now);
  end if;
end
$function$;
comment on function tasker._finish(text, tasker._outcome[], integer, interval, text[], text[], timestamptz) is
  'Records outcomes, hands ready steps over to the caller, and claims more up to p_limit.';

create function tasker.finish_steps(
  worker_id text, outcomes jsonb, claim_next integer default 0, lease interval default '30 seconds', namespaces text[] default null,
  handlers text[] default null, request_id uuid default null, out verdicts jsonb, out claimed tasker.claimed_step[])
language plpgsql volatile parallel unsafe security definer set search_path = pg_catalog, pg_temp as $function$
declare
  v_now timestamptz := tasker._now();
  v_finished record;
  v_answer tasker.finish_requests;
begin
  perform tasker._require_worker_id(finish_steps.worker_id);
  perform tasker._require_batch('claim_next', finish_steps.claim_next);
  perform tasker._require_lease(finish_steps.lease);
  if finish_steps.request_id is not null then
    v_answer := tasker._repeat_answer(finish_steps.request_id, finish_steps.worker_id);
    if v_answer.request_id is not null then
      verdicts := v_answer.verdicts;
      claimed := array(select c from tasker._claimed_rows(tasker._still_held(v_answer)) c);
      return;
    end if;
  end if;

  v_finished := tasker._finish(finish_steps.worker_id, tasker._read_outcomes(finish_steps.outcomes), finish_steps.claim_next, finish_steps.lease,
    coalesce(finish_steps.namespaces, (select w.namespaces from tasker.workers w where w.worker_id = finish_steps.worker_id), '{}'),
    finish_steps.handlers, v_now);
  select coalesce(jsonb_agg(jsonb_build_object('step_uuid', j.step_uuid, 'attempt', j.attempt, 'verdict', j.verdict, 'code', j.code, 'message', j.message)
    order by j.ordinal), '[]')
  into verdicts
  from unnest(v_finished.judgements) j;
  if cardinality(v_finished.claimed) > 0 then
    claimed := array(select c from tasker._claimed_rows(v_finished.claimed) c);
  else
    claimed := '{}';
  end if;
  if finish_steps.request_id is not null then
    insert into tasker.finish_requests (request_id, worker_id, verdicts, claimed_steps, claimed_attempts, answered_at)
    values (finish_steps.request_id, finish_steps.worker_id, finish_steps.verdicts, v_finished.claimed,
      array(select c.attempt from unnest(claimed) c), v_now)
    on conflict on constraint finish_requests_pkey do nothing;
    if not found then
      -- The caller gave up waiting and asked again while its first call was still under way.
      perform tasker._raise('40001', format('request %s was answered by a concurrent call', finish_steps.request_id), null,
        'Repeat the call: it gets the answer that was given.');
    end if;
  end if;
end
$function$;
comment on function tasker.finish_steps(text, jsonb, integer, interval, text[], text[], uuid) is
  'Records a batch of outcomes, decides what follows, and claims up to claim_next further steps for the caller, in one transaction. An outcome is '
  '{step_uuid, attempt, status: complete | fail | release | yield, result | error | checkpoint}; a bad one rejects itself. Without namespaces those that '
  'the worker registered count. A repeated request_id gives the '
  'first answer again, with the claims that are still held. Errors: 22023, TK022, TK030.';

create function tasker._repeat_answer(p_request_id uuid, p_worker_id text) returns tasker.finish_requests
language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp as $function$
declare
  v_answer tasker.finish_requests;
begin
  select f.* into v_answer from tasker.finish_requests f where f.request_id = p_request_id;
  if v_answer.request_id is not null and v_answer.worker_id <> p_worker_id then
    perform tasker._raise('22023', format('request_id %s was used by another worker', p_request_id), null, 'Make a new UUID for each call.');
  end if;
  return v_answer;
end
$function$;
comment on function tasker._repeat_answer(uuid, text) is 'The answer given to a request_id before, if any (22023 when another worker used it).';

create function tasker._still_held(p_answer tasker.finish_requests) returns uuid[]
language plpgsql stable parallel unsafe set search_path = pg_catalog, pg_temp as $function$
begin
  return (
    select coalesce(array_agg(c.step_uuid order by c.ordinal), '{}')
    from unnest(p_answer.claimed_steps, p_answer.claimed_attempts) with ordinality c(step_uuid, attempt, ordinal)
    cross join lateral (select s.state, s.attempt from tasker.steps s where s.step_uuid = c.step_uuid) s
    where s.state = 'in_progress' and s.attempt = c.attempt
  );
end
$function$;
comment on function tasker._still_held(tasker.finish_requests) is 'The steps of an earlier answer whose claims still stand.';

create function tasker._finish_one(p_outcome tasker._outcome) returns void
language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp as $function$
declare
  v_judgement tasker._judgement;
begin
  v_judgement := (tasker._finish(tasker._actor(), array[p_outcome], 0, null, '{}', null, tasker._now())).judgements[1];
  case
    when v_judgement.verdict in ('accepted', 'repeated') then
      return;
    when v_judgement.verdict = 'lost' then
      perform tasker._raise('TK011', format('lease lost: %s', v_judgement.message), format('The call named attempt %s.', p_outcome.attempt),
        'Drop the outcome; another worker runs the step.');
    when v_judgement.verdict = 'cancelled' then
      perform tasker._raise('TK012', 'step was cancelled', null, 'Drop the outcome.');
    when v_judgement.verdict = 'timed_out' then
      perform tasker._raise('TK011', 'lease lost: the attempt ran past its timeout and was failed', null, 'Drop the outcome.');
    when v_judgement.code = 'TK002' then
      perform tasker._raise('TK002', format('step %s not found', p_outcome.step_uuid));
    when v_judgement.code = 'TK010' then
      perform tasker._raise('TK010', v_judgement.message, null, 'tasker.step_history shows how the step came to this state.');
    else
      perform tasker._raise(v_judgement.code, v_judgement.message);
  end case;
end
$function$;
comment on function tasker._finish_one(tasker._outcome) is 'Records one outcome and raises what its verdict says.';

create function tasker.complete_step(step_uuid uuid, attempt integer, result jsonb) returns void
language plpgsql volatile parallel unsafe security definer set search_path = pg_catalog, pg_temp as $function$
begin
  perform tasker._finish_one((tasker._read_outcomes(jsonb_build_array(jsonb_build_object(
    'step_uuid', complete_step.step_uuid, 'attempt', complete_step.attempt, 'status', 'complete', 'result', complete_step.result))))[1]);
end
$function$;
comment on function tasker.complete_step(uuid, integer, jsonb) is
  'Completes a claimed step with its result; attempt is the one it was claimed with. Errors: TK002, TK010, TK011, TK012, TK022, 22023.';

create function tasker.fail_step(step_uuid uuid, attempt integer, error jsonb, retryable boolean default true, retry_after interval default null) returns void
language plpgsql volatile parallel unsafe security definer set search_path = pg_catalog, pg_temp as $function$
begin
  perform tasker._finish_one((tasker._read_outcomes(jsonb_build_array(jsonb_build_object(
    'step_uuid', fail_step.step_uuid, 'attempt', fail_step.attempt, 'status', 'fail',
    'error', case jsonb_typeof(fail_step.error)
      when 'object' then fail_step.error || jsonb_strip_nulls(jsonb_build_object('retryable', fail_step.retryable,
        'retry_after_ms', ceil(extract(epoch from fail_step.retry_after) * 1000)::bigint))
      else fail_step.error end))))[1]);
end
$function$;
comment on function tasker.fail_step(uuid, integer, jsonb, boolean, interval) is
  'Fails a claimed attempt with an error {message, type, detail}; retry_after replaces the computed delay, at most a day. '
  'Errors: TK002, TK010, TK011, TK012, TK022, 22023.';
