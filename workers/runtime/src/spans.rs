//! What shows in traces: each attempt, a child of the span that its task was created in, and the report of its outcome, a child
//! of the attempt. Names and attributes are those of OpenTelemetry's conventions for messaging and databases.
//!
//! A call that reports many outcomes belongs to no single trace: each outcome has a span as long as the call, and the call links
//! to them. Where nobody records spans nothing is kept here.

use std::collections::{HashMap, HashSet};

use tasker_client::traces::lone_statement;
use tasker_client::{Finished, HeldStep, Outcome, OutcomeStatus, Verdict, VerdictKind};
use tasker_traces::{TARGET, Traceparent, join, link, traceparent_of};
use tracing::field::Empty;
use tracing::{Instrument, Span};
use uuid::Uuid;

use crate::StepContext;
use crate::calls::CallError;

/// The span of an attempt.
pub(crate) fn process(step: &StepContext) -> Span {
    let span = tracing::debug_span!(
        target: TARGET,
        parent: None,
        "process",
        "otel.name" = %format_args!("process {}", step.callable()),
        "otel.kind" = "consumer",
        "otel.status_code" = Empty,
        "otel.status_description" = Empty,
        "error.type" = Empty,
        "messaging.system" = "pgmq",
        "messaging.operation.name" = "process",
        "messaging.operation.type" = "process",
        "messaging.destination.name" = %format_args!("worker_{}_queue", step.namespace()),
        "messaging.message.conversation_id" = step.correlation_id().map(tracing::field::display),
        "tasker.namespace" = step.namespace(),
        "tasker.template_name" = step.template_name(),
        "tasker.template_version" = step.template_version(),
        "tasker.task_uuid" = %step.task_uuid(),
        "tasker.step_uuid" = %step.step_uuid(),
        "tasker.step_name" = step.step_name(),
        "tasker.handler" = step.callable(),
        "tasker.attempt" = step.attempt(),
        "tasker.outcome" = Empty,
    );
    if let Some(parent) = step.traceparent() {
        join(&span, &parent);
    }
    span
}

/// Runs an attempt in its span, which says how it ended.
pub(crate) async fn of_attempt(
    span: Span,
    attempt: impl Future<Output = Option<Outcome>>,
) -> Option<Outcome> {
    let outcome = attempt.instrument(span.clone()).await;
    if span.is_disabled() {
        return outcome;
    }
    span.record(
        "tasker.outcome",
        outcome.as_ref().map_or("stopped", name_of),
    );
    if let Some(error) = outcome.as_ref().and_then(|outcome| outcome.error.as_ref()) {
        span.record("otel.status_code", "ERROR");
        span.record("otel.status_description", error.message.as_str());
        span.record("error.type", error.r#type.as_deref().unwrap_or("_OTHER"));
    }
    outcome
}

fn name_of(outcome: &Outcome) -> &'static str {
    match outcome.status {
        OutcomeStatus::Complete => "complete",
        OutcomeStatus::Fail => "fail",
        OutcomeStatus::Release => "release",
        OutcomeStatus::Yield => "yield",
    }
}

/// The spans of attempts whose outcomes aren't reported yet.
#[derive(Debug, Default)]
pub(crate) struct Spans(HashMap<(Uuid, i32), Attempt>);

#[derive(Debug)]
struct Attempt {
    span: Traceparent,
    handler: String,
}

impl Spans {
    pub(crate) fn began(&mut self, held: HeldStep, span: &Span, step: &StepContext) {
        if let Some(span) = traceparent_of(span).filter(Traceparent::is_sampled) {
            let handler = step.callable().to_owned();
            self.0
                .insert((held.step_uuid, held.attempt), Attempt { span, handler });
        }
    }

    /// Forgets attempts whose outcomes nobody waits for any more: all but those that run.
    pub(crate) fn keep(&mut self, running: impl Iterator<Item = HeldStep>) {
        if !self.0.is_empty() {
            let running: HashSet<_> = running.map(|held| (held.step_uuid, held.attempt)).collect();
            self.0.retain(|key, _| running.contains(key));
        }
    }

