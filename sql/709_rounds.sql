-- Rounds of maintenance: which jobs there are, which are due, and how they are run: each in a transaction of its own, or all in the caller's. Not here: what a job does (050 to 708).
--
-- A further job is a line in each of _maintenance_jobs, _is_due and _run_job.

create function tasker._maintenance_jobs() returns text[]
language sql immutable parallel safe set search_path = pg_catalog, pg_temp as $function$
  -- In their order. find_late_work comes before the four that do what it found. drop_partitions may hold the strongest locks until its transaction ends.
  select array['make_missing_queues', 'make_partitions', 'run_schedules', 'start_due_tasks', 'start_held_tasks', 'fire_timers', 'evaluate', 'end_sql_runs', 'find_late_work', 'end_leases', 'time_out_attempts',
    'time_out_tasks', 'cancel_instances', 'cancel_children', 'settle_parents', 'start_children', 'send_lost_messages', 'bulk_jobs', 'note_event_floor', 'forget_answers', 'forget_workers', 'forget_domain_events', 'fold_statistics', 'roll_up_statistics', 'drop_partitions',
    'end_round']
$function$;
comment on function tasker._maintenance_jobs() is 'The jobs of maintenance, in the order in which a round does them.';

create function tasker._is_due(p_job text, p_now timestamptz) returns boolean
language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp as $function$
declare
  v_today constant date := (p_now at time zone 'UTC')::date;
begin
  case p_job
    when 'make_missing_queues' then
      return exists (
        select from tasker.namespaces n
        where to_regclass(format('pgmq.%I', 'q_' || n.queue_name)) is null
          or n.events_queue_name is not null and to_regclass('pgmq.' || quote_ident('q_' || n.events_queue_name)) is null);
    when 'make_partitions' then
      return exists (
        select from (values (v_today), (v_today + 1)) d(day)
        where not exists (select from tasker._partition_ranges() r where r.starts_on <= d.day and r.ends_on > d.day));
    when 'run_schedules' then
      return exists (select from tasker.schedules s where s.next_at <= p_now and s.paused_at is null);
    when 'start_due_tasks' then
      return exists (select from tasker.scheduled_tasks s where s.run_at <= p_now);
    when 'start_held_tasks' then
      return exists (
        select from tasker.namespaces n
        cross join lateral (select from tasker.held_tasks h where h.namespace_id = n.namespace_id limit 1) h
        where n.paused_at is null);
    when 'fire_timers' then
      return exists (select from tasker.timers t where t.due_at <= p_now);
    when 'evaluate' then
      return exists (select from tasker.resting_outcomes r);
    when 'end_sql_runs' then
      return exists (select from tasker._sql_runs_at_end(p_now));
    when 'find_late_work' then
      return true;
    when 'end_leases', 'time_out_attempts', 'time_out_tasks', 'cancel_instances', 'cancel_children', 'settle_parents', 'start_children', 'send_lost_messages' then
      return exists (select from tasker.maintenance_found f where f.job = p_job);
    when 'bulk_jobs' then
      return exists (select from tasker.bulk_jobs j where j.finished_at is null);
    when 'note_event_floor' then
      return tasker._event_floor_is_due();
    when 'forget_answers' then
      return exists (select from tasker.finish_requests f where f.answered_at < p_now - interval '1 hour');
    when 'forget_workers' then
      return exists (select from tasker.workers w where greatest(w.last_seen_at, w.retired_at) < p_now - tasker._workers_are_forgotten_after());
    when 'forget_domain_events' then
      return exists (select from tasker.domain_events d where d.event_uuid < tasker._first_task_uuid(tasker._domain_events_before(p_now)));
    when 'fold_statistics' then
      return tasker._statistics_are_due(p_now);
    when 'roll_up_statistics' then
      return exists (select from tasker.statistics_cursors c where c.rolled_up_at is distinct from date_trunc('hour', p_now, 'UTC'));
    when 'drop_partitions' then
      return exists (select from tasker._due_range(p_now));
    when 'end_round' then
      -- Health asks once a minute; noting each round would be a write each second of an idle database.
      return not exists (select from tasker.maintenance_cursors c where c.walked_at > p_now - interval '10 seconds');
  end case;
end
$function$;
comment on function tasker._is_due(text, timestamptz) is 'Whether a job of maintenance has something to do. It reads a row or two, and locks and writes nothing.';

create function tasker._run_job(p_job text, p_batch integer, p_now timestamptz, out processed bigint, out more boolean)
language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp as $function$
declare
  v_actor text := tasker._actor();
