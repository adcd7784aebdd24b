//! Answers read: what is asked for, or the error that it would be over SQL.

use reqwest::StatusCode;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::error::{Cause, Details, Error};

/// So much is told of an answer that no server of ours has given.
const LONGEST_EXCERPT: usize = 200;

#[derive(Deserialize)]
struct Refusal {
    error: Fields,
}

#[derive(Deserialize)]
struct Fields {
    code: String,
    message: String,
    detail: Option<String>,
    hint: Option<String>,
}

/// A list.
#[derive(Deserialize)]
#[serde(bound = "T: DeserializeOwned")]
struct Page<T> {
    items: Vec<T>,
}

pub(super) fn document<T: DeserializeOwned>(body: &[u8]) -> Result<T, Error> {
    serde_json::from_slice(body).map_err(|error| Error::Answer(Cause::Server(Box::new(error))))
}

pub(super) fn items<T: DeserializeOwned>(body: &[u8]) -> Result<Vec<T>, Error> {
    document::<Page<T>>(body).map(|page| page.items)
}

/// What an answer other than a good one says.
pub(super) fn refusal(status: StatusCode, body: &[u8]) -> Error {
    match serde_json::from_slice::<Refusal>(body) {
        Ok(Refusal { error }) => Error::from_details(Details {
            code: error.code,
            message: error.message,
            detail: error.detail,
            hint: error.hint,
        }),
        Err(_) => of_somebody_else(status, body),
    }
}

/// Something between here and the server has answered.
fn of_somebody_else(status: StatusCode, body: &[u8]) -> Error {
    let text = String::from_utf8_lossy(body);
    let excerpt: String = text.trim().chars().take(LONGEST_EXCERPT).collect();
    let details = Details {
        code: format!("http_{}", status.as_u16()),
        message: format!("the answer is {status}, and not of a Tasker server"),
        detail: Some(excerpt).filter(|excerpt| !excerpt.is_empty()),
        hint: Some(
            "Look at the address, and at what stands between here and the server.".to_owned(),
        ),
    };
    match status.as_u16() {
        401 => Error::Unauthenticated(details),
        403 => Error::Denied(details),
        413 => Error::LimitExceeded(details),
        429 | 502..=504 => Error::Unavailable(details),
        _ => Error::Database(details),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_the_error_that_it_is_over_sql() {
        let body =
            br#"{"error": {"code": "TK001", "message": "no task", "detail": null, "hint": "Look.", "request_id": "r"}}"#;
        let error = refusal(StatusCode::NOT_FOUND, body);
        assert!(matches!(error, Error::NotFound(_)));
        let details = error.details().expect("details");
        assert_eq!(
            (details.code.as_str(), details.message.as_str()),
            ("TK001", "no task")
        );
        assert_eq!(
            (details.detail.as_deref(), details.hint.as_deref()),
            (None, Some("Look."))
        );
    }

    #[test]
    fn the_words_of_a_server_have_their_variants() {
        let error = |code: &str| {
            let body = format!(r#"{{"error": {{"code": "{code}", "message": "m"}}}}"#);
            refusal(StatusCode::IM_A_TEAPOT, body.as_bytes())
        };
        assert!(matches!(error("permission_missing"), Error::Denied(_)));
        assert!(matches!(
            error("credentials_refused"),
            Error::Unauthenticated(_)
        ));
        assert!(matches!(
            error("request_timed_out"),
            Error::StatementTimedOut(_)
        ));
        assert!(matches!(error("body_too_large"), Error::LimitExceeded(_)));
        assert!(matches!(error("internal_error"), Error::Database(_)));
        for code in ["server_busy", "listeners_full", "feed_unavailable", "08006"] {
            assert!(error(code).is_transient(), "{code}");
        }
    }

    #[test]
    fn an_answer_of_a_proxy_is_told_from_the_servers() {
        let error = refusal(StatusCode::BAD_GATEWAY, b"<html>bad gateway</html>");
        assert!(error.is_transient());
        assert_eq!(error.code(), Some("http_502"));
        assert!(!refusal(StatusCode::MOVED_PERMANENTLY, b"").is_transient());
    }
}
