-- Templates: registering, checking, listing, retiring. Parsing, checking and compiling are the library's (rules); here is what is stored.

create function tasker._register_template(p_source text, p_is_json boolean, p_environment text)
returns table (template_uuid uuid, namespace text, name text, version text, created boolean)
language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp as $function$
declare
  v_new record;
  v_old record;
  v_namespace_id integer;
  v_template_uuid uuid;
  v_has_sql_steps boolean;
begin
  if p_source is null then
    perform tasker._raise('22023', 'definition must not be null', null, 'Give the template as YAML or JSON.');
  end if;
  select c.* into v_new from tasker._compile_template(p_source, p_is_json, p_environment) c;
  if v_new.compiled is null then
    perform tasker._raise(v_new.failure_code, v_new.failure, v_new.findings::text,
      'tasker.validate_template lists every finding with its path; nothing was registered.');
  end if;

  perform tasker._require_may(v_new.namespace, 'operate');
  v_has_sql_steps := tasker._require_sql_steps(v_new.definition, v_new.compiled);
  perform tasker._require_template_in_reach(v_new.definition, v_has_sql_steps);
  v_namespace_id := tasker._make_namespace(v_new.namespace);
  if tasker._publishes_durably(v_new.compiled) then
    perform tasker._make_events_queue(v_new.namespace);
  end if;
  insert into tasker.templates as t (
    template_uuid, namespace_id, name, version, version_key, description, environment, source, definition, compiled, content_hash, steps_count,
    roots_count, context_defaults, has_input_schema, identity_strategy, identity_window_seconds, on_failure, registered_by, registered_at)
  values (
    (tasker._task_uuids(1, tasker._now()))[1], v_namespace_id, v_new.name, v_new.version, v_new.version_key, v_new.description, p_environment, p_source,
    v_new.definition, v_new.compiled, v_new.content_hash, v_new.steps_count, v_new.roots_count, v_new.context_defaults, v_new.has_input_schema,
    v_new.identity_strategy, v_new.identity_window_seconds, v_new.on_failure, tasker._actor(), tasker._now())
  on conflict on constraint template_version_is_unique do nothing
  returning t.template_uuid into v_template_uuid;
  if v_template_uuid is not null then
    if v_has_sql_steps then
      perform tasker._has_sql_steps(v_namespace_id, (select n.queue_name from tasker.namespaces n where n.namespace_id = v_namespace_id));
    end if;
    return query select v_template_uuid, v_new.namespace, v_new.name, v_new.version, true;
    return;
  end if;

  select t.template_uuid, t.content_hash, t.environment into v_old
  from tasker.templates t
  where t.namespace_id = v_namespace_id and t.name = v_new.name and t.version = v_new.version;
  if not found then
    perform tasker._raise('40001', 'the template was registered by a concurrent transaction', null, 'Try again.');
  end if;
  if v_old.content_hash is distinct from v_new.content_hash then
    perform tasker._raise('TK014',
      format('template %s version %s is already registered in namespace %s with other content', v_new.name, v_new.version, v_new.namespace),
      case when v_old.environment is distinct from p_environment then
        format('It was registered for %s, this is for %s. ', coalesce('the environment ' || v_old.environment, 'no environment'),
          coalesce('the environment ' || p_environment, 'no environment'))
      else '' end || 'A registered version never changes, because tasks under way rely on it.',
      'Give the changed template a new version.');
  end if;
  return query select v_old.template_uuid, v_new.namespace, v_new.name, v_new.version, false;
end
$function$;
comment on function tasker._register_template(text, boolean, text) is 'Registers a template given as text, JSON or YAML.';

create function tasker.register_template(definition jsonb, environment text default null)
returns table (template_uuid uuid, namespace text, name text, version text, created boolean)
language sql volatile parallel unsafe security definer set search_path = pg_catalog, pg_temp as $function$
  select * from tasker._register_template(definition::text, true, environment)
$function$;
comment on function tasker.register_template(jsonb, text) is
  'Registers a template given as JSON, with its changes for the environment applied: the same content again changes nothing, other content under the same version, also that of another environment, is TK014. Errors: TK020 with every finding, TK014, TK030, 22023, 40001, 55000.';

create function tasker.register_template(definition text, environment text default null)
returns table (template_uuid uuid, namespace text, name text, version text, created boolean)
language sql volatile parallel unsafe security definer set search_path = pg_catalog, pg_temp as $function$
  select * from tasker._register_template(definition, false, environment)
$function$;
comment on function tasker.register_template(text, text) is
  'Registers a template given as YAML, with its changes for the environment applied: the same content again changes nothing, other content under the same version, also that of another environment, is TK014. Errors: TK020 with every finding, TK014, TK030, 22023, 40001, 55000.';

create function tasker.validate_template(definition jsonb, environment text default null)
returns table (severity text, code text, path text, message text)
language sql stable parallel unsafe security definer set search_path = pg_catalog, pg_temp as $function$
  select f.severity, f.code, f.path, f.message from tasker._template_findings(definition::text, true, environment) f