begin
  case p_job
    when 'make_missing_queues' then processed := tasker._make_missing_queues(); more := false;
    when 'make_partitions' then processed := tasker._make_partitions_ahead(p_now); more := false;
    when 'run_schedules' then select r.processed, r.more into _run_job.processed, _run_job.more from tasker._run_schedules(p_batch, p_now) r;
    when 'start_due_tasks' then processed := tasker._start_due_tasks(p_batch, p_now, v_actor); more := processed = p_batch;
    when 'start_held_tasks' then processed := tasker._start_held_tasks(p_batch, p_now, v_actor); more := processed = p_batch;
    when 'fire_timers' then processed := tasker._fire_due_timers(p_batch, p_now, v_actor); more := processed = p_batch;
    when 'evaluate' then processed := tasker._evaluate_resting(p_batch, p_now, v_actor); more := processed = p_batch;
    when 'end_sql_runs' then processed := tasker._end_sql_runs(p_now, v_actor); more := false;
    when 'find_late_work' then processed := tasker._find_late_work(p_batch, p_now); more := false;
    when 'end_leases' then processed := tasker._end_found_leases(p_batch, p_now, v_actor); more := processed > 0;
    when 'time_out_attempts' then processed := tasker._time_out_attempts(tasker._take_found(p_job, p_batch), p_now, v_actor); more := processed > 0;
    when 'time_out_tasks' then
      processed := tasker._time_out_tasks(tasker._take_found(p_job, least(p_batch, 100)), least(p_batch, 100), p_now, v_actor);
      more := processed > 0;
    when 'cancel_instances' then processed := tasker._cancel_found_instances(p_now, v_actor); more := processed > 0;
    when 'cancel_children', 'settle_parents', 'start_children' then processed := tasker._tend_children(p_job, p_now, v_actor); more := processed > 0;
    when 'send_lost_messages' then processed := tasker._send_lost_messages(tasker._take_found(p_job, p_batch), p_now); more := processed > 0;
    when 'bulk_jobs' then processed := tasker._run_bulk_jobs(p_batch, p_now); more := processed > 0;
    when 'note_event_floor' then perform tasker._note_event_floor(); processed := 0; more := false;
    when 'forget_answers' then processed := tasker._forget_answers(p_batch, p_now); more := processed = p_batch;
    when 'forget_workers' then processed := tasker._forget_workers(p_batch, p_now); more := processed = p_batch;
    when 'forget_domain_events' then processed := tasker._forget_domain_events(p_batch, p_now); more := processed >= p_batch;
    when 'fold_statistics' then select f.processed, f.more into _run_job.processed, _run_job.more from tasker._fold_statistics(p_batch, p_now) f;
    when 'roll_up_statistics' then processed := tasker._roll_up_statistics(p_now); more := false;
    when 'drop_partitions' then processed := tasker._drop_partitions(p_now); more := processed > 0;
    when 'end_round' then perform tasker._end_round(p_now); processed := 0; more := false;
  end case;
end
$function$;
comment on function tasker._run_job(text, integer, timestamptz) is 'Does one bounded batch of a job, and says how much that was and whether there is more to do at once.';

create function tasker._end_round(p_now timestamptz) returns void
language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp as $function$
begin
  insert into tasker.maintenance_cursors as c (job, after, walked_at) values ('live_steps', '00000000-0000-0000-0000-000000000000', p_now)
  on conflict on constraint maintenance_cursors_pkey do update set walked_at = excluded.walked_at;
end
$function$;
comment on function tasker._end_round(timestamptz) is 'Notes for health that a round of maintenance has ended: all that was due has been done.';

create function tasker._is_alone() returns boolean
language sql volatile parallel unsafe set search_path = pg_catalog, pg_temp as $function$
  select pg_try_advisory_xact_lock(1414742859, 1)
$function$;
comment on function tasker._is_alone() is 'Whether no other session is at maintenance in this database; none will be until this transaction ends.';

create function tasker._require_maintenance_batch(p_batch integer) returns void
language plpgsql stable parallel unsafe set search_path = pg_catalog, pg_temp as $function$
begin
  if p_batch is null or p_batch not between 1 and 100000 then
    perform tasker._raise('22023', format('batch must be between 1 and 100000, not %s', coalesce(p_batch::text, 'null')));
  end if;
end
$function$;
comment on function tasker._require_maintenance_batch(integer) is 'Refuses a size of a batch that is out of bounds (22023).';

