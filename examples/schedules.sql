-- Schedules for the example templates. With the demo running:
--   eval "$(make -s address)"; psql "$DATABASE_URL" -f examples/schedules.sql
-- What the words mean is in docs/schedules.md.

-- A report at half past two in Berlin, whatever the clocks do. After an hour of downtime it runs once.
select name, next_at, next_at at time zone timezone as shown_there
from tasker.create_schedule('nightly_report', '30 2 * * *', 'data_pipeline', 'data', timezone => 'Europe/Berlin');

-- Every quarter of an hour of a working day in New York. A time that was missed isn't made up for.
select name, next_at, next_at at time zone timezone as shown_there
from tasker.create_schedule('market_watch', '*/15 9-16 * * mon-fri', 'data_pipeline', 'data', timezone => 'America/New_York', catch_up => 'none');

-- A month's figures, on its first day. Each of them counts: whatever was missed is run, in order.
select name, next_at, next_at at time zone timezone as shown_there
from tasker.create_schedule('monthly_figures', '@monthly', 'data_pipeline', 'data', catch_up => 'all');
