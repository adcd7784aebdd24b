//! Namespaces: list, set, pause and resume them; who may do what in them.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use sqlx::FromRow;
use sqlx::types::Json;

use crate::connection::Client;
use crate::error::Error;

macro_rules! namespace_columns {
    () => {
        "name, queue_name, settings, created_at, paused_at, paused_by, pause_reason"
    };
}

const LIST: &str = concat!(
    "select ",
    namespace_columns!(),
    " from tasker.list_namespaces()"
);

const SET: &str = concat!(
    "select ",
    namespace_columns!(),
    " from tasker.set_namespace(name => $1, settings => $2)"
);

const LIST_GRANTS: &str = "select role, namespace, privilege, granted_by, granted_at, role_exists \
    from tasker.list_namespace_grants(namespace => $1)";

/// A namespace.
#[derive(Debug, Clone, Serialize, Deserialize, FromRow)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Namespace {
    /// Its name.
    #[cfg_attr(feature = "openapi", schema(example = "shop"))]
    pub name: String,
    /// Its queue in PGMQ.
    #[cfg_attr(feature = "openapi", schema(example = "worker_shop_queue"))]
    pub queue_name: String,
    /// Its settings: `retention_days`, for how long finished tasks are kept.
    #[cfg_attr(feature = "openapi", schema(value_type = Object))]
    #[sqlx(json)]
    pub settings: Box<RawValue>,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// Since when it is paused.
    pub paused_at: Option<DateTime<Utc>>,
    /// Who paused it.
    pub paused_by: Option<String>,
    /// Why.
    pub pause_reason: Option<String>,
}

/// What a role may do in a namespace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, FromRow)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct NamespaceGrant {
    /// The role; its members have the grant too.
    pub role: String,
    /// The namespace; `*` for all.
    pub namespace: String,
    /// `read`, `create`, `work` or `operate`.
    pub privilege: String,
    /// Who granted it.
    pub granted_by: String,
    /// When.
    pub granted_at: DateTime<Utc>,
    /// Whether there is such a role; the grant of one that is gone allows nothing.
    pub role_exists: bool,
}

impl Client {
    /// The namespaces, with their settings and who paused them.
    pub async fn list_namespaces(&self) -> Result<Vec<Namespace>, Error> {
        let namespaces = sqlx::query_as(LIST).fetch_all(self.pool()).await?;
        Ok(namespaces)
    }

    /// Gives a namespace these settings, in place of those it had; TK004, 22023 for a setting that there is not.
    pub async fn set_namespace(&self, name: &str, settings: &RawValue) -> Result<Namespace, Error> {
        let namespace = sqlx::query_as(SET)
            .bind(name)
            .bind(Json(settings))
            .fetch_one(self.pool())
            .await?;
        Ok(namespace)
    }

    /// Pauses a namespace: what runs in it finishes, nothing else begins. False when it was paused already; TK004.
    pub async fn pause_namespace(
        &self,
        namespace: &str,
        reason: Option<&str>,
    ) -> Result<bool, Error> {
        let paused =
            sqlx::query_scalar("select tasker.pause_namespace(namespace => $1, reason => $2)")
                .bind(namespace)
                .bind(reason)
                .fetch_one(self.pool())
                .await?;
        Ok(paused)
    }

    /// Resumes a paused namespace. False when it wasn't paused; TK004.
    pub async fn resume_namespace(&self, namespace: &str) -> Result<bool, Error> {
        let resumed = sqlx::query_scalar("select tasker.resume_namespace(namespace => $1)")
            .bind(namespace)
            .fetch_one(self.pool())
            .await?;
        Ok(resumed)
    }

    /// Lets a role do something in a namespace, or in all with `*`. It counts while `tasker.check_namespaces` is on. False
    /// when it was granted before; TK004, 22023 for an unknown privilege or role.
    pub async fn grant_namespace(
        &self,
        role: &str,
        namespace: &str,
        privilege: &str,
    ) -> Result<bool, Error> {
        let granted = sqlx::query_scalar(
            "select tasker.grant_namespace(role => $1, namespace => $2, privilege => $3)",
        )
        .bind(role)
        .bind(namespace)
        .bind(privilege)
        .fetch_one(self.pool())
        .await?;
        Ok(granted)
    }

    /// Takes back one privilege of a role in a namespace, or all of them, and says how many grants went; TK004, 22023.
    pub async fn revoke_namespace(
        &self,
        role: &str,
        namespace: &str,
        privilege: Option<&str>,
    ) -> Result<i64, Error> {
        let count = sqlx::query_scalar(
            "select tasker.revoke_namespace(role => $1, namespace => $2, privilege => $3)",
        )
        .bind(role)
        .bind(namespace)
        .bind(privilege)
        .fetch_one(self.pool())
        .await?;
        Ok(count)
    }

    /// The grants of a namespace with those of all, or every grant.
    pub async fn list_namespace_grants(
        &self,
        namespace: Option<&str>,
    ) -> Result<Vec<NamespaceGrant>, Error> {
        let grants = sqlx::query_as(LIST_GRANTS)
            .bind(namespace)
            .fetch_all(self.pool())
            .await?;
        Ok(grants)
    }
}
