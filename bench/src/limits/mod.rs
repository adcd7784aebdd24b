//! What the machine, PGMQ and RabbitMQ can do without Tasker.
//!
//! | module | holds |
//! |---|---|
//! | `commits` | one-row commits by pgbench |
//! | `rounds` | what is measured of a message queue |
//! | `pgmq` | PGMQ, in the measured database |
//! | `rabbitmq` | RabbitMQ, where it is installed, on a broker of its own |

pub(crate) mod commits;
pub(crate) mod pgmq;
pub(crate) mod rabbitmq;
pub(crate) mod rounds;

use serde::Serialize;

use crate::options::Extent;
use crate::stage::Stage;
use commits::{CommitRun, Commits};
use rabbitmq::RabbitMq;
use rounds::QueueRounds;

/// The numbers of clients and of connections that everything is measured with.
pub(crate) const CLIENTS: [u32; 4] = [1, 2, 4, 8];

/// The machine's limits, measured in the same run.
#[derive(Debug, Serialize)]
pub(crate) struct Limits {
    /// One-row commits by pgbench, by the number of clients; each is the mean of a run before and one after.
    pub(crate) commits: Vec<Commits>,
    /// PGMQ's own functions: send, read, delete.
    pub(crate) pgmq: QueueRounds,
    /// Publish, consume, acknowledge.
    pub(crate) rabbitmq: RabbitMq,
}

impl Limits {
    /// Measures what comes after all else, and takes the commits before it in.
    pub(crate) async fn complete(
        stage: &Stage,
        extent: Extent,
        before: Vec<CommitRun>,
    ) -> anyhow::Result<Self> {
        let pgmq = pgmq::rounds(stage, extent).await?;
        let rabbitmq = rabbitmq::rounds(stage, extent).await;
        let after = commits::runs(stage, extent).await?;
        Ok(Self {
            commits: commits::merge(before, after)?,
            pgmq,
            rabbitmq,
        })
    }

    /// c: the median of a one-row commit with one client.
    pub(crate) fn commit_ms(&self) -> f64 {
        self.commits.first().map_or(0.0, |one| one.latency.p50_ms)
    }

    /// C8: one-row commits a second with eight clients.
    pub(crate) fn commits_per_second_of_8(&self) -> f64 {
        self.commits.last().map_or(0.0, |eight| eight.per_second)
    }
}
