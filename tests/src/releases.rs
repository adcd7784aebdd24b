//! Databases of versions that were released, with the library of today.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use sqlx::{Executor, PgConnection, PgPool};

use crate::database::TestDatabase;
use crate::folders::project;
use crate::scenario::refusal;
use crate::waiting::eventually;

/// The version under development.
pub const NEWEST: &str = env!("CARGO_PKG_VERSION");

const UPGRADED_WITHIN: Duration = Duration::from_mins(1);
const LOCK_NOT_AVAILABLE: &str = "55P03";

/// Where the scripts of the released versions are, and those from one version to the next.
pub fn scripts() -> anyhow::Result<PathBuf> {
    Ok(project()?.join("pg_extension/sql"))
}

/// The released versions, the oldest first: those whose whole script is kept.
pub fn released() -> anyhow::Result<Vec<String>> {
    let mut versions = Vec::new();
    for entry in std::fs::read_dir(scripts()?)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        let version = name
            .strip_prefix("tasker--")
            .and_then(|rest| rest.strip_suffix(".sql"));
        versions.extend(
            version
                .filter(|version| !version.contains("--"))
                .map(str::to_owned),
        );
    }
    versions.sort_by_key(|version| {
        version
            .split('.')
            .map(|part| part.parse().unwrap_or(0))
            .collect::<Vec<u32>>()
    });
    Ok(versions)
}

/// The last one of them.
pub fn last_released() -> anyhow::Result<String> {
    released()?.pop().context("nothing was released yet")
}

/// A database with PGMQ and a released version in it.
pub async fn database_of(version: &str) -> anyhow::Result<TestDatabase> {
    let database = TestDatabase::empty().await?;
    install(database.pool(), version).await?;
    Ok(database)
}

/// The text of a migration.
pub fn migration(name: &str) -> anyhow::Result<String> {
    Ok(std::fs::read_to_string(
        project()?.join("migrations").join(name),
    )?)
}

/// Puts PGMQ and a version of Tasker into an empty database.
pub async fn install(pool: &PgPool, version: &str) -> anyhow::Result<()> {
    pool.execute(sqlx::raw_sql(&migration("0001_pgmq.sql")?))
        .await?;
    let create = format!("create extension tasker version '{version}'");
    pool.execute(create.as_str()).await?;
    Ok(())
}

/// Updates the extension to the newest version as an operator is told to: it gives way to sessions at work, and is repeated.
pub async fn upgrade(session: &mut PgConnection) -> anyhow::Result<()> {
    session.execute("set lock_timeout = '500ms'").await?;
    eventually(
        "the schema is updated",
        UPGRADED_WITHIN,
        async || match session.execute("alter extension tasker update").await {
            Ok(_) => Ok(Some(())),
            Err(error) if refusal(&error)?.code == LOCK_NOT_AVAILABLE => Ok(None),
            Err(error) => Err(error.into()),
        },
    )
    .await?;
    session.execute("reset lock_timeout").await?;
    Ok(())
}

/// The version that a database has.
pub async fn version(session: &mut PgConnection) -> anyhow::Result<String> {
    Ok(sqlx::query_scalar("select tasker.version()")
        .fetch_one(session)
        .await?)
}
