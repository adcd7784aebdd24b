//! The keys that sign tokens, and those that show who did.

use chrono::{DateTime, Utc};
use jsonwebtoken::jwk::{
    AlgorithmParameters, EllipticCurve, Jwk, JwkSet, KeyAlgorithm, PublicKeyUse,
};
use jsonwebtoken::{
    Algorithm, DecodingKey, EncodingKey, Header, Validation, decode, decode_header, encode,
};
use serde_json::{Map, Value};

use super::{Claims, Expected, NewToken, TokenError};

/// The most keys that a set may have: each is a document's, which is read by whoever can answer for its address.
const MAX_KEYS: usize = 100;

/// A public key, and the one algorithm that it counts for.
#[derive(Clone)]
struct PublicKey {
    name: Option<String>,
    algorithm: Algorithm,
    key: DecodingKey,
}

/// The public keys of who signs tokens.
#[derive(Clone)]
pub struct TokenKeys {
    keys: Vec<PublicKey>,
    /// A token names which key of a set signed it. A key that stands alone has no name.
    are_named: bool,
}

impl std::fmt::Debug for TokenKeys {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names: Vec<_> = self
            .keys
            .iter()
            .map(|key| (&key.name, key.algorithm))
            .collect();
        out.debug_tuple("TokenKeys").field(&names).finish()
    }
}

impl TokenKeys {
    /// The one public key of a PEM file: RSA for RS256, or elliptic on the curve P-256 for ES256.
    pub fn from_pem(pem: &[u8]) -> Result<Self, TokenError> {
        let (algorithm, key) = public_key(pem)?;
        let name = None;
        Ok(Self {
            keys: vec![PublicKey {
                name,
                algorithm,
                key,
            }],
            are_named: false,
        })
    }

    /// The public keys of a JSON Web Key Set that are for signatures by a known algorithm; others are passed over.
    pub fn from_jwks(document: &[u8]) -> Result<Self, TokenError> {
        let set: JwkSet = serde_json::from_slice(document)
            .map_err(|error| TokenError::Key(format!("it is no set of keys: {error}")))?;
        if set.keys.len() > MAX_KEYS {
            let count = set.keys.len();
            return Err(TokenError::Key(format!(
                "{count} keys are more than {MAX_KEYS}"
            )));
        }
        let keys: Vec<PublicKey> = set.keys.iter().filter_map(public_key_of).collect();
        if keys.is_empty() {
            let none = "the set has no key for RS256 or ES256";
            return Err(TokenError::Key(none.to_owned()));
        }
        Ok(Self {
            keys,
            are_named: true,
        })
    }

    /// What a token says, when it is signed by one of the keys and its claims are those expected at a time.
    pub fn read(
        &self,
        token: &str,
        expected: &Expected,
        now: DateTime<Utc>,
    ) -> Result<Claims, TokenError> {
        let header = decode_header(token).map_err(|error| unreadable(token, &error))?;
        if ![Algorithm::RS256, Algorithm::ES256].contains(&header.alg) {
            return Err(TokenError::Algorithm);
        }
        let key = self.key_of(&header)?;
        let mut validation = Validation::new(key.algorithm);
        // The claims are read below, by rules of our own: the reader of this crate takes numbers for maps while serde_json keeps their digits.
        validation.required_spec_claims.clear();
        validation.validate_exp = false;
        validation.validate_nbf = false;
        validation.validate_aud = false;
        let token = decode::<Map<String, Value>>(token, &key.key, &validation)
            .map_err(|error| of_decoding(&error))?;
        Claims::read(&token.claims, expected, now)
    }

    /// Whether the set has the key that a token names, as far as the token can be read.
    #[must_use]
    pub fn knows_key_of(&self, token: &str) -> bool {
        decode_header(token).map_or(true, |header| {
            !matches!(self.key_of(&header), Err(TokenError::UnknownKey))
        })
    }

    fn key_of(&self, header: &Header) -> Result<&PublicKey, TokenError> {
        let named = header.kid.as_ref().filter(|_| self.are_named);
        // Without a name, only one key can be meant.
        let mut fitting = self.keys.iter().filter(|key| match named {
            Some(_) => key.name.as_ref() == named,
            None => !self.are_named || key.algorithm == header.alg,
        });
        match (fitting.next(), fitting.next()) {
            (Some(key), None) if key.algorithm == header.alg => Ok(key),
            (Some(_), None) => Err(TokenError::Algorithm),
            _ => Err(TokenError::UnknownKey),
        }
    }
}

