//! The stream of events, over either transport.

use std::collections::VecDeque;
use std::time::Duration;

use futures_util::stream::{self, Stream};

use super::{Tasker, Transport};
use crate::connection::Client;
use crate::error::Error;
use crate::events::{Event, EventFilter, Events};
#[cfg(feature = "rest")]
use crate::rest::events::RestEvents;

/// The pause before it is tried again to take a place in the feed.
const PAUSE: Duration = Duration::from_millis(500);

/// Where a stream of events begins.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum EventStart {
    /// With the oldest event that is kept.
    Oldest,
    /// With what comes.
    #[default]
    Now,
    /// After this cursor, that of the last event which was dealt with.
    After(String),
}

impl Tasker {
    /// Follows the state changes of tasks and steps: of all, of a namespace's, or of one task's until it has ended. It connects at the first [`EventStream::next`].
    #[must_use]
    pub fn events(&self, filter: EventFilter, start: EventStart) -> EventStream {
        let source = match &self.transport {
            Transport::Sql(client, _) => {
                Source::Sql(Box::new(SqlEvents::new(client.clone(), filter, start)))
            }
            #[cfg(feature = "rest")]
            Transport::Rest(client) => {
                Source::Rest(Box::new(RestEvents::new(client.clone(), filter, start)))
            }
        };
        EventStream { source }
    }
}

/// Gives each event once, in order, and misses none, whatever commits meanwhile, and also while the database or the server is away for a time.
///
/// A stream of one task ends after the task's last event; one that begins after that has nothing to give, unless the task was revived since. Over SQL each stream has a connection to the database of its own, as
/// [`Events`] tells; over REST one to the server.
#[derive(Debug)]
pub struct EventStream {
    source: Source,
}

#[derive(Debug)]
enum Source {
    Sql(Box<SqlEvents>),
    #[cfg(feature = "rest")]
    Rest(Box<RestEvents>),
}

impl EventStream {
    /// The next event; none when it was the stream of a task that has ended. Waits on while the database or the server is away; any other error may be met again at the next call, and nothing is lost by it: TK001
    /// when the task isn't there, 22023 for a cursor that is none. May be dropped at any time, as in `select!`.
    pub async fn next(&mut self) -> Option<Result<Event, Error>> {
        match &mut self.source {
            Source::Sql(events) => events.next().await,
            #[cfg(feature = "rest")]
            Source::Rest(events) => events.next().await,
        }
    }

    /// Where a later stream goes on: after the last event that this one gave. Before the first it is where this one began, if that is known.
    #[must_use]
    pub fn cursor(&self) -> Option<&str> {
        match &self.source {
            Source::Sql(events) => events.cursor.as_deref(),
            #[cfg(feature = "rest")]
            Source::Rest(events) => events.cursor(),
        }
    }

    /// The same as a [`Stream`].
    pub fn into_stream(self) -> impl Stream<Item = Result<Event, Error>> + Send {
        stream::unfold(self, async |mut events| {
            let event = events.next().await?;
            Some((event, events))
        })
    }

    /// Waits until it has its place in the feed: whatever comes about from now on it will give.
    #[cfg(feature = "rest")]
    pub(super) async fn begin(&mut self) -> Result<(), Error> {
        match &mut self.source {
            Source::Sql(events) => events.begin().await.map(|_| ()),
            Source::Rest(events) => events.begin().await,
        }
    }
}

/// The feed read from the database, as a server gives it.
struct SqlEvents {
    client: Client,
    filter: EventFilter,
    start: EventStart,
    /// None until it has begun.
    events: Option<Events>,
    ready: VecDeque<Event>,
    /// After the last event that was given, or where it began.
    cursor: Option<String>,
    /// The last of the task's own events was its end.
    has_ended: bool,
    is_over: bool,
}

impl std::fmt::Debug for SqlEvents {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SqlEvents")
            .field("filter", &self.filter)
            .field("cursor", &self.cursor)
            .finish_non_exhaustive()
    }
}

impl SqlEvents {
    fn new(client: Client, filter: EventFilter, start: EventStart) -> Self {
        let cursor = match &start {
            EventStart::After(cursor) => Some(cursor.clone()),
            EventStart::Oldest | EventStart::Now => None,
        };
        Self {
            client,
            filter,
            start,
            events: None,
            ready: VecDeque::new(),
            cursor,
            has_ended: false,
            is_over: false,
        }
    }

    async fn next(&mut self) -> Option<Result<Event, Error>> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                self.cursor = Some(event.cursor.clone());
                return Some(Ok(event));
            }
            if self.is_over {
                return None;
            }
            match self.read_page().await {
                Ok(()) => {}
                Err(error) if error.is_transient() => tokio::time::sleep(PAUSE).await,
                Err(error) => return Some(Err(error)),
            }
        }
    }

    async fn read_page(&mut self) -> Result<(), Error> {
        let Some(events) = self.begin().await? else {
            return Ok(());
        };
        let page = events.next_page().await?;
        let own = page.events.iter().rfind(|event| event.step_uuid.is_none());
        if let Some(own) = own {
            self.has_ended = own.task_end().is_some();
        }
        self.is_over = page.is_end && self.has_ended && self.filter.task_uuid.is_some();
        self.ready = page.events.into();
        Ok(())
    }

    /// Takes its place in the feed; none when there is nothing to come of its task any more.
    async fn begin(&mut self) -> Result<Option<&mut Events>, Error> {
        if self.events.is_none() && !self.is_over {
            if self.start == EventStart::Now && self.cursor.is_none() {
                self.cursor = Some(self.client.end_of_events().await?);
            }
            if let (Some(task_uuid), Some(cursor)) = (self.filter.task_uuid, &self.cursor) {
                self.is_over = self.client.task_had_ended(task_uuid, cursor).await?;
            }
            if !self.is_over {
                let events = self.client.events(self.filter.clone(), self.cursor.clone());
                self.events = Some(events);
            }
        }
        Ok(self.events.as_mut().filter(|_| !self.is_over))
    }
}
