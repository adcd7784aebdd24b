//! The raw round of a message queue, measured the same way whatever the queue.

use std::time::Instant;

use anyhow::Context;
use serde::Serialize;

use crate::distribution::Distribution;

/// How many messages go together where they don't go one by one.
pub(super) const HUNDRED: usize = 100;

/// A message queue: into it, out of it, away.
pub(super) trait Queue {
    /// One message there and back.
    async fn one(&mut self) -> anyhow::Result<()>;
    /// A hundred messages there and back, each step for all of them.
    async fn hundred(&mut self) -> anyhow::Result<()>;
}

/// A queue's raw round, on one connection.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct QueueRounds {
    /// One message sent, received and done with.
    pub(crate) one_by_one: Distribution,
    pub(crate) one_by_one_messages_per_second: f64,
    /// A hundred at a time.
    pub(crate) hundreds_messages_per_second: f64,
}

/// So many rounds of one message, then a tenth as many of a hundred.
pub(super) async fn measure(queue: &mut impl Queue, rounds: usize) -> anyhow::Result<QueueRounds> {
    let mut times = Vec::new();
    let began = Instant::now();
    for _ in 0..rounds {
        let sent = Instant::now();
        queue.one().await?;
        times.push(sent.elapsed().as_secs_f64() * 1_000.0);
    }
    let one_by_one_seconds = began.elapsed().as_secs_f64();
    let hundreds = (rounds / 10).max(1);
    let began = Instant::now();
    for _ in 0..hundreds {
        queue.hundred().await?;
    }
    let hundreds_seconds = began.elapsed().as_secs_f64();
    Ok(QueueRounds {
        one_by_one: Distribution::of(times).context("no rounds")?,
        one_by_one_messages_per_second: rounds as f64 / one_by_one_seconds,
        hundreds_messages_per_second: (hundreds * HUNDRED) as f64 / hundreds_seconds,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Default)]
    struct Counted {
        ones: usize,
        hundreds: usize,
    }

    impl Queue for Counted {
        async fn one(&mut self) -> anyhow::Result<()> {
            self.ones += 1;
            Ok(())
        }

        async fn hundred(&mut self) -> anyhow::Result<()> {
            self.hundreds += 1;
            Ok(())
        }
    }

    #[tokio::test]
    async fn a_tenth_as_many_rounds_are_of_a_hundred_messages() {
        let mut queue = Counted::default();
        let measured = measure(&mut queue, 50).await.unwrap();
        assert_eq!((queue.ones, queue.hundreds), (50, 5));
        assert_eq!(measured.one_by_one.count, 50);
    }

    #[tokio::test]
    async fn few_rounds_still_have_one_of_a_hundred_messages() {
        let mut queue = Counted::default();
        measure(&mut queue, 3).await.unwrap();
        assert_eq!((queue.ones, queue.hundreds), (3, 1));
    }
}
