//! Tasks that are created one by one over several connections: each at a time of its own that is fixed in advance, or as fast as it goes.
//! With fixed times a slow answer doesn't hold back the tasks that come after it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::Context;
use tasker_client::{Client, NewTask};
use tokio::task::JoinSet;
use tokio::time::Instant;
use uuid::Uuid;

use crate::stage::Stage;

const CONNECTIONS: usize = 4;
/// What is asked to begin has begun by then.
const LEAD: Duration = Duration::from_millis(50);

/// When each task is due.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Arrivals {
    count: usize,
    /// From one to the next.
    gap: Duration,
}

/// The tasks that were created.
#[derive(Debug)]
pub(crate) struct Arrived {
    pub(crate) first: Uuid,
    pub(crate) last: Uuid,
    pub(crate) count: usize,
    /// How long after its time each call was made, in milliseconds.
    pub(crate) late_ms: Vec<f64>,
}

impl Arrivals {
    /// So many, all due at once.
    pub(crate) fn at_once(count: usize) -> Self {
        Self {
            count,
            gap: Duration::ZERO,
        }
    }

    /// Evenly for so long, at least one.
    pub(crate) fn evenly(a_second: f64, long: Duration) -> Self {
        let count = (a_second * long.as_secs_f64()).round() as usize;
        Self {
            count: count.max(1),
            gap: Duration::from_secs_f64(1.0 / a_second),
        }
    }

    /// After the beginning; none when all have come.
    fn due(self, number: usize) -> Option<Duration> {
        (number < self.count).then(|| self.gap.mul_f64(number as f64))
    }
}

/// Creates a task for each arrival.
pub(crate) async fn create(
    stage: &Stage,
    task: &NewTask,
    arrivals: Arrivals,
) -> anyhow::Result<Arrived> {
    let next = Arc::new(AtomicUsize::new(0));
    let mut clients = Vec::new();
    for _ in 0..CONNECTIONS {
        clients.push(stage.client("tasker-bench arrivals", 1).await?);
    }
    let began = Instant::now() + LEAD;
    let mut creators = JoinSet::new();
    for client in clients {
        let (task, next) = (task.clone(), next.clone());
        creators.spawn(create_due(client, task, arrivals, began, next));
    }
    let (mut keys, mut late_ms) = (Vec::new(), Vec::new());
    while let Some(ended) = creators.join_next().await {
        for (key, late) in ended?? {
            keys.push(key);
            late_ms.push(late.as_secs_f64() * 1_000.0);
        }
    }
    Ok(Arrived {
        first: *keys.iter().min().context("no tasks")?,
        last: *keys.iter().max().context("no tasks")?,
        count: keys.len(),
        late_ms,
    })
}

/// Creates whichever task is due next, until all are created; gives their keys and how late each call was.
async fn create_due(
    client: Client,
    task: NewTask,
    arrivals: Arrivals,
    began: Instant,
    next: Arc<AtomicUsize>,
) -> anyhow::Result<Vec<(Uuid, Duration)>> {
    let mut created = Vec::new();
    while let Some(due) = arrivals.due(next.fetch_add(1, Ordering::Relaxed)) {
        tokio::time::sleep_until(began + due).await;
        let late = began.elapsed().saturating_sub(due);
        created.push((client.create_task(&task).await?, late));
    }
    client.close().await;
    Ok(created)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tasks_arrive_evenly_until_the_time_is_over() {
        let arrivals = Arrivals::evenly(50.0, Duration::from_secs(2));
        assert_eq!(arrivals.due(0), Some(Duration::ZERO));
        assert_eq!(arrivals.due(25), Some(Duration::from_millis(500)));
        assert_eq!(arrivals.due(99), Some(Duration::from_millis(1_980)));
        assert_eq!(arrivals.due(100), None);
    }

    #[test]
    fn at_least_one_task_arrives() {
        let arrivals = Arrivals::evenly(0.1, Duration::from_secs(1));
        assert_eq!(arrivals.due(0), Some(Duration::ZERO));
        assert_eq!(arrivals.due(1), None);
    }

    #[test]
    fn tasks_that_arrive_at_once_are_all_due_from_the_beginning() {
        let arrivals = Arrivals::at_once(3);
        assert_eq!(arrivals.due(2), Some(Duration::ZERO));
        assert_eq!(arrivals.due(3), None);
    }
}
