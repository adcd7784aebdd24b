-- Bulk jobs: one action on every task that a filter finds. Maintenance does a bounded number of tasks a round and remembers how far it has come. Not here: the actions themselves.

create function tasker._filtered_tasks(p_filter jsonb, p_after uuid, p_limit integer) returns uuid[]
language plpgsql stable parallel unsafe set search_path = pg_catalog, pg_temp as $function$
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
comment on function tasker._filtered_tasks(jsonb, uuid, integer) is
  'The next tasks of a filter, newest first, in the order of list_tasks; only those that the caller may operate on.';

create function tasker._require_filter(p_filter jsonb) returns void
language plpgsql stable parallel unsafe set search_path = pg_catalog, pg_temp as $function$
declare
  v_known constant jsonb := '{"namespace": "string", "template_name": "string", "states": "array", "tags": "array", "context_contains": "object",
    "created_after": "string", "created_before": "string"}';
  v_bad record;
begin
  if jsonb_typeof(p_filter) is distinct from 'object' then
    perform tasker._raise('22023', format('filter must be a JSON object, not %s', coalesce(jsonb_typeof(p_filter), 'null')), null,
      'Give {} for all tasks.');
  end if;
  select f.key, v_known ->> f.key as wanted into v_bad
  from jsonb_each(p_filter) f
  where jsonb_typeof(f.value) is distinct from v_known ->> f.key
  order by f.key
  limit 1;
  if found then
    perform tasker._raise('22023',
      case when v_bad.wanted is null then format('filter has an unknown field: %s', v_bad.key) else format('filter.%s must be of type %s', v_bad.key, v_bad.wanted) end,
      null, format('The fields are %s.', (select string_agg(k.key, ', ' order by k.key) from jsonb_object_keys(v_known) k(key))));
  end if;
end
$function$;
comment on function tasker._require_filter(jsonb) is 'Refuses a filter with unknown fields or wrong types (22023).';

create function tasker._require_bulk_action(p_action text) returns void
language plpgsql stable parallel unsafe set search_path = pg_catalog, pg_temp as $function$
begin
  if coalesce(p_action, '') <> all (array['cancel', 'pause', 'resume', 'rerun', 'reset_failed', 'resolve_failed']) then
    perform tasker._raise('22023', format('unknown action: %s', coalesce(p_action, 'null')), null,
      'Actions are cancel, pause, resume, rerun, reset_failed and resolve_failed.');
  end if;
end
$function$;
comment on function tasker._require_bulk_action(text) is 'Refuses what is no action of a bulk job (22023).';

create function tasker.apply_to_tasks(filter jsonb, action text, dry_run boolean default true, reason text default null)
returns table (job_uuid uuid, matched integer, more boolean, sample uuid[])
language plpgsql volatile parallel unsafe security definer set search_path = pg_catalog, pg_temp as $function$
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
comment on function tasker.apply_to_tasks(jsonb, text, boolean, text) is
  'Does cancel, pause, resume, rerun, reset_failed or resolve_failed to every task that a filter finds ({namespace, template_name, states, tags, context_contains, created_after, '
  'created_before}). A dry run only shows what it finds, up to 1000 and the ten newest; otherwise maintenance does it in batches as a job that survives restarts. '
  'Errors: 40001, 22023 and other codes of class 22 for times that can''t be read.';

create function tasker._failed_steps(p_task_uuid uuid) returns setof uuid
language sql stable parallel unsafe set search_path = pg_catalog, pg_temp as $function$
  select s.step_uuid
  from tasker.steps s
  where s.step_uuid > p_task_uuid and s.step_uuid <= tasker._last_step_uuid(p_task_uuid) and s.state = 'error'
  order by s.step_uuid
$function$;
comment on function tasker._failed_steps(uuid) is 'The steps of a task that failed for good.';

create function tasker._apply_to_task(p_task_uuid uuid, p_action text, p_reason text) returns boolean
language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp as $function$
declare
  v_step_uuid uuid;
  v_changed boolean := false;
begin
  case p_action
    when 'cancel' then return tasker.cancel_task(p_task_uuid, p_reason);
    when 'pause' then perform tasker.pause_task(p_task_uuid, p_reason);
    when 'resume' then perform tasker.resume_task(p_task_uuid);
    when 'rerun' then perform tasker.rerun_task(p_task_uuid);
    else
      for v_step_uuid in select f.* from tasker._failed_steps(p_task_uuid) f loop
        if p_action = 'reset_failed' then
          perform tasker.reset_step(v_step_uuid, p_reason);
        else
          perform tasker.resolve_step(v_step_uuid, p_reason);
        end if;
        v_changed := true;
      end loop;
      return v_changed;
  end case;
  return true;
end
$function$;
comment on function tasker._apply_to_task(uuid, text, text) is 'Does the action of a bulk job to one task; false when there was nothing to do.';

create function tasker._run_bulk_jobs(p_limit integer, p_now timestamptz) returns bigint
language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp as $function$
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
comment on function tasker._run_bulk_jobs(integer, timestamptz) is 'Goes on with the oldest bulk job, at most 100 tasks, and says how many; 0 when there is none.';

create function tasker._may_see_job(p_filter jsonb, p_created_by text) returns boolean
language plpgsql stable parallel unsafe set search_path = pg_catalog, pg_temp as $function$
begin
  -- Callers of a server share its role.
  return tasker._may(coalesce(p_filter ->> 'namespace', '*'), 'operate') or (p_created_by = tasker._actor() and not tasker._is_limited());
end
$function$;
comment on function tasker._may_see_job(jsonb, text) is 'Whether the caller made a bulk job, or may operate in the namespace of its filter; in all of them when it names none.';

create function tasker.list_bulk_jobs(after uuid default null, "limit" integer default 50) returns setof tasker.bulk_job
language plpgsql stable parallel unsafe security definer set search_path = pg_catalog, pg_temp as $function$
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
comment on function tasker.list_bulk_jobs(uuid, integer) is
  'Lists bulk jobs, newest first, with how many tasks each has seen, changed and been refused by; after is the last job_uuid of the page before. Errors: 22023.';

create function tasker.cancel_bulk_job(job_uuid uuid) returns boolean
language plpgsql volatile parallel unsafe security definer set search_path = pg_catalog, pg_temp as $function$
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
comment on function tasker.cancel_bulk_job(uuid) is 'Ends a bulk job where it is; what it did stays done. True when this call ended it. Errors: TK004.';
