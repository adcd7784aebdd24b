-- How errors are raised: the one helper, and the checks that several functions share.
-- Codes of class TK can only be raised from SQL; Rust never catches and rewraps them.

create function tasker._raise(p_code text, p_message text, p_detail text default null, p_hint text default null) returns void
language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp as $function$
begin
  -- An option of raise can be left out, but not be null.
  if p_detail is null and p_hint is null then
    raise exception using errcode = p_code, message = p_message;
  elsif p_detail is null then
    raise exception using errcode = p_code, message = p_message, hint = p_hint;
  elsif p_hint is null then
    raise exception using errcode = p_code, message = p_message, detail = p_detail;
  end if;
  raise exception using errcode = p_code, message = p_message, detail = p_detail, hint = p_hint;
end
$function$;
comment on function tasker._raise(text, text, text, text) is 'Raises an error with a SQLSTATE of our own, a detail and a hint.';

create function tasker._raise_refused(p_refused text[]) returns void
language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp as $function$
begin
  if p_refused is not null then
    perform tasker._raise(p_refused[1], p_refused[2], p_refused[3], p_refused[4]);
  end if;
end
$function$;
comment on function tasker._raise_refused(text[]) is
  'Raises how a function of the library refused a call: its code, message, detail and hint. The library can''t raise codes of class TK itself.';

create function tasker._require_worker_id(p_worker_id text) returns void
language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp as $function$
begin
  if p_worker_id is null or length(p_worker_id) not between 1 and 200 then
    perform tasker._raise('22023', 'worker_id must have 1 to 200 characters', null,
      'Give each worker process a name of its own, for example host, process id and a random part.');
  end if;
end
$function$;
comment on function tasker._require_worker_id(text) is 'Refuses a missing, empty or overlong worker_id (22023).';

create function tasker._require_lease(p_lease interval) returns void
language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp as $function$
begin
  if p_lease is null or p_lease < interval '1 second' or p_lease > interval '1 day' then
    perform tasker._raise('22023', format('lease must be between 1 second and 1 day, not %s', coalesce(p_lease::text, 'null')), null,
      'A lease of 30 seconds, extended by heartbeats, suits most workers.');
  end if;
end
$function$;
comment on function tasker._require_lease(interval) is 'Refuses a lease outside 1 second to 1 day (22023).';

create function tasker._require_batch(p_what text, p_count integer) returns void
language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp as $function$
begin
  if p_count is null or p_count < 0 then
    perform tasker._raise('22023', format('%s must be zero or more, not %s', p_what, coalesce(p_count::text, 'null')));
  elsif p_count > tasker._max_batch() then
    perform tasker._raise('TK022', format('%s is %s, more than a batch may hold (%s)', p_what, p_count, tasker._max_batch()), null,
      'Split the call into several, or raise tasker.max_batch.');
  end if;
end
$function$;
comment on function tasker._require_batch(text, integer) is 'Refuses a batch below zero (22023) or above tasker.max_batch (TK022).';

create function tasker._require_call(p_worker_id text, p_what text, p_count integer, p_lease interval) returns void
language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp as $function$
begin
  perform tasker._require_worker_id(p_worker_id);
  perform tasker._require_batch(p_what, p_count);
  perform tasker._require_lease(p_lease);
end
$function$;
comment on function tasker._require_call(text, text, integer, interval) is 'Refuses what a claiming or finishing worker may not ask for (22023, TK022).';

create function tasker._require_limit(p_limit integer, p_next text) returns void
language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp as $function$
begin
  if p_limit is null or p_limit not between 1 and 1000 then
    perform tasker._raise('22023', format('limit must be between 1 and 1000, not %s', coalesce(p_limit::text, 'null')), null,
      format('Ask for the next rows with %s of the rows before.', p_next));
  end if;
end
$function$;
comment on function tasker._require_limit(integer, text) is 'Refuses a page of no rows or of more than 1000 (22023), with a hint how to get the next one.';
