-- Steps whose handler is a function of the database: which templates may have them, and how they are run: by sessions that claim one, commit that, and in the next transaction call the
-- function and finish the step, so that what the function did and the completion are one. Not here: the call itself, as the role that registered the template (the library's sql_call.rs), and who
-- makes these sessions (maintenance/runner.rs, the server).

create function tasker._sql_role_problem(p_role name) returns text
language plpgsql stable parallel unsafe set search_path = pg_catalog, pg_temp as $function$
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

create function tasker._sql_function_problem(p_callable text, p_role name, out code text, out message text)
language plpgsql stable parallel unsafe set search_path = pg_catalog, pg_temp as $function$
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
comment on function tasker._sql_function_problem(text, name) is 'The code and the words of what keeps a function from being the handler of a step of a role''s templates; null when nothing does.';

create function tasker._sql_step_findings(p_definition jsonb, p_compiled jsonb, p_role name) returns table (severity text, code text, path text, message text)
language plpgsql stable parallel unsafe set search_path = pg_catalog, pg_temp as $function$
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
comment on function tasker._sql_step_findings(jsonb, jsonb, name) is 'What is wrong with a compiled template''s SQL functions, were it registered by a role: what only the database can tell.';

create function tasker._template_findings(p_source text, p_is_json boolean, p_environment text) returns table (severity text, code text, path text, message text)
language plpgsql stable parallel unsafe set search_path = pg_catalog, pg_temp as $function$
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
comment on function tasker._template_findings(text, boolean, text) is 'All that is to be said about a template, were its caller to register it; errors first.';

create function tasker._require_sql_steps(p_definition jsonb, p_compiled jsonb) returns boolean
language plpgsql stable parallel unsafe set search_path = pg_catalog, pg_temp as $function$
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
comment on function tasker._require_sql_steps(jsonb, jsonb) is 'Whether a compiled template has SQL functions; refuses it when its caller can''t register them (TK020).';

create function tasker._make_sql_index(p_queue_name text) returns void
language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp as $function$
begin
  -- Sessions that run SQL functions find their messages by it, however many others wait. Looked up first: making it locks the queue.
  if to_regclass(format('pgmq.%I', 'q_' || p_queue_name || '_sql_idx')) is null then
    execute format($index$create index if not exists %I on pgmq.%I (vt) where message ->> 'handler' like 'sql:%%'$index$, 'q_' || p_queue_name || '_sql_idx', 'q_' || p_queue_name);
  end if;
end
$function$;
comment on function tasker._make_sql_index(text) is 'Makes the index of a queue by which messages of SQL functions are found, where it is missing.';

create function tasker._has_sql_steps(p_namespace_id integer, p_queue_name text) returns void
language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp as $function$
begin
  insert into tasker.sql_namespaces (namespace_id) values (p_namespace_id) on conflict on constraint sql_namespaces_pkey do nothing;
  perform tasker._make_sql_index(p_queue_name);
end
$function$;
comment on function tasker._has_sql_steps(integer, text) is 'Notes that a namespace has a template with SQL functions, so that they are looked for.';

create function tasker._run_function(p_schema text, p_function text, p_context jsonb, p_inputs jsonb, p_dependency_results jsonb) returns jsonb
language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp as $function$
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
comment on function tasker._run_function(text, text, jsonb, jsonb, jsonb) is
  'Calls the function of a step, and gives its result or its error; an error takes back what the function did. It is run as the role that registered the template, to whom nothing of ours is granted.';

create function tasker._finish_sql_step(p_run tasker.sql_runs, p_outcome jsonb) returns jsonb
language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp as $function$
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
comment on function tasker._finish_sql_step(tasker.sql_runs, jsonb) is 'Records the outcome of a claimed SQL function and gives the verdict.';

create function tasker._call_registered(p_step tasker.claimed_step, p_registered_by name, p_timeout_seconds integer) returns jsonb
language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp as $function$
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
comment on function tasker._call_registered(tasker.claimed_step, name, integer) is 'Calls the SQL function of a claimed step as the role that registered its template, and gives its result or its error.';

create function tasker._take_back() returns void
language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp as $function$
begin
  perform tasker._raise('TK011', 'what the function of the step did is taken back');
end
$function$;
comment on function tasker._take_back() is 'Ends the savepoint around the function of a step with all that it did (TK011, for its caller to catch).';

create function tasker._run_claimed(p_run tasker.sql_runs) returns text
language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp as $function$
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
comment on function tasker._run_claimed(tasker.sql_runs) is
  'Calls the function of a claimed step and finishes it, both or neither; an error, a result that can''t be taken, and an attempt that is no longer the current one take back what the function did. '
  'Says what became of the attempt: complete, failed, lost, cancelled, timed_out.';

create function tasker._claim_sql_step() returns boolean
language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp as $function$
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

create function tasker.run_sql_step(claim_next boolean default true) returns table (step_uuid uuid, outcome text, more boolean)
language plpgsql volatile parallel unsafe security definer set search_path = pg_catalog, pg_temp as $function$
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
comment on function tasker.run_sql_step(boolean) is
  'Runs the step with a SQL function that this session has claimed, if it has one, and says what became of the attempt; then claims the next, unless claim_next is false, if one is ready, which more says. Each call is to be '
  'a transaction of its own. Releases the session''s advisory locks. Errors: 22023, 55000, TK030.';

create function tasker.needs_sql_runners() returns boolean
language sql stable parallel unsafe security definer set search_path = pg_catalog, pg_temp as $function$
  select exists (select from tasker.sql_namespaces)
    and not exists (select from pg_stat_activity a where a.datname = current_database() and a.backend_type = 'tasker sql runner')
$function$;
comment on function tasker.needs_sql_runners() is
  'Whether there are templates with SQL functions and none of the extension''s own processes runs them: then others are to call run_sql_step, each in a session of its own.';

create function tasker._sql_runs_at_end(p_now timestamptz) returns table (step_uuid uuid, pid integer, is_alive boolean, is_current boolean, is_over boolean)
language plpgsql stable parallel unsafe set search_path = pg_catalog, pg_temp as $function$
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
comment on function tasker._sql_runs_at_end(timestamptz) is
  'SQL functions under way whose session is gone, whose step is no longer in that attempt (it was cancelled, or timed out), or whose lease is over though their time was shorter.';

create function tasker._end_sql_runs(p_now timestamptz, p_actor text) returns bigint
language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp as $function$
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
comment on function tasker._end_sql_runs(timestamptz, text) is
  'Ends attempts of SQL functions whose session is gone, so that they are tried again at once; ends functions whose step is no longer theirs, and sessions that don''t let themselves be ended. Says how many.';
