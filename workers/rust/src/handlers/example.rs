//! `example.*`: steps that show their input, and steps that fail as their context says.

use serde::Deserialize;
use serde_json::json;
use tasker_worker_runtime::{HandlerError, StepContext};

use super::HandlerResult;

/// The exit code of a worker that `fail_times` ended, so that it isn't taken for another failure.
const EXIT_CODE: i32 = 70;

/// Returns what the step was given.
#[expect(clippy::unnecessary_wraps, reason = "handlers share one signature")]
pub(crate) fn echo(step: &StepContext) -> HandlerResult {
    Ok(json!({"context": step.context(), "dependency_results": step.dependency_results()}))
}

#[derive(Deserialize)]
struct Failures {
    #[serde(default = "two")]
    times: i32,
    #[serde(default)]
    kind: Kind,
}

fn two() -> i32 {
    2
}

#[derive(Deserialize, Default, Clone, Copy)]
#[serde(rename_all = "snake_case")]
enum Kind {
    #[default]
    Retryable,
    Permanent,
    Panic,
    Timeout,
    Exit,
}

/// Fails its first `times` attempts in the way `kind` says, then succeeds. Attempts are counted by
/// the database, so the count also survives the end of the process.
pub(crate) async fn fail_times(step: StepContext) -> HandlerResult {
    let Failures { times, kind } = step.context_as()?;
    let attempts_used = step.attempts_used();
    if attempts_used > times {
        return Ok(json!({"attempts_used": attempts_used}));
    }
    let message = format!("attempt {attempts_used} of {times} that fail");
    match kind {
        Kind::Retryable => Err(HandlerError::retryable(message).with_type("example")),
        Kind::Permanent => Err(HandlerError::permanent(message).with_type("example")),
        Kind::Panic => panic!("{message}"),
        Kind::Timeout => std::future::pending().await,
        Kind::Exit => {
            tracing::error!(step = step.step_name(), "the process ends: {message}");
            std::process::exit(EXIT_CODE)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::Value;

    use super::*;

    fn flaky(context: Value, attempts_used: i32) -> StepContext {
        StepContext::draft("flaky", "example.fail_times")
            .with_context(context)
            .with_attempts_used(attempts_used)
    }

    #[test]
    fn echo_returns_what_the_step_was_given() {
        let step = StepContext::draft("after", "example.echo")
            .with_context(json!({"a": 1}))
            .with_dependency("flaky", json!([2]));
        assert_eq!(
            echo(&step),
            Ok(json!({"context": {"a": 1}, "dependency_results": {"flaky": [2]}}))
        );
    }

    #[tokio::test]
    async fn it_fails_as_often_as_told_and_then_succeeds() {
        for attempts_used in 1..=2 {
            let error = fail_times(flaky(json!({}), attempts_used))
                .await
                .expect_err("twice by default");
            assert!(error.is_retryable());
        }
        assert_eq!(
            fail_times(flaky(json!({}), 3)).await,
            Ok(json!({"attempts_used": 3}))
        );
        assert_eq!(
            fail_times(flaky(json!({"times": 0}), 1)).await,
            Ok(json!({"attempts_used": 1}))
        );
    }

    #[tokio::test]
    async fn a_permanent_kind_is_not_retryable_and_an_unknown_kind_is_an_input_error() {
        let error = fail_times(flaky(json!({"kind": "permanent"}), 1))
            .await
            .expect_err("it fails");
        assert!(!error.is_retryable());
        let error = fail_times(flaky(json!({"kind": "odd"}), 1))
            .await
            .expect_err("no such kind");
        assert_eq!(error.error_type(), Some("input"));
    }

    #[tokio::test]
    async fn a_timeout_kind_never_answers() {
        let call = fail_times(flaky(json!({"kind": "timeout"}), 1));
        assert!(
            tokio::time::timeout(Duration::from_millis(20), call)
                .await
                .is_err()
        );
    }

    #[tokio::test]
    #[should_panic(expected = "attempt 1 of 2 that fail")]
    async fn a_panic_kind_panics() {
        let _ = fail_times(flaky(json!({"kind": "panic"}), 1)).await;
    }
}
