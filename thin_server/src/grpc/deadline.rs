//! The bounds on calls: those of REST, and the time that a caller allows.

use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::HeaderMap;
use axum::middleware::Next;
use axum::response::Response;

use crate::limits::Limits;

/// How a caller says how long it waits.
const HEADER: &str = "grpc-timeout";
/// The most digits that it may say it with.
const MOST_DIGITS: usize = 8;

/// Bounds what has an end soon: streams have a bound of their own, and health is told also while the server is busy.
pub(super) async fn guard(State(limits): State<Limits>, request: Request, next: Next) -> Response {
    let path = request.uri().path();
    let is_bounded = path.starts_with("/tasker.v1.")
        && !path.starts_with("/tasker.v1.HealthService/")
        && !path.contains("/Stream");
    if !is_bounded {
        return next.run(request).await;
    }
    let allowed = timeout_of(request.headers());
    limits.serve(allowed, request, next).await
}

/// How long the caller waits; nothing where it doesn't say, or can't be understood.
fn timeout_of(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(HEADER)?.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.len() > MOST_DIGITS {
        return None;
    }
    let count: u32 = digits.parse().ok()?;
    let count = u64::from(count);
    Some(match unit {
        "H" => Duration::from_hours(count),
        "M" => Duration::from_mins(count),
        "S" => Duration::from_secs(count),
        "m" => Duration::from_millis(count),
        "u" => Duration::from_micros(count),
        "n" => Duration::from_nanos(count),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::body::Body;
    use axum::http::HeaderValue;
    use axum::middleware::from_fn_with_state;
    use axum::routing::post;
    use hyper::service::Service;
    use hyper_util::service::TowerToHyperService;

    use super::*;
    use crate::problem::Problem;

    #[tokio::test]
    async fn a_call_ends_when_its_caller_waits_no_longer() {
        let path = "/tasker.v1.TaskService/GetTask";
        let limits = Limits::new(1, Duration::from_hours(1));
        let routes = Router::new()
            .route(path, post(std::future::pending::<()>))
            .layer(from_fn_with_state(limits, guard));
        let call = Request::post(path)
            .header(HEADER, "5m")
            .body(Body::empty())
            .expect("a request");
        let answer = TowerToHyperService::new(routes).call(call).await;
        let answer = answer.expect("an answer");
        let problem = answer.extensions().get::<Problem>();
        assert_eq!(problem.map(Problem::code), Some("request_timed_out"));
    }

    #[test]
    fn a_timeout_is_read_as_it_is_written() {
        let read = |text: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(HEADER, HeaderValue::from_static(text));
            timeout_of(&headers)
        };
        assert_eq!(read("100m"), Some(Duration::from_millis(100)));
        assert_eq!(read("2H"), Some(Duration::from_hours(2)));
        assert_eq!(read("99999999n"), Some(Duration::from_nanos(99_999_999)));
        for unreadable in ["", "m", "1", "1x", "-1S", "123456789S", "1.5S"] {
            assert_eq!(read(unreadable), None, "{unreadable}");
        }
        assert_eq!(timeout_of(&HeaderMap::new()), None);
    }
}
