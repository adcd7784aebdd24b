//! What the planner knows of Tasker's tables, spoilt on purpose. As a superuser; all by schema and name, whatever the tables look like inside.

use sqlx::{Executor, PgConnection};

use super::fill::TABLES;

/// The tables, partitions and indexes of Tasker and of its queues.
const RELATIONS: &str = "select c.oid from pg_class c join pg_namespace n on n.oid = c.relnamespace \
    where n.nspname in ('tasker', 'pgmq') and c.relkind in ('r', 'p', 'i', 'I')";

/// Leaves nothing for autovacuum to do, with statistics that fit.
pub(super) async fn settle(session: &mut PgConnection) -> anyhow::Result<()> {
    session.execute("vacuum (analyze)").await?;
    Ok(())
}

/// Makes the tables look as if they had never been vacuumed or analysed.
pub(super) async fn forget(session: &mut PgConnection) -> anyhow::Result<()> {
    let forget = format!(
        "delete from pg_statistic where starelid in ({RELATIONS}); \
         update pg_class set reltuples = -1, relpages = 0, relallvisible = 0 where oid in ({RELATIONS})"
    );
    session.execute(forget.as_str()).await?;
    Ok(())
}

/// Takes the rows away and keeps the statistics that were made of them.
pub(super) async fn empty_the_tables(session: &mut PgConnection) -> anyhow::Result<()> {
    let tables = TABLES.map(|table| format!("tasker.{table}")).join(", ");
    let empty = format!(
        "create temporary table kept as select oid, reltuples, relpages, relallvisible from pg_class where oid in ({RELATIONS}); \
         truncate {tables}; \
         update pg_class c set reltuples = k.reltuples, relpages = k.relpages, relallvisible = k.relallvisible \
         from kept k where k.oid = c.oid"
    );
    session.execute(empty.as_str()).await?;
    Ok(())
}
