//! What a request shows of who sent it.

use axum::http::{HeaderMap, HeaderName, header};

use super::{missing, refused};
use crate::problem::Problem;

/// The header with an API key.
const KEY: HeaderName = HeaderName::from_static("x-api-key");
/// Longer ones are refused unread.
const LONGEST: usize = 16 * 1024;

/// An API key, or a token.
pub(super) enum Credentials {
    Key(String),
    Token(String),
}

impl Credentials {
    /// Those of a request: exactly one is taken, so that nobody is taken for somebody else.
    pub(super) fn of(headers: &HeaderMap) -> Result<Self, Problem> {
        let one = |name: HeaderName| -> Result<Option<String>, Problem> {
            let mut given = headers.get_all(&name).iter();
            let Some(value) = given.next() else {
                return Ok(None);
            };
            if given.next().is_some() {
                return Err(refused(format!("the header {name} is given twice")));
            }
            let text = value.to_str().ok().filter(|text| text.len() <= LONGEST);
            let text = text.ok_or_else(|| refused(format!("the header {name} can't be read")))?;
            Ok(Some(text.trim().to_owned()))
        };
        match (one(KEY)?, one(header::AUTHORIZATION)?) {
            (Some(_), Some(_)) => Err(refused("both an API key and a token are given")),
            (Some(key), None) => Ok(Self::Key(key)),
            (None, Some(authorization)) => Self::bearer(&authorization),
            (None, None) => Err(missing()),
        }
    }

    fn bearer(authorization: &str) -> Result<Self, Problem> {
        let (scheme, token) = authorization.split_once(' ').unwrap_or((authorization, ""));
        if !scheme.eq_ignore_ascii_case("bearer") {
            return Err(refused("only the scheme Bearer is taken in Authorization"));
        }
        Ok(Self::Token(token.trim().to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn of(given: &[(&'static str, &'static str)]) -> Option<String> {
        let mut headers = HeaderMap::new();
        for (name, value) in given {
            headers.append(*name, HeaderValue::from_static(value));
        }
        match Credentials::of(&headers).ok()? {
            Credentials::Key(key) => Some(format!("key {key}")),
            Credentials::Token(token) => Some(format!("token {token}")),
        }
    }

    #[test]
    fn exactly_one_key_or_token_is_taken() {
        assert_eq!(of(&[("x-api-key", "a")]).as_deref(), Some("key a"));
        assert_eq!(
            of(&[("authorization", "bearer  b")]).as_deref(),
            Some("token b")
        );
        for refused in [
            &[][..],
            &[("authorization", "Basic YTpi")],
            &[("x-api-key", "a"), ("authorization", "Bearer b")],
            &[("x-api-key", "a"), ("x-api-key", "a")],
        ] {
            assert_eq!(of(refused), None, "{refused:?}");
        }
    }
}
