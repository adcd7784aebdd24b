//! A connection that a worker keeps from one call to the next.

use std::time::Duration;

use sqlx::Postgres;
use sqlx::pool::PoolConnection;
use tokio::time::Instant;

use super::{ClaimRequest, ClaimedStep, FinishRequest, Finished, claim_steps, finish_steps};
use crate::connection::{Client, TEST_AFTER_IDLE};
use crate::error::Error;

/// A connection kept for longer goes back to its pool, which ends those that are old.
const LONGEST_KEPT: Duration = Duration::from_mins(10);

impl Client {
    /// A line for a worker's calls, one after another. It takes a connection at its first call.
    #[must_use]
    pub fn work_line(&self) -> WorkLine {
        WorkLine {
            client: self.clone(),
            kept: None,
        }
    }
}

/// Claims and finishes over one connection as long as calls follow each other closely.
///
/// Giving a connection back to its pool costs a round trip, and the next call would find another server process, whose
/// memory isn't warm. A connection that failed, that lay idle or that is old goes back, and the next call takes a new one.
#[derive(Debug)]
pub struct WorkLine {
    client: Client,
    kept: Option<Kept>,
}

#[derive(Debug)]
struct Kept {
    connection: PoolConnection<Postgres>,
    taken_at: Instant,
    used_at: Instant,
}

impl WorkLine {
    /// [`Client::claim_steps`] over the line.
    pub async fn claim_steps(&mut self, request: &ClaimRequest) -> Result<Vec<ClaimedStep>, Error> {
        let mut kept = self.take().await?;
        let steps = claim_steps(&mut *kept.connection, request).await?;
        self.keep(kept);
        Ok(steps)
    }

    /// [`Client::finish_steps`] over the line.
    pub async fn finish_steps(&mut self, request: &FinishRequest) -> Result<Finished, Error> {
        let mut kept = self.take().await?;
        let finished = finish_steps(&mut *kept.connection, request).await?;
        self.keep(kept);
        Ok(finished)
    }

    /// The connection leaves the line for the length of a call: one that fails or is dropped half way keeps nothing.
    async fn take(&mut self) -> Result<Kept, Error> {
        match self.kept.take().filter(Kept::is_fresh) {
            Some(kept) => Ok(kept),
            None => Ok(Kept::new(self.client.pool().acquire().await?)),
        }
    }

    fn keep(&mut self, kept: Kept) {
        self.kept = Some(Kept {
            used_at: Instant::now(),
            ..kept
        });
    }
}

impl Kept {
    fn new(connection: PoolConnection<Postgres>) -> Self {
        let now = Instant::now();
        Self {
            connection,
            taken_at: now,
            used_at: now,
        }
    }

    fn is_fresh(&self) -> bool {
        self.used_at.elapsed() <= TEST_AFTER_IDLE && self.taken_at.elapsed() <= LONGEST_KEPT
    }
}
