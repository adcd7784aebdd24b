//! One who listens: first it reads by itself what it missed, then it takes what comes from the ring, until its task has ended, it falls behind, or the server stops.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tasker_client::{Error, EventFilter, EventSpan};
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;

use super::feed::{Feed, Live, Seat};
use super::message::{Leave, Message};
use crate::problem::Problem;

/// Events that a listener reads by itself at once.
const PAGE: usize = 500;
/// A listener that is ahead of this server's reader waits for it so often, a tenth of a second each time.
const WAITS_FOR_READER: u32 = 30;
const A_WHILE: Duration = Duration::from_millis(100);
/// The pause after the database was away.
const PAUSE: Duration = Duration::from_secs(1);

/// Where a listener begins.
#[derive(Debug)]
pub(crate) enum Begin {
    After(String),
    Oldest,
    Now,
}

/// What a listener is to have: the one place where an event is held against a listener.
#[derive(Debug)]
struct Interest {
    filter: EventFilter,
    /// The namespaces that the listener may reach; `None` is all.
    reach: Option<Vec<String>>,
}

impl Interest {
    fn takes(&self, event: &Live) -> bool {
        let EventFilter {
            namespace,
            task_uuid,
        } = &self.filter;
        let reach = self.reach.as_ref();
        let event = &event.event;
        reach.is_none_or(|reach| reach.contains(&event.namespace))
            && namespace
                .as_ref()
                .is_none_or(|wanted| *wanted == event.namespace)
            && task_uuid.is_none_or(|wanted| wanted == event.task_uuid)
    }
}

/// One who listens.
#[derive(Debug)]
pub(crate) struct Listener {
    feed: Feed,
    _seat: Seat,
    interest: Interest,
    /// The cursor of the last event it was given.
    after: Option<String>,
    /// Up to where it reads by itself; none when it has.
    until: Option<Arc<str>>,
    ring: broadcast::Receiver<Arc<Live>>,
    /// It has had something from the ring.
    has_been_live: bool,
    /// The last of its task's own events was this end, as far as it has read.
    task_end: Option<String>,
    ready: VecDeque<Message>,
    is_over: bool,
}

impl Listener {
    /// Begins, so that what can be refused is: a cursor, a task. None when there is nothing to come of its task any more.
    pub(super) async fn start(
        feed: Feed,
        seat: Seat,
        filter: EventFilter,
        reach: Option<Vec<String>>,
        begin: Begin,
    ) -> Result<Option<Self>, Problem> {
        let (ring, until) = feed.join().await?;
        let mut listener = Self {
            feed,
            _seat: seat,
            interest: Interest { filter, reach },
            after: None,
            until: Some(until.clone()),
            ring,
            has_been_live: false,
            task_end: None,
            ready: VecDeque::new(),
            is_over: false,
        };
        match begin {
            Begin::Oldest => {}
            Begin::Now => listener.after = Some(until.to_string()),
            Begin::After(cursor) => {
                listener.wait_for_reader(&cursor).await?;
                listener.after = Some(cursor);
            }
        }
        let place = listener.after.clone();
        let is_of_one_task = listener.interest.filter.task_uuid.is_some();
        // Who begins with what comes has nothing to read.
        if listener.after.as_deref() == listener.until.as_deref() && !is_of_one_task {
            listener.until = None;
        } else {
            let had = listener.read_page().await?;
            let has_begun = listener.after.is_some();
            if had == 0 && has_begun && is_of_one_task && listener.has_ended_before().await? {
                return Ok(None);
            }
        }
        listener.ready.push_front(Message::Begun { place });
        Ok(Some(listener))
    }

    /// A cursor of another server may be ahead of this one's reader, which would give those between once more.
    async fn wait_for_reader(&mut self, cursor: &str) -> Result<(), Problem> {
        for _ in 0..WAITS_FOR_READER {
            let Some(at) = self.until.clone() else {
                return Ok(());
            };
            let span = EventSpan {
                after: Some(&at),
                until: Some(cursor),
                limit: Some(1),
            };
            let between = {
                let _turn = self.feed.turn().await;
                self.feed
                    .client()
                    .list_events(&self.interest.filter, span)
                    .await?
            };
            if between.is_empty() {
                return Ok(());
            }
            tokio::time::sleep(A_WHILE).await;
            self.join().await?;
        }
        Ok(())
    }

    async fn join(&mut self) -> Result<(), Problem> {
        let (ring, until) = self.feed.join().await?;
        self.ring = ring;
        self.until = Some(until);
        Ok(())
    }

    /// Reads a page by itself, up to where it goes on in the ring, and gives how many events that were.
    async fn read_page(&mut self) -> Result<usize, Error> {
        let events = {
            let _turn = self.feed.turn().await;
            let span = EventSpan {
                after: self.after.as_deref(),
                until: self.until.as_deref(),
                limit: Some(PAGE as u32),
            };
            self.feed
                .client()
                .list_events(&self.interest.filter, span)
                .await?
        };
        let count = events.len();
        for event in events {
            let is_task = event.step_uuid.is_none();
            let event = Arc::new(Live::new(event));
            self.after = Some(event.event.cursor.clone());
            if is_task {
                self.task_end.clone_from(&event.task_end);
            }
            if self.interest.takes(&event) {
                self.ready.push_back(Message::Event(event));
            }
        }
        if count < PAGE {
            self.until = None;
            self.end_if_task_has();
        }
        Ok(count)
    }

