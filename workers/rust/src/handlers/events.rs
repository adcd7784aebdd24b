//! What this program does about domain events: it logs them.

use tasker_worker_runtime::{DomainEvent, HandlerError, WorkerBuilder};

/// Subscribes to the events of orders.
pub(super) fn subscribe(builder: WorkerBuilder) -> WorkerBuilder {
    builder.subscribe("order.*", log)
}

#[allow(
    clippy::unused_async,
    reason = "a handler of events is async, also one that waits for nothing"
)]
async fn log(event: DomainEvent) -> Result<(), HandlerError> {
    tracing::info!(
        event_uuid = %event.event_uuid, namespace = event.namespace, task_uuid = %event.task_uuid,
        step_name = event.step_name, outcome = event.outcome, payload = %event.payload,
        "the domain event {} has come", event.name
    );
    Ok(())
}
