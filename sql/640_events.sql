-- The feed of events: the history rows of tasks and steps, read on from a cursor. There is no second row for it, and nothing is written when it is read.
-- Not here: one task's or step's history as a whole (620), wake-ups of workers.
--
-- The number of a history row (seq) is drawn before its transaction commits, so a later number can be seen before an earlier one. What is settled is told by the row's
-- transaction id (xmin): all transactions before the horizon of a snapshot have ended, and nothing more comes of them. The feed goes in rounds: a round gives the rows of the
-- transactions from one horizon to the next, in the order of seq; whatever was not settled comes in a later one. Why so, and what it rests on: docs/decisions/0014.

create function tasker._incarnation() returns text
language sql stable parallel unsafe set search_path = pg_catalog, pg_temp as $function$
  select left(md5(format('%s %s %s', (pg_control_system()).system_identifier,
    case when pg_is_in_recovery() then to_hex((pg_control_checkpoint()).timeline_id) else ltrim(left(pg_walfile_name(pg_current_wal_lsn()), 8), '0') end,
    'tasker.transitions_seq'::regclass::oid)), 8)
$function$;
comment on function tasker._incarnation() is
  'Names the cluster, its timeline and this install of the extension: where it changes, transaction ids say nothing about history rows written before.';

create function tasker._drawn_seq() returns bigint
language sql volatile parallel unsafe set search_path = pg_catalog, pg_temp as $function$
  -- A standby sees the sequence up to 32 numbers ahead, as it is in WAL.
  select greatest(s.last_value - 33, 0) from tasker.transitions_seq s
$function$;
comment on function tasker._drawn_seq() is 'A number that has certainly been drawn for a history row, near the last one.';

create function tasker._note_event_floor() returns void
language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp as $function$
declare
  v_incarnation text := tasker._incarnation();
  v_horizon bigint := pg_snapshot_xmin(pg_current_snapshot())::text::bigint;
  -- In this order: a transaction from v_xid on began after v_seq was drawn.
  v_seq bigint := tasker._drawn_seq();
  v_xid bigint := tasker._next_xid();
begin
  insert into tasker.event_floors as f (incarnation, settled_seq, settled_xid, noted_seq, noted_xid)
  values (v_incarnation, 0, 0, v_seq, v_xid)
  on conflict on constraint event_floors_pkey do update
    set settled_seq = case when f.noted_xid <= v_horizon then f.noted_seq else f.settled_seq end,
      settled_xid = case when f.noted_xid <= v_horizon then f.noted_xid else f.settled_xid end,
      noted_seq = case when f.noted_xid <= v_horizon then v_seq else f.noted_seq end,
      noted_xid = case when f.noted_xid <= v_horizon then v_xid else f.noted_xid end
    where f.noted_xid <= v_horizon and (f.noted_seq < v_seq or f.settled_seq < f.noted_seq);
  -- Those of other clusters and timelines say nothing here.
  delete from tasker.event_floors f where f.incarnation <> v_incarnation;
end
$function$;
comment on function tasker._note_event_floor() is
  'Notes a history row''s number and the next transaction id: transactions from that one on have greater numbers only. Keeps the last such pair whose transactions have all ended.';

create function tasker._event_floor_is_due() returns boolean
language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp as $function$
declare
  v_incarnation text := tasker._incarnation();
  v_horizon bigint := pg_snapshot_xmin(pg_current_snapshot())::text::bigint;
begin
  return not exists (select from tasker.event_floors f where f.incarnation = v_incarnation)
    or exists (
      select from tasker.event_floors f
      where f.incarnation <> v_incarnation
        or (f.noted_xid <= v_horizon and (f.noted_seq < tasker._drawn_seq() or f.settled_seq < f.noted_seq)));
end
$function$;
comment on function tasker._event_floor_is_due() is 'Whether _note_event_floor has something to write.';

