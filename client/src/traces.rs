//! The trace that calls are a part of. A program says it for a scope, as it says for whom it calls; tasks created in that scope carry it to the workers.
//!
//! Nothing here records or sends spans: a call within a trace is a `tracing` span of the target [`TARGET`], for whatever the program listens with.

use std::future::Future;

use tasker_rules::traceparent::Traceparent;
use tracing::Span;
use tracing::field::Empty;

/// The target of `tracing` spans that are meant for traces and not for the log.
pub const TARGET: &str = "tasker_trace";

tokio::task_local! {
    static TRACE: Traceparent;
}

/// Makes the calls of a future part of a trace, as children of a span; `None` leaves them as they are. What it spawns is outside.
///
/// ```
/// # tokio::runtime::Runtime::new().unwrap().block_on(async {
/// let span = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".parse().ok();
/// let seen = tasker_client::traces::within(span, async { tasker_client::traces::current() }).await;
/// assert_eq!(seen, span);
/// # });
/// ```
pub async fn within<F: Future>(span: Option<Traceparent>, calls: F) -> F::Output {
    match span {
        Some(span) => TRACE.scope(span, calls).await,
        None => calls.await,
    }
}

/// The span that calls made here are children of.
#[must_use]
pub fn current() -> Option<Traceparent> {
    TRACE.try_with(|span| *span).ok()
}

/// The span of a statement that calls a function of ours, by OpenTelemetry's conventions for databases.
macro_rules! statement {
    ($function:expr, $($parent:tt)*) => {
        tracing::debug_span!(
            target: TARGET,
            $($parent)*
            "database",
            "otel.name" = %format_args!("select {}", $function),
            "otel.kind" = "client",
            "otel.status_code" = Empty,
            "db.system.name" = "postgresql",
            "db.operation.name" = "select",
            "db.stored_procedure.name" = $function,
            "db.response.status_code" = Empty,
            "error.type" = Empty,
            "messaging.batch.message_count" = Empty,
        )
    };
}

/// The span of a statement that calls a function, given with its schema: a child of the current span.
pub(crate) fn statement(function: &str) -> Span {
    statement!(function,)
}

/// The same for a caller who says itself of what the statement is a part; it begins a trace otherwise.
#[must_use]
pub fn lone_statement(function: &str) -> Span {
    statement!(function, parent: None,)
}
