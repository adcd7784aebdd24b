-- Dead letters, as operators work through them: lists, one with its snapshot, opening by hand, resolving, counts.
-- Not here: the dead letters that the engine opens itself (400).

create type tasker.dead_letter as (
  dead_letter_uuid uuid,
  task_uuid uuid,
  namespace text,
  template_name text,
  template_version text,
  priority integer,
  task_state text,
  reason text,
  resolution text,
  opened_at timestamptz,
  opened_by text,
  resolved_at timestamptz,
  resolved_by text,
  note text,
  error jsonb,
  step_uuid uuid,
  step_name text
);
comment on type tasker.dead_letter is
  'A dead letter as the lists show it: task_state is the task''s state now, error what the task failed of. With step_uuid it is of one instance, and error what that failed of.';

create type tasker.investigation as (
  dead_letter_uuid uuid,
  task_uuid uuid,
  namespace text,
  template_name text,
  template_version text,
  priority integer,
  task_state text,
  reason text,
  resolution text,
  opened_at timestamptz,
  opened_by text,
  resolved_at timestamptz,
  resolved_by text,
  note text,
  error jsonb,
  snapshot jsonb,
  step_uuid uuid,
  step_name text
);
comment on type tasker.investigation is
  'A dead letter with its snapshot: the task, its steps (of an instance''s only that) and the end of their history as they were when it was opened.';

create function tasker._dead_letter_rows(p_dead_letter_uuids uuid[], p_task_uuids uuid[]) returns setof tasker.dead_letter
language plpgsql stable parallel unsafe set search_path = pg_catalog, pg_temp as $function$
begin
  return query
    select d.dead_letter_uuid, d.task_uuid, n.name, x.name, x.version, t.priority::integer, t.state, d.reason, d.resolution, d.opened_at, d.opened_by,
      d.resolved_at, d.resolved_by, d.note, case when d.step_uuid is null then t.error else s.error end, d.step_uuid, s.name
    from unnest(p_dead_letter_uuids, p_task_uuids) with ordinality u(dead_letter_uuid, task_uuid, ordinal)
    -- With the task's key the planner looks into one partition only.
    cross join lateral (
      select d.* from tasker.dead_letters d where d.task_uuid = u.task_uuid and d.dead_letter_uuid = u.dead_letter_uuid
    ) d
    cross join lateral (select t.* from tasker.tasks t where t.task_uuid = u.task_uuid) t
    cross join lateral (select x.name, x.version from tasker.templates x where x.template_id = t.template_id) x
    cross join lateral (select n.name from tasker.namespaces n where n.namespace_id = t.namespace_id) n
    left join lateral (
      select s.error, e.name
      from tasker.steps s
      cross join lateral tasker._step_definitions(array[s.template_id], array[tasker._number_of(s.step_uuid)]) e
      where s.step_uuid = d.step_uuid
    ) s on true
    order by u.ordinal;
end
$function$;
comment on function tasker._dead_letter_rows(uuid[], uuid[]) is 'The rows of dead letters by their keys and their tasks'' keys, in the order given.';

create function tasker._require_dead_letter(p_dead_letter_uuid uuid) returns uuid
language plpgsql stable parallel unsafe set search_path = pg_catalog, pg_temp as $function$
declare
  v_task_uuid uuid;
begin
  select d.task_uuid into v_task_uuid from tasker.dead_letters d where d.dead_letter_uuid = p_dead_letter_uuid;
  if v_task_uuid is null or not tasker._may(tasker._checked_namespace(v_task_uuid), 'read') then
    perform tasker._raise('TK004', format('dead letter %s not found', coalesce(p_dead_letter_uuid::text, 'null')), null,
      'tasker.list_dead_letters() shows the dead letters there are.');
  end if;
  return v_task_uuid;
end
$function$;
comment on function tasker._require_dead_letter(uuid) is 'The task of a dead letter; refuses the key of none, and of one that the caller may not read (TK004).';

create function tasker._require_known(p_what text, p_value text, p_known text[]) returns void
language plpgsql stable parallel unsafe set search_path = pg_catalog, pg_temp as $function$
begin
  if p_value is null or p_value <> all (p_known) then
    perform tasker._raise('22023', format('%s can''t be %s', p_what, coalesce(p_value, 'null')), null, 'Known: ' || array_to_string(p_known, ', ') || '.');
  end if;
end
$function$;
comment on function tasker._require_known(text, text, text[]) is 'Refuses a value that is none of a list (22023).';

