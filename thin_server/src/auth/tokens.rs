//! Tokens: who signed them, and what they say.

use chrono::Utc;
use tasker_client::tokens::{Expected, TokenKeys};

use super::jwks::Jwks;
use super::{AuthOptions, Caller, refused};
use crate::problem::Problem;

#[derive(Debug)]
enum Keys {
    Fixed(TokenKeys),
    At(Box<Jwks>),
}

#[derive(Debug)]
pub(super) struct Tokens {
    keys: Keys,
    expected: Expected,
}

impl Tokens {
    /// What the flags say of tokens; nothing where none are taken.
    pub(super) fn new(options: &AuthOptions) -> anyhow::Result<Option<Self>> {
        let Some(expected) = options.expected() else {
            return Ok(None);
        };
        let keys = match (options.public_key()?, &options.jwks_url) {
            (Some(key), _) => Keys::Fixed(key),
            (None, Some(url)) => Keys::At(Box::new(Jwks::new(
                url,
                options.jwks_ca.as_deref(),
                std::time::Duration::from_secs(options.jwks_refresh_seconds),
            )?)),
            (None, None) => return Ok(None),
        };
        Ok(Some(Self { keys, expected }))
    }

    /// Who holds a token.
    pub(super) async fn caller(&self, token: &str) -> Result<Caller, Problem> {
        let read = match &self.keys {
            Keys::Fixed(keys) => keys.read(token, &self.expected, Utc::now()),
            Keys::At(jwks) => {
                let keys = jwks.for_token(token).await?;
                keys.read(token, &self.expected, Utc::now())
            }
        };
        let claims = read.map_err(|error| {
            refused(error.to_string())
                .hint("tasker-ctl auth token check shows what is read from a token.")
        })?;
        Ok(Caller {
            name: format!("token {}", claims.subject),
            permissions: claims.permissions,
            namespaces: claims.namespaces,
        })
    }
}