create function tasker.list_due_jobs() returns table (job text)
language plpgsql volatile parallel unsafe security definer set search_path = pg_catalog, pg_temp as $function$
declare
  v_now timestamptz := tasker._now();
begin
  foreach job in array tasker._maintenance_jobs() loop
    begin
      continue when not tasker._is_due(job, v_now);
    exception
      -- Then it is due: running it tells what is wrong.
      when others then
        null;
    end;
    return next;
  end loop;
end
$function$;
comment on function tasker.list_due_jobs() is
  'Lists the jobs of maintenance that have something to do, in the order to run them in, each by a run_maintenance_job in a transaction of its own; leave end_round out when one of the others failed.';

create function tasker.run_maintenance_job(job text, batch integer default 1000) returns table (processed bigint, more boolean)
language plpgsql volatile parallel unsafe security definer set search_path = pg_catalog, pg_temp as $function$
begin
  perform tasker._require_maintenance_batch(run_maintenance_job.batch);
  if coalesce(run_maintenance_job.job, '') <> all (tasker._maintenance_jobs()) then
    perform tasker._raise('22023', format('unknown job: %s', coalesce(run_maintenance_job.job, 'null')), null,
      format('Jobs are %s.', array_to_string(tasker._maintenance_jobs(), ', ')));
  end if;
  if tasker._is_alone() then
    return query select r.processed, r.more from tasker._run_job(run_maintenance_job.job, run_maintenance_job.batch, tasker._now()) r;
  end if;
end
$function$;
comment on function tasker.run_maintenance_job(text, integer) is
  'Does one bounded batch of one job of maintenance, and says how much it did and whether there is more. No rows: another session is at maintenance. Errors: 22023, 40001, 55000, TK030.';

create function tasker.run_maintenance(batch integer default 1000) returns table (job text, processed bigint, more boolean)
language plpgsql volatile parallel unsafe security definer set search_path = pg_catalog, pg_temp as $function$
declare
  v_now timestamptz := tasker._now();
  v_leases_ended boolean := false;
begin
  perform tasker._require_maintenance_batch(run_maintenance.batch);
  if not tasker._is_alone() then
    return;
  end if;
  foreach job in array tasker._maintenance_jobs() loop
    if job = 'time_out_attempts' and v_leases_ended then
      -- Both lock tasks, in key order: one transaction does one of the two.
      processed := 0;
      more := true;
    else
      select r.processed, r.more into run_maintenance.processed, run_maintenance.more from tasker._run_job(job, batch, v_now) r;
    end if;
    v_leases_ended := v_leases_ended or (job = 'end_leases' and processed > 0);
    return next;
  end loop;
end
$function$;
comment on function tasker.run_maintenance(integer) is
  'Does one bounded batch of every job of maintenance, all in this transaction, and says for each how much it did and whether there is more: for a look by hand. What runs every second calls '
  'list_due_jobs and run_maintenance_job, each in a transaction of its own. No rows: another session is at it. Errors: 22023, 40001, 40P01 when a job waits for a call that waits for what an earlier '
  'job has locked, 55000, TK030.';

create function tasker._maintenance_health(p_now timestamptz, out ok boolean, out detail text)
language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp as $function$
declare
  -- A round is noted every ten seconds; a background worker's pause is at most a third of it, a server's after failures half.
  v_longest constant interval := interval '1 minute';
  v_ended_at timestamptz;
  v_since timestamptz;
  v_due text;
begin
  select max(c.walked_at) into v_ended_at from tasker.maintenance_cursors c;
  -- Before the first round there was something to maintain since the first namespace.
  v_since := coalesce(v_ended_at, (select min(n.created_at) from tasker.namespaces n), p_now);
  ok := p_now - v_since < v_longest;
  detail := case
    when v_ended_at is null then 'no round of maintenance has ended yet'
    else format('the last round of maintenance ended at %s', v_ended_at)
  end;
  if not ok then
    select string_agg(d.job, ', ') into v_due from tasker.list_due_jobs() d where d.job not in ('find_late_work', 'end_round');
    detail := detail || coalesce(format(' and these jobs are due: %s', v_due), '') ||
      ': name this database in tasker.databases of a server with shared_preload_libraries = ''tasker'', or run tasker-server; where one runs, its log says what fails';
  end if;
end
$function$;
comment on function tasker._maintenance_health(timestamptz) is 'Whether a round of maintenance has ended within the last minute, and when the last one did.';
