//! Each request's place in a trace: the header `traceparent` names its parent, and what it creates in the database goes on from it.
//!
//! Without a collector nothing is recorded, and the header is handed on as it came.

use axum::extract::{MatchedPath, Request};
use axum::http::{HeaderMap, HeaderName, Method, Version, header};
use axum::middleware::Next;
use axum::response::Response;
use tasker_client::traces::within;
use tasker_client::{Task, Traceparent};
use tasker_traces::{TARGET, join, traceparent_of};
use tracing::field::{Empty, display};
use tracing::{Instrument, Span};

const HEADER: HeaderName = HeaderName::from_static("traceparent");

/// The trace that a request is a part of. Handlers find it in the request's extensions.
#[derive(Debug, Clone)]
pub(crate) struct Traced {
    /// Its span in it.
    span: Span,
    trace_id: Option<String>,
}

impl Traced {
    /// Gives the span the id of its request, and the log that of the trace.
    pub(crate) fn named(&self, request_id: &str) -> Option<&str> {
        self.span.record("tasker.request_id", request_id);
        self.trace_id.as_deref()
    }

    /// Says which task the request created, in the trace and in the log.
    pub(crate) fn is_about(&self, task: &Task) {
        self.span
            .record("tasker.task_uuid", display(task.task_uuid));
        if let Some(correlation_id) = task.correlation_id {
            self.span
                .record("tasker.correlation_id", display(correlation_id));
            Span::current().record("correlation_id", display(correlation_id));
        }
    }
}

/// Makes the request a span, and the calls made for it part of its trace.
pub(crate) async fn surround(mut request: Request, next: Next) -> Response {
    let parent = parent_of(request.headers());
    let span = span_of(&request);
    if let Some(parent) = &parent {
        join(&span, parent);
    }
    let own = traceparent_of(&span).or(parent);
    request.extensions_mut().insert(Traced {
        span: span.clone(),
        trace_id: own.map(|own| own.trace_id_text()),
    });
    let answered = within(own, next.run(request));
    let response = answered.instrument(span.clone()).await;
    let status = response.status();
    span.record("http.response.status_code", status.as_u16());
    if status.is_server_error() {
        span.record("otel.status_code", "ERROR");
        span.record("error.type", status.as_str());
    }
    response
}

/// The span that the header names; one that can't be read counts as none, and so do two.
fn parent_of(headers: &HeaderMap) -> Option<Traceparent> {
    let mut given = headers.get_all(HEADER).iter();
    let (first, second) = (given.next()?, given.next());
    match second {
        None => first.to_str().ok()?.parse().ok(),
        Some(_) => None,
    }
}

/// The span of a request, by OpenTelemetry's conventions for HTTP. Probes come every second and say nothing new.
fn span_of(request: &Request) -> Span {
    let path = request.uri().path();
    if path.starts_with("/health") || path == "/metrics" {
        return Span::none();
    }
    let method = known_name_of(request.method());
    let route = request.extensions().get::<MatchedPath>();
    let route = route.map(MatchedPath::as_str);
    let agent = request.headers().get(header::USER_AGENT);
    tracing::debug_span!(
        target: TARGET,
        parent: None,
        "request",
        "otel.name" = name_of(method, route),
        "otel.kind" = "server",
        "otel.status_code" = Empty,
        "http.request.method" = method.unwrap_or("_OTHER"),
        "http.route" = route,
        "http.response.status_code" = Empty,
        "url.path" = path,
        "network.protocol.version" = protocol_of(request.version()),
        "user_agent.original" = agent.and_then(|agent| agent.to_str().ok()),
        "error.type" = Empty,
        "tasker.request_id" = Empty,
        "tasker.task_uuid" = Empty,
        "tasker.correlation_id" = Empty,
    )
}

fn name_of(method: Option<&str>, route: Option<&str>) -> String {
    let method = method.unwrap_or("HTTP");
    match route {
        Some(route) => format!("{method} {route}"),
        None => method.to_owned(),
    }
}

/// A caller may invent methods.
fn known_name_of(method: &Method) -> Option<&str> {
    let is_known = matches!(
        *method,
        Method::GET
            | Method::POST
            | Method::PUT
            | Method::PATCH
            | Method::DELETE
            | Method::HEAD
            | Method::OPTIONS
    );
    is_known.then(|| method.as_str())
}

fn protocol_of(version: Version) -> Option<&'static str> {
    match version {
        Version::HTTP_10 => Some("1.0"),
        Version::HTTP_11 => Some("1.1"),
        Version::HTTP_2 => Some("2"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn what_a_caller_invents_names_no_span() {
        let invented = Method::from_bytes(b"FETCH").expect("a method");
        assert_eq!(name_of(known_name_of(&invented), None), "HTTP");
        assert_eq!(
            name_of(known_name_of(&Method::POST), Some("/v1/tasks")),
            "POST /v1/tasks"
        );
    }

    #[test]
    fn one_header_that_can_be_read_names_the_parent() {
        let headers = |values: &[&'static str]| {
            let values = values.iter();
            let pairs = values.map(|value| (HEADER, value.parse().expect("a header")));
            pairs.collect::<HeaderMap>()
        };
        assert_eq!(parent_of(&headers(&[GOOD])), GOOD.parse().ok());
        assert_eq!(parent_of(&headers(&[])), None);
        assert_eq!(parent_of(&headers(&["00-0-0-01"])), None);
        assert_eq!(parent_of(&headers(&[GOOD, GOOD])), None);
    }
}
