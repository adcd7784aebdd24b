-- The five roles. They belong to the cluster, not to the database: they are made when missing and stay when the extension goes.
-- Here: roles only. Who may call what is in 900_grants.sql.

do $roles$
declare
  v_role text;
begin
  foreach v_role in array array['tasker_admin', 'tasker_operator', 'tasker_client', 'tasker_worker', 'tasker_reader'] loop
    if not exists (select from pg_catalog.pg_roles r where r.rolname = v_role) then
      begin
        execute pg_catalog.format('create role %I nologin', v_role);
      exception
        -- Another database of the cluster made it at the same moment.
        when duplicate_object or unique_violation then null;
      end;
    end if;
  end loop;
end
$roles$;