    /// Whether its task has come to its end before the cursor that it begins after, and nothing has happened to it since, not even what hasn't settled yet.
    async fn has_ended_before(&self) -> Result<bool, Error> {
        match (self.interest.filter.task_uuid, &self.after) {
            (Some(task_uuid), Some(cursor)) => {
                self.feed.client().task_had_ended(task_uuid, cursor).await
            }
            _ => Ok(false),
        }
    }

    fn end_if_task_has(&mut self) {
        let (Some(task_uuid), Some(state)) = (self.interest.filter.task_uuid, self.task_end.take())
        else {
            return;
        };
        let cursor = self.after.clone().unwrap_or_default();
        self.ready.push_back(Message::TaskEnd {
            task_uuid,
            state,
            cursor,
        });
        self.is_over = true;
    }

    /// The next message, until the stream is over.
    pub(crate) async fn next(&mut self) -> Option<Message> {
        let mut stopped = self.feed.stopped();
        loop {
            if let Some(message) = self.ready.pop_front() {
                return Some(message);
            }
            if self.is_over {
                return None;
            }
            tokio::select! {
                _ = stopped.wait_for(|stopped| *stopped) => self.leave(Leave::Stopped),
                () = self.advance() => {}
            }
        }
    }

    /// Makes messages ready. May be dropped at any time.
    async fn advance(&mut self) {
        if self.until.is_some() {
            match self.read_page().await {
                Ok(_) => {}
                Err(error) if error.is_transient() => tokio::time::sleep(PAUSE).await,
                Err(error) => {
                    tracing::debug!(code = error.code(), %error, "a listener can't be given what it missed");
                    self.leave(Leave::Refused);
                }
            }
            return;
        }
        match self.ring.recv().await {
            Ok(event) => {
                self.has_been_live = true;
                self.take(event);
            }
            // It read by itself for so long that the ring went round.
            Err(RecvError::Lagged(_)) if !self.has_been_live => {
                if self.join().await.is_err() {
                    self.leave(Leave::Refused);
                }
            }
            Err(RecvError::Lagged(_)) => self.leave(Leave::Slow),
            Err(RecvError::Closed) => self.leave(Leave::Stopped),
        }
    }

    fn take(&mut self, event: Arc<Live>) {
        if !self.interest.takes(&event) {
            return;
        }
        self.after = Some(event.event.cursor.clone());
        let task_end = event.task_end.clone();
        self.ready.push_back(Message::Event(event));
        if task_end.is_some() && self.interest.filter.task_uuid.is_some() {
            self.task_end = task_end;
            self.end_if_task_has();
        }
    }

    fn leave(&mut self, leave: Leave) {
        let ended = &self.feed.metrics().events.ended;
        ended.with_label_values(&[leave.reason()]).inc();
        self.ready.push_back(Message::Leave(leave));
        self.is_over = true;
    }

    /// How often it is told something while nothing happens.
    pub(super) fn heartbeat(&self) -> Duration {
        self.feed.heartbeat()
    }
}

#[cfg(test)]
mod tests {
    use tasker_client::Event;
    use uuid::Uuid;

    use super::*;

    fn live(namespace: &str, task: u128) -> Live {
        Live::new(Event {
            cursor: "c".to_owned(),
            at: chrono::Utc::now(),
            task_uuid: Uuid::from_u128(task),
            step_uuid: None,
            step_name: None,
            from_state: None,
            to_state: "pending".to_owned(),
            event: "create".to_owned(),
            attempt: None,
            actor: None,
            metadata: None,
            namespace: namespace.to_owned(),
            template_name: "t".to_owned(),
        })
    }

    #[test]
    fn an_event_goes_to_who_asked_for_its_namespace_or_its_task() {
        let interest =
            |namespace: Option<&str>, task: Option<u128>, reach: Option<&str>| Interest {
                filter: EventFilter {
                    namespace: namespace.map(str::to_owned),
                    task_uuid: task.map(Uuid::from_u128),
                },
                reach: reach.map(|reach| vec![reach.to_owned()]),
            };
        let of_shop = interest(Some("shop"), None, None);
        assert!(of_shop.takes(&live("shop", 1)) && !of_shop.takes(&live("data", 1)));
        let of_one = interest(None, Some(1), None);
        assert!(of_one.takes(&live("shop", 1)) && !of_one.takes(&live("shop", 2)));
        let of_all = interest(None, None, None);
        assert!(of_all.takes(&live("data", 7)));
        let limited = interest(None, None, Some("shop"));
        assert!(limited.takes(&live("shop", 1)) && !limited.takes(&live("data", 1)));
        assert!(!interest(Some("data"), None, Some("shop")).takes(&live("data", 1)));
    }
}
