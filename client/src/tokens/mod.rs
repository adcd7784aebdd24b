//! JSON Web Tokens of callers: read with public keys, and signed with a private one for tests and small installations.
//!
//! Two algorithms are known, RS256 and ES256. The key decides which one counts, never the token: one that says `none`, or takes a public key for a shared secret, is refused.

mod claims;
mod keys;

pub use claims::{Claims, Expected, NewToken};
pub use keys::{SigningKey, TokenKeys, jwks_of};

/// Why a token, or a key for tokens, can't be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TokenError {
    /// It isn't a token at all.
    #[error("the token can't be read")]
    Unreadable,
    /// It isn't signed by a known algorithm, or by another one than that of its key.
    #[error("the token's algorithm isn't that of its key, RS256 or ES256")]
    Algorithm,
    /// No key is known by its name, or by none.
    #[error("the token is signed with an unknown key")]
    UnknownKey,
    /// The signature isn't that of the key.
    #[error("the token's signature is wrong")]
    Signature,
    /// A claim is missing or not what it must be.
    #[error("the token's claim {claim} {problem}")]
    Claim {
        /// The claim's name.
        claim: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// It counts no more, or not yet.
    #[error("the token {0}")]
    Time(&'static str),
    /// The file isn't a key that can be used.
    #[error("the key can't be used: {0}")]
    Key(String),
}
