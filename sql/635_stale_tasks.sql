-- Tasks that are over a limit of their template's lifecycle, for an operator to see. Not here: the clocks, and what is done about them (705).

create type tasker.stale_task as (
  task_uuid uuid,
  namespace text,
  template_name text,
  template_version text,
  state text,
  clock text,
  limit_seconds integer,
  since timestamptz,
  stale_since timestamptz,
  staleness_action text
);
comment on type tasker.stale_task is 'A task that is over a limit of its template''s lifecycle: clock names the limit, since is when that clock began, stale_since when it ran out.';

create function tasker.stale_tasks(namespace text default null, after uuid default null, "limit" integer default 50)
returns setof tasker.stale_task
language plpgsql stable parallel unsafe security definer set search_path = pg_catalog, pg_temp as $function$
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
comment on function tasker.stale_tasks(text, uuid, integer) is
  'Lists tasks that are over a limit of their template''s lifecycle, oldest first, with the clock that ran out first; after is the last task_uuid of the page before, limit 1 to '
  '1000. A plain read: staleness_action says what maintenance does. Errors: 22023.';
