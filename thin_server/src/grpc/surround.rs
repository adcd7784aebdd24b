//! What surrounds every call: its id, a line in the log, its metrics, and its problem written.

use std::time::Instant;

use axum::extract::{Request, State};
use axum::http::HeaderValue;
use axum::middleware::Next;
use axum::response::Response;
use tasker_grpc::OPERATIONS;
use tonic::{Code, Status};
use tracing::Instrument;

use super::status;
use crate::metrics::Metrics;
use crate::problem::Problem;
use crate::request_id;
use crate::traces::{self, Traced};

/// What stands for a method that there isn't: a caller may invent any.
const NO_METHOD: &str = "none";
/// Those of other packages, which have no operation.
const OF_OTHERS: [&str; 2] = [
    "/grpc.health.v1.Health/Check",
    "/grpc.health.v1.Health/Watch",
];

/// What the log calls a call. A stream finds it in the extensions.
#[derive(Debug, Clone)]
pub(super) struct RequestId(pub(super) String);

/// Makes the call a part of its trace.
pub(super) async fn trace(request: Request, next: Next) -> Response {
    let method = known_method(request.uri().path());
    traces::surround_call(method, request, next).await
}

/// Gives the call its id, writes one line about it, counts it, and writes its problem.
pub(super) async fn surround(
    State(metrics): State<Metrics>,
    mut request: Request,
    next: Next,
) -> Response {
    let id = request_id::id_of(&request);
    let trace = request.extensions().get::<Traced>();
    let trace_id = trace.and_then(|trace| trace.named(&id));
    let span = tracing::info_span!(
        "request", request_id = %id, method = "gRPC", path = request.uri().path(), trace_id, caller = tracing::field::Empty,
        correlation_id = tracing::field::Empty
    );
    let method = known_method(request.uri().path());
    request.extensions_mut().insert(RequestId(id.clone()));
    let call = metrics.grpc.begin(method);
    async {
        let begun = Instant::now();
        let mut response = next.run(request).await;
        let code = settle(&mut response, &id, &metrics);
        if let Ok(value) = HeaderValue::from_str(&id) {
            response.headers_mut().insert(request_id::HEADER, value);
        }
        let latency_us = begun.elapsed().as_micros();
        let code = status::name_of(code);
        call.answered(code);
        // Probes come every second and say nothing new.
        if method.contains("Health") {
            tracing::debug!(code, latency_us, "answered");
        } else {
            tracing::info!(code, latency_us, "answered");
        }
        response
    }
    .instrument(span)
    .await
}

/// Writes the problem of a response, if it has one, and gives its code.
fn settle(response: &mut Response, id: &str, metrics: &Metrics) -> Code {
    let of_layer = response.extensions_mut().remove::<Problem>();
    // A method that isn't there is answered with headers alone.
    let status = response
        .extensions()
        .get::<Status>()
        .cloned()
        .or_else(|| Status::from_header_map(response.headers()));
    let problem = of_layer.or_else(|| status.as_ref().and_then(status::problem_of));
    let Some(problem) = problem else {
        return status.map_or(Code::Ok, |status| status.code());
    };
    problem.log();
    metrics.grpc.refused(problem.code());
    let written = status::written(&problem, id);
    let code = written.code();
    *response = written.into_http();
    code
}

/// The method at a path, if there is one, for metrics: bounded, whatever callers ask for.
fn known_method(path: &str) -> &'static str {
    let listed = OPERATIONS.iter().map(|(path, _)| *path).chain(OF_OTHERS);
    let mut known = listed.filter(|known| *known == path);
    known
        .next()
        .map_or(NO_METHOD, |path| path.trim_start_matches('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_caller_invents_makes_no_label() {
        assert_eq!(known_method("/tasker.v1.TaskService/Invented"), NO_METHOD);
        assert_eq!(
            known_method("/tasker.v1.TaskService/GetTask"),
            "tasker.v1.TaskService/GetTask"
        );
    }
}
