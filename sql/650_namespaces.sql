-- Namespaces as operators see them: the list, and their settings. Not here: making them (100), pausing them (605).

create type tasker.namespace as (
  name text,
  queue_name text,
  settings jsonb,
  created_at timestamptz,
  paused_at timestamptz,
  paused_by text,
  pause_reason text
);
comment on type tasker.namespace is 'A namespace as list_namespaces shows it.';

create function tasker.list_namespaces() returns setof tasker.namespace
language plpgsql stable parallel unsafe security definer set search_path = pg_catalog, pg_temp as $function$
begin
  return query
    select n.name, n.queue_name, n.settings, n.created_at, n.paused_at, n.paused_by, n.pause_reason
    from tasker.namespaces n
    where tasker._may(n.name, 'read')
    order by n.name;
end
$function$;
comment on function tasker.list_namespaces() is 'Lists the namespaces, with their settings and who paused them.';

create function tasker._namespace_settings() returns text[]
language sql immutable parallel safe set search_path = pg_catalog, pg_temp as $function$
  -- How many days finished tasks are kept; 0 for ever.
  select array['retention_days']
$function$;
comment on function tasker._namespace_settings() is 'The names of the settings that a namespace may have.';

create function tasker.set_namespace(name text, settings jsonb) returns tasker.namespace
language plpgsql volatile parallel unsafe security definer set search_path = pg_catalog, pg_temp as $function$
declare
  v_unknown text;
  v_namespace tasker.namespace;
begin
  perform tasker._require_may(set_namespace.name, 'operate');
  perform tasker._require_namespace(set_namespace.name);
  if jsonb_typeof(set_namespace.settings) is distinct from 'object' then
    perform tasker._raise('22023', format('settings must be a JSON object, not %s', coalesce(jsonb_typeof(set_namespace.settings), 'null')), null,
      'Give all the settings that the namespace is to have; {} for none.');
  end if;
  select min(k.key) into v_unknown from jsonb_object_keys(set_namespace.settings) k(key) where k.key <> all (tasker._namespace_settings());
  if v_unknown is not null then
    perform tasker._raise('22023', format('a namespace has no setting %s', v_unknown), null,
      format('Known settings: %s.', array_to_string(tasker._namespace_settings(), ', ')));
  end if;
  if set_namespace.settings ? 'retention_days' and (jsonb_typeof(set_namespace.settings -> 'retention_days') <> 'number'
    or set_namespace.settings ->> 'retention_days' !~ '^[0-9]{1,5}$' or (set_namespace.settings ->> 'retention_days')::integer > 36500) then
    perform tasker._raise('22023', format('retention_days must be a whole number from 0 to 36500, not %s', set_namespace.settings -> 'retention_days'), null,
      '0 keeps finished tasks for ever.');
  end if;
  update tasker.namespaces n set settings = set_namespace.settings where n.name = set_namespace.name;
  select l.* into v_namespace from tasker.list_namespaces() l where l.name = set_namespace.name;
  return v_namespace;
end
$function$;
comment on function tasker.set_namespace(text, jsonb) is 'Sets the settings of a namespace ({"retention_days": 0 to 36500}), in place of those it had, and gives the namespace. Errors: TK004, 22023 for a setting that there is not.';
