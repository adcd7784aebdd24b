//! What a token says of its holder.

use chrono::{DateTime, TimeDelta, Utc};
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::TokenError;

/// By how much the clocks of who signs and who reads may differ, in seconds.
const LEEWAY_SECONDS: i64 = 30;

/// What a token must say to count, and where it says what it allows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expected {
    /// Who signs tokens: the claim `iss`.
    pub issuer: String,
    /// Whom they are for: the claim `aud`, or one of it.
    pub audience: String,
    /// The claim that holds the permissions: a list, or words with blanks between.
    pub permissions_claim: String,
    /// The claim that holds the namespaces: a list; without it all are reached.
    pub namespaces_claim: String,
}

/// What a token that counts says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Claims {
    /// Who holds it: the claim `sub`.
    pub subject: String,
    /// What it allows.
    pub permissions: Vec<String>,
    /// The namespaces that it reaches; `None` is all.
    pub namespaces: Option<Vec<String>>,
    /// When it expires.
    pub expires_at: DateTime<Utc>,
}

/// A token to be signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewToken {
    /// Who will hold it.
    pub subject: String,
    /// What it allows.
    pub permissions: Vec<String>,
    /// The namespaces that it reaches; `None` is all.
    pub namespaces: Option<Vec<String>>,
    /// From when on it counts.
    pub issued_at: DateTime<Utc>,
    /// When it expires.
    pub expires_at: DateTime<Utc>,
}

impl NewToken {
    /// Its claims, under the names that are expected.
    pub(super) fn claims(&self, expected: &Expected) -> Map<String, Value> {
        let mut claims = Map::new();
        claims.insert("iss".to_owned(), json!(expected.issuer));
        claims.insert("aud".to_owned(), json!(expected.audience));
        claims.insert("sub".to_owned(), json!(self.subject));
        claims.insert("iat".to_owned(), json!(self.issued_at.timestamp()));
        claims.insert("nbf".to_owned(), json!(self.issued_at.timestamp()));
        claims.insert("exp".to_owned(), json!(self.expires_at.timestamp()));
        claims.insert(expected.permissions_claim.clone(), json!(self.permissions));
        if let Some(namespaces) = &self.namespaces {
            claims.insert(expected.namespaces_claim.clone(), json!(namespaces));
        }
        claims
    }
}

impl Claims {
    /// What the claims of a token whose signature is right say; refused when they aren't those expected at a time.
    pub(super) fn read(
        claims: &Map<String, Value>,
        expected: &Expected,
        now: DateTime<Utc>,
    ) -> Result<Self, TokenError> {
        if claims.get("iss").and_then(Value::as_str) != Some(&expected.issuer) {
            return Err(bad("iss", "isn't the issuer that is trusted here"));
        }
        let is_audience = |value: &Value| value.as_str() == Some(&expected.audience);
        let is_meant = match claims.get("aud") {
            Some(Value::Array(list)) => list.iter().any(is_audience),
            Some(value) => is_audience(value),
            None => false,
        };
        if !is_meant {
            return Err(bad("aud", "doesn't name this server"));
        }
        let expires_at = time(claims, "exp")?.ok_or_else(|| bad("exp", "is missing"))?;
        let leeway = TimeDelta::seconds(LEEWAY_SECONDS);
        if expires_at + leeway <= now {
            return Err(TokenError::Time("has expired"));
        }
        if time(claims, "nbf")?.is_some_and(|begins_at| begins_at > now + leeway) {
            return Err(TokenError::Time("doesn't count yet"));
        }
        let subject = claims.get("sub").and_then(Value::as_str);
        let subject = subject.filter(|subject| !subject.is_empty());
        Ok(Self {
            subject: subject.ok_or_else(|| bad("sub", "is missing"))?.to_owned(),
            permissions: words(claims, &expected.permissions_claim, true)?.unwrap_or_default(),
            namespaces: namespaces(claims, &expected.namespaces_claim)?,
            expires_at,
        })
    }
}

fn bad(claim: &str, problem: &'static str) -> TokenError {
    TokenError::Claim {
        claim: claim.to_owned(),
        problem,
    }
}

/// Seconds since 1970, perhaps with a fraction, which is cut off.
fn time(claims: &Map<String, Value>, claim: &str) -> Result<Option<DateTime<Utc>>, TokenError> {
    let Some(value) = claims.get(claim).filter(|value| !value.is_null()) else {
        return Ok(None);
    };
    let seconds = value
        .as_i64()
        .or_else(|| value.as_f64().map(|seconds| seconds.floor() as i64));
    // Within what a time can be, also with the leeway added.
    let seconds = seconds.filter(|seconds| (0..=253_402_300_799).contains(seconds));
    seconds
        .and_then(|seconds| DateTime::from_timestamp(seconds, 0))
        .map(Some)
        .ok_or_else(|| bad(claim, "isn't a time"))
}

