-- Callers from outside, whom a server serves with its own role: their keys, and the session that acts for one of them.
-- Not here: what a permission allows (the server asks for it), and how a session keeps its limit (the library's served_caller.rs).

create type tasker.api_key as (
  name text,
  permissions text[],
  namespaces text[],
  created_by text,
  created_at timestamptz,
  expires_at timestamptz,
  revoked_at timestamptz,
  revoked_by text,
  used_at timestamptz,
  problem text
);
comment on type tasker.api_key is
  'A key as list_api_keys shows it. namespaces is null where it reaches all; used_at is exact to the hour; problem is why it does not count: revoked or expired.';

create function tasker._require_unlimited(p_what text) returns void
language plpgsql stable parallel unsafe set search_path = pg_catalog, pg_temp as $function$
begin
  if tasker._is_limited() then
    perform tasker._raise('42501', format('a session that is limited to namespaces can not %s', p_what), null,
      'Use a key or a token that reaches all namespaces.');
  end if;
end
$function$;
comment on function tasker._require_unlimited(text) is 'Refuses what reaches beyond the namespaces of a session that is limited to some (42501).';

create function tasker._require_namespace_names(p_namespaces text[]) returns void
language plpgsql stable parallel unsafe set search_path = pg_catalog, pg_temp as $function$
declare
  v_bad text;
begin
  select coalesce(u.name, 'null') into v_bad from unnest(p_namespaces) u(name) where u.name is null or u.name !~ '^[a-z][a-z0-9_]{0,28}$' limit 1;
  if found then
    perform tasker._raise('22023', format('%s is not the name of a namespace', v_bad), null, 'Names have 1 to 29 characters: a lower-case letter, then a-z, 0-9 and _.');
  elsif cardinality(p_namespaces) > 100 then
    perform tasker._raise('22023', format('%s namespaces are more than 100', cardinality(p_namespaces)), null, 'Leave them out to reach all.');
  end if;
end
$function$;
comment on function tasker._require_namespace_names(text[]) is 'Refuses what can''t be the names of namespaces, or too many of them (22023). Whether they are there isn''t looked at.';

create function tasker._require_template_in_reach(p_definition jsonb, p_has_sql_steps boolean) returns void
language plpgsql stable parallel unsafe set search_path = pg_catalog, pg_temp as $function$
begin
  if not tasker._is_limited() then
    return;
  end if;
  -- A SQL function runs as the role, and a child task is started for the role, when nobody knows any more of the limit of this session.
  if p_has_sql_steps then
    perform tasker._require_unlimited('register a template with SQL steps');
  end if;
  perform tasker._require_may(c.namespace #>> '{}', 'create')
  from jsonb_path_query(p_definition, '$.steps[*].task.namespace') c(namespace)
  where jsonb_typeof(c.namespace) = 'string';
end
$function$;
comment on function tasker._require_template_in_reach(jsonb, boolean) is
  'Refuses, in a session that is limited to namespaces, a template whose tasks would act beyond them: by SQL functions, or child tasks elsewhere (42501).';

create function tasker.create_api_key(name text, permissions text[], namespaces text[] default null, expires_at timestamptz default null) returns text
language plpgsql volatile parallel unsafe security definer set search_path = pg_catalog, pg_temp as $function$
declare
  v_now constant timestamptz := tasker._now();
  v_key text;
begin
  perform tasker._require_unlimited('create a key');
  if create_api_key.name is null or create_api_key.name !~ '^[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}$' then
    perform tasker._raise('22023', format('%s is not the name of a key', coalesce(create_api_key.name, 'null')), null,
      'Names have 1 to 64 characters: letters, digits, _, and after the first one also . and -.');
  end if;
  perform tasker._raise_refused(tasker._permissions_problem(create_api_key.permissions));
  perform tasker._require_namespace_names(create_api_key.namespaces);
  if cardinality(create_api_key.namespaces) = 0 then
    perform tasker._raise('22023', 'namespaces is empty: such a key would reach nothing', null, 'Leave it out for a key that reaches all namespaces.');
  elsif create_api_key.expires_at <= v_now then
    perform tasker._raise('22023', format('expires_at is over already: %s', create_api_key.expires_at), null, 'Leave it out for a key that does not expire.');
  end if;
  -- Each gen_random_uuid() has 122 bits of PostgreSQL's strong randomness; three are more than the hash of them keeps.
  v_key := 'tsk_' || rtrim(translate(encode(sha256(uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid())), 'base64'), '+/', '-_'), '=');
  insert into tasker.api_keys as k (name, key_hash, permissions, namespaces, created_by, created_at, expires_at)
  values (create_api_key.name, tasker._key_hash(v_key), create_api_key.permissions, create_api_key.namespaces, tasker._actor(), v_now, create_api_key.expires_at)
  on conflict on constraint api_keys_pkey do nothing;
  if not found then
    perform tasker._raise('23505', format('there is a key of the name %s already', create_api_key.name), null,
      'Give another name, also when that key is revoked: history tells keys apart by their names.');
  end if;
  return v_key;
end
$function$;
comment on function tasker.create_api_key(text, text[], text[], timestamptz) is
  'Makes a key for callers of the server and gives it, this one time: only its hash is kept. permissions are resource:action, resource:* or *; namespaces those it reaches, null for all; '
  'without expires_at it does not expire. Errors: 22023, 23505.';

create function tasker._key_hash(p_key text) returns bytea
language sql immutable parallel safe set search_path = pg_catalog, pg_temp as $function$
  select case when p_key ~ '^[0-9a-f]{64}$' then decode(p_key, 'hex') else sha256(convert_to(p_key, 'UTF8')) end
$function$;
comment on function tasker._key_hash(text) is 'The SHA-256 of a key, or, of 64 hexadecimal digits, what they say: a key begins with tsk_, so that is none.';

create function tasker._key_problem(p_key tasker.api_keys, p_now timestamptz) returns text
language sql immutable parallel unsafe set search_path = pg_catalog, pg_temp as $function$
  select case when p_key.revoked_at is not null then 'revoked' when p_key.expires_at <= p_now then 'expired' end
$function$;
comment on function tasker._key_problem(tasker.api_keys, timestamptz) is 'Why a key does not count at a time: revoked or expired; null when it does.';

create function tasker._key_row(p_key tasker.api_keys, p_now timestamptz) returns tasker.api_key
language sql immutable parallel unsafe set search_path = pg_catalog, pg_temp as $function$
  select (p_key.name, p_key.permissions, p_key.namespaces, p_key.created_by, p_key.created_at, p_key.expires_at, p_key.revoked_at, p_key.revoked_by, p_key.used_at,
    tasker._key_problem(p_key, p_now))::tasker.api_key
$function$;
comment on function tasker._key_row(tasker.api_keys, timestamptz) is 'A key as it is shown: without its hash.';

create function tasker.list_api_keys() returns setof tasker.api_key
language plpgsql stable parallel unsafe security definer set search_path = pg_catalog, pg_temp as $function$
declare
  v_now constant timestamptz := tasker._now();
begin
  perform tasker._require_unlimited('list keys');
  return query select r.* from tasker.api_keys k cross join lateral tasker._key_row(k, v_now) r order by k.name;
end
$function$;
comment on function tasker.list_api_keys() is 'Lists the keys there are, revoked and expired ones too, by name; the keys themselves nobody knows.';

create function tasker.revoke_api_key(name text) returns boolean
language plpgsql volatile parallel unsafe security definer set search_path = pg_catalog, pg_temp as $function$
begin
  perform tasker._require_unlimited('revoke a key');
  update tasker.api_keys k set revoked_at = tasker._now(), revoked_by = tasker._actor()
  where k.name = revoke_api_key.name and k.revoked_at is null;
  if found then
    return true;
  end if;
  if not exists (select from tasker.api_keys k where k.name = revoke_api_key.name) then
    perform tasker._raise('TK004', format('api key %s not found', coalesce(revoke_api_key.name, 'null')), null, 'tasker.list_api_keys() shows the keys there are.');
  end if;
  return false;
end
$function$;
comment on function tasker.revoke_api_key(text) is
  'Revokes a key for good; true when this call did. A server may take it for as long as it remembers a check (ten seconds, unless told otherwise). Errors: TK004.';

create function tasker.check_api_key(key text) returns setof tasker.api_key
language plpgsql volatile parallel unsafe security definer rows 1 set search_path = pg_catalog, pg_temp as $function$
declare
  v_now constant timestamptz := tasker._now();
  v_key tasker.api_keys;
begin
  select k.* into v_key from tasker.api_keys k where k.key_hash = tasker._key_hash(check_api_key.key);
  if not found then
    return;
  end if;
  if tasker._key_problem(v_key, v_now) is null and (v_key.used_at is null or v_key.used_at < v_now - interval '1 hour') then
    -- Once an hour, and whoever is second lets it be: a key that many use is no row that they wait for.
    perform from tasker.api_keys k where k.name = v_key.name and k.used_at is not distinct from v_key.used_at for no key update skip locked;
    if found then
      update tasker.api_keys k set used_at = v_now where k.name = v_key.name;
    end if;
  end if;
  return next tasker._key_row(v_key, v_now);
end
$function$;
comment on function tasker.check_api_key(key text) is
  'Whose a key is and what it allows; with its problem when it is revoked or expired, no row when there is no such key. The server gives its SHA-256 in hexadecimal digits, so that no key is '
  'in a log of the database.';

create function tasker.serve_caller(caller text default null, namespaces text[] default null) returns void
language plpgsql volatile parallel unsafe security definer set search_path = pg_catalog, pg_temp as $function$
begin
  if length(serve_caller.caller) not between 1 and 200 or serve_caller.caller ~ '[[:cntrl:]]' then
    perform tasker._raise('22023', 'caller must have 1 to 200 characters, none of them a control character', null, 'Give null when the session acts for nobody but its role.');
  end if;
  perform tasker._require_namespace_names(serve_caller.namespaces);
  perform tasker._serve_caller(serve_caller.caller, serve_caller.namespaces);
end
$function$;
comment on function tasker.serve_caller(text, text[]) is
  'From now on this session acts for a caller of its program: history names it beside the role, and the session reaches the given namespaces only, none of them with an empty list, on top of '
  'what the role may do. Nulls end that: the program decides whom it serves, so this narrows what it does by its own will. Errors: 22023.';