create function tasker.list_dead_letters(
  namespace text default null, reason text default null, resolution text default null, after uuid default null, "limit" integer default 50)
returns setof tasker.dead_letter
language plpgsql stable parallel unsafe security definer set search_path = pg_catalog, pg_temp as $function$
declare
  v_namespace_ids integer[] := tasker._shown_namespaces(list_dead_letters.namespace);
  v_after_task uuid;
  v_after_priority integer;
  v_dead_letter_uuids uuid[];
  v_task_uuids uuid[];
begin
  perform tasker._require_limit(list_dead_letters."limit", 'after => the last dead_letter_uuid');
  if list_dead_letters.reason is not null then
    perform tasker._require_known('reason', list_dead_letters.reason, array['max_retries_exceeded', 'permanent_failure', 'staleness_timeout',
      'worker_unavailable', 'dependency_cycle_detected', 'manual_dlq']);
  end if;
  if list_dead_letters.resolution is not null then
    perform tasker._require_known('resolution', list_dead_letters.resolution, array['pending', 'manually_resolved', 'permanently_failed', 'cancelled']);
  end if;
  if list_dead_letters.after is not null then
    v_after_task := tasker._require_dead_letter(list_dead_letters.after);
  end if;

  if list_dead_letters.resolution = 'pending' then
    -- The order of investigation. The partial index on open entries finds them all; neither an entry's key nor its task's priority ever changes, so pages don't shift.
    select t.priority into v_after_priority from tasker.tasks t where t.task_uuid = v_after_task;
    select array_agg(d.dead_letter_uuid order by d.ordinal), array_agg(d.task_uuid order by d.ordinal)
    into v_dead_letter_uuids, v_task_uuids
    from (
      select d.dead_letter_uuid, d.task_uuid, row_number() over (order by t.priority desc, d.dead_letter_uuid) as ordinal
      from tasker.dead_letters d
      cross join lateral (select t.priority, t.namespace_id from tasker.tasks t where t.task_uuid = d.task_uuid) t
      where d.resolution = 'pending'
        and (v_after_priority is null or t.priority < v_after_priority or (t.priority = v_after_priority and d.dead_letter_uuid > list_dead_letters.after))
        and (list_dead_letters.reason is null or d.reason = list_dead_letters.reason)
        and (v_namespace_ids is null or t.namespace_id = any (v_namespace_ids))
      order by t.priority desc, d.dead_letter_uuid
      limit list_dead_letters."limit"
    ) d;
  else
    -- Newest first, by the index on dead_letter_uuid, which begins with the time of opening.
    select array_agg(d.dead_letter_uuid order by d.dead_letter_uuid desc), array_agg(d.task_uuid order by d.dead_letter_uuid desc)
    into v_dead_letter_uuids, v_task_uuids
    from (
      select d.dead_letter_uuid, d.task_uuid
      from tasker.dead_letters d
      cross join lateral (select t.namespace_id from tasker.tasks t where t.task_uuid = d.task_uuid) t
      where d.dead_letter_uuid < coalesce(list_dead_letters.after, 'ffffffff-ffff-ffff-ffff-ffffffffffff')
        and (list_dead_letters.resolution is null or d.resolution = list_dead_letters.resolution)
        and (list_dead_letters.reason is null or d.reason = list_dead_letters.reason)
        and (v_namespace_ids is null or t.namespace_id = any (v_namespace_ids))
      order by d.dead_letter_uuid desc
      limit list_dead_letters."limit"
    ) d;
  end if;
  return query select * from tasker._dead_letter_rows(v_dead_letter_uuids, v_task_uuids);
end
$function$;
comment on function tasker.list_dead_letters(text, text, text, uuid, integer) is
  'Lists dead letters; every filter given must hold. With resolution pending in the order of investigation: highest priority first, then longest open; otherwise newest '
  'first. after is the last dead_letter_uuid of the page before, limit 1 to 1000. Errors: TK004 for an unknown after, 22023.';

create function tasker.get_dead_letter(dead_letter_uuid uuid default null, task_uuid uuid default null)
returns setof tasker.investigation
language plpgsql stable parallel unsafe security definer rows 1 set search_path = pg_catalog, pg_temp as $function$
declare
  v_dead_letter_uuid uuid := get_dead_letter.dead_letter_uuid;
  v_task_uuid uuid := get_dead_letter.task_uuid;