create function tasker._best_floor(p_least bigint, p_horizon bigint) returns bigint
language sql stable parallel unsafe set search_path = pg_catalog, pg_temp as $function$
  select coalesce(max(f.seq), p_least)
  from (
    select p_least as seq
    union all
    select p.seq
    from tasker.event_floors e
    cross join lateral (values (e.settled_seq, e.settled_xid), (e.noted_seq, e.noted_xid)) p(seq, xid)
    where e.incarnation = tasker._incarnation() and p.xid <= p_horizon
  ) f
$function$;
comment on function tasker._best_floor(bigint, bigint) is 'The greatest known number that no row of a transaction from the horizon on is below; at least p_least.';

create function tasker._first_event_cursor(p_horizon bigint) returns tasker._event_cursor
language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp as $function$
declare
  v_cursor tasker._event_cursor;
begin
  v_cursor.from_xid := 0;
  v_cursor.to_xid := p_horizon;
  v_cursor.seq := 0;
  v_cursor.ordinal := 2147483647;
  v_cursor.passed_over := 9223372036854775807;
  v_cursor.floor := tasker._best_floor(0, p_horizon);
  v_cursor.noted_seq := tasker._drawn_seq();
  v_cursor.noted_xid := tasker._next_xid();
  return v_cursor;
end
$function$;
comment on function tasker._first_event_cursor(bigint) is 'The cursor before everything: its round has all that is settled before the horizon.';

create function tasker._next_event_round(p_cursor tasker._event_cursor, p_horizon bigint) returns tasker._event_cursor
language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp as $function$
declare
  v_cursor tasker._event_cursor := p_cursor;
begin
  v_cursor.from_xid := p_cursor.to_xid;
  v_cursor.to_xid := p_horizon;
  v_cursor.seq := least(p_cursor.floor, p_cursor.passed_over - 1);
  v_cursor.ordinal := 2147483647;
  v_cursor.passed_over := 9223372036854775807;
  v_cursor.floor := tasker._best_floor(v_cursor.seq, p_horizon);
  if p_cursor.noted_xid <= p_horizon then
    v_cursor.floor := greatest(v_cursor.floor, p_cursor.noted_seq);
    v_cursor.noted_seq := tasker._drawn_seq();
    v_cursor.noted_xid := tasker._next_xid();
  end if;
  return v_cursor;
end
$function$;
comment on function tasker._next_event_round(tasker._event_cursor, bigint) is 'The cursor at the beginning of the round after a cursor''s own, up to the horizon.';

create function tasker._event_cursor_text(p_cursor tasker._event_cursor, p_incarnation text) returns text
language sql immutable parallel safe set search_path = pg_catalog, pg_temp as $function$
  select format('1.%s.%s.%s.%s.%s.%s.%s.%s.%s', p_incarnation, p_cursor.from_xid, p_cursor.to_xid, p_cursor.seq, p_cursor.ordinal, p_cursor.passed_over,
    p_cursor.floor, p_cursor.noted_seq, p_cursor.noted_xid)
$function$;
comment on function tasker._event_cursor_text(tasker._event_cursor, text) is 'A cursor as its reader keeps it.';

create function tasker._read_event_cursor(p_text text, p_horizon bigint) returns tasker._event_cursor
language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp as $function$
declare
  v_fields text[] := string_to_array(p_text, '.');
  v_cursor tasker._event_cursor;
begin
  v_cursor := tasker._first_event_cursor(p_horizon);
  if p_text is null then
    return v_cursor;
  end if;
  if p_text !~ '^1\.[0-9a-f]{8}(\.[0-9]{1,19}){8}$' then
    perform tasker._raise('22023', 'after or until is no cursor of list_events', null, 'Give a cursor as it was returned; without one the feed begins with the oldest event.');
  end if;
  if v_fields[2] <> tasker._incarnation() then
    -- Restored, or another server took over: all that is here is settled. Begin where the reader is certain to have missed nothing.
    v_cursor.seq := least(v_fields[5]::bigint - 1, v_fields[7]::bigint - 1, v_fields[8]::bigint);
    return v_cursor;
  end if;
  return row(v_fields[3]::bigint, v_fields[4]::bigint, v_fields[5]::bigint, v_fields[6]::integer, v_fields[7]::bigint, v_fields[8]::bigint, v_fields[9]::bigint,
    v_fields[10]::bigint)::tasker._event_cursor;
