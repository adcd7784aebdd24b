//! Templates: register, validate, list, get, retire.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use sqlx::FromRow;
use sqlx::types::Json;
use uuid::Uuid;

use crate::connection::Client;
use crate::error::Error;

const LIST_TEMPLATES: &str = "select template_uuid, namespace, name, version, description, steps_count, registered_by, \
    registered_at, retired_at from tasker.list_templates(namespace => $1)";

const GET_TEMPLATE: &str = "select template_uuid, namespace, name, version, description, steps_count, registered_by, \
    registered_at, retired_at, definition, source \
    from tasker.get_template(name => $1, namespace => $2, version => $3)";

/// A template as its author wrote it. The database reads both forms by the same rules.
#[derive(Debug, Clone, Copy)]
pub enum Definition<'a> {
    /// A YAML document (JSON is YAML too, but without the line and column of a mistake in JSON).
    Yaml(&'a str),
    /// A JSON document.
    Json(&'a RawValue),
}

/// The answer of [`Client::register_template`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, FromRow)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct RegisteredTemplate {
    /// The template's key.
    pub template_uuid: Uuid,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    #[cfg_attr(feature = "openapi", schema(example = "order_fulfillment"))]
    pub name: String,
    /// Its version.
    pub version: String,
    /// False when the same content was registered before.
    pub created: bool,
}

/// One thing that is wrong or doubtful in a template.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, FromRow)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Finding {
    /// `error` or `warning`.
    #[cfg_attr(feature = "openapi", schema(example = "error"))]
    pub severity: String,
    /// Its stable code.
    #[cfg_attr(feature = "openapi", schema(example = "MISSING_DEPENDENCY"))]
    pub code: String,
    /// Where in the document.
    #[cfg_attr(feature = "openapi", schema(example = "steps[1].dependencies[0]"))]
    pub path: String,
    /// What is wrong.
    #[cfg_attr(feature = "openapi", schema(example = "there is no step pack"))]
    pub message: String,
}

/// A registered template, without its definition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, FromRow)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct TemplateSummary {
    /// The template's key.
    pub template_uuid: Uuid,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    #[cfg_attr(feature = "openapi", schema(example = "order_fulfillment"))]
    pub name: String,
    /// Its version.
    pub version: String,
    /// What it is for.
    pub description: Option<String>,
    /// How many steps it has.
    pub steps_count: i32,
    /// The role that registered it.
    pub registered_by: String,
    /// When it was registered.
    pub registered_at: DateTime<Utc>,
    /// Since when no task can be made of it.
    pub retired_at: Option<DateTime<Utc>>,
}

/// A registered template with its definition.
#[derive(Debug, Clone, Serialize, Deserialize, FromRow)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Template {
    /// The template's key.
    pub template_uuid: Uuid,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    #[cfg_attr(feature = "openapi", schema(example = "order_fulfillment"))]
    pub name: String,
    /// Its version.
    pub version: String,
    /// What it is for.
    pub description: Option<String>,
    /// How many steps it has.
    pub steps_count: i32,
    /// The role that registered it.
    pub registered_by: String,
    /// When it was registered.
    pub registered_at: DateTime<Utc>,
    /// Since when no task can be made of it.
    pub retired_at: Option<DateTime<Utc>>,
    /// The document as JSON.
    #[cfg_attr(feature = "openapi", schema(value_type = Object))]
    #[sqlx(json)]
    pub definition: Box<RawValue>,
    /// The document as it was written.
    pub source: Option<String>,
}

impl Client {
    /// Registers a template under its version; the same content again is no change. An invalid one is TK020, whose detail
    /// lists every finding as JSON; other content under a version that exists is TK014.
    ///
    /// `environment` names the one of its `environments` to apply.
    pub async fn register_template(
        &self,
        definition: Definition<'_>,
        environment: Option<&str>,
    ) -> Result<RegisteredTemplate, Error> {
        const YAML: &str = "select template_uuid, namespace, name, version, created \
            from tasker.register_template(definition => $1::text, environment => $2)";
        const JSON: &str = "select template_uuid, namespace, name, version, created \
            from tasker.register_template(definition => $1::jsonb, environment => $2)";
        let registered = match definition {
            Definition::Yaml(text) => {
                sqlx::query_as(YAML)
                    .bind(text)
                    .bind(environment)
                    .fetch_one(self.pool())
                    .await?
            }
            Definition::Json(json) => {
                sqlx::query_as(JSON)
                    .bind(Json(json))
                    .bind(environment)
                    .fetch_one(self.pool())
                    .await?
            }
        };
        Ok(registered)
    }

    /// All findings about a template; none when it can be registered as it is. A bad template is no error here.
    pub async fn validate_template(
        &self,
        definition: Definition<'_>,
        environment: Option<&str>,
    ) -> Result<Vec<Finding>, Error> {
        const YAML: &str = "select severity, code, path, message \
            from tasker.validate_template(definition => $1::text, environment => $2)";
        const JSON: &str = "select severity, code, path, message \
            from tasker.validate_template(definition => $1::jsonb, environment => $2)";
        let findings = match definition {
            Definition::Yaml(text) => {
                sqlx::query_as(YAML)
                    .bind(text)
                    .bind(environment)
                    .fetch_all(self.pool())
                    .await?
            }
            Definition::Json(json) => {
                sqlx::query_as(JSON)
                    .bind(Json(json))
                    .bind(environment)
                    .fetch_all(self.pool())
                    .await?
            }
        };
        Ok(findings)
    }

    /// The registered templates of one namespace, or of all.
    pub async fn list_templates(
        &self,
        namespace: Option<&str>,
    ) -> Result<Vec<TemplateSummary>, Error> {
        let templates = sqlx::query_as(LIST_TEMPLATES)
            .bind(namespace)
            .fetch_all(self.pool())
            .await?;
        Ok(templates)
    }

    /// A template with its definition, by default in its newest version; TK003 when there is none.
    pub async fn get_template(
        &self,
        name: &str,
        namespace: &str,
        version: Option<&str>,
    ) -> Result<Template, Error> {
        let template = sqlx::query_as(GET_TEMPLATE)
            .bind(name)
            .bind(namespace)
            .bind(version)
            .fetch_one(self.pool())
            .await?;
        Ok(template)
    }

    /// Retires one version of a template, the newest unless one is named: no new tasks, those under way go on. False when it
    /// was retired already; TK003.
    pub async fn retire_template(
        &self,
        name: &str,
        namespace: &str,
        version: Option<&str>,
    ) -> Result<bool, Error> {
        let retired = sqlx::query_scalar(
            "select tasker.retire_template(name => $1, namespace => $2, version => $3)",
        )
        .bind(name)
        .bind(namespace)
        .bind(version)
        .fetch_one(self.pool())
        .await?;
        Ok(retired)
    }
}
