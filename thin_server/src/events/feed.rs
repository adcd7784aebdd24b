//! The one reader of the feed, over one connection to the database, and what it hands to all who listen.
//!
//! It reads only while somebody listens. Each event goes once into a ring that every listener reads at its own pace; who falls behind by the ring's whole length has lost its place. The
//! reader's position is known together with the ring, so that a listener that reads by itself up to there goes on in the ring with no gap and nothing twice.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::response::sse;
use tasker_client::{Client, Event, EventFilter, Events};
use tokio::sync::{Semaphore, SemaphorePermit, broadcast, watch};

use crate::metrics::Metrics;
use crate::problem::Problem;

/// Events in the ring, half a kilobyte each or so: a listener may be so far behind.
const RING: usize = 16_384;
/// The reader stops when nobody has listened for so long.
const LINGERS: Duration = Duration::from_secs(10);
/// How long a listener waits for the reader to have a position.
const JOINS_WITHIN: Duration = Duration::from_secs(5);
/// The pause after the database refused something.
const PAUSE: Duration = Duration::from_secs(1);
/// So many listeners read what they missed at once; a server that starts anew has thousands of them.
const CATCHING_UP: usize = 4;

/// An event, ready to be sent to any number of listeners.
#[derive(Debug)]
pub(crate) struct Live {
    pub(crate) event: Event,
    /// The terminal state that its task has come to.
    pub(super) task_end: Option<String>,
    /// Written once for all who listen to Server-Sent Events, when the first of them does.
    message: OnceLock<sse::Event>,
}

impl Live {
    pub(super) fn new(event: Event) -> Self {
        Self {
            task_end: event.task_end().map(str::to_owned),
            event,
            message: OnceLock::new(),
        }
    }

    /// As a Server-Sent Event.
    pub(super) fn message(&self) -> sse::Event {
        let written = || {
            let data = serde_json::to_string(&self.event).unwrap_or_default();
            sse::Event::default().id(&self.event.cursor).data(data)
        };
        self.message.get_or_init(written).clone()
    }
}

/// Where the reader is.
#[derive(Debug, Clone)]
enum Position {
    /// It doesn't read.
    Off,
    /// In the middle of what is there, after this cursor.
    Within(Arc<str>),
    /// All that is settled up to this cursor has gone into the ring, and nothing that settles later.
    At(Arc<str>),
}

/// The feed, as the handlers share it.
#[derive(Debug, Clone)]
pub(crate) struct Feed(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    client: Client,
    metrics: Metrics,
    most_listeners: usize,
    heartbeat: Duration,
    listeners: watch::Sender<usize>,
    ring: broadcast::Sender<Arc<Live>>,
    /// Its lock is held while events go into the ring, and by whoever takes a place there.
    position: watch::Sender<Position>,
    catching_up: Semaphore,
    stopped: watch::Receiver<bool>,
}

/// A listener's seat, taken as long as this is kept.
#[derive(Debug)]
pub(super) struct Seat(Feed);

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.0.listeners.send_modify(|count| *count -= 1);
        self.0.0.metrics.events.listeners.dec();
    }
}

impl Feed {
    pub(crate) fn new(
        client: Client,
        metrics: Metrics,
        most_listeners: usize,
        heartbeat: Duration,
        stopped: watch::Receiver<bool>,
    ) -> Self {
        Self(Arc::new(Shared {
            client,
            metrics,
            most_listeners,
            heartbeat,
            listeners: watch::Sender::new(0),
            ring: broadcast::Sender::new(RING),
            position: watch::Sender::new(Position::Off),
            catching_up: Semaphore::new(CATCHING_UP),
            stopped,
        }))
    }

    pub(super) fn client(&self) -> &Client {
        &self.0.client
    }

    pub(super) fn metrics(&self) -> &Metrics {
        &self.0.metrics
    }

    /// How often a listener is sent a comment while nothing happens.
    pub(super) fn heartbeat(&self) -> Duration {
        self.0.heartbeat
    }

    /// Becomes true when the server stops.
    pub(super) fn stopped(&self) -> watch::Receiver<bool> {
        self.0.stopped.clone()
    }

    /// A seat, if one is free.
    pub(super) fn seat(&self) -> Option<Seat> {
        let is_taken = self.0.listeners.send_if_modified(|count| {
            let is_free = *count < self.0.most_listeners;
            *count += usize::from(is_free);
            is_free
        });
        is_taken.then(|| {
            self.0.metrics.events.listeners.inc();
            Seat(self.clone())
        })
    }

