//! Notifications of the database, turned into a flag that the loop can wait for.

use std::sync::Arc;

use tasker_client::Client;
use tokio::sync::Notify;
use tokio_util::task::AbortOnDropHandle;

/// Listens until it is dropped. Any number of notifications before the next wait count as one.
#[derive(Debug)]
pub(crate) struct Wake {
    notified: Arc<Notify>,
    _listener: Option<AbortOnDropHandle<()>>,
}

impl Wake {
    /// Listens for work in `namespaces`, over a restart of the database too.
    pub(crate) fn listening(client: &Client, namespaces: &[String]) -> Self {
        let notified = Arc::new(Notify::new());
        let mut wake_ups = client.wake_ups(namespaces);
        let listener = tokio::spawn({
            let notified = Arc::clone(&notified);
            async move {
                loop {
                    wake_ups.next().await;
                    notified.notify_one();
                }
            }
        });
        Self {
            notified,
            _listener: Some(AbortOnDropHandle::new(listener)),
        }
    }

    /// Never wakes.
    pub(crate) fn silent() -> Self {
        Self {
            notified: Arc::new(Notify::new()),
            _listener: None,
        }
    }

    /// Waits for a notification, or for the listener's connecting, after which one may have been
    /// missed.
    pub(crate) async fn woken(&self) {
        self.notified.notified().await;
    }
}
