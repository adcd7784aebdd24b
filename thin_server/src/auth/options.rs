//! Flags about who may call.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use tasker_client::tokens::{Expected, TokenKeys};

/// Who may call, and how they show it.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Authentication")]
pub(crate) struct AuthOptions {
    /// Ask every caller for an API key (`tasker-ctl auth key create`) or a token; implied by the flags about tokens
    #[arg(long, env = "TASKER_AUTHENTICATION")]
    pub(crate) authentication: bool,

    /// How long an API key is remembered once it was checked, in seconds: a revoke counts after that; 0 asks the database each time
    #[arg(long, env = "TASKER_KEY_CACHE_SECONDS", default_value_t = 10, value_parser = clap::value_parser!(u64).range(..=300))]
    pub(crate) key_cache_seconds: u64,

    /// Take JSON Web Tokens signed with the private half of this key: a PEM file, RSA (RS256) or elliptic on the curve P-256 (ES256)
    #[arg(long, env = "TASKER_JWT_PUBLIC_KEY", value_name = "FILE", requires_all = ["jwt_issuer", "jwt_audience"], conflicts_with = "jwks_url")]
    pub(crate) jwt_public_key: Option<PathBuf>,

    /// Take JSON Web Tokens signed with one of the keys at this address, which is read again as keys change; https, or http on this machine
    #[arg(long, env = "TASKER_JWKS_URL", value_name = "URL", requires_all = ["jwt_issuer", "jwt_audience"])]
    pub(crate) jwks_url: Option<String>,

    /// Trust the certificates of this PEM file, besides the public authorities, when reading --jwks-url
    #[arg(
        long,
        env = "TASKER_JWKS_CA",
        value_name = "FILE",
        requires = "jwks_url"
    )]
    pub(crate) jwks_ca: Option<PathBuf>,

    /// How old the keys of --jwks-url may become before they are read again, in seconds; a token with an unknown key has them read at once
    #[arg(long, env = "TASKER_JWKS_REFRESH_SECONDS", default_value_t = 300, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub(crate) jwks_refresh_seconds: u64,

    /// Who signs the tokens: their claim `iss`
    #[arg(long, env = "TASKER_JWT_ISSUER", value_name = "ISSUER")]
    pub(crate) jwt_issuer: Option<String>,

    /// Whom the tokens are for: their claim `aud`, or one of it
    #[arg(long, env = "TASKER_JWT_AUDIENCE", value_name = "AUDIENCE")]
    pub(crate) jwt_audience: Option<String>,

    /// The claim with the permissions: a list, or words with blanks between
    #[arg(
        long,
        env = "TASKER_JWT_PERMISSIONS_CLAIM",
        value_name = "CLAIM",
        default_value = "permissions"
    )]
    pub(crate) jwt_permissions_claim: String,

    /// The claim with the namespaces that are reached: a list; a token without it reaches all
    #[arg(
        long,
        env = "TASKER_JWT_NAMESPACES_CLAIM",
        value_name = "CLAIM",
        default_value = "namespaces"
    )]
    pub(crate) jwt_namespaces_claim: String,
}

impl AuthOptions {
    /// Whether callers are asked who they are.
    pub(crate) fn is_on(&self) -> bool {
        self.authentication || self.takes_tokens()
    }

    fn takes_tokens(&self) -> bool {
        self.jwt_public_key.is_some() || self.jwks_url.is_some()
    }

    pub(crate) fn remembered_for(&self) -> Duration {
        Duration::from_secs(self.key_cache_seconds)
    }

    /// What tokens must say; nothing where none are taken.
    pub(crate) fn expected(&self) -> Option<Expected> {
        Some(Expected {
            issuer: self.jwt_issuer.clone()?,
            audience: self.jwt_audience.clone()?,
            permissions_claim: self.jwt_permissions_claim.clone(),
            namespaces_claim: self.jwt_namespaces_claim.clone(),
        })
        .filter(|_| self.takes_tokens())
    }

    /// The key of `--jwt-public-key`.
    pub(crate) fn public_key(&self) -> anyhow::Result<Option<TokenKeys>> {
        let Some(file) = &self.jwt_public_key else {
            return Ok(None);
        };
        let named = || format!("--jwt-public-key {}", file.display());
        let pem = std::fs::read(file).with_context(named)?;
        Ok(Some(TokenKeys::from_pem(&pem).with_context(named)?))
    }
}
