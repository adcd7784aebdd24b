//! A PostgreSQL where work is committed with the clock moved by hand, and its history folded into statistics.

use anyhow::{Context, ensure};
use serde_json::Value;
use sqlx::{Connection, Executor, PgConnection};

use crate::cluster::OwnCluster;

/// More rounds of maintenance than any test needs.
const ROUNDS: usize = 5000;
/// What is settled is folded after this pause.
const PAUSE_SECONDS: f64 = 6.0;

/// A cluster of one test's own and a session in it. Only rows whose transactions have ended are folded, wherever in the cluster they run.
#[derive(Debug)]
pub struct Figures {
    /// The cluster.
    pub own: OwnCluster,
    /// The session that works, its clock standing still.
    pub session: PgConnection,
    /// Seconds after the beginning of 2030.
    seconds: f64,
}

impl Figures {
    /// A new cluster with templates.
    pub async fn new(templates: &[&str]) -> anyhow::Result<Self> {
        let own = OwnCluster::start().await?;
        let session = PgConnection::connect(&own.url()).await?;
        let mut figures = Self {
            own,
            session,
            seconds: 0.0,
        };
        figures.goes_on(0.0).await?;
        for template in templates {
            sqlx::query("select * from tasker.register_template($1::text)")
                .bind(template)
                .execute(&mut figures.session)
                .await?;
        }
        Ok(figures)
    }

    /// Lets time go on by so many seconds.
    pub async fn goes_on(&mut self, seconds: f64) -> anyhow::Result<()> {
        self.seconds += seconds;
        let clock = format!(
            "select tasker._set_now(timestamptz '2030-01-01 12:00:00+00' + {} * interval '1 second')",
            self.seconds
        );
        self.run(&clock).await
    }

    /// One more session, its clock not moved.
    pub async fn another(&self) -> anyhow::Result<PgConnection> {
        Ok(PgConnection::connect(&self.own.url()).await?)
    }

    /// Runs statements.
    pub async fn run(&mut self, sql: &str) -> anyhow::Result<()> {
        self.session
            .execute(sqlx::raw_sql(sql))
            .await
            .with_context(|| sql.to_owned())?;
        Ok(())
    }

    /// The rows that a query gives, as objects.
    pub async fn rows(&mut self, sql: &str) -> anyhow::Result<Vec<Value>> {
        sqlx::query_scalar(&format!("select to_jsonb(r) from ({sql}) r"))
            .fetch_all(&mut self.session)
            .await
            .with_context(|| sql.to_owned())
    }

    /// The one number that a query gives.
    pub async fn number(&mut self, sql: &str) -> anyhow::Result<i64> {
        sqlx::query_scalar(&format!("select ({sql})::bigint"))
            .fetch_one(&mut self.session)
            .await
            .with_context(|| sql.to_owned())
    }

    /// Runs maintenance, time going on, until all history is folded; gives how many rows that were.
    pub async fn folded(&mut self) -> anyhow::Result<i64> {
        let mut folded = 0;
        for _ in 0..ROUNDS {
            folded += self
                .number("select sum(processed) from tasker.run_maintenance() where job = 'fold_statistics'")
                .await?;
            if self.number("tasker._statistics_lag()").await? == 0 {
                return Ok(folded);
            }
            self.goes_on(PAUSE_SECONDS).await?;
        }
        anyhow::bail!("history is still not folded")
    }

    /// Requires that the counts of states are those of the rows, and that every invariant holds.
    pub async fn hold(&mut self) -> anyhow::Result<()> {
        let counted = self
            .rows("select template_id, is_task, state, count from tasker.state_counts where count <> 0 order by 1, 2, 3")
            .await?;
        let real = self
            .rows(
                "select * from (
                   select template_id, false as is_task, state, count(*) from tasker.steps
                   where state not in ('pending', 'complete', 'error', 'cancelled', 'resolved_manually') group by 1, 2, 3
                   union all
                   select template_id, true, state, count(*) from tasker.tasks where state <> 'pending' and finished_at is null group by 1, 2, 3
                 ) c order by 1, 2, 3",
            )
            .await?;
        ensure!(counted == real, "counted {counted:#?}, there are {real:#?}");
        let violations = self.rows("select * from tasker.verify()").await?;
        ensure!(violations.is_empty(), "verify() says: {violations:#?}");
        Ok(())
    }
}

/// Claims whatever is ready and completes it, until nothing is; gives how many steps that were.
pub async fn drain(session: &mut PgConnection) -> anyhow::Result<i64> {
    let mut done = 0;
    loop {
        let (outcomes, count): (Option<Value>, i64) = sqlx::query_as(
            "select jsonb_agg(jsonb_build_object('step_uuid', c.step_uuid, 'attempt', c.attempt, 'status', 'complete', 'result', 1)), count(*)
             from tasker.claim_steps('w', '{default,shop}', 100) c",
        )
        .fetch_one(&mut *session)
        .await?;
        let Some(outcomes) = outcomes else {
            return Ok(done);
        };
        sqlx::query("select * from tasker.finish_steps('w', $1)")
            .bind(outcomes)
            .execute(&mut *session)
            .await?;
        done += count;
    }
}
