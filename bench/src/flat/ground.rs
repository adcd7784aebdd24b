//! A database to drain backlogs of linear 4 in, with nothing else in it.

use sqlx::{Connection, PgConnection};

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
}

impl Ground {
    /// Makes one whose tables are empty.
    pub(super) async fn empty(stage: &Stage, database: &str) -> anyhow::Result<Self> {
        let stage = stage.beside(database, &[shapes::linear(UNSERVED)]).await?;
        Ok(Self {
            meter: Meter::connect(&stage).await?,
            session: PgConnection::connect(&stage.url()).await?,
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
        self.drain(SOME).await?;
        Ok(())
    }

    /// Creates a backlog of so many steps and drains it; gives the steps a second.
    pub(super) async fn drain(&mut self, steps: usize) -> anyhow::Result<f64> {
        let (stage, meter) = (&self.stage, &mut self.meter);
        let drained = drain::drain(stage, meter, Shape::Linear, steps, CONNECTIONS).await?;
        Ok(drained.steps_per_second)
    }

    /// Drops it.
    pub(super) async fn end(self) -> anyhow::Result<()> {
        self.session.close().await?;
        self.meter.close().await?;
        self.stage.drop_database()
    }
}
