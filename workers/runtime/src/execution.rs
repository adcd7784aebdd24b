//! One handler call: its time limit, its panic, its stop.

use std::any::Any;
use std::sync::Arc;

use tasker_client::{Outcome, StepError, traces};
use tokio::task::JoinError;
use tokio_util::task::AbortOnDropHandle;
use tracing::Instrument;

use crate::{Answer, Handler, HandlerError, StepContext};

/// Runs one attempt and says how it ended; `None` when it was stopped, so that nobody waits for its
/// outcome.
///
/// The handler has a task of its own, so that one which never yields can't keep its time limit from
/// being noticed. On every way out that task is aborted and its context says `is_cancelled`.
pub(crate) async fn execute(handler: Arc<dyn Handler>, step: StepContext) -> Option<Outcome> {
    let span = tracing::info_span!(
        "step",
        task_uuid = %step.task_uuid(),
        step_uuid = %step.step_uuid(),
        step_name = step.step_name(),
        attempt = step.attempt(),
        correlation_id = step.correlation_id().map(tracing::field::display),
        trace_id = step.traceparent().map(|trace| tracing::field::display(trace.trace_id_text())),
    );
    async {
        let _cancelled_at_the_end = step.cancellation().clone().drop_guard();
        let call = tokio::spawn({
            let step = step.clone();
            let trace = step.traceparent();
            let call = async move { handler.call(step.gathered().await?).await };
            traces::within(trace, call).in_current_span()
        });
        let mut call = AbortOnDropHandle::new(call);
        let ended = tokio::select! {
            biased;
            ended = &mut call => outcome_of(ended),
            () = time_limit(&step) => Some(Err(timed_out(&step))),
            () = step.cancelled() => None,
        };
        let outcome = ended.map(|ended| into_outcome(&step, ended));
        log(outcome.as_ref());
        outcome
    }
    .instrument(span)
    .await
}

async fn time_limit(step: &StepContext) {
    match step.timeout() {
        Some(limit) => tokio::time::sleep(limit).await,
        None => std::future::pending().await,
    }
}

fn timed_out(step: &StepContext) -> HandlerError {
    let seconds = step.timeout().unwrap_or_default().as_secs();
    HandlerError::retryable(format!("the handler took longer than {seconds} s"))
        .with_type("timed_out")
}

/// What the handler's task ended with; `None` when it was aborted from outside, as a closing
/// runtime does.
fn outcome_of(
    ended: Result<Result<Answer, HandlerError>, JoinError>,
) -> Option<Result<Answer, HandlerError>> {
    match ended {
        Ok(answer) => Some(answer),
        Err(error) => {
            let payload = error.try_into_panic().ok()?;
            let message = format!("the handler panicked: {}", panic_message(payload.as_ref()));
            Some(Err(HandlerError::retryable(message).with_type("panic")))
        }
    }
}

fn panic_message(payload: &(dyn Any + Send)) -> &str {
    let text = payload.downcast_ref::<&str>().copied();
    text.or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("it gave no message")
}

fn into_outcome(step: &StepContext, ended: Result<Answer, HandlerError>) -> Outcome {
    let outcome = match ended {
        Ok(Answer::Result(result)) => Outcome::complete(step.step_uuid(), step.attempt(), result),
        Ok(Answer::Yield(checkpoint)) => {
            Outcome::yield_with(step.step_uuid(), step.attempt(), checkpoint)
        }
        Err(error) => Outcome::fail(step.step_uuid(), step.attempt(), step_error(&error)),
    };
    Outcome {
        events: step.published(),
        ..outcome
    }
}

fn step_error(error: &HandlerError) -> StepError {
    let milliseconds =
        |delay: std::time::Duration| u64::try_from(delay.as_millis()).unwrap_or(u64::MAX);
    StepError {
        // PostgreSQL's text has no NUL.
        message: error.message().replace('\0', "\u{fffd}"),
        r#type: error
            .error_type()
            .map(|name| name.replace('\0', "\u{fffd}")),
        retryable: Some(error.is_retryable()),
        retry_after_ms: error.retry_delay().map(milliseconds),
        detail: error.detail().cloned(),
    }
}

