//! Sessions that run SQL steps. Which step one gets is the engine's choice; the model says which it may get.

use std::time::Duration;

use anyhow::{Context, ensure};
use sqlx::{Connection, Executor, PgConnection};
use uuid::Uuid;

use super::Run;
use crate::database::TestDatabase;
use crate::eventually;
use crate::model::Place;

const WITHIN: Duration = Duration::from_mins(1);

/// What a step's function answers is said by its session.
const FUNCTION: &str = "
create role {role};
grant usage on schema tasker to {role};
grant execute on all functions in schema tasker to {role};
create schema model authorization {role};
set role {role};
create function model.step(context jsonb, inputs jsonb, dependency_results jsonb) returns jsonb language plpgsql as $f$
begin
  if current_setting('model.answer') = '' then
    raise exception 'told apart: %', clock_timestamp();
  end if;
  return current_setting('model.answer')::jsonb;
end $f$";

/// A session, and the step that it has claimed.
#[derive(Debug)]
pub(super) struct Runner {
    session: PgConnection,
    pid: i32,
    claimed: Option<(Place, i32)>,
}

/// Makes the function, and lets a session register templates as its owner.
pub(super) async fn prepare(
    database: &TestDatabase,
    session: &mut PgConnection,
) -> anyhow::Result<()> {
    let statements = FUNCTION.replace("{role}", &format!("owner_of_{}", database.name()));
    session.execute(sqlx::raw_sql(&statements)).await?;
    Ok(())
}

impl Runner {
    pub(super) async fn new(database: &TestDatabase) -> anyhow::Result<Self> {
        let mut session = database.session().await?;
        let pid = sqlx::query_scalar("select pg_backend_pid()")
            .fetch_one(&mut session)
            .await?;
        Ok(Self {
            session,
            pid,
            claimed: None,
        })
    }

    pub(super) const fn session(&mut self) -> &mut PgConnection {
        &mut self.session
    }
}

impl Run {
    /// A session runs the step that it has claimed, if it has one, and claims another.
    pub(super) async fn run_sql_step(&mut self) -> anyhow::Result<()> {
        let index = self.chance.below(self.runners.len());
        let claim_next = !self.chance.once_in(6);
        let fails = self.chance.once_in(4);
        let claimed = self.runners[index].claimed.take();
        let (result, read) = self.fields(false);
        let answer = if fails {
            String::new()
        } else {
            result.to_string()
        };
        let is_held = claimed.is_some_and(|(place, attempt)| {
            if fails {
                self.model.fail(place, attempt, true)
            } else {
                self.model.complete(place, attempt, read)
            }
        });
        self.model.settle();
        let expected = claimed.map(|_| match (is_held, fails) {
            (true, true) => "failed",
            (true, false) => "complete",
            (false, _) => "lost",
        });
        self.trail.push(format!(
            "runner {index}: {answer:?} of {claimed:?} -- {expected:?}"
        ));
        let session = &mut self.runners[index].session;
        sqlx::query("select set_config('model.answer', $1, false)")
            .bind(&answer)
            .execute(&mut *session)
            .await?;
        let (ran, outcome, more): (Option<Uuid>, Option<String>, bool) =
            sqlx::query_as("select step_uuid, outcome, more from tasker.run_sql_step($1)")
                .bind(claim_next)
                .fetch_one(&mut *session)
                .await?;
        let key = claimed.map(|(place, _)| self.key(place));
        let outcome = outcome.map(|outcome| match outcome.as_str() {
            "cancelled" => "lost".to_owned(),
            _ => outcome,
        });
        ensure!(
            (ran, outcome.as_deref()) == (key, expected),
            "ran {ran:?}: {outcome:?}, in the model {key:?}: {expected:?}"
        );
        self.take_claimed(index, claim_next, more).await
    }

    /// The model gives the step away that the database has.
    async fn take_claimed(
        &mut self,
        index: usize,
        claim_next: bool,
        more: bool,
    ) -> anyhow::Result<()> {
        let pid = self.runners[index].pid;
        let claimed: Option<(Uuid, i32)> =
            sqlx::query_as("select step_uuid, attempt from tasker.sql_runs where pid = $1")
                .bind(pid)
                .fetch_optional(self.session())
                .await?;
        ensure!(
            claimed.is_some() == more,
            "{more}, and claimed is {claimed:?}"
        );
        let ready = self.model.sql_steps();
        let Some((key, attempt)) = claimed else {
            ensure!(
                ready.is_empty() || !claim_next,
                "nothing is claimed, though {ready:?} are ready"
            );
            return Ok(());
        };
        let mut ready = ready.into_iter();
        let place = ready
            .find(|&place| self.key(place) == key)
            .with_context(|| {
                format!(
                    "step {key} is claimed, which is not ready: {}",
                    self.about(key)
                )
            })?;
        self.trail.push(format!("runner {index} has claimed {key}"));
        self.model.claim_sql(place);
        self.runners[index].claimed = Some((place, attempt));
        Ok(())
    }

    /// A session that runs SQL steps ends, and with it the attempt that it had claimed.
    pub(super) async fn lose_runner(&mut self, database: &TestDatabase) -> anyhow::Result<()> {
        let index = self.chance.below(self.runners.len());
        self.trail.push(format!("runner {index} is gone"));
        let runner = std::mem::replace(&mut self.runners[index], Runner::new(database).await?);
        self.pass(0).await?;
        runner.session.close().await?;
        if let Some((place, attempt)) = runner.claimed {
            self.model.lose_session(place, attempt);
        }
        let pid = runner.pid;
        let session = self.session();
        eventually("the session is gone", WITHIN, async || {
            let is_gone: bool =
                sqlx::query_scalar("select not exists (select from pg_stat_get_activity($1))")
                    .bind(pid)
                    .fetch_one(&mut *session)
                    .await?;
            Ok(is_gone.then_some(()))
        })
        .await
    }
}
