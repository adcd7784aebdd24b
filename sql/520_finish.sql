-- Finishing, as workers call it: the batch, repeated calls, one step at a time. Not here: verdicts and what follows from them (engine/finish.rs).

create function tasker._require_outcomes(p_outcomes jsonb) returns void
language plpgsql stable parallel unsafe set search_path = pg_catalog, pg_temp as $function$
begin
  if jsonb_typeof(p_outcomes) is distinct from 'array' then
    perform tasker._raise('22023', format('outcomes must be a JSON array, not %s', coalesce(jsonb_typeof(p_outcomes), 'null')), null,
      'Give a list of {"step_uuid", "attempt", "status", "result" | "error" | "checkpoint"}.');
  end if;
  perform tasker._require_batch('the number of outcomes', jsonb_array_length(p_outcomes));
end
$function$;
comment on function tasker._require_outcomes(jsonb) is 'Refuses what is no list of outcomes (22023), or is too long a one (TK022).';

create function tasker.finish_steps(
  worker_id text, outcomes jsonb, claim_next integer default 0, lease interval default '30 seconds', namespaces text[] default null,
  handlers text[] default null, request_id uuid default null, out verdicts jsonb, out claimed tasker.claimed_step[])
language plpgsql volatile parallel unsafe security definer set search_path = pg_catalog, pg_temp as $function$
declare
  v_finished tasker._finished;
begin
  -- The checks say themselves what is wrong; a call that is well asks none of them.
  if not coalesce(length(finish_steps.worker_id) between 1 and 200 and finish_steps.claim_next between 0 and tasker._max_batch()
    and finish_steps.lease between interval '1 second' and interval '1 day' and jsonb_typeof(finish_steps.outcomes) = 'array', false) then
    perform tasker._require_call(finish_steps.worker_id, 'claim_next', finish_steps.claim_next, finish_steps.lease);
    perform tasker._require_outcomes(finish_steps.outcomes);
  elsif jsonb_array_length(finish_steps.outcomes) > tasker._max_batch() then
    perform tasker._require_outcomes(finish_steps.outcomes);
  end if;
  v_finished := tasker._finish(finish_steps.worker_id, finish_steps.outcomes, finish_steps.claim_next, finish_steps.lease, finish_steps.namespaces,
    finish_steps.handlers, finish_steps.request_id, tasker._now());
  if v_finished.refused is not null then
    perform tasker._raise_refused(v_finished.refused);
  end if;
  verdicts := v_finished.verdicts;
  claimed := coalesce(v_finished.claimed, '{}');
end
$function$;
comment on function tasker.finish_steps(text, jsonb, integer, interval, text[], text[], uuid) is
  'Records a batch of outcomes, decides what follows, and claims up to claim_next further steps for the caller, in one transaction. An outcome is '
  '{step_uuid, attempt, status: complete | fail | release | yield, result | error | checkpoint}; a bad one rejects itself. Without namespaces those that '
  'the worker registered count. A repeated request_id gives the '
  'first answer again, with the claims that are still held. Errors: 22023, TK022, TK030.';

create function tasker._finish_one(p_outcome jsonb) returns void
language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp as $function$
declare
  v_finished tasker._finished := tasker._finish(tasker._actor(), jsonb_build_array(p_outcome), 0, interval '0', '{}', null, null, tasker._now());
  v_verdict jsonb := v_finished.verdicts -> 0;
begin
  perform tasker._raise_refused(v_finished.refused);
  case
    when v_verdict ->> 'verdict' in ('accepted', 'repeated') then
      return;
    when v_verdict ->> 'verdict' = 'lost' then
      perform tasker._raise('TK011', format('lease lost: %s', v_verdict ->> 'message'), format('The call named attempt %s.', p_outcome ->> 'attempt'),
        'Drop the outcome; another worker runs the step.');
    when v_verdict ->> 'verdict' = 'cancelled' then
      perform tasker._raise('TK012', 'step was cancelled', null, 'Drop the outcome.');
    when v_verdict ->> 'verdict' = 'timed_out' then
      perform tasker._raise('TK011', 'lease lost: the attempt ran past its timeout and was failed', null, 'Drop the outcome.');
    when v_verdict ->> 'code' = 'TK002' then
      perform tasker._raise('TK002', format('step %s not found', p_outcome ->> 'step_uuid'));
    when v_verdict ->> 'code' = 'TK010' then
      perform tasker._raise('TK010', v_verdict ->> 'message', null, 'tasker.step_history shows how the step came to this state.');
    else
      perform tasker._raise(v_verdict ->> 'code', v_verdict ->> 'message');
  end case;
end
$function$;
comment on function tasker._finish_one(jsonb) is 'Records one outcome and raises what its verdict says.';

create function tasker.complete_step(step_uuid uuid, attempt integer, result jsonb) returns void
language plpgsql volatile parallel unsafe security definer set search_path = pg_catalog, pg_temp as $function$
begin
  perform tasker._finish_one(jsonb_build_object(
    'step_uuid', complete_step.step_uuid, 'attempt', complete_step.attempt, 'status', 'complete', 'result', complete_step.result));
end
$function$;
comment on function tasker.complete_step(uuid, integer, jsonb) is
  'Completes a claimed step with its result; attempt is the one it was claimed with. Errors: TK002, TK010, TK011, TK012, TK022, 22023.';

create function tasker.fail_step(step_uuid uuid, attempt integer, error jsonb, retryable boolean default true, retry_after interval default null) returns void
language plpgsql volatile parallel unsafe security definer set search_path = pg_catalog, pg_temp as $function$
begin
  perform tasker._finish_one(jsonb_build_object(
    'step_uuid', fail_step.step_uuid, 'attempt', fail_step.attempt, 'status', 'fail',
    'error', case jsonb_typeof(fail_step.error)
      when 'object' then fail_step.error || jsonb_strip_nulls(jsonb_build_object('retryable', fail_step.retryable,
        'retry_after_ms', ceil(extract(epoch from fail_step.retry_after) * 1000)::bigint))
      else fail_step.error end));
end
$function$;
comment on function tasker.fail_step(uuid, integer, jsonb, boolean, interval) is
  'Fails a claimed attempt with an error {message, type, detail}; retry_after replaces the computed delay, at most a day. '
  'Errors: TK002, TK010, TK011, TK012, TK022, 22023.';