/// A private key.
pub struct SigningKey {
    algorithm: Algorithm,
    key: EncodingKey,
    name: Option<String>,
}

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("SigningKey")
            .field("algorithm", &self.algorithm)
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

impl SigningKey {
    /// The private key of a PEM file (PKCS#8, or PKCS#1 for RSA), and the name that its tokens give it.
    pub fn from_pem(pem: &[u8], name: Option<String>) -> Result<Self, TokenError> {
        let (algorithm, key) = if let Ok(key) = EncodingKey::from_ec_pem(pem) {
            (Algorithm::ES256, key)
        } else {
            let key = EncodingKey::from_rsa_pem(pem);
            let key = key.map_err(|_| no_key("private key in PEM (PKCS#8)"))?;
            (Algorithm::RS256, key)
        };
        Ok(Self {
            algorithm,
            key,
            name,
        })
    }

    /// Signs a token.
    pub fn sign(&self, new: &NewToken, expected: &Expected) -> Result<String, TokenError> {
        let mut header = Header::new(self.algorithm);
        header.kid.clone_from(&self.name);
        encode(&header, &new.claims(expected), &self.key)
            .map_err(|error| TokenError::Key(error.to_string()))
    }
}

/// The JSON Web Key Set of a public key in a PEM file, under a name, as a server reads it from an address.
pub fn jwks_of(pem: &[u8], name: &str) -> Result<Value, TokenError> {
    let (algorithm, key) = public_key(pem)?;
    let mut jwk = Jwk::from_decoding_key(&key, Some(algorithm))
        .map_err(|error| TokenError::Key(error.to_string()))?;
    jwk.common.key_id = Some(name.to_owned());
    jwk.common.public_key_use = Some(PublicKeyUse::Signature);
    serde_json::to_value(JwkSet { keys: vec![jwk] })
        .map_err(|error| TokenError::Key(error.to_string()))
}

fn public_key(pem: &[u8]) -> Result<(Algorithm, DecodingKey), TokenError> {
    if let Ok(key) = DecodingKey::from_ec_pem(pem) {
        return Ok((Algorithm::ES256, key));
    }
    let key = DecodingKey::from_rsa_pem(pem).map_err(|_| no_key("public key in PEM"))?;
    Ok((Algorithm::RS256, key))
}

fn no_key(kind: &str) -> TokenError {
    TokenError::Key(format!(
        "it is no {kind}, RSA or elliptic on the curve P-256"
    ))
}

fn public_key_of(jwk: &Jwk) -> Option<PublicKey> {
    let common = &jwk.common;
    if !matches!(common.public_key_use, None | Some(PublicKeyUse::Signature)) {
        return None;
    }
    let algorithm = match (&jwk.algorithm, common.key_algorithm) {
        (AlgorithmParameters::RSA(_), None | Some(KeyAlgorithm::RS256)) => Algorithm::RS256,
        (AlgorithmParameters::EllipticCurve(curve), None | Some(KeyAlgorithm::ES256))
            if curve.curve == EllipticCurve::P256 =>
        {
            Algorithm::ES256
        }
        _ => return None,
    };
    Some(PublicKey {
        name: common.key_id.clone(),
        algorithm,
        key: DecodingKey::from_jwk(jwk).ok()?,
    })
}

/// An algorithm that isn't known at all makes the header unreadable.
fn unreadable(token: &str, error: &jsonwebtoken::errors::Error) -> TokenError {
    let has_parts = token.split('.').count() == 3;
    match error.kind() {
        jsonwebtoken::errors::ErrorKind::Json(_) if has_parts => TokenError::Algorithm,
        _ => TokenError::Unreadable,
    }
}

fn of_decoding(error: &jsonwebtoken::errors::Error) -> TokenError {
    use jsonwebtoken::errors::ErrorKind;
    match error.kind() {
        ErrorKind::InvalidSignature => TokenError::Signature,
        ErrorKind::InvalidAlgorithm => TokenError::Algorithm,
        _ => TokenError::Unreadable,
    }
}
