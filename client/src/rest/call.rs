//! A request, sent; and sent again where that is harmless.

use std::time::Duration;

use reqwest::header::{CONTENT_TYPE, RETRY_AFTER};
use reqwest::{Method, RequestBuilder, Response, StatusCode};
use serde::Serialize;

use super::{RestClient, answer};
use crate::error::{Cause, Error};

/// The pause before the second attempt; it doubles before each further one.
const FIRST_PAUSE: Duration = Duration::from_millis(200);

/// What is asked.
#[derive(Debug)]
pub(super) struct Call<'a> {
    method: Method,
    path: &'a [&'a str],
    query: Vec<(&'static str, String)>,
    body: Option<Vec<u8>>,
    /// Sending it twice comes to the same.
    is_repeatable: bool,
}

/// Why an attempt came to nothing, and when the server would like to be asked again.
pub(super) struct Failure {
    pub(super) error: Error,
    pub(super) retry_after: Option<Duration>,
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self {
            error,
            retry_after: None,
        }
    }
}

impl<'a> Call<'a> {
    pub(super) fn new(method: Method, path: &'a [&'a str]) -> Self {
        Self {
            is_repeatable: method == Method::GET,
            method,
            path,
            query: Vec::new(),
            body: None,
        }
    }

    pub(super) fn get(path: &'a [&'a str]) -> Self {
        Self::new(Method::GET, path)
    }

    /// A parameter, if there is one.
    pub(super) fn query(mut self, name: &'static str, value: Option<String>) -> Self {
        self.query.extend(value.map(|value| (name, value)));
        self
    }

    /// A JSON document.
    pub(super) fn body(mut self, body: &impl Serialize) -> Result<Self, Error> {
        let unwritable = |error| Error::Configuration(Cause::Server(Box::new(error)));
        self.body = Some(serde_json::to_vec(body).map_err(unwritable)?);
        Ok(self)
    }

    /// Whether sending it twice comes to the same, of what does more than look.
    pub(super) fn repeatable(mut self, is_repeatable: bool) -> Self {
        self.is_repeatable = is_repeatable;
        self
    }
}

impl RestClient {
    /// The body of the answer.
    pub(super) async fn send(&self, call: Call<'_>) -> Result<Vec<u8>, Error> {
        let options = &self.0.options;
        let mut attempt = 1;
        loop {
            let failure = match self.try_once(&call).await {
                Ok(body) => return Ok(body),
                Err(failure) => failure,
            };
            let pause = failure.retry_after.unwrap_or_else(|| pause_after(attempt));
            let is_worth_it = call.is_repeatable
                && failure.error.is_transient()
                && attempt < options.attempts
                && pause <= options.longest_pause;
            if !is_worth_it {
                return Err(failure.error);
            }
            tracing::debug!(error = %failure.error, attempt, pause_ms = pause.as_millis(), "a request is sent again");
            tokio::time::sleep(pause).await;
            attempt += 1;
        }
    }

    async fn try_once(&self, call: &Call<'_>) -> Result<Vec<u8>, Failure> {
        let mut request = self
            .request(call.method.clone(), call.path, &call.query)?
            .timeout(self.0.options.timeout);
        if let Some(body) = &call.body {
            request = request
                .header(CONTENT_TYPE, "application/json")
                .body(body.clone());
        }
        let response = request.send().await.map_err(unreachable)?;
        read(response).await
    }

    /// A request that is signed and not sent yet.
    pub(super) fn request(
        &self,
        method: Method,
        path: &[&str],
        query: &[(&'static str, String)],
    ) -> Result<RequestBuilder, Error> {
        let request = self.0.http.request(method, self.address(path)?);
        self.0.options.sign(request.query(query))
    }

    /// The bound on pauses that a server asks for.
    pub(super) fn bounded(&self, pause: Duration) -> Duration {
        pause.min(self.0.options.longest_pause)
    }

    pub(super) fn timeout(&self) -> Duration {
        self.0.options.timeout
    }

    pub(super) fn silence(&self) -> Duration {
        self.0.options.silence
    }
}

/// The body of a good answer; of any other what it says.
pub(super) async fn read(response: Response) -> Result<Vec<u8>, Failure> {
    let status = response.status();
    let retry_after = retry_after(&response);
    let body = response.bytes().await.map_err(unreachable)?;
    if status.is_success() {
        return Ok(body.into());
    }
    Err(Failure {
        error: answer::refusal(status, &body),
        // Elsewhere it is no word about this request.
        retry_after: retry_after.filter(|_| status == StatusCode::SERVICE_UNAVAILABLE),
    })
}

/// In seconds; a date is left to proxies, which none of ours sends.
fn retry_after(response: &Response) -> Option<Duration> {
    let value = response.headers().get(RETRY_AFTER)?.to_str().ok()?;
    value.trim().parse().ok().map(Duration::from_secs)
}

/// The address isn't repeated in the error: it may be long, and the caller knows it.
pub(super) fn unreachable(error: reqwest::Error) -> Error {
    let error = error.without_url();
    if error.is_builder() {
        return Error::Configuration(Cause::Server(Box::new(error)));
    }
    Error::Unreachable(Cause::Server(Box::new(Told(error))))
}

/// An error with what is behind it: the one sentence of the client above says nothing but that sending failed.
#[derive(Debug, thiserror::Error)]
#[error("{}", told(.0))]
struct Told(#[source] reqwest::Error);

fn told(error: &reqwest::Error) -> String {
    let mut said = error.to_string();
    let mut behind = std::error::Error::source(error);
    while let Some(error) = behind {
        said.push_str(": ");
        said.push_str(&error.to_string());
        behind = error.source();
    }
    said
}

pub(super) fn pause_after(failures: u32) -> Duration {
    FIRST_PAUSE.saturating_mul(1 << failures.saturating_sub(1).min(10))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double() {
        assert_eq!(pause_after(1), FIRST_PAUSE);
        assert_eq!(pause_after(3), FIRST_PAUSE * 4);
        assert_eq!(pause_after(u32::MAX), FIRST_PAUSE * 1024);
    }

    #[test]
    fn only_what_looks_is_repeatable_unless_it_is_said() {
        assert!(Call::get(&["v1"]).is_repeatable);
        assert!(!Call::new(Method::DELETE, &["v1"]).is_repeatable);
        assert!(
            Call::new(Method::POST, &["v1"])
                .repeatable(true)
                .is_repeatable
        );
    }
}
