//! Lists: `{"items": […], "next": "/v1/…"}`, where `next` is null on the last page.

use axum::http::Uri;
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::problem::Problem;

const DEFAULT_LIMIT: i32 = 50;
const MAX_LIMIT: i32 = 500;

/// A list, or a page of one.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Page<T> {
    /// What there is of it.
    pub(crate) items: Vec<T>,
    /// The request for what comes after; null on the last page.
    pub(crate) next: Option<String>,
}

impl<T> Page<T> {
    /// A list that is never paged.
    pub(crate) fn whole(items: Vec<T>) -> Self {
        Self { items, next: None }
    }

    /// The items that a request with this limit got; when they are as many, there may be more after the last one.
    pub(crate) fn part(items: Vec<T>, limit: i32, uri: &Uri, key: impl Fn(&T) -> Uuid) -> Self {
        let is_full = i32::try_from(items.len()).is_ok_and(|count| count == limit);
        let next = items
            .last()
            .filter(|_| is_full)
            .map(|last| next_link(uri, key(last)));
        Self { items, next }
    }
}

/// The limit asked for, checked.
pub(crate) fn limit(asked: Option<i32>) -> Result<i32, Problem> {
    let limit = asked.unwrap_or(DEFAULT_LIMIT);
    if (1..=MAX_LIMIT).contains(&limit) {
        return Ok(limit);
    }
    Err(Problem::bad_parameter(format!(
        "limit is {limit}, and must be between 1 and {MAX_LIMIT}"
    )))
}

/// The same request for what comes after `last`.
pub(crate) fn next_link(uri: &Uri, last: Uuid) -> String {
    let kept = uri
        .query()
        .unwrap_or("")
        .split('&')
        .filter(|pair| !pair.is_empty() && !pair.starts_with("after="));
    let pairs: Vec<String> = kept
        .map(str::to_owned)
        .chain([format!("after={last}")])
        .collect();
    format!("{}?{}", uri.path(), pairs.join("&"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_link_keeps_the_filters_and_replaces_the_cursor() {
        let uri: Uri = "/v1/tasks?namespace=shop&after=x&limit=2"
            .parse()
            .expect("a URI");
        let link = next_link(&uri, Uuid::nil());
        assert_eq!(
            link,
            "/v1/tasks?namespace=shop&limit=2&after=00000000-0000-0000-0000-000000000000"
        );
    }

    #[test]
    fn a_limit_out_of_bounds_is_refused() {
        assert!(limit(Some(0)).is_err() && limit(Some(501)).is_err() && limit(Some(-1)).is_err());
        assert_eq!(limit(None).ok(), Some(50));
    }
}
