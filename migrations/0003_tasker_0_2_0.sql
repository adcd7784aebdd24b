-- From version 0.1.0 of the extension to 0.2.0. Where 0002 has made a newer one, or a database came with one, there is nothing to do.
-- It names both versions: where the files of 0.2.0 aren't installed on the server, it fails and is run again, instead of being passed over for good.
do $upgrade$
declare
  v_tries constant integer := 40;
begin
  if not exists (select from pg_catalog.pg_extension e where e.extname = 'tasker' and e.extversion = '0.1.0') then
    return;
  end if;
  -- Shorter than deadlock_timeout: where sessions at work and this are in each other's way, it is this that gives way, and tries again.
  perform pg_catalog.set_config('lock_timeout', '500ms', true);
  for v_try in 1..v_tries loop
    begin
      alter extension tasker update to '0.2.0';
      return;
    exception
      when lock_not_available then
        if v_try = v_tries then
          raise;
        end if;
    end;
    perform pg_catalog.pg_sleep(0.25);
  end loop;
end
$upgrade$;
