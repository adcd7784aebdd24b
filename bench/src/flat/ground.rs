//! A database to drain backlogs of linear 4 in, with nothing else in it.

use sqlx::{Connection, PgConnection};
use tasker_client::Client;

use super::statistics;
use crate::drain;
use crate::meter::Meter;
use crate::shapes::{self, Shape, UNSERVED};
use crate::stage::Stage;

/// With which everything is drained here.
pub(super) const CONNECTIONS: u32 = 2;
/// Finished steps that a plain database begins with.
const SOME: usize = 10_000;

/// One such database.
pub(super) struct Ground {
    pub(super) stage: Stage,
    meter: Meter,
    /// A session of a superuser, to prepare the database with.
    pub(super) session: PgConnection,
    workers: Vec<Client>,
}

/// One drain.
#[derive(Debug, Clone, Copy)]
pub(super) struct Round {
    pub(super) steps_per_second: f64,
    /// Microseconds of processor time a step, of all of PostgreSQL's processes.
    pub(super) processor_us: f64,
}

impl Ground {
    /// Makes one whose tables are empty.
    pub(super) async fn empty(stage: &Stage, database: &str) -> anyhow::Result<Self> {
        let stage = stage.beside(database, &[shapes::linear(UNSERVED)]).await?;
        Ok(Self {
            meter: Meter::connect(&stage).await?,
            session: PgConnection::connect(&stage.url()).await?,
            workers: Vec::new(),
            stage,
        })
    }

    /// Makes one with ten thousand finished steps and the statistics of these.
    pub(super) async fn with_some_finished(stage: &Stage, database: &str) -> anyhow::Result<Self> {
        let mut ground = Self::empty(stage, database).await?;
        ground.finish_some().await?;
        statistics::settle(&mut ground.session).await?;
        Ok(ground)
    }

    /// Runs ten thousand steps.
    pub(super) async fn finish_some(&mut self) -> anyhow::Result<()> {
        self.drain(SOME).await
    }

    /// Creates a backlog of so many steps and drains it, in sessions of its own.
    pub(super) async fn drain(&mut self, steps: usize) -> anyhow::Result<()> {
        let (stage, meter) = (&self.stage, &mut self.meter);
        drain::drain(stage, meter, Shape::Linear, steps, CONNECTIONS).await?;
        Ok(())
    }

    /// Opens the sessions of `round`.
    pub(super) async fn open_sessions(&mut self) -> anyhow::Result<()> {
        self.workers = drain::open(&self.stage, CONNECTIONS).await?;
        Ok(())
    }

    /// Ends them.
    pub(super) async fn close_sessions(&mut self) {
        for worker in self.workers.drain(..) {
            worker.close().await;
        }
    }

    /// Creates a backlog of so many steps and drains it, in sessions that stay: so do those of workers.
    pub(super) async fn round(&mut self, steps: usize) -> anyhow::Result<Round> {
        let shape = Shape::Linear;
        let (backlog, tasks) = drain::lay_up(&self.stage, &mut self.meter, shape, steps).await?;
        let steps = tasks * shape.steps();
        let before = self.meter.processor_us()?;
        drain::work_off_over(&self.workers, steps).await?;
        let used = self.meter.processor_us()? - before;
        let seconds = self.meter.span_seconds(backlog.first, backlog.last).await?;
        Ok(Round {
            steps_per_second: steps as f64 / seconds,
            processor_us: used / steps as f64,
        })
    }

    /// Drops it.
    pub(super) async fn end(self) -> anyhow::Result<()> {
        self.session.close().await?;
        self.meter.close().await?;
        self.stage.drop_database()
    }
}
