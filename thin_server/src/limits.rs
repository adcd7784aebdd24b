//! The bound on requests served at once, and on the time of each.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use tokio::sync::Semaphore;

use crate::problem::Problem;

/// The bounds, shared by all requests.
#[derive(Debug, Clone)]
pub(crate) struct Limits {
    free: Arc<Semaphore>,
    timeout: Duration,
}

impl Limits {
    pub(crate) fn new(concurrent_requests: usize, timeout: Duration) -> Self {
        Self {
            free: Arc::new(Semaphore::new(
                concurrent_requests.min(Semaphore::MAX_PERMITS),
            )),
            timeout,
        }
    }
}

/// Refuses a request at once when the server is full: a queue of requests that time out helps nobody.
pub(crate) async fn guard(State(limits): State<Limits>, request: Request, next: Next) -> Response {
    let Ok(_permit) = limits.free.try_acquire() else {
        return Problem::busy().into_response();
    };
    match tokio::time::timeout(limits.timeout, next.run(request)).await {
        Ok(response) => response,
        Err(_) => Problem::timed_out(limits.timeout).into_response(),
    }
}
