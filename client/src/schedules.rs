//! Schedules: tasks created at the times of a cron expression.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use sqlx::FromRow;
use sqlx::types::Json;
use uuid::Uuid;

use crate::connection::Client;
use crate::error::Error;

macro_rules! schedule_columns {
    () => {
        "namespace, name, cron, timezone, template_name, template_version, context, catch_up, next_at, last_at, last_task_uuid, \
         last_problem, paused_at, paused_by, pause_reason, created_by, created_at"
    };
}

const CREATE: &str = concat!(
    "select ",
    schedule_columns!(),
    " from tasker.create_schedule(name => $1, cron => $2, template_name => $3, namespace => $4, \
     context => coalesce($5, '{}'::jsonb), timezone => coalesce($6, 'UTC'), catch_up => coalesce($7, 'one'), version => $8)"
);

const LIST: &str = concat!(
    "select ",
    schedule_columns!(),
    " from tasker.list_schedules(namespace => $1)"
);

/// What a new schedule is to be. `NewSchedule { name, cron, template_name, ..Default::default() }` leaves the rest to the
/// database's defaults.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct NewSchedule {
    /// Its name: letters, digits, `_`, `.` and `-`, unique in its namespace.
    #[cfg_attr(
        feature = "openapi",
        schema(
            min_length = 1,
            max_length = 128,
            pattern = "^[A-Za-z0-9_][A-Za-z0-9_.-]*$",
            example = "nightly"
        )
    )]
    pub name: String,
    /// When it is due: five fields (minute, hour, day, month, day of the week), or a word such as `@daily`.
    #[cfg_attr(feature = "openapi", schema(example = "30 2 * * *"))]
    pub cron: String,
    /// The template of its tasks.
    #[cfg_attr(feature = "openapi", schema(example = "data_pipeline"))]
    pub template_name: String,
    /// The namespace of the template and of the schedule.
    #[cfg_attr(feature = "openapi", schema(example = "data"))]
    #[serde(default = "default_namespace")]
    pub namespace: String,
    /// The input of its tasks; an empty object when left out.
    #[cfg_attr(feature = "openapi", schema(value_type = Option<Object>))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context: Option<Box<RawValue>>,
    /// The time zone of `cron`; UTC when left out.
    #[cfg_attr(feature = "openapi", schema(example = "Europe/Berlin"))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timezone: Option<String>,
    /// Which of the times that were missed are run later: `none`, `one` (the last) or `all`; `one` when left out.
    #[cfg_attr(
        feature = "openapi",
        schema(pattern = "^(none|one|all)$", example = "one")
    )]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub catch_up: Option<String>,
    /// The template's version; the newest at each time when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
}

impl Default for NewSchedule {
    fn default() -> Self {
        Self {
            name: String::new(),
            cron: String::new(),
            template_name: String::new(),
            namespace: default_namespace(),
            context: None,
            timezone: None,
            catch_up: None,
            version: None,
        }
    }
}

fn default_namespace() -> String {
    "default".to_owned()
}

/// A schedule.
#[derive(Debug, Clone, Serialize, Deserialize, FromRow)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Schedule {
    /// Its namespace.
    #[cfg_attr(feature = "openapi", schema(example = "data"))]
    pub namespace: String,
    /// Its name.
    #[cfg_attr(feature = "openapi", schema(example = "nightly"))]
    pub name: String,
    /// When it is due.
    #[cfg_attr(feature = "openapi", schema(example = "30 2 * * *"))]
    pub cron: String,
    /// The time zone of `cron`.
    #[cfg_attr(feature = "openapi", schema(example = "Europe/Berlin"))]
    pub timezone: String,
    /// The template of its tasks.
    pub template_name: String,
    /// The template's version; the newest at each time when it is null.
    pub template_version: Option<String>,
    /// The input of its tasks.
    #[cfg_attr(feature = "openapi", schema(value_type = Object))]
    #[sqlx(json)]
    pub context: Box<RawValue>,
    /// Which of the times that were missed are run later: `none`, `one` or `all`.
    #[cfg_attr(feature = "openapi", schema(example = "one"))]
    pub catch_up: String,
    /// When it is due next.
    pub next_at: DateTime<Utc>,
    /// The time for which it created a task last.
    pub last_at: Option<DateTime<Utc>>,
    /// That task.
    pub last_task_uuid: Option<Uuid>,
    /// Why its last due time has no task: `{code, message, scheduled_at, at}`.
    #[cfg_attr(feature = "openapi", schema(value_type = serde_json::Value))]
    #[sqlx(json(nullable))]
    pub last_problem: Option<Box<RawValue>>,
    /// Since when it is paused.
    pub paused_at: Option<DateTime<Utc>>,
    /// Who paused it.
    pub paused_by: Option<String>,
    /// Why.
    pub pause_reason: Option<String>,
    /// Who created it; its tasks are created with that role's rights.
    pub created_by: String,
    /// When it was created.
    pub created_at: DateTime<Utc>,
}