/// A list of texts, or, where that may be, a text of words with blanks between.
fn words(
    claims: &Map<String, Value>,
    claim: &str,
    may_be_text: bool,
) -> Result<Option<Vec<String>>, TokenError> {
    let not_a_list = || bad(claim, "isn't a list of texts");
    match claims.get(claim) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) if may_be_text => {
            Ok(Some(text.split_whitespace().map(str::to_owned).collect()))
        }
        Some(Value::Array(list)) => {
            let text = |value: &Value| value.as_str().map(str::to_owned);
            let texts: Option<Vec<String>> = list.iter().map(text).collect();
            texts.map(Some).ok_or_else(not_a_list)
        }
        Some(_) => Err(not_a_list()),
    }
}

fn namespaces(claims: &Map<String, Value>, claim: &str) -> Result<Option<Vec<String>>, TokenError> {
    let Some(names) = words(claims, claim, false)? else {
        return Ok(None);
    };
    // An empty list may have been meant as all of them, or as none.
    if names.is_empty() {
        return Err(bad(claim, "is an empty list"));
    }
    if names.len() > tasker_rules::reach::MAX_NAMESPACES {
        return Err(bad(claim, "names more than 100 namespaces"));
    }
    if names
        .iter()
        .any(|name| !tasker_rules::reach::is_namespace(name))
    {
        return Err(bad(claim, "holds what can't be the name of a namespace"));
    }
    Ok(Some(names))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expected() -> Expected {
        Expected {
            issuer: "https://issuer".to_owned(),
            audience: "tasker".to_owned(),
            permissions_claim: "permissions".to_owned(),
            namespaces_claim: "namespaces".to_owned(),
        }
    }

    fn now() -> DateTime<Utc> {
        DateTime::from_timestamp(1_000_000, 0).expect("a time")
    }

    fn token() -> Map<String, Value> {
        NewToken {
            subject: "alice".to_owned(),
            permissions: vec!["tasks:read".to_owned()],
            namespaces: None,
            issued_at: now(),
            expires_at: now() + TimeDelta::seconds(60),
        }
        .claims(&expected())
    }

    fn with(claim: &str, value: Value) -> Result<Claims, TokenError> {
        let mut claims = token();
        claims.insert(claim.to_owned(), value);
        Claims::read(&claims, &expected(), now())
    }

    fn without(claim: &str) -> Result<Claims, TokenError> {
        let mut claims = token();
        claims.remove(claim);
        Claims::read(&claims, &expected(), now())
    }

    #[test]
    fn a_token_says_what_it_was_made_with() {
        let read = Claims::read(&token(), &expected(), now()).expect("it counts");
        assert_eq!(read.subject, "alice");
        assert_eq!(read.permissions, ["tasks:read"]);
        assert_eq!(read.namespaces, None);
        let limited = with("namespaces", json!(["shop"])).expect("it counts");
        assert_eq!(limited.namespaces, Some(vec!["shop".to_owned()]));
    }

    #[test]
    fn a_claim_that_is_missing_or_another_ones_is_refused() {
        for claim in ["iss", "aud", "exp", "sub"] {
            assert!(without(claim).is_err(), "{claim}");
            for value in [
                json!("other"),
                json!(null),
                json!({}),
                json!(["x"]),
                json!(true),
            ] {
                if claim != "sub" || !value.is_string() {
                    assert!(with(claim, value.clone()).is_err(), "{claim} {value}");
                }
            }
        }
        assert!(with("aud", json!(["other", "tasker"])).is_ok());
        assert!(with("sub", json!("")).is_err());
        assert!(with("iss", json!("https://issuer/")).is_err());
    }

    #[test]
    fn a_token_counts_from_its_begin_to_its_end_with_a_little_leeway() {
        let at = |seconds: i64| json!(1_000_000 + seconds);
        for (claim, seconds, counts) in [
            ("exp", 1, true),
            ("exp", -29, true),
            ("exp", -30, false),
            ("nbf", 30, true),
            ("nbf", 31, false),
        ] {
            assert_eq!(
                with(claim, at(seconds)).is_ok(),
                counts,
                "{claim} {seconds}"
            );
        }
        assert!(without("nbf").is_ok());
        for value in [
            json!(-1),
            json!(1e300),
            json!("1000060"),
            json!(253_402_300_800_i64),
        ] {
            assert!(with("exp", value.clone()).is_err(), "{value}");
        }
        let fraction: Value = serde_json::from_str("1000060.75").expect("a number");
        assert!(with("exp", fraction).is_ok());
    }

    #[test]
    fn permissions_may_be_words_and_namespaces_never_nothing() {
        let scope = with("permissions", json!("openid tasks:read  dlq:*")).expect("it counts");
        assert_eq!(scope.permissions, ["openid", "tasks:read", "dlq:*"]);
        assert_eq!(
            without("permissions").map(|read| read.permissions),
            Ok(Vec::new())
        );
        for value in [json!(7), json!([7]), json!({"a": 1})] {
            assert!(with("permissions", value).is_err());
        }
        assert_eq!(
            with("namespaces", json!(null)).map(|read| read.namespaces),
            Ok(None)
        );
        for value in [
            json!([]),
            json!("shop"),
            json!(["Shop"]),
            json!(["a,b"]),
            json!(["-"]),
            json!(["*"]),
            json!([null]),
            json!(vec!["a"; 101]),
        ] {
            assert!(with("namespaces", value.clone()).is_err(), "{value}");
        }
    }
}
