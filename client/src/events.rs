//! The feed of events: every state change of tasks and steps, listed from a cursor or followed as it comes.

use std::collections::VecDeque;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use sqlx::{FromRow, PgExecutor};
use tasker_rules::task_state::TaskState;
use tokio::time::Instant;
use uuid::Uuid;

use crate::connection::Client;
use crate::error::Error;
use crate::listening::{Heard, Listener};
use crate::pace::{Pace, Step};

const CHANNEL: &str = "tasker_events";
/// Events that a follower reads at once.
const PAGE: u32 = 500;

macro_rules! event_columns {
    () => {
        "cursor, at, task_uuid, step_uuid, step_name, from_state, to_state, event, attempt, actor, metadata, namespace, \
         template_name"
    };
}

const LIST_EVENTS: &str = concat!(
    "select ",
    event_columns!(),
    " from tasker.list_events(after => $1, namespace => $2, task_uuid => $3, \"limit\" => $4)"
);

/// With a bound, which version 0.1.0 of the extension doesn't know.
const LIST_EVENTS_UNTIL: &str = concat!(
    "select ",
    event_columns!(),
    " from tasker.list_events(after => $1, namespace => $2, task_uuid => $3, \"limit\" => $4, until => $5)"
);

/// A change of a task's or a step's state.
#[derive(Debug, Clone, Serialize, Deserialize, FromRow)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Event {
    /// Where a reader is that has dealt with this event; opaque.
    pub cursor: String,
    /// When it came about.
    pub at: DateTime<Utc>,
    /// The task.
    pub task_uuid: Uuid,
    /// The step; none when the event is the task's own.
    pub step_uuid: Option<Uuid>,
    /// The step's name.
    #[cfg_attr(feature = "openapi", schema(example = "validate_order"))]
    pub step_name: Option<String>,
    /// The state before.
    #[cfg_attr(feature = "openapi", schema(example = "enqueued"))]
    pub from_state: Option<String>,
    /// The state after.
    #[cfg_attr(feature = "openapi", schema(example = "in_progress"))]
    pub to_state: String,
    /// What happened.
    #[cfg_attr(feature = "openapi", schema(example = "start"))]
    pub event: String,
    /// The step's attempt.
    pub attempt: Option<i32>,
    /// Who did it.
    pub actor: Option<String>,
    /// More about it.
    #[cfg_attr(feature = "openapi", schema(value_type = serde_json::Value))]
    #[sqlx(json(nullable))]
    pub metadata: Option<Box<RawValue>>,
    /// The namespace of the task's template.
    pub namespace: String,
    /// The name of the task's template.
    pub template_name: String,
}

impl Event {
    /// The terminal state that the task has come to by this event, if it has.
    #[must_use]
    pub fn task_end(&self) -> Option<&str> {
        let is_end = self.step_uuid.is_none()
            && self
                .to_state
                .parse::<TaskState>()
                .is_ok_and(TaskState::is_terminal);
        is_end.then_some(self.to_state.as_str())
    }
}

/// Which events: those that fit every field that is set.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EventFilter {
    /// Of this namespace.
    pub namespace: Option<String>,
    /// Of this task and its steps.
    pub task_uuid: Option<Uuid>,
}

impl EventFilter {
    fn is_everything(&self) -> bool {
        self.namespace.is_none() && self.task_uuid.is_none()
    }
}

/// Which part of the feed to list.
#[derive(Debug, Clone, Copy, Default)]
pub struct EventSpan<'a> {
    /// What comes after this cursor; from the oldest on when left out.
    pub after: Option<&'a str>,
    /// What a reader has had who has come to the end and stands at this cursor.
    pub until: Option<&'a str>,
    /// At most so many, from 1 to 1000; 100 when left out.
    pub limit: Option<u32>,
}

async fn list_events(
    executor: impl PgExecutor<'_>,
    filter: &EventFilter,
    span: EventSpan<'_>,
) -> Result<Vec<Event>, Error> {
    let statement = if span.until.is_some() {
        LIST_EVENTS_UNTIL
    } else {
        LIST_EVENTS
    };
    let mut query = sqlx::query_as(statement)
        .bind(span.after)
        .bind(&filter.namespace)
        .bind(filter.task_uuid)
        .bind(i32::try_from(span.limit.unwrap_or(100)).unwrap_or(i32::MAX));
    if span.until.is_some() {
        query = query.bind(span.until);
    }
    Ok(query.fetch_all(executor).await?)
}

async fn end_of_events(executor: impl PgExecutor<'_>) -> Result<String, Error> {
    Ok(sqlx::query_scalar("select tasker.end_of_events()")
        .fetch_one(executor)
        .await?)
}

impl Client {
    /// State changes after a cursor, in the order of the feed. Whoever goes on from the last cursor it got misses nothing and gets nothing twice.
    /// An event is listed when no transaction that was writing as it came about is under way any more. TK001 when the task isn't there.
    pub async fn list_events(
        &self,
        filter: &EventFilter,
        span: EventSpan<'_>,
    ) -> Result<Vec<Event>, Error> {
        list_events(self.pool(), filter, span).await
    }

    /// The cursor after all that is listed now, for who wants only what comes.
    pub async fn end_of_events(&self) -> Result<String, Error> {
        end_of_events(self.pool()).await
    }

    /// Follows the feed from a cursor on, from the oldest event when there is none, over a connection of its own that is made at the first [`Events::next`].
    #[must_use]
    pub fn events(&self, filter: EventFilter, after: Option<String>) -> Events {
        let purpose = ("events", "they are found by polling");
        Events {
            listener: Listener::new(self, vec![CHANNEL.to_owned()], purpose),
            client: self.clone(),
            filter,
            after,
            is_page_full: false,
            is_refused: false,
            pace: Pace::new(Instant::now()),
            ready: VecDeque::new(),
        }
    }
}

