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
use tonic::{Code, Status};
use tracing::field::{Empty, display};
use tracing::{Instrument, Span};

use crate::grpc::status;

/// What is the server's own fault, and not the caller's.
const FAULTS: [Code; 6] = [
    Code::Unknown,
    Code::DeadlineExceeded,
    Code::Unimplemented,
    Code::Internal,
    Code::Unavailable,
    Code::DataLoss,
];

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
pub(crate) async fn surround(request: Request, next: Next) -> Response {
    let span = span_of(&request);
    let response = answer_within(&span, request, next).await;
    let status = response.status();
    span.record("http.response.status_code", status.as_u16());
    if status.is_server_error() {
        span.record("otel.status_code", "ERROR");
        span.record("error.type", status.as_str());
    }
    response
}

/// The same for a call of gRPC: its method is the span's name, as OpenTelemetry's conventions for calls want it. Its path is the method's, which is only named where there is one.
pub(crate) async fn surround_call(method: &'static str, request: Request, next: Next) -> Response {
    let span = span_of_call(method);
    let response = answer_within(&span, request, next).await;
    let status = Status::from_header_map(response.headers());
    let code = status.map_or(Code::Ok, |status| status.code());
    span.record("rpc.response.status_code", status::name_of(code));
    if FAULTS.contains(&code) {
        span.record("otel.status_code", "ERROR");
        span.record("error.type", status::name_of(code));
    }
    response
}

/// Answers a request within a span, which is a child of what the header names.
async fn answer_within(span: &Span, mut request: Request, next: Next) -> Response {
    let parent = parent_of(request.headers());
    if let Some(parent) = &parent {
        join(span, parent);
    }
    let own = traceparent_of(span).or(parent);
    request.extensions_mut().insert(Traced {
        span: span.clone(),
        trace_id: own.map(|own| own.trace_id_text()),
    });
    within(own, next.run(request))
        .instrument(span.clone())
        .await
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

/// The span of a call. Probes say nothing new, here as well.
fn span_of_call(method: &'static str) -> Span {
    if method.contains("Health") {
        return Span::none();
    }
    tracing::debug_span!(
        target: TARGET,
        parent: None,
        "request",
        "otel.name" = method,
        "otel.kind" = "server",
        "otel.status_code" = Empty,
        "rpc.system.name" = "grpc",
        "rpc.method" = method,
        "rpc.response.status_code" = Empty,
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