end
$function$;
comment on function tasker._read_event_cursor(text, bigint) is 'Reads a cursor that was given out, also by another cluster; null is the one before everything (22023).';

create function tasker._stored_events(p_cursor tasker._event_cursor, p_to bigint, p_task_uuid uuid, p_is_by_key boolean, p_next_xid bigint)
returns setof tasker._stored_event
language plpgsql stable parallel unsafe set search_path = pg_catalog, pg_temp as $function$
declare
  v_from constant bigint := p_cursor.seq;
  v_from_xid constant bigint := p_cursor.from_xid;
begin
  -- xmin has the low 32 bits of a transaction id; the row's is the newest before the next one that has them.
  if p_is_by_key then
    -- A task's own rows, by the indexes of its histories; what is added to seq keeps the other index out.
    return query
      select h.step_uuid, h.seq, x.xid, h.at, h.attempt, h.path, h.actor, h.metadata
      from tasker.step_transitions h
      cross join lateral (select p_next_xid - ((p_next_xid - h.xmin::text::bigint) & 4294967295) as xid) x
      where h.step_uuid > p_task_uuid and h.step_uuid <= tasker._last_step_uuid(p_task_uuid) and h.seq + 0 between v_from and p_to and x.xid >= v_from_xid
      union all
      select h.task_uuid, h.seq, x.xid, h.at, null, h.path, h.actor, h.metadata
      from tasker.task_transitions h
      cross join lateral (select p_next_xid - ((p_next_xid - h.xmin::text::bigint) & 4294967295) as xid) x
      where h.task_uuid = p_task_uuid and h.seq + 0 between v_from and p_to and x.xid >= v_from_xid;
  else
    -- Everybody's, by the block-range indexes on seq.
    return query
      select h.step_uuid, h.seq, x.xid, h.at, h.attempt, h.path, h.actor, h.metadata
      from tasker.step_transitions h
      cross join lateral (select p_next_xid - ((p_next_xid - h.xmin::text::bigint) & 4294967295) as xid) x
      where h.seq >= v_from and h.seq <= p_to and x.xid >= v_from_xid
      union all
      select h.task_uuid, h.seq, x.xid, h.at, null, h.path, h.actor, h.metadata
      from tasker.task_transitions h
      cross join lateral (select p_next_xid - ((p_next_xid - h.xmin::text::bigint) & 4294967295) as xid) x
      where h.seq >= v_from and h.seq <= p_to and x.xid >= v_from_xid;
  end if;
end
$function$;
comment on function tasker._stored_events(tasker._event_cursor, bigint, uuid, boolean, bigint) is
  'The visible history rows from a cursor''s number to p_to, of one task by its key or of all, with their transaction ids; without those of rounds before.';

create function tasker._event_rows(
  p_stored tasker._stored_event[], p_cursor tasker._event_cursor, p_namespace_ids integer[], p_task_uuid uuid, p_limit integer, p_incarnation text)