    /// A place in the ring, and the cursor up to which a listener must read by itself to miss nothing.
    pub(super) async fn join(&self) -> Result<(broadcast::Receiver<Arc<Live>>, Arc<str>), Problem> {
        let mut position = self.0.position.subscribe();
        let joined = async {
            loop {
                if let Position::At(cursor) = &*position.borrow_and_update() {
                    return (self.0.ring.subscribe(), cursor.clone());
                }
                // The sender is part of what `self` keeps.
                let _ = position.changed().await;
            }
        };
        tokio::time::timeout(JOINS_WITHIN, joined)
            .await
            .map_err(|_| Problem::feed_unavailable())
    }

    /// The right to read by itself, which few listeners have at a time.
    pub(super) async fn turn(&self) -> Option<SemaphorePermit<'_>> {
        self.0.catching_up.acquire().await.ok()
    }

    /// Reads while somebody listens, until the server stops.
    pub(crate) async fn run(self) {
        let mut stopped = self.stopped();
        tokio::select! {
            _ = stopped.wait_for(|stopped| *stopped) => {}
            () = self.read_while_listened() => {}
        }
    }

    async fn read_while_listened(&self) {
        let mut listeners = self.0.listeners.subscribe();
        let mut is_told = false;
        loop {
            if listeners.wait_for(|count| *count > 0).await.is_err() {
                return;
            }
            match self.0.client.end_of_events().await {
                Ok(cursor) => {
                    is_told = false;
                    self.read_from(cursor).await;
                }
                Err(error) => {
                    if !is_told {
                        tracing::warn!(code = error.code(), %error, "the feed of events can't be read, which is tried again");
                    }
                    is_told = true;
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }

    /// Reads from a cursor on, until nobody listens any more.
    async fn read_from(&self, cursor: String) {
        let everything = EventFilter::default();
        let mut events = self.0.client.events(everything, Some(cursor.clone()));
        self.0.position.send_replace(Position::At(cursor.into()));
        let mut told = None;
        let mut nobody_listens = std::pin::pin!(self.nobody_listens());
        loop {
            tokio::select! {
                () = self.hand_on(&mut events, &mut told) => {}
                () = &mut nobody_listens => {
                    if self.is_switched_off() {
                        return;
                    }
                    nobody_listens.set(self.nobody_listens());
                }
            }
        }
    }

    async fn hand_on(&self, events: &mut Events, told: &mut Option<String>) {
        match events.next_page().await {
            Ok(page) => {
                *told = None;
                self.publish(page.events, page.is_end);
            }
            Err(error) => {
                let said = error.to_string();
                if told.as_ref() != Some(&said) {
                    tracing::warn!(code = error.code(), %error, "the feed of events can't be read on, which is tried again");
                    *told = Some(said);
                }
            }
        }
    }

    fn publish(&self, events: Vec<Event>, is_end: bool) {
        let metrics = &self.0.metrics.events;
        metrics.read.inc_by(events.len() as u64);
        let last = events.last().map(|event| (event.at, event.cursor.clone()));
        if let Some((at, _)) = &last {
            let delay = (chrono::Utc::now() - *at).to_std().unwrap_or_default();
            metrics.delay_seconds.set(delay.as_secs_f64());
        }
        let events: Vec<Arc<Live>> = events
            .into_iter()
            .map(|event| Arc::new(Live::new(event)))
            .collect();
        self.0.position.send_modify(|position| {
            let cursor = match (last, &*position) {
                (Some((_, cursor)), _) => cursor.into(),
                (None, Position::At(cursor) | Position::Within(cursor)) => cursor.clone(),
                (None, Position::Off) => return,
            };
            *position = if is_end {
                Position::At(cursor)
            } else {
                Position::Within(cursor)
            };
            for event in events {
                // Fails when nobody has a place in it.
                let _ = self.0.ring.send(event);
            }
        });
    }

    async fn nobody_listens(&self) {
        let mut listeners = self.0.listeners.subscribe();
        loop {
            let _ = listeners.wait_for(|count| *count == 0).await;
            let somebody = listeners.wait_for(|count| *count > 0);
            if tokio::time::timeout(LINGERS, somebody).await.is_err() {
                return;
            }
        }
    }

    /// Gives the position up, unless somebody has come meanwhile, who counts on it.
    fn is_switched_off(&self) -> bool {
        self.0.position.send_if_modified(|position| {
            let is_off = *self.0.listeners.borrow() == 0;
            if is_off {
                *position = Position::Off;
            }
            is_off
        })
    }
}
