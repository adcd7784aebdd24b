//! Where a server is told who calls, and how long a call may take.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use reqwest::RequestBuilder;
use reqwest::header::{AUTHORIZATION, HeaderName, HeaderValue};

use super::configuration;
use crate::error::Error;

const KEY: HeaderName = HeaderName::from_static("x-api-key");

/// Who calls.
#[derive(Clone, Default)]
#[non_exhaustive]
pub enum Credentials {
    /// Nobody that the server asks for.
    #[default]
    None,
    /// An API key.
    ApiKey(String),
    /// A JSON Web Token.
    Token(String),
    /// A JSON Web Token that is asked for at each request, for those that expire: the function answers at once, from what is kept by whoever renews it.
    TokenFrom(Arc<dyn Fn() -> String + Send + Sync>),
}

/// Secrets stay out of logs.
impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "None",
            Self::ApiKey(_) => "ApiKey(…)",
            Self::Token(_) => "Token(…)",
            Self::TokenFrom(_) => "TokenFrom(…)",
        })
    }
}

/// How a [`RestClient`](super::RestClient) calls.
#[derive(Debug, Clone)]
pub struct RestOptions {
    /// Who calls. Over `http://` anybody on the way can read them.
    pub credentials: Credentials,
    /// A PEM file of certificates that are trusted for `https://` besides those that browsers trust.
    pub ca_file: Option<PathBuf>,
    /// How long it may take until the server takes a connection.
    pub connect_timeout: Duration,
    /// How long a request may take in all, until its answer has been read. A stream of events may take as long as it likes once it has begun.
    pub timeout: Duration,
    /// How often a request is sent that is harmless to repeat, the first time included: what only looks, and what creates tasks under idempotency keys. It is sent again when the server couldn't be reached or
    /// said that it is full or that its database is away. All others are sent once.
    pub attempts: u32,
    /// The longest pause before a request is sent again. A server that asks for a longer one (`Retry-After`) isn't asked again: the call fails with what it said.
    pub longest_pause: Duration,
    /// A stream of events of which nothing has been heard for so long, not even that nothing happens, is taken up anew. Longer than the server's `--event-heartbeat-seconds`.
    pub silence: Duration,
}

impl Default for RestOptions {
    fn default() -> Self {
        Self {
            credentials: Credentials::None,
            ca_file: None,
            connect_timeout: Duration::from_secs(5),
            timeout: Duration::from_secs(30),
            attempts: 3,
            longest_pause: Duration::from_secs(10),
            silence: Duration::from_mins(1),
        }
    }
}

impl RestOptions {
    pub(super) fn check(&self) -> Result<(), Error> {
        match self.credentials.header() {
            Ok(_) => Ok(()),
            Err(_) => Err(configuration(
                "the credentials have characters that a header can't have".to_owned(),
            )),
        }
    }

    /// Says who calls.
    pub(super) fn sign(&self, request: RequestBuilder) -> Result<RequestBuilder, Error> {
        let header = self.credentials.header().map_err(|_| {
            configuration("the token has characters that a header can't have".to_owned())
        })?;
        Ok(match header {
            None => request,
            Some((name, value)) => request.header(name, value),
        })
    }
}

impl Credentials {
    fn header(
        &self,
    ) -> Result<Option<(HeaderName, HeaderValue)>, reqwest::header::InvalidHeaderValue> {
        let (name, text) = match self {
            Self::None => return Ok(None),
            Self::ApiKey(key) => (KEY, key.clone()),
            Self::Token(token) => (AUTHORIZATION, format!("Bearer {token}")),
            Self::TokenFrom(give) => (AUTHORIZATION, format!("Bearer {}", give())),
        };
        let mut value = HeaderValue::try_from(text)?;
        value.set_sensitive(true);
        Ok(Some((name, value)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_not_shown() {
        let options = RestOptions {
            credentials: Credentials::ApiKey("hidden".to_owned()),
            ..RestOptions::default()
        };
        assert!(!format!("{options:?}").contains("hidden"));
        let (_, value) = options
            .credentials
            .header()
            .expect("a header")
            .expect("a key");
        assert!(!format!("{value:?}").contains("hidden"));
    }

    #[test]
    fn a_key_that_no_header_can_have_is_refused() {
        let options = RestOptions {
            credentials: Credentials::Token("a\nb".to_owned()),
            ..RestOptions::default()
        };
        assert!(options.check().is_err());
    }
}