begin
  if (v_dead_letter_uuid is null) = (v_task_uuid is null) then
    perform tasker._raise('22023', 'give either dead_letter_uuid or task_uuid', null, 'A task''s key finds its open dead letter, or else its newest.');
  elsif v_dead_letter_uuid is not null then
    v_task_uuid := tasker._require_dead_letter(v_dead_letter_uuid);
  else
    perform tasker._require_task(v_task_uuid);
    v_dead_letter_uuid := coalesce(tasker._open_dead_letter_of(v_task_uuid), (
      select d.dead_letter_uuid
      from tasker.dead_letters d
      where d.task_uuid = v_task_uuid and coalesce(d.step_uuid, d.task_uuid) = v_task_uuid
      order by d.dead_letter_uuid desc
      limit 1));
    if v_dead_letter_uuid is null then
      perform tasker._raise('TK004', format('task %s has no dead letter', v_task_uuid), null,
        'tasker.list_dead_letters() shows the dead letters there are, tasker.explain_task() those of a task''s instances.');
    end if;
  end if;
  return query
    select r.dead_letter_uuid, r.task_uuid, r.namespace, r.template_name, r.template_version, r.priority, r.task_state, r.reason, r.resolution, r.opened_at,
      r.opened_by, r.resolved_at, r.resolved_by, r.note, r.error, d.snapshot, r.step_uuid, r.step_name
    from tasker._dead_letter_rows(array[v_dead_letter_uuid], array[v_task_uuid]) r
    cross join lateral (
      select d.snapshot from tasker.dead_letters d where d.task_uuid = r.task_uuid and d.dead_letter_uuid = r.dead_letter_uuid
    ) d;
end
$function$;
comment on function tasker.get_dead_letter(uuid, uuid) is
  'Gives one dead letter with its snapshot, by its own key, or by its task''s: the task''s own that is open, or else the newest. Errors: TK001, TK004, 22023, 40001.';

create function tasker.open_dead_letter(task_uuid uuid, reason text) returns uuid
language plpgsql volatile parallel unsafe security definer set search_path = pg_catalog, pg_temp as $function$
declare
  v_open uuid;
begin
  if coalesce(length(open_dead_letter.reason), 0) not between 1 and 2000 then
    perform tasker._raise('22023', 'reason must have 1 to 2000 characters', null, 'Say what is to be looked into.');
  end if;
  -- Steps before the task, as everybody does: the snapshot shows one moment.
  perform tasker._lock_to_operate(open_dead_letter.task_uuid);
  v_open := tasker._open_dead_letter_of(open_dead_letter.task_uuid);
  if v_open is not null then
    perform tasker._raise('23505', format('task %s has an open dead letter already', open_dead_letter.task_uuid), format('It is %s.', v_open),
      'Resolve it first, with tasker.resolve_dead_letter().');
  end if;
  perform tasker._open_dead_letters(array[open_dead_letter.task_uuid], tasker._now(), tasker._author(), 'manual_dlq', open_dead_letter.reason);
  return tasker._open_dead_letter_of(open_dead_letter.task_uuid);
end
$function$;
comment on function tasker.open_dead_letter(uuid, text) is
  'Opens a dead letter for a task by hand (manual_dlq), with the reason as its note and a snapshot of the task; the task itself goes on. Errors: TK001, 22023, 23505 when one is open.';

create function tasker.resolve_dead_letter(dead_letter_uuid uuid, resolution text, note text default null) returns setof tasker.dead_letter
language plpgsql volatile parallel unsafe security definer rows 1 set search_path = pg_catalog, pg_temp as $function$
declare
  v_now timestamptz := tasker._now();
  v_actor text := tasker._author();
  v_task_uuid uuid := tasker._require_dead_letter(resolve_dead_letter.dead_letter_uuid);
  v_resolution text;
  v_step_uuid uuid;
  v_state text;
