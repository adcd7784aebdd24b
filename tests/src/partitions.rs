//! The partitions of the tables that grow with the work, as PostgreSQL's catalogue shows them.

use anyhow::ensure;
use sqlx::{Connection, Executor, PgConnection};

/// The tables that have partitions.
pub const TABLES: [&str; 5] = [
    "dead_letters",
    "step_transitions",
    "steps",
    "task_transitions",
    "tasks",
];

/// A span of days whose tasks have partitions of their own.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Range {
    /// The first day (UTC): `2030-01-31`.
    pub starts_on: String,
    /// The day after the last.
    pub ends_on: String,
}

impl Range {
    /// How the names of its partitions end.
    #[must_use]
    pub fn suffix(&self) -> String {
        format!("p{}_{}", self.starts_on, self.ends_on).replace('-', "")
    }
}

/// The bounds as the catalogue has them: the first 48 bits of a key are milliseconds since 1970.
const PARTITIONS: &str = "select c.relname::text, d.days[1], d.days[2] \
    from pg_inherits i join pg_class c on c.oid = i.inhrelid \
    cross join lateral (select array_agg((timestamp 'epoch' + ('x' || left(replace(b.bound[1], '-', ''), 12))::bit(48)::bigint * interval '1 millisecond')::date::text) as days \
      from regexp_matches(pg_get_expr(c.relpartbound, c.oid), '''([0-9a-f-]{36})''', 'g') b(bound)) d \
    where i.inhparent = ('tasker.' || $1)::regclass order by 2";

/// What a partition is made of, its own name left out. That a column is not null is told by the column: PostgreSQL 18 names that too, and after `pg_upgrade` otherwise.
const SHAPES: &str = "select p.relname::text, array_agg(distinct replace(jsonb_build_object( \
      'columns', (select jsonb_agg(jsonb_build_array(a.attname, a.atttypid::regtype, a.attnotnull, a.attstorage, a.attcompression, pg_get_expr(d.adbin, d.adrelid)) order by a.attname) \
        from pg_attribute a left join pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped), \
      'indexes', (select jsonb_agg(pg_get_indexdef(x.indexrelid) order by pg_get_indexdef(x.indexrelid)) from pg_index x where x.indrelid = c.oid), \
      'constraints', (select jsonb_agg(k.conname || ' ' || pg_get_constraintdef(k.oid) order by k.conname) from pg_constraint k where k.conrelid = c.oid and k.contype <> 'n'), \
      'options', c.reloptions, 'owner', c.relowner::regrole, 'rights', c.relacl)::text, substring(c.relname from 'p\\d{8}_\\d{8}$'), '')) as shapes \
    from pg_inherits i join pg_class c on c.oid = i.inhrelid join pg_class p on p.oid = i.inhparent \
    where p.relnamespace = 'tasker'::regnamespace and p.relkind = 'p' group by 1 order by 1";

/// The ranges that have partitions, in order of time. They must be the same in each table, and named by what they hold.
pub async fn ranges(session: &mut PgConnection) -> anyhow::Result<Vec<Range>> {
    let mut ranges = Vec::new();
    for (index, table) in TABLES.into_iter().enumerate() {
        let partitions: Vec<(String, String, String)> = sqlx::query_as(PARTITIONS)
            .bind(table)
            .fetch_all(&mut *session)
            .await?;
        let mut found = Vec::new();
        for (name, starts_on, ends_on) in partitions {
            let range = Range { starts_on, ends_on };
            let expected = format!("{table}_{}", range.suffix());
            ensure!(name == expected, "{name} holds {range:?}");
            found.push(range);
        }
        ensure!(
            index == 0 || found == ranges,
            "{table} has {found:?}, not {ranges:?}"
        );
        ranges = found;
    }
    Ok(ranges)
}

/// Requires that the partitions of a table differ in nothing but their names and what they hold.
pub async fn have_one_shape(session: &mut PgConnection) -> anyhow::Result<()> {
    let shapes: Vec<(String, Vec<String>)> = sqlx::query_as(SHAPES).fetch_all(session).await?;
    let tables: Vec<&str> = shapes.iter().map(|(table, _)| table.as_str()).collect();
    ensure!(tables == TABLES, "{tables:?} have partitions");
    for (table, shapes) in &shapes {
        ensure!(shapes.len() == 1, "the shapes of {table}: {shapes:#?}");
    }
    Ok(())
}

/// Detaches and drops a range's partition of every table, as whoever keeps only so many weeks does.
pub async fn drop_range(session: &mut PgConnection, range: &Range) -> anyhow::Result<()> {
    let mut transaction = session.begin().await?;
    for table in TABLES {
        let partition = format!("tasker.{table}_{}", range.suffix());
        for statement in [
            format!("alter table tasker.{table} detach partition {partition}"),
            format!("drop table {partition}"),
        ] {
            transaction.execute(statement.as_str()).await?;
        }
    }
    transaction.commit().await?;
    Ok(())
}
