//! Over SQL: one reader of the feed, over one connection, for all who wait for tasks of one [`Tasker`](super::Tasker).
//!
//! There is no task of a runtime for it: one of those who wait reads, for all of them, until its own wait is over, and leaves the reader to another. When nobody waits any more there is no reader.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;
use uuid::Uuid;

use crate::connection::Client;
use crate::error::Error;
use crate::events::{EventFilter, Events};

/// What all who wait share.
#[derive(Debug, Default)]
pub(super) struct Lookout {
    waiting: Mutex<HashMap<Uuid, Awaited>>,
    reader: tokio::sync::Mutex<Option<Events>>,
}

/// A task that is waited for.
#[derive(Debug, Default)]
struct Awaited {
    by: usize,
    news: watch::Sender<()>,
}

/// One who waits for a task, as long as this is kept.
#[derive(Debug)]
pub(super) struct Waiting {
    lookout: Arc<Lookout>,
    client: Client,
    task_uuid: Uuid,
    news: watch::Receiver<()>,
}

impl Lookout {
    /// Takes part. Whatever comes about from now on is told by [`Waiting::news`], so look at the task after this.
    pub(super) fn wait_for(self: &Arc<Self>, client: &Client, task_uuid: Uuid) -> Waiting {
        let mut waiting = self.waiting();
        let awaited = waiting.entry(task_uuid).or_default();
        awaited.by += 1;
        Waiting {
            news: awaited.news.subscribe(),
            lookout: Arc::clone(self),
            client: client.clone(),
            task_uuid,
        }
    }

    fn waiting(&self) -> MutexGuard<'_, HashMap<Uuid, Awaited>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads for all, when nobody else does, until there is news of one task.
    async fn read(&self, client: &Client, task_uuid: Uuid) -> Result<(), Error> {
        let mut reader = self.reader.lock().await;
        let Some(events) = reader.as_mut() else {
            let begun = client.end_of_events().await?;
            *reader = Some(client.events(EventFilter::default(), Some(begun)));
            // What came about before has to be seen at the tasks themselves.
            self.tell(|_| true);
            return Ok(());
        };
        loop {
            let page = events.next_page().await?;
            let still = page.events.iter().filter(|event| event.task_stands_still());
            let still: HashSet<Uuid> = still.map(|event| event.task_uuid).collect();
            self.tell(|task_uuid| still.contains(task_uuid));
            if still.contains(&task_uuid) {
                return Ok(());
            }
        }
    }

    /// Tells those who wait for some tasks.
    fn tell(&self, is_told: impl Fn(&Uuid) -> bool) {
        let waiting = self.waiting();
        let told = waiting.iter().filter(|(task_uuid, _)| is_told(task_uuid));
        for (_, awaited) in told {
            awaited.news.send_replace(());
        }
    }
}

impl Waiting {
    /// Waits until the task may have come to where nothing moves it by itself; what came about between two calls is told by the second. May be dropped at any time.
    pub(super) async fn news(&mut self) -> Result<(), Error> {
        tokio::select! {
            // Its other end is kept as long as anybody waits.
            _ = self.news.changed() => Ok(()),
            read = self.lookout.read(&self.client, self.task_uuid) => {
                self.news.mark_unchanged();
                read
            }
        }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let mut waiting = self.lookout.waiting();
        if let Some(awaited) = waiting.get_mut(&self.task_uuid) {
            awaited.by -= 1;
            if awaited.by == 0 {
                waiting.remove(&self.task_uuid);
            }
        }
        if waiting.is_empty()
            && let Ok(mut reader) = self.lookout.reader.try_lock()
        {
            *reader = None;
        }
    }
}
