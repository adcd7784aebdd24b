//! Spans, and which span of which trace they are.

use opentelemetry::Context;
use opentelemetry::trace::{SpanContext, SpanId, TraceContextExt, TraceFlags, TraceId, TraceState};
use tasker_client::Traceparent;
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt;

/// Makes a span, which nothing has entered yet, the child of one elsewhere.
pub fn join(span: &Span, parent: &Traceparent) {
    let parent = Context::new().with_remote_span_context(context_of(parent));
    // Where nobody records spans there is nothing to join.
    let _ = span.set_parent(parent);
}

/// Says that a span has to do with one elsewhere, which isn't its parent.
pub fn link(span: &Span, other: &Traceparent) {
    span.add_link(context_of(other));
}

/// Which span of which trace it is; `None` where nobody records it.
#[must_use]
pub fn traceparent_of(span: &Span) -> Option<Traceparent> {
    if span.is_disabled() {
        return None;
    }
    let context = span.context();
    let span = context.span();
    let context = span.span_context();
    Traceparent::new(
        u128::from_be_bytes(context.trace_id().to_bytes()),
        u64::from_be_bytes(context.span_id().to_bytes()),
        context.trace_flags().to_u8(),
    )
}

fn context_of(span: &Traceparent) -> SpanContext {
    SpanContext::new(
        TraceId::from_bytes(span.trace_id().to_be_bytes()),
        SpanId::from_bytes(span.span_id().to_be_bytes()),
        TraceFlags::new(span.flags()),
        true,
        TraceState::default(),
    )
}