$function$;
comment on function tasker.validate_template(jsonb, text) is 'Lists every finding about a template given as JSON; never raises for a bad template. No rows: nothing to say against it.';

create function tasker.validate_template(definition text, environment text default null)
returns table (severity text, code text, path text, message text)
language sql stable parallel unsafe security definer set search_path = pg_catalog, pg_temp as $function$
  select f.severity, f.code, f.path, f.message from tasker._template_findings(definition, false, environment) f
$function$;
comment on function tasker.validate_template(text, text) is 'Lists every finding about a template given as YAML; never raises for a bad template. No rows: nothing to say against it.';

create function tasker.list_templates(namespace text default null)
returns table (
  template_uuid uuid, namespace text, name text, version text, description text, steps_count integer, registered_by text, registered_at timestamptz,
  retired_at timestamptz)
language sql stable parallel unsafe security definer set search_path = pg_catalog, pg_temp as $function$
  select t.template_uuid, n.name, t.name, t.version, t.description, t.steps_count, t.registered_by, t.registered_at, t.retired_at
  from tasker.templates t
  join tasker.namespaces n on n.namespace_id = t.namespace_id
  where (list_templates.namespace is null or n.name = list_templates.namespace) and tasker._may(n.name, 'read')
  order by n.name, t.name, t.version_key
$function$;
comment on function tasker.list_templates(text) is 'Lists the templates of a namespace, or of all, by namespace, name and version.';

create function tasker._find_template(p_namespace text, p_name text, p_version text) returns tasker.templates
language plpgsql stable parallel unsafe set search_path = pg_catalog, pg_temp as $function$
declare
  v_template tasker.templates;
begin
  if p_version is null then
    select t.* into v_template
    from tasker.templates t
    join tasker.namespaces n on n.namespace_id = t.namespace_id
    where n.name = p_namespace and t.name = p_name and t.retired_at is null
    order by t.version_key desc
    limit 1;
  else
    select t.* into v_template
    from tasker.templates t
    join tasker.namespaces n on n.namespace_id = t.namespace_id
    where n.name = p_namespace and t.name = p_name and t.version = p_version;
  end if;
  if v_template.template_id is null or not tasker._may(p_namespace, 'read') then
    perform tasker._raise_refused(tasker._template_not_found(p_namespace, p_name, p_version));
  end if;
  return v_template;
end
$function$;
comment on function tasker._find_template(text, text, text) is 'Finds a template by namespace, name and version, the newest without one (TK003).';

create function tasker._template_not_found(p_namespace text, p_name text, p_version text) returns text[]
language plpgsql stable parallel unsafe set search_path = pg_catalog, pg_temp as $function$
declare
  v_elsewhere text;
begin
  select string_agg(distinct n.name || '/' || t.name || ' ' || t.version, ', ')
  into v_elsewhere
  from (
    select t.*
    from tasker.templates t
    where t.name = p_name and t.retired_at is null
      and tasker._may((select n.name from tasker.namespaces n where n.namespace_id = t.namespace_id), 'read')
    order by t.registered_at desc
    limit 5
  ) t
  join tasker.namespaces n on n.namespace_id = t.namespace_id;
  return array['TK003',
    format('template %s%s not found in namespace %s', coalesce(p_name, 'null'), coalesce(' version ' || p_version, ''), coalesce(p_namespace, 'null')),
    'Registered under this name: ' || coalesce(v_elsewhere, 'nothing') || '.',
    'tasker.list_templates() shows what is registered; tasker.register_template() adds one.'];
end
$function$;
comment on function tasker._template_not_found(text, text, text) is 'The refusal of a template that is not there (TK003): names what is registered under the same name.';

create function tasker.get_template(name text, namespace text default 'default', version text default null)
returns table (
  template_uuid uuid, namespace text, name text, version text, description text, steps_count integer, registered_by text, registered_at timestamptz,
  retired_at timestamptz, definition jsonb, source text)
language sql stable parallel unsafe security definer set search_path = pg_catalog, pg_temp as $function$
  select t.template_uuid, get_template.namespace, t.name, t.version, t.description, t.steps_count, t.registered_by, t.registered_at, t.retired_at,
    t.definition, t.source
  from tasker._find_template(get_template.namespace, get_template.name, get_template.version) t
$function$;
comment on function tasker.get_template(text, text, text) is 'Gives one template as it was written and as JSON, the newest version unless one is named. Errors: TK003.';

create function tasker.retire_template(name text, namespace text default 'default', version text default null) returns boolean
language plpgsql volatile parallel unsafe security definer set search_path = pg_catalog, pg_temp as $function$
declare
  v_template tasker.templates := tasker._find_template(retire_template.namespace, retire_template.name, retire_template.version);
begin
  perform tasker._require_may(retire_template.namespace, 'operate');
  update tasker.templates t set retired_at = tasker._now() where t.template_id = v_template.template_id and t.retired_at is null;
  return found;
end
$function$;
comment on function tasker.retire_template(text, text, text) is
  'Retires one version of a template, the newest unless one is named: no new tasks, those under way go on. True when this call retired it. Errors: TK003.';
