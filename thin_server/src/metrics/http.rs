//! Counting requests.

use std::time::Instant;

use axum::extract::{MatchedPath, Request, State};
use axum::http::Method;
use axum::middleware::Next;
use axum::response::Response;
use prometheus::IntGauge;

use super::Metrics;
use crate::problem::RefusalCode;

/// What stands for the route of a request that none is for.
const NO_ROUTE: &str = "none";

/// Counts the request, also one that is refused or given up by its caller.
pub(crate) async fn observe(
    State(metrics): State<Metrics>,
    request: Request,
    next: Next,
) -> Response {
    let begun = Instant::now();
    let method = name_of(request.method());
    let route = request
        .extensions()
        .get::<MatchedPath>()
        .map_or_else(|| NO_ROUTE.to_owned(), |path| path.as_str().to_owned());
    let in_flight = InFlight::new(&metrics.http.in_flight);
    let response = next.run(request).await;
    drop(in_flight);
    let http = &metrics.http;
    http.requests
        .with_label_values(&[method, &route, class_of(response.status().as_u16())])
        .inc();
    http.duration_seconds
        .with_label_values(&[method, &route])
        .observe(begun.elapsed().as_secs_f64());
    if let Some(RefusalCode(code)) = response.extensions().get() {
        http.refusals.with_label_values(&[code.as_str()]).inc();
    }
    response
}

/// Counted as long as it is kept: a request whose caller goes away is dropped in the middle.
struct InFlight(IntGauge);

impl InFlight {
    fn new(gauge: &IntGauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// A caller may invent methods.
fn name_of(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        Method::HEAD => "HEAD",
        Method::OPTIONS => "OPTIONS",
        _ => "other",
    }
}

fn class_of(status: u16) -> &'static str {
    match status / 100 {
        1 => "1xx",
        2 => "2xx",
        3 => "3xx",
        4 => "4xx",
        _ => "5xx",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_caller_invents_makes_no_label() {
        let invented = Method::from_bytes(b"FETCH").expect("a method");
        assert_eq!(name_of(&invented), "other");
        assert_eq!(
            (class_of(204), class_of(404), class_of(503)),
            ("2xx", "4xx", "5xx")
        );
    }
}
