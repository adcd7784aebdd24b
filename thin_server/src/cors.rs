//! Which pages of other hosts may call from a browser: none, unless they are named.
//!
//! A caller shows who it is in a header that its page sets. Browsers are never asked to send what they keep by themselves (cookies, certificates), so that any origin may be allowed without lending anybody's name to it.

use std::str::FromStr;
use std::time::Duration;

use axum::http::{HeaderName, HeaderValue, Method, Uri, header};
use tower_http::cors::{Any, CorsLayer};

/// How long a browser may go by what it was told, in seconds.
const REMEMBERED: Duration = Duration::from_mins(10);

const METHODS: [Method; 4] = [Method::GET, Method::POST, Method::PATCH, Method::DELETE];

/// What a page may send besides what it always may.
const SENT: [HeaderName; 8] = [
    header::AUTHORIZATION,
    header::CONTENT_TYPE,
    header::IF_NONE_MATCH,
    HeaderName::from_static("last-event-id"),
    HeaderName::from_static("traceparent"),
    HeaderName::from_static("tracestate"),
    HeaderName::from_static("x-api-key"),
    HeaderName::from_static("x-request-id"),
];

/// What a page may read besides what it always may.
const READ: [HeaderName; 5] = [
    header::ETAG,
    header::LOCATION,
    header::RETRY_AFTER,
    header::WWW_AUTHENTICATE,
    HeaderName::from_static("x-request-id"),
];

/// An origin whose pages may call, or `*` for all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum AllowedOrigin {
    All,
    One(HeaderValue),
}

impl FromStr for AllowedOrigin {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const WANTED: &str =
            "an origin is as browsers send it, https://app.example:8443, or * for all";
        if text == "*" {
            return Ok(Self::All);
        }
        let uri: Uri = text.parse().map_err(|_| WANTED)?;
        let scheme = uri.scheme_str().unwrap_or_default();
        let authority = uri.authority().map_or("", |authority| authority.as_str());
        let is_origin = ["http", "https"].contains(&scheme)
            && !authority.contains('@')
            && text == format!("{scheme}://{authority}").to_ascii_lowercase();
        if !is_origin {
            return Err(WANTED);
        }
        HeaderValue::from_str(text)
            .map(Self::One)
            .map_err(|_| WANTED)
    }
}

/// What answers browsers; nothing where no origin is allowed.
pub(crate) fn layer(origins: &[AllowedOrigin]) -> anyhow::Result<Option<CorsLayer>> {
    if origins.is_empty() {
        return Ok(None);
    }
    let layer = CorsLayer::new()
        .allow_methods(METHODS)
        .allow_headers(SENT)
        .expose_headers(READ)
        .max_age(REMEMBERED);
    if origins == [AllowedOrigin::All] {
        return Ok(Some(layer.allow_origin(Any)));
    }
    let named: Option<Vec<HeaderValue>> = origins
        .iter()
        .map(|origin| match origin {
            AllowedOrigin::All => None,
            AllowedOrigin::One(origin) => Some(origin.clone()),
        })
        .collect();
    let Some(named) = named else {
        anyhow::bail!("--cors-origins names origins and * for all: give one or the other");
    };
    Ok(Some(layer.allow_origin(named)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origins(texts: &[&str]) -> Result<Vec<AllowedOrigin>, &'static str> {
        texts.iter().map(|text| text.parse()).collect()
    }

    #[test]
    fn an_origin_is_written_as_browsers_send_it() {
        for text in [
            "https://app.example",
            "http://localhost:3000",
            "http://[::1]:8080",
            "*",
        ] {
            assert!(origins(&[text]).is_ok(), "{text}");
        }
        for text in [
            "",
            "app.example",
            "https://app.example/",
            "https://app.example/page",
            "https://App.example",
            "https://me@app.example",
            "https://*.example/",
            "ftp://app.example",
            "null",
        ] {
            assert!(origins(&[text]).is_err(), "{text}");
        }
    }

    #[test]
    fn all_origins_are_allowed_alone_or_not_at_all() {
        let layer_of = |texts: &[&str]| layer(&origins(texts).expect("origins"));
        assert!(matches!(layer_of(&[]), Ok(None)));
        assert!(matches!(layer_of(&["*"]), Ok(Some(_))));
        assert!(matches!(
            layer_of(&["https://a.example", "https://b.example"]),
            Ok(Some(_))
        ));
        assert!(layer_of(&["https://a.example", "*"]).is_err());
    }
}
