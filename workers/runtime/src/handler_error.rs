//! What a handler says when it fails.

use std::fmt;
use std::time::Duration;

use serde_json::Value;

/// The failure of one attempt: why, whether another attempt may help, and when.
///
/// Nothing is retryable by accident: [`HandlerError::permanent`] ends the step,
/// [`HandlerError::retryable`] leaves it to the step's retry settings.
#[derive(Debug, Clone, PartialEq)]
pub struct HandlerError {
    message: String,
    error_type: Option<String>,
    retryable: bool,
    retry_after: Option<Duration>,
    detail: Option<Value>,
}

impl HandlerError {
    /// A failure that another attempt can't mend: the step ends in `error`.
    #[must_use]
    pub fn permanent(message: impl Into<String>) -> Self {
        Self::new(message, false)
    }

    /// A failure that another attempt may mend: the step is retried while it has attempts left.
    #[must_use]
    pub fn retryable(message: impl Into<String>) -> Self {
        Self::new(message, true)
    }

    fn new(message: impl Into<String>, retryable: bool) -> Self {
        Self {
            message: message.into(),
            error_type: None,
            retryable,
            retry_after: None,
            detail: None,
        }
    }

    /// Names the kind of failure, so that programs can tell failures apart without reading the
    /// message.
    #[must_use]
    pub fn with_type(mut self, error_type: impl Into<String>) -> Self {
        self.error_type = Some(error_type.into());
        self
    }

    /// Replaces the computed retry delay; whole milliseconds, one day at most. Without effect on a
    /// permanent failure.
    #[must_use]
    pub fn retry_after(mut self, delay: Duration) -> Self {
        self.retry_after = Some(delay);
        self
    }

    /// Adds what a reader of the step's error should see besides the message.
    #[must_use]
    pub fn with_detail(mut self, detail: Value) -> Self {
        self.detail = Some(detail);
        self
    }

    /// The message as the handler gave it.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The kind of failure, where one was given.
    #[must_use]
    pub fn error_type(&self) -> Option<&str> {
        self.error_type.as_deref()
    }

    /// Whether another attempt may help.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        self.retryable
    }

    /// The delay asked for by [`HandlerError::retry_after`].
    #[must_use]
    pub fn retry_delay(&self) -> Option<Duration> {
        self.retry_after
    }

    /// What was added by [`HandlerError::with_detail`].
    #[must_use]
    pub fn detail(&self) -> Option<&Value> {
        self.detail.as_ref()
    }
}

impl fmt::Display for HandlerError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.error_type {
            Some(error_type) => write!(formatter, "{error_type}: {}", self.message),
            None => formatter.write_str(&self.message),
        }
    }
}

impl std::error::Error for HandlerError {}

/// JSON that doesn't fit its type won't fit at the next attempt either: permanent, of type `json`.
impl From<serde_json::Error> for HandlerError {
    fn from(error: serde_json::Error) -> Self {
        Self::permanent(error.to_string()).with_type("json")
    }
}

/// Files and sockets recover: retryable, of type `io`.
impl From<std::io::Error> for HandlerError {
    fn from(error: std::io::Error) -> Self {
        Self::retryable(error.to_string()).with_type("io")
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_permanent_error_is_not_retryable_and_a_retryable_one_is() {
        assert!(!HandlerError::permanent("no").is_retryable());
        assert!(HandlerError::retryable("not now").is_retryable());
    }

    #[test]
    fn everything_added_is_kept() {
        let error = HandlerError::retryable("busy")
            .with_type("gateway")
            .retry_after(Duration::from_millis(1500))
            .with_detail(json!({"status": 429}));
        assert_eq!(error.to_string(), "gateway: busy");
        assert_eq!(error.retry_delay(), Some(Duration::from_millis(1500)));
        assert_eq!(error.detail(), Some(&json!({"status": 429})));
    }

    #[test]
    fn a_json_error_is_permanent_and_an_io_error_is_retryable() {
        let json_error = serde_json::from_str::<u8>("x").expect_err("x is not a number");
        assert!(!HandlerError::from(json_error).is_retryable());
        assert!(HandlerError::from(std::io::Error::other("reset by peer")).is_retryable());
    }
}