impl Client {
    /// Creates a schedule; TK003, TK004, TK015 for a retired template, TK021 for a context that doesn't fit it, 23505 when
    /// the name is taken, 22023.
    pub async fn create_schedule(&self, new: &NewSchedule) -> Result<Schedule, Error> {
        let schedule = sqlx::query_as(CREATE)
            .bind(&new.name)
            .bind(&new.cron)
            .bind(&new.template_name)
            .bind(&new.namespace)
            .bind(new.context.as_ref().map(Json))
            .bind(new.timezone.as_deref())
            .bind(new.catch_up.as_deref())
            .bind(new.version.as_deref())
            .fetch_one(self.pool())
            .await?;
        Ok(schedule)
    }

    /// The schedules of a namespace, or of all.
    pub async fn list_schedules(&self, namespace: Option<&str>) -> Result<Vec<Schedule>, Error> {
        let schedules = sqlx::query_as(LIST)
            .bind(namespace)
            .fetch_all(self.pool())
            .await?;
        Ok(schedules)
    }

    /// Pauses a schedule: it creates no tasks until it is resumed. False when it was paused already; TK004.
    pub async fn pause_schedule(
        &self,
        name: &str,
        namespace: &str,
        reason: Option<&str>,
    ) -> Result<bool, Error> {
        let paused = sqlx::query_scalar(
            "select tasker.pause_schedule(name => $1, namespace => $2, reason => $3)",
        )
        .bind(name)
        .bind(namespace)
        .bind(reason)
        .fetch_one(self.pool())
        .await?;
        Ok(paused)
    }

    /// Resumes a paused schedule; of the times missed meanwhile its `catch_up` decides. False when it wasn't paused; TK004.
    pub async fn resume_schedule(&self, name: &str, namespace: &str) -> Result<bool, Error> {
        let resumed =
            sqlx::query_scalar("select tasker.resume_schedule(name => $1, namespace => $2)")
                .bind(name)
                .bind(namespace)
                .fetch_one(self.pool())
                .await?;
        Ok(resumed)
    }

    /// Deletes a schedule; the tasks that it created stay. TK004.
    pub async fn delete_schedule(&self, name: &str, namespace: &str) -> Result<(), Error> {
        sqlx::query("select tasker.delete_schedule(name => $1, namespace => $2)")
            .bind(name)
            .bind(namespace)
            .execute(self.pool())
            .await?;
        Ok(())
    }

    /// Creates the tasks of a schedule for all its times in `[from, to)` that have had none, and says how many; TK004, TK022
    /// when those are too many, 22023 unless `from` is before `to`.
    pub async fn backfill_schedule(
        &self,
        name: &str,
        namespace: &str,
        from: DateTime<Utc>,
        to: DateTime<Utc>,
    ) -> Result<i32, Error> {
        let count = sqlx::query_scalar(
            "select tasker.backfill_schedule(name => $1, \"from\" => $3, \"to\" => $4, namespace => $2)",
        )
        .bind(name)
        .bind(namespace)
        .bind(from)
        .bind(to)
        .fetch_one(self.pool())
        .await?;
        Ok(count)
    }
}
