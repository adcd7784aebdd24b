-- What steps wait for inside the engine: signals, as they are sent and listed, and timers, as they come due.
-- Not here: how such a step begins to wait and how it ends (engine/waits.rs).

create function tasker._waits_in_engine(p_state text, p_lease_expires_at timestamptz) returns boolean
language sql immutable parallel safe set search_path = pg_catalog, pg_temp as $function$
  -- A worker's attempt has a lease.
  select p_state = 'in_progress' and p_lease_expires_at is null
$function$;
comment on function tasker._waits_in_engine(text, timestamptz) is 'Whether a step is in progress without a worker: the engine waits for something.';

create function tasker._receive_signal(p_task_uuid uuid, p_name text, p_numbers integer[], p_payload jsonb, p_now timestamptz, p_actor text) returns boolean
language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp as $function$
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
comment on function tasker._receive_signal(uuid, text, integer[], jsonb, timestamptz, text) is
  'Takes a signal in for the steps of a task that have these numbers; false when it is there already, null when the task has started meanwhile (TK010, TK012).';

create function tasker.send_signal(task_uuid uuid, name text, payload jsonb default null) returns boolean
language plpgsql volatile parallel unsafe security definer set search_path = pg_catalog, pg_temp as $function$
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
comment on function tasker.send_signal(uuid, text, jsonb) is
  'Sends a signal to a task, once: the steps that wait for its name complete with the payload, and one that comes early is kept for them. True when this call sent it, false when it '
  'had been sent before, whose payload stays. Errors: TK001, TK004 for a name that no step of the task''s template waits for, TK010 for a task that has ended, TK012 for a '
  'cancelled one, TK021, TK022, 40001.';

create function tasker.list_signals(task_uuid uuid)
returns table (name text, step_names text[], waiting boolean, payload jsonb, sent_at timestamptz, sent_by text)
language plpgsql stable parallel unsafe security definer set search_path = pg_catalog, pg_temp as $function$
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
comment on function tasker.list_signals(uuid) is
  'Lists the signals that a task''s steps wait for at some time, in the order of the graph: the steps, whether one of them waits now, and what was sent when and by whom. Errors: TK001, 40001.';

create function tasker._fire_due_timers(p_limit integer, p_now timestamptz, p_actor text) returns bigint
language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp as $function$
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
comment on function tasker._fire_due_timers(integer, timestamptz, text) is
  'Ends the waiting of steps whose time has come: timers complete, signals that have not come fail their step or give it their default; says how many.';

create function tasker._timers_health(p_now timestamptz, out ok boolean, out detail text)
language plpgsql stable parallel unsafe set search_path = pg_catalog, pg_temp as $function$
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
comment on function tasker._timers_health(timestamptz) is 'Whether timers fire in time, and when the next one is due.';
