//! Requests to the server, and what it answers.

use anyhow::Context;
use reqwest::header::CONTENT_TYPE;
use reqwest::{Body, Client, Method, RequestBuilder};
use serde_json::Value;

use crate::program::Server;

/// What the server answered.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// The body; null when it is empty.
    pub body: Value,
    /// The header `Location`.
    pub location: Option<String>,
    /// The header `Retry-After`.
    pub retry_after: Option<String>,
}

impl Answer {
    /// The code of an error.
    #[must_use]
    pub fn code(&self) -> &str {
        self.body["error"]["code"].as_str().unwrap_or_default()
    }

    /// A field of the body as text.
    #[must_use]
    pub fn text(&self, field: &str) -> &str {
        self.body[field].as_str().unwrap_or_default()
    }
}

impl Server {
    /// A request that isn't sent yet, for what the other functions don't do.
    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        Client::new().request(method, format!("{}{path}", self.url))
    }

    /// A GET.
    pub async fn get(&self, path: &str) -> anyhow::Result<Answer> {
        answer(self.request(Method::GET, path)).await
    }

    /// A POST of a JSON document.
    pub async fn post(&self, path: &str, body: &Value) -> anyhow::Result<Answer> {
        answer(self.request(Method::POST, path).json(body)).await
    }

    /// A DELETE.
    pub async fn delete(&self, path: &str) -> anyhow::Result<Answer> {
        answer(self.request(Method::DELETE, path)).await
    }

    /// A POST of a body as it is.
    pub async fn send(
        &self,
        path: &str,
        media_type: &str,
        body: impl Into<Body>,
    ) -> anyhow::Result<Answer> {
        answer(
            self.request(Method::POST, path)
                .header(CONTENT_TYPE, media_type)
                .body(body),
        )
        .await
    }
}

/// Sends a request.
pub async fn answer(request: RequestBuilder) -> anyhow::Result<Answer> {
    let response = request.send().await?;
    let header = |name: &str| {
        let value = response.headers().get(name)?;
        value.to_str().ok().map(str::to_owned)
    };
    let (location, retry_after) = (header("location"), header("retry-after"));
    let status = response.status().as_u16();
    let text = response.text().await?;
    let body = if text.is_empty() {
        Value::Null
    } else {
        serde_json::from_str(&text).with_context(|| text.clone())?
    };
    Ok(Answer {
        status,
        body,
        location,
        retry_after,
    })
}
