//! The client's functions over REST, for who doesn't reach the database: each is one request to a server, and has the name, the types and the errors of its namesake on
//! [`Client`](crate::Client). What an application calls is [`Tasker`](crate::Tasker), which has either transport behind it.
//!
//! | module | holds |
//! |---|---|
//! | `options` | where the server is, who calls, how long a call may take |
//! | `call` | a request sent, and sent again where that is harmless |
//! | `answer` | answers read; errors as they are over SQL |
//! | `tasks`, `steering`, `steps` | the functions |
//! | `events` | the feed, resumed when its connection breaks |
//! | `sse` | Server-Sent Events taken apart |

mod answer;
mod call;
pub(crate) mod events;
mod options;
mod sse;
mod steering;
mod steps;
mod tasks;

use std::sync::Arc;

use reqwest::redirect::Policy;
use reqwest::{Certificate, Url};

pub use options::{Credentials, RestOptions};

use crate::error::{Cause, Details, Error};

/// The door to a Tasker server. Cheap to clone: all clones share the connections that are kept open.
#[derive(Debug, Clone)]
pub struct RestClient(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    http: reqwest::Client,
    base: Url,
    options: RestOptions,
}

impl RestClient {
    /// A client of the server at an address, `http://` or `https://`, with a path where the server lies under one. Nothing is sent before the first call: it fails only when the address or the options can't
    /// be used.
    pub fn new(url: &str, options: RestOptions) -> Result<Self, Error> {
        let base: Url = url
            .parse()
            .map_err(|error| configuration(format!("{url} is no address: {error}")))?;
        if !matches!(base.scheme(), "http" | "https") || !base.has_host() {
            return Err(configuration(format!(
                "{url} must begin with http:// or https:// and name a host"
            )));
        }
        let mut http = reqwest::Client::builder()
            .connect_timeout(options.connect_timeout)
            .user_agent(concat!("tasker-client/", env!("CARGO_PKG_VERSION")))
            // Elsewhere nobody is to be shown who calls.
            .redirect(Policy::none());
        if let Some(file) = &options.ca_file {
            let unreadable = |error: &dyn std::fmt::Display| {
                configuration(format!("{}: {error}", file.display()))
            };
            let pem = std::fs::read(file).map_err(|error| unreadable(&error))?;
            let certificates =
                Certificate::from_pem_bundle(&pem).map_err(|error| unreadable(&error))?;
            if certificates.is_empty() {
                return Err(unreadable(&"no certificate is in it"));
            }
            for certificate in certificates {
                http = http.add_root_certificate(certificate);
            }
        }
        let http = http
            .build()
            .map_err(|error| Error::Configuration(Cause::Server(Box::new(error))))?;
        options.check()?;
        Ok(Self(Arc::new(Inner {
            http,
            base,
            options,
        })))
    }

    /// The address below the server's.
    fn address(&self, path: &[&str]) -> Result<Url, Error> {
        // An address would lose them.
        if let Some(part) = path.iter().find(|part| ["", ".", ".."].contains(*part)) {
            return Err(Error::BadParameter(Details {
                code: "22023".to_owned(),
                message: format!("{part:?} is no name"),
                detail: None,
                hint: None,
            }));
        }
        let mut url = self.0.base.clone();
        url.path_segments_mut()
            .map_err(|()| configuration(format!("{} can have no path", self.0.base)))?
            .pop_if_empty()
            .extend(path);
        Ok(url)
    }
}

fn configuration(message: String) -> Error {
    Error::Configuration(Cause::Server(message.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(url: &str) -> Result<RestClient, Error> {
        RestClient::new(url, RestOptions::default())
    }

    #[test]
    fn an_address_that_cannot_be_used_is_refused_before_any_call() {
        for url in ["", "localhost:8080", "ftp://host/", "https://", "not a url"] {
            assert!(
                matches!(client(url), Err(Error::Configuration(_))),
                "{url:?}"
            );
        }
    }

    #[test]
    fn paths_go_below_the_address_and_are_escaped() {
        for base in ["https://host/tasker", "https://host/tasker/"] {
            let url = client(base)
                .expect("an address")
                .address(&["v1", "signals", "a b/c?d"])
                .expect("a path");
            assert_eq!(url.as_str(), "https://host/tasker/v1/signals/a%20b%2Fc%3Fd");
        }
    }

    #[test]
    fn a_name_that_an_address_would_lose_is_refused() {
        let client = client("https://host").expect("an address");
        for name in ["", ".", ".."] {
            let refused = client.address(&["v1", "tasks", name]);
            assert!(matches!(refused, Err(Error::BadParameter(_))), "{name:?}");
        }
    }

    #[test]
    fn a_file_without_certificates_is_refused() {
        let options = RestOptions {
            ca_file: Some(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml").into()),
            ..RestOptions::default()
        };
        let refused = RestClient::new("https://host", options);
        assert!(matches!(refused, Err(Error::Configuration(_))));
    }
}
