//! What is in the tables, to be compared before and after.

use std::collections::BTreeMap;

use serde_json::Value;
use sqlx::PgPool;

/// Every row of Tasker's own tables, as text.
pub async fn contents(pool: &PgPool) -> anyhow::Result<Vec<Value>> {
    let tables: Vec<String> = sqlx::query_scalar("select relname::text from pg_class where relnamespace = 'tasker'::regnamespace and relkind = 'r' order by 1")
        .fetch_all(pool)
        .await?;
    let mut contents = Vec::new();
    for table in tables {
        let query = format!(
            "select jsonb_build_object('table', '{table}', 'rows', coalesce(jsonb_agg(to_jsonb(t) order by to_jsonb(t)::text), '[]')) from tasker.{table} t"
        );
        contents.push(sqlx::query_scalar(&query).fetch_one(pool).await?);
    }
    Ok(contents)
}

/// The tables of Tasker and of PGMQ, with their columns as SQL.
pub type Columns = BTreeMap<String, String>;

/// The tables and columns that there are. Not the list of workers: who lives is told at every moment.
pub async fn columns(pool: &PgPool) -> anyhow::Result<Columns> {
    let query = "select c.oid::regclass::text, string_agg(quote_ident(a.attname), ', ' order by a.attname) \
        from pg_class c join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped \
        where c.relnamespace in ('tasker'::regnamespace, 'pgmq'::regnamespace) and c.relkind = 'r' and c.oid <> 'tasker.workers'::regclass group by 1";
    let rows: Vec<(String, String)> = sqlx::query_as(query).fetch_all(pool).await?;
    Ok(rows.into_iter().collect())
}

/// For each table how many rows there are and a hash of these columns of them, whatever their order; for each sequence where it is.
pub async fn hashes(pool: &PgPool, columns: &Columns) -> anyhow::Result<BTreeMap<String, String>> {
    let mut hashes = BTreeMap::new();
    for (table, columns) in columns {
        let query = format!(
            "select count(*) || ' rows ' || coalesce(md5(string_agg(h.hash, '' order by h.hash)), '') from (select md5(row({columns})::text) as hash from {table}) h"
        );
        hashes.insert(
            table.clone(),
            sqlx::query_scalar(&query).fetch_one(pool).await?,
        );
    }
    let sequences: Vec<(String, Option<String>)> = sqlx::query_as(
        "select format('sequence %I.%I', s.schemaname, s.sequencename), s.last_value::text from pg_sequences s where s.schemaname in ('tasker', 'pgmq')",
    )
    .fetch_all(pool)
    .await?;
    hashes.extend(
        sequences
            .into_iter()
            .map(|(name, value)| (name, value.unwrap_or_default())),
    );
    Ok(hashes)
}
