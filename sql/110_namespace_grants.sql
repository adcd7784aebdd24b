-- Grants of namespaces: making them, taking them back, showing them, and how functions in SQL ask for them. Only while tasker.check_namespaces is on does anything ask.
-- Not here: what a grant allows (the library's namespace_grants.rs), and which role may call which function at all (900).

create type tasker.namespace_grant as (
  role text,
  namespace text,
  privilege text,
  granted_by text,
  granted_at timestamptz,
  role_exists boolean
);
comment on type tasker.namespace_grant is 'A grant as list_namespace_grants shows it; one of a role that is gone allows nothing.';

create function tasker._require_may(p_namespace text, p_privilege text) returns void
language plpgsql stable parallel unsafe set search_path = pg_catalog, pg_temp as $function$
begin
  perform tasker._raise_refused(tasker._namespace_problem(array[p_namespace], p_privilege));
end
$function$;
comment on function tasker._require_may(text, text) is 'Refuses a caller without a privilege in a namespace (42501), also in one that there is not.';

create function tasker._shown_namespaces(p_namespace text) returns integer[]
language plpgsql stable parallel unsafe set search_path = pg_catalog, pg_temp as $function$
declare
  v_open constant text[] := tasker._open_namespaces('read');
begin
  if v_open is null and p_namespace is null then
    return null;
  end if;
  return array(
    select n.namespace_id from tasker.namespaces n
    where (v_open is null or n.name = any (v_open)) and (p_namespace is null or n.name = p_namespace));
end
$function$;
comment on function tasker._shown_namespaces(text) is 'The keys of the namespaces that a list shows its caller: of the one named, or of those the caller may read; null is all.';

create function tasker._readable(p_namespaces text[]) returns text[]
language plpgsql stable parallel unsafe set search_path = pg_catalog, pg_temp as $function$
begin
  return array(
    select u.name from unnest(p_namespaces) with ordinality u(name, ordinal) where tasker._may(u.name, 'read') order by u.ordinal);
end
$function$;
comment on function tasker._readable(text[]) is 'Those of some namespaces that the caller may read.';

create function tasker._lock_to_operate(p_task_uuid uuid) returns void
language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp as $function$
declare
  v_namespace constant text := tasker._checked_namespace(p_task_uuid);
begin
  if not tasker._may(v_namespace, 'read') then
    -- As _lock_whole_task refuses the key of no task.
    perform tasker._raise('TK001', format('task %s not found', p_task_uuid), null, 'tasker.list_tasks() shows the tasks there are.');
  end if;
  perform tasker._require_may(v_namespace, 'operate');
  perform tasker._lock_whole_task(p_task_uuid);
end
$function$;
comment on function tasker._lock_to_operate(uuid) is
  'Locks a task with every step it has for a caller who may operate in its namespace (42501); to one who may not even read there it isn''t there (TK001).';

create function tasker._known_privileges() returns text[]
language sql immutable parallel safe set search_path = pg_catalog, pg_temp as $function$
  select array['read', 'create', 'work', 'operate']
$function$;
comment on function tasker._known_privileges() is 'What can be granted in a namespace.';

create function tasker._require_grantable(p_namespace text, p_privilege text) returns void
language plpgsql stable parallel unsafe set search_path = pg_catalog, pg_temp as $function$
begin
  perform tasker._require_unlimited('grant or revoke');
  if p_namespace is distinct from '*' then
    perform tasker._require_namespace(p_namespace);
  end if;
  perform tasker._require_known('privilege', p_privilege, tasker._known_privileges());
end
$function$;
comment on function tasker._require_grantable(text, text) is 'Refuses a namespace that there is not (TK004), an unknown privilege (22023), and a session that is limited to namespaces (42501).';

create function tasker.grant_namespace(role text, namespace text, privilege text) returns boolean
language plpgsql volatile parallel unsafe security definer set search_path = pg_catalog, pg_temp as $function$
begin
  perform tasker._require_grantable(grant_namespace.namespace, grant_namespace.privilege);
  if not exists (select from pg_roles r where r.rolname = grant_namespace.role) then
    perform tasker._raise('22023', format('role %s does not exist', coalesce(grant_namespace.role, 'null')), null,
      'Give the name of a login, or of a role that logins are members of.');
  end if;
  insert into tasker.namespace_grants (role, namespace, privilege, granted_by, granted_at)
  values (grant_namespace.role, grant_namespace.namespace, grant_namespace.privilege, tasker._actor(), tasker._now())
  on conflict on constraint namespace_grants_pkey do nothing;
  return found;
end
$function$;
comment on function tasker.grant_namespace(text, text, text) is
  'Lets a role, and its members, read, create, work or operate in a namespace, or with * in each; operate includes read, no other privilege includes another. It counts while '
  'tasker.check_namespaces is on. True when the grant is new. Errors: TK004, 22023 for an unknown privilege or role.';

create function tasker.revoke_namespace(role text, namespace text, privilege text default null) returns bigint
language plpgsql volatile parallel unsafe security definer set search_path = pg_catalog, pg_temp as $function$
declare
  v_count bigint;
begin
  perform tasker._require_grantable(revoke_namespace.namespace, coalesce(revoke_namespace.privilege, 'read'));
  delete from tasker.namespace_grants g
  where g.role = revoke_namespace.role and g.namespace = revoke_namespace.namespace
    and (revoke_namespace.privilege is null or g.privilege = revoke_namespace.privilege);
  get diagnostics v_count = row_count;
  return v_count;
end
$function$;
comment on function tasker.revoke_namespace(text, text, text) is
  'Takes back one privilege of a role in a namespace, or all it was granted there, and says how many grants went; a call that begins after the commit is refused. A grant of * is taken '
  'back by *, and what a role has by membership in another one from that one. Errors: TK004, 22023 for an unknown privilege.';

create function tasker.list_namespace_grants(namespace text default null) returns setof tasker.namespace_grant
language plpgsql stable parallel unsafe security definer set search_path = pg_catalog, pg_temp as $function$
begin
  return query
    select g.role, g.namespace, g.privilege, g.granted_by, g.granted_at, exists (select from pg_roles r where r.rolname = g.role)
    from tasker.namespace_grants g
    where list_namespace_grants.namespace is null or g.namespace in (list_namespace_grants.namespace, '*')
    order by g.namespace, g.role, g.privilege;
end
$function$;
comment on function tasker.list_namespace_grants(text) is 'Lists the grants of a namespace with those of all (*), or every grant, by namespace, role and privilege.';
