//! Preparing a database: PGMQ and the extension, made or updated; and what a database has been prepared for.

use serde::{Deserialize, Serialize};
use sqlx::FromRow;
use sqlx::migrate::Migrator;

use crate::connection::Client;
use crate::error::Error;

static MIGRATIONS: Migrator = sqlx::migrate!("../migrations");

const FACTS: &str = "select current_database()::text as database, current_setting('server_version') as postgres_version, \
    exists (select from pg_catalog.pg_proc p join pg_catalog.pg_namespace n on n.oid = p.pronamespace \
    where n.nspname = 'pgmq' and p.proname = 'create') as has_pgmq, \
    (select e.extversion from pg_catalog.pg_extension e where e.extname = 'tasker') as installed_version, \
    (select a.default_version from pg_catalog.pg_available_extensions a where a.name = 'tasker') as available_version, \
    to_regclass('_sqlx_migrations') is not null as has_record, \
    coalesce(has_table_privilege(to_regclass('_sqlx_migrations'), 'select'), false) as record_is_readable";

/// What a database has been prepared for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DatabaseStatus {
    /// Its name.
    pub database: String,
    /// The version of PostgreSQL.
    pub postgres_version: String,
    /// Whether PGMQ is there.
    pub has_pgmq: bool,
    /// The version of the extension in this database; `None` where it isn't installed.
    pub installed_version: Option<String>,
    /// The version of the extension that the server's files would install; `None` where it has none.
    pub available_version: Option<String>,
    /// The migrations that [`init`] would run; `None` for a role that may not read the record of them.
    pub pending_migrations: Option<Vec<String>>,
}

#[derive(FromRow)]
struct Facts {
    database: String,
    postgres_version: String,
    has_pgmq: bool,
    installed_version: Option<String>,
    available_version: Option<String>,
    has_record: bool,
    record_is_readable: bool,
}

/// Runs the migrations that the database hasn't seen: PGMQ where it is missing, then `create extension tasker`, then what updates an older version of it.
/// Safe to repeat and to run from several programs at once: an advisory lock lets one through at a time.
///
/// The role must own the database; creating the extension needs a superuser or an administrator who trusted it.
pub async fn init(client: &Client) -> Result<(), Error> {
    MIGRATIONS.run(&**client.pool()).await?;
    Ok(())
}

/// What a database has been prepared for; also of one that hasn't been at all.
pub async fn database_status(client: &Client) -> Result<DatabaseStatus, Error> {
    let facts: Facts = sqlx::query_as(FACTS).fetch_one(client.pool()).await?;
    let done: Option<Vec<i64>> = match (facts.has_record, facts.record_is_readable) {
        (false, _) => Some(Vec::new()),
        (true, false) => None,
        (true, true) => Some(
            sqlx::query_scalar("select m.version from _sqlx_migrations m where m.success")
                .fetch_all(client.pool())
                .await?,
        ),
    };
    let pending = done.map(|done| {
        let pending = MIGRATIONS
            .iter()
            .filter(|migration| !done.contains(&migration.version));
        pending
            .map(|migration| format!("{:04} {}", migration.version, migration.description))
            .collect()
    });
    Ok(DatabaseStatus {
        database: facts.database,
        postgres_version: facts.postgres_version,
        has_pgmq: facts.has_pgmq,
        installed_version: facts.installed_version,
        available_version: facts.available_version,
        pending_migrations: pending,
    })
}
