//! Statements in several sessions at once: one that runs while the test goes on, one that holds what it locked, and what workers say there.

use std::time::Duration;

use serde_json::Value;
use sqlx::{Executor, PgConnection, PgPool};
use tasker_client::{ClaimRequest, ClaimedStep, Client, Definition};
use tokio::task::JoinHandle;

use crate::TestDatabase;
use crate::following::{is_blocked_by, process_of};
use crate::waiting::eventually;

const GOES_ON_WITHIN: Duration = Duration::from_secs(10);

/// A database with these templates.
pub async fn database_with(templates: &[&str]) -> anyhow::Result<TestDatabase> {
    let database = TestDatabase::new().await?;
    for template in templates {
        let definition = Definition::Yaml(template);
        database
            .client()
            .register_template(definition, None)
            .await?;
    }
    Ok(database)
}

/// The SQLSTATE with which a statement failed.
pub type Code = Option<String>;

/// Runs statements, and gives the SQLSTATE with which they failed.
pub async fn tried(session: &mut PgConnection, statement: &str) -> Code {
    let done = session.execute(sqlx::raw_sql(statement)).await;
    done.err().map(|error| {
        let code = error
            .as_database_error()
            .and_then(sqlx::error::DatabaseError::code);
        code.map_or_else(|| error.to_string(), std::borrow::Cow::into_owned)
    })
}

/// A statement that runs while the test goes on.
#[derive(Debug)]
pub struct Running {
    /// The server process behind its session.
    pub process: i32,
    ends: JoinHandle<Code>,
}

impl Running {
    /// Begins a statement in a session of its own.
    pub async fn begin(database: &TestDatabase, statement: String) -> anyhow::Result<Self> {
        let mut session = database.session().await?;
        let process = process_of(&mut session).await?;
        let ends = tokio::spawn(async move { tried(&mut session, &statement).await });
        Ok(Self { process, ends })
    }

    /// Waits until it has ended, or waits for a lock.
    pub async fn comes_to_rest(&self, pool: &PgPool) -> anyhow::Result<()> {
        let query = "select exists (select from pg_stat_activity a where a.pid = $1 and a.wait_event_type = 'Lock')";
        eventually("the statement ends or waits", GOES_ON_WITHIN, async || {
            let waits: bool = sqlx::query_scalar(query)
                .bind(self.process)
                .fetch_one(pool)
                .await?;
            Ok((waits || self.ends.is_finished()).then_some(()))
        })
        .await
    }

    /// The SQLSTATE with which it failed, when it has ended.
    pub async fn ended(self) -> anyhow::Result<Code> {
        Ok(tokio::time::timeout(GOES_ON_WITHIN, self.ends).await??)
    }
}

/// A session that holds what a statement locked.
pub async fn holder(
    database: &TestDatabase,
    statement: &str,
) -> anyhow::Result<(PgConnection, i32)> {
    let mut session = database.session().await?;
    let process = process_of(&mut session).await?;
    session.execute("begin").await?;
    session.execute(sqlx::raw_sql(statement)).await?;
    Ok((session, process))
}

/// Runs the first in an open transaction, begins the second, which must wait for it, and commits. Gives the second's SQLSTATE.
pub async fn second_waits(
    database: &TestDatabase,
    first: &str,
    second: String,
) -> anyhow::Result<Code> {
    let (mut session, process) = holder(database, first).await?;
    let second = Running::begin(database, second).await?;
    is_blocked_by(database.pool(), second.process, process).await?;
    session.execute("commit").await?;
    second.ended().await
}

/// Claims steps of the default namespace for a minute.
pub async fn claim(client: &Client, max_steps: u32) -> anyhow::Result<Vec<ClaimedStep>> {
    let request = ClaimRequest {
        worker_id: "tester".to_owned(),
        namespaces: vec!["default".to_owned()],
        max_steps,
        lease: Duration::from_mins(1),
        handlers: None,
    };
    Ok(client.claim_steps(&request).await?)
}

/// The call that completes a step.
#[must_use]
pub fn completion(step: &ClaimedStep, result: &Value) -> String {
    format!(
        "select tasker.complete_step('{}', {}, '{result}')",
        step.step_uuid, step.attempt
    )
}
