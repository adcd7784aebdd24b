//! Every request has an id: taken from `X-Request-Id` or made, returned in the same header, and in every line of the log.

use std::time::Instant;

use axum::extract::Request;
use axum::http::{HeaderName, HeaderValue};
use axum::middleware::Next;
use axum::response::Response;
use tracing::Instrument;
use uuid::Uuid;

use crate::problem::Problem;
use crate::traces::Traced;

pub(crate) const HEADER: HeaderName = HeaderName::from_static("x-request-id");
const LONGEST_ID: usize = 128;

/// Gives the request its id, writes one line about it, and renders a [`Problem`], which needs the id.
pub(crate) async fn surround(request: Request, next: Next) -> Response {
    let id = id_of(&request);
    let trace = request.extensions().get::<Traced>();
    let trace_id = trace.and_then(|trace| trace.named(&id));
    let span = tracing::info_span!(
        "request", request_id = %id, method = %request.method(), path = request.uri().path(), trace_id,
        caller = tracing::field::Empty, correlation_id = tracing::field::Empty
    );
    respond(id, request, next).instrument(span).await
}

async fn respond(id: String, request: Request, next: Next) -> Response {
    let begun = Instant::now();
    let path = request.uri().path();
    let is_probe = path.starts_with("/health") || path == "/metrics";
    let mut response = next.run(request).await;
    if let Some(problem) = response.extensions_mut().remove::<Problem>() {
        problem.log();
        response = problem.render(&id);
    }
    if let Ok(value) = HeaderValue::from_str(&id) {
        response.headers_mut().insert(HEADER, value);
    }
    let latency_us = begun.elapsed().as_micros();
    let status = response.status().as_u16();
    // Probes come every second and say nothing new.
    if is_probe {
        tracing::debug!(status, latency_us, "answered");
    } else {
        tracing::info!(status, latency_us, "answered");
    }
    response
}

/// An id that could break a line of the log, or is very long, is replaced.
pub(crate) fn id_of(request: &Request) -> String {
    request
        .headers()
        .get(HEADER)
        .and_then(|value| value.to_str().ok())
        .filter(|id| {
            (1..=LONGEST_ID).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_graphic())
        })
        .map_or_else(|| Uuid::now_v7().to_string(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use axum::body::Body;

    use super::*;

    fn request(id: &str) -> Request {
        Request::builder()
            .header(HEADER, id)
            .body(Body::empty())
            .expect("a request")
    }

    #[test]
    fn a_given_id_is_kept_and_an_unusable_one_replaced() {
        assert_eq!(id_of(&request("abc-1")), "abc-1");
        assert_ne!(id_of(&request("a b")), "a b");
        assert_eq!(id_of(&request("")).len(), 36);
        assert_eq!(id_of(&request(&"x".repeat(129))).len(), 36);
    }
}
