//! Waiting for work: `NOTIFY` on `tasker_ready_{namespace}`.

use std::time::Duration;

use sqlx::postgres::{PgListener, PgPoolOptions};
use tokio::time::Instant;

use crate::connection::Client;
use crate::error::Error;

/// The first and the longest pause between two attempts to connect.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// One attempt to connect may take this long.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

impl Client {
    /// Listens for work in `namespaces` over a connection of its own, made at the first [`WakeUps::next`].
    #[must_use]
    pub fn wake_ups(&self, namespaces: &[String]) -> WakeUps {
        WakeUps {
            client: self.clone(),
            channels: namespaces
                .iter()
                .map(|namespace| format!("tasker_ready_{namespace}"))
                .collect(),
            listener: None,
            failures: 0,
            connect_at: Instant::now(),
        }
    }
}

/// Why [`WakeUps::next`] returned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WakeUp {
    /// A notification came: something may be ready.
    Notified,
    /// The listener has connected, for the first time or again. Notifications may have been missed before, so look once.
    Connected,
}

/// A listener for wake-ups that outlives a restart of the database.
pub struct WakeUps {
    client: Client,
    channels: Vec<String>,
    listener: Option<PgListener>,
    /// Failed attempts to connect since the last good one.
    failures: u32,
    connect_at: Instant,
}

impl std::fmt::Debug for WakeUps {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WakeUps")
            .field("channels", &self.channels)
            .finish_non_exhaustive()
    }
}

impl WakeUps {
    /// Waits until something may be ready. Waits on while the database is away, so give it a deadline and poll as well.
    /// May be dropped at any time, as in `select!`; nothing is lost but a wake-up that a poll makes good.
    pub async fn next(&mut self) -> WakeUp {
        loop {
            let Some(listener) = self.listener.as_mut() else {
                if self.try_connect().await {
                    return WakeUp::Connected;
                }
                continue;
            };
            match listener.try_recv().await {
                Ok(Some(_)) => {
                    // A burst wakes once.
                    while listener.next_buffered().is_some() {}
                    return WakeUp::Notified;
                }
                Ok(None) => self.listener = None,
                Err(error) => {
                    tracing::debug!(error = %error, "the listener for wake-ups lost its connection");
                    self.listener = None;
                }
            }
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
                    tracing::info!(failures = self.failures, "listening for wake-ups again");
                }
                self.failures = 0;
                self.listener = Some(listener);
                true
            }
            failed => {
                if self.failures == 0 {
                    let error = match failed {
                        Ok(Err(error)) => error.to_string(),
                        _ => format!("no answer within {} s", CONNECT_TIMEOUT.as_secs()),
                    };
                    tracing::warn!(%error, "wake-ups can't be listened for; work is found by polling until they can");
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