returns setof tasker.event
language plpgsql stable parallel unsafe set search_path = pg_catalog, pg_temp as $function$
begin
  return query
    select tasker._event_cursor_text(row(p_cursor.from_xid, p_cursor.to_xid, r.seq, u.ordinal, p_cursor.passed_over, p_cursor.floor, p_cursor.noted_seq,
        p_cursor.noted_xid)::tasker._event_cursor, p_incarnation),
      r.at, r.task_uuid, case when r.number > 0 then r.key end, d.name, u.from_state, u.to_state, u.event, r.attempt, r.actor, r.metadata, n.name, x.name
    from (
      select s.*, k.task_uuid, tasker._number_of(s.key) as number, t.template_id
      from (
        select s.*
        from unnest(p_stored) s
        where s.xid < p_cursor.to_xid and (s.seq > p_cursor.seq or p_cursor.ordinal < 2147483647)
        order by s.seq
        -- Each row is one event at least; of the first, some may have been given. With a filter, more are looked at.
        limit case when p_namespace_ids is null and p_task_uuid is null then p_limit + 1 end
      ) s
      cross join lateral (select tasker._task_of(s.key) as task_uuid) k
      cross join lateral (select t.template_id, t.namespace_id from tasker.tasks t where t.task_uuid = k.task_uuid) t
      where (p_task_uuid is null or k.task_uuid = p_task_uuid) and (p_namespace_ids is null or t.namespace_id = any (p_namespace_ids))
      order by s.seq
      limit p_limit + 1
    ) r
    cross join lateral (select x.name, x.namespace_id from tasker.templates x where x.template_id = r.template_id) x
    cross join lateral (select n.name from tasker.namespaces n where n.namespace_id = x.namespace_id) n
    cross join lateral (
      select u.* from tasker._unroll_step(r.path) u where r.number > 0
      union all
      select u.* from tasker._unroll_task(r.path) u where r.number = 0
    ) u
    -- A task's own rows have no step, and ask for none.
    cross join lateral (select case when r.number > 0 then array[r.number] else '{}' end as numbers) q
    left join lateral tasker._step_definitions(array_fill(r.template_id, array[cardinality(q.numbers)]), q.numbers) d on true
    where r.seq > p_cursor.seq or u.ordinal > p_cursor.ordinal
    order by r.seq, u.ordinal
    limit p_limit;
end
$function$;
comment on function tasker._event_rows(tasker._stored_event[], tasker._event_cursor, integer[], uuid, integer, text) is
  'The events of a round''s history rows after the cursor, unrolled, in the order of seq, each with its own cursor.';

create function tasker.list_events(
  after text default null, namespace text default null, task_uuid uuid default null, "limit" integer default 100, until text default null)
returns setof tasker.event
language plpgsql stable parallel unsafe security definer set search_path = pg_catalog, pg_temp
set enable_seqscan = off set jit = off set plan_cache_mode = force_generic_plan as $function$
declare
  -- Everything is read in the one snapshot of the caller's statement.
  v_horizon constant bigint := pg_snapshot_xmin(pg_current_snapshot())::text::bigint;
  v_incarnation constant text := tasker._incarnation();
  v_last constant bigint := (select s.last_value from tasker.transitions_seq s);
  v_next_xid constant bigint := tasker._next_xid();
  v_end bigint := v_horizon;
  v_cursor tasker._event_cursor;
  v_namespace_ids constant integer[] := tasker._shown_namespaces(list_events.namespace);
  v_is_by_key boolean := false;
  v_width bigint := 2000;
  v_to bigint;
  v_stored tasker._stored_event[];
  v_left integer := list_events."limit";
  v_count integer;
begin
  perform tasker._require_limit(list_events."limit", 'after => the last cursor');
  if list_events.until is not null then
    v_end := least(v_horizon, (tasker._read_event_cursor(list_events.until, v_horizon)).to_xid);
  end if;
  v_cursor := tasker._read_event_cursor(list_events.after, v_end);
  if v_cursor.to_xid > v_horizon then
    -- A standby, or an old snapshot, that has not come as far as the reader.
    return;
  end if;
  -- The cursors given out say what was given out, so a round ends where the list does.
  v_cursor.to_xid := least(v_cursor.to_xid, v_end);
  if list_events.task_uuid is not null then
    perform tasker._require_task(list_events.task_uuid);
    -- A very large task is a large part of all history: it is read on by number like everything else.
    v_is_by_key := not exists (select from tasker.steps s where s.step_uuid = tasker._step_uuid(list_events.task_uuid, 2000));
  end if;

  loop
    -- A stretch of numbers, which has no more rows than numbers; wider while it is in vain.
    v_to := case when v_is_by_key then v_last else least(v_last, v_cursor.seq + v_width) end;
    v_stored := array(
      select s from tasker._stored_events(v_cursor, v_to, list_events.task_uuid, v_is_by_key, v_next_xid) s);
    v_cursor.passed_over := least(v_cursor.passed_over, (select min(s.seq) from unnest(v_stored) s where s.xid >= v_cursor.to_xid));
    return query
      select e.* from tasker._event_rows(v_stored, v_cursor, v_namespace_ids, list_events.task_uuid, v_left, v_incarnation) e;
    get diagnostics v_count = row_count;
    v_left := v_left - v_count;
    exit when v_left <= 0;
    if v_to < v_last then
      v_cursor.seq := v_to;
      v_cursor.ordinal := 2147483647;
      v_width := least(v_width * 4, 32000);
    else
      exit when v_cursor.to_xid >= v_end;
      v_cursor := tasker._next_event_round(v_cursor, v_end);
    end if;
  end loop;
