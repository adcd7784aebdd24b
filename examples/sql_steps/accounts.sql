-- Two tables of accounts, in one database, and a function that moves money between them: the handler of the step in transfer.yaml.
-- As a superuser: psql -f accounts.sql. It makes a role that may do just this; the template is registered as that role.

create role bank_owner;
grant usage on schema tasker to bank_owner;
grant execute on function tasker.register_template(text, text) to bank_owner;

create schema bank authorization bank_owner;
set role bank_owner;

create table bank.checking (account text primary key, cents bigint not null constraint no_overdraft check (cents >= 0));
create table bank.savings (account text primary key, cents bigint not null);
insert into bank.checking values ('alice', 100000);
insert into bank.savings values ('alice', 0);

create function bank.save(context jsonb, inputs jsonb, dependency_results jsonb) returns jsonb
language plpgsql set search_path = pg_catalog, pg_temp as $function$
declare
  v_account constant text := context ->> 'account';
  v_cents constant bigint := (context ->> 'cents')::bigint;
begin
  -- Both, and the completion of the step, or none of them.
  update bank.checking c set cents = c.cents - v_cents where c.account = v_account;
  if not found then
    raise exception 'there is no account %', v_account using errcode = 'no_data_found';
  end if;
  update bank.savings s set cents = s.cents + v_cents where s.account = v_account;
  return jsonb_build_object('saved_cents', v_cents);
end
$function$;

reset role;