/// Asks for a NOTIFY on `tasker_events` by each transaction that writes events, or no longer; gives whether this session's wish is granted. It can't be while a
/// transaction is under way that began to write unasked. [`Client::events`] does all this itself.
pub async fn await_events_in(
    session: &mut sqlx::PgConnection,
    awaits: bool,
) -> Result<bool, Error> {
    await_events(session, awaits).await
}

async fn await_events(executor: impl PgExecutor<'_>, awaits: bool) -> Result<bool, Error> {
    Ok(
        sqlx::query_scalar("select tasker.await_events(awaits => $1)")
            .bind(awaits)
            .fetch_one(executor)
            .await?,
    )
}

/// Some events at once.
#[derive(Debug)]
pub struct EventPage {
    /// In the order of the feed; none only when the page before was full and nothing was left.
    pub events: Vec<Event>,
    /// Whether these were all that are settled now: the cursor of the last is that of a reader who has come to the end.
    pub is_end: bool,
}

/// Follows the feed: gives each event once, in order, and misses none, whatever commits meanwhile and also while the database is away for a time.
///
/// An event is given when it has settled, which is when no transaction that was writing as it came about is under way any more in any database of the cluster; then within a tenth of a
/// second while events come, at once after a quiet time, within half a second while a long transaction keeps it from asking for notices, and within two seconds if a notice is lost or not sent (sessions with `tasker.notify` off, a standby, a version that sends none).
/// It asks for notices only when nothing has come for half a second, so that whoever writes much sends few.
pub struct Events {
    listener: Listener,
    client: Client,
    filter: EventFilter,
    after: Option<String>,
    is_page_full: bool,
    /// This connection's database knows of no notices, or its role may not have them.
    is_refused: bool,
    pace: Pace,
    ready: VecDeque<Event>,
}

impl std::fmt::Debug for Events {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Events")
            .field("filter", &self.filter)
            .field("after", &self.after)
            .finish_non_exhaustive()
    }
}

impl Events {
    /// The next event. Waits on while the database is away; any other error may be met again at the next call, and nothing is lost by it.
    /// May be dropped at any time, as in `select!`.
    pub async fn next(&mut self) -> Result<Event, Error> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Ok(event);
            }
            self.ready = self.next_page().await?.events.into();
        }
    }

    /// What there is of the next events, for who deals with several at once. Not to be mixed with [`Events::next`].
    pub async fn next_page(&mut self) -> Result<EventPage, Error> {
        loop {
            self.wait().await;
            match self.look().await {
                Ok(events) => {
                    let was_full =
                        std::mem::replace(&mut self.is_page_full, events.len() >= PAGE as usize);
                    let is_end = !self.is_page_full;
                    self.pace.looked(Instant::now(), !events.is_empty(), is_end);
                    if let Some(last) = events.last() {
                        self.after = Some(last.cursor.clone());
                    }
                    if !events.is_empty() || was_full {
                        return Ok(EventPage { events, is_end });
                    }
                }
                Err(error) => {
                    self.pace.failed(Instant::now());
                    if !error.is_transient() {
                        return Err(error);
                    }
                    self.listener.is_broken(&error);
                }
            }
        }
    }

    /// Waits until it is time to look, and asks for notices before it sleeps.
    async fn wait(&mut self) {
        loop {
            if self.listener.connect_if_due().await {
                self.heard(&Heard::Connected);
            }
            match self.pace.step(Instant::now()) {
                Step::Look => return,
                Step::Ask => {
                    let is_granted = self.ask(true).await;
                    self.pace.asked(Instant::now(), is_granted);
                }
                Step::Wait(until) => {
                    let is_connected = self.listener.connection().is_some();
                    tokio::select! {
                        () = tokio::time::sleep_until(until) => {}
                        heard = self.listener.next(), if is_connected => self.heard(&heard),
                    }
                }
                Step::Decline => {
                    self.ask(false).await;
                    self.pace.declined();
                }
            }
        }
    }

    fn heard(&mut self, heard: &Heard) {
        match heard {
            Heard::Notification(_) => {
                // A burst wakes once.
                self.listener.drop_buffered();
                self.pace.notified(Instant::now());
            }
            Heard::Connected => {
                self.is_refused = false;
                self.pace.connected(Instant::now());
            }
        }
    }

    /// Asks the database for notices, or for none; whether it sends them now.
    async fn ask(&mut self, awaits: bool) -> bool {
        let Some(connection) = self.listener.connection() else {
            return false;
        };
        if self.is_refused {
            return false;
        }
        match await_events(connection, awaits).await {
            Ok(awaits) => awaits,
            Err(error) if error.is_transient() => {
                self.listener.is_broken(&error);
                false
            }
            Err(error) => {
                tracing::debug!(%error, "no notice of events can be had");
                self.is_refused = true;
                false
            }
        }
    }

    async fn look(&mut self) -> Result<Vec<Event>, Error> {
        let after = self.after.clone();
        let span = EventSpan {
            after: after.as_deref(),
            until: None,
            limit: Some(PAGE),
        };
        if self.filter.is_everything() {
            return match self.listener.connection() {
                Some(connection) => list_events(connection, &self.filter, span).await,
                None => list_events(self.client.pool(), &self.filter, span).await,
            };
        }
        // What others did up to here isn't read again.
        let end = match self.listener.connection() {
            Some(connection) => end_of_events(connection).await?,
            None => self.client.end_of_events().await?,
        };
        let events = match self.listener.connection() {
            Some(connection) => list_events(connection, &self.filter, span).await?,
            None => self.client.list_events(&self.filter, span).await?,
        };
        if events.is_empty() {
            self.after = Some(end);
        }
        Ok(events)
    }
}