fn log(outcome: Option<&Outcome>) {
    match outcome {
        Some(Outcome {
            error: Some(error), ..
        }) => {
            tracing::info!(
                error_type = error.r#type,
                retryable = error.retryable,
                "the attempt failed: {}",
                error.message
            );
        }
        Some(_) => tracing::debug!("the attempt is done"),
        None => tracing::debug!("the attempt was stopped"),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::{Value, json};
    use tasker_client::OutcomeStatus;
    use tokio_util::sync::CancellationToken;

    use super::*;

    fn step() -> StepContext {
        StepContext::draft("step", "test")
    }

    async fn run<F, R>(handler: F, step: StepContext) -> Outcome
    where
        F: Fn(StepContext) -> R + Send + Sync + 'static,
        R: Future<Output = Result<Value, HandlerError>> + Send + 'static,
    {
        execute(Arc::new(handler), step)
            .await
            .expect("the attempt ends with an outcome")
    }

    fn error_of(outcome: Outcome) -> StepError {
        assert_eq!(outcome.status, OutcomeStatus::Fail);
        outcome.error.expect("a failure has an error")
    }

    #[tokio::test]
    async fn a_result_completes_the_attempt() {
        let outcome = run(|_| async { Ok(json!({"n": 1})) }, step()).await;
        assert_eq!(
            (outcome.status, outcome.result),
            (OutcomeStatus::Complete, Some(json!({"n": 1})))
        );
    }

    #[tokio::test]
    async fn a_checkpoint_gives_the_attempt_back() {
        let handler = |_| async { Ok(Answer::Yield(json!({"next": 7}))) };
        let outcome = execute(Arc::new(handler), step()).await;
        let outcome = outcome.expect("the attempt ends with an outcome");
        assert_eq!(
            (outcome.status, outcome.checkpoint),
            (OutcomeStatus::Yield, Some(json!({"next": 7})))
        );
    }

    #[tokio::test]
    async fn an_error_fails_the_attempt_with_all_it_says() {
        let handler = |_| async {
            Err(HandlerError::retryable("bu\0sy")
                .with_type("gateway")
                .retry_after(Duration::from_millis(1500))
                .with_detail(json!({"status": 429})))
        };
        let expected = StepError {
            message: "bu\u{fffd}sy".into(),
            r#type: Some("gateway".into()),
            retryable: Some(true),
            retry_after_ms: Some(1500),
            detail: Some(json!({"status": 429})),
        };
        assert_eq!(error_of(run(handler, step()).await), expected);
    }

    #[tokio::test]
    async fn payloads_of_events_go_with_the_outcome() {
        let handler = |step: StepContext| async move {
            step.publish("order.shipped", json!({"n": 1}));
            step.publish("order.shipped", json!({"n": 2}));
            Ok(Value::Null)
        };
        let outcome = run(handler, step()).await;
        assert_eq!(
            Value::Object(outcome.events),
            json!({"order.shipped": {"n": 2}})
        );
    }

    #[tokio::test]
    async fn a_panic_is_a_failed_attempt_that_keeps_its_message() {
        let number = 7;
        let formatted = error_of(
            run(
                move |_| async move { panic!("number {number} is odd") },
                step(),
            )
            .await,
        );
        assert_eq!(formatted.message, "the handler panicked: number 7 is odd");
        assert_eq!(
            (formatted.r#type.as_deref(), formatted.retryable),
            (Some("panic"), Some(true))
        );
        let literal = error_of(run(|_| async { panic!("odd") }, step()).await);
        assert_eq!(literal.message, "the handler panicked: odd");
        let no_text = error_of(run(|_| async { std::panic::panic_any(7) }, step()).await);
        assert_eq!(no_text.message, "the handler panicked: it gave no message");
    }

    #[tokio::test(start_paused = true)]
    async fn a_handler_that_takes_too_long_is_a_failed_attempt() {
        let begun = tokio::time::Instant::now();
        let error = error_of(
            run(
                |_| std::future::pending(),
                step().with_timeout(Duration::from_secs(5)),
            )
            .await,
        );
        assert_eq!(error.message, "the handler took longer than 5 s");
        assert_eq!(
            (error.r#type.as_deref(), error.retryable),
            (Some("timed_out"), Some(true))
        );
        assert_eq!(begun.elapsed().as_secs(), 5);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_handler_that_never_yields_meets_its_time_limit_and_can_see_it() {
        let (seen, saw) = tokio::sync::oneshot::channel();
        let seen = std::sync::Mutex::new(Some(seen));
        let handler = move |step: StepContext| {
            let seen = seen.lock().expect("the lock is sound").take();
            async move {
                while !step.is_cancelled() {
                    std::hint::spin_loop();
                }
                let _ = seen.map(|seen| seen.send(()));
                Ok(Value::Null)
            }
        };
        let error = error_of(run(handler, step().with_timeout(Duration::from_millis(50))).await);
        assert_eq!(error.r#type.as_deref(), Some("timed_out"));
        saw.await.expect("the handler saw that it was cancelled");
    }

    #[tokio::test]
    async fn a_stopped_attempt_has_no_outcome_and_its_handler_is_dropped() {
        let (held, dropped) = tokio::sync::oneshot::channel::<()>();
        let held = std::sync::Mutex::new(Some(held));
        let handler = move |_: StepContext| {
            let held = held.lock().expect("the lock is sound").take();
            async move {
                let _held = held;
                std::future::pending::<Result<Value, HandlerError>>().await
            }
        };
        let stop = CancellationToken::new();
        let running = tokio::spawn(execute(
            Arc::new(handler),
            step().with_cancellation(stop.clone()),
        ));
        tokio::task::yield_now().await;
        stop.cancel();
        assert_eq!(running.await.expect("the attempt doesn't panic"), None);
        assert!(dropped.await.is_err());
    }
}
