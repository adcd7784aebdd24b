//! A connection of its own that listens for notifications, and outlives a restart of the database.

use std::time::Duration;

use sqlx::postgres::{PgListener, PgNotification, PgPoolOptions};
use tokio::time::Instant;

use crate::connection::Client;
use crate::error::Error;

/// The first and the longest pause between two attempts to connect.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// One attempt to connect may take this long.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// What a listener heard.
pub(crate) enum Heard {
    /// A notification.
    Notification(PgNotification),
    /// It has connected, for the first time or again. Notifications may have been missed before.
    Connected,
}

/// A listener on some channels.
pub(crate) struct Listener {
    client: Client,
    pub(crate) channels: Vec<String>,
    /// What it listens for, and what is without it, in words for the log.
    purpose: (&'static str, &'static str),
    connection: Option<PgListener>,
    /// Failed attempts to connect since the last good one.
    failures: u32,
    connect_at: Instant,
}

impl Listener {
    /// Connects at the first [`Listener::next`].
    pub(crate) fn new(
        client: &Client,
        channels: Vec<String>,
        purpose: (&'static str, &'static str),
    ) -> Self {
        Self {
            client: client.clone(),
            channels,
            purpose,
            connection: None,
            failures: 0,
            connect_at: Instant::now(),
        }
    }

    /// Waits for a notification, also while the database is away. May be dropped at any time, as in `select!`; nothing is lost but, when the connection breaks,
    /// notifications.
    pub(crate) async fn next(&mut self) -> Heard {
        loop {
            let Some(connection) = self.connection.as_mut() else {
                if self.try_connect().await {
                    return Heard::Connected;
                }
                continue;
            };
            match connection.try_recv().await {
                Ok(Some(notification)) => return Heard::Notification(notification),
                Ok(None) => self.connection = None,
                Err(error) => {
                    tracing::debug!(error = %error, "the listener for {} lost its connection", self.purpose.0);
                    self.connection = None;
                }
            }
        }
    }

    /// Drops the notifications that have arrived by now.
    pub(crate) fn drop_buffered(&mut self) {
        if let Some(connection) = self.connection.as_mut() {
            while connection.next_buffered().is_some() {}
        }
    }

    /// Connects if there is no connection and it is time for an attempt, and says whether there is a new one. For who does something else between two calls of
    /// [`Listener::next`], which would cut an attempt short.
    pub(crate) async fn connect_if_due(&mut self) -> bool {
        self.connection.is_none() && self.connect_at <= Instant::now() && self.try_connect().await
    }

    /// The connection itself, for statements of who listens, while there is one.
    pub(crate) fn connection(&mut self) -> Option<&mut PgListener> {
        self.connection.as_mut()
    }

    /// Gives the connection up after a statement on it has failed; the next one is made by [`Listener::next`].
    pub(crate) fn is_broken(&mut self, error: &Error) {
        if self.connection.take().is_some() {
            tracing::debug!(error = %error, "the listener for {} gives its connection up", self.purpose.0);
        }
    }

    async fn try_connect(&mut self) -> bool {
        tokio::time::sleep_until(self.connect_at).await;
        // Set before the attempt, so that a caller who drops it doesn't start the next one at once.
        self.connect_at = Instant::now() + pause_after(self.failures);
        let attempt = tokio::time::timeout(CONNECT_TIMEOUT, self.connect()).await;
        match attempt {
            Ok(Ok(listener)) => {
                if self.failures > 0 {
                    tracing::info!(
                        failures = self.failures,
                        "listening for {} again",
                        self.purpose.0
                    );
                }
                self.failures = 0;
                self.connection = Some(listener);
                true
            }
            failed => {
                if self.failures == 0 {
                    let error = match failed {
                        Ok(Err(error)) => error.to_string(),
                        _ => format!("no answer within {} s", CONNECT_TIMEOUT.as_secs()),
                    };
                    tracing::warn!(%error, "{} can't be listened for; {} until they can", self.purpose.0, self.purpose.1);
                }
                self.failures = self.failures.saturating_add(1);
                self.connect_at = Instant::now() + pause_after(self.failures);
                false
            }
        }
    }

    async fn connect(&self) -> Result<PgListener, Error> {
        // A pool of its own: a listener that took a connection of the shared one would keep it for good.
        let pool = PgPoolOptions::new()
            .max_connections(1)
            .max_lifetime(None)
            .idle_timeout(None)
            .acquire_timeout(CONNECT_TIMEOUT)
            .connect_lazy_with((*self.client.pool().connect_options()).clone());
        let mut listener = PgListener::connect_with(&pool).await?;
        listener.ignore_pool_close_event(true);
        listener.eager_reconnect(false);
        listener
            .listen_all(self.channels.iter().map(String::as_str))
            .await?;
        Ok(listener)
    }
}

fn pause_after(failures: u32) -> Duration {
    FIRST_PAUSE
        .saturating_mul(1 << failures.min(10))
        .min(LONGEST_PAUSE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_and_stay_bounded() {
        assert_eq!(pause_after(0), FIRST_PAUSE);
        assert_eq!(pause_after(1), FIRST_PAUSE * 2);
        assert_eq!(pause_after(u32::MAX), LONGEST_PAUSE);
    }
}
