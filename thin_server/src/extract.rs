//! Requests read: bodies, path and query parameters. What can't be read is answered as a [`Problem`].

use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, FailedToBufferBody};
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use serde::de::DeserializeOwned;

use crate::problem::Problem;

/// A JSON body.
#[derive(Debug)]
pub(crate) struct JsonBody<T>(pub(crate) T);

/// A JSON body that may be left out or null; then it is the default.
#[derive(Debug)]
pub(crate) struct OptionalJsonBody<T>(pub(crate) T);

/// Parameters in the path.
#[derive(Debug)]
pub(crate) struct PathParameters<T>(pub(crate) T);

/// Parameters in the query.
#[derive(Debug)]
pub(crate) struct QueryParameters<T>(pub(crate) T);

/// A body in one of the forms that a template may have.
#[derive(Debug)]
pub(crate) enum Document {
    Json(Box<serde_json::value::RawValue>),
    Yaml(String),
}

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for JsonBody<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        if !is_json(content_type(request.headers())) {
            return Err(unsupported("application/json"));
        }
        let body = read(request, state).await?;
        parse_object(&body).map(Self)
    }
}

impl<S: Send + Sync, T: DeserializeOwned + Default> FromRequest<S> for OptionalJsonBody<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let is_json = is_json(content_type(request.headers()));
        let body = read(request, state).await?;
        if body.trim_ascii().is_empty() {
            return Ok(Self(T::default()));
        }
        if !is_json {
            return Err(unsupported("application/json"));
        }
        let given: Option<T> = parse_object(&body)?;
        Ok(Self(given.unwrap_or_default()))
    }
}

impl<S: Send + Sync> FromRequest<S> for Document {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let given = content_type(request.headers());
        if is_json(given) {
            return parse(&read(request, state).await?).map(Self::Json);
        }
        if !is_yaml(given) {
            return Err(unsupported("application/json or application/yaml"));
        }
        let body = read(request, state).await?;
        let text = String::from_utf8(body.into()).map_err(|error| {
            Problem::new(
                StatusCode::BAD_REQUEST,
                "22021",
                format!("the body isn't UTF-8: {error}"),
            )
        })?;
        Ok(Self::Yaml(text))
    }
}

impl<S: Send + Sync, T: DeserializeOwned + Send> FromRequestParts<S> for PathParameters<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        match Path::from_request_parts(parts, state).await {
            Ok(Path(parameters)) => Ok(Self(parameters)),
            Err(rejection) => Err(Problem::unreadable(rejection.body_text())),
        }
    }
}

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for QueryParameters<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        if !is_utf8(parts.uri.query().unwrap_or("")) {
            return Err(Problem::new(
                StatusCode::BAD_REQUEST,
                "22021",
                "the query isn't UTF-8",
            ));
        }
        match Query::from_request_parts(parts, state).await {
            Ok(Query(parameters)) => Ok(Self(parameters)),
            Err(rejection) => Err(Problem::bad_parameter(rejection.body_text())),
        }
    }
}

async fn read<S: Send + Sync>(request: Request, state: &S) -> Result<Bytes, Problem> {
    Bytes::from_request(request, state)
        .await
        .map_err(|rejection| match rejection {
            BytesRejection::FailedToBufferBody(FailedToBufferBody::LengthLimitError(_)) => {
                Problem::body_too_large()
            }
            other => Problem::new(
                StatusCode::BAD_REQUEST,
                "body_unreadable",
                other.body_text(),
            ),
        })
}

fn parse_object<T: DeserializeOwned>(body: &[u8]) -> Result<T, Problem> {
    // serde would take an array for a structure, field by field.
    if body.trim_ascii_start().first() == Some(&b'[') {
        return Err(Problem::bad_parameter(
            "the body must be a JSON object, and is an array",
        ));
    }
    parse(body)
}

fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, Problem> {
    serde_json::from_slice(body).map_err(|error| {
        let message = format!("the body can't be used: {error}");
        if error.is_data() {
            Problem::bad_parameter(message)
        } else {
            Problem::unreadable(message)
        }
    })
}

/// Whether a query is UTF-8 when its escapes are undone; the reader of queries would put a mark for what isn't.
fn is_utf8(query: &str) -> bool {
    let mut bytes = Vec::with_capacity(query.len());
    let mut rest = query.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let escaped = after
            .get(..2)
            .and_then(|digits| std::str::from_utf8(digits).ok());
        let escaped = escaped
            .and_then(|digits| u8::from_str_radix(digits, 16).ok())
            .filter(|_| *first == b'%');
        bytes.push(escaped.unwrap_or(*first));
        rest = if escaped.is_some() {
            &after[2..]
        } else {
            after
        };
    }
    std::str::from_utf8(&bytes).is_ok()
}

fn unsupported(wanted: &str) -> Problem {
    let message = format!("the body must be {wanted}");
    Problem::new(
        StatusCode::UNSUPPORTED_MEDIA_TYPE,
        "content_type_unsupported",
        message,
    )
    .hint("Say what the body is in the header Content-Type.")
}

/// The media type without its parameters, in whatever case it came.
fn content_type(headers: &HeaderMap) -> &str {
    let value = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .unwrap_or("");
    value.split(';').next().unwrap_or("").trim()
}

fn is_json(media_type: &str) -> bool {
    let media_type = media_type.to_ascii_lowercase();
    media_type == "application/json"
        || (media_type.starts_with("application/") && media_type.ends_with("+json"))
}

fn is_yaml(media_type: &str) -> bool {
    [
        "application/yaml",
        "text/yaml",
        "application/x-yaml",
        "text/x-yaml",
    ]
    .iter()
    .any(|known| known.eq_ignore_ascii_case(media_type))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_and_yaml_are_known_by_their_media_types() {
        for media_type in [
            "application/json",
            "Application/JSON",
            "application/problem+json",
        ] {
            assert!(is_json(media_type), "{media_type}");
        }
        assert!(is_yaml("text/yaml") && is_yaml("application/YAML"));
        assert!(!is_json("text/plain") && !is_json("") && !is_yaml("application/json"));
    }

    #[test]
    fn a_query_with_broken_escapes_is_told_from_one_in_utf8() {
        assert!(is_utf8("a=%C3%A9&b=100%&c=%zz"));
        assert!(!is_utf8("a=%ff") && !is_utf8("a=%C3"));
    }

    #[test]
    fn a_number_in_a_body_keeps_every_digit() {
        let raw: Box<serde_json::value::RawValue> =
            parse(br#"{"n": 12345678901234567890.1234567890}"#).expect("JSON");
        assert_eq!(raw.get(), r#"{"n": 12345678901234567890.1234567890}"#);
    }
}