    /// The spans of a call that reports outcomes.
    pub(crate) fn finishing(&mut self, outcomes: &[Outcome]) -> Finishing {
        if self.0.is_empty() {
            return Finishing {
                settled: HashMap::new(),
                call: Span::none(),
            };
        }
        let settled = outcomes.iter().filter_map(|outcome| {
            let attempt = self.0.remove(&(outcome.step_uuid, outcome.attempt))?;
            let key = (outcome.step_uuid, outcome.attempt);
            Some((key, settle(&attempt, outcome)))
        });
        let settled: HashMap<_, _> = settled.collect();
        let call = call(settled.values(), outcomes.len());
        Finishing { settled, call }
    }
}

fn settle(attempt: &Attempt, outcome: &Outcome) -> Span {
    let span = tracing::debug_span!(
        target: TARGET,
        parent: None,
        "settle",
        "otel.name" = %format_args!("settle {}", attempt.handler),
        "otel.kind" = "client",
        "otel.status_code" = Empty,
        "messaging.system" = "pgmq",
        "messaging.operation.name" = "settle",
        "messaging.operation.type" = "settle",
        "tasker.step_uuid" = %outcome.step_uuid,
        "tasker.attempt" = outcome.attempt,
        "tasker.outcome" = name_of(outcome),
        "tasker.verdict" = Empty,
    );
    join(&span, &attempt.span);
    span
}

/// The span of the call itself: the child of the only outcome, else one with links.
fn call<'a>(settled: impl ExactSizeIterator<Item = &'a Span>, outcomes: usize) -> Span {
    if settled.len() == 0 {
        return Span::none();
    }
    let span = lone_statement("tasker.finish_steps");
    span.record("messaging.batch.message_count", outcomes);
    let is_alone = settled.len() == 1;
    for settled in settled.filter_map(traceparent_of) {
        if is_alone {
            join(&span, &settled);
        } else {
            link(&span, &settled);
        }
    }
    span
}

/// The spans of a call that reports outcomes, while it is away.
#[derive(Debug)]
pub(crate) struct Finishing {
    settled: HashMap<(Uuid, i32), Span>,
    call: Span,
}

/// What such a call comes to.
type Answer = (Vec<Outcome>, Result<Finished, CallError>, u32);

impl Finishing {
    pub(crate) async fn around(self, call: impl Future<Output = Answer>) -> Answer {
        let answer = call.instrument(self.call.clone()).await;
        if self.settled.is_empty() {
            return answer;
        }
        match &answer.1 {
            Ok(finished) => self.answered(&finished.verdicts),
            Err(error) => self.failed(error),
        }
        answer
    }

    fn answered(self, verdicts: &[Verdict]) {
        for verdict in verdicts {
            let key = verdict.step_uuid.zip(verdict.attempt);
            if let Some(span) = key.and_then(|key| self.settled.get(&key)) {
                span.record("tasker.verdict", verdict_name(verdict.verdict));
                if !matches!(
                    verdict.verdict,
                    VerdictKind::Accepted | VerdictKind::Repeated
                ) {
                    span.record("otel.status_code", "ERROR");
                }
            }
        }
    }

    fn failed(self, error: &CallError) {
        self.call.record("otel.status_code", "ERROR");
        self.call.record("db.response.status_code", error.code());
        for span in self.settled.values() {
            span.record("otel.status_code", "ERROR");
        }
    }
}

fn verdict_name(verdict: VerdictKind) -> &'static str {
    match verdict {
        VerdictKind::Accepted => "accepted",
        VerdictKind::Repeated => "repeated",
        VerdictKind::Lost => "lost",
        VerdictKind::Cancelled => "cancelled",
        VerdictKind::TimedOut => "timed_out",
        VerdictKind::Invalid => "invalid",
    }
}
