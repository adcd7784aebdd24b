//! The feed over REST: Server-Sent Events, taken up again where they broke off.

use std::time::Duration;

use reqwest::header::ACCEPT;
use reqwest::{Method, Response, StatusCode};
use tokio::time::Instant;

use super::RestClient;
use super::call::{self, Failure, pause_after, unreachable};
use super::sse::{Message, Parser};
use crate::error::{Cause, Error};
use crate::events::{Event, EventFilter};
use crate::tasker::EventStart;

/// The name of the message after a task's last event.
const END: &str = "end";

/// A stream of events.
#[derive(Debug)]
pub(crate) struct RestEvents {
    client: RestClient,
    filter: EventFilter,
    start: EventStart,
    connection: Option<Connection>,
    connect_at: Instant,
    failures: u32,
    is_over: bool,
}

#[derive(Debug)]
struct Connection {
    response: Response,
    parser: Parser,
}

impl RestEvents {
    pub(crate) fn new(client: RestClient, filter: EventFilter, start: EventStart) -> Self {
        Self {
            client,
            filter,
            start,
            connection: None,
            connect_at: Instant::now(),
            failures: 0,
            is_over: false,
        }
    }

    /// The cursor after the last event that it was given, or where it began, if it is known yet.
    pub(crate) fn cursor(&self) -> Option<&str> {
        match &self.start {
            EventStart::After(cursor) => Some(cursor),
            EventStart::Oldest | EventStart::Now => None,
        }
    }

    /// Waits until it has its place in the feed, or its task has ended before.
    pub(crate) async fn begin(&mut self) -> Result<(), Error> {
        while self.connection.is_none() && !self.is_over {
            self.connect().await?;
        }
        Ok(())
    }

    /// The next event; none when the task has ended. Waits on while the server is away. May be dropped at any time.
    pub(crate) async fn next(&mut self) -> Option<Result<Event, Error>> {
        loop {
            if self.is_over {
                return None;
            }
            let Some(connection) = &mut self.connection else {
                if let Err(error) = self.connect().await {
                    return Some(Err(error));
                }
                continue;
            };
            if let Some(message) = connection.parser.next() {
                match self.take(message) {
                    Ok(None) => continue,
                    Ok(Some(event)) => return Some(Ok(event)),
                    Err(error) => return Some(Err(error)),
                }
            }
            let silence = self.client.silence();
            match tokio::time::timeout(silence, connection.response.chunk()).await {
                Ok(Ok(Some(piece))) => connection.parser.feed(&piece),
                Ok(Ok(None)) => self.lose("the server has ended it"),
                Ok(Err(error)) => self.lose(error),
                Err(_) => self.lose("nothing has been heard for too long"),
            }
        }
    }

    fn take(&mut self, message: Message) -> Result<Option<Event>, Error> {
        if message.event == END {
            self.is_over = true;
        }
        if let Some(id) = message.id.filter(|id| !id.is_empty()) {
            self.start = EventStart::After(id);
        }
        if self.is_over || message.data.is_empty() {
            return Ok(None);
        }
        let event: Event = serde_json::from_str(&message.data)
            .map_err(|error| Error::Answer(Cause::Server(Box::new(error))))?;
        let namespace = self.filter.namespace.as_ref();
        let is_wanted = namespace.is_none_or(|wanted| *wanted == event.namespace);
        Ok(Some(event).filter(|_| is_wanted))
    }

    fn lose(&mut self, why: impl std::fmt::Display) {
        tracing::debug!(%why, "a stream of events is taken up anew");
        let connection = self.connection.take();
        let said = connection.and_then(|connection| connection.parser.retry());
        self.connect_at = Instant::now() + said.unwrap_or_else(|| pause_after(1));
    }

    /// Tries once, when it is time. What can be waited for isn't an error.
    async fn connect(&mut self) -> Result<(), Error> {
        tokio::time::sleep_until(self.connect_at).await;
        // Set before the attempt, so that a caller who drops it doesn't start the next one at once.
        self.failures = self.failures.saturating_add(1);
        self.connect_at = Instant::now() + self.client.bounded(pause_after(self.failures));
        match self.try_connect().await {
            Ok(Some(response)) => {
                self.failures = 0;
                self.connection = Some(Connection {
                    response,
                    parser: Parser::default(),
                });
                Ok(())
            }
            Ok(None) => {
                self.is_over = true;
                Ok(())
            }
            Err(Failure { error, retry_after }) => {
                if let Some(pause) = retry_after {
                    self.connect_at = Instant::now() + self.client.bounded(pause);
                }
                if !error.is_transient() {
                    return Err(error);
                }
                tracing::debug!(%error, failures = self.failures, "a stream of events can't be had now");
                Ok(())
            }
        }
    }

    /// None when nothing is to come of its task any more.
    async fn try_connect(&self) -> Result<Option<Response>, Failure> {
        let task = self.filter.task_uuid.map(|task| task.to_string());
        let path: &[&str] = match &task {
            Some(task) => &["v1", "tasks", task, "events"],
            None => &["v1", "events"],
        };
        let mut query = Vec::new();
        // A task is of one namespace, and its path takes none.
        if let (None, Some(namespace)) = (&task, &self.filter.namespace) {
            query.push(("namespace", namespace.clone()));
        }
        match &self.start {
            EventStart::Oldest => query.push(("from", "oldest".to_owned())),
            EventStart::Now => query.push(("from", "now".to_owned())),
            EventStart::After(cursor) => query.push(("after", cursor.clone())),
        }
        let request = self
            .client
            .request(Method::GET, path, &query)?
            .header(ACCEPT, "text/event-stream");
        // Only until it begins: its end is no matter of time.
        let response = tokio::time::timeout(self.client.timeout(), request.send())
            .await
            .map_err(|_| too_late(self.client.timeout()))?
            .map_err(unreachable)?;
        match response.status() {
            StatusCode::OK => Ok(Some(response)),
            StatusCode::NO_CONTENT => Ok(None),
            _ => {
                let reading = tokio::time::timeout(self.client.timeout(), call::read(response));
                let read = reading.await.map_err(|_| too_late(self.client.timeout()))?;
                Err(match read {
                    Err(failure) => failure,
                    Ok(_) => {
                        Error::Answer(Cause::Server("this is no stream of events".into())).into()
                    }
                })
            }
        }
    }
}

fn too_late(within: Duration) -> Error {
    let message = format!("no answer within {} ms", within.as_millis());
    Error::Unreachable(Cause::Server(message.into()))
}