end
$function$;
comment on function tasker.list_events(text, text, uuid, integer, text) is
  'Lists state changes of tasks and steps after a cursor, passed-through states included, of everything, a namespace or a task; limit 1 to 1000. A reader that goes on from '
  'the last cursor it got misses nothing and gets nothing twice, whatever commits meanwhile; a step''s events come in their order. An event is listed once no '
  'transaction that was writing when it came about is under way. With until, the cursor of a reader that has come to the end, it lists what that reader has had and no more. '
  'After a restore into another cluster a reader may get its last events again. Errors: TK001, 22023, 40001.';

create function tasker.end_of_events() returns text
language plpgsql stable parallel unsafe security definer set search_path = pg_catalog, pg_temp as $function$
declare
  v_horizon constant bigint := pg_snapshot_xmin(pg_current_snapshot())::text::bigint;
  v_cursor tasker._event_cursor := tasker._first_event_cursor(v_horizon);
begin
  v_cursor.seq := greatest((select s.last_value from tasker.transitions_seq s), v_cursor.floor);
  return tasker._event_cursor_text(v_cursor, tasker._incarnation());
end
$function$;
comment on function tasker.end_of_events() is
  'Gives the cursor after all that list_events lists now, for a reader that wants only what comes. A reader with a filter takes it before a call that lists nothing, and goes '
  'on from there after it: what others did is then not read again.';

create function tasker.await_events(awaits boolean default true) returns boolean
language plpgsql volatile parallel unsafe security definer set search_path = pg_catalog, pg_temp as $function$
declare
  v_awaits constant boolean := exists (
    select from pg_locks l
    join pg_database d on d.oid = l.database
    where l.pid = pg_backend_pid() and l.locktype = 'advisory' and l.classid = 1414742859 and l.objid = 3 and l.objsubid = 2 and l.mode = 'ShareLock'
      and d.datname = current_database());
begin
  if await_events.awaits then
    -- Who writes meanwhile without knowing of this session holds the lock in another mode until its transaction ends (event_notices.rs).
    return v_awaits or pg_try_advisory_lock_shared(1414742859, 3);
  end if;
  if v_awaits then
    perform pg_advisory_unlock_shared(1414742859, 3);
  end if;
  return false;
end
$function$;
comment on function tasker.await_events(boolean) is
  'Asks for a NOTIFY on tasker_events by each transaction that writes events, or no longer; gives whether this session has asked. It can''t while a transaction is under way that began to write '
  'unasked: try again later. A reader that has asked lists once more, then sleeps; when it is notified, it calls this with false, so that nobody pays for notices while it reads. Ends with the '
  'session.';

create function tasker._events_health() returns table (name text, ok boolean, detail text)
language sql stable parallel unsafe set search_path = pg_catalog, pg_temp as $function$
  select 'events', coalesce(o.age < interval '1 minute', true),
    case when o.age is null then 'listed up to now'
      else format('listed up to %s seconds ago: %s is still writing', round(extract(epoch from o.age)), o.writer) end
  from pg_stat_activity me
  left join lateral (
    select me.xact_start - w.since as age, w.writer
    from (
      select a.xact_start as since, format('the transaction of process %s', a.pid) as writer
      from pg_stat_activity a
      where a.backend_xid is not null and a.xact_start < me.xact_start
      union all
      select p.prepared, format('the prepared transaction %s', p.gid) from pg_prepared_xacts p where p.prepared < me.xact_start
    ) w
    order by w.since
    limit 1
  ) o on true
  where me.pid = pg_backend_pid()
$function$;
comment on function tasker._events_health() is
  'How far list_events is behind, by the oldest transaction that writes. Measured from the beginning of the caller''s own transaction: both are PostgreSQL''s times.';
