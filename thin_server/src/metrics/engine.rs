//! What the database says of queues, steps, dead letters and health. It is asked at most once in some seconds, over a connection of its own whose statements are cut short, so that however often
//! metrics are asked for, and however large the database is, requests don't wait for it.

use std::time::{Duration, Instant};

use prometheus::{Gauge, GaugeVec, Registry};
use tasker_client::{Client, Error, HealthCheck, OpenDeadLetters, QueueStats};
use tokio::sync::Mutex;

use super::{gauges, registered};

/// Figures of this age are given out again.
const KEPT_FOR: Duration = Duration::from_secs(5);
/// All the questions together may take so long.
const ASKS_WITHIN: Duration = Duration::from_secs(4);
/// What one statement may take; for who makes the client.
pub(crate) const STATEMENT_TIMEOUT: Duration = Duration::from_secs(2);

/// The figures of the engine.
#[derive(Debug)]
pub(super) struct Engine {
    client: Client,
    asked_at: Mutex<Option<Instant>>,
    up: Gauge,
    checks: GaugeVec,
    messages: GaugeVec,
    oldest: GaugeVec,
    steps: GaugeVec,
    dead_letters: GaugeVec,
}

impl Engine {
    pub(super) fn new(client: Client, registry: &Registry) -> prometheus::Result<Self> {
        Ok(Self {
            client,
            asked_at: Mutex::new(None),
            up: registered(
                registry,
                Gauge::new(
                    "tasker_database_up",
                    "Whether the database answered when it was asked last.",
                )?,
            )?,
            checks: gauges(
                registry,
                "tasker_health_check_ok",
                "Whether a check of the engine's health is well.",
                &["check"],
            )?,
            messages: gauges(
                registry,
                "tasker_queue_messages",
                "Messages in a namespace's queue: visible ones can be claimed, hidden ones are under a lease or a delay.",
                &["namespace", "state"],
            )?,
            oldest: gauges(
                registry,
                "tasker_queue_oldest_message_age_seconds",
                "The age of the oldest message in a namespace's queue.",
                &["namespace"],
            )?,
            steps: gauges(
                registry,
                "tasker_steps",
                "Steps under way, by namespace and state.",
                &["namespace", "state"],
            )?,
            dead_letters: gauges(
                registry,
                "tasker_dead_letters_open",
                "Dead letters that nobody has resolved.",
                &["namespace"],
            )?,
        })
    }

    /// Brings the figures up to date, and gives what `then` makes of them before anybody changes them again.
    pub(super) async fn with_figures<T>(&self, then: impl FnOnce() -> T) -> T {
        let mut asked_at = self.asked_at.lock().await;
        if asked_at.is_none_or(|at| at.elapsed() > KEPT_FOR) {
            self.ask().await;
            *asked_at = Some(Instant::now());
        }
        then()
    }

    async fn ask(&self) {
        let deadline = tokio::time::Instant::now() + ASKS_WITHIN;
        let health = within(deadline, "health", self.client.health()).await;
        self.up.set(f64::from(u8::from(health.is_some())));
        // What isn't known is left out, not told as it was.
        self.show_health(&health.unwrap_or_default());
        let queues = within(deadline, "queue_stats", self.client.queue_stats()).await;
        let queues = queues.unwrap_or_default();
        self.show_queues(&queues);
        let letters = within(
            deadline,
            "dead_letter_stats",
            self.client.open_dead_letters(),
        )
        .await;
        self.dead_letters.reset();
        if let Some(letters) = letters {
            self.show_dead_letters(&queues, &letters);
        }
    }

    fn show_health(&self, checks: &[HealthCheck]) {
        self.checks.reset();
        for check in checks {
            self.checks
                .with_label_values(&[&check.name])
                .set(f64::from(u8::from(check.ok)));
        }
    }

    #[allow(
        clippy::cast_precision_loss,
        reason = "a count that large is told well enough"
    )]
    fn show_queues(&self, queues: &[QueueStats]) {
        self.messages.reset();
        self.oldest.reset();
        self.steps.reset();
        for queue in queues {
            let namespace = queue.namespace.as_str();
            for (state, count) in [("visible", queue.visible), ("hidden", queue.hidden)] {
                self.messages
                    .with_label_values(&[namespace, state])
                    .set(count as f64);
            }
            let age = queue.oldest_message_age_seconds.unwrap_or_default();
            self.oldest.with_label_values(&[namespace]).set(age);
            for (state, count) in [
                ("enqueued", queue.enqueued),
                ("in_progress", queue.in_progress),
                ("waiting_for_retry", queue.waiting_for_retry),
            ] {
                self.steps
                    .with_label_values(&[namespace, state])
                    .set(count as f64);
            }
        }
    }

    #[allow(
        clippy::cast_precision_loss,
        reason = "a count that large is told well enough"
    )]
    fn show_dead_letters(&self, queues: &[QueueStats], open: &[OpenDeadLetters]) {
        // A namespace with none is told too, so that an alarm sees the first one come.
        for queue in queues {
            self.dead_letters
                .with_label_values(&[&queue.namespace])
                .set(0.0);
        }
        for letters in open {
            self.dead_letters
                .with_label_values(&[&letters.namespace])
                .set(letters.dead_letters as f64);
        }
    }
}

/// An answer, if it comes in time.
async fn within<T>(
    deadline: tokio::time::Instant,
    what: &str,
    asked: impl Future<Output = Result<T, Error>>,
) -> Option<T> {
    match tokio::time::timeout_at(deadline, asked).await {
        Ok(Ok(answer)) => Some(answer),
        Ok(Err(error)) => {
            tracing::debug!(what, code = error.code(), %error, "the database gives no figures");
            None
        }
        Err(_) => {
            tracing::debug!(what, "the database gives no figures in time");
            None
        }
    }
}
