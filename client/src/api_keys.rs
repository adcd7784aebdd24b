//! Keys of callers of the server.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use sqlx::FromRow;

use crate::connection::Client;
use crate::error::Error;

const COLUMNS: &str = "name, permissions, namespaces, created_by, created_at, expires_at, revoked_at, revoked_by, used_at, problem";

/// A key, without the key itself: nobody knows that but its holder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, FromRow)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ApiKey {
    /// Its name, by which history tells who called.
    pub name: String,
    /// What it allows: `resource:action`, `resource:*` or `*`.
    pub permissions: Vec<String>,
    /// The namespaces that it reaches; `None` is all.
    pub namespaces: Option<Vec<String>>,
    /// The role that made it.
    pub created_by: String,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// When it expires, if it does.
    pub expires_at: Option<DateTime<Utc>>,
    /// When it was revoked, if it was.
    pub revoked_at: Option<DateTime<Utc>>,
    /// The role that revoked it.
    pub revoked_by: Option<String>,
    /// When it was last used, to the hour.
    pub used_at: Option<DateTime<Utc>>,
    /// Why it doesn't count: `revoked` or `expired`.
    pub problem: Option<String>,
}

/// A key to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewApiKey {
    /// Its name: 1 to 64 letters, digits, `_`, `.` and `-`. None is given twice.
    pub name: String,
    /// What it allows: `resource:action`, `resource:*` or `*`.
    pub permissions: Vec<String>,
    /// The namespaces that it reaches; `None` is all.
    pub namespaces: Option<Vec<String>>,
    /// When it expires; `None` is never.
    pub expires_at: Option<DateTime<Utc>>,
}

impl Client {
    /// Makes a key and gives it, this one time: the database keeps its hash only.
    pub async fn create_api_key(&self, new: &NewApiKey) -> Result<String, Error> {
        let key = sqlx::query_scalar(
            "select tasker.create_api_key(name => $1, permissions => $2, namespaces => $3, expires_at => $4)",
        )
        .bind(&new.name)
        .bind(&new.permissions)
        .bind(&new.namespaces)
        .bind(new.expires_at)
        .fetch_one(self.pool())
        .await?;
        Ok(key)
    }

    /// The keys there are, by name, revoked and expired ones too.
    pub async fn list_api_keys(&self) -> Result<Vec<ApiKey>, Error> {
        let keys = sqlx::query_as(&format!("select {COLUMNS} from tasker.list_api_keys()"))
            .fetch_all(self.pool())
            .await?;
        Ok(keys)
    }

    /// Revokes a key for good; whether this call did. A server may take it for as long as it remembers a check.
    pub async fn revoke_api_key(&self, name: &str) -> Result<bool, Error> {
        let revoked = sqlx::query_scalar("select tasker.revoke_api_key(name => $1)")
            .bind(name)
            .fetch_one(self.pool())
            .await?;
        Ok(revoked)
    }

    /// Whose a key is and what it allows, with its `problem` when it doesn't count any more; `None` when there is no such key. `key` is its SHA-256 in hexadecimal digits, so that it is in no
    /// log of the database, or the key.
    pub async fn check_api_key(&self, key: &str) -> Result<Option<ApiKey>, Error> {
        let row = sqlx::query_as(&format!(
            "select {COLUMNS} from tasker.check_api_key(key => $1)"
        ))
        .bind(key)
        .fetch_optional(self.pool())
        .await?;
        Ok(row)
    }
}
