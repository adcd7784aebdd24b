//! When to look at a task again: when the feed of events has news of it.

use std::time::Duration;

use tasker_client::{Client, Error, EventFilter, Events};
use tokio::time::Instant;
use uuid::Uuid;

/// The shortest time between two looks, however much happens.
const AT_MOST_EVERY: Duration = Duration::from_millis(200);
/// When to look without news: somebody's long transaction may hold the feed, which is then behind what can be seen.
const AT_LEAST_EVERY: Duration = Duration::from_secs(5);
/// How often to look where the feed can't be read.
const WITHOUT_FEED: Duration = Duration::from_secs(1);

/// News of one task.
pub(super) struct News<'a> {
    client: &'a Client,
    task_uuid: Uuid,
    /// None before it has begun, and where it can't be had.
    events: Option<Events>,
    is_refused: bool,
    looked_at: Instant,
}

impl<'a> News<'a> {
    pub(super) fn of(client: &'a Client, task_uuid: Uuid) -> Self {
        Self {
            client,
            task_uuid,
            events: None,
            is_refused: false,
            looked_at: Instant::now(),
        }
    }

    /// To be called before each look, so that whatever happens meanwhile is news. Fails while the database is away.
    pub(super) async fn begin(&mut self) -> Result<(), Error> {
        self.looked_at = Instant::now();
        if self.events.is_some() || self.is_refused {
            return Ok(());
        }
        match self.client.end_of_events().await {
            Ok(cursor) => {
                let filter = EventFilter {
                    task_uuid: Some(self.task_uuid),
                    ..EventFilter::default()
                };
                self.events = Some(self.client.events(filter, Some(cursor)));
                Ok(())
            }
            Err(error) if error.is_transient() => Err(error),
            Err(_) => {
                self.is_refused = true;
                Ok(())
            }
        }
    }

    /// Waits until it is worth looking again.
    pub(super) async fn wait(&mut self) {
        let Some(events) = &mut self.events else {
            return tokio::time::sleep_until(self.looked_at + WITHOUT_FEED).await;
        };
        let is_refused = tokio::select! {
            page = events.next_page() => page.is_err(),
            () = tokio::time::sleep_until(self.looked_at + AT_LEAST_EVERY) => false,
        };
        if is_refused {
            self.events = None;
            self.is_refused = true;
        }
        tokio::time::sleep_until(self.looked_at + AT_MOST_EVERY).await;
    }
}
