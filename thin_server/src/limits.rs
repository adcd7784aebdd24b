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

impl Limits {
    /// Serves a request within the bounds, and within the time that its caller allows.
    pub(crate) async fn serve(
        &self,
        allowed: Option<Duration>,
        request: Request,
        next: Next,
    ) -> Response {
        let Ok(_permit) = self.free.try_acquire() else {
            return Problem::busy().into_response();
        };
        let timeout = allowed.map_or(self.timeout, |allowed| allowed.min(self.timeout));
        match tokio::time::timeout(timeout, next.run(request)).await {
            Ok(response) => response,
            Err(_) => Problem::timed_out(timeout).into_response(),
        }
    }
}

/// Refuses a request at once when the server is full: a queue of requests that time out helps nobody.
pub(crate) async fn guard(State(limits): State<Limits>, request: Request, next: Next) -> Response {
    limits.serve(None, request, next).await
}