begin
  perform tasker._require_known('resolution', resolve_dead_letter.resolution, array['manually_resolved', 'permanently_failed', 'cancelled']);
  perform tasker._lock_to_operate(v_task_uuid);
  select d.resolution, d.step_uuid into v_resolution, v_step_uuid
  from tasker.dead_letters d
  where d.task_uuid = v_task_uuid and d.dead_letter_uuid = resolve_dead_letter.dead_letter_uuid;
  if v_resolution is distinct from 'pending' then
    perform tasker._raise('TK010', format('dead letter %s is resolved already: %s', resolve_dead_letter.dead_letter_uuid, v_resolution), null,
      'tasker.get_dead_letter() shows by whom and when.');
  end if;

  update tasker.dead_letters d
  set resolution = resolve_dead_letter.resolution, resolved_at = v_now, resolved_by = v_actor, note = nullif(concat_ws(E'\n', d.note, resolve_dead_letter.note), '')
  where d.task_uuid = v_task_uuid and d.dead_letter_uuid = resolve_dead_letter.dead_letter_uuid;
  select t.state into v_state from tasker.tasks t where t.task_uuid = v_task_uuid;
  if v_step_uuid is not null then
    if resolve_dead_letter.resolution = 'manually_resolved' then
      perform tasker._settle_failed_step(v_step_uuid, v_state, resolve_dead_letter.note, v_now, v_actor);
    end if;
  elsif resolve_dead_letter.resolution = 'cancelled' and not tasker._is_terminal(v_state) then
    perform tasker.cancel_task(v_task_uuid, resolve_dead_letter.note);
  elsif resolve_dead_letter.resolution <> 'cancelled' then
    perform tasker._settle_failed_task(v_task_uuid, v_state, case resolve_dead_letter.resolution when 'manually_resolved' then 'manual_resolution' else 'give_up' end,
      jsonb_strip_nulls(jsonb_build_object('dead_letter_uuid', resolve_dead_letter.dead_letter_uuid, 'note', resolve_dead_letter.note)), v_now, v_actor);
  end if;
  return query select * from tasker._dead_letter_rows(array[resolve_dead_letter.dead_letter_uuid], array[v_task_uuid]);
end
$function$;
comment on function tasker.resolve_dead_letter(uuid, text, text) is
  'Closes an open dead letter, with a note, and gives it. manually_resolved settles a task that is blocked_by_failures or in error (resolved_manually); permanently_failed ends a '
  'blocked one in error; cancelled cancels one that has not ended. A task in another state stays as it is. An instance''s leaves the task alone: manually_resolved settles the instance while its task has '
  'not ended, and that is all that it changes. Errors: TK001, TK004, TK010 when it is resolved already, 22023.';

create function tasker._settle_failed_task(p_task_uuid uuid, p_state text, p_event text, p_metadata jsonb, p_now timestamptz, p_actor text) returns void
language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp as $function$
declare
  v_to text := tasker._next_task_state(p_state, p_event);
begin
  -- Nothing of such a task runs or waits: only its own row changes.
  if v_to is null then
    return;
  end if;
  update tasker.tasks t set state = v_to, finished_at = coalesce(t.finished_at, p_now) where t.task_uuid = p_task_uuid;
  insert into tasker.task_transitions (task_uuid, path, at, actor, metadata)
  values (p_task_uuid, tasker._task_path(p_state, array[p_event]), p_now, p_actor, p_metadata);
  perform tasker._announce_events();
  perform tasker._note_ends(array[p_task_uuid]);
end
$function$;
comment on function tasker._settle_failed_task(uuid, text, text, jsonb, timestamptz, text) is
  'Moves a failed task, which is locked, by an operator''s event (manual_resolution, give_up), where its state allows it.';

create function tasker._settle_failed_step(p_step_uuid uuid, p_task_state text, p_reason text, p_now timestamptz, p_actor text) returns void
language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp as $function$
begin
  -- A task that failed of another step would be revived by it, to fail of the same again.
  if tasker._is_terminal(p_task_state) or not exists (select from tasker.steps s where s.step_uuid = p_step_uuid and s.state = 'error') then
    return;
  end if;
  perform tasker._raise_refused(tasker._repair_step(p_step_uuid, 'resolve_manually', null, p_reason, p_now, p_actor));
end
$function$;
comment on function tasker._settle_failed_step(uuid, text, text, timestamptz, text) is
  'Settles a step that failed for good, if its task, whose state is given and which is locked, has not ended.';

create function tasker.dead_letter_stats()
returns table (namespace text, reason text, resolution text, dead_letters bigint, oldest_opened_at timestamptz, newest_opened_at timestamptz)
language plpgsql stable parallel unsafe security definer set search_path = pg_catalog, pg_temp as $function$
begin
  return query
    select n.name, d.reason, d.resolution, count(*), min(d.opened_at), max(d.opened_at)
    from tasker.dead_letters d
    cross join lateral (select t.namespace_id from tasker.tasks t where t.task_uuid = d.task_uuid) t
    join tasker.namespaces n on n.namespace_id = t.namespace_id
    where tasker._may(n.name, 'read')
    group by n.name, d.reason, d.resolution
    order by n.name, d.reason, d.resolution;
end
$function$;
comment on function tasker.dead_letter_stats() is
  'Counts dead letters, those of tasks and those of instances, by namespace, reason and resolution; of the open ones (pending) oldest_opened_at says how long the longest has waited. Reads every dead letter.';
