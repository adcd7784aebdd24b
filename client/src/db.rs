//! Preparing a database: PGMQ and the extension, made or updated.

use crate::connection::Client;
use crate::error::Error;

/// Runs the migrations that the database hasn't seen: PGMQ where it is missing, then `create extension tasker`, then what updates an older version of it.
/// Safe to repeat and to run from several programs at once: an advisory lock lets one through at a time.
///
/// The role must own the database; creating the extension needs a superuser or an administrator who trusted it.
pub async fn init(client: &Client) -> Result<(), Error> {
    sqlx::migrate!("../migrations").run(client.pool()).await?;
    Ok(())
}
