//! A worker: settings that hold together, ready to run.

use std::time::Duration;

use tasker_client::{Client, Error};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::WorkerBuilder;
use crate::calls::{CallError, Caller};
use crate::deliveries::{Deliveries, EventCaller};
use crate::handler::Handlers;
use crate::jitter::{fraction, pause};
use crate::schedule::WakeMode;
use crate::shift::Shift;

/// How a worker works.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(crate) concurrency: usize,
    pub(crate) prefetch: usize,
    pub(crate) poll_interval: Duration,
    pub(crate) wake_mode: WakeMode,
    pub(crate) shutdown_grace: Duration,
}

/// Claims steps, runs their handlers and reports how they ended.
#[derive(Debug)]
pub struct Worker {
    caller: Caller,
    settings: Settings,
    handlers: Handlers,
    events: Option<EventCaller>,
}

/// Why a worker couldn't begin. Once it has begun it goes on until it is told to stop.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The database refused the worker's registration: a missing extension or privilege, or a name
    /// that can't be.
    #[error("the worker can't register: {0}")]
    Registration(#[source] Error),
}

impl Worker {
    /// Begins the settings of a worker that calls the database through `client`. The client's pool
    /// should have three connections at least: for outcomes, for leases, and one to spare, which those
    /// who subscribe to domain events use.
    #[must_use]
    pub fn builder(client: Client) -> WorkerBuilder {
        WorkerBuilder::new(client)
    }

    pub(crate) fn new(
        caller: Caller,
        settings: Settings,
        handlers: Handlers,
        events: Option<EventCaller>,
    ) -> Self {
        Self {
            caller,
            settings,
            handlers,
            events,
        }
    }

    /// The name under which the worker claims.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.caller.worker_id
    }

    /// Works until `shutdown` is cancelled. Then it claims no more, waits for running handlers up
    /// to the grace time, gives the rest back (which uses no attempt up) and returns.
    ///
    /// While the database is away, at the beginning too, the worker waits for it.
    pub async fn run(self, shutdown: CancellationToken) -> Result<(), RunError> {
        if !self.registered(&shutdown).await? {
            return Ok(());
        }
        tracing::info!(
            worker_id = self.id(), namespaces = ?self.caller.namespaces,
            handlers = self.caller.handlers.len(),
            concurrency = self.settings.concurrency, "the worker is ready"
        );
        let shift = Shift::new(self.caller, &self.settings, self.handlers);
        let grace = self.settings.shutdown_grace;
        let deliveries = self.events.map(|caller| {
            let (deliveries, shutdown) = (Deliveries::new(caller), shutdown.clone());
            spawned(async move { deliveries.work(&shutdown, grace).await })
        });
        // On a thread of the runtime, which also hears of answers: the thread that waits for the
        // whole program would have to be woken for each.
        joined(spawned(async move { shift.work(&shutdown, grace).await })).await;
        if let Some(deliveries) = deliveries {
            joined(deliveries).await;
        }
        tracing::info!("the worker has stopped");
        Ok(())
    }

    /// Registers, as soon as the database is there; false when the worker is told to stop before.
    async fn registered(&self, shutdown: &CancellationToken) -> Result<bool, RunError> {
        let mut failures = 0;
        loop {
            let answer = tokio::select! {
                () = shutdown.cancelled() => return Ok(false),
                answer = self.caller.register() => answer,
            };
            match answer {
                Ok(()) => return Ok(true),
                Err(CallError::Refused(error)) if !error.is_transient() => {
                    return Err(RunError::Registration(error));
                }
                Err(error) if failures == 0 => {
                    tracing::warn!(%error, "the worker waits for the database");
                }
                Err(_) => {}
            }
            failures += 1;
            tokio::select! {
                () = shutdown.cancelled() => return Ok(false),
                () = tokio::time::sleep(pause(failures, fraction())) => {}
            }
        }
    }
}

fn spawned(work: impl Future<Output = ()> + Send + 'static) -> AbortOnDropHandle<()> {
    AbortOnDropHandle::new(tokio::spawn(work))
}

/// Waits for a part of the worker; its panic is the worker's.
async fn joined(part: AbortOnDropHandle<()>) {
    if let Err(error) = part.await
        && let Ok(panic) = error.try_into_panic()
    {
        std::panic::resume_unwind(panic);
    }
}
