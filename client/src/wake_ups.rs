//! Waiting for work: `NOTIFY` on `tasker_ready_{namespace}`.

use crate::connection::Client;
use crate::listening::{Heard, Listener};

impl Client {
    /// Listens for work in `namespaces` over a connection of its own, made at the first [`WakeUps::next`].
    #[must_use]
    pub fn wake_ups(&self, namespaces: &[String]) -> WakeUps {
        let channels = namespaces
            .iter()
            .map(|namespace| format!("tasker_ready_{namespace}"))
            .collect();
        let purpose = ("wake-ups", "work is found by polling");
        WakeUps(Listener::new(self, channels, purpose))
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
pub struct WakeUps(Listener);

impl std::fmt::Debug for WakeUps {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WakeUps")
            .field("channels", &self.0.channels)
            .finish_non_exhaustive()
    }
}

impl WakeUps {
    /// Waits until something may be ready. Waits on while the database is away, so give it a deadline and poll as well.
    /// May be dropped at any time, as in `select!`; nothing is lost but a wake-up that a poll makes good.
    pub async fn next(&mut self) -> WakeUp {
        match self.0.next().await {
            Heard::Notification(_) => {
                // A burst wakes once.
                self.0.drop_buffered();
                WakeUp::Notified
            }
            Heard::Connected => WakeUp::Connected,
        }
    }
}
