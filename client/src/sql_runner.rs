//! A session that runs the SQL functions of steps. What it has claimed belongs to it, so it is one connection, not a pool's.

use std::time::Duration;

use serde::Serialize;
use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions, Connection, FromRow, PgConnection};
use uuid::Uuid;

use crate::error::Error;

/// A connection that claims steps with SQL functions and runs them.
#[derive(Debug)]
pub struct SqlRunner {
    session: PgConnection,
    /// The extension is known to know of SQL steps.
    is_known: bool,
}

/// What a call of [`SqlRunner::run`] came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, FromRow)]
pub struct SqlStepRun {
    /// The step whose function was called; `None` when none had been claimed.
    pub step_uuid: Option<Uuid>,
    /// What became of its attempt: `complete`, `failed`, `lost`, `cancelled` or `timed_out`.
    pub outcome: Option<String>,
    /// Whether another step is claimed now, which the next call runs.
    pub more: bool,
}

impl SqlRunner {
    /// Connects, within the time given.
    pub async fn connect(
        url: &str,
        application_name: &str,
        within: Duration,
    ) -> Result<Self, Error> {
        let options = url
            .parse::<PgConnectOptions>()?
            .application_name(application_name);
        let session = tokio::time::timeout(within, options.connect())
            .await
            .map_err(|_| sqlx::Error::PoolTimedOut)??;
        Ok(Self {
            session,
            is_known: false,
        })
    }

    /// Whether there are templates with SQL functions that no process of the database itself runs. Before the extension knows of such steps there are none.
    pub async fn is_needed(&mut self) -> Result<bool, Error> {
        if !self.is_known {
            self.is_known = sqlx::query_scalar(
                "select to_regprocedure('tasker.needs_sql_runners()') is not null",
            )
            .fetch_one(&mut self.session)
            .await?;
        }
        if !self.is_known {
            return Ok(false);
        }
        let needed = sqlx::query_scalar("select tasker.needs_sql_runners()")
            .fetch_one(&mut self.session)
            .await?;
        Ok(needed)
    }

    /// Runs the step that this session has claimed, if it has one, and claims the next unless that is not wanted. Each call is a transaction of its own.
    pub async fn run(&mut self, claim_next: bool) -> Result<SqlStepRun, Error> {
        let run = sqlx::query_as(
            "select step_uuid, outcome, more from tasker.run_sql_step(claim_next => $1)",
        )
        .bind(claim_next)
        .fetch_one(&mut self.session)
        .await?;
        Ok(run)
    }

    /// Ends the session.
    pub async fn close(self) -> Result<(), Error> {
        self.session.close().await?;
        Ok(())
    }
}
